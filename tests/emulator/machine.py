"""The service's own books in one SQLite file: jobs, results, sessions, faults that were ordered, and the bill."""

import contextlib
import json
import sqlite3
import threading
import time
import uuid
from pathlib import Path

JOB_SECONDS, EXECUTION_SECONDS = 2.0, 260e-6
FAULTS = (
    "502-before",  # the request is turned away
    "502-after",  # the job is taken, and the reply says that it was not
    "dropped",  # the job is taken, and the connection cut
    "malformed",  # the job is taken, and the reply is no JSON
    "duplicate",  # one request makes three jobs
    "429",  # too many requests
    "429-later",  # the same, and when to come again
    "401",  # the token is not taken
    "400",  # the request is refused
    "unknown-status",  # the job's status is a word that nobody knows, for a while
    "max-time",  # the job runs until its maximum time
    "failed",  # the job fails and costs nothing
    "empty",  # the job is done and its result empty
    "no-usage",  # the job's cost is not told
    "late-usage",  # it is told at the third question
)
"""What can be ordered for the next submissions, one each."""
READ_FAULTS = ("503-read", "401-read", "429-read", "dropped-read")
"""What can be ordered for the next questions about jobs."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, number INTEGER, tags TEXT, params TEXT, cost REAL, session TEXT, backend TEXT, created REAL,
    fault TEXT, status TEXT, reason TEXT, code INTEGER, result TEXT, started REAL, ended REAL, charged REAL DEFAULT 0,
    executions INTEGER, asked INTEGER DEFAULT 0
);
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, mode TEXT, max_ttl INTEGER, opened REAL, closed REAL);
CREATE TABLE IF NOT EXISTS faults (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, of TEXT);
CREATE TABLE IF NOT EXISTS calls (method TEXT, path TEXT);
"""


