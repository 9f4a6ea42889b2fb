"""Data re-uploading, in its published variants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from circuits.ansatz.layers import (
    Entangler,
    EntanglingGate,
    Layers,
    check_entangler,
    rotation_names,
    sizes,
)
from circuits.circuit import Circuit, Squash
from circuits.gates import SQUASHES, choice

Order = Literal["encode-first", "variational-first"]


def reuploading(
    n_qubits: int,
    n_layers: int,
    n_features: int | None = None,
    *,
    rotations: Sequence[str] = ("RY", "RZ"),
    encoding: str | Sequence[str] = "RX",
    squash: Squash = "none",
    entangler: Entangler = "ring",
    entangling_gate: EntanglingGate = "CZ",
    final_layer: bool = False,
    order: Order = "encode-first",
    initial_hadamard: bool = False,
    reupload: bool = True,
    trainable_scales: bool = True,
) -> Circuit:
    r"""Data re-uploading: every layer encodes the features again, rotates by weights and entangles.

    With the defaults layer :math:`l` is :math:`R_X(\lambda_{lq} x_f)`, :math:`R_Y(\theta_{lq0})`,
    :math:`R_Z(\theta_{lq1})` on each qubit :math:`q`, then a ring of CZ; :math:`f = (q + l n) \bmod
    n_{features}`. A ring on two qubits is one gate and on one qubit none. ``"variational-first"`` is
    weights, entangler, encoding.

    Args:
        n_qubits: number of qubits.
        n_layers: number of layers, at least 1.
        n_features: number of features; None means one per qubit.
        rotations: weight rotations of a layer on each qubit, in time order: "RX", "RY" or "RZ".
        encoding: encoding rotation or rotations on each qubit; each has its own scale.
        squash: function around scale times feature.
        entangler: ``"ring"``, ``"linear"``, ``"all"`` (each pair once) or ``"none"``.
        entangling_gate: ``"CZ"``, ``"CX"``, ``"CY"``, or ``"CRot"`` with three weights of its own.
        final_layer: whether weight rotations without entangler close the circuit.
        order: whether a layer starts with the encoding or with the weights.
        initial_hadamard: whether H on each qubit comes first.
        reupload: False encodes in the first layer alone.
        trainable_scales: False multiplies features by 1.

    Returns:
        A circuit with the groups ``weights`` (layer, qubit, rotation: row-major; then, of CRot, layer's pairs) and
        ``scales`` (layer, qubit, encoding rotation).

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is below 1 or an option unknown.

    Source: the circuits of arXiv:2103.15084 (encode first), arXiv:2103.05577 (weights first) and arXiv:2212.06663
        (H first, weights first, all pairs).
    """
    n, depth, width = sizes(n_qubits, n_layers, n_features)
    encodings, turns = rotation_names("encoding", encoding), rotation_names("rotations", rotations)
    choice("squash", squash, SQUASHES)
    choice("order", order, ("encode-first", "variational-first"))
    check_entangler(entangler, entangling_gate)
    layers = Layers(n, width)

    def encode(layer: int) -> None:
        if layer and not reupload:
            return
        terms = [
            [
                layers.encoded((q + layer * n) % width, squash=squash, trainable=trainable_scales)
                for _ in encodings
            ]
            for q in range(n)
        ]
        for e, name in enumerate(encodings):
            for q in range(n):
                layers.add(name, q, angle=terms[q][e])

    if initial_hadamard:
        layers.hadamard()
    for layer in range(depth):
        if order == "encode-first":
            encode(layer)
        layers.rotate(turns)
        layers.entangle(entangler, entangling_gate)
        if order == "variational-first":
            encode(layer)
    if final_layer:
        layers.rotate(turns)
    return layers.circuit()
