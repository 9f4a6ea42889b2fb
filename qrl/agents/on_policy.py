"""What Stable-Baselines3's algorithms that learn from rollouts share, without the overhead of its own loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from qrl.agents.base import Diverged


class Rollout(RolloutBuffer):
    """``RolloutBuffer`` that is filled in place and cut into minibatches by torch."""

    pos: int
    full: bool
    generator_ready: bool

    def store(
        self, observations: np.ndarray, actions: np.ndarray, rewards: np.ndarray, starts: np.ndarray
    ) -> None:
        """What ``add`` takes except for values and log-probabilities, which are known when the rollout is over."""
        at = self.pos
        self.observations[at] = observations.reshape(self.observations[at].shape)
        self.actions[at] = actions.reshape(self.actions[at].shape)
        self.rewards[at] = rewards
        self.episode_starts[at] = starts
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray) -> None:
        """As Stable-Baselines3's; only the recursion itself runs step by step."""
        last = last_values.detach().cpu().numpy().reshape(1, -1)
        goes_on = 1.0 - np.concatenate((self.episode_starts[1:], dones[None].astype(np.float32)))
        following = np.concatenate((self.values[1:], last))
        deltas = self.rewards + self.gamma * following * goes_on - self.values
        decays = self.gamma * self.gae_lambda * goes_on
        advantage = np.zeros_like(deltas[0])
        for step in range(self.buffer_size - 1, -1, -1):
            advantage = deltas[step] + decays[step] * advantage
            self.advantages[step] = advantage
        self.returns = self.advantages + self.values

    def get(self, batch_size: int | None = None) -> Iterator[RolloutBufferSamples]:  # type: ignore[override]
        """As Stable-Baselines3's: one pass over the rollout in minibatches, in an order drawn anew."""
        order = torch.from_numpy(np.random.permutation(self.buffer_size * self.n_envs))
        if not self.generator_ready:
            names = ("observations", "actions", "values", "log_probs", "advantages", "returns")
            for name in names:
                setattr(self, name, self.swap_and_flatten(getattr(self, name)))
            self.generator_ready = True
            self._columns = tuple(torch.from_numpy(getattr(self, name)) for name in names)
            observations, actions, *scalars = self._columns
            self._columns = (observations, actions.float(), *(scalar.flatten() for scalar in scalars))
        shuffled = [column[order] for column in self._columns]
        parts = [column.split(batch_size or len(order)) for column in shuffled]
        for batch in zip(*parts, strict=True):
            yield RolloutBufferSamples(*batch)


class LeanRollouts:
    """Mixin, before ``stable_baselines3.PPO`` or ``A2C``: a leaner inner loop; where that does not apply, their own.

    It applies to policies with a ``pullback`` (ours), on the CPU, to observations that are no dictionary and without
    state-dependent exploration.
    """

    policy: Any
    action_space: spaces.Space
    observation_space: spaces.Space
    rollout_buffer: Any
    rollout_buffer_class: Any
    use_sde: bool
    device: torch.device
    gamma: float
    num_timesteps: int
    _last_obs: Any
    _last_episode_starts: Any

    def _setup_model(self) -> None:
        if self.rollout_buffer_class is None and not isinstance(self.observation_space, spaces.Dict):
            self.rollout_buffer_class = Rollout
        super()._setup_model()  # type: ignore[misc]
        self._lean = (
            isinstance(self.rollout_buffer, Rollout)
            and not self.use_sde
            and hasattr(self.policy, "pullback")
            and self.device.type == "cpu"
        )

    def collect_rollouts(self, env: Any, callback: Any, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """As Stable-Baselines3's; the values and the log-probabilities are worked out when the rollout is over.

        Raises:
            Diverged: the policy gave a probability that is not finite.
        """
        if not self._lean:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)  # type: ignore[misc, no-any-return]
        policy, box = self.policy, self.action_space if isinstance(self.action_space, spaces.Box) else None
        seen, taken, notes = [], [], []
        policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        for n_steps in range(n_rollout_steps):  # noqa: B007 - for the callback's locals
            with torch.inference_mode():
                obs_tensor = torch.from_numpy(self._last_obs)
                chosen, note = policy.act(obs_tensor)
            actions = chosen.numpy().reshape(-1, *self.action_space.shape)  # type: ignore[misc]
            if box is not None and not np.isfinite(actions).all():
                raise self._diverged()
            clipped_actions = actions if box is None else np.clip(actions, box.low, box.high)
            new_obs, rewards, dones, infos = env.step(clipped_actions)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)  # type: ignore[attr-defined]
            if dones.any():
                self._bootstrap(rewards, dones, infos)
            rollout_buffer.store(self._last_obs, actions, rewards, self._last_episode_starts)
            seen.append(obs_tensor)
            taken.append(chosen)
            notes.append(note)
            self._last_obs, self._last_episode_starts = new_obs, dones
        with torch.inference_mode():
            log_probs = policy.actions.log_prob(torch.stack(notes), torch.stack(taken))
            if not bool(log_probs.isfinite().all()):
                raise self._diverged()
            rollout_buffer.log_probs[:] = log_probs.numpy()
            rollout_buffer.values[:] = policy.values(seen).numpy()
            values = policy.predict_values(torch.from_numpy(new_obs))
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _diverged(self) -> Diverged:
        return Diverged(
            f"the policy's probabilities are not finite after {self.num_timesteps} interactions; "
            "lower the learning rate"
        )

    def _bootstrap(self, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """Where a time limit ended an episode, add the value of what would have followed to the last reward."""
        for index in np.flatnonzero(dones):
            info = infos[index]
            if info.get("terminal_observation") is not None and info.get("TimeLimit.truncated", False):
                last, _ = self.policy.obs_to_tensor(info["terminal_observation"])
                with torch.no_grad():
                    rewards[index] += (self.gamma * self.policy.predict_values(last)).item()
