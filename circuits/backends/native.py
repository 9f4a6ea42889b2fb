"""The ``native`` backend: the compiled state-vector kernel of ``circuits.engine`` on the CPU.

Exact and with shots, float32 and float64, gradients by a backward pass whose memory does not grow with depth.
It takes every circuit of the description. Tensors on another device go to its twin, the ``torch`` backend.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from ctypes import CDLL, c_void_p
from typing import Any, Literal, NoReturn
from weakref import finalize

import torch
from torch import Tensor

from circuits.backends.protocol import (
    VJP,
    Capabilities,
    Expectations,
    Usage,
    check_observables,
    check_shapes,
    check_shots,
    count_angles,
    count_settings,
)
from circuits.backends.torch import TorchBackend
from circuits.circuit import Circuit
from circuits.engine import library
from circuits.engine.program import encode
from circuits.gates import choice, integer
from circuits.observables import Observable
from circuits.reference import check_memory

Engine = Literal["auto", "lane", "amplitude"]

_LANE, _AMPLITUDE = 0, 1
_NOT_FINITE = 1  # a status of the kernel; any other one means that memory is short
_MOST_LANES = 16
_MAX_QUBITS = 30  # of the kernel's 32-bit masks and tables
_COPIES = 4  # of the state that a backward pass holds at once, tables included
_SAVED_BYTES = 3 * 2**20  # that a forward pass may keep for the backward pass
_SAVED_WORK = (
    2**15
)  # amplitudes times gates below which running the forward pass again costs less than memory
_THREADED_WORK = 2**22  # amplitudes times gates from which a second thread pays
_THREADS_BYTES = 2**31  # that the states of all threads may take
_LANE_AMPLITUDES = 2**11  # beyond this the states of a block no longer fit into the cache that is close
_AMPLITUDE_COST = 1.25  # of an amplitude in the amplitude engine: lanes must be swapped for the lowest qubits


class NativeBackend:
    """Simulates circuits with the compiled kernel.

    Args:
        engine: "lane" puts samples into the lanes of vector registers, "amplitude" the amplitudes of one sample;
            "auto" takes the faster one for the size. The results are the same.
        instruction_set: one of those that were built and that the processor runs; None is the best of them, or what
            the environment variable ``QRL_INSTRUCTION_SET`` says.

    Raises:
        ValueError: the engine is unknown, the instruction set cannot be used, or the kernel was not built.
    """

    def __init__(self, engine: Engine = "auto", instruction_set: str | None = None) -> None:
        choice("engine", engine, ("auto", "lane", "amplitude"))
        loaded = library.load()
        if loaded is None:
            raise ValueError(f"backend: 'native' is not available, {library.reason()}; use 'torch'")
        self._engine = engine
        self._asked_set = instruction_set
        self._lib = loaded.lib
        self._isa = loaded.choose(instruction_set)
        self.instruction_set = loaded.instruction_sets[self._isa]
        self.name = "native"
        self.capabilities = Capabilities(
            True, True, True, (torch.float32, torch.float64), None, joint_shots=True
        )
        self._latest: _Program | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Handles of the library belong to this process; a copy opens it anew.
        return NativeBackend, (self._engine, self._asked_set)

    def expectations(
        self,
        circuit: Circuit,
        parameters: Tensor,
        features: Tensor,
        observables: Sequence[Observable],
        shots: int | None = None,
        seed: int | None = None,
        *,
        differentiate: bool = False,
    ) -> Expectations:
        """Return expectation values; see ``circuits.backends.protocol.Backend.expectations``.

        Raises:
            TypeError, ValueError: as stated there.
        """
        if not (features.is_cpu and parameters.is_cpu):
            return TorchBackend().expectations(
                circuit, parameters, features, observables, shots, seed, differentiate=differentiate
            )
        started = time.perf_counter()
        program = self._latest
        # Learning and acting ask for the same things again and again; hashing them costs as much as a small circuit.
        if (
            program is None
            or program.circuit is not circuit
            or program.observables is not observables
            or program.dtype is not features.dtype
        ):
            check_shapes(circuit, parameters, features, self)
            program = self._program(circuit, observables, features.dtype)
        run = _Run(program, parameters, features)
        samples = run.samples
        hardware = samples * program.settings
        if shots is None:
            values, errors, drawn = run.forward(differentiate), None, 0
        else:
            check_shots(shots, self)
            values, errors = run.sample(shots, seed)
            drawn = hardware * shots
        usage = Usage(samples, hardware, drawn, 0, time.perf_counter() - started)
        return Expectations(values, errors, usage, run.vjp if differentiate and shots is None else None)

    def _program(self, circuit: Circuit, observables: Sequence[Observable], dtype: torch.dtype) -> _Program:
        named = tuple(observables)
        key = ("native", named, dtype, self._isa, self._engine)
        program = circuit.memo(key, lambda c: _Program(self._lib, self._isa, self._engine, c, named, dtype))
        if named is observables:
            program.observables = named
        self._latest = program
        return program


class _Program:
    """A circuit and observables compiled for the kernel, and the choice of the engine for a batch."""

    def __init__(
        self,
        lib: CDLL,
        isa: int,
        engine: Engine,
        circuit: Circuit,
        observables: tuple[Observable, ...],
        dtype: torch.dtype,
    ) -> None:
        check_observables(circuit, observables)
        double = dtype == torch.float64
        # The lane engine holds one state for each lane, which is asked for by name only at such sizes.
        held = _COPIES * (_MOST_LANES if engine == "lane" else 1)
        check_memory(circuit.n_qubits, 16 if double else 8, held)
        if circuit.n_qubits > _MAX_QUBITS:
            raise ValueError(
                f"n_qubits: {circuit.n_qubits} is too many for native; use at most {_MAX_QUBITS}"
            )
        encoded = encode(circuit, observables)
        self.lib, self.circuit, self.observables, self.dtype = lib, circuit, observables, dtype
        self.n_parameters, self.n_features = circuit.n_parameters, circuit.n_features
        self.n_observables = len(observables)
        self.settings = count_settings(circuit, observables)
        self._angles: dict[tuple[tuple[str, ...] | None, bool], int] = {}
        self._saved: dict[tuple[int, int, int], int] = {}
        ints, reals = encoded.ints, encoded.reals
        address = lib.qrl_program_new(isa, double, ints.ctypes.data, len(ints), reals.ctypes.data, len(reals))
        if not address:
            raise MemoryError(
                f"n_qubits: {circuit.n_qubits}, too little memory for the tables of the circuit"
            )
        self.handle = c_void_p(address)
        finalize(self, lib.qrl_program_free, self.handle)
        self._lanes = lib.qrl_lanes(self.handle)
        self._forced = {"lane": _LANE, "amplitude": _AMPLITUDE, "auto": None}[engine]
        self._state = 2**circuit.n_qubits
        self._work = self._state * (len(circuit.gates) + 1)

    def engine(self, samples: int) -> int:
        """The engine for a number of samples: whichever has less to do, counted in vectors."""
        if self._forced is not None:
            return self._forced
        if self._state < 2 * self._lanes:
            return _LANE
        if self._state > _LANE_AMPLITUDES:
            return _AMPLITUDE
        blocks = -(-samples // self._lanes)
        return _LANE if blocks * self._lanes < _AMPLITUDE_COST * samples else _AMPLITUDE

    def threads(self, samples: int) -> int:
        """The number of threads for a number of samples, torch's where there is enough to do."""
        if samples * self._work < _THREADED_WORK:
            return 1
        # Each thread has states of its own.
        return max(1, min(torch.get_num_threads(), _THREADS_BYTES // (self._state * 16 * _COPIES)))

    def saved_bytes(self, samples: int, engine: int, stride: int) -> int:
        """The size of what the forward pass keeps for the backward pass, 0 where running it again is better."""
        key = (samples, engine, stride)
        size = self._saved.get(key)
        if size is None:
            size = self.lib.qrl_saved_bytes(self.handle, engine, samples, stride != 0)
            size = size if size <= _SAVED_BYTES and samples * self._work >= _SAVED_WORK else 0
            self._saved[key] = size
        return size

    def count_angles(self, groups: tuple[str, ...] | None, features: bool) -> int:
        """The number of angles that depend on what is differentiated."""
        key = (groups, features)
        if key not in self._angles:
            self._angles[key] = count_angles(self.circuit, groups, features)
        return self._angles[key]


class _Run:
    """One request: the call of the kernel, and the backward pass."""

    __slots__ = (
        "_engine",
        "_features",
        "_parameters",
        "_program",
        "_saved",
        "_stride",
        "_threads",
        "samples",
    )

    def __init__(self, program: _Program, parameters: Tensor, features: Tensor) -> None:
        width = program.n_parameters
        shape = features.shape
        if len(shape) != 2 or shape[1] != program.n_features:
            raise ValueError(f"features: shape {tuple(shape)} does not fit; use (N, {program.n_features})")
        self.samples = samples = shape[0]
        given = parameters.shape
        if given == (width,):
            self._stride = 0
        elif given == (samples, width):
            self._stride = width
        else:
            raise ValueError(
                f"parameters: shape {tuple(given)} does not fit; use ({width},) or ({samples}, {width})"
            )
        if parameters.dtype is not features.dtype:
            raise TypeError(
                f"features: {features.dtype} against parameters in {parameters.dtype}; convert one of them"
            )
        self._program = program
        self._parameters = parameters if parameters.is_contiguous() else parameters.contiguous()
        self._features = features if features.is_contiguous() else features.contiguous()
        self._engine, self._threads = program.engine(samples), program.threads(samples)
        self._saved: Tensor | None = None

    def forward(self, keep: bool) -> Tensor:
        """Return the exact values ``(N, n_observables)``; ``keep`` the final states for the backward pass."""
        program, samples = self._program, self.samples
        values = torch.empty((samples, program.n_observables), dtype=program.dtype)
        if samples == 0:
            return values
        saved = 0
        if keep and (size := program.saved_bytes(samples, self._engine, self._stride)):
            self._saved = torch.empty(size, dtype=torch.uint8)
            saved = self._saved.data_ptr()
        status = program.lib.qrl_forward(
            program.handle,
            self._engine,
            self._threads,
            samples,
            self._parameters.data_ptr(),
            self._stride,
            self._features.data_ptr(),
            values.data_ptr(),
            saved,
        )
        if status:
            _refuse(status)
        return values

    def sample(self, shots: int, seed: int | None) -> tuple[Tensor, Tensor]:
        """Return means and standard errors from shots, each ``(N, n_observables)``."""
        if seed is not None:
            integer("seed", seed, 0)
        else:
            seed = int(torch.randint(2**63 - 1, ()).item())
        program, samples = self._program, self.samples
        means = torch.empty((samples, program.n_observables), dtype=program.dtype)
        errors = torch.empty_like(means)
        if samples:
            status = program.lib.qrl_sample(
                program.handle,
                self._engine,
                self._threads,
                samples,
                self._parameters.data_ptr(),
                self._stride,
                self._features.data_ptr(),
                shots,
                seed % 2**64,
                means.data_ptr(),
                errors.data_ptr(),
            )
            if status:
                _refuse(status)
        return means, errors

    def vjp(self, upstream: Tensor, *, groups: tuple[str, ...] | None = None, features: bool = True) -> VJP:
        """Return upstream times the Jacobian; see ``circuits.backends.protocol.VJPFunction``."""
        started = time.perf_counter()
        program, samples = self._program, self.samples
        if upstream.shape != (samples, program.n_observables):
            shape = (samples, program.n_observables)
            raise ValueError(f"upstream: shape {tuple(upstream.shape)} does not fit; use {shape}")
        if upstream.dtype is not program.dtype or not upstream.is_contiguous():
            upstream = upstream.to(program.dtype).contiguous()
        by_parameters = torch.empty_like(self._parameters) if groups is None or groups else None
        by_features = torch.empty_like(self._features) if features else None
        if samples:
            status = program.lib.qrl_backward(
                program.handle,
                self._engine,
                self._threads,
                samples,
                self._parameters.data_ptr(),
                self._stride,
                self._features.data_ptr(),
                0 if self._saved is None else self._saved.data_ptr(),
                upstream.data_ptr(),
                0 if by_parameters is None else by_parameters.data_ptr(),
                0 if by_features is None else by_features.data_ptr(),
            )
            if status:
                _refuse(status)
        elif by_parameters is not None:
            by_parameters.zero_()
        if groups is not None and by_parameters is not None:
            for name, _ in program.circuit.groups:
                if name not in groups:
                    by_parameters[..., program.circuit.group(name)] = 0.0
        hardware = 2 * program.count_angles(groups, features) * samples * program.settings
        usage = Usage(samples, hardware, 0, 0, time.perf_counter() - started, (), "parameter_shift")
        return VJP(by_parameters, by_features, usage)


def _refuse(status: int) -> NoReturn:
    """Raise what a status of the kernel stands for."""
    if status == _NOT_FINITE:
        raise ValueError("features: a value is not finite; use finite numbers")
    raise MemoryError("n_qubits: too little memory for the state vectors; use fewer qubits or samples")
