"""Evaluation of trained agents on any backend, and the record of it in the run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from circuits.backends import Backend, Usage
from circuits.circuit import Circuit
from qrl.agents.build import child_seed
from qrl.hardware.acting import Actor, Metered, Setting, Trained
from qrl.ledger import Ledger
from qrl.study.evaluation import Evaluation, Evaluator
from qrl.study.pairs import short
from qrl.study.recipe import Recipe
from qrl.study.results import Run, read_lines
from qrl.study.run import Lines
from qrl.study.statistics import Estimate, bootstrap, stratified_bootstrap
from qrl.study.table import Cell, Grid, estimate_cell

RECORDS = "hardware.jsonl"
"""The file in a run's folder; one line an evaluation, and lines are never changed."""


@dataclass(frozen=True)
class Outcome:
    """An evaluation of one run.

    Attributes:
        trained: the run.
        setting: how.
        evaluation: returns and lengths.
        usage: what was run.
        requests: how often the backend was asked.
        seconds: of wall time.
        device: what is known of where it ran, see ``describe``.
        totals: of a ledger: counts, seconds, energies.
    """

    trained: Trained
    setting: Setting
    evaluation: Evaluation
    usage: Usage
    requests: int
    seconds: float
    device: Mapping[str, Any]
    totals: Mapping[str, Any]

    @property
    def mean_return(self) -> Estimate:
        """With its 95 % interval, whole episodes resampled."""
        return mean_with_interval(self.evaluation.returns)


def mean_with_interval(returns: Sequence[float]) -> Estimate:
    """The mean over episodes with its 95 % percentile bootstrap interval; none below three episodes."""
    return bootstrap(lambda values: np.asarray(values.mean(-1)), returns)


def make_evaluator(recipe: Recipe, setting: Setting) -> Evaluator:
    """The environments of an evaluation: all episodes side by side, the ended ones asked for nothing.

    Raises:
        ValueError: episodes never end by themselves and no number of steps is given.
    """
    environment = recipe.environment
    return Evaluator(
        environment.id,
        environment.options,
        environment.observation,
        setting.episodes,
        child_seed(setting.seed, "evaluation"),
        steps=setting.steps,
        frugal=True,
    )


def evaluate(
    trained: Trained,
    setting: Setting,
    backend: Backend,
    watch: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> Outcome:
    """Evaluate an agent with all its circuits on a backend; equal settings ask equal questions in an equal order.

    Args:
        trained: the run; its circuits stay on the backend.
        setting: how.
        backend: the one of that name.
        watch: see ``Evaluator``.

    Raises:
        TypeError, ValueError: what agent, environment or backend refuse.
    """
    trained.check(setting, backend)
    metered = Metered(backend)
    trained.move(metered, setting.shots if setting.acting != "one-shot" else 1)
    evaluator = make_evaluator(trained.recipe, setting)
    evaluator.watch = watch
    started = time.perf_counter()
    run = trained.run
    try:
        with Ledger(trained.name, run.seed, run.agent) as ledger, ledger.phase("evaluate"):
            played = evaluator(Actor(trained, setting), trained.step)  # type: ignore[arg-type]
    finally:
        evaluator.close()
    seconds = time.perf_counter() - started
    device = describe(backend, trained.acts_by.circuit)
    totals = ledger.totals()
    return Outcome(trained, setting, played, metered.usage, metered.requests, seconds, device, totals)


def describe(backend: Backend, circuit: Circuit) -> dict[str, Any]:
    """What is known of a circuit on a backend: JSON values, without what is not known.

    ``layout`` (which of the device's qubits ours start on), ``depth`` and ``two_qubit_gates`` after transpilation, and
    ``calibration``, the date of the device's data.
    """
    tell = getattr(backend, "describe", None)
    found = {"backend": backend.name} | ({} if tell is None else dict(tell(circuit)))
    return {key: value for key, value in found.items() if value is not None}


def record(outcome: Outcome, **more: Any) -> dict[str, Any]:
    """The line of an evaluation, as JSON values."""
    played, usage, mean = outcome.evaluation, outcome.usage, outcome.mean_return
    told = {} if played.successes is None else {"successes": list(played.successes)}
    trained = outcome.trained
    before = trained.run.evaluations[-1].get("return_mean") if trained.run.evaluations else None
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": trained.name,
        "environment": trained.recipe.environment.id,
        "interactions": trained.step,
        "parameters_sha256": trained.agent.parameters_sha256,
        **outcome.setting.to_dict(),
        "return_mean": mean.value,
        "return_interval": None if mean.low is None else [mean.low, mean.high],
        "return_in_training": before,
        "returns": list(played.returns),
        "lengths": list(played.lengths),
        **told,
        "requests": outcome.requests,
        "executions": usage.executions,
        "hardware_executions": usage.hardware_executions,
        "shots_taken": usage.shots,
        "jobs": usage.jobs,
        "job_ids": list(usage.job_ids),
        "seconds": outcome.seconds,
        "qpu_seconds": getattr(usage, "qpu_seconds", 0.0) if usage.jobs else None,
        "queue_seconds": getattr(usage, "queue_seconds", 0.0) if usage.jobs else None,
        "device": dict(outcome.device),
        "energy": outcome.totals["energy"],
        **more,
    }


