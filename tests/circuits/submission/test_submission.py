"""Paid work: nothing lost, nothing paid twice, nothing overspent, whatever fails and whenever the process dies."""

import json
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from circuits.journal import Budget, Intent, Journal, OverBudget, content_key
from circuits.submission import Busy, JobFailed, Refused, StillRunning, Submitter, Waits

HERE = Path(__file__).parent
_machine = runpy.run_path(str(HERE / "machine.py"))
Machine, SECONDS = _machine["Machine"], _machine["SECONDS"]
QUICK = Waits(grace=0.001, poll=0.001, retry=0.001, retry_most=0.1)


def intent(number=0, repetition=0):
    return Intent(content_key(number=number), "study", "machine", SECONDS, repetition, {"number": number})


def submitter(folder, faults=(), budget=100.0, waits=QUICK, **options):
    machine = Machine(folder / "machine.sqlite", faults, **options)
    return Submitter(Journal(folder / "journal.sqlite"), machine, Budget(budget), waits)


def run(folder, **ask):
    command = [
        sys.executable,
        str(HERE / "worker.py"),
        json.dumps({"folder": str(folder), "budget": 100.0, **ask}),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def settled(at, jobs, answers=1):
    """Every job is charged, the journal's sum is the machine's bill, and nothing is in flight."""
    assert at.journal.spent() == at.service.bill()
    assert at.journal.reserved() == 0.0
    assert at.service.count() == jobs
    assert sum(record.sha256 is not None for record in at.journal.records()) == answers


def test_an_answer_is_paid_once(tmp_path):
    at = submitter(tmp_path)
    assert at.run(intent(), lambda: "a") == b"answer to a"
    assert at.run(intent(), lambda: pytest.fail("was sent again")) == b"answer to a"
    assert at.service.calls.count("submit") == 1
    assert at.service.calls.count("fetch") == 1
    settled(at, 1)
    assert at.run(intent(repetition=1), lambda: "a") == b"answer to a"
    settled(at, 2, answers=2)


@pytest.mark.parametrize(
    ("faults", "jobs", "submissions"),
    [
        (["before"], 1, 2),
        (["after"], 1, 1),
        (["repeated"], 3, 1),
        (["before", "after"], 1, 2),
        (["storm"] * 3, 1, 1),
    ],
)
def test_unclear_submissions_are_found_by_their_tag(tmp_path, faults, jobs, submissions):
    at = submitter(tmp_path, faults if faults[0] != "storm" else [])
    if faults[0] == "storm":
        at.service.faults = []
        record = at.start(intent(), lambda: "a")
        at.service.faults = list(faults)
        assert at.collect(record.tag) == b"answer to a"
    else:
        assert at.run(intent(), lambda: "a") == b"answer to a"
    assert at.service.calls.count("submit") == submissions
    settled(at, jobs)


def test_duplicates_are_cancelled_where_they_wait_and_charged_where_they_ran(tmp_path):
    at = submitter(tmp_path, ["repeated"])
    at.run(intent(), lambda: "a")
    assert at.service.count("cancelled") == 1
    jobs = at.journal.jobs(intent().tag)
    assert [job["duplicate"] for job in jobs] == [0, 1, 1]
    assert sorted(job["seconds"] for job in jobs) == [0.0, 2.0, 2.0]
    assert [what for what, _ in at.journal.events(intent().tag)].count("duplicate detected") == 2


def test_a_submission_that_never_arrives_is_sent_once_more_and_no_more(tmp_path):
    at = submitter(tmp_path, ["before"] * 5)
    with pytest.raises(JobFailed, match="no job under its tag"):
        at.run(intent(), lambda: "a")
    assert at.service.calls.count("submit") == 2
    settled(at, 0, answers=0)


def test_a_refusal_says_why_holds_no_budget_and_may_be_tried_again(tmp_path):
    at = submitter(tmp_path, ["refused"])
    with pytest.raises(Refused, match="no such machine"):
        at.run(intent(0), lambda: "a")
    assert at.journal.reserved() == 0.0
    settled(at, 0, answers=0)
    assert at.run(intent(0), lambda: "a") == b"answer to a"


def test_a_failure_that_cost_nothing_is_submitted_once_more_and_then_stays(tmp_path):
    at = submitter(tmp_path, ["failed"])
    assert at.run(intent(1), lambda: "b") == b"answer to b"
    assert at.run(intent(1), lambda: "b") == b"answer to b"
    assert at.service.count() == 2
    (tmp_path / "other").mkdir()
    at = submitter(tmp_path / "other", ["failed", "failed"])
    for _ in range(2):
        with pytest.raises(JobFailed, match=r"out of helium"):
            at.run(intent(1), lambda: "b")
    settled(at, 2, answers=0)


def test_a_failure_that_was_paid_is_not_repeated(tmp_path):
    at = submitter(tmp_path)
    record = at.start(intent(), lambda: "a")
    with at.service._open() as connection:
        connection.execute("UPDATE jobs SET status = 'failed'")
    for _ in range(2):
        with pytest.raises(JobFailed):
            at.run(intent(), lambda: "a")
    assert at.service.count() == 1
    assert at.journal.spent() == SECONDS
    assert at.journal.record(record.tag).state == "FAILED"


def test_what_cannot_be_made_holds_no_budget(tmp_path):
    at = submitter(tmp_path)

    def broken():
        raise ValueError("n_qubits: 200 is too many")

    with pytest.raises(ValueError, match="too many"):
        at.run(intent(), broken)
    assert at.journal.reserved() == 0.0
    assert at.run(intent(), lambda: "a") == b"answer to a"
    assert at.service.count() == 1


def test_a_reply_that_is_empty_is_paid_and_said(tmp_path):
    at = submitter(tmp_path)
    at.service.fetch = lambda job_id: b""
    with pytest.raises(JobFailed, match="empty"):
        at.run(intent(), lambda: "a")
    assert at.journal.spent() == SECONDS
    assert at.service.count() == 1


def test_a_bill_that_comes_late_is_waited_for(tmp_path):
    at = submitter(tmp_path)
    look, looks = at.service.look, []

    def late(job_id):
        job = look(job_id)
        looks.append(job)
        return replace(job, seconds=None) if len(looks) < 3 else replace(job, seconds=1.25)

    at.service.look = late
    at.run(intent(), lambda: "a")
    assert at.journal.spent() == 1.25


def test_what_was_fetched_needs_no_connection(tmp_path):
    at = submitter(tmp_path)
    at.run(intent(), lambda: "a")
    at.service.calls.clear()
    at.service.remaining = None
    assert at.start(intent(), lambda: "a").state == "FETCHED"
    assert at.service.calls == []


def test_what_is_done_needs_no_connection_and_no_service(tmp_path):
    at = submitter(tmp_path)
    at.run(intent(), lambda: "a")
    at.journal.done(intent().tag)
    at.service.calls.clear()
    assert at.run(intent(), lambda: "a") == b"answer to a"
    assert at.service.calls == []


def test_a_budget_that_does_not_hold_a_request_is_said_before_any_connection(tmp_path):
    at = submitter(tmp_path, budget=SECONDS / 2)
    at.service.remaining = lambda: pytest.fail("the service was asked")
    with pytest.raises(OverBudget, match="do not hold"):
        at.run(intent(), lambda: "a")


def test_another_attempt_is_paid_where_it_is_allowed(tmp_path):
    at = submitter(tmp_path)
    at.start(intent(), lambda: "a")
    with at.service._open() as connection:
        connection.execute("UPDATE jobs SET status = 'failed'")
    with pytest.raises(JobFailed):
        at.answer(intent(), lambda: "a")
    again = Submitter(at.journal, at.service, at.budget, at.waits, repeat_failed=True)
    record, raw = again.answer(intent(), lambda: "a")
    assert (raw, record.intent.repetition) == (b"answer to a", 1)
    assert at.answer(intent(), lambda: "a")[0] == record
    settled(at, 2)


def test_a_busy_service_is_asked_again_when_it_says_and_not_for_ever(tmp_path):
    slept = []
    waits = replace(QUICK, retry_most=5.0, sleep=slept.append)
    at = submitter(tmp_path, waits=waits)
    send, busy = at.service.submit, [2.0, None, 1.0]

    def submit(*request):
        if busy:
            raise Busy("429", busy.pop(0))
        return send(*request)

    at.service.submit = submit
    assert at.run(intent(), lambda: "a") == b"answer to a"
    assert {2.0, 1.0} <= set(slept)
    assert at.journal.record(intent().tag).attempts == 1
    settled(at, 1)
    busy += [1.0] * 100
    with pytest.raises(Busy):
        at.run(intent(1), lambda: "b")
    assert len(busy) > 90
    assert at.journal.reserved() == 0.0
    busy.clear()
    assert at.run(intent(1), lambda: "b") == b"answer to b"
    settled(at, 2, answers=2)


def test_a_refusal_of_the_last_of_several_sendings_finds_the_job_of_an_earlier(tmp_path):
    at = submitter(tmp_path)
    send = at.service.submit

    def submit(*request):
        send(*request)
        raise Refused("401")

    at.service.submit = submit
    assert at.run(intent(), lambda: "a") == b"answer to a"
    settled(at, 1)


def test_where_the_tag_cannot_be_looked_at_either_the_reservation_stays_until_it_was(tmp_path):
    at = submitter(tmp_path)
    send, find, broken = at.service.submit, at.service.find, [True]

    def refuse(then):
        def ask(*request):
            found = then(*request)
            if broken:
                raise Refused("401")
            return found

        return ask

    at.service.submit, at.service.find = refuse(send), refuse(find)
    with pytest.raises(Refused):
        at.run(intent(), lambda: "a")
    assert at.journal.reserved() == SECONDS
    broken.clear()
    assert at.run(intent(), lambda: "a") == b"answer to a"
    settled(at, 1)


def test_a_request_that_is_tried_again_later_finds_the_job_that_was_late(tmp_path):
    at = submitter(tmp_path, ["before", "before"])
    with pytest.raises(JobFailed, match="submit it again"):
        at.run(intent(), lambda: "a")
    at.service._accept(intent().tag, "a")
    assert at.run(intent(), lambda: "a") == b"answer to a"
    assert at.service.calls.count("submit") == 2
    settled(at, 1)


def test_an_unknown_status_does_not_wait_for_ever(tmp_path):
    at = submitter(tmp_path, waits=replace(QUICK, retry_most=0.02))
    record = at.start(intent(), lambda: "a")
    with at.service._open() as connection:
        connection.execute("UPDATE jobs SET status = 'a status nobody knows'")
    with pytest.raises(StillRunning, match="no known status"):
        at.collect(record.tag)
    assert at.journal.reserved() == SECONDS


def test_an_interrupt_leaves_the_job_and_says_how_to_fetch_it(tmp_path):
    at = submitter(tmp_path)
    record = at.start(intent(), lambda: "a")
    with at.service._open() as connection:
        connection.execute("UPDATE jobs SET status = 'running'")

    def interrupt(_):
        raise KeyboardInterrupt

    stopped = Submitter(at.journal, at.service, at.budget, replace(QUICK, sleep=interrupt))
    with pytest.raises(KeyboardInterrupt, match=f"job {record.job_id} .*qrl jobs collect"):
        stopped.run(intent(), lambda: "a")
    with at.service._open() as connection:
        connection.execute("UPDATE jobs SET status = 'done'")
    assert at.run(intent(), lambda: "a") == b"answer to a"
    settled(at, 1)


def test_an_interrupt_while_it_is_sent_lets_another_thread_go_on(tmp_path):
    at = submitter(tmp_path)
    send = at.service.submit

    def submit(*request):
        send(*request)
        raise KeyboardInterrupt

    at.service.submit = submit
    with pytest.raises(KeyboardInterrupt):
        at.run(intent(), lambda: "a")
    other = submitter(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(other.run, intent(), lambda: "a").result() == b"answer to a"
    settled(other, 1)


def test_threads_with_one_key_make_one_job(tmp_path):
    def ask(_):
        return submitter(tmp_path).run(intent(), lambda: "a")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {b"answer to a"}
    settled(submitter(tmp_path), 1)


def test_what_is_cancelled_is_charged(tmp_path):
    at = submitter(tmp_path)
    record = at.start(intent(), lambda: "a")
    with at.service._open() as connection:
        connection.execute("UPDATE jobs SET status = 'queued', charged = 0.5")
    assert at.cancel(record.tag) == 0.5
    assert at.journal.record(record.tag).state == "FAILED"
    assert at.cancel(record.tag) == 0.5
    settled(at, 1, answers=0)


def test_a_deadline_leaves_the_job_running_and_collect_fetches_it(tmp_path):
    at = submitter(tmp_path, waits=Waits(grace=0.001, poll=0.001, deadline=0.003))
    record = at.start(intent(), lambda: "a")
    with at.service._open() as connection:
        connection.execute("UPDATE jobs SET status = 'a status nobody knows'")
    with pytest.raises(StillRunning, match="qrl jobs collect"):
        at.collect(record.tag)
    assert at.journal.reserved() == SECONDS
    with at.service._open() as connection:
        connection.execute("UPDATE jobs SET status = 'done'")
    assert at.collect(record.tag) == b"answer to a"
    settled(at, 1)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(1.0), "budget.seconds: 1 s do not hold 2 s more"),
        (Budget(3.0), "2 s are spent"),
        (Budget(100.0, jobs=1), "budget.jobs: 1 are used up"),
        (Budget(100.0, jobs_per_hour=1), "budget.jobs_per_hour: 1 are used up"),
        (Budget(100.0, price=1.6, money=5.0), "budget.money: 5 do not hold 6.40"),
    ],
)
def test_what_does_not_fit_is_never_sent(tmp_path, budget, message):
    at = submitter(tmp_path)
    if budget.seconds != 1.0:
        at.run(intent(0), lambda: "a")
    at.budget, before = budget, at.service.count()
    with pytest.raises(OverBudget, match=message):
        at.run(intent(1), lambda: pytest.fail("was made"))
    assert at.service.count() == before


