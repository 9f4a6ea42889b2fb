"""Time to equal accuracy of our path-integral sampler and of dwave-samplers', side by side.

Both sample the thermal state of the same machine on one thread, in turns. Each has as many sweeps as bring its
root-mean-square error of all <z> and <zz> to the target, found in a pilot; what is then measured is time and error,
and the time to the target is time (error / target)^2. Errors are against exact values where there are any; for 16
units in a field they are against the mean of one long run of each, whose difference is stated.

The peer is given its best: chains at fixed fields with a sample after each sweep, one long chain or sixteen, whichever
does better in the pilot, and the model's conversion is not timed. Run as ``python tests/bench/bench_annealing.py``;
``QUICK=1`` takes seconds.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from report import Goal, Section, goals_table, short, table

ROOT = Path(__file__).parents[2]
BOUND = 15.0
READS = 32
PEER_READS = (1, 16)
BURN_IN = 100
SPEED = {
    "48 units, r = 5, 26 reads": (5, 26),
    "48 units, r = 16, 1 read": (16, 1),
    "48 units, r = 1, 1 read": (1, 1),
}

Moments = tuple[np.ndarray, np.ndarray]
Draw = Callable[[int, int], Moments]
"""<z> and <zz> from a number of sweeps and a seed."""


@dataclass(frozen=True)
class Machine:
    """A clamped machine and how many slices our sampler uses for it."""

    name: str
    problem: Any
    slices: int


def machines() -> list[Machine]:
    """Chimera machines with weights between -1 and 1 at the authors' field and temperature."""
    from circuits.boltzmann import Problem, build_graph

    cases = []
    for name, columns, field, slices in (
        ("8 units, field 0.5", 1, 0.5, 20),
        ("16 units, field 0.5", 2, 0.5, 20),
        ("16 units, field 0", 2, 0.0, 1),
    ):
        generator = np.random.default_rng(columns)
        graph = build_graph("chimera", rows=1, columns=columns)
        biases = generator.uniform(-1, 1, (1, graph.n_hidden))
        couplings = generator.uniform(-1, 1, len(graph.edges))
        cases.append(Machine(name, Problem(graph, biases, couplings, field, 2.0), slices))
    return cases


