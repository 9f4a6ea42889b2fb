"""Studies: every run once, crashes survived, folders that mean another study refused."""

import json
import os
import signal
import threading
import time

import pytest

from qrl.errors import InputError
from qrl.study.executors import Task, check_study_folder, execute, plan, write_study
from qrl.study.recipe import load_recipe, make_recipe


def hashes(out):
    return {
        str(path.parent.relative_to(out)): (d["parameters_sha256"], d["metrics_sha256"])
        for path in out.rglob("DONE.json")
        if (d := json.loads(path.read_text()))
    }


def test_a_study_runs_every_pair_once_and_again_does_nothing(tmp_path, tiny):
    recipe = make_recipe(tiny)
    tasks = plan(recipe, ["mlp", "random"], tmp_path)
    assert len(tasks) == 4
    assert execute(recipe, tasks, workers=2) == 0
    first = hashes(tmp_path)
    assert set(first) == {f"tiny/{a}/seed={s}" for a in ("mlp", "random") for s in (0, 1)}
    seen = []
    assert execute(recipe, tasks, workers=2, tick=seen.append) == 0
    assert hashes(tmp_path) == first
    assert seen == []


def test_one_worker_and_two_give_the_same_bits(tmp_path, tiny):
    recipe = make_recipe(tiny)
    for workers in (1, 2):
        execute(recipe, plan(recipe, ["mlp"], tmp_path / str(workers)), workers=workers)
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


def test_a_killed_worker_is_continued_and_said(tmp_path, tiny, capfd):
    tiny["budget"] = {"interactions": 3000, "evaluations": [0, 500, 3000], "evaluation_episodes": 2}
    recipe = make_recipe(tiny)
    tasks = plan(recipe, ["mlp"], tmp_path)[:1]
    checkpoint = tasks[0].folder / "checkpoints" / "ckpt-500"

    def kill():
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(int((tasks[0].folder / ".lock").read_text().split()[1]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert execute(recipe, tasks, workers=1) == 0
    killer.join()
    done = json.loads((tasks[0].folder / "DONE.json").read_text())
    assert done["status"] == "finished"
    assert done["resumed_from"] >= 500
    assert "died (SIGKILL); continuing" in capfd.readouterr().err


def test_a_study_folder_keeps_agents_and_seeds_of_earlier_calls(tmp_path, tiny):
    recipe = make_recipe(tiny)
    write_study(recipe, tmp_path)
    later = make_recipe({**tiny, "study": {"name": "tiny", "seeds": "2:5"}})
    check_study_folder(later, tmp_path)
    write_study(later, tmp_path)
    kept = load_recipe(tmp_path / "tiny" / "recipe.toml")
    assert kept.seeds == range(0, 5)
    assert [agent.name for agent in kept.agents] == ["mlp", "random"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda r: r["budget"].update(interactions=300), "budget.interactions"),
        (lambda r: r["environment"].update(observation="raw"), "environment.observation"),
        (lambda r: r["agents"][0].update(learning_rate=0.5), "agents.mlp.learning_rate"),
        (lambda r: r.pop("threshold"), "threshold"),
    ],
)
def test_a_folder_of_another_study_is_refused(tmp_path, tiny, change, field):
    write_study(make_recipe(tiny), tmp_path)
    before = (tmp_path / "tiny" / "recipe.toml").read_text()
    change(tiny)
    with pytest.raises(InputError, match=rf"^{field}: .*another name"):
        check_study_folder(make_recipe(tiny), tmp_path)
    assert (tmp_path / "tiny" / "recipe.toml").read_text() == before


def test_seeds_and_a_subset_of_agents_are_the_same_study(tmp_path, tiny):
    write_study(make_recipe(tiny), tmp_path)
    tiny["study"]["seeds"] = "7:9"
    del tiny["agents"][1]
    check_study_folder(make_recipe(tiny), tmp_path)


def test_tasks_pair_agents_seed_by_seed(tmp_path, tiny):
    tasks = plan(make_recipe(tiny), ["mlp", "random"], tmp_path)
    assert [(t.agent, t.seed) for t in tasks] == [("mlp", 0), ("random", 0), ("mlp", 1), ("random", 1)]
    assert tasks[0] == Task("mlp", 0, tmp_path / "tiny" / "mlp" / "seed=0")
