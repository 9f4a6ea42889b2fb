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
from qrl.specs import Head, LearningRates, MatchedMLPNetwork, MLPNetwork, QuantumNetwork

if TYPE_CHECKING:
    from circuits import Circuit

GROUPS = ("weights", "scales", "head")


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


def scale_learning_rates(network: nn.Module, learning_rate: float, rates: LearningRates) -> None:
    """Mark each parameter with the ratio of its group's learning rate to the base rate (read by ``GroupedAdam``)."""
    for name, parameter in network.named_parameters():
        path = name.split(".")
        group = "head" if "head" in path[:-1] else "scales" if path[-1] == "scales" else "weights"
        rate = getattr(rates, group)
        parameter.lr_scale = 1.0 if rate is None else rate / learning_rate  # type: ignore[attr-defined]


def default_critic(spec: Any) -> Any:
    """The value network of a policy network's kind: same circuit or MLP, one output, one observable (Z of qubit 0)."""
    head = spec.head
    if head is not None and isinstance(head.init, list):
        head = head.model_copy(update={"init": abs(head.init[0])})
    update: dict[str, Any] = {"head": head}
    if isinstance(spec, QuantumNetwork):
        update["observables"] = ["Z" + "I" * (spec.n_qubits - 1)]
    return spec.model_copy(update=update)


def resolve_agent(agent: Any, peers: Mapping[str, Any], n_inputs: int, n_outputs: int) -> Any:
    """Fill in what depends on other agents and on the spaces: the critic, and the size and head of matched MLPs.

    Args:
        agent: the specification.
        peers: the agents of the study by name.
        n_inputs: size of the observation.
        n_outputs: outputs of the policy or Q-function.
    """
    if not hasattr(agent, "network"):
        return agent
    update: dict[str, Any] = {}
    critic = None
    if agent.algorithm == "ppo":
        critic = agent.critic if agent.critic is not None else default_critic(agent.network)
        update["critic"] = _match(critic, peers, n_inputs, 1, of_critic=True)
    update["network"] = _match(agent.network, peers, n_inputs, n_outputs)
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


def _match(
    spec: Any, peers: Mapping[str, Any], n_inputs: int, n_outputs: int, of_critic: bool = False
) -> Any:
    if not isinstance(spec, MatchedMLPNetwork) or spec.n_parameters is not None:
        return spec
    peer = peers.get(spec.match or "")
    if peer is None:
        raise InputError(
            "network.match", spec.match, "is not another agent of this study", nearest(str(spec.match), peers)
        )
    reference = peer.network
    if of_critic:
        reference = getattr(peer, "critic", None) or default_critic(peer.network)
    with torch.random.fork_rng(devices=[]):
        n_parameters = count_parameters(build_network(reference, n_inputs, n_outputs))
    head = spec.head if spec.head is not None else reference.head
    return spec.model_copy(update={"n_parameters": n_parameters, "head": head})
