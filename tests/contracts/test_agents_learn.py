"""Every algorithm learns what no learner may fail at, with circuit and perceptron, within 4096 interactions."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

import qrl
from qrl.agents.build import REGISTRY

HOME = runpy.run_path(str(Path(__file__).with_name("probes.py")))
PROBES, GAMMA = HOME["PROBES"], HOME["GAMMA"]
BUDGET, LOOK, IN_A_ROW = 4096, 64, 3

RATES = {"learning_rate": 0.02, "gamma": GAMMA}
Q_LEARNING = {
    **RATES, "learning_starts": 64, "batch_size": 32, "train_freq": 4, "target_update_interval": 32,
    "exploration_final": 0.2,
}  # fmt: skip
ROLLOUTS = {**RATES, "n_envs": 4, "ent_coef": 0.01}
CONTINUOUS = {
    **RATES,
    "learning_starts": 128,
    "batch_size": 64,
    "train_freq": 8,
    "gradient_steps": 4,
    "tau": 0.1,
}

LEARNERS = {
    "dqn": Q_LEARNING,
    "double-dqn": {**Q_LEARNING, "algorithm": "dqn", "double": True},
    "qr_dqn": {**Q_LEARNING, "n_quantiles": 5},
    "ppo": {**ROLLOUTS, "n_steps": 32, "batch_size": 64, "n_epochs": 4},
    "a2c": {**ROLLOUTS, "n_steps": 8, "normalise_advantage": True},
    "recurrent_ppo": {**ROLLOUTS, "n_steps": 32, "batch_size": 64, "n_epochs": 4, "lstm_size": 2},
    "reinforce": {
        **RATES, "n_envs": 4, "batch_episodes": 16, "standardise": "batch", "baseline": "value", "learning_rate": 0.03,
    },
    "natural-reinforce": {
        **RATES, "algorithm": "reinforce", "n_envs": 4, "batch_episodes": 16, "standardise": "batch",
        "baseline": "value", "natural": {"damping": 0.1}, "learning_rate": 0.2,
    },
    "free_energy_q": {
        **RATES, "optimizer": "adam", "learning_starts": 64, "batch_size": 32, "train_freq": 4,
        "exploration_final": 0.2,
    },
    "ddpg": {**CONTINUOUS, "noise": 0.5},
    "td3": {**CONTINUOUS, "noise": 0.5},
    "sac": {**CONTINUOUS, "ent_coef": 0.05},
    "naf": {**CONTINUOUS, "noise": 0.5},
}  # fmt: skip
EXCLUDED = {
    "random": "it does not learn",
    "controller": "it steers beam lines by their readings and learns no values",
}
LONG = {"identity": {"n_envs": 1, "batch_episodes": 1}}  # of episodes of 100 steps one is a batch

CIRCUIT = {"kind": "quantum", "n_qubits": 2, "n_layers": 2}
MACHINE = {
    "kind": "boltzmann", "graph": {"kind": "layered", "widths": [2, 2]}, "bias": True, "trainable_offset": True,
    "init_scale": 0.3,
}  # fmt: skip
NETWORKS = {
    "circuit": CIRCUIT,
    "mlp": {"kind": "mlp", "hidden": [16], "activation": "tanh"},
    "machine": MACHINE,
}


def algorithm_of(learner):
    return LEARNERS[learner].get("algorithm", learner)


def spec_of(learner, network, probe, box):
    """The agent's specification; circuits read as many numbers as there are."""
    algorithm = algorithm_of(learner)
    spec = {"algorithm": algorithm, "network": NETWORKS[network], **LEARNERS[learner]}
    inputs = 2 if probe == "identity" and not box else 1
    if algorithm == "reinforce":
        spec |= LONG.get(probe, {})
        if probe == "identity" and "natural" in spec:
            spec["learning_rate"] = 0.02  # the loss is a sum over the steps of an episode
    if algorithm in ("ddpg", "td3", "sac"):
        spec["critic"] = NETWORKS[network]
    if network == "circuit":
        of_actions = {**CIRCUIT, "n_layers": 3, "n_features": inputs + 1, "decoder": {}}
        ends = {"decoder": {}} if algorithm in ("naf", "sac", "qr_dqn") else {"head": {}}
        spec["network"] = {**CIRCUIT, "n_features": spec.get("lstm_size", inputs), **ends}
        if algorithm == "free_energy_q":
            spec["network"] = of_actions
        if "critic" in spec:
            spec["critic"] = of_actions
        if "natural" not in spec:
            spec["learning_rates"] = {"head": 0.05, "layers": 0.05}
    return spec


