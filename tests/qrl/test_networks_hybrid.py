"""Circuits between classical layers: the way back, sizes, start values, frozen and removed circuits."""

import itertools
import math

import pytest
import torch

import qrl
from qrl.errors import InputError
from qrl.networks import Chain, build_action_value, build_network, count_parameters, default_critic
from qrl.specs import QuantumNetwork, agent_spec

BASE = {"n_qubits": 3, "n_layers": 2, "n_features": 4, "observables": ["ZZI", "IXZ"]}
ENDS = {"nothing": None, "linear": {}, "layers": {"hidden": [5], "activation": "relu"}}
AER = {"backend": "aer"}
HEADS = {
    "none": None,
    "affine": {"init": 1.5, "shift": 0.3},
    "unit": {"kind": "unit", "init": [2.0, -1.0]},
    "fixed": {"kind": "scale", "init": 3.0, "trainable": False},
    "softmax": {"kind": "softmax", "init": [1.0, -2.0], "beta": 0.7},
    "born": {"kind": "born", "decoding": "parity"},
}


def network(**fields):
    return QuantumNetwork.model_validate({**BASE, **fields})


def combinations():
    for (before, encoder), (after, decoder) in itertools.product(ENDS.items(), ENDS.items()):
        for (name, head), frozen, circuit in itertools.product(HEADS.items(), (False, True), ("on", "off")):
            fields = {
                "encoder": encoder,
                "decoder": decoder,
                "head": head,
                "frozen": frozen,
                "circuit": circuit,
            }
            if name == "born" and (decoder is not None or circuit == "off"):
                continue  # refused
            learns = encoder is not None or decoder is not None or name in ("affine", "unit", "softmax")
            if frozen and (circuit == "off" or not learns):
                continue  # refused, or the same without
            if name == "born":
                fields["observables"] = None
            label = f"{before}-{after}-{name}" + "-frozen" * frozen + "-removed" * (circuit == "off")
            yield pytest.param(fields, id=label)


@pytest.mark.parametrize("fields", list(combinations()))
def test_pullback_is_autograd(fields):
    torch.manual_seed(1)
    for dtype, atol in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        built = build_network(network(**fields), 4, 2, policy=True).to(dtype)
        features, upstream = torch.randn(7, 4, dtype=dtype), torch.randn(7, 2, dtype=dtype) / 7
        expected = built(features)
        expected.backward(upstream)
        autograd = {name: p.grad for name, p in built.named_parameters()}
        built.zero_grad()
        with torch.no_grad():
            outputs, back = built.pullback(features)
            torch.testing.assert_close(built(features), outputs, rtol=0, atol=10 * atol)
            assert back(upstream) is None
        torch.testing.assert_close(outputs, expected.detach(), rtol=0, atol=10 * atol)
        for name, parameter in built.named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(parameter.grad, autograd[name], rtol=10 * atol, atol=atol)
            else:
                assert parameter.grad is None, name


def test_autograd_is_finite_differences_through_all_stages():
    torch.manual_seed(2)
    built = build_network(network(encoder={"hidden": [3]}, decoder={"hidden": [3]}, head={}), 5, 2).double()
    features = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(built, (features,), eps=1e-6, atol=1e-7)


def test_the_way_back_by_the_features_of_the_circuit():
    layer = build_network(network(), 4, 2).body.double()
    features, upstream = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    followed = features.clone().requires_grad_()
    layer(followed).backward(upstream)
    with torch.no_grad():
        _, back = layer.pullback(features, by_features=True)
        torch.testing.assert_close(back(upstream), followed.grad, rtol=0, atol=1e-12)


def sizes(built):
    """(inputs, outputs) of the classical stages by name."""
    return {
        name: (stage[0].in_features, stage[-1].out_features)
        for name, stage in built.body.named_children()
        if isinstance(stage, torch.nn.Sequential)
    }


