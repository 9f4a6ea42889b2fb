"""Greedy actions from as many shots as it takes to see which is best, and how good such decisions are."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from circuits.backends import Usage
from circuits.backends.protocol import count_settings
from circuits.shot_allocation import RULES, Decision, Published, StopRule, top_gap
from qrl.errors import InputError
from qrl.layer import QuantumLayer
from qrl.ledger import current, phase
from qrl.networks import Network, ScaleHead
from qrl.specs.shots import AdaptiveShots

Floats = NDArray[np.float64]

_PERCENTILES = (5, 25, 50, 75, 95)


class MeasuredValues:
    """The outputs of a network, ``(N, n_inputs) -> (N, n_outputs)``, as a device would find the largest of them.

    Raises:
        InputError: the outputs are no linear function of one circuit's expectation values.
    """

    def __init__(self, network: Network) -> None:
        stages = list(network.body) if isinstance(network.body, nn.Sequential) else [network.body]
        if network.head is not None:
            stages.append(network.head)
        at = [index for index, stage in enumerate(stages) if isinstance(stage, QuantumLayer)]
        if len(at) != 1:
            raise _refused("reads a circuit, which this network does not have", 'use kind = "quantum"')
        self._before, self.layer, self._after = stages[: at[0]], stages[at[0]], stages[at[0] + 1 :]
        parts = [p for stage in self._after for p in (stage if isinstance(stage, nn.Sequential) else [stage])]
        if not all(isinstance(part, ScaleHead | nn.Linear) for part in parts):
            raise _refused("needs values linear in expectation values", "use a decoder without hidden layers")

    def decide(self, inputs: Tensor, rule: StopRule) -> Decision:
        """Which output is the largest, for inputs ``(N, n_inputs)``, and what it took to see it.

        Raises:
            TypeError, ValueError: as ``QuantumLayer.largest``.
        """
        with torch.no_grad():
            for stage in self._before:
                inputs = stage(inputs)
            return self.layer.largest(inputs, *self.combination(), rule)

    def exact(self, inputs: Tensor) -> Floats:
        """The outputs ``(N, n_outputs)`` without shots.

        Raises:
            ValueError: the backend has no exact values.
        """
        layer = copy.copy(self.layer)
        layer.shots = None
        with torch.no_grad():
            for stage in (*self._before, layer, *self._after):
                inputs = stage(inputs)
        return inputs.double().numpy()

    def combination(self) -> tuple[Floats, Floats]:
        """W ``(n_outputs, n_observables)`` and b ``(n_outputs,)`` of the outputs W O + b."""
        size = len(self.layer.observables)
        # what is linear is known from its values at 0 and at each unit vector
        with torch.no_grad():
            values = torch.cat([torch.zeros(1, size), torch.eye(size)])
            for stage in self._after:
                values = stage(values)
        found = values.double().numpy()
        return (found[1:] - found[0]).T, found[0]


class MeasuredActions:
    """Greedy actions of a Q-network by a stop rule, and the noise of what it learns from.

    Attributes:
        spec: the specification.
        rule: its rule.
        latest: the decision of the last greedy actions in training, None before.

    Raises:
        InputError: as ``MeasuredValues``; or ``updates = "gap"`` beside shots of the network.
        ValueError: the backend cannot serve the rule.
    """

    def __init__(self, network: Network, spec: AdaptiveShots) -> None:
        self.spec, self.rule = spec, stop_rule(spec)
        self.latest: Decision | None = None
        self._values = MeasuredValues(network)
        self._decisions = self._shots = 0
        layer = self._values.layer
        self.rule.check(layer.backend)
        if spec.updates == "gap" and layer.shots is not None:
            why, fix = 'are given beside updates = "gap"', "leave one of them out"
            raise InputError("network.shots", layer.shots, why, fix)

    def act(self, features: Tensor, training: bool) -> Tensor:
        """The greedy actions ``(N,)`` of features ``(N, n_inputs)``."""
        decision = self._values.decide(features, self.rule)
        if training:
            self.latest = decision
            self._decisions += len(decision.shots)
            self._shots += int(decision.shots.sum())
        return torch.from_numpy(decision.choice)

    def learnt_from(self, values: Tensor) -> Tensor:
        """Exact Q-values ``(N, n_actions)`` with the noise of the shots that their gaps ask for, which are counted."""
        assert isinstance(self.rule, Published)
        shots = self.rule.shots_of_gap(top_gap(values.double().numpy()))
        weights, _ = self._values.combination()
        noise = np.sqrt(1.0 / shots)[:, None] * torch.randn(len(values), weights.shape[1]).numpy() @ weights.T
        ledger = current()
        if ledger is not None:
            layer = self._values.layer
            with phase("quantum"):
                ledger.count(Usage(shots=int(shots.sum()) * count_settings(layer.circuit, layer.observables)))
        return values + torch.from_numpy(noise).to(values.dtype)

    def take_mean_shots(self) -> float | None:
        """Shots a decision in training since this was last asked, None where there was no decision."""
        mean = self._shots / self._decisions if self._decisions else None
        self._decisions = self._shots = 0
        return mean


def stop_rule(spec: AdaptiveShots) -> StopRule:
    """The rule of a specification."""
    own = {"alpha": spec.alpha} if spec.rule == "empirical_bernstein" else {}
    return RULES[spec.rule](start=spec.start, step=spec.step, cap=spec.cap, **own)


def _refused(why: str, fix: str) -> InputError:
    return InputError("adaptive_shots", "a stop rule", why, fix)


@dataclass(frozen=True, slots=True)
class DecisionQuality:
    """What greedy decisions of an agent cost, and how often they are wrong.

    Attributes:
        decisions: how many.
        shots_mean: shots a decision, all measurement settings together.
        shots_percentiles: the same by percentile: 5, 25, 50, 75 and 95.
        wrong_share: share of decisions for an action whose exact value is not the largest.
        interval: its 95 % interval (Clopper and Pearson), over the shots; the observations are given.
        decided_share: share of decisions that the rule ended, and not the cap.
        wrong_decided_share: share of all decisions that the rule ended, wrongly: what ``alpha`` bounds.
        lost_mean: mean exact value that the choices lose, in units of the values.
    """

    decisions: int
    shots_mean: float
    shots_percentiles: Mapping[int, float]
    wrong_share: float
    interval: tuple[float, float]
    decided_share: float
    wrong_decided_share: float
    lost_mean: float


def decision_quality(
    agent: Any, observations: np.ndarray, rule: StopRule | None = None, seed: int = 0
) -> DecisionQuality:
    """Hold an agent's greedy decisions against the exact values.

    Args:
        agent: one with a Q-network, ``dqn``.
        observations: ``(N, ...)`` as the agent sees them, at least one.
        rule: such as ``circuits.shot_allocation.EmpiricalBernstein()``; the agent's own by default.
        seed: of the shots. The global generators are left as they are.

    Raises:
        InputError: no observations or no rule are given, or the network has no circuit as ``MeasuredValues`` needs it.
        ValueError: the backend cannot serve the rule, or has no exact values.

    Source: own construction.
    """
    from scipy.stats import binomtest

    n, q_net = len(observations), agent.policy.q_net
    if not n:
        raise InputError("observations", n, "are given", "give at least one")
    values = MeasuredValues(q_net.q_net)
    if rule is None:
        if q_net.measured is None:
            raise InputError("rule", "nothing", "is given for an agent that acts without one", "give a rule")
        rule = q_net.measured.rule
    with phase("evaluate"), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        tensor, _ = agent.policy.obs_to_tensor(observations)
        features = q_net.extract_features(tensor, q_net.features_extractor)
        decision, exact = values.decide(features, rule), values.exact(features)
    lost = exact.max(1) - exact[np.arange(n), decision.choice]
    wrong = lost > 0.0
    interval = binomtest(int(wrong.sum()), n).proportion_ci(method="exact")
    return DecisionQuality(
        decisions=n,
        shots_mean=float(decision.shots.mean()),
        shots_percentiles={p: float(np.percentile(decision.shots, p)) for p in _PERCENTILES},
        wrong_share=float(wrong.mean()),
        interval=(float(interval.low), float(interval.high)),
        decided_share=float(decision.decided.mean()),
        wrong_decided_share=float((wrong & decision.decided).mean()),
        lost_mean=float(lost.mean()),
    )
