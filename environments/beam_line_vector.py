"""The native vectorised environment around many copies of a `BeamLine`, stepped as one batch."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode

from environments.beam_line import (
    BeamLine,
    Floats,
    Observations,
    Outcome,
    info_of,
    start_clock,
)
from environments.copies import CopiesEnv, seeds_of_copies
from environments.options import integer, options_from
from environments.state import generator_from, generator_state

__all__ = ["BeamLineVectorEnv"]


class BeamLineVectorEnv(CopiesEnv):
    """Native vectorised environment: `num_envs` copies of a `BeamLine` stepped as one batch.

    Seeds and `autoreset_mode` as in `environments.copies.CopiesEnv`; `max_episode_steps` can only shorten episodes.
    """

    line_type: Callable[[Any], BeamLine]
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
        self.line = type(self).line_type(options_from(self.options_type, options))
        super().__init__(self.line, num_envs, render_mode, autoreset_mode)
        line = self.line
        self.step_limit = line.step_limit
        if max_episode_steps is not None:
            cap = integer("max_episode_steps", max_episode_steps, low=1, high=1_000_000)
            self.step_limit = min(cap, line.step_limit)
        self._start_randoms: list[np.random.Generator | None] = [None] * num_envs
        self._noise_randoms: list[np.random.Generator | None] = [None] * num_envs
        self._kicks = np.zeros((num_envs, line.n_correctors))
        self._readings = np.zeros((num_envs, line.n_bpms))
        self._clock = np.zeros(num_envs, dtype=np.int64)

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
        """Everything that decides what follows; see `CopiesEnv.state`."""
        return {
            **super().state(),
            "kicks": self._kicks.copy(),
            "readings": self._readings.copy(),
            "clock": self._clock.copy(),
            "start_randoms": [generator_state(generator) for generator in self._start_randoms],
            "noise_randoms": [generator_state(generator) for generator in self._noise_randoms],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`; see `CopiesEnv.set_state`."""
        super().set_state(state)
        self._kicks = np.array(state["kicks"], dtype=np.float64)
        self._readings = np.array(state["readings"], dtype=np.float64)
        self._clock = np.array(state["clock"], dtype=np.int64)
        self._start_randoms = [generator_from(saved) for saved in state["start_randoms"]]
        self._noise_randoms = [generator_from(saved) for saved in state["noise_randoms"]]
        self._np_random = self._start_randoms[0]

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
