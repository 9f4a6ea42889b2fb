"""A quantum annealer as sampler, through dwave-system.

What an annealer returns is no thermal ensemble of known field and temperature. Its reads freeze out somewhere along
the anneal, so Gamma and beta of the machine are *virtual* here: hyperparameters that say how the reads are used (the
closed part of the free energy, the scale of the problem), not what the processor did. Moments are plain averages
over reads. Stacking independent reads as Trotter slices, as the literature does, leaves those averages as they are
and ignores what couples neighbouring slices; it is a heuristic, and so is every free energy made of such reads. The
estimator's name says so in every result.

Seconds on the processor come from the answer's own timing fields and from nowhere else, and only a solver of
dwave-cloud-client with an identity counts as hardware; ``circuits.boltzmann.timing.qpu_time`` predicts what calls
would take.

Hardware costs money. Its problems go through the journal of ``circuits.journal`` under a budget, and without one none
is submitted and no connection is opened. What stands in for hardware is free.
"""

from __future__ import annotations

import math
import os
import re
import time
import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from circuits.backends.protocol import Usage
from circuits.boltzmann.embeddings import Embeddings
from circuits.boltzmann.graphs import Graph
from circuits.boltzmann.integration import inner_problems, integrate
from circuits.boltzmann.ocean import spin_model
from circuits.boltzmann.protocol import Problem, Thermal, check_setting, draw_seed, log_2cosh
from circuits.boltzmann.reads import Floats, Spins, averages, moments, pairs
from circuits.boltzmann.timing import Timing
from circuits.gates import choice, integer
from circuits.journal import OverBudget
from circuits.redaction import hide, redacted
from circuits.submission import JobFailed, Refused, Spending, StillRunning

Estimator = Literal["integration", "mean_energy", "stacked"]

ESTIMATORS = ("integration", "mean_energy", "stacked")
FEW_READS = 10
"""Below so many configurations an entropy from their counts says next to nothing; with one it is 0."""
_HEURISTIC = "heuristic: virtual field and temperature"


@dataclass(frozen=True, slots=True)
class Submission:
    """How the latest request was put on the processor, one entry for each state.

    Attributes:
        scale: factor on biases and couplings.
        chain_strength: strength of the chains, after scaling.
        chain_breaks: fraction of chains that were broken, a mean over reads; 0 where none is longer than one qubit.
        qubits: qubits used.
        chain_length: the longest chain.
    """

    scale: tuple[float, ...]
    chain_strength: tuple[float, ...]
    chain_breaks: tuple[float, ...]
    qubits: int
    chain_length: int


