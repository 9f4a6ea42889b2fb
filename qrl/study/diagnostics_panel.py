"""The report's panels of what went on inside the agents, where their runs recorded it (`[budget] diagnostics`)."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qrl.study import figures
from qrl.study.comparison import StudyResult
from qrl.study.markup import plot, table
from qrl.study.results import Record, read_lines, surviving
from qrl.study.statistics import iqm
from qrl.study.table import Cell, Grid


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure: a number of the records, and how it is shown."""

    kind: str
    key: str
    title: str
    axis: str
    note: str
    logarithmic: bool = True


PANELS = (
    Panel(
        "gradients",
        "norm",
        "Norm of the gradient",
        "mean over updates",
        "By network and group, as it reached the optimiser: after clipping, where the algorithm clips.",
    ),
    Panel(
        "gradients",
        "variance",
        "Variance of the gradient",
        "mean over components",
        "Over the updates between two evaluations.",
    ),
    Panel(
        "circuits",
        "steepness",
        "Steepness of the circuits",
        "mean square gradient of observables",
        "By the weights, in the states visited last. The plateau alarm compares it with 99 draws of random weights.",
    ),
    Panel(
        "circuits",
        "meyer_wallach",
        "Entanglement",
        "Meyer-Wallach, mean of states visited",
        "0 for a product state, 1 where every qubit is maximally entangled with the others.",
        logarithmic=False,
    ),
    Panel(
        "circuits",
        "expressibility",
        "Expressibility",
        "divergence from Haar, nats",
        "Of random weights at the present scales: the smaller, the more evenly the states cover the sphere. That it is "
        "estimated from 2000 pairs leaves about 0.02.",
    ),
    Panel(
        "circuits",
        "scale_drift",
        "Drift of the input scales",
        "mean change since the start",
        "A scale that moves changes the frequencies that a circuit can express.",
        logarithmic=False,
    ),
    Panel(
        "circuits",
        "effective_dimension",
        "Effective dimension",
        "share of the number of weights",
        "Of the measured bit string at 10,000 data.",
        logarithmic=False,
    ),
)

Recorded = Mapping[str, Sequence[Sequence[Record]]]
"""The records of each agent's runs, agent by agent in the study's order."""


def recorded(result: StudyResult) -> Recorded:
    """The diagnostics of a study's runs; empty where none recorded them."""
    found: dict[str, list[list[Record]]] = {}
    for agent in result.agents:
        runs = [run.directory / "diagnostics.jsonl" for run in result.runs if run.agent == agent.name]
        lines = [surviving(read_lines(path)) for path in runs]
        if any(lines):
            found[agent.name] = [records for records in lines if records]
    return found


def diagnostics_figures(result: StudyResult) -> dict[str, figures.Figure]:
    """The figures by the id of the element that holds them; panels without numbers are left out."""
    told = recorded(result)
    drawn = {_id(panel): _figure(result, told, panel) for panel in PANELS}
    return {name: figure for name, figure in drawn.items() if figure["data"]}


def diagnostics_section(result: StudyResult) -> str:
    """The panels and the alarms as HTML, empty where nothing was recorded."""
    told = recorded(result)
    if not told:
        return ""
    drawn = diagnostics_figures(result)
    plots = [plot(_id(panel), panel.title, 380, note=panel.note) for panel in PANELS if _id(panel) in drawn]
    alarms = alarm_grid(told)
    below = (
        "" if alarms is None else f'{table(alarms, "agents")}<p class="note">{html.escape(alarms.note)}</p>'
    )
    return (
        '<h2>Inside the agents</h2><p class="lead">Interquartile mean over seeds, at each evaluation.</p>'
        f'<div class="figures-grid">{"".join(plots)}</div>{below}'
    )


def alarm_grid(told: Recorded) -> Grid | None:
    """How often each circuit was on a plateau; None where no circuit was compared with random weights."""
    rows = []
    for name, runs in told.items():
        for network in _names(runs, "circuits"):
            seen = [
                [
                    r["circuits"][network]["plateau"]
                    for r in run
                    if "plateau" in r["circuits"].get(network, {})
                ]
                for run in runs
            ]
            if not any(seen):
                continue
            total = sum(map(len, seen))
            cells = [
                Cell(
                    f"{sum(run.count(kind) for run in seen)} of {total}",
                    f"in {sum(kind in run for run in seen)} runs",
                )
                for kind in ("flat", "barren")
            ]
            rows.append((Cell(name, network), tuple(cells)))
    if not rows:
        return None
    note = (
        "Flat: the present weights are less steep than all 99 random draws and 100 times less steep than their median, "
        "by chance in at most one record of 100. Barren: 1000 shots a circuit do not resolve the gradient of 62 or "
        "more of the draws, by chance in at most one record of 100. Both are about the circuit and not about the loss."
    )
    return Grid("Plateau alarms", (Cell("flat", "records"), Cell("barren", "records")), tuple(rows), note)


def _figure(result: StudyResult, told: Recorded, panel: Panel) -> figures.Figure:
    traces = []
    for index, agent in enumerate(result.agents):
        runs = told.get(agent.name, ())
        for position, name in enumerate(_names(runs, panel.kind)):
            x, y = _series(runs, panel, name)
            if not len(x):
                continue
            colour = figures.agent_style(index)[0]
            traces.append(
                {
                    "type": "scatter",
                    "x": x,
                    "y": y,
                    "mode": "lines+markers" if len(x) <= 30 else "lines",
                    "line": {"color": f"@{colour}", "width": 2, "dash": figures.DASHES[position % 4][0]},
                    "marker": {"size": 6},
                    "name": html.escape(f"{agent.name}: {name}"),
                    "hovertemplate": "%{y:.3g} at %{x:.4g}<extra>"
                    + html.escape(f"{agent.name}: {name}")
                    + "</extra>",
                }
            )
    layout = figures._layout("environment interactions", panel.axis, log_x=False)
    layout |= {"showlegend": True, "legend": {"orientation": "h", "y": -0.25, "font": {"size": 11}}}
    if panel.logarithmic:
        layout["yaxis"] |= {"type": "log", "exponentformat": "power"}
    return {"data": traces, "layout": layout}


def _series(runs: Sequence[Sequence[Record]], panel: Panel, name: str) -> tuple[list[float], list[float]]:
    """Interactions and interquartile mean over the runs, record by record."""
    x: list[float] = []
    y: list[float] = []
    for k in range(max(map(len, runs), default=0)):
        records = [run[k] for run in runs if k < len(run)]
        values = [r[panel.kind].get(name, {}).get(panel.key) for r in records]
        numbers = np.array([v for v in values if v is not None and (v > 0.0 or not panel.logarithmic)])
        if len(numbers):
            x.append(float(np.median([r["interactions"] for r in records])))
            y.append(float(iqm(numbers)))
    return x, y


def _names(runs: Sequence[Sequence[Record]], kind: str) -> list[str]:
    return list(dict.fromkeys(name for run in runs for record in run for name in record[kind]))


def _id(panel: Panel) -> str:
    return f"diagnostics-{panel.kind}-{panel.key}"
