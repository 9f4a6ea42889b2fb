"""Fixtures of the baselines' tests: the AWAKE response matrix, from the optics table by its own code."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

OPTICS = Path(__file__).parents[2] / "environments" / "data" / "awake_tt43_optics.csv"


@pytest.fixture(scope="session")
def awake_response() -> np.ndarray:
    """Horizontal R, shape (10, 10), metre per radian: `sqrt(b_i b_j) sin(2 pi (mu_i - mu_j))` downstream,
    else 0.
    """
    with OPTICS.open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    monitors = [row for row in rows if row["keyword"] == "MONITOR"][1:]
    correctors = [row for row in rows if row["keyword"] == "KICKER"][:-1]
    response = np.zeros((10, 10))
    for i, monitor in enumerate(monitors):
        for j, corrector in enumerate(correctors):
            phase = float(monitor["mux_2pi"]) - float(corrector["mux_2pi"])
            if phase > 0:
                beta = float(monitor["betx_m"]) * float(corrector["betx_m"])
                response[i, j] = np.sqrt(beta) * np.sin(2 * np.pi * phase)
    return response


@pytest.fixture(scope="session")
def awake_resets() -> np.ndarray:
    """Kicks uniform in +-300 microradians, shape (20000, 10)."""
    return np.random.default_rng(20190).uniform(-3e-4, 3e-4, size=(20_000, 10))
