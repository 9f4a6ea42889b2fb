"""CHSH game, frequency bandit and antenna selection: rules, closed forms and measures against hand-computed cases."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from environments.antenna_selection import N_BEAMS, SIZE, AntennaSelection, relative_energy
from environments.chsh_game import (
    CLASSICAL_CEILING,
    QUANTUM_CEILING,
    QUESTIONS,
    CHSHGame,
    signalling,
    win_probability,
)
from environments.frequency_bandit import BORN_CEILING, OPTIMUM, FrequencyBandit, contexts, value


def joint_of(actions):
    """The distribution of a deterministic policy that answers the four pairs of questions so."""
    return np.eye(4)[list(actions)].reshape(2, 2, 2, 2)


# ------------------------------------------------------------------------------------------------- CHSH


def test_every_round_of_the_game():
    game = gym.make_vec("qrl/CHSHGame-v0", num_envs=400)
    questions, _ = game.reset(seed=0)
    assert {tuple(row) for row in questions} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert np.abs(questions.mean(axis=0) - 0.5).max() < 0.1
    for action in range(4):
        game.reset(seed=0)
        _, rewards, terminated, truncated, _ = game.step(np.full(400, action))
        a, b = divmod(action, 2)
        x, y = questions.T.astype(int)
        np.testing.assert_array_equal(rewards, ((a + b) % 2 == x * y).astype(float))
        assert terminated.all()
        assert not truncated.any()


def test_the_classical_ceiling_by_all_deterministic_strategies():
    """Each player has four ways to answer one bit to one bit; the best of the sixteen pairs wins three of four."""
    ways = list(itertools.product((0, 1), repeat=2))
    scores = []
    for first, second in itertools.product(ways, ways):
        joint = joint_of([2 * first[int(x)] + second[int(y)] for x, y in QUESTIONS])
        assert signalling(joint) == 0.0
        scores.append(win_probability(joint))
    assert max(scores) == CLASSICAL_CEILING
    assert min(scores) == 1 - CLASSICAL_CEILING


def test_whoever_sees_both_questions_wins_and_is_told_on():
    def cheat(observations):
        return (observations > 0.5).all(axis=1).astype(int)

    env = CHSHGame()
    assert env.measures(cheat, env) == {"win_probability": 1.0, "signalling": 1.0}
    assert env.measures(lambda o: np.zeros(len(o), int), env) == {"win_probability": 0.75, "signalling": 0.0}


def test_the_quantum_ceiling_by_the_singlet_correlations():
    """p(a, b | x, y) = (1 + (-1)^(a+b) cos(alpha_x - beta_y)) / 4 at the angles of the textbook."""
    alpha, beta = np.array([0.0, np.pi / 2]), np.array([np.pi / 4, -np.pi / 4])
    correlation = np.cos(alpha[:, None] - beta)[:, :, None, None]
    parity = np.array([[1, -1], [-1, 1]])
    joint = (1 + parity * correlation) / 4
    assert win_probability(joint) == pytest.approx(QUANTUM_CEILING, abs=1e-12)
    assert signalling(joint) < 1e-15
    assert abs(QUANTUM_CEILING - 0.853553) < 1e-6


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_score_is_the_expected_reward(seed):
    p = np.random.default_rng(seed).dirichlet(np.ones(4), 4)
    won = sum(
        p[row, action] / 4
        for row, (x, y) in enumerate(QUESTIONS)
        for action in range(4)
        if (action // 2) ^ (action % 2) == int(x) & int(y)
    )
    assert win_probability(p.reshape(2, 2, 2, 2)) == pytest.approx(won)


def test_what_is_no_distribution_is_refused():
    for wrong in (np.ones((2, 2, 2, 2)), np.ones((4, 4)) / 4, -joint_of([0] * 4)):
        with pytest.raises(ValueError, match=r"^joint: .*; use"):
            win_probability(wrong)
    with pytest.raises(TypeError, match="there is no such option"):
        CHSHGame(rounds=3)


# ------------------------------------------------------------------------------------ frequency bandit


@pytest.mark.parametrize("k", [1, 3, 8])
def test_exact_values_of_policies(k):
    assert value(lambda s: np.full(len(s), 0.7), k) == pytest.approx(0.0, abs=1e-12)
    assert value(lambda s: (1 + np.cos(k * s[:, 0])) / 2, k) == pytest.approx(BORN_CEILING, abs=1e-12)
    assert value(lambda s: np.cos(k * s[:, 0]) > 0, k, 480 * k) == pytest.approx(OPTIMUM, abs=1e-4)
    assert value(lambda s: (1 - np.cos(k * s[:, 0])) / 2, k) == pytest.approx(-BORN_CEILING, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), degree=st.integers(1, 8), k=st.integers(1, 4))
def test_bounded_polynomials_keep_the_ceilings(seed, degree, k):
    """Random trigonometric polynomials bounded by 1: nothing below degree k, at most 1/2 below 3k."""
    coefficients = np.random.default_rng(seed).normal(size=(2, degree + 1))
    waves = np.arange(degree + 1) * contexts(2048)
    f = np.cos(waves) @ coefficients[0] + np.sin(waves) @ coefficients[1]
    f /= np.abs(f).max()
    found = value(lambda s: (1 + f) / 2, k, 2048)
    if degree < k:
        assert abs(found) < 1e-12
    elif degree < 3 * k:
        # the grid may miss the largest value by a little
        assert abs(found) <= BORN_CEILING + 1e-3


def test_a_sign_leaks_past_the_ceiling():
    """The sign of a polynomial of degree 1 is none of degree 1: worth 2 / (3 pi) at k = 3."""
    assert value(lambda s: np.cos(s[:, 0]) < 0, 3) == pytest.approx(2 / (3 * np.pi), abs=1e-3)


def test_returns_of_the_environment_are_the_value():
    bandit = gym.make_vec("qrl/FrequencyBandit-v0", num_envs=40_000)
    observations, _ = bandit.reset(seed=1)
    assert observations in bandit.observation_space
    p = (1 + np.cos(3 * observations[:, 0])) / 2
    actions = (np.random.default_rng(2).random(len(p)) < p).astype(int)
    _, rewards, terminated, _, _ = bandit.step(actions)
    assert terminated.all()
    assert rewards.mean() == pytest.approx(BORN_CEILING, abs=4 * rewards.std() / 200)


def test_wrong_arguments_of_the_bandit():
    with pytest.raises(ValueError, match=r"^frequency: 0 is outside"):
        FrequencyBandit(frequency=0)
    with pytest.raises(ValueError, match=r"^policy: .*; return"):
        value(lambda s: np.full(len(s), 2.0))


# ------------------------------------------------------------------------------------------- antennas


@pytest.fixture
def antennas():
    return AntennaSelection().task


def test_intensity_is_the_interference_of_seventeen_elements(antennas):
    """Against the sum of the elements' amplitudes, for every antenna and beam at random places."""
    places = np.random.default_rng(0).uniform(0, SIZE, (50, 2))
    energies, beams = antennas.energies(places)
    for row, place in enumerate(places):
        for number, (at, along) in enumerate(zip(antennas.antennas, antennas.directions, strict=True)):
            offset = place - at
            r = np.sqrt(offset @ offset + 1)
            xi = np.pi * (offset @ along) / r - antennas.phases
            amplitude = np.exp(1j * np.outer(np.arange(17), xi)).sum(axis=0) / 17
            expected = np.abs(amplitude) ** 2 / r**4
            assert energies[row, number] == pytest.approx(expected.max(), rel=1e-9)
            assert beams[row, number] == expected.argmax()


