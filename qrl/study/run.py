"""One run: one agent, one seed, one folder. Trains, evaluates, records, checkpoints, and continues after a kill."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import platform
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from qrl.agents.base import Diverged, StatefulAgent
from qrl.agents.build import build_agent, child_seed, child_seeds
from qrl.agents.diagnostics import Diagnostics
from qrl.agents.training_env import TrainingEnv, make_environment
from qrl.errors import InputError
from qrl.ledger import Ledger
from qrl.study.checkpoint import load_latest, save_step, write_atomic
from qrl.study.costs import costs_text, read_costs
from qrl.study.evaluation import Evaluation, Evaluator
from qrl.study.manifest import describe_circuit, parameter_counts, write_manifest
from qrl.study.recipe import TUNING_SEEDS, Recipe, dump_toml, make_recipe
from qrl.study.results import metrics_digest, read_lines, surviving
from qrl.study.score import score

CHECKPOINT_SECONDS = 60.0
# How often a run looks whether the study that started it still lives, and how long a new one waits for the old one.
PARENT_SECONDS = 1.0
LOCK_SECONDS = 15.0


class Interrupted(BaseException):
    """A signal asked the run to stop; everything up to here is in a checkpoint."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(f"stopped by {signal.Signals(signum).name}; the same command continues")


