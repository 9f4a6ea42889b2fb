"""The circuit description: gates, where each angle comes from, and what follows from that.

A :class:`Circuit` is data. It is written once and runs unchanged on every backend; it knows nothing of
reinforcement learning and needs NumPy alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.angles import AngleJacobian, AngleMap
from circuits.gates import Angle, Gate, Squash, Term, integer

__all__ = ["Angle", "Circuit", "Gate", "Squash", "Term"]

_SCHEMA = "qrl-circuit/1"
_NORM_TOLERANCE = 1e-10

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Circuit:
    """An immutable parametrised circuit.

    Args:
        n_qubits: number of qubits, at least 1.
        gates: the gates, in time order.
        n_features: length of the feature vector that angles may read.
        groups: ordered (name, size) pairs; the parameter vector is their concatenation.
        initial_state: normalised amplitudes, little-endian, ``(2 ** n_qubits,)``; None is the all-zero state.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: 0 qubits, a gate on a qubit that is not there, a parameter or feature index out of range,
            repeated group names, or an initial state of the wrong length or norm. The message names the gate.

    Source: own construction.
    """

    n_qubits: int
    gates: tuple[Gate, ...]
    n_features: int = 0
    groups: tuple[tuple[str, int], ...] = ()
    initial_state: tuple[complex, ...] | None = None
    _memo: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_qubits", integer("n_qubits", self.n_qubits, 1))
        object.__setattr__(self, "n_features", integer("n_features", self.n_features, 0))
        object.__setattr__(self, "gates", tuple(self.gates))
        object.__setattr__(self, "groups", _checked_groups(self.groups))
        for position, gate in enumerate(self.gates):
            self._check_gate(position, gate)
        if self.initial_state is not None:
            object.__setattr__(self, "initial_state", _checked_state(self.initial_state, self.n_qubits))

    def _check_gate(self, position: int, gate: Gate) -> None:
        if not isinstance(gate, Gate):
            raise TypeError(f"gates[{position}]: {gate!r} is not a Gate; use circuits.Gate(...)")
        where = f"gates[{position}] {gate.name}"
        for qubit in gate.qubits:
            if qubit >= self.n_qubits:
                raise ValueError(f"{where}: qubit {qubit} is out of range; use 0 to {self.n_qubits - 1}")
        for term in gate.angle.terms if gate.angle is not None else ():
            if term.parameter is not None and term.parameter >= self.n_parameters:
                raise ValueError(
                    f"{where}: parameter {term.parameter} is out of range, groups hold {self.n_parameters};"
                    " enlarge a group or lower the index"
                )
            for index in term.features:
                if index >= self.n_features:
                    raise ValueError(
                        f"{where}: feature {index} is out of range, n_features is {self.n_features};"
                        " raise n_features or lower the index"
                    )

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return Circuit, (self.n_qubits, self.gates, self.n_features, self.groups, self.initial_state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Circuit:
        return self

    def memo(self, key: Any, build: Callable[[Circuit], _Value]) -> _Value:
        """Return ``build(self)``, computed once for each ``key`` and kept as long as the circuit lives.

        Backends keep what they compile from a circuit here; it is no part of the circuit's value, copies or
        files.
        """
        if key in self._memo:
            return cast(_Value, self._memo[key])
        return cast(_Value, self._memo.setdefault(key, build(self)))

    @property
    def n_parameters(self) -> int:
        """Length of the parameter vector."""
        return sum(size for _, size in self.groups)

    @property
    def n_angles(self) -> int:
        """Number of rotations, which is the length of the flat angle vector."""
        return sum(gate.is_rotation for gate in self.gates)

    @property
    def rotations(self) -> tuple[Gate, ...]:
        """The rotations in time order; angle ``k`` of the flat angle vector belongs to rotation ``k``."""
        return tuple(gate for gate in self.gates if gate.is_rotation)

    @property
    def two_qubit_count(self) -> int:
        """Number of two-qubit gates; a rotation of k >= 3 qubits counts as the 2 (k - 1) CX that it takes."""
        sizes = (len(gate.qubits) for gate in self.gates)
        return sum(0 if size == 1 else 1 if size == 2 else 2 * (size - 1) for size in sizes)

    @property
    def depth(self) -> int:
        """Length of the longest chain of gates that share qubits, each gate counted once."""
        levels = [0] * self.n_qubits
        for gate in self.gates:
            level = 1 + max(levels[qubit] for qubit in gate.qubits)
            for qubit in gate.qubits:
                levels[qubit] = level
        return max(levels)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, in hexadecimal: equal for equal circuits, on every machine."""
        return self.memo("digest", _digest)

    @property
    def angle_map(self) -> AngleMap:
        """The map from parameters and features to the flat angle vector, with its exact sparse Jacobian."""
        return self.memo("angle_map", AngleMap.from_circuit)

    def group(self, name: str) -> slice:
        """Return where a group lies in the parameter vector.

        Raises:
            ValueError: there is no group of that name.
        """
        start = 0
        for known, size in self.groups:
            if known == name:
                return slice(start, start + size)
            start += size
        names = ", ".join(known for known, _ in self.groups) or "none"
        raise ValueError(f"group: {name!r} is unknown; the groups are {names}")

    def angles(self, parameters: ArrayLike = (), features: ArrayLike = ()) -> NDArray[np.float64]:
        """Return the flat angles in radians, ``(N, n_angles)``.

        Args:
            parameters: ``(n_parameters,)`` or ``(N, n_parameters)``.
            features: ``(n_features,)`` or ``(N, n_features)``; one row counts for all rows of the other.

        Raises:
            ValueError: wrong shape, or a value that is not finite.
        """
        return self.angle_map.angles(parameters, features)

    def jacobian(self, parameters: ArrayLike = (), features: ArrayLike = ()) -> AngleJacobian:
        """Return the exact sparse Jacobian of the flat angles; arguments and errors as ``angles``."""
        return self.angle_map.jacobian(parameters, features)

    def statevector(self, parameters: ArrayLike = (), features: ArrayLike = ()) -> NDArray[np.complex128]:
        """Return the final state of one sample, ``(2 ** n_qubits,)``; bit ``q`` of the index is qubit ``q``.

        This is the dense gate-by-gate reference, written apart from all backends so that they can be tested
        on it.

        Raises:
            ValueError: wrong shape, more than one sample, a value that is not finite, or a state that does
                not fit in memory.
        """
        from circuits.reference import statevector

        return statevector(self, parameters, features)

    def flat(self) -> Circuit:
        """Return the circuit with angle ``k`` read from feature ``k``: no parameters, ``n_angles`` features.

        It serves backends and gradient rules that work on flat angles.
        """
        return self.memo("flat", _flat)

    def draw(self, style: Literal["text", "mpl"] = "text") -> Any:
        """Return the drawing: a string for ``"text"``, a matplotlib figure for ``"mpl"``.

        Raises:
            ValueError: the style is neither.
        """
        from circuits.drawing import draw

        return draw(self, style)

    def to_dict(self) -> dict[str, Any]:
        """Return the circuit as JSON values; ``from_dict`` is the inverse."""
        state = self.initial_state
        return {
            "schema": _SCHEMA,
            "n_qubits": self.n_qubits,
            "n_features": self.n_features,
            "groups": [[name, size] for name, size in self.groups],
            "initial_state": None if state is None else [[value.real, value.imag] for value in state],
            "gates": [_gate_to_dict(gate) for gate in self.gates],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Circuit:
        """Return the circuit that ``to_dict`` wrote.

        Raises:
            ValueError: the schema is another one, a key is missing, or the values describe no valid circuit.
        """
        if data.get("schema") != _SCHEMA:
            raise ValueError(
                f"schema: {data.get('schema')!r} is not {_SCHEMA!r}; read it with the version that wrote it"
            )
        try:
            state = data["initial_state"]
            return cls(
                data["n_qubits"],
                tuple(_gate_from_dict(gate) for gate in data["gates"]),
                data["n_features"],
                tuple((name, size) for name, size in data["groups"]),
                None if state is None else tuple(complex(real, imag) for real, imag in state),
            )
        except KeyError as error:
            raise ValueError(
                f"circuit: key {error.args[0]!r} is missing; write it with Circuit.to_dict"
            ) from None


def _digest(circuit: Circuit) -> str:
    text = json.dumps(circuit.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(circuit: Circuit) -> Circuit:
    gates: list[Gate] = []
    index = 0
    for gate in circuit.gates:
        if gate.is_rotation:
            gate = Gate(gate.name, gate.qubits, Angle(0.0, (Term(features=(index,)),)))
            index += 1
        gates.append(gate)
    return Circuit(circuit.n_qubits, tuple(gates), index, (), circuit.initial_state)


def _checked_groups(groups: Any) -> tuple[tuple[str, int], ...]:
    checked: list[tuple[str, int]] = []
    for entry in groups:
        if not isinstance(entry, tuple | list) or len(entry) != 2:
            raise TypeError(f"groups: {entry!r} is not a (name, size) pair; use for example ('weights', 40)")
        name, size = entry
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"groups: {name!r} is no identifier; use a name such as 'weights'")
        if name in (known for known, _ in checked):
            raise ValueError(f"groups: {name!r} occurs twice; give each group its own name")
        checked.append((name, integer(f"groups.{name}", size, 1)))
    return tuple(checked)


def _checked_state(state: Any, n_qubits: int) -> tuple[complex, ...]:
    values = [complex(value) for value in state]
    amplitudes = tuple(complex(value.real + 0.0, value.imag + 0.0) for value in values)
    if len(amplitudes) != 2**n_qubits:
        raise ValueError(
            f"initial_state: {len(amplitudes)} amplitudes for {n_qubits} qubits; give {2**n_qubits} of them"
        )
    norm = float(np.vdot(amplitudes, amplitudes).real)
    if not abs(norm - 1.0) <= _NORM_TOLERANCE:
        raise ValueError(f"initial_state: squared norm is {norm:.12g}, not 1; divide it by its norm")
    return amplitudes


def _gate_to_dict(gate: Gate) -> dict[str, Any]:
    data: dict[str, Any] = {"name": gate.name, "qubits": list(gate.qubits)}
    if gate.angle is not None:
        terms = [
            [term.coefficient, term.parameter, list(term.features), term.squash] for term in gate.angle.terms
        ]
        data["angle"] = {"constant": gate.angle.constant, "terms": terms}
    return data


def _gate_from_dict(data: Mapping[str, Any]) -> Gate:
    angle = None
    if "angle" in data:
        terms = tuple(
            Term(value, index, tuple(features), squash)
            for value, index, features, squash in data["angle"]["terms"]
        )
        angle = Angle(data["angle"]["constant"], terms)
    return Gate(data["name"], tuple(data["qubits"]), angle)
