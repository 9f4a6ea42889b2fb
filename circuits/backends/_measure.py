"""Expectation values of final states ``(2 ** n, N)``, one column a sample: exact, or from sampled shots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuits.backends._schedule import BASIS_CHANGE
from circuits.observables import Observable, commuting_groups

_STORED_AMPLITUDES = 2**14
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
"""The complex dtype of each real one."""


class PauliWord:
    """A Pauli word as an operation on states.

    With x the qubits of X and Y, z those of Y and Z, ``(P psi)[i] = i ** n_Y * sign(i) * psi[i ^ x]`` and
    ``sign(i) = (-1) ** popcount((i ^ x) & z)``.

    Attributes:
        unit: the factor ``i ** n_Y``, which ``flip`` leaves out.
    """

    def __init__(
        self, n_qubits: int, letters: dict[int, str], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.unit = (1, 1j, -1, -1j)[sum(letter == "Y" for letter in letters.values()) % 4]
        self._n = n_qubits
        self._flipped = sorted((q for q, letter in letters.items() if letter in "XY"), reverse=True)
        self._signed = [q for q, letter in letters.items() if letter in "YZ"]
        self._minus = sum(q in self._flipped for q in self._signed) % 2
        self._dtype, self._device = dtype, device
        self._stored = self._sign() if 2**n_qubits <= _STORED_AMPLITUDES else None

    @property
    def is_diagonal(self) -> bool:
        """Whether the word consists of I and Z."""
        return not self._flipped

    def sign(self) -> Tensor:
        """Return the signs, real ``(2 ** n, 1)``."""
        return self._sign() if self._stored is None else self._stored

    def flip(self, state: Tensor) -> Tensor:
        """Return ``P psi / unit`` for states ``(2 ** n, N)``."""
        if self._flipped:
            # One axis of length 2 for each flipped qubit, the qubits between them merged.
            shape, top = [], self._n
            for qubit in self._flipped:
                shape += [2 ** (top - qubit - 1), 2]
                top = qubit
            axes = list(range(1, len(shape), 2))
            state = state.reshape(*shape, 2**top, -1).flip(axes).reshape(state.shape)
        return state * self.sign() if self._signed else state

    def _sign(self) -> Tensor:
        sign = torch.ones((1, 1), dtype=self._dtype, device=self._device)
        for qubit in range(self._n):
            sign = torch.cat((sign, -sign if qubit in self._signed else sign))
        return -sign if self._minus else sign


class Measurement:
    """Exact expectation values of a list of observables, and the operator that carries gradients back."""

    def __init__(
        self, n_qubits: int, observables: Sequence[Observable], dtype: torch.dtype, device: torch.device
    ) -> None:
        diagonal = np.zeros((len(observables), 2**n_qubits))
        mixed: dict[str, list[float]] = {}
        for row, observable in enumerate(observables):
            for word, value in observable.words.items():
                if set(word) <= {"I", "Z"}:
                    diagonal[row] += value * signs(word)
                else:
                    mixed.setdefault(word, [0.0] * len(observables))[row] = value
        self._diagonal = (
            torch.as_tensor(diagonal.T.copy(), dtype=dtype, device=device) if diagonal.any() else None
        )
        self._words = [
            (
                PauliWord(n_qubits, {q: c for q, c in enumerate(word) if c != "I"}, dtype, device),
                torch.tensor(weights, dtype=dtype, device=device),
            )
            for word, weights in mixed.items()
        ]
        self._size = len(observables)

    def values(self, state: Tensor) -> Tensor:
        """Return the expectation values, ``(N, n_observables)``."""
        if self._diagonal is not None:
            parts = torch.view_as_real(state)
            result = torch.mm((parts * parts).sum(2).t(), self._diagonal)
        else:
            result = torch.zeros((state.shape[1], self._size), dtype=state.real.dtype, device=state.device)
        for word, weights in self._words:
            overlap = (state.conj() * word.flip(state)).sum(0)
            result = result + (overlap * word.unit).real[:, None] * weights
        return result

    def apply(self, state: Tensor, upstream: Tensor) -> Tensor:
        """Return ``sum_j upstream[:, j] O_j psi`` of ``(2 ** n, N)``, upstream ``(N, n_observables)``."""
        if self._diagonal is not None:
            result = torch.mm(self._diagonal, upstream.t()) * state
        else:
            result = torch.zeros_like(state)
        for word, weights in self._words:
            result = result + (upstream * weights).sum(1) * word.unit * word.flip(state)
        return result


def signs(word: str) -> NDArray[np.float64]:
    """Return the diagonal of a word of I and others, each other letter read as Z, ``(2 ** n,)``."""
    result = np.ones(1)
    for letter in word:
        result = np.concatenate((result, result if letter == "I" else -result))
    return result


def sample(
    state: Tensor, observables: Sequence[Observable], shots: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return means and standard errors from shots, each ``(n_observables, N)``.

    Each group of qubit-wise commuting words is measured ``shots`` times in its own basis, drawn from the
    exact distribution; words of one group share shots, so the error of a sum contains their covariance.

    Args:
        state: final states, ``(2 ** n, N)``.
        observables: the observables.
        shots: shots for each group and sample.
        generator: where the shots come from.
    """
    means = np.zeros((len(observables), state.shape[1]))
    variances = np.zeros_like(means)
    for row, observable in enumerate(observables):
        means[row] += sum(value for word, value in observable.words.items() if set(word) == {"I"})
    for group in commuting_groups(observables):
        probabilities = _rotated(state, group.basis).abs().double().square().T.cpu().numpy()
        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
        frequencies = generator.multinomial(shots, probabilities) / shots
        for row, observable in enumerate(observables):
            weights = observable.words
            table = sum(weights[word] * signs(word) for word in group.words if word in weights)
            if isinstance(table, np.ndarray):
                first, second = frequencies @ table, frequencies @ table**2
                means[row] += first
                scale = 1.0 / (shots - 1) if shots > 1 else np.nan
                variances[row] += np.maximum(second - first**2, 0.0) * scale
    real, device = state.real.dtype, state.device
    errors = np.sqrt(variances)
    return torch.as_tensor(means, dtype=real, device=device), torch.as_tensor(
        errors, dtype=real, device=device
    )


def _rotated(state: Tensor, basis: str) -> Tensor:
    n = len(basis)
    for qubit, letter in enumerate(basis):
        if letter in "XY":
            matrix = torch.as_tensor(BASIS_CHANGE[letter], dtype=state.dtype, device=state.device)
            state = torch.matmul(matrix, state.reshape(2 ** (n - qubit - 1), 2, -1)).reshape(state.shape)
    return state
