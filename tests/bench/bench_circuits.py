"""Measure the circuits beside their peers, our own engine, and whole training loops, against stated goals.

Everything is measured on one pinned core with one thread, contenders in turns, each in a process of its own, after
its answers were held against a reference that shares no code with the library. Run as
``python tests/bench/bench_circuits.py``; ``QUICK=1`` takes two minutes instead of an hour or so and leaves the page
alone. Progress goes to stderr. ``bench.json`` receives everything, ``docs/benchmarks.md`` the tables, stdout the
goals; its last line is ``hybrid/twin steps: dqn X ppo Y``. It measures and never fails on a time.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import engine
import grid
import training
from contenders import fastest
from race import Effort, Race
from report import Section, goals_table, write_json, write_page
from worker import quiet_core

ROOT = Path(__file__).parents[2]
EFFORTS = {False: Effort(25, 10e-3, 4.0), True: Effort(7, 5e-3, 0.4)}


def annealing(race: Race, backend: str, quick: bool) -> Section:
    """Our path-integral sampler beside that of dwave-samplers."""
    import bench_annealing

    return bench_annealing.measure(quick)


def noise(race: Race, backend: str, quick: bool) -> Section:
    """Exact noise on the qubits in use beside the whole device."""
    import bench_noise

    return bench_noise.measure(quick)


FULL = (
    grid.measure,
    engine.overhead,
    engine.peak,
    engine.variants,
    engine.choice,
    engine.scaling,
    engine.exactness,
    annealing,
    noise,
    training.measure,
)
QUICK = (grid.measure, engine.overhead, engine.peak, engine.exactness, training.measure)
NATIVE_ONLY = (engine.peak, engine.variants, engine.choice, annealing)
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
PEERS = ("pennylane", "pennylane-lightning", "jax", "jaxlib", "tensorcircuit-ng", "qiskit")


def fingerprint(backend: str) -> dict[str, Any]:
    """The machine, the software, and how busy the machine was at the start."""
    from qrl.ledger.header import hardware, versions

    found = {**versions(), **{name: _version(name) for name in PEERS}}
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        **hardware(),
        "backend": backend,
        "instruction_set": _instruction_set(backend),
        "core": quiet_core(),
        "load_average": load,
        "versions": found,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _instruction_set(backend: str) -> str | None:
    if backend != "native":
        return None
    from circuits.engine.library import load

    library = load()
    assert library is not None
    return library.instruction_sets[library.choose()]


def machine(found: dict[str, Any]) -> str:
    """The fingerprint as a paragraph."""
    versions = ", ".join(
        f"{name} {number}" for name, number in found["versions"].items() if number is not None
    )
    load = "unknown" if found["load_average"] is None else f"{found['load_average'][0]:.2f}"
    return (
        f"Measured on {found['cpu']} ({found['logical_cpus']} logical CPUs, {found['system']}), one pinned core, one "
        f"thread, load average {load} at the start. Backend {found['backend']}, instruction set "
        f"{found['instruction_set'] or 'that of torch'}. Versions: {versions}."
    )


def main() -> None:
    os.environ.update(ONE_THREAD)  # for the processes that measure
    quick = bool(os.environ.get("QUICK"))
    backend = fastest()
    found = fingerprint(backend)
    print(machine(found), file=sys.stderr)
    parts = [part for part in (QUICK if quick else FULL) if backend == "native" or part not in NATIVE_ONLY]
    race = Race(EFFORTS[quick])
    sections: list[Section] = []
    start = perf_counter()
    try:
        for part in parts:
            sections.append(part(race, backend, quick))
            write_json(ROOT / "bench.json", found, sections)
            print(f"{sections[-1].title}: done after {perf_counter() - start:.0f} s", file=sys.stderr)
    finally:
        race.close()
    if not quick:
        write_page(ROOT / "docs" / "benchmarks.md", machine(found), sections)
    print(goals_table(sections))
    ratios = sections[-1].data["ratio"]
    print(f"hybrid/twin steps: dqn {ratios['dqn']:.2f} ppo {ratios['ppo']:.2f}")


if __name__ == "__main__":
    main()
