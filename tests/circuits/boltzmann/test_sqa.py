"""Path-integral Monte Carlo against transfer matrices and dense thermal states.

Seeds are fixed, so each test always gives the same verdict. A random other seed would fail with a probability below
``ALARM`` for each comparison, unless a test states its own.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm

from circuits.boltzmann import Problem, build_graph, get_sampler
from circuits.boltzmann.sqa import SQASampler, field_schedule, uncoupled_free_energy
from circuits.engine import library

engine = pytest.mark.engine

ALARM = 1e-6
SIGMAS = norm.isf(ALARM / 2)
# F_r of the machine below with and without the constant C, to the digits given in the reference of the project.
TABLE = {
    1: (-4.161127, -3.565907),
    2: (-3.938666, -5.002082),
    5: (-3.829543, -11.744103),
    10: (-3.810002, -26.769275),
    25: (-3.804277, -84.249512),
    50: (-3.803450, -199.391267),
}


def golden() -> Problem:
    graph = build_graph("custom", n=4, edges=[(0, 2), (0, 3), (1, 2), (1, 3)])
    return Problem(graph, np.array([[0.3, -0.2, -0.3, -0.8]]), np.array([0.5, -0.7, 0.2, 0.9]), 0.5, 2.0)


def random_machine(n: int, field: float, beta: float, seed: int) -> Problem:
    """Couplings and biases between -1 and 1, two states; a complete graph for even seeds, else a bipartite one."""
    generator = np.random.default_rng(seed)
    graph = (
        build_graph("complete", n=n) if seed % 2 == 0 else build_graph("layered", widths=[n // 2, n - n // 2])
    )
    biases = generator.uniform(-1, 1, (2, n))
    return Problem(graph, biases, generator.uniform(-1, 1, len(graph.edges)), field, beta)


def signs(n: int) -> np.ndarray:
    """z of each basis state, ``(2 ** n, n)``."""
    return 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)


def energies(problem: Problem, row: int) -> np.ndarray:
    """The energy of each basis state without the field."""
    z = signs(problem.graph.n_hidden)
    first, second = problem.graph.edges.T
    return -z @ problem.biases[row] - (z[:, first] * z[:, second]) @ problem.couplings


def expectations(problem: Problem, diagonal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """<z> and <zz> from the probability of each basis state."""
    z = signs(problem.graph.n_hidden)
    first, second = problem.graph.edges.T
    return diagonal @ z, diagonal @ (z[:, first] * z[:, second])


def thermal_state(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F, <z> and <zz> from the eigenvectors of H."""
    n, rows = problem.graph.n_hidden, []
    states = np.arange(2**n)
    for row in range(len(problem.biases)):
        h = np.diag(energies(problem, row))
        for unit in range(n):
            h[states, states ^ 1 << unit] -= problem.field
        levels, vectors = np.linalg.eigh(h)
        weights = np.exp(-problem.beta * (levels - levels[0]))
        free = levels[0] - math.log(weights.sum()) / problem.beta
        rows.append((free, *expectations(problem, vectors**2 @ weights / weights.sum())))
    return tuple(np.array(values) for values in zip(*rows, strict=True))


