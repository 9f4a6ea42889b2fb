"""The circuit families beside PennyLane's, published layouts and counts, and symmetries that hold exactly."""

from __future__ import annotations

import itertools

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import qrl
from circuits import ANSATZ, Circuit
from circuits.embeddings import EMBEDDINGS, Amplitude, Basis

FAMILIES = {name: build for name, build in ANSATZ.items() if name != "reuploading"}


def drawn(circuit: Circuit, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.uniform(-3, 3, circuit.n_parameters), generator.uniform(-1, 1, circuit.n_features)


def names(circuit: Circuit) -> list[str]:
    return [f"{gate.name}{''.join(map(str, gate.qubits))}" for gate in circuit.gates]


def pennylane_state(n_qubits: int, operations) -> np.ndarray:
    """The state of PennyLane's operations, little-endian."""

    @qml.qnode(qml.device("default.qubit", wires=n_qubits))
    def circuit():
        operations()
        return qml.state()

    return np.asarray(circuit()).reshape([2] * n_qubits).transpose(range(n_qubits - 1, -1, -1)).reshape(-1)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(abs(np.vdot(a, b)))


@pytest.mark.parametrize(("n", "depth"), [(1, 2), (2, 3), (4, 4)])
def test_strongly_entangling_layers_are_pennylanes(n, depth):
    circuit = ANSATZ["strongly_entangling"](n, depth, reupload=False, trainable_scales=False)
    theta, x = drawn(circuit)

    def theirs():
        for q in range(n):
            qml.RX(x[q], q)
        qml.StronglyEntanglingLayers(theta.reshape(depth, n, 3), range(n))

    assert overlap(circuit.statevector(theta, x), pennylane_state(n, theirs)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_iqp_encodes_as_pennylane(n):
    circuit = ANSATZ["iqp"](n, 2, trainable_scales=False, entangler="none")
    theta, x = drawn(circuit)

    def theirs():
        for layer in range(2):
            qml.IQPEmbedding(x, range(n))
            for q in range(n):
                qml.RY(theta[(layer * n + q) * 2], q)
                qml.RZ(theta[(layer * n + q) * 2 + 1], q)

    assert overlap(circuit.statevector(theta, x), pennylane_state(n, theirs)) == pytest.approx(1.0, abs=1e-12)


def test_controlled_rotations_are_those_of_the_published_code():
    n, depth = 3, 2
    circuit = ANSATZ["controlled_rotations"](n, depth)
    theta, x = drawn(circuit)
    weights, scales = theta[: n * depth * 3].reshape(depth, n, 3), theta[n * depth * 3 :].reshape(depth, n, 3)

    def theirs():
        for q in range(n):
            qml.Hadamard(q)
        for layer in range(depth):
            for q in range(n):
                angles = scales[layer, q] * x[q] + weights[layer, q]
                qml.CRot(*angles, wires=[q, (q + 1) % n])
            if layer < depth - 1:
                for q in range(n):
                    qml.Hadamard(q)

    assert overlap(circuit.statevector(theta, x), pennylane_state(n, theirs)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("entangling_gate", ["CRot"])
def test_a_trainable_entangler_is_pennylanes_controlled_rotation(entangling_gate):
    circuit = ANSATZ["basis"](2, 1, entangler="linear", entangling_gate=entangling_gate, final_layer=False)
    theta, _ = drawn(circuit)

    def theirs():
        for q in range(2):
            qml.RX(np.pi, q)
            qml.RZ(theta[2 * q], q)
            qml.RY(theta[2 * q + 1], q)
        qml.CRot(*theta[4:], wires=[0, 1])

    found = circuit.statevector(theta, [np.pi, np.pi])
    assert overlap(found, pennylane_state(2, theirs)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("family", "arguments", "weights", "scales"),
    [
        # (R4) FrozenLake, 15 layers: 2 n (L + 1)
        ("basis", {"n_qubits": 4, "n_layers": 15}, 128, 0),
        # (R6) Born policy: 16 angles, 8 scales
        (
            "reuploading",
            {
                "n_qubits": 4,
                "n_layers": 1,
                "order": "variational-first",
                "rotations": ("RZ", "RY"),
                "encoding": ("RY", "RZ"),
                "entangler": "all",
                "final_layer": True,
                "initial_hadamard": True,
            },
            16,
            8,
        ),
        # (R7) one qubit, 5 layers of 4 weights, a bias and an angle: 30, and two output scales make 32
        ("universal_classifier", {"n_qubits": 1, "n_layers": 5, "n_features": 4}, 10, 20),
        # (R8) 14 qubits, 4 layers, 6 parameters a gate
        ("controlled_rotations", {"n_qubits": 14, "n_layers": 4}, 168, 168),
    ],
)
def test_published_counts(family, arguments, weights, scales):
    circuit = ANSATZ[family](**arguments)
    assert dict(circuit.groups) == {k: v for k, v in (("weights", weights), ("scales", scales)) if v}


def test_the_born_policy_circuit_has_no_entangler_in_its_closing_layer():
    circuit = ANSATZ["reuploading"](
        3, 1, order="variational-first", rotations=("RZ", "RY"), encoding=("RY", "RZ"), entangler="all",
        final_layer=True, initial_hadamard=True,
    )  # fmt: skip
    turns = [f"{name}{q}" for q in range(3) for name in ("RZ", "RY")]
    encoding = [f"{name}{q}" for name in ("RY", "RZ") for q in range(3)]
    assert names(circuit) == ["H0", "H1", "H2", *turns, "CZ01", "CZ02", "CZ12", *encoding, *turns]


def test_switches_of_reuploading_remove_what_they_name():
    whole = ANSATZ["reuploading"](3, 4)
    once, fixed = (
        ANSATZ["reuploading"](3, 4, reupload=False),
        ANSATZ["reuploading"](3, 4, trainable_scales=False),
    )
    assert names(whole).count("RX0") == 4
    assert names(once).count("RX0") == 1
    assert dict(once.groups) == {"weights": 24, "scales": 3}
    assert dict(fixed.groups) == {"weights": 24}
    theta, x = drawn(fixed)
    ones = np.concatenate([theta, np.ones(12)])
    assert overlap(fixed.statevector(theta, x), whole.statevector(ones, x)) == pytest.approx(1.0, abs=1e-12)


def test_full_and_partial_encoding_show_a_qubit_all_or_its_part():
    def seen(circuit, qubit):
        gates = [g for g in circuit.gates if g.name == "RZ" and g.qubits == (qubit,)]
        return sorted({f for t in gates[0].angle.terms for f in t.features})

    full = ANSATZ["universal_classifier"](2, 1, 4)
    partial = ANSATZ["universal_classifier"](2, 1, 4, encoding="partial")
    assert [seen(full, q) for q in range(2)] == [[0, 1, 2, 3]] * 2
    assert [seen(partial, q) for q in range(2)] == [[0, 1], [2, 3]]


def test_the_factor_doubles_both_angles_and_an_entangler_stands_between_layers_only():
    one, two = (ANSATZ["universal_classifier"](2, 2, factor=f) for f in (1.0, 2.0))
    theta, x = drawn(one)
    np.testing.assert_allclose(two.angles(theta, x), 2 * one.angles(theta, x))
    assert names(one)[4:5] == ["CZ01"]
    assert names(one).count("CZ01") == 1


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_amplitudes_are_those_of_the_vector(n):
    generator = np.random.default_rng(n)
    embedding, circuit = Amplitude(2**n, n), ANSATZ["amplitude"](n, 1, rotations=("RZ",), entangler="none")
    vectors = generator.normal(size=(5, 2**n))
    vectors[3, ::2] = 0.0
    vectors[4] = np.eye(2**n)[-1]
    features = embedding(vectors)
    assert features.shape == (5, embedding.n_features)
    for vector, row in zip(vectors, features, strict=True):
        found = circuit.statevector(np.zeros(circuit.n_parameters), row)
        np.testing.assert_allclose(found, vector / np.linalg.norm(vector), atol=1e-12)


def test_a_short_vector_is_filled_up_and_one_of_zeros_is_the_first_state():
    embedding, circuit = Amplitude(3, 2), ANSATZ["amplitude"](2, 1, rotations=("RZ",), entangler="none")
    for vector, expected in (([3.0, 0.0, -4.0], [0.6, 0.0, -0.8, 0.0]), ([0.0] * 3, [1.0, 0.0, 0.0, 0.0])):
        found = circuit.statevector(np.zeros(circuit.n_parameters), embedding([vector])[0])
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_basis_states_are_those_of_the_index():
    embedding, circuit = (
        Basis(6, 3),
        ANSATZ["basis"](3, 1, rotations=("RZ",), entangler="none", final_layer=False),
    )
    for index, row in enumerate(embedding(np.eye(6))):
        state = circuit.statevector(np.zeros(circuit.n_parameters), row)
        assert abs(state[index]) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_that_do_not_fit_are_refused(name):
    with pytest.raises(ValueError, match="n_qubits: 2 hold 4 states, not 5"):
        EMBEDDINGS[name](5, 2)


def expectation(circuit: Circuit, words: list, seed: int, x: np.ndarray) -> np.ndarray:
    torch.manual_seed(seed)
    layer = qrl.QuantumLayer(circuit, words, backend="torch").double()
    with torch.no_grad():
        return layer(torch.as_tensor(x)[None])[0].numpy()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 4), st.sampled_from(["ring", "all", "linear"]))
def test_the_mirror_exchanges_two_actions(seed, n, entangler):
    """Q(-s, left) = Q(s, right) for every value of the parameters: the symmetry of a cart with a pole."""
    circuit = ANSATZ["equivariant"](n, 2, entangler=entangler)
    even, odd = "ZZ" + "I" * (n - 2), "X" + "I" * (n - 1)
    words = [{even: 1.0, odd: 1.0}, {even: 1.0, odd: -1.0}]
    x = np.random.default_rng(seed).uniform(-2, 2, n)
    here, there = expectation(circuit, words, seed, x), expectation(circuit, words, seed, -x)
    np.testing.assert_allclose(here, there[::-1], atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31))
