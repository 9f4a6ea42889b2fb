"""Checks of options, made once when an environment is built.

Every refusal is one line that names the field, the value and the way out. A bool is not a number here, and
NaN and infinity are refused.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, TypeVar

__all__ = ["choice", "flag", "integer", "options_from", "real"]

_Options = TypeVar("_Options")


def real(
    name: str, value: object, *, low: float, high: float, open_low: bool = False, unit: str = "1"
) -> float:
    """Return `value` as a finite float inside [low, high], or (low, high] with `open_low`.

    Raises: TypeError where it is no real number, ValueError where it lies outside.
    Source: own construction.
    """
    interval = f"{'(' if open_low else '['}{low:g}, {high:g}]"
    wanted = f"use a number in {interval}" + ("" if unit == "1" else f" {unit}")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: {value!r} is not a real number; {wanted}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: {value!r} is not finite; {wanted}")
    if not low <= number <= high or (open_low and number == low):
        raise ValueError(f"{name}: {value!r} is outside {interval}; {wanted}")
    return number


def integer(name: str, value: object, *, low: int, high: int) -> int:
    """Return `value` as an int in low..high.

    Raises: TypeError where it is no integer (a bool is none), ValueError where it lies outside.
    Source: own construction.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: {value!r} is not an integer; use an integer in {low}..{high}")
    if not low <= int(value) <= high:
        raise ValueError(f"{name}: {value!r} is outside {low}..{high}; use an integer in {low}..{high}")
    return int(value)


def flag(name: str, value: object) -> bool:
    """Return `value` if it is True or False.

    Raises: TypeError otherwise.
    Source: own construction.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}: {value!r} is not a flag; use True or False")
    return value


def choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of `allowed`.

    Raises: TypeError where it is no string, ValueError with the nearest match where it is an unknown one.
    Source: own construction.
    """
    listed = ", ".join(allowed)
    if not isinstance(value, str):
        raise TypeError(f"{name}: {value!r} is not a name; use one of {listed}")
    if value not in allowed:
        raise ValueError(f"{name}: {value!r} is unknown;{_nearest(value, allowed)} use one of {listed}")
    return value


def options_from(kind: type[_Options], given: Mapping[str, Any]) -> _Options:
    """Build the options dataclass `kind` from keyword arguments, naming the nearest match of an unknown one.

    Raises: TypeError for an unknown option, and whatever the dataclass raises for a bad value.
    Source: own construction.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name, value in given.items():
        if name not in known:
            raise TypeError(
                f"{name}: {value!r} is given but there is no such option;{_nearest(name, known)} "
                f"use one of {', '.join(known)}"
            )
    return kind(**given)


def _nearest(value: str, allowed: Sequence[str]) -> str:
    match = difflib.get_close_matches(value, allowed, n=1)
    return f" did you mean {match[0]!r}?" if match else ""
