"""Free-energy Q-learning: the published rule against a thermal state worked out apart, and what surrounds it."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.linalg import expm, logm

import qrl
from environments.target_steering import optimality
from qrl.agents.presets import PRESETS, preset
from qrl.agents.training_env import make_environment
from qrl.errors import InputError
from qrl.specs import agent_spec

MACHINE = {"kind": "boltzmann", "graph": {"kind": "complete", "n": 3}, "field": 0.5, "sampler": "exact"}
CLASSICAL = {"kind": "boltzmann", "field": 0.0}
BASE = {"algorithm": "free_energy_q", "network": MACHINE, "exploration_initial": 0.0}


class Steps(gym.Env):
    """Observations, rewards and ends as listed, whatever is done; the actions taken are kept."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, rewards, end="none", n_actions=3):
        self.action_space = spaces.Discrete(n_actions)
        self.rewards, self.end, self.t, self.taken = rewards, end, 0, []
        self.places = np.random.default_rng(0).uniform(-1, 1, (len(rewards) + 1, 2)).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.places[0], {}

    def step(self, action):
        self.taken.append(int(action))
        self.t += 1
        last = self.t == len(self.rewards)
        ended, cut = last and self.end == "terminal", last and self.end != "terminal"
        return self.places[self.t], self.rewards[self.t - 1], ended, cut, {}


def thermal(machine, state, action):
    """Q and moments of the mirrored machine of three coupled spins, from the matrix exponential."""
    one, x, z = np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])

    def on(matrix, unit):
        return np.kron(np.kron(*(matrix if unit == k else one for k in (0, 1))), matrix if unit == 2 else one)

    visible = np.concatenate([state, action])
    weights = machine.weights.detach().double().numpy().reshape(3, 3)
    couplings = machine.couplings.detach().double().numpy()
    pairs = list(itertools.combinations(range(3), 2))
    energy = sum(b * on(z, h) for h, b in enumerate(visible @ weights))
    energy = energy + sum(j * on(z, h) @ on(z, k) for (h, k), j in zip(pairs, couplings, strict=True))
    energy = energy - machine.field * sum(on(x, h) for h in range(3))
    rho = expm(-machine.beta * energy)
    rho = rho / np.trace(rho)
    # F = <E> + (1/beta) tr rho ln rho
    free = np.trace(rho @ energy) + np.trace(rho @ logm(rho)).real / machine.beta
    ones = np.array([np.trace(rho @ on(z, h)) for h in range(3)])
    twos = np.array([np.trace(rho @ on(z, h) @ on(z, k)) for h, k in pairs])
    return free + float(machine.offset), np.outer(visible, ones).ravel(), twos


def built(env, seed=0, **changes):
    return qrl.build_agent({**BASE, **changes}, env, seed=seed)


@pytest.mark.parametrize(("end", "bootstraps"), [("terminal", False), ("truncated", True), ("none", True)])
def test_an_update_is_the_published_rule(end, bootstraps):
    env = Steps([-2.0] if end != "none" else [-2.0, 0.0], end)
    agent = built(env, replay=False, learning_rate=0.1, gamma=0.7, tau=0.3)
    machine, follower = agent.policy.q_net, agent.policy.q_net_target
    with torch.no_grad():
        follower.weights += 0.2  # so that it matters which machine answers
    start = [p.detach().clone().double().numpy() for p in (machine.weights, machine.couplings)]
    behind = [p.detach().clone() for p in follower.parameters()]
    best = max(thermal(follower, env.places[1], [a])[0] for a in (-1.0, 0.0, 1.0))
    level = {a: thermal(machine, env.places[0], [a]) for a in (-1.0, 0.0, 1.0)}
    agent.learn(1)
    taken = env.taken[0]
    assert level[taken - 1.0][0] == max(value for value, _, _ in level.values())
    value, by_weights, by_couplings = level[taken - 1.0]
    delta = -2.0 + bootstraps * 0.7 * best - value
    np.testing.assert_allclose(machine.weights.detach(), start[0] + 0.1 * delta * by_weights, atol=2e-6)
    np.testing.assert_allclose(machine.couplings.detach(), start[1] + 0.1 * delta * by_couplings, atol=2e-6)
    for before, after, online in zip(behind, follower.parameters(), machine.parameters(), strict=True):
        torch.testing.assert_close(after, 0.7 * before + 0.3 * online)
    assert agent.updates == 1


