"""Registration: further algorithms, by name and by module, in this process and in others."""

import subprocess
import sys

import pytest
from gymnasium import spaces

import qrl
from qrl.agents.build import REGISTRY
from qrl.errors import InputError
from qrl.specs import ALGORITHMS, DQNSpec, RandomAgentSpec, agent_spec

MODULE = """
from typing import Literal

from gymnasium import spaces

import qrl
from qrl.agents.build import REGISTRY
from qrl.specs import DQNSpec


class Spec(DQNSpec):
    algorithm: Literal["shelf_of_algorithms:mine"] = "shelf_of_algorithms:mine"


qrl.register_algorithm(Spec, REGISTRY["dqn"].build, (spaces.Discrete,))
"""
RECIPE = """
[study]
name = "elsewhere"
[environment]
id = "CartPole-v1"
[budget]
interactions = 60
evaluations = 1
evaluation_episodes = 2
[[agents]]
name = "a"
algorithm = "shelf_of_algorithms:mine"
network = { kind = "mlp", hidden = [4] }
learning_starts = 20
"""


def test_every_specification_has_a_builder():
    assert set(ALGORITHMS) == set(REGISTRY)


def test_a_name_is_registered_once():
    with pytest.raises(InputError, match="algorithm: dqn is registered already"):
        qrl.register_algorithm(DQNSpec, REGISTRY["dqn"].build, (spaces.Discrete,))
    assert ALGORITHMS["dqn"] is DQNSpec


def test_what_is_not_there_is_named():
    with pytest.raises(InputError, match="algorithm: dqm is not known; did you mean 'dqn'"):
        agent_spec({"algorithm": "dqm"})
    with pytest.raises(InputError, match="names a module that is missing"):
        agent_spec({"algorithm": "no_such_module:dqn"})
    assert agent_spec(RandomAgentSpec()) == RandomAgentSpec()


def test_another_process_imports_the_module_that_a_recipe_names(tmp_path):
    (tmp_path / "shelf_of_algorithms.py").write_text(MODULE)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    code = (
        "import qrl.study.run as r, qrl; recipe = qrl.load_recipe('recipe.toml'); "
        "r.run(recipe.model_dump(mode='json', by_alias=True), 'a', 1, 'run'); print(open('run/DONE.json').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert '"finished"' in done.stdout, done.stderr
