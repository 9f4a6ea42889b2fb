"""What a circuit becomes on a device: transpiled once, cut down to the qubits it uses, with their noise.

A device of 133 qubits cannot be simulated as a whole, and need not be: a transpiled circuit touches a handful of its
qubits. :func:`fit` keeps those, their part of the coupling map and of the calibration, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from circuits.circuit import Circuit
from circuits.gates import choice

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2
    from qiskit.transpiler import Target
    from qiskit_aer.noise import NoiseModel

Floats = NDArray[np.float64]

SEED = 0
"""Of the transpiler: equal circuits get equal layouts."""


@dataclass(frozen=True)
class Fitted:
    """A circuit on the qubits of a device that it uses.

    Attributes:
        circuit: the Qiskit circuit, its parameters the flat angles.
        positions: qubit ``q`` of ours ends on qubit ``positions[q]`` of it.
        noise: the noise of its gates, None where there is none.
        readout: ``(n_qubits, 2)``, the probabilities of reading 1 for 0 and 0 for 1, of our qubits.
        basis_gates: names of the gates that the device has, None where every gate is.
        layout: qubit ``q`` of ours starts on ``layout[q]`` of the device.
    """

    circuit: QuantumCircuit
    positions: tuple[int, ...]
    noise: NoiseModel | None
    readout: Floats
    basis_gates: tuple[str, ...] | None
    layout: tuple[int, ...]

    def measuring(self, basis: str) -> QuantumCircuit:
        """The circuit followed by what turns the Paulis of ``basis`` into Z, in the device's own gates."""
        from qiskit import QuantumCircuit, transpile

        change = QuantumCircuit(self.circuit.num_qubits)
        for qubit, letter in enumerate(basis):
            if letter == "Y":
                change.sdg(self.positions[qubit])
            if letter in "XY":
                change.h(self.positions[qubit])
        if not change.size():
            return self.circuit
        if self.basis_gates is not None:
            change = transpile(change, basis_gates=list(self.basis_gates), optimization_level=1)
        return self.circuit.compose(change)


def without_device(
    circuit: Circuit, noise: NoiseModel | None = None, readout: Floats | None = None
) -> Fitted:
    """A circuit in its own gates, on qubits that are all connected."""
    from qiskit import transpile

    from circuits.export import to_qiskit

    # Preparations of initial states are taken apart; everything else is known to the simulator as it is.
    known = sorted(
        {"id", "u", "cx", "cy", "cz", "swap", "rx", "ry", "rz", "rxx", "ryy", "rzz", "rzx"} | _PLAIN
    )
    whole = transpile(to_qiskit(circuit, flat=True), basis_gates=known, optimization_level=0)
    places = tuple(range(circuit.n_qubits))
    errors = np.zeros((circuit.n_qubits, 2)) if readout is None else readout
    return Fitted(whole, places, noise, errors, None, places)


_PLAIN = {"h", "x", "y", "z", "s", "sdg", "sx", "sxdg"}


def fit(circuit: Circuit, device: BackendV2) -> Fitted:
    """Transpile a circuit for a device, at optimisation level 3, and keep the qubits that it uses.

    Raises:
        ValueError: the circuit has more qubits than the device.
    """
    from qiskit import QuantumCircuit, transpile

    from circuits.export import to_qiskit

    if circuit.n_qubits > device.num_qubits:
        raise ValueError(
            f"n_qubits: {circuit.n_qubits} is too many for {device.name}; use at most {device.num_qubits}"
        )
    whole = transpile(to_qiskit(circuit, flat=True), device, optimization_level=3, seed_transpiler=SEED)
    where = whole.layout.final_index_layout()
    touched = {whole.find_bit(bit).index for gate in whole.data for bit in gate.qubits}
    used = sorted(touched | set(where))
    place = {physical: position for position, physical in enumerate(used)}
    small = QuantumCircuit(len(used))
    for gate in whole.data:
        if gate.operation.name != "barrier":
            small.append(gate.operation, [place[whole.find_bit(bit).index] for bit in gate.qubits])
    noise, errors = device_noise(device.target, used)
    return Fitted(
        small,
        tuple(place[physical] for physical in where),
        noise,
        np.array([errors[place[physical]] for physical in where]),
        tuple(sorted(set(device.operation_names) - {"measure", "delay", "reset"} - _CONTROL_FLOW)),
        tuple(whole.layout.initial_index_layout(filter_ancillas=True)),
    )


_CONTROL_FLOW = {
    "if_else",
    "for_loop",
    "while_loop",
    "switch_case",
    "box",
    "break_loop",
    "continue_loop",
    "store",
}


