"""The kernel alone: one call for forward and backward, and the operations that it must do."""

from __future__ import annotations

import math
from time import perf_counter

import numpy as np
from contenders import observables
from problem import Cell, Problem

BLOCK_S = 20e-3


def flops(cell: Cell) -> float:
    """Floating-point operations of forward and backward; one multiply-add is two.

    With N = 2 ** n amplitudes and n N / 2 pairs a layer: the first layer builds a product state, 14 (N - 1); every
    further one takes 28 a pair; the expectations 5 N. Backward, each layer takes 16 a pair and 5 N for its
    gradients, all but the first 56 a pair to undo it in both states; the operator 4 N.
    """
    n, layers = cell.qubits, cell.layers
    size = 2**n
    pairs = n * size / 2
    forward = 14 * (size - 1) + 28 * pairs * (layers - 1) + 5 * size
    backward = 56 * pairs * (layers - 1) + (16 * pairs + 5 * size) * layers + 4 * size
    return cell.batch * (forward + backward)


class Kernel:
    """Runs in a process of its own and times the C function that does forward and backward, in float32."""

    def __init__(self) -> None:
        from circuits.backends.native import NativeBackend
        from circuits.engine.library import load

        library = load()
        assert library is not None
        self._lib, self._sets = library.lib, [library.choose(name) for name in library.supported]
        self._backend = NativeBackend()

    def prepare(self, cell: Cell) -> None:
        """Make a program and its inputs, and find how many calls fill a block."""
        import torch

        from circuits import Observable, reuploading

        problem = Problem(cell)
        words = tuple(Observable.parse(word, cell.qubits) for word in observables(problem))
        program = self._backend._program(reuploading(cell.qubits, cell.layers), words, torch.float32)
        theta, x, w = (
            np.ascontiguousarray(values, dtype=np.float32)
            for values in (np.concatenate([problem.t.ravel(), problem.s.ravel()]), problem.x, problem.w)
        )
        self._kept = program, theta, x, w, np.empty_like(theta)
        engine, addresses = program.engine(cell.batch), [array.ctypes.data for array in self._kept[1:]]
        shared, saved, by_features = 0, 0, 0
        inputs = (addresses[0], shared, addresses[1], saved)
        self._arguments = (program.handle, engine, 1, cell.batch, *inputs, *addresses[2:], by_features)
        self._repeats = 1
        self._repeats = max(1, math.ceil(BLOCK_S / min(self.block() for _ in range(3))))

    def block(self) -> float:
        """Seconds of one call."""
        start = perf_counter()
        for _ in range(self._repeats):
            status = self._lib.qrl_backward(*self._arguments)
            assert status == 0
        return (perf_counter() - start) / self._repeats

    def peak(self) -> float:
        """Operations a second of multiply-adds in registers, of the fastest instruction set."""
        return max(self._lib.qrl_fma_peak(number, False, BLOCK_S) for number in self._sets)
