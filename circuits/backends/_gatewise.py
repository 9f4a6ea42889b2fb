"""The general path: any circuit, one gate after the other, with the adjoint method for gradients.

Memory does not grow with depth: the backward pass un-applies each gate from the final state and from the
operator's image of it at once.

Source: the adjoint method of arXiv:2009.02823.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from circuits.backends._measure import COMPLEX, PauliWord
from circuits.backends._terms import AngleTerms
from circuits.circuit import Circuit
from circuits.gates import Gate
from circuits.reference import gate_matrix

Gradients = Callable[[Tensor, bool, bool], tuple[Tensor | None, Tensor | None]]
"""The backward pass of one run.

It takes the weighted observables' image of the final states, ``(2 ** n, N)``, and which gradients are
wanted; it returns those by the parameters, ``(n_parameters, 1)`` or ``(n_parameters, N)``, and by the
features, ``(n_features, N)``.
"""


class GatewiseProgram:
    """A circuit prepared for gate-by-gate execution.

    Args:
        circuit: the circuit.
        dtype: float32 or float64.
        device: where states live.

    Attributes:
        kept_states: how many states a sample leaves on the tape.
    """

    def __init__(self, circuit: Circuit, dtype: torch.dtype, device: torch.device) -> None:
        n = circuit.n_qubits
        self.kept_states = 1
        self._circuit = circuit
        self._complex = COMPLEX[dtype]
        self._terms = AngleTerms(
            circuit.angle_map, np.arange(circuit.n_angles), circuit.n_angles, dtype, device
        )
        words: dict[tuple[tuple[int, str], ...], PauliWord] = {}
        self._words: list[PauliWord] = []
        for gate in circuit.rotations:
            letters = tuple(sorted(zip(gate.qubits, gate.word, strict=True)))
            if letters not in words:
                words[letters] = PauliWord(n, dict(letters), dtype, device)
            self._words.append(words[letters])
        self._fixed = {
            (gate.name, adjoint): self._matrix(gate, adjoint, device)
            for gate in circuit.gates
            if not gate.is_rotation
            for adjoint in (False, True)
        }
        self._start = torch.zeros((2**n, 1), dtype=self._complex, device=device)
        self._start[0] = 1.0
        if circuit.initial_state is not None:
            self._start[:, 0] = torch.tensor(circuit.initial_state, dtype=self._complex)

    def _matrix(self, gate: Gate, adjoint: bool, device: torch.device) -> Tensor:
        matrix = gate_matrix(gate)
        return torch.as_tensor(
            matrix.conj().T.copy() if adjoint else matrix, dtype=self._complex, device=device
        )

    def run(self, parameters: Tensor, x: Tensor, keep: bool) -> tuple[Tensor, Gradients | None]:
        """Return the final states ``(2 ** n, N)`` and, where ``keep`` is set, the backward pass.

        Args:
            parameters: ``(n_parameters,)`` or ``(N, n_parameters)``.
            x: ``(n_features, N)``.
            keep: whether gradients will be asked for.
        """
        samples = x.shape[1]
        shared = parameters.ndim == 1
        angles, saved = self._terms.forward(parameters[:, None] if shared else parameters.t(), x)
        angles = angles.expand(-1, samples)
        cosine, sine = torch.cos(angles / 2), torch.sin(angles / 2)
        state = self._start.expand(-1, samples)
        index = 0
        for gate in self._circuit.gates:
            if gate.is_rotation:
                word = self._words[index]
                state = cosine[index] * state - (1j * word.unit) * sine[index] * word.flip(state)
                index += 1
            else:
                state = self._apply_fixed(state, gate, False)
        return state, partial(self._gradients, state, angles, saved, shared) if keep else None

    def _gradients(
        self,
        state: Tensor,
        angles: Tensor,
        saved: tuple[Tensor, ...],
        shared: bool,
        image: Tensor,
        want_parameters: bool,
        want_features: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        # With E = <psi|O|psi>, L = O psi and a rotation exp(-i a P / 2), dE/da = Im <L|P|psi> right after it.
        samples = image.shape[1]
        cosine, sine = torch.cos(angles / 2).repeat(1, 2), torch.sin(angles / 2).repeat(1, 2)
        pair = torch.cat((state, image), dim=1)
        slopes = torch.zeros_like(angles, memory_format=torch.contiguous_format)
        index = len(angles)
        for gate in reversed(self._circuit.gates):
            if gate.is_rotation:
                index -= 1
                word = self._words[index]
                moved = word.flip(pair)
                overlap = (pair[:, samples:].conj() * moved[:, :samples]).sum(0)
                slopes[index] = (overlap * word.unit).imag
                pair = cosine[index] * pair + (1j * word.unit) * sine[index] * moved
            else:
                pair = self._apply_fixed(pair, gate, True)
        return self._terms.backward(saved, slopes, shared, want_parameters, want_features)

    def _apply_fixed(self, state: Tensor, gate: Gate, adjoint: bool) -> Tensor:
        matrix = self._fixed[gate.name, adjoint]
        n = self._circuit.n_qubits
        if len(gate.qubits) == 1:
            below = gate.qubits[0]
            return torch.matmul(matrix, state.reshape(2 ** (n - below - 1), 2, -1)).reshape(state.shape)
        high, low = max(gate.qubits), min(gate.qubits)
        shape = (2 ** (n - high - 1), 2, 2 ** (high - low - 1), 2, -1)
        # Bring the pair to the front in the matrix' order: (second listed qubit, first listed qubit).
        front = (1, 3, 0, 2, 4) if gate.qubits[0] == low else (3, 1, 0, 2, 4)
        back = (2, 0, 3, 1, 4) if gate.qubits[0] == low else (2, 1, 3, 0, 4)
        view = state.reshape(shape).permute(front)
        moved = torch.matmul(matrix, view.reshape(4, -1)).reshape(view.shape)
        return moved.permute(back).reshape(state.shape)
