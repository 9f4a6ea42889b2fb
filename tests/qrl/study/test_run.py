"""One run: its folder, its hashes, its failures, its signals."""

import fcntl
import json
import os
import signal
import threading
import time

import pytest
import torch

import qrl
from qrl.errors import InputError
from qrl.ledger import TRAINING_PHASES, read_ledger
from qrl.study.manifest import simulator, write_manifest
from qrl.study.recipe import load_recipe
from qrl.study.results import read_lines, read_run
from qrl.study.run import Interrupted, Lines, run


def done(folder):
    return json.loads((folder / "DONE.json").read_text())


def test_a_run_folder_holds_what_a_claim_needs(tmp_path, tiny):
    folder = run(tiny, "mlp", 1, tmp_path / "tiny" / "mlp" / "seed=1")
    names = {p.name for p in folder.iterdir()}
    assert names >= {
        "recipe.toml",
        "manifest.json",
        "episodes.jsonl",
        "evaluations.jsonl",
        "ledger.jsonl",
        "checkpoints",
        "DONE.json",
    }
    result = read_run(folder)
    assert [e["interactions"] for e in result.evaluations] == [0, 100, 200]
    assert all(len(e["returns"]) == len(e["lengths"]) == 4 for e in result.evaluations)
    assert result.evaluations[-1]["updates"] == 100
    assert sum(e["length"] for e in result.episodes) <= 200
    assert load_recipe(folder / "recipe.toml").seeds == range(1, 2)
    manifest = result.manifest
    assert manifest["threads"] == 1
    assert manifest["resume"] == "exact"
    assert manifest["versions"]["torch"]
    assert manifest["seeds"]["seed"] == 1
    assert result.done["status"] == "finished"
    assert result.done["final_evaluation"] == result.evaluations[-1]
    assert result.done["totals"]["interactions"] == 200
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["ckpt-100", "ckpt-200"]


def test_the_same_seed_gives_the_same_hashes_and_another_does_not(tmp_path, tiny):
    a, b, c = (
        done(run(tiny, "mlp", seed, tmp_path / name))
        for seed, name in ((0, "seed=0"), (0, "b/seed=0"), (1, "seed=1"))
    )
    assert a["parameters_sha256"] == b["parameters_sha256"] != c["parameters_sha256"]
    assert a["metrics_sha256"] == b["metrics_sha256"] != c["metrics_sha256"]


def test_evaluating_more_often_does_not_change_what_is_learnt(tmp_path, tiny):
    often = {**tiny, "budget": {**tiny["budget"], "evaluations": 20}}
    assert (
        done(run(tiny, "mlp", 0, tmp_path / "seed=0"))["parameters_sha256"]
        == done(run(often, "mlp", 0, tmp_path / "o/seed=0"))["parameters_sha256"]
    )


def test_a_crossing_is_confirmed_on_fresh_episodes_once(tmp_path, tiny):
    evaluations = read_run(run(tiny, "random", 0, tmp_path / "seed=0")).evaluations
    first = evaluations[0]["confirmation"]
    assert first["passed"] is True
    assert len(first["returns"]) == 5
    assert first["returns"] != evaluations[0]["returns"]
    assert all(e["confirmation"] is None for e in evaluations[1:])


def test_the_ledger_closes_and_counts_what_happened(tmp_path, tiny):
    result = read_run(run(tiny, "mlp", 0, tmp_path / "seed=0"))
    records = read_ledger(result.directory / "ledger.jsonl").records
    assert sum(r.interactions for r in records if r.phase in TRAINING_PHASES) == 200
    assert sum(r.updates for r in records) == 100
    assert sum(r.episodes for r in records if r.phase in TRAINING_PHASES) == len(result.episodes)
    assert {"environment", "act", "learn", "evaluate", "io"} <= {r.phase for r in records}
    totals = result.done["totals"]
    assert sum(r.wall_s for r in records) == pytest.approx(totals["wall_s"], rel=1e-3)
    assert totals["wall_s"] == pytest.approx(totals["elapsed_s"]["wall"], abs=1e-9)
    assert all(e.kind in ("measured", "modelled", "assumed") and e.source for r in records for e in r.energy)


