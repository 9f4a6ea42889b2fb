"""TT24-T4 target steering: one dipole, one monitor, one target.

`TargetSteering` (class docstring) is the specification. `optimality` measures a policy on a grid of states.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr

from environments.beam_line import NOISE_MARGIN, BeamLine, BeamLineEnv, Floats, Outcome
from environments.beam_line_vector import BeamLineVectorEnv
from environments.optics import Twiss, transport_matrix
from environments.options import choice, flag, integer, options_from, real
from environments.task import as_seen

__all__ = [
    "BPM",
    "DIPOLE",
    "TARGET",
    "TargetSteering",
    "TargetSteeringLine",
    "TargetSteeringOptions",
    "TargetSteeringVector",
    "optimality",
    "optimality_states",
    "random_policy",
    "sign_policy",
]

DIPOLE = Twiss(beta=16.1, alpha=-0.397093117, mu=1.46158005)
BPM = Twiss(beta=339.174497, alpha=-6.521184683, mu=2.081365696)
TARGET = Twiss(beta=7.976311944, alpha=-0.411639485, mu=2.398031982)
EMITTANCE = 1.1725e-8
"""Geometric emittance, m (rad)."""
KICK_STEP = 15e-6
"""Change of the dipole's kick in a step, rad."""
KICK_RANGE = 140e-6
"""Half-width of the start kicks, rad."""
WINDOW = 3.0
"""Half-width of the target, in beam sigmas there."""
N_BITS = 8
DRIFT_RATE = math.pi * 1e-3
"""Angular rate of the drift, rad a step: a period of 2000 steps."""

Policy = Callable[[npt.NDArray[np.float32]], npt.ArrayLike]


@dataclass(frozen=True)
class TargetSteeringOptions:
    """Options of `TargetSteering`, checked when made.

    Raises: ValueError or TypeError naming field, value, way out.
    """

    observation: str = "continuous"
    """`continuous` (position in m) or `binary` (eight bits, each -1 or +1)."""
    with_stay: bool = False
    """Offer a third action that leaves the kick as it is."""
    bpm_noise: float = 0.0
    """Standard deviation of the monitor's reading, m."""
    bpm_offset: float = 0.0
    """What the monitor reads for a beam on the axis, m: a monitor that is not aligned."""
    phase_drift: float = 0.0
    """Amplitude A of the optics drift, rad: both phase advances from the dipole grow by A sin(pi 0.001 t)."""
    corrector_limit: float | None = None
    """Largest kick of the dipole, rad; None for none. Kicks beyond it saturate."""
    success_threshold: float = 0.85
    """Share of the largest intensity above which the beam is on target, 1."""
    step_limit: int = 15
    """Steps after which an episode is truncated."""
    reject_solved: bool = True
    """Draw start kicks again until the beam is off target."""

    def __post_init__(self) -> None:
        choice("observation", self.observation, ("continuous", "binary"))
        flag("with_stay", self.with_stay)
        flag("reject_solved", self.reject_solved)
        real("bpm_noise", self.bpm_noise, low=0.0, high=0.1, unit="m")
        real("bpm_offset", self.bpm_offset, low=-0.1, high=0.1, unit="m")
        real("phase_drift", self.phase_drift, low=0.0, high=0.5, unit="rad")
        real("success_threshold", self.success_threshold, low=0.2, high=0.99)
        integer("step_limit", self.step_limit, low=1, high=1_000_000)
        if self.corrector_limit is not None:
            real("corrector_limit", self.corrector_limit, low=0.0, high=1e-2, open_low=True, unit="rad")


