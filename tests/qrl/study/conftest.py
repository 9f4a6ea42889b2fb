"""Studies for the tests: one small enough to run in a second, and simulated run directories."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture
def tiny():
    """A recipe as plain data: CartPole, a small MLP and a random agent."""
    return {
        "study": {"name": "tiny", "seeds": "0:2"},
        "environment": {"id": "CartPole-v1", "observation": "arctan"},
        "budget": {"interactions": 200, "evaluations": [0, 100, 200], "evaluation_episodes": 4},
        "threshold": {"return": 8.0, "confirmation_episodes": 5},
        "agents": [
            {"name": "mlp", "algorithm": "dqn", "network": {"kind": "mlp", "hidden": [8]}},
            {"name": "random", "algorithm": "random"},
        ],
    }


@pytest.fixture(scope="session")
def simulated() -> SimpleNamespace:
    """The names of `simulated_study.py`, which writes run directories."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("simulated_study.py"))))