def test_in_the_middle_of_a_lobe_nothing_is_divided_by_zero(antennas):
    """At an antenna's own place xi is minus the beam's phase; the middle beam has phase 0 and delivers 1."""
    energies, beams = antennas.energies(antennas.antennas[:1])
    assert energies[0, 0] == 1.0
    assert beams[0, 0] == N_BEAMS // 2


@pytest.mark.parametrize("points", [2, 3, 4, 5])
def test_walks_cross_the_square_at_constant_speed(points):
    task = AntennaSelection(support_points=points).task
    for seed in range(10):
        row = task.draw(np.random.default_rng(seed))
        path = row[7:].reshape(-1, 2)
        assert path.shape == (201, 2)
        assert path[0, 0] == 0.0
        assert path[-1, 0] == pytest.approx(SIZE)
        assert path.min() >= 0.0
        assert path.max() <= SIZE + 1e-12
        steps = np.hypot(*np.diff(path, axis=0).T)
        # the chord of a step through a sharp bend is shorter than the way along it
        assert np.quantile(steps, 0.05) > 0.99 * steps.max()


def test_a_walk_is_the_parabola_through_its_points(antennas):
    found = antennas._polynomials @ np.array([[0.0, 1.0], [2.0, 5.0], [6.0, 2.0]])
    t = np.linspace(0, 1, len(found))
    np.testing.assert_allclose(found[:, 0], 4 * t**2 + 2 * t, atol=1e-12)
    np.testing.assert_allclose(found[:, 1], -14 * t**2 + 15 * t + 1, atol=1e-12)


