"""Puts a circuit into layers: phases in a rotated basis, then one matrix, then phases again.

The pure-torch simulator is fastest when a circuit is a product ``A_K D_K ... A_1 D_1``: the ``D`` are
diagonal and carry the angles that differ from sample to sample, the ``A`` are the same for all samples.
Rotations in a set of qubit-wise commuting Pauli words become diagonal in a basis that single-qubit Cliffords
reach (RX = H RZ H), and those basis changes join the neighbouring ``A``. Any circuit can be put in this
form; re-uploading circuits have one pair a layer.

Source: own construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from circuits.circuit import Circuit
from circuits.gates import Gate
from circuits.reference import PAULIS, Matrix, gate_matrix

AXES: dict[str, NDArray[np.float64]] = {
    "X": np.array([1.0, 0.0, 0.0]),
    "Y": np.array([0.0, 1.0, 0.0]),
    "Z": np.array([0.0, 0.0, 1.0]),
}

_HADAMARD = gate_matrix(Gate("H", (0,)))
BASIS_CHANGE: dict[str, Matrix] = {
    "I": PAULIS["I"],
    "Z": PAULIS["I"],
    "X": _HADAMARD,
    "Y": _HADAMARD @ gate_matrix(Gate("SDG", (0,))),
}
"""For each Pauli P the matrix V with V P V^dagger = Z."""


@dataclass
class Phases:
    """Commuting rotations that one basis makes diagonal.

    Attributes:
        basis: the Pauli that each qubit's basis change turns into Z, I where it does not matter.
        words: (angle index, qubits) of each rotation.
    """

    basis: list[str]
    words: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def accepts(self, gate: Gate) -> bool:
        """Whether a rotation is diagonal in the same basis."""
        return all(self.basis[q] in ("I", letter) for q, letter in zip(gate.qubits, gate.word, strict=True))

    def add(self, gate: Gate, angle: int) -> None:
        """Take in a rotation."""
        for qubit, letter in zip(gate.qubits, gate.word, strict=True):
            self.basis[qubit] = letter
        self.words.append((angle, gate.qubits))


@dataclass
class Stage:
    """Single-qubit gates on each qubit, then fixed gates on pairs.

    Attributes:
        slots: for each qubit the rotations as (angle index, signed unit axis), with all Cliffords moved
            behind them.
        clifford: for each qubit the matrix behind its rotations.
        entanglers: the fixed two-qubit gates that follow.
    """

    slots: list[list[tuple[int, NDArray[np.float64]]]]
    clifford: list[Matrix]
    entanglers: list[Gate] = field(default_factory=list)

    @property
    def is_constant(self) -> bool:
        """Whether no angle enters."""
        return not any(self.slots)

    def touches(self, qubit: int) -> bool:
        """Whether an entangler acts on the qubit."""
        return any(qubit in gate.qubits for gate in self.entanglers)

    def add(self, gate: Gate, angle: int) -> None:
        """Take in a single-qubit gate, or a fixed gate on a pair."""
        if len(gate.qubits) == 2:
            self.entanglers.append(gate)
            return
        qubit = gate.qubits[0]
        before = self.clifford[qubit]
        if gate.is_rotation:
            # R(a) C = C R'(a), with the axis turned by the Clifford that the rotation is moved in front of.
            self.slots[qubit].append((angle, turned(before.conj().T, AXES[gate.word])))
        else:
            self.clifford[qubit] = gate_matrix(gate) @ before


def turned(unitary: Matrix, axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the axis b with U (a . sigma) U^dagger = b . sigma."""
    pauli = sum(component * PAULIS[name] for component, name in zip(axis, "XYZ", strict=True))
    moved = unitary @ pauli @ unitary.conj().T
    return np.array([np.trace(PAULIS[name] @ moved).real / 2 for name in "XYZ"])


@dataclass
class Schedule:
    """A circuit in layers: ``stages[0], phases[0], stages[1], phases[1], ..., stages[-1]`` in time order.

    Attributes:
        stages: one more than phases.
        phases: None in place of phases without any rotation.
    """

    stages: list[Stage]
    phases: list[Phases | None]


