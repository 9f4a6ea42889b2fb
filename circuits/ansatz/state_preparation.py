"""Families that load a state once: a basis state from digits, or amplitudes from a tree of angles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from circuits.ansatz.layers import Entangler, EntanglingGate, Layers, check_entangler, rotation_names, sizes
from circuits.circuit import Angle, Circuit, Term
from circuits.gates import integer


def basis(
    n_qubits: int,
    n_layers: int,
    n_features: int | None = None,
    *,
    rotations: Sequence[str] = ("RZ", "RY"),
    entangler: Entangler = "all",
    entangling_gate: EntanglingGate = "CZ",
    final_layer: bool = True,
) -> Circuit:
    """Basis encoding: RX(x_q) on each qubit, which is X, up to a phase, for x_q = pi; then layers and no re-uploading.

    Features are digits times pi, as :class:`circuits.embeddings.Basis` makes them of the index of a state.

    Args:
        n_qubits: number of qubits.
        n_layers: number of layers of rotations and entangler.
        n_features: as many as qubits, or None.
        rotations: weight rotations of a layer on each qubit.
        entangler, entangling_gate: as in ``reuploading``.
        final_layer: whether weight rotations close the circuit.

    Returns:
        A circuit with the group ``weights`` (layer, qubit, rotation; then CRot's).

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is below 1, features for other than all qubits, or an option unknown.

    Source: the FrozenLake circuit of arXiv:2103.15084.
    """
    n, depth, width = sizes(n_qubits, n_layers, n_features)
    if width != n:
        raise ValueError(f"n_features: {width} is not one digit for each of {n} qubits; use {n}")
    layers = Layers(n, n)
    for q in range(n):
        layers.add("RX", q, angle=layers.encoded(q, trainable=False))
    return _varied(layers, depth, rotations, entangler, entangling_gate, final_layer)


def amplitude(
    n_qubits: int,
    n_layers: int,
    n_features: int | None = None,
    *,
    rotations: Sequence[str] = ("RY", "RZ"),
    entangler: Entangler = "ring",
    entangling_gate: EntanglingGate = "CZ",
    final_layer: bool = False,
) -> Circuit:
    r"""Amplitude encoding: a real vector becomes the state; then layers and no re-uploading.

    The state is prepared qubit by qubit from the highest: RY on the next one, its angle depending on those before. Such
    a rotation under k controls is :math:`2^k` rotations between CX, whose angles are sums of the wanted ones with
    signs over :math:`2^k`, so that they are linear in the features: the :math:`2^n - 1` wanted angles, as
    :class:`circuits.embeddings.Amplitude` makes them of a vector.

    Args:
        n_qubits: number of qubits, at most 8.
        n_layers: number of layers of rotations and entangler.
        n_features: ``2 ** n_qubits - 1``, or None.
        rotations, entangler, entangling_gate, final_layer: as in ``basis``.

    Returns:
        A circuit with the group ``weights`` (layer, qubit, rotation; then CRot's).

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is below 1, more than 8 qubits, another number of features, or an option unknown.

    Source: Mottonen et al., Quantum Inf. Comput. 5, 467 (2005), arXiv:quant-ph/0407010, section 2.
    """
    n = integer("n_qubits", n_qubits, 1)
    if n > 8:
        raise ValueError(f"n_qubits: {n} is too many for amplitude encoding; use at most 8")
    n, depth, width = sizes(n, n_layers, 2**n - 1 if n_features is None else n_features)
    if width != 2**n - 1:
        raise ValueError(f"n_features: {width} is not the {2**n - 1} angles of {n} qubits; use {2**n - 1}")
    layers = Layers(n, width)
    for level in range(n):
        _multiplexed(layers, level, n - 1 - level, tuple(range(n - 1, n - 1 - level, -1)))
    return _varied(layers, depth, rotations, entangler, entangling_gate, final_layer)


def _multiplexed(layers: Layers, level: int, target: int, controls: tuple[int, ...]) -> None:
    """RY on the target by feature ``2^level - 1 + j``, j the number that the controls hold, the first one highest."""
    size = 2**level
    gray = [i ^ (i >> 1) for i in range(size)]
    for i in range(size):
        terms = tuple(
            Term(float((-1) ** bin(j & gray[i]).count("1")) / size, None, (size - 1 + j,))
            for j in range(size)
        )
        layers.add("RY", target, angle=Angle(0.0, terms))
        if level:
            changed = gray[i] ^ gray[(i + 1) % size]
            layers.add("CX", controls[level - 1 - int(np.log2(changed))], target)


def _varied(
    layers: Layers,
    depth: int,
    rotations: Sequence[str],
    entangler: Entangler,
    entangling_gate: EntanglingGate,
    final_layer: bool,
) -> Circuit:
    turns = rotation_names("rotations", rotations)
    check_entangler(entangler, entangling_gate)
    for _ in range(depth):
        layers.rotate(turns)
        layers.entangle(entangler, entangling_gate)
    if final_layer:
        layers.rotate(turns)
    return layers.circuit()
