r"""Simulated quantum annealing: path-integral Monte Carlo of the replica ensemble, compiled.

The Suzuki-Trotter mapping turns a machine of N spins in a transverse field into N r classical ones, r slices of
periodic imaginary time. With x = beta Gamma / r,

    Z_r = C sum_z exp( sum_k [ (beta / r) (sum J z z + sum b z) + K sum_h z_hk z_h,k+1 ] ),
    K = (1/2) ln coth x,      C = ((1/2) sinh 2x)^(N r / 2),

and F_r = -(1/beta) ln Z_r lies below F by an amount that falls as 1/r^2. The constant C is part of every free energy
here. At zero field the slices are locked, which is the classical machine with r = 1; and with r = 1 there is nothing
quantum to sample at any field, which is refused unless it is asked for by name.

Without couplings the machine is N closed chains, so that Z_r is known: the transfer matrix of a chain has the
eigenvalues exp(+-theta), cosh theta = cosh x cosh(beta b / r). From there annealed importance sampling leads to the
couplings: reads start as exact draws without them, the couplings rise in steps, and the mean of the exponential of
the work done on a read is the ratio of the partition functions, whatever the number of steps and sweeps.

Sources: M. Suzuki, Prog. Theor. Phys. 56, 1454 (1976); R. M. Neal, Stat. Comput. 11, 125 (2001), equation 11; the
mapping for free-energy learning: A. Levit et al., arXiv:1706.00074, equations 10 to 12.
"""

from __future__ import annotations

import math
import time
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from circuits.backends.protocol import Usage
from circuits.boltzmann.graphs import Graph
from circuits.boltzmann.protocol import Floats, Problem, Thermal, check_setting, draw_seed, log_2cosh
from circuits.engine import library
from circuits.gates import choice, integer

Schedule = Literal["fixed", "linear", "logarithmic", "sqrt"]
Update = Literal["worldline", "cluster", "spin"]
Counts = NDArray[np.int32]

SCHEDULES = ("linear", "logarithmic", "sqrt")
UPDATES = ("worldline", "cluster", "spin")

# |F_r - F| is about N / 3 (beta Gamma / r)^2, measured for couplings and biases between -1 and 1.
_SLICES_A_FIELD = 20.0
_FEWEST_SLICES, _MOST_SLICES = 8, 128
_NO_MEMORY = 2  # a status of the kernel