def replica_ensemble(problem: Problem, slices: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """F_r, <z> and <zz> of r slices from the transfer matrix of a whole slice, and -(1/beta) ln C."""
    n, beta, rows = problem.graph.n_hidden, problem.beta, []
    x = problem.field * beta / slices
    k = 0.5 * math.log(1 / math.tanh(x))
    between = np.exp(k * (signs(n) @ signs(n).T))
    constant = -n * slices / 2 * math.log(0.5 * math.sinh(2 * x)) / beta
    for row in range(len(problem.biases)):
        energy = energies(problem, row)
        half = np.exp(-beta / (2 * slices) * (energy - energy.min()))
        values, vectors = np.linalg.eigh(half[:, None] * between * half)
        top = values[-1]
        powers = (values / top) ** slices
        free = energy.min() - (slices * math.log(top) + math.log(powers.sum())) / beta + constant
        rows.append((free, *expectations(problem, vectors**2 @ powers / powers.sum())))
    free, z, zz = (np.array(values) for values in zip(*rows, strict=True))
    return free, z, zz, constant


def deviations(found, errors, exact):
    """Deviations in standard errors, all of them."""
    return np.concatenate([((f - x) / e).ravel() for f, e, x in zip(found, errors, exact, strict=True)])


# ---- the ensemble ------------------------------------------------------------------------------------------


def test_replica_ensemble_has_the_tabled_free_energies_and_its_error_falls_with_the_square_of_slices():
    exact = thermal_state(golden())[0][0]
    assert exact == pytest.approx(-3.803173220665, abs=1e-11)
    scaled = []
    for slices, (with_c, without) in TABLE.items():
        free, _, _, constant = replica_ensemble(golden(), slices)
        assert free[0] == pytest.approx(with_c, abs=6e-7)
        assert free[0] - constant == pytest.approx(without, abs=6e-7)
        scaled.append((free[0] - exact) * slices**2)
    np.testing.assert_allclose(scaled, [-0.358, -0.542, -0.659, -0.683, -0.690, -0.691], atol=6e-4)


@pytest.mark.parametrize("slices", [1, 2, 5, 32])
@pytest.mark.parametrize("field", [0.02, 0.5, 3.0])
def test_start_of_annealed_importance_sampling_is_the_uncoupled_ensemble(slices, field):
    problem = replace(golden(), couplings=np.zeros(4), field=field)
    free = replica_ensemble(problem, slices)[0]
    np.testing.assert_allclose(uncoupled_free_energy(problem, slices), free, rtol=1e-12)


def test_start_at_zero_field_is_classical():
    problem = replace(golden(), couplings=np.zeros(4), field=0.0)
    free = -np.log(2 * np.cosh(problem.beta * problem.biases)).sum(axis=1) / problem.beta
    for slices in (1, 7):
        np.testing.assert_allclose(uncoupled_free_energy(problem, slices), free, rtol=1e-12)


@engine
@pytest.mark.parametrize("slices", [1, 2, 3, 8])
@pytest.mark.parametrize("update", ["worldline", "cluster", "spin"])
def test_every_update_samples_the_replica_ensemble(update, slices):
    """All three leave the same distribution alone, which they could not with a wrong probability."""
    sampler = SQASampler(
        slices, reads=256, sweeps=4000, burn_in=200, update=update, ais_steps=512, classical=slices == 1
    )
    found = sampler.thermal(golden(), seed=1)
    free, z, zz, _ = replica_ensemble(golden(), slices)
    errors = found.z_error, found.zz_error, found.free_energy_error
    assert max(error.max() for error in errors) < 1e-2
    off = deviations((found.z, found.zz, found.free_energy), errors, (z, zz, free))
    assert np.abs(off).max() < SIGMAS


@engine
@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_samples_the_replica_ensemble(name):
    """With an odd number of reads, so that lanes stay empty."""
    if name not in library.load().supported:
        pytest.skip(f"no {name} here")
    sampler = SQASampler(6, reads=201, sweeps=2000, instruction_set=name)
    found = sampler.thermal(golden(), seed=2)
    free, z, zz, _ = replica_ensemble(golden(), 6)
    errors = found.z_error, found.zz_error, found.free_energy_error
    assert np.abs(deviations((found.z, found.zz, found.free_energy), errors, (z, zz, free))).max() < SIGMAS


@pytest.mark.parametrize("slices", [1, 4])
def test_numpy_twin_samples_the_replica_ensemble(slices):
    sampler = SQASampler(
        slices,
        reads=1000,
        sweeps=40,
        burn_in=10,
        ais_steps=8,
        ais_sweeps=1,
        engine="numpy",
        classical=slices == 1,
    )
    found = sampler.thermal(golden(), seed=3)
    free, z, zz, _ = replica_ensemble(golden(), slices)
    errors = found.z_error, found.zz_error, found.free_energy_error
    assert max(error.max() for error in errors) < 0.05
    assert np.abs(deviations((found.z, found.zz, found.free_energy), errors, (z, zz, free))).max() < SIGMAS


# ---- accuracy ----------------------------------------------------------------------------------------------


@engine
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("field", [0.2, 0.5, 1.0, 2.0])
def test_values_are_within_two_hundredths_of_exact(field, beta):
    seed = round(100 * field + 10 * beta)
    problem = random_machine(4 + seed % 5, field, beta, seed // 5)
    found = SQASampler(reads=256, sweeps=2000, ais_steps=1024).thermal(problem, seed=4)
    free, z, zz = thermal_state(problem)
    np.testing.assert_allclose(found.z, z, atol=0.02)
    np.testing.assert_allclose(found.zz, zz, atol=0.02)
    np.testing.assert_allclose(found.free_energy, free, atol=0.02)


@engine
def test_error_falls_with_slices_at_fixed_sweeps():
    """The moments' error is that of the Trotter formula, a factor of about 4 for twice the slices."""
    problem = random_machine(6, 1.0, 2.0, 0)
    free, z, zz = thermal_state(problem)
    off, off_free = [], []
    for slices in (2, 4, 8, 16):
        found = SQASampler(slices, reads=256, sweeps=4000, ais_steps=512).thermal(problem, seed=5)
        off.append(math.sqrt(np.mean(np.concatenate([(found.z - z).ravel(), (found.zz - zz).ravel()]) ** 2)))
        off_free.append(np.abs(found.free_energy - free).max())
    assert off[3] < 0.006
    assert all(later < 0.5 * earlier for earlier, later in pairwise(off))
    assert all(later < 0.5 * earlier for earlier, later in pairwise(off_free))


@engine
@pytest.mark.parametrize("steps", [1, 3])
def test_free_energy_needs_no_slow_steps(steps):
    """Importance sampling is exact for any number of steps, if with a larger error."""
    problem = replace(golden(), beta=1.0)
    sampler = SQASampler(4, reads=40_000, sweeps=1, ais_steps=steps, ais_sweeps=1)
    found = sampler.thermal(problem, seed=6)
    assert 1e-3 < found.free_energy_error[0] < 2e-2
    off = (found.free_energy - replica_ensemble(problem, 4)[0]) / found.free_energy_error
    assert abs(off[0]) < SIGMAS


@engine
def test_standard_errors_are_the_spread():
    """Over 600 states that are all the same; a variance from as many is off by 6 %, and 30 % are five times that."""
    one = golden()
    problem = replace(one, biases=np.repeat(one.biases, 600, axis=0))
    found = SQASampler(4, reads=20, sweeps=50, burn_in=20, ais_steps=20, ais_sweeps=2).thermal(
        problem, seed=7
    )
    for values, errors in (
        (found.z, found.z_error),
        (found.zz, found.zz_error),
        (found.free_energy, found.free_energy_error),
    ):
        np.testing.assert_allclose(np.mean(errors**2, axis=0), values.var(axis=0), rtol=0.3)


@engine
def test_strong_weights_stay_finite_and_right():
    """Weights of scale 5, with odds far beyond those at which the kernel limits them."""
    generator = np.random.default_rng(8)
    graph = build_graph("complete", n=5)
    problem = Problem(graph, generator.uniform(-5, 5, (3, 5)), generator.uniform(-5, 5, 10), 0.5, 3.0)
    found = SQASampler(64, reads=64, sweeps=500, ais_steps=3000).thermal(problem, seed=8)
    free, z, zz, _ = replica_ensemble(problem, 64)
    np.testing.assert_allclose(found.z, z, atol=0.02)
    np.testing.assert_allclose(found.zz, zz, atol=0.02)
    assert found.free_energy_error.max() < 0.03
    assert np.abs((found.free_energy - free) / found.free_energy_error).max() < SIGMAS


# ---- zero field and one slice ------------------------------------------------------------------------------


@engine
@pytest.mark.parametrize("schedule", ["fixed", "linear"])
def test_zero_field_is_the_classical_machine(schedule):
    """At fixed field with one slice; at the end of a schedule with all slices locked."""
    problem = replace(golden(), field=0.0)
    initial = None if schedule == "fixed" else 4.0
    sampler = SQASampler(8, reads=512, sweeps=2000, burn_in=60, schedule=schedule, initial_field=initial)
    found = sampler.thermal(problem, seed=9)
    weights = np.exp(-problem.beta * energies(problem, 0))
    z, zz = expectations(problem, weights / weights.sum())
    free = -math.log(weights.sum()) / problem.beta
    errors = found.z_error, found.zz_error, found.free_energy_error
    exact = z[None], zz[None], np.array([free])
    assert np.abs(deviations((found.z, found.zz, found.free_energy), errors, exact)).max() < SIGMAS


@engine
def test_one_slice_is_classical_at_any_field():
    """Its moments are those of zero field, and it says that it is not quantum; it has to be asked for."""
    sampler = SQASampler(1, reads=32, sweeps=500, classical=True)
    assert not sampler.quantum
    assert SQASampler(2).quantum
    assert SQASampler().quantum
    with_field = sampler.thermal(golden(), free_energy=False, seed=1)
    without = sampler.thermal(replace(golden(), field=0.0), free_energy=False, seed=1)
    np.testing.assert_array_equal(with_field.z, without.z)


@pytest.mark.parametrize(
    ("options", "field"), [({}, 0.5), ({"schedule": "linear", "initial_field": 2.0}, 0.0)]
)
def test_one_slice_in_a_field_is_refused_unless_it_is_asked_for(options, field):
    message = "slices: 1 in a field is classical annealing; use slices >= 2, .* or classical=True"
    problem = replace(golden(), field=field)
    with pytest.raises(ValueError, match=message):
        SQASampler(1, reads=2, sweeps=2, burn_in=2, **options).thermal(problem, seed=1)
    SQASampler(1, reads=2, sweeps=2, burn_in=2, classical=True, **options).thermal(problem, seed=1)
    SQASampler(1, reads=2, sweeps=2, burn_in=2).thermal(replace(golden(), field=0.0), seed=1)


# ---- schedules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "logarithmic", "sqrt"])
def test_schedules_start_and_end_where_they_should(kind):
    reached = field_schedule(kind, 20.0, 0.5, 100)
    short = field_schedule(kind, 20.0, 0.5, 100, endpoint=False)
    longer = field_schedule(kind, 20.0, 0.5, 101)
    for fields in (reached, short):
        assert fields.shape == (100,)
        assert fields[0] == pytest.approx(20.0, rel=1e-14)
        assert (np.diff(fields) < 0).all()
    assert reached[-1] == pytest.approx(0.5, rel=1e-13)
    assert short[-1] > 0.5
    np.testing.assert_allclose(short, longer[:-1], rtol=1e-12)
    assert field_schedule(kind, 20.0, 0.0, 7)[-1] == 0.0
    assert field_schedule(kind, 20.0, 0.5, 1) == pytest.approx(0.5)
    assert field_schedule(kind, 20.0, 0.5, 1, endpoint=False) == pytest.approx(20.0)


def test_schedules_have_their_formula():
    t = np.arange(30)
    for kind, fall in (("logarithmic", 1 / np.log(t + 2)), ("sqrt", 1 / np.sqrt(t + 1)), ("linear", t)):
        fields = field_schedule(kind, 5.0, 1.0, 30)
        slope, offset = np.polyfit(fall, fields, 1)
        np.testing.assert_allclose(fields, offset + slope * fall, rtol=1e-10)


@engine
@pytest.mark.parametrize("schedule", ["linear", "logarithmic", "sqrt"])
def test_a_slow_anneal_reads_the_ensemble_at_its_last_field(schedule):
    problem = golden()
    for endpoint in (True, False):
        sampler = SQASampler(
            8,
            4096,
            1,
            40,
            schedule=schedule,
            initial_field=3.0,
            endpoint=endpoint,
            ais_steps=64,
            ais_sweeps=1,
        )
        last = field_schedule(schedule, 3.0, problem.field, 40, endpoint)[-1]
        found = sampler.thermal(problem, seed=10)
        free = replica_ensemble(problem, 8)[0]
        _, z, zz, _ = replica_ensemble(replace(problem, field=last), 8)
        errors = found.z_error, found.zz_error, found.free_energy_error
        assert (
            np.abs(deviations((found.z, found.zz, found.free_energy), errors, (z, zz, free))).max() < SIGMAS
        )


# ---- seeds, counts, settings -------------------------------------------------------------------------------


@engine
def test_results_depend_on_seed_state_and_read_alone():
    problem = random_machine(5, 0.7, 1.5, 3)
    problem = replace(problem, biases=np.tile(problem.biases, (4, 1)))
    sampler = SQASampler(5, reads=7, sweeps=11, ais_steps=5)
    whole = sampler.thermal(problem, seed=11)
    again = SQASampler(5, reads=7, sweeps=11, ais_steps=5, threads=3).thermal(problem, seed=11)
    part = sampler.thermal(replace(problem, biases=problem.biases[:3]), seed=11)
    for name in ("z", "zz", "free_energy", "z_error"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(again, name))
        np.testing.assert_array_equal(getattr(whole, name)[:3], getattr(part, name))
    moments = copy.deepcopy(sampler).thermal(problem, free_energy=False, seed=11)
    assert moments.free_energy is None
    np.testing.assert_array_equal(moments.z, whole.z)
    other = sampler.thermal(problem, seed=12)
    assert (other.z != whole.z).any()
    assert (whole.z[0] != whole.z[2]).any()  # the same biases, another state
    np.testing.assert_array_equal(  # reads too keep their draws where there are more of them
        SQASampler(5, reads=3, sweeps=11)._run(problem, 5, np.ones(1), np.ones(1), 1, 11, 11)[0],
        sampler._run(problem, 5, np.ones(1), np.ones(1), 1, 11, 11)[0][:, :3],
    )


def test_a_seed_comes_from_torch_where_none_is_given():
    import torch

    sampler = SQASampler(2, reads=2, sweeps=2, burn_in=2)
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append([sampler.thermal(golden(), free_energy=False).z for _ in range(2)])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0][0] != draws[0][1]).any()


