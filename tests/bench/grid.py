"""Our backends beside their peers on a grid of sizes and batches, and the ratios that we hold ourselves to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from contenders import ADJOINT, BACKPROP, COMPILED, Contender, own, through_autograd
from problem import Cell, Kind
from race import Race, Timing, Timings
from report import Goal, Section, short, table

CIRCUITS = ((4, 5), (8, 5), (12, 5), (16, 3))
BATCHES: dict[Kind, tuple[int, ...]] = {"act": (1, 16, 64), "learn": (1, 16, 64, 256, 1024)}
QUICK = {
    "act": ((4, 5, 1), (4, 5, 16), (8, 5, 16)),
    "learn": ((4, 5, 1), (4, 5, 16), (4, 5, 64), (8, 5, 16), (8, 5, 64)),
}
QUICK_COMPILED = ("learn", Cell(4, 5, 16), ("PennyLane+jax c128", "TC+jax scan c64"))

Grid = dict[tuple[Kind, Cell], Timings]
Choice = Callable[[Cell], bool]


@dataclass(frozen=True)
class Bound:
    """The ratio that a rival's time shall at least have to ours, on some cells."""

    kind: Kind
    rival: str
    ratio: float
    sizes: str
    cells: Choice


JIT, PENNYLANE, LIGHTNING = "best compiled peer", BACKPROP.name, ADJOINT.name
BOUNDS = (
    Bound("learn", JIT, 4, "n = 4, batch 1", lambda c: c.qubits == 4 and c.batch == 1),
    Bound("learn", JIT, 10, "n = 4, batch 16", lambda c: c.qubits == 4 and c.batch == 16),
    Bound("learn", JIT, 30, "n = 4, batch >= 256", lambda c: c.qubits == 4 and c.batch >= 256),
    Bound("learn", JIT, 15, "n = 8, batch 1", lambda c: c.qubits == 8 and c.batch == 1),
    Bound("learn", JIT, 30, "n = 8, batch >= 16", lambda c: c.qubits == 8 and c.batch >= 16),
    Bound("learn", JIT, 30, "n >= 12", lambda c: c.qubits >= 12),
    Bound("act", PENNYLANE, 800, "n <= 8, batch <= 16", lambda c: c.qubits <= 8 and c.batch <= 16),
    Bound("act", PENNYLANE, 450, "n = 8, batch 64", lambda c: c.qubits == 8 and c.batch == 64),
    Bound("learn", PENNYLANE, 200, "n <= 8, batch <= 64", lambda c: c.qubits <= 8 and c.batch <= 64),
    Bound("learn", PENNYLANE, 150, "elsewhere", lambda c: c.qubits > 8 or c.batch > 64),
    Bound("learn", LIGHTNING, 1000, "n <= 8, batch >= 16", lambda c: c.qubits <= 8 and c.batch >= 16),
    Bound("learn", LIGHTNING, 200, "n = 12, batch >= 16", lambda c: c.qubits == 12 and c.batch >= 16),
    Bound("learn", LIGHTNING, 40, "n = 16, batch >= 16", lambda c: c.qubits == 16 and c.batch >= 16),
)


def measure(race: Race, engine: str, quick: bool) -> Section:
    """Time everybody on the grid."""
    ours = [c for name in dict.fromkeys((engine, "torch")) for c in own(name)]
    ours.insert(1, through_autograd(engine))
    everyone = [c for c in (*ours, BACKPROP, ADJOINT, *COMPILED) if c.installed]
    grid: Grid = {}
    for kind, cell in _cells(quick):
        chosen = [c for c in everyone if not quick or _in_quick(c, kind, cell)]
        grid[kind, cell] = race.run(cell, kind, chosen)
    absent = [c.name for c in (BACKPROP, ADJOINT, *COMPILED) if not c.installed]
    text = [f"Not installed: {', '.join(absent)}."] if absent else []
    for kind, title in (("act", "Forward only"), ("learn", "Forward and all gradients")):
        text += [f"### {title}, milliseconds", _times(grid, kind, everyone)]
        text += [f"### {title}, time over ours", _ratios(grid, kind, engine)]
    text += ["### Seconds of the first call of what compiles", _compilation(grid)]
    data = {
        kind: {
            str(cell): {n: t.record() for n, t in row.items()} for (k, cell), row in grid.items() if k == kind
        }
        for kind in BATCHES
    }
    return Section("Peers", "\n\n".join(text), data, _goals(grid, engine))


