"""What a gain is to be attributed to: how much of the distance between two agents each other one covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qrl.study.statistics import Array, Estimate, bootstrap

if TYPE_CHECKING:
    from qrl.study.comparison import AgentResult


@dataclass(frozen=True, slots=True)
class Contribution:
    """One agent between the base and the full one.

    `has` is what sets it apart from the base, in the recipe's words. `score` is the mean over seeds of its score
    averaged over training; `share` is (its score - the base's) / (the full one's - the base's), 0 for the base and 1
    for the full one, seeds resampled together. It is unknown where the interval of that gap holds zero: what may not be
    there has no parts.
    """

    agent: str
    has: str
    score: Estimate
    share: Estimate


def attribute(recipe: Mapping[str, Any], agents: Mapping[str, AgentResult]) -> tuple[Contribution, ...]:
    """The contributions that a recipe's `[attribution]` asks for, in its order; none where it does not.

    Every agent enters with the seeds that base, full agent and itself have in common; one that has not run is left
    out. Source: own construction.
    """
    wanted = recipe.get("attribution") or {}
    base, full = agents.get(wanted.get("base", "")), agents.get(wanted.get("full", ""))
    if base is None or full is None or not (base.n and full.n):
        return ()
    found = []
    for name, has in {base.name: "", **wanted["agents"], full.name: ""}.items():
        if (agent := agents.get(name)) is None or not agent.n:
            continue
        own, low, high = _common(agent, base, full)
        share = bootstrap(_share, own, low, high)
        if _may_be_zero(bootstrap(_mean, high - low)):
            share = Estimate(None, None, None, share.n)
        found.append(Contribution(name, str(has), bootstrap(_mean, own), share))
    return tuple(found)


def _common(*agents: AgentResult) -> list[Array]:
    """The mean scores of agents, `(n,)` each, over the seeds that all of them have."""
    by_seed = [
        {outcome.seed: value for outcome, value in zip(agent.outcomes, agent.mean_returns, strict=True)}
        for agent in agents
    ]
    seeds = sorted(set.intersection(*(set(scores) for scores in by_seed)))
    return [np.array([scores[seed] for seed in seeds]) for scores in by_seed]


def _may_be_zero(gap: Estimate) -> bool:
    return gap.low is not None and gap.high is not None and gap.low <= 0.0 <= gap.high


def _mean(values: Array) -> Array:
    return values.mean(axis=-1)


def _share(own: Array, low: Array, high: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):  # no gap, no share: infinite or NaN says so
        return np.asarray((_mean(own) - _mean(low)) / (_mean(high) - _mean(low)))
