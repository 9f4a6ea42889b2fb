"""Tuning: equal for all, on seeds and start states of its own, the same however it is run, and all of it on record."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from qrl.errors import InputError
from qrl.specs import ALGORITHMS, LearnerBase
from qrl.study.executors import StudyError
from qrl.study.recipe import TUNING_SEEDS, extension, load_recipe, make_recipe
from qrl.study.tuning import (
    RANGES,
    Look,
    own_value,
    search_space,
    searching,
    trial_recipe,
    tunable,
    tune,
    tuning_of,
    with_values,
    write_tuned,
)

SMALL = {
    "study": {"name": "small", "seeds": "0:2"},
    "environment": {"id": "CartPole-v1"},
    "budget": {"interactions": 90, "evaluations": 3, "evaluation_episodes": 3},
    "tuning": {"trials": 2, "seeds": f"{TUNING_SEEDS}:{TUNING_SEEDS + 2}", "pruner": "none"},
    "agents": [
        {"name": "dqn", "algorithm": "dqn", "learning_starts": 20, "network": {"kind": "mlp", "hidden": [4]}},
        {"name": "reinforce", "algorithm": "reinforce", "network": {"kind": "mlp", "hidden": [4]}},
        {"name": "random", "algorithm": "random"},
    ],
}


def small(**tuning):
    return {**SMALL, "tuning": {**SMALL["tuning"], **tuning}}


def search_all(recipe, out, workers=1, names=("dqn", "reinforce")):
    """Run a search to its end; what is on record of every trial but its seconds."""
    recipe = tuning_of(recipe)
    with searching(recipe, tunable(recipe, names), out) as search:
        assert tune(search, workers) == 0
    record = json.loads((out / recipe.study.name / "tuning" / "tuning.json").read_text())
    for agent in record["agents"].values():
        for trial in agent["trials"]:
            del trial["seconds"]
    return record


# ---------------------------------------------------------------------- search spaces


@pytest.mark.parametrize("algorithm", [n for n, spec in ALGORITHMS.items() if issubclass(spec, LearnerBase)])
def test_every_learner_has_four_hyperparameters_that_it_takes(algorithm):
    space = RANGES[algorithm]
    assert len(space) == 4
    agent = ALGORITHMS[algorithm](name="a")
    for path, reach in space.items():
        own_value(agent, path)
        for value in (reach.low, reach.high):
            assert own_value(with_values(agent, {path: value}), path) == value


def test_rates_by_group_keep_their_ratio():
    agent = ALGORITHMS["dqn"](
        learning_rate=0.01,
        learning_rates={"scales": 0.1, "head": 0.5},
        schedule="linear",
        learning_rate_final=0.001,
    )
    tuned = with_values(agent, {"learning_rate": 0.02, "learning_rates.head": 0.3})
    assert tuned.learning_rate == 0.02
    assert tuned.learning_rates.scales == pytest.approx(0.2)
    assert tuned.learning_rates.head == 0.3
    assert tuned.learning_rates.weights is None
    assert tuned.learning_rate_final == pytest.approx(0.002)
    assert own_value(agent, "learning_rates.weights") == 0.01


def test_a_recipe_states_its_own_ranges():
    ranges = {"dqn": {"gamma": {"low": 0.9, "high": 0.99}, "batch_size": {"choices": [16, 32]}}}
    recipe = make_recipe(small(ranges=ranges))
    assert set(search_space(recipe, "dqn")) == {"gamma", "batch_size"}
    assert search_space(recipe, "reinforce") is RANGES["reinforce"]
    assert make_recipe(tomllib.loads(recipe.to_toml())) == recipe


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        ({"seeds": "0:3"}, r"tuning.seeds: 0:3 are not reserved for tuning; use seeds from 2\^31"),
        ({"trials": 0}, "tuning.trials: 0 "),
        ({"pruner": "mean"}, "tuning.pruner: mean is not known"),
        ({"ranges": {"dqnn": {"gamma": {"low": 0.1, "high": 0.2}}}}, "tuning.ranges.dqnn: .*'dqn'"),
        ({"ranges": {"dqn": {"gamma": {"low": 0.3, "high": 0.2}}}}, "ranges: .* is empty"),
        ({"ranges": {"dqn": {"gamma": {"low": 0.3}}}}, "ranges: .* is no range"),
        ({"ranges": {"dqn": {"gamma": {"low": 0.0, "high": 0.2, "log": True}}}}, "ranges: .*no logarithm"),
        ({"ranges": {"dqn": {"gama": {"low": 0.1, "high": 0.2}}}}, "tuning.ranges.dqn: gama .*'gamma'"),
        ({"ranges": {"dqn": {"gamma": {"low": 0.1, "high": 2.0}}}}, "gamma: 2.0 cannot be used"),
        (
            {"ranges": {"dqn": {"network.n_layers": {"low": 1, "high": 2}}}},
            "network.n_layers is no entry of dqn",
        ),
    ],
)
def test_what_cannot_be_searched_is_said_in_one_line(tuning, message):
    with pytest.raises(InputError, match=message) as error:
        tunable(make_recipe(small(**tuning)), ["dqn", "reinforce"])
    assert "\n" not in str(error.value)


def test_the_page_on_tuning_states_what_is_searched():
    page = (Path(__file__).parents[3] / "docs" / "tuning.md").read_text()
    for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        said = tomllib.loads(block)
        study = {**SMALL["study"], **said.pop("study", {})}
        study.pop("baselines", None)
        recipe = make_recipe({**SMALL, **said, "study": study})
        assert tunable(tuning_of(recipe), ["dqn"])
    rows = dict(re.findall(r"^\| (`.*?`) \| (`.*?) \|$", page, re.MULTILINE))
    for names, searched in rows.items():
        for algorithm in re.findall(r"`(\w+)`", names):
            told = re.findall(r"`([\w.]+)` ([\d.e-]+) to ([\d.e-]+)( log)?", searched)
            stated = {path: (float(low), float(high), bool(log)) for path, low, high, log in told}
            assert stated == {path: (r.low, r.high, r.log) for path, r in RANGES[algorithm].items()}
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(RANGES)


# ---------------------------------------------------------------------- seeds and start states


def test_tuning_seeds_are_never_reported_ones():
    study = {**SMALL["study"], "seeds": f"{TUNING_SEEDS + 1}:{TUNING_SEEDS + 4}"}
    with pytest.raises(InputError, match=r"^study.seeds: .* overlaps the tuning seeds"):
        make_recipe({**SMALL, "study": study})
    recipe = tuning_of(make_recipe({key: value for key, value in SMALL.items() if key != "tuning"}))
    assert recipe.tuning.seeds == f"{TUNING_SEEDS}:{TUNING_SEEDS + 3}"
    assert not set(trial_recipe(recipe, recipe.agent("dqn")).seeds) & set(recipe.seeds)


def test_tuning_runs_are_evaluated_from_other_start_states(tmp_path, monkeypatch):
    from qrl.study import run as module

    seen = []

    class Watched(module.Evaluator):
        def __init__(self, *arguments):
            seen.append(arguments[-1])
            super().__init__(*arguments)

    monkeypatch.setattr(module, "Evaluator", Watched)
    recipe = make_recipe({**SMALL, "budget": {"interactions": 1, "evaluations": 0, "evaluation_episodes": 1}})
    for seed in (0, 1, TUNING_SEEDS, TUNING_SEEDS + 1):
        module.run(recipe.model_copy(update={"tuning": None}), "random", seed, tmp_path / str(seed))
    assert seen[0] == seen[1] != seen[2] == seen[3]


# ---------------------------------------------------------------------- searches


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A finished search of two agents and its folder's root."""
    out = tmp_path_factory.mktemp("searched")
    return search_all(make_recipe(SMALL), out), out


