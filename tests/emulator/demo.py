"""``make demo-hardware``: an agent trained in simulation is evaluated on the loopback service, and its client killed.

The service takes one submission and says that it did not, so that the client's own retry makes two jobs of it. Then the
client is killed in the middle, a second one collects, and what our journal says was charged stands beside the service's
own bill.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from circuits.journal import Journal

RECIPE = """
[study]
name = "loopback"
seeds = "0:1"
[environment]
id = "CartPole-v1"
observation = [2.4, 2.5, 0.21, 2.5]
[budget]
interactions = 4000
evaluations = 1
evaluation_episodes = 20
[[agents]]
name = "born"
algorithm = "reinforce"
learning_rate = 0.05
batch_episodes = 5
network = { kind = "quantum", n_qubits = 4, n_layers = 1, head = { kind = "born", decoding = "contiguous" } }
"""
WAITS = [
    f"--set=waits.{name}={seconds}" for name, seconds in (("poll", 0.05), ("grace", 1), ("retry_most", 20))
]
STEPS = 12


def main():
    """Run it; 0 if nothing was lost, nothing paid twice unnoticed, and both ledgers agree."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs").absolute() / "demo-hardware"
    if out.exists():
        sys.exit(f"{out} is there already; remove it, or name another folder: make demo-hardware OUT=...")
    out.mkdir(parents=True)
    (out / "recipe.toml").write_text(RECIPE)
    command = [sys.executable, str(Path(__file__).parent), "--state", str(out / "service")]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        return demonstrate(out, json.loads(service.stdout.readline()))
    finally:
        service.terminate()
        service.wait()


def demonstrate(out, where):
    """With the service that listens there."""
    environment = {**os.environ, **where["environment"], "QRL_JOURNAL": str(out / "state" / "journal.sqlite")}
    home = f"http://127.0.0.1:{where['port']}/emulator"

    def books():
        with urllib.request.urlopen(f"{home}/books", timeout=30) as reply:
            return json.load(reply)

    def inject(kind):
        order = urllib.request.Request(f"{home}/faults", json.dumps({"kind": kind}).encode())
        urllib.request.urlopen(order, timeout=30).close()

    def qrl(*arguments, **options):
        print(f"\n$ qrl {' '.join(arguments)}", flush=True)
        command = [sys.executable, "-m", "qrl.cli", *arguments]
        return subprocess.Popen(command, env=environment, cwd=out, text=True, **options)

    print("training in simulation", flush=True)
    qrl("run", "recipe.toml", stdout=subprocess.DEVNULL).wait()
    asked = ("submit", "runs/loopback", "--backend", "ibm:ibm_loopback", "--acting", "one-shot")
    asked += ("--episodes", "20", "--steps", str(STEPS))
    qrl(*asked, "--dry-run").wait()

    inject("502-after")
    client = qrl(*asked, "--budget-seconds", "60", *WAITS)
    while client.poll() is None and len(books()["jobs"]) < STEPS // 2:
        time.sleep(0.1)
    client.send_signal(signal.SIGKILL)
    client.wait()
    print(f"\nthe client was killed after {len(books()['jobs'])} jobs", flush=True)
    qrl("jobs", "list").wait()
    code = qrl("jobs", "collect").wait()

    journal, theirs = Journal(out / "state" / "journal.sqlite"), books()
    jobs = [job for record in journal.records() for job in journal.jobs(record.tag)]
    answers = sum(record.state == "DONE" for record in journal.records())
    ours, bill, billed = journal.spent(), theirs["bill"], len(theirs["jobs"])
    print(f"\n{'':24}{'our journal':>16}{'service bill':>16}")
    print(f"{'jobs':24}{len(jobs):>16}{billed:>16}")
    print(f"{'seconds charged':24}{ours:>16.4f}{bill:>16.4f}")
    print(f"{'answers':24}{answers:>16}")
    print(f"{'duplicates, charged':24}{sum(job['duplicate'] for job in jobs):>16}")
    print(
        "\nThe service was written from the client's source: this shows how we handle ids, lost replies, kills and"
        "\nbills, and nothing about how the provider queues, answers or charges."
    )
    result = out / "runs" / "loopback" / "born" / "seed=0" / "hardware.jsonl"
    finished = code == 0 and result.exists() and len(result.read_text().splitlines()) == 1
    agree = abs(ours - bill) < 1e-6 and len(jobs) == billed
    if not (finished and agree):
        print("this is not as it should be", file=sys.stderr)
    return 0 if finished and agree else 1


if __name__ == "__main__":
    sys.exit(main())
