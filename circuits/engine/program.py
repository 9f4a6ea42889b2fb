"""Compiles a circuit and observables for the kernel: fused layers, entangler tables, Pauli-word rotations.

Every gate goes into the earliest place that its qubits allow. Neighbouring single-qubit gates of a qubit become
one slot, a product of rotations and a Clifford that is one SU(2) matrix when it runs; neighbouring fixed gates on
pairs become one table of signs, or of a permutation with phases; a rotation about a longer Pauli word stays by
itself. That covers every circuit of the description, without any special case of an ansatz.

Source: own construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from circuits.circuit import Circuit
from circuits.gates import Gate
from circuits.observables import Observable, commuting_groups
from circuits.reference import PAULIS, Matrix, gate_matrix

_AXES = "XYZ"
_FIXED = {"CZ": 0, "CX": 1, "CY": 2, "SWAP": 3}
_LAYER, _SIGNS, _TABLE, _PAULI = range(4)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A compiled program as the kernel reads it; kernel/dispatch.cpp has the order of the numbers.

    Attributes:
        ints: ``(n_ints,)``.
        reals: ``(n_reals,)``.
        tables: whether a permutation table needs a spare state.
    """

    ints: NDArray[np.int64]
    reals: NDArray[np.float64]
    tables: bool


@dataclass
class _Slot:
    """The gates of one qubit in one layer: rotations as (angle, axis, sign), with all Cliffords moved behind them."""

    rotations: list[tuple[int, int, int]] = field(default_factory=list)
    clifford: Matrix = field(default_factory=lambda: PAULIS["I"])

    def add(self, gate: Gate, angle: int) -> None:
        if gate.is_rotation:
            # R(a) C = C R'(a), with the axis turned by the Clifford that the rotation is moved in front of.
            axis, sign = _turned(self.clifford.conj().T, gate.word)
            self.rotations.append((angle, axis, sign))
        else:
            self.clifford = gate_matrix(gate) @ self.clifford


def encode(circuit: Circuit, observables: Sequence[Observable]) -> Encoded:
    """Compile a circuit and observables.

    Args:
        circuit: the circuit.
        observables: observables on its qubits.
    """
    layers, blocks = _schedule(circuit)
    entries, words = _words(observables)
    if blocks and not any(word[0] for word in words) and all(gate.name == "CZ" for gate, _ in blocks[-1]):
        # Signs at the very end change no probability, and with only diagonal observables nothing else counts.
        blocks[-1] = []
    signs = _signs(circuit.n_angles, layers)
    ops = _Stream()
    n_ops, tables = 0, False
    for layer, block in zip(layers, blocks, strict=True):
        if layer:
            ops.layer(layer)
            n_ops += 1
        for fixed in _runs(block):
            n_ops += 1
            if isinstance(fixed, list):
                tables |= ops.fixed(fixed)
            else:
                ops.pauli(*fixed)
    groups = _groups(observables, entries, words)
    stream = _Stream()
    angle_map = circuit.angle_map
    stream.ints += [circuit.n_qubits, circuit.n_parameters, circuit.n_features, circuit.n_angles, n_ops]
    stream.ints += [
        len(words),
        len(entries),
        len(observables),
        len(groups),
        circuit.initial_state is not None,
    ]
    stream.angles(circuit, signs * angle_map.constant, signs)
    stream.ints += ops.ints
    stream.reals += ops.reals
    for x, z in words:
        stream.ints += [x, z]
    for observable, word, coefficient in entries:
        stream.ints += [observable, word]
        stream.reals.append(coefficient)
    for basis, members in groups:
        stream.ints += [*basis, len(members), *members]
    reals = np.array(stream.reals, dtype=np.float64)
    if circuit.initial_state is not None:
        state = np.array(circuit.initial_state, dtype=np.complex128)
        reals = np.concatenate((reals, state.view(np.float64)))
    return Encoded(np.array(stream.ints, dtype=np.int64), reals, tables)


class _Stream:
    """Two growing lists of numbers."""

    def __init__(self) -> None:
        self.ints: list[int] = []
        self.reals: list[float] = []

    def angles(self, circuit: Circuit, constants: NDArray[np.float64], signs: NDArray[np.float64]) -> None:
        index = -1
        for gate in circuit.gates:
            if gate.angle is None:
                continue
            index += 1
            self.reals.append(float(constants[index]))
            self.ints.append(len(gate.angle.terms))
            for term in gate.angle.terms:
                parameter = -1 if term.parameter is None else term.parameter
                squash = ("none", "tanh", "arctan").index(term.squash)
                self.ints += [parameter, squash, len(term.features), *term.features]
                self.reals.append(float(signs[index]) * term.coefficient)

    def layer(self, slots: dict[int, _Slot]) -> None:
        self.ints += [_LAYER, len(slots)]
        for qubit in sorted(slots):
            slot = slots[qubit]
            self.ints += [qubit, len(slot.rotations)]
            for angle, axis, _ in slot.rotations:
                self.ints += [angle, axis]
            self.reals += _quaternion(slot.clifford)

    def fixed(self, gates: list[Gate]) -> bool:
        """Add a table; whether it is more than signs."""
        permutes = any(gate.name != "CZ" for gate in gates)
        self.ints += [_TABLE if permutes else _SIGNS, len(gates)]
        for gate in gates:
            self.ints += [_FIXED[gate.name], *gate.qubits]
        return permutes

    def pauli(self, gate: Gate, angle: int) -> None:
        x, z = _masks(dict(zip(gate.qubits, gate.word, strict=True)))
        self.ints += [_PAULI, angle, x, z]


