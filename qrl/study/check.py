"""Everything about a recipe that can be known before it runs: environment, networks and algorithms are built once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from qrl.errors import InputError, nearest
from qrl.study.recipe import Recipe


def select_agents(recipe: Recipe, names: str | None) -> list[str]:
    """The agents to run: all, or those of a comma-separated list.

    Raises:
        InputError: a name that is not in the recipe.
    """
    known = [agent.name for agent in recipe.agents]
    if names is None:
        return known
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise InputError("--agents", name, "is not an agent of this recipe", nearest(name, known))
    if not chosen:
        raise InputError("--agents", names, "names no agent", f"known: {', '.join(known)}")
    return [name for name in known if name in chosen]


def check_recipe(recipe: Recipe, agents: Sequence[str]) -> None:
    """Build the environment, its evaluator and each agent once and throw them away.

    Raises:
        InputError, ValueError, TypeError: what would have stopped a run.
    """
    from qrl.agents.build import build_agent
    from qrl.agents.training_env import TrainingEnv, make_environment
    from qrl.study.evaluation import Evaluator

    environment = recipe.environment
    peers = {agent.name: agent for agent in recipe.agents}

    def make() -> Any:
        return make_environment(environment.id, environment.options, environment.observation)

    make().close()
    evaluator = Evaluator(environment.id, environment.options, environment.observation, 1, 0)
    evaluator.check(recipe.measure)
    evaluator.close()
    for position, agent in enumerate(recipe.agents):
        if agent.name not in agents:
            continue
        try:
            env = TrainingEnv(make, range(getattr(agent, "n_envs", 1)))
            # One action finds what building alone does not: a state vector larger than the memory, a dead device.
            build_agent(agent, env, 0, peers).predict(env.reset())  # type: ignore[attr-defined]
        except (ValueError, TypeError) as error:
            raise _located(error, position) from error


def _located(error: ValueError | TypeError, position: int) -> ValueError:
    """The same error with the agent's path in front of its field."""
    if isinstance(error, InputError):
        return InputError(f"agents.{position}.{error.field}", error.value, error.why, error.fix)
    names_field = re.match(r"\w+: ", str(error)) is not None
    return ValueError(f"agents.{position}.network{'.' if names_field else ': '}{error}")
