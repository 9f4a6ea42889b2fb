"""Recipes: what they say reads back equal, what they cannot say is refused in one line."""

import copy
import tomllib

import pytest

from qrl.errors import InputError
from qrl.study.recipe import Recipe, apply_override, dump_toml, load_recipe, make_recipe, parse_seeds

RECIPE = {
    "study": {"name": "study"},
    "environment": {"id": "CartPole-v1", "options": {}},
    "budget": {"interactions": 1000},
    "threshold": {"return": 475.0},
    "agents": [
        {
            "name": "hybrid",
            "algorithm": "dqn",
            "network": {"kind": "quantum", "head": {"kind": "affine", "init": 10.0}},
        },
        {"name": "twin", "algorithm": "dqn", "network": {"kind": "matched_mlp", "match": "hybrid"}},
        {"name": "random", "algorithm": "random"},
    ],
}


def test_a_resolved_recipe_reads_back_equal():
    recipe = make_recipe(RECIPE)
    assert make_recipe(tomllib.loads(recipe.to_toml())) == recipe


def test_a_scale_may_be_given_and_leaves_other_recipes_as_they_were():
    given = make_recipe({**RECIPE, "threshold": {"return": 475.0, "optimum": 500.0, "random": 22.0}})
    assert (given.threshold.optimum, given.threshold.random) == (500.0, 22.0)
    assert "optimum" not in make_recipe(RECIPE).to_toml()
    with pytest.raises(
        InputError, match=r"^threshold.optimum: 20.0 is not above threshold.random; exchange the two"
    ):
        make_recipe({**RECIPE, "threshold": {"return": 10.0, "optimum": 20.0, "random": 22.0}})


def test_noise_reads_back_and_leaves_other_recipes_as_they_were():
    assert "noise" not in make_recipe(RECIPE).to_toml()
    noisy = copy.deepcopy(RECIPE)
    noise = {"depolarizing": [0.001, 0.01], "bit_flip": 0.01, "amplitude_damping": 0.0003, "readout": 0.02}
    noisy["agents"][0]["network"] |= {"backend": "aer", "noise": noise}
    recipe = make_recipe(noisy)
    again = make_recipe(tomllib.loads(recipe.to_toml()))
    assert again == recipe
    assert again.digest == recipe.digest != make_recipe(RECIPE).digest
    assert again.agents[0].network.noise.model_dump(mode="json") == noise | {"coherent": 0.0}
    changed = recipe.to_dict()
    apply_override(changed, "agents.0.network.noise.readout=0.1")
    assert make_recipe(changed).agents[0].network.noise.readout == 0.1


def test_digest_ignores_seeds_and_nothing_else():
    recipe = make_recipe(RECIPE)
    other_seeds = make_recipe({**RECIPE, "study": {"name": "study", "seeds": "5:6"}})
    other_budget = make_recipe({**RECIPE, "budget": {"interactions": 1001}})
    assert recipe.digest == other_seeds.digest != other_budget.digest


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    [
        (10, tuple(range(100, 1001, 100))),
        (3, (334, 667, 1000)),
        (0, (1000,)),
        ([0, 50], (0, 50, 1000)),
        ([2000], (1000,)),
    ],
)
def test_evaluations_end_at_the_budget(evaluations, expected):
    recipe = make_recipe({**RECIPE, "budget": {"interactions": 1000, "evaluations": evaluations}})
    assert recipe.budget.schedule == expected


