"""Rings of controlled rotations that encode and learn at once."""

from __future__ import annotations

from circuits.ansatz.layers import Entangler, Layers, controlled_rotation, entangler_pairs, sizes
from circuits.circuit import Angle, Circuit


def controlled_rotations(
    n_qubits: int,
    n_layers: int,
    n_features: int | None = None,
    *,
    entangler: Entangler = "ring",
    final_hadamard: bool = False,
) -> Circuit:
    r"""H on all, layers of controlled general rotations by angles :math:`s x_c + b`, and H on all between them.

    The rotation of a pair is CRZ, CRY, CRZ with a scale and a weight of its own in each angle and the feature of its
    control; each is two Pauli-word rotations, so that the two-term shift rule holds.

    Args:
        n_qubits: number of qubits; on two a ring has both directions.
        n_layers: number of layers.
        n_features: number of features, qubit q reading ``q mod n_features``; None means one per qubit.
        entangler: which pairs; ``"none"`` turns each qubit alone, by RZ, RY, RZ of the same angles.
        final_hadamard: whether H on all follows the last layer too; the published code has none there.

    Returns:
        A circuit with the groups ``weights`` and ``scales`` (each: layer, pair, axis).

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is below 1 or an option unknown.

    Source: Meyer et al., arXiv:2501.15893 and its public code.
    """
    n, depth, width = sizes(n_qubits, n_layers, n_features)
    pairs = ((0, 1), (1, 0)) if (n, entangler) == (2, "ring") else entangler_pairs(n, entangler)
    layers = Layers(n, width)
    layers.hadamard()
    for layer in range(depth):
        for control, target in pairs or [(q, q) for q in range(n)]:
            for axis in "ZYZ":
                angle = Angle(0.0, (layers.encoded(control % width), layers.weight()))
                if control == target:
                    layers.add(f"R{axis}", target, angle=angle)
                else:
                    layers.gates += controlled_rotation(axis, control, target, angle)
        if layer < depth - 1 or final_hadamard:
            layers.hadamard()
    return layers.circuit()
