"""Exact moments: golden values, a matrix exponential, plain enumeration, identities, memory, refusals."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import reduce
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.special import logsumexp

from circuits.boltzmann import Graph, Problem, build_graph, get_sampler
from circuits.boltzmann import exact as module

SAMPLER = get_sampler("exact")
X, Z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])

GOLDEN = Problem(
    build_graph("custom", n=4, edges=[[0, 2], [0, 3], [1, 2], [1, 3]], state_sees=[0, 1], action_sees=[2, 3]),
    np.array([[0.3, -0.2, -0.3, -0.8]]),
    np.array([0.5, -0.7, 0.2, 0.9]),
    field=0.5,
    beta=2.0,
)


def random_problem(
    graph: Graph, field: float, beta: float = 1.3, samples: int = 3, scale: float = 1.0
) -> Problem:
    rng = np.random.default_rng(graph.n_hidden)
    biases = scale * rng.normal(size=(samples, graph.n_hidden))
    return Problem(graph, biases, scale * rng.normal(size=graph.n_edges), field, beta)


def on(n: int, factors: dict[int, np.ndarray]) -> np.ndarray:
    return reduce(np.kron, (factors.get(h, np.eye(2)) for h in range(n)))


def by_exponential(problem: Problem) -> tuple[np.ndarray, ...]:
    """F, <z>, <zz> and <x> from the exponential of a matrix that is made of Kronecker products."""
    n, edges = problem.graph.n_hidden, problem.graph.edges.tolist()
    z, x = [on(n, {h: Z}) for h in range(n)], [on(n, {h: X}) for h in range(n)]
    zz = [z[i] @ z[j] for i, j in edges]
    rows = []
    for b in problem.biases:
        matrix = -sum(v * m for v, m in zip(b, z, strict=True)) - problem.field * sum(x)
        matrix = matrix - sum(v * m for v, m in zip(problem.couplings, zz, strict=True))
        state = expm(-problem.beta * matrix)
        partition = np.trace(state)
        means = [[np.sum(state * m) / partition for m in group] for group in (z, zz, x)]
        rows.append((-np.log(partition) / problem.beta, *means))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def by_enumeration(problem: Problem) -> tuple[np.ndarray, ...]:
    """F, <z> and <zz> without a field, from a list of all configurations, in logarithms."""
    spins = np.array(list(product((-1.0, 1.0), repeat=problem.graph.n_hidden)))
    i, j = problem.graph.edges.T
    pairs = spins[:, i] * spins[:, j]
    logs = problem.beta * (problem.biases @ spins.T + pairs @ problem.couplings)
    total = logsumexp(logs, axis=1)
    weights = np.exp(logs - total[:, None])
    return -total / problem.beta, weights @ spins, weights @ pairs


def assert_equal(thermal, expected, atol=1e-12):
    for ours, theirs in zip((thermal.free_energy, thermal.z, thermal.zz), expected, strict=False):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=atol)


def test_golden_values_to_the_printed_digits():
    thermal = SAMPLER.thermal(GOLDEN)
    assert thermal.free_energy[0] == pytest.approx(-3.803173220665, abs=5e-13)
    z = [0.755290883, -0.857191168, -0.095705300, -0.939071400]
    np.testing.assert_allclose(thermal.z[0], z, rtol=0, atol=5.01e-10)
    x = [0.491842017, 0.423295761, 0.731672818, 0.252834371]
    np.testing.assert_allclose(SAMPLER.transverse(GOLDEN)[0], x, rtol=0, atol=5.01e-10)
    zz = [0.07477902, -0.75835683, 0.10817940, 0.85603420]
    np.testing.assert_allclose(thermal.zz[0], zz, rtol=0, atol=5.01e-9)
    assert thermal.z_error is None
    assert thermal.free_energy_error is None
    assert thermal.estimator == "exact"


def test_golden_values_of_other_pairs_and_of_the_mirrored_machine():
    # The same machine with two more couplings, of strength 0, so that their correlations are listed.
    graph = build_graph("complete", n=4)
    couplings = {(0, 2): 0.5, (0, 3): -0.7, (1, 2): 0.2, (1, 3): 0.9}
    values = np.array([couplings.get(tuple(edge), 0.0) for edge in graph.edges.tolist()])
    thermal = SAMPLER.thermal(replace(GOLDEN, graph=graph, couplings=values))
    assert thermal.zz[0, 0] == pytest.approx(-0.67468926, abs=5e-9)  # 01
    assert thermal.zz[0, 5] == pytest.approx(0.07527857, abs=5e-9)  # 23
    mirrored = replace(GOLDEN, biases=-GOLDEN.biases, couplings=-GOLDEN.couplings)
    assert SAMPLER.thermal(mirrored).free_energy[0] == pytest.approx(-3.270443581, abs=5e-10)


def test_the_ground_energy_is_the_limit_of_low_temperature():
    cold = SAMPLER.thermal(replace(GOLDEN, beta=2000.0))
    assert cold.free_energy[0] == pytest.approx(-3.707778809745, abs=5e-13)


@pytest.mark.parametrize("field", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("beta", [0.4, 2.0])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("complete", {"n": 5}),
        ("layered", {"widths": [2, 3, 1]}),
        ("uncoupled", {"n": 1}),
        ("pegasus", {"m": 2, "n_hidden": 6}),
    ],
)
def test_the_dense_state_equals_a_matrix_exponential(kind, options, field, beta):
    problem = random_problem(build_graph(kind, **options), field, beta)
    expected = by_exponential(problem)
    assert_equal(SAMPLER.thermal(problem), expected)
    np.testing.assert_allclose(SAMPLER.transverse(problem), expected[3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [0.3, 1.0, 60.0, 600.0])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("complete", {"n": 7}),
        ("chimera", {"rows": 1, "columns": 1}),
        ("chimera", {"rows": 2, "columns": 2, "shore": 1}),
        ("layered", {"widths": [2, 5, 3]}),
        ("custom", {"n": 6, "edges": [[0, 1], [1, 2], [0, 2], [3, 4]]}),
        ("uncoupled", {"n": 3}),
        ("zephyr", {"m": 1, "n_hidden": 9}),
    ],
)
def test_the_sum_over_a_cover_equals_enumeration(kind, options, scale):
    # Up to fields of a thousand temperatures, where no product of exponentials is representable.
    problem = random_problem(build_graph(kind, **options), 0.0, scale=scale)
    assert_equal(SAMPLER.thermal(problem), by_enumeration(problem))


@pytest.mark.parametrize(("kind", "options"), [("complete", {"n": 5}), ("layered", {"widths": [3, 4]})])
def test_a_field_that_vanishes_gives_the_sum_over_a_cover(kind, options):
    problem = random_problem(build_graph(kind, **options), 0.0)
    nearly = SAMPLER.thermal(replace(problem, field=1e-8))
    assert_equal(SAMPLER.thermal(problem), (nearly.free_energy, nearly.z, nearly.zz))
    assert (SAMPLER.transverse(problem) == 0).all()


def test_blocks_of_any_size_give_the_same(monkeypatch):
    for field in (0.0, 0.7):
        problem = random_problem(build_graph("layered", widths=[4, 3]), field, samples=11)
        whole = SAMPLER.thermal(problem)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_ROWS", 4)
            patch.setattr(module, "_BLOCK", 40)
            patch.setattr(module, "_DENSE_BYTES", 3 * 8 * 4**7)
            assert_equal(SAMPLER.thermal(problem), (whole.free_energy, whole.z, whole.zz), 1e-14)


def test_the_machine_of_two_cells_equals_its_sum_over_the_other_shore():
    graph = build_graph("chimera", rows=1, columns=2)
    problem = random_problem(graph, 0.0, beta=2.0, samples=2)
    i, j = graph.edges.T
    shore = np.flatnonzero(graph.colours)  # the sampler takes the other one or either; here one term a line
    other = np.flatnonzero(~graph.colours)
    logs = []
    for spins in product((-1.0, 1.0), repeat=8):
        full = np.zeros(16)
        full[shore] = spins
        fields = np.array(
            [problem.couplings[(i == k) | (j == k)] @ (full[i] + full[j])[(i == k) | (j == k)] for k in other]
        )
        phi = problem.biases[:, other] + fields
        logs.append(2.0 * problem.biases[:, shore] @ np.array(spins) + np.log(2 * np.cosh(2.0 * phi)).sum(1))
    expected = -logsumexp(logs, axis=0) / 2.0
    np.testing.assert_allclose(SAMPLER.thermal(problem).free_energy, expected, rtol=1e-13)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.2, 5.0), st.floats(0.0, 2.0), st.floats(0.2, 3.0), st.integers(0, 2**32 - 1))
def test_a_common_factor_moves_between_energies_and_temperature(factor, field, beta, seed):
    rng = np.random.default_rng(seed)
    problem = Problem(build_graph("complete", n=3), rng.normal(size=(2, 3)), rng.normal(size=3), field, beta)
    scaled = Problem(
        problem.graph, factor * problem.biases, factor * problem.couplings, factor * field, beta / factor
    )
    one, other = SAMPLER.thermal(problem), SAMPLER.thermal(scaled)
    np.testing.assert_allclose(other.free_energy, factor * one.free_energy, rtol=1e-12)
    np.testing.assert_allclose(other.z, one.z, rtol=0, atol=1e-11)


@pytest.mark.parametrize("field", [0.0, 0.6])
def test_moments_are_the_derivatives_of_the_free_energy(field):
    problem = random_problem(build_graph("complete", n=4), field, samples=2)
    thermal, step = SAMPLER.thermal(problem), 1e-5

    def slope(**changes: tuple) -> np.ndarray:
        (name, (up, down)), *_ = changes.items()
        energies = [SAMPLER.thermal(replace(problem, **{name: value})).free_energy for value in (up, down)]
        return -(energies[0] - energies[1]) / (2 * step)

    for h in range(4):
        shift = step * np.eye(4)[h]
        found = slope(biases=(problem.biases + shift, problem.biases - shift))
        np.testing.assert_allclose(found, thermal.z[:, h], rtol=0, atol=1e-9)
    for e in range(6):
        shift = step * np.eye(6)[e]
        found = slope(couplings=(problem.couplings + shift, problem.couplings - shift))
        np.testing.assert_allclose(found, thermal.zz[:, e], rtol=0, atol=1e-9)
    if field:
        found = slope(field=(field + step, field - step))
        np.testing.assert_allclose(found, SAMPLER.transverse(problem).sum(1), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("kind", "options", "samples"),
    [
        ("chimera", {"rows": 1, "columns": 2}, 1000),
        ("layered", {"widths": [14, 300]}, 3),
        ("complete", {"n": 14}, 5),
    ],
)
def test_memory_stays_bounded(kind, options, samples):
    problem = random_problem(build_graph(kind, **options), 0.0, samples=samples)
    tracemalloc.start()
    try:
        SAMPLER.thermal(problem)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64e6


def test_what_it_counts_and_returns():
    thermal = SAMPLER.thermal(GOLDEN, free_energy=False)
    assert thermal.free_energy is None
    usage = SAMPLER.thermal(random_problem(GOLDEN.graph, 0.0, samples=7)).usage
    assert (usage.executions, usage.hardware_executions, usage.shots, usage.jobs) == (7, 7, 0, 0)
    assert usage.seconds > 0
    nothing = SAMPLER.thermal(replace(GOLDEN, biases=np.zeros((0, 4))))
    assert (nothing.z.shape, nothing.zz.shape, nothing.free_energy.shape) == ((0, 4), (0, 4), (0,))


@pytest.mark.parametrize(
    ("kind", "options", "field", "message"),
    [
        (
            "complete",
            {"n": 13},
            0.5,
            r"a matrix of 0.537 GB for 13 hidden units; use at most 12, field 0, or 'sqa'",
        ),
        (
            "uncoupled",
            {"n": 16},
            0.5,
            r"34.4 GB for 16 hidden units; use at most 12, field 0, or 'closed_form'",
        ),
        (
            "chimera",
            {"rows": 2, "columns": 3},
            0.0,
            r"would sum 2\^24 terms a state; use a graph that 16 units",
        ),
        ("complete", {"n": 18}, 0.0, r"would sum 2\^17 terms"),
    ],
)
def test_what_is_too_large_is_refused_in_one_line(kind, options, field, message):
    graph = build_graph(kind, **options)
    with pytest.raises(ValueError, match=message) as caught:
        SAMPLER.check(graph, field)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        SAMPLER.thermal(random_problem(graph, field))


def test_the_largest_that_are_allowed():
    SAMPLER.check(build_graph("complete", n=17), 0.0)
    SAMPLER.check(build_graph("chimera", rows=2, columns=2), 0.0)
    SAMPLER.check(build_graph("layered", widths=[16, 5000]), 0.0)
    SAMPLER.check(build_graph("complete", n=12), 0.5)
