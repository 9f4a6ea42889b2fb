"""Classical networks that take a circuit's place: on its frequencies, or with the symmetry of its task."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from qrl.errors import InputError
from qrl.networks.heads import build_head
from qrl.networks.hybrid import build_circuit, measured, surround
from qrl.networks.network import Network
from qrl.networks.parameters import count_parameters
from qrl.networks.symmetry import group
from qrl.specs import EquivariantMLPNetwork, FourierNetwork, RandomFourierNetwork

if TYPE_CHECKING:
    from circuits import Circuit

MAX_FREQUENCIES = 10_000
"""Frequencies of a circuit that a Fourier series takes over of its own accord, at most."""
MAX_GRID = 10**6
"""Integer vectors that the frequencies of a given degree are chosen from, at most."""


def build_fourier(spec: FourierNetwork | RandomFourierNetwork, n_inputs: int, n_outputs: int) -> Network:
    """A Fourier series alone, or in the place of a matched agent's circuit and between its classical layers.

    Frequencies are those of the circuit with its scales at 1, or at the number that they start from.

    Raises:
        InputError: neither a size nor a circuit is known, or the sizes do not fit.
        ValueError: a circuit whose expectation values are no Fourier series.
    """
    hybrid = spec.matched
    if hybrid is None:
        body = _alone(spec, n_inputs, n_outputs)
    else:
        circuit = build_circuit(hybrid, n_inputs)
        unit = hybrid.scales_init if isinstance(hybrid.scales_init, float) else 1.0
        frequencies = unit * _spectrum(circuit, spec.degree)
        # a Born head's probabilities have no counterpart; logits take their place
        born = hybrid.head is not None and hybrid.head.kind == "born"
        n_values = n_outputs if born else len(measured(hybrid, n_outputs))

        def core(n_features: int, n_values: int) -> nn.Module:
            return _series(spec, n_values, frequencies, circuit.n_parameters)

        body = surround(hybrid, core, n_inputs, circuit.n_features, n_values, n_outputs)
    return Network(body, build_head(spec.head, n_outputs))


def _alone(spec: FourierNetwork | RandomFourierNetwork, n_inputs: int, n_outputs: int) -> nn.Module:
    """A series of the size that its own specification gives."""
    from baselines.fourier import RandomFourier, TruncatedFourier

    field = "degree" if isinstance(spec, FourierNetwork) else "n_features"
    size: int | None = getattr(spec, field)
    if size is None and spec.match is not None:
        raise unresolved(spec.match, field)
    if size is None:
        raise InputError(f"network.{field}", "nothing", "is given here", f"give {field} or match")
    if isinstance(spec, FourierNetwork):
        return TruncatedFourier(_integers(size, n_inputs), n_outputs)
    return RandomFourier(n_inputs, n_outputs, size, scale=spec.scale)


def _series(
    spec: FourierNetwork | RandomFourierNetwork, n_values: int, frequencies: np.ndarray, n_parameters: int
) -> nn.Module:
    """A series on given frequencies: all of them, or random ones, with so many trained values unless told otherwise."""
    from baselines.fourier import RandomFourier, TruncatedFourier

    if isinstance(spec, FourierNetwork):
        return TruncatedFourier(frequencies, n_values)

    def features(n: int) -> nn.Module:
        return RandomFourier(frequencies.shape[1], n_values, n, frequencies)

    return features(spec.n_features or _size(lambda n: count_parameters(features(n)), n_parameters))


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


def build_equivariant(
    spec: EquivariantMLPNetwork, n_inputs: int, n_outputs: int, activation: str, extra: int
) -> nn.Module:
    """A perceptron with a symmetry: of given widths, or two of the largest that a number of trained values allows.

    Args:
        spec: the network.
        n_inputs, n_outputs: sizes.
        activation: of the hidden layers.
        extra: values that are trained beside it.

    Raises:
        InputError: a symmetry that does not fit the sizes, or a size that is not known.
    """
    from baselines.equivariant import EquivariantMLP

    if spec.symmetry is None and spec.match is not None:
        raise unresolved(spec.match, "symmetry")
    if spec.symmetry is None:
        raise InputError("network.symmetry", "nothing", "is given here", "give symmetry or match")
    elements = group(spec.symmetry, n_inputs, n_outputs)

    def network(hidden: list[int]) -> nn.Module:
        return EquivariantMLP(hidden, activation, *elements)

    if spec.hidden is not None or (spec.match is None and spec.n_parameters is None):
        return network(spec.hidden or [64, 64])
    if spec.n_parameters is None:
        raise unresolved(spec.match, "hidden")
    target, width = spec.n_parameters - extra, 1
    with torch.random.fork_rng(devices=[]):
        while count_parameters(network([width + 1] * 2)) <= target:
            width += 1
    return network([width] * 2)


def unresolved(match: str | None, field: str) -> InputError:
    """The error of a network that still waits for another agent's."""
    return InputError(
        "network.match", match, "is not resolved", f"build this agent from its study, or give {field}"
    )
