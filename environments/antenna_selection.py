"""Choose the best of a few antennas along a walk, seeing only what the last choice gave.

`AntennaSelection` (class docstring) is the specification.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from environments.options import integer, options_from, real
from environments.task import Floats, Integers, Observations, Step, Task, TaskEnv, TaskVectorEnv, as_seen

__all__ = ["AntennaSelection", "AntennaSelectionVector", "relative_energy"]

SIZE = 6.0
"""Side of the square, in units of the antenna's near field."""
N_ELEMENTS = 17
"""Elements of an antenna, a row half a wavelength apart."""
N_BEAMS = 9
SOFTENING = 1.0
"""What is added to a squared distance, so that energies are at most 1."""
_GRID = 1001
_PATH = 7
"""Where the positions begin in a row."""
_MEASURED_SEED = 20_250


@dataclass(frozen=True)
class AntennaSelectionOptions:
    """Options of `AntennaSelection`, checked when made.

    Raises: ValueError or TypeError naming field, value, way out.
    """

    n_antennas: int = 3
    """Antennas to choose from."""
    layout: int = 0
    """Seed of the antennas' places and directions."""
    spacing: float = 2.0
    """Least distance between two antennas, 1."""
    support_points: int = 3
    """Points that a walk passes through."""
    steps: int = 200
    """Steps of a walk."""

    def __post_init__(self) -> None:
        integer("n_antennas", self.n_antennas, low=2, high=32)
        integer("layout", self.layout, low=0, high=2**32 - 1)
        real("spacing", self.spacing, low=0.0, high=SIZE)
        integer("support_points", self.support_points, low=2, high=5)
        integer("steps", self.steps, low=1, high=10_000)


class AntennaSelectionTask(Task):
    """The rules for N walks at once; equations in `AntennaSelection`.

    A row is: step, last antenna, its energy and beam, the best antenna's energy, energy gathered so far, largest energy
    possible so far, and the positions (steps + 1, 2) of the walk.
    """

    def __init__(self, options: AntennaSelectionOptions) -> None:
        self.options = options
        self.width = _PATH + 2 * (options.steps + 1)
        self.observation_space = gym.spaces.Box(0.0, 1.0, (3,), dtype=np.float32)
        self.action_space = gym.spaces.Discrete(options.n_antennas)
        self.antennas, self.directions = _layout(options)
        self.phases = np.round(np.pi * np.cos(np.linspace(0.1, np.pi - 0.1, N_BEAMS)), 2)
        self._polynomials = _interpolation(options.support_points)

    def draw(self, generator: np.random.Generator) -> Floats:
        """A walk that stays in the square, from its left side to its right, begun at the best antenna."""
        n = self.options.support_points
        while True:
            x = np.sort(np.concatenate([[0.0, SIZE], generator.uniform(0.0, SIZE, n - 2)]))
            points = np.column_stack([x, generator.uniform(0.0, SIZE, n)])
            curve = self._polynomials @ points
            if (curve >= 0.0).all() and (curve <= SIZE).all():
                break
        lengths = np.append(0.0, np.cumsum(np.hypot(*np.diff(curve, axis=0).T)))
        even = np.linspace(0.0, lengths[-1], self.options.steps + 1)
        path = np.column_stack([np.interp(even, lengths, curve[:, axis]) for axis in (0, 1)])
        energy, beam = self.energies(path[:1])
        best = int(energy[0].argmax())
        start = energy[0, best]
        return np.concatenate([[0.0, best, start, beam[0, best], start, start, start], path.reshape(-1)])

    def energies(self, positions: Floats) -> tuple[Floats, Integers]:
        """What each antenna delivers with its best beam, and that beam, (N, n_antennas) of positions (N, 2)."""
        offset = positions[:, None] - self.antennas
        distance2 = offset[..., 0] ** 2 + offset[..., 1] ** 2 + SOFTENING
        along = offset[..., 0] * self.directions[:, 0] + offset[..., 1] * self.directions[:, 1]
        xi = (np.pi * along / np.sqrt(distance2))[..., None] - self.phases
        intensity = _array_factor(xi) / distance2[..., None] ** 2
        beams = intensity.argmax(axis=-1)
        return np.take_along_axis(intensity, beams[..., None], axis=-1)[..., 0], beams

    def step(self, rows: Floats, actions: Integers) -> Step:
        """One step along the walk, served by the antennas `actions`."""
        made = rows.copy()
        made[:, 0] = np.minimum(rows[:, 0] + 1, self.options.steps)
        energies, beams = self.energies(self._positions(made))
        chosen = actions[:, None]
        energy = np.take_along_axis(energies, chosen, axis=1)[:, 0]
        made[:, 1], made[:, 2] = actions, energy
        made[:, 3] = np.take_along_axis(beams, chosen, axis=1)[:, 0]
        made[:, 4] = energies.max(axis=1)
        made[:, 5] += energy
        made[:, 6] += made[:, 4]
        return Step(made, energy, made[:, 0] >= self.options.steps)

    def observe(self, rows: Floats) -> Observations:
        """Antenna, energy and beam of the last choice, each in [0, 1]."""
        scale = np.array([self.options.n_antennas - 1, 1.0, N_BEAMS - 1])
        return (rows[:, 1:4] / scale).astype(np.float32)

    def details(self, rows: Floats) -> dict[str, Floats]:
        """The share of the energy that was possible, and the energy of the best antenna here."""
        return {"relative_energy": rows[:, 5] / rows[:, 6], "best_energy": rows[:, 4].copy()}

    def frame(self, row: Floats) -> npt.NDArray[np.uint8]:
        """The square from above; see `environments/drawing.py`."""
        from environments.drawing import draw_antenna_selection

        energies = self.energies(self._positions(row[None]))[0][0]
        return draw_antenna_selection(
            size=SIZE,
            antennas=self.antennas,
            directions=self.directions,
            path=row[_PATH:].reshape(-1, 2),
            step=int(row[0]),
            chosen=int(row[1]),
            best=int(energies.argmax()),
            energy=float(row[2]),
            best_energy=float(energies.max()),
        )

    def _positions(self, rows: Floats) -> Floats:
        at = _PATH + 2 * rows[:, 0].astype(np.int64)
        return np.take_along_axis(rows, at[:, None] + np.arange(2), axis=1)


