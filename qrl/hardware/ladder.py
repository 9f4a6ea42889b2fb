"""The same weights from simulation to a device: returns, agreement of actions, and the shots that 95 % of it need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from circuits.backends import Backend, get_backend
from circuits.backends.aer import AerBackend, fake_device
from qrl.errors import InputError
from qrl.hardware.acting import Setting, Trained
from qrl.hardware.agreement import (
    CLOSE,
    WANTED,
    Curve,
    Kept,
    Readings,
    curve,
    same_actions,
    sample_states,
)
from qrl.hardware.evaluation import evaluate, record
from qrl.hardware.paying import costs_money
from qrl.study.pairs import short
from qrl.study.statistics import Estimate
from qrl.study.table import Cell, Grid, estimate_cell

STATES = 1000
"""States at which actions are compared, at most."""

Watching = Callable[[str], Any]
Paid = Callable[[Trained, Setting], tuple[dict[str, Any], Backend]]
"""Evaluates on the device that costs money; its record, and the backend that may spend."""


@dataclass(frozen=True)
class Rung:
    """One backend of the ladder.

    Attributes:
        name: in a word or two.
        line: record of its evaluation.
        agreement: with the noiseless policy's actions on the states that this visited; None for that policy itself.
    """

    name: str
    line: Mapping[str, Any]
    agreement: Estimate | None


@dataclass(frozen=True)
class Ladder:
    """What the rungs of one run are.

    Attributes:
        run: ``study/agent/seed=n``.
        environment: its id.
        device: name of the last rung's backend.
        rungs: noiseless first, the device last.
        curves: agreement by shots, without and with noise.
        states: at how many states actions were compared.
        missing: rungs and curves that there are none of, and why.
        continuous: whether actions are numbers, which agree where they are close.
    """

    run: str
    environment: str
    device: str
    rungs: tuple[Rung, ...]
    curves: tuple[Curve, ...]
    states: int
    missing: tuple[str, ...]
    continuous: bool

    @property
    def simulated(self) -> bool:
        """Whether the last rung is no machine."""
        return not self.rungs[-1].line["jobs"]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; an infinite number of shots is null."""
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "run": self.run,
            "environment": self.environment,
            "device": self.device,
            "states": self.states,
            "rungs": [
                {
                    "name": rung.name,
                    "agreement": None if rung.agreement is None else asdict(rung.agreement),
                    **rung.line,
                }
                for rung in self.rungs
            ],
            "curves": [_finite(asdict(each)) for each in self.curves],
            "missing": list(self.missing),
        }


def climb(
    trained: Trained, setting: Setting, watching: Watching, paid: Paid | None = None, states: int = STATES
) -> Ladder:
    """Evaluate a run noiseless, with shots, under the noise model of a device, and on the device.

    Args:
        trained: the run.
        setting: how the device is asked: its backend, shots or one-shot acting, episodes.
        watching: from a name to a context that gives what ``Evaluator.watch`` takes.
        paid: what evaluates on a device that costs money.
        states: at how many states actions are compared, at most.

    Raises:
        InputError: shots are not given, acting is by a rule, or the agent has a memory.
        TypeError, ValueError, RuntimeError: what a backend refuses or fails in.
    """
    _check(trained, setting)
    device = get_backend(setting.backend)
    noise, why = noise_model(setting.backend)
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    missing = [] if noise is not None else [f"noise model: {why}"]

    def on(name: str, backend: Backend, **changes: Any) -> dict[str, Any]:
        label = getattr(backend, "name", name)
        with watching(f"{trained.name}, {name}") as watch:
            return record(evaluate(trained, replace(setting, backend=label, **changes), backend, watch))

    exact: dict[str, Any] = {"shots": None, "acting": "greedy"}
    ideal = get_backend("auto")

    def note(observations: np.ndarray, running: np.ndarray) -> None:
        seen.append((observations.copy(), running.copy()))

    noiseless = record(evaluate(trained, replace(setting, backend=ideal.name, **exact), ideal, note))
    visited = sample_states(trained, seen, states, setting.seed)

    def agreed(backend: Backend, **changes: Any) -> Estimate:
        return visited.agreement(same_actions(trained, visited, replace(setting, **changes), backend))

    rungs = [Rung("noiseless", noiseless, None), Rung("shots", on("shots", ideal), agreed(ideal))]
    curves = [curve("noiseless", trained, visited, Readings(AerBackend()), setting.seed)]
    if noise is not None:
        rungs.append(Rung("noise model", on("noise model", noise, **exact), agreed(noise, **exact)))
        if setting.backend != noise.name:
            rungs.append(Rung("noise model, shots", on("noise and shots", noise), agreed(noise)))
        curves.append(curve("noise model", trained, visited, Readings(noise), setting.seed))
    if costs_money(device):
        assert paid is not None
        line, device = paid(trained, setting)
    else:
        line = on("device", device)
    kept = Kept(device)
    rungs.append(Rung("device", line, visited.agreement(same_actions(trained, visited, setting, kept))))
    if noise is None or setting.backend != noise.name:
        drawn = kept.estimates(setting.shots) if setting.shots is not None and setting.shots > 1 else None
        if drawn is None:
            missing.append("curve of the device: it gave no standard errors")
        else:
            curves.append(curve("device", trained, visited, drawn, setting.seed))
    return Ladder(
        trained.name,
        trained.recipe.environment.id,
        setting.backend,
        tuple(rungs),
        tuple(curves),
        len(visited.episodes),
        tuple(missing),
        visited.actions.dtype.kind == "f",
    )


