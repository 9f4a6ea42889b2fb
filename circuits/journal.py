"""Paid work, written down before it is paid for: intents, jobs, raw results, and the budget that holds them.

A request to a machine that costs money passes through states, each durable before the next step begins::

    RESERVED -> SUBMITTING -> SUBMITTED -> FETCHED -> DONE
    (budget)    (tag)         (job id)     (raw reply, hashed)      or FAILED

The tag travels with the job. Whatever happens to this process or to a reply, a later one finds the jobs under the tag
and goes on; what was fetched once is never paid again. :mod:`circuits.submission` walks these states with a service.

The journal is one SQLite file for an account. It needs a file system on which locks work; where they do not, it
refuses to open, because neither "one job for a request" nor the budget could be kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Budget", "Intent", "Job", "Journal", "OverBudget", "Record"]

LIVE = ("RESERVED", "SUBMITTING", "SUBMITTED")
"""States in which money may still be spent."""
LOCK_TIMEOUT = 30.0
"""Seconds that a transaction waits for another process."""
MAX_TAG = 64


class OverBudget(ValueError):
    """A request does not fit what may be spent; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent, of everything that one journal holds of a project.

    Args:
        seconds: on the processor.
        jobs: number of jobs, None without limit.
        jobs_per_hour: number of jobs in the last 3,600 s, None without limit.
        price: money for a second, None where it is not known.
        money: in the same currency, None without limit.

    Raises:
        ValueError: a limit that is not positive, or money without a price.
    """

    seconds: float
    jobs: int | None = None
    jobs_per_hour: int | None = None
    price: float | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "jobs", "jobs_per_hour", "price", "money"):
            value = getattr(self, name)
            if value is None and name != "seconds":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ValueError(f"budget.{name}: {value!r} is no positive number; give what may be spent")
        if self.money is not None and self.price is None:
            raise ValueError("budget.money: needs the price of a second; give price")


@dataclass(frozen=True, slots=True)
class Intent:
    """A request that is to be paid.

    Args:
        key: SHA-256 of everything that decides the answer, as 64 hexadecimal digits; see ``content_key``.
        project: what it is for; the budget counts by project.
        backend: where it shall run.
        seconds: the most that it can cost on the processor, which the machine enforces.
        repetition: 0, or a higher number for an answer that is wanted again.
        note: what shall be remembered of it, JSON values.

    Raises:
        ValueError: a key of another form, seconds that are not positive, or a negative repetition.
    """

    key: str
    project: str
    backend: str
    seconds: float
    repetition: int = 0
    note: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.key):
            raise ValueError(f"key: {self.key!r} is no SHA-256 in hexadecimal digits; use content_key")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds: {self.seconds!r} is not positive; give the most it can cost")
        if self.repetition < 0:
            raise ValueError(f"repetition: {self.repetition} is negative; start at 0")

    @property
    def tag(self) -> str:
        """What the job is found by: at most 64 characters, and no free text in them."""
        project = hashlib.sha256(self.project.encode()).hexdigest()[:8]
        return f"qrl-{project}-{self.key[:16]}-{self.repetition}"


@dataclass(frozen=True, slots=True)
class Job:
    """What a service says of a job.

    Attributes:
        id: the service's.
        status: ``queued``, ``running``, ``done``, ``failed``, ``cancelled``; anything else is not final.
        created: seconds since 1970 by the service's clock.
        seconds: on the processor, None where the service has not said.
        reason: of a failure.
        queued: seconds that it waited before it ran, None where the service has not said.
    """

    id: str
    status: str
    created: float = 0.0
    seconds: float | None = None
    reason: str | None = None
    queued: float | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Record:
    """What the journal holds of an intent.

    Attributes:
        intent: the request.
        state: see the module.
        job_id: the job whose answer counts, None before there is one.
        created: seconds since 1970.
        attempts: how often it was sent.
        reason: of a failure.
        sha256: of the raw reply.
    """

    intent: Intent
    state: str
    job_id: str | None
    created: float
    attempts: int
    reason: str | None
    sha256: str | None

    @property
    def tag(self) -> str:
        """The intent's."""
        return self.intent.tag

    @property
    def live(self) -> bool:
        """Whether it may still cost something."""
        return self.state in LIVE


