"""The sections of a study's page: pieces of HTML in which everything that comes from files is escaped."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qrl.study import figures
from qrl.study.comparison import StudyResult
from qrl.study.costs import energy_shares, unavailable_energy
from qrl.study.drawings import draw_circuits
from qrl.study.pairs import MINIMUM_FOR_VERDICT, AxisResult, Pair, judged_axes, sentence, short
from qrl.study.statistics import MINIMUM_FOR_RESULT
from qrl.study.table import Cell, Grid, agent_grid, failure_lines, pair_grid

_GOOD, _BAD = ("faster", "higher"), ("slower", "lower")


def heading(result: StudyResult) -> str:
    """Name, environment, budget and threshold of the study."""
    goal = "no threshold" if result.threshold is None else f"threshold {result.threshold:g}"
    environment = html.escape(str(result.recipe["environment"]["id"]))
    return (
        f"<header><h1>{html.escape(result.name)}</h1>"
        f"<p>{environment} · {result.budget:,} interactions a run · {goal} · "
        f"{_seed_counts(result)}</p></header>"
    )


def verdict(result: StudyResult) -> str:
    """The verdict in words, with one tile an axis, for each hybrid against its twin or first opponent."""
    chosen: dict[str, Pair] = {}
    for pair in result.pairs:
        chosen.setdefault(pair.hybrid, pair)
    if not chosen:
        return (
            f'<section class="card verdict"><p class="sentence">{html.escape(result.headline)}</p></section>'
        )
    cards = []
    for pair in chosen.values():
        label = f' <span class="badge">{_stage(pair.n)}</span>' if pair.n < MINIMUM_FOR_RESULT else ""
        tiles = "" if pair.n < MINIMUM_FOR_VERDICT else "".join(_tile(axis) for axis in judged_axes(pair))
        cards.append(
            '<section class="card verdict"><p '
            f'class="sentence">{html.escape(sentence(pair, with_numbers=False))}{label}</p>'
            f'<div class="tiles">{tiles}</div>{_decomposition(pair)}</section>'
        )
    return "".join(cards)


def tables(result: StudyResult) -> str:
    """The table of agents, and one table for each hybrid against a classical agent."""
    grids = [pair_grid(result, pair) for pair in result.pairs]
    note = f'<p class="note">{html.escape(grids[0].note)}</p>' if grids else ""
    pairs = "".join(f'<div class="card">{_table(grid, "pairs")}</div>' for grid in grids)
    agents = agent_grid(result)
    return (
        f'<h2>The agents</h2><div class="card">{_table(agents, "agents", caption=False)}</div>'
        f'<p class="note">{html.escape(agents.note)}</p>'
        + (f"<h2>Hybrid against classical</h2>{_forest(result)}{pairs}{note}" if grids else "")
    )


def curves(result: StudyResult) -> str:
    """Learning curves and, with a threshold, the fraction of runs not solved, on every cost axis."""
    axes = curve_axes(result)
    parts = [
        "<h2>Learning curves</h2>",
        '<p class="lead">Interquartile mean over seeds with its 95 % band; every seed drawn faintly. '
        "Seconds and joules are those of training, "
        "on logarithmic axes; each line ends where the first of its runs ends.</p>",
        _agent_legend(result, solved=False),
        _figures_grid("curve", axes, 400),
    ]
    if result.threshold is not None:
        parts += [
            "<h2>Runs not solved yet</h2>",
            '<p class="lead">Against interactions: Kaplan-Meier with a 95 % band. Against seconds and '
            "joules, where that "
            "estimator would be biased, the plain fraction, drawn as far as the first unsolved run goes. A "
            "run counts as "
            "solved when fresh episodes confirm the crossing.</p>",
            _agent_legend(result, solved=True),
            _figures_grid("unsolved", axes, 360),
        ]
    return "".join(parts)


def costs(result: StudyResult) -> str:
    """Where the time goes."""
    if not any(agent.phases for agent in result.agents):
        return ""
    height = 90 + 46 * sum(bool(agent.phases) for agent in result.agents)
    used = [
        phase for phase in figures.PHASE_COLOURS if any(agent.phases.get(phase) for agent in result.agents)
    ]
    legend = "".join(
        '<li><svg width="14" height="14" aria-hidden="true"><rect width="14" height="14" rx="3" '
        f'fill="var(--p-{phase})"/></svg>{phase}</li>'
        for phase in used
    )
    return (
        "<h2>Where the time goes</h2>"
        '<p class="lead">Mean wall seconds of a run by phase, measured by the ledger\'s clock; evaluation '
        "and input and output "
        "are shown here and nowhere else in the costs.</p>"
        f'<ul class="legend">{legend}</ul>'
        f'<div class="figures-grid">{_plot("phases", "Seconds a run by phase", height)}'
        f"{_plot('phase-shares', 'Share of each phase', height)}</div>"
    )


def circuits(result: StudyResult) -> str:
    """The circuits of the hybrid agents, drawn."""
    drawings = draw_circuits(result)
    if not drawings:
        return ""
    cards = "".join(
        f'<div class="card"><h3>{html.escape(d.agent)}</h3><p class="note">{html.escape(d.caption)}</p>'
        '<div class="circuit" role="img" aria-label="Circuit of '
        f'{html.escape(d.agent)}">{d.markup}</div></div>'
        for d in drawings
    )
    return f"<h2>Circuits</h2>{cards}"


def failures(result: StudyResult) -> str:
    """Runs that failed, are missing, or never reached the threshold."""
    lines = failure_lines(result)
    if result.threshold is not None:
        lines += [
            f"{agent.name}: {agent.n - agent.n_solved} of {agent.n} runs did not reach the threshold; their "
            "whole cost is counted"
            for agent in result.agents
            if agent.n_solved < agent.n
        ]
    rejected = _rejected(result)
    if rejected:
        lines.append(
            f"{rejected} crossings of the threshold were not confirmed on fresh episodes and do not count"
        )
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    body = f"<ul>{items}</ul>" if items else "<p>No run failed, and every run reached the threshold.</p>"
    return f'<h2>Failures</h2><div class="card">{body}</div>'


def energy(result: StudyResult) -> str:
    """What is measured, what is modelled and what is assumed, with uncertainty; and what is unavailable."""
    rows = [
        (
            Cell(share.kind),
            (
                Cell(share.source),
                Cell(share.domain),
                Cell(share.boundary),
                Cell(short(share.joules)),
                Cell(_uncertainty(share)),
            ),
        )
        for share in energy_shares(result.runs)
    ]
    columns = ("source", "domain", "boundary", "joules", "uncertainty")
    grid = Grid("Energy of training, all runs", tuple(Cell(name) for name in columns), tuple(rows), "")
    gaps = "".join(
        f"<li>{html.escape(domain)}: not measured, {html.escape(reason)}</li>"
        for domain, reason in unavailable_energy(result.runs)
    )
    table = (
        _table(grid, "energy") if rows else "<p>No energy was recorded: unavailable, which is not zero.</p>"
    )
    return (
        "<h2>What is measured and what is not</h2>"
        f'<div class="card">{table}{f"<ul>{gaps}</ul>" if gaps else ""}</div>'
        "<p>Seconds and CPU seconds are measured by the process clock; circuits executed are counted "
        "exactly; what hardware would have "
        "run is computed from the gradient rule (parameter shift) and the number of commuting groups. The "
        "uncertainty of "
        "joules is that of their source: it is the same for every agent on this machine, so it moves all "
        "joules together "
        "and drops out of a ratio between agents priced by the same source. Intervals over seeds do not "
        "contain it.</p>"
    )


def provenance(result: StudyResult) -> str:
    """Versions, machine, seeds, hashes, command and recipe."""
    manifests = [run.manifest for run in result.runs]
    versions = sorted(
        {f"{k} {v}" for m in manifests for k, v in (m.get("versions") or {}).items() if v is not None},
        key=str.lower,
    )
    facts: list[tuple[str, Iterable[str]]] = [
        (
            "Command",
            [
                f"qrl run {result.runs[0].directory.relative_to(result.directory.parent)}/recipe.toml "
                f"--seeds {_ranges({run.seed for run in result.runs})}"
            ],
        ),
        ("Versions", [", ".join(versions)]),
        *(
            (title, _distinct(manifests, title.lower()))
            for title in ("Commit", "CPU", "Threads", "Resume", "Started")
        ),
        ("Seeds", [f"{agent.name}: {_ranges(o.seed for o in agent.outcomes)}" for agent in result.agents]),
        ("Circuit digest", _distinct(manifests, "circuit_digest")),
    ]
    commands = _distinct(manifests, "command")
    if commands:
        facts[0] = ("Command", commands)
    known = {
        "agent",
        "circuit_digest",
        "command",
        "commit",
        "cpu",
        "resume",
        "seeds",
        "started",
        "threads",
        "versions",
    }
    others = sorted({key for manifest in manifests for key in manifest} - known)
    facts += [(key.replace("_", " ").capitalize(), _distinct(manifests, key)) for key in others]
    listed = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{'<br>'.join(html.escape(v) for v in values)}</dd>"
        for name, values in facts
        if list(values)
    )
    recipe = (result.runs[0].directory / "recipe.toml").read_text("utf-8")
    return (
        f'<h2>Provenance</h2><div class="card"><dl>{listed}</dl></div>'
        '<details class="card"><summary>Resolved recipe</summary><pre '
        f'class="recipe">{html.escape(recipe)}</pre></details>'
        f'<details class="card"><summary>Hashes of every run</summary>{_hashes(result)}</details>'
        "<footer>Made from the run directories beside this page; nothing in it is loaded from "
        "elsewhere.</footer>"
    )


def curve_axes(result: StudyResult) -> list[str]:
    """Axes on which curves can be drawn: interactions, and seconds and joules where the ledger has them."""
    found = {axis for agent in result.agents for outcome in agent.outcomes for axis in outcome.costs.at}
    return [axis for axis in ("interactions", "seconds", "joules") if axis in found]


def has_ratios(result: StudyResult) -> bool:
    """Whether any ratio of hybrid over classical is known."""
    return any(
        a.form == "ratio" and a.comparison.value is not None for pair in result.pairs for a in pair.axes
    )


def _tile(axis: AxisResult) -> str:
    c = axis.comparison
    mood = "good" if axis.verdict in _GOOD else "bad" if axis.verdict in _BAD else ""
    what = "ratio" if axis.form == "ratio" else "difference"
    numbers = "" if c.value is None else f"{what} {short(c.value)}"
    if c.low is not None and c.high is not None and c.value is not None:
        numbers += f" · 95 %: {short(c.low)} to {short(c.high)}"
    if axis.note:
        numbers += f" · {axis.note}" if numbers else axis.note
    return (
        f'<div class="tile {mood}"><div class="axis">in {html.escape(axis.label)}</div><div '
        f'class="word">{axis.verdict}</div>'
        f'<div class="figures">{html.escape(numbers)}</div></div>'
    )


def _decomposition(pair: Pair) -> str:
    """Cost ratio = ratio in interactions times ratio of cost an interaction, in words."""
    if not pair.has_threshold:
        return ""
    values = {axis.axis: axis.comparison.value for axis in pair.axes if axis.form == "ratio"}
    steps, parts = values.get("interactions"), []
    for name in ("seconds", "joules"):
        ratio = values.get(name)
        if ratio and steps and math.isfinite(ratio) and math.isfinite(steps):
            parts.append(
                f"{name}: {short(ratio)} = {short(steps)} (interactions) × {short(ratio / steps)} ({name} "
                "an interaction)"
            )
    return "".join(f'<p class="detail">{html.escape(part)}</p>' for part in parts)


def _forest(result: StudyResult) -> str:
    if not has_ratios(result):
        return ""
    rows = sum(
        a.form == "ratio" and a.comparison.value is not None for pair in result.pairs for a in pair.axes
    )
    title = (
        "Cost to the threshold, hybrid over classical"
        if result.threshold is not None
        else "Cost of the budget, hybrid over classical"
    )
    counts = "; ".join(f"{pair.hybrid} / {pair.opponent}: {pair.n} seeds each" for pair in result.pairs)
    return _plot("ratios", title, 90 + 52 * rows, note=f"Bars: 95 % intervals, paired by seed. {counts}.")


def _agent_legend(result: StudyResult, solved: bool) -> str:
    items = []
    for index, agent in enumerate(result.agents):
        dash = figures.DASHES[index % 4][1]
        stroke = f'stroke="var(--a{index % 8})" stroke-width="3" stroke-dasharray="{dash}"'
        line = f'<line x1="1" y1="6" x2="33" y2="6" {stroke}/>'
        items.append(
            '<li><svg width="34" height="12" '
            f'aria-hidden="true">{line}</svg>{figures.agent_label(agent, solved)}</li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _figures_grid(prefix: str, axes: Sequence[str], height: int) -> str:
    cards = [
        _plot(f"{prefix}-{axis}", f"Against {axis}", height, wide=(axis == "interactions" or len(axes) == 2))
        for axis in axes
    ]
    return f'<div class="figures-grid">{"".join(cards)}</div>'


def _plot(name: str, title: str, height: int, *, wide: bool = False, note: str = "") -> str:
    below = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return (
        f'<figure class="card{" wide" if wide else ""}" style="margin-inline:0"><h3>{html.escape(title)}</h3>'
        f'<div class="plot" id="{name}" style="height:{height}px" role="img" '
        f'aria-label="{html.escape(title)}"></div>{below}</figure>'
    )


def _table(grid: Grid, kind: str, caption: bool = True) -> str:
    head = "".join(f"<th scope=col>{_cell(column)}</th>" for column in grid.columns)
    rows = "".join(
        f"<tr><th scope=row>{_cell(label)}</th>{''.join(_data_cell(cell) for cell in cells)}</tr>"
        for label, cells in grid.rows
    )
    title = f"<h3>{html.escape(grid.title)}</h3>" if caption else ""
    return (
        f'{title}<div class="scroll" tabindex="0"><table '
        f'class="{kind}"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _data_cell(cell: Cell) -> str:
    name = "good-word" if cell.main in _GOOD else "bad-word" if cell.main in _BAD else ""
    main = f'<span class="{name}">{html.escape(cell.main)}</span>' if name else html.escape(cell.main)
    return f"<td>{main}{_sub(cell)}</td>"


def _cell(cell: Cell) -> str:
    return f"{html.escape(cell.main)}{_sub(cell)}"


def _sub(cell: Cell) -> str:
    return f'<span class="sub">{html.escape(cell.sub)}</span>' if cell.sub else ""


def _hashes(result: StudyResult) -> str:
    rows = []
    for run in result.runs:
        done = run.done or {}
        resumed = done.get("resumed_from")
        cells = (
            Cell(run.status),
            Cell(str(done.get("parameters_sha256") or "none")[:16]),
            Cell(str(done.get("metrics_sha256") or "none")[:16]),
            Cell("no" if resumed is None else f"from {resumed:,}"),
        )
        rows.append((Cell(f"{run.agent}, seed {run.seed}"), cells))
    columns = ("status", "parameters, SHA-256", "metrics, SHA-256", "resumed")
    return _table(Grid("", tuple(Cell(name) for name in columns), tuple(rows), ""), "hashes", caption=False)


def _uncertainty(share: Any) -> str:
    return (
        f"± {100 * share.u_joules / share.joules:.0f} %" if share.joules > 0 else f"± {short(share.u_joules)}"
    )


def _rejected(result: StudyResult) -> int:
    looks = (e.get("confirmation") for run in result.runs for e in run.evaluations)
    return sum(isinstance(look, Mapping) and look.get("passed") is False for look in looks)


def _seed_counts(result: StudyResult) -> str:
    counts = sorted({agent.n for agent in result.agents})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{many} seeds an agent"


def _stage(n: int) -> str:
    return f"too few seeds: {n}" if n < MINIMUM_FOR_VERDICT else f"development, {n} seeds"


def _distinct(manifests: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """Distinct values of a manifest entry; of many, the first and the last in order."""
    values = dict.fromkeys(
        _text(manifest[key]) for manifest in manifests if manifest.get(key) not in (None, "", {}, [])
    )
    found = sorted(values) if len(values) > 4 else list(values)
    return [f"{found[0]} … {found[-1]} ({len(found)} values)"] if len(found) > 4 else found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _ranges(seeds: Iterable[int]) -> str:
    """Seeds as half-open ranges, as the command line writes them."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and runs[-1][1] == seed:
            runs[-1][1] = seed + 1
        else:
            runs.append([seed, seed + 1])
    return ", ".join(f"{a}:{b}" for a, b in runs) or "none"
