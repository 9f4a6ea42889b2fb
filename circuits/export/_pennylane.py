"""To and from PennyLane.

Wire ``q`` is qubit ``q``; in PennyLane's state vectors wire 0 is the most significant bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.circuit import Circuit
from circuits.gates import Angle, Gate
from circuits.observables import Observable

if TYPE_CHECKING:
    from pennylane.operation import Operator

_FIXED = {
    "H": "Hadamard",
    "X": "PauliX",
    "Y": "PauliY",
    "Z": "PauliZ",
    "S": "S",
    "SX": "SX",
    "CX": "CNOT",
    "CY": "CY",
    "CZ": "CZ",
    "SWAP": "SWAP",
}
_ADJOINT = {"SDG": "S", "SXDG": "SX"}
_NATIVE = {"RX": "RX", "RY": "RY", "RZ": "RZ", "RXX": "IsingXX", "RYY": "IsingYY", "RZZ": "IsingZZ"}

_OURS = {name: ours for ours, name in (_FIXED | _NATIVE).items()}
_OURS |= {f"Adjoint({name})": ours for ours, name in _ADJOINT.items()}
_IDLE = ("Barrier", "GlobalPhase", "Identity", "Snapshot")
_MAX_NESTING = 64


def to_pennylane(circuit: Circuit) -> Callable[..., None]:
    """Return a PennyLane quantum function ``f(parameters=(), features=())`` that applies the circuit.

    Use it inside a ``QNode`` and measure after it. It differentiates through whatever array library its
    arguments come from; rows of arguments, ``(N, n_parameters)`` or ``(N, n_features)``, become a PennyLane
    broadcast.

    Args:
        circuit: the circuit; qubit ``q`` becomes wire ``q``.

    Raises:
        ValueError: the function is called with arrays of the wrong width.

    Source: own construction.
    """

    def apply_circuit(parameters: Any = (), features: Any = ()) -> None:
        import pennylane as qml

        theta = _array("parameters", parameters, circuit.n_parameters)
        x = _array("features", features, circuit.n_features)
        angles = [_angle(gate.angle, theta, x) for gate in circuit.rotations if gate.angle is not None]
        with qml.QueuingManager.stop_recording():
            operations = pennylane_operations(circuit, angles)
        for operation in operations:
            qml.apply(operation)

    return apply_circuit


def pennylane_operations(
    circuit: Circuit, angles: Iterable[Any], *, plain_words: bool = False
) -> list[Operator]:
    """Return the circuit as PennyLane operators.

    Args:
        circuit: the circuit.
        angles: one angle a rotation, each a number, ``()`` or ``(N,)``.
        plain_words: whether words beyond single letters are written as basis changes around one MultiRZ,
            which every device differentiates without taking it apart, instead of PennyLane's own rotations.
    """
    import pennylane as qml

    values = iter(angles)
    operations: list[Operator] = []
    if circuit.initial_state is not None:
        state = np.array(circuit.initial_state)
        wires = range(circuit.n_qubits - 1, -1, -1)
        operations.append(qml.StatePrep(state / np.linalg.norm(state), wires=wires))
    for gate in circuit.gates:
        if gate.is_rotation:
            operations += _rotation(gate, next(values), plain_words)
        elif gate.name in _ADJOINT:
            operations.append(qml.adjoint(getattr(qml, _ADJOINT[gate.name])(gate.qubits[0])))
        else:
            operations.append(getattr(qml, _FIXED[gate.name])(wires=list(gate.qubits)))
    return operations


def observable_to_pennylane(observable: Observable) -> Operator:
    """Return the observable as a PennyLane operator; character ``q`` of a word acts on wire ``q``.

    Args:
        observable: the observable; identities and repeated words carry over.
    """
    import pennylane as qml

    words = [word_to_pennylane(word) for word, _ in observable.terms]
    if len(words) == 1 and observable.terms[0][1] == 1.0:
        return words[0]
    return qml.dot([value for _, value in observable.terms], words)


def word_to_pennylane(word: str) -> Operator:
    """Return a Pauli word as a PennyLane operator."""
    import pennylane as qml

    factors = [getattr(qml, letter)(wire) for wire, letter in enumerate(word) if letter != "I"]
    if not factors:
        return qml.Identity(0)
    return factors[0] if len(factors) == 1 else qml.prod(*factors)


def from_pennylane(source: Any, *args: Any, wires: Sequence[Any] | None = None, **kwargs: Any) -> Circuit:
    """Return a PennyLane circuit in our gate set, equal as a state up to a global phase, with its numbers
    filled in.

    Operators are taken apart by their own decompositions; measurements at the end are dropped. A state
    prepared at the start becomes the initial state.

    Args:
        source: a ``QuantumScript`` (tape), a ``QNode``, or a quantum function.
        args: positional arguments of the QNode or function.
        wires: the wire labels in the order of our qubits; None means a QNode's device wires, else 0, 1, ...
            up to the largest integer label, else the order of first use.
        kwargs: keyword arguments of the QNode or function.

    Raises:
        TypeError: the source is none of these.
        ValueError: there are no wires, a wire is not listed, an operator has no decomposition or is a
            measurement amid the circuit or depends on one, or an argument is a batch.

    Source: own construction.
    """
    import pennylane as qml

    if isinstance(source, qml.tape.QuantumScript):
        if args or kwargs:
            raise ValueError("args: a tape holds its numbers; give arguments with a QNode or a function only")
        tape = source
    elif callable(source):
        function = source.func if isinstance(source, qml.QNode) else source
        tape = qml.tape.make_qscript(function)(*args, **kwargs)
        if wires is None and isinstance(source, qml.QNode) and source.device.wires:
            wires = list(source.device.wires)
    else:
        raise TypeError(
            f"source: {type(source).__name__} is no tape, QNode or quantum function; give one of them"
        )
    order = list(wires) if wires is not None else _wire_order(tape.wires.tolist())
    if not order:
        raise ValueError("source: uses no wires; apply at least one operator")
    qubits = {label: qubit for qubit, label in enumerate(order)}
    missing = [label for label in tape.wires.tolist() if label not in qubits]
    if missing:
        raise ValueError(f"wires: {missing[0]!r} is used but not listed; list every wire")
    operations = list(tape.operations)
    state = None
    if operations and isinstance(operations[0], qml.operation.StatePrepBase):
        vector = operations.pop(0).state_vector(wire_order=order[::-1])
        state = tuple(complex(value) for value in qml.math.toarray(vector).reshape(-1))
    gates: list[Gate] = []
    for operation in operations:
        _append(gates, operation, qubits, 0)
    return Circuit(len(order), tuple(gates), initial_state=state)


def _array(name: str, values: Any, width: int) -> Any:
    import pennylane as qml

    array = np.asarray(values, dtype=np.float64) if isinstance(values, list | tuple) else values
    shape = tuple(qml.math.shape(array))
    if len(shape) not in (1, 2) or shape[-1] != width:
        raise ValueError(f"{name}: shape {shape} does not fit; use ({width},) or (N, {width})")
    return array


def _angle(angle: Angle, theta: Any, x: Any) -> Any:
    import pennylane as qml

    total: Any = angle.constant
    for term in angle.terms:
        value: Any = 1.0 if term.parameter is None else theta[..., term.parameter]
        for index in term.features:
            value = value * x[..., index]
        if term.squash != "none":
            value = getattr(np if isinstance(value, float) else qml.math, term.squash)(value)
        total = total + term.coefficient * value
    return total


def _rotation(gate: Gate, angle: Any, plain_words: bool) -> list[Operator]:
    import pennylane as qml

    wires = list(gate.qubits)
    if len(wires) == 1 or (gate.name in _NATIVE and not plain_words):
        return [getattr(qml, _NATIVE[gate.name])(angle, wires=wires)]
    if not plain_words:
        return [qml.PauliRot(angle, gate.word, wires=wires)]
    before: list[Operator] = []
    after: list[Operator] = []
    for letter, wire in zip(gate.word, wires, strict=True):
        if letter == "Y":
            before.append(qml.adjoint(qml.S(wire)))
        if letter != "Z":
            before.append(qml.Hadamard(wire))
            after.append(qml.Hadamard(wire))
        if letter == "Y":
            after.append(qml.S(wire))
    return [*before, qml.MultiRZ(angle, wires=wires), *after]


def _wire_order(labels: list[Any]) -> list[Any]:
    if labels and all(isinstance(label, int | np.integer) and label >= 0 for label in labels):
        return list(range(max(labels) + 1))
    return labels


def _append(gates: list[Gate], operation: Any, qubits: dict[Any, int], nesting: int) -> None:
    name = operation.name
    if name in _IDLE:
        return
    if name in ("MidMeasureMP", "MidMeasure", "PauliMeasure") or name.startswith("Conditional"):
        raise ValueError(
            f"operator {name}: measurements amid the circuit are not supported; measure at the end"
        )
    if getattr(operation, "batch_size", None) is not None:
        raise ValueError(f"operator {name}: is a batch of {operation.batch_size}; give one sample")
    targets = tuple(qubits[label] for label in operation.wires)
    if name in _OURS:
        ours = _OURS[name]
        gates.append(Gate(ours, targets, Angle(_number(operation)) if ours in _NATIVE else None))
    elif name in ("PauliRot", "MultiRZ"):
        word = operation.hyperparameters["pauli_word"] if name == "PauliRot" else "Z" * len(targets)
        acting = [(letter, qubit) for letter, qubit in zip(word, targets, strict=True) if letter != "I"]
        if acting:
            letters, used = zip(*acting, strict=True)
            gates.append(Gate("R" + "".join(letters), used, Angle(_number(operation))))
    elif nesting < _MAX_NESTING and operation.has_decomposition:
        for part in operation.decomposition():
            _append(gates, part, qubits, nesting + 1)
    else:
        raise ValueError(
            f"operator {name}: has no decomposition into our gates; write it with rotations and Cliffords"
        )


def _number(operation: Any) -> float:
    import pennylane as qml

    return float(qml.math.toarray(operation.data[0]).reshape(()))
