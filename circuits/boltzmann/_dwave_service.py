"""D-Wave's solvers as the submitter sees them, through the REST part of dwave-cloud-client.

A problem is submitted under its tag as label, and found by it. Whatever the client raises becomes one line of our own
without credentials, and without the client's exception behind it, whose frames hold them.

A problem cannot be given a time after which it stops: what it costs follows from its reads and times, which are in it.
"""

from __future__ import annotations

import configparser
import json
import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import dimod

from circuits.backends.protocol import Usage
from circuits.boltzmann.timing import qpu_time
from circuits.journal import Intent, Job, content_key
from circuits.redaction import hide, redacted, warn_if_readable
from circuits.submission import Busy, JobFailed, Refused, Spending, Submitter

T = TypeVar("T")

TOKEN = "DWAVE_API_TOKEN"
_PROBLEM, _PROBLEMS = "application/vnd.dwave.sapi.problem+json", "application/vnd.dwave.sapi.problems+json"
_VERSIONS = ">=2.1,<3"
_REFUSALS = {400, 401, 403, 404, 413, 422}
"""Answers after which there is no problem."""
_BUSY = 429
_STATUS = {
    "PENDING": "queued",
    "IN_PROGRESS": "running",
    "COMPLETED": "done",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
}
_MOST_LISTED = 1000


class DWaveService:
    """Runs problems on the solvers of an account.

    Args:
        config: of the client that opened the solver, ``Client.config``.
    """

    def __init__(self, config: Any) -> None:
        from dwave.cloud.api import Problems

        self._problems = safely(lambda: Problems.from_config(config), "connect")

    def submit(self, payload: dict[str, Any], tag: str, seconds: float) -> str:
        """Submit a problem under a label; see ``circuits.submission.Service``."""
        body = json.dumps([{**payload, "label": tag}])
        found = self._ask(
            "submit", _PROBLEMS, "post", "", data=body, headers={"Content-Type": "application/json"}
        )
        (answer,) = json.loads(found)
        if "error_code" in answer:
            line = redacted(str(answer.get("error_msg")))[:200]
            problem = Refused if answer["error_code"] in _REFUSALS else ConnectionError
            raise problem(f"dwave submit: {line}")
        return str(answer["id"])

    def find(self, tag: str, since: float) -> list[Job]:
        """All problems under a label; see ``circuits.submission.Service``."""
        found = self._ask("find", _PROBLEMS, "get", "", params={"label": tag, "max_results": _MOST_LISTED})
        jobs = [_job(status) for status in json.loads(found) if status.get("label") == tag]
        return sorted((job for job in jobs if job.created >= since), key=lambda job: (job.created, job.id))

    def look(self, job_id: str) -> Job:
        """A problem as it is now, with the seconds that its answer says."""
        return _job(json.loads(self.fetch_whole(job_id)))

    def fetch(self, job_id: str) -> bytes:
        """The raw reply; empty where there is no answer in it."""
        raw = self.fetch_whole(job_id)
        return raw if json.loads(raw).get("answer") else b""

    def fetch_whole(self, job_id: str) -> bytes:
        """What the service says of a problem, as it comes."""
        return self._ask("fetch", _PROBLEM, "get", job_id)

    def cancel(self, job_id: str) -> None:
        """Stop a problem; one that is final is left."""
        with suppress(Refused):
            self._ask("cancel", _PROBLEM, "delete", job_id)

    def remaining(self) -> float | None:
        """Not said by this service."""
        return None

    def _ask(self, what: str, media: str, verb: str, path: str, **options: Any) -> bytes:
        def ask() -> bytes:
            session = self._problems.session
            session.set_accept(media_type=media, accept_version=_VERSIONS)
            try:
                return bytes(getattr(session, verb)(path, **options).content)
            finally:
                session.unset_accept()

        return safely(ask, what)


@dataclass(eq=False, slots=True)
class _Request:
    """A problem that is to be paid."""

    intent: Intent
    payload: dict[str, Any]
    known: bool = False
    usage: Usage = field(default_factory=Usage)


