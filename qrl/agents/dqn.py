"""Stable-Baselines3's DQN, its numbers bit for bit, without the overhead that outweighs a small network."""

from __future__ import annotations

from typing import Any

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import (
    ReplayBufferSamples,
    RolloutReturn,
    TrainFreq,
    TrainFrequencyUnit,
)
from torch.nn.functional import mse_loss, smooth_l1_loss

from qrl.agents.optim import clip_gradients


class Replay(ReplayBuffer):
    """``ReplayBuffer`` that is filled and read with one copy of each array."""

    pos: int
    full: bool

    def store(
        self,
        observations: np.ndarray,
        following: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """As ``add``; ``following`` are the observations that the environments gave, after a reset where one ended."""
        at = self.pos
        after = self.next_observations[at]
        self.observations[at] = observations.reshape(after.shape)
        after[:] = following.reshape(after.shape)
        self.actions[at] = actions.reshape(self.actions[at].shape)
        self.rewards[at] = rewards
        self.dones[at] = dones
        self.timeouts[at] = False
        for index in np.flatnonzero(dones) if dones.any() else ():
            info = infos[index]
            if info.get("terminal_observation") is not None:
                after[index] = info["terminal_observation"]
            self.timeouts[at, index] = info.get("TimeLimit.truncated", False)
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full, self.pos = True, 0

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> ReplayBufferSamples:
        rows = (batch_inds, np.random.randint(0, high=self.n_envs, size=(len(batch_inds),)))
        ended = self.dones[rows] * (1 - self.timeouts[rows])
        found = (
            self.observations[rows],
            self.actions[rows],
            self.next_observations[rows],
            ended.reshape(-1, 1),
            self.rewards[rows].reshape(-1, 1),
        )
        return ReplayBufferSamples(*map(torch.from_numpy, found))


class LeanDQN(stable_baselines3.DQN):
    """``stable_baselines3.DQN`` with a leaner inner loop; where that does not apply, with its own.

    It applies to policies with a ``pullback`` (ours), on the CPU, to observations that are no dictionary and to the
    plain replay buffer, trained after numbers of steps.

    Attributes:
        exploration_decay: factor of epsilon after each episode, instead of the fall over the budget.
        squared_loss: whether the loss is the mean square of the temporal differences; smooth L1 otherwise.
        double: whether the online network chooses the action that the target network values (van Hasselt et al.,
            arXiv:1509.06461); the target network does both otherwise.
    """

    exploration_decay: float | None = None
    squared_loss: bool = False
    double: bool = False
    replay_buffer_class: Any
    _last_obs: Any

    def _setup_model(self) -> None:
        if self.replay_buffer_class is None and not isinstance(self.observation_space, spaces.Dict):
            self.replay_buffer_class = Replay
        super()._setup_model()
        buffer = self.replay_buffer
        self._lean = (
            isinstance(buffer, Replay)
            and not buffer.optimize_memory_usage
            and buffer.handle_timeout_termination
            and self._vec_normalize_env is None
            and hasattr(self.policy, "pullback")
            and self.device.type == "cpu"
        )

    def collect_rollouts(
        self,
        env: Any,
        callback: Any,
        train_freq: TrainFreq,
        replay_buffer: Any,
        action_noise: Any = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """As Stable-Baselines3's."""
        if not self._lean or action_noise is not None or train_freq.unit is not TrainFrequencyUnit.STEP:
            return super().collect_rollouts(
                env, callback, train_freq, replay_buffer, action_noise, learning_starts, log_interval
            )
        num_collected_steps, num_collected_episodes, continue_training = 0, 0, True
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        while num_collected_steps < train_freq.frequency:
            observations = self._last_obs
            actions = buffer_actions = self._choose(observations, learning_starts)
            new_obs, rewards, dones, infos = env.step(actions)
            self.num_timesteps += env.num_envs
            num_collected_steps += 1
            callback.update_locals(locals())
            if not callback.on_step():
                return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, False)
            self._update_info_buffer(infos, dones)
            replay_buffer.store(observations, new_obs, buffer_actions, rewards, dones, infos)
            self._last_obs = new_obs
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            for _ in range(int(dones.sum())):
                num_collected_episodes += 1
                self._episode_num += 1
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
            self._decay_exploration()
        callback.on_rollout_end()
        return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, continue_training)

    def _on_step(self) -> None:
        super()._on_step()
        self._decay_exploration()

    def _decay_exploration(self) -> None:
        if self.exploration_decay is not None:
            rate = self.exploration_initial_eps * self.exploration_decay**self._episode_num
            self.exploration_rate = max(rate, self.exploration_final_eps)

    def _choose(self, observations: np.ndarray, learning_starts: int) -> np.ndarray:
        """Random actions at first, then epsilon-greedy ones: all random or all greedy, as Stable-Baselines3's."""
        if self.num_timesteps < learning_starts or np.random.rand() < self.exploration_rate:
            return np.array([self.action_space.sample() for _ in range(len(observations))])
        with torch.inference_mode():
            return self.q_net(torch.from_numpy(observations)).numpy().argmax(1)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """As Stable-Baselines3's."""
        if not self._lean:
            super().train(gradient_steps, batch_size)
            return
        optimizer, buffer = self.policy.optimizer, self.replay_buffer
        assert buffer is not None
        self.policy.set_training_mode(True)
        self._update_learning_rate(optimizer)
        parameters: Any = self.q_net.trained
        losses = []
        for _ in range(gradient_steps):
            batch = buffer.sample(batch_size)
            with torch.no_grad():
                best = self._best_values(batch.next_observations)
                target = batch.rewards + (1 - batch.dones) * self.gamma * best
                values, back = self.policy.pullback(batch.observations)
                actions = batch.actions.long()
                chosen = values.gather(1, actions)
                losses.append(self._loss(chosen, target).item())
                by_chosen = self._slope(chosen - target) * (1.0 / len(chosen))
                optimizer.zero_grad()
                back(torch.zeros_like(values).scatter_(1, actions, by_chosen))
            clip_gradients(parameters, self.max_grad_norm)
            optimizer.step()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))

    def _best_values(self, observations: torch.Tensor) -> torch.Tensor:
        """The target network's values of the greedy actions, ``(batch, 1)``."""
        values: torch.Tensor = self.q_net_target(observations)
        if not self.double:
            return values.amax(1, keepdim=True)
        return values.gather(1, self.q_net(observations).argmax(1, keepdim=True))

    def _loss(self, chosen: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return mse_loss(chosen, target) if self.squared_loss else smooth_l1_loss(chosen, target)

    def _slope(self, difference: torch.Tensor) -> torch.Tensor:
        """Derivative of the loss of one difference; the quadratic part of the smooth L1 loss ends at one."""
        return difference.mul_(2.0) if self.squared_loss else difference.clamp_(-1.0, 1.0)
