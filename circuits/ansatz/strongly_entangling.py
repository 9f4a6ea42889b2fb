"""Strongly entangling layers, whose gates reach further from layer to layer."""

from __future__ import annotations

from typing import Literal

from circuits.ansatz.layers import ENTANGLING_GATES, Layers, controlled_rotation, rotation_names, sizes
from circuits.circuit import Angle, Circuit, Squash
from circuits.gates import SQUASHES, choice


def strongly_entangling(
    n_qubits: int,
    n_layers: int,
    n_features: int | None = None,
    *,
    encoding: str = "RX",
    squash: Squash = "none",
    entangler: Literal["ranges", "none"] = "ranges",
    entangling_gate: Literal["CZ", "CX", "CY", "CRot"] = "CX",
    reupload: bool = True,
    trainable_scales: bool = True,
) -> Circuit:
    r"""Strongly entangling layers: a general rotation on each qubit, then gates from qubit q to :math:`q + r_l`.

    A layer encodes feature :math:`(q + l n) \bmod n_{features}` on qubit q, rotates by :math:`R_Z R_Y R_Z` and
    entangles over the distance :math:`r_l = (l \bmod (n - 1)) + 1`, modulo n.

    Args:
        n_qubits: number of qubits.
        n_layers: number of layers.
        n_features: number of features; None means one per qubit.
        encoding: encoding rotation: "RX", "RY" or "RZ".
        squash: function around scale times feature.
        entangler: ``"ranges"`` or ``"none"``.
        entangling_gate: as in ``reuploading``.
        reupload: False encodes in the first layer alone.
        trainable_scales: False multiplies features by 1.

    Returns:
        A circuit with the groups ``weights`` (layer, qubit, three rotations; then CRot's) and ``scales``
        (layer, qubit).

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is below 1 or an option unknown.

    Source: Schuld et al., arXiv:1804.00633, in the form of PennyLane's ``StronglyEntanglingLayers``.
    """
    n, depth, width = sizes(n_qubits, n_layers, n_features)
    (name,) = rotation_names("encoding", [encoding])
    choice("squash", squash, SQUASHES)
    choice("entangler", entangler, ("ranges", "none"))
    choice("entangling_gate", entangling_gate, ENTANGLING_GATES)
    layers = Layers(n, width)
    for layer in range(depth):
        if reupload or not layer:
            for q in range(n):
                term = layers.encoded((q + layer * n) % width, squash=squash, trainable=trainable_scales)
                layers.add(name, q, angle=term)
        layers.rotate(("RZ", "RY", "RZ"))
        if entangler == "none" or n == 1:
            continue
        reach = layer % (n - 1) + 1
        for q in range(n):
            if entangling_gate == "CRot":
                for axis in "ZYZ":
                    layers.gates += controlled_rotation(
                        axis, q, (q + reach) % n, Angle(0.0, (layers.weight(),))
                    )
            else:
                layers.add(entangling_gate, q, (q + reach) % n)
    return layers.circuit()
