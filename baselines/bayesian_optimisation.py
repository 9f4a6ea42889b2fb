"""Bayesian optimisation of corrector settings within an episode: a good setting each time, no policy ever."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from baselines.adaptive_control import AdaptiveController, readings
from baselines.arguments import integer, number

Array = NDArray[np.float64]

LENGTHS = np.array([0.5, 1.0, 2.0, 4.0])
"""Length scales of the kernel among which the marginal likelihood chooses, in units of the largest action."""

_NOISE = 1e-4
_ROUNDS = 3
_MAX_POINTS = 60


@dataclass
class Search:
    """The settings tried in `batch` episodes side by side, and the cost found at each; one row an episode."""

    setting: Array
    """Where each episode stands now, (batch, m): the sum of its actions."""
    tried: Array
    """Settings so far, (batch, n, m)."""
    cost: Array
    """Root mean square of the readings there, (batch, n)."""
    proposed: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """The last actions, (batch, m); empty before the first."""

    @classmethod
    def begun(cls, x: Array, n_actions: int) -> Search:
        """At the start of episodes with readings x (batch, n_readings)."""
        setting = np.zeros((len(x), n_actions))
        return cls(setting, setting[:, None, :].copy(), _rms(x)[:, None])

    def add(self, actions: Array, x: Array) -> None:
        """Actions (batch, m) led to readings x (batch, n_readings)."""
        self.setting = self.setting + actions
        self.tried = np.concatenate([self.tried, self.setting[:, None, :]], axis=1)[:, -_MAX_POINTS:]
        self.cost = np.concatenate([self.cost, _rms(x)[:, None]], axis=1)[:, -_MAX_POINTS:]

    def state(self) -> dict[str, Any]:
        """As of a controller."""
        return {"setting": self.setting, "tried": self.tried, "cost": self.cost}


class BayesianOptimisation(AdaptiveController):
    """Searches the corrector settings of each episode anew for the smallest root mean square of the readings.

    The search space is the change of the settings since the episode began, in [-`reach`, `reach`] for each corrector;
    an action moves to the next candidate, or as far towards it as one action goes. The first `random_steps` candidates
    are uniform. Then a Gaussian process with a Matern-5/2 kernel is conditioned on what the episode has shown (costs
    standardised, one length scale of `LENGTHS` by marginal likelihood), and the next candidate has the largest expected
    improvement among `candidates` uniform ones and as many around the best in shrinking neighbourhoods.

    Nothing is carried from one episode to the next: what counts is interactions per reset. Batches of `action` are
    searches side by side, which begin at `restart` and go on from call to call.

    Arguments: `n_readings`, `n_actions`; `reach`; `random_steps`; `candidates`; `seed`. Raises `ValueError` or
    `TypeError` naming the argument.

    Source: D. Jones, M. Schonlau and W. Welch, J. Global Optim. 13, 455 (1998), Eq. (15), expected improvement; kernel:
    J. Snoek, H. Larochelle and R. Adams, NeurIPS 2012. Candidates and search space own construction.
    """

    def __init__(
        self,
        n_readings: int,
        n_actions: int,
        *,
        reach: float = 1.0,
        random_steps: int = 5,
        candidates: int = 128,
        seed: int = 0,
    ) -> None:
        self.n_readings = integer("n_readings", n_readings, 1)
        self.n_actions = integer("n_actions", n_actions, 1)
        self.reach = number("reach", reach, 0.0, low_open=True)
        self.random_steps = integer("random_steps", random_steps, 1)
        self.candidates = integer("candidates", candidates, 1)
        self.seed = integer("seed", seed)
        self.generator = np.random.Generator(np.random.PCG64(self.seed))
        self._training: Search | None = None
        self._testing: Search | None = None
        self.restart()

    # ------------------------------------------------------------------ the learning loop

    def begin(self, observation: Array) -> None:
        """A new search."""
        self._training = Search.begun(readings(observation, self.n_readings)[0], self.n_actions)

    def explore(self, observation: Array) -> Array:
        """The way to the next candidate of the running search."""
        if self._training is None:
            self.begin(observation)
        assert self._training is not None
        return self._propose(self._training, self.generator)[0]

    def observe(self, observation: Array, action: Any, following: Array) -> None:
        """Add what was found to the running search."""
        if self._training is not None:
            self._training.add(np.asarray(action)[None, :], readings(following, self.n_readings)[0])

    # ------------------------------------------------------------------ evaluation

    def restart(self) -> None:
        """The next `action` begins new searches, with the same random numbers each time."""
        self._testing = None
        self._test_generator = np.random.Generator(np.random.PCG64([self.seed, 1]))

    def action(self, observation: ArrayLike) -> Array:
        """The way to the next candidates; each call is the answer to the one before (see `restart`)."""
        x, single = readings(observation, self.n_readings)
        search = self._testing
        if search is None or len(search.setting) != len(x):
            self._testing = search = Search.begun(x, self.n_actions)
        else:
            search.add(search.proposed, x)
        search.proposed = self._propose(search, self._test_generator)
        return search.proposed[0] if single else search.proposed

    # ------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """As `AdaptiveController.state`: of the learning loop."""
        running = None if self._training is None else self._training.state()
        return {"search": running, "generator": self.generator.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """As `AdaptiveController.set_state`."""
        running = state["search"]
        self._training = None if running is None else Search(**{k: np.array(v) for k, v in running.items()})
        self.generator.bit_generator.state = state["generator"]

    # ------------------------------------------------------------------ the optimiser

    def _propose(self, search: Search, generator: np.random.Generator) -> Array:
        n_tried = search.cost.shape[1]
        if n_tried <= self.random_steps:
            target = generator.uniform(-self.reach, self.reach, search.setting.shape)
        else:
            target = self._best_candidate(search, generator)
        return np.clip(target - search.setting, -1.0, 1.0)

    def _best_candidate(self, search: Search, generator: np.random.Generator) -> Array:
        """Settings (batch, m) of largest expected improvement."""
        surrogate = Surrogate(search.tried, search.cost)
        batch, m = search.setting.shape
        incumbent = np.take_along_axis(search.tried, search.cost.argmin(axis=1)[:, None, None], axis=1)
        pool = generator.uniform(-self.reach, self.reach, (batch, self.candidates, m))
        radius = 0.5 * self.reach
        best, best_value = incumbent, np.full((batch, 1), -np.inf)
        for _ in range(_ROUNDS + 1):
            value = surrogate.expected_improvement(pool)
            at = value.argmax(axis=1)[:, None]
            better = np.take_along_axis(value, at, axis=1) > best_value
            best = np.where(better[:, :, None], np.take_along_axis(pool, at[:, :, None], axis=1), best)
            best_value = np.maximum(best_value, np.take_along_axis(value, at, axis=1))
            centre = np.where(np.arange(self.candidates)[:, None] % 2 == 0, best, incumbent)
            pool = np.clip(centre + radius * generator.standard_normal(pool.shape), -self.reach, self.reach)
            radius *= 0.3
        return best[:, 0]


class Surrogate:
    """Gaussian processes of the costs (batch, n) at settings (batch, n, m), one a row, each with its own length scale.

    Costs are standardised by row; the signal's variance is the one of largest likelihood in closed form.

    Source: as `BayesianOptimisation`; C. Rasmussen and C. Williams (2006), Eqs. (2.25), (2.26), (5.8).
    """

    def __init__(self, settings: Array, cost: Array) -> None:
        self.settings = settings
        self._mean = cost.mean(axis=1, keepdims=True)
        self._std = np.maximum(cost.std(axis=1, keepdims=True), 1e-12)
        y = (cost - self._mean) / self._std
        n = y.shape[1]
        distance = _distance(settings, settings)
        best = np.full(len(y), -np.inf)
        self.length = np.empty(len(y))
        self._precision, self._signal = np.empty_like(distance), np.empty(len(y))
        for length in LENGTHS:
            covariance = matern(distance / length) + _NOISE * np.eye(n)
            factor = np.linalg.inv(np.linalg.cholesky(covariance))
            precision = np.matmul(factor.swapaxes(1, 2), factor)
            signal = np.maximum(np.einsum("bi,bij,bj->b", y, precision, y) / n, 1e-12)
            log_det = -np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
            likelihood = -0.5 * n * (np.log(2.0 * math.pi * signal) + 1.0) - log_det
            better = likelihood > best
            best = np.where(better, likelihood, best)
            self.length[better] = length
            self._precision[better], self._signal[better] = precision[better], signal[better]
        self.log_likelihood = best
        self._weights = np.matmul(self._precision, y[:, :, None])[:, :, 0]
        self._least = y.min(axis=1, keepdims=True)

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (batch, k) of the cost at points (batch, k, m)."""
        mean, std = self._standardised(points)
        return self._mean + self._std * mean, self._std * std

    def expected_improvement(self, points: Array) -> Array:
        """Expected improvement on the least cost seen, in its standard deviations, (batch, k)."""
        mean, std = self._standardised(points)
        gain = self._least - mean
        u = gain / std
        return gain * ndtr(u) + std * np.exp(-0.5 * u * u) / math.sqrt(2.0 * math.pi)

    def _standardised(self, points: Array) -> tuple[Array, Array]:
        k = matern(_distance(points, self.settings) / self.length[:, None, None])
        explained = np.sum(np.matmul(k, self._precision) * k, axis=2)
        std = np.sqrt(self._signal[:, None] * np.maximum(1.0 - explained, 1e-12))
        return np.matmul(k, self._weights[:, :, None])[:, :, 0], std


def matern(r: Array) -> Array:
    """The Matern-5/2 correlation at distance r in length scales: `(1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)`."""
    scaled = math.sqrt(5.0) * r
    return (1.0 + scaled + scaled * scaled / 3.0) * np.exp(-scaled)


def _distance(a: Array, b: Array) -> Array:
    """Distances (batch, k, n) of points a (batch, k, m) from b (batch, n, m)."""
    squares = np.sum(a * a, axis=2)[:, :, None] + np.sum(b * b, axis=2)[:, None, :]
    return np.sqrt(np.maximum(squares - 2.0 * np.matmul(a, b.swapaxes(1, 2)), 0.0))


def _rms(x: Array) -> Array:
    return np.sqrt(np.mean(x * x, axis=1))
