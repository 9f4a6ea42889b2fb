"""When one agent outperforms another: the one definition, for every resource and every score.

The costs of two agents are compared by the bootstrap of the logarithm of their ratio, scores by that of their
difference, paired where both agents ran the same seeds. One agent outperforms the other where both sides have at least
`MINIMUM_FOR_VERDICT` seeds, the 95 % interval leaves out equality, and the p-value is below `SIGNIFICANCE` after
Holm's correction over the whole table it stands in. A censored cost enters no ratio: see `_cell`.

Costs are the expected cost of reaching the threshold, by resource, and the sample complexity at each cell of its grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from qrl.study.costs import AXES, Axis
from qrl.study.sample_complexity import Complexity, Successes, complexity_grid
from qrl.study.statistics import (
    DRAWS,
    MINIMUM_FOR_INTERVAL,
    Array,
    Comparison,
    Estimate,
    compare_bootstrap,
    compare_draws,
    holm,
    iqm,
    probability_of_improvement,
    resampling_counts,
)
from qrl.study.survival import expected_cost

if TYPE_CHECKING:
    from qrl.study.comparison import AgentResult

Verdict = Literal[
    "faster", "slower", "higher", "lower", "not distinguishable", "too few seeds", "unavailable"
]
DECIDED: tuple[Verdict, ...] = ("slower", "lower", "faster", "higher")

MINIMUM_FOR_VERDICT = 5
"""Fewest seeds for a verdict: with 3 or 4 the interval calls 29 % or 11 % of equal agents different."""
SIGNIFICANCE = 0.05

NEITHER = "neither agent reached the threshold in any run"
UNRECORDED = "not recorded for both agents"
BOTH_CENSORED = "no ratio: the budget censors both"

BY_DEFAULT: tuple[Axis, ...] = ("interactions", "seconds", "joules")


@dataclass(frozen=True, slots=True)
class Scores:
    """One agent's ended runs as arrays `(n,)`, in the order of `seeds`; costs by axis.

    `reached` says which of them are near the optimum when, on the looks that all agents have in common.
    """

    name: str
    seeds: tuple[int, ...]
    solved: NDArray[np.bool_]
    spent: Mapping[str, Array]
    total: Mapping[str, Array]
    final_return: Array
    mean_return: Array
    reached: Successes | None = None

    def rows(self, seeds: Sequence[int]) -> list[int]:
        """Positions of these seeds."""
        return [self.seeds.index(seed) for seed in seeds]

    def of(self, seeds: Sequence[int]) -> Scores:
        """The same of these seeds alone."""
        rows = self.rows(seeds)
        return Scores(
            self.name,
            tuple(seeds),
            self.solved[rows],
            {axis: values[rows] for axis, values in self.spent.items()},
            {axis: values[rows] for axis, values in self.total.items()},
            self.final_return[rows],
            self.mean_return[rows],
            None if self.reached is None else self.reached.rows(rows),
        )


@dataclass(frozen=True, slots=True)
class AxisResult:
    """One axis of one pair: `comparison` is hybrid over opponent (`form` ratio) or hybrid minus opponent.

    `label` names the axis in words; `p_holm` is adjusted for the number of comparisons of the table;
    `verdict` speaks of the hybrid; `note` says what the numbers alone do not. `censored` says of each side whether the
    budget cuts its cost off.
    """

    axis: str
    label: str
    form: Literal["ratio", "difference"]
    comparison: Comparison
    p_holm: float | None = None
    verdict: Verdict = "not distinguishable"
    note: str = ""
    censored: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, slots=True)
class CellResult:
    """One cell of the grid of one pair: the sample complexities of hybrid and opponent, and their ratio, tested."""

    hybrid: Complexity
    opponent: Complexity
    test: AxisResult


@dataclass(frozen=True, slots=True)
class Pair:
    """A hybrid agent against a classical one; `n` seeds a side, `improvement` on final returns.

    `grid` holds the cells of the sample complexity, epsilon by epsilon; it is empty where scores have no scale.
    """

    hybrid: str
    opponent: str
    is_twin: bool
    has_threshold: bool
    n: int
    paired: bool
    axes: tuple[AxisResult, ...]
    improvement: Estimate
    grid: tuple[CellResult, ...] = ()

    def axis(self, name: str) -> AxisResult:
        """The result on one axis; KeyError if it was not compared."""
        return {result.axis: result for result in self.axes}[name]


def scores_of(agent: AgentResult) -> Scores:
    """An agent's ended runs as arrays."""
    axes = [axis for axis in AXES if axis in agent.total]
    return Scores(
        name=agent.name,
        seeds=tuple(outcome.seed for outcome in agent.outcomes),
        solved=np.array([outcome.solved for outcome in agent.outcomes], dtype=bool),
        spent={axis: np.array([o.spent[axis] for o in agent.outcomes]) for axis in axes},
        total={axis: np.array([o.costs.total[axis] for o in agent.outcomes]) for axis in axes},
        final_return=np.array([outcome.final_return for outcome in agent.outcomes]),
        mean_return=agent.mean_returns,
        reached=agent.reached,
    )