class DWaveSampler:
    """Moments from reads of a quantum annealer, or of whatever samples in its place.

    A minor embedding is found once for each pair of machine and processor. All states of a request, and all
    ensembles of a free energy, are submitted before the first answer is waited for. Copies share the connection, the
    embeddings and the timing. A token is read by dwave-system alone, from ``DWAVE_API_TOKEN`` or its own file.

    A request to hardware is written into a journal before it is sent, with the seed as part of what it is found by:
    whoever asks the same with the same seed gets the answer that was paid for, or waits for the one that is on its way.

    Biases and couplings of a state go to the processor times a scale: ``beta / effective_beta``, or 1 where no
    effective beta is known, lowered where a bias, coupling or chain would leave the processor's range. It is in
    ``latest``, and the same in all ensembles of a free energy. The processor's own scaling is switched off.

    Args:
        solver: name of a solver; None is the one with most qubits.
        child: a structured dimod sampler to use in place of a solver.
        reads: configurations a state; an annealer reads ``reads`` times ``slices`` times for it.
        slices: reads that are stacked as Trotter slices; only the estimator "stacked" looks at it.
        anneal_time: microseconds of one anneal.
        effective_beta: inverse temperature at which the processor appears to sample, in its own unit of energy.
        chain_strength: chains relative to the couplings' root mean square times the root of the mean degree.
        estimator: of the free energy. "integration" goes from the machine without couplings, see
            ``circuits.boltzmann.integration``, and is consistent with the moments as gradients; "mean_energy" is
            <H> without field and entropy, from the reads that are there; "stacked" is the free energy of the stacked
            configurations with the plug-in entropy, which cannot exceed ln(reads) and is biased low, without its
            bias in the standard error; below 10 reads it warns.
        nodes: inner ensembles of the integration.
        cache: JSON file that keeps embeddings; None keeps them in memory.
        embedding_seed: of the search for an embedding.
        spending: journal and budget; without them hardware is refused.

    Attributes:
        spending: as given; may be set later.
        timing: seconds on the processor so far, or that they are synthetic.
        latest: how the latest request was put on the processor; None before the first.

    Raises:
        TypeError: a count is no integer.
        ValueError: an option is out of range, or dwave-system is not installed.

    Source: virtual field and temperature, stacked reads: arXiv:1706.00074; chain strength: "uniform torque
        compensation" of dwave-system.
    """

    name = "dwave"
    exact = False

    def __init__(
        self,
        solver: str | None = None,
        *,
        child: Any = None,
        reads: int = 100,
        slices: int = 1,
        anneal_time: float = 20.0,
        effective_beta: float | None = None,
        chain_strength: float = 1.414,
        estimator: Estimator = "integration",
        nodes: int = 6,
        cache: str | Path | None = None,
        embedding_seed: int = 0,
        spending: Spending | None = None,
    ) -> None:
        if solver is not None and not isinstance(solver, str):
            raise TypeError(f"solver: {solver!r} is not a string; use a name such as 'Advantage_system4.1'")
        if solver is not None and child is not None:
            raise ValueError("child: given beside a solver; give one of them")
        self.solver = solver
        self.reads = integer("reads", reads, 2)
        self.slices = integer("slices", slices, 1)
        check_setting("anneal_time", anneal_time, zero=False)
        if effective_beta is not None:
            check_setting("effective_beta", effective_beta, zero=False)
        check_setting("chain_strength", chain_strength, zero=False)
        self.anneal_time = anneal_time
        self.effective_beta = effective_beta
        self.chain_strength = chain_strength
        self.estimator = choice("estimator", estimator, ESTIMATORS)
        if self.estimator == "stacked" and self.reads < FEW_READS:
            warnings.warn(
                f"reads: an entropy from the counts of {self.reads} configurations cannot exceed ln {self.reads};"
                f" use {FEW_READS} or more",
                UserWarning,
                stacklevel=2,
            )
        self.nodes = integer("nodes", nodes, 0)
        file = None if cache is None else Path(cache)
        self.embeddings = Embeddings(integer("embedding_seed", embedding_seed, 0), file)
        _dwave_system()
        self.spending = spending
        self._child = child
        self._paid: Any = None
        self._opened = child is None
        self._composites: dict[str, Any] = {}
        self._timing: Timing | None = None
        self.latest: Submission | None = None

    def __repr__(self) -> str:
        where = repr(self.solver) if self._opened else type(self._child).__name__
        return (
            f"DWaveSampler({where}, reads={self.reads}, slices={self.slices}, estimator={self.estimator!r})"
        )

    def __copy__(self) -> DWaveSampler:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> DWaveSampler:
        return self

    def __getstate__(self) -> dict[str, Any]:
        # A connection belongs to its process; another one opens it anew, from its own environment.
        return self.__dict__ | {
            "_composites": {},
            "_paid": None,
            "_child": None if self._opened else self._child,
        }

    @property
    def timing(self) -> Timing:
        """Seconds on the processor so far; opens the solver where nothing was asked of it yet."""
        return self._timing or Timing("hardware" if _is_hardware(self._open()) else "synthetic")

    def check(self, graph: Graph, field: float) -> None:
        """Refuse to stack slices without a field, where the coupling between them diverges."""
        if self.estimator == "stacked" and self.slices > 1 and field == 0:
            raise ValueError(
                f"slices: {self.slices}, but without a field slices are all the same; use slices=1"
            )

    def thermal(self, problem: Problem, *, free_energy: bool = True, seed: int | None = None) -> Thermal:
        """Return moments with standard errors; see ``circuits.boltzmann.protocol.Sampler``.

        One execution is one problem submitted: N for moments and for the estimators "mean_energy" and "stacked",
        N (1 + nodes) for "integration". An annealer draws by itself, so that the seed has no effect on what it draws;
        on hardware it tells a new request from one that was asked before. All problems of a request are submitted, or
        none of them where the budget does not hold all.

        Raises:
            OverBudget: on hardware; nothing was sent.
            Refused, JobFailed, StillRunning: on hardware, see ``circuits.submission.Submitter``.
            ValueError: the solver cannot be opened, there is no embedding, more reads than the solver allows, or a
                problem failed; the message is one line and holds no token.
        """
        started = time.perf_counter()
        graph = problem.graph
        self.check(graph, problem.field)
        child = self._ready()
        paid = child if child is self._paid else None
        if paid is not None:
            paid.begin(draw_seed(seed))
        composite = self._composite(graph)
        inner = self.nodes if free_energy and self.estimator == "integration" and len(graph.edges) else 0
        scales, chains = self._scales(problem, child, composite)
        ensembles = [*inner_problems(problem, inner), problem]
        pending = [
            self._submit(child, composite, graph, scale * biases, scale * scaled.couplings, chain)
            for scaled in ensembles
            for biases, scale, chain in zip(scaled.biases, scales, chains, strict=True)
        ]
        if paid is not None:
            paid.send()
        count, total = len(scales), self.reads * self.slices
        spins = np.empty((len(pending), total, graph.n_hidden), dtype=np.int8)
        breaks, ids = [], []
        for number, answer in enumerate(pending):
            spins[number], broken = self._read(answer, number, len(pending))
            breaks.append(broken)
            ids += [str(answer.info["problem_id"])] if "problem_id" in answer.info else []
            if answer.info.get("replayed"):
                continue  # its seconds were counted when they were spent
            timing = Timing.of_answer(answer.info.get("timing", {}), total, _is_hardware(child))
            self._timing = timing if self._timing is None else self._timing + timing
        chain_lengths = [len(chain) for chain in composite.embedding.values()]
        last = slice(len(pending) - count, None)
        self.latest = Submission(
            tuple(scales), tuple(chains), tuple(breaks[last]), sum(chain_lengths), max(chain_lengths)
        )
        z, zz, z_error, zz_error = moments(spins[last], graph.edges)
        energy, error, estimator = (
            self._free_energy(problem, spins, inner) if free_energy else (None, None, "none")
        )
        seconds = time.perf_counter() - started
        usage = Usage(len(pending), len(pending), len(pending) * total, seconds=seconds)
        usage += Usage(jobs=len(ids), job_ids=tuple(ids)) if paid is None else paid.usage
        return Thermal(z, zz, energy, usage, z_error, zz_error, error, estimator)

    def _free_energy(self, problem: Problem, spins: Spins, inner: int) -> tuple[Floats, Floats | None, str]:
        count, edges = len(problem.biases), problem.graph.edges
        work = pairs(spins, edges) @ problem.couplings
        if self.estimator == "integration":
            means, errors = averages(work)
            shape = (inner + 1, count)
            energy, error = integrate(problem, means.reshape(shape), errors.reshape(shape))
            return energy, error, f"thermodynamic integration, {inner} inner ensembles, {_HEURISTIC}"
        energies = -work - np.einsum("nrh,nh->nr", spins, problem.biases)
        if self.estimator == "mean_energy":
            return *averages(energies), f"mean energy, {_HEURISTIC}"
        stacks = spins.reshape(count, self.reads, self.slices, -1)
        energy, error = stacked_free_energy(
            stacks, energies.reshape(count, self.reads, self.slices), problem.field, problem.beta
        )
        return energy, error, f"{self.slices} stacked reads, plug-in entropy, {_HEURISTIC}"

    def _ready(self) -> Any:
        """What samples: the child itself, or hardware behind the journal."""
        child = self._open()
        if not _is_hardware(child):
            return child
        if self.spending is None:
            raise self._refusal()
        if self._paid is None or self._paid.spending is not self.spending:
            from circuits.boltzmann._dwave_service import PaidSolver, solver_of

            self._paid = PaidSolver(child, solver_of(child), self.spending)
            self._composites.clear()
        return self._paid

    def _refusal(self) -> OverBudget:
        return OverBudget(
            f"budget: solver {self.solver or 'of D-Wave'} costs money and has none; give spending, or a child that is"
            " free"
        )

    def _open(self) -> Any:
        if self._child is None:
            if self.spending is None:
                raise self._refusal()
            from circuits.boltzmann._dwave_service import hide_credentials

            hide_credentials()
            options = {} if self.solver is None else {"solver": self.solver}
            try:
                self._child = _dwave_system().DWaveSampler(**options)
            except Exception as error:
                name = redacted(repr(self.solver))
                raise ValueError(
                    f"solver: {name} cannot be opened, {_public(error)}; check DWAVE_API_TOKEN and the name"
                ) from None
        return self._child

    def _composite(self, graph: Graph) -> Any:
        """The child behind a fixed embedding of the graph, made once."""
        if graph.digest not in self._composites:
            child = self._ready()
            embedding = self.embeddings.find(graph, child)
            self._composites[graph.digest] = _dwave_system().FixedEmbeddingComposite(child, embedding)
        return self._composites[graph.digest]

    def _scales(self, problem: Problem, child: Any, composite: Any) -> tuple[list[float], list[float]]:
        """The scale of each state and the chain strength that goes with it."""
        limits = child.properties
        h_most, j_most = (_reach(limits.get(name)) for name in ("h_range", "j_range"))
        # Chains are ferromagnetic, for which processors have a longer range.
        chain_most = -min(limits.get("extended_j_range", limits.get("j_range", (-math.inf,))))
        wanted = 1.0 if self.effective_beta is None else problem.beta / self.effective_beta
        couplings, n = problem.couplings, problem.graph.n_hidden
        chain = 0.0
        if max(len(chain) for chain in composite.embedding.values()) > 1 and len(couplings):
            chain = self.chain_strength * math.sqrt(float(np.mean(couplings**2)) * 2 * len(couplings) / n)
        scales = []
        for biases in problem.biases:
            sizes = (float(np.abs(biases).max()), float(np.abs(couplings).max(initial=0.0)), chain)
            bounds = zip((h_most, j_most, chain_most), sizes, strict=True)
            scales.append(min([wanted, *(most / size for most, size in bounds if size > 0)]))
        return scales, [scale * chain for scale in scales]

    def _submit(
        self, child: Any, composite: Any, graph: Graph, biases: Floats, couplings: Floats, chain: float
    ) -> Any:
        total = self.reads * self.slices
        most = child.properties.get("num_reads_range", (1, math.inf))[1]
        if total > most:
            raise ValueError(f"reads: {total} are more than the solver's {most}; lower reads or slices")
        # Raw answers keep each read apart; the processor's own scaling would make the recorded one wrong.
        options = {
            "answer_mode": "raw",
            "auto_scale": False,
            "annealing_time": self.anneal_time,
            "label": "hybrid-qrl",
        }
        known = {name: value for name, value in options.items() if name in child.parameters}
        model = spin_model(biases, couplings, graph)
        try:
            return composite.sample(model, num_reads=total, chain_strength=chain, **known)
        except Exception as error:
            raise ValueError(f"solver: a problem was refused, {_public(error)}; check the solver") from None

    def _read(self, answer: Any, number: int, count: int) -> tuple[Spins, float]:
        """Wait for an answer; return its reads, ``(reads, n_hidden)``, and the fraction of broken chains."""
        total = self.reads * self.slices
        try:
            record, order = answer.record, list(answer.variables)
        except (OverBudget, Refused, JobFailed, StillRunning):
            raise
        except Exception as error:
            raise ValueError(
                f"solver: problem {number + 1} of {count} failed, {_public(error)}; ask again"
            ) from None
        rows = np.repeat(record.sample, record.num_occurrences, axis=0)
        if len(rows) != total:
            raise ValueError(f"solver: {len(rows)} reads came back of {total}; ask again")
        spins = np.empty(rows.shape, dtype=np.int8)
        spins[:, order] = rows
        return spins, float(np.average(record.chain_break_fraction, weights=record.num_occurrences))


