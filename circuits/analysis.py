"""What a circuit can express, measured: its Fourier spectrum, entanglement, expressibility and effective dimension.

All of it runs on exact state vectors and in batches. Groups of parameters that are not named ``scales`` are angles and
are drawn uniformly in [-pi, pi) where a measure averages over parameters; scales are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.circuit import Circuit
from circuits.gates import finite, integer
from circuits.observables import Observable, parse_observables
from circuits.reference import check_memory

__all__ = [
    "MAX_FREQUENCIES",
    "effective_dimension",
    "expressibility",
    "fisher_information",
    "gradients",
    "meyer_wallach",
    "sample_parameters",
    "spectrum",
    "states",
]

Floats = NDArray[np.float64]

MAX_FREQUENCIES = 100_000
"""Largest spectrum that is listed; a larger one is refused with the way to cut it."""

_DIGITS = 9
_CHUNK_BYTES = 2**27


def spectrum(
    circuit: Circuit,
    parameters: ArrayLike | None = None,
    *,
    max_degree: float | None = None,
    shortest: int | None = None,
) -> Floats:
    r"""Return the frequencies that an expectation value can have as a function of the features, up to sign.

    Rotation k turns by an angle with gradient :math:`g_k` in x, and its generator has the eigenvalues
    :math:`\pm 1/2`. Whatever the weights and the observable,
    :math:`\langle O\rangle(x) = \sum_\omega c_\omega e^{i \omega\cdot x}` with
    :math:`\omega = \sum_k s_k g_k`, :math:`s_k \in \{-1, 0, 1\}`.

    Args:
        circuit: a circuit whose angles are linear in each feature.
        parameters: ``(n_parameters,)``, of which those that multiply a feature count; None takes each of them as 1, so
            that frequencies come in units of the scales.
        max_degree: keep the frequencies with :math:`|\omega|_1` up to this; None keeps all.
        shortest: keep at most so many of them, those of smallest :math:`|\omega|_1`; the others are not worked out, so
            that circuits with astronomically many frequencies are no obstacle. None keeps all.

    Returns:
        ``(K, n_features)`` in radians per unit of the feature, one of each pair :math:`\pm\omega` (its first entry that
        is not 0 is positive), by rising :math:`|\omega|_1`; the first row is the zero vector.

    Raises:
        TypeError: ``max_degree`` is no number or ``shortest`` no integer.
        ValueError: an angle that reads a feature through a squash or in a product, whose expectation values are no
            trigonometric polynomials; parameters of a wrong length; ``max_degree`` below 0, ``shortest``
            below 1; more than ``MAX_FREQUENCIES`` frequencies.

    Source: M. Schuld, R. Sweke and J. J. Meyer, arXiv:2008.08605, Sec. II (generators with eigenvalues +-1/2).

    Example:
        >>> from circuits import reuploading
        >>> spectrum(reuploading(1, 3))[:, 0].tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    limit = math.inf if max_degree is None else finite("max_degree", max_degree)
    if limit < 0.0:
        raise ValueError(f"max_degree: {max_degree} is below 0; use a number >= 0, or None for all")
    steps, counts = _generators(circuit, parameters)
    if shortest is None:
        return _up_to_sign(_sums(steps, counts, limit))
    integer("shortest", shortest, 1)
    lengths = np.abs(steps).sum(axis=1)
    limit, degree = min(limit, float(counts @ lengths)), 0.0
    found = np.zeros((1, circuit.n_features))
    while len(found) < shortest and degree < limit:
        degree = min(limit, degree + float(lengths.min()))
        found = _up_to_sign(_sums(steps, counts, degree))
    return found[:shortest]


