"""Defects read in published code that concern agents: each check holds here, and fails with the defect planted."""

import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm

import qrl
from circuits import reuploading
from qrl.agents.dqn import LeanDQN, Replay
from qrl.agents.reinforce import REINFORCE
from qrl.agents.training_env import TrainingEnv

MLP = {"kind": "mlp", "hidden": [4]}


def holds_and_fails_when_planted(check, monkeypatch, home, name, planted):
    check()
    monkeypatch.setattr(home, name, planted)
    with pytest.raises(AssertionError):
        check()


# ---------------------------------------------------------------- annealing


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "recurrent_ppo"])
def test_annealing_is_linear_and_no_running_product(monkeypatch, algorithm):
    def check():
        spec = {"algorithm": algorithm, "network": {**MLP, "head": {}}, "schedule": "linear", "n_envs": 1}
        spec |= {"learning_rate": 0.01, "learning_rates": {"head": 0.1}, "n_steps": 8}
        spec |= {} if algorithm == "a2c" else {"batch_size": 8, "n_epochs": 1}
        agent = qrl.build_agent(spec, "CartPole-v1", seed=0)
        seen, optimizer = [], agent.policy.optimizer
        step = optimizer.step

        def watched(*rest):
            seen.append({group["lr_scale"]: group["lr"] for group in optimizer.param_groups})
            return step(*rest)

        optimizer.step = watched
        agent.learn(80)
        assert len(seen) == 10
        for k, rates in enumerate(seen, start=1):
            assert sorted(rates) == pytest.approx([1.0, 10.0])
            assert list(rates.values()) == pytest.approx([0.01 * (1 - k / 10)] * 2, abs=1e-12)

    def product(self, optimizers):
        for group in optimizers.param_groups:
            group["lr"] *= self._current_progress_remaining

    holds_and_fails_when_planted(check, monkeypatch, BaseAlgorithm, "_update_learning_rate", product)


# ---------------------------------------------------------------- batches of episodes


class Steps(gym.Env):
    """Ends after ``length`` steps; reward 1 a step."""

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
        return np.zeros(1, np.float32), 1.0, self.t >= self.length, False, {}


def test_one_episodes_end_cuts_no_other(monkeypatch):
    def check():
        lengths = iter([2, 5])
        spec = {"algorithm": "reinforce", "n_envs": 2, "batch_episodes": 4, "network": MLP}
        agent = qrl.build_agent(spec, lambda: Steps(next(lengths)), seed=0)
        agent.learn(1)
        assert sorted(map(sum, agent.batch.rewards)) == [2, 2, 5, 5]

    stepped = REINFORCE._step

    def cut(self, env, callback, quota, running):
        before = self._episode_num
        going = stepped(self, env, callback, quota, running)
        if self._episode_num > before:
            for index, episode in enumerate(running):
                if episode[0] and quota[index] > 0:
                    self.batch.add(*episode)
                    running[index] = ([], [], [])
                    quota[index] -= 1
        return going

    holds_and_fails_when_planted(check, monkeypatch, REINFORCE, "_step", cut)


# ---------------------------------------------------------------- replay and targets


def q_learner(**options):
    spec = {"algorithm": "dqn", "network": MLP, "learning_starts": 10, "target_update_interval": 30}
    return qrl.build_agent({**spec, **options}, lambda: gym.make("CartPole-v1", max_episode_steps=7), seed=0)


def test_replay_has_its_length_and_it_stands_in_the_specification():
    agent = q_learner(buffer_size=25)
    agent.learn(60)
    assert agent.replay_buffer.size() == agent.replay_buffer.buffer_size == 25
    stated = agent.spec.model_dump()
    assert (stated["buffer_size"], stated["target_update_interval"]) == (25, 30)


def test_the_target_network_lags(monkeypatch):
    def check():
        agent = q_learner()
        start = [p.detach().clone() for p in agent.q_net_target.parameters()]
        agent.learn(29)
        assert all(torch.equal(a, b) for a, b in zip(start, agent.q_net_target.parameters(), strict=True))
        agent.learn(1, reset_num_timesteps=False)
        assert not all(torch.equal(a, b) for a, b in zip(start, agent.q_net_target.parameters(), strict=True))

    on_step = LeanDQN._on_step

    def at_every_step(self):
        on_step(self)
        self.q_net_target.load_state_dict(self.q_net.state_dict())

    holds_and_fails_when_planted(check, monkeypatch, LeanDQN, "_on_step", at_every_step)


