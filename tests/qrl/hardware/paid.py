"""A backend that costs money: the native simulator behind a machine with its own bill, see submission/machine.py."""

import json
import math
import os
import runpy
import signal
from pathlib import Path
from types import SimpleNamespace

import torch

from circuits.backends import Capabilities, Expectations, Usage
from circuits.backends.native import NativeBackend
from circuits.backends.protocol import forward_usage
from circuits.journal import Intent, OverBudget, content_key
from circuits.submission import Submitter

_machine = runpy.run_path(str(Path(__file__).parents[2] / "circuits" / "submission" / "machine.py"))
Machine, SECONDS = _machine["Machine"], _machine["SECONDS"]


class PaidBackend:
    """Every request is a job of two seconds. QRL_TEST_MACHINE names the machine's file."""

    connections = 0
    faults = ()

    def __init__(self, target=None):
        self.name = "paid"
        self.spending = None
        self.capabilities = Capabilities(
            False, False, True, (torch.float32, torch.float64), None, remote=True, joint_shots=True
        )
        self._native = NativeBackend()

    def machine(self):
        PaidBackend.connections += 1
        return Machine(os.environ["QRL_TEST_MACHINE"], PaidBackend.faults)

    def service(self):
        return self.machine()

    def expectations(
        self, circuit, parameters, features, observables, shots=None, seed=None, *, differentiate=False
    ):
        if self.spending is None:
            raise OverBudget("paid: costs money; give a budget")
        seed = int(torch.randint(2**31 - 1, ()).item()) if seed is None else seed
        key = content_key(
            circuit=circuit.digest,
            parameters=parameters.numpy(),
            features=features.numpy(),
            shots=shots,
            seed=seed,
        )
        found = self._native.expectations(circuit, parameters, features, observables, shots, seed)
        spending = self.spending
        submitter = Submitter(spending.journal, self.machine(), spending.budget, spending.waits)
        intent = Intent(key, spending.project, self.name, SECONDS)
        raw = submitter.run(intent, lambda: json.dumps(found.values.tolist()))
        spending.journal.done(intent.tag)
        values = torch.tensor(json.loads(raw.removeprefix(b"answer to ")), dtype=features.dtype)
        usage = forward_usage(circuit, observables, len(features), shots, 0.0)
        record = spending.journal.record(intent.tag)
        usage += Usage(jobs=1, job_ids=(record.job_id,))
        self._maybe_die()
        return Expectations(values, torch.full_like(values, 1 / math.sqrt(shots)), usage)

    def estimate(self, circuit, observables, rows, shots):
        return SimpleNamespace(seconds=SECONDS, depth=7, two_qubit_gates=3, source="the machine's price list")

    answered = 0

    def _maybe_die(self):
        PaidBackend.answered += 1
        if PaidBackend.answered == int(os.environ.get("QRL_TEST_DIE_AFTER", "0")):
            os.kill(os.getpid(), signal.SIGKILL)
