"""The ``torch`` backend: a batched, differentiable state-vector simulator in plain torch.

Exact and with shots, complex64 for float32 inputs and complex128 for float64. Circuits whose parameters are
shared by all samples run as layers of matrix products (``_layered``); everything else gate by gate
(``_gatewise``). Both are exact; which one runs changes time alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from circuits.backends._gatewise import GatewiseProgram, Gradients
from circuits.backends._layered import LayeredProgram
from circuits.backends._measure import Measurement, sample
from circuits.backends._schedule import schedule
from circuits.backends.protocol import (
    VJP,
    Capabilities,
    Expectations,
    Usage,
    check_inputs,
    check_observables,
    check_shots,
    count_angles,
    count_settings,
)
from circuits.circuit import Circuit
from circuits.gates import choice, integer
from circuits.observables import Observable
from circuits.reference import check_memory

Program = LayeredProgram | GatewiseProgram
Path = Literal["auto", "layered", "gatewise"]

_SAVED_BYTES = 2**29
_WORKING_BYTES = 2**28
_WORKING_COPIES = 6


class TorchBackend:
    """Simulates circuits with torch on the device of its inputs.

    Expectation values are exact unless ``shots`` is given; then they are sampled from the exact
    distribution, each group of qubit-wise commuting words apart. Gradients of exact values come from a
    hand-written backward pass that keeps the states between layers up to a memory limit and recomputes or
    un-applies them beyond it.

    Args:
        path: "layered", "gatewise", or "auto" for the faster one that applies; the results are the same.

    Raises:
        ValueError: the path is unknown.
    """

    def __init__(self, path: Path = "auto") -> None:
        choice("path", path, ("auto", "layered", "gatewise"))
        self._path = path
        self.name = "torch"
        self.capabilities = Capabilities(
            True, True, True, (torch.float32, torch.float64), None, joint_shots=True
        )

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
        """Return expectation values; see ``circuits.backends.protocol.Backend.expectations``.

        Raises:
            TypeError, ValueError: as stated there.
        """
        started = time.perf_counter()
        check_inputs(circuit, parameters, features, self)
        check_shots(shots, self)
        amplitude = 2 * features.element_size()
        check_memory(circuit.n_qubits, amplitude, _WORKING_COPIES)
        plan = _plan(circuit, tuple(observables), features)
        with torch.no_grad():
            run = _Run(self._program(circuit, parameters, amplitude), plan, circuit, parameters, features)
            if shots is None:
                values, errors = run.values(differentiate), None
            else:
                values, errors = run.samples(shots, seed)
        hardware = features.shape[0] * plan.settings
        usage = Usage(features.shape[0], hardware, hardware * (shots or 0), 0, time.perf_counter() - started)
        return Expectations(values, errors, usage, run.vjp if differentiate and shots is None else None)

    def _program(self, circuit: Circuit, parameters: Tensor, amplitude: int) -> Program:
        dtype, device = parameters.dtype, parameters.device
        shared = parameters.ndim == 1 or circuit.n_parameters == 0
        if self._path != "gatewise" and shared and (self._path == "layered" or _fits(circuit, amplitude)):
            return circuit.memo(("layered", dtype, device), lambda c: LayeredProgram(c, dtype, device))
        if self._path == "layered":
            raise ValueError(
                "parameters: one row a sample, but the layered path shares them; use path 'auto'"
            )
        return circuit.memo(("gatewise", dtype, device), lambda c: GatewiseProgram(c, dtype, device))


def _fits(circuit: Circuit, amplitude: int) -> bool:
    """Whether the states that one layered sample keeps for its gradient stay within the memory limit."""
    states = circuit.memo("layered states", lambda c: len(schedule(c).stages) + 1)
    return states * 2**circuit.n_qubits * amplitude <= _SAVED_BYTES


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a circuit and a tuple of observables need, made once."""

    observables: tuple[Observable, ...]
    like: tuple[torch.dtype, torch.device]
    settings: int
    measurement: Measurement


def _plan(circuit: Circuit, observables: tuple[Observable, ...], features: Tensor) -> _Plan:
    like = (features.dtype, features.device)
    latest: list[_Plan] = circuit.memo("latest plan", lambda _: [])
    # Learning and acting ask for the same tuple again and again; hashing it costs as much as a product.
    if latest and latest[0].observables is observables and latest[0].like == like:
        return latest[0]
    plan = circuit.memo(("plan", observables, like), lambda c: _new_plan(c, observables, like))
    latest[:] = [replace(plan, observables=observables)]
    return latest[0]


