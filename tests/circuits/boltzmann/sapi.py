"""A solver service on 127.0.0.1 for the real dwave-cloud-client: annealed in software, billed in a book of its own.

Written from the client's source. It shows what our side does; how the real service queues and bills it does not show.
"""

import base64
import json
import re
import struct
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import dimod
import numpy as np
from dwave.samplers import SimulatedAnnealingSampler

from circuits.boltzmann import build_graph
from circuits.boltzmann.timing import readout_time

NAME = "Loopback_chimera"
TOKEN = "DEV-0123456789abcdef0123456789abcdef01234567"
PROGRAMMING, DELAY = 15072.88, 20.54  # microseconds


def solver():
    """The definition of the one solver: a Chimera graph of 32 qubits."""
    graph = build_graph("chimera", rows=2, columns=2)
    properties = {
        "category": "qpu",
        "chip_id": NAME,
        "topology": {"type": "chimera", "shape": [2, 2, 4]},
        "qubits": list(range(32)),
        "couplers": [[int(a), int(b)] for a, b in graph.edges],
        "num_qubits": 32,
        "supported_problem_types": ["ising", "qubo"],
        "h_range": [-4.0, 4.0],
        "j_range": [-1.0, 1.0],
        "extended_j_range": [-2.0, 1.0],
        "num_reads_range": [1, 10000],
        "parameters": dict.fromkeys(("num_reads", "annealing_time", "answer_mode", "auto_scale"), ""),
    }
    return {"id": NAME, "status": "ONLINE", "description": "", "properties": properties, "avg_load": 0.0}


