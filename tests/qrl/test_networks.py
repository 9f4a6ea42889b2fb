"""Networks: published parameter counts, twins within 10 %, heads, learning-rate groups."""

import pytest
import torch

import qrl
from qrl.errors import InputError
from qrl.networks import (
    JoinedNetwork,
    Network,
    ScaleHead,
    build_action_value,
    build_circuit,
    build_network,
    count_parameters,
    default_critic,
    resolve_agent,
)
from qrl.specs import NETWORKS, Head, QuantumNetwork, agent_spec

R5 = QuantumNetwork(n_qubits=4, n_layers=5, observables=["ZIII", "IZII"], head=Head(kind="scale"))
R1 = QuantumNetwork(
    n_qubits=4,
    n_layers=5,
    observables=["ZZII", "IIZZ"],
    head=Head(kind="unit"),
    ansatz_options={"squash": "tanh"},
    weights_init=(0.0, 3.141592653589793),
)
R3 = QuantumNetwork(
    n_qubits=4,
    n_layers=5,
    observables=["ZZZZ"],
    head=Head(kind="scale", init=[1.0, -1.0]),
    ansatz_options={"rotations": ["RX", "RY", "RZ"], "order": "variational-first", "final_layer": True},
)


@pytest.mark.parametrize(
    ("spec", "count"),
    [(R1, 62), (R3, 94), (R5, 62), (default_critic(R5), 61)],
    ids=["R1", "R3", "R5", "R5-critic"],
)
def test_published_parameter_counts(spec, count):
    outputs = 1 if count == 61 else 2
    network = build_network(spec, 4, outputs)
    assert count_parameters(network) == count
    assert network(torch.rand(3, 4)).shape == (3, outputs)


def test_weights_start_in_the_given_interval():
    network = build_network(R1, 4, 2)
    weights = network.body.weights.detach()
    assert 0.0 <= float(weights.min()) <= float(weights.max()) <= 3.1416
    assert torch.all(network.body.scales == 1.0)


def test_heads():
    values = torch.tensor([[0.5, -0.5]])
    torch.testing.assert_close(ScaleHead(Head(init=2.0, shift=1.0), 2)(values), torch.tensor([[2.0, 0.0]]))
    torch.testing.assert_close(
        ScaleHead(Head(kind="scale", init=[2.0, 4.0]), 2)(values), torch.tensor([[1.0, -2.0]])
    )
    torch.testing.assert_close(ScaleHead(Head(kind="unit", init=2.0), 2)(values), torch.tensor([[1.5, 0.5]]))
    torch.testing.assert_close(
        ScaleHead(Head(kind="scale", init=[1.0, -1.0]), 2)(values[:, :1]), torch.tensor([[0.5, -0.5]])
    )
    with pytest.raises(InputError, match="3 numbers"):
        ScaleHead(Head(init=[1.0, 2.0, 3.0]), 2)


@pytest.mark.parametrize(("n_inputs", "n_outputs", "spec"), [(4, 2, R5), (4, 2, R1), (4, 2, R3)])
def test_a_twin_is_within_ten_per_cent_in_everything_trainable(n_inputs, n_outputs, spec):
    hybrid = agent_spec(
        {"name": "hybrid", "algorithm": "ppo", "network": spec.model_dump(), "learning_rates": {"head": 0.1}}
    )
    twin = agent_spec(
        {"name": "twin", "algorithm": "ppo", "network": {"kind": "matched_mlp", "match": "hybrid"}}
    )
    twin = resolve_agent(twin, {"hybrid": hybrid, "twin": twin}, n_inputs, n_outputs)
    hybrid = resolve_agent(hybrid, {}, n_inputs, n_outputs)
    assert twin.network.head == hybrid.network.head
    assert twin.learning_rates.head == 0.1
    for ours, theirs, outputs in ((hybrid.network, twin.network, n_outputs), (hybrid.critic, twin.critic, 1)):
        a, b = (count_parameters(build_network(s, n_inputs, outputs)) for s in (ours, theirs))
        assert abs(a - b) <= 0.1 * a


def test_learning_rates_go_to_their_groups():
    spec = {
        "algorithm": "dqn",
        "learning_rate": 0.01,
        "learning_rates": {"scales": 0.02, "head": 0.1},
        "network": R5.model_dump(),
    }
    agent = qrl.build_agent(spec, "CartPole-v1")
    found = {name: p.lr_scale for name, p in agent.q_net.q_net.named_parameters()}
    assert found == pytest.approx({"body.weights": 1.0, "body.scales": 2.0, "head.scale": 10.0})
    groups = {group["lr_scale"] for group in agent.policy.optimizer.param_groups}
    assert groups == {1.0, 2.0, 10.0}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"n_qubits": 0}, "n_qubits"),
        ({"observables": ["ZZ", "IIZZ"]}, "ZZ"),
        ({"observables": ["ZIII"], "head": None}, "network.observables"),
        ({"n_features": 3}, "network.n_features"),
        ({"ansatz": "reuploadin"}, "network.ansatz"),
        ({"ansatz_options": {"squish": 1}}, "network.ansatz_options"),
        ({"backend": "troch"}, "torch"),
    ],
)
def test_networks_that_cannot_be(change, field):
    spec = R5.model_copy(update=change)
    with pytest.raises((ValueError, TypeError), match=field) as refused:
        build_network(spec, 4, 2)
    assert "\n" not in str(refused.value)


