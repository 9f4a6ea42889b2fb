"""The phase clock: what a process spent its wall and CPU time on, nothing lost and nothing twice."""

from __future__ import annotations

import difflib
from time import perf_counter_ns, process_time_ns
from types import TracebackType
from typing import NoReturn

from qrl.ledger.schema import PHASES

# Reading the process's CPU clock is a system call of about 1 us, ten times the wall clock's cost, and sharing
# it out costs two more. So it is read at most once in this many nanoseconds of wall time.
_POOL_NS = 2_000_000

# An open phase of higher rank keeps what is opened inside it: a circuit that runs during an evaluation
# belongs to the evaluation and not to training. Phases of equal rank nest freely.
_RANKS = {"evaluate": 1, "tune": 2, "ledger": 3, "io": 4}


class Phase:
    """One phase of a `PhaseClock`: a reusable, re-entrant context object that also holds the phase's time.

    `wall_ns` and `cpu_ns` are exclusive nanoseconds since the clock's last `take`, up to its last `stamp`.

    Source: own construction.
    """

    __slots__ = ("_clock", "_pooled_ns", "_rank", "cpu_ns", "name", "wall_ns")

    def __init__(self, clock: PhaseClock, name: str) -> None:
        self._clock = clock
        self._rank = _RANKS.get(name, 0)
        self._pooled_ns = 0
        self.name = name
        self.wall_ns = 0
        self.cpu_ns = 0

    # The two methods repeat the stamp, and count their operations: inside a training step each runs cold, and
    # a boundary costs about 15 ns for every Python operation.
    def __enter__(self) -> None:
        clock = self._clock
        current = clock.current
        clock._push(current)
        if self._rank >= current._rank:
            now = perf_counter_ns()
            current._pooled_ns += now - clock._wall
            clock._wall = now
            clock.current = self
            if now > clock._due:
                clock._share(current)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clock = self._clock
        current = clock.current
        now = perf_counter_ns()
        current._pooled_ns += now - clock._wall
        clock._wall = now
        clock.current = clock._pop()
        if now > clock._due:
            clock._share(current)


class _Phases(dict[str, Phase]):
    """Phases by name; another name is an error that says which one was meant."""

    def __missing__(self, name: object) -> NoReturn:
        near = difflib.get_close_matches(str(name), PHASES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(PHASES)}"
        raise ValueError(f"phase: {name!r} is not a phase of the ledger; {hint}")


class PhaseClock:
    """Exclusive wall and CPU time by phase, in integer nanoseconds.

    One time stamp closes a phase and opens the next, so the phases' times sum to the elapsed time exactly:
    `sum_p wall_p = t_last - t_start`, and the same for the CPU time of the whole process (all its threads).
    Time inside a nested phase belongs to the nested phase alone; outside every phase it belongs to "idle".
    Phases opened inside "evaluate", "tune", "ledger" or "io" stay with that phase. The clock belongs to the
    thread that uses it.

    Wall time is read at every boundary, CPU time at most every two milliseconds: between two readings the
    phases are pooled and share the CPU time by wall time. Where the phase that ends a pool has itself two
    milliseconds or more, the others get at most one thread's worth, `min(c, w_others)`, and this phase the
    rest.

    `phases` are the context objects by name (`ValueError` for another name); `current` the open one;
    `elapsed_ns` (wall, CPU) from the start to the last `stamp`: what the phases must sum to.

    Source: own construction.
    """

    __slots__ = (
        "_cpu",
        "_due",
        "_order",
        "_pop",
        "_push",
        "_shared",
        "_start_cpu",
        "_start_wall",
        "_wall",
        "current",
        "elapsed_ns",
        "phases",
    )

    def __init__(self) -> None:
        self.phases = _Phases()
        for name in PHASES:
            self.phases[name] = Phase(self, name)
        # "idle" is in every pool, and first here, so that sharing out a pool need not go through every phase
        self._order = tuple(sorted(self.phases.values(), key=lambda phase: phase.name != "idle"))
        outer: list[Phase] = []
        self._push, self._pop = outer.append, outer.pop
        self.current = self.phases["idle"]
        self.elapsed_ns = (0, 0)
        self._cpu = self._start_cpu = process_time_ns()
        self._wall = self._shared = self._start_wall = perf_counter_ns()
        self._due = self._wall + _POOL_NS

    def phase(self, name: str) -> Phase:
        """The context object of a phase: `with clock.phase("act"): ...`; `ValueError` for another name."""
        return self.phases[name]

    def _share(self, closing: Phase) -> None:
        """Read the CPU clock and give what was used since the last reading to the phases of that time.

        `closing` is the phase that the last of them belongs to.
        """
        cpu = process_time_ns()
        used = cpu - self._cpu
        self._cpu = cpu
        pool = self._wall - self._shared
        self._shared = self._wall
        self._due = self._wall + _POOL_NS
        share = used
        own = closing._pooled_ns
        if own >= _POOL_NS:
            closing.wall_ns += own
            closing._pooled_ns = 0
            pool -= own
            share = min(used, pool)
        left = pool
        for phase in self._order:
            if not left:
                break
            pooled = phase._pooled_ns
            if pooled:
                part = share * pooled // pool
                phase.cpu_ns += part
                phase.wall_ns += pooled
                phase._pooled_ns = 0
                used -= part
                left -= pooled
        closing.cpu_ns += used

    def stamp(self) -> None:
        """Credit the time up to now to the phases that it belongs to."""
        now = perf_counter_ns()
        self.current._pooled_ns += now - self._wall
        self._wall = now
        self._share(self.current)
        self.elapsed_ns = (self._wall - self._start_wall, self._cpu - self._start_cpu)

    def peek(self) -> dict[str, tuple[int, int]]:
        """Stamp, and return `{phase: (wall_ns, cpu_ns)}` since the last `take`, without empty phases."""
        self.stamp()
        return {p.name: (p.wall_ns, p.cpu_ns) for p in self.phases.values() if p.wall_ns or p.cpu_ns}

    def take(self) -> dict[str, tuple[int, int]]:
        """As `peek`, and start the phases again from zero: the window's times."""
        times = self.peek()
        for phase in self.phases.values():
            phase.wall_ns = phase.cpu_ns = 0
        return times
