"""capture and restore: a restored environment continues bit for bit, through JSON and arrays on disk."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import environments  # noqa: F401  (registers the ids)
from environments.state import capture, generator_from, generator_state, is_exact, restore

SCALAR = [
    ("qrl/TargetSteering-v0", {"bpm_noise": 1e-4, "phase_drift": 0.1}),
    ("qrl/TargetSteering-v0", {"observation": "binary", "with_stay": True}),
    (
        "qrl/AwakeSteering-v0",
        {"bpm_noise": 1e-4, "quadrupole_drift": 0.1, "threshold": 5e-4, "step_limit": 7},
    ),
    ("CartPole-v1", {}),
    ("Acrobot-v1", {"max_episode_steps": 60}),
    ("MountainCar-v0", {"max_episode_steps": 40}),
    ("MountainCarContinuous-v0", {"max_episode_steps": 40}),
    ("Pendulum-v1", {"max_episode_steps": 40}),
    ("FrozenLake-v1", {}),
    ("CliffWalking-v1", {"max_episode_steps": 30}),
    ("CliffWalking-v1", {"is_slippery": True, "max_episode_steps": 30}),
    ("Taxi-v4", {"is_rainy": True, "fickle_passenger": True, "max_episode_steps": 30}),
    ("Blackjack-v1", {}),
]


def _through_files(state, folder):
    """Arrays through .npz, the rest through JSON, as a checkpoint does."""
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    rest = {key: value for key, value in state.items() if not isinstance(value, np.ndarray)}
    numbered = dict(enumerate(arrays))
    np.savez(folder / "state.npz", **{str(number): arrays[key] for number, key in numbered.items()})
    (folder / "state.json").write_text(json.dumps(rest, allow_nan=False), encoding="utf-8")
    with np.load(folder / "state.npz", allow_pickle=False) as stored:
        loaded = {key: stored[str(number)] for number, key in numbered.items()}
    return {**loaded, **json.loads((folder / "state.json").read_text(encoding="utf-8"))}


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _play(env, steps):
    """A record of `steps` random steps, resets included; actions come from the environment's own
    generator."""
    record = []
    for _ in range(steps):
        result = env.step(env.action_space.sample())
        record.append(_plain(result))
        if result[2] or result[3]:
            record.append(_plain(env.reset()))
    return record


def _play_vector(env, steps):
    return [_plain(env.step(env.action_space.sample())) for _ in range(steps)]


@pytest.mark.parametrize(("name", "options"), SCALAR)
@pytest.mark.parametrize("before", [0, 3, 25])
def test_a_restored_environment_continues_bit_for_bit(name, options, before, tmp_path):
    env = gym.make(name, **options)
    assert is_exact(env)
    env.reset(seed=5)
    env.action_space.seed(6)
    _play(env, before)
    saved = _through_files(capture(env), tmp_path)
    expected = _play(env, 80)

    fresh = gym.make(name, **options)
    restore(fresh, saved)
    assert _play(fresh, 80) == expected
    # and the same object can be taken back
    restore(env, saved)
    assert _play(env, 80) == expected


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize(("name", "options"), SCALAR[:3])
def test_native_vector_environments_continue(name, options, mode, tmp_path):
    env = gym.make_vec(name, num_envs=3, autoreset_mode=mode, **options)
    assert is_exact(env)
    env.reset(seed=1)
    env.action_space.seed(2)
    _play_vector(env, 11)
    saved = _through_files(capture(env), tmp_path)
    expected = _play_vector(env, 40)
    fresh = gym.make_vec(name, num_envs=3, autoreset_mode=mode, **options)
    restore(fresh, saved)
    assert _play_vector(fresh, 40) == expected


@pytest.mark.parametrize("how", ["sync", "vector_entry_point"])
def test_gymnasiums_vector_environments_continue(how, tmp_path):
    env = gym.make_vec("CartPole-v1", num_envs=3, vectorization_mode=how)
    assert is_exact(env)
    env.reset(seed=1)
    env.action_space.seed(2)
    _play_vector(env, 30)
    saved = _through_files(capture(env), tmp_path)
    expected = _play_vector(env, 60)
    fresh = gym.make_vec("CartPole-v1", num_envs=3, vectorization_mode=how)
    fresh.reset(seed=0)
    restore(fresh, saved)
    assert _play_vector(fresh, 60) == expected


def test_wrappers_of_gymnasium_and_sb3_take_part(tmp_path):
    from stable_baselines3.common.monitor import Monitor

    def build():
        return Monitor(gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1")))

    env = build()
    env.reset(seed=3)
    env.action_space.seed(3)
    _play(env, 50)
    saved = _through_files(capture(env), tmp_path)
    _play(env, 60)
    fresh = build()
    restore(fresh, saved)
    _play(fresh, 60)
    assert fresh.get_episode_rewards() == env.get_episode_rewards()
    assert fresh.get_episode_lengths() == env.get_episode_lengths()
    assert fresh.get_total_steps() == env.get_total_steps()
    assert list(fresh.env.return_queue) == list(env.env.return_queue)


def test_capture_takes_no_part_in_the_environment():
    first, second = (gym.make("qrl/AwakeSteering-v0", bpm_noise=1e-4) for _ in range(2))
    for env in (first, second):
        env.reset(seed=0)
        env.action_space.seed(0)
    saved = capture(first)
    kicks = saved["2.AwakeSteering/kicks"].copy()
    assert _play(first, 10) == _play(second, 10)
    np.testing.assert_array_equal(saved["2.AwakeSteering/kicks"], kicks)


def test_a_new_environment_can_be_captured_before_its_first_reset():
    env, fresh = gym.make("qrl/TargetSteering-v0"), gym.make("qrl/TargetSteering-v0")
    restore(fresh, capture(env))
    np.testing.assert_array_equal(fresh.reset(seed=1)[0], env.reset(seed=1)[0])


def test_an_unknown_layer_is_inexact_and_named():
    class Shift(gym.ObservationWrapper):
        def observation(self, observation):
            return observation

    class Kept(Shift):
        def state(self):
            return {}

        def set_state(self, state):
            assert state == {}

    env = Shift(gym.make("CartPole-v1"))
    assert not is_exact(env)
    with pytest.raises(
        TypeError, match=r"^environment: .*Shift has neither state.*adapter; give the class both"
    ):
        capture(env)
    with pytest.raises(TypeError, match=r"^environment: .*Shift has neither"):
        restore(env, {})
    kept = Kept(gym.make("CartPole-v1"))
    assert is_exact(kept)
    kept.reset(seed=0)
    restore(kept, capture(kept))


def test_a_state_of_another_environment_is_refused():
    cart, steering = gym.make("CartPole-v1"), gym.make("qrl/TargetSteering-v0")
    with pytest.raises(ValueError, match=r"^state: no value for .*; restore into an environment built like"):
        restore(steering, capture(cart))
    wrapped = gym.wrappers.Autoreset(gym.make("qrl/TargetSteering-v0"))
    with pytest.raises(ValueError, match=r"^state: no value for"):
        restore(wrapped, capture(steering))
    extra = {**capture(steering), "9.Other/field": 1}
    with pytest.raises(ValueError, match=r"^state: 9.Other/field has no layer here"):
        restore(steering, extra)


def test_other_options_are_refused():
    quiet, noisy = gym.make("qrl/TargetSteering-v0"), gym.make("qrl/TargetSteering-v0", bpm_noise=1e-3)
    with pytest.raises(
        ValueError, match=r"^bpm_noise: the state was taken with 0.0, this environment has 0.001"
    ):
        restore(noisy, capture(quiet))
    few, many = (gym.make_vec("qrl/TargetSteering-v0", num_envs=n) for n in (2, 3))
    with pytest.raises(
        ValueError, match=r"^num_envs: the state holds 2 copies, this environment 3; build it with"
    ):
        restore(many, capture(few))


def test_generator_round_trip_and_refusal():
    generator = np.random.default_rng(3)
    generator.standard_normal(5)
    generator.integers(3, size=1, dtype=np.int32)  # leaves half a 64-bit draw behind
    copy = generator_from(json.loads(json.dumps(generator_state(generator))))
    assert copy.standard_normal() == generator.standard_normal()
    assert (
        copy.integers(9, size=7, dtype=np.int32).tolist()
        == generator.integers(9, size=7, dtype=np.int32).tolist()
    )
    with pytest.raises(TypeError, match=r"^np_random: MT19937 is not PCG64; use"):
        generator_state(np.random.Generator(np.random.MT19937(1)))
