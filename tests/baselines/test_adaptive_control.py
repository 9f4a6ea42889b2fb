"""Controllers that identify a line: the estimate, the optimum in the box, how soon they steer, state, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from baselines import KnownResponse, LeastSquares, OrbitCorrector, RecursiveLeastSquares, SignController
from baselines.adaptive_control import Response, minimise_in_box

SCALE = 3e-4


class Line:
    """The AWAKE line as the controllers see it: readings in mm, actions in [-1, 1], kicks that saturate."""

    def __init__(self, response, seed, limit=1.0):
        self.response, self.generator, self.limit = 1e3 * SCALE * response, np.random.default_rng(seed), limit

    def reset(self):
        self.kicks = self.generator.uniform(-1.0, 1.0, 10)
        while self.rms() < 1.6:
            self.kicks = self.generator.uniform(-1.0, 1.0, 10)
        return self.read()

    def step(self, action):
        self.kicks = np.clip(self.kicks + action, -self.limit, self.limit)
        return self.read()

    def read(self):
        return self.response @ self.kicks

    def rms(self):
        return np.sqrt(np.mean((self.response @ self.kicks) ** 2))


def learn(controller, line, steps):
    x = line.reset()
    controller.begin(x)
    for _ in range(steps):
        action = controller.explore(x)
        assert np.abs(action).max() <= 1.0
        following = line.step(action)
        controller.observe(x, action, following)
        x = following
        if line.rms() < 1.6:
            x = line.reset()
            controller.begin(x)
    return controller


def solved(controller, response, threshold=1.6, episodes=200, steps=3):
    """Share of resets, drawn outside 1.6 mm, that end within `steps` steps."""
    line = Line(response, 99)
    kicks = []
    for _ in range(episodes):
        line.reset()
        kicks.append(line.kicks)
    kicks, ended = np.array(kicks), np.zeros(episodes, dtype=bool)
    for _ in range(steps):
        kicks = np.clip(kicks + controller.action(kicks @ line.response.T), -1.0, 1.0)
        ended |= np.sqrt(np.mean((kicks @ line.response.T) ** 2, axis=1)) < threshold
    return ended.mean()


# ---------------------------------------------------------------------- the estimate


def test_the_estimate_is_weighted_ridge_regression():
    """Against numpy's least squares on the rows, weighted, with the prior as further rows."""
    generator = np.random.default_rng(0)
    n, m, steps, keep, prior = 4, 3, 20, 0.9, 0.05
    inputs, changes = generator.standard_normal((steps, m)), generator.standard_normal((steps, n))
    response = Response(n, m, prior, keep)
    for u, dx in zip(inputs, changes, strict=True):
        response.observe(dx, u)
    weight = keep ** np.arange(steps - 1, -1, -1.0)
    rows = np.vstack([np.sqrt(weight)[:, None] * inputs, np.sqrt(prior) * np.eye(m)])
    values = np.vstack([np.sqrt(weight)[:, None] * changes, np.zeros((m, n))])
    solution, residual, *_ = np.linalg.lstsq(rows, values, rcond=None)
    np.testing.assert_allclose(response.matrix, solution.T, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.inv(response.posterior), rows.T @ rows, rtol=1e-10)
    # the trace of the matrix that smooths the weighted rows
    half = np.sqrt(weight)[:, None] * inputs
    determined = np.trace(half @ np.linalg.solve(rows.T @ rows, half.T))
    assert response.variance == pytest.approx(residual.sum() / (n * (weight.sum() - determined)), rel=1e-9)


def test_doubt_is_what_not_knowing_costs():
    """E |x + B u|^2 over matrices drawn from the posterior."""
    generator = np.random.default_rng(1)
    n, m = 3, 2
    response = Response(n, m, 1.0, 1.0)
    for _ in range(4):
        response.observe(generator.standard_normal(n), generator.standard_normal(m))
    root = np.sqrt(response.variance) * np.linalg.cholesky(response.posterior)
    draws = response.matrix + generator.standard_normal((200_000, n, m)) @ root.T
    x, u = generator.standard_normal(n), generator.standard_normal(m)
    cost = np.square(x + draws @ u).sum(axis=1)
    expected = np.square(x + response.matrix @ u).sum() + u @ response.doubt @ u
    assert cost.mean() == pytest.approx(expected, abs=5 * cost.std() / np.sqrt(len(cost)))


def test_what_is_forgotten_falls_back_to_the_prior():
    """Thousands of steps that excite one direction leave the other bounded: no wind-up."""
    response = Response(1, 2, 1e-3, 0.9)
    response.observe(np.array([1.0]), np.array([0.0, 1.0]))
    for _ in range(2000):
        response.observe(np.array([2.0]), np.array([1.0, 0.0]))
    assert response.matrix[0, 0] == pytest.approx(2.0, rel=1e-3)
    assert abs(response.matrix[0, 1]) < 1e-9
    assert response.posterior[1, 1] == pytest.approx(1e3, rel=1e-6)


