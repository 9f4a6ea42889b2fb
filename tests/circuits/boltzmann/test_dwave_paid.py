"""Paid reads of an annealer: journalled, replayed, within a budget; the real client against a service on 127.0.0.1."""

import io
import json
import logging
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dwave.system")

from circuits.boltzmann import Problem, build_graph
from circuits.boltzmann.dwave import DWaveSampler
from circuits.boltzmann.timing import qpu_time
from circuits.journal import Budget, Journal, OverBudget
from circuits.submission import JobFailed, Refused, Spending, Waits

HERE = Path(__file__).parent
_sapi = runpy.run_path(str(HERE / "sapi.py"))
Sapi, NAME, TOKEN, is_tag = (_sapi[name] for name in ("Sapi", "NAME", "TOKEN", "is_tag"))
QUICK = Waits(grace=0.01, poll=0.005, retry=0.005, retry_most=0.5)
EDGES = [(0, 2), (0, 3), (1, 2), (1, 3)]


def machine(states=2, field=0.5):
    biases = np.array([[0.3, -0.2, -0.3, -0.8], [-0.5, 0.1, 0.7, 0.4], [0.0, 0.6, -0.1, 0.2]])[:states]
    return Problem(
        build_graph("custom", n=4, edges=EDGES), biases, np.array([0.5, -0.7, 0.2, 0.9]), field, 2.0
    )


