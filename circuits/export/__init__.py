"""Circuits to and from Qiskit, PennyLane and OpenQASM 3; the three libraries load on first use.

Qubit ``q`` is Qiskit's qubit ``q``, PennyLane's wire ``q`` and entry ``q`` of the OpenQASM register.
Importers transpile to our gate set and keep the state up to a global phase.
"""

from __future__ import annotations

from circuits.export._pennylane import from_pennylane, observable_to_pennylane, to_pennylane
from circuits.export._qasm import from_qasm3, to_qasm3
from circuits.export._qiskit_in import from_qiskit
from circuits.export._qiskit_out import observable_to_qiskit, to_qiskit

__all__ = [
    "from_pennylane",
    "from_qasm3",
    "from_qiskit",
    "observable_to_pennylane",
    "observable_to_qiskit",
    "to_pennylane",
    "to_qasm3",
    "to_qiskit",
]