class PaidSolver(dimod.Sampler, dimod.Structured):  # type: ignore[misc]
    """A solver all of whose problems go through a journal: written down, submitted together, replayed.

    ``begin``, then ``sample`` as often as wanted, then ``send``; the sample sets fill when they are looked at. What
    decides an answer, and so its key, is the problem on the qubits with all its parameters (embedding, scale and
    chains are in it), the solver, the seed and the number of the problem within the request.

    Args:
        child: ``dwave.system.DWaveSampler``, or what has one at the bottom.
        solver: of dwave-cloud-client.
        spending: journal and budget.
    """

    nodelist = edgelist = parameters = properties = None

    def __init__(self, child: Any, solver: Any, spending: Spending) -> None:
        self.nodelist, self.edgelist = child.nodelist, child.edgelist
        self.properties, self.parameters = child.properties, child.parameters
        self.solver, self.spending = solver, spending
        hide(getattr(solver.client.config, "token", None))
        service = DWaveService(solver.client.config)
        self._submitter = Submitter(spending.journal, service, spending.budget, spending.waits)
        self._requests: list[_Request] = []
        self._seed = 0

    def begin(self, seed: int) -> None:
        """A request of several problems begins."""
        self._seed, self._requests = seed, []

    def sample(self, bqm: Any, num_reads: int = 1, **parameters: Any) -> Any:
        """A sample set of a spin model on the qubits, which is filled after ``send``."""
        from dwave.cloud.coders import encode_problem_as_qp

        parameters.pop("label", None)
        if not self.solver.check_problem(bqm.linear, bqm.quadratic):
            raise ValueError(f"its graph is not that of {self.solver.id}")
        payload = {
            "solver": self.solver.id,
            "type": "ising",
            "data": encode_problem_as_qp(self.solver, bqm.linear, bqm.quadratic, undirected_biases=True),
            "params": {"num_reads": num_reads, **parameters},
        }
        key = content_key(problem=payload, seed=self._seed, number=len(self._requests))
        name, cap = f"dwave:{self.solver.id}", self._most(len(bqm.linear), num_reads, parameters)
        note = {**payload["params"], "qubits": len(bqm.linear)}
        request = _Request(Intent(key, self.spending.project, name, cap, note=note), payload)
        self._requests.append(request)
        return dimod.SampleSet.from_future(request, self._answer)

    def send(self) -> None:
        """Reserve the budget of all problems and submit them, or none of them.

        Raises:
            OverBudget: together they do not fit; none was sent.
            Refused: the service says no.
        """
        journal, mine = self.spending.journal, []
        try:
            for request in self._requests:
                known = journal.known(request.intent.tag)
                request.known = known is not None and known.state in ("FETCHED", "DONE")
                if not request.known:
                    record, turn = journal.reserve(request.intent, self.spending.budget)
                    if turn and record.state == "RESERVED":
                        mine.append(record.tag)
            for request in self._requests:
                with suppress(JobFailed):  # of another time; whoever waits for it decides
                    self._submitter.start(request.intent, partial(dict, request.payload))
        except BaseException:
            for tag in mine:
                if journal.record(tag).state == "RESERVED":
                    journal.failed(tag, "not sent: others of its request were not")
            raise

    @property
    def usage(self) -> Usage:
        """What the problems since ``begin`` added; nothing is paid again that comes from the journal."""
        return sum((request.usage for request in self._requests), Usage())

    def _most(self, qubits: int, reads: int, parameters: dict[str, Any]) -> float:
        """Seconds that a problem can cost: by the documented formula, or the solver's own where that is more."""
        anneal = float(parameters.get("annealing_time", 20.0))
        most = qpu_time(1, reads, qubits=max(qubits, 1), anneal=anneal * 1e-6)
        if "problem_timing_data" not in self.solver.properties:
            return most.high
        own = self.solver.estimate_qpu_access_time(qubits, num_reads=reads, annealing_time=anneal) * 1e-6
        return max(most.high, float(own) + most.high - most.low)

    def _answer(self, request: _Request) -> Any:
        record, raw = self._submitter.answer(request.intent, partial(dict, request.payload))
        try:
            found = _decoded(raw)
        except Exception as error:
            place = self.spending.journal.replies / record.tag
            why = f"cannot be read ({type(error).__name__}); it is {place}"
            problem = f"{record.tag}: the reply of {record.job_id} {why}"
        else:
            if record.state != "DONE":
                self.spending.journal.done(record.tag)
            ids = () if record.job_id is None else (record.job_id,)
            request.usage = Usage(job_ids=ids)
            if not request.known:
                jobs = self.spending.journal.jobs(record.tag)
                paid = math.fsum(job["seconds"] or 0.0 for job in jobs)
                request.usage = Usage(jobs=len(jobs), job_ids=ids, qpu_seconds=paid)
            found.info.update(problem_id=record.job_id, replayed=request.known)
            return found
        raise JobFailed(problem)


