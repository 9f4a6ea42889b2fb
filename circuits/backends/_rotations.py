"""The single-qubit rotations of all stages at once: their matrices and the gradients by their angles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuits.backends._measure import COMPLEX
from circuits.backends._schedule import Stage
from circuits.reference import PAULIS, Matrix


class SlotRotations:
    """The matrices ``B = C R_J(a_J) ... R_1(a_1) V^dagger`` of K stages and n qubits.

    Each R is a rotation about a signed axis p, ``exp(-i a p.sigma / 2)``; stages with fewer rotations are
    padded with angles that stay zero. V is the basis change of the phases before the stage, C the Clifford
    behind its rotations.

    Args:
        stages: the K stages.
        bases: for each stage and qubit the matrix V.
        n_angles: length of the flat angle vector.
        dtype: float32 or float64.
        device: where the tensors live.

    Attributes:
        rows: ``(n_angles,)`` place of each angle in the flattened ``(J, K, n)``; -1 where it belongs to no
            stage.
        n_rows: J K n.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        bases: Sequence[Sequence[Matrix]],
        n_angles: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        n = len(stages[0].slots)
        depth = max(len(slot) for stage in stages for slot in stage.slots)
        self._shape = (len(stages), n, depth)
        self.n_rows = len(stages) * n * depth
        self.rows: NDArray[np.int64] = np.full(n_angles, -1, dtype=np.int64)
        axes = np.zeros((depth, len(stages), n, 3))
        still = np.zeros((max(depth, 1), len(stages), n, 2, 2), dtype=np.complex128)
        turning = np.zeros_like(still)
        for k, stage in enumerate(stages):
            for q, slot in enumerate(stage.slots):
                for j in range(max(depth, 1)):
                    angle, axis = slot[j] if j < len(slot) else (-1, np.zeros(3))
                    if angle >= 0:
                        self.rows[angle] = (j * len(stages) + k) * n + q
                        axes[j, k, q] = axis
                    left = stage.clifford[q] if j == max(depth, 1) - 1 else PAULIS["I"]
                    right = bases[k][q].conj().T if j == 0 else PAULIS["I"]
                    generator = sum(part * PAULIS[name] for part, name in zip(axis, "XYZ", strict=True))
                    still[j, k, q] = left @ right
                    turning[j, k, q] = -1j * (left @ generator @ right)
        self._still = self._reals(still, dtype, device)
        self._turning = self._reals(turning, dtype, device)
        self._axes = torch.as_tensor(
            axes.reshape(depth, len(stages) * n, 3), dtype=dtype, device=device
        ).unbind(0)
        self._complex = COMPLEX[dtype]

    @staticmethod
    def _reals(values: NDArray[np.complex128], dtype: torch.dtype, device: torch.device) -> Tensor:
        flat = np.ascontiguousarray(values).view(np.float64).reshape(-1, 8)
        return torch.as_tensor(flat, dtype=dtype, device=device)

    def matrices(self, angles: Tensor) -> Tensor:
        """Return B, complex ``(K, n, 2, 2)``, from the angles ``(J K n, 1)``."""
        stages, n, depth = self._shape
        if depth == 0:
            return torch.view_as_complex(self._still.view(stages, n, 2, 2, 2))
        half = angles * 0.5
        reals = torch.addcmul(torch.cos(half) * self._still, torch.sin(half), self._turning)
        first, *others = torch.view_as_complex(reals.view(depth, stages * n, 2, 2, 2)).unbind(0)
        for factor in others:
            first = torch.bmm(factor, first)
        return first.view(stages, n, 2, 2)

    def gradients(self, moments: Tensor, angles: Tensor) -> Tensor:
        """Return the gradients by the angles, ``(J K n, 1)``.

        A rotation further in is looked at through those before it: its gradient is p . m with the vector of
            moments m
        turned by each of them, m' = cos(a) m + sin(a) p x m + (1 - cos(a)) (p . m) p.

        Args:
            moments: Im <L|sigma|S> right before the first rotation, ``(K, n, 3)``.
            angles: ``(J K n, 1)``.
        """
        depth = self._shape[2]
        cosine, sine = (part.view(depth, -1, 1).unbind(0) for part in (torch.cos(angles), torch.sin(angles)))
        moments = moments.view(-1, 3)
        result = []
        for j, axis in enumerate(self._axes):
            along = (axis * moments).sum(1, keepdim=True)
            result.append(along)
            if j + 1 < depth:
                parallel = along * axis
                across = torch.linalg.cross(axis, moments)
                turned = torch.addcmul(parallel, cosine[j], moments - parallel)
                moments = torch.addcmul(turned, sine[j], across)
        return torch.cat(result)