@pytest.fixture
def sapi(monkeypatch, tmp_path):
    """The service, and an environment in which the client finds it and nothing else."""
    service = Sapi()
    for name in [name for name in os.environ if name.startswith("DWAVE_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("DWAVE_API_ENDPOINT", service.endpoint)
    monkeypatch.setenv("DWAVE_API_TOKEN", TOKEN)
    yield service
    service.close()


def sampler(folder, seconds=10.0, **options):
    spending = Spending(Journal(folder / "journal.sqlite"), Budget(seconds), "study", QUICK)
    return DWaveSampler(**{"reads": 20, "spending": spending, **options})


def settled(paid, service, problems):
    """Every problem is charged as the service bills it, and nothing is left in flight."""
    journal = paid.spending.journal
    assert len(service.problems) == problems
    assert sum(len(journal.jobs(record.tag)) for record in journal.records()) == problems
    assert journal.spent("study") == pytest.approx(service.bill(), abs=1e-12)
    assert journal.reserved() == 0.0


def test_reads_are_paid_once_and_replayed(sapi, tmp_path):
    paid = sampler(tmp_path)
    found = paid.thermal(machine(3), free_energy=False, seed=5)
    assert found.usage.jobs == 3
    assert found.usage.job_ids == ("problem-0", "problem-1", "problem-2")
    assert found.usage.qpu_seconds == pytest.approx(sapi.bill())
    assert (paid.timing.kind, paid.timing.calls, paid.timing.reads) == ("hardware", 3, 60)
    assert paid.timing.access == pytest.approx(sapi.bill())
    fields = [problem["answer"]["timing"] for problem in sapi.problems.values()]
    assert paid.timing.programming == pytest.approx(sum(f["qpu_programming_time"] for f in fields) * 1e-6)
    assert paid.timing.sampling == pytest.approx(sum(f["qpu_sampling_time"] for f in fields) * 1e-6)
    assert paid.timing.overhead == pytest.approx(sum(f["qpu_access_overhead_time"] for f in fields) * 1e-6)
    for name in ("anneal", "readout"):
        each = sum(20 * f[f"qpu_{name}_time_per_sample"] for f in fields) * 1e-6
        assert getattr(paid.timing, name) == pytest.approx(each)
    settled(paid, sapi, 3)
    again = sampler(tmp_path).thermal(machine(3), free_energy=False, seed=5)
    np.testing.assert_array_equal(again.z, found.z)
    np.testing.assert_array_equal(again.zz, found.zz)
    assert (again.usage.jobs, again.usage.qpu_seconds) == (0, 0.0)
    assert again.usage.job_ids == found.usage.job_ids
    settled(paid, sapi, 3)
    other = paid.thermal(machine(3), free_energy=False, seed=6)
    assert (other.z != found.z).any()
    settled(paid, sapi, 6)


def test_what_decides_an_answer_is_part_of_its_key(sapi, tmp_path):
    first, problem = sampler(tmp_path), machine(1)
    first.thermal(problem, free_energy=False, seed=5)
    for options in (
        {"reads": 21},
        {"anneal_time": 5.0},
        {"chain_strength": 2.0},
        {"effective_beta": 3.0},
        {"embedding_seed": 8},
    ):
        before = len(sapi.problems)
        sampler(tmp_path, **options).thermal(triangle(), free_energy=False, seed=5)
        assert len(sapi.problems) == before + 1, options
    twice = Problem(problem.graph, np.repeat(problem.biases, 2, axis=0), problem.couplings, 0.5, 2.0)
    before = len(sapi.problems)
    first.thermal(twice, free_energy=False, seed=9)
    assert len(sapi.problems) == before + 2


def triangle():
    return Problem(
        build_graph("complete", n=3), np.array([[0.4, -0.3, 0.2]]), np.array([0.5, -0.4, 0.3]), 0.5, 2.0
    )


def test_reads_are_those_of_the_machine(sapi, tmp_path):
    """Strong biases alone: each answer belongs to its state, each column to its unit, and chains hold."""
    problem = machine(3)
    strong = Problem(problem.graph, 8.0 * np.sign(problem.biases + 0.01), 0.1 * problem.couplings, 0.0, 2.0)
    found = sampler(tmp_path).thermal(strong, free_energy=False, seed=0)
    np.testing.assert_array_equal(found.z, np.sign(strong.biases))
    whole = sampler(tmp_path, nodes=2).thermal(machine(2), seed=1)
    assert np.isfinite(whole.free_energy).all()
    assert whole.usage.executions == whole.usage.jobs == 6
    assert sampler(tmp_path, chain_strength=4.0).thermal(triangle(), free_energy=False, seed=0).z.shape == (
        1,
        3,
    )


def test_labels_and_parameters_as_they_reach_the_service(sapi, tmp_path):
    paid = sampler(tmp_path, anneal_time=5.0)
    paid.thermal(machine(1), free_energy=False, seed=5)
    (body,) = sapi.bodies
    assert is_tag(body["label"])
    assert body["params"] == {
        "num_reads": 20,
        "annealing_time": 5.0,
        "answer_mode": "raw",
        "auto_scale": False,
    }
    (record,) = paid.spending.journal.records()
    assert (record.tag, record.state, record.intent.backend) == (body["label"], "DONE", f"dwave:{NAME}")
    most = qpu_time(1, 20, qubits=record.intent.note["qubits"], anneal=5e-6)
    assert record.intent.seconds == pytest.approx(most.high)
    assert paid.spending.journal.spent() < record.intent.seconds


@pytest.mark.parametrize(
    ("fault", "problems"),
    [("before", 2), ("busy", 2), ("502", 2), ("lost", 2), ("twice", 3), ("queued twice", 3)],
)
def test_faults_lose_nothing_and_pay_nothing_twice(sapi, tmp_path, fault, problems):
    sapi.faults, sapi.storm = [fault], 2
    paid = sampler(tmp_path)
    found = paid.thermal(machine(), free_energy=False, seed=5)
    settled(paid, sapi, problems)
    assert found.usage.qpu_seconds == pytest.approx(sapi.bill())
    assert sum(problem["charged"] > 0 for problem in sapi.problems.values()) == (3 if fault == "twice" else 2)
    again = sampler(tmp_path).thermal(machine(), free_energy=False, seed=5)
    np.testing.assert_array_equal(again.z, found.z)
    settled(paid, sapi, problems)


def test_many_faults_in_a_row(sapi, tmp_path):
    kinds = ["before", "502", None, "lost", "twice", "queued twice", None]
    paid = sampler(tmp_path, reads=3)
    for seed in range(4):
        sapi.faults = kinds[seed % 5 :]
        paid.thermal(machine(3), free_energy=False, seed=seed)
    settled(paid, sapi, len(sapi.problems))
    assert len(paid.spending.journal.records()) == 12


def test_without_spending_nothing_is_asked(sapi, tmp_path):
    free = sampler(tmp_path, spending=None)
    with pytest.raises(OverBudget, match="budget: solver of D-Wave costs money and has none; give spending"):
        free.thermal(machine(), free_energy=False)
    with pytest.raises(OverBudget):
        _ = free.timing
    assert not sapi.calls
    import dwave.system

    given = DWaveSampler(child=dwave.system.DWaveSampler(), reads=20)
    with pytest.raises(OverBudget):
        given.thermal(machine(), free_energy=False)
    assert not sapi.problems
    paid = sampler(tmp_path)
    given.spending = paid.spending
    given.thermal(machine(), free_energy=False, seed=1)
    settled(paid, sapi, 2)


def test_a_request_that_does_not_fit_sends_none_of_its_problems(sapi, tmp_path):
    one = qpu_time(1, 20, qubits=4).high
    paid = sampler(tmp_path, seconds=2.5 * one)
    with pytest.raises(OverBudget, match=r"budget.seconds: .* do not hold"):
        paid.thermal(machine(3), free_energy=False, seed=5)
    assert not sapi.problems
    assert paid.spending.journal.reserved() == 0.0
    paid.thermal(machine(2), free_energy=False, seed=5)
    settled(paid, sapi, 2)
    more = sampler(tmp_path, seconds=10.0)
    more.thermal(machine(3), free_energy=False, seed=5)
    settled(more, sapi, 3)


def test_a_refusal_says_so_and_holds_no_budget(sapi, tmp_path):
    sapi.faults = [None, "refused"]
    paid = sampler(tmp_path)
    with pytest.raises(Refused, match="dwave submit: no such parameter"):
        paid.thermal(machine(3), free_energy=False, seed=5)
    assert len(sapi.problems) == 1
    paid.thermal(machine(3), free_energy=False, seed=5)
    settled(paid, sapi, 3)


def test_a_reply_that_cannot_be_read_is_kept(sapi, tmp_path):
    anneal = sapi.anneal
    sapi.anneal = lambda body, seed: anneal(body, seed) | {"solutions": "AAAA"}
    paid = sampler(tmp_path)
    with pytest.raises(JobFailed, match=r"the reply of problem-0 cannot be read .*journal.replies"):
        paid.thermal(machine(1), free_energy=False, seed=5)
    (record,) = paid.spending.journal.records()
    assert json.loads(paid.spending.journal.reply(record))["answer"]["solutions"] == "AAAA"
    settled(paid, sapi, 1)


def test_a_seed_of_torch_replays_a_request(sapi, tmp_path):
    import torch

    found = []
    for _ in range(2):
        torch.manual_seed(3)
        paid = sampler(tmp_path)
        found.append([paid.thermal(machine(), free_energy=False).z for _ in range(2)])
    np.testing.assert_array_equal(found[0], found[1])
    settled(paid, sapi, 4)


@pytest.mark.parametrize("place", ["environment", "file"])
def test_the_token_is_nowhere(sapi, tmp_path, monkeypatch, place, capfd):
    if place == "file":
        monkeypatch.delenv("DWAVE_API_TOKEN")
        config = tmp_path / "dwave.conf"
        config.write_text(f"[defaults]\nendpoint = {sapi.endpoint}\ntoken = {TOKEN}\n")
        config.chmod(0o600)
        monkeypatch.setenv("DWAVE_CONFIG_FILE", str(config))
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root, loggers = (
        logging.getLogger(),
        [logging.getLogger(name) for name in ("dwave", "dwave.cloud", "urllib3")],
    )
    levels = [logger.level for logger in (root, *loggers)]
    try:
        for logger in (root, *loggers):
            logger.addHandler(handler)
            logger.setLevel(1)
        sapi.faults = ["lost"]
        paid = sampler(tmp_path)
        paid.thermal(machine(), free_energy=False, seed=1)
        sapi.definition = sapi.definition | {"status": "OFFLINE"}
        with pytest.raises(ValueError, match="cannot be opened") as refused:
            sampler(tmp_path, solver=f"none-{TOKEN}").thermal(machine(), free_energy=False, seed=2)
    finally:
        for logger, level in zip((root, *loggers), levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
    said = stream.getvalue()
    assert len(said) > 1000
    written = [
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "dwave.conf"
    ]
    shown = (said, str(refused.value), repr(paid), pickle.dumps(paid).decode("latin1"), *capfd.readouterr())
    assert not any(TOKEN in text for text in shown)
    assert not any(TOKEN.encode() in raw for raw in written)


def test_a_file_that_others_can_read_is_warned_of(sapi, tmp_path, monkeypatch):
    config = tmp_path / "dwave.conf"
    config.write_text(f"[defaults]\nendpoint = {sapi.endpoint}\ntoken = {TOKEN}\n")
    config.chmod(0o644)
    monkeypatch.delenv("DWAVE_API_TOKEN")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(config))
    with pytest.warns(UserWarning, match=r"credentials: .*dwave.conf can be read by others; chmod 600"):
        sampler(tmp_path).thermal(machine(1), free_energy=False, seed=1)


def test_a_wrong_token_is_refused_in_one_line(sapi, tmp_path, monkeypatch):
    monkeypatch.setenv("DWAVE_API_TOKEN", "DEV-" + 40 * "f")
    with pytest.raises(ValueError, match=r"cannot be opened, .*check DWAVE_API_TOKEN") as refused:
        sampler(tmp_path).thermal(machine(1), free_energy=False, seed=1)
    assert 40 * "f" not in str(refused.value)
    assert "\n" not in str(refused.value)


STEPS = [
    ("journal", "reserve", "after"),
    ("journal", "submitting", "after"),
    ("service", "submit", "after"),
    ("journal", "found", "after"),
    ("service", "fetch", "after"),
    ("journal", "fetched", "after"),
    ("journal", "charge", "before"),
]
QUICK_STEPS = (1, 2, 5)


@pytest.mark.parametrize(
    "step",
    [pytest.param(s, marks=() if i in QUICK_STEPS else pytest.mark.slow) for i, s in enumerate(STEPS)],
    ids="-".join,
)
def test_killed_at_any_step_it_continues_and_pays_once(sapi, tmp_path, step):
    def run(die):
        command = [
            sys.executable,
            str(HERE / "paid_worker.py"),
            json.dumps({"folder": str(tmp_path), "die": die}),
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    first = run(step)
    assert first.returncode == -9, first.stderr
    second = run(None)
    assert second.returncode == 0, second.stderr
    paid = sampler(tmp_path, reads=10)
    settled(paid, sapi, 2)
    found = paid.thermal(machine(), free_energy=False, seed=5)
    assert found.z.tolist() == json.loads(second.stdout)
    settled(paid, sapi, 2)
