"""What a run had spent when: its ledger, read at each evaluation and at the end.

A ledger has some hundred lines a run, and a study a thousand runs. A run that ends leaves what a comparison asks of its
ledger in ``costs.json``; it is derived, fits its ledger by size, and is computed anew where it does not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qrl.ledger import Energy, Record, Total, price, read_ledger, select, total
from qrl.ledger.schema import COMPUTE_DOMAINS
from qrl.study.statistics import Array

if TYPE_CHECKING:
    from circuits.boltzmann.timing import ModelledTime

Axis = Literal["interactions", "seconds", "joules", "executions", "hardware_executions"]
AXES: tuple[Axis, ...] = ("interactions", "seconds", "joules", "executions", "hardware_executions")

ASSUMED_READS = 100
"""Reads of a call on an annealer where the sampler of an agent names none."""


@dataclass(frozen=True, slots=True)
class RunCosts:
    """Cumulative training cost of one run, failed and superseded work included, evaluation excluded.

    `at[axis]` `(n_evaluations,)` is the cost at each surviving evaluation and `total[axis]` that of the
    whole run; an axis of which the ledger says nothing is absent: unavailable is no zero. Seconds are wall
    seconds. `phases` holds wall seconds by phase, of all phases; `energy` one entry for each kind, source, domain and
    boundary of the training phases, and `unavailable` the domains that could not be measured, with the reason.
    """

    interactions: Array
    at: Mapping[str, Array]
    total: Mapping[str, float]
    phases: Mapping[str, float]
    energy: tuple[Energy, ...]
    unavailable: tuple[tuple[str, str], ...]

    def until(self, interactions: float) -> dict[str, float]:
        """Cost of everything recorded up to an evaluation at this interaction count."""
        index = int(np.searchsorted(self.interactions, interactions))
        return {axis: float(values[index]) for axis, values in self.at.items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "at": {axis: values.tolist() for axis, values in self.at.items()},
            "total": dict(self.total),
            "phases": dict(self.phases),
            "energy": [entry.to_dict() for entry in self.energy],
            "unavailable": [list(gap) for gap in self.unavailable],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunCosts:
        """The inverse of `to_dict`; `KeyError`, `TypeError` or `ValueError` for anything else."""
        at = {axis: np.array(values, dtype=np.float64) for axis, values in data["at"].items()}
        energy = tuple(Energy.from_dict(entry) for entry in data["energy"])
        gaps = tuple((str(domain), str(reason)) for domain, reason in data["unavailable"])
        return cls(at["interactions"], at, dict(data["total"]), dict(data["phases"]), energy, gaps)


@dataclass(frozen=True, slots=True)
class EnergyShare:
    """Energy of one kind, source, domain and boundary over the training phases of several runs.

    `joules` and `u_joules` (standard uncertainty) in J. The uncertainty is systematic: errors of one source
    add up, they do not average out over runs.
    """

    kind: str
    source: str
    domain: str
    boundary: str
    joules: float
    u_joules: float


def read_costs(
    directory: Path, evaluations: Sequence[Mapping[str, Any]], done: Mapping[str, Any] | None
) -> RunCosts:
    """What a run spent: of one that ended as `costs.json` has it, else from its ledger.

    Superseded records count: what a crash undid was spent all the same. The cost of an evaluation at interaction i is
    the sum of the training records whose window ends at or before i.

    Args:
        directory: the run's folder.
        evaluations: its surviving evaluations.
        done: what `DONE.json` says, None before there is one.
    """
    ledger = directory / "ledger.jsonl"
    looks = [evaluation["interactions"] for evaluation in evaluations]
    kept = None if done is None else _kept(directory, looks)
    if kept is not None:
        return kept
    records = read_ledger(ledger).records if ledger.exists() else ()
    # the ledger's own total would count superseded steps again
    last = looks[-1] if looks else ((done or {}).get("totals") or {}).get("interactions") or 0
    return costs_of(records, looks, float(last))


def costs_text(directory: Path, costs: RunCosts) -> str:
    """What `costs.json` of a run holds."""
    data = {"ledger_bytes": _size(directory), **costs.to_dict()}
    return json.dumps(data, allow_nan=False, separators=(",", ":")) + "\n"


def _size(directory: Path) -> int | None:
    ledger = directory / "ledger.jsonl"
    return ledger.stat().st_size if ledger.exists() else None


def _kept(directory: Path, looks: Sequence[int]) -> RunCosts | None:
    """What `costs.json` says, if it belongs to these evaluations, and to the ledger where that is there too."""
    try:
        data = json.loads((directory / "costs.json").read_bytes())
        costs = RunCosts.from_dict(data)
    except (OSError, KeyError, TypeError, ValueError):
        return None
    size = _size(directory)
    fits = costs.interactions.tolist() == looks and (size is None or data.get("ledger_bytes") == size)
    return costs if fits else None


def costs_of(records: Sequence[Record], looks: Sequence[float], interactions: float) -> RunCosts:
    """What records of a ledger say of a run with evaluations at these looks, which ended at these interactions."""
    training = select(records)
    ordered = sorted(training, key=lambda record: record.window[1])
    phases: dict[str, float] = {}
    for record in records:
        phases[record.phase] = phases.get(record.phase, 0.0) + record.wall_s
    seen = np.array(looks, dtype=np.float64)
    at: dict[str, Array] = {"interactions": seen}
    spent = {"interactions": interactions}
    last = np.searchsorted(np.array([record.window[1] for record in ordered]), seen, side="right")
    for axis, values in _columns(ordered).items():
        running = np.concatenate([[0.0], np.cumsum(values)])
        at[axis], spent[axis] = running[last], float(running[-1])
    gaps = {(gap.domain, gap.reason) for record in records for gap in record.unavailable}
    measurable = tuple(sorted(gap for gap in gaps if gap[0] in COMPUTE_DOMAINS))
    return RunCosts(seen, at, spent, phases, _added(price(training)), measurable)


def _added(entries: Iterable[Energy]) -> tuple[Energy, ...]:
    """One entry for each kind, source, domain and boundary; errors of one source add up."""
    sums: dict[tuple[str, str, str, str], list[Energy]] = {}
    for entry in entries:
        sums.setdefault((entry.kind, entry.source, entry.domain, entry.boundary), []).append(entry)
    return tuple(
        Energy(
            domain=domain,
            joules=math.fsum(entry.joules for entry in group),
            u_joules=math.fsum(entry.u_joules for entry in group),
            kind=kind,
            source=source,
            boundary=boundary,
        )
        for (kind, source, domain, boundary), group in sorted(sums.items())
    )


def annealer_time(spec: Mapping[str, Any], calls: float) -> ModelledTime | None:
    """What calls of an agent's sampler would take on a quantum annealer: modelled, and access time alone.

    Reads of a call are those of the sampler's options, else `ASSUMED_READS`; a hidden unit is one qubit. None where
    the calls are not an annealer's: an agent without a machine, one that counts circuits among them, and machines
    that this version cannot build.
    """
    from circuits.boltzmann import build_graph
    from circuits.boltzmann.timing import qpu_time

    networks = {(part := spec.get(name) or {}).get("kind"): part for name in ("network", "critic")}
    machine = networks.get("boltzmann")
    if machine is None or "quantum" in networks or machine.get("sampler") == "gate":
        return None
    options = machine.get("sampler_options") or {}
    try:
        graph = build_graph(**machine["graph"])
        # of the samplers "dwave" alone reads several times for one configuration
        stacked = int(options.get("slices", 1)) if machine.get("sampler") == "dwave" else 1
        reads = int(options.get("reads", ASSUMED_READS)) * stacked
        return qpu_time(round(calls), reads, qubits=graph.n_hidden)
    except (KeyError, ValueError, TypeError):
        return None


def energy_shares(costs: Iterable[RunCosts]) -> list[EnergyShare]:
    """Energy of the training phases by kind, source, domain and boundary, never merged across them."""
    return [
        EnergyShare(e.kind, e.source, e.domain, e.boundary, e.joules, e.u_joules)
        for e in _added(entry for spent in costs for entry in spent.energy)
    ]


def energy_total(costs: Iterable[RunCosts]) -> Total:
    """Energy of the training phases of several runs as one labelled sum."""
    return total(entry for spent in costs for entry in spent.energy)


def unavailable_energy(costs: Iterable[RunCosts]) -> list[tuple[str, str]]:
    """Energy domains that could not be measured, with the reason, without repetition."""
    return sorted({gap for spent in costs for gap in spent.unavailable})


def joules_label(energy: Total) -> str:
    """The label of a sum: `measured`, `modelled`, `assumed`, `mixed (40 % measured)` or `unavailable`."""
    if energy.kind != "mixed" or energy.measured_share is None:
        return energy.kind
    return f"mixed ({100 * energy.measured_share:.0f} % measured)"


def _columns(records: list[Record]) -> dict[str, Array]:
    """Cost of each record by axis; joules only where every record that took time has an energy."""
    if not records:
        return {}
    columns = {
        "seconds": np.array([record.wall_s for record in records]),
        "executions": np.array([float(record.q.sim_executions) for record in records]),
        "hardware_executions": np.array([float(record.q.hw_executions) for record in records]),
    }
    if all(record.energy or record.wall_s == 0 for record in records):
        columns["joules"] = np.array(
            [math.fsum(entry.joules for entry in record.energy) for record in records]
        )
    return columns
