"""Which hidden units of a Boltzmann machine are coupled, and which of them see the state and which the action."""

from __future__ import annotations

import hashlib
import inspect
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.gates import choice, integer

Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The hidden units of a machine; equal where the content is equal, whatever the name.

    Attributes:
        name: the family, for records.
        n_hidden: number of hidden units.
        edges: coupled pairs i < j in ascending order, ``(n_edges, 2)``.
        state_sees: which units the state nodes are connected to, ``(n_hidden,)``.
        action_sees: which units the action nodes are connected to, ``(n_hidden,)``.
        colours: a proper two-colouring, ``(n_hidden,)``; None where the graph is not bipartite.
        digest: SHA-256 of the content, hexadecimal.

    Raises:
        TypeError: n_hidden is no integer.
        ValueError: an edge out of range, out of order or given twice; marks of a wrong shape or that mark no
            unit; coupled units of one colour.
    """

    name: str
    n_hidden: int
    edges: Integers
    state_sees: Bools
    action_sees: Bools
    colours: Bools | None
    digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        n = integer("n_hidden", self.n_hidden, 1)
        edges = _frozen(np.asarray(self.edges, dtype=np.int64).reshape(-1, 2))
        _check_edges(edges, n)
        sees = {name: _marks(name, getattr(self, name), n) for name in ("state_sees", "action_sees")}
        colours = None if self.colours is None else _marks("colours", self.colours, n)
        if colours is not None and bool((colours[edges[:, 0]] == colours[edges[:, 1]]).any()):
            raise ValueError("colours: two coupled units have one colour; use two_colouring, or None")
        for name, marks in sees.items():
            if not marks.any():
                raise ValueError(f"{name}: no unit is marked; connect at least one")
        values: dict[str, Any] = {"n_hidden": n, "edges": edges, "colours": colours, **sees}
        content = hashlib.sha256(np.int64(n).tobytes() + edges.tobytes())
        for marks in sees.values():
            content.update(marks.tobytes())
        for name, value in {**values, "digest": content.hexdigest()}.items():
            object.__setattr__(self, name, value)

    @property
    def n_edges(self) -> int:
        """Number of couplings."""
        return len(self.edges)

    @property
    def smaller_shore(self) -> int | None:
        """Number of units of the rarer colour, over which a sum at zero field runs; None without colours."""
        if self.colours is None:
            return None
        ones = int(self.colours.sum())
        return min(ones, self.n_hidden - ones)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Graph) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)


def chimera(rows: int, columns: int, shore: int = 4) -> Graph:
    """Chimera cells: ``2 shore rows columns`` units, complete bipartite cells coupled to their neighbours.

    Unit ``((row columns + column) 2 + side) shore + k``; side 0 is coupled to its equal in the cells above and
    below, side 1 in those left and right. The sides swap colours in alternate cells as on a chessboard, which
    makes the graph bipartite; the state sees colour 0 and the action colour 1.

    Raises:
        TypeError, ValueError: an argument is no integer, or is below 1.

    Source: arXiv:1706.00074, section III; the colouring is our own.
    """
    rows, columns, shore = (
        integer(name, value, 1) for name, value in (("rows", rows), ("columns", columns), ("shore", shore))
    )
    unit = np.arange(2 * rows * columns * shore).reshape(rows, columns, 2, shore)
    cells = np.stack(np.broadcast_arrays(unit[:, :, 0, :, None], unit[:, :, 1, None, :]), axis=-1)
    vertical = np.stack((unit[:-1, :, 0], unit[1:, :, 0]), axis=-1)
    horizontal = np.stack((unit[:, :-1, 1], unit[:, 1:, 1]), axis=-1)
    edges = np.concatenate([pairs.reshape(-1, 2) for pairs in (cells, vertical, horizontal)])
    row, column, side, _ = np.indices(unit.shape)
    colours = ((row + column + side) % 2 == 1).ravel()
    return _graph("chimera", unit.size, edges, ~colours, colours, colours)


def pegasus(m: int, n_hidden: int | None = None) -> Graph:
    """The Pegasus graph P_m, of degree 15 in its bulk, or a connected patch of it.

    A qubit is a segment of length 12 on a grid. Couplers join segments that cross, neighbours in line, and
    pairs of adjacent parallels; the state sees vertical qubits and the action horizontal ones. Units come in
    the order of their coordinates (u, w, k, z).

    Args:
        m: size, at least 2; P_2 has 40 units.
        n_hidden: keep only so many units, a dense patch; None keeps all.

    Raises:
        TypeError, ValueError: an argument is no integer or out of range.

    Source: Boothby et al., arXiv:2003.00133, with the standard offsets.
    """
    m = integer("m", m, 2)
    u, w, k, z = np.indices((2, m, 12, m - 1)).reshape(4, -1)
    offset = np.array([[2, 10, 6], [6, 2, 10]])[u, k // 4]
    line, start = 12 * w + k, 12 * z + offset
    crossing = _crossings(u, line, start, 12)
    unit = np.arange(u.size).reshape(2, m, 12, m - 1)
    in_line = np.stack((unit[..., :-1], unit[..., 1:]), axis=-1)
    adjacent = np.stack((unit[:, :, 0::2], unit[:, :, 1::2]), axis=-1)
    edges = np.concatenate([crossing, in_line.reshape(-1, 2), adjacent.reshape(-1, 2)])
    return _fabric("pegasus", u == 0, edges, n_hidden)


def zephyr(m: int, t: int = 4, n_hidden: int | None = None) -> Graph:
    """The Zephyr graph Z_m,t, of degree 20 in its bulk for t = 4, or a connected patch of it.

    As ``pegasus``; a segment spans two lines of t tracks each, and overlapping segments of a track are
    coupled too. Units come in the order of their coordinates (u, w, k, j, z); Z_1 has 48.

    Args:
        m: size, at least 1.
        t: tracks a line.
        n_hidden: keep only so many units, a dense patch; None keeps all.

    Raises:
        TypeError, ValueError: an argument is no integer or out of range.

    Source: Boothby, King and Raymond, D-Wave technical report 14-1056A-A (2021).
    """
    m, t = integer("m", m, 1), integer("t", t, 1)
    shape = (2, 2 * m + 1, t, 2, m)
    u, w, _, j, z = np.indices(shape).reshape(5, -1)
    crossing = _crossings(u, w, 2 * z + j, 2)
    unit = np.arange(u.size).reshape(shape)
    in_line = np.stack((unit[..., :-1], unit[..., 1:]), axis=-1)
    overlapping = np.stack((unit[..., 0, :], unit[..., 1, :]), axis=-1)
    onward = np.stack((unit[..., 1, :-1], unit[..., 0, 1:]), axis=-1)
    edges = np.concatenate([crossing, *(e.reshape(-1, 2) for e in (in_line, overlapping, onward))])
    return _fabric("zephyr", u == 0, edges, n_hidden)


def layered(widths: Sequence[int]) -> Graph:
    """Layers, each completely coupled to the next: a deep Boltzmann machine.

    The state sees the first layer and the action the last.

    Raises:
        TypeError, ValueError: no layer, or a width that is no integer of at least 1.

    Source: Salakhutdinov and Hinton, AISTATS 2009; arXiv:1706.00074.
    """
    if isinstance(widths, str) or not isinstance(widths, Iterable):
        raise TypeError(f"widths: {widths!r} is no list; use for example [8, 8]")
    sizes = [integer("widths", width, 1) for width in widths]
    if not sizes:
        raise ValueError("widths: no layer; use for example [8, 8]")
    layer = np.repeat(np.arange(len(sizes)), sizes)
    blocks = np.split(np.arange(layer.size), np.cumsum(sizes)[:-1])
    pairs = [np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2) for a, b in pairwise(blocks)]
    edges = np.concatenate([np.empty((0, 2), np.int64), *pairs])
    return _graph("layered", layer.size, edges, layer == 0, layer == len(sizes) - 1, layer % 2 == 1)


def complete(n: int) -> Graph:
    """Every pair of n units coupled; state and action see all units.

    Raises:
        TypeError, ValueError: n is no integer of at least 1.
    """
    n = integer("n", n, 1)
    everything = np.ones(n, dtype=np.bool_)
    edges = np.stack(np.triu_indices(n, 1), axis=-1)
    return _graph("complete", n, edges, everything, everything, two_colouring(n, edges))


def uncoupled(n: int) -> Graph:
    """No couplings among n units; state and action see all units. The free energy has a closed form.

    Raises:
        TypeError, ValueError: n is no integer of at least 1.
    """
    n = integer("n", n, 1)
    everything = np.ones(n, dtype=np.bool_)
    return _graph("uncoupled", n, np.empty((0, 2), np.int64), everything, everything, ~everything)


def custom(
    n: int,
    edges: Iterable[Sequence[int]],
    state_sees: Iterable[int] | None = None,
    action_sees: Iterable[int] | None = None,
) -> Graph:
    """A graph of your own.

    Args:
        n: number of hidden units.
        edges: pairs of coupled units, in any order; each pair once.
        state_sees: units that the state nodes are connected to; None means all.
        action_sees: units that the action nodes are connected to; None means all.

    Raises:
        TypeError, ValueError: an entry is no integer, out of range or given twice; an edge from a unit to itself.
    """
    n = integer("n", n, 1)
    pairs = [[integer("edges", unit, 0) for unit in edge] for edge in edges]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("edges: an edge is no pair of units; use for example [[0, 1], [1, 2]]")
    array = np.sort(np.array(pairs, dtype=np.int64).reshape(-1, 2), axis=1)
    _check_range(array, n)
    by_state, by_action = _chosen("state_sees", state_sees, n), _chosen("action_sees", action_sees, n)
    return _graph("custom", n, array, by_state, by_action, two_colouring(n, array))


GRAPHS: dict[str, Callable[..., Graph]] = {
    "chimera": chimera,
    "pegasus": pegasus,
    "zephyr": zephyr,
    "layered": layered,
    "complete": complete,
    "uncoupled": uncoupled,
    "custom": custom,
}
"""Families of graphs and their builders."""


def build_graph(kind: str, **options: Any) -> Graph:
    """Return a graph by its family's name; ``options`` are the arguments of the family's builder.

    Raises:
        ValueError: the family is unknown (the message names the nearest match), or as its builder.
        TypeError: an option is unknown or missing, or as its builder.

    Example:
        >>> graph = build_graph("chimera", rows=1, columns=2)
        >>> graph.n_hidden, graph.n_edges
        (16, 36)
    """
    builder = GRAPHS[choice("graph", kind, tuple(GRAPHS))]
    check_options(f"graph {kind!r}", builder, options)
    return builder(**options)


def check_options(field: str, maker: Callable[..., Any], options: dict[str, Any]) -> None:
    """Refuse options that a maker does not know or that it misses.

    Raises:
        TypeError: naming the option and those that exist.
    """
    parameters = inspect.signature(maker).parameters
    known = ", ".join(parameters) or "none"
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in options:
        if name not in parameters and not anything:
            raise TypeError(f"{field}: option {name!r} is unknown; use {known}")
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        if required and name not in options:
            raise TypeError(f"{field}: option {name!r} is missing; use {known}")


def two_colouring(n: int, edges: ArrayLike) -> Bools | None:
    """Return marks ``(n,)`` such that coupled units differ, or None where there are none; breadth first."""
    neighbours = _neighbours(n, edges)
    colours = np.full(n, -1)
    for root in range(n):
        if colours[root] >= 0:
            continue
        colours[root] = 0
        queue = deque([root])
        while queue:
            unit = queue.popleft()
            for other in neighbours[unit]:
                if colours[other] < 0:
                    colours[other] = 1 - colours[unit]
                    queue.append(other)
                elif colours[other] == colours[unit]:
                    return None
    return colours == 1


def _graph(
    name: str, n: int, edges: Integers, state_sees: Bools, action_sees: Bools, colours: Bools | None
) -> Graph:
    """The graph with its edges in ascending order."""
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    return Graph(name, n, edges[order], state_sees, action_sees, colours)


def _fabric(name: str, vertical: Bools, edges: Integers, n_hidden: int | None) -> Graph:
    """The largest connected part of a lattice of segments, or a patch of it, its units in their old order."""
    neighbours = _neighbours(vertical.size, edges)
    rest, kept = set(range(vertical.size)), [0]
    while len(rest) >= len(kept):  # else no part that is left can be larger
        part = _reached(neighbours, min(rest))
        rest.difference_update(part)
        kept = max(kept, part, key=len)
    if n_hidden is not None:
        if integer("n_hidden", n_hidden, 2) > len(kept):
            raise ValueError(f"n_hidden: {n_hidden} is more than this {name} has; use at most {len(kept)}")
        kept = _patch(neighbours, vertical, n_hidden)
    units = np.sort(np.array(kept))
    place = np.full(vertical.size, -1)
    place[units] = np.arange(units.size)
    renamed = np.sort(place[edges], axis=1)
    renamed = renamed[renamed[:, 0] >= 0]
    sees = vertical[units]
    return _graph(name, units.size, renamed, sees, ~sees, two_colouring(units.size, renamed))


def _crossings(u: Integers, line: Integers, start: Integers, length: int) -> Integers:
    """Pairs of a vertical (u = 0) and a horizontal segment that cross."""
    down, across = np.flatnonzero(u == 0), np.flatnonzero(u == 1)
    below = line[across] - start[down][:, None]
    right = line[down][:, None] - start[across]
    first, second = np.nonzero((below >= 0) & (below < length) & (right >= 0) & (right < length))
    return np.stack((down[first], across[second]), axis=-1)


def _neighbours(n: int, edges: ArrayLike) -> list[list[int]]:
    """Coupled units of each unit, ascending."""
    neighbours: list[list[int]] = [[] for _ in range(n)]
    for i, j in np.asarray(edges, dtype=np.int64).reshape(-1, 2).tolist():
        neighbours[i].append(j)
        neighbours[j].append(i)
    return [sorted(units) for units in neighbours]


def _reached(neighbours: list[list[int]], root: int) -> list[int]:
    """The units that are connected to a root."""
    met, queue = {root}, deque([root])
    while queue:
        for unit in neighbours[queue.popleft()]:
            if unit not in met:
                met.add(unit)
                queue.append(unit)
    return sorted(met)


def _patch(neighbours: list[list[int]], vertical: Bools, size: int) -> list[int]:
    """A dense patch around a unit of largest degree: each further unit has the most couplings to those before it;
    among equals one of the rarer orientation."""
    patch = [max(range(vertical.size), key=lambda unit: len(neighbours[unit]))]
    score, inside = np.zeros(vertical.size, dtype=np.int64), np.zeros(vertical.size, dtype=np.bool_)
    while True:
        inside[patch[-1]] = True
        if len(patch) == size:
            return patch
        score[neighbours[patch[-1]]] += 2
        rarer = vertical != (vertical[inside].mean() >= 0.5)
        patch.append(int(np.argmax(np.where(inside, -1, score + rarer))))


def _check_range(edges: Integers, n: int) -> None:
    if edges.size and (edges.min() < 0 or edges.max() >= n):
        raise ValueError(
            f"edges: unit {edges.min() if edges.min() < 0 else edges.max()} does not exist; use units from 0 to {n - 1}"
        )
    if (edges[:, 0] == edges[:, 1]).any():
        unit = edges[edges[:, 0] == edges[:, 1]][0, 0]
        raise ValueError(f"edges: unit {unit} is coupled to itself; couple different units")


def _check_edges(edges: Integers, n: int) -> None:
    _check_range(edges, n)
    keys = edges[:, 0] * n + edges[:, 1]
    if (edges[:, 0] > edges[:, 1]).any() or (np.diff(keys) < 0).any():
        raise ValueError("edges: pairs are not i < j in ascending order; use circuits.boltzmann.build_graph")
    if (repeated := np.flatnonzero(np.diff(keys) == 0)).size:
        i, j = edges[repeated[0]]
        raise ValueError(f"edges: units {i} and {j} are coupled twice; give each pair once")


def _marks(name: str, values: Any, n: int) -> Bools:
    marks = np.asarray(values)
    if marks.dtype != np.bool_ or marks.shape != (n,):
        raise ValueError(
            f"{name}: {marks.dtype} of shape {marks.shape} does not fit; use bools of shape ({n},)"
        )
    return _frozen(marks)


def _chosen(name: str, units: Iterable[int] | None, n: int) -> Bools:
    if units is None:
        return np.ones(n, dtype=np.bool_)
    marks = np.zeros(n, dtype=np.bool_)
    for unit in units:
        if integer(name, unit, 0) >= n:
            raise ValueError(f"{name}: unit {unit} does not exist; use units from 0 to {n - 1}")
        marks[unit] = True
    return marks


def _frozen(values: NDArray[Any]) -> Any:
    """A read-only copy."""
    copy = np.array(values, order="C")
    copy.flags.writeable = False
    return copy
