"""Graphs of hidden units: counts, colourings, D-Wave's own lattices, identity, refusals."""

from __future__ import annotations

import copy
import pickle
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.boltzmann import GRAPHS, Graph, build_graph
from circuits.boltzmann.graphs import custom, two_colouring

EXAMPLES = [
    ("chimera", {"rows": 2, "columns": 3}),
    ("chimera", {"rows": 1, "columns": 1, "shore": 2}),
    ("pegasus", {"m": 2}),
    ("pegasus", {"m": 2, "n_hidden": 9}),
    ("zephyr", {"m": 1}),
    ("zephyr", {"m": 1, "t": 2, "n_hidden": 8}),
    ("layered", {"widths": [3, 4, 2]}),
    ("layered", {"widths": [5]}),
    ("complete", {"n": 5}),
    ("uncoupled", {"n": 4}),
    ("custom", {"n": 3, "edges": [[2, 0]], "state_sees": [0], "action_sees": [1, 2]}),
]


def pairs(graph: Graph) -> set[tuple[int, int]]:
    return set(map(tuple, graph.edges.tolist()))


def reached(graph: Graph) -> int:
    seen, grown = {0}, True
    while grown:
        more = {j for i, j in pairs(graph) if i in seen} | {i for i, j in pairs(graph) if j in seen}
        grown, seen = not more <= seen, seen | more
    return len(seen)


@pytest.mark.parametrize(
    ("rows", "columns", "n_hidden", "couplings", "inputs", "weights"),
    [
        (1, 2, 16, 36, (1, 1), 52),
        (1, 2, 16, 36, (8, 1), 108),
        (2, 2, 32, 80, (4, 1), 160),
        (2, 3, 48, 124, (10, 10), 604),
        (3, 3, 72, 192, (10, 10), 912),
    ],
)
def test_chimera_has_the_published_counts(rows, columns, n_hidden, couplings, inputs, weights):
    graph = build_graph("chimera", rows=rows, columns=columns)
    assert (graph.n_hidden, graph.n_edges) == (n_hidden, couplings)
    seen = inputs[0] * graph.state_sees.sum() + inputs[1] * graph.action_sees.sum()
    assert couplings + seen == weights
    assert graph.state_sees.sum() == graph.action_sees.sum() == graph.smaller_shore == n_hidden // 2
    assert (graph.state_sees != graph.action_sees).all()
    assert (graph.colours == graph.action_sees).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "options", "sizes"),
    [
        ("chimera", {"rows": 1, "columns": 2}, (1, 2, 4)),
        ("chimera", {"rows": 3, "columns": 2, "shore": 3}, (3, 2, 3)),
        ("pegasus", {"m": 2}, (2,)),
        ("pegasus", {"m": 3}, (3,)),
        ("zephyr", {"m": 1}, (1,)),
        ("zephyr", {"m": 2, "t": 3}, (2, 3)),
        ("zephyr", {"m": 3, "t": 1}, (3, 1)),
    ],
)
def test_lattices_are_those_of_the_makers_own_generator(kind, options, sizes):
    lattices = pytest.importorskip("dwave.graphs")
    graph = build_graph(kind, **options)
    theirs = getattr(lattices, f"{kind}_graph")(*sizes, coordinates=True)
    nodes = sorted(theirs)
    place = {node: index for index, node in enumerate(nodes)}
    assert graph.n_hidden == len(nodes)
    assert pairs(graph) == {tuple(sorted((place[a], place[b]))) for a, b in theirs.edges}
    if kind != "chimera":
        assert graph.state_sees.tolist() == [node[0] == 0 for node in nodes]
        assert (graph.action_sees != graph.state_sees).all()


@pytest.mark.parametrize(("kind", "options"), EXAMPLES)
def test_edges_are_sorted_colours_proper_and_arrays_read_only(kind, options):
    graph = build_graph(kind, **options)
    assert graph.name == kind
    listed = graph.edges.tolist()
    assert listed == sorted(listed)
    assert all(i < j for i, j in listed)
    if graph.colours is not None:
        i, j = graph.edges.T
        assert (graph.colours[i] != graph.colours[j]).all()
    else:
        assert graph.smaller_shore is None
    for array in (graph.edges, graph.state_sees, graph.action_sees):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize(("kind", "whole"), [("pegasus", {"m": 2}), ("zephyr", {"m": 1})])
def test_a_patch_is_connected_dense_and_sees_both(kind, whole):
    size = build_graph(kind, **whole).n_hidden
    assert build_graph(kind, **whole, n_hidden=size) == build_graph(kind, **whole)
    for n_hidden in (2, 5, 8, 16):
        patch = build_graph(kind, **whole, n_hidden=n_hidden)
        assert reached(patch) == patch.n_hidden == n_hidden
        assert 0 < patch.state_sees.sum() < n_hidden
        assert patch.n_edges >= n_hidden - 1
    assert patch.n_edges > build_graph("chimera", rows=1, columns=2).n_edges


def test_layers_are_completely_coupled_to_the_next():
    graph = build_graph("layered", widths=(2, 3, 1))
    assert pairs(graph) == {(i, j) for i in (0, 1) for j in (2, 3, 4)} | {(i, 5) for i in (2, 3, 4)}
    assert graph.state_sees.tolist() == [True] * 2 + [False] * 4
    assert graph.action_sees.tolist() == [False] * 5 + [True]
    assert graph.smaller_shore == 3
    assert build_graph("layered", widths=[8, 8]).n_edges == 64


