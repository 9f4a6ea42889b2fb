"""Claims: what a study is to show, written down and hashed before it runs, and judged after it.

A claim is a TOML file. `qrl claim hash` writes its SHA-256 beside it; `qrl run` copies file and hash from the recipe's
folder into the study's, and every run's manifest records the hash. A judgement says whether the claim held, was
refuted, is not decided, or was changed after hashing, by the tests of `qrl.study.outperforms` and by no other.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from qrl.errors import InputError, nearest
from qrl.specs import Finite, Name, Spec, input_error
from qrl.study.outperforms import (
    AxisResult,
    Pair,
    compare_pair,
    correct_for_number,
    scores_of,
)
from qrl.study.pairs import acceleration, p_text, short
from qrl.study.recipe import parse_seeds
from qrl.study.sample_complexity import EPSILONS, SUCCESS_PROBABILITIES

if TYPE_CHECKING:
    from qrl.study.comparison import StudyResult

PATTERN = "claim*.toml"
"""Names of claim files in the folder of a recipe or a study."""

Verdict = Literal["held", "refuted", "not decided", "changed after hashing"]
Metric = Literal[
    "sample_complexity",
    "interactions",
    "seconds",
    "joules",
    "executions",
    "hardware_executions",
    "final_return",
    "mean_return",
]


class GridCell(Spec):
    """One cell of the grid of sample complexities."""

    epsilon: float
    """Distance from the optimum on the normalised scale."""
    success_probability: float
    """Share of runs that must be that near."""

    @model_validator(mode="after")
    def _of_the_grid(self) -> GridCell:
        for field, value, known in (
            ("epsilon", self.epsilon, EPSILONS),
            ("success_probability", self.success_probability, SUCCESS_PROBABILITIES),
        ):
            if value not in known:
                raise InputError(
                    field, value, "is not in the grid", f"use one of {', '.join(map(str, known))}"
                )
        return self


class Claim(Spec):
    """That one agent outperforms others in one metric."""

    hypothesis: str = Field(min_length=1)
    """The claim in words."""
    agent: Name
    """Agent that is claimed to outperform."""
    opponents: list[Name] = Field(min_length=1)
    """Agents that it is claimed to outperform, each of them."""
    metric: Metric
    """Cost to the threshold, score, or the sample complexity over its grid."""
    seeds: str
    """Half-open range ``a:b``; these seeds count and no others."""
    threshold: Finite | None = None
    """Level of the study's measure that counts as solved; must be the recipe's where the metric is a cost to it."""
    cell: GridCell | None = None
    """One cell of the grid, for the sample complexity; the whole grid by default."""
    factor: float = Field(default=1.0, ge=1.0, allow_inf_nan=False)
    """By which factor at least the agent needs less, for costs."""
    difference: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """By how much at least the agent's score is higher, for scores."""

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: str) -> str:
        parse_seeds(value)
        return value

    @model_validator(mode="after")
    def _fields_that_go_together(self) -> Claim:
        if self.agent in self.opponents:
            raise InputError("opponents", self.agent, "is the claim's own agent", "name others")
        if self.cell is not None and self.metric != "sample_complexity":
            raise InputError(
                "cell", self.metric, "has no grid", 'use metric = "sample_complexity" or leave it out'
            )
        score = self.metric in ("final_return", "mean_return")
        if score and self.factor != 1.0:
            raise InputError("factor", self.factor, "is of a cost", "give difference for a score")
        if not score and self.difference != 0.0:
            raise InputError("difference", self.difference, "is of a score", "give factor for a cost")
        return self


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of a claim: the verdict, what it rests on in `lines`, and in `seal` when it was hashed."""

    name: str
    claim: Claim
    verdict: Verdict
    lines: tuple[str, ...]
    seal: str


def read_claim(path: Path) -> Claim:
    """Read a claim file.

    Raises InputError: unreadable, not TOML, or an invalid entry.
    """
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise InputError("claim", str(path), f"cannot be read ({error.strerror})", "check the path") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError("claim", str(path), f"is not valid TOML ({error})", "correct that line") from None
    try:
        return Claim.model_validate(data)
    except ValidationError as error:
        raise input_error(error) from None


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_file(path: Path) -> Path:
    """Where the hash of a claim file stands: beside it, in the form of `sha256sum`."""
    return path.with_name(f"{path.name}.sha256")


def hash_claim(path: Path) -> str:
    """Write the hash of a valid claim beside it; returns the hash.

    Raises InputError where the claim is invalid or was hashed before with other content.
    """
    from qrl.study.checkpoint import write_atomic

    read_claim(path)
    found, before = digest(path), recorded_hash(path)
    if before not in (None, found):
        raise InputError(
            "claim", str(path), "was changed after it was hashed", "write a new claim under a new name"
        )
    if before is None:
        write_atomic(hash_file(path), f"{found}  {path.name}\n")
    return found


def recorded_hash(path: Path) -> str | None:
    """The hash that was written beside a claim, None where there is none."""
    beside = hash_file(path)
    return beside.read_text("utf-8").split()[0] if beside.exists() and beside.stat().st_size else None


def recorded_hashes(folder: Path) -> dict[str, str]:
    """The hashes of the claims in a folder, by file name."""
    found = {path.name: recorded_hash(path) for path in sorted(folder.glob(PATTERN))}
    return {name: value for name, value in found.items() if value is not None}


def take_claims(source: Path, study: Path) -> list[str]:
    """Copy the hashed claims of a recipe's folder into its study's; returns the names of claims without a hash.

    Raises InputError where a claim was changed after hashing, or after the study took it.
    """
    from qrl.study.checkpoint import write_atomic

    unhashed = []
    for path in sorted(source.glob(PATTERN)):
        expected, taken = recorded_hash(path), study / path.name
        if expected is None:
            unhashed.append(path.name)
            continue
        if digest(path) != expected:
            raise InputError(
                "claim", str(path), "was changed after it was hashed", "restore it or give it a new name"
            )
        if recorded_hash(taken) not in (None, expected):
            raise InputError("claim", str(path), "is not the one the study began with", "give it a new name")
        if not taken.exists():
            write_atomic(taken, path.read_bytes().decode("utf-8"))
            write_atomic(hash_file(taken), f"{expected}  {path.name}\n")
    return unhashed


def judge_claims(result: StudyResult) -> tuple[Judgement, ...]:
    """Judge every claim file in a study's folder."""
    return tuple(judge_claim(path, result) for path in sorted(result.directory.glob(PATTERN)))


