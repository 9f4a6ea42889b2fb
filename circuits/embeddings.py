"""Fixed maps from an observation to the features of a circuit that loads a state: digits, or angles of amplitudes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.gates import integer

Floats = NDArray[np.float64]


class Basis:
    """The index of a state, given as a one-hot vector, as binary digits times pi.

    Args:
        n_inputs: number of states.
        n_qubits: number of digits; digit q is bit q of the index.

    Raises:
        ValueError: more states than the digits can tell apart.

    Source: the FrozenLake encoding of arXiv:2103.15084.
    """

    def __init__(self, n_inputs: int, n_qubits: int) -> None:
        states = _fits(n_inputs, n_qubits)
        self.n_features = n_qubits
        self._digits = np.pi * ((np.arange(states)[:, None] >> np.arange(n_qubits)) & 1)

    def __call__(self, x: ArrayLike) -> Floats:
        """One-hot rows ``(N, n_inputs)`` to ``(N, n_qubits)``."""
        return np.asarray(x, dtype=np.float64) @ self._digits


class Amplitude:
    """A real vector, normalised and filled up with zeros, as the angles of the tree that prepares it.

    Feature ``2^k - 1 + j`` is the angle on qubit ``n - 1 - k`` where the qubits above hold the number j. A vector of
    zeros becomes the first basis state.

    Args:
        n_inputs: length of the vector.
        n_qubits: number of qubits.

    Raises:
        ValueError: a vector longer than the state.

    Source: Mottonen et al., arXiv:quant-ph/0407010, for real amplitudes of either sign.
    """

    def __init__(self, n_inputs: int, n_qubits: int) -> None:
        self._size = _fits(n_inputs, n_qubits)
        self._n_qubits = n_qubits
        self.n_features = 2**n_qubits - 1

    def __call__(self, x: ArrayLike) -> Floats:
        """Vectors ``(N, n_inputs)`` to ``(N, 2 ** n_qubits - 1)`` radians."""
        vectors = np.asarray(x, dtype=np.float64)
        state = np.zeros((len(vectors), 2**self._n_qubits))
        state[:, : self._size] = vectors
        levels = []
        # from single amplitudes, which have signs, up to norms of halves, which have none
        for _ in range(self._n_qubits):
            pairs = state.reshape(len(state), -1, 2)
            levels.append(2.0 * np.arctan2(pairs[:, :, 1], pairs[:, :, 0]))
            state = np.linalg.norm(pairs, axis=2)
        return np.concatenate(levels[::-1], axis=1)


def _fits(n_inputs: int, n_qubits: int) -> int:
    size = integer("n_inputs", n_inputs, 1)
    if size > 2 ** integer("n_qubits", n_qubits, 1):
        raise ValueError(f"n_qubits: {n_qubits} hold {2**n_qubits} states, not {size}; use more qubits")
    return size


EMBEDDINGS: dict[str, type[Any]] = {"basis": Basis, "amplitude": Amplitude}
"""Embeddings by the name that recipes use."""
