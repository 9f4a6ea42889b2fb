"""REINFORCE: whole episodes, analytic returns, no episode cut because another ended."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import qrl
from qrl.agents.reinforce import discounted_returns, less_mean, standardised
from qrl.errors import InputError


class Staggered(gym.Env):
    """Member m ends its episodes after ``length`` steps; reward 1 a step."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length):
        self.length, self.t = length, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t / 100, np.float32), 1.0, self.t >= self.length, False, {}


def test_returns_are_the_analytic_ones():
    np.testing.assert_allclose(discounted_returns([1.0, 2.0, 4.0], 0.5), [3.0, 4.0, 4.0])
    np.testing.assert_allclose(discounted_returns([1.0] * 4, 1.0), [4.0, 3.0, 2.0, 1.0])


def test_standardisation_within_the_episode_and_over_the_batch():
    episodes = [np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0])]
    by_episode = standardised(episodes, "episode")
    assert by_episode[:3].mean() == pytest.approx(0.0, abs=1e-12)
    assert by_episode[3:].std() == pytest.approx(1.0, abs=1e-6)
    assert standardised(episodes, "batch").std() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_array_equal(standardised(episodes, "none"), [1.0, 2.0, 3.0, 10.0, 20.0])


def test_no_episode_is_cut_when_another_ends():
    lengths = iter([3, 7, 11])
    spec = {
        "algorithm": "reinforce",
        "n_envs": 3,
        "batch_episodes": 7,
        "network": {"kind": "mlp", "hidden": [4]},
    }
    agent = qrl.build_agent(spec, lambda: Staggered(next(lengths)), seed=0)
    agent.learn(1)
    # 7 episodes over 3 members: 3 + 2 + 2
    assert sorted(len(rewards) for rewards in agent.batch.rewards) == [3, 3, 3, 7, 7, 11, 11]
    assert agent.num_timesteps == 3 * 3 + 2 * 7 + 2 * 11
    assert len(agent.batch.observations) == agent.num_timesteps


def test_the_gradient_is_the_score_function():
    spec = {
        "algorithm": "reinforce",
        "batch_episodes": 2,
        "standardise": "none",
        "network": {"kind": "mlp", "hidden": [4]},
    }
    agent = qrl.build_agent(spec, lambda: Staggered(3), seed=0)
    before = {name: p.detach().clone() for name, p in agent.trained_parameters().items()}
    agent.learn(1)
    moved = any(not torch.equal(before[name], p) for name, p in agent.trained_parameters().items())
    assert moved
    observations = torch.as_tensor(np.asarray(agent.batch.observations))
    actions = torch.as_tensor(np.asarray(agent.batch.actions))
    with torch.no_grad():
        for name, p in agent.trained_parameters().items():
            p.copy_(before[name])
    log_prob = torch.log_softmax(agent.policy.mlp_extractor.actor(observations), 1)[range(6), actions]
    expected = torch.autograd.grad(
        -(log_prob * torch.tensor([3.0, 2.0, 1.0] * 2)).sum() / 2, list(agent.trained_parameters().values())
    )
    for grad, p in zip(expected, agent.trained_parameters().values(), strict=True):
        torch.testing.assert_close(p.grad, grad)


def test_the_mean_baseline_is_taken_at_each_time_step():
    found = less_mean([np.array([6.0, 4.0, 1.0]), np.array([2.0, 0.0]), np.array([1.0])])
    for advantages, expected in zip(found, ([3.0, 2.0, 0.0], [-1.0, -2.0], [-2.0]), strict=True):
        np.testing.assert_allclose(advantages, expected)


@pytest.mark.parametrize("baseline", ["mean", "value"])
def test_a_baseline_is_subtracted_from_staggered_returns(baseline):
    lengths = iter([2, 3])
    spec = {
        "algorithm": "reinforce",
        "baseline": baseline,
        "batch_episodes": 4,
        "n_envs": 2,
        "standardise": "none",
        "network": {"kind": "mlp", "hidden": [4]},
    }
    agent = qrl.build_agent(spec, lambda: Staggered(next(lengths)), seed=0)
    before = {name: p.detach().clone() for name, p in agent.trained_parameters().items()}
    agent.learn(1)
    with torch.no_grad():
        for name, p in agent.trained_parameters().items():
            p.copy_(before[name])
    networks = agent.policy.mlp_extractor
    observations = torch.as_tensor(np.asarray(agent.batch.observations))
    actions = torch.as_tensor(np.asarray(agent.batch.actions))
    returns = torch.tensor([g for rewards in agent.batch.rewards for g in range(len(rewards), 0, -1)]).float()
    if baseline == "mean":
        # at steps 0 and 1 two returns of each length, at step 2 the long ones alone
        mean = {0: 2.5, 1: 1.5, 2: 1.0}
        subtracted = torch.tensor([mean[t] for rewards in agent.batch.rewards for t in range(len(rewards))])
        assert networks.critic is None
    else:
        values = networks.critic(observations)[:, 0]
        subtracted = values.detach()
        critic = torch.autograd.grad(
            0.5 * (values - returns).square().mean(), list(networks.critic.parameters())
        )
        for p, gradient in zip(networks.critic.parameters(), critic, strict=True):
            torch.testing.assert_close(p.grad, gradient)
    log_prob = torch.log_softmax(networks.actor(observations), 1)[range(len(actions)), actions]
    actor = torch.autograd.grad(
        -(log_prob * (returns - subtracted)).sum() / 4, list(networks.actor.parameters())
    )
    for p, gradient in zip(networks.actor.parameters(), actor, strict=True):
        torch.testing.assert_close(p.grad, gradient)


def test_a_critic_needs_its_baseline():
    with pytest.raises(InputError, match="critic: mlp is not used"):
        qrl.specs.agent_spec({"algorithm": "reinforce", "critic": {"kind": "mlp"}})
