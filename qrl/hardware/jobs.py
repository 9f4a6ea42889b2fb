"""The journal's jobs as a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from circuits.journal import Journal
from qrl.hardware.submissions import Submission
from qrl.study.table import Cell, Grid


def job_grid(path: Path, submissions: Sequence[Submission], everything: bool) -> Grid | None:
    """The requests of a journal, newest first; those of some submissions alone where not everything is asked for.

    None where there are none.
    """
    if not path.exists():
        return None
    journal = Journal(path)
    projects = {submission.project for submission in submissions}
    found = [r for r in journal.records() if everything or r.intent.project in projects]
    rows = []
    for record in reversed(found):
        jobs = journal.jobs(record.tag)
        charged = [job["seconds"] for job in jobs]
        extra = sum(job["duplicate"] for job in jobs)
        known = "unknown" if None in charged else f"{sum(charged):g}" if charged else "0"
        rows.append(
            (
                Cell(record.tag),
                (
                    Cell(record.state.lower(), record.reason or ""),
                    Cell(record.job_id or "none", f"and {extra} duplicates" if extra else ""),
                    Cell(record.intent.backend),
                    Cell(f"{record.intent.seconds:g}" if record.live else "0"),
                    Cell(known),
                    Cell(_age(time.time() - record.created)),
                ),
            )
        )
    if not rows:
        return None
    counted = sum(journal.spent(p) for p in ([None] if everything else sorted(projects)))
    return Grid(
        title=f"{len(rows)} requests in {path}",
        columns=(
            Cell("State"),
            Cell("Job"),
            Cell("Backend"),
            Cell("Reserved", "seconds"),
            Cell("Charged", "seconds"),
            Cell("Age"),
        ),
        rows=tuple(rows),
        note=f"Charged in all: {counted:g} s; in flight, of everything in the journal: {journal.reserved():g} s.",
    )


def submission_lines(submissions: Sequence[Submission]) -> list[str]:
    """One line a submission: what, where, how far."""
    lines = []
    for each in submissions:
        done = sum(each.result(run) is not None for run, _ in each.runs if run.is_dir())
        state = f"{done} of {len(each.runs)} runs have results"
        how = f"{each.setting.acting} on {each.setting.backend}, {each.setting.episodes} episodes"
        lines.append(f"{each.project}: {how}; {state}")
    return lines


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
