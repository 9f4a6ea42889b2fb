"""Steps of a small register: one matrix a stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuits.backends._measure import COMPLEX
from circuits.backends._schedule import Step, monomial
from circuits.reference import PAULIS, Matrix, kron


class DenseEngine:
    """Applies steps as ``(2 ** n, 2 ** n)`` matrices and full phase factors.

    Args:
        n_qubits: size of the register.
        start: the state before the first step, ``(2 ** n, 1)``.
        plan: the steps.
        parts: how the phase factors split the register.
        dtype: float32 or float64.
        device: where the tensors live.
    """

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
        self._start = torch.as_tensor(start, dtype=self._complex, device=device)
        self._parts = parts
        self._phase_steps = [k for k, step in enumerate(plan) if step.phases is not None]
        self._layer = {k: layer for layer, k in enumerate(self._phase_steps)}
        self._n_steps = len(plan)
        left = np.stack([_behind(n_qubits, step) for step in plan])
        trivial = np.allclose(left, np.eye(2**n_qubits), atol=0.0)
        self._left = None if trivial else torch.as_tensor(left, dtype=self._complex, device=device)
        maps = np.stack([moment_map(step.before) for step in plan])
        if (maps == maps[:1]).all():
            maps = maps[0]
        self._moments = torch.as_tensor(maps, dtype=dtype, device=device)

    def matrices(self, qubits: Tensor) -> list[Tensor]:
        """Return the stages' matrices ``[(K, 2 ** n, 2 ** n)]`` from the qubits', ``(K, n, 2, 2)``."""
        result = kron_qubits(qubits)
        return [result if self._left is None else torch.bmm(self._left, result)]

    def forward(
        self, matrices: list[Tensor], factors: list[Tensor], samples: int, keep: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the final states ``(2 ** n, N)`` and, where ``keep`` is set, what ``backward`` needs."""
        stages = matrices[0].unbind(0)
        phases = self._combined(factors)
        layers = () if phases is None else phases.unbind(0)
        inputs = self._empty(samples) if keep else None
        slots = () if inputs is None else inputs.unbind(0)
        state = self._start
        for k, stage in enumerate(stages):
            if k in self._layer:
                factor = layers[self._layer[k]]
                state = torch.mul(state, factor, out=slots[k]) if keep else state * factor
            elif keep:
                state = slots[k].copy_(state)
            state = torch.mm(stage, state)
        if inputs is None:
            return state.expand(-1, samples), ()
        return state, (inputs,) if phases is None else (inputs, phases)

    def backward(
        self, matrices: list[Tensor], tape: tuple[Tensor, ...], image: Tensor, want_moments: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Return the moments Im <L|sigma|S>, ``K n`` rows of 3, and the overlaps of each phase part.

        Args:
            matrices: the stages' matrices.
            tape: what ``forward`` kept.
            image: the operator's image of the final states, ``(2 ** n, N)``.
            want_moments: whether the moments are wanted.
        """
        inputs = tape[0]
        adjoint = matrices[0].mH.resolve_conj().unbind(0)
        undo = () if len(tape) == 1 else torch.conj_physical(tape[1]).unbind(0)
        images = torch.empty_like(inputs)
        for k in reversed(range(self._n_steps)):
            slot = images[k]
            torch.mm(adjoint[k], image, out=slot)
            if k:
                image = slot * undo[self._layer[k]] if k in self._layer else slot
        moments = self._moments_of(inputs, images) if want_moments else None
        return moments, self._overlaps(inputs, images)

    def _empty(self, samples: int) -> Tensor:
        shape = (self._n_steps, len(self._start), samples)
        return torch.empty(shape, dtype=self._complex, device=self._start.device)

    def _combined(self, factors: list[Tensor]) -> Tensor | None:
        if not factors:
            return None
        if len(factors) == 1:
            return factors[0]
        low, high = factors
        return (high[:, :, None] * low[:, None]).view(len(low), len(self._start), -1)

    def _moments_of(self, inputs: Tensor, images: Tensor) -> Tensor:
        product = torch.view_as_real(torch.bmm(inputs, images.mH)).view(self._n_steps, -1)
        if self._moments.ndim == 2:
            return torch.mm(product, self._moments)
        return torch.bmm(product[:, None], self._moments)

    def _overlaps(self, inputs: Tensor, images: Tensor) -> list[Tensor]:
        if not self._phase_steps:
            return []
        if len(self._phase_steps) < self._n_steps:
            inputs, images = inputs[self._phase_steps], images[self._phase_steps]
        overlap = (images.conj() * inputs).imag
        if len(self._parts) == 1:
            return [overlap]
        high = 2 ** (self._parts[1][1] - self._parts[1][0])
        view = overlap.reshape(len(overlap), high, -1, overlap.shape[2])
        return [view.sum(1), view.sum(2)]


def kron_qubits(factors: Tensor) -> Tensor:
    """Return Kronecker products ``(K, d ** m, d ** m)`` of ``(K, m, d, d)``, last factor most significant."""
    m = factors.shape[1]
    if m == 1:
        return factors[:, 0]
    if m % 2:
        return _kron(factors[:, -1], kron_qubits(factors[:, :-1]))
    return kron_qubits(_kron(factors[:, 1::2], factors[:, 0::2]))


def moment_map(bases: Sequence[Matrix]) -> NDArray[np.float64]:
    """Return the linear map from S L^dagger, as reals, to the moments of each qubit.

    Moment (q, sigma) is Im tr(V sigma_q V^dagger S L^dagger), with V the basis the states are in.

    Args:
        bases: the matrix V of each of m qubits.

    Returns:
        ``(2 d d, 3 m)`` with d = 2 ** m; rows run over (row of S, row of L, real and imaginary part).
    """
    m = len(bases)
    columns = []
    for q, basis in enumerate(bases):
        for name in "XYZ":
            factors = [PAULIS["I"]] * m
            factors[q] = basis @ PAULIS[name] @ basis.conj().T
            pauli = kron(factors).T
            columns.append(np.stack((pauli.imag, pauli.real), axis=2).reshape(-1))
    return np.stack(columns, axis=1)


def _kron(high: Tensor, low: Tensor) -> Tensor:
    *batch, a, _ = high.shape
    b = low.shape[-1]
    product = high.view(*batch, a, 1, a, 1) * low.view(*batch, 1, b, 1, b)
    return product.view(*batch, a * b, a * b)


def _behind(n_qubits: int, step: Step) -> Matrix:
    """What a step does behind its single-qubit matrices: entanglers, then the next phases' basis change."""
    source, factor = monomial(n_qubits, step.stage.entanglers)
    entangle = factor[:, None] * np.eye(2**n_qubits)[source]
    return kron(step.after) @ entangle
