"""The study's table, once as data and then in the terminal; the report renders the same data as HTML."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qrl.study.comparison import PERCENTILES, AgentResult, StudyResult
from qrl.study.costs import ASSUMED_READS, annealer_time
from qrl.study.outperforms import AxisResult, Pair
from qrl.study.pairs import acceleration_sentence, headlined, p_text, short
from qrl.study.sample_complexity import EPISODES, Complexity
from qrl.study.score import label
from qrl.study.statistics import Estimate

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


MOST_LOOKS = 10
MOST_COLUMNS = 8
"""More agents than this stand in rows."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A value and, under it, what qualifies it: interval, kind, count."""

    main: str
    sub: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as data: `columns` without the label column, `rows` of a label cell and one cell a column."""

    title: str
    columns: tuple[Cell, ...]
    rows: tuple[tuple[Cell, tuple[Cell, ...]], ...]
    note: str

    @property
    def transposed(self) -> Grid:
        """The same with rows and columns exchanged."""
        rows = [(column, tuple(cells[k] for _, cells in self.rows)) for k, column in enumerate(self.columns)]
        return Grid(self.title, tuple(label for label, _ in self.rows), tuple(rows), self.note)


def agent_grid(result: StudyResult) -> Grid:
    """Agents side by side: one column an agent, one row a quantity; the other way round for many agents."""
    kinds = {agent.joules_kind for agent in result.agents}
    common = kinds.pop() if len(kinds) == 1 else ""  # one kind for all stands in the label, else in each cell

    many = len(result.agents) > MOST_COLUMNS

    def named(what: str, goal: str, how: str) -> Cell:
        # what heads a column is kept short
        return Cell(what, f"{goal}, {how}") if many else Cell(f"{what} {goal}", how)

    def to_threshold(axis: str) -> Callable[[AgentResult], Cell]:
        return lambda a: estimate_cell(
            a.to_threshold.get(axis), "" if axis != "joules" or common else a.joules_kind
        )

    def in_all(axis: str) -> Callable[[AgentResult], Cell]:
        return lambda a: estimate_cell(a.total.get(axis), "" if axis != "joules" or common else a.joules_kind)

    makers: list[tuple[Cell, Callable[[AgentResult], Cell]]] = [
        (Cell("Seeds"), _seeds),
        (Cell("Parameters", "trainable") if many else Cell("Trainable parameters"), _parameters),
        (Cell(f"Final {label(result.measure)}", "IQM"), lambda a: estimate_cell(a.final_return)),
    ]
    goal, spend = ("to threshold", to_threshold) if result.threshold is not None else ("a run", in_all)
    runs, hardware = _what_runs(result)
    per, joules = ("ERT" if goal == "to threshold" else "IQM"), f", {common}" if common else ""
    if result.threshold is not None:
        makers += [
            (Cell("Solved", "and confirmed"), lambda a: Cell(f"{a.n_solved} of {a.n}")),
            (named("Interactions", goal, "median (Kaplan-Meier)"), lambda a: _median(a, result.budget)),
        ]
    else:
        makers.append(
            (
                Cell(f"{label(result.measure).capitalize()} over training", "IQM"),
                lambda a: estimate_cell(a.mean_return),
            )
        )
    makers += [
        (named("Seconds", goal, per), spend("seconds")),
        (named("Joules", goal, f"{per}{joules}"), spend("joules")),
        (named(runs, goal, f"{per}, executed"), spend("executions")),
        (named(runs, goal, f"{per}, on hardware"), spend("hardware_executions")),
    ]
    annealed = any(annealer_time(agent.spec, 0) for agent in result.agents)
    if annealed:
        makers.append((Cell("On an annealer, modelled", f"seconds {goal}"), _on_an_annealer(goal == "a run")))
    if result.threshold is not None:
        makers += [
            (named("Seconds", "a run", "IQM"), in_all("seconds")),
            (named("Joules", "a run", f"IQM{joules}"), in_all("joules")),
        ]
    grid = Grid(
        title=_title(result),
        columns=tuple(Cell(agent.name, agent.description) for agent in result.agents),
        rows=tuple((label, tuple(maker(agent) for agent in result.agents)) for label, maker in makers),
        note=(
            "Under each value: its 95 % interval over seeds. IQM: interquartile mean. ERT: cost of all runs "
            "over the number of successes. Costs are those of "
            f"training, evaluation excluded. On hardware: what {hardware} would have run, gradients "
            f"included.{_ANNEALED if annealed else ''}"
        ),
    )
    return grid.transposed if many else grid


def pair_grid(result: StudyResult, pair: Pair) -> Grid:
    """One hybrid agent against an opponent: one row an axis."""
    goal = "cost to threshold, " if pair.has_threshold else ""
    who = f"its classical twin, {pair.opponent}" if pair.is_twin else pair.opponent
    rows = [(Cell(axis.label), _axis_cells(axis)) for axis in pair.axes]
    rows.append((Cell(f"P(higher final {label(result.measure)})"), _improvement_cells(pair)))
    return Grid(
        title=f"{pair.hybrid} against {who} ({goal}{pair.n} seed{'s' if pair.n != 1 else ''} each)",
        columns=(Cell("verdict"), Cell("value"), Cell("95 % interval"), Cell("p")),
        rows=tuple(rows),
        note=(
            f"Costs as ratios: below 1 the {result.sides[0]} needs less. Scores as differences: above 0 the "
            f"{result.sides[0]} is better. "
            f"p is adjusted for {result.n_comparisons} comparisons (Holm); a verdict needs an interval "
            "without equality and p < 0.05."
        ),
    )


def look_grid(result: StudyResult) -> Grid | None:
    """The share of runs at or above the threshold at each evaluation, untrained ones first; none without a threshold.

    Looks between the first and last are thinned out to at most `MOST_LOOKS`.
    """
    counts = max((agent.grid for agent in result.agents if len(agent.grid)), key=len, default=None)
    if result.threshold is None or counts is None:
        return None
    shown = np.unique(np.linspace(0, len(counts) - 1, min(len(counts), MOST_LOOKS)).round().astype(int))
    rows = []
    for agent in result.agents:
        if len(agent.grid) != len(counts):
            continue
        reached = (agent.curves >= result.threshold).sum(axis=0)
        cells = [Cell(f"{reached[k] / agent.n:.2f}", _wilson(int(reached[k]), agent.n)) for k in shown]
        rows.append((Cell(agent.name, agent.description), tuple(cells)))
    return Grid(
        title=f"Share of seeds at {level(result)} or above, by interactions",
        columns=tuple(Cell(f"{counts[k]:,.0f}") for k in shown),
        rows=tuple(rows),
        note="Under each share: its 95 % interval (Wilson). A look of its own each: a run can fall below again.",
    )


def complexity_table(result: StudyResult) -> Grid | None:
    """Sample complexity of each agent at each cell of the grid; none where scores have no scale.

    Agents stand in columns; in rows where there are many.
    """
    agents = [agent for agent in result.agents if agent.complexity]
    if not agents:
        return None
    rows = [
        (_cell_name(first), tuple(_complexity_cell(agent.complexity[k]) for agent in agents))
        for k, first in enumerate(agents[0].complexity)
    ]
    assert result.scale is not None
    episodes = int(result.recipe["budget"].get("evaluation_episodes", EPISODES))
    few = (
        f" Development figures: {episodes} episodes a look, {EPISODES} are wanted."
        if episodes < EPISODES
        else ""
    )
    grid = Grid(
        title="Sample complexity: interactions before every look at which too few runs are near the optimum",
        columns=tuple(Cell(agent.name, f"{agent.n} seeds") for agent in agents),
        rows=tuple(rows),
        note=(
            "A run is near the optimum where its normalised score exceeds 1 - ε; the percentage is the share of runs "
            f"that must be. {result.scale.words}. All failing looks count; where the first success came earlier than "
            "the complexity says, the agent relapsed. Under each value: its 90 % interval, whole runs resampled. "
            f"≥: the budget cuts it off, a lower bound.{few}"
        ),
    )
    return grid.transposed if len(agents) > MOST_COLUMNS else grid


def crossing_table(result: StudyResult) -> Grid | None:
    """The first look at which enough runs are near the optimum, relapses not charged; none without a scale."""
    agents = [agent for agent in result.agents if agent.complexity]
    if not agents:
        return None
    rows = [
        (_cell_name(first), tuple(_crossing_cell(agent.complexity[k]) for agent in agents))
        for k, first in enumerate(agents[0].complexity)
    ]
    grid = Grid(
        title="First look at which enough runs are near the optimum",
        columns=tuple(Cell(agent.name, f"{agent.n} seeds") for agent in agents),
        rows=tuple(rows),
        note="In interactions, and without what later relapses cost: not the sample complexity.",
    )
    return grid.transposed if len(agents) > MOST_COLUMNS else grid


def spread_grid(result: StudyResult) -> Grid:
    """How far the runs of each agent spread: percentiles, what is missing to the optimum, and how many failed."""
    most = None if result.scale is None else result.scale.words
    rows = []
    for agent in result.agents:
        cells = [Cell(short(value)) for value in agent.percentiles] or [Cell("unavailable")] * len(
            PERCENTILES
        )
        cells.append(estimate_cell(agent.optimality_gap))
        cells.append(Cell(f"{len(agent.failures)} of {agent.n}"))
        if result.threshold is not None:
            cells.append(Cell(f"{agent.n - agent.n_solved} of {agent.n}"))
        rows.append((Cell(agent.name, agent.description), tuple(cells)))
    names = [Cell(f"{percent} %") for percent in PERCENTILES]
    names += [Cell("Optimality gap", "of the final score"), Cell("Failed", "or diverged")]
    names += [Cell("Never solved")] if result.threshold is not None else []
    gap = f" Optimality gap: mean of max(0, 1 - normalised score); {most}." if most else ""
    return Grid(
        title=f"Percentiles of the runs' final {label(result.measure)}",
        columns=tuple(names),
        rows=tuple(rows),
        note=f"Failed runs are counted, at the lowest {label(result.measure)} of the study.{gap}",
    )


def cells_grid(result: StudyResult, pair: Pair) -> Grid | None:
    """Ratios of sample complexities of one pair: one row a distance, one column a success probability."""
    if not pair.grid:
        return None
    epsilons = dict.fromkeys(cell.hybrid.epsilon for cell in pair.grid)
    probabilities = dict.fromkeys(cell.hybrid.success_probability for cell in pair.grid)
    rows = [
        (
            Cell(f"ε = {epsilon:g}"),
            tuple(_test_cell(c.test) for c in pair.grid if c.hybrid.epsilon == epsilon),
        )
        for epsilon in epsilons
    ]
    return Grid(
        title=f"{pair.hybrid} over {pair.opponent}: ratio of sample complexities",
        columns=tuple(Cell(f"{100 * p:g} % of runs") for p in probabilities),
        rows=tuple(rows),
        note=f"Under each verdict: ratio, 95 % interval, and p adjusted for {result.n_cells} comparisons (Holm). "
        "Where the budget cuts a complexity off (≥) there is no ratio, and p is that of the order of the two.",
    )


def attribution_grid(result: StudyResult) -> Grid | None:
    """What covers how much of the gap between two agents, where the recipe asks for it."""
    if not result.contributions:
        return None
    base, full = result.recipe["attribution"]["base"], result.recipe["attribution"]["full"]
    rows = tuple(
        (Cell(part.agent, part.has), (estimate_cell(part.score), estimate_cell(part.share)))
        for part in result.contributions
    )
    return Grid(
        title=f"What covers the gap between {base} and {full}",
        columns=(Cell(label(result.measure), "mean over training"), Cell("share of the gap")),
        rows=rows,
        note=f"0 is {base}, 1 is {full}. Intervals: 95 %, seeds resampled together. "
        "A share is unavailable where the gap may be none.",
    )


def _wilson(successes: int, n: int) -> str:
    """The 95 % interval of a share. Source: Wilson, J. Am. Stat. Assoc. 22, 209 (1927)."""
    z = 1.959964
    share, spread = successes / n, z * math.sqrt(successes * (n - successes) / n + z * z / 4)
    centre = (n * share + z * z / 2) / (n + z * z)
    low, high = (max(0.0, min(1.0, centre + sign * spread / (n + z * z))) for sign in (-1, 1))
    return f"{low:.2f} to {high:.2f}"


def level(result: StudyResult) -> str:
    """The threshold with what it is a level of, where that is not the return."""
    what = "" if result.measure == "return" else f"{label(result.measure)} "
    return f"{what}{result.threshold:g}"


def print_noted(grid: Grid, console: Console) -> None:
    """Print one table and its note on a rich console."""
    from rich.text import Text

    print_grid(grid, console)
    console.print(Text(grid.note, style="dim"))


def print_table(result: StudyResult, console: Console) -> None:
    """Print agents, pairs and verdict of a study on a rich console."""
    from rich.text import Text

    print_grid(agent_grid(result), console)
    console.print(Text(agent_grid(result).note, style="dim"))
    more = (look_grid(result), complexity_table(result), spread_grid(result), attribution_grid(result))
    for grid in filter(None, more):
        console.print()
        print_grid(grid, console)
        console.print(Text(grid.note, style="dim"))
    for pair in result.pairs:
        console.print()
        print_grid(pair_grid(result, pair), console)
        if (cells := cells_grid(result, pair)) is not None:
            print_grid(cells, console)
    if result.pairs:
        console.print(Text(pair_grid(result, result.pairs[0]).note, style="dim"))
        if (cells := cells_grid(result, result.pairs[0])) is not None:
            console.print(Text(cells.note, style="dim"))
    console.print()
    console.print(Text(result.headline, style="bold"))
    for pair in headlined(result.pairs):
        if sentence := acceleration_sentence(pair):
            console.print(Text(f"{pair.hybrid} against {pair.opponent}: {sentence}"))
    for line in claim_lines(result):
        console.print(Text(f"Claim {line}", style="bold"))
    for line in failure_lines(result):
        console.print(Text(line, style="yellow"))


def failure_lines(result: StudyResult) -> list[str]:
    """What went wrong, one line a run, and what is not there yet."""
    lines = [
        f"{agent.name}, seed {outcome.seed}: "
        f"{outcome.status}{f' ({outcome.reason})' if outcome.reason else ''}; counted at the "
        f"lowest {label(result.measure)} of the study, {short(result.floor)}"
        for agent in result.agents
        for outcome in agent.failures
    ]
    for agent in result.agents:
        if agent.unfinished:
            seeds = ", ".join(str(seed) for seed in agent.unfinished)
            lines.append(
                f"{agent.name}, seed {seeds}: unfinished; left out, run the study again to complete it"
            )
    return lines


def claim_lines(result: StudyResult) -> list[str]:
    """Each claim of the study: what came of it, on what that rests, and when it was hashed."""
    return [
        f"{j.name}: {j.verdict}. {j.claim.hypothesis} ({'; '.join(j.lines)}; {j.seal})" for j in result.claims
    ]


def estimate_cell(estimate: Estimate | None, sub: str = "") -> Cell:
    """An estimate with its interval, or with the reason why it has none."""
    if estimate is None or estimate.value is None:
        return Cell("unavailable")
    if math.isinf(estimate.value):
        return Cell("not reached", sub)
    if estimate.value == 0 and not estimate.high:
        return Cell("0", sub)
    if estimate.low is None or estimate.high is None:
        interval = f"no interval: {estimate.n} seed{'s' if estimate.n != 1 else ''}"
    else:
        interval = f"{short(estimate.low)} to {short(estimate.high)}"
    return Cell(short(estimate.value), f"{interval}{f', {sub}' if sub else ''}")


def _what_runs(result: StudyResult) -> tuple[str, str]:
    """What the executions of a study are of, and on what hardware they would run."""
    networks = [agent.spec.get(part) or {} for agent in result.agents for part in ("network", "critic")]
    kinds = {network.get("kind") for network in networks}
    if "boltzmann" not in kinds:
        return "Circuits", "a quantum computer"
    if "quantum" not in kinds:
        return "Sampler calls", "a quantum annealer"
    return "Circuits and sampler calls", "a quantum computer or annealer"


_ANNEALED = (
    " On an annealer: seconds of access that the calls on hardware would take by the maker's documented timing; "
    f"modelled, not measured. Reads of a call are those of the sampler's options, else assumed to be {ASSUMED_READS}; "
    "under the value the range of the documented overhead, not one over seeds. Network, queue and embedding would "
    "come on top, and no other number of this page contains it."
)


def _on_an_annealer(in_all: bool) -> Callable[[AgentResult], Cell]:
    """A maker of cells with the seconds that an annealer would take for an agent's calls, by a formula."""

    def cell(agent: AgentResult) -> Cell:
        if annealer_time(agent.spec, 0) is None:
            return Cell("none")
        calls = (agent.total if in_all else agent.to_threshold).get("hardware_executions")
        if calls is None or not calls.value or math.isinf(calls.value):
            return Cell(estimate_cell(calls).main)
        time = annealer_time(agent.spec, calls.value)
        return (
            Cell("0")
            if time is None
            else Cell(short(time.seconds), f"{short(time.low)} to {short(time.high)}")
        )

    return cell