@pytest.mark.parametrize(
    ("change", "field", "hint"),
    [
        (lambda r: r.update(agnets=1), "agnets", "agents"),
        (lambda r: r["agents"][0].update(learning_rate=float("nan")), "agents.0.learning_rate", "finite"),
        (lambda r: r["agents"][0].update(learning_rate=-1.0), "agents.0.learning_rate", "greater than 0"),
        (lambda r: r["agents"][0].update(learning_rate=True), "agents.0.learning_rate", "boolean"),
        (lambda r: r["agents"][0].update(learning_rat=1.0), "agents.0.learning_rat", "learning_rate"),
        (lambda r: r["agents"][0].update(algorithm="dqnn"), "agents.0.algorithm", "dqn"),
        (lambda r: r["agents"][0].pop("algorithm"), "agents.0.algorithm", "needed"),
        (lambda r: r["agents"][0]["network"].update(kind="quant"), "agents.0.network.kind", "quantum"),
        (lambda r: r["agents"][0]["network"].update(n_qubit=3), "agents.0.network.n_qubit", "n_qubits"),
        (lambda r: r["agents"][0]["network"].update(n_qubits=2.5), "agents.0.network.n_qubits", "integer"),
        (lambda r: r["agents"][0]["network"]["head"].update(inti=1), "agents.0.network.head.inti", "init"),
        (lambda r: r["agents"][1]["network"].update(match="hybird"), "agents.1.network.match", "hybrid"),
        (lambda r: r["agents"][1]["network"].update(match="twin"), "agents.1.network.match", "hybrid"),
        (lambda r: r["agents"][1].update(name="hybrid"), "agents", "own name"),
        (lambda r: r["study"].update(name="../escape"), "study.name", "pattern"),
        (lambda r: r["study"].update(seeds="5:2"), "study.seeds", "a < b"),
        (lambda r: r["budget"].update(interactions=0), "budget.interactions", "greater than or equal to 1"),
        (lambda r: r["threshold"].update(retrun=1.0), "threshold.retrun", "return"),
        (lambda r: r.pop("environment"), "environment", "needed"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(change, field, hint):
    data = copy.deepcopy(RECIPE)
    change(data)
    with pytest.raises(InputError) as refused:
        make_recipe(data)
    message = str(refused.value)
    assert message.startswith(f"{field}: ")
    assert hint in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["5:2", "3:3", "-1:2", "a:b", "1:2:3", "", "0:4294967297", "1.5"])
def test_seed_ranges_that_are_none(text):
    with pytest.raises(InputError, match="seeds"):
        parse_seeds(text)


def test_seed_ranges():
    assert list(parse_seeds("0:3")) == [0, 1, 2]
    assert list(parse_seeds("7")) == [7]


def test_overrides_follow_the_path_and_read_toml():
    data = copy.deepcopy(RECIPE)
    for override in (
        "agents.0.network.n_layers=3",
        "study.name=other",
        "agents.1.gamma=0.5",
        "environment.options.length=1.5",
    ):
        apply_override(data, override)
    recipe = make_recipe(data)
    assert recipe.agent("hybrid").network.n_layers == 3
    assert recipe.study.name == "other"
    assert recipe.agent("twin").gamma == 0.5
    assert recipe.environment.options == {"length": 1.5}


@pytest.mark.parametrize(
    "override",
    ["agents.9.gamma=1", "agents.x.gamma=1", "study.name.deeper=1", "nothing", "=1", "budgt.interactions=5"],
)
def test_overrides_that_lead_nowhere(tmp_path, override):
    path = tmp_path / "recipe.toml"
    path.write_text(dump_toml(RECIPE))
    with pytest.raises(InputError):
        load_recipe(path, [override])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a = = 1", b"[" * 5000])
def test_files_that_are_no_recipe(tmp_path, content):
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match="recipe"):
        load_recipe(path)


def test_missing_recipe_and_folder(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(InputError, match="is a folder"):
        load_recipe(tmp_path)


def test_toml_writer_quotes_what_it_must():
    data = {"a": {"text": 'with "quotes" \\ and \n', "dotted.key": [1, 2.5, True], "empty": {}}}
    assert tomllib.loads(dump_toml(data)) == data


def test_recipe_type_is_exported():
    assert isinstance(make_recipe(RECIPE), Recipe)


EXTENDED = """
[study]
name = "base"
seeds = "0:4"
[environment]
id = "qrl/AwakeSteering-v0"
options = { variant = "awake-2mm", threshold = 1e-3 }
[[agents]]
algorithm = "random"
"""


def test_a_recipe_extends_another_one(tmp_path):
    (tmp_path / "base.toml").write_text(EXTENDED)
    (tmp_path / "folder").mkdir()
    own = tmp_path / "folder" / "own.toml"
    own.write_text(
        'extends = "../base.toml"\n[study]\nname = "own"\n[environment.options]\nthreshold = 5e-4\nbpm_noise = 1e-4\n'
    )
    recipe, base = load_recipe(own), load_recipe(tmp_path / "base.toml")
    assert (recipe.study.name, recipe.study.seeds) == ("own", "0:4")
    assert recipe.environment.options == {"variant": "awake-2mm", "threshold": 5e-4, "bpm_noise": 1e-4}
    assert recipe.agents == base.agents
    assert base.environment.options == {"variant": "awake-2mm", "threshold": 1e-3}
    # what is stored with a run stands alone
    (tmp_path / "resolved.toml").write_text(recipe.to_toml())
    assert load_recipe(tmp_path / "resolved.toml") == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends = 3", "extends: 3 is no path"),
        ('extends = "nowhere.toml"', "does not exist; check the path"),
        ('extends = "own.toml"', "extends: own.toml extends another recipe itself"),
    ],
)
def test_what_cannot_be_extended(tmp_path, text, message):
    (tmp_path / "own.toml").write_text(text + '\n[study]\nname = "own"\n')
    with pytest.raises(InputError) as error:
        load_recipe(tmp_path / "own.toml")
    assert message in str(error.value)


def test_the_effective_dimension_is_part_of_the_diagnostics(tiny):
    tiny["budget"]["effective_dimension"] = True
    with pytest.raises(InputError, match=r"^budget.effective_dimension: true is part of the diagnostics"):
        make_recipe(tiny)
    tiny["budget"]["diagnostics"] = True
    assert make_recipe(tiny).budget.effective_dimension
