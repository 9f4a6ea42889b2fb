"""Overhead of the ledger on training loops: of Stable-Baselines3's speed, and above 3,000 steps/s.

Steps without and with the ledger alternate one by one, so that a change of the clock frequency or a busy
neighbour meets both; the work of a phase is a fixed number of additions. Bounds: 1 % at about 1 ms a step, 2
% above 3,000 steps/s. Run as `python tests/bench/bench_ledger.py`; exits 1 where a bound is exceeded.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

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
"""Additions in act, quantum, environment, learn."""


def work(count: int) -> int:
    total = 0
    for k in range(count):
        total += k
    return total


def dqn_bare(sizes: Work, ledger: Ledger) -> None:
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


def rollout_bare(sizes: Work, ledger: Ledger) -> None:
    act, _, environment, _ = sizes
    work(act)
    work(environment)


def rollout_ledger(sizes: Work, ledger: Ledger) -> None:
    act, _, environment, _ = sizes
    with ledger.phase("act"):
        work(act)
    with ledger.phase("environment"):
        work(environment)
    ledger.add(interactions=1)


Step = Callable[[Work, Ledger], None]


def excess(first: Step, second: Step, sizes: Work, pairs: int) -> tuple[float, float, float]:
    """Median time of a `first` step, median excess of `second`, and its standard error, microseconds."""
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
    low, middle_of_all, high = statistics.quantiles(differences, n=4)
    error = 1.2533 * (high - low) / 1.349 / pairs**0.5  # of a median; the spread is robust against outliers
    return statistics.median(base) / 1000, middle_of_all / 1000, error / 1000


def main() -> int:
    print(f"one boundary: {boundary_ns(20_000) / 1000:.2f} us (a phase has two)")
    start = perf_counter_ns()
    work(2_000_000)
    additions_per_us = 2e9 / (perf_counter_ns() - start)
    failed = False
    for name, bare, kept, step_us, shares, bound in (
        ("DQN's speed, 4 phases a step", dqn_bare, dqn_ledger, 950.0, (0.1, 0.1, 0.1, 0.7), 1.0),
        ("fast loop, 4 phases a step", dqn_bare, dqn_ledger, 310.0, (0.2, 0.3, 0.2, 0.3), 2.0),
        ("rollout, 2 phases a step", rollout_bare, rollout_ledger, 200.0, (0.6, 0.0, 0.4, 0.0), 2.0),
    ):
        act, quantum, environment, learn = (round(share * step_us * additions_per_us) for share in shares)
        sizes = (act, quantum, environment, learn)
        pairs = round(6e6 / step_us)
        base, cost, error = excess(bare, kept, sizes, pairs)
        _, zero, _ = excess(bare, bare, sizes, pairs)
        percent = 100 * cost / base
        failed |= percent > bound
        print(
            f"{name}: {1e6 / base:,.0f} steps/s, the ledger adds {cost:.1f} +- {error:.1f} us = {percent:.2f} %, "
            f"{'within' if percent <= bound else 'ABOVE'} the bound of {bound:.0f} % "
            f"(control, bare against bare: {zero:.1f} us)"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
