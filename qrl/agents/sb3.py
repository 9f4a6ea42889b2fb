"""Stable-Baselines3's DQN and PPO with networks of ours, quantum or classical, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from qrl.agents.base import StatefulAgent
from qrl.agents.distributions import BornDistribution, Categorical, Gaussian
from qrl.agents.dqn import LeanDQN
from qrl.agents.ppo import LeanPPO
from qrl.networks import Back, BornHead, Network, annealed, build_network, scale_learning_rates


class NetworkQ(QNetwork):
    """Q-network whose body and head come from a network specification."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, net_arch=[])
        self.q_net = build_network(
            agent.network, self.features_dim, int(self.action_space.n), activation="relu"
        )
        scale_learning_rates(self.q_net, agent.learning_rate, agent.learning_rates)
        self.trained = tuple(self.q_net.parameters())
        self.takes_observations = is_plain(self.observation_space)

    def extract_features(self, obs: Any, features_extractor: Any) -> torch.Tensor:
        """As Stable-Baselines3's; observations that it would hand on unchanged are handed on at once."""
        return obs if self.takes_observations else super().extract_features(obs, features_extractor)


class PlainObservations:
    """Mixin, before a Stable-Baselines3 policy: the shortest way for batches of vectors of float32."""

    observation_space: spaces.Space

    def obs_to_tensor(self, observation: Any) -> tuple[Any, bool]:
        """As Stable-Baselines3's: the observations as a tensor, and whether they were a batch."""
        space, batch = self.observation_space, observation
        fits = isinstance(batch, np.ndarray) and batch.dtype == np.float32 and batch.shape[1:] == space.shape
        if fits and is_plain(space):
            return torch.from_numpy(batch.copy()), True
        return super().obs_to_tensor(observation)  # type: ignore[misc, no-any-return]


class NetworkDQNPolicy(PlainObservations, DQNPolicy):
    """``DQNPolicy`` with the agent's network as Q-function and as target."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        self.agent = agent
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """The Q-network and, by the same call, its target."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        del arguments["net_arch"]
        return NetworkQ(**arguments, agent=self.agent).to(self.device)

    def pullback(self, obs: torch.Tensor) -> tuple[torch.Tensor, Back]:
        """The Q-values ``(batch, n_actions)`` and the way back to the parameters, as ``Network.pullback``."""
        q_net: Any = self.q_net
        return q_net.q_net.pullback(q_net.extract_features(obs, q_net.features_extractor))  # type: ignore[no-any-return]

    def set_training_mode(self, mode: bool) -> None:
        """Sets the flags; nothing in these networks behaves differently in training."""
        self.training = self.q_net.training = mode


class ActorCriticNetworks(nn.Module):
    """Policy and value network side by side, where Stable-Baselines3 expects its MLP extractor."""

    def __init__(self, actor: Network, critic: Network | None, latent_dim_pi: int) -> None:
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


class ActorCriticBuild:
    """Mixin, before an ``ActorCriticPolicy``: logits (or means) and values come straight from the agent's networks."""

    agent: Any
    action_space: spaces.Space
    action_dist: Distribution
    log_std_init: float

    def _build_networks(self, n_inputs: int) -> None:
        """The networks that read ``n_inputs`` numbers, and what the actions are drawn from."""
        n_outputs = n_policy_outputs(self.action_space)
        # The gains are Stable-Baselines3's own: a nearly uniform policy and an unscaled value at the start.
        discrete = isinstance(self.action_space, spaces.Discrete)
        actor = build_network(self.agent.network, n_inputs, n_outputs, output_gain=0.01, policy=discrete)
        critic = build_network(self.agent.critic, n_inputs, 1, output_gain=1.0) if self.agent.critic else None
        for network in filter(None, (actor, critic)):
            scale_learning_rates(network, self.agent.learning_rate, self.agent.learning_rates)
        self.mlp_extractor = ActorCriticNetworks(actor, critic, n_outputs)
        self.action_net, self.value_net = nn.Identity(), nn.Identity()
        if isinstance(self.action_dist, DiagGaussianDistribution):
            self.log_std = nn.Parameter(torch.full((n_outputs,), float(self.log_std_init)))
            self.actions: Categorical | Gaussian = Gaussian(self.log_std)
        else:
            self.actions = Categorical()
        self.born = actor.head if isinstance(actor.head, BornHead) else None
        if self.born is not None:
            self.action_dist = BornDistribution(n_outputs, self.born)
        self.annealed = annealed(actor)


