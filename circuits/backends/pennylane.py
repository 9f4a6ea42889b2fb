"""The ``pennylane`` backend: any PennyLane qubit device, ``pennylane`` or ``pennylane:lightning.qubit``.

Everything is computed in float64 and returned in the dtype of the request. Devices that differentiate by
backpropagation (``default.qubit``) or by the adjoint method (``lightning.qubit``) return a vector-Jacobian
product for exact requests; the others do not, so their gradients are built above the protocol. Samples are
sent as one broadcast where the device truly simulates a broadcast at once, and as one circuit each elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuits.backends._pennylane_device import Traits, device_errors, make_device, probe
from circuits.backends.protocol import (
    VJP,
    Capabilities,
    Expectations,
    backprop_usage,
    check_request,
    forward_usage,
)
from circuits.circuit import Circuit
from circuits.export._pennylane import pennylane_operations, word_to_pennylane
from circuits.observables import CommutingGroup, Observable, commuting_groups
from circuits.reference import check_memory

Floats = NDArray[np.float64]

_STATE_VECTOR_DEVICES = ("default.qubit", "lightning.qubit")
_BROADCAST_AMPLITUDES = 2**22
_STATISTICS_BITS = 2**24


class PennyLaneBackend:
    """Evaluates circuits on a PennyLane device, qubit ``q`` being wire ``q``.

    Args:
        device: a PennyLane device name.

    Raises:
        ValueError: the device does not exist, cannot be made, or runs no qubit rotations.

    Source: own construction.
    """

    def __init__(self, device: str = "default.qubit") -> None:
        self.name = f"pennylane:{device}"
        self._device_name = device
        self._traits = probe(device)
        dtypes = (torch.float32, torch.float64)
        self.capabilities = Capabilities(
            self._traits.gradient is not None, True, True, dtypes, None, joint_shots=True
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
            TypeError: as stated there.
            ValueError: as stated there; also where the device cannot run the circuit, or takes no seed but
                got one.
        """
        started = time.perf_counter()
        observables = tuple(observables)
        check_request(self, circuit, parameters, features, observables, shots)
        if self._device_name in _STATE_VECTOR_DEVICES:
            check_memory(circuit.n_qubits, 16, copies=2)
        run = _Run(self._device_name, self._traits, circuit, parameters, features, observables)
        errors = torch.zeros((len(features), len(observables)), dtype=features.dtype, device=features.device)
        try:
            if shots is not None:
                values, errors = run.samples(shots, seed)
            elif differentiate and self._traits.gradient == "backprop":
                values = run.backprop_values()
            elif differentiate and self._traits.gradient == "adjoint":
                values = run.adjoint_values()
            else:
                values = run.values()
        except device_errors() as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"backend: {self.name} cannot run this circuit: {reason}; use another device"
            ) from error
        usage = forward_usage(circuit, observables, len(features), shots, time.perf_counter() - started)
        return Expectations(values, errors, usage, run.vjp if run.by_angles is not None else None)


