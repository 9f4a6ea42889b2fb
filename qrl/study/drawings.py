"""The circuits and Boltzmann machines of a study's agents as inline drawings."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qrl.study.comparison import AgentResult, StudyResult
from qrl.study.statistics import Array

if TYPE_CHECKING:
    from circuits import Circuit
    from circuits.boltzmann import Graph

Network = Mapping[str, Any]

STATE, ACTION, BOTH, BIAS = "var(--a0)", "var(--a1)", "var(--a2)", "var(--soft)"
"""Colours of a machine's nodes, as the page resolves them: what a hidden unit sees, and the nodes themselves."""

_STEP, _RADIUS = 24.0, 6.0
_MOST_NODES = 8  # more visible nodes than this of one kind are drawn as one


@dataclass(frozen=True, slots=True)
class Drawing:
    """One circuit or machine and the agents that have it.

    `markup` is an SVG element, or preformatted text where it cannot be drawn as a picture.
    """

    agents: tuple[str, ...]
    kind: Literal["circuit", "machine"]
    caption: str
    markup: str


def draw_circuits(result: StudyResult) -> list[Drawing]:
    """Draw the circuits and Boltzmann machines of all agents from the networks in their recipes, each once.

    What this version cannot build any more (an ansatz that is gone) is named with the reason instead.
    """
    drawings: dict[tuple[str, str, str], Drawing] = {}
    for agent in result.agents:
        for part in ("network", "critic"):
            network = agent.spec.get(part) or {}
            if network.get("kind") == "quantum" and network.get("circuit") != "off":
                kind: Literal["circuit", "machine"] = "circuit"
            elif network.get("kind") == "boltzmann":
                kind = "machine"
            else:
                continue
            try:
                identity, caption, markup = (
                    _circuit(network, len(drawings)) if kind == "circuit" else _machine(network, agent)
                )
            except (KeyError, ValueError, TypeError) as error:
                identity, caption = str(error), "cannot be drawn by this version"
                markup = f"<pre>{html.escape(identity)}</pre>"
            known = drawings.get((kind, identity, caption))
            if known is None:
                drawings[kind, identity, caption] = Drawing((agent.name,), kind, caption, markup)
            elif agent.name not in known.agents:
                drawings[kind, identity, caption] = replace(known, agents=(*known.agents, agent.name))
    return list(drawings.values())


def circuit_of(network: Network) -> Circuit:
    """The circuit that a recipe's quantum network describes. Raises ValueError for an unknown ansatz."""
    from circuits import ANSATZ

    name = str(network.get("ansatz", "reuploading"))
    if name not in ANSATZ:
        raise ValueError(f"network.ansatz: {name!r} is not registered; known: {', '.join(sorted(ANSATZ))}")
    options = dict(network.get("ansatz_options") or {})
    n_features = network.get("n_features") or (network.get("encoder") or {}).get("size")
    if n_features is not None:
        options["n_features"] = n_features
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return ANSATZ[name](n_qubits=network["n_qubits"], n_layers=network["n_layers"], **options)


