"""Controllers as agents: units, what they learn from, evaluation side by side, full state, refusals."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback

import qrl
from environments.target_steering import optimality, sign_policy
from qrl.agents.build import child_seeds
from qrl.agents.controller import CONTROLLERS
from qrl.agents.training_env import TrainingEnv, make_environment
from qrl.errors import InputError
from qrl.study.evaluation import Evaluator

AWAKE, TARGET = "qrl/AwakeSteering-v0", "qrl/TargetSteering-v0"


def build(controller, env_id=AWAKE, seed=0, transform=None, options=None, **environment):
    env = TrainingEnv(
        lambda: make_environment(env_id, environment, transform), child_seeds(seed, "environment", 1)
    )
    spec = {"algorithm": "controller", "controller": controller, "options": options or {}}
    return qrl.build_agent(spec, env, seed=seed)


def evaluate(agent, env_id=AWAKE, episodes=100, transform=None, **environment):
    evaluator = Evaluator(env_id, environment, transform, episodes, seed=7)
    try:
        return evaluator(agent)
    finally:
        evaluator.close()


def soon(evaluation, steps=3):
    return np.mean(np.array(evaluation.lengths) <= steps)


# ---------------------------------------------------------------------- what they can do


@pytest.mark.parametrize("transform", ["scaled", "raw", "arctan"])
@pytest.mark.parametrize("controller", ["svd", "svd_one_mode"])
def test_the_known_response_needs_one_step_in_any_units(controller, transform):
    agent = build(controller, transform=transform)
    assert set(evaluate(agent, transform=transform).lengths) == {1}


@pytest.mark.parametrize(("controller", "interactions"), [("rls", 15), ("least_squares", 50), ("gp_mpc", 40)])
def test_what_identifies_the_line_steers_it(controller, interactions):
    agent = build(controller, seed=1)
    assert soon(evaluate(agent)) == 0.0
    agent.learn(interactions)
    assert soon(evaluate(agent)) >= 0.95


def test_what_is_learnt_is_the_response_in_the_environments_units():
    """Only if the observation before a reset is learnt from, and not the one after it."""
    agent = build("rls", seed=2, corrector_limit=2e-3, initial_kick=3e-4)  # so that nothing saturates
    agent.learn(60)
    line = agent.env.envs[0].unwrapped.line
    expected = 3e-4 * line.options.state_scale * line.response_at(0)
    found = agent.trained_parameters()["response"].numpy()
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_bayesian_optimisation_searches_in_every_episode():
    agent = build("bayesian_optimisation", options={"candidates": 16})
    first = evaluate(agent, episodes=10, step_limit=40)
    agent.learn(20)
    assert evaluate(agent, episodes=10, step_limit=40).lengths == first.lengths
    random = evaluate(
        build("bayesian_optimisation", options={"random_steps": 40}), episodes=10, step_limit=40
    )
    assert np.mean(first.lengths) < np.mean(random.lengths)


def test_the_sign_is_the_optimal_policy():
    agent = build("sign", TARGET, transform="raw")
    assert optimality(lambda x: agent.predict(x, deterministic=True)[0]) == optimality(sign_policy) == 1.0
    scaled = build("sign", TARGET, transform="scaled")
    assert (
        evaluate(scaled, TARGET, transform="scaled").returns
        == evaluate(agent, TARGET, transform="raw").returns
    )
    binary = build("sign", TARGET, observation="binary")
    assert max(evaluate(binary, TARGET, observation="binary").lengths) <= 5


@pytest.mark.parametrize("controller", ["svd", "rls", "least_squares"])
def test_with_alternatives_they_find_the_optimal_policy(controller):
    agent = build(controller, TARGET)
    agent.learn(12)
    assert max(evaluate(agent, TARGET).lengths) <= 5


def test_the_known_response_knows_what_the_option_says():
    error = {"model_error": 0.2, "model_error_seed": 3, "threshold": 3e-4}
    true = evaluate(build("svd", **error), **error)
    model = evaluate(build("svd", options={"response": "model"}, **error), **error)
    assert set(true.lengths) == {1}
    assert np.mean(model.lengths) > 1.2
    missing = build("svd", missing_bpm=6)
    assert (missing.trained_parameters()["response"].numpy()[6] == 0.0).all()
    assert soon(evaluate(missing, missing_bpm=6)) == 1.0


def test_actions_fill_the_limits_of_the_space():
    agent = build("least_squares", "Pendulum-v1", seed=3)
    taken = []
    step = agent.env.step
    agent.env.step = lambda actions: (taken.append(actions), step(actions))[1]
    agent.learn(50)
    actions = np.concatenate(taken)
    assert actions.dtype == np.float32
    assert actions.min() < -1.5
    assert actions.max() > 1.5
    assert np.abs(actions).max() <= 2.0


# ---------------------------------------------------------------------- as an algorithm


class Count(BaseCallback):
    def __init__(self):
        super().__init__()
        self.rollouts = 0

    def _on_rollout_start(self):
        self.rollouts += 1

    def _on_step(self):
        return self.n_calls < 7


def test_it_is_an_algorithm_with_callbacks_and_counts():
    agent, count = build("rls"), Count()
    assert agent.learn(20, callback=count) is agent
    assert (agent.num_timesteps, agent.updates, count.n_calls, count.rollouts) == (7, 7, 7, 7)
    assert agent.learn(5, reset_num_timesteps=False).num_timesteps == 12
    known = build("svd")
    known.learn(5)
    assert known.updates == 0


@pytest.mark.parametrize("controller", sorted(CONTROLLERS))
def test_single_observations_and_batches(controller):
    env_id = TARGET if controller == "sign" else AWAKE
    agent = build(controller, env_id)
    space = agent.observation_space
    space.seed(0)
    batch = np.stack([space.sample() for _ in range(4)])
    actions, state = agent.predict(batch, deterministic=True)
    assert state is None
    assert actions.shape == (4, *agent.action_space.shape)
    agent.controller.restart()
    single, _ = agent.predict(batch[0], deterministic=True)
    assert single.dtype == agent.action_space.dtype
    assert agent.action_space.contains(single if single.ndim else int(single))


@pytest.mark.parametrize("controller", ["rls", "least_squares", "gp_mpc", "bayesian_optimisation"])
def test_continued_from_its_state_it_does_the_same(controller):
    """Stopped within an episode, with noise in the readings; evaluated in between."""
    noisy = {"bpm_noise": 1e-4, "threshold": 3e-4}
    first, second = build(controller, seed=5, **noisy), build(controller, seed=6, **noisy)
    first.learn(13)
    evaluate(first, episodes=3, step_limit=5, **noisy)
    second.set_state(first.state())
    for agent in (first, second):
        agent.learn(15, reset_num_timesteps=False)
    assert first.num_timesteps == second.num_timesteps == 28
    assert first.parameters_sha256 == second.parameters_sha256
    np.testing.assert_array_equal(first._last_obs, second._last_obs)


def test_evaluating_changes_nothing():
    straight, watched = build("gp_mpc", seed=4, bpm_noise=1e-4), build("gp_mpc", seed=4, bpm_noise=1e-4)
    straight.learn(14)
    for _ in range(2):
        watched.learn(7, reset_num_timesteps=watched.num_timesteps == 0)
        evaluate(watched, episodes=3, step_limit=5)
    assert straight.parameters_sha256 == watched.parameters_sha256


def test_saved_and_loaded(tmp_path):
    agent = build("rls", seed=3)
    agent.learn(9)
    agent.save(tmp_path / "agent")
    loaded = type(agent).load(tmp_path / "agent")
    assert loaded.parameters_sha256 == agent.parameters_sha256
    x = agent.observation_space.sample()
    np.testing.assert_array_equal(loaded.predict(x)[0], agent.predict(x)[0])


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("controller", "env_id", "options", "message"),
    [
        (
            "gp_mpc",
            TARGET,
            {},
            "controller: gp_mpc cannot act in qrl/TargetSteering-v0 with actions .*; use rls",
        ),
        ("sign", AWAKE, {}, "controller: sign cannot act in .*; use svd"),
        ("svd", "Pendulum-v1", {}, "controller: svd cannot act in .*; use rls"),
        ("rls", "FrozenLake-v1", {}, "controller: rls cannot act in .* with observations"),
        ("rls", AWAKE, {"prob": 0.1}, "options: prob is not an option of rls; did you mean 'probe'"),
        ("rls", AWAKE, {"discrete": True}, "options: discrete is not an option"),
        ("rls", AWAKE, {"n_actions": 3}, "options: n_actions is not an option"),
        ("svd", AWAKE, {"modes": 3}, "options: modes is not an option of svd; did you mean 'n_modes'"),
        ("svd_one_mode", AWAKE, {"n_modes": 3}, "options: n_modes is not an option"),
        ("svd", AWAKE, {"response": "guess"}, "options.response: guess is not known"),
        ("sign", TARGET, {"up": 2}, "options.up: 2 is no action here; use 0 to 1"),
        ("rls", AWAKE, {"probe": 2.0}, "probe: 2.0 is out of range"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(controller, env_id, options, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        build(controller, env_id, options=options)
    assert "\n" not in str(caught.value)


def test_it_learns_in_one_environment():
    env = TrainingEnv(lambda: gym.make(AWAKE), [0, 1])
    with pytest.raises(InputError, match="a controller learns in one"):
        qrl.build_agent({"algorithm": "controller", "controller": "rls"}, env)
