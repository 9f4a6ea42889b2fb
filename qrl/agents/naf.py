"""Normalised advantage functions: Q-learning for continuous actions whose best action is known in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from qrl.agents.replay import ActionValuePolicy, TemporalDifference
from qrl.networks import Network, build_network, scale_learning_rates


class QuadraticAdvantage(nn.Module):
    """``Q(s, a) = V(s) - (a - mu(s))^T P(s) (a - mu(s)) / 2`` with ``P = L L^T``, L lower triangular, diagonal > 0.

    One network gives V, mu before its tanh, and the entries of L row by row, those on the diagonal before their exp:
    ``(batch, n_inputs) -> (batch, 1 + n + n (n + 1) / 2)`` for n action components in [-1, 1].

    Source: Gu et al., arXiv:1603.00748, section 4.
    """

    def __init__(self, network: Network, n_actions: int) -> None:
        super().__init__()
        self.network, self.n_actions = network, n_actions
        self.rows, self.columns = torch.tril_indices(n_actions, n_actions)
        self.diagonal = self.rows == self.columns

    def forward(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """``(batch, n_inputs), (batch, n) -> (batch, 1)``."""
        value, best, entries = self._split(self.network(state))
        # the inner choice keeps entries that are not on the diagonal out of exp, where they may overflow
        positive = torch.where(self.diagonal, entries, 0.0).exp()
        lower = entries.new_zeros(len(entries), self.n_actions, self.n_actions)
        lower[:, self.rows, self.columns] = torch.where(self.diagonal, positive, entries)
        # (a - mu)^T L L^T (a - mu) is the squared length of L^T (a - mu)
        distance = ((action - best).unsqueeze(1) @ lower).squeeze(1)
        return value - 0.5 * distance.square().sum(1, keepdim=True)

    def value(self, state: torch.Tensor) -> torch.Tensor:
        """V(s) = max_a Q(s, a), ``(batch, 1)``."""
        return self._split(self.network(state))[0]

    def best(self, state: torch.Tensor) -> torch.Tensor:
        """mu(s) = argmax_a Q(s, a), ``(batch, n)``."""
        return self._split(self.network(state))[1]

    def _split(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        n = self.n_actions
        return outputs[:, :1], outputs[:, 1 : 1 + n].tanh(), outputs[:, 1 + n :]


class NAFPolicy(ActionValuePolicy):
    """Policy of a ``QuadraticAdvantage``: its best action."""

    q_net: QuadraticAdvantage
    q_net_target: QuadraticAdvantage

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, squash_output=True)

    def make_q_net(self) -> QuadraticAdvantage:
        """The network of the agent's specification under a quadratic advantage."""
        assert self.action_space.shape is not None
        n_actions = int(torch.Size(self.action_space.shape).numel())
        n_inputs = self.features_extractor.features_dim
        network = build_network(
            self.agent.network, n_inputs, self.agent.network_outputs(n_actions), activation="tanh"
        )
        scale_learning_rates(network, self.agent.learning_rate, self.agent.learning_rates)
        return QuadraticAdvantage(network, n_actions)

    def values(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """As ``ActionValuePolicy.values``; ``actions`` scaled to [-1, 1]."""
        values: torch.Tensor = self.q_net(self.features(observations), actions)
        return values

    def target_values(self, observations: torch.Tensor) -> torch.Tensor:
        """As ``ActionValuePolicy.target_values``."""
        return self.q_net_target.value(self.features(observations))

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return self.q_net.best(self.features(observation))


class NAF(TemporalDifference):
    """Q-learning with normalised advantage functions, a replay buffer, a target network and Gaussian action noise.

    Source: Gu et al., arXiv:1603.00748; for trajectory steering Kain et al., Phys. Rev. Accel. Beams 23, 124801 (2020).
    """

    policy: NAFPolicy
