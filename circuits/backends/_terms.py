"""Angles and their gradients as torch operations over all terms at once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuits.angles import AngleMap
from circuits.gates import SQUASHES


class AngleTerms:
    """Evaluates a selection of a circuit's angles, ``(n_rows, N)``, and carries gradients back.

    Everything is laid out with the sample last, so that a row is one angle of all samples.

    Args:
        angle_map: the circuit's map.
        rows: ``(n_angles,)`` row of the result that each angle goes to; negative leaves the angle out.
        n_rows: number of rows; rows that no angle goes to are zero.
        dtype: float32 or float64.
        device: where the tensors live.
    """

    def __init__(
        self,
        angle_map: AngleMap,
        rows: NDArray[np.int64],
        n_rows: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        chosen = np.flatnonzero(rows[angle_map.angle] >= 0)
        target = rows[angle_map.angle[chosen]]
        order = np.argsort(target, kind="stable")
        chosen, target = chosen[order], target[order]
        constant = np.zeros(n_rows)
        kept = np.flatnonzero(rows >= 0)
        constant[rows[kept]] = angle_map.constant[kept]

        def tensor(values: NDArray[np.float64] | NDArray[np.int64]) -> Tensor:
            floating = np.issubdtype(values.dtype, np.floating)
            return torch.as_tensor(values, dtype=dtype if floating else torch.int64, device=device)

        self.n_rows = n_rows
        self.n_parameters, self.n_features = angle_map.n_parameters, angle_map.n_features
        parameter, features = angle_map.parameter[chosen], angle_map.features[chosen]
        coefficient, squash = angle_map.coefficient[chosen], angle_map.squash[chosen]
        self._parameter = tensor(parameter)
        self._features = [tensor(column) for column in features.T if (column < self.n_features).any()]
        self._coefficient = None if (coefficient == 1.0).all() else tensor(coefficient[:, None])
        self._squash = [
            (index, tensor(np.flatnonzero(squash == index))) for index in (1, 2) if (squash == index).any()
        ]
        self._squash_all = next((index for index in (1, 2) if len(squash) and (squash == index).all()), 0)
        self._target = tensor(target)
        # One term for every row and no constants: the terms are the angles.
        self._direct = bool(
            len(target) == n_rows and (target == np.arange(n_rows)).all() and not constant.any()
        )
        self._constant = tensor(constant[:, None])
        self._pad_parameters = bool((parameter == self.n_parameters).any())
        self._pad_features = bool((features == self.n_features).any())
        self._one = torch.ones((1, 1), dtype=dtype, device=device)
        self.has_features = bool(self._features)

    def forward(self, theta: Tensor, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the angles ``(n_rows, N)`` and what the backward pass needs.

        Args:
            theta: ``(n_parameters, 1)``, or ``(n_parameters, N)`` where each sample has its own.
            x: ``(n_features, N)``.
        """
        if self._pad_parameters:
            theta = torch.cat((theta, self._one.expand(1, theta.shape[1])))
        factor = theta.index_select(0, self._parameter)
        columns = self._columns(x)
        value = factor
        for column in columns:
            value = value * column
        slope = None
        if self._squash:
            value, slope = self._squashed(value)
        if self._coefficient is not None:
            value = value * self._coefficient
        if not self._direct:
            value = self._constant.expand(-1, value.shape[1]).clone().index_add_(0, self._target, value)
        saved = (factor, *columns) if slope is None else (factor, *columns, slope)
        return value, saved

    def backward(
        self,
        saved: tuple[Tensor, ...],
        grad: Tensor,
        shared: bool,
        want_parameters: bool,
        want_features: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients by theta, ``(n_parameters, 1 or N)``, and by x, ``(n_features, N)``.

        Args:
            saved: what ``forward`` returned.
            grad: gradient by the angles, ``(n_rows, N)``.
            shared: whether the parameters are shared, so that their gradient sums over samples.
            want_parameters, want_features: which gradients are wanted; the others are None.
        """
        factor, *columns = saved
        slope = columns.pop() if self._squash else None
        if not self._direct:
            grad = grad.index_select(0, self._target)
        if self._coefficient is not None:
            grad = grad * self._coefficient
        if slope is not None:
            grad = grad * slope
        by_parameter = self._by_parameter(grad, columns, shared) if want_parameters else None
        by_features = self._by_features(grad * factor, columns) if want_features else None
        return by_parameter, by_features

    def _columns(self, x: Tensor) -> list[Tensor]:
        if not self._features:
            return []
        if self._pad_features:
            x = torch.cat((x, self._one.expand(1, x.shape[1])))
        return [x.index_select(0, index) for index in self._features]

    def _squashed(self, value: Tensor) -> tuple[Tensor, Tensor]:
        if self._squash_all:
            return _squash(SQUASHES[self._squash_all], value)
        result, slope = value.clone(), torch.ones_like(value)
        for index, rows in self._squash:
            result[rows], slope[rows] = _squash(SQUASHES[index], value[rows])
        return result, slope

    def _by_parameter(self, grad: Tensor, columns: list[Tensor], shared: bool) -> Tensor:
        for column in columns:
            grad = grad * column
        if shared and grad.shape[1] != 1:
            grad = grad.sum(1, keepdim=True)
        result = grad.new_zeros((self.n_parameters + self._pad_parameters, grad.shape[1]))
        return result.index_add_(0, self._parameter, grad)[: self.n_parameters]

    def _by_features(self, grad: Tensor, columns: list[Tensor]) -> Tensor:
        result = grad.new_zeros((self.n_features + self._pad_features, grad.shape[1]))
        for position, index in enumerate(self._features):
            part = grad
            for other, column in enumerate(columns):
                if other != position:
                    part = part * column
            result.index_add_(0, index, part)
        return result[: self.n_features]


def _squash(kind: str, value: Tensor) -> tuple[Tensor, Tensor]:
    if kind == "tanh":
        result = torch.tanh(value)
        return result, 1.0 - result * result
    return torch.arctan(value), 1.0 / (1.0 + value * value)
