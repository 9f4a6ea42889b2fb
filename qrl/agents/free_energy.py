"""Free-energy Q-learning: action values of a Boltzmann machine, or of any network of state and action."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from qrl.agents.replay import ActionValuePolicy, TemporalDifference, calibrate
from qrl.networks import build_action_value, scale_learning_rates


class FreeEnergyPolicy(ActionValuePolicy):
    """Greedy policy of a network Q(s, a) for n discrete actions, which it sees as n numbers even in [-1, 1].

    The network has one action node: two actions are -1 and +1. Values of all actions of a batch are asked for in one
    call of ``batch x n`` rows. A machine whose sampler draws acts by moments alone (``BoltzmannMachine.line_values``):
    what free energies cost beyond them is spent on learning only.
    """

    def __init__(self, observation_space: Any, action_space: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(observation_space, action_space, *args, **kwargs)
        self.levels = torch.linspace(-1.0, 1.0, int(action_space.n)).unsqueeze(1)

    def make_q_net(self) -> nn.Module:
        """The network of the agent's specification."""
        q_net = build_action_value(self.agent.network, self.features_extractor.features_dim, 1)
        scale_learning_rates(q_net, self.agent.learning_rate, self.agent.learning_rates)
        return q_net

    def all_values(self, q_net: nn.Module, observations: Any) -> torch.Tensor:
        """The values of all actions, ``(batch, n_actions)``."""
        features, n_actions = self.features(observations), len(self.levels)
        states = features.repeat_interleave(n_actions, dim=0)
        values: torch.Tensor = q_net(states, self.levels.repeat(len(features), 1))
        return values.view(-1, n_actions)

    def values(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """As ``ActionValuePolicy.values``; ``actions`` are their numbers, ``(batch, 1)``."""
        values: torch.Tensor = self.q_net(self.features(observations), self._encoded(actions))
        return values

    def calibrate(self, observations: torch.Tensor, actions: torch.Tensor) -> None:
        """As ``ActionValuePolicy.calibrate``."""
        states = self.features(observations)
        calibrate(self.q_net, self.q_net_target, self.agent.network, states, self._encoded(actions))

    def _encoded(self, actions: torch.Tensor) -> torch.Tensor:
        return self.levels[actions.long().squeeze(1)]

    def target_values(self, observations: torch.Tensor) -> torch.Tensor:
        """As ``ActionValuePolicy.target_values``."""
        return self.all_values(self.q_net_target, observations).amax(1, keepdim=True)

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        sampler = getattr(self.q_net, "sampler", None)
        if sampler is None or sampler.exact:
            return self.all_values(self.q_net, observation).argmax(1)
        machine: Any = self.q_net
        values: torch.Tensor = machine.line_values(self.features(observation), self.levels)
        return values.argmax(1)


class FreeEnergyQ(TemporalDifference):
    """TD(0) Q-learning with replay, a target network and epsilon-greedy actions, for one network of state and action.

    With a Boltzmann machine and plain gradient descent this is free-energy reinforcement learning: the gradient by a
    visible weight is ``v <sz_h>``, by a coupling ``<sz_h sz_k>``. An update asks a sampler twice: the target machine
    for all actions in the next states, the online machine for the pairs of the batch; the two differ in their
    couplings, so that they cannot share a request. Unlike the published code, actions are chosen by the online machine,
    ended episodes are not bootstrapped, and those that a time limit cut are.

    Source: Levit et al., arXiv:1706.00074; replay and target as in Schenk et al., arXiv:2209.11044.
    """

    policy: FreeEnergyPolicy
    exploration: LinearSchedule

    def __init__(self, policy: Any, env: Any, *, exploration: LinearSchedule, **kwargs: Any) -> None:
        super().__init__(policy, env, **kwargs)
        self.exploration = exploration

    @property
    def exploration_rate(self) -> float:
        """Epsilon at this point of the budget."""
        return self.exploration(self._current_progress_remaining)
