"""What can be set of paid work by ``PATH=VALUE``: waits, and options of a machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from circuits.backends import Backend, get_backend
from circuits.submission import Waits
from qrl.errors import InputError, nearest
from qrl.study.recipe import apply_override

_SECRETS = ("token", "key", "secret", "password", "credential", "auth")


@dataclass(frozen=True)
class Settings:
    """Waits of a submission, and options of the machine.

    Attributes:
        waits: in seconds.
        ibm: options of the ``ibm`` backend, by name.
    """

    waits: Waits
    ibm: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ``load_settings`` takes them back."""
        return {"waits": {f: getattr(self.waits, f) for f in _WAITS}, "ibm": dict(self.ibm)}


_WAITS = tuple(field.name for field in fields(Waits) if field.name != "sleep")


def load_settings(overrides: Iterable[str] = (), stored: Mapping[str, Any] | None = None) -> Settings:
    """The settings that these ``PATH=VALUE`` make of the defaults, or of stored ones.

    Raises:
        InputError: a path that leads nowhere, a wait that is no number >= 0, or anything like a credential, whose value
            is not repeated.
    """
    data: dict[str, Any] = {name: dict((stored or {}).get(name, {})) for name in ("waits", "ibm")}
    for override in overrides:
        path = override.partition("=")[0]
        if any(word in path.lower() for word in _SECRETS):
            why, fix = "is a credential", "leave it to the environment or the client's account file"
            raise InputError("--set", path, why, fix)
        apply_override(data, override)
    for name in data:
        if name not in ("waits", "ibm"):
            raise InputError("--set", name, "leads nowhere", nearest(name, ("waits", "ibm")))
    for name, value in data["waits"].items():
        if name not in _WAITS:
            raise InputError("--set", f"waits.{name}", "leads nowhere", nearest(name, _WAITS))
        wanted = value is None and name == "deadline"
        if not wanted and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
            raise InputError(f"waits.{name}", value, "is no number of seconds", "use a number >= 0")
    return Settings(Waits(**data["waits"]), data["ibm"])


def named_backend(name: str, settings: Settings) -> Backend:
    """The backend of a name with its options; no connection is opened.

    Raises:
        ValueError: an unknown name, or options that it does not have.
    """
    return get_backend(name)
