"""The page of peers' defects names tests that exist, and each of them fails when its defect is planted here."""

import json
import math
import re
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

from circuits import gradients
from circuits.boltzmann import exact, sqa
from circuits.boltzmann.sqa import SQASampler
from qrl.agents import build, free_energy
from qrl.agents.dqn import LeanDQN, Replay
from qrl.agents.on_policy import LeanRollouts
from qrl.agents.optim import LinearDecay
from qrl.agents.training_env import TrainingEnv
from qrl.layer import _Expectation
from qrl.study.run import run

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "peers-defects.md").read_text()
ROWS = re.findall(r"^\| (\d+) \|(.*)\|$", PAGE, re.MULTILINE)
CITED = re.compile(r"`(\S+\.py)::(\w+)`")


def running_product(patch):
    def annealed(self, progress):
        self.rate *= progress
        return self.rate

    patch.setattr(LinearDecay, "__call__", annealed)


def one_end_ends_all(patch):
    step = TrainingEnv.step_wait

    def cut(self):
        observations, rewards, dones, infos = step(self)
        return observations, rewards, np.full_like(dones, dones.any()), infos

    patch.setattr(TrainingEnv, "step_wait", cut)


def parameters_counted_once(patch):
    patch.setattr(
        "circuits.backends.torch.count_angles", lambda circuit, groups, features: circuit.n_parameters
    )


def output_scales_counted(patch):
    patch.setattr("circuits.backends.native._Program.count_angles", lambda program, *_: 6 + 2)


def endless_replay(patch):
    made = build.q_learning_settings
    patch.setattr(build, "q_learning_settings", lambda spec: {**made(spec), "buffer_size": 10**6})


def unwritten_target_lag(patch):
    shown = json.dumps

    def silent(value, **options):
        agent = value.get("agent") if isinstance(value, dict) else None
        if isinstance(agent, dict):
            agent.pop("target_update_interval", None)
        return shown(value, **options)

    patch.setattr("qrl.study.manifest.json", SimpleNamespace(dumps=silent, loads=json.loads))


def online_targets(patch):
    patch.setattr(
        LeanDQN, "_best_values", lambda self, following: self.q_net(following).amax(1, keepdim=True)
    )


def time_limits_end(patch):
    store = Replay.store

    def stored(self, *arguments):
        *arrays, infos = arguments
        store(self, *arrays, [{**info, "TimeLimit.truncated": False} for info in infos])

    patch.setattr(Replay, "store", stored)


def time_limits_end_rollouts(patch):
    patch.setattr(LeanRollouts, "_bootstrap", lambda *_: None)


def shifted_loss(patch):
    def biased(backend, circuit, parameters, features, observables, upstream, *rest, **options):
        # the difference of a squared loss has t - A for t - f; here A = 0, and upstream = -2 (t - f)
        values = backend.expectations(circuit, parameters, features, observables).values
        return rule(
            backend, circuit, parameters, features, observables, upstream - 2 * values, *rest, **options
        )

    rule = gradients.GRADIENTS["parameter_shift"]
    patch.setitem(gradients.GRADIENTS, "parameter_shift", biased)


def raw_reset(patch):
    def reset(self, *, seed=None, options=None):
        return self.env.reset(seed=seed, options=options)

    patch.setattr(gym.ObservationWrapper, "reset", reset)


def a_qubit_a_feature(patch):
    from qrl.networks import hybrid

    made = hybrid.build_circuit

    def narrow(spec, n_inputs=None):
        assert spec.n_qubits >= (n_inputs or 0)
        return made(spec, n_inputs)

    patch.setattr(hybrid, "build_circuit", narrow)


def a_tracker_at_import(patch, folder):
    (folder / "wandb.py").write_text("")
    (folder / "sitecustomize.py").write_text("import wandb\n")
    patch.setenv("PYTHONPATH", f"{folder}:{TESTS.parent}")


def intervals_of_two(patch):
    patch.setattr("qrl.study.statistics.MINIMUM_FOR_INTERVAL", 2)


def target_alone(patch):
    patch.setattr(LeanDQN, "_best_values", lambda self, x: self.q_net_target(x).amax(1, keepdim=True))


def ended_go_on(patch):
    sample = Replay._get_samples

    def unmasked(self, rows, env=None):
        batch = sample(self, rows, env)
        return batch._replace(dones=torch.zeros_like(batch.dones))

    patch.setattr(Replay, "_get_samples", unmasked)


class DecadicNumpy:
    log = staticmethod(np.log10)

    def __getattr__(self, name):
        return getattr(np, name)


def decadic_logarithm(patch):
    patch.setattr(exact, "np", DecadicNumpy())