def judge_claim(path: Path, result: StudyResult) -> Judgement:
    """Judge one claim by a study's runs of its seeds; p-values are adjusted for the claim's own tests.

    It is held where the agent outperforms every opponent by the factor or difference claimed, refuted where the
    interval against any opponent lies wholly on the other side of it, and otherwise not decided; so too where agents,
    seeds or the threshold of the study are not those of the claim. Over the whole grid, more than half of the cells
    must agree and none may contradict.

    Raises InputError for a file that is no claim.
    """
    claim = read_claim(path)
    changed, seal = _seal(path, claim, result)
    problems = _differences(claim, result)
    lines = problems
    verdicts: list[Verdict] = ["not decided"]
    if not problems:
        pairs = _tests(claim, result)
        verdicts = [_verdict(claim, pair) for pair in pairs]
        lines = [f"against {p.opponent}: {v}, {_numbers(p)}" for p, v in zip(pairs, verdicts, strict=True)]
    verdict: Verdict = (
        "held" if set(verdicts) == {"held"} else "refuted" if "refuted" in verdicts else "not decided"
    )
    return Judgement(path.name, claim, "changed after hashing" if changed else verdict, tuple(lines), seal)


def _seal(path: Path, claim: Claim, result: StudyResult) -> tuple[bool, str]:
    """Whether a claim was changed after hashing, and in words what is known of when it was hashed."""
    expected = recorded_hash(path)
    if expected is None:
        return False, "not hashed: nothing shows that it was made before the runs"
    if digest(path) != expected:
        return True, f"hashed as {expected[:16]}, and changed since"
    agents, seeds = (claim.agent, *claim.opponents), parse_seeds(claim.seeds)
    manifests = [run.manifest for run in result.runs if run.agent in agents and run.seed in seeds]
    kept = [(manifest.get("claims") or {}).get(path.name) for manifest in manifests]
    if any(found not in (None, expected) for found in kept):
        return True, f"hashed as {expected[:16]}, but runs recorded another hash"
    begun = sum(found is not None for found in kept)
    if begun and begun == len(kept):
        return False, f"hashed before the runs: {expected[:16]} stands in all {begun} manifests"
    return False, f"hashed as {expected[:16]}; {begun} of {len(kept)} runs began with that hash on record"


