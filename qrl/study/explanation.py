"""What accounts for a hybrid agent's result: the smallest classical model that does as well, and what may be removed.

The measure is the interquartile mean over seeds of the normalised score averaged over training. Every member of the
agent's family is compared with the agent by the difference of that measure, paired by seed. The intervals of one family
hold together with 95 % (each of the K has the level 1 - 0.05/K, Bonferroni's), so whatever is read off them needs no
further correction. With the margin m a member is

- `equal` where its interval lies inside (-m, m): equivalence is shown, never concluded from a missing difference;
- `better` where it lies above 0, `not worse` where it lies above -m;
- `worse` where it lies below 0 and reaches below -m;
- `undecided` otherwise, and always below ten seeds a side.

The smallest classical model is the one with the fewest trained values among those that are not worse.

Source: equivalence by interval inclusion: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15, 657-680; the rest own
construction.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qrl.errors import InputError, nearest
from qrl.study import statistics
from qrl.study.baselines import BASELINES, family, hybrid_agents, owner
from qrl.study.checkpoint import write_atomic
from qrl.study.markup import table
from qrl.study.pairs import joined
from qrl.study.score import label
from qrl.study.statistics import MINIMUM_FOR_RESULT, Comparison, Estimate, compare_bootstrap, iqm
from qrl.study.table import Cell, Grid

if TYPE_CHECKING:
    from qrl.study.comparison import AgentResult, StudyResult
    from qrl.study.recipe import Recipe

MARGIN = 0.05
"""Loss of normalised score that counts as none, unless the recipe says otherwise."""
CONFIDENCE = 0.95
"""With which all intervals of a family hold together."""

Verdict = Literal["equal", "better", "not worse", "worse", "undecided"]
AS_GOOD: tuple[Verdict, ...] = ("equal", "better", "not worse")
WORDS: dict[Verdict, str] = {
    "equal": "does as well",
    "better": "does better",
    "not worse": "does not do worse",
    "worse": "does worse",
    "undecided": "is undecided",
}


@dataclass(frozen=True, slots=True)
class Prior:
    """What a baseline stands for: a property that a stand-in shares with the agent, or the agent without a part."""

    name: str
    what: str
    stands_in: bool


PRIORS: dict[str, Prior] = {
    "mlp": Prior("size", "a perceptron with as many trained values", True),
    "mlp-large": Prior("classical practice", "a larger perceptron", True),
    "no-circuit": Prior("without the circuit", "the agent without its circuit", False),
    "frozen": Prior(
        "with an untrained circuit", "the agent with its circuit left at the random start", False
    ),
    "no-entanglers": Prior("without entanglement", "the agent without entangling gates", False),
    "fourier": Prior("the spectrum", "a Fourier series on the circuit's spectrum", True),
    "random-fourier": Prior("a sample of the spectrum", "random features from the circuit's spectrum", True),
    "invariant": Prior("the symmetry", "a perceptron with the circuit's symmetry", True),
    "tabular": Prior("an easy task", "a table of states", True),
}
QUANTUM = ("frozen", "no-entanglers")
"""Baselines that still have a circuit, and are no classical models."""


@dataclass(frozen=True, slots=True)
class Member:
    """One opponent of the explained agent; `difference` is its normalised score minus the agent's.

    `baseline` is None for a classical learner that the recipe names itself. `n_needed` is about how many seeds would
    decide it, if the difference stays what it is; None where it is decided or nothing can be said.
    """

    name: str
    baseline: str | None
    is_classical: bool
    n_parameters: int | None
    score: Estimate
    difference: Comparison
    verdict: Verdict
    n_needed: int | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What accounts for one agent's result; members with the fewest trained values first.

    `level` is that of each interval; `measure` and `scale` say in words what the normalised score is. `missing` are
    members of the family that have no ended run.
    """

    agent: str
    n_parameters: int | None
    score: Estimate
    margin: float
    level: float
    measure: str
    scale: str
    members: tuple[Member, ...]
    missing: tuple[str, ...]

    @property
    def n(self) -> int:
        """Seeds of the agent."""
        return self.score.n

    @property
    def smallest(self) -> Member | None:
        """The classical model with the fewest trained values among those that are not worse."""
        return next((m for m in self.members if m.is_classical and m.verdict in AS_GOOD), None)

    @property
    def is_unexplained(self) -> bool:
        """Whether every classical model of the family is worse."""
        classical = [m for m in self.members if m.is_classical]
        return bool(classical) and all(m.verdict == "worse" for m in classical)

    @property
    def headline(self) -> str:
        """The verdict in one sentence, or two."""
        return _headline(self)

    @property
    def findings(self) -> tuple[str, ...]:
        """One sentence a member of the family: what it says of the prior that it stands for."""
        return tuple(_finding(member) for member in _in_order(self.members))

    @property
    def accounts(self) -> str:
        """Which priors account for the result and which do not, in one sentence; empty where none was tested."""
        return _accounts(self)


