"""One beam line, any number of copies: the machinery that scalar and vectorised environments share.

`BeamLine` is the physics as pure functions of batches, one copy a row, and holds no state. `BeamLineEnv` is
Gymnasium's scalar environment around one row, `environments.beam_line_vector` has the native vectorised one
around many. Both call the same functions in the same order with the same random streams, and those functions
treat each row by itself (no matrix products whose rounding depends on the batch), so their trajectories agree
bit for bit.

A copy's state is its corrector kicks (rad), its clock (steps since the last seeded reset, which optics drift
reads) and the steps of the running episode; its randomness is two generators, one for start states
(Gymnasium's `np_random`) and one spawned from it for the noise of readings, so that noise never changes which
start states follow.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from environments.options import integer
from environments.state import generator_from, generator_state, restore_space, space_state

__all__ = ["BeamLine", "BeamLineEnv", "Outcome", "check_options", "check_render_mode", "info_of"]

Floats = npt.NDArray[np.float64]
Observations = npt.NDArray[np.float32]

# observations are clipped to their space, which leaves this many standard deviations for noise
NOISE_MARGIN = 5.0
_PROBE_DRAWS = 4096
RENDER_FPS = 4


class Outcome(NamedTuple):
    """What a batch of settings leads to; every array has one row a copy."""

    orbit: Floats
    """True beam position at the monitors, (N, n_bpms), m."""
    reward: Floats
    """Reward of arriving here, (N,), 1."""
    solved: npt.NDArray[np.bool_]
    """Goal reached, (N,)."""
    lost: npt.NDArray[np.bool_]
    """Beam outside its limits, (N,)."""
    details: dict[str, Floats]
    """Further figures for the info dictionary, each (N,)."""


class BeamLine(ABC):
    """The physics of a beam line for N copies at once, without state.

    A subclass sets the attributes below in its constructor, then calls `check_starts`.
    """

    options: Any
    """The frozen options dataclass it was built from; `asdict` of it is JSON."""
    n_correctors: int
    n_bpms: int
    step_limit: int
    """Steps after which an episode is truncated."""
    corrector_limit: float
    """Largest kick of a corrector, rad."""
    initial_kick: float
    """Half-width of the uniform start kicks, rad."""
    bpm_noise: float
    """Standard deviation of a monitor's reading, m."""
    reject_solved: bool
    """Draw start kicks again until the goal is not met."""
    observation_space: gym.spaces.Box
    action_space: gym.Space[Any]

    @abstractmethod
    def accept(self, actions: Any, n: int) -> npt.NDArray[Any]:
        """Actions of n copies as an array that `move` trusts. Raises: ValueError or TypeError in one line."""

    @abstractmethod
    def move(self, kicks: Floats, actions: npt.NDArray[Any]) -> Floats:
        """Kicks (N, n_correctors) after `actions`, within the corrector limit."""

    @abstractmethod
    def outcome(self, kicks: Floats, clock: npt.NDArray[np.int64]) -> Outcome:
        """What the settings `kicks` (N, n_correctors) lead to at step count `clock` (N,)."""

    @abstractmethod
    def encode(self, readings: Floats) -> Observations:
        """Observations (N, ...) from readings (N, n_bpms) in metre."""

    @abstractmethod
    def frame(self, kicks: Floats, clock: int, readings: Floats, step: int) -> npt.NDArray[np.uint8]:
        """Picture (height, width, 3) of one copy, given its kicks, clock, readings (n_bpms,) and step in
        the episode."""

    def draw_start(self, generator: np.random.Generator, clock: int) -> Floats:
        """Start kicks (n_correctors,): uniform, drawn again until the goal is not met (unless
        `reject_solved` is off)."""
        now = np.array([clock], dtype=np.int64)
        while True:
            kicks = generator.uniform(-self.initial_kick, self.initial_kick, size=self.n_correctors)
            if not self.reject_solved or not self.outcome(kicks[None, :], now).solved[0]:
                return kicks

    def check_starts(self) -> None:
        """Refuse options under which fewer than one start in a thousand is unsolved. Raises: ValueError."""
        if not self.reject_solved:
            return
        kicks = np.random.default_rng(0).uniform(
            -self.initial_kick, self.initial_kick, size=(_PROBE_DRAWS, self.n_correctors)
        )
        # at rest and at both extremes of a drift, whose period is 2000 steps
        unsolved = 1.0 - max(
            float(self.outcome(kicks, np.full(_PROBE_DRAWS, clock)).solved.mean()) for clock in (0, 500, 1500)
        )
        if unsolved < 1e-3:
            raise ValueError(
                f"reject_solved: True cannot be met, only {unsolved:.1%} of the start kicks within "
                f"{self.initial_kick:g} rad are unsolved; use a stricter threshold, wider start kicks or "
                f"reject_solved=False"
            )

    def read(self, orbit: Floats, generators: Sequence[np.random.Generator]) -> Floats:
        """Readings (N, n_bpms) in metre: the orbit, plus one normal draw a monitor from each row's
        generator."""
        if self.bpm_noise == 0.0:
            return orbit
        noise = np.stack([generator.standard_normal(self.n_bpms) for generator in generators])
        return orbit + self.bpm_noise * noise


