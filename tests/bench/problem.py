"""What is measured: one circuit at some size and batch, its seeded inputs, and what it must give.

The circuit is L layers of [RX(s_lq x_q), RY(t_lq0), RZ(t_lq1) on each qubit q, then a ring of CZ], measured by Z on
every qubit. To *act* is to evaluate it; to *learn* is to evaluate it and to form the gradients of sum(w <Z>) by all
s and t. The reference is written here in plain NumPy, gate by gate in complex128, and shares no code with the library.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["act", "learn"]
Floats = NDArray[np.float64]

PAULI = {
    "X": np.array([[0, 1], [1, 0]], dtype=complex),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.array([[1, 0], [0, -1]], dtype=complex),
}


@dataclass(frozen=True, order=True)
class Cell:
    """One size: qubits, layers and batch."""

    qubits: int
    layers: int
    batch: int

    def __str__(self) -> str:
        return f"{self.qubits}/{self.layers}/{self.batch}"

    @property
    def amplitudes(self) -> int:
        """Amplitudes of all samples together."""
        return 2**self.qubits * self.batch


class Problem:
    """The inputs of a cell, the same for everybody, in float64.

    Attributes:
        x: features ``(batch, qubits)``, uniform in [-1, 1).
        s: scales ``(layers, qubits)``, uniform in [0.5, 1.5).
        t: weights ``(layers, qubits, 2)``, uniform in [-3, 3).
        w: weights of the loss ``(batch, qubits)``, standard normal.
    """

    def __init__(self, cell: Cell) -> None:
        n, layers, batch = cell.qubits, cell.layers, cell.batch
        generator = np.random.default_rng([n, layers, batch])
        self.cell = cell
        self.x = generator.uniform(-1, 1, (batch, n))
        self.s = generator.uniform(0.5, 1.5, (layers, n))
        self.t = generator.uniform(-3, 3, (layers, n, 2))
        self.w = generator.normal(size=(batch, n))

    @cached_property
    def gates(self) -> list[tuple[str, int, Floats]]:
        """Letter, qubit and angles ``(batch,)`` or ``(1,)`` of the rotations, and ("ring", 0, []) between layers."""
        found: list[tuple[str, int, Floats]] = []
        for layer in range(self.cell.layers):
            for q in range(self.cell.qubits):
                found.append(("X", q, self.s[layer, q] * self.x[:, q]))
                found.append(("Y", q, self.t[layer, q, :1]))
                found.append(("Z", q, self.t[layer, q, 1:]))
            found.append(("ring", 0, np.empty(0)))
        return found

    @cached_property
    def _bits(self) -> Floats:
        """Eigenvalues of Z, ``(2 ** qubits, qubits)``."""
        index = np.arange(2**self.cell.qubits)[:, None]
        return np.where(index >> np.arange(self.cell.qubits) & 1, -1.0, 1.0)

    def _ring(self, state: np.ndarray) -> np.ndarray:
        n = self.cell.qubits
        pairs = [(q, (q + 1) % n) for q in range(n)] if n > 2 else [(0, 1)]
        ones = self._bits < 0
        sign = np.prod([1.0 - 2.0 * (ones[:, a] & ones[:, b]) for a, b in pairs], axis=0)
        return sign[:, None] * state

    def _apply(self, matrix: np.ndarray, qubit: int, state: np.ndarray) -> np.ndarray:
        """A matrix ``(2, 2)``, or ``(2, 2, batch)`` of one a sample, on one qubit of ``(2 ** n, batch)``."""
        pairs = state.reshape(-1, 2, 2**qubit, state.shape[1])
        if matrix.ndim == 2:
            matrix = matrix[:, :, None]
        return np.einsum("ijb,ajcb->aicb", matrix, pairs).reshape(state.shape)

    def _rotate(self, letter: str, qubit: int, angles: Floats, state: np.ndarray) -> np.ndarray:
        cosine, sine = np.cos(angles / 2), np.sin(angles / 2)
        matrix = np.eye(2)[:, :, None] * cosine - 1j * PAULI[letter][:, :, None] * sine
        return self._apply(np.broadcast_to(matrix, (2, 2, state.shape[1])), qubit, state)

    @cached_property
    def _final(self) -> np.ndarray:
        state = np.zeros((2**self.cell.qubits, self.cell.batch), dtype=complex)
        state[0] = 1.0
        for letter, qubit, angles in self.gates:
            state = self._ring(state) if letter == "ring" else self._rotate(letter, qubit, angles, state)
        return state

    @cached_property
    def values(self) -> Floats:
        """The expectations ``(batch, qubits)``."""
        values: Floats = (np.abs(self._final) ** 2).T @ self._bits
        return values

    @cached_property
    def gradients(self) -> tuple[Floats, Floats]:
        """The gradients of sum(w <Z>) by s and by t, from the adjoint method: dE/da = Im <L|P|psi> after a gate."""
        state = self._final
        image = (self._bits @ self.w.T) * state
        by_angle: list[Floats] = []
        for letter, qubit, angles in reversed(self.gates):
            if letter == "ring":
                state, image = self._ring(state), self._ring(image)
                continue
            moved = self._apply(PAULI[letter], qubit, state)
            by_angle.append(np.einsum("ib,ib->b", image.conj(), moved).imag)
            state, image = (self._rotate(letter, qubit, -angles, each) for each in (state, image))
        slopes = np.array(by_angle[::-1]).reshape(self.cell.layers, self.cell.qubits, 3, self.cell.batch)
        by_s = np.einsum("lqb,bq->lq", slopes[:, :, 0], self.x)
        return by_s, slopes[:, :, 1:].sum(-1)

    def answers(self, kind: Kind) -> tuple[Floats, ...]:
        """What a contender must return: the expectations, or the gradients by s and t."""
        return (self.values,) if kind == "act" else self.gradients
