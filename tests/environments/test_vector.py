"""The native vectorised environments equal the scalar ones, bit for bit, in both autoreset modes."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import environments  # noqa: F401  (registers the ids)

CASES = [
    ("qrl/TargetSteering-v0", {}),
    ("qrl/TargetSteering-v0", {"observation": "binary", "with_stay": True}),
    ("qrl/TargetSteering-v0", {"bpm_noise": 3e-4, "phase_drift": 0.2, "step_limit": 4}),
    ("qrl/AwakeSteering-v0", {"step_limit": 4}),
    (
        "qrl/AwakeSteering-v0",
        {
            "plane": "vertical",
            "variant": "awake-2mm",
            "threshold": 1e-3,
            "bpm_noise": 1e-4,
            "quadrupole_drift": 0.3,
            "model_error": 0.05,
            "missing_bpm": 2,
            "corrector_limit": 2.5e-4,
            "step_limit": 5,
        },
    ),
]
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


def _assert_equal_infos(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if isinstance(value, dict):
            _assert_equal_infos(ours[key], value)
        elif value.dtype == object:
            assert ours[key].dtype == object
            for mine, other in zip(ours[key], value, strict=True):
                assert (mine is None) == (other is None)
                if other is not None:
                    np.testing.assert_array_equal(mine, other)
        else:
            assert ours[key].dtype == value.dtype
            np.testing.assert_array_equal(ours[key], value)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_envs", [1, 5])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_vector_equals_gymnasiums_loop_over_scalars(name, options, num_envs, mode):
    ours = gym.make_vec(name, num_envs=num_envs, autoreset_mode=mode, **options)
    loop = SyncVectorEnv([lambda: gym.make(name, **options)] * num_envs, autoreset_mode=mode)
    assert ours.single_observation_space == loop.single_observation_space
    assert ours.single_action_space == loop.single_action_space
    assert ours.observation_space == loop.observation_space
    assert ours.metadata["autoreset_mode"] is mode

    observations, infos = ours.reset(seed=7)
    expected, expected_infos = loop.reset(seed=7)
    np.testing.assert_array_equal(observations, expected)
    _assert_equal_infos(infos, expected_infos)
    ours.action_space.seed(3)
    ended = 0
    for step in range(40):
        actions = ours.action_space.sample()
        if step == 20:
            np.testing.assert_array_equal(ours.reset()[0], loop.reset()[0])
        result, reference = ours.step(actions), loop.step(actions)
        for mine, other in zip(result[:4], reference[:4], strict=True):
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)
        _assert_equal_infos(result[4], reference[4])
        assert result[0] in ours.observation_space
        ended += int((result[2] | result[3]).sum())
    assert ended > 0


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_copy_does_not_depend_on_its_neighbours(name, options):
    """Copy with seed 11 alone, and as the last of nine."""
    alone = gym.make_vec(name, num_envs=1, **options)
    among = gym.make_vec(name, num_envs=9, **options)
    seen, _ = alone.reset(seed=[11])
    crowd, _ = among.reset(seed=[*range(8), 11])
    np.testing.assert_array_equal(seen[0], crowd[8])
    among.action_space.seed(0)
    for _ in range(30):
        actions = among.action_space.sample()
        mine, theirs = alone.step(actions[8:]), among.step(actions)
        np.testing.assert_array_equal(mine[0][0], theirs[0][8])
        assert mine[1][0] == theirs[1][8]


def test_next_step_resets_on_the_step_after_the_end():
    env = gym.make_vec("qrl/TargetSteering-v0", num_envs=1, with_stay=True, step_limit=2)
    env.reset(seed=0)
    stay = np.array([2])
    assert env.step(stay)[3].tolist() == [False]
    last = env.step(stay)
    assert last[3].tolist() == [True]
    first = env.step(stay)
    assert first[1].tolist() == [0.0]
    assert first[3].tolist() == [False]
    assert first[0] != last[0]


def test_same_step_returns_the_end_in_the_info():
    env = gym.make_vec("qrl/TargetSteering-v0", num_envs=2, with_stay=True, autoreset_mode="SameStep")
    start, _ = env.reset(seed=0)
    kick = env.kicks
    for _ in range(15):
        observations, rewards, _, truncated, infos = env.step(np.array([2, 2]))
    assert truncated.all()
    np.testing.assert_array_equal(np.stack(infos["final_obs"]), start)
    np.testing.assert_array_equal(infos["final_info"]["kick"], kick[:, 0])
    assert infos["_final_obs"].all()
    assert (observations != start).all()
    assert (rewards < 0).all()


def test_modes_belong_to_the_object():
    first = gym.make_vec("qrl/AwakeSteering-v0", num_envs=1, autoreset_mode=AutoresetMode.SAME_STEP)
    second = gym.make_vec("qrl/AwakeSteering-v0", num_envs=1)
    assert first.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert second.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_without_a_seed_copies_differ_and_continue():
    env = gym.make_vec("qrl/TargetSteering-v0", num_envs=4)
    first, _ = env.reset()
    second, _ = env.reset()
    assert len(np.unique(np.concatenate([first, second]))) == 8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_envs": 0}, ValueError, r"num_envs: 0 is outside 1\.\."),
        ({"num_envs": True}, TypeError, "num_envs: True is not an integer"),
        (
            {"num_envs": 1, "autoreset_mode": "Disabled"},
            ValueError,
            "autoreset_mode: 'Disabled' is unknown; use",
        ),
        ({"num_envs": 1, "max_episode_steps": 0}, ValueError, r"max_episode_steps: 0 is outside 1\.\."),
        ({"num_envs": 1, "render_mode": "ansi"}, ValueError, "render_mode: 'ansi' is unknown"),
    ],
)
def test_bad_arguments_are_one_line(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        gym.make_vec("qrl/TargetSteering-v0", **options)


def test_bad_seeds_and_actions_are_one_line():
    env = gym.make_vec("qrl/TargetSteering-v0", num_envs=3)
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match=r"^seed: 2 seeds for 3 copies; give an integer or 3 seeds"):
        env.reset(seed=[1, 2])
    env.reset(seed=0)
    with pytest.raises(TypeError, match=r"^action: .* is not 3 integers; use 0..1"):
        env.step(np.zeros(2, dtype=int))
    with pytest.raises(ValueError, match=r"^action: .* is outside 0..1"):
        env.step(np.array([0, 1, 2]))


@pytest.mark.parametrize("name", ["qrl/TargetSteering-v0", "qrl/AwakeSteering-v0"])
def test_vector_rendering_is_one_picture_a_copy(name):
    env = gym.make_vec(name, num_envs=2, render_mode="rgb_array")
    env.reset(seed=0)
    frames = env.render()
    assert len(frames) == 2
    assert frames[0].dtype == np.uint8
    assert not np.array_equal(frames[0], frames[1])
    assert gym.make_vec(name, num_envs=2).render() is None
