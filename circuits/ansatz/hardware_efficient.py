"""The hardware-efficient family: one encoding, then layers of rotations and entanglers."""

from __future__ import annotations

from collections.abc import Sequence

from circuits.ansatz.layers import Entangler, EntanglingGate
from circuits.ansatz.reuploading import reuploading
from circuits.circuit import Circuit, Squash


def hardware_efficient(
    n_qubits: int,
    n_layers: int,
    n_features: int | None = None,
    *,
    rotations: Sequence[str] = ("RY", "RZ"),
    encoding: str | Sequence[str] = "RX",
    squash: Squash = "none",
    entangler: Entangler = "linear",
    entangling_gate: EntanglingGate = "CZ",
    trainable_scales: bool = True,
) -> Circuit:
    """Hardware-efficient ansatz: an encoding, layers of rotations and neighbouring entanglers, rotations at the end.

    It is ``reuploading`` that encodes once and closes with rotations; the arguments are explained there.

    Raises:
        TypeError, ValueError: as ``reuploading``; more features than qubits.

    Source: Kandala et al., Nature 549, 242 (2017), arXiv:1704.05018, with angle encoding in front.
    """
    if isinstance(n_features, int) and isinstance(n_qubits, int) and n_features > n_qubits:
        raise ValueError(
            f"n_features: {n_features} do not fit one encoding on {n_qubits} qubits; use {n_qubits} or 'reuploading'"
        )
    return reuploading(
        n_qubits,
        n_layers,
        n_features,
        rotations=rotations,
        encoding=encoding,
        squash=squash,
        entangler=entangler,
        entangling_gate=entangling_gate,
        final_layer=True,
        reupload=False,
        trainable_scales=trainable_scales,
    )