def test_a_group_of_permutations_and_signs_holds_exactly(seed):
    symmetry = [{"permutation": [1, 2, 0]}, {"signs": [-1, -1, -1]}]
    circuit = ANSATZ["equivariant"](3, 2, symmetry=symmetry, couplings=("RZZ", "RXX", "RYY"))
    x = np.random.default_rng(seed).uniform(-2, 2, 3)
    words = ["ZII", "IZI", "IIZ", "XII"]
    here = expectation(circuit, words, seed, x)
    turned = expectation(circuit, words, seed, x[[1, 2, 0]])
    mirrored = expectation(circuit, words, seed, -x)
    # (g x)_i = x_p(i): qubit i of g x is qubit p(i) of x
    np.testing.assert_allclose(turned[:3], here[[1, 2, 0]], atol=1e-12)
    np.testing.assert_allclose(mirrored[:3], here[:3], atol=1e-12)
    np.testing.assert_allclose(mirrored[3], -here[3], atol=1e-12)


def test_an_equivariant_circuit_leaves_out_what_its_group_turns_round_and_ties_the_rest():
    mirror = ANSATZ["equivariant"](3, 1)
    assert not any(name.startswith("RY0") or name == "RY1" for name in names(mirror))
    assert {"RZ0", "RZZ01", "RYY01"} <= set(names(mirror))
    turned = ANSATZ["equivariant"](3, 1, symmetry=[{"permutation": [1, 2, 0]}])
    assert dict(turned.groups) == {"weights": 4, "scales": 1}
    assert "RY0" in names(turned)