def test_every_agent_has_the_same_trials_seeds_and_steps(searched):
    record, _ = searched
    assert (record["trials"], record["seeds"]) == (2, SMALL["tuning"]["seeds"])
    assert record["interactions"] == 90
    for agent in record["agents"].values():
        assert [trial["trial"] for trial in agent["trials"]] == [0, 1]
        assert {trial["state"] for trial in agent["trials"]} == {"complete"}
        assert agent["best"] in (0, 1)
    spent = [trial["interactions"] for trial in record["agents"]["dqn"]["trials"]]
    assert spent == [180, 180]


def test_the_first_trial_is_the_recipe_as_written(searched):
    record, _ = searched
    first = record["agents"]["dqn"]["trials"][0]["hyperparameters"]
    assert first["learning_rate"] == first["learning_rates.head"] == 1e-3
    assert (first["target_update_interval"], first["exploration_fraction"]) == (100, 0.3)


def test_a_value_is_the_mean_of_all_evaluations(searched):
    record, out = searched
    for agent in ("dqn", "reinforce"):
        for trial in record["agents"][agent]["trials"]:
            folder = out / "small" / "tuning" / agent / f"trial={trial['trial']}"
            files = sorted(folder.glob("*/evaluations.jsonl"))
            assert [int(file.parent.name) for file in files] == [TUNING_SEEDS, TUNING_SEEDS + 1]
            means = [
                json.loads(line)["return_mean"] for file in files for line in file.read_text().splitlines()
            ]
            assert trial["value"] == pytest.approx(np.mean(means))
            assert not list(folder.glob("*/checkpoints"))


