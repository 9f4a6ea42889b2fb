"""Thermodynamic integration against the golden machine, closed forms and the exact sampler; moments from reads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from circuits.boltzmann import Problem, build_graph, get_sampler
from circuits.boltzmann.integration import inner_problems, integrate, lobatto, uncoupled
from circuits.boltzmann.reads import averages, moments

EDGES = [(0, 2), (0, 3), (1, 2), (1, 3)]


def machine(scale: float = 1.0, field: float = 0.5, beta: float = 2.0) -> Problem:
    """Two states of a four-unit machine; at the defaults the first is the golden one."""
    biases = np.array([[0.3, -0.2, -0.3, -0.8], [-0.5, 0.1, 0.7, 0.4]])
    couplings = scale * np.array([0.5, -0.7, 0.2, 0.9])
    return Problem(build_graph("custom", n=4, edges=EDGES), biases, couplings, field, beta)


def exact_works(problem: Problem, inner: int) -> np.ndarray:
    sampler = get_sampler("exact")
    ensembles = [*inner_problems(problem, inner), problem]
    return np.array([sampler.thermal(ensemble).zz @ problem.couplings for ensemble in ensembles])


@pytest.mark.parametrize("inner", range(8))
def test_the_rule_is_exact_to_its_degree_and_no_further(inner):
    points, weights = lobatto(inner)
    assert points[0] == 0.0
    assert points[-1] == 1.0
    degrees = np.arange(2 * inner + 3)
    errors = np.array([weights @ points**degree for degree in degrees]) - 1.0 / (degrees + 1)
    np.testing.assert_allclose(errors[:-1], 0.0, atol=1e-14)
    assert abs(errors[-1]) > 1e-12


def test_one_inner_point_is_simpsons_rule():
    points, weights = lobatto(1)
    np.testing.assert_allclose(points, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(weights, [1 / 6, 4 / 6, 1 / 6])


def test_the_golden_free_energy_comes_out_of_moments():
    energy, error = integrate(machine(), exact_works(machine(), 8))
    assert error is None
    assert energy[0] == pytest.approx(-3.803173220665, abs=1e-9)


@pytest.mark.parametrize(("scale", "field", "beta"), [(1.0, 0.5, 2.0), (3.0, 0.2, 3.0), (2.0, 0.0, 1.0)])
def test_the_error_of_the_rule_falls_with_the_points(scale, field, beta):
    problem = machine(scale, field, beta)
    exact = get_sampler("exact").thermal(problem).free_energy
    errors = [
        np.abs(integrate(problem, exact_works(problem, inner))[0] - exact).max() for inner in (0, 2, 4, 6)
    ]
    assert all(later < 0.5 * earlier for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < 0.01  # of free energies of 4 to 12


def test_without_couplings_the_closed_form_is_left():
    graph = build_graph("uncoupled", n=1)
    problem = Problem(graph, np.array([[0.7], [0.0]]), np.zeros(0), 0.5, 2.0)
    energy, z = uncoupled(problem)
    assert energy[0] == pytest.approx(-0.875998757, abs=1e-9)
    assert z[0, 0] == pytest.approx(0.763216088, abs=1e-9)
    assert integrate(problem, np.zeros((1, 2)))[0] == pytest.approx(energy)


def test_a_free_spin_has_the_limits_of_the_closed_form():
    problem = Problem(build_graph("uncoupled", n=1), np.array([[0.0], [1e-9]]), np.zeros(0), 0.0, 2.0)
    energy, z = uncoupled(problem)
    np.testing.assert_allclose(energy, -np.log(2.0) / 2.0)
    np.testing.assert_allclose(z, [[0.0], [2e-9]])


def test_standard_errors_add_up_as_the_weights_say():
    rng = np.random.default_rng(1)
    problem, works = machine(), exact_works(machine(), 3)
    errors = rng.uniform(0.1, 0.4, works.shape)
    drawn = [integrate(problem, rng.normal(works, errors))[0] for _ in range(4000)]
    # The relative error of a standard deviation from 4000 draws is 1.1 %; 5 % is 4.5 of them.
    np.testing.assert_allclose(np.std(drawn, axis=0), integrate(problem, works, errors)[1], rtol=0.05)


def test_moments_of_reads():
    spins = np.array([[[1, 1, -1], [1, -1, -1], [1, 1, 1], [1, -1, 1]]], dtype=np.int8)
    z, zz, z_error, zz_error = moments(spins, np.array([[0, 1], [1, 2]]))
    np.testing.assert_allclose(z, [[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(zz, [[0.0, 0.0]])
    # With one more read of either sign: (4 + 1 - 1)/6 for the first unit.
    np.testing.assert_allclose(z_error, [[np.sqrt((1 - (4 / 6) ** 2) / 6), np.sqrt(1 / 6), np.sqrt(1 / 6)]])
    np.testing.assert_allclose(zz_error, np.full((1, 2), np.sqrt(1 / 6)))


def test_averages_of_reads():
    mean, error = averages(np.array([[1.0, 2.0, 3.0, 6.0]]))
    np.testing.assert_allclose(mean, [3.0])
    np.testing.assert_allclose(error, [np.sqrt(14.0 / 3.0 / 4.0)])
