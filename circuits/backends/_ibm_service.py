"""IBM's service as the submitter sees it, through qiskit-ibm-runtime; the one place where its classes are named.

Nothing here is imported, and no connection opened, before the first request. Whatever the client raises is turned into
one line of our own without credentials, and without the client's exception behind it, whose frames hold them.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import secrets
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from circuits.journal import Intent, Job, Journal, content_key
from circuits.redaction import hide, redacted, warn_if_readable
from circuits.submission import Busy, Refused, Spending

if TYPE_CHECKING:
    from circuits.backends.ibm import IBMOptions

T = TypeVar("T")

TOKEN, INSTANCE = "QISKIT_IBM_TOKEN", "QISKIT_IBM_INSTANCE"
ACCOUNT_FILE = Path("~/.qiskit/qiskit-ibm.json")
_REFUSALS = {400, 401, 403, 404, 409, 413, 422}
"""Answers after which there is no job."""
_BUSY = 429
_STATUS = {
    "QUEUED": "queued",
    "RUNNING": "running",
    "COMPLETED": "done",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
}
_MAX_TIME_CODE = 1305
_CONNECT_SECONDS = 5.0
_KEPT_JOBS = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """What one job runs.

    Attributes:
        primitive: "estimator" or "sampler".
        pubs: its PUBs.
        precision: of an estimator.
        shots: of a sampler.
    """

    primitive: str
    pubs: list[Any]
    precision: float | None = None
    shots: int | None = None


def primitive_class(name: str) -> Any:
    """The current estimator or sampler class: that which prepares and mitigates in the client, where there is one."""
    try:
        from qiskit_ibm_runtime.executor_estimator import Estimator
        from qiskit_ibm_runtime.executor_sampler import Sampler
    except ImportError:  # later releases give them the top-level names
        from qiskit_ibm_runtime import EstimatorV2 as Estimator
        from qiskit_ibm_runtime import SamplerV2 as Sampler
    return {"estimator": Estimator, "sampler": Sampler}[name]


def decode(raw: bytes) -> Any:
    """The primitive result in a raw reply.

    Raises:
        ValueError: it is none.
    """
    from qiskit_ibm_runtime.decoders.defaults import DEFAULT_DECODERS

    try:
        found: Any = raw.decode("utf-8")
        for decoder in DEFAULT_DECODERS["executor"]:
            if decoder.is_applicable(found):
                found = decoder.decode(found)
        return list(found)
    except Exception as error:
        problem = f"reply: {type(error).__name__} while it was decoded"
    raise ValueError(f"{problem}; the raw reply is kept")


class IBMService:
    """Runs jobs on one machine of IBM's.

    Args:
        device: its name.
        options: how jobs run.
        spending: journal and budget, for sessions, and waits.
    """

    def __init__(self, device: str, options: IBMOptions, spending: Spending) -> None:
        self._device, self._options, self._spending = device, options, spending
        self._journal: Journal = spending.journal
        self._client: Any = None
        self._machine: Any = None
        self._mode: Any = None
        self._session: str | None = None
        self._jobs: dict[str, Any] = {}
        atexit.register(self.close)

    # ------------------------------------------------------------------ the submitter's protocol

    def submit(self, payload: Request, tag: str, seconds: float) -> str:
        """Start a job under a tag; see ``circuits.submission.Service``."""
        machine, mode = self.machine, self._open_mode()

        def start() -> str:
            options = self._options.of(payload.primitive)
            options["environment"] = {"job_tags": [tag]}
            options["max_execution_time"] = int(seconds)
            primitive = primitive_class(payload.primitive)(mode=mode or machine, options=options)
            how = (
                {"precision": payload.precision}
                if payload.primitive == "estimator"
                else {"shots": payload.shots}
            )
            with warnings.catch_warnings():
                # that the account's time is used up is looked at before, and is no warning but a refusal
                warnings.simplefilter("ignore")
                return str(primitive.run(payload.pubs, **how).job_id())

        return safely(start, "submit")

    def find(self, tag: str, since: float) -> list[Job]:
        """All jobs under a tag in every instance of the account; see ``circuits.submission.Service``."""
        after = datetime.fromtimestamp(since)
        _ = self.machine  # whose instance is then the active one
        active = self.client.active_instance()
        others = [entry["crn"] for entry in safely(self.client.instances, "instances")]
        found = []
        for instance in (active, *(other for other in others if other != active)):

            def ask(instance: str = instance) -> list[Any]:
                jobs = self.client.jobs(limit=None, job_tags=[tag], created_after=after, instance=instance)
                return list(jobs)

            try:
                handles = safely(ask, "find")
            except Refused:
                if instance == active:
                    raise
                continue  # an instance that the token may not read: nothing was submitted there
            for handle in handles:
                self._jobs[handle.job_id()] = handle
                found.append(self.look(handle.job_id()))
        if len(others) > 1:
            self._activate()
        return sorted(found, key=lambda job: (job.created, job.id))

    def look(self, job_id: str) -> Job:
        """A job as it is now."""

        def ask() -> Job:
            # The client's own job asks for the results of one that failed, and stumbles where there are none.
            api = self._handle(job_id)._api_client
            told = api.job_get(job_id)
            return _job(job_id, told, lambda: api.job_metadata(job_id))

        return safely(ask, "look")

    def fetch(self, job_id: str) -> bytes:
        """The raw reply."""

        def ask() -> bytes:
            text = self._handle(job_id)._api_client.job_results(job_id)
            return b"" if text is None else str(text).encode("utf-8")

        return safely(ask, "fetch")

    def cancel(self, job_id: str) -> None:
        """Stop a job; one that is final is left."""

        def ask() -> None:
            from qiskit_ibm_runtime.exceptions import RuntimeInvalidStateError

            with suppress(RuntimeInvalidStateError):
                self._handle(job_id).cancel()

        safely(ask, "cancel")

    def remaining(self) -> float | None:
        """Seconds that the account has left, None where it does not say."""

        def ask() -> float | None:
            _ = self.machine  # whose instance is then the active one
            left = self.client.usage().get("usage_remaining_seconds")
            return None if left is None else float(left)

        return safely(ask, "usage")

    # ------------------------------------------------------------------ connection

    @property
    def client(self) -> Any:
        """The connection, opened on first use.

        Raises:
            Refused: there are no credentials, or the service does not take them.
        """
        if self._client is None:
            check_credentials()

            def connect() -> Any:
                from qiskit_ibm_runtime import QiskitRuntimeService

                return QiskitRuntimeService()

            client = safely(connect, "connect")
            hide((client.active_account() or {}).get("token"))
            self._client = client
            self._bound_replies()
            self._close_what_was_left()
        return self._client

    @property
    def machine(self) -> Any:
        """The machine, for what circuits are transpiled.

        Raises:
            Refused: there is no such machine, or it is not at work.
        """
        if self._machine is None:
            client = self.client
            self._machine = safely(lambda: client.backend(self._device), f"machine {self._device}")
            status = safely(self._machine.status, "status")
            if not status.operational:
                self._machine = None
                raise Refused(
                    f"backend: {self._device} is not at work ({status.status_msg}); try another, or later"
                )
        return self._machine

    def calibration(self) -> str | None:
        """When the machine was last calibrated, ISO 8601."""

        def ask() -> str | None:
            found = self.machine.properties()
            return None if found is None else found.last_update_date.isoformat()

        return safely(ask, "calibration")

    def _handle(self, job_id: str) -> Any:
        """The client's own job, which knows in what instance it is."""
        if job_id not in self._jobs:
            if len(self._jobs) > _KEPT_JOBS:
                self._jobs.clear()
            self._jobs[job_id] = self.client.job(job_id)
            self._activate()
        return self._jobs[job_id]

    def _activate(self) -> None:
        """Make the machine's instance the active one again, which looking elsewhere changes."""
        if self._machine is not None:
            client = self._client
            safely(lambda: client.jobs(limit=1, job_tags=["none"], instance=self._machine._instance), "find")
        self._bound_replies()

    def _bound_replies(self) -> None:
        """The client itself waits for ever for a reply of which no byte comes."""
        apis = (*self._client._get_api_clients().values(), self._client._get_api_client())
        for api in apis:
            api._session._timeout = (_CONNECT_SECONDS, self._spending.waits.reply)

    # ------------------------------------------------------------------ sessions

    def _open_mode(self) -> Any:
        """The session or batch of this process, None in job mode.

        A session is a request too: what it can cost is reserved before it is opened.
        """
        if self._options.mode == "job" or self._mode is not None:
            return self._mode
        from qiskit_ibm_runtime import Batch, Session

        machine, most = self.machine, self._options.max_time
        if self._options.mode == "batch":  # which is paid for by its jobs
            self._mode = safely(lambda: Batch(backend=machine, max_time=most), "batch")
            self._journal.event(None, "batch opened", self._mode.session_id)
            return self._mode
        assert most is not None
        intent = Intent(
            content_key(session=secrets.token_hex(16)),
            self._spending.project,
            f"ibm:{self._device}",
            float(most),
            note={"session": True},
        )
        self._journal.reserve(intent, self._spending.budget, self.remaining())
        self._journal.submitting(intent.tag)
        try:
            self._mode = safely(lambda: Session(backend=machine, max_time=most), "session")
        except Exception as error:
            # One that was opened all the same has no jobs, costs nothing, and closes by itself.
            self._journal.failed(intent.tag, str(error))
            raise
        self._session = intent.tag
        self._journal.found(intent.tag, [Job(self._mode.session_id, "running", time.time())])
        return self._mode

    def close(self) -> None:
        """Close the session or batch of this process, if there is one."""
        mode, self._mode = self._mode, None
        if mode is not None:
            with suppress(Exception):  # the next start closes it
                safely(mode.close, "close")
                if self._session is not None:
                    self._settle(self._session, mode.session_id)

    def _settle(self, tag: str, session: str) -> None:
        """A session is closed: charge the time that its jobs did not, which the clock did."""
        record = self._journal.record(tag)
        api = self._client._get_api_client()

        def ask() -> float | None:
            found = api.session_details(session) or {}
            return found.get("elapsed_time")

        open_for = safely(ask, "session")
        if open_for is None:
            open_for = record.intent.seconds
        jobs = (
            job
            for other in self._journal.records(record.intent.project)
            if other.intent.note.get("session_id") == session
            for job in self._journal.jobs(other.tag)
        )
        idle = max(0.0, float(open_for) - sum(job["seconds"] or 0.0 for job in jobs))
        self._journal.charge(Job(session, "done", seconds=idle), idle)
        self._journal.done(tag)

    def session_id(self) -> str | None:
        """Of the session or batch that jobs go into, opened on first use; None in job mode."""
        mode = self._open_mode()
        return None if mode is None else str(mode.session_id)

    def _left_open(self) -> Iterator[tuple[str, str]]:
        for record in self._journal.records():
            ours = record.live and record.intent.note.get("session") and record.tag != self._session
            if ours and record.job_id and self._journal.take_over(record.tag):
                yield record.tag, record.job_id

    def _close_what_was_left(self) -> None:
        """Sessions of processes that ended without closing them are paid by the clock until somebody does."""
        api = self._client._get_api_client()
        for tag, session in self._left_open():
            try:
                with suppress(Refused):  # it is gone already
                    safely(lambda session=session: api.close_session(session), "close")  # type: ignore[misc]
                self._settle(tag, session)
            except Exception as error:
                logging.getLogger("circuits").warning("session %s was left open: %s", session, error)