def test_every_ensemble_is_counted():
    problem = random_machine(4, 0.5, 1.0, 1)
    sampler = SQASampler(2, reads=3, sweeps=2, burn_in=2, ais_steps=9, ais_sweeps=1)
    usage = sampler.thermal(problem, seed=0).usage
    assert (usage.executions, usage.hardware_executions, usage.shots) == (20, 20, 60)
    usage = sampler.thermal(problem, seed=0, free_energy=False).usage
    assert (usage.executions, usage.hardware_executions, usage.shots) == (2, 2, 6)
    assert usage.seconds > 0
    alone = Problem(build_graph("uncoupled", n=3), np.ones((2, 3)), np.zeros(0), 0.5, 1.0)
    found = sampler.thermal(alone, seed=0)
    assert found.usage.executions == 2
    assert found.zz.shape == (2, 0)
    np.testing.assert_array_equal(found.free_energy_error, 0.0)
    np.testing.assert_allclose(found.free_energy, replica_ensemble(alone, 2)[0], rtol=1e-12)


def test_a_single_read_has_no_standard_error():
    found = SQASampler(2, reads=1, sweeps=3).thermal(golden(), seed=0)
    assert np.isnan(found.z_error).all()
    assert np.isnan(found.zz_error).all()
    assert np.isnan(found.free_energy_error).all()
    assert np.isfinite(found.free_energy).all()


