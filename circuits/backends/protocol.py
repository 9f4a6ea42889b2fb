"""What a backend is, what it returns, and how circuit executions are counted.

Counting is exact and the same for every backend. With N samples, G groups of qubit-wise commuting Pauli
words and p gate angles that depend on something that is differentiated:

==================  =======================================  ============================================
                    executions (what ran)                    hardware executions (what hardware would run)
==================  =======================================  ============================================
forward             N                                        N G
gradient, backprop  N                                        2 p N G, the parameter-shift rule
parameter shift     2 p N                                    2 p N G
SPSA, r directions  2 r N                                    2 r N G
==================  =======================================  ============================================

A parameter that several gates share counts once for each of its angles; output weights cost nothing.
Observables that are all identity need no measurement, so there G = 0. Shots are counted where they are
drawn: shots per setting times hardware executions. Jobs are those submitted to a remote machine, so a local
simulator has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from circuits.circuit import Circuit
from circuits.observables import Observable, commuting_groups

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(slots=True)
class Usage:
    """What a request cost; records add up with ``+``.

    Attributes:
        executions: circuit executions that really ran.
        hardware_executions: circuit executions that hardware would have run.
        shots: shots drawn.
        jobs: jobs submitted to a remote machine.
        seconds: wall-clock seconds inside the backend.
        job_ids: identifiers of the jobs whose answers these are, also of those that were paid before.
        qpu_seconds: on a processor, as the machine charged them.
        queue_seconds: that jobs waited before they ran.
        gradient_rule: the rule behind the hardware executions of a gradient; None where there is none.
    """

    executions: int = 0
    hardware_executions: int = 0
    shots: int = 0
    jobs: int = 0
    seconds: float = 0.0
    job_ids: tuple[str, ...] = ()
    gradient_rule: str | None = None
    qpu_seconds: float = 0.0
    queue_seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.executions + other.executions,
            self.hardware_executions + other.hardware_executions,
            self.shots + other.shots,
            self.jobs + other.jobs,
            self.seconds + other.seconds,
            self.job_ids + other.job_ids,
            self.gradient_rule or other.gradient_rule,
            self.qpu_seconds + other.qpu_seconds,
            self.queue_seconds + other.queue_seconds,
        )


@dataclass(slots=True)
class VJP:
    """A vector-Jacobian product.

    Attributes:
        parameters: gradient by the parameters, shape and dtype as given; None where not asked for.
        features: gradient by the features, ``(N, n_features)``; None where not asked for.
        usage: what it cost.
    """

    parameters: Tensor | None
    features: Tensor | None
    usage: Usage


class VJPFunction(Protocol):
    """The vector-Jacobian product of one request."""

    def __call__(
        self, upstream: Tensor, *, groups: tuple[str, ...] | None = None, features: bool = True
    ) -> VJP:
        """Return upstream times the Jacobian of the expectation values.

        Args:
            upstream: ``(N, n_observables)``.
            groups: parameter groups to differentiate, others get zeros and are not counted; None means all
                of them, and an empty tuple gives ``VJP.parameters = None``.
            features: whether the gradient by the features is wanted, and counted.
        """
        ...


@dataclass(slots=True)
class Expectations:
    """The answer to a request.

    Attributes:
        values: ``(N, n_observables)``.
        errors: ``(N, n_observables)``, None where the values are exact.
        usage: what it cost.
        vjp: the vector-Jacobian product; None where the backend cannot differentiate or was not asked to.
    """

    values: Tensor
    errors: Tensor | None
    usage: Usage
    vjp: VJPFunction | None = None

    @property
    def standard_errors(self) -> Tensor:
        """``(N, n_observables)``, zeros where the values are exact."""
        return self.values.new_zeros(self.values.shape) if self.errors is None else self.errors


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do.

    Attributes:
        differentiable: whether it returns a vector-Jacobian product for exact requests.
        exact: whether it answers requests without shots.
        shots: whether it answers requests with shots.
        dtypes: the real dtypes it computes in.
        max_qubits: the largest register, None where memory alone decides.
        remote: whether a request is a job on another machine; values and gradient then go in one.
        joint_shots: whether words that are measured together are read from the same shots.
        single_shots: whether they are in a request for one shot, where ``joint_shots`` says no.
    """

    differentiable: bool
    exact: bool
    shots: bool
    dtypes: tuple[torch.dtype, ...]
    max_qubits: int | None
    remote: bool = False
    joint_shots: bool = False
    single_shots: bool = False