def _new_plan(
    circuit: Circuit, observables: tuple[Observable, ...], like: tuple[torch.dtype, torch.device]
) -> _Plan:
    check_observables(circuit, observables)
    measurement = Measurement(circuit.n_qubits, observables, *like)
    return _Plan(observables, like, count_settings(circuit, observables), measurement)


class _Run:
    """One request: its states in chunks of samples, and the backward pass over them."""

    def __init__(
        self,
        program: Program,
        plan: _Plan,
        circuit: Circuit,
        parameters: Tensor,
        features: Tensor,
    ) -> None:
        self._program = program
        self._plan = plan
        self._circuit = circuit
        self._parameters = parameters.detach()
        self._features = features.detach()
        state_bytes = 2**circuit.n_qubits * 2 * features.element_size()
        self._chunk = max(1, _WORKING_BYTES // (state_bytes * _WORKING_COPIES))
        self._keeps = features.shape[0] * state_bytes * program.kept_states <= _SAVED_BYTES
        self._kept: list[tuple[Tensor, Gradients]] = []

    def values(self, differentiate: bool) -> Tensor:
        """Return the exact values ``(N, n_observables)``."""
        keep = differentiate and self._keeps
        result = []
        for rows in self._chunks():
            state, gradients = self._states(rows, keep)
            if gradients is not None:
                self._kept.append((state, gradients))
            result.append(self._plan.measurement.values(state))
        return _joined(result, self._features, len(self._plan.observables))

    def samples(self, shots: int, seed: int | None) -> tuple[Tensor, Tensor]:
        """Return means and standard errors from shots, each ``(N, n_observables)``."""
        if seed is not None:
            integer("seed", seed, 0)
        else:
            seed = int(torch.randint(2**63 - 1, ()).item())
        generator = np.random.default_rng(seed)
        means, errors = [], []
        for rows in self._chunks():
            state, _ = self._states(rows, False)
            mean, error = sample(state, self._plan.observables, shots, generator)
            means.append(mean.t())
            errors.append(error.t())
        size = len(self._plan.observables)
        return _joined(means, self._features, size), _joined(errors, self._features, size)

    def vjp(self, upstream: Tensor, *, groups: tuple[str, ...] | None = None, features: bool = True) -> VJP:
        """Return upstream times the Jacobian; see ``circuits.backends.protocol.VJPFunction``."""
        started = time.perf_counter()
        shape = (self._features.shape[0], len(self._plan.observables))
        if tuple(upstream.shape) != shape:
            raise ValueError(f"upstream: shape {tuple(upstream.shape)} does not fit; use {shape}")
        want = groups is None or len(groups) > 0
        by_parameters, by_features = [], []
        with torch.no_grad():
            for index, rows in enumerate(self._chunks()):
                state, gradients = self._kept[index] if self._kept else self._states(rows, True)
                assert gradients is not None
                image = self._plan.measurement.apply(state, upstream[rows])
                theta, x = gradients(image, want, features)
                if theta is not None:
                    by_parameters.append(theta)
                if x is not None:
                    by_features.append(x.t())
            parameters = self._parameter_gradient(by_parameters, groups) if want else None
            inputs = _joined(by_features, self._features, self._circuit.n_features) if features else None
        seconds = time.perf_counter() - started
        count = self._features.shape[0]
        hardware = 2 * count_angles(self._circuit, groups, features) * count * self._plan.settings
        usage = Usage(count, hardware, 0, 0, seconds, (), "parameter_shift")
        return VJP(parameters, inputs, usage)

    def _parameter_gradient(self, parts: list[Tensor], groups: tuple[str, ...] | None) -> Tensor:
        if not parts or self._circuit.n_parameters == 0:
            return torch.zeros_like(self._parameters)
        if self._parameters.ndim == 2:
            result = torch.cat([part.t() for part in parts])
        else:
            result = sum(parts[1:], start=parts[0])[:, 0]
        for name, _ in self._circuit.groups:
            if groups is not None and name not in groups:
                result[..., self._circuit.group(name)] = 0.0
        return result

    def _states(self, rows: slice, keep: bool) -> tuple[Tensor, Gradients | None]:
        theta = self._parameters
        return self._program.run(theta if theta.ndim == 1 else theta[rows], self._features[rows].t(), keep)

    def _chunks(self) -> Iterator[slice]:
        count = self._features.shape[0]
        if count <= self._chunk:
            return iter((slice(None),)) if count else iter(())
        return iter(slice(start, start + self._chunk) for start in range(0, count, self._chunk))


def _joined(parts: list[Tensor], like: Tensor, width: int) -> Tensor:
    if len(parts) == 1:
        return parts[0].contiguous()
    return torch.cat(parts) if parts else like.new_zeros((len(like), width))
