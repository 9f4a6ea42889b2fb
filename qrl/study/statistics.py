"""Statistics over seeds: interquartile mean, bootstrap intervals, ratios, probability of improvement.

Every estimate carries the number of seeds behind it. Below three seeds no interval is given, below ten it
is a development figure. Time and cost to a threshold, with runs that never reached it, are in
`qrl.study.survival`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Statistic = Callable[..., Array]

MINIMUM_FOR_INTERVAL = 3
"""Fewest seeds for which an interval is given."""
MINIMUM_FOR_RESULT = 10
"""Fewest seeds for which a figure is more than a development figure."""
DRAWS = 2_000
"""Bootstrap draws of an estimate."""
COMPARISON_DRAWS = 20_000
"""Bootstrap draws of a comparison: with few seeds its interval reaches far into the tails."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number over seeds with its 95 % interval: `low` and `high` are None where no interval may be given.

    `value` is None where nothing is known, and infinite where the cost of a success is (no run succeeded).
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def stage(self) -> str:
        """`too few seeds` below 3, `development` below 10, else empty."""
        if self.n < MINIMUM_FOR_INTERVAL:
            return "too few seeds"
        return "development" if self.n < MINIMUM_FOR_RESULT else ""


@dataclass(frozen=True, slots=True)
class Comparison(Estimate):
    """A ratio or difference of two agents with interval and two-sided bootstrap p-value (None without
    interval).

    `paired` says whether both agents were resampled by the same seeds.
    """

    p_value: float | None
    paired: bool


def iqm(values: ArrayLike, axis: int = -1) -> Array:
    r"""Interquartile mean: the mean of the middle half of the values along `axis`.

    The sorted values are given equal mass 1/n on [0, 1] and the mass in [1/4, 3/4] is averaged, so that
    values at the cut count by a fraction and n need not be a multiple of 4 (there `scipy.stats.trim_mean(x,
    0.25)` cuts fewer than a quarter; where 4 divides n both agree).

    Source: Agarwal et al., arXiv:2108.13264, section 4.3; fractional weights: own construction.
    """
    data = np.sort(np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1), axis=-1)
    edges = np.linspace(0.0, 1.0, data.shape[-1] + 1)
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0.0, None)
    inside = np.where(weights > 0, data, 0.0)  # a trimmed infinity must not become infinity times zero
    return np.asarray(inside @ weights / weights.sum())


def optimality_gap(scores: ArrayLike, axis: int = -1) -> Array:
    """Mean of `max(0, 1 - score)` over normalised scores: what is missing to the reference, with no credit beyond it.

    Source: Agarwal et al., arXiv:2108.13264, section 4.3.
    """
    return np.asarray(np.maximum(0.0, 1.0 - np.asarray(scores, dtype=np.float64)).mean(axis=axis))


