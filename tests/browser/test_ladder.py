"""The ladder's page in a headless Chromium: quiet console, drawn figures, telephone width, no request."""

import pytest

from qrl.hardware.agreement import GRID, Curve
from qrl.hardware.ladder import Ladder, Rung
from qrl.hardware.ladder_page import ladder_page
from qrl.study.statistics import Estimate

pytestmark = pytest.mark.browser


def line(backend, shots, mean):
    return {
        "backend": backend,
        "acting": "greedy",
        "shots": shots,
        "interactions": 10_000,
        "parameters_sha256": "0" * 64,
        "return_mean": mean,
        "return_interval": [mean - 5.0, mean + 4.0],
        "returns": [mean] * 20,
        "device": {"device": "<b>torino</b>", "layout": [3, 1], "depth": 55, "two_qubit_gates": 17},
        "jobs": 0,
        "qpu_seconds": None,
        "queue_seconds": None,
    }


@pytest.fixture
def page(tmp_path):
    values = [1 - 0.5 / (1 + k) for k in range(len(GRID))]
    low, high = tuple(v - 0.03 for v in values), tuple(min(1.0, v + 0.03) for v in values)
    curves = tuple(
        Curve(name, GRID, tuple(values), low, high, 1.0, Estimate(512.0, 300.0, 900.0, 20), 1, "drawn")
        for name in ("noiseless", "noise model")
    )
    rungs = (
        Rung("noiseless", line("native", None, 180.0), None),
        Rung("shots", line("native", 1024, 178.0), Estimate(0.96, 0.93, 0.98, 20)),
        Rung("noise model", line("aer:fake_torino", None, 175.0), Estimate(1.0, 0.83, 1.0, 20)),
        Rung("device", line("aer:fake_torino", 1024, 170.0), Estimate(0.94, 0.90, 0.97, 20)),
    )
    ladder = Ladder(
        "study/<i>agent</i>/seed=0", "CartPole-v1", "aer:fake_torino", rungs, curves, 500, (), False
    )
    path = tmp_path / "ladder.html"
    path.write_text(ladder_page(ladder))
    return path


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_the_page_is_drawn_and_asks_for_nothing(page, browser, width, dark):
    browser.open(page, width, 900, dark=dark)
    assert browser.logs("browser") == []
    # a browser that was just started still loads a page of its own
    ours = ('"Network.requestWillBeSent"', '"documentURL":"file://')
    messages = [entry["message"] for entry in browser.logs("performance")]
    asked = [text for text in messages if all(word in text for word in ours)]
    assert asked
    local = ('"url":"file://', '"url":"data:', '"url":"blob:')
    assert [text for text in asked if not any(place in text for place in local)] == []
    drawn = browser.script(
        "return [...document.querySelectorAll('.plot')].map((p) => "
        "p.querySelectorAll('.scatterlayer .trace path, .scatterlayer .point').length)"
    )
    assert len(drawn) == 3
    assert min(drawn) > 0
    assert browser.script("return document.documentElement.scrollWidth") <= width
    assert browser.script("return document.querySelector('h1').textContent") == "study/<i>agent</i>/seed=0"
