"""Time and cost to a threshold when some runs never reach it.

A run that does not reach the threshold is right-censored at what it spent; averaging the successes alone is
never done. Kaplan-Meier belongs on the axis on which the budget was set, interactions: there every run is
censored at the same point. On seconds and joules a run with dear steps has both its success and its
censoring moved out by the same factor, so censoring is informative and the estimator is biased; those axes
use the ERT form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrl.study.statistics import DRAWS, MINIMUM_FOR_INTERVAL, Array, Estimate, bootstrap

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Survival:
    """Kaplan-Meier estimate of the probability that a run has not reached the threshold yet.

    At `times[k]` (interactions, distinct, rising) `events[k]` of `at_risk[k]` runs reached it, and
    `survival[k]` holds from there on; `low`, `high` are the pointwise 95 % band (NaN below three runs).
    `end` is the longest follow-up.
    """

    times: Array
    survival: Array
    low: Array
    high: Array
    at_risk: NDArray[np.int64]
    events: NDArray[np.int64]
    n: int
    n_solved: int
    end: float

    def median(self) -> Estimate:
        """First time at which half of the runs have reached the threshold, infinite where that never happens.

        The interval holds the times at which the band passes one half. Source: Brookmeyer and Crowley (1982).
        """
        low, high = (
            (None, None) if self.n < MINIMUM_FOR_INTERVAL else map(self._first_at_half, (self.low, self.high))
        )
        return Estimate(self._first_at_half(self.survival), low, high, self.n)

    def _first_at_half(self, curve: Array) -> float:
        reached = np.flatnonzero(curve <= 0.5 + 1e-12)
        return float(self.times[reached[0]]) if len(reached) else float("inf")


def kaplan_meier(
    times: ArrayLike, solved: ArrayLike, *, axis: str = "interactions", level: float = 0.95
) -> Survival:
    r"""Kaplan-Meier estimate with Greenwood's variance and a log-log band.

    .. math:: S(t) = \prod_{t_k \le t} (1 - d_k/n_k), \qquad
              \log(-\log S) \pm z \sqrt{\sum_k d_k/(n_k (n_k - d_k))} / \log S

    `times` `(n,)` are interactions at the confirmed crossing or, where `solved` `(n,)` is False, at the end
    of the run. Where the curve reaches 0 the formula has no value; the upper limit there is the exact
    binomial one for no survivor among the runs still followed, `1 - ((1 - level)/2)^(1/n)` (own
    construction).

    Raises ValueError on any other axis than interactions.

    Source: Kaplan and Meier (1958); Greenwood (1926); Kalbfleisch and Prentice (2002), section 1.4.
    """
    if axis != "interactions":
        raise ValueError(
            f"axis: Kaplan-Meier on {axis!r} is biased, since runs are censored there by their own cost a "
            "step; "
            "use expected_cost or fraction_solved, or axis='interactions'"
        )
    t, hit = _checked(times, solved)
    distinct = np.unique(t[hit])
    at_risk = np.array([int(np.sum(t >= time)) for time in distinct], dtype=np.int64)
    events = np.array([int(np.sum(hit & (t == time))) for time in distinct], dtype=np.int64)
    curve: Array = np.cumprod(1.0 - events / np.maximum(at_risk, 1), dtype=np.float64)
    low, high = _log_log_band(curve, at_risk, events, t, distinct, level)
    if len(t) < MINIMUM_FOR_INTERVAL:
        low, high = np.full_like(curve, np.nan), np.full_like(curve, np.nan)
    return Survival(distinct, curve, low, high, at_risk, events, len(t), int(hit.sum()), float(t.max()))


def _log_log_band(
    curve: Array,
    at_risk: NDArray[np.int64],
    events: NDArray[np.int64],
    t: Array,
    distinct: Array,
    level: float,
) -> tuple[Array, Array]:
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    left = at_risk - events
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(np.where(left > 0, events / (at_risk * left), 0.0))
        centre, width = np.log(-np.log(curve)), z * np.sqrt(variance) / np.abs(np.log(curve))
        low, high = np.exp(-np.exp(centre + width)), np.exp(-np.exp(centre - width))
    empty = curve <= 0
    if empty.any():
        followed = int(np.sum(t >= distinct[-1]) + np.sum(events[:-1]))  # not censored before the last event
        low[empty], high[empty] = 0.0, 1 - ((1 - level) / 2) ** (1 / followed)
        high = np.minimum.accumulate(high)
    return low, high


def expected_cost(cost: ArrayLike, solved: ArrayLike) -> Array:
    r"""ERT form: the cost of all runs over the number of successes, infinite if there is none.

    `cost` `(..., n)` is what a run spent to its confirmed crossing, or in all where `solved` `(..., n)` is
    0. It is the expected cost of restarting until one run succeeds. Source: Auger and Hansen (2005),
    doi:10.1109/CEC.2005.1554902.
    """
    total = np.sum(np.asarray(cost, dtype=np.float64), axis=-1)
    successes = np.sum(np.asarray(solved, dtype=np.float64), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(successes > 0, total / successes, np.inf))


def expected_cost_interval(
    cost: ArrayLike, solved: ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """Expected cost of a success with its 95 % bootstrap interval over runs; limits may be infinite."""
    values, hit = _checked(cost, solved)
    return bootstrap(expected_cost, values, hit, draws=draws, seed=seed)


def restricted_mean(cost: ArrayLike, solved: ArrayLike, bound: float) -> float:
    r"""Mean cost up to a common bound, `RM(B) = \int_0^B (1 - F(x)) dx`, the mean of `min(cost, B)`.

    Valid on every axis while B lies inside the follow-up of every run. Raises ValueError where B is not
    positive or exceeds the smallest censored cost. Source: Royston and Parmar (2013),
    doi:10.1186/1471-2288-13-152.
    """
    values, hit = _checked(cost, solved)
    limit = float(values[~hit].min()) if (~hit).any() else float("inf")
    if not 0 < bound <= limit:
        raise ValueError(
            f"bound: {bound:g} is outside (0, {limit:g}], where the first unsolved run ends; choose a "
            "smaller bound"
        )
    return float(np.minimum(values, bound).mean())


def fraction_solved(cost: ArrayLike, solved: ArrayLike) -> tuple[Array, Array]:
    """Empirical fraction of runs solved by a cost, as steps, drawn no further than the smallest censored
    cost.

    Returns rising costs starting at 0 and the fraction from each of them on, both `(k,)`.
    """
    values, hit = _checked(cost, solved)
    limit = float(values[~hit].min()) if (~hit).any() else float(values.max())
    steps = np.unique(values[hit & (values <= limit)])
    x = np.unique(np.concatenate([[0.0], steps, [limit]]))
    return x, np.array([np.mean(hit & (values <= point)) for point in x])


def _checked(values: ArrayLike, solved: ArrayLike) -> tuple[Array, Flags]:
    data, hit = np.asarray(values, dtype=np.float64), np.asarray(solved, dtype=bool)
    if data.ndim != 1 or data.shape != hit.shape or len(data) == 0:
        raise ValueError(f"solved: shape {hit.shape} against {data.shape}; give one flag and one value a run")
    if not np.all(np.isfinite(data)) or np.any(data < 0):
        raise ValueError("values: a cost is negative or not finite; censor an unsolved run at what it spent")
    return data, hit