class Sapi:
    """The service; ``faults`` is what the next submissions do: "before", "lost", "502", "twice", "queued twice"."""

    def __init__(self):
        self.faults, self.storm, self.calls = [], 0, Counter()
        self.problems, self.lock, self.definition = {}, threading.RLock(), solver()
        self.bodies = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                service.handle(self, "GET")

            def do_POST(self):
                service.handle(self, "POST")

            def do_DELETE(self):
                service.handle(self, "DELETE")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/sapi/v2/"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def bill(self):
        """Seconds that all problems cost."""
        return sum(problem["charged"] for problem in self.problems.values()) * 1e-6

    # ---- requests

    def handle(self, request, verb):
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        url = urlsplit(request.path)
        path, query = url.path.removeprefix("/sapi/v2/").strip("/"), parse_qs(url.query)
        with self.lock:
            self.calls[f"{verb} {path.split('/')[0]}"] += 1
            if request.headers.get("X-Auth-Token") != TOKEN:
                return self.reply(
                    request, 401, {"error_code": 401, "error_msg": "Invalid token or access denied"}
                )
            if path.startswith("solvers/remote"):
                name = path.removeprefix("solvers/remote").strip("/")
                kind = "solver-definition" if name else "solver-definition-list"
                return self.reply(request, 200, self.definition if name else [self.definition], kind, "2.0")
            if verb == "GET" and self.storm:
                self.storm -= 1
                return self.reply(request, 429, {"error_code": 429, "error_msg": "slow down"})
            if verb == "POST":
                return self.submit(request, json.loads(body))
            name = path.removeprefix("problems").strip("/")
            if verb == "DELETE":
                problem = self.problems[name]
                if problem["status"] != "PENDING":
                    return self.reply(request, 409, {"error_code": 409, "error_msg": "already final"})
                problem["status"] = "CANCELLED"
                return self.reply(request, 200, self.told(problem), "problem")
            if name:
                if name not in self.problems:
                    return self.reply(request, 404, {"error_code": 404, "error_msg": "no such problem"})
                return self.reply(request, 200, self.told(self.problems[name], answer=True), "problem")
            (label,) = query["label"]
            found = [self.told(p) for p in self.problems.values() if p["label"] == label]
            return self.reply(request, 200, found, "problems")

    def submit(self, request, bodies):
        fault = self.faults.pop(0) if self.faults else None
        if fault == "before":
            return self.reply(request, 502, {"error_code": 502, "error_msg": "bad gateway"})
        if fault == "busy":
            return self.reply(request, 429, {"error_code": 429, "error_msg": "too many problems"})
        if fault == "refused":
            return self.reply(
                request, 200, [{"error_code": 400, "error_msg": "no such parameter"}], "problems"
            )
        (body,) = bodies
        self.bodies.append(body)
        accepted = self.accept(body)
        if fault in ("twice", "queued twice"):
            self.accept(body, run=fault == "twice")
        if fault == "502":
            return self.reply(request, 502, {"error_code": 502, "error_msg": "bad gateway"})
        if fault == "lost":
            request.close_connection = True
            return request.connection.close()
        return self.reply(request, 200, [self.told(accepted)], "problems")

    def accept(self, body, run=True):
        number = len(self.problems)
        problem = {
            "id": f"problem-{number}",
            "label": body["label"],
            "type": body["type"],
            "solver": body["solver"],
            "status": "PENDING",
            "submitted_on": datetime.fromtimestamp(time.time(), UTC).isoformat(),
            "charged": 0.0,
            "answer": None,
        }
        self.problems[problem["id"]] = problem
        if run:
            problem["answer"] = self.anneal(body, number)
            problem["charged"] = problem["answer"]["timing"]["qpu_access_time"]
            problem["status"] = "COMPLETED"
        return problem

    def anneal(self, body, seed):
        """An answer in the client's own format, from a problem in it."""
        fields = self.definition["properties"]
        linear = np.frombuffer(base64.b64decode(body["data"]["lin"]), "<f8")
        active = [q for q in fields["qubits"] if not np.isnan(linear[q])]
        values = np.frombuffer(base64.b64decode(body["data"]["quad"]), "<f8")
        pairs = [(a, b) for a, b in fields["couplers"] if a in active and b in active]
        assert len(pairs) == len(values)
        model = dimod.BinaryQuadraticModel(
            {q: linear[q] for q in active}, dict(zip(pairs, values, strict=True)), "SPIN"
        )
        reads = body["params"]["num_reads"]
        found = SimulatedAnnealingSampler().sample(
            model, num_reads=reads, seed=seed + 1, beta_range=(0.1, 2.0), num_sweeps=50
        )
        order = [list(found.variables).index(q) for q in active]
        rows, energies = found.record.sample[:, order], found.record.energy
        readout = readout_time(len(active)) * 1e6
        anneal = body["params"]["annealing_time"]
        sampling = round(reads * (anneal + readout + DELAY), 2)
        return {
            "format": "qp",
            "num_variables": fields["num_qubits"],
            "active_variables": base64.b64encode(struct.pack(f"<{len(active)}i", *active)).decode(),
            "energies": base64.b64encode(energies.astype("<f8").tobytes()).decode(),
            "num_occurrences": base64.b64encode(np.ones(reads, "<i4").tobytes()).decode(),
            "solutions": base64.b64encode(np.packbits(rows > 0, axis=1).tobytes()).decode(),
            "timing": {
                "qpu_programming_time": PROGRAMMING,
                "qpu_sampling_time": sampling,
                "qpu_anneal_time_per_sample": anneal,
                "qpu_readout_time_per_sample": readout,
                "qpu_delay_time_per_sample": DELAY,
                "qpu_access_overhead_time": 2259.03,
                "qpu_access_time": round(PROGRAMMING + sampling, 2),
            },
        }

    def told(self, problem, answer=False):
        shown = {k: v for k, v in problem.items() if k not in ("charged", "answer")}
        if answer and problem["answer"] is not None:
            shown["answer"] = problem["answer"]
        return shown

    def reply(self, request, code, data, kind=None, version="2.1"):
        body = json.dumps(data).encode()
        media = "application/json" if kind is None else f"application/vnd.dwave.sapi.{kind}+json"
        request.send_response(code)
        request.send_header("Content-Type", media if kind is None else f"{media}; version={version}")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
        return None


def is_tag(label):
    """Whether a label has the form of the journal's tags."""
    return re.fullmatch(r"qrl-[0-9a-f]{8}-[0-9a-f]{16}-\d+", label) is not None
