"""Tables and places for figures as HTML, with everything in them escaped."""

from __future__ import annotations

import html

from qrl.study.outperforms import Verdict
from qrl.study.table import Cell, Grid

GOOD: tuple[Verdict, ...] = ("faster", "higher")
BAD: tuple[Verdict, ...] = ("slower", "lower")


def plot(name: str, title: str, height: int, *, wide: bool = False, note: str = "") -> str:
    """A card with a title and the place where the page draws this figure, `height` pixels high."""
    below = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return (
        f'<figure class="card{" wide" if wide else ""}" style="margin-inline:0"><h3>{html.escape(title)}</h3>'
        f'<div class="plot" id="{name}" style="height:{height}px" role="img" '
        f'aria-label="{html.escape(title)}"></div>{below}</figure>'
    )


def table(grid: Grid, kind: str, caption: bool = True) -> str:
    """A table of this class in a box of its own, in which it scrolls where the page is narrow."""
    head = "".join(f"<th scope=col>{_cell(column)}</th>" for column in grid.columns)
    rows = "".join(
        f"<tr><th scope=row>{_cell(label)}</th>{''.join(_data_cell(cell) for cell in cells)}</tr>"
        for label, cells in grid.rows
    )
    title = f"<h3>{html.escape(grid.title)}</h3>" if caption else ""
    return (
        f'{title}<div class="scroll" tabindex="0"><table '
        f'class="{kind}"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _data_cell(cell: Cell) -> str:
    name = "good-word" if cell.main in GOOD else "bad-word" if cell.main in BAD else ""
    name = "bound" if cell.main.startswith("≥") else name
    main = f'<span class="{name}">{html.escape(cell.main)}</span>' if name else html.escape(cell.main)
    return f"<td>{main}{_sub(cell)}</td>"


def _cell(cell: Cell) -> str:
    return f"{html.escape(cell.main)}{_sub(cell)}"


def _sub(cell: Cell) -> str:
    return f'<span class="sub">{html.escape(cell.sub)}</span>' if cell.sub else ""
