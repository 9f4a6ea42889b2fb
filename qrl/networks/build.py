"""From a network's specification to a torch module."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from qrl.errors import InputError
from qrl.networks.heads import POLICY_HEADS, build_head
from qrl.networks.hybrid import build_hybrid
from qrl.networks.network import JoinedNetwork, Network
from qrl.networks.parameters import count_parameters
from qrl.networks.stand_ins import build_equivariant, build_fourier, unresolved
from qrl.specs import (
    BilinearNetwork,
    BoltzmannNetwork,
    ConcaveNetwork,
    EquivariantMLPNetwork,
    FourierNetwork,
    LnCoshNetwork,
    MatchedMLPNetwork,
    MLPNetwork,
    QuantumNetwork,
    RandomFourierNetwork,
    SymmetricMLPNetwork,
    TabularNetwork,
)


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
        return build_hybrid(spec, n_inputs, n_outputs)
    if isinstance(spec, FourierNetwork | RandomFourierNetwork):
        return build_fourier(spec, n_inputs, n_outputs)
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
            raise unresolved(spec.match, "n_parameters")
        return matched_mlp(n_inputs, n_outputs, spec.n_parameters, extra=extra, activation=activation)
    if isinstance(spec, TabularNetwork):
        from baselines.tabular import Tabular

        return Tabular(n_inputs, n_outputs)
    assert isinstance(spec, EquivariantMLPNetwork)
    return build_equivariant(spec, n_inputs, n_outputs, activation, extra)


def _orthogonal(body: nn.Module, output_gain: float) -> None:
    linear = [module for module in body.modules() if isinstance(module, nn.Linear)]
    for module in linear:
        nn.init.orthogonal_(module.weight, gain=output_gain if module is linear[-1] else math.sqrt(2.0))
        nn.init.zeros_(module.bias)


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
