"""Equal tuning: the same number of trials, on the same seeds, in equally wide search spaces, for every agent.

A trial trains an agent with some hyperparameters from every tuning seed; its value is the mean over runs of the score
averaged over training. An agent's trials follow one another and agents run side by side, so the outcome depends neither
on the number of workers nor on interruptions. Seeds from 2^31 on are reserved for it: no reported seed is among them,
and their runs are evaluated from start states of their own.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
import signal
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qrl.errors import InputError, nearest
from qrl.specs import LearnerBase, agent_spec
from qrl.study.checkpoint import write_atomic
from qrl.study.executors import FATAL, MAX_CRASHES, StudyError, check_same_study
from qrl.study.recipe import Range, Recipe, Tuning, extension, load_recipe, make_recipe, parse_seeds
from qrl.study.results import read_lines, surviving
from qrl.study.run import Interrupted, exclusive, run
from qrl.study.score import label, score

if TYPE_CHECKING:
    import optuna
    from rich.table import Table

_RATE = Range(low=1e-4, high=1e-1, log=True)
_HEAD = Range(low=1e-3, high=1.0, log=True)
_TAU = Range(low=1e-3, high=1e-1, log=True)
_ENTROPY = Range(low=1e-4, high=1e-1, log=True)
_NOISE = Range(low=0.02, high=0.5)

_VALUES = {
    "learning_rate": _RATE,
    "learning_rates.head": _HEAD,
    "target_update_interval": Range(low=1, high=1_000, log=True),
    "exploration_fraction": Range(low=0.05, high=0.5),
}
_POLICY = {
    "learning_rate": _RATE,
    "learning_rates.head": _HEAD,
    "ent_coef": _ENTROPY,
    "gae_lambda": Range(low=0.8, high=1.0),
}
_ACTOR_CRITIC = {"learning_rate": _RATE, "critic_learning_rate": _RATE, "tau": _TAU, "noise": _NOISE}

RANGES: Mapping[str, Mapping[str, Range]] = {
    "dqn": _VALUES,
    "qr_dqn": _VALUES,
    "ppo": _POLICY,
    "a2c": _POLICY,
    "recurrent_ppo": _POLICY,
    "reinforce": {
        "learning_rate": _RATE,
        "learning_rates.head": _HEAD,
        "ent_coef": _ENTROPY,
        "batch_episodes": Range(low=2, high=20, log=True),
    },
    "ddpg": _ACTOR_CRITIC,
    "td3": _ACTOR_CRITIC,
    "sac": {
        "learning_rate": _RATE,
        "critic_learning_rate": _RATE,
        "tau": _TAU,
        "gamma": Range(low=0.9, high=0.999),
    },
    "naf": {"learning_rate": _RATE, "learning_rates.head": _HEAD, "tau": _TAU, "noise": _NOISE},
    "free_energy_q": {
        "learning_rate": Range(low=1e-3, high=3.0, log=True),
        "learning_rates.head": Range(low=1e-3, high=3.0, log=True),
        "tau": Range(low=1e-2, high=1.0, log=True),
        "exploration_fraction": Range(low=0.05, high=1.0),
    },
}
"""The default search space of each algorithm: four hyperparameters each."""

STARTUP_TRIALS = 5
"""Trials of an agent before any is stopped early."""


def search_space(recipe: Recipe, algorithm: str) -> Mapping[str, Range]:
    """The hyperparameters of an algorithm that are searched, and where.

    Raises:
        InputError: none are known.
    """
    own = recipe.tuning.ranges if recipe.tuning is not None else {}
    space = own.get(algorithm) or RANGES.get(algorithm)
    if space is None:
        why, fix = "has no search space of its own", f"write [tuning.ranges.{algorithm}]"
        raise InputError("tuning.ranges", algorithm, why, fix)
    return space


def tunable(recipe: Recipe, names: Sequence[str]) -> list[Any]:
    """The agents of these names that learn; the others have nothing to tune.

    Raises:
        InputError: a searched entry that one of the agents does not have or refuses.
    """
    agents: list[Any] = [a for a in recipe.agents if a.name in names and isinstance(a, LearnerBase)]
    if not agents:
        raise InputError("--agents", ",".join(names), "learn nothing that could be tuned", "name a learner")
    for agent in agents:
        space = search_space(recipe, agent.algorithm)
        for ends in zip(*(_ends(path, reach) for path, reach in space.items()), strict=True):
            with_values(agent, dict(ends))
    return agents


def _ends(path: str, reach: Range) -> tuple[tuple[str, Any], tuple[str, Any]]:
    low, high = (reach.low, reach.high) if reach.choices is None else (reach.choices[0], reach.choices[-1])
    return (path, low), (path, high)


def own_value(agent: Any, path: str) -> Any:
    """What an agent has at a dotted path; a learning rate that it leaves open is its base rate.

    Raises:
        InputError: there is no such entry.
    """
    node: Any = agent
    for key in path.split("."):
        known = type(node).model_fields if hasattr(type(node), "model_fields") else {}
        if key not in known:
            where = f"tuning.ranges.{agent.algorithm}"
            why = f"is no entry of {agent.name}, and the search is equally wide for all"
            raise InputError(where, path, why, nearest(key, known))
        node = getattr(node, key)
    if node is None and path.startswith(("learning_rates.", "critic_learning_rate")):
        return agent.learning_rate
    return node


def with_values(agent: Any, values: Mapping[str, Any]) -> Any:
    """The agent with these hyperparameters; rates that are not among them keep their ratio to the base rate.

    Raises:
        InputError: an entry that the agent does not have, or a value that it refuses.
    """
    data = agent.model_dump()
    ratio = values.get("learning_rate", agent.learning_rate) / agent.learning_rate
    rates = [f"learning_rates.{group}" for group in data["learning_rates"]]
    for path in (*rates, "critic_learning_rate", "learning_rate_final"):
        *outer, last = path.split(".")
        table = data[outer[0]] if outer else data
        if path not in values and table.get(last) is not None:
            table[last] = table[last] * ratio
    for path, value in values.items():
        own_value(agent, path)
        *outer, last = path.split(".")
        node = data
        for key in outer:
            node = node[key]
        node[last] = value
    return agent_spec(data)


def tuning_of(recipe: Recipe, trials: int | None = None, steps: int | None = None) -> Recipe:
    """The recipe with its ``[tuning]`` table complete, these two in place of its own."""
    tuning = recipe.tuning or Tuning()
    given = {"trials": trials, "interactions": steps}
    data = {**tuning.model_dump(), **{key: value for key, value in given.items() if value is not None}}
    data["interactions"] = data["interactions"] or recipe.budget.interactions
    return make_recipe({**recipe.to_dict(), "tuning": data})


def trial_recipe(recipe: Recipe, agent: Any) -> Recipe:
    """What the runs of a trial are: the study with this agent in place of its namesake, on the tuning seeds."""
    assert recipe.tuning is not None
    data = recipe.to_dict()
    data["study"] |= {"seeds": recipe.tuning.seeds}
    data["budget"]["interactions"] = recipe.tuning.interactions
    del data["tuning"]
    own = agent.model_dump(mode="json", by_alias=True, exclude_none=True)
    data["agents"] = [own if other["name"] == agent.name else other for other in data["agents"]]
    return make_recipe(data)


# ---------------------------------------------------------------------- what a process does


@dataclass(frozen=True, slots=True)
class Look:
    """What a trial's process says after an evaluation: all of this run's, and whether it ended, and how."""

    seed_index: int
    scores: tuple[tuple[int, float | None], ...]
    status: str | None = None
    reason: str | None = None


class _Questions:
    """What a trial's process asks: whether to go on, after every evaluation and every run."""

    def __init__(self, pipe: connection.Connection[Look, bool], measure: str) -> None:
        self.pipe, self.measure = pipe, measure
        self.stopped = False

    def __call__(
        self, index: int, folder: Path, status: str | None = None, reason: str | None = None
    ) -> bool:
        try:
            self.pipe.send(Look(index, _scores(folder, self.measure), status, reason))
            self.stopped = not self.pipe.recv()
        except (EOFError, OSError):  # whoever asked for this trial is gone
            self.stopped = True
        return not self.stopped


