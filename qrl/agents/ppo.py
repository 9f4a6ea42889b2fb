"""Stable-Baselines3's PPO, its numbers bit for bit, without the overhead that outweighs a small network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from qrl.agents.on_policy import LeanRollouts
from qrl.agents.optim import clip_gradients


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


class LeanPPO(LeanRollouts, stable_baselines3.PPO):
    """``stable_baselines3.PPO`` with the rollouts of ``LeanRollouts`` and updates without a graph."""

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
