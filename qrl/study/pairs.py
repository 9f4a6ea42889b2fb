"""Hybrid against classical: ratios with intervals on each axis, and the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qrl.study.costs import Axis
from qrl.study.statistics import (
    MINIMUM_FOR_RESULT,
    Array,
    Comparison,
    Estimate,
    compare_bootstrap,
    holm,
    iqm,
    probability_of_improvement,
)
from qrl.study.survival import expected_cost

Verdict = Literal[
    "faster", "slower", "higher", "lower", "not distinguishable", "too few seeds", "unavailable"
]
DECIDED: tuple[Verdict, ...] = ("slower", "lower", "faster", "higher")

MINIMUM_FOR_VERDICT = 5
"""Fewest seeds for a verdict: with 3 or 4 the interval calls 29 % or 11 % of equal agents different."""
SIGNIFICANCE = 0.05

NEITHER = "neither agent reached the threshold in any run"
UNRECORDED = "not recorded for both agents"

COST_AXES: tuple[Axis, ...] = ("interactions", "seconds", "joules")


@dataclass(frozen=True, slots=True)
class Scores:
    """One agent's ended runs as arrays `(n,)`, in the order of `seeds`; costs by axis."""

    name: str
    seeds: tuple[int, ...]
    solved: NDArray[np.bool_]
    spent: Mapping[str, Array]
    total: Mapping[str, Array]
    final_return: Array
    mean_return: Array

    def rows(self, seeds: Sequence[int]) -> list[int]:
        """Positions of these seeds."""
        return [self.seeds.index(seed) for seed in seeds]


@dataclass(frozen=True, slots=True)
class AxisResult:
    """One axis of one pair: `comparison` is hybrid over opponent (`form` ratio) or hybrid minus opponent.

    `label` names the axis in words; `p_holm` is adjusted for the number of comparisons of the study;
    `verdict` speaks of the hybrid; `note` says what the numbers alone do not.
    """

    axis: str
    label: str
    form: Literal["ratio", "difference"]
    comparison: Comparison
    p_holm: float | None
    verdict: Verdict
    note: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A hybrid agent against a classical one; `n` seeds a side, `improvement` on final returns."""

    hybrid: str
    opponent: str
    is_twin: bool
    has_threshold: bool
    n: int
    paired: bool
    axes: tuple[AxisResult, ...]
    improvement: Estimate

    def axis(self, name: str) -> AxisResult:
        """The result on one axis; KeyError if it was not compared."""
        return {result.axis: result for result in self.axes}[name]


def compare_pair(
    hybrid: Scores,
    opponent: Scores,
    *,
    is_twin: bool,
    has_threshold: bool,
    joules_kind: str,
    score: str = "return",
) -> Pair:
    """Compare two agents on every axis, paired by their common seeds where they have any.

    With a threshold the ratio is that of expected costs to it; without one, of interquartile means of whole
    runs in seconds and joules (interactions are then equal by design). Returns are compared by difference.
    """
    common = [seed for seed in hybrid.seeds if seed in opponent.seeds]
    paired = bool(common)
    mine = hybrid.rows(common) if paired else list(range(len(hybrid.seeds)))
    theirs = opponent.rows(common) if paired else list(range(len(opponent.seeds)))
    axes: list[AxisResult] = []
    for axis in COST_AXES if has_threshold else COST_AXES[1:]:
        label = f"{joules_kind} joules" if axis == "joules" else axis
        if axis not in hybrid.spent or axis not in opponent.spent:
            nothing = Comparison(None, None, None, min(len(mine), len(theirs)), None, paired)
            axes.append(AxisResult(axis, label, "ratio", nothing, None, "unavailable", UNRECORDED))
        elif has_threshold:
            axes.append(_to_threshold(axis, label, hybrid, opponent, mine, theirs, paired))
        else:
            values = (hybrid.total[axis][mine],), (opponent.total[axis][theirs],)
            ratio = compare_bootstrap(iqm, *values, form="ratio", paired=paired)
            axes.append(
                AxisResult(axis, f"{label} for the budget", "ratio", ratio, None, "not distinguishable", "")
            )
    for name, label in (("final_return", f"final {score}"), ("mean_return", f"{score} over training")):
        values = (getattr(hybrid, name)[mine],), (getattr(opponent, name)[theirs],)
        difference = compare_bootstrap(iqm, *values, form="difference", paired=paired)
        axes.append(AxisResult(name, label, "difference", difference, None, "not distinguishable", ""))
    n = min(len(mine), len(theirs))
    improvement = (
        probability_of_improvement(hybrid.final_return[mine], opponent.final_return[theirs])
        if n
        else Estimate(None, None, None, 0)
    )
    return Pair(hybrid.name, opponent.name, is_twin, has_threshold, n, paired, tuple(axes), improvement)


def _to_threshold(
    axis: str, label: str, hybrid: Scores, opponent: Scores, mine: list[int], theirs: list[int], paired: bool
) -> AxisResult:
    ours, other = hybrid.solved[mine], opponent.solved[theirs]
    ratio = compare_bootstrap(
        expected_cost,
        (hybrid.spent[axis][mine], ours),
        (opponent.spent[axis][theirs], other),
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
        from scipy.stats import fisher_exact

        table = [[int(ours.sum()), int((~ours).sum())], [int(other.sum()), int((~other).sum())]]
        ratio = replace(ratio, p_value=float(fisher_exact(table).pvalue))
    return AxisResult(axis, label, "ratio", ratio, None, "not distinguishable", note)


def correct_for_number(pairs: Sequence[Pair]) -> tuple[tuple[Pair, ...], int]:
    """Adjust all p-values of a study by Holm's method and give each axis its verdict; also their number."""
    where = [
        (i, j)
        for i, pair in enumerate(pairs)
        for j, result in enumerate(pair.axes)
        if result.comparison.p_value is not None
    ]
    raw = [pairs[i].axes[j].comparison.p_value or 0.0 for i, j in where]
    adjusted = dict(zip(where, holm(raw), strict=True))
    decided = []
    for i, pair in enumerate(pairs):
        axes = [
            _with_verdict(result, adjusted.get((i, j)), len(where), pair.n)
            for j, result in enumerate(pair.axes)
        ]
        decided.append(replace(pair, axes=tuple(axes)))
    return tuple(decided), len(where)


