"""The universal quantum classifier, on one qubit or several."""

from __future__ import annotations

from typing import Literal

from circuits.ansatz.layers import Entangler, EntanglingGate, Layers, check_entangler, sizes
from circuits.circuit import Angle, Circuit, Squash, Term
from circuits.gates import SQUASHES, choice, finite


def universal_classifier(
    n_qubits: int,
    n_layers: int,
    n_features: int | None = None,
    *,
    encoding: Literal["full", "partial"] = "full",
    factor: float = 1.0,
    squash: Squash = "none",
    entangler: Entangler = "ring",
    entangling_gate: EntanglingGate = "CZ",
    trainable_scales: bool = True,
) -> Circuit:
    r"""Universal quantum classifier: :math:`R_Z(f (w_{lq} \cdot x + b_{lq}))` and then :math:`R_Y(f \theta_{lq})` on
    each qubit and layer, with an entangler between layers and none after the last.

    Args:
        n_qubits: number of qubits; on one the classifier is universal in its layers.
        n_layers: number of layers.
        n_features: number of features; None means one per qubit.
        encoding: ``"full"`` shows all features to every qubit; ``"partial"`` shows qubit q the q-th of n equal parts.
        factor: f, on both angles; 2 in the code of the paper, which is the same circuit with other start values.
        squash: function around each product of input weight and feature; the source has none.
        entangler, entangling_gate: as in ``reuploading``; CRot has three weights a pair.
        trainable_scales: False sets every w to 1.

    Returns:
        A circuit with the groups ``weights`` (layer, qubit: b, theta) and ``scales`` (layer, qubit, feature: w).

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is below 1, an option unknown, or features that n parts do not hold evenly.

    Source: Perez-Salinas et al., arXiv:2102.04032; as Q-function in arXiv:2401.11555.
    """
    n, depth, width = sizes(n_qubits, n_layers, n_features)
    choice("encoding", encoding, ("full", "partial"))
    choice("squash", squash, SQUASHES)
    check_entangler(entangler, entangling_gate)
    scale = finite("factor", factor)
    if encoding == "partial" and width % n:
        raise ValueError(
            f"n_features: {width} are no {n} equal parts; use a multiple of {n} or encoding 'full'"
        )
    part = width // n
    layers = Layers(n, width)
    for layer in range(depth):
        for q in range(n):
            seen = range(width) if encoding == "full" else range(q * part, (q + 1) * part)
            terms = [layers.encoded(f, squash=squash, trainable=trainable_scales) for f in seen]
            layers.add("RZ", q, angle=_times(scale, *terms, layers.weight()))
            layers.add("RY", q, angle=_times(scale, layers.weight()))
        if layer < depth - 1:
            layers.entangle(entangler, entangling_gate)
    return layers.circuit()


def _times(factor: float, *terms: Term) -> Angle:
    return Angle(0.0, terms).scaled(factor)
