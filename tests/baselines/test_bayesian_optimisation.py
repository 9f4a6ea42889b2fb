"""Bayesian optimisation within an episode: the surrogate against scikit-learn, the search, what is not carried over."""

from __future__ import annotations

import numpy as np
import pytest

from baselines import BayesianOptimisation
from baselines.bayesian_optimisation import LENGTHS, Surrogate, matern

SETTINGS = np.random.default_rng(0).uniform(-1, 1, (3, 12, 2))
COSTS = np.stack([np.abs(s @ [1.0, 0.4] - 0.3) + 0.5 * np.sum(s**2, axis=1) for s in SETTINGS])


def test_the_kernel_is_scikit_learns():
    kernels = pytest.importorskip("sklearn.gaussian_process.kernels")
    r = np.linspace(0.0, 4.0, 9)
    theirs = kernels.Matern(length_scale=1.0, nu=2.5)(np.zeros((1, 1)), r[:, None])[0]
    np.testing.assert_allclose(matern(r), theirs, rtol=1e-12)


def test_each_row_is_scikit_learns_process_with_the_likeliest_length():
    pytest.importorskip("sklearn")
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    surrogate = Surrogate(SETTINGS, COSTS)
    points = np.random.default_rng(1).uniform(-1, 1, (3, 5, 2))
    mean, std = surrogate.predict(points)
    for row in range(2):
        y = (COSTS[row] - COSTS[row].mean()) / COSTS[row].std()
        likelihood = {}
        for length in LENGTHS:
            # the signal's variance of largest likelihood, found on a grid: ours is in closed form
            for signal in np.exp(np.linspace(-4, 8, 61)):
                kernel = ConstantKernel(signal) * Matern(length, nu=2.5) + WhiteKernel(1e-4 * signal)
                process = GaussianProcessRegressor(kernel, alpha=1e-14, optimizer=None).fit(SETTINGS[row], y)
                likelihood[length, signal] = process.log_marginal_likelihood_value_
        (length, signal), best = max(likelihood.items(), key=lambda item: item[1])
        assert surrogate.length[row] == length
        assert surrogate.log_likelihood[row] == pytest.approx(best, abs=0.05)
        assert surrogate._signal[row] == pytest.approx(signal, rel=0.2)
        kernel = ConstantKernel(surrogate._signal[row]) * Matern(length, nu=2.5)
        process = GaussianProcessRegressor(kernel, alpha=1e-4 * surrogate._signal[row], optimizer=None)
        process.fit(SETTINGS[row], y)
        their_mean, their_std = process.predict(points[row], return_std=True)
        np.testing.assert_allclose(mean[row], COSTS[row].mean() + COSTS[row].std() * their_mean, rtol=1e-6)
        np.testing.assert_allclose(std[row], COSTS[row].std() * their_std, rtol=1e-4)


def test_expected_improvement_is_an_expectation():
    surrogate = Surrogate(SETTINGS, COSTS)
    points = np.random.default_rng(1).uniform(-1, 1, (3, 4, 2))
    mean, std = surrogate.predict(points)
    draws = mean + std * np.random.default_rng(2).standard_normal((400_000, 1, 1))
    gain = np.maximum(COSTS.min(axis=1)[:, None] - draws, 0.0)
    found = surrogate.expected_improvement(points) * COSTS.std(axis=1)[:, None]
    tolerance = 5 * gain.std(axis=0) / np.sqrt(len(gain)) + 1e-9
    assert (np.abs(gain.mean(axis=0) - found) < tolerance).all()
    assert (found > 0).any()


# ---------------------------------------------------------------------- the search


class Bowl:
    """Readings `target + M d` at settings d: the best setting is inside the box."""

    def __init__(self, batch, m=3, seed=0):
        generator = np.random.default_rng(seed)
        self.matrix = generator.standard_normal((m, m)) + 2 * np.eye(m)
        self.best = generator.uniform(-0.8, 0.8, (batch, m))
        self.setting = np.zeros((batch, m))

    def read(self):
        return (self.setting - self.best) @ self.matrix.T

    def step(self, action):
        assert np.abs(action).max() <= 1.0
        self.setting = self.setting + action
        assert np.abs(self.setting).max() <= 1.0 + 1e-12
        return self.read()


