"""The environments an agent learns in: several of one id, stepped together, seeded, accounted, with full state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from qrl.errors import InputError, nearest
from qrl.ledger import phase


class EnvironmentFault(ValueError):
    """An environment returned something no agent can learn from; names environment, member, step and action."""


@dataclass(frozen=True)
class Transform:
    """A map of observations, of single ones and of batches alike.

    ``kind`` is ``scaled``, from the limits of ``space`` to [-1, 1]; ``arctan`` of each component; or numbers by which
    the components are divided.
    """

    space: spaces.Box
    kind: str | tuple[float, ...]

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """The same shape, in float32."""
        if self.kind == "arctan":
            return np.arctan(observations).astype(np.float32)
        if isinstance(self.kind, tuple):
            return (observations / np.array(self.kind).reshape(self.space.shape)).astype(np.float32)
        low, span = self._limits
        return np.clip(2.0 * (observations - low) / span - 1.0, -1.0, 1.0).astype(np.float32)

    @cached_property
    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.space.low.astype(np.float64), self.space.high.astype(np.float64)
        return low, high - low


class TrainingEnv(DummyVecEnv):
    """Stable-Baselines3 vector of Gymnasium environments with exact state, episode records and a phase of its own.

    Args:
        make: builds one environment; called ``len(seeds)`` times.
        seeds: the seed of each member's first reset.

    ``active`` selects the members that ``step`` advances; the others keep their observation and report reward 0.
    An episode that ends is handed to ``on_episode(member, return, length)``.
    """

    def __init__(self, make: Callable[[], gym.Env], seeds: Sequence[int]) -> None:
        super().__init__([make for _ in seeds])
        self._first_seeds = [int(seed) for seed in seeds]
        self._seeds = list(self._first_seeds)
        self.active = np.ones(self.num_envs, dtype=bool)
        self.returns = np.zeros(self.num_envs)
        self.lengths = np.zeros(self.num_envs, dtype=np.int64)
        self.interactions = 0
        self.on_episode: Callable[[int, float, int], None] | None = None
        # A transform of ours is taken out of the members' steps and applied to all observations at once.
        transforms = [getattr(env, "func", None) for env in self.envs]
        shared = isinstance(transforms[0], Transform) and all(t == transforms[0] for t in transforms)
        self._transform = transforms[0] if shared else None
        self._members = [env.env for env in self.envs] if shared else self.envs  # type: ignore[attr-defined]
        if list(self.keys) != [None]:
            raise InputError(
                "environment.id",
                str(self.envs[0]),
                "has a dictionary or tuple observation",
                "flatten it with a wrapper",
            )

    @property
    def id(self) -> str:
        """Gymnasium id of the members, or the class name of one that was never registered."""
        spec = self.envs[0].spec
        return spec.id if spec is not None else type(self.envs[0].unwrapped).__name__

    def step_wait(self) -> VecEnvStepReturn:
        """Step the active members; ended episodes are reset, their last observation is in ``terminal_observation``."""
        with phase("environment"):
            return self._step()

    def _step(self) -> VecEnvStepReturn:
        active = self.active.tolist()
        infos: list[dict[str, Any]] = [{} for _ in active]
        rewards = np.zeros(self.num_envs)
        seen, stepped, ended = [], [], []
        for index, env in enumerate(self._members):
            if not active[index]:
                continue
            observation, rewards[index], terminated, truncated, info = env.step(self.actions[index])
            info["TimeLimit.truncated"] = bool(truncated and not terminated)
            infos[index] = info
            seen.append(observation)
            stepped.append(index)
            if terminated or truncated:
                ended.append(index)
        observations = np.asarray(seen)
        if self._transform is not None:
            observations = self._transform(observations)
        self._check(stepped, observations, rewards)
        current = self.buf_obs[None]
        if len(stepped) == self.num_envs:
            current[...] = observations
        else:
            current[stepped] = observations
        self.returns += rewards
        self.lengths += self.active
        self.buf_rews[:] = rewards
        self.buf_dones[:] = False
        before = self.interactions
        for index in ended:
            row = stepped.index(index)
            self.interactions = before + row + 1
            total, length = float(self.returns[index]), int(self.lengths[index])
            infos[index]["terminal_observation"] = observations[row]
            infos[index]["episode"] = {"r": total, "l": length}
            current[index], self.reset_infos[index] = self.envs[index].reset()
            if self.on_episode is not None:
                self.on_episode(index, total, length)
            self.returns[index], self.lengths[index] = 0.0, 0
            self.buf_dones[index] = True
        self.interactions = before + len(stepped)
        return current.copy(), self.buf_rews.copy(), self.buf_dones.copy(), infos

    def _check(self, stepped: list[int], observations: np.ndarray, rewards: np.ndarray) -> None:
        # A NaN that enters here surfaces much later as a complaint about the policy; it is named where it arises.
        if np.isfinite(rewards).all() and np.isfinite(observations).all():
            return
        for row, index in enumerate(stepped):
            good = np.isfinite(rewards[index])
            if good and np.isfinite(observations[row]).all():
                continue
            raise EnvironmentFault(
                f"{self.id}: non-finite {'observation' if good else 'reward'} from member {index} at step "
                f"{self.lengths[index] + 1} of its episode after action "
                f"{np.asarray(self.actions[index]).tolist()}; correct the environment"
            )

    def state(self) -> dict[str, Any]:
        """Everything that decides what the members do next, as NumPy arrays and JSON values.

        ``members`` is none where an environment's state cannot be captured; see ``exact``.
        """
        from environments.state import capture

        return {
            "members": [capture(env) for env in self.envs] if self.exact else None,
            "observations": self.buf_obs[None].copy(),
            "returns": self.returns.copy(),
            "lengths": self.lengths.copy(),
            "interactions": self.interactions,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned, in this or another process.

        Members whose state could not be captured begin a fresh episode, seeded by the interactions so far.
        """
        from environments.state import restore

        self.interactions = int(state["interactions"])
        if state["members"] is None:
            fresh = np.random.SeedSequence(self._first_seeds, spawn_key=(self.interactions,))
            self._seeds = [int(seed) for seed in fresh.generate_state(self.num_envs)]
            self.reset()
            self.returns[:], self.lengths[:] = 0.0, 0
            return
        if len(state["members"]) != self.num_envs:
            raise InputError(
                "state.members",
                len(state["members"]),
                f"environments do not fit {self.num_envs}",
                "use the same n_envs",
            )
        for env, member in zip(self.envs, state["members"], strict=True):
            restore(env, member)
        self.buf_obs[None][:] = state["observations"]
        self.returns[:] = state["returns"]
        self.lengths[:] = state["lengths"]
        self._reset_seeds()

    @cached_property
    def exact(self) -> bool:
        """Whether ``state`` is complete: false for an environment that has neither a state nor an adapter."""
        from environments.state import is_exact

        return all(is_exact(env) for env in self.envs)


