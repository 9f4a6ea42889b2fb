"""TargetSteering against the published numbers, the closed form of its reward, and its reference policies."""

import math

import gymnasium as gym
import numpy as np
import pytest
from scipy.stats import norm

from environments.optics import transport_matrix
from environments.target_steering import (
    BPM,
    DIPOLE,
    TARGET,
    TargetSteering,
    TargetSteeringVector,
    optimality,
    optimality_states,
    random_policy,
    sign_policy,
)

MICRO = 1e-6
NOW = np.zeros(1, dtype=np.int64)


@pytest.fixture
def line():
    return TargetSteering().line


def _returns(policy, episodes, seed, **options):
    """Returns, lengths and successes of one episode in each of `episodes` copies."""
    env = TargetSteeringVector(num_envs=episodes, **options)
    observations, _ = env.reset(seed=seed)
    returns, lengths = np.zeros(episodes), np.zeros(episodes, dtype=int)
    running, solved = np.ones(episodes, dtype=bool), np.zeros(episodes, dtype=bool)
    while running.any():
        observations, rewards, terminated, truncated, info = env.step(policy(observations))
        returns += running * rewards
        lengths += running
        solved |= running & info["success"]
        running &= ~(terminated | truncated)
    return returns, lengths, solved


def test_transport_numbers():
    to_bpm, to_target = transport_matrix(DIPOLE, BPM), transport_matrix(DIPOLE, TARGET)
    np.testing.assert_allclose(to_bpm, [[2.6775, 42.9236], [0.0392, 1.0026]], atol=6e-5)
    np.testing.assert_allclose(to_target, [[0.1920, 9.1276], [-0.0819, 1.3131]], atol=6e-5)
    assert np.linalg.det(to_bpm) == pytest.approx(1.0, abs=1e-12)
    assert np.linalg.det(to_target) == pytest.approx(1.0, abs=1e-12)


def test_beam_and_goal_numbers(line):
    assert line.m12_bpm == pytest.approx(42.92, abs=5e-3)
    assert line.m12_target == pytest.approx(9.128, abs=5e-4)
    assert line.sigma == pytest.approx(0.30581e-3, abs=5e-9)
    assert line.intensity_max == pytest.approx(0.99730, abs=5e-6)
    assert line.intensity_goal == pytest.approx(0.84771, abs=5e-6)
    assert line.edge_kick == pytest.approx(66.12e-6, abs=5e-9)
    assert line.edge_kick * line.m12_bpm == pytest.approx(2.838e-3, abs=5e-7)
    assert line.edge_kick * line.m12_target == pytest.approx(0.6035e-3, abs=5e-8)
    assert line.edge_kick / (140 * MICRO) == pytest.approx(0.472, abs=5e-4)
    assert line.position_limit == pytest.approx(147 * MICRO * line.m12_bpm, rel=1e-12)


@pytest.mark.parametrize(
    ("kick", "at_bpm", "at_target", "intensity", "reward"),
    [(140.0, 6.0093, 1.2779, 0.1193, -88.07), (15.0, 0.6439, 0.1369, None, None)],
)
def test_scales(line, kick, at_bpm, at_target, intensity, reward):
    outcome = line.outcome(np.array([[kick * MICRO]]), NOW)
    assert 1e3 * outcome.orbit[0, 0] == pytest.approx(at_bpm, abs=5e-5)
    assert 1e3 * line.m12_target * kick * MICRO == pytest.approx(at_target, abs=5e-5)
    if intensity is not None:
        assert outcome.details["intensity"][0] == pytest.approx(intensity, abs=5e-5)
        assert outcome.reward[0] == pytest.approx(reward, abs=5e-3)


def test_reward_is_the_closed_form_everywhere(line):
    kicks = np.linspace(-160, 160, 81)[:, None] * MICRO
    outcome = line.outcome(kicks, np.zeros(81, dtype=np.int64))
    centre, sigma = line.m12_target * kicks[:, 0], line.sigma
    inside = norm.cdf(3 * sigma, centre, sigma) - norm.cdf(-3 * sigma, centre, sigma)
    np.testing.assert_allclose(outcome.reward, -100.0 * (1.0 - inside), atol=1e-9)
    assert outcome.reward.max() == pytest.approx(-0.27, abs=5e-3)
    np.testing.assert_array_equal(outcome.solved, np.abs(kicks[:, 0]) < line.edge_kick)
    np.testing.assert_array_equal(outcome.lost, np.abs(kicks[:, 0]) > 147 * MICRO * (1 + 1e-12))


