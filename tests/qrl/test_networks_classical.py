"""Classical networks made from a circuit's specification: what they take over, how large they are, their symmetry."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from circuits.analysis import spectrum

import qrl
from circuits.ansatz import ANSATZ
from qrl.errors import InputError
from qrl.networks import (
    VARIANTS,
    build_action_value,
    build_circuit,
    build_network,
    count_parameters,
    default_critic,
    resolve_agent,
)
from qrl.networks.symmetry import group
from qrl.specs import QuantumNetwork, Symmetry, agent_spec

QUANTUM = {
    "kind": "quantum", "n_qubits": 2, "n_layers": 3, "n_features": 2, "observables": ["ZI", "IZ"],
    "head": {"init": 2.0},
}  # fmt: skip
MIRROR = [{"signs": [-1, -1, -1, -1], "outputs": [1, 0]}]


def spec(network, algorithm="ppo", name="twin", **fields):
    return agent_spec({"name": name, "algorithm": algorithm, "network": network, **fields})


def resolved(network, hybrid=QUANTUM, n_inputs=2, n_outputs=2, **fields):
    peer = spec(hybrid, name="hybrid", learning_rates={"head": 0.1})
    return resolve_agent(spec(network, **fields), {"hybrid": peer}, n_inputs, n_outputs)


def test_a_fourier_series_stands_on_the_spectrum_of_the_circuit():
    twin = resolved({"kind": "fourier", "match": "hybrid"})
    circuit = build_circuit(QuantumNetwork.model_validate(QUANTUM))
    found = spectrum(circuit)
    assert found.max() == 3.0
    network = build_network(twin.network, 2, 2)
    assert len(network.body.frequencies) == len(found) - 1
    assert {tuple(k) for k in network.body.frequencies.tolist()} == {tuple(k) for k in found[1:].tolist()}
    assert twin.network.head == twin.network.matched.head
    assert twin.learning_rates.head == 0.1
    # and its coefficients can be those of the circuit
    layer = build_network(QuantumNetwork.model_validate({**QUANTUM, "head": None}), 2, 2).double()
    x = torch.empty(400, 2, dtype=torch.float64).uniform_(-3, 3)
    phases = x @ network.body.frequencies.T.double()
    basis = torch.cat([torch.ones(len(x), 1), phases.cos(), phases.sin()], 1)
    target = layer(x).detach()
    solution = torch.linalg.lstsq(basis, target, driver="gelsd").solution
    torch.testing.assert_close(basis @ solution, target, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("degree", "n_inputs", "count"), [(1, 1, 1), (3, 1, 3), (2, 2, 6), (2, 3, 12), (3, 2, 12)]
)
def test_integer_frequencies_up_to_a_degree(degree, n_inputs, count):
    network = build_network(spec({"kind": "fourier", "degree": degree}).network, n_inputs, 1)
    rows = network.body.frequencies
    assert len(rows) == count  # half of the points of the cross-polytope but zero
    assert float(rows.abs().sum(1).max()) == degree
    both = torch.cat([rows, -rows]).unique(dim=0)
    assert len(both) == 2 * count


def test_frequencies_are_in_units_of_the_scales_start():
    plain = resolved({"kind": "fourier", "match": "hybrid"})
    scaled = resolved({"kind": "fourier", "match": "hybrid"}, {**QUANTUM, "scales_init": 0.5})
    drawn = resolved({"kind": "fourier", "match": "hybrid"}, {**QUANTUM, "scales_init": {"normal": 0.5}})
    rows, half, same = (build_network(twin.network, 2, 2).body.frequencies for twin in (plain, scaled, drawn))
    torch.testing.assert_close(half, 0.5 * rows)
    assert torch.equal(same, rows)


def test_a_degree_cuts_the_circuits_spectrum():
    twin = resolved({"kind": "fourier", "match": "hybrid", "degree": 2})
    rows = build_network(twin.network, 2, 2).body.frequencies
    assert len(rows) == 6


def test_a_wide_spectrum_is_cut_at_a_degree(monkeypatch):
    monkeypatch.setattr("qrl.networks.stand_ins.MAX_FREQUENCIES", 10)
    twin = resolved({"kind": "fourier", "match": "hybrid"})
    rows = build_network(twin.network, 2, 2).body.frequencies
    assert len(rows) == 6  # 7 with zero; at degree 3 they would be 13


def test_a_series_stands_between_the_classical_layers_of_the_hybrid():
    hybrid = {**QUANTUM, "encoder": {"hidden": [5]}, "decoder": {}, "head": None}
    twin = resolved({"kind": "fourier", "match": "hybrid"}, hybrid, n_inputs=4, n_outputs=3)
    network = build_network(twin.network, 4, 3)
    assert [name for name, _ in network.body.named_children()] == ["encoder", "circuit", "decoder"]
    assert network(torch.rand(6, 4)).shape == (6, 3)
    x, upstream = torch.randn(6, 4), torch.randn(6, 3)
    network(x).backward(upstream)
    autograd = {name: p.grad for name, p in network.named_parameters()}
    network.zero_grad()
    with torch.no_grad():
        network.pullback(x)[1](upstream)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, autograd[name])


def test_random_features_are_of_the_spectrum_and_as_many_as_match_the_circuit():
    twin = resolved({"kind": "random_fourier", "match": "hybrid"})
    network = build_network(twin.network, 2, 2)
    circuit = build_circuit(twin.network.matched)
    # each frequency trains a cosine and a sine for both outputs
    assert abs(count_parameters(network.body) - circuit.n_parameters) <= 2
    rows = {tuple(k) for k in network.body.frequencies.tolist()}
    assert rows <= {tuple(k) for k in spectrum(circuit)[1:].tolist()}
    torch.manual_seed(0)
    again = build_network(twin.network, 2, 2)
    torch.manual_seed(0)
    assert torch.equal(build_network(twin.network, 2, 2).body.frequencies, again.body.frequencies)
    assert len(build_network(twin.network.model_copy(update={"n_features": 3}), 2, 2).body.frequencies) == 3
    free = spec({"kind": "random_fourier", "n_features": 500, "scale": 3.0}).network
    assert float(build_network(free, 2, 2).body.frequencies.std()) == pytest.approx(3.0, rel=0.1)


def test_the_critic_is_on_the_critics_circuit():
    hybrid = {**QUANTUM, "observables": ["ZI", "IZ"]}
    peer = spec(hybrid, name="hybrid", critic={**QUANTUM, "n_layers": 1, "observables": ["ZZ"]})
    twin = resolve_agent(spec({"kind": "fourier", "match": "hybrid"}), {"hybrid": peer}, 2, 2)
    assert twin.critic.matched.n_layers == 1
    assert build_network(twin.critic, 2, 1).body.frequencies.max() == 1.0


def test_born_policies_have_classical_twins_with_logits():
    hybrid = {"kind": "quantum", "n_qubits": 2, "n_layers": 2, "head": {"kind": "born"}}
    for kind in ("fourier", "random_fourier", "matched_mlp"):
        twin = resolved({"kind": kind, "match": "hybrid"}, hybrid)
        assert twin.network.head is None
        assert build_network(twin.network, 2, 2, policy=True)(torch.rand(3, 2)).shape == (3, 2)


def test_a_table_is_looked_up():
    network = build_network(spec({"kind": "tabular", "head": {"init": 2.0, "shift": 1.0}}).network, 5, 3)
    with torch.no_grad():
        network.body.table[3] = torch.tensor([1.0, 2.0, 3.0])
    assert network(torch.eye(5))[3].tolist() == [3.0, 5.0, 7.0]
    assert network(torch.eye(5))[0].tolist() == [1.0, 1.0, 1.0]


def test_a_table_learns_a_lake_and_refuses_a_pole():
    lake = qrl.build_agent(
        {"algorithm": "dqn", "network": {"kind": "tabular"}, "learning_starts": 10}, "FrozenLake-v1", seed=0
    )
    lake.learn(40)
    assert count_parameters(lake.q_net) == 16 * 4
    for algorithm, fields in (
        ("dqn", {}),
        ("ppo", {"network": {"kind": "mlp"}, "critic": {"kind": "tabular"}}),
    ):
        with pytest.raises(InputError, match=r"kind: tabular has no table for observations Box"):
            qrl.build_agent({"algorithm": algorithm, "network": {"kind": "tabular"}, **fields}, "CartPole-v1")


@pytest.mark.parametrize("head", [None, {"kind": "scale", "init": 3.0}])
def test_a_symmetry_of_the_task_is_that_of_the_network(head):
    network = build_network(spec({"kind": "equivariant_mlp", "symmetry": MIRROR, "head": head}).network, 4, 2)
    x = torch.randn(7, 4)
    torch.testing.assert_close(network(-x), network(x).flip(1))
    assert (network(-x) - network(x)).abs().max() > 1e-4
    critic = build_network(
        default_critic(spec({"kind": "equivariant_mlp", "symmetry": MIRROR}).network), 4, 1
    )
    torch.testing.assert_close(critic(-x), critic(x))


def test_generators_make_their_group():
    turn = Symmetry(permutation=[1, 2, 3, 0], outputs=[1, 0])
    p, s, q, t = group([turn], 4, 2)
    assert p.tolist() == [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]
    assert q.tolist() == [[0, 1], [1, 0], [0, 1], [1, 0]]
    assert (s == 1).all()
    assert (t == 1).all()
    signed = Symmetry(permutation=[1, 0], signs=[1, -1])
    p, s, _, _ = group([signed], 2, 1)
    # (x0, x1) -> (x1, -x0): a quarter turn
    x = np.array([1.0, 2.0])
    assert sorted((s * x[p]).tolist()) == sorted([[1.0, 2.0], [2.0, -1.0], [-1.0, -2.0], [-2.0, 1.0]])


EQUIVARIANT = {
    # the mirror of a cart-pole: A + B and A - B, A even and B odd, change places
    "mirror": (4, {}, [{"ZZII": 1.0, "XIII": 1.0}, {"ZZII": 1.0, "XIII": -1.0}], [1, 0], [1, 1]),
    "odd": (2, {}, ["XI", "ZZ", "YZ"], [0, 1, 2], [-1, 1, -1]),
    "turn": (3, {"symmetry": [{"permutation": [1, 2, 0]}]}, ["ZII", "IZI", "IIZ"], None, [1, 1, 1]),
    "signed turn": (
        2,
        {"symmetry": [{"permutation": [1, 0], "signs": [1, -1]}], "rotations": ["RZ", "RY"]},
        ["XI", "IX"],
        None,
        None,
    ),
}


@pytest.mark.parametrize("case", EQUIVARIANT)
def test_the_symmetry_is_the_circuits(case):
    n, options, observables, outputs, signs = EQUIVARIANT[case]
    hybrid = {
        "kind": "quantum", "ansatz": "equivariant", "n_qubits": n, "n_layers": 2, "ansatz_options": options,
        "observables": observables,
    }  # fmt: skip
    n_outputs = len(observables)
    circuit = build_network(QuantumNetwork.model_validate(hybrid), n, n_outputs).double()
    twin = resolved({"kind": "equivariant_mlp", "match": "hybrid", "hidden": [6]}, hybrid, n, n_outputs)
    (generator,) = twin.network.symmetry
    assert outputs is None or generator.outputs == outputs
    assert signs is None or generator.output_signs == signs
    order, factors = generator.permutation or list(range(n)), generator.signs or [1] * n
    x = torch.randn(5, n, dtype=torch.float64)
    moved = torch.tensor(factors) * x[:, order]
    classical = build_network(twin.network, n, n_outputs).double()
    for network in (circuit, classical):
        values = torch.tensor(generator.output_signs) * network(x)[:, generator.outputs]
        torch.testing.assert_close(network(moved), values, rtol=0, atol=1e-10)
        assert (network(moved) - network(x)).abs().max() > 1e-3
    critic = build_network(twin.critic, n, 1).double()
    torch.testing.assert_close(critic(moved), critic(x))


def test_symmetries_that_cannot_be_taken_over():
    twin = {"kind": "equivariant_mlp", "match": "hybrid"}
    with pytest.raises(InputError, match="reuploading states no symmetry"):
        resolved(twin)
    hybrid = {"kind": "quantum", "ansatz": "equivariant", "n_qubits": 2, "n_layers": 1, "head": {}}
    with pytest.raises(InputError, match="equivariant states no symmetry"):
        resolved(twin, {**hybrid, "decoder": {}})
    turn = {"symmetry": [{"permutation": [1, 0]}]}
    with pytest.raises(InputError, match="ZI is not mapped to an observable"):
        resolved(twin, {**hybrid, "ansatz_options": turn, "observables": ["ZI", "ZZ"]})
    with pytest.raises(InputError, match="is not mapped to an observable of one output each"):
        resolved(twin, {**hybrid, "observables": ["ZZ"]})
    with pytest.raises(InputError, match="mlp network, which states no symmetry"):
        resolved(twin, {"kind": "mlp"})
    with pytest.raises(InputError, match="give symmetry or match"):
        build_network(spec({"kind": "equivariant_mlp"}).network, 4, 2)


def test_sizes_of_equivariant_networks():
    symmetry = {"kind": "equivariant_mlp", "symmetry": MIRROR}
    plain = build_network(spec(symmetry).network, 4, 2)
    assert count_parameters(plain) == 5 * 64 + 65 * 64 + 65 * 2
    hybrid = {**QUANTUM, "n_qubits": 4, "n_features": 4, "n_layers": 6, "observables": ["ZIII", "IZII"]}
    twin = resolved({**symmetry, "match": "hybrid"}, hybrid, n_inputs=4)
    wanted = twin.network.n_parameters
    found = count_parameters(build_network(twin.network, 4, 2))
    assert abs(found - wanted) <= 0.2 * wanted
    assert twin.network.head == twin.network.head.model_validate(hybrid["head"])


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"kind": "fourier"}, r"network\.degree: nothing is given here; give degree or match"),
        ({"kind": "random_fourier"}, r"network\.n_features: nothing is given here"),
        ({"kind": "fourier", "match": "hybrid"}, r"network\.match: hybrid is not resolved"),
        ({"kind": "fourier", "degree": 40}, r"network\.degree: 40 gives too many frequencies on 4 inputs"),
        (
            {"kind": "equivariant_mlp", "symmetry": [{"signs": [-1]}]},
            r"symmetry\.signs: .* are 1 signs; give 4",
        ),
        (
            {"kind": "equivariant_mlp", "symmetry": [{"outputs": [0, 0]}]},
            r"symmetry\.outputs: .* is no permutation",
        ),
        (
            {"kind": "equivariant_mlp", "symmetry": MIRROR, "match": "hybrid"},
            r"network\.match: hybrid is not res",
        ),
        ({"kind": "mlp", "head": {"kind": "born"}}, r"head\.kind: born needs a circuit"),
    ],
)
def test_networks_that_cannot_be(network, message):
    with pytest.raises(InputError, match=message):
        build_network(spec(network).network, 4, 2, policy=True)


def test_a_circuits_spectrum_needs_a_circuit_that_has_one():
    peers = {"mlp": spec({"kind": "mlp"}, name="mlp")}
    with pytest.raises(InputError, match="mlp has a mlp network and no circuit's spectrum"):
        resolve_agent(spec({"kind": "fourier", "match": "mlp"}), peers, 4, 2)
    peers = {"off": spec({**QUANTUM, "circuit": "off"}, name="off")}
    with pytest.raises(InputError, match="no circuit's spectrum"):
        resolve_agent(spec({"kind": "random_fourier", "match": "off"}), peers, 2, 2)
    squashed = {**QUANTUM, "ansatz_options": {"squash": "tanh"}}
    twin = resolved({"kind": "fourier", "match": "hybrid"}, squashed)
    with pytest.raises(ValueError, match="squash: an angle reads a feature through tanh"):
        build_network(twin.network, 2, 2)


def test_series_of_state_and_action():
    critic = agent_spec({"algorithm": "ddpg", "critic": {"kind": "fourier", "degree": 2}}).critic
    value = build_action_value(critic, 2, 1)
    action = torch.rand(3, 1, requires_grad=True)
    value(torch.rand(3, 2), action).sum().backward()
    assert action.grad.abs().min() > 0.0


HYBRID = {
    "kind": "quantum", "n_qubits": 2, "n_layers": 2, "n_features": 4, "observables": ["ZI", "IZ"],
    "head": {"kind": "softmax", "init": [1.0, -1.0], "beta": 1.5},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"invariant"}))
def test_variants_of_a_hybrid_learn_in_its_place(name):
    hybrid = spec(HYBRID, name="hybrid", n_envs=1, n_steps=16, batch_size=16)
    changed = VARIANTS[name](hybrid.network, "hybrid")
    assert type(changed).model_validate(changed.model_dump(mode="json")) == changed
    # each step costs there; on a lake a table of zeros learns nothing before a goal is found
    env = "CliffWalking-v1" if name == "tabular" else "CartPole-v1"
    twin = spec(changed.model_dump(), n_envs=1, n_steps=16, batch_size=16)
    agent = qrl.build_agent(twin, env, seed=0, peers={"hybrid": hybrid})
    before = agent.parameters_sha256
    agent.learn(32)
    assert agent.parameters_sha256 != before
    head = agent.policy.mlp_extractor.actor.head
    if name != "tabular":
        assert (head.kind, float(head.beta)) == ("softmax", 1.5)


def test_what_the_variants_take_away():
    network = QuantumNetwork.model_validate(HYBRID)
    assert build_circuit(network).two_qubit_count > 0
    bare = VARIANTS["no_entanglers"](network, "hybrid")
    assert build_circuit(bare).two_qubit_count == 0
    assert build_circuit(bare).n_parameters == build_circuit(network).n_parameters
    assert VARIANTS["frozen"](network, "hybrid") == network.model_copy(update={"frozen": True})
    assert VARIANTS["no_circuit"](network, "hybrid") == network.model_copy(update={"circuit": "off"})
    born = QuantumNetwork(n_qubits=2, head={"kind": "born"})
    assert VARIANTS["no_circuit"](born, "hybrid").head is None
    assert VARIANTS["mlp_large"](born, "hybrid").head is None
    with pytest.raises(InputError, match="leaves nothing to train"):
        VARIANTS["frozen"](born, "hybrid")


@pytest.mark.parametrize("ansatz", sorted(ANSATZ))
def test_entanglers_of_every_family(ansatz):
    network = QuantumNetwork(ansatz=ansatz, n_qubits=3, n_layers=2, head={})
    if ansatz == "amplitude":  # its state preparation entangles
        with pytest.raises(InputError, match="leave this variant out"):
            VARIANTS["no_entanglers"](network, "hybrid")
        return
    bare = build_circuit(VARIANTS["no_entanglers"](network, "hybrid"))
    assert build_circuit(network).two_qubit_count > bare.two_qubit_count == 0
    assert bare.n_parameters > 0


def test_the_invariant_variant_is_of_equivariant_circuits():
    hybrid = QuantumNetwork(ansatz="equivariant", n_qubits=2, n_layers=1, head={})
    assert VARIANTS["invariant"](hybrid, "hybrid").match == "hybrid"
    with pytest.raises(InputError, match="reuploading states no symmetry"):
        VARIANTS["invariant"](QuantumNetwork(head={}), "hybrid")


def test_removed_and_tabular_networks_on_a_lake():
    # one-hot observations of 16 states into 4 outputs
    network = {
        "kind": "quantum",
        "n_qubits": 4,
        "n_layers": 1,
        "n_features": 16,
        "circuit": "off",
        "head": {},
    }
    agent = qrl.build_agent({"algorithm": "dqn", "network": network}, gym.make("FrozenLake-v1"), seed=0)
    assert count_parameters(agent.q_net) == 17 * 4 + 8
