"""Trajectory steering on the AWAKE electron line: ten correctors, ten monitors. `AwakeSteering` is the
specification."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from environments.beam_line import NOISE_MARGIN, BeamLine, BeamLineEnv, Floats, Outcome
from environments.beam_line_vector import BeamLineVectorEnv
from environments.optics import awake_optics, awake_quadrupoles
from environments.options import choice, flag, integer, options_from, real

__all__ = [
    "VARIANTS",
    "AwakeSteering",
    "AwakeSteeringLine",
    "AwakeSteeringOptions",
    "AwakeSteeringVector",
    "Variant",
]

KICK_STEP = 3e-4
"""Largest change of a corrector in a step, rad; also the half-width of the start kicks and of the kick
box."""
N_DEVICES = 10
ABORT_FACTOR = 15.0
"""The beam is lost above this multiple of the threshold."""
DRIFT_RATE = math.pi * 1e-3
"""Angular rate of the drift, rad a step: a period of 2000 steps."""


class Variant(NamedTuple):
    """A published form of the task: `threshold` (m, RMS orbit) and `step_limit`."""

    threshold: float
    step_limit: int


VARIANTS = {"awake-1.6mm": Variant(1.6e-3, 50), "awake-2mm": Variant(2.0e-3, 30)}
"""The two published forms, which must not be mixed.

Source: public code of arXiv:2209.11044, its AWAKE branches.
"""


@dataclass(frozen=True)
class AwakeSteeringOptions:
    """Options of `AwakeSteering`, checked when made.

    Raises: ValueError or TypeError naming field, value, way out.
    """

    variant: str = "awake-1.6mm"
    """Published form of the task, a key of `VARIANTS`: sets threshold, abort and step limit together."""
    plane: str = "horizontal"
    """`horizontal` or `vertical`."""
    bpm_noise: float = 0.0
    """Standard deviation of each monitor's reading, m."""
    corrector_limit: float = KICK_STEP
    """Largest kick of each corrector, rad. Kicks beyond it saturate."""
    initial_kick: float | None = None
    """Half-width of the uniform start kicks, rad; None for 300 microradians or the corrector limit, if
    smaller."""
    threshold: float | None = None
    """RMS orbit below which the task is solved, m; None for the variant's."""
    quadrupole_drift: float = 0.0
    """Amplitude A of the drift: the gradient of one quadrupole changes by the share A sin(pi 0.001 t), 1."""
    drift_quadrupole: str = "430118"
    """Name of the quadrupole that drifts."""
    model_error: float = 0.0
    """Relative standard deviation of the true response elements around the optics table's, 1."""
    model_error_seed: int = 0
    """Which realisation of the model error: the machine, the same for every copy and episode."""
    missing_bpm: int | None = None
    """Index of a monitor that always reads 0 m, 0..9; None for none."""
    state_scale: float = 100.0 / 1.7
    """Observation and reward are the orbit times this, 1/m."""
    step_limit: int | None = None
    """Steps after which an episode is truncated; None for the variant's."""
    reject_solved: bool = True
    """Draw start kicks again until the RMS orbit is outside the threshold."""

    def __post_init__(self) -> None:
        choice("variant", self.variant, tuple(VARIANTS))
        choice("plane", self.plane, ("horizontal", "vertical"))
        choice("drift_quadrupole", self.drift_quadrupole, tuple(awake_quadrupoles()))
        flag("reject_solved", self.reject_solved)
        real("bpm_noise", self.bpm_noise, low=0.0, high=0.1, unit="m")
        real("corrector_limit", self.corrector_limit, low=0.0, high=1e-2, open_low=True, unit="rad")
        real("quadrupole_drift", self.quadrupole_drift, low=0.0, high=0.5)
        real("model_error", self.model_error, low=0.0, high=1.0)
        real("state_scale", self.state_scale, low=0.0, high=1e6, open_low=True, unit="1/m")
        integer("model_error_seed", self.model_error_seed, low=0, high=2**63 - 1)
        if self.initial_kick is not None:
            real(
                "initial_kick",
                self.initial_kick,
                low=0.0,
                high=self.corrector_limit,
                open_low=True,
                unit="rad (no start lies beyond corrector_limit)",
            )
        if self.threshold is not None:
            real("threshold", self.threshold, low=0.0, high=1.0, open_low=True, unit="m")
        if self.missing_bpm is not None:
            integer("missing_bpm", self.missing_bpm, low=0, high=N_DEVICES - 1)
        if self.step_limit is not None:
            integer("step_limit", self.step_limit, low=1, high=1_000_000)