# ---------------------------------------------------------------------- the best action in the box


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), m=st.integers(1, 10), size=st.floats(0.01, 100.0))
def test_minimum_in_the_box(seed, m, size):
    """Against SciPy's bounded least squares, in the value of the minimum."""
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((m + 2, m)) * 10.0 ** generator.uniform(-2, 0, m)
    x = size * generator.standard_normal((5, m + 2))
    found = minimise_in_box(matrix.T @ matrix, x @ matrix)
    assert (np.abs(found) <= 1.0).all()
    for row, a in zip(x, found, strict=True):
        best = lsq_linear(matrix, -row, (-1.0, 1.0), method="bvls", tol=1e-14)
        value, least = np.sum((row + matrix @ a) ** 2), 2 * best.cost
        assert value <= least + 1e-8 * (1e-3 + least)


def test_rows_of_a_batch_have_their_own_curvature():
    generator = np.random.default_rng(2)
    roots = generator.standard_normal((6, 4, 4))
    h, g = roots @ roots.swapaxes(1, 2), 3.0 * generator.standard_normal((6, 4))
    together = minimise_in_box(h, g)
    for i in range(6):
        np.testing.assert_allclose(together[i], minimise_in_box(h[i], g[i : i + 1])[0], atol=1e-8)
    inside = generator.uniform(-0.9, 0.9, (6, 4))
    np.testing.assert_allclose(minimise_in_box(h, -(h @ inside[:, :, None])[:, :, 0]), inside, atol=1e-6)


def test_what_moves_nothing_is_left_alone():
    assert (minimise_in_box(np.zeros((3, 3)), np.zeros((2, 3))) == 0.0).all()
    flat = minimise_in_box(np.diag([1.0, 0.0]), np.array([[0.5, 0.0]]))
    np.testing.assert_allclose(flat, [[-0.5, 0.0]], atol=1e-10)


# ---------------------------------------------------------------------- steering


@pytest.mark.parametrize("seed", range(5))
def test_recursive_least_squares_steers_within_a_dozen_interactions(awake_response, seed):
    controller = RecursiveLeastSquares(10, 10, seed=seed)
    assert solved(controller, awake_response) == 0.0
    learn(controller, Line(awake_response, seed), 12)
    assert solved(controller, awake_response) >= 0.95


def test_recursive_least_squares_identifies_the_line(awake_response):
    line = Line(awake_response, 3, limit=10.0)  # correctors that do as they are told
    controller = learn(RecursiveLeastSquares(10, 10), line, 30)
    assert controller.certain
    error = np.linalg.norm(controller.response.matrix - line.response) / np.linalg.norm(line.response)
    assert error < 1e-3
    assert solved(controller, awake_response, threshold=0.3, steps=1) == 1.0


def test_probing_stops_when_the_line_is_known():
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((3, 3))
    controller = RecursiveLeastSquares(3, 3)
    for _ in range(12):
        x = generator.standard_normal(3)
        action = controller.explore(x)
        controller.observe(x, action, x + matrix @ action)
    assert controller.certain
    x = generator.standard_normal(3)
    np.testing.assert_array_equal(controller.explore(x), controller.action(x))
    np.testing.assert_allclose(controller.response.matrix, matrix, atol=1e-3)
    noisy = RecursiveLeastSquares(3, 3)
    for _ in range(4):
        action = noisy.explore(x)
        noisy.observe(x, action, x + matrix @ action + generator.standard_normal(3))
    assert not noisy.certain


def test_forgetting_follows_a_line_that_changes():
    generator = np.random.default_rng(0)
    one, other = generator.standard_normal((2, 3, 3))
    errors = {}
    for keep in (0.9, 1.0):
        controller = RecursiveLeastSquares(3, 3, forgetting=keep)
        for step in range(200):
            action = generator.uniform(-1, 1, 3)
            matrix = one if step < 100 else other
            controller.observe(np.zeros(3), action, matrix @ action)
        errors[keep] = np.abs(controller.response.matrix - other).max()
    assert errors[0.9] < 1e-3 < 0.1 < errors[1.0]


def test_least_squares_uses_the_random_phase_alone(awake_response):
    controller = LeastSquares(10, 10, random_steps=30, seed=1)
    line = Line(awake_response, 1)
    learn(controller, line, 30)
    before = controller.response.matrix
    learn(controller, line, 20)
    np.testing.assert_array_equal(controller.response.matrix, before)
    x = line.reset()
    np.testing.assert_array_equal(controller.explore(x), controller.action(x))
    assert solved(controller, awake_response) >= 0.95


