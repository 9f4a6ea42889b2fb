"""The native vectorised environment around many copies of a `BeamLine`, stepped as one batch."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from environments.beam_line import (
    RENDER_FPS,
    BeamLine,
    Floats,
    Observations,
    Outcome,
    check_options,
    check_render_mode,
    info_of,
    start_clock,
)
from environments.options import integer
from environments.state import generator_from, generator_state, restore_space, space_state

__all__ = ["BeamLineVectorEnv", "parsed_autoreset_mode", "seeds_of_copies"]


class BeamLineVectorEnv(VectorEnv[Observations, npt.NDArray[Any], npt.NDArray[Any]]):
    """Native vectorised environment: `num_envs` copies of a `BeamLine` stepped as one batch.

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
        self,
        line: BeamLine,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
    ) -> None:
        check_render_mode(render_mode)
        self.line = line
        self.num_envs = integer("num_envs", num_envs, low=1, high=1_000_000)
        self.render_mode = render_mode
        self.autoreset_mode = parsed_autoreset_mode(autoreset_mode)
        # metadata is shared by the class; the mode belongs to this object
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.step_limit = line.step_limit
        if max_episode_steps is not None:
            cap = integer("max_episode_steps", max_episode_steps, low=1, high=1_000_000)
            self.step_limit = min(cap, line.step_limit)
        self.single_observation_space = line.observation_space
        self.single_action_space = line.action_space
        self.observation_space = batch_space(line.observation_space, num_envs)
        self.action_space = batch_space(line.action_space, num_envs)
        self._start_randoms: list[np.random.Generator | None] = [None] * num_envs
        self._noise_randoms: list[np.random.Generator | None] = [None] * num_envs
        self._kicks = np.zeros((num_envs, line.n_correctors))
        self._readings = np.zeros((num_envs, line.n_bpms))
        self._clock = np.zeros(num_envs, dtype=np.int64)
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self._has_reset = False

    @property
    def clock(self) -> npt.NDArray[np.int64]:
        """Steps since the last seeded reset, over episodes, (num_envs,): what a drift follows."""
        return self._clock.copy()

    @property
    def kicks(self) -> Floats:
        """Present corrector kicks, (num_envs, n_correctors), rad."""
        return self._kicks.copy()

    def reset(  # type: ignore[override]
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode in every copy; see the class for seeds, and `BeamLineEnv.reset` for `options`.

        Raises: ValueError where a list of seeds has another length than `num_envs`, ValueError or TypeError for a
        clock that is no count.
        """
        clock = start_clock(options)
        seeds = seeds_of_copies(seed, self.num_envs)
        for row, own in enumerate(seeds):
            if own is None and self._start_randoms[row] is not None:
                continue
            generator, used = seeding.np_random(own)
            self._start_randoms[row] = generator
            self._noise_randoms[row] = generator.spawn(1)[0]
            self._clock[row] = 0
            if row == 0:
                self._np_random, self._np_random_seed = generator, int(used)
        if clock is not None:
            self._clock[:] = clock
        self._has_reset = True
        self._ended[:] = False
        self._restart(np.ones(self.num_envs, dtype=np.bool_))
        observations, outcome = self._look(np.arange(self.num_envs))
        return observations, self._infos(outcome)

    def step(
        self, actions: npt.NDArray[Any]
    ) -> tuple[Observations, Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Step every copy; observations (num_envs, ...), rewards, terminations and truncations (num_envs,).

        Raises: ValueError or TypeError for actions outside the space; ResetNeeded before the first reset.
        """
        if not self._has_reset:
            raise gym.error.ResetNeeded("environment: not started; call reset() before step()")
        accepted = self.line.accept(np.asarray(actions), self.num_envs)
        fresh = self._ended.copy()
        moved = ~fresh
        self._kicks = np.where(moved[:, None], self.line.move(self._kicks, accepted), self._kicks)
        self._clock += moved
        self._elapsed += moved
        self._restart(fresh)
        observations, outcome = self._look(np.arange(self.num_envs))
        rewards = np.where(moved, outcome.reward, 0.0)
        terminated = moved & (outcome.solved | outcome.lost)
        truncated = moved & (self._elapsed >= self.step_limit)
        infos: dict[str, Any] = {}
        ended = terminated | truncated
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._ended = ended
        elif ended.any():
            infos, outcome = self._restart_ended(np.flatnonzero(ended), observations, outcome)
        return observations, rewards, terminated, truncated, {**infos, **self._infos(outcome)}

    def render(self) -> tuple[npt.NDArray[np.uint8], ...] | None:  # type: ignore[override]
        """One picture a copy, or None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(
            self.line.frame(
                self._kicks[row], int(self._clock[row]), self._readings[row], int(self._elapsed[row])
            )
            for row in range(self.num_envs)
        )

    def state(self) -> dict[str, Any]:
        """Everything that decides what follows, as NumPy arrays and JSON values; `set_state` takes it
        back."""
        return {
            "options": asdict(self.line.options),
            "num_envs": self.num_envs,
            "has_reset": self._has_reset,
            "kicks": self._kicks.copy(),
            "readings": self._readings.copy(),
            "clock": self._clock.copy(),
            "elapsed": self._elapsed.copy(),
            "ended": self._ended.copy(),
            "start_randoms": [generator_state(generator) for generator in self._start_randoms],
            "noise_randoms": [generator_state(generator) for generator in self._noise_randoms],
            "np_random_seed": self._np_random_seed,
            "action_space": space_state(self.action_space),
            "observation_space": space_state(self.observation_space),
            "single_action_space": space_state(self.single_action_space),
            "single_observation_space": space_state(self.single_observation_space),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, as given by `state` of an environment with the same options and number of
        copies.

        Raises: ValueError where they differ.
        """
        check_options(self.line, state)
        if state["num_envs"] != self.num_envs:
            raise ValueError(
                f"num_envs: the state holds {state['num_envs']} copies, this environment {self.num_envs}; "
                f"build it with num_envs={state['num_envs']}"
            )
        self._has_reset = bool(state["has_reset"])
        self._kicks = np.array(state["kicks"], dtype=np.float64)
        self._readings = np.array(state["readings"], dtype=np.float64)
        self._clock = np.array(state["clock"], dtype=np.int64)
        self._elapsed = np.array(state["elapsed"], dtype=np.int64)
        self._ended = np.array(state["ended"], dtype=np.bool_)
        self._start_randoms = [generator_from(saved) for saved in state["start_randoms"]]
        self._noise_randoms = [generator_from(saved) for saved in state["noise_randoms"]]
        self._np_random, self._np_random_seed = self._start_randoms[0], state["np_random_seed"]
        for name in ("action_space", "observation_space", "single_action_space", "single_observation_space"):
            restore_space(getattr(self, name), state[name])

    def _restart(self, rows: npt.NDArray[np.bool_]) -> None:
        """Draw new start kicks in the rows of a mask."""
        for row in np.flatnonzero(rows):
            generator = self._start_randoms[row]
            assert generator is not None
            self._kicks[row] = self.line.draw_start(generator, int(self._clock[row]))
            self._elapsed[row] = 0

    def _look(self, rows: npt.NDArray[np.int64]) -> tuple[Observations, Outcome]:
        outcome = self.line.outcome(self._kicks[rows], self._clock[rows])
        noise = [generator for row in rows if (generator := self._noise_randoms[row]) is not None]
        readings = self.line.read(outcome.orbit, noise)
        self._readings[rows] = readings
        return self.line.encode(readings), outcome

    def _restart_ended(
        self, rows: npt.NDArray[np.int64], observations: Observations, outcome: Outcome
    ) -> tuple[dict[str, Any], Outcome]:
        """Reset the `rows` within this step: their ends go to `final_obs` and `final_info`, their starts
        replace them."""
        infos: dict[str, Any] = {}
        for row in rows:
            final = {"final_obs": observations[row].copy(), "final_info": info_of(outcome, row)}
            infos = self._add_info(infos, final, int(row))
        mask = np.zeros(self.num_envs, dtype=np.bool_)
        mask[rows] = True
        self._restart(mask)
        observations[rows], started = self._look(rows)
        details = {name: values.copy() for name, values in outcome.details.items()}
        for name, values in started.details.items():
            details[name][rows] = values
        solved = outcome.solved.copy()
        solved[rows] = started.solved
        return infos, outcome._replace(details=details, solved=solved)

    def _infos(self, outcome: Outcome) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for name, values in {**outcome.details, "success": outcome.solved}.items():
            infos[name] = values.copy()
            infos[f"_{name}"] = np.ones(self.num_envs, dtype=np.bool_)
        return infos


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