def _differences(claim: Claim, result: StudyResult) -> list[str]:
    """In what the study is not the one that the claim speaks of."""
    found, seeds = [], parse_seeds(claim.seeds)
    agents = {agent.name: agent for agent in result.agents}
    for name in (claim.agent, *claim.opponents):
        if name not in agents:
            found.append(f"{name} has not run; {nearest(name, agents)}")
            continue
        missing = sorted(set(seeds) - {outcome.seed for outcome in agents[name].outcomes})
        if missing:
            found.append(f"{name} lacks {len(missing)} of {len(seeds)} seeds, the first {missing[0]}")
    if claim.threshold is not None and claim.threshold != result.threshold:
        found.append(f"the study's threshold is {result.threshold}, not {claim.threshold:g}")
    if claim.metric not in ("sample_complexity", "final_return", "mean_return") and result.threshold is None:
        found.append("the study has no threshold, so that nothing has a cost to it")
    return found


def _tests(claim: Claim, result: StudyResult) -> tuple[Pair, ...]:
    """The claim's tests alone: one pair an opponent, adjusted for their number."""
    seeds = parse_seeds(claim.seeds)
    agent = result.agent(claim.agent)
    pairs = []
    for name in claim.opponents:
        opponent = result.agent(name)
        pair = compare_pair(
            scores_of(agent).of(seeds),
            scores_of(opponent).of(seeds),
            is_twin=False,
            has_threshold=result.threshold is not None,
            joules_kind=agent.joules_kind,
        )
        axes = tuple(axis for axis in pair.axes if axis.axis == claim.metric)
        grid = pair.grid if claim.metric == "sample_complexity" else ()
        if claim.cell is not None:
            wanted = claim.cell.epsilon, claim.cell.success_probability
            grid = tuple(c for c in grid if (c.hybrid.epsilon, c.hybrid.success_probability) == wanted)
        pairs.append(replace(pair, axes=axes, grid=grid))
    return correct_for_number(pairs)[0]


def _verdict(claim: Claim, pair: Pair) -> Verdict:
    """Of one opponent: that of the only test, or of most cells of the grid with none against."""
    tests = [cell.test for cell in pair.grid] or list(pair.axes)
    found = [_of_test(claim, test) for test in tests]
    sides: tuple[tuple[Verdict, Verdict], ...] = (("held", "refuted"), ("refuted", "held"))
    for verdict, against in sides:
        if 2 * found.count(verdict) > len(found) and against not in found:
            return verdict
    return "not decided"


def _of_test(claim: Claim, test: AxisResult) -> Verdict:
    low, high = test.comparison.low, test.comparison.high
    if test.verdict in ("faster", "higher") and _at_least(claim, test):
        return "held"
    if test.verdict in ("slower", "lower"):
        return "refuted"
    if test.verdict == "too few seeds" or low is None or high is None:
        return "not decided"
    if test.form == "ratio":
        return "refuted" if claim.factor > 1.0 and low > 1.0 / claim.factor else "not decided"
    return "refuted" if claim.difference > 0.0 and high < claim.difference else "not decided"


def _at_least(claim: Claim, test: AxisResult) -> bool:
    """Whether the whole interval lies beyond the factor or difference claimed."""
    if test.form == "ratio":
        high = test.comparison.high
        return claim.factor == 1.0 or (high is not None and high <= 1.0 / claim.factor)
    return (test.comparison.low or 0.0) >= claim.difference


def _numbers(pair: Pair) -> str:
    if len(pair.grid) > 1:
        return acceleration(pair)[0].why
    tests = [cell.test for cell in pair.grid] or list(pair.axes)
    if not tests:
        return "not recorded for both agents"
    test, c = tests[0], tests[0].comparison
    if c.value is None or c.low is None or c.high is None:
        return test.note
    what = f"{test.form} {short(c.value)}, 95 %: {short(c.low)} to {short(c.high)}"
    return what if test.p_holm is None else f"{what}, p {p_text(test.p_holm)}"
