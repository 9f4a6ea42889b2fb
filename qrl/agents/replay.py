"""What the off-policy agents share: replay with full state, targets, noise, and temporal-difference learning."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import stable_baselines3.common.buffers as buffers
import torch
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from qrl.agents.base import StatefulAgent
from qrl.agents.dqn import Replay
from qrl.agents.optim import clip_gradients
from qrl.agents.sb3 import PlainObservations, is_plain
from qrl.ledger import phase


class ReplayAgent(StatefulAgent):
    """Mixin, before a Stable-Baselines3 off-policy algorithm: its replay buffer is filled quickly and in the state."""

    replay_buffer: buffers.ReplayBuffer | None
    _last_obs: Any

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """As Stable-Baselines3's, without its copies."""
        replay_buffer.store(self._last_obs, new_obs, buffer_action, reward, dones, infos)
        self._last_obs = new_obs

    def state(self) -> dict[str, Any]:
        """As ``StatefulAgent.state``, with the filled part of the replay buffer."""
        buffer: Any = self.replay_buffer
        size = buffer.size()
        stored = {name: getattr(buffer, name)[:size].copy() for name in self._buffer_arrays}
        return {**super().state(), "replay_buffer": {"position": buffer.pos, "full": buffer.full, **stored}}

    def set_state(self, state: dict[str, Any], environment: bool = True) -> None:
        """As ``StatefulAgent.set_state``."""
        buffer: Any = self.replay_buffer
        stored = state["replay_buffer"]
        for name in self._buffer_arrays:
            getattr(buffer, name)[: len(stored[name])] = stored[name]
        buffer.pos, buffer.full = stored["position"], stored["full"]
        super().set_state(state, environment)

    _buffer_arrays: ClassVar[tuple[str, ...]] = (
        "observations",
        "next_observations",
        "actions",
        "rewards",
        "dones",
        "timeouts",
    )