def test_build_circuit_reads_the_observation_size():
    assert build_circuit(R5, 4).n_features == 4
    assert build_circuit(R5.model_copy(update={"n_features": 1})).n_features == 1


def test_acrobot_on_four_qubits_and_a_single_qubit_build():
    # Peers assert that there are at least as many qubits as observation components and actions.
    acrobot = QuantumNetwork(
        n_qubits=4, n_layers=5, n_features=6, observables=["ZIII", "IZZI", "IIIZ"], head=Head(kind="scale")
    )
    assert build_network(acrobot, 6, 3)(torch.rand(2, 6)).shape == (2, 3)
    single = QuantumNetwork(
        n_qubits=1, n_layers=5, n_features=4, observables=["Z", "X"], head=Head(kind="unit")
    )
    assert build_network(single, 4, 2)(torch.rand(2, 4)).shape == (2, 2)


def gradients(network):
    return {name: p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize("kind", [None, "scale", "affine", "unit"])
@pytest.mark.parametrize("body", ["tanh", "relu", "linear", "circuit", "shared circuit"])
def test_pullback_is_autograd_to_the_last_bit(kind, body):
    n_outputs = 1 if body == "shared circuit" and kind is None else 3
    head = None if kind is None else {"kind": kind, "init": 1.5}
    if "circuit" in body:
        words = ["ZZ"] if body == "shared circuit" else ["ZI", "IZ", "ZZ"]
        network = {"kind": "quantum", "n_qubits": 2, "n_layers": 2, "observables": words, "head": head}
    else:
        activation = {} if body == "linear" else {"activation": body}
        network = {"kind": "mlp", "hidden": [] if body == "linear" else [7, 5], "head": head, **activation}
    built = build_network(agent_spec({"algorithm": "ppo", "network": network}).network, 4, n_outputs)
    torch.manual_seed(0)
    features, upstream = torch.randn(9, 4), torch.randn(9, n_outputs)
    perceptron, built._perceptron = built._perceptron, None
    assert (perceptron is None) == ("circuit" in body)
    expected = built(features)
    expected.backward(upstream)
    autograd = gradients(built)
    built.zero_grad()
    built._perceptron = perceptron
    with torch.no_grad():
        outputs, back = built.pullback(features)
        again = built(features)
        back(upstream)
    assert torch.equal(outputs, expected)
    assert torch.equal(again, expected)
    for name, gradient in gradients(built).items():
        assert torch.equal(gradient, autograd[name]), name
    with torch.no_grad():
        built.pullback(features)[1](upstream)
    for name, gradient in gradients(built).items():
        assert torch.equal(gradient, 2 * autograd[name]), name


def test_pullback_leaves_frozen_parameters_alone():
    network = Network(
        torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)), None
    )
    network.body[0].weight.requires_grad_(False)
    with torch.no_grad():
        network.pullback(torch.ones(4, 2))[1](torch.ones(4, 1))
    assert network.body[0].weight.grad is None
    assert network.body[0].bias.grad is not None


def test_other_bodies_are_no_perceptrons():
    nn = torch.nn
    for body in (
        nn.Linear(2, 2),
        nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(2, 3, bias=False), nn.Tanh(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(2, 3), nn.Tanh()),
    ):
        assert Network(body, None)._perceptron is None


ACTION_VALUES = {
    # trained values with two state and three action components
    "boltzmann": ({"graph": {"kind": "complete", "n": 4}, "field": 0.3, "sampler": "exact"}, 5 * 4 + 6),
    "quantum": ({"n_qubits": 2, "n_layers": 2, "observables": ["ZZ"], "head": {}}, None),
    "mlp": ({"hidden": [7]}, 6 * 7 + 8),
    "matched_mlp": ({"n_parameters": 50}, 50),
    # cosines and sines of the 25 k with |k|_1 <= 2 up to sign, without zero, and a constant
    "fourier": ({"degree": 2}, 1 + 2 * 30),
    "random_fourier": ({"n_features": 6}, 1 + 2 * 6),
    "symmetric_mlp": ({"hidden": [7]}, 6 * 7 + 8),
    "concave": ({"hidden": [7]}, 6 * 7 + 6 + 7),
    "lncosh": ({"n_units": 6}, 6 * 5),
    "bilinear": ({}, 2 * 3 + 1),
}


# kinds that read the observation alone; tests/qrl/test_networks_classical.py has their rows
OF_STATES = {"tabular", "equivariant_mlp"}


def test_every_kind_of_network_has_a_row():
    assert set(ACTION_VALUES) | OF_STATES == set(NETWORKS)