def test_a_batch_moves_the_weights_by_its_mean():
    env = Steps([-1.0, 0.5, 2.0, 0.0, -3.0, 1.0])
    agent = built(env, learning_rate=0.05, batch_size=4, learning_starts=4, exploration_initial=1.0)
    agent.learn(4)
    machine = agent.policy.q_net
    start, batch = machine.weights.detach().clone(), agent.replay_buffer.sample(4)
    agent.replay_buffer.sample = lambda size: batch
    steps = []
    for row in range(4):
        following = batch.next_observations[row].numpy()
        best = max(thermal(machine, following, [a])[0] for a in (-1.0, 0.0, 1.0))
        action = [float(batch.actions[row]) - 1.0]
        value, by_weights, _ = thermal(machine, batch.observations[row].numpy(), action)
        steps.append((float(batch.rewards[row]) + agent.gamma * best - value) * by_weights)
    agent.train(1, 4)
    expected = start.double().numpy() + 0.05 * np.mean(steps, axis=0)
    np.testing.assert_allclose(machine.weights.detach(), expected, atol=2e-6)


@pytest.mark.parametrize("replay", [True, False])
def test_without_replay_it_learns_from_the_last_transition_alone(replay):
    agent = built(Steps([1.0, 2.0, 3.0]), replay=replay, batch_size=4)
    learnt, sample = [], agent.replay_buffer.sample

    def watched(size):
        batch = sample(size)
        learnt.append(batch.rewards.ravel().tolist())
        return batch

    agent.replay_buffer.sample = watched
    agent.learn(5)
    assert (learnt == [[1.0], [2.0], [3.0], [1.0], [2.0]]) == (not replay)
    assert [len(rewards) for rewards in learnt] == ([1, 2, 3, 4, 4] if replay else [1] * 5)


def test_it_acts_by_the_online_machine():
    agent = built(Steps([0.0] * 4, n_actions=2))
    observations = np.random.default_rng(1).uniform(-1, 1, (40, 2)).astype(np.float32)
    online, follower = agent.policy.q_net, agent.policy.q_net_target
    with torch.no_grad():
        follower.weights.neg_()
        follower.couplings.neg_()
    chosen = agent.predict(observations, deterministic=True)[0]
    states = torch.from_numpy(observations)
    with torch.no_grad():
        gain = online(states, torch.ones(40, 1)) - online(states, -torch.ones(40, 1))
        other = follower(states, torch.ones(40, 1)) - follower(states, -torch.ones(40, 1))
    assert (chosen == (gain > 0).squeeze(1).numpy()).all()
    assert (chosen != (other > 0).squeeze(1).numpy()).any()


def test_requests_are_batched_and_ended_episodes_cost_none():
    env = Steps([0.0, 0.0, 1.0], "terminal")
    agent = built(env, batch_size=12, learning_starts=5)
    agent.learn(6)  # five random steps, a greedy one, one update of six transitions drawn with replacement
    sampler = agent.policy.q_net.sampler
    rows, real = [], type(sampler).thermal

    def counted(self, problem, **options):
        rows.append(len(problem.biases))
        return real(self, problem, **options)

    for net in (agent.policy.q_net, agent.policy.q_net_target):
        net.sampler.thermal = counted.__get__(net.sampler)
    sizes, buffer = [], agent.replay_buffer
    buffer.sample = lambda size: sizes.append(size) or buffer._get_samples(np.arange(6))
    agent.train(1, 12)
    assert sizes == [6]  # not more than there are
    assert rows == [3 * 4, 6]  # two of the six ended an episode
    rows.clear()
    agent.predict(np.zeros((50, 2), np.float32), deterministic=True)
    assert rows == [150]