def bootstrapped(
    batch: ReplayBufferSamples, gamma: float, values: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The targets ``r + gamma v(s')`` of a batch, ``(batch, 1)``; of a transition that ended its episode, ``r``.

    ``values`` is asked only for states from which an episode goes on: an ended one costs no sampler call. A time limit
    ends no episode in this sense.
    """
    goes_on = (batch.dones == 0).squeeze(1)
    if goes_on.all():
        return batch.rewards + gamma * values(batch.next_observations)
    target = batch.rewards.clone()
    if goes_on.any():
        target[goes_on] += gamma * values(batch.next_observations[goes_on])
    return target


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Polyak step ``t <- (1 - tau) t + tau o`` of all parameters and of all buffers of real numbers."""
    torch._foreach_lerp_(_values(target), _values(online), tau)


def _values(module: nn.Module) -> list[torch.Tensor]:
    return [t for t in chain(module.parameters(), module.buffers()) if t.is_floating_point()]


def calibrate(online: nn.Module, target: nn.Module, spec: Any, states: Any, actions: Any) -> None:
    """Set the offset of a machine and its target such that the mean Q of a batch is the specification's ``level``."""
    if getattr(spec, "level", None) is not None:
        online.calibrate(states, actions, spec.level)  # type: ignore[operator]
        target.load_state_dict(online.state_dict())


class GaussianNoise(ActionNoise):
    """Gaussian noise on each of ``n_actions`` components, its standard deviation linear from ``initial`` to ``final``.

    Deviations are in units of half the action box. ``progress_remaining`` (1 at the start, 0 at the end of the budget)
    is set by the agent before it acts. Draws as ``stable_baselines3.common.noise.NormalActionNoise``.
    """

    def __init__(self, n_actions: int, initial: float, final: float | None = None) -> None:
        super().__init__()
        self.n_actions = n_actions
        self.deviation = LinearSchedule(initial, initial if final is None else final, 1.0)
        self.progress_remaining = 1.0

    def __call__(self) -> np.ndarray:
        """One draw, ``(n_actions,)``."""
        scale = self.deviation(self.progress_remaining)
        return np.random.normal(0.0, scale, self.n_actions).astype(np.float32)


class NoisyAgent(ReplayAgent):
    """Mixin: noise that knows how much of the budget is left, and uniformly random actions now and then."""

    num_timesteps: int
    _current_progress_remaining: float
    exploration: LinearSchedule | None = None

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """As Stable-Baselines3's."""
        left = self._current_progress_remaining
        if isinstance(action_noise, GaussianNoise):
            action_noise.progress_remaining = left
        if self.exploration is not None and np.random.rand() < self.exploration(left):
            learning_starts = self.num_timesteps + 1  # then the action is drawn as in the random phase
        sampled: tuple[np.ndarray, np.ndarray] = super()._sample_action(  # type: ignore[misc]
            learning_starts, action_noise, n_envs
        )
        return sampled


class GroupedSGD(torch.optim.Optimizer):
    """Gradient descent that multiplies the scheduled rate by each parameter's ``lr_scale``, as ``GroupedAdam`` does."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1e-3) -> None:
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in params:
            if parameter.requires_grad:
                groups.setdefault(float(getattr(parameter, "lr_scale", 1.0)), []).append(parameter)
        super().__init__(
            [{"params": members, "lr_scale": scale} for scale, members in groups.items()], {"lr": lr}
        )
        self.updates = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter by minus its rate times its gradient."""
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if moving:
                rate = group["lr"] * group["lr_scale"]
                torch._foreach_add_(moving, [p.grad for p in moving], alpha=-rate)  # type: ignore[arg-type]
        self.updates += 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As ``torch.optim.Optimizer``'s; gradients are always dropped."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


class ActionValuePolicy(PlainObservations, BasePolicy):
    """Policy of one network of action values, its target and one optimiser.

    Subclasses build the networks, act greedily in ``_predict``, and answer ``values`` and ``target_values``.
    """

    q_net: nn.Module
    q_net_target: nn.Module

    def __init__(
        self,
        observation_space: Any,
        action_space: Any,
        lr_schedule: Any,
        *,
        agent: Any,
        optimizer_class: Any,
        optimizer_kwargs: dict[str, Any],
        squash_output: bool = False,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            squash_output=squash_output,
        )
        self.agent = agent
        self.features_extractor = self.make_features_extractor()
        self.takes_observations = is_plain(observation_space)
        self.q_net, self.q_net_target = self.make_q_net(), self.make_q_net()
        self.q_net_target.load_state_dict(self.q_net.state_dict())
        self.q_net_target.requires_grad_(False)
        self.trained = [p for p in self.q_net.parameters() if p.requires_grad]
        self.optimizer = optimizer_class(self.trained, lr=lr_schedule(1), **optimizer_kwargs)

    @abstractmethod
    def make_q_net(self) -> nn.Module:
        """A new network of action values."""

    @abstractmethod
    def values(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Q(s, a) of stored transitions, ``(batch, 1)``, differentiable by the parameters."""

    @abstractmethod
    def target_values(self, observations: torch.Tensor) -> torch.Tensor:
        """max_a Q(s, a) by the target network, ``(batch, 1)``."""

    def calibrate(self, observations: torch.Tensor, actions: torch.Tensor) -> None:
        """Before the first update: set what depends on the level of the values; nothing by default."""

    def features(self, observations: Any) -> torch.Tensor:
        """Observations as the network's flat input, ``(batch, n_state)``."""
        if self.takes_observations:
            return observations  # type: ignore[no-any-return]
        return self.extract_features(observations, self.features_extractor)

    def set_training_mode(self, mode: bool) -> None:
        """Sets the flag; nothing in these networks behaves differently in training."""
        self.training = mode


class TemporalDifference(NoisyAgent, OffPolicyAlgorithm):
    """Q-learning from replay towards a target network that follows by Polyak steps.

    An update minimises the batch's mean of ``delta^2 / 2``, ``delta = r + gamma (1 - terminal) max_a Q_target(s', a) -
    Q(s, a)``: by plain gradient descent, weights move by the learning rate times the mean of ``delta dQ/dw``.
    """

    policy: ActionValuePolicy

    def __init__(self, policy: Any, env: Any, *, max_grad_norm: float | None, **kwargs: Any) -> None:
        super().__init__(policy, env, replay_buffer_class=Replay, sde_support=False, **kwargs)
        self.max_grad_norm = max_grad_norm
        self._setup_model()

    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """Update the network; the batch is as large as the buffer where that holds fewer transitions."""
        with phase("learn"):
            self._train(gradient_steps, batch_size)

    def _train(self, gradient_steps: int, batch_size: int) -> None:
        policy, buffer = self.policy, self.replay_buffer
        assert buffer is not None
        self._update_learning_rate(policy.optimizer)
        losses = []
        for _ in range(gradient_steps):
            batch = buffer.sample(min(batch_size, buffer.size() * buffer.n_envs))
            if policy.optimizer.updates == 0:
                policy.calibrate(batch.observations, batch.actions)
            with torch.no_grad():
                target = bootstrapped(batch, self.gamma, policy.target_values)
            loss = 0.5 * nn.functional.mse_loss(policy.values(batch.observations, batch.actions), target)
            losses.append(loss.item())
            policy.optimizer.zero_grad()
            loss.backward()
            if self.max_grad_norm is not None:
                clip_gradients(policy.trained, self.max_grad_norm)
            policy.optimizer.step()
            follow(policy.q_net_target, policy.q_net, self.tau)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))
