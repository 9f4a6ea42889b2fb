"""What works on this machine: engine, precision, meters, optional packages."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

_EXTRAS = {
    "opponents": ("sklearn",),
    "export": ("onnx",),
    "ibm": ("qiskit_ibm_runtime",),
    "dwave": ("dwave",),
    "cluster": ("distributed",),
    "tune": ("optuna",),
    "meters": ("codecarbon", "zeus"),
}


def examine() -> Iterator[tuple[str, str]]:
    """Yield findings as (what, finding); something optional that is missing is a finding, never an error."""
    import torch

    from qrl.ledger.meters import default_meters
    from qrl.study.executors import default_workers

    yield "hybrid-qrl", _version("hybrid-qrl")
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "processors", f"{default_workers()} usable"
    yield (
        "libraries",
        ", ".join(
            f"{name} {_version(name)}"
            for name in ("torch", "stable-baselines3", "gymnasium", "pennylane", "qiskit")
        ),
    )
    yield (
        "circuit engine",
        f"torch (batched state vector), {torch.backends.cpu.get_cpu_capability()}, complex64 and complex128",
    )
    yield "GPU", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (not needed)"
    for meter in default_meters(1.0):
        available, reason = meter.available()
        yield (
            f"meter {meter.name}",
            f"{'available' if available else 'unavailable'}: {reason}".removesuffix(": "),
        )
    for extra, modules in _EXTRAS.items():
        found = all(importlib.util.find_spec(module) for module in modules)
        yield f"extra {extra}", "installed" if found else f"not installed (pip install 'hybrid-qrl[{extra}]')"
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    yield (
        "browser",
        f"{browser} (for the report's own tests only)"
        if browser
        else "none found (reports open in any browser)",
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
