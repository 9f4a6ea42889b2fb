"""The repository keeps its own promises: experiments are complete, nothing unpickles, no path of one machine."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from qrl.study.recipe import load_recipe

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "experiments" / "published"
RECIPES = sorted([*ROOT.glob("experiments/*/*.toml"), *PUBLISHED.glob("*/*.toml")])
SOURCES = [
    path
    for package in ("qrl", "circuits", "environments", "baselines")
    for path in sorted((ROOT / package).rglob("*.py"))
]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_experiment_has_recipe_readme_and_expectation(path):
    """`recipe.toml` is the experiment; further recipes beside it extend it, each with its own expectation."""
    recipe, main = load_recipe(path), path.name == "recipe.toml"
    readme = (path.parent / "README.md").read_text()
    assert recipe.study.name == path.parent.name + ("" if main else f"-{path.stem}")
    assert main or recipe != load_recipe(path.with_name("recipe.toml"))
    record = path.with_name("expected.json" if main else f"{path.stem}.expected.json")
    if (PUBLISHED in path.parents or path.parent.name == "cartpole-fair") and not record.exists():
        assert f"qrl run {path.relative_to(ROOT)}" in readme
        assert "to be recorded" in " ".join(readme.split())
        return
    expected = json.loads(record.read_text())
    assert set(expected) == {"command", "metric", "seeds", "agents"}
    agents = {agent.name for agent in recipe.agents}
    assert set(expected["agents"]) == agents if main else set(expected["agents"]) <= agents
    assert all(a["low"] <= a["value"] <= a["high"] for a in expected["agents"].values())
    assert expected["command"].partition(" --agents")[0] in readme


def test_nothing_is_unpickled_or_evaluated():
    banned = re.compile(
        r"\b(pickle|cloudpickle|dill)\.|import (pickle|cloudpickle|dill)|torch\.load\(|\beval\(|\bexec\(|shell=True"
    )
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in SOURCES
        for match in [banned.search(path.read_text())]
        if match
    ]
    assert found == []


def test_the_readme_names_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    for image in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", readme):
        assert (ROOT / image).exists(), image


def test_the_constraints_pin_torch_and_every_dependency():
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    text = (ROOT / "pyproject.toml").read_text()
    wanted = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1]
    names = {re.split(r"[><=]", name)[0].lower() for name in re.findall(r'"([^"]+)"', wanted)}
    assert names <= pinned
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text()


def test_no_run_directory_or_binary_is_committed():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    bad = [f for f in files if re.search(r"\.(pt|pth|pkl|zip|so|o)$|(^|/)seed=\d+/", f)]
    assert bad == []
