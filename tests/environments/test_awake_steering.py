"""AwakeSteering against published statistics, linear algebra and its own specification."""

import math

import gymnasium as gym
import numpy as np
import pytest

from environments.awake_steering import VARIANTS, AwakeSteering, AwakeSteeringVector
from environments.optics import awake_optics, awake_quadrupoles

NOW = np.zeros(1, dtype=np.int64)


def _rms(env, n, seed):
    """RMS orbits (n,) of n uniform settings in the start range, none rejected."""
    kicks = np.random.default_rng(seed).uniform(-3e-4, 3e-4, size=(n, 10))
    return env.line.outcome(kicks, np.zeros(n, dtype=np.int64)).details["rms"]


@pytest.mark.parametrize(
    ("plane", "percentiles", "below"),
    [
        ("horizontal", [0.34, 0.99, 1.98, 3.28, 5.34], {2.0: 0.51, 1.6: 0.41}),
        ("vertical", [0.23, 0.45, 0.73, 1.10, 1.64], {2.0: 0.99, 1.6: 0.94}),
    ],
)
def test_orbit_statistics_of_uniform_kicks(plane, percentiles, below):
    """Published percentiles in mm; 200,000 draws put their sampling error under 0.02 mm."""
    rms = 1e3 * _rms(AwakeSteering(plane=plane), 200_000, seed=0)
    np.testing.assert_allclose(np.percentile(rms, [5, 25, 50, 75, 95]), percentiles, atol=0.02)
    for threshold, share in below.items():
        assert np.mean(rms < threshold) == pytest.approx(share, abs=0.007)
    analytic = 1e3 * math.sqrt(np.sum(awake_optics(plane).response ** 2) * 3e-4**2 / 30)
    assert math.sqrt(np.mean(rms**2)) == pytest.approx(analytic, rel=0.01)
    if plane == "horizontal":
        assert analytic == pytest.approx(2.783, abs=5e-4)


@pytest.mark.parametrize(("variant", "mean"), [("awake-1.6mm", 3.30), ("awake-2mm", 3.58)])
def test_mean_start_after_rejection(variant, mean):
    env = AwakeSteeringVector(num_envs=20_000, variant=variant)
    _, info = env.reset(seed=0)
    assert 1e3 * info["rms"].mean() == pytest.approx(mean, abs=0.05)
    assert info["rms"].min() >= VARIANTS[variant].threshold
    assert not info["success"].any()


def test_variants_set_threshold_abort_reward_and_length():
    for variant, threshold, abort, limit, reward in (
        ("awake-1.6mm", 1.6e-3, 24e-3, 50, -94.12),
        ("awake-2mm", 2e-3, 30e-3, 30, -117.6),
    ):
        line = AwakeSteering(variant=variant).line
        assert (line.threshold, line.step_limit) == (threshold, limit)
        assert line.abort_rms == pytest.approx(abort, rel=1e-12)
        assert -1000.0 * line.options.state_scale * threshold == pytest.approx(reward, abs=0.05)
        assert -1000.0 * 100.0 * threshold == pytest.approx(-160 if threshold == 1.6e-3 else -200)


def test_reward_rms_and_observation_follow_the_specification():
    env = AwakeSteering()
    env.reset(seed=5)
    env.action_space.seed(0)
    for _ in range(5):
        before = env.kicks
        action = env.action_space.sample()
        observation, reward, _, _, info = env.step(action)
        kicks = np.clip(before + 3e-4 * action.astype(np.float64), -3e-4, 3e-4)
        orbit = awake_optics().response @ kicks
        np.testing.assert_allclose(env.kicks, kicks, rtol=1e-12)
        assert info["rms"] == pytest.approx(math.sqrt(np.mean(orbit**2)), rel=1e-12)
        assert reward == pytest.approx(-1000 * 100 / 1.7 * info["rms"], rel=1e-12)
        np.testing.assert_allclose(observation, 100 / 1.7 * orbit, rtol=1e-5, atol=1e-7)


def test_inverse_response_solves_every_start_in_one_step_unclipped():
    env = AwakeSteering()
    scale = env.line.options.state_scale
    for seed in range(50):
        observation, _ = env.reset(seed=seed)
        action = -np.linalg.solve(awake_optics().response, observation.astype(float) / scale) / 3e-4
        assert np.abs(action).max() <= 1.0 + 1e-4
        _, _, terminated, _, info = env.step(action.astype(np.float32))
        assert terminated
        assert info["success"]
        assert info["rms"] < 1e-5


def test_one_mode_carries_the_orbit_and_its_correction_solves():
    response = awake_optics().response
    u, s, vt = np.linalg.svd(response)
    assert s[0] ** 2 / np.sum(s**2) == pytest.approx(0.987, abs=5e-4)
    kicks = np.random.default_rng(0).uniform(-3e-4, 3e-4, size=(20_000, 10))
    change = -(kicks @ response.T @ u[:, :1]) / s[0] @ vt[:1]
    left = 1e3 * np.sqrt(np.mean(((kicks + change) @ response.T) ** 2, axis=1))
    assert np.median(left) == pytest.approx(0.24, abs=0.01)
    assert np.percentile(left, 95) == pytest.approx(0.56, abs=0.015)
    assert (left < 1.6).all()
    largest = np.abs(change).max(axis=1) / 3e-4
    assert np.median(largest) == pytest.approx(0.26, abs=0.01)
    assert np.percentile(largest, 95) == pytest.approx(0.72, abs=0.015)


