"""Contenders timed in turns on one cell, each answer checked first."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from contenders import Contender
from problem import Cell, Floats, Kind, Problem
from worker import Limit, Timer, Worker

CHECKED_AMPLITUDES = 2**18
"""Cells up to this many amplitudes of all samples are checked against the reference; it is plain and slow."""
TOLERANCE = {True: 1e-6, False: 1e-4}
"""Largest error in double and in single, relative to the largest component, at least 1. Plain sums in single over 2^18
probabilities, which the torch twin takes, are off by 5e-5.

Lightning returns float32 from a QNode with torch's interface; the library's own accuracy has goals of its own.
"""


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, seconds of a block, and seconds a contender gets on a cell before it pauses."""

    rounds: int
    block_s: float
    budget_s: float


@dataclass
class Timing:
    """What was measured of one contender on one cell.

    Attributes:
        first_s: seconds of the first call, compilation included.
        blocks: seconds of a call, one value a round.
        failure: why there is no time, None where there is one.
    """

    first_s: float = 0.0
    blocks: list[float] = field(default_factory=list)
    failure: str | None = None

    @property
    def median(self) -> float:
        """Seconds of a call."""
        return float(np.median(self.blocks))

    @property
    def spread(self) -> tuple[float, float]:
        """The 10th and 90th percentile, seconds of a call."""
        low, high = np.percentile(self.blocks, (10, 90))
        return float(low), float(high)

    def over(self, other: Timing) -> float:
        """The ratio of medians, each over all its rounds.

        The first rounds of a cell follow the compilation and the checks of others and are slow for everybody; of a slow
        peer there may be no others, which is no reason to judge ours by them too.
        """
        return self.median / other.median

    def record(self) -> dict[str, Any]:
        """JSON values: milliseconds, or the reason."""
        if self.failure is not None:
            return {"failure": self.failure}
        low, high = (1e3 * value for value in self.spread)
        times = {"ms": 1e3 * self.median, "p10": low, "p90": high}
        return {**times, "rounds": len(self.blocks), "first_s": self.first_s}


Timings = dict[str, Timing]


class Race:
    """Times contenders in turns; their processes are kept from one cell to the next.

    Args:
        effort: how long to measure.
    """

    def __init__(self, effort: Effort) -> None:
        self._effort = effort
        self._workers: dict[str, Worker] = {}
        self._failed: dict[tuple[str, Kind, int, int], str] = {}

    def run(self, cell: Cell, kind: Kind, contenders: Iterable[Contender]) -> Timings:
        """Return a timing for each contender; cells of one circuit come with growing batch, act before learn.

        Raises:
            AssertionError: a contender gives another answer than the reference.
        """
        contenders = list(contenders)
        timings = {contender.name: self._start(contender, cell, kind) for contender in contenders}
        running = [name for name, timing in timings.items() if timing.failure is None]
        for index in range(self._effort.rounds):
            for name in running:
                timing = timings[name]
                spent = sum(timing.blocks)  # compilation is apart
                if timing.failure is None and (index < 2 or spent < self._effort.budget_s):
                    try:
                        timing.blocks.append(self._workers[name].call("block"))
                    except Limit as limit:
                        timing.failure = str(limit)
        _say(
            f"{cell!s:>10} {kind:>5}  " + "  ".join(_brief(name, timing) for name, timing in timings.items())
        )
        return timings

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def _start(self, contender: Contender, cell: Cell, kind: Kind) -> Timing:
        key = (contender.name, kind, cell.qubits, cell.layers)
        known = self._failed.get(key) or self._failed.get((contender.name, "act", *key[2:]))
        if known is not None:
            return Timing(failure=known)
        try:
            worker = self._worker(contender)
            first_s = worker.call("first", cell, kind)
            worker.call("second", self._effort.block_s)
            if cell.amplitudes <= CHECKED_AMPLITUDES:
                check(contender, cell, kind, worker.call("answers"))
        except Limit as limit:
            self._failed[key] = str(limit)
            return Timing(failure=str(limit))
        return Timing(first_s)

    def _worker(self, contender: Contender) -> Worker:
        worker = self._workers.get(contender.name)
        if worker is None or not worker.alive:
            worker = self._workers[contender.name] = Worker(Timer, contender)
        return worker


@lru_cache(maxsize=2)
def _problem(cell: Cell) -> Problem:
    return Problem(cell)


def check(contender: Contender, cell: Cell, kind: Kind, answers: list[Floats]) -> None:
    """Hold a contender's answers against the reference; an empty function has none.

    Raises:
        AssertionError: they differ.
    """
    if contender.family == "empty":
        return
    for given, wanted in zip(answers, _problem(cell).answers(kind), strict=True):
        summed = given.reshape(-1, *wanted.shape).sum(0)  # gradients of each sample's own parameters
        error = np.abs(summed - wanted).max() / max(1.0, np.abs(wanted).max())
        if not error <= TOLERANCE[contender.double]:
            raise AssertionError(
                f"{contender.name} at {cell} {kind}: error {error:.1e} against the reference"
            )


def _brief(name: str, timing: Timing) -> str:
    return f"{name} {timing.failure or f'{1e3 * timing.median:.3g} ms'}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