def run_trial(
    recipe: dict[str, Any], agent: str, folder: Path, pipe: connection.Connection[Look, bool]
) -> None:
    """Train one agent from every seed of the recipe, one after the other, as long as the pipe says so."""
    resolved = make_recipe(recipe)
    go_on = _Questions(pipe, resolved.measure)
    try:
        for index, seed in enumerate(resolved.seeds):
            place = folder / str(seed)
            run(resolved, agent, seed, place, partial(go_on, index, place))
            if go_on.stopped:  # at its last evaluation
                return
            done = json.loads((place / "DONE.json").read_text())
            if not go_on(index, place, done["status"], done["reason"]):
                return
    except Interrupted as stop:
        sys.exit(0 if go_on.stopped else 128 + stop.signum)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"error: {agent} in {folder}: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(FATAL)


def _scores(folder: Path, measure: str) -> tuple[tuple[int, float | None], ...]:
    """Interactions and score of a run's evaluations after its first step."""
    records = surviving(read_lines(folder / "evaluations.jsonl"))
    return tuple((r["interactions"], score(r, measure)) for r in records if r["interactions"] > 0)


# ---------------------------------------------------------------------- the study


@dataclass
class Live:
    """A trial that runs."""

    agent: Any
    trial: optuna.Trial
    folder: Path
    reported: set[int]
    process: Any = None
    pipe: Any = None
    started: float = 0.0
    crashes: int = 0
    ended: bool = False
    scores: dict[int, tuple[tuple[int, float | None], ...]] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The mean of all scores so far."""
        scores = [s for run in self.scores.values() for _, s in run]
        return float(np.mean(np.array(scores, dtype=np.float64)))

    @property
    def interactions(self) -> int:
        """Environment steps so far."""
        return sum(run[-1][0] for run in self.scores.values() if run)


@contextmanager
def searching(recipe: Recipe, agents: Sequence[Any], out: Path) -> Iterator[Search]:
    """The search of a study, begun or continued in ``<out>/<study>/tuning``, where nobody else writes meanwhile.

    Args:
        recipe: with a complete ``[tuning]`` table.
        agents: that are tuned.
        out: where study folders go.

    Raises:
        InputError: the folder holds the trials of another search, or another process writes there.
    """
    folder = out / recipe.study.name / "tuning"
    _check_folder(recipe, folder / "recipe.toml")
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        write_atomic(folder / "recipe.toml", recipe.to_toml())
        yield Search(recipe, agents, folder)


def _check_folder(recipe: Recipe, path: Path) -> None:
    """Refuse to mix trials of different studies, seeds, lengths or ranges."""
    if not path.exists():
        return
    before, now = load_recipe(path).tuning, recipe.tuning
    assert before is not None
    assert now is not None
    if before.model_copy(update={"trials": now.trials}) != now:
        why, fix = f"differs from that of the trials in {path.parent}", "give another --out"
        raise InputError("tuning", now.model_dump(exclude_defaults=True), why, fix)
    check_same_study(recipe, path)


class Search:
    """The trials of all agents of a study, kept in a journal file; made by `searching`."""

    def __init__(self, recipe: Recipe, agents: Sequence[Any], folder: Path) -> None:
        assert recipe.tuning is not None
        self.recipe, self.agents, self.tuning = recipe, list(agents), recipe.tuning
        self.folder = folder
        self.seeds = parse_seeds(self.tuning.seeds)
        budget = recipe.budget.model_copy(update={"interactions": self.tuning.interactions})
        self.looks = [look for look in budget.schedule if look > 0]
        self.live: dict[str, Live] = {}
        self._studies = self._open()

    # ------------------------------------------------------------------ the journal

    def _open(self) -> dict[str, optuna.Study]:
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise StudyError(
                "tuning needs optuna, which is not installed; pip install 'hybrid-qrl[tune]'"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal = self.folder / "journal.log"
        _mend(journal)
        storage = JournalStorage(JournalFileBackend(str(journal)))
        studies = {}
        for agent in self.agents:
            study = optuna.create_study(
                storage=storage, study_name=agent.name, direction="maximize", load_if_exists=True
            )
            if not study.trials:
                study.enqueue_trial(self._own(agent))
            study.pruner = self._pruner()
            studies[agent.name] = study
        return studies

    def _own(self, agent: Any) -> dict[str, Any]:
        """The values that the recipe gives, as far as they lie in the search space: the first trial."""
        space = search_space(self.recipe, agent.algorithm)
        values = {path: own_value(agent, path) for path in space}
        return {path: value for path, value in values.items() if _holds(space[path], value)}

    def _pruner(self) -> Any:
        from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

        half = max(1, len(self.looks) // 2)
        if self.tuning.pruner == "median":
            return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=half)
        if self.tuning.pruner == "halving":
            return SuccessiveHalvingPruner(min_resource=half, reduction_factor=3)
        return NopPruner()

    def finished(self, name: str) -> list[Any]:
        """The trials of an agent that ended, in order."""
        return [trial for trial in self._studies[name].trials if trial.state.is_finished()]

    def done(self) -> bool:
        """Whether every agent has had its trials."""
        return not self.live and all(
            len(self.finished(agent.name)) >= self.tuning.trials for agent in self.agents
        )

    # ------------------------------------------------------------------ trials

    def start(self) -> None:
        """Start a trial of the agent that has had fewest of them and has none now."""
        counts = {
            agent.name: len(self.finished(agent.name)) for agent in self.agents if agent.name not in self.live
        }
        waiting = [name for name, count in counts.items() if count < self.tuning.trials]
        if not waiting:
            return
        name = min(waiting, key=counts.__getitem__)
        agent = self.recipe.agent(name)
        trial = self._next_trial(name)
        folder = self.folder / name / f"trial={trial.number}"
        space = search_space(self.recipe, agent.algorithm)
        values = {path: _suggest(trial, path, reach) for path, reach in space.items()}
        reported = set(self._studies[name].get_trials(deepcopy=False)[trial.number].intermediate_values)
        live = Live(with_values(agent, values), trial, folder, reported)
        self.live[name] = live
        self._launch(live)

    def _next_trial(self, name: str) -> optuna.Trial:
        """The trial that was interrupted, else a new one; its sampler is seeded by its number alone."""
        import optuna

        study = self._studies[name]
        running = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.RUNNING]
        number = running[0].number if running else len(self.finished(name))
        seed = np.random.SeedSequence(self.seeds.start, spawn_key=(number,)).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(seed=int(seed))
        return optuna.trial.Trial(study, running[0]._trial_id) if running else study.ask()

    def _launch(self, live: Live) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["qrl.study.preload"])
        live.pipe, other = context.Pipe()
        recipe = trial_recipe(self.recipe, live.agent).to_dict()
        live.process = context.Process(target=run_trial, args=(recipe, live.agent.name, live.folder, other))
        live.started = time.monotonic()
        live.process.start()
        other.close()

    def work(self, timeout: float) -> None:
        """Answer the trials that have something to say, and see to those whose process ended.

        Raises:
            StudyError: a trial met what every other trial would meet too.
        """
        by_pipe = {live.pipe: live for live in self.live.values()}
        for pipe in connection.wait(list(by_pipe), timeout):
            live = by_pipe[pipe]
            try:
                look = live.pipe.recv()
            except (EOFError, OSError):
                self._process_ended(live)
                continue
            self._hear(live, look)

    def _hear(self, live: Live, look: Look) -> None:
        from optuna.trial import TrialState

        live.scores[look.seed_index] = look.scores
        broken = look.status not in (None, "finished") or any(s is None for _, s in look.scores)
        if broken:
            live.trial.set_user_attr("status", look.status or "diverged")
            live.trial.set_user_attr("reason", look.reason or "an evaluation was not finite")
            self._end(live, TrialState.PRUNED)
        elif look.status == "finished" and look.seed_index == len(self.seeds) - 1:
            self._end(live, TrialState.COMPLETE)
        elif self._is_behind(live, look):
            live.trial.set_user_attr("status", "stopped early")
            self._end(live, TrialState.PRUNED)
        _answer(live, not live.ended)

    def _is_behind(self, live: Live, look: Look) -> bool:
        """Report the looks that are new; whether the pruner stops the trial there."""
        values = [s for index in range(look.seed_index) for _, s in live.scores[index]]
        for interactions, value in look.scores:
            values.append(value)
            step = look.seed_index * len(self.looks) + bisect_right(self.looks, interactions)
            if step not in live.reported:
                live.reported.add(step)
                live.trial.report(float(np.mean(np.array(values, dtype=np.float64))), step)
        return bool(live.trial.should_prune())

    def _end(self, live: Live, state: Any) -> None:
        """Record how a trial ended; its checkpoints are of no further use."""
        from optuna.trial import TrialState

        live.ended = True
        self._add_seconds(live)
        live.trial.set_user_attr("interactions", live.interactions)
        value = live.value if state == TrialState.COMPLETE else None
        live.trial.study.tell(live.trial, value, state=state)
        self.record()

    def _add_seconds(self, live: Live) -> None:
        before = live.trial.user_attrs.get("seconds", 0.0)
        live.trial.set_user_attr("seconds", before + time.monotonic() - live.started)

    def _process_ended(self, live: Live) -> None:
        from optuna.trial import TrialState

        live.pipe.close()
        live.process.join()
        code = live.process.exitcode or 0
        if live.ended or code == 0:
            del self.live[live.agent.name]
            for checkpoints in live.folder.glob("*/checkpoints"):
                shutil.rmtree(checkpoints)
            return
        self._add_seconds(live)
        if code > 128:
            raise Stopped(code - 128)
        if code == FATAL:
            raise StudyError(f"{live.folder} could not go on; its message stands above")
        live.crashes += 1
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if live.crashes < MAX_CRASHES:
            print(f"warning: the process of {live.folder} died ({how}); continuing", file=sys.stderr)
            self._launch(live)
            return
        live.started = time.monotonic()
        live.trial.set_user_attr("status", "failed")
        live.trial.set_user_attr("reason", f"its process died {live.crashes} times ({how})")
        self._end(live, TrialState.FAIL)
        del self.live[live.agent.name]

    def stop(self) -> None:
        """Let the live trials write their checkpoints and leave."""
        for live in self.live.values():
            live.pipe.close()  # one that waits for an answer must not wait for ever
            live.process.terminate()
        for live in self.live.values():
            live.process.join()
            if not live.ended:
                self._add_seconds(live)

    # ------------------------------------------------------------------ the record

    def best(self, name: str) -> Any:
        """The finished trial of an agent with the highest value, the earliest of equal ones; None without one."""
        from optuna.trial import TrialState

        complete = [trial for trial in self.finished(name) if trial.state == TrialState.COMPLETE]
        return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)

    def record(self) -> Path:
        """Write ``tuning.json``: every trial of every agent."""
        budget = self.tuning
        data = {
            "study": self.recipe.study.name,
            "value": f"{label(self.recipe.measure)} averaged over training, mean over seeds",
            "trials": budget.trials,
            "seeds": budget.seeds,
            "interactions": budget.interactions,
            "pruner": budget.pruner,
            "ranges": {
                algorithm: {
                    path: reach.model_dump(exclude_defaults=True)
                    for path, reach in search_space(self.recipe, algorithm).items()
                }
                for algorithm in dict.fromkeys(agent.algorithm for agent in self.agents)
            },
            "agents": {agent.name: self._record_of(agent.name) for agent in self.agents},
        }
        path = self.folder / "tuning.json"
        write_atomic(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
        return path

    def _record_of(self, name: str) -> dict[str, Any]:
        best = self.best(name)
        return {
            "best": None if best is None else best.number,
            "trials": [
                {
                    "trial": trial.number,
                    "state": trial.user_attrs.get("status", trial.state.name.lower()),
                    "value": trial.value,
                    "hyperparameters": trial.params,
                    "interactions": trial.user_attrs.get("interactions"),
                    "seconds": round(trial.user_attrs.get("seconds", 0.0), 3),
                    **({"reason": trial.user_attrs["reason"]} if "reason" in trial.user_attrs else {}),
                }
                for trial in self.finished(name)
            ],
        }

    def tuned(self) -> Recipe:
        """The study with the best values that were found, under the name ``<study>-tuned``.

        Raises:
            StudyError: no trial of an agent finished.
        """
        chosen: dict[str, Any] = {}
        for agent in self.agents:
            best = self.best(agent.name)
            if best is None:
                raise StudyError(f"no trial of {agent.name} finished; see {self.folder / 'tuning.json'}")
            chosen[agent.name] = with_values(agent, best.params)
        data = self.recipe.to_dict()
        data["study"]["name"] += "-tuned"
        data["agents"] = [
            agent.model_dump(mode="json", by_alias=True, exclude_none=True)
            for agent in (chosen.get(own.name) or own for own in self.recipe.agents)
        ]
        return make_recipe(data)

    def table(self) -> Table:
        """How far the trials are, and what was found."""
        from rich.table import Table

        table = Table(
            title=f"{self.tuning.trials} trials an agent, {len(self.seeds)} seeds each", title_justify="left"
        )
        for column in ("agent", "trials", "stopped early", f"best {label(self.recipe.measure)}", "now"):
            table.add_column(column)
        for agent in self.agents:
            ended, best = self.finished(agent.name), self.best(agent.name)
            live = self.live.get(agent.name)
            now = "" if live is None else f"trial {live.trial.number}: {live.interactions:,} steps"
            stopped = sum(trial.user_attrs.get("status") == "stopped early" for trial in ended)
            table.add_row(
                agent.name,
                f"{len(ended)}/{self.tuning.trials}",
                str(stopped),
                "" if best is None else f"{best.value:.4g}",
                now,
            )
        return table


class Stopped(BaseException):
    """A signal reached a trial; the same command continues."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(f"stopped by {signal.Signals(signum).name}; the same command continues")


