"""Counts of trained values, and the learning-rate group of each."""

from __future__ import annotations

from torch import nn

from qrl.specs import LearningRates

GROUPS = ("weights", "scales", "couplings", "layers", "head")


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
    if {"encoder", "decoder"} & set(path):
        return "layers"
    if "head" in path or last in ("offset", "curvatures", "centres"):
        return "head"
    return last if last in ("scales", "couplings") else "weights"
