"""The dense reference: one gate after the other as an explicit matrix on a NumPy tensor, in complex128."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.gates import Gate

if TYPE_CHECKING:
    from circuits.circuit import Circuit

Matrix = NDArray[np.complex128]

PAULIS: dict[str, Matrix] = {
    "I": np.eye(2, dtype=np.complex128),
    "X": np.array([[0, 1], [1, 0]], dtype=np.complex128),
    "Y": np.array([[0, -1j], [1j, 0]], dtype=np.complex128),
    "Z": np.array([[1, 0], [0, -1]], dtype=np.complex128),
}
"""The Pauli matrices and the identity."""

_SINGLE: dict[str, Matrix] = {
    **PAULIS,
    "H": np.array([[1, 1], [1, -1]], dtype=np.complex128) / np.sqrt(2.0),
    "S": np.diag([1, 1j]).astype(np.complex128),
    "SDG": np.diag([1, -1j]).astype(np.complex128),
    "SX": np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]], dtype=np.complex128) / 2.0,
    "SXDG": np.array([[1 - 1j, 1 + 1j], [1 + 1j, 1 - 1j]], dtype=np.complex128) / 2.0,
}


def kron(factors: Sequence[Matrix]) -> Matrix:
    """Return the Kronecker product of matrices, the last one most significant, as in little-endian states."""
    result: Matrix = np.ones((1, 1), dtype=np.complex128)
    for factor in factors:
        result = np.asarray(np.kron(factor, result), dtype=np.complex128)
    return result


def gate_matrix(gate: Gate, angle: float = 0.0) -> Matrix:
    """Return the unitary of a gate, ``(2 ** k, 2 ** k)``, little-endian in the order of ``gate.qubits``.

    Args:
        gate: the gate on k qubits.
        angle: the angle of a rotation in radians; a fixed gate ignores it.
    """
    if gate.is_rotation:
        word = kron([PAULIS[letter] for letter in gate.word])
        return np.cos(angle / 2) * np.eye(len(word)) - 1j * np.sin(angle / 2) * word
    if gate.name == "SWAP":
        return np.eye(4, dtype=np.complex128)[[0, 2, 1, 3]]
    if len(gate.qubits) == 1:
        return _SINGLE[gate.name]
    # The control is bit 0 and the target bit 1: kron(target, control).
    idle, active = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    return np.kron(PAULIS["I"], idle) + np.kron(PAULIS[gate.name[1]], active)


def statevector(circuit: Circuit, parameters: ArrayLike = (), features: ArrayLike = ()) -> Matrix:
    """Return the final state of one sample, ``(2 ** n_qubits,)``; see ``Circuit.statevector``."""
    check_memory(circuit.n_qubits, 16, copies=3)
    angles = circuit.angles(parameters, features)
    if len(angles) != 1:
        raise ValueError(f"features: {len(angles)} samples, but a state vector belongs to one; give one row")
    n = circuit.n_qubits
    if circuit.initial_state is None:
        state = np.zeros(2**n, dtype=np.complex128)
        state[0] = 1.0
    else:
        state = np.array(circuit.initial_state, dtype=np.complex128)
    state = state.reshape((2,) * n)
    values = iter(angles[0])
    for gate in circuit.gates:
        matrix = gate_matrix(gate, next(values) if gate.is_rotation else 0.0)
        size = len(gate.qubits)
        # Axis n - 1 - q of the tensor is qubit q, and a matrix' first axis is the last listed qubit.
        axes = [n - 1 - qubit for qubit in reversed(gate.qubits)]
        product = np.tensordot(matrix.reshape((2,) * (2 * size)), state, (range(size, 2 * size), axes))
        state = np.moveaxis(product, range(size), axes)
    return np.ascontiguousarray(state).reshape(-1)


def check_memory(n_qubits: int, amplitude_bytes: int, copies: int = 1) -> None:
    """Refuse a state vector that does not fit into the memory that is free, before anything is allocated.

    Args:
        n_qubits: size of the register.
        amplitude_bytes: bytes of one complex amplitude.
        copies: how many state vectors the computation holds at once.

    Raises:
        ValueError: it does not fit; the message states the bytes needed and available.
    """
    needed = 2**n_qubits * amplitude_bytes * copies
    if needed <= 2**26:
        return
    import psutil

    available = psutil.virtual_memory().available
    if needed > available:
        raise ValueError(
            f"n_qubits: {n_qubits} qubits need {needed} bytes for state vectors but {available} are free;"
            " use fewer qubits or another backend"
        )
