"""A study of three small agents that are trained once, copies of it, and a backend that costs money."""

import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from circuits.backends import BACKENDS
from qrl.study.recipe import make_recipe
from qrl.study.run import run

CIRCUIT = {"kind": "quantum", "n_qubits": 2, "n_layers": 1}
RECIPE = {
    "study": {"name": "small", "seeds": "0:1"},
    "environment": {"id": "CartPole-v1", "observation": [2.4, 2.5, 0.21, 2.5]},
    "budget": {"interactions": 300, "evaluations": 1, "evaluation_episodes": 6},
    "agents": [
        {
            "name": "born",
            "algorithm": "reinforce",
            "batch_episodes": 4,
            "network": {**CIRCUIT, "head": {"kind": "born", "decoding": "contiguous"}},
        },
        {
            "name": "softmax",
            "algorithm": "ppo",
            "network": {**CIRCUIT, "observables": ["ZI", "IZ"], "head": {"kind": "scale"}},
        },
        {
            "name": "frugal",
            "algorithm": "dqn",
            "learning_starts": 50,
            "adaptive_shots": {"rule": "empirical_bernstein", "start": 20, "step": 20, "cap": 60},
            "network": {**CIRCUIT, "observables": ["ZI", "IZ"], "head": {"kind": "unit", "init": 20.0}},
        },
        {"name": "mlp", "algorithm": "ppo", "network": {"kind": "mlp", "hidden": [8]}},
    ],
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    for agent in RECIPE["agents"]:
        run(make_recipe(RECIPE), agent["name"], 0, root / "small" / agent["name"] / "seed=0")
    return root


@pytest.fixture
def study(trained, tmp_path):
    """The study in a folder of its own."""
    shutil.copytree(trained / "small", tmp_path / "small")
    return tmp_path / "small"


@pytest.fixture
def paid(tmp_path, monkeypatch):
    """The backend ``paid``, its machine, and a journal of its own."""
    names = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("paid.py"))))
    monkeypatch.setitem(BACKENDS, "paid", names.PaidBackend)
    monkeypatch.setenv("QRL_TEST_MACHINE", str(tmp_path / "machine.sqlite"))
    monkeypatch.setenv("QRL_JOURNAL", str(tmp_path / "state" / "journal.sqlite"))
    names.machine = names.Machine(tmp_path / "machine.sqlite")
    return names
