"""Paid evaluations that survive their process: what is needed to go on is on the disk before anything is sent.

A submission is an evaluation of some runs from fixed seeds. Run again, it asks the same questions in the same order:
what was paid comes from the journal, what is in flight is adopted, and it goes on from there. So nothing of its
progress has to be stored but the journal itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from circuits.backends import Backend
from circuits.journal import Budget, Journal, OverBudget
from circuits.submission import Spending
from qrl.errors import InputError
from qrl.hardware.acting import Setting, Trained, load_trained
from qrl.hardware.evaluation import append, evaluate, record, records
from qrl.hardware.planning import Plan, plan, total_seconds
from qrl.hardware.settings import Settings, load_settings, named_backend
from qrl.ledger.header import versions
from qrl.study.checkpoint import write_atomic
from qrl.study.results import read_run
from qrl.study.run import exclusive

SCHEMA = 1
FILE = "submission.json"


@dataclass(frozen=True)
class Submission:
    """What was submitted, as it lies in its folder beside the journal.

    Attributes:
        folder: its own.
        runs: folders of the runs and the hash of their weights, in the order in which they are evaluated.
        setting: how they are evaluated.
        settings: waits, and options of the machine.
        budget: of all runs together.
        seconds: predicted, at most.
        created: seconds since 1970.
        versions: of the software it was begun with.
        repeat_failed: whether a job that failed and was paid may be paid once more.
        closed: whether it was cancelled, and is not collected any more.
    """

    folder: Path
    runs: tuple[tuple[Path, str], ...]
    setting: Setting
    settings: Settings
    budget: Budget
    seconds: float
    created: float
    versions: Mapping[str, Any]
    repeat_failed: bool = False
    closed: bool = False

    @property
    def project(self) -> str:
        """By which the journal knows it."""
        return self.folder.name

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.folder.parent.with_suffix(".sqlite")

    def result(self, run: Path) -> dict[str, Any] | None:
        """The record of this submission in a run's folder, None before there is one."""
        found = [line for line in records(read_run(run)) if line.get("submission") == self.project]
        return found[-1] if found else None

    @property
    def open(self) -> bool:
        """Whether a run has no result yet, and it was not cancelled."""
        return not self.closed and any(self.result(run) is None for run, _ in self.runs if run.is_dir())

    def write(self) -> None:
        """Write it, whole and durable."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = {
            "schema": SCHEMA,
            "runs": [{"path": str(run), "parameters_sha256": digest} for run, digest in self.runs],
            "setting": self.setting.to_dict(),
            "settings": self.settings.to_dict(),
            "budget": asdict(self.budget),
            "seconds": self.seconds,
            "created": self.created,
            "versions": dict(self.versions),
            "repeat_failed": self.repeat_failed,
            "closed": self.closed,
        }
        write_atomic(self.folder / FILE, json.dumps(data, indent=1) + "\n")


def submissions_folder(journal: Path) -> Path:
    """Where the submissions of a journal are."""
    return journal.with_suffix(".submissions")


def prepare(
    plans: Sequence[Plan],
    setting: Setting,
    settings: Settings,
    budget: Budget,
    journal: Path,
    repeat_failed: bool = False,
) -> Submission:
    """The submission of some runs; equal runs in an equal setting are one submission, whenever they are asked for.

    Raises:
        InputError: the journal's name does not end in ``.sqlite``.
    """
    if journal.suffix != ".sqlite":
        raise InputError("--journal", str(journal), "is no name of a journal", "end it in .sqlite")
    weights = [plan.trained.agent.parameters_sha256 for plan in plans]
    content = json.dumps([weights, setting.to_dict(), settings.to_dict()["ibm"]], sort_keys=True)
    name = f"evaluation-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    runs = tuple((plan.trained.run.directory, digest) for plan, digest in zip(plans, weights, strict=True))
    seconds = total_seconds(plans) or 0.0
    folder = submissions_folder(journal) / name
    fresh = Submission(
        folder, runs, setting, settings, budget, seconds, time.time(), versions(), repeat_failed
    )
    if not (folder / FILE).exists():
        return fresh
    # what was begun keeps its time and versions; budget and waits are those of the latest command
    known = read_submission(folder)
    return replace(fresh, created=known.created, versions=known.versions)


def check_fits(submission: Submission, remaining: float | None = None) -> None:
    """Refuse a submission that may not end within its budget, or within what the account has left.

    What is spent on it already is part of what was predicted; what other projects have in flight is not.

    Raises:
        OverBudget: it does not fit.
    """
    budget, spent, others = submission.budget, 0.0, 0.0
    if submission.journal.exists():
        journal = Journal(submission.journal)
        spent = journal.spent(submission.project)
        own = sum(r.intent.seconds for r in journal.records(submission.project) if r.live)
        others = max(0.0, journal.reserved() - own)
    most = max(submission.seconds, spent)
    state = f"{spent:g} s of it are spent, {others:g} s of others in flight"
    if most + others > budget.seconds:
        raise OverBudget(
            f"--budget-seconds: {budget.seconds:g} do not hold the {most:,.1f} s that this may take ({state});"
            " raise it, or ask for fewer --episodes, --steps or --shots"
        )
    if (
        budget.money is not None
        and budget.price is not None
        and (most + others) * budget.price > budget.money
    ):
        raise OverBudget(
            f"--budget-money: {budget.money:g} do not hold the {(most + others) * budget.price:,.2f} that this may"
            f" cost ({state}); raise it or ask for less"
        )
    if remaining is not None and most - spent + others > remaining:
        raise OverBudget(
            f"account: {remaining:g} s are left and do not hold the {most - spent:,.1f} s that this may still take"
            f" ({state}); wait for the next period or ask for less"
        )


def check_account(submission: Submission) -> None:
    """Refuse a submission that may not end within what the account has left; opens a connection.

    Raises:
        OverBudget: it does not fit.
        RuntimeError: the account cannot be reached.
    """
    check_fits(submission, spending_backend(submission).submitter().service.remaining())


Watching = Callable[[str], Any]
"""From a run's name to a context that gives what ``Evaluator.watch`` takes."""