class NetworkActorCriticPolicy(PlainObservations, ActorCriticBuild, ActorCriticPolicy):  # type: ignore[misc]
    """``ActorCriticPolicy`` with the agent's networks."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        self.agent = agent
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        self._build_networks(self.features_dim)
        self.estimates_behaviour = False
        self.takes_observations = is_plain(self.observation_space)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    # What follows gives Stable-Baselines3's numbers without a distribution object and, in `pullback`, without a graph.

    def extract_features(self, obs: Any, features_extractor: Any = None) -> Any:
        """As Stable-Baselines3's; observations that it would hand on unchanged are handed on at once."""
        if self.takes_observations:
            return obs
        return super().extract_features(obs, features_extractor)

    def act(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sampled actions, flattened to ``(batch, n)`` in a ``Box``, and a note for ``self.actions.log_prob``.

        The note is of the very outputs that were sampled from. A Born policy that is measured acts by one shot, of
        probabilities that nobody knows; its note is their estimate from shots of its own.
        """
        features = self.extract_features(obs)
        if not self.measured:
            return self.actions.sample(self.mlp_extractor.forward_actor(features))
        actions = self._measure(features)
        self.estimates_behaviour = True
        return actions, Categorical.note(self.mlp_extractor.forward_actor(features))

    @property
    def measured(self) -> bool:
        """Whether actions are read from shots."""
        return self.born is not None and self.born.shots is not None

    def _measure(self, features: torch.Tensor) -> torch.Tensor:
        """Actions ``(batch,)`` of one shot each."""
        actor: Any = self.mlp_extractor.actor
        return actor.single_shot(features).argmax(-1)  # type: ignore[no-any-return]

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        """As Stable-Baselines3's: actions, values and log-probabilities; actions and these as ``act`` gives them."""
        if deterministic or not self.measured:
            return super().forward(obs, deterministic)
        actions, note = self.act(obs)
        return actions, self.predict_values(obs), self.actions.log_prob(note, actions)

    def diagnostics(self) -> dict[str, float]:
        """What the last update is to be judged by, for the logger.

        Of a measured Born policy the relative bias of its gradient, and where probabilities of past actions were asked
        for (PPO's ratios), that these are estimates.
        """
        if not self.measured:
            return {}
        assert self.born is not None
        told = {"train/born_relative_bias": self.born.bias}
        if self.estimates_behaviour:
            told["train/behaviour_probability_estimated"] = 1.0
        return told

    def values(self, steps: list[torch.Tensor]) -> torch.Tensor:
        """The values ``(n_steps, batch)`` of the observations of several steps.

        They are asked for step by step: the order of a network's sums depends on the size of the batch, and
        Stable-Baselines3's bits are those of single steps. It is the same for every network, so that none gains by it.
        """
        return torch.stack([self.predict_values(observations).squeeze(-1) for observations in steps])

    def pullback(
        self, obs: Any, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Callable[..., None]]:
        """What ``evaluate_actions`` gives and the way back to the parameters, both under ``torch.no_grad``.

        Returns:
            Values, log-probabilities and entropies, each ``(batch,)``, and a function that takes the gradients by the
            three, once, and adds the gradient by each parameter to its ``grad``.
        """
        features, networks = self.extract_features(obs), self.mlp_extractor
        assert isinstance(networks, ActorCriticNetworks)
        assert networks.critic is not None
        outputs, to_actor = networks.actor.pullback(features)
        values, to_critic = networks.critic.pullback(features)
        log_prob, entropy, to_outputs = self.actions.pullback(outputs, actions)
        if self.born is not None:
            self.born.observe(log_prob)

        def back(by_values: torch.Tensor, by_log_prob: torch.Tensor, by_entropy: torch.Tensor) -> None:
            to_critic(by_values.unsqueeze(-1))
            to_actor(to_outputs(by_log_prob, by_entropy))

        return values.squeeze(-1), log_prob, entropy, back

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        if not deterministic:
            if self.measured:
                return self._measure(self.extract_features(observation))
            return self.act(observation)[0]
        return self.actions.mode(self.mlp_extractor.forward_actor(self.extract_features(observation)))

    def set_training_mode(self, mode: bool) -> None:
        """As Stable-Baselines3's; does not walk through the modules where they are in that mode already."""
        if mode != self.training:
            super().set_training_mode(mode)


def is_plain(space: spaces.Space) -> bool:
    """Whether observations are vectors of float32, which Stable-Baselines3's preprocessing leaves as they are."""
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and space.dtype == np.float32


def n_policy_outputs(space: spaces.Space) -> int:
    """Outputs a policy needs: one logit an action of a ``Discrete`` space, one mean a component of a ``Box``."""
    return int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape or ()))


class DQN(StatefulAgent, LeanDQN):
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


class PPO(StatefulAgent, LeanPPO):
    """Stable-Baselines3's proximal policy optimisation with the agent's networks."""
