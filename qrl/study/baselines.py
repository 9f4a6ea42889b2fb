"""Opponents made from a hybrid agent's own specification, each of which takes one explanation of its result away.

A recipe that says ``baselines = "all"`` gets them as further agents ``<agent>.<baseline>``, with the algorithm, the
learning rates by group, the environment and the budget of the agent itself: they differ from it in the network alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from qrl.errors import InputError, nearest
from qrl.specs import AgentBase, QuantumNetwork, agent_spec

if TYPE_CHECKING:
    from gymnasium import spaces

    from qrl.study.recipe import Recipe

Baseline = Literal[
    "mlp",
    "mlp-large",
    "no-circuit",
    "frozen",
    "no-entanglers",
    "fourier",
    "random-fourier",
    "invariant",
    "tabular",
]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
PARTS = ("network", "critic")


@dataclass(frozen=True, slots=True)
class Task:
    """What a network reads and gives: number of inputs and outputs, and the space of observations."""

    n_inputs: int
    n_outputs: int
    observations: spaces.Space


def family(agent: str, names: Iterable[str]) -> dict[Baseline, str]:
    """The baselines of an agent among these names, by what they take away, in the order of `BASELINES`."""
    known = set(names)
    return {b: f"{agent}.{b}" for b in BASELINES if f"{agent}.{b}" in known}


def owner(name: str, names: Iterable[str]) -> str | None:
    """The agent whose baseline the agent of this name is, None where it is none."""
    agent, _, baseline = name.rpartition(".")
    return agent if baseline in BASELINES and agent in set(names) else None


def hybrid_agents(recipe: Recipe) -> list[Any]:
    """The agents with a trained circuit that are no baselines of others."""
    names = [agent.name for agent in recipe.agents]
    return [agent for agent in recipe.agents if _circuits(agent) and owner(agent.name, names) is None]


def with_baselines(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data, with its baselines among the agents and named by agent under ``study.baselines``.

    An agent of that name that is there already is kept as it is. What is asked for by ``all`` is left out where it does
    not apply.

    Raises:
        InputError: a baseline asked for by name that does not apply, or no agent to make one from.
    """
    names = [agent.name for agent in recipe.agents]
    wanted, choose = _wanted(recipe), recipe.study.baselines == "all"
    data = recipe.to_dict()
    found: dict[str, list[Baseline]] = {}
    task: Task | None = None
    for agent_name, baselines in wanted.items():
        found[agent_name] = []
        for baseline in baselines:
            if f"{agent_name}.{baseline}" not in names:
                task = task_of(recipe) if task is None else task
                try:
                    made = make_baseline(recipe.agent(agent_name), baseline, task)
                except InputError:
                    if choose:
                        continue
                    raise
                data["agents"].append(made.model_dump(mode="json", by_alias=True, exclude_none=True))
            found[agent_name].append(baseline)
    data["study"]["baselines"] = {name: chosen for name, chosen in found.items() if chosen}
    return data


def task_of(recipe: Recipe) -> Task:
    """Sizes and observation space of the recipe's environment, as its agents see it.

    Raises:
        InputError: no such environment, or options that it refuses.
    """
    from gymnasium.spaces import flatdim

    from qrl.agents.sb3 import n_policy_outputs
    from qrl.agents.training_env import make_environment

    environment = recipe.environment
    env = make_environment(environment.id, environment.options, environment.observation)
    try:
        return Task(flatdim(env.observation_space), n_policy_outputs(env.action_space), env.observation_space)
    finally:
        env.close()


def make_baseline(agent: Any, baseline: Baseline, task: Task) -> AgentBase:
    """One baseline of an agent, built once and thrown away to see that it can be.

    Raises:
        InputError: it does not apply to this agent on this task.
    """
    from qrl.networks import VARIANTS

    variant = VARIANTS[baseline.replace("-", "_")]
    try:
        update = {part: variant(network, agent.name) for part, network in _circuits(agent).items()}
        changed = {**agent.model_dump(), "name": f"{agent.name}.{baseline}"}
        made: AgentBase = agent_spec({**changed, **{k: v.model_dump() for k, v in update.items()}})
        _check(made, agent, task)
    except (ValueError, TypeError) as error:
        why, fix = f"does not apply to {agent.name} ({error})", "leave it out"
        raise InputError("study.baselines", baseline, why, fix) from None
    return made


def _circuits(agent: Any) -> dict[str, QuantumNetwork]:
    """The trained circuits of an agent by field."""
    parts = {part: getattr(agent, part, None) for part in PARTS}
    return {
        part: network
        for part, network in parts.items()
        if isinstance(network, QuantumNetwork) and network.circuit == "on" and not network.frozen
    }


def _wanted(recipe: Recipe) -> Mapping[str, list[Baseline]]:
    """Which baselines are asked for, by agent."""
    wanted = recipe.study.baselines
    hybrids = [agent.name for agent in hybrid_agents(recipe)]
    if not hybrids:
        why, fix = "has no agent with a circuit to be made from", "add one, or leave the line out"
        raise InputError("study.baselines", wanted, why, fix)
    if isinstance(wanted, dict):
        for name in wanted:
            if name not in hybrids:
                why = "is not an agent of this recipe with a circuit of its own"
                raise InputError(f"study.baselines.{name}", name, why, nearest(name, hybrids))
        return wanted
    chosen = BASELINES if wanted == "all" or wanted is None else wanted
    return {name: list(dict.fromkeys(chosen)) for name in hybrids}


def _check(made: Any, agent: Any, task: Task) -> None:
    """Refuse a baseline that is the agent itself or whose networks cannot be built."""
    import torch

    from qrl.networks import build_circuit, check_observations, resolve_agent
    from qrl.networks.matching import counterpart

    for part, network in _circuits(made).items():
        own = _circuits(agent)[part]
        if build_circuit(network, task.n_inputs).digest == build_circuit(own, task.n_inputs).digest:
            raise InputError(
                part, network.ansatz, "is the agent's own circuit", "there is nothing to take away"
            )
    resolved = resolve_agent(made, {agent.name: agent}, task.n_inputs, task.n_outputs)
    check_observations(resolved, task.observations)
    with torch.random.fork_rng(devices=[]):
        for part in PARTS:
            if getattr(resolved, part, None) is not None:
                counterpart(resolved, part, task.n_inputs, task.n_outputs)