def _cells(quick: bool) -> list[tuple[Kind, Cell]]:
    if quick:
        return [(kind, Cell(*sizes)) for kind in BATCHES for sizes in QUICK[kind]]
    return [(kind, Cell(n, layers, b)) for n, layers in CIRCUITS for kind in BATCHES for b in BATCHES[kind]]


def _in_quick(contender: Contender, kind: Kind, cell: Cell) -> bool:
    quick_kind, quick_cell, names = QUICK_COMPILED
    return not contender.compiled or (kind == quick_kind and cell == quick_cell and contender.name in names)


def _rival(row: Timings, rival: str, double: bool = False) -> tuple[str, Timing] | None:
    """The rival's name and timing on a cell; of the compiled peers the fastest, in complex128 alone if ``double``."""
    names = [rival]
    if rival == JIT:
        names = [c.name for c in COMPILED if c.double or not double]
    timings = [(name, row[name]) for name in names if name in row and row[name].failure is None]
    return min(timings, key=lambda pair: pair[1].median) if timings else None


def _goals(grid: Grid, engine: str) -> list[Goal]:
    goals = []
    for bound in BOUNDS:
        found = {}
        for (kind, cell), row in grid.items():
            rival = _rival(row, bound.rival)
            if kind == bound.kind and bound.cells(cell) and rival is not None:
                ours = row[f"{engine} f32"]
                found[str(cell)] = 0.0 if ours.failure else rival[1].over(ours)
        what = f"{bound.kind}, {bound.rival} over ours, {bound.sizes}"
        goals.append(Goal(what, ">=", bound.ratio, "x", found))
    return goals


def _times(grid: Grid, kind: Kind, contenders: list[Contender]) -> str:
    rows = [
        [str(cell), *(_shown(row.get(contender.name)) for contender in contenders)]
        for (k, cell), row in grid.items()
        if k == kind
    ]
    return table(["n/L/B", *(contender.name for contender in contenders)], rows)


def _shown(timing: Timing | None) -> str:
    if timing is None:
        return "-"
    return timing.failure or short(1e3 * timing.median)


def _ratios(grid: Grid, kind: Kind, engine: str) -> str:
    rows = []
    for (k, cell), row in grid.items():
        if k != kind:
            continue
        single, double = row[f"{engine} f32"], row[f"{engine} f64"]
        shown = single.failure
        if shown is None:
            shown = "{} ({} to {})".format(*(short(1e3 * s) for s in (single.median, *single.spread)))
        line = [str(cell), shown]
        line += [_over(_rival(row, rival), single) for rival in (JIT, PENNYLANE, LIGHTNING)]
        line += [_over(_rival(row, rival, double=True), double) for rival in (JIT, PENNYLANE, LIGHTNING)]
        rows.append(line)
    rivals = [f"{JIT} / f32", f"{PENNYLANE} / f32", f"{LIGHTNING} / f32"]
    rivals += [f"{JIT} c128 / f64", f"{PENNYLANE} / f64", f"{LIGHTNING} / f64"]
    return table(["n/L/B", f"{engine} f32 ms (p10 to p90)", *rivals], rows)


def _over(rival: tuple[str, Timing] | None, ours: Timing) -> str:
    if rival is None or ours.failure is not None:
        return "-"
    name, timing = rival
    ratio = f"{short(timing.over(ours))}x"
    return ratio if name in (PENNYLANE, LIGHTNING) else f"{ratio} ({name})"


def _compilation(grid: Grid) -> str:
    names = [contender.name for contender in COMPILED]
    rows = []
    for (kind, cell), row in grid.items():
        shown = [row.get(name) for name in names]
        if any(shown):
            seconds = [("-" if t is None else t.failure or short(t.first_s)) for t in shown]
            rows.append([f"{cell} {kind}", *seconds])
    return table(["n/L/B", *names], rows)
