"""Circuits with a symmetry of the task, exactly and for all parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from circuits.ansatz.layers import Entangler, Layers, entangler_pairs, sizes
from circuits.circuit import Circuit, Squash
from circuits.gates import SQUASHES, choice

Word = tuple[tuple[int, str], ...]
"""Letters of a Pauli word by qubit, qubits ascending."""
Element = tuple[tuple[int, ...], tuple[int, ...]]
"""Permutation and signs."""

MAX_ORDER = 1024
"""Elements of a group, at most."""


def equivariant(
    n_qubits: int,
    n_layers: int,
    n_features: int | None = None,
    *,
    symmetry: Sequence[Mapping[str, Any]] | None = None,
    rotations: Sequence[str] = ("RY", "RZ"),
    couplings: Sequence[str] = ("RZZ", "RYY"),
    entangler: Entangler = "ring",
    squash: Squash = "none",
    reupload: bool = True,
    trainable_scales: bool = True,
) -> Circuit:
    r"""A re-uploading circuit that is equivariant under signed permutations of the features.

    An element g of the group takes the features to :math:`(g x)_i = s_i x_{p(i)}` and acts on qubits by permuting them
    and by Z where the sign is negative. The state then obeys :math:`|\psi(g x)\rangle = V_g |\psi(x)\rangle`, so that
    :math:`\langle O \rangle(g x) = \langle V_g^\dagger O V_g \rangle(x)`: an observable that V leaves alone is
    invariant, and observables that V exchanges change places. Under the mirror :math:`s = -1` words with an even number
    of X and Y are even, the others odd; A + B and A - B, A even and B odd, change places.

    Layers are RX(scale x_q) on each qubit, then every rotation and coupling that the group maps to itself or to others
    with positive sign, all of an orbit by one weight; a rotation that the group would turn round is left out.

    Args:
        n_qubits: number of qubits, one a feature.
        n_layers: number of layers.
        n_features: as many as qubits, or None.
        symmetry: generators, each ``{"permutation": p, "signs": s}``, either optional; the mirror of all features by
            default.
        rotations: weight rotations on one qubit: "RX", "RY" or "RZ".
        couplings: weight rotations on two: "RXX", "RYY" or "RZZ".
        entangler: which pairs are coupled, with all that the group makes of them.
        squash: function around scale times feature; all are odd.
        reupload: False encodes in the first layer alone.
        trainable_scales: False multiplies features by 1; else features that the group exchanges share a scale.

    Returns:
        A circuit with the groups ``weights`` (layer, orbit) and ``scales`` (layer, orbit of features).

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is below 1, features for other than all qubits, an option unknown, no generator's
            permutation or signs, or a group of more than 1024 elements.

    Source: Meyer et al., arXiv:2207.06413, section III: gates from the twirl of their generators.
    """
    n, depth, width = sizes(n_qubits, n_layers, n_features)
    if width != n:
        raise ValueError(f"n_features: {width} is not one for each of {n} qubits; use {n}")
    for option, names, known in (
        ("rotations", rotations, ("RX", "RY", "RZ")),
        ("couplings", couplings, ("RXX", "RYY", "RZZ")),
    ):
        for name in names:
            choice(option, name, known)
    choice("squash", squash, SQUASHES)
    elements = _group([{"signs": [-1] * n}] if symmetry is None else symmetry, n)
    pairs = entangler_pairs(n, entangler)
    singles = [((q, name[1]),) for name in rotations for q in range(n)]
    doubles = [tuple(sorted(((a, name[1]), (b, name[1])))) for name in couplings for a, b in pairs]
    orbits = _orbits([*singles, *doubles], elements)
    features = _feature_orbits(n, elements)
    layers = Layers(n, n)
    for layer in range(depth):
        if reupload or not layer:
            for orbit in features:
                term = layers.encoded(orbit[0], squash=squash, trainable=trainable_scales)
                for q in orbit:
                    layers.add("RX", q, angle=type(term)(term.coefficient, term.parameter, (q,), squash))
        for words in orbits:
            weight = layers.weight()
            for word in words:
                layers.add("R" + "".join(letter for _, letter in word), *(q for q, _ in word), angle=weight)
    return layers.circuit()


def _group(generators: Sequence[Mapping[str, Any]], n: int) -> list[Element]:
    """All products of the generators."""
    steps = [_element(generator, n) for generator in generators]
    found: list[Element] = [(tuple(range(n)), (1,) * n)]
    known = set(found)
    for permutation, signs in found:
        for order, factors in steps:
            product = (
                tuple(permutation[i] for i in order),
                tuple(f * signs[i] for i, f in zip(order, factors, strict=True)),
            )
            if product not in known:
                known.add(product)
                found.append(product)
        if len(found) > MAX_ORDER:
            raise ValueError(f"symmetry: generates more than {MAX_ORDER} elements; give a smaller group")
    return found


def _element(generator: Mapping[str, Any], n: int) -> Element:
    for key in generator:
        choice("symmetry", key, ("permutation", "signs"))
    permutation = tuple(generator.get("permutation", range(n)))
    signs = tuple(generator.get("signs", (1,) * n))
    if sorted(permutation) != list(range(n)):
        raise ValueError(f"symmetry.permutation: {list(permutation)} is none; use each of 0 to {n - 1} once")
    if len(signs) != n or not set(signs) <= {-1, 1}:
        raise ValueError(f"symmetry.signs: {list(signs)} are not {n} of 1 and -1; give one a feature")
    return permutation, signs


def _moved(word: Word, element: Element) -> tuple[Word, int]:
    """What an element makes of a Pauli word, and its sign."""
    permutation, signs = element
    sign = 1
    letters = []
    for target, source in enumerate(permutation):
        for qubit, letter in word:
            if qubit == source:
                letters.append((target, letter))
                sign *= signs[target] if letter in "XY" else 1
    return tuple(sorted(letters)), sign


def _orbits(words: Sequence[Word], elements: Sequence[Element]) -> list[list[Word]]:
    """Orbits of words, in order of occurrence; one that holds a word with both signs is left out."""
    seen: set[Word] = set()
    orbits = []
    for word in words:
        if word in seen:
            continue
        images = {_moved(word, element) for element in elements}
        orbit = sorted({image for image, _ in images})
        seen.update(orbit)
        if all(sign == 1 for _, sign in images):
            orbits.append(orbit)
    return orbits


def _feature_orbits(n: int, elements: Sequence[Element]) -> list[list[int]]:
    """Features that the group exchanges, each once."""
    seen: set[int] = set()
    orbits = []
    for q in range(n):
        if q not in seen:
            orbit = sorted({permutation.index(q) for permutation, _ in elements})
            seen.update(orbit)
            orbits.append(orbit)
    return orbits