def test_a_trial_ran_what_its_record_says(searched):
    record, out = searched
    trial = record["agents"]["dqn"]["trials"][1]
    folder = out / "small" / "tuning" / "dqn" / "trial=1" / str(TUNING_SEEDS)
    agent = load_recipe(folder / "recipe.toml").agent("dqn")
    for path, value in trial["hyperparameters"].items():
        assert own_value(agent, path) == value
    phases = [json.loads(line).get("phase") for line in (folder / "ledger.jsonl").read_text().splitlines()]
    assert "tune" in phases


def test_trials_are_no_runs_of_the_study(searched):
    from qrl.study.results import find_runs

    assert find_runs(searched[1]) == []


def test_neither_workers_nor_interruptions_change_the_outcome(searched, tmp_path):
    record, _ = searched
    recipe = tuning_of(make_recipe(SMALL))
    looks = 0

    class Enough(Exception):
        pass

    def leave(live):
        nonlocal looks
        looks += 1
        if looks == 8:
            raise Enough

    with searching(recipe, tunable(recipe, ["dqn", "reinforce"]), tmp_path) as search, pytest.raises(Enough):
        tune(search, 2, leave)
    journal = tmp_path / "small" / "tuning" / "journal.log"
    with journal.open("a") as file:  # what a kill amid a write leaves behind
        file.write('{"op_code": 4, "wor')
    journal.with_name("journal.log.lock").symlink_to("gone")
    assert search_all(make_recipe(SMALL), tmp_path, workers=2) == record


def test_more_trials_continue_a_search(searched):
    record, out = searched
    more = search_all(make_recipe(small(trials=3)), out, names=("dqn",))
    assert more["agents"]["dqn"]["trials"][:2] == record["agents"]["dqn"]["trials"]
    assert len(more["agents"]["dqn"]["trials"]) == 3


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda r: r["tuning"].update(seeds=f"{TUNING_SEEDS}:{TUNING_SEEDS + 1}"), "tuning: "),
        (lambda r: r["tuning"].update(interactions=80), "tuning: "),
        (lambda r: r["environment"].update(observation="arctan"), "environment.observation: "),
    ],
)
def test_trials_of_another_search_are_not_mixed_in(searched, change, field):
    data = json.loads(json.dumps(small(trials=3)))
    change(data)
    recipe = tuning_of(make_recipe(data))
    with pytest.raises(InputError, match=f"^{field}"), searching(recipe, [recipe.agent("dqn")], searched[1]):
        pass