def test_a_continuation_under_another_simulator_or_thread_count_says_so(tmp_path, capsys):
    network = {"kind": "quantum", "n_qubits": 4, "n_layers": 1, "observables": ["ZIII", "IZII"]}
    agent = qrl.build_agent({"algorithm": "dqn", "network": network}, "CartPole-v1", seed=0)
    begun = {"threads": torch.get_num_threads(), "simulator": simulator(agent)}
    assert begun["simulator"].split()[0] in ("native", "torch")
    path = tmp_path / "manifest.json"
    for change, said in (
        ({}, ""),
        ({"simulator": "native avx9"}, "begun with simulator native avx9, now "),
        ({"threads": 99}, "begun with threads 99, now "),
    ):
        path.write_text(json.dumps(begun | change))
        write_manifest(tmp_path, None, agent, None, 0)
        assert said in (err := capsys.readouterr().err)
        assert bool(err) == bool(said)


def test_a_finished_run_is_left_alone(tmp_path, tiny):
    folder = run(tiny, "random", 0, tmp_path / "seed=0")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    run(tiny, "random", 0, folder)
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_a_folder_in_use_is_refused(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("qrl.study.run.LOCK_SECONDS", 0.3)
    folder = tmp_path / "seed=0"
    folder.mkdir()
    with (folder / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            run(tiny, "random", 0, folder)


def test_a_failing_environment_is_a_recorded_failure(tmp_path, tiny, monkeypatch):
    from gymnasium.envs.classic_control import CartPoleEnv

    step = CartPoleEnv.step
    taken = iter(range(10**6))

    def breaks(self, action):
        if next(taken) == 150:
            raise RuntimeError("the magnet tripped")
        return step(self, action)

    monkeypatch.setattr(CartPoleEnv, "step", breaks)
    result = read_run(run(tiny, "mlp", 0, tmp_path / "seed=0"))
    assert result.done["status"] == "failed"
    assert result.done["reason"] == "RuntimeError: the magnet tripped"
    assert [e["interactions"] for e in result.evaluations] == [0, 100]
    assert "Traceback" in (tmp_path / "seed=0" / "failure.log").read_text()


def test_divergence_is_called_by_its_name(tmp_path, tiny):
    # Values beyond float32: target minus value is infinity minus infinity, and the update makes NaN of it.
    tiny["agents"][0]["network"]["head"] = {"kind": "affine", "init": 3e38, "shift": 3e38}
    result = read_run(run(tiny, "mlp", 0, tmp_path / "seed=0"))
    assert result.done["status"] == "diverged"
    assert "NaN or infinite after 200 interactions" in result.done["reason"]
    assert [e["interactions"] for e in result.evaluations] == [0, 100]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_leaves_a_checkpoint_and_the_same_command_continues(tmp_path, tiny, signum):
    tiny["budget"] = {"interactions": 1500, "evaluations": 2, "evaluation_episodes": 2}
    straight = done(run(tiny, "mlp", 0, tmp_path / "straight/seed=0"))
    folder = tmp_path / "seed=0"

    def send():
        deadline = time.monotonic() + 120
        while not (folder / "checkpoints" / "ckpt-0").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.2)
        os.kill(os.getpid(), signum)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(Interrupted):
        run(tiny, "mlp", 0, folder)
    sender.join()
    assert not (folder / "DONE.json").exists()
    result = done(run(tiny, "mlp", 0, folder))
    assert 0 < result["resumed_from"] < 1500
    assert result["parameters_sha256"] == straight["parameters_sha256"]
    assert result["metrics_sha256"] == straight["metrics_sha256"]
    assert result["totals"]["interactions"] == 1500


def test_lines_end_a_torn_line_and_write_nan_as_null(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"interactions": 1}\n{"interac')
    lines = Lines(path)
    lines.append({"resume_from": 1})
    lines.append({"interactions": 2, "return": float("nan")})
    lines.close()
    assert read_lines(path) == [
        {"interactions": 1},
        {"resume_from": 1},
        {"interactions": 2, "return": None, "nan": ["return"]},
    ]
