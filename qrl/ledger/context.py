"""Phases of whatever ledger is open: code that may run with or without one marks them with `phase`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from qrl.ledger.ledger import current

_NOTHING: AbstractContextManager[None] = nullcontext()


def phase(name: str) -> AbstractContextManager[None]:
    """The named phase of the current ledger, or a context that does nothing where no ledger is open."""
    ledger = current()
    return _NOTHING if ledger is None else ledger.phase(name)
