"""Exact thermal moments: dense diagonalisation in a transverse field, a sum over a vertex cover without one.

Where the field is zero, the units outside a vertex cover are coupled to covered units alone. For each configuration of
the cover they are therefore independent of each other, and their sum is a product of 2cosh. On a bipartite graph either
shore is a cover: the 16-unit machine of two Chimera cells takes 256 terms, and the largest sums 65,536.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from circuits.backends.protocol import Usage
from circuits.boltzmann.graphs import Graph
from circuits.boltzmann.protocol import Floats, Problem, Thermal

MAX_DENSE = 12
"""Hidden units up to which a thermal state is diagonalised."""

MAX_COVER = 16
"""Units of the vertex cover up to which machines without a field are summed."""

_ROWS = 128  # samples that are summed at a time,
_BLOCK = 2**17  # and samples x configurations x units outside the cover, 1 MB: it stays in cache
_DENSE_BYTES = 2**25  # of matrices that are diagonalised at a time, where one is smaller

Integers = NDArray[np.int64]


class ExactSampler:
    """Thermal moments and free energies to rounding error, for few hidden units or without a field.

    With a transverse field the Hamiltonian is diagonalised: at most 12 hidden units, where one matrix takes 134 MB
    and most of a minute; 8 take milliseconds. Without one it sums over a vertex cover of at most 16 units, in
    microseconds a state for two Chimera cells, whatever else is in the graph. An execution is one spin system.

    Source: the definitions of H, Z and F; the sum over a shore is own construction.
    """

    name = "exact"
    exact = True

    def check(self, graph: Graph, field: float) -> None:
        """Refuse machines that are too large.

        Raises:
            ValueError: more than 12 hidden units in a field, or without one a cover of more than 16.
        """
        if field == 0:
            size = len(_plan(graph).cover)
            if size > MAX_COVER:
                raise ValueError(
                    f"sampler: 'exact' would sum 2^{size} terms a state; use a graph that {MAX_COVER} units "
                    "cover, or 'sqa'"
                )
        elif graph.n_hidden > MAX_DENSE:
            size = 8 * 4**graph.n_hidden / 1e9
            other = "'sqa'" if graph.n_edges else "'closed_form'"
            raise ValueError(
                f"sampler: 'exact' would diagonalise a matrix of {size:.3g} GB for {graph.n_hidden} hidden "
                f"units; use at most {MAX_DENSE}, field 0, or {other}"
            )

    def thermal(self, problem: Problem, *, free_energy: bool = True, seed: int | None = None) -> Thermal:
        """Return moments and free energy; nothing is drawn, so the seed has no meaning.

        Raises:
            ValueError: the machine is too large; see ``check``.
        """
        start = time.perf_counter()
        self.check(problem.graph, problem.field)
        z, zz, energies = _classical(problem) if problem.field == 0 else _dense(problem)[:3]
        n = len(problem.biases)
        usage = Usage(n, n, seconds=time.perf_counter() - start)
        return Thermal(z, zz, energies if free_energy else None, usage)

    def transverse(self, problem: Problem) -> Floats:
        """Return <sx_h>, ``(N, n_hidden)``; their sum over h is -dF/dGamma.

        Raises:
            ValueError: the machine is too large; see ``check``.
        """
        self.check(problem.graph, problem.field)
        if problem.field == 0:
            return np.zeros_like(problem.biases)
        return _dense(problem, transverse=True)[3]


def _dense(problem: Problem, transverse: bool = False) -> tuple[Floats, Floats, Floats, Floats]:
    """<z>, <zz>, F and, where asked for, <x> from the eigenstates of each Hamiltonian."""
    graph, beta = problem.graph, problem.beta
    n, samples = graph.n_hidden, len(problem.biases)
    index = np.arange(2**n)
    spins = _spins(n, 0, 2**n)
    pairs = spins[:, graph.edges[:, 0]] * spins[:, graph.edges[:, 1]]
    diagonal = -problem.biases @ spins.T - pairs @ problem.couplings
    flips = np.zeros((2**n, 2**n))
    for h in range(n):
        flips[index, index ^ (1 << h)] = -problem.field
    z, x = np.empty((samples, n)), np.zeros((samples, n))
    zz, energies = np.empty((samples, graph.n_edges)), np.empty(samples)
    step = max(1, _DENSE_BYTES // flips.nbytes)
    for first in range(0, samples, step):
        rows = slice(first, first + step)
        matrices = np.repeat(flips[None], len(diagonal[rows]), axis=0)
        matrices[:, index, index] = diagonal[rows]
        levels, states = np.linalg.eigh(matrices)
        weights = np.exp(-beta * (levels - levels[:, :1]))
        partition = weights.sum(1)
        energies[rows] = levels[:, 0] - np.log(partition) / beta
        weights /= partition[:, None]
        populations = (states**2 @ weights[:, :, None])[:, :, 0]
        z[rows], zz[rows] = populations @ spins, populations @ pairs
        for h in range(n if transverse else 0):
            flipped = np.einsum("nci,nci->ni", states, states[:, index ^ (1 << h)])
            x[rows, h] = (flipped * weights).sum(1)
    return z, zz, energies, x


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What a sum without a field needs to know of a graph.

    Attributes:
        cover: units that are summed over; each edge has at least one end among them.
        rest: the other units.
        inner: edges inside the cover, with the places of their ends in it as ``inner_i``, ``inner_j``.
        across: edges out of the cover, with the places of their ends in cover and rest as ``across_i``, ``across_k``.
    """

    cover: Integers
    rest: Integers
    inner: Integers
    inner_i: Integers
    inner_j: Integers
    across: Integers
    across_i: Integers
    across_k: Integers


