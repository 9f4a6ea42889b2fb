"""What an evaluation would cost on a quantum computer, said before anything is sent and without a connection."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from circuits.backends import Backend
from circuits.backends.protocol import count_settings
from circuits.circuit import Circuit
from circuits.observables import Observable
from qrl.agents.training_env import making
from qrl.errors import InputError
from qrl.hardware.acting import Setting, Trained
from qrl.ledger.meters import power_row
from qrl.study.table import Cell, Grid

PROFILE, PRICE = "superconducting-cloud", "pay-as-you-go"
"""Rows of the power table."""


@dataclass(frozen=True)
class Plan:
    """What one run's evaluation takes.

    Attributes:
        trained: the run.
        setting: how it is evaluated.
        jobs: requests, one a step of all episodes.
        circuits: executions of circuits on hardware, each with all its shots.
        shots: in all, None where values are exact.
        seconds: on the processor, at most, None where values are exact.
        expected: the same if episodes last as long as in the last evaluation in training, None where that is not known.
        depth: of the transpiled circuit, None where there is no device to transpile for.
        two_qubit_gates: of it.
        source: of the seconds.
    """

    trained: Trained
    setting: Setting
    jobs: int
    circuits: int
    shots: int | None
    seconds: float | None
    expected: float | None
    depth: int | None
    two_qubit_gates: int | None
    source: str


def plan(trained: Trained, setting: Setting, backend: Backend) -> Plan:
    """The most that an evaluation can take: no episode ends early, and a rule of shots goes to its cap.

    Raises:
        TypeError, ValueError: what agent or backend refuse; an environment without an end and no number of steps.
    """
    trained.check(setting, backend)
    layer = trained.acts_by
    settings = count_settings(layer.circuit, layer.observables)
    steps = longest(trained, setting)
    looks = shots_of_a_step(trained, setting)
    cost = _Cost(backend, layer.circuit, layer.observables)
    circuits = steps * len(looks) * settings * setting.episodes
    if looks == [None]:
        source = "exact values have no shots, and no hardware can give them"
        return Plan(trained, setting, steps, circuits, None, None, None, None, None, source)
    shots = steps * settings * setting.episodes * sum(look or 0 for look in looks)
    seconds = steps * math.fsum(cost(setting.episodes, look) for look in looks)
    lasting = _as_in_training(trained, setting, steps)
    expected = None
    if lasting is not None:
        expected = math.fsum(cost(rows, look) for rows in lasting for look in looks)
    return Plan(
        trained,
        setting,
        steps * len(looks),
        circuits,
        shots,
        seconds,
        expected,
        cost.depth,
        cost.two_qubit_gates,
        cost.source,
    )


def longest(trained: Trained, setting: Setting) -> int:
    """The most steps that an episode can have.

    Raises:
        InputError: there is no such number.
    """
    environment = trained.recipe.environment
    with making(environment.id, environment.options):
        env = gym.make(environment.id, **environment.options)
    line = getattr(env.unwrapped, "line", None)  # beam lines end their episodes themselves
    limits = (setting.steps, getattr(env.spec, "max_episode_steps", None), getattr(line, "step_limit", None))
    env.close()
    ends = [number for number in limits if number is not None]
    if not ends:
        why, fix = f"does not say how long its episodes are ({environment.id})", "write e.g. --steps 200"
        raise InputError("environment.id", environment.id, why, fix)
    return int(min(ends))


def shots_of_a_step(trained: Trained, setting: Setting) -> list[int | None]:
    """Shots of each request that a step can take: one, or those of a rule up to its cap."""
    if setting.acting != "adaptive":
        return [setting.shots_taken]
    rule, taken, looks = trained.rule.rule, 0, []
    while taken < rule.cap:
        looks.append(min(rule.step if taken else rule.start, rule.cap - taken))
        taken += looks[-1]
    return looks


def _as_in_training(trained: Trained, setting: Setting, steps: int) -> list[int] | None:
    """Rows of each request if episodes lasted as in the run's last evaluation."""
    lengths = trained.run.evaluations[-1].get("lengths") if trained.run.evaluations else None
    if not lengths:
        return None
    share = setting.episodes / len(lengths)
    rows = [math.ceil(share * sum(length > step for length in lengths)) for step in range(steps)]
    return [count for count in rows if count]


JOB_SECONDS, EXECUTION_SECONDS = 2.0, 260e-6
"""Of a job before its first circuit; of one execution of a shallow circuit, the usual pause of 250 us included."""


@dataclass(frozen=True)
class Predicted:
    """Seconds on a processor that is not named, in the form of a backend's own estimate."""

    seconds: float
    source: str
    depth: int | None = None
    two_qubit_gates: int | None = None


def formula(circuit: Circuit, observables: Sequence[Observable], rows: int, shots: int) -> Predicted:
    """What one request takes on a superconducting processor that is not named.

    Source: IBM's documented model, 2 s a job and the repetition delay plus the circuit's duration an execution.
    """
    executions = rows * shots * count_settings(circuit, observables)
    source = (
        f"modelled, {JOB_SECONDS:g} s a job and {1e6 * EXECUTION_SECONDS:g} us an execution, no device named"
    )
    return Predicted(JOB_SECONDS + EXECUTION_SECONDS * executions, source)


