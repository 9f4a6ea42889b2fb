"""What may be spent: asked for in the command, or nothing is sent."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from circuits.journal import Budget, OverBudget

JOURNAL = "QRL_JOURNAL"
"""Environment variable with the journal's path."""
_WAY_OUT = "write --dry-run to see what it costs, then --budget-seconds S"


def costs_money(backend: Any) -> bool:
    """Whether requests to a backend are paid."""
    return hasattr(backend, "spending")


def refuse_paying(backend: Any) -> None:
    """Refuse a backend that costs money.

    Raises:
        OverBudget: it does.
    """
    if costs_money(backend):
        raise OverBudget(f"--backend: {backend.name} costs money; use qrl submit: {_WAY_OUT}")


def spend_only_on_purpose(dry_run: bool, seconds: str | None) -> None:
    """Refuse to go on where neither a plan alone is asked for nor a budget given.

    Raises:
        OverBudget: neither is, or both are.
    """
    if dry_run == (seconds is not None):
        given = "stands beside --dry-run" if dry_run else "is not given"
        raise OverBudget(f"--budget-seconds: {given}; {_WAY_OUT}")


def budget_of(seconds: str | None, money: str | None, price: float | None, jobs: int | None) -> Budget | None:
    """The budget of a command, None for a plan alone.

    Raises:
        OverBudget: a limit that is no positive number, or money without a price.
    """
    if seconds is None:
        return None
    most = None if money is None else _positive("--budget-money", money)
    if most is not None and price is None:
        raise OverBudget(
            f"--budget-money: {money} is no limit without the price of a second; give --price too"
        )
    if jobs is not None and jobs < 1:
        raise OverBudget(f"--max-jobs: {jobs} is below 1; give what may be submitted")
    return Budget(_positive("--budget-seconds", seconds), jobs=jobs, price=price, money=most)


def price_of(text: str | None) -> float | None:
    """The price of a second, None where none is given.

    Raises:
        OverBudget: it is no positive number.
    """
    return None if text is None else _positive("--price", text)


def _positive(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise OverBudget(f"{name}: {text!r} is no positive number; give what may be spent, e.g. {name} 60")
    return value


def journal_path(given: Path | None = None) -> Path:
    """Where the account's journal is: as given, by ``QRL_JOURNAL``, or in the user's state folder."""
    if given is not None:
        return given.absolute()
    if named := os.environ.get(JOURNAL):
        return Path(named).absolute()
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "hybrid-qrl" / "journal.sqlite"