class _Run:
    """One request; after ``backprop_values`` or ``adjoint_values`` it can also be differentiated.

    Attributes:
        by_angles: gradient by the flat angles ``(N, n_angles)`` for upstream values by word ``(N, n_words)``.
    """

    def __init__(
        self,
        name: str,
        traits: Traits,
        circuit: Circuit,
        parameters: Tensor,
        features: Tensor,
        observables: tuple[Observable, ...],
    ) -> None:
        self._name, self._traits, self._circuit = name, traits, circuit
        self._parameters, self._features, self._observables = parameters, features, observables
        theta = parameters.detach().cpu().double().numpy()
        self._theta = theta[None] if theta.ndim == 1 else theta
        self._x = features.detach().cpu().double().numpy()
        self._angles = circuit.angles(self._theta, self._x)
        self._constants, self._words, self._weights = _weights(observables)
        self.by_angles: Callable[[Floats], Floats] | None = None

    def values(self) -> Tensor:
        """Return the exact values, ``(N, n_observables)``."""
        import pennylane as qml

        if not self._has_work:
            return self._constant_values()
        tapes, sizes = self._tapes(self._angles, self._measurements(), None)
        results = qml.execute(tapes, make_device(self._name, self._circuit.n_qubits), diff_method=None)
        return self._combined(np.concatenate([_table(r, n) for r, n in zip(results, sizes, strict=True)]))

    def backprop_values(self) -> Tensor:
        """Return the exact values and keep their graph."""
        import pennylane as qml

        self.by_angles = lambda upstream: np.zeros_like(self._angles)
        if not self._has_work:
            return self._constant_values()
        device = make_device(self._name, self._circuit.n_qubits)
        with torch.enable_grad():
            angles = torch.tensor(self._angles, requires_grad=True)
            tapes, sizes = self._tapes(angles, self._measurements(), None)
            results = qml.execute(tapes, device, diff_method="backprop", interface="torch")
            rows = []
            for result, size in zip(results, sizes, strict=True):
                columns = result if isinstance(result, tuple | list) else (result,)
                rows.append(torch.stack([column.double().expand(size) for column in columns], 1))
            values = torch.cat(rows)

        def by_angles(upstream: Floats) -> Floats:
            if not values.requires_grad:
                return np.zeros_like(self._angles)
            (gradient,) = torch.autograd.grad(values, angles, torch.as_tensor(upstream), retain_graph=True)
            return gradient.numpy()

        self.by_angles = by_angles
        return self._combined(values.detach().numpy())

    def adjoint_values(self) -> Tensor:
        """Return the exact values; differentiate them where the device takes our gates whole."""
        from pennylane.devices import ExecutionConfig

        self.by_angles = lambda upstream: np.zeros_like(self._angles)
        if not self._has_work:
            return self._constant_values()
        device = make_device(self._name, self._circuit.n_qubits)
        tapes, _ = self._tapes(self._angles, self._measurements(), None, plain_words=True, broadcast=False)
        config = device.setup_execution_config(ExecutionConfig(gradient_method="adjoint"), tapes[0])
        batch, _ = device.preprocess_transforms(config)(tuple(tapes))
        positions = [_rotation_positions(before, after) for before, after in zip(tapes, batch, strict=False)]
        if len(batch) != len(tapes) or any(position is None for position in positions):
            self.by_angles = None
            return self.values()
        for tape, position in zip(batch, positions, strict=True):
            tape.trainable_params = position

        def by_angles(upstream: Floats) -> Floats:
            if not self._angles.shape[1]:
                return np.zeros_like(self._angles)
            shape = (len(self._words), self._angles.shape[1])
            jacobians = device.compute_derivatives(batch, config)
            tables = np.stack([np.asarray(table, dtype=np.float64).reshape(shape) for table in jacobians])
            return np.einsum("nw,nwa->na", upstream, tables)

        self.by_angles = by_angles
        return self._combined(np.concatenate([_table(result, 1) for result in device.execute(batch, config)]))

    def samples(self, shots: int, seed: int | None) -> tuple[Tensor, Tensor]:
        """Return means and standard errors from shots, each ``(N, n_observables)``."""
        import pennylane as qml

        options = {}
        if self._traits.seeded:
            options["seed"] = seed if seed is not None else int(torch.randint(2**63 - 1, ()).item())
        elif seed is not None:
            raise ValueError(
                f"seed: {seed}, but PennyLane device {self._name} takes none; leave it out or use another"
            )
        device = make_device(self._name, self._circuit.n_qubits, **options)
        means = np.repeat(self._constants[None], len(self._x), axis=0)
        variances = np.zeros_like(means)
        for group in commuting_groups(self._observables):
            measured = [qml.sample(wires=range(self._circuit.n_qubits))]
            tapes, sizes = self._tapes(self._angles, measured, shots, basis=group.basis)
            results = qml.execute(tapes, device, diff_method=None)
            start = 0
            for result, size in zip(results, sizes, strict=True):
                bits = np.asarray(result, dtype=np.int8).reshape(-1, shots, self._circuit.n_qubits)
                rows = slice(start, start + size)
                self._add_statistics(group, bits, means[rows], variances[rows])
                start += size
        return self._tensor(means), self._tensor(np.sqrt(variances))

    def vjp(self, upstream: Tensor, *, groups: tuple[str, ...] | None = None, features: bool = True) -> VJP:
        """Return upstream times the Jacobian; see ``circuits.backends.protocol.VJPFunction``."""
        started = time.perf_counter()
        shape = (len(self._features), len(self._observables))
        if tuple(upstream.shape) != shape:
            raise ValueError(f"upstream: shape {tuple(upstream.shape)} does not fit; use {shape}")
        assert self.by_angles is not None
        weighted = upstream.detach().cpu().double().numpy() @ self._weights.T
        gradient = self.by_angles(weighted)
        jacobian = self._circuit.jacobian(self._theta, self._x)
        by_parameters = by_features = None
        if groups != ():
            rows, columns = jacobian.parameter_rows, jacobian.parameter_columns
            table = _scatter(gradient, rows, columns, jacobian.parameter_values, self._circuit.n_parameters)
            if groups is not None:
                kept = np.zeros(self._circuit.n_parameters, dtype=bool)
                for name in groups:
                    kept[self._circuit.group(name)] = True
                table[:, ~kept] = 0.0
            by_parameters = self._tensor(table.sum(0) if self._parameters.ndim == 1 else table)
        if features:
            rows, columns = jacobian.feature_rows, jacobian.feature_columns
            table = _scatter(gradient, rows, columns, jacobian.feature_values, self._circuit.n_features)
            by_features = self._tensor(table)
        seconds = time.perf_counter() - started
        samples = len(self._features)
        usage = backprop_usage(self._circuit, self._observables, samples, groups, features, seconds)
        return VJP(by_parameters, by_features, usage)

    def _measurements(self) -> list[Any]:
        import pennylane as qml

        return [qml.expval(word_to_pennylane(word)) for word in self._words]

    def _tapes(
        self,
        angles: Floats | Tensor,
        measurements: list[Any],
        shots: int | None,
        *,
        basis: str = "",
        plain_words: bool = False,
        broadcast: bool = True,
    ) -> tuple[list[Any], list[int]]:
        """Return tapes, and how many samples each one holds."""
        import pennylane as qml

        n_samples = len(angles)
        size = 1
        if broadcast and self._traits.broadcasts:
            size = max(1, _BROADCAST_AMPLITUDES // 2**self._circuit.n_qubits)
            if shots is not None:
                size = max(1, min(size, _STATISTICS_BITS // (shots * self._circuit.n_qubits)))
        if size > 1 and not angles.shape[1]:
            # There is nothing to broadcast, so a tape holds one sample only.
            size = 1
        tapes, sizes = [], []
        for start in range(0, n_samples, size):
            chunk = angles[start : start + size]
            columns = chunk.T if len(chunk) > 1 else chunk[0]
            operations = pennylane_operations(self._circuit, columns, plain_words=plain_words)
            operations += _basis_change(basis)
            tapes.append(qml.tape.QuantumScript(operations, measurements, shots=shots))
            sizes.append(len(chunk))
        return tapes, sizes

    def _add_statistics(
        self, group: CommutingGroup, bits: NDArray[np.int8], means: Floats, variances: Floats
    ) -> None:
        signs = {
            word: 1.0 - 2.0 * (bits[..., [q for q, c in enumerate(word) if c != "I"]].sum(-1) % 2)
            for word in group.words
        }
        shots = bits.shape[1]
        for column, observable in enumerate(self._observables):
            used = [(value, signs[word]) for word, value in observable.words.items() if word in signs]
            if used:
                outcome = sum(value * sign for value, sign in used)
                means[:, column] += np.mean(outcome, axis=1)
                if shots > 1:
                    variances[:, column] += np.var(outcome, axis=1, ddof=1) / shots
                else:
                    variances[:, column] = np.nan

    @property
    def _has_work(self) -> bool:
        return bool(self._words) and len(self._x) > 0

    def _constant_values(self) -> Tensor:
        return self._combined(np.zeros((len(self._x), len(self._words))))

    def _combined(self, words: Floats) -> Tensor:
        return self._tensor(words @ self._weights + self._constants)

    def _tensor(self, values: Floats) -> Tensor:
        return torch.as_tensor(values, dtype=self._features.dtype, device=self._features.device)


def _weights(observables: Sequence[Observable]) -> tuple[Floats, list[str], Floats]:
    """Return the identities' sums ``(n_observables,)``, the other distinct words, and their weights."""
    words = [word for word in dict.fromkeys(w for o in observables for w in o.words) if set(word) != {"I"}]
    constants = np.zeros(len(observables))
    weights = np.zeros((len(words), len(observables)))
    for column, observable in enumerate(observables):
        for word, value in observable.words.items():
            if set(word) == {"I"}:
                constants[column] = value
            else:
                weights[words.index(word), column] = value
    return constants, words, weights


def _table(result: Any, size: int) -> Floats:
    # One measurement gives an array, several give a tuple of them.
    columns = result if isinstance(result, tuple | list) else (result,)
    return np.stack([np.broadcast_to(np.asarray(c, dtype=np.float64), (size,)) for c in columns], axis=1)


def _rotation_positions(before: Any, after: Any) -> list[int] | None:
    """Return where our angles lie among the numbers of a prepared tape, None where a gate was taken apart."""
    import pennylane as qml

    def rotations(tape: Any) -> list[tuple[str, int]]:
        position, found = 0, []
        for operation in tape.operations:
            if operation.num_params and not isinstance(operation, qml.operation.StatePrepBase):
                found.append((operation.name, position))
            position += operation.num_params
        return found

    ours, theirs = rotations(before), rotations(after)
    # A device may have turned a state preparation into rotations, which come first.
    theirs = theirs[len(theirs) - len(ours) :] if len(theirs) >= len(ours) else []
    if [name for name, _ in ours] != [name for name, _ in theirs]:
        return None
    return [position for _, position in theirs]


def _basis_change(basis: str) -> list[Any]:
    import pennylane as qml

    operations: list[Any] = []
    for wire, letter in enumerate(basis):
        if letter == "Y":
            operations.append(qml.adjoint(qml.S(wire)))
        if letter in "XY":
            operations.append(qml.Hadamard(wire))
    return operations


def _scatter(
    gradient: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64], values: Floats, width: int
) -> Floats:
    result = np.zeros((len(gradient), width))
    np.add.at(result.T, columns, (gradient[:, rows] * values).T)
    return result
