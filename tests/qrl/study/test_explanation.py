"""Explanations: verdicts by hand and on simulated families whose truth is known; written, printed, escaped."""

import json

import numpy as np
import pytest

from qrl.errors import InputError
from qrl.study.comparison import compare
from qrl.study.explanation import (
    MARGIN,
    explain,
    explanation_grid,
    explanation_section,
    judge,
    margin_of,
    seeds_needed,
    with_families,
    write_explanation,
)
from qrl.study.recipe import make_recipe
from qrl.study.report import report_page
from qrl.study.statistics import Comparison, compare_bootstrap, iqm


def difference(value, low, high, n=50):
    return Comparison(value, low, high, n, None, True)


@pytest.mark.parametrize(
    ("low", "high", "n", "verdict"),
    [
        (-0.04, 0.04, 50, "equal"),
        (0.01, 0.04, 50, "equal"),
        (0.01, 0.20, 50, "better"),
        (-0.04, 0.20, 50, "not worse"),
        (-0.20, -0.01, 50, "worse"),
        (-0.04, -0.01, 50, "equal"),
        (-0.20, 0.01, 50, "undecided"),
        (-0.05, 0.01, 50, "undecided"),
        (-0.20, 0.20, 50, "undecided"),
        (-0.04, 0.04, 9, "undecided"),
        (-0.20, -0.10, 9, "undecided"),
        (None, None, 2, "undecided"),
    ],
)
def test_what_an_interval_says(low, high, n, verdict):
    assert judge(difference(0.0, low, high, n), 0.05) == verdict


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # lower end 0.10 away, may be 0.05 away: twice as narrow, four times the seeds
        (difference(0.0, -0.10, 0.10), 200),
        # below 0: the upper end must come from 0.12 to 0.06 away
        (difference(-0.06, -0.2, 0.06), 200),
        # two goals, the nearer counts: lower (0.08 / 0.04)^2 = 4 against upper (0.03 / 0.01)^2 = 9
        (difference(-0.01, -0.09, 0.02, 20), 80),
        (difference(0.3, None, None, 2), 10),
        (difference(0.0, -0.051, 0.0, 12), 13),
    ],
)
def test_seeds_that_would_decide(given, expected):
    assert seeds_needed(given, 0.05) == pytest.approx(expected, abs=1)


def family(simulated, spread=0.1, **learning_points):
    """A hybrid agent that learns at 1,300 interactions, give or take the spread, and its family's learning points."""
    kinds = {
        "mlp": ({"kind": "matched_mlp", "match": "q"}, 61),
        "mlp_large": ({"kind": "mlp", "hidden": [64, 64]}, 4_482),
        "no_circuit": ({**simulated.QUANTUM, "circuit": "off"}, 12),
        "frozen": ({**simulated.QUANTUM, "frozen": True}, 2),
        "no_entanglers": (dict(simulated.QUANTUM), 62),
        "fourier": ({"kind": "fourier", "match": "q"}, 484),
    }
    agents = [
        simulated.Agent("q", dict(simulated.QUANTUM), 1_300.0, spread, n_parameters=62),
        simulated.Agent("random", None, np.inf),
    ]
    for baseline, point in learning_points.items():
        network, size = kinds[baseline]
        name = f"q.{baseline.replace('_', '-')}"
        agents.append(simulated.Agent(name, network, point, spread, n_parameters=size))
    return agents


@pytest.fixture
def study(tmp_path, simulated):
    """Compare a simulated family: seeds, then learning points by baseline."""

    def make(n_seeds=20, agents=None, **points):
        members = family(simulated, **points) if agents is None else agents
        return compare(simulated.write_study(tmp_path, agents=members, seeds=range(n_seeds)))

    return make


def verdicts(explanation):
    return {member.name: member.verdict for member in explanation.members}