@pytest.mark.parametrize("kind", ACTION_VALUES)
def test_action_values_of_every_kind(kind):
    options, count = ACTION_VALUES[kind]
    spec = agent_spec({"algorithm": "ddpg", "critic": {"kind": kind, **options}}).critic
    network = build_action_value(spec, 2, 3)
    state, action = torch.rand(5, 2), torch.rand(5, 3, requires_grad=True)
    values = network(state, action)
    assert values.shape == (5, 1)
    assert count is None or count_parameters(network) == pytest.approx(
        count, abs=0 if kind != "matched_mlp" else 5
    )
    values.sum().backward()
    assert action.grad.shape == (5, 3)
    assert all(p.grad is not None for p in network.parameters())
    if kind in ("boltzmann", "symmetric_mlp", "lncosh", "bilinear"):  # even in state and action together
        torch.testing.assert_close(network(-state, -action), values)
    if isinstance(network, JoinedNetwork):
        torch.testing.assert_close(network.network(torch.cat([state, action], 1)), values)


def test_settings_reach_the_machine():
    options = {"field": 0.2, "beta": 1.5, "sign": "negative", "offset": 3.0, "init_scale": 0.0, "bias": True}
    options |= {"quadratic": True, "trainable_offset": True, "sampler": "exact"}
    graph = {"kind": "custom", "n": 3, "edges": [[0, 1], [1, 2]]}
    spec = agent_spec(
        {"algorithm": "free_energy_q", "network": {"kind": "boltzmann", "graph": graph, **options}}
    )
    machine = build_action_value(spec.network, 2, 1)
    assert (machine.field, machine.beta, machine.sign) == (0.2, 1.5, "negative")
    assert (machine.bias, machine.quadratic, machine.sampler.name) == (True, True, "exact")
    assert isinstance(machine.offset, torch.nn.Parameter)
    assert machine.offset.item() == 3.0
    assert machine.graph.n_edges == 2
    assert not machine.weights.any()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"graph": {"rows": 1}}, "network.graph"),
        ({"graph": {"kind": "chimra"}}, "chimera"),
        ({"graph": {"kind": "complete", "m": 3}}, "'m'"),
        ({"sampler": "exactt"}, "exact"),
        ({"sampler": "exact", "sampler_options": {"reads": 3}}, "reads"),
        ({"graph": {"kind": "complete", "n": 14}, "sampler": "exact"}, "14 hidden"),
    ],
)
def test_machines_that_cannot_be(change, named):
    spec = agent_spec({"algorithm": "free_energy_q", "network": {"kind": "boltzmann", **change}}).network
    with pytest.raises((ValueError, TypeError), match=named) as refused:
        build_action_value(spec, 1, 1)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("algorithm", "outputs"), [("ppo", 3), ("ddpg", 3), ("sac", 6), ("naf", 10), ("qr_dqn", 75)]
)
def test_outputs_of_policies(algorithm, outputs):
    assert agent_spec({"algorithm": algorithm}).network_outputs(3) == outputs


PEERS = {
    "machine": {"algorithm": "ddpg", "critic": {"kind": "boltzmann", "graph": {"kind": "complete", "n": 5}}},
    "steering": {"algorithm": "free_energy_q", "network": {"kind": "boltzmann"}},
    "naf": {"algorithm": "naf", "network": {"kind": "mlp", "hidden": [9]}},
    "ppo": {"algorithm": "ppo", "network": {"kind": "mlp", "hidden": [9]}},
}


@pytest.mark.parametrize(
    ("ours", "match", "field", "count"),
    [
        ({"algorithm": "td3"}, "machine", "critic", 4 * 5 + 2 * 5 + 10),
        ({"algorithm": "ppo"}, "machine", "critic", 4 * 5 + 2 * 5 + 10),
        ({"algorithm": "dqn"}, "steering", "network", 4 * 8 + 8 + 36),
        ({"algorithm": "ppo"}, "steering", "critic", 4 * 8 + 8 + 36),
        ({"algorithm": "free_energy_q"}, "ppo", "network", 5 * 9 + 2 * 10),
        ({"algorithm": "td3"}, "naf", "network", 5 * 9 + 6 * 10),
        ({"algorithm": "sac"}, "ppo", "critic", 5 * 9 + 10),
    ],
)
def test_what_is_matched_to_what(ours, match, field, count):
    # four observations and two actions
    peers = {name: agent_spec({"name": name, **data}) for name, data in PEERS.items()}
    agent = agent_spec({"name": "twin", **ours, field: {"kind": "matched_mlp", "match": match}})
    assert getattr(resolve_agent(agent, peers, 4, 2), field).n_parameters == count


def test_there_is_nothing_to_match_in_an_agent_without_network():
    agent = agent_spec(
        {"name": "twin", "algorithm": "dqn", "network": {"kind": "matched_mlp", "match": "floor"}}
    )
    peers = {"floor": agent_spec({"name": "floor", "algorithm": "random"})}
    with pytest.raises(InputError, match="floor has no network"):
        resolve_agent(agent, peers, 4, 2)
