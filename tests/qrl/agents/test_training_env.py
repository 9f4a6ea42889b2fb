"""The training environments: faults named where they arise, transforms equal in reset and step, exact state."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from qrl.agents.training_env import EnvironmentFault, TrainingEnv, make_environment, observation_transform
from qrl.errors import InputError


class Faulty(gym.Env):
    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, what):
        self.what, self.t = what, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        bad = self.t == 5
        observation = np.array([0.0, np.nan if bad and self.what == "observation" else 0.5], np.float32)
        return observation, np.inf if bad and self.what == "reward" else 0.0, False, False, {}


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_a_non_finite_value_is_named_where_it_arises(what):
    env = TrainingEnv(lambda: Faulty(what), [0])
    env.reset()
    for _ in range(4):
        env.step(np.array([1]))
    with pytest.raises(
        EnvironmentFault, match=rf"Faulty: non-finite {what} from member 0 at step 5 .* action 1"
    ):
        env.step(np.array([1]))


@pytest.mark.parametrize("kind", ["scaled", "arctan", "raw", (1.0, 1.0, 1.0, 2.0, 12.5, 0.1)])
def test_reset_and_step_share_one_transform(kind):
    # A published example normalised in step() but not in reset().
    plain = gym.make("Acrobot-v1")
    seen = make_environment("Acrobot-v1", {}, kind)
    _, transform = observation_transform(plain.observation_space, kind)
    transform = transform or (lambda x: x)
    np.testing.assert_array_equal(seen.reset(seed=3)[0], transform(plain.reset(seed=3)[0]))
    for action in (0, 1, 2):
        np.testing.assert_array_equal(seen.step(action)[0], transform(plain.step(action)[0]))


def test_scaled_maps_the_limits_to_one_and_batches_too():
    space = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32))
    scaled, transform = observation_transform(space, None)
    assert scaled == spaces.Box(-1.0, 1.0, (2,), np.float32)
    np.testing.assert_allclose(transform(np.array([[-2.0, 10.0], [0.0, 5.0]])), [[-1.0, 1.0], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("env_id", "kind"),
    [("CartPole-v1", "arctan"), ("Acrobot-v1", "scaled"), ("CartPole-v1", (2.4, 2.5, 0.21, 2.5))],
)
def test_the_shared_transform_gives_each_member_what_its_wrapper_gives(env_id, kind):
    env = TrainingEnv(lambda: make_environment(env_id, {"max_episode_steps": 20}, kind), [4, 5, 6])
    single = [make_environment(env_id, {"max_episode_steps": 20}, kind) for _ in range(3)]
    np.testing.assert_array_equal(env.reset(), [one.reset(seed=4 + i)[0] for i, one in enumerate(single)])
    rng = np.random.default_rng(0)
    for _ in range(60):
        actions = rng.integers(0, 2, 3)
        observations, rewards, dones, infos = env.step(actions)
        for index, one in enumerate(single):
            observation, reward, terminated, truncated, _ = one.step(actions[index])
            assert (rewards[index], dones[index]) == (reward, terminated or truncated)
            if dones[index]:
                np.testing.assert_array_equal(infos[index]["terminal_observation"], observation)
                observation, _ = one.reset()
            np.testing.assert_array_equal(observations[index], observation)


def test_members_with_different_transforms_keep_their_own():
    kinds = iter(["arctan", "scaled"])
    env = TrainingEnv(lambda: make_environment("Acrobot-v1", {}, next(kinds)), [0, 0])
    env.reset()
    plain = gym.make("Acrobot-v1")
    plain.reset(seed=0)
    observations, *_ = env.step(np.array([1, 1]))
    raw = plain.step(1)[0]
    np.testing.assert_array_equal(observations[0], np.arctan(raw))
    np.testing.assert_allclose(observations[1], raw / plain.observation_space.high, rtol=1e-6)


def test_scaling_without_limits_is_refused_and_raw_is_the_default_there():
    space = gym.make("CartPole-v1").observation_space
    with pytest.raises(InputError, match="component 1 has none"):
        observation_transform(space, "scaled")
    assert observation_transform(space, None) == (space, None)
    with pytest.raises(InputError, match="raw"):
        observation_transform(spaces.Discrete(3), "arctan")


def test_members_are_seeded_apart_and_state_continues_bit_for_bit():
    def make():
        return make_environment("CartPole-v1", {}, None)

    env = TrainingEnv(make, [11, 12])
    first = env.reset()
    assert not np.array_equal(first[0], first[1])
    actions = np.random.default_rng(0).integers(0, 2, size=(200, 2))
    for pair in actions[:37]:
        env.step(pair)
    other = TrainingEnv(make, [1, 2])
    other.reset()
    other.set_state(env.state())
    for pair in actions[37:]:
        for ours, theirs in zip(env.step(pair)[:3], other.step(pair)[:3], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert env.interactions == other.interactions == 400


def test_only_active_members_are_stepped_and_episodes_are_reported():
    ended = []
    env = TrainingEnv(lambda: make_environment("CartPole-v1", {"max_episode_steps": 3}, None), [0, 1])
    env.on_episode = lambda *episode: ended.append(episode)
    env.reset()
    env.active = np.array([True, False])
    for _ in range(3):
        observations, rewards, dones, infos = env.step(np.array([0, 0]))
    assert rewards.tolist() == [1.0, 0.0]
    assert dones.tolist() == [True, False]
    assert infos[0]["TimeLimit.truncated"] is True
    assert infos[0]["terminal_observation"].shape == (4,)
    assert ended == [(0, 3.0, 3)]
    assert env.interactions == 3
    assert env.lengths.tolist() == [0, 0]
    assert observations.shape == (2, 4)


def test_unknown_environment_names_the_nearest():
    with pytest.raises(InputError, match="CartPole-v1"):
        make_environment("CartPol-v1")
    with pytest.raises(InputError, match="are refused"):
        make_environment("CartPole-v1", {"gravitation": 3})


def test_an_environment_without_state_continues_with_a_fresh_episode_and_says_so():
    env = TrainingEnv(lambda: Faulty("nothing"), [3])
    env.reset()
    env.step(np.array([0]))
    state = env.state()
    assert env.exact is False
    assert state["members"] is None
    again = TrainingEnv(lambda: Faulty("nothing"), [3])
    again.set_state(state)
    assert again.interactions == 1
    assert again.lengths.tolist() == [0]


def test_numbers_divide_the_components():
    space = gym.make("CartPole-v1").observation_space
    seen, transform = observation_transform(space, [2.4, 2.5, 0.21, 2.5])
    np.testing.assert_allclose(transform(np.array([2.4, -5.0, 0.105, 0.0])), [1.0, -2.0, 0.5, 0.0])
    np.testing.assert_allclose(seen.high[[0, 2]], space.high[[0, 2]] / [2.4, 0.21], rtol=1e-6)
    assert np.isinf(seen.high[[1, 3]]).all()
    with pytest.raises(InputError, match="are 2 for observations of 4 components"):
        observation_transform(space, [1.0, 2.0])
