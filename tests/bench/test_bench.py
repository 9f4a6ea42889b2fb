"""What the benchmark stands on: its reference, its check, and how a goal is judged."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest

NAMES = ("problem", "contenders", "worker", "race", "report")


@pytest.fixture
def bench(monkeypatch):
    """The modules of the program, which runs as a script and finds them beside itself."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        sys.modules.pop(name)


@pytest.mark.parametrize("kind", ["act", "learn"])
def test_contenders_give_what_the_reference_says(bench, kind):
    cell, contenders = bench["problem"].Cell(4, 2, 3), bench["contenders"]
    requests = [
        contenders.Contender(f"per sample {each}", "requests", True, {"backend": "torch", "per_sample": each})
        for each in (False, True)
    ]
    engines = dict.fromkeys((contenders.fastest(), "torch"))
    ours = [contender for name in engines for contender in contenders.own(name)]
    for contender in (*ours, *requests, contenders.BACKPROP, contenders.ADJOINT):
        timer = bench["worker"].Timer(contender)
        timer.first(cell, kind)
        bench["race"].check(contender, cell, kind, timer.answers())


def test_a_wrong_answer_is_noticed(bench):
    cell, contender = bench["problem"].Cell(4, 2, 3), bench["contenders"].own("torch")[1]
    by_s, by_t = (np.array(values) for values in bench["problem"].Problem(cell).gradients)
    by_t[1, 2, 0] += 1e-4
    with pytest.raises(AssertionError, match="torch f64 at 4/2/3 learn: error"):
        bench["race"].check(contender, cell, "learn", [by_s, by_t])


def test_a_contender_beyond_its_time_is_ended(bench):
    worker = bench["worker"].Worker(Event)
    assert worker.call("wait", 0.01) is False
    with pytest.raises(bench["worker"].Limit, match="> 1 s"):
        worker.call("wait", 60.0, seconds=1.0)
    assert not worker.alive


def test_the_worst_value_counts_for_a_goal(bench):
    goal = bench["report"].Goal
    assert goal("speed", ">=", 4.0, "x", {"a": 9.0, "b": 3.0}).row() == [
        "speed",
        ">= 4x",
        "3x",
        "b",
        "missed",
    ]
    assert goal("error", "<=", 4.0, "", {"a": 3.5, "b": 3.0}).row() == ["error", "<= 4", "3.5", "a", "met"]
    assert goal("speed", ">=", 4.0, "x", {}).verdict == "not measured"


def test_only_what_stands_between_the_markers_is_replaced(bench, tmp_path):
    report, page = bench["report"], tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        report.write_page(page, "a machine", [report.Section("Peers", "fast", {})])
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n\na machine\n")
    assert text.endswith(f"\n## Peers\n\nfast\n\n{report.END}\nafter\n")
    assert "old" not in text
    page.write_text("no markers")
    with pytest.raises(ValueError, match="marker"):
        report.write_page(page, "a machine", [])
