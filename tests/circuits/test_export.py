"""Exporters and importers against our dense reference, Qiskit's state vectors and PennyLane's."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, transpile
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import Operator, Statevector, random_unitary
from qiskit_aer import AerSimulator

from circuits import Angle, Circuit, Gate, Observable, Term, reuploading
from circuits.export import (
    from_pennylane,
    from_qasm3,
    from_qiskit,
    observable_to_pennylane,
    observable_to_qiskit,
    to_pennylane,
    to_qasm3,
    to_qiskit,
)

State = NDArray[np.complex128]
Values = dict[str, NDArray[np.float64]]
VALUES = st.one_of(st.sampled_from([1.0, -1.0, 0.5]), st.floats(-4.0, 4.0))
FEW = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
X = np.array([0.9, -0.6, 1.7])


@dataclass(frozen=True)
class Point:
    """A circuit, a point in its variables, the same by group, and our state there."""

    circuit: Circuit
    theta: NDArray[np.float64]
    x: NDArray[np.float64]
    values: Values
    state: State


@pytest.fixture(scope="session")
def points(case_strategy: Any) -> st.SearchStrategy[Point]:
    """The strategy of random circuits with a point each."""

    def point(case: Any) -> Point:
        theta, x = case.parameters.numpy(), case.features[0].numpy()
        values = {name: theta[case.circuit.group(name)] for name, _ in case.circuit.groups}
        return Point(case.circuit, theta, x, values | {"features": x}, case.circuit.statevector(theta, x))

    return case_strategy(max_qubits=4, samples=1).map(point)


def random_state(generator: np.random.Generator, n_qubits: int) -> State:
    state = generator.normal(size=2**n_qubits) + 1j * generator.normal(size=2**n_qubits)
    return state / np.linalg.norm(state)


def distance(one: State, other: State) -> float:
    """Return the largest difference of amplitudes after the global phases have been aligned."""
    overlap = np.vdot(one, other)
    return float(np.abs(one * overlap / abs(overlap) - other).max())


def state_at(circuit: Circuit, values: Values) -> State:
    """Return the state of an imported circuit, whose groups may be shorter and in another order."""
    parts = [values[name][:size] for name, size in circuit.groups]
    return circuit.statevector(
        np.concatenate([*parts, np.zeros(0)]), values["features"][: circuit.n_features]
    )


def bound(circuit: QuantumCircuit, values: Values) -> QuantumCircuit:
    return circuit.assign_parameters({p: values[p.vector.name][p.index] for p in circuit.parameters})


# --- Qiskit


@FEW
@given(data=st.data())
def test_every_form_for_qiskit_is_the_same_state(points: Any, data: st.DataObject) -> None:
    case = data.draw(points)
    circuit, theta, x, values = case.circuit, case.theta, case.x, case.values
    forms = [
        to_qiskit(circuit, theta, x),
        bound(to_qiskit(circuit), values),
        bound(to_qiskit(circuit, theta), values),
        bound(to_qiskit(circuit, features=x), values),
        bound(to_qiskit(circuit, flat=True), {"angles": circuit.angles(theta, x)[0]}),
    ]
    for form in forms:
        assert np.abs(Statevector(form).data - case.state).max() < 1e-12


@FEW
@given(data=st.data())
def test_round_trips_through_qiskit_and_qasm(points: Any, data: st.DataObject) -> None:
    case = data.draw(points)
    for back in (from_qiskit(to_qiskit(case.circuit)), from_qasm3(to_qasm3(case.circuit))):
        assert distance(state_at(back, case.values), case.state) < 1e-12
    back = from_qasm3(to_qasm3(case.circuit, case.theta, case.x))
    assert (back.n_parameters, back.n_features) == (0, 0)
    assert distance(back.statevector(), case.state) < 1e-12


def test_round_trip_of_a_family_is_the_same_circuit() -> None:
    for squash in ("none", "tanh", "arctan"):
        circuit = reuploading(3, 2, squash=squash)
        back = from_qiskit(to_qiskit(circuit))
        # Qiskit sorts parameters by name, so the groups come back in that order.
        assert back.groups == tuple(sorted(circuit.groups))
        assert [gate.name for gate in back.gates] == [gate.name for gate in circuit.gates]
        theta = np.arange(circuit.n_parameters) / 10
        swapped = np.concatenate([theta[circuit.group(name)] for name, _ in back.groups])
        assert np.abs(back.angles(swapped, X) - circuit.angles(theta, X)).max() < 1e-15
        assert from_qasm3(to_qasm3(circuit)) == back


STANDARD = {
    "h": (1, 0), "t": (1, 0), "tdg": (1, 0), "sx": (1, 0), "p": (1, 1), "r": (1, 2), "u": (1, 3),
    "ch": (2, 0), "crx": (2, 1), "cry": (2, 1), "crz": (2, 1),
    "cp": (2, 1), "csx": (2, 0), "cs": (2, 0), "cu": (2, 4),
    "iswap": (2, 0), "dcx": (2, 0), "ecr": (2, 0), "rzx": (2, 1), "rxx": (2, 1), "ccx": (3, 0), "ccz": (3, 0),
    "cswap": (3, 0), "rccx": (3, 0),
}  # fmt: skip


@st.composite
def qiskit_circuits(draw: Any) -> QuantumCircuit:
    n_qubits = draw(st.integers(1, 4))
    theta, x = ParameterVector("weights", 3), ParameterVector("features", 3)
    result = QuantumCircuit(QuantumRegister(n_qubits, "data"), global_phase=draw(VALUES))
    for _ in range(draw(st.integers(0, 8))):
        name = draw(st.sampled_from([name for name, (size, _) in STANDARD.items() if size <= n_qubits]))
        size, count = STANDARD[name]
        order = draw(st.permutations(range(n_qubits)))[:size]
        k, shift, factor = draw(st.integers(0, 2)), draw(VALUES), draw(VALUES)
        choices = [
            shift,
            theta[k],
            factor * theta[k] + shift,
            theta[k] * x[k] - x[0] / 2,
            factor * x[k].arctan(),
        ]
        angles = [choices[draw(st.integers(0, 4))] for _ in range(count)]
        getattr(result, name)(*angles, *order)
    if n_qubits > 1 and draw(st.booleans()):
        result.unitary(random_unitary(4, seed=draw(st.integers(0, 99))), [0, 1])
    return result


@FEW
@given(qiskit_circuits())
def test_qiskit_to_ours_to_qiskit(circuit: QuantumCircuit) -> None:
    values = {"weights": np.array([0.3, -1.2, 2.1]), "features": X}
    ours = from_qiskit(circuit)
    expected = Statevector(bound(circuit, values)).data
    assert distance(state_at(ours, values), expected) < 1e-12
    assert distance(Statevector(bound(to_qiskit(ours), values)).data, expected) < 1e-12


@pytest.mark.parametrize("word", ["X", "ZX", "XZ", "XX", "YZ", "ZZZ", "XYZ", "YYXZ"])
def test_words_are_exact_unitaries(word: str) -> None:
    qubits = tuple(range(len(word)))[::-1]
    circuit = to_qiskit(Circuit(len(word), (Gate(f"R{word}", qubits, Angle(0.8)),)))
    # Letter k acts on qubit n - 1 - k, so the word itself is Qiskit's label.
    pauli = Operator.from_label(word).data
    expected = math.cos(0.4) * np.eye(len(pauli)) - 1j * math.sin(0.4) * pauli
    assert np.abs(Operator(circuit).data - expected).max() < 1e-14


def test_aer_runs_the_export() -> None:
    words = (Gate("RXYZ", (0, 2, 1), Angle(0.7)), Gate("RXZ", (0, 1), Angle(0.3)), Gate("SXDG", (2,)))
    plain = Circuit(3, (*reuploading(3, 1).gates, *words), 3, reuploading(3, 1).groups)
    theta = np.linspace(-1, 1, plain.n_parameters)
    simulator = AerSimulator(method="statevector")
    circuit = to_qiskit(plain, theta, X)
    circuit.save_statevector()
    state = simulator.run(circuit).result().get_statevector().data
    assert np.abs(state - plain.statevector(theta, X)).max() < 1e-12
    prepared = Circuit(2, (), initial_state=tuple(random_state(np.random.default_rng(0), 2).tolist()))
    circuit = to_qiskit(prepared)
    circuit.save_statevector()
    state = simulator.run(transpile(circuit, simulator)).result().get_statevector().data
    assert np.abs(state - prepared.statevector()).max() < 1e-12


def test_tanh_does_not_overflow() -> None:
    circuit = Circuit(1, (Gate("RX", (0,), Angle(0.0, (Term(1.0, 0, (0,), "tanh"),))),), 1, (("w", 1),))
    exported = to_qiskit(circuit)
    for value in (-1e4, -30.0, 1e-9, 30.0, 1e4):
        filled = exported.assign_parameters(
            {p: value if p.vector.name == "w" else 1.0 for p in exported.parameters}
        )
        assert abs(float(filled.data[0].operation.params[0]) - math.tanh(value)) < 1e-15


def test_observables_read_from_right_to_left_in_qiskit() -> None:
    observable = Observable((("ZIX", 0.5), ("III", 2.0), ("ZIX", 0.25)))
    exported = observable_to_qiskit(observable)
    assert exported.to_list() == [("XIZ", 0.5), ("III", 2.0), ("XIZ", 0.25)]
    state = random_state(np.random.default_rng(1), 3)
    value = Statevector(state).expectation_value(exported).real
    assert (
        abs(value - 0.75 * Statevector(state).expectation_value(Operator.from_label("XIZ")).real - 2.0)
        < 1e-12
    )


def test_parameters_become_groups() -> None:
    theta, x, loose = ParameterVector("theta", 4), ParameterVector("inputs", 2), Parameter("$\\phi$")
    a, b = Parameter("a_0"), Parameter("a_1")
    circuit = QuantumCircuit(1)
    circuit.rx(2 * theta[2] * x[1] - 0.5, 0)
    circuit.ry(loose + a - 3 * b, 0)
    ours = from_qiskit(circuit, features="inputs")
    assert ours.groups == (("phi", 1), ("a", 2), ("theta", 4))
    assert ours.n_features == 2
    assert ours.gates[0].angle == Angle(-0.5, (Term(2.0, 5, (1,)),))
    assert ours.gates[1].angle == Angle(0.0, (Term(1.0, 0), Term(1.0, 1), Term(-3.0, 2)))


def test_preparations_at_the_start_become_the_initial_state() -> None:
    state = random_state(np.random.default_rng(2), 2)
    for method in ("initialize", "prepare_state"):
        circuit = QuantumCircuit(2)
        getattr(circuit, method)(state, [1, 0])
        circuit.h(0)
        ours = from_qiskit(circuit)
        assert ours.initial_state is not None
        assert len(ours.gates) == 1
        swapped = state.reshape(2, 2).T.reshape(-1)
        assert np.abs(np.array(ours.initial_state) - swapped).max() < 1e-12
    circuit = QuantumCircuit(4)
    circuit.prepare_state(state, [2, 1])
    circuit.initialize("-", 0)
    circuit.h(3)
    ours = from_qiskit(circuit)
    assert [gate.name for gate in ours.gates] == ["H"]
    expected = QuantumCircuit(4)
    expected.prepare_state(state, [2, 1])
    expected.x(0)
    expected.h(0)
    expected.h(3)
    assert distance(ours.statevector(), Statevector(expected).data) < 1e-12
    circuit.prepare_state([0, 1], 3)
    assert (
        distance(from_qiskit(circuit).statevector(), Statevector(expected.compose(_preparation())).data)
        < 1e-12
    )


def _preparation() -> QuantumCircuit:
    circuit = QuantumCircuit(4)
    circuit.prepare_state([0, 1], 3)
    return circuit


def test_final_measurements_barriers_and_idling_are_dropped() -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.barrier()
    circuit.delay(10, 1)
    circuit.id(0)
    circuit.measure_all()
    assert [gate.name for gate in from_qiskit(circuit).gates] == ["H"]


def refused() -> dict[str, QuantumCircuit]:
    """Return circuits that no import can express, by the word that the message must contain."""
    bits = (QuantumRegister(2), ClassicalRegister(1))
    measured, reset, controlled, initialized = (QuantumCircuit(*bits) for _ in range(4))
    measured.measure(0, 0)
    measured.h(0)
    reset.h(0)
    reset.reset(0)
    with controlled.if_test((controlled.clbits[0], 1)):
        controlled.x(0)
    initialized.h(0)
    initialized.initialize([0, 1], 0)
    nested = QuantumCircuit(2)
    nested.append(_with_reset(), [0])
    saved = QuantumCircuit(1)
    saved.save_statevector()
    saved.x(0)
    return {
        "measure: a measurement amid": measured,
        "instruction 1 reset: a reset amid": reset,
        "if_else: classical control": controlled,
        "initialize: a reset amid": initialized,
        "reset: a reset amid": nested,
        "save_statevector": saved,
        "no qubits": QuantumCircuit(0),
    }


def _with_reset() -> Any:
    inner = QuantumCircuit(1, name="inner")
    inner.h(0)
    inner.reset(0)
    return inner.to_instruction()


@pytest.mark.parametrize(("message", "circuit"), refused().items())
def test_refused_by_name(message: str, circuit: QuantumCircuit) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        from_qiskit(circuit)
    assert "\n" not in str(raised.value)


A, B, F = Parameter("a"), Parameter("b"), ParameterVector("features", 2)


@pytest.mark.parametrize(
    "formula",
    [
        A * B,
        A**-1,
        1 / A,
        A.sin(),
        A.abs(),
        (2 * A).arctan(),
        A.exp(),
        (A * F[0]).arctan() * B,
        A**0.5,
        A.arctan() ** 2,
    ],
)
def test_formulas_outside_ours_are_refused(formula: Any) -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(formula, 0)
    with pytest.raises(ValueError, match=r"instruction 0 rx: angle .* is no sum of"):
        from_qiskit(circuit)


@pytest.mark.parametrize(
    ("formula", "terms"),
    [
        (
            (A + F[0]) * (F[0] - 2) + 2 * A,
            (Term(1.0, 0, (0,)), Term(-2.0, None, (0,)), Term(1.0, None, (0, 0))),
        ),
        (F[0] ** 3 / 4, (Term(0.25, None, (0, 0, 0)),)),
        (-((-A * F[1]).arctan()), (Term(1.0, 0, (1,), "arctan"),)),
        (1 - 2 / (1 + (2 * A * F[1]).exp()), (Term(1.0, 0, (1,), "tanh"),)),
        (A - A, ()),
        (1e-9 * A + 1e12 * F[1], (Term(1e-9, 0), Term(1e12, None, (1,)))),
    ],
)
def test_formulas_that_are_ours(formula: Any, terms: tuple[Term, ...]) -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(formula, 0)
    angle = from_qiskit(circuit).gates[0].angle
    assert angle is not None
    assert angle.terms == terms
    assert angle.constant == 0.0


def test_arguments_of_to_qiskit() -> None:
    circuit = reuploading(2, 1)
    with pytest.raises(ValueError, match="flat"):
        to_qiskit(circuit, np.zeros(6), flat=True)
    with pytest.raises(ValueError, match=r"parameters: shape \(5,\)"):
        to_qiskit(circuit, np.zeros(5))
    with pytest.raises(ValueError, match="not finite"):
        to_qiskit(circuit, np.full(6, np.nan))
    with pytest.raises(ValueError, match="one row"):
        to_qiskit(circuit, np.zeros(6), np.zeros((2, 2)))
    clash = Circuit(1, (), 1, (("features", 1),))
    with pytest.raises(ValueError, match="rename the group"):
        to_qiskit(clash)
    with pytest.raises(TypeError, match="QuantumCircuit"):
        from_qiskit("circuit")  # type: ignore[arg-type]


def test_names_that_meet_are_refused() -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("a_0") + ParameterVector("a", 2)[0], 0)
    with pytest.raises(ValueError, match="rename one"):
        from_qiskit(circuit)


# --- OpenQASM 3


def test_qasm_is_plain_openqasm() -> None:
    circuit = reuploading(2, 1, squash="arctan")
    text = to_qasm3(circuit)
    assert "input float[64] weights_0;" in text
    assert "arctan(scales_0*features_0)" in text.replace("features_0*scales_0", "scales_0*features_0")
    assert "input float[64] angles_5;" in to_qasm3(circuit, flat=True)
    assert "input" not in to_qasm3(circuit, np.zeros(6), np.zeros(2))


def test_foreign_qasm() -> None:
    ours = from_qasm3(
        """
        OPENQASM 3.0;
        include "stdgates.inc";
        input float w;
        input angle features_1;
        gate twice(t) a { rx(t) a; rx(t) a; }
        qubit[2] q;
        bit[2] c;
        h q[0];
        cp(pi / 2) q[0], q[1];
        twice(w) q[1];
        ry(-2 * arctan(w * features_1) + sin(pi / 6)) q[0];
        c = measure q;
        """
    )
    assert ours.groups == (("w", 1),)
    assert ours.n_features == 2
    (last,) = (gate for gate in ours.gates if gate.name == "RY")
    assert last.angle is not None
    assert last.angle.terms == (Term(-2.0, 0, (1,), "arctan"),)
    assert abs(last.angle.constant - 0.5) < 1e-15
    expected = QuantumCircuit(2)
    expected.h(0)
    expected.cp(math.pi / 2, 0, 1)
    expected.rx(0.8, 1)
    expected.ry(-2 * math.atan(0.4 * 0.3) + 0.5, 0)
    assert distance(ours.statevector([0.4], [0.0, 0.3]), Statevector(expected).data) < 1e-12


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OPENQASM 3.0; qubit[2] q; nonsense q[0];",
        "OPENQASM 3.0; qubit[2] q; h q[0",
        'OPENQASM 3.0; include "stdgates.inc"; qubit q; rx(mod(3, 2)) q;',
        'OPENQASM 3.0; include "stdgates.inc"; qubit q; reset q; h q; reset q;',
    ],
)
def test_bad_qasm_is_one_line(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError) as raised:
        from_qasm3(text)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(TypeError, match="string"):
        from_qasm3(text.encode())  # type: ignore[arg-type]


# --- PennyLane


def pennylane_state(circuit: Circuit, *arguments: Any) -> State:
    apply = to_pennylane(circuit)

    @qml.qnode(qml.device("default.qubit", wires=range(circuit.n_qubits)))
    def node(parameters: Any, features: Any) -> Any:
        apply(parameters, features)
        return qml.state()

    state = np.asarray(qml.math.toarray(node(*arguments)))
    return state.reshape((2,) * circuit.n_qubits).transpose().reshape(-1)


@FEW
@given(data=st.data())
def test_round_trip_through_pennylane(points: Any, data: st.DataObject) -> None:
    case = data.draw(points)
    for convert in (np.asarray, torch.as_tensor):
        state = pennylane_state(case.circuit, convert(case.theta), convert(case.x))
        assert np.abs(state - case.state).max() < 1e-12
    back = from_pennylane(to_pennylane(case.circuit), case.theta, case.x, wires=range(case.circuit.n_qubits))
    assert distance(back.statevector(), case.state) < 1e-12


def test_pennylane_function_differentiates_and_broadcasts() -> None:
    circuit = reuploading(2, 2, squash="tanh")
    apply = to_pennylane(circuit)

    @qml.qnode(qml.device("default.qubit", wires=2))
    def node(parameters: Any, features: Any) -> Any:
        apply(parameters, features)
        return qml.expval(observable_to_pennylane(Observable((("ZZ", 0.5), ("II", 1.0)))))

    theta = torch.linspace(-1, 1, circuit.n_parameters, dtype=torch.float64, requires_grad=True)
    features = torch.tensor([[0.1, 0.2], [0.3, -0.5], [1.0, 2.0]], dtype=torch.float64)
    values = node(theta, features)
    assert values.shape == (3,)
    assert torch.autograd.gradcheck(lambda t: node(t, features), (theta,))
    diagonal = np.array([1.5, 0.5, 0.5, 1.5])
    for row, value in zip(features.numpy(), values.detach().numpy(), strict=True):
        probabilities = np.abs(circuit.statevector(theta.detach().numpy(), row)) ** 2
        assert abs(probabilities @ diagonal - value) < 1e-12
    for wrong in ((theta[:-1], features), (theta, features[:, :1])):
        with pytest.raises(ValueError, match="does not fit"):
            node(*wrong)


def foreign() -> list[Any]:
    """Return operators on wires a, b, c whose decompositions take several steps."""
    wires = ["a", "b", "c"]
    return [
        qml.StatePrep(random_state(np.random.default_rng(3), 3), wires=wires),
        qml.Rot(0.1, 0.2, 0.3, "a"),
        qml.CRX(0.4, ["c", "a"]),
        qml.ControlledPhaseShift(0.5, ["a", "b"]),
        qml.PauliRot(0.6, "XIY", wires=wires),
        qml.MultiRZ(0.7, wires=wires),
        qml.Toffoli(wires=wires),
        qml.adjoint(qml.T("b")),
        qml.ISWAP(["a", "c"]),
        qml.QubitUnitary(random_unitary(4, seed=4).data, ["b", "c"]),
        qml.DoubleExcitation(0.2, [*wires, "d"]),
        qml.QFT(wires=wires),
        qml.GlobalPhase(0.3),
        qml.ctrl(qml.GlobalPhase(0.8), "a"),
        qml.Barrier(wires),
        qml.IsingXY(0.9, ["a", "d"]),
        qml.BasisEmbedding([0], wires=["d"]),
        qml.U3(0.1, 0.2, 0.3, "d"),
    ]


def test_foreign_tape_with_named_wires() -> None:
    wires = ["a", "b", "c", "d"]
    tape = qml.tape.QuantumScript(foreign(), [qml.state()])
    ours = from_pennylane(tape, wires=wires)
    (expected,) = qml.execute([tape], qml.device("default.qubit", wires=wires))
    expected = np.asarray(expected).reshape((2,) * 4).transpose().reshape(-1)
    assert distance(ours.statevector(), expected) < 1e-12
    assert ours.initial_state is not None


def test_wires_of_a_qnode_and_of_a_function() -> None:
    def function(x: float) -> Any:
        qml.RX(x, 2)
        return qml.expval(qml.Z(2))

    node = qml.QNode(function, qml.device("default.qubit", wires=[2, 1, 0, 5]))
    assert from_pennylane(node, 0.3) == Circuit(4, (Gate("RX", (0,), Angle(0.3)),))
    assert from_pennylane(function, 0.3) == Circuit(3, (Gate("RX", (2,), Angle(0.3)),))
    with pytest.raises(ValueError, match="wires: 2 is used but not listed"):
        from_pennylane(function, 0.3, wires=[0, 1])


def test_what_pennylane_cannot_hand_over() -> None:
    def measured() -> None:
        qml.measure(0)

    def batch() -> None:
        qml.RX(np.array([0.1, 0.2]), 0)

    with pytest.raises(ValueError, match="measurements amid the circuit"):
        from_pennylane(measured)
    with pytest.raises(ValueError, match="is a batch of 2"):
        from_pennylane(batch)
    with pytest.raises(ValueError, match="no wires"):
        from_pennylane(lambda: None)
    with pytest.raises(ValueError, match="AmplitudeDamping: has no decomposition"):
        from_pennylane(qml.tape.QuantumScript([qml.AmplitudeDamping(0.1, 0)]))
    with pytest.raises(ValueError, match="a tape holds its numbers"):
        from_pennylane(qml.tape.QuantumScript([qml.RX(0.1, 0)]), 0.3)
    with pytest.raises(TypeError, match="no tape, QNode or quantum function"):
        from_pennylane(3)


def test_export_loads_the_libraries_on_first_use() -> None:
    code = (
        "import sys, circuits.export, circuits.drawing;"
        "assert not {'qiskit', 'pennylane', 'matplotlib', 'torch', 'openqasm3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
