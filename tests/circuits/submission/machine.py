"""A machine that costs money, in one file: shared by processes, with its own bill and a list of faults to commit."""

import sqlite3
import time
from contextlib import closing

from circuits.journal import Job
from circuits.submission import Refused

SECONDS = 2.0


class Machine:
    """Jobs in SQLite; each costs two seconds. ``faults`` is a list of what the next submissions do."""

    def __init__(self, path, faults=(), limit=None):
        self.path, self.faults, self.limit = str(path), list(faults), limit
        self.calls = []
        with self._open() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, tag TEXT, payload TEXT, status TEXT, "
                "created REAL, charged REAL)"
            )

    def _open(self):
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return closing(connection)

    def _accept(self, tag, payload, status="done", charged=SECONDS):
        with self._open() as connection:
            return str(
                connection.execute(
                    "INSERT INTO jobs (tag, payload, status, created, charged) VALUES (?, ?, ?, ?, ?)",
                    (tag, payload, status, time.time(), charged),
                ).lastrowid
            )

    def submit(self, payload, tag, seconds):
        self.calls.append("submit")
        fault = self.faults.pop(0) if self.faults else None
        if fault == "refused":
            raise Refused("no such machine")
        if fault == "before":  # the request never arrived
            raise ConnectionError("502")
        if fault == "repeated":  # the client's own retries made three jobs of it
            self._accept(tag, payload, "done")
            self._accept(tag, payload, "queued", 0.0)
        job = self._accept(
            tag, payload, "failed" if fault == "failed" else "done", 0.0 if fault == "failed" else SECONDS
        )
        if fault == "after":  # it did, and the reply was lost
            raise TimeoutError("dropped")
        return job

    def find(self, tag, since):
        self.calls.append("find")
        with self._open() as connection:
            rows = connection.execute(
                "SELECT * FROM jobs WHERE tag = ? AND created >= ?", (tag, since)
            ).fetchall()
        return [self._job(row) for row in rows]

    def look(self, job_id):
        self.calls.append("look")
        if self.faults and self.faults[0] == "storm":
            self.faults.pop(0)
            raise ConnectionError("429")
        with self._open() as connection:
            return self._job(connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone())

    def _job(self, row):
        reason = "out of helium" if row["status"] == "failed" else None
        return Job(str(row["id"]), row["status"], row["created"], row["charged"], reason)

    def fetch(self, job_id):
        self.calls.append("fetch")
        with self._open() as connection:
            row = connection.execute("SELECT payload FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return f"answer to {row['payload']}".encode()

    def cancel(self, job_id):
        self.calls.append("cancel")
        with self._open() as connection:
            connection.execute(
                "UPDATE jobs SET status = 'cancelled' WHERE id = ? AND status = 'queued'", (job_id,)
            )

    def remaining(self):
        return self.limit

    def bill(self):
        """Seconds that all jobs cost, by the machine's own book."""
        with self._open() as connection:
            return connection.execute("SELECT coalesce(sum(charged), 0) FROM jobs").fetchone()[0]

    def count(self, status=None):
        """How many jobs there are."""
        query = "SELECT count(*) FROM jobs" + ("" if status is None else f" WHERE status = '{status}'")
        with self._open() as connection:
            return connection.execute(query).fetchone()[0]