def _sums(steps: Floats, counts: NDArray[np.int64], limit: float) -> Floats:
    """All sums of multiples of the steps, each at most ``counts`` times either way, up to a length."""
    found = np.zeros((1, steps.shape[1]))
    for index, (step, count) in enumerate(zip(steps, counts, strict=True)):
        sums = found[:, None] + np.arange(-count, count + 1)[:, None] * step
        found = np.unique(np.round(sums.reshape(-1, len(step)), _DIGITS) + 0.0, axis=0)
        # What is still to come can take each entry back by so much.
        back = (counts[index + 1 :, None] * np.abs(steps[index + 1 :])).sum(axis=0)
        found = found[np.clip(np.abs(found) - back, 0.0, None).sum(axis=1) <= limit + 10.0**-_DIGITS]
        if len(found) > 2 * MAX_FREQUENCIES:
            raise ValueError(
                f"spectrum: more than {MAX_FREQUENCIES} frequencies; give max_degree or shortest to cut it"
            )
    return found


def _generators(circuit: Circuit, parameters: ArrayLike | None) -> tuple[Floats, NDArray[np.int64]]:
    """The distinct gradients of the angles by the features, ``(G, n_features)``, and how often each occurs."""
    terms = circuit.angle_map
    reads = terms.features < circuit.n_features
    encoding = reads.any(axis=1)
    if (terms.squash[encoding] != 0).any():
        raise ValueError(
            "squash: an angle reads a feature through tanh or arctan, which has no discrete spectrum; use squash "
            "'none', or take the squashed feature as the feature"
        )
    if (reads.sum(axis=1) > 1).any():
        raise ValueError(
            "features: an angle reads a product of features, whose expectation values are no Fourier series; take the "
            "product as a feature of its own"
        )
    theta = np.ones(circuit.n_parameters) if parameters is None else np.asarray(parameters, dtype=np.float64)
    if theta.shape != (circuit.n_parameters,) or not np.isfinite(theta).all():
        raise ValueError(
            f"parameters: shape {theta.shape} or a value does not fit; give {circuit.n_parameters} finite numbers"
        )
    slopes = np.zeros((circuit.n_angles, circuit.n_features))
    column = np.where(reads, terms.features, 0).max(axis=1, initial=0)
    value = terms.coefficient * np.append(theta, 1.0)[terms.parameter]
    np.add.at(slopes, (terms.angle[encoding], column[encoding]), value[encoding])
    slopes = np.round(slopes, _DIGITS) + 0.0
    slopes = slopes[(slopes != 0.0).any(axis=1)]
    return tuple(np.unique(_positive(slopes), axis=0, return_counts=True))  # type: ignore[return-value]


def _positive(rows: Floats) -> Floats:
    """Rows with the sign at which their first entry that is not 0 is positive."""
    first = np.take_along_axis(rows, (rows != 0.0).argmax(axis=1)[:, None], axis=1) if rows.size else rows
    return np.where(first < 0.0, -rows, rows) + 0.0


def _up_to_sign(rows: Floats) -> Floats:
    kept = np.unique(_positive(rows), axis=0)
    if len(kept) > MAX_FREQUENCIES:
        raise ValueError(
            f"spectrum: {len(kept)} frequencies are more than {MAX_FREQUENCIES}; give a smaller max_degree, or shortest"
        )
    return kept[np.argsort(np.abs(kept).sum(axis=1).round(_DIGITS), kind="stable")]


def states(circuit: Circuit, parameters: ArrayLike, features: ArrayLike = ()) -> NDArray[np.complex128]:
    """Return the final states of many samples, ``(N, 2 ** n_qubits)``; bit ``q`` of the index is qubit ``q``.

    Args:
        circuit: the circuit.
        parameters: ``(n_parameters,)`` or ``(N, n_parameters)``.
        features: ``(n_features,)`` or ``(N, n_features)``; one row counts for all rows of the other.

    Raises:
        ValueError: wrong shape, a value that is not finite, or states that do not fit in memory.
    """
    import torch

    from circuits.backends._gatewise import GatewiseProgram

    angles = torch.from_numpy(circuit.angles(parameters, features))
    check_memory(circuit.n_qubits, 16, copies=4 * max(1, len(angles)))
    cpu = torch.device("cpu")
    program = circuit.flat().memo(
        ("gatewise", torch.float64, cpu), lambda c: GatewiseProgram(c, torch.float64, cpu)
    )
    with torch.no_grad():
        final, _ = program.run(angles.new_zeros(0), angles.t(), False)
    return cast(NDArray[np.complex128], final.t().numpy())