def with_families(recipe: Recipe, chosen: str | None = None) -> tuple[Recipe, list[str]]:
    """The recipe with its baselines, all that apply where it asks for none, and the agents that an explanation needs.

    These are the hybrid agents of a comma-separated list (by default all), their families, and random agents, which set
    the scale.

    Raises:
        InputError: no such hybrid agent, or none at all.
    """
    from qrl.study.recipe import make_recipe

    if recipe.study.baselines is None:
        data = recipe.to_dict()
        data["study"]["baselines"] = "all"
        recipe = make_recipe(data)
    names = [agent.name for agent in recipe.agents]
    hybrids = [agent.name for agent in hybrid_agents(recipe)]
    wanted = hybrids if chosen is None else [name.strip() for name in chosen.split(",") if name.strip()]
    for name in wanted:
        if name not in hybrids:
            raise InputError("--agents", name, "is no hybrid agent of this recipe", nearest(name, hybrids))
    needed = {member for name in wanted for member in (name, *family(name, names).values())}
    needed |= {agent.name for agent in recipe.agents if agent.algorithm == "random"}
    return recipe, [name for name in names if name in needed]


def explain(result: StudyResult, margin: float | None = None) -> tuple[Explanation, ...]:
    """The explanations of all agents of a study that have a family of baselines, in the study's order.

    `margin` is the loss of normalised score that counts as none; by default the study's own, else `MARGIN`.

    Raises ValueError where scores have no scale.
    """
    names = [agent.name for agent in result.agents]
    explained = [
        agent
        for agent in result.agents
        if agent.n
        and agent.kind == "quantum"
        and owner(agent.name, names) is None
        and family(agent.name, names)
    ]
    chosen = margin_of(result) if margin is None else margin
    return tuple(_explain(result, agent, chosen) for agent in explained)


def margin_of(result: StudyResult) -> float:
    """The margin that the study's recipe states, else `MARGIN`."""
    from qrl.study.recipe import load_recipe

    path = result.directory / "recipe.toml"
    stated = load_recipe(path).study.margin if path.exists() else result.recipe["study"].get("margin")
    return MARGIN if stated is None else float(stated)


def _explain(result: StudyResult, agent: AgentResult, margin: float) -> Explanation:
    if result.scale is None:
        raise ValueError(f"margin: scores have no scale ({result.no_scale}); nothing can be explained")
    names = [other.name for other in result.agents]
    own = {name: baseline for baseline, name in family(agent.name, names).items()}
    opponents = [
        other
        for other in result.agents
        if other.name in own or (other.kind == "classical" and owner(other.name, names) is None)
    ]
    ended = [other for other in opponents if other.n and _n_common(agent, other)]
    level = 1 - (1 - CONFIDENCE) / max(1, len(ended))
    members = [_member(result, agent, other, own.get(other.name), margin, level) for other in ended]
    members.sort(key=lambda m: (math.inf if m.n_parameters is None else m.n_parameters, names.index(m.name)))
    return Explanation(
        agent=agent.name,
        n_parameters=agent.n_parameters.get("total"),
        score=statistics.bootstrap(iqm, result.scale(agent.mean_returns)),
        margin=margin,
        level=level,
        measure=f"{label(result.measure)} averaged over training, normalised, interquartile mean over seeds",
        scale=result.scale.words,
        members=tuple(members),
        missing=tuple(other.name for other in opponents if other not in ended),
    )


def _n_common(agent: AgentResult, other: AgentResult) -> int:
    return len({o.seed for o in agent.outcomes} & {o.seed for o in other.outcomes})


def _member(
    result: StudyResult,
    agent: AgentResult,
    other: AgentResult,
    baseline: str | None,
    margin: float,
    level: float,
) -> Member:
    assert result.scale is not None
    scores = [
        dict(zip((o.seed for o in side.outcomes), result.scale(side.mean_returns), strict=True))
        for side in (other, agent)
    ]
    common = sorted(scores[0].keys() & scores[1].keys())
    theirs, ours = ([side[seed] for seed in common] for side in scores)
    difference = compare_bootstrap(iqm, (theirs,), (ours,), form="difference", paired=True, level=level)
    verdict = judge(difference, margin)
    return Member(
        name=other.name,
        baseline=baseline,
        is_classical=baseline not in QUANTUM,
        n_parameters=other.n_parameters.get("total"),
        score=statistics.bootstrap(iqm, result.scale(other.mean_returns)),
        difference=difference,
        verdict=verdict,
        n_needed=seeds_needed(difference, margin) if verdict == "undecided" else None,
    )


