"""How many seeds a difference needs: the test that will be made, simulated on runs that are already there.

Runs of the study are drawn with replacement as if they were new seeds, the first agent's costs are scaled (or its
scores shifted) until the true effect is the one asked for, and the test of `qrl.study.outperforms` is made. The power
at a number of seeds is the share of such studies in which it decides for the right side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qrl.errors import InputError
from qrl.study.comparison import StudyResult
from qrl.study.costs import AXES
from qrl.study.outperforms import MINIMUM_FOR_VERDICT, SIGNIFICANCE, Scores, scores_of
from qrl.study.pairs import short
from qrl.study.statistics import Array, compare_draws, iqm
from qrl.study.survival import expected_cost
from qrl.study.table import Cell, Grid

STUDIES = 1_000
"""Simulated studies at each number of seeds: the power has a standard error of at most 1.6 %."""
DRAWS = 1_000
"""Bootstrap draws of the test in a simulated study."""
SEEDS = (5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 200)
"""Numbers of seeds that are tried."""
SCORE_AXES = ("final_return", "mean_return")


@dataclass(frozen=True, slots=True)
class Plan:
    """What an effect on one axis needs: `power` `(k,)` at `seeds` `(k,)` a side, the smallest that suffice `needed`.

    `observed` is the effect in the study itself, `effect` the one planned for: a ratio of costs, second agent over
    first, or a difference of scores, first minus second. `needed` is None where no number tried suffices.
    """

    first: str
    second: str
    axis: str
    effect: float
    observed: float
    comparisons: int
    n_runs: int
    seeds: tuple[int, ...]
    power: tuple[float, ...]
    needed: int | None


def seeds_needed(
    first: Scores,
    second: Scores,
    *,
    axis: str = "interactions",
    effect: float,
    power: float = 0.8,
    comparisons: int = 1,
    seeds: Sequence[int] = SEEDS,
    studies: int = STUDIES,
    seed: int = 0,
) -> Plan:
    """How many seeds a side show, with probability `power`, that the first agent outperforms the second by `effect`.

    On a cost axis (`interactions`, `seconds`, `joules`, `executions`, `hardware_executions`) the effect is the ratio of
    expected costs to the threshold, second over first, above 1; on `final_return` and `mean_return` it is the
    difference of interquartile means, first minus second, above 0. Costs of runs that never reached the threshold are
    scaled like all others, so that the share of solved runs stays what it is. `comparisons` is the number of tests that
    Holm's method will adjust for: p-values below 0.05 over that number count, which is what it asks of the smallest.
    Runs are drawn by seed for both agents where they share seeds.

    Raises InputError for an axis without data, an effect that is none, a power outside (0, 1), or runs too few or too
    unsuccessful to simulate from.

    Source: own construction.
    """
    _check(first, second, axis, effect, power)
    common = [s for s in first.seeds if s in second.seeds]
    a, b = (first.of(common), second.of(common)) if common else (first, second)
    if min(len(a.seeds), len(b.seeds)) < MINIMUM_FOR_VERDICT:
        n = min(len(a.seeds), len(b.seeds))
        raise InputError(
            "seeds", n, "are too few to simulate from", f"run at least {MINIMUM_FOR_VERDICT} first"
        )
    mine, theirs, observed = _with_effect(a, b, axis, effect)
    level, rng = SIGNIFICANCE / comparisons, np.random.default_rng(seed)
    found: list[float] = []
    tried: list[int] = []
    for n in seeds:
        tried.append(n)
        found.append(_power(mine, theirs, axis, n, bool(common), level, studies, rng))
        if found[-1] >= power:
            break
    needed = tried[-1] if found[-1] >= power else None
    return Plan(
        a.name, b.name, axis, effect, observed, comparisons, len(a.seeds), tuple(tried), tuple(found), needed
    )


def plan_study(
    result: StudyResult, *, axis: str, effect: float, power: float = 0.8
) -> tuple[list[Plan], list[str]]:
    """A plan for every pair of a study, p-values adjusted for its number of comparisons; and why a pair has none.

    Raises InputError where there is no pair, or none can be planned with.
    """
    plans, reasons, last = [], [], None
    for pair in result.pairs:
        sides = scores_of(result.agent(pair.hybrid)), scores_of(result.agent(pair.opponent))
        try:
            plans.append(
                seeds_needed(
                    *sides, axis=axis, effect=effect, power=power, comparisons=max(1, result.n_comparisons)
                )
            )
        except InputError as error:
            last = error
            reasons.append(f"{pair.hybrid} against {pair.opponent}: {error}")
    if not plans:
        if last is not None:
            raise last
        raise InputError(
            "DIR", str(result.directory), "holds no pair of agents", "compare two agents in a study"
        )
    return plans, reasons


def plan_grid(result: StudyResult, plans: Sequence[Plan], power: float) -> Grid:
    """The plans of a study as a table: one row a pair, the power at each number of seeds tried."""
    tried = sorted({n for plan in plans for n in plan.seeds})
    axis, score = plans[0].axis, plans[0].axis in SCORE_AXES
    what = (
        f"a difference of {plans[0].effect:g} in {axis.replace('_', ' ')}"
        if score
        else (f"a ratio of {plans[0].effect:g} in {axis.replace('_', ' ')} to the threshold")
    )
    rows = []
    for plan in plans:
        reached = dict(zip(plan.seeds, plan.power, strict=True))
        needed = f"> {max(plan.seeds)}" if plan.needed is None else f"{plan.needed}"
        cells = [Cell(needed), Cell(short(plan.observed), f"{plan.n_runs} seeds")]
        cells += [Cell(f"{reached[n]:.2f}" if n in reached else "") for n in tried]
        rows.append((Cell(f"{plan.first} over {plan.second}"), tuple(cells)))
    columns = [Cell("Seeds needed", "a side"), Cell("Observed", "difference" if score else "second / first")]
    return Grid(
        title=f"{result.name}: seeds that show {what} with probability {power:g}",
        columns=tuple(columns + [Cell(str(n)) for n in tried]),
        rows=tuple(rows),
        note=f"Power at each number of seeds, from {STUDIES:,} simulated studies whose runs are drawn from this one "
        f"and scaled to the effect; p must stay below {SIGNIFICANCE:g} / {plans[0].comparisons}, as Holm's method asks "
        "of the smallest.",
    )


def _check(first: Scores, second: Scores, axis: str, effect: float, power: float) -> None:
    known = [*AXES, *SCORE_AXES]
    if axis not in known:
        raise InputError("axis", axis, "is not compared", f"use one of {', '.join(known)}")
    least = 0.0 if axis in SCORE_AXES else 1.0
    if not effect > least or not math.isfinite(effect):
        kind = "a difference above 0" if axis in SCORE_AXES else "a ratio above 1"
        raise InputError("effect", effect, "is no effect to look for", f"give {kind}")
    if not 0.0 < power < 1.0:
        raise InputError("power", power, "is not between 0 and 1", "use e.g. 0.8")
    for side in (first, second):
        if axis not in SCORE_AXES and axis not in side.spent:
            raise InputError("axis", axis, f"was not recorded for {side.name}", "plan with another one")


Columns = tuple[Array, ...]


def _with_effect(a: Scores, b: Scores, axis: str, effect: float) -> tuple[Columns, Columns, float]:
    """The columns of both agents, the first's scaled or shifted so that the effect is true; and the observed effect."""
    if axis in SCORE_AXES:
        x, y = getattr(a, axis), getattr(b, axis)
        observed = float(iqm(x) - iqm(y))
        return (x + (effect - observed),), (y,), observed
    for side in (a, b):
        if not side.solved.any() or float(expected_cost(side.spent[axis], side.solved)) == 0.0:
            raise InputError(
                "axis",
                axis,
                f"has no cost to scale: {side.name} reached the threshold never or at once",
                "use a score",
            )
    mine, theirs = (side.solved.astype(np.float64) for side in (a, b))
    observed = float(expected_cost(b.spent[axis], theirs) / expected_cost(a.spent[axis], mine))
    return (a.spent[axis] * observed / effect, mine), (b.spent[axis], theirs), observed


