"""Controllers that identify a beam line while they steer it, and the operator's that know it beforehand.

All of them want readings at zero. A controller sees readings x, an array `(n_readings,)`, and takes actions in
[-1, 1], or the index of one of a few alternatives; the caller turns environments into that and back. What a reading
is measured in does not matter, but all have to be in the same unit, since the cost is their mean square.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.arguments import integer, number
from baselines.orbit_correction import OrbitCorrector

Array = NDArray[np.float64]

# an active set is found in about as many rounds as there are components; more than this is a fault of rounding
_ROUNDS = 10


class AdaptiveController(ABC):
    """What learns from transitions and says what to do next.

    Learning is a loop of `begin`, then `explore` and `observe` until the episode ends. `action` says what the
    controller would do now, for one reading or a batch of them: it neither learns nor probes.
    """

    def begin(self, observation: Array) -> None:  # noqa: B027 - most have nothing to do here
        """An episode of the learning loop begins with `observation`, (n_readings,)."""

    def explore(self, observation: Array) -> Any:
        """What to do next while learning; may probe the system. One reading, (n_readings,)."""
        return self.action(observation)

    def observe(self, observation: Array, action: Any, following: Array) -> None:  # noqa: B027
        """After `observation` and `action` came `following`, (n_readings,)."""

    @abstractmethod
    def action(self, observation: ArrayLike) -> Any:
        """Actions (n_actions,) or (batch, n_actions) for readings (n_readings,) or (batch, n_readings); an integer
        or integers (batch,) where actions are discrete. Raises `ValueError` for another number of readings."""

    def restart(self) -> None:  # noqa: B027
        """The next `action` belongs to new episodes (for controllers that search in each anew)."""

    def parameters(self) -> dict[str, Array]:
        """What was learnt, by name."""
        return {}

    def state(self) -> dict[str, Any]:
        """Everything that decides what follows, as NumPy arrays and JSON values."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Continue from what `state` returned."""


