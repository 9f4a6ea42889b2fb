"""Pairs of agents in words: the verdict on each axis, and which resource is accelerated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qrl.study.outperforms import (
    DECIDED,
    MINIMUM_FOR_VERDICT,
    NEITHER,
    AxisResult,
    Pair,
    Verdict,
)
from qrl.study.statistics import MINIMUM_FOR_RESULT

Change = Literal["accelerated", "slowed down", "not decided"]
CHANGES: tuple[Change, ...] = ("accelerated", "slowed down", "not decided")


@dataclass(frozen=True, slots=True)
class Resource:
    """What a pair says of one resource: whether training is accelerated in it, and by which numbers."""

    name: str
    change: Change
    why: str


def acceleration(pair: Pair) -> tuple[Resource, ...]:
    """Which resources the hybrid saves, which it wastes, and which are not decided.

    Interactions are judged over the grid of sample complexities where there is one, under the name of those:
    accelerated where the hybrid is faster in more than half of the cells and slower in none, since a claim at one pair
    of levels is no claim; the verdict's interactions are those to the threshold, and may differ. All other
    resources, and interactions without a grid, are judged by the expected cost of reaching the threshold.
    """
    found = [_over_grid(pair)] if pair.grid else []
    if pair.has_threshold:
        changes: dict[Verdict, Change] = {"faster": "accelerated", "slower": "slowed down"}
        found += [
            Resource(axis.label, changes.get(axis.verdict, "not decided"), _numbers(axis))
            for axis in pair.axes
            if axis.form == "ratio"
            and axis.verdict != "unavailable"
            and not (found and axis.axis == "interactions")
        ]
    return tuple(found)


def _over_grid(pair: Pair) -> Resource:
    verdicts = [cell.test.verdict for cell in pair.grid]
    faster, slower, n = verdicts.count("faster"), verdicts.count("slower"), len(verdicts)
    change: Change = "not decided"
    if 2 * faster > n and not slower:
        change = "accelerated"
    elif 2 * slower > n and not faster:
        change = "slowed down"
    both = sum(all(cell.test.censored) for cell in pair.grid)
    why = f"faster in {faster} and slower in {slower} of {n} cells of the grid"
    return Resource("sample complexity", change, why + (f", both censored in {both}" if both else ""))


def _numbers(axis: AxisResult) -> str:
    c = axis.comparison
    if c.value is None or c.low is None or c.high is None:
        return axis.note
    return f"ratio {short(c.value)}, 95 %: {short(c.low)} to {short(c.high)}"


def acceleration_sentence(pair: Pair) -> str:
    """Which resource is accelerated and which is not, in one line; empty without a verdict on any."""
    if pair.n < MINIMUM_FOR_VERDICT:
        return ""
    members = {change: [_named(r) for r in acceleration(pair) if r.change == change] for change in CHANGES}
    found = [f"{change} in {joined(members[change])}" for change in CHANGES[:2] if members[change]]
    words = [f"Training is {'; '.join(found)}."] if found else []
    open_ones = members["not decided"]
    return " ".join([*words, *([f"Not decided: {joined(open_ones)}."] if open_ones else [])])


def _named(resource: Resource) -> str:
    return f"{resource.name} ({resource.why})" if resource.why else resource.name


def headline(pairs: Sequence[Pair]) -> str:
    """The verdict on each hybrid against its twin (or, without one, its first opponent), in words."""
    chosen = headlined(pairs)
    if not chosen:
        return "No hybrid agent stands against a classical one in this study."
    return " ".join(sentence(pair) for pair in chosen)


def headlined(pairs: Sequence[Pair]) -> list[Pair]:
    """One pair a hybrid: the one with its twin or, without one, with its first opponent."""
    chosen: dict[str, Pair] = {}
    for pair in pairs:
        chosen.setdefault(pair.hybrid, pair)
    return list(chosen.values())


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
            parts.append(f"{verdict} in {joined(members)}")
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


def joined(parts: Sequence[str]) -> str:
    """At least one part, in one phrase: "a, b and c"."""
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


def p_text(p: float) -> str:
    """A p-value with three digits."""
    # Near the level that decides a verdict, three digits would round to the wrong side of it.
    digits = 4 if 0.0495 <= p < 0.0505 else 3
    return "< 0.001" if p < 0.001 else f"{p:.{digits}f}"
