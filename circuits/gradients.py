"""Gradients above the backend protocol, for backends that cannot differentiate and for requests with shots.

Both rules work on the flat gate angles: every rotation is ``exp(-i a P / 2)`` with P squared the identity,
and the exact Jacobian of the angles carries the result to parameters and features. All shifted circuits of
an update are one request.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from circuits.backends._terms import AngleTerms
from circuits.backends.protocol import VJP, Backend, Expectations, Usage, differentiated_angles
from circuits.circuit import Circuit
from circuits.gates import choice, finite, integer
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
    subset: int | None = None,
) -> VJP:
    r"""Return a vector-Jacobian product by the two-term shift rule.

    For each angle that depends on something differentiated,
    :math:`\partial E / \partial a = (E(a + \pi/2) - E(a - \pi/2)) / 2`. It is exact, and unbiased with shots.
    With a ``subset`` of K of the p angles, drawn anew in each call, the slopes of these are multiplied by p / K and the
    others are zero: unbiased too, at K / p of the price.

    Args:
        backend: where the circuits run.
        circuit: the circuit.
        parameters: ``(n_parameters,)`` or ``(N, n_parameters)``.
        features: ``(N, n_features)``.
        observables: the observables.
        upstream: ``(N, n_observables)``.
        shots: shots for each measurement setting and circuit; None means exact.
        seed: seed of the shots, and of the subset; None draws from torch's global generator.
        groups: parameter groups to differentiate; None means all, an empty tuple none.
        want_features: whether the gradient by the features is wanted.
        subset: number of angles K that are shifted; None means all.

    Returns:
        The product and its usage: 2 p N executions, p the number of those angles (2 K N with a subset).

    Raises:
        TypeError, ValueError: as the backend does, for an upstream of the wrong shape, and for a subset below 1.

    Source: the two-term shift rule of arXiv:1803.00745 and arXiv:1811.11184, for generators P / 2, P^2 = 1; a random
        subset of coordinates: arXiv:1910.01155.
    """
    problem = _Flat(circuit, parameters, features, observables, groups, want_features)
    return _product(problem, _Shift(problem, seed, subset), backend, upstream, shots, seed)


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
    problem = _Flat(circuit, parameters, features, observables, groups, want_features)
    return _product(problem, _Perturbation(problem, seed, directions, step), backend, upstream, shots, seed)


GRADIENTS: dict[str, Callable[..., VJP]] = {"parameter_shift": parameter_shift, "spsa": spsa}
"""Gradient rules above the protocol, by name."""


def check_options(rule: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a gradient rule does not have.

    Raises:
        ValueError: the message names the nearest option.
    """
    known = {"parameter_shift": ("subset",), "spsa": ("directions", "step")}[rule]
    for name in options:
        choice("gradient_options", name, known)


def with_gradient(
    rule: str,
    backend: Backend,
    circuit: Circuit,
    parameters: Tensor,
    features: Tensor,
    observables: Sequence[Observable],
    shots: int | None = None,
    seed: int | None = None,
    *,
    groups: tuple[str, ...] | None = None,
    want_features: bool = True,
    **options: Any,
) -> Expectations:
    """Return expectation values that can be differentiated, in a single request to the backend.

    The circuits of the value and those of its gradient go together, so that an update on a remote machine is one job.
    What the gradient will be asked for has to be known: ``vjp`` answers for these groups and features alone.

    Args:
        rule: name of a gradient rule, whose keywords are the ``options``.

    The other arguments are those of ``parameter_shift``.

    Raises:
        TypeError, ValueError: as the rule; in ``vjp`` for other groups or features than these.
    """
    started = time.perf_counter()
    problem = _Flat(circuit, parameters, features, observables, groups, want_features)
    plan = _PLANS[rule](problem, seed, **options)
    unmoved = plan.shifts.new_zeros((1, *plan.shifts.shape[1:]))
    values, usage = problem.evaluate(backend, torch.cat((unmoved, plan.shifts)), shots, seed)
    own, moved = values.answers[0], values.answers[1:]
    errors = None if values.errors is None else values.errors[0]
    usage.seconds = time.perf_counter() - started
    usage.gradient_rule = rule if len(plan.shifts) else None

    def vjp(upstream: Tensor, *, groups: tuple[str, ...] | None = None, features: bool = True) -> VJP:
        if (groups, features) != (problem.groups, problem.want_features):
            raise ValueError(
                f"groups: {groups} with features {features}, but the request was made for {problem.groups} with "
                f"{problem.want_features}; ask for these"
            )
        begun = time.perf_counter()
        slopes = plan.slopes((moved * problem.checked(upstream)).sum(2))
        result = problem.finish(slopes, Usage(), rule, begun)
        result.usage.gradient_rule = None  # it was paid with the values
        return result

    return Expectations(own, errors, usage, vjp)


@dataclass(slots=True)
class _Answers:
    """Values, and errors where there are shots, ``(shifts, N, n_observables)``."""

    answers: Tensor
    errors: Tensor | None


