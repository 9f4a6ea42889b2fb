"""Overhead of the ledger on training loops: of Stable-Baselines3's speed, and above 3,000 steps/s.

Steps without and with the ledger alternate one by one, so that a change of the clock frequency or a busy
neighbour meets both; the work of a phase is a fixed number of 64 x 64 matrix-vector products. Bounds: 1 % at
about 1 ms a step, 2 % above 3,000 steps/s. Run as `python tests/bench/bench_ledger.py`; exits 1 where a bound
is exceeded.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from qrl.ledger import Ledger
from qrl.ledger.header import boundary_ns


@dataclass
class Usage:
    """What a backend reports of one circuit request."""

    executions: int = 1
    hardware_executions: int = 2
    shots: int = 0
    jobs: int = 0
    gradient_rule: str | None = None


USAGE = Usage()

Work = tuple[int, int, int, int]
"""Products of a layer and its inputs in act, quantum, environment, learn."""


LAYER = np.random.default_rng(0).normal(size=(64, 64)) / 8
VALUES, NEXT = np.ones(64), np.empty(64)


def work(count: int) -> None:
    # Nothing is allocated: a loop over Python integers runs 2 % slower or faster with where they happen to
    # lie in memory, which any code between two loops changes, and that would be taken for the ledger's cost.
    for _ in repeat(None, count):
        np.dot(LAYER, VALUES, out=NEXT)


def bare(sizes: Work, ledger: Ledger) -> None:
    act, quantum, environment, learn = sizes
    work(act)
    work(quantum)
    work(environment)
    work(learn)


def dqn_ledger(sizes: Work, ledger: Ledger) -> None:
    act, quantum, environment, learn = sizes
    with ledger.phase("act"):
        work(act)
        with ledger.phase("quantum"):
            work(quantum)
        ledger.count(USAGE)
    with ledger.phase("environment"):
        work(environment)
    ledger.add(interactions=1)
    with ledger.phase("learn"):
        work(learn)
    ledger.add(updates=1)


def circuit_rollout_ledger(sizes: Work, ledger: Ledger) -> None:
    act, quantum, environment, learn = sizes
    with ledger.phase("act"):
        work(act)
        with ledger.phase("quantum"):
            work(quantum)
        ledger.count(USAGE)
    with ledger.phase("environment"):
        work(environment)
        work(learn)
    ledger.add(interactions=1)


def rollout_ledger(sizes: Work, ledger: Ledger) -> None:
    act, quantum, environment, learn = sizes
    with ledger.phase("act"):
        work(act)
        work(quantum)
    with ledger.phase("environment"):
        work(environment)
        work(learn)
    ledger.add(interactions=1)


Step = Callable[[Work, Ledger], None]


def excess(first: Step, second: Step, sizes: Work, pairs: int) -> tuple[float, float, float]:
    """Time of a `first` step, excess of `second`, and its standard error, microseconds.

    Means without the outer tenths: the few steps in which the ledger reads the CPU clock must count, those in
    which the machine was taken away must not.
    """
    base, differences = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger("bench", 0, "loop", Path(folder) / "l.jsonl") as ledger,
    ):
        for number in range(pairs):
            steps = (first, second) if number % 2 else (second, first)
            start = perf_counter_ns()
            steps[0](sizes, ledger)
            middle = perf_counter_ns()
            steps[1](sizes, ledger)
            end = perf_counter_ns()
            earlier, later = middle - start, end - middle
            base.append(earlier if number % 2 else later)
            differences.append(later - earlier if number % 2 else earlier - later)
    tenth = pairs // 10
    kept = sorted(differences)[tenth : pairs - tenth]
    error = statistics.stdev(kept) / len(kept) ** 0.5
    return statistics.median(base) / 1000, statistics.fmean(kept) / 1000, error / 1000


def main() -> int:
    print(f"one boundary: {boundary_ns(20_000) / 1000:.2f} us (a phase has two)")
    failed = False
    for name, kept, step_us, bound in (
        ("act, quantum, environment, learn at DQN's speed", dqn_ledger, 950.0, 1.0),
        ("act, quantum, environment", circuit_rollout_ledger, 320.0, 2.0),
        ("act, environment", rollout_ledger, 200.0, 2.0),
    ):
        pilot, _, _ = excess(bare, bare, (25, 25, 25, 25), 10_000)
        quarter = round(25 * step_us / pilot)
        sizes = (quarter, quarter, quarter, quarter)
        pairs = round(6e6 / step_us)
        base, cost, error = excess(bare, kept, sizes, pairs)
        _, control, _ = excess(bare, bare, sizes, pairs)
        percent = 100 * cost / base
        failed |= percent > bound
        verdict = "within" if percent <= bound else "ABOVE"
        print(
            f"{name}: {1e6 / base:,.0f} steps/s, +{cost:.1f} +- {error:.1f} us a step = {percent:.2f} %, "
            f"{verdict} the bound of {bound:.0f} % (bare against bare: {control:+.1f} us)"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
