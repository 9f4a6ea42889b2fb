"""Normalised advantage functions: the quadratic form, the update, and a linear task."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import qrl
from qrl.agents.naf import QuadraticAdvantage
from qrl.networks import build_network
from qrl.specs import MLPNetwork


class Integrator(gym.Env):
    """x' = x + a / 2 in two dimensions, actions in [-1, 3]; reward -|x'|^2; ends near the origin."""

    observation_space = spaces.Box(-4.0, 4.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 3.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = self.np_random.uniform(-1, 1, 2), 0
        return self.x.astype(np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        self.x = np.clip(self.x + (action - 1.0) / 2, -4, 4)
        return self.x.astype(np.float32), -float(self.x @ self.x), False, self.t == 5, {}


def advantage(n_actions=3, seed=0):
    torch.manual_seed(seed)
    n_outputs = 1 + n_actions + n_actions * (n_actions + 1) // 2
    return QuadraticAdvantage(build_network(MLPNetwork(hidden=[7]), 4, n_outputs), n_actions)


@pytest.mark.parametrize("n_actions", [1, 2, 3])
def test_values_are_the_quadratic_form(n_actions):
    q_net = advantage(n_actions)
    torch.manual_seed(1)
    states, actions = torch.randn(9, 4), torch.randn(9, n_actions)
    outputs = q_net.network(states).detach().double().numpy()
    for row, (output, action) in enumerate(zip(outputs, actions.double().numpy(), strict=True)):
        lower, entries = np.zeros((n_actions, n_actions)), iter(output[1 + n_actions :])
        for i in range(n_actions):
            for j in range(i + 1):
                entry = next(entries)
                lower[i, j] = np.exp(entry) if i == j else entry
        away = action - np.tanh(output[1 : 1 + n_actions])
        expected = output[0] - 0.5 * away @ lower @ lower.T @ away
        assert q_net(states, actions)[row].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    best = q_net.best(states)
    torch.testing.assert_close(q_net(states, best), q_net.value(states))
    assert (q_net(states, actions) <= q_net.value(states)).all()


def test_large_entries_off_the_diagonal_have_finite_gradients():
    q_net = advantage(2)
    with torch.no_grad():
        q_net.network.body[-1].bias[4] = 200.0  # below the diagonal: exp(200) is infinite in float32
    q_net(torch.zeros(1, 4), torch.ones(1, 2)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in q_net.parameters())


def test_an_update_goes_towards_the_targets_of_the_target_network():
    spec = {"algorithm": "naf", "network": {"kind": "mlp", "hidden": [6]}, "learning_starts": 12, "tau": 0.25}
    agent = qrl.build_agent(spec, Integrator, seed=1)
    agent.learn(12)
    policy, batch = agent.policy, agent.replay_buffer.sample(8)
    with torch.no_grad():
        for p in policy.q_net_target.parameters():
            p.add_(0.3)
    behind = [p.clone() for p in policy.q_net_target.parameters()]
    agent.replay_buffer.sample = lambda size: batch
    following = policy.q_net_target.value(batch.next_observations)
    assert not batch.dones.any()  # the episodes end by their time limit alone
    target = batch.rewards + 0.99 * following
    loss = 0.5 * (policy.q_net(batch.observations, batch.actions) - target).square().mean()
    expected = torch.autograd.grad(loss, list(policy.q_net.parameters()))
    agent.train(1, 8)
    for p, gradient in zip(policy.q_net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient)
    for p, before, online in zip(
        policy.q_net_target.parameters(), behind, policy.q_net.parameters(), strict=True
    ):
        torch.testing.assert_close(p, 0.75 * before + 0.25 * online)


def test_it_learns_to_steer_an_integrator():
    spec = {
        "algorithm": "naf",
        "network": {"kind": "mlp", "hidden": [32]},
        "learning_rate": 0.005,
        "gamma": 0.5,
        "tau": 0.05,
        "noise": 0.5,
        "noise_final": 0.1,
    }
    agent = qrl.build_agent(spec, Integrator, seed=0)
    starts = np.random.default_rng(0).uniform(-1, 1, (200, 2)).astype(np.float32)

    def after_one_step():
        actions = agent.predict(starts, deterministic=True)[0]
        assert actions.shape == (200, 2)
        return float(np.square(starts + (np.clip(actions, -1, 3) - 1) / 2).sum(1).mean())

    before = after_one_step()
    agent.learn(500)
    # the best action halves each component's distance beyond 1/2: mean squared length 1/12, untouched 2/3
    assert before > 0.4
    assert after_one_step() < 0.2
