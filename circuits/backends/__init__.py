"""Backends by name: ``kind`` or ``kind:target``, such as ``torch`` or ``pennylane:lightning.qubit``."""

from __future__ import annotations

from collections.abc import Callable

from circuits.backends.protocol import VJP, Backend, Capabilities, Expectations, Usage, VJPFunction
from circuits.gates import choice

__all__ = [
    "BACKENDS",
    "VJP",
    "Backend",
    "Capabilities",
    "Expectations",
    "Usage",
    "VJPFunction",
    "get_backend",
]


def _torch(target: str | None) -> Backend:
    from circuits.backends.torch import TorchBackend

    if target is not None:
        raise ValueError(f"backend: 'torch' has no target {target!r}; use 'torch'")
    return TorchBackend()


def _pennylane(target: str | None) -> Backend:
    from circuits.backends.pennylane import PennyLaneBackend

    return PennyLaneBackend() if target is None else PennyLaneBackend(target)


BACKENDS: dict[str, Callable[[str | None], Backend]] = {"torch": _torch, "pennylane": _pennylane}
"""Backend kinds and their factories, which take the part of the name after the colon, or None."""

_ALIASES = {"auto": "torch"}


def get_backend(name: str) -> Backend:
    """Return a new backend by name; ``"auto"`` is the fastest exact one that works here.

    Args:
        name: ``kind`` or ``kind:target``.

    Raises:
        TypeError: the name is no string.
        ValueError: the kind is unknown (the message names the nearest match) or the target does not exist.
    """
    if not isinstance(name, str):
        raise TypeError(f"backend: {name!r} is not a string; use a name such as 'torch'")
    kind, _, target = name.partition(":")
    if kind in _ALIASES and not target:
        kind = _ALIASES[kind]
    choice("backend", kind, tuple(BACKENDS))
    return BACKENDS[kind](target or None)