def ours(machine: Machine) -> Draw:
    """Our sampler; its reads share the sweeps."""
    from circuits.boltzmann.sqa import SQASampler

    def draw(sweeps: int, seed: int) -> Moments:
        sampler = SQASampler(machine.slices, READS, -(-sweeps // READS), BURN_IN)
        found = sampler.thermal(machine.problem, free_energy=False, seed=seed)
        return found.z[0], found.zz[0]

    return draw


def theirs(machine: Machine, reads: int) -> Draw:
    """The peer's: kinks at the rate beta Gamma, energies times beta, of the opposite sign."""
    import dimod
    from dwave.samplers import PathIntegralAnnealingSampler

    problem, sampler = machine.problem, PathIntegralAnnealingSampler()
    first, second = problem.graph.edges.T
    model = dimod.BinaryQuadraticModel.from_numpy_vectors(
        -problem.biases[0], (first, second, -problem.couplings), 0.0, "SPIN"
    )

    def draw(sweeps: int, seed: int) -> Moments:
        each = -(-sweeps // reads)
        total = each + BURN_IN
        answer = sampler.sample(
            model,
            beta_schedule_type="custom",
            Hp_field=np.full(total, problem.beta),
            Hd_field=np.full(total, problem.beta * problem.field),
            num_reads=reads,
            schedule_sample_interval=1,
            seed=seed + 1,
        )
        kept = np.asarray(answer.info["statistics"]).reshape(reads, total, -1)[:, BURN_IN:]
        kept = kept[:, :, np.argsort(list(answer.variables))].reshape(reads * each, -1)
        z = kept.mean(axis=0, dtype=np.float64)
        return z, (kept[:, first] * kept[:, second]).mean(axis=0, dtype=np.float64)

    return draw


def reference(machine: Machine, draws: dict[str, Draw], quick: bool) -> tuple[Moments, str]:
    """What errors are measured against, and what that is."""
    from circuits.boltzmann import get_sampler

    if machine.problem.graph.n_hidden <= 12 or machine.problem.field == 0.0:
        found = get_sampler("exact").thermal(machine.problem, free_energy=False)
        return (found.z[0], found.zz[0]), "exact"
    sweeps = {"ours": 1_000_000 if quick else 8_000_000, "theirs": 50_000 if quick else 400_000}
    long = [draws[name](sweeps[name], 10**6) for name in draws]
    apart = error(long[0], long[1])
    mean = (long[0][0] + long[1][0]) / 2, (long[0][1] + long[1][1]) / 2
    return mean, f"long runs, {short(apart)} apart"


def error(found: Moments, exact: Moments) -> float:
    """Root mean square over all <z> and <zz>."""
    off = np.concatenate([f - x for f, x in zip(found, exact, strict=True)])
    return float(np.sqrt(np.mean(off**2)))


def measure(quick: bool) -> Section:
    """Time both to the target, machine by machine, and our speed at the sizes of the actor-critic."""
    target, turns, pilots = (0.02, 5, 4) if quick else (0.01, 15, 8)
    rows, found, data = [], {}, {}
    for machine in machines():
        draws = {"ours": ours(machine), "theirs": theirs(machine, PEER_READS[0])}
        exact, kind = reference(machine, draws, quick)
        sweeps, costs = {}, {}
        for name, draw, pilot in (
            ("ours", draws["ours"], 64_000),
            *(("theirs", theirs(machine, reads), 4_000) for reads in PEER_READS),
        ):
            start = perf_counter()
            square = np.mean([error(draw(pilot, seed), exact) ** 2 for seed in range(pilots)])
            cost = (perf_counter() - start) * square
            if cost < costs.get(name, np.inf):
                costs[name], draws[name] = cost, draw
                sweeps[name] = max(round(pilot * square / target**2), 500)
        seconds: dict[str, list[float]] = {name: [] for name in draws}
        errors: dict[str, list[float]] = {name: [] for name in draws}
        for turn in range(turns):
            for name in sorted(draws, reverse=bool(turn % 2)):
                start = perf_counter()
                answer = draws[name](sweeps[name], 100 + turn)
                seconds[name].append(perf_counter() - start)
                errors[name].append(error(answer, exact))
        rms = {name: float(np.sqrt(np.mean(np.square(errors[name])))) for name in draws}
        equal = {name: median(seconds[name]) * (rms[name] / target) ** 2 for name in draws}
        found[machine.name] = equal["theirs"] / equal["ours"]
        rows.append(
            [
                machine.name,
                kind,
                *(f"{short(1e3 * equal[name])} ({short(rms[name])})" for name in ("ours", "theirs")),
                f"{short(found[machine.name])}x",
            ]
        )
        data[machine.name] = {
            "reference": kind,
            "slices": machine.slices,
            "sweeps": sweeps,
            "seconds": seconds,
            "errors": errors,
            "seconds_to_target": equal,
        }
    speeds = {name: speed(*size, quick=quick) for name, size in SPEED.items()}
    head = ["machine", "errors against", "ours, ms (rms)", "dwave-samplers, ms (rms)", "ratio"]
    lines = [[name, f"{short(1e3 * s)} ms", f"{short(rate / 1e6)}"] for name, (s, rate) in speeds.items()]
    biases = {str(layers): gate_bias(layers) for layers in ((1,) if quick else (1, 2, 3))}
    off = [[name, *(short(b[part]) for part in ("free_energy", "z", "zz"))] for name, b in biases.items()]
    text = "\n\n".join(
        [
            f"Time to a root-mean-square error of {target:g} in all <z> and <zz>, one thread, beta = 2:",
            table(head, rows),
            "One call for 96 states, 100 sweeps, as an update of the actor-critic asks:",
            table(["size", "time", "million spin updates a second"], lines),
            "Bias of the gate sampler against exact values, four units in a field of 0.5, beta = 2:",
            table(["layers", "of F", "of <z>, at most", "of <zz>, at most"], off),
        ]
    )
    goal = Goal("path-integral sampling: dwave-samplers over ours at equal accuracy", ">=", BOUND, "x", found)
    data["speed"] = {name: {"seconds": s, "updates_a_second": rate} for name, (s, rate) in speeds.items()}
    data["gate_bias"] = biases
    return Section("Annealing", text, data, [goal])


def speed(slices: int, reads: int, *, quick: bool) -> tuple[float, float]:
    """Seconds of a call for 96 states of 48 units, and spin updates a second."""
    from circuits.boltzmann import Problem, build_graph
    from circuits.boltzmann.sqa import SQASampler

    generator = np.random.default_rng(0)
    graph = build_graph("chimera", rows=2, columns=3)
    biases = generator.uniform(-1, 1, (96, graph.n_hidden))
    problem = Problem(graph, biases, generator.uniform(-1, 1, len(graph.edges)), 0.5, 2.0)
    sampler = SQASampler(slices, reads, 1, 99)
    times = []
    for seed in range(3 if quick else 11):
        start = perf_counter()
        sampler.thermal(problem, free_energy=False, seed=seed)
        times.append(perf_counter() - start)
    return median(times), 96 * reads * graph.n_hidden * slices * 100 / median(times)


def gate_bias(layers: int) -> dict[str, float]:
    """Largest deviations of the variational circuit on the machine of the golden values."""
    from circuits.boltzmann import Problem, build_graph
    from circuits.boltzmann.gate import GateSampler

    graph = build_graph("custom", n=4, edges=[(0, 2), (0, 3), (1, 2), (1, 3)])
    biases, couplings = np.array([[0.3, -0.2, -0.3, -0.8]]), np.array([0.5, -0.7, 0.2, 0.9])
    return GateSampler(layers).bias(Problem(graph, biases, couplings, 0.5, 2.0))


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        from worker import quiet_core

        os.sched_setaffinity(0, {quiet_core()})
    section = measure(bool(os.environ.get("QUICK")))
    print(section.text)
    print(goals_table([section]))
    # Beside what the circuits' benchmark wrote, where it is there.
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "bench.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    goals = [{**vars(goal), "verdict": goal.verdict} for goal in section.goals]
    kept = [goal for goal in record.get("goals", []) if goal["what"] not in {new["what"] for new in goals}]
    path.write_text(
        json.dumps({**record, "goals": kept + goals, section.title: section.data}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
