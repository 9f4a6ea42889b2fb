"""Short tasks with everything random in their start: the machinery that scalar and vectorised environments share.

`Task` is the rules as pure functions of batches, one copy a row, and holds no state. `TaskEnv` is Gymnasium's scalar
environment around one row, `TaskVectorEnv` the native vectorised one around many; both call the same functions, which
treat each row by itself, so their trajectories agree bit for bit. A copy's state is a row of numbers, drawn at the
start of an episode from its own generator; no step draws anything.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode

from environments.beam_line import check_options, check_render_mode
from environments.copies import CopiesEnv, seeds_of_copies
from environments.options import integer, options_from
from environments.state import generator_from, generator_state, restore_space, space_state

__all__ = ["Step", "Task", "TaskEnv", "TaskVectorEnv", "as_seen"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Observations = npt.NDArray[np.float32]

RENDER_FPS = 4
_SPACES = ("action_space", "observation_space", "single_action_space", "single_observation_space")


class Step(NamedTuple):
    """What a batch of actions leads to; every array has one row a copy."""

    rows: Floats
    """Following state, (N, width)."""
    reward: Floats
    """(N,), 1."""
    ended: npt.NDArray[np.bool_]
    """Whether the episode terminates, (N,)."""


class Task(ABC):
    """The rules of a task with numbered actions, for N copies at once, without state."""

    options: Any
    """The frozen options dataclass it was built from; `asdict` of it is JSON."""
    observation_space: gym.spaces.Box
    action_space: gym.spaces.Discrete
    width: int
    """Numbers in a copy's state."""

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Floats:
        """The state (width,) in which an episode starts."""

    @abstractmethod
    def step(self, rows: Floats, actions: Integers) -> Step:
        """What actions (N,) in states (N, width) lead to."""

    @abstractmethod
    def observe(self, rows: Floats) -> Observations:
        """Observations (N, d) of states (N, width)."""

    @abstractmethod
    def details(self, rows: Floats) -> dict[str, Floats]:
        """Figures for the info dictionary, each (N,)."""

    @abstractmethod
    def frame(self, row: Floats) -> npt.NDArray[np.uint8]:
        """Picture (height, width, 3) of one copy's state (width,)."""

    def accept(self, actions: Any, n: int) -> Integers:
        """Actions (n,) as integers. Raises: TypeError where they are none, ValueError where out of range."""
        array, last = np.asarray(actions), int(self.action_space.n) - 1
        if array.dtype.kind not in "iu" or array.shape != (n,):
            raise TypeError(f"action: {actions!r} is not {n} integer{'s' * (n > 1)}; use 0..{last}")
        if array.min() < 0 or array.max() > last:
            raise ValueError(f"action: {actions!r} is outside 0..{last}; use one of the actions")
        return array.astype(np.int64)


