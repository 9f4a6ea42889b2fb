"""``python -m tests.emulator``: the service until it is told to end; one line of JSON says where it is."""

import argparse
import json
import os
import signal
import threading
from dataclasses import fields

from .loopback import Loopback, Settings
from .store import Store


def main():
    """Serve, or print the bill."""
    parser = argparse.ArgumentParser(prog="tests.emulator", description="IBM's quantum service on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--state", required=True, help="folder of its state, which is kept")
    parser.add_argument("--bill", action="store_true", help="print the bill of a state and its jobs, and end")
    kinds = {"float": float, "float | None": float, "int | None": int, "str": str}
    for field in fields(Settings):
        kind = getattr(field.type, "__name__", str(field.type))
        flag = f"--{field.name.replace('_', '-')}"
        if kind == "bool":
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
        elif kind in kinds:
            parser.add_argument(flag, type=kinds[kind], default=field.default)
    asked = vars(parser.parse_args())
    port, state, bill = (asked.pop(name) for name in ("port", "state", "bill"))
    if bill:
        store = Store(os.path.join(state, "service.sqlite"), asked["interactive_ttl"])
        print(json.dumps({**store.bill(), "each": Settings().described(store.jobs())}))
        return
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    with Loopback(state, port, **asked) as service:
        print(
            json.dumps(
                {
                    "port": service.port,
                    "url": service.url,
                    "pid": os.getpid(),
                    "environment": service.environment,
                }
            ),
            flush=True,
        )
        end.wait()


if __name__ == "__main__":
    main()
