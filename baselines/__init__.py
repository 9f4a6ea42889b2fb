"""Classical opponents of hybrid agents: networks of equal size and the accelerator operator's controllers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.networks import count_parameters, matched_mlp, mlp
    from baselines.orbit_correction import OrbitCorrector

__part_of__ = "qrl"

__all__ = ["OrbitCorrector", "count_parameters", "matched_mlp", "mlp"]

_HOME = {
    "OrbitCorrector": "orbit_correction",
    "count_parameters": "networks",
    "matched_mlp": "networks",
    "mlp": "networks",
}


def __getattr__(name: str) -> Any:
    # torch and numpy load when something of theirs is first asked for, so that importing the package stays
    # light
    if name not in _HOME:
        raise AttributeError(f"module 'baselines' has no attribute {name!r}")
    return getattr(import_module(f"baselines.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