class Response:
    """Estimate of B in `x' = x + B u + noise` by Bayesian linear regression, with forgetting.

    Kept are the sums S = sum w u u^T, C = sum w dx u^T, D = sum w |dx|^2 and W = sum w over the transitions dx = x' -
    x, w = forgetting^age. With prior weight k and posterior P = (S + k 1)^-1 the estimates are

        B = C P,     s^2 = (|dx - B u|^2 summed with w + k |B|^2) / (n max(W - tr S P, 1))

    and E |x + B u|^2 = |x + B u|^2 + n s^2 u^T P u, n the number of readings: what is not known costs. tr S P is the
    number of inputs that the transitions have determined, so W minus it are the transitions left to tell noise. This is
    recursive least squares in its information form: the prior is never forgotten, so the estimate cannot wind up where
    nothing excites it.

    Source: matrix-normal posterior, e.g. C. Bishop, "Pattern recognition and machine learning", Sec. 3.3; forgetting:
    K. Astrom and B. Wittenmark, "Adaptive control", Sec. 2.2.
    """

    def __init__(self, n_readings: int, n_inputs: int, prior: float, forgetting: float) -> None:
        self.n_readings = integer("n_readings", n_readings, 1)
        self.n_inputs = integer("n_actions", n_inputs, 1)
        self.prior = number("prior", prior, 0.0, low_open=True)
        self.forgetting = number("forgetting", forgetting, 0.0, 1.0, low_open=True)
        self._information: Array = np.zeros((self.n_inputs, self.n_inputs))
        self._correlation: Array = np.zeros((self.n_readings, self.n_inputs))
        self._energy = self._weight = 0.0
        self._solve()

    def observe(self, change: Array, inputs: Array) -> None:
        """Add one transition: dx (n_readings,) after u (n_inputs,)."""
        keep = self.forgetting
        self._information = keep * self._information + np.outer(inputs, inputs)
        self._correlation = keep * self._correlation + np.outer(change, inputs)
        self._energy = keep * self._energy + float(change @ change)
        self._weight = keep * self._weight + 1.0
        self._solve()

    def _solve(self) -> None:
        s, c = self._information, self._correlation
        self.posterior = np.asarray(np.linalg.inv(s + self.prior * np.eye(self.n_inputs)), dtype=np.float64)
        self.matrix: Array = c @ self.posterior
        b = self.matrix
        left = self._energy - 2.0 * float(np.sum(b * c)) + float(np.sum(b @ s * b))
        total = max(left, 0.0) + self.prior * float(np.sum(b * b))
        self.spare = self._weight - float(np.sum(s * self.posterior))
        self.variance = total / (self.n_readings * max(self.spare, 1.0))

    @property
    def doubt(self) -> Array:
        """n s^2 P, (n_inputs, n_inputs): what acting in a direction is expected to cost for not knowing it."""
        return self.n_readings * self.variance * self.posterior

    def tried(self) -> NDArray[np.bool_]:
        """Which inputs were ever used, (n_inputs,)."""
        return np.diag(self._information) > 0.0

    def state(self) -> dict[str, Any]:
        """As of a controller."""
        return {
            "information": self._information.copy(),
            "correlation": self._correlation.copy(),
            "energy": self._energy,
            "weight": self._weight,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """As of a controller."""
        self._information = np.array(state["information"], dtype=np.float64)
        self._correlation = np.array(state["correlation"], dtype=np.float64)
        self._energy, self._weight = float(state["energy"]), float(state["weight"])
        self._solve()


class LinearController(AdaptiveController):
    """What `RecursiveLeastSquares` and `LeastSquares` share: a linear response, and the action that it makes best.

    The action minimises the expected square of the next reading (see `Response`) and a little effort,

        |x + B a|^2 + n s^2 a^T P a + effort b |a|^2,      b the mean of |B e_j|^2 over the actions j

    over the box [-1, 1]; of discrete alternatives, whose inputs u are unit vectors, it is the best one without effort.
    So directions that are not known yet are not used. Effort keeps out large actions that cancel each other: the
    correctors they drive to their limits do not move as they are told, and the cancellation fails.

    Source: K. Astrom and B. Wittenmark, "Adaptive control", Sec. 7.4 (cautious control).
    """

    def __init__(
        self,
        n_readings: int,
        n_actions: int,
        *,
        discrete: bool = False,
        prior: float = 1e-6,
        forgetting: float = 1.0,
        effort: float = 1e-2,
        seed: int = 0,
    ) -> None:
        self.discrete = discrete
        self.effort = number("effort", effort, 0.0)
        self.response = Response(n_readings, n_actions, prior, forgetting)
        self.generator = np.random.Generator(np.random.PCG64(integer("seed", seed)))

    def action(self, observation: ArrayLike) -> Any:
        """As `AdaptiveController.action`."""
        x, single = readings(observation, self.response.n_readings)
        b, doubt = self.response.matrix, self.response.doubt
        if self.discrete:
            cost = np.square(x[:, None, :] + b.T).sum(axis=2) + np.diag(doubt)
            best = cost.argmin(axis=1)
            return int(best[0]) if single else best
        hessian = b.T @ b + doubt
        hessian[np.diag_indices_from(hessian)] += self.effort * np.mean(np.sum(b * b, axis=0))
        actions = minimise_in_box(hessian, x @ b)
        return actions[0] if single else actions

    def observe(self, observation: Array, action: Any, following: Array) -> None:
        """As `AdaptiveController.observe`."""
        inputs = np.eye(self.response.n_inputs)[int(action)] if self.discrete else action
        self.response.observe(following - observation, inputs)

    def parameters(self) -> dict[str, Array]:
        """The response matrix, (n_readings, n_actions)."""
        return {"response": self.response.matrix}

    def state(self) -> dict[str, Any]:
        """As `AdaptiveController.state`."""
        return {"response": self.response.state(), "generator": self.generator.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """As `AdaptiveController.set_state`."""
        self.response.set_state(state["response"])
        self.generator.bit_generator.state = state["generator"]

    def _anything(self) -> Any:
        """A uniformly random action."""
        n = self.response.n_inputs
        return int(self.generator.integers(n)) if self.discrete else self.generator.uniform(-1.0, 1.0, n)


class RecursiveLeastSquares(LinearController):
    """Identifies the response from scratch while it steers, and probes as long as that is uncertain.

    To the best action (see `LinearController`) comes a probe of root mean square `probe`, drawn from the posterior of
    the response, so along what is known least, until the uncertain part of the response, `n s^2 tr P`, is below
    `identified` times its square sum. Discrete alternatives are tried once each.

    Arguments: `n_readings`, `n_actions`; `discrete`, actions are indices of `n_actions` alternatives; `prior` weight of
    the prior, in squared actions; `forgetting` in (0, 1], below 1 for optics that drift; `effort` as in
    `LinearController`; `probe` in [0, 1]; `identified` in (0, 1]; `seed` of the probes. Raises `ValueError` or
    `TypeError` naming the argument.

    Source: least squares and cautious control as in `Response` and `LinearController`; probing own construction.

    Example:
        >>> controller = RecursiveLeastSquares(1, 1, probe=0.5)
        >>> controller.observe(np.array([1.0]), np.array([0.5]), np.array([2.0]))
        >>> controller.action([1.0]).round(3)
        array([-0.495])
    """

    def __init__(
        self,
        n_readings: int,
        n_actions: int,
        *,
        discrete: bool = False,
        prior: float = 1e-6,
        forgetting: float = 1.0,
        effort: float = 1e-2,
        probe: float = 0.3,
        identified: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__(
            n_readings,
            n_actions,
            discrete=discrete,
            prior=prior,
            forgetting=forgetting,
            effort=effort,
            seed=seed,
        )
        self.probe = number("probe", probe, 0.0, 1.0)
        self.identified = number("identified", identified, 0.0, 1.0, low_open=True)

    def explore(self, observation: Array) -> Any:
        """The best action, plus a probe while the response is uncertain."""
        if self.discrete:
            untried = np.flatnonzero(~self.response.tried())
            return int(self.generator.choice(untried)) if untried.size else self.action(observation)
        action = self.action(observation)
        if self.certain:
            return action
        direction = np.linalg.cholesky(self.response.posterior) @ self.generator.standard_normal(action.size)
        size = self.probe * np.sqrt(action.size) / np.linalg.norm(direction)
        return np.clip(action + size * direction, -1.0, 1.0)

    @property
    def certain(self) -> bool:
        """Whether the response is known well enough to stop probing."""
        if self.discrete:
            return bool(self.response.tried().all())
        response = self.response
        # without a transition to spare nothing is known of the noise
        known = self.identified * float(np.sum(response.matrix**2)) if response.spare > 0.5 else 0.0
        return float(np.trace(response.doubt)) < known


class LeastSquares(LinearController):
    """Fits the response to the transitions of a random phase, then keeps it: offline regression, nothing adaptive.

    The first `random_steps` actions are uniform in the box (or over the alternatives); `action` uses what they have
    shown so far. It says what a learner with the same random phase could have known at its end.

    Arguments: as of `RecursiveLeastSquares`. Raises `ValueError` or `TypeError` naming the argument.

    Source: own construction.
    """

    def __init__(
        self,
        n_readings: int,
        n_actions: int,
        *,
        discrete: bool = False,
        prior: float = 1e-6,
        effort: float = 1e-2,
        random_steps: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(n_readings, n_actions, discrete=discrete, prior=prior, effort=effort, seed=seed)
        self.random_steps = integer("random_steps", random_steps, 1)
        self.seen = 0

    def explore(self, observation: Array) -> Any:
        """A random action during the random phase, the best one after it."""
        return self._anything() if self.seen < self.random_steps else self.action(observation)

    def observe(self, observation: Array, action: Any, following: Array) -> None:
        """Learn from a transition of the random phase; ignore later ones."""
        if self.seen < self.random_steps:
            super().observe(observation, action, following)
            self.seen += 1

    def state(self) -> dict[str, Any]:
        """As `AdaptiveController.state`."""
        return {**super().state(), "seen": self.seen}

    def set_state(self, state: dict[str, Any]) -> None:
        """As `AdaptiveController.set_state`."""
        super().set_state(state)
        self.seen = int(state["seen"])


class KnownResponse(AdaptiveController):
    """The operator's controller, an `OrbitCorrector`, where a controller that learns is expected: it learns nothing.

    Source: see `OrbitCorrector`.
    """

    def __init__(self, corrector: OrbitCorrector) -> None:
        self.corrector = corrector

    def action(self, observation: ArrayLike) -> Any:
        """As `OrbitCorrector.action`."""
        return self.corrector.action(observation)

    def parameters(self) -> dict[str, Array]:
        """What is known beforehand: the response matrix, metre per radian."""
        return {"response": self.corrector.response}


class SignController(AdaptiveController):
    """Moves against the sign of the first reading: action `down` where it is positive, `up` elsewhere.

    It is the optimal policy of one corrector with two steps and one monitor. Raises `ValueError` or `TypeError` naming
    the argument.

    Source: own construction.
    """

    def __init__(self, *, down: int = 0, up: int = 1) -> None:
        self.down, self.up = integer("down", down), integer("up", up)

    def action(self, observation: ArrayLike) -> Any:
        """As `AdaptiveController.action`; any number of readings."""
        first = np.asarray(observation, dtype=np.float64)[..., 0]
        chosen = np.where(first > 0.0, self.down, self.up)
        return chosen if chosen.ndim else int(chosen)


def readings(observation: ArrayLike, n_readings: int) -> tuple[Array, bool]:
    """Readings as a batch (batch, n_readings), and whether a single one was given.

    Raises `ValueError` for another number of readings or another shape.
    """
    x = np.asarray(observation, dtype=np.float64)
    if x.ndim not in (1, 2) or x.shape[-1] != n_readings:
        raise ValueError(
            f"observation: shape {x.shape} does not fit {n_readings} readings; "
            f"use ({n_readings},) or (batch, {n_readings})"
        )
    return np.atleast_2d(x), x.ndim == 1


def minimise_in_box(hessian: Array, gradient: Array) -> Array:
    """The a (batch, m) in [-1, 1]^m that minimises `a^T H a / 2 + g^T a`, for each row of g (batch, m).

    `hessian` H is positive semi-definite, (m, m) for all rows or (batch, m, m). A primal active-set method, for all
    rows at once: components held at a limit stay there while the others go to their minimum, or as far as the first
    limit, which then holds too; at a minimum the limit that hinders most is let go. It begins with the unbounded
    minimum cut to the box, which mostly holds the right components already.

    Source: J. Nocedal and S. Wright, "Numerical optimization" (2006), Algorithm 16.3.
    """
    n, m = gradient.shape
    # what moves nothing is left where it is: a hair of curvature makes every step unique
    ridge = 1e-12 * np.trace(hessian, axis1=-2, axis2=-1)[..., None, None] + 1e-30
    h = np.broadcast_to(hessian + ridge * np.eye(m), (n, m, m))
    a = np.clip(_solve(h, -gradient), -1.0, 1.0)
    held = np.abs(a) >= 1.0
    rows, tolerance = np.arange(n), 1e-10 * (np.abs(gradient).max(axis=1) + np.abs(h).max(axis=(1, 2)))
    for _ in range(_ROUNDS * m):
        free = ~held[:, :, None] & ~held[:, None, :]
        step = _solve(np.where(free, h, np.eye(m)), np.where(held, 0.0, -_times(h, a) - gradient))
        moving = np.abs(step) > 1e-14
        room = np.divide(np.sign(step) - a, step, out=np.full((n, m), np.inf), where=moving)
        first = room.argmin(axis=1)
        length = np.minimum(room[rows, first], 1.0)
        a = np.clip(a + length[:, None] * step, -1.0, 1.0)
        blocked = length < 1.0
        a[rows[blocked], first[blocked]] = np.sign(step[rows[blocked], first[blocked]])
        hindered = np.where(held, a * (_times(h, a) + gradient), 0.0)
        worst = hindered.argmax(axis=1)
        freed = ~blocked & (hindered[rows, worst] > tolerance)
        if not (blocked | freed).any():
            break
        held[rows[blocked], first[blocked]] = True
        held[rows[freed], worst[freed]] = False
    return a


def _solve(matrices: Array, vectors: Array) -> Array:
    """(n, m) from (n, m, m) and (n, m)."""
    return np.asarray(np.linalg.solve(matrices, vectors[..., None])[..., 0], dtype=np.float64)


def _times(matrices: Array, vectors: Array) -> Array:
    """(..., n, m) from (n, m, m) and (..., n, m)."""
    return np.matmul(matrices, vectors[..., None])[..., 0]
