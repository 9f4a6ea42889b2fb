"""A multilayer perceptron with a finite symmetry of signed permutations, exactly and at every point of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from baselines.networks import mlp

Integers = NDArray[np.int64]


class EquivariantMLP(nn.Module):
    """`F(x) = (1/|G|) sum_g T_g^-1 f(S_g x)` with f a multilayer perceptron: `F(S_g x) = T_g F(x)` for every g.

    Element g changes inputs to `(S_g x)_i = s_gi x_(p_g(i))` and outputs to `(T_g y)_i = t_gi y_(q_g(i))`, s and t
    signs, p and q permutations. Where every T_g is the identity F is invariant; every function with the symmetry is
    its own average, so that nothing else is given up.

    `(batch, n_inputs) -> (batch, n_outputs)`, at |G| evaluations of f a row, in one batch. Arguments: `hidden` and
    `activation` of f as in `mlp`; `input_permutations` and `input_signs` `(|G|, n_inputs)`; `output_permutations` and
    `output_signs` `(|G|, n_outputs)`: all elements of the group, not its generators alone. Raises `ValueError` or
    `TypeError` naming the argument, also where the elements are no group.

    Source: own construction (the Reynolds operator); as the classical counterpart of circuits with a symmetry,
    J. J. Meyer et al., arXiv:2207.06413.

    Example: a cart-pole mirrored left to right, whose two actions then change places.
        >>> mirror = [[1, 1, 1, 1], [-1, -1, -1, -1]]
        >>> f = EquivariantMLP((16,), "tanh", [[0, 1, 2, 3]] * 2, mirror, [[0, 1], [1, 0]], [[1, 1]] * 2)
        >>> x = torch.rand(8, 4)
        >>> torch.allclose(f(-x), f(x).flip(1), atol=1e-6)
        True
    """

    _selection: Tensor
    _signs: Tensor
    _inverse: Tensor
    _inverse_signs: Tensor

    def __init__(
        self,
        hidden: Sequence[int],
        activation: str,
        input_permutations: ArrayLike,
        input_signs: ArrayLike,
        output_permutations: ArrayLike,
        output_signs: ArrayLike,
    ) -> None:
        super().__init__()
        p, s = _elements("input", input_permutations, input_signs)
        q, t = _elements("output", output_permutations, output_signs)
        _check_group(p, s, q, t)
        self.network = mlp(p.shape[1], q.shape[1], hidden, activation)
        inverse = np.argsort(q, axis=1)
        for name, array in (
            ("_selection", p),
            ("_signs", s.astype(np.float32)),
            ("_inverse", inverse),
            ("_inverse_signs", np.take_along_axis(t, inverse, axis=1).astype(np.float32)),
        ):
            self.register_buffer(name, torch.from_numpy(array))

    def forward(self, x: Tensor) -> Tensor:
        """Values `(batch, n_outputs)` of inputs `(batch, n_inputs)`."""
        order, n_inputs = self._selection.shape
        moved = x[:, self._selection] * self._signs  # (batch, |G|, n_inputs)
        values = self.network(moved.reshape(-1, n_inputs)).view(len(x), order, -1)
        back: Tensor = values.gather(2, self._inverse.expand(len(x), -1, -1)) * self._inverse_signs
        return back.mean(1)


def _elements(side: str, permutations: ArrayLike, signs: ArrayLike) -> tuple[Integers, Integers]:
    p, s = np.asarray(permutations), np.asarray(signs)
    if p.ndim != 2 or 0 in p.shape or p.dtype.kind not in "iu":
        raise ValueError(
            f"{side}_permutations: shape {p.shape} of {p.dtype} does not fit; use integers (|G|, n)"
        )
    if (np.sort(p, axis=1) != np.arange(p.shape[1])).any():
        raise ValueError(
            f"{side}_permutations: a row is no permutation; use each of 0 to {p.shape[1] - 1} once"
        )
    if s.shape != p.shape or not np.isin(s, (-1, 1)).all():
        raise ValueError(f"{side}_signs: shape {s.shape} or a value does not fit; use -1 and 1, {p.shape}")
    return p.astype(np.int64), s.astype(np.int64)


def _check_group(p: Integers, s: Integers, q: Integers, t: Integers) -> None:
    """Closed under composition: a finite set that is closed has the identity and the inverses too."""
    if len(p) != len(q):
        raise ValueError(
            f"output_permutations: {len(q)} elements beside {len(p)} of the inputs; give one each an element"
        )
    known = set(_keys(p, s, q, t))
    if len(known) < len(p):
        raise ValueError("input_permutations: an element occurs twice; give each element of the group once")
    for i in range(len(p)):
        products = _keys(p[:, p[i]], s[i] * s[:, p[i]], q[:, q[i]], t[i] * t[:, q[i]])
        if not known.issuperset(products):
            raise ValueError(
                "input_permutations: the product of two elements is none of them; give all elements of the group, "
                "with the outputs that belong to each"
            )


def _keys(*columns: NDArray[Any]) -> list[bytes]:
    return [row.tobytes() for row in np.concatenate(columns, axis=1).astype(np.int16)]