def tune(search: Search, workers: int, tick: Callable[[int], None] | None = None) -> int:
    """Run all trials that are missing; returns the number of the signal that stopped it, else 0.

    Args:
        search: entered.
        workers: trials at a time, of different agents.
        tick: called a few times a second with the number of live trials.
    """
    try:
        while not search.done():
            while len(search.live) < workers:
                before = len(search.live)
                search.start()
                if len(search.live) == before:
                    break
            search.work(0.25)
            if tick is not None:
                tick(len(search.live))
    except Stopped as stop:
        search.stop()
        return stop.signum
    except BaseException:
        search.stop()
        raise
    search.record()
    return 0


def write_tuned(search: Search, source: Path) -> Path:
    """Write ``tuned.toml`` beside the trials: the study with the best values, as an extension of the recipe's file.

    Raises:
        StudyError: no trial of an agent finished.
    """
    path = search.folder / "tuned.toml"
    note = f"# the best of {search.tuning.trials} trials an agent; all of them stand in tuning.json\n"
    write_atomic(path, note + extension(search.tuned(), source, path.parent))
    return path


def _answer(live: Live, go_on: bool) -> None:
    with suppress(OSError):  # it died; its end is seen at the pipe
        live.pipe.send(go_on)


def _suggest(trial: optuna.Trial, path: str, reach: Range) -> Any:
    if reach.choices is not None:
        return trial.suggest_categorical(path, reach.choices)
    if isinstance(reach.low, int) and isinstance(reach.high, int):
        return trial.suggest_int(path, reach.low, reach.high, log=reach.log)
    assert reach.low is not None
    assert reach.high is not None
    return trial.suggest_float(path, reach.low, reach.high, log=reach.log)


def _holds(reach: Range, value: Any) -> bool:
    if reach.choices is not None:
        return value in reach.choices
    assert reach.low is not None
    assert reach.high is not None
    return isinstance(value, int | float) and math.isfinite(value) and reach.low <= value <= reach.high


def _mend(journal: Path) -> None:
    """Cut off a line that a crash left torn, on which nothing was built, and a lock that it left behind."""
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    data = journal.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with journal.open("r+b") as file:
            file.truncate(whole)
