"""Further algorithms of Stable-Baselines3 and sb3-contrib: with perceptrons of their own widths, their own bits."""

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.logger import Logger

import qrl
from qrl.agents.build import build_agent, seed_everything
from qrl.agents.optim import GroupedAdam
from qrl.agents.training_env import TrainingEnv, make_environment
from qrl.networks import count_parameters

MLP = {"kind": "mlp", "hidden": [8, 6]}
CIRCUIT = {"kind": "quantum", "n_qubits": 2, "n_layers": 1, "observables": ["ZI", "IZ"], "head": {}}


def environment(env_id, n_envs):
    return TrainingEnv(
        lambda: make_environment(env_id, {"max_episode_steps": 30}, None), list(range(1, n_envs + 1))
    )


def learnt(agent, steps):
    """The agent after training, and the actions it took."""
    seed_everything(3)
    agent.action_space.seed(0)
    agent.set_logger(Logger(None, []))
    taken = []
    agent.learn(steps, callback=lambda now, _: taken.append(now["actions"].copy()) or True, log_interval=None)
    return agent, np.array(taken)


def assert_same_bits(ours, theirs, steps):
    """Their parameters are made ours first; both list them network by network, of the same shapes."""
    pairs = list(zip(in_order(ours.policy), in_order(theirs.policy), strict=True))
    with torch.no_grad():
        for a, b in pairs:
            assert a.shape == b.shape
            b.copy_(a)
    start = [a.detach().clone() for a, _ in pairs]
    (ours, our_actions), (theirs, their_actions) = learnt(ours, steps), learnt(theirs, steps)
    np.testing.assert_array_equal(our_actions, their_actions)
    assert ours.policy.optimizer.updates == theirs.policy.optimizer.updates > 15
    for before, (a, b) in zip(start, pairs, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, before)


def in_order(policy):
    """Actor, critic, memory and deviations; the last layers of a stock policy stand apart from its networks."""
    if not hasattr(policy, "mlp_extractor"):
        return [*policy.parameters()]
    extractor = policy.mlp_extractor
    if hasattr(extractor, "policy_net"):
        networks = [extractor.policy_net, policy.action_net, extractor.value_net, policy.value_net]
    else:
        networks = [extractor.actor, extractor.critic]
    networks += [getattr(policy, name) for name in ("lstm_actor", "lstm_critic") if hasattr(policy, name)]
    found = [p for network in networks for p in network.parameters()]
    return [*found, policy.log_std] if hasattr(policy, "log_std") else found


ADAM = {"optimizer_class": GroupedAdam, "optimizer_kwargs": {"eps": 1e-5}}
WIDE = 1e6  # a bound that is never met: the order in which a norm is summed differs between the policies


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a2c_is_stable_baselines3s(env_id):
    spec = {"algorithm": "a2c", "network": MLP, "n_envs": 2, "learning_rate": 0.003, "ent_coef": 0.01}
    ours = build_agent(spec, environment(env_id, 2), seed=0)
    ours.max_grad_norm = WIDE
    theirs = stable_baselines3.A2C(
        "MlpPolicy", environment(env_id, 2), learning_rate=0.003, ent_coef=0.01, max_grad_norm=WIDE, n_steps=5,
        policy_kwargs={"net_arch": [8, 6], **ADAM}, device="cpu",
    )  # fmt: skip
    assert_same_bits(ours, theirs, 300)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_recurrent_ppo_is_sb3_contribs(env_id):
    spec = {"algorithm": "recurrent_ppo", "network": MLP, "n_envs": 2, "n_steps": 40, "batch_size": 20}
    spec |= {"lstm_size": 5, "learning_rate": 0.003}
    ours = build_agent(spec, environment(env_id, 2), seed=0)
    ours.max_grad_norm = WIDE
    theirs = sb3_contrib.RecurrentPPO(
        "MlpLstmPolicy", environment(env_id, 2), n_steps=40, batch_size=20, n_epochs=4, learning_rate=0.003,
        ent_coef=0.01, max_grad_norm=WIDE, policy_kwargs={"net_arch": [8, 6], "lstm_hidden_size": 5, **ADAM},
        device="cpu",
    )  # fmt: skip
    assert_same_bits(ours, theirs, 160)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1"])
