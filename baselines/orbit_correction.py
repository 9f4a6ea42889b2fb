"""Orbit correction by singular value decomposition: the operator's method, beside the learned policies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class OrbitCorrector:
    """The linear controller that undoes the orbit it sees, from a known response matrix.

    With `R = U diag(s) V^T`, orbit x = R k, it asks for the kick change

        dk = -gain * sum_{m < n_modes} v_m (u_m . x) / s_m

    the least-squares solution of `x + R dk = 0` in the leading modes, and returns the action dk /
    action_scale, limited to [-1, 1]. A singular value below `cutoff * s_0` is never inverted. With gain 1 and
    all modes an attainable orbit is gone in one step; with one mode only the leading pattern is.

    Arguments: `response` R, shape (n_bpms, n_correctors), metre per radian, position change by kick;
    `n_modes` modes used (default: all above the cutoff); `gain` in (0, 1]; `cutoff` relative to the largest
    singular value, 1; `action_scale` kick change of action 1, radian; `observation_scale` metres of position
    that observation 1 stands for (1.0 where observations are in metres); `limit` how actions that exceed the
    box are brought back: "clip" each on its own, which keeps the others' full correction, or "scale" all by
    one factor, which keeps the direction; `increments` for environments that offer a few kick changes of one
    corrector: the change of each action in radian, such as (-15e-6, 15e-6); the action is then the index of
    the change closest to dk.

    Raises `ValueError` or `TypeError` naming the argument.

    Source: singular value decomposition of the response matrix as used for closed orbits by Y. Chung,
    G. Decker and K. Evans, Proc. 1993 Particle Accelerator Conference, "Closed orbit correction using
    singular value decomposition of the response matrix"; limits and increments own construction.

    Example:
        >>> corrector = OrbitCorrector([[2.0]], action_scale=1.0)
        >>> corrector.action([1.0])
        array([-0.5])
    """

    def __init__(
        self,
        response: ArrayLike,
        *,
        n_modes: int | None = None,
        gain: float = 1.0,
        cutoff: float = 1e-9,
        action_scale: float = 3e-4,
        observation_scale: float = 1.0,
        limit: str = "clip",
        increments: ArrayLike | None = None,
    ) -> None:
        self.response = _matrix(response)
        if limit not in ("clip", "scale"):
            raise ValueError(f"limit: {limit!r} is unknown; use 'clip' or 'scale'")
        self.gain = _in_range("gain", gain, 0.0, 1.0)
        self.cutoff = _in_range("cutoff", cutoff, 0.0, 1.0, low_open=False)
        self.action_scale = _in_range("action_scale", action_scale, 0.0, np.inf)
        self.observation_scale = _in_range("observation_scale", observation_scale, 0.0, np.inf)
        self.limit = limit
        self.increments = None if increments is None else _increments(increments, self.response.shape)
        u, s, vt = np.linalg.svd(self.response, full_matrices=False)
        if s[0] == 0.0:
            raise ValueError("response: the matrix is 0, no corrector moves the beam; measure it again")
        usable = int(np.count_nonzero(s > self.cutoff * s[0]))
        self.n_modes = usable if n_modes is None else _modes(n_modes, usable)
        self.singular_values: Array = s
        used = slice(self.n_modes)
        self.pseudo_inverse: Array = (vt[used].T / s[used]) @ u[:, used].T
        self._matrix: Array = -self.gain * self.observation_scale / self.action_scale * self.pseudo_inverse

    @classmethod
    def one_mode(cls, response: ArrayLike, **options: Any) -> OrbitCorrector:
        """The corrector of the leading singular mode alone: a rank-one policy, one number to know."""
        return cls(response, n_modes=1, **options)

    def action(self, observation: ArrayLike) -> Any:
        """The action for an orbit.

        `observation` (n_bpms,) or (batch, n_bpms), in units of `observation_scale` metres. Returns actions
        (n_correctors,) or (batch, n_correctors) in [-1, 1]; with increments an integer, or integers (batch,).
        A reading of NaN (a monitor that is missing) counts as 0. Raises `ValueError` for another number of
        monitors.
        """
        x = np.asarray(observation, dtype=np.float64)
        if x.ndim not in (1, 2) or x.shape[-1] != self.response.shape[0]:
            raise ValueError(
                f"observation: shape {x.shape} does not fit {self.response.shape[0]} monitors; "
                "use (n_bpms,) or (batch, n_bpms)"
            )
        wanted = np.nan_to_num(x, nan=0.0) @ self._matrix.T
        if self.increments is not None:
            distance = np.abs(wanted * self.action_scale - self.increments)
            return distance.argmin(axis=-1) if x.ndim == 2 else int(distance.argmin())
        if self.limit == "scale":
            return wanted / np.maximum(1.0, np.abs(wanted).max(axis=-1, keepdims=True))
        return np.clip(wanted, -1.0, 1.0)

    def predict(self, observation: ArrayLike, *_: Any, **__: Any) -> tuple[Any, None]:
        """`(action, None)`, with the signature of `predict` in Stable-Baselines3."""
        return self.action(observation), None


def _matrix(response: ArrayLike) -> Array:
    matrix = np.array(response, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"response: shape {matrix.shape} is not (n_bpms, n_correctors); give a matrix")
    if not np.isfinite(matrix).all():
        raise ValueError("response: an entry is not finite; give metres per radian for every pair")
    return matrix


def _increments(increments: ArrayLike, shape: tuple[int, ...]) -> Array:
    if shape != (1, 1):
        raise ValueError(f"increments: a response of shape {shape} has no discrete action; use one corrector")
    values = np.array(increments, dtype=np.float64)
    if values.ndim != 1 or values.size < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"increments: {increments!r} is not a list of kick changes; give one for each action"
        )
    return values


def _in_range(name: str, value: Any, low: float, high: float, *, low_open: bool = True) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: {value!r} is not a number; use one between {low:g} and {high:g}")
    if not np.isfinite(value) or value > high or (value <= low if low_open else value < low):
        raise ValueError(f"{name}: {value!r} is out of range; use a number between {low:g} and {high:g}")
    return float(value)


def _modes(n_modes: Any, usable: int) -> int:
    if isinstance(n_modes, bool) or not isinstance(n_modes, int | np.integer):
        raise TypeError(f"n_modes: {n_modes!r} is not an integer; use 1 to {usable}")
    if not 1 <= n_modes <= usable:
        raise ValueError(
            f"n_modes: {n_modes} is not between 1 and {usable}, the modes above the cutoff; use one of those"
        )
    return int(n_modes)
