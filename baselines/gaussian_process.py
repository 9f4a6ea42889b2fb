"""Model-based control with Gaussian processes: learn what actions do, with its uncertainty, and plan over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from baselines.adaptive_control import AdaptiveController, minimise_in_box, readings
from baselines.arguments import integer, number

Array = NDArray[np.float64]

# Standard deviation of the normal priors on the logarithms of hyperparameters: a factor of 20 is one.
_PRIOR_WIDTH = 3.0
_MAX_NOISE, _MIN_NOISE = 1.0, 1e-7
_MAX_STEPS = 20


class GaussianProcess:
    """Gaussian-process regression of several outputs that share a kernel: linear, plus squared exponential, plus noise.

    Inputs z are split into groups g (such as the state and the action), each with one weight and one length:

        k(z, z') = sum_g w_g z_g . z'_g  +  s^2 exp(-sum_g |z_g - z'_g|^2 / (2 l_g^2))  +  v [z is z']

    The linear part is the prior that a beam line is linear, the second finds what is not. One length a group, in place
    of one a component, is what a few dozen points in twenty dimensions can determine. `fit` sets the hyperparameters
    to the maximum of the marginal likelihood of all outputs, times wide log-normal priors around scales of the data.

    Arguments: `groups`, number of components of each. Raises `ValueError` or `TypeError` naming the argument.

    Source: C. Rasmussen and C. Williams, "Gaussian processes for machine learning" (2006), Algorithm 2.1, Eqs. (2.30),
    (5.8), (5.9).
    """

    def __init__(self, groups: Sequence[int]) -> None:
        sizes = [integer("groups", size, 1) for size in groups]
        if not sizes:
            raise ValueError("groups: none is given; give the number of components of each")
        edges = np.cumsum([0, *sizes])
        self.groups = [slice(int(a), int(b)) for a, b in pairwise(edges)]
        self.theta: Array = np.zeros(2 * len(sizes) + 2)
        """Logarithms of w_g, of l_g, of s^2 and of v."""

    # ------------------------------------------------------------------ learning

    def fit(self, inputs: Array, outputs: Array, start: Array | None = None) -> None:
        """Set the hyperparameters from inputs (n, d) and outputs (n, q), then condition on them.

        `start` are hyperparameters to begin the search at, by default scales of the data.
        """
        centre, bounds = self._scales(inputs, outputs)
        begin = np.clip(centre if start is None else start, *bounds.T)
        inner, distance = self._products(inputs)

        def loss(theta: Array) -> tuple[float, Array]:
            value, gradient = self._likelihood(theta, inner, distance, outputs)
            away = (theta - centre) / _PRIOR_WIDTH
            return -value + 0.5 * float(away @ away), -gradient + away / _PRIOR_WIDTH

        found = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
        self.condition(inputs, outputs, found.x)

    def condition(self, inputs: Array, outputs: Array, theta: Array) -> None:
        """Condition on inputs (n, d) and outputs (n, q) with hyperparameters `theta`."""
        self.inputs, self.theta = inputs, np.array(theta, dtype=np.float64)
        inner, distance = self._products(inputs)
        covariance = self._parts(self.theta, inner, distance)[0]
        covariance[np.diag_indices_from(covariance)] += math.exp(self.theta[-1])
        factor = np.linalg.inv(np.linalg.cholesky(covariance))
        self.precision: Array = factor.T @ factor
        self.weights: Array = self.precision @ outputs

    def log_marginal_likelihood(self, theta: Array, inputs: Array, outputs: Array) -> tuple[float, Array]:
        """ln p(outputs | inputs, theta) summed over outputs, and its gradient with respect to `theta`."""
        return self._likelihood(theta, *self._products(inputs), outputs)

    def _scales(self, inputs: Array, outputs: Array) -> tuple[Array, Array]:
        """Typical hyperparameters of data of this size, and bounds (n_theta, 2)."""
        power = max(float(np.mean(outputs**2)), 1e-300)
        squares = [max(float(np.mean(np.sum(inputs[:, g] ** 2, axis=1))), 1e-12) for g in self.groups]
        centre = [math.log(power / square) for square in squares]
        centre += [0.5 * math.log(2.0 * square) for square in squares]
        centre += [math.log(0.1 * power), math.log(1e-4 * power)]
        low, high = [c - 14.0 for c in centre], [c + 7.0 for c in centre]
        # a length far below the distance of the points makes the curved part a second noise
        low[len(squares) : -2] = [c - 0.5 for c in centre[len(squares) : -2]]
        low[-1], high[-1] = math.log(_MIN_NOISE * power), math.log(_MAX_NOISE * power)
        return np.array(centre), np.array([low, high]).T

    def _products(self, inputs: Array) -> tuple[list[Array], list[Array]]:
        """Inner products and squared distances of every pair, a matrix (n, n) a group."""
        inner = [inputs[:, g] @ inputs[:, g].T for g in self.groups]
        distance = [np.maximum(np.diag(i)[:, None] + np.diag(i) - 2.0 * i, 0.0) for i in inner]
        return inner, distance

    def _parts(self, theta: Array, inner: list[Array], distance: list[Array]) -> tuple[Array, Array]:
        """The kernel without noise, and its squared-exponential part."""
        n = len(self.groups)
        exponent = sum(d * math.exp(-2.0 * t) for d, t in zip(distance, theta[n:], strict=False))
        curved = math.exp(theta[-2]) * np.exp(-0.5 * np.asarray(exponent))
        straight = sum(i * math.exp(t) for i, t in zip(inner, theta, strict=False))
        return straight + curved, curved

    def _likelihood(
        self, theta: Array, inner: list[Array], distance: list[Array], outputs: Array
    ) -> tuple[float, Array]:
        n, q = outputs.shape
        covariance, curved = self._parts(theta, inner, distance)
        noise = math.exp(theta[-1])
        covariance[np.diag_indices(n)] += noise
        cholesky = np.linalg.cholesky(covariance)
        factor = np.linalg.inv(cholesky)
        precision = factor.T @ factor
        weights = precision @ outputs
        value = -0.5 * float(np.sum(outputs * weights)) - q * float(np.log(np.diag(cholesky)).sum())
        value -= 0.5 * n * q * math.log(2.0 * math.pi)
        slope = 0.5 * (weights @ weights.T - q * precision)
        count = len(self.groups)
        gradient = [float(np.sum(slope * i)) * math.exp(t) for i, t in zip(inner, theta, strict=False)]
        gradient += [
            float(np.sum(slope * curved * d)) * math.exp(-2.0 * t)
            for d, t in zip(distance, theta[count:], strict=False)
        ]
        gradient += [float(np.sum(slope * curved)), noise * float(np.trace(slope))]
        return value, np.array(gradient)

    # ------------------------------------------------------------------ prediction

    def predict(self, inputs: Array) -> tuple[Array, Array]:
        """Means (b, q) and the variance (b,) of a noiseless output, the same for each, at inputs (b, d)."""
        mean, _, variance, *_ = self.expand(inputs)
        return mean, variance

    def expand(self, inputs: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Mean and variance around inputs (b, d), for a planner.

        Returns the mean (b, q), its Jacobian (b, q, d), the variance (b,), its gradient (b, d) and in place of its
        second derivative twice the covariance of the output's gradient (b, d, d): equal for the linear part, positive
        semi-definite always.
        """
        theta, n = self.theta, len(self.groups)
        weight, inverse_square = np.empty(inputs.shape[1]), np.empty(inputs.shape[1])
        for index, g in enumerate(self.groups):
            weight[g], inverse_square[g] = math.exp(theta[index]), math.exp(-2.0 * theta[n + index])
        apart = inputs[:, None, :] - self.inputs
        curved = math.exp(theta[-2]) * np.exp(-0.5 * (apart**2 @ inverse_square))
        k = (inputs * weight) @ self.inputs.T + curved
        slope = weight * self.inputs - curved[:, :, None] * (apart * inverse_square)
        back = np.swapaxes(slope, 1, 2)
        solved = k @ self.precision
        variance = (inputs**2) @ weight + math.exp(theta[-2]) - np.sum(solved * k, axis=1)
        gradient = 2.0 * (inputs * weight - np.matmul(back, solved[:, :, None])[:, :, 0])
        prior = np.diag(weight + math.exp(theta[-2]) * inverse_square)
        curvature = 2.0 * (prior - np.matmul(np.matmul(back, self.precision), slope))
        mean, jacobian = k @ self.weights, np.matmul(back, self.weights).swapaxes(1, 2)
        return mean, jacobian, np.maximum(variance, 0.0), gradient, curvature


class GPMPC(AdaptiveController):
    """Model-predictive control on Gaussian processes of the change of the readings.

    One process a reading, with a shared kernel, gives the change x' - x for readings x and action a. Planned are the
    `horizon` actions in [-1, 1] that minimise

        sum_h |x_h|^2 + caution n var(x_(h-1), a_h) + effort n w |a_h|^2,      x_h = x_(h-1) + mean(x_(h-1), a_h)

    (n readings, w the kernel's weight of actions; means are propagated), with `caution` 1 and one step the expected
    square of the next reading and, as in `LinearController`, a little effort; the first of them is taken. While
    learning, `random_steps` random actions come first, then `bonus` is taken off the caution: above 1 what is uncertain
    attracts. Plans are found by Gauss-Newton steps in the box with exact derivatives, damped until they improve, for a
    whole batch of readings at once.

    Arguments: `n_readings`, `n_actions`; `horizon` in steps, 1 to 3; `random_steps`; `random_scale`, half-width of the
    random actions; `caution`, `bonus` and `effort` as above; `max_points`, the newest transitions that are kept; `seed`
    of the random actions. Hyperparameters are fitted anew whenever the data has grown by a fifth. Raises `ValueError`
    or `TypeError` naming the argument.

    Source: S. Kamthe and M. Deisenroth, "Data-efficient reinforcement learning with probabilistic model predictive
    control", AISTATS 2018; on AWAKE: S. Hirlaender et al., IPAC23, THPL038. Kernel, planner and refits own
    construction.
    """

    def __init__(
        self,
        n_readings: int,
        n_actions: int,
        *,
        horizon: int = 1,
        random_steps: int = 10,
        random_scale: float = 0.1,
        caution: float = 1.0,
        bonus: float = 0.0,
        effort: float = 1e-3,
        max_points: int = 100,
        seed: int = 0,
    ) -> None:
        self.n_readings = integer("n_readings", n_readings, 1)
        self.n_actions = integer("n_actions", n_actions, 1)
        self.horizon = integer("horizon", horizon, 1)
        if self.horizon > 3:
            raise ValueError(f"horizon: {horizon} is above 3, where means say little; use 1 to 3")
        self.random_steps = integer("random_steps", random_steps, 0)
        self.random_scale = number("random_scale", random_scale, 0.0, 1.0, low_open=True)
        self.caution = number("caution", caution, 0.0)
        self.bonus = number("bonus", bonus, 0.0)
        self.effort = number("effort", effort, 0.0)
        self.max_points = integer("max_points", max_points, 2)
        self.generator = np.random.Generator(np.random.PCG64(integer("seed", seed)))
        self.model = GaussianProcess((self.n_readings, self.n_actions))
        self._inputs: Array = np.zeros((0, self.n_readings + self.n_actions))
        self._changes: Array = np.zeros((0, self.n_readings))
        self._unfitted = 0
        self.seen = 0

    def explore(self, observation: Array) -> Array:
        """A random action at first, then the first action of a plan."""
        if self.seen < self.random_steps:
            return self.generator.uniform(-self.random_scale, self.random_scale, self.n_actions)
        x, _ = readings(observation, self.n_readings)
        # where a direction was never used, doing nothing is a saddle of the cost: a search for novelty starts beside it
        start = self.generator.uniform(-1.0, 1.0, (1, self.horizon * self.n_actions)) if self.bonus else None
        return self.plan(x, self.caution - self.bonus, start)[0, 0]

    def observe(self, observation: Array, action: Any, following: Array) -> None:
        """As `AdaptiveController.observe`."""
        keep = self.max_points
        self._inputs = np.vstack([self._inputs, np.concatenate([observation, action])])[-keep:]
        self._changes = np.vstack([self._changes, following - observation])[-keep:]
        self.seen += 1
        self._unfitted += 1
        points = len(self._inputs)
        if self._unfitted >= 0.2 * points:
            start = self.model.theta if self._unfitted < points else None
            self.model.fit(self._inputs, self._changes, start)
            self._unfitted = 0
        else:
            self.model.condition(self._inputs, self._changes, self.model.theta)

    def action(self, observation: ArrayLike) -> Array:
        """As `AdaptiveController.action`."""
        x, single = readings(observation, self.n_readings)
        actions = self.plan(x, self.caution)[:, 0]
        return actions[0] if single else actions

    def parameters(self) -> dict[str, Array]:
        """Logarithms of the kernel's hyperparameters."""
        return {"hyperparameters": self.model.theta}

    def state(self) -> dict[str, Any]:
        """As `AdaptiveController.state`."""
        return {
            "inputs": self._inputs.copy(),
            "changes": self._changes.copy(),
            "theta": self.model.theta.copy(),
            "unfitted": self._unfitted,
            "seen": self.seen,
            "generator": self.generator.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """As `AdaptiveController.set_state`."""
        self._inputs = np.array(state["inputs"], dtype=np.float64)
        self._changes = np.array(state["changes"], dtype=np.float64)
        self._unfitted, self.seen = int(state["unfitted"]), int(state["seen"])
        self.generator.bit_generator.state = state["generator"]
        self.model.theta = np.array(state["theta"], dtype=np.float64)
        if self.seen:
            self.model.condition(self._inputs, self._changes, self.model.theta)

    # ------------------------------------------------------------------ planning

    def plan(self, x: Array, caution: float, start: Array | None = None) -> Array:
        """The best actions (batch, horizon, n_actions) from readings x (batch, n_readings); zeros before any data.

        The search begins at `start` (batch, horizon * n_actions), by default at doing nothing.
        """
        n, size = len(x), self.horizon * self.n_actions
        plan: Array = np.zeros((n, size)) if start is None else start
        if not self.seen:
            return plan.reshape(n, self.horizon, self.n_actions)
        cost, gradient, hessian = self._expected(x, plan, caution)
        damping = np.full(n, 1e-6)
        for _ in range(_MAX_STEPS):
            ridge = damping * np.trace(hessian, axis1=1, axis2=2) / size
            damped = hessian + ridge[:, None, None] * np.eye(size)
            tried = minimise_in_box(damped, gradient - np.matmul(damped, plan[:, :, None])[:, :, 0])
            new_cost, new_gradient, new_hessian = self._expected(x, tried, caution)
            better = new_cost < cost
            gained = np.where(better, cost - new_cost, 0.0)
            settled = np.abs(tried - plan).max(axis=1) < 1e-6
            damping = np.where(better, 0.1 * damping, 100.0 * damping)
            done = settled | (better & (gained < 1e-6 * cost)) | (damping > 1e3)
            plan = np.where(better[:, None], tried, plan)
            cost = np.where(better, new_cost, cost)
            gradient = np.where(better[:, None], new_gradient, gradient)
            hessian = np.where(better[:, None, None], new_hessian, hessian)
            if done.all():
                break
        return plan.reshape(n, self.horizon, self.n_actions)

    def _expected(self, x: Array, plan: Array, caution: float) -> tuple[Array, Array, Array]:
        """Cost (batch,), its gradient (batch, size) and Gauss-Newton curvature (batch, size, size) at plans."""
        n, size = plan.shape
        m, q = self.n_actions, self.n_readings
        effort = self.effort * q * math.exp(self.model.theta[1])
        moves: Array = np.zeros((n, q, size))  # d readings / d plan
        cost, gradient, hessian = np.zeros(n), np.zeros((n, size)), np.zeros((n, size, size))
        for step in range(self.horizon):
            own = slice(step * m, (step + 1) * m)
            chosen = np.zeros((n, m, size))
            chosen[:, :, own] = np.eye(m)
            inputs = np.concatenate([x, plan[:, own]], axis=1)
            by_plan = np.concatenate([moves, chosen], axis=1)
            mean, jacobian, variance, slope, curvature = self.model.expand(inputs)
            x = x + mean
            moves = moves + np.matmul(jacobian, by_plan)
            weight = caution * q
            cost += np.sum(x * x, axis=1) + weight * variance + effort * np.sum(plan[:, own] ** 2, axis=1)
            gradient[:, own] += 2.0 * effort * plan[:, own]
            gradient += 2.0 * np.matmul(x[:, None, :], moves)[:, 0]
            gradient += weight * np.matmul(slope[:, None, :], by_plan)[:, 0]
            hessian[:, own, own] += 2.0 * effort * np.eye(m)
            hessian += 2.0 * np.matmul(moves.swapaxes(1, 2), moves)
            if weight > 0.0:
                hessian += weight * np.matmul(by_plan.swapaxes(1, 2), np.matmul(curvature, by_plan))
        return cost, gradient, hessian
