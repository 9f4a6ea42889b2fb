"""Sample complexity against hand-computed cases and a plain transcription of its definition."""

from __future__ import annotations

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest

from qrl.study import sample_complexity as module
from qrl.study.comparison import compare
from qrl.study.sample_complexity import common_looks, sample_complexity, scale_of, seen_at

# four runs, four looks of 10 interactions: p(e) above 0.8 is 1/4, 2/4, 2/4, 1
HAND = [[0.95, 0.95, 0.95, 0.95], [0.5, 0.95, 0.5, 0.95], [0.5, 0.5, 0.95, 0.95], [0.5, 0.5, 0.5, 0.85]]
LOOKS = [10.0, 20.0, 30.0, 40.0]


def by_definition(scores: np.ndarray, ends: np.ndarray, epsilon: float, probability: float) -> float:
    """The formula, one look after the other."""
    spent, before = 0.0, 0.0
    for look, end in enumerate(ends):
        succeeding = sum(run[look] > 1 - epsilon for run in scores) / len(scores)
        spent += (end - before) * (succeeding < probability)
        before = end
    return spent


def test_hand_computed_cells() -> None:
    cells = sample_complexity(HAND, LOOKS)
    found = {(c.epsilon, c.success_probability): (c.value, c.first_crossing) for c in cells}
    assert found == {
        (0.2, 0.5): (10.0, 20.0),
        (0.2, 0.75): (30.0, 40.0),
        (0.2, 0.9): (30.0, 40.0),
        (0.15, 0.5): (10.0, 20.0),
        (0.15, 0.75): (30.0, 40.0),
        (0.15, 0.9): (40.0, math.inf),
        (0.1, 0.5): (10.0, 20.0),
        (0.1, 0.75): (30.0, 40.0),
        (0.1, 0.9): (40.0, math.inf),
    }
    assert {c.n for c in cells} == {4}


def test_all_failing_looks_count_and_not_those_before_the_first_crossing_alone() -> None:
    # both runs succeed at the second look, relapse, and return: two more failing looks are charged
    (cell,) = sample_complexity(
        [[0, 1, 0, 0, 1, 1]] * 2, np.arange(1, 7) * 5.0, epsilons=[0.1], success_probabilities=[0.9]
    )
    assert (cell.value, cell.first_crossing) == (15.0, 10.0)


def test_it_is_the_definition_on_uneven_looks() -> None:
    rng = np.random.default_rng(3)
    scores, ends = rng.random((17, 12)).cumsum(axis=1) / 5, rng.integers(1, 900, 12).cumsum().astype(float)
    for cell in sample_complexity(scores, ends, draws=2):
        assert cell.value == by_definition(scores, ends, cell.epsilon, cell.success_probability)


def test_a_success_probability_is_a_share_that_must_succeed() -> None:
    """A larger one asks for more: nine of ten succeeding runs meet 0.9, and would not meet a failure rate of that."""
    scores = np.array([[0.0, 1.0]] * 9 + [[0.0, 0.0]])
    values = {
        c.success_probability: c.value
        for c in sample_complexity(
            scores, [10, 20], epsilons=[0.1], success_probabilities=[0.1, 0.5, 0.9, 0.95]
        )
    }
    assert values == {0.1: 10.0, 0.5: 10.0, 0.9: 10.0, 0.95: 20.0}
    for function in (module.sample_complexity, module.Successes.complexities):
        assert "delta" not in inspect.signature(function).parameters
    assert "success_probabilities" in inspect.signature(module.sample_complexity).parameters
    assert "share of runs that must\n    succeed" in (module.sample_complexity.__doc__ or "")


def test_the_interval_resamples_whole_runs_and_holds_the_value() -> None:
    rng = np.random.default_rng(8)
    # runs learn at a moment of their own and stay: looks of a run depend on each other
    moments, ends = rng.integers(1, 21, 40), np.arange(1, 21) * 100.0
    scores = (ends[None, :] >= 100.0 * moments[:, None]).astype(float)
    cells = sample_complexity(scores, ends, epsilons=[0.1], draws=4_000, seed=1)
    for cell, quantile in zip(cells, (0.5, 0.75, 0.9), strict=True):
        assert cell.low is not None
        assert cell.high is not None
        assert cell.value is not None
        assert cell.low <= cell.value <= cell.high
        drawn = []
        for _ in range(1_500):
            chosen = scores[rng.integers(0, 40, 40)]
            drawn.append(by_definition(chosen, ends, 0.1, quantile))
        low, high = np.percentile(drawn, (5, 95))
        assert cell.low == pytest.approx(low, abs=100.0)  # one look
        assert cell.high == pytest.approx(high, abs=100.0)