class AwakeSteeringLine(BeamLine):
    """The physics of the AWAKE line for N copies at once; equations and sources in `AwakeSteering`."""

    n_correctors = N_DEVICES
    n_bpms = N_DEVICES

    def __init__(self, options: AwakeSteeringOptions) -> None:
        variant = VARIANTS[options.variant]
        self.options = options
        self.optics = awake_optics(options.plane)
        self.threshold = variant.threshold if options.threshold is None else float(options.threshold)
        self.abort_rms = ABORT_FACTOR * self.threshold
        self.step_limit = variant.step_limit if options.step_limit is None else options.step_limit
        self.corrector_limit = float(options.corrector_limit)
        default_kick = min(KICK_STEP, self.corrector_limit)
        self.initial_kick = default_kick if options.initial_kick is None else float(options.initial_kick)
        self.bpm_noise = options.bpm_noise
        self.reject_solved = options.reject_solved
        self.response = self._true_response()
        self._gradient = options.quadrupole_drift * awake_quadrupoles()[options.drift_quadrupole].k1l
        self._after, self._before = self.optics.gradient_error(options.drift_quadrupole)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (N_DEVICES,), dtype=np.float32)
        high = (options.state_scale * (self._reach() + NOISE_MARGIN * self.bpm_noise)).astype(np.float32)
        self.observation_space = gym.spaces.Box(-high, high, dtype=np.float32)
        self.check_starts()

    def response_at(self, clock: int) -> Floats:
        """True response (10, 10), m/rad, at step count `clock`: model error and drift included."""
        change = self._gradient * math.sin(DRIFT_RATE * clock)
        return self.response - change * np.outer(self._after, self._before)

    def accept(self, actions: Any, n: int) -> Floats:
        """Actions (n, 10), clipped to [-1, 1].

        Raises: TypeError for a wrong shape or kind, ValueError for NaN.
        """
        array = np.asarray(actions)
        if array.dtype.kind not in "fiu" or array.shape != (n, N_DEVICES):
            raise TypeError(
                f"action: shape {array.shape} of {array.dtype} given; use {(n, N_DEVICES)} of float32"
            )
        if not np.isfinite(array).all():
            raise ValueError("action: NaN or infinity is among the entries; use numbers in [-1, 1]")
        return np.clip(array.astype(np.float64), -1.0, 1.0)

    def move(self, kicks: Floats, actions: npt.NDArray[Any]) -> Floats:
        """Kicks (N, 10) after actions (N, 10), saturating at the corrector limit."""
        return np.clip(kicks + KICK_STEP * actions, -self.corrector_limit, self.corrector_limit)

    def outcome(self, kicks: Floats, clock: npt.NDArray[np.int64]) -> Outcome:
        """Orbit, its RMS and the reward for kicks (N, 10)."""
        orbit = _apply(self.response, kicks)
        if self._gradient != 0.0:
            change = self._gradient * np.sin(DRIFT_RATE * clock)
            orbit = orbit - (change * _apply(self._before[None, :], kicks)[:, 0])[:, None] * self._after
        rms = np.sqrt(_apply(np.full((1, N_DEVICES), 1.0 / N_DEVICES), orbit * orbit)[:, 0])
        return Outcome(
            orbit=orbit,
            reward=-1000.0 * self.options.state_scale * rms,
            solved=rms < self.threshold,
            lost=rms > self.abort_rms,
            details={"rms": rms},
        )

    def encode(self, readings: Floats) -> npt.NDArray[np.float32]:
        """Observations (N, 10): readings (N, 10) times the state scale; a missing monitor reads 0."""
        scaled = self.options.state_scale * readings
        if self.options.missing_bpm is not None:
            scaled[:, self.options.missing_bpm] = 0.0
        space = self.observation_space
        return np.clip(scaled.astype(np.float32), space.low, space.high)

    def frame(self, kicks: Floats, clock: int, readings: Floats, step: int) -> npt.NDArray[np.uint8]:
        """Picture (height, width, 3); see `environments/drawing.py`."""
        from environments.drawing import draw_awake_steering

        outcome = self.outcome(kicks[None, :], np.array([clock]))
        return draw_awake_steering(
            optics=self.optics,
            kicks=kicks,
            orbit=outcome.orbit[0],
            readings=readings,
            missing=self.options.missing_bpm,
            rms=float(outcome.details["rms"][0]),
            threshold=self.threshold,
            corrector_limit=self.corrector_limit,
            orbit_limit=float(self._reach().max()),
            step=step,
        )

    def _true_response(self) -> Floats:
        if self.options.model_error == 0.0:
            return self.optics.response
        generator = np.random.Generator(np.random.PCG64(self.options.model_error_seed))
        error = generator.standard_normal((N_DEVICES, N_DEVICES))
        return self.optics.response * (1.0 + self.options.model_error * error)

    def _reach(self) -> Floats:
        """Largest orbit at each monitor that kicks within the limit can make, (10,), m."""
        extremes = [
            np.abs(self.response - sign * self._gradient * np.outer(self._after, self._before)).sum(axis=1)
            for sign in (-1.0, 0.0, 1.0)
        ]
        return self.corrector_limit * np.max(extremes, axis=0)


