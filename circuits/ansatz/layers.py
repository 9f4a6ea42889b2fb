"""What the families share: numbering of parameters, entanglers, controlled rotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from circuits.circuit import Angle, Circuit, Gate, Squash, Term
from circuits.gates import choice, integer

Entangler = Literal["ring", "linear", "all", "none"]
EntanglingGate = Literal["CZ", "CX", "CY", "CRot"]

ENTANGLERS = ("ring", "linear", "all", "none")
ENTANGLING_GATES = ("CZ", "CX", "CY", "CRot")


class Layers:
    """Gates in time order; parameters are numbered as they are asked for, weights first and then scales.

    Args:
        n_qubits: number of qubits.
        n_features: length of the feature vector.
    """

    def __init__(self, n_qubits: int, n_features: int) -> None:
        self.n_qubits, self.n_features = n_qubits, n_features
        self.gates: list[Gate] = []
        self._weights = self._scales = 0

    def weight(self) -> Term:
        """A new weight as the term of an angle."""
        self._weights += 1
        return Term(1.0, self._weights - 1)

    def encoded(self, *features: int, squash: Squash = "none", trainable: bool = True) -> Term:
        """A product of features times a new scale, or times 1."""
        if not trainable:
            return Term(1.0, None, features, squash)
        # how many weights come before the scales is known in the end
        self._scales += 1
        return Term(1.0, _SCALES + self._scales - 1, features, squash)

    def add(self, name: str, *qubits: int, angle: Angle | Term | None = None) -> None:
        """Append a gate; a term is an angle of one term."""
        self.gates.append(Gate(name, qubits, Angle(0.0, (angle,)) if isinstance(angle, Term) else angle))

    def rotate(self, names: Sequence[str]) -> None:
        """Rotations by new weights on each qubit."""
        for qubit in range(self.n_qubits):
            for name in names:
                self.add(name, qubit, angle=self.weight())

    def hadamard(self) -> None:
        """H on each qubit."""
        for qubit in range(self.n_qubits):
            self.add("H", qubit)

    def entangle(self, entangler: Entangler, gate: EntanglingGate) -> None:
        """The entangler's gates; CRot has three new weights a pair."""
        for control, target in entangler_pairs(self.n_qubits, entangler):
            if gate == "CRot":
                for axis in "ZYZ":
                    angle = Angle(0.0, (self.weight(),))
                    self.gates += controlled_rotation(axis, control, target, angle)
            else:
                self.add(gate, control, target)

    def circuit(self) -> Circuit:
        """The circuit, with the groups ``weights`` and ``scales``; a group without parameters is left out."""
        groups = (("weights", self._weights), ("scales", self._scales))
        return Circuit(
            self.n_qubits,
            tuple(map(self._numbered, self.gates)),
            self.n_features,
            tuple((name, size) for name, size in groups if size),
        )

    def _numbered(self, gate: Gate) -> Gate:
        if gate.angle is None or not any((t.parameter or 0) >= _SCALES for t in gate.angle.terms):
            return gate
        terms = tuple(
            Term(t.coefficient, t.parameter - _SCALES + self._weights, t.features, t.squash)
            if t.parameter is not None and t.parameter >= _SCALES
            else t
            for t in gate.angle.terms
        )
        return Gate(gate.name, gate.qubits, Angle(gate.angle.constant, terms))


_SCALES = 2**40
"""Scales are numbered from here until the number of weights is known."""


def sizes(n_qubits: int, n_layers: int, n_features: int | None) -> tuple[int, int, int]:
    """The three sizes, checked; as many features as qubits where none are given.

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is below 1.
    """
    n = integer("n_qubits", n_qubits, 1)
    layers = integer("n_layers", n_layers, 1)
    return n, layers, n if n_features is None else integer("n_features", n_features, 1)


def rotation_names(option: str, names: str | Sequence[str]) -> tuple[str, ...]:
    """One rotation or several, checked.

    Raises:
        ValueError: none, or one that is not RX, RY or RZ.
    """
    found = (names,) if isinstance(names, str) else tuple(names)
    if not found:
        raise ValueError(f"{option}: empty; give at least one of RX, RY, RZ")
    for name in found:
        choice(option, name, ("RX", "RY", "RZ"))
    return found


def check_entangler(entangler: str, gate: str) -> None:
    """Refuse an entangler or an entangling gate that is unknown.

    Raises:
        ValueError: the message names the nearest match.
    """
    choice("entangler", entangler, ENTANGLERS)
    choice("entangling_gate", gate, ENTANGLING_GATES)


def entangler_pairs(n_qubits: int, entangler: Entangler) -> tuple[tuple[int, int], ...]:
    """Return the (control, target) pairs of an entangler in time order.

    Raises:
        ValueError: the entangler is unknown.
    """
    choice("entangler", entangler, ENTANGLERS)
    if entangler == "none":
        return ()
    if entangler == "all":
        return tuple((a, b) for a in range(n_qubits) for b in range(a + 1, n_qubits))
    pairs = tuple((q, q + 1) for q in range(n_qubits - 1))
    # A ring on two qubits would apply the same pair twice, and two CZ cancel.
    return (*pairs, (n_qubits - 1, 0)) if entangler == "ring" and n_qubits > 2 else pairs


def controlled_rotation(axis: str, control: int, target: int, angle: Angle) -> tuple[Gate, Gate]:
    r"""Return a controlled rotation as two commuting Pauli-word rotations, so that the two-term shift rule
    holds.

    :math:`C R_P(t) = R_P(t/2)_{target} \; R_{ZP}(-t/2)_{control, target}`, since the projector on the
    control's one state is :math:`(1 - Z)/2`.

    Args:
        axis: "X", "Y" or "Z".
        control: the control qubit.
        target: the target qubit.
        angle: the angle t, in radians.

    Raises:
        ValueError: unknown axis or equal qubits.

    Source: own construction.
    """
    choice("axis", axis, ("X", "Y", "Z"))
    return (
        Gate(f"R{axis}", (target,), angle.scaled(0.5)),
        Gate(f"RZ{axis}", (control, target), angle.scaled(-0.5)),
    )
