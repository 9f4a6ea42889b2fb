"""The fast path: phases and matrix products, a few torch calls a layer for all samples at once.

The form is that of ``_schedule``. Parameters are shared by all samples, so the matrices are built once a
call and, while acting, once for each new value of the parameters. Gradients come from the states S and their
adjoint images L at the stages' inputs (one column a sample): the gradient by a phase angle is Im <L|Z..Z|S>,
and those by the rotations of a qubit are linear in Im tr(P_q S L^dagger), which sums over samples before any
rotation is looked at.

Source: own construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from circuits.backends._dense import DenseEngine
from circuits.backends._gatewise import Gradients
from circuits.backends._grouped import GroupedEngine
from circuits.backends._phases import PhaseFactors
from circuits.backends._rotations import SlotRotations
from circuits.backends._schedule import steps
from circuits.backends._terms import AngleTerms
from circuits.circuit import Circuit

_DENSE_QUBITS = 6
_CACHED = 4


@dataclass(frozen=True, slots=True)
class _Prepared:
    matrices: list[Tensor]
    slot_angles: Tensor
    slot_terms: tuple[Tensor, ...]


class LayeredProgram:
    """A circuit prepared for layered execution.

    Args:
        circuit: the circuit.
        dtype: float32 or float64.
        device: where states live.

    Attributes:
        kept_states: how many states a sample leaves on the tape.
    """

    def __init__(self, circuit: Circuit, dtype: torch.dtype, device: torch.device) -> None:
        n, n_angles = circuit.n_qubits, circuit.n_angles
        start, plan = steps(circuit)
        blocks = [step.phases for step in plan if step.phases is not None]
        bases = [step.before for step in plan]
        self.kept_states = len(plan) + 1
        self._rotations = SlotRotations([step.stage for step in plan], bases, n_angles, dtype, device)
        self._phases = PhaseFactors(blocks, n, n_angles, dtype, device) if blocks else None
        parts = self._phases.parts if self._phases is not None else [(0, n)]
        engine = DenseEngine if n <= _DENSE_QUBITS else GroupedEngine
        self._engine: DenseEngine | GroupedEngine = engine(n, start, plan, parts, dtype, device)
        angle_map = circuit.angle_map
        self._slot_terms = AngleTerms(angle_map, self._rotations.rows, self._rotations.n_rows, dtype, device)
        self._phase_terms = (
            AngleTerms(angle_map, self._phases.rows, self._phases.n_rows, dtype, device)
            if self._phases
            else None
        )
        self._no_features = torch.zeros((circuit.n_features, 1), dtype=dtype, device=device)
        self._cache: list[tuple[Tensor, _Prepared]] = []

    def run(self, parameters: Tensor, x: Tensor, keep: bool) -> tuple[Tensor, Gradients | None]:
        """Return the final states ``(2 ** n, N)`` and, where ``keep`` is set, the backward pass.

        Args:
            parameters: ``(n_parameters,)``.
            x: ``(n_features, N)``.
            keep: whether gradients will be asked for.
        """
        theta = parameters.reshape(-1, 1)
        prepared = self._prepared(theta) if keep else self._cached(parameters, theta)
        factors: list[Tensor] = []
        phase_terms: tuple[Tensor, ...] = ()
        if self._phases is not None and self._phase_terms is not None:
            angles, phase_terms = self._phase_terms.forward(theta, x)
            factors = self._phases.factors(angles.expand(-1, x.shape[1]))
        state, states = self._engine.forward(prepared.matrices, factors, x.shape[1], keep)
        if not keep:
            return state, None
        return state, partial(self._gradients, prepared, states, phase_terms)

    def _gradients(
        self,
        prepared: _Prepared,
        states: tuple[Tensor, ...],
        phase_terms: tuple[Tensor, ...],
        image: Tensor,
        want_parameters: bool,
        want_features: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        turning = want_parameters and self._rotations.n_rows > 0
        moments, overlaps = self._engine.backward(prepared.matrices, states, image, turning)
        by_theta: Tensor | None = None
        by_x: Tensor | None = None
        if moments is not None:
            slots = self._rotations.gradients(moments, prepared.slot_angles)
            by_theta, _ = self._slot_terms.backward(prepared.slot_terms, slots, True, True, False)
        if self._phases is not None and self._phase_terms is not None:
            phases = self._phases.gradients(overlaps)
            more, by_x = self._phase_terms.backward(phase_terms, phases, True, want_parameters, want_features)
            if more is not None:
                by_theta = more if by_theta is None else by_theta + more
        return by_theta, by_x

    def _prepared(self, theta: Tensor) -> _Prepared:
        angles, saved = self._slot_terms.forward(theta, self._no_features)
        return _Prepared(self._engine.matrices(self._rotations.matrices(angles)), angles, saved)

    def _cached(self, parameters: Tensor, theta: Tensor) -> _Prepared:
        """The matrices of these parameters, from the last few that were used.

        Values are compared, not identities: an optimiser or a target update that writes through ``.data``
            leaves neither a
        new tensor nor a new version behind.
        """
        for position, (known, prepared) in enumerate(self._cache):
            if torch.equal(known, parameters):
                if position:
                    self._cache.insert(0, self._cache.pop(position))
                return prepared
        prepared = self._prepared(theta)
        self._cache.insert(0, (parameters.clone(), prepared))
        del self._cache[_CACHED:]
        return prepared
