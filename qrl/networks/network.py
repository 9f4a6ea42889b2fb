"""What a network is made of, and how it is differentiated without a graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from qrl.layer import QuantumLayer
from qrl.networks.heads import AnyHead, add_gradient

Back = Callable[[torch.Tensor], torch.Tensor | None]
"""From the gradient by the outputs to that by the inputs, None where it was not asked for."""


class Network(nn.Module):
    """A body and an optional head: ``(batch, n_inputs) -> (batch, n_outputs)``.

    At the size of ours, calling modules and recording a graph costs several times the arithmetic. A multilayer
    perceptron is therefore evaluated without its modules where no gradient is recorded (hooks of its layers are not
    called then), and ``pullback`` differentiates it by formula. The numbers are those of the modules and of autograd.
    """

    def __init__(self, body: nn.Module, head: AnyHead | None) -> None:
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

    def pullback(self, features: torch.Tensor) -> tuple[torch.Tensor, Back]:
        """The outputs and the way back to the parameters, both to be walked under ``torch.no_grad``.

        Returns:
            ``(batch, n_outputs)``, and a function that takes the gradient by these outputs, once, and adds the
            gradient by each parameter to its ``grad``.
        """
        values, back = pullback(self.body, self._perceptron, features, False)
        if self.head is None:
            return values, back
        head = self.head
        return head(values), lambda gradient: back(head.gradient(values, gradient))

    def single_shot(self, features: torch.Tensor) -> torch.Tensor:
        """The body's values from one shot a sample, ``(batch, n_values)``; of a body that ends with its circuit."""
        body = self.body
        if isinstance(body, Chain):
            *before, layer = body
            for stage in before:
                features = stage(features)
        else:
            layer = body
        assert isinstance(layer, QuantumLayer)
        return layer.single_shot(features)


class Chain(nn.Sequential):
    """Stages one after the other, one of them a circuit: ``(batch, n_inputs) -> (batch, n_outputs)``.

    Perceptrons among them go as in ``Network``.
    """

    def __init__(self, stages: dict[str, nn.Module]) -> None:
        super().__init__(OrderedDict(stages))
        self._perceptrons = [Perceptron.of(stage) for stage in self]
        # the gradient is carried back to the first stage that learns, no further
        learns = [any(p.requires_grad for p in stage.parameters()) for stage in self]
        self._first = learns.index(True) if any(learns) else len(learns)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``(batch, n_inputs) -> (batch, n_outputs)``."""
        if torch.is_grad_enabled():
            return super().forward(values)  # type: ignore[no-any-return]
        for stage, perceptron in zip(self, self._perceptrons, strict=True):
            values = stage(values) if perceptron is None else perceptron.values(values)[-1]
        return values

    def pullback(self, values: torch.Tensor) -> tuple[torch.Tensor, Back]:
        """As ``Network.pullback``."""
        backs = []
        for index, (stage, perceptron) in enumerate(zip(self, self._perceptrons, strict=True)):
            if index < self._first:
                values = stage(values)
            else:
                values, back = pullback(stage, perceptron, values, index > self._first)
                backs.append(back)

        def walk(gradient: torch.Tensor | None) -> None:
            for back in reversed(backs):
                assert gradient is not None
                gradient = back(gradient)

        return values, walk


def pullback(
    module: nn.Module, perceptron: Perceptron | None, features: torch.Tensor, by_features: bool
) -> tuple[torch.Tensor, Back]:
    """A module's outputs and the way back, by the quickest way there is; as ``Network.pullback``.

    Args:
        module: any.
        perceptron: its arithmetic, if it is one.
        features: ``(batch, n_inputs)``.
        by_features: whether the gradient by the features is wanted.
    """
    if perceptron is not None:
        return perceptron.pullback(features, by_features)
    if isinstance(module, QuantumLayer):
        return module.pullback(features, by_features)
    if isinstance(module, Chain) and not by_features:
        return module.pullback(features)
    features = features.detach().requires_grad_(by_features)
    with torch.enable_grad():
        recorded = module(features)

    def back(gradient: torch.Tensor) -> torch.Tensor | None:
        if recorded.requires_grad:
            torch.autograd.backward(recorded, gradient)
        return features.grad

    return recorded.detach(), back


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

    def pullback(self, features: torch.Tensor, by_features: bool = False) -> tuple[torch.Tensor, Back]:
        """As the function ``pullback``."""
        values = self.values(features)
        return values[-1], partial(self._back, values, by_features)

    def _back(
        self, values: list[torch.Tensor], by_features: bool, gradient: torch.Tensor
    ) -> torch.Tensor | None:
        derivative = torch.ops.aten.tanh_backward.default if self.tanh else _relu_backward
        for index in range(len(self.weights) - 1, -1, -1):
            weight = self.weights[index]
            add_gradient(weight, gradient.t().mm(values[index]))
            add_gradient(self.biases[index], gradient.sum(0))
            if index:
                gradient = derivative(gradient.mm(weight), values[index])
        return gradient.mm(self.weights[0]) if by_features else None


def _relu_backward(gradient: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return torch.ops.aten.threshold_backward.default(gradient, value, 0)


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
