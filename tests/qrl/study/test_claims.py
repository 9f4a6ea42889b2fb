"""Claims: held, refuted, not decided, changed; hashed before, recorded by runs, judged after."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qrl.cli import main
from qrl.errors import InputError
from qrl.study.claims import (
    digest,
    hash_claim,
    hash_file,
    judge_claim,
    read_claim,
    recorded_hashes,
    take_claims,
)
from qrl.study.comparison import StudyResult, compare
from qrl.study.outperforms import outperforms, scores_of
from qrl.study.recipe import dump_toml
from qrl.study.report import report_page
from qrl.study.run import run

BASE = {
    "hypothesis": "The hybrid needs fewer interactions than its twin.",
    "agent": "hybrid",
    "opponents": ["twin"],
    "metric": "interactions",
    "seeds": "0:12",
    "threshold": -100.0,
}


def write(folder: Path, name: str = "claim.toml", **changes: Any) -> Path:
    path = folder / name
    given = {**BASE, **changes}
    path.write_text(
        dump_toml({key: value for key, value in given.items() if value is not None}), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, simulated: SimpleNamespace) -> Path:
    """Twelve seeds in which the hybrid needs half of the twin's interactions and ten times its seconds."""
    agents = [
        simulated.Agent("hybrid", dict(simulated.QUANTUM), 1_200.0, 0.1, seconds={"quantum": 6e-3}),
        simulated.Agent("twin", {"kind": "matched_mlp", "match": "hybrid"}, 2_400.0, 0.1),
        simulated.Agent("like", {"kind": "mlp", "hidden": [8]}, 1_200.0, 0.1),
    ]
    return simulated.write_study(
        tmp_path_factory.mktemp("runs"), agents=agents, seeds=range(12), evaluations=20
    )


@pytest.fixture(scope="module")
def result(study: Path) -> StudyResult:
    return compare(study)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "held"),
        ({"factor": 1.5}, "held"),
        ({"factor": 4.0}, "refuted"),  # it needs less, and surely not a quarter
        ({"metric": "seconds"}, "refuted"),
        ({"agent": "twin", "opponents": ["hybrid"]}, "refuted"),
        ({"opponents": ["like"]}, "not decided"),
        ({"opponents": ["twin", "like"]}, "not decided"),  # each of them
        ({"metric": "sample_complexity"}, "held"),
        ({"metric": "sample_complexity", "factor": 1.2}, "held"),
        ({"metric": "sample_complexity", "factor": 6.0}, "refuted"),
        ({"metric": "sample_complexity", "agent": "twin", "opponents": ["hybrid"]}, "refuted"),
        ({"metric": "sample_complexity", "cell": {"epsilon": 0.1, "success_probability": 0.5}}, "held"),
        ({"metric": "sample_complexity", "opponents": ["like"]}, "not decided"),
        ({"metric": "mean_return"}, "held"),
        ({"metric": "mean_return", "difference": 20.0}, "held"),
        ({"metric": "mean_return", "difference": 500.0}, "refuted"),
        ({"seeds": "0:4"}, "not decided"),
        ({"metric": "executions"}, "not decided"),  # the twin runs no circuit
    ],
)
def test_a_claim_is_judged(
    tmp_path: Path, result: StudyResult, changes: dict[str, Any], verdict: str
) -> None:
    judgement = judge_claim(write(tmp_path, **changes), result)
    assert judgement.verdict == verdict, judgement.lines
    assert judgement.seal.startswith("not hashed")


def test_it_is_judged_by_the_one_test_on_its_own_seeds(tmp_path: Path, result: StudyResult) -> None:
    judgement = judge_claim(write(tmp_path, seeds="2:10"), result)
    sides = [scores_of(result.agent(name)).of(range(2, 10)) for name in ("hybrid", "twin")]
    test = outperforms(*sides, has_threshold=True).axis("interactions")
    assert test.comparison.value is not None
    assert f"ratio {test.comparison.value:.3f}"[:10] in judgement.lines[0]
    # the claim has one test: its p-value is the raw one
    assert test.comparison.p_value == pytest.approx(0.0, abs=0.05 / 5)
    assert judgement.verdict == "held"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"opponents": ["twim"]}, "twim has not run; did you mean 'twin'?"),
        ({"seeds": "5:20"}, "hybrid lacks 8 of 15 seeds, the first 12"),
        ({"threshold": -90.0}, "the study's threshold is -100.0, not -90"),
    ],
)
def test_another_study_than_the_claims_decides_nothing(
    tmp_path: Path, result: StudyResult, changes: dict[str, Any], line: str
) -> None:
    judgement = judge_claim(write(tmp_path, **changes), result)
    assert judgement.verdict == "not decided"
    assert line in judgement.lines


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "speed"}, r"^metric: speed is not known"),
        ({"opponents": []}, r"^opponents: "),
        ({"opponents": ["hybrid"]}, r"^opponents: hybrid is the claim's own agent; name others"),
        ({"seeds": "9:2"}, r"^seeds: 9:2 is empty"),
        ({"wish": 1}, r"^wish: wish is not a known key"),
        ({"cell": {"epsilon": 0.1, "success_probability": 0.5}}, r"^cell: interactions has no grid"),
        (
            {"metric": "sample_complexity", "cell": {"epsilon": 0.3, "success_probability": 0.5}},
            r"^cell.epsilon: 0.3 is not in the grid; use one of 0.2, 0.15, 0.1",
        ),
        ({"difference": 2.0}, r"^difference: 2.0 is of a score; give factor for a cost"),
        ({"metric": "final_return", "factor": 2.0}, r"^factor: 2.0 is of a cost"),
        ({"factor": 0.5}, r"^factor: 0.5 cannot be used"),
    ],
)
def test_what_is_no_claim_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_claim(write(tmp_path, **changes))
    with pytest.raises(InputError, match=r"^claim: .* cannot be read"):
        read_claim(tmp_path / "absent.toml")
    (tmp_path / "claim.toml").write_text("hypothesis = ")
    with pytest.raises(InputError, match=r"^claim: .* is not valid TOML"):
        read_claim(tmp_path / "claim.toml")