def no_trotter_prefactor(patch):
    right = sqa.uncoupled_free_energy

    def without(problem, slices):
        inner = 0.5 * math.sinh(2 * problem.beta * problem.field / slices)
        return right(problem, slices) + problem.graph.n_hidden * slices * math.log(inner) / (2 * problem.beta)

    patch.setattr(sqa, "uncoupled_free_energy", without)


def opposite_sign(patch):
    drawn = SQASampler.thermal

    def turned(self, problem, *arguments, **options):
        found = drawn(self, problem, *arguments, **options)
        return replace(found, z=-found.z)

    patch.setattr(SQASampler, "thermal", turned)


def weights_for_every_action(patch):
    made = free_energy.build_action_value
    patch.setattr(free_energy, "build_action_value", lambda spec, n_state, _: made(spec, n_state, 2))


def one_slice_calls_itself_quantum(patch):
    patch.setattr(SQASampler, "quantum", property(lambda self: True))


def one_slice_in_silence(patch):
    patch.setattr(SQASampler, "check", lambda self, graph, field: None)


def few_reads_in_silence(patch):
    from circuits.boltzmann import dwave

    patch.setattr(dwave, "FEW_READS", 0)


def certain_by_one_read(patch):
    averages = SQASampler._averages

    def certain(self, *arguments):
        mean, _ = averages(self, *arguments)
        return mean, np.zeros_like(mean)

    patch.setattr(SQASampler, "_averages", certain)


def silent_second_derivatives(patch):
    first = _Expectation.backward

    def backward(ctx, upstream):
        with torch.no_grad():
            return first(ctx, upstream)

    patch.setattr(_Expectation, "backward", staticmethod(backward))


PLANTED = [
    (1, running_product, "qrl/agents/test_optim.py", "test_linear_decay_is_no_running_product", {"scale": 1.0}),
    (1, running_product, "qrl/agents/test_sb3.py", "test_annealing_is_linear_in_the_budget_for_each_group", {}),
    (2, one_end_ends_all, "qrl/agents/test_reinforce.py", "test_no_episode_is_cut_when_another_ends", {}),
    (2, one_end_ends_all, "qrl/agents/test_targets.py", "test_returns_of_staggered_episodes_are_the_analytic_ones", {}),
    (3, parameters_counted_once, "circuits/test_torch_backend.py", "test_counts_by_hand", {}),
    (3, output_scales_counted, "qrl/agents/test_sb3.py",
     "test_acting_counts_one_circuit_a_sample_and_learning_the_hardware_equivalent", {}),
    (4, endless_replay, "qrl/agents/test_targets.py", "test_a_replay_buffer_keeps_as_many_transitions_as_stated", {}),
    (5, online_targets, "qrl/agents/test_targets.py", "test_temporal_difference_targets_are_those_of_the_table",
     {"double": False, "targets": [4.5, -2.0, 5.5]}),
    (5, time_limits_end, "qrl/agents/test_sb3.py", "test_a_time_limit_is_no_terminal_state", {}),
    (5, time_limits_end_rollouts, "qrl/agents/test_targets.py",
     "test_rollouts_go_on_beyond_a_time_limit_and_not_beyond_an_end", {"algorithm": "ppo"}),
    (6, shifted_loss, "qrl/agents/test_targets.py",
     "test_the_shift_rule_is_applied_to_expectations_and_never_to_a_loss", {}),
    (7, raw_reset, "qrl/agents/test_training_env.py", "test_reset_and_step_share_one_transform", {"kind": "arctan"}),
    (9, a_qubit_a_feature, "qrl/test_networks.py", "test_acrobot_on_four_qubits_and_a_single_qubit_build", {}),
    (11, intervals_of_two, "qrl/study/test_statistics.py", "test_few_seeds_have_no_interval_or_a_label",
     {"n": 2, "stage": "too few seeds"}),
    (12, target_alone, "qrl/agents/test_targets.py", "test_temporal_difference_targets_are_those_of_the_table",
     {"double": True, "targets": [2.5, -2.0, 2.5]}),
    (12, ended_go_on, "qrl/agents/test_targets.py", "test_temporal_difference_targets_are_those_of_the_table",
     {"double": False, "targets": [4.5, -2.0, 5.5]}),
    (13, decadic_logarithm, "circuits/boltzmann/test_exact.py", "test_golden_values_to_the_printed_digits", {}),
    (13, no_trotter_prefactor, "circuits/boltzmann/test_sqa.py",
     "test_start_of_annealed_importance_sampling_is_the_uncoupled_ensemble", {"slices": 5, "field": 0.5}),
    (14, opposite_sign, "contracts/test_every_sampler.py",
     "test_moments_and_free_energy_are_those_of_the_matrix_exponential", {"case": "sqa", "field": 0.5}),
    (15, weights_for_every_action, "qrl/agents/test_free_energy.py",
     "test_presets_have_the_published_number_of_weights",
     {"name": "q-learning", "env_id": "qrl/TargetSteering-v0", "count": 52}),
    (16, one_slice_calls_itself_quantum, "circuits/boltzmann/test_sqa.py",
     "test_one_slice_is_classical_at_any_field", {}),
    (16, one_slice_in_silence, "circuits/boltzmann/test_sqa.py",
     "test_one_slice_in_a_field_is_refused_unless_it_is_asked_for", {"options": {}, "field": 0.5}),
    (17, few_reads_in_silence, "circuits/boltzmann/test_dwave.py",
     "test_an_entropy_from_counts_of_few_reads_is_warned_of_and_named", {}),
    (17, certain_by_one_read, "circuits/boltzmann/test_sqa.py", "test_a_single_read_has_no_standard_error", {}),
    (19, silent_second_derivatives, "qrl/test_layer.py", "test_second_derivatives_are_refused", {}),
]  # fmt: skip


