"""A study as data: environment x agents x seeds x budget, read from TOML, overridden, validated, written back."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from qrl.errors import InputError, nearest
from qrl.specs import (
    ALGORITHMS,
    AgentSpec,
    Finite,
    Name,
    Positive,
    PositiveInt,
    Spec,
    input_error,
    is_unmatched,
    register_model,
)
from qrl.study.baselines import BASELINES, Baseline, with_baselines
from qrl.study.score import RETURN

MAX_RECIPE_BYTES = 1_000_000
MAX_SEED = 2**32
TUNING_SEEDS = 2**31
"""First of the seeds that are for tuning; their runs are evaluated from start states of their own."""


class Study(Spec):
    """Name and seeds."""

    name: Name
    """Name of the study and of its folder."""
    seeds: str = "0:10"
    """Half-open range ``a:b``, or a single seed."""
    pairs: list[tuple[Name, Name]] | None = Field(default=None, min_length=1)
    """Which agents are compared with which; by default every hybrid agent with every classical learner."""
    baselines: (
        Literal["all"]
        | Annotated[list[Baseline], Field(min_length=1)]
        | dict[Name, Annotated[list[Baseline], Field(min_length=1)]]
        | None
    ) = None
    """Opponents added for every hybrid agent: ``all`` that apply, some by name, or by agent which."""
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Loss of normalised score that counts as none when a result is explained; 0.05 by default."""

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: str) -> str:
        parse_seeds(value)
        return value

    @field_validator("baselines", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        lists = value.values() if isinstance(value, dict) else [value]
        for name in (name for chosen in lists if isinstance(chosen, list) for name in chosen):
            if name not in BASELINES:
                raise InputError("baselines", name, "is no baseline", nearest(str(name), BASELINES))
        return value


class Environment(Spec):
    """Which environment, with what options and observation scaling; the same for every agent."""

    id: str
    """Gymnasium id (``qrl envs`` lists ours)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keywords of the environment."""
    observation: (
        Literal["scaled", "arctan", "raw"] | Annotated[list[Positive], Field(min_length=1)] | None
    ) = None
    """``scaled``: to [-1, 1] by the space's limits (default where it is bounded); ``arctan``; ``raw``; or numbers by
    which the components are divided."""


class Budget(Spec):
    """How long an agent learns and how often it is looked at."""

    interactions: PositiveInt = 10_000
    """Environment steps, warm-up included."""
    evaluations: Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]] = 10
    """How many evenly spaced evaluations, the last at the budget; or at which interaction counts."""
    evaluation_episodes: PositiveInt = 100
    """Greedy episodes an evaluation, always from the same start states."""
    diagnostics: bool = False
    """Whether to record gradients and circuits at each evaluation, in ``diagnostics.jsonl``. The run's results are the
    same bits with it and without it."""
    effective_dimension: bool = False
    """Whether the diagnostics estimate that too, which takes longer than the rest of them."""

    @model_validator(mode="after")
    def _part_of_diagnostics(self) -> Budget:
        if self.effective_dimension and not self.diagnostics:
            raise InputError(
                "effective_dimension",
                "true",
                "is part of the diagnostics",
                "write diagnostics = true beside it",
            )
        return self

    @property
    def schedule(self) -> tuple[int, ...]:
        """Interaction counts of the evaluations, ascending; the budget itself is always the last."""
        if isinstance(self.evaluations, list):
            looks = {n for n in self.evaluations if n <= self.interactions}
        else:
            looks = {
                math.ceil(self.interactions * k / self.evaluations) for k in range(1, self.evaluations + 1)
            }
        return tuple(sorted(looks | {self.interactions}))