def test_the_tuned_recipe_extends_the_one_it_came_from(searched, tmp_path):
    _, out = searched
    source = tmp_path / "recipe.toml"
    source.write_text(make_recipe(SMALL).to_toml())
    recipe = tuning_of(load_recipe(source))
    with searching(recipe, tunable(recipe, ["dqn", "reinforce"]), tmp_path / "runs"):
        pass  # begun, nothing finished
    with (
        searching(recipe, tunable(recipe, ["dqn"]), tmp_path / "runs") as search,
        pytest.raises(StudyError, match="no trial of dqn finished"),
    ):
        write_tuned(search, source)
    with searching(tuning_of(make_recipe(small(trials=3))), [recipe.agent("dqn")], out) as search:
        path = write_tuned(search, source)
        tuned = search.tuned()
    assert load_recipe(path) == tuned
    text = path.read_text()
    assert text.startswith("# the best of 3 trials an agent")
    assert "extends = " in text
    assert "[environment]" not in text
    best = json.loads(path.with_name("tuning.json").read_text())["agents"]["dqn"]
    for key, value in best["trials"][best["best"]]["hyperparameters"].items():
        assert own_value(tuned.agent("dqn"), key) == value
    assert tuned.study.name == "small-tuned"
    assert tuned.agent("reinforce") == recipe.agent("reinforce")


def test_what_extends_another_recipe_is_written_whole(tmp_path):
    (tmp_path / "base.toml").write_text(make_recipe(SMALL).to_toml())
    own = tmp_path / "own.toml"
    own.write_text('extends = "base.toml"\n[study]\nname = "own"\n')
    recipe = load_recipe(own, ["budget.interactions=50"])
    assert "extends" not in extension(recipe, own, tmp_path)
    changed = load_recipe(tmp_path / "base.toml", ["budget.interactions=50", "study.seeds=5:6"])
    text = extension(changed, tmp_path / "base.toml", tmp_path)
    assert text.splitlines()[0] == 'extends = "base.toml"'
    (tmp_path / "again.toml").write_text(text)
    assert load_recipe(tmp_path / "again.toml") == changed
    assert "[[agents]]" not in text


# ---------------------------------------------------------------------- stopping early and failing


class Trial:
    """One that records what is reported and told."""

    def __init__(self):
        self.reports, self.told, self.user_attrs = {}, None, {}
        self.behind = False
        self.study = self

    def report(self, value, step):
        assert step not in self.reports
        self.reports[step] = value

    def should_prune(self):
        return self.behind

    def set_user_attr(self, key, value):
        self.user_attrs[key] = value

    def tell(self, trial, value, state):
        self.told = (value, state.name)


class Pipe:
    """What a trial's process would have sent, and what it is answered."""

    def __init__(self):
        self.answers = []

    def send(self, answer):
        self.answers.append(answer)


@pytest.fixture
def hears(tmp_path):
    """A live trial of which the test speaks, and its search's ear."""
    from qrl.study.tuning import Live

    recipe = tuning_of(make_recipe(SMALL))
    with searching(recipe, tunable(recipe, ["dqn"]), tmp_path) as search:
        live = Live(recipe.agent("dqn"), Trial(), tmp_path, set(), pipe=Pipe(), started=time.monotonic())
        yield live, lambda *look, **more: search._hear(live, Look(*look, **more))


def test_looks_are_reported_once_as_the_mean_so_far(hears):
    live, hear = hears
    hear(0, ((30, 1.0),))
    hear(0, ((30, 1.0), (60, 2.0)))
    hear(0, ((30, 1.0), (60, 2.0), (95, 3.0)))
    hear(0, ((30, 1.0), (60, 2.0), (95, 3.0)), status="finished")
    hear(1, ((31, 6.0),))
    assert live.trial.reports == {1: 1.0, 2: 1.5, 3: 2.0, 4: 3.0}
    assert live.pipe.answers == [True] * 5
    hear(1, ((31, 6.0), (60, 6.0), (90, 6.0)), status="finished")
    assert live.trial.told == (pytest.approx(4.0), "COMPLETE")
    assert live.pipe.answers[-1] is False
    assert live.trial.user_attrs["interactions"] == 185


