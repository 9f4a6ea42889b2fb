"""A window of the ledger: times, counts and meter readings become records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from qrl.ledger.counters import Counts
from qrl.ledger.meters import Meter, ModelMeter, attribute, system_cpu_seconds
from qrl.ledger.schema import COMPUTE_DOMAINS, UNATTRIBUTED, Energy, Quantum, Record, Unavailable

Times = Mapping[str, tuple[int, int]]
"""`{phase: (wall_ns, cpu_ns)}`, exclusive."""


@dataclass(frozen=True, slots=True)
class EnergySplit:
    """Energies of a window by phase, with "unattributed" for other processes, and what is missing."""

    by_phase: dict[str, tuple[Energy, ...]]
    unavailable: tuple[Unavailable, ...]


class MeterBank:
    """The meters of a run. Of each domain the first that gives a figure counts, so nothing is added twice."""

    def __init__(self, meters: Sequence[Meter]) -> None:
        self.meters = tuple(meters)
        self.counters = tuple(m for m in self.meters if m.kind != "model" and m.available()[0])
        self._base = {id(meter): meter.read()[1] for meter in self.counters}
        self._system_base = system_cpu_seconds() if self.counters else None

    def split(self, times: Times, phases: Iterable[str], *, advance: bool) -> EnergySplit:
        """Energies since the last call with `advance`, of every phase in `phases`."""
        readings = {id(meter): meter.read()[1] for meter in self.counters}
        system = system_cpu_seconds() if self.counters else None
        busy = None if system is None or self._system_base is None else system - self._system_base
        seconds = {p: (times.get(p, (0, 0))[0] * 1e-9, times.get(p, (0, 0))[1] * 1e-9) for p in phases}
        entries: dict[str, list[Energy]] = {phase: [] for phase in (*seconds, UNATTRIBUTED)}
        missing: list[Unavailable] = []
        for domain in dict.fromkeys((*COMPUTE_DOMAINS, *(m.domain for m in self.meters))):
            candidates = [meter for meter in self.meters if meter.domain == domain]
            if not candidates:
                missing.append(Unavailable(domain, f"no meter for {domain} is configured"))
            for meter in candidates:
                joules = readings.get(id(meter), 0.0) - self._base.get(id(meter), 0.0)
                reason = _add(entries, meter, joules, seconds, busy)
                if not reason:
                    break
                missing.append(Unavailable(domain, f"{meter.name}: {reason}"))
        if advance:
            self._base, self._system_base = readings, system
        return EnergySplit({phase: tuple(found) for phase, found in entries.items()}, tuple(missing))


def _add(
    entries: dict[str, list[Energy]],
    meter: Meter,
    joules: float,
    seconds: Mapping[str, tuple[float, float]],
    busy: float | None,
) -> str:
    """Add the meter's energies to `entries`, or say why it has none."""
    available, reason = meter.available()
    if not available:
        return reason
    if meter.kind == "model":
        for phase, (wall_s, cpu_s) in seconds.items():
            entries[phase].append(cast(ModelMeter, meter).energy(wall_s, cpu_s))
        return ""
    if joules <= 0.0:
        return "the counter did not advance in this window"
    for phase, share in attribute(joules, {p: cpu for p, (_, cpu) in seconds.items()}, busy).items():
        entries[phase].append(Energy(meter.domain, share, meter.u_rel * share, "measured", meter.source))
    return ""


def build_records(
    identity: Mapping[str, Any],
    window: tuple[int, int],
    times: Times,
    counts: Mapping[str, Counts],
    bank: MeterBank,
    circuit: Mapping[str, Any],
    return_eval: float | None,
    *,
    advance: bool,
) -> list[Record]:
    """One record for each phase with time or counts, and one for what counters saw of other processes."""
    phases = list(dict.fromkeys((*times, *counts)))
    split = bank.split(times, phases, advance=advance)
    lacking = split.unavailable
    if return_eval is not None and not math.isfinite(return_eval):
        lacking = (
            *lacking,
            Unavailable("return_eval", f"the evaluation gave {return_eval}, not a finite number"),
        )
        return_eval = None
    shared = {**identity, "window": window, "return_eval": return_eval}
    records = []
    for phase in phases:
        wall_ns, cpu_ns = times.get(phase, (0, 0))
        work = counts.get(phase) or Counts()
        records.append(
            Record(
                **shared,
                phase=phase,
                interactions=int(work.interactions),
                episodes=int(work.episodes),
                updates=int(work.updates),
                wall_s=wall_ns * 1e-9,
                cpu_s=cpu_ns * 1e-9,
                q=_quantum(work, circuit),
                energy=split.by_phase[phase],
                unavailable=lacking,
            )
        )
    rest = split.by_phase[UNATTRIBUTED]
    if any(entry.joules > 0 for entry in rest):
        seen = {entry.domain for entry in rest} | {entry.domain for entry in lacking}
        unseen = [d for d in COMPUTE_DOMAINS if d not in seen]
        why = tuple(Unavailable(d, "modelled for this process; others are not seen") for d in unseen)
        records.append(Record(**shared, phase=UNATTRIBUTED, energy=rest, unavailable=(*lacking, *why)))
    return records


def _quantum(work: Counts, circuit: Mapping[str, Any]) -> Quantum:
    ran = work.executions or work.hardware_executions or work.jobs
    return Quantum(
        sim_executions=int(work.executions),
        hw_executions=int(work.hardware_executions),
        shots=int(work.shots),
        jobs=int(work.jobs),
        grad_rule="+".join(sorted(work.rules)) or None,
        qpu_s=work.qpu_s,
        queue_s=work.queue_s,
        **(circuit if ran else {}),
    )
