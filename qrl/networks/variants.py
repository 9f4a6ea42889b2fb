"""What a quantum network is compared with: the same with one thing taken away, and classical ones of its size."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from qrl.errors import InputError
from qrl.networks.hybrid import build_circuit
from qrl.specs import (
    EquivariantMLPNetwork,
    FourierNetwork,
    MatchedMLPNetwork,
    MLPNetwork,
    QuantumNetwork,
    RandomFourierNetwork,
    Spec,
    TabularNetwork,
    input_error,
)

_ENTANGLERS = ("entangler", "products")
"""Options of families that say which qubits are entangled."""


def no_circuit(spec: QuantumNetwork, agent: str) -> QuantumNetwork:
    """The circuit removed: its classical layers alone, or a linear map where it has none."""
    born = spec.head is not None and spec.head.kind == "born"
    return _changed(spec, circuit="off", frozen=False, **({"head": None} if born else {}))


def frozen(spec: QuantumNetwork, agent: str) -> QuantumNetwork:
    """The circuit left at its random start.

    Raises:
        InputError: nothing besides the circuit learns.
    """
    return _changed(spec, frozen=True)


def no_entanglers(spec: QuantumNetwork, agent: str) -> QuantumNetwork:
    """The entangling gates removed: a product of circuits of one qubit.

    Raises:
        InputError: an ansatz that entangles by more than its options say.
    """
    from circuits.ansatz import ANSATZ

    known = inspect.signature(ANSATZ[spec.ansatz]).parameters if spec.ansatz in ANSATZ else {}
    removed = {name: "none" for name in _ENTANGLERS if name in known}
    changed = _changed(spec, ansatz_options={**spec.ansatz_options, **removed})
    if build_circuit(changed).two_qubit_count:
        why, fix = "entangles by other means too", "leave this variant out"
        raise InputError("network.ansatz", spec.ansatz, why, fix)
    return changed


def mlp(spec: QuantumNetwork, agent: str) -> MatchedMLPNetwork:
    """A perceptron with as many trained values."""
    return MatchedMLPNetwork(match=agent)


def mlp_large(spec: QuantumNetwork, agent: str) -> MLPNetwork:
    """The perceptron of everyday use, two layers of 64, under the same head."""
    return MLPNetwork(head=None if spec.head is None or spec.head.kind == "born" else spec.head)


def fourier(spec: QuantumNetwork, agent: str) -> FourierNetwork:
    """A truncated Fourier series on the circuit's own spectrum."""
    return FourierNetwork(match=agent)


def random_fourier(spec: QuantumNetwork, agent: str) -> RandomFourierNetwork:
    """Random features from the circuit's own spectrum, as many as it has trained values."""
    return RandomFourierNetwork(match=agent)


def invariant(spec: QuantumNetwork, agent: str) -> EquivariantMLPNetwork:
    """A perceptron of its size with the symmetry that its circuit was built with.

    Raises:
        InputError: a circuit of another family than ``equivariant``.
    """
    if spec.ansatz != "equivariant":
        why, fix = "states no symmetry", "leave this variant out"
        raise InputError("network.ansatz", spec.ansatz, why, fix)
    return EquivariantMLPNetwork(match=agent)


def tabular(spec: QuantumNetwork, agent: str) -> TabularNetwork:
    """One value a state and action, for discrete observations."""
    return TabularNetwork(head=None)


VARIANTS: Mapping[str, Callable[[QuantumNetwork, str], Spec]] = {
    "mlp": mlp,
    "mlp_large": mlp_large,
    "no_circuit": no_circuit,
    "frozen": frozen,
    "no_entanglers": no_entanglers,
    "fourier": fourier,
    "random_fourier": random_fourier,
    "invariant": invariant,
    "tabular": tabular,
}
"""By name, from a quantum network and its agent's name to the network to compare with."""


def _changed(spec: QuantumNetwork, **update: Any) -> QuantumNetwork:
    """A copy with other fields, validated anew."""
    try:
        return QuantumNetwork.model_validate({**spec.model_dump(), **update})
    except ValidationError as error:
        raise input_error(error) from None
