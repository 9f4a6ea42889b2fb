"""The ``ibm`` backend: machines of IBM's cloud, through their estimator and sampler, every second of them on purpose.

``ibm:NAME`` is a machine by its name. A request is one job: a circuit that is transpiled once, all observables, all
rows of angles, those of a gradient included. Jobs are carried by :class:`circuits.submission.Submitter`, so that none
is lost or paid twice, and nothing is sent without a budget. What was answered once comes from the journal, without a
connection.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from circuits.backends._ibm_service import TOKEN, IBMService, Request, decode
from circuits.backends.aer import outcome_table
from circuits.backends.primitive import Floats, PubBackend, estimated
from circuits.backends.protocol import Capabilities, Usage, count_settings
from circuits.circuit import Circuit
from circuits.device_time import CIRCUIT_SECONDS, Estimate, job_seconds
from circuits.gates import choice, integer
from circuits.journal import Intent, OverBudget, Record, content_key
from circuits.observables import Observable, commuting_groups
from circuits.submission import JobFailed, Service, Spending, Submitter

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2

Mode = Literal["job", "batch", "session"]

_TARGET = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MAX_TARGET = 40
_REPETITIONS = 8
"""Of one request that are looked at for what it cost."""
_TWIRLS, _SHOTS_OF_A_TWIRL, _NOISE_FACTORS = 32, 64, 3

MAX_EXECUTION_SECONDS = 10_800
"""What IBM allows a job at most, three hours."""
MAX_EXECUTIONS = 10_000_000
"""Circuits times shots of a job."""


@dataclass(frozen=True, slots=True)
class IBMOptions:
    """How jobs run; written down with every result.

    Attributes:
        mode: ``job`` is one job after the other; ``batch`` keeps them together in the queue; ``session`` reserves the
            machine, which is paid for by the clock, also between jobs.
        max_time: seconds after which a session or batch closes by itself; a session needs it.
        primitive: ``estimator``, or ``sampler``, which reads bit strings and mitigates nothing. One shot is always read
            by the sampler.
        resilience_level: of the estimator; 0 none, 1 of readout, 2 of gates too.
        dynamical_decoupling: whether idle qubits are decoupled.
        twirling: of gates; None as the resilience level has it.
        max_execution_seconds: after which the machine stops a job; None: half as long again as estimated, and two.
        private: refused: such a result can be read once only.

    Raises:
        TypeError, ValueError: the first option out of range.
    """

    mode: Mode = "job"
    max_time: int | None = None
    primitive: Literal["estimator", "sampler"] = "estimator"
    resilience_level: int = 1
    dynamical_decoupling: bool = True
    twirling: bool | None = None
    max_execution_seconds: int | None = None
    private: bool = False

    def __post_init__(self) -> None:
        choice("mode", self.mode, ("job", "batch", "session"))
        choice("primitive", self.primitive, ("estimator", "sampler"))
        if self.private:
            raise ValueError("private: True, but a private result can be read only once; leave it False")
        if integer("resilience_level", self.resilience_level, 0) > 2:
            raise ValueError(f"resilience_level: {self.resilience_level} is above 2; use 0, 1 or 2")
        for name in ("dynamical_decoupling", "twirling"):
            if not isinstance(getattr(self, name), bool | None) or (
                name[0] == "d" and self.dynamical_decoupling is None
            ):
                raise TypeError(f"{name}: {getattr(self, name)!r} is neither true nor false; use one of them")
        if self.mode == "session" and self.max_time is None:
            raise ValueError(
                "max_time: None, but a session is paid for by the clock; say when it closes, in seconds"
            )
        for name in ("max_time", "max_execution_seconds"):
            value = getattr(self, name)
            if value is not None and integer(name, value, 1) > MAX_EXECUTION_SECONDS:
                raise ValueError(
                    f"{name}: {value} is above {MAX_EXECUTION_SECONDS}; use whole seconds from 1 on"
                )

    def of(self, primitive: str) -> dict[str, Any]:
        """The client's options of an estimator or sampler."""
        found: dict[str, Any] = {"dynamical_decoupling": {"enable": self.dynamical_decoupling}}
        if primitive == "estimator":
            found["resilience_level"] = self.resilience_level
            if self.twirling is not None:
                found["twirling"] = {"enable_gates": self.twirling}
        return found

    def deciding(self, primitive: str) -> dict[str, Any]:
        """What of this decides an answer, and not only when and how dearly it comes."""
        return {
            "primitive": primitive,
            "sampler_options" if primitive == "sampler" else "options": self.of(primitive),
        }

    def executions(self, primitive: str, circuits: int, shots: int) -> int:
        """Circuits times shots that a job of this many circuits, of this many shots each, runs.

        Source: the client's own division of shots over random twirls, and its readout calibration, which is one more
            circuit; noise factors 1, 3 and 5 at level 2.
        """
        if primitive == "sampler" or not circuits:
            return circuits * shots
        drawn = shots
        if self.resilience_level >= 1 or self.twirling:
            each = max(_SHOTS_OF_A_TWIRL, math.ceil(shots / _TWIRLS))
            drawn = each * math.ceil(shots / each)
        factors = _NOISE_FACTORS if self.resilience_level == 2 else 1
        return drawn * (circuits * factors + (self.resilience_level >= 1))