Placed = tuple[Gate, int]
"""A gate and the index of its angle."""


def _schedule(circuit: Circuit) -> tuple[list[dict[int, _Slot]], list[list[Placed]]]:
    """Layers of slots by qubit, and behind each of them the gates on several qubits in time order."""
    layers: list[dict[int, _Slot]] = [{}]
    blocks: list[list[Placed]] = [[]]
    place = [0] * circuit.n_qubits  # of each qubit's latest gate: 2 k in layer k, 2 k + 1 in block k
    angle = -1
    for gate in circuit.gates:
        angle += gate.is_rotation
        latest = max(place[qubit] for qubit in gate.qubits)
        depth = (latest + 1) // 2 if len(gate.qubits) == 1 else latest // 2
        if depth == len(layers):
            layers.append({})
            blocks.append([])
        if len(gate.qubits) == 1:
            layers[depth].setdefault(gate.qubits[0], _Slot()).add(gate, angle)
            place[gate.qubits[0]] = 2 * depth
            continue
        blocks[depth].append((gate, angle))
        for qubit in gate.qubits:
            place[qubit] = 2 * depth + 1
    return layers, blocks


def _runs(block: list[Placed]) -> list[list[Gate] | Placed]:
    """Neighbouring fixed gates joined, rotations by themselves."""
    result: list[list[Gate] | Placed] = []
    for gate, angle in block:
        if gate.is_rotation:
            result.append((gate, angle))
        elif result and isinstance(result[-1], list):
            result[-1].append(gate)
        else:
            result.append([gate])
    return result


def _signs(n_angles: int, layers: list[dict[int, _Slot]]) -> NDArray[np.float64]:
    """For each angle the sign that turns a rotation about a negative axis into one about the positive axis."""
    signs = np.ones(n_angles)
    for layer in layers:
        for slot in layer.values():
            for angle, _, sign in slot.rotations:
                signs[angle] = sign
    return signs


def _words(
    observables: Sequence[Observable],
) -> tuple[list[tuple[int, int, float]], list[tuple[int, int]]]:
    """Entries (observable, word, coefficient), and the distinct words as masks."""
    places: dict[str, int] = {}
    entries = [
        (row, places.setdefault(word, len(places)), float(value))
        for row, observable in enumerate(observables)
        for word, value in observable.words.items()
    ]
    return entries, [_masks(dict(enumerate(word))) for word in places]


def _groups(
    observables: Sequence[Observable],
    entries: list[tuple[int, int, float]],
    words: list[tuple[int, int]],
) -> list[tuple[list[int], list[int]]]:
    """Measurement settings: the basis of each qubit (0 Z or none, 1 X, 2 Y) and the entries that it serves."""
    result = []
    for group in commuting_groups(observables):
        served = {_masks(dict(enumerate(word))) for word in group.words}
        members = [index for index, (_, word, _) in enumerate(entries) if words[word] in served]
        result.append(([max("ZXY".find(letter), 0) for letter in group.basis], members))
    return result


def _masks(letters: dict[int, str]) -> tuple[int, int]:
    """A Pauli word as masks: x for X and Y, z for Y and Z."""
    x = sum(1 << qubit for qubit, letter in letters.items() if letter in "XY")
    z = sum(1 << qubit for qubit, letter in letters.items() if letter in "YZ")
    return x, z


def _turned(unitary: Matrix, letter: str) -> tuple[int, int]:
    """The axis and sign with U P U^dagger = sign * axis, for a Clifford U."""
    moved = unitary @ PAULIS[letter] @ unitary.conj().T
    parts = [np.trace(PAULIS[name] @ moved).real / 2 for name in _AXES]
    axis = int(np.argmax(np.abs(parts)))
    return axis, 1 if parts[axis] > 0 else -1


def _quaternion(unitary: Matrix) -> list[float]:
    """(w, x, y, z) with U = w - i (x X + y Y + z Z) up to a global phase."""
    special = unitary / np.sqrt(np.linalg.det(unitary) + 0j)
    w = special.trace().real / 2
    parts = [w, *(-np.trace(PAULIS[name] @ special).imag / 2 for name in _AXES)]
    # A Clifford's components are multiples of 1/2 or of sqrt(1/2), both signs mean the same.
    exact = np.array([0.0, 0.5, np.sqrt(0.5), 1.0])
    rounded = [float(np.copysign(exact[np.argmin(np.abs(exact - abs(part)))], part)) for part in parts]
    return [-part for part in rounded] if rounded[0] < 0 else rounded
