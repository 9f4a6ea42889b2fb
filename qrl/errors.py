"""One-line errors that name the field, the value and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A value handed over by a user, a file or a service that cannot be used.

    The message is one line: ``field: value is wrong because ...; write ... instead``.
    """

    def __init__(self, field: str, value: object, why: str, fix: str) -> None:
        self.field, self.value, self.why, self.fix = field, value, why, fix
        super().__init__(f"{field}: {_short(value)} {why}; {fix}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the nearest known name, or the list of known names."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def _short(value: object, limit: int = 80) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