class SQASampler:
    """Thermal moments and free energies by path-integral Monte Carlo.

    At fixed field (the default) the couplings rise over the first half of ``burn_in`` sweeps, then the read settles
    for the other half, and ``sweeps`` sweeps are measured. With another schedule the field falls from
    ``initial_field`` in ``burn_in`` steps of one sweep, and the measured sweeps are done at its last value:
    ``sweeps=1`` is an annealer that reads its final state.

    A value is the mean over reads, measured sweeps and slices; <sz sz> is taken within a slice. Its standard error is
    the spread between the independent reads, at least what one flip in one sweep of one read makes, and not a number
    for a single read. The error of a free energy is that of the logarithm of a mean, by the delta method. Neither
    covers the Trotter error of r slices.

    The default settings are those of an agent at work, with errors of some hundredths. ``reads=256, sweeps=2000,
    ais_steps=1024`` came within 0.016 of exact in every moment and free energy of 256 random machines of 4 to 8 units
    with weights between -1 and 1, field 0.2 to 2, and beta 0.5 to 3.

    Args:
        slices: r, or "auto" for 20 beta Gamma between 8 and 128, where |F_r - F| is below about 0.001 a spin.
        reads: independent Markov chains a state.
        sweeps: measured sweeps of a read; one updates every spin in every slice.
        burn_in: sweeps before.
        schedule: "fixed", or how the field falls; see ``field_schedule``.
        initial_field: where it falls from; not for a fixed field.
        endpoint: whether the last step has the machine's field, or is one step short of it.
        update: "worldline" draws all slices of a spin at once given the other spins; "cluster" joins equal
            neighbouring slices (Swendsen-Wang along imaginary time) and draws each segment; "spin" draws one slice of
            one spin. All of them turn over all spins at once after a sweep, with the probability of heat bath.
        ais_steps: intermediate ensembles of annealed importance sampling.
        ais_sweeps: sweeps in each of them.
        classical: asks for one slice where there is a field, which then has no effect on what is drawn.
        threads: of the compiled kernel; results do not depend on it.
        engine: "native" is the compiled kernel, "numpy" its slow twin with world-line updates alone; "auto" the first
            of them that is there.
        instruction_set: as of ``circuits.backends.native.NativeBackend``.

    Raises:
        TypeError: a count is no integer, or a field no number.
        ValueError: a value out of range, unknown, or not to be combined.
    """

    name = "sqa"
    exact = False

    def __init__(
        self,
        slices: int | Literal["auto"] = "auto",
        reads: int = 64,
        sweeps: int = 250,
        burn_in: int = 100,
        *,
        schedule: Schedule = "fixed",
        initial_field: float | None = None,
        endpoint: bool = True,
        update: Update = "worldline",
        ais_steps: int = 128,
        ais_sweeps: int = 1,
        classical: bool = False,
        threads: int = 1,
        engine: Literal["auto", "native", "numpy"] = "auto",
        instruction_set: str | None = None,
    ) -> None:
        self.slices = slices if slices == "auto" else integer("slices", slices, 1)
        self.reads = integer("reads", reads, 1)
        self.sweeps = integer("sweeps", sweeps, 1)
        self.schedule = choice("schedule", schedule, ("fixed", *SCHEDULES))
        self.burn_in = integer("burn_in", burn_in, 0 if schedule == "fixed" else 1)
        if (initial_field is None) != (schedule == "fixed"):
            raise ValueError(
                "initial_field: goes with a schedule of the field, "
                f"not with {schedule!r} and {initial_field!r}; give both or neither"
            )
        if initial_field is not None:
            check_setting("initial_field", initial_field, zero=False)
        self.initial_field = initial_field
        self.endpoint = bool(endpoint)
        self.update = choice("update", update, UPDATES)
        self.ais_steps = integer("ais_steps", ais_steps, 1)
        self.ais_sweeps = integer("ais_sweeps", ais_sweeps, 1)
        self.classical = bool(classical)
        if self.classical and self.slices != 1:
            raise ValueError(f"classical: true with {self.slices!r} slices; use slices=1, or leave it out")
        self.threads = integer("threads", threads, 1)
        self.engine = _engine(engine, self.update, instruction_set)
        self.instruction_set = instruction_set

    @property
    def quantum(self) -> bool:
        """Whether slices are coupled at all: with r = 1 their term is a constant, and the ensemble classical."""
        return self.slices != 1

    def check(self, graph: Graph, field: float) -> None:
        """Refuse a field above the one that the schedule starts from, and any with one slice, unless that is wanted."""
        if self.slices == 1 and not self.classical and (field > 0 or self.initial_field is not None):
            raise ValueError(
                "slices: 1 in a field is classical annealing; use slices >= 2, field=0 without a schedule, or"
                " classical=True"
            )
        if self.initial_field is not None and self.initial_field < field:
            raise ValueError(
                f"initial_field: {self.initial_field!r} is below the field {field!r}; start the schedule above it"
            )

    def thermal(self, problem: Problem, *, free_energy: bool = True, seed: int | None = None) -> Thermal:
        """Return moments with standard errors; see ``circuits.boltzmann.protocol.Sampler``.

        One execution is one state in one ensemble: N for moments, N (1 + ais_steps) with the free energy, which is
        sampled apart, so that moments do not depend on whether it is wanted. A free energy without couplings is
        closed and costs nothing.

        Raises:
            ValueError: a field that the schedule cannot reach, or an invalid seed.
            MemoryError: the slices of all spins do not fit into memory.
        """
        started = time.perf_counter()
        self.check(problem.graph, problem.field)
        seed = draw_seed(seed)
        count, steps = len(problem.biases), 0
        z, zz = self._moments(problem, seed)
        energy, energy_error, estimator = None, None, "none"
        if free_energy:
            energy, energy_error, estimator = self._free_energy(problem, seed)
            steps = self.ais_steps if len(problem.graph.edges) else 0
        executions = count * (1 + steps)
        usage = Usage(executions, executions, executions * self.reads, 0, time.perf_counter() - started)
        return Thermal(z[0], zz[0], energy, usage, z[1], zz[1], energy_error, estimator)

    def slices_at(self, field: float, beta: float) -> int:
        """Return r for a machine; 1 where neither the machine nor the schedule has a field."""
        if field == 0.0 and self.initial_field is None:
            return 1
        if isinstance(self.slices, int):
            return self.slices
        return min(max(math.ceil(_SLICES_A_FIELD * beta * field), _FEWEST_SLICES), _MOST_SLICES)

    def _moments(self, problem: Problem, seed: int) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """<sz> and <sz sz>, each with standard errors."""
        if self.initial_field is None:
            steps = max(self.burn_in, 1)
            fields = np.full(steps, float(problem.field))
            scales = np.minimum(1.0, np.arange(1, steps + 1) / (self.burn_in // 2 + 1))
            scales[-1] = 1.0
        else:
            last = float(problem.field)
            fields = field_schedule(self.schedule, self.initial_field, last, self.burn_in, self.endpoint)
            scales = np.ones(self.burn_in)
        slices = self.slices_at(problem.field, problem.beta)
        settle = min(self.burn_in, 1)
        z, zz, _ = self._run(problem, slices, fields, scales, settle, self.sweeps, seed)
        return self._averages(z, slices), self._averages(zz, slices)

    def _averages(self, sums: Counts, slices: int) -> tuple[Floats, Floats]:
        """Mean over reads and its standard error, from sums over slices and sweeps ``(N, reads, values)``."""
        reads = sums / (slices * self.sweeps)
        mean = reads.mean(axis=1)
        if self.reads == 1:
            return mean, np.full_like(mean, np.nan)
        error = reads.std(axis=1, ddof=1) / math.sqrt(self.reads)
        return mean, np.maximum(error, 2.0 / (self.reads * self.sweeps))

    def _free_energy(self, problem: Problem, seed: int) -> tuple[Floats, Floats, str]:
        """F_r at the machine's field, with its standard error, by annealed importance sampling."""
        slices = 1 if problem.field == 0.0 else self.slices_at(problem.field, problem.beta)
        start = uncoupled_free_energy(problem, slices)
        if not len(problem.graph.edges):
            return start, np.zeros_like(start), f"transfer matrix, {slices} slices"
        scales = np.arange(1, self.ais_steps + 1) / self.ais_steps
        fields = np.full(self.ais_steps, float(problem.field))
        own = (seed + 0x9E3779B97F4A7C15) % 2**64  # apart from the draws of the moments
        _, _, work = self._run(problem, slices, fields, scales, self.ais_sweeps, 0, own)
        top = work.max(axis=1, keepdims=True)
        weights = np.exp(work - top)
        mean = weights.mean(axis=1)
        spread = weights.std(axis=1, ddof=1) if self.reads > 1 else np.full_like(mean, np.nan)
        energy = start - (np.log(mean) + top[:, 0]) / problem.beta
        error = spread / (mean * math.sqrt(self.reads) * problem.beta)
        return energy, error, f"annealed importance sampling, {self.ais_steps} steps, {slices} slices"

    def _run(
        self,
        problem: Problem,
        slices: int,
        fields: Floats,
        scales: Floats,
        sweeps_a_step: int,
        sweeps: int,
        seed: int,
    ) -> tuple[Counts, Counts, Floats]:
        """Sums over slices and measured sweeps of z and zz, and the work of each read; ``(N, reads, ...)``.

        Without measured sweeps there is work alone, and with them none.
        """
        if self.engine == "numpy":
            return _Twin(problem, slices, self.reads, seed).run(fields, scales, sweeps_a_step, sweeps)
        loaded = library.load()
        if loaded is None:
            raise ValueError(f"engine: 'native' is not available, {library.reason()}; use 'numpy'")
        count, n = problem.biases.shape
        edges = np.ascontiguousarray(problem.graph.edges, dtype=np.int32)
        couplings = np.ascontiguousarray(problem.couplings, dtype=np.float64)
        biases = np.ascontiguousarray(problem.biases, dtype=np.float64)
        z = np.zeros((count, self.reads, n), dtype=np.int32)
        zz = np.zeros((count, self.reads, len(edges)), dtype=np.int32)
        work = np.zeros((count, self.reads))
        status = loaded.lib.qrl_anneal(
            loaded.choose(self.instruction_set),
            UPDATES.index(self.update),
            self.threads,
            count,
            self.reads,
            n,
            len(edges),
            edges.ctypes.data,
            couplings.ctypes.data,
            biases.ctypes.data,
            float(problem.beta),
            slices,
            len(fields),
            fields.ctypes.data,
            scales.ctypes.data,
            sweeps_a_step,
            sweeps,
            seed,
            z.ctypes.data if sweeps else 0,
            zz.ctypes.data if sweeps else 0,
            0 if sweeps else work.ctypes.data,
        )
        if status == _NO_MEMORY:
            raise MemoryError(f"slices: {slices}, too little memory for {n} spins; use fewer")
        if status:
            raise ValueError(
                f"sweeps: {sweeps} in {slices} slices cannot be counted; use fewer sweeps or slices"
            )
        return z, zz, work


def field_schedule(kind: str, initial: float, final: float, steps: int, endpoint: bool = True) -> Floats:
    """Return the field in each of n steps, t = 0 .. n - 1, ``(steps,)``.

    "linear" is evenly spaced, "logarithmic" is d + c / ln(t + 2) and "sqrt" is d + c / sqrt(t + 1), where c and d
    give the initial field at t = 0. The final one is reached at t = n - 1 with the endpoint, and else at t = n, where
    the schedule has ended. A single step with the endpoint has the final field.

    Raises:
        TypeError: steps is no integer.
        ValueError: steps is below 1 or the kind is unknown.
    """
    choice("schedule", kind, SCHEDULES)
    t = np.arange(integer("steps", steps, 1))
    last = steps - 1 if endpoint else steps
    if last == 0:
        return np.array([float(final)])
    shape = {
        "linear": lambda t: -t,
        "logarithmic": lambda t: 1 / np.log(t + 2),
        "sqrt": lambda t: (t + 1) ** -0.5,
    }
    fall = shape[kind]
    ends = fall(np.array([0.0, last]))
    values = final + (initial - final) * (fall(t.astype(np.float64)) - ends[1]) / (ends[0] - ends[1])
    return np.asarray(values)


def uncoupled_free_energy(problem: Problem, slices: int) -> Floats:
    """F_r of the machine without its couplings, C included, ``(N,)``.

    Source: transfer matrix exp(beta b sz / r) exp(beta Gamma sx / r) of each spin, eigenvalues exp(+-theta) with
    cosh theta = cosh x cosh(beta b / r); written with sinh, which keeps small angles.
    """
    x, y = problem.beta * problem.field / slices, problem.beta * problem.biases / slices
    theta = np.arcsinh(np.hypot(np.sinh(x) * np.cosh(y), np.sinh(y)))
    return -log_2cosh(slices * theta).sum(axis=1) / problem.beta


def _engine(engine: str, update: str, instruction_set: str | None) -> str:
    """The engine that "auto" stands for, and a refusal of one that cannot be had."""
    choice("engine", engine, ("auto", "native", "numpy"))
    loaded = None if engine == "numpy" else library.load()
    if loaded is not None:
        loaded.choose(instruction_set)
        return "native"
    if engine == "native":
        raise ValueError(f"engine: 'native' is not available, {library.reason()}; use 'numpy'")
    if update != "worldline":
        raise ValueError(f"update: {update!r} needs the compiled kernel; use 'worldline', or install it")
    return "numpy"


class _Twin:
    """The same ensemble and the same moves in NumPy, all reads at once: slow, and easy to read.

    Spins are ``(n, r, chains)``. Draws are SplitMix64 of a counter, from a seed for each read.
    """

    def __init__(self, problem: Problem, slices: int, reads: int, seed: int) -> None:
        self.problem, self.reads, self.slices = problem, reads, slices
        count, n = problem.biases.shape
        self.unit = problem.beta / slices
        self.biases = np.repeat(problem.biases.T, reads, axis=1)
        self.coupling = np.zeros((n, n))
        first, second = problem.graph.edges.T
        self.coupling[first, second] = self.coupling[second, first] = problem.couplings
        systems, numbers = (index.ravel().astype(np.uint64) for index in np.indices((count, reads)))
        self.state = _mixed(_mixed(np.full(1, seed, dtype=np.uint64) + _GOLDEN) ^ systems) ^ numbers
        self.z = np.ones((n, slices, count * reads))

    def run(
        self, fields: Floats, scales: Floats, sweeps_a_step: int, sweeps: int
    ) -> tuple[Counts, Counts, Floats]:
        """As ``SQASampler._run``."""
        first, second = self.problem.graph.edges.T
        n, _, chains = self.z.shape
        z = np.zeros((n, chains))
        zz = np.zeros((len(first), chains))
        work, before = np.zeros(chains), 0.0
        for h in range(n):
            self.draw(h, fields[0], 0.0)
        for field, scale in zip(fields, scales, strict=True):
            overlaps = (self.z[first] * self.z[second]).sum(axis=1)
            work += (scale - before) * self.unit * (self.problem.couplings @ overlaps)
            for _ in range(sweeps_a_step):
                self.sweep(field, scale)
            before = scale
        for _ in range(sweeps):
            self.sweep(fields[-1], scales[-1])
            z += self.z.sum(axis=1)
            zz += (self.z[first] * self.z[second]).sum(axis=1)
        shape = (len(self.problem.biases), self.reads)
        sums = (values.T.reshape(*shape, len(values)).astype(np.int32) for values in (z, zz))
        return next(sums), next(sums), work.reshape(shape)

    def sweep(self, field: float, scale: float) -> None:
        """Every world line, then all spins at once."""
        for h in range(len(self.z)):
            self.draw(h, field, scale)
        self.z *= self.signs(2 * self.unit * (self.biases * self.z.sum(axis=1)).sum(axis=0))

    def draw(self, h: int, field: float, scale: float) -> None:
        """A world line given the other spins: slice 0 from the closed chain, then each slice given the last."""
        local = 2 * self.unit * (self.biases[h] + scale * np.tensordot(self.coupling[h], self.z, 1))
        odds = np.exp(np.clip(local, -20.0, 20.0))
        t = math.tanh(self.problem.beta * field / self.slices)
        step = np.array([[1.0, t], [t, 1.0]])
        chains = odds.shape[1]
        behind = np.repeat(step[:, :, None], chains, axis=2)  # by the spin of a slice and that of slice 0
        weights = np.empty((self.slices, 2, 2, chains))
        for k in reversed(range(self.slices)):
            behind[0] *= odds[k]
            behind /= behind.sum(axis=(0, 1))
            weights[k] = behind
            behind = np.tensordot(step, behind, 1)
        each = np.arange(chains)
        closed = (self.uniform() * (weights[0, 0, 0] + weights[0, 1, 1]) >= weights[0, 0, 0]).astype(np.int64)
        last = closed
        for k in range(self.slices):
            if k:
                up, down = (
                    step[0, last] * weights[k, 0, closed, each],
                    step[1, last] * weights[k, 1, closed, each],
                )
                last = (self.uniform() * (up + down) >= up).astype(np.int64)
            self.z[h, k] = 1.0 - 2.0 * last

    def signs(self, log_odds: Floats) -> Floats:
        """+1 or -1 by heat bath."""
        odds = np.exp(np.clip(log_odds, -20.0, 20.0))
        return np.where(self.uniform() * (1.0 + odds) < odds, 1.0, -1.0)

    def uniform(self) -> Floats:
        """One number between 0 and 1 for each chain."""
        self.state = self.state + _GOLDEN
        bits: Any = _mixed(self.state) >> np.uint64(11)
        return (bits.astype(np.float64) + 0.5) * 2.0**-53


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(x: Any) -> Any:
    """SplitMix64's output function (S. Vigna, public domain)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