def judge(difference: Comparison, margin: float) -> Verdict:
    """What the interval of a difference, opponent minus agent, says against the margin: see the module."""
    low, high = difference.low, difference.high
    if difference.n < MINIMUM_FOR_RESULT or low is None or high is None:
        return "undecided"
    if -margin < low and high < margin:
        return "equal"
    if low > 0:
        return "better"
    if low > -margin:
        return "not worse"
    return "worse" if high < 0 else "undecided"


def seeds_needed(difference: Comparison, margin: float) -> int | None:
    """About how many seeds would decide a difference, if its value stays: intervals narrow as one over the root of n.

    At least `MINIMUM_FOR_RESULT`; None where the value is on the edge, or nothing is known of its spread.
    """
    value, low, high = difference.value, difference.low, difference.high
    if value is None or low is None or high is None:
        return MINIMUM_FOR_RESULT if difference.n < MINIMUM_FOR_RESULT else None
    # the nearer of two goals: the lower end above -margin, or the upper end below 0
    ratios = [(value - low) / (value + margin)] if value > -margin else []
    ratios += [(high - value) / -value] if value < 0 else []
    if not ratios:
        return None
    n = math.ceil(difference.n * min(ratios) ** 2)
    return max(MINIMUM_FOR_RESULT, difference.n + 1, n)


# ---------------------------------------------------------------------- in words


def _headline(e: Explanation) -> str:
    classical = [m for m in e.members if m.is_classical]
    if not classical:
        return f"No classical model stands beside {e.agent} yet."
    if e.n < MINIMUM_FOR_RESULT:
        return f"Undecided: {e.agent} has {_seeds(e.n)}, and at least {MINIMUM_FOR_RESULT} are needed."
    if (best := e.smallest) is not None:
        smaller = classical[: classical.index(best)]
        return (
            f"The smallest classical model that does not do worse than {e.agent} ({_values(e.n_parameters)}) is "
            f"{best.name} ({_values(best.n_parameters)}): it {WORDS[best.verdict]} ({_numbers(best)})."
            f"{_smaller(smaller)}"
        )
    if e.is_unexplained:
        nearest = max(classical, key=lambda m: m.difference.value or -math.inf)
        return (
            f"No classical model of the family accounts for {e.agent} ({_values(e.n_parameters)}): all "
            f"{len(classical)} do worse, the nearest of them {nearest.name} ({_values(nearest.n_parameters)}; "
            f"{_numbers(nearest)})."
        )
    open_ones = [m for m in classical if m.verdict == "undecided"]
    names = joined([m.name for m in open_ones])
    needed = [m.n_needed for m in open_ones if m.n_needed is not None]
    more = f" About {_round(min(needed)):,} seeds would decide one of them." if needed else ""
    return (
        f"Undecided: no classical model is shown to do as well as {e.agent} within {e.margin:g} of the score, and "
        f"{names} {'are' if len(open_ones) > 1 else 'is'} not shown to do worse ({_seeds(e.n)} each).{more}"
    )


def _smaller(members: Sequence[Member]) -> str:
    """What became of the classical models with fewer trained values than the smallest one."""
    parts = []
    for verdict, words in (("worse", "do worse"), ("undecided", "are undecided")):
        names = [m.name for m in members if m.verdict == verdict]
        if names:
            parts.append(f"{joined(names)} {words if len(names) > 1 else WORDS[verdict]}")  # type: ignore[index]
    return f" Of the smaller ones, {'; '.join(parts)}." if parts else ""


def _finding(member: Member) -> str:
    prior, good = PRIORS[str(member.baseline)], member.verdict in AS_GOOD
    told = f"{WORDS[member.verdict]} ({_values(member.n_parameters)}; {_numbers(member)})."
    if not prior.stands_in:
        return f"{_capital(prior.name)} {'it' if member.verdict == 'undecided' else 'the agent'} {told}"
    if member.verdict == "undecided":
        return f"{_capital(prior.name)}: {prior.what} {told}"
    accounts = "accounts" if good else "alone does not account"
    return f"{_capital(prior.name)} {accounts} for the result: {prior.what} {told}"


def _accounts(e: Explanation) -> str:
    groups: dict[str, list[str]] = {"good": [], "worse": [], "undecided": []}
    for member in _in_order(e.members):
        prior = PRIORS[str(member.baseline)]
        if prior.stands_in:
            groups["good" if member.verdict in AS_GOOD else member.verdict].append(prior.name)
    good, worse, undecided = groups.values()
    if not (good or worse or undecided):
        return ""
    rest = [f"not by {joined(worse)} alone"] if worse else []
    rest += [f"undecided for {joined(undecided)}"] if undecided else []
    if good:
        return f"The result is accounted for by {'; '.join([joined(good), *rest])}."
    return f"No prior is shown to account for the result: {'; '.join(rest)}."


