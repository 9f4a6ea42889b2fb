"""Evaluation: episodes side by side are the episodes one by one, and leave the agent as it was."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import qrl
from qrl.agents.training_env import make_environment
from qrl.study.evaluation import Evaluator

AGENTS = {
    "dqn": {"algorithm": "dqn", "learning_starts": 20, "network": {"kind": "mlp", "hidden": [8]}},
    "ppo": {"algorithm": "ppo", "n_envs": 1, "n_steps": 32, "batch_size": 32},
    "quantum": {
        "algorithm": "ppo", "n_envs": 1, "n_steps": 32, "batch_size": 32,
        "network": {"kind": "quantum", "n_qubits": 3, "n_layers": 2, "head": {}},
    },
}  # fmt: skip


def play(env, agent, observation):
    total, length, ended = 0.0, 0, False
    while not ended:
        action, _ = agent.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, length, ended = total + float(reward), length + 1, terminated or truncated
    return total, length


@pytest.mark.parametrize("name", AGENTS)
def test_side_by_side_is_one_by_one_in_a_native_vector(name):
    agent = qrl.build_agent(AGENTS[name], lambda: make_environment("CartPole-v1", {}, "arctan"), seed=1)
    agent.learn(200)
    evaluator = Evaluator("CartPole-v1", {}, "arctan", 12, seed=5)
    result = evaluator(agent)
    evaluator.env.reset(seed=5)
    starts = evaluator.env.unwrapped.state.T.copy()
    env = make_environment("CartPole-v1", {}, "arctan")
    for start, total, length in zip(starts, result.returns, result.lengths, strict=True):
        env.reset()
        env.unwrapped.state = start
        assert play(env, agent, np.arctan(start.astype(np.float32))) == (total, length)
    assert len(set(result.lengths)) > 1


@pytest.mark.parametrize("name", ["dqn", "ppo"])
def test_side_by_side_is_one_by_one_in_gymnasiums_synchronous_vector(name):
    options = {"max_episode_steps": 150}
    agent = qrl.build_agent(AGENTS[name], lambda: make_environment("Acrobot-v1", options, None), seed=2)
    agent.learn(200)
    evaluator = Evaluator("Acrobot-v1", options, None, 4, seed=9)
    assert isinstance(evaluator.env.unwrapped, gym.vector.SyncVectorEnv)
    result = evaluator(agent)
    env = make_environment("Acrobot-v1", options, None)
    for index, expected in enumerate(zip(result.returns, result.lengths, strict=True)):
        assert play(env, agent, env.reset(seed=9 + index)[0]) == expected


def test_a_machine_that_drifts_is_evaluated_as_it_is():
    """An operator's corrector that knows the response of step 0 needs more steps once the machine has drifted."""
    options = {"quadrupole_drift": 0.5, "threshold": 3e-4}
    agent = qrl.build_agent(
        {"algorithm": "controller", "controller": "svd"},
        lambda: make_environment("qrl/AwakeSteering-v0", options, None),
    )
    evaluator = Evaluator("qrl/AwakeSteering-v0", options, None, 40, seed=3)
    fresh, drifted = evaluator(agent), evaluator(agent, clock=500)
    assert max(fresh.lengths) == 1
    assert max(drifted.lengths) > 1
    assert evaluator(agent) == fresh


def test_an_evaluation_leaves_no_trace_and_repeats():
    agent = qrl.build_agent(AGENTS["dqn"], "CartPole-v1", seed=0)
    agent.learn(60)
    evaluator = Evaluator("CartPole-v1", {}, None, 5, seed=1)
    parameters, torch_state, numpy_state = (
        agent.parameters_sha256,
        torch.get_rng_state(),
        np.random.get_state(),
    )
    first, second = evaluator(agent), evaluator(agent)
    assert first == second
    assert agent.parameters_sha256 == parameters
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state[1]).all()
