"""Policies whose head says how they act: Born policies, exact and measured, and annealed softmax policies."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy

import qrl
from qrl.agents.distributions import Categorical
from qrl.errors import InputError

BORN = {
    "kind": "quantum", "n_qubits": 2, "n_layers": 1, "n_features": 4, "head": {"kind": "born", "decoding": "parity"},
}  # fmt: skip
SOFTMAX = {
    "kind": "quantum", "n_qubits": 2, "n_layers": 1, "n_features": 4, "observables": ["ZZ"],
    "head": {"kind": "softmax", "init": [1.0, -1.0], "beta": 0.5, "beta_final": 2.5},
}  # fmt: skip
CRITIC = {"kind": "mlp", "hidden": [4]}
PPO = {"algorithm": "ppo", "critic": CRITIC, "n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 2}
REINFORCE = {"algorithm": "reinforce", "batch_episodes": 2}


def build(settings, network, env="CartPole-v1", seed=0):
    return qrl.build_agent({**settings, "network": network}, env, seed=seed)


def test_notes_are_of_the_sampled_outputs():
    outputs = torch.randn(5, 3)
    torch.manual_seed(0)
    _, note = Categorical.sample(outputs)
    assert torch.equal(note, Categorical.note(outputs))


@pytest.mark.parametrize("shots", [None, 60])
def test_lean_and_stock_ways_agree_on_born_policies(shots):
    policy = build(PPO, {**BORN, "shots": shots}).policy
    observations, actions = torch.randn(6, 4), torch.tensor([0, 1, 1, 0, 0, 1])
    torch.manual_seed(4)
    values, log_prob, entropy = policy.evaluate_actions(observations, actions)
    bias = policy.born.bias
    (values.squeeze(1) * 0.2 + log_prob * 0.5 + entropy * 0.1).sum().backward()
    autograd = {name: p.grad for name, p in policy.named_parameters()}
    policy.optimizer.zero_grad()
    torch.manual_seed(4)
    with torch.no_grad():
        again = policy.pullback(observations, actions)
        again[3](torch.full((6,), 0.2), torch.full((6,), 0.5), torch.full((6,), 0.1))
    for ours, theirs in zip(again, (values.squeeze(1), log_prob, entropy), strict=False):
        torch.testing.assert_close(ours, theirs.detach())
    assert policy.born.bias == pytest.approx(bias, rel=1e-5)
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(parameter.grad, autograd[name], rtol=1e-4, atol=1e-6)
    assert policy.diagnostics() == ({} if shots is None else {"train/born_relative_bias": policy.born.bias})
    assert (bias > 0.0) == (shots is not None)


def test_an_exact_born_policy_is_categorical():
    policy = build(REINFORCE, BORN).policy
    observations = torch.randn(3, 4)
    p = policy.mlp_extractor.actor.body(observations).detach()
    distribution = policy.get_distribution(observations)
    assert isinstance(distribution, CategoricalDistribution)
    torch.testing.assert_close(distribution.distribution.probs.detach(), p)
    torch.testing.assert_close(policy._predict(observations, deterministic=True), p.argmax(1))


def test_a_measured_action_costs_one_shot_and_its_probability_shots_of_its_own():
    shots = 30
    policy = build(PPO, {**BORN, "shots": shots}).policy
    observations = torch.randn(8, 4)
    with torch.no_grad(), qrl.Ledger("act", 0, "hybrid", meters=()) as ledger:
        policy._predict(observations)
        alone = ledger.totals()["shots"]
        actions, note = policy.act(observations)
        both = ledger.totals()["shots"]
        policy._predict(observations, deterministic=True)
        greedy = ledger.totals()["shots"]
    assert (alone, both - alone, greedy - both) == (8, 8 + 8 * shots, 8 * shots)
    # an estimate from this many shots is a multiple of one of them
    estimate = policy.actions.log_prob(note, actions).exp() * shots
    torch.testing.assert_close(estimate, estimate.round(), atol=1e-3, rtol=0)


def test_measured_actions_follow_the_exact_probabilities_and_not_the_estimates():
    # from one shot an estimate is 0 or 1, floored at 1/2: sampling from it would pull towards 1/2
    policy = build(REINFORCE, {**BORN, "shots": 1}).policy
    n = 6000
    with torch.no_grad():
        actor, observation = policy.mlp_extractor.actor, torch.randn(1, 4)
        exact = build(REINFORCE, BORN).policy.mlp_extractor.actor
        exact.load_state_dict(actor.state_dict())
        p = exact.body(observation)[0, 1].item()
        drawn = policy._predict(observation.expand(n, 4)).double().mean().item()
        forward = policy.forward(observation.expand(n, 4))[0].double().mean().item()
    band = 4.5 * (p * (1 - p) / n) ** 0.5
    assert abs(p - 0.5) > 2 * band
    assert abs(drawn - p) < band
    assert abs(forward - p) < band


def test_reinforce_with_shots_pays_one_shot_a_step_and_logs_the_bias():
    shots = 20
    agent = build(REINFORCE, {**BORN, "shots": shots})
    logged = {}

    class Log(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            logged["steps"] = self.model.num_timesteps

    with qrl.Ledger("learn", 0, "hybrid", meters=()) as ledger:
        agent.learn(1, callback=Log(), log_interval=None)
        totals = ledger.totals()
    steps = logged["steps"]
    # values of the batch once, and two shifted circuits for each of 4 weights and 2 scales
    assert totals["shots"] == steps + steps * shots + steps * shots * 2 * 6
    logged |= agent.logger.name_to_value
    assert logged["train/born_relative_bias"] == agent.policy.born.bias > 0.0
    assert "train/behaviour_probability_estimated" not in logged  # it needs none


def test_ppo_says_that_its_denominators_are_estimates():
    agent = build(PPO, {**BORN, "shots": 20})
    agent.learn(32)
    assert agent.logger.name_to_value["train/behaviour_probability_estimated"] == 1.0
    assert 0.0 < agent.logger.name_to_value["train/born_relative_bias"] < 1.0


def test_the_probability_ppo_keeps_is_that_of_the_outputs_it_sampled_from():
    # noisy logits: evaluating them again would give others
    network = {**SOFTMAX, "shots": 5}
    agent = build(PPO, network)
    seen = []
    act = agent.policy.act

    def watched(obs):
        actions, note = act(obs)
        seen.append(note.gather(-1, actions[:, None])[:, 0].clone())
        return actions, note

    agent.policy.act = watched
    agent.learn(32)
    np.testing.assert_array_equal(
        agent.rollout_buffer.log_probs.reshape(-1), torch.stack(seen).T.reshape(-1).numpy()
    )


def betas(agent):
    found = []

    class Betas(BaseCallback):
        def _on_step(self):
            found.append((self.num_timesteps, float(self.model.policy.annealed[0].beta)))
            return True

    return found, Betas()


@pytest.mark.parametrize("settings", [PPO, REINFORCE], ids=["ppo", "reinforce"])
def test_beta_follows_the_budget_and_is_one_within_a_rollout(settings):
    agent = build(settings, SOFTMAX)
    starts = []
    train = agent.train

    def watched():
        starts.append((agent.num_timesteps, float(agent.policy.annealed[0].beta)))
        train()

    agent.train = watched
    found, callback = betas(agent)
    agent.learn(128, callback=callback)
    begins = [0, *(steps for steps, _ in starts[:-1])]
    expected = [0.5 + 2.0 * min(begin / 128, 1.0) for begin in begins]
    assert [beta for _, beta in starts] == pytest.approx(expected)
    assert len(set(expected)) > 2
    assert {round(beta, 5) for _, beta in found} == {round(beta, 5) for beta in expected}


@pytest.mark.parametrize("network", [SOFTMAX, {**BORN, "shots": 20}], ids=["softmax", "born"])
def test_resumed_policies_end_with_the_same_bits(tmp_path, network):
    class Save(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            if self.model.num_timesteps == 64:
                self.model.save(tmp_path / "half")

    agent = build(PPO, network)
    agent.learn(128, callback=Save())
    other = type(agent).load(tmp_path / "half", force_reset=False)
    if network is SOFTMAX:
        assert float(other.policy.annealed[0].beta) == pytest.approx(0.5 + 2.0 * 64 / 128)
    other.learn(64, reset_num_timesteps=False)
    assert other.parameters_sha256 == agent.parameters_sha256


@pytest.mark.parametrize("network", [BORN, SOFTMAX], ids=["born", "softmax"])
@pytest.mark.parametrize(
    ("settings", "env"),
    [
        ({"algorithm": "dqn"}, "CartPole-v1"),
        ({"algorithm": "ppo"}, "Pendulum-v1"),
        ({"algorithm": "sac"}, "Pendulum-v1"),
    ],
    ids=["dqn", "continuous ppo", "sac"],
)
def test_policy_heads_are_for_policies_over_discrete_actions(settings, env, network):
    with pytest.raises(InputError, match=r"head\.kind: .* policies over discrete actions"):
        build(settings, {**network, "n_features": None, "encoder": {}}, env)


def test_born_policies_in_stable_baselines3_own_forward():
    policy = build(PPO, BORN).policy
    observations = torch.randn(5, 4)
    torch.manual_seed(2)
    ours = policy.forward(observations)
    torch.manual_seed(2)
    theirs = ActorCriticPolicy.forward(policy, observations)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