def test_an_equal_perceptron_accounts_for_the_result(study):
    (e,) = explain(study(20, mlp=1_300.0, no_circuit=3_500.0, mlp_large=700.0))
    assert verdicts(e) == {"q.no-circuit": "worse", "q.mlp": "equal", "q.mlp-large": "better"}
    assert e.smallest.name == "q.mlp"
    assert (
        "The smallest classical model that does not do worse than q (62 trained values) is q.mlp (61"
        in e.headline
    )
    assert "it does as well (difference " in e.headline
    assert e.headline.endswith("Of the smaller ones, q.no-circuit does worse.")
    size, practice, circuit = e.findings
    assert size.startswith(
        "Size accounts for the result: a perceptron with as many trained values does as well (61 trained values; "
    )
    assert practice.startswith(
        "Classical practice accounts for the result: a larger perceptron does better (4,482 "
    )
    assert circuit.startswith("Without the circuit the agent does worse (12 trained values; difference -0.")
    assert e.accounts == "The result is accounted for by size and classical practice."


def test_a_result_that_no_classical_model_reaches(study):
    (e,) = explain(study(20, mlp=3_500.0, fourier=3_000.0, no_circuit=4_500.0, no_entanglers=3_500.0))
    assert e.smallest is None
    assert e.is_unexplained
    assert e.headline.startswith(
        "No classical model of the family accounts for q (62 trained values): all 3 do worse, "
        "the nearest of them q.fourier"
    )
    assert any(f.startswith("Without entanglement the agent does worse (62 ") for f in e.findings)
    assert any(f.startswith("The spectrum alone does not account for the result") for f in e.findings)
    assert e.accounts == "No prior is shown to account for the result: not by size and the spectrum alone."


def test_what_still_has_a_circuit_is_no_classical_model(study):
    (e,) = explain(study(30, frozen=1_300.0, no_entanglers=1_300.0, mlp=3_500.0))
    assert {v for name, v in verdicts(e).items() if name != "q.mlp"} == {"equal"}
    assert e.smallest is None
    assert e.is_unexplained
    assert any(f.startswith("With an untrained circuit the agent does as well (2 ") for f in e.findings)
    assert any(f.startswith("Without entanglement the agent does as well (62 ") for f in e.findings)


def test_too_few_seeds_decide_nothing(study):
    (e,) = explain(study(9, mlp=1_300.0, mlp_large=4_500.0))
    assert set(verdicts(e).values()) == {"undecided"}
    assert e.headline == "Undecided: q has 9 seeds, and at least 10 are needed."
    assert not e.is_unexplained
    assert e.accounts.endswith("account for the result: undecided for size and classical practice.")


def test_no_difference_is_not_equality(study, simulated):
    (e,) = explain(study(agents=family(simulated, 0.4, mlp=1_300.0)))
    (member,) = e.members
    assert member.difference.low < 0 < member.difference.high
    assert member.verdict == "undecided"
    assert e.headline.startswith("Undecided: no classical model is shown to do as well as q within 0.05")
    assert member.n_needed > 20
    assert "seeds would decide one of them" in e.headline


def test_about_as_many_seeds_as_are_said_decide(tmp_path, simulated):
    agents = family(simulated, 0.15, mlp=1_300.0)
    few = compare(simulated.write_study(tmp_path / "few", agents=agents, seeds=range(12)))
    needed = explain(few, margin=0.03)[0].members[0].n_needed
    assert 12 < needed < 60
    many = compare(simulated.write_study(tmp_path / "many", agents=agents, seeds=range(2 * needed)))
    assert explain(many, margin=0.03)[0].members[0].verdict in ("equal", "not worse")


