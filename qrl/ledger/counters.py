"""Counters of work: circuit executions, shots, jobs; interactions, episodes, updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from qrl.ledger.schema import PHASES

_APART = ("evaluate", "tune", "io", "ledger")


class UsageLike(Protocol):
    """What a backend reports of one request; counted as it is, whatever its class."""

    executions: int
    hardware_executions: int
    shots: int
    jobs: int


@dataclass(slots=True)
class _Usage:
    """A usage record made from a mapping; `seconds` and `job_ids` are known and not counted here."""

    executions: int = 0
    hardware_executions: int = 0
    shots: int = 0
    jobs: int = 0
    seconds: float = 0.0
    job_ids: Sequence[str] = ()
    gradient_rule: str | None = None
    qpu_seconds: float = 0.0
    queue_seconds: float = 0.0

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> _Usage:
        unknown = set(usage) - set(cls.__slots__)
        if unknown:
            raise ValueError(f"usage: {min(unknown)!r} is not counted; use {', '.join(cls.__slots__)}")
        return cls(**usage)


@dataclass(slots=True)
class Counts:
    """Work of one phase in the open window; `qpu_s` and `queue_s` in seconds, None until reported."""

    interactions: int = 0
    episodes: int = 0
    updates: int = 0
    executions: int = 0
    hardware_executions: int = 0
    shots: int = 0
    jobs: int = 0
    qpu_s: float | None = None
    queue_s: float | None = None
    rules: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return self != Counts()


def _home(phase: str, usual: str, *also: str) -> str:
    """The phase that a count belongs to when `phase` is open."""
    return phase if phase in _APART or phase in also else usual


class Counters:
    """Counts by phase, each count in exactly one phase so that records add up.

    Executions belong to "quantum" (to "qpu" or "queue" while one of them is open), interactions and episodes
    to "environment", updates to "learn", whichever of these phases is open; what happens during "evaluate",
    "tune", "io" or "ledger" is counted there. `of_interactions` and `of_updates` are the counts that the
    learner's numbers go to, by the phase that is open.

    Source: own construction.
    """

    __slots__ = ("_phases", "_usage", "of_interactions", "of_updates")

    def __init__(self) -> None:
        self._phases = {name: Counts() for name in PHASES}
        self._usage = {name: self._phases[_home(name, "quantum", "qpu", "queue")] for name in PHASES}
        self.of_interactions = {name: self._phases[_home(name, "environment")] for name in PHASES}
        self.of_updates = {name: self._phases[_home(name, "learn")] for name in PHASES}

    def count(self, phase: str, usage: UsageLike | Mapping[str, Any]) -> None:
        """Add a usage record: an object with the attributes of `UsageLike`, or a mapping."""
        counts = self._usage[phase]
        try:
            counts.executions += usage.executions  # type: ignore[union-attr]
            counts.hardware_executions += usage.hardware_executions  # type: ignore[union-attr]
            counts.shots += usage.shots  # type: ignore[union-attr]
            counts.jobs += usage.jobs  # type: ignore[union-attr]
        except AttributeError as error:
            if not isinstance(usage, Mapping):
                raise TypeError(
                    f"usage: {error}; give executions, hardware_executions, shots and jobs"
                ) from None
            self.count(phase, _Usage.of(usage))
            return
        qpu_s, queue_s = getattr(usage, "qpu_seconds", 0.0), getattr(usage, "queue_seconds", 0.0)
        if qpu_s or queue_s:  # jobs of a stand-in for a processor have none, which is not zero seconds
            counts.qpu_s = (counts.qpu_s or 0.0) + qpu_s
            counts.queue_s = (counts.queue_s or 0.0) + queue_s
        rule = getattr(usage, "gradient_rule", None)
        if rule is not None:
            counts.rules.add(rule)

    def add_job(self, phase: str, qpu_s: float, queue_s: float) -> None:
        """Add a job's billed and waiting seconds."""
        counts = self._usage[phase]
        counts.qpu_s = (counts.qpu_s or 0.0) + qpu_s
        counts.queue_s = (counts.queue_s or 0.0) + queue_s

    def training_interactions(self) -> int:
        """Interactions of training since the last window closed."""
        return self._phases["environment"].interactions

    def peek(self) -> dict[str, Counts]:
        """`{phase: counts}` since the last `take`, phases without counts left out."""
        return {name: counts for name, counts in self._phases.items() if counts}

    def take(self) -> dict[str, Counts]:
        """As `peek`, and start again from zero."""
        counts = self.peek()
        self.__init__()  # type: ignore[misc]
        return counts
