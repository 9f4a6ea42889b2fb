"""Parts of a study as files: what came of its runs, small enough to keep, and enough to report from and to go on with.

A long study is trained in parts, on one machine after another. A part is a file of JSON lines: a head, then one line
for each run that ended. Unpacked, its runs lie in a study folder as if they had been trained there, without episodes,
checkpoints and ledger: reports, verdicts and explanations are the same, and what is missing can be trained beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qrl.errors import InputError
from qrl.study.checkpoint import write_atomic
from qrl.study.costs import RunCosts, costs_text
from qrl.study.executors import check_study_folder, write_study
from qrl.study.recipe import Recipe, dump_toml, load_recipe, make_recipe
from qrl.study.results import Record, Run, find_runs, find_studies, read_run
from qrl.study.score import RETURN, score, threshold_of

SCHEMA = "qrl-part/1"

_EPISODES = ("returns", "lengths", "successes")
"""Of an evaluation: figures of its single episodes, whose means stay."""


def pack(study: Path, file: Path, seeds: range | None = None, agents: Sequence[str] | None = None) -> int:
    """Write the runs of a study that ended into one file, which is replaced as a whole; the number of runs.

    Args:
        study: the study's folder.
        file: the part.
        seeds: of these alone; all by default.
        agents: of these alone; all by default.

    Raises:
        InputError: no such study, several of them, or no run that ended.
    """
    studies = find_studies(study)
    if len(studies) != 1:
        raise InputError("DIR", str(study), f"holds {len(studies)} studies", "name the folder of one")
    runs = [read_run(path) for path in find_runs(studies[0])]
    chosen = [
        run
        for run in runs
        if run.done is not None
        and (seeds is None or run.seed in seeds)
        and (agents is None or run.agent in agents)
    ]
    if not chosen:
        raise InputError(
            "DIR", str(study), "has no run of these that ended", "train one first: qrl run RECIPE"
        )
    recipe = load_recipe(studies[0] / "recipe.toml")
    shared = _common([run.manifest for run in chosen])
    head = {"schema": SCHEMA, "recipe": recipe.to_dict(), "manifest": shared}
    measure = threshold_of(recipe.to_dict())[0]
    lines = [
        head,
        *(_line(run, shared, measure) for run in sorted(chosen, key=lambda run: (run.seed, run.agent))),
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, "".join(f"{_text(line)}\n" for line in lines))
    return len(chosen)


def unpack(files: Iterable[Path], out: Path) -> tuple[Path, int]:
    """Lay the runs of parts of one study into its folder under `out`; the folder, and how many were not there yet.

    Raises:
        InputError: a file is no part, parts are of different studies, or the folder holds another one. Nothing is
            written in the first two cases.
    """
    parts = [_read(file) for file in files]
    if not parts:
        raise InputError("FILE", "nothing", "is given", "name one part or more")
    names = sorted({recipe.study.name for recipe, _ in parts})
    if len(names) > 1:
        raise InputError("FILE", ", ".join(names), "are different studies", "unpack one study at a time")
    added = 0
    for recipe, runs in parts:
        check_study_folder(recipe, out)
        folder = write_study(recipe, out)
        for run in runs:
            place = folder / run["agent"] / f"seed={run['seed']}"
            if (place / "DONE.json").exists():
                continue
            if (place / "evaluations.jsonl").exists():
                fix = "let it end first: qrl run RECIPE; or choose another --out"
                raise InputError("--out", str(place), "holds a run that has begun and not ended", fix)
            _lay(place, run, recipe)
            added += 1
    return folder, added


def _line(run: Run, shared: Mapping[str, Any], measure: str) -> Record:
    done = dict(run.done or {})
    # by phase and with their energies they are in the costs
    done["totals"] = {k: v for k, v in (done.get("totals") or {}).items() if isinstance(v, int | float)}
    done["final_evaluation"] = _without_episodes(done.get("final_evaluation"), measure)
    return {
        "agent": run.agent,
        "seed": run.seed,
        "manifest": {key: value for key, value in run.manifest.items() if key not in shared},
        "evaluations": [_without_episodes(evaluation, measure) for evaluation in run.evaluations],
        "costs": run.costs.to_dict(),
        "done": done,
    }


def _without_episodes(evaluation: Record | None, measure: str) -> Record | None:
    """An evaluation without its single episodes; what it is judged by is computed from them first."""
    if evaluation is None:
        return None
    kept = {key: value for key, value in evaluation.items() if key not in _EPISODES}
    if measure != RETURN:
        kept["measures"] = {**(kept.get("measures") or {}), measure: score(evaluation, measure)}
    if isinstance(kept.get("confirmation"), Mapping):
        kept["confirmation"] = {k: v for k, v in kept["confirmation"].items() if k not in _EPISODES}
    return kept


def _common(manifests: Sequence[Record]) -> Record:
    """What all manifests say alike."""
    first, *others = manifests
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def _read(file: Path) -> tuple[Recipe, list[Record]]:
    try:
        head, *lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        if head["schema"] != SCHEMA:
            raise ValueError(f"schema {head['schema']!r} instead of {SCHEMA!r}")
        recipe = make_recipe(head["recipe"])
        runs = [{**line, "manifest": {**head["manifest"], **line["manifest"]}} for line in lines]
        for run in runs:
            recipe.agent(run["agent"])
            run["costs"], run["seed"] = RunCosts.from_dict(run["costs"]), int(run["seed"])
            run["done"]["status"], run["evaluations"][:0]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        fix = "name a file that qrl pack wrote"
        raise InputError("FILE", str(file), f"is no part of a study ({error})", fix) from None
    return recipe, runs


def _lay(place: Path, run: Record, recipe: Recipe) -> None:
    """The run's folder; `DONE.json`, without which it is no run that ended, comes last."""
    place.mkdir(parents=True, exist_ok=True)
    own = recipe.to_dict()
    own["study"]["seeds"] = f"{run['seed']}:{run['seed'] + 1}"
    write_atomic(place / "recipe.toml", dump_toml(own))
    write_atomic(place / "manifest.json", json.dumps(run["manifest"], indent=1) + "\n")
    write_atomic(place / "costs.json", costs_text(place, run["costs"]))
    write_atomic(
        place / "evaluations.jsonl", "".join(f"{_text(evaluation)}\n" for evaluation in run["evaluations"])
    )
    write_atomic(place / "DONE.json", json.dumps(run["done"], indent=1) + "\n")


def _text(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
