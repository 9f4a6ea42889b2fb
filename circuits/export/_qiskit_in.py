"""From Qiskit's circuits to ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from circuits.circuit import Circuit
from circuits.export._expressions import Symbol, read_angle
from circuits.export._qiskit_out import FEATURES, FIXED, ROTATIONS
from circuits.gates import Gate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qiskit import QuantumCircuit
    from qiskit.circuit import Parameter

BASIS = (*FIXED.values(), *ROTATIONS.values())
"""Qiskit's names of the gates that both sides have."""

_OURS = {name: ours for ours, name in (FIXED | ROTATIONS).items()}
_IDLE = ("barrier", "delay", "id")
_PREPARATIONS = ("initialize", "state_preparation")
_ENTRY = re.compile(r"_?([^\W\d]\w*?)_(\d+)_?")


def from_qiskit(circuit: QuantumCircuit, *, features: str = FEATURES) -> Circuit:
    """Return a Qiskit circuit in our gate set, equal as a state up to a global phase.

    Free parameters become ours: a ``ParameterVector`` is a group of its name and length, a loose
    ``Parameter`` called ``NAME_3`` is entry 3 of the group ``NAME``, and any other one is a group of size 1;
    groups stand in Qiskit's order of parameters. The group called ``features`` becomes the features. Angles
    may be sums of coefficient * parameter * features, plain or inside arctan or tanh. Final measurements,
    barriers, delays and identities are dropped; states prepared on untouched qubits become the initial state.
    Gates on different qubits may change their order.

    Args:
        circuit: the Qiskit circuit.
        features: name of the vector that holds the features.

    Raises:
        TypeError: the argument is no ``QuantumCircuit``.
        ValueError: there are no qubits, an operation is no gate (a measurement amid the circuit, a reset,
            classical control), an angle's formula is none of ours, or two parameters claim the same entry.

    Source: own construction.
    """
    from qiskit import QuantumCircuit

    if not isinstance(circuit, QuantumCircuit):
        raise TypeError(
            f"circuit: {type(circuit).__name__} is not a QuantumCircuit; use qiskit.QuantumCircuit"
        )
    if circuit.num_qubits == 0:
        raise ValueError("circuit: has no qubits; use at least 1")
    # Qiskit's function reorders gates on different qubits, so it is not called in vain.
    measured = "measure" in circuit.count_ops()
    body = circuit.remove_final_measurements(inplace=False) if measured else circuit
    body, state = _split_preparation(body)
    _refuse(body)
    translated = _translate(body)
    symbols, groups, n_features = _symbols(translated.parameters, features)
    gates: list[Gate] = []
    for position, instruction in enumerate(translated.data):
        name = instruction.operation.name
        qubits = tuple(translated.find_bit(qubit).index for qubit in instruction.qubits)
        ours = _OURS[name]
        if ours in FIXED:
            gates.append(Gate(ours, qubits))
        else:
            angle = read_angle(f"instruction {position} {name}", instruction.operation.params[0], symbols)
            gates.append(Gate(ours, qubits, angle))
    return Circuit(circuit.num_qubits, tuple(gates), n_features, groups, state)


def _refuse(circuit: QuantumCircuit) -> None:
    from qiskit.circuit import ControlFlowOp

    for position, instruction in enumerate(circuit.data):
        name = instruction.operation.name
        where = f"instruction {position} {name}"
        if isinstance(instruction.operation, ControlFlowOp) or name == "store":
            raise ValueError(f"{where}: classical control is not supported; unroll it into gates")
        if name == "measure":
            raise ValueError(f"{where}: a measurement amid the circuit is not supported; measure at the end")
        if name in ("reset", "initialize"):
            raise ValueError(
                f"{where}: a reset amid the circuit is not supported; start with a prepared state"
            )


def _split_preparation(circuit: QuantumCircuit) -> tuple[QuantumCircuit, tuple[complex, ...] | None]:
    """Return the circuit without idling and leading preparations, and the state that these prepare."""
    from qiskit.quantum_info import Statevector

    rest, prepared = circuit.copy_empty_like(), circuit.copy_empty_like()
    touched: set[object] = set()
    for instruction in circuit.data:
        operation = instruction.operation
        if operation.name in _IDLE:
            continue
        if operation.name in _PREPARATIONS and touched.isdisjoint(instruction.qubits):
            # Initialize is a reset, which does nothing at the start, and then this preparation.
            parts = [instruction.operation for instruction in operation.definition.data]
            preparation = operation if operation.name == "state_preparation" else parts[-1]
            prepared.append(preparation, instruction.qubits)
        else:
            rest.append(instruction)
        touched.update(instruction.qubits)
    if not prepared.data:
        return rest, None
    prepared.global_phase = 0
    return rest, tuple(complex(value) for value in Statevector(prepared).data)


def _translate(circuit: QuantumCircuit) -> QuantumCircuit:
    from qiskit import transpile
    from qiskit.exceptions import QiskitError

    if all(instruction.operation.name in _OURS for instruction in circuit.data):
        # The transpiler would only reorder gates on different qubits.
        return circuit
    try:
        result = transpile(circuit, basis_gates=list(BASIS), optimization_level=0)
    except QiskitError as error:
        raise ValueError(f"circuit: Qiskit cannot translate it to our gates: {_line(error)}") from None
    # Composite instructions are only now unrolled.
    _refuse(result)
    for position, instruction in enumerate(result.data):
        name = instruction.operation.name
        if name not in _OURS:
            raise ValueError(f"instruction {position} {name}: is no gate of ours; remove it before importing")
    return result


def _line(error: Exception) -> str:
    return " ".join(str(getattr(error, "message", error)).split())


def _symbols(
    parameters: Iterable[Parameter], features: str
) -> tuple[dict[Parameter, Symbol], tuple[tuple[str, int], ...], int]:
    entries: dict[Parameter, tuple[str, int]] = {}
    sizes: dict[str, int] = {}
    taken: dict[tuple[str, int], Parameter] = {}
    for parameter in parameters:
        name, index, size = _entry(parameter)
        if (name, index) in taken:
            raise ValueError(
                f"parameter {parameter.name!r}: meets {taken[name, index].name!r} as entry {index} of"
                f" {name!r}; rename one"
            )
        taken[name, index] = parameter
        entries[parameter] = (name, index)
        sizes[name] = max(sizes.get(name, 0), size)
    n_features = sizes.pop(features, 0)
    starts: dict[str, int] = {}
    for name in sizes:
        starts[name] = sum(sizes[known] for known in starts)
    symbols = {
        parameter: Symbol(index, True) if name == features else Symbol(starts[name] + index, False)
        for parameter, (name, index) in entries.items()
    }
    return symbols, tuple(sizes.items()), n_features


def _entry(parameter: Parameter) -> tuple[str, int, int]:
    from qiskit.circuit import ParameterVectorElement

    if isinstance(parameter, ParameterVectorElement):
        vector = parameter.vector
        return _identifier(vector.name), parameter.index, len(vector)
    match = _ENTRY.fullmatch(parameter.name)
    if match:
        return match[1], int(match[2]), int(match[2]) + 1
    return _identifier(parameter.name), 0, 1


def _identifier(name: str) -> str:
    # Groups are attributes of a layer, and names such as "$\theta$" are usual in Qiskit.
    plain = re.sub(r"\W+", "_", name).strip("_") or "parameter"
    return plain if plain.isidentifier() else f"p_{plain}"
