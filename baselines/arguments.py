"""Checks of arguments: what is wrong is named in one line, with the way out."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, SupportsFloat, SupportsIndex


def integer(name: str, value: Any, least: int = 0) -> int:
    """The value as an `int`. Raises `TypeError` for another kind, `ValueError` below `least`."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name}: {value!r} is not an integer; use an integer >= {least}")
    if value.__index__() < least:
        raise ValueError(f"{name}: {value} is below {least}; use an integer >= {least}")
    return value.__index__()


def number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, low_open: bool = False
) -> float:
    """The value as a finite `float` in [low, high], or ]low, high] with `low_open`.

    Raises `TypeError` for another kind, `ValueError` out of range.
    """
    if isinstance(value, bool | str) or not isinstance(value, SupportsFloat):
        raise TypeError(f"{name}: {value!r} is not a number; use one between {low:g} and {high:g}")
    found = float(value)
    if not math.isfinite(found) or found > high or (found <= low if low_open else found < low):
        above = "above " if low_open else ""
        raise ValueError(
            f"{name}: {value!r} is out of range; use a number between {above}{low:g} and {high:g}"
        )
    return found


def choice(name: str, value: Any, known: Collection[str]) -> str:
    """The value, one of `known`. Raises `ValueError` for any other."""
    if value not in known:
        raise ValueError(f"{name}: {value!r} is unknown; use one of {', '.join(known)}")
    return str(value)
