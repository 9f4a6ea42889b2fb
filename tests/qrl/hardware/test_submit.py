"""Submissions: planned without a connection, paid once, within the budget, and finished whatever dies."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from circuits.backends import get_backend
from circuits.journal import Intent, Journal
from qrl.cli import main
from qrl.hardware.acting import Setting, load_trained
from qrl.hardware.evaluation import records
from qrl.hardware.planning import plan
from qrl.hardware.settings import load_settings
from qrl.hardware.submissions import all_submissions
from qrl.study.results import read_run

SMALL = ["--acting", "one-shot", "--episodes", "3", "--steps", "5"]  # five jobs of two seconds


def submit(study, *arguments):
    return main(["submit", str(study / "born"), "--backend", "paid", *SMALL, *arguments])


def journal_of(tmp_path):
    return Journal(tmp_path / "state" / "journal.sqlite")


def result(study):
    return records(read_run(study / "born" / "seed=0"))


NO_BUDGET = {
    "none": [],
    "both": ["--dry-run", "--budget-seconds", "100"],
    "negative": ["--budget-seconds=-1"],
    "zero": ["--budget-seconds", "0"],
    "text": ["--budget-seconds", "much"],
    "nan": ["--budget-seconds", "nan"],
    "below a job": ["--budget-seconds", "1.5"],
    "below the whole": ["--budget-seconds", "9.9"],
    "money without price": ["--budget-seconds", "100", "--budget-money", "5"],
    "too little money": ["--budget-seconds", "100", "--budget-money", "5", "--price", "1.6"],
    "no jobs": ["--budget-seconds", "100", "--max-jobs", "0"],
}


@pytest.mark.parametrize("case", NO_BUDGET)
def test_without_a_budget_that_holds_it_nothing_is_sent(case, study, paid, tmp_path, capsys):
    assert submit(study, *NO_BUDGET[case]) == 5
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1, err
    assert paid.PaidBackend.connections == 0
    assert not (tmp_path / "state").exists()
    assert result(study) == []


@pytest.mark.parametrize("backend", ["paid", "aer:fake_manila", "native"])
def test_a_dry_run_says_what_it_costs_and_sends_nothing(backend, study, paid, tmp_path, capsys):
    assert main(["submit", str(study / "born"), "--backend", backend, *SMALL, "--dry-run"]) == 0
    out = capsys.readouterr().out
    for word in (
        "Jobs",
        "Circuits",
        "Shots",
        "QPU seconds",
        "US dollars",
        "Kilojoules",
        "assumed",
        "no connection",
    ):
        assert word in out
    assert paid.PaidBackend.connections == 0
    assert not (tmp_path / "state").exists()


def test_a_hundred_episodes_of_two_hundred_steps_take_less_than_seven_minutes(study):
    trained = load_trained(read_run(study / "born" / "seed=0"))
    setting = Setting("native", acting="one-shot", episodes=100, steps=200)
    planned = plan(trained, setting, get_backend("native"))
    assert planned.jobs == 200
    assert planned.circuits == planned.shots == 20_000
    assert planned.seconds == pytest.approx(200 * (2 + 100 * 260e-6))
    assert planned.seconds < 420
    assert planned.expected < planned.seconds


def test_a_rule_of_shots_is_planned_to_its_cap(study):
    trained = load_trained(read_run(study / "frugal" / "seed=0"))
    setting = Setting("native", acting="adaptive", episodes=10, steps=4)
    planned = plan(trained, setting, get_backend("native"))
    assert planned.jobs == 4 * 3
    assert planned.shots == 4 * 10 * 60


def test_an_evaluation_is_paid_once(study, paid, tmp_path, capsys):
    assert submit(study, "--budget-seconds", "10.5") == 0
    (line,) = result(study)
    assert line["jobs"] == 5
    assert line["qpu_seconds"] == paid.machine.bill() == 10.0
    assert len(set(line["job_ids"])) == 5
    assert submit(study, "--budget-seconds", "10.5") == 0
    assert main(["jobs", "collect"]) == 0
    assert result(study) == [line]
    assert journal_of(tmp_path).spent() == paid.machine.bill() == 10.0
    capsys.readouterr()
    assert main(["jobs"]) == 0
    out = capsys.readouterr().out
    assert out.count("done") == 5
    assert "charged in all: 10 s" in out


def test_another_seed_is_another_evaluation(study, paid):
    submit(study, "--budget-seconds", "10.5")
    submit(study, "--budget-seconds", "10.5", "--seed", "1")
    assert paid.machine.bill() == 20.0
    assert len(result(study)) == 2


def test_what_others_have_in_flight_counts(study, paid, tmp_path):
    journal = journal_of(tmp_path)
    from circuits.journal import Budget

    journal.reserve(Intent("a" * 64, "another", "paid", 3.0), Budget(100))
    assert submit(study, "--budget-seconds", "12.9") == 5
    assert paid.PaidBackend.connections == 0
    assert submit(study, "--budget-seconds", "13.1") == 0


def kill_after(study, answers, tmp_path):
    here = str(Path(__file__).with_name("paid.py"))
    arguments = ["submit", str(study / "born"), "--backend", "paid", *SMALL, "--budget-seconds", "11"]
    source = (
        f"import runpy, sys; names = runpy.run_path({here!r});"
        "from circuits.backends import BACKENDS; BACKENDS['paid'] = names['PaidBackend'];"
        f"from qrl.cli import main; sys.exit(main({arguments!r}))"
    )
    import os

    environment = {**os.environ, "QRL_TEST_DIE_AFTER": str(answers)}
    return subprocess.run(
        [sys.executable, "-c", source],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_killed_in_the_middle_it_is_collected_and_paid_once(study, paid, tmp_path, capsys):
    assert kill_after(study, 3, tmp_path).returncode == -9
    assert paid.machine.bill() == 6.0
    assert result(study) == []
    main(["jobs", "list", str(study)])
    assert "0 of 1 runs have results" in capsys.readouterr().out
    assert main(["jobs", "collect", str(study.parent)]) == 0
    (line,) = result(study)
    assert line["qpu_seconds"] == paid.machine.bill() == journal_of(tmp_path).spent() == 10.0
    # what it would have been without the kill
    journal = tmp_path / "other" / "journal.sqlite"
    assert submit(study, "--budget-seconds", "11", "--journal", str(journal)) == 0
    assert result(study)[-1]["returns"] == line["returns"]


def test_a_budget_that_ends_on_the_way_keeps_what_was_paid(study, paid, tmp_path, capsys):
    # three jobs are all that the rest of the command allows
    assert submit(study, "--budget-seconds", "11", "--max-jobs", "3") == 5
    assert "budget.jobs" in capsys.readouterr().err
    assert paid.machine.bill() == 6.0
    assert submit(study, "--budget-seconds", "11") == 0
    assert paid.machine.bill() == 10.0


def test_interrupted_it_says_how_to_fetch(study, paid, monkeypatch, capsys):
    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(paid.PaidBackend, "_maybe_die", stop)
    assert submit(study, "--budget-seconds", "11") == 130
    assert "qrl jobs collect" in capsys.readouterr().err
    monkeypatch.undo()


def test_other_weights_are_not_taken_for_those_submitted(study, paid, tmp_path, capsys):
    kill_after(study, 2, tmp_path)
    (submission,) = all_submissions(tmp_path / "state" / "journal.sqlite")
    path = submission.folder / "submission.json"
    data = json.loads(path.read_text())
    data["runs"][0]["parameters_sha256"] = "0" * 64
    path.write_text(json.dumps(data))
    assert main(["jobs", "collect"]) == 2
    assert "other weights" in capsys.readouterr().err
    assert paid.machine.bill() == 4.0


def test_a_rehearsal_on_a_simulator_costs_nothing(study, paid, tmp_path, capsys):
    arguments = ["submit", str(study / "born"), "--backend", "native", *SMALL, "--budget-seconds"]
    assert main([*arguments, "9"]) == 5
    assert main([*arguments, "11"]) == 0
    assert "rehearsal" in capsys.readouterr().out
    assert not (tmp_path / "state").exists()


SETTINGS = {
    "unknown wait": ("waits.graze=1", "'grace'"),
    "negative wait": ("waits.grace=-1", ">= 0"),
    "text": ("waits.poll=soon", "number of seconds"),
    "nowhere": ("wait.poll=1", "waits"),
    "no value": ("waits.poll", "PATH=VALUE"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_are_none(case):
    override, hint = SETTINGS[case]
    with pytest.raises(ValueError, match=hint):
        load_settings([override])


def test_settings_are_taken_and_kept():
    settings = load_settings(["waits.grace=5", "waits.deadline=60", "ibm.mode=batch"])
    assert (settings.waits.grace, settings.waits.deadline) == (5, 60)
    assert load_settings((), settings.to_dict()) == settings


@pytest.mark.parametrize("path", ["ibm.token", "token", "ibm.api_key", "waits.secret"])
def test_a_credential_is_refused_and_not_repeated(path, study, capsys):
    code = main(["submit", str(study), "--backend", "native", "--dry-run", "--set", f"{path}=CANARY-1234"])
    out, err = capsys.readouterr()
    assert code == 2
    assert "CANARY" not in out + err
    assert "environment" in err


def test_a_job_that_failed_and_was_paid_is_paid_again_on_request_alone(study, paid, tmp_path, capsys):
    kill_after(study, 2, tmp_path)
    journal = journal_of(tmp_path)
    second = journal.records()[1]
    # as if the machine had charged for it and given nothing
    journal.failed(second.tag, "cancelled by the machine")
    assert main(["jobs", "collect"]) == 3
    assert "failed before" in capsys.readouterr().err
    assert paid.machine.bill() == 4.0
    assert submit(study, "--budget-seconds", "11") == 3
    assert submit(study, "--budget-seconds", "13", "--repeat-failed") == 0
    assert paid.machine.bill() == journal.spent() == 12.0
    (line,) = result(study)
    assert line["jobs"] == 5
    # the repetition is there now and is followed without being asked for
    assert submit(study, "--budget-seconds", "13") == 0
    assert paid.machine.bill() == 12.0


def test_a_submission_is_cancelled(study, paid, tmp_path, capsys):
    kill_after(study, 2, tmp_path)
    (submission,) = all_submissions(tmp_path / "state" / "journal.sqlite")
    assert main(["jobs", "cancel", submission.project]) == 0
    assert "closed" in capsys.readouterr().out
    assert main(["jobs", "collect"]) == 0
    assert "nothing to collect" in capsys.readouterr().out
    assert paid.machine.bill() == 4.0
    assert submit(study, "--budget-seconds", "11") == 0
    assert paid.machine.bill() == 10.0
    assert main(["jobs", "cancel", journal_of(tmp_path).records()[0].tag]) == 0
    assert "2 s charged" in capsys.readouterr().out
    assert main(["jobs", "cancel", "qrl-nothing"]) == 2
    assert main(["jobs", "cancel"]) == 2


def test_a_rule_of_shots_asks_the_machine(study, paid):
    arguments = [
        "submit",
        str(study / "frugal"),
        "--backend",
        "paid",
        "--acting",
        "adaptive",
        "--episodes",
        "2",
    ]
    assert main([*arguments, "--steps", "2", "--budget-seconds", "13"]) == 0
    (line,) = records(read_run(study / "frugal" / "seed=0"))
    assert 2 <= line["jobs"] <= 6
    assert 2 * 2 * 20 <= line["shots_taken"] <= 2 * 2 * 60
    assert line["qpu_seconds"] == paid.machine.bill()


OPTIONS = {
    "below one second": ("ibm.max_execution_seconds=-5", "max_execution_seconds"),
    "above three hours": ("ibm.max_execution_seconds=99999", "10800"),
    "a session without end": ("ibm.mode=session", "max_time"),
    "private": ("ibm.private=true", "private"),
    "unknown": ("ibm.mod=batch", "mode"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_ibm_does_not_take_are_one_line_before_any_connection(case, study, capsys):
    override, hint = OPTIONS[case]
    arguments = ["submit", str(study / "born"), "--backend", "ibm:ibm_torino", *SMALL]
    for asked in (["--dry-run"], ["--budget-seconds", "100"]):
        assert main([*arguments, *asked, "--set", override]) == 2
        err = capsys.readouterr().err
        assert len(err.strip().splitlines()) == 1
        assert hint in err


def test_what_was_answered_needs_no_connection(study, paid):
    assert submit(study, "--budget-seconds", "11") == 0
    before = paid.PaidBackend.connections
    assert submit(study, "--budget-seconds", "11") == 0
    assert paid.PaidBackend.connections == before


def test_without_credentials_it_says_which_variables(study, tmp_path, monkeypatch, capsys):
    for name in ("QISKIT_IBM_TOKEN", "QISKIT_IBM_INSTANCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("QRL_JOURNAL", str(tmp_path / "state" / "journal.sqlite"))
    arguments = [
        "submit",
        str(study / "born"),
        "--backend",
        "ibm:ibm_torino",
        *SMALL,
        "--budget-seconds",
        "100",
    ]
    assert main(arguments) in (2, 3)
    err = capsys.readouterr().err
    assert "QISKIT_IBM_TOKEN" in err
    assert "aer:fake_torino" in err
    assert main(["jobs"]) == 0
    assert "no jobs" in capsys.readouterr().out