def stacked_free_energy(stacks: Spins, energies: Floats, field: float, beta: float) -> tuple[Floats, Floats]:
    """Return the replica free energy of stacked reads with the plug-in entropy, and its standard error, ``(N,)``.

    F_r = <H_eff> + (1/beta) sum_c P(c) ln P(c) - (1/beta) ln C, with P(c) the frequency of configuration c among the
    stacks; the standard error is that of <H_eff>.

    Args:
        stacks: ``(N, configurations, slices, n_hidden)``.
        energies: of each slice, -sum b z - sum J z z, ``(N, configurations, slices)``.
        field, beta: of the machine; without a field there must be one slice.

    Source: arXiv:1706.00074, with the constant C = (sinh(2 Gamma beta / r) / 2)^(N r / 2) that is left out there.
    """
    _, configurations, slices, units = stacks.shape
    effective = energies.mean(axis=2)
    if slices == 1:
        # The coupling of a slice with itself is a constant and, with C, stays finite without a field.
        effective = effective - units / beta * (log_2cosh(beta * field) - math.log(2.0))
    else:
        step = beta * field / slices
        coupling = -math.log(math.tanh(step)) / (2.0 * beta)
        bonds = (stacks * np.roll(stacks, -1, axis=2)).sum(axis=(2, 3), dtype=np.float64)
        # ln(sinh(2 step) / 2) without overflow.
        constant = (
            units * slices / 2.0 * (2.0 * step + math.log1p(-math.exp(-4.0 * step)) - 2.0 * math.log(2.0))
        )
        effective = effective - coupling * bonds - constant / beta
    entropies = []
    for rows in stacks.reshape(len(stacks), configurations, -1):
        _, counts = np.unique(rows, axis=0, return_counts=True)
        entropies.append(math.log(configurations) - float(counts @ np.log(counts)) / configurations)
    mean, error = averages(effective)
    return mean - np.array(entropies) / beta, error


def _is_hardware(child: Any) -> bool:
    """Whether the sampler at the bottom of composites is a solver of dwave-cloud-client with an identity."""
    from dwave.cloud.solver import StructuredSolver

    from circuits.boltzmann._dwave_service import solver_of

    solver = solver_of(child)
    return isinstance(solver, StructuredSolver) and bool(solver.id) and bool(solver.qpu)


def _reach(limits: Any) -> float:
    """The largest magnitude that a range allows with either sign."""
    return math.inf if limits is None else min(-limits[0], limits[1])


def _public(error: Exception) -> str:
    """An error in one short line from which everything that looks like a token is gone."""
    hide(os.environ.get("DWAVE_API_TOKEN"))
    text = redacted((str(error).strip() or "no message").splitlines()[0])
    text = re.sub(r"\b(?:[A-Za-z0-9]+-)?[0-9A-Fa-f]{32,}\b", "<hidden>", text)
    return f"{type(error).__name__}: {text[:160]}"


def _dwave_system() -> Any:
    try:
        # It imports a package of the same vendor that warns of its own end.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module("dwave.system")
    except ImportError:
        raise ValueError(
            "sampler: 'dwave' needs dwave-system, which is not installed; pip install 'hybrid-qrl[dwave]'"
        ) from None
