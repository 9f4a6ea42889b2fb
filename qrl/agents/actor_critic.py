"""Stable-Baselines3's DDPG, TD3 and SAC with networks of ours; a Boltzmann machine makes the free-energy critic."""

from __future__ import annotations

from typing import Any

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import Actor, TD3Policy
from torch import nn
from torch.nn.functional import mse_loss

from qrl.agents.base import _optimizer_state, _set_optimizer_state
from qrl.agents.replay import NoisyAgent, bootstrapped, calibrate, follow
from qrl.agents.sb3 import PlainObservations
from qrl.errors import InputError
from qrl.ledger import phase
from qrl.networks import build_action_value, build_network, scale_learning_rates
from qrl.specs import MatchedMLPNetwork, MLPNetwork


class NetworkActor(Actor):
    """Actor whose network, under a tanh, comes from a network specification."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "net_arch": []})
        assert self.action_space.shape is not None
        n_actions = int(np.prod(self.action_space.shape))
        network = build_network(agent.network, self.features_dim, n_actions, activation="relu")
        scale_learning_rates(network, agent.learning_rate, agent.learning_rates)
        self.mu = nn.Sequential(network, nn.Tanh())


class NetworkCritic(ContinuousCritic):
    """Critics Q(s, a), each of the agent's specification; the actor's features are never shared."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "net_arch": []})
        assert self.action_space.shape is not None
        n_state, n_actions = self.features_extractor.features_dim, int(np.prod(self.action_space.shape))
        self.q_networks = []
        for index in range(self.n_critics):
            q_net = build_action_value(agent.critic, n_state, n_actions)
            scale_learning_rates(q_net, agent.learning_rate, agent.learning_rates, agent.critic_learning_rate)
            setattr(self, f"qf{index}", q_net)
            self.q_networks.append(q_net)

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Each critic's values, ``(batch, 1)``."""
        features = self.features(obs)
        return tuple(q_net(features, actions) for q_net in self.q_networks)

    def q1_forward(self, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """The first critic's values, ``(batch, 1)``."""
        values: torch.Tensor = self.q_networks[0](self.features(obs), actions)
        return values

    def features(self, obs: torch.Tensor) -> torch.Tensor:
        """Observations as the critics' flat input, ``(batch, n_state)``."""
        return self.extract_features(obs, self.features_extractor)


class NetworkTD3Policy(PlainObservations, TD3Policy):
    """``TD3Policy`` with the agent's networks. Acting asks the actor alone."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        self.agent = agent
        super().__init__(*args, **kwargs)
        # what the agent's count of updates and its state read
        self.optimizer = self.critic.optimizer  # type: ignore[assignment]

    def make_actor(self, features_extractor: Any = None) -> Actor:
        """The agent's actor."""
        arguments = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return NetworkActor(**arguments, agent=self.agent).to(self.device)

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        """The agent's critics."""
        arguments = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return NetworkCritic(**arguments, agent=self.agent).to(self.device)


class NetworkSACActor(SACActor):
    """SAC's actor on one network, whose outputs are the means and then the logarithms of the deviations."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "net_arch": []})
        assert self.action_space.shape is not None
        n_actions = int(np.prod(self.action_space.shape))
        outputs = agent.network_outputs(n_actions)
        self.latent_pi = build_network(agent.network, self.features_dim, outputs, activation="relu")  # type: ignore[assignment]
        self.mu, self.log_std = _Columns(0, n_actions), _Columns(n_actions, outputs)


class _Columns(nn.Module):
    """Some of a network's outputs."""

    def __init__(self, first: int, end: int) -> None:
        super().__init__()
        self.first, self.end = first, end

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        """``(batch, n) -> (batch, end - first)``."""
        return outputs[:, self.first : self.end]


class NetworkSACPolicy(PlainObservations, SACPolicy):
    """``SACPolicy`` with the agent's actor and critics."""

    actor_kwargs: dict[str, Any]

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        self.agent = agent
        super().__init__(*args, **kwargs)
        self.optimizer = self.critic.optimizer  # type: ignore[assignment]

    def make_actor(self, features_extractor: Any = None) -> Any:
        """The agent's actor; of a perceptron without head Stable-Baselines3's own, of its widths."""
        spec, kwargs = self.agent.network, dict(self.actor_kwargs)
        if spec.head is None and isinstance(spec, MLPNetwork | MatchedMLPNetwork):
            kwargs["net_arch"] = self._widths(spec)
            kwargs["activation_fn"] = nn.Tanh if spec.activation == "tanh" else nn.ReLU
            self.actor_kwargs = kwargs
            actor = super().make_actor(features_extractor)
        else:
            arguments = self._update_features_extractor(kwargs, features_extractor)
            actor = NetworkSACActor(**arguments, agent=self.agent).to(self.device)
        scale_learning_rates(actor, self.agent.learning_rate, self.agent.learning_rates)
        return actor

    def _widths(self, spec: MLPNetwork | MatchedMLPNetwork) -> list[int]:
        if isinstance(spec, MLPNetwork):
            return list(spec.hidden)
        from baselines.networks import match_widths

        if spec.n_parameters is None:
            raise InputError("network.match", spec.match, "is not resolved", "give n_parameters")
        assert self.action_space.shape is not None
        n_inputs, n_actions = (
            self.make_features_extractor().features_dim,
            int(np.prod(self.action_space.shape)),
        )
        return list(match_widths(n_inputs, self.agent.network_outputs(n_actions), spec.n_parameters).hidden)

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        """The agent's critics."""
        arguments = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return NetworkCritic(**arguments, agent=self.agent).to(self.device)


class ActorCritic(NoisyAgent):
    """Mixin of our actor-critics: both optimisers are in the state."""

    policy: Any
    critic: Any
    critic_target: Any
    replay_buffer: Any

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """As Stable-Baselines3's, in the ledger's phase ``learn``."""
        self._calibrate(batch_size)
        super().train(gradient_steps, batch_size)

    def _calibrate(self, batch_size: int) -> None:
        spec = self.policy.agent.critic
        if self.updates == 0 and getattr(spec, "level", None) is not None:
            batch = self.replay_buffer.sample(batch_size)
            states = self.critic.features(batch.observations)
            for online, target in zip(self.critic.q_networks, self.critic_target.q_networks, strict=True):
                calibrate(online, target, spec, states, batch.actions)

    def state(self) -> dict[str, Any]:
        """As ``ReplayAgent.state``, with the actor's optimiser."""
        return {**super().state(), "actor_optimizer": _optimizer_state(self.policy.actor.optimizer)}

    def set_state(self, state: dict[str, Any], environment: bool = True) -> None:
        """As ``ReplayAgent.set_state``."""
        _set_optimizer_state(self.policy.actor.optimizer, state["actor_optimizer"])
        super().set_state(state, environment)


class FreeEnergyUpdates(ActorCritic):
    """Mixin of DDPG and TD3: how they learn from a critic that a sampler answers for.

    A batch of B transitions costs at most 3 B sampled machines in two or three requests: the target machine's free
    energies in the next states, the online machine's for the batch, and its moments at the actor's actions, from which

        dQ/da_j = +- sum_h w_jh <sz_h>,      grad J = mean over the batch of dmu/dtheta^T dQ/da.

    The machines share couplings within a request only, so the target's stands alone. With ``actor_first`` the other two
    are of the same machine and go in one, if the sampler is exact and free energies come with the moments; a sampler
    that draws is asked for moments alone there. Otherwise the actor's gradient is taken after the critic's step.

    Any other critic learns by Stable-Baselines3's own ``train``, unless an option asks for what that has not.

    Source: Schenk et al., arXiv:2209.11044; Lillicrap et al., arXiv:1509.02971; Fujimoto et al., arXiv:1802.09477.
    """

    actor: Any
    actor_target: Any

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """As Stable-Baselines3's, in the ledger's phase ``learn``."""
        spec = self.policy.agent
        plain = spec.critic.kind != "boltzmann" and not spec.actor_first and spec.actor_tau is None
        if plain:
            super().train(gradient_steps, batch_size)
            return
        with phase("learn"):
            self._calibrate(batch_size)
            self._train(gradient_steps, batch_size)

    def _train(self, gradient_steps: int, batch_size: int) -> None:
        agent: Any = self
        agent.policy.set_training_mode(True)
        agent._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        losses, spec = [], self.policy.agent
        for _ in range(gradient_steps):
            agent._n_updates += 1
            batch = agent.replay_buffer.sample(batch_size)
            target = self._target(batch)
            turn = agent._n_updates % agent.policy_delay == 0
            if turn and spec.actor_first:
                losses.append(self._step_both(batch, target))
            else:
                losses.append(self._step_critic(batch, target))
            if turn:
                if not spec.actor_first:
                    actions = self.actor(batch.observations)
                    self._step_actor(actions, self._slope(batch.observations, actions.detach()))
                follow(self.critic_target, self.critic, agent.tau)
                follow(self.actor_target, self.actor, spec.actor_tau or agent.tau)
        agent.logger.record("train/n_updates", agent._n_updates, exclude="tensorboard")
        agent.logger.record("train/critic_loss", np.mean(losses))

    @torch.no_grad()
    def _target(self, batch: ReplayBufferSamples) -> torch.Tensor:
        """``r + gamma (1 - terminal) min_i Q_i(s', mu(s') + noise)`` by the targets."""
        agent: Any = self
        noise = torch.empty_like(batch.actions).normal_(0, agent.target_policy_noise)
        noise = noise.clamp(-agent.target_noise_clip, agent.target_noise_clip)
        goes_on = (batch.dones == 0).squeeze(1)

        def values(following: torch.Tensor) -> torch.Tensor:
            actions = (self.actor_target(following) + noise[goes_on]).clamp(-1, 1)
            return torch.cat(self.critic_target(following, actions), dim=1).amin(1, keepdim=True)

        return bootstrapped(batch, agent.gamma, values)

    def _step_critic(self, batch: ReplayBufferSamples, target: torch.Tensor) -> float:
        values = self.critic(batch.observations, batch.actions)
        return self._descend(sum(mse_loss(value, target) for value in values))

    def _descend(self, loss: Any) -> float:
        self.critic.optimizer.zero_grad()
        loss.backward()
        self.critic.optimizer.step()
        return float(loss.item())

    def _step_both(self, batch: ReplayBufferSamples, target: torch.Tensor) -> float:
        """The actor's gradient by the critic as it is, then a step of both; of one request where that costs nothing."""
        actions = self.actor(batch.observations)
        machine = self.critic.q_networks[0]
        if not getattr(getattr(machine, "sampler", None), "exact", False):
            self._step_actor(actions, self._slope(batch.observations, actions.detach()))
            return self._step_critic(batch, target)
        features, n = self.critic.features(batch.observations), len(target)
        joined = torch.cat([batch.actions, actions.detach()]).requires_grad_()
        values = machine(torch.cat([features, features]), joined)
        (slope,) = torch.autograd.grad(values[n:].sum(), joined, retain_graph=True)
        others = [q_net(features, batch.actions) for q_net in self.critic.q_networks[1:]]
        loss = self._descend(sum(mse_loss(value, target) for value in (values[:n], *others)))
        self._step_actor(actions, slope[n:])
        return loss

    def _slope(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """dQ/da of the first critic, ``(batch, n_actions)``: of a machine, from its moments alone."""
        q_net, features = self.critic.q_networks[0], self.critic.features(observations)
        if hasattr(q_net, "action_gradient"):
            slope: torch.Tensor = q_net.action_gradient(features, actions)
            return slope
        actions = actions.requires_grad_()
        (slope,) = torch.autograd.grad(q_net(features, actions).sum(), actions)
        return slope

    def _step_actor(self, actions: torch.Tensor, slope: torch.Tensor) -> None:
        self.actor.optimizer.zero_grad()
        actions.backward(-slope.to(actions.dtype) / len(actions))
        self.actor.optimizer.step()


class DDPG(FreeEnergyUpdates, stable_baselines3.DDPG):
    """Stable-Baselines3's deep deterministic policy gradient with the agent's actor and critic."""


class TD3(FreeEnergyUpdates, stable_baselines3.TD3):
    """Stable-Baselines3's twin delayed DDPG with the agent's actor and critics."""


class SAC(ActorCritic, stable_baselines3.SAC):
    """Stable-Baselines3's soft actor-critic with the agent's actor and critics."""

    log_ent_coef: torch.Tensor | None

    def trained_parameters(self) -> dict[str, Any]:
        """As ``StatefulAgent.trained_parameters``, with the logarithm of a learnt entropy coefficient."""
        learnt = {} if self.log_ent_coef is None else {"log_ent_coef": self.log_ent_coef}
        return {**super().trained_parameters(), **learnt}

    def state(self) -> dict[str, Any]:
        """As ``ActorCritic.state``, with the entropy coefficient and its optimiser."""
        state = super().state()
        if self.log_ent_coef is not None:
            optimizer: Any = self.ent_coef_optimizer
            optimizer.updates = self.updates
            state["entropy"] = {
                "log_ent_coef": self.log_ent_coef.detach().clone(),
                "optimizer": _optimizer_state(optimizer),
            }
        return state

    def set_state(self, state: dict[str, Any], environment: bool = True) -> None:
        """As ``ActorCritic.set_state``."""
        if self.log_ent_coef is not None:
            with torch.no_grad():
                self.log_ent_coef.copy_(state["entropy"]["log_ent_coef"])
            _set_optimizer_state(self.ent_coef_optimizer, state["entropy"]["optimizer"])
        super().set_state(state, environment)
