"""Greedy evaluation: many episodes of a vectorised environment at once, always from the same start states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np

from qrl.agents.base import StatefulAgent
from qrl.agents.training_env import make_environment, making, observation_transform
from qrl.errors import InputError
from qrl.study.score import check_measure

# Episodes of an environment without an end of its own would never finish; no task here is near this length.
MAX_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Returns and lengths of the episodes, in the order of their start states.

    ``successes`` says which of them ended in success, None where the environment does not; ``measures`` are what the
    environment itself measures of a policy, by name.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    successes: tuple[bool, ...] | None = None
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns over the episodes (n - 1 in the denominator)."""
        return float(np.std(self.returns, ddof=1)) if len(self.returns) > 1 else 0.0


class Evaluator:
    """Plays ``episodes`` greedy episodes side by side, the start states fixed by ``seed``.

    The environment's own vectorised form is used where it has one, Gymnasium's synchronous one elsewhere. An
    environment with a method ``measures(policy, env)`` is asked for what it measures of the policy.

    Args:
        env_id, options, observation: the environment, as a recipe names it.
        episodes: how many.
        seed: of the start states.
        steps: after which episodes are cut; None plays each to its end.
        frugal: ask for the actions of running episodes alone and for nothing that an environment measures: where an
            answer costs money. What a network's sums round to depends on the size of the batch, so that the bits are
            those of another evaluation.

    Attributes:
        watch: called at each step, before acting, with observations ``(n, ...)`` as the agent sees them and with which
            episodes ``(n,)`` they are of.

    Raises:
        InputError: an unknown id or refused options.
    """

    watch: Callable[[np.ndarray, np.ndarray], None] | None = None

    def __init__(
        self,
        env_id: str,
        options: dict[str, Any],
        observation: str | Sequence[float] | None,
        episodes: int,
        seed: int,
        *,
        steps: int | None = None,
        frugal: bool = False,
    ) -> None:
        self.episodes, self.seed, self.steps = episodes, seed, steps
        self._frugal = frugal
        with making(env_id, options):
            self.env = gym.make_vec(env_id, num_envs=episodes, **options)
        _, self._transform = observation_transform(self.env.single_observation_space, observation)
        single = make_environment(env_id, options, observation)
        self._measured = single if hasattr(single.unwrapped, "measures") and not frugal else None

    def check(self, measure: str) -> None:
        """Refuse a measure that evaluations here will not record.

        Raises:
            InputError: there is no such measure.
        """
        action = self.env.action_space.sample()
        self.env.reset(seed=self.seed)
        *_, infos = self.env.step(action)
        own = () if self._measured is None else self._measure(_Idle(self.env.single_action_space))
        check_measure(measure, own, "success" in infos)

    def __call__(self, agent: StatefulAgent, clock: int = 0) -> Evaluation:
        """Evaluate; the agent's random state afterwards is what it was before.

        An environment that drifts (it has a ``clock``) is evaluated as it is after ``clock`` steps, not as it was.
        """
        with agent.undisturbed():
            played = self._play(agent, clock)
            return played if self._measured is None else replace(played, measures=self._measure(agent))

    def _play(self, agent: Any, clock: int) -> Evaluation:
        options = {"clock": clock} if hasattr(self.env.unwrapped, "clock") else None
        observations, _ = self.env.reset(seed=self.seed, options=options)
        returns = np.zeros(self.episodes)
        lengths = np.zeros(self.episodes, dtype=np.int64)
        running = np.ones(self.episodes, dtype=bool)
        successes: np.ndarray | None = None
        memory = actions = None
        for _ in range(MAX_STEPS if self.steps is None else self.steps):
            seen = observations if self._transform is None else self._transform(observations)
            if self.watch is not None:
                self.watch(seen[running], np.flatnonzero(running))
            if self._frugal and memory is None and actions is not None:
                found, memory = agent.predict(seen[running], state=None, deterministic=True)
                actions[running] = found
            else:
                actions, memory = agent.predict(seen, state=memory, deterministic=True)
            observations, rewards, terminated, truncated, infos = self.env.step(actions)
            # Only the first episode of each member counts; what the others do after theirs is discarded.
            returns[running] += np.asarray(rewards, dtype=np.float64)[running]
            lengths[running] += 1
            ended = running & (terminated | truncated)
            if "success" in infos:
                successes = np.zeros(self.episodes, dtype=bool) if successes is None else successes
                successes[ended] = np.asarray(infos["success"], dtype=bool)[ended]
            running &= ~ended
            if not running.any():
                break
        if not running.any() or self.steps is not None:
            told = None if successes is None else tuple(map(bool, successes))
            return Evaluation(tuple(map(float, returns)), tuple(map(int, lengths)), told)
        raise InputError(
            "environment.id",
            str(self.env.spec),
            f"does not end an episode within {MAX_STEPS} steps",
            "set max_episode_steps",
        )

    def _measure(self, agent: Any) -> dict[str, float]:
        assert self._measured is not None

        def policy(observations: np.ndarray) -> np.ndarray:
            actions, _ = agent.predict(observations, deterministic=True)
            return np.asarray(actions)

        return dict(self._measured.unwrapped.measures(policy, self._measured))  # type: ignore[attr-defined]

    def close(self) -> None:
        """Release the environments."""
        self.env.close()
        if self._measured is not None:
            self._measured.close()


class _Idle:
    """Takes one and the same action everywhere; enough to see what is measured."""

    def __init__(self, space: gym.Space) -> None:
        space.seed(0)
        self._action = space.sample()

    def predict(self, observations: np.ndarray, deterministic: bool = True) -> tuple[np.ndarray, None]:
        return np.stack([self._action] * len(observations)), None
