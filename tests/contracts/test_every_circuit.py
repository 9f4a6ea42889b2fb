"""Every registered circuit family: right state, right gradients, stable identity. One without a row fails here."""

import numpy as np
import pytest
import torch

import qrl
from circuits import ANSATZ, Circuit
from circuits.export import to_qiskit

ROWS = {
    "reuploading": [
        {"n_qubits": 1, "n_layers": 1},
        {"n_qubits": 2, "n_layers": 3, "n_features": 1},
        {
            "n_qubits": 4,
            "n_layers": 2,
            "n_features": 6,
            "squash": "tanh",
            "entangler": "all",
            "entangling_gate": "CX",
        },
        {
            "n_qubits": 3,
            "n_layers": 2,
            "encoding": ("RY", "RZ"),
            "order": "variational-first",
            "final_layer": True,
        },
        {"n_qubits": 3, "n_layers": 2, "entangling_gate": "CRot", "initial_hadamard": True},
        {"n_qubits": 2, "n_layers": 2, "reupload": False, "trainable_scales": False},
    ],
    "universal_classifier": [
        {"n_qubits": 1, "n_layers": 3, "n_features": 4, "factor": 2.0},
        {"n_qubits": 2, "n_layers": 2, "n_features": 4, "encoding": "partial", "entangling_gate": "CRot"},
        {"n_qubits": 3, "n_layers": 2, "squash": "arctan"},
    ],
    "hardware_efficient": [
        {"n_qubits": 1, "n_layers": 1},
        {"n_qubits": 4, "n_layers": 2, "n_features": 3, "entangling_gate": "CX", "entangler": "all"},
    ],
    "strongly_entangling": [
        {"n_qubits": 1, "n_layers": 2},
        {"n_qubits": 4, "n_layers": 4, "entangling_gate": "CRot"},
        {"n_qubits": 3, "n_layers": 2, "n_features": 5, "squash": "tanh"},
    ],
    "iqp": [
        {"n_qubits": 1, "n_layers": 1},
        {"n_qubits": 3, "n_layers": 2, "squash": "tanh"},
        {"n_qubits": 4, "n_layers": 2, "n_features": 3, "products": "ring", "reupload": False},
    ],
    "basis": [
        {"n_qubits": 1, "n_layers": 1, "final_layer": False},
        {"n_qubits": 4, "n_layers": 2, "entangling_gate": "CRot", "entangler": "linear"},
    ],
    "amplitude": [{"n_qubits": 1, "n_layers": 1}, {"n_qubits": 3, "n_layers": 2, "final_layer": True}],
    "controlled_rotations": [
        {"n_qubits": 1, "n_layers": 2},
        {"n_qubits": 2, "n_layers": 2, "final_hadamard": True},
        {"n_qubits": 4, "n_layers": 2, "n_features": 3},
        {"n_qubits": 3, "n_layers": 2, "entangler": "none"},
    ],
    "equivariant": [
        {"n_qubits": 1, "n_layers": 1},
        {"n_qubits": 4, "n_layers": 2, "squash": "tanh"},
        {
            "n_qubits": 4,
            "n_layers": 2,
            "symmetry": ({"permutation": (1, 0, 3, 2)}, {"signs": (-1, -1, 1, 1)}),
            "couplings": ("RZZ", "RXX", "RYY"),
            "entangler": "all",
        },
    ],
}
CASES = [(name, options) for name, rows in ROWS.items() for options in rows]


def drawn(circuit):
    generator = np.random.default_rng(1)
    return generator.uniform(-3, 3, circuit.n_parameters), generator.uniform(-1, 1, circuit.n_features)


def test_every_family_has_a_row():
    assert set(ROWS) == set(ANSATZ)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_state_is_qiskits(name, options):
    from qiskit.quantum_info import Statevector

    circuit = ANSATZ[name](**options)
    parameters, features = drawn(circuit)
    theirs = Statevector(to_qiskit(circuit, parameters, features)).data
    assert abs(np.vdot(theirs, circuit.statevector(parameters, features))) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_shift_rule_equals_backpropagation(name, options):
    circuit = ANSATZ[name](**options)
    word = "Z" * circuit.n_qubits
    torch.manual_seed(0)
    backprop = qrl.QuantumLayer(circuit, [word], gradient="backprop").double()
    shifted = qrl.QuantumLayer(circuit, [word], gradient="parameter_shift").double()
    shifted.load_state_dict(backprop.state_dict())
    features = torch.rand(3, circuit.n_features, dtype=torch.float64)
    for layer in (backprop, shifted):
        layer(features).sum().backward()
    for ours, theirs in zip(backprop.parameters(), shifted.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_identity_and_drawing(name, options):
    circuit = ANSATZ[name](**options)
    assert ANSATZ[name](**options).digest == circuit.digest
    assert Circuit.from_dict(circuit.to_dict()) == circuit
    assert circuit.draw("text").count("|0⟩") == circuit.n_qubits


@pytest.mark.parametrize("name", ANSATZ)
@pytest.mark.parametrize("bad", [{"n_qubits": 0}, {"n_layers": 0}, {"n_qubits": True}, {"n_qubits": 2.5}])
def test_sizes_that_cannot_be_are_refused_in_one_line(name, bad):
    with pytest.raises((ValueError, TypeError), match=next(iter(bad))) as refused:
        ANSATZ[name](**{"n_qubits": 2, "n_layers": 2, **bad})
    assert "\n" not in str(refused.value)
