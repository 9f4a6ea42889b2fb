"""What independent reads of spins say about moments, and how sure they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Spins = NDArray[np.int8]


def moments(spins: Spins, edges: NDArray[np.int64]) -> tuple[Floats, Floats, Floats, Floats]:
    """Return <sz>, <sz sz>, and the standard error of each.

    Args:
        spins: independent reads, +1 or -1, ``(N, reads, n_hidden)``.
        edges: pairs of hidden units, ``(n_edges, 2)``.

    The errors count one further read of either sign (Agresti and Coull, doi 10.1080/00031305.1998.10480550), so that
    a spin that never flipped is not taken for certain.
    """
    reads = spins.shape[1]
    z, zz = (_mean(values) for values in (spins, pairs(spins, edges)))
    z_error, zz_error = (np.sqrt((1.0 - (mean * reads / (reads + 2)) ** 2) / (reads + 2)) for mean in (z, zz))
    return z, zz, z_error, zz_error


def pairs(spins: Spins, edges: NDArray[np.int64]) -> Spins:
    """Return the products of coupled spins, ``(N, reads, n_edges)``."""
    return spins[:, :, edges[:, 0]] * spins[:, :, edges[:, 1]]


def averages(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard error of something read, ``(N, reads)``, each ``(N,)``."""
    return values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])


def _mean(values: Spins) -> Floats:
    return values.mean(axis=1, dtype=np.float64)
