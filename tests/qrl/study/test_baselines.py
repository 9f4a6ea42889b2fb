"""Baselines made from a hybrid agent: which, what they differ in, and when there is none."""

import tomllib

import numpy as np
import pytest
import torch

from qrl.errors import InputError
from qrl.networks import build_network, resolve_agent
from qrl.study.baselines import BASELINES, family, owner
from qrl.study.comparison import compare
from qrl.study.executors import check_study_folder, write_study
from qrl.study.recipe import load_recipe, make_recipe

HYBRID = {
    "name": "hybrid",
    "algorithm": "dqn",
    "learning_rate": 0.003,
    "learning_rates": {"head": 0.1},
    "batch_size": 16,
    "network": {
        "kind": "quantum",
        "n_qubits": 2,
        "n_layers": 2,
        "n_features": 4,
        "head": {"kind": "scale", "init": 20.0},
    },
}
RECIPE = {
    "study": {"name": "family", "seeds": "0:2", "baselines": "all"},
    "environment": {"id": "CartPole-v1"},
    "budget": {"interactions": 200},
    "agents": [HYBRID, {"name": "random", "algorithm": "random"}],
}
APPLY = ["mlp", "mlp-large", "no-circuit", "frozen", "no-entanglers", "fourier", "random-fourier"]


def recipe_with(baselines, **network):
    agent = {**HYBRID, "network": {**HYBRID["network"], **network}}
    return {**RECIPE, "study": {**RECIPE["study"], "baselines": baselines}, "agents": [agent]}


def test_all_adds_what_applies_and_reads_back_equal():
    recipe = make_recipe(RECIPE)
    assert [agent.name for agent in recipe.agents] == ["hybrid", "random", *(f"hybrid.{b}" for b in APPLY)]
    assert recipe.study.baselines == {"hybrid": APPLY}
    again = make_recipe(tomllib.loads(recipe.to_toml()))
    assert again == recipe
    assert again.digest == recipe.digest
    assert make_recipe({**RECIPE, "study": {**RECIPE["study"], "seeds": "5:6"}}).digest == recipe.digest


def test_baselines_differ_from_their_agent_in_the_network_alone():
    recipe = make_recipe(RECIPE)
    own = recipe.agent("hybrid").model_dump(exclude={"name", "network"})
    for baseline in APPLY:
        made = recipe.agent(f"hybrid.{baseline}")
        assert made.model_dump(exclude={"name", "network"}) == own
        assert made.network != recipe.agent("hybrid").network
    assert recipe.agent("hybrid.frozen").network.frozen
    assert recipe.agent("hybrid.no-circuit").network.circuit == "off"
    assert recipe.agent("hybrid.no-entanglers").network.ansatz_options == {"entangler": "none"}
    assert recipe.agent("hybrid.mlp").network.match == "hybrid"


def test_both_parts_of_an_actor_critic_change():
    agent = {**HYBRID, "algorithm": "ppo", "batch_size": 160, "critic": {"kind": "quantum", "n_features": 4}}
    agent["critic"]["head"] = {"kind": "scale"}
    recipe = make_recipe({**recipe_with(["mlp", "frozen"]), "agents": [agent]})
    assert recipe.agent("hybrid.mlp").critic.match == "hybrid"
    assert recipe.agent("hybrid.frozen").critic.frozen
    agent["network"] = {"kind": "mlp"}
    recipe = make_recipe({**recipe_with(["frozen"]), "agents": [agent]})
    assert recipe.agent("hybrid.frozen").network.kind == "mlp"
    assert recipe.agent("hybrid.frozen").critic.frozen


def test_an_agent_of_that_name_is_kept():
    own = {"name": "hybrid.mlp", "algorithm": "dqn", "network": {"kind": "mlp", "hidden": [7]}}
    recipe = make_recipe({**RECIPE, "agents": [*RECIPE["agents"], own]})
    assert recipe.agent("hybrid.mlp").network.hidden == [7]
    assert len(recipe.agents) == 2 + len(APPLY)


def test_baselines_have_no_baselines():
    recipe = make_recipe({**RECIPE, "study": {**RECIPE["study"], "baselines": ["frozen"]}})
    assert [agent.name for agent in recipe.agents] == ["hybrid", "random", "hybrid.frozen"]
    assert make_recipe(recipe.to_dict()) == recipe


