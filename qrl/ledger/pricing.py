"""Pure functions from records to energies and their totals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qrl.ledger.meters import CpuTimeModel, MemoryModel, ModelMeter
from qrl.ledger.schema import COMPUTE_DOMAINS, KINDS, PHASES, TRAINING_PHASES, Energy, Record, Unavailable


@dataclass(frozen=True, slots=True)
class Profile:
    """Which rows of the power table price a run, and what the run was allotted.

    `cpu` and `memory` are row ids of `data/power_models.toml`; `n_cpus` CPUs and `memory_gb` gigabytes (1e9
    bytes) allotted to the run; without `memory_gb` memory stays unavailable.
    """

    n_cpus: float
    cpu: str = "vcpu-default"
    memory_gb: float | None = None
    memory: str = "dram-default"

    @classmethod
    def of(cls, header: dict[str, Any], **changes: Any) -> Profile:
        """The profile of a ledger file's header: CPUs and memory of its models; `changes` override."""
        constants = {meter["name"]: meter["constants"] for meter in header["meters"]}
        values = {
            "n_cpus": constants.get("cpu-time-model", {}).get("n_cpus", header["threads"]),
            "memory_gb": constants.get("memory-model", {}).get("gigabytes"),
        }
        return cls(**{**values, **changes})


def reprice(records: Iterable[Record], profile: Profile | None = None) -> list[Record]:
    """The same records with their modelled energies computed anew; measured energies stay as they were read.

    Without a profile the records are returned as they are. Deterministic: no clock, no meter is read.

    Source: own construction; formulas in `CpuTimeModel` and `MemoryModel`.
    """
    if profile is None:
        return list(records)
    models: list[ModelMeter] = [CpuTimeModel(profile.n_cpus, profile.cpu)]
    if profile.memory_gb is not None:
        models.append(MemoryModel(profile.memory_gb, profile.memory))
    priced = []
    for record in records:
        kept = [entry for entry in record.energy if entry.kind == "measured"]
        missing = list(record.unavailable)
        if record.phase in PHASES:  # "unattributed" has no time to price
            read = {entry.domain for entry in kept}
            kept += [m.energy(record.wall_s, record.cpu_s) for m in models if m.domain not in read]
        spoken = {entry.domain for entry in kept} | {entry.domain for entry in missing}
        missing += [Unavailable(d, "not part of the profile") for d in COMPUTE_DOMAINS if d not in spoken]
        priced.append(replace(record, energy=tuple(kept), unavailable=tuple(missing)))
    return priced


def price(records: Iterable[Record], profile: Profile | None = None) -> list[Energy]:
    """Every energy of the records, as logged or, with a profile, computed anew (`reprice`)."""
    return [entry for record in reprice(records, profile) for entry in record.energy]


@dataclass(frozen=True, slots=True)
class Total:
    """A sum of energies that says what it is made of.

    `joules` None where there was nothing to add: unavailable, not 0. `u_joules` is its standard uncertainty:
    entries of one source share their error and add linearly, sources add in quadrature, `u^2 = sum_source
    (sum_entries u)^2`. `kind` is that of the entries or "mixed"; `measured_share` the part of `joules` that
    was measured, in [0, 1]; `u_by_source` and `by_source` in J.
    """

    joules: float | None
    u_joules: float | None
    kind: str
    measured_share: float | None
    boundary: str | None
    by_source: dict[str, float]
    u_by_source: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