def test_observation_limits_are_reached_and_never_passed():
    env = AwakeSteering()
    high = env.observation_space.high
    assert 1e3 * high[6] / env.line.options.state_scale == pytest.approx(20.1, abs=0.05)
    for row in range(10):
        kicks = 3e-4 * np.sign(awake_optics().response[row])[None, :]
        observation = env.line.encode(env.line.outcome(kicks, NOW).orbit)[0]
        assert observation in env.observation_space
        assert observation[row] == pytest.approx(high[row], rel=1e-6)


def test_kicks_saturate_and_the_beam_cannot_be_lost_by_default():
    env = AwakeSteering(step_limit=5, reject_solved=False)
    env.reset(seed=0)
    for _ in range(5):
        _, _, _, truncated, _ = env.step(np.ones(10, dtype=np.float32))
    assert truncated
    np.testing.assert_array_equal(env.kicks, np.full(10, 3e-4))
    corners = 3e-4 * (2.0 * ((np.arange(1024)[:, None] >> np.arange(10)) & 1) - 1.0)
    outcome = env.line.outcome(corners, np.zeros(1024, dtype=np.int64))
    assert not outcome.lost.any()


def test_a_wide_corrector_limit_lets_the_beam_be_lost():
    env = AwakeSteering(corrector_limit=3e-3)
    env.reset(seed=0)
    outward = np.sign(awake_optics().response[6]).astype(np.float32)
    steps, terminated = 0, False
    while not terminated:
        _, _, terminated, truncated, info = env.step(outward)
        steps += 1
        assert not truncated
    assert info["rms"] > 24e-3
    assert not info["success"]


def test_actions_beyond_the_box_are_clipped():
    env = AwakeSteering(corrector_limit=1e-2)
    env.reset(seed=0)
    before = env.kicks
    env.step(np.full(10, 7.0, dtype=np.float32))
    np.testing.assert_allclose(env.kicks - before, 3e-4, rtol=1e-12)