def test_an_episode_by_hand():
    env = AntennaSelection(steps=20)
    observation, info = env.reset(seed=3)
    path = env.state()["row"][0, 7:].reshape(-1, 2)
    energies, beams = env.task.energies(path)
    best = energies.max(axis=1)
    np.testing.assert_allclose(observation[:2], [energies[0].argmax() / 2, best[0]], rtol=1e-6)
    assert info["relative_energy"] == 1.0
    actions = np.random.default_rng(0).integers(3, size=20)
    for step, action in enumerate(actions, 1):
        observation, reward, terminated, truncated, info = env.step(action)
        assert reward == energies[step, action]
        np.testing.assert_allclose(observation, [action / 2, reward, beams[step, action] / 8], rtol=1e-6)
        assert terminated == (step == 20)
        assert not truncated
        assert info["best_energy"] == best[step]
    gathered = best[0] + energies[np.arange(1, 21), actions].sum()
    assert info["relative_energy"] == pytest.approx(gathered / best.sum())


def test_the_best_choice_reaches_all_and_a_random_one_does_not(antennas):
    rows = np.stack([antennas.draw(np.random.default_rng(seed)) for seed in range(20)])
    for _ in range(200):
        following = rows.copy()
        following[:, 0] += 1
        best = antennas.energies(antennas._positions(following))[0].argmax(axis=1)
        rows = antennas.step(rows, best).rows
    np.testing.assert_allclose(rows[:, 5] / rows[:, 6], 1.0)
    env = gym.make("qrl/AntennaSelection-v0")
    constant = [relative_energy(lambda o, a=a: np.full(len(o), a), env) for a in range(3)]
    np.testing.assert_allclose(constant, [0.56, 0.17, 0.39], atol=0.005)
    generator = np.random.default_rng(0)
    random = relative_energy(lambda o: generator.integers(3, size=len(o)), env)
    assert random == pytest.approx(0.37, abs=0.02)


def test_the_measure_sees_what_the_wrappers_show():
    env = gym.wrappers.TransformObservation(
        AntennaSelection(steps=5), lambda o: 10 * o, gym.spaces.Box(0, 10, (3,), dtype=np.float32)
    )
    seen = []
    env.unwrapped.measures(lambda o: seen.append(o) or np.zeros(len(o), int), env)
    assert len(seen) == 5
    assert 1.0 < max(o.max() for o in seen) <= 10.0
    with pytest.raises(TypeError, match=r"^env: CHSHGame is no AntennaSelection"):
        relative_energy(lambda o: o, CHSHGame())


