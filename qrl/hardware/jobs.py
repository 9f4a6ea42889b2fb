"""The journal's jobs as a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.journal import Journal
from qrl.hardware.submissions import Submission

if TYPE_CHECKING:
    from rich.table import Table


def job_table(path: Path, submissions: Sequence[Submission], everything: bool) -> tuple[Table | None, str]:
    """The requests of a journal, newest first, and what they cost in all; no table where there are none.

    Args:
        path: the journal; it is not made where it is not there.
        submissions: those whose requests are shown.
        everything: all requests instead.
    """
    from rich import box
    from rich.table import Table

    if not path.exists():
        return None, ""
    journal = Journal(path)
    projects = {submission.project for submission in submissions}
    found = [r for r in journal.records() if everything or r.intent.project in projects]
    if not found:
        return None, ""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("tag", "state", "job", "backend", "reserved, s", "charged, s", "age"):
        table.add_column(name, overflow="fold", no_wrap=name == "tag")
    for record in reversed(found):
        jobs = journal.jobs(record.tag)
        extra = sum(job["duplicate"] for job in jobs)
        unknown = any(job["seconds"] is None for job in jobs)
        charged = sum(job["seconds"] or 0.0 for job in jobs)
        table.add_row(
            record.tag,
            record.state.lower() + (f": {record.reason}" if record.reason else ""),
            (record.job_id or "none")
            + (f" and {extra} duplicate{'s' if extra > 1 else ''}" if extra else ""),
            record.intent.backend,
            f"{record.intent.seconds:g}" if record.live else "0",
            "unknown" if unknown else f"{charged:g}",
            _age(time.time() - record.created),
        )
    counted = sum(journal.spent(project) for project in ([None] if everything else sorted(projects)))
    return (
        table,
        f"charged in all: {counted:g} s; in flight, of everything in {path}: {journal.reserved():g} s",
    )


def submission_lines(submissions: Sequence[Submission]) -> list[str]:
    """One line a submission: what, where, how far."""
    lines = []
    for each in submissions:
        done = sum(each.result(run) is not None for run, _ in each.runs if run.is_dir())
        how = f"{each.setting.acting} on {each.setting.backend}, {each.setting.episodes} episodes"
        state = f"{done} of {len(each.runs)} runs have results{', cancelled' if each.closed else ''}"
        lines.append(f"{each.project}: {how}; {state}")
    return lines


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