def test_the_account_has_to_have_it_too(tmp_path):
    at = submitter(tmp_path, limit=1.5)
    with pytest.raises(OverBudget, match=r"account: 1\.5 s are left"):
        at.run(intent(), lambda: "a")


@pytest.mark.parametrize("seconds", [0, -1, "10", True, float("nan"), float("inf")])
def test_a_budget_is_a_positive_number(seconds):
    with pytest.raises(ValueError, match=r"budget\.seconds: .* is no positive number"):
        Budget(seconds)


def test_a_damaged_reply_is_noticed_and_fetched_again(tmp_path):
    at = submitter(tmp_path)
    at.run(intent(), lambda: "a")
    at.journal.done(intent().tag)
    (at.journal.replies / intent().tag).write_bytes(b"answer to b")
    with pytest.raises(ValueError, match="is damaged"):
        at.journal.reply(at.journal.record(intent().tag))
    assert at.run(intent(), lambda: "a") == b"answer to a"
    assert at.journal.reply(at.journal.record(intent().tag)) == b"answer to a"
    assert at.journal.record(intent().tag).state == "DONE"
    settled(at, 1)


def test_tags_hold_no_free_text(tmp_path):
    tag = Intent(content_key(number=1), "my secret study / übung", "machine", 1.0, 12).tag
    assert len(tag) <= 64
    assert "secret" not in tag
    assert tag.isascii()


