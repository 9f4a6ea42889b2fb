"""Backends by name: ``kind`` or ``kind:target``, such as ``torch`` or ``pennylane:lightning.qubit``."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from functools import cache

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


def _native(target: str | None) -> Backend:
    from circuits.backends.native import NativeBackend

    if target is not None:
        raise ValueError(f"backend: 'native' has no target {target!r}; use 'native'")
    return NativeBackend()


def _torch(target: str | None) -> Backend:
    from circuits.backends.torch import TorchBackend

    if target is not None:
        raise ValueError(f"backend: 'torch' has no target {target!r}; use 'torch'")
    return TorchBackend()


def _pennylane(target: str | None) -> Backend:
    from circuits.backends.pennylane import PennyLaneBackend

    return PennyLaneBackend() if target is None else PennyLaneBackend(target)


def _aer(target: str | None) -> Backend:
    from circuits.backends.aer import AerBackend

    return AerBackend(target)


def _primitive(target: str | None) -> Backend:
    from circuits.backends.primitive import known_primitive

    return known_primitive(target)


def _ibm(target: str | None) -> Backend:
    from circuits.backends.ibm import IBMBackend

    return IBMBackend(target)


BACKENDS: dict[str, Callable[[str | None], Backend]] = {
    "native": _native,
    "torch": _torch,
    "pennylane": _pennylane,
    "aer": _aer,
    "primitive": _primitive,
    "ibm": _ibm,
}
"""Backend kinds and their factories, which take the part of the name after the colon, or None."""


@cache
def _fastest() -> str:
    """The kind behind "auto"; where the kernel is not available, one line says so, once and not in each worker."""
    from circuits.engine import library

    if library.load() is not None:
        return "native"
    if multiprocessing.parent_process() is None:
        logging.getLogger("circuits").warning(library.FALLBACK, library.reason())
    return "torch"


def get_backend(name: str) -> Backend:
    """Return a new backend by name; ``"auto"`` is the fastest exact one that works here: ``native``, or
    ``torch`` where the kernel was not built.

    Args:
        name: ``kind`` or ``kind:target``.

    Raises:
        TypeError: the name is no string.
        ValueError: the kind is unknown (the message names the nearest match) or the target does not exist.
    """
    if not isinstance(name, str):
        raise TypeError(f"backend: {name!r} is not a string; use a name such as 'torch'")
    kind, _, target = name.partition(":")
    if name == "auto":
        kind = _fastest()
    choice("backend", kind, tuple(BACKENDS))
    return BACKENDS[kind](target or None)
