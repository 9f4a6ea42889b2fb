"""Steps of a large register: matrices of up to four qubits, permutations, signs, phases of half registers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from circuits.backends._dense import kron_qubits, moment_map
from circuits.backends._measure import COMPLEX
from circuits.backends._schedule import Step, monomial
from circuits.circuit import Gate
from circuits.reference import PAULIS, Matrix, kron

_GROUP_QUBITS = 4
_NARROW = 64


class GroupedEngine:
    """Applies steps group by group; arguments and methods are those of ``DenseEngine``."""

    def __init__(
        self,
        n_qubits: int,
        start: Matrix,
        plan: Sequence[Step],
        parts: Sequence[tuple[int, int]],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._complex = COMPLEX[dtype]
        self._device = device
        self._start = torch.as_tensor(start, dtype=self._complex, device=device)
        self._n = n_qubits
        self._parts = parts
        count = -(-n_qubits // _GROUP_QUBITS)
        edges = [round(n_qubits * g / count) for g in range(count + 1)]
        self._groups = list(pairwise(edges))
        phase_steps = [k for k, step in enumerate(plan) if step.phases is not None]
        self._layer = {k: layer for layer, k in enumerate(phase_steps)}
        self._n_steps = len(plan)
        known: dict[tuple[Gate, ...], tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]] = {}
        for step in plan:
            key = tuple(step.stage.entanglers)
            if key not in known:
                known[key] = self._monomial(step)
        self._entanglers = [known[tuple(step.stage.entanglers)] for step in plan]
        self._after = [[self._basis(step.after[a:b]) for a, b in self._groups] for step in plan]
        self._moments = [
            torch.as_tensor(
                np.stack([moment_map(step.before[a:b]) for step in plan]), dtype=dtype, device=device
            )
            for a, b in self._groups
        ]

    def matrices(self, qubits: Tensor) -> list[Tensor]:
        """Return the stages' matrices of each group, ``(K, 2 ** size, 2 ** size)``."""
        return [kron_qubits(qubits[:, a:b]) for a, b in self._groups]

    def forward(
        self, matrices: list[Tensor], factors: list[Tensor], samples: int, keep: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the final states ``(2 ** n, N)`` and, where ``keep`` is set, what ``backward`` needs."""
        state = self._start
        inputs = []
        for k in range(self._n_steps):
            if k in self._layer:
                state = self._phased(state, [factor[self._layer[k]] for factor in factors])
            if keep:
                inputs.append(state)
            for group, matrix in zip(self._groups, matrices, strict=True):
                state = self._product(matrix[k], state, group)
            source, factor, _, _ = self._entanglers[k]
            if source is not None:
                state = state.index_select(0, source)
            if factor is not None:
                state = state * factor
            for group, basis in zip(self._groups, self._after[k], strict=True):
                if basis is not None:
                    state = self._product(basis, state, group)
        return state.expand(-1, samples), (*inputs, *factors)

    def backward(
        self, matrices: list[Tensor], tape: tuple[Tensor, ...], image: Tensor, want_moments: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Return the moments and the overlaps of each phase part; see ``DenseEngine.backward``."""
        inputs = tape[: self._n_steps]
        adjoints = [matrix.mH.resolve_conj() for matrix in matrices]
        undo = [factor.conj().resolve_conj() for factor in tape[self._n_steps :]]
        overlaps: list[list[Tensor]] = [[] for _ in undo]
        moments: list[Tensor] = []
        for k in reversed(range(self._n_steps)):
            for group, basis in zip(self._groups, self._after[k], strict=True):
                if basis is not None:
                    image = self._product(basis.mH.resolve_conj(), image, group)
            _, _, back, factor = self._entanglers[k]
            if factor is not None:
                image = image * factor
            if back is not None:
                image = image.index_select(0, back)
            for group, matrix in zip(self._groups, adjoints, strict=True):
                image = self._product(matrix[k], image, group)
            state = inputs[k].expand_as(image)
            if want_moments:
                moments.append(self._moments_of(k, state, image))
            if k in self._layer:
                for part, overlap in enumerate(self._overlaps(state, image)):
                    overlaps[part].append(overlap)
                if k:
                    image = self._phased(image, [factor[self._layer[k]] for factor in undo])
        stacked = [torch.stack(part[::-1]) for part in overlaps]
        return (torch.stack(moments[::-1]) if want_moments else None), stacked

    def _monomial(self, step: Step) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """The entanglers as gather index and factor, and their inverse: a factor, then a gather index."""
        source, factor = monomial(self._n, step.stage.entanglers)
        moves, turns = bool((source != np.arange(len(source))).any()), bool((factor != 1.0).any())

        def column(values: Matrix) -> Tensor:
            return torch.as_tensor(values[:, None], dtype=self._complex, device=self._device)

        forth = torch.as_tensor(source, device=self._device) if moves else None
        back = torch.as_tensor(np.argsort(source), device=self._device) if moves else None
        return forth, column(factor) if turns else None, back, column(factor.conj()) if turns else None

    def _basis(self, matrices: Sequence[Matrix]) -> Tensor | None:
        if all(matrix is PAULIS["I"] for matrix in matrices):
            return None
        return torch.as_tensor(kron(matrices), dtype=self._complex, device=self._device)

    def _product(self, matrix: Tensor, state: Tensor, group: tuple[int, int]) -> Tensor:
        """Apply a matrix to the qubits of a group."""
        first, end = group
        above, size = 2 ** (self._n - end), 2 ** (end - first)
        view = state.reshape(above, size, -1)
        if view.shape[2] == 1:
            return torch.mm(view[:, :, 0], matrix.mT).reshape(state.shape)
        if above == 1:
            return torch.mm(matrix, view[0]).reshape(state.shape)
        if view.shape[2] < _NARROW:
            # Many narrow products are slower than one wide product between two copies.
            wide = torch.mm(matrix, view.transpose(0, 1).reshape(size, -1))
            return wide.view(size, above, -1).transpose(0, 1).reshape(state.shape)
        return torch.bmm(matrix.expand(above, -1, -1), view).reshape(state.shape)

    def _phased(self, state: Tensor, factors: list[Tensor]) -> Tensor:
        if len(factors) == 1:
            return state * factors[0]
        low, high = factors
        view = state.view(len(high), len(low), -1)
        return (view * low * high[:, None]).view(len(state), -1)

    def _moments_of(self, k: int, state: Tensor, image: Tensor) -> Tensor:
        result = []
        for (first, end), table in zip(self._groups, self._moments, strict=True):
            above, size = 2 ** (self._n - end), 2 ** (end - first)
            rows = [t.reshape(above, size, -1).transpose(0, 1).reshape(size, -1) for t in (state, image)]
            product = torch.view_as_real(torch.mm(rows[0], rows[1].mH)).reshape(-1)
            result.append((product @ table[k]).view(end - first, 3))
        return torch.cat(result)

    def _overlaps(self, state: Tensor, image: Tensor) -> list[Tensor]:
        overlap = (image.conj() * state).imag
        if len(self._parts) == 1:
            return [overlap]
        high = 2 ** (self._parts[1][1] - self._parts[1][0])
        view = overlap.reshape(high, -1, overlap.shape[1])
        return [view.sum(0), view.sum(1)]