def stratified_bootstrap(
    scores: Sequence[ArrayLike], statistic: Statistic = iqm, *, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """Statistic of scores pooled over tasks, with its 95 % percentile interval, runs resampled within each
    task.

    `scores` holds one array `(n_runs,)` a task; `statistic` maps `(..., n)` to `(...)`. `n` is the smallest
    number of runs of a task. Raises ValueError for an empty task or a score that is not finite.

    Source: Agarwal et al., arXiv:2108.13264, section 4.1.
    """
    tasks = [_vector("scores", task) for task in scores]
    if not tasks:
        raise ValueError("scores: no task given; give one array of runs a task")
    rng = np.random.default_rng(seed)
    n = min(len(task) for task in tasks)
    value = float(statistic(np.concatenate(tasks)))
    if n < MINIMUM_FOR_INTERVAL:
        return Estimate(value, None, None, n)
    resampled = [task[rng.integers(0, len(task), (draws, len(task)))] for task in tasks]
    low, high = percentile_interval(statistic(np.concatenate(resampled, axis=-1)))
    return Estimate(value, low, high, n)


def bootstrap(statistic: Statistic, *data: ArrayLike, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Statistic of runs with its 95 % percentile interval; arrays `(n,)` are resampled together."""
    columns = [np.asarray(column, dtype=np.float64) for column in data]
    n = len(columns[0])
    value = float(statistic(*columns)) if n else None
    if n < MINIMUM_FOR_INTERVAL:
        return Estimate(value, None, None, n)
    rows = np.random.default_rng(seed).integers(0, n, (draws, n))
    low, high = percentile_interval(statistic(*(column[rows] for column in columns)))
    return Estimate(value, low, high, n)


def bootstrap_band(curves: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> tuple[Array, Array, Array]:
    """IQM and 95 % band of learning curves `(n_runs, n_points)`, each `(n_points,)`; whole runs are
    resampled.

    Below three runs the band is NaN.
    """
    data = np.asarray(curves, dtype=np.float64)
    n, points = data.shape
    centre = iqm(data, axis=0)
    if n < MINIMUM_FOR_INTERVAL:
        return centre, np.full(points, np.nan), np.full(points, np.nan)
    rows = np.random.default_rng(seed).integers(0, n, (draws, n))
    resampled = np.stack([iqm(data[:, point][rows]) for point in range(points)])
    low, high = np.quantile(resampled, (0.025, 0.975), axis=-1)
    return centre, np.asarray(low), np.asarray(high)


def performance_profile(
    scores: Sequence[ArrayLike], levels: ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Fraction of the scores of all tasks above each level `(k,)`, and its pointwise 95 % band, each `(k,)`.

    `scores` holds one array `(n_runs,)` a task; runs are resampled within each task. Below three runs the band is NaN.

    Source: Agarwal et al., arXiv:2108.13264, section 4.2.
    """
    tasks = [_vector("scores", task) for task in scores]
    grid = np.asarray(levels, dtype=np.float64)
    above = [(task[:, None] > grid).astype(np.float64) for task in tasks]  # (n_runs, k)
    total = sum(map(len, tasks))
    centre = np.sum([rows.sum(axis=0) for rows in above], axis=0) / total
    if min(map(len, tasks)) < MINIMUM_FOR_INTERVAL:
        return centre, np.full_like(centre, np.nan), np.full_like(centre, np.nan)
    rng = np.random.default_rng(seed)
    drawn = np.sum([resampling_counts(len(rows), draws, rng) @ rows for rows in above], axis=0) / total
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return centre, np.asarray(low), np.asarray(high)


def resampling_counts(n: int, draws: int, rng: np.random.Generator) -> Array:
    """How often each of n runs is drawn in each bootstrap draw, `(draws, n)`: a resampled sum is a product with it."""
    return rng.multinomial(n, np.full(n, 1 / n), draws).astype(np.float64)


def compare_bootstrap(
    statistic: Statistic,
    a: Sequence[ArrayLike],
    b: Sequence[ArrayLike],
    *,
    form: Literal["ratio", "difference"],
    paired: bool,
    level: float = 0.95,
    draws: int = COMPARISON_DRAWS,
    seed: int = 0,
) -> Comparison:
    r"""Ratio `T(a)/T(b)` or difference `T(a) - T(b)` of a statistic, with bootstrap interval and p-value.

    `a` and `b` are the arrays `(n,)` that `statistic` takes; paired resampling draws the same seeds on both
    sides and needs equal lengths. The interval is the expanded percentile interval: with few seeds
    percentiles are too narrow (14 % instead of 5 % of equal agents look different at five seeds, by
    simulation), so the tail is :math:`\Phi(-\sqrt{n/(n-1)}\, t_{n-1}(0.975))`. A draw in which both sides
    are infinite decides nothing and widens both ends. The two-sided p-value is that of `t_{n-1}` for the
    (log) statistic over its bootstrap standard error times `sqrt(n/(n-1))`; where draws are infinite, the
    share of draws beyond "equal".

    Source: Hesterberg (2015), arXiv:1411.5279, section 5.3 (expanded percentile interval); the rest own
    construction.
    """
    left, right = ([np.asarray(column, dtype=np.float64) for column in side] for side in (a, b))
    n, m = len(left[0]), len(right[0])
    if paired and n != m:
        raise ValueError(f"paired: {n} runs against {m}; give the runs of the common seeds, or paired=False")
    if min(n, m) == 0:
        return Comparison(None, None, None, 0, None, paired)
    value = float(_combine(np.asarray(statistic(*left)), np.asarray(statistic(*right)), form))
    known = None if math.isnan(value) else value
    if min(n, m) < MINIMUM_FOR_INTERVAL:
        return Comparison(known, None, None, min(n, m), None, paired)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, n, (draws, n))
    columns = rows if paired else rng.integers(0, m, (draws, m))
    drawn = _combine(statistic(*(x[rows] for x in left)), statistic(*(x[columns] for x in right)), form)
    return compare_draws(value, drawn, form=form, n=min(n, m), paired=paired, level=level)


def compare_draws(
    value: float,
    drawn: Array,
    *,
    form: Literal["ratio", "difference"],
    n: int,
    paired: bool,
    level: float = 0.95,
) -> Comparison:
    """The comparison that bootstrap draws `(draws,)` of a ratio or difference give: see `compare_bootstrap`.

    A draw that decides nothing is NaN; `n` is the smaller number of runs of the two sides.
    """
    tail = _expanded_tail(n, level)
    floor = 0.0 if form == "ratio" else -np.inf
    low = _order_statistic(np.where(np.isnan(drawn), floor, drawn), tail)
    high = _order_statistic(np.where(np.isnan(drawn), np.inf, drawn), 1 - tail)
    known = None if math.isnan(value) else value
    return Comparison(known, low, high, n, _p_value(value, drawn, form, n), paired)


def _expanded_tail(n: int, level: float = 0.95) -> float:
    from scipy.special import ndtr, stdtrit

    return float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + level) / 2)))