def test_the_90_percent_interval_covers() -> None:
    ends, hits = np.arange(1, 51) * 10.0, 0
    truth = 10.0 * 24  # 25 of 50 moments lie at or below the look at which half of all runs succeed
    rng = np.random.default_rng(0)
    for trial in range(200):
        scores = (ends[None, :] >= 10.0 * rng.integers(1, 51, 60)[:, None]).astype(float)
        (cell,) = sample_complexity(
            scores, ends, epsilons=[0.1], success_probabilities=[0.5], draws=300, seed=trial
        )
        assert cell.low is not None
        assert cell.high is not None
        hits += cell.low <= truth <= cell.high
    assert 165 <= hits <= 198  # 180 expected, standard deviation 4.2


def test_at_the_budget_a_complexity_is_a_lower_bound() -> None:
    late = np.zeros((10, 5))
    late[:6, 4] = 1.0  # six of ten succeed at the last look: half of them in most draws, never nine in ten
    cells = {c.success_probability: c for c in sample_complexity(late, np.arange(1, 6) * 1.0, epsilons=[0.1])}
    assert (cells[0.5].value, cells[0.5].high, cells[0.5].censored) == (4.0, 5.0, True)
    assert (cells[0.9].value, cells[0.9].first_crossing, cells[0.9].censored) == (5.0, math.inf, True)
    early = np.ones((10, 5))
    assert not any(c.censored for c in sample_complexity(early, np.arange(1, 6) * 1.0))


@pytest.mark.parametrize("n", [1, 2])
def test_below_three_runs_there_is_no_interval(n: int) -> None:
    cell = sample_complexity(HAND[:n], LOOKS)[0]
    assert (cell.low, cell.high, cell.stage) == (None, None, "too few seeds")
    assert sample_complexity(np.zeros((n, 4)), LOOKS)[0].censored


def test_a_failed_run_never_succeeds_after_its_end() -> None:
    (cell,) = sample_complexity(
        [[1.0, np.nan], [1.0, 1.0]], [10, 20], epsilons=[0.1], success_probabilities=[0.9]
    )
    assert cell.value == 10.0


def test_inputs_are_refused_in_one_line() -> None:
    with pytest.raises(
        ValueError, match=r"^scores: shape \(4, 4\) against \(3,\) looks; give one row a run$"
    ):
        sample_complexity(HAND, LOOKS[:3])
    with pytest.raises(
        ValueError, match=r"^looks: do not rise from above 0; leave out the look before training$"
    ):
        sample_complexity(HAND, [0, 10, 20, 30])


# one grid for all agents ---------------------------------------------------------------------------------


def test_agents_are_seen_on_the_coarsest_grid_cut_at_the_common_budget() -> None:
    fine, coarse = np.arange(0, 101) * 1_000.0, np.arange(0, 50) * 2_048.0
    looks, ends = common_looks([fine, coarse])
    assert looks.tolist() == coarse[1:].tolist()
    assert (ends[:-1] == looks[:-1]).all()
    assert ends[-1] == 100_000.0  # the last rollout goes on to 100,352: charged to nobody
    shorter, at = common_looks([np.arange(1, 6) * 10.0, np.array([20.0, 40.0, 60.0, 80.0])])
    assert (shorter.tolist(), at.tolist()) == ([20.0, 40.0, 60.0], [20.0, 40.0, 50.0])


def test_periods_too_far_apart_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^evaluations: one agent is seen every 10 interactions, another every 500"
    ):
        common_looks([np.arange(1, 101) * 10.0, [500.0, 1_000.0]])
    with pytest.raises(ValueError, match=r"^evaluations: an agent has none after its first step"):
        common_looks([[0.0], [1.0]])


