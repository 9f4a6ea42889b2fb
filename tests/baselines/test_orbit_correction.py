"""The orbit corrector: exact correction, modes, limits, the discrete case, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from baselines import OrbitCorrector

SCALE = 3e-4


def rms_mm(orbit):
    return 1e3 * np.sqrt(np.mean(np.square(orbit), axis=-1))


def corrected(corrector, response, kicks):
    """Orbit after one step from the kicks, with the kicks clipped to their box as the beam line's supplies
    do.
    """
    action = corrector.action(kicks @ response.T)
    return np.clip(kicks + SCALE * action, -SCALE, SCALE) @ response.T


def test_the_matrix_is_the_published_one(awake_response):
    assert np.linalg.cond(awake_response) == pytest.approx(280.3, abs=0.1)
    assert awake_response[6, 0] == pytest.approx(-21.3422, abs=1e-4)


def test_known_response_solves_every_reset_in_one_step(awake_response, awake_resets):
    corrector = OrbitCorrector(awake_response)
    assert corrector.n_modes == 10
    action = corrector.action(awake_resets @ awake_response.T)
    assert np.abs(action).max() <= 1.0
    np.testing.assert_allclose(action, -awake_resets / SCALE, atol=1e-10)
    assert rms_mm(corrected(corrector, awake_response, awake_resets)).max() < 1e-9


def test_one_mode_leaves_the_published_residual(awake_response, awake_resets):
    corrector = OrbitCorrector.one_mode(awake_response)
    action = corrector.action(awake_resets @ awake_response.T)
    left = rms_mm((awake_resets + SCALE * action) @ awake_response.T)
    assert np.median(left) == pytest.approx(0.24, abs=0.01)
    assert np.percentile(left, 95) == pytest.approx(0.56, abs=0.01)
    assert (left < 1.6).all()
    largest = np.abs(action).max(axis=1)
    assert np.median(largest) == pytest.approx(0.26, abs=0.01)
    assert np.percentile(largest, 95) == pytest.approx(0.72, abs=0.02)


def test_two_modes_leave_less(awake_response, awake_resets):
    corrector = OrbitCorrector(awake_response, n_modes=2)
    orbits = awake_resets @ awake_response.T
    left = rms_mm(orbits - orbits @ corrector.pseudo_inverse.T @ awake_response.T)
    assert np.median(left) == pytest.approx(0.11, abs=0.01)
    assert np.percentile(left, 95) == pytest.approx(0.20, abs=0.01)
    clipped = rms_mm(corrected(corrector, awake_response, awake_resets))
    assert np.percentile(clipped, 95) < 0.25


def test_the_first_mode_carries_the_orbit(awake_response):
    s = OrbitCorrector(awake_response).singular_values
    assert s[0] ** 2 / np.sum(s**2) == pytest.approx(0.987, abs=0.001)


def test_one_observation_equals_its_row_of_a_batch(awake_response, awake_resets):
    corrector = OrbitCorrector(awake_response, n_modes=3, gain=0.5)
    orbits = awake_resets[:7] @ awake_response.T
    batch = corrector.action(orbits)
    assert batch.shape == (7, 10)
    for orbit, row in zip(orbits, batch, strict=True):
        np.testing.assert_allclose(corrector.action(orbit), row, rtol=1e-12)
    action, state = corrector.predict(orbits.astype(np.float32), deterministic=True)
    assert state is None
    np.testing.assert_allclose(action, batch, atol=1e-4)


def test_gain_contracts_the_orbit_geometrically(awake_response, awake_resets):
    corrector = OrbitCorrector(awake_response, gain=0.5)
    kicks = awake_resets[:5]
    start = kicks @ awake_response.T
    for step in range(1, 5):
        kicks = kicks + SCALE * corrector.action(kicks @ awake_response.T)
        np.testing.assert_allclose(kicks @ awake_response.T, 0.5**step * start, atol=1e-12)


def test_cutoff_leaves_weak_modes_out(awake_response):
    s = OrbitCorrector(awake_response).singular_values
    assert OrbitCorrector(awake_response, cutoff=1.001 * s[4] / s[0]).n_modes == 4
    assert OrbitCorrector(np.diag([1.0, 0.0])).n_modes == 1


def test_pseudo_inverse_is_numpys(awake_response):
    np.testing.assert_allclose(
        OrbitCorrector(awake_response).pseudo_inverse, np.linalg.pinv(awake_response), atol=1e-10
    )
    tall = awake_response[:, :4]
    np.testing.assert_allclose(OrbitCorrector(tall).pseudo_inverse, np.linalg.pinv(tall), atol=1e-10)


def test_observations_in_other_units(awake_response, awake_resets):
    orbits = awake_resets[:5] @ awake_response.T
    scaled = OrbitCorrector(awake_response, observation_scale=0.02)
    np.testing.assert_allclose(scaled.action(orbits / 0.02), OrbitCorrector(awake_response).action(orbits))


def test_limits_clip_each_or_scale_all():
    response = np.diag([1.0, 1.0])
    orbit = np.array([-4.0, -0.5])
    clip = OrbitCorrector(response, action_scale=1.0)
    np.testing.assert_allclose(clip.action(orbit), [1.0, 0.5])
    scale = OrbitCorrector(response, action_scale=1.0, limit="scale")
    np.testing.assert_allclose(scale.action(orbit), [1.0, 0.125])
    np.testing.assert_allclose(scale.action(np.array([-0.4, 0.1])), [0.4, -0.1])


@given(arrays(np.float64, (3, 2), elements=st.floats(-1e3, 1e3)))
@pytest.mark.parametrize("limit", ["clip", "scale"])
def test_actions_stay_in_the_box(limit, orbits):
    response = np.array([[1.0, 0.3], [-2.0, 1.0]])
    action = OrbitCorrector(response, limit=limit).action(orbits)
    assert action.shape == (3, 2)
    assert (np.abs(action) <= 1.0).all()


def test_saturated_supplies_converge_over_steps(awake_response):
    """Kicks three times the box of one action: the clipped corrector needs three steps, and gets there."""
    rng = np.random.default_rng(1)
    kicks = rng.uniform(-3, 3, size=(50, 10)) * SCALE
    corrector = OrbitCorrector(awake_response)
    for _ in range(8):
        kicks = kicks + SCALE * corrector.action(kicks @ awake_response.T)
    assert rms_mm(kicks @ awake_response.T).max() < 1e-6


def test_a_missing_monitor_counts_as_zero(awake_response, awake_resets):
    corrector = OrbitCorrector.one_mode(awake_response)
    orbit = awake_resets[0] @ awake_response.T
    missing, zero = orbit.copy(), orbit.copy()
    missing[3], zero[3] = np.nan, 0.0
    np.testing.assert_array_equal(corrector.action(missing), corrector.action(zero))


STEPS = (-15e-6, 15e-6)


def test_one_corrector_and_one_monitor_give_the_sign():
    """Target steering: one dipole, 42.92 m/rad to the monitor, 15 microradians off or on."""
    corrector = OrbitCorrector([[42.92]], increments=STEPS)
    assert corrector.action([2e-3]) == 0
    assert corrector.action([-2e-3]) == 1
    assert isinstance(corrector.action([2e-3]), int)
    np.testing.assert_array_equal(corrector.action([[2e-3], [-1e-6], [5e-3]]), [0, 1, 0])
    assert OrbitCorrector([[-42.92]], increments=STEPS).action([2e-3]) == 1


def test_a_third_action_stays_where_nothing_is_wanted():
    corrector = OrbitCorrector([[42.92]], increments=(*STEPS, 0.0))
    np.testing.assert_array_equal(corrector.action([[0.1e-3], [0.4e-3], [-0.4e-3]]), [2, 0, 1])


@pytest.mark.parametrize("kick", [140e-6, -140e-6, 67e-6, -90e-6])
def test_the_sign_policy_steers_onto_the_target(kick):
    corrector = OrbitCorrector([[42.92]], increments=STEPS)
    steps = 0
    while abs(9.1276 * kick) > 0.6035e-3:
        kick += STEPS[corrector.action([42.92 * kick])]
        steps += 1
    assert 1 <= steps <= 5


@pytest.mark.parametrize(
    ("response", "options", "message"),
    [
        ([1.0, 2.0], {}, "response: shape"),
        ([[float("nan")]], {}, "response: an entry"),
        ([[0.0]], {}, "response: the matrix is 0"),
        ([[1.0]], {"n_modes": 0}, "n_modes: 0"),
        ([[1.0]], {"n_modes": 2}, "n_modes: 2"),
        ([[1.0]], {"n_modes": True}, "n_modes: True"),
        ([[1.0]], {"gain": 0.0}, "gain: 0.0"),
        ([[1.0]], {"gain": 1.5}, "gain: 1.5"),
        ([[1.0]], {"gain": "high"}, "gain: 'high'"),
        ([[1.0]], {"cutoff": -0.1}, "cutoff: -0.1"),
        ([[1.0]], {"action_scale": float("inf")}, "action_scale: inf"),
        ([[1.0]], {"observation_scale": float("nan")}, "observation_scale: nan"),
        ([[1.0]], {"limit": "wrap"}, "limit: 'wrap'"),
        ([[1.0, 2.0]], {"increments": STEPS}, "increments: a response"),
        ([[1.0]], {"increments": [1e-6]}, "increments:"),
    ],
)
def test_bad_arguments_name_themselves(response, options, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        OrbitCorrector(response, **options)
    assert "\n" not in str(caught.value)


def test_bad_observation(awake_response):
    with pytest.raises(ValueError, match=r"observation: shape \(9,\)"):
        OrbitCorrector(awake_response).action(np.zeros(9))