def _title(result: StudyResult) -> str:
    goal = "" if result.threshold is None else f", threshold {level(result)}"
    return f"{result.name}: {result.recipe['environment']['id']}, {result.budget:,} interactions{goal}"


def _parameters(agent: AgentResult) -> Cell:
    counts = dict(agent.n_parameters)
    total = counts.pop("total", None)
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items()) if len(counts) > 1 else ""
    return Cell("unknown" if total is None else f"{total:,}", parts)


def _seeds(agent: AgentResult) -> Cell:
    parts = [f"{len(agent.failures)} failed"] if agent.failures else []
    parts += [f"{len(agent.unfinished)} unfinished"] if agent.unfinished else []
    stage = agent.final_return.stage
    return Cell(str(agent.n), ", ".join(parts + ([stage] if stage else [])))


def _median(agent: AgentResult, budget: int) -> Cell:
    median = agent.median_interactions
    if median is not None and median.value is not None and math.isinf(median.value) and agent.n_solved:
        low = f"{short(median.low)} to ∞" if median.low is not None else ""
        return Cell(f"> {budget:,}", low)
    return estimate_cell(median)


def _cell_name(cell: Complexity) -> Cell:
    return Cell(f"ε = {cell.epsilon:g}, {100 * cell.success_probability:g} %")


