"""Every algorithm with every environment it can act in: killed after a checkpoint, continued elsewhere, same bits."""

import json
import multiprocessing
import runpy
from pathlib import Path

import gymnasium as gym
import pytest

import qrl
from qrl.errors import InputError
from qrl.specs import ALGORITHMS

QUANTUM = {"kind": "quantum", "n_qubits": 2, "n_layers": 1, "head": {"kind": "affine", "init": 2.0}}
MLP = {"kind": "mlp", "hidden": [8]}
BOLTZMANN = {"kind": "boltzmann", "graph": {"kind": "layered", "widths": [2, 2]}, "trainable_offset": True}
DRAWN = {"slices": 4, "reads": 4, "sweeps": 10, "burn_in": 5, "ais_steps": 8}
OFF_POLICY_SMALL = {"learning_starts": 50, "batch_size": 8, "buffer_size": 120}
PPO_SMALL = {"n_envs": 2, "n_steps": 32, "batch_size": 32, "n_epochs": 2}

AGENTS = {
    "dqn-mlp": {
        "algorithm": "dqn",
        "network": MLP,
        "learning_starts": 50,
        "batch_size": 8,
        "buffer_size": 120,
    },
    "dqn-quantum": {
        "algorithm": "dqn",
        "network": QUANTUM,
        "learning_starts": 50,
        "batch_size": 8,
        "train_freq": 4,
        "double": True,
    },
    "qr-dqn-quantum": {
        "algorithm": "qr_dqn",
        "network": QUANTUM,
        "n_quantiles": 5,
        "learning_rates": {"layers": 0.01},
        "train_freq": 4,
        **OFF_POLICY_SMALL,
    },
    "a2c-quantum": {"algorithm": "a2c", "network": QUANTUM, "n_envs": 2, "n_steps": 8, "schedule": "linear"},
    "recurrent-ppo-quantum": {"algorithm": "recurrent_ppo", "network": QUANTUM, "lstm_size": 3, **PPO_SMALL},
    "ppo-mlp": {"algorithm": "ppo", "network": MLP, "schedule": "linear", **PPO_SMALL},
    "ppo-quantum": {"algorithm": "ppo", "network": QUANTUM, **PPO_SMALL},
    "reinforce-mlp": {"algorithm": "reinforce", "network": MLP, "batch_episodes": 3, "n_envs": 2},
    "reinforce-quantum": {
        "algorithm": "reinforce",
        "network": QUANTUM,
        "batch_episodes": 2,
        "baseline": "value",
        "natural": {},
    },
    "free-energy-q": {
        "algorithm": "free_energy_q",
        "network": BOLTZMANN,
        "batch_size": 8,
        "schedule": "linear",
        "learning_rate_final": 1e-4,
    },
    "ddpg-boltzmann": {
        "algorithm": "ddpg",
        "network": MLP,
        "critic": {**BOLTZMANN, "sampler": "sqa", "sampler_options": DRAWN},
        "noise_final": 0.0,
        "exploration_initial": 0.3,
        "train_freq": "episode",
        "gradient_steps": "as_many",
        **OFF_POLICY_SMALL,
    },
    "td3-mlp": {"algorithm": "td3", "network": MLP, "critic": MLP, **OFF_POLICY_SMALL},
    "sac-mlp": {"algorithm": "sac", "network": MLP, "critic": MLP, **OFF_POLICY_SMALL},
    "naf-mlp": {"algorithm": "naf", "network": MLP, **OFF_POLICY_SMALL},
    "controller": {"algorithm": "controller", "controller": "rls"},
    "random": {"algorithm": "random"},
}
ENVIRONMENTS = {
    "target": ("qrl/TargetSteering-v0", {"bpm_noise": 1e-4}, None),
    "target-binary": ("qrl/TargetSteering-v0", {"observation": "binary"}, None),
    "awake": ("qrl/AwakeSteering-v0", {"bpm_noise": 1e-4}, None),
    "chsh": ("qrl/CHSHGame-v0", {}, None),
    "bandit": ("qrl/FrequencyBandit-v0", {}, "raw"),
    "antennas": ("qrl/AntennaSelection-v0", {"steps": 40}, None),
    "cartpole": ("CartPole-v1", {}, "arctan"),
    "acrobot": ("Acrobot-v1", {"max_episode_steps": 60}, None),
    "mountain-car": ("MountainCar-v0", {"max_episode_steps": 60}, None),
    "pendulum": ("Pendulum-v1", {"max_episode_steps": 60}, None),
    "frozen-lake": ("FrozenLake-v1", {}, None),
}
KILLED_AT, BUDGET = 120, 260


def width(env_id, options):
    env = gym.make(env_id, **options)
    size, actions = gym.spaces.flatdim(env.observation_space), env.action_space
    env.close()
    return size, (int(actions.n) if hasattr(actions, "n") else actions.shape[0])


