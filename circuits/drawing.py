"""Drawings of circuits: text for the terminal, a matplotlib figure for pages. Both fold long circuits onto
rows.

Angles are written short: weights are θ, scales λ, features x, other groups go by their names, so
    ``tanh(λ₀x₀)``.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from fractions import Fraction
from math import pi
from typing import TYPE_CHECKING, Any

from circuits.circuit import Circuit
from circuits.gates import Angle, Gate, Term, choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SYMBOLS = {"weights": "θ", "scales": "λ"}
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_NAMES = {"SDG": "S†", "SX": "√X", "SXDG": "√X†"}
_LONGEST_ANGLE = 22
_FALLBACK_WIDTH = 110
_FIGURE_WIDTH = 11.0


def draw(circuit: Circuit, style: str = "text", *, width: float | None = None) -> Any:
    """Return a drawing of the circuit: a string for ``"text"``, a ``matplotlib.figure.Figure`` for ``"mpl"``.

    Qubit 0 is the top wire and time runs to the right. A rotation by a Pauli word of several letters shows
    one letter on each wire, joined by a line, and its angle at the topmost; in text the letters stand in
    brackets.

    Args:
        circuit: the circuit.
        style: ``"text"`` or ``"mpl"``.
        width: where rows fold, in characters for text (None: the terminal's width) and in inches for mpl
            (None: 11).

    Raises:
        ValueError: the style is neither, or the width is not positive.

    Source: own construction; the colours are those of Okabe and Ito, distinguishable with any colour vision.
    """
    choice("style", style, ("text", "mpl"))
    if width is not None and not width > 0:
        raise ValueError(f"width: {width} is not positive; use a positive width or None")
    if style == "text":
        columns = shutil.get_terminal_size((_FALLBACK_WIDTH, 24)).columns if width is None else int(width)
        return _draw_text(circuit, columns)
    return _Picture(circuit, _FIGURE_WIDTH if width is None else float(width)).figure()


def angle_label(circuit: Circuit, angle: Angle) -> str:
    """Return a short label of an angle, such as ``"π/2"`` or ``"tanh(λ₀x₀)"``; long sums are cut."""
    parts = [] if angle.constant == 0.0 and angle.terms else [_number(angle.constant)]
    parts += [_term_label(circuit, term) for term in angle.terms]
    label = parts[0]
    for part in parts[1:]:
        joined = label + (part if part.startswith("−") else f"+{part}")
        if len(joined) > _LONGEST_ANGLE:
            return f"{label}+…"
        label = joined
    return label if len(label) <= _LONGEST_ANGLE else label[: _LONGEST_ANGLE - 1] + "…"


def _term_label(circuit: Circuit, term: Term) -> str:
    factors = "" if term.parameter is None else _parameter_label(circuit, term.parameter)
    for index in dict.fromkeys(term.features):
        power = term.features.count(index)
        factors += f"x{_subscript(index)}" + ("" if power == 1 else "²" if power == 2 else f"^{power}")
    if term.squash != "none":
        factors = f"{term.squash}({factors or '1'})"
    if not factors:
        return _number(term.coefficient)
    sign = {1.0: "", -1.0: "−"}
    return (sign[term.coefficient] if term.coefficient in sign else _number(term.coefficient)) + factors


def _parameter_label(circuit: Circuit, parameter: int) -> str:
    start = 0
    for name, size in circuit.groups:
        if parameter < start + size:
            index = "" if size == 1 and name not in _SYMBOLS else _subscript(parameter - start)
            return f"{_SYMBOLS.get(name, name)}{index}"
        start += size
    raise AssertionError("a circuit's parameters lie in its groups")


def _subscript(index: int) -> str:
    return str(index).translate(_SUBSCRIPTS)


def _number(value: float) -> str:
    ratio = Fraction(value / pi).limit_denominator(16)
    if ratio and abs(float(ratio) * pi - value) <= 1e-12 * abs(value):
        top = {1: "π", -1: "−π"}.get(ratio.numerator, f"{ratio.numerator}π".replace("-", "−"))
        return top if ratio.denominator == 1 else f"{top}/{ratio.denominator}"
    return f"{value:.3g}".replace("-", "−")


def _columns(circuit: Circuit) -> list[list[Gate]]:
    """Return the gates in columns, each as early as possible, such that no two of a column cross."""
    levels = [0] * circuit.n_qubits
    columns: list[list[Gate]] = []
    for gate in circuit.gates:
        span = range(min(gate.qubits), max(gate.qubits) + 1)
        level = max(levels[qubit] for qubit in span)
        if level == len(columns):
            columns.append([])
        columns[level].append(gate)
        for qubit in span:
            levels[qubit] = level + 1
    return columns


def _fold(columns: list[list[Gate]], widths: list[float], available: float) -> list[tuple[int, int]]:
    """Return the column ranges of rows that are at most ``available`` wide, with at least one column each.

    A row that is full ends before the last layer that began in it, if that leaves it at least half full.
    """
    rows: list[tuple[int, int]] = []
    start = 0
    for index in range(len(widths)):
        if index > start and sum(widths[start : index + 1]) > available:
            enough = (k for k in range(index, start, -1) if sum(widths[start:k]) >= available / 2)
            stop = next((k for k in enough if _begins_layer(columns, k)), index)
            rows.append((start, stop))
            start = stop
    return [*rows, (start, len(widths))]


def _begins_layer(columns: list[list[Gate]], index: int) -> bool:
    before, here = (any(gate.is_rotation for gate in columns[k]) for k in (index - 1, index))
    return here and not before


# --- text


def _draw_text(circuit: Circuit, width: int) -> str:
    columns = _columns(circuit)
    cells = [_text_column(circuit, column) for column in columns]
    start = "|0⟩" if circuit.initial_state is None else "|ψ⟩"
    digits = len(str(circuit.n_qubits - 1))
    prefix = digits + 3 + len(start)
    rows = []
    widths = [float(len(column[0])) for column in cells]
    spans = _fold(columns, widths, width - prefix - 3)
    for number, (first, last) in enumerate(spans):
        lines = []
        for line in range(2 * circuit.n_qubits - 1):
            qubit, between = divmod(line, 2)
            body = "".join(column[line] for column in cells[first:last])
            if between:
                lines.append((" " * prefix + body).rstrip())
            else:
                head = f"q{qubit}".ljust(digits + 2) + (start if number == 0 else "…".rjust(len(start)))
                lines.append(f"{head}─{body}─" + ("…" if number < len(spans) - 1 else ""))
        rows.append("\n".join(lines))
    return "\n\n".join(rows)


def _text_column(circuit: Circuit, gates: list[Gate]) -> list[str]:
    """Return a column as lines, wires and the gaps between them in turn, all equally long."""
    labels: dict[int, str] = {}
    links: set[int] = set()
    for gate in gates:
        top = min(gate.qubits)
        for qubit, label in zip(gate.qubits, _text_labels(circuit, gate), strict=True):
            labels[2 * qubit] = label
        links |= set(range(2 * top + 1, 2 * max(gate.qubits))) - set(labels)
    left = max(_anchor(label) for label in labels.values())
    right = max(len(label) - _anchor(label) for label in labels.values())
    lines = []
    for line in range(2 * circuit.n_qubits - 1):
        fill = " " if line % 2 else "─"
        text = labels.get(line, ("│" if line % 2 else "┼") if line in links else "")
        before, after = left - _anchor(text), right - (len(text) - _anchor(text))
        lines.append(fill * (1 + before) + text + fill * (1 + after))
    return lines


def _anchor(label: str) -> int:
    """Return the place in a label that stands on the vertical line: a bracketed letter, else the middle."""
    return 1 if label.startswith("[") else len(label) // 2


def _text_labels(circuit: Circuit, gate: Gate) -> list[str]:
    if gate.angle is not None:
        angle = angle_label(circuit, gate.angle)
        if len(gate.qubits) == 1:
            return [f"{gate.name}({angle})"]
        top = min(gate.qubits)
        return [
            f"[{letter}]({angle})" if qubit == top else f"[{letter}]"
            for letter, qubit in zip(gate.word, gate.qubits, strict=True)
        ]
    pairs = {"CX": ["●", "⊕"], "CY": ["●", "[Y]"], "CZ": ["●", "●"], "SWAP": ["×", "×"]}
    return pairs.get(gate.name) or [_NAMES.get(gate.name, gate.name)]


# --- matplotlib

_COLOURS = {"encoding": "#56B4E9", "trainable": "#E69F00", "constant": "#D9D9D9", "fixed": "#FFFFFF"}
_MEANINGS = {"encoding": "reads features", "trainable": "trainable", "constant": "fixed angle"}
_INK = "#1A1A1A"
_GREY = "#666666"
_SPACING = 0.62
_BOX = 0.46
_PADDING = 0.1
_MARGIN = 0.2
_HEAD = 0.7
_TOP = 0.6
_ROW_GAP = 0.25
_NAME_SIZE, _ANGLE_SIZE, _NOTE_SIZE = 9.5, 7.5, 8.5


def _kind(gate: Gate) -> str:
    if gate.angle is None:
        return "fixed"
    if any(term.features for term in gate.angle.terms):
        return "encoding"
    return "trainable" if any(term.parameter is not None for term in gate.angle.terms) else "constant"


def _text_width(text: str, size: float) -> float:
    """Return the width of a text in inches."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=size).get_extents().width) / 72 if text.strip() else 0.0


@dataclass
class _Picture:
    """One figure; its coordinates are inches, y downwards."""

    circuit: Circuit
    width: float
    _measured: dict[tuple[str, float], float] = field(default_factory=dict)

    def figure(self) -> Figure:
        """Return the finished figure."""
        from matplotlib.figure import Figure

        columns = _columns(self.circuit)
        widths = [self._column_width(column) for column in columns]
        spans = _fold(columns, widths, self.width - _HEAD - 2 * _MARGIN)
        row_height = self.circuit.n_qubits * _SPACING + _ROW_GAP
        height = _TOP + len(spans) * row_height + _MARGIN
        figure = Figure(figsize=(self._figure_width(widths, spans), height), dpi=150, facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, figure.get_figwidth())
        axes.set_ylim(height, 0)
        axes.set_axis_off()
        self._caption(axes)
        for row, (first, last) in enumerate(spans):
            y = _TOP + row * row_height + _SPACING / 2
            end = _MARGIN + _HEAD + sum(widths[first:last])
            self._wires(axes, y, end, row == 0, row == len(spans) - 1)
            x = _MARGIN + _HEAD
            for column, size in zip(columns[first:last], widths[first:last], strict=True):
                for gate in column:
                    self._gate(axes, gate, x + size / 2, y)
                x += size
        return figure

    def _figure_width(self, widths: list[float], spans: list[tuple[int, int]]) -> float:
        longest = max(sum(widths[first:last]) for first, last in spans)
        entries = [_MEANINGS[kind] for kind in self._kinds()]
        caption = self._size(self._summary(), _NOTE_SIZE) + 0.4
        caption += sum(self._size(entry, _NOTE_SIZE) + 0.5 for entry in entries)
        return max(longest + _HEAD + 2 * _MARGIN + 0.15, caption + 2 * _MARGIN)

    def _size(self, text: str, size: float) -> float:
        key = (text, size)
        if key not in self._measured:
            self._measured[key] = _text_width(text, size)
        return self._measured[key]

    def _box_width(self, gate: Gate) -> float:
        name = gate.name if len(gate.qubits) == 1 else "X"
        inner = self._size(_NAMES.get(name, name), _NAME_SIZE)
        if gate.angle is not None:
            inner = max(inner, self._size(angle_label(self.circuit, gate.angle), _ANGLE_SIZE))
        return max(_BOX, inner + 2 * _PADDING)

    def _column_width(self, gates: list[Gate]) -> float:
        boxed = [gate for gate in gates if gate.name not in ("CX", "CZ", "SWAP")]
        return max((self._box_width(gate) for gate in boxed), default=0.3) + 0.14

    def _kinds(self) -> list[str]:
        present = {_kind(gate) for gate in self.circuit.gates}
        return [kind for kind in _MEANINGS if kind in present]

    def _summary(self) -> str:
        def count(number: int, noun: str) -> str:
            return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

        circuit = self.circuit
        parts = [count(circuit.n_qubits, "qubit"), count(len(circuit.gates), "gate")]
        parts += [count(circuit.n_parameters, "parameter"), count(circuit.n_features, "feature")]
        return " · ".join(parts)

    def _caption(self, axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        y = 0.32
        axes.text(_MARGIN, y, self._summary(), size=_NOTE_SIZE, color=_GREY, va="center")
        x = _MARGIN + self._size(self._summary(), _NOTE_SIZE) + 0.4
        for kind in self._kinds():
            axes.add_patch(
                Rectangle((x, y - 0.08), 0.16, 0.16, facecolor=_COLOURS[kind], edgecolor=_INK, lw=0.8)
            )
            axes.text(x + 0.23, y, _MEANINGS[kind], size=_NOTE_SIZE, color=_INK, va="center")
            x += self._size(_MEANINGS[kind], _NOTE_SIZE) + 0.5

    def _wires(self, axes: Axes, y: float, end: float, first: bool, last: bool) -> None:
        start = "|0⟩" if self.circuit.initial_state is None else "|ψ⟩"
        for qubit in range(self.circuit.n_qubits):
            level = y + qubit * _SPACING
            left = _MARGIN + _HEAD - 0.08
            axes.text(_MARGIN, level, f"q{_subscript(qubit)}", size=_NAME_SIZE, color=_GREY, va="center")
            if first:
                axes.text(left - 0.06, level, start, size=_NAME_SIZE, color=_INK, va="center", ha="right")
            else:
                axes.plot([left - 0.2, left], [level, level], color=_GREY, lw=0.9, ls=":", zorder=1)
            axes.plot([left, end], [level, level], color=_GREY, lw=0.9, zorder=1)
            axes.plot(
                [end, end + 0.15], [level, level], color=_GREY, lw=0.9, ls="-" if last else ":", zorder=1
            )

    def _gate(self, axes: Axes, gate: Gate, x: float, y: float) -> None:
        levels = [y + qubit * _SPACING for qubit in gate.qubits]
        if len(levels) > 1:
            thick = 2.2 if gate.angle is not None else 1.2
            axes.plot([x, x], [min(levels), max(levels)], color=_INK, lw=thick, zorder=2)
        if gate.name == "SWAP":
            axes.plot([x, x], levels, color=_INK, marker="x", ms=7, mew=1.6, ls="", zorder=3)
            return
        if gate.name in ("CX", "CY", "CZ"):
            axes.plot([x], levels[:1], color=_INK, marker="o", ms=6, zorder=3)
            levels = levels[1:]
        if gate.name == "CZ":
            axes.plot([x], levels, color=_INK, marker="o", ms=6, zorder=3)
        elif gate.name == "CX":
            axes.plot([x], levels, color=_INK, marker="o", mfc="white", ms=12, mew=1.2, zorder=3)
            axes.plot([x], levels, color=_INK, marker="+", ms=11, mew=1.2, zorder=4)
        else:
            self._boxes(axes, gate, x, levels)

    def _boxes(self, axes: Axes, gate: Gate, x: float, levels: list[float]) -> None:
        from matplotlib.patches import FancyBboxPatch

        names = [_NAMES.get(gate.name, gate.name)]
        if gate.name == "CY":
            names = ["Y"]
        elif len(levels) > 1:
            names = list(gate.word)
        angle = None if gate.angle is None else angle_label(self.circuit, gate.angle)
        width = _BOX if gate.name == "CY" else self._box_width(gate)
        for name, level in zip(names, levels, strict=True):
            box = FancyBboxPatch(
                (x - width / 2, level - _BOX / 2),
                width,
                _BOX,
                boxstyle="round,pad=0,rounding_size=0.05",
                facecolor=_COLOURS[_kind(gate)],
                edgecolor=_INK,
                lw=0.9,
                zorder=3,
            )
            axes.add_patch(box)
            labelled = angle is not None and level == min(levels)
            style: dict[str, Any] = {"ha": "center", "va": "center", "color": _INK, "zorder": 4}
            axes.text(x, level - (0.09 if labelled else 0), name, size=_NAME_SIZE, **style)
            if angle is not None and labelled:
                axes.text(x, level + 0.11, angle, size=_ANGLE_SIZE, **style)