def _complexity_cell(cell: Complexity) -> Cell:
    """A complexity with its interval; a censored one as the lower bound that it is."""
    assert cell.value is not None
    if cell.censored:
        return Cell(f"≥ {cell.value:,.0f}")
    interval = f"no interval: {cell.n} seeds" if cell.low is None else f"{cell.low:,.0f} to {cell.high:,.0f}"
    return Cell(f"{cell.value:,.0f}", interval)


def _crossing_cell(cell: Complexity) -> Cell:
    return Cell("never" if math.isinf(cell.first_crossing) else f"{cell.first_crossing:,.0f}")


def _test_cell(test: AxisResult) -> Cell:
    """A verdict and, under it, its numbers or why it has none."""
    c, numbers = test.comparison, test.note
    if c.value is not None and c.low is not None and c.high is not None:
        numbers = f"{short(c.value)} ({short(c.low)} to {short(c.high)})"
    return Cell(test.verdict, numbers if test.p_holm is None else f"{numbers}, p {p_text(test.p_holm)}")


def _axis_cells(axis: AxisResult) -> tuple[Cell, ...]:
    c = axis.comparison
    sign = "+" if axis.form == "difference" and c.value is not None and c.value > 0 else ""
    value = "unknown" if c.value is None else sign + short(c.value)
    interval = "none" if c.low is None or c.high is None else f"{short(c.low)} to {short(c.high)}"
    p = "" if axis.p_holm is None or axis.verdict == "too few seeds" else p_text(axis.p_holm)
    return Cell(axis.verdict, axis.note), Cell(value), Cell(interval), Cell(p)


