"""What a study is judged by: returns, shares of episodes solved, measures of the environment's own."""

from contextlib import nullcontext

import numpy as np
import pytest

from qrl.errors import InputError
from qrl.study.check import check_recipe
from qrl.study.comparison import compare
from qrl.study.evaluation import Evaluator
from qrl.study.recipe import make_recipe
from qrl.study.results import read_run
from qrl.study.run import run
from qrl.study.score import label, score
from qrl.study.table import look_grid

RECORD = {
    "return_mean": -4.0,
    "successes": [True, True, False, True],
    "lengths": [1, 4, 2, 3],
    "measures": {"optimality": 0.75},
}


@pytest.fixture
def steering():
    """Random and learning agents judged by their optimality."""
    return {
        "study": {"name": "steering", "seeds": "0:3"},
        "environment": {"id": "qrl/TargetSteering-v0"},
        "budget": {"interactions": 60, "evaluations": [0, 30, 60], "evaluation_episodes": 5},
        "threshold": {"measure": "optimality", "value": 0.45, "confirmation_episodes": 5},
        "agents": [
            {
                "name": "mlp",
                "algorithm": "dqn",
                "learning_starts": 5,
                "network": {"kind": "mlp", "hidden": [4]},
            },
            {"name": "random", "algorithm": "random"},
        ],
    }


def test_scores_of_a_record():
    assert score(RECORD) == -4.0
    assert score(RECORD, "optimality") == 0.75
    assert score(RECORD, "solved_within_1") == 0.25
    assert score(RECORD, "solved_within_3") == 0.5
    assert score(RECORD, "solved_within_50") == 0.75
    assert score({"return_mean": None}) is None


@pytest.mark.parametrize("measure", ["beauty", "solved_within_0"])
def test_a_measure_that_was_not_recorded_is_named(measure):
    with pytest.raises(ValueError, match="measure"):
        score(RECORD, measure)


def test_measures_in_words():
    assert [label(m) for m in ("return", "optimality", "solved_within_3")] == [
        "return",
        "optimality",
        "share solved within 3 steps",
    ]


def test_optimality_is_recorded_scored_and_confirmed(tmp_path, steering):
    for name in ("mlp", "random"):
        for seed in range(3):
            run(steering, name, seed, tmp_path / "steering" / name / f"seed={seed}")
    records = read_run(tmp_path / "steering" / "random" / "seed=0").evaluations
    assert all(0.0 <= e["measures"]["optimality"] <= 1.0 for e in records)
    assert all(len(e["successes"]) == 5 for e in records)
    crossing = read_run(tmp_path / "steering" / "random" / "seed=0").crossing
    assert crossing is None or crossing["measures"]["optimality"] >= 0.45
    result = compare(tmp_path / "steering")
    assert (result.measure, result.threshold) == ("optimality", 0.45)
    for agent in result.agents:
        assert agent.curves.shape == (3, 3)
        assert ((agent.curves >= 0.0) & (agent.curves <= 1.0)).all()
    grid = look_grid(result)
    assert [cell.main for cell in grid.columns] == ["0", "30", "60"]


class Constant:
    """Kicks one way, or towards the axis."""

    def __init__(self, action=None):
        self.action = action

    def undisturbed(self):
        return nullcontext()

    def predict(self, observations, state=None, deterministic=True):
        towards = (observations[:, 0] < 0.0).astype(np.int64)
        return (towards if self.action is None else np.full_like(towards, self.action)), None


def test_success_flags_and_measures_are_those_of_the_policy():
    evaluator = Evaluator("qrl/TargetSteering-v0", {}, "scaled", 40, seed=3)
    best = evaluator(Constant())
    assert all(best.successes)
    assert max(best.lengths) <= 5
    assert best.measures == {"optimality": 1.0}
    # a kick one way solves the starts on one side and loses the beam on the other
    left, right = evaluator(Constant(0)), evaluator(Constant(1))
    assert 0 < sum(left.successes) < 40
    assert [a != b for a, b in zip(left.successes, right.successes, strict=True)] == [True] * 40
    assert left.measures == right.measures == {"optimality": 0.5}
    evaluator.close()


@pytest.mark.parametrize(
    ("threshold", "says"),
    [
        ({"measure": "optimality"}, "half a threshold"),
        ({"value": 1.0}, "half a threshold"),
        ({}, "no level"),
        ({"return": 1.0, "measure": "optimality", "value": 0.9}, "two levels"),
    ],
)
def test_a_threshold_has_one_level(steering, threshold, says):
    with pytest.raises(InputError, match=says):
        make_recipe({**steering, "threshold": threshold})


@pytest.mark.parametrize("measure", ["optimalty", "solved_within_x"])
def test_an_unknown_measure_is_refused_before_anything_runs(steering, measure):
    steering["threshold"]["measure"] = measure
    recipe = make_recipe(steering)
    with pytest.raises(InputError, match=r"threshold\.measure.*is not measured here"):
        check_recipe(recipe, [])


def test_an_environment_without_success_has_no_share_solved():
    recipe = make_recipe(
        {
            "study": {"name": "s"},
            "environment": {"id": "CartPole-v1"},
            "threshold": {"measure": "solved_within_3", "value": 0.9},
            "agents": [{"algorithm": "random"}],
        }
    )
    with pytest.raises(InputError, match="is not measured here"):
        check_recipe(recipe, [])