def _with_verdict(result: AxisResult, p_holm: float | None, n_comparisons: int, n: int) -> AxisResult:
    if result.note == UNRECORDED:
        return result
    comparison, note = result.comparison, result.note
    verdict: Verdict = "not distinguishable"
    if n < MINIMUM_FOR_VERDICT:
        verdict = "too few seeds"
    elif comparison.low is not None and comparison.high is not None and comparison.value is not None:
        null = 1.0 if result.form == "ratio" else 0.0
        below: Verdict = "faster" if result.form == "ratio" else "lower"
        above: Verdict = "slower" if result.form == "ratio" else "higher"
        seen = below if comparison.high < null else above if comparison.low > null else None
        if seen is not None and p_holm is not None and p_holm < SIGNIFICANCE:
            verdict = seen
        elif seen is not None:
            note = f"{note}; " if note else ""
            note += f"{seen} alone, but not after Holm's correction for {n_comparisons} comparisons"
    return replace(result, p_holm=p_holm, verdict=verdict, note=note)


def headline(pairs: Sequence[Pair]) -> str:
    """The verdict on each hybrid against its twin (or, without one, its first opponent), in words."""
    chosen: dict[str, Pair] = {}
    for pair in pairs:
        chosen.setdefault(pair.hybrid, pair)
    if not chosen:
        return "No hybrid agent stands against a classical one in this study."
    return " ".join(sentence(pair) for pair in chosen.values())


def sentence(pair: Pair, *, with_numbers: bool = True) -> str:
    """One pair in one sentence: verdict by axis, with ratio and interval, and the number of seeds."""
    who = f"its classical twin ({pair.opponent})" if pair.is_twin else pair.opponent
    seeds = f"{pair.n} seed{'s' if pair.n != 1 else ''} each"
    if pair.n < MINIMUM_FOR_VERDICT:
        needed = f"{pair.n}, and at least {MINIMUM_FOR_VERDICT} are needed."
        return f"Too few seeds to tell {pair.hybrid} from {who}: {needed}"
    axes = judged_axes(pair)
    if pair.has_threshold and axes and all(a.note == NEITHER for a in axes):
        why = f"neither reached the threshold in any run ({seeds})."
        return f"{pair.hybrid} and {who} are not distinguishable: {why}"
    parts = []
    for verdict in (*DECIDED, "not distinguishable"):
        members = [_member(a, with_numbers) for a in axes if a.verdict == verdict]
        if members:
            parts.append(f"{verdict} in {_join(members)}")
    tail = "; a development figure" if with_numbers and pair.n < MINIMUM_FOR_RESULT else ""
    return f"Against {who}, {pair.hybrid} is {'; '.join(parts)} ({seeds}{tail})."


def judged_axes(pair: Pair) -> list[AxisResult]:
    """The axes of the verdict: costs to the threshold, or returns where the study has no threshold."""
    return [a for a in pair.axes if (a.form == "ratio") == pair.has_threshold and a.verdict != "unavailable"]


def _member(result: AxisResult, with_numbers: bool) -> str:
    c = result.comparison
    if not with_numbers or c.low is None or c.high is None or c.value is None:
        return result.label
    if result.form == "ratio" and not 0 < c.value < math.inf:
        return f"{result.label} ({result.note})"
    name = "ratio" if result.form == "ratio" else "difference"
    return f"{result.label} ({name} {short(c.value)}, 95 % interval {short(c.low)} to {short(c.high)})"


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def short(value: float) -> str:
    """Three significant digits, thousands apart, millions as M, larger numbers as powers, infinity as ∞."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if abs(value) >= 1e9 or abs(value) < 1e-4:
        return f"{value:.2e}"
    if abs(value) >= 999_500:
        return f"{short(value / 1e6)} M"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
