"""What works on this machine: engine, precision, meters, optional packages."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from collections.abc import Iterator

_EXTRAS = {
    "opponents": ("sklearn",),
    "export": ("onnx",),
    "ibm": ("qiskit_ibm_runtime",),
    "dwave": ("dwave",),
    "cluster": ("distributed",),
    "tune": ("optuna",),
    "meters": ("codecarbon", "zeus"),
    "bench": ("jax", "tensorcircuit"),
}


def examine() -> Iterator[tuple[str, str]]:
    """Yield findings as (what, finding); something optional that is missing is a finding, never an error."""
    import torch

    from qrl.ledger.header import available_cpus, versions
    from qrl.ledger.meters import default_meters

    found = {name: version or "not installed" for name, version in versions().items()}
    yield "hybrid-qrl", found.pop("hybrid-qrl")
    yield "python", f"{found.pop('python')} on {platform.system()} {platform.machine()}"
    yield "processors", f"{available_cpus()} usable"
    yield "libraries", ", ".join(f"{name} {version}" for name, version in found.items())
    yield from _engine()
    yield "GPU", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (not needed)"
    for meter in default_meters(1.0):
        available, reason = meter.available()
        yield f"meter {meter.name}", "available" if available else f"unavailable: {reason}"
    for extra, modules in _EXTRAS.items():
        there = all(importlib.util.find_spec(module) for module in modules)
        yield f"extra {extra}", "installed" if there else f"not installed (pip install 'hybrid-qrl[{extra}]')"
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    yield "browser", browser or "none found (only the report's own tests want one)"


def _engine() -> Iterator[tuple[str, str]]:
    """What runs circuits where a backend is not named."""
    import torch

    from circuits.engine import build, library

    try:
        engine = library.load()
        chosen = "" if engine is None else engine.instruction_sets[engine.choose()]
    except ValueError as error:
        yield "circuit engine", f"none: {error}"
        return
    if engine is None:
        yield "circuit engine", f"torch (batched state vector); the compiled engine: {library.reason()}"
        yield "instruction set", torch.backends.cpu.get_cpu_capability()
    else:
        record = build.read_record() or {}
        yield "circuit engine", f"native (compiled state vector), by {record.get('version')}"
        built, supported = ", ".join(engine.instruction_sets), ", ".join(engine.supported)
        yield "instruction set", f"{chosen} (built: {built}; this processor runs: {supported})"
    yield "precision", "float32 and float64"