class IBMBackend(PubBackend):
    """Evaluates circuits on a machine of IBM's.

    Args:
        target: the machine's name.
        spending: journal and budget; without them every request is refused.
        options: how jobs run, as ``IBMOptions`` or its fields by name.
        service: in place of IBM's own, for other services with the same estimator; see ``circuits.submission.Service``.

    Attributes:
        spending: as given; may be set later.
        requests: the journal's records of the requests so far, in order.

    Raises:
        ValueError: no name, or an option out of range.

    Source: own construction on qiskit-ibm-runtime's primitives.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        spending: Spending | None = None,
        options: IBMOptions | Mapping[str, Any] | None = None,
        service: Service | None = None,
    ) -> None:
        super().__init__()
        if not target:
            raise ValueError("backend: 'ibm' needs the name of a machine; write for example 'ibm:ibm_torino'")
        if len(target) > _MAX_TARGET or not _TARGET.fullmatch(target):
            # what is no name may be a credential that went astray, and is not repeated
            raise ValueError(
                "backend: what follows 'ibm:' is no name of a machine; write for example 'ibm:ibm_torino', and leave"
                f" credentials to the environment variable {TOKEN}"
            )
        self.target, self.name = target, f"ibm:{target}"
        self.spending = spending
        self.options = options if isinstance(options, IBMOptions) else make_options(options or {})
        self.capabilities = Capabilities(
            False,
            False,
            True,
            (torch.float32, torch.float64),
            None,
            remote=True,
            joint_shots=self.options.primitive == "sampler",
            single_shots=True,
        )
        self.requests: list[Record] = []
        self._given = service
        self._service: Service | None = None

    def estimate(
        self, circuit: Circuit, observables: Sequence[Observable], rows: int, shots: int
    ) -> Estimate:
        """What one request would take, without a connection; see ``circuits.device_time``.

        Depth, gates and duration are those on the recorded machine of that name, where there is one.

        Args:
            circuit: the circuit.
            observables: what is measured.
            rows: samples.
            shots: of each sample and measurement setting.
        """
        circuits = rows * count_settings(circuit, observables)
        executions = self.options.executions(self._primitive(shots), circuits, shots)
        recorded = self._recorded()
        if recorded is None:
            source = f"modelled; nothing is recorded of {self.target}"
            return Estimate(executions, shots, job_seconds(executions), None, None, source)
        depth, gates, seconds = circuit.memo(
            ("on a recorded machine", self.target), lambda found: _shape_on(found, recorded)
        )
        source = f"modelled, circuit as on the recorded {recorded.name}"
        return Estimate(executions, shots, job_seconds(executions, seconds), depth, gates, source)

    def remaining(self) -> float | None:
        """Seconds that the account has left, None where it does not say; opens a connection.

        Raises:
            Refused: no credentials, or no such machine.
        """
        return self.submitter().service.remaining()

    def describe(self, circuit: Circuit) -> dict[str, Any]:
        """What is known of where the latest request ran: layout, depth, gates, calibration, mode and options."""
        return dict(self.requests[-1].intent.note) if self.requests else {}

    def cancel(self, tag: str) -> float:
        """Stop the jobs of a request and charge what they cost, in seconds; see ``Submitter.cancel``."""
        return self.submitter().cancel(tag)

    def __getstate__(self) -> dict[str, Any]:
        """Without the connection, which holds credentials; a copy opens its own."""
        return {**self.__dict__, "_service": None}

    def __deepcopy__(self, _: Any) -> IBMBackend:
        """Itself: copies of a network ask through one connection."""
        return self

    def close(self) -> None:
        """Close the session or batch, if one is open."""
        if isinstance(self._service, IBMService):
            self._service.close()

    # ------------------------------------------------------------------ inside

    def _machine(self) -> BackendV2 | None:
        service = self.submitter().service
        return service.machine if isinstance(service, IBMService) else None

    def submitter(self) -> Submitter:
        """What carries its jobs; opens no connection by itself.

        Raises:
            OverBudget: nothing may be spent.
        """
        if self.spending is None:
            raise OverBudget(
                f"budget: {self.name} costs money and has none; use qrl submit with --budget-seconds, or give spending"
            )
        if self._service is None:
            self._service = self._given or IBMService(self.target, self.options, self.spending)
        journal, budget, waits = self.spending.journal, self.spending.budget, self.spending.waits
        return Submitter(journal, self._service, budget, waits, self.spending.repeat_failed)

    def _ask(
        self,
        circuit: Circuit,
        observables: Sequence[Observable],
        angles: Floats,
        shots: int | None,
        seed: int | None,
    ) -> tuple[Floats, Floats, Usage]:
        assert shots is not None
        submitter = self.submitter()
        if not np.isfinite(angles).all():
            row, column = np.argwhere(~np.isfinite(angles))[0]
            raise ValueError(
                f"parameters: angle {column} of sample {row} is not finite; check what it is made of"
            )
        drawn = int(torch.randint(2**31 - 1, ()).item()) if seed is None else seed
        primitive = self._primitive(shots)
        estimate = self.estimate(circuit, observables, len(angles), shots)
        if estimate.executions > MAX_EXECUTIONS:
            raise ValueError(
                f"shots: {shots} for {len(angles)} samples are {estimate.executions} executions and a job has at most"
                f" {MAX_EXECUTIONS}; ask for less"
            )
        settings = {"shots": shots, "rows": len(angles), **asdict(self.options), "primitive": primitive}
        # The machine's calibration is no part of it: what is asked again tomorrow is the same question.
        key = content_key(
            circuit=circuit.digest,
            angles=np.ascontiguousarray(angles, dtype=np.float64),
            observables=[list(map(list, observable.terms)) for observable in observables],
            backend=self.name,
            options=self.options.deciding(primitive),
            shots=shots,
            seed=drawn,
        )
        assert self.spending is not None
        cap = self.options.max_execution_seconds or min(estimate.cap, MAX_EXECUTION_SECONDS)
        intent = Intent(key, self.spending.project, self.name, cap, note=settings)

        journal = submitter.journal
        tags = [replace(intent, repetition=number).tag for number in range(_REPETITIONS)]
        paid_before = {tag for tag in tags if _is_over(journal.known(tag))}

        def payload() -> Request:
            request = self._request(primitive, circuit, observables, angles, shots)
            facts = self._facts(request.pubs[0][0])
            for tag in tags:
                known = journal.known(tag)
                if known is not None and known.live:
                    journal.annotate(tag, **facts)
            return request

        record, raw = submitter.answer(intent, payload)
        try:
            values, errors = self._read(primitive, raw, circuit, observables, shots)
        except (ValueError, KeyError, AttributeError, IndexError) as error:
            raise JobFailed(
                f"{record.tag}: the reply of job {record.job_id} cannot be read ({error}); it is"
                f" {journal.replies / record.tag}"
            ) from None
        if record.state != "DONE":
            journal.done(record.tag)
        self.requests.append(journal.record(record.tag))
        jobs = [job for tag in tags if tag not in paid_before for job in journal.jobs(tag)]
        return values, errors, _usage(record, jobs)

    def _request(
        self, primitive: str, circuit: Circuit, observables: Sequence[Observable], angles: Floats, shots: int
    ) -> Request:
        machine = self._machine()
        if machine is not None and circuit.n_qubits > machine.num_qubits:
            raise ValueError(
                f"n_qubits: {circuit.n_qubits} is too many for {self.name}; use {machine.num_qubits} at most"
            )
        if primitive == "estimator":
            return Request(primitive, [self.pub(circuit, observables, angles)], precision=_precision(shots))
        pubs = []
        for group in commuting_groups(observables):
            whole = self.transpiled(circuit, group.basis)
            columns = [symbol.index for symbol in whole.parameters]
            # without parameters there is no shape to run along
            rows = (angles[:, columns],) if columns else (np.zeros((len(angles), 0)),)
            pubs.append((whole, *rows))
        return Request(primitive, pubs, shots=shots)

    def _read(
        self, primitive: str, raw: bytes, circuit: Circuit, observables: Sequence[Observable], shots: int
    ) -> tuple[Floats, Floats]:
        """Values and standard errors ``(N, n_observables)`` in a raw reply."""
        results = decode(raw)
        if primitive == "estimator":
            return estimated(results[0].data, len(observables), 1.0 / math.sqrt(shots))
        means: Any = 0.0
        variances: Any = 0.0
        for group, result in zip(commuting_groups(observables), results, strict=True):
            bits = result.data.meas.to_bool_array(order="little")
            readings = (bits.astype(np.int64) << np.arange(circuit.n_qubits)).sum(-1)
            values = outcome_table(group, observables, circuit.n_qubits)[readings]
            means = means + values.mean(1)
            missing = np.where(values.any((0, 1)), np.nan, 0.0)
            variances = variances + (values.var(1, ddof=1) / shots if shots > 1 else missing)
        return means, np.sqrt(variances)

    def _facts(self, circuit: QuantumCircuit) -> dict[str, Any]:
        """What shall be known of a transpiled circuit and its machine."""
        layout = circuit.layout
        service = self._service
        return {
            "depth": circuit.depth(),
            "two_qubit_gates": circuit.num_nonlocal_gates(),
            "layout": None if layout is None else list(layout.initial_index_layout(filter_ancillas=True)),
            "calibration": service.calibration() if isinstance(service, IBMService) else None,
            "session_id": service.session_id() if isinstance(service, IBMService) else None,
        }

    def _primitive(self, shots: int) -> str:
        return "sampler" if shots == 1 else self.options.primitive

    def _recorded(self) -> BackendV2 | None:
        """The recorded machine of this name."""
        from circuits.backends.aer import fake_device

        name = self.target.removeprefix("ibm_")
        try:
            return fake_device(f"fake_{name}")
        except ValueError:
            return None


def _precision(shots: int) -> float:
    """What the client makes this many shots of, which takes the next integer above ``1 / precision ** 2``."""
    return (1.0 + 1e-9) / math.sqrt(shots)


def _is_over(record: Record | None) -> bool:
    """Whether a request was answered and counted, or a job failed, before it was asked again."""
    return record is not None and record.job_id is not None and record.state in ("DONE", "FAILED")


def _usage(record: Record, jobs: Sequence[Mapping[str, Any]]) -> Usage:
    """What a request added, by the jobs that were not counted before."""
    return Usage(
        jobs=len(jobs),
        job_ids=() if record.job_id is None else (record.job_id,),
        qpu_seconds=math.fsum(job["seconds"] or 0.0 for job in jobs),
        queue_seconds=math.fsum(job["queued"] or 0.0 for job in jobs),
    )


def make_options(fields: Mapping[str, Any]) -> IBMOptions:
    """Options from their fields by name.

    Raises:
        TypeError, ValueError: the first one that is unknown or out of range.
    """
    for name in fields:
        choice("ibm", name, tuple(IBMOptions.__dataclass_fields__))
    return IBMOptions(**fields)


def _shape_on(circuit: Circuit, machine: BackendV2) -> tuple[int, int, float]:
    """Depth, two-qubit gates and seconds of a circuit on a machine, measurement included."""
    from qiskit import transpile

    from circuits.backends._device import SEED
    from circuits.export import to_qiskit

    plain = to_qiskit(circuit, flat=True)
    plain.measure_all()
    whole = transpile(plain, machine, optimization_level=3, seed_transpiler=SEED)
    try:
        seconds = float(whole.estimate_duration(machine.target))
    except Exception:  # a machine that does not say how long its gates take
        seconds = CIRCUIT_SECONDS
    return whole.depth(), whole.num_nonlocal_gates(), seconds