def function(path, name):
    return runpy.run_path(str(TESTS / path))[name]


def test_the_page_has_every_defect_and_its_tests_exist():
    assert [int(number) for number, _ in ROWS] == list(range(1, 21))
    for number, row in ROWS:
        cited = CITED.findall(row)
        assert cited, number
        for path, name in cited:
            assert f"def {name}(" in (TESTS / path).read_text(), (number, name)


def test_every_planted_defect_is_cited_on_the_page():
    cited = {(int(number), path, name) for number, row in ROWS for path, name in CITED.findall(row)}
    assert {(number, path, name) for number, _, path, name, _ in PLANTED} <= cited


@pytest.mark.engine
@pytest.mark.filterwarnings("default")  # a planted defect may warn before the test sees it
@pytest.mark.parametrize(
    ("plant", "path", "name", "arguments"),
    [pytest.param(*row[1:], id=f"{row[0]}-{row[1].__name__}-{row[3]}") for row in PLANTED],
)
def test_its_test_sees_the_planted_defect(monkeypatch, plant, path, name, arguments):
    plant(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        function(path, name)(**arguments)


def test_an_import_that_loads_a_tracker_is_seen(monkeypatch, tmp_path):
    a_tracker_at_import(monkeypatch, tmp_path)
    with pytest.raises(AssertionError):
        function("qrl/test_import.py", "test_import_loads_nothing_heavy_and_registers_environments")(tmp_path)


def lag_of_a_run(folder):
    """The agent as its run's manifest describes it."""
    network = {
        "kind": "quantum",
        "n_qubits": 2,
        "n_layers": 2,
        "head": {},
        "ansatz_options": {"squash": "tanh"},
    }
    agent = {"name": "q", "algorithm": "dqn", "network": {**network, "observables": ["ZI", "IZ"]}}
    recipe = {
        "study": {"name": "manifest"},
        "environment": {"id": "CartPole-v1"},
        "budget": {"interactions": 8, "evaluations": 1, "evaluation_episodes": 1},
        "agents": [agent],
    }
    return json.loads((run(recipe, "q", 0, folder) / "manifest.json").read_text())["agent"]


def test_the_manifest_says_how_the_target_lags_and_what_squashes(tmp_path):
    agent = lag_of_a_run(tmp_path / "seed=0")
    assert {
        key: agent[key] for key in ("target_update_interval", "tau", "buffer_size", "learning_starts")
    } == {
        "target_update_interval": 100,
        "tau": 1.0,
        "buffer_size": 10_000,
        "learning_starts": 100,
    }
    assert agent["network"]["ansatz_options"] == {"squash": "tanh"}


def test_a_manifest_without_the_lag_is_seen(monkeypatch, tmp_path):
    unwritten_target_lag(monkeypatch)
    with pytest.raises(KeyError):
        test_the_manifest_says_how_the_target_lags_and_what_squashes(tmp_path)


def test_an_embedding_that_is_searched_again_is_seen(monkeypatch):
    pytest.importorskip("dwave.system")
    import minorminer

    from circuits.boltzmann.dwave import DWaveSampler
    from circuits.boltzmann.embeddings import Embeddings

    searches, search = [], minorminer.find_embedding
    monkeypatch.setattr(
        minorminer, "find_embedding", lambda *a, **options: searches.append(options) or search(*a, **options)
    )
    composite = DWaveSampler._composite

    def forgetful(self, graph):
        self._composites.clear()
        self.embeddings = Embeddings(0, None)
        return composite(self, graph)

    monkeypatch.setattr(DWaveSampler, "_composite", forgetful)
    with pytest.raises(AssertionError):
        function("circuits/boltzmann/test_dwave.py", "test_the_embedding_is_found_once_for_many_calls")(
            searches
        )
