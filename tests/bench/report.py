"""What a part of the benchmark hands back, and how it is written down: goals, tables, ``bench.json``, the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

BEGIN, END = "<!-- begin of what make bench writes -->", "<!-- end of what make bench writes -->"


@dataclass(frozen=True)
class Goal:
    """A bound and what was measured against it.

    Attributes:
        what: the quantity.
        sense: whether it shall be at least or at most the bound.
        bound: the bound.
        unit: of bound and measured value.
        found: measured values by where they were taken; the worst one counts.
    """

    what: str
    sense: Literal[">=", "<="]
    bound: float
    unit: str
    found: dict[str, float]

    @property
    def worst(self) -> tuple[str, float] | None:
        """Where the value is that counts, and the value; None where nothing was measured."""
        if not self.found:
            return None
        where = (min if self.sense == ">=" else max)(self.found, key=self.found.__getitem__)
        return where, self.found[where]

    @property
    def verdict(self) -> str:
        """``met``, ``missed`` or ``not measured``."""
        if self.worst is None:
            return "not measured"
        value = self.worst[1]
        return "met" if (value >= self.bound if self.sense == ">=" else value <= self.bound) else "missed"

    def row(self) -> list[str]:
        """A row of the table of goals."""
        bound = f"{self.sense} {self.bound:g}{self.unit}"
        if self.worst is None:
            return [self.what, bound, "-", "-", self.verdict]
        where, value = self.worst
        return [self.what, bound, f"{short(value)}{self.unit}", where, self.verdict]


@dataclass
class Section:
    """One part of the benchmark.

    Attributes:
        title: its heading.
        text: what the page shows of it, in Markdown.
        data: what ``bench.json`` holds of it.
        goals: its goals.
    """

    title: str
    text: str
    data: Any
    goals: list[Goal] = field(default_factory=list)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns after the first are set right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def short(value: float) -> str:
    """A number with three significant digits, without an exponent where it is readable so."""
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2g}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def goals_table(sections: Iterable[Section]) -> str:
    """All goals with their measured values."""
    rows = [goal.row() for section in sections for goal in section.goals]
    return table(["goal", "bound", "measured", "worst at (qubits/layers/batch)", ""], rows)


def write_json(path: Path, fingerprint: dict[str, Any], sections: Iterable[Section]) -> None:
    """Everything measured, with the machine it was measured on."""
    goals = [
        {**vars(goal), "verdict": goal.verdict, "where": goal.worst and goal.worst[0]}
        for section in sections
        for goal in section.goals
    ]
    data = {section.title: section.data for section in sections}
    path.write_text(json.dumps({"fingerprint": fingerprint, "goals": goals, **data}, indent=1) + "\n")


def write_page(path: Path, machine: str, sections: Sequence[Section]) -> None:
    """Replace what stands between the markers of a page.

    Raises:
        ValueError: the page has not both markers.
    """
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path.name}: a marker is missing; keep {BEGIN} and {END}")
    parts = [machine, "## Goals", goals_table(sections)]
    for section in sections:
        parts += [f"## {section.title}", section.text]
    path.write_text(before + BEGIN + "\n\n" + "\n\n".join(parts) + "\n\n" + END + after)