def solver_of(child: Any) -> Any:
    """The solver of dwave-cloud-client at the bottom of composites, None where there is none."""
    while getattr(child, "solver", None) is None and getattr(child, "children", None):
        child = child.children[0]
    return getattr(child, "solver", None)


def hide_credentials() -> None:
    """Hide the tokens that the client may read, before it does; warn where a file with one can be read by others."""
    from dwave.cloud.config.loaders import get_configfile_paths

    hide(os.environ.get(TOKEN))
    named = os.environ.get("DWAVE_CONFIG_FILE")
    for path in [named] if named else get_configfile_paths():
        parser = configparser.ConfigParser(interpolation=None)
        with suppress(configparser.Error, OSError, UnicodeDecodeError):  # the client will say so
            parser.read(path)
        tokens = [section["token"] for section in parser.values() if section.get("token")]
        hide(*tokens)
        if tokens:
            warn_if_readable(path)


def safely(ask: Callable[[], T], what: str) -> T:
    """What the client answers, or one error of our own: no credentials in it, and none of its frames behind it.

    Raises:
        Refused: the service says no.
        Busy: the service takes no problem now.
        ConnectionError: anything else; what happened is open.
    """
    problem: Exception
    try:
        return ask()
    except Exception as error:
        answer = getattr(error, "response", None)
        code = getattr(answer, "status_code", None)
        line = redacted(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
        way = f"; check {TOKEN}" if code in (401, 403) else ""
        kind = Refused if code in _REFUSALS else ConnectionError
        problem = kind(f"dwave {what}: {line}{way}")
        if answer is not None and code == _BUSY and what == "submit":  # a read is asked again as it is
            after = str(answer.headers.get("Retry-After") or "")
            problem = Busy(str(problem), float(after) if after.isdigit() else None)
    raise problem


def _job(status: dict[str, Any]) -> Job:
    """The service's problem in our terms. One that was cancelled before it ran has no timing and costs nothing."""
    state = _STATUS.get(str(status["status"]), str(status["status"]).lower())
    timing = (status.get("answer") or {}).get("timing") or {}
    access = timing.get("qpu_access_time")
    seconds = None if access is None else float(access) * 1e-6
    if state == "cancelled" and seconds is None:
        seconds = 0.0
    created = datetime.fromisoformat(str(status["submitted_on"]).replace("Z", "+00:00")).timestamp()
    reason = status.get("error_message")
    return Job(
        str(status["id"]), state, created, seconds, None if reason is None else redacted(str(reason))[:300]
    )


def _decoded(raw: bytes) -> Any:
    """The sample set in a raw reply, on the qubits."""
    from dwave.cloud.coders import decode_qp_numpy

    answer = decode_qp_numpy(json.loads(raw))
    qubits = [int(qubit) for qubit in answer["active_variables"]]
    return dimod.SampleSet.from_samples(
        (answer["solutions"][:, qubits], qubits),
        "SPIN",
        energy=answer["energies"],
        num_occurrences=answer["num_occurrences"],
        info={"timing": answer["timing"]},
    )
