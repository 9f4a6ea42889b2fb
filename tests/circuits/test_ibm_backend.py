"""The ibm backend before it is connected: options, refusals and estimates, none of which opens a connection."""

import copy
import json
import logging
import pickle
import socket

import pytest
import torch

from circuits import reuploading
from circuits.backends import get_backend
from circuits.backends._ibm_service import check_credentials
from circuits.backends.ibm import MAX_EXECUTIONS, IBMBackend, make_options
from circuits.device_time import job_seconds
from circuits.gates import integer
from circuits.journal import Budget, Journal, OverBudget
from circuits.observables import parse_observables
from circuits.redaction import redacted
from circuits.submission import Refused, Spending, Waits

QUICK = Waits(grace=0.001, poll=0.001, retry=0.001, retry_most=0.01)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No credentials, an empty home, and any connection is a failure."""
    for name in ("QISKIT_IBM_TOKEN", "QISKIT_IBM_INSTANCE", "QISKIT_IBM_URL", "QISKIT_IBM_CHANNEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def refuse(*_, **__):
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def spending(folder, seconds=100.0):
    return Spending(Journal(folder / "journal.sqlite"), Budget(seconds), "study", QUICK)


def ask(backend, rows=2, shots=100):
    circuit = reuploading(n_qubits=4, n_layers=1)
    parameters = torch.zeros(circuit.n_parameters)
    observables = parse_observables(["ZZII", "IIZZ"], 4)
    return backend.expectations(circuit, parameters, torch.zeros(rows, 4), observables, shots, 0)


def test_without_a_budget_nothing_is_asked(offline):
    with pytest.raises(OverBudget, match="--budget-seconds"):
        ask(get_backend("ibm:ibm_torino"))


def test_without_credentials_the_error_names_the_variable_and_a_way_to_try(offline, tmp_path):
    backend = IBMBackend("ibm_torino", spending=spending(tmp_path))
    with pytest.raises(Refused, match=r"QISKIT_IBM_TOKEN.*aer:fake_torino"):
        ask(backend)
    assert backend.spending.journal.reserved() == 0.0


def test_the_token_of_the_account_file_is_hidden_before_it_is_used_and_its_mode_is_warned_of(
    offline, tmp_path, monkeypatch
):
    file = tmp_path / "home" / ".qiskit" / "qiskit-ibm.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"default": {"token": "CANARY-of-the-file", "channel": "ibm_cloud"}}))
    monkeypatch.setattr(logging, "_logRecordFactory", logging.getLogRecordFactory())
    file.chmod(0o644)
    with pytest.warns(UserWarning, match="can be read by others; chmod 600"):
        check_credentials()
    assert redacted("it is CANARY-of-the-file") == "it is <hidden>"
    file.chmod(0o600)
    check_credentials()


def test_a_budget_below_one_job_is_said_before_anything_is_sent(offline, tmp_path, monkeypatch):
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "CANARY-token")
    backend = IBMBackend("ibm_torino", spending=spending(tmp_path, 1.0), service=Nobody())
    with pytest.raises(OverBudget, match="do not hold"):
        ask(backend)


class Nobody:
    """A service that must not be asked for work."""

    def remaining(self):
        return None

    def submit(self, *_):
        pytest.fail("something was sent")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"private": True}, "private"),
        ({"mode": "session"}, "max_time"),
        ({"mode": "sitting"}, "mode"),
        ({"mode": "session", "max_time": 0}, "max_time"),
        ({"max_execution_seconds": -5}, "max_execution_seconds"),
        ({"max_execution_seconds": 0}, "max_execution_seconds"),
        ({"max_execution_seconds": 99_999}, "10800"),
        ({"max_execution_seconds": 1.5}, "max_execution_seconds"),
        ({"resilience_level": 3}, "resilience_level"),
        ({"dynamical_decoupling": "yes"}, "dynamical_decoupling"),
        ({"primitive": "oracle"}, "primitive"),
        ({"token": "CANARY"}, "token"),
    ],
)
def test_options_out_of_range_are_refused_by_name(fields, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        make_options(fields)
    assert "CANARY" not in str(caught.value)


def test_a_machine_needs_a_name():
    with pytest.raises(ValueError, match="ibm:ibm_torino"):
        get_backend("ibm")


def test_what_is_no_name_may_be_a_credential_and_is_not_repeated():
    with pytest.raises(ValueError, match="QISKIT_IBM_TOKEN") as caught:
        get_backend("ibm:CANARY-0123456789abcdefghijklmnopqrstuvwxyzABCDEF")
    assert "CANARY" not in str(caught.value)


def test_a_copy_or_a_pickle_holds_no_connection(tmp_path):
    backend = IBMBackend("ibm_torino", spending=spending(tmp_path))
    backend._service = Nobody()
    assert copy.deepcopy(backend) is backend
    assert pickle.loads(pickle.dumps(backend))._service is None


def test_the_estimator_does_not_say_what_was_read_together_and_the_sampler_does():
    assert not IBMBackend("ibm_torino").capabilities.joint_shots
    assert IBMBackend("ibm_torino").capabilities.single_shots
    assert IBMBackend("ibm_torino", options={"primitive": "sampler"}).capabilities.joint_shots


def test_shots_are_needed_and_a_job_has_a_limit(offline, tmp_path):
    backend = IBMBackend("ibm_torino", spending=spending(tmp_path), service=Nobody())
    with pytest.raises(ValueError, match="shots"):
        ask(backend, shots=None)
    with pytest.raises(ValueError, match=str(MAX_EXECUTIONS)):
        ask(backend, rows=200, shots=100_000)


def test_an_angle_that_is_not_finite_is_named(offline, tmp_path):
    backend = IBMBackend("ibm_torino", spending=spending(tmp_path), service=Nobody())
    circuit = reuploading(n_qubits=4, n_layers=1)
    parameters = torch.full((circuit.n_parameters,), float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        backend.expectations(circuit, parameters, torch.zeros(1, 4), parse_observables(["ZZII"], 4), 100, 0)


def test_an_estimate_is_the_documented_formula_on_the_recorded_machine(offline):
    circuit = reuploading(n_qubits=4, n_layers=5)
    observables = parse_observables(["ZZII", "IIZZ", "XIII"], 4)
    found = IBMBackend("ibm_torino").estimate(circuit, observables, rows=16, shots=1024)
    # two settings; 1024 shots are 16 twirls of 64; and one circuit more that calibrates the readout
    assert found.executions == (16 * 2 + 1) * 1024
    plain = IBMBackend("ibm_torino", options={"resilience_level": 0})
    assert plain.estimate(circuit, observables, rows=16, shots=1000).executions == 16 * 2 * 1000
    # 4 qubits and 5 layers last some microseconds on a Heron, far below the pause between shots
    assert 2.0 + 250e-6 * found.executions < found.seconds < 2.0 + 280e-6 * found.executions
    assert found.two_qubit_gates >= 20
    assert "fake_torino" in found.source
    unknown = IBMBackend("ibm_nowhere").estimate(circuit, observables, rows=100, shots=1)
    assert unknown.seconds == pytest.approx(job_seconds(200)) == pytest.approx(2.052)
    assert (unknown.depth, unknown.two_qubit_gates) == (None, None)


def test_the_recorded_cap_lets_a_job_end_and_stops_one_that_does_not():
    for executions in (0, 100, 10**6):
        seconds = job_seconds(executions)
        cap = (
            IBMBackend("ibm_nowhere")
            .estimate(reuploading(n_qubits=2, n_layers=1), parse_observables(["ZI"], 2), executions, 1)
            .cap
        )
        assert seconds < integer("cap", cap, 1) <= 1.5 * seconds + 3


def test_the_key_of_a_request_depends_on_all_that_decides_the_answer(tmp_path):
    """And not on the day's calibration: an evaluation that goes on tomorrow must find what it paid today."""

    class Full(Exception):
        pass

    class Stop(Nobody):
        def remaining(self):
            raise Full

    circuit = reuploading(n_qubits=2, n_layers=1)
    words = parse_observables(["ZI"], 2)

    def tag(options=(), seed=0, shots=100, angle=0.0, target="ibm_torino", observables=words):
        keys = []
        backend = IBMBackend(target, spending=spending(tmp_path), options=dict(options), service=Nobody())

        class Spy(type(backend.spending.journal)):
            def known(self, name):
                keys.append(name)
                raise Full

        object.__setattr__(backend.spending, "journal", Spy(tmp_path / "journal.sqlite"))
        with pytest.raises(Full):
            backend.expectations(
                circuit,
                torch.full((circuit.n_parameters,), angle),
                torch.zeros(1, 2),
                observables,
                shots,
                seed,
            )
        return keys[0]

    tags = [
        tag(),
        tag(seed=1),
        tag(shots=101),
        tag(angle=1e-12),
        tag(target="ibm_fez"),
        tag({"resilience_level": 0}),
        tag({"dynamical_decoupling": False}),
        tag(observables=parse_observables(["IZ"], 2)),
    ]
    assert len(set(tags)) == len(tags)
    assert tag() == tags[0]
    # how dearly and when an answer comes does not decide it
    assert tag({"max_execution_seconds": 100}) == tag({"mode": "batch"}) == tags[0]
    assert max(map(len, tags)) <= 64
