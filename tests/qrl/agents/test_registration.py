"""A new algorithm is one file and one registration: the example of the docs, as the module of its own that it is."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.special import logsumexp

import qrl
from qrl.errors import InputError
from qrl.specs import agent_spec
from qrl.study.executors import execute, plan
from qrl.study.recipe import make_recipe

PAGE = Path(__file__).parents[3] / "docs" / "extending-algorithm.md"
NAME = "soft_q:soft_q"
MLP = {"kind": "mlp", "hidden": [8]}
CIRCUIT = {
    "kind": "quantum",
    "n_qubits": 2,
    "n_layers": 2,
    "n_features": 4,
    "observables": ["ZI", "IZ"],
    "head": {},
}


@pytest.fixture
def module(tmp_path, monkeypatch, registered):
    """The example is importable, here and in processes that are started."""
    (tmp_path / "soft_q.py").write_text(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "soft_q", raising=False)
    assert NAME not in registered
    return tmp_path


def test_its_module_is_imported_by_its_name(module):
    assert agent_spec({"algorithm": NAME}).temperature == 0.1
    with pytest.raises(InputError, match=r"temperature.*cannot be used"):
        agent_spec({"algorithm": NAME, "temperature": 0.0})
    with pytest.raises(InputError, match="did you mean 'temperature'"):
        agent_spec({"algorithm": NAME, "temperatures": 0.5})
    with pytest.raises(InputError, match="cannot act in Pendulum-v1"):
        qrl.build_agent({"algorithm": NAME}, "Pendulum-v1")


def test_a_module_that_is_missing_is_named():
    with pytest.raises(InputError, match=r"no_such_module:x.*names a module that is missing"):
        agent_spec({"algorithm": "no_such_module:x"})


def test_a_name_is_taken_once(module):
    spec = type(agent_spec({"algorithm": NAME}))
    with pytest.raises(InputError, match="is registered already"):
        qrl.register_algorithm(spec, lambda *_: None, (spaces.Discrete,))


@pytest.mark.parametrize("network", [MLP, CIRCUIT], ids=["mlp", "circuit"])
def test_values_actions_and_files(module, network):
    agent = qrl.build_agent(
        {"algorithm": NAME, "network": network, "temperature": 0.5}, "CartPole-v1", seed=3
    )
    agent.learn(120)
    assert agent.updates == 70
    states = torch.rand(6, 4)
    with torch.no_grad():
        online, target = agent.policy.q_net(states), agent.policy.q_net_target(states).double().numpy()
        found = agent.policy.target_values(states)[:, 0]
    np.testing.assert_allclose(found, 0.5 * logsumexp(target / 0.5, axis=1), rtol=1e-5)
    one = states[:1].numpy().repeat(4000, 0)
    share = agent.predict(one)[0].mean()
    expected = (online[0] / 0.5).softmax(0)[1].item()
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 4000) ** 0.5)
    agent.save(module / "saved")
    assert type(agent).load(module / "saved").parameters_sha256 == agent.parameters_sha256


def test_a_study_finds_it_in_other_processes(module):
    recipe = make_recipe(
        {
            "study": {"name": "soft", "seeds": "0:2"},
            "environment": {"id": "CartPole-v1"},
            "budget": {"interactions": 80, "evaluations": 1, "evaluation_episodes": 2},
            "agents": [{"name": "soft", "algorithm": NAME, "network": MLP}],
        }
    )
    assert execute(recipe, plan(recipe, ["soft"], module), workers=2) == 0
    for seed in (0, 1):
        done = json.loads((module / "soft" / "soft" / f"seed={seed}" / "DONE.json").read_text())
        assert done["status"] == "finished", done