def device_noise(target: Target, used: list[int]) -> tuple[NoiseModel, list[tuple[float, float]]]:
    """The noise model of some qubits of a device, renumbered in their order, and their readout errors.

    Gate errors are those that ``NoiseModel.from_backend`` derives from the same calibration: depolarisation up to the
    reported error, after thermal relaxation for the reported duration.

    Source: ``qiskit_aer.noise.device`` on the target cut down to these qubits.
    """
    from qiskit_aer.noise import NoiseModel
    from qiskit_aer.noise.device import basic_device_gate_errors, basic_device_readout_errors

    small = _cut(target, used)
    noise = NoiseModel(basis_gates=[name for name in small.operation_names if name not in _CONTROL_FLOW])
    for name, qubits, error in basic_device_gate_errors(target=small):
        noise.add_quantum_error(error, name, qubits)
    errors = [(0.0, 0.0)] * len(used)
    for (qubit,), error in basic_device_readout_errors(target=small):
        # row: what was there; column: what is read
        table = error.probabilities
        errors[qubit] = (float(table[0][1]), float(table[1][0]))
    return noise, errors


def _cut(target: Target, used: list[int]) -> Target:
    from qiskit.transpiler import Target

    place = {physical: position for position, physical in enumerate(used)}
    qubits = target.qubit_properties
    small = Target(
        num_qubits=len(used),
        dt=target.dt,
        qubit_properties=None if qubits is None else [qubits[physical] for physical in used],
    )
    for name in target.operation_names:
        if name in _CONTROL_FLOW or target[name] is None:
            continue
        kept = {
            tuple(place[q] for q in wires): properties
            for wires, properties in target[name].items()
            if wires is not None and all(q in place for q in wires)
        }
        if kept:
            small.add_instruction(target.operation_from_name(name), kept)
    return small


CHANNELS = ("depolarizing", "bit_flip", "amplitude_damping", "readout", "coherent")
"""Kinds of noise that can be given as numbers."""

_ROTATIONS = {
    "rx": "X",
    "ry": "Y",
    "rz": "Z",
    "rxx": "XX",
    "ryy": "YY",
    "rzz": "ZZ",
    "rzx": "XZ",  # in Qiskit's order, the first qubit last
}


def channel_noise(channels: Mapping[str, Any]) -> tuple[NoiseModel, float]:
    """The same noise after every gate, from probabilities, and the readout error.

    Args:
        channels: ``depolarizing``, one number or one for gates of one and of two qubits; ``bit_flip`` and
            ``amplitude_damping``, applied to each qubit of a gate; ``readout``, of either wrong reading; ``coherent``,
            the standard deviation in radians of a normal error of each rotation's angle, drawn anew in every execution.

    The mean over an angle's error is exactly a Pauli channel: the rotation's own word with probability
    ``(1 - exp(-sigma^2 / 2)) / 2``. An error that stays the same over many shots has the same mean, and a larger
    spread than the shots drawn here.

    Raises:
        ValueError: an unknown channel, a probability outside [0, 1], or a negative deviation.

    Source: channels of Qiskit Aer; their selection follows arXiv:2212.09431; the mean over an angle is own derivation.
    """
    from qiskit_aer.noise import NoiseModel, amplitude_damping_error, depolarizing_error, pauli_error

    for name in channels:
        choice("noise", name, CHANNELS)
    pair = channels.get("depolarizing", 0.0)
    pair = tuple(pair) if isinstance(pair, list | tuple) else (pair, pair)
    if len(pair) != 2:
        raise ValueError(f"noise.depolarizing: {list(pair)} is no pair; use [one qubit, two qubits]")
    flip, damping = channels.get("bit_flip", 0.0), channels.get("amplitude_damping", 0.0)
    readout, sigma = channels.get("readout", 0.0), channels.get("coherent", 0.0)
    named = zip(("depolarizing", *CHANNELS[:4]), (*pair, flip, damping, readout), strict=True)
    for name, value in named:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
            raise ValueError(f"noise.{name}: {value!r} is no probability; use a number from 0 to 1")
    if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0.0 <= sigma < math.inf:
        raise ValueError(f"noise.coherent: {sigma!r} is no standard deviation; use a number of at least 0")
    turned = (1.0 - math.exp(-(float(sigma) ** 2) / 2.0)) / 2.0
    each = pauli_error([("X", flip), ("I", 1.0 - flip)]).compose(amplitude_damping_error(damping))
    single = depolarizing_error(pair[0], 1).compose(each)
    double = depolarizing_error(pair[1], 2).compose(each.tensor(each))
    noise = NoiseModel()
    for names, error in (
        (sorted(_PLAIN | {"rx", "ry", "rz", "u"}), single),
        (["cx", "cy", "cz", "swap", "rxx", "ryy", "rzz", "rzx"], double),
    ):
        for name in names:
            word = _ROTATIONS.get(name)
            if word is not None and turned:
                wrong = pauli_error([(word, turned), ("I" * len(word), 1.0 - turned)])
                noise.add_all_qubit_quantum_error(wrong.compose(error), name)
            else:
                noise.add_all_qubit_quantum_error(error, name)
    return noise, float(readout)
