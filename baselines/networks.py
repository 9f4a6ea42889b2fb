"""Classical networks to compare with: the usual multilayer perceptron, and one of a given number of
parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}

_TOLERANCE = 0.1


def _size(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: {value!r} is not an integer; use an integer >= {least}")
    if value < least:
        raise ValueError(f"{name}: {value} is below {least}; use an integer >= {least}")
    return value


def _activation(name: str) -> type[nn.Module]:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: {name!r} is unknown; use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def count_parameters(module: nn.Module) -> int:
    """Number of trainable scalars of a module, biases included."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def mlp(
    n_inputs: int, n_outputs: int, hidden: Sequence[int] = (64, 64), activation: str = "tanh"
) -> nn.Sequential:
    """A multilayer perceptron with biases, without an activation on its outputs.

    `(batch, n_inputs) -> (batch, n_outputs)`; `hidden` are the widths of the hidden layers, `activation`
    "tanh" or "relu". Weights start as torch starts them, from its global generator. Raises `ValueError` or
    `TypeError` naming the argument.

    Source: own construction; two layers of 64 are the default policy network of Stable-Baselines3.
    """
    widths = [_size("n_inputs", n_inputs, 1), *(_size("hidden", width, 1) for width in hidden)]
    kind = _activation(activation)
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [nn.Linear(width, following), kind()]
    layers.append(nn.Linear(widths[-1], _size("n_outputs", n_outputs, 1)))
    return nn.Sequential(*layers)


@dataclass(frozen=True, slots=True)
class Match:
    """Widths of a matched network: `hidden` layers, `n_parameters` with `extra`, `difference` from what was
    asked.
    """

    hidden: tuple[int, ...]
    n_parameters: int
    difference: int


def _count(n_inputs: int, n_outputs: int, hidden: tuple[int, ...]) -> int:
    widths = (n_inputs, *hidden, n_outputs)
    return sum((a + 1) * b for a, b in pairwise(widths))


def match_widths(n_inputs: int, n_outputs: int, n_parameters: int, extra: int = 0) -> Match:
    """Hidden widths whose trainable count, with `extra`, is closest to `n_parameters`.

    One layer of h: `h (n_inputs + 1) + n_outputs (h + 1)`. Two of h1, h2: `h1 (n_inputs + 1) + h2 (h1 + 1) +
    n_outputs (h2 + 1)`. Every one-layer network and every two-layer network whose layers differ by a factor
    of at most two is a candidate: more unequal ones are bottlenecks or near-linear maps, which would handicap
    the twin for the sake of a closer count. Among candidates as close as each other the order is: two layers
    before one (the shape of the network that practice would use, so that the twin is not the weaker for its
    depth), then the more even pair, then the wider first layer.

    Raises `ValueError` where the closest count is more than 10 % off, naming it.

    Source: own construction; the tolerance is the usual meaning of "matched" in such comparisons.
    """
    n_inputs, n_outputs = _size("n_inputs", n_inputs, 1), _size("n_outputs", n_outputs, 1)
    n_parameters, extra = _size("n_parameters", n_parameters, 1), _size("extra", extra, 0)
    target = n_parameters - extra
    best: tuple[tuple[int, ...], Match] | None = None
    for hidden in _candidates(n_inputs, n_outputs, max(target, 1)):
        count = _count(n_inputs, n_outputs, hidden) + extra
        uneven = max(hidden) - min(hidden)
        key = (abs(count - n_parameters), -len(hidden), uneven, -hidden[0])
        if best is None or key < best[0]:
            best = key, Match(hidden, count, count - n_parameters)
    assert best is not None
    found = best[1]
    if abs(found.difference) > _TOLERANCE * n_parameters:
        raise ValueError(
            f"n_parameters: {n_parameters} is not matched within 10 % by any network with {n_inputs} inputs, "
            f"{n_outputs} outputs and {extra} extra; the closest has {found.n_parameters}"
        )
    return found


def _candidates(n_inputs: int, n_outputs: int, target: int) -> list[tuple[int, ...]]:
    """Widths around the target: of one layer, and of two for every first layer that can be part of a fair
    pair.
    """
    per_unit = n_inputs + 1 + n_outputs
    one = max(1, (target - n_outputs) // per_unit)
    found: list[tuple[int, ...]] = [(one,), (one + 1,)]
    # two layers of h and h/2 already need more than h^2/2, which bounds the first layer
    for first in range(1, isqrt(2 * target) + 2):
        second = (target - first * (n_inputs + 1) - n_outputs) // (first + 1 + n_outputs)
        for width in (second, second + 1):
            width = min(max(width, (first + 1) // 2), 2 * first)
            found.append((first, width))
    return found


def matched_mlp(
    n_inputs: int, n_outputs: int, n_parameters: int, extra: int = 0, activation: str = "tanh"
) -> nn.Sequential:
    """The classical twin: the multilayer perceptron whose trainable count is closest to `n_parameters`.

    `(batch, n_inputs) -> (batch, n_outputs)`. `n_parameters` is everything that the other network trains;
    `extra` is what will be trained beside this one, such as an affine head's `2 n_outputs` or a log standard
    deviation, and counts towards it. One or two hidden layers; widths and ties as in `match_widths`.
    Deterministic.

    Raises `ValueError` where no such network is within 10 %, naming the closest count.

    Source: own construction.
    """
    hidden = match_widths(n_inputs, n_outputs, n_parameters, extra).hidden
    return mlp(n_inputs, n_outputs, hidden, activation)