def content_key(**parts: Any) -> str:
    """SHA-256 over named parts: JSON values, bytes, and arrays (by dtype, shape and bytes)."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        value = parts[name]
        if hasattr(value, "tobytes"):
            kind, body = f"{value.dtype} {value.shape}", value.tobytes()
        elif isinstance(value, bytes):
            kind, body = "bytes", value
        else:
            kind, body = "json", json.dumps(value, sort_keys=True, allow_nan=False).encode()
        digest.update(f"{name} {kind} {len(body)} ".encode() + body)
    return digest.hexdigest()


_SCHEMA = """
CREATE TABLE IF NOT EXISTS intents (
    tag TEXT PRIMARY KEY, key TEXT NOT NULL, repetition INTEGER NOT NULL, project TEXT NOT NULL, backend TEXT NOT NULL,
    seconds REAL NOT NULL, note TEXT NOT NULL, state TEXT NOT NULL, owner TEXT, created REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, job_id TEXT, reason TEXT, sha256 TEXT, UNIQUE (project, key, repetition)
);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, tag TEXT NOT NULL, seen REAL NOT NULL, status TEXT NOT NULL, seconds REAL,
    queued REAL, duplicate INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS events (at REAL NOT NULL, tag TEXT, what TEXT NOT NULL, detail TEXT);
