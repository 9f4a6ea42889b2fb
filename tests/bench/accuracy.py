"""How exact our backend is: expectations against Qiskit's state vector, gradients against the parameter-shift rule."""

from __future__ import annotations

import numpy as np
from contenders import observables
from problem import Cell, Floats, Problem

CELLS = (Cell(2, 3, 3), Cell(3, 3, 3), Cell(4, 5, 3), Cell(5, 2, 17), Cell(8, 2, 2), Cell(10, 1, 2))


class Accuracy:
    """Runs in a process of its own and compares one backend with Qiskit.

    Args:
        backend: name of the backend.
    """

    def __init__(self, backend: str) -> None:
        self._backend = backend

    def errors(self, cell: Cell) -> dict[str, float]:
        """Largest error of expectations, and of gradients relative to the largest component (single) or absolute.

        The keys are ``values f64``, ``gradients f64``, ``values f32`` and ``gradients f32``.
        """
        import torch

        import qrl
        from circuits import reuploading

        problem = Problem(cell)
        circuit = reuploading(cell.qubits, cell.layers)
        found = {}
        for dtype, label in ((torch.float64, "f64"), (torch.float32, "f32")):
            layer = qrl.QuantumLayer(circuit, observables(problem), backend=self._backend).to(dtype)
            x, w, s, t = (torch.tensor(v, dtype=dtype) for v in (problem.x, problem.w, problem.s, problem.t))
            with torch.no_grad():
                layer.scales.copy_(s.ravel())
                layer.weights.copy_(t.ravel())
            # What float32 inputs stand for is computed exactly; their rounding is not an error of the backend.
            exact = [v.double().numpy() for v in (x, w, s, t)]
            values, by_s, by_t = _by_qiskit(*exact)
            given = layer(x)
            (w * given).sum().backward()
            assert layer.scales.grad is not None
            assert layer.weights.grad is not None
            wanted = np.concatenate([by_s.ravel(), by_t.ravel()])
            gradients = torch.cat([layer.scales.grad, layer.weights.grad]).double().numpy()
            scale = 1.0 if label == "f64" else np.abs(wanted).max()
            found[f"values {label}"] = float(np.abs(given.detach().double().numpy() - values).max())
            found[f"gradients {label}"] = float(np.abs(gradients - wanted).max() / scale)
        return found


def _by_qiskit(x: Floats, w: Floats, s: Floats, t: Floats) -> tuple[Floats, Floats, Floats]:
    """Expectations, and gradients of sum(w <Z>) by s and t, from state vectors at shifted angles."""
    from qiskit import QuantumCircuit
    from qiskit.quantum_info import Statevector

    n = s.shape[1]
    signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)

    def expectations(angles: Floats) -> Floats:
        built = QuantumCircuit(n)
        for layer in angles:
            for q in range(n):
                built.rx(layer[q, 0], q)
                built.ry(layer[q, 1], q)
                built.rz(layer[q, 2], q)
            for q in range(n if n > 2 else n - 1):
                built.cz(q, (q + 1) % n)
        return Statevector(built).probabilities() @ signs

    values, by_s, by_t = np.empty_like(x), np.zeros_like(s), np.zeros_like(t)
    for b in range(len(x)):
        angles = np.concatenate([(s * x[b])[:, :, None], t], axis=2)
        values[b] = expectations(angles)
        for index in np.ndindex(angles.shape):
            shift = np.zeros_like(angles)
            shift[index] = np.pi / 2
            slope = w[b] @ (expectations(angles + shift) - expectations(angles - shift)) / 2
            layer, q, rotation = index
            if rotation == 0:
                by_s[layer, q] += slope * x[b, q]
            else:
                by_t[layer, q, rotation - 1] += slope
    return values, by_s, by_t