class Table(torch.nn.Module):
    """Values of two actions by the observation's first component, 0 or 1."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.nn.Parameter(torch.tensor(values))

    def forward(self, observations):
        return self.values[observations[:, 0].long()]


# s, a, r, s', terminated, truncated; gamma = 0.5
TRANSITIONS = [
    (0, 0, 1.0, 1, False, False),
    (1, 1, -1.0, 0, False, False),
    (0, 1, 2.0, 1, True, False),
    (1, 0, 0.5, 1, False, True),
]
ONLINE, TARGET = [[9.0, 8.0], [7.0, 6.0]], [[1.0, 3.0], [2.0, 4.0]]


def targets(double):
    """The TD targets that an update asks for, of each transition; no learning."""
    agent = q_learner(gamma=0.5, double=double)
    for s, a, r, following, terminated, truncated in TRANSITIONS:
        rows = [np.array([[x, 0, 0, 0]], np.float32) for x in (s, following)]
        done = terminated or truncated
        info = {"terminal_observation": rows[1][0], "TimeLimit.truncated": truncated} if done else {}
        agent.replay_buffer.store(
            rows[0], np.zeros((1, 4), np.float32) if done else rows[1], np.array([a]), np.array([r]),
            np.array([done]), [info],
        )  # fmt: skip
    agent.q_net, agent.q_net_target = Table(ONLINE), Table(TARGET)
    batch = agent.replay_buffer._get_samples(np.arange(4))
    with torch.no_grad():
        best = agent._best_values(batch.next_observations)
        return (batch.rewards + (1 - batch.dones) * agent.gamma * best).flatten().tolist()


def test_targets_are_those_of_the_table(monkeypatch):
    def check():
        # the target network's best: 4 after state 1, 3 after state 0; nothing after the end, but after a time limit
        assert targets(False) == [1 + 0.5 * 4, -1 + 0.5 * 3, 2.0, 0.5 + 0.5 * 4]
        # the online network chooses action 0 everywhere: 2 after state 1, 1 after state 0
        assert targets(True) == [1 + 0.5 * 2, -1 + 0.5 * 1, 2.0, 0.5 + 0.5 * 2]

    def online_only(self, observations):
        return self.q_net(observations).amax(1, keepdim=True)

    holds_and_fails_when_planted(check, monkeypatch, LeanDQN, "_best_values", online_only)


@pytest.mark.parametrize("defect", ["ends are bootstrapped", "time limits are ends", "double is not double"])
def test_the_table_sees_wrong_masks_and_choices(monkeypatch, defect):
    right = targets(False), targets(True)
    samples = Replay._get_samples
    if defect == "double is not double":
        monkeypatch.setattr(
            LeanDQN,
            "_best_values",
            lambda self, following: self.q_net_target(following).amax(1, keepdim=True),
        )
        assert targets(True) != right[1]
        return

    def planted(self, rows, env=None):
        batch = samples(self, rows, env)
        ends = np.zeros_like(self.dones) if defect == "ends are bootstrapped" else self.dones
        return batch._replace(dones=torch.from_numpy(ends[rows]))

    monkeypatch.setattr(Replay, "_get_samples", planted)
    assert targets(False) != right[0]


# ---------------------------------------------------------------- shift rule of a loss


def test_the_shift_goes_to_expectations_and_not_to_the_loss():
    # f = A + B cos(angle + phase), loss (f - t)^2: its shift difference is -2 f' (t - A), its derivative -2 f' (t - f)
    layer = qrl.QuantumLayer(reuploading(2, 1), ["ZI"], gradient="parameter_shift").double()
    exact = qrl.QuantumLayer(reuploading(2, 1), ["ZI"], gradient="backprop").double()
    exact.load_state_dict(layer.state_dict())
    features = torch.tensor([[0.3, -0.8]], dtype=torch.float64)

    def loss(one):
        return (one(features) - 0.4).square().sum()

    by_shift = torch.autograd.grad(loss(layer), layer.weights)[0]
    torch.testing.assert_close(by_shift, torch.autograd.grad(loss(exact), exact.weights)[0])
    wrong = torch.zeros_like(by_shift)
    with torch.no_grad():
        for index in range(len(wrong)):
            for sign in (1, -1):
                layer.weights[index] += sign * torch.pi / 2
                wrong[index] += sign * loss(layer) / 2
                layer.weights[index] -= sign * torch.pi / 2
    assert float((wrong - by_shift).abs().max()) > 0.05


# ---------------------------------------------------------------- observations


def test_reset_and_step_are_transformed_alike(monkeypatch):
    from qrl.agents.training_env import make_environment

    def check():
        env = TrainingEnv(lambda: make_environment("Acrobot-v1", {"max_episode_steps": 3}, "scaled"), [0])
        first = env.reset()
        assert np.abs(first).max() <= 1.0
        plain = gym.make("Acrobot-v1").unwrapped
        low, high = plain.observation_space.low, plain.observation_space.high
        for _ in range(7):  # over two ends, after each of which a reset's observation follows
            seen, *_ = env.step(np.array([1]))
            inner = env.envs[0].unwrapped
            raw = inner._get_ob()
            np.testing.assert_allclose(seen[0], 2 * (raw - low) / (high - low) - 1, atol=1e-6)

    def plain_reset(self, *, seed=None, options=None):
        return self.env.reset(seed=seed, options=options)

    holds_and_fails_when_planted(check, monkeypatch, gym.wrappers.TransformObservation, "reset", plain_reset)


def test_the_table_names_tests_that_exist():
    root = Path(__file__).parents[3]
    rows = re.findall(r"^\| (\d+) \|.*$", (root / "docs" / "peers-defects.md").read_text(), re.MULTILINE)
    assert list(map(int, rows)) == list(range(1, 21))
    named = re.findall(r"(test_\w+)`", (root / "docs" / "peers-defects.md").read_text())
    written = "".join(path.read_text() for path in (root / "tests").rglob("test_*.py"))
    assert len(named) >= 20
    assert [name for name in named if f"def {name}(" not in written] == []
