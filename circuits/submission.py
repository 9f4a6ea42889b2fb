"""From an intent to its answer, whatever happens in between: submit, count, wait, fetch, charge.

:class:`Submitter` carries a request of :mod:`circuits.journal` through its states with any service that can submit
under a tag and find jobs by it. It may be killed at any point and run again in another process of the same host: what
exists is adopted, what was fetched is read from disk, and nothing is sent twice unless the service knows of no job.

A service's own client may repeat a submission that the service had accepted. Therefore jobs under a tag are counted
after every submission, also a successful one; the oldest is kept, the others are cancelled, and all are charged.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from circuits.journal import Budget, Intent, Job, Journal, Record

__all__ = ["Busy", "JobFailed", "Refused", "Service", "Spending", "StillRunning", "Submitter", "Waits"]

CLOCKS_APART = 600.0
"""Seconds by which the clocks of host and service may differ."""


class Refused(RuntimeError):
    """The service says that there is no job and will be none: credentials, validation, no such machine."""


class Busy(Refused):
    """The service takes no job now, and may later.

    Attributes:
        after: seconds after which it may, None where it does not say.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class JobFailed(RuntimeError):
    """The job ended without an answer."""


class StillRunning(RuntimeError):
    """The deadline passed; the job goes on and is in the journal."""


class Service(Protocol):
    """What is needed of a machine that runs jobs. Any exception but ``Refused`` leaves open what happened."""

    def submit(self, payload: Any, tag: str, seconds: float) -> str:
        """Start a job under a tag that stops after so many seconds on the processor; its id.

        Raises:
            Refused: there is no job.
            Busy: nor will there be one before some time has passed.
        """
        ...

    def find(self, tag: str, since: float) -> list[Job]:
        """All jobs under a tag, created after ``since``, wherever the account may run them."""
        ...

    def look(self, job_id: str) -> Job:
        """A job as it is now."""
        ...

    def fetch(self, job_id: str) -> bytes:
        """The raw reply of a job that is done."""
        ...

    def cancel(self, job_id: str) -> None:
        """Stop a job; one that is final already is left."""
        ...

    def remaining(self) -> float | None:
        """Seconds on the processor that the account has left, None where it does not say."""
        ...


@dataclass(frozen=True, slots=True)
class Waits:
    """Every wait, in seconds.

    Attributes:
        grace: after which a job that was submitted must be found by its tag.
        poll: between two looks at a job, at first.
        poll_most: and at last; each wait is half as long again as the one before.
        deadline: for a job to end, None without end.
        retry: before a read, or what a busy service turned away, is repeated, at first; doubled each time, with jitter.
        retry_most: in all, after which the error stands; so does a status that nobody knows.
        reply: for the next byte of a reply.
        sleep: what waits.
    """

    grace: float = 60.0
    poll: float = 2.0
    poll_most: float = 60.0
    deadline: float | None = None
    retry: float = 1.0
    retry_most: float = 300.0
    reply: float = 60.0
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Spending:
    """What a backend that costs money needs before it asks for anything.

    Attributes:
        journal: of the account.
        budget: of the project.
        project: what the requests are for.
        waits: how long to wait for what.
        repeat_failed: whether a job that failed and was paid may be paid once more, see ``Submitter``.
    """

    journal: Journal
    budget: Budget
    project: str
    waits: Waits = field(default_factory=Waits)
    repeat_failed: bool = False


