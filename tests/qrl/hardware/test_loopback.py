"""The commands against a real HTTP server, with the real client: killed, collected, paid once, silent about tokens."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from circuits.journal import Journal
from qrl.hardware.evaluation import records
from qrl.study.results import read_run

TESTS = Path(__file__).parents[2]
WAITS = [
    f"--set=waits.{name}={value}" for name, value in (("poll", 0.05), ("grace", 0.5), ("retry_most", 10))
]


@pytest.fixture
def service(tmp_path):
    """The service in a process of its own, as an object with its environment and its books."""
    command = [sys.executable, str(TESTS / "emulator"), "--state", str(tmp_path / "service")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    where = json.loads(process.stdout.readline())
    home = f"http://127.0.0.1:{where['port']}/emulator"

    def books():
        with urllib.request.urlopen(f"{home}/books", timeout=30) as reply:
            return SimpleNamespace(**json.load(reply))

    def inject(kind):
        order = urllib.request.Request(f"{home}/faults", json.dumps({"kind": kind}).encode())
        urllib.request.urlopen(order, timeout=30).close()

    yield SimpleNamespace(environment=where["environment"], books=books, inject=inject)
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture
def qrl(service, tmp_path):
    """Starts a command whose client is sent to the service; everything that it says and logs goes into a file."""
    environment = {
        **os.environ,
        **service.environment,
        "QRL_JOURNAL": str(tmp_path / "state" / "journal.sqlite"),
        "OMP_NUM_THREADS": "1",
    }

    def start(said, *arguments):
        source = (
            "import logging, sys; logging.basicConfig(level=logging.DEBUG); from qrl.cli import main;"
            f"sys.exit(main({list(map(str, arguments))!r}))"
        )
        with (tmp_path / said).open("w") as file:
            command = [sys.executable, "-c", source]
            return subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)

    return start


def submission(study, *arguments):
    asked = ("submit", study / "born", "--backend", "ibm:ibm_loopback", "--acting", "one-shot")
    return (*asked, *arguments)


def test_killed_and_collected_the_journal_is_the_bill_and_no_token_is_seen(study, service, qrl, tmp_path):
    small = ("--episodes", "2", "--steps", "4")
    assert qrl("dry.txt", *submission(study, *small, "--dry-run")).wait(120) == 0
    service.inject("502-after")
    client = qrl("client.txt", *submission(study, *small, "--budget-seconds", "20", *WAITS))
    deadline = time.monotonic() + 120
    while len(service.books().jobs) < 3 and client.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    client.kill()
    client.wait()
    assert qrl("collect.txt", "jobs", "collect").wait(120) == 0, (tmp_path / "collect.txt").read_text()
    journal, books = Journal(tmp_path / "state" / "journal.sqlite"), service.books()
    (line,) = records(read_run(study / "born" / "seed=0"))
    assert journal.spent() == pytest.approx(books.bill, abs=1e-9)
    assert line["qpu_seconds"] == pytest.approx(books.bill, abs=1e-9)
    assert line["jobs"] == len(books.jobs)
    assert line["duplicates"] == line["jobs"] - 4 == 1
    assert line["device"]["mode"] == "job"
    assert line["device"]["calibration"].startswith("20")
    token = service.environment["QISKIT_IBM_TOKEN"].encode()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "service" not in path.parts]
    assert b"ibm_loopback" in (tmp_path / "client.txt").read_bytes()
    assert all(token not in path.read_bytes() for path in files)


@pytest.mark.slow
def test_a_hundred_episodes_of_two_hundred_steps_run_within_seven_minutes_of_the_processor(
    study, service, qrl, tmp_path
):
    whole = ("--episodes", "100", "--steps", "200", "--budget-seconds", "420")
    assert qrl("client.txt", *submission(study, *whole, *WAITS)).wait(3600) == 0
    (line,) = records(read_run(study / "born" / "seed=0"))
    assert line["jobs"] == max(line["lengths"]) <= 200
    assert line["qpu_seconds"] == pytest.approx(service.books().bill)
    assert line["qpu_seconds"] < 420