def test_quadrupole_drift_is_the_thin_lens_formula_and_follows_the_clock():
    env = AwakeSteering(quadrupole_drift=0.2, drift_quadrupole="412346")
    k1l = awake_quadrupoles()["412346"].k1l
    after, before = awake_optics().gradient_error("412346")
    kicks = np.random.default_rng(0).uniform(-3e-4, 3e-4, size=(4, 10))
    clock = np.array([0, 250, 500, 1500])
    orbit = env.line.outcome(kicks, clock).orbit
    for row, t in enumerate(clock):
        change = 0.2 * k1l * math.sin(math.pi * 0.001 * t)
        expected = (awake_optics().response - change * np.outer(after, before)) @ kicks[row]
        np.testing.assert_allclose(orbit[row], expected, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(env.line.response_at(int(t)) @ kicks[row], expected, atol=1e-15)
    assert np.abs(orbit[2] - env.line.outcome(kicks[2:3], NOW).orbit[0]).max() > 1e-4


@pytest.mark.parametrize("clock", [0, 250, 1500])
def test_a_reset_can_start_at_a_later_clock(clock):
    """The scalar and the vectorised machine then have the response of that time, whatever ran before."""
    options = {"quadrupole_drift": 0.4}
    one, many = AwakeSteering(**options), AwakeSteeringVector(num_envs=3, **options)
    for env in (one, many):
        env.reset(seed=0)
        env.reset(seed=5, options={"clock": clock})
    assert one.state()["clock"][0] == clock
    np.testing.assert_array_equal(many.clock, clock)
    still = np.zeros(10, dtype=np.float32)
    kicks = one.kicks
    info = one.step(still)[4]
    expected = np.sqrt(np.mean((one.line.response_at(clock + 1) @ kicks) ** 2))
    assert info["rms"] == pytest.approx(expected, rel=1e-12)
    one.reset(seed=5)
    assert one.state()["clock"][0] == 0


@pytest.mark.parametrize("clock", [-1, 2.5, True])
def test_a_clock_that_is_no_count_is_refused(clock):
    for env in (AwakeSteering(), AwakeSteeringVector(num_envs=2)):
        with pytest.raises((ValueError, TypeError), match="clock"):
            env.reset(seed=0, options={"clock": clock})


def test_vertical_drift_has_the_other_sign():
    """A focusing error in one plane defocuses the other: the thin kick changes sign with the plane."""
    for plane, sign in (("horizontal", -1.0), ("vertical", 1.0)):
        optics = awake_optics(plane)
        env = AwakeSteering(plane=plane, quadrupole_drift=0.1, drift_quadrupole="412346", reject_solved=False)
        change = 0.1 * awake_quadrupoles()["412346"].k1l
        difference = env.line.response_at(500) - optics.response
        # next monitor behind, next corrector in front: both legs of the kick are short and positive
        assert np.sign(difference[7, 7]) == sign * np.sign(change)


def test_model_error_is_one_fixed_machine():
    first, again = AwakeSteering(model_error=0.1), AwakeSteering(model_error=0.1)
    other = AwakeSteering(model_error=0.1, model_error_seed=1)
    np.testing.assert_array_equal(first.line.response, again.line.response)
    assert not np.array_equal(first.line.response, other.line.response)
    nominal = awake_optics().response
    relative = first.line.response[nominal != 0] / nominal[nominal != 0] - 1
    assert np.std(relative) == pytest.approx(0.1, rel=0.3)
    assert (first.line.response[nominal == 0] == 0).all()


def test_missing_monitor_reads_zero_and_does_not_change_the_reward():
    whole, broken = AwakeSteering(bpm_noise=1e-4), AwakeSteering(bpm_noise=1e-4, missing_bpm=6)
    seen, info = whole.reset(seed=2)
    partly, same = broken.reset(seed=2)
    assert info == same
    assert partly[6] == 0.0
    np.testing.assert_array_equal(np.delete(partly, 6), np.delete(seen, 6))
    action = np.full(10, 0.1, dtype=np.float32)
    assert whole.step(action)[1] == broken.step(action)[1]


def test_noise_has_its_size_and_leaves_the_beam_alone():
    quiet, noisy = AwakeSteeringVector(num_envs=2000), AwakeSteeringVector(num_envs=2000, bpm_noise=2e-4)
    clean, clean_info = quiet.reset(seed=0)
    seen, info = noisy.reset(seed=0)
    np.testing.assert_array_equal(info["rms"], clean_info["rms"])
    deviation = (seen - clean) / noisy.line.options.state_scale
    assert np.std(deviation) == pytest.approx(2e-4, rel=0.02)  # four standard errors of 20,000 draws
    assert np.mean(deviation) == pytest.approx(0.0, abs=6e-6)


def test_variant_limits_hold_scalar_and_vector():
    still = np.zeros((1, 10), dtype=np.float32)
    for variant in VARIANTS:
        scalar = gym.make("qrl/AwakeSteering-v0", variant=variant)
        vector = gym.make_vec("qrl/AwakeSteering-v0", num_envs=1, variant=variant)
        scalar.reset(seed=0)
        vector.reset(seed=0)
        for step in range(1, VARIANTS[variant].step_limit + 1):
            last = step == VARIANTS[variant].step_limit
            assert scalar.step(still[0])[3] is last
            assert vector.step(still)[3].tolist() == [last]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"variant": "awake-2.0mm"},
            ValueError,
            "variant: 'awake-2.0mm' is unknown; did you mean 'awake-2mm'",
        ),
        ({"plane": "diagonal"}, ValueError, "plane: 'diagonal' is unknown;"),
        ({"drift_quadrupole": "430119"}, ValueError, "drift_quadrupole: '430119' is unknown; did you mean"),
        ({"bpm_noise": math.inf}, ValueError, "bpm_noise: inf is not finite"),
        ({"corrector_limit": 0.0}, ValueError, r"corrector_limit: 0.0 is outside \(0, 0.01\]"),
        ({"initial_kick": 4e-4}, ValueError, r"initial_kick: 0.0004 is outside \(0, 0.0003\]"),
        ({"threshold": -1e-3}, ValueError, r"threshold: -0.001 is outside \(0, 1\]"),
        ({"threshold": 0.05}, ValueError, "reject_solved: True cannot be met, only 0.0% of the start kicks"),
        ({"quadrupole_drift": 1}, ValueError, r"quadrupole_drift: 1 is outside \[0, 0.5\]"),
        ({"missing_bpm": 10}, ValueError, r"missing_bpm: 10 is outside 0\.\.9"),
        ({"missing_bpm": False}, TypeError, "missing_bpm: False is not an integer"),
        ({"model_error": -0.1}, ValueError, r"model_error: -0.1 is outside \[0, 1\]"),
        ({"state_scale": 0}, ValueError, r"state_scale: 0 is outside \(0, 1e\+06\]"),
        ({"step_limit": 0}, ValueError, r"step_limit: 0 is outside 1\.\."),
        (
            {"bpmnoise": 1e-4},
            TypeError,
            "bpmnoise: 0.0001 is given but there is no such option; did you mean",
        ),
    ],
)
def test_bad_options_are_one_line(options, error, message):
    for make in (AwakeSteering, AwakeSteeringVector):
        with pytest.raises(error, match=f"^{message}") as caught:
            make(**options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("action", [np.full(10, np.nan), np.zeros(9), np.zeros((1, 10)), None, "left"])
def test_bad_actions_are_refused(action):
    env = AwakeSteering()
    env.reset(seed=0)
    with pytest.raises((ValueError, TypeError), match=r"^action: "):
        env.step(action)
