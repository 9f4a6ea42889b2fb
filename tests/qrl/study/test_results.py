"""Reading run directories: torn lines, superseded records, digests, what a path names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from qrl.ledger import read_ledger
from qrl.study.results import find_runs, find_studies, metrics_digest, read_lines, read_run, surviving


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, simulated: SimpleNamespace) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    simulated.write_study(folder, name="one", seeds=range(8, 11))
    simulated.write_study(folder, name="two", seeds=range(2))
    return folder


def test_a_path_may_be_a_run_an_agent_a_study_or_a_root(root: Path) -> None:
    assert [run.name for run in find_runs(root / "one" / "twin")] == ["seed=8", "seed=9", "seed=10"]
    assert find_runs(root / "one" / "twin" / "seed=9") == [(root / "one" / "twin" / "seed=9").resolve()]
    assert len(find_runs(root / "one")) == 12
    assert [study.name for study in find_studies(root)] == ["one", "two"]
    assert [study.name for study in find_studies(root / "two" / "mlp")] == ["two"]


def test_a_run_is_read_whole(root: Path) -> None:
    run = read_run(root / "one" / "hybrid" / "seed=8")
    assert (run.study, run.agent, run.seed, run.status) == ("one", "hybrid", 8, "finished")
    assert len(run.evaluations) == 10
    assert run.crossing is not None
    assert run.crossing["confirmation"]["passed"]
    assert run.costs.phases.keys() >= {"environment", "act", "learn", "quantum", "evaluate"}


@pytest.mark.parametrize(
    "torn", [b'{"interactions": 30, "ret', b'{"interactions": 30, "x": "\xff\xc3', b"{", b'["no record"]']
)
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "evaluations.jsonl"
    path.write_bytes(b'{"interactions": 10}\n{"interactions": 20}\n' + torn)
    assert [record["interactions"] for record in read_lines(path)] == [10, 20]


@pytest.mark.parametrize("between", [b"\n", b""])
def test_a_torn_line_before_a_resume_is_dropped_and_the_resume_is_kept(
    tmp_path: Path, between: bytes
) -> None:
    path = tmp_path / "episodes.jsonl"
    torn = b'{"interactions": 30, "ret' + between + b'{"resume_from": 10}\n'
    path.write_bytes(b'{"interactions": 10}\n{"interactions": 20}\n' + torn + b'{"interactions": 21}\n')
    assert [record["interactions"] for record in surviving(read_lines(path))] == [10, 21]


def test_a_damaged_line_elsewhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(b'{"interactions": 10}\n{"interac\n{"interactions": 30}\n')
    with pytest.raises(ValueError, match=r"^episodes.jsonl: line 2 of .*; restore or remove that line$"):
        read_lines(path)


def test_a_resume_supersedes_later_records_only() -> None:
    records = [{"interactions": n} for n in (10, 20, 30)]
    records += [{"resume_from": 20}, {"interactions": 25}, {"resume_from": 25}, {"interactions": 26}]
    assert [record["interactions"] for record in surviving(records)] == [10, 20, 25, 26]
    assert surviving([*records, {"resume_from": 0}]) == []


def test_the_ledger_keeps_what_a_resume_superseded(tmp_path: Path, simulated: SimpleNamespace) -> None:
    study = simulated.write_study(tmp_path, seeds=range(1))
    directory = study / "twin" / "seed=0"
    before = read_run(directory).costs
    path = directory / "ledger.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lost = next(line for line in lines if line.get("phase") == "learn" and line["window"] == [500, 1000])
    lost = {**lost, "window": [500, 700], "wall_s": 7.0}
    simulated.write_lines(path, [*lines, lost])
    after = read_run(directory).costs
    assert after.at["seconds"][0] == pytest.approx(before.at["seconds"][0])
    assert after.at["seconds"][1:] == pytest.approx(before.at["seconds"][1:] + 7.0)
    assert after.total["seconds"] == pytest.approx(before.total["seconds"] + 7.0)


def test_costs_of_training_leave_out_evaluation(root: Path) -> None:
    run = read_run(root / "one" / "hybrid" / "seed=8")
    costs = run.costs
    training = sum(
        r.wall_s
        for r in read_ledger(run.directory / "ledger.jsonl").records
        if r.phase in ("environment", "act", "learn", "quantum")
    )
    assert costs.total["seconds"] == pytest.approx(training, rel=1e-12)
    assert costs.total["joules"] == pytest.approx(5.8 * training, rel=1e-12)
    assert costs.total["executions"] == 5_000 * 65
    assert costs.until(1_500)["executions"] == 1_500 * 65
    assert costs.phases["evaluate"] > 0


def test_a_ledger_without_energy_has_no_joules(tmp_path: Path, simulated: SimpleNamespace) -> None:
    study = simulated.write_study(tmp_path, seeds=range(1))
    path = study / "twin" / "seed=0" / "ledger.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:]:
        line["energy"] = []
        line["unavailable"] = [{"domain": d, "reason": "no meter"} for d in ("cpu_pkg", "dram", "gpu")]
    simulated.write_lines(path, lines)
    assert "joules" not in read_run(path.parent).costs.total


def test_digest_is_the_documented_canonical_json(tmp_path: Path, simulated: SimpleNamespace) -> None:
    simulated.write_lines(
        tmp_path / "episodes.jsonl", [{"interactions": 3, "return": 0.1, "episode": 1, "wall_s": 9.0}]
    )
    simulated.write_lines(tmp_path / "evaluations.jsonl", [])
    text = '{"episodes":[{"episode":1,"interactions":3,"return":0.1}],"evaluations":[]}'
    assert metrics_digest(tmp_path) == hashlib.sha256(text.encode()).hexdigest()


def test_digest_is_that_of_the_uninterrupted_run(tmp_path: Path, simulated: SimpleNamespace) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    records = [{"interactions": n, "return": n / 7, "cpu_s": n * 0.1} for n in range(0, 50, 10)]
    for folder in (whole, resumed):
        folder.mkdir()
        simulated.write_lines(folder / "evaluations.jsonl", records)
        simulated.write_lines(folder / "episodes.jsonl", records)
    again = [*records[:4], {"resume_from": 20}, *({**r, "cpu_s": 0.7} for r in records[3:])]
    simulated.write_lines(resumed / "episodes.jsonl", again)
    assert metrics_digest(whole) == metrics_digest(resumed)
    simulated.write_lines(resumed / "episodes.jsonl", [{**records[0], "return": 1e-9}, *records[1:]])
    assert metrics_digest(whole) != metrics_digest(resumed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder: find_runs(folder / "absent"), r"^directory: .*absent does not exist; give"),
        (find_studies, r"^directory: .* holds no run; train one first"),
        (read_run, r"^directory: .* is no run; give"),
    ],
)
def test_a_wrong_path_is_one_line(tmp_path: Path, call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message) as error:
        call(tmp_path)
    assert "\n" not in str(error.value)
