"""Contracts that every environment under `qrl/` keeps. A new id without a row in `ROWS` fails the suite."""

import importlib
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import environments  # noqa: F401  (registers the ids)
from environments.state import is_exact

# id -> option sets under which every contract is tried
ROWS = {
    "qrl/TargetSteering-v0": [
        {},
        {"observation": "binary", "with_stay": True},
        {"bpm_noise": 5e-4, "phase_drift": 0.2, "corrector_limit": 1.2e-4},
    ],
    "qrl/AwakeSteering-v0": [
        {},
        {"variant": "awake-2mm", "bpm_noise": 2e-4, "missing_bpm": 4, "model_error": 0.05},
        {"plane": "vertical", "threshold": 4e-4, "quadrupole_drift": 0.2, "corrector_limit": 2e-4},
    ],
    "qrl/CHSHGame-v0": [{}],
    "qrl/FrequencyBandit-v0": [{}, {"frequency": 7}],
    "qrl/AntennaSelection-v0": [
        {},
        {"n_antennas": 5, "layout": 7, "spacing": 0.5, "support_points": 5, "steps": 30},
    ],
}
CASES = [(name, options) for name, rows in ROWS.items() for options in rows]
for_every_environment = pytest.mark.parametrize(("name", "options"), CASES)


def test_every_registered_environment_has_a_row():
    registered = {name for name, spec in gym.registry.items() if spec.namespace == "qrl"}
    assert registered == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_entry_points_are_strings_that_name_classes(name):
    spec = gym.spec(name)
    for entry in (spec.entry_point, spec.vector_entry_point):
        module, _, attribute = entry.partition(":")
        assert isinstance(getattr(importlib.import_module(module), attribute), type)


@for_every_environment
def test_gymnasium_checker_passes_without_a_warning(name, options):
    """Warnings are errors here, so this is the strict form; the checker also renders every declared mode."""
    check_env(gym.make(name, **options).unwrapped)


@for_every_environment
def test_sb3_checker_passes_without_a_warning(name, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_check_env(gym.make(name, render_mode="rgb_array", **options), skip_render_check=False)


@for_every_environment
def test_everything_stays_in_its_space_and_finite(name, options):
    env = gym.make(name, **options)
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    for _ in range(300):
        assert observation in env.observation_space
        assert np.isfinite(list(info.values())).all()
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert np.isfinite(reward)
        if terminated or truncated:
            assert observation in env.observation_space
            observation, info = env.reset()


@for_every_environment
def test_limits_are_finite(name, options):
    space = gym.make(name, **options).observation_space
    assert np.isfinite(space.low).all()
    assert np.isfinite(space.high).all()
    assert (space.low < space.high).all()


@for_every_environment
def test_a_seed_decides_everything(name, options):
    def play(seed):
        env = gym.make(name, **options)
        env.action_space.seed(seed)
        record = [env.reset(seed=seed)[0].tolist()]
        for _ in range(40):
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            record.append([observation.tolist(), reward])
            if terminated or truncated:
                record.append(env.reset()[0].tolist())
        return record

    assert play(1) == play(1)
    assert play(1) != play(2)


@for_every_environment
def test_scalar_and_vector_agree(name, options):
    scalar = gym.make(name, **options)
    vector = gym.make_vec(name, num_envs=3, **options)
    observation, _ = scalar.reset(seed=10)
    observations, _ = vector.reset(seed=[9, 10, 11])
    np.testing.assert_array_equal(observation, observations[1])
    vector.action_space.seed(0)
    while True:
        actions = vector.action_space.sample()
        observation, reward, terminated, truncated, _ = scalar.step(actions[1])
        observations, rewards, terminations, truncations, _ = vector.step(actions)
        np.testing.assert_array_equal(observation, observations[1])
        assert (reward, terminated, truncated) == (rewards[1], terminations[1], truncations[1])
        if terminated or truncated:
            break


@for_every_environment
def test_state_goes_out_and_in(name, options):
    """A state taken in mid-episode, put into a new environment, gives the same future."""
    env = gym.make(name, **options)
    assert is_exact(env)
    assert is_exact(gym.make_vec(name, num_envs=2, **options))
    env.reset(seed=0)
    env.action_space.seed(0)
    env.step(env.action_space.sample())
    other = gym.make(name, **options)
    other.reset(seed=99)
    other.unwrapped.set_state(env.unwrapped.state())
    for _ in range(30):
        action = env.action_space.sample()
        np.testing.assert_array_equal(action, other.action_space.sample())
        mine, theirs = env.unwrapped.step(action), other.unwrapped.step(action)
        np.testing.assert_array_equal(mine[0], theirs[0])
        assert mine[1:] == theirs[1:]
        if mine[2] or mine[3]:
            np.testing.assert_array_equal(env.unwrapped.reset()[0], other.unwrapped.reset()[0])


@for_every_environment
def test_it_draws_itself(name, options):
    env = gym.make(name, render_mode="rgb_array", **options)
    env.reset(seed=0)
    first = env.render()
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 10
    env.action_space.seed(0)
    env.step(env.action_space.sample())
    assert not np.array_equal(first, env.render())
    assert gym.make(name, **options).unwrapped.render() is None


@pytest.mark.parametrize("name", ROWS)
def test_the_docstring_is_the_specification(name):
    document = gym.make(name).unwrapped.__class__.__doc__
    for section in (
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Version History",
    ):
        assert f"## {section}\n" in document
    assert "| Unit | Source |" in document
    assert "Source: " in document
    for option in gym.make(name).unwrapped.state()["options"]:
        assert f"| `{option}` |" in document


def test_import_is_light_and_free_of_learning_and_quantum_libraries():
    code = (
        "import sys, environments\n"
        "heavy = {'torch', 'stable_baselines3', 'pennylane', 'qiskit', 'qiskit_aer', 'matplotlib', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "import environments.target_steering, environments.awake_steering, environments.state\n"
        "assert not (heavy - {'scipy'}) & set(sys.modules), heavy & set(sys.modules)\n"
        "assert environments.__part_of__ == 'qrl'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