def test_reward_at_the_edge_of_success(line):
    outcome = line.outcome(np.array([[line.edge_kick]]), NOW)
    assert outcome.reward[0] == pytest.approx(-15.23, abs=5e-3)


def test_starts_are_unsolved_and_uniform_outside_the_goal():
    env = TargetSteeringVector(num_envs=20_000)
    env.reset(seed=0)
    kicks = np.abs(env.kicks[:, 0])
    edge = env.line.edge_kick
    assert kicks.min() >= edge
    assert kicks.max() <= 140 * MICRO
    # mean of a uniform law: standard error (140 - 66.12)/sqrt(12 * 20000) = 0.15 microradian
    assert kicks.mean() == pytest.approx((edge + 140 * MICRO) / 2, abs=0.6 * MICRO)
    assert np.mean(env.kicks > 0) == pytest.approx(0.5, abs=0.015)


def test_without_rejection_the_known_share_is_solved():
    env = TargetSteeringVector(num_envs=20_000, reject_solved=False)
    _, info = env.reset(seed=0)
    assert info["success"].mean() == pytest.approx(0.472, abs=0.012)


def test_sign_policy_and_random_policy_returns():
    returns, lengths, solved = _returns(sign_policy, 8_000, seed=0)
    assert returns.mean() == pytest.approx(-83.0, abs=2.9)  # four standard errors (65/sqrt(8000) = 0.73)
    assert solved.all()
    assert lengths.max() == 5
    returns, _, solved = _returns(random_policy(np.random.default_rng(0)), 8_000, seed=0)
    assert returns.mean() == pytest.approx(-378.0, abs=14.0)  # four standard errors (309/sqrt(8000) = 3.5)
    assert solved.mean() == pytest.approx(0.461, abs=0.023)


def test_actions_move_the_kick_and_staying_does_not():
    env = TargetSteering(with_stay=True)
    env.reset(seed=4)
    start = env.kicks[0]
    for action, change in ((0, -15.0), (1, 15.0), (2, 0.0)):
        env.reset(seed=4)
        env.step(action)
        assert env.kicks[0] - start == pytest.approx(change * MICRO, abs=1e-18)


def test_episode_ends():
    env = TargetSteering(with_stay=True)
    _, info = env.reset(seed=3)
    outcomes = [env.step(2) for _ in range(15)]
    assert [step[3] for step in outcomes] == [False] * 14 + [True]
    assert not any(step[2] for step in outcomes)
    outward = 1 if info["kick"] > 0 else 0
    env.reset(seed=3)
    terminated = False
    while not terminated:
        _, _, terminated, truncated, info = env.step(outward)
        assert not truncated
    assert 147 * MICRO < abs(info["kick"]) <= 162 * MICRO
    assert not info["success"]


def test_max_episode_steps_is_a_second_limit_scalar_and_vector():
    stay = {"with_stay": True}
    scalar = gym.make("qrl/TargetSteering-v0", max_episode_steps=4, **stay)
    vector = gym.make_vec("qrl/TargetSteering-v0", num_envs=2, max_episode_steps=4, **stay)
    scalar.reset(seed=0)
    vector.reset(seed=0)
    for step in range(1, 5):
        assert scalar.step(2)[3] is (step == 4)
        assert vector.step(np.full(2, 2))[3].tolist() == [step == 4] * 2


