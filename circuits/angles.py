"""From parameters and features to the flat angle vector, with the exact sparse Jacobian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.gates import SQUASHES

if TYPE_CHECKING:
    from circuits.circuit import Circuit

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AngleJacobian:
    """The sparse Jacobian of the flat angles, one coordinate list by parameters and one by features.

    Entry ``e`` of a list says: d angle[rows[e]] / d variable[columns[e]] has the contribution ``values[:,
    e]``; contributions with the same row and column add up.

    Attributes:
        n_angles, n_parameters, n_features: the sizes.
        parameter_rows, parameter_columns: ``(entries,)``; parameter_values: ``(N, entries)``.
        feature_rows, feature_columns: ``(entries,)``; feature_values: ``(N, entries)``.
    """

    n_angles: int
    n_parameters: int
    n_features: int
    parameter_rows: Integers
    parameter_columns: Integers
    parameter_values: Floats
    feature_rows: Integers
    feature_columns: Integers
    feature_values: Floats

    def dense_parameters(self) -> Floats:
        """Return d angles / d parameters as an array ``(N, n_angles, n_parameters)``."""
        return _dense(
            self.parameter_rows,
            self.parameter_columns,
            self.parameter_values,
            self.n_angles,
            self.n_parameters,
        )

    def dense_features(self) -> Floats:
        """Return d angles / d features as an array ``(N, n_angles, n_features)``."""
        return _dense(
            self.feature_rows, self.feature_columns, self.feature_values, self.n_angles, self.n_features
        )


@dataclass(frozen=True, slots=True)
class AngleMap:
    """The angles of a circuit as arrays over its terms, so that all of them are evaluated at once.

    Term ``t`` adds ``coefficient[t] * squash[t](theta[parameter[t]] * prod_k x[features[t, k]])`` to the
    angle ``angle[t]``; index ``n_parameters`` and ``n_features`` stand for the constant 1.

    Attributes:
        constant: ``(n_angles,)`` radians.
        angle, coefficient, parameter, squash: ``(terms,)``; squash indexes ``SQUASHES``.
        features: ``(terms, longest product)``.
    """

    n_parameters: int
    n_features: int
    constant: Floats
    angle: Integers
    coefficient: Floats
    parameter: Integers
    features: Integers
    squash: Integers

    @classmethod
    def from_circuit(cls, circuit: Circuit) -> AngleMap:
        """Collect the terms of a circuit's rotations in time order."""
        angles = [gate.angle for gate in circuit.gates if gate.angle is not None]
        terms = [(k, term) for k, angle in enumerate(angles) for term in angle.terms]
        width = max((len(term.features) for _, term in terms), default=0)
        features = np.full((len(terms), width), circuit.n_features, dtype=np.int64)
        for row, (_, term) in enumerate(terms):
            features[row, : len(term.features)] = term.features
        none = circuit.n_parameters
        return cls(
            circuit.n_parameters,
            circuit.n_features,
            np.array([angle.constant for angle in angles], dtype=np.float64),
            np.array([k for k, _ in terms], dtype=np.int64),
            np.array([term.coefficient for _, term in terms], dtype=np.float64),
            np.array(
                [none if term.parameter is None else term.parameter for _, term in terms], dtype=np.int64
            ),
            features,
            np.array([SQUASHES.index(term.squash) for _, term in terms], dtype=np.int64),
        )

    @property
    def n_angles(self) -> int:
        """Length of the flat angle vector."""
        return len(self.constant)

    def depends_on(self, parameters: NDArray[np.bool_], features: bool) -> NDArray[np.bool_]:
        """Return for each angle whether it reads a marked parameter, or a feature where ``features`` is set.

        Args:
            parameters: ``(n_parameters,)`` marks.
            features: whether features count.
        """
        marks = np.append(parameters, False)[self.parameter]
        if features:
            marks = marks | (self.features < self.n_features).any(axis=1)
        result = np.zeros(self.n_angles, dtype=bool)
        result[self.angle[marks]] = True
        return result

    def angles(self, parameters: ArrayLike = (), features: ArrayLike = ()) -> Floats:
        """Return the flat angles in radians, ``(N, n_angles)``; see ``Circuit.angles``."""
        theta, factors = self._factors(parameters, features)
        value, _ = self._squashed(theta * factors.prod(axis=2))
        result = np.repeat(self.constant[None], len(value), axis=0)
        np.add.at(result.T, self.angle, (value * self.coefficient).T)
        return result

    def jacobian(self, parameters: ArrayLike = (), features: ArrayLike = ()) -> AngleJacobian:
        """Return the exact sparse Jacobian of the flat angles; see ``Circuit.jacobian``."""
        theta, factors = self._factors(parameters, features)
        product = factors.prod(axis=2)
        _, slope = self._squashed(theta * product)
        slope = slope * self.coefficient
        by_parameter = np.flatnonzero(self.parameter < self.n_parameters)
        rows, columns, values = (
            [np.zeros(0, np.int64)],
            [np.zeros(0, np.int64)],
            [np.zeros((len(product), 0))],
        )
        for position in range(self.features.shape[1]):
            chosen = np.flatnonzero(self.features[:, position] < self.n_features)
            others = np.delete(factors, position, axis=2).prod(axis=2)
            rows.append(self.angle[chosen])
            columns.append(self.features[chosen, position])
            values.append((slope * theta * others)[:, chosen])
        return AngleJacobian(
            self.n_angles,
            self.n_parameters,
            self.n_features,
            self.angle[by_parameter],
            self.parameter[by_parameter],
            (slope * product)[:, by_parameter],
            np.concatenate(rows),
            np.concatenate(columns),
            np.concatenate(values, axis=1),
        )

    def _factors(self, parameters: ArrayLike, features: ArrayLike) -> tuple[Floats, Floats]:
        theta = _rows("parameters", parameters, self.n_parameters)
        x = _rows("features", features, self.n_features)
        if len(theta) != len(x) and 1 not in (len(theta), len(x)):
            raise ValueError(
                f"parameters: {len(theta)} rows against {len(x)} rows of features; give equally many, or one"
            )
        samples = len(x) if len(theta) == 1 else len(theta)
        theta = np.append(theta, np.ones((len(theta), 1)), axis=1)[:, self.parameter]
        x = np.append(x, np.ones((len(x), 1)), axis=1)[:, self.features]
        shape = (samples, *self.features.shape)
        return np.broadcast_to(theta, shape[:2]), np.broadcast_to(x, shape)

    def _squashed(self, value: Floats) -> tuple[Floats, Floats]:
        kinds = [value, np.tanh(value), np.arctan(value)]
        slopes = [np.ones_like(value), 1.0 - kinds[1] ** 2, 1.0 / (1.0 + value**2)]
        return np.choose(self.squash, kinds), np.choose(self.squash, slopes)


def _rows(name: str, values: ArrayLike, width: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2) or array.shape[-1] != width:
        raise ValueError(f"{name}: shape {array.shape} does not fit; use ({width},) or (N, {width})")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: a value is not finite; use finite numbers")
    return array[None] if array.ndim == 1 else array


def _dense(rows: Integers, columns: Integers, values: Floats, n_rows: int, n_columns: int) -> Floats:
    result = np.zeros((n_rows * n_columns, len(values)))
    np.add.at(result, rows * n_columns + columns, values.T)
    return result.T.reshape(len(values), n_rows, n_columns)
