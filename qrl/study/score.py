"""What a study is judged by: the mean return, a share of episodes solved, or a measure of the environment's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from qrl.errors import InputError, nearest

RETURN = "return"
_SOLVED = re.compile(r"solved_within_([1-9]\d*)")


def score(evaluation: Mapping[str, Any], measure: str = RETURN) -> float | None:
    """The value of a measure in the record of an evaluation, None where it was not finite.

    ``return`` is the mean return, ``solved_within_K`` the share of the episodes that ended in success after at most K
    steps, anything else what the environment measured of the policy.

    Raises:
        ValueError: the record has no such measure.
    """
    if measure == RETURN:
        value = evaluation.get("return_mean")
        return None if value is None else float(value)
    steps = _SOLVED.fullmatch(measure)
    if steps is not None and evaluation.get("successes") is not None:
        pairs = zip(evaluation["successes"], evaluation["lengths"], strict=True)
        solved = [bool(success) and length <= int(steps[1]) for success, length in pairs]
        return sum(solved) / len(solved)
    if measure in (evaluation.get("measures") or {}):
        return float(evaluation["measures"][measure])
    raise ValueError(f"threshold.measure: {measure!r} was not recorded in this run; run the study again")


def check_measure(measure: str, own: Iterable[str], tells_success: bool) -> None:
    """Refuse a measure that evaluations will not record.

    Args:
        measure: its name.
        own: the measures of the environment's own.
        tells_success: whether the environment says which episodes were a success.

    Raises:
        InputError: there is no such measure.
    """
    if measure == RETURN or measure in own or (tells_success and _SOLVED.fullmatch(measure)):
        return
    known = [RETURN, *own, *(["solved_within_3"] if tells_success else [])]
    raise InputError("threshold.measure", measure, "is not measured here", nearest(measure, known))


def threshold_of(recipe: Mapping[str, Any]) -> tuple[str, float | None]:
    """The measure that a resolved recipe is judged by, and the level that counts as solved, None where none does."""
    threshold = recipe.get("threshold") or {}
    if threshold.get("measure") is not None:
        return str(threshold["measure"]), float(threshold["value"])
    level = threshold.get(RETURN)
    return RETURN, None if level is None else float(level)


def label(measure: str) -> str:
    """A measure in words."""
    steps = _SOLVED.fullmatch(measure)
    return measure.replace("_", " ") if steps is None else f"share solved within {steps[1]} steps"