# hashes ----------------------------------------------------------------------------------------------------


def test_a_hash_is_written_once_and_is_sha256sums(tmp_path: Path) -> None:
    path = write(tmp_path)
    found = hash_claim(path)
    assert found == digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert hash_file(path).read_text() == f"{found}  claim.toml\n"
    assert hash_claim(path) == found
    write(tmp_path, factor=1.1)
    with pytest.raises(
        InputError, match=r"was changed after it was hashed; write a new claim under a new name$"
    ):
        hash_claim(path)
    assert hash_file(path).read_text().startswith(found)


def test_a_claim_changed_after_hashing_is_told(tmp_path: Path, result: StudyResult) -> None:
    path = write(tmp_path)
    found = hash_claim(path)
    assert judge_claim(path, result).verdict == "held"
    assert (
        judge_claim(path, result).seal
        == f"hashed as {found[:16]}; 0 of 24 runs began with that hash on record"
    )
    write(tmp_path, hypothesis="Something weaker.")
    judgement = judge_claim(path, result)
    assert (judgement.verdict, judgement.seal) == (
        "changed after hashing",
        f"hashed as {found[:16]}, and changed since",
    )


def test_hash_and_claim_exchanged_together_are_betrayed_by_the_runs(
    tmp_path: Path, simulated: SimpleNamespace
) -> None:
    study = simulated.write_study(tmp_path, agents=simulated.standard_agents()[:2], seeds=range(5))
    path = write(study, seeds="0:5")
    found = hash_claim(path)
    for manifest in study.rglob("manifest.json"):
        data = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**data, "claims": {"claim.toml": found}}))
    (judgement,) = compare(study).claims
    assert judgement.seal == f"hashed before the runs: {found[:16]} stands in all 10 manifests"
    page = report_page(compare(study))
    assert "<h3>Claims</h3>" in page
    assert "fewer interactions than its twin" in page
    assert judgement.seal in page
    hash_file(path).unlink()
    write(study, seeds="0:5", factor=1.01)
    hash_claim(path)
    (judgement,) = compare(study).claims
    assert judgement.verdict == "changed after hashing"
    assert "runs recorded another hash" in judgement.seal


def test_a_study_takes_the_claims_of_its_recipes_folder(tmp_path: Path) -> None:
    source, study = tmp_path / "source", tmp_path / "study"
    source.mkdir(), study.mkdir()
    path = write(source)
    assert take_claims(source, study) == ["claim.toml"]  # not hashed: left out
    assert recorded_hashes(study) == {}
    found = hash_claim(path)
    assert take_claims(source, study) == []
    assert take_claims(source, study) == []
    assert recorded_hashes(study) == {"claim.toml": found}
    assert digest(study / "claim.toml") == found
    write(source, factor=1.3)
    with pytest.raises(InputError, match="was changed after it was hashed; restore it"):
        take_claims(source, study)
    hash_file(path).unlink()
    hash_claim(path)
    with pytest.raises(InputError, match="is not the one the study began with"):
        take_claims(source, study)


def test_a_run_records_the_claims_of_its_study(tmp_path: Path, tiny: dict[str, Any]) -> None:
    study = tmp_path / "tiny"
    study.mkdir()
    found = hash_claim(write(study))
    tiny["budget"] = {"interactions": 20, "evaluations": 1, "evaluation_episodes": 1}
    folder = run(tiny, "random", 0, study / "random" / "seed=0")
    assert json.loads((folder / "manifest.json").read_text())["claims"] == {"claim.toml": found}


def test_the_command_hashes_and_checks(
    tmp_path: Path, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path)
    assert main(["claim", "hash", str(path)]) == 0
    assert digest(path) in capsys.readouterr().out
    assert main(["claim", "check", str(path), str(study)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("held: The hybrid needs fewer interactions")
    assert "against twin: held, ratio 0." in out
    assert main(["claim", "check", str(path)]) == 2
    assert (
        "error: DIR: None does not go with check; write: qrl claim check FILE DIR" in capsys.readouterr().err
    )
