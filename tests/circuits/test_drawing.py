"""Drawings: what stands where, labels, folding, and that nothing overlaps in the figure."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from circuits import Angle, Circuit, Gate, Term, reuploading
from circuits.drawing import angle_label, draw

GROUPS = (("weights", 12), ("scales", 2), ("bias", 1))


def everything() -> Circuit:
    """Return a circuit with every kind of gate."""
    fixed = [Gate(name, (q % 4,)) for q, name in enumerate(("H", "X", "Y", "Z", "S", "SDG", "SX", "SXDG"))]
    pairs = [Gate("CX", (3, 1)), Gate("CY", (0, 2)), Gate("CZ", (1, 2)), Gate("SWAP", (0, 3))]
    rotations = [
        Gate("RX", (0,), Angle(0.0, (Term(1.0, 12, (0,), "tanh"),))),
        Gate("RY", (1,), Angle(math.pi / 2)),
        Gate("RXZY", (3, 0, 2), Angle(0.0, (Term(parameter=0),))),
        Gate("RZZ", (0, 3), Angle(0.25, (Term(-1.0, 1, (0, 1), "arctan"), Term(2.0, 2), Term(0.5, 3)))),
    ]
    return Circuit(4, tuple(fixed + pairs + rotations), 2, GROUPS)


@pytest.mark.parametrize(
    ("angle", "label"),
    [
        (Angle(), "0"),
        (Angle(math.pi), "π"),
        (Angle(-math.pi / 2), "−π/2"),
        (Angle(3 * math.pi / 4), "3π/4"),
        (Angle(0.1234567), "0.123"),
        (Angle(0.0, (Term(parameter=11),)), "θ₁₁"),
        (Angle(0.0, (Term(1.0, 12, (0,), "tanh"),)), "tanh(λ₀x₀)"),
        (Angle(0.0, (Term(parameter=14),)), "bias"),
        (Angle(0.0, (Term(-math.pi, None, (0, 0)),)), "−πx₀²"),
        (Angle(0.5, (Term(-1.0, 0),)), "0.5−θ₀"),
        (Angle(0.0, (Term(2.0),)), "2"),
        (Angle(0.0, tuple(Term(1.0, k, (0,), "arctan") for k in range(3))), "arctan(θ₀x₀)+…"),
    ],
)
def test_labels(angle: Angle, label: str) -> None:
    assert angle_label(Circuit(1, (), 2, GROUPS), angle) == label


def test_text_of_the_default_layer() -> None:
    assert draw(reuploading(3, 1), "text", width=100) == "\n".join(
        [
            "q0 |0⟩──RX(λ₀x₀)──RY(θ₀)──RZ(θ₁)──●─────●──",
            "                                  │     │",
            "q1 |0⟩──RX(λ₁x₁)──RY(θ₂)──RZ(θ₃)──●──●──┼──",
            "                                     │  │",
            "q2 |0⟩──RX(λ₂x₂)──RY(θ₄)──RZ(θ₅)─────●──●──",
        ]
    )


def test_text_joins_the_letters_of_a_word() -> None:
    circuit = Circuit(3, (Gate("RXZ", (2, 0), Angle(1.5)), Gate("CX", (1, 0))), initial_state=(1,) + (0,) * 7)
    assert circuit.draw().split("\n") == [
        "q0 |ψ⟩──[Z](1.5)──⊕──",
        "         │        │",
        "q1 |ψ⟩───┼────────●──",
        "         │",
        "q2 |ψ⟩──[X]──────────",
    ]


@pytest.mark.parametrize("width", [40, 60, 90])
def test_text_folds_and_keeps_every_gate(width: int) -> None:
    text = draw(reuploading(4, 5, 1, squash="tanh"), "text", width=width)
    assert max(len(line) for line in text.split("\n")) <= width
    for k in range(20):
        assert text.count(f"RX(tanh(λ{str(k).translate(str.maketrans('0123456789', '₀₁₂₃₄₅₆₇₈₉'))}x₀))") == 1
    assert text.count("●") == 2 * 4 * 5


def test_rows_break_between_layers() -> None:
    blocks = draw(reuploading(2, 4), "text", width=75).split("\n\n")
    assert len(blocks) == 2
    assert all("RX(" in block.split("─", 3)[2] for block in blocks)


def test_wires_are_equally_long_and_columns_aligned() -> None:
    for block in draw(everything(), "text", width=200).split("\n\n"):
        wires = block.split("\n")[::2]
        assert len({len(wire) for wire in wires}) == 1
        for upper, lower in zip(block.split("\n")[::2], block.split("\n")[1::2], strict=False):
            assert all(upper[k] != "─" for k, character in enumerate(lower) if character == "│")


@pytest.mark.parametrize(
    "circuit", [everything(), reuploading(4, 5, 1, squash="arctan"), reuploading(1, 1), Circuit(2, ())]
)
def test_figure_has_no_overlap(circuit: Circuit) -> None:
    figure = circuit.draw("mpl")
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    (axes,) = figure.axes
    boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    texts = [text.get_window_extent(renderer) for text in axes.texts]
    for group in (boxes, texts):
        for index, one in enumerate(group):
            assert not any(one.overlaps(other) for other in group[index + 1 :])
    for box in boxes:
        inside = [text for text in texts if box.overlaps(text)]
        assert inside
        assert all(box.x0 <= t.x0 and t.x1 <= box.x1 and box.y0 <= t.y0 and t.y1 <= box.y1 for t in inside)
    for text in texts:
        assert text.x0 >= 0
        assert text.y0 >= 0
        assert text.x1 <= figure.bbox.width
        assert text.y1 <= figure.bbox.height


def test_figure_tells_encoding_from_trainable() -> None:
    figure = reuploading(2, 1).draw("mpl")
    (axes,) = figure.axes
    colours = [patch.get_facecolor() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert len(colours) == 6
    assert len(set(colours)) == 2
    assert {"reads features", "trainable"} <= {text.get_text() for text in axes.texts}


def test_figure_folds_at_the_width() -> None:
    narrow, wide = (draw(reuploading(2, 6), "mpl", width=width) for width in (6, 20))
    assert narrow.get_figheight() > wide.get_figheight()
    assert narrow.get_figwidth() <= 6.2


def test_drawing_opens_no_pyplot_figure() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    reuploading(1, 1).draw("mpl")
    assert pyplot.get_fignums() == before


def test_unknown_style_and_width() -> None:
    with pytest.raises(ValueError, match=r"style: 'mlp' is unknown.*did you mean 'mpl'"):
        draw(reuploading(1, 1), "mlp")
    for width in (0, -1, math.nan):
        with pytest.raises(ValueError, match="width"):
            draw(reuploading(1, 1), width=width)


def test_columns_keep_the_order_of_gates_on_a_wire() -> None:
    text = Circuit(1, tuple(Gate(name, (0,)) for name in ("H", "S", "X", "Y"))).draw()
    positions = [text.index(name) for name in "HSXY"]
    assert all(a < b for a, b in pairwise(positions))
