"""The smallest parts of a circuit description: terms, angles and gates.

Conventions, used by the whole package: state vectors are little-endian, that is bit ``q`` of a basis index
is qubit ``q``; a parametrised gate is a rotation ``exp(-i angle P / 2)`` whose Pauli word ``P`` has one
letter per qubit it acts on, so the two-term shift rule holds for every one of them; everything else is a
Clifford gate without an angle.
"""

from __future__ import annotations

import difflib
import math
import numbers
from dataclasses import dataclass
from typing import Any, Literal, get_args

Squash = Literal["none", "tanh", "arctan"]

SQUASHES: tuple[str, ...] = get_args(Squash)

FIXED_GATES: dict[str, int] = {
    "H": 1,
    "X": 1,
    "Y": 1,
    "Z": 1,
    "S": 1,
    "SDG": 1,
    "SX": 1,
    "SXDG": 1,
    "CX": 2,
    "CY": 2,
    "CZ": 2,
    "SWAP": 2,
}
"""Name of each gate without an angle, and the number of qubits it acts on."""


def integer(name: str, value: Any, minimum: int) -> int:
    """Return ``value`` as an ``int`` of at least ``minimum``; NumPy integers pass, booleans and floats do
    not.

    Raises:
        TypeError: the value is no integer.
        ValueError: the value is below the minimum.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: {value!r} is not an integer; use an integer >= {minimum}")
    if value < minimum:
        raise ValueError(f"{name}: {value} is below {minimum}; use an integer >= {minimum}")
    return int(value)


def finite(name: str, value: Any) -> float:
    """Return ``value`` as a finite ``float``; minus zero becomes zero, so that equal values hash equally.

    Raises:
        TypeError: the value is no real number.
        ValueError: the value is NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: {value!r} is not a real number; use a finite number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: {number} is not finite; use a finite number")
    return number + 0.0


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``allowed``.

    Raises:
        ValueError: it is not; the message names the nearest match.
    """
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name}: {value!r} is unknown, use one of {', '.join(allowed)}{hint}")
    return str(value)


@dataclass(frozen=True, slots=True)
class Term:
    r"""One summand of an angle: ``coefficient * squash(parameter * product of features)``.

    With :math:`\theta_p` the parameter and :math:`x_f` the features, the value is
    :math:`c\, s(\theta_p \prod_f x_f)`; a missing parameter counts as 1 and so does an empty product. A
    feature may occur more than once, which makes a power.

    Args:
        coefficient: the factor in front, in radians once the term is part of an angle.
        parameter: index into the circuit's parameter vector, or None.
        features: indices into the feature vector.
        squash: ``"none"``, ``"tanh"`` or ``"arctan"``.

    Raises:
        TypeError: an index is no integer or the coefficient no number.
        ValueError: an index is negative, the coefficient not finite, or the squash unknown.

    Source: own construction; it covers trainable input scaling with the squash outside it
    (arXiv:2103.15084), universal classifiers and products of features.
    """

    coefficient: float = 1.0
    parameter: int | None = None
    features: tuple[int, ...] = ()
    squash: Squash = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "coefficient", finite("Term.coefficient", self.coefficient))
        if self.parameter is not None:
            object.__setattr__(self, "parameter", integer("Term.parameter", self.parameter, 0))
        features = tuple(integer("Term.features", index, 0) for index in self.features)
        object.__setattr__(self, "features", features)
        choice("Term.squash", self.squash, SQUASHES)


@dataclass(frozen=True, slots=True)
class Angle:
    """The angle of a rotation, in radians: a constant plus a sum of terms.

    Args:
        constant: radians.
        terms: the summands, possibly none.

    Raises:
        TypeError: the constant is no number or a term no :class:`Term`.
        ValueError: the constant is not finite.
    """

    constant: float = 0.0
    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "constant", finite("Angle.constant", self.constant))
        object.__setattr__(self, "terms", tuple(self.terms))
        for term in self.terms:
            if not isinstance(term, Term):
                raise TypeError(f"Angle.terms: {term!r} is not a Term; use circuits.Term(...)")

    def scaled(self, factor: float) -> Angle:
        """Return the angle times ``factor``: the constant and every coefficient are multiplied by it."""
        terms = tuple(
            Term(factor * term.coefficient, term.parameter, term.features, term.squash) for term in self.terms
        )
        return Angle(factor * self.constant, terms)


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate: a Pauli-word rotation with an angle, or a fixed gate without one.

    A rotation is named ``"R"`` plus a word over X, Y and Z with one letter per qubit (``"RX"``, ``"RZZ"``,
    ``"RXZ"``); letter ``k`` acts on ``qubits[k]`` and the gate is ``exp(-i angle P / 2)``. The fixed gates
    are those of ``FIXED_GATES``; controlled ones take (control, target).

    Args:
        name: the gate's name.
        qubits: the qubits it acts on, all different.
        angle: the angle of a rotation; None for a fixed gate.

    Raises:
        TypeError: a qubit is no integer, or the angle no :class:`Angle`.
        ValueError: unknown name, wrong number of qubits, repeated or negative qubits, a missing or a
            superfluous angle.
    """

    name: str
    qubits: tuple[int, ...]
    angle: Angle | None = None

    def __post_init__(self) -> None:
        size = _arity(self.name)
        qubits = tuple(integer(f"Gate {self.name}.qubits", qubit, 0) for qubit in self.qubits)
        object.__setattr__(self, "qubits", qubits)
        if len(qubits) != size:
            raise ValueError(f"Gate {self.name}.qubits: {qubits} has {len(qubits)} entries; give {size}")
        if len(set(qubits)) != size:
            raise ValueError(f"Gate {self.name}.qubits: {qubits} repeats a qubit; name each qubit once")
        if self.angle is not None and not isinstance(self.angle, Angle):
            raise TypeError(
                f"Gate {self.name}.angle: {self.angle!r} is not an Angle; use circuits.Angle(...)"
            )
        if self.is_rotation and self.angle is None:
            raise ValueError(f"Gate {self.name}.angle: None, but a rotation needs one; give an Angle")
        if not self.is_rotation and self.angle is not None:
            raise ValueError(f"Gate {self.name}.angle: a fixed gate takes no angle; leave it out")

    @property
    def is_rotation(self) -> bool:
        """Whether the gate is a Pauli-word rotation, that is whether it has an angle."""
        return self.name not in FIXED_GATES

    @property
    def word(self) -> str:
        """The Pauli word of a rotation, letter ``k`` for ``qubits[k]``; empty for a fixed gate."""
        return self.name[1:] if self.is_rotation else ""


def _arity(name: Any) -> int:
    if not isinstance(name, str):
        raise TypeError(f"Gate.name: {name!r} is not a string; use a name such as 'RX' or 'CZ'")
    if name in FIXED_GATES:
        return FIXED_GATES[name]
    if len(name) > 1 and name[0] == "R" and set(name[1:]) <= set("XYZ"):
        return len(name) - 1
    known = (*FIXED_GATES, "RX", "RY", "RZ", "RXX", "RYY", "RZZ")
    near = difflib.get_close_matches(name.upper(), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"Gate.name: {name!r} is unknown, use one of {', '.join(FIXED_GATES)} or R + Pauli word{hint}"
    )
