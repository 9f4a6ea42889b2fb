"""Classical opponents of hybrid agents: networks of equal size, symmetry or spectrum, and controllers of beam lines."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.adaptive_control import (
        AdaptiveController,
        KnownResponse,
        LeastSquares,
        RecursiveLeastSquares,
        SignController,
    )
    from baselines.bayesian_optimisation import BayesianOptimisation
    from baselines.equivariant import EquivariantMLP
    from baselines.fourier import RandomFourier, TruncatedFourier
    from baselines.gaussian_process import GPMPC, GaussianProcess
    from baselines.invariant_networks import Bilinear, ConcaveNetwork, LnCosh, SymmetricMLP
    from baselines.networks import count_parameters, matched_mlp, mlp
    from baselines.orbit_correction import OrbitCorrector
    from baselines.tabular import Tabular

__part_of__ = "qrl"

__all__ = [
    "GPMPC",
    "AdaptiveController",
    "BayesianOptimisation",
    "Bilinear",
    "ConcaveNetwork",
    "EquivariantMLP",
    "GaussianProcess",
    "KnownResponse",
    "LeastSquares",
    "LnCosh",
    "OrbitCorrector",
    "RandomFourier",
    "RecursiveLeastSquares",
    "SignController",
    "SymmetricMLP",
    "Tabular",
    "TruncatedFourier",
    "count_parameters",
    "matched_mlp",
    "mlp",
]

_HOME = {
    "AdaptiveController": "adaptive_control",
    "BayesianOptimisation": "bayesian_optimisation",
    "Bilinear": "invariant_networks",
    "ConcaveNetwork": "invariant_networks",
    "EquivariantMLP": "equivariant",
    "GPMPC": "gaussian_process",
    "GaussianProcess": "gaussian_process",
    "KnownResponse": "adaptive_control",
    "LeastSquares": "adaptive_control",
    "LnCosh": "invariant_networks",
    "OrbitCorrector": "orbit_correction",
    "RandomFourier": "fourier",
    "RecursiveLeastSquares": "adaptive_control",
    "SignController": "adaptive_control",
    "SymmetricMLP": "invariant_networks",
    "Tabular": "tabular",
    "TruncatedFourier": "fourier",
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
