"""Circuit families: functions that return a :class:`~circuits.circuit.Circuit`, one file each, named in ``ANSATZ``.

A family takes ``n_qubits``, ``n_layers``, ``n_features=None`` and keywords of its own, and has the parameter groups
``weights`` and ``scales``. A new one is a file here and a line in ``ANSATZ``.
"""

from __future__ import annotations

from collections.abc import Callable

from circuits.ansatz.controlled_rotations import controlled_rotations
from circuits.ansatz.equivariant import equivariant
from circuits.ansatz.hardware_efficient import hardware_efficient
from circuits.ansatz.iqp import iqp
from circuits.ansatz.layers import controlled_rotation, entangler_pairs
from circuits.ansatz.reuploading import reuploading
from circuits.ansatz.state_preparation import amplitude, basis
from circuits.ansatz.strongly_entangling import strongly_entangling
from circuits.ansatz.universal_classifier import universal_classifier
from circuits.circuit import Circuit

__all__ = ["ANSATZ", "controlled_rotation", "entangler_pairs", "reuploading"]

ANSATZ: dict[str, Callable[..., Circuit]] = {
    "reuploading": reuploading,
    "universal_classifier": universal_classifier,
    "hardware_efficient": hardware_efficient,
    "strongly_entangling": strongly_entangling,
    "iqp": iqp,
    "basis": basis,
    "amplitude": amplitude,
    "controlled_rotations": controlled_rotations,
    "equivariant": equivariant,
}
"""Circuit families by the name that recipes use."""
