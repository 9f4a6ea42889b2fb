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
    instructions = torch.backends.cpu.get_cpu_capability()
    yield "circuit engine", f"torch (batched state vector), {instructions}, complex64 and complex128"
    yield "GPU", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (not needed)"
    for meter in default_meters(1.0):
        available, reason = meter.available()
        yield f"meter {meter.name}", "available" if available else f"unavailable: {reason}"
    for extra, modules in _EXTRAS.items():
        there = all(importlib.util.find_spec(module) for module in modules)
        yield f"extra {extra}", "installed" if there else f"not installed (pip install 'hybrid-qrl[{extra}]')"
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    yield "browser", browser or "none found (only the report's own tests want one)"
