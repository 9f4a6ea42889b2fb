"""Circuits, and the classical layers around them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from qrl.errors import InputError, nearest
from qrl.layer import QuantumLayer
from qrl.networks.decoding import projectors
from qrl.networks.heads import build_head
from qrl.networks.network import Chain, Network
from qrl.specs import Init, Normal, QuantumNetwork

if TYPE_CHECKING:
    from circuits import Circuit
    from circuits.backends import Backend


def build_circuit(spec: QuantumNetwork, n_inputs: int | None = None) -> Circuit:
    """The circuit of a quantum network.

    Args:
        spec: the network.
        n_inputs: size of the observation, the number of features where the specification leaves it open.

    Raises:
        InputError: an unknown ansatz or option.
        ValueError, TypeError: what the ansatz itself refuses (0 qubits, ...).
    """
    from circuits.ansatz import ANSATZ

    if spec.ansatz not in ANSATZ:
        raise InputError(
            "network.ansatz", spec.ansatz, "is not a registered ansatz", nearest(spec.ansatz, ANSATZ)
        )
    n_features = _n_features(spec, n_inputs)
    options = {**spec.ansatz_options, **({} if n_features is None else {"n_features": n_features})}
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        return ANSATZ[spec.ansatz](n_qubits=spec.n_qubits, n_layers=spec.n_layers, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        unknown = str(error).rsplit("'", 2)[-2]
        known = [
            name
            for name in inspect.signature(ANSATZ[spec.ansatz]).parameters
            if name not in ("n_qubits", "n_layers")
        ]
        raise InputError(
            "network.ansatz_options", unknown, f"is no option of {spec.ansatz}", nearest(unknown, known)
        ) from None


def _n_features(spec: QuantumNetwork, n_inputs: int | None) -> int | None:
    """How many features the circuit is asked to read; None leaves it to the ansatz."""
    if spec.n_features is not None:
        return spec.n_features
    if spec.encoder is not None:
        return spec.encoder.size
    if spec.embedding is not None and n_inputs is not None:
        return Embedding(spec.embedding, n_inputs, spec.n_qubits).n_features
    return None if spec.embedding is not None else n_inputs


class Embedding(nn.Module):
    """A fixed map of the observation, ``(batch, n_inputs) -> (batch, n_features)``; no gradient passes it."""

    def __init__(self, name: str, n_inputs: int, n_qubits: int) -> None:
        super().__init__()
        from circuits.embeddings import EMBEDDINGS

        self.map: Any = EMBEDDINGS[name](n_inputs, n_qubits)
        self.n_features: int = self.map.n_features

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """``(batch, n_inputs) -> (batch, n_features)``."""
        return torch.as_tensor(self.map(observations.detach().cpu().numpy())).to(observations)


Core = Callable[[int, int], nn.Module]
"""From the numbers of features and of values to the module between them."""


def build_hybrid(spec: QuantumNetwork, n_inputs: int, n_outputs: int) -> Network:
    """A circuit, what surrounds it, and its head.

    Raises:
        InputError, ValueError, TypeError: sizes or options that do not fit.
    """
    circuit = build_circuit(spec, n_inputs)
    observables = measured(spec, n_outputs)

    def core(n_features: int, n_values: int) -> nn.Module:
        layer = QuantumLayer(
            circuit,
            observables,
            backend=_backend(spec),
            gradient=spec.gradient,
            shots=spec.shots,
            gradient_options=spec.gradient_options,
        )
        _start(layer, "weights", spec.weights_init, (-math.pi, math.pi))
        _start(layer, "scales", spec.scales_init, 1.0)
        return layer.requires_grad_(not spec.frozen)

    body = surround(spec, core, n_inputs, circuit.n_features, len(observables), n_outputs)
    return Network(body, build_head(spec.head, n_outputs, spec.shots))


def _backend(spec: QuantumNetwork) -> str | Backend:
    if spec.noise is None:
        return spec.backend
    from circuits.backends.aer import AerBackend

    return AerBackend(noise=spec.noise.model_dump())


def surround(
    spec: QuantumNetwork, core: Core, n_inputs: int, n_features: int, n_values: int, n_outputs: int
) -> nn.Module:
    """The core between embedding or encoder and decoder; without the circuit, these alone or a linear map."""
    from baselines.networks import mlp

    stages: dict[str, nn.Module] = {}
    off, encoder, decoder = spec.circuit == "off", spec.encoder, spec.decoder
    given = n_inputs
    if spec.embedding is not None:
        embedding = Embedding(spec.embedding, n_inputs, spec.n_qubits)
        stages["embedding"], given = embedding, embedding.n_features
    if encoder is not None:
        if encoder.size not in (None, n_features):
            why, fix = f"does not fit a circuit of {n_features} features", "give one of size and n_features"
            raise InputError("network.encoder.size", encoder.size, why, fix)
        given = n_values if off and decoder is None else n_features
        stages["encoder"] = mlp(n_inputs, given, encoder.hidden, encoder.activation)
    elif given != n_features:
        raise InputError(
            "network.n_features",
            n_features,
            f"does not fit the observation of size {given}",
            f"use n_features = {given}, or an encoder",
        )
    if not off:
        stages["circuit"] = core(n_features, n_values)
    elif encoder is None and decoder is None:
        stages["linear"] = mlp(given, n_values, ())
    if decoder is not None:
        stages["decoder"] = mlp(given if off else n_values, n_outputs, decoder.hidden, decoder.activation)
    return Chain(stages) if len(stages) > 1 else next(iter(stages.values()))


def measured(spec: QuantumNetwork, n_outputs: int) -> list[Any]:
    """What is measured: the agent's choice, the probabilities of actions, or one Z a value."""
    if spec.head is not None and spec.head.kind == "born":
        return list(projectors(spec.n_qubits, n_outputs, spec.head.decoding))
    if spec.observables is None:
        n_values = spec.n_qubits if spec.decoder is not None else n_outputs
        if n_values > spec.n_qubits:
            raise InputError(
                "network.observables",
                "nothing",
                f"is given for {n_outputs} outputs on {spec.n_qubits} qubits",
                "list one Pauli word an output, or add a decoder",
            )
        return ["I" * q + "Z" + "I" * (spec.n_qubits - q - 1) for q in range(n_values)]
    given = len(spec.observables)
    if spec.decoder is None and given != n_outputs and not (given == 1 and spec.head is not None):
        raise InputError(
            "network.observables",
            spec.observables,
            f"are {given}",
            f"give {n_outputs}, one an output",
        )
    return list(spec.observables)


def _start(layer: QuantumLayer, group: str, init: Init, usual: Init) -> None:
    """Give a group of parameters their start values; the usual ones they have already."""
    if init == usual:
        return
    parameter = dict(layer.named_parameters()).get(group)
    if parameter is None:
        why, fix = f"but the circuit has no {group}", "leave it out"
        raise InputError(f"network.{group}_init", init, why, fix)
    with torch.no_grad():
        if isinstance(init, Normal):
            parameter.normal_(0.0, init.normal)
        elif isinstance(init, tuple):
            parameter.uniform_(*init)
        else:
            parameter.fill_(init)
