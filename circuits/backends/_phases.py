"""The diagonal factors of all layers at once, and the gradients by their angles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuits.backends._measure import signs
from circuits.backends._schedule import Phases

_WHOLE_REGISTER = 4


class PhaseFactors:
    """The factors ``exp(-i/2 sum_k a_k z_k)`` of K layers, as products over parts of the register.

    A register of more than 4 qubits is split into two halves, whose factors are far shorter than the state,
    unless a word has letters in both.

    Args:
        blocks: the commuting rotations of each layer.
        n_qubits: size of the register.
        n_angles: length of the flat angle vector.
        dtype: float32 or float64.
        device: where the tensors live.

    Attributes:
        rows: ``(n_angles,)`` place of each angle among the phase angles; -1 where it is none.
        n_rows: number of places.
        parts: the (first qubit, end) ranges; their factors multiply.
    """

    def __init__(
        self,
        blocks: Sequence[Phases],
        n_qubits: int,
        n_angles: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        half = n_qubits // 2
        words = [word for block in blocks for _, word in block.words]
        whole = n_qubits <= _WHOLE_REGISTER or any(min(word) < half <= max(word) for word in words)
        self.parts = [(0, n_qubits)] if whole else [(0, half), (half, n_qubits)]
        self.rows: NDArray[np.int64] = np.full(n_angles, -1, dtype=np.int64)
        self.n_rows = 0
        self._layers = len(blocks)
        self._signs: list[Tensor] = []
        self._slices: list[slice] = []
        self._widths: list[int] = []
        for first, end in self.parts:
            inside = [
                [(a, w) for a, w in block.words if first <= min(w) and max(w) < end] for block in blocks
            ]
            width = max(len(words) for words in inside)
            table = np.zeros((len(blocks), 2 ** (end - first), width))
            for layer, words_inside in enumerate(inside):
                for column, (angle, word) in enumerate(words_inside):
                    self.rows[angle] = self.n_rows + layer * width + column
                    label = "".join("Z" if qubit in word else "I" for qubit in range(first, end))
                    table[layer, :, column] = signs(label)
            tensor = torch.as_tensor(table, dtype=dtype, device=device)
            self._signs.append(tensor)
            self._slices.append(slice(self.n_rows, self.n_rows + len(blocks) * width))
            self._widths.append(width)
            self.n_rows += len(blocks) * width
        self._exponents = [-0.5 * table for table in self._signs]
        self._one = torch.ones((), dtype=dtype, device=device)

    def factors(self, angles: Tensor) -> list[Tensor]:
        """Return for each part the factors ``(K, 2 ** size, N)`` from the phase angles ``(n_rows, N)``."""
        result = []
        for table, rows, width in zip(self._exponents, self._slices, self._widths, strict=True):
            exponent = torch.bmm(table, angles[rows].reshape(self._layers, width, angles.shape[1]))
            result.append(torch.polar(self._one.expand_as(exponent), exponent))
        return result

    def gradients(self, overlaps: list[Tensor]) -> Tensor:
        """Return the gradients by the phase angles, ``(n_rows, N)``.

        Args:
            overlaps: for each part Im(conj(L) S), summed over the rest of the register, ``(K, 2 ** size,
                N)``.
        """
        pieces = [
            torch.bmm(table.transpose(1, 2), overlap).reshape(self._layers * width, overlap.shape[2])
            for table, overlap, width in zip(self._signs, overlaps, self._widths, strict=True)
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
