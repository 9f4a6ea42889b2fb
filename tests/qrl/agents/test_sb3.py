"""What peers got wrong around Stable-Baselines3's algorithms, held here as regressions."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

import qrl
from qrl.networks import count_parameters
from qrl.specs import agent_spec

SMALL = {
    "kind": "quantum",
    "n_qubits": 2,
    "n_layers": 1,
    "n_features": 4,
    "observables": ["ZI", "IZ"],
    "head": {},
}


def test_a_time_limit_is_no_terminal_state():
    # Published code bootstraps on neither: a truncated episode then looks as if the pole had fallen.
    spec = {"algorithm": "dqn", "network": {"kind": "mlp", "hidden": [4]}, "learning_starts": 1000}
    agent = qrl.build_agent(spec, lambda: gym.make("CartPole-v1", max_episode_steps=5), seed=0)
    agent.learn(60)
    buffer = agent.replay_buffer
    ended = np.flatnonzero(buffer.dones[:60, 0])
    assert len(ended) == 12
    assert buffer.timeouts[ended, 0].all()
    assert not buffer.sample(200).dones.any()
    falling = qrl.build_agent(spec, "CartPole-v1", seed=0)
    falling.learn(200)
    ended = np.flatnonzero(falling.replay_buffer.dones[:200, 0])
    assert len(ended) > 3
    assert not falling.replay_buffer.timeouts[ended, 0].any()


def test_the_target_network_lags_and_answers_the_targets():
    spec = {"algorithm": "dqn", "network": SMALL, "learning_starts": 10, "target_update_interval": 50}
    agent = qrl.build_agent(spec, "CartPole-v1", seed=0)
    start = [p.detach().clone() for p in agent.q_net_target.parameters()]
    agent.learn(49)
    assert all(torch.equal(a, b) for a, b in zip(start, agent.q_net_target.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(start, agent.q_net.parameters(), strict=True))
    assert not any("_target" in name for name in agent.trained_parameters())


def test_epsilon_can_fall_with_the_episodes():
    spec = {
        "algorithm": "dqn",
        "network": {"kind": "mlp", "hidden": [4]},
        "exploration_decay": 0.5,
        "exploration_final": 0.2,
    }
    agent = qrl.build_agent(spec, lambda: gym.make("CartPole-v1", max_episode_steps=5), seed=0)
    rates = []

    class Steps(BaseCallback):
        def _on_step(self):
            rates.append(self.model.exploration_rate)
            return True

    agent.learn(20, callback=Steps())
    # Stable-Baselines3 has no rate before the first step
    assert rates == [0.0] + [1.0] * 4 + [0.5] * 5 + [0.25] * 5 + [0.2] * 5


@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_the_gradient_is_that_of_the_loss(loss):
    spec = {"algorithm": "dqn", "network": SMALL, "learning_starts": 1000, "loss": loss, "max_grad_norm": 10}
    agent = qrl.build_agent(spec, "CartPole-v1", seed=0)
    agent.learn(40)
    np.random.seed(3)
    batch = agent.replay_buffer.sample(16)
    with torch.no_grad():
        best = agent.q_net_target(batch.next_observations).amax(1, keepdim=True)
        target = 5.0 + batch.rewards + (1 - batch.dones) * agent.gamma * best
    batch = batch._replace(rewards=batch.rewards + 5.0)  # far from zero: there the two losses differ
    chosen = agent.q_net(batch.observations).gather(1, batch.actions)
    function = {"huber": torch.nn.functional.smooth_l1_loss, "mse": torch.nn.functional.mse_loss}[loss]
    expected = torch.autograd.grad(function(chosen, target), list(agent.q_net.parameters()))
    agent.replay_buffer.sample = lambda *_: batch
    agent.policy.optimizer.step = lambda: None
    agent.max_grad_norm = float("inf")
    agent.train(1, 16)
    for parameter, gradient in zip(agent.q_net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-6)


class Rates(BaseCallback):
    """Collects the optimiser's rate after each update of PPO."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_rollout_start(self):
        self.seen.append(self.model.policy.optimizer.param_groups[0]["lr"])

    def _on_step(self):
        return True


def test_annealing_is_linear_in_the_budget_for_each_group():
    spec = {
        "algorithm": "ppo", "network": SMALL, "schedule": "linear", "learning_rate": 0.01,
        "learning_rates": {"head": 0.1},
        "n_envs": 2, "n_steps": 8, "batch_size": 16, "n_epochs": 1,
    }  # fmt: skip
    agent = qrl.build_agent(spec, "CartPole-v1", seed=0)
    rates = Rates()
    iterations = 10
    agent.learn(16 * iterations, callback=rates)
    expected = [0.01 * (1 - k / iterations) for k in range(1, iterations)]
    assert rates.seen[1:] == pytest.approx(expected, abs=1e-12)
    assert sorted(group["lr_scale"] for group in agent.policy.optimizer.param_groups) == pytest.approx(
        [1.0, 10.0]
    )


def test_sb3_files_only_with_a_warning(tmp_path):
    spec = {"algorithm": "ppo", "network": SMALL, "n_envs": 1, "n_steps": 16, "batch_size": 16}
    agent, other = (qrl.build_agent(spec, "CartPole-v1", seed=seed) for seed in (0, 1))
    with pytest.warns(UserWarning, match="pickled"):
        agent.export_sb3(tmp_path / "agent.zip")
    assert agent.parameters_sha256 != other.parameters_sha256
    with pytest.warns(UserWarning, match="unpickles"):
        other.import_sb3(tmp_path / "agent.zip")
    assert agent.parameters_sha256 == other.parameters_sha256


