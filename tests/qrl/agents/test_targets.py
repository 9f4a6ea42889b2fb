"""What updates aim at, worked out by hand: targets, returns, and what a time limit cuts."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import configure

import qrl
from circuits import Angle, Circuit, Gate, Term
from qrl.agents.reinforce import discounted_returns

ONLINE = [[1.0, 2.0], [0.0, 5.0], [3.0, -1.0]]
TARGET = [[10.0, 4.0], [7.0, 3.0], [60.0, 50.0]]
# state, action, reward, next state, terminated, cut by a time limit
TRANSITIONS = [(0, 0, 1.0, 1, False, False), (1, 1, -2.0, 2, True, False), (2, 0, 0.5, 0, False, True)]


class Corridor(gym.Env):
    """Reward 1 a step; an episode ends, or is cut, after ``length`` steps."""

    action_space = spaces.Discrete(2)

    def __init__(self, length=2, cut=False, observation_space=None):
        self.length, self.cut, self.t = length, cut, 0
        self.observation_space = observation_space or spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        over = self.t >= self.length
        return np.zeros(1, np.float32), 1.0, over and not self.cut, over and self.cut, {}


# By hand, with gamma = 1/2. Plain: 1 + max(7, 3) / 2; -2, as the episode is over; 0.5 + max(10, 4) / 2, as it was only
# cut. Double: the online table prefers action 1 in states 0 and 1, which the target table values at 4 and 3.
@pytest.mark.parametrize(("double", "targets"), [(False, [4.5, -2.0, 5.5]), (True, [2.5, -2.0, 2.5])])
def test_temporal_difference_targets_are_those_of_the_table(double, targets):
    spec = {"algorithm": "dqn", "network": {"kind": "tabular"}, "double": double, "gamma": 0.5}
    spec |= {"loss": "mse", "max_grad_norm": 1e6}
    agent = qrl.build_agent(spec, lambda: Corridor(observation_space=spaces.Discrete(3)), seed=0)
    (online,), (target,) = (list(net.parameters()) for net in (agent.q_net, agent.q_net_target))
    with torch.no_grad():
        online.copy_(torch.tensor(ONLINE))
        target.copy_(torch.tensor(TARGET))
    buffer = agent.replay_buffer
    for state, action, reward, following, ended, cut in TRANSITIONS:
        over = ended or cut  # then the environments give the first state of the next episode
        info = {"terminal_observation": np.array(following), "TimeLimit.truncated": cut} if over else {}
        given = 0 if over else following
        arrays = (np.array([value]) for value in (state, given, action, reward, over))
        buffer.store(*arrays, [info])
    buffer.sample = lambda *_: buffer._get_samples(np.arange(3))
    agent.policy.optimizer.step = lambda: None
    agent.set_logger(configure(None, []))
    agent.train(1, 3)
    expected = np.zeros((3, 2))
    for (state, action, *_), aim in zip(TRANSITIONS, targets, strict=True):
        expected[state, action] = 2 * (ONLINE[state][action] - aim) / 3
    np.testing.assert_allclose(online.grad, expected, rtol=1e-6)


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "recurrent_ppo"])
def test_rollouts_go_on_beyond_a_time_limit_and_not_beyond_an_end(algorithm):
    spec = {"algorithm": algorithm, "network": {"kind": "mlp", "hidden": [4]}, "n_envs": 1, "n_steps": 4}
    spec |= {} if algorithm == "a2c" else {"batch_size": 4}
    rewards = {}
    for cut in (False, True):
        agent = qrl.build_agent(spec, lambda cut=cut: Corridor(cut=cut), seed=0)
        bias = dict(agent.policy.named_parameters())["mlp_extractor.critic.body.2.bias"]
        with torch.no_grad():
            bias.fill_(3.0)
        agent.learn(4)
        rewards[cut] = agent.rollout_buffer.rewards[:, 0]
        first = float(agent.rollout_buffer.values.flatten()[0])
    np.testing.assert_array_equal(rewards[False], 1.0)
    np.testing.assert_array_equal(rewards[True][[0, 2]], 1.0)
    # the observation never changes; an LSTM's memory does, a little
    expected = 1.0 + 0.99 * first
    assert rewards[True][[1, 3]] == pytest.approx(expected, abs=0.3 if algorithm == "recurrent_ppo" else 1e-5)


def test_returns_of_staggered_episodes_are_the_analytic_ones():
    lengths = iter([3, 7, 11])
    spec = {"algorithm": "reinforce", "n_envs": 3, "batch_episodes": 6, "gamma": 0.9}
    agent = qrl.build_agent(
        {**spec, "network": {"kind": "mlp", "hidden": [4]}}, lambda: Corridor(next(lengths)), seed=0
    )
    agent.learn(1)
    found = sorted((discounted_returns(r, agent.gamma) for r in agent.batch.rewards), key=len)
    assert [len(returns) for returns in found] == [3, 3, 7, 7, 11, 11]
    for returns in found:
        left = len(returns) - np.arange(len(returns))
        np.testing.assert_allclose(returns, (1 - 0.9**left) / (1 - 0.9), rtol=1e-12)


def test_a_replay_buffer_keeps_as_many_transitions_as_stated():
    spec = {"algorithm": "dqn", "network": {"kind": "mlp", "hidden": [4]}, "buffer_size": 25}
    agent = qrl.build_agent({**spec, "learning_starts": 1000}, "CartPole-v1", seed=0)
    seen = []
    agent.env.on_episode = None
    step = agent.env.step_wait
    agent.env.step_wait = lambda: seen.append(agent._last_obs[0].copy()) or step()
    agent.learn(60)
    buffer = agent.replay_buffer
    assert (buffer.size(), len(buffer.observations)) == (25, 25)
    kept = np.roll(buffer.observations[:, 0], -buffer.pos, axis=0)
    np.testing.assert_array_equal(kept, seen[-25:])


def test_the_shift_rule_is_applied_to_expectations_and_never_to_a_loss():
    # One qubit, f(a) = <Z> = cos a, L = (t - f)^2. Shifting the loss itself gives -2 f' t, not -2 f' (t - f).
    circuit = Circuit(1, (Gate("RX", (0,), Angle(0.0, (Term(parameter=0),))),), 0, (("weights", 1),))
    layer = qrl.QuantumLayer(circuit, ["Z"], gradient="parameter_shift").double()
    angle, t = 0.7, 0.2
    with torch.no_grad():
        layer.weights.fill_(angle)

    def loss(a):
        return (t - np.cos(a)) ** 2

    (t - layer(torch.zeros(1, 0, dtype=torch.float64))).square().sum().backward()
    shifted = (loss(angle + np.pi / 2) - loss(angle - np.pi / 2)) / 2
    assert shifted == pytest.approx(2 * np.sin(angle) * t)
    assert layer.weights.grad.item() == pytest.approx(2 * np.sin(angle) * (t - np.cos(angle)), rel=1e-12)
    assert layer.weights.grad.item() == pytest.approx(
        (loss(angle + 1e-6) - loss(angle - 1e-6)) / 2e-6, rel=1e-8
    )