@lru_cache(maxsize=64)
def _plan(graph: Graph) -> _Plan:
    covered = _vertex_cover(graph)
    cover, rest = np.flatnonzero(covered), np.flatnonzero(~covered)
    place = np.empty(graph.n_hidden, dtype=np.int64)
    place[cover], place[rest] = np.arange(cover.size), np.arange(rest.size)
    i, j = graph.edges.T
    inside = covered[i] & covered[j]
    inner, across = np.flatnonzero(inside), np.flatnonzero(~inside)
    ends = np.where(covered[i], i, j)[across], np.where(covered[i], j, i)[across]
    return _Plan(cover, rest, inner, place[i[inner]], place[j[inner]], across, place[ends[0]], place[ends[1]])


def _vertex_cover(graph: Graph) -> NDArray[np.bool_]:
    """Marks of few units that touch every edge: most open edges first, or a shore where that is smaller."""
    covered = np.zeros(graph.n_hidden, dtype=np.bool_)
    open_edges = graph.edges
    while len(open_edges):
        unit = np.bincount(open_edges.ravel()).argmax()
        covered[unit] = True
        open_edges = open_edges[(open_edges != unit).all(axis=1)]
    if graph.colours is not None and (graph.smaller_shore or 0) < covered.sum():
        return graph.colours if 2 * graph.colours.sum() <= graph.n_hidden else ~graph.colours
    return covered


def _classical(problem: Problem) -> tuple[Floats, Floats, Floats]:
    """<z>, <zz> and F without a field."""
    graph, samples = problem.graph, len(problem.biases)
    z, zz = np.empty((samples, graph.n_hidden)), np.empty((samples, graph.n_edges))
    energies = np.empty(samples)
    plan = _plan(graph)
    m, k, pairs = plan.cover.size, plan.rest.size, plan.inner.size
    for first in range(0, samples, _ROWS):
        rows = slice(first, first + _ROWS)
        log_partition, means = _cover_sum(plan, problem.biases[rows], problem.couplings, problem.beta)
        energies[rows] = -log_partition / problem.beta
        covered = means[:, :m]
        up = means[:, m + pairs :].reshape(-1, k, m + 1)  # <n_k> and <s_i n_k>, with n = (1 + s)/2
        z[rows, plan.cover] = covered
        z[rows, plan.rest] = 2.0 * up[:, :, 0] - 1.0
        zz[rows, plan.inner] = means[:, m : m + pairs]
        zz[rows, plan.across] = 2.0 * up[:, plan.across_k, plan.across_i + 1] - covered[:, plan.across_i]
    return z, zz, energies


