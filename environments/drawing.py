"""Pictures of the environments, with matplotlib (imported on first use, Agg canvas, no pyplot and so no global
state).

Colours are the Okabe-Ito set, which stays apart for colour-blind readers; every colour goes with a shape or a
label.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from environments.optics import AwakeOptics

__all__ = [
    "draw_antenna_selection",
    "draw_awake_steering",
    "draw_chsh_game",
    "draw_frequency_bandit",
    "draw_target_steering",
]

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


def draw_chsh_game(x: int, y: int, a: int, b: int) -> Picture:
    """Two players with their questions and, once given (not -1), their answers.

    Returns: (300, 480, 3), uint8. Source: own construction.
    """
    figure = _figure(4.8, 3.0)
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set(xlim=(-2.0, 2.0), ylim=(-1.2, 1.2))
    axis.axvline(0.0, color=GREY, linewidth=1.5, linestyle="--")
    played = a >= 0
    won = played and (a ^ b) == (x & y)
    colour = INK if not played else GREEN if won else VERMILION
    for place, question, answer, names in ((-1.0, x, a, "xa"), (1.0, y, b, "yb")):
        axis.plot([place], [0.0], "o", color=BLUE, markersize=34)
        axis.annotate("", (place, 0.28), (place, 0.8), arrowprops={"arrowstyle": "->", "color": INK})
        axis.text(place, 0.88, f"{names[0]} = {question}", ha="center", fontsize=13, color=INK)
        if played:
            axis.annotate("", (place, -0.8), (place, -0.28), arrowprops={"arrowstyle": "->", "color": colour})
            axis.text(place, -1.05, f"{names[1]} = {answer}", ha="center", fontsize=13, color=colour)
    title = "won" if won else "lost" if played else "asked"
    figure.suptitle(f"{title}: a xor b = x and y", fontsize=10, color=colour)
    return _pixels(figure)


def draw_frequency_bandit(context: float, action: int, frequency: int) -> Picture:
    """The reward of action 1 over the circle, the context, and the action once taken (not -1).

    Returns: (300, 560, 3), uint8. Source: own construction.
    """
    figure = _figure(5.6, 3.0)
    axis = figure.subplots()
    grid = np.linspace(-np.pi, np.pi, 60 * min(frequency, 50) + 1)
    axis.axhline(0.0, color=GREY, linewidth=0.8)
    axis.plot(grid, np.cos(frequency * grid), color=BLUE, linewidth=1.8, label="reward of action 1")
    here = math.cos(frequency * context)
    axis.plot([context], [here], "D", color=ORANGE, markersize=9, label=f"context {context:+.3f} rad")
    if action >= 0:
        reward = (2 * action - 1) * here
        colour = GREEN if reward > 0.0 else VERMILION
        axis.plot(
            [context], [reward], "s", color=colour, markersize=9, label=f"action {action}: {reward:+.3f}"
        )
    axis.set_ylim(-1.15, 1.15)
    axis.set_xlabel("context (rad)")
    axis.set_ylabel("reward")
    axis.legend(loc="upper left", fontsize=8, frameon=True)
    _tidy(axis)
    return _pixels(figure)


def draw_antenna_selection(
    *,
    size: float,
    antennas: Floats,
    directions: Floats,
    path: Floats,
    step: int,
    chosen: int,
    best: int,
    energy: float,
    best_energy: float,
) -> Picture:
    """The area from above with its antennas, the way so far and to come; lengths in units of the area.

    `antennas` and `directions` (n, 2), `path` (steps + 1, 2). Returns: (480, 480, 3), uint8. Source: own construction.
    """
    figure = _figure(4.8, 4.8)
    axis = figure.subplots()
    colour = GREEN if chosen == best else VERMILION
    axis.plot(*path.T, color=GREY, linewidth=1.0, linestyle=":")
    axis.plot(*path[: step + 1].T, color=BLUE, linewidth=2.0)
    axis.plot(*path[step], "D", color=BLUE, markersize=8, zorder=4)
    for index, (place, along) in enumerate(zip(antennas, directions, strict=True)):
        ends = np.stack([place - 0.25 * along, place + 0.25 * along])
        axis.plot(*ends.T, color=ORANGE if index == chosen else INK, linewidth=6.0, solid_capstyle="butt")
        axis.annotate(str(index), place, (6, 6), textcoords="offset points", fontsize=9, color=INK)
    axis.plot(*np.stack([antennas[chosen], path[step]]).T, color=colour, linewidth=1.2, linestyle="--")
    axis.set(xlim=(0.0, size), ylim=(0.0, size), aspect="equal")
    figure.suptitle(
        f"step {step}    antenna {chosen} (best {best})    energy {energy:.4f} of {best_energy:.4f}",
        fontsize=10,
        color=INK,
    )
    _tidy(axis)
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
