"""The service as a context manager."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import faults
from .programs import Processor
from .server import Server
from .store import Store


@dataclass(frozen=True)
class Settings:
    """How the service behaves.

    Attributes:
        name: of its machine.
        noise: whether the machine's recorded noise is simulated.
        seed: of all sampling, None for another each time.
        overhead: seconds charged for a job.
        per_execution: and for every execution.
        limit_seconds: that an instance may consume; its jobs stay queued from then on. None without limit.
        longest: seconds after which every job is stopped.
        queue_seconds: for which a job waits at least.
        pace: real seconds that a charged second takes.
        interactive_ttl: idle seconds for which a session is held, and charged.
        sessions: whether the plan has them.
        instances: the account's, by their CRN.
        token: the only API key that is taken.
        token_seconds: for which an access token is good.
        late: seconds of the fault ``late``, where it does not say.
        tick: seconds between two looks at the queue.
    """

    name: str = "ibm_loopback"
    noise: bool = False
    seed: int | None = 0
    overhead: float = 2.0
    per_execution: float = 260e-6
    limit_seconds: float | None = 600.0
    longest: float = 10_800.0
    queue_seconds: float = 0.0
    pace: float = 0.0
    interactive_ttl: float = 60.0
    sessions: bool = True
    instances: tuple[str, ...] = ("crn:v1:bluemix:public:quantum-computing:us-east:a/loopback:instance-0::",)
    token: str = "loopback-token"
    token_seconds: float = 3600.0
    late: float = 1.0
    tick: float = 0.01

    def described(self, jobs):
        """Jobs without what they run and what came of it."""
        left_out = ("params", "result", "fate", "looks", "tags")
        return [
            {**{k: v for k, v in job.items() if k not in left_out}, "tags": json.loads(job["tags"])}
            for job in jobs
        ]


class Loopback:
    """A service on 127.0.0.1 for as long as a ``with`` block lasts.

    Args:
        state: folder of its state, which is kept; None: a new one, which is not.
        port: 0 for a free one.
        settings: fields of ``Settings``.

    Attributes:
        environment: variables that lead the client here.
    """

    def __init__(self, state=None, port=0, **settings):
        self.settings = Settings(**settings)
        self._port, self._state, self._own = port, state, None

    def __enter__(self):
        """Start."""
        if self._state is None:
            self._own = tempfile.TemporaryDirectory(prefix="loopback-")
        folder = Path(self._own.name if self._own else self._state)
        self.home = folder / "home"  # no account file of the user's is read
        self.home.mkdir(parents=True, exist_ok=True)
        self.store = Store(folder / "service.sqlite", self.settings.interactive_ttl)
        processor = Processor(self.settings.name, self.settings.noise, self.settings.seed)
        self.server = Server(self._port, self.store, processor, self.settings)
        return self

    def __exit__(self, *_):
        """Stop; what is queued is kept with the state."""
        self.server.stop()
        self.store.close()
        if self._own is not None:
            self._own.cleanup()

    @property
    def port(self):
        """Where it listens."""
        return self.server.server_address[1]

    @property
    def url(self):
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self):
        """Variables that lead the client here."""
        return {
            "QISKIT_IBM_TOKEN": self.settings.token,
            "QISKIT_IBM_INSTANCE": self.settings.instances[0],
            "QISKIT_IBM_URL": f"{self.url}/experimental",  # the word keeps the client from rewriting the host
            "QISKIT_IBM_CHANNEL": "ibm_quantum_platform",
            "IAM_URL": self.url,
            "GLOBAL_SEARCH_URL": self.url,
            "GLOBAL_CATALOG_URL": f"{self.url}/api/v1",
            "HOME": str(self.home),
            "NO_PROXY": "127.0.0.1",
        }

    def bill(self, instance=None):
        """Seconds charged: ``seconds``, of it ``jobs`` and ``idle`` sessions; ``count`` of jobs."""
        return self.store.bill(instance)

    def jobs(self, **equal):
        """All jobs, oldest first, as dictionaries: id, status, charged, executions, tags, session, code, ..."""
        return self.settings.described(self.store.jobs(**equal))

    def inject(self, kind, times=1, on="submit", **options):
        """Order a fault; see ``faults.inject``."""
        faults.inject(self.store, kind, times, on, **options)

    def schedule(self, kinds, count, share=1.0, seed=0):
        """Order faults for the next submissions; see ``faults.schedule``."""
        faults.schedule(self.store, kinds, count, share, seed)

    def pending(self):
        """How many faults are ordered and have not happened."""
        return self.store.pending()

    def clear(self):
        """Take back all orders."""
        self.store.clear()

    @property
    def requests(self):
        """How many requests came."""
        return self.server.requests

    def count(self, place):
        """How many requests came to a place; see ``faults.PLACES``, also ``token`` and ``search``."""
        return self.server.by_place.get(place, 0)
