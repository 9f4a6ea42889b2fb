"""Machines without couplings: every hidden unit is a spin on its own, and everything has a closed form."""

from __future__ import annotations

import time

import numpy as np

from circuits.backends.protocol import Usage
from circuits.boltzmann.graphs import Graph
from circuits.boltzmann.protocol import Problem, Thermal, log_2cosh


class ClosedFormSampler:
    r"""Thermal moments and free energies of uncoupled units, at the price of a layer of a classical network.

    With :math:`W_h = \sqrt{b_h^2 + \Gamma^2}`,

    .. math:: F = -\tfrac{1}{\beta} \sum_h \ln 2 \cosh \beta W_h, \qquad
       \langle \sigma^z_h \rangle = \tfrac{b_h}{W_h} \tanh \beta W_h.

    Without a field this is the softplus of a restricted Boltzmann machine. An execution is one spin system.

    Source: one spin in a field, elementary.
    """

    name = "closed_form"
    exact = True

    def check(self, graph: Graph, field: float) -> None:
        """Refuse graphs with couplings.

        Raises:
            ValueError: the graph has a coupling.
        """
        if graph.n_edges:
            raise ValueError(
                f"sampler: 'closed_form' knows no couplings, the graph has {graph.n_edges}; use 'exact' or 'sqa'"
            )

    def thermal(self, problem: Problem, *, free_energy: bool = True, seed: int | None = None) -> Thermal:
        """Return moments and free energy; nothing is drawn, so the seed has no meaning.

        Raises:
            ValueError: the graph has a coupling.
        """
        start = time.perf_counter()
        self.check(problem.graph, problem.field)
        biases, beta = problem.biases, problem.beta
        energies = np.hypot(biases, problem.field)
        slopes = np.divide(biases, energies, out=np.zeros_like(biases), where=energies > 0)
        value = -log_2cosh(beta * energies).sum(1) / beta if free_energy else None
        n = len(biases)
        return Thermal(
            z=slopes * np.tanh(beta * energies),
            zz=np.zeros((n, 0)),
            free_energy=value,
            usage=Usage(n, n, seconds=time.perf_counter() - start),
            estimator="closed form",
        )
