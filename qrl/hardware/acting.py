"""A trained agent whose circuits run elsewhere, and the ways in which it acts there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from circuits.backends import Backend, Capabilities, Expectations, Usage
from circuits.gates import integer
from qrl.agents.base import StatefulAgent
from qrl.agents.build import build_agent, child_seeds, seed_everything
from qrl.agents.training_env import TrainingEnv, make_environment
from qrl.errors import InputError
from qrl.layer import QuantumLayer
from qrl.networks import BornHead
from qrl.networks.heads import EXACT_FLOOR
from qrl.study.checkpoint import load_latest
from qrl.study.recipe import Recipe, make_recipe
from qrl.study.results import Run, find_runs, read_run

Acting = Literal["greedy", "one-shot", "sampled", "adaptive"]
ACTING: tuple[Acting, ...] = get_args(Acting)


@dataclass(frozen=True)
class Setting:
    """How an agent is evaluated.

    Attributes:
        backend: name of what runs its circuits.
        shots: a measurement setting; None for exact values.
        acting: ``greedy``, the best action by the values that are read; ``one-shot``, a Born policy's action as the bit
            string of one shot says; ``sampled``, an action drawn from the policy; ``adaptive``, as many shots as the
            agent's own rule takes to see which action is best.
        episodes: how many, side by side.
        seed: of start states and shots; 0 has the start states of the evaluations in training.
        steps: after which an episode is cut; None plays it to its end.

    Raises:
        TypeError, ValueError: a number that is no integer or too small, an unknown way of acting, or shots that this
            has no use for.
    """

    backend: str
    shots: int | None = None
    acting: Acting = "greedy"
    episodes: int = 100
    seed: int = 0
    steps: int | None = None

    def __post_init__(self) -> None:
        integer("episodes", self.episodes, 1)
        integer("seed", self.seed, 0)
        for name in ("shots", "steps"):
            if getattr(self, name) is not None:
                integer(name, getattr(self, name), 1)
        if self.acting not in ACTING:
            raise InputError("acting", self.acting, "is unknown", f"use one of {', '.join(ACTING)}")
        if self.acting == "one-shot" and self.shots not in (None, 1):
            raise InputError("shots", self.shots, "stand beside one-shot acting", "leave them out")
        if self.acting == "adaptive" and self.shots is not None:
            raise InputError("shots", self.shots, "stand beside the agent's own rule", "leave them out")

    @property
    def shots_taken(self) -> int | None:
        """Shots a measurement setting and action, None where values are exact or a rule decides."""
        return 1 if self.acting == "one-shot" else self.shots

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Trained:
    """A run's agent with the weights of its last checkpoint.

    Attributes:
        run: the run's folder, read.
        recipe: what it was trained by.
        agent: the agent; ``layers`` of it can be moved.
        step: interactions at the checkpoint.
    """

    run: Run
    recipe: Recipe
    agent: StatefulAgent
    step: int

    @property
    def name(self) -> str:
        """``study/agent/seed=n``."""
        return f"{self.run.study}/{self.run.agent}/seed={self.run.seed}"

    @property
    def layers(self) -> list[QuantumLayer]:
        """All its circuits."""
        return quantum_layers(self.agent)

    @property
    def acts_by(self) -> QuantumLayer:
        """The circuit that decides about actions."""
        policy: Any = self.agent.policy  # type: ignore[attr-defined]
        extractor = getattr(policy, "mlp_extractor", None)
        first = getattr(extractor, "actor", None) or getattr(policy, "actor", None) or policy
        found = [module for module in first.modules() if isinstance(module, QuantumLayer)]
        if not found:
            raise InputError("DIR", self.name, "acts without a circuit", "name an agent whose policy has one")
        return found[0]

    @property
    def born(self) -> BornHead | None:
        """Its head, where the policy is that of measured bit strings."""
        head = getattr(getattr(self.agent, "policy", None), "born", None)
        return head if isinstance(head, BornHead) else None

    @property
    def rule(self) -> Any:
        """What takes shots until the best action is clear, None where the agent has no such rule."""
        return getattr(getattr(getattr(self.agent, "policy", None), "q_net", None), "measured", None)

    def check(self, setting: Setting, backend: Backend) -> None:
        """Refuse a way of acting that the agent or the backend does not have.

        Raises:
            ValueError, TypeError: naming it, and the way out.
        """
        if setting.acting == "one-shot":
            if self.born is None:
                why, fix = f"is asked of {self.name}, which has no Born policy", "use --acting greedy"
                raise InputError("acting", setting.acting, why, fix)
            if not (backend.capabilities.joint_shots or backend.capabilities.single_shots):
                why = f"needs the bit strings of single shots, which {backend.name} does not give"
                raise InputError("acting", setting.acting, why, "use aer, native or ibm")
        if setting.acting == "adaptive":
            if self.rule is None:
                why = f"is asked of {self.name}, which has no adaptive_shots"
                raise InputError("acting", setting.acting, why, "use --acting greedy and --shots")
            self.rule.rule.check(backend)
        elif setting.shots_taken is None and not backend.capabilities.exact:
            why = f"but {backend.name} has no exact values"
            raise InputError("shots", "nothing", f"is given, {why}", "write e.g. --shots 1024")

    def move(self, backend: Backend, shots: int | None) -> None:
        """Run all circuits on this backend, with these shots.

        Raises:
            TypeError, ValueError: the backend cannot.
        """
        for layer in self.layers:
            layer.run_on(backend, shots)
        if self.born is not None:
            # in training the floor bounds a gradient; here it would only make actions equal that are not
            self.born.shots, self.born.floor = shots, EXACT_FLOOR


def quantum_layers(agent: Any) -> list[QuantumLayer]:
    """The circuits of an agent, none of one without a policy network."""
    policy = getattr(agent, "policy", None)
    return [] if policy is None else [m for m in policy.modules() if isinstance(m, QuantumLayer)]


def trained_runs(path: Path) -> tuple[list[Trained], list[str]]:
    """The runs under a run, an agent, a study or a root whose agents act by a circuit, and why others are left out.

    Raises:
        InputError: there is none.
    """
    found, left = [], []
    for folder in find_runs(path):
        run = read_run(folder)
        try:
            found.append(load_trained(run))
        except _LeftOut as reason:
            left.append(f"{run.study}/{run.agent}/seed={run.seed}: {reason}")
    if not found:
        why = left[0] if left else "holds no run"
        raise InputError("DIR", str(path), f"has nothing to evaluate ({why})", "name runs of a hybrid agent")
    return found, left


class _LeftOut(Exception):
    """Why a run is not evaluated."""


def load_trained(run: Run) -> Trained:
    """The agent of a finished run."""
    if run.status != "finished":
        raise _LeftOut(run.status)
    recipe = make_recipe(run.recipe)
    spec: Any = recipe.agent(run.agent)
    environment = recipe.environment
    env = TrainingEnv(
        lambda: make_environment(environment.id, environment.options, environment.observation),
        child_seeds(run.seed, "environment", getattr(spec, "n_envs", 1)),
    )
    agent: Any = build_agent(spec, env, run.seed, {a.name: a for a in recipe.agents})
    env.close()
    if not quantum_layers(agent):
        raise _LeftOut("no circuit")
    latest = load_latest(run.directory / "checkpoints")
    if latest is None:
        raise _LeftOut("no checkpoint")
    step, state, _ = latest
    agent.set_state(state["agent"], environment=False)
    return Trained(run, recipe, agent, step)


class Actor:
    """What an ``Evaluator`` asks: an agent acting in one of the ways of ``Setting``."""

    def __init__(self, trained: Trained, setting: Setting) -> None:
        self.agent: Any = trained.agent
        self._acting, self._seed, self._rule = setting.acting, setting.seed, trained.rule

    def predict(
        self, observations: np.ndarray, state: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Actions ``(n, ...)`` for observations ``(n, ...)``, and the agent's memory."""
        if self._acting == "one-shot":
            return self._by_one_shot(observations), None
        if self._acting == "adaptive":
            return self._by_rule(observations), None
        actions, memory = self.agent.predict(
            observations, state=state, deterministic=self._acting == "greedy"
        )
        return np.array(actions), memory

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Every evaluation draws the same numbers, whatever was drawn before, and the agent's go on afterwards."""
        with self.agent.undisturbed():
            seed_everything(self._seed)
            yield

    def _by_one_shot(self, observations: np.ndarray) -> np.ndarray:
        policy = self.agent.policy
        tensor, _ = policy.obs_to_tensor(observations)
        with torch.no_grad():
            values = policy.mlp_extractor.actor.single_shot(policy.extract_features(tensor))
        return np.asarray(values.argmax(-1))

    def _by_rule(self, observations: np.ndarray) -> np.ndarray:
        policy = self.agent.policy
        tensor, _ = policy.obs_to_tensor(observations)
        features = policy.q_net.extract_features(tensor, policy.q_net.features_extractor)
        with torch.no_grad():
            return np.asarray(self._rule.act(features, training=False))


class Metered:
    """A backend that adds up what its requests cost; everything else is the backend's own.

    Attributes:
        usage: of all requests.
        requests: how many.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.usage, self.requests = Usage(), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    @property
    def name(self) -> str:
        """The backend's."""
        return self._backend.name

    @property
    def capabilities(self) -> Capabilities:
        """The backend's."""
        return self._backend.capabilities

    def expectations(self, *arguments: Any, **options: Any) -> Expectations:
        """As the backend's."""
        found = self._backend.expectations(*arguments, **options)
        self.usage = self.usage + found.usage
        self.requests += 1
        return found