def _cover_sum(plan: _Plan, biases: Floats, couplings: Floats, beta: float) -> tuple[Floats, Floats]:
    """ln Z, and the means of s_i, of s_i s_j inside the cover, and of n_k and s_i n_k for each k outside it.

    Block by block over the configurations of the cover, with sums relative to the largest weight so far.
    """
    samples, m, k = len(biases), plan.cover.size, plan.rest.size
    inside, outside = beta * biases[:, plan.cover], beta * biases[:, plan.rest]
    matrix = np.zeros((k, m))
    matrix[plan.across_k, plan.across_i] = beta * couplings[plan.across]
    inner = beta * couplings[plan.inner]
    columns = 1 + m + inner.size
    top, sums = np.full(samples, -np.inf), np.zeros((samples, columns + k * (m + 1)))
    size = max(1, _BLOCK // (samples * max(1, k)))
    for start in range(0, 2**m, size):
        spins = _spins(m, start, min(start + size, 2**m))
        table = np.empty((len(spins), columns))
        table[:, 0], table[:, 1 : m + 1] = 1.0, spins
        np.multiply(spins[:, plan.inner_i], spins[:, plan.inner_j], out=table[:, m + 1 :])
        fields = matrix @ spins.T
        ups, logs = _independent(outside, fields)
        logs += inside @ spins.T
        logs += outside.sum(1)[:, None]
        logs += fields.sum(0) + table[:, m + 1 :] @ inner
        peak = logs.max(1)
        weights = np.exp(logs - peak[:, None], out=logs)
        ups *= weights
        joint = (ups.reshape(k * samples, -1) @ table[:, : m + 1]).reshape(k, samples, m + 1)
        block = np.concatenate((weights @ table, joint.transpose(1, 0, 2).reshape(samples, -1)), axis=1)
        higher = np.maximum(top, peak)
        sums = sums * np.exp(top - higher)[:, None] + block * np.exp(peak - higher)[:, None]
        top = higher
    return top + np.log(sums[:, 0]), sums[:, 1:] / sums[:, :1]


def _independent(outside: Floats, fields: Floats) -> tuple[Floats, Floats]:
    """Independent spins in the fields phi_k = outside_k + fields_k, in units of the temperature.

    Returns:
        The probabilities to be up 1/(1 + exp(-2 phi_k)), ``(k, N, C)``, and sum_k ln(1 + exp(-2 phi_k)), ``(N, C)``.
    """
    k, samples, configurations = len(fields), len(outside), fields.shape[1]
    ups, logs = np.empty((k, samples, configurations)), np.zeros((samples, configurations))
    # exp(-2 phi) is a product of one factor a sample and one a configuration, so that no exponential is taken of
    # their pairs; and one logarithm does for all units whose product cannot overflow.
    largest = 700.0
    reach = 1.0 + 2.0 * (np.abs(outside).max(0) + np.abs(fields).max(1))
    by_sample = np.exp(np.clip(-2.0 * outside, -largest, largest))
    by_configuration = np.exp(np.clip(-2.0 * fields, -largest, largest))
    product, held = np.ones_like(logs), 0.0
    for unit in range(k):
        up = ups[unit]
        if reach[unit] > largest:
            softplus = np.logaddexp(0.0, -2.0 * np.add.outer(outside[:, unit], fields[unit]))
            logs += softplus
            np.exp(-softplus, out=up)
            continue
        np.multiply(by_sample[:, unit, None], by_configuration[unit], out=up)
        up += 1.0
        if held + reach[unit] > largest:
            logs += np.log(product)
            product[...], held = 1.0, 0.0
        product *= up
        held += reach[unit]
        np.reciprocal(up, out=up)
    logs += np.log(product)
    return ups, logs


def _spins(n: int, start: int, stop: int) -> Floats:
    """Configurations ``start`` to ``stop`` of n spins as +-1, ``(stop - start, n)``; bit h is spin h."""
    bits = np.arange(start, stop)[:, None] >> np.arange(n) & 1
    return (2 * bits - 1).astype(np.float64)