def test_what_stands_where_and_how_large_it_is():
    both = network(encoder={"hidden": [7]}, decoder={})
    built = build_network(both, 6, 3)
    assert [name for name, _ in built.body.named_children()] == ["encoder", "circuit", "decoder"]
    assert sizes(built) == {"encoder": (6, 4), "decoder": (2, 3)}
    # with an encoder the circuit reads as many numbers as its family wants, unless told otherwise
    free = build_network(network(n_features=None, encoder={}), 6, 2)
    assert sizes(free) == {"encoder": (6, 3)}
    told = build_network(network(n_features=None, encoder={"size": 5}), 6, 2)
    assert (sizes(told), told.body.circuit.circuit.n_features) == ({"encoder": (6, 5)}, 5)
    # a decoder reads every qubit where nothing else is said
    assert sizes(build_network(network(observables=None, decoder={}), 4, 9)) == {"decoder": (3, 9)}


def test_published_hybrid_counts():
    # Meyer et al.: Linear(3, 14) and Linear(14, 3) around a circuit of 14 features: 101 classical values
    spec = QuantumNetwork(n_qubits=14, n_layers=1, encoder={}, decoder={})
    built = build_network(spec, 3, 3)
    assert count_parameters(built.body.encoder) + count_parameters(built.body.decoder) == 56 + 45


@pytest.mark.parametrize(
    ("ends", "found"),
    [
        ({}, {"": (4, 2)}),
        ({"encoder": {}}, {"": (6, 2)}),
        ({"decoder": {}}, {"": (4, 3)}),
        ({"encoder": {"hidden": [5]}, "decoder": {}}, {"encoder": (6, 4), "decoder": (4, 3)}),
    ],
    ids=["alone", "encoder", "decoder", "both"],
)
def test_without_the_circuit_its_neighbours_meet(ends, found):
    n_inputs, n_outputs = 6 if "encoder" in ends else 4, 3 if "decoder" in ends else 2
    built = build_network(network(circuit="off", **ends), n_inputs, n_outputs)
    assert not any(isinstance(module, qrl.QuantumLayer) for module in built.modules())
    if isinstance(built.body, Chain):
        assert sizes(built) == found
    else:
        assert {"": (built.body[0].in_features, built.body[-1].out_features)} == found
    assert built(torch.rand(2, n_inputs)).shape == (2, n_outputs)


def test_a_frozen_circuit_stays_where_it_started():
    spec = {
        "algorithm": "dqn", "learning_starts": 20, "learning_rate": 0.05,
        "network": {"kind": "quantum", "n_qubits": 2, "n_layers": 1, "encoder": {}, "head": {}, "frozen": True},
    }  # fmt: skip
    agent = qrl.build_agent(spec, "CartPole-v1", seed=0)
    before = {name: p.detach().clone() for name, p in agent.q_net.named_parameters()}
    with qrl.Ledger("frozen", 0, "hybrid", meters=()) as ledger:
        agent.learn(40)
        totals = ledger.totals()
    moved = {name for name, p in agent.q_net.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "encoder" in name or "head" in name}
    assert not any("circuit" in name for name in agent.trained_parameters())
    assert totals["hardware_executions"] > 0
    # learning rates in groups of their own
    rates = {**spec, "learning_rates": {"layers": 0.1, "head": 0.2}}
    agent = qrl.build_agent(rates, "CartPole-v1", seed=0)
    assert {n: p.lr_scale for n, p in agent.q_net.q_net.named_parameters()} == pytest.approx(
        {
            "body.encoder.0.weight": 2.0,
            "body.encoder.0.bias": 2.0,
            "body.circuit.weights": 1.0,
            "body.circuit.scales": 1.0,
            "head.scale": 4.0,
            "head.shift": 4.0,
        }
    )


def test_the_gradient_of_a_frozen_circuit_alone_costs_nothing():
    built = build_network(network(frozen=True, head={}), 4, 2)
    with qrl.Ledger("frozen", 0, "hybrid", meters=()) as ledger, torch.no_grad():
        built.pullback(torch.rand(5, 4))[1](torch.ones(5, 2))
        assert ledger.totals()["executions"] == 5
    assert built.head.scale.grad is not None