@runtime_checkable
class Backend(Protocol):
    """Something that evaluates expectation values of circuits."""

    @property
    def name(self) -> str:
        """``kind`` or ``kind:target``."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    def expectations(
        self,
        circuit: Circuit,
        parameters: Tensor,
        features: Tensor,
        observables: Sequence[Observable],
        shots: int | None = None,
        seed: int | None = None,
        *,
        differentiate: bool = False,
    ) -> Expectations:
        """Return the expectation values of observables, one row a sample.

        Args:
            circuit: the circuit.
            parameters: ``(n_parameters,)`` or ``(N, n_parameters)``, of the dtype of ``features``.
            features: ``(N, n_features)``.
            observables: observables on the circuit's qubits.
            shots: shots for each measurement setting and sample; None means exact.
            seed: seed of the shots; None draws from torch's global generator.
            differentiate: whether ``vjp`` is wanted.

        Raises:
            TypeError: parameters and features differ in dtype, or the dtype is not supported.
            ValueError: a shape does not fit, a feature is not finite, shots are below 1, or the register
                does not fit into memory.
        """
        ...


def check_request(
    backend: Backend,
    circuit: Circuit,
    parameters: Tensor,
    features: Tensor,
    observables: Sequence[Observable],
    shots: int | None,
) -> None:
    """Refuse a request whose shapes, dtypes, observables or shots do not fit, before anything is computed.

    Raises:
        TypeError: parameters and features differ in dtype, or the backend does not compute in it.
        ValueError: a shape does not fit, an observable has the wrong length, or shots are not possible.
    """
    check_inputs(circuit, parameters, features, backend)
    check_observables(circuit, observables)
    check_shots(shots, backend)


def check_inputs(circuit: Circuit, parameters: Tensor, features: Tensor, backend: Backend) -> None:
    """Refuse parameters and features whose shapes or dtypes do not fit; see ``check_request``."""
    check_shapes(circuit, parameters, features, backend)
    check_finite(features)


def check_finite(features: Tensor) -> None:
    """Refuse features that are not finite; see ``check_request``."""
    # One sum is the cheapest look at all values; where it overflows, the second look decides.
    if not math.isfinite(features.detach().sum().item()) and not bool(features.isfinite().all()):
        raise ValueError("features: a value is not finite; use finite numbers")


def check_shapes(circuit: Circuit, parameters: Tensor, features: Tensor, backend: Backend) -> None:
    """Refuse parameters and features whose shapes or dtypes do not fit; see ``check_request``."""
    width = circuit.n_parameters
    if features.ndim != 2 or features.shape[1] != circuit.n_features:
        raise ValueError(
            f"features: shape {tuple(features.shape)} does not fit; use (N, {circuit.n_features})"
        )
    shape = tuple(parameters.shape)
    if shape != (width,) and shape != (features.shape[0], width):
        raise ValueError(
            f"parameters: shape {shape} does not fit; use ({width},) or ({len(features)}, {width})"
        )
    if parameters.dtype != features.dtype:
        raise TypeError(
            f"features: {features.dtype} against parameters in {parameters.dtype}; convert one of them"
        )
    abilities = backend.capabilities
    if features.dtype not in abilities.dtypes:
        known = ", ".join(str(dtype) for dtype in abilities.dtypes)
        raise TypeError(f"features: {features.dtype} is not supported by {backend.name}; use one of {known}")
    if abilities.max_qubits is not None and circuit.n_qubits > abilities.max_qubits:
        raise ValueError(
            f"n_qubits: {circuit.n_qubits} is too many for {backend.name}; use at most {abilities.max_qubits}"
        )


def check_observables(circuit: Circuit, observables: Sequence[Observable]) -> None:
    """Refuse observables of the wrong length; see ``check_request``."""
    for observable in observables:
        if observable.n_qubits != circuit.n_qubits:
            raise ValueError(
                f"observable {observable.label!r}: acts on {observable.n_qubits} qubits, the circuit has"
                f" {circuit.n_qubits}; make them equal"
            )


def check_shots(shots: int | None, backend: Backend) -> None:
    """Refuse a number of shots that is none or that the backend cannot do; see ``check_request``."""
    if shots is None:
        if not backend.capabilities.exact:
            raise ValueError(f"shots: None, but {backend.name} has no exact values; give a number of shots")
        return
    if isinstance(shots, bool) or not isinstance(shots, int):
        raise TypeError(f"shots: {shots!r} is not an integer; use an integer >= 1 or None")
    if shots < 1:
        raise ValueError(f"shots: {shots} is below 1; use an integer >= 1 or None for exact values")
    if not backend.capabilities.shots:
        raise ValueError(f"shots: {shots}, but {backend.name} is exact only; use None")


def count_settings(circuit: Circuit, observables: Sequence[Observable]) -> int:
    """Return G, the number of measurement settings: groups of qubit-wise commuting words."""
    observables = tuple(observables)
    return circuit.memo(("settings", observables), lambda _: len(commuting_groups(observables)))


def forward_usage(
    circuit: Circuit, observables: Sequence[Observable], samples: int, shots: int | None, seconds: float
) -> Usage:
    """Return the usage of evaluating N samples once."""
    hardware = samples * count_settings(circuit, observables)
    return Usage(samples, hardware, hardware * (shots or 0), 0, seconds)


def backprop_usage(
    circuit: Circuit,
    observables: Sequence[Observable],
    samples: int,
    groups: tuple[str, ...] | None,
    features: bool,
    seconds: float,
) -> Usage:
    """Return the usage of one backward pass over N samples on a simulator."""
    hardware = 2 * count_angles(circuit, groups, features) * samples * count_settings(circuit, observables)
    return Usage(samples, hardware, 0, 0, seconds, (), "parameter_shift")


def count_angles(circuit: Circuit, groups: tuple[str, ...] | None, features: bool) -> int:
    """Return p, the number of angles that depend on what is differentiated; see ``differentiated_angles``."""
    key = ("differentiated", groups, features)
    return circuit.memo(key, lambda c: int(differentiated_angles(c, groups, features).sum()))


def differentiated_angles(circuit: Circuit, groups: tuple[str, ...] | None, features: bool) -> np.ndarray:
    """Return marks ``(n_angles,)`` of the angles that depend on what is differentiated.

    Args:
        circuit: the circuit.
        groups: parameter groups that are differentiated; None means all of them.
        features: whether features are.

    Raises:
        ValueError: a group is unknown.
    """

    marks = np.full(circuit.n_parameters, groups is None)
    for name in groups or ():
        marks[circuit.group(name)] = True
    return circuit.angle_map.depends_on(marks, features)
