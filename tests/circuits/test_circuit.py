"""The circuit description: what it refuses, what it counts, and that it means what it says."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from circuits import Angle, Circuit, Gate, Term, reuploading

RX = Gate("RX", (0,), Angle(0.5))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Circuit(0, ()), ValueError, "n_qubits: 0 is below 1; use an integer >= 1"),
        (lambda: Circuit(True, ()), TypeError, "n_qubits: True is not an integer"),
        (lambda: Circuit(2.0, ()), TypeError, "n_qubits: 2.0 is not an integer"),
        (lambda: Circuit(2, (), -1), ValueError, "n_features: -1 is below 0"),
        (lambda: Circuit(2, ("RX",)), TypeError, "gates\\[0\\]: 'RX' is not a Gate"),
        (
            lambda: Circuit(2, (RX, Gate("CZ", (0, 2)))),
            ValueError,
            "gates\\[1\\] CZ: qubit 2 is out of range",
        ),
        (
            lambda: Circuit(1, (Gate("RX", (0,), Angle(0.0, (Term(parameter=3),))),), 0, (("weights", 3),)),
            ValueError,
            "gates\\[0\\] RX: parameter 3 is out of range, groups hold 3",
        ),
        (
            lambda: Circuit(1, (Gate("RX", (0,), Angle(0.0, (Term(features=(1,)),))),), 1),
            ValueError,
            "gates\\[0\\] RX: feature 1 is out of range, n_features is 1",
        ),
        (lambda: Circuit(1, (), 0, (("a", 1), ("a", 2))), ValueError, "groups: 'a' occurs twice"),
        (lambda: Circuit(1, (), 0, (("a", 0),)), ValueError, "groups.a: 0 is below 1"),
        (lambda: Circuit(1, (), 0, (("a b", 1),)), ValueError, "groups: 'a b' is no identifier"),
        (lambda: Circuit(1, (), 0, ("weights",)), TypeError, "is not a \\(name, size\\) pair"),
        (lambda: Circuit(1, (), 0, (), (1.0,)), ValueError, "initial_state: 1 amplitudes for 1 qubits"),
        (lambda: Circuit(1, (), 0, (), (1.0, 1.0)), ValueError, "squared norm is 2, not 1"),
        (lambda: Circuit(1, (), 0, (), (float("nan"), 0.0)), ValueError, "squared norm is nan, not 1"),
        (lambda: Gate("RX", (0,)), ValueError, "Gate RX.angle: None, but a rotation needs one"),
        (lambda: Gate("CZ", (0, 1), Angle(1.0)), ValueError, "Gate CZ.angle: a fixed gate takes no angle"),
        (lambda: Gate("RX", (0,), 0.5), TypeError, "Gate RX.angle: 0.5 is not an Angle"),
        (lambda: Gate("CZ", (1, 1)), ValueError, "repeats a qubit"),
        (lambda: Gate("RZZ", (0,), Angle()), ValueError, "has 1 entries; give 2"),
        (lambda: Gate("H", (-1,)), ValueError, "Gate H.qubits: -1 is below 0"),
        (lambda: Gate("RW", (0,), Angle()), ValueError, "Gate.name: 'RW' is unknown"),
        (lambda: Gate("T", (0,)), ValueError, "Gate.name: 'T' is unknown"),
        (lambda: Gate("cz", (0, 1)), ValueError, "did you mean 'CZ'"),
        (lambda: Angle(float("nan")), ValueError, "Angle.constant: nan is not finite"),
        (lambda: Angle(0.0, (0.5,)), TypeError, "Angle.terms: 0.5 is not a Term"),
        (lambda: Term(float("inf")), ValueError, "Term.coefficient: inf is not finite"),
        (lambda: Term("2"), TypeError, "Term.coefficient: '2' is not a real number"),
        (lambda: Term(parameter=-1), ValueError, "Term.parameter: -1 is below 0"),
        (lambda: Term(parameter=False), TypeError, "Term.parameter: False is not an integer"),
        (lambda: Term(features=(0.5,)), TypeError, "Term.features: 0.5 is not an integer"),
        (lambda: Term(squash="tan"), ValueError, "Term.squash: 'tan' is unknown.*did you mean 'tanh'"),
        (lambda: reuploading(2, 1).group("head"), ValueError, "group: 'head' is unknown; the groups are"),
        (lambda: Circuit.from_dict({}), ValueError, "schema: None is not 'qrl-circuit/1'"),
        (
            lambda: Circuit.from_dict({"schema": "qrl-circuit/1"}),
            ValueError,
            "key 'initial_state' is missing",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(build, error, message):
    with pytest.raises(error, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_values_are_refused_where_they_enter():
    circuit = reuploading(2, 1)
    parameters, features = np.ones(circuit.n_parameters), np.ones(2)
    with pytest.raises(ValueError, match="features: a value is not finite"):
        circuit.angles(parameters, [np.nan, 0.0])
    with pytest.raises(ValueError, match=r"parameters: shape \(3,\) does not fit; use \(6,\) or \(N, 6\)"):
        circuit.angles(np.ones(3), features)
    with pytest.raises(ValueError, match="2 rows against 3 rows"):
        circuit.angles(np.ones((2, 6)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="a state vector belongs to one"):
        circuit.statevector(parameters, np.ones((2, 2)))


def test_a_state_vector_that_does_not_fit_is_refused_before_allocation():
    with pytest.raises(ValueError, match=f"45 qubits need {3 * 16 * 2**45} bytes"):
        reuploading(45, 1).statevector(np.zeros(45 * 3), np.zeros(45))


def test_the_digest_is_the_same_on_every_machine_and_tells_circuits_apart():
    circuit = reuploading(4, 5)
    assert circuit.digest == "5a59d2c0a529e50a9d641d14692f25c692b771e382e78880c2694224d56183ad"
    assert circuit.digest == reuploading(4, 5).digest
    assert len({circuit.digest, reuploading(4, 4).digest, reuploading(4, 5, squash="tanh").digest}) == 3
    assert Angle(-0.0) == Angle(0)
    zero, minus = (Circuit(1, (Gate("RX", (0,), Angle(value)),)) for value in (0, -0.0))
    assert zero.digest == minus.digest


def test_copies_are_equal_and_share_nothing_that_was_compiled():
    circuit = reuploading(3, 2)
    circuit.memo("something", lambda c: object())
    again = pickle.loads(pickle.dumps(circuit))
    assert again == circuit
    assert hash(again) == hash(circuit)
    assert "something" not in again._memo
    assert copy.deepcopy(circuit) is circuit


def test_numpy_numbers_are_numbers():
    gate = Gate("RX", (np.int64(0),), Angle(np.float32(0.5), (Term(parameter=np.int32(0)),)))
    circuit = Circuit(np.int64(1), (gate,), 0, (("weights", np.int64(1)),))
    assert circuit == Circuit(1, (Gate("RX", (0,), Angle(0.5, (Term(parameter=0),))),), 0, (("weights", 1),))
    assert type(circuit.n_qubits) is int


def test_angles_by_hand():
    terms = (Term(2.0, 0, (0,), "tanh"), Term(-1.0, None, (0, 1)), Term(0.5, 1), Term(3.0))
    circuit = Circuit(1, (Gate("RX", (0,), Angle(0.25, terms)), RX), 2, (("a", 1), ("b", 1)))
    theta, x = np.array([0.7, 0.2]), np.array([0.3, -2.0])
    wanted = 0.25 + 2 * np.tanh(0.7 * 0.3) + 0.6 + 0.1 + 3.0
    np.testing.assert_allclose(circuit.angles(theta, x), [[wanted, 0.5]], rtol=1e-15)
    jacobian = circuit.jacobian(theta, x)
    slope = 1 - np.tanh(0.21) ** 2
    np.testing.assert_allclose(jacobian.dense_parameters()[0, 0], [2 * slope * 0.3, 0.5], rtol=1e-14)
    np.testing.assert_allclose(jacobian.dense_features()[0, 0], [2 * slope * 0.7 + 2.0, -0.3], rtol=1e-14)
    assert not jacobian.dense_parameters()[0, 1].any()
    assert circuit.angles(np.ones((3, 2)), x).shape == (3, 2)


def test_groups_split_the_parameter_vector_in_order():
    circuit = reuploading(4, 5)
    assert circuit.groups == (("weights", 40), ("scales", 20))
    assert (circuit.group("weights"), circuit.group("scales")) == (slice(0, 40), slice(40, 60))
    assert circuit.n_parameters == circuit.n_angles == len(circuit.rotations) == 60


def test_depth_and_two_qubit_gates_are_counted():
    gates = (
        RX,
        Gate("CX", (0, 1)),
        Gate("H", (2,)),
        Gate("RXYZ", (0, 1, 2), Angle(1.0)),
        Gate("SWAP", (1, 2)),
    )
    circuit = Circuit(3, gates)
    assert circuit.two_qubit_count == 1 + 4 + 1
    assert circuit.depth == 4
    assert Circuit(2, ()).depth == 0


def test_states_are_little_endian():
    flipped = Circuit(3, (Gate("X", (1,)),)).statevector()
    np.testing.assert_array_equal(np.flatnonzero(flipped), [2])
    bell = Circuit(2, (Gate("H", (0,)), Gate("CX", (0, 1)))).statevector()
    np.testing.assert_allclose(bell, np.array([1, 0, 0, 1]) / np.sqrt(2), atol=1e-15)
    turned = Circuit(1, (Gate("RX", (0,), Angle(np.pi)),)).statevector()
    np.testing.assert_allclose(turned, [0, -1j], atol=1e-15)
    kept = Circuit(1, (), 0, (), (0.6, 0.8j)).statevector()
    np.testing.assert_array_equal(kept, [0.6, 0.8j])


def test_importing_circuits_loads_no_quantum_library_and_no_torch():
    code = "import sys, circuits; print([m for m in ('torch', 'qiskit', 'pennylane') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_an_unknown_attribute_is_an_attribute_error():
    import circuits

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = circuits.nothing
    assert circuits.__part_of__ == "qrl"
    assert set(circuits.__all__) <= {*dir(circuits), "BACKENDS", "get_backend"}
