"""Quantum metric against a closed form, PennyLane, and finite differences of the fidelity."""

import math

import numpy as np
import pytest

import circuits.quantum_metric as module
from circuits import Circuit, reuploading
from circuits.circuit import Angle, Gate, Term
from circuits.quantum_metric import fubini_study, metric_usage, quantum_fisher


def inputs(circuit, n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-np.pi, np.pi, circuit.n_parameters), rng.uniform(-1, 1, (n, circuit.n_features))


def fidelity(circuit, angles, others):
    a, b = (circuit.flat().statevector((), x) for x in (angles, others))
    return abs(np.vdot(a, b)) ** 2


def shared():
    """One weight in two gates, a scale in a squash, words on two qubits, fixed gates between."""
    weight, scale = Term(1.0, 0), Term(2.0, 2, (0,), "tanh")
    return Circuit(
        n_qubits=2,
        n_features=1,
        groups=(("weights", 2), ("scales", 1)),
        gates=(
            Gate("H", (0,)),
            Gate("RY", (0,), Angle(0.3, (weight,))),
            Gate("RX", (1,), Angle(0.1, (scale,))),
            Gate("CX", (0, 1)),
            Gate("RZY", (0, 1), Angle(0.0, (Term(0.5, 1),))),
            Gate("RX", (0,), Angle(0.0, (weight, Term(1.0, None, (0,))))),
            Gate("RZ", (1,), Angle(0.7)),
            Gate("RY", (1,), Angle(0.0, (Term(1.0, None, (0,)),))),
        ),
    )


def test_one_qubit_is_a_quarter_of_the_sphere():
    gates = (Gate("RY", (0,), Angle(0.0, (Term(1.0, 0),))), Gate("RZ", (0,), Angle(0.0, (Term(1.0, 1),))))
    circuit = Circuit(n_qubits=1, groups=(("weights", 2),), gates=gates)
    for theta in (0.0, 0.7, math.pi / 2):
        expected = np.diag([1.0, math.sin(theta) ** 2])
        np.testing.assert_allclose(fubini_study(circuit, [theta, 1.3])[0], expected / 4, atol=1e-12)
        np.testing.assert_allclose(quantum_fisher(circuit, [theta, 1.3]), expected, atol=1e-12)


@pytest.mark.parametrize("circuit", [reuploading(3, 2), shared()], ids=["reuploading", "shared"])
def test_fidelity_falls_by_the_metric(circuit):
    parameters, features = inputs(circuit, 2)
    metric = fubini_study(circuit, parameters, features)
    for row, angles in enumerate(circuit.angles(parameters, features)):
        direction = np.random.default_rng(row).normal(size=circuit.n_angles)
        step = 1e-3
        # 1 - F = d g d step^2 + O(step^3); the mean of both signs is right to step^4
        lost = [1.0 - fidelity(circuit, angles, angles + sign * step * direction) for sign in (1, -1)]
        assert np.mean(lost) / step**2 == pytest.approx(direction @ metric[row] @ direction, rel=1e-4)


@pytest.mark.parametrize("circuit", [reuploading(3, 2), shared()], ids=["reuploading", "shared"])
def test_pennylane_gives_the_same(circuit):
    qml = pytest.importorskip("pennylane")
    parameters, features = inputs(circuit, 1)
    angles = qml.numpy.array(circuit.angles(parameters, features)[0], requires_grad=True)
    names = {"CX": "CNOT", "H": "Hadamard"}

    @qml.qnode(qml.device("default.qubit", wires=circuit.n_qubits))
    def state(values):
        left = iter(values)
        for gate in circuit.gates:
            if gate.is_rotation:
                qml.PauliRot(next(left), gate.word, wires=gate.qubits)
            else:
                getattr(qml, names.get(gate.name, gate.name))(wires=gate.qubits)
        return qml.state()

    expected = qml.adjoint_metric_tensor(state)(angles)
    np.testing.assert_allclose(fubini_study(circuit, parameters, features)[0], expected, atol=1e-10)


def test_information_of_shared_parameters_is_that_of_the_states():
    circuit = shared()
    parameters, features = inputs(circuit, 5)
    step, expected = 1e-5, np.zeros((3, 3))
    for x in features:
        state = circuit.statevector(parameters, x)
        slopes = np.array(
            [
                circuit.statevector(parameters + step * e, x) - circuit.statevector(parameters - step * e, x)
                for e in np.eye(3)
            ]
        ) / (2 * step)
        along = slopes @ state.conj()
        expected += 4 * (slopes.conj() @ slopes.T - np.outer(along.conj(), along)).real / len(features)
    np.testing.assert_allclose(quantum_fisher(circuit, parameters, features), expected, atol=1e-8)


def test_chunks_change_nothing(monkeypatch):
    circuit = reuploading(2, 2)
    parameters, features = inputs(circuit, 7)
    whole = fubini_study(circuit, parameters, features), quantum_fisher(circuit, parameters, features)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 3 * 16 * 4 * (circuit.n_angles + 1))
    parts = fubini_study(circuit, parameters, features), quantum_fisher(circuit, parameters, features)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)
    rows = fubini_study(circuit, np.repeat(parameters[None], 7, axis=0), features)
    np.testing.assert_allclose(rows, whole[0], atol=1e-14)


def test_cost_counts_the_angles_that_parameters_move():
    usage = metric_usage(shared(), 10)  # 4 of 6 angles
    assert (usage.executions, usage.hardware_executions) == (10 * 5, 10 * (4 + 4 * 6))


def test_nothing_to_average_over():
    with pytest.raises(ValueError, match="no sample"):
        quantum_fisher(shared(), np.zeros(3), np.zeros((0, 1)))
