"""Drawings of circuits and Boltzmann machines: everything that is there is drawn, once, and apart."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from circuits.boltzmann import build_graph
from qrl.study.drawings import Drawing, draw_circuits, draw_machine

CELLS = {"kind": "chimera", "rows": 1, "columns": 2}
MACHINE: dict[str, Any] = {
    "kind": "boltzmann",
    "graph": CELLS,
    "field": 0.5,
    "beta": 2.0,
    "sign": "mirrored",
    "bias": False,
    "quadratic": False,
    "sampler": "auto",
    "sampler_options": {},
}
GRAPHS: list[dict[str, Any]] = [
    CELLS,
    {"kind": "chimera", "rows": 2, "columns": 3, "shore": 3},
    {"kind": "pegasus", "m": 2, "n_hidden": 24},
    {"kind": "zephyr", "m": 1},
    {"kind": "layered", "widths": [6, 5, 3]},
    {"kind": "complete", "n": 7},
    {"kind": "uncoupled", "n": 16},
    {"kind": "uncoupled", "n": 1},
    {"kind": "custom", "n": 5, "edges": [[0, 1], [1, 4], [2, 3]], "state_sees": [0, 2], "action_sees": [2]},
]


def agent(
    name: str, total: int | None = None, algorithm: str = "free_energy_q", **parts: Any
) -> SimpleNamespace:
    counts = {} if total is None else {"total": total}
    return SimpleNamespace(name=name, spec={"algorithm": algorithm, **parts}, n_parameters=counts)


def drawn(*agents: SimpleNamespace) -> list[Drawing]:
    return draw_circuits(SimpleNamespace(agents=agents))  # type: ignore[arg-type]


def numbers(svg: str, tag: str, *names: str) -> np.ndarray:
    found = re.findall(rf"<{tag} [^>]*>", svg)
    return np.array([[float(re.search(rf'\b{n}="([-\d.]+)"', e)[1]) for n in names] for e in found])  # type: ignore[index]


def connections(svg: str) -> int:
    return sum(path.count("M") for path in re.findall(r'<path d="([^"]*)"', svg))


@pytest.mark.parametrize("spec", GRAPHS, ids=lambda s: "-".join(map(str, s.values()))[:30])
def test_every_unit_coupling_and_connection_is_drawn(spec: dict[str, Any]) -> None:
    from qrl import BoltzmannMachine

    graph = build_graph(**spec)
    svg = draw_machine(graph, spec, 3, 2, bias=True)
    machine = BoltzmannMachine(graph, 3, 2, bias=True, sampler="exact" if graph.n_hidden < 9 else "auto")
    places, lines = numbers(svg, "circle", "cx", "cy"), numbers(svg, "line", "x1", "y1", "x2", "y2")
    assert len(places) == graph.n_hidden
    assert len(numbers(svg, "rect", "x")) == 3 + 2 + 1
    assert connections(svg) == machine.weights.numel()
    ends = np.hstack([places[graph.edges[:, 0]], places[graph.edges[:, 1]]])
    np.testing.assert_array_equal(lines.reshape(-1, 4), ends)


@pytest.mark.parametrize("spec", GRAPHS, ids=lambda s: "-".join(map(str, s.values()))[:30])
def test_no_two_nodes_share_a_place_and_all_are_inside(spec: dict[str, Any]) -> None:
    svg = draw_machine(build_graph(**spec), spec, 8, 30, bias=True)
    units, squares = numbers(svg, "circle", "cx", "cy"), numbers(svg, "rect", "x", "y") + 8
    nodes = np.vstack([units, squares])
    distances = np.linalg.norm(nodes[:, None] - nodes, axis=-1) + 1e3 * np.eye(len(nodes))
    assert distances.min() > 12  # a diameter
    width, height = numbers(svg, "svg", "width", "height")[0]
    assert (nodes >= 6).all()
    assert (nodes <= np.array([width, height]) - 6).all()
    assert len(squares) == 8 + 1 + 1
    assert "action × 30" in svg


def test_couplings_between_cells_are_straight_and_cells_are_crosses() -> None:
    spec = {"kind": "chimera", "rows": 2, "columns": 2}
    graph = build_graph(**spec)
    places = numbers(draw_machine(graph, spec, 1, 1, bias=False), "circle", "cx", "cy")
    cell = np.arange(32) // 8
    between = graph.edges[cell[graph.edges[:, 0]] != cell[graph.edges[:, 1]]]
    steps = places[between[:, 1]] - places[between[:, 0]]
    assert len(steps) == 16
    assert (np.isclose(steps, 0).sum(axis=1) == 1).all()
    first = places[:8]
    assert np.ptp(first[:4, 1]) == np.ptp(first[4:, 0]) == 0


def test_colours_say_what_a_unit_sees() -> None:
    spec = GRAPHS[-1]
    svg = draw_machine(build_graph(**spec), spec, 1, 1, bias=False)
    fills = re.findall(r'<circle [^>]*fill="([^"]+)"', svg)
    assert fills == ["var(--a0)", "var(--soft)", "var(--a2)", "var(--soft)", "var(--soft)"]


def test_a_caption_says_what_the_machine_is() -> None:
    options = {"reads": 50, "sweeps": 9}
    network = {**MACHINE, "bias": True, "sampler": "sqa", "sampler_options": options, "quadratic": True}
    (drawing,) = drawn(agent("a", 36 + 16 + 8 + 16 + 2, network=network))  # two state nodes
    for text in (
        "16 hidden units, 36 couplings, 40 weights (2 state nodes, 1 action node, bias node)",
        "transverse field 0.5, beta 2, mirrored sign, quadratic term in the action",
        "sampler sqa (reads 50, sweeps 9)",
        build_graph(**CELLS).digest[:16],
    ):
        assert text in drawing.caption
    assert drawing.kind == "machine"
    assert connections(drawing.markup) == 40


@pytest.mark.parametrize(
    "unknown",
    [
        agent("no run has ended", network=MACHINE),
        agent("does not fit", 55, network=MACHINE),
        agent("an actor beside it", 52, "ddpg", critic=MACHINE),
        agent("another algorithm", 52, "naf", network=MACHINE),
    ],
    ids=lambda a: a.name,
)
def test_nodes_that_nothing_tells_are_not_counted(unknown: SimpleNamespace) -> None:
    (drawing,) = drawn(unknown)
    assert drawing.caption.startswith("16 hidden units, 36 couplings; ")
    assert ">state<" in drawing.markup


def test_the_weights_of_critics_are_counted_without_their_nodes() -> None:
    twins = agent("a", 999, "td3", critic={**MACHINE, "trainable_offset": True})
    twins.n_parameters["critic"] = 2 * (36 + 48 + 1)
    (drawing,) = drawn(twins)
    assert drawing.caption.startswith("16 hidden units, 36 couplings, 48 weights; ")
    assert "trained offset" in drawing.caption


def test_what_agents_share_is_drawn_once() -> None:
    circuit = {"kind": "quantum", "n_qubits": 2, "n_layers": 1, "n_features": 2}
    drawings = drawn(
        agent("one", 52, network=MACHINE),
        agent("two", 52, network={**MACHINE, "init_scale": 5.0}),
        agent("convex", 52, network={**MACHINE, "sign": "negative"}),
        agent("three", 52, network=dict(MACHINE)),
        agent("circuit", network=circuit),
        agent("both", algorithm="ddpg", network=circuit, critic=MACHINE),
        agent("mlp", network={"kind": "mlp"}),
    )
    assert [(d.kind, d.agents) for d in drawings] == [
        ("machine", ("one", "two", "three")),
        ("machine", ("convex",)),
        ("circuit", ("circuit", "both")),
        ("machine", ("both",)),  # its visible nodes are not known
    ]


def test_one_circuit_measured_in_two_ways_has_no_id_twice() -> None:
    circuit = {"kind": "quantum", "n_qubits": 2, "n_layers": 1, "n_features": 2}
    drawings = drawn(agent("z", network=circuit), agent("zz", network={**circuit, "observables": ["ZZ"]}))
    assert len(drawings) == 2
    ids = [name for d in drawings for name in re.findall(r'\bid="([^"]+)"', d.markup)]
    assert ids
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "graph", [{"kind": "gone<b>"}, {"rows": 1}, {"kind": "chimera", "rows": 0, "columns": 1}]
)
def test_a_machine_that_cannot_be_built_is_named_and_escaped(graph: dict[str, Any]) -> None:
    (drawing,) = drawn(agent("a", network={**MACHINE, "graph": graph}))
    assert drawing.caption == "cannot be drawn by this version"
    assert drawing.markup.startswith("<pre>")
    assert "<b>" not in drawing.markup
