"""Greedy evaluation: many episodes of a vectorised environment at once, always from the same start states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from qrl.agents.base import StatefulAgent
from qrl.agents.training_env import making, observation_transform
from qrl.errors import InputError

# Episodes of an environment without an end of its own would never finish; no task here is near this length.
MAX_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Returns and lengths of the episodes, in the order of their start states."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]

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

    The environment's own vectorised form is used where it has one, Gymnasium's synchronous one elsewhere.

    Raises:
        InputError: an unknown id or refused options.
    """

    def __init__(
        self, env_id: str, options: dict[str, Any], observation: str | None, episodes: int, seed: int
    ) -> None:
        self.episodes, self.seed = episodes, seed
        with making(env_id, options):
            self.env = gym.make_vec(env_id, num_envs=episodes, **options)
        _, self._transform = observation_transform(self.env.single_observation_space, observation)

    def __call__(self, agent: StatefulAgent) -> Evaluation:
        """Evaluate; the agent's random state afterwards is what it was before."""
        with agent.undisturbed():
            return self._play(agent)

    def _play(self, agent: Any) -> Evaluation:
        observations, _ = self.env.reset(seed=self.seed)
        returns = np.zeros(self.episodes)
        lengths = np.zeros(self.episodes, dtype=np.int64)
        running = np.ones(self.episodes, dtype=bool)
        for _ in range(MAX_STEPS):
            seen = observations if self._transform is None else self._transform(observations)
            actions, _ = agent.predict(seen, deterministic=True)
            observations, rewards, terminated, truncated, _ = self.env.step(actions)
            # Only the first episode of each member counts; what the others do after theirs is discarded.
            returns[running] += np.asarray(rewards, dtype=np.float64)[running]
            lengths[running] += 1
            running &= ~(terminated | truncated)
            if not running.any():
                return Evaluation(tuple(map(float, returns)), tuple(map(int, lengths)))
        raise InputError(
            "environment.id",
            str(self.env.spec),
            f"does not end an episode within {MAX_STEPS} steps",
            "set max_episode_steps",
        )

    def close(self) -> None:
        """Release the environments."""
        self.env.close()
