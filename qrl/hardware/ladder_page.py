"""The ladder as a page of its own: one HTML file that asks the network for nothing."""

from __future__ import annotations

import html
from typing import Any

from qrl.hardware.agreement import WANTED
from qrl.hardware.ladder import Ladder, curve_grid, rung_grid, sentence
from qrl.study import figures
from qrl.study.markup import plot, table
from qrl.study.report import page


def ladder_page(ladder: Ladder) -> str:
    """The page as HTML; everything that comes from files is escaped."""
    missing = "".join(f"<li>{html.escape(each)}</li>" for each in ladder.missing)
    body = "\n".join(
        (
            f"<header><h1>{html.escape(ladder.run)}</h1><p>{html.escape(ladder.environment)} · from simulation to "
            f"{html.escape(ladder.device)}</p></header>",
            f'<section class="card verdict"><p class="sentence">{html.escape(sentence(ladder))}</p></section>',
            f'<div class="below">{_legend(ladder)}</div>',
            '<div class="figures-grid">',
            plot("returns", "Return by rung", 320, note="Bars: 95 % intervals, whole episodes resampled."),
            plot(
                "agreement",
                "Same action as the noiseless policy",
                320,
                note="At the states that the noiseless policy visited.",
            ),
            plot(
                "shots",
                "Agreement by the number of shots",
                360,
                wide=True,
                note="Greedy actions; bands: 95 %, whole episodes resampled; dotted: 95 % agreement; right of each "
                "line its limit with infinitely many shots.",
            ),
            "</div>",
            f'<section class="card">{table(rung_grid(ladder), "agents")}'
            f'<p class="note">{html.escape(rung_grid(ladder).note)}</p></section>',
            f'<section class="card">{table(curve_grid(ladder), "agents")}'
            f'<p class="note">{html.escape(curve_grid(ladder).note)}</p></section>',
            f'<section class="card"><h3>Not there</h3><ul>{missing}</ul></section>' if missing else "",
            _provenance(ladder),
        )
    )
    return page(f"{ladder.run} on {ladder.device}", body, ladder_figures(ladder))


def ladder_figures(ladder: Ladder) -> dict[str, figures.Figure]:
    """The figures by the id of the element that holds them."""
    names = [html.escape(rung.name) for rung in ladder.rungs]
    lines = [rung.line for rung in ladder.rungs]
    returns = _points(
        names,
        [line["return_mean"] for line in lines],
        [line["return_interval"] or [None, None] for line in lines],
        "mean return",
    )
    shares = [rung.agreement for rung in ladder.rungs[1:]]
    same = _points(
        names[1:],
        [100 * (share.value or 0.0) if share else None for share in shares],
        [_percent(share) for share in shares],
        "same action, %",
    )
    same["layout"]["yaxis"]["range"] = [-3, 105]
    return {"returns": returns, "agreement": same, "shots": _curves(ladder)}


def _points(names: list[str], values: list[Any], ends: list[Any], title: str) -> figures.Figure:
    layout = figures._layout("", title, log_x=False)
    layout["xaxis"] |= {"type": "category", "range": [-0.5, len(names) - 0.5]}
    layout["xaxis"].pop("rangemode", None)
    known = [low is not None for low, _ in ends]
    above = [high - value if have else 0 for value, (_, high), have in zip(values, ends, known, strict=True)]
    below = [value - low if have else 0 for value, (low, _), have in zip(values, ends, known, strict=True)]
    bars = {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "color": "@0",
        "width": 7,
    }
    marks = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": names,
        "y": values,
        "error_y": {**bars, "thickness": 2},
        "line": {"color": "@0l", "width": 1.5},
        "marker": {"size": 11, "color": "@0"},
        "hovertemplate": "%{y:.4g}<extra>%{x}</extra>",
    }
    return {"data": [marks], "layout": layout}


def _curves(ladder: Ladder) -> figures.Figure:
    traces: list[figures.Figure] = []
    layout = figures._layout("shots a measurement setting", "same action, %", log_x=True)
    layout["yaxis"]["range"] = [-3, 105]
    layout["shapes"] = [figures._rule(100 * WANTED)]
    layout["annotations"] = [figures._rule_label(f"{100 * WANTED:g} %", 100 * WANTED)]
    for index, each in enumerate(ladder.curves):
        x = list(each.shots)
        shared = {"type": "scatter", "x": x, "mode": "lines", "hoverinfo": "skip"}
        if each.low[0] is not None:
            none = {"width": 0, "color": f"@{index}"}
            low, high = ([100 * float(v or 0.0) for v in side] for side in (each.low, each.high))
            traces.append({**shared, "y": low, "line": none})
            traces.append({**shared, "y": high, "line": none, "fill": "tonexty", "fillcolor": f"@{index}f"})
        traces.append(
            {
                **shared,
                "y": [100 * value for value in each.agreement],
                "line": {"color": f"@{index}", "width": 2.6, "dash": figures.DASHES[index][0]},
                "hoverinfo": "all",
                "hovertemplate": "%{y:.1f} % at %{x} shots<extra>" + html.escape(each.name) + "</extra>",
            }
        )
        traces.append(
            {
                "type": "scatter",
                "x": [x[-1] * 1.6],
                "y": [100 * each.limit],
                "mode": "markers",
                "marker": {"size": 10, "symbol": "triangle-right", "color": f"@{index}"},
                "hovertemplate": "%{y:.1f} % without end of shots<extra>"
                + html.escape(each.name)
                + "</extra>",
            }
        )
    return {"data": traces, "layout": layout}


def _percent(share: Any) -> list[float | None]:
    if share is None or share.low is None or share.high is None:
        return [None, None]
    return [100 * share.low, 100 * share.high]


def _legend(ladder: Ladder) -> str:
    items = "".join(
        f'<li><svg width="34" height="10" aria-hidden="true"><line x1="1" y1="5" x2="33" y2="5" style="stroke:'
        f'var(--a{k})" stroke-width="3" stroke-dasharray="{figures.DASHES[k][1]}"/></svg>{html.escape(each.name)}</li>'
        for k, each in enumerate(ladder.curves)
    )
    return f'<ul class="legend">{items}</ul>'


def _provenance(ladder: Ladder) -> str:
    device = ladder.rungs[-1].line
    facts = {
        "Weights": f"after {device['interactions']:,} interactions, SHA-256 {device['parameters_sha256'][:16]}…",
        "Device": device["device"].get("device", device["backend"]),
        "Layout": ", ".join(map(str, device["device"].get("layout", []))) or "none",
        "Calibration": device["device"].get("calibration", "none"),
        "Options": ", ".join(f"{k} = {v}" for k, v in (device.get("options") or {}).items()) or "none",
        "Jobs": f"{device['jobs']:,}",
        "Queue": "none" if device["queue_seconds"] is None else f"{device['queue_seconds']:,.1f} s",
    }
    rows = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd>" for k, v in facts.items())
    return f'<section class="card"><h3>Provenance</h3><dl>{rows}</dl></section>'
