"""Gaussian processes and the controller that plans with them: against scikit-learn, differences, a linear system."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from baselines import GPMPC, GaussianProcess

GROUPS = (3, 2)


def data(seed, n=12, q=2):
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((n, sum(GROUPS)))
    matrix = generator.standard_normal((sum(GROUPS), q))
    return inputs, inputs @ matrix + 0.3 * np.sin(2 * inputs[:, :q]) + 0.05 * generator.standard_normal(
        (n, q)
    )


def conditioned(seed=0, n=12):
    """A process with a strong curved part, so that nothing below holds because it is linear."""
    inputs, outputs = data(seed, n)
    process = GaussianProcess(GROUPS)
    process.condition(inputs, outputs, np.log([0.5, 0.8, 1.5, 0.9, 0.7, 1e-3]))
    return process


def peer(theta, inputs, outputs):
    """The same process of scikit-learn, whose kernel has one weight for all components of the linear part."""
    pytest.importorskip("sklearn")
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

    w, lengths, s2, noise = np.exp(theta[0]), np.exp(theta[2:4]), np.exp(theta[4]), np.exp(theta[5])
    kernel = (
        ConstantKernel(w) * DotProduct(1e-12)
        + ConstantKernel(s2) * RBF(np.repeat(lengths, GROUPS))
        + WhiteKernel(noise)
    )
    return GaussianProcessRegressor(kernel, alpha=1e-14, optimizer=None).fit(inputs, outputs)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), logs=st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4))
def test_likelihood_and_prediction_are_scikit_learns(seed, logs):
    inputs, outputs = data(seed)
    theta = np.array([logs[0], logs[0], logs[1], logs[2], logs[3], -4.0])
    theirs = peer(theta, inputs, outputs)
    ours = GaussianProcess(GROUPS)
    value, _ = ours.log_marginal_likelihood(theta, inputs, outputs)
    assert value == pytest.approx(theirs.log_marginal_likelihood_value_, rel=1e-8)
    ours.condition(inputs, outputs, theta)
    points = np.random.default_rng(seed + 1).standard_normal((6, 5))
    mean, variance = ours.predict(points)
    their_mean, std = theirs.predict(points, return_std=True)
    np.testing.assert_allclose(mean, their_mean, rtol=1e-6, atol=1e-8)
    # theirs is the variance of a noisy reading
    np.testing.assert_allclose(variance + np.exp(theta[-1]), std[:, 0] ** 2, rtol=1e-6)


def test_likelihood_gradient():
    inputs, outputs = data(3)
    process = GaussianProcess(GROUPS)
    theta = np.array([0.2, -0.4, 0.3, 0.1, -0.5, -3.0])
    _, gradient = process.log_marginal_likelihood(theta, inputs, outputs)
    for i, step in enumerate(1e-5 * np.eye(6)):
        up, _ = process.log_marginal_likelihood(theta + step, inputs, outputs)
        down, _ = process.log_marginal_likelihood(theta - step, inputs, outputs)
        assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-6)


def test_derivatives_of_a_prediction():
    process, point = conditioned(), np.random.default_rng(5).standard_normal((1, 5))
    _, jacobian, _, gradient, curvature = process.expand(point)
    for i, step in enumerate(1e-5 * np.eye(5)):
        (up, more), (down, less) = process.predict(point + step), process.predict(point - step)
        np.testing.assert_allclose(jacobian[0, :, i], (up - down)[0] / 2e-5, rtol=1e-5, atol=1e-7)
        assert gradient[0, i] == pytest.approx((more - less)[0] / 2e-5, rel=1e-4, abs=1e-7)
    assert np.linalg.eigvalsh(curvature[0]).min() > -1e-9


def test_the_curvature_of_the_variance_is_exact_where_the_kernel_is_linear():
    inputs, outputs = data(0)
    process = GaussianProcess(GROUPS)
    process.condition(inputs, outputs, np.array([0.3, -0.2, 0.0, 0.0, -40.0, -2.0]))
    point = np.random.default_rng(1).standard_normal((1, 5))
    curvature = process.expand(point)[4][0]
    for i, step in enumerate(1e-3 * np.eye(5)):
        slope = (process.expand(point + step)[3] - process.expand(point - step)[3])[0] / 2e-3
        np.testing.assert_allclose(curvature[i], slope, rtol=1e-6, atol=1e-9)


def test_fitting_finds_that_a_system_is_linear():
    generator = np.random.default_rng(0)
    inputs, matrix = generator.standard_normal((40, 5)), generator.standard_normal((5, 2))
    process = GaussianProcess(GROUPS)
    process.fit(inputs[:30], inputs[:30] @ matrix)
    mean, _ = process.predict(3.0 * inputs[30:])
    error = np.abs(mean - 3.0 * inputs[30:] @ matrix).max()
    assert error < 0.01 * np.abs(mean).max()


def test_fitting_finds_noise_and_curvature():
    generator = np.random.default_rng(1)
    inputs = generator.standard_normal((80, 2))
    outputs = np.sin(2 * inputs[:, :1]) + 0.1 * generator.standard_normal((80, 1))
    process = GaussianProcess((1, 1))
    process.fit(inputs, outputs)
    assert np.exp(0.5 * process.theta[-1]) == pytest.approx(0.1, rel=0.3)
    points = np.array([[0.3, 0.0], [-1.0, 0.5]])
    np.testing.assert_allclose(process.predict(points)[0][:, 0], np.sin(2 * points[:, 0]), atol=0.15)


# ---------------------------------------------------------------------- the controller


def learnt(steps=14, seed=0, n=4, m=3, **options):
    """A controller after transitions of a linear system of n readings and m actions; and its matrix."""
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((n, m))
    controller = GPMPC(n, m, seed=seed, **options)
    for _ in range(steps):
        x = generator.standard_normal(n)
        action = controller.explore(x)
        assert action.shape == (m,)
        assert np.abs(action).max() <= 1.0
        controller.observe(x, action, x + matrix @ action)
    return controller, matrix


def test_it_learns_a_linear_system():
    controller, matrix = learnt()
    x = np.random.default_rng(9).uniform(-0.3, 0.3, (20, 4))
    exact = -np.linalg.lstsq(matrix, x.T, rcond=None)[0].T
    inside = (np.abs(exact) < 0.9).all(axis=1)
    assert inside.sum() > 5
    np.testing.assert_allclose(controller.action(x)[inside], exact[inside], atol=0.05)


@pytest.mark.parametrize(("horizon", "caution"), [(1, 1.0), (1, -0.5), (2, 1.0), (3, 0.3)])
def test_cost_and_gradient_of_a_plan(horizon, caution):
    """The cost by hand from predictions, and its gradient by differences, on a process that is not linear."""
    controller = GPMPC(3, 2, horizon=horizon, effort=0.1)
    controller.model = conditioned()
    controller.model.weights = np.column_stack(
        [controller.model.weights, controller.model.weights[:, 0] * 0.4]
    )
    generator = np.random.default_rng(2)
    x, plan = generator.standard_normal((4, 3)), generator.uniform(-1, 1, (4, 2 * horizon))

    def by_hand(plan):
        now, total = x, 0.0
        for step in range(horizon):
            mean, variance = controller.model.predict(
                np.concatenate([now, plan[:, 2 * step : 2 * step + 2]], axis=1)
            )
            now = now + mean
            effort = 0.1 * 3 * 0.8 * np.sum(plan[:, 2 * step : 2 * step + 2] ** 2, axis=1)
            total = total + np.sum(now**2, axis=1) + caution * 3 * variance + effort
        return total

    cost, gradient, hessian = controller._expected(x, plan, caution)
    np.testing.assert_allclose(cost, by_hand(plan), rtol=1e-10)
    for i, step in enumerate(1e-5 * np.eye(2 * horizon)):
        slope = (by_hand(plan + step) - by_hand(plan - step)) / 2e-5
        np.testing.assert_allclose(gradient[:, i], slope, rtol=1e-4, atol=1e-6)
    assert np.linalg.eigvalsh(hessian).min() > -1e-8


@pytest.mark.parametrize("horizon", [1, 2])
def test_plans_are_as_good_as_a_general_optimiser_finds(horizon):
    """Against bounded quasi-Newton runs of SciPy from several starts, on a process that is not linear."""
    controller = GPMPC(2, 2, horizon=horizon)
    generator = np.random.default_rng(4)
    inputs = generator.uniform(-1, 1, (15, 4))
    changes = inputs[:, 2:] @ np.array([[0.8, 0.2], [-0.3, 0.5]]) + 0.2 * np.sin(3 * inputs[:, 2:])
    controller.model.fit(inputs, changes)
    controller.seen = 15
    x = generator.uniform(-1, 1, (8, 2))
    plans = controller.plan(x, 1.0).reshape(8, -1)
    assert np.abs(plans).max() <= 1.0
    ours = controller._expected(x, plans, 1.0)[0]
    bounds = [(-1.0, 1.0)] * plans.shape[1]
    for row in range(8):

        def loss(plan, row=row):
            cost, gradient, _ = controller._expected(x[row : row + 1], plan[None], 1.0)
            return cost[0], gradient[0]

        starts = [np.zeros(len(bounds)), *generator.uniform(-1, 1, (3, len(bounds)))]
        best = min(minimize(loss, s, jac=True, method="L-BFGS-B", bounds=bounds).fun for s in starts)
        assert ours[row] <= best + 1e-4 + 0.01 * abs(best)


def test_one_reading_equals_its_row_of_a_batch():
    controller, _ = learnt()
    x = np.random.default_rng(3).standard_normal((5, 4))
    together = controller.action(x)
    assert together.shape == (5, 3)
    for row, action in zip(x, together, strict=True):
        np.testing.assert_allclose(controller.action(row), action, atol=1e-4)


def test_caution_avoids_and_a_bonus_seeks_what_is_not_known():
    """Two actions of which one was never used: caution leaves it alone, a bonus uses it."""
    generator = np.random.default_rng(0)
    controller = GPMPC(1, 2, random_steps=0, bonus=3.0)
    for _ in range(8):
        x, a = generator.uniform(-1, 1, 1), np.array([generator.uniform(-1, 1), 0.0])
        controller.observe(x, a, x + a[:1])
    x = np.array([0.5])
    np.testing.assert_allclose(controller.action(x), [-0.5, 0.0], atol=0.05)
    assert abs(controller.explore(x)[1]) > 0.3


def test_a_random_phase_and_then_plans():
    controller, _ = learnt(steps=5, random_steps=5, random_scale=0.2)
    assert np.abs(controller._inputs[:, 4:]).max() <= 0.2
    x = np.full(4, 0.3)
    np.testing.assert_array_equal(controller.explore(x), controller.action(x))
    assert (GPMPC(2, 2).action([1.0, 1.0]) == 0.0).all()


def test_only_the_newest_transitions_are_kept():
    controller, _ = learnt(steps=12, max_points=6)
    assert controller._inputs.shape == (6, 7)
    assert controller.seen == 12


def test_continued_from_its_state_it_does_the_same():
    first, _ = learnt(steps=9)
    second = GPMPC(4, 3, seed=5)
    second.set_state(first.state())
    generator = np.random.default_rng(8)
    for _ in range(6):
        x, following = generator.standard_normal((2, 4))
        actions = first.explore(x), second.explore(x)
        np.testing.assert_array_equal(*actions)
        first.observe(x, actions[0], following)
        second.observe(x, actions[1], following)
    np.testing.assert_array_equal(first.model.theta, second.model.theta)
    empty = GPMPC(4, 3, seed=5)
    empty.set_state(GPMPC(4, 3, seed=1).state())
    assert (empty.action(np.ones(4)) == 0.0).all()


def test_a_step_at_a_hundred_points_in_twenty_dimensions_is_cheap(awake_response):
    generator = np.random.default_rng(0)
    controller = GPMPC(10, 10, random_steps=0)
    inputs = generator.uniform(-1, 1, (99, 20))
    controller._inputs, controller._changes = inputs, inputs[:, 10:] @ awake_response.T
    controller.seen, controller._unfitted = 99, 99
    begun = time.process_time()
    controller.observe(inputs[0, :10], inputs[0, 10:], inputs[0, :10] + awake_response @ inputs[0, 10:])
    controller.explore(inputs[1, :10])
    assert time.process_time() - begun < 1.0  # 0.1 s here, with a fit of the hyperparameters


@pytest.mark.parametrize(
    ("make", "error", "field"),
    [
        (lambda: GaussianProcess(()), ValueError, "groups"),
        (lambda: GaussianProcess((0,)), ValueError, "groups"),
        (lambda: GPMPC(0, 1), ValueError, "n_readings"),
        (lambda: GPMPC(1, 1, horizon=4), ValueError, "horizon"),
        (lambda: GPMPC(1, 1, random_scale=0.0), ValueError, "random_scale"),
        (lambda: GPMPC(1, 1, caution=-1.0), ValueError, "caution"),
        (lambda: GPMPC(1, 1, effort=-1.0), ValueError, "effort"),
        (lambda: GPMPC(1, 1, max_points=1), ValueError, "max_points"),
        (lambda: GPMPC(1, 1, seed=1.5), TypeError, "seed"),
        (lambda: GPMPC(2, 1).action([1.0]), ValueError, "observation"),
    ],
)
def test_a_wrong_argument_is_named(make, error, field):
    with pytest.raises(error, match=f"^{field}: .*; (use|give)") as caught:
        make()
    assert "\n" not in str(caught.value)
