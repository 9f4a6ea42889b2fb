"""A variational circuit as a torch module."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from circuits.backends import Backend, Expectations, VJPFunction, get_backend
from circuits.backends.protocol import check_shots
from circuits.circuit import Circuit
from circuits.gates import choice
from circuits.gradients import GRADIENTS, check_options, with_gradient
from circuits.observables import Observable, parse_observables
from circuits.shot_allocation import Comparison, Decision, StopRule
from qrl.ledger import current, phase

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

_GRADIENTS = ("auto", "backprop", *GRADIENTS)


class QuantumLayer(nn.Module):
    r"""Expectation values of a parametrised circuit as a module.

    Output j is :math:`\langle 0|U^\dagger(\theta, x)\, O_j\, U(\theta, x)|0\rangle`. The layer has one
    parameter per group of the circuit, under the group's name (``layer.weights``, ``layer.scales``). Scales
    start at 1, all others uniformly in :math:`[-\pi, \pi)` from torch's global generator. ``layer.double()``
    selects float64 throughout. What runs is counted in the current ledger, in the phase "quantum".

    Args:
        circuit: the circuit.
        observables: Pauli labels, mappings of labels to coefficients, or observables; one output each.
        backend: a backend, or the name of one: ``kind`` or ``kind:target``. ``"auto"`` is the fastest exact
            simulator.
        gradient: "backprop" (the backend's own backward pass), "parameter_shift", "spsa", or "auto":
            backprop where values are exact and the backend differentiates, else parameter shift.
        shots: shots for each measurement setting; None means exact values.
        gradient_options: of a rule above the backend: ``{"subset": K}`` of parameter shift, ``directions`` and
            ``step`` of SPSA.

    Shapes:
        features ``(batch, n_features)`` to values ``(batch, n_observables)``; an empty batch is fine.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an observable of the wrong length, an unknown name, shots below 1, a rule that does not
            fit, a group whose name the module already uses; in ``forward`` a wrong shape or a feature that
            is not finite; in the backward pass a request for second derivatives.

    Source: own construction.

    Example:
        >>> import torch
        >>> from circuits import reuploading
        >>> layer = QuantumLayer(reuploading(n_qubits=4, n_layers=5), observables=["ZZII", "IIZZ"])
        >>> layer(torch.rand(8, 4)).shape
        torch.Size([8, 2])
    """

    def __init__(
        self,
        circuit: Circuit,
        observables: Sequence[str | Mapping[str, float] | Observable],
        backend: str | Backend = "auto",
        gradient: str = "auto",
        shots: int | None = None,
        gradient_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(circuit, Circuit):
            raise TypeError(
                f"circuit: {circuit!r} is not a Circuit; use for example circuits.reuploading(4, 5)"
            )
        self.circuit = circuit
        self.observables = parse_observables(observables, circuit.n_qubits)
        self.backend: Backend = get_backend(backend) if isinstance(backend, str) else backend
        check_shots(shots, self.backend)
        self.shots = shots
        self.gradient = _rule(gradient, self.backend, shots)
        self.gradient_options = _options(self.gradient, gradient_options)
        for name, size in circuit.groups:
            if hasattr(self, name):
                raise ValueError(f"groups: {name!r} is taken by the module; rename the group")
            values = torch.ones(size) if name == "scales" else torch.empty(size).uniform_(-math.pi, math.pi)
            self.register_parameter(name, nn.Parameter(values))

    def forward(self, features: Tensor) -> Tensor:
        """Return the expectation values, ``(batch, n_observables)``, of features ``(batch, n_features)``.

        Raises:
            TypeError: features are no tensor of real numbers.
            ValueError: features have the wrong shape or are not finite.
        """
        parameters = self._groups()
        features = self._checked(features, parameters)
        if torch.is_grad_enabled():
            if features.requires_grad or any(p.requires_grad for p in parameters):
                return cast(Tensor, _Expectation.apply(self, features, *parameters))
            with torch.no_grad():
                return self._evaluate(features, self._flat(features, parameters), None).values
        return self._evaluate(features, self._flat(features, parameters), None).values

    def pullback(
        self, features: Tensor, by_features: bool = False
    ) -> tuple[Tensor, Callable[[Tensor], Tensor | None]]:
        """The expectation values and the way back to the parameters, without a graph: the quick way to learn.

        Args:
            features: ``(batch, n_features)``.
            by_features: whether the gradient by the features is wanted too.

        Returns:
            ``(batch, n_observables)``, and a function that takes the gradient by these values, adds the gradient by
            each parameter to its ``grad`` and returns that by the features, None where it is not wanted.

        Raises:
            TypeError, ValueError: as ``forward``.
        """
        parameters = self._groups()
        features = self._checked(features, parameters).detach()
        flat = self._flat(features, [parameter.detach() for parameter in parameters])
        wanted = [parameter.requires_grad for parameter in parameters]
        learns = by_features or any(wanted)
        result = self._evaluate(features, flat, (wanted, by_features) if learns else None)

        def back(upstream: Tensor) -> Tensor | None:
            if not learns:
                return None
            pieces, inputs = self._gradients(
                result.vjp, flat, features, upstream.detach(), wanted, by_features
            )
            for parameter, piece in zip(parameters, pieces, strict=True):
                if piece is not None:
                    parameter.grad = piece if parameter.grad is None else parameter.grad + piece
            return inputs

        return result.values, back

    def jacobian(
        self, features: Tensor, upstream: Tensor, by_features: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Sample by sample, K times upstream times the Jacobian of the values, without a graph.

        Args:
            features: ``(batch, n_features)``.
            upstream: ``(batch, K, n_observables)``.
            by_features: whether the derivative by the features is wanted too.

        Returns:
            ``(batch, K, P)`` by the P parameters that are trained, in their order, and ``(batch, K, n_features)`` or
            None. Counted as K gradients.

        Raises:
            TypeError, ValueError: as ``forward``.
        """
        parameters = self._groups()
        features = self._checked(features, parameters).detach()
        flat = self._flat(features, [parameter.detach() for parameter in parameters])
        rows = flat.expand(len(features), -1).contiguous()
        wanted = [parameter.requires_grad for parameter in parameters]
        result = self._evaluate(features, rows, (wanted, by_features))
        by_parameters, inputs = [], []
        for row in upstream.detach().unbind(1):
            pieces, given = self._gradients(result.vjp, rows, features, row.contiguous(), wanted, by_features)
            by_parameters.append(torch.cat([rows[:, :0], *(p for p in pieces if p is not None)], dim=-1))
            inputs.append(given)
        return torch.stack(by_parameters, 1), torch.stack(inputs, 1) if by_features else None  # type: ignore[arg-type]

    def run_on(self, backend: str | Backend, shots: int | None = None) -> None:
        """Run on another backend from now on, with these shots and the gradient rule that "auto" stands for there.

        Options of a gradient rule are forgotten.

        Raises:
            TypeError, ValueError: as the constructor.
        """
        found: Backend = get_backend(backend) if isinstance(backend, str) else backend
        check_shots(shots, found)
        self.backend, self.shots = found, shots
        self.gradient, self.gradient_options = _rule("auto", found, shots), {}

    def single_shot(self, features: Tensor) -> Tensor:
        """What one shot a sample and measurement setting reads, ``(batch, n_observables)``, without gradient.

        Observables that are measured together are functions of one bit string.

        Raises:
            TypeError, ValueError: as ``forward``; or the backend draws no shots.
        """
        parameters = [parameter.detach() for parameter in self._groups()]
        features = self._checked(features, tuple(parameters)).detach()
        return self._evaluate(features, self._flat(features, parameters), None, shots=1).values

    def largest(self, features: Tensor, weights: np.ndarray, offsets: np.ndarray, rule: StopRule) -> Decision:
        """Which of several combinations of the expectation values is the largest, by shots as a stop rule takes them.

        Args:
            features: ``(batch, n_features)``.
            weights: ``(n_candidates, n_observables)``.
            offsets: ``(n_candidates,)``.
            rule: of ``circuits.shot_allocation``.

        Raises:
            TypeError, ValueError: as ``forward``; weights or offsets of another shape; what rule or backend refuse.
        """
        parameters = [parameter.detach() for parameter in self._groups()]
        features = self._checked(features, tuple(parameters)).detach()
        flat = self._flat(features, parameters)
        with phase("quantum"):
            decision = rule(
                Comparison(self.backend, self.circuit, flat, self.observables, weights, offsets), features
            )
            ledger = current()
            if ledger is not None:
                ledger.count(decision.usage)
        return decision

    def bound_circuit(self, features: Tensor) -> QuantumCircuit:
        """Return the unmeasured Qiskit circuit with all angles filled in, to check a number by other means.

        Args:
            features: ``(n_features,)``.

        Raises:
            TypeError: features are no tensor of real numbers.
            ValueError: features have the wrong shape or are not finite.
        """
        from circuits.export import to_qiskit

        if isinstance(features, Tensor) and features.ndim != 1:
            raise ValueError(
                f"features: {tuple(features.shape)} is no single sample; use ({self.circuit.n_features},)"
            )
        parameters = self._groups()
        row = self._checked(features[None] if isinstance(features, Tensor) else features, parameters)
        flat = self._flat(row, parameters).detach()
        return to_qiskit(self.circuit, flat.double().cpu().numpy(), row[0].detach().double().cpu().numpy())

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        labels = ", ".join(observable.label for observable in self.observables)
        return (
            f"n_qubits={self.circuit.n_qubits}, n_features={self.circuit.n_features}, "
            f"observables=[{labels}], "
            f"backend={self.backend.name!r}, gradient={self.gradient!r}, shots={self.shots}"
        )

    def _groups(self) -> tuple[Tensor, ...]:
        """The parameters, one tensor for each group of the circuit and in its order."""
        return tuple(cast(dict[str, Tensor], self._parameters).values())

    def _checked(self, features: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
        # That shape and values fit is looked at once, by the backend.
        if not isinstance(features, Tensor):
            raise TypeError(f"features: {type(features).__name__} is not a tensor; use torch.as_tensor")
        if features.dtype.is_complex:
            raise TypeError(f"features: {features.dtype} is not real; use float32 or float64")
        if parameters and features.dtype is not parameters[0].dtype:
            features = features.to(parameters[0].dtype)
        return features

    def _flat(self, features: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """The parameter vector: the groups in order."""
        return torch.cat(parameters) if parameters else features.new_zeros(0)  # type: ignore[arg-type]

    def _evaluate(
        self,
        features: Tensor,
        flat: Tensor,
        wanted: tuple[Sequence[bool], bool] | None,
        shots: int | None = None,
    ) -> Expectations:
        """The values; ``wanted`` says of which groups, and whether of the features, gradients will be asked for."""
        shots = self.shots if shots is None else shots
        with phase("quantum"):
            if wanted is not None and self.gradient != "backprop" and self.backend.capabilities.remote:
                result = with_gradient(
                    self.gradient,
                    self.backend,
                    self.circuit,
                    flat,
                    features,
                    self.observables,
                    shots,
                    groups=self._names(wanted[0]),
                    want_features=wanted[1],
                    **self.gradient_options,
                )
            else:
                result = self.backend.expectations(
                    self.circuit,
                    flat,
                    features,
                    self.observables,
                    shots,
                    differentiate=wanted is not None and self.gradient == "backprop",
                )
            ledger = current()
            if ledger is not None:
                ledger.count(result.usage)
        return result

    def _names(self, wanted: Sequence[bool]) -> tuple[str, ...] | None:
        """The groups that are wanted, none meaning all."""
        if all(wanted):
            return None
        return tuple(name for (name, _), want in zip(self.circuit.groups, wanted, strict=True) if want)

    def _gradients(
        self,
        vjp: VJPFunction | None,
        flat: Tensor,
        features: Tensor,
        upstream: Tensor,
        wanted: Sequence[bool],
        by_features: bool,
    ) -> tuple[Sequence[Tensor | None], Tensor | None]:
        """The gradients by each group, None where not wanted, and by the features."""
        groups, names = self.circuit.groups, self._names(wanted)
        with phase("quantum"):
            if vjp is not None:
                result = vjp(upstream, groups=names, features=by_features)
            else:
                result = GRADIENTS[self.gradient](
                    self.backend,
                    self.circuit,
                    flat,
                    features,
                    self.observables,
                    upstream,
                    self.shots,
                    groups=names,
                    want_features=by_features,
                    **self.gradient_options,
                )
            ledger = current()
            if ledger is not None:
                ledger.count(result.usage)
        if result.parameters is None or not groups:
            return [None] * len(groups), result.features
        pieces: Sequence[Tensor] = torch.split_with_sizes(
            result.parameters, [size for _, size in groups], dim=-1
        )
        if names is None:
            return pieces, result.features
        return [p if want else None for p, want in zip(pieces, wanted, strict=True)], result.features


class _Expectation(torch.autograd.Function):
    """The layer's expectation values with the gradient rule that the layer has chosen."""

    @staticmethod
    def forward(ctx: Any, layer: QuantumLayer, features: Tensor, *parameters: Tensor) -> Tensor:
        flat = layer._flat(features, parameters)
        _, by_features, *wanted = ctx.needs_input_grad
        result = layer._evaluate(features, flat, (wanted, by_features))
        ctx.layer, ctx.flat, ctx.vjp = layer, flat, result.vjp
        ctx.save_for_backward(features)
        return result.values

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise ValueError(
                "create_graph: True, but QuantumLayer has first derivatives only; leave create_graph out"
            )
        (features,) = ctx.saved_tensors  # which also finds features that were overwritten in the meantime
        _, by_features, *wanted = ctx.needs_input_grad
        pieces, inputs = ctx.layer._gradients(ctx.vjp, ctx.flat, features, upstream, wanted, by_features)
        return (None, inputs, *pieces)


def _rule(gradient: str, backend: Backend, shots: int | None) -> str:
    choice("gradient", gradient, _GRADIENTS)
    exact = shots is None and backend.capabilities.differentiable
    if gradient == "auto":
        return "backprop" if exact else "parameter_shift"
    if gradient == "backprop" and not exact:
        reason = f"{backend.name} does not differentiate" if shots is None else "shots have no backward pass"
        raise ValueError(f"gradient: 'backprop', but {reason}; use 'parameter_shift' or 'auto'")
    return gradient


def _options(rule: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    if not options:
        return {}
    if rule not in GRADIENTS:
        raise ValueError(f"gradient_options: {dict(options)}, but {rule} takes none; leave them out")
    check_options(rule, options)
    return dict(options)
