"""The compiled engine for long, and under the address and undefined-behaviour sanitizers. Long: `make slow`."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

import qrl
from circuits import reuploading
from circuits.backends.native import NativeBackend
from circuits.engine import build

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("samples", [1, 16])
def test_memory_is_flat_over_100_000_learning_steps(samples):
    layer = qrl.QuantumLayer(reuploading(4, 5), ["ZZII", "IIZZ"], backend=NativeBackend())
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    x, process, sizes = torch.rand(samples, 4), psutil.Process(), []
    for step in range(100_000):
        optimizer.zero_grad()
        layer(x).sum().backward()
        optimizer.step()
        if step % 10_000 == 9_999:
            gc.collect()
            sizes.append(process.memory_info().rss)
    # 4 bytes a step that stay would be 360 kB behind the first 10,000.
    assert sizes[-1] - sizes[0] < 256 * 2**10, sizes


@pytest.mark.slow
def test_the_engines_tests_pass_under_the_sanitizers():
    """Built with g++, whose runtime has to be there before Python; what Python never frees is not looked for."""
    compiler = {**os.environ, "CXX": "g++"}
    done = subprocess.run(
        [sys.executable, "circuits/engine/build.py", "--sanitize"],
        cwd=ROOT,
        env=compiler,
        check=False,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    if done.returncode:
        pytest.skip(done.stderr.strip())
    assert build.library_path(sanitize=True).exists()
    runtime = [
        subprocess.run(
            ["g++", f"-print-file-name={name}"], check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    settings = {
        "LD_PRELOAD": " ".join(runtime),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "QRL_ENGINE": "sanitized",
        "QRL_REQUIRE_ENGINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    names = ("native", "program", "kernel_shots")
    files = [
        *(f"tests/circuits/engine/test_{name}.py" for name in names),
        "tests/circuits/boltzmann/test_sqa.py",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        env={**os.environ, **settings},
        check=False,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
