"""The ledger of a run: phases, counts and meters, written as records window by window."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextvars import ContextVar, Token
from pathlib import Path
from types import TracebackType
from typing import Any

from qrl.ledger.clock import Phase, PhaseClock
from qrl.ledger.counters import Counters, UsageLike
from qrl.ledger.header import allotted_cpus, make_header
from qrl.ledger.meters import Meter, Sampler, default_meters
from qrl.ledger.pricing import summarise
from qrl.ledger.schema import PHASES, SCHEMA, TRAINING_PHASES, Record, check_identity
from qrl.ledger.store import LedgerWriter
from qrl.ledger.window import MeterBank, build_records

_CURRENT: ContextVar[Ledger | None] = ContextVar("qrl_ledger", default=None)

_CIRCUIT_FIELDS = ("n_qubits", "depth", "n1q", "n2q", "circuit_s", "rep_delay_s", "mitigation_x", "backend")


def current() -> Ledger | None:
    """The ledger whose `with` block is open in this context, or None. New threads start without one."""
    return _CURRENT.get()


class Ledger:
    """Time, work and energy of one run, by phase.

    `run_id`, `seed` and `agent` identify the run; `path` is the file of JSON lines, None keeps the records in
    memory only; `meters` in order of preference (default: RAPL, else the CPU-time model); `n_cpus` the CPUs
    that the run was allotted (default: its compute threads). The clock starts with the object. A ledger
    belongs to one thread.

    Raises `ValueError` or `TypeError` for a bad identity, and `ValueError` where the file belongs to another
    run.

    Source: own construction.

    Example:
        >>> with Ledger("demo", seed=0, agent="random") as ledger:
        ...     with ledger.phase("environment"):
        ...         ledger.add(interactions=1)
        ...     records = ledger.close_window(1)
        >>> ledger.totals()["interactions"]
        1
    """

    def __init__(
        self,
        run_id: str,
        seed: int,
        agent: str,
        path: Path | str | None = None,
        meters: Sequence[Meter] | None = None,
        n_cpus: float | None = None,
    ) -> None:
        self._clock = PhaseClock()
        self._phases = self._clock.phases
        check_identity(run_id, seed, agent)
        self._identity: dict[str, Any] = {"run_id": run_id, "seed": seed, "agent": agent}
        self._path = None if path is None else Path(path)
        self._n_cpus = float(allotted_cpus() if n_cpus is None else n_cpus)
        self._counters = Counters()
        self._bank = MeterBank(default_meters(self._n_cpus) if meters is None else meters)
        self._sampler = Sampler(self._bank.counters)
        self._circuit: dict[str, Any] = {}
        self._records: list[Record] = []
        self._earlier_s = (0.0, 0.0)
        self._window_start = 0
        self._writer: LedgerWriter | None = None
        self._token: Token[Ledger | None] | None = None
        self._closed = False

    def __enter__(self) -> Ledger:
        if self._token is not None or self._closed:
            raise ValueError(
                f"ledger: {self._identity['run_id']!r} was opened before; make a new one for each run"
            )
        self._open()
        self._sampler.start()
        self._token = _CURRENT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _CURRENT.reset(self._token)
            self._token = None
        self._sampler.stop()
        # What is left over keeps its own window, and the clock's last stamp is the end of the run.
        try:
            self._write_window(self._window_start + int(self._counters.training_interactions()), None)
        finally:
            self._closed = True
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def phase(self, name: str) -> Phase:
        """The context of a phase: `with ledger.phase("act"): ...`; raises `ValueError` for an unknown name.

        Nested phases take their time from the outer one; what is opened inside "evaluate" or "tune" stays
        with it.
        """
        return self._phases[name]

    def count(self, usage: UsageLike | Mapping[str, Any]) -> None:
        """Add a request's executions, hardware-equivalent executions, shots and jobs."""
        self._counters.count(self._clock.current.name, usage)

    def add(self, interactions: int = 0, episodes: int = 0, updates: int = 0) -> None:
        """Add environment interactions, finished episodes and gradient updates."""
        phase = self._clock.current.name
        if updates:
            self._counters.of_updates[phase].updates += updates
        if interactions or episodes:
            counts = self._counters.of_interactions[phase]
            counts.interactions += interactions
            counts.episodes += episodes

    def add_job(self, qpu_s: float = 0.0, queue_s: float = 0.0) -> None:
        """Add the billed and the waiting seconds of a job, from its metadata."""
        self._counters.add_job(self._clock.current.name, qpu_s, queue_s)

    def describe(self, **circuit: Any) -> None:
        """Say which circuit runs; written with every record of executions from the open window on.

        Any of n_qubits, depth, n1q, n2q, circuit_s, rep_delay_s, mitigation_x, backend; `ValueError` for
        another name.
        """
        unknown = circuit.keys() - set(_CIRCUIT_FIELDS)
        if unknown:
            raise ValueError(f"describe: {min(unknown)!r} is not recorded; use {', '.join(_CIRCUIT_FIELDS)}")
        self._circuit |= circuit

    def close_window(self, interactions: int, return_eval: float | None = None) -> list[Record]:
        """End the window at `interactions` of training and write one record for each phase with content.

        Interactions are those that `add` counted; where it counted none, the window's length. Raises
        `ValueError` where `interactions` is below the window's start.
        """
        if isinstance(interactions, bool) or int(interactions) != interactions:
            raise TypeError(f"interactions: {interactions!r} is not an integer; use the count so far")
        if interactions < self._window_start:
            raise ValueError(
                f"interactions: {interactions} is before the window's start {self._window_start}; go on"
            )
        if self._closed:
            raise ValueError(
                f"ledger: {self._identity['run_id']!r} is closed; close windows inside its `with` block"
            )
        self._open()
        counted = self._counters.training_interactions()
        if not counted and interactions > self._window_start:
            self._counters.of_interactions["environment"].interactions += (
                int(interactions) - self._window_start
            )
        return self._write_window(int(interactions), None if return_eval is None else float(return_eval))

    def _open(self) -> None:
        """Open the file once: load what earlier processes spent, then say who writes now."""
        if self._path is None or self._writer is not None or self._closed:
            return
        with self._clock.phase("ledger"):
            header = make_header(
                **self._identity,
                threads=int(self._n_cpus),
                meters=self._bank.meters,
                sampler_hz=self._sampler.hz,
            )
            with self._clock.phase("io"):
                writer = LedgerWriter(self._path)
                others = [r for r in writer.existing.records if r.run_id != self._identity["run_id"]]
                if others:
                    writer.close()
                    raise ValueError(
                        f"run_id: {self._path} belongs to {others[0].run_id!r}; use another path"
                    )
                writer.header(header)
            self._writer = writer
            self._load(list(writer.existing.records))

    def _load(self, records: list[Record]) -> None:
        self._records = records
        done = summarise(records)
        self._earlier_s = (done["wall_s"], done["cpu_s"])

    def _write_window(self, end: int, return_eval: float | None) -> list[Record]:
        times, counts = self._clock.take(), self._counters.take()
        with self._clock.phase("ledger"):
            window = (self._window_start, end)
            records = build_records(
                self._identity, window, times, counts, self._bank, self._circuit, return_eval, advance=True
            )
            self._append(records)
            self._window_start = end
        return records

    def _append(self, records: list[Record]) -> None:
        self._records += records
        if self._writer is not None:
            with self._clock.phase("io"):
                self._writer.records(records)

    def _pending(self) -> list[Record]:
        """Records of the open window as it stands, which stays open."""
        end = self._window_start + int(self._counters.training_interactions())
        window = (self._window_start, end)
        times, counts = ({}, {}) if self._closed else (self._clock.peek(), self._counters.peek())
        return build_records(
            self._identity, window, times, counts, self._bank, self._circuit, None, advance=False
        )

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of every closed window, those of earlier processes of the run included."""
        return tuple(self._records)

    def totals(self) -> dict[str, Any]:
        """Sums over the whole run so far, as JSON values.

        `interactions`, `episodes`, `updates`, `executions`, `hardware_executions`, `shots`, `jobs`, `wall_s`,
        `cpu_s`, `joules` (None where no energy is available), `energy` (with kind, uncertainty and measured
        share), each over all phases; `training` has the same over the training phases alone, `phases` the
        same by phase. `elapsed_s` is the clock's own wall and CPU time: `wall_s` and `cpu_s` must equal it to
        rounding.
        """
        rows = [*self._records, *self._pending()]
        wall_ns, cpu_ns = self._clock.elapsed_ns
        result = summarise(r for r in rows if r.phase in PHASES)
        result["training"] = summarise(r for r in rows if r.phase in TRAINING_PHASES)
        result["phases"] = {
            phase: summarise(r for r in rows if r.phase == phase)
            for phase in dict.fromkeys(r.phase for r in rows)
        }
        result["elapsed_s"] = {
            "wall": self._earlier_s[0] + wall_ns * 1e-9,
            "cpu": self._earlier_s[1] + cpu_ns * 1e-9,
        }
        return result

    def state(self) -> dict[str, Any]:
        """JSON values from which `set_state` continues in another process.

        The open window travels as records; closed ones too where there is no file to hold them.
        """
        pending = [record.to_dict() for record in self._pending()]
        closed = None if self._path is not None else [record.to_dict() for record in self._records]
        start = self._window_start + int(self._counters.training_interactions())
        return {
            "schema": SCHEMA,
            "window_start": start,
            "n_records": len(self._records),
            "pending": pending,
            "records": closed,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue a run: what it spent before stays in the books, and the next window starts where it stood.

        The window that was open at the checkpoint is written now, unless the file already has later records,
        which contain it; so call it before a window closes here. Raises `ValueError` for the state of another
        schema or run.
        """
        if state.get("schema") != SCHEMA:
            raise ValueError(
                f"schema: {state.get('schema')!r} is not {SCHEMA!r}; resume with the version that wrote it"
            )
        self._open()
        pending = [Record.from_dict(data) for data in state["pending"]]
        closed = [Record.from_dict(data) for data in state["records"] or ()]
        for record in (*pending, *closed):
            if record.run_id != self._identity["run_id"]:
                raise ValueError(
                    f"run_id: the state belongs to {record.run_id!r}; resume the run that wrote it"
                )
        if self._path is None:
            self._load([*closed, *self._records])
        lost = state["n_records"] - len(self._records)
        if lost > 0:
            warnings.warn(
                f"{self._path} has {lost} records fewer than its checkpoint knew; they are lost", stacklevel=2
            )
        if lost >= 0:
            self._append(pending)
            spent = summarise(pending)
            self._earlier_s = (self._earlier_s[0] + spent["wall_s"], self._earlier_s[1] + spent["cpu_s"])
        self._window_start = state["window_start"]
