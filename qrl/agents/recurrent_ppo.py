"""sb3-contrib's recurrent PPO with networks of ours behind its LSTMs."""

from __future__ import annotations

from typing import Any

import sb3_contrib
import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.type_aliases import Schedule

from qrl.agents.base import StatefulAgent
from qrl.agents.sb3 import ActorCriticBuild
from qrl.errors import InputError


class NetworkRecurrentPolicy(ActorCriticBuild, RecurrentActorCriticPolicy):  # type: ignore[misc]
    """Observation, LSTM, network: one chain for the policy, another one for the values."""

    optimizer: Any

    def __init__(
        self, observation_space: Any, action_space: Any, lr_schedule: Schedule, *, agent: Any, **kwargs: Any
    ) -> None:
        self.agent = agent
        super().__init__(
            observation_space, action_space, lr_schedule, **kwargs, lstm_hidden_size=agent.lstm_size
        )
        rate = agent.learning_rates.layers
        for lstm in (self.lstm_actor, self.lstm_critic):
            for parameter in lstm.parameters():
                parameter.lr_scale = 1.0 if rate is None else rate / agent.learning_rate
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _build(self, lr_schedule: Schedule) -> None:
        self._build_networks(self.lstm_output_dim)
        if self.born is not None and self.born.shots is not None:
            why, fix = "acts by single shots, which an LSTM's rollout does not", "leave shots out"
            raise InputError("network.shots", self.born.shots, why, fix)
        # what Stable-Baselines3 expects of this method; made anew when the LSTMs are there
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]


class RecurrentPPO(StatefulAgent, sb3_contrib.RecurrentPPO):
    """sb3-contrib's proximal policy optimisation with memory; the LSTMs' state is part of ``state``.

    ``predict`` takes and returns that state, as every Stable-Baselines3 policy with memory: without it an observation
    is read as the first of an episode.
    """

    _last_lstm_states: Any

    def state(self) -> dict[str, Any]:
        """As ``StatefulAgent.state``, with hidden and cell values of both LSTMs."""
        memory = [[tensor.clone() for tensor in pair] for pair in self._last_lstm_states]
        return {**super().state(), "memory": memory}

    def set_state(self, state: dict[str, Any], environment: bool = True) -> None:
        """As ``StatefulAgent.set_state``; an episode that begins anew clears its memory by itself."""
        super().set_state(state, environment)
        pi, vf = (tuple(torch.as_tensor(tensor).clone() for tensor in pair) for pair in state["memory"])
        self._last_lstm_states = RNNStates(pi, vf)  # type: ignore[arg-type]
