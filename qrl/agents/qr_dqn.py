"""sb3-contrib's quantile-regression DQN with networks of ours."""

from __future__ import annotations

from typing import Any, ClassVar

import sb3_contrib
from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork

from qrl.agents.base import StatefulAgent
from qrl.agents.replay import ReplayAgent
from qrl.agents.sb3 import PlainObservations, is_plain
from qrl.networks import build_network, scale_learning_rates


class NetworkQuantiles(QuantileNetwork):
    """Quantile network of a network specification: ``(batch, n_inputs) -> (batch, n_quantiles, n_actions)``."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        outputs = agent.network_outputs(int(self.action_space.n))
        network = build_network(agent.network, self.features_dim, outputs, activation="relu")
        scale_learning_rates(network, agent.learning_rate, agent.learning_rates)
        self.quantile_net = network  # type: ignore[assignment]
        self.takes_observations = is_plain(self.observation_space)

    def extract_features(self, obs: Any, features_extractor: Any) -> Any:
        """As Stable-Baselines3's; observations that it would hand on unchanged are handed on at once."""
        return obs if self.takes_observations else super().extract_features(obs, features_extractor)


class NetworkQRDQNPolicy(PlainObservations, QRDQNPolicy):
    """``QRDQNPolicy`` with the agent's network as quantile network and as target."""

    def __init__(self, *args: Any, agent: Any, **kwargs: Any) -> None:
        self.agent = agent
        # the network that sb3-contrib builds first is replaced
        super().__init__(*args, **kwargs, n_quantiles=agent.n_quantiles, net_arch=[])

    def make_quantile_net(self) -> QuantileNetwork:
        """The quantile network and, by the same call, its target."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return NetworkQuantiles(**arguments, agent=self.agent).to(self.device)


class QRDQN(ReplayAgent, sb3_contrib.QRDQN):
    """sb3-contrib's quantile-regression DQN with the agent's network.

    Source: Dabney et al., arXiv:1710.10044.
    """

    _counters: ClassVar[tuple[str, ...]] = (*StatefulAgent._counters, "_n_calls", "exploration_rate")
