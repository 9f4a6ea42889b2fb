"""What a run had spent when: the ledger of a run, read at each evaluation, at the crossing and at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qrl.ledger import Energy, Record, Total, price, select, total
from qrl.ledger.schema import COMPUTE_DOMAINS
from qrl.study.results import Run
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
    seconds. `phases` holds wall seconds by phase, of all phases.
    """

    interactions: Array
    at: Mapping[str, Array]
    total: Mapping[str, float]
    phases: Mapping[str, float]

    def until(self, interactions: float) -> dict[str, float]:
        """Cost of everything recorded up to an evaluation at this interaction count."""
        index = int(np.searchsorted(self.interactions, interactions))
        return {axis: float(values[index]) for axis, values in self.at.items()}


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


def run_costs(run: Run) -> RunCosts:
    """Read a run's ledger. Superseded records count: what a crash undid was spent all the same.

    The cost of an evaluation at interaction i is the sum of the training records whose window ends at or
    before i.
    """
    looks = np.array([evaluation["interactions"] for evaluation in run.evaluations], dtype=np.float64)
    records = sorted(select(run.ledger), key=lambda record: record.window[1])
    phases: dict[str, float] = {}
    for record in run.ledger:
        phases[record.phase] = phases.get(record.phase, 0.0) + record.wall_s
    at: dict[str, Array] = {"interactions": looks}
    spent = {"interactions": _total_interactions(run, looks)}
    last = np.searchsorted(np.array([record.window[1] for record in records]), looks, side="right")
    for axis, values in _columns(records).items():
        running = np.concatenate([[0.0], np.cumsum(values)])
        at[axis], spent[axis] = running[last], float(running[-1])
    return RunCosts(looks, at, spent, phases)


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


def energy_shares(runs: Iterable[Run]) -> list[EnergyShare]:
    """Energy of the training phases by kind, source, domain and boundary, never merged across them."""
    sums: dict[tuple[str, str, str, str], list[float]] = {}
    for entry in _training_energy(runs):
        share = sums.setdefault((entry.kind, entry.source, entry.domain, entry.boundary), [0.0, 0.0])
        share[0] += entry.joules
        share[1] += entry.u_joules
    return [EnergyShare(*key, joules, u_joules) for key, (joules, u_joules) in sorted(sums.items())]


def energy_total(runs: Iterable[Run]) -> Total:
    """Energy of the training phases of several runs as one labelled sum."""
    return total(_training_energy(runs))


def unavailable_energy(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """Energy domains that could not be measured, with the reason, without repetition."""
    gaps = {(gap.domain, gap.reason) for run in runs for record in run.ledger for gap in record.unavailable}
    return sorted(gap for gap in gaps if gap[0] in COMPUTE_DOMAINS)


def joules_label(energy: Total) -> str:
    """The label of a sum: `measured`, `modelled`, `assumed`, `mixed (40 % measured)` or `unavailable`."""
    if energy.kind != "mixed" or energy.measured_share is None:
        return energy.kind
    return f"mixed ({100 * energy.measured_share:.0f} % measured)"


def _training_energy(runs: Iterable[Run]) -> list[Energy]:
    return [entry for run in runs for entry in price(select(run.ledger))]


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


def _total_interactions(run: Run, looks: Array) -> float:
    """Interactions at the last evaluation; the ledger's total would count superseded steps again."""
    if len(looks):
        return float(looks[-1])
    return float(((run.done or {}).get("totals") or {}).get("interactions") or 0.0)