def outperforms(
    a: Scores, b: Scores, *, has_threshold: bool, joules_kind: str = "modelled", score: str = "return"
) -> Pair:
    """Whether, and in what, agent `a` outperforms agent `b`: verdicts on every axis and every cell of the grid.

    A verdict of `faster` or `higher` says that it does, `slower` or `lower` that it is outperformed. p-values are
    adjusted for the comparisons of this pair alone; a study adjusts them for all of its pairs.
    """
    pair = compare_pair(
        a, b, is_twin=False, has_threshold=has_threshold, joules_kind=joules_kind, score=score
    )
    return correct_for_number([pair])[0][0]


def compare_pair(
    hybrid: Scores,
    opponent: Scores,
    *,
    is_twin: bool,
    has_threshold: bool,
    joules_kind: str,
    score: str = "return",
) -> Pair:
    """The comparisons of two agents before any verdict, paired by their common seeds where they have any.

    With a threshold the ratio is that of expected costs to it; without one, of interquartile means of whole
    runs in seconds and joules (interactions are then equal by design). Executions are compared where both agents have
    some. Returns are compared by difference.
    """
    common = [seed for seed in hybrid.seeds if seed in opponent.seeds]
    paired = bool(common)
    ours, theirs = (hybrid.of(common), opponent.of(common)) if paired else (hybrid, opponent)
    n = min(len(ours.seeds), len(theirs.seeds))
    axes: list[AxisResult] = []
    for axis in _cost_axes(ours, theirs, has_threshold):
        label = f"{joules_kind} joules" if axis == "joules" else axis.replace("_", " ")
        if axis not in ours.spent or axis not in theirs.spent:
            nothing = Comparison(None, None, None, n, None, paired)
            axes.append(AxisResult(axis, label, "ratio", nothing, None, "unavailable", UNRECORDED))
        elif has_threshold:
            axes.append(_to_threshold(axis, label, ours, theirs, paired))
        else:
            ratio = compare_bootstrap(
                iqm, (ours.total[axis],), (theirs.total[axis],), form="ratio", paired=paired
            )
            axes.append(AxisResult(axis, f"{label} for the budget", "ratio", ratio))
    for name, label in (("final_return", f"final {score}"), ("mean_return", f"{score} over training")):
        values = (getattr(ours, name),), (getattr(theirs, name),)
        difference = compare_bootstrap(iqm, *values, form="difference", paired=paired)
        axes.append(AxisResult(name, label, "difference", difference))
    improvement = (
        probability_of_improvement(ours.final_return, theirs.final_return)
        if n
        else Estimate(None, None, None, 0)
    )
    grid = compare_grids(ours, theirs, paired)
    return Pair(hybrid.name, opponent.name, is_twin, has_threshold, n, paired, tuple(axes), improvement, grid)


def _cost_axes(ours: Scores, theirs: Scores, has_threshold: bool) -> list[Axis]:
    """The usual axes, and executions where both agents have some: against an agent without, a ratio says nothing."""
    used = [
        axis
        for axis in AXES
        if axis not in BY_DEFAULT and all(np.any(side.total.get(axis, 0)) for side in (ours, theirs))
    ]
    return [*(BY_DEFAULT if has_threshold else BY_DEFAULT[1:]), *used]


def _to_threshold(axis: str, label: str, hybrid: Scores, opponent: Scores, paired: bool) -> AxisResult:
    ours, other = hybrid.solved, opponent.solved
    ratio = compare_bootstrap(
        expected_cost,
        (hybrid.spent[axis], ours),
        (opponent.spent[axis], other),
        form="ratio",
        paired=paired,
    )
    reached = f"{hybrid.name} reached the threshold in {ours.sum()} of {len(ours)} runs, "
    reached += f"{opponent.name} in {other.sum()} of {len(other)}"
    note = ""
    if not ours.any() and not other.any():
        note = NEITHER
    elif not (ours.any() and other.any()):
        note = reached
    if ratio.p_value is not None and bool(ours.any()) != bool(other.any()):
        # One side has no cost of success at all; whether that is chance is a question about counts.
        ratio = replace(ratio, p_value=_fisher(ours, other))
    return AxisResult(axis, label, "ratio", ratio, note=note)