def test_intervals_of_a_family_hold_together(study):
    result = study(40, mlp=1_300.0, frozen=1_800.0)
    (e,) = explain(result)
    assert e.level == pytest.approx(1 - 0.05 / 2)
    member = next(m for m in e.members if m.name == "q.mlp")
    q, mlp = (result.scale(result.agent(name).mean_returns) for name in ("q", "q.mlp"))
    # a bootstrap written out, with plain percentiles: at 40 seeds the expansion adds a tenth to the width
    rng = np.random.default_rng(5)
    draws = [iqm(mlp[rows]) - iqm(q[rows]) for rows in rng.integers(0, 40, (4_000, 40))]
    low, high = np.quantile(draws, [0.05 / 4, 1 - 0.05 / 4])
    assert member.difference.value == pytest.approx(iqm(mlp) - iqm(q))
    assert member.difference.low == pytest.approx(low, abs=0.15 * (high - low))
    assert member.difference.high == pytest.approx(high, abs=0.15 * (high - low))
    assert member.difference.low < low
    wide = compare_bootstrap(iqm, (mlp,), (q,), form="difference", paired=True)
    assert wide.high - wide.low < member.difference.high - member.difference.low


def test_failures_count_at_the_floor(study, simulated):
    agents = family(simulated, mlp=1_300.0)
    agents[2].failing_seeds = tuple(range(16))
    (e,) = explain(study(agents=agents))
    assert verdicts(e) == {"q.mlp": "worse"}


def test_members_that_have_not_run_are_named(study, simulated):
    agents = family(simulated, mlp=1_300.0, fourier=1_300.0)
    agents[3].unfinished_seeds = tuple(range(20))
    (e,) = explain(study(20, agents=agents))
    assert e.missing == ("q.fourier",)
    assert "Not run: q.fourier." in explanation_grid(e).note
    assert "Not applicable or not asked for: mlp-large, no-circuit" in explanation_grid(e).note


def test_a_classical_learner_of_the_recipe_counts(study, simulated):
    agents = family(simulated, mlp=3_500.0)
    agents.append(simulated.Agent("own", {"kind": "mlp", "hidden": [8]}, 1_000.0, n_parameters=40))
    (e,) = explain(study(agents=agents))
    assert e.smallest.name == "own"
    assert e.smallest.baseline is None


def test_without_a_family_there_is_no_explanation(tmp_path, simulated):
    result = compare(simulated.write_study(tmp_path, seeds=range(3)))
    assert explain(result) == ()
    assert explanation_section(result) == ""


def test_the_margin_is_the_recipes(study, tiny):
    result = study(20, mlp=1_300.0)
    assert margin_of(result) == MARGIN
    recipe = make_recipe({**tiny, "study": {**tiny["study"], "margin": 0.3}})
    (result.directory / "recipe.toml").write_text(recipe.to_toml())
    assert margin_of(result) == 0.3
    (e,) = explain(result)
    assert e.margin == 0.3
    assert verdicts(e) == {"q.mlp": "equal"}


def test_an_explanation_is_written_and_shown(study, simulated):
    agents = family(simulated, mlp=1_300.0, no_circuit=4_500.0)
    agents.append(simulated.Agent("own", {"kind": "mlp", "hidden": [8]}, 1_000.0, n_parameters=40))
    result = study(agents=agents)
    explanations = explain(result)
    data = json.loads(write_explanation(result, explanations).read_text())
    assert data[0]["agent"] == "q"
    assert data[0]["smallest"] == "own"
    assert data[0]["headline"] == explanations[0].headline
    assert [m["name"] for m in data[0]["members"]] == ["q.no-circuit", "own", "q.mlp"]
    assert data[0]["members"][2]["difference"]["low"] == explanations[0].members[2].difference.low
    grid = explanation_grid(explanations[0])
    assert [label.main for label, _ in grid.rows] == ["q.no-circuit", "own", "q.mlp", "q"]
    page = explanation_section(result)
    assert page.startswith("<h2>What accounts for the result</h2>")
    assert "The smallest classical model that does not do worse" in page
    assert page.count("<tr>") == 5
    report = report_page(result)
    assert report.index("</h1>") < report.index(page) < report.index("<h2>The agents</h2>")