def test_binary_observation_is_the_bin_in_bits(line):
    env = TargetSteering(observation="binary")
    binary = env.line
    step = 15 * MICRO * binary.m12_bpm
    assert binary.bin_range == pytest.approx(7.941e-3, abs=5e-7)
    assert binary.position_limit == pytest.approx(155 * MICRO * binary.m12_bpm, rel=1e-12)
    positions = np.array([-1.0, -7.9e-3, -1e-9, 1e-9, step, 7.9e-3, 1.0])
    bits = binary.encode(positions[:, None])
    assert set(np.unique(bits)) == {-1.0, 1.0}
    index = ((bits + 1) / 2) @ (2 ** np.arange(7, -1, -1))
    expected = np.clip(np.floor((positions / binary.bin_range + 1) * 128), 0, 255)
    np.testing.assert_array_equal(index, expected)
    # mirrored positions have mirrored bits
    np.testing.assert_array_equal(binary.encode(-positions[:, None]), -bits)


def test_an_offset_moves_the_reading_and_nothing_else():
    plain, shifted = TargetSteering(), TargetSteering(bpm_offset=4e-3)
    many = TargetSteeringVector(num_envs=3, bpm_offset=4e-3)
    for seed in range(5):
        clean, info = plain.reset(seed=seed)
        seen, same = shifted.reset(seed=seed)
        assert info == same
        np.testing.assert_allclose(seen - clean, 4e-3, rtol=1e-5)
        np.testing.assert_array_equal(many.reset(seed=[seed] * 3)[0], np.stack([seen] * 3))
        assert shifted.step(1)[1:4] == plain.step(1)[1:4]


def test_an_offset_beyond_the_goal_makes_the_sign_of_a_reading_wrong():
    """4 mm off, the beam on one side reads up to 1.16 mm: 36 of 100 states there have the sign of the other side."""
    env = TargetSteering(bpm_offset=4e-3)
    observations, best = optimality_states(env)
    assert optimality(sign_policy, env) == np.mean((observations[:, 0] > 0) == (best == 0)) == 0.82
    assert optimality(lambda seen: np.where(seen[:, 0] > 4e-3, 0, 1), env) == 1.0


def test_noise_moves_the_reading_and_nothing_else():
    quiet, noisy = TargetSteering(), TargetSteering(bpm_noise=1e-3)
    readings = []
    for seed in range(300):
        clean, clean_info = quiet.reset(seed=seed)
        seen, info = noisy.reset(seed=seed)
        assert info == clean_info
        assert noisy.step(0)[1] == quiet.step(0)[1]
        readings.append(float(seen[0] - clean[0]))
    assert np.std(readings) == pytest.approx(1e-3, rel=0.17)  # four standard errors
    assert np.mean(readings) == pytest.approx(0.0, abs=2.4e-4)


def test_phase_drift_changes_the_optics_with_the_clock():
    env = TargetSteering(phase_drift=0.1)
    near, far = env.line.response(np.array([0, 500, 1000, 1500]))
    assert near[0] == pytest.approx(42.9236, abs=5e-5)
    root = math.sqrt(DIPOLE.beta * BPM.beta)
    assert near[1] == pytest.approx(root * math.sin(BPM.mu - DIPOLE.mu + 0.1), rel=1e-12)
    assert near[3] == pytest.approx(root * math.sin(BPM.mu - DIPOLE.mu - 0.1), rel=1e-12)
    assert far[2] == pytest.approx(9.1276, abs=5e-5)
    # the clock runs over episodes and starts anew with a seed
    env.reset(seed=1)
    while not env.step(1)[2]:
        pass
    env.reset()
    assert env.state()["clock"][0] > 0
    env.reset(seed=1)
    assert env.state()["clock"][0] == 0


def test_corrector_limit_saturates():
    env = TargetSteering(corrector_limit=120e-6)
    _, info = env.reset(seed=0)
    assert abs(info["kick"]) <= 120e-6
    outward = 1 if info["kick"] > 0 else 0
    for _ in range(5):
        _, _, terminated, _, info = env.step(outward)
        assert not terminated
    assert abs(info["kick"]) == 120e-6


def test_optimality_of_reference_policies():
    assert optimality(sign_policy) == 1.0
    assert optimality(lambda observations: 1 - sign_policy(observations)) == 0.0
    assert optimality(lambda observations: np.zeros(len(observations))) == 0.5
    binary = TargetSteering(observation="binary")
    assert optimality(sign_policy, binary) == 1.0
    observations, actions = optimality_states(TargetSteering())
    assert observations.shape == (200, 1)
    assert len(np.unique(observations)) == 200
    assert np.abs(observations).min() > 2.838e-3
    assert np.abs(observations).max() == pytest.approx(6.0093e-3, abs=5e-7)
    assert actions.sum() == 100