def test_an_agent_is_seen_by_its_last_evaluation_and_not_after_a_failure() -> None:
    def outcome(looks: list[float], returns: list[float], status: str = "finished") -> SimpleNamespace:
        costs = SimpleNamespace(interactions=np.array(looks))
        return SimpleNamespace(costs=costs, returns=np.array(returns), status=status)

    runs = [
        outcome([0, 10, 25, 40], [0, 1, 2, 4]),
        outcome([0, 10], [0, 1], "diverged"),
        outcome([30], [3]),
        outcome([], [], "failed"),
    ]
    seen = seen_at(runs, np.array([10.0, 20.0, 30.0, 45.0]))  # type: ignore[arg-type]
    expected = [[1, 1, 2, 4], [1, np.nan, np.nan, np.nan], [np.nan, np.nan, 3, 3], [np.nan] * 4]
    np.testing.assert_array_equal(seen, expected)


# the scale -----------------------------------------------------------------------------------------------


def agent(name: str, kind: str, *returns: list[float]) -> SimpleNamespace:
    outcomes = tuple(SimpleNamespace(returns=np.array(values)) for values in returns)
    return SimpleNamespace(name=name, kind=kind, outcomes=outcomes, n=len(outcomes))


AGENTS = [
    agent("hybrid", "quantum", [-300.0, -90.0], [-200.0, -110.0]),
    agent("chance", "random", [-380.0, -360.0]),
]


@pytest.mark.parametrize(
    ("threshold", "ends", "words"),
    [
        (
            None,
            (-370.0, -90.0),
            "the best evaluation of any agent (of hybrid); 0 is -370, the mean of the random agent",
        ),
        ({"optimum": -83.0}, (-370.0, -83.0), "1 is -83, the recipe's optimum; 0 is -370"),
        ({"optimum": -83.0, "random": -400.0}, (-400.0, -83.0), "0 is -400, the recipe's random policy"),
        ({"optimum": 500.0}, (0.0, 500.0), "1 is 500, the recipe's optimum; 0 is 0, no score"),
    ],
)
def test_the_scale_is_documented(
    threshold: dict[str, float] | None, ends: tuple[float, float], words: str
) -> None:
    scale = scale_of({"threshold": threshold}, AGENTS)  # type: ignore[arg-type]
    assert (scale.zero, scale.one) == ends
    assert words in scale.words
    assert scale([ends[0], ends[1], sum(ends) / 2]) == pytest.approx([0.0, 1.0, 0.5])


def test_without_a_random_agent_the_lowest_evaluation_is_zero() -> None:
    scale = scale_of({}, AGENTS[:1])  # type: ignore[arg-type]
    assert (scale.zero, scale.one) == (-300.0, -90.0)
    assert "the lowest evaluation of any agent" in scale.words


def test_a_scale_needs_two_different_scores() -> None:
    one = [agent("a", "classical", [-1.0])]
    with pytest.raises(ValueError, match=r"^threshold.optimum: -5 is not above -1, the lowest evaluation"):
        scale_of({"threshold": {"optimum": -5.0}}, one)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^threshold.optimum: -1 is not above -1"):
        scale_of({}, one)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^evaluations: no run has ended"):
        scale_of({}, [])


def test_a_study_carries_its_complexities(tmp_path, simulated) -> None:  # type: ignore[no-untyped-def]
    agents = simulated.standard_agents()
    agents[1].failing_seeds = (3,)
    result = compare(simulated.write_study(tmp_path, agents=agents, from_start=True))
    assert result.scale is not None
    assert result.no_scale == ""
    hybrid = result.agent("hybrid")
    assert len(hybrid.complexity) == 9
    assert hybrid.reached is not None
    assert hybrid.reached.ends.tolist() == [500.0 * k for k in range(1, 11)]
    scores = np.stack([result.scale(o.returns[1:]) for o in hybrid.outcomes])
    for cell in hybrid.complexity:
        expected = by_definition(scores, hybrid.reached.ends, cell.epsilon, cell.success_probability)
        assert cell.value == expected
    twin = result.agent("twin").reached
    assert twin is not None
    assert not twin.flags[:, 3, 3:].any()  # the diverged run
    assert all(c.censored for c in result.agent("random").complexity)
