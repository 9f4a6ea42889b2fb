"""Statistics against scipy, hand-computed examples and simulations with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qrl.study.statistics import (
    bootstrap,
    bootstrap_band,
    compare_bootstrap,
    holm,
    iqm,
    normalised_score,
    percentile_interval,
    probability_of_improvement,
    stratified_bootstrap,
)
from qrl.study.survival import (
    expected_cost,
    expected_cost_interval,
    fraction_solved,
    kaplan_meier,
    restricted_mean,
)

SCORES = np.random.default_rng(5).normal(1.0, 0.3, 24)
HAND_COST, HAND_SOLVED = [2.0, 4.0, 6.0, 10.0], [True, True, True, False]


# interquartile mean ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 8, 24, 100])
def test_iqm_is_scipys_trimmed_mean_where_four_divides_n(n: int) -> None:
    values = np.random.default_rng(n).lognormal(size=n)
    assert iqm(values) == pytest.approx(stats.trim_mean(values, 0.25), rel=1e-14)


def test_iqm_weighs_the_values_at_the_cut() -> None:
    # five values of mass 1/5: a quarter cuts the first and 1/4 of the second, so weights 0, 3/4, 1, 3/4, 0
    assert iqm([1.0, 2.0, 4.0, 8.0, 100.0]) == pytest.approx((0.75 * 2 + 4 + 0.75 * 8) / 2.5)
    assert stats.trim_mean([1.0, 2.0, 4.0, 8.0, 100.0], 0.25) == pytest.approx(
        14 / 3
    )  # cuts one value, a fifth, a side
    assert iqm([3.0]) == 3.0
    assert iqm([1.0, 2.0]) == 1.5


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_iqm_of_four_copies_is_the_trimmed_mean_of_them(values: list[float]) -> None:
    # copying every value four times changes no mass, and then whole values are cut
    expected = stats.trim_mean(np.repeat(values, 4), 0.25)
    assert iqm(values) == pytest.approx(expected, rel=1e-9, abs=1e-7)


def test_iqm_ignores_an_infinite_tail_and_keeps_shape() -> None:
    assert iqm([1.0, 2.0, 3.0, math.inf]) == 2.5
    assert iqm(np.ones((3, 7, 5)), axis=1).shape == (3, 5)


# bootstrap -------------------------------------------------------------------------------------------


def test_bootstrap_agrees_with_scipy() -> None:
    ours = stratified_bootstrap([SCORES], seed=1)
    theirs = stats.bootstrap(
        (SCORES,), iqm, n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.015)
    assert ours.high == pytest.approx(theirs.high, abs=0.015)
    assert ours.value == pytest.approx(float(iqm(SCORES)))


def test_bootstrap_is_reproducible_and_counts_seeds() -> None:
    assert bootstrap(iqm, SCORES, seed=3) == bootstrap(iqm, SCORES, seed=3)
    assert bootstrap(iqm, SCORES, seed=3) != bootstrap(iqm, SCORES, seed=4)
    assert bootstrap(iqm, SCORES).n == 24


def test_strata_are_resampled_within_themselves() -> None:
    # two tasks without spread inside: pooling them would vary, resampling within tasks cannot
    interval = stratified_bootstrap([np.zeros(10), np.ones(10)])
    assert (interval.low, interval.high) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("n", "stage"),
    [(1, "too few seeds"), (2, "too few seeds"), (3, "development"), (9, "development"), (10, "")],
)
def test_few_seeds_have_no_interval_or_a_label(n: int, stage: str) -> None:
    estimates = [
        stratified_bootstrap([SCORES[:n]]),
        bootstrap(iqm, SCORES[:n]),
        probability_of_improvement(SCORES[:n], SCORES[:n]),
        compare_bootstrap(iqm, (SCORES[:n],), (SCORES[:n],), form="ratio", paired=True),
        expected_cost_interval(SCORES[:n], np.ones(n)),
        kaplan_meier(SCORES[:n], np.ones(n)).median(),
    ]
    for estimate in estimates:
        assert estimate.stage == stage
        assert (estimate.low is None) == (n < 3)
        assert (estimate.high is None) == (n < 3)


def test_band_is_pointwise_and_absent_below_three_runs() -> None:
    curves = np.random.default_rng(0).normal(size=(12, 4)) + np.arange(4)
    centre, low, high = bootstrap_band(curves, seed=2)
    assert np.all(low < centre)
    assert np.all(centre < high)
    single = bootstrap(iqm, curves[:, 2], seed=2)
    assert (low[2], high[2]) == pytest.approx((single.low, single.high), abs=0.02)
    assert np.all(np.isnan(bootstrap_band(curves[:2])[1]))


def test_percentiles_keep_infinite_draws() -> None:
    assert percentile_interval([1.0] * 90 + [math.inf] * 10) == (1.0, math.inf)


def test_scores_must_be_finite() -> None:
    with pytest.raises(
        ValueError, match=r"^scores: contains a value that is not finite; replace a failed run"
    ):
        stratified_bootstrap([[1.0, math.nan]])
    with pytest.raises(ValueError, match=r"^scores: shape"):
        stratified_bootstrap([[]])


# comparisons -----------------------------------------------------------------------------------------


def test_probability_of_improvement_is_mann_whitney() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.integers(0, 6, 14).astype(float), rng.integers(0, 5, 11).astype(float)
    u = stats.mannwhitneyu(x, y).statistic
    estimate = probability_of_improvement(x, y)
    assert estimate.value == pytest.approx(u / (14 * 11))
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < u / (14 * 11) < estimate.high


def test_pairing_narrows_a_ratio_of_runs_that_share_their_difficulty() -> None:
    rng = np.random.default_rng(3)
    hard = rng.lognormal(0, 0.8, 20)
    a, b = 2 * hard * rng.lognormal(0, 0.05, 20), hard * rng.lognormal(0, 0.05, 20)
    solved = np.ones(20)
    paired = compare_bootstrap(expected_cost, (a, solved), (b, solved), form="ratio", paired=True)
    apart = compare_bootstrap(expected_cost, (a, solved), (b, solved), form="ratio", paired=False)
    assert paired.value == apart.value == pytest.approx(a.sum() / b.sum())
    assert paired.low is not None
    assert paired.high is not None
    assert apart.low is not None
    assert apart.high is not None
    assert paired.low < 2 < paired.high
    assert paired.high - paired.low < 0.3 * (apart.high - apart.low)
    assert paired.p_value is not None
    assert paired.p_value < 1e-6


def test_a_ratio_without_successes_is_infinite_and_undecided_draws_widen_it() -> None:
    cost = np.arange(1.0, 11.0)
    none, all_, few = np.zeros(10), np.ones(10), np.array([1.0] + [0.0] * 9)
    never = compare_bootstrap(expected_cost, (cost, none), (cost, all_), form="ratio", paired=True)
    assert never.value == never.low == never.high == math.inf
    neither = compare_bootstrap(expected_cost, (cost, none), (cost, none), form="ratio", paired=True)
    assert (neither.value, neither.low, neither.high, neither.p_value) == (None, 0.0, math.inf, 1.0)
    seldom = compare_bootstrap(expected_cost, (cost, none), (cost, few), form="ratio", paired=True)
    assert (seldom.low, seldom.high) == (0.0, math.inf)


def test_a_paired_comparison_needs_equal_numbers() -> None:
    with pytest.raises(ValueError, match=r"^paired: 3 runs against 2; give the runs of the common seeds"):
        compare_bootstrap(iqm, ([1, 2, 3],), ([1, 2],), form="difference", paired=True)


def test_equal_agents_look_different_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(11)
    wrong = {5: 0, 10: 0}
    for n in wrong:
        for trial in range(200):
            a, b = rng.lognormal(0, 0.4, n), rng.lognormal(0, 0.4, n)
            c = compare_bootstrap(
                expected_cost,
                (a, np.ones(n)),
                (b, np.ones(n)),
                form="ratio",
                paired=True,
                draws=400,
                seed=trial,
            )
            assert c.low is not None
            assert c.high is not None
            wrong[n] += not c.low <= 1 <= c.high
    assert wrong[5] <= 24
    assert wrong[10] <= 18


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_normalised_score_handles_negative_returns() -> None:
    assert normalised_score([-380.0, -83.0, -231.5], -380.0, -83.0) == pytest.approx([0, 1, 0.5])
    with pytest.raises(ValueError, match=r"^reference: "):
        normalised_score([1.0], 2.0, 2.0)


# cost to a threshold ---------------------------------------------------------------------------------


def test_hand_example_of_expected_cost_and_restricted_mean() -> None:
    assert float(expected_cost(HAND_COST, HAND_SOLVED)) == pytest.approx(22 / 3)
    assert restricted_mean(HAND_COST, HAND_SOLVED, 10.0) == pytest.approx(5.5)
    # with nobody censored before the last event the area under Kaplan-Meier is the same
    km = kaplan_meier(HAND_COST, HAND_SOLVED)
    widths = np.diff(np.concatenate([[0.0], km.times, [10.0]]))
    assert float(widths @ np.concatenate([[1.0], km.survival])) == pytest.approx(5.5)


def test_expected_cost_without_success_is_infinite() -> None:
    assert float(expected_cost([1.0, 2.0], [False, False])) == math.inf
    assert expected_cost([[1.0, 2.0], [3.0, 4.0]], [[1, 0], [0, 0]]).tolist() == [3.0, math.inf]


def test_restricted_mean_is_refused_beyond_the_first_censored_run() -> None:
    assert restricted_mean([2.0, 8.0, 5.0], [True, True, False], 5.0) == pytest.approx(4.0)
    with pytest.raises(ValueError, match=r"^bound: 6 is outside \(0, 5\]"):
        restricted_mean([2.0, 8.0, 5.0], [True, True, False], 6.0)


@pytest.mark.parametrize("axis", ["joules", "seconds", "money"])
def test_kaplan_meier_is_refused_on_costs(axis: str) -> None:
    with pytest.raises(ValueError, match=f"^axis: Kaplan-Meier on '{axis}' is biased.*use expected_cost"):
        kaplan_meier(HAND_COST, HAND_SOLVED, axis=axis)


def test_kaplan_meier_and_its_band_are_scipys() -> None:
    rng = np.random.default_rng(4)
    times, limits = np.round(rng.exponential(50, 40), 0) + 1, rng.uniform(20, 120, 40)
    solved = times <= limits
    seen = np.where(solved, times, limits)
    ours = kaplan_meier(seen, solved)
    theirs = stats.ecdf(stats.CensoredData(uncensored=seen[solved], right=seen[~solved])).sf
    band = theirs.confidence_interval(method="log-log")
    for k, time in enumerate(ours.times):
        assert ours.survival[k] == pytest.approx(theirs.evaluate(time), rel=1e-12)
        assert ours.low[k] == pytest.approx(band.low.evaluate(time), rel=1e-10)
        assert ours.high[k] == pytest.approx(band.high.evaluate(time), rel=1e-10)


def test_median_and_its_interval() -> None:
    median = kaplan_meier([100.0] * 3 + [200.0] * 4 + [300.0] * 3, [True] * 10).median()
    assert median.value == 200.0
    assert median.low is not None
    assert median.high is not None
    assert median.low <= 200.0 <= median.high
    never = kaplan_meier([500.0] * 10, [True] * 2 + [False] * 8).median()
    assert never.value == never.high == math.inf


def test_median_of_runs_that_all_cross_at_once_has_a_finite_interval() -> None:
    survival = kaplan_meier([500.0] * 10, [True] * 10)
    assert survival.survival.tolist() == [0.0]
    exact = stats.binomtest(0, 10).proportion_ci(method="exact")
    assert survival.high[-1] == pytest.approx(exact.high)
    median = survival.median()
    assert (median.low, median.value, median.high) == (500.0, 500.0, 500.0)


def test_fraction_solved_stops_at_the_first_unsolved_run() -> None:
    x, fraction = fraction_solved([2.0, 4.0, 9.0, 6.0], [True, True, True, False])
    assert x.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert fraction.tolist() == [0.0, 0.25, 0.5, 0.5]


def test_costs_must_be_finite() -> None:
    with pytest.raises(ValueError, match=r"^values: a cost is negative or not finite"):
        kaplan_meier([1.0, math.inf], [True, False])
    with pytest.raises(ValueError, match=r"^solved: shape"):
        expected_cost_interval([1.0, 2.0], [True])


def test_censoring_on_joules_biases_kaplan_meier_which_is_why_it_is_refused() -> None:
    """Runs stop at a step budget while joules a step differ between runs: censoring is informative."""
    rng = np.random.default_rng(6)
    n, budget = 20_000, 100.0
    steps, joules_a_step = rng.exponential(60, n), rng.lognormal(0.0, 1.0, n)
    solved = steps <= budget
    joules = np.where(solved, steps, budget) * joules_a_step
    km = kaplan_meier(joules, solved)  # taken for interactions only to show what would come out
    for truth, biased in ((0.57, 0.55), (0.74, 0.71), (0.88, 0.83), (0.95, 0.91)):
        point = np.quantile(steps * joules_a_step, truth)
        estimate = 1 - float(km.survival[np.searchsorted(km.times, point, side="right") - 1])
        assert estimate == pytest.approx(biased, abs=0.012)
    # on the axis of the budget the same estimator is right
    km = kaplan_meier(np.where(solved, steps, budget), solved)
    estimate = 1 - float(km.survival[np.searchsorted(km.times, 50.0, side="right") - 1])
    assert estimate == pytest.approx(1 - math.exp(-50 / 60), abs=0.012)