def total(energies: Iterable[Energy], kind: str | None = None) -> Total:
    """Add energies under a true label.

    With `kind` given ("measured", "modelled", "assumed" or "mixed") the entries must all be of that kind,
    except under "mixed", or `ValueError` is raised; without it the label is found. Entries of different
    boundaries are different quantities and are never added: `ValueError`.

    Source: own construction.
    """
    entries = list(energies)
    if kind is not None and kind not in (*KINDS, "mixed"):
        raise ValueError(f"kind: {kind!r} is not a label; use one of {', '.join(KINDS)}, mixed")
    kinds = {entry.kind for entry in entries}
    if kind in KINDS and kinds - {kind}:
        other = min(kinds - {kind})
        raise ValueError(
            f"kind: a sum labelled {kind!r} has {other} entries; label it 'mixed' or leave them out"
        )
    boundaries = {entry.boundary for entry in entries}
    if len(boundaries) > 1:
        raise ValueError(
            f"boundary: {' and '.join(sorted(boundaries))} energies are not the same; add them apart"
        )
    label = kind or (kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "unavailable")
    if not entries:
        return Total(None, None, label, None, None, {}, {})
    by_source: defaultdict[str, list[float]] = defaultdict(list)
    u_by_source: defaultdict[str, list[float]] = defaultdict(list)
    for entry in entries:
        by_source[entry.source].append(entry.joules)
        u_by_source[entry.source].append(entry.u_joules)
    joules = math.fsum(entry.joules for entry in entries)
    measured = math.fsum(entry.joules for entry in entries if entry.kind == "measured")
    u_sums = {source: math.fsum(values) for source, values in u_by_source.items()}
    return Total(
        joules=joules,
        u_joules=math.hypot(*u_sums.values()),
        kind=label,
        measured_share=measured / joules if joules > 0 else None,
        boundary=boundaries.pop(),
        by_source={source: math.fsum(values) for source, values in by_source.items()},
        u_by_source=u_sums,
    )


def ratio(numerator: Total, denominator: Total) -> tuple[float, float]:
    """`R = A/B` and its standard uncertainty; the error of a source that both share cancels.

    `u_R = R sqrt( sum_source (u_A,source / A - u_B,source / B)^2 )`. Raises `ValueError` where either total
    is unavailable or 0, or their boundaries differ.

    Source: first-order propagation with fully correlated errors within a source; own construction.
    """
    if not numerator.joules or not denominator.joules:
        raise ValueError("ratio: a total is unavailable or 0; a ratio needs two energies")
    if numerator.boundary != denominator.boundary:
        raise ValueError(
            f"ratio: boundaries {numerator.boundary} and {denominator.boundary} differ; use one boundary"
        )
    value = numerator.joules / denominator.joules
    sources = numerator.u_by_source.keys() | denominator.u_by_source.keys()
    parts = (
        numerator.u_by_source.get(s, 0.0) / numerator.joules
        - denominator.u_by_source.get(s, 0.0) / denominator.joules
        for s in sources
    )
    return value, value * math.hypot(*parts)


def select(
    records: Iterable[Record], *, until: int | None = None, phases: Sequence[str] = TRAINING_PHASES
) -> list[Record]:
    """Records of some phases in windows that end at or before `until` interactions: the cost so far."""
    chosen = set(phases)
    return [r for r in records if r.phase in chosen and (until is None or r.window[1] <= until)]


def summarise(records: Iterable[Record]) -> dict[str, Any]:
    """Sums of counts and seconds, and the energy `Total` with its label, as JSON values."""
    rows = list(records)
    energy = total(price(rows))
    return {
        "interactions": sum(r.interactions for r in rows),
        "episodes": sum(r.episodes for r in rows),
        "updates": sum(r.updates for r in rows),
        "executions": sum(r.q.sim_executions for r in rows),
        "hardware_executions": sum(r.q.hw_executions for r in rows),
        "shots": sum(r.q.shots for r in rows),
        "jobs": sum(r.q.jobs for r in rows),
        "wall_s": math.fsum(r.wall_s for r in rows),
        "cpu_s": math.fsum(r.cpu_s for r in rows),
        "joules": energy.joules,
        "energy": energy.to_dict(),
    }


def check_closure(parts: Iterable[float], whole: float, name: str = "sum", tolerance: float = 1e-9) -> float:
    """Relative difference of a sum of parts from the whole; `ValueError` where it exceeds `tolerance`."""
    found = math.fsum(parts)
    error = abs(found - whole) / max(abs(whole), 1e-300) if found != whole else 0.0
    if error > tolerance:
        raise ValueError(
            f"{name}: the parts sum to {found!r} and the whole is {whole!r}; a phase is lost or doubled"
        )
    return error
