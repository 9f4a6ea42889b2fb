"""A study compared: every number that the table and the report show, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qrl.study import statistics, survival
from qrl.study.attribution import Contribution, attribute
from qrl.study.baselines import owner
from qrl.study.claims import Judgement, judge_claims
from qrl.study.costs import AXES, RunCosts, energy_total, joules_label
from qrl.study.outperforms import Pair, compare_pair, correct_for_number, scores_of
from qrl.study.pairs import headline
from qrl.study.results import Run, find_runs, read_run
from qrl.study.sample_complexity import (
    Complexity,
    Scale,
    Successes,
    common_looks,
    complexity_grid,
    scale_of,
    seen_at,
    successes,
)
from qrl.study.score import label, score, threshold_of
from qrl.study.statistics import Array, Estimate

PERCENTILES = (5, 25, 50, 75, 95)
"""Of runs: intervals of a mean under-report how far runs spread."""
PROFILE_POINTS = 101


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run.

    `final_return` is its last evaluation, or the study's floor where the run failed. `spent` is the cost to
    the confirmed crossing if `solved`, else the cost of the whole run; a failed run that did not cross
    counts the whole budget as interactions.
    """

    seed: int
    status: str
    reason: str | None
    final_return: float
    solved: bool
    spent: Mapping[str, float]
    costs: RunCosts
    returns: Array