def noise_model(device: str) -> tuple[AerBackend | None, str]:
    """The recorded calibration of a device, under which its noise is simulated, or why there is none."""
    kind, _, target = device.partition(":")
    if kind == "aer" and target:
        return AerBackend(target), ""
    name = target.replace("ibm_", "fake_")
    try:
        fake_device(name)
    except ValueError:
        return None, f"no calibration of {device} is recorded; name an aer:fake_... device for one"
    return AerBackend(name), ""


def _check(trained: Trained, setting: Setting) -> None:
    if setting.acting in ("adaptive", "sampled"):
        why, fix = "has no single action a state to compare", "use greedy or one-shot"
        raise InputError("acting", setting.acting, why, fix)
    if setting.shots_taken is None:
        raise InputError("shots", "nothing", "is given", "write e.g. --shots 1024, or --acting one-shot")
    if hasattr(trained.agent.policy, "lstm_actor"):  # type: ignore[attr-defined]
        why = "has a memory, and states alone do not decide its actions"
        raise InputError("DIR", trained.name, why, "use qrl evaluate")


def _finite(data: dict[str, Any]) -> dict[str, Any]:
    needed = {k: None if v in (float("inf"), None) else v for k, v in data["needed"].items()}
    return {**data, "needed": needed}


def rung_grid(ladder: Ladder) -> Grid:
    """The rungs as a table."""
    rows = []
    for rung in ladder.rungs:
        line, same = rung.line, rung.agreement
        low, high = line["return_interval"] or (None, None)
        mean = Estimate(line["return_mean"], low, high, len(line["returns"]))
        shots = 1 if line["acting"] == "one-shot" else line["shots"]
        rows.append(
            (
                Cell(rung.name, line["backend"]),
                (
                    Cell("exact" if shots is None else f"{shots:,}", line["acting"]),
                    estimate_cell(mean),
                    Cell("the reference") if same is None else _share(same),
                    Cell(str(line["device"].get("depth", "none"))),
                    Cell(str(line["device"].get("two_qubit_gates", "none"))),
                    Cell(str(line["device"].get("calibration") or "none")[:10]),
                    Cell(f"{line['qpu_seconds']:,.1f}" if line["jobs"] else "none"),
                ),
            )
        )
    close = f" Continuous actions agree within {100 * CLOSE:g} % of their range." if ladder.continuous else ""
    return Grid(
        title=f"{ladder.run}: {ladder.environment}, from simulation to {ladder.device}",
        columns=(
            Cell("Shots", "acting"),
            Cell("Return", "mean of episodes"),
            Cell("Same action", "as the noiseless policy"),
            Cell("Depth", "transpiled"),
            Cell("2-qubit gates"),
            Cell("Calibration"),
            Cell("QPU seconds"),
        ),
        rows=tuple(rows),
        note="Equal weights and start states. Under each value: its 95 % interval, whole episodes resampled. Actions "
        f"are compared at {ladder.states:,} states that the noiseless policy visited.{close}",
    )


def curve_grid(ladder: Ladder) -> Grid:
    """The shots that 95 % agreement needs, as a table."""
    return Grid(
        title=f"Shots for {100 * WANTED:g} % agreement of the greedy action with the noiseless policy",
        columns=(
            Cell("Shots", "a measurement setting"),
            Cell("Settings", "an action"),
            Cell("Agreement", "without end of shots"),
        ),
        rows=tuple(
            (
                Cell(each.name),
                (_needed(each), Cell(str(each.settings)), Cell(f"{100 * each.limit:.1f} %")),
            )
            for each in ladder.curves
        ),
        note=" ".join(f"{each.name}: {each.method}." for each in ladder.curves)
        + " Between the numbers of shots that were tried, powers of two, a curve is a straight line in their logarithm."
        + " Under a number: its 95 % interval, whole episodes resampled.",
    )


def _needed(each: Curve) -> Cell:
    value, low, high = each.needed.value, each.needed.low, each.needed.high
    assert value is not None
    bound = f"not within {each.shots[-1]:,}"

    def text(number: float) -> str:
        return "∞" if np.isinf(number) else f"{number:,.0f}"

    interval = "" if low is None or high is None or np.isinf(low) else f"{text(low)} to {text(high)}"
    return Cell(bound if np.isinf(value) else f"{value:,.0f}", interval)


def _share(same: Estimate) -> Cell:
    interval = (
        f"no interval: {same.n} episodes"
        if same.low is None or same.high is None
        else f"{100 * same.low:.1f} to {100 * same.high:.1f} %"
    )
    return Cell(f"{100 * (same.value or 0.0):.1f} %", interval)


def sentence(ladder: Ladder) -> str:
    """What came of it, in one sentence."""
    first, last = ladder.rungs[0], ladder.rungs[-1]
    same = last.agreement
    assert same is not None
    assert same.value is not None
    kind = " (simulated)" if ladder.simulated else ""
    return (
        f"On {ladder.device}{kind} the weights of {ladder.run} return {short(last.line['return_mean'])} where the"
        f" noiseless policy returns {short(first.line['return_mean'])}, and take the same action at"
        f" {100 * same.value:.1f} % of its states."
    )