class TaskEnv(gym.Env[Observations, np.int64]):
    """Gymnasium environment around one copy of a `Task`, which is its attribute `task`."""

    # an instance attribute to Gymnasium, so no ClassVar
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS}  # noqa: RUF012

    def __init__(self, task: Task, render_mode: str | None = None) -> None:
        check_render_mode(render_mode)
        self.task = task
        self.render_mode = render_mode
        self.observation_space: gym.Space[Any] = task.observation_space
        self.action_space: gym.Space[Any] = task.action_space
        self._row: Floats | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode; with a `seed` also start the random stream anew. `options` are not used."""
        super().reset(seed=seed)
        self._row = self.task.draw(self.np_random)[None]
        return self._look()

    def step(self, action: Any) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Act. Raises: ValueError or TypeError for an action outside the space; ResetNeeded before the first reset."""
        made = self.task.step(self._started(), self.task.accept(np.asarray(action)[None], 1))
        self._row = made.rows
        observation, info = self._look()
        return observation, float(made.reward[0]), bool(made.ended[0]), False, info

    def render(self) -> npt.NDArray[np.uint8] | None:  # type: ignore[override]
        """The task as a picture, (height, width, 3), or None without a render mode."""
        return None if self.render_mode is None else self.task.frame(self._started()[0])

    def state(self) -> dict[str, Any]:
        """Everything that decides what follows, as NumPy arrays and JSON values; `set_state` takes it back."""
        return {
            "options": asdict(self.task.options),
            "row": None if self._row is None else self._row.copy(),
            "np_random": generator_state(self._np_random),
            "np_random_seed": self._np_random_seed,
            **{name: space_state(getattr(self, name)) for name in _SPACES[:2]},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, as given by `state` of an environment with the same options.

        Raises: ValueError where the options differ.
        """
        check_options(self.task, state)
        self._row = None if state["row"] is None else np.array(state["row"], dtype=np.float64)
        self._np_random = generator_from(state["np_random"])
        self._np_random_seed = state["np_random_seed"]
        for name in _SPACES[:2]:
            restore_space(getattr(self, name), state[name])

    def _look(self) -> tuple[Observations, dict[str, Any]]:
        row = self._started()
        details = {name: float(values[0]) for name, values in self.task.details(row).items()}
        return self.task.observe(row)[0], details

    def _started(self) -> Floats:
        if self._row is None:
            raise gym.error.ResetNeeded("environment: not started; call reset() before step() or render()")
        return self._row


class TaskVectorEnv(CopiesEnv):
    """Native vectorised environment: `num_envs` copies of a `Task` stepped as one batch.

    Seeds and `autoreset_mode` as in `environments.copies.CopiesEnv`; `max_episode_steps` truncates
    episodes after so many steps.
    """

    task_type: Callable[[Any], Task]
    """Makes what is copied from its options."""
    options_type: type[Any]
    """Its options, which are the keywords of the constructor."""

    def __init__(
        self,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **options: Any,
    ) -> None:
        self.task = type(self).task_type(options_from(self.options_type, options))
        super().__init__(self.task, num_envs, render_mode, autoreset_mode)
        limit = 2**62 if max_episode_steps is None else max_episode_steps
        self._step_limit = integer("max_episode_steps", limit, low=1, high=2**62)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._rows = np.zeros((num_envs, self.task.width))

    def reset(  # type: ignore[override]
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode in every copy; see the class for seeds. `options` are not used.

        Raises: ValueError where a list of seeds has another length than `num_envs`.
        """
        for row, own in enumerate(seeds_of_copies(seed, self.num_envs)):
            if own is None and self._generators[row] is not None:
                continue
            self._generators[row], used = seeding.np_random(own)
            if row == 0:
                self._np_random, self._np_random_seed = self._generators[0], int(used)
        self._has_reset = True
        self._ended[:] = False
        self._restart(np.ones(self.num_envs, dtype=np.bool_))
        return self.task.observe(self._rows), self._infos(self.task.details(self._rows))

    def step(
        self, actions: npt.NDArray[Any]
    ) -> tuple[Observations, Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Step every copy; observations (num_envs, d), rewards, terminations and truncations (num_envs,).

        Raises: ValueError or TypeError for actions outside the space; ResetNeeded before the first reset.
        """
        if not self._has_reset:
            raise gym.error.ResetNeeded("environment: not started; call reset() before step()")
        made = self.task.step(self._rows, self.task.accept(np.asarray(actions), self.num_envs))
        fresh = self._ended.copy()
        self._rows = np.where(fresh[:, None], self._rows, made.rows)
        self._elapsed += ~fresh
        self._restart(fresh)
        rewards = np.where(fresh, 0.0, made.reward)
        terminated = ~fresh & made.ended
        truncated = ~fresh & (self._elapsed >= self._step_limit)
        observations, details = self.task.observe(self._rows), self.task.details(self._rows)
        infos: dict[str, Any] = {}
        ended = terminated | truncated
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._ended = ended
        elif ended.any():
            for row in np.flatnonzero(ended):
                last = {name: float(values[row]) for name, values in details.items()}
                infos = self._add_info(
                    infos, {"final_obs": observations[row].copy(), "final_info": last}, int(row)
                )
            self._restart(ended)
            observations, details = self.task.observe(self._rows), self.task.details(self._rows)
        return observations, rewards, terminated, truncated, {**infos, **self._infos(details)}

    def render(self) -> tuple[npt.NDArray[np.uint8], ...] | None:  # type: ignore[override]
        """One picture a copy, or None without a render mode."""
        return None if self.render_mode is None else tuple(self.task.frame(row) for row in self._rows)

    def state(self) -> dict[str, Any]:
        """Everything that decides what follows; see `CopiesEnv.state`."""
        generators = [generator_state(generator) for generator in self._generators]
        return {**super().state(), "rows": self._rows.copy(), "generators": generators}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`; see `CopiesEnv.set_state`."""
        super().set_state(state)
        self._rows = np.array(state["rows"], dtype=np.float64)
        self._generators = [generator_from(saved) for saved in state["generators"]]
        self._np_random = self._generators[0]

    def _restart(self, rows: npt.NDArray[np.bool_]) -> None:
        """Draw a new start in the rows of a mask."""
        for row in np.flatnonzero(rows):
            generator = self._generators[row]
            assert generator is not None
            self._rows[row] = self.task.draw(generator)
            self._elapsed[row] = 0

    def _infos(self, details: dict[str, Floats]) -> dict[str, Any]:
        every = np.ones(self.num_envs, dtype=np.bool_)
        pairs = [(name, values.copy(), f"_{name}", every.copy()) for name, values in details.items()]
        return {
            key: value for name, values, mask, told in pairs for key, value in ((name, values), (mask, told))
        }


def as_seen(env: gym.Env[Any, Any], observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Observations (N, ...) of the innermost environment as the observation wrappers around it show them."""
    wrappers = []
    layer: Any = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.ObservationWrapper):
            wrappers.append(layer)
        layer = layer.env
    for wrapper in reversed(wrappers):
        observations = np.stack([wrapper.observation(row) for row in observations])
    return observations
