"""Sample complexity: for how many interactions an agent fails to be near the optimum often enough.

A run succeeds at a look where its normalised score exceeds `1 - epsilon`. The complexity counts the interactions
before every look at which fewer runs succeed than `success_probability` asks for: a share of runs that must succeed,
not one that may fail. All failing looks count, not those before the first crossing alone, so that relapses are
charged.

Source: Meyer et al., arXiv:2501.15893, section 3 and their published evaluation code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrl.study.statistics import (
    MINIMUM_FOR_INTERVAL,
    Array,
    Estimate,
    normalised_score,
    resampling_counts,
)

if TYPE_CHECKING:
    from qrl.study.comparison import AgentResult, Outcome

EPSILONS = (0.2, 0.15, 0.1)
"""Distances from the optimum on the normalised scale."""
SUCCESS_PROBABILITIES = (0.5, 0.75, 0.9)
"""Shares of runs that must succeed."""
DRAWS = 1_000
"""Bootstrap draws of a sample complexity."""
EPISODES = 100
"""Evaluation episodes a look below which a success is too noisy for more than a development figure."""
MOST_APART = 10.0
"""Evaluation periods that differ by more than this factor are not put on one grid."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The normalisation of scores: `zero` is 0, `one` is 1; `words` say what the two are."""

    zero: float
    one: float
    words: str

    def __call__(self, scores: ArrayLike) -> Array:
        """Scores on this scale, not clipped."""
        return normalised_score(scores, self.zero, self.one)


@dataclass(frozen=True, slots=True)
class Successes:
    """Which runs succeed when: `flags` `(n_epsilons, n_runs, n_looks)`, at looks that end at `ends` `(n_looks,)`."""

    flags: NDArray[np.bool_]
    ends: Array

    @property
    def budget(self) -> float:
        """Interactions at the last look."""
        return float(self.ends[-1])

    @property
    def widths(self) -> Array:
        """Interactions before each look and after the one before it, `(n_looks,)`."""
        return np.diff(self.ends, prepend=0.0)

    def rows(self, positions: Sequence[int]) -> Successes:
        """The same of these runs alone."""
        return Successes(self.flags[:, list(positions)], self.ends)

    def share(self, *, draws: int = DRAWS, seed: int = 0) -> Array:
        """Share of runs that succeed and its pointwise 95 % band, `(n_epsilons, 3, n_looks)`; NaN below three runs."""
        share = self.flags.mean(axis=1)
        n = self.flags.shape[1]
        if n < MINIMUM_FOR_INTERVAL:
            return np.stack([share, np.full_like(share, np.nan), np.full_like(share, np.nan)], axis=1)
        drawn = resampling_counts(n, draws, np.random.default_rng(seed)) @ self.flags.astype(np.float64) / n
        return np.stack([share, *np.quantile(drawn, (0.025, 0.975), axis=1)], axis=1)

    def complexities(self, counts: Array, probabilities: Sequence[float] = SUCCESS_PROBABILITIES) -> Array:
        """Sample complexities `(n_epsilons, n_probabilities, draws)` of runs taken `counts` `(draws, n_runs)` times."""
        share = counts @ self.flags.astype(np.float64) / counts.sum(axis=1)[:, None]
        # a share that equals the probability must not fail by rounding
        return np.stack([(share < p - 1e-9) @ self.widths for p in probabilities], axis=1)


@dataclass(frozen=True, slots=True)
class Complexity(Estimate):
    """Sample complexity at one cell of the grid, in interactions, with its 90 % interval (5th to 95th percentile).

    `first_crossing` is the first look at which enough runs succeed, infinite where none is: where it lies below
    `value`, the agent relapsed. A `censored` complexity is a lower bound: its upper end is the budget.
    """

    epsilon: float
    success_probability: float
    first_crossing: float
    budget: float

    @property
    def censored(self) -> bool:
        """Whether the budget cuts the complexity off."""
        upper = self.value if self.high is None else self.high
        return upper is not None and upper >= self.budget


def sample_complexity(
    scores: ArrayLike,
    looks: ArrayLike,
    *,
    epsilons: Sequence[float] = EPSILONS,
    success_probabilities: Sequence[float] = SUCCESS_PROBABILITIES,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Complexity, ...]:
    r"""Sample complexities of runs over the grid of distances and success probabilities, epsilon by epsilon.

    .. math:: S(\epsilon, \delta) = \sum_e m_e\, 1[p(e) < \delta], \qquad
              p(e) = \frac1n \sum_r 1[G(r, e) > 1 - \epsilon]

    `scores` `(n_runs, n_looks)` are normalised evaluations G, NaN where a run had ended in failure; `looks`
    `(n_looks,)` the rising interaction counts at which they were made, that before training left out; `m_e` are the
    interactions since the look before. `success_probability` is the delta of the formula: the share of runs that must
    succeed, so that a larger one asks for more. The interval resamples whole runs, since the looks of one run depend
    on each other, and is widened to hold the value.

    Raises ValueError where the shapes do not fit or the looks do not rise from above 0.

    Source: Meyer et al., arXiv:2501.15893, section 3.

    Three runs reach the optimum after 1, 2 and 3 looks of 10 interactions each; two of three are there from the second:

    >>> scores = [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    >>> for cell in sample_complexity(scores, [10, 20, 30], epsilons=[0.1], success_probabilities=[0.5, 0.9]):
    ...     print(cell.success_probability, cell.value)
    0.5 10.0
    0.9 20.0
    """
    data, ends = np.asarray(scores, dtype=np.float64), np.asarray(looks, dtype=np.float64)
    if data.ndim != 2 or not len(data) or data.shape[1:] != ends.shape or not len(ends):
        raise ValueError(f"scores: shape {data.shape} against {ends.shape} looks; give one row a run")
    if np.any(np.diff(ends, prepend=0.0) <= 0):
        raise ValueError("looks: do not rise from above 0; leave out the look before training")
    return complexity_grid(
        successes(data, ends, epsilons), epsilons, success_probabilities, draws=draws, seed=seed
    )


