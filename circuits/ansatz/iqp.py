"""Instantaneous quantum polynomial encoding: products of features between layers of H."""

from __future__ import annotations

from collections.abc import Sequence

from circuits.ansatz.layers import (
    Entangler,
    EntanglingGate,
    Layers,
    check_entangler,
    entangler_pairs,
    rotation_names,
    sizes,
)
from circuits.circuit import Circuit, Squash
from circuits.gates import SQUASHES, choice


def iqp(
    n_qubits: int,
    n_layers: int,
    n_features: int | None = None,
    *,
    rotations: Sequence[str] = ("RY", "RZ"),
    products: Entangler = "all",
    squash: Squash = "none",
    entangler: Entangler = "ring",
    entangling_gate: EntanglingGate = "CZ",
    reupload: bool = True,
    trainable_scales: bool = True,
) -> Circuit:
    r"""IQP encoding: H on all, :math:`R_Z(\lambda x_q)`, :math:`R_{ZZ}(\lambda x_a x_b)`; then rotations and entangler.

    Args:
        n_qubits: number of qubits; qubit q reads feature q.
        n_layers: number of layers, each an encoding and a variational part.
        n_features: number of features, at most one per qubit; None means one per qubit.
        rotations: weight rotations of a layer on each qubit.
        products: which pairs of features are multiplied: as an entangler of the qubits that read them.
        squash: function around scale times feature or product.
        entangler, entangling_gate: of the variational part, as in ``reuploading``.
        reupload: False encodes in the first layer alone.
        trainable_scales: False multiplies features and products by 1.

    Returns:
        A circuit with the groups ``weights`` (layer, qubit, rotation; then CRot's) and ``scales`` (layer: features,
        then products).

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is below 1, more features than qubits, or an option unknown.

    Source: Havlicek et al., Nature 567, 209 (2019), arXiv:1804.11326, in the form of PennyLane's ``IQPEmbedding``.
    """
    n, depth, width = sizes(n_qubits, n_layers, n_features)
    if width > n:
        raise ValueError(f"n_features: {width} are more than {n} qubits; use at most one a qubit")
    turns = rotation_names("rotations", rotations)
    choice("products", products, ("ring", "linear", "all", "none"))
    choice("squash", squash, SQUASHES)
    check_entangler(entangler, entangling_gate)
    layers = Layers(n, width)
    for layer in range(depth):
        if reupload or not layer:
            layers.hadamard()
            for q in range(width):
                layers.add("RZ", q, angle=layers.encoded(q, squash=squash, trainable=trainable_scales))
            for a, b in entangler_pairs(width, products):
                term = layers.encoded(a, b, squash=squash, trainable=trainable_scales)
                layers.add("RZZ", a, b, angle=term)
        layers.rotate(turns)
        layers.entangle(entangler, entangling_gate)
    return layers.circuit()
