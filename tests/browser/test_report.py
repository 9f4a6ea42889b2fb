"""The report in a headless Chromium: quiet console, drawn figures, telephone width, no request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qrl.study.report import write_report

pytestmark = pytest.mark.browser

DRAWN = """
const marks = '.scatterlayer .trace path, .scatterlayer .point, .barlayer .point path';
return [...document.querySelectorAll('.plot')].map((plot) => {
  const frame = plot.getBoundingClientRect();
  const clipped = [...plot.querySelectorAll('.xtitle, .ytitle')].filter((title) => {
    const box = title.getBoundingClientRect();
    const across = box.left < frame.left - 1 || box.right > frame.right + 1;
    return across || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
  });
  return {
    id: plot.id,
    traces: plot.querySelectorAll(marks).length,
    width: frame.width,
    inside: plot.querySelector('.main-svg').getBoundingClientRect().width,
    clipped: clipped.length,
  };
});
"""

FAINT = r"""
const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const luminance = (css) => {
  const [r, g, b] = css.match(/[\d.]+/g).slice(0, 3).map((c) => linear(c / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (e) => {
  const colour = getComputedStyle(e).backgroundColor;
  return colour === 'rgba(0, 0, 0, 0)' && e.parentElement ? ground(e.parentElement) : colour;
};
const kinds = 'h1, h2, p, td, th, .axis, .word, .figures, .sub, .note, dt, dd, .legend li';
return [...document.querySelectorAll(kinds)].map((e) => {
  const a = luminance(getComputedStyle(e).color), b = luminance(ground(e));
  return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.className + ' ' + e.textContent.slice(0, 30)];
}).filter(([contrast]) => contrast < 4.5);
"""

CLAIM = """
hypothesis = "The hybrid needs fewer interactions than its twin."
agent = "hybrid"
opponents = ["twin"]
metric = "interactions"
seeds = "0:10"
"""

TINY = """
return [...document.querySelectorAll('body *')].filter((e) =>
  e.children.length === 0 && e.textContent.trim() && e.offsetParent !== null &&
  parseFloat(getComputedStyle(e).fontSize) < 10
).length;
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, simulated: SimpleNamespace) -> dict[str, Path]:
    """Reports of a full study, of one without threshold and of one with three seeds, and the index of all."""
    root = tmp_path_factory.mktemp("runs")
    agents = simulated.standard_agents()
    agents[1].failing_seeds, agents[2].unfinished_seeds = (3,), (9,)
    full = simulated.write_study(root, name="full", agents=agents)
    (full / "claim.toml").write_text(CLAIM, encoding="utf-8")
    simulated.write_study(root, name="open", threshold=None)
    simulated.write_study(root, name="small", seeds=range(3))
    return {page.parent.name if page.parent != root else "index": page for page in write_report(root)}


@pytest.fixture(autouse=True)
def quiet(browser: Any) -> Iterator[None]:
    """Whatever a test does: nothing in the console, and no request but the page itself."""
    yield
    assert browser.logs("browser") == []
    requests = [
        entry["message"]
        for entry in browser.logs("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    leaving = [
        text
        for text in requests
        if '"url":"file://' not in text and '"url":"data:' not in text and '"url":"blob:' not in text
    ]
    assert leaving == []


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [(name, width, False) for name in ("full", "open", "small") for width in (1280, 375)]
    + [("full", 375, True)],
)
def test_figures_are_drawn_and_nothing_overflows(
    browser: Any, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    browser.open(pages[name], width, 800, dark=dark)
    figures = browser.script(DRAWN)
    assert len(figures) == {"full": 13, "open": 10, "small": 13}[name]
    for figure in figures:
        assert figure["traces"] > 0, figure
        assert figure["inside"] <= figure["width"] + 1, figure
        assert figure["clipped"] == 0, figure
    # not window.innerWidth: a telephone widens that to hold what overflows
    assert browser.script("return document.documentElement.scrollWidth") <= width


def test_wide_tables_scroll_in_their_own_box(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["full"], 375, 800)
    overflow = (
        "return [...document.querySelectorAll('.scroll')].map((box) => box.scrollWidth - box.clientWidth)"
    )
    assert max(browser.script(overflow)) > 0
    labels = "const box = document.querySelector('.agents').parentElement; box.scrollLeft = 200; "
    labels += "return document.querySelector('.agents tbody th').getBoundingClientRect().left"
    assert 0 <= browser.script(labels) < 60  # the row's label stays in sight
    assert browser.script(TINY) == 0


def test_text_contrast_suffices_in_both_themes(browser: Any, pages: dict[str, Path]) -> None:
    for dark in (False, True):
        browser.open(pages["full"], 1280, 800, dark=dark)
        assert browser.script(FAINT) == []


def test_the_verdict_is_read_first(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["full"], 375, 800)
    assert "slower in seconds" in browser.script("return document.querySelector('.verdict').innerText")
    assert browser.script("return document.querySelector('.verdict').getBoundingClientRect().top") < 300


def test_the_circuit_is_a_drawing_on_white(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["full"], 1280, 800, dark=True)
    box = browser.script(
        "const s = document.querySelector('.circuit svg').getBoundingClientRect(); return [s.width, s.height]"
    )
    assert min(box) > 50
    assert (
        browser.script("return getComputedStyle(document.querySelector('.circuit')).backgroundColor")
        == "rgb(255, 255, 255)"
    )


def test_it_prints(browser: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    browser.open(pages["full"], 1280, 800)
    browser.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 30_000


def test_the_index_leads_to_the_studies(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["index"], 375, 800)
    links = browser.script("return [...document.links].map((link) => link.href)")
    assert links == [pages[name].as_uri() for name in ("full", "open", "small")]
    assert browser.script("return document.documentElement.scrollWidth") <= 375