STARTS = {
    "interval": ([0.1, 0.2], lambda v: 0.1 <= v.min() < v.max() < 0.2),
    "normal": ({"normal": 0.01}, lambda v: 0.004 < v.std() < 0.02 and abs(v.mean()) < 0.01),
    "number": (0.25, lambda v: (v == 0.25).all()),
    "zero width": ({"normal": 0}, lambda v: (v == 0.0).all()),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("group", ["weights", "scales"])
def test_start_values(group, start):
    torch.manual_seed(0)
    given, holds = STARTS[start]
    layer = build_network(network(**{f"{group}_init": given}), 4, 2).body
    assert holds(getattr(layer, group).detach())
    other = layer.scales if group == "weights" else layer.weights
    assert (other == 1.0).all() if group == "weights" else float(other.detach().std()) > 0.5


def test_usual_start_values_are_those_of_the_layer():
    for fields in ({}, {"scales_init": 1.0}, {"weights_init": [-math.pi, math.pi]}):
        torch.manual_seed(3)
        built, after = build_network(network(**fields), 4, 2).body, torch.rand(1)
        torch.manual_seed(3)
        layer = qrl.QuantumLayer(built.circuit, ["ZZI", "IXZ"])
        assert torch.equal(built.weights, layer.weights)
        assert torch.equal(torch.rand(1), after)


def test_basis_states_are_told_apart():
    spec = QuantumNetwork(ansatz="basis", n_qubits=3, n_layers=1, embedding="basis", decoder={})
    built = build_network(spec, 6, 2)
    states = torch.eye(6)
    angles = built.body.embedding(states)
    assert angles.dtype == torch.float32
    assert (angles / math.pi).round().int().tolist() == [[i >> q & 1 for q in range(3)] for i in range(6)]
    torch.testing.assert_close(built(states), built.body.decoder(built.body.circuit(angles)))
    assert len(built(states).unique(dim=0)) == 6


def test_amplitudes_are_loaded():
    spec = QuantumNetwork(ansatz="amplitude", n_qubits=2, n_layers=1, embedding="amplitude", head={})
    built = build_network(spec, 3, 2).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    with torch.no_grad():
        built.body.circuit.weights.zero_()
        z = built.body(x)
    state = torch.nn.functional.normalize(torch.cat([x, torch.zeros(5, 1)], 1))
    p = state.square()
    # bit q of the index is qubit q; a ring of CZ changes no probability
    torch.testing.assert_close(z[:, 0], p[:, 0] - p[:, 1] + p[:, 2] - p[:, 3])
    torch.testing.assert_close(z[:, 1], p[:, 0] + p[:, 1] - p[:, 2] - p[:, 3])


@pytest.mark.parametrize("frozen", [False, True])
def test_no_gradient_passes_an_embedding(frozen):
    spec = QuantumNetwork(
        ansatz="amplitude", n_qubits=2, n_layers=1, embedding="amplitude", decoder={}, frozen=frozen
    )
    built = build_network(spec, 4, 2)
    observations = torch.randn(5, 4)
    expected = built(observations)
    expected.sum().backward()
    autograd = {name: p.grad for name, p in built.named_parameters()}
    built.zero_grad()
    with torch.no_grad():
        outputs, back = built.pullback(observations)
        back(torch.ones(5, 2))
    torch.testing.assert_close(outputs, expected.detach())
    for name, parameter in built.named_parameters():
        assert (parameter.grad is None) == (frozen and "circuit" in name)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, autograd[name])
    with pytest.raises(InputError, match=r"n_features: 2 .* observation of size 3"):
        build_network(
            network(n_qubits=2, n_features=2, observables=["ZI", "IZ"], embedding="amplitude"), 4, 2
        )