def test_qr_dqn_is_sb3_contribs(env_id):
    spec = {"algorithm": "qr_dqn", "network": MLP, "n_quantiles": 7, "learning_starts": 30, "batch_size": 16}
    ours = build_agent({**spec, "max_grad_norm": 0.5}, environment(env_id, 1), seed=0)
    theirs = sb3_contrib.QRDQN(
        "MlpPolicy", environment(env_id, 1), learning_rate=0.001, buffer_size=10_000, learning_starts=30,
        batch_size=16, train_freq=1, target_update_interval=100, exploration_fraction=0.3,
        exploration_final_eps=0.05, max_grad_norm=0.5, device="cpu",
        policy_kwargs={
            "n_quantiles": 7, "net_arch": [8, 6], "optimizer_class": GroupedAdam,
            "optimizer_kwargs": {"eps": 1e-8},
        },
    )  # fmt: skip
    pairs = zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True)
    online = len(list(ours.quantile_net.parameters()))
    with torch.no_grad():
        for a, b in pairs:
            b.copy_(a)
    (ours, our_actions), (theirs, their_actions) = learnt(ours, 250), learnt(theirs, 250)
    np.testing.assert_array_equal(our_actions, their_actions)
    assert ours.updates == theirs.policy.optimizer.updates > 200
    assert online == 6
    for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_quantiles_regress_to_the_quantiles_of_the_target():
    # one state, one action, returns 0 or 1 at even odds: the lower quantiles end at 0, the upper ones at 1
    from sb3_contrib.common.utils import quantile_huber_loss

    spec = {"algorithm": "qr_dqn", "network": {"kind": "mlp", "hidden": [4]}, "n_quantiles": 4}
    agent = build_agent(spec, environment("CartPole-v1", 1), seed=0)
    assert agent.quantile_net(torch.zeros(3, 4)).shape == (3, 4, 2)
    optimizer = torch.optim.Adam(agent.quantile_net.parameters(), lr=0.02)
    target = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    for _ in range(300):
        loss = quantile_huber_loss(agent.quantile_net(torch.zeros(1, 4))[:, :, 0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = agent.quantile_net(torch.zeros(1, 4))[0, :, 0].detach()
    assert found[0] < 0.2 < 0.8 < found[3]


@pytest.mark.parametrize("algorithm", ["a2c", "recurrent_ppo", "qr_dqn"])
@pytest.mark.parametrize("parts", ["actor", "critic", "both"])
def test_circuits_as_actor_critic_or_both(algorithm, parts):
    if algorithm == "qr_dqn" and parts != "both":
        pytest.skip("it has one network")
    circuit = {**CIRCUIT, "n_features": 3 if algorithm == "recurrent_ppo" else 4}
    spec = {"algorithm": algorithm, "network": circuit if parts != "critic" else MLP}
    if algorithm != "qr_dqn":
        spec |= {"n_envs": 2, "n_steps": 16}
        spec["critic"] = {**circuit, "observables": ["ZZ"]} if parts != "actor" else MLP
    if algorithm == "recurrent_ppo":
        spec |= {"lstm_size": 3, "batch_size": 16}
    spec |= {"learning_rate": 0.01, "learning_rates": {"scales": 0.05, "layers": 0.02, "head": 0.1}}
    agent = build_agent(spec, "CartPole-v1", seed=1)
    before = {name: p.detach().clone() for name, p in agent.trained_parameters().items()}
    with qrl.Ledger("count", 0, "hybrid", meters=()) as ledger:
        agent.learn(160)
        totals = ledger.totals()
    assert totals["executions"] > 0
    for name, p in agent.trained_parameters().items():
        assert not torch.equal(before[name], p), name
        ratio = next((r for part, r in RATIOS.items() if part in name), 1.0)
        assert p.lr_scale == pytest.approx(ratio), name


RATIOS = {"scales": 5.0, "lstm": 2.0, "decoder": 2.0, "head": 10.0}


def twins(algorithm, **options):
    """A hybrid and its twin."""
    circuit = {"kind": "quantum", "n_qubits": 3, "n_layers": 4, "observables": ["ZII", "IZI"]}
    peer = {"name": "q", "algorithm": algorithm, "network": {**circuit, **options.pop("network")}, **options}
    twin = {**peer, "name": "t", "network": {"kind": "matched_mlp", "match": "q"}}
    peers = {"q": qrl.specs.agent_spec(peer)}
    return build_agent(peer, "CartPole-v1"), build_agent(twin, "CartPole-v1", peers=peers)


def test_twins_match_what_stands_behind_the_lstm():
    hybrid, twin = twins("recurrent_ppo", network={"n_features": 3, "head": {}}, lstm_size=3)
    n_hybrid = count_parameters(hybrid.policy.mlp_extractor.actor)
    assert twin.spec.network.n_parameters == n_hybrid == 4 * 3 * 2 + 4 * 3 + 4  # weights, scales, head
    assert abs(count_parameters(twin.policy.mlp_extractor.actor) - n_hybrid) <= 0.1 * n_hybrid


def test_twins_match_a_circuit_and_its_quantiles():
    hybrid, twin = twins("qr_dqn", network={"n_features": 4}, n_quantiles=5)
    n_hybrid = count_parameters(hybrid.quantile_net)
    assert twin.spec.network.n_parameters == n_hybrid == 4 * 3 * 2 + 4 * 3 + (2 + 1) * 2 * 5
    assert abs(count_parameters(twin.quantile_net) - n_hybrid) <= 0.1 * n_hybrid


def test_memory_is_carried_within_an_episode_and_cleared_between():
    spec = {"algorithm": "recurrent_ppo", "network": MLP, "n_envs": 1, "n_steps": 16, "batch_size": 16}
    agent = build_agent({**spec, "lstm_size": 4}, environment("Pendulum-v1", 1), seed=0)
    agent.learn(64)
    one, two = (np.full((1, 3), value, np.float32) for value in (0.5, -0.5))
    fresh, memory = agent.predict(one, deterministic=True)
    later, _ = agent.predict(one, state=memory, deterministic=True)
    cleared, _ = agent.predict(one, state=memory, episode_start=np.array([True]), deterministic=True)
    assert not np.array_equal(fresh, later)
    np.testing.assert_array_equal(fresh, cleared)
    other, _ = agent.predict(one, state=agent.predict(two, deterministic=True)[1], deterministic=True)
    assert not np.array_equal(later, other)
    state = agent.state()
    assert any(tensor.any() for pair in state["memory"] for tensor in pair)
    agent._last_lstm_states = RNNStates(*([torch.zeros(1, 1, 4)] * 2 for _ in range(2)))
    agent.set_state(state)
    for kept, pair in zip(state["memory"], agent._last_lstm_states, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(kept, pair, strict=True))


def test_evaluation_carries_memory():
    from qrl.study.evaluation import Evaluator

    spec = {"algorithm": "recurrent_ppo", "network": MLP, "n_envs": 1, "n_steps": 16, "batch_size": 16}
    agent = build_agent({**spec, "lstm_size": 4}, environment("Pendulum-v1", 1), seed=0)
    evaluator = Evaluator("Pendulum-v1", {"max_episode_steps": 5}, None, 3, seed=0)
    asked = []
    inner = agent.policy.predict
    agent.policy.predict = lambda observation, state=None, *rest: (
        asked.append(state) or inner(observation, state, *rest)
    )
    evaluator(agent)
    evaluator.close()
    assert asked[0] is None
    assert len(asked) == 5
    assert all(hidden.shape == (1, 3, 4) and hidden.any() for hidden, _ in asked[1:])


def test_double_q_learning_values_the_online_networks_choice():
    spec = {"algorithm": "dqn", "network": {**CIRCUIT, "n_features": 4}, "learning_starts": 1000}
    agents = [
        build_agent({**spec, "double": double}, environment("CartPole-v1", 1), seed=0)
        for double in (False, True)
    ]
    observations = torch.rand(64, 4, generator=torch.Generator().manual_seed(1))
    for agent in agents:
        with torch.no_grad():
            for p in agent.q_net.parameters():
                p.add_(0.8)
            online, target = agent.q_net(observations), agent.q_net_target(observations)
            found = agent._best_values(observations)
        expected = target[range(64), online.argmax(1)] if agent.double else target.amax(1)
        assert torch.equal(found[:, 0], expected)
        assert not torch.equal(target[range(64), online.argmax(1)], target.amax(1))
