"""dwave-samplers at fixed temperature against exact thermal states.

Statistical bounds are 4.5 standard errors at fixed seeds. Were the seeds fresh, one comparison would fail falsely
with probability 7e-6, and the file's 200 of them with 0.1 %.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

from circuits.boltzmann import Problem, Sampler, build_graph, get_sampler
from circuits.boltzmann.ocean import OceanSampler, ramp, spin_model

pytest.importorskip("dwave.samplers")

EDGES = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 4)]


def machine(field: float, beta: float, states: int = 2) -> Problem:
    rng = np.random.default_rng(7)
    biases, couplings = rng.normal(0.0, 0.6, (states, 5)), rng.normal(0.0, 0.6, 6)
    return Problem(build_graph("custom", n=5, edges=EDGES), biases, couplings, field, beta)


def assert_thermal(found, exact, sigmas=4.5):
    for name in ("z", "zz", "free_energy"):
        distance = np.abs(getattr(found, name) - getattr(exact, name)) / getattr(found, f"{name}_error")
        assert distance.max() < sigmas, name


@pytest.mark.parametrize(("field", "beta"), [(0.2, 2.0), (0.5, 2.0), (1.0, 1.0), (2.0, 0.5), (0.0, 1.0)])
def test_path_integrals_sample_the_thermal_state(field, beta):
    problem = machine(field, beta)
    found = OceanSampler(reads=800, sweeps=30, nodes=4).thermal(problem, seed=3)
    assert_thermal(found, get_sampler("exact").thermal(problem))
    assert found.z_error.max() < 0.04
    assert found.free_energy_error.max() < 0.04


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_simulated_annealing_samples_the_classical_state(beta):
    problem = machine(0.0, beta)
    found = OceanSampler("simulated_annealing", reads=4000, sweeps=50).thermal(problem, seed=3)
    assert_thermal(found, get_sampler("exact").thermal(problem))
    assert found.z_error.max() < 0.02


def test_the_golden_machine():
    problem = Problem(
        build_graph("custom", n=4, edges=[(0, 2), (0, 3), (1, 2), (1, 3)]),
        np.array([[0.3, -0.2, -0.3, -0.8]]),
        np.array([0.5, -0.7, 0.2, 0.9]),
        0.5,
        2.0,
    )
    found = OceanSampler(reads=2000, sweeps=40, nodes=4).thermal(problem, seed=1)
    z = np.array([[0.755290883, -0.857191168, -0.095705300, -0.939071400]])
    zz = np.array([[0.07477902, -0.75835683, 0.10817940, 0.85603420]])
    assert (np.abs(found.z - z) / found.z_error).max() < 4.5
    assert (np.abs(found.zz - zz) / found.zz_error).max() < 4.5
    assert abs(found.free_energy[0] + 3.803173220665) / found.free_energy_error[0] < 4.5


def test_a_seed_fixes_every_state_whatever_else_is_asked():
    sampler, problem = OceanSampler(reads=50, sweeps=10, nodes=2), machine(0.5, 1.0, states=3)
    first = sampler.thermal(problem, seed=5)
    again = sampler.thermal(problem, seed=5)
    fewer = sampler.thermal(Problem(problem.graph, problem.biases[:2], problem.couplings, 0.5, 1.0), seed=5)
    for name in ("z", "zz", "free_energy"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        np.testing.assert_array_equal(getattr(first, name)[:2], getattr(fewer, name))
    assert not np.array_equal(first.z, sampler.thermal(problem, seed=6).z)


def test_states_of_the_same_biases_are_drawn_apart():
    problem = machine(0.5, 1.0, states=1)
    twice = Problem(problem.graph, np.repeat(problem.biases, 2, axis=0), problem.couplings, 0.5, 1.0)
    z = OceanSampler(reads=200, sweeps=10).thermal(twice, free_energy=False, seed=0).z
    assert not np.array_equal(z[0], z[1])


def test_ensembles_are_counted():
    sampler, problem = OceanSampler(reads=20, sweeps=4, nodes=5), machine(0.5, 1.0, states=3)
    moments = sampler.thermal(problem, free_energy=False, seed=0)
    assert (moments.usage.executions, moments.usage.hardware_executions) == (3, 3)
    assert moments.usage.shots == 60
    assert moments.free_energy is None
    full = sampler.thermal(problem, seed=0)
    assert (full.usage.executions, full.usage.shots, full.usage.jobs) == (18, 360, 0)
    assert full.estimator == "thermodynamic integration, 5 inner ensembles"


def test_without_couplings_no_further_ensemble_is_sampled():
    problem = Problem(build_graph("uncoupled", n=2), np.array([[0.3, -0.4]]), np.zeros(0), 0.5, 1.0)
    found = OceanSampler(reads=20, sweeps=4).thermal(problem, seed=0)
    assert found.usage.executions == 1
    assert found.free_energy == pytest.approx(get_sampler("closed_form").thermal(problem).free_energy)


def test_an_empty_batch_is_fine():
    problem = machine(0.5, 1.0, states=2)
    empty = Problem(problem.graph, problem.biases[:0], problem.couplings, 0.5, 1.0)
    found = OceanSampler(reads=20, sweeps=4).thermal(empty, seed=0)
    assert found.z.shape == (0, 5)
    assert found.free_energy.shape == (0,)


def test_the_model_has_ocean_signs():
    problem = machine(0.0, 1.0, states=1)
    model = spin_model(problem.biases[0], problem.couplings, problem.graph)
    spins = np.array([1, -1, -1, 1, 1])
    first, second = problem.graph.edges.T
    energy = -problem.biases[0] @ spins - problem.couplings @ (spins[first] * spins[second])
    assert model.energy((spins, range(5))) == pytest.approx(energy)


def test_the_second_half_is_at_full_temperature():
    np.testing.assert_allclose(ramp(6), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(ramp(2), [0.5, 1.0])


def test_it_is_a_sampler_by_name():
    sampler = get_sampler("ocean", method="simulated_annealing")
    assert isinstance(sampler, Sampler)
    assert (sampler.name, sampler.exact) == ("ocean", False)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "simulated"}, ValueError, "method: 'simulated' is unknown.*'simulated_annealing'"),
        ({"reads": 1}, ValueError, "reads: 1 is below 2"),
        ({"sweeps": 2.5}, TypeError, "sweeps: 2.5 is not an integer"),
        ({"nodes": -1}, ValueError, "nodes: -1 is below 0"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        OceanSampler(**options)


def test_simulated_annealing_refuses_a_field():
    with pytest.raises(ValueError, match=r"field: 0.5, but simulated annealing is classical"):
        OceanSampler("simulated_annealing").thermal(machine(0.5, 1.0), seed=0)


def test_a_missing_extra_is_named(monkeypatch):
    import dwave.samplers

    monkeypatch.delattr(dwave, "samplers")
    monkeypatch.setitem(sys.modules, "dwave.samplers", None)
    with pytest.raises(ValueError, match=r"pip install 'hybrid-qrl\[dwave\]'"):
        OceanSampler()
