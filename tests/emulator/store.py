"""What the loopback service knows, in one SQLite file: jobs, sessions, faults, and from them its bill."""

import json
import random
import sqlite3
import time
import uuid
from pathlib import Path
from threading import RLock

FINAL = ("Completed", "Failed", "Cancelled")
FAR = 1e18

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY, id TEXT UNIQUE, instance TEXT, program TEXT, backend TEXT, params TEXT, tags TEXT,
    session TEXT, cost REAL, executions INTEGER, seconds REAL, status TEXT, reason TEXT, code INTEGER, fate TEXT,
    created REAL, ready REAL, started REAL, finished REAL, charged REAL, result TEXT, looks INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS tags (job TEXT, tag TEXT);
CREATE INDEX IF NOT EXISTS by_tag ON tags (tag);
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, instance TEXT, backend TEXT, mode TEXT, max_ttl REAL, created REAL, activated REAL,
    closed REAL, accepting INTEGER DEFAULT 1);
CREATE TABLE IF NOT EXISTS faults (number INTEGER PRIMARY KEY, kind TEXT, place TEXT, options TEXT);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT);
"""


class Store:
    """The service's state.

    Args:
        path: the SQLite file; other processes may open it too.
        interactive_ttl: seconds for which a session may be idle before it no longer holds the machine.
    """

    def __init__(self, path, interactive_ttl=60.0):
        self.interactive_ttl = interactive_ttl
        self._lock = RLock()
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")  # a killed process loses nothing
        self._connection.executescript(SCHEMA)

    def close(self):
        """Close the file."""
        with self._lock:
            self._connection.close()

    def ask(self, query, *values):
        """All rows of a query."""
        with self._lock:
            return [dict(row) for row in self._connection.execute(query, values).fetchall()]

    def fact(self, name, make):
        """A value that stays the same for as long as the file lives."""
        with self._lock:
            self.ask("INSERT OR IGNORE INTO facts VALUES (?, ?)", name, json.dumps(make()))
            return json.loads(self.ask("SELECT value FROM facts WHERE name = ?", name)[0]["value"])

    # ------------------------------------------------------------------ jobs

    def accept(self, request, instance, executions, seconds, ready, fate=None):
        """A new job, queued until ``ready``; its id."""
        job = uuid.uuid4().hex[:20]
        with self._lock:
            self.ask("BEGIN IMMEDIATE")
            tags = request.get("tags") or []
            self.ask(
                "INSERT INTO jobs (id, instance, program, backend, params, tags, session, cost, executions, seconds, "
                "status, fate, created, ready, charged) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'Queued', ?, ?, ?, 0)",
                *(job, instance, request["program_id"], request["backend"], json.dumps(request["params"])),
                *(json.dumps(tags), request.get("session_id"), request.get("cost"), executions, seconds),
                *(json.dumps(fate), time.time(), ready),
            )
            self._tag(job, tags)
            self.ask("COMMIT")
        return job

    def _tag(self, job, tags):
        self.ask("DELETE FROM tags WHERE job = ?", job)
        for tag in tags:
            self.ask("INSERT INTO tags VALUES (?, ?)", job, tag)

    def retag(self, job, tags):
        """Give a job other tags."""
        with self._lock:
            self._tag(job, tags)
            self.ask("UPDATE jobs SET tags = ? WHERE id = ?", json.dumps(tags), job)

    def job(self, job, instance=None):
        """A job, None if there is none of that id."""
        rows = self.ask(
            "SELECT * FROM jobs WHERE id = ? AND (? IS NULL OR instance = ?)", job, instance, instance
        )
        return rows[0] if rows else None

    def jobs(self, instance=None, tags=(), **equal):
        """All jobs with these tags, oldest first."""
        query, values = "SELECT * FROM jobs WHERE 1", []
        for name, value in {"instance": instance, **equal}.items():
            if value is not None:
                query, values = f"{query} AND {name} = ?", [*values, value]
        for tag in tags:
            query, values = f"{query} AND id IN (SELECT job FROM tags WHERE tag = ?)", [*values, tag]
        return self.ask(f"{query} ORDER BY number", *values)

    def next(self, limit):
        """The first job whose turn it is and whose instance has seconds left, now running; None without."""
        with self._lock:
            spent = {}
            for row in self.ask(
                "SELECT number, id, instance FROM jobs WHERE status = 'Queued' AND ready <= ? ORDER BY number",
                time.time(),
            ):
                instance = row["instance"]
                if limit is not None and spent.setdefault(instance, self.consumed(instance)) >= limit:
                    continue
                taken = self.ask(
                    "UPDATE jobs SET status = 'Running', started = ? WHERE id = ? AND status = 'Queued' RETURNING *",
                    *(time.time(), row["id"]),
                )
                if taken:
                    session = taken[0]["session"]
                    self.ask(
                        "UPDATE sessions SET activated = ? WHERE id = ? AND activated IS NULL",
                        time.time(),
                        session,
                    )
                    return taken[0]
        return None

    def end(self, job, status, charged, result="", reason=None, code=None):
        """A running job ends; nothing happens to one that ended before."""
        self.ask(
            "UPDATE jobs SET status = ?, charged = ?, result = ?, reason = ?, code = ?, finished = ? "
            "WHERE id = ? AND status IN ('Queued', 'Running')",
            *(status, charged, result, reason, code, time.time(), job),
        )

    def look(self, job):
        """Count a look at a job; how many there were before."""
        return self.ask("UPDATE jobs SET looks = looks + 1 WHERE id = ? RETURNING looks", job)[0]["looks"] - 1

    def delete(self, job):
        """Forget a job's parameters and result; its charge stays."""
        self.ask("UPDATE jobs SET params = 'null', result = '' WHERE id = ?", job)

    def requeue(self):
        """Jobs that were running when the service died start anew."""
        self.ask("UPDATE jobs SET status = 'Queued', started = NULL WHERE status = 'Running'")

    # ------------------------------------------------------------------ sessions

    def open_session(self, instance, backend, mode, max_ttl):
        """A new session or batch; its id."""
        session = uuid.uuid4().hex[:20]
        self.ask(
            "INSERT INTO sessions (id, instance, backend, mode, max_ttl, created) VALUES (?, ?, ?, ?, ?, ?)",
            *(session, instance, backend, mode, max_ttl, time.time()),
        )
        return session

    def session(self, session, instance=None):
        """A session as it is now, with ``state`` and the idle seconds that it is charged; None if there is none."""
        rows = self.ask(
            "SELECT * FROM sessions WHERE id = ? AND (? IS NULL OR instance = ?)", session, instance, instance
        )
        if not rows:
            return None
        found, now = rows[0], time.time()
        ends = min(found["closed"] or FAR, (found["activated"] or FAR) + (found["max_ttl"] or FAR))
        jobs = self.jobs(session=session)
        waiting = any(job["status"] not in FINAL for job in jobs)
        closed = now >= ends and not waiting
        idle, held = 0.0, found["activated"]
        if found["mode"] == "dedicated" and held is not None:
            stops = sorted((job["started"], job["finished"] or now) for job in jobs if job["started"])
            for started, finished in [*stops, (min(now, ends), 0.0)]:
                idle += min(max(0.0, started - held), self.interactive_ttl)
                held = max(held, finished)
        state = "closed" if closed else "open" if found["activated"] is None else "active"
        if state == "active" and not waiting and held is not None and now - held > self.interactive_ttl:
            state = "inactive"
        accepting = bool(found["accepting"]) and now < ends
        used = sum(job["charged"] for job in jobs)
        return {**found, "state": state, "accepting": accepting, "idle": idle, "elapsed": used + idle}

    def close_session(self, session):
        """No more jobs are accepted; it ends with the last one."""
        self.ask(
            "UPDATE sessions SET accepting = 0, closed = coalesce(closed, ?) WHERE id = ?",
            time.time(),
            session,
        )

    # ------------------------------------------------------------------ money

    def consumed(self, instance=None):
        """Seconds charged to an instance, or to all."""
        return self.bill(instance)["seconds"]

    def bill(self, instance=None):
        """Seconds that were charged: ``seconds`` in all, of ``jobs``, and of ``idle`` sessions; ``count`` of jobs."""
        row = self.ask(
            "SELECT coalesce(sum(charged), 0) AS jobs, count(*) AS count FROM jobs WHERE ? IS NULL OR instance = ?",
            *(instance, instance),
        )[0]
        sessions = self.ask(
            "SELECT id FROM sessions WHERE mode = 'dedicated' AND (? IS NULL OR instance = ?)",
            instance,
            instance,
        )
        idle = sum(self.session(each["id"])["idle"] for each in sessions)
        return {"seconds": row["jobs"] + idle, "jobs": row["jobs"], "idle": idle, "count": row["count"]}

    # ------------------------------------------------------------------ faults

    def inject(self, kind, times, place, options):
        """Queue a fault."""
        with self._lock:
            self.ask("BEGIN IMMEDIATE")
            for _ in range(times):
                self.ask(
                    "INSERT INTO faults (kind, place, options) VALUES (?, ?, ?)",
                    kind,
                    place,
                    json.dumps(options),
                )
            self.ask("COMMIT")

    def schedule(self, kinds, count, share, seed):
        """Queue what the next ``count`` submissions meet: a share of them one of ``kinds``, the others nothing."""
        draw = random.Random(seed)
        with self._lock:
            self.ask("BEGIN IMMEDIATE")
            for _ in range(count):
                kind = draw.choice(list(kinds)) if draw.random() < share else "none"
                self.ask("INSERT INTO faults (kind, place, options) VALUES (?, 'submit', '{}')", kind)
            self.ask("COMMIT")

    def fault(self, place):
        """The next fault of a place, taken off the queue: kind and options; None without."""
        with self._lock:
            rows = self.ask(
                "DELETE FROM faults WHERE number = (SELECT min(number) FROM faults WHERE place IN (?, 'any')) "
                "RETURNING kind, options",
                place,
            )
        if not rows or rows[0]["kind"] == "none":
            return None
        return rows[0]["kind"], json.loads(rows[0]["options"])

    def pending(self):
        """How many faults are queued."""
        return self.ask("SELECT count(*) AS n FROM faults")[0]["n"]

    def clear(self):
        """Forget all faults."""
        self.ask("DELETE FROM faults")
