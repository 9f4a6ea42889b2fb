"""Stable-Baselines3's PPO, its numbers bit for bit, without the overhead that outweighs a small network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from qrl.agents.base import Diverged
from qrl.agents.optim import clip_gradients


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


class Objective(NamedTuple):
    """What PPO's clipped objective is made of, sample by sample, and its derivatives; each ``(n,)``."""

    free: Tensor
    clipped: Tensor
    ratio: Tensor
    log_ratio: Tensor
    error: Tensor
    entropy: Tensor
    by_values: Tensor
    by_log_prob: Tensor
    by_entropy: Tensor


def objective(
    batch: RolloutBufferSamples,
    values: Tensor,
    log_prob: Tensor,
    entropy: Tensor,
    *,
    clip_range: float,
    clip_range_vf: float | None,
    ent_coef: float,
    vf_coef: float,
    normalize_advantage: bool,
) -> Objective:
    """PPO's loss and its gradient by formula, operation by operation as autograd takes it.

    Args:
        batch: the minibatch, of n samples.
        values, log_prob, entropy: of the present policy, each ``(n,)``.
        clip_range: bound on the probability ratio's distance from one.
        clip_range_vf: bound on the change of the values; none leaves them free.
        ent_coef, vf_coef: weights of the entropy and of the value loss.
        normalize_advantage: whether advantages are standardised within the minibatch.
    """
    n = np.float32(len(log_prob))
    advantages = batch.advantages
    if normalize_advantage and n > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_ratio = log_prob - batch.old_log_prob
    ratio = log_ratio.exp()
    free = advantages * ratio
    clipped = advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    by_log_prob = (advantages * float(np.float32(-1) / n) * ratio).masked_fill_(free > clipped, 0.0)
    if clip_range_vf is None:
        error = values - batch.returns
        by_values = error * float(2 / n) * vf_coef
    else:
        change = values - batch.old_values
        error = batch.old_values + change.clamp(-clip_range_vf, clip_range_vf) - batch.returns
        by_values = (error * float(2 / n) * vf_coef).masked_fill_(change.abs() > clip_range_vf, 0.0)
    by_entropy = torch.full_like(entropy, float(np.float32(-ent_coef) / n))
    return Objective(free, clipped, ratio, log_ratio, error, entropy, by_values, by_log_prob, by_entropy)


def losses(found: Objective, clip_range: float) -> dict[str, Tensor]:
    """The terms of the loss and what else is logged; of several minibatches ``(m, n)`` at once, each ``(m,)``."""
    distance = found.ratio - 1
    return {
        "entropy_loss": -found.entropy.mean(-1),
        "policy_gradient_loss": -torch.min(found.free, found.clipped).mean(-1),
        "value_loss": (found.error * found.error).mean(-1),
        "approx_kl": (distance - found.log_ratio).mean(-1),
        "clip_fraction": (distance.abs() > clip_range).float().mean(-1),
    }


class LeanPPO(stable_baselines3.PPO):
    """``stable_baselines3.PPO`` with a leaner inner loop; where that does not apply, with its own.

    It applies to policies with a ``pullback`` (ours), on the CPU, to observations that are no dictionary and without
    state-dependent exploration.
    """

    rollout_buffer_class: Any
    _last_obs: Any
    _last_episode_starts: Any

    def _setup_model(self) -> None:
        if self.rollout_buffer_class is None and not isinstance(self.observation_space, spaces.Dict):
            self.rollout_buffer_class = Rollout
        super()._setup_model()
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
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
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
            self._update_info_buffer(infos, dones)
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

    def train(self) -> None:
        """As Stable-Baselines3's."""
        if not self._lean:
            super().train()
            return
        policy, optimizer, buffer = self.policy, self.policy.optimizer, self.rollout_buffer
        parameters = tuple(policy.parameters())
        discrete = isinstance(self.action_space, spaces.Discrete)
        policy.set_training_mode(True)
        self._update_learning_rate(optimizer)
        remaining = self._current_progress_remaining
        clip_range = self.clip_range(remaining)  # type: ignore[operator]
        clip_range_vf = None if self.clip_range_vf is None else self.clip_range_vf(remaining)  # type: ignore[operator]
        every: list[Objective] = []
        epochs = 0
        stop = False
        while epochs < self.n_epochs and not stop:
            first = len(every)
            for batch in buffer.get(self.batch_size):
                actions = batch.actions.long().flatten() if discrete else batch.actions
                with torch.no_grad():
                    values, log_prob, entropy, back = policy.pullback(batch.observations, actions)
                    found = objective(
                        batch,
                        values,
                        log_prob,
                        entropy,
                        clip_range=clip_range,
                        clip_range_vf=clip_range_vf,
                        ent_coef=self.ent_coef,
                        vf_coef=self.vf_coef,
                        normalize_advantage=self.normalize_advantage,
                    )
                    every.append(found)
                    if self.target_kl is not None:
                        divergence = losses(found, clip_range)["approx_kl"]
                        if divergence > 1.5 * self.target_kl:
                            stop = True
                            break
                    optimizer.zero_grad()
                    back(found.by_values, found.by_log_prob, found.by_entropy)
                    clip_gradients(parameters, self.max_grad_norm)
                    optimizer.step()
            epochs += 1
            self._n_updates += 1
        if stop and self.verbose >= 1:
            print(f"Early stopping at step {epochs - 1} due to reaching max kl: {divergence:.2f}")
        with torch.no_grad():
            if len({len(found.ratio) for found in every}) == 1:
                every = [Objective(*map(torch.stack, zip(*every, strict=True)))]
            terms = [losses(found, clip_range) for found in every]
            logged = {name: torch.cat([term[name].view(-1) for term in terms]) for name in terms[0]}
            policy_loss, value_loss = logged["policy_gradient_loss"][-1], logged["value_loss"][-1]
            loss = policy_loss + self.ent_coef * logged["entropy_loss"][-1] + self.vf_coef * value_loss
        for name in ("entropy_loss", "policy_gradient_loss", "value_loss", "clip_fraction"):
            self.logger.record(f"train/{name}", np.mean(logged[name].double().numpy()))
        self.logger.record("train/approx_kl", np.mean(logged["approx_kl"][first:].numpy()))
        self.logger.record("train/loss", loss.item())
        self.logger.record(
            "train/explained_variance",
            explained_variance(buffer.values.flatten(), buffer.returns.flatten()),
        )
        if hasattr(policy, "log_std"):
            self.logger.record("train/std", policy.log_std.exp().mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)
        if clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", clip_range_vf)
