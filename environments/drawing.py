"""Pictures of the beam lines, with matplotlib (imported on first use, Agg canvas, no pyplot and so no global
state).

Colours are the Okabe-Ito set, which stays apart for colour-blind readers; every colour goes with a shape or a
label.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from environments.optics import AwakeOptics

__all__ = ["draw_awake_steering", "draw_target_steering"]

Floats = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

BLUE, ORANGE, GREEN, VERMILION, GREY, INK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8C8C8C", "#222222"
_DPI = 100


def draw_target_steering(
    *,
    kick: float,
    reading: float,
    position: float,
    position_limit: float,
    at_target: float,
    target_edge: float,
    sigma: float,
    intensity: float,
    intensity_goal: float,
    phases: tuple[float, float],
    step: int,
) -> Picture:
    """The line from dipole to target, and the beam profile on the target; lengths in metre, kick in radian.

    Returns: (400, 720, 3), uint8. Source: own construction.
    """
    figure = _figure(7.2, 4.0)
    line, profile = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.75, 1.0]})
    success = intensity > intensity_goal
    beam = GREEN if success else VERMILION
    figure.suptitle(
        f"step {step}    kick {kick * 1e6:+.1f} µrad    "
        f"intensity {intensity:.3f} (goal {intensity_goal:.3f})",
        fontsize=10,
        color=INK,
    )

    stations = (0.0, *phases)
    top = 1.3e3 * position_limit
    line.axhline(0.0, color=GREY, linewidth=0.8)
    line.plot(stations, [0.0, 1e3 * position, 1e3 * at_target], color=beam, linewidth=2.2, zorder=3)
    for sign in (-1.0, 1.0):
        line.plot(
            [phases[0] - 0.06, phases[0] + 0.06], [sign * 1e3 * position_limit] * 2, color=INK, linewidth=2.0
        )
    line.text(phases[0], 1e3 * position_limit * 1.06, "beam lost", ha="center", fontsize=8, color=INK)
    goal = [-1e3 * target_edge, 1e3 * target_edge]
    line.plot([phases[1]] * 2, goal, color=GREEN, linewidth=9, alpha=0.45, solid_capstyle="butt")
    line.text(phases[1], goal[1] + 0.03 * top, "goal", ha="center", fontsize=8, color=INK)
    line.plot([phases[0]], [1e3 * reading], marker="D", markersize=8, color=BLUE, zorder=4)
    line.plot([0.0], [0.0], marker="s", markersize=13, color=ORANGE, zorder=4)
    line.plot([phases[1]], [1e3 * at_target], marker="o", markersize=7, color=beam, zorder=4)
    line.set_xticks(stations, ["dipole", "BPM", "target"])
    line.set_xlim(-0.12, phases[1] + 0.12)
    line.set_ylim(-top, top)
    line.set_ylabel("position (mm)")
    line.set_xlabel("phase advance", fontsize=8)

    grid = np.linspace(-8.0 * sigma, 8.0 * sigma, 401)
    density = np.exp(-0.5 * ((grid - at_target) / sigma) ** 2)
    inside = np.abs(grid) <= 3.0 * sigma
    profile.fill_between(1e3 * grid, density, where=inside, color=beam, alpha=0.35, linewidth=0)
    profile.plot(1e3 * grid, density, color=beam, linewidth=1.8)
    for sign in (-1.0, 1.0):
        profile.axvline(sign * 3e3 * sigma, color=INK, linewidth=1.2, linestyle="--")
    profile.text(0.0, 1.08, "target ±3σ", ha="center", fontsize=8, color=INK)
    profile.set_ylim(0.0, 1.2)
    profile.set_yticks([])
    profile.set_xlabel("at the target (mm)")
    _tidy(line, profile)
    return _pixels(figure)


def draw_awake_steering(
    *,
    optics: AwakeOptics,
    kicks: Floats,
    orbit: Floats,
    readings: Floats,
    missing: int | None,
    rms: float,
    threshold: float,
    corrector_limit: float,
    orbit_limit: float,
    step: int,
) -> Picture:
    """Orbit at the monitors above, kicks of the correctors below, along the line; lengths in metre, kicks in
    radian.

    Returns: (480, 800, 3), uint8. Source: own construction.
    """
    figure = _figure(8.0, 4.8)
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [2.0, 1.0]})
    beam = GREEN if rms < threshold else VERMILION
    figure.suptitle(
        f"{optics.plane} plane    step {step}    RMS {1e3 * rms:.2f} mm (goal below {1e3 * threshold:g} mm)",
        fontsize=10,
        color=INK,
    )

    top = 1e3 * max(2.5 * threshold, 1.25 * float(np.abs(orbit).max()))
    top = min(
        1.05e3 * orbit_limit, 2.0 ** math.ceil(math.log2(top))
    )  # few different scales, so frames compare
    above.axhspan(-1e3 * threshold, 1e3 * threshold, color=GREEN, alpha=0.15, linewidth=0)
    above.axhline(0.0, color=GREY, linewidth=0.8)
    above.plot(optics.bpm_s, 1e3 * orbit, color=beam, linewidth=2.0, label="beam", zorder=2)
    alive = np.array([index != missing for index in range(len(orbit))])
    above.plot(
        optics.bpm_s[alive], 1e3 * readings[alive], "D", color=BLUE, markersize=6, label="reading", zorder=3
    )
    if missing is not None:
        above.plot([optics.bpm_s[missing]], [0.0], "x", color=INK, markersize=9, label="dead BPM", zorder=3)
    above.set_ylim(-top, top)
    above.set_ylabel("orbit (mm)")
    above.legend(loc="upper left", fontsize=8, frameon=False, ncols=3)

    limit = 1e6 * corrector_limit
    below.axhline(0.0, color=GREY, linewidth=0.8)
    for sign in (-1.0, 1.0):
        below.axhline(sign * limit, color=INK, linewidth=1.0, linestyle="--")
    below.bar(optics.corrector_s, 1e6 * kicks, width=0.22, color=ORANGE)
    below.set_ylim(-1.2 * limit, 1.2 * limit)
    below.set_ylabel("kick (µrad)")
    below.set_xlabel("path along the line (m)")
    _tidy(above, below)
    return _pixels(figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _tidy(*axes: Any) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)


def _pixels(figure: Any) -> Picture:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[:, :, :3].copy()
