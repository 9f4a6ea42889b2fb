"""The samplers of dwave-samplers, at fixed temperature: an independent check of our own.

What ``PathIntegralAnnealingSampler`` samples, read in its source (1.8.0): world lines in continuous imaginary time,
up to 2^16 positions, with weight

    exp( -Hp sum over time of (h s + J s s) ) times a Poisson process of kinks with rate Hd on the unit circle.

The schedule's ``Hp_field`` alone scales energies and ``Hd_field`` alone sets kinks (the argument ``Gamma`` is
overwritten by it), so that Hp = beta, Hd = beta Gamma, h = -b and J = -J is the thermal state of our machine, without
a Trotter error. Each read is one position in time of one world line, a fair draw of rho's diagonal; updates resample
the whole world line of a unit, units in random order. At Hd = 0 there are no kinks and the sampler is classical.

``SimulatedAnnealingSampler`` is the classical ensemble; sequential heat-bath updates keep it stationary.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from circuits.backends.protocol import Usage
from circuits.boltzmann.graphs import Graph
from circuits.boltzmann.integration import inner_problems, integrate
from circuits.boltzmann.protocol import Problem, Thermal, draw_seed
from circuits.boltzmann.reads import Floats, Spins, averages, moments, pairs
from circuits.gates import choice, integer

METHODS = ("path_integral", "simulated_annealing")


class OceanSampler:
    """Thermal moments from dwave-samplers, free energies by thermodynamic integration.

    Every read is a Markov chain of its own from a random state. In the first half of its sweeps beta rises linearly
    to its value (the product of field and beta is there from the start), in the second half nothing changes any more.

    Args:
        method: "path_integral", or "simulated_annealing" for machines without field.
        reads: independent reads of a state, at least 2.
        sweeps: sweeps of a read, one update for each unit on average, at least 2.
        nodes: inner ensembles of the integration that gives the free energy; see ``circuits.boltzmann.integration``.

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is too small, the method is unknown, or dwave-samplers is not installed.

    Source: dwave-samplers; path-integral method of doi 10.1038/s41467-021-20901-5.
    """

    name = "ocean"
    exact = False

    def __init__(
        self, method: str = "path_integral", reads: int = 1000, sweeps: int = 200, nodes: int = 6
    ) -> None:
        self.method = choice("method", method, METHODS)
        self.reads = integer("reads", reads, 2)
        self.sweeps = integer("sweeps", sweeps, 2)
        self.nodes = integer("nodes", nodes, 0)
        _samplers()

    def check(self, graph: Graph, field: float) -> None:
        """Refuse a transverse field where the method is classical."""
        if field > 0 and self.method == "simulated_annealing":
            raise ValueError(
                f"field: {field!r}, but simulated annealing is classical; use 0 or method='path_integral'"
            )

    def thermal(self, problem: Problem, *, free_energy: bool = True, seed: int | None = None) -> Thermal:
        """Return moments with standard errors; see ``circuits.boltzmann.protocol.Sampler``.

        One execution is one state in one ensemble: N of them for moments, N (1 + nodes) with the free energy.

        Raises:
            ValueError: a field that the method cannot do, or an invalid seed.
        """
        started = time.perf_counter()
        self.check(problem.graph, problem.field)
        seed, edges = draw_seed(seed), problem.graph.edges
        inner = self.nodes if free_energy and len(edges) else 0
        works, errors = np.zeros((2, inner + 1, len(problem.biases)))
        for number, scaled in enumerate([*inner_problems(problem, inner), problem]):
            stream = (number + 1) % (
                inner + 1
            )  # 0 is the problem itself, whatever is asked beside its moments
            spins = self._read(scaled, (seed, stream))
            if free_energy:
                works[number], errors[number] = averages(pairs(spins, edges) @ problem.couplings)
        z, zz, z_error, zz_error = moments(spins, edges)
        energy, energy_error = integrate(problem, works, errors) if free_energy else (None, None)
        count = (inner + 1) * len(problem.biases)
        usage = Usage(count, count, count * self.reads, seconds=time.perf_counter() - started)
        estimator = f"thermodynamic integration, {inner} inner ensembles" if free_energy else "none"
        return Thermal(z, zz, energy, usage, z_error, zz_error, energy_error, estimator)

    def _read(self, problem: Problem, seeds: tuple[int, int]) -> Spins:
        """Return reads of all states, ``(N, reads, n_hidden)``, each state from a seed of its own."""
        count, units = problem.biases.shape
        spins = np.empty((count, self.reads, units), dtype=np.int8)
        for row, biases in enumerate(problem.biases):
            # The library takes seeds below 2^31, and 0 means a random one there.
            seed = int(np.random.default_rng((*seeds, row)).integers(1, 2**31))
            model = spin_model(biases, problem.couplings, problem.graph)
            answer = self._sample(model, problem.beta, problem.field, seed)
            spins[row, :, list(answer.variables)] = answer.record.sample.T
        return spins

    def _sample(self, model: Any, beta: float, field: float, seed: int) -> Any:
        schedule = beta * ramp(self.sweeps)
        common: dict[str, Any] = {
            "num_reads": self.reads,
            "num_sweeps_per_beta": 1,
            "beta_schedule_type": "custom",
            "seed": seed,
        }
        if self.method == "path_integral":
            kinks = np.full(self.sweeps, beta * field)
            sampler = _samplers().PathIntegralAnnealingSampler()
            return sampler.sample(model, Hp_field=schedule, Hd_field=kinks, **common)
        sampler = _samplers().SimulatedAnnealingSampler()
        return sampler.sample(model, beta_schedule=schedule, proposal_acceptance_criteria="Gibbs", **common)


def ramp(sweeps: int) -> Floats:
    """Return the factor of beta in each sweep: a linear rise over the first half, 1 in the second."""
    return np.minimum(1.0, np.arange(1, sweeps + 1) / (sweeps // 2 + 1))


def spin_model(biases: Floats, couplings: Floats, graph: Graph) -> Any:
    """Return one state as Ocean's model E = sum h s + sum J s s, whose signs are the opposite of ours.

    Args:
        biases: b, ``(n_hidden,)``.
        couplings: J in the order of ``graph.edges``, ``(n_edges,)``.
        graph: the hidden units, which become the variables 0, 1, ...
    """
    import dimod

    first, second = graph.edges.T
    return dimod.BinaryQuadraticModel.from_numpy_vectors(
        -biases, (first, second, -couplings), 0.0, dimod.SPIN
    )


def _samplers() -> Any:
    try:
        from dwave import samplers
    except ImportError:
        raise ValueError(
            "sampler: 'ocean' needs dwave-samplers, which is not installed; pip install 'hybrid-qrl[dwave]'"
        ) from None
    return samplers