@torch.no_grad()
def values_of(agent, seen):
    """The agent's values of the observations of an episode, ``(steps,)``."""
    policy, algorithm = agent.policy, agent.spec.algorithm
    seen = torch.from_numpy(seen)
    if algorithm == "dqn":
        found = agent.q_net(seen).amax(1)
    elif algorithm == "qr_dqn":
        found = agent.quantile_net(seen).mean(1).amax(1)
    elif algorithm == "free_energy_q":
        found = policy.all_values(policy.q_net, seen).amax(1)
    elif algorithm == "naf":
        found = policy.q_net.value(seen)
    elif algorithm in ("ddpg", "td3", "sac"):
        actions = agent.actor(seen, deterministic=True) if algorithm == "sac" else agent.actor(seen)
        found = agent.critic(seen, actions)[0]
    elif algorithm == "recurrent_ppo":
        start = [torch.zeros(1, 1, agent.spec.lstm_size)] * 2
        found = policy.predict_values(seen, start, torch.zeros(len(seen)))
    else:
        found = policy.predict_values(seen)
    return found.flatten().numpy()


def learns(learner, network, probe, box, seed):
    """The interactions until the agent does the right thing in three looks one after the other; None: it never does."""
    env = PROBES[probe]
    spec = spec_of(learner, network, probe, box)
    agent = qrl.build_agent(spec, lambda: env(box), seed=seed)
    looks = [False]

    def look(*_):
        if agent.num_timesteps % LOOK < agent.n_envs:
            looks.append(right())
        return not all(looks[-IN_A_ROW:])

    def right():
        with agent.undisturbed():
            if hasattr(env, "values"):
                return HOME["values_right"](lambda seen: values_of(agent, seen), env)
            return HOME["actions_right"](lambda seen: agent.predict(seen, deterministic=True)[0], env, box)

    agent.learn(BUDGET, callback=look, log_interval=None)
    looks.append(right())  # on-policy agents learn after the last step
    return agent.num_timesteps if all(looks[-IN_A_ROW:]) else None


def cases():
    for learner in LEARNERS:
        for kind, box in ((spaces.Discrete, False), (spaces.Box, True)):
            if kind not in REGISTRY[algorithm_of(learner)].actions:
                continue
            for network in NETWORKS:
                if network == "machine" and learner != "free_energy_q":
                    continue
                for probe in PROBES:
                    name = "-".join((learner, network, probe, *(["box"] if box else [])))
                    yield pytest.param(learner, network, probe, box, id=name)


def test_every_algorithm_learns_or_says_why_not():
    learning = {algorithm_of(learner) for learner in LEARNERS}
    assert set(REGISTRY) == learning | set(EXCLUDED)
    assert not learning & set(EXCLUDED)


@pytest.mark.parametrize(("learner", "network", "probe", "box"), [*cases()])
def test_it_learns(learner, network, probe, box):
    assert learns(learner, network, probe, box, seed=1) is not None


@pytest.mark.slow
@pytest.mark.parametrize(("learner", "network", "probe", "box"), [*cases()])
def test_nine_seeds_of_ten_learn(learner, network, probe, box):
    reached = [learns(learner, network, probe, box, seed) for seed in range(10)]
    assert sum(n is not None for n in reached) >= 9, reached


def test_a_probe_tells_right_from_wrong():
    batching, value = PROBES["batching"], PROBES["value"]
    right = HOME["actions_right"]
    assert right(lambda seen: (seen[:, 0] > 0).astype(int), batching, False)
    assert not right(lambda seen: np.ones(len(seen), int), batching, False)
    assert right(lambda seen: 0.5 * seen, batching, True)
    assert not right(lambda seen: 0.0 * seen, batching, True)
    assert HOME["values_right"](lambda seen: np.ones(len(seen)), value)
    assert not HOME["values_right"](lambda seen: np.zeros(len(seen)), value)