def test_a_machine_that_is_sampled_acts_by_moments_alone():
    """Three actions have two gaps, eight moments each; where the exact machine is clear, it chooses the same."""
    network = {**MACHINE, "sampler": "sqa", "sampler_options": {"sweeps": 400}, "init_scale": 2.0}
    sampled = built(Steps([0.0]), network=network)
    exact = built(Steps([0.0]), network={**network, "sampler": "exact", "sampler_options": {}})
    observations = np.random.default_rng(2).uniform(-1, 1, (60, 2)).astype(np.float32)
    states = torch.from_numpy(observations)
    with torch.no_grad():
        values = exact.policy.all_values(exact.policy.q_net, states)
    asked, real = [], type(sampled.policy.q_net.sampler).thermal

    def recorded(self, problem, *, free_energy=True, seed=None):
        asked.append((len(problem.biases), free_energy))
        return real(self, problem, free_energy=free_energy, seed=seed)

    sampler = sampled.policy.q_net.sampler
    sampler.thermal = recorded.__get__(sampler)
    chosen = sampled.predict(observations, deterministic=True)[0]
    assert asked == [(60 * 2 * 8, False)]
    best, second = values.topk(2, dim=1).values.T
    clear = (best - second > 0.15).numpy()
    assert clear.sum() > 30
    assert (chosen == values.argmax(1).numpy())[clear].all()


def test_epsilon_falls_linearly_and_rates_reach_their_end():
    agent = built(
        Steps([0.0] * 5),
        exploration_initial=0.9,
        exploration_final=0.1,
        exploration_fraction=0.5,
        schedule="linear",
        learning_rate=0.1,
        learning_rate_final=0.02,
    )
    seen = []
    agent.learn(40, callback=lambda now, _: seen.append(agent.exploration_rate) or True)
    # a callback comes after the step and before its progress is counted
    expected = [0.9 - 0.8 * min(k / 20, 1.0) for k in range(40)]
    np.testing.assert_allclose(seen, expected, atol=1e-12)
    assert agent.policy.optimizer.param_groups[0]["lr"] == pytest.approx(0.02)


def test_couplings_and_offset_have_rates_of_their_own():
    network = {**MACHINE, "trainable_offset": True}
    rates = {"couplings": 0.04, "head": 0.5}
    agent = built(Steps([1.0] * 3), network=network, learning_rate=0.1, learning_rates=rates)
    found = {name: p.lr_scale for name, p in agent.policy.q_net.named_parameters()}
    assert found == pytest.approx({"weights": 1.0, "couplings": 0.4, "offset": 5.0})
    frozen = built(Steps([1.0] * 3), learning_rate=0.1, learning_rates={"couplings": 1e-12})
    before = [p.detach().clone() for p in frozen.policy.q_net.parameters()]
    frozen.learn(3)
    moved = [not torch.equal(a, b) for a, b in zip(before, frozen.policy.q_net.parameters(), strict=True)]
    assert moved == [True, False]


def test_the_level_sets_the_mean_of_the_first_batch():
    network = {**MACHINE, "level": -12.5}
    agent = built(Steps([-10.0, -15.0, -12.0]), network=network, learning_rate=1e-9, learning_starts=20)
    agent.learn(20)
    assert float(agent.policy.q_net.offset) == float(built(Steps([0.0])).policy.q_net.offset)
    batch = agent.replay_buffer.sample(16)
    agent.replay_buffer.sample = lambda size: batch
    agent.train(2, 16)
    for net in (agent.policy.q_net, agent.policy.q_net_target):
        with torch.no_grad():
            mean = net(batch.observations, batch.actions - 1.0).mean()
        assert float(mean) == pytest.approx(-12.5, abs=1e-4)


def test_gradients_are_clipped():
    def moved(**changes):
        agent = built(Steps([-100.0]), learning_rate=0.1, **changes)
        before = torch.cat([p.detach().clone() for p in agent.policy.q_net.parameters()])
        agent.learn(1)
        return float((torch.cat([p.detach() for p in agent.policy.q_net.parameters()]) - before).norm())

    assert moved() > 1.0
    assert moved(max_grad_norm=2.0) == pytest.approx(0.2, rel=1e-4)


