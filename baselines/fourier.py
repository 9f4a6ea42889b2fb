"""Classical models on a circuit's own frequencies: the truncated Fourier series, and random Fourier features.

Both map `(batch, n_inputs)` to `(batch, n_outputs)` and receive frequencies as an array; they know no circuit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from baselines.arguments import integer, number

_START = 0.1
"""Standard deviation of the coefficients at the start, and about that of the outputs."""


class _Series(nn.Module):
    """`c_a + sum_k (p_ak cos(w_k x) + q_ak sin(w_k x)) / sqrt(K)` with trained c, p, q and fixed frequencies w.

    The factor, usual for random features, keeps what one step of an optimiser changes from growing with K.
    """

    frequencies: Tensor

    def __init__(self, frequencies: Tensor, n_outputs: int) -> None:
        super().__init__()
        n_outputs = integer("n_outputs", n_outputs, 1)
        n_terms = len(frequencies)
        self.register_buffer("frequencies", frequencies)
        self._share = 1.0 / math.sqrt(max(n_terms, 1))
        self.constant = nn.Parameter(_START * torch.randn(n_outputs))
        self.cosines = nn.Parameter(_START * torch.randn(n_terms, n_outputs))
        self.sines = nn.Parameter(_START * torch.randn(n_terms, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Values `(batch, n_outputs)` of inputs `(batch, n_inputs)`."""
        phase = x @ self.frequencies.T
        waves = phase.cos() @ self.cosines + phase.sin() @ self.sines
        return self.constant + self._share * waves


class TruncatedFourier(_Series):
    """A Fourier series with trained coefficients on given frequencies: the classical surrogate of a circuit.

    With the spectrum of a circuit that has no squash and fixed scales it contains the circuit's expectation values
    for all weights and observables; it lacks the bounds and dependences between coefficients that a circuit has.
    A constant is always there. Coefficients start small, from torch's global generator.

    Arguments: `frequencies`, `(K, n_inputs)` in radians per unit of input, one of each pair w and -w (the zero vector
    may be there); `n_outputs`. Raises `ValueError` or `TypeError` naming the argument.

    Source: F. J. Schreiber, J. Eisert and J. J. Meyer, "Classical surrogates for quantum learning models",
    arXiv:2206.11740.

    Example:
        >>> import numpy as np
        >>> series = TruncatedFourier(np.array([[0.0], [1.0], [2.0]]), 1)
        >>> sum(p.numel() for p in series.parameters())
        5
    """

    def __init__(self, frequencies: ArrayLike, n_outputs: int) -> None:
        given = _frequencies(frequencies)
        waves = given[(given != 0.0).any(axis=1)]
        if len(np.unique(np.concatenate([waves, -waves]), axis=0)) < 2 * len(waves):
            raise ValueError(
                "frequencies: two rows are equal or opposite, so they stand for one cosine; keep one of them"
            )
        super().__init__(_tensor(waves), n_outputs)


class RandomFourier(_Series):
    """Cosines and sines of random, fixed frequencies under a trained affine map.

    Frequencies are drawn from `frequencies` with equal probability, without repetition as long as there are enough
    (the zero vector is left out, because a constant is always there), or without them from a normal distribution.
    The affine map starts small, from torch's global generator.

    Arguments: `n_inputs`; `n_outputs`; `n_features`, how many frequencies; `frequencies`, `(K, n_inputs)` in radians
    per unit of input, or None; `scale`, standard deviation of the normal frequencies, unused with `frequencies`;
    `generator` of the frequencies, torch's global one if None. Raises `ValueError` or `TypeError` naming the argument.

    Source: A. Rahimi and B. Recht, "Random features for large-scale kernel machines", Advances in Neural Information
    Processing Systems 20 (2007); drawn from a circuit's spectrum as in J. Landman et al., arXiv:2210.13200
    ("distinct sampling").

    Example:
        >>> RandomFourier(4, 2, n_features=16)(torch.zeros(8, 4)).shape
        torch.Size([8, 2])
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        n_features: int,
        frequencies: ArrayLike | None = None,
        scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        n_inputs, n_features = integer("n_inputs", n_inputs, 1), integer("n_features", n_features, 1)
        if frequencies is None:
            scale = number("scale", scale, 0.0, low_open=True)
            drawn = scale * torch.randn(n_features, n_inputs, generator=generator)
        else:
            drawn = _tensor(_drawn(frequencies, n_inputs, n_features, generator))
        super().__init__(drawn, n_outputs)


def _drawn(
    frequencies: ArrayLike, n_inputs: int, n_features: int, generator: torch.Generator | None
) -> NDArray[Any]:
    given = _frequencies(frequencies)
    if given.shape[1] != n_inputs:
        raise ValueError(
            f"frequencies: {given.shape[1]} columns for {n_inputs} inputs; give one column an input"
        )
    waves = given[(given != 0.0).any(axis=1)]
    if not len(waves):
        raise ValueError("frequencies: there is none beside zero; give at least one, or None for normal ones")
    rounds, rest = divmod(n_features, len(waves))
    order = torch.randperm(len(waves), generator=generator).numpy()
    rows: NDArray[Any] = waves[np.concatenate([np.tile(order, rounds), order[:rest]])]
    return rows


def _frequencies(frequencies: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(frequencies, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
        raise ValueError(
            f"frequencies: shape {array.shape} or a value does not fit; use finite (K, n_inputs)"
        )
    return array


def _tensor(array: NDArray[np.float64]) -> Tensor:
    return torch.as_tensor(array, dtype=torch.get_default_dtype())