def test_complete_uncoupled_and_custom():
    assert build_graph("complete", n=5).n_edges == 10
    assert build_graph("complete", n=3).colours is None
    assert build_graph("complete", n=2).smaller_shore == 1
    assert build_graph("uncoupled", n=6).n_edges == build_graph("uncoupled", n=6).smaller_shore == 0
    graph = custom(4, [(3, 0), (1, 0)], state_sees=[1], action_sees=[2, 3])
    assert graph.edges.tolist() == [[0, 1], [0, 3]]
    assert graph.state_sees.tolist() == [False, True, False, False]
    assert custom(4, [(0, 1)]).action_sees.all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.data())
def test_a_colouring_is_found_where_there_is_one(n, data):
    everything = [(i, j) for i in range(n) for j in range(i + 1, n)]
    edges = data.draw(st.lists(st.sampled_from(everything), unique=True)) if everything else []
    possible = any(all(c[i] != c[j] for i, j in edges) for c in product((0, 1), repeat=n))
    found = two_colouring(n, edges)
    assert (found is not None) == possible
    if found is not None:
        assert all(found[i] != found[j] for i, j in edges)


def test_graphs_are_equal_by_content():
    one = build_graph("layered", widths=[2, 2])
    same = custom(4, [(1, 3), (0, 2), (0, 3), (1, 2)], [0, 1], [2, 3])
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same}) == 1
    assert len(one.digest) == 64
    for other in (
        custom(4, [(1, 3), (0, 2), (0, 3)], [0, 1], [2, 3]),
        custom(4, [(1, 3), (0, 2), (0, 3), (1, 2)], [0], [2, 3]),
        custom(4, [(1, 3), (0, 2), (0, 3), (1, 2)], [0, 1], [2]),
        custom(5, [(1, 3), (0, 2), (0, 3), (1, 2)], [0, 1], [2, 3]),
    ):
        assert one != other
    assert one != "layered"
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one


def test_every_family_is_tried_here():
    assert {kind for kind, _ in EXAMPLES} == set(GRAPHS)


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("chimaera", {}, ValueError, "graph: 'chimaera' is unknown.*did you mean 'chimera'"),
        ("chimera", {"row": 1}, TypeError, "graph 'chimera': option 'row' is unknown; use rows, columns"),
        ("chimera", {"rows": 1}, TypeError, "graph 'chimera': option 'columns' is missing"),
        ("chimera", {"rows": 0, "columns": 1}, ValueError, "rows: 0 is below 1"),
        ("chimera", {"rows": 1.5, "columns": 1}, TypeError, "rows: 1.5 is not an integer"),
        ("pegasus", {"m": 1}, ValueError, "m: 1 is below 2"),
        ("pegasus", {"m": 2, "n_hidden": 41}, ValueError, "n_hidden: 41 is more .* at most 40"),
        ("pegasus", {"m": 2, "n_hidden": 1}, ValueError, "n_hidden: 1 is below 2"),
        ("zephyr", {"m": 0}, ValueError, "m: 0 is below 1"),
        ("layered", {"widths": []}, ValueError, "widths: no layer"),
        ("layered", {"widths": "88"}, TypeError, "widths: '88' is no list"),
        ("layered", {"widths": [2, 0]}, ValueError, "widths: 0 is below 1"),
        ("complete", {"n": True}, TypeError, "n: True is not an integer"),
        ("uncoupled", {"n": 0}, ValueError, "n: 0 is below 1"),
        ("custom", {"n": 2, "edges": [[0, 1, 1]]}, ValueError, "edges: an edge is no pair"),
        (
            "custom",
            {"n": 2, "edges": [[0, 2]]},
            ValueError,
            "edges: unit 2 does not exist; use units from 0 to 1",
        ),
        ("custom", {"n": 2, "edges": [[1, 1]]}, ValueError, "edges: unit 1 is coupled to itself"),
        ("custom", {"n": 2, "edges": [[0, 1], [1, 0]]}, ValueError, "edges: units 0 and 1 are coupled twice"),
        ("custom", {"n": 2, "edges": [], "state_sees": [2]}, ValueError, "state_sees: unit 2 does not exist"),
        ("custom", {"n": 2, "edges": [], "action_sees": []}, ValueError, "action_sees: no unit is marked"),
    ],
)
def test_refusals_are_one_line(kind, options, error, message):
    with pytest.raises(error, match=message) as caught:
        build_graph(kind, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": [[1, 2], [0, 1]]}, "edges: pairs are not i < j in ascending order"),
        ({"edges": [[1, 0]]}, "edges: pairs are not i < j in ascending order"),
        ({"edges": [[-1, 0]]}, "edges: unit -1 does not exist"),
        ({"state_sees": [1, 1, 1]}, "state_sees: int64 of shape"),
        ({"action_sees": [True]}, "action_sees: bool of shape"),
        ({"colours": [True, True, False]}, "colours: two coupled units have one colour"),
    ],
)
def test_a_graph_made_by_hand_is_checked(changes, message):
    marks = [True] * 3
    content = {"edges": [[0, 1]], "state_sees": marks, "action_sees": marks, "colours": None, **changes}
    with pytest.raises(ValueError, match=message):
        Graph("mine", 3, **content)