def test_names_of_the_family_may_stand_in_pairs_and_overrides(tmp_path):
    study = {**RECIPE["study"], "pairs": [("hybrid", "hybrid.fourier")]}
    assert make_recipe({**RECIPE, "study": study}).study.pairs == [("hybrid", "hybrid.fourier")]
    with pytest.raises(InputError, match=r"study.pairs.0: hybrid.fouier .* did you mean 'hybrid.fourier'"):
        make_recipe({**RECIPE, "study": {**study, "pairs": [("hybrid", "hybrid.fouier")]}})
    path = tmp_path / "recipe.toml"
    path.write_text(make_recipe({**RECIPE, "study": {"name": "s"}}).to_toml())
    recipe = load_recipe(path, ["study.baselines=['no-entanglers']", "agents.0.network.n_layers=1"])
    assert recipe.agent("hybrid.no-entanglers").network.n_layers == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: recipe_with(["nope"]), "study.baselines: nope is no baseline; known: "),
        (lambda: recipe_with(["mpl"]), "study.baselines: mpl is no baseline; did you mean 'mlp'"),
        (lambda: recipe_with("al"), "study.baselines: al is not known; did you mean 'all'"),
        (lambda: recipe_with({"hybird": ["mlp"]}), "study.baselines.hybird: hybird .* did you mean 'hybrid'"),
        (lambda: recipe_with(["tabular"]), "study.baselines: tabular does not apply to hybrid .*Box"),
        (lambda: recipe_with(["invariant"]), "study.baselines: invariant .*states no symmetry"),
        (lambda: recipe_with(["frozen"], head=None), "study.baselines: frozen .*nothing to train"),
        (
            lambda: recipe_with(["no-entanglers"], ansatz_options={"entangler": "none"}),
            "study.baselines: no-entanglers .*nothing to take away",
        ),
        (
            lambda: recipe_with(["fourier"], ansatz_options={"squash": "tanh"}),
            "study.baselines: fourier .*no discrete spectrum",
        ),
        (lambda: {**RECIPE, "agents": [RECIPE["agents"][1]]}, "study.baselines: all has no agent"),
        (lambda: {**RECIPE, "environment": {"id": "CartPol-v1"}}, "environment.id: CartPol-v1 "),
    ],
)
def test_what_does_not_apply_is_said_in_one_line(change, message):
    with pytest.raises(InputError, match=f"^{message}") as error:
        make_recipe(change())
    assert "\n" not in str(error.value)


def test_all_leaves_out_what_does_not_apply():
    recipe = make_recipe(recipe_with("all", head=None, ansatz_options={"squash": "tanh"}))
    assert recipe.study.baselines == {"hybrid": ["mlp", "mlp-large", "no-circuit", "no-entanglers"]}


def test_discrete_observations_have_a_table():
    agent = {
        **HYBRID,
        "network": {**HYBRID["network"], "n_qubits": 4, "n_features": None, "embedding": "basis"},
    }
    environment = {"id": "FrozenLake-v1", "options": {"is_slippery": False}}
    data = {**recipe_with(["tabular"]), "environment": environment, "agents": [agent]}
    assert make_recipe(data).agent("hybrid.tabular").network.kind == "tabular"


def test_families_by_name():
    names = ["a", "a.mlp", "a.frozen", "b.mlp", "b", "c.mlp", "a.other"]
    assert family("a", names) == {"mlp": "a.mlp", "frozen": "a.frozen"}
    assert [owner(name, names) for name in names] == [None, "a", "a", "b", None, None, None]
    assert set(BASELINES) >= set(APPLY)


def test_a_study_folder_takes_baselines_later(tmp_path):
    plain = {**RECIPE, "study": {"name": "family", "seeds": "0:2"}}
    write_study(make_recipe(plain), tmp_path)
    recipe = make_recipe({**RECIPE, "study": {**RECIPE["study"], "margin": 0.1}})
    check_study_folder(recipe, tmp_path)
    write_study(recipe, tmp_path)
    assert load_recipe(tmp_path / "family" / "recipe.toml").study.baselines == {"hybrid": APPLY}


def test_pairs_are_an_agent_and_its_baselines(tmp_path, simulated):
    def agent(name, **network):
        return simulated.Agent(name, {**simulated.QUANTUM, **network})

    agents = [agent("a"), agent("a.frozen", frozen=True), agent("b"), agent("b.frozen", frozen=True)]
    agents += [simulated.Agent(name, {"kind": "mlp", "hidden": [8]}) for name in ("a.mlp-large", "mlp")]
    result = compare(simulated.write_study(tmp_path, agents=agents, seeds=range(3)))
    pairs = {(pair.hybrid, pair.opponent) for pair in result.pairs}
    assert pairs == {("a", "a.frozen"), ("a", "a.mlp-large"), ("a", "mlp"), ("b", "b.frozen"), ("b", "mlp")}


@pytest.mark.parametrize(("words", "sign"), [(["ZIII", "IZII"], 1), (["YIII", "IYII"], -1)])
def test_the_invariant_network_has_the_symmetry_of_the_circuit(words, sign):
    network = {"ansatz": "equivariant", "n_qubits": 4, "n_layers": 1, "observables": words}
    recipe = make_recipe(recipe_with(["invariant"], **network))
    agent = recipe.agent("hybrid")
    resolved = resolve_agent(recipe.agent("hybrid.invariant"), {"hybrid": agent}, 4, 2)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))
    for spec in (
        agent.network,
        resolved.network,
    ):  # the circuit, which states the mirror of all features, first
        body = build_network(spec.model_copy(update={"head": None}), 4, 2)
        torch.testing.assert_close(body(-x), sign * body(x), atol=1e-5, rtol=1e-5)
        assert body(x).abs().max() > 1e-3