def _in_order(members: Sequence[Member]) -> list[Member]:
    """The generated members, in the order of `BASELINES`."""
    family_members = [m for m in members if m.baseline is not None]
    return sorted(family_members, key=lambda m: list(PRIORS).index(str(m.baseline)))


def _numbers(member: Member) -> str:
    d = member.difference
    if d.value is None:
        return "no difference known"
    if d.low is None or d.high is None:
        return f"difference {_signed(d.value)}, {_seeds(d.n)}"
    return f"difference {_signed(d.value)}, interval {_signed(d.low)} to {_signed(d.high)}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _values(n: int | None) -> str:
    return "unknown size" if n is None else f"{n:,} trained values"


def _seeds(n: int) -> str:
    return f"{n} seed{'s' if n != 1 else ''}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _round(n: int) -> int:
    """Two significant digits, upwards."""
    unit = 10 ** max(0, len(str(n)) - 2)
    return math.ceil(n / unit) * unit


# ---------------------------------------------------------------------- as table, JSON and HTML


def explanation_grid(explanation: Explanation) -> Grid:
    """The agent and its opponents, those with the fewest trained values first."""
    e = explanation

    def cells(n: int | None, score: Estimate, difference: Cell, verdict: str) -> tuple[Cell, ...]:
        return (
            Cell("unknown" if n is None else f"{n:,}"),
            Cell(_plain(score.value), _interval(score.low, score.high)),
            difference,
            Cell(verdict),
        )

    rows = [(Cell(e.agent, "explained"), cells(e.n_parameters, e.score, Cell("0"), ""))]
    for m in e.members:
        d = m.difference
        what = PRIORS[m.baseline].what if m.baseline is not None else "classical learner of the recipe"
        difference = Cell("" if d.value is None else _signed(d.value), _interval(d.low, d.high, _signed))
        rows.append((Cell(m.name, what), cells(m.n_parameters, m.score, difference, m.verdict)))
    rows.sort(key=lambda row: _order(e, row[0].main))
    columns = (
        Cell("trained values"),
        Cell("score", "95 %"),
        Cell("difference", f"{100 * e.level:.4g} %"),
        Cell("verdict"),
    )
    return Grid(f"What accounts for {e.agent}", columns, tuple(rows), _note(e))


def _order(e: Explanation, name: str) -> tuple[float, int]:
    sizes = {e.agent: e.n_parameters} | {m.name: m.n_parameters for m in e.members}
    size = sizes[name]
    return (math.inf if size is None else size, list(sizes).index(name))


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(low: float | None, high: float | None, form: Any = _plain) -> str:
    return "" if low is None or high is None else f"{form(low)} to {form(high)}"


def _note(e: Explanation) -> str:
    missing = f" Not run: {', '.join(e.missing)}." if e.missing else ""
    absent = [b for b in BASELINES if f"{e.agent}.{b}" not in {m.name for m in e.members} | set(e.missing)]
    left = f" Not applicable or not asked for: {', '.join(absent)}." if absent else ""
    return (
        f"Score: {e.measure}; {e.scale}. The {len(e.members)} intervals hold together with 95 %. Margin {e.margin:g}: "
        "equal is an interval inside it, not worse one above its lower end, worse one below 0 that reaches below "
        f"the margin; at least {MINIMUM_FOR_RESULT} seeds.{missing}{left}"
    )


def explanation_section(result: StudyResult) -> str:
    """The verdict, the findings and the table as HTML for the top of a report; empty without a family or a scale."""
    if result.scale is None:
        return ""
    parts = []
    for e in explain(result):
        findings = "".join(f"<li>{html.escape(finding)}</li>" for finding in e.findings)
        grid = explanation_grid(e)
        parts.append(
            f'<section class="card verdict explanation"><p class="sentence">{html.escape(e.headline)}</p>'
            f"<p>{html.escape(e.accounts)}</p>"
            f'<ul>{findings}</ul></section><div class="card">{table(grid, "agents")}</div>'
            f'<p class="note">{html.escape(grid.note)}</p>'
        )
    return f"<h2>What accounts for the result</h2>{''.join(parts)}" if parts else ""


def write_explanation(result: StudyResult, explanations: Sequence[Explanation]) -> Path:
    """Write ``explanation.json`` into the study's folder: numbers, verdicts and sentences."""
    data = [
        {
            **asdict(e),
            "smallest": None if e.smallest is None else e.smallest.name,
            "headline": e.headline,
            "accounts": e.accounts,
            "findings": list(e.findings),
        }
        for e in explanations
    ]
    path = result.directory / "explanation.json"
    write_atomic(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
    return path
