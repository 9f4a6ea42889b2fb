"""From a network specification to a torch module: a body (circuit or MLP) and an optional classical head."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from qrl.errors import InputError, nearest
from qrl.layer import QuantumLayer
from qrl.specs import (
    BilinearNetwork,
    BoltzmannNetwork,
    ConcaveNetwork,
    Head,
    LearningRates,
    LnCoshNetwork,
    MatchedMLPNetwork,
    MLPNetwork,
    QuantumNetwork,
    SymmetricMLPNetwork,
)

if TYPE_CHECKING:
    from circuits import Circuit

GROUPS = ("weights", "scales", "couplings", "head")


class ScaleHead(nn.Module):
    """One trainable scale, and for ``affine`` one shift, an output.

    ``affine``: ``y_a = w_a O_a + c_a``; ``scale``: ``y_a = w_a O_a``; ``unit``: ``y_a = w_a (1 + O_a) / 2``
    (Skolik et al., arXiv:2103.15084, eq. 6). Takes ``(batch, n_outputs)`` or, shared by all outputs, ``(batch, 1)``
    and gives ``(batch, n_outputs)``.

    Raises:
        InputError: ``init`` has another length than the number of outputs.
    """

    def __init__(self, spec: Head, n_outputs: int) -> None:
        super().__init__()
        init = spec.init if isinstance(spec.init, list) else [spec.init] * n_outputs
        if len(init) != n_outputs:
            raise InputError(
                "head.init",
                init,
                f"has {len(init)} numbers",
                f"give one number, or one for each of {n_outputs} outputs",
            )
        self.kind = spec.kind
        self.scale = nn.Parameter(torch.tensor(init, dtype=torch.float32))
        self.shift = (
            nn.Parameter(torch.full((n_outputs,), float(spec.shift))) if spec.kind == "affine" else None
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``(batch, n_outputs or 1) -> (batch, n_outputs)``."""
        if self.kind == "unit":
            values = (1.0 + values) / 2.0
        if self.shift is not None:
            return torch.addcmul(self.shift, self.scale, values)
        return self.scale * values

    def gradient(self, values: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
        """Add the gradient by scale and shift to their ``grad``, and return that by the values.

        Args:
            values: what ``forward`` was given.
            upstream: ``(batch, n_outputs)``, the gradient by what ``forward`` returned.
        """
        seen = (1.0 + values) / 2.0 if self.kind == "unit" else values
        if self.shift is not None:
            add_gradient(self.shift, upstream.sum(0))
        add_gradient(self.scale, (upstream * seen).sum(0))
        by_values = upstream * self.scale
        if values.shape != upstream.shape:
            by_values = by_values.sum(1, keepdim=True)
        return by_values / 2.0 if self.kind == "unit" else by_values


class Network(nn.Module):
    """A body and an optional head: ``(batch, n_inputs) -> (batch, n_outputs)``.

    At the size of ours, calling modules and recording a graph costs several times the arithmetic. A multilayer
    perceptron is therefore evaluated without its modules where no gradient is recorded (hooks of its layers are not
    called then), and ``pullback`` differentiates it by formula. The numbers are those of the modules and of autograd.
    """

    def __init__(self, body: nn.Module, head: ScaleHead | None) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self._perceptron = Perceptron.of(body)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``(batch, n_inputs) -> (batch, n_outputs)``."""
        if self._perceptron is None or torch.is_grad_enabled():
            values = self.body(features)
        else:
            values = self._perceptron.values(features)[-1]
        return values if self.head is None else self.head(values)

    def pullback(self, features: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], None]]:
        """The outputs and the way back to the parameters, both to be walked under ``torch.no_grad``.

        Returns:
            ``(batch, n_outputs)``, and a function that takes the gradient by these outputs, once, and adds the
            gradient by each parameter to its ``grad``.
        """
        back: Callable[[torch.Tensor], None]
        if self._perceptron is not None:
            values, back = self._perceptron.pullback(features)
        elif isinstance(self.body, QuantumLayer):
            values, back = self.body.pullback(features)
        else:
            with torch.enable_grad():
                recorded = self.body(features)
            values, back = recorded.detach(), partial(torch.autograd.backward, recorded)
        if self.head is None:
            return values, back
        head = self.head
        return head(values), lambda gradient: back(head.gradient(values, gradient))


class Perceptron:
    """The parameters of a multilayer perceptron, and its arithmetic without modules and graph."""

    def __init__(self, weights: list[nn.Parameter], biases: list[nn.Parameter], tanh: bool) -> None:
        self.weights, self.biases, self.tanh = weights, biases, tanh

    @classmethod
    def of(cls, body: nn.Module) -> Perceptron | None:
        """Of linear layers with one kind of activation between them, tanh or ReLU; none of any other module."""
        if type(body) is not nn.Sequential or len(body) % 2 == 0:
            return None
        linear, between = list(body)[::2], {type(module) for module in list(body)[1::2]}
        if len(between) > 1 or not between <= {nn.Tanh, nn.ReLU}:
            return None
        if not all(type(layer) is nn.Linear and layer.bias is not None for layer in linear):
            return None
        return cls([layer.weight for layer in linear], [layer.bias for layer in linear], nn.Tanh in between)  # type: ignore[misc]

    def values(self, features: torch.Tensor) -> list[torch.Tensor]:
        """The features and what each layer makes of them, without gradient."""
        values = [features]
        left = len(self.weights)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            left -= 1
            value = nn.functional.linear(values[-1], weight, bias)
            if left:
                value = value.tanh_() if self.tanh else value.relu_()
            values.append(value)
        return values

    def pullback(self, features: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], None]]:
        """As ``Network.pullback``."""
        values = self.values(features)
        return values[-1], partial(self._back, values)

    def _back(self, values: list[torch.Tensor], gradient: torch.Tensor) -> None:
        derivative = torch.ops.aten.tanh_backward.default if self.tanh else _relu_backward
        for index in range(len(self.weights) - 1, -1, -1):
            weight = self.weights[index]
            add_gradient(weight, gradient.t().mm(values[index]))
            add_gradient(self.biases[index], gradient.sum(0))
            if index:
                gradient = derivative(gradient.mm(weight), values[index])


def _relu_backward(gradient: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return torch.ops.aten.threshold_backward.default(gradient, value, 0)


def add_gradient(parameter: nn.Parameter, gradient: torch.Tensor) -> None:
    """Add to a parameter's ``grad``, if it is trained."""
    if parameter.requires_grad:
        before = parameter.grad
        parameter.grad = gradient if before is None else before + gradient


class JoinedNetwork(nn.Module):
    """Q(s, a) of a network that reads state and action side by side.

    ``(batch, n_state), (batch, n_action) -> (batch, 1)``.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """``(batch, n_state), (batch, n_action) -> (batch, 1)``."""
        values: torch.Tensor = self.network(torch.cat([state, action], dim=1))
        return values


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
    n_features = spec.n_features if spec.n_features is not None else n_inputs
    options = {**spec.ansatz_options, **({} if n_features is None else {"n_features": n_features})}
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        return ANSATZ[spec.ansatz](n_qubits=spec.n_qubits, n_layers=spec.n_layers, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        unknown = str(error).rsplit("'", 2)[-2]
        import inspect

        known = [
            name
            for name in inspect.signature(ANSATZ[spec.ansatz]).parameters
            if name not in ("n_qubits", "n_layers")
        ]
        raise InputError(
            "network.ansatz_options", unknown, f"is no option of {spec.ansatz}", nearest(unknown, known)
        ) from None


def build_network(
    spec: QuantumNetwork | MLPNetwork | MatchedMLPNetwork,
    n_inputs: int,
    n_outputs: int,
    activation: str = "tanh",
    output_gain: float | None = None,
) -> Network:
    """Build the module of a specification; trainable values are drawn from torch's global generator.

    Args:
        spec: what to build.
        n_inputs: size of the (flattened) observation.
        n_outputs: number of outputs.
        activation: of the hidden layers of an MLP that names none.
        output_gain: orthogonal initialisation of an MLP with gain sqrt(2) in hidden layers and this gain in the
            last one (Stable-Baselines3's choice for PPO); none leaves torch's default.

    Raises:
        InputError: sizes that do not fit the observation or the actions.
    """
    if isinstance(spec, QuantumNetwork):
        return _quantum(spec, n_inputs, n_outputs)
    from baselines.networks import matched_mlp, mlp

    chosen = spec.activation or activation
    head = None if spec.head is None else ScaleHead(spec.head, n_outputs)
    if isinstance(spec, MLPNetwork):
        body = mlp(n_inputs, n_outputs, tuple(spec.hidden), activation=chosen)
    else:
        if spec.n_parameters is None:
            raise InputError(
                "network.match",
                spec.match,
                "is not resolved",
                "build this agent from its study, or give n_parameters",
            )
        extra = 0 if head is None else count_parameters(head)
        body = matched_mlp(n_inputs, n_outputs, spec.n_parameters, extra=extra, activation=chosen)
    if output_gain is not None:
        _orthogonal(body, output_gain)
    return Network(body, head)


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
    if isinstance(spec, QuantumNetwork | MLPNetwork | MatchedMLPNetwork):
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


def _quantum(spec: QuantumNetwork, n_inputs: int, n_outputs: int) -> Network:
    circuit = build_circuit(spec, n_inputs)
    if circuit.n_features != n_inputs:
        raise InputError(
            "network.n_features",
            circuit.n_features,
            f"does not fit the observation of size {n_inputs}",
            f"use n_features = {n_inputs}",
        )
    observables = spec.observables
    if observables is None:
        if n_outputs > spec.n_qubits:
            raise InputError(
                "network.observables",
                "nothing",
                f"is given for {n_outputs} outputs on {spec.n_qubits} qubits",
                "list one Pauli word an output",
            )
        observables = ["I" * q + "Z" + "I" * (spec.n_qubits - q - 1) for q in range(n_outputs)]
    if len(observables) != n_outputs and not (len(observables) == 1 and spec.head is not None):
        raise InputError(
            "network.observables", observables, f"are {len(observables)}", f"give {n_outputs}, one an output"
        )
    layer = QuantumLayer(circuit, observables, backend=spec.backend, gradient=spec.gradient, shots=spec.shots)
    low, high = spec.weights_init
    if not low < high:
        raise InputError(
            "network.weights_init", (low, high), "is no interval", "write [low, high] with low < high"
        )
    if (low, high) != (-math.pi, math.pi):
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                if name == "weights":
                    parameter.uniform_(low, high)
    return Network(layer, None if spec.head is None else ScaleHead(spec.head, n_outputs))


def _orthogonal(body: nn.Module, output_gain: float) -> None:
    linear = [module for module in body.modules() if isinstance(module, nn.Linear)]
    for module in linear:
        nn.init.orthogonal_(module.weight, gain=output_gain if module is linear[-1] else math.sqrt(2.0))
        nn.init.zeros_(module.bias)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable values, everything included."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def scale_learning_rates(
    network: nn.Module, learning_rate: float, rates: LearningRates, own_rate: float | None = None
) -> None:
    """Mark each parameter with the ratio of its group's learning rate to the base rate (read by the optimiser).

    Args:
        network: whose parameters are marked.
        learning_rate: the base rate that a schedule starts from.
        rates: by group.
        own_rate: of groups that name none; the base rate by default.
    """
    for name, parameter in network.named_parameters():
        rate = getattr(rates, _group(name))
        if rate is None:
            rate = learning_rate if own_rate is None else own_rate
        parameter.lr_scale = rate / learning_rate  # type: ignore[attr-defined]


def _group(name: str) -> str:
    """The learning-rate group of a parameter of this name."""
    *path, last = name.split(".")
    if "head" in path or last in ("offset", "curvatures", "centres"):
        return "head"
    return last if last in ("scales", "couplings") else "weights"


def default_critic(spec: Any) -> Any:
    """The value network of a policy network's kind: same circuit or MLP, one output, one observable (Z of qubit 0)."""
    head = spec.head
    if head is not None and isinstance(head.init, list):
        head = head.model_copy(update={"init": abs(head.init[0])})
    update: dict[str, Any] = {"head": head}
    if isinstance(spec, QuantumNetwork):
        update["observables"] = ["Z" + "I" * (spec.n_qubits - 1)]
    return spec.model_copy(update=update)


# The field that holds Q(s, a); all other networks read the observation alone.
_ACTION_VALUE = {"free_energy_q": "network", "ddpg": "critic", "td3": "critic", "sac": "critic"}


def network_outputs(algorithm: str, n_actions: int) -> int:
    """Outputs of an agent's ``network``, if that reads the observation alone.

    One an action or action component; twice as many for SAC (mean and standard deviation); for NAF the value, the
    best action, and the lower triangle of its curvature's factor.
    """
    if algorithm == "naf":
        return 1 + n_actions + n_actions * (n_actions + 1) // 2
    return 2 * n_actions if algorithm == "sac" else n_actions


def resolve_agent(agent: Any, peers: Mapping[str, Any], n_inputs: int, n_outputs: int) -> Any:
    """Fill in what depends on other agents and on the spaces: the critic, and the size and head of matched MLPs.

    Args:
        agent: the specification.
        peers: the agents of the study by name.
        n_inputs: size of the observation.
        n_outputs: actions, or action components.
    """
    if not hasattr(agent, "network"):
        return agent
    update = {"network": _match(agent.network, "network", peers, n_inputs, n_outputs)}
    if hasattr(agent, "critic"):
        critic = agent.critic if agent.critic is not None else default_critic(agent.network)
        update["critic"] = _match(critic, "critic", peers, n_inputs, n_outputs)
    if (
        isinstance(agent.network, MatchedMLPNetwork)
        and agent.network.match is not None
        and agent.network.head is None
    ):
        peer = peers[agent.network.match]
        if agent.learning_rates.head is None and getattr(peer.network, "head", None) is not None:
            update["learning_rates"] = agent.learning_rates.model_copy(
                update={"head": peer.learning_rates.head}
            )
    return agent.model_copy(update=update)


def _match(spec: Any, field: str, peers: Mapping[str, Any], n_inputs: int, n_outputs: int) -> Any:
    if not isinstance(spec, MatchedMLPNetwork) or spec.n_parameters is not None:
        return spec
    peer = peers.get(spec.match or "")
    if peer is None:
        raise InputError(
            "network.match", spec.match, "is not another agent of this study", nearest(str(spec.match), peers)
        )
    with torch.random.fork_rng(devices=[]):
        reference, module = _counterpart(peer, field, n_inputs, n_outputs)
    head = spec.head if spec.head is not None else getattr(reference, "head", None)
    return spec.model_copy(update={"n_parameters": count_parameters(module), "head": head})


def _counterpart(peer: Any, field: str, n_inputs: int, n_outputs: int) -> tuple[Any, nn.Module]:
    """A peer's network, or its critic where one is wanted and its network is no Q(s, a) already."""
    if not hasattr(peer, "network"):
        raise InputError("network.match", peer.name, "has no network", "match an agent that learns with one")
    action_value = _ACTION_VALUE.get(peer.algorithm)
    if field == "critic" and action_value != "network":
        reference = getattr(peer, "critic", None) or default_critic(peer.network)
        if action_value == "critic":
            return reference, build_action_value(reference, n_inputs, n_outputs)
        return reference, build_network(reference, n_inputs, 1)
    reference = peer.network
    if action_value == "network":
        # discrete actions are one number there
        return reference, build_action_value(reference, n_inputs, 1)
    return reference, build_network(reference, n_inputs, network_outputs(peer.algorithm, n_outputs))
