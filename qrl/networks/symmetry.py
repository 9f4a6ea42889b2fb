"""The symmetry of a task: as a circuit states it, and the group that it generates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from circuits import Observable
from qrl.errors import InputError
from qrl.networks.hybrid import measured
from qrl.specs import QuantumNetwork, Symmetry

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


def of_circuit(spec: QuantumNetwork, n_outputs: int) -> list[Symmetry]:
    r"""The generators that an equivariant circuit was built with, and what they make of its outputs.

    For an element V of the group :math:`\langle O_a \rangle(g x) = \langle V^\dagger O_a V \rangle(x)`, which has to be
    :math:`\pm O_b` of another output. Scales of a head are not looked at: they are free to break the symmetry.

    Raises:
        InputError: a circuit of another family or between classical layers, or an observable that the group does not
            map to one of the others.
    """
    if spec.ansatz != "equivariant" or spec.encoder is not None or spec.decoder is not None:
        why, fix = "states no symmetry of its inputs and outputs", "give the symmetry"
        raise InputError("network.ansatz", spec.ansatz, why, fix)
    n = spec.n_qubits
    observables = [Observable.parse(given, n) for given in measured(spec, n_outputs)]
    return [
        _with_outputs(Symmetry.model_validate(generator), observables, n_outputs)
        for generator in spec.ansatz_options.get("symmetry", [{"signs": [-1] * n}])
    ]


def _with_outputs(generator: Symmetry, observables: Sequence[Observable], n_outputs: int) -> Symmetry:
    words = [observable.words for observable in observables]
    outputs, signs = [], []
    for observable in observables:
        moved = _moved(observable.words, generator)
        opposite = {word: -value for word, value in moved.items()}
        found = [(b, +1) for b, own in enumerate(words) if own == moved]
        found += [(b, -1) for b, own in enumerate(words) if own == opposite]
        if not found or len(words) != n_outputs:
            why, fix = (
                "is not mapped to an observable of one output each",
                "choose others, or give the symmetry",
            )
            raise InputError("network.observables", observable.label, why, fix)
        outputs.append(found[0][0])
        signs.append(found[0][1])
    return generator.model_copy(update={"outputs": outputs, "output_signs": signs})


def _moved(words: Mapping[str, float], generator: Symmetry) -> dict[str, float]:
    """An observable as the circuit's representation of the element turns it: letters move, X and Y take the signs."""
    found = {}
    for word, value in words.items():
        order = generator.permutation or range(len(word))
        signs = generator.signs or [1] * len(word)
        letters = ["I"] * len(word)
        for target, source in enumerate(order):
            letters[source] = word[target]
            value *= signs[target] if word[target] in "XY" else 1
        found["".join(letters)] = value
    return found


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