"""


class Journal:
    """The journal of an account, shared by all its processes.

    Args:
        path: the SQLite file; raw replies lie beside it, in a folder of its name.

    Raises:
        ValueError: the file system keeps no locks, the disk is full, or the file is something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.replies = self.path.with_suffix(".replies")
        try:
            self.replies.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection:
                connection.executescript(_SCHEMA)
                self._check_locks(connection)
        except (sqlite3.Error, OSError) as error:
            raise ValueError(
                f"journal: {self.path} cannot be used ({error}); name a file on a local disk"
            ) from None

    # ------------------------------------------------------------------ what is known

    def record(self, tag: str) -> Record:
        """The record of a tag; KeyError if there is none."""
        with self._reading() as connection:
            row = connection.execute("SELECT * FROM intents WHERE tag = ?", (tag,)).fetchone()
        if row is None:
            raise KeyError(tag)
        return _record(row)

    def known(self, tag: str) -> Record | None:
        """The record of a tag, None where there is none."""
        try:
            return self.record(tag)
        except KeyError:
            return None

    def records(self, project: str | None = None) -> list[Record]:
        """All records, oldest first."""
        query, values = "SELECT * FROM intents", ()
        if project is not None:
            query, values = f"{query} WHERE project = ?", (project,)  # type: ignore[assignment]
        with self._reading() as connection:
            return [_record(row) for row in connection.execute(f"{query} ORDER BY created, tag", values)]

    def jobs(self, tag: str) -> list[dict[str, Any]]:
        """The jobs seen under a tag: id, status, seconds charged and queued (None: unknown), whether a duplicate."""
        with self._reading() as connection:
            rows = connection.execute("SELECT * FROM jobs WHERE tag = ? ORDER BY seen, id", (tag,)).fetchall()
        return [{k: row[k] for k in ("id", "status", "seconds", "queued", "duplicate")} for row in rows]

    def spent(self, project: str | None = None) -> float:
        """Seconds on the processor that were charged."""
        with self._reading() as connection:
            return _spent(connection, project)

    def reserved(self) -> float:
        """Seconds that live requests can still cost."""
        with self._reading() as connection:
            return _reserved(connection)

    def reply(self, record: Record) -> bytes:
        """The raw reply of a fetched request.

        Raises:
            ValueError: it was not fetched, or what lies on the disk is not what was written.
        """
        if record.sha256 is None:
            raise ValueError(
                f"journal: {record.tag} is {record.state} and has no reply yet; collect it first"
            )
        path = self.replies / record.tag
        raw = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(raw).hexdigest() != record.sha256:
            raise ValueError(f"journal: {path} is damaged or gone; ask again, and it is fetched again")
        return raw

    # ------------------------------------------------------------------ steps

    def reserve(self, intent: Intent, budget: Budget, remaining: float | None = None) -> tuple[Record, bool]:
        """Write a request down, if it fits, or find the one that is there already.

        Args:
            intent: the request.
            budget: what may be spent on its project; what all projects have in flight counts in full.
            remaining: seconds that the account has left, None where it has not said.

        Returns:
            The record, and whether it is this process's turn to carry it on.

        Raises:
            OverBudget: it does not fit; nothing was written.
        """
        with self._writing() as connection:
            row = connection.execute("SELECT * FROM intents WHERE tag = ?", (intent.tag,)).fetchone()
            if row is not None and (row["state"] != "FAILED" or row["job_id"] is not None):
                return _record(row), self._take_over(connection, row)
            self._check_budget(connection, intent, budget, remaining)
            if row is not None:
                # It ended before there was a job, as far as was known. If it was sent, its tag is looked at first.
                sent = "EXISTS (SELECT 1 FROM events WHERE events.tag = intents.tag AND what = 'submitting')"
                connection.execute(
                    f"UPDATE intents SET state = CASE WHEN {sent} THEN 'SUBMITTING' ELSE 'RESERVED' END,"
                    " attempts = 0, owner = ?, seconds = ?, note = ?, reason = NULL WHERE tag = ?",
                    (_me(), float(intent.seconds), _note(intent), intent.tag),
                )
            else:
                connection.execute(
                    "INSERT INTO intents (tag, key, repetition, project, backend, seconds, note, state, owner, created)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, 'RESERVED', ?, ?)",
                    (
                        intent.tag,
                        intent.key,
                        intent.repetition,
                        intent.project,
                        intent.backend,
                        float(intent.seconds),
                        _note(intent),
                        _me(),
                        time.time(),
                    ),
                )
            _event(connection, intent.tag, "reserved", f"{intent.seconds:g} s")
            row = connection.execute("SELECT * FROM intents WHERE tag = ?", (intent.tag,)).fetchone()
            return _record(row), True

    def check(self, intent: Intent, budget: Budget) -> None:
        """Refuse a request that does not fit the budget now; ``reserve`` looks again.

        Raises:
            OverBudget: it does not fit.
        """
        with self._reading() as connection:
            self._check_budget(connection, intent, budget, None)

    def take_over(self, tag: str) -> bool:
        """Whether it is now this process's turn: no other that lives has it."""
        with self._writing() as connection:
            row = connection.execute("SELECT * FROM intents WHERE tag = ?", (tag,)).fetchone()
            return row is not None and self._take_over(connection, row)

    def release(self, tag: str) -> None:
        """Let another process carry it on."""
        with self._writing() as connection:
            connection.execute("UPDATE intents SET owner = NULL WHERE tag = ? AND owner = ?", (tag, _me()))

    def submitting(self, tag: str) -> None:
        """The request is about to be sent; from here on a job may exist."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE intents SET state = 'SUBMITTING', attempts = attempts + 1 WHERE tag = ?", (tag,)
            )
            _event(connection, tag, "submitting", None)

    def turned_away(self, tag: str) -> None:
        """The service took no job: this attempt does not count."""
        with self._writing() as connection:
            connection.execute("UPDATE intents SET attempts = attempts - 1 WHERE tag = ?", (tag,))
            _event(connection, tag, "turned away", None)

    def since_sent(self, tag: str) -> float:
        """Seconds since a request was last about to be sent, infinite where it never was."""
        query = "SELECT max(at) FROM events WHERE tag = ? AND what = 'submitting'"
        with self._reading() as connection:
            at = connection.execute(query, (tag,)).fetchone()[0]
        return float("inf") if at is None else max(0.0, time.time() - at)

    def found(self, tag: str, jobs: list[Job]) -> Record:
        """These jobs exist under the tag; the oldest is the one that counts, the others are duplicates."""
        if not jobs:
            raise ValueError("jobs: none is given; name at least one")
        jobs = sorted(jobs, key=lambda job: (job.created, job.id))
        with self._writing() as connection:
            row = connection.execute("SELECT job_id FROM intents WHERE tag = ?", (tag,)).fetchone()
            kept = row["job_id"] or jobs[0].id
            for job in jobs:
                added = connection.execute(
                    "INSERT OR IGNORE INTO jobs (id, tag, seen, status, duplicate) VALUES (?, ?, ?, ?, ?)",
                    (job.id, tag, time.time(), job.status, int(job.id != kept)),
                ).rowcount
                if added:
                    _event(connection, tag, "duplicate detected" if job.id != kept else "submitted", job.id)
            connection.execute(
                "UPDATE intents SET job_id = ?, state = CASE WHEN state IN ('RESERVED', 'SUBMITTING') THEN 'SUBMITTED'"
                " ELSE state END WHERE tag = ?",
                (kept, tag),
            )
        return self.record(tag)

    def charge(self, job: Job, seconds: float) -> None:
        """A job is final and cost this; said once, it stays so."""
        with self._writing() as connection:
            row = connection.execute("SELECT tag, seconds FROM jobs WHERE id = ?", (job.id,)).fetchone()
            if row is None:
                raise KeyError(job.id)
            if row["seconds"] is None:
                connection.execute(
                    "UPDATE jobs SET status = ?, seconds = ?, queued = ? WHERE id = ?",
                    (job.status, float(seconds), job.queued, job.id),
                )
                _event(connection, row["tag"], "charged", f"{job.id} {seconds:g} s")

    def fetched(self, tag: str, raw: bytes, again: bool = False) -> Record:
        """The raw reply is here: on the disk before the record says so; ``again`` in place of one that is damaged."""
        path = self.replies / tag
        partial = path.with_name(f".{tag}.{secrets.token_hex(8)}")
        with partial.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        with self._writing() as connection:
            row = connection.execute("SELECT sha256 FROM intents WHERE tag = ?", (tag,)).fetchone()
            if again or row["sha256"] is None:
                os.replace(partial, path)
                _sync_folder(self.replies)
                connection.execute(
                    "UPDATE intents SET state = CASE state WHEN 'DONE' THEN state ELSE 'FETCHED' END, sha256 = ?"
                    " WHERE tag = ?",
                    (hashlib.sha256(raw).hexdigest(), tag),
                )
                _event(connection, tag, "fetched", f"{len(raw)} bytes")
            else:
                partial.unlink()  # another was quicker, and the first reply stays
        return self.record(tag)

    def done(self, tag: str) -> None:
        """The reply was decoded."""
        self._end(tag, "DONE", None)

    def failed(self, tag: str, reason: str) -> None:
        """There will be no reply."""
        self._end(tag, "FAILED", reason)

    def annotate(self, tag: str, **facts: Any) -> None:
        """Add JSON values to what is remembered of a request."""
        with self._writing() as connection:
            row = connection.execute("SELECT note FROM intents WHERE tag = ?", (tag,)).fetchone()
            note = json.dumps({**json.loads(row["note"]), **facts}, allow_nan=False)
            connection.execute("UPDATE intents SET note = ? WHERE tag = ?", (note, tag))

    def event(self, tag: str | None, what: str, detail: str | None = None) -> None:
        """Keep something that happened."""
        with self._writing() as connection:
            _event(connection, tag, what, detail)

    def events(self, tag: str) -> list[tuple[str, str | None]]:
        """What happened to a tag, in order."""
        with self._reading() as connection:
            rows = connection.execute("SELECT what, detail FROM events WHERE tag = ? ORDER BY rowid", (tag,))
            return [(row["what"], row["detail"]) for row in rows]

    # ------------------------------------------------------------------ inside

    def _end(self, tag: str, state: str, reason: str | None) -> None:
        with self._writing() as connection:
            connection.execute(
                "UPDATE intents SET state = ?, reason = ?, owner = NULL WHERE tag = ?", (state, reason, tag)
            )
            _event(connection, tag, state.lower(), reason)

    def _take_over(self, connection: sqlite3.Connection, row: sqlite3.Row) -> bool:
        if row["state"] not in (*LIVE, "FETCHED"):
            return False
        if row["owner"] not in (None, _me()) and _lives(row["owner"]):
            return False
        connection.execute("UPDATE intents SET owner = ? WHERE tag = ?", (_me(), row["tag"]))
        return True

    def _check_budget(
        self, connection: sqlite3.Connection, intent: Intent, budget: Budget, remaining: float | None
    ) -> None:
        reserved, spent = _reserved(connection), _spent(connection, intent.project)
        total = spent + reserved + intent.seconds
        state = f"{spent:g} s are spent and {reserved:g} s in flight"
        if total > budget.seconds:
            raise OverBudget(
                f"budget.seconds: {budget.seconds:g} s do not hold {intent.seconds:g} s more ({state}); raise the"
                " budget or ask for less"
            )
        if remaining is not None and reserved + intent.seconds > remaining:
            raise OverBudget(
                f"account: {remaining:g} s are left and do not hold {intent.seconds:g} s more ({reserved:g} s in"
                " flight); wait for the next period or ask for less"
            )
        if budget.money is not None and budget.price is not None and total * budget.price > budget.money:
            raise OverBudget(
                f"budget.money: {budget.money:g} do not hold {total * budget.price:.2f} ({state}); raise the budget"
            )
        of_project = "FROM jobs JOIN intents USING (tag) WHERE project = ?"
        live = connection.execute(
            "SELECT count(*) FROM intents WHERE project = ? AND state IN ('RESERVED', 'SUBMITTING')",
            (intent.project,),
        ).fetchone()[0]
        for limit, query, values in (
            ("jobs", f"SELECT count(*) {of_project}", (intent.project,)),
            (
                "jobs_per_hour",
                f"SELECT count(*) {of_project} AND seen > ?",
                (intent.project, time.time() - 3600),
            ),
        ):
            most = getattr(budget, limit)
            if most is not None and connection.execute(query, values).fetchone()[0] + live + 1 > most:
                raise OverBudget(f"budget.{limit}: {most} are used up; wait or raise the budget")

    def _check_locks(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            with closing(sqlite3.connect(self.path, timeout=0.0, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return  # as it should be
        finally:
            connection.execute("ROLLBACK")
        raise OSError("its file system keeps no locks")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, durable when it is over; no other process writes meanwhile."""
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def _spent(connection: sqlite3.Connection, project: str | None) -> float:
    query = "SELECT coalesce(sum(jobs.seconds), 0) FROM jobs JOIN intents USING (tag)"
    if project is None:
        return float(connection.execute(query).fetchone()[0])
    return float(connection.execute(f"{query} WHERE project = ?", (project,)).fetchone()[0])


