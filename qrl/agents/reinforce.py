"""REINFORCE: the Monte-Carlo policy gradient over batches of whole episodes."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from qrl.agents.base import StatefulAgent
from qrl.agents.natural import make_natural
from qrl.agents.training_env import TrainingEnv
from qrl.ledger import phase
from qrl.specs import NaturalGradient


class Episodes:
    """The whole episodes of one batch, flat: observations, actions, rewards, and where each episode ends."""

    def __init__(self) -> None:
        self.observations: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        self.rewards: list[list[float]] = []

    def add(self, observations: list[np.ndarray], actions: list[np.ndarray], rewards: list[float]) -> None:
        """Add one episode that ran to its end."""
        self.observations += observations
        self.actions += actions
        self.rewards.append(rewards)


def discounted_returns(rewards: list[float], gamma: float) -> np.ndarray:
    """``G_t = sum_k gamma^k r_{t+k}`` of one episode, shape ``(length,)``."""
    returns = np.zeros(len(rewards))
    running = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        running = rewards[t] + gamma * running
        returns[t] = running
    return returns


def less_mean(returns: list[np.ndarray]) -> list[np.ndarray]:
    """The returns less, at each time step, their mean over the episodes that got so far."""
    length = max(map(len, returns))
    padded = np.array([np.pad(g, (0, length - len(g)), constant_values=np.nan) for g in returns])
    mean = np.nanmean(padded, axis=0)
    return [g - mean[: len(g)] for g in returns]


def standardised(returns: list[np.ndarray], over: str, eps: float = 1e-8) -> np.ndarray:
    """Concatenate episode returns, standardised within each ``episode``, over the ``batch``, or not (``none``)."""
    if over == "episode":
        return np.concatenate([(g - g.mean()) / (g.std() + eps) for g in returns])
    flat = np.concatenate(returns)
    return (flat - flat.mean()) / (flat.std() + eps) if over == "batch" else flat


class REINFORCE(StatefulAgent, OnPolicyAlgorithm):
    """Policy gradient ``-(1/B) sum_b sum_t log pi(a_t | s_t) (G_t - b_t)`` over B whole episodes.

    The baseline ``b_t`` is zero; the batch's mean return at step t, which scales the gradient by 1 - 1/B without
    changing its direction on average while all episodes last; or a critic's value, which learns by half the mean
    squared error of the returns.

    Each of the environments plays its share of the batch and then waits: no episode is cut when another ends, and
    short episodes are not preferred. Source: Williams, Machine Learning 8, 229 (1992); batches and standardisation
    as in Jerbi et al., arXiv:2103.05577.
    """

    env: TrainingEnv

    def __init__(
        self,
        policy: Any,
        env: TrainingEnv,
        *,
        batch_episodes: int,
        standardise: str,
        baseline: str = "none",
        natural: NaturalGradient | None = None,
        **kwargs: Any,
    ) -> None:
        # The base class wants the length of a rollout; ours ends with its episodes.
        super().__init__(
            policy,
            env,
            n_steps=1,
            gae_lambda=1.0,
            vf_coef=0.0,
            max_grad_norm=float("inf"),
            use_sde=False,
            sde_sample_freq=-1,
            **kwargs,
        )
        self.batch_episodes = batch_episodes
        self.standardise, self.baseline, self.natural = standardise, baseline, natural
        self.batch = Episodes()

    def collect_rollouts(self, env: Any, callback: Any, *args: Any, **kwargs: Any) -> bool:
        """Play ``batch_episodes`` whole episodes with the current policy."""
        self.anneal()
        with phase("act"):
            return self._collect(env, callback)

    def _collect(self, env: TrainingEnv, callback: Any) -> bool:
        self.policy.set_training_mode(False)
        self.batch = Episodes()
        callback.on_rollout_start()
        quota = np.full(env.num_envs, self.batch_episodes // env.num_envs)
        quota[: self.batch_episodes % env.num_envs] += 1
        running: list[tuple[list[np.ndarray], list[np.ndarray], list[float]]] = [([], [], []) for _ in quota]
        try:
            while (quota > 0).any():
                env.active = quota > 0
                if not self._step(env, callback, quota, running):
                    return False
        finally:
            env.active = np.ones(env.num_envs, dtype=bool)
        callback.on_rollout_end()
        return True

    def _step(self, env: TrainingEnv, callback: Any, quota: np.ndarray, running: list[Any]) -> bool:
        active = np.flatnonzero(env.active)
        observations = self._last_obs
        assert isinstance(observations, np.ndarray)
        with torch.no_grad():
            chosen = self.policy._predict(torch.from_numpy(observations[active]))
        taken = chosen.numpy().reshape(len(active), *(self.action_space.shape or ()))
        space = self.action_space
        actions = np.zeros((env.num_envs, *(space.shape or ())), dtype=space.dtype)
        actions[active] = np.clip(taken, space.low, space.high) if isinstance(space, spaces.Box) else taken
        self._last_obs, rewards, dones, infos = env.step(actions)  # type: ignore[assignment]
        self._last_episode_starts = dones
        self.num_timesteps += len(active)
        callback.update_locals(locals())
        if not callback.on_step():
            return False
        self._update_info_buffer([infos[i] for i in active], dones[active])
        for row, index in enumerate(active):
            episode = running[index]
            episode[0].append(observations[index])
            episode[1].append(taken[row])
            episode[2].append(float(rewards[index]))
            if dones[index]:
                self.batch.add(*episode)
                running[index] = ([], [], [])
                quota[index] -= 1
                self._episode_num += 1
        return True

    def train(self) -> None:
        """One optimiser step on the batch."""
        with phase("learn"):
            self._train()
        self.log_diagnostics()

    def _train(self) -> None:
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        observations = torch.as_tensor(np.asarray(self.batch.observations), device=self.device)
        actions = torch.as_tensor(np.asarray(self.batch.actions), device=self.device)
        returns = [discounted_returns(r, self.gamma) for r in self.batch.rewards]
        distribution = self.policy.get_distribution(observations)
        log_prob = distribution.log_prob(actions)
        loss = torch.zeros(())
        if self.baseline == "value":
            values = self.policy.predict_values(observations).squeeze(1)
            target = torch.as_tensor(np.concatenate(returns), dtype=values.dtype)
            loss = 0.5 * torch.nn.functional.mse_loss(values, target)
            guesses = np.split(values.detach().numpy(), np.cumsum([len(g) for g in returns])[:-1])
            returns = [g - v for g, v in zip(returns, guesses, strict=True)]
            self.logger.record("train/value_loss", 2.0 * loss.item())
        elif self.baseline == "mean":
            returns = less_mean(returns)
        weights = torch.as_tensor(standardised(returns, self.standardise), dtype=log_prob.dtype)
        loss = loss - (log_prob * weights).sum() / len(self.batch.rewards)
        if self.ent_coef:
            loss = loss - self.ent_coef * distribution.entropy().mean()
        self.policy.optimizer.zero_grad()
        loss.backward()
        if self.natural is not None:
            make_natural(self.policy, observations, self.natural.metric, self.natural.damping)
        self.policy.optimizer.step()
        self._n_updates += 1
        self.logger.record("train/loss", loss.item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def learn(  # type: ignore[override]
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int = 1,
        tb_log_name: str = "REINFORCE",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """As Stable-Baselines3's; a batch that has begun is finished, so the budget may be passed by a batch."""
        return super().learn(
            total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
        )
