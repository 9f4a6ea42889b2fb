"""Multilayer perceptrons, of everyday size and of matched size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def mlp(n_inputs: int, n_outputs: int, hidden: Sequence[int] = (64, 64), activation: str = "tanh") -> nn.Sequential:
    """A fully connected network `(batch, n_inputs) -> (batch, n_outputs)` with the activation after each hidden layer."""
    layers: list[nn.Module] = []
    width = n_inputs
    for size in hidden:
        layers += [nn.Linear(width, size), _ACTIVATIONS[activation]()]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, n_outputs))


def matched_mlp(n_inputs: int, n_outputs: int, n_parameters: int, extra: int = 0, activation: str = "tanh") -> nn.Sequential:
    """temporary"""
    best = None
    for h1 in range(1, n_parameters):
        for h2 in range(0, h1 + 1):
            count = n_inputs * h1 + h1 + (h1 * h2 + h2 if h2 else 0) + ((h2 or h1) + 1) * n_outputs + extra
            key = (abs(count - n_parameters), h2 == 0, h1 - h2)
            if best is None or key < best[0]:
                best = (key, (h1, h2) if h2 else (h1,))
    return mlp(n_inputs, n_outputs, best[1], activation)


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