def make_environment(
    env_id: str, options: dict[str, Any] | None = None, observation: str | Sequence[float] | None = None
) -> gym.Env:
    """Build one environment with the study's observation transform.

    Raises:
        InputError: unknown id, options the environment refuses, or a transform that its space does not allow.
    """
    with making(env_id, options):
        env = gym.make(env_id, disable_env_checker=True, **(options or {}))
    space, transform = observation_transform(env.observation_space, observation)
    if transform is None:
        return env
    return gym.wrappers.TransformObservation(env, transform, space)


@contextmanager
def making(env_id: str, options: dict[str, Any] | None) -> Iterator[None]:
    """Whatever goes wrong inside, while Gymnasium makes an environment, is an ``InputError`` that names the field."""
    unknown = (
        gym.error.NameNotFound,
        gym.error.NamespaceNotFound,
        gym.error.VersionNotFound,
        gym.error.DeprecatedEnv,
    )
    try:
        yield
    except unknown:
        raise unknown_environment(env_id) from None
    except ModuleNotFoundError as error:
        raise InputError(
            "environment.id", env_id, f"needs {error.name}", f"pip install {error.name}"
        ) from None
    except gym.error.Error as error:
        raise InputError("environment.id", env_id, f"cannot be made ({error})", "see `qrl envs`") from None
    except (TypeError, ValueError) as error:
        why, fix = f"are refused by {env_id} ({error})", "see the environment's docstring"
        raise InputError("environment.options", options, why, fix) from None


def unknown_environment(env_id: str) -> InputError:
    """The error for an id that is not registered."""
    hint = nearest(env_id, gym.registry)
    if not hint.startswith("did you mean"):
        hint = "`qrl envs` lists ours; any id of Gymnasium's works too"
    return InputError("environment.id", env_id, "is not a registered environment", hint)


def observation_transform(
    space: spaces.Space, kind: str | Sequence[float] | None
) -> tuple[spaces.Space, Transform | None]:
    """The observation space an agent sees and the function that maps into it (none: unchanged).

    ``scaled`` maps each component from the space's limits to [-1, 1]; ``arctan`` applies arctan to each;
    ``raw`` changes nothing; numbers divide the components, one each. By default bounded boxes are scaled and
    everything else is left raw. Works on single observations and on batches alike.

    Raises:
        InputError: ``scaled`` for an unbounded component, a transform of a space that is no box, or another count of
            numbers than components.
    """
    box = space if isinstance(space, spaces.Box) else None
    bounded = box is not None and bool(np.isfinite(box.low).all() and np.isfinite(box.high).all())
    if kind is None:
        kind = "scaled" if bounded else "raw"
    if kind == "raw":
        return space, None
    if box is None:
        raise InputError(
            "environment.observation",
            kind,
            f"does not fit the observation space {space}",
            'write observation = "raw"',
        )
    if kind == "arctan":
        limit = np.full(box.shape, np.pi / 2, dtype=np.float32)
        return spaces.Box(-limit, limit, dtype=np.float32), Transform(box, kind)
    if not isinstance(kind, str):
        return _divided(box, tuple(kind))
    if not bounded:
        index = int(np.argmin(np.isfinite(box.low.ravel()) & np.isfinite(box.high.ravel())))
        raise InputError(
            "environment.observation",
            kind,
            f"needs limits, but component {index} has none",
            'write observation = "arctan" or "raw"',
        )
    one = np.ones(box.shape, dtype=np.float32)
    return spaces.Box(-one, one, dtype=np.float32), Transform(box, kind)


def _divided(box: spaces.Box, divisors: tuple[float, ...]) -> tuple[spaces.Space, Transform]:
    size = int(np.prod(box.shape))
    if len(divisors) != size:
        why, fix = f"are {len(divisors)} for observations of {size} components", "give one for each"
        raise InputError("environment.observation", list(divisors), why, fix)
    by = np.array(divisors).reshape(box.shape)
    limits = ((limit / by).astype(np.float32) for limit in (box.low, box.high))
    return spaces.Box(*limits, dtype=np.float32), Transform(box, divisors)