@dataclass(frozen=True, slots=True)
class AgentResult:
    """One agent over its seeds; unfinished runs are counted in `unfinished` and enter nothing else.

    `kind` is quantum, classical or random. `grid` `(k,)` holds the interaction counts of `curves` `(n, k)`,
    one row a run; `mean_returns` `(n,)` is each run's return averaged over training. `to_threshold` and
    `total` hold estimates by cost axis: the ERT form, and the interquartile mean of whole runs. `reached` and
    `complexity` say which runs are near the optimum when, and what the sample complexities are; `optimality_gap` and
    `profile` are those of normalised final scores, the profile at the study's `levels` with its band, `(3, k)`. They
    are absent where scores have no scale. `percentiles` are those of final scores, at `PERCENTILES`.
    `n_parameters` is empty where no run ended. `joules_kind` labels every joule of this agent.
    """

    name: str
    kind: str
    description: str
    spec: Mapping[str, Any]
    n_parameters: Mapping[str, int]
    outcomes: tuple[Outcome, ...]
    unfinished: tuple[int, ...]
    grid: Array
    curves: Array
    mean_returns: Array
    final_return: Estimate
    mean_return: Estimate
    survival: survival.Survival | None
    median_interactions: Estimate | None
    to_threshold: Mapping[str, Estimate]
    total: Mapping[str, Estimate]
    phases: Mapping[str, float]
    joules_kind: str
    reached: Successes | None = None
    complexity: tuple[Complexity, ...] = ()
    optimality_gap: Estimate | None = None
    profile: Array | None = None

    @property
    def percentiles(self) -> tuple[float, ...]:
        """Percentiles of the runs' final scores; empty where no run ended."""
        finals = [outcome.final_return for outcome in self.outcomes]
        return tuple(map(float, np.percentile(finals, PERCENTILES))) if finals else ()

    @property
    def n(self) -> int:
        """Number of runs that enter the statistics."""
        return len(self.outcomes)

    @property
    def n_solved(self) -> int:
        """Number of runs with a confirmed crossing of the threshold."""
        return sum(outcome.solved for outcome in self.outcomes)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """Runs that failed or diverged."""
        return tuple(outcome for outcome in self.outcomes if outcome.status != "finished")


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A study, compared: agents in the recipe's order and hybrid-against-classical pairs, twins first.

    `claims` judges the claim files that lie in the study's folder.
    `measure` is what evaluations are scored by, the return unless the threshold names another; where fields speak of
    returns, they hold this score. `scale` normalises it; where there is none, `no_scale` says why. `levels` are the
    normalised scores at which the agents have their profiles.
    """

    name: str
    directory: Path
    recipe: Mapping[str, Any]
    runs: tuple[Run, ...]
    measure: str
    threshold: float | None
    budget: int
    floor: float
    agents: tuple[AgentResult, ...]
    pairs: tuple[Pair, ...]
    contributions: tuple[Contribution, ...]
    n_comparisons: int
    headline: str
    joules_kind: str
    scale: Scale | None
    no_scale: str
    levels: Array
    claims: tuple[Judgement, ...] = ()

    @property
    def n_cells(self) -> int:
        """Number of comparisons of sample complexities, for which these are corrected."""
        cells = [cell.test for pair in self.pairs for cell in pair.grid]
        return sum(test.comparison.p_value is not None for test in cells)

    @property
    def sides(self) -> tuple[str, str]:
        """What the two agents of a pair are called."""
        if self.recipe["study"].get("pairs") is not None:
            return "first agent", "second"
        # a frozen circuit, or one without entanglers, is a circuit still
        classical = all(self.agent(pair.opponent).kind == "classical" for pair in self.pairs)
        return "hybrid", "classical" if classical else "opponent"

    def agent(self, name: str) -> AgentResult:
        """The agent of that name; KeyError if there is none."""
        return {agent.name: agent for agent in self.agents}[name]

    @property
    def summary(self) -> str:
        """The study in one sentence, for an index."""
        return f"{self.name}: {self.headline}"


def compare(study_dir: str | Path) -> StudyResult:
    """Compare the agents of a study from its run directories.

    `study_dir` is a study folder (or an agent or run, of which alone is read). Every hybrid agent is set
    against its twin, the agent whose `network.match` names it, and against every other classical learner.
    Runs are paired by seed. Raises ValueError where there is no run or the folder holds several studies.
    """
    runs = [read_run(path) for path in find_runs(study_dir)]
    folders = {run.directory.parent.parent for run in runs}
    if len(folders) != 1:
        what = "holds no run" if not folders else f"holds {len(folders)} studies"
        raise ValueError(f"study_dir: {study_dir} {what}; give the folder of one study")
    recipe = runs[0].recipe
    measure, threshold = threshold_of(recipe)
    budget = int(recipe["budget"]["interactions"])
    floor = _floor(runs, measure)
    order = {spec["name"]: index for index, spec in enumerate(recipe["agents"])}
    names = sorted({run.agent for run in runs}, key=lambda name: (order.get(name, len(order)), name))
    specs = {spec["name"]: spec for run in runs for spec in run.recipe["agents"]}
    # the manifest holds the agent as built, with what the recipe left open (number of features) filled in
    specs |= {run.agent: run.manifest["agent"] for run in runs if isinstance(run.manifest.get("agent"), dict)}
    agents = tuple(
        _agent(
            name,
            specs.get(name, {"name": name}),
            [run for run in runs if run.agent == name],
            measure,
            threshold,
            budget,
            floor,
        )
        for name in names
    )
    scale, no_scale, levels = None, "", np.zeros(0)
    try:
        scale = scale_of(recipe, agents)
        levels = _levels(agents, scale)
        agents = _with_complexity(tuple(_with_profile(agent, scale, levels) for agent in agents), scale)
    except ValueError as reason:
        no_scale = str(reason)
    pairs, n_comparisons = correct_for_number(
        _pairs(agents, recipe["study"].get("pairs"), measure, threshold is not None)
    )
    result = StudyResult(
        name=str(recipe["study"]["name"]),
        directory=folders.pop(),
        recipe=recipe,
        runs=tuple(runs),
        measure=measure,
        threshold=threshold,
        budget=budget,
        floor=floor,
        agents=agents,
        pairs=pairs,
        contributions=attribute(recipe, {agent.name: agent for agent in agents}),
        n_comparisons=n_comparisons,
        headline=headline(pairs),
        joules_kind=joules_label(energy_total(run.costs for run in runs)),
        scale=scale,
        no_scale=no_scale,
        levels=levels,
    )
    return replace(result, claims=judge_claims(result))


def _levels(agents: Sequence[AgentResult], scale: Scale) -> Array:
    """Normalised scores from the lowest final one, or 0, to the highest, or 1, `(PROFILE_POINTS,)`."""
    finals = scale([o.final_return for agent in agents for o in agent.outcomes])
    return np.linspace(min(0.0, finals.min()), max(1.0, finals.max()), PROFILE_POINTS)


def _with_profile(agent: AgentResult, scale: Scale, levels: Array) -> AgentResult:
    if not agent.n:
        return agent
    finals = scale([outcome.final_return for outcome in agent.outcomes])
    gap = statistics.bootstrap(statistics.optimality_gap, finals)
    return replace(
        agent, optimality_gap=gap, profile=np.stack(statistics.performance_profile([finals], levels))
    )


def _with_complexity(agents: Sequence[AgentResult], scale: Scale) -> tuple[AgentResult, ...]:
    """The agents with their sample complexities, all seen at the same looks.

    Raises ValueError where evaluations are too far apart to be put on one grid.
    """
    looks, ends = common_looks([agent.grid for agent in agents if np.any(agent.grid > 0)])
    completed = []
    for agent in agents:
        if agent.n:
            reached = successes(scale(seen_at(agent.outcomes, looks)), ends)
            agent = replace(agent, reached=reached, complexity=complexity_grid(reached))
        completed.append(agent)
    return tuple(completed)


def _floor(runs: Sequence[Run], measure: str) -> float:
    """The lowest score of any evaluation of the study: what a failed run is given."""
    scores = [score(e, measure) for run in runs for e in run.evaluations]
    return min((value for value in scores if value is not None), default=0.0)


def _agent(
    name: str,
    spec: Mapping[str, Any],
    runs: Sequence[Run],
    measure: str,
    threshold: float | None,
    budget: int,
    floor: float,
) -> AgentResult:
    ended = [run for run in runs if run.done is not None]
    outcomes = tuple(_outcome(run, measure, budget, floor) for run in ended)
    grid, curves = _curves(outcomes, budget, floor)
    mean_returns = _mean_returns(grid, curves, floor)
    solved = np.array([outcome.solved for outcome in outcomes], dtype=bool)
    curve = (
        survival.kaplan_meier(_spent(outcomes, "interactions"), solved)
        if outcomes and threshold is not None
        else None
    )
    axes = [axis for axis in AXES if outcomes and all(axis in o.costs.total for o in outcomes)]
    return AgentResult(
        name=name,
        kind=_kind(spec),
        description=_description(spec),
        spec=spec,
        n_parameters=_parameters(ended),
        outcomes=outcomes,
        unfinished=tuple(run.seed for run in runs if run.done is None),
        grid=grid,
        curves=curves,
        mean_returns=mean_returns,
        final_return=statistics.bootstrap(statistics.iqm, [o.final_return for o in outcomes]),
        mean_return=statistics.bootstrap(statistics.iqm, mean_returns),
        survival=curve,
        median_interactions=curve.median() if curve else None,
        to_threshold={}
        if threshold is None
        else {axis: survival.expected_cost_interval(_spent(outcomes, axis), solved) for axis in axes},
        total={
            axis: statistics.bootstrap(statistics.iqm, [o.costs.total[axis] for o in outcomes])
            for axis in axes
        },
        phases=_mean_phases(outcomes),
        joules_kind=joules_label(energy_total(run.costs for run in ended)),
    )


def _outcome(run: Run, measure: str, budget: int, floor: float) -> Outcome:
    costs = run.costs
    crossing = run.crossing
    spent = dict(costs.total) if crossing is None else costs.until(crossing["interactions"])
    if crossing is None and run.status != "finished":
        # A run that broke down would not have solved the task in the rest of its budget. To censor it where
        # it broke down would count it as undecided and flatter the agent.
        spent["interactions"] = float(max(budget, spent["interactions"]))
    scores = [score(e, measure) for e in run.evaluations]
    returns = np.array([floor if value is None else value for value in scores], dtype=np.float64)
    final = float(returns[-1]) if run.status == "finished" and len(returns) else floor
    reason = (run.done or {}).get("reason")
    return Outcome(run.seed, run.status, reason, final, crossing is not None, spent, costs, returns)


def _curves(outcomes: Sequence[Outcome], budget: int, floor: float) -> tuple[Array, Array]:
    """Learning curves on one grid, the median place of the k-th evaluation; failed runs drop to the floor."""
    longest = max((len(o.returns) for o in outcomes), default=0)
    if longest == 0:
        return np.zeros(0), np.zeros((len(outcomes), 0))
    complete = [o.costs.interactions for o in outcomes if len(o.returns) == longest]
    grid = np.median(np.stack(complete), axis=0)
    rows = []
    for outcome in outcomes:
        looks = outcome.costs.interactions
        row = np.interp(grid, looks, outcome.returns) if len(looks) else np.full(longest, floor)
        if outcome.status != "finished":
            row = np.where(grid > (looks[-1] if len(looks) else -1), floor, row)
        rows.append(row)
    return grid, np.stack(rows)


def _mean_returns(grid: Array, curves: Array, floor: float) -> Array:
    """Return of each run averaged over the interactions between its first and last evaluation, `(n,)`."""
    if len(grid) == 0:
        return np.full(len(curves), floor)
    if len(grid) == 1:
        return curves[:, 0]
    steps = np.diff(grid)
    return np.asarray((curves[:, 1:] + curves[:, :-1]) / 2 @ steps / steps.sum())


def _spent(outcomes: Sequence[Outcome], axis: str) -> Array:
    return np.array([outcome.spent[axis] for outcome in outcomes], dtype=np.float64)


def _pairs(
    agents: Sequence[AgentResult],
    wanted: Sequence[Sequence[str]] | None,
    measure: str,
    has_threshold: bool,
) -> list[Pair]:
    """The pairs that the recipe names; else every hybrid against its baselines and all classical learners."""
    if wanted is None:
        names = [agent.name for agent in agents]
        owners = {name: owner(name, names) for name in names}
        hybrids = [agent for agent in agents if agent.kind == "quantum" and owners[agent.name] is None]
        chosen = [
            (hybrid, opponent)
            for hybrid in hybrids
            for opponent in agents
            if owners[opponent.name] == hybrid.name
            or (opponent.kind == "classical" and owners[opponent.name] is None)
        ]
    else:
        by_name = {agent.name: agent for agent in agents}
        chosen = [(by_name[a], by_name[b]) for a, b in wanted if a in by_name and b in by_name]
    pairs = []
    for first, second in chosen:
        kinds = {first.joules_kind, second.joules_kind}
        pairs.append(
            compare_pair(
                scores_of(first),
                scores_of(second),
                is_twin=_is_twin(second.spec.get("network") or {}, first.name),
                has_threshold=has_threshold,
                score=label(measure),
                joules_kind=kinds.pop() if len(kinds) == 1 else "mixed",
            )
        )
    return sorted(pairs, key=lambda pair: not pair.is_twin) if wanted is None else pairs


def _kind(spec: Mapping[str, Any]) -> str:
    if spec.get("algorithm") == "random":
        return "random"
    networks = [spec.get(part) or {} for part in ("network", "critic")]
    return "quantum" if any(map(_is_quantum, networks)) else "classical"


def _is_quantum(network: Mapping[str, Any]) -> bool:
    """Whether there is anything quantum in a network.

    Without a field a Boltzmann machine is a classical one, and so it is where one Trotter slice stands for the field.
    """
    if network.get("kind") != "boltzmann":
        return network.get("kind") == "quantum" and network.get("circuit") != "off"
    one_slice = (network.get("sampler_options") or {}).get("slices") == 1
    return network["field"] > 0.0 and not (network.get("sampler") == "sqa" and one_slice)


def _is_twin(network: Mapping[str, Any], name: str) -> bool:
    """Whether a network is the perceptron matched to the agent of this name."""
    return network.get("kind") == "matched_mlp" and network.get("match") == name


def _description(spec: Mapping[str, Any]) -> str:
    network = spec.get("network") or {}
    name = str(spec.get("algorithm", ""))
    algorithm = name.upper() if name in _ACRONYMS else name.replace("_", " ")
    if name == "controller":
        return str(spec.get("controller", name)).replace("_", " ")
    if not network:
        return f"{algorithm} actions" if algorithm == "random" else algorithm
    parts = [_network(network)]
    if "critic" in spec and spec["critic"] and spec["critic"] != network:
        parts.append(f"critic: {_network(spec['critic'])}")
    return ", ".join((algorithm, *parts))


_ACRONYMS = ("dqn", "ppo", "a2c", "reinforce", "ddpg", "td3", "sac", "naf")


def _network(network: Mapping[str, Any]) -> str:
    kind = str(network.get("kind"))
    if kind == "quantum" and network.get("circuit") == "off":
        return "classical layers of a hybrid, circuit removed"
    if kind == "quantum":
        frozen = "frozen " if network.get("frozen") else ""
        return f"{frozen}circuit {network.get('n_qubits')} qubits × {network.get('n_layers')} layers"
    if kind == "matched_mlp":
        return "matched MLP"
    if kind == "boltzmann":
        graph = dict(network["graph"])
        sizes = " × ".join(str(v) for v in graph.values() if isinstance(v, int))
        field = f"field {network['field']:g}" if network["field"] else "no field"
        return f"{graph.get('kind')} {sizes} machine, {field}".replace("  ", " ")
    widths = "-".join(str(width) for width in network.get("hidden") or [])
    return f"{'MLP' if kind == 'mlp' else kind.replace('_', ' ')} {widths}".strip()


def _parameters(runs: Sequence[Run]) -> Mapping[str, int]:
    """Trainable parameters as the runs recorded them: `total` and, where told apart, its parts."""
    for run in runs:
        counts = (run.done or {}).get("n_parameters")
        if isinstance(counts, Mapping) and "total" in counts:
            return {str(name): int(count) for name, count in counts.items()}
    return {}


def _mean_phases(outcomes: Sequence[Outcome]) -> dict[str, float]:
    names = dict.fromkeys(phase for outcome in outcomes for phase in outcome.costs.phases)
    return {name: sum(o.costs.phases.get(name, 0.0) for o in outcomes) / len(outcomes) for name in names}