def meyer_wallach(vectors: ArrayLike) -> Floats:
    r"""Return the Meyer-Wallach entanglement of pure states, ``(N,)``: 0 for products, 1 for a GHZ state.

    :math:`Q = 2\,(1 - \frac{1}{n}\sum_q \mathrm{Tr}\,\rho_q^2)`, :math:`\rho_q` the state of qubit q alone.

    Args:
        vectors: normalised states ``(N, 2 ** n)``, such as ``states`` returns.

    Raises:
        ValueError: the length is no power of 2.

    Source: D. A. Meyer and N. R. Wallach, arXiv:quant-ph/0108104, in the form of G. K. Brennen,
    arXiv:quant-ph/0305094 (mean purity of the single qubits).
    """
    psi = np.asarray(vectors)
    n = _qubits(psi)
    purity = np.zeros(len(psi))
    for q in range(n):
        parts = np.moveaxis(psi.reshape(len(psi), 2 ** (n - 1 - q), 2, 2**q), 2, 1).reshape(len(psi), 2, -1)
        reduced = parts @ parts.conj().transpose(0, 2, 1)
        purity += (np.abs(reduced) ** 2).sum(axis=(1, 2))
    return 2.0 * (1.0 - purity / n)


def _qubits(psi: NDArray[np.complexfloating]) -> int:
    size = psi.shape[-1] if psi.ndim == 2 else 0
    n = size.bit_length() - 1
    if n < 1 or size != 2**n:
        raise ValueError(f"vectors: shape {psi.shape} holds no states of qubits; use (N, 2 ** n)")
    return n


def sample_parameters(circuit: Circuit, n_samples: int, scales: ArrayLike = 1.0, seed: int = 0) -> Floats:
    """Return ``(n_samples, n_parameters)``: scales as given, everything else uniform in [-pi, pi).

    Args:
        circuit: the circuit.
        n_samples: number of rows.
        scales: one number, or one for each parameter of the group ``scales``.
        seed: of the draws.

    Raises:
        TypeError, ValueError: a count below 1, or scales of a wrong length.
    """
    n_samples = integer("n_samples", n_samples, 1)
    values = np.random.default_rng(seed).uniform(-np.pi, np.pi, (n_samples, circuit.n_parameters))
    if any(name == "scales" for name, _ in circuit.groups):
        rows = circuit.group("scales")
        given = np.asarray(scales, dtype=np.float64)
        if given.shape not in ((), (rows.stop - rows.start,)):
            raise ValueError(
                f"scales: shape {given.shape} does not fit; give one number or {rows.stop - rows.start}"
            )
        values[:, rows] = given
    return values