def draw_machine(
    graph: Graph, spec: Mapping[str, Any], n_state: int | None, n_action: int | None, bias: bool
) -> str:
    """A machine as SVG in the page's colours: clamped nodes as squares at the sides, hidden units as circles.

    Args:
        graph: the hidden units.
        spec: what `graph` was built from; the cells of a Chimera graph and the layers of a layered one show.
        n_state, n_action: visible nodes; None, or a large number, draws one node for all of them.
        bias: whether there is a bias node.
    """
    units = _places(graph, spec)
    units = units - units.min(axis=0)
    inner = units.max(axis=0)
    side, top = 62.0, 26.0
    nodes = max(_shown(n_state), _shown(n_action))
    # beside the rows and columns of cells, nodes in the middle would lie on one line with the units they see
    corners = graph.name == "chimera"
    height = max(float(inner[1]) + 2 * _STEP * corners, (nodes - 1) * 1.4 * _STEP, 3 * _STEP)
    units = units + np.array([side, top + (height - inner[1]) / 2])
    width = 2 * side + float(inner[0])
    below = 2.2 * _STEP if bias else 0.0
    columns = (
        ("s", STATE, 14.0, n_state, graph.state_sees),
        ("a", ACTION, width - 14.0, n_action, graph.action_sees),
    )
    wires, squares = [], []
    for letter, colour, x, count, sees in columns:
        n = _shown(count)
        spare = height - (n - 1) * 1.4 * _STEP
        above = spare / 2 if not corners else 0.0 if letter == "s" else spare
        ys = top + above + np.arange(n) * 1.4 * _STEP
        label = {"s": "state", "a": "action"}[letter] + (f" × {count}" if count and count > n else "")
        anchor, edge = ("start", x - 8) if letter == "s" else ("end", x + 8)
        at = ys[-1] + 22 if corners and letter == "a" else ys[0] - 15
        squares.append(_text(edge, at, label, anchor))
        for y in ys:
            wires.append(_wires((x, float(y)), units[sees], colour))
            squares.append(_square(x, float(y), colour))
    if bias:
        place = (width / 2, top + height + below)
        wires.append(_wires(place, units, BIAS))
        squares += [_square(*place, BIAS), _text(place[0] + 14, place[1] + 4, "bias", "start")]
    total = top + height + below + (30 if corners else 16)
    lines = "".join(
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"/>'
        for a, b in ((units[i], units[j]) for i, j in graph.edges)
    )
    strength = min(1.0, max(0.25, 12 / math.sqrt(max(graph.n_edges, 1)) / 2))
    circles = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS:g}" fill="{_sees(graph, k)}"/>'
        for k, (x, y) in enumerate(units)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{total:.0f}" '
        f'viewBox="0 0 {width:.0f} {total:.0f}" font-size="12" fill="var(--ink)" '
        f'style="display:block;margin:auto">{"".join(wires)}'
        f'<g stroke="var(--ink)" stroke-width="1.3" opacity="{strength:.2f}">{lines}</g>'
        f'<g stroke="var(--card)" stroke-width="1.5">{circles}</g>{"".join(squares)}</svg>'
    )


def _circuit(network: Network, place: int) -> tuple[str, str, str]:
    """Identity, caption and picture of a circuit, which is the `place`-th on its page."""
    circuit = circuit_of(network)
    return circuit.digest, _circuit_caption(circuit, network), _circuit_markup(circuit, place)


def _circuit_caption(circuit: Circuit, network: Network) -> str:
    observables = network.get("observables")
    measured = f", measured: {', '.join(map(str, observables))}" if observables else ""
    return (
        f"{circuit.n_qubits} qubits, {len(circuit.gates)} gates, {circuit.two_qubit_count} of them on two "
        "or more qubits, "
        f"depth {circuit.depth}, {circuit.n_parameters} parameters{measured}; digest {circuit.digest[:16]}"
    )


