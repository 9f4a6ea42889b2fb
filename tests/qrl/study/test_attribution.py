"""Shares of a gap: by hand on simulated studies, with intervals, and refused where names are wrong."""

from dataclasses import replace

import numpy as np
import pytest

from qrl.errors import InputError
from qrl.study.attribution import attribute
from qrl.study.comparison import compare
from qrl.study.recipe import make_recipe
from qrl.study.report import report_page
from qrl.study.table import attribution_grid


@pytest.fixture
def study(tmp_path, simulated):
    """Four agents of which the hybrid learns first and the twin last."""
    return compare(simulated.write_study(tmp_path, seeds=range(20)))


def test_shares_are_those_of_the_means(study):
    agents = {agent.name: agent for agent in study.agents}
    recipe = {"attribution": {"base": "twin", "full": "hybrid", "agents": {"mlp": "two layers of 64"}}}
    base, between, full = attribute(recipe, agents)
    means = {name: agent.mean_returns.mean() for name, agent in agents.items()}
    assert (base.agent, base.share.value, full.share.value) == ("twin", 0.0, 1.0)
    assert between.has == "two layers of 64"
    assert between.score.value == pytest.approx(means["mlp"])
    expected = (means["mlp"] - means["twin"]) / (means["hybrid"] - means["twin"])
    assert between.share.value == pytest.approx(expected)
    assert between.share.low < expected < between.share.high


def test_seeds_are_resampled_together(study):
    # an agent that is the full one but for a constant has almost no uncertainty in its distance to it
    agents = {agent.name: agent for agent in study.agents}
    recipe = {"attribution": {"base": "twin", "full": "hybrid", "agents": {"hybrid": "itself"}}}
    assert [part.share.value for part in attribute(recipe, agents)] == [0.0, 1.0]
    assert attribute(recipe, agents)[-1].share.low == 1.0


def test_without_the_section_or_the_agents_there_is_nothing(study):
    agents = {agent.name: agent for agent in study.agents}
    assert attribute({}, agents) == ()
    assert attribute({"attribution": {"base": "no", "full": "hybrid", "agents": {}}}, agents) == ()
    assert study.contributions == ()
    assert attribution_grid(study) is None


def test_a_recipe_names_agents_of_its_own(tiny):
    section = {"base": "mlp", "full": "random", "agents": {"mpl": "a slip"}}
    with pytest.raises(InputError, match=r"attribution.*mpl.*did you mean"):
        make_recipe({**tiny, "attribution": section})


def test_no_gap_gives_no_share():
    from qrl.study.attribution import _share

    assert np.isnan(_share(np.ones(3), np.ones(3), np.ones(3)))


def test_a_gap_that_chance_explains_has_no_parts(study):
    """Two agents that differ by noise alone: a ratio of noise to noise would be any number."""
    agents = {agent.name: agent for agent in study.agents}
    noise = np.random.default_rng(0).normal(0.0, 1.0, agents["twin"].n)
    noise -= noise.mean() - 0.05
    agents["hybrid"] = replace(
        agents["twin"], name="hybrid", mean_returns=agents["twin"].mean_returns + noise
    )
    recipe = {"attribution": {"base": "twin", "full": "hybrid", "agents": {"mlp": "two layers of 64"}}}
    parts = attribute(recipe, agents)
    assert [part.share.value for part in parts] == [None] * 3
    assert parts[1].score.value is not None


def test_only_the_pairs_that_a_recipe_names_are_compared(tmp_path, simulated):
    folder = simulated.write_study(tmp_path, seeds=range(12))
    for path in folder.rglob("recipe.toml"):
        text = path.read_text().replace(
            "[study]\n", '[study]\npairs = [["twin", "random"], ["mlp", "twin"]]\n'
        )
        path.write_text(text)
    result = compare(folder)
    assert [(pair.hybrid, pair.opponent) for pair in result.pairs] == [("twin", "random"), ("mlp", "twin")]
    assert result.sides == ("first agent", "second")
    assert "Against random, twin is faster" in result.headline


def test_an_opponent_with_a_circuit_is_called_no_classical_one(tmp_path, simulated):
    result = compare(simulated.write_study(tmp_path, seeds=range(3)))
    assert result.sides == ("hybrid", "classical")
    opponent = result.pairs[-1].opponent
    agents = tuple(replace(a, kind="quantum") if a.name == opponent else a for a in result.agents)
    frozen = replace(result, agents=agents)
    assert frozen.sides == ("hybrid", "opponent")
    page = report_page(frozen)
    assert "<h2>Hybrid against opponent</h2>" in page
    assert "Hybrid against classical" not in page


@pytest.mark.parametrize(("pair", "says"), [(["mlp", "twn"], "twn"), (["mlp", "mlp"], "itself")])
def test_pairs_are_two_agents_of_the_recipe(tiny, pair, says):
    study = {**tiny["study"], "pairs": [pair]}
    with pytest.raises(InputError, match=rf"study\.pairs\.0.*{says}"):
        make_recipe({**tiny, "study": study})
