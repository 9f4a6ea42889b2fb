"""Stable-Baselines3's DQN and PPO with networks of ours, quantum or classical, and nothing else changed."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from qrl.agents.base import StatefulAgent
from qrl.networks import build_network, scale_learning_rates


class NetworkQ(QNetwork):
    """Q-network whose body and head come from a network specification."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, net_arch=[])
        self.q_net = build_network(
            agent.network, self.features_dim, int(self.action_space.n), activation="relu"
        )
        scale_learning_rates(self.q_net, agent.learning_rate, agent.learning_rates)


class NetworkDQNPolicy(DQNPolicy):
    """``DQNPolicy`` with the agent's network as Q-function and as target."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        self.agent = agent
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """The Q-network and, by the same call, its target."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        del arguments["net_arch"]
        return NetworkQ(**arguments, agent=self.agent).to(self.device)


class ActorCriticNetworks(nn.Module):
    """Policy and value network side by side, where Stable-Baselines3 expects its MLP extractor."""

    def __init__(self, actor: nn.Module, critic: nn.Module | None, latent_dim_pi: int) -> None:
        super().__init__()
        self.actor = actor
        self.critic = critic
        self.latent_dim_pi = latent_dim_pi
        self.latent_dim_vf = 1

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(batch, n_inputs) -> (batch, n_outputs), (batch, 1)``."""
        return self.actor(features), self.forward_critic(features)

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        """``(batch, n_inputs) -> (batch, n_outputs)``: logits or means."""
        return self.actor(features)

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        """``(batch, n_inputs) -> (batch, 1)``; zeros for an agent without critic."""
        return features.new_zeros(len(features), 1) if self.critic is None else self.critic(features)


class NetworkActorCriticPolicy(ActorCriticPolicy):
    """``ActorCriticPolicy`` whose logits (or means) and values come straight from the agent's networks."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        self.agent = agent
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        n_outputs = n_policy_outputs(self.action_space)
        # The gains are Stable-Baselines3's own: a nearly uniform policy and an unscaled value at the start.
        actor = build_network(self.agent.network, self.features_dim, n_outputs, output_gain=0.01)
        critic_spec = getattr(self.agent, "critic", None)
        critic = (
            None if critic_spec is None else build_network(critic_spec, self.features_dim, 1, output_gain=1.0)
        )
        for network in filter(None, (actor, critic)):
            scale_learning_rates(network, self.agent.learning_rate, self.agent.learning_rates)
        self.mlp_extractor = ActorCriticNetworks(actor, critic, n_outputs)  # type: ignore[assignment]
        self.action_net = nn.Identity()  # type: ignore[assignment]
        self.value_net = nn.Identity()  # type: ignore[assignment]
        if isinstance(self.action_dist, DiagGaussianDistribution):
            self.log_std = nn.Parameter(torch.full((n_outputs,), float(self.log_std_init)))
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]


def n_policy_outputs(space: spaces.Space) -> int:
    """Outputs a policy needs: one logit an action of a ``Discrete`` space, one mean a component of a ``Box``."""
    return int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape or ()))


class DQN(StatefulAgent, stable_baselines3.DQN):
    """Stable-Baselines3's deep Q-learning with the agent's network."""

    _counters: ClassVar[tuple[str, ...]] = (*StatefulAgent._counters, "_n_calls", "exploration_rate")

    def state(self) -> dict[str, Any]:
        """As ``StatefulAgent.state``, with the filled part of the replay buffer."""
        buffer: Any = self.replay_buffer
        size = buffer.size()
        return {
            **super().state(),
            "replay_buffer": {
                "position": buffer.pos,
                "full": buffer.full,
                **{name: getattr(buffer, name)[:size].copy() for name in self._buffer_arrays()},
            },
        }

    def set_state(self, state: dict[str, Any], environment: bool = True) -> None:
        """As ``StatefulAgent.set_state``."""
        buffer: Any = self.replay_buffer
        stored = state["replay_buffer"]
        for name in self._buffer_arrays():
            array = stored[name]
            getattr(buffer, name)[: len(array)] = array
        buffer.pos, buffer.full = stored["position"], stored["full"]
        super().set_state(state, environment)

    def _buffer_arrays(self) -> tuple[str, ...]:
        return ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class PPO(StatefulAgent, stable_baselines3.PPO):
    """Stable-Baselines3's proximal policy optimisation with the agent's networks."""
