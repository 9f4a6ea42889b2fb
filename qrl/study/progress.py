"""The live view of a study, read from its folders: works while it runs, from this terminal or another."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from qrl.study.executors import Task
from qrl.study.pairs import short
from qrl.study.score import RETURN, label, score

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def last_record(path: Path, key: str) -> dict[str, Any] | None:
    """The newest complete record of a JSON-lines file that has ``key``, read from the file's end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 65_536, 0))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and key in record:
            return record
    return None


class Progress:
    """Counts what the runs of a study have done so far.

    Args:
        tasks: all runs of the study.
        budget: interactions of each.
        measure: what evaluations are scored by.
    """

    def __init__(self, tasks: Sequence[Task], budget: int, measure: str = RETURN) -> None:
        self.tasks, self.budget, self.measure = tasks, budget, measure
        self.started = time.monotonic()
        self._finished: set[Path] = set()
        self._done_at_start: float | None = None

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """By agent: runs finished, begun and in all, share of the interactions done, newest evaluation mean."""
        rows: dict[str, dict[str, Any]] = {}
        for task in self.tasks:
            row = rows.setdefault(
                task.agent, {"finished": 0, "begun": 0, "runs": 0, "share": 0.0, "last": []}
            )
            row["runs"] += 1
            if task.folder not in self._finished and (task.folder / "DONE.json").exists():
                self._finished.add(task.folder)
            if task.folder in self._finished:
                row["finished"] += 1
                row["share"] += 1.0
            elif (episode := last_record(task.folder / "episodes.jsonl", "interactions")) is not None:
                row["begun"] += 1
                row["share"] += min(episode["interactions"] / self.budget, 1.0)
            else:
                continue
            evaluation = last_record(task.folder / "evaluations.jsonl", "return_mean")
            value = None if evaluation is None else score(evaluation, self.measure)
            if value is not None:
                row["last"].append(value)
        return rows

    def table(self) -> Table:
        """The snapshot as a table."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        rows = self.snapshot()
        share = sum(row["share"] for row in rows.values())
        table = Table(
            title=f"{sum(r['finished'] for r in rows.values())} of {len(self.tasks)} runs, {self._left(share)}",
            title_justify="left",
        )
        for column in ("agent", "finished", "running", "interactions", f"newest {label(self.measure)}"):
            table.add_column(column)
        for name, row in rows.items():
            mean = sum(row["last"]) / len(row["last"]) if row["last"] else None
            table.add_row(
                name,
                f"{row['finished']}/{row['runs']}",
                str(row["begun"]),
                ProgressBar(total=row["runs"], completed=row["share"], width=24),
                "" if mean is None else short(mean),
            )
        return table

    def _left(self, share: float) -> str:
        if self._done_at_start is None:
            self._done_at_start = share
        elapsed, gained = time.monotonic() - self.started, share - self._done_at_start
        if gained <= 0.0 or elapsed < 2.0:
            return f"{elapsed:.0f} s"
        return f"{elapsed:.0f} s, about {elapsed * (len(self.tasks) - share) / gained:.0f} s left"


class Tabled(Protocol):
    """What can be shown while it goes on."""

    def table(self) -> Table:
        """How far it is."""


class LiveView:
    """Shows progress on a terminal and stays silent elsewhere; a context manager, called to refresh."""

    def __init__(self, progress: Tabled, console: Console) -> None:
        self.progress, self.console = progress, console
        self._live: Any = None
        self._next = 0.0

    def __enter__(self) -> LiveView:
        if self.console.is_terminal:
            from rich.live import Live

            self._live = Live(self.progress.table(), console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, live_runs: int = 0) -> None:
        """Refresh, at most twice a second: looking must not cost what is being measured."""
        if self._live is not None and time.monotonic() >= self._next:
            self._live.update(self.progress.table(), refresh=True)
            self._next = time.monotonic() + 0.5
