"""The CHSH game of two players who cannot talk to each other, and the exact score of any way of playing it.

`CHSHGame` (class docstring) is the specification. It is an anchor of what a model can express, not a benchmark.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from environments.options import options_from
from environments.task import Floats, Integers, Observations, Step, Task, TaskEnv, TaskVectorEnv, as_seen

__all__ = [
    "CLASSICAL_CEILING",
    "QUANTUM_CEILING",
    "QUESTIONS",
    "CHSHGame",
    "CHSHGameVector",
    "signalling",
    "win_probability",
]

CLASSICAL_CEILING = 0.75
"""Largest share of wins of two players who share random numbers."""
QUANTUM_CEILING = math.cos(math.pi / 8.0) ** 2
"""Largest share of wins of two players who share entangled qubits, cos^2(pi/8) = 0.853553."""
QUESTIONS: npt.NDArray[np.float32] = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
"""The four pairs of questions (x, y), each asked with probability 1/4."""

_WINS = np.array([[(a ^ b) == (x & y) for a in (0, 1) for b in (0, 1)] for x in (0, 1) for y in (0, 1)])


@dataclass(frozen=True)
class CHSHGameOptions:
    """`CHSHGame` has no options."""


class CHSHGameTask(Task):
    """The rules for N tables at once; a row is x, y, the answers a and b (-1 before they are given)."""

    width = 4

    def __init__(self, options: CHSHGameOptions) -> None:
        self.options = options
        self.observation_space = gym.spaces.Box(0.0, 1.0, (2,), dtype=np.float32)
        self.action_space = gym.spaces.Discrete(4)

    def draw(self, generator: np.random.Generator) -> Floats:
        """Two fair bits."""
        return np.append(generator.integers(2, size=2), [-1.0, -1.0])

    def step(self, rows: Floats, actions: Integers) -> Step:
        """The answers end the round."""
        questions = (2 * rows[:, 0] + rows[:, 1]).astype(np.int64)
        answered = np.column_stack([rows[:, :2], actions // 2, actions % 2])
        return Step(
            answered, _WINS[questions, actions].astype(np.float64), np.ones(len(rows), dtype=np.bool_)
        )

    def observe(self, rows: Floats) -> Observations:
        """The questions."""
        return rows[:, :2].astype(np.float32)

    def details(self, rows: Floats) -> dict[str, Floats]:
        """Nothing beside the reward."""
        return {}

    def frame(self, row: Floats) -> npt.NDArray[np.uint8]:
        """The table; see `environments/drawing.py`."""
        from environments.drawing import draw_chsh_game

        return draw_chsh_game(*(int(value) for value in row))


class CHSHGame(TaskEnv):
    """Two players answer one bit each to one bit each, and win together where `a xor b = x and y`.

    ## Description

    A referee draws two bits x and y, shows x to the first player and y to the second, and hears one bit from each.
    They may agree on anything beforehand and cannot talk during the round. With shared random numbers they win at most
    3/4 of the rounds; with shared entangled qubits at most cos^2(pi/8) = 0.853553 (Tsirelson's bound).

    The environment is the referee and cannot see who knows what: a policy that gives both players both questions always
    wins. **That each answer depends on its own question alone is a property of the agent**; `measures` tells whether it
    holds. The game says what a model can express and no more.

    ## Action Space

    `Discrete(4)`: action 2 a + b.

    | Num | Answers | Unit | Source |
    |---|---|---|---|
    | 0 | a = 0, b = 0 | 1 | J. Clauser et al. (1969) |
    | 1 | a = 0, b = 1 | 1 | same |
    | 2 | a = 1, b = 0 | 1 | same |
    | 3 | a = 1, b = 1 | 1 | same |

    ## Observation Space

    `Box(0, 1)`, shape `(2,)`, float32.

    | Num | Observation | Min | Max | Unit | Source |
    |---|---|---|---|---|---|
    | 0 | question x of the first player | 0 | 1 | 1 | J. Clauser et al. (1969) |
    | 1 | question y of the second player | 0 | 1 | 1 | same |

    ## Rewards

    1 for a round that is won, else 0.

    ## Starting State

    x and y fair and independent.

    ## Episode End

    Termination after one round.

    ## Arguments

    There are none.

    ## Vectorized environment

    `gym.make_vec("qrl/CHSHGame-v0", num_envs=8)` makes `CHSHGameVector`, whose copies follow the scalar environment bit
    for bit.

    ## Version History

    * v0: first version.

    Source: J. Clauser, M. Horne, A. Shimony and R. Holt, Physical Review Letters 23, 880 (1969); as a game R. Cleve et
    al., arXiv:quant-ph/0404076, Sec. 3.1; the quantum bound B. Tsirelson, Letters in Mathematical Physics 4, 93 (1980).
    """

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(CHSHGameTask(options_from(CHSHGameOptions, options)), render_mode)

    def measures(
        self, policy: Callable[[npt.NDArray[np.float32]], npt.ArrayLike], env: gym.Env[Any, Any]
    ) -> dict[str, float]:
        """Of a deterministic policy, seen through the wrappers of `env`: `win_probability` and `signalling`."""
        actions = np.asarray(policy(as_seen(env, QUESTIONS))).reshape(4).astype(np.int64)
        joint = np.eye(4)[actions].reshape(2, 2, 2, 2)
        return {"win_probability": win_probability(joint), "signalling": signalling(joint)}


class CHSHGameVector(TaskVectorEnv):
    """Native vectorised form of `CHSHGame`."""

    task_type, options_type = CHSHGameTask, CHSHGameOptions


def win_probability(joint: npt.ArrayLike) -> float:
    """Expected share of wins of the answers' distribution p(a, b | x, y), an array `(2, 2, 2, 2)` over x, y, a, b.

    Raises: ValueError where it is no distribution.
    """
    return float((_distribution(joint).reshape(4, 4) * _WINS).sum() / 4.0)


def signalling(joint: npt.ArrayLike) -> float:
    """How far an answer's distribution depends on the other player's question, in [0, 1]; 0 for players who keep apart.

    The largest change of p(a = 1 | x, y) with y, or of p(b = 1 | x, y) with x; `joint` as in `win_probability`.
    """
    p = _distribution(joint)
    first, second = p[:, :, 1, :].sum(axis=2), p[:, :, :, 1].sum(axis=2)
    return float(max(np.abs(first[:, 0] - first[:, 1]).max(), np.abs(second[0] - second[1]).max()))


def _distribution(joint: npt.ArrayLike) -> Floats:
    p = np.asarray(joint, dtype=np.float64)
    if p.shape != (2, 2, 2, 2) or (p < -1e-9).any() or not np.allclose(p.sum(axis=(2, 3)), 1.0, atol=1e-6):
        raise ValueError(
            f"joint: shape {p.shape} or a value does not fit; use p(a, b | x, y) as (2, 2, 2, 2)"
        )
    return p
