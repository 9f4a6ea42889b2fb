"""From a network's specification to a torch module."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from qrl.errors import InputError, nearest
from qrl.layer import QuantumLayer
from qrl.networks.decoding import projectors
from qrl.networks.heads import POLICY_HEADS, build_head
from qrl.networks.network import Chain, JoinedNetwork, Network
from qrl.networks.parameters import count_parameters
from qrl.specs import (
    BilinearNetwork,
    BoltzmannNetwork,
    ConcaveNetwork,
    EquivariantMLPNetwork,
    FourierNetwork,
    Init,
    LnCoshNetwork,
    MatchedMLPNetwork,
    MLPNetwork,
    Normal,
    QuantumNetwork,
    RandomFourierNetwork,
    SymmetricMLPNetwork,
    TabularNetwork,
)

if TYPE_CHECKING:
    from circuits import Circuit

MAX_FREQUENCIES = 10_000
"""Frequencies of a circuit that a Fourier series takes over of its own accord, at most."""
MAX_GRID = 10**6
"""Integer vectors that the frequencies of a given degree are chosen from, at most."""


def build_network(
    spec: Any,
    n_inputs: int,
    n_outputs: int,
    activation: str = "tanh",
    output_gain: float | None = None,
    policy: bool = False,
) -> Network:
    """Build the module of a specification; trainable values are drawn from torch's global generator.

    Args:
        spec: what to build.
        n_inputs: size of the (flattened) observation.
        n_outputs: number of outputs.
        activation: of the hidden layers of an MLP that names none.
        output_gain: orthogonal initialisation of an MLP with gain sqrt(2) in hidden layers and this gain in the
            last one (Stable-Baselines3's choice for PPO); none leaves torch's default. Layers around a circuit
            always start as torch starts them.
        policy: whether the outputs are logits over discrete actions, the only ones for ``softmax`` and ``born`` heads.

    Raises:
        InputError: sizes that do not fit the observation or the actions, a head that does not fit the outputs.
    """
    head = spec.head
    if head is not None and head.kind in POLICY_HEADS and not policy:
        raise InputError(
            "head.kind", head.kind, "is for policies over discrete actions", "use affine or scale"
        )
    if isinstance(spec, QuantumNetwork):
        return _quantum(spec, n_inputs, n_outputs)
    if isinstance(spec, FourierNetwork | RandomFourierNetwork):
        return _fourier(spec, n_inputs, n_outputs)
    if head is not None and head.kind == "born":
        raise InputError("head.kind", "born", "needs a circuit to measure", "leave the head out")
    scales = build_head(head, n_outputs)
    extra = 0 if scales is None else count_parameters(scales)
    body = _classical(spec, n_inputs, n_outputs, getattr(spec, "activation", None) or activation, extra)
    if output_gain is not None and not isinstance(spec, TabularNetwork):
        _orthogonal(body, output_gain)
    return Network(body, scales)


def _classical(spec: Any, n_inputs: int, n_outputs: int, activation: str, extra: int) -> nn.Module:
    """The body of a network without circuit; ``extra`` values are trained beside it."""
    from baselines.networks import matched_mlp, mlp

    if isinstance(spec, MLPNetwork):
        return mlp(n_inputs, n_outputs, tuple(spec.hidden), activation=activation)
    if isinstance(spec, MatchedMLPNetwork):
        if spec.n_parameters is None:
            raise _unresolved(spec.match, "n_parameters")
        return matched_mlp(n_inputs, n_outputs, spec.n_parameters, extra=extra, activation=activation)
    if isinstance(spec, TabularNetwork):
        from baselines.tabular import Tabular

        return Tabular(n_inputs, n_outputs)
    assert isinstance(spec, EquivariantMLPNetwork)
    return _equivariant(spec, n_inputs, n_outputs, activation, extra)


def _unresolved(match: str | None, field: str) -> InputError:
    return InputError(
        "network.match", match, "is not resolved", f"build this agent from its study, or give {field}"
    )


# ---------------------------------------------------------------------------- circuits and what surrounds them


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


def _quantum(spec: QuantumNetwork, n_inputs: int, n_outputs: int) -> Network:
    circuit = build_circuit(spec, n_inputs)
    observables = _observables(spec, n_outputs)

    def core(n_features: int, n_values: int) -> nn.Module:
        layer = QuantumLayer(
            circuit, observables, backend=spec.backend, gradient=spec.gradient, shots=spec.shots
        )
        _start(layer, "weights", spec.weights_init, (-math.pi, math.pi))
        _start(layer, "scales", spec.scales_init, 1.0)
        return layer.requires_grad_(not spec.frozen)

    body = _around(spec, core, n_inputs, circuit.n_features, len(observables), n_outputs)
    return Network(body, build_head(spec.head, n_outputs, spec.shots))


def _around(
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


def _observables(spec: QuantumNetwork, n_outputs: int) -> list[Any]:
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
            if not init[0] < init[1]:
                why, fix = "is no interval", "write [low, high] with low < high"
                raise InputError(f"network.{group}_init", init, why, fix)
            parameter.uniform_(*init)
        else:
            parameter.fill_(init)


# ---------------------------------------------------------------------------- classical stand-ins for a circuit


def _fourier(spec: FourierNetwork | RandomFourierNetwork, n_inputs: int, n_outputs: int) -> Network:
    """A Fourier series alone, or in the place of a matched agent's circuit and between its classical layers."""
    matched = spec.matched
    if matched is None:
        if spec.match is not None:
            raise _unresolved(spec.match, "matched")
        size = "degree" if isinstance(spec, FourierNetwork) else "n_features"
        if getattr(spec, size) is None:
            raise InputError(f"network.{size}", "nothing", "is given here", f"give {size} or match")
        body = _series(spec, n_inputs, n_outputs, None)
    else:
        circuit = build_circuit(matched, n_inputs)
        # a Born head's probabilities have no counterpart; logits take their place
        plain = matched.head is None or matched.head.kind != "born"
        n_values = len(_observables(matched, n_outputs)) if plain else n_outputs
        body = _around(
            matched,
            lambda n_features, n_values: _series(spec, n_features, n_values, circuit),
            n_inputs,
            circuit.n_features,
            n_values,
            n_outputs,
        )
    return Network(body, build_head(spec.head, n_outputs))


def _series(
    spec: FourierNetwork | RandomFourierNetwork, n_inputs: int, n_values: int, circuit: Circuit | None
) -> nn.Module:
    from baselines.fourier import RandomFourier, TruncatedFourier

    if isinstance(spec, FourierNetwork):
        frequencies = (
            _integers(spec.degree or 0, n_inputs) if circuit is None else _spectrum(circuit, spec.degree)
        )
        return TruncatedFourier(frequencies, n_values)
    drawn_from = None if circuit is None else _spectrum(circuit, spec.degree)

    def features(n: int) -> nn.Module:
        return RandomFourier(n_inputs, n_values, n, drawn_from, spec.scale, None)

    if spec.n_features is not None or circuit is None:
        return features(spec.n_features or 1)
    return features(_size(lambda n: count_parameters(features(n)), circuit.n_parameters))


def _size(count: Callable[[int], int], target: int) -> int:
    """The n >= 1 whose affine count is closest to a target; nothing is drawn from the generators for it."""
    with torch.random.fork_rng(devices=[]):
        one, two = count(1), count(2)
    return max(1, round(1 + (target - one) / (two - one)))


def _integers(degree: int, n_inputs: int) -> np.ndarray:
    """All k of integers with ``|k|_1 <= degree``, one of k and -k, by rising ``|k|_1``; ``(K, n_inputs)``."""
    if (2 * degree + 1) ** n_inputs > MAX_GRID:
        why, fix = f"gives too many frequencies on {n_inputs} inputs", "lower it"
        raise InputError("network.degree", degree, why, fix)
    axes = np.meshgrid(*[np.arange(-degree, degree + 1)] * n_inputs, indexing="ij")
    grid = np.stack([axis.ravel() for axis in axes], 1).astype(float)
    # in this order -k comes as far from the end as k from the start: the second half, with zero first
    half = grid[len(grid) // 2 :]
    length = np.abs(half).sum(1)
    order = np.argsort(length, kind="stable")
    return half[order][length[order] <= degree]


def _spectrum(circuit: Circuit, degree: int | None) -> np.ndarray:
    """A circuit's frequencies up to a degree, by default the largest at which they are few enough to be kept."""
    from circuits.analysis import spectrum

    if degree is not None:
        return spectrum(circuit, max_degree=degree)
    found = spectrum(circuit, shortest=MAX_FREQUENCIES + 1)
    if len(found) <= MAX_FREQUENCIES:
        return found
    # whole shells alone, or features would be treated differently
    length = np.abs(found).sum(1)
    return found[length < length[-1] - 1e-6]


def _equivariant(
    spec: EquivariantMLPNetwork, n_inputs: int, n_outputs: int, activation: str, extra: int
) -> nn.Module:
    from baselines.equivariant import EquivariantMLP

    from qrl.networks.symmetry import group

    elements = group(spec.symmetry, n_inputs, n_outputs)

    def network(hidden: list[int]) -> nn.Module:
        return EquivariantMLP(hidden, activation, *elements)

    if spec.hidden is not None or (spec.match is None and spec.n_parameters is None):
        return network(spec.hidden or [64, 64])
    if spec.n_parameters is None:
        raise _unresolved(spec.match, "hidden")
    target, width = spec.n_parameters - extra, 1
    with torch.random.fork_rng(devices=[]):
        while count_parameters(network([width + 1] * 2)) <= target:
            width += 1
    return network([width] * 2)


def _orthogonal(body: nn.Module, output_gain: float) -> None:
    linear = [module for module in body.modules() if isinstance(module, nn.Linear)]
    for module in linear:
        nn.init.orthogonal_(module.weight, gain=output_gain if module is linear[-1] else math.sqrt(2.0))
        nn.init.zeros_(module.bias)


# ---------------------------------------------------------------------------- action values


def build_action_value(spec: Any, n_state: int, n_action: int) -> nn.Module:
    """Build the module Q(s, a) of a specification; trainable values are drawn from torch's global generator.

    Args:
        spec: of a kind made for state and action, or of one that reads them side by side.
        n_state: size of the (flattened) observation.
        n_action: number of action components.

    Returns:
        A module ``(batch, n_state), (batch, n_action) -> (batch, 1)``.

    Raises:
        InputError, ValueError, TypeError: sizes or options that do not fit.
    """
    if getattr(spec, "embedding", None) is not None:
        why, fix = "lets no gradient by the action through", "use an encoder"
        raise InputError("network.embedding", spec.embedding, why, fix)
    if hasattr(spec, "head"):
        return JoinedNetwork(build_network(spec, n_state + n_action, 1, activation="relu"))
    if isinstance(spec, BoltzmannNetwork):
        return _boltzmann(spec, n_state, n_action)
    from baselines import invariant_networks as classical

    if isinstance(spec, SymmetricMLPNetwork):
        return classical.SymmetricMLP(n_state + n_action, spec.hidden, spec.activation or "relu")
    if isinstance(spec, ConcaveNetwork):
        return classical.ConcaveNetwork(n_state + n_action, spec.hidden, even=spec.even)
    if isinstance(spec, LnCoshNetwork):
        return classical.LnCosh(
            n_state + n_action,
            spec.n_units,
            spec.beta,
            spec.init_scale,
            sign=spec.sign,
            bias=spec.bias,
            offset=None if spec.offset == "auto" else spec.offset,
            train_offset=spec.trainable_offset,
        )
    assert isinstance(spec, BilinearNetwork)
    return classical.Bilinear(n_state, n_action, quadratic=spec.quadratic)


def _boltzmann(spec: BoltzmannNetwork, n_state: int, n_action: int) -> nn.Module:
    from circuits.boltzmann import build_graph
    from qrl.boltzmann import BoltzmannMachine

    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in spec.graph.items()
    }
    if "kind" not in options:
        raise InputError(
            "network.graph", spec.graph, "has no kind", 'write e.g. { kind = "chimera", rows = 1 }'
        )
    settings = ("field", "beta", "sign", "offset", "trainable_offset", "init_scale", "bias", "quadratic")
    return BoltzmannMachine(
        build_graph(options.pop("kind"), **options),
        n_state,
        n_action,
        sampler=spec.sampler,
        sampler_options=dict(spec.sampler_options),
        **{name: getattr(spec, name) for name in settings},
    )