def test_best_known_action_gives_the_best_return(line):
    """From every grid state, kicking towards the axis returns more than the other actions do before it."""
    kicks = np.linspace(line.edge_kick, 140 * MICRO, 101)[1:]

    def downhill(kick):
        total = 0.0
        while kick >= line.edge_kick:
            kick = kick - 15 * MICRO
            total += float(line.outcome(np.array([[kick]]), NOW).reward[0])
        return total

    for kick in kicks:
        stay = float(line.outcome(np.array([[kick]]), NOW).reward[0]) + downhill(kick)
        assert downhill(kick) > stay


def test_optimality_sees_observation_wrappers():
    env = gym.make("qrl/TargetSteering-v0")
    one = np.ones(1, dtype=np.float32)
    scaled = gym.wrappers.RescaleObservation(env, -one, one)
    observations, _ = optimality_states(scaled)
    assert np.abs(observations).max() == pytest.approx(140 / 162, abs=1e-5)
    assert optimality(sign_policy, scaled) == 1.0


def test_optimality_refuses_what_it_cannot_measure():
    with pytest.raises(TypeError, match=r"^env: CartPoleEnv is not a TargetSteering; make it with"):
        optimality(sign_policy, gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match=r"^n_states: 3 is not a positive even number"):
        optimality(sign_policy, n_states=3)
    with pytest.raises(ValueError, match=r"^policy: 1 actions for 200 observations"):
        optimality(lambda observations: 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"observation": "contnuous"}, ValueError, "observation: 'contnuous' is unknown; did you mean 'con"),
        ({"observation": 3}, TypeError, "observation: 3 is not a name; use one of continuous, binary"),
        ({"with_stay": 1}, TypeError, "with_stay: 1 is not a flag; use True or False"),
        ({"bpm_noise": -1.0}, ValueError, r"bpm_noise: -1.0 is outside \[0, 0.1\]; use a number in"),
        ({"bpm_noise": math.nan}, ValueError, "bpm_noise: nan is not finite; use a number in"),
        ({"bpm_noise": True}, TypeError, "bpm_noise: True is not a real number; use a number in"),
        ({"bpm_noise": "0"}, TypeError, "bpm_noise: '0' is not a real number"),
        ({"phase_drift": 0.6}, ValueError, r"phase_drift: 0.6 is outside \[0, 0.5\]"),
        ({"corrector_limit": 0}, ValueError, r"corrector_limit: 0 is outside \(0, 0.01\]"),
        ({"corrector_limit": 6e-5}, ValueError, "corrector_limit: 6e-05 keeps the beam on target; use more"),
        ({"corrector_limit": 1.2e-4, "phase_drift": 0.5}, ValueError, "reject_solved: True cannot be met"),
        ({"success_threshold": 1.0}, ValueError, r"success_threshold: 1.0 is outside \[0.2, 0.99\]"),
        ({"step_limit": 0}, ValueError, r"step_limit: 0 is outside 1\.\.1000000; use an integer in"),
        ({"step_limit": 2.0}, TypeError, "step_limit: 2.0 is not an integer"),
        ({"step_limit": True}, TypeError, "step_limit: True is not an integer"),
        (
            {"noise": 0.1},
            TypeError,
            "noise: 0.1 is given but there is no such option; did you mean 'bpm_noise'",
        ),
        ({"render_mode": "human"}, ValueError, "render_mode: 'human' is unknown; use 'rgb_array' or None"),
    ],
)
def test_bad_options_are_one_line(options, error, message):
    for make in (TargetSteering, TargetSteeringVector):
        with pytest.raises(error, match=f"^{message}") as caught:
            make(**options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("action", [2, -1, 0.0, np.nan, None, [0], True])
def test_bad_actions_are_refused(action):
    env = TargetSteering()
    env.reset(seed=0)
    with pytest.raises((ValueError, TypeError), match=r"^action: "):
        env.step(action)


def test_step_before_reset_is_refused():
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        TargetSteering().step(0)