def test_an_unsymmetric_circuit_breaks_the_mirror():
    """The property above can fail: a circuit of another family does not have it."""
    circuit = ANSATZ["reuploading"](2, 2)
    x = np.array([0.7, -0.3])
    words = [{"ZZ": 1.0, "XI": 1.0}, {"ZZ": 1.0, "XI": -1.0}]
    here, there = expectation(circuit, words, 3, x), expectation(circuit, words, 3, -x)
    assert np.abs(here - there[::-1]).max() > 1e-2


BAD = {
    "universal_classifier": [
        ({"encoding": "half"}, "encoding: 'half' is unknown"),
        ({"n_features": 3, "encoding": "partial"}, "n_features: 3 are no 2 equal parts"),
        ({"factor": float("nan")}, "factor"),
    ],
    "hardware_efficient": [({"n_features": 3}, "n_features: 3 do not fit one encoding on 2 qubits")],
    "strongly_entangling": [({"entangler": "ring"}, "entangler: 'ring' is unknown")],
    "iqp": [
        ({"n_features": 3}, "n_features: 3 are more than 2 qubits"),
        ({"products": "some"}, "products: 'some'"),
    ],
    "basis": [({"n_features": 3}, "n_features: 3 is not one digit for each of 2 qubits")],
    "amplitude": [
        ({"n_features": 4}, "n_features: 4 is not the 3 angles of 2 qubits"),
        ({"n_qubits": 9}, "n_qubits: 9 is too many for amplitude encoding"),
    ],
    "controlled_rotations": [({"entangler": "rings"}, "did you mean 'ring'")],
    "equivariant": [
        ({"n_features": 3}, "n_features: 3 is not one for each of 2 qubits"),
        ({"symmetry": [{"sign": [1, 1]}]}, "did you mean 'signs'"),
        ({"symmetry": [{"permutation": [0, 0]}]}, "symmetry.permutation: .* is none"),
        ({"symmetry": [{"signs": [1, 2]}]}, "symmetry.signs: .* are not 2 of 1 and -1"),
        ({"couplings": ("RXY",)}, "couplings: 'RXY' is unknown"),
    ],
}