class TargetSteeringLine(BeamLine):
    """The physics of TT24-T4 for N copies at once; equations and sources in `TargetSteering`."""

    n_correctors = 1
    n_bpms = 1

    def __init__(self, options: TargetSteeringOptions) -> None:
        self.options = options
        self.step_limit = options.step_limit
        self.bpm_noise = options.bpm_noise
        self.reject_solved = options.reject_solved
        self.binary = options.observation == "binary"
        self.m12_bpm = float(transport_matrix(DIPOLE, BPM)[0, 1])
        self.m12_target = float(transport_matrix(DIPOLE, TARGET)[0, 1])
        self.sigma = math.sqrt(TARGET.beta * EMITTANCE)
        self.intensity_max = float(self.intensity(np.zeros(1))[0])
        self.intensity_goal = options.success_threshold * self.intensity_max
        # success region |kick| < edge_kick of the undisturbed optics
        self.edge_kick = float(brentq(self._margin, 0.0, 2.0 * KICK_RANGE, xtol=1e-18, rtol=1e-15))
        # the two published forms of the task end a lost beam at different places
        step = KICK_STEP * self.m12_bpm
        reach = KICK_RANGE * self.m12_bpm
        self.position_limit = reach + step if self.binary else 1.05 * reach
        self.corrector_limit = math.inf if options.corrector_limit is None else options.corrector_limit
        self.initial_kick = min(KICK_RANGE, self.corrector_limit)
        if self.initial_kick <= self.edge_kick and self.reject_solved:
            raise ValueError(
                f"corrector_limit: {options.corrector_limit!r} keeps the beam on target; "
                f"use more than {self.edge_kick:.4g} rad or reject_solved=False"
            )
        self.action_space = gym.spaces.Discrete(3 if options.with_stay else 2)
        self.n_actions = int(self.action_space.n)
        self.increments = np.array([-KICK_STEP, KICK_STEP, 0.0])
        # bins of the binary form span three steps beyond the start range on either side
        self.bin_range = reach + 3.0 * step
        self.observation_space = self._space()
        self.check_starts()

    def intensity(self, position: Floats) -> Floats:
        """Share of the beam inside the target's window, for beam centres `position` (N,) in m at the
        target."""
        return np.asarray(
            ndtr((WINDOW * self.sigma - position) / self.sigma)
            - ndtr((-WINDOW * self.sigma - position) / self.sigma)
        )

    def response(self, clock: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """m12 to the monitor and to the target, (N,) and (N,), m/rad, at step count `clock` (N,)."""
        if self.options.phase_drift == 0.0:
            return np.full(clock.shape, self.m12_bpm), np.full(clock.shape, self.m12_target)
        shift = self.options.phase_drift * np.sin(DRIFT_RATE * clock)
        return (
            math.sqrt(DIPOLE.beta * BPM.beta) * np.sin(BPM.mu - DIPOLE.mu + shift),
            math.sqrt(DIPOLE.beta * TARGET.beta) * np.sin(TARGET.mu - DIPOLE.mu + shift),
        )

    def accept(self, actions: Any, n: int) -> npt.NDArray[np.int64]:
        """Actions (n,) as integers. Raises: TypeError where they are none, ValueError where out of range."""
        array = np.asarray(actions)
        if array.dtype.kind not in "iu" or array.shape != (n,):
            raise TypeError(
                f"action: {actions!r} is not {n} integer{'s' * (n > 1)}; use 0..{self.n_actions - 1}"
            )
        if array.min() < 0 or array.max() >= self.n_actions:
            raise ValueError(
                f"action: {actions!r} is outside 0..{self.n_actions - 1}; use one of the actions"
            )
        return array.astype(np.int64)

    def move(self, kicks: Floats, actions: npt.NDArray[np.int64]) -> Floats:
        """Kicks (N, 1) after actions (N,), saturating at the corrector limit."""
        return np.clip(kicks + self.increments[actions][:, None], -self.corrector_limit, self.corrector_limit)

    def outcome(self, kicks: Floats, clock: npt.NDArray[np.int64]) -> Outcome:
        """Positions, intensity and reward for kicks (N, 1)."""
        m12_bpm, m12_target = self.response(clock)
        kick = kicks[:, 0]
        position = m12_bpm * kick
        intensity = self.intensity(m12_target * kick)
        return Outcome(
            orbit=position[:, None],
            reward=-100.0 * (1.0 - intensity),
            solved=intensity > self.intensity_goal,
            lost=np.abs(position) > self.position_limit,
            details={"intensity": intensity, "kick": kick.copy()},
        )

    def read(self, orbit: Floats, generators: Sequence[np.random.Generator]) -> Floats:
        """As `BeamLine.read`, from a monitor that stands off the axis."""
        seen = super().read(orbit, generators)
        return seen + self.options.bpm_offset if self.options.bpm_offset else seen

    def encode(self, readings: Floats) -> npt.NDArray[np.float32]:
        """Observations from readings (N, 1): (N, 1) in metre, or (N, 8) bits, most significant first."""
        if not self.binary:
            space = self.observation_space
            return np.clip(readings.astype(np.float32), space.low, space.high)
        index = np.floor((readings[:, 0] + self.bin_range) / (2.0 * self.bin_range) * 2**N_BITS)
        index = np.clip(index, 0, 2**N_BITS - 1).astype(np.int64)
        bits = (index[:, None] >> np.arange(N_BITS - 1, -1, -1)) & 1
        return (2 * bits - 1).astype(np.float32)

    def frame(self, kicks: Floats, clock: int, readings: Floats, step: int) -> npt.NDArray[np.uint8]:
        """Picture (height, width, 3); see `environments/drawing.py`."""
        from environments.drawing import draw_target_steering

        m12_bpm, m12_target = (float(m12[0]) for m12 in self.response(np.array([clock])))
        edge = (
            self.edge_kick * self.m12_target
        )  # fixed in the plane of the target: the optics drift, it does not
        return draw_target_steering(
            kick=float(kicks[0]),
            reading=float(readings[0]),
            position=m12_bpm * float(kicks[0]),
            position_limit=self.position_limit,
            at_target=m12_target * float(kicks[0]),
            target_edge=edge,
            sigma=self.sigma,
            intensity=float(self.intensity(np.array([m12_target * float(kicks[0])]))[0]),
            intensity_goal=self.intensity_goal,
            phases=(BPM.mu - DIPOLE.mu, TARGET.mu - DIPOLE.mu),
            step=step,
        )

    def _margin(self, kick: float) -> float:
        return float(self.intensity(np.array([self.m12_target * kick]))[0]) - self.intensity_goal

    def _space(self) -> gym.spaces.Box:
        if self.binary:
            return gym.spaces.Box(-1.0, 1.0, (N_BITS,), dtype=np.float32)
        # furthest a step can carry a beam that was within its limit: kick limit under the weakest optics, one
        # more step, seen through the strongest optics
        drift = self.options.phase_drift
        root = math.sqrt(DIPOLE.beta * BPM.beta)
        weakest = root * math.sin(BPM.mu - DIPOLE.mu - drift)
        strongest = root * math.sin(BPM.mu - DIPOLE.mu + drift)
        kick = min(self.position_limit / weakest + KICK_STEP, self.corrector_limit)
        high = kick * strongest + NOISE_MARGIN * self.bpm_noise + abs(self.options.bpm_offset)
        return gym.spaces.Box(-high, high, (1,), dtype=np.float32)


class TargetSteering(BeamLineEnv):
    """Steer a beam onto a target with one dipole, seeing only one monitor in between (CERN, TT24-T4).

    ## Description

    A dipole gives the beam a kick k. Beam-position monitor and target follow behind it, with other optics
    between: what the monitor shows is not what arrives. In linear optics, from the Twiss parameters below,

        x_bpm = m12(dipole -> BPM) k = 42.92 m/rad k        x_target = m12(dipole -> target) k = 9.128 m/rad k
        m12(1 -> 2) = sqrt(beta1 beta2) sin(mu2 - mu1)

    The beam is a Gaussian of sigma = sqrt(beta_target emittance) = 0.3058 mm; the target is a window of +-3
    sigma, so

        I = Phi((3 sigma - x_target) / sigma) - Phi((-3 sigma - x_target) / sigma),     I_max = I(0) = 0.99730

    where Phi is the normal distribution function. The optimal policy is the sign of one number; use the task
    to test machinery and to look at value functions, not as evidence of capability. Unless starts are
    rejected, 47 % are solved already.

    | Element | beta (m) | alpha (1) | mu (rad) | Source |
    |---|---|---|---|---|
    | dipole MSSB | 16.1 | -0.397093117 | 1.46158005 | public code of arXiv:2209.11044 |
    | BPM | 339.174497 | -6.521184683 | 2.081365696 | same |
    | target | 7.976311944 | -0.411639485 | 2.398031982 | same |
    | emittance | 1.1725e-8 m | | | same |

    ## Action Space

    `Discrete(2)`, or `Discrete(3)` with `with_stay`.

    | Num | Action | Unit | Source |
    |---|---|---|---|
    | 0 | kick changes by -15 | microradian | public code of arXiv:2209.11044 |
    | 1 | kick changes by +15 | microradian | same |
    | 2 | kick stays (only `with_stay`) | | same |

    ## Observation Space

    `observation="continuous"`: `Box`, shape `(1,)`, float32.

    | Num | Observation | Min | Max | Unit | Source |
    |---|---|---|---|---|---|
    | 0 | position at the BPM | -0.006954 | 0.006954 | m | limit: 162 microradian, see below |

    The limits are one step beyond the furthest beam that is kept. They widen with noise (five standard
    deviations) and drift (strongest optics), and shrink with a corrector limit; a reading beyond them is
    clipped.

    `observation="binary"`: `Box(-1, 1)`, shape `(8,)`, float32.

    | Num | Observation | Min | Max | Unit | Source |
    |---|---|---|---|---|---|
    | 0..7 | bits of the position's bin, most significant first, 0 written as -1 | -1 | 1 | 1 | see below |

    256 equal bins cover +-7.941 mm (start range and three steps of 0.6439 mm on either side, as in the public
    code).

    ## Rewards

    -100 (1 - I) for the position that the action leads to, in [-100, -0.27]; -15.23 at the edge of success.
    It is a property of the beam: noise of the monitor does not enter.

    ## Starting State

    k uniform in +-140 microradian (or the corrector limit, if smaller), drawn again until the beam is off
    target.

    ## Episode End

    1. Termination: success, I > 0.85 I_max = 0.84771, which is |k| < 66.12 microradian (2.838 mm at the BPM,
       0.6035 mm at the target); at most five steps away from any start.
    2. Termination: beam lost. Continuous form: |x_bpm| above 1.05 x 6.009 mm (147 microradian). Binary form:
       above 6.009 mm and one step (155 microradian). The two limits are those of the two published forms.
    3. Truncation: after 15 steps (`step_limit`). `max_episode_steps` of Gymnasium is a second limit on top.

    Info: `intensity` (1), `kick` (rad), `success`.

    ## Arguments

    | Parameter | Type | Default | Unit | Description |
    |---|---|---|---|---|
    | `observation` | str | `"continuous"` | | or `"binary"` |
    | `with_stay` | bool | `False` | | third action that changes nothing |
    | `bpm_noise` | float | 0 | m | normal noise of each reading, in [0, 0.1] |
    | `bpm_offset` | float | 0 | m | reading of a beam on the axis, in [-0.1, 0.1] |
    | `phase_drift` | float | 0 | rad | both phase advances grow by A sin(pi 0.001 t), A in [0, 0.5] |
    | `corrector_limit` | float or None | `None` | rad | largest kick; beyond it the dipole saturates |
    | `success_threshold` | float | 0.85 | 1 | share of I_max that is success, in [0.2, 0.99] |
    | `step_limit` | int | 15 | 1 | steps of an episode |
    | `reject_solved` | bool | `True` | | draw starts again until off target |

    t counts steps since the last seeded reset, over episodes. A missing monitor is no option: there is only
    one.

    Reference returns (noise-free, 15 steps): the sign policy averages -83, random actions -378 (continuous
    form).

    ## Vectorized environment

    `gym.make_vec("qrl/TargetSteering-v0", num_envs=8)` makes `TargetSteeringVector`, whose copies follow the
    scalar environment bit for bit; `autoreset_mode` is `NEXT_STEP` (default) or `SAME_STEP`.

    ## Version History

    * v0: first version.

    Source: M. Schenk et al., arXiv:2209.11044, doi 10.1088/2058-9565/ad261b, and its public code
    `michuschenk/qbm-rl-steering` (facts only); transport: `environments.optics.transport_matrix`.
    """

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(TargetSteeringLine(options_from(TargetSteeringOptions, options)), render_mode)

    def measures(self, policy: Policy, env: gym.Env[Any, Any]) -> dict[str, float]:
        """What is measured of a policy beside its episodes: `optimality` in this environment, wrapped as `env`."""
        return {"optimality": optimality(policy, env)}


class TargetSteeringVector(BeamLineVectorEnv):
    """Native vectorised form of `TargetSteering`: same options and trajectories, all copies in one batch."""

    line_type, options_type = TargetSteeringLine, TargetSteeringOptions


def sign_policy(observations: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Optimal actions (N,) for continuous (N, 1) or binary (N, 8) observations: kick towards the axis.

    Works on observations in metre, scaled to [-1, 1], or bits: only the sign of the first entry counts.
    Source: own construction.
    """
    return np.where(np.asarray(observations)[:, 0] > 0.0, 0, 1).astype(np.int64)


def random_policy(generator: np.random.Generator, n_actions: int = 2) -> Policy:
    """A policy that draws each of `n_actions` with equal probability from `generator`.

    Source: own construction.
    """
    return lambda observations: generator.integers(n_actions, size=len(observations))


def optimality_states(
    env: gym.Env[Any, Any], n_states: int = 200
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """States on which optimality is measured: observations (n_states, d) of `env` and their best actions
    (n_states,).

    `n_states` kicks, half on either side, evenly spaced from the edge of success (left out) to 140
    microradians, seen without noise and drift. The best known action of each kicks towards the axis.
    Observation wrappers around the environment are applied.

    Raises: TypeError where `env` is no TargetSteering, ValueError for an odd or non-positive `n_states`.
    Source: own construction.
    """
    base = env.unwrapped
    if not isinstance(base, TargetSteering):
        raise TypeError(
            f"env: {type(base).__name__} is not a TargetSteering; make it with qrl/TargetSteering-v0"
        )
    if n_states < 2 or n_states % 2:
        raise ValueError(f"n_states: {n_states} is not a positive even number; use for example 200")
    line = base.line
    assert isinstance(line, TargetSteeringLine)
    side = np.linspace(line.edge_kick, KICK_RANGE, n_states // 2 + 1)[1:]
    kicks = np.concatenate([-side[::-1], side])
    observations = line.encode(line.m12_bpm * kicks[:, None] + line.options.bpm_offset)
    return as_seen(env, observations), np.where(kicks > 0.0, 0, 1).astype(np.int64)


def optimality(policy: Policy, env: gym.Env[Any, Any] | None = None, n_states: int = 200) -> float:
    """Share of `optimality_states` in which the best known action is the one of `policy`, in [0, 1].

    `policy` maps observations (n_states, d), as `env` gives them, to actions (n_states,); `env` is a default
    `TargetSteering` unless given.

    Raises: ValueError where the policy returns another number of actions; see also `optimality_states`.
    Source: the measure of arXiv:2209.11044; grid: own construction.
    """
    observations, best = optimality_states(TargetSteering() if env is None else env, n_states)
    actions = np.asarray(policy(observations)).reshape(-1)
    if actions.shape != best.shape:
        raise ValueError(
            f"policy: {actions.shape[0]} actions for {best.shape[0]} observations; return one each"
        )
    return float(np.mean(actions == best))