def successes(scores: Array, ends: Array, epsilons: Sequence[float] = EPSILONS) -> Successes:
    """Which normalised scores `(n_runs, n_looks)` exceed 1 - epsilon; NaN never does."""
    return Successes(np.stack([scores > 1.0 - epsilon for epsilon in epsilons]), ends)


def complexity_grid(
    reached: Successes,
    epsilons: Sequence[float] = EPSILONS,
    probabilities: Sequence[float] = SUCCESS_PROBABILITIES,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Complexity, ...]:
    """The cells of the grid for one agent: see `sample_complexity`."""
    n = reached.flags.shape[1]
    values = reached.complexities(np.ones((1, n)), probabilities)[..., 0]
    counts = resampling_counts(n, draws, np.random.default_rng(seed))
    drawn = reached.complexities(counts, probabilities) if n >= MINIMUM_FOR_INTERVAL else None
    share = reached.flags.mean(axis=1)  # (n_epsilons, n_looks)
    cells = []
    for i, epsilon in enumerate(epsilons):
        for j, probability in enumerate(probabilities):
            value, low, high = float(values[i, j]), None, None
            if drawn is not None:
                ends = np.percentile(drawn[i, j], (5, 95), method="inverted_cdf")
                low, high = min(float(ends[0]), value), max(float(ends[1]), value)
            crossed = np.flatnonzero(share[i] >= probability - 1e-9)
            first = float(reached.ends[crossed[0]]) if len(crossed) else float("inf")
            cells.append(Complexity(value, low, high, n, epsilon, probability, first, reached.budget))
    return tuple(cells)


def common_looks(grids: Sequence[ArrayLike]) -> tuple[Array, Array]:
    """The looks at which agents are compared: those of the coarsest grid, and where on the common budget they end.

    `grids` are rising interaction counts, one array an agent; a look at 0, before training, is dropped. An agent is
    seen at `looks` `(k,)` by its last evaluation at or before each; `ends` `(k,)` are the looks cut at the shortest
    agent's end, so that one rollout beyond the budget charges nobody.

    Raises ValueError where evaluation periods differ by more than `MOST_APART`, or an agent has no look.
    """
    own = [grid[grid > 0] for grid in (np.asarray(g, dtype=np.float64) for g in grids)]
    if not own or not all(map(len, own)):
        raise ValueError("evaluations: an agent has none after its first step; evaluate during training")
    periods = [float(grid[-1]) / len(grid) for grid in own]
    if max(periods) > MOST_APART * min(periods):
        raise ValueError(
            f"evaluations: one agent is seen every {min(periods):,.0f} interactions, another every "
            f"{max(periods):,.0f}; evaluate them alike"
        )
    looks = own[int(np.argmax(periods))]
    ends = np.minimum(looks, min(float(grid[-1]) for grid in own))
    kept = np.diff(ends, prepend=0.0) > 0
    return looks[kept], ends[kept]


def seen_at(outcomes: Sequence[Outcome], looks: Array) -> Array:
    """Score of each run at its last evaluation at or before each look, `(n_runs, n_looks)`.

    NaN before a run's first evaluation, and after the last one of a run that failed.
    """
    return np.stack([_seen(outcome, looks) for outcome in outcomes])


def _seen(outcome: Outcome, looks: Array) -> Array:
    last = np.searchsorted(outcome.costs.interactions, looks, side="right") - 1
    ended = outcome.status != "finished"
    known = (last >= 0) & ~(ended & (looks > outcome.costs.interactions.max(initial=-1.0)))
    return np.where(known, outcome.returns[np.maximum(last, 0)] if len(outcome.returns) else np.nan, np.nan)


def scale_of(recipe: Mapping[str, Any], agents: Sequence[AgentResult]) -> Scale:
    """The normalisation of a study.

    1 is the recipe's `threshold.optimum`, or else the best score of any evaluation of any agent. 0 is the recipe's
    `threshold.random`; without it the return 0 where a positive optimum is given, else the mean score of the study's
    random agent, else the lowest score of any evaluation.

    Raises ValueError where the two span no scale.
    """
    wanted = recipe.get("threshold") or {}
    optimum, low = wanted.get("optimum"), wanted.get("random")
    seen = {agent.name: np.concatenate([o.returns for o in agent.outcomes]) for agent in agents if agent.n}
    seen = {name: scores for name, scores in seen.items() if len(scores)}
    if not seen:
        raise ValueError("evaluations: no run has ended; scores have no scale yet")
    if optimum is None:
        best = max(seen, key=lambda name: seen[name].max())
        one, one_is = float(seen[best].max()), f"the best evaluation of any agent (of {best})"
    else:
        one, one_is = float(optimum), "the recipe's optimum"
    chance = [
        scores for agent in agents if agent.kind == "random" and (scores := seen.get(agent.name)) is not None
    ]
    if low is not None:
        zero, zero_is = float(low), "the recipe's random policy"
    elif optimum is not None and one > 0:
        zero, zero_is = 0.0, "no score"
    elif chance:
        zero, zero_is = float(chance[0].mean()), "the mean of the random agent"
    else:
        zero, zero_is = (
            min(float(scores.min()) for scores in seen.values()),
            "the lowest evaluation of any agent",
        )
    if not one > zero:
        raise ValueError(f"threshold.optimum: {one:g} is not above {zero:g}, {zero_is}; scores have no scale")
    return Scale(zero, one, f"1 is {one:.4g}, {one_is}; 0 is {zero:.4g}, {zero_is}")