def test_acting_counts_one_circuit_a_sample_and_learning_the_hardware_equivalent():
    with qrl.Ledger("count", 0, "hybrid", meters=()) as ledger:
        agent = qrl.build_agent(
            {"algorithm": "dqn", "network": SMALL, "learning_starts": 20, "batch_size": 8}, "CartPole-v1"
        )
        agent.exploration_initial_eps = agent.exploration_final_eps = 0.0
        agent.exploration_schedule = lambda progress: 0.0
        agent.exploration_rate = 0.0
        agent.learn(24)
        totals = ledger.totals()
    # 20 random steps, then 4 acting circuits; 4 updates after steps 21 to 24: targets and values (8 + 8), backward 8
    assert totals["executions"] == 4 + 4 * (8 + 8 + 8)
    # one commuting group; the gradient by shift: 2 x 6 angles (2 scales, 4 weights) for each of 8 samples
    assert totals["hardware_executions"] == 4 + 4 * (8 + 8 + 8 * 2 * 6)


HYBRIDS = {
    "alone": {"n_features": None, "observables": ["ZI", "IZ", "ZZ", "XX", "YY"]},
    "encoder": {"encoder": {"hidden": [4]}, "observables": ["ZI", "IZ", "ZZ", "XX", "YY"]},
    "decoder": {"decoder": {}},
    "both": {"encoder": {}, "decoder": {"hidden": [4]}, "head": None, "frozen": True},
    "removed": {"encoder": {}, "decoder": {}, "circuit": "off"},
}
ALGORITHMS = {
    "dqn": ("CartPole-v1", {"learning_starts": 20}, 2),
    "ppo": ("CartPole-v1", {"n_envs": 1, "n_steps": 24, "batch_size": 24}, 2),
    "continuous ppo": ("Pendulum-v1", {"n_envs": 1, "n_steps": 24, "batch_size": 24}, 1),
    "reinforce": ("CartPole-v1", {"batch_episodes": 1}, 2),
    "ddpg": ("Pendulum-v1", {"learning_starts": 20, "batch_size": 8}, 1),
    "td3": ("Pendulum-v1", {"learning_starts": 20, "batch_size": 8}, 1),
    "sac": ("Pendulum-v1", {"learning_starts": 20, "batch_size": 8}, 2),
    "naf": ("Pendulum-v1", {"learning_starts": 20, "batch_size": 8}, 3),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("hybrid", HYBRIDS)
def test_every_algorithm_takes_every_arrangement_as_actor_and_critic(algorithm, hybrid):
    env, settings, n_outputs = ALGORITHMS[algorithm]
    fields = {"kind": "quantum", "n_qubits": 2, "n_layers": 2, "head": {}, **HYBRIDS[hybrid]}

    def arrangement(outputs):
        words = fields.get("observables")
        return fields if words is None else {**fields, "observables": words[:outputs]}

    spec = {"algorithm": algorithm.split()[-1], "network": arrangement(n_outputs), **settings}
    if spec["algorithm"] in ("ppo", "ddpg", "td3", "sac"):
        spec["critic"] = arrangement(1)
    agent = qrl.build_agent(spec, env, seed=1)
    before = {name: p.detach().clone() for name, p in agent.trained_parameters().items()}
    agent.learn(26)
    moved = {name for name, p in agent.trained_parameters().items() if not torch.equal(p, before[name])}
    circuits = {name for name in before if name.endswith(("weights", "scales"))}
    assert bool(circuits) == (hybrid not in ("both", "removed"))
    assert moved >= {
        name for name in before if "log_" not in name and "scales" not in name and "weights" not in name
    }
    assert not circuits or moved & circuits
    assert not agent.diverged()


def test_sac_of_a_perceptron_is_stock_and_of_a_circuit_two_halves():
    stock = qrl.build_agent({"algorithm": "sac", "network": {"kind": "mlp", "hidden": [5]}}, "Pendulum-v1")
    assert type(stock.actor).__module__.startswith("stable_baselines3")
    spec = {"algorithm": "sac", "network": {**SMALL, "n_features": 3}}
    agent = qrl.build_agent(spec, "Pendulum-v1", seed=0)
    observations = torch.randn(4, 3)
    mean, log_std, _ = agent.actor.get_action_dist_params(observations)
    both = agent.actor.latent_pi(observations)
    assert torch.equal(torch.cat([mean, log_std], 1), both)
    assert agent.predict(observations.numpy(), deterministic=True)[0] == pytest.approx(
        2.0 * mean.tanh().detach().numpy(), abs=1e-5
    )


def test_a_matched_actor_of_sac_takes_over_the_head():
    peer = agent_spec(
        {"name": "hybrid", "algorithm": "sac", "network": {**SMALL, "n_features": 3, "n_layers": 6}}
    )
    twin = {"name": "twin", "algorithm": "sac", "network": {"kind": "matched_mlp", "match": "hybrid"}}
    agent = qrl.build_agent(twin, "Pendulum-v1", peers={"hybrid": peer})
    hybrid = qrl.build_agent(peer, "Pendulum-v1")
    assert agent.spec.network.head == hybrid.spec.network.head
    ours, theirs = (count_parameters(a.actor) for a in (agent, hybrid))
    assert abs(ours - theirs) <= 0.1 * theirs