def test_every_family_refuses_something():
    assert set(BAD) == set(FAMILIES)


@pytest.mark.parametrize(
    ("family", "options", "message"), [(f, o, m) for f, rows in BAD.items() for o, m in rows]
)
def test_bad_options_are_refused_in_one_line(family, options, message):
    with pytest.raises(ValueError, match=message) as refused:
        ANSATZ[family](**{"n_qubits": 2, "n_layers": 1, **options})
    assert "\n" not in str(refused.value)


def test_a_group_that_grows_without_end_is_refused():
    order = list(range(8))
    generators = [{"permutation": [1, 0, *order[2:]]}, {"permutation": [*order[1:], 0]}]
    with pytest.raises(ValueError, match="more than 1024 elements"):
        ANSATZ["equivariant"](8, 1, symmetry=generators)


@pytest.mark.engine
@pytest.mark.parametrize("family", ANSATZ)
def test_both_engines_agree_on_every_family(family):
    circuit = ANSATZ[family](4, 2)
    words = ["".join(word) for word in itertools.islice(itertools.product("IXZ", repeat=4), 20, 24)]
    layers = {}
    for backend in ("torch", "native"):
        torch.manual_seed(1)
        layer = qrl.QuantumLayer(circuit, words, backend=backend).double()
        x = torch.linspace(-1, 1, 3 * circuit.n_features, dtype=torch.float64).reshape(3, -1).requires_grad_()
        layer(x).square().sum().backward()
        layers[backend] = [x.grad, *(p.grad for p in layer.parameters())]
    for a, b in zip(*layers.values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)