def _reserved(connection: sqlite3.Connection) -> float:
    """A live request counts once for each of its jobs that is not charged, and at least once."""
    query = """
        SELECT coalesce(sum(intents.seconds * max(1, open)), 0) FROM intents
        JOIN (SELECT intents.tag AS tag, count(jobs.id) AS open FROM intents
              LEFT JOIN jobs ON jobs.tag = intents.tag AND jobs.seconds IS NULL GROUP BY intents.tag) USING (tag)
        WHERE state IN ('RESERVED', 'SUBMITTING', 'SUBMITTED')
    """
    rest = """
        SELECT coalesce(sum(intents.seconds), 0) FROM jobs JOIN intents USING (tag)
        WHERE jobs.seconds IS NULL AND state NOT IN ('RESERVED', 'SUBMITTING', 'SUBMITTED')
    """
    return sum(float(connection.execute(each).fetchone()[0]) for each in (query, rest))


def _note(intent: Intent) -> str:
    return json.dumps(dict(intent.note), allow_nan=False)


def _record(row: sqlite3.Row) -> Record:
    intent = Intent(
        row["key"], row["project"], row["backend"], row["seconds"], row["repetition"], json.loads(row["note"])
    )
    return Record(
        intent, row["state"], row["job_id"], row["created"], row["attempts"], row["reason"], row["sha256"]
    )


def _event(connection: sqlite3.Connection, tag: str | None, what: str, detail: str | None) -> None:
    connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (time.time(), tag, what, detail))


def _me() -> str:
    """This thread: host, thread, process, and when that started, since numbers are used again."""
    import psutil

    thread = threading.get_ident()
    return f"{socket.gethostname()} {thread} {os.getpid()} {psutil.Process().create_time():.2f}"


def _lives(owner: str) -> bool:
    """Whether a process may still be at work; of another host nobody can tell, so it may."""
    import psutil

    host, _, number, started = owner.rsplit(" ", 3)
    if host != socket.gethostname():
        return True
    try:
        return abs(psutil.Process(int(number)).create_time() - float(started)) < 1.0
    except psutil.NoSuchProcess:
        return False


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
