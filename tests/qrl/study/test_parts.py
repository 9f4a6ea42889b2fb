"""Studies in parts: what a report needs survives, and what is missing is trained beside it."""

import json
import re
import shutil

import numpy as np
import pytest

from qrl.cli import main
from qrl.errors import InputError
from qrl.study.comparison import compare
from qrl.study.costs import RunCosts, costs_of
from qrl.study.executors import plan, write_study
from qrl.study.parts import pack, unpack
from qrl.study.recipe import load_recipe, make_recipe
from qrl.study.report import write_report
from qrl.study.results import read_run
from qrl.study.run import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two agents, three seeds, of a study of four."""
    out = tmp_path_factory.mktemp("runs")
    recipe = make_recipe(
        {
            "study": {"name": "small", "seeds": "0:4"},
            "environment": {"id": "CartPole-v1"},
            "budget": {"interactions": 200, "evaluations": 4, "evaluation_episodes": 5},
            "threshold": {"return": 9.0},
            "agents": [
                {
                    "name": "hybrid",
                    "algorithm": "dqn",
                    "learning_starts": 20,
                    "network": {
                        "kind": "quantum",
                        "n_qubits": 4,
                        "n_layers": 1,
                        "observables": ["ZIII", "IZII"],
                    },
                },
                {
                    "name": "mlp",
                    "algorithm": "dqn",
                    "learning_starts": 20,
                    "network": {"kind": "mlp", "hidden": [4]},
                },
            ],
        }
    )
    folder = write_study(recipe, out)
    for task in plan(recipe, ["hybrid", "mlp"], out):
        if task.seed < 3:
            run(recipe, task.agent, task.seed, task.folder)
    return folder


def figures(result):
    """Everything of a comparison that a report says of agents and pairs."""
    agents = [
        (
            a.name,
            a.kind,
            a.n_parameters,
            a.final_return,
            a.mean_return,
            dict(a.to_threshold),
            dict(a.total),
            dict(a.phases),
            a.joules_kind,
            a.percentiles,
        )
        for a in result.agents
    ]
    return agents, result.headline, result.joules_kind, result.summary


def test_a_report_from_parts_is_the_report_of_the_runs(trained, tmp_path):
    first, second = tmp_path / "parts/a.jsonl", tmp_path / "parts/b.jsonl"
    assert pack(trained, first, seeds=range(2)) == 4
    assert pack(trained, second, seeds=range(2, 4), agents=["hybrid", "mlp"]) == 2
    folder, added = unpack([first, second], tmp_path / "out")
    assert added == 6
    before, after = compare(trained), compare(folder)
    assert figures(before) == figures(after)
    for agent, same in zip(before.agents, after.agents, strict=True):
        np.testing.assert_array_equal(agent.curves, same.curves)
    write_report([folder], {folder: after})
    page = (folder / "report.html").read_text()
    assert "cpu-time-model" in page
    assert not list(folder.rglob("ledger.jsonl"))


def test_what_is_missing_is_trained_beside_what_was_unpacked(trained, tmp_path, capsys):
    part = tmp_path / "part.jsonl"
    pack(trained, part)
    unpack([part], tmp_path)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text((trained / "recipe.toml").read_text())
    assert main(["run", str(recipe), "--out", str(tmp_path), "--workers", "1"]) == 0
    result = compare(tmp_path / "small")
    assert {agent.n for agent in result.agents} == {4}
    assert not (tmp_path / "small/mlp/seed=0/ledger.jsonl").exists()
    assert (tmp_path / "small/mlp/seed=3/ledger.jsonl").exists()
    # and is the run that the others' study would have had
    whole = load_recipe(recipe)
    alone = run(whole, "mlp", 3, tmp_path / "alone/seed=3")
    told = [json.loads((p / "DONE.json").read_text()) for p in (alone, tmp_path / "small/mlp/seed=3")]
    assert told[0]["parameters_sha256"] == told[1]["parameters_sha256"]


def test_unpacking_again_changes_nothing_and_training_that_goes_on_is_not_touched(trained, tmp_path):
    part = tmp_path / "part.jsonl"
    pack(trained, part)
    folder, added = unpack([part], tmp_path)
    assert (added, unpack([part, part], tmp_path)) == (6, (folder, 0))
    (folder / "mlp/seed=0/DONE.json").unlink()
    with pytest.raises(InputError, match="has begun and not ended"):
        unpack([part], tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [],
        lambda lines: ["{}", *lines[1:]],
        lambda lines: [lines[0].replace("qrl-part/1", "qrl-part/9"), *lines[1:]],
        lambda lines: [lines[0], lines[1][:-20]],
        lambda lines: [lines[0], lines[1].replace('"agent":"hybrid"', '"agent":"../../x"')],
        lambda lines: [lines[0], lines[1].replace('"costs"', '"cost"')],
    ],
)
def test_a_damaged_part_is_refused_and_nothing_is_written(trained, tmp_path, change):
    part = tmp_path / "part.jsonl"
    pack(trained, part)
    part.write_text("\n".join(change(part.read_text().splitlines())))
    with pytest.raises(InputError, match="is no part of a study"):
        unpack([part], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_of_different_studies_do_not_mix(trained, tmp_path):
    part, other = tmp_path / "part.jsonl", tmp_path / "other.jsonl"
    pack(trained, part)
    other.write_text(part.read_text().replace('"name":"small"', '"name":"large"'))
    with pytest.raises(InputError, match="different studies"):
        unpack([part, other], tmp_path / "out")
    other.write_text(
        part.read_text().replace('"interactions":200,"evaluations":4', '"interactions":300,"evaluations":4')
    )
    unpack([part], tmp_path / "out")
    with pytest.raises(InputError, match=r"budget\.interactions"):
        unpack([other], tmp_path / "out")


def test_a_share_of_episodes_solved_is_kept_without_the_episodes(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "small")
    text = '[threshold]\nmeasure = "solved_within_5"\nvalue = 0.5\n'
    for path in (tmp_path / "small").rglob("recipe.toml"):
        path.write_text(re.sub(r"\[threshold\]\n(?:[^\[]+\n)+", text + "\n", path.read_text()))
    for path in (tmp_path / "small").rglob("evaluations.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        told = [
            {**e, "lengths": [3, 9, 4, 5, 6], "successes": [True, True, False, True, True]} for e in lines
        ]
        path.write_text("".join(json.dumps(e) + "\n" for e in told))
    for path in (tmp_path / "small").rglob("DONE.json"):
        done = json.loads(path.read_text())
        done["final_evaluation"] |= {"lengths": [3, 9, 4, 5, 6], "successes": [True, True, False, True, True]}
        path.write_text(json.dumps(done))
    pack(tmp_path / "small", tmp_path / "part.jsonl")
    assert "successes" not in (tmp_path / "part.jsonl").read_text()
    result = compare(unpack([tmp_path / "part.jsonl"], tmp_path / "out")[0])
    assert result.measure == "solved_within_5"
    assert {o.final_return for agent in result.agents for o in agent.outcomes} == {0.4}


def test_nothing_to_pack_is_said(trained, tmp_path):
    with pytest.raises(InputError, match="no run of these that ended"):
        pack(trained, tmp_path / "part.jsonl", seeds=range(3, 4))
    assert main(["pack", str(trained), str(tmp_path / "p.jsonl"), "--seeds", "3:4"]) == 2
    assert not list(tmp_path.iterdir())


def test_costs_are_those_of_the_ledger_and_computed_anew_where_it_changed(trained, tmp_path):
    from qrl.ledger import read_ledger

    folder = trained / "hybrid/seed=0"
    kept = read_run(folder)
    looks = [e["interactions"] for e in kept.evaluations]
    own = costs_of(read_ledger(folder / "ledger.jsonl").records, looks, looks[-1])
    assert own.to_dict() == kept.costs.to_dict()
    assert RunCosts.from_dict(json.loads((folder / "costs.json").read_text())).to_dict() == own.to_dict()
    place = tmp_path / "hybrid/seed=0"
    place.mkdir(parents=True)
    for name in ("recipe.toml", "manifest.json", "evaluations.jsonl", "DONE.json", "costs.json"):
        (place / name).write_bytes((folder / name).read_bytes())
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    more = json.loads(next(line for line in lines if b'"learn"' in line))
    more["wall_s"] = 7.0
    (place / "ledger.jsonl").write_bytes(b"".join([*lines, json.dumps(more).encode() + b"\n"]))
    grown = read_run(place).costs
    assert grown.total["seconds"] == pytest.approx(own.total["seconds"] + 7.0)
    for damage in ("", "{}", '{"at": {}}'):
        (place / "costs.json").write_text(damage)
        assert read_run(place).costs.to_dict() == grown.to_dict()