def test_layouts_keep_their_distance_or_say_so():
    for layout in range(5):
        places = AntennaSelection(layout=layout).task.antennas
        assert min(np.hypot(*(a - b)) for a, b in itertools.combinations(places, 2)) >= 2.0
    with pytest.raises(ValueError, match=r"^spacing: 5.0 leaves no room for 8"):
        AntennaSelection(n_antennas=8, spacing=5.0)


# ------------------------------------------------------------------------------- the vectorised form

VECTORS = {
    "qrl/CHSHGame-v0": {},
    "qrl/FrequencyBandit-v0": {},
    "qrl/AntennaSelection-v0": {"steps": 7},
}


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_copies_follow_the_scalar_environment_over_resets(name, mode):
    """Forty steps of three copies, resets included, against three scalar environments reset by hand."""
    modes = {"NextStep": gym.vector.AutoresetMode.NEXT_STEP, "SameStep": gym.vector.AutoresetMode.SAME_STEP}
    vector = gym.make_vec(name, num_envs=3, autoreset_mode=modes[mode], **VECTORS[name])
    scalars = [gym.make(name, **VECTORS[name]) for _ in range(3)]
    observations, _ = vector.reset(seed=5)
    for copy, env in enumerate(scalars):
        np.testing.assert_array_equal(observations[copy], env.reset(seed=5 + copy)[0])
    vector.action_space.seed(0)
    over = np.zeros(3, dtype=bool)
    for _ in range(40):
        actions = vector.action_space.sample()
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        for copy, env in enumerate(scalars):
            if over[copy]:
                np.testing.assert_array_equal(observations[copy], env.reset()[0])
                assert (rewards[copy], terminated[copy], truncated[copy]) == (0.0, False, False)
                over[copy] = False
                continue
            seen, reward, ended, _, info = env.step(actions[copy])
            assert (reward, ended) == (rewards[copy], terminated[copy])
            if ended and mode == "SameStep":
                np.testing.assert_array_equal(infos["final_obs"][copy], seen)
                assert {key: infos["final_info"][key][copy] for key in info} == info
                seen = env.reset()[0]
            over[copy] = ended and mode == "NextStep"
            np.testing.assert_array_equal(observations[copy], seen)


def test_a_step_limit_truncates_all_copies():
    vector = gym.make_vec("qrl/AntennaSelection-v0", num_envs=2, max_episode_steps=3)
    vector.reset(seed=0)
    ends = [vector.step(np.zeros(2, dtype=int))[2:4] for _ in range(3)]
    assert [bool(truncated.all()) for _, truncated in ends] == [False, False, True]
    assert not any(terminated.any() for terminated, _ in ends)


@pytest.mark.parametrize("name", VECTORS)
def test_the_state_of_many_copies_goes_out_and_in(name):
    vector = gym.make_vec(name, num_envs=4, **VECTORS[name])
    vector.reset(seed=1)
    vector.action_space.seed(2)
    for _ in range(3):
        vector.step(vector.action_space.sample())
    other = gym.make_vec(name, num_envs=4, **VECTORS[name])
    other.set_state(vector.state())
    for _ in range(20):
        actions = vector.action_space.sample()
        np.testing.assert_array_equal(actions, other.action_space.sample())
        mine, theirs = vector.step(actions), other.step(actions)
        for a, b in zip(mine[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"^num_envs: the state holds 4"):
        gym.make_vec(name, num_envs=2, **VECTORS[name]).set_state(vector.state())


def test_a_wrong_action_is_named():
    env = CHSHGame()
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action: .* is outside 0\.\.3; use one"):
        env.step(4)
    with pytest.raises(TypeError, match=r"^action: .* is not 1 integer; use 0\.\.3"):
        env.step(0.5)
