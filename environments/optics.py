"""Linear transverse optics: transport between two points of a line, response of monitors to correctors.

Everything is first-order and one plane at a time. A transverse state is (x, x') in metre and radian. Angles
of phase advance are in radian here; only the CSV tables hold turns.

Source: E. D. Courant and H. S. Snyder, Ann. Phys. 3 (1958) 1, doi 10.1016/0003-4916(58)90012-5, section 3
(transport from Twiss parameters); data and their provenance in `environments/data/README.md`.
"""

import csv
import functools
import math
from dataclasses import dataclass
from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "AwakeOptics",
    "Device",
    "Quadrupole",
    "Twiss",
    "awake_devices",
    "awake_optics",
    "awake_quadrupoles",
    "drift_matrix",
    "propagate",
    "quadrupole_matrix",
    "response_matrix",
    "transport_matrix",
]

Array = npt.NDArray[np.float64]
PLANES = ("horizontal", "vertical")


class Twiss(NamedTuple):
    """Optical functions of one plane at one point: `beta` (m), `alpha` (1), phase advance `mu` (rad)."""

    beta: float
    alpha: float
    mu: float


class Device(NamedTuple):
    """A monitor or corrector of the AWAKE table: name, MAD-X keyword, path length `s` (m), optics of both
    planes."""

    name: str
    keyword: str
    s: float
    horizontal: Twiss
    vertical: Twiss


class Quadrupole(NamedTuple):
    """A quadrupole: name, integrated gradient `k1l` (1/m, positive focuses horizontally), `length` (m),
    centre `s` (m)."""

    name: str
    k1l: float
    length: float
    s: float


def transport_matrix(start: Twiss, end: Twiss) -> Array:
    """Transport matrix (2, 2) of (x, x') from `start` to `end`, from the optical functions there.

    With d = mu2 - mu1:
        m11 = sqrt(b2/b1) (cos d + a1 sin d)                            m12 = sqrt(b1 b2) sin d
        m21 = ((a1 - a2) cos d - (1 + a1 a2) sin d) / sqrt(b1 b2)       m22 = sqrt(b1/b2) (cos d - a2 sin d)
    m12 is in m/rad, m21 in rad/m; the determinant is 1.

    Source: Courant and Snyder 1958 (module docstring), section 3.
    """
    sine, cosine = math.sin(end.mu - start.mu), math.cos(end.mu - start.mu)
    geometric = math.sqrt(start.beta * end.beta)
    return np.array(
        [
            [math.sqrt(end.beta / start.beta) * (cosine + start.alpha * sine), geometric * sine],
            [
                ((start.alpha - end.alpha) * cosine - (1.0 + start.alpha * end.alpha) * sine) / geometric,
                math.sqrt(start.beta / end.beta) * (cosine - end.alpha * sine),
            ],
        ]
    )


def response_matrix(monitors: list[Twiss], correctors: list[Twiss]) -> Array:
    """Response (n_monitors, n_correctors) in m/rad: orbit at each monitor for a unit kick of each corrector.

    R_ij = sqrt(beta_i beta_j) sin(mu_i - mu_j) where mu_i > mu_j, else 0: a kick moves only what lies behind
    it.

    Source: Courant and Snyder 1958 (module docstring), m12 of section 3, for a single-pass line.
    """
    beta_i, mu_i = np.array([[point.beta, point.mu] for point in monitors]).T
    beta_j, mu_j = np.array([[point.beta, point.mu] for point in correctors]).T
    advance = mu_i[:, None] - mu_j[None, :]
    return np.where(advance > 0.0, np.sqrt(np.outer(beta_i, beta_j)) * np.sin(advance), 0.0)


def drift_matrix(length: float) -> Array:
    """Transport matrix (2, 2) of a field-free stretch of `length` metres. Source: textbook."""
    return np.array([[1.0, length], [0.0, 1.0]])


def quadrupole_matrix(k1l: float, length: float) -> Array:
    """Transport matrix (2, 2) of a quadrupole of integrated strength `k1l` (1/m) over `length` (m).

    Positive `k1l` focuses the plane in question: pass `k1l` for the horizontal and `-k1l` for the vertical
    plane.

    Source: textbook (x'' + k x = 0 with k = k1l / length).
    """
    if k1l == 0.0:
        return drift_matrix(length)
    root = math.sqrt(abs(k1l) / length)
    phase = root * length
    if k1l > 0.0:
        return np.array(
            [[math.cos(phase), math.sin(phase) / root], [-root * math.sin(phase), math.cos(phase)]]
        )
    return np.array(
        [[math.cosh(phase), math.sinh(phase) / root], [root * math.sinh(phase), math.cosh(phase)]]
    )


def propagate(start: Twiss, matrix: Array) -> Twiss:
    """Optical functions behind a piece of line with transport `matrix` (2, 2), given those in front of it.

    beta2 = m11^2 beta - 2 m11 m12 alpha + m12^2 gamma, gamma = (1 + alpha^2)/beta, and
    mu2 = mu + atan2(m12, m11 beta - m12 alpha); the piece must advance the phase by less than pi.

    Source: Courant and Snyder 1958 (module docstring), section 3.
    """
    (m11, m12), (m21, m22) = matrix.tolist()
    beta, alpha, mu = start
    gamma = (1.0 + alpha * alpha) / beta
    return Twiss(
        beta=m11 * m11 * beta - 2.0 * m11 * m12 * alpha + m12 * m12 * gamma,
        alpha=-m11 * m21 * beta + (m11 * m22 + m12 * m21) * alpha - m12 * m22 * gamma,
        mu=mu + math.atan2(m12, m11 * beta - m12 * alpha),
    )