def test_a_trial_that_is_behind_is_stopped(hears):
    live, hear = hears
    live.trial.behind = True
    hear(0, ((30, 1.0),))
    assert live.trial.told == (None, "PRUNED")
    assert live.trial.user_attrs["status"] == "stopped early"
    assert live.pipe.answers == [False]


@pytest.mark.parametrize(
    ("look", "status"), [((0, ((30, None),)), "diverged"), ((0, (), "failed", "ValueError: no"), "failed")]
)
def test_a_trial_that_breaks_down_is_kept_and_never_chosen(hears, look, status):
    live, hear = hears
    hear(*look)
    assert live.trial.told == (None, "PRUNED")
    assert live.trial.user_attrs["status"] == status
    assert live.trial.user_attrs["reason"]


def test_equal_pruners_stop_what_is_worse(tmp_path):
    """Ten trials of known curves: the median pruner stops those below the median half way, for any agent alike."""
    from optuna.trial import TrialState

    recipe = tuning_of(make_recipe(small(pruner="median", trials=10)))
    with searching(recipe, tunable(recipe, ["dqn"]), tmp_path) as search:
        study = search._studies["dqn"]
        for k in range(10):
            trial = search._next_trial("dqn")
            assert trial.number == k
            level = k if k < 6 else -1.0
            stopped = False
            for step in range(1, 7):
                trial.report(level, step)
                if trial.should_prune():
                    study.tell(trial, state=TrialState.PRUNED)
                    stopped = True
                    break
            if not stopped:
                study.tell(trial, level)
            assert stopped == (k >= 6)
        assert search.best("dqn").number == 5


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(tmp_path):
    """The command itself, killed hard amid the trials, and again: the same record as in one go."""
    path = tmp_path / "recipe.toml"
    path.write_text(make_recipe(small(trials=6, pruner="median")).to_toml())
    command = [sys.executable, "-m", "qrl.cli", "tune", str(path), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, "--out", str(tmp_path / "once")], check=True, env=environment, timeout=600)
    out = tmp_path / "killed"
    for _ in range(3):
        process = subprocess.Popen([*command, "--out", str(out)], env=environment, stderr=subprocess.DEVNULL)
        time.sleep(12)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(3)
    subprocess.run([*command, "--out", str(out)], check=True, env=environment, timeout=600)

    def record(root):
        data = json.loads((root / "small" / "tuning" / "tuning.json").read_text())
        return [{**t, "seconds": 0} for agent in data["agents"].values() for t in agent["trials"]]

    assert record(out) == record(tmp_path / "once")


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    recipe = tuning_of(make_recipe(SMALL))
    with (
        pytest.raises(StudyError, match=r"pip install 'hybrid-qrl\[tune\]'"),
        searching(recipe, tunable(recipe, ["dqn"]), tmp_path),
    ):
        pass


def test_the_command_tunes_and_says_what_comes_next(searched, tmp_path, capsys):
    from qrl.cli import main

    path = tmp_path / "recipe.toml"
    path.write_text(make_recipe(SMALL).to_toml())
    arguments = ["tune", str(path), "--out", str(searched[1]), "--agents", "dqn,random", "--trials", "3"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "3/3" in said
    assert "next: qrl run " in said
    assert main([*arguments[:-2], "--workers", "0"]) == 2
    assert "--workers: 0 is below 1" in capsys.readouterr().err
    assert main(["tune", str(path), "--agents", "random"]) == 2
    assert "random learn nothing that could be tuned" in capsys.readouterr().err