def schedule(circuit: Circuit) -> Schedule:
    """Put each gate into the earliest layer that its qubits allow.

    Angles that read no feature and belong to one-qubit rotations go to stages, all other rotations to phases.
    """
    n = circuit.n_qubits
    batched = circuit.angle_map.depends_on(np.zeros(circuit.n_parameters, dtype=bool), True)
    stages = [_stage(n)]
    phases: list[Phases] = []
    level = [0] * n  # of each qubit's latest gate: 2 k in stage k, 2 k + 1 in phases k

    def reach(depth: int) -> None:
        while len(phases) <= depth:
            phases.append(Phases(["I"] * n))
            stages.append(_stage(n))

    angle = -1
    for gate in circuit.gates:
        angle += gate.is_rotation
        start = max(level[qubit] for qubit in gate.qubits)
        if gate.is_rotation and (batched[angle] or len(gate.qubits) > 1):
            depth = start // 2
            reach(depth)
            while not phases[depth].accepts(gate):
                depth += 1
                reach(depth)
            phases[depth].add(gate, angle)
            place = 2 * depth + 1
        else:
            depth = (start + 1) // 2
            if len(gate.qubits) == 1 and stages[depth].touches(gate.qubits[0]):
                depth += 1
                reach(depth - 1)
            stages[depth].add(gate, angle)
            place = 2 * depth
        for qubit in gate.qubits:
            level[qubit] = place
    return Schedule(stages, [block if block.words else None for block in phases])


def monomial(n_qubits: int, gates: Sequence[Gate]) -> tuple[NDArray[np.int64], NDArray[np.complex128]]:
    """Return (source, factor) of fixed two-qubit gates in turn: ``new[i] = factor[i] * old[source[i]]``."""
    source = np.arange(2**n_qubits)
    factor = np.ones(2**n_qubits, dtype=np.complex128)
    index = np.arange(2**n_qubits)
    for gate in gates:
        a, b = gate.qubits
        bit_a, bit_b = index >> a & 1, index >> b & 1
        step = index
        phase: Matrix = np.ones(1, dtype=np.complex128)
        if gate.name == "CZ":
            phase = np.asarray(1.0 - 2.0 * (bit_a & bit_b), dtype=np.complex128)
        elif gate.name == "SWAP":
            step = index ^ ((bit_a ^ bit_b) << a) ^ ((bit_a ^ bit_b) << b)
        else:
            step = index ^ (bit_a << b)
            if gate.name == "CY":
                # Y|0> = i|1> and Y|1> = -i|0>, where the control is set.
                phase = np.asarray(np.where(bit_a == 1, np.where(bit_b == 1, 1j, -1j), 1.0))
        source, factor = source[step], phase * factor[step]
    return source, factor


def _stage(n_qubits: int) -> Stage:
    return Stage([[] for _ in range(n_qubits)], [PAULIS["I"]] * n_qubits)


@dataclass(frozen=True)
class Step:
    """Phases, or none, and the stage after them.

    Attributes:
        phases: the commuting rotations; None where there are none.
        stage: the stage.
        before: for each qubit the matrix V into the basis of these phases.
        after: for each qubit the matrix V into the basis of the next step's phases.
    """

    phases: Phases | None
    stage: Stage
    before: list[Matrix]
    after: list[Matrix]


def steps(circuit: Circuit) -> tuple[Matrix, list[Step]]:
    """Return the state before the first step, ``(2 ** n, 1)`` in the basis of its phases, and the steps.

    A first stage without angles is applied to the initial state here.
    """
    n = circuit.n_qubits
    plan = schedule(circuit)
    blocks = [None, *plan.phases]
    bases = [
        [BASIS_CHANGE[letter] for letter in (block.basis if block else "I" * n)] for block in [*blocks, None]
    ]
    result = [Step(blocks[k], stage, bases[k], bases[k + 1]) for k, stage in enumerate(plan.stages)]
    state = np.zeros((2**n, 1), dtype=np.complex128)
    state[0] = 1.0
    if circuit.initial_state is not None:
        state[:, 0] = circuit.initial_state
    if result[0].stage.is_constant and len(result) > 1:
        first = result.pop(0)
        source, factor = monomial(n, first.stage.entanglers)
        state = _on_qubits(first.stage.clifford, state)
        state = _on_qubits(first.after, factor[:, None] * state[source])
    return state, result


def _on_qubits(matrices: Sequence[Matrix], state: Matrix) -> Matrix:
    for qubit, matrix in enumerate(matrices):
        view = state.reshape(-1, 2, 2**qubit)
        state = np.einsum("ij,ajb->aib", matrix, view).reshape(-1, 1)
    return state