@functools.cache
def awake_devices() -> tuple[Device, ...]:
    """The 22 monitors and correctors of the AWAKE electron line, along the beam. Source: `data/README.md`."""
    return tuple(
        Device(
            row["name"],
            row["keyword"],
            float(row["s_m"]),
            Twiss(float(row["betx_m"]), float(row["alfx"]), 2.0 * math.pi * float(row["mux_2pi"])),
            Twiss(float(row["bety_m"]), float(row["alfy"]), 2.0 * math.pi * float(row["muy_2pi"])),
        )
        for row in _table("awake_tt43_optics.csv")
    )


@functools.cache
def awake_quadrupoles() -> dict[str, Quadrupole]:
    """The eleven quadrupoles of the AWAKE electron line by name, along the beam. Source: `data/README.md`."""
    return {
        row["name"]: Quadrupole(
            row["name"], float(row["k1l_per_m"]), float(row["length_m"]), float(row["s_m"])
        )
        for row in _table("awake_tt43_quadrupoles.csv")
    }


@dataclass(frozen=True)
class AwakeOptics:
    """One plane of the 10 x 10 steering task on the AWAKE line.

    Source: `data/README.md`; which devices take part: the first monitor and the last corrector are dropped,
    as both published versions of the task do.
    """

    plane: str
    """`horizontal` or `vertical`."""
    bpm_names: tuple[str, ...]
    """Names of the ten monitors."""
    bpm_s: Array
    """Path length of each monitor, (10,), m."""
    corrector_names: tuple[str, ...]
    """Names of the ten correctors."""
    corrector_s: Array
    """Path length of each corrector, (10,), m."""
    response: Array
    """Response R, (10, 10), m/rad: row a monitor, column a corrector."""
    bpm_twiss: tuple[Twiss, ...]
    """Optical functions at the monitors."""
    corrector_twiss: tuple[Twiss, ...]
    """Optical functions at the correctors."""

    def gradient_error(self, name: str) -> tuple[Array, Array]:
        """How an error of quadrupole `name` changes the response, as `(after, before)`, (10,) and (10,), in
        m/rad.

        A thin error `dk1l` (1/m) at the centre of the quadrupole kicks by -dk1l x_q (+dk1l x_q in the
        vertical plane), where x_q = sum_j before_j k_j is the orbit there. In a line that the beam passes
        once this is exact for a thin error, not a first order:
            R'_ij = R_ij - dk1l after_i before_j   (horizontal),   + in the vertical plane.
        The sign of the plane is already inside `after`.

        Raises: ValueError for an unknown name.
        Source: own construction; optical functions at the centre by `propagate` from the device in front.
        """
        quadrupoles = awake_quadrupoles()
        if name not in quadrupoles:
            raise ValueError(f"quadrupole: {name!r} is unknown; use one of {', '.join(quadrupoles)}")
        centre = _twiss_at_centre(quadrupoles[name], self.plane)
        after = response_matrix(list(self.bpm_twiss), [centre])[:, 0]
        before = response_matrix([centre], list(self.corrector_twiss))[0]
        return (after if self.plane == "horizontal" else -after), before


@functools.cache
def awake_optics(plane: str = "horizontal") -> AwakeOptics:
    """The 10 x 10 steering task on the AWAKE line in `plane` (`horizontal` or `vertical`).

    Source: `data/README.md`.
    """
    devices = awake_devices()
    bpms = [device for device in devices if device.keyword == "MONITOR"][1:]
    correctors = [device for device in devices if device.keyword == "KICKER"][:-1]
    bpm_twiss = [getattr(device, plane) for device in bpms]
    corrector_twiss = [getattr(device, plane) for device in correctors]
    bpm_s = np.array([device.s for device in bpms])
    corrector_s = np.array([device.s for device in correctors])
    response = response_matrix(bpm_twiss, corrector_twiss)
    for shared in (bpm_s, corrector_s, response):  # one object for every caller
        shared.setflags(write=False)
    return AwakeOptics(
        plane=plane,
        bpm_names=tuple(device.name for device in bpms),
        bpm_s=bpm_s,
        corrector_names=tuple(device.name for device in correctors),
        corrector_s=corrector_s,
        response=response,
        bpm_twiss=tuple(bpm_twiss),
        corrector_twiss=tuple(corrector_twiss),
    )


def _twiss_at_centre(quadrupole: Quadrupole, plane: str) -> Twiss:
    """Optical functions at the centre of `quadrupole`, followed from the nearest table device in front of
    it."""
    device = max((d for d in awake_devices() if d.s < quadrupole.s), key=lambda d: d.s)
    sign = 1.0 if plane == "horizontal" else -1.0
    twiss: Twiss = getattr(device, plane)
    position = device.s
    for magnet in awake_quadrupoles().values():
        if not position < magnet.s <= quadrupole.s:
            continue
        twiss = propagate(twiss, drift_matrix(magnet.s - magnet.length / 2 - position))
        if magnet is quadrupole:
            return propagate(twiss, quadrupole_matrix(sign * magnet.k1l / 2, magnet.length / 2))
        twiss = propagate(twiss, quadrupole_matrix(sign * magnet.k1l, magnet.length))
        position = magnet.s + magnet.length / 2
    raise ValueError(f"quadrupole: {quadrupole.name!r} lies in front of the first device of the table")


def _table(name: str) -> list[dict[str, str]]:
    text = resources.files("environments").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