def test_a_key_depends_on_every_part():
    import numpy as np

    keys = {
        content_key(a=1, b=2),
        content_key(a=2, b=1),
        content_key(a=12),
        content_key(a=np.zeros(2)),
        content_key(a=np.zeros((2, 1))),
        content_key(a=np.zeros(2, np.float32)),
        content_key(a=b"12"),
    }
    assert len(keys) == 7


# Every step of a submission, and the process killed before or after it.
STEPS = [
    ("journal", "reserve", "after"),
    ("journal", "submitting", "before"),
    ("journal", "submitting", "after"),
    ("machine", "submit", "before"),
    ("machine", "submit", "after"),
    ("journal", "found", "before"),
    ("journal", "found", "after"),
    ("machine", "fetch", "after"),
    ("journal", "fetched", "before"),
    ("journal", "fetched", "after"),
    ("journal", "charge", "before"),
    ("journal", "charge", "after"),
]


def killed_and_continued(folder, step):
    first = run(folder, numbers=[7], die=step)
    assert first.returncode == -9, first.stderr
    second = run(folder, numbers=[7])
    assert second.stdout == "answer to question 7\n", second.stderr
    settled(submitter(folder), 1)


@pytest.mark.parametrize("step", STEPS, ids="-".join)
def test_killed_at_any_step_it_continues_and_pays_once(tmp_path, step):
    killed_and_continued(tmp_path, step)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS, ids="-".join)