def _p_value(value: float, drawn: Array, form: str, n: int) -> float:
    from scipy.special import ndtri, stdtr

    null = 1.0 if form == "ratio" else 0.0
    if np.all(np.isfinite(drawn)) and (form == "difference" or np.all(drawn > 0)):
        scale = np.log if form == "ratio" else np.asarray
        error = float(np.std(scale(drawn))) * math.sqrt(n / (n - 1))
        distance = abs(float(scale(np.asarray(value))) - float(scale(np.asarray(null))))
        if error > 0:
            return float(2 * stdtr(n - 1, -distance / error))
    undecided = np.isnan(drawn)
    tail = min(int(np.sum((drawn <= null) | undecided)), int(np.sum((drawn >= null) | undecided)))
    share = (tail + 1) / (len(drawn) + 1)
    # the inverse of `_expanded_tail`: this p is below 0.05 where the expanded interval leaves out equality
    return float(2 * stdtr(n - 1, ndtri(min(share, 0.5)) / math.sqrt(n / (n - 1))))


def probability_of_improvement(x: ArrayLike, y: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    r"""`P(X > Y) + P(X = Y)/2` over all pairs of runs, with a 95 % interval: both sides resampled.

    Equal to the Mann-Whitney statistic `U/(n m)`. Source: Agarwal et al., arXiv:2108.13264, section 4.3.
    """
    left, right = _vector("x", x), _vector("y", y)
    better = (np.sign(left[:, None] - right[None, :]) + 1) / 2
    n = min(len(left), len(right))
    value = float(better.mean())
    if n < MINIMUM_FOR_INTERVAL:
        return Estimate(value, None, None, n)
    rng = np.random.default_rng(seed)
    mine, theirs = (resampling_counts(len(side), draws, rng) for side in (left, right))
    low, high = percentile_interval((mine @ better * theirs).sum(axis=1) / better.size)
    return Estimate(value, low, high, n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: adjusted p-values in the given order.

    Source: Holm (1979), Scand. J. Statist. 6, 65-70.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def normalised_score(value: ArrayLike, random: float, reference: float) -> Array:
    """`(G - G_random)/(G_reference - G_random)`: 0 is the random policy, 1 the reference; not clipped.

    Raises ValueError where the reference equals the random score.
    """
    if not (math.isfinite(random) and math.isfinite(reference)) or random == reference:
        raise ValueError(
            f"reference: {reference} against random {random} spans no scale; give two different finite scores"
        )
    return (np.asarray(value, dtype=np.float64) - random) / (reference - random)


def percentile_interval(drawn: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap draws, by order statistics, so that infinite draws stay infinite."""
    data = np.asarray(drawn, dtype=np.float64)
    return _order_statistic(data, (1 - level) / 2), _order_statistic(data, (1 + level) / 2)


def _order_statistic(drawn: Array, q: float) -> float:
    return float(np.sort(drawn)[max(0, math.ceil(q * len(drawn)) - 1)])


def _combine(a: Array, b: Array, form: str) -> Array:
    """Elementwise ratio or difference; NaN where both sides are infinite, or both are zero in a ratio."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(a, b) if form == "ratio" else np.subtract(a, b))


def _vector(name: str, values: ArrayLike) -> Array:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) == 0:
        raise ValueError(f"{name}: shape {data.shape} is no list of runs; give at least one number a run")
    if not np.all(np.isfinite(data)):
        raise ValueError(
            f"{name}: contains a value that is not finite; replace a failed run by its floor score"
        )
    return data
