"""The header of a ledger file: what machine, what software, what meters."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

from qrl.ledger.clock import PhaseClock
from qrl.ledger.meters import Meter

_DISTRIBUTIONS = (
    "hybrid-qrl",
    "torch",
    "numpy",
    "gymnasium",
    "stable-baselines3",
    "sb3-contrib",
    "pennylane",
    "qiskit",
    "qiskit-aer",
)


def available_cpus() -> int:
    """Logical CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def allotted_cpus() -> int:
    """CPUs that a run was given: its compute threads, at most the CPUs it may use.

    Torch's thread count where torch is loaded, else `OMP_NUM_THREADS`, else every CPU the process may use. So
    runs that share a machine one thread each do not all claim the idle power of the whole machine.
    """
    torch = sys.modules.get("torch")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if torch is not None and hasattr(torch, "get_num_threads"):
        wanted = int(torch.get_num_threads())
    elif threads.isdecimal() and int(threads) > 0:
        wanted = int(threads)
    else:
        wanted = available_cpus()
    return min(wanted, available_cpus())


def hardware() -> dict[str, Any]:
    """Fingerprint of the machine; None for what the system does not say. No host name."""
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "logical_cpus": os.cpu_count(),
        "available_cpus": available_cpus(),
        "memory_bytes": _memory_bytes(),
    }


def _cpu_model() -> str | None:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def versions() -> dict[str, str | None]:
    """Versions of Python and of the libraries that results depend on, None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def boundary_ns(repeats: int = 200) -> float:
    """Cost of one phase boundary on this machine, in nanoseconds: the ledger's own overhead.

    The bookkeeping and the wall clock of empty phases, plus one reading of the CPU clock, which empty phases
    skip.
    """
    phase = PhaseClock().phase("act")
    start = perf_counter_ns()
    for _ in range(repeats):
        with phase:
            pass
    middle = perf_counter_ns()
    for _ in range(repeats):
        process_time_ns()
    return ((middle - start) / 2 + perf_counter_ns() - middle) / repeats


def make_header(
    run_id: str, seed: int, agent: str, threads: int, meters: Iterable[Meter], sampler_hz: float | None
) -> dict[str, Any]:
    """The header as JSON values. `idle_baseline` is None: no quiet sample has been taken."""
    described = []
    for meter in meters:
        available, reason = meter.available()
        described.append(
            {
                "name": meter.name,
                "domain": meter.domain,
                "kind": meter.kind,
                "source": meter.source,
                "available": available,
                "reason": reason or None,
                "constants": meter.describe(),
            }
        )
    return {
        "run_id": run_id,
        "seed": seed,
        "agent": agent,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": versions(),
        "threads": threads,
        "meters": described,
        "sampler_hz": sampler_hz,
        "boundary_ns": round(boundary_ns(), 1),
        "idle_baseline": None,
    }
