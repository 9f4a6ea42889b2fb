"""Uncoupled units: golden value, agreement with diagonalisation, limits, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from circuits.boltzmann import Problem, build_graph, get_sampler

SAMPLER = get_sampler("closed_form")


def test_one_spin_to_the_printed_digits():
    thermal = SAMPLER.thermal(Problem(build_graph("uncoupled", n=1), [[0.7]], [], 0.5, 2.0))
    assert thermal.free_energy[0] == pytest.approx(-0.875998757, abs=5e-10)
    assert thermal.z[0, 0] == pytest.approx(0.763216088, abs=5e-10)
    assert thermal.estimator == "closed form"


@pytest.mark.parametrize("field", [0.0, 1e-3, 0.5, 3.0])
@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_it_equals_the_exact_sampler(field, beta):
    biases = np.random.default_rng(0).normal(size=(7, 5))
    biases[0] = 0.0
    problem = Problem(build_graph("uncoupled", n=5), biases, [], field, beta)
    ours, exact = SAMPLER.thermal(problem), get_sampler("exact").thermal(problem)
    np.testing.assert_allclose(ours.z, exact.z, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.free_energy, exact.free_energy, rtol=1e-13)
    assert ours.zz.shape == (7, 0)
    assert ours.usage.executions == ours.usage.hardware_executions == 7


def test_without_a_field_it_is_the_softplus_form():
    biases = np.linspace(-2, 2, 12).reshape(4, 3)
    thermal = SAMPLER.thermal(Problem(build_graph("uncoupled", n=3), biases, [], 0.0, 1.5))
    softplus = np.log1p(np.exp(2 * 1.5 * biases)) - 1.5 * biases
    np.testing.assert_allclose(thermal.free_energy, -softplus.sum(1) / 1.5, rtol=1e-14)
    np.testing.assert_allclose(thermal.z, np.tanh(1.5 * biases), rtol=1e-13, atol=1e-15)


def test_extremes_stay_finite():
    biases = np.array([[0.0, 1e-300, 1e4]])
    for field in (0.0, 1e-200, 1e4):
        thermal = SAMPLER.thermal(Problem(build_graph("uncoupled", n=3), biases, [], field, 50.0))
        assert np.isfinite(thermal.z).all()
        assert thermal.z[0, 0] == 0
        assert np.isfinite(thermal.free_energy).all()


def test_free_energy_only_where_wanted_and_no_couplings():
    problem = Problem(build_graph("uncoupled", n=1), [[0.7]], [], 0.5, 2.0)
    assert SAMPLER.thermal(problem, free_energy=False).free_energy is None
    pair = build_graph("complete", n=2)
    with pytest.raises(ValueError, match="'closed_form' knows no couplings, the graph has 1; use 'exact'"):
        SAMPLER.check(pair, 0.5)
    with pytest.raises(ValueError, match="'closed_form' knows no couplings"):
        SAMPLER.thermal(Problem(pair, [[0.7, 0.1]], [1.0], 0.5, 2.0))