NETWORKS = {
    "mlp": {"kind": "mlp", "hidden": [8, 8]},
    "symmetric": {"kind": "symmetric_mlp", "hidden": [8, 8]},
    "concave": {"kind": "concave", "hidden": [8]},
    "lncosh": {"kind": "lncosh", "n_units": 8},
    "bilinear": {"kind": "bilinear"},
    "circuit": {"kind": "quantum", "n_qubits": 2, "n_layers": 1, "observables": ["ZZ"], "head": {}},
    "uncoupled": {"kind": "boltzmann", "graph": {"kind": "uncoupled", "n": 6}, "quadratic": True},
}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_every_action_value_network_learns_a_reward(network, optimizer):
    # two steps an episode, the second ends it with reward -2: values of the last states tend to that
    agent = built(
        Steps([0.0, -2.0], "terminal"),
        network=network,
        optimizer=optimizer,
        learning_rate=0.03,
        learning_starts=10,
    )
    agent.learn(10)
    batch = agent.replay_buffer.sample(64)

    def error():
        with torch.no_grad():
            values = agent.policy.values(batch.observations, batch.actions)
        return float((values - batch.rewards)[batch.dones == 1].square().mean())

    before = error()
    agent.train(120, 32)
    assert error() < 0.2 * before


def test_target_steering_is_learnt_in_eighty_interactions():
    env, reached = make_environment("qrl/TargetSteering-v0"), []
    for seed in range(4):
        agent = qrl.build_agent(preset("qbm-rl-steering:q-learning"), "qrl/TargetSteering-v0", seed=seed)
        agent.learn(80)
        reached.append(optimality(lambda seen, agent=agent: agent.predict(seen, deterministic=True)[0], env))
    assert sorted(reached)[1] >= 0.95, reached


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete_and_read_back(name):
    data = preset(name)
    spec = agent_spec({**data, "name": "published"})
    written = spec.model_dump(mode="json")
    assert agent_spec(written) == spec
    for key in ("learning_rate", "gamma", "tau", "batch_size"):
        assert key not in data or written[key] == data[key]
    data["gamma"] = 0.0
    assert preset(name) != data  # a copy


@pytest.mark.parametrize(
    ("name", "env_id", "count"),
    [
        ("q-learning", "qrl/TargetSteering-v0", 52),
        ("q-learning-without-replay", "qrl/TargetSteering-v0", 52),
        ("cartpole", "CartPole-v1", 160),
        ("actor-critic", "qrl/AwakeSteering-v0", 604),
        ("actor-critic-dwave", "qrl/AwakeSteering-v0", 912),
    ],
)
def test_presets_have_the_published_number_of_weights(name, env_id, count):
    agent = qrl.build_agent(preset(f"qbm-rl-steering:{name}"), env_id)
    trained = agent.trained_parameters().items()
    assert sum(p.numel() for key, p in trained if not key.startswith("actor.")) == count
    actor = sum(p.numel() for key, p in trained if key.startswith("actor."))
    assert actor == (127_710 if "actor" in name else 0)


def test_presets_by_another_name():
    with pytest.raises(InputError, match="did you mean 'qbm-rl-steering:cartpole'"):
        preset("qbm-rl-steering:cartpol")


def test_a_classical_twin_is_matched_to_the_machine():
    machine = {"name": "machine", **BASE, "network": CLASSICAL}
    for algorithm in ("free_energy_q", "dqn"):
        network = {"kind": "matched_mlp", "match": "machine"}
        twin = {"name": "twin", "algorithm": algorithm, "network": network, "learning_starts": 0}
        agents = {a["name"]: agent_spec(a) for a in (machine, twin)}
        agent = qrl.build_agent(twin, "qrl/TargetSteering-v0", peers=agents)
        assert agent.spec.network.n_parameters == 52
        assert abs(sum(p.numel() for p in agent.trained_parameters().values()) - 52) <= 5.2