def rms(x):
    return np.sqrt(np.mean(x**2, axis=-1))


def least(optimiser, steps, seed=0):
    """Least cost of each of 20 episodes searched side by side."""
    bowl = Bowl(20, seed=seed)
    x = bowl.read()
    found = [rms(x)]
    optimiser.restart()
    for _ in range(steps):
        x = bowl.step(optimiser.action(x))
        found.append(rms(x))
    return np.min(found, axis=0)


def test_it_searches_better_than_at_random():
    guided = least(BayesianOptimisation(3, 3), 25)
    random = least(BayesianOptimisation(3, 3, random_steps=25), 25)
    assert np.median(guided) < 0.5 * np.median(random)


def test_the_learning_loop_and_a_batch_of_one_search_alike():
    optimiser, bowl = BayesianOptimisation(3, 3), Bowl(1, seed=3)
    x = bowl.read()[0]
    optimiser.begin(x)
    found = [rms(x)]
    for _ in range(25):
        action = optimiser.explore(x)
        assert action.shape == (3,)
        following = bowl.step(action[None])[0]
        optimiser.observe(x, action, following)
        x = following
        found.append(rms(x))
    assert min(found) < 0.2 * found[0]
    assert optimiser.parameters() == {}


def test_nothing_is_carried_over():
    optimiser = BayesianOptimisation(3, 3, seed=1)
    first = least(optimiser, 8)
    np.testing.assert_array_equal(least(optimiser, 8), first)
    optimiser.begin(np.ones(3))
    assert optimiser.state()["search"]["tried"].shape == (1, 1, 3)
    optimiser.observe(np.ones(3), np.full(3, 0.5), np.ones(3))
    assert optimiser.state()["search"]["tried"].shape == (1, 2, 3)
    optimiser.begin(np.ones(3))
    assert optimiser.state()["search"]["tried"].shape == (1, 1, 3)


def test_an_action_goes_as_far_as_one_can():
    """A candidate two actions away is not reached in one, and the setting that is recorded is the one reached."""
    optimiser = BayesianOptimisation(1, 1, reach=3.0, random_steps=50, seed=2)
    x, position = np.zeros(1), 0.0
    optimiser.begin(x)
    for _ in range(30):
        action = optimiser.explore(x)
        position += float(action[0])
        optimiser.observe(x, action, np.array([position]))
    tried = optimiser.state()["search"]
    np.testing.assert_allclose(np.abs(tried["tried"][0, :, 0]), tried["cost"][0], atol=1e-12)
    assert np.abs(np.diff(tried["tried"][0, :, 0])).max() == 1.0


def test_continued_from_its_state_it_does_the_same():
    first, bowl = BayesianOptimisation(3, 3, seed=1), Bowl(1)
    x = bowl.read()[0]
    first.begin(x)
    for _ in range(9):
        action = first.explore(x)
        following = bowl.step(action[None])[0]
        first.observe(x, action, following)
        x = following
    second = BayesianOptimisation(3, 3, seed=7)
    second.set_state(first.state())
    np.testing.assert_array_equal(first.explore(x), second.explore(x))
    fresh = BayesianOptimisation(3, 3, seed=7)
    fresh.set_state(BayesianOptimisation(3, 3).state())
    assert fresh.state()["search"] is None


@pytest.mark.parametrize(
    ("make", "error", "field"),
    [
        (lambda: BayesianOptimisation(1, 0), ValueError, "n_actions"),
        (lambda: BayesianOptimisation(1, 1, reach=0.0), ValueError, "reach"),
        (lambda: BayesianOptimisation(1, 1, random_steps=0), ValueError, "random_steps"),
        (lambda: BayesianOptimisation(1, 1, candidates=2.5), TypeError, "candidates"),
        (lambda: BayesianOptimisation(2, 1).action([1.0]), ValueError, "observation"),
    ],
)
def test_a_wrong_argument_is_named(make, error, field):
    with pytest.raises(error, match=f"^{field}: .*; use") as caught:
        make()
    assert "\n" not in str(caught.value)