def _circuit_markup(circuit: Circuit, place: int) -> str:
    """SVG with the labels drawn as paths, so that it looks alike everywhere and holds no text to escape."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": circuit.digest}):
        figure = circuit.draw("mpl")
        buffer = io.StringIO()
        figure.savefig(
            buffer,
            format="svg",
            bbox_inches="tight",
            metadata={"Date": None, "Creator": None, "Type": None, "Format": None},
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # several drawings share a page, and ids must not meet
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>c{place}-{circuit.digest[:8]}-", svg)


def _machine(network: Network, agent: AgentResult) -> tuple[str, str, str]:
    """Identity, caption and picture of a machine."""
    from circuits.boltzmann import build_graph

    graph = build_graph(**network["graph"])
    weights, n_state = _visible(network, agent, graph)
    n_action = None if n_state is None else 1
    markup = draw_machine(graph, network["graph"], n_state, n_action, bool(network.get("bias")))
    return graph.digest, _machine_caption(network, graph, weights, n_state), markup


def _visible(network: Network, agent: AgentResult, graph: Graph) -> tuple[int | None, int | None]:
    """The number of weights and that of state nodes, where the run's count of parameters tells them, else None.

    The environment is not asked: to look at a report must not run what its recipe names.
    """
    algorithm = agent.spec.get("algorithm")
    # all that is trained of the one, and the critics of the others
    total = agent.n_parameters.get("total" if algorithm == "free_energy_q" else "critic")
    machines = {"free_energy_q": 1, "ddpg": 1, "td3": 2, "sac": 2}.get(str(algorithm))
    if total is None or machines is None or (network.get("quadratic") and algorithm != "free_energy_q"):
        return None, None
    weights, rest = divmod(total, machines)
    weights -= graph.n_edges + bool(network.get("trainable_offset")) + 2 * bool(network.get("quadratic"))
    if rest or weights < 1:
        return None, None
    if algorithm != "free_energy_q":
        return weights, None
    seen = weights - int(graph.action_sees.sum()) - graph.n_hidden * bool(network.get("bias"))
    n_state, rest = divmod(seen, int(graph.state_sees.sum()))
    return (weights, n_state) if n_state > 0 and not rest else (None, None)


def _machine_caption(network: Network, graph: Graph, weights: int | None, n_state: int | None) -> str:
    parts = [_count(graph.n_hidden, "hidden unit"), _count(graph.n_edges, "coupling")]
    nodes = [] if n_state is None else [_count(n_state, "state node"), "1 action node"]
    nodes += ["bias node"] if network.get("bias") else []
    listed = ", ".join(nodes)
    if weights is not None:
        parts.append(f"{_count(weights, 'weight')}{f' ({listed})' if listed else ''}")
    elif listed:
        parts.append(listed)
    field = network.get("field", 0.0)
    settings = [
        f"transverse field {field:g}" if field else "no transverse field",
        f"beta {network.get('beta', 1.0):g}",
        f"{network.get('sign')} sign",
        *(["trained offset"] if network.get("trainable_offset") else []),
        *(["quadratic term in the action"] if network.get("quadratic") else []),
        f"sampler {network.get('sampler')}{_options(network.get('sampler_options') or {})}",
    ]
    return f"{', '.join(parts)}; {', '.join(settings)}; graph {graph.name}, digest {graph.digest[:16]}"


def _options(options: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{key} {value}' for key, value in options.items())})" if options else ""


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _places(graph: Graph, spec: Mapping[str, Any]) -> Array:
    """Where the hidden units stand, ``(n_hidden, 2)`` in pixels, y downwards."""
    if graph.name == "chimera":
        return _cells(int(spec["rows"]), int(spec["columns"]), int(spec.get("shore", 4)))
    if graph.name == "layered":
        return _layers([int(width) for width in spec["widths"]])
    if graph.n_edges == 0:
        columns = math.ceil(math.sqrt(graph.n_hidden / 4))
        return np.array([(k % columns, k // columns) for k in range(graph.n_hidden)]) * [3 * _STEP, _STEP]
    return _ring(graph)


def _cells(rows: int, columns: int, shore: int) -> Array:
    """Crosses, as processors lay the cells out: side 0 across and side 1 down, so that all couplings between cells
    are straight."""
    row, column, side, k = np.indices((rows, columns, 2, shore)).reshape(4, -1)
    along = (k - (shore - 1) / 2) * _STEP
    # an odd shore would put the middle units of both sides on one place
    off = 0.5 * _STEP if shore % 2 else 0.0
    pitch = (shore + 1.6) * _STEP
    x = column * pitch + np.where(side == 0, along, off)
    y = row * pitch + np.where(side == 0, off, along)
    return np.stack((x, y), axis=-1)


def _layers(widths: Iterable[int]) -> Array:
    """Layers from left to right, each centred."""
    return np.array(
        [
            (3.5 * _STEP * layer, (k - (width - 1) / 2) * 1.2 * _STEP)
            for layer, width in enumerate(widths)
            for k in range(width)
        ]
    )


def _ring(graph: Graph) -> Array:
    """A circle that begins on the left with the units that see the state alone and ends on the right with those that
    see the action alone."""
    turn = graph.action_sees.astype(int) - graph.state_sees.astype(int)
    order = np.argsort(turn, kind="stable")
    n = graph.n_hidden
    # alternately above and below, from the leftmost place to the rightmost
    rank = np.arange(n)
    angle = np.empty(n)
    angle[order] = np.pi * (1 - (rank + 0.5) / n) * np.where(rank % 2, -1, 1)
    radius = max(2.2 * _STEP, n * 3.0 * _RADIUS / (2 * math.pi))
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)


def _shown(count: int | None) -> int:
    return count if count is not None and 1 <= count <= _MOST_NODES else 1


def _sees(graph: Graph, unit: int) -> str:
    state, action = bool(graph.state_sees[unit]), bool(graph.action_sees[unit])
    return BOTH if state and action else STATE if state else ACTION if action else BIAS


def _wires(start: tuple[float, float], ends: Array, colour: str) -> str:
    """From a visible node to the units that see it, as one path."""
    path = "".join(f"M{start[0]:.1f} {start[1]:.1f}L{x:.1f} {y:.1f}" for x, y in ends)
    faint = min(0.55, max(0.12, 4 / max(len(ends), 1)))
    return f'<path d="{path}" fill="none" stroke="{colour}" opacity="{faint:.2f}"/>'


def _square(x: float, y: float, colour: str) -> str:
    return (
        f'<rect x="{x - 8:.1f}" y="{y - 8:.1f}" width="16" height="16" rx="2" fill="{colour}" '
        'stroke="var(--card)" stroke-width="1.5"/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
