"""The sections of a study's page: pieces of HTML in which everything that comes from files is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from qrl.study import figures
from qrl.study.comparison import StudyResult
from qrl.study.drawings import ACTION, BOTH, STATE, Drawing, draw_circuits
from qrl.study.markup import BAD, GOOD, plot, table
from qrl.study.outperforms import MINIMUM_FOR_VERDICT, AxisResult, Pair
from qrl.study.pairs import acceleration_sentence, headlined, judged_axes, sentence, short
from qrl.study.sample_complexity import EPSILONS
from qrl.study.statistics import MINIMUM_FOR_RESULT
from qrl.study.table import (
    Grid,
    agent_grid,
    attribution_grid,
    cells_grid,
    complexity_table,
    crossing_table,
    level,
    look_grid,
    pair_grid,
    spread_grid,
)


def heading(result: StudyResult) -> str:
    """Name, environment, budget and threshold of the study."""
    goal = "no threshold" if result.threshold is None else f"threshold {level(result)}"
    environment = html.escape(str(result.recipe["environment"]["id"]))
    return (
        f"<header><h1>{html.escape(result.name)}</h1>"
        f"<p>{environment} · {result.budget:,} interactions a run · {goal} · "
        f"{_seed_counts(result)}</p></header>"
    )


def verdict(result: StudyResult) -> str:
    """The verdict in words, with one tile an axis, for each hybrid against its twin or first opponent."""
    chosen = headlined(result.pairs)
    if not chosen:
        return (
            f'<section class="card verdict"><p class="sentence">{html.escape(result.headline)}</p></section>'
        )
    cards = []
    for pair in chosen:
        label = f' <span class="badge">{_stage(pair.n)}</span>' if pair.n < MINIMUM_FOR_RESULT else ""
        tiles = "" if pair.n < MINIMUM_FOR_VERDICT else "".join(_tile(axis) for axis in judged_axes(pair))
        cards.append(
            '<section class="card verdict"><p '
            f'class="sentence">{html.escape(sentence(pair, with_numbers=False))}{label}</p>'
            f'<div class="tiles">{tiles}</div>{_resources(pair)}{_decomposition(pair)}</section>'
        )
    return "".join(cards)


def claims(result: StudyResult) -> str:
    """What came of the claims that were made before the study ran."""
    cards = []
    for judgement in result.claims:
        mood = {"held": "good", "refuted": "bad"}.get(judgement.verdict, "")
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in judgement.lines)
        cards.append(
            f'<div class="tile {mood}"><div class="axis">{html.escape(judgement.name)}: '
            f'{html.escape(judgement.claim.hypothesis)}</div><div class="word">{judgement.verdict}</div>'
            f'<div class="figures"><ul>{lines}</ul>{html.escape(judgement.seal)}</div></div>'
        )
    return f'<section class="card"><h3>Claims</h3>{"".join(cards)}</section>' if cards else ""


def agents(result: StudyResult) -> str:
    """The table of agents and that of their looks."""
    grid, looks = agent_grid(result), look_grid(result)
    return (
        f"<h2>The agents</h2>{_noted(grid, 'agents', caption=False)}"
        f"{'' if looks is None else _noted(looks, 'agents')}"
    )


def attribution(result: StudyResult) -> str:
    """What covers the gap between two agents, drawn and as a table, where the recipe asks for it."""
    grid = attribution_grid(result)
    if grid is None:
        return ""
    height = figures.contributions_height(result)
    drawn = plot("contributions", "Share of the gap", height) if has_contributions(result) else ""
    return f"<h2>{html.escape(grid.title)}</h2>{drawn}{_noted(grid, 'pairs', caption=False)}"


def pairs(result: StudyResult) -> str:
    """The ratios of all pairs, drawn, and one table a pair."""
    if not result.pairs:
        return ""
    notes = [pair_grid(result, result.pairs[0]).note]
    cards = []
    for pair in result.pairs:
        cells = cells_grid(result, pair)
        shown = "" if cells is None else f'<div class="below">{table(cells, "pairs")}</div>'
        cards.append(
            f'<div class="card">{table(pair_grid(result, pair), "pairs")}{shown}{_resources(pair)}</div>'
        )
        notes += [cells.note] if cells is not None and len(notes) == 1 else []
    below = "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
    return f"<h2>{' against '.join(result.sides).capitalize()}</h2>{_forest(result)}{''.join(cards)}{below}"


def complexity(result: StudyResult) -> str:
    """Sample complexity as a table, and the share of runs near the optimum, drawn."""
    grid, crossings = complexity_table(result), crossing_table(result)
    if grid is None or crossings is None:
        return f"<h2>Sample complexity</h2><p>Unavailable: {html.escape(result.no_scale)}.</p>"
    drawn = "".join(
        plot(f"near-{k}", f"Share of runs within {epsilon:g} of the optimum", 320)
        for k, epsilon in enumerate(EPSILONS)
    )
    return (
        f"<h2>Sample complexity</h2>{_noted(grid, 'agents', caption=False)}"
        f'<details class="card"><summary>{html.escape(crossings.title)}</summary>'
        f"{table(crossings, 'agents', caption=False)}"
        f'<p class="note">{html.escape(crossings.note)}</p></details>'
        f"{_agent_legend(result, solved=False)}"
        f'<div class="figures-grid thirds">{drawn}</div>'
    )


def spread(result: StudyResult) -> str:
    """How far runs spread: percentiles, failures, and the performance profile."""
    drawn = ""
    if result.scale is not None:
        title = "Performance profile: share of runs whose final score exceeds a level"
        drawn = _agent_legend(result, solved=False)
        drawn += plot("profile", title, 340, note=f"Bands: 95 %, pointwise. {result.scale.words}.")
    return f"<h2>How runs spread</h2>{_noted(spread_grid(result), 'agents')}{drawn}"


def curves(result: StudyResult) -> str:
    """Learning curves and, with a threshold, the fraction of runs not solved, on every cost axis."""
    axes = curve_axes(result)
    many = figures.crowded(result)
    drawn = (
        "Interquartile mean over seeds; bands and seeds stand in a panel an agent below."
        if many
        else "Interquartile mean over seeds with its 95 % band; every seed drawn faintly."
    )
    parts = [
        "<h2>Learning curves</h2>",
        f'<p class="lead">{drawn} Seconds and joules are those of training, '
        "on logarithmic axes; each line ends where the first of its runs ends.</p>",
        _agent_legend(result, solved=False),
        _figures_grid("curve", axes, 480 if many else 400),
    ]
    if many and axes:
        title = "Each agent against interactions: interquartile mean with its 95 % band, and every seed"
        parts.append(plot("curve-panels", title, 60 + 140 * figures.panel_rows(result)))
    if result.threshold is not None:
        parts += [
            "<h2>Runs not solved yet</h2>",
            f'<p class="lead">Against interactions: Kaplan-Meier{"" if many else " with a 95 % band"}. '
            "Against seconds and joules, where that "
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
        f'<div class="figures-grid">{plot("phases", "Seconds a run by phase", height)}'
        f"{plot('phase-shares', 'Share of each phase', height)}</div>"
    )


def circuits(result: StudyResult) -> str:
    """The circuits and Boltzmann machines of the agents, drawn."""
    drawings = draw_circuits(result)
    if not drawings:
        return ""
    pictures = "".join(
        f'<div class="card">{_drawing_head(d)}'
        f'<div class="circuit" role="img" aria-label="Circuit of {_names(d)}">{d.markup}</div></div>'
        for d in drawings
        if d.kind == "circuit"
    )
    machines = "".join(
        f'<div class="card">{_drawing_head(d)}<div class="scroll" tabindex="0" role="img" '
        f'aria-label="Machine of {_names(d)}">{d.markup}</div></div>'
        for d in drawings
        if d.kind == "machine"
    )
    if not machines:
        return f"<h2>Circuits</h2>{pictures}"
    return f'<h2>Circuits and machines</h2>{pictures}{_MACHINE_KEY}<div class="figures-grid">{machines}</div>'


def has_contributions(result: StudyResult) -> bool:
    """Whether there is any agent between the two ends of the gap, and a gap."""
    return any(
        part.share.value is not None and math.isfinite(part.share.value)
        for part in figures.contribution_parts(result)
    )


def curve_axes(result: StudyResult) -> list[str]:
    """Axes on which curves can be drawn: interactions, and seconds and joules where the ledger has them."""
    found = {axis for agent in result.agents for outcome in agent.outcomes for axis in outcome.costs.at}
    return [axis for axis in ("interactions", "seconds", "joules") if axis in found]


def has_ratios(result: StudyResult) -> bool:
    """Whether any ratio of hybrid over opponent is known."""
    return any(
        a.form == "ratio" and a.comparison.value is not None for pair in result.pairs for a in pair.axes
    )


def _tile(axis: AxisResult) -> str:
    c = axis.comparison
    mood = "good" if axis.verdict in GOOD else "bad" if axis.verdict in BAD else ""
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


def _resources(pair: Pair) -> str:
    """Which resource is accelerated and which is not."""
    words = acceleration_sentence(pair)
    return f'<p class="resources">{html.escape(words)}</p>' if words else ""


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
        f"Cost to the threshold, {' over '.join(result.sides)}"
        if result.threshold is not None
        else f"Cost of the budget, {' over '.join(result.sides)}"
    )
    counts = "; ".join(f"{pair.hybrid} / {pair.opponent}: {pair.n} seeds each" for pair in result.pairs)
    return plot("ratios", title, 90 + 52 * rows, note=f"Bars: 95 % intervals, paired by seed. {counts}.")


def _agent_legend(result: StudyResult, solved: bool) -> str:
    items = []
    for index, agent in enumerate(result.agents):
        colour, dash = figures.agent_style(index)
        stroke = f'stroke="var(--a{colour})" stroke-width="3" stroke-dasharray="{figures.DASHES[dash][1]}"'
        line = f'<line x1="1" y1="6" x2="37" y2="6" {stroke}/>'
        items.append(
            '<li><svg width="38" height="12" style="flex:none" '
            f'aria-hidden="true">{line}</svg>{figures.agent_label(agent, solved)}</li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


_MACHINE_KEY = (
    '<p class="lead">Squares are the clamped nodes of state, action and bias, circles the hidden units; colours say '
    "what a unit sees, grey neither.</p>"
    '<ul class="legend">'
    + "".join(
        f'<li><svg width="14" height="14" aria-hidden="true"><circle cx="7" cy="7" r="6.5" fill="{colour}"/></svg>'
        f"{words}</li>"
        for colour, words in ((STATE, "sees the state"), (ACTION, "sees the action"), (BOTH, "sees both"))
    )
    + "</ul>"
)


def _drawing_head(drawing: Drawing) -> str:
    return f'<h3>{_names(drawing)}</h3><p class="note">{html.escape(drawing.caption)}</p>'


def _names(drawing: Drawing) -> str:
    return html.escape(", ".join(drawing.agents))


def _noted(grid: Grid, kind: str, caption: bool = True) -> str:
    """A card with a table, and the table's note below."""
    return f'<div class="card">{table(grid, kind, caption)}</div><p class="note">{html.escape(grid.note)}</p>'


def _figures_grid(prefix: str, axes: Sequence[str], height: int) -> str:
    cards = [
        plot(f"{prefix}-{axis}", f"Against {axis}", height, wide=(axis == "interactions" or len(axes) == 2))
        for axis in axes
    ]
    return f'<div class="figures-grid">{"".join(cards)}</div>'


def _seed_counts(result: StudyResult) -> str:
    counts = sorted({agent.n for agent in result.agents})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{many} seeds an agent"


def _stage(n: int) -> str:
    return f"too few seeds: {n}" if n < MINIMUM_FOR_VERDICT else f"development, {n} seeds"