class _Shift:
    """The shift rule as a plan: where to evaluate, ``(2 K, 1, n_angles)``, and what the slopes are."""

    def __init__(self, problem: _Flat, seed: int | None, subset: int | None = None) -> None:
        angles, chosen = problem.angles, problem.active
        self._weight = 1.0
        if subset is not None:
            count = min(integer("subset", subset, 1), len(chosen))
            order = torch.randperm(len(chosen), generator=_generator(seed))[:count].to(chosen.device)
            self._weight = len(chosen) / max(count, 1)
            chosen = chosen[order.sort().values]
        self._chosen, self._like, count = chosen, angles, len(chosen)
        self.shifts = angles.new_zeros((2 * count, 1, angles.shape[1]))
        for sign, half in zip((1.0, -1.0), self.shifts.split(count) if count else (), strict=False):
            half[torch.arange(count), 0, chosen] = sign * math.pi / 2

    def slopes(self, values: Tensor) -> Tensor:
        """Gradients by angles, ``(N, n_angles)``, from values ``(2 K, N)``."""
        result, count = self._like.new_zeros(self._like.shape), len(self._chosen)
        result[:, self._chosen] = (values[:count] - values[count:]).t() * (self._weight / 2)
        return result


class _Perturbation:
    """Simultaneous perturbation as a plan: shifts ``(2 r, N, n_angles)``."""

    def __init__(self, problem: _Flat, seed: int | None, directions: int = 1, step: float = 0.1) -> None:
        self._directions, self._step = integer("directions", directions, 1), finite("step", step)
        if self._step <= 0.0:
            raise ValueError(f"step: {step} is not positive; use radians such as 0.1")
        angles = problem.angles
        shape = (directions, *angles.shape)
        signs = torch.randint(0, 2, shape, generator=_generator(seed)).to(angles) * 2.0 - 1.0
        idle = np.setdiff1d(np.arange(angles.shape[1]), problem.active.cpu().numpy())
        signs[:, :, torch.as_tensor(idle)] = 0.0
        self._signs = signs
        self.shifts = torch.cat((step * signs, -step * signs))

    def slopes(self, values: Tensor) -> Tensor:
        """Gradients by angles, ``(N, n_angles)``, from values ``(2 r, N)``."""
        difference = (values[: self._directions] - values[self._directions :]) / (2.0 * self._step)
        return (difference[:, :, None] * self._signs).mean(0)


_PLANS: dict[str, Callable[..., _Shift | _Perturbation]] = {"parameter_shift": _Shift, "spsa": _Perturbation}


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    generator.manual_seed(int(torch.randint(2**62, ()).item()) if seed is None else seed)
    return generator


def _product(
    problem: _Flat,
    plan: _Shift | _Perturbation,
    backend: Backend,
    upstream: Tensor,
    shots: int | None,
    seed: int | None,
) -> VJP:
    started = time.perf_counter()
    upstream = problem.checked(upstream)
    found, usage = problem.evaluate(backend, plan.shifts, shots, seed)
    rule = "parameter_shift" if isinstance(plan, _Shift) else "spsa"
    return problem.finish(plan.slopes((found.answers * upstream).sum(2)), usage, rule, started)


class _Flat:
    """One gradient request in terms of flat angles."""

    def __init__(
        self,
        circuit: Circuit,
        parameters: Tensor,
        features: Tensor,
        observables: Sequence[Observable],
        groups: tuple[str, ...] | None,
        want_features: bool,
    ) -> None:
        self._circuit, self._observables = circuit, observables
        self.groups, self.want_features = groups, want_features
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

    def checked(self, upstream: Tensor) -> Tensor:
        """The upstream gradient, if its shape fits."""
        shape = (len(self._features), len(self._observables))
        if tuple(upstream.shape) != shape:
            raise ValueError(f"upstream: shape {tuple(upstream.shape)} does not fit; use {shape}")
        return upstream.detach()

    def evaluate(
        self, backend: Backend, shifts: Tensor, shots: int | None, seed: int | None
    ) -> tuple[_Answers, Usage]:
        """Return the values at ``(shifts, 1 or N, n_angles)``: one request."""
        shape = (len(shifts), len(self.angles), len(self._observables))
        if shape[0] * shape[1] == 0:
            return _Answers(self.angles.new_zeros(shape), None), Usage()
        rows = (self.angles + shifts).reshape(shape[0] * shape[1], -1)
        answer = backend.expectations(
            self._circuit.flat(), rows.new_zeros(0), rows, self._observables, shots, seed, differentiate=False
        )
        errors = None if answer.errors is None else answer.errors.view(shape)
        return _Answers(answer.values.view(shape), errors), answer.usage

    def finish(self, slopes: Tensor, usage: Usage, rule: str, started: float) -> VJP:
        """Carry the gradients by angles, ``(N, n_angles)``, to parameters and features."""
        theta = self._parameters
        want = self.groups is None or len(self.groups) > 0
        by_theta, by_x = self._terms.backward(
            self._saved, slopes.t(), theta.ndim == 1, want, self.want_features
        )
        gradient = None
        if by_theta is not None:
            gradient = by_theta[:, 0] if theta.ndim == 1 else by_theta.t()
            for name, _ in self._circuit.groups:
                if self.groups is not None and name not in self.groups:
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
            usage.qpu_seconds,
            usage.queue_seconds,
        )
        return VJP(gradient, None if by_x is None else by_x.t(), total)