class AntennaSelection(TaskEnv):
    """Keep a walker connected: at each step one of three antennas serves, and only its own signal is seen.

    ## Description

    A walker crosses a square of side 6 in 200 equal steps. At each step the agent names the antenna that serves; that
    antenna then uses the best of its nine beams. An antenna is a row of M = 17 elements along the unit vector e, half a
    wavelength apart. At offset r from it, with R^2 = r^2 + 1, a beam of phase phi delivers

        I = [sin(M xi / 2) / (M sin(xi / 2))]^2 / R^4,     xi = pi (r . e) / R - phi

    where the beams' phases are pi cos(u) rounded to hundredths, u from 0.1 to pi - 0.1 in nine equal steps. A walk goes
    through three points: one on the left side, one on the right, one between, as a polynomial of degree 2, at constant
    speed; walks that leave the square are drawn again.

    **What is assumed.** Equations, constants, observation and reward are those of the public code of arXiv:2501.15893.
    Its fixed places of antennas are in a file that was not published: here they are drawn from `layout` by its rule
    (uniform, at least 2 apart, any direction). Its intensity jumps to 1/R^2 where xi is below 2e-5, against the limit
    1/R^4 of the formula: here it is continuous. There an episode ends as terminated and truncated at once: here it
    terminates, since the walk is over.

    ## Action Space

    `Discrete(3)`: which antenna serves at the next position.

    | Num | Action | Unit | Source |
    |---|---|---|---|
    | 0..2 | antenna of that number | 1 | public code of arXiv:2501.15893 |

    ## Observation Space

    `Box(0, 1)`, shape `(3,)`, float32: of the antenna that served last. Position and the other antennas stay unseen.

    | Num | Observation | Min | Max | Unit | Source |
    |---|---|---|---|---|---|
    | 0 | its number over 2 | 0 | 1 | 1 | public code of arXiv:2501.15893 |
    | 1 | its energy I | 0 | 1 | 1 | same |
    | 2 | number of its best beam over 8 | 0 | 1 | 1 | same |

    ## Rewards

    The energy I at the position that the step leads to, in [0, 1].

    ## Starting State

    A walk as above; the best antenna has served at its first position.

    ## Episode End

    Termination at the end of the walk, after 200 steps (`steps`).

    Info: `relative_energy` (energy so far over the largest possible one, the first position included) and `best_energy`
    (of the best antenna here). The measure `relative_energy` of a policy is the mean over 100 fixed walks of this ratio
    at their end; it is what arXiv:2501.15893 validates by.

    Reference values of the measure, layout 0: the best antenna at each step 1, one antenna throughout 0.56, 0.17 and
    0.39, random choices 0.37.

    ## Arguments

    | Parameter | Type | Default | Unit | Description |
    |---|---|---|---|---|
    | `n_antennas` | int | 3 | 1 | in 2..32 |
    | `layout` | int | 0 | 1 | seed of their places and directions |
    | `spacing` | float | 2 | 1 | least distance between two of them, in [0, 6] |
    | `support_points` | int | 3 | 1 | points of a walk, in 2..5 |
    | `steps` | int | 200 | 1 | steps of a walk |

    ## Vectorized environment

    `gym.make_vec("qrl/AntennaSelection-v0", num_envs=8)` makes `AntennaSelectionVector`, whose copies follow the scalar
    environment bit for bit.

    ## Version History

    * v0: first version.

    Source: N. Meyer et al., "Benchmarking quantum reinforcement learning", arXiv:2501.15893, and its public code
    `nicomeyer96/qrl-benchmark` (facts only).
    """

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(AntennaSelectionTask(options_from(AntennaSelectionOptions, options)), render_mode)

    def measures(
        self, policy: Callable[[npt.NDArray[np.float32]], npt.ArrayLike], env: gym.Env[Any, Any]
    ) -> dict[str, float]:
        """What is measured of a policy beside its episodes: `relative_energy`, seen through the wrappers of `env`."""
        return {"relative_energy": relative_energy(policy, env)}