class AwakeSteering(BeamLineEnv):
    """Steer the AWAKE electron beam through ten monitors with ten correctors (CERN, TT43).

    ## Description

    Ten correctors kick the beam, ten monitors behind them show where it goes. In linear optics the orbit is

        x = R k,     R_ij = sqrt(beta_i beta_j) sin(mu_i - mu_j) if mu_i > mu_j, else 0         (m/rad)

    where beta and mu come from the line's optics table (`environments/data/README.md`); R is lower
    triangular, with condition number 280.3 (horizontal) or 83.1 (vertical). The aim is an orbit of small root
    mean square

        rms = sqrt(sum_i x_i^2 / 10).

    The undisturbed task is linear and effectively one-dimensional: the first singular mode carries 98.7 % of
    the mean-square orbit, and a = -R^-1 x / (300 microradian) solves every start in one step. Compare every
    result with an orbit corrector, and use the options to make the task informative.

    ## Action Space

    `Box(-1, 1)`, shape `(10,)`, float32; entries beyond the limits are clipped.

    | Num | Action | Min | Max | Unit | Source |
    |---|---|---|---|---|---|
    | 0..9 | change of a corrector's kick, in 300 | -1 | 1 | microradian | public code of arXiv:2209.11044 |

    Correctors MCAWA 430029, 430040, 430104, 430130, 430204, 430309, 412344, 412345, 412347, 412349. Kicks are
    clipped to +-`corrector_limit` (in the published code they accumulate without a limit).

    ## Observation Space

    `Box`, shape `(10,)`, float32: readings times `state_scale` (58.82 1/m, so that 17 mm reads 1).

    | Num | Observation | Min | Max | Unit | Source |
    |---|---|---|---|---|---|
    | 0..9 | position at a monitor, times 58.82 1/m | -high_i | high_i | 1 | scale: code of arXiv:2209.11044 |

    Monitors BPM 430039, 430103, 430129, 430203, 430308, 412343, 412345, 412347, 412349, 412351. high_i is the
    largest orbit there within the kick limits, corrector_limit sum_j |R_ij| (0.27 mm at the first, 20.1 mm at
    412345), larger with noise (five standard deviations), drift and model error; a reading beyond it is
    clipped.

    ## Rewards

    -1000 state_scale rms (rms in m) of the orbit that the action leads to: -94.12 at 1.6 mm, -117.6 at 2 mm.
    It is a property of the beam over all ten monitors: noise and a missing monitor do not enter.

    ## Starting State

    Kicks uniform in +-300 microradian each (`initial_kick`), drawn again until rms is outside the threshold.
    Of all draws in the horizontal plane 41 % are below 1.6 mm and 51 % below 2 mm; in the vertical plane 94 %
    and 99 %.

    ## Episode End

    1. Termination: success, rms < `threshold`.
    2. Termination: beam lost, rms above 15 thresholds (24 mm or 30 mm). Within the default kick limit it
       cannot happen.
    3. Truncation: after the variant's step limit (`step_limit`). `max_episode_steps` of Gymnasium is a second
       limit on top.

    | Variant | Threshold | Beam lost | Step limit | Source |
    |---|---|---|---|---|
    | `awake-1.6mm` | 1.6 mm | 24 mm | 50 | public code of arXiv:2209.11044, branch qac-td3/awake |
    | `awake-2mm` | 2 mm | 30 mm | 30 | same, branches dwave-leap and q-learning-merge |

    Info: `rms` (m), `success`.

    ## Arguments

    | Parameter | Type | Default | Unit | Description |
    |---|---|---|---|---|
    | `variant` | str | `"awake-1.6mm"` | | row of the table above |
    | `plane` | str | `"horizontal"` | | or `"vertical"` |
    | `bpm_noise` | float | 0 | m | normal noise of each reading, in [0, 0.1] |
    | `corrector_limit` | float | 3e-4 | rad | largest kick of each corrector, in (0, 0.01] |
    | `initial_kick` | float or None | `None` | rad | half-width of starts; None: 3e-4 or corrector_limit |
    | `threshold` | float or None | `None` | m | success below this rms; None: the variant's |
    | `quadrupole_drift` | float | 0 | 1 | a gradient changes by the share A sin(pi 0.001 t), A in [0, 0.5] |
    | `drift_quadrupole` | str | `"430118"` | | which one; names in `awake_tt43_quadrupoles.csv` |
    | `model_error` | float | 0 | 1 | each element of R times 1 + model_error N(0, 1), fixed for the machine |
    | `model_error_seed` | int | 0 | | which machine |
    | `missing_bpm` | int or None | `None` | | this monitor (0..9) always reads 0 |
    | `state_scale` | float | 58.82 | 1/m | scale of observation and reward; also published: 100 |
    | `step_limit` | int or None | `None` | 1 | steps of an episode; None: the variant's |
    | `reject_solved` | bool | `True` | | draw starts again until outside the threshold |

    t counts steps since the last seeded reset, over episodes; `reset(options={"clock": t})` sets it, which is how
    a machine that drifts is evaluated as it is, not as it was. A threshold of 0.2-0.5 mm needs several modes.
    The drift is a thin quadrupole error at the magnet's centre, R'_ij = R_ij -+ dk1l R_iq R_qj (horizontal,
    vertical): see `environments.optics.AwakeOptics.gradient_error`.

    ## Vectorized environment

    `gym.make_vec("qrl/AwakeSteering-v0", num_envs=8)` makes `AwakeSteeringVector`, whose copies follow the
    scalar environment bit for bit; `autoreset_mode` is `NEXT_STEP` (default) or `SAME_STEP`.

    ## Version History

    * v0: first version.

    Source: M. Schenk et al., arXiv:2209.11044, doi 10.1088/2058-9565/ad261b, and its public code
    `michuschenk/qbm-rl-steering` (facts only); optics: `environments/data/README.md`; clipping, drift, model
    error and missing monitor: own construction.
    """

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(AwakeSteeringLine(options_from(AwakeSteeringOptions, options)), render_mode)


class AwakeSteeringVector(BeamLineVectorEnv):
    """Native vectorised form of `AwakeSteering`: same options, same trajectories, all copies in one batch."""

    line_type, options_type = AwakeSteeringLine, AwakeSteeringOptions


def _apply(matrix: Floats, vectors: Floats) -> Floats:
    """`vectors @ matrix.T`, (N, rows) from (rows, columns) and (N, columns).

    Each row's sum runs over its own contiguous products. A matrix product would round differently for
    different N, and a copy must not depend on how many stand beside it.
    """
    return np.add.reduce(vectors[:, None, :] * matrix, axis=-1)