def _power(
    mine: Columns,
    theirs: Columns,
    axis: str,
    n: int,
    paired: bool,
    level: float,
    studies: int,
    rng: np.random.Generator,
) -> float:
    """Share of simulated studies of n seeds a side in which the test decides for the first agent."""
    rows = rng.integers(0, len(mine[0]), (studies, n))
    columns = rows if paired else rng.integers(0, len(theirs[0]), (studies, n))
    picks = rng.integers(0, n, (DRAWS, n))
    others = picks if paired else rng.integers(0, n, (DRAWS, n))
    form: Literal["ratio", "difference"] = "difference" if axis in SCORE_AXES else "ratio"
    values = (
        _statistic(tuple(c[rows] for c in mine), None),
        _statistic(tuple(c[columns] for c in theirs), None),
    )
    decided = 0
    for k in range(studies):
        ours = _statistic(tuple(c[rows[k]] for c in mine), picks)
        other = _statistic(tuple(c[columns[k]] for c in theirs), others)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = ours - other if form == "difference" else ours / other
            value = values[0][k] - values[1][k] if form == "difference" else values[0][k] / values[1][k]
        test = compare_draws(float(value), drawn, form=form, n=n, paired=paired)
        low, high = test.low or 0.0, math.inf if test.high is None else test.high
        apart = high < 1.0 if form == "ratio" else low > 0.0
        decided += bool(apart and test.p_value is not None and test.p_value < level)
    return decided / studies


def _statistic(columns: Columns, picks: NDArray[np.int64] | None) -> Array:
    """Expected cost of columns `(cost, solved)` or interquartile mean of one of scores, resampled by `picks`."""
    drawn = columns if picks is None else tuple(column[picks] for column in columns)
    return expected_cost(*drawn) if len(drawn) == 2 else iqm(drawn[0])