def append(run: Run, line: Mapping[str, Any]) -> Path:
    """Add a line to the run's records, whole or not at all."""
    path = run.directory / RECORDS
    lines = Lines(path)
    try:
        lines.append(dict(line))
        lines.sync()
    finally:
        lines.close()
    return path


def records(run: Run) -> list[dict[str, Any]]:
    """The lines of a run's records, oldest first."""
    return read_lines(run.directory / RECORDS)


def record_grid(lines: Sequence[Mapping[str, Any]]) -> Grid:
    """A table of evaluations of one study: one row a run, and one an agent over its seeds."""
    rows: list[tuple[Cell, tuple[Cell, ...]]] = []
    for line in lines:
        before, jobs = line["return_in_training"], line["jobs"]
        low, high = line["return_interval"] or (None, None)
        mean = Estimate(line["return_mean"], low, high, len(line["returns"]))
        rows.append(
            (
                Cell(line["run"], _how(line)),
                (
                    _mean_cell(mean),
                    Cell("unknown" if before is None else f"{before:,.1f}"),
                    Cell(f"{np.mean(line['lengths']):,.1f}"),
                    Cell(f"{line['hardware_executions']:,}"),
                    Cell("exact" if not line["shots_taken"] else f"{line['shots_taken']:,}"),
                    Cell(f"{jobs:,}" if jobs else f"{line['requests']:,}", "" if jobs else "local"),
                    Cell(f"{line['qpu_seconds']:,.1f}" if jobs else "none"),
                    Cell(f"{line['seconds']:,.1f}"),
                ),
            )
        )
    return Grid(
        title=f"{lines[0]['environment']} on {lines[0]['backend']}",
        columns=(
            Cell("Return", "mean of episodes"),
            Cell("In training", "last evaluation"),
            Cell("Steps", "an episode"),
            Cell("Circuits", "on hardware"),
            Cell("Shots"),
            Cell("Jobs", "or requests"),
            Cell("QPU seconds"),
            Cell("Seconds"),
        ),
        rows=(*rows, *_over_seeds(lines)),
        note="Under a return: its 95 % interval, whole episodes resampled; over seeds the interquartile mean, whole "
        "runs resampled. Weights of the last checkpoint, frozen.",
    )


def _over_seeds(lines: Sequence[Mapping[str, Any]]) -> list[tuple[Cell, tuple[Cell, ...]]]:
    agents: dict[str, list[float]] = {}
    for line in lines:
        agents.setdefault(line["run"].rpartition("/")[0], []).append(line["return_mean"])
    return [
        (Cell(name, f"{len(means)} seeds"), (estimate_cell(stratified_bootstrap([means])), *[Cell("")] * 7))
        for name, means in agents.items()
        if len(means) > 1
    ]


def _mean_cell(mean: Estimate) -> Cell:
    if mean.low is None or mean.high is None:
        return Cell(short(mean.value or 0.0), f"no interval: {mean.n} episode{'s' if mean.n != 1 else ''}")
    return estimate_cell(mean)


def _how(line: Mapping[str, Any]) -> str:
    """Acting, shots, episodes and where these are cut, of a record."""
    acting, shots = line["acting"], 1 if line["acting"] == "one-shot" else line["shots"]
    what = "exact" if shots is None else f"{shots:,} shot{'s' if shots > 1 else ''}"
    if acting == "adaptive":
        what = "shots by its rule"
    cut = "" if line["steps"] is None else f", at most {line['steps']} steps"
    return f"{acting}, {what}, {line['episodes']} episodes{cut}"
