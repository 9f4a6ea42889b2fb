"""A study run by run: one process each, forked from a server that has imported everything and computed nothing."""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from qrl.errors import InputError
from qrl.study.checkpoint import write_atomic
from qrl.study.recipe import Recipe, load_recipe

# A run that takes its process down this often (out of memory, a crash in native code) is given up on.
MAX_CRASHES = 3
# Exit code of a run that could not go on for a reason that would meet every other run too (a full disk, a lock).
FATAL = 3


class StudyError(RuntimeError):
    """The study cannot go on; what was finished stays finished, and the same command continues it."""


@dataclass(frozen=True)
class Task:
    """One run of a study."""

    agent: str
    seed: int
    folder: Path


def plan(recipe: Recipe, agents: Sequence[str], out: Path) -> list[Task]:
    """All runs of the selected agents, seed by seed so that the agents of a pair run in like conditions."""
    study = out / recipe.study.name
    return [Task(name, seed, study / name / f"seed={seed}") for seed in recipe.seeds for name in agents]


def check_study_folder(recipe: Recipe, out: Path) -> None:
    """Refuse a study folder whose recipe differs in more than its seeds, its agents, and how they are judged and tuned.

    Raises:
        InputError: naming the first difference and the way out.
    """
    if out.exists() and not out.is_dir():
        raise InputError("--out", str(out), "is a file", "name a folder")
    check_same_study(recipe, out / recipe.study.name / "recipe.toml")


def check_same_study(recipe: Recipe, path: Path) -> None:
    """Refuse a recipe that differs from the one at this path, if there is one, as ``check_study_folder`` does.

    Raises:
        InputError: naming the first difference and the way out.
    """
    if not path.exists():
        return
    before, now = load_recipe(path).to_dict(), recipe.to_dict()
    agents = [{agent["name"]: agent for agent in data.pop("agents")} for data in (before, now)]
    for data in (before, now):
        data.pop("tuning", None)
        for key in ("seeds", "baselines", "margin"):
            data["study"].pop(key, None)
    common = agents[0].keys() & agents[1].keys()
    pairs = [
        ({k: agents[0][k] for k in common}, {k: agents[1][k] for k in common}, "agents"),
        (before, now, ""),
    ]
    for old, new, prefix in pairs:
        difference = _first_difference(old, new, prefix)
        if difference is not None:
            where, was, is_now = difference
            raise InputError(
                where,
                f"{is_now!r}",
                f"differs from {was!r} in {path}",
                "give the study another name (--set study.name=...) or another --out",
            )


def _first_difference(old: Any, new: Any, path: str) -> tuple[str, Any, Any] | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            found = _first_difference(old.get(key), new.get(key), f"{path}.{key}".strip("."))
            if found is not None:
                return found
        return None
    return None if old == new else (path, old, new)


def write_study(recipe: Recipe, out: Path) -> Path:
    """Write the study's recipe into its folder, agents and seeds of earlier calls kept; returns the folder."""
    folder = out / recipe.study.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.toml"
    if path.exists():
        before = load_recipe(path)
        names = {agent.name for agent in recipe.agents}
        kept = [agent for agent in before.agents if agent.name not in names]
        seeds = range(min(before.seeds.start, recipe.seeds.start), max(before.seeds.stop, recipe.seeds.stop))
        study = recipe.study.model_copy(update={"seeds": f"{seeds.start}:{seeds.stop}"})
        recipe = recipe.model_copy(update={"agents": [*recipe.agents, *kept], "study": study})
    write_atomic(path, recipe.to_toml())
    return folder


def execute(
    recipe: Recipe, tasks: Sequence[Task], workers: int, tick: Callable[[int], None] | None = None
) -> int:
    """Run all tasks that have no ``DONE.json``; returns the number of the signal that stopped it, else 0.

    Each run is a process of its own, forked from a server that has imported torch and Stable-Baselines3 and computed
    nothing. A run whose process dies is started again from its last checkpoint; one that keeps dying is recorded as
    failed, and the study goes on.

    Args:
        recipe: the study.
        tasks: from ``plan``.
        workers: processes at a time.
        tick: called a few times a second with the number of live runs.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qrl.study.preload"])
    waiting = [task for task in tasks if not (task.folder / "DONE.json").exists()]
    crashes: dict[Task, int] = {}
    live: dict[Any, Task] = {}
    data = recipe.to_dict()
    try:
        while waiting or live:
            while waiting and len(live) < workers:
                task = waiting.pop(0)
                process = context.Process(target=run_task, args=(data, task), daemon=False)
                process.start()
                live[process] = task
            connection.wait([process.sentinel for process in live], timeout=0.25)
            for process in [process for process in live if process.exitcode is not None]:
                task = live.pop(process)
                code = process.exitcode or 0
                if code == 0:
                    continue
                if code > 128:
                    _stop(live)
                    return code - 128
                if code == FATAL:
                    raise StudyError(
                        f"{task.agent} seed {task.seed} could not go on; its message stands above"
                    )
                crashes[task] = crashes.get(task, 0) + 1
                if _crashed(task, code, crashes[task]):
                    waiting.append(task)
            if tick is not None:
                tick(len(live))
    except BaseException:
        _stop(live)
        raise
    return 0


def _crashed(task: Task, code: int, times: int) -> bool:
    """Say which process died, and whether to try again."""
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if times < MAX_CRASHES:
        print(
            f"warning: the process of {task.agent} seed {task.seed} died ({how}); continuing from its checkpoint",
            file=sys.stderr,
        )
        return True
    done: dict[str, Any] = {
        "status": "failed",
        "reason": f"its process died {times} times ({how})",
        "final_evaluation": None,
        "totals": {},
        "resumed_from": None,
        "parameters_sha256": None,
        "metrics_sha256": None,
        "n_parameters": {},
    }
    write_atomic(task.folder / "DONE.json", json.dumps(done, indent=1) + "\n")
    print(
        f"warning: {task.agent} seed {task.seed} is recorded as failed: its process died {times} times ({how})",
        file=sys.stderr,
    )
    return False


def _stop(live: dict[Any, Task]) -> None:
    """Let the live runs write their checkpoints and leave."""
    for process in live:
        process.terminate()
    for process in live:
        process.join()


def run_task(recipe: dict[str, Any], task: Task) -> None:
    """What a process does: one run. Its exit code says how it ended."""
    from qrl.study.run import Interrupted, run

    try:
        run(recipe, task.agent, task.seed, task.folder)
    except Interrupted as stop:
        sys.exit(128 + stop.signum)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"error: {task.agent} seed {task.seed}: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(FATAL)
