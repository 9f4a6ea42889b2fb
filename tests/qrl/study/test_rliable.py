"""Our statistics against those of rliable 1.2.0 on shared scores; `rliable/reference.py` made both files.

Values agree to rounding. Intervals are those of two bootstraps of 20,000 draws: their ends agree within 0.01, where the
scores lie between 0 and 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qrl.study.statistics import (
    iqm,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)

HERE = Path(__file__).with_name("rliable")
THEIRS = json.loads((HERE / "rliable.json").read_text())
SCORES = {name: np.array(rows) for name, rows in json.loads((HERE / "scores.json").read_text()).items()}
WITHIN = 0.01
DRAWS = THEIRS["repetitions"]


def test_the_reference_is_of_the_version_that_it_claims() -> None:
    assert THEIRS["rliable"] == "1.2.0"
    assert {rows.shape for rows in SCORES.values()} == {(20, 3)}


@pytest.mark.parametrize("name", sorted(SCORES))
@pytest.mark.parametrize(("statistic", "ours"), [("iqm", iqm), ("optimality_gap", optimality_gap)])
def test_aggregates_over_tasks(name: str, statistic: str, ours: Callable[..., Any]) -> None:
    theirs = THEIRS[statistic][name]
    estimate = stratified_bootstrap(list(SCORES[name].T), ours, draws=DRAWS)
    assert estimate.value == pytest.approx(theirs["value"], rel=1e-12)
    assert estimate.low == pytest.approx(theirs["low"], abs=WITHIN)
    assert estimate.high == pytest.approx(theirs["high"], abs=WITHIN)


@pytest.mark.parametrize("task", range(3))
def test_probability_of_improvement_with_and_without_ties(task: int) -> None:
    theirs = THEIRS[f"probability_of_improvement_{task}"]["pair"]
    x, y = (SCORES[name][:, task] for name in ("first", "second"))
    estimate = probability_of_improvement(x, y, draws=DRAWS)
    assert estimate.value == pytest.approx(theirs["value"], rel=1e-12)
    assert estimate.low == pytest.approx(theirs["low"], abs=WITHIN)
    assert estimate.high == pytest.approx(theirs["high"], abs=WITHIN)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_performance_profile_and_its_band(name: str) -> None:
    theirs = THEIRS["performance_profile"][name]
    share, low, high = performance_profile(list(SCORES[name].T), THEIRS["levels"], draws=DRAWS)
    assert share == pytest.approx(theirs["value"], rel=1e-12)
    # shares of 60 runs: two bootstraps may choose neighbouring values
    assert low == pytest.approx(theirs["low"], abs=1 / 60 + 1e-9)
    assert high == pytest.approx(theirs["high"], abs=1 / 60 + 1e-9)


def test_the_profile_by_hand() -> None:
    share, low, high = performance_profile([[0.2, 0.4, 0.4, 1.0]], [0.0, 0.2, 0.4, 1.0])
    assert share.tolist() == [1.0, 0.75, 0.25, 0.0]  # strictly above a level
    assert np.all((low <= share) & (share <= high))
    assert np.isnan(performance_profile([[0.2, 0.4]], [0.3])[1]).all()


def test_the_optimality_gap_gives_no_credit_beyond_the_reference() -> None:
    assert optimality_gap([0.5, 1.0, 1.7, -0.25]) == pytest.approx((0.5 + 1.25) / 4)