def _improvement_cells(pair: Pair) -> tuple[Cell, ...]:
    p = pair.improvement
    interval = "none" if p.low is None or p.high is None else f"{p.low:.2f} to {p.high:.2f}"
    return Cell(""), Cell("unknown" if p.value is None else f"{p.value:.2f}"), Cell(interval), Cell("")


def print_grid(grid: Grid, console: Console) -> None:
    """Print a grid, in parts below each other where it is wider than the console."""
    for part in _parts(grid, console.width):
        console.print(_rich(part, console.width))


def _parts(grid: Grid, most: int) -> list[Grid]:
    """A grid cut into groups of neighbouring columns that fit, one column at least."""
    groups: list[list[int]] = [[]]
    used = label = _label_width(grid) + _GAP
    for k in range(len(grid.columns)):
        width = _width(grid, k) + _GAP
        if groups[-1] and used + width > most:
            groups.append([])
            used = label
        groups[-1].append(k)
        used += width
    names = [name for name, _ in grid.rows]
    # further parts repeat the names alone, where these tell the rows apart
    again = [Cell(name.main) for name in names] if len({name.main for name in names}) == len(names) else names
    parts = []
    for group in groups:
        first = group is groups[0]
        rows = zip(names if first else again, (cells for _, cells in grid.rows), strict=True)
        parts.append(
            Grid(
                grid.title if first else "",
                tuple(grid.columns[k] for k in group),
                tuple((name, tuple(cells[k] for k in group)) for name, cells in rows),
                grid.note,
            )
        )
    return parts


