"""How often another backend takes the noiseless policy's action, and how many shots make it do so."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from circuits.backends import Backend, Capabilities, Expectations
from circuits.backends.aer import AerBackend, outcome_table
from circuits.backends.protocol import forward_usage
from circuits.circuit import Circuit
from circuits.observables import Observable, commuting_groups
from qrl.agents.build import seed_everything
from qrl.hardware.acting import Actor, Metered, Setting, Trained
from qrl.study.statistics import DRAWS, Estimate, percentile_interval, resampling_counts

Floats = NDArray[np.float64]

WANTED = 0.95
"""Agreement for which the number of shots is given."""
GRID = tuple(2**k for k in range(18))
"""Shots at which agreement is found."""
REPEATS = 16
"""Draws of all shots at each of them."""
CLOSE = 0.05
"""Of the range of a continuous action: further away is another action."""


@dataclass(frozen=True)
class Visited:
    """States that the noiseless policy visited, and what it does there.

    Attributes:
        observations: ``(N, ...)`` as the agent sees them.
        episodes: ``(N,)``, the episode of each.
        actions: ``(N, ...)`` of the noiseless policy, greedy.
    """

    observations: np.ndarray
    episodes: NDArray[np.int64]
    actions: np.ndarray

    def agreement(self, same: Floats) -> Estimate:
        """Mean of ``same`` ``(N,)``, 1 where the action is the same; 95 % interval, whole episodes resampled.

        Where all or none are the same: the exact binomial interval of as many looks as episodes.
        """
        curve, low, high, _ = self.resampled(same[None])
        value, n = float(curve[0]), len(np.unique(self.episodes))
        if value in (0.0, 1.0):
            # resampling sees no spread here; the exact binomial interval does, an episode counting as one look
            edge = 0.025 ** (1.0 / n)
            return Estimate(value, 0.0, 1.0 - edge, n) if value == 0.0 else Estimate(value, edge, 1.0, n)
        return Estimate(value, low[0], high[0], n)

    def resampled(self, same: Floats) -> tuple[Floats, list[float | None], list[float | None], Floats]:
        """Means ``(k,)`` of ``same`` ``(k, N)``, ends of their 95 % intervals, and the bootstrap draws ``(draws, k)``.

        The states of an episode are no independent draws, so whole episodes are resampled.
        """
        numbers, place = np.unique(self.episodes, return_inverse=True)
        n = len(numbers)
        member = np.zeros((len(self.episodes), n))
        member[np.arange(len(self.episodes)), place] = 1.0
        sums, sizes = same @ member, member.sum(0)
        counts = resampling_counts(n, DRAWS, np.random.default_rng(0))
        drawn = counts @ sums.T / (counts @ sizes)[:, None]
        if n < 3:
            return same.mean(1), [None] * len(same), [None] * len(same), drawn
        ends = [percentile_interval(column) for column in drawn.T]
        return same.mean(1), [low for low, _ in ends], [high for _, high in ends], drawn


def sample_states(
    trained: Trained, seen: Sequence[tuple[np.ndarray, np.ndarray]], most: int, seed: int
) -> Visited:
    """At most so many of the states that were seen, drawn evenly, with the actions of the backend that is in place.

    Args:
        trained: the agent, on the noiseless backend.
        seen: observations and their episodes, step by step: what ``Evaluator.watch`` was told.
        most: number of states.
        seed: of the draw.
    """
    observations = np.concatenate([rows for rows, _ in seen])
    episodes = np.concatenate([numbers for _, numbers in seen])
    chosen = np.arange(len(episodes))
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, most, replace=False))
    rows = observations[chosen]
    actions, _ = Actor(trained, Setting("noiseless")).predict(rows)
    return Visited(rows, episodes[chosen].astype(np.int64), actions)


def same_actions(trained: Trained, visited: Visited, setting: Setting, backend: Backend) -> Floats:
    """Where an agent on a backend acts as the noiseless policy does, ``(N,)`` of 0 and 1."""
    trained.move(backend, setting.shots_taken)
    actor = Actor(trained, setting)
    with actor.undisturbed():
        actions, _ = actor.predict(visited.observations)
    return _same(actions, visited.actions, trained.agent.action_space)


def _same(actions: np.ndarray, reference: np.ndarray, space: Any) -> Floats:
    if isinstance(space, spaces.Box):
        near = np.abs(actions - reference) <= CLOSE * (space.high - space.low)
        return near.reshape(len(near), -1).all(1).astype(np.float64)
    return (actions == reference).astype(np.float64)


@dataclass(frozen=True)
class Curve:
    """Agreement with the noiseless policy by the number of shots.

    Attributes:
        name: where the shots are drawn.
        shots: a measurement setting.
        agreement, low, high: with the ends of its 95 % interval.
        limit: agreement with infinitely many shots.
        needed: shots a measurement setting for 95 % agreement, infinite where none suffice.
        settings: measurement settings of the circuit.
        method: how it was found.
    """

    name: str
    shots: tuple[int, ...]
    agreement: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    limit: float
    needed: Estimate
    settings: int
    method: str


def curve(name: str, trained: Trained, visited: Visited, source: Shots, seed: int) -> Curve:
    """Agreement of the greedy policy by shots that are drawn anew from what is known of a backend.

    The number for 95 % is read off the running maximum of the curve, on a straight line in the logarithm of the shots;
    its interval comes from the same bootstrap draws, whole episodes resampled.

    Source: own construction.
    """
    same = np.zeros((len(GRID), len(visited.episodes)))
    trained.move(source, 1)
    agent: Any = trained.agent
    with agent.undisturbed():
        seed_everything(seed)
        for row, shots in enumerate(GRID):
            trained.move(source, shots)
            for _ in range(REPEATS):
                actions, _ = agent.predict(visited.observations, deterministic=True)
                same[row] += _same(np.asarray(actions), visited.actions, agent.action_space) / REPEATS
        trained.move(source, None)
        actions, _ = agent.predict(visited.observations, deterministic=True)
        limit = _same(np.asarray(actions), visited.actions, agent.action_space)
    centre, low, high, drawn = visited.resampled(np.concatenate([same, limit[None]]))
    shots_needed = [_crossing(row[:-1]) for row in drawn]
    episodes = len(np.unique(visited.episodes))
    least, most = percentile_interval(shots_needed) if episodes >= 3 else (None, None)
    needed = Estimate(_crossing(centre[:-1]), least, most, episodes)
    layer = trained.acts_by
    return Curve(
        name,
        GRID,
        tuple(map(float, centre[:-1])),
        tuple(low[:-1]),
        tuple(high[:-1]),
        float(centre[-1]),
        needed,
        len(commuting_groups(layer.observables)),
        source.method,
    )


def _crossing(agreement: Floats) -> float:
    """Shots at which the running maximum of a curve over ``GRID`` reaches ``WANTED``, infinite where it does not."""
    risen = np.maximum.accumulate(agreement)
    at = int(np.searchsorted(risen, WANTED))
    if at == len(risen):
        return math.inf
    if at == 0:
        return float(GRID[0])
    share = (WANTED - risen[at - 1]) / (risen[at] - risen[at - 1])
    return float(math.ceil(GRID[at - 1] * (GRID[at] / GRID[at - 1]) ** share - 1e-9))


class Shots:
    """A backend that draws shots anew from what is known of another; its requests cost nothing.

    Attributes:
        method: how, in words.
    """

    method = ""
    name = "drawn anew"
    capabilities = Capabilities(False, True, True, (torch.float32, torch.float64), None, joint_shots=True)

    def expectations(
        self,
        circuit: Circuit,
        parameters: Tensor,
        features: Tensor,
        observables: Sequence[Observable],
        shots: int | None = None,
        seed: int | None = None,
        *,
        differentiate: bool = False,
    ) -> Expectations:
        """As ``circuits.backends.protocol.Backend``; one circuit and one batch alone."""
        rng = np.random.default_rng(int(torch.randint(2**63 - 1, ()).item()) if seed is None else seed)
        values = self._values(circuit, parameters, features, tuple(observables), shots, rng)
        usage = forward_usage(circuit, observables, len(features), shots, 0.0)
        return Expectations(torch.as_tensor(values, dtype=features.dtype), None, usage)

    def _values(
        self, circuit: Any, parameters: Any, features: Any, observables: Any, shots: Any, rng: Any
    ) -> Floats:
        raise NotImplementedError


class Readings(Shots):
    """Draws bit strings from the exact distribution of a simulated device, which is computed once."""

    def __init__(self, backend: AerBackend) -> None:
        noise = "with the device's noise and readout errors" if backend.noisy else "without noise"
        self.method = f"shots drawn anew from the exact distribution of the readings, {noise}"
        self._backend = backend
        self._found: list[tuple[Floats, Floats]] | None = None
        self._constant: Floats | None = None

    def _values(
        self, circuit: Any, parameters: Any, features: Any, observables: Any, shots: Any, rng: Any
    ) -> Floats:
        if self._found is None:
            angles = circuit.angles(parameters.detach().double().numpy(), features.detach().double().numpy())
            angles = np.broadcast_to(angles, (len(features), circuit.n_angles))
            self._found = []
            for group in commuting_groups(observables):
                found = self._backend.probabilities(circuit, angles, group.basis)
                table = outcome_table(group, observables, circuit.n_qubits)
                self._found.append((found / found.sum(1, keepdims=True), table))
            identity = "I" * circuit.n_qubits
            self._constant = np.array([observable.words.get(identity, 0.0) for observable in observables])
        assert self._constant is not None
        values = np.zeros((len(features), len(observables))) + self._constant
        for found, table in self._found:
            values += (found if shots is None else rng.multinomial(shots, found) / shots) @ table
        return values


class Estimates(Shots):
    """Draws normal noise of the standard errors that a device gave beside its values, for other numbers of shots."""

    def __init__(self, values: Floats, errors: Floats, shots: int) -> None:
        self.method = (
            f"values and standard errors that the device gave at {shots:,} shots, as the mean and, by 1 / sqrt(shots), "
            "the spread of normal noise; the errors of these values themselves stay in the curve"
        )
        self._means, self._errors, self._shots = values, errors, shots

    def _values(
        self, circuit: Any, parameters: Any, features: Any, observables: Any, shots: Any, rng: Any
    ) -> Floats:
        if shots is None:
            return self._means
        spread = self._errors * math.sqrt(self._shots / shots)
        return np.asarray(self._means + spread * rng.standard_normal(self._means.shape))


class Kept(Metered):
    """A backend that keeps its last answer."""

    latest: Expectations | None = None

    def expectations(self, *arguments: Any, **options: Any) -> Expectations:
        """As the backend's."""
        self.latest = super().expectations(*arguments, **options)
        return self.latest

    def estimates(self, shots: int) -> Estimates | None:
        """What it says of other numbers of shots, None where it gave no standard errors."""
        found = copy.copy(self.latest)
        if found is None or found.errors is None or not bool(torch.isfinite(found.errors).all()):
            return None
        return Estimates(found.values.double().numpy(), found.errors.double().numpy(), shots)
