"""The circuit families: their layout, the published presets, and controlled rotations."""

from __future__ import annotations

import numpy as np
import pytest

from circuits import ANSATZ, Angle, Circuit, Gate, Term, controlled_rotation, reuploading


def names(circuit: Circuit) -> list[str]:
    return [f"{gate.name}{''.join(map(str, gate.qubits))}" for gate in circuit.gates]


def test_the_default_layer_is_encode_rotate_ring():
    circuit = reuploading(3, 1)
    rotations = ["RX0", "RX1", "RX2", "RY0", "RZ0", "RY1", "RZ1", "RY2", "RZ2"]
    assert names(circuit) == [*rotations, "CZ01", "CZ12", "CZ20"]
    assert circuit.n_features == 3
    first, last = circuit.rotations[0].angle, circuit.rotations[-1].angle
    assert first == Angle(0.0, (Term(1.0, 6, (0,), "none"),))
    assert last == Angle(0.0, (Term(1.0, 5),))


def test_a_ring_on_two_qubits_is_one_gate_and_on_one_none():
    assert names(reuploading(2, 1)).count("CZ01") == 1
    assert not any(name.startswith("CZ1") for name in names(reuploading(2, 1)))
    assert names(reuploading(1, 1)) == ["RX0", "RY0", "RZ0"]


@pytest.mark.parametrize(
    ("entangler", "pairs"),
    [
        ("ring", ["CX01", "CX12", "CX23", "CX30"]),
        ("linear", ["CX01", "CX12", "CX23"]),
        ("all", ["CX01", "CX02", "CX03", "CX12", "CX13", "CX23"]),
        ("none", []),
    ],
)
def test_entanglers(entangler, pairs):
    circuit = reuploading(4, 1, entangler=entangler, entangling_gate="CX")
    assert [name for name in names(circuit) if name.startswith("C")] == pairs


def test_features_repeat_over_layers():
    circuit = reuploading(2, 3, n_features=3)
    read = [gate.angle.terms[0].features[0] for gate in circuit.rotations if gate.name == "RX"]
    assert read == [0, 1, 2, 0, 1, 2]
    assert reuploading(4, 2, n_features=1).n_features == 1


def test_preset_r1_skolik_dqn():
    circuit = reuploading(4, 5, squash="tanh")
    assert circuit.groups == (("weights", 40), ("scales", 20))
    assert {gate.angle.terms[0].squash for gate in circuit.rotations if gate.name == "RX"} == {"tanh"}
    assert names(circuit)[-1] == "CZ30"


def test_preset_r3_softmax_reinforce():
    circuit = reuploading(
        4, 5, order="variational-first", final_layer=True, rotations=("RX", "RY", "RZ"), encoding="RX"
    )
    assert circuit.groups == (("weights", 72), ("scales", 20))
    layer = names(circuit)[:20]
    assert layer[:3] == ["RX0", "RY0", "RZ0"]
    assert layer[12:16] == ["CZ01", "CZ12", "CZ23", "CZ30"]
    assert layer[16:] == ["RX0", "RX1", "RX2", "RX3"]
    assert names(circuit)[-12:] == [f"{name}{q}" for q in range(4) for name in ("RX", "RY", "RZ")]


def test_preset_r5_continuous():
    circuit = reuploading(3, 5, encoding=("RY", "RZ"), rotations=("RZ", "RY"), entangling_gate="CX")
    assert circuit.groups == (("weights", 30), ("scales", 30))
    assert names(circuit)[:6] == ["RY0", "RY1", "RY2", "RZ0", "RZ1", "RZ2"]
    scales = {gate.angle.terms[0].parameter for gate in circuit.rotations if gate.angle.terms[0].features}
    assert scales == set(range(30, 60))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_qubits": 0}, ValueError, "n_qubits: 0 is below 1; use an integer >= 1"),
        ({"n_layers": 0}, ValueError, "n_layers: 0 is below 1"),
        ({"n_features": 0}, ValueError, "n_features: 0 is below 1"),
        ({"n_layers": 2.5}, TypeError, "n_layers: 2.5 is not an integer"),
        ({"rotations": ()}, ValueError, "rotations: empty"),
        ({"rotations": ("RXX",)}, ValueError, "rotations: 'RXX' is unknown"),
        ({"encoding": "H"}, ValueError, "encoding: 'H' is unknown"),
        ({"squash": "sin"}, ValueError, "squash: 'sin' is unknown"),
        ({"entangler": "rings"}, ValueError, "did you mean 'ring'"),
        ({"entangling_gate": "SWAP"}, ValueError, "entangling_gate: 'SWAP' is unknown"),
        ({"order": "first"}, ValueError, "order: 'first' is unknown"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        reuploading(**{"n_qubits": 2, "n_layers": 1, **options})


def test_families_have_names():
    assert ANSATZ["reuploading"] is reuploading


@pytest.mark.parametrize("axis", ["X", "Y", "Z"])
@pytest.mark.parametrize(("control", "target"), [(0, 1), (1, 0)])
def test_controlled_rotations_are_exact(axis, control, target):
    value = 0.83
    angle = Angle(0.1, (Term(1.0, 0),))
    gates = controlled_rotation(axis, control, target, angle)
    single = Circuit(1, (Gate(f"R{axis}", (0,), angle),), 0, (("weights", 1),))
    for index in range(4):
        start = tuple(float(k == index) for k in range(4))
        state = Circuit(2, gates, 0, (("weights", 1),), start).statevector([value])
        wanted = np.array(start, dtype=complex)
        if index >> control & 1:
            bit = index >> target & 1
            column = Circuit(1, single.gates, 0, single.groups, (1.0 - bit, float(bit))).statevector([value])
            wanted[:] = 0
            wanted[1 << control] = column[0]
            wanted[(1 << control) | (1 << target)] = column[1]
        np.testing.assert_allclose(state, wanted, atol=1e-15)
    with pytest.raises(ValueError, match="axis: 'W' is unknown"):
        controlled_rotation("W", 0, 1, angle)
