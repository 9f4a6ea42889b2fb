"""``python tests/emulator --state DIR [--port N]``: serve until stopped."""

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from emulator import Loopback  # noqa: E402


def main() -> None:
    """Serve; the first line of output says where."""
    parser = argparse.ArgumentParser(prog="emulator", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder of the service's own books")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--noise", action="store_true", help="with the noise of the machine's calibration")
    parser.add_argument("--queue", type=float, default=0.0, help="seconds that a job waits before it runs")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that the account may use")
    given = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with Loopback(given.state, given.port, noise=given.noise, queue=given.queue, limit=given.limit) as service:
        print(json.dumps({"port": service.port, "environment": service.environment}), flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
