"""The REST surface of IBM's service, over HTTP/1.1 on 127.0.0.1, with faults on order."""

import base64
import json
import re
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from .faults import FATES, HTTP, PLACES
from .store import FINAL

INTERNAL, MAX_TIME = 9999, 1305


class Reject(Exception):
    """An error reply."""

    def __init__(self, status, message, code=None):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code or status


class Server(ThreadingHTTPServer):
    """Answers requests, and runs queued jobs one after the other.

    Args:
        port: 0 for a free one.
        store: the state.
        processor: what runs programs.
        settings: of the service; see ``Loopback``.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port, store, processor, settings):
        super().__init__(("127.0.0.1", port), Handler)
        self.store, self.processor, self.settings = store, processor, settings
        self.requests, self.by_place = 0, {}
        self.work, self.stopping = threading.Event(), False
        store.requeue()
        self.threads = [
            threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True),
            threading.Thread(target=self._run_jobs, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def stop(self):
        """Stop answering and running; queued and running jobs are kept."""
        self.stopping = True
        self.work.set()
        self.shutdown()
        self.server_close()
        for thread in self.threads:
            thread.join(timeout=30)

    def handle_error(self, request, client_address):
        """Clients that hang up are no news."""

    # ------------------------------------------------------------------ jobs

    def accept(self, request, instance, fate):
        """Queue a submission; its id.

        Raises:
            Reject: it cannot be run.
        """
        try:
            _, executions = self.processor.read(request)
        except Exception as error:
            raise Reject(400, f"Invalid input: {' '.join(str(error).split())}"[:300]) from error
        if request.get("session_id"):
            session = self.store.session(request["session_id"], instance)
            if session is None or not session["accepting"]:
                raise Reject(400, "The session is closed", 1217)
        seconds = self.settings.overhead + self.settings.per_execution * executions
        ready = time.time() + self.settings.queue_seconds
        job = self.store.accept(request, instance, executions, seconds, ready, fate)
        self.work.set()
        return job

    def _run_jobs(self):
        while not self.stopping:
            try:
                job = self.store.next(self.settings.limit_seconds)
                if job is not None:
                    self._run(job)
                    continue
            except Exception:
                if not self.stopping:
                    raise
            self.work.wait(self.settings.tick)
            self.work.clear()

    def _run(self, job):
        """One job to its end; what it costs is a formula, not the time that Aer takes."""
        kind, options = json.loads(job["fate"]) or (None, {})
        cap = min(job["cost"] or self.settings.longest, self.settings.longest)
        used, begun = min(job["seconds"], cap), time.time()
        ends = begun + used * self.settings.pace
        while (left := ends - time.time()) > 0 and not self.stopping:
            time.sleep(min(left, 0.01))
            if self.store.job(job["id"])["status"] != "Running":
                return
        if self.stopping:
            return
        if kind == "max-time" or job["seconds"] > cap:
            used = min(options.get("seconds", cap), cap)
            self.store.end(
                job["id"], "Cancelled", used, "", "Job ran longer than its maximum execution time", MAX_TIME
            )
        elif kind == "failed":
            reason, code = options.get("reason", "Internal error"), options.get("code", INTERNAL)
            self.store.end(job["id"], "Failed", options.get("seconds", 0.0), reason, reason, code)
        else:
            try:
                request = {"program_id": job["program"], "params": json.loads(job["params"])}
                result = self.processor.run(self.processor.read(request)[0], job["number"])
            except Exception as error:  # a system's error costs nothing
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
                self.store.end(job["id"], "Failed", 0.0, reason, reason, INTERNAL)
                return
            result = {"empty": "", "malformed-result": result[: len(result) // 2]}.get(kind, result)
            self.store.end(job["id"], "Completed", used, result)

    def cancel(self, job):
        """Stop a job; it is charged what it used.

        Raises:
            Reject: it is final.
        """
        if job["status"] in FINAL:
            raise Reject(409, "Job cannot be cancelled: it is in a final state", 1251)
        charged = 0.0
        if job["status"] == "Running":
            cap = min(job["cost"] or self.settings.longest, self.settings.longest, job["seconds"])
            elapsed = time.time() - job["started"]
            charged = min(cap, elapsed / self.settings.pace) if self.settings.pace > 0 else cap
        self.store.end(job["id"], "Cancelled", charged, reason="Cancelled by the user")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one packet

    def log_message(self, format, *args):
        """Nothing: requests carry credentials."""

    def do_GET(self):
        """Answer."""
        self._answer("GET")

    do_POST = lambda self: self._answer("POST")  # noqa: E731
    do_PUT = lambda self: self._answer("PUT")  # noqa: E731
    do_PATCH = lambda self: self._answer("PATCH")  # noqa: E731
    do_DELETE = lambda self: self._answer("DELETE")  # noqa: E731

    def _answer(self, method):
        url = urlsplit(self.path)
        self.path_only = unquote(url.path.removeprefix("/experimental").removeprefix("/api/v1")) or "/"
        self.query = parse_qs(url.query)
        self.raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for verb, pattern, place, action in ROUTES:
            if verb == method and (found := re.fullmatch(pattern, self.path_only)):
                break
        else:
            self._send(
                404, {"error": {"code": 404, "message": f"{method} {self.path_only}: no such endpoint"}}
            )
            return
        server = self.server
        if place != "admin":
            server.requests += 1
            server.by_place[place] = server.by_place.get(place, 0) + 1
        fault = server.store.fault(place) if place in PLACES else None
        kind, options = fault or (None, {})
        try:
            if place in PLACES:
                self._authorised()
            if kind in HTTP and not HTTP[kind].after:
                self._spoil(kind, options)
                return
            self.fault = fault if kind in FATES or kind == "duplicate" else None
            status, reply = action(self, *found.groups())
        except Reject as error:
            body = {"code": error.code, "message": error.message}
            status, reply = error.status, {"error": body, "errors": [body]}
            kind = None
        if kind in HTTP:
            self._spoil(kind, options, status, reply)
        else:
            self._send(status, reply)

    def _spoil(self, kind, options, status=200, reply=None):
        what = HTTP[kind]
        if what.what == "drop":
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        elif what.what == "late":
            time.sleep(options.get("seconds", self.server.settings.late))
            with suppress(OSError):
                self._send(status, reply)
        elif what.what == "malformed":
            self._send(200, '{"id": "half a rep')
        else:
            headers = (
                {} if options.get("retry_after") is None else {"Retry-After": str(options["retry_after"])}
            )
            body = {"code": what.what, "message": f"{kind}, on order"}
            self._send(what.what, {"error": body, "errors": [body]}, headers)

    def _send(self, status, reply, headers=None):
        text = isinstance(reply, str)
        body = b"" if reply is None else (reply if text else json.dumps(reply)).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/plain" if text else "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)
        self.wfile.flush()

    # ------------------------------------------------------------------ who asks

    def _authorised(self):
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        try:
            if kind != "Bearer" or _claims(token)["exp"] < time.time():
                raise ValueError
        except Exception as error:
            raise Reject(401, "Unable to authenticate", 1200) from error
        self.instance = self.headers.get("Service-CRN")
        if self.instance not in self.server.settings.instances:
            raise Reject(403, "No access to this instance", 1201)

    def token(self):
        """POST /identity/token."""
        form = parse_qs(self.raw.decode())
        if form.get("apikey", [""])[0] != self.server.settings.token:
            return 400, {"errorCode": "BXNIM0415E", "errorMessage": "Provided API key could not be found."}
        now = int(time.time())
        life = int(self.server.settings.token_seconds)
        parts = ({"alg": "none", "typ": "JWT"}, {"iat": now, "exp": now + life, "iss": "loopback"})
        coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
        access = ".".join([*coded, base64.urlsafe_b64encode(b"unchecked").rstrip(b"=").decode()])
        return 200, {
            "access_token": access,
            "refresh_token": "not_supported",
            "token_type": "Bearer",
            "expires_in": life,
            "expiration": now + life,
        }

    def search(self):
        """POST /v3/resources/search."""
        items = [
            {
                "crn": crn,
                "name": f"loopback-{number}",
                "service_plan_unique_id": "plan",
                "doc": {"extensions": {"backends": [self.server.processor.name]}},
                "tags": [],
            }
            for number, crn in enumerate(self.server.settings.instances)
        ]
        return 200, {"items": items, "limit": 100}

    def plan(self):
        """GET {catalog}/{plan}."""
        return 200, {
            "overview_ui": {"en": {"display_name": "Open"}},
            "metadata": {"pricing": {"type": "free"}},
        }

    # ------------------------------------------------------------------ machines

    def backends(self):
        """GET /backends."""
        waiting = len(self.server.store.jobs(status="Queued"))
        machine = self.server.processor
        device = {
            "name": machine.name,
            "qubits": machine.fake.num_qubits,
            "status": {"name": "online", "reason": "available"},
            "queue_length": waiting,
        }
        return 200, {"devices": [device]}

    def _machine(self, name):
        if name != self.server.processor.name:
            raise Reject(404, f"backend {name} not found", 1216)

    def document(self, name, which):
        """GET /backends/{name}/configuration and /properties."""
        self._machine(name)
        return 200, self.server.processor.document(which)

    def status(self, name):
        """GET /backends/{name}/status."""
        self._machine(name)
        waiting = len(self.server.store.jobs(status="Queued"))
        return 200, {"state": True, "status": "active", "length_queue": waiting, "backend_version": "1.0.0"}

    def usage(self):
        """GET /instances/usage."""
        used, limit = self.server.store.consumed(self.instance), self.server.settings.limit_seconds
        reply = {"instance_id": self.instance, "usage_consumed_seconds": used}
        if limit is not None:
            reply |= {"usage_limit_seconds": limit, "usage_limit_reached": used >= limit}
        return 200, reply

    # ------------------------------------------------------------------ jobs

    def submit(self):
        """POST /jobs."""
        try:
            request = json.loads(self.raw)
            name = request["backend"]
        except Exception as error:
            raise Reject(400, "the body is not a submission") from error
        self._machine(name)
        kind, options = self.fault or (None, {})
        copies = options.get("copies", 2) if kind == "duplicate" else 1
        jobs = [
            self.server.accept(request, self.instance, self.fault if kind in FATES else None)
            for _ in range(copies)
        ]
        return 200, {"id": jobs[-1], "backend": name}

    def _job(self, job):
        found = self.server.store.job(job, self.instance)
        if found is None:
            raise Reject(404, f"Job {job} not found", 1291)
        return found

    def _described(self, job, params=False, looks=False):
        status, fate = job["status"], json.loads(job["fate"])
        if fate and fate[0] == "unknown-status" and looks:
            most = fate[1].get("looks", 2)
            if most is None or self.server.store.look(job["id"]) < most:
                status = fate[1].get("status", "Recalibrating")
        state = {"status": status}
        if job["reason"] and status == job["status"]:
            state |= {"reason": job["reason"], "reason_code": job["code"]}
        found = {
            "id": job["id"],
            "program": {"id": job["program"]},
            "backend": job["backend"],
            "tags": json.loads(job["tags"]),
            "session_id": job["session"],
            "created": _iso(job["created"]),
            "state": state,
            "status": status,
            "cost": job["cost"],
            "private": False,
            "estimated_running_time_seconds": job["seconds"],
        }
        return {**found, "params": json.loads(job["params"])} if params else found

    def job(self, job):
        """GET /jobs/{id}."""
        params = self.query.get("exclude_params") != ["true"]
        return 200, self._described(self._job(job), params, looks=True)

    def jobs(self):
        """GET /jobs."""
        one = {name: values[0] for name, values in self.query.items()}
        equal = {
            "backend": one.get("backend"),
            "program": one.get("program"),
            "session": one.get("session_id"),
        }
        found = self.server.store.jobs(self.instance, self.query.get("tags", ()), **equal)
        if "pending" in one:
            found = [job for job in found if (job["status"] not in FINAL) == (one["pending"] == "true")]
        for name, sign in (("created_after", 1), ("created_before", -1)):
            if name in one:
                bound = datetime.fromisoformat(one[name].replace(" ", "+")).timestamp()
                found = [job for job in found if sign * job["created"] >= sign * bound]
        if one.get("sort") != "ASC":
            found.reverse()
        offset, limit = int(one.get("offset", 0)), int(one.get("limit", 10))
        page = [self._described(job) for job in found[offset : offset + limit]]
        return 200, {"jobs": page, "count": len(found), "limit": limit, "offset": offset}

    def results(self, job):
        """GET /jobs/{id}/results."""
        return 200, self._job(job)["result"] or ""

    def metrics(self, job):
        """GET /jobs/{id}/metrics."""
        found = self._job(job)
        fate, options = json.loads(found["fate"]) or (None, {})
        usage = {"status": "pending"}
        if found["status"] in FINAL:
            usage = {"status": "final", "qpu_charge_time_seconds": found["charged"]}
        if fate == "no-usage":
            usage = {}
        if fate == "late-usage" and self.server.store.look(job) < options.get("looks", 2):
            usage = {"status": "pending", "qpu_charge_time_seconds": 0}
        times = {"created": "created", "running": "started", "finished": "finished"}
        stamps = {name: None if found[key] is None else _iso(found[key]) for name, key in times.items()}
        return 200, {"timestamps": stamps, "usage": usage, "executions": found["executions"]}

    def logs(self, job):
        """GET /jobs/{id}/logs."""
        return 200, f"{self._job(job)['executions']} executions"

    def cancel(self, job):
        """POST /jobs/{id}/cancel."""
        self.server.cancel(self._job(job))
        return 204, None

    def forget(self, job):
        """DELETE /jobs/{id}."""
        if self._job(job)["status"] not in FINAL:
            raise Reject(409, "Job cannot be deleted: it is not final", 1252)
        self.server.store.delete(job)
        return 204, None

    def retag(self, job):
        """PUT /jobs/{id}/tags."""
        self._job(job)
        self.server.store.retag(job, json.loads(self.raw)["tags"])
        return 204, None

    # ------------------------------------------------------------------ sessions

    def open_session(self):
        """POST /sessions."""
        asked = json.loads(self.raw)
        mode, name = asked.get("mode") or "dedicated", asked.get("backend")
        self._machine(name)
        if mode == "dedicated" and not self.server.settings.sessions:
            raise Reject(400, "Sessions are not available on this plan", 1352)
        session = self.server.store.open_session(self.instance, name, mode, asked.get("max_ttl"))
        return 200, self._session(session)

    def _session(self, session):
        found = self.server.store.session(session, self.instance)
        if found is None:
            raise Reject(404, f"Session {session} not found", 1211)
        jobs = self.server.store.jobs(session=session)
        return {
            "id": session,
            "backend_name": found["backend"],
            "mode": found["mode"],
            "state": found["state"],
            "accepting_jobs": found["accepting"],
            "max_ttl": found["max_ttl"],
            "active_ttl": found["max_ttl"],
            "interactive_ttl": self.server.store.interactive_ttl,
            "elapsed_time": found["elapsed"],
            "started_at": _iso(found["created"]),
            "activated_at": _iso(found["activated"]),
            "closed_at": _iso(found["closed"]),
            "last_job_started": _iso(max((job["started"] or 0 for job in jobs), default=0) or None),
            "last_job_completed": _iso(max((job["finished"] or 0 for job in jobs), default=0) or None),
        }

    def session(self, session):
        """GET /sessions/{id}."""
        return 200, self._session(session)

    def change_session(self, session):
        """PATCH /sessions/{id}."""
        self._session(session)
        if json.loads(self.raw).get("accepting_jobs") is False:
            self.server.store.close_session(session)
        return 200, self._session(session)

    def end_session(self, session):
        """DELETE /sessions/{id}/close: its queued jobs are cancelled."""
        self._session(session)
        self.server.store.close_session(session)
        for job in self.server.store.jobs(session=session):
            if job["status"] == "Queued":
                self.server.cancel(job)
        return 204, None

    # ------------------------------------------------------------------ this service's own

    def admin_bill(self):
        """GET /admin/bill."""
        return 200, self.server.store.bill()

    def admin_jobs(self):
        """GET /admin/jobs."""
        return 200, self.server.settings.described(self.server.store.jobs())

    def admin_requests(self):
        """GET /admin/requests."""
        return 200, {"requests": self.server.requests, **self.server.by_place}

    def admin_fault(self):
        """POST /admin/faults: ``kind``, ``times``, ``on`` and options; or ``schedule`` with its arguments."""
        from .faults import inject, schedule

        try:
            asked = json.loads(self.raw)
            if "kinds" in asked:
                schedule(self.server.store, **asked)
            else:
                inject(self.server.store, **asked)
        except (TypeError, ValueError) as error:
            raise Reject(400, str(error)) from error
        return 200, {"pending": self.server.store.pending()}

    def admin_clear(self):
        """DELETE /admin/faults."""
        self.server.store.clear()
        return 204, None


def _claims(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _iso(seconds):
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    )


ROUTES = [
    ("POST", "/identity/token", "token", Handler.token),
    ("POST", "/v3/resources/search", "search", Handler.search),
    ("GET", "/plan", "search", Handler.plan),
    ("GET", "/backends", "backends", Handler.backends),
    ("GET", "/backends/([^/]+)/(configuration|properties)", "backends", Handler.document),
    ("GET", "/backends/([^/]+)/status", "status", Handler.status),
    ("GET", "/instances/usage", "usage", Handler.usage),
    ("POST", "/jobs", "submit", Handler.submit),
    ("GET", "/jobs", "find", Handler.jobs),
    ("GET", "/jobs/([^/]+)", "look", Handler.job),
    ("DELETE", "/jobs/([^/]+)", "cancel", Handler.forget),
    ("GET", "/jobs/([^/]+)/results", "results", Handler.results),
    ("GET", "/jobs/([^/]+)/metrics", "metrics", Handler.metrics),
    ("GET", "/jobs/([^/]+)/logs", "results", Handler.logs),
    ("POST", "/jobs/([^/]+)/cancel", "cancel", Handler.cancel),
    ("PUT", "/jobs/([^/]+)/tags", "cancel", Handler.retag),
    ("POST", "/sessions", "sessions", Handler.open_session),
    ("GET", "/sessions/([^/]+)", "sessions", Handler.session),
    ("PATCH", "/sessions/([^/]+)", "sessions", Handler.change_session),
    ("DELETE", "/sessions/([^/]+)/close", "sessions", Handler.end_session),
    ("GET", "/admin/bill", "admin", Handler.admin_bill),
    ("GET", "/admin/jobs", "admin", Handler.admin_jobs),
    ("GET", "/admin/requests", "admin", Handler.admin_requests),
    ("POST", "/admin/faults", "admin", Handler.admin_fault),
    ("DELETE", "/admin/faults", "admin", Handler.admin_clear),
]