def test_a_spin_that_never_flips_is_not_taken_for_certain():
    frozen = replace(golden(), biases=np.full((1, 4), 30.0))
    found = SQASampler(2, reads=10, sweeps=100).thermal(frozen, seed=0)
    np.testing.assert_array_equal(found.z, 1.0)
    np.testing.assert_allclose(found.z_error, 2e-3)


def test_an_empty_batch_is_answered():
    found = SQASampler(2, reads=2, sweeps=2).thermal(replace(golden(), biases=np.zeros((0, 4))), seed=0)
    assert found.z.shape == (0, 4)
    assert found.free_energy.shape == (0,)
    assert found.usage.executions == 0


def test_slices_follow_field_and_temperature():
    sampler = SQASampler()
    assert sampler.slices_at(0.5, 2.0) == 20
    assert sampler.slices_at(0.1, 0.5) == 8
    assert sampler.slices_at(20.0, 2.0) == 128
    assert sampler.slices_at(0.0, 2.0) == 1
    assert SQASampler(5).slices_at(20.0, 2.0) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": 0}, "slices: 0 is below 1"),
        ({"slices": 2.0}, "slices: 2.0 is not an integer"),
        ({"reads": 0}, "reads: 0 is below 1"),
        ({"classical": True}, "classical: true with 'auto' slices; use slices=1"),
        ({"schedule": "lin", "initial_field": 1.0}, "did you mean 'linear'"),
        ({"schedule": "linear"}, "initial_field: goes with a schedule"),
        ({"initial_field": 2.0}, "initial_field: goes with a schedule"),
        ({"schedule": "sqrt", "initial_field": -1.0}, "initial_field: -1.0 is out of range"),
        ({"schedule": "sqrt", "initial_field": 1.0, "burn_in": 0}, "burn_in: 0 is below 1"),
        ({"update": "spins"}, "did you mean 'spin'"),
        ({"engine": "numpy", "update": "spin"}, "update: 'spin' needs the compiled kernel"),
        ({"engine": "nativ"}, "did you mean 'native'"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SQASampler(**options)


def test_requests_that_cannot_be_are_refused():
    sampler = SQASampler(2, 2, 2, 2, schedule="linear", initial_field=0.3)
    with pytest.raises(ValueError, match=r"initial_field: 0\.3 is below the field 0\.5"):
        sampler.thermal(golden(), seed=0)
    with pytest.raises(ValueError, match="seed: -1 is no seed"):
        SQASampler(2).thermal(golden(), seed=-1)


@engine
def test_sums_that_cannot_be_counted_are_refused():
    sampler = SQASampler(2**20, reads=1, sweeps=2**12, burn_in=0)
    with pytest.raises(ValueError, match="sweeps: 4096 in 1048576 slices cannot be counted"):
        sampler.thermal(golden(), seed=0, free_energy=False)


@engine
@pytest.mark.parametrize("edge", [(0, 2), (-1, 0), (1, 1)])
def test_kernel_refuses_edges_that_are_not_there(edge):
    loaded = library.load()
    edges, reals, z = np.array(edge, dtype=np.int32), np.ones(2), np.zeros(2, dtype=np.int32)
    at = reals.ctypes.data
    counts = 0, 0, 1, 1, 1, 2, 1  # instruction set, update, threads, systems, reads, spins, edges
    request = edges.ctypes.data, at, at, 1.0, 2, 1, at, at, 1, 1, 0, z.ctypes.data, 0, 0
    assert loaded.lib.qrl_anneal(*counts, *request) == 3
    np.testing.assert_array_equal(z, 0)


def test_without_the_kernel_the_twin_takes_its_place(monkeypatch):
    monkeypatch.setattr(library, "load", lambda: None)
    monkeypatch.setattr(library, "reason", lambda: "switched off by QRL_ENGINE=off")
    assert SQASampler().engine == "numpy"
    with pytest.raises(ValueError, match="engine: 'native' is not available, switched off by QRL_ENGINE=off"):
        SQASampler(engine="native")


def test_it_is_found_by_name():
    sampler = get_sampler("sqa", slices=3, reads=4)
    assert isinstance(sampler, SQASampler)
    assert (sampler.name, sampler.exact, sampler.slices, sampler.reads) == ("sqa", False, 3, 4)
