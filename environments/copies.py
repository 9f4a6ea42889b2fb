"""What the native vectorised environments share: spaces, seeds and marks of their copies, and the state of these."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from environments.beam_line import RENDER_FPS, Observations, check_options, check_render_mode
from environments.options import integer
from environments.state import restore_space, space_state

__all__ = ["CopiesEnv", "parsed_autoreset_mode", "seeds_of_copies"]

_SPACES = ("action_space", "observation_space", "single_action_space", "single_observation_space")


class _Model(Protocol):
    """What a copy is a copy of."""

    @property
    def observation_space(self) -> gym.Space[Any]: ...
    @property
    def action_space(self) -> gym.Space[Any]: ...
    @property
    def options(self) -> Any: ...


class CopiesEnv(VectorEnv[Observations, npt.NDArray[Any], npt.NDArray[Any]]):
    """`num_envs` copies of one model, stepped as one batch; what is stepped, and how, is a subclass's.

    Seeds as in Gymnasium's SyncVectorEnv: an integer s seeds copy i with s + i, a list gives one seed (or
    None) a copy; a copy behaves bit for bit like the scalar environment with that seed. `autoreset_mode` is
    `NEXT_STEP` (the step after an end is a reset step with reward 0, whose action is ignored) or `SAME_STEP`
    (the returned observation already is the next start; the last one is in `info["final_obs"]`, its info in
    `info["final_info"]`).
    """

    # an instance attribute to Gymnasium, so no ClassVar
    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": RENDER_FPS,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self, model: _Model, num_envs: int, render_mode: str | None, autoreset_mode: AutoresetMode | str
    ) -> None:
        check_render_mode(render_mode)
        self._model = model
        self.num_envs = integer("num_envs", num_envs, low=1, high=1_000_000)
        self.render_mode = render_mode
        self.autoreset_mode = parsed_autoreset_mode(autoreset_mode)
        # metadata is shared by the class; the mode belongs to this object
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = model.observation_space
        self.single_action_space = model.action_space
        self.observation_space = batch_space(model.observation_space, num_envs)
        self.action_space = batch_space(model.action_space, num_envs)
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self._has_reset = False

    def state(self) -> dict[str, Any]:
        """Everything that decides what follows, as NumPy arrays and JSON values; `set_state` takes it back."""
        return {
            "options": asdict(self._model.options),
            "num_envs": self.num_envs,
            "has_reset": self._has_reset,
            "elapsed": self._elapsed.copy(),
            "ended": self._ended.copy(),
            "np_random_seed": self._np_random_seed,
            **{name: space_state(getattr(self, name)) for name in _SPACES},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, as given by `state` of an environment with the same options and number of copies.

        Raises: ValueError where they differ.
        """
        check_options(self._model, state)
        if state["num_envs"] != self.num_envs:
            raise ValueError(
                f"num_envs: the state holds {state['num_envs']} copies, this environment {self.num_envs}; "
                f"build it with num_envs={state['num_envs']}"
            )
        self._has_reset = bool(state["has_reset"])
        self._elapsed = np.array(state["elapsed"], dtype=np.int64)
        self._ended = np.array(state["ended"], dtype=np.bool_)
        self._np_random_seed = state["np_random_seed"]
        for name in _SPACES:
            restore_space(getattr(self, name), state[name])


def seeds_of_copies(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """One seed a copy, or None: an integer s counts up from s. Raises: ValueError for a list of another length."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int | np.integer):
        return [int(seed) + row for row in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(
            f"seed: {len(seed)} seeds for {num_envs} copies; give an integer or {num_envs} seeds"
        )
    return [None if own is None else int(own) for own in seed]


def parsed_autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """The mode of that name, if it is one that ours have. Raises: ValueError otherwise."""
    known = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)
    for candidate in known:
        if mode in (candidate, candidate.value):
            return candidate
    raise ValueError(f"autoreset_mode: {mode!r} is unknown; use {known[0].value!r} or {known[1].value!r}")