def carry_out(submission: Submission, watching: Watching, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Evaluate the runs that have no result, and append their records; all records of the submission.

    Raises:
        OverBudget: the budget ends; what was paid is kept, and the same command goes on with a larger one.
        InputError: a run is gone or has other weights, or another process carries the submission out.
        RuntimeError: what a job that failed says.
    """
    with exclusive(submission.folder):
        _say_other_versions(submission, say)
        return [_evaluated(submission, run, digest, watching) for run, digest in submission.runs]


def _evaluated(submission: Submission, run: Path, digest: str, watching: Watching) -> dict[str, Any]:
    known = submission.result(run)
    if known is not None:
        return known
    trained = load_trained(read_run(run))
    if trained.agent.parameters_sha256 != digest:
        why = "has other weights than those that were submitted"
        raise InputError("DIR", str(run), why, "restore its checkpoint, or submit it anew")
    backend = spending_backend(submission)
    try:
        with watching(trained.name) as watch:
            outcome = evaluate(trained, submission.setting, backend, watch)
    finally:
        # a session is paid for by the clock
        getattr(backend, "close", lambda: None)()
    journal = Journal(submission.journal)
    answered = {r.tag for r in journal.records(submission.project) if r.job_id in set(outcome.usage.job_ids)}
    jobs = [job for tag in sorted(answered) for job in journal.jobs(tag)]
    line = record(
        outcome,
        submission=submission.project,
        options=submission.settings.to_dict()["ibm"],
        # the journal's, not this process's: what earlier ones paid for is part of the result
        jobs=len(jobs),
        qpu_seconds=math.fsum(job["seconds"] or 0.0 for job in jobs),
        queue_seconds=math.fsum(job["queued"] or 0.0 for job in jobs),
        duplicates=sum(job["duplicate"] for job in jobs),
        predicted_seconds=submission.seconds,
    )
    append(trained.run, line)
    return line


def paid_rung(
    settings: Settings, budget: Budget, journal: Path, states: int, watching: Watching
) -> Callable[[Trained, Setting], tuple[dict[str, Any], Backend]]:
    """What evaluates a ladder's last rung on a device that costs money: a submission of its own, a run.

    The states at which actions are compared are one request more of the same project.
    """

    def evaluate_paid(trained: Trained, setting: Setting) -> tuple[dict[str, Any], Backend]:
        backend = named_backend(setting.backend, settings)
        planned = plan(trained, setting, backend)
        asked = plan(trained, replace(setting, episodes=states, steps=1), backend)
        submission = prepare([planned], setting, settings, budget, journal)
        submission = replace(submission, seconds=(planned.seconds or 0.0) + (asked.seconds or 0.0))
        check_fits(submission)
        check_account(submission)
        submission.write()
        with exclusive(submission.folder):
            line = _evaluated(submission, *submission.runs[0], watching)
        return line, spending_backend(submission)

    return evaluate_paid


def spending_backend(submission: Submission) -> Any:
    """The backend of a submission, which may spend its budget; it has a ``submitter``."""
    backend: Any = named_backend(submission.setting.backend, submission.settings)
    backend.spending = Spending(
        Journal(submission.journal),
        submission.budget,
        submission.project,
        submission.settings.waits,
        submission.repeat_failed,
    )
    return backend


def cancel(journal: Path, name: str) -> list[str]:
    """Stop the jobs of a tag, or close a submission and stop what it has in flight; one line for each.

    What they cost until then is charged. Results that are there stay.

    Raises:
        InputError: there is no such tag or submission.
        RuntimeError: the machine cannot be reached; then nothing is closed.
    """
    known = all_submissions(journal)
    chosen = [each for each in known if each.project == name]
    book = Journal(journal) if journal.exists() else None
    record = None if book is None else book.known(name)
    if not chosen and record is None:
        raise InputError("TAG", name, "is not in the journal", "qrl jobs lists tags and submissions")
    if record is not None:
        chosen = [each for each in known if each.project == record.intent.project]
        if not chosen:
            why = f"belongs to {record.intent.project}, which was not submitted from here"
            raise InputError("TAG", name, why, "cancel it where it was submitted, or with the provider")
        return [_cancelled(chosen[0], name)]
    submission = chosen[0]
    with exclusive(submission.folder):
        records = [] if book is None else book.records(name)
        said = [_cancelled(submission, each.tag) for each in records if each.live]
        replace(submission, closed=True).write()
    return [
        *said,
        f"{name}: closed; what is paid stays in the journal, and the same qrl submit opens it again",
    ]


def _cancelled(submission: Submission, tag: str) -> str:
    charged = spending_backend(submission).submitter().cancel(tag)
    jobs = Journal(submission.journal).jobs(tag)
    return f"{tag}: {', '.join(job['id'] for job in jobs) or 'no job'} ended, {charged:g} s charged"


def _say_other_versions(submission: Submission, say: Callable[[str], None]) -> None:
    now = versions()
    changed = [name for name, version in submission.versions.items() if now.get(name) != version]
    if changed:
        what = ", ".join(f"{name} {submission.versions[name]} (now {now.get(name)})" for name in changed)
        say(
            f"warning: begun with {what}; where the bits differ, questions are asked anew and paid within the budget"
        )


def read_submission(folder: Path) -> Submission:
    """Read a submission's folder.

    Raises:
        InputError: it is damaged.
    """
    try:
        data = json.loads((folder / FILE).read_text())
        if data["schema"] != SCHEMA:
            raise ValueError(f"has schema {data['schema']}, and this version reads {SCHEMA}")
        return Submission(
            folder,
            tuple((Path(run["path"]), run["parameters_sha256"]) for run in data["runs"]),
            Setting(**data["setting"]),
            load_settings((), data["settings"]),
            Budget(**data["budget"]),
            float(data["seconds"]),
            float(data["created"]),
            data["versions"],
            data["repeat_failed"],
            data["closed"],
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        why = f"cannot be read ({type(error).__name__}: {error})"
        raise InputError(
            "submission", str(folder), why, "submit again what is missing; nothing is paid twice"
        ) from None


def all_submissions(journal: Path, within: Path | None = None) -> list[Submission]:
    """The submissions of a journal, oldest first; only those with a run at or under a folder, where one is given."""
    folders = sorted(submissions_folder(journal).glob(f"*/{FILE}"))
    found = [read_submission(path.parent) for path in folders]
    if within is not None:
        root = within.resolve()
        found = [s for s in found if any(run == root or root in run.parents for run, _ in s.runs)]
    return sorted(found, key=lambda submission: submission.created)
