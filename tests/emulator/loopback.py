"""The service's REST surface on 127.0.0.1, as the client of version 0.51 calls it."""

import base64
import json
import re
import socket
import struct
import threading
import time
from datetime import UTC, datetime
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from emulator.machine import Machine
from emulator.program import recorded

NAME = "ibm_loopback"
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/0123456789abcdef0123456789abcdef:11111111-2222-3333-4444-555555555555::"
TOKEN = "CANARY-token-of-the-loopback-service"
API = "/experimental"


class Loopback:
    """The service, running in a thread while the context lasts.

    Args:
        folder: of its books.
        port: 0 takes a free one.
        options: of ``Machine``.

    Attributes:
        environment: sends a client there that is built without arguments.
    """

    def __init__(self, folder, port=0, **options):
        self.machine = Machine(folder, **options)
        handler = type("Handler", (_Handler,), {"machine": self.machine})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.port = self._server.server_address[1]
        base = f"http://127.0.0.1:{self.port}"
        handler.base = base
        home = Path(folder) / "home"
        home.mkdir(parents=True, exist_ok=True)
        self.environment = {
            "QISKIT_IBM_TOKEN": TOKEN,
            "QISKIT_IBM_INSTANCE": CRN,
            "QISKIT_IBM_CHANNEL": "ibm_quantum_platform",
            "QISKIT_IBM_URL": base + API,
            "IAM_URL": base,
            "GLOBAL_SEARCH_URL": base,
            "GLOBAL_CATALOG_URL": base + "/api/v1",
            "HOME": str(home),  # no account file of the user's is read
        }

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)

    def __getattr__(self, name):
        return getattr(self.machine, name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    machine = None
    base = ""

    def log_message(self, *_):
        """Stay quiet."""

    def do_GET(self):
        self._answer("GET")

    def do_POST(self):
        self._answer("POST")

    def do_DELETE(self):
        self._answer("DELETE")

    def do_PATCH(self):
        self._answer("PATCH")

    def do_PUT(self):
        self._answer("PUT")

    def _answer(self, method):
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, query = url.path.removeprefix(API), parse_qs(url.query)
        self.machine.called(method, path)
        if method == "GET" and re.match(r"/jobs", path):
            fault = self.machine.next_fault("read")
            if fault == "dropped-read":
                return self._cut()
            if fault is not None:
                return self._error(int(fault[:3]))
        for verb, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, path)
            if verb == method and found:
                return answer(self, *found.groups(), query=query, body=body)
        return self._error(404)

    # ------------------------------------------------------------------ replies

    def _send(self, data, status=200, headers=()):
        text = data if isinstance(data, str) else json.dumps(data)
        raw = b"" if status == 204 else text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def _error(self, status, headers=()):
        self._send({"errors": [{"code": status, "message": f"error {status}"}]}, status, headers)

    def _cut(self):
        """Reset the connection: the client never learns what became of its request."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    # ------------------------------------------------------------------ account

    def token(self, **_):
        now = int(time.time())
        parts = [{"alg": "HS256"}, {"iat": now, "exp": now + 3600}]
        jwt = ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts)
        self._send(
            {
                "access_token": f"{jwt}.c2lnbmF0dXJl",
                "refresh_token": "none",
                "token_type": "Bearer",
                "expires_in": 3600,
                "expiration": now + 3600,
            }
        )

    def search(self, **_):
        item = {
            "crn": CRN,
            "name": "loopback",
            "service_plan_unique_id": "plan",
            "doc": {"extensions": {"backend": NAME}},
            "tags": [],
        }
        self._send({"items": [item], "limit": 100})

    def plan(self, _, **__):
        self._send({"overview_ui": {"en": {"display_name": "open"}}, "metadata": {"pricing": {"type": "free"}}})

    def usage(self, **_):
        spent = self.machine.bill()
        self._send(
            {
                "instance_id": CRN,
                "usage_limit_seconds": self.machine.limit,
                "usage_consumed_seconds": spent,
                "usage_limit_reached": spent >= self.machine.limit,
            }
        )

    # ------------------------------------------------------------------ machines

    def backends(self, **_):
        status = {"name": "online", "reason": "available"}
        self._send({"devices": [{"name": NAME, "qubits": 5, "status": status, "queue_length": 0}]})

    def configuration(self, **_):
        self._send(_recorded("conf_filename"))

    def properties(self, **_):
        self._send(_recorded("props_filename"))

    def status(self, **_):
        self._send({"state": True, "status": "active", "length_queue": 0, "backend_version": "1.0", "message": "active"})

    # ------------------------------------------------------------------ jobs

    def submit(self, body=b"", **_):
        fault = self.machine.next_fault("post")
        if fault in ("502-before", "401", "400"):
            return self._error(int(fault[:3]))
        if fault in ("429", "429-later"):
            return self._error(429, [("Retry-After", "1")] if fault == "429-later" else [])
        request = json.loads(body)
        ids = [self.machine.accept(request, fault) for _ in range(3 if fault == "duplicate" else 1)]
        if fault == "502-after":
            return self._error(502)
        if fault == "dropped":
            return self._cut()
        if fault == "malformed":
            return self._send("{ this is no JSON")
        return self._send({"id": ids[0], "backend": request.get("backend")})

    def list_jobs(self, query=None, **_):
        tags, session = query.get("tags", []), query.get("session_id", [None])[0]
        after = query.get("created_after", [None])[0]
        found = self.machine.find(tags, None if after is None else datetime.fromisoformat(after).timestamp(), session)
        skip, limit = int(query.get("offset", ["0"])[0]), int(query.get("limit", ["10"])[0])
        jobs = [self._told(self.machine.job(job)) for job in found[skip : skip + limit]]
        self._send({"jobs": jobs, "count": len(found), "limit": limit, "offset": skip})

    def get_job(self, job_id, **_):
        row = self.machine.job(job_id)
        return self._error(404) if row is None else self._send(self._told(row))

    def results(self, job_id, **_):
        row = self.machine.job(job_id)
        return self._error(404) if row is None or row["status"] != "Completed" else self._send(row["result"] or "")

    def metrics(self, job_id, **_):
        row = self.machine.job(job_id)
        if row is None:
            return self._error(404)
        times = {"created": row["created"], "running": row["started"], "finished": row["ended"]}
        stamps = {name: _iso(value) for name, value in times.items()}
        return self._send({"timestamps": stamps, "usage": self.machine.usage_of(job_id)})

    def logs(self, _, **__):
        self._send("")

    def cancel(self, job_id, **_):
        if self.machine.job(job_id) is None:
            return self._error(404)
        return self._send("", 204) if self.machine.cancel(job_id) else self._error(409)

    def retag(self, _, **__):
        self._send("", 204)

    def _told(self, row):
        state = {"status": row["status"], "reason": row["reason"], "reason_code": row["code"]}
        return {
            "id": row["id"],
            "program": {"id": "executor"},
            "backend": row["backend"],
            "tags": json.loads(row["tags"]),
            "session_id": row["session"],
            "created": _iso(row["created"]),
            "state": state,
            "status": row["status"],
            "cost": row["cost"],
            "estimated_running_time_seconds": None,
        }

    # ------------------------------------------------------------------ sessions

    def open_session(self, body=b"", **_):
        request = json.loads(body or b"{}")
        session = self.machine.open_session(request.get("mode", "dedicated"), request.get("max_ttl"))
        self.get_session(session)

    def get_session(self, session, **_):
        row = self.machine.session(session)
        if row is None:
            return self._error(404)
        is_open = row["closed"] is None
        return self._send(
            {
                "id": row["id"],
                "backend_name": NAME,
                "mode": row["mode"],
                "state": "open" if is_open else "closed",
                "accepting_jobs": is_open,
                "max_ttl": row["max_ttl"],
                "elapsed_time": (row["closed"] or time.time()) - row["opened"],
            }
        )

    def close_session(self, session, **_):
        if self.machine.session(session) is None:
            return self._error(404)
        self.machine.close_session(session)
        return self._send("", 204)

    # ------------------------------------------------------------------ orders

    def inject(self, body=b"", **_):
        order = json.loads(body)
        self.machine.inject(order["kind"], order.get("times", 1))
        self._send({})

    def books(self, **_):
        self._send({"bill": self.machine.bill(), "jobs": self.machine.jobs()})


_ROUTES = (
    ("POST", "/identity/token", _Handler.token),
    ("POST", "/v3/resources/search", _Handler.search),
    ("GET", "/api/v1/(plan)", _Handler.plan),
    ("GET", "/instances/usage", _Handler.usage),
    ("GET", "/backends", _Handler.backends),
    ("GET", f"/backends/{NAME}/configuration", _Handler.configuration),
    ("GET", f"/backends/{NAME}/properties", _Handler.properties),
    ("GET", f"/backends/{NAME}/status", _Handler.status),
    ("POST", "/jobs", _Handler.submit),
    ("GET", "/jobs", _Handler.list_jobs),
    ("GET", r"/jobs/([^/]+)", _Handler.get_job),
    ("GET", r"/jobs/([^/]+)/results", _Handler.results),
    ("GET", r"/jobs/([^/]+)/metrics", _Handler.metrics),
    ("GET", r"/jobs/([^/]+)/logs", _Handler.logs),
    ("POST", r"/jobs/([^/]+)/cancel", _Handler.cancel),
    ("PUT", r"/jobs/([^/]+)/tags", _Handler.retag),
    ("POST", "/sessions", _Handler.open_session),
    ("GET", r"/sessions/([^/]+)", _Handler.get_session),
    ("PATCH", r"/sessions/([^/]+)", _Handler.close_session),
    ("DELETE", r"/sessions/([^/]+)/close", _Handler.close_session),
    ("POST", "/emulator/faults", _Handler.inject),
    ("GET", "/emulator/books", _Handler.books),
)


@lru_cache(maxsize=4)
def _recorded(which):
    machine = recorded()
    data = json.loads((Path(machine.dirname) / getattr(machine, which)).read_text())
    data["backend_name"] = NAME
    if which == "conf_filename":
        data["simulator"] = False
    return data


def _iso(moment):
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