def expressibility(
    circuit: Circuit,
    features: ArrayLike = (),
    *,
    scales: ArrayLike = 1.0,
    n_pairs: int = 5000,
    n_bins: int = 75,
    seed: int = 0,
) -> Floats:
    r"""Return how far the states of random weights are from Haar-random ones, ``(M,)`` in nats, one a row of features.

    :math:`D_{KL}(\hat P(F) \,\|\, P_{Haar}(F))` over a histogram of the fidelities F of pairs of states, with
    :math:`P_{Haar}(F) = (N - 1)(1 - F)^{N - 2}`, :math:`N = 2^n`. It is 0 for a circuit that covers the sphere evenly
    and :math:`\ln n_{bins}` for one that does not move a single qubit. The estimate is biased upwards by about
    :math:`(B - 1) / (2\,n_{pairs})`, B the number of bins that are met.

    Args:
        circuit: the circuit.
        features: ``(n_features,)`` or ``(M, n_features)``; both states of a pair see the same row.
        scales: as in ``sample_parameters``.
        n_pairs: pairs of states a row.
        n_bins: bins of equal width on [0, 1].
        seed: of the weights.

    Raises:
        TypeError, ValueError: a count below 1, or a shape that does not fit.

    Source: S. Sim, P. D. Johnson and A. Aspuru-Guzik, arXiv:1905.10876, Sec. 3.1 (expressibility); 75 bins as there.
    """
    integer("n_pairs", n_pairs, 1)
    edges = np.linspace(0.0, 1.0, integer("n_bins", n_bins, 1) + 1)
    log_haar = _log_haar(edges, 2**circuit.n_qubits - 1)
    parameters = sample_parameters(circuit, 2 * n_pairs, scales, seed)
    chunk = max(2, _CHUNK_BYTES // (16 * 2**circuit.n_qubits) // 2 * 2)
    result = []
    for row in np.atleast_2d(np.asarray(features, dtype=np.float64)):
        fidelities = [
            _fidelities(states(circuit, parameters[start : start + chunk], row))
            for start in range(0, 2 * n_pairs, chunk)
        ]
        share = np.histogram(np.concatenate(fidelities), edges)[0] / n_pairs
        met = share > 0.0
        result.append(float((share[met] * (np.log(share[met]) - log_haar[met])).sum()))
    return np.array(result)


def _fidelities(psi: NDArray[np.complex128]) -> Floats:
    overlap = np.einsum("ij,ij->i", psi[0::2].conj(), psi[1::2])
    return np.clip(np.abs(overlap) ** 2, 0.0, 1.0)


def _log_haar(edges: Floats, power: int) -> Floats:
    """Logarithm of the Haar mass of each bin, ``(1 - low)^power - (1 - high)^power``, also where that underflows."""
    low, high = 1.0 - edges[:-1], 1.0 - edges[1:]
    return cast(Floats, power * np.log(low) + np.log1p(-((high / low) ** power)))


def gradients(
    circuit: Circuit,
    observables: Sequence[str | Observable],
    parameters: ArrayLike,
    features: ArrayLike = (),
) -> Floats:
    """Return each sample's exact gradient of the expectation values by the parameters, ``(N, n_observables, P)``.

    Args:
        circuit: the circuit.
        observables: as in a backend's request.
        parameters: ``(n_parameters,)`` or ``(N, n_parameters)``.
        features: ``(n_features,)`` or ``(N, n_features)``; one row counts for all rows of the other.

    Raises:
        TypeError, ValueError: a shape, label or value that does not fit.

    Source: the adjoint method of arXiv:2009.02823.
    """
    import torch

    from circuits.backends.torch import TorchBackend

    theta = np.atleast_2d(np.asarray(parameters, dtype=np.float64))
    x = np.atleast_2d(np.asarray(features, dtype=np.float64))
    n = max(len(theta), len(x))
    theta, x = (torch.from_numpy(np.broadcast_to(a, (n, a.shape[1])).copy()) for a in (theta, x))
    words = parse_observables(observables, circuit.n_qubits)
    found = TorchBackend().expectations(circuit, theta, x, words, differentiate=True)
    assert found.vjp is not None
    columns = []
    for upstream in torch.eye(len(words), dtype=torch.float64):
        by_parameters = found.vjp(upstream.expand(n, -1), features=False).parameters
        assert by_parameters is not None
        columns.append(by_parameters.numpy())
    return np.stack(columns, axis=1)


def fisher_information(circuit: Circuit, parameters: ArrayLike, features: ArrayLike = ()) -> Floats:
    r"""Return the Fisher information of the measured bit string, averaged over features, ``(K, P, P)``.

    :math:`F_{ij}(\theta) = \mathrm{E}_x \sum_y \partial_i p\,\partial_j p / p`, p the probability of the bit string y
    in the computational basis; derivatives by the two-term shift rule.

    Args:
        circuit: the circuit.
        parameters: ``(n_parameters,)`` or ``(K, n_parameters)``.
        features: ``(n_features,)`` or ``(M, n_features)``, the inputs that are averaged over.

    Raises:
        ValueError: wrong shape, or a value that is not finite.

    Source: A. Abbas et al., arXiv:2011.00027 (Fisher information), for the model p(y | x; theta).
    """
    theta = np.atleast_2d(np.asarray(parameters, dtype=np.float64))
    x = np.atleast_2d(np.asarray(features, dtype=np.float64))
    result = np.empty((len(theta), circuit.n_parameters, circuit.n_parameters))
    for k, row in enumerate(theta):
        roots = _root_slopes(circuit, np.repeat(row[None], len(x), axis=0), x)
        result[k] = np.einsum("nyi,nyj->ij", roots, roots) / len(x)
    return result


def _root_slopes(circuit: Circuit, parameters: Floats, features: Floats) -> Floats:
    """``d p(y) / d theta_i / sqrt(p(y))``, ``(N, 2 ** n, P)``."""
    flat = circuit.flat()
    angles = circuit.angles(parameters, features)
    n, count = angles.shape
    shift = 0.5 * np.pi * np.eye(count)
    moved = (angles[:, None, None] + np.stack([shift, -shift])).reshape(-1, count)
    p = np.abs(states(flat, (), moved)) ** 2
    p = p.reshape(n, 2, count, -1)
    by_angle = 0.5 * (p[:, 0] - p[:, 1])
    by_parameter = np.einsum(
        "nky,nkp->nyp", by_angle, circuit.jacobian(parameters, features).dense_parameters(), optimize=True
    )
    here = np.abs(states(flat, (), angles)) ** 2
    # At an outcome of probability zero the slope is zero too, and the term has a limit that one angle does not decide.
    roots = np.where(here > 1e-14, 1.0 / np.sqrt(np.maximum(here, 1e-14)), 0.0)
    return cast(Floats, by_parameter * roots[:, :, None])


def effective_dimension(fisher: ArrayLike, n_data: int, gamma: float = 1.0) -> float:
    r"""Return the effective dimension of a model from Fisher information matrices at random parameters.

    .. math::

        d = 2 \ln\Bigl(\mathrm{mean}_\theta \sqrt{\det(1 + \kappa \hat F(\theta))}\Bigr) / \ln\kappa, \qquad
        \kappa = \frac{\gamma n}{2\pi \ln n}

    with :math:`\hat F = P\,F / \mathrm{mean}_\theta \mathrm{Tr} F`. At most P, the number of parameters; divided by P
    it compares models of different size.

    Args:
        fisher: ``(K, P, P)``, such as ``fisher_information`` returns for ``sample_parameters``.
        n_data: number of data n that resolve the parameter space.
        gamma: in (0, 1].

    Raises:
        TypeError: a count is no integer.
        ValueError: a wrong shape, a Fisher information that is zero everywhere, or too few data (kappa must exceed 1).

    Source: A. Abbas et al., arXiv:2011.00027, definition of the effective dimension; its integral is a mean here.
    """
    matrices = np.asarray(fisher, dtype=np.float64)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or 0 in matrices.shape:
        raise ValueError(f"fisher: shape {matrices.shape} does not fit; use (K, P, P)")
    n_data, gamma = integer("n_data", n_data, 2), finite("gamma", gamma)
    kappa = gamma * n_data / (2.0 * math.pi * math.log(n_data))
    if not 0.0 < gamma <= 1.0 or kappa <= 1.0:
        raise ValueError(
            f"n_data: {n_data} with gamma {gamma} resolves nothing (kappa {kappa:.3g}); use more data"
        )
    trace = float(np.trace(matrices, axis1=1, axis2=2).mean())
    if not trace > 0.0:
        raise ValueError(
            "fisher: zero everywhere, so no parameter matters; use a model that depends on its parameters"
        )
    size = matrices.shape[1]
    _, log_det = np.linalg.slogdet(np.eye(size) + kappa * size / trace * matrices)
    largest = float(log_det.max())
    mean = largest / 2.0 + math.log(float(np.exp((log_det - largest) / 2.0).mean()))
    return 2.0 * mean / math.log(kappa)
