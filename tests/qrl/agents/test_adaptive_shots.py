"""Deep Q-learning whose actions are read with shots: what it costs, what it does, and that it continues exactly."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

import qrl
from circuits import reuploading
from circuits.shot_allocation import EmpiricalBernstein, Published
from qrl.agents.adaptive_shots import MeasuredValues, decision_quality
from qrl.networks import Network, build_network
from qrl.specs import agent_spec

NETWORK = {
    "kind": "quantum",
    "n_qubits": 2,
    "n_layers": 2,
    "n_features": 4,
    "observables": ["ZI", "IZ"],
    "head": {"kind": "unit", "init": [2.0, 3.0]},
}
GREEDY = {"exploration_initial": 0.0, "exploration_final": 0.0, "learning_starts": 0}
RANDOM = {"exploration_initial": 1.0, "exploration_final": 1.0}


def build(shots, network=None, seed=11, **options):
    spec = {
        "algorithm": "dqn",
        "network": {**NETWORK, **(network or {})},
        "adaptive_shots": shots,
        **options,
    }
    return qrl.build_agent(spec, "CartPole-v1", seed=seed)


def learnt(agent, steps, updates=True, **options):
    if not updates:
        agent.train = lambda *_, **__: None
    with qrl.Ledger("shots", 0, "agent", meters=()) as ledger:
        agent.learn(steps, **options)
        return ledger.totals()


def observations(n):
    return np.random.default_rng(5).uniform(-0.5, 0.5, (n, 4)).astype(np.float32)


# ---------------------------------------------------------------- cost


@pytest.mark.parametrize("rule", ["empirical_bernstein", "published"])
def test_a_greedy_action_costs_what_it_took_and_an_exploring_one_nothing(rule):
    one_look = {"rule": rule, "start": 70, "cap": 70}
    totals = learnt(build(one_look, **GREEDY), 40, updates=False)
    assert (totals["executions"], totals["hardware_executions"], totals["shots"]) == (40, 40, 40 * 70)
    two_settings = build(one_look, {"observables": ["ZI", "XI"]}, **GREEDY)
    totals = learnt(two_settings, 40, updates=False)
    assert (totals["hardware_executions"], totals["shots"]) == (80, 80 * 70)
    assert totals["executions"] == {"empirical_bernstein": 80, "published": 40}[rule]
    exploring = learnt(build(one_look, **RANDOM), 40, updates=False)
    assert (exploring["executions"], exploring["shots"]) == (0, 0)


class Decisions(BaseCallback):
    """Shots of each greedy action."""

    def __init__(self):
        super().__init__()
        self.shots = []

    def _on_step(self):
        self.shots += self.model.q_net.measured.latest.shots.tolist()
        return True


@pytest.mark.parametrize("rule", ["empirical_bernstein", "published"])
def test_the_ledger_has_the_sum_of_all_decisions_and_the_logger_their_mean(rule):
    agent, decisions = build({"rule": rule}, **GREEDY), Decisions()
    seen = {}
    totals = learnt(agent, 60, updates=False, callback=decisions, log_interval=10**6)
    assert len(decisions.shots) == 60
    assert len(set(decisions.shots)) > 1
    assert totals["shots"] == sum(decisions.shots)
    assert totals["hardware_executions"] == sum(decisions.shots) / 100
    agent.logger.record = lambda key, value, *_, **__: seen.update({key: value})
    agent.dump_logs()
    assert seen["rollout/shots_per_decision"] == pytest.approx(np.mean(decisions.shots))
    seen.clear()
    agent.dump_logs()
    assert "rollout/shots_per_decision" not in seen


def test_evaluation_is_exact_unless_it_is_asked_for():
    for evaluation, shots in ((False, 0), (True, 8 * 50)):
        agent = build({"start": 50, "cap": 50, "evaluation": evaluation})
        with qrl.Ledger("shots", 0, "agent", meters=()) as ledger:
            with ledger.phase("evaluate"):
                agent.predict(observations(8), deterministic=True)
            totals = ledger.totals()
        assert totals["shots"] == shots
        assert totals["executions"] == 8


# ---------------------------------------------------------------- actions


@pytest.mark.parametrize(
    ("head", "weights", "offsets"),
    [
        ({"kind": "unit", "init": [2.0, 3.0]}, [[1.0, 0.0], [0.0, 1.5]], [1.0, 1.5]),
        ({"kind": "affine", "init": [2.0, -3.0], "shift": 5.0}, [[2.0, 0.0], [0.0, -3.0]], [5.0, 5.0]),
        ({"kind": "scale", "init": 4.0}, [[4.0, 0.0], [0.0, 4.0]], [0.0, 0.0]),
        (None, [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]),
    ],
)
def test_the_combination_is_the_heads(head, weights, offsets):
    network = build_network(
        agent_spec({"algorithm": "dqn", "network": {**NETWORK, "head": head}}).network, 4, 2
    )
    found = MeasuredValues(network).combination()
    np.testing.assert_allclose(found[0], weights, atol=1e-6)
    np.testing.assert_allclose(found[1], offsets, atol=1e-6)


def test_one_observable_serves_all_actions():
    network = {**NETWORK, "observables": ["ZZ"], "head": {"kind": "affine", "init": [1.0, -2.0]}}
    built = build_network(agent_spec({"algorithm": "dqn", "network": network}).network, 4, 2)
    np.testing.assert_allclose(MeasuredValues(built).combination()[0], [[1.0], [-2.0]])


def test_layers_around_the_circuit_are_seen_through():
    torch.manual_seed(0)
    layer = qrl.QuantumLayer(reuploading(2, 1), ["ZI", "IZ"], shots=5)
    network = Network(nn.Sequential(nn.Linear(4, 2), layer, nn.Linear(2, 3)), None)
    values, inputs = MeasuredValues(network), torch.randn(6, 4)
    weights, offsets = values.combination()
    last = network.body[2]
    np.testing.assert_allclose(weights, last.weight.detach(), atol=1e-6)
    np.testing.assert_allclose(offsets, last.bias.detach(), atol=1e-6)
    decision = values.decide(inputs, EmpiricalBernstein(start=10**6, cap=10**6))
    assert layer.shots == 5
    layer.shots = None
    with torch.no_grad():
        np.testing.assert_allclose(values.exact(inputs), network(inputs), atol=1e-6)
        np.testing.assert_allclose(decision.values, network(inputs), atol=0.01)
    curved = Network(nn.Sequential(layer, nn.Sequential(nn.Linear(2, 2), nn.Tanh())), None)
    with pytest.raises(qrl.InputError, match="values linear in expectation values"):
        MeasuredValues(curved)


@pytest.mark.parametrize("rule", ["empirical_bernstein", "published"])
def test_with_many_shots_actions_are_those_of_the_exact_values(rule):
    many = {"rule": rule, "start": 10**6, "cap": 10**6}
    agent = build(many)
    features = torch.from_numpy(observations(200))
    with torch.no_grad():
        values = agent.q_net(features)
        clear = (values[:, 0] - values[:, 1]).abs() > 0.02  # 6 standard errors of at most 3 / 1000
        actions = agent.q_net.measured.act(features, training=True)
    assert int(clear.sum()) > 150
    assert len(set(values.argmax(1).tolist())) == 2
    assert torch.equal(actions[clear], values.argmax(1)[clear])


# ---------------------------------------------------------------- updates


def test_what_is_learnt_from_has_the_noise_of_its_gap():
    agent = build({"rule": "published", "updates": "gap"})
    values = torch.tensor([[0.0, 0.1]]).repeat(4000, 1)  # 2 / 0.1 ** 2 = 200 shots
    torch.manual_seed(0)
    with torch.no_grad():
        noise = (agent.q_net.learnt_from(values) - values).double()
    # Q = w (1 + O) / 2 with w = 2, 3 and a standard error of 1 / sqrt(200)
    expected = torch.tensor([1.0, 1.5], dtype=torch.float64) / 200**0.5
    torch.testing.assert_close(noise.std(0), expected, rtol=0.06, atol=0)
    assert (noise.mean(0).abs() < 5 * expected / 4000**0.5).all()
    assert abs(float(torch.corrcoef(noise.T)[0, 1])) < 5 / 4000**0.5


def test_updates_by_gap_cost_the_shots_of_both_values():
    # a cap of 100 makes each value cost 100: 8 transitions, their values and their targets, 20 updates
    options = {**RANDOM, "learning_starts": 10, "batch_size": 8, "target_update_interval": 1000}
    agent = build({"rule": "published", "updates": "gap", "cap": 100}, **options)
    totals = learnt(agent, 30)
    assert agent.updates == 20
    assert totals["shots"] == 20 * 2 * 8 * 100
    exact = learnt(build({"rule": "published"}, **options), 30)
    assert exact["shots"] == 0
    assert exact["hardware_executions"] == totals["hardware_executions"]


def test_updates_of_fixed_shots_are_the_networks_own():
    options = {**RANDOM, "learning_starts": 10, "batch_size": 8}
    totals = learnt(build({}, {"shots": 30}, **options), 30)
    assert totals["shots"] == 30 * totals["hardware_executions"] > 0


# ---------------------------------------------------------------- continuation


@pytest.mark.parametrize("shots", [{}, {"rule": "published", "updates": "gap"}])
def test_a_loaded_agent_draws_the_same_shots(shots, tmp_path):
    options = {"learning_starts": 20, "batch_size": 8, "exploration_final": 0.1}
    agent = build({**shots, "start": 20, "step": 20, "cap": 200}, **options)
    agent.learn(60)
    agent.save(tmp_path / "agent")
    found = []
    for continued in (lambda: agent, lambda: qrl.DQN.load(tmp_path / "agent", force_reset=False)):
        member, decisions = continued(), Decisions()
        totals = learnt(member, 60, reset_num_timesteps=False, callback=decisions)
        found.append((member.parameters_sha256, totals["shots"], decisions.shots))
    assert found[0] == found[1]
    assert len(set(found[0][2])) > 1


# ---------------------------------------------------------------- quality


def test_quality_of_both_rules_where_the_scale_is_large():
    agent = build({}, {"head": {"kind": "scale", "init": 20.0}}, seed=4)
    before = torch.get_rng_state()
    ours = decision_quality(agent, observations(400), seed=3)
    published = decision_quality(agent, observations(400), Published(), seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    for quality in (ours, published):
        assert quality.decisions == 400
        low, high = quality.interval
        assert low <= quality.wrong_share <= high
        assert quality.wrong_decided_share <= quality.wrong_share
        assert quality.shots_percentiles[5] <= quality.shots_percentiles[50] <= quality.shots_percentiles[95]
        assert 100 <= quality.shots_mean <= 1000
    assert ours.wrong_decided_share <= 0.05
    assert published.interval[0] > ours.wrong_decided_share
    assert published.shots_mean < ours.shots_mean
    assert published.lost_mean > 0
    assert decision_quality(agent, observations(400), EmpiricalBernstein(), seed=3) == ours


def test_quality_counts_wrong_choices_by_hand():
    # Q_1 is a constant 0 by its weight; Q_0 has the sign of <ZI>. One shot: wrong with probability (1 - |<ZI>|) / 2.
    agent = build(None, {"head": {"kind": "scale", "init": [1.0, 0.0]}})
    sample = observations(1).repeat(3000, axis=0)
    with torch.no_grad():
        mean = abs(float(agent.q_net(torch.from_numpy(sample[:1]))[0, 0]))
    rule = EmpiricalBernstein(start=1, cap=1)
    quality = decision_quality(agent, sample, rule)
    wrong = (1 - mean) / 2
    assert quality.interval[0] - 0.02 < wrong < quality.interval[1] + 0.02
    assert quality.lost_mean == pytest.approx(quality.wrong_share * mean, rel=1e-5)
    assert quality.shots_mean == 1.0
    assert quality.decided_share == 0.0


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build({"rule": "publish"}), "adaptive_shots.rule: publish .* did you mean 'published'"),
        (lambda: build({"stpe": 3}), "adaptive_shots.stpe: .* did you mean 'step'"),
        (lambda: build({"start": 200, "cap": 100}), "adaptive_shots.start: 200 is above cap = 100"),
        (lambda: build({"updates": "gap"}), "adaptive_shots.updates: gap is no way of empirical_bernstein"),
        (lambda: build({"alpha": 1.0}), "adaptive_shots.alpha: 1.0"),
        (
            lambda: build({"rule": "published", "updates": "gap"}, {"shots": 10}),
            'network.shots: 10 are given beside updates = "gap"',
        ),
        (
            lambda: build({}, {"backend": "primitive"}),
            "backend: 'primitive' does not say what was read together",
        ),
        (
            lambda: qrl.build_agent({"algorithm": "dqn", "adaptive_shots": {}}, "CartPole-v1"),
            "adaptive_shots: a stop rule reads a circuit",
        ),
        (lambda: decision_quality(build(None), observations(2)), "rule: nothing is given"),
        (lambda: decision_quality(build({}), observations(0)), "observations: 0 are given"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        make()
    assert "\n" not in str(refused.value)
