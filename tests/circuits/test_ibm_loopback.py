"""The ibm backend against a real HTTP server and with the real client: what is sent, what is paid, what survives."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from emulator import FAULTS, Loopback

from circuits import reuploading
from circuits.backends import get_backend
from circuits.backends.ibm import IBMBackend
from circuits.backends.primitive import PrimitiveBackend, known_primitive
from circuits.journal import Budget, Journal, OverBudget
from circuits.observables import parse_observables
from circuits.shot_allocation import Comparison, EmpiricalBernstein
from circuits.submission import JobFailed, Refused, Spending, Waits
from qrl import QuantumLayer

ROOT = Path(__file__).parents[2]
QUICK = Waits(grace=0.05, poll=0.01, retry=0.01, retry_most=2.0)
PLAIN = {"resilience_level": 0, "dynamical_decoupling": False}


@pytest.fixture
def service(tmp_path, monkeypatch):
    """The service, and an environment that sends the client there."""
    with Loopback(tmp_path / "service") as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def spending(folder, seconds=500.0, waits=QUICK):
    return Spending(Journal(folder / "journal.sqlite"), Budget(seconds), "study", waits)


def problem(rows=2):
    circuit = reuploading(n_qubits=2, n_layers=1)
    generator = torch.Generator().manual_seed(0)
    parameters = torch.rand(circuit.n_parameters, generator=generator, dtype=torch.float64)
    features = torch.rand((rows, 2), generator=generator, dtype=torch.float64)
    return circuit, parameters, features, parse_observables(["ZZ", "XI"], 2)


def settled(service, paid):
    """The journal's sum is the server's bill to the last digit, and nothing is in flight."""
    assert paid.journal.spent() == pytest.approx(service.bill(), abs=1e-9)
    assert paid.journal.reserved() == 0.0


def test_values_are_those_of_the_circuit_and_every_second_is_known(service, tmp_path):
    paid = spending(tmp_path)
    circuit, parameters, features, observables = problem(rows=3)
    exact = get_backend("torch").expectations(circuit, parameters, features, observables).values
    for options in (PLAIN, {"primitive": "sampler"}, {}):
        backend = IBMBackend("ibm_loopback", spending=paid, options=options)
        found = backend.expectations(circuit, parameters, features, observables, 4096, 1)
        assert found.usage.jobs == 1
        assert found.usage.qpu_seconds > 2.0
        assert ((found.values - exact).abs() < 5.0 * found.errors + 1e-12).all()
        told = backend.describe(circuit)
        assert told["depth"] > 0
        assert len(told["layout"]) == 2
        assert told["calibration"].startswith("20")
        assert told["mode"] == "job"
    settled(service, paid)
    assert len(service.jobs()) == 3


def test_what_was_paid_is_read_from_the_journal_without_a_connection(service, tmp_path):
    paid = spending(tmp_path)
    circuit, parameters, features, observables = problem()
    ask = (circuit, parameters, features, observables, 100, 5)
    first = IBMBackend("ibm_loopback", spending=paid).expectations(*ask)
    with service.machine._open() as books:
        before = books.execute("SELECT count(*) FROM calls").fetchone()[0]
    again = IBMBackend("ibm_loopback", spending=paid).expectations(*ask)
    with service.machine._open() as books:
        assert books.execute("SELECT count(*) FROM calls").fetchone()[0] == before
    assert torch.equal(first.values, again.values)
    assert (again.usage.jobs, again.usage.qpu_seconds) == (0, 0.0)
    assert again.usage.job_ids == first.usage.job_ids


def test_draws_of_an_evaluation_differ_and_are_the_same_when_it_is_run_again(service, tmp_path):
    paid = spending(tmp_path)
    circuit, parameters, features, observables = problem()

    def play():
        backend = IBMBackend("ibm_loopback", spending=paid)
        torch.manual_seed(3)
        return [backend.expectations(circuit, parameters, features, observables, 1).values for _ in range(3)]

    first = play()
    assert len(service.jobs()) == 3
    assert all(torch.equal(a, b) for a, b in zip(first, play(), strict=True))
    assert len(service.jobs()) == 3


class Recording(PrimitiveBackend):
    """The exact estimator, which keeps what it is sent."""

    def pub(self, *args):
        self.sent = super().pub(*args)
        return self.sent


def test_an_update_is_one_job_with_the_bindings_of_the_exact_path(service, tmp_path, monkeypatch):
    paid = spending(tmp_path)
    circuit, _, features, _ = problem()
    sent = []

    def step(backend, shots):
        torch.manual_seed(0)
        layer = QuantumLayer(circuit, ["ZZ", "XI"], backend, "parameter_shift", shots).double()
        values = layer(features)
        values.pow(2).sum().backward()
        return values.detach(), torch.cat([p.grad for p in layer.parameters()])

    backend = IBMBackend("ibm_loopback", spending=paid, options=PLAIN)
    real = type(backend)._request
    monkeypatch.setattr(type(backend), "_request", lambda *a: sent.append(real(*a)) or sent[-1])
    values, gradient = step(backend, 8192)
    assert len(service.jobs()) == len(sent) == 1
    settled(service, paid)

    exact = Recording(known_primitive("statevector")._make, exact=True)
    exact.capabilities = backend.capabilities.__class__(
        False, True, True, backend.capabilities.dtypes, None, remote=True
    )
    true_values, true_gradient = step(exact, None)
    np.testing.assert_array_equal(sent[0].pubs[0][2], exact.sent[2])
    assert np.ceil(1.0 / sent[0].precision ** 2) == 8192
    error = 1.0 / np.sqrt(8192)
    assert ((values - true_values).abs() < 5.0 * error).all()
    # each angle's slope is half the difference of two values, times the upstream gradient; at most 4 angles a parameter
    assert ((gradient - true_gradient).abs() < 5.0 * error * np.sqrt(8.0) * 4.0).all()


def test_one_shot_reads_one_bit_string_and_words_measured_together_are_functions_of_it(service, tmp_path):
    paid = spending(tmp_path)
    circuit, parameters, features, _ = problem(rows=40)
    words = parse_observables(["ZI", "IZ", "ZZ"], 2)
    backend = IBMBackend("ibm_loopback", spending=paid)
    values = backend.expectations(circuit, parameters, features, words, 1, 0).values
    assert set(values.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(values[:, 0] * values[:, 1], values[:, 2])
    (job,) = service.jobs()
    assert job["executions"] == 40
    assert service.bill() == pytest.approx(2.0 + 40 * 260e-6)


ANSWERED = {
    "none": 1,
    "502-before": 1,  # the client asks again by itself
    "502-after": 2,
    "dropped": 1,
    "malformed": 1,
    "duplicate": 3,
    "429-later": 1,
    "unknown-status": 1,
    "failed": 2,
    "no-usage": 1,
    "late-usage": 1,
}


@pytest.mark.parametrize(("fault", "jobs"), ANSWERED.items())
def test_whatever_happens_there_is_one_answer_and_every_job_is_charged(service, tmp_path, fault, jobs):
    paid = spending(tmp_path)
    service.inject(fault)
    backend = IBMBackend("ibm_loopback", spending=paid, options=PLAIN)
    found = backend.expectations(*problem(), 50, 2)
    assert len(service.jobs()) == jobs
    assert len(found.usage.job_ids) == 1
    if fault == "no-usage":
        # what is not told counts as all that it could have cost
        assert paid.journal.spent() >= service.bill()
        assert paid.journal.reserved() == 0.0
        return
    settled(service, paid)


def test_every_fault_is_covered():
    assert set(ANSWERED) | {"401", "400", "429", "max-time", "empty"} == {"none", *FAULTS}


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [("401", Refused, "QISKIT_IBM_TOKEN"), ("400", Refused, "ibm submit")],
)
def test_a_refusal_costs_nothing_and_the_same_request_goes_on_later(service, tmp_path, fault, error, message):
    paid = spending(tmp_path)
    service.inject(fault)
    ask = (*problem(), 50, 2)
    with pytest.raises(error, match=message) as caught:
        IBMBackend("ibm_loopback", spending=paid).expectations(*ask)
    assert "CANARY" not in str(caught.value)
    assert caught.value.__context__ is None  # whose frames hold the token
    settled(service, paid)
    assert IBMBackend("ibm_loopback", spending=paid).expectations(*ask).usage.jobs == 1
    settled(service, paid)


@pytest.mark.parametrize(("fault", "message"), [("max-time", "maximum execution time"), ("empty", "empty")])
def test_a_paid_job_without_an_answer_is_charged_and_not_repeated(service, tmp_path, fault, message):
    paid = spending(tmp_path)
    service.inject(fault)
    ask = (*problem(), 50, 2)
    for _ in range(2):
        with pytest.raises(JobFailed, match=message):
            IBMBackend("ibm_loopback", spending=paid).expectations(*ask)
    assert len(service.jobs()) == 1
    assert service.bill() > 0.0
    settled(service, paid)


@pytest.mark.parametrize("fault", ["503-read", "429-read", "dropped-read"])
def test_questions_are_asked_again_and_in_the_end_the_error_stands(service, tmp_path, fault):
    paid = spending(tmp_path)
    backend = IBMBackend("ibm_loopback", spending=paid, options=PLAIN)
    service.inject(fault, 2)
    assert backend.expectations(*problem(), 50, 2).usage.jobs == 1
    settled(service, paid)


def test_the_account_and_the_budget_are_asked_before_each_job(service, tmp_path):
    paid = spending(tmp_path, seconds=9.0)
    backend = IBMBackend("ibm_loopback", spending=paid, options={**PLAIN, "max_execution_seconds": 5})
    assert backend.remaining() == 600.0
    for seed in range(2):
        backend.expectations(*problem(), 50, seed)
    before = len(service.jobs())
    with pytest.raises(OverBudget, match="9 s do not hold"):
        backend.expectations(*problem(), 50, 2)
    assert len(service.jobs()) == before
    settled(service, paid)
    service.machine.limit = service.bill() + 3.0
    with pytest.raises(OverBudget, match="account"):
        IBMBackend(
            "ibm_loopback", spending=spending(tmp_path / "other", 500.0), options={"max_execution_seconds": 5}
        ).expectations(*problem(), 50, 3)
    assert len(service.jobs()) == before


def test_an_unknown_machine_is_refused(service, tmp_path):
    paid = spending(tmp_path)
    with pytest.raises(Refused, match="ibm_nowhere"):
        IBMBackend("ibm_nowhere", spending=paid).expectations(*problem(), 50, 2)
    settled(service, paid)


def test_a_session_is_written_down_and_closed_and_one_that_was_left_is_closed_at_the_next_start(
    service, tmp_path
):
    paid = spending(tmp_path)
    options = {**PLAIN, "mode": "session", "max_time": 60}
    backend = IBMBackend("ibm_loopback", spending=paid, options=options)
    backend.expectations(*problem(), 50, 0)
    (left,) = service.open_sessions()
    assert [r.job_id for r in paid.journal.records() if r.live] == [left]
    assert paid.journal.reserved() == 60.0
    assert service.jobs()[0]["session"] == left
    backend._service._mode = backend._service._session = None  # as if the process had ended there
    after = IBMBackend("ibm_loopback", spending=paid, options=options)
    after.expectations(*problem(), 50, 1)
    (own,) = service.open_sessions()
    assert own != left
    after.close()
    assert service.open_sessions() == []
    assert paid.journal.reserved() == 0.0


def test_a_stop_rule_that_needs_joint_shots_decides_by_the_sampler(service, tmp_path):
    paid = spending(tmp_path)
    circuit, parameters, features, observables = problem()
    weights, offsets = np.eye(2), np.array([0.0, 0.5])
    exact = get_backend("torch").expectations(circuit, parameters, features, observables).values.numpy()
    rule = EmpiricalBernstein(start=400, step=400, cap=800)
    asked = (circuit, parameters, observables, weights, offsets)
    with pytest.raises(ValueError, match="read together"):
        rule(Comparison(IBMBackend("ibm_loopback", spending=paid), *asked), features)
    backend = IBMBackend("ibm_loopback", spending=paid, options={**PLAIN, "primitive": "sampler"})
    torch.manual_seed(0)
    decision = rule(Comparison(backend, *asked), features)
    gaps = exact + offsets
    decided = decision.decided
    assert decided.any()
    np.testing.assert_array_equal(decision.choice[decided], gaps.argmax(1)[decided])
    assert decision.usage.jobs == len(service.jobs())
    assert decision.usage.qpu_seconds == pytest.approx(service.bill())
    settled(service, paid)


def test_a_reply_of_which_no_byte_comes_is_not_waited_for_for_ever(service, tmp_path):
    paid = spending(tmp_path, waits=replace(QUICK, reply=0.5, retry_most=0.1))
    backend = IBMBackend("ibm_loopback", spending=paid, options=PLAIN)
    backend.expectations(*problem(), 50, 0)
    clients = backend._service.client._get_api_clients().values()
    assert {client._session._timeout for client in clients} == {(5.0, 0.5)}


def test_an_idle_session_is_charged_by_the_clock(service, tmp_path, monkeypatch):
    paid = spending(tmp_path)
    backend = IBMBackend("ibm_loopback", spending=paid, options={**PLAIN, "mode": "session", "max_time": 60})
    backend.expectations(*problem(), 50, 0)
    with service.machine._open() as books:
        books.execute("UPDATE sessions SET opened = opened - 30")
    backend.close()
    assert paid.journal.spent() == pytest.approx(30.0, abs=5.0)
    assert paid.journal.spent() > service.bill() + 20.0  # the jobs' own seconds are part of it, once
    assert paid.journal.reserved() == 0.0


def test_a_session_that_the_budget_does_not_hold_is_never_opened(service, tmp_path):
    paid = spending(tmp_path, seconds=50.0)
    backend = IBMBackend("ibm_loopback", spending=paid, options={**PLAIN, "mode": "session", "max_time": 60})
    with pytest.raises(OverBudget, match="60 s more"):
        backend.expectations(*problem(), 50, 0)
    assert service.open_sessions() == service.jobs() == []
    assert paid.journal.reserved() == 0.0


def test_the_session_of_a_process_that_lives_is_left_open(service, tmp_path):
    paid = spending(tmp_path)
    options = {**PLAIN, "mode": "session", "max_time": 60}
    backend = IBMBackend("ibm_loopback", spending=paid, options=options)
    backend.expectations(*problem(), 50, 0)
    with ThreadPoolExecutor(1) as pool:  # another owner, while this one lives
        other = IBMBackend("ibm_loopback", spending=paid, options=PLAIN)
        pool.submit(other.expectations, *problem(), 50, 1).result()
    assert len(service.open_sessions()) == 1
    backend.close()


def test_a_reply_that_was_damaged_on_the_disk_is_fetched_again_and_not_paid_again(service, tmp_path):
    paid = spending(tmp_path)
    ask = (*problem(), 50, 2)
    first = IBMBackend("ibm_loopback", spending=paid).expectations(*ask)
    (record,) = paid.journal.records()
    for damage in (lambda file: file.write_bytes(b"{"), lambda file: file.unlink()):
        damage(paid.journal.replies / record.tag)
        again = IBMBackend("ibm_loopback", spending=paid).expectations(*ask)
        assert torch.equal(first.values, again.values)
    assert len(service.jobs()) == 1
    settled(service, paid)


def test_a_machine_costs_what_was_estimated(service, tmp_path):
    paid = spending(tmp_path)
    circuit, parameters, features, observables = problem(rows=5)
    for options, shots in (({}, 300), ({}, 64), (PLAIN, 100), ({"primitive": "sampler"}, 77), ({}, 1)):
        backend = IBMBackend("ibm_loopback", spending=paid, options=options)
        backend.expectations(circuit, parameters, features, observables, shots, 0)
        estimate = backend.estimate(circuit, observables, 5, shots)
        assert service.jobs()[-1]["executions"] == estimate.executions
        assert service.jobs()[-1]["charged"] <= paid.journal.records()[-1].intent.seconds


WORKER = """
import logging, os, signal, sys
from pathlib import Path
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
from circuits.backends.ibm import IBMBackend
from circuits.journal import Budget, Journal
from circuits.submission import Spending, Waits
import runpy, torch
folder, step = Path(sys.argv[1]), sys.argv[2]
if step:
    real = getattr(Journal, step)
    def die(*args, **kwargs):
        if sys.argv[3] == "after":
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(Journal, step, die)
from circuits import reuploading
from circuits.observables import parse_observables
circuit = reuploading(n_qubits=2, n_layers=1)
waits = Waits(grace=0.05, poll=0.01, retry=0.01, retry_most=2.0)
paid = Spending(Journal(folder / "journal.sqlite"), Budget(500.0), "study", waits)
backend = IBMBackend("ibm_loopback", spending=paid, options={"mode": "batch", "max_time": 60})
parameters = torch.zeros(circuit.n_parameters)
print(backend.expectations(circuit, parameters, torch.zeros(2, 2), parse_observables(["ZZ"], 2), 50, 0).values)
"""


def work(folder, service, step="", when="before"):
    """A process of its own, everything logged; its exit code and output."""
    environment = {**os.environ, **service.environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(folder), step, when],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=folder,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


STEPS = [
    (step, when)
    for step in ("submitting", "found", "fetched", "charge", "done")
    for when in ("before", "after")
]


@pytest.mark.parametrize(
    ("step", "when"),
    [pytest.param(*each, marks=[] if each == ("found", "before") else pytest.mark.slow) for each in STEPS],
)
def test_a_process_that_is_killed_loses_nothing_pays_nothing_twice_and_tells_no_token(
    tmp_path, service, step, when
):
    code, output = work(tmp_path, service, step, when)
    assert code == -signal.SIGKILL
    code, more = work(tmp_path, service)
    assert code == 0, more
    assert "tensor(" in more
    assert len(service.jobs()) == 1
    settled(service, spending(tmp_path))
    assert "DEBUG" in more  # everything was logged
    token = service.environment["QISKIT_IBM_TOKEN"]
    assert token not in output + more
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert token.encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    "requests", [20, pytest.param(50, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.slow)]
)
def test_faulted_submissions_pay_no_duplicate_beyond_the_journal_and_lose_no_result(
    service, tmp_path, requests
):
    paid = spending(tmp_path, seconds=1e5)
    service.machine.limit = 1e5
    kinds = [*ANSWERED, "401", "429", "400", "503-read", "429-read", "dropped-read"]
    kinds.remove("no-usage")  # where the bill is not told, ours is higher
    generator = np.random.default_rng(0)
    options = {**PLAIN, "max_execution_seconds": 5}
    backend, answered = IBMBackend("ibm_loopback", spending=paid, options=options), 0
    for number in range(requests):
        service.inject(str(generator.choice(kinds)))
        ask = (*problem(rows=1), 1, number)
        for _ in range(3):
            try:
                found = backend.expectations(*ask)
                answered += bool(torch.isfinite(found.values).all())
                break
            except (ConnectionError, Refused):
                continue
    assert answered == requests
    known = {job["id"] for record in paid.journal.records() for job in paid.journal.jobs(record.tag)}
    assert known == {job["id"] for job in service.jobs()}
    settled(service, paid)
