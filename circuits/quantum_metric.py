"""The geometry of a circuit's states: Fubini-Study metric of the gate angles, quantum Fisher information of parameters.

Convention: the quantum Fisher information is four times the Fubini-Study metric, so that a qubit turned about an axis
orthogonal to its Bloch vector has 1/4 in the metric and 1 in the information.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.analysis import states
from circuits.backends.protocol import Usage
from circuits.circuit import Circuit

__all__ = ["fubini_study", "metric_usage", "quantum_fisher"]

Floats = NDArray[np.float64]

_CHUNK_BYTES = 2**22  # stays in a cache; larger ones take two to five times as long


def fubini_study(circuit: Circuit, parameters: ArrayLike = (), features: ArrayLike = ()) -> Floats:
    r"""Return the Fubini-Study metric in the flat gate angles, ``(N, n_angles, n_angles)``.

    :math:`g_{kl} = \mathrm{Re}\bigl(\langle\partial_k\psi|\partial_l\psi\rangle - \langle\partial_k\psi|\psi\rangle
    \langle\psi|\partial_l\psi\rangle\bigr)`. A rotation by a turns into its derivative by a when a grows by
    :math:`\pi`, up to the factor 1/2, so that all derivatives are states of the same circuit.

    Args:
        circuit: the circuit.
        parameters: ``(n_parameters,)`` or ``(N, n_parameters)``.
        features: ``(n_features,)`` or ``(N, n_features)``; one row counts for all rows of the other.

    Raises:
        ValueError: wrong shape, a value that is not finite, or states that do not fit in memory.

    Source: J. Stokes et al., arXiv:1909.02108 (real part of the quantum geometric tensor).

    Example:
        >>> from circuits import reuploading
        >>> fubini_study(reuploading(2, 1), [0.1, 0.2, 0.3, 0.4, 1.0, 1.0], [0.5, 0.6]).shape[0]
        1
    """
    angles = circuit.angles(parameters, features)
    every = np.arange(circuit.n_angles)
    parts = [_metric(circuit, angles[rows], every) for rows in _chunks(circuit, len(angles), len(every))]
    return np.concatenate(parts) if parts else np.zeros((0, len(every), len(every)))


def quantum_fisher(circuit: Circuit, parameters: ArrayLike, features: ArrayLike = ()) -> Floats:
    r"""Return the quantum Fisher information of the P parameters, averaged over samples, ``(P, P)``.

    :math:`F = 4\,\mathrm{mean}_s\,J_s^T g_s J_s` with g the Fubini-Study metric in the gate angles and J their Jacobian
    by the parameters, in which shared weights and input scales enter.

    Args:
        circuit: the circuit.
        parameters: ``(n_parameters,)`` or ``(N, n_parameters)``.
        features: ``(N, n_features)``, the samples that are averaged over.

    Raises:
        ValueError: as ``fubini_study``; or there is no sample.

    Source: Stokes et al., arXiv:1909.02108; averaged over visited states as in Meyer et al., arXiv:2304.13571.
    """
    angles = circuit.angles(parameters, features)
    if not len(angles):
        raise ValueError("features: no sample to average over; give at least one row")
    slopes = circuit.jacobian(parameters, features).dense_parameters()
    marks = np.ones(circuit.n_parameters, dtype=bool)
    moving = np.flatnonzero(circuit.angle_map.depends_on(marks, False))
    total = np.zeros((circuit.n_parameters, circuit.n_parameters))
    for rows in _chunks(circuit, len(angles), len(moving)):
        slope = np.broadcast_to(slopes, (len(angles), *slopes.shape[1:]))[rows][:, moving]
        metric = _metric(circuit, angles[rows], moving)
        total += 4.0 * np.einsum("nkp,nkl,nlq->pq", slope, metric, slope, optimize=True)
    return total / len(angles)


def metric_usage(circuit: Circuit, n_samples: int) -> Usage:
    """What ``quantum_fisher`` costs: with p angles that depend on parameters, N (p + 1) states are simulated.

    Hardware would measure overlaps with shifted states, one for each element on the diagonal and four for each off it:
    N (p + 2 p (p - 1)) executions.

    Source: A. Mari, T. R. Bromley and N. Killoran, arXiv:2008.06517 (Fubini-Study tensor by parameter shift).
    """
    marks = np.ones(circuit.n_parameters, dtype=bool)
    p = int(circuit.angle_map.depends_on(marks, False).sum())
    return Usage(executions=n_samples * (p + 1), hardware_executions=n_samples * (p + 2 * p * (p - 1)))


def _metric(circuit: Circuit, angles: Floats, which: NDArray[np.int64]) -> Floats:
    """The metric of some of the angles, ``(N, len(which), len(which))``."""
    flat, (n, count) = circuit.flat(), angles.shape
    state = states(flat, (), angles)
    turned = angles[:, None] + np.pi * np.eye(count)[which]
    slopes = 0.5 * states(flat, (), turned.reshape(-1, count)).reshape(n, len(which), -1)
    along = np.einsum("nd,nkd->nk", state.conj(), slopes)
    products = slopes.conj() @ slopes.transpose(0, 2, 1) - along.conj()[:, :, None] * along[:, None]
    return np.ascontiguousarray(products.real)


def _chunks(circuit: Circuit, n_samples: int, n_angles: int) -> Iterator[slice]:
    """Rows that fit together into the memory of a chunk."""
    size = max(1, _CHUNK_BYTES // (16 * 2**circuit.n_qubits * (n_angles + 1)))
    return (slice(first, first + size) for first in range(0, n_samples, size))