def test_the_random_phase_is_uniform_in_the_box():
    controller = LeastSquares(1, 2, random_steps=4000)
    actions = np.array([controller.explore(np.zeros(1)) for _ in range(4000)])
    assert np.abs(actions).max() <= 1.0
    np.testing.assert_allclose(actions.mean(axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose(actions.var(axis=0), 1 / 3, atol=0.02)


@pytest.mark.parametrize("kind", [RecursiveLeastSquares, LeastSquares])
def test_alternatives_are_tried_and_then_chosen_well(kind):
    """A position that three alternatives move by -15, 15 and 0: after trying each, always the one that helps."""
    steps = np.array([-15.0, 15.0, 0.0])
    controller = kind(1, 3, discrete=True, seed=2)
    x = np.array([100.0])
    for _ in range(20):
        action = controller.explore(x)
        following = x + steps[action]
        controller.observe(x, action, following)
        x = following
    batch = np.array([[100.0], [-100.0], [3.0], [-3.0]])
    np.testing.assert_array_equal(controller.action(batch), [0, 1, 2, 2])
    assert controller.action([40.0]) == 0


def test_the_known_response_is_the_orbit_corrector(awake_response):
    corrector = OrbitCorrector(awake_response)
    controller = KnownResponse(corrector)
    x = np.random.default_rng(0).standard_normal((4, 10)) * 1e-3
    np.testing.assert_array_equal(controller.action(x), corrector.action(x))
    np.testing.assert_array_equal(controller.explore(x[0]), corrector.action(x[0]))
    np.testing.assert_array_equal(controller.parameters()["response"], awake_response)


def test_sign():
    controller = SignController()
    assert controller.action([2.0]) == 0
    assert controller.action([-2.0, 5.0]) == 1
    np.testing.assert_array_equal(controller.action([[1.0], [-1.0], [0.0]]), [0, 1, 1])
    assert SignController(down=2, up=0).action([1.0]) == 2


# ---------------------------------------------------------------------- state and refusals


@pytest.mark.parametrize("make", [RecursiveLeastSquares, LeastSquares])
def test_continued_from_its_state_it_does_the_same(awake_response, make):
    first = learn(make(10, 10, seed=4), Line(awake_response, 4), 7)
    state = first.state()
    json.dumps({**state, "response": {k: np.asarray(v).tolist() for k, v in state["response"].items()}})
    second = make(10, 10, seed=0)
    second.set_state(state)
    learn(first, Line(awake_response, 5), 9)
    learn(second, Line(awake_response, 5), 9)
    for name, values in first.parameters().items():
        np.testing.assert_array_equal(values, second.parameters()[name])
    x = np.ones(10)
    np.testing.assert_array_equal(first.explore(x), second.explore(x))


def test_asking_changes_nothing(awake_response):
    controller = learn(RecursiveLeastSquares(10, 10, seed=4), Line(awake_response, 4), 5)
    before = controller.state()
    controller.action(np.ones((7, 10)))
    after = controller.state()
    assert after["generator"] == before["generator"]
    np.testing.assert_array_equal(after["response"]["information"], before["response"]["information"])


@pytest.mark.parametrize(
    ("make", "error", "field"),
    [
        (lambda: RecursiveLeastSquares(0, 1), ValueError, "n_readings"),
        (lambda: RecursiveLeastSquares(1, 0), ValueError, "n_actions"),
        (lambda: RecursiveLeastSquares(1, 1, prior=0.0), ValueError, "prior"),
        (lambda: RecursiveLeastSquares(1, 1, forgetting=1.5), ValueError, "forgetting"),
        (lambda: RecursiveLeastSquares(1, 1, effort=-0.1), ValueError, "effort"),
        (lambda: RecursiveLeastSquares(1, 1, probe="much"), TypeError, "probe"),
        (lambda: RecursiveLeastSquares(1, 1, identified=0.0), ValueError, "identified"),
        (lambda: LeastSquares(1, 1, random_steps=0), ValueError, "random_steps"),
        (lambda: SignController(up=-1), ValueError, "up"),
        (lambda: RecursiveLeastSquares(2, 1).action([1.0]), ValueError, "observation"),
        (lambda: RecursiveLeastSquares(2, 1).action(np.ones((1, 1, 2))), ValueError, "observation"),
    ],
)
def test_a_wrong_argument_is_named(make, error, field):
    with pytest.raises(error, match=f"^{field}: .*; use") as caught:
        make()
    assert "\n" not in str(caught.value)
