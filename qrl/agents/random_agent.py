"""The random agent: uniform actions, nothing learnt, the floor of every comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces

from qrl.agents.stepping import SteppingAgent
from qrl.agents.training_env import TrainingEnv
from qrl.ledger import phase


class RandomAgent(SteppingAgent):
    """Acts uniformly at random, ``deterministic`` or not, from a generator of its own."""

    def __init__(self, env: TrainingEnv, seed: int) -> None:
        super().__init__(env)
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def state(self) -> dict[str, Any]:
        """As ``StatefulAgent.state``, with the agent's own generator."""
        return {**super().state(), "generator": self.generator.bit_generator.state}

    def set_state(self, state: dict[str, Any], environment: bool = True) -> None:
        """As ``StatefulAgent.set_state``."""
        super().set_state(state, environment)
        self.generator.bit_generator.state = state["generator"]

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """As ``StatefulAgent.undisturbed``, the agent's own generator included."""
        before = self.generator.bit_generator.state
        with super().undisturbed():
            try:
                yield
            finally:
                self.generator.bit_generator.state = before

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Uniform actions, one an observation of a batch, or a single one."""
        space = self.action_space
        batch = np.shape(observation)[: np.ndim(observation) - len(self.observation_space.shape or ())]
        if isinstance(space, spaces.Discrete):
            return self.generator.integers(space.start, space.start + space.n, size=batch), None
        assert isinstance(space, spaces.Box)
        return self.generator.uniform(space.low, space.high, size=(*batch, *space.shape)).astype(
            space.dtype
        ), None

    def _step(self) -> tuple[np.ndarray, list[dict[str, Any]]]:
        with phase("act"):
            actions, _ = self.predict(self._last_obs)
            self._last_obs, _, dones, infos = self.env.step(actions)
        self.num_timesteps += self.env.num_envs
        return dones, infos
