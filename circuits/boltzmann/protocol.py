"""What a sampler of clamped Boltzmann machines is, what it is asked, and what it answers.

The visible nodes of a machine are clamped, so all that a sampler sees is a spin system for each sample,

    H = - sum_h b_h sz_h - sum_(h,k) J_hk sz_h sz_k - Gamma sum_h sx_h,      rho = exp(-beta H) / Z

with spins in place of hidden units. It answers with thermal moments, and with the free energy
F = -ln(Z) / beta where that is asked for: F is no moment, and a sampler that draws needs further ensembles for it.

What a request costs is counted in the terms of ``circuits.backends.protocol.Usage``: an execution is one spin system
sampled in one ensemble, a hardware execution one that an annealer would have to run for it, a shot is a read;
the gate sampler counts circuit executions, as its backend does.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.backends.protocol import Usage
from circuits.boltzmann.graphs import Graph

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """N clamped spin systems that share couplings, transverse field and temperature.

    Attributes:
        graph: the hidden units and which of them are coupled.
        biases: b, ``(N, n_hidden)``.
        couplings: J in the order of ``graph.edges``, ``(n_edges,)``.
        field: the transverse field Gamma, at least 0.
        beta: the inverse temperature, above 0.

    Raises:
        ValueError: a shape that does not fit the graph, a value that is not finite, a field below 0 or a beta
            that is not above 0.
    """

    graph: Graph
    biases: Floats
    couplings: Floats
    field: float
    beta: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "biases", np.asarray(self.biases, dtype=np.float64))
        object.__setattr__(self, "couplings", np.asarray(self.couplings, dtype=np.float64))
        n, edges = self.graph.n_hidden, len(self.graph.edges)
        if self.biases.ndim != 2 or self.biases.shape[1] != n:
            raise ValueError(f"biases: shape {self.biases.shape} does not fit {n} hidden units; use (N, {n})")
        if self.couplings.shape != (edges,):
            raise ValueError(
                f"couplings: shape {self.couplings.shape} does not fit the graph; use ({edges},)"
            )
        if not (np.isfinite(self.biases).all() and np.isfinite(self.couplings).all()):
            raise ValueError("biases: a bias or coupling is not finite; lower the learning rate")
        check_setting("field", self.field, zero=True)
        check_setting("beta", self.beta, zero=False)


@dataclass(frozen=True, slots=True, eq=False)
class Thermal:
    """What a sampler found; errors are standard errors, None where a value is exact.

    Attributes:
        z: <sz_h>, ``(N, n_hidden)``.
        zz: <sz_h sz_k> in the order of ``graph.edges``, ``(N, n_edges)``.
        free_energy: F, ``(N,)``; None where it was not asked for.
        z_error, zz_error, free_energy_error: as the values they belong to.
        usage: what it cost.
        estimator: how the free energy was found, for the record.
    """

    z: Floats
    zz: Floats
    free_energy: Floats | None
    usage: Usage
    z_error: Floats | None = None
    zz_error: Floats | None = None
    free_energy_error: Floats | None = None
    estimator: str = "exact"


@runtime_checkable
class Sampler(Protocol):
    """Something that finds thermal moments of clamped machines."""

    name: str
    exact: bool

    def check(self, graph: Graph, field: float) -> None:
        """Raise a ValueError in one line where this sampler cannot serve machines of this graph and field."""
        ...

    def thermal(self, problem: Problem, *, free_energy: bool = True, seed: int | None = None) -> Thermal:
        """Return moments, and the free energy unless it is not wanted.

        Args:
            problem: what to sample.
            free_energy: false while acting, when moments are enough and cost less.
            seed: of everything drawn; None draws one from torch's global generator, so that a seeded study is
                repeatable.
        """
        ...


SamplerFactory = Callable[..., Sampler]


def free_energy_alone(n_hidden: int, field: float, beta: float) -> float:
    """F of a machine whose weights are all 0, -(n/beta) ln 2cosh(beta Gamma): the upper bound of F over weights.

    Source: Peierls-Bogoliubov inequality; <sz> = <sz sz> = 0 in the field alone.
    """
    return -n_hidden / beta * float(log_2cosh(beta * field))


def log_2cosh(x: ArrayLike) -> Floats:
    """ln(2 cosh x) without overflow, of a number or an array."""
    size = np.abs(x)
    return np.asarray(size + np.log1p(np.exp(-2.0 * size)))


def check_setting(name: str, value: float, *, zero: bool) -> None:
    """Raise where a field or a temperature is no finite number of the right sign."""
    allowed = f"a finite number {'at least' if zero else 'above'} 0"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: {value!r} is not a number; use {allowed}")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name}: {value!r} is out of range; use {allowed}")


def draw_seed(seed: int | None) -> int:
    """The seed itself, or one from torch's global generator."""
    if seed is not None:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise ValueError(f"seed: {seed!r} is no seed; use an integer from 0 to 2^63 - 1")
        return seed
    import torch

    return int(torch.randint(2**63 - 1, ()).item())