def test_fifty_kills_at_each_step(tmp_path, step):
    for number in range(50):
        (tmp_path / str(number)).mkdir()
        killed_and_continued(tmp_path / str(number), step)


def test_two_processes_with_one_key_make_one_job(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: run(tmp_path, numbers=[1]).stdout, range(4)))
    assert answers == ["answer to question 1\n"] * 4
    settled(submitter(tmp_path), 1)


def test_sixteen_submitters_near_the_cap_never_pass_it(tmp_path):
    Journal(tmp_path / "journal.sqlite")
    with ThreadPoolExecutor(16) as pool:
        outputs = list(pool.map(lambda n: run(tmp_path, numbers=[n], budget=11.0).stdout, range(16)))
    answered = [text for text in outputs if text.startswith("answer")]
    assert len(answered) == 5, outputs
    assert sum("over budget" in text for text in outputs) == 11
    at = submitter(tmp_path)
    assert at.service.bill() == 10.0
    settled(at, 5, answers=5)


def faulted(folder, count, seed):
    """Many submissions with faults of all kinds."""
    import random

    draw = random.Random(seed)
    kinds = [["before"], ["after"], ["repeated"], ["before", "after"], ["after", "repeated"], []]
    at = submitter(folder, budget=1e6)
    for number in range(count):
        at.service.faults = list(draw.choice(kinds))
        assert at.run(intent(number), lambda n=number: str(n)) == f"answer to {number}".encode()
        at.service.faults = []
    ran = sum(not job["duplicate"] for n in range(count) for job in at.journal.jobs(intent(n).tag))
    assert ran == count
    assert at.journal.spent() == at.service.bill()
    assert at.journal.reserved() == 0.0
    assert sum(len(at.journal.jobs(intent(n).tag)) for n in range(count)) == at.service.count()


def test_fifty_faulted_submissions_agree_with_the_bill(tmp_path):
    faulted(tmp_path, 50, 1)


@pytest.mark.slow
def test_five_hundred_faulted_submissions_agree_with_the_bill(tmp_path):
    faulted(tmp_path, 500, 2)


def test_a_journal_that_is_none_is_refused(tmp_path):
    (tmp_path / "text").write_text(
        "this is no database, and longer than a header of one hundred bytes would be" * 3
    )
    with pytest.raises(ValueError, match="cannot be used"):
        Journal(tmp_path / "text")