class Threshold(Spec):
    """What counts as solved."""

    return_: Finite | None = Field(default=None, alias="return")
    """Mean return of an evaluation at or above which the task counts as solved, once confirmed."""
    measure: str | None = None
    """Instead of the return: ``solved_within_K``, the share of evaluation episodes that end in success after at most K
    steps, or a measure of the environment's own, such as ``optimality``. Curves and final scores are then in it."""
    value: Finite | None = None
    """Value of the measure at or above which the task counts as solved, once confirmed."""
    confirmation_episodes: PositiveInt = 100
    """Fresh episodes, from other start states, on which a first crossing must hold."""
    optimum: Finite | None = None
    """Score of a documented reference policy, 1 on the normalised scale; the best of the study where none is given."""
    random: Finite | None = None
    """Score of the random policy, 0 on the normalised scale; see `qrl.study.sample_complexity.scale_of`."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Threshold:
        if (self.measure is None) != (self.value is None):
            given = {"measure": self.measure, "value": self.value}
            raise InputError("threshold", given, "is half a threshold", "give both measure and value")
        if (self.return_ is None) == (self.measure is None):
            why = "has two levels" if self.return_ is not None else "has no level"
            raise InputError("threshold", self.measure, why, "give return, or measure and value")
        if self.optimum is not None and self.random is not None and not self.optimum > self.random:
            raise InputError(
                "threshold.optimum", self.optimum, "is not above threshold.random", "exchange the two"
            )
        return self


class Attribution(Spec):
    """Between which two agents a gain is to be explained, and by which others."""

    base: str
    """Agent without what is to be explained."""
    full: str
    """Agent with all of it."""
    agents: dict[str, str] = Field(min_length=1)
    """Agents between them, in order: name, and in words what sets it apart."""


class Range(Spec):
    """Where a hyperparameter is searched: between two ends, or among some values."""

    low: int | Finite | None = None
    """Lower end; two integers make the hyperparameter an integer."""
    high: int | Finite | None = None
    """Upper end, included."""
    log: bool = False
    """Evenly in the logarithm."""
    choices: list[str | int | Finite] | None = Field(default=None, min_length=2)
    """The values, in place of ends."""

    @model_validator(mode="after")
    def _ends_or_choices(self) -> Range:
        if (self.low is None) == (self.choices is None) or (self.low is None) != (self.high is None):
            raise InputError("ranges", self._given(), "is no range", "give low and high, or choices")
        if self.low is not None and self.high is not None:
            if not self.low < self.high:
                raise InputError("ranges", self._given(), "is empty", "give low < high")
            if self.log and self.low <= 0:
                raise InputError("ranges", self._given(), "has no logarithm", "give low > 0")
        return self

    def _given(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class Tuning(Spec):
    """How hyperparameters are searched, the same for every agent."""

    trials: PositiveInt = 20
    """Trials an agent."""
    seeds: str = f"{TUNING_SEEDS}:{TUNING_SEEDS + 3}"
    """Seeds of every trial, a half-open range from 2^31 on; never those of the study."""
    interactions: PositiveInt | None = None
    """Environment steps of each run of a trial; the study's budget by default."""
    pruner: Literal["median", "halving", "none"] = "median"
    """Which trials are stopped early: below the median of the others, by successive halving, or none."""
    ranges: dict[str, Annotated[dict[str, Range], Field(min_length=1)]] = Field(default_factory=dict)
    """By algorithm, in place of its default search space: dotted path of an agent's entry, and its range."""

    @field_validator("seeds")
    @classmethod
    def _reserved(cls, value: str) -> str:
        if parse_seeds(value).start < TUNING_SEEDS:
            why, fix = "are not reserved for tuning", f"use seeds from 2^31 = {TUNING_SEEDS} on"
            raise InputError("seeds", value, why, fix)
        return value

    @field_validator("ranges")
    @classmethod
    def _algorithms(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name not in ALGORITHMS:
                raise InputError(f"ranges.{name}", name, "is no algorithm", nearest(name, ALGORITHMS))
        return value


class Recipe(Spec):
    """A whole study."""

    study: Study
    environment: Environment
    budget: Budget = Budget()
    threshold: Threshold | None = None
    attribution: Attribution | None = None
    tuning: Tuning | None = None
    agents: list[AgentSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> Recipe:
        names = [agent.name for agent in self.agents]
        for name in names:
            if names.count(name) > 1:
                raise InputError("agents", name, "is the name of two agents", "give each agent its own name")
        for agent in self.agents:
            for field in ("network", "critic"):
                network = getattr(agent, field, None)
                if network is None or not is_unmatched(network):
                    continue
                others = [name for name in names if name != agent.name]
                if network.match not in others:
                    raise InputError(
                        f"agents.{names.index(agent.name)}.{field}.match",
                        network.match,
                        "is not another agent of this recipe",
                        nearest(str(network.match), others),
                    )
        return self

    @model_validator(mode="after")
    def _named(self) -> Recipe:
        if not self.is_resolved:  # names of baselines are known once these are there
            return self
        names = [agent.name for agent in self.agents]
        for position, pair in enumerate(self.study.pairs or ()):
            for name in pair:
                if name not in names:
                    where = f"study.pairs.{position}"
                    raise InputError(where, name, "is not an agent of this recipe", nearest(name, names))
            if pair[0] == pair[1]:
                raise InputError(
                    f"study.pairs.{position}", pair[0], "is compared with itself", "name two agents"
                )
        if self.attribution is not None:
            for name in (self.attribution.base, self.attribution.full, *self.attribution.agents):
                if name not in names:
                    raise InputError(
                        "attribution", name, "is not an agent of this recipe", nearest(name, names)
                    )
        return self

    @model_validator(mode="after")
    def _tuned_on_other_seeds(self) -> Recipe:
        if self.tuning is not None:
            reported, tuned = self.seeds, parse_seeds(self.tuning.seeds)
            if reported.start < tuned.stop and tuned.start < reported.stop:
                why, fix = f"overlaps the tuning seeds {self.tuning.seeds}", f"use seeds below {tuned.start}"
                raise InputError("study.seeds", self.study.seeds, why, fix)
        return self

    @property
    def is_resolved(self) -> bool:
        """Whether the baselines that the recipe asks for are among its agents."""
        return not isinstance(self.study.baselines, str | list)

    @property
    def seeds(self) -> range:
        """The seeds of the study."""
        return parse_seeds(self.study.seeds)

    @property
    def measure(self) -> str:
        """What evaluations are scored by."""
        return RETURN if self.threshold is None or self.threshold.measure is None else self.threshold.measure

    @property
    def level(self) -> float | None:
        """The score that counts as solved, none without a threshold."""
        if self.threshold is None:
            return None
        return self.threshold.return_ if self.threshold.measure is None else self.threshold.value

    def agent(self, name: str) -> Any:
        """The agent of that name.

        Raises:
            InputError: no agent has it.
        """
        for agent in self.agents:
            if agent.name == name:
                return agent
        raise InputError(
            "agents", name, "is not an agent of this recipe", nearest(name, [a.name for a in self.agents])
        )

    def to_dict(self) -> dict[str, Any]:
        """The resolved recipe as plain TOML-ready data, every default written out."""
        return _without_none(self.model_dump(mode="json", by_alias=True))

    def to_toml(self) -> str:
        """The resolved recipe as TOML that reads back equal."""
        return dump_toml(self.to_dict())

    @property
    def digest(self) -> str:
        """Hash of what is being studied: everything except the seeds."""
        data = self.to_dict()
        del data["study"]["seeds"]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


for _name, _model in {
    "recipe": Recipe,
    "study": Study,
    "environment": Environment,
    "budget": Budget,
    "threshold": Threshold,
    "attribution": Attribution,
    "tuning": Tuning,
}.items():
    register_model(_name, _model)


def parse_seeds(text: str) -> range:
    """Read ``a:b`` (half-open) or a single seed.

    Raises:
        InputError: not of that form, empty, or outside 0 ... 2^32 - 1.
    """
    match = re.fullmatch(r"\s*(\d{1,10})\s*(?::\s*(\d{1,10})\s*)?", text)
    if match is None:
        raise InputError(
            "seeds", text, "is not a range of seeds", "write a:b with 0 <= a < b (half-open), e.g. 0:10"
        )
    first = int(match[1])
    last = int(match[2]) if match[2] is not None else first + 1
    if first >= last:
        raise InputError("seeds", text, "is empty", "write a:b with a < b (half-open), e.g. 0:10")
    if last > MAX_SEED:
        raise InputError("seeds", text, "goes beyond 2^32 - 1", "use seeds from 0 to 4294967295")
    return range(first, last)


def load_recipe(
    path: str | os.PathLike[str], overrides: Iterable[str] = (), seeds: str | None = None
) -> Recipe:
    """Read a TOML recipe, apply ``PATH=VALUE`` overrides and a seed range, and validate it.

    A recipe that says ``extends = "other.toml"`` (a path from its own folder) is that recipe with what it says itself
    in place: tables are merged entry by entry, everything else is replaced.

    Raises:
        InputError: unreadable file, not TOML, unknown override path, or any invalid entry.
    """
    data = _extended(_read_toml(Path(path)), Path(path))
    for override in overrides:
        apply_override(data, override)
    if seeds is not None:
        parse_seeds(seeds)
        data.setdefault("study", {})["seeds"] = seeds
    return make_recipe(data)


def make_recipe(data: Mapping[str, Any]) -> Recipe:
    """Validate a mapping as a recipe and add the baselines that it asks for.

    Raises:
        InputError: the first invalid entry, named by its path.
    """
    try:
        recipe = Recipe.model_validate(data)
        return recipe if recipe.study.baselines is None else Recipe.model_validate(with_baselines(recipe))
    except ValidationError as error:
        raise input_error(error) from None


def _read_toml(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise InputError("recipe", str(path), "is a folder", "name the TOML file inside it")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_RECIPE_BYTES + 1)
    except FileNotFoundError:
        raise InputError("recipe", str(path), "does not exist", "check the path") from None
    except OSError as error:
        raise InputError(
            "recipe", str(path), f"cannot be read ({error.strerror})", "check its permissions"
        ) from None
    if len(raw) > MAX_RECIPE_BYTES:
        raise InputError("recipe", str(path), "is larger than 1 MB", "a recipe is a short text file")
    try:
        data = tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise InputError("recipe", str(path), "is not UTF-8 text", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError("recipe", str(path), f"is not valid TOML ({error})", "correct that line") from None
    except RecursionError:
        raise InputError("recipe", str(path), "is nested too deeply", "flatten it") from None
    if not data:
        raise InputError("recipe", str(path), "is empty", "see experiments/ for examples")
    return data


def _extended(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """The recipe with what it takes over from the one it extends."""
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise InputError("extends", base, "is no path", 'write e.g. extends = "recipe.toml"')
    taken = _read_toml(path.parent / base)
    if "extends" in taken:
        raise InputError("extends", base, "extends another recipe itself", "extend that one")
    return _merged(taken, data)


def extension(recipe: Recipe, source: Path, folder: Path) -> str:
    """A recipe as TOML in a folder: what it says otherwise than the file at ``source``, which it extends.

    It is written whole where it cannot be said so, as where that file extends another one itself.
    """
    taken = _read_toml(source)
    if "extends" in taken:
        return recipe.to_toml()
    before, now = make_recipe(taken).to_dict(), recipe.to_dict()
    own: dict[str, Any] = {}
    for key, value in now.items():
        if value == before.get(key):
            continue
        inner = before.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            own[key] = {k: v for k, v in value.items() if v != inner.get(k)}
        else:
            own[key] = value
    if make_recipe(_merged(taken, own)) != recipe:
        return recipe.to_toml()
    return dump_toml({"extends": os.path.relpath(source, folder), **own})


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = base.keys() & own.keys()
    inner = {
        k: _merged(base[k], own[k]) for k in both if isinstance(base[k], dict) and isinstance(own[k], dict)
    }
    return {**base, **own, **inner}


def apply_override(data: dict[str, Any], override: str) -> None:
    """Apply one ``PATH=VALUE``: dotted path, list items by index, the value read as TOML and else as a string.

    A path may name a key that the file leaves at its default; whether the key exists at all is decided by the
    validation that follows.

    Raises:
        InputError: no ``=``, or a path that leads nowhere.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise InputError(
            "--set", override, "is not PATH=VALUE", "write e.g. --set agents.0.network.n_layers=5"
        )
    keys = path.split(".")
    node: Any = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        here = ".".join(keys[: depth + 1])
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise InputError(
                    "--set", here, "leads nowhere", f"the list has the items 0 to {len(node) - 1}"
                )
            index: Any = int(key)
        elif isinstance(node, dict):
            index = key
        else:
            raise InputError("--set", here, "leads nowhere", f"{'.'.join(keys[:depth])} is a single value")
        if last:
            node[index] = _toml_value(text)
        elif isinstance(node, dict) and index not in node:
            node = node.setdefault(index, {})
        else:
            node = node[index]


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_none(v) for v in value]
    return value


def dump_toml(data: Mapping[str, Any]) -> str:
    """Write nested plain data as TOML: scalars first, one table a top-level key, agents as an array of tables."""
    lines: list[str] = []
    for key, value in data.items():
        if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            for item in value:
                lines += ["", f"[[{key}]]", *(f"{_key(k)} = {_inline(v)}" for k, v in item.items())]
        elif isinstance(value, dict):
            lines += ["", f"[{key}]", *(f"{_key(k)} = {_inline(v)}" for k, v in value.items())]
        else:
            lines.append(f"{_key(key)} = {_inline(value)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's, except that TOML forbids the lone DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items()) + " }" if value else "{}"
        )
    raise TypeError(f"a recipe cannot hold a {type(value).__name__}")
