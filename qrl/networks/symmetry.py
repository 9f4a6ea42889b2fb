"""The group that a task's symmetries generate, as permutations and signs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrl.errors import InputError
from qrl.specs import Symmetry

MAX_ORDER = 1024
"""Elements of a group, at most."""

Signed = tuple[tuple[int, ...], tuple[int, ...]]
"""A signed permutation: component i becomes ``signs[i]`` times component ``permutation[i]``."""


def group(
    generators: Sequence[Symmetry], n_inputs: int, n_outputs: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All products of the generators, the identity first.

    Returns:
        Permutations and signs of the inputs, each ``(order, n_inputs)``, and of the outputs, ``(order, n_outputs)``.

    Raises:
        InputError: a permutation or signs of another length, no permutation, or a group of more than 1024 elements.
    """
    steps = [_element(symmetry, n_inputs, n_outputs) for symmetry in generators]
    identity = _element(Symmetry(), n_inputs, n_outputs)
    found = [identity]
    known = {identity}
    for element in found:
        for step in steps:
            product = (_after(step[0], element[0]), _after(step[1], element[1]))
            if product not in known:
                known.add(product)
                found.append(product)
        if len(found) > MAX_ORDER:
            why, fix = f"generates more than {MAX_ORDER} elements", "give a smaller group"
            raise InputError("network.symmetry", len(generators), why, fix)
    inputs, outputs = zip(*found, strict=True)
    return (*_arrays(inputs), *_arrays(outputs))


def _arrays(elements: tuple[Signed, ...]) -> tuple[np.ndarray, np.ndarray]:
    permutations, signs = zip(*elements, strict=True)
    return np.array(permutations), np.array(signs)


def _element(symmetry: Symmetry, n_inputs: int, n_outputs: int) -> tuple[Signed, Signed]:
    return (
        _signed("permutation", symmetry.permutation, "signs", symmetry.signs, n_inputs),
        _signed("outputs", symmetry.outputs, "output_signs", symmetry.output_signs, n_outputs),
    )


def _signed(
    field: str, permutation: Sequence[int] | None, sign_field: str, signs: Sequence[int] | None, size: int
) -> Signed:
    order = tuple(range(size) if permutation is None else permutation)
    if sorted(order) != list(range(size)):
        why, fix = "is no permutation", f"use each of 0 to {size - 1} once"
        raise InputError(f"network.symmetry.{field}", list(order), why, fix)
    factors = tuple([1] * size if signs is None else signs)
    if len(factors) != size:
        why, fix = f"are {len(factors)} signs", f"give {size}"
        raise InputError(f"network.symmetry.{sign_field}", list(factors), why, fix)
    return order, factors


def _after(second: Signed, first: Signed) -> Signed:
    """The signed permutation that applies ``first`` and then ``second``."""
    (order2, signs2), (order1, signs1) = second, first
    return (
        tuple(order1[i] for i in order2),
        tuple(s * signs1[i] for i, s in zip(order2, signs2, strict=True)),
    )
