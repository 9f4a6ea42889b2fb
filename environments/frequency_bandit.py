"""A contextual bandit whose reward is one cosine of the context, and the exact value of any policy on it.

`FrequencyBandit` (class docstring) is the specification. It is an anchor of what a model can express, not a benchmark.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from environments.options import integer, options_from
from environments.task import Floats, Integers, Observations, Step, Task, TaskEnv, TaskVectorEnv

__all__ = ["BORN_CEILING", "OPTIMUM", "FrequencyBandit", "FrequencyBanditVector", "contexts", "value"]

OPTIMUM = 2.0 / math.pi
"""Value of the best policy, the sign of cos(k s): mean of |cos|, 0.636620."""
BORN_CEILING = 0.5
"""Largest value of a policy whose 2p - 1 is a trigonometric polynomial of degree k to 3k - 1 bounded by 1."""

_LIMIT = float(np.nextafter(np.float32(np.pi), np.float32(4.0)))


@dataclass(frozen=True)
class FrequencyBanditOptions:
    """Options of `FrequencyBandit`, checked when made.

    Raises: ValueError or TypeError naming field, value, way out.
    """

    frequency: int = 3
    """Integer frequency k of the reward, rad^-1."""

    def __post_init__(self) -> None:
        integer("frequency", self.frequency, low=1, high=1000)


class FrequencyBanditTask(Task):
    """The rules for N copies at once; a row is the context s and the last action (-1 before it)."""

    width = 2

    def __init__(self, options: FrequencyBanditOptions) -> None:
        self.options = options
        self.observation_space = gym.spaces.Box(-_LIMIT, _LIMIT, (1,), dtype=np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def draw(self, generator: np.random.Generator) -> Floats:
        """A context uniform on the circle."""
        return np.array([generator.uniform(-np.pi, np.pi), -1.0])

    def step(self, rows: Floats, actions: Integers) -> Step:
        """The choice ends the episode."""
        reward = (2.0 * actions - 1.0) * np.cos(self.options.frequency * rows[:, 0])
        return Step(np.column_stack([rows[:, 0], actions]), reward, np.ones(len(rows), dtype=np.bool_))

    def observe(self, rows: Floats) -> Observations:
        """The context."""
        return rows[:, :1].astype(np.float32)

    def details(self, rows: Floats) -> dict[str, Floats]:
        """Nothing beside the reward."""
        return {}

    def frame(self, row: Floats) -> npt.NDArray[np.uint8]:
        """The circle of contexts; see `environments/drawing.py`."""
        from environments.drawing import draw_frequency_bandit

        return draw_frequency_bandit(float(row[0]), int(row[1]), self.options.frequency)


class FrequencyBandit(TaskEnv):
    """Choose the sign of `cos(k s)` from the angle s: a Born policy whose spectrum ends below k scores 0, always.

    ## Description

    One choice of two in a context s on the circle. A policy that takes action 1 with probability p(s) is worth

        E_s[(2 p(s) - 1) cos(k s)]

    which is a Fourier coefficient of 2p - 1. A **Born policy** draws its action from a circuit, so that 2p - 1 = <Z>(s)
    is a trigonometric polynomial bounded by 1 on the encoding's spectrum: below degree k it is worth exactly 0, from
    degree k to 3k - 1 at most 1/2 (the mean over all shifts by pi/k, each with the sign that cos(k s) takes there, is
    worth the same, keeps the bound, and holds the frequency k alone). A **softmax** over expectation values is no
    polynomial and leaks past that: with degree 1 and k = 3 it can reach 2/(3 pi) = 0.212. A **table** over fine bins,
    or any universal network, reaches the best value, 2/pi = 0.637. So the task separates ways to read a circuit out
    and does not separate quantum from classical.

    All of this holds for actions that are drawn. A greedy evaluation takes the sign of 2p - 1 and is another policy.

    ## Action Space

    `Discrete(2)`.

    | Num | Action | Unit | Source |
    |---|---|---|---|
    | 0 | cos(k s) is negative | 1 | own construction, see below |
    | 1 | cos(k s) is positive | 1 | same |

    ## Observation Space

    `Box`, shape `(1,)`, float32. Write `observation = "raw"` in a recipe: scaled to [-1, 1] the frequency is pi k.

    | Num | Observation | Min | Max | Unit | Source |
    |---|---|---|---|---|---|
    | 0 | context s | -3.1415927 | 3.1415927 | rad | own construction, see below |

    ## Rewards

    (2a - 1) cos(k s), in [-1, 1].

    ## Starting State

    s uniform in [-pi, pi).

    ## Episode End

    Termination after one choice.

    ## Arguments

    | Parameter | Type | Default | Unit | Description |
    |---|---|---|---|---|
    | `frequency` | int | 3 | 1/rad | k, in 1..1000 |

    ## Vectorized environment

    `gym.make_vec("qrl/FrequencyBandit-v0", num_envs=8)` makes `FrequencyBanditVector`, whose copies follow the scalar
    environment bit for bit.

    ## Version History

    * v0: first version.

    Source: own construction after the frequency-ceiling bandit of the public project Overtone (facts only); that a
    circuit is a Fourier series, M. Schuld et al., arXiv:2008.08605.
    """

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(FrequencyBanditTask(options_from(FrequencyBanditOptions, options)), render_mode)


class FrequencyBanditVector(TaskVectorEnv):
    """Native vectorised form of `FrequencyBandit`: same options and trajectories, all copies in one batch."""

    task_type, options_type = FrequencyBanditTask, FrequencyBanditOptions


def contexts(n_grid: int = 4096) -> Floats:
    """`n_grid` contexts (n_grid, 1), evenly spaced over the circle, half a step off the ends."""
    n = integer("n_grid", n_grid, low=1, high=10**8)
    return (-np.pi + (np.arange(n) + 0.5) * 2.0 * np.pi / n)[:, None]


def value(policy: Callable[[Floats], npt.ArrayLike], frequency: int = 3, n_grid: int = 4096) -> float:
    """Expected reward of a policy that maps contexts (N, 1) to probabilities (N,) of action 1.

    The mean over `contexts(n_grid)`, which is exact where 2p - 1 is a trigonometric polynomial of degree below
    n_grid - k, and accurate to O(k / n_grid) for jumps.

    Raises: ValueError where the policy returns no probabilities, one a context.
    """
    s = contexts(n_grid)
    p = np.asarray(policy(s), dtype=np.float64)
    if p.shape != (len(s),) or not ((p >= -1e-6) & (p <= 1.0 + 1e-6)).all():
        raise ValueError(f"policy: shape {p.shape} or a value does not fit; return {len(s)} probabilities")
    return float(((2.0 * p - 1.0) * np.cos(frequency * s[:, 0])).mean())
