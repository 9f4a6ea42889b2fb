"""IBM's quantum service on 127.0.0.1, for the real client: ``qiskit-ibm-runtime``, unpatched, led here by environment.

A real HTTP server with the REST surface that the client calls, running jobs on Aer as a five-qubit machine,
``ibm_loopback``, with its own bill, and with faults on order::

    with Loopback() as service:
        os.environ.update(service.environment)
        service.inject("502-after")
        ...
        service.bill()["seconds"]

or ``python -m tests.emulator --port 0 --state DIR``.

What it proves, and what not: it was written from the client's source and the public documentation. Against it our own
handling is tested: ids, repetitions, recovery, budget, decoding. It says nothing about the provider's side: how IBM
queues, which errors it returns, what it charges, or whether it recognises a repeated submission.
"""

from .faults import KINDS, PLACES
from .loopback import Loopback, Settings

__all__ = ["KINDS", "PLACES", "Loopback", "Settings"]