def test_an_agent_on_embedded_observations():
    network = {"kind": "quantum", "ansatz": "basis", "n_qubits": 4, "n_layers": 1, "embedding": "basis"}
    spec = {"algorithm": "dqn", "network": {**network, "head": {}}, "learning_starts": 10}
    agent = qrl.build_agent(spec, "FrozenLake-v1", seed=0)
    before = agent.parameters_sha256
    agent.learn(30)
    assert agent.parameters_sha256 != before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": {}, "embedding": "basis"}, "embedding: basis and an encoder both"),
        ({"decoder": {"size": 3}}, r"decoder\.size: 3 is the number of outputs"),
        ({"frozen": True, "head": None}, "frozen: true leaves nothing to train"),
        ({"frozen": True, "head": {"trainable": False}}, "frozen: true leaves nothing to train"),
        ({"head": {"kind": "born"}}, "observables: .* has no place before a born head"),
        ({"head": {"kind": "born"}, "observables": None, "decoder": {}}, "decoder: .* has no place"),
        (
            {"head": {"kind": "born"}, "observables": None, "circuit": "off"},
            "circuit: off leaves a born head",
        ),
        (
            {"head": {"kind": "affine", "beta": 2.0}},
            r"head\.beta: 2.0 belongs to heads of kind softmax, not affine",
        ),
        (
            {"head": {"kind": "softmax", "decoding": "local"}},
            r"head\.decoding: local belongs to heads of kind born",
        ),
        (
            {"head": {"kind": "born", "init": 2.0}, "observables": None},
            r"head\.init: 2.0 belongs to heads of kind affine or scale",
        ),
        ({"embedding": "angle"}, "embedding: angle is not known"),
        ({"weights_init": {"normal": -1.0}}, "weights_init: .* is no start value; write a number"),
        ({"weights_init": [1.0, 1.0]}, "weights_init: .* is no interval"),
        ({"scales_init": [2.0, 1.0]}, "scales_init: .* is no interval"),
        ({"scales_init": "one"}, "scales_init: one is no start value"),
        ({"circuit": "of"}, "circuit: of is not known"),
        ({"noise": {}}, "backend: auto has no noise by numbers; write backend = .aer., or leave noise out"),
        ({"noise": {}, "backend": "aer:fake_torino"}, "backend: aer:fake_torino has noise of its own; leave"),
        ({**AER, "noise": {"depolarising": 0.1}}, "noise.depolarising: .* did you mean 'depolarizing'"),
        (
            {**AER, "noise": {"depolarizing": [0.1]}},
            r"noise.depolarizing: \[0.1\] is no probability; write a n",
        ),
        ({**AER, "noise": {"depolarizing": True}}, "noise.depolarizing: true is a boolean"),
        ({**AER, "noise": {"readout": 1.5}}, "noise.readout: 1.5 cannot be used"),
        ({**AER, "noise": {"coherent": -1}}, "noise.coherent: -1 cannot be used"),
    ],
)
def test_what_does_not_fit_together(fields, message):
    data = {"kind": "quantum", **BASE, **fields}
    with pytest.raises(InputError, match=f"^network.{message}") as refused:
        agent_spec({"algorithm": "ppo", "network": data})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": {"size": 3}}, r"encoder\.size: 3 does not fit a circuit of 4 features"),
        ({"head": {"kind": "softmax"}}, r"head\.kind: softmax is for policies"),
        ({"head": {"kind": "born"}, "observables": None}, r"head\.kind: born is for policies"),
        ({"observables": ["ZZI"]}, "observables"),
    ],
)
def test_what_cannot_be_built(fields, message):
    with pytest.raises(InputError, match=message):
        build_network(network(**fields), 4, 2)


def test_groups_that_a_circuit_has_not(monkeypatch):
    from circuits.ansatz import ANSATZ
    from circuits.circuit import Angle, Circuit, Gate, Term

    def unscaled(n_qubits, n_layers, n_features=None):
        gates = tuple(Gate("RX", (q,), Angle(0.0, (Term(1.0, None, (q,)),))) for q in range(n_qubits))
        return Circuit(
            n_qubits,
            (*gates, Gate("RY", (0,), Angle(0.0, (Term(parameter=0),)))),
            n_qubits,
            (("weights", 1),),
        )

    monkeypatch.setitem(ANSATZ, "unscaled", unscaled)
    with pytest.raises(InputError, match=r"scales_init: 2.0 but the circuit has no scales"):
        build_network(QuantumNetwork(ansatz="unscaled", n_qubits=2, scales_init=2.0), 2, 2)
    build_network(QuantumNetwork(ansatz="unscaled", n_qubits=2), 2, 2)