class Submitter:
    """Carries requests through.

    Args:
        journal: where they are written down.
        service: where they run.
        budget: what may be spent.
        waits: how long to wait for what.
        repeat_failed: whether a job that failed and was paid may be paid once more; a repetition that exists is
            followed without.
    """

    def __init__(
        self,
        journal: Journal,
        service: Service,
        budget: Budget,
        waits: Waits | None = None,
        repeat_failed: bool = False,
    ) -> None:
        self.journal, self.service, self.budget = journal, service, budget
        self.waits = Waits() if waits is None else waits
        self._repeat_failed = repeat_failed
        self._jitter = random.Random()  # an agent's own generators stay where they are

    def run(self, intent: Intent, payload: Callable[[], Any]) -> bytes:
        """The raw reply to a request: from the disk, of a job that runs already, or of a new one.

        A job that failed and cost nothing is submitted once more, as the next repetition. One that failed and was paid
        is not: that takes a repetition that is asked for.

        Args:
            intent: the request.
            payload: makes what is sent; called only where something is.

        Raises:
            OverBudget: nothing was sent.
            Refused, JobFailed: there will be no reply.
            StillRunning: the deadline passed.
        """
        return self.answer(intent, payload)[1]

    def answer(self, intent: Intent, payload: Callable[[], Any]) -> tuple[Record, bytes]:
        """As ``run``, with the record whose reply it is."""
        first, may_repeat = True, self._repeat_failed
        while True:
            try:
                tag = self.start(intent, payload).tag
                raw = self.collect(tag)
                return self.journal.record(tag), raw
            except JobFailed:
                following = replace(intent, repetition=intent.repetition + 1)
                # a repetition that is there was asked for before, and is followed
                if self.journal.known(following.tag) is None and not (first and self._was_free(intent.tag)):
                    if not may_repeat:
                        raise
                    may_repeat = False
                intent, first = following, False

    def _was_free(self, tag: str) -> bool:
        """Whether the machine failed, and charged nothing for it."""
        jobs = self.journal.jobs(tag)
        return (
            self.journal.record(tag).state == "FAILED"
            and bool(jobs)
            and all(job["seconds"] == 0.0 and job["status"] == "failed" for job in jobs)
        )

    def start(self, intent: Intent, payload: Callable[[], Any]) -> Record:
        """Submit a request, unless it was; the record with its job.

        What was fetched before needs no connection.
        """
        known = self.journal.known(intent.tag)
        if known is not None and known.state in ("FETCHED", "DONE"):
            return known
        if known is None:
            self.journal.check(intent, self.budget)  # which needs no connection
        record, mine = self.journal.reserve(intent, self.budget, self._read(self.service.remaining))
        try:
            return self._go_on(record, mine, payload)
        except BaseException:
            self.journal.release(record.tag)
            raise

    def _go_on(self, record: Record, mine: bool, payload: Callable[[], Any]) -> Record:
        if record.state in ("FETCHED", "DONE", "SUBMITTED"):
            return record
        if record.state == "FAILED":
            raise JobFailed(
                f"{record.tag}: failed before ({record.reason}); allow another attempt to try once more"
            )
        if not mine:
            return self._another_submits(record, payload)
        if record.state == "SUBMITTING":
            return self._reconcile(record, payload)
        return self._submit(record, payload)

    def collect(self, tag: str) -> bytes:
        """Wait for a job that was submitted, and fetch, charge and keep what it gives.

        Raises:
            JobFailed: it ended without an answer.
            StillRunning: the deadline passed.
        """
        record = self.journal.record(tag)
        if record.state == "SUBMITTING":
            record = self._reconcile(record, None)
        if record.state in ("FETCHED", "DONE"):
            if record.state == "FETCHED" or any(job["seconds"] is None for job in self.journal.jobs(tag)):
                self._charge_all(record)
            return self._kept(record)
        if record.state == "FAILED":
            raise JobFailed(f"{tag}: {record.reason}")
        if record.job_id is None:
            raise JobFailed(f"{tag}: was never submitted; submit it again")
        try:
            job = self._wait(record.job_id)
        except KeyboardInterrupt:
            goes_on = f"job {record.job_id} goes on and is paid; `qrl jobs collect` fetches it"
            raise KeyboardInterrupt(goes_on) from None
        if job.status != "done":
            self.journal.failed(tag, f"{job.status}: {job.reason or 'no reason given'}")
            self._charge_all(self.journal.record(tag))
            raise JobFailed(f"{tag}: job {job.id} {job.status} ({job.reason or 'no reason given'})")
        raw = self._read(lambda: self.service.fetch(job.id))
        if not raw:
            self.journal.failed(tag, "the reply is empty")
            self._charge_all(self.journal.record(tag))
            raise JobFailed(f"{tag}: job {job.id} is done and its reply is empty; allow another attempt")
        record = self.journal.fetched(tag, raw)
        self._charge_all(record)
        return raw

    def _kept(self, record: Record) -> bytes:
        """The reply on the disk, or where that was damaged once more from the service, which asks no money for it."""
        try:
            return self.journal.reply(record)
        except ValueError:
            if record.job_id is None:
                raise
            job_id = record.job_id
        raw: bytes = self._read(lambda: self.service.fetch(job_id))
        self.journal.fetched(record.tag, raw, again=True)
        return raw

    def cancel(self, tag: str) -> float:
        """Stop every job of a tag, and charge what they cost; these seconds.

        Raises:
            KeyError: there is no such tag.
            StillRunning: the deadline passed before the service had stopped them.
        """
        record = self.journal.record(tag)
        if record.live:
            jobs = self._read(lambda: self.service.find(tag, record.created - CLOCKS_APART))
            if jobs:
                record = self.journal.found(tag, jobs)
            for job in jobs:
                if not job.final:
                    self._read(partial(self.service.cancel, job.id))
            for known in self.journal.jobs(tag):
                self._wait(known["id"])
            self.journal.failed(tag, "cancelled on request")
        if self.journal.jobs(tag):
            self._charge_all(self.journal.record(tag))
        return sum(job["seconds"] or 0.0 for job in self.journal.jobs(tag))

    # ------------------------------------------------------------------ steps

    def _submit(self, record: Record, payload: Callable[[], Any]) -> Record:
        tag = record.tag
        try:
            body = payload()
        except BaseException as error:
            # nothing was sent, and what cannot be made holds no budget
            self.journal.failed(tag, f"not made: {type(error).__name__}")
            raise
        try:
            job_id = self._send(record, body)
        except Refused as refusal:
            # The client may have sent it several times, and this be the answer to the last of them.
            try:
                jobs = self.service.find(tag, record.created - CLOCKS_APART)
            except Exception:
                raise refusal from None  # until the tag can be looked at, the reservation stays
            if not jobs:
                self.journal.failed(tag, str(refusal))
                raise
            return self._keep_one(tag, jobs)
        except Exception as error:
            # whether a job exists is not known; the tag will say
            self.journal.event(tag, "submission unclear", type(error).__name__)
            return self._reconcile(self.journal.record(tag), payload)
        self.journal.found(tag, [Job(job_id, "queued", record.created)])
        return self._count(self.journal.record(tag))

    def _send(self, record: Record, body: Any) -> str:
        """Submit, and while the service is busy again, in bounds; the job's id."""
        pause, waited = self.waits.retry, 0.0
        while True:
            self.journal.submitting(record.tag)
            try:
                return self.service.submit(body, record.tag, record.intent.seconds)
            except Busy as error:
                self.journal.turned_away(record.tag)
                if waited >= self.waits.retry_most:
                    raise
                wait = self._jitter.uniform(0.0, pause) if error.after is None else error.after
            except Refused:
                self.journal.turned_away(record.tag)
                raise
            self.waits.sleep(wait)
            waited += max(wait, 1e-3)
            pause *= 2.0

    def _reconcile(self, record: Record, payload: Callable[[], Any] | None) -> Record:
        """A submission was begun and its end is not known: find the job, or send once more where there is none."""
        tag, since = record.tag, record.created - CLOCKS_APART
        jobs = self._read(lambda: self.service.find(tag, since))
        if not jobs:
            self.waits.sleep(max(0.0, self.waits.grace - self.journal.since_sent(tag)))
            jobs = self._read(lambda: self.service.find(tag, since))
        if jobs:
            return self._keep_one(tag, jobs)
        if payload is None or record.attempts >= 2:
            reason = "no job under its tag after the grace time"
            self.journal.failed(tag, reason)
            raise JobFailed(f"{tag}: {reason}; submit it again")
        return self._submit(record, payload)

    def _count(self, record: Record) -> Record:
        jobs = self._read(lambda: self.service.find(record.tag, record.created - CLOCKS_APART))
        return self._keep_one(record.tag, jobs) if jobs else record

    def _keep_one(self, tag: str, jobs: list[Job]) -> Record:
        record = self.journal.found(tag, jobs)
        for job in jobs:
            if job.id != record.job_id and not job.final:
                self._read(partial(self.service.cancel, job.id))
        return record

    def _charge_all(self, record: Record) -> None:
        """Charge every job of a tag that is final; what the service does not say counts as all it could have cost."""
        for seen in self._read(lambda: self.service.find(record.tag, record.created - CLOCKS_APART)):
            if seen.id not in {job["id"] for job in self.journal.jobs(record.tag)}:
                self._keep_one(record.tag, [seen])
        for known in self.journal.jobs(record.tag):
            if known["seconds"] is not None:
                continue
            job = (
                self._wait(known["id"])
                if known["duplicate"]
                else self._read(partial(self.service.look, known["id"]))
            )
            if job.final:
                job = self._billed(job)
                self.journal.charge(job, record.intent.seconds if job.seconds is None else job.seconds)

    def _billed(self, job: Job) -> Job:
        """A final job with its bill, which may come a little later than its result."""
        pause, waited = self.waits.poll, 0.0
        while job.seconds is None and waited < self.waits.grace:
            self.waits.sleep(pause)
            waited += max(pause, 1e-3)
            pause = min(pause * 1.5, self.waits.poll_most)
            job = self._read(partial(self.service.look, job.id))
        return job

    def _wait(self, job_id: str) -> Job:
        pause, waited, strange = self.waits.poll, 0.0, 0.0
        while not (job := self._read(partial(self.service.look, job_id))).final:
            strange = 0.0 if job.status in ("queued", "running") else strange + max(pause, 1e-3)
            if strange > self.waits.retry_most:
                raise StillRunning(
                    f"job {job_id}: is {job.status!r}, which is no known status; look at it where it runs, and fetch"
                    " it later with `qrl jobs collect`"
                )
            if self.waits.deadline is not None and waited >= self.waits.deadline:
                raise StillRunning(
                    f"job {job_id}: is {job.status} after {waited:g} s and goes on; `qrl jobs collect` fetches it"
                )
            self.waits.sleep(pause)
            waited += pause
            pause = min(pause * 1.5, self.waits.poll_most)
        return job

    def _another_submits(self, record: Record, payload: Callable[[], Any]) -> Record:
        """Another process has it: wait until that has a job, or take over when it is gone."""
        pause = self.waits.poll
        while record.state in ("RESERVED", "SUBMITTING"):
            if self.journal.take_over(record.tag):
                record = self.journal.record(record.tag)
                return (self._submit if record.state == "RESERVED" else self._reconcile)(record, payload)
            self.waits.sleep(pause)
            pause = min(pause * 1.5, self.waits.poll_most)
            record = self.journal.record(record.tag)
        return record

    def _read(self, ask: Callable[[], Any]) -> Any:
        """Ask what can be asked again: reads, and cancelling."""
        pause, waited = self.waits.retry, 0.0
        while True:
            after = None
            try:
                return ask()
            except Busy as error:
                if waited >= self.waits.retry_most:
                    raise
                after = error.after
            except (Refused, JobFailed):
                raise
            except Exception:
                if waited >= self.waits.retry_most:
                    raise
            # full jitter: no two clients knock together
            wait = self._jitter.uniform(0.0, pause) if after is None else after
            self.waits.sleep(wait)
            waited += max(wait, 1e-3)
            pause *= 2.0
