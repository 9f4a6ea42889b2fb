"""One process that asks for answers and may be killed at a step: run with a JSON argument."""

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from machine import SECONDS, Machine

from circuits.journal import Budget, Intent, Journal, OverBudget, content_key
from circuits.submission import Submitter, Waits

ask = json.loads(sys.argv[1])
folder = Path(ask["folder"])
journal, machine = (
    Journal(folder / "journal.sqlite"),
    Machine(folder / "machine.sqlite", ask.get("faults", ())),
)


def die_at(owner, name, when):
    """SIGKILL before or after a step."""
    step = getattr(owner, name)

    def deadly(*arguments, **options):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = step(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


if "die" in ask:
    owner, name, when = ask["die"]
    die_at({"journal": journal, "machine": machine}[owner], name, when)
submitter = Submitter(journal, machine, Budget(ask["budget"]), Waits(grace=0.01, poll=0.005, retry=0.001))
for number in ask["numbers"]:
    intent = Intent(content_key(number=number), "study", "machine", SECONDS)
    try:
        print(submitter.run(intent, lambda n=number: f"question {n}").decode())
    except OverBudget as error:
        print(f"over budget: {error}")
