"""Circuit families: functions that return a :class:`~circuits.circuit.Circuit`, named in ``ANSATZ``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from circuits.circuit import Angle, Circuit, Gate, Squash, Term
from circuits.gates import SQUASHES, choice, integer

Entangler = Literal["ring", "linear", "all", "none"]
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
    entangling_gate: str = "CZ",
    final_layer: bool = False,
    order: Order = "encode-first",
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
        entangling_gate: ``"CZ"``, ``"CX"`` or ``"CY"``.
        final_layer: whether weight rotations without entangler close the circuit.
        order: whether a layer starts with the encoding or with the weights.

    Returns:
        A circuit with the groups ``weights`` (layer, qubit, rotation: row-major) and ``scales`` (layer,
        qubit, encoding rotation).

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is below 1 or an option unknown.

    Source: the circuits of arXiv:2103.15084 (encode first) and arXiv:2103.05577 (weights first).
    """
    n = integer("n_qubits", n_qubits, 1)
    layers = integer("n_layers", n_layers, 1)
    width = n if n_features is None else integer("n_features", n_features, 1)
    encodings = (encoding,) if isinstance(encoding, str) else tuple(encoding)
    for option, names in (("rotations", tuple(rotations)), ("encoding", encodings)):
        if not names:
            raise ValueError(f"{option}: empty; give at least one of RX, RY, RZ")
        for name in names:
            choice(option, name, ("RX", "RY", "RZ"))
    choice("squash", squash, SQUASHES)
    choice("order", order, ("encode-first", "variational-first"))
    pairs = entangler_pairs(n, entangler)
    choice("entangling_gate", entangling_gate, ("CZ", "CX", "CY"))

    n_weights = (layers + bool(final_layer)) * n * len(rotations)

    def weight_layer(layer: int) -> list[Gate]:
        return [
            Gate(name, (q,), Angle(0.0, (Term(parameter=(layer * n + q) * len(rotations) + r),)))
            for q in range(n)
            for r, name in enumerate(rotations)
        ]

    def encoding_layer(layer: int) -> list[Gate]:
        gates = []
        for e, name in enumerate(encodings):
            for q in range(n):
                scale = n_weights + (layer * n + q) * len(encodings) + e
                term = Term(1.0, scale, ((q + layer * n) % width,), squash)
                gates.append(Gate(name, (q,), Angle(0.0, (term,))))
        return gates

    entangle = [Gate(entangling_gate, pair) for pair in pairs]
    gates: list[Gate] = []
    for layer in range(layers):
        if order == "encode-first":
            gates += encoding_layer(layer) + weight_layer(layer) + entangle
        else:
            gates += weight_layer(layer) + entangle + encoding_layer(layer)
    if final_layer:
        gates += weight_layer(layers)
    groups = (("weights", n_weights), ("scales", layers * n * len(encodings)))
    return Circuit(n, tuple(gates), width, groups)


def entangler_pairs(n_qubits: int, entangler: Entangler) -> tuple[tuple[int, int], ...]:
    """Return the (control, target) pairs of an entangler in time order.

    Raises:
        ValueError: the entangler is unknown.
    """
    choice("entangler", entangler, ("ring", "linear", "all", "none"))
    if entangler == "none":
        return ()
    if entangler == "all":
        return tuple((a, b) for a in range(n_qubits) for b in range(a + 1, n_qubits))
    pairs = tuple((q, q + 1) for q in range(n_qubits - 1))
    # A ring on two qubits would apply the same pair twice, and two CZ cancel.
    return (*pairs, (n_qubits - 1, 0)) if entangler == "ring" and n_qubits > 2 else pairs


def controlled_rotation(axis: str, control: int, target: int, angle: Angle) -> tuple[Gate, Gate]:
    r"""Return a controlled rotation as two commuting Pauli-word rotations, so that the two-term shift rule
    holds.

    :math:`C R_P(t) = R_P(t/2)_{target} \; R_{ZP}(-t/2)_{control, target}`, since the projector on the
    control's one state is :math:`(1 - Z)/2`.

    Args:
        axis: "X", "Y" or "Z".
        control: the control qubit.
        target: the target qubit.
        angle: the angle t, in radians.

    Raises:
        ValueError: unknown axis or equal qubits.

    Source: own construction.
    """
    choice("axis", axis, ("X", "Y", "Z"))
    return (
        Gate(f"R{axis}", (target,), angle.scaled(0.5)),
        Gate(f"RZ{axis}", (control, target), angle.scaled(-0.5)),
    )


ANSATZ: dict[str, Callable[..., Circuit]] = {"reuploading": reuploading}
"""Circuit families by the name that recipes use."""
