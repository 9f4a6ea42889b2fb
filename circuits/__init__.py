"""Quantum circuits as data, their observables, and the backends that run them. Knows nothing of learning."""

from __future__ import annotations

from typing import Any

from circuits.ansatz import ANSATZ, controlled_rotation, reuploading
from circuits.circuit import Angle, Circuit, Gate, Squash, Term
from circuits.observables import CommutingGroup, Observable, commuting_groups

__part_of__ = "qrl"

__all__ = [
    "ANSATZ",
    "BACKENDS",
    "Angle",
    "Circuit",
    "CommutingGroup",
    "Gate",
    "Observable",
    "Squash",
    "Term",
    "commuting_groups",
    "controlled_rotation",
    "get_backend",
    "reuploading",
]

# These need torch, so they load on first use and `import circuits` stays light.
_LAZY = {"BACKENDS": "circuits.backends", "get_backend": "circuits.backends"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'circuits' has no attribute {name!r}")
