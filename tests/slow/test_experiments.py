"""The experiments give again what is recorded of them. Long: `make slow`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qrl.study.comparison import compare
from qrl.study.results import read_run

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RECORDED = sorted([*EXPERIMENTS.glob("*/*expected.json"), *EXPERIMENTS.glob("published/*/*expected.json")])


def run(recipe, out, *arguments):
    command = [sys.executable, "-m", "qrl.cli", "run", str(recipe), "--out", str(out), *arguments]
    assert subprocess.run(command, timeout=7200, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_rerun_falls_inside_the_recorded_interval(path, tmp_path):
    expected = json.loads(path.read_text())
    name = "recipe" if path.name == "expected.json" else path.name.removesuffix(".expected.json")
    run(
        path.parent / f"{name}.toml",
        tmp_path,
        "--seeds",
        expected["seeds"],
        "--agents",
        ",".join(expected["agents"]),
    )
    (study,) = tmp_path.iterdir()
    result = compare(study)
    recorded = "final_return" if result.measure == "return" else "mean_return"
    found = {agent.name: getattr(agent, recorded).value for agent in result.agents if agent.n}
    assert found.keys() == expected["agents"].keys()
    for name, value in found.items():
        bounds = expected["agents"][name]
        assert bounds["low"] - 1e-3 <= value <= bounds["high"] + 1e-3, name


@pytest.mark.slow
def test_the_cartpole_hybrid_solves_in_19_of_20_seeds(tmp_path):
    run(EXPERIMENTS / "cartpole" / "recipe.toml", tmp_path, "--agents", "hybrid", "--seeds", "0:20")
    last = [
        read_run(tmp_path / "cartpole" / "hybrid" / f"seed={s}").evaluations[-1]["return_mean"]
        for s in range(20)
    ]
    assert sum(mean >= 475.0 for mean in last) >= 19, last