def check_credentials() -> None:
    """Hide the token that the client will read, and warn where its file can be read by others.

    Raises:
        Refused: there is none.
    """
    token, file = os.environ.get(TOKEN), ACCOUNT_FILE.expanduser()
    if token:
        hide(token)
        return
    if not file.exists():
        raise Refused(
            f"credentials: none; set {TOKEN} and {INSTANCE} in the environment, or try a recorded machine such as"
            " aer:fake_torino"
        )
    with suppress(OSError, ValueError, AttributeError):  # the client will say what is wrong with it
        hide(*(account.get("token") for account in json.loads(file.read_bytes()).values()))
    warn_if_readable(file)


def safely(ask: Callable[[], T], what: str) -> T:
    """What the client answers, or one error of our own: no credentials in it, and none of its frames behind it.

    Raises:
        Refused: the service says no.
        Busy: the service says not now.
        ConnectionError: anything else; what happened is open.
    """
    problem: Exception
    try:
        return ask()
    except Refused:
        raise
    except Exception as error:
        answer = _answer(error)
        code = getattr(answer, "status_code", None)
        line = f"ibm {what}: {_one_line(error)}"
        if code == _BUSY:
            problem = Busy(line, _seconds(answer.headers.get("Retry-After")))
        elif code in _REFUSALS or (code is None and _is_input(error)):
            way = {
                401: f"; check {TOKEN}, then give the same command again",
                403: f"; check {TOKEN} and {INSTANCE}, then give the same command again",
            }.get(code or 0, "")
            problem = Refused(line + way)
        else:
            problem = ConnectionError(line)
    raise problem


