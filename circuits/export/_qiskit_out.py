"""From our circuits and observables to Qiskit's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from circuits.circuit import Circuit
from circuits.gates import Angle, Gate, Term
from circuits.observables import Observable

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.quantum_info import SparsePauliOp

FEATURES = "features"
"""Name of the exported feature vector."""

ANGLES = "angles"
"""Name of the exported vector of flat angles."""

FIXED = {
    "H": "h",
    "X": "x",
    "Y": "y",
    "Z": "z",
    "S": "s",
    "SDG": "sdg",
    "SX": "sx",
    "SXDG": "sxdg",
    "CX": "cx",
    "CY": "cy",
    "CZ": "cz",
    "SWAP": "swap",
}
"""Our fixed gates and Qiskit's names for them."""

ROTATIONS = {
    "RX": "rx",
    "RY": "ry",
    "RZ": "rz",
    "RXX": "rxx",
    "RYY": "ryy",
    "RZZ": "rzz",
    "RZX": "rzx",
}
"""The Pauli-word rotations that Qiskit has as gates; they agree with ours in sign, factor and qubit order."""

Vector = Callable[[str, int], Sequence[Any]]


def to_qiskit(
    circuit: Circuit,
    parameters: ArrayLike | None = None,
    features: ArrayLike | None = None,
    *,
    flat: bool = False,
) -> QuantumCircuit:
    r"""Return the unmeasured Qiskit circuit, with numbers where values are given and symbols where they are
    not.

    What is left open becomes one ``ParameterVector`` per parameter group, named like the group, and one named
    ``features``. The angle formulas are exact: arctan is Qiskit's, and :math:`\tanh u = 1 - 2 / (1 +
    e^{2u})`. With ``flat`` every angle is one entry of the vector ``angles`` instead, in the order of
    ``Circuit.angles``; fill it with a row of that. Entries that no gate reads do not occur in the result.

    Pauli words that Qiskit has no gate for are written as basis changes around a CX ladder and one RZ. An
    initial state becomes a ``StatePreparation`` in front, so AerSimulator needs ``transpile`` before it runs
    such a circuit.

    Args:
        circuit: the circuit.
        parameters: ``(n_parameters,)``, or None to keep them symbolic.
        features: ``(n_features,)``, or None to keep them symbolic.
        flat: whether to export one symbol an angle; parameters and features must then be None.

    Raises:
        ValueError: a shape does not fit, a value is not finite, values are given together with ``flat``, or a
            group is called ``features`` while features are symbolic.

    Source: own construction.
    """
    from qiskit.circuit import ParameterVector

    return build_qiskit(circuit, parameters, features, flat, ParameterVector)


def build_qiskit(
    circuit: Circuit,
    parameters: ArrayLike | None,
    features: ArrayLike | None,
    flat: bool,
    vector: Vector,
) -> QuantumCircuit:
    """Return the Qiskit circuit with symbols made by ``vector(name, size)``; see ``to_qiskit``."""
    from qiskit import QuantumCircuit

    angles = iter(_angles(circuit, parameters, features, flat, vector))
    result = QuantumCircuit(circuit.n_qubits)
    if circuit.initial_state is not None:
        state = np.array(circuit.initial_state)
        result.prepare_state(state / np.linalg.norm(state), range(circuit.n_qubits))
    for gate in circuit.gates:
        if gate.is_rotation:
            _rotate(result, gate, next(angles))
        else:
            getattr(result, FIXED[gate.name])(*gate.qubits)
    return result


def observable_to_qiskit(observable: Observable) -> SparsePauliOp:
    """Return the observable as a ``SparsePauliOp``; character ``q`` of our word is character ``n - 1 - q`` of
    Qiskit's.

    Args:
        observable: the observable; identities and repeated words carry over.
    """
    from qiskit.quantum_info import SparsePauliOp

    return SparsePauliOp.from_list([(word[::-1], value) for word, value in observable.terms])


def _angles(
    circuit: Circuit,
    parameters: ArrayLike | None,
    features: ArrayLike | None,
    flat: bool,
    vector: Vector,
) -> list[Any]:
    if flat:
        if parameters is not None or features is not None:
            raise ValueError("flat: True leaves every angle open; drop parameters and features, or flat")
        return list(vector(ANGLES, circuit.n_angles))
    theta_given = parameters is not None or circuit.n_parameters == 0
    x_given = features is not None or circuit.n_features == 0
    if theta_given and x_given:
        rows = circuit.angles(() if parameters is None else parameters, () if features is None else features)
        if len(rows) != 1:
            raise ValueError(
                f"features: {len(rows)} samples, but a bound circuit belongs to one; give one row"
            )
        return [float(value) for value in rows[0]]
    if not x_given and any(name == FEATURES for name, _ in circuit.groups):
        raise ValueError(f"groups: {FEATURES!r} is the name of the exported features; rename the group")
    theta = (
        _numbers("parameters", parameters, circuit.n_parameters)
        if parameters is not None
        else [symbol for name, size in circuit.groups for symbol in vector(name, size)]
    )
    x = (
        _numbers("features", features, circuit.n_features)
        if features is not None
        else vector(FEATURES, circuit.n_features)
    )
    return [_expression(gate.angle, theta, x) for gate in circuit.rotations if gate.angle is not None]


def _numbers(name: str, values: ArrayLike, size: int) -> list[float]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape not in ((size,), (1, size)):
        raise ValueError(f"{name}: shape {array.shape} does not fit; use ({size},)")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: a value is not finite; use finite numbers")
    return [float(value) for value in array.reshape(-1)]


def _expression(angle: Angle, theta: Sequence[Any], x: Sequence[Any]) -> Any:
    value: Any = angle.constant
    for term in angle.terms:
        summand = _term(term, theta, x)
        # A bare symbol reads better than 0.0 + symbol.
        value = summand if isinstance(value, float) and value == 0.0 else value + summand
    return value


def _term(term: Term, theta: Sequence[Any], x: Sequence[Any]) -> Any:
    value: Any = 1.0 if term.parameter is None else theta[term.parameter]
    for index in term.features:
        value = x[index] if isinstance(value, float) and value == 1.0 else value * x[index]
    if term.squash == "tanh":
        value = math.tanh(value) if isinstance(value, float) else 1 - 2 / (1 + (2 * value).exp())
    elif term.squash == "arctan":
        value = math.atan(value) if isinstance(value, float) else value.arctan()
    return value if term.coefficient == 1.0 else term.coefficient * value


def _rotate(result: QuantumCircuit, gate: Gate, angle: Any) -> None:
    if gate.name in ROTATIONS:
        getattr(result, ROTATIONS[gate.name])(angle, *gate.qubits)
        return
    if gate.name == "RXZ":
        result.rzx(angle, *reversed(gate.qubits))
        return
    pairs = list(zip(gate.word, gate.qubits, strict=True))
    for letter, qubit in pairs:
        if letter == "Y":
            result.sdg(qubit)
        if letter != "Z":
            result.h(qubit)
    ladder = list(zip(gate.qubits[:-1], gate.qubits[1:], strict=True))
    for control, target in ladder:
        result.cx(control, target)
    result.rz(angle, gate.qubits[-1])
    for control, target in reversed(ladder):
        result.cx(control, target)
    for letter, qubit in pairs:
        if letter != "Z":
            result.h(qubit)
        if letter == "Y":
            result.s(qubit)
