"""Specifications: every algorithm and network reads back, and what is wrong is named where it stands."""

import pytest

from qrl.errors import InputError
from qrl.specs import ALGORITHMS, NETWORKS, agent_spec
from qrl.study.recipe import make_recipe

NEEDED = {"controller": {"controller": "rls"}}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_defaults_read_back(algorithm):
    spec = agent_spec({"algorithm": algorithm, **NEEDED.get(algorithm, {})})
    assert type(spec) is ALGORITHMS[algorithm]
    assert agent_spec(spec.model_dump(mode="json")) == spec


# Kinds that read the observation alone, and what a kind needs.
OF_STATES = ("tabular", "equivariant_mlp")
OPTIONS = {"equivariant_mlp": {"symmetry": [{"signs": [-1, -1], "outputs": [1, 0]}]}}


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_read_back(kind):
    of_actions = (("free_energy_q", "network"), ("td3", "critic"))
    for algorithm, field in (("ppo", "network"), ("ppo", "critic")) if kind in OF_STATES else of_actions:
        spec = agent_spec({"algorithm": algorithm, field: {"kind": kind, **OPTIONS.get(kind, {})}})
        assert type(getattr(spec, field)) is NETWORKS[kind]
        assert agent_spec(spec.model_dump(mode="json")) == spec


def test_defaults_of_the_machine_are_the_published_graph():
    network = agent_spec({"algorithm": "free_energy_q"}).network
    assert network.graph == {"kind": "chimera", "rows": 1, "columns": 2}
    assert (network.sign, network.offset, network.sampler) == ("mirrored", "auto", "auto")


FREE = {"algorithm": "free_energy_q"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({**FREE, "network": {"kind": "boltzmann", "offset": "x"}}, "network.offset: x is not known"),
        ({**FREE, "network": {"kind": "boltzmann", "offset": True}}, "network.offset: true is a boolean"),
        ({**FREE, "network": {"kind": "boltzmann", "beta": 0}}, "network.beta: 0 cannot be used"),
        ({**FREE, "network": {"kind": "boltzmann", "bta": 1}}, "network.bta: .* did you mean 'beta'"),
        ({**FREE, "network": {"kind": "bolzmann"}}, "network.kind: .* did you mean 'boltzmann'"),
        ({**FREE, "network": {"kind": "concave", "hidden": []}}, "network.hidden"),
        ({**FREE, "learning_rate_final": 0.1}, "learning_rate_final: .* schedule"),
        ({"algorithm": "dqn", "network": {"kind": "boltzmann"}}, "network.kind: boltzmann"),
        ({"algorithm": "ddpg", "train_freq": "epsode"}, "train_freq: epsode .* did you mean 'episode'"),
        ({"algorithm": "ddpg", "train_freq": 0}, "train_freq: 0 "),
        ({"algorithm": "td3", "gradient_steps": -1}, "gradient_steps: -1 "),
        ({"algorithm": "sac", "network": {"kind": "boltzmann"}}, "network.kind: boltzmann"),
        ({"algorithm": "sac", "ent_coef": -1}, "ent_coef: -1 cannot be used"),
        ({"algorithm": "controller"}, "controller: nothing"),
        ({"algorithm": "controller", "controller": "rsl"}, "controller: rsl .* did you mean 'rls'"),
    ],
)
def test_what_is_wrong_is_named(data, message):
    with pytest.raises(InputError, match=f"^{message}") as refused:
        agent_spec(data)
    assert "\n" not in str(refused.value)
    assert "more problem" not in str(refused.value)
    recipe = {"study": {"name": "s"}, "environment": {"id": "CartPole-v1"}, "agents": [data]}
    with pytest.raises(InputError, match=f"^agents.0.{message}"):
        make_recipe(recipe)