class Lines:
    """An append-only file of JSON lines, one write a record; NaN becomes null with a flag."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(self._descriptor).st_size
        if size:
            with path.open("rb") as file:
                file.seek(size - 1)
                if file.read(1) != b"\n":  # a torn last line: end it, readers drop it
                    os.write(self._descriptor, b"\n")

    def append(self, record: dict[str, Any]) -> None:
        """Write one record."""
        flagged = [key for key, value in record.items() if isinstance(value, float) and value != value]
        clean = {**record, **dict.fromkeys(flagged), **({"nan": flagged} if flagged else {})}
        os.write(self._descriptor, (json.dumps(clean, allow_nan=False) + "\n").encode())

    def sync(self) -> None:
        """Make what was written durable."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Recorder(BaseCallback):
    """Watches a run from inside ``learn``: evaluates and checkpoints where a rollout begins, records episodes."""

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        folder: Path,
        agent: StatefulAgent,
        env: TrainingEnv,
        ledger: Ledger,
        diagnostics: Diagnostics | None = None,
        go_on: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        self._go_on = go_on
        self.recipe, self.folder, self.agent, self.env, self.ledger = recipe, folder, agent, env, ledger
        self.diagnostics = diagnostics
        self.episodes_done = 0
        self.resumed_from: int | None = None
        self.stop: int | None = None
        self._booked = {"interactions": 0, "episodes": 0, "updates": 0}
        self._checkpointed = self._looked_for_parent = time.monotonic()
        self._looks = recipe.budget.schedule
        environment, budget = recipe.environment, recipe.budget
        common = (environment.id, environment.options, environment.observation)
        # The same start states for every agent and seed of the study: evaluations differ by the policy alone. What
        # hyperparameters are chosen on is not what they are reported on.
        stream = TUNING_SEEDS if seed >= TUNING_SEEDS else 0
        self._evaluator = Evaluator(*common, budget.evaluation_episodes, child_seed(stream, "evaluation"))
        self._confirm: Evaluator | None = None
        if recipe.threshold is not None:
            self._confirm = Evaluator(
                *common, recipe.threshold.confirmation_episodes, child_seed(seed, "confirmation")
            )
        env.on_episode = self._episode

    # ------------------------------------------------------------------ the life of the files

    def open(self) -> None:
        """Open the files, continue from the newest checkpoint if there is one, else write the first."""
        latest = load_latest(self.folder / "checkpoints")
        begun = (self.folder / "episodes.jsonl").exists()
        self._episodes = Lines(self.folder / "episodes.jsonl")
        self._evaluations = Lines(self.folder / "evaluations.jsonl")
        if latest is not None:
            step, state, _ = latest
            self.agent.set_state(state["agent"])
            self.episodes_done = state["episodes"]
            self._booked = dict(state["booked"])
            self.ledger.set_state(state["ledger"])
            if self.diagnostics is not None and "diagnostics" in state:
                self.diagnostics.set_state(state["diagnostics"])
            self.resumed_from = step
        if begun:
            for file in (self._episodes, self._evaluations):
                file.append({"resume_from": self.resumed_from or 0})
        records = surviving(read_lines(self.folder / "evaluations.jsonl"))
        self.last_look = max((r["interactions"] for r in records), default=-1)
        self._solved = any((r.get("confirmation") or {}).get("passed") for r in records)

    def close(self) -> None:
        """Close files and evaluation environments."""
        for file in (self._episodes, self._evaluations):
            file.close()
        for evaluator in filter(None, (self._evaluator, self._confirm)):
            evaluator.close()

    # ------------------------------------------------------------------ called by Stable-Baselines3

    def _on_rollout_start(self) -> None:
        self._stop_if_orphaned()
        step = self.agent.num_timesteps  # type: ignore[attr-defined]
        if step == 0 and self.last_look < 0 and self.resumed_from is None:
            self.checkpoint()
        if any(self.last_look < look <= step for look in self._looks):
            self.evaluate()
            self.checkpoint()
        elif self.stop is not None or time.monotonic() - self._checkpointed > CHECKPOINT_SECONDS:
            self.checkpoint()
        if self.stop is not None:
            raise Interrupted(self.stop)

    def _on_step(self) -> bool:
        return True

    def _stop_if_orphaned(self) -> None:
        """A run whose study was killed stops at its next checkpoint, so that the same command can continue it."""
        now = time.monotonic()
        if now - self._looked_for_parent > PARENT_SECONDS:
            self._looked_for_parent = now
            parent = multiprocessing.parent_process()
            if parent is not None and not parent.is_alive():
                self.stop = signal.SIGTERM

    def _episode(self, member: int, total: float, length: int) -> None:
        self.episodes_done += 1
        self._episodes.append(
            {
                "episode": self.episodes_done,
                "interactions": self.env.interactions,
                "environment": member,
                "return": total,
                "length": length,
            }
        )

    # ------------------------------------------------------------------ records

    def evaluate(self) -> dict[str, Any]:
        """Evaluate now, confirm a first crossing on fresh episodes, close the ledger's window."""
        step = self.agent.num_timesteps  # type: ignore[attr-defined]
        if self.agent.diverged():
            raise Diverged(
                f"a trained parameter is NaN or infinite after {step} interactions; lower the learning rate"
            )
        with self.ledger.phase("evaluate"):
            result = self._evaluator(self.agent, self._clock)
            record = {
                "interactions": step,
                "episodes": self.episodes_done,
                "updates": self.agent.updates,
                "return_mean": result.mean,
                "return_std": result.std,
                "returns": list(result.returns),
                "lengths": list(result.lengths),
                **_told(result),
                "confirmation": self._confirmation(result),
            }
        self._evaluations.append(record)
        self.last_look = step
        if self._go_on is not None:
            with self.ledger.phase("tune"):
                if not self._go_on():
                    self.stop = signal.SIGTERM
        self._book()
        self.ledger.close_window(step, result.mean)
        return record

    def _confirmation(self, result: Evaluation) -> dict[str, Any] | None:
        if self._confirm is None or self._solved or not self._reached(result):
            return None
        fresh = self._confirm(self.agent, self._clock)
        self._solved = self._reached(fresh)
        returns = {"return_mean": fresh.mean, "returns": list(fresh.returns)}
        return {**returns, "lengths": list(fresh.lengths), **_told(fresh), "passed": self._solved}

    @property
    def _clock(self) -> int:
        """Steps of each training environment."""
        agent: Any = self.agent
        return int(agent.num_timesteps // agent.n_envs)

    def _reached(self, result: Evaluation) -> bool:
        record = {"return_mean": result.mean, "lengths": result.lengths, **_told(result)}
        value, level = score(record, self.recipe.measure), self.recipe.level
        return value is not None and level is not None and value >= level

    def _book(self) -> None:
        now = {
            "interactions": self.env.interactions,
            "episodes": self.episodes_done,
            "updates": self.agent.updates,
        }
        self.ledger.add(**{key: now[key] - self._booked[key] for key in now})
        self._booked = now

    def checkpoint(self) -> None:
        """Write everything needed to continue from here."""
        with self.ledger.phase("io"):
            self._book()
            for file in (self._episodes, self._evaluations):
                file.sync()
            state = {
                "agent": self.agent.state(),
                "episodes": self.episodes_done,
                "booked": self._booked,
                "ledger": self.ledger.state(),
                **({} if self.diagnostics is None else {"diagnostics": self.diagnostics.state()}),
            }
            save_step(self.folder / "checkpoints", self.agent.num_timesteps, state)  # type: ignore[attr-defined]
            self._checkpointed = time.monotonic()


def _told(result: Evaluation) -> dict[str, Any]:
    """What an environment tells of its episodes beside their returns, for a record."""
    told = {} if result.successes is None else {"successes": list(result.successes)}
    return {**told, **({"measures": dict(result.measures)} if result.measures else {})}


def run(
    recipe: Recipe | dict[str, Any],
    agent: str,
    seed: int,
    folder: str | Path,
    go_on: Callable[[], bool] | None = None,
) -> Path:
    """Train one agent of a recipe from one seed into ``folder``, or continue what was interrupted there.

    A finished run is left as it is. A run whose agent or environment fails is recorded as failed; what comes from
    outside (a signal, a full disk) leaves it to be continued. ``go_on``, asked after every evaluation, may end it early
    as a signal does.

    Raises:
        InputError: the folder is in use by another process.
        Interrupted: SIGINT, SIGTERM or SIGUSR1, after a checkpoint.
    """
    recipe = recipe if isinstance(recipe, Recipe) else make_recipe(recipe)
    folder = Path(folder)
    if (folder / "DONE.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        torch.set_num_threads(1)
        write_atomic(
            folder / "recipe.toml",
            dump_toml(
                {**recipe.to_dict(), "study": {**recipe.to_dict()["study"], "seeds": f"{seed}:{seed + 1}"}}
            ),
        )
        with Ledger(
            f"{recipe.study.name}/{agent}/seed={seed}", seed, agent, folder / "ledger.jsonl", n_cpus=1
        ) as ledger:
            outcome = _train(recipe, agent, seed, folder, ledger, go_on)
        _finish(folder, ledger, outcome)
    return folder


def _train(
    recipe: Recipe, name: str, seed: int, folder: Path, ledger: Ledger, go_on: Callable[[], bool] | None
) -> dict[str, Any]:
    spec = recipe.agent(name)
    environment = recipe.environment
    env = TrainingEnv(
        lambda: make_environment(environment.id, environment.options, environment.observation),
        child_seeds(seed, "environment", getattr(spec, "n_envs", 1)),
    )
    agent: Any = build_agent(spec, env, seed, {a.name: a for a in recipe.agents})
    agent.set_logger(Logger(folder=None, output_formats=[]))
    describe_circuit(agent, ledger)
    diagnostics = None
    if recipe.budget.diagnostics:
        budget = recipe.budget
        diagnostics = Diagnostics(budget.schedule, folder / "diagnostics.jsonl", budget.effective_dimension)
    recorder = Recorder(recipe, seed, folder, agent, env, ledger, diagnostics, go_on)
    recorder.open()
    write_manifest(folder, recipe, agent, env, seed)
    outcome: dict[str, Any] = {"status": "finished", "reason": None}
    try:
        with _signals(recorder):
            remaining = recipe.budget.interactions - agent.num_timesteps
            if remaining > 0:
                agent.learn(
                    remaining,
                    # what is recorded at a look is in the checkpoint that the recorder writes there
                    callback=recorder if diagnostics is None else [diagnostics, recorder],
                    log_interval=None,
                    reset_num_timesteps=recorder.resumed_from is None,
                )
            if recorder.last_look < agent.num_timesteps:
                recorder.evaluate()
                recorder.checkpoint()
    except (MemoryError, OSError):
        raise
    except Exception as error:
        outcome = {
            "status": "diverged" if isinstance(error, Diverged) else "failed",
            "reason": f"{type(error).__name__}: {error}",
        }
        write_atomic(folder / "failure.log", traceback.format_exc())
    finally:
        recorder.close()
        env.close()
    return {
        **outcome,
        "resumed_from": recorder.resumed_from,
        "parameters_sha256": agent.parameters_sha256,
        "n_parameters": parameter_counts(agent),
    }


def _finish(folder: Path, ledger: Ledger, outcome: dict[str, Any]) -> None:
    evaluations = surviving(read_lines(folder / "evaluations.jsonl"))
    done = {
        "status": outcome["status"],
        "reason": outcome["reason"],
        "final_evaluation": evaluations[-1] if evaluations else None,
        "totals": ledger.totals(),
        "resumed_from": outcome["resumed_from"],
        "parameters_sha256": outcome["parameters_sha256"],
        "metrics_sha256": metrics_digest(folder),
        "n_parameters": outcome["n_parameters"],
    }
    costs = read_costs(folder, evaluations, done)
    write_atomic(folder / "costs.json", costs_text(folder, costs))
    write_atomic(folder / "DONE.json", json.dumps(done, indent=1, allow_nan=False) + "\n")


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One writer a folder; the lock dies with its process.

    Raises:
        InputError: another process keeps writing there.
    """
    with (folder / ".lock").open("w") as file:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    why, fix = "is being written by another process", "wait for it or choose another --out"
                    raise InputError("folder", str(folder), why, fix) from None
                time.sleep(0.1)
        file.write(f"{platform.node()} {os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def _signals(recorder: Recorder) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGUSR1 set a flag that the recorder looks at; a second SIGINT exits at once."""

    def on_signal(signum: int, frame: Any) -> None:
        if signum == signal.SIGINT and recorder.stop is not None:
            os._exit(130)
        recorder.stop = signum

    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
