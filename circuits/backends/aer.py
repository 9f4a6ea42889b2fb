"""The ``aer`` backend: Qiskit's simulator, ideal, with the noise of a device, or with noise that is given.

``aer`` is ideal; ``aer:fake_torino`` has the calibration of that device (and of any other that
``qiskit_ibm_runtime.fake_provider`` knows); :class:`AerBackend` also takes a Qiskit backend or a table of channels.

Noise is exact: the circuit's density matrix, on the qubits that it uses, gives the probabilities of all readings,
errors of the readout included. Expectation values follow from these, and shots are drawn from them, so that values
with many shots tend to the exact ones. The backend does not differentiate; gradients are built above it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuits.backends._device import Fitted, channel_noise, fit, without_device
from circuits.backends.protocol import Capabilities, Expectations, check_request, forward_usage
from circuits.circuit import Circuit
from circuits.gates import choice
from circuits.observables import CommutingGroup, Observable, commuting_groups
from circuits.reference import check_memory

if TYPE_CHECKING:
    from qiskit.providers import BackendV2

Floats = NDArray[np.float64]

_CHUNK = 2**24
"""Probabilities held at a time."""


class AerBackend:
    """Evaluates circuits with Qiskit Aer, in float64.

    Args:
        device: whose calibration the noise is from: a Qiskit ``BackendV2``, or the name of a fake one such as
            ``fake_torino``. Circuits are transpiled for it once.
        noise: instead of a device, the same noise after every gate: see ``channel_noise``.

    Raises:
        ValueError: both are given, the name is unknown, or a channel is no probability.

    Source: Qiskit Aer's density-matrix method; the cut to the used qubits is own construction.
    """

    def __init__(
        self, device: str | BackendV2 | None = None, *, noise: Mapping[str, Any] | None = None
    ) -> None:
        if device is not None and noise is not None:
            raise ValueError("noise: is given beside a device; leave one of them out")
        self._device = fake_device(device) if isinstance(device, str) else device
        self._channels = None if noise is None else channel_noise(noise)
        self._token = object()  # what circuits keep for this backend; an id would be used again
        label = device if isinstance(device, str) else getattr(device, "name", None)
        self.name = "aer" if label is None else f"aer:{label}"
        self.noisy = self._device is not None or self._channels is not None
        self.capabilities = Capabilities(
            False, True, True, (torch.float32, torch.float64), None, joint_shots=True
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
        """Return expectation values; see ``circuits.backends.protocol.Backend.expectations``."""
        started = time.perf_counter()
        observables = tuple(observables)
        check_request(self, circuit, parameters, features, observables, shots)
        angles = circuit.angles(
            parameters.detach().cpu().double().numpy(), features.detach().cpu().double().numpy()
        )
        angles = np.broadcast_to(angles, (len(features), circuit.n_angles))
        constants = [observable.words.get("I" * circuit.n_qubits, 0.0) for observable in observables]
        means = np.tile(np.array(constants), (len(features), 1))
        variances = np.zeros_like(means)
        generator = None if shots is None else np.random.default_rng(_seed(seed))
        for group in commuting_groups(observables):
            outcomes = outcome_table(group, observables, circuit.n_qubits)
            for rows in _chunks(len(features), circuit.n_qubits):
                found = self.probabilities(circuit, angles[rows], group.basis)
                if generator is None or shots is None:
                    means[rows] += found @ outcomes
                    continue
                counts = generator.multinomial(shots, found / found.sum(1, keepdims=True))
                mean = counts @ outcomes / shots
                means[rows] += mean
                spread = counts @ outcomes**2 / shots - mean**2
                variances[rows] += (
                    np.maximum(spread, 0.0) / (shots - 1)
                    if shots > 1
                    else np.where(outcomes.any(0), np.nan, 0.0)
                )
        usage = forward_usage(circuit, observables, len(features), shots, time.perf_counter() - started)
        errors = None if shots is None else self._tensor(np.sqrt(variances), features)
        return Expectations(self._tensor(means, features), errors, usage)

    def probabilities(self, circuit: Circuit, angles: Floats, basis: str) -> Floats:
        """The probabilities of all readings of all qubits in a basis.

        Args:
            circuit: the circuit.
            angles: ``(N, n_angles)`` radians, see ``Circuit.angles``.
            basis: one of IXYZ a qubit, the Pauli that is measured; I as Z.

        Returns:
            ``(N, 2 ** n_qubits)``, bit ``q`` of an index being the reading of qubit ``q``.

        Raises:
            ValueError: the state does not fit into memory.
        """
        fitted = self.fitted(circuit)
        qubits = fitted.circuit.num_qubits
        check_memory(2 * qubits if self.noisy else qubits, 16)
        if not len(angles):
            return np.zeros((0, 2**circuit.n_qubits))
        found = _simulate(fitted, basis, angles, "density_matrix" if self.noisy else "statevector")
        return _misread(found, fitted.readout)

    def fitted(self, circuit: Circuit) -> Fitted:
        """The circuit on the device, transpiled once."""

        def build(circuit: Circuit) -> Fitted:
            if self._device is not None:
                return fit(circuit, self._device)
            if self._channels is None:
                return without_device(circuit)
            noise, readout = self._channels
            return without_device(circuit, noise, np.full((circuit.n_qubits, 2), readout))

        return circuit.memo(("aer", self._token), build)

    def describe(self, circuit: Circuit) -> dict[str, Any]:
        """What a circuit becomes on the device: JSON values; empty without one.

        ``layout`` says on which of its qubits ours start; ``depth`` and ``two_qubit_gates`` are those of the transpiled
        circuit; ``calibration`` is the date of the device's data, None where it does not say.
        """
        if self._device is None:
            return {}
        fitted = self.fitted(circuit)
        return {
            "device": self._device.name,
            "calibration": _calibrated(self._device),
            "layout": list(fitted.layout),
            "depth": fitted.circuit.depth(),
            "two_qubit_gates": fitted.circuit.num_nonlocal_gates(),
        }

    def _tensor(self, values: Floats, like: Tensor) -> Tensor:
        return torch.as_tensor(values, dtype=like.dtype, device=like.device)


def _calibrated(device: Any) -> str | None:
    properties = getattr(device, "properties", None)
    date = getattr(properties() if callable(properties) else None, "last_update_date", None)
    return None if date is None else date.isoformat()


@cache
def fake_device(name: str) -> Any:
    """A device as it was calibrated on one day, by name such as ``fake_torino``.

    Raises:
        ValueError: the name is unknown, or qiskit-ibm-runtime, which holds them, is not installed.
    """
    try:
        from qiskit_ibm_runtime import fake_provider
    except ImportError:
        raise ValueError(
            f"backend: 'aer:{name}' needs qiskit-ibm-runtime; pip install 'hybrid-qrl[ibm]'"
        ) from None
    classes = [value for key, value in vars(fake_provider).items() if key.startswith("Fake")]
    known = {kind.backend_name: kind for kind in classes if getattr(kind, "backend_name", None)}
    choice("backend", name, tuple(known))
    return known[name]()


def _simulate(fitted: Fitted, basis: str, angles: Floats, method: str) -> Floats:
    """The probabilities before readout errors, ``(N, 2 ** n_qubits)``."""
    from qiskit_aer import AerSimulator

    simulator = AerSimulator(
        method=method, noise_model=fitted.noise, max_parallel_threads=torch.get_num_threads()
    )
    whole = fitted.measuring(basis).copy()
    whole.save_probabilities(list(fitted.positions))
    symbols = sorted(whole.parameters, key=lambda symbol: symbol.index)
    if not symbols:
        found = simulator.run(whole, shots=1).result()
        return np.tile(np.asarray(found.data(0)["probabilities"]), (len(angles), 1))
    binds = {symbol: angles[:, symbol.index].tolist() for symbol in symbols}
    found = simulator.run(
        whole, parameter_binds=[binds], shots=1, runtime_parameter_bind_enable=True
    ).result()
    if not found.success:
        raise RuntimeError(f"aer: {found.status}")
    return np.stack([np.asarray(found.data(row)["probabilities"]) for row in range(len(angles))])


def _misread(probabilities: Floats, readout: Floats) -> Floats:
    """The probabilities of what is read, ``(N, 2 ** n)``, from those of what is there."""
    n = len(readout)
    for qubit, (one_for_zero, zero_for_one) in enumerate(readout):
        if not one_for_zero and not zero_for_one:
            continue
        # axes: samples, higher qubits, this one, lower ones
        parts = probabilities.reshape(-1, 2 ** (n - qubit - 1), 2, 2**qubit)
        zero, one = parts[:, :, 0], parts[:, :, 1]
        moved = one_for_zero * zero - zero_for_one * one
        probabilities = np.stack([zero - moved, one + moved], axis=2).reshape(len(probabilities), -1)
    return probabilities


def outcome_table(group: CommutingGroup, observables: Sequence[Observable], n_qubits: int) -> Floats:
    """What each reading contributes to each observable in this setting, ``(2 ** n_qubits, n_observables)``."""
    readings = np.arange(2**n_qubits)
    table = np.zeros((len(readings), len(observables)))
    for word in group.words:
        mask = sum(1 << q for q, letter in enumerate(word) if letter != "I")
        sign = 1.0 - 2.0 * (np.bitwise_count(readings & mask) % 2)
        for column, observable in enumerate(observables):
            table[:, column] += observable.words.get(word, 0.0) * sign
    return table


def _chunks(samples: int, n_qubits: int) -> list[slice]:
    size = max(1, _CHUNK >> n_qubits)
    return [slice(start, min(start + size, samples)) for start in range(0, samples, size)]


def _seed(seed: int | None) -> int:
    return int(torch.randint(2**63 - 1, ()).item()) if seed is None else seed