def _one_line(error: object) -> str:
    """An error of the client's without credentials and without quotes of quotes."""
    text = getattr(error, "message", None) or str(error)
    return redacted(f"{type(error).__name__}: {' '.join(str(text).split())}")[:300]


def _seconds(text: Any) -> float | None:
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:  # a date
        return None


def _is_input(error: Exception) -> bool:
    """Whether the client itself refused, before anything was sent, or the account."""
    from qiskit.providers.exceptions import QiskitBackendNotFoundError
    from qiskit_ibm_runtime.accounts.exceptions import AccountsError
    from qiskit_ibm_runtime.exceptions import IBMInputValueError, IBMNotAuthorizedError

    refusals = (IBMInputValueError, IBMNotAuthorizedError, AccountsError, QiskitBackendNotFoundError)
    return isinstance(error, (*refusals, TypeError, ValueError)) and not isinstance(error, OSError)


def _answer(error: BaseException | None) -> Any:
    """The HTTP answer behind an exception, which the client keeps at some depth; None where there was none."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for name in ("response", "http_response"):
            response = getattr(error, name, None)
            if isinstance(getattr(response, "status_code", None), int):
                return response
        error = error.__cause__ or error.__context__
    return None


def _job(job_id: str, told: dict[str, Any], metrics: Callable[[], dict[str, Any]]) -> Job:
    """A job in our terms; what it cost is asked for once it is final."""
    state = told.get("state") or {}
    word = str(state.get("status") or told.get("status") or "unknown").upper()
    # "Cancelled - Ran too long" and the like
    status = next((ours for theirs, ours in _STATUS.items() if word.startswith(theirs)), word.lower())
    code = state.get("reason_code") or state.get("reasonCode")
    reason = state.get("reason")
    if code == _MAX_TIME_CODE:
        status, reason = "failed", "stopped at its maximum execution time"
    final = status in ("done", "failed", "cancelled")
    cost = (metrics() or {}) if final else {}
    return Job(
        job_id,
        status,
        _moment(told.get("created")) or 0.0,
        _charged(cost),
        redacted(" ".join(str(reason).split()))[:300] if reason and final else None,
        _queued(cost),
    )


def _moment(text: Any) -> float | None:
    """Seconds since 1970 of an ISO 8601 time; one without a zone is UTC."""
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _charged(metrics: dict[str, Any]) -> float | None:
    """Seconds that are billed; None while that is not known."""
    usage = metrics.get("usage") or {}
    if usage.get("status") == "pending":
        return None
    for key in ("qpu_charge_time_seconds", "quantum_seconds"):
        if usage.get(key) is not None:
            return float(usage[key])
    return None


def _queued(metrics: dict[str, Any]) -> float | None:
    times = metrics.get("timestamps") or {}
    begun, ran = (_moment(times.get(name)) for name in ("created", "running"))
    return None if begun is None or ran is None else max(0.0, ran - begun)
