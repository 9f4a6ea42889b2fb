"""Gradients above the backend protocol, for backends that cannot differentiate and for requests with shots.

Both rules work on the flat gate angles: every rotation is ``exp(-i a P / 2)`` with P squared the identity,
and the exact Jacobian of the angles carries the result to parameters and features. All shifted circuits of
an update are one request.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from circuits.backends._terms import AngleTerms
from circuits.backends.protocol import VJP, Backend, Usage, differentiated_angles
from circuits.circuit import Circuit
from circuits.gates import finite, integer
from circuits.observables import Observable


def parameter_shift(
    backend: Backend,
    circuit: Circuit,
    parameters: Tensor,
    features: Tensor,
    observables: Sequence[Observable],
    upstream: Tensor,
    shots: int | None = None,
    seed: int | None = None,
    *,
    groups: tuple[str, ...] | None = None,
    want_features: bool = True,
) -> VJP:
    r"""Return a vector-Jacobian product by the two-term shift rule.

    For each angle that depends on something differentiated,
    :math:`\partial E / \partial a = (E(a + \pi/2) - E(a - \pi/2)) / 2`. It is exact, and unbiased with shots.

    Args:
        backend: where the circuits run.
        circuit: the circuit.
        parameters: ``(n_parameters,)`` or ``(N, n_parameters)``.
        features: ``(N, n_features)``.
        observables: the observables.
        upstream: ``(N, n_observables)``.
        shots: shots for each measurement setting and circuit; None means exact.
        seed: seed of the shots; None draws from torch's global generator.
        groups: parameter groups to differentiate; None means all, an empty tuple none.
        want_features: whether the gradient by the features is wanted.

    Returns:
        The product and its usage: 2 p N executions, p the number of those angles.

    Raises:
        TypeError, ValueError: as the backend does, and for an upstream of the wrong shape.

    Source: the two-term shift rule of arXiv:1803.00745 and arXiv:1811.11184, for generators P / 2, P^2 = 1.
    """
    started = time.perf_counter()
    problem = _Flat(circuit, parameters, features, observables, upstream, groups, want_features)
    count = len(problem.active)
    shifts = features.new_zeros((2, count, circuit.n_angles))
    for sign, half in zip((1.0, -1.0), shifts, strict=True):
        half[torch.arange(count), problem.active] = sign * math.pi / 2
    values, usage = problem.evaluate(backend, shifts.view(2 * count, 1, -1), shots, seed)
    slopes = problem.angles.new_zeros(problem.angles.shape)
    slopes[:, problem.active] = (values[:count] - values[count:]).t() / 2
    return problem.finish(slopes, usage, "parameter_shift", started)


def spsa(
    backend: Backend,
    circuit: Circuit,
    parameters: Tensor,
    features: Tensor,
    observables: Sequence[Observable],
    upstream: Tensor,
    shots: int | None = None,
    seed: int | None = None,
    *,
    groups: tuple[str, ...] | None = None,
    want_features: bool = True,
    directions: int = 1,
    step: float = 0.1,
) -> VJP:
    r"""Return a vector-Jacobian product estimated by simultaneous perturbation of all angles.

    With :math:`\Delta` random signs, drawn apart for each sample and direction,
    :math:`\partial E / \partial a_k \approx (E(a + c\Delta) - E(a - c\Delta)) / (2 c \Delta_k)`, averaged
    over directions. The bias is of order :math:`c^2`.

    Args:
        directions: number of random directions.
        step: c, in radians.

    The other arguments are those of ``parameter_shift``.

    Returns:
        The product and its usage: 2 r N executions for r directions.

    Raises:
        TypeError, ValueError: as ``parameter_shift``, and for directions below 1 or a step that is not
            positive.

    Source: the two-sided estimator of Spall 1992, doi:10.1109/9.119632, applied to angles.
    """
    integer("directions", directions, 1)
    if finite("step", step) <= 0.0:
        raise ValueError(f"step: {step} is not positive; use radians such as 0.1")
    started = time.perf_counter()
    problem = _Flat(circuit, parameters, features, observables, upstream, groups, want_features)
    generator = torch.Generator()
    generator.manual_seed(int(torch.randint(2**62, ()).item()) if seed is None else seed)
    shape = (directions, len(features), circuit.n_angles)
    signs = torch.randint(0, 2, shape, generator=generator).to(features) * 2.0 - 1.0
    idle = np.setdiff1d(np.arange(circuit.n_angles), problem.active.cpu().numpy())
    signs[:, :, torch.as_tensor(idle)] = 0.0
    values, usage = problem.evaluate(backend, torch.cat((step * signs, -step * signs)), shots, seed)
    difference = (values[:directions] - values[directions:]) / (2.0 * step)
    slopes = (difference[:, :, None] * signs).mean(0)
    return problem.finish(slopes, usage, "spsa", started)


GRADIENTS: dict[str, Callable[..., VJP]] = {"parameter_shift": parameter_shift, "spsa": spsa}
"""Gradient rules above the protocol, by name."""


class _Flat:
    """One gradient request in terms of flat angles."""

    def __init__(
        self,
        circuit: Circuit,
        parameters: Tensor,
        features: Tensor,
        observables: Sequence[Observable],
        upstream: Tensor,
        groups: tuple[str, ...] | None,
        want_features: bool,
    ) -> None:
        shape = (len(features), len(observables))
        if tuple(upstream.shape) != shape:
            raise ValueError(f"upstream: shape {tuple(upstream.shape)} does not fit; use {shape}")
        self._circuit, self._observables, self._groups = circuit, observables, groups
        self._upstream, self._want_features = upstream.detach(), want_features
        self._parameters, self._features = parameters.detach(), features.detach()
        dtype, device = features.dtype, features.device
        self._terms = circuit.memo(
            ("angle terms", dtype, device),
            lambda c: AngleTerms(c.angle_map, np.arange(c.n_angles), c.n_angles, dtype, device),
        )
        theta = self._parameters
        columns = theta[:, None] if theta.ndim == 1 else theta.t()
        angles, self._saved = self._terms.forward(columns, self._features.t())
        self.angles = angles.t().expand(len(features), -1)
        marks = differentiated_angles(circuit, groups, want_features)
        self.active = torch.as_tensor(np.flatnonzero(marks), device=device)

    def evaluate(
        self, backend: Backend, shifts: Tensor, shots: int | None, seed: int | None
    ) -> tuple[Tensor, Usage]:
        """Return upstream times values, ``(shifts, N)``, for ``(shifts, 1 or N, n_angles)``: one request."""
        count, samples = len(shifts), len(self.angles)
        if count * samples == 0:
            return self.angles.new_zeros((count, samples)), Usage()
        rows = (self.angles + shifts).reshape(count * samples, -1)
        answer = backend.expectations(
            self._circuit.flat(), rows.new_zeros(0), rows, self._observables, shots, seed, differentiate=False
        )
        values = answer.values.view(count, samples, -1)
        return (values * self._upstream).sum(2), answer.usage

    def finish(self, slopes: Tensor, usage: Usage, rule: str, started: float) -> VJP:
        """Carry the gradients by angles, ``(N, n_angles)``, to parameters and features."""
        theta = self._parameters
        want = self._groups is None or len(self._groups) > 0
        by_theta, by_x = self._terms.backward(
            self._saved, slopes.t(), theta.ndim == 1, want, self._want_features
        )
        gradient = None
        if by_theta is not None:
            gradient = by_theta[:, 0] if theta.ndim == 1 else by_theta.t()
            for name, _ in self._circuit.groups:
                if self._groups is not None and name not in self._groups:
                    gradient[..., self._circuit.group(name)] = 0.0
        seconds = time.perf_counter() - started
        total = Usage(
            usage.executions,
            usage.hardware_executions,
            usage.shots,
            usage.jobs,
            seconds,
            usage.job_ids,
            rule,
        )
        return VJP(gradient, None if by_x is None else by_x.t(), total)
