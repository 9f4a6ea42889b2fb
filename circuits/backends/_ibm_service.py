"""IBM's service as the submitter sees it, through qiskit-ibm-runtime; the one place where its classes are named.

Nothing here is imported, and no connection opened, before the first request. Whatever the client raises is turned into
one line of our own without credentials, and without the client's exception behind it, whose frames hold them.
"""

from __future__ import annotations

import atexit
import os
import stat
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from circuits.journal import Job, Journal
from circuits.redaction import hide, redacted
from circuits.submission import Refused

if TYPE_CHECKING:
    from circuits.backends.ibm import IBMOptions

T = TypeVar("T")

TOKEN, INSTANCE = "QISKIT_IBM_TOKEN", "QISKIT_IBM_INSTANCE"
ACCOUNT_FILE = Path("~/.qiskit/qiskit-ibm.json")
_REFUSALS = {400, 401, 403, 404, 409, 413, 422}
"""Answers after which there is no job."""
_STATUS = {
    "DONE": "done",
    "CANCELLED": "cancelled",
    "ERROR": "failed",
    "QUEUED": "queued",
    "RUNNING": "running",
}
_MAX_TIME_REASON = "1305"


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
        journal: where sessions are written down.
    """

    def __init__(self, device: str, options: IBMOptions, journal: Journal) -> None:
        self._device, self._options, self._journal = device, options, journal
        self._client: Any = None
        self._machine: Any = None
        self._mode: Any = None
        atexit.register(self.close)

    # ------------------------------------------------------------------ the submitter's protocol

    def submit(self, payload: Request, tag: str, seconds: float) -> str:
        """Start a job under a tag; see ``circuits.submission.Service``."""
        machine = self.machine

        def start() -> str:
            options = self._options.of(payload.primitive)
            options["environment"] = {"job_tags": [tag]}
            options["max_execution_time"] = int(seconds)
            primitive = primitive_class(payload.primitive)(mode=self._open_mode() or machine, options=options)
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

        def ask() -> list[Job]:
            client = self.client
            active = client.active_instance()
            others = [entry["crn"] for entry in client.instances() if entry["crn"] != active]
            found = {}
            for instance in (active, *others):
                for job in client.jobs(limit=None, job_tags=[tag], created_after=after, instance=instance):
                    found[job.job_id()] = _job(job)
            if others:
                client.jobs(limit=1, instance=active)  # which leaves that one active
            return sorted(found.values(), key=lambda job: (job.created, job.id))

        return safely(ask, "find")

    def look(self, job_id: str) -> Job:
        """A job as it is now."""
        return safely(lambda: _job(self.client.job(job_id)), "look")

    def fetch(self, job_id: str) -> bytes:
        """The raw reply."""
        from qiskit_ibm_runtime.decoders.result_decoder import ResultDecoder

        class Raw(ResultDecoder):
            """Leaves a reply as it came."""

            @classmethod
            def decode(cls, data: Any) -> Any:
                return data

        def ask() -> bytes:
            text = self.client.job(job_id).result(decoder=Raw)
            return b"" if text is None else str(text).encode("utf-8")

        return safely(ask, "fetch")

    def cancel(self, job_id: str) -> None:
        """Stop a job; one that is final is left."""

        def ask() -> None:
            from qiskit_ibm_runtime.exceptions import RuntimeInvalidStateError

            with suppress(RuntimeInvalidStateError):
                self.client.job(job_id).cancel()

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

            self._client = safely(connect, "connect")
            hide((self._client.active_account() or {}).get("token"))
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
            self._machine = safely(lambda: client.backend(self._device), "machine")
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

    def _open_mode(self) -> Any:
        """The session or batch of this process, None in job mode."""
        if self._options.mode == "job" or self._mode is not None:
            return self._mode
        from qiskit_ibm_runtime import Batch, Session

        kind = Session if self._options.mode == "session" else Batch
        self._mode = kind(backend=self._machine, max_time=self._options.max_time)
        self._journal.session_opened(self._mode.session_id, self._device)
        return self._mode

    def close(self) -> None:
        """Close the session or batch of this process, if there is one."""
        mode, self._mode = self._mode, None
        if mode is not None:
            with suppress(Exception):  # the next start closes it
                safely(mode.close, "close")
                self._journal.session_closed(mode.session_id)

    def _close_what_was_left(self) -> None:
        """Sessions of processes that ended without closing them are paid by the clock until somebody does."""
        from qiskit_ibm_runtime import Session

        for session in self._journal.open_sessions():
            try:
                safely(partial(_close, Session, session, self._client), "close")
            except Refused:
                pass  # gone already
            except Exception:
                continue
            self._journal.session_closed(session)


def _close(kind: Any, session: str, client: Any) -> None:
    kind.from_id(session, client).close()


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
    if os.name == "posix" and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        warnings.warn(
            f"credentials: {file} can be read by others; chmod 600 {file}", UserWarning, stacklevel=2
        )


def safely(ask: Callable[[], T], what: str) -> T:
    """What the client answers, or one error of our own: no credentials in it, and none of its frames behind it.

    Raises:
        Refused: the service says no.
        ConnectionError: anything else; what happened is open.
    """
    problem: Exception
    try:
        return ask()
    except Refused:
        raise
    except Exception as error:
        code = _status_code(error)
        line = redacted(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
        if code in _REFUSALS or _is_input(error):
            way = {
                401: f"; check {TOKEN}, then give the same command again",
                403: f"; check {TOKEN} and {INSTANCE}, then give the same command again",
            }.get(code or 0, "")
            problem = Refused(f"ibm {what}: {line}{way}")
        else:
            problem = ConnectionError(f"ibm {what}: {line}")
    raise problem


def _is_input(error: Exception) -> bool:
    """Whether the client itself refused, before anything was sent, or the account."""
    from qiskit.providers.exceptions import QiskitBackendNotFoundError
    from qiskit_ibm_runtime.accounts.exceptions import AccountsError
    from qiskit_ibm_runtime.exceptions import IBMInputValueError, IBMNotAuthorizedError

    refusals = (IBMInputValueError, IBMNotAuthorizedError, AccountsError, QiskitBackendNotFoundError)
    return isinstance(error, (*refusals, TypeError, ValueError)) and not isinstance(error, OSError)


def _status_code(error: BaseException | None) -> int | None:
    """The HTTP status behind an exception, which the client keeps at some depth."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        code = getattr(error, "status_code", None)
        response = getattr(error, "response", None)
        code = getattr(response, "status_code", None) if code is None else code
        if isinstance(code, int) and code > 0:
            return code
        error = error.__cause__ or error.__context__
    return None


def _job(job: Any) -> Job:
    """The client's job in our terms; costs are asked for once it is final."""
    status = _STATUS.get(str(job.status()), str(job.status()).lower())
    created = job.creation_date
    reason = job.error_message() if status == "failed" else None
    if reason and _MAX_TIME_REASON in str(reason):
        reason = "stopped at its maximum execution time"
    seconds = queued = None
    if status in ("done", "failed", "cancelled"):
        metrics = job.metrics()
        seconds, queued = _charged(metrics), _queued(metrics)
    return Job(
        job.job_id(),
        status,
        created.timestamp() if created is not None else 0.0,
        seconds,
        None if reason is None else redacted(" ".join(str(reason).split()))[:300],
        queued,
    )


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
    try:
        begun, ran = (
            datetime.fromisoformat(str(times[k]).replace("Z", "+00:00")) for k in ("created", "running")
        )
    except (KeyError, ValueError):
        return None
    return max(0.0, (ran - begun).total_seconds())
