"""The one definition of outperforming: hand-computed cells, its error rate, its power, what is said of resources."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from qrl.study.outperforms import (
    BOTH_CENSORED,
    SIGNIFICANCE,
    Pair,
    Scores,
    compare_grids,
    correct_for_number,
    outperforms,
)
from qrl.study.pairs import acceleration, acceleration_sentence
from qrl.study.sample_complexity import successes
from qrl.study.statistics import Estimate

ENDS = np.arange(1, 41) * 100.0
NOTHING = Estimate(None, None, None, 0)


def learner(name: str, moments: np.ndarray, **changes: object) -> Scores:
    """An agent whose runs reach the optimum at given interactions and stay; costs are those interactions."""
    moments = np.asarray(moments, dtype=float)
    n = len(moments)
    solved = moments <= ENDS[-1]
    spent = {axis: np.minimum(moments, ENDS[-1]) for axis in ("interactions", "seconds")}
    scores = (ENDS[None, :] >= moments[:, None]).astype(float)
    values: dict[str, object] = {
        "name": name,
        "seeds": tuple(range(n)),
        "solved": solved,
        "spent": spent,
        "total": dict(spent),
        "final_return": scores[:, -1],
        "mean_return": scores.mean(axis=1),
        "reached": successes(scores, ENDS),
    }
    return Scores(**{**values, **changes})  # type: ignore[arg-type]


def grid_pair(a: Scores, b: Scores, paired: bool, seed: int = 0) -> Pair:
    """A pair of which the grid alone is judged."""
    grid = compare_grids(a, b, paired, seed=seed)
    pair = Pair(a.name, b.name, False, True, len(a.seeds), paired, (), NOTHING, grid)
    return correct_for_number([pair])[0][0]


def test_a_cell_is_the_ratio_of_the_two_complexities() -> None:
    # of ten runs five succeed at the 5th look and nine at the 9th: S = 400 and 800; the other agent needs twice that
    moments = np.arange(1, 11) * 100.0
    pair = grid_pair(learner("a", moments), learner("b", 2 * moments), paired=True)
    assert [cell.test.comparison.value for cell in pair.grid] == pytest.approx(
        [400 / 900, 700 / 1_500, 800 / 1_700] * 3
    )
    assert [(c.hybrid.value, c.opponent.value) for c in pair.grid[:3]] == [
        (400, 900),
        (700, 1_500),
        (800, 1_700),
    ]


def test_the_interval_of_a_cell_is_that_of_resampled_runs() -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.lognormal(mu, 0.4, 30) * 1_000 for mu in (0.0, 0.3))
    cell = grid_pair(learner("a", a), learner("b", b), paired=False).grid[0]
    drawn = []
    for _ in range(4_000):  # by definition, one resampled study after the other
        sides = [np.sort(moments[rng.integers(0, 30, 30)])[14] for moments in (a, b)]
        drawn.append(np.divide(*[100.0 * (np.ceil(moment / 100.0) - 1) for moment in sides]))
    tail = stats.norm.cdf(-math.sqrt(30 / 29) * stats.t.ppf(0.975, 29))
    low, high = np.quantile(drawn, (tail, 1 - tail))
    assert cell.test.comparison.low == pytest.approx(low, rel=0.06)
    assert cell.test.comparison.high == pytest.approx(high, rel=0.06)
    distance = abs(math.log(cell.test.comparison.value or 0.0)) / (np.std(np.log(drawn)) * math.sqrt(30 / 29))
    assert cell.test.comparison.p_value == pytest.approx(2 * stats.t.sf(distance, 29), rel=0.25)


def test_pairing_by_seed_takes_out_what_the_seeds_share() -> None:
    rng = np.random.default_rng(5)
    common = rng.lognormal(0, 0.4, 40) * 1_000
    a, b = learner("a", common), learner("b", 1.2 * common)
    paired, apart = (grid_pair(a, b, paired).grid[1].test for paired in (True, False))
    assert paired.comparison.value == apart.comparison.value
    assert paired.verdict == "faster"
    assert apart.verdict == "not distinguishable"
    assert (paired.comparison.p_value or 1) < (apart.comparison.p_value or 0)


@pytest.mark.parametrize("paired", [True, False])
def test_equal_agents_differ_anywhere_in_the_grid_no_more_often_than_promised(paired: bool) -> None:
    rng = np.random.default_rng(17)
    wrong = 0
    for trial in range(100):
        a, b = (rng.lognormal(0, 0.4, 15) * 1_000 for _ in range(2))
        pair = grid_pair(learner("a", a), learner("b", b), paired, trial)
        wrong += any(c.test.verdict in ("faster", "slower") for c in pair.grid)
    assert wrong <= 11  # 5 % of 100, standard deviation 2.2


def test_a_large_difference_is_found_over_the_whole_grid() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.lognormal(0, 0.3, 20) * scale for scale in (600, 1_800))
    pair = grid_pair(learner("a", a), learner("b", b), paired=False)
    assert {cell.test.verdict for cell in pair.grid} == {"faster"}
    assert {cell.test.verdict for cell in grid_pair(learner("b", b), learner("a", a), paired=False).grid} == {
        "slower"
    }


def test_verdicts_are_adjusted_by_holm_over_all_cells_of_all_pairs() -> None:
    rng = np.random.default_rng(6)
    a, b = learner("a", rng.lognormal(0, 0.3, 20) * 600), learner("b", rng.lognormal(0, 0.3, 20) * 1_000)
    alone = grid_pair(a, b, paired=False)
    raw = [cell.test.comparison.p_value for cell in alone.grid]
    ordered = sorted(p for p in raw if p is not None)
    assert alone.grid[int(np.argmin([p or 1 for p in raw]))].test.p_holm == pytest.approx(9 * ordered[0])
    both, _ = correct_for_number([replace(alone, grid=alone.grid)] * 2)
    smallest = min(cell.test.p_holm or 1 for pair in both for cell in pair.grid)
    assert smallest == pytest.approx(18 * ordered[0])
    for pair in (alone, *both):
        for cell in pair.grid:
            c = cell.test.comparison
            assert (cell.test.verdict == "faster") == (
                (c.high or 2) < 1 and (cell.test.p_holm or 1) < SIGNIFICANCE
            )


def test_a_censored_complexity_enters_no_ratio() -> None:
    moments = np.arange(1, 11) * 100.0
    never = learner("never", np.full(10, 9_999.0))
    pair = grid_pair(learner("a", moments), never, paired=True)
    for cell in pair.grid:
        c = cell.test.comparison
        assert (c.value, c.low, c.high) == (None, None, None)
        # all ten runs against none: two of C(20, 10) tables are as extreme
        assert c.p_value == pytest.approx(2 / math.comb(20, 10))
        assert cell.test.verdict == "faster"
        assert cell.test.note == "no ratio: opponent ≥ 4,000"
    turned = grid_pair(never, learner("a", moments), paired=True)
    assert {cell.test.verdict for cell in turned.grid} == {"slower"}
    both = grid_pair(never, never, paired=True)
    assert {(c.test.verdict, c.test.note, c.test.comparison.p_value) for c in both.grid} == {
        ("not distinguishable", BOTH_CENSORED, None)
    }


def test_a_censored_side_with_more_runs_near_the_optimum_is_not_called_slower() -> None:
    # the first never gets there, the second does and loses it at the last look: by then neither is ahead
    late = learner("late", np.full(10, ENDS[-1]))
    scores = np.zeros((10, 40))
    scores[:, 5:39] = 1.0
    lost = replace(late, name="lost", reached=successes(scores, ENDS))
    late = replace(late, reached=successes(np.zeros((10, 40)), ENDS))
    cell = grid_pair(late, lost, paired=True).grid[0]
    assert cell.test.censored == (True, False)
    assert (cell.test.comparison.p_value, cell.test.verdict) == (1.0, "not distinguishable")


def test_the_order_is_tested_where_a_few_late_runs_censor_one_side() -> None:
    rng = np.random.default_rng(21)
    moments = rng.lognormal(0, 0.2, 20) * 2_500
    moments[:3] = 9_999.0  # with three of twenty that never learn, the budget cuts off what nine in ten need
    a, b = learner("a", rng.lognormal(0, 0.2, 20) * 800), learner("b", moments)
    cells = grid_pair(a, b, paired=False).grid
    half, three_quarters, most = cells[:3]
    assert [c.test.censored for c in (half, three_quarters, most)] == [
        (False, False),
        (False, True),
        (False, True),
    ]
    assert half.test.comparison.value is not None
    assert three_quarters.test.comparison.value is None
    assert three_quarters.test.verdict == "faster"
    # seventeen of twenty at the end against twenty: by counts alone no difference
    assert most.test.comparison.p_value == pytest.approx(stats.fisher_exact([[20, 0], [17, 3]]).pvalue)
    assert most.test.verdict == "not distinguishable"


def test_executions_are_compared_between_agents_that_both_have_some() -> None:
    rng = np.random.default_rng(9)
    moments = rng.lognormal(0, 0.2, 12) * 1_000
    a, b, c = (learner(name, moments) for name in "abc")
    for side, cost in ((a, 3.0), (b, 9.0), (c, 0.0)):
        for kind in (side.spent, side.total):
            kind["executions"] = cost * side.spent["interactions"]  # type: ignore[index]
    pair = outperforms(a, b, has_threshold=True)
    assert pair.axis("executions").comparison.value == pytest.approx(1 / 3)
    assert pair.axis("executions").verdict == "faster"
    assert "executions" not in [axis.axis for axis in outperforms(a, c, has_threshold=True).axes]


def test_agents_without_common_seeds_are_compared_apart() -> None:
    rng = np.random.default_rng(3)
    a = learner("a", rng.lognormal(0, 0.3, 12) * 500)
    b = learner("b", rng.lognormal(0, 0.3, 14) * 1_800, seeds=tuple(range(100, 114)))
    pair = outperforms(a, b, has_threshold=True)
    assert (pair.paired, pair.n) == (False, 12)
    assert pair.axis("interactions").verdict == "faster"
    assert [cell.test.verdict for cell in pair.grid[:2]] == ["faster"] * 2


# which resource is accelerated ------------------------------------------------------------------------------


def test_the_resource_that_is_accelerated_is_named() -> None:
    rng = np.random.default_rng(4)
    steps = rng.lognormal(0, 0.2, 20) * 600
    a, b = learner("a", steps), learner("b", 2.5 * steps)
    a.spent["seconds"][:] *= 10.0  # type: ignore[index]
    pair = outperforms(a, b, has_threshold=True)
    changes = {resource.name: resource.change for resource in acceleration(pair)}
    assert changes == {"sample complexity": "accelerated", "seconds": "slowed down"}
    sentence = acceleration_sentence(pair)
    assert sentence.startswith(
        "Training is accelerated in sample complexity (faster in 9 and slower in 0 of 9 cells"
    )
    assert "slowed down in seconds (ratio 4.0" in sentence
    turned = acceleration_sentence(outperforms(b, a, has_threshold=True))
    assert "accelerated in seconds (ratio 0.25" in turned
    assert "slowed down in sample complexity (faster in 0 and slower in 9 of 9 cells" in turned


def test_a_difference_in_a_few_cells_is_no_acceleration() -> None:
    rng = np.random.default_rng(7)
    a = learner("a", rng.lognormal(0, 0.2, 20) * 600)
    pair = outperforms(a, learner("b", 2.5 * np.asarray(a.spent["interactions"])), has_threshold=True)
    for n, change in ((5, "accelerated"), (4, "not decided")):
        cells = [
            c if k < n else replace(c, test=replace(c.test, verdict="not distinguishable"))
            for k, c in enumerate(pair.grid)
        ]
        assert acceleration(replace(pair, grid=tuple(cells)))[0].change == change
    undecided = [replace(c, test=replace(c.test, verdict="not distinguishable")) for c in pair.grid]
    words = acceleration_sentence(replace(pair, grid=tuple(undecided)))
    assert words.startswith("Training is accelerated in seconds (ratio 0.40")
    assert words.endswith(
        "Not decided: sample complexity (faster in 0 and slower in 0 of 9 cells of the grid)."
    )
    against = replace(pair.grid[8], test=replace(pair.grid[8].test, verdict="slower"))
    assert acceleration(replace(pair, grid=(*pair.grid[:8], against)))[0].change == "not decided"


def test_without_a_grid_the_threshold_decides_and_without_either_nothing() -> None:
    rng = np.random.default_rng(4)
    steps = rng.lognormal(0, 0.2, 20) * 600
    a, b = learner("a", steps, reached=None), learner("b", 2.5 * steps, reached=None)
    (interactions, _) = acceleration(outperforms(a, b, has_threshold=True))
    assert (interactions.name, interactions.change) == ("interactions", "accelerated")
    assert acceleration(outperforms(a, b, has_threshold=False)) == ()
    few = outperforms(a.of(range(4)), b.of(range(4)), has_threshold=True)
    assert acceleration_sentence(few) == ""
    assert {axis.verdict for axis in few.axes if axis.note != "not recorded for both agents"} == {
        "too few seeds"
    }