def test_critics_of_hybrid_policies():
    spec = network(
        encoder={}, decoder={"hidden": [5]}, head={"kind": "softmax", "init": [-2.0, 1.0], "beta": 3.0}
    )
    critic = default_critic(spec)
    assert critic.observables == spec.observables
    assert (critic.head.kind, critic.head.init, critic.head.beta) == ("scale", 2.0, 1.0)
    assert build_network(critic, 6, 1)(torch.rand(2, 6)).shape == (2, 1)
    born = default_critic(network(observables=None, head={"kind": "born"}))
    assert (born.head.kind, born.observables) == ("affine", ["ZII"])
    assert QuantumNetwork.model_validate(critic.model_dump()) == critic
    assert default_critic(network(head={"kind": "scale", "trainable": False})).head.trainable


def test_action_values_of_hybrids():
    torch.manual_seed(0)
    spec = network(encoder={"hidden": [6]}, head={}, observables=["ZZI"])
    value = build_action_value(spec, 3, 2)
    state, action = torch.rand(4, 3), torch.rand(4, 2, requires_grad=True)
    values = value(state, action)
    assert values.shape == (4, 1)
    (slope,) = torch.autograd.grad(values.sum(), action)
    step = 1e-3
    with torch.no_grad():
        changed = value(state, action + torch.tensor([step, 0.0])) - value(
            state, action - torch.tensor([step, 0.0])
        )
    torch.testing.assert_close(slope[:, :1], changed / (2 * step), rtol=1e-2, atol=2e-4)
    with pytest.raises(InputError, match="no gradient by the action"):
        build_action_value(network(embedding="amplitude", observables=["ZZI"]), 3, 2)


def test_options_of_a_gradient_rule_reach_the_circuit():
    spec = QuantumNetwork(
        n_qubits=2, n_layers=1, gradient="parameter_shift", gradient_options={"subset": 1}, head={}
    )
    network = build_network(spec, 2, 2)
    with qrl.Ledger("options", 0, "network", meters=()) as ledger:
        network(torch.rand(3, 2)).sum().backward()
        assert ledger.totals()["executions"] == 3 + 2 * 3
    with pytest.raises(ValueError, match="did you mean 'subset'"):
        build_network(spec.model_copy(update={"gradient_options": {"subsets": 1}}), 2, 2)


NOISE = {"depolarizing": [0.001, 0.01], "bit_flip": 0.01, "amplitude_damping": 0.0003, "readout": 0.02}


def test_noise_reaches_the_circuit():
    from circuits.backends.aer import AerBackend

    given = network(**AER, noise={**NOISE, "coherent": 0.1})
    torch.manual_seed(1)
    noisy = build_network(given, 4, 2).double()
    features = torch.rand((3, 4), dtype=torch.float64)
    layer = next(module for module in noisy.modules() if isinstance(module, qrl.QuantumLayer))
    ideal = qrl.QuantumLayer(
        layer.circuit, layer.observables, backend=AerBackend(noise=NOISE | {"coherent": 0.1})
    )
    ideal.double().load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(features), ideal(features), atol=0, rtol=0)
    without = qrl.QuantumLayer(layer.circuit, layer.observables).double()
    without.load_state_dict(layer.state_dict())
    assert 0.01 < (layer(features) - without(features)).abs().max() < 0.5
    noisy(features).sum().backward()
    assert layer.weights.grad.abs().max() > 0.01


def test_an_agent_learns_on_noise():
    agent = qrl.build_agent(
        {
            "algorithm": "dqn",
            "learning_starts": 4,
            "batch_size": 2,
            "network": {
                "kind": "quantum",
                "n_layers": 1,
                "observables": ["ZZII", "IIZZ"],
                **AER,
                "noise": NOISE,
            },
        },
        "CartPole-v1",
        seed=1,
    )
    start = agent.trained_parameters()
    start = {name: value.detach().clone() for name, value in start.items()}
    agent.learn(8)
    assert any((value != start[name]).any() for name, value in agent.trained_parameters().items())
