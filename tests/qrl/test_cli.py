"""The command line as a user types it: what it prints, how it exits, what it leaves behind."""

import json
import signal
import subprocess
import sys
import time

import pytest

from circuits.engine import library
from qrl.cli import main

RECIPE = """
[study]
name = "tiny"
seeds = "0:3"
[environment]
id = "CartPole-v1"
[budget]
interactions = 60
evaluations = 1
evaluation_episodes = 2
[[agents]]
name = "hybrid"
algorithm = "dqn"
learning_starts = 50
batch_size = 4
network = { kind = "quantum", n_qubits = 2, n_layers = 1, n_features = 4, observables = ["ZI", "IZ"] }
[[agents]]
name = "twin"
algorithm = "dqn"
network = { kind = "mlp", hidden = [4] }
"""


def qrl(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "qrl.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_run_prints_a_table_and_writes_a_report(recipe, tmp_path):
    done = qrl("run", "recipe.toml", "--out", "OUT", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # Where the compiled engine is not there, one line says so and nothing else is said.
    said = "" if library.load() is not None else library.FALLBACK % library.reason() + "\n"
    assert done.stderr == said
    assert "hybrid" in done.stdout
    assert "report: OUT/tiny/report.html" in done.stdout
    assert (tmp_path / "OUT" / "tiny" / "report.html").stat().st_size > 10_000
    again = qrl("report", "OUT", cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout == done.stdout


@pytest.mark.parametrize("command", ["doctor", "envs", "circuits"])
def test_what_there_is(command, tmp_path):
    done = qrl(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = {"doctor": "circuit engine", "envs": "qrl/AwakeSteering-v0", "circuits": "reuploading"}[
        command
    ]
    assert expected in done.stdout


BAD = {
    "unknown recipe key": (["--set", "agnets=3"], "agnets", "agents"),
    "seeds backwards": (["--seeds", "5:2"], "seeds", "a < b"),
    "unknown environment": (["--set", "environment.id=CartPoll-v1"], "environment.id", "CartPole"),
    "no qubits": (["--set", "agents.0.network.n_qubits=0"], "n_qubits", ""),
    "observable too long": (["--set", "agents.0.network.observables=['ZIZ','IZ']"], "ZIZ", ""),
    "learning rate NaN": (["--set", "agents.0.learning_rate=nan"], "learning_rate", "finite"),
    "path to nowhere": (["--set", "agents.7.gamma=0.5"], "agents.7", "0 to 1"),
    "unknown key by path": (["--set", "agents.0.network.layers=2"], "layers", "n_layers"),
    "unknown agent": (["--agents", "hybird"], "hybird", "hybrid"),
    "no workers": (["--workers", "0"], "--workers", ">= 1"),
    "unknown ansatz": (["--set", "agents.0.network.ansatz=upload"], "ansatz", "reuploading"),
    "unknown backend": (["--set", "agents.0.network.backend=trch"], "trch", "torch"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_exit_2_nothing_written(recipe, tmp_path, case, capsys, monkeypatch):
    arguments, field, hint = BAD[case]
    monkeypatch.chdir(tmp_path)
    assert main(["run", "recipe.toml", *arguments, "--out", "OUT"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert field in err
    assert hint in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recipe.toml"]


def test_missing_recipe(tmp_path):
    done = qrl("run", "none.toml", "--out", "OUT", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "none.toml" in done.stderr


def test_a_study_folder_of_another_recipe(recipe, tmp_path):
    assert (
        qrl(
            "run", "recipe.toml", "--agents", "twin", "--seeds", "0:1", "--out", "OUT", cwd=tmp_path
        ).returncode
        == 0
    )
    before = sorted(tmp_path.rglob("*"))
    other = qrl("run", "recipe.toml", "--set", "budget.interactions=70", "--out", "OUT", cwd=tmp_path)
    assert other.returncode == 2
    assert "budget.interactions" in other.stderr
    assert other.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    more = qrl("run", "recipe.toml", "--agents", "twin", "--seeds", "1:2", "--out", "OUT", cwd=tmp_path)
    assert more.returncode == 0, more.stderr


def test_report_on_nothing(tmp_path):
    done = qrl("report", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_a_study_in_which_every_run_fails_says_so_and_exits_3(recipe, tmp_path):
    # An environment that breaks after a hundred steps: the driver checks it once, its runs fail one by one.
    (tmp_path / "broken_env.py").write_text(
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Broken(CartPoleEnv):\n"
        "    taken = 0\n"
        "    def step(self, action):\n"
        "        Broken.taken += 1\n"
        "        if Broken.taken > 30: raise RuntimeError('the magnet tripped')\n"
        "        return super().step(action)\n"
        "gym.register('test/Broken-v0', Broken, max_episode_steps=100)\n"
    )
    done = qrl(
        "run",
        "recipe.toml",
        "--seeds",
        "0:1",
        "--set",
        "environment.id=broken_env:test/Broken-v0",
        cwd=tmp_path,
    )
    assert done.returncode == 3
    assert "2 of 2 runs failed" in done.stderr
    assert "the magnet tripped" in done.stderr
    assert "statistical" in (tmp_path / "runs/tiny/twin/seed=0/manifest.json").read_text()


def start(recipe_path, out, cwd):
    command = [sys.executable, "-m", "qrl.cli", "run", str(recipe_path), "--out", str(out), "--workers", "2"]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def hashes(out):
    found = {}
    for path in out.rglob("DONE.json"):
        done = json.loads(path.read_text())
        found[str(path.parent.relative_to(out))] = (done["parameters_sha256"], done["metrics_sha256"])
    return found


LONGER = RECIPE.replace("interactions = 60", "interactions = 2_000").replace("0:3", "0:2")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "recipe.toml").write_text(LONGER)
    process = start(folder / "recipe.toml", folder / "OUT", folder)
    process.communicate(timeout=120)
    assert process.returncode == 0
    return hashes(folder / "OUT")


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_study_stopped_at_any_time_continues_with_the_same_command(tmp_path, uninterrupted, signum, code):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(LONGER)
    stopped = start(recipe, tmp_path / "OUT", tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("OUT/tiny/*/seed=*/checkpoints/ckpt-0")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    stopped.send_signal(signum)
    _, err = stopped.communicate(timeout=60)
    assert stopped.returncode == code, err
    assert len(hashes(tmp_path / "OUT")) < 4
    again = start(recipe, tmp_path / "OUT", tmp_path)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert hashes(tmp_path / "OUT") == uninterrupted
    assert len(uninterrupted) == 4