class Machine:
    """A machine with a queue of one; ``folder`` holds its books, which several processes may read.

    Args:
        folder: of the books.
        noise: whether circuits have the noise of the recorded machine.
        queue: seconds that a job waits before it runs.
        limit: seconds that the account may use.
    """

    def __init__(self, folder, noise=False, queue=0.0, limit=600.0):
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.path, self.noise, self.queue, self.limit = Path(folder) / "service.sqlite", noise, queue, limit
        self._running = threading.Lock()
        with self._open() as books:
            books.execute("PRAGMA journal_mode = WAL")
            books.executescript(_SCHEMA)

    @contextlib.contextmanager
    def _open(self):
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = OFF")  # an emulator's books need not outlive the host
        try:
            yield connection
        finally:
            connection.close()

    # ------------------------------------------------------------------ what goes wrong

    def inject(self, kind, times=1):
        """Order a fault for the next submission, or the next question, as often as that."""
        if kind not in (*FAULTS, *READ_FAULTS, "none"):
            raise ValueError(f"fault: {kind!r} is not known; use one of {', '.join((*FAULTS, *READ_FAULTS))}")
        with self._open() as books:
            of = "read" if kind in READ_FAULTS else "post"
            books.executemany("INSERT INTO faults (kind, of) VALUES (?, ?)", [(kind, of)] * times)

    def next_fault(self, of):
        """The fault that was ordered for this submission ("post") or question ("read"), if any."""
        with self._open() as books:
            books.execute("BEGIN IMMEDIATE")
            row = books.execute("SELECT * FROM faults WHERE of = ? ORDER BY number LIMIT 1", (of,)).fetchone()
            if row is not None:
                books.execute("DELETE FROM faults WHERE number = ?", (row["number"],))
            books.execute("COMMIT")
        return None if row is None or row["kind"] == "none" else row["kind"]

    # ------------------------------------------------------------------ jobs

    def accept(self, request, fault=None):
        """Take a job; its id."""
        job = uuid.uuid4().hex[:20]
        with self._open() as books:
            books.execute(
                "INSERT INTO jobs (id, number, tags, params, cost, session, backend, created, fault, status)"
                " VALUES (?, (SELECT count(*) FROM jobs), ?, ?, ?, ?, ?, ?, ?, 'Queued')",
                (
                    job,
                    json.dumps(request.get("tags", [])),
                    json.dumps(request["params"]),
                    request.get("cost"),
                    request.get("session_id"),
                    request.get("backend"),
                    time.time(),
                    fault,
                ),
            )
        return job

    def job(self, job_id):
        """A job as it is now, None where there is none; one whose turn has come runs."""
        with self._open() as books:
            row = books.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if (
            row is not None
            and row["status"] in ("Queued", "Paused")
            and time.time() >= row["created"] + self.queue
        ):
            if row["fault"] == "unknown-status" and row["asked"] < 2:
                with self._open() as books:
                    books.execute(
                        "UPDATE jobs SET asked = asked + 1, status = 'Paused' WHERE id = ?", (job_id,)
                    )
                    return books.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
            self._run(row)
            with self._open() as books:
                row = books.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return row

    def find(self, tags=(), after=None, session=None):
        """Jobs with all these tags, latest first."""
        with self._open() as books:
            rows = books.execute(
                "SELECT id, tags, created, session FROM jobs ORDER BY number DESC"
            ).fetchall()
        return [
            row["id"]
            for row in rows
            if set(tags) <= set(json.loads(row["tags"]))
            and (after is None or row["created"] >= after)
            and (session is None or row["session"] == session)
        ]

    def cancel(self, job_id):
        """Stop a job that waits; whether there was one."""
        with self._open() as books:
            return books.execute(
                "UPDATE jobs SET status = 'Cancelled', ended = ? WHERE id = ? AND status IN ('Queued', 'Paused')",
                (time.time(), job_id),
            ).rowcount

    def usage_of(self, job_id):
        """What the service says that a job cost: an answer with or without a figure."""
        row = self.job(job_id)
        with self._open() as books:
            books.execute("UPDATE jobs SET asked = asked + 1 WHERE id = ?", (job_id,))
        if row["fault"] == "no-usage":
            return {}
        if row["status"] in ("Queued", "Running", "Paused") or (
            row["fault"] == "late-usage" and row["asked"] < 3
        ):
            return {"status": "pending"}
        return {"status": "completed", "qpu_charge_time_seconds": row["charged"]}

    def _run(self, row):
        with self._running:
            with self._open() as books:
                now = books.execute("SELECT status FROM jobs WHERE id = ?", (row["id"],)).fetchone()["status"]
                if now not in ("Queued", "Paused"):
                    return
                books.execute(
                    "UPDATE jobs SET status = 'Running', started = ? WHERE id = ?", (time.time(), row["id"])
                )
            status, reason, code, result, executions = "Completed", None, None, None, 0
            if row["fault"] == "failed":
                status, reason, code = "Failed", "an internal error", 9999
            else:
                try:
                    result, executions = self._execute(json.loads(row["params"]), row["number"])
                except Exception as error:
                    status, reason, code = "Failed", f"{type(error).__name__}: {error}", 1000
            seconds = 0.0 if status == "Failed" else JOB_SECONDS + EXECUTION_SECONDS * executions
            if status != "Failed" and (row["fault"] == "max-time" or (row["cost"] and seconds > row["cost"])):
                status, reason, code, result = (
                    "Cancelled",
                    "ran longer than its maximum execution time",
                    1305,
                    None,
                )
                seconds = float(row["cost"] or seconds)
            if row["fault"] == "empty":
                result = ""
            with self._open() as books:
                books.execute(
                    "UPDATE jobs SET status = ?, reason = ?, code = ?, result = ?, ended = ?, charged = ?,"
                    " executions = ? WHERE id = ?",
                    (status, reason, code, result, time.time(), seconds, executions, row["id"]),
                )

    def _execute(self, params, seed):
        from emulator.program import run_apart

        return run_apart(params, self.noise, seed)

    # ------------------------------------------------------------------ books

    def bill(self):
        """Seconds that were charged."""
        with self._open() as books:
            return float(books.execute("SELECT coalesce(sum(charged), 0) FROM jobs").fetchone()[0])

    def jobs(self):
        """All jobs, oldest first: id, tags, status, seconds charged, executions."""
        with self._open() as books:
            rows = books.execute("SELECT * FROM jobs ORDER BY number").fetchall()
        return [
            {
                "id": row["id"],
                "tags": json.loads(row["tags"]),
                "status": row["status"],
                "charged": row["charged"],
                "executions": row["executions"],
                "session": row["session"],
            }
            for row in rows
        ]

    def open_session(self, mode, max_ttl):
        """A session or batch; its id."""
        session = uuid.uuid4().hex
        with self._open() as books:
            books.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, NULL)", (session, mode, max_ttl, time.time())
            )
        return session

    def session(self, session):
        """A session, None where there is none."""
        with self._open() as books:
            return books.execute("SELECT * FROM sessions WHERE id = ?", (session,)).fetchone()

    def close_session(self, session):
        """End a session."""
        with self._open() as books:
            books.execute(
                "UPDATE sessions SET closed = coalesce(closed, ?) WHERE id = ?", (time.time(), session)
            )

    def open_sessions(self):
        """Sessions that nobody closed."""
        with self._open() as books:
            return [row["id"] for row in books.execute("SELECT id FROM sessions WHERE closed IS NULL")]

    def called(self, method, path):
        """Keep that something was asked."""
        with self._open() as books:
            books.execute("INSERT INTO calls VALUES (?, ?)", (method, path))

    def calls(self, method, path):
        """How often something was asked."""
        with self._open() as books:
            return books.execute(
                "SELECT count(*) FROM calls WHERE method = ? AND path = ?", (method, path)
            ).fetchone()[0]