def recipe_for(agent, environment):
    env_id, options, observation = ENVIRONMENTS[environment]
    inputs, outputs = width(env_id, options)
    spec = {"name": agent, **AGENTS[agent]}
    if spec.get("network", {}).get("kind") == "quantum":
        n_qubits = max(2, min(outputs, 4))
        words = ["I" * (a % n_qubits) + "Z" + "I" * (n_qubits - a % n_qubits - 1) for a in range(outputs)]
        # reuploading reads feature (q + l n) mod n_features: enough layers to see a part of every observation
        spec = {
            **spec,
            "network": {
                **spec["network"],
                "n_qubits": n_qubits,
                "n_features": spec.get("lstm_size", inputs),
                "observables": words,
            },
        }
    return {
        "study": {"name": "resume"},
        "environment": {
            "id": env_id,
            "options": options,
            **({} if observation is None else {"observation": observation}),
        },
        "budget": {
            "interactions": BUDGET,
            "evaluations": [0, 60, KILLED_AT, BUDGET],
            "evaluation_episodes": 3,
        },
        "agents": [spec],
    }


def in_new_process(**arguments):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qrl.study.preload"])
    script = str(Path(__file__).with_name("stop_and_continue.py"))
    process = context.Process(target=runpy.run_path, args=(script, arguments))
    process.start()
    process.join(120)
    return process.exitcode


def possible(agent, environment):
    algorithm, continuous = AGENTS[agent]["algorithm"], environment in ("pendulum", "awake")
    if algorithm == "controller":
        return environment != "frozen-lake"  # it needs readings
    if algorithm in ("dqn", "qr_dqn", "free_energy_q"):
        return not continuous
    return continuous or algorithm not in ("ddpg", "td3", "sac", "naf")


# The short tasks are one class with other rules: what holds for an agent in one of them holds in the others.
FEW = {
    "chsh": ("dqn-mlp",),
    "bandit": ("reinforce-quantum",),
    "antennas": ("dqn-quantum", "ppo-mlp", "td3-mlp"),
}
PAIRS = [(a, e) for a in AGENTS for e in ENVIRONMENTS if a in FEW.get(e, AGENTS)]
# Agents that are tried in two environments here, and in the others in the slow suite.
LATER = ("qr-dqn-quantum", "a2c-quantum", "recurrent-ppo-quantum")


def in_its_suite(agent, environment):
    slow = agent in LATER and environment not in ("frozen-lake", "awake")
    return pytest.param(agent, environment, marks=pytest.mark.slow if slow else ())


def test_every_algorithm_and_environment_has_a_row():
    assert {spec["algorithm"] for spec in AGENTS.values()} == set(ALGORITHMS)
    ours = {name for name in gym.registry if name.startswith("qrl/")}
    assert ours <= {env_id for env_id, _, _ in ENVIRONMENTS.values()}


@pytest.mark.parametrize(("agent", "environment"), [in_its_suite(*p) for p in PAIRS if possible(*p)])
def test_killed_and_continued_it_ends_with_the_same_bits(tmp_path, agent, environment):
    recipe = recipe_for(agent, environment)
    straight, stopped = tmp_path / "seed=3", tmp_path / "again" / "seed=3"
    assert in_new_process(recipe=recipe, agent=agent, folder=str(straight)) == 0
    assert in_new_process(recipe=recipe, agent=agent, folder=str(stopped), kill_at=KILLED_AT) == 77
    assert not (stopped / "DONE.json").exists()
    assert in_new_process(recipe=recipe, agent=agent, folder=str(stopped)) == 0
    first, second = (json.loads((folder / "DONE.json").read_text()) for folder in (straight, stopped))
    assert first["status"] == second["status"] == "finished", second["reason"]
    assert first["resumed_from"] is None
    assert second["resumed_from"] >= KILLED_AT
    assert first["parameters_sha256"] == second["parameters_sha256"]
    assert first["metrics_sha256"] == second["metrics_sha256"]
    assert json.loads((straight / "manifest.json").read_text())["resume"] == "exact"


@pytest.mark.parametrize(("agent", "environment"), [p for p in PAIRS if not possible(*p)])
def test_impossible_pairs_are_refused_by_name(agent, environment):
    env_id, options, _ = ENVIRONMENTS[environment]
    with pytest.raises(InputError, match="cannot act in"):
        qrl.build_agent(recipe_for(agent, environment)["agents"][0], gym.make(env_id, **options))


@pytest.mark.parametrize("agent", AGENTS)
def test_save_and_load_give_the_same_actions(tmp_path, agent):
    environment = "cartpole" if possible(agent, "cartpole") else "pendulum"
    spec = recipe_for(agent, environment)["agents"][0]
    trained = qrl.build_agent(spec, ENVIRONMENTS[environment][0], seed=5)
    trained.learn(130)
    trained.save(tmp_path / "agent")
    assert sorted(p.name for p in (tmp_path / "agent").iterdir()) == [
        "manifest.json",
        "state.json",
        "tensors.safetensors",
    ]
    loaded = type(trained).load(tmp_path / "agent")
    assert loaded.parameters_sha256 == trained.parameters_sha256
    observation = trained.observation_space.sample()
    for _ in range(5):
        assert (
            loaded.predict(observation, deterministic=True)[0]
            == trained.predict(observation, deterministic=True)[0]
        ).all()
    if spec["algorithm"] != "random":
        with pytest.raises(InputError, match="holds a"):
            qrl.RandomAgent.load(tmp_path / "agent")
