"""Evaluation of trained agents on other backends, and its record."""

import numpy as np
import pytest
import torch

from circuits.backends import get_backend
from qrl.cli import main
from qrl.hardware.acting import Setting, load_trained, trained_runs
from qrl.hardware.evaluation import evaluate, record, records
from qrl.study.results import read_run


def of(study, agent):
    return load_trained(read_run(study / agent / "seed=0"))


def test_noiseless_it_is_the_evaluation_of_the_training(study):
    for agent in ("born", "softmax", "frugal"):
        trained = of(study, agent)
        outcome = evaluate(trained, Setting("native", episodes=6), get_backend("auto"))
        assert list(outcome.evaluation.returns) == trained.run.evaluations[-1]["returns"]


def test_ended_episodes_are_asked_for_nothing(study):
    trained = of(study, "softmax")
    outcome = evaluate(trained, Setting("native", episodes=6), get_backend("auto"))
    assert outcome.usage.executions == sum(outcome.evaluation.lengths)
    assert outcome.requests == max(outcome.evaluation.lengths)


def test_episodes_are_cut(study):
    outcome = evaluate(of(study, "softmax"), Setting("native", episodes=3, steps=4), get_backend("auto"))
    assert outcome.evaluation.lengths == (4, 4, 4)
    assert outcome.requests == 4


@pytest.mark.parametrize("backend", ["auto", "aer", "aer:fake_manila"])
def test_one_shot_acting_takes_a_shot_an_action(study, backend):
    trained = of(study, "born")
    setting = Setting(backend, acting="one-shot", episodes=4, steps=40)
    outcome = evaluate(trained, setting, get_backend(backend))
    assert outcome.usage.shots == outcome.usage.executions == sum(outcome.evaluation.lengths)
    torch.rand(7), np.random.rand(3)  # whatever was drawn before, the questions are the same
    again = evaluate(trained, setting, get_backend(backend))
    assert again.evaluation.returns == outcome.evaluation.returns


def test_one_shot_actions_have_the_policy_s_probabilities(study):
    from qrl.hardware.acting import Actor

    trained = of(study, "born")
    observations = np.tile(np.array([[0.1, -0.2, 0.1, 0.3]], np.float32), (4000, 1))
    trained.move(get_backend("auto"), None)
    layer = trained.acts_by
    with torch.no_grad():
        exact = float(layer(torch.from_numpy(observations[:1]))[0, 1])
    trained.move(get_backend("auto"), 1)
    actor = Actor(trained, Setting("auto", acting="one-shot"))
    with actor.undisturbed():
        actions, _ = actor.predict(observations)
    assert actions.mean() == pytest.approx(exact, abs=5 * np.sqrt(0.25 / 4000))


def test_adaptive_shots_go_to_the_backend(study):
    trained = of(study, "frugal")
    setting = Setting("aer:fake_manila", acting="adaptive", episodes=3, steps=3)
    outcome = evaluate(trained, setting, get_backend("aer:fake_manila"))
    taken = outcome.usage.shots / sum(outcome.evaluation.lengths)
    assert 20 <= taken <= 60
    assert outcome.device["device"] == "fake_manila"


def test_the_record_says_what_ran(study):
    assert (
        main(
            [
                "evaluate",
                str(study),
                "--backend",
                "aer:fake_manila",
                "--shots",
                "50",
                "--episodes",
                "3",
                "--steps",
                "3",
            ]
        )
        == 0
    )
    for agent in ("born", "softmax", "frugal"):
        (line,) = records(read_run(study / agent / "seed=0"))
        assert line["backend"] == "aer:fake_manila"
        assert line["shots"] == 50
        assert line["lengths"] == [3, 3, 3]
        assert line["device"]["depth"] > 0
        assert line["device"]["calibration"].startswith("20")
        assert len(line["device"]["layout"]) == 2
        assert line["energy"]["kind"] in ("modelled", "measured", "mixed")
        assert line["jobs"] == 0
        assert line["qpu_seconds"] is None
    assert not (study / "mlp" / "seed=0" / "hardware.jsonl").exists()
    main(["evaluate", str(study / "born"), "--backend", "native", "--episodes", "3", "--steps", "2"])
    assert len(records(read_run(study / "born" / "seed=0"))) == 2


def test_training_goes_on_as_if_nothing_had_been_evaluated(study):
    trained = of(study, "softmax")
    before = np.random.get_state()[1].tolist()
    evaluate(trained, Setting("native", 10, episodes=3, steps=3), get_backend("native"))
    assert np.random.get_state()[1].tolist() == before


BAD = {
    "unknown backend": (["--backend", "aeer"], 2, "aer"),
    "unknown device": (["--backend", "aer:fake_torrino"], 2, "fake_torino"),
    "no shots": (["--backend", "native", "--shots", "0"], 2, "shots"),
    "no episodes": (["--backend", "native", "--episodes", "0"], 2, "episodes"),
    "one shot of a softmax": (["--backend", "native", "--acting", "one-shot"], 2, "Born"),
    "one shot without bits": (["--backend", "primitive", "--acting", "one-shot"], 2, "primitive"),
    "two one-shots": (["--backend", "native", "--acting", "one-shot", "--shots", "5"], 2, "one-shot"),
    "no rule": (["--backend", "native", "--acting", "adaptive"], 2, "adaptive_shots"),
    "money": (["--backend", "paid"], 5, "--budget-seconds"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_one_line(case, study, paid, capsys):
    arguments, code, hint = BAD[case]
    agent = "born" if case in ("one shot without bits", "two one-shots") else "softmax"
    assert main(["evaluate", str(study / agent), *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert hint in err
    assert not (study / agent / "seed=0" / "hardware.jsonl").exists()
    assert paid.PaidBackend.connections == 0


def test_where_there_is_nothing_to_evaluate(study, capsys):
    assert main(["evaluate", str(study / "mlp"), "--backend", "native"]) == 2
    assert "no circuit" in capsys.readouterr().err
    (study / "born" / "seed=0" / "DONE.json").unlink()
    assert main(["evaluate", str(study / "born"), "--backend", "native"]) == 2
    assert "unfinished" in capsys.readouterr().err


def test_runs_are_found_and_others_are_named(study):
    found, left = trained_runs(study.parent)
    assert [each.run.agent for each in found] == ["born", "frugal", "softmax"]
    assert left == ["small/mlp/seed=0: no circuit"]
    assert (
        record(evaluate(found[0], Setting("auto", episodes=2, steps=1), get_backend("auto")))["run"]
        == "small/born/seed=0"
    )