def compare_grids(
    ours: Scores, theirs: Scores, paired: bool, *, draws: int = DRAWS, seed: int = 0
) -> tuple[CellResult, ...]:
    """The ratios of sample complexities at every cell, before any verdict; none where scores have no scale."""
    a, b = ours.reached, theirs.reached
    if a is None or b is None or not (ours.seeds and theirs.seeds):
        return ()
    rng = np.random.default_rng(seed)
    counts = resampling_counts(len(ours.seeds), draws, rng)
    other = counts if paired else resampling_counts(len(theirs.seeds), draws, rng)
    drawn = a.complexities(counts).reshape(-1, draws), b.complexities(other).reshape(-1, draws)
    cells = zip(complexity_grid(a), complexity_grid(b), *drawn, strict=True)
    n_probabilities = len(drawn[0]) // len(a.flags)
    return tuple(
        _cell(
            mine,
            their,
            x,
            y,
            paired,
            (a.flags[k // n_probabilities, :, -1], b.flags[k // n_probabilities, :, -1]),
        )
        for k, (mine, their, x, y) in enumerate(cells)
    )


def _cell(
    ours: Complexity,
    theirs: Complexity,
    mine: Array,
    their: Array,
    paired: bool,
    ends: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> CellResult:
    """One cell from the draws of both complexities, and from which runs are near the optimum at the last look (`ends`).

    A censored complexity enters no ratio. Where the budget censors one side alone, the order of the two is still known:
    the one that the budget does not cut is the smaller. Whether that is chance is asked of complexities cut at the
    budget, which cannot turn the order; and where one side is never near the optimum often enough, of counts.
    """
    censored, n = (ours.censored, theirs.censored), min(ours.n, theirs.n)
    label = f"ε = {ours.epsilon:g}, success probability {ours.success_probability:g}"
    comparison, note = Comparison(None, None, None, n, None, paired), ""
    if n >= MINIMUM_FOR_INTERVAL and not all(censored):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = float(np.divide(ours.value or 0.0, theirs.value or 0.0))
            comparison = compare_draws(ratio, mine / their, form="ratio", n=n, paired=paired)
    if all(censored):
        note = BOTH_CENSORED
    elif any(censored):
        side, bound = ("hybrid", ours) if censored[0] else ("opponent", theirs)
        note = f"no ratio: {side} ≥ {bound.value:,.0f}"
        ahead, behind = ends[::-1] if censored[0] else ends
        p_value = comparison.p_value
        if p_value is not None and math.isinf(bound.first_crossing):
            p_value = _fisher(ahead, behind) if ahead.mean() > behind.mean() else 1.0
        elif p_value is not None and ((comparison.value or 0.0) > 1.0) != censored[0]:
            p_value = 1.0
        comparison = Comparison(None, None, None, n, p_value, paired)
    test = AxisResult("sample_complexity", label, "ratio", comparison, note=note, censored=censored)
    return CellResult(ours, theirs, test)


def _fisher(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """Two-sided p-value of Fisher's exact test for two shares of runs."""
    from scipy.stats import fisher_exact

    table = [[int(side.sum()), int((~side).sum())] for side in (ours, theirs)]
    return float(fisher_exact(table).pvalue)


def correct_for_number(pairs: Sequence[Pair]) -> tuple[tuple[Pair, ...], int]:
    """Adjust p-values by Holm's method and give verdicts; also the number of comparisons on axes.

    Two families: the axes of all pairs, and the cells of the grid of all pairs.
    """
    axes, n_axes = _decided([pair.axes for pair in pairs], [pair.n for pair in pairs])
    cells, _ = _decided([[c.test for c in pair.grid] for pair in pairs], [pair.n for pair in pairs])
    decided = []
    for pair, results, tests in zip(pairs, axes, cells, strict=True):
        grid = tuple(replace(c, test=t) for c, t in zip(pair.grid, tests, strict=True))
        decided.append(replace(pair, axes=results, grid=grid))
    return tuple(decided), n_axes


def _decided(
    groups: Sequence[Sequence[AxisResult]], seeds: Sequence[int]
) -> tuple[list[tuple[AxisResult, ...]], int]:
    """One family of comparisons with verdicts, in groups of `seeds` runs a side; and how many have a p-value."""
    raw = [r.comparison.p_value for group in groups for r in group if r.comparison.p_value is not None]
    adjusted = iter(holm(raw))
    return [
        tuple(
            _with_verdict(r, None if r.comparison.p_value is None else next(adjusted), len(raw), n)
            for r in group
        )
        for group, n in zip(groups, seeds, strict=True)
    ], len(raw)


def _with_verdict(result: AxisResult, p_holm: float | None, n_comparisons: int, n: int) -> AxisResult:
    if result.note == UNRECORDED:
        return result
    note = result.note
    verdict: Verdict = "not distinguishable"
    if n < MINIMUM_FOR_VERDICT:
        verdict = "too few seeds"
    elif (seen := _seen(result)) is not None:
        if p_holm is not None and p_holm < SIGNIFICANCE:
            verdict = seen
        elif not any(result.censored):
            note = f"{note}; " if note else ""
            note += f"{seen} alone, but not after Holm's correction for {n_comparisons} comparisons"
    return replace(result, p_holm=p_holm, verdict=verdict, note=note)


def _seen(result: AxisResult) -> Verdict | None:
    """What the interval says, or which side alone is censored, before any correction; None where it says nothing."""
    comparison = result.comparison
    below: Verdict = "faster" if result.form == "ratio" else "lower"
    above: Verdict = "slower" if result.form == "ratio" else "higher"
    if any(result.censored):
        return None if all(result.censored) else above if result.censored[0] else below
    if comparison.low is None or comparison.high is None or comparison.value is None:
        return None
    null = 1.0 if result.form == "ratio" else 0.0
    return below if comparison.high < null else above if comparison.low > null else None
