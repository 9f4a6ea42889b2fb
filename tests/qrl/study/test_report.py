"""The comparison of a study, its table and its page, from simulated run directories."""

from __future__ import annotations

import io
import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qrl.ledger import read_ledger
from qrl.study import figures, report
from qrl.study.comparison import StudyResult, compare
from qrl.study.pairs import sentence, short
from qrl.study.report import report_page, study_figures, write_report
from qrl.study.results import read_run
from qrl.study.table import (
    agent_grid,
    cells_grid,
    complexity_table,
    crossing_table,
    print_table,
    spread_grid,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, simulated: SimpleNamespace) -> Path:
    """Ten seeds, one twin diverged, one MLP unfinished."""
    agents = simulated.standard_agents()
    agents[1].failing_seeds, agents[2].unfinished_seeds = (3,), (9,)
    return simulated.write_study(tmp_path_factory.mktemp("runs"), agents=agents)


@pytest.fixture(scope="module")
def result(study: Path) -> StudyResult:
    return compare(study)


@pytest.fixture(scope="module")
def page(result: StudyResult) -> str:
    return report_page(result)


def printed(result: StudyResult, width: int = 100) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_table(result, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


# numbers ---------------------------------------------------------------------------------------------


def test_agents_stand_in_the_recipes_order_with_their_counts(result: StudyResult) -> None:
    assert [agent.name for agent in result.agents] == ["hybrid", "twin", "mlp", "random"]
    assert [agent.kind for agent in result.agents] == ["quantum", "classical", "classical", "random"]
    assert [agent.n for agent in result.agents] == [10, 10, 9, 10]
    assert result.agent("mlp").unfinished == (9,)
    assert [outcome.seed for outcome in result.agent("twin").failures] == [3]
    assert result.joules_kind == "modelled"


def test_expected_costs_are_those_of_the_run_directories(study: Path, result: StudyResult) -> None:
    twin = result.agent("twin")
    costs, successes = {"interactions": 0.0, "seconds": 0.0, "joules": 0.0}, 0
    for seed in range(10):
        run = read_run(study / "twin" / f"seed={seed}")
        crossing = run.crossing
        end = crossing["interactions"] if crossing else 5_000
        successes += crossing is not None
        costs["interactions"] += end
        for record in read_ledger(run.directory / "ledger.jsonl").records:
            if record.phase in ("environment", "act", "learn") and record.window[1] <= end:
                costs["seconds"] += record.wall_s
                costs["joules"] += sum(entry.joules for entry in record.energy)
    assert 0 < successes < 10
    assert twin.n_solved == successes
    for axis, total in costs.items():
        assert twin.to_threshold[axis].value == pytest.approx(total / successes, rel=1e-12)


def test_a_failed_run_is_counted_at_the_floor_and_never_solves(result: StudyResult) -> None:
    failed = result.agent("twin").failures[0]
    assert failed.final_return == result.floor
    assert result.floor == min(e["return_mean"] for run in result.runs for e in run.evaluations)
    assert not failed.solved
    assert failed.spent["interactions"] == 5_000  # not where it broke down: that would count it as undecided
    assert result.agent("twin").curves[3, -1] == result.floor


def test_an_unconfirmed_look_is_no_crossing(study: Path, result: StudyResult) -> None:
    rejected = [
        (run, e)
        for run in result.runs
        for e in run.evaluations
        if e["confirmation"] is not None and not e["confirmation"]["passed"]
    ]
    assert rejected  # the simulation has some
    run, look = rejected[0]
    outcome = next(o for o in result.agent(run.agent).outcomes if o.seed == run.seed)
    assert outcome.spent["interactions"] > look["interactions"]


def test_the_ratio_is_paired_by_the_seeds_that_both_have(result: StudyResult) -> None:
    twin, mlp = result.pairs
    assert (twin.opponent, twin.is_twin, twin.n, twin.paired) == ("twin", True, 10, True)
    assert (mlp.opponent, mlp.is_twin, mlp.n) == ("mlp", False, 9)
    hybrid = result.agent("hybrid").to_threshold["seconds"].value
    other = result.agent("twin").to_threshold["seconds"].value
    assert hybrid is not None
    assert other is not None
    assert twin.axis("seconds").comparison.value == pytest.approx(hybrid / other)
    assert result.n_comparisons == 10


def test_final_return_is_the_iqm_of_last_evaluations(study: Path, result: StudyResult) -> None:
    finals = sorted(
        read_run(study / "hybrid" / f"seed={k}").evaluations[-1]["return_mean"] for k in range(10)
    )
    expected = (0.5 * finals[2] + sum(finals[3:7]) + 0.5 * finals[7]) / 5
    assert result.agent("hybrid").final_return.value == pytest.approx(expected)


# verdicts --------------------------------------------------------------------------------------------


def test_the_verdict_says_slower_and_faster_and_names_the_axis(result: StudyResult) -> None:
    verdicts = {axis.axis: axis.verdict for axis in result.pairs[0].axes}
    assert verdicts["seconds"] == verdicts["joules"] == "slower"
    assert verdicts["interactions"] == "faster"
    assert verdicts["final_return"] == "not distinguishable"
    assert result.headline.startswith(
        "Against its classical twin (twin), hybrid is slower in seconds (ratio 4."
    )
    assert "faster in interactions (ratio 0." in result.headline
    assert result.headline.endswith("(10 seeds each).")


def two_agents(simulated: SimpleNamespace, **changes: object) -> list[object]:
    """A hybrid and a twin that learn and cost alike, but for the hybrid's `changes`."""
    costs = {"environment": 2e-5, "learn": 5e-4, "quantum": 1e-4}
    common = {"learning_point": 1_500.0, "seconds": costs}
    hybrid = simulated.Agent("hybrid", dict(simulated.QUANTUM), **{**common, **changes})
    return [hybrid, simulated.Agent("twin", {"kind": "matched_mlp", "match": "hybrid"}, **common)]


def test_equal_agents_are_not_distinguishable(tmp_path: Path, simulated: SimpleNamespace) -> None:
    pair = compare(simulated.write_study(tmp_path, agents=two_agents(simulated))).pairs[0]
    assert {axis.verdict for axis in pair.axes} == {"not distinguishable"}
    assert "hybrid is not distinguishable in interactions (ratio" in sentence(pair)


def test_an_agent_that_never_solves_is_slower(tmp_path: Path, simulated: SimpleNamespace) -> None:
    agents = two_agents(simulated, learning_point=math.inf)
    result = compare(simulated.write_study(tmp_path, agents=agents))
    seconds = result.pairs[0].axis("seconds")
    assert (seconds.comparison.value, seconds.verdict) == (math.inf, "slower")
    assert "hybrid reached the threshold in 0 of 10 runs, twin in 10 of 10" in result.headline
    assert result.agent("hybrid").median_interactions.value == math.inf  # type: ignore[union-attr]
    assert "not reached" in printed(result)
    assert "Infinity" not in report_page(result)


def test_two_agents_that_never_solve_are_not_distinguishable(
    tmp_path: Path, simulated: SimpleNamespace
) -> None:
    agents = two_agents(simulated, learning_point=math.inf)
    agents[1].learning_point = math.inf  # type: ignore[attr-defined]
    result = compare(simulated.write_study(tmp_path, agents=agents))
    assert result.headline == (
        "hybrid and its classical twin (twin) are not distinguishable: neither reached the threshold in any "
        "run (10 seeds each)."
    )
    report_page(result)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_seeds_give_no_verdict(tmp_path: Path, simulated: SimpleNamespace, n: int) -> None:
    result = compare(simulated.write_study(tmp_path, seeds=range(n)))
    assert (
        result.headline
        == f"Too few seeds to tell hybrid from its classical twin (twin): {n}, and at least 5 are needed."
    )
    assert {axis.verdict for axis in result.pairs[0].axes} == {"too few seeds"}
    text = printed(result)
    assert ("no interval" in text) == (n < 3)
    assert ("development" in text) == (n >= 3)
    report_page(result)


def test_five_to_nine_seeds_are_labelled_development(tmp_path: Path, simulated: SimpleNamespace) -> None:
    result = compare(simulated.write_study(tmp_path, seeds=range(6)))
    assert result.headline.endswith("(6 seeds each; a development figure).")
    assert "development, 6 seeds" in report_page(result)


def test_without_a_threshold_returns_are_compared(tmp_path: Path, simulated: SimpleNamespace) -> None:
    result = compare(simulated.write_study(tmp_path, threshold=None))
    pair = result.pairs[0]
    assert result.threshold is None
    assert pair.axis("mean_return").verdict == "higher"
    assert "higher in return over training (difference" in result.headline
    assert pair.axis("seconds").label == "seconds for the budget"
    assert "to threshold" not in printed(result)
    assert "unsolved-interactions" not in study_figures(result)
    report_page(result)


def test_a_single_evaluation_is_enough(tmp_path: Path, simulated: SimpleNamespace) -> None:
    result = compare(simulated.write_study(tmp_path, evaluations=1))
    assert result.agent("hybrid").curves.shape == (10, 1)
    report_page(result)


def test_a_study_that_has_only_begun_can_be_looked_at(tmp_path: Path, simulated: SimpleNamespace) -> None:
    agents = simulated.standard_agents()
    for agent in agents:
        agent.unfinished_seeds = (0, 1)
    result = compare(simulated.write_study(tmp_path, agents=agents, seeds=range(2)))
    assert [agent.n for agent in result.agents] == [0, 0, 0, 0]
    assert "unfinished" in printed(result)
    assert "unfinished" in report_page(result)


def test_a_study_of_one_agent_has_no_verdict(tmp_path: Path, simulated: SimpleNamespace) -> None:
    result = compare(simulated.write_study(tmp_path, agents=simulated.standard_agents()[:1]))
    assert result.headline == "No hybrid agent stands against a classical one in this study."
    report_page(result)


def test_several_studies_are_refused_by_compare(tmp_path: Path, simulated: SimpleNamespace) -> None:
    for name in ("a", "b"):
        simulated.write_study(tmp_path, name=name, seeds=range(1))
    with pytest.raises(ValueError, match=r"^study_dir: .* holds 2 studies; give the folder of one study"):
        compare(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (4.0, "4.00"),
        (0.03333, "0.0333"),
        (1234.5, "1,234"),
        (27e6, "27.0 M"),
        (3.2e11, "3.20e+11"),
        (math.inf, "∞"),
        (-87.25, "-87.2"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert short(value) == text


# table -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_terminal_table_fits_and_says_everything(result: StudyResult, width: int) -> None:
    text = printed(result, width)
    assert max(map(len, text.splitlines())) <= width
    for word in (
        "hybrid",
        "twin",
        "Seeds",
        "7 of 10",
        "slower",
        "faster",
        "not distinguishable",
        "modelled",
        "diverged",
        "unfinished",
    ):
        assert word in text


def test_terminal_and_page_show_the_same_table(result: StudyResult, page: str) -> None:
    import html

    for label, cells in agent_grid(result).rows:
        for cell in (label, *cells):
            assert html.escape(cell.main) in page
            assert html.escape(cell.sub) in page


MACHINE = {
    "kind": "boltzmann",
    "graph": {"kind": "chimera", "rows": 1, "columns": 2},
    "field": 0.5,
    "beta": 2.0,
    "sign": "mirrored",
    "sampler": "sqa",
    "sampler_options": {"reads": 50},
}


def annealed(result: StudyResult) -> dict[str, object]:
    """The cells of the row on an annealer, by agent."""
    row = next(cells for name, cells in agent_grid(result).rows if name.main == "On an annealer, modelled")
    return {agent.name: cell for agent, cell in zip(result.agents, row, strict=True)}


@pytest.mark.parametrize("threshold", [-100.0, None])
def test_seconds_on_an_annealer_follow_the_vendors_formula(
    tmp_path: Path, simulated: SimpleNamespace, threshold: float | None
) -> None:
    calls = {"seconds": {"environment": 2e-5, "quantum": 1e-3}, "executions": 7, "hardware_executions": 7}
    agents = [
        simulated.Agent("named", dict(MACHINE), **calls),
        simulated.Agent("assumed", {**MACHINE, "sampler": "exact", "sampler_options": {}}, **calls),
        simulated.Agent("gate", {**MACHINE, "sampler": "gate", "sampler_options": {}}, **calls),
        simulated.Agent("mlp", {"kind": "mlp", "hidden": [8]}),
    ]
    result = compare(simulated.write_study(tmp_path, agents=agents, seeds=range(3), threshold=threshold))
    cells = annealed(result)
    for name, reads in (("named", 50), ("assumed", 100)):
        agent = result.agent(name)
        spent = agent.total if threshold is None else agent.to_threshold
        submitted = round(spent["hardware_executions"].value)  # type: ignore[arg-type]
        assert submitted > 1_000
        readout = 10 ** np.interp(
            math.log10(16), (0.7699665876947938, 1.7242758696010096), (1.8726623164229292, 2.125631787097315)
        )
        once = 15072.88 + reads * (20 + 20.54 + readout)  # microseconds, without the overhead of 10 to 20 ms
        middle, low, high = (short(submitted * (once + 1e3 * start) / 1e6) for start in (15, 10, 20))
        assert (cells[name].main, cells[name].sub) == (middle, f"{low} to {high}")  # type: ignore[attr-defined]
    assert cells["gate"].main == cells["mlp"].main == "none"  # type: ignore[attr-defined]
    assert "assumed to be 100" in agent_grid(result).note
    labels = [name.main for name, _ in agent_grid(result).rows]
    assert any(label.startswith("Sampler calls") for label in labels)
    assert not any(label.startswith("Circuits") for label in labels)
    # the formula's seconds enter no other number
    seconds = next(cells for name, cells in agent_grid(result).rows if name.main.startswith("Seconds"))
    named = result.agent("named")
    measured = (named.total if threshold is None else named.to_threshold)["seconds"]
    assert seconds[0].main == short(measured.value)  # type: ignore[arg-type]


def test_a_study_of_both_kinds_speaks_of_both(tmp_path: Path, simulated: SimpleNamespace) -> None:
    agents = [
        *simulated.standard_agents()[:1],
        simulated.Agent("machine", dict(MACHINE), hardware_executions=7),
    ]
    result = compare(simulated.write_study(tmp_path, agents=agents, seeds=range(3)))
    assert any(name.main == "Circuits and sampler calls to threshold" for name, _ in agent_grid(result).rows)
    assert annealed(result)["hybrid"].main == "none"  # type: ignore[attr-defined]
    page = report_page(result)
    assert page.count("<h2>Circuits and machines</h2>") == 1
    assert "16 hidden units, 36 couplings" in page


def test_a_study_without_machines_has_no_annealer(result: StudyResult) -> None:
    labels = [name.main for name, _ in agent_grid(result).rows]
    assert "On an annealer, modelled" not in labels
    assert labels.count("Circuits to threshold") == 2
    assert "annealer" not in agent_grid(result).note


# sample complexity and spread ------------------------------------------------------------------------------


def test_the_table_of_complexities_shows_the_grid_and_its_scale(result: StudyResult, page: str) -> None:
    grid = complexity_table(result)
    assert grid is not None
    assert [name.main for name, _ in grid.rows][:3] == ["ε = 0.2, 50 %", "ε = 0.2, 75 %", "ε = 0.2, 90 %"]
    for k, (_, cells) in enumerate(grid.rows):
        for agent, cell in zip(result.agents, cells, strict=True):
            complexity = agent.complexity[k]
            shown = f"{complexity.value:,.0f}"
            assert cell.main == (f"≥ {shown}" if complexity.censored else shown)
            assert bool(cell.sub) != complexity.censored  # a bound has no interval
    assert result.scale is not None
    assert result.scale.zero == pytest.approx(np.mean([o.returns for o in result.agent("random").outcomes]))
    assert result.scale.words in grid.note
    assert 'class="bound">≥ 5,000' in page  # greyed out
    crossings = crossing_table(result)
    assert crossings is not None
    assert crossings.rows[0][1][3].main == "never"
    assert crossings.title in page


def test_complexities_from_few_episodes_are_labelled(tmp_path: Path, simulated: SimpleNamespace) -> None:
    study = simulated.write_study(tmp_path, agents=simulated.standard_agents()[:2], seeds=range(3))
    for recipe in study.rglob("recipe.toml"):
        recipe.write_text(
            recipe.read_text().replace("evaluations = 10", "evaluations = 10\nevaluation_episodes = 20")
        )
    grid = complexity_table(compare(study))
    assert grid is not None
    assert grid.note.endswith("Development figures: 20 episodes a look, 100 are wanted.")


def test_each_pair_has_its_grid_of_verdicts(result: StudyResult, page: str) -> None:
    for pair in result.pairs:
        grid = cells_grid(result, pair)
        assert grid is not None
        shown = [cell for _, cells in grid.rows for cell in cells]
        assert [cell.main for cell in shown] == [cell.test.verdict for cell in pair.grid]
        for cell, tested in zip(shown, pair.grid, strict=True):
            value = tested.test.comparison.value
            assert (short(value) if value is not None else "no ratio") in cell.sub
        assert grid.title in page
    assert result.n_cells == sum(c.test.comparison.p_value is not None for p in result.pairs for c in p.grid)
    assert f"adjusted for {result.n_cells} comparisons" in page


def test_the_report_says_which_resource_is_accelerated(result: StudyResult, page: str) -> None:
    verdict = page[: page.index("<h2>The agents</h2>")]
    assert "Training is " in verdict
    assert "slowed down in seconds (ratio 4." in verdict
    assert "of 9 cells of the grid" in verdict
    assert "hybrid against twin: Training is " in printed(result, 200)


def test_a_study_that_cannot_be_put_on_a_scale_says_why(tmp_path: Path, simulated: SimpleNamespace) -> None:
    study = simulated.write_study(tmp_path, seeds=range(3))
    for recipe in study.rglob("recipe.toml"):
        recipe.write_text(recipe.read_text().replace("[threshold]", "[threshold]\noptimum = -400.0"))
    result = compare(study)
    assert (result.scale, result.agents[0].complexity, result.pairs[0].grid) == (None, (), ())
    page = report_page(result)
    assert "Unavailable: threshold.optimum: -400 is not above -380" in page
    assert "profile" not in study_figures(result)
    assert complexity_table(result) is None


def test_percentiles_gap_and_failures_of_runs(result: StudyResult) -> None:
    grid = spread_grid(result)
    rows = {name.main: cells for name, cells in grid.rows}
    finals = sorted(outcome.final_return for outcome in result.agent("twin").outcomes)
    assert rows["twin"][2].main == short((finals[4] + finals[5]) / 2)
    assert [cell.main for cell in rows["twin"][6:]] == ["1 of 10", "3 of 10"]
    assert result.scale is not None
    gap = np.mean([max(0.0, 1.0 - float(result.scale(value))) for value in finals])
    assert rows["twin"][5].main == short(float(gap))


def test_figures_of_runs_near_the_optimum_and_of_profiles(result: StudyResult) -> None:
    drawn = study_figures(result)
    twin = result.agent("twin")
    assert twin.reached is not None
    for k in range(3):
        line = next(t for t in drawn[f"near-{k}"]["data"] if t["name"] == "twin (n = 10)")
        assert line["y"] == pytest.approx(twin.reached.flags[k].mean(axis=0).tolist())
        assert [shape["y0"] for shape in drawn[f"near-{k}"]["layout"]["shapes"]] == [0.5, 0.75, 0.9]
    line = next(t for t in drawn["profile"]["data"] if t["name"] == "twin (n = 10)")
    assert result.scale is not None
    finals = result.scale([o.final_return for o in twin.outcomes])
    for level, share in zip(line["x"], line["y"], strict=True):
        assert share == pytest.approx(float(np.mean(finals > level)))


# many agents ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory, simulated: SimpleNamespace) -> StudyResult:
    """Twelve agents, with an attribution, evaluated before the first step."""
    kinds = [{"kind": "mlp", "hidden": [8 + k]} for k in range(12)]
    agents = [simulated.Agent(f"agent-{k:02}", kind, 900.0 + 150.0 * k) for k, kind in enumerate(kinds)]
    root = tmp_path_factory.mktemp("crowd")
    study = simulated.write_study(root, agents=agents, seeds=range(4), from_start=True)
    asked = '[attribution]\nbase = "agent-11"\nfull = "agent-00"\n\n[attribution.agents]\n'
    asked += 'agent-04 = "a <b>word</b> of the recipe"\nagent-08 = "another"\n\n[[agents]]'
    for recipe in study.rglob("recipe.toml"):
        recipe.write_text(recipe.read_text().replace("[[agents]]", asked, 1))
    return compare(study)


def test_many_agents_stand_in_rows(crowd: StudyResult) -> None:
    grid = agent_grid(crowd)
    assert [name.main for name, _ in grid.rows] == [agent.name for agent in crowd.agents]
    assert all(column.main for column in grid.columns)
    assert len({(column.main, column.sub) for column in grid.columns}) == len(grid.columns)
    assert all(len(cells) == len(grid.columns) for _, cells in grid.rows)
    # the same numbers as with agents side by side
    solved = [column.main for column in grid.columns].index("Solved")
    assert [cells[solved].main for _, cells in grid.rows] == [f"{a.n_solved} of {a.n}" for a in crowd.agents]


@pytest.mark.parametrize("width", [80, 120])
def test_a_wide_terminal_table_goes_on_below_itself(crowd: StudyResult, width: int) -> None:
    text = printed(crowd, width)
    assert max(map(len, text.splitlines())) <= width
    squeezed = "".join(text.split())
    for column in agent_grid(crowd).columns:
        assert column.main.split()[0] in text
    for _, cells in agent_grid(crowd).rows:
        assert all(cell.main.replace(" ", "") in squeezed for cell in cells)
    assert text.count("agent-07") >= 3


def test_thirty_two_agents_look_different() -> None:
    assert len({figures.agent_style(index) for index in range(32)}) == 32


def test_every_agent_of_many_has_a_line_and_a_panel_with_its_band(crowd: StudyResult) -> None:
    import plotly.graph_objects as go

    drawn = study_figures(crowd)
    lines = drawn["curve-interactions"]["data"]
    assert [line["name"] for line in lines] == [figures.agent_label(agent) for agent in crowd.agents]
    assert len({(line["line"]["color"], line["line"]["dash"]) for line in lines}) == 12
    panels = drawn["curve-panels"]
    go.Figure(figures.resolve(panels, figures.palettes()["light"]))
    for place, agent in enumerate(crowd.agents):
        axis = f"x{place + 1}" if place else "x"
        traces = [trace for trace in panels["data"] if trace["xaxis"] == axis]
        assert traces[0]["x"].count(None) == agent.n  # every seed
        assert traces[-1]["name"] == figures.agent_label(agent)
        assert any("fill" in trace for trace in traces)
    boxes = [
        (panels["layout"][f"xaxis{k or ''}"], panels["layout"][f"yaxis{k or ''}"]) for k in (0, *range(2, 13))
    ]
    corners = [(x["domain"][0], y["domain"][0]) for x, y in boxes]
    assert len(set(corners)) == 12
    assert all(0 <= end <= 1 for x, y in boxes for end in (*x["domain"], *y["domain"]))
    page = report_page(crowd)
    assert all(f'id="{name}"' in page for name in drawn)


def test_a_look_before_the_first_step_is_seen_whole(crowd: StudyResult) -> None:
    for figure in (figures.learning_curves(crowd, "interactions"), figures.unsolved(crowd, "interactions")):
        low, high = figure["layout"]["xaxis"]["range"]
        assert low < 0 < crowd.budget < high
        assert all(trace["x"][0] == 0 for trace in figure["data"])


def test_the_attribution_is_drawn_with_its_intervals(crowd: StudyResult) -> None:
    figure = study_figures(crowd)["contributions"]
    parts = {part.agent: part for part in crowd.contributions}
    assert [bar["name"] for bar in figure["data"]] == ["agent-08", "agent-04"]  # the first stands at the top
    for bar in figure["data"]:
        share = parts[bar["name"]].share
        ends = bar["x"][0] - bar["error_x"]["arrayminus"][0], bar["x"][0] + bar["error_x"]["array"][0]
        assert (bar["x"][0], *ends) == pytest.approx((share.value, share.low, share.high))
    words = [note["text"] for note in figure["layout"]["annotations"]]
    assert words[:2] == ["0: agent-11", "1: agent-00"]
    assert any(text.startswith("a &lt;b&gt;word&lt;/b&gt; of the recipe<br><i>agent-04: ") for text in words)
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [0, 1]
    assert "What covers the gap between agent-11 and agent-00" in report_page(crowd)


# page ------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Start tags with their attributes, and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_is_self_contained(page: str) -> None:
    parser = Elements()
    parser.feed(page)
    for tag, attributes in parser.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert "@import" not in page.split("<script")[0]
    assert page.count("plotly.js v") == 1
    ids = [attributes["id"] for _, attributes in parser.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {
        "curve-interactions",
        "curve-seconds",
        "curve-joules",
        "unsolved-interactions",
        "ratios",
        "phases",
    } <= set(ids)


def test_every_figure_has_a_place_and_is_valid_for_plotly(result: StudyResult, page: str) -> None:
    import plotly.graph_objects as go

    drawn = study_figures(result)
    for name, figure in drawn.items():
        assert f'id="{name}"' in page
        for palette in figures.palettes().values():
            go.Figure(figures.resolve(figure, palette))
    assert set(figures.palettes()["light"]) == set(figures.palettes()["dark"])


def test_the_number_of_seeds_stands_in_every_legend(result: StudyResult, page: str) -> None:
    for agent in result.agents:
        assert page.count(f"{agent.name} (n = {agent.n})") >= 3  # curves, and two bars of time
        assert f"{agent.name} ({agent.n_solved} of {agent.n} solved)" in page
    for figure in (
        figures.learning_curves(result, "seconds"),
        figures.learning_curves(result, "interactions"),
    ):
        assert {"hybrid (n = 10)", "mlp (n = 9)"} <= {trace["name"] for trace in figure["data"]}


def test_a_curve_on_a_cost_axis_ends_with_the_cheapest_finished_run(result: StudyResult) -> None:
    traces = figures.learning_curves(result, "joules")["data"]
    line = next(trace for trace in traces if trace["name"] == "hybrid (n = 10)")
    ends = [outcome.costs.total["joules"] for outcome in result.agent("hybrid").outcomes]
    assert line["x"][-1] == pytest.approx(min(ends))
    assert np.all(np.diff(line["x"]) > 0)


def test_an_evaluation_before_the_first_step_has_no_place_on_a_logarithmic_axis(
    tmp_path: Path, simulated: SimpleNamespace
) -> None:
    agents = simulated.standard_agents()[:2]
    agents[0].learning_point = 0.0  # able from the start: solved before the first step
    result = compare(simulated.write_study(tmp_path, agents=agents, from_start=True))
    assert result.agent("hybrid").to_threshold["interactions"].value == 0
    for axis in ("seconds", "joules"):
        for figure in (figures.learning_curves(result, axis), figures.unsolved(result, axis)):
            costs = [x for trace in figure["data"] for x in trace["x"] if x is not None]
            assert min(costs) > 0.1 * min(o.costs.at[axis][1] for a in result.agents for o in a.outcomes)
    assert result.pairs[0].axis("interactions").verdict == "faster"
    report_page(result)


def test_time_by_phase_is_the_ledgers(result: StudyResult) -> None:
    bars = figures.time_by_phase(result, share=False)["data"]
    hybrid = sum(bar["x"][-1] for bar in bars)  # the first agent stands at the top, which is the last bar
    runs = [run for run in result.runs if run.agent == "hybrid"]
    assert hybrid == pytest.approx(
        sum(record.wall_s for run in runs for record in read_ledger(run.directory / "ledger.jsonl").records)
        / 10
    )
    shares = figures.time_by_phase(result, share=True)["data"]
    assert sum(bar["x"][0] for bar in shares) == pytest.approx(100.0)


def test_the_page_says_what_is_modelled_and_what_is_unavailable(page: str) -> None:
    for text in ("cpu-time-model", "ram-model", "± 40 %", "no RAPL counter", "no GPU meter", "gross"):
        assert text in page
    for text in ("AMD EPYC", "2.13.0", "4f1c2d9", "loss became NaN", "n_qubits = 4", "--seeds 0:10"):
        assert text in page


def test_the_circuit_is_drawn_and_identified(result: StudyResult, page: str) -> None:
    from circuits import reuploading

    circuit = reuploading(4, 5, 1)
    assert "<svg" in page[page.index("<h2>Circuits") : page.index("<h2>Failures")]
    assert circuit.digest[:16] in page
    assert "ZZII, IIZZ" in page


def test_a_circuit_that_cannot_be_built_is_named(tmp_path: Path, simulated: SimpleNamespace) -> None:
    agents = simulated.standard_agents()[:2]
    agents[0].network["ansatz"] = "gone"
    text = report_page(compare(simulated.write_study(tmp_path, agents=agents, seeds=range(3))))
    assert "network.ansatz: &#x27;gone&#x27; is not registered" in text


def test_what_comes_from_files_is_escaped(tmp_path: Path, simulated: SimpleNamespace) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    study = simulated.write_study(tmp_path, agents=simulated.standard_agents()[:2], seeds=range(3))
    directory = study / "twin" / "seed=1"
    done = json.loads((directory / "DONE.json").read_text())
    (directory / "DONE.json").write_text(json.dumps({**done, "status": "failed", "reason": attack}))
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps({**manifest, "cpu": attack, attack: attack}))
    for recipe in study.rglob("recipe.toml"):
        recipe.write_text(
            recipe.read_text()
            .replace("qrl/TargetSteering-v0", attack)
            .replace('"beam-steering"', f'"{attack}"')
        )
    (study / "twin").rename(study / "<b>twin")
    page = report_page(compare(study))
    parser = Elements()
    parser.feed(page)
    assert "onerror" not in {name for _, attributes in parser.tags for name in attributes}
    assert "<script>alert" not in page
    assert "<b>twin" not in page
    assert (
        len(re.findall(r"<script[ >]", page.split("plotly.js v")[0])) == 3
    )  # two of data, then Plotly itself


# files -----------------------------------------------------------------------------------------------


def test_one_page_a_study_and_an_index_for_a_root(tmp_path: Path, simulated: SimpleNamespace) -> None:
    for name in ("first", "second"):
        simulated.write_study(tmp_path, name=name, agents=simulated.standard_agents()[:2], seeds=range(3))
    assert write_report(tmp_path / "first" / "hybrid") == [tmp_path / "first" / "report.html"]
    pages = write_report(tmp_path)
    assert pages == [
        tmp_path / "first" / "report.html",
        tmp_path / "second" / "report.html",
        tmp_path / "report.html",
    ]
    index = pages[-1].read_text()
    assert 'href="first/report.html"' in index
    assert 'href="second/report.html"' in index
    assert "Too few seeds" in index
    with pytest.raises(ValueError, match=r"^paths: no path is given"):
        write_report([])


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "report.html"
    report.write_atomically(page, "old")

    def full_disk(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        report.write_atomically(page, "new")
    assert page.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_page_is_the_same_twice(result: StudyResult, page: str) -> None:
    assert report_page(result) == page