RECIPE = {
    "study": {"name": "s"},
    "environment": {"id": "CartPole-v1"},
    "budget": {"interactions": 100},
    "agents": [
        {"name": "a", "algorithm": "dqn", "network": {"kind": "quantum", "n_qubits": 1, "n_features": 4}},
        {"name": "b", "algorithm": "dqn", "network": {"kind": "quantum", "n_qubits": 1, "n_features": 4}},
        {"name": "mlp", "algorithm": "dqn"},
        {"name": "random", "algorithm": "random"},
    ],
}


def test_what_is_trained_for_an_explanation():
    agents = [{**agent} for agent in RECIPE["agents"]]
    for agent in agents[:2]:
        agent["network"] = {**agent["network"], "observables": ["Z", "X"], "head": {"kind": "scale"}}
    recipe, names = with_families(make_recipe({**RECIPE, "agents": agents}), "a")
    assert names[:2] == ["a", "random"]
    assert {"a.mlp", "a.frozen", "a.fourier"} <= set(names)
    assert not any(name.startswith("b") for name in names)
    assert recipe.study.baselines["b"]
    with pytest.raises(InputError, match=r"--agents: mlp is no hybrid agent of this recipe; known: a, b"):
        with_families(make_recipe({**RECIPE, "agents": agents}), "mlp")
    with pytest.raises(InputError, match=r"study.baselines: all has no agent with a circuit"):
        with_families(make_recipe({**RECIPE, "agents": agents[2:]}))


def test_the_command_trains_the_family_and_explains(tmp_path, capsys):
    from qrl.cli import main

    agent = {**RECIPE["agents"][0], "learning_starts": 20, "batch_size": 8}
    agent["network"] = {**agent["network"], "observables": ["Z", "X"], "head": {"kind": "scale"}}
    study = {"name": "s", "seeds": "0:1", "baselines": ["mlp", "no-circuit"]}
    budget = {"interactions": 60, "evaluations": 2, "evaluation_episodes": 2}
    recipe = {**RECIPE, "study": study, "budget": budget, "agents": [agent, *RECIPE["agents"][2:]]}
    path = tmp_path / "recipe.toml"
    path.write_text(make_recipe(recipe).to_toml())
    arguments = ["explain", str(path), "--out", str(tmp_path / "runs"), "--workers", "1"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "Undecided: a has 1 seed, and at least 10 are needed." in said
    assert "What accounts for a" in said
    folder = tmp_path / "runs" / "s"
    runs = sorted(done.parent.parent.name for done in folder.rglob("DONE.json"))
    assert runs == ["a", "a.mlp", "a.no-circuit", "random"]
    (data,) = json.loads((folder / "explanation.json").read_text())
    assert {m["verdict"] for m in data["members"]} == {"undecided"}
    times = {done: done.stat().st_mtime_ns for done in folder.rglob("DONE.json")}
    assert main(arguments) == 0  # everything is there
    assert times == {done: done.stat().st_mtime_ns for done in folder.rglob("DONE.json")}
    assert main(["explain", str(path), "--agents", "random"]) == 2
    assert "is no hybrid agent of this recipe" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 40])
def test_a_family_at_the_margin_is_rarely_accepted(n):
    """Nine members worse by exactly the margin: at most about 5 % of families have one that is not worse."""
    rng = np.random.default_rng(1)
    accepted, n_families, margin = 0, 400, 0.05
    for _ in range(n_families):
        own = rng.normal(0.7, 0.07, n)
        members = rng.normal(0.7 - margin, 0.07, (9, n))
        found = [
            compare_bootstrap(
                iqm, (m,), (own,), form="difference", paired=True, level=1 - 0.05 / 9, draws=4_000
            )
            for m in members
        ]
        accepted += any(judge(d, margin) in ("equal", "better", "not worse") for d in found)
    # 0.025 a side by design; four standard errors above 0.05
    assert accepted / n_families < 0.05 + 4 * np.sqrt(0.05 * 0.95 / n_families)