class _Cost:
    """Seconds on the processor of one request, by the backend's own estimate where it has one."""

    def __init__(self, backend: Backend, circuit: Any, observables: Sequence[Any]) -> None:
        self._ask: Callable[..., Any] = getattr(backend, "estimate", formula)
        self._what = (circuit, observables)
        self._known: dict[tuple[int, int | None], float] = {}
        self.depth: int | None = None
        self.two_qubit_gates: int | None = None
        self.source = ""

    def __call__(self, rows: int, shots: int | None) -> float:
        key = (rows, shots)
        if key not in self._known:
            found = self._ask(*self._what, rows, shots)
            self.depth, self.two_qubit_gates = found.depth, found.two_qubit_gates
            self.source = found.source
            self._known[key] = float(found.seconds)
        return self._known[key]


@dataclass(frozen=True)
class Price:
    """What seconds on the processor cost; both assumed, with their sources.

    Attributes:
        dollars_per_second: US dollars.
        watts: of the whole machine: low, most likely, high.
        sources: of the price and of the power.
    """

    dollars_per_second: float
    watts: tuple[float, float, float]
    sources: tuple[str, str]

    @classmethod
    def listed(cls, dollars_per_second: float | None = None) -> Price:
        """That of the power table, or with a price of one's own."""
        power, price = power_row("qpu", PROFILE), power_row("qpu_price", PRICE)
        own = dollars_per_second is not None
        return cls(
            float(price["usd_per_second"]) if dollars_per_second is None else dollars_per_second,
            (float(power["p_low"]), float(power["p_mode"]), float(power["p_high"])),
            ("given in the command" if own else f"{price['source']} ({price['date']})", power["source"]),
        )


def plan_grid(plans: Sequence[Plan], price: Price) -> Grid:
    """A table of plans: one row a run, and their sum."""
    rows = [(Cell(plan.trained.name), _cells([plan], price)) for plan in plans]
    if len(plans) > 1:
        rows.append((Cell("All"), _cells(plans, price)))
    first = plans[0]
    setting = first.setting
    return Grid(
        title=f"{setting.acting} on {setting.backend}: {setting.episodes} episodes, at most "
        f"{first.jobs // len(shots_of_a_step(first.trained, setting))} steps",
        columns=(
            Cell("Jobs"),
            Cell("Circuits"),
            Cell("Shots"),
            Cell("Depth", "transpiled"),
            Cell("2-qubit gates"),
            Cell("QPU seconds", "predicted, at most"),
            Cell("QPU seconds", "as long as in training"),
            Cell("US dollars", "assumed price"),
            Cell("Kilojoules", "assumed power"),
        ),
        rows=tuple(rows),
        note=f"Seconds: {first.source}. Dollars: ${price.dollars_per_second:g} a second, {price.sources[0]}. "
        f"Joules: {price.watts[1] / 1000:g} kW ({price.watts[0] / 1000:g} to {price.watts[2] / 1000:g}) for these "
        f"seconds, {price.sources[1]}; queue, network and this computer are not in them.",
    )


def total_seconds(plans: Sequence[Plan]) -> float | None:
    """The most seconds on the processor that these plans take together, None where one of them cannot say."""
    return (
        None
        if any(plan.seconds is None for plan in plans)
        else math.fsum(plan.seconds or 0.0 for plan in plans)
    )


def _cells(plans: Sequence[Plan], price: Price) -> tuple[Cell, ...]:
    seconds, first = total_seconds(plans), plans[0]
    expected = None if any(p.expected is None for p in plans) else math.fsum(p.expected or 0.0 for p in plans)
    shots = None if any(p.shots is None for p in plans) else sum(p.shots or 0 for p in plans)
    unknown = Cell("unavailable")

    def number(value: int | None) -> Cell:
        return unknown if value is None or any(p.depth != first.depth for p in plans) else Cell(f"{value:,}")

    low, mode, high = price.watts
    return (
        Cell(f"{sum(p.jobs for p in plans):,}"),
        Cell(f"{sum(p.circuits for p in plans):,}"),
        Cell("exact") if shots is None else Cell(f"{shots:,}"),
        number(first.depth),
        number(first.two_qubit_gates),
        unknown if seconds is None else Cell(f"{seconds:,.1f}", f"{seconds / 60:,.2f} min"),
        unknown if expected is None else Cell(f"{expected:,.1f}", f"{expected / 60:,.2f} min"),
        unknown if seconds is None else Cell(f"{seconds * price.dollars_per_second:,.2f}"),
        unknown
        if seconds is None
        else Cell(
            f"{seconds * mode / 1e3:,.0f}", f"{seconds * low / 1e3:,.0f} to {seconds * high / 1e3:,.0f}"
        ),
    )
