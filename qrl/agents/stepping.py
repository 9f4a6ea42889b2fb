"""What agents share that train no policy network: they step their environments and do something at each step."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from qrl.agents.base import StatefulAgent
from qrl.agents.training_env import TrainingEnv


class SteppingAgent(StatefulAgent, BaseAlgorithm):
    """A Stable-Baselines3 algorithm without a policy of its own.

    Args:
        env: where it learns.
    """

    env: TrainingEnv
    _last_obs: Any

    def __init__(self, env: TrainingEnv) -> None:
        super().__init__(policy=BasePolicy, env=env, learning_rate=0.0, support_multi_env=True)
        self.policy = None  # type: ignore[assignment]

    def _setup_model(self) -> None:
        """There is nothing to set up."""

    @abstractmethod
    def _step(self) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Step the environments once, count the interactions, and return who is done, and the infos."""

    def learn(  # type: ignore[override]
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int = 100,
        tb_log_name: str = "stepping",
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
            dones, infos = self._step()
            callback.update_locals(locals())
            if not callback.on_step():
                break
            self._update_info_buffer(infos, dones)
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            callback.on_rollout_end()
        callback.on_training_end()
        return self
