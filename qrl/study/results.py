"""Reading run directories: what is on disk, without torn lines and without what a resume superseded."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qrl.study.costs import RunCosts, read_costs

Record = dict[str, Any]

CLOCK_FIELDS = frozenset(
    {"wall_s", "cpu_s", "gpu_s", "seconds", "time", "timestamp", "started", "finished", "clock"}
)
"""Fields that differ between two equal runs because a clock wrote them: left out of `metrics_digest`."""

_SEED_FOLDER = re.compile(r"seed=(\d+)")
_RESUME_TAIL = re.compile(rb'\{\s*"resume_from"\s*:\s*\d+\s*\}\s*$')


@dataclass(frozen=True, slots=True)
class Run:
    """One run directory, read.

    `episodes` and `evaluations` are the surviving records in order; `costs` counts every record of the ledger ever
    written, because spent energy stays spent. `done` is None while the run is unfinished.
    """

    directory: Path
    study: str
    agent: str
    seed: int
    recipe: Record
    manifest: Record
    episodes: tuple[Record, ...]
    evaluations: tuple[Record, ...]
    costs: RunCosts
    done: Record | None

    @property
    def status(self) -> str:
        """`finished`, `failed`, `diverged`, or `unfinished` where DONE.json is not there yet."""
        return "unfinished" if self.done is None else str(self.done.get("status", "finished"))

    @property
    def crossing(self) -> Record | None:
        """The evaluation at which the threshold was reached: the first whose confirmation passed.

        A look above the threshold that fresh episodes did not confirm is not a crossing.
        """
        for evaluation in self.evaluations:
            confirmation = evaluation.get("confirmation")
            if isinstance(confirmation, Mapping) and confirmation.get("passed") is True:
                return evaluation
        return None


def read_lines(path: Path) -> list[Record]:
    """Read JSON lines; a torn line (cut short by a crash) is dropped, an absent file is empty.

    A line counts as torn where it is the last one, or where a `resume_from` line follows it: everything after
    the checkpoint is superseded there anyway. If the writer continued on the torn line itself, the resume
    mark at its end is kept. Anything else that is no JSON object raises ValueError with file and line.
    """
    if not path.exists():
        return []
    lines = [(number, line) for number, line in enumerate(path.read_bytes().split(b"\n"), 1) if line.strip()]
    records: list[Record] = []
    for position, (number, line) in enumerate(lines):
        record = _parse(line)
        if record is None:
            tail = _RESUME_TAIL.search(line)
            following = _parse(lines[position + 1][1]) if position + 1 < len(lines) else {"resume_from": 0}
            if tail is not None:
                record = _parse(tail.group())
            elif following is not None and "resume_from" in following:
                continue
        if record is None:
            raise ValueError(
                f"{path.name}: line {number} of {path} is no JSON object; restore or remove that line"
            )
        records.append(record)
    return records


def surviving(records: Iterable[Record]) -> list[Record]:
    """Drop what a resume superseded: `{"resume_from": step}` ends earlier records beyond that step."""
    kept: list[Record] = []
    for record in records:
        if "resume_from" in record:
            step = record["resume_from"]
            kept = [earlier for earlier in kept if earlier["interactions"] <= step]
        else:
            kept.append(record)
    return kept


def read_run(directory: str | Path) -> Run:
    """Read one run directory `<study>/<agent>/seed=<n>`.

    Raises ValueError if it is no run directory or a file in it is damaged.
    """
    directory = Path(directory).resolve()
    match = _SEED_FOLDER.fullmatch(directory.name)
    if match is None or not (directory / "recipe.toml").exists():
        raise ValueError(
            f"directory: {directory} is no run; give a folder <study>/<agent>/seed=<n> with a recipe"
        )
    evaluations = tuple(surviving(read_lines(directory / "evaluations.jsonl")))
    done = _read_json(directory / "DONE.json")
    return Run(
        directory=directory,
        study=directory.parent.parent.name,
        agent=directory.parent.name,
        seed=int(match.group(1)),
        recipe=_read_toml(directory / "recipe.toml"),
        manifest=_read_json(directory / "manifest.json") or {},
        episodes=tuple(surviving(read_lines(directory / "episodes.jsonl"))),
        evaluations=evaluations,
        costs=read_costs(directory, evaluations, done),
        done=done,
    )


def find_runs(path: str | Path) -> list[Path]:
    """Run directories under a run, an agent, a study or a root, in the order study, agent, seed."""
    path = Path(path).resolve()
    if not path.is_dir():
        raise ValueError(
            f"directory: {path} does not exist; give a run, an agent, a study or a root of studies"
        )
    candidates = [path] if _is_run(path) else [found for found in path.rglob("seed=*") if _is_run(found)]
    return sorted(candidates, key=lambda run: (str(run.parent.parent), run.parent.name, int(run.name[5:])))


def find_studies(path: str | Path) -> list[Path]:
    """Study folders that a path names or contains: the study itself for a run or an agent, each one of a
    root.

    Raises ValueError if no run is found there.
    """
    studies = list(dict.fromkeys(run.parent.parent for run in find_runs(path)))
    if not studies:
        raise ValueError(f"directory: {path} holds no run; train one first: qrl run RECIPE --out {path}")
    return studies


def metrics_digest(run_dir: str | Path) -> str:
    r"""SHA-256 of a run's surviving episodes and evaluations as canonical JSON without clock fields.

    Canonical: keys sorted, no blanks, ASCII, floats in shortest round-trip form, no NaN. Two runs that
    trained alike have equal digests, whether or not one of them was interrupted. Source: own construction.
    """
    directory = Path(run_dir)
    content = {
        name: [_without_clock(record) for record in surviving(read_lines(directory / f"{name}.jsonl"))]
        for name in ("episodes", "evaluations")
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _without_clock(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_clock(item) for key, item in value.items() if key not in CLOCK_FIELDS}
    if isinstance(value, list):
        return [_without_clock(item) for item in value]
    return value


def _is_run(path: Path) -> bool:
    return bool(_SEED_FOLDER.fullmatch(path.name)) and (path / "recipe.toml").exists()


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:  # covers both bad JSON and bad UTF-8
        return None
    return record if isinstance(record, dict) else None


def _read_json(path: Path) -> Record | None:
    if not path.exists():
        return None
    record = _parse(path.read_bytes())
    if record is None:
        raise ValueError(f"{path.name}: {path} is no JSON object; restore it or remove the run")
    return record


def _read_toml(path: Path) -> Record:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: {path} is no TOML ({error}); restore it or remove the run") from None
