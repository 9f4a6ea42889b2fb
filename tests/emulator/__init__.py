"""IBM's cloud service on 127.0.0.1, for the real client: jobs run on Aer, and everything that goes wrong can be ordered.

``python tests/emulator --state DIR`` serves until it is stopped, and prints one line of JSON with the port and the
environment that sends an unchanged qiskit-ibm-runtime there. ``Loopback(folder)`` is the same inside a test.

What it proves and what not: it was written from the client's source. It shows how this library handles ids, retries,
lost replies, recovery, budgets and decoding. It shows nothing of the provider's queueing, error codes, billing or
de-duplication, which only the provider knows.
"""

from emulator.loopback import Loopback
from emulator.machine import FAULTS, Machine

__all__ = ["FAULTS", "Loopback", "Machine"]
