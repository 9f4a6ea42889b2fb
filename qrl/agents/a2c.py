"""Stable-Baselines3's A2C, its numbers bit for bit, without the overhead that outweighs a small network."""

from __future__ import annotations

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import explained_variance

from qrl.agents.base import StatefulAgent
from qrl.agents.on_policy import LeanRollouts
from qrl.agents.optim import clip_gradients


class LeanA2C(LeanRollouts, stable_baselines3.A2C):
    """``stable_baselines3.A2C`` with the rollouts of ``LeanRollouts`` and an update without a graph."""

    def train(self) -> None:
        """As Stable-Baselines3's: one step on the whole rollout."""
        if not self._lean:
            super().train()
            return
        policy, optimizer, buffer = self.policy, self.policy.optimizer, self.rollout_buffer
        policy.set_training_mode(True)
        self._update_learning_rate(optimizer)
        (batch,) = buffer.get(None)
        discrete = isinstance(self.action_space, spaces.Discrete)
        actions = batch.actions.long().flatten() if discrete else batch.actions
        with torch.no_grad():
            values, log_prob, entropy, back = policy.pullback(batch.observations, actions)
            n, advantages = np.float32(len(log_prob)), batch.advantages
            if self.normalize_advantage:
                advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            optimizer.zero_grad()
            # the derivatives of the three terms, operation by operation as autograd takes them
            back(
                (values - batch.returns) * float(2 / n) * self.vf_coef,
                advantages * float(np.float32(-1) / n),
                torch.full_like(entropy, float(np.float32(-self.ent_coef) / n)),
            )
            clip_gradients(tuple(policy.parameters()), self.max_grad_norm)
            optimizer.step()
            told = {
                "entropy_loss": -entropy.mean(),
                "policy_loss": -(advantages * log_prob).mean(),
                "value_loss": (batch.returns - values).square().mean(),
            }
        self._n_updates += 1
        explained = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/explained_variance", explained)
        for name, value in told.items():
            self.logger.record(f"train/{name}", value.item())
        if hasattr(policy, "log_std"):
            self.logger.record("train/std", policy.log_std.exp().mean().item())


class A2C(StatefulAgent, LeanA2C):
    """Stable-Baselines3's advantage actor-critic with the agent's networks."""