class BeamLineEnv(gym.Env[Observations, Any]):
    """Gymnasium environment around one copy of a `BeamLine`, which is its attribute `line`."""

    # an instance attribute to Gymnasium, so no ClassVar
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS}  # noqa: RUF012

    def __init__(self, line: BeamLine, render_mode: str | None = None) -> None:
        check_render_mode(render_mode)
        self.line = line
        self.render_mode = render_mode
        self.observation_space: gym.Space[Any] = line.observation_space
        self.action_space = line.action_space
        self._noise_random: np.random.Generator | None = None
        self._kicks: Floats | None = None
        self._readings: Floats | None = None
        self._clock = np.zeros(1, dtype=np.int64)
        self._elapsed = 0

    @property
    def kicks(self) -> Floats:
        """Present corrector kicks, (n_correctors,), rad."""
        return self._started()[0].copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode; with a `seed` also start both random streams and the clock anew.

        `options = {"clock": t}` sets the step count that a drift follows: a machine as it is after t steps.

        Raises: ValueError or TypeError for a clock that is no count.
        """
        clock = start_clock(options)
        super().reset(seed=seed)
        if seed is not None or self._noise_random is None:
            self._noise_random = self.np_random.spawn(1)[0]
            self._clock[:] = 0
        if clock is not None:
            self._clock[:] = clock
        self._kicks = self.line.draw_start(self.np_random, int(self._clock[0]))[None, :]
        self._elapsed = 0
        observation, outcome = self._look()
        return observation, info_of(outcome, 0)

    def step(self, action: Any) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Change the kicks by `action` and look at the beam.

        Raises: ValueError or TypeError for an action outside the space; ResetNeeded before the first reset.
        """
        kicks = self._started()
        self._kicks = self.line.move(kicks, self.line.accept(np.asarray(action)[None], 1))
        self._clock += 1
        self._elapsed += 1
        observation, outcome = self._look()
        terminated = bool(outcome.solved[0] or outcome.lost[0])
        truncated = self._elapsed >= self.line.step_limit
        return observation, float(outcome.reward[0]), terminated, truncated, info_of(outcome, 0)

    def render(self) -> npt.NDArray[np.uint8] | None:  # type: ignore[override]
        """The beam line as a picture, (height, width, 3), or None without a render mode."""
        if self.render_mode is None:
            return None
        kicks = self._started()
        assert self._readings is not None
        return self.line.frame(kicks[0], int(self._clock[0]), self._readings[0], self._elapsed)

    def state(self) -> dict[str, Any]:
        """Everything that decides what follows, as NumPy arrays and JSON values; `set_state` takes it
        back."""
        return {
            "options": asdict(self.line.options),
            "kicks": None if self._kicks is None else self._kicks.copy(),
            "readings": None if self._readings is None else self._readings.copy(),
            "clock": self._clock.copy(),
            "elapsed": self._elapsed,
            "np_random": generator_state(self._np_random),
            "np_random_seed": self._np_random_seed,
            "noise_random": generator_state(self._noise_random),
            "action_space": space_state(self.action_space),
            "observation_space": space_state(self.observation_space),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, as given by `state` of an environment with the same options.

        Raises: ValueError where the options differ.
        """
        check_options(self.line, state)
        self._kicks = None if state["kicks"] is None else np.array(state["kicks"], dtype=np.float64)
        self._readings = None if state["readings"] is None else np.array(state["readings"], dtype=np.float64)
        self._clock = np.array(state["clock"], dtype=np.int64)
        self._elapsed = int(state["elapsed"])
        self._np_random = generator_from(state["np_random"])
        self._np_random_seed = state["np_random_seed"]
        self._noise_random = generator_from(state["noise_random"])
        restore_space(self.action_space, state["action_space"])
        restore_space(self.observation_space, state["observation_space"])

    def _look(self) -> tuple[Observations, Outcome]:
        assert self._kicks is not None
        assert self._noise_random is not None
        outcome = self.line.outcome(self._kicks, self._clock)
        self._readings = self.line.read(outcome.orbit, [self._noise_random])
        return self.line.encode(self._readings)[0], outcome

    def _started(self) -> Floats:
        if self._kicks is None:
            raise gym.error.ResetNeeded("environment: not started; call reset() before step() or render()")
        return self._kicks


def info_of(outcome: Outcome, row: int) -> dict[str, Any]:
    """What `step` reports beside the observation: the details of one row of a batch, and whether it is solved."""
    info: dict[str, Any] = {name: float(values[row]) for name, values in outcome.details.items()}
    info["success"] = bool(outcome.solved[row])
    return info


def start_clock(options: dict[str, Any] | None) -> int | None:
    """The entry `clock` of a reset's options, None without one. Raises: ValueError or TypeError in one line."""
    clock = (options or {}).get("clock")
    return None if clock is None else integer("clock", clock, low=0, high=2**53)


def check_render_mode(mode: str | None) -> None:
    """Raise `ValueError` for a render mode other than `rgb_array` or None."""
    if mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode: {mode!r} is unknown; use 'rgb_array' or None")


def check_options(line: Any, state: dict[str, Any]) -> None:
    """Raise `ValueError` where a state was taken under other options than those of a line or task."""
    own = asdict(line.options)
    for name, value in own.items():
        if state["options"].get(name) != value:
            raise ValueError(
                f"{name}: the state was taken with {state['options'].get(name)!r}, this environment has "
                f"{value!r}; build it with the same options"
            )
