"""The random agent: uniform actions, nothing learnt, the floor of every comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from qrl.agents.base import StatefulAgent
from qrl.agents.training_env import TrainingEnv
from qrl.ledger import phase


class RandomAgent(StatefulAgent, BaseAlgorithm):
    """Acts uniformly at random, ``deterministic`` or not, from a generator of its own."""

    env: TrainingEnv

    def __init__(self, env: TrainingEnv, seed: int) -> None:
        super().__init__(policy=BasePolicy, env=env, learning_rate=0.0, support_multi_env=True)
        self.policy = None  # type: ignore[assignment]
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def _setup_model(self) -> None:
        """There is nothing to set up."""

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

    def learn(  # type: ignore[override]
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int = 100,
        tb_log_name: str = "random",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Step the environments for the budget."""
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            callback.on_rollout_start()
            with phase("act"):
                actions, _ = self.predict(self._last_obs)
                self._last_obs, _, dones, infos = self.env.step(actions)  # type: ignore[assignment]
            self.num_timesteps += self.env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                break
            self._update_info_buffer(infos, dones)
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            callback.on_rollout_end()
        callback.on_training_end()
        return self
