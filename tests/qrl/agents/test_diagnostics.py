"""Diagnostics: numbers against direct computations, nothing of a run changed, continued without a gap."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import qrl
from circuits import analysis, reuploading
from qrl.agents.diagnostics import DRAWS, Diagnostics, Moments, parameter_groups, plateau, steepness
from qrl.layer import QuantumLayer
from qrl.study.results import read_lines, surviving
from qrl.study.run import Interrupted, run

QUANTUM = {
    "kind": "quantum",
    "n_qubits": 4,
    "n_layers": 1,
    "observables": ["ZZII", "IIZZ"],
    "head": {"kind": "affine"},
}
DQN = {
    "name": "dqn",
    "algorithm": "dqn",
    "network": QUANTUM,
    "learning_starts": 20,
    "batch_size": 8,
    "train_freq": 4,
}
PPO = {
    "name": "ppo",
    "algorithm": "ppo",
    "network": QUANTUM,
    "n_envs": 2,
    "n_steps": 32,
    "batch_size": 32,
    "n_epochs": 2,
}


def recipe(agent, diagnostics, interactions=200):
    return {
        "study": {"name": "inside"},
        "environment": {"id": "CartPole-v1", "observation": "arctan"},
        "budget": {
            "interactions": interactions,
            "evaluations": [0, 100, interactions],
            "evaluation_episodes": 2,
            "diagnostics": diagnostics,
        },
        "agents": [agent],
    }


def lines(folder):
    return surviving(read_lines(folder / "diagnostics.jsonl"))


class Spy(BaseCallback):
    """Copies each gradient as it reaches the optimiser."""

    def _on_training_start(self):
        groups, self.copies = parameter_groups(self.model.policy), {}

        def copy(*_):
            for name, parameters in groups.items():
                row = torch.cat([p.grad.reshape(-1) for p in parameters])
                self.copies.setdefault(name, []).append(row.double().numpy().copy())

        self.model.policy.optimizer.register_step_pre_hook(copy)

    def _on_step(self):
        return True


@pytest.mark.parametrize("spec", [DQN, PPO], ids=["dqn", "ppo"])
def test_gradients_are_those_that_reached_the_optimiser(spec):
    agent = qrl.build_agent(spec, "CartPole-v1", seed=1)
    told, spy = Diagnostics(), Spy()
    agent.learn(128, callback=[told, spy])
    copies = {name: np.array(rows) for name, rows in spy.copies.items()}
    assert {name.split("/")[1] for name in copies} == {"weights", "scales", "head"}
    assert told._last_look == agent.num_timesteps
    # the record at the end has cleared the sums; the same updates again, by hand
    assert all(m.count == 0 for m in told._gradients.values())
    agent = qrl.build_agent(spec, "CartPole-v1", seed=1)
    told = Diagnostics()
    records = []
    told.record = lambda: records.append(Diagnostics.record(told))
    agent.learn(128, callback=told)
    for name, rows in copies.items():
        found = records[-1]["gradients"][name]
        assert found["updates"] == len(rows) > 5
        assert found["norm"] == pytest.approx(np.linalg.norm(rows, axis=1).mean())
        assert found["variance"] == pytest.approx(rows.var(axis=0).mean(), rel=1e-6)


def test_moments_in_batches_and_through_their_state():
    rows = torch.randn(150, 5, generator=torch.Generator().manual_seed(0))
    moments = Moments(5)
    for row in rows[:100]:
        moments.add([row[:2].reshape(1, 2), row[2:]])
    moments = Moments(**moments.state())
    for row in rows[100:]:
        moments.add([row[:2], row[2:]])
    moments.add([None, rows[0, 2:]])
    told, exact = moments.told(), rows.double().numpy()
    assert told["updates"] == 150
    assert told["norm"] == pytest.approx(np.linalg.norm(exact, axis=1).mean(), rel=1e-6)
    assert told["variance"] == pytest.approx(exact.var(axis=0).mean(), rel=1e-5)
    moments.clear()
    assert moments.told() == {"updates": 0, "norm": None, "variance": None}
    moments.add([torch.full((5,), float("nan"))])
    assert moments.told() == {"updates": 1, "norm": None, "variance": None}


@pytest.mark.parametrize(("spec", "dimension"), [(DQN, True), (PPO, False)], ids=["dqn", "ppo"])
def test_a_run_has_the_same_bits_with_and_without(tmp_path, spec, dimension):
    plain = run(recipe(spec, False), spec["name"], 3, tmp_path / "plain")
    told = recipe(spec, True)
    told["budget"]["effective_dimension"] = dimension
    watched = run(told, spec["name"], 3, tmp_path / "watched")
    first, second = (json.loads((f / "DONE.json").read_text()) for f in (plain, watched))
    assert first["status"] == second["status"] == "finished"
    assert first["parameters_sha256"] == second["parameters_sha256"]
    assert first["metrics_sha256"] == second["metrics_sha256"]
    assert not (plain / "diagnostics.jsonl").exists()
    found = lines(watched)
    looks = [e["interactions"] for e in read_lines(watched / "evaluations.jsonl")]
    assert [record["interactions"] for record in found] == looks
    assert found[0]["gradients"]["actor/weights" if spec is PPO else "q_net/weights"]["updates"] == 0
    for record in found:
        for circuit in record["circuits"].values():
            assert 0.0 <= circuit["meyer_wallach"] <= 1.0
            assert circuit["expressibility"] > 0.0
            assert circuit["plateau"] in ("none", "flat", "barren")
            assert ("effective_dimension" in circuit) == dimension
    assert set(found[0]["circuits"]) == ({"actor", "critic"} if spec is PPO else {"q_net"})
    assert all(circuit["scale_drift"] == 0.0 for circuit in found[0]["circuits"].values())
    assert all(circuit["scale_drift"] > 0.0 for circuit in found[-1]["circuits"].values())


@pytest.mark.parametrize("stop_at", [100, 132])
def test_a_continued_run_records_what_an_uninterrupted_one_does(tmp_path, monkeypatch, stop_at):
    """Stopped at a look and between two of them, where the sums over updates are under way."""
    straight = run(recipe(DQN, True), "dqn", 0, tmp_path / "straight")
    from qrl.study.run import Recorder

    on_rollout_start = Recorder._on_rollout_start

    def stops(self):
        if self.agent.num_timesteps >= stop_at:
            self.stop = 15
        on_rollout_start(self)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_rollout_start", stops)
        with pytest.raises(Interrupted):
            run(recipe(DQN, True), "dqn", 0, tmp_path / "stopped")
    again = run(recipe(DQN, True), "dqn", 0, tmp_path / "stopped")
    assert json.loads((again / "DONE.json").read_text())["resumed_from"] >= stop_at
    assert {"resume_from": stop_at} in read_lines(again / "diagnostics.jsonl")
    assert lines(again) == lines(straight)


def test_begun_anew_without_a_checkpoint_it_does_not_tell_the_start_twice(tmp_path):
    path = tmp_path / "told.jsonl"
    for _ in range(2):
        agent = qrl.build_agent(DQN, "CartPole-v1", seed=0)
        agent.learn(60, callback=Diagnostics([0, 40], path))
    assert [record["interactions"] for record in surviving(read_lines(path))] == [0, 40, 60]


def test_the_logger_gets_the_same_numbers(tmp_path):
    agent = qrl.build_agent(DQN, "CartPole-v1", seed=2)
    agent.set_logger(configure(str(tmp_path), ["csv"]))
    agent.learn(120, callback=Diagnostics([60], tmp_path / "told.jsonl"), log_interval=None)
    agent.logger.close()
    found = read_lines(tmp_path / "told.jsonl")
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found) == 2
    for row, record in zip(rows, found, strict=True):
        for kind in ("gradients", "circuits"):
            for name, numbers in record[kind].items():
                for key, value in numbers.items():
                    expected = float(value != "none") if key == "plateau" else value
                    assert float(row[f"diagnostics/{name}/{key}"]) == pytest.approx(expected)


def test_tensorboard_reads_them(tmp_path):
    agent = qrl.build_agent(DQN, "CartPole-v1", seed=2)
    agent.set_logger(configure(str(tmp_path), ["tensorboard"]))
    agent.learn(60, callback=Diagnostics([30], tmp_path / "told.jsonl"), log_interval=None)
    agent.logger.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    norms = [(e.step, e.value) for e in events.Scalars("diagnostics/q_net/weights/norm")]
    told = read_lines(tmp_path / "told.jsonl")
    assert norms == [
        (r["interactions"], pytest.approx(r["gradients"]["q_net/weights"]["norm"])) for r in told
    ]


def test_circuits_are_seen_as_the_agent_sees_them():
    agent = qrl.build_agent(DQN, "CartPole-v1", seed=0)
    told = Diagnostics()
    agent.learn(100, callback=told)
    layer, features = told._circuits_seen()["q_net"]
    assert layer is agent.policy.q_net.q_net.body
    np.testing.assert_allclose(features, np.stack(told._seen))
    parameters = torch.cat([layer.weights, layer.scales]).detach().double().numpy()
    entangled = [analysis.meyer_wallach(layer.circuit.statevector(parameters, x)[None])[0] for x in features]
    found = told._circuit("q_net", (layer, features))
    assert found["meyer_wallach"] == pytest.approx(np.mean(entangled))
    assert found["scale_drift"] == pytest.approx(float((layer.scales.detach() - 1).abs().mean()), abs=1e-7)


def test_two_optimisers_and_no_circuit():
    spec = {
        "algorithm": "td3",
        "network": {"kind": "mlp", "hidden": [8]},
        "critic": {"kind": "mlp", "hidden": [8]},
    }
    agent = qrl.build_agent({**spec, "learning_starts": 20, "batch_size": 8}, "Pendulum-v1", seed=0)
    records = []
    told = Diagnostics()
    told.record = lambda: records.append(Diagnostics.record(told))
    agent.learn(60, callback=told)
    (record,) = records
    assert record["circuits"] == {}
    actor, critic = (record["gradients"][f"{name}/classical"] for name in ("actor", "critic"))
    assert critic["updates"] == 2 * actor["updates"] > 0
    assert actor["norm"] > 0.0


def test_agents_without_gradients_are_no_error(tmp_path):
    agent = qrl.build_agent({"algorithm": "random"}, "CartPole-v1", seed=0)
    agent.learn(20, callback=Diagnostics(path=tmp_path / "told.jsonl"))
    assert read_lines(tmp_path / "told.jsonl") == [{"interactions": 20, "gradients": {}, "circuits": {}}]


# --------------------------------------------------------------------------------------- the alarm


def layer_of(circuit, words):
    torch.manual_seed(0)
    return QuantumLayer(circuit, words).double()


def alarm(layer, parameters, features):
    return steepness(layer, np.asarray(parameters), np.asarray(features), 1.0)


def test_at_an_extreme_of_its_observable_a_circuit_is_flat():
    """One qubit, RX(x), RY, RZ at x = 0: <Z> = cos(theta), whose slope is sin(theta)."""
    layer = layer_of(reuploading(1, 1), ["Z"])
    at_rest = alarm(layer, [0.0, 0.3, 1.0], [[0.0]])
    assert at_rest["steepness"] == pytest.approx(0.0, abs=1e-20)
    # of two weights one has the slope, and sin^2 of a uniform angle has median 1/2
    assert at_rest["steepness_random"] == pytest.approx(0.25, abs=0.08)
    assert at_rest["plateau"] == "flat"
    steep = alarm(layer, [np.pi / 2, 0.3, 1.0], [[0.0]])
    assert steep["steepness"] == pytest.approx(0.5)
    assert steep["plateau"] == "none"


def test_a_deep_circuit_with_a_global_observable_is_barren_and_a_shallow_one_is_not():
    """Of random deep circuits the mean square gradient is about 2^-n / 2: ten qubits are beyond 1000 shots."""
    x = np.random.default_rng(0).normal(size=(1, 10))
    for n, layers, expected in ((10, 10, "barren"), (2, 2, "none"), (6, 6, "none")):
        circuit = reuploading(n, layers)
        parameters = analysis.sample_parameters(circuit, 1, seed=1)[0]
        found = alarm(layer_of(circuit, ["Z" * n]), parameters, x[:, :n])
        assert found["plateau"] == expected
        if n > 2:
            assert found["steepness_random"] == pytest.approx(2.0**-n / 2, rel=0.5)


def test_false_alarms_of_random_weights_are_as_rare_as_stated():
    """300 random weights of a real circuit, each against 99 others: one in a hundred at most, within chance."""
    circuit = reuploading(2, 2)
    drawn = analysis.sample_parameters(circuit, 300, seed=5)
    slopes = analysis.gradients(circuit, ["ZI"], drawn, [0.4, -1.1])[:, :, circuit.group("weights")]
    squares = (slopes**2).mean(axis=(1, 2))
    generator = np.random.default_rng(0)
    alarms = [
        plateau(squares[k], generator.choice(np.delete(squares, k), DRAWS, replace=False)) for k in range(300)
    ]
    assert alarms.count("flat") <= 300 * 0.01 + 4 * np.sqrt(300 * 0.01)
    assert alarms.count("barren") == 0


def test_the_alarm_by_hand():
    draws = np.linspace(0.01, 0.99, DRAWS)
    assert plateau(0.009, draws) == "none"  # below all, and not a hundredth of the median
    assert plateau(0.0049, draws) == "flat"
    assert plateau(0.0049, np.append(draws[1:], 0.001)) == "none"  # one draw is flatter
    low = np.where(np.arange(DRAWS) < 61, 4e-4, 1.0)
    assert plateau(1.0, low) == "none"
    low[61] = 4e-4
    assert plateau(1.0, low) == "barren"
    with pytest.raises(ValueError, match=r"^random: shape"):
        plateau(1.0, draws[:5])