class AntennaSelectionVector(TaskVectorEnv):
    """Native vectorised form of `AntennaSelection`: same options and trajectories, all copies in one batch."""

    task_type, options_type = AntennaSelectionTask, AntennaSelectionOptions


def relative_energy(
    policy: Callable[[npt.NDArray[np.float32]], npt.ArrayLike], env: gym.Env[Any, Any], n_walks: int = 100
) -> float:
    """Mean share of the possible energy over `n_walks` fixed walks, in [0, 1].

    `policy` maps observations (n_walks, 3), as `env` shows them, to actions (n_walks,).

    Raises: TypeError where `env` is no AntennaSelection.
    Source: the validation measure of arXiv:2501.15893.
    """
    base = env.unwrapped
    if not isinstance(base, AntennaSelection):
        raise TypeError(
            f"env: {type(base).__name__} is no AntennaSelection; make it with qrl/AntennaSelection-v0"
        )
    task = base.task
    assert isinstance(task, AntennaSelectionTask)
    generators = np.random.default_rng(_MEASURED_SEED).spawn(n_walks)
    rows = np.stack([task.draw(generator) for generator in generators])
    for _ in range(task.options.steps):
        actions = np.asarray(policy(as_seen(env, task.observe(rows)))).reshape(-1)
        rows = task.step(rows, task.accept(actions, n_walks)).rows
    return float((rows[:, 5] / rows[:, 6]).mean())


def _layout(options: AntennaSelectionOptions) -> tuple[Floats, Floats]:
    """Places and unit directions, each (n_antennas, 2). Raises: ValueError where they find no room."""
    generator, n = np.random.default_rng(options.layout), options.n_antennas
    for _ in range(1000):
        places = generator.uniform(0.0, SIZE, (n, 2))
        apart = np.hypot(*(places[:, None] - places).T)[np.triu_indices(n, 1)]
        if (apart >= options.spacing).all():
            along = generator.uniform(-1.0, 1.0, (n, 2))
            return places, along / np.hypot(*along.T)[:, None]
    raise ValueError(
        f"spacing: {options.spacing} leaves no room for {n} antennas; use a smaller one or fewer antennas"
    )


def _array_factor(xi: Floats) -> Floats:
    """[sin(M xi / 2) / (M sin(xi / 2))]^2, 1 where xi is a multiple of 2 pi."""
    below = N_ELEMENTS * np.sin(xi / 2.0)
    small = np.abs(below) < 1e-9
    ratio = np.sin(N_ELEMENTS * xi / 2.0) / np.where(small, 1.0, below)
    return np.asarray(np.where(small, 1.0, ratio**2))


def _interpolation(n_points: int) -> Floats:
    """Maps the values at evenly spaced points to those of their polynomial on a fine grid, (grid, n_points)."""
    at, grid = np.linspace(0.0, 1.0, n_points), np.linspace(0.0, 1.0, _GRID)
    columns = []
    for j in range(n_points):
        others = np.delete(at, j)
        columns.append(np.prod((grid[:, None] - others) / (at[j] - others), axis=1))
    return np.column_stack(columns)
