"""The report's figures as Plotly dictionaries; colours are names the page resolves for light and dark."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from qrl.study import survival
from qrl.study.attribution import Contribution
from qrl.study.comparison import AgentResult, Outcome, StudyResult
from qrl.study.pairs import short
from qrl.study.sample_complexity import SUCCESS_PROBABILITIES
from qrl.study.score import label
from qrl.study.statistics import Array, Estimate, bootstrap_band

Figure = dict[str, Any]

# Okabe and Ito (2008), chosen to be told apart with every common colour blindness; the blue and the black are
# lightened on a dark page. "@n" is the n-th line colour, "@nf" its translucent fill, "@nl" its faint line.
_LIGHT = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A7A00"]
_DARK = ["#56B4E9", "#F0803C", "#2BC79A", "#E3A3C6", "#F0B93A", "#9FD4F5", "#E8E8E8", "#F0E442"]
DASHES = (("solid", ""), ("dash", "9 6"), ("dot", "2.5 4"), ("dashdot", "9 4 2.5 4"))
"""Dashes that tell agents apart in a grey print too: Plotly's name and SVG's pattern."""
MOST_BANDS = len(_LIGHT)
"""With more agents than this, bands would hide the lines: each agent has a panel of its own instead."""
PANEL_COLUMNS = 2  # a telephone has no room for more

PHASE_COLOURS: dict[str, int | str] = {
    "environment": 5,
    "act": 4,
    "learn": 2,
    "quantum": 0,
    "transpile": 3,
    "queue": 7,
    "qpu": 1,
    "evaluate": "grey2",
    "tune": "grey1",
    "io": "grey3",
    "ledger": "text",
    "idle": "grid",
}
_AXIS_TITLES = {
    "interactions": "environment interactions",
    "seconds": "seconds of training",
    "joules": "joules of training",
}


def palettes() -> dict[str, dict[str, str]]:
    """Colour names to CSS colours, for the themes `light` and `dark`."""
    found = {}
    for theme, colours, ink, grid, card, greys in (
        ("light", _LIGHT, "#1d2733", "#e3e8ee", "#ffffff", ("#555F6B", "#8C96A1", "#BFC6CE")),
        ("dark", _DARK, "#e6ebf1", "#303a46", "#1a2129", ("#A9B2BC", "#7C8691", "#525C67")),
    ):
        names = {
            "@text": ink,
            "@grid": grid,
            "@card": card,
            **{f"@grey{k}": grey for k, grey in enumerate(greys, 1)},
        }
        for index, colour in enumerate(colours):
            red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
            names[f"@{index}"] = colour
            names[f"@{index}f"] = f"rgba({red},{green},{blue},0.20)"
            names[f"@{index}l"] = f"rgba({red},{green},{blue},0.28)"
        found[theme] = names
    return found


def resolve(value: Any, palette: dict[str, str]) -> Any:
    """A figure with its colour names replaced; the page does the same in the browser."""
    if isinstance(value, dict):
        return {key: resolve(item, palette) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, palette) for item in value]
    return palette.get(value, value) if isinstance(value, str) else value


def learning_curves(result: StudyResult, axis: str) -> Figure:
    """IQM with 95 % band and every seed, against interactions, seconds or joules.

    On a cost axis each run is interpolated linearly between its evaluations, and the line ends where the
    first run ends, so that the same runs stand behind every point of it.
    """
    traces: list[Figure] = []
    for index, agent in enumerate(result.agents):
        shown = [o for o in agent.outcomes if len(o.returns) and axis in o.costs.at]
        if not shown:
            continue
        x, centre, low, high = _band(agent, shown, axis)
        if not crowded(result):
            traces += [_seed_lines(agent, shown, axis, index), *_band_traces(agent, index, x, low, high)]
        traces.append(_line(agent_label(agent), agent, index, x, centre, symbol=True))
    layout = _layout(
        _AXIS_TITLES[axis], f"{label(result.measure)} (mean of an evaluation)", log_x=axis != "interactions"
    )
    if axis == "interactions":
        layout["xaxis"]["range"] = _whole_range(result)
    if result.threshold is not None:
        layout["shapes"] = [_rule(result.threshold)]
        layout["annotations"] = [_rule_label(f"threshold {result.threshold:g}", result.threshold)]
    return {"data": traces, "layout": layout}


def crowded(result: StudyResult) -> bool:
    """Whether a study has more agents than a plot can hold bands."""
    return len(result.agents) > MOST_BANDS


def agent_style(index: int) -> tuple[int, int]:
    """Colour and dash of the n-th agent: a colour that comes back has another dash, so that 32 agents stay apart."""
    return index % len(_LIGHT), (index + index // len(_LIGHT)) % len(DASHES)


def learning_panels(result: StudyResult) -> Figure:
    """For many agents: IQM with 95 % band and every seed against interactions, one panel an agent, axes shared."""
    layout = _layout("", "", log_x=False)
    axes = {axis: layout.pop(axis) for axis in ("xaxis", "yaxis")}
    traces: list[Figure] = []
    layout["margin"] |= {"b": 8}
    title = {"text": _AXIS_TITLES["interactions"], "x": 0.5, "xref": "paper", "xanchor": "center"}
    title |= {"y": 0, "yref": "paper", "yanchor": "bottom", "showarrow": False}
    layout |= {"annotations": [title], "shapes": []}
    agents = [(index, agent) for index, agent in enumerate(result.agents) if len(agent.grid)]
    height = 1 / (
        panel_rows(result) + 0.12
    )  # of a row; a strip at the bottom holds the title of the shared axis
    for place, (index, agent) in enumerate(agents):
        number = "" if not place else str(place + 1)
        row, column = divmod(place, PANEL_COLUMNS)
        top = 1 - row * height
        left, right = ((column + edge) / PANEL_COLUMNS for edge in (0.0, 0.94))
        below = place + PANEL_COLUMNS >= len(agents)
        layout[f"xaxis{number}"] = {
            **axes["xaxis"],
            "title": {"text": ""},
            "domain": [left, right],
            "anchor": f"y{number}",
            "range": _whole_range(result),
            "showticklabels": below,
            "nticks": 5,
        }
        layout[f"yaxis{number}"] = {
            **axes["yaxis"],
            "domain": [top - 0.76 * height, top - 0.14 * height],
            "anchor": f"x{number}",
            "showticklabels": column == 0,
            "nticks": 4,
            **({"matches": "y"} if place else {}),
        }
        x, centre, low, high = _band(agent, agent.outcomes, "interactions")
        shown = [o for o in agent.outcomes if len(o.returns)]
        parts = [
            _seed_lines(agent, shown, "interactions", index),
            *_band_traces(agent, index, x, low, high),
            _line(agent_label(agent), agent, index, x, centre),
        ]
        traces += [{**part, "xaxis": f"x{number}", "yaxis": f"y{number}"} for part in parts]
        layout["annotations"].append(
            {
                "text": html.escape(agent.name if len(agent.name) <= 22 else agent.name[:21] + "…"),
                "x": left,
                "xref": "paper",
                "xanchor": "left",
                "y": top - 0.13 * height,
                "yref": "paper",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 12, "color": "@text"},
            }
        )
        if result.threshold is not None:
            layout["shapes"].append(
                {**_rule(result.threshold), "xref": f"x{number} domain", "yref": f"y{number}"}
            )
    return {"data": traces, "layout": layout}


def panel_rows(result: StudyResult) -> int:
    """Rows of panels that the agents with curves fill."""
    return max(1, -(-sum(len(agent.grid) > 0 for agent in result.agents) // PANEL_COLUMNS))


def contributions(result: StudyResult) -> Figure:
    """What each agent covers of the gap: bars with 95 % intervals, 0 the base agent and 1 the full one.

    The recipe's words stand over each bar. What reaches beyond the drawing is cut at its edge; the numbers are whole.
    """
    parts = contribution_parts(result)[::-1]
    ends = [v for p in parts for v in (p.share.value, p.share.low, p.share.high) if v is not None]
    finite = [v for v in ends if math.isfinite(v)]
    edges = max(-1.0, min([0.0, *finite])), min(2.0, max([1.0, *finite]))
    layout = _layout(f"share of the gap in {label(result.measure)} over training", "", log_x=False)
    layout["margin"] = {"l": 10, "r": 10, "t": 26, "b": 48}
    room = 0.04 * (edges[1] - edges[0])
    layout["xaxis"] |= {"range": [edges[0] - room, edges[1] + room]}
    layout["yaxis"] |= {"visible": False, "range": [-0.5, max(len(parts), 1) - 0.5]}
    asked = result.recipe["attribution"]
    layout["shapes"] = [
        {**_rule(0.0), "xref": "x", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1} for x in (0, 1)
    ]
    layout["annotations"] = [
        {
            **_rule_label(html.escape(f"{x}: {asked[end]}"), 1.0),
            "xref": "x",
            "yref": "paper",
            "x": x,
            "xanchor": side,
        }
        for x, end, side in ((0, "base", "left"), (1, "full", "right"))
    ]
    traces: list[Figure] = []
    for k, part in enumerate(parts):
        value, low, high = (
            None if v is None else min(max(v, edges[0]), edges[1])
            for v in (part.share.value, part.share.low, part.share.high)
        )
        numbers = html.escape(f"{part.agent}: {_with_interval(part.share)}")
        bar: Figure = {
            "type": "bar",
            "orientation": "h",
            "x": [value],
            "y": [k - 0.24],
            "width": 0.28,
            "marker": {"color": "@0f", "line": {"color": "@0", "width": 1.5}},
            "name": html.escape(part.agent),
            "hovertemplate": f"{numbers}<extra></extra>",
        }
        if value is not None and low is not None and high is not None:
            bar["error_x"] = {
                "type": "data",
                "symmetric": False,
                "array": [high - value],
                "arrayminus": [value - low],
                "color": "@text",
                "thickness": 1.6,
                "width": 5,
            }
        traces.append(bar)
        words = "<br>".join(html.escape(line) for line in (*_lines(part), ""))
        layout["annotations"].append(
            {
                **_rule_label(f"{words}<i>{numbers}</i>", k - 0.08),
                "x": 0,
                "align": "left",
                "font": {"size": 12, "color": "@text"},
                "bgcolor": "@card",  # over the line of the base
            }
        )
    return {"data": traces, "layout": layout}


def contribution_parts(result: StudyResult) -> list[Contribution]:
    """The agents between base and full one."""
    asked = result.recipe.get("attribution") or {}
    return [part for part in result.contributions if part.agent not in (asked.get("base"), asked.get("full"))]


def contributions_height(result: StudyResult) -> int:
    """Pixels that the bars and the words over them need."""
    parts = contribution_parts(result)
    lines = max((len(_lines(part)) for part in parts), default=1)
    return 80 + (52 + 17 * lines) * len(parts)


def _lines(part: Contribution) -> list[str]:
    return textwrap.wrap(part.has, 48) or [part.agent]


def _with_interval(share: Estimate) -> str:
    if share.value is None or not math.isfinite(share.value):
        return "no gap to cover"
    if share.low is None or share.high is None:
        return f"{short(share.value)} (no interval: {share.n} seed{'' if share.n == 1 else 's'})"
    return f"{short(share.value)} (95 %: {short(share.low)} to {short(share.high)})"


def unsolved(result: StudyResult, axis: str) -> Figure:
    """Fraction of runs that have not reached the threshold yet.

    On interactions the Kaplan-Meier estimate with its band; on seconds and joules the empirical fraction,
    drawn no further than the first unsolved run goes.
    """
    edge = 0.5 * min(
        (float(_looks(o, axis)[0][0]) for a in result.agents for o in a.outcomes if len(_looks(o, axis)[0])),
        default=1.0,
    )  # where a logarithmic axis begins; a run solved before its first step stands there
    traces: list[Figure] = []
    for index, agent in enumerate(result.agents):
        if not agent.outcomes or any(axis not in o.spent for o in agent.outcomes):
            continue
        if axis == "interactions" and agent.survival is not None:
            curve = agent.survival
            x = np.concatenate([[0.0], curve.times, [curve.end]])
            y, low, high = (
                np.concatenate([[1.0], c, c[-1:] if len(c) else [1.0]])
                for c in (curve.survival, curve.low, curve.high)
            )
            if not crowded(result):
                traces += _band_traces(agent, index, x, low, high, step=True)
        else:
            x, solved = survival.fraction_solved(
                [o.spent[axis] for o in agent.outcomes], [o.solved for o in agent.outcomes]
            )
            x, y = (
                np.concatenate([[edge], np.maximum(x[1:], edge)]),
                np.concatenate([[1.0], 1.0 - solved[1:]]),
            )
        traces.append(_line(agent_label(agent, solved=True), agent, index, x, y, step=True))
    layout = _layout(_AXIS_TITLES[axis], "fraction of runs not solved", log_x=axis != "interactions")
    layout["yaxis"]["range"] = [-0.03, 1.05]
    if axis == "interactions":
        layout["xaxis"]["range"] = _whole_range(result)
    return {"data": traces, "layout": layout}


def near_optimum(result: StudyResult, index: int) -> Figure:
    """Share of runs within the `index`-th distance of the optimum, with its 95 % band and the shares asked for."""
    traces: list[Figure] = []
    for place, agent in enumerate(result.agents):
        if agent.reached is None:
            continue
        share, low, high = agent.reached.share()[index]
        x = agent.reached.ends
        if not crowded(result):
            traces += _band_traces(agent, place, x, low, high)
        traces.append(_line(agent_label(agent), agent, place, x, share))
    layout = _layout(_AXIS_TITLES["interactions"], "share of runs", log_x=False)
    layout["yaxis"]["range"] = [-0.03, 1.05]
    layout["xaxis"]["range"] = _whole_range(result)
    layout["shapes"] = [_rule(probability) for probability in SUCCESS_PROBABILITIES]
    return {"data": traces, "layout": layout}


def profiles(result: StudyResult) -> Figure:
    """Performance profiles: share of runs whose normalised final score exceeds a level, with 95 % bands."""
    traces: list[Figure] = []
    for place, agent in enumerate(result.agents):
        if agent.profile is None:
            continue
        share, low, high = agent.profile
        if not crowded(result):
            traces += _band_traces(agent, place, result.levels, low, high, step=True)
        traces.append(_line(agent_label(agent), agent, place, result.levels, share, step=True))
    layout = _layout("normalised final score", "share of runs above it", log_x=False)
    layout["yaxis"]["range"] = [-0.03, 1.05]
    layout["xaxis"] |= {"range": [float(result.levels[0]) - 0.01, float(result.levels[-1]) + 0.01]}
    return {"data": traces, "layout": layout}


def time_by_phase(result: StudyResult, *, share: bool) -> Figure:
    """Mean wall seconds of a run by phase, stacked, one bar an agent; with `share` as percent of the run."""
    agents = [agent for agent in result.agents if agent.phases][::-1]
    totals = {agent.name: sum(agent.phases.values()) or 1.0 for agent in agents}
    traces = []
    for phase, colour in PHASE_COLOURS.items():
        seconds = [agent.phases.get(phase, 0.0) for agent in agents]
        if not any(seconds):
            continue
        values = [100 * s / totals[a.name] if share else s for s, a in zip(seconds, agents, strict=True)]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": phase,
                "x": values,
                "y": [agent_label(agent) for agent in agents],
                "marker": {"color": f"@{colour}"},
                "hovertemplate": "%{x:.3g}" + (" %" if share else " s") + "<extra>" + phase + "</extra>",
            }
        )
    layout = _layout("share of the run, %" if share else "seconds a run (mean)", "", log_x=False)
    layout |= {"barmode": "stack", "bargap": 0.35}
    layout["yaxis"] |= {"automargin": True, "showgrid": False}
    return {"data": traces, "layout": layout}


def ratios(result: StudyResult) -> Figure:
    """Ratios hybrid over opponent with 95 % intervals on a logarithmic axis, and a line where both are
    equal.

    An end of an interval at 0 or infinity is drawn as an arrow at the edge.
    """
    rows = [
        (pair, axis)
        for pair in result.pairs
        for axis in pair.axes
        if axis.form == "ratio" and axis.comparison.value is not None
    ][::-1]
    finite = [
        v
        for _, a in rows
        for v in (a.comparison.value, a.comparison.low, a.comparison.high)
        if v and math.isfinite(v)
    ]
    edge_low, edge_high = min([*finite, 0.8]) / 1.6, max([*finite, 1.25]) * 1.6
    colours = {"faster": "@2", "slower": "@1"}
    traces: list[Figure] = []
    for pair, axis in rows:
        c = axis.comparison
        label = f"{html.escape(axis.label)}<br><i>{html.escape(f'{pair.hybrid} / {pair.opponent}')}</i>"
        colour = colours.get(axis.verdict, "@grey1")
        value = min(max(c.value or 0.0, edge_low), edge_high)
        if c.low is not None and c.high is not None:
            ends = [min(max(end, edge_low), edge_high) for end in (c.low, c.high)]
            symbols = [
                "line-ns-open" if end in (c.low, c.high) else arrow
                for end, arrow in zip(ends, ("triangle-left", "triangle-right"), strict=True)
            ]
            traces.append(
                {
                    "type": "scatter",
                    "x": ends,
                    "y": [label, label],
                    "mode": "lines+markers",
                    "line": {"color": colour, "width": 3},
                    "marker": {
                        "symbol": symbols,
                        "size": 11,
                        "color": colour,
                        "line": {"color": colour, "width": 2},
                    },
                    "hoverinfo": "skip",
                }
            )
        interval = (
            "no interval" if c.low is None or c.high is None else f"95 %: {short(c.low)} to {short(c.high)}"
        )
        traces.append(
            {
                "type": "scatter",
                "x": [value],
                "y": [label],
                "mode": "markers",
                "marker": {
                    "size": 13,
                    "color": colour,
                    "symbol": "circle" if math.isfinite(c.value or 0) else "triangle-right",
                },
                "hovertemplate": html.escape(f"{short(c.value or 0.0)} ({interval}): {axis.verdict}")
                + "<extra></extra>",
            }
        )
    layout = _layout(" / ".join(result.sides), "", log_x=True)
    layout["margin"]["l"] = 10
    layout["xaxis"] |= {
        "range": [math.log10(edge_low) - 0.04, math.log10(edge_high) + 0.04],
        "zeroline": False,
    }
    layout["yaxis"] |= {"automargin": True, "type": "category", "range": [-0.6, max(len(rows), 1) - 0.4]}
    layout["shapes"] = [
        {
            "type": "line",
            "x0": 1,
            "x1": 1,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"color": "@text", "width": 1.5, "dash": "dot"},
        }
    ]
    return {"data": traces, "layout": layout}


def agent_label(agent: AgentResult, solved: bool = False) -> str:
    """Name and number of seeds, escaped: what a legend says of an agent."""
    count = f"{agent.n_solved} of {agent.n} solved" if solved else f"n = {agent.n}"
    return f"{html.escape(agent.name)} ({count})"


def _band(agent: AgentResult, shown: Sequence[Outcome], axis: str) -> tuple[Array, Array, Array, Array]:
    if axis == "interactions":
        return agent.grid, *bootstrap_band(agent.curves)
    # failed runs end early; they stay at the floor instead of ending everyone's line
    looks = [_looks(o, axis) for o in shown]
    if not all(len(x) for x, _ in looks):
        return np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0)
    whole = [x for (x, _), o in zip(looks, shown, strict=True) if o.status == "finished"] or [
        x for x, _ in looks
    ]
    start, end = max(float(x[0]) for x, _ in looks), min(float(x[-1]) for x in whole)
    if end <= start:
        return np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0)
    grid = np.geomspace(start, end, 48)
    rights = [None if o.status == "finished" else o.final_return for o in shown]
    curves = np.stack([np.interp(grid, x, y, right=r) for (x, y), r in zip(looks, rights, strict=True)])
    return grid, *bootstrap_band(curves)


def _whole_range(result: StudyResult) -> list[float]:
    """Interactions from 0 to the budget with room on both sides, so that a mark at either end is seen whole."""
    end = max([float(result.budget), *(float(agent.grid[-1]) for agent in result.agents if len(agent.grid))])
    return [-0.02 * end, 1.03 * end]


def _looks(outcome: Outcome, axis: str) -> tuple[Array, Array]:
    """Cost and return at each evaluation; on a logarithmic axis without those that cost no step yet."""
    if axis not in outcome.costs.at:
        return np.zeros(0), np.zeros(0)
    shown = (outcome.costs.interactions > 0) & (outcome.costs.at[axis] > 0) | (axis == "interactions")
    return outcome.costs.at[axis][shown], outcome.returns[shown]


def _seed_lines(agent: AgentResult, shown: Sequence[Outcome], axis: str, index: int) -> Figure:
    x: list[float | None] = []
    y: list[float | None] = []
    for outcome in shown:
        costs, returns = _looks(outcome, axis)
        x += [*map(float, costs), None]
        y += [*map(float, returns), None]
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "mode": "lines",
        "line": {"color": f"@{agent_style(index)[0]}l", "width": 1},
        "hoverinfo": "skip",
        "name": html.escape(agent.name),
    }


def _band_traces(
    agent: AgentResult, index: int, x: Array, low: Array, high: Array, step: bool = False
) -> list[Figure]:
    if len(x) == 0 or np.isnan(low[-1]):
        return []
    colour = agent_style(index)[0]
    common: Figure = {
        "type": "scatter",
        "mode": "lines",
        "line": {"width": 0, "color": f"@{colour}", "shape": "hv" if step else "linear"},
        "hoverinfo": "skip",
        "name": html.escape(agent.name),
    }
    return [
        {**common, "x": x.tolist(), "y": low.tolist()},
        {**common, "x": x.tolist(), "y": high.tolist(), "fill": "tonexty", "fillcolor": f"@{colour}f"},
    ]


def _line(
    name: str, agent: AgentResult, index: int, x: Array, y: Array, step: bool = False, symbol: bool = False
) -> Figure:
    colour, dash = agent_style(index)
    return {
        "type": "scatter",
        "x": x.tolist(),
        "y": y.tolist(),
        "mode": "lines+markers" if symbol and len(x) <= 30 else "lines",
        "line": {
            "color": f"@{colour}",
            "width": 2.6,
            "shape": "hv" if step else "linear",
            "dash": DASHES[dash][0],
        },
        "marker": {"size": 7, "symbol": ("circle", "square", "diamond", "x")[dash]},
        "name": name,
        "hovertemplate": "%{y:.4g} at %{x:.4g}<extra>" + html.escape(agent.name) + "</extra>",
    }


def _layout(x_title: str, y_title: str, log_x: bool) -> Figure:
    axis = {
        "gridcolor": "@grid",
        "linecolor": "@grid",
        "zeroline": False,
        "tickfont": {"size": 12},
        "automargin": True,
    }
    return {
        "autosize": True,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {
            "color": "@text",
            "size": 13,
            "family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif",
        },
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "showlegend": False,  # the page has legends of its own, which fit a telephone
        "hovermode": "closest",
        "xaxis": {
            **axis,
            "title": {"text": x_title},
            **({"type": "log", "dtick": 1} if log_x else {"rangemode": "tozero"}),
        },
        "yaxis": {**axis, "title": {"text": y_title}},
    }


def _rule(level: float) -> Figure:
    line = {"color": "@text", "width": 1.2, "dash": "dot"}
    return {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": level, "y1": level, "line": line}


def _rule_label(text: str, level: float) -> Figure:
    return {
        "text": text,
        "x": 0.005,
        "xref": "paper",
        "xanchor": "left",
        "y": level,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11, "color": "@text"},
    }