_GAP, _MOST_LABEL = 3, 30  # between columns as rich sets them; longer labels take several lines


def _label_width(grid: Grid) -> int:
    return min(
        max((len(text) for name, _ in grid.rows for text in (name.main, name.sub)), default=0), _MOST_LABEL
    )


def _width(grid: Grid, index: int) -> int:
    """Characters that a column needs: no word and no value is ever cut short; an interval may take two lines."""
    column, cells = grid.columns[index], [cells[index] for _, cells in grid.rows]
    heading = [*column.main.split(), *column.sub.split()]
    body = [cell.main for cell in cells] + [word for cell in cells for word in cell.sub.split()]
    return min(max(map(len, [*heading, *body]), default=0), 20)


def _widths(grid: Grid, most: int) -> list[int]:
    """Width of each column: what it needs, and an equal part of the rest of the line until its texts fit in one."""
    widths = [_width(grid, k) for k in range(len(grid.columns))]
    spare = most - _label_width(grid) - _GAP - sum(width + _GAP for width in widths)
    whole = [
        max(
            len(text)
            for cell in (column, *(cells[k] for _, cells in grid.rows))
            for text in (cell.main, cell.sub)
        )
        for k, column in enumerate(grid.columns)
    ]
    while short_ones := [k for k, width in enumerate(widths) if width < whole[k]]:
        if spare < len(short_ones):
            break
        for k in short_ones:
            widths[k] += 1
        spare -= len(short_ones)
    return widths


def _rich(grid: Grid, most: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def text(cell: Cell, style: str = "") -> Text:
        return Text.assemble((cell.main, style), *([("\n" + cell.sub, "dim")] if cell.sub else []))

    table = Table(
        title=Text(grid.title, style="bold") if grid.title else None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    # rich would narrow columns by their share of the line, below what a word needs
    table.add_column("", width=_label_width(grid))
    for column, width in zip(grid.columns, _widths(grid, most), strict=True):
        table.add_column(text(column, "bold"), justify="right", width=width)
    for name, cells in grid.rows:
        table.add_row(text(name), *(text(cell, _style(cell)) for cell in cells))
    return table


_VERDICT_STYLE = {"faster": "green", "higher": "green", "slower": "red", "lower": "red"}


def _style(cell: Cell) -> str:
    return "dim" if cell.main.startswith("≥") else _VERDICT_STYLE.get(cell.main, "")
