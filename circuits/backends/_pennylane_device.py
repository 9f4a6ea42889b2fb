"""What a PennyLane device is able to do, found out without running a circuit on it."""

from __future__ import annotations

import difflib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

# default.mixed offers backpropagation too, but falls to single precision and gives NaN at pure states.
_BACKPROP_DEVICES = ("default.qubit",)


@dataclass(frozen=True, slots=True)
class Traits:
    """What a device does: simulates a broadcast at once, takes a seed, and its own gradient method."""

    broadcasts: bool
    seeded: bool
    gradient: str | None


def probe(name: str) -> Traits:
    """Return what the device does.

    Raises:
        TypeError: the name is no string.
        ValueError: the device does not exist, cannot be made, or runs no qubit rotations.
    """
    import pennylane as qml

    if not isinstance(name, str):
        raise TypeError(f"backend: {name!r} is not a device name; use for example 'default.qubit'")
    unusable: tuple[type[Exception], ...] = (*device_errors(), UserWarning)
    try:
        device = make_device(name, 1)
        seeded = _takes_seed(name)
        tape = qml.tape.QuantumScript([qml.RX(np.array([0.1, 0.2]), 0)], [qml.expval(qml.Z(0))])
        config = device.setup_execution_config(None, tape)
        with warnings.catch_warnings():
            # A device that is no qubit device says so in this warning and fails later only.
            warnings.filterwarnings("error", "Operator RX does not define", UserWarning)
            batch, _ = device.preprocess_transforms(config)((tape,))
        single = qml.tape.QuantumScript([qml.RX(0.1, 0)], [qml.expval(qml.Z(0))])
        methods = ("backprop", "adjoint") if name in _BACKPROP_DEVICES else ("adjoint",)
        gradient = next((m for m in methods if _differentiates(device, single, m)), None)
    except unusable as error:
        reason = str(error).split(". ")[0].strip().rstrip(".").replace("\n", " ")
        near = difflib.get_close_matches(name, list(qml.plugin_devices), n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]!r}?" if near and name not in qml.plugin_devices else ""
        raise ValueError(f"backend: PennyLane device {name!r} cannot be used: {reason}{hint}") from None
    return Traits(len(batch) == 1, seeded, gradient)


def _differentiates(device: Any, tape: Any, method: str) -> bool:
    from pennylane.devices import ExecutionConfig

    return bool(device.supports_derivatives(ExecutionConfig(gradient_method=method), tape))


def device_errors() -> tuple[type[Exception], ...]:
    """Return what PennyLane raises where a device cannot do what is asked."""
    from pennylane import exceptions

    return (
        exceptions.DeviceError,
        exceptions.DecompositionError,
        exceptions.OperatorPropertyUndefined,
        exceptions.QuantumFunctionError,
        exceptions.WireError,
        ImportError,
        NotImplementedError,
    )


def make_device(name: str, n_qubits: int, **options: Any) -> Any:
    """Return a new device with wires 0 to ``n_qubits - 1``."""
    import pennylane as qml

    return qml.device(name, wires=n_qubits, **options)


def _takes_seed(name: str) -> bool:
    try:
        make_device(name, 1, seed=0)
    except TypeError:
        return False
    return True
