"""The ``qrl`` command."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from qrl.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from qrl.study.recipe import Recipe

EXIT_USAGE, EXIT_DATA, EXIT_BUDGET = 2, 3, 5


@dataclass(frozen=True)
class Run:
    """Train the agents of a recipe and report, or continue what was interrupted."""

    recipe: tyro.conf.Positional[Path]
    """The recipe, a TOML file."""
    agents: str | None = None
    """Comma-separated names; all agents by default."""
    seeds: str | None = None
    """Half-open range a:b, in place of the recipe's."""
    out: Path = Path("runs")
    """Where study folders go."""
    workers: int | None = None
    """Runs at a time; the number of processors by default."""
    executor: Literal["local"] = "local"
    """Where runs are executed."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """PATH=VALUE, overrides one entry of the recipe; repeatable."""

    def __call__(self) -> int:
        """Run it; the exit code."""
        from qrl.study.check import select_agents
        from qrl.study.recipe import load_recipe

        recipe = load_recipe(self.recipe, self.set, self.seeds)
        agents = select_agents(recipe, self.agents)
        folder, runs, stopped = _train(recipe, agents, self.recipe.parent, self.out, self.workers)
        if stopped:
            return stopped
        code = _report([folder])
        return _say_failures(runs) or code


@dataclass(frozen=True)
class Tune:
    """Search the hyperparameters of every agent alike, or continue; write the trials and the tuned recipe."""

    recipe: tyro.conf.Positional[Path]
    """The recipe, a TOML file."""
    trials: int | None = None
    """Trials an agent; the recipe's, or 20."""
    agents: str | None = None
    """Comma-separated names; all agents that learn by default."""
    steps: int | None = None
    """Environment steps of each run of a trial; the study's budget by default."""
    out: Path = Path("runs")
    """Where study folders go."""
    workers: int | None = None
    """Trials at a time, of different agents; the number of processors by default."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """PATH=VALUE, overrides one entry of the recipe; repeatable."""

    def __call__(self) -> int:
        """Tune; the exit code."""
        from qrl.study.check import check_recipe, select_agents
        from qrl.study.progress import LiveView
        from qrl.study.recipe import load_recipe
        from qrl.study.tuning import searching, tunable, tune, tuning_of, write_tuned

        workers = _workers(self.workers)
        recipe = tuning_of(load_recipe(self.recipe, self.set), self.trials, self.steps)
        agents = tunable(recipe, select_agents(recipe, self.agents))
        check_recipe(recipe, [agent.name for agent in agents])
        with searching(recipe, agents, self.out) as search:
            with LiveView(search, _console(stderr=True)) as view:
                stopped = tune(search, workers, view)
            if stopped:
                return _say_stopped(stopped)
            tuned = write_tuned(search, self.recipe)
            console = _console()
            console.print(search.table())
        console.print(f"trials: {os.path.relpath(tuned.with_name('tuning.json'))}", soft_wrap=True)
        console.print(f"next: qrl run {os.path.relpath(tuned)}", soft_wrap=True)
        return 0


@dataclass(frozen=True)
class Explain:
    """Train hybrid agents with all their baselines, or continue, and say which prior accounts for their result."""

    recipe: tyro.conf.Positional[Path]
    """The recipe, a TOML file; without a line ``baselines`` it gets all that apply."""
    agents: str | None = None
    """Comma-separated names of the hybrid agents to explain; all by default."""
    seeds: str | None = None
    """Half-open range a:b, in place of the recipe's."""
    out: Path = Path("runs")
    """Where study folders go."""
    workers: int | None = None
    """Runs at a time; the number of processors by default."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """PATH=VALUE, overrides one entry of the recipe; repeatable."""

    def __call__(self) -> int:
        """Explain; the exit code."""
        from rich.text import Text

        from qrl.study.comparison import compare
        from qrl.study.explanation import explain, explanation_grid, with_families, write_explanation
        from qrl.study.recipe import load_recipe
        from qrl.study.table import print_noted

        recipe, agents = with_families(load_recipe(self.recipe, self.set, self.seeds), self.agents)
        folder, runs, stopped = _train(recipe, agents, self.recipe.parent, self.out, self.workers)
        if stopped:
            return stopped
        code = _report([folder])
        result = compare(folder)
        explanations = explain(result)
        console = _console()
        for explanation in explanations:
            console.print()
            print_noted(explanation_grid(explanation), console)
            console.print(Text(explanation.headline, style="bold"))
            console.print(Text(explanation.accounts))
            for finding in explanation.findings:
                console.print(Text(f"- {finding}"))
        path = write_explanation(result, explanations)
        console.print(f"explanation: {os.path.relpath(path)}", soft_wrap=True)
        return _say_failures(runs) or code


@dataclass(frozen=True)
class Report:
    """Print the table of studies and write their report pages."""

    dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs, agents, studies or roots."""

    def __call__(self) -> int:
        """Report; the exit code."""
        if not self.dirs:
            raise InputError("DIR", "nothing", "is given", "name a run, an agent, a study or a root folder")
        return _report(list(self.dirs))


@dataclass(frozen=True)
class Pack:
    """Keep what came of a study's finished runs in one file: enough to report from, and to go on with elsewhere."""

    dir: tyro.conf.Positional[Path]
    """The study's folder."""
    file: tyro.conf.Positional[Path]
    """The file to write; one that is there is replaced."""
    agents: str | None = None
    """Comma-separated names; all agents by default."""
    seeds: str | None = None
    """Half-open range a:b; all seeds by default."""

    def __call__(self) -> int:
        """Pack; the exit code."""
        from qrl.study.parts import pack
        from qrl.study.recipe import parse_seeds

        seeds = None if self.seeds is None else parse_seeds(self.seeds)
        agents = None if self.agents is None else self.agents.split(",")
        print(f"{pack(self.dir, self.file, seeds, agents)} runs written to {self.file}")
        return 0


@dataclass(frozen=True)
class Unpack:
    """Lay the runs of packed parts into their study's folder; a run that is there stays as it is."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """The parts of one study."""
    out: Path = Path("runs")
    """Where study folders go."""

    def __call__(self) -> int:
        """Unpack; the exit code."""
        from qrl.study.parts import unpack

        folder, added = unpack(self.files, self.out)
        print(f"{added} runs added to {os.path.relpath(folder)}")
        return 0


@dataclass(frozen=True)
class Evaluate:
    """Evaluate trained agents with their circuits on another backend; nothing that costs money is asked."""

    dir: tyro.conf.Positional[Path]
    """A run, an agent, a study or a root; of finished runs the last checkpoint."""
    backend: str
    """What runs the circuits, such as native, aer:fake_torino or primitive."""
    shots: int | None = None
    """Shots a measurement setting; exact values by default."""
    acting: Literal["greedy", "one-shot", "sampled", "adaptive"] = "greedy"
    """greedy; one-shot: a Born policy's action is the bit string of one shot; sampled; adaptive: shots by its rule."""
    episodes: int = 100
    """Episodes, side by side."""
    steps: int | None = None
    """Steps after which episodes are cut; played to their end by default."""
    seed: int = 0
    """Of start states and shots; 0 has the start states of the evaluations in training."""

    def __call__(self) -> int:
        """Evaluate; the exit code."""
        from circuits.backends import get_backend
        from qrl.hardware.acting import Setting, trained_runs
        from qrl.hardware.evaluation import RECORDS, append, evaluate, record
        from qrl.hardware.paying import refuse_paying

        setting = Setting(self.backend, self.shots, self.acting, self.episodes, self.seed, self.steps)
        backend = get_backend(self.backend)
        refuse_paying(backend)
        found, left = trained_runs(self.dir)
        for trained in found:
            trained.check(setting, backend)
        lines = []
        for trained in found:
            with _watching(trained.name) as watch:
                lines.append(record(evaluate(trained, setting, backend, watch)))
            append(trained.run, lines[-1])
        _print_evaluations(lines)
        _say_left_out(left)
        print(f"records: {RECORDS} in the folder of each run")
        return 0


@dataclass(frozen=True)
class Ladder:
    """Evaluate the same weights noiseless, with shots, under a device's noise and on the device; table, JSON and page.

    On a device that costs money it needs --budget-seconds, and may be run again to go on.
    """

    dir: tyro.conf.Positional[Path]
    """A run, an agent, a study or a root; of finished runs the last checkpoint."""
    device: str
    """The last rung, such as aer:fake_torino (simulated) or ibm:ibm_torino."""
    shots: int | None = None
    """Shots a measurement setting; 1,024, or 1 with one-shot acting, by default."""
    acting: Literal["greedy", "one-shot"] = "greedy"
    """greedy; one-shot: a Born policy's action is the bit string of one shot."""
    episodes: int = 100
    """Episodes, side by side."""
    steps: int | None = None
    """Steps after which episodes are cut; played to their end by default."""
    states: int = 1000
    """States at which actions are compared, at most."""
    seed: int = 0
    """Of start states and shots; 0 has the start states of the evaluations in training."""
    budget_seconds: str | None = None
    """Seconds on the processor that the device may cost in all, a run."""
    journal: Path | None = None
    """The account's journal of paid work, as for qrl submit."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """PATH=VALUE, such as ibm.mode=batch or waits.grace=60; repeatable."""

    def __call__(self) -> int:
        """Climb; the exit code."""
        import json

        from circuits.gates import integer
        from qrl.hardware.acting import Setting, trained_runs
        from qrl.hardware.ladder import climb, curve_grid, rung_grid, sentence
        from qrl.hardware.ladder_page import ladder_page
        from qrl.hardware.paying import budget_of, costs_money, journal_path, refuse_paying
        from qrl.hardware.settings import load_settings, named_backend
        from qrl.hardware.submissions import paid_rung
        from qrl.study.checkpoint import write_atomic

        integer("states", self.states, 1)
        budget = budget_of(self.budget_seconds, None, None, None)
        shots = 1024 if self.shots is None and self.acting == "greedy" else self.shots
        setting = Setting(self.device, shots, self.acting, self.episodes, self.seed, self.steps)
        settings = load_settings(self.set)
        device, paid = named_backend(self.device, settings), None
        if budget is None:
            refuse_paying(device)
        elif costs_money(device):
            paid = paid_rung(settings, budget, journal_path(self.journal), self.states, _watching)
        found, left = trained_runs(self.dir)
        for trained in found:
            trained.check(setting, device)
        console = _console()
        for trained in found:
            ladder = climb(trained, setting, _watching, paid, self.states)
            _print_noted(rung_grid(ladder))
            _print_noted(curve_grid(ladder))
            for line in ladder.missing:
                print(f"missing: {line}")
            print(sentence(ladder))
            folder = trained.run.directory
            write_atomic(
                folder / "ladder.json", json.dumps(ladder.to_dict(), indent=1, allow_nan=False) + "\n"
            )
            write_atomic(folder / "ladder.html", ladder_page(ladder))
            console.print(f"ladder: {os.path.relpath(folder / 'ladder.html')}", soft_wrap=True)
        _say_left_out(left)
        return 0


@dataclass(frozen=True)
class Submit:
    """Evaluate trained agents on a machine that costs money, or say what that would cost.

    Without --budget-seconds or --dry-run it stops before anything else.
    """

    dir: tyro.conf.Positional[Path]
    """A run, an agent, a study or a root; of finished runs the last checkpoint."""
    backend: str
    """Where the circuits run, such as ibm:ibm_torino; a simulated backend shows the same plan."""
    dry_run: bool = False
    """Print circuits, shots, jobs, seconds, dollars and joules; nothing is sent and no connection is opened."""
    budget_seconds: str | None = None
    """Seconds on the processor that this submission may cost in all, over every time it is run."""
    budget_money: str | None = None
    """Money that it may cost in all; needs --price."""
    price: str | None = None
    """Money for a second on the processor; in the estimate US dollars at the list price by default."""
    max_jobs: int | None = None
    """Jobs that it may take in all."""
    repeat_failed: bool = False
    """Pay once more for a job that failed and was charged, such as one that was cancelled."""
    shots: int | None = None
    """Shots a measurement setting."""
    acting: Literal["greedy", "one-shot", "sampled", "adaptive"] = "greedy"
    """greedy; one-shot: a Born policy's action is the bit string of one shot; sampled; adaptive: shots by its rule."""
    episodes: int = 100
    """Episodes, side by side; each step of all of them is one job."""
    steps: int | None = None
    """Steps after which episodes are cut; played to their end by default."""
    seed: int = 0
    """Of start states and shots; another seed is another evaluation, which is paid anew."""
    journal: Path | None = None
    """The account's journal of paid work; QRL_JOURNAL, or journal.sqlite in the user's state folder, by default."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """PATH=VALUE, such as ibm.mode=batch or waits.grace=60; repeatable."""

    def __call__(self) -> int:
        """Submit or plan; the exit code."""
        from qrl.hardware.paying import budget_of, price_of, spend_only_on_purpose

        spend_only_on_purpose(self.dry_run, self.budget_seconds)
        price = price_of(self.price)
        budget = budget_of(self.budget_seconds, self.budget_money, price, self.max_jobs)

        from qrl.hardware.acting import Setting, trained_runs
        from qrl.hardware.paying import costs_money, journal_path
        from qrl.hardware.planning import Price, plan, plan_grid
        from qrl.hardware.settings import load_settings, named_backend
        from qrl.hardware.submissions import check_account, check_fits, prepare

        setting = Setting(self.backend, self.shots, self.acting, self.episodes, self.seed, self.steps)
        settings = load_settings(self.set).acting(self.acting, self.backend)
        backend = named_backend(self.backend, settings)
        found, left = trained_runs(self.dir)
        plans = [plan(trained, setting, backend) for trained in found]
        for _, group in groupby(plans, lambda each: each.trained.run.study):
            _print_noted(plan_grid(list(group), Price.listed(price)))
        _say_left_out(left)
        if budget is None:
            print("dry run: nothing was sent and no connection was opened")
            return 0
        submission = prepare(plans, setting, settings, budget, journal_path(self.journal), self.repeat_failed)
        check_fits(submission)
        if not costs_money(backend):
            print(f"{backend.name} costs nothing; this is a rehearsal")
            return Evaluate(
                self.dir, self.backend, self.shots, self.acting, self.episodes, self.steps, self.seed
            )()
        if submission.open:
            check_account(submission)
        submission.write()
        print(f"submission: {submission.project}", flush=True)
        return _carry_out([submission])


@dataclass(frozen=True)
class Jobs:
    """List paid jobs, finish the submissions that are not, or cancel a job."""

    verb: tyro.conf.Positional[Literal["list", "collect", "cancel"]] = "list"
    """list [DIR]; collect [DIR]: fetch what runs and go on within each submission's budget; cancel TAG or NAME."""
    what: tyro.conf.Positional[str | None] = None
    """A run, an agent, a study or a root, all submissions by default; or the tag of a job, or a submission's name."""
    journal: Path | None = None
    """The account's journal; QRL_JOURNAL, or journal.sqlite in the user's state folder, by default."""

    def __call__(self) -> int:
        """List, collect or cancel; the exit code."""
        from qrl.hardware.jobs import job_table, submission_lines
        from qrl.hardware.paying import journal_path
        from qrl.hardware.submissions import all_submissions, cancel

        path = journal_path(self.journal)
        if self.verb == "cancel":
            if self.what is None:
                raise InputError(
                    "TAG", "nothing", "is given", "write qrl jobs cancel TAG; qrl jobs lists them"
                )
            for line in cancel(path, self.what):
                print(line)
            return 0
        submissions = all_submissions(path, None if self.what is None else Path(self.what))
        if self.verb == "collect":
            unfinished = [submission for submission in submissions if submission.open]
            if not unfinished:
                print("nothing to collect: every submission has its results")
                return 0
            return _carry_out(unfinished)
        table, note = job_table(path, submissions, self.what is None)
        if table is None:
            print(f"no jobs in {path}")
        else:
            _console().print(table)
            print(note)
        for line in submission_lines(submissions):
            print(line)
        return 0


@dataclass(frozen=True)
class Plan:
    """Say how many seeds a difference needs, simulated on the runs of a study that is there."""

    dir: tyro.conf.Positional[Path]
    """The study's folder."""
    ratio: float | None = None
    """Ratio of costs to look for, above 1: second agent over first; 1.5 by default."""
    difference: float | None = None
    """Instead: difference of scores to look for, above 0."""
    axis: str | None = None
    """Cost (interactions, seconds, joules, ...) or score (final_return, mean_return) that is compared."""
    power: float = 0.8
    """Probability with which the difference is to be seen."""

    def __call__(self) -> int:
        """Plan; the exit code."""
        from qrl.study.comparison import compare
        from qrl.study.planner import SCORE_AXES, plan_grid, plan_study
        from qrl.study.table import print_grid

        if self.ratio is not None and self.difference is not None:
            raise InputError("--difference", self.difference, "stands beside a ratio", "give one of the two")
        axis = self.axis or ("interactions" if self.difference is None else "final_return")
        if (axis in SCORE_AXES) != (self.difference is not None):
            fix = "give --difference with a score and --ratio with a cost"
            raise InputError("--axis", axis, "does not go with that effect", fix)
        effect = self.difference if self.difference is not None else (self.ratio or 1.5)
        result, console = compare(self.dir), _console()
        plans, reasons = plan_study(result, axis=axis, effect=effect, power=self.power)
        grid = plan_grid(result, plans, self.power)
        print_grid(grid, console)
        console.print(grid.note, style="dim", markup=False)
        for reason in reasons:
            print(f"warning: {reason}", file=sys.stderr)
        return 0


@dataclass(frozen=True)
class Claim:
    """Hash a claim before a study runs, or check it against the study afterwards."""

    verb: tyro.conf.Positional[Literal["hash", "check"]]
    """``hash FILE`` or ``check FILE DIR``."""
    file: tyro.conf.Positional[Path]
    """The claim, a TOML file; beside the recipe and named claim*.toml, the study takes it along."""
    dir: tyro.conf.Positional[Path | None] = None
    """The study's folder, to check."""

    def __call__(self) -> int:
        """Hash or check; the exit code."""
        from qrl.study.claims import hash_claim, hash_file, judge_claim
        from qrl.study.comparison import compare

        if (self.verb == "check") != (self.dir is not None):
            fix = "write: qrl claim check FILE DIR, or qrl claim hash FILE"
            raise InputError("DIR", str(self.dir), f"does not go with {self.verb}", fix)
        if self.dir is None:
            print(f"{hash_claim(self.file)}  written to {os.path.relpath(hash_file(self.file))}")
            return 0
        judgement = judge_claim(self.file, compare(self.dir))
        print(f"{judgement.verdict}: {judgement.claim.hypothesis}")
        for line in (*judgement.lines, judgement.seal):
            print(f"  {line}")
        return 0


@dataclass(frozen=True)
class Watch:
    """Follow a study that is running, from this or another terminal."""

    dir: tyro.conf.Positional[Path]
    """The study's folder."""

    def __call__(self) -> int:
        """Watch until all runs are finished; the exit code."""
        import time

        from qrl.study.executors import plan
        from qrl.study.progress import LiveView, Progress
        from qrl.study.recipe import load_recipe

        recipe = load_recipe(self.dir / "recipe.toml")
        tasks = plan(recipe, [agent.name for agent in recipe.agents], self.dir.parent)
        progress = Progress(tasks, recipe.budget.interactions, recipe.measure)
        console = _console(stderr=False)
        with LiveView(progress, console) as view:
            while console.is_terminal and not all((task.folder / "DONE.json").exists() for task in tasks):
                view()
                time.sleep(0.5)
        console.print(progress.table())
        return 0


@dataclass(frozen=True)
class Envs:
    """List the environments of this library, or describe one."""

    id: tyro.conf.Positional[str | None] = None
    """Print this environment's specification."""

    def __call__(self) -> int:
        """List; the exit code."""
        import inspect

        import gymnasium as gym
        from rich.table import Table

        from qrl.agents.training_env import unknown_environment

        ours = sorted(name for name in gym.registry if name.startswith("qrl/"))
        if self.id is not None:
            if self.id not in gym.registry:
                raise unknown_environment(self.id)
            print(inspect.getdoc(gym.make(self.id).unwrapped))
            return 0
        table = Table("environment", "observation", "action", "what it is")
        for name in ours:
            env = gym.make(name)
            doc = (inspect.getdoc(type(env.unwrapped)) or "").splitlines()[0]
            table.add_row(name, str(env.observation_space.shape), _space(env.action_space), doc)
            env.close()
        _console().print(table)
        print("and any Gymnasium environment with a Box or Discrete observation, e.g. CartPole-v1")
        return 0


@dataclass(frozen=True)
class Circuits:
    """List the ansatz families and backends."""

    def __call__(self) -> int:
        """List; the exit code."""
        import inspect

        from rich.table import Table

        from circuits.ansatz import ANSATZ
        from circuits.backends import BACKENDS

        table = Table("ansatz", "parameters at 4 qubits, 5 layers", "what it is")
        for name, build in ANSATZ.items():
            circuit = build(n_qubits=4, n_layers=5)
            groups = ", ".join(f"{group} {size}" for group, size in circuit.groups)
            table.add_row(name, groups, (inspect.getdoc(build) or "").splitlines()[0])
        _console().print(table)
        print("backends: " + ", ".join(BACKENDS))
        print(ANSATZ["reuploading"](n_qubits=4, n_layers=1).draw("text"))
        return 0


@dataclass(frozen=True)
class Doctor:
    """Say what works here: circuit engine, precision, meters, browser, versions. Exit code 0 in any case."""

    def __call__(self) -> int:
        """Examine; the exit code."""
        from rich.markup import escape

        from qrl.doctor import examine

        table = _two_columns()
        for what, finding in examine():
            table.add_row(what, escape(finding))
        _console().print(table)
        return 0


def _print_noted(grid: Any) -> None:
    from qrl.study.table import print_noted

    print_noted(grid, _console())


def _print_evaluations(lines: list[dict[str, Any]]) -> None:
    from qrl.hardware.evaluation import record_grid

    for _, group in groupby(lines, lambda line: line["run"].partition("/")[0]):
        _print_noted(record_grid(list(group)))


def _carry_out(submissions: list[Any]) -> int:
    """Carry submissions out one after the other; what one of them cannot does not hold up the others."""
    from circuits.journal import Journal, OverBudget
    from qrl.hardware.evaluation import RECORDS
    from qrl.hardware.submissions import carry_out

    code = 0
    for submission in submissions:
        try:
            lines = carry_out(submission, _watching, lambda text: print(text, file=sys.stderr))
        except KeyboardInterrupt:
            print(
                f"stopped by SIGINT; a job that runs goes on and is paid: qrl jobs collect fetches it and goes on with"
                f" {submission.project}, qrl jobs lists it",
                file=sys.stderr,
            )
            return 130
        except (OverBudget, RuntimeError, OSError) as error:
            print(f"error: {submission.project}: {' '.join(str(error).split())}", file=sys.stderr)
            code = EXIT_BUDGET if isinstance(error, OverBudget) else EXIT_DATA
            continue
        _print_evaluations(lines)
        charged = Journal(submission.journal).spent(submission.project)
        print(
            f"charged: {charged:g} s of the {submission.budget.seconds:g} s that {submission.project} may cost"
        )
        print(f"records: {RECORDS} in the folder of each run")
    return code


def _say_left_out(reasons: list[str]) -> None:
    for reason in reasons:
        print(f"left out: {reason}", file=sys.stderr)


@contextmanager
def _watching(name: str) -> Iterator[Any]:
    """On a terminal a line that says at which step an evaluation is and how many of its episodes still run."""
    if not sys.stderr.isatty():
        yield None
        return
    step = 0
    with _console(stderr=True).status(name) as status:

        def watch(observations: Any, running: Any) -> None:
            nonlocal step
            step += 1
            status.update(f"{name}: step {step}, {len(running)} episodes")

        yield watch


def _train(
    recipe: Recipe, agents: list[str], source: Path, out: Path, workers: int | None
) -> tuple[Path, list[Path], int]:
    """Run what is missing of a study from the folder `source`.

    Returns the study's folder, those of its runs, and the exit code if a signal stopped it, else 0.
    """
    from qrl.study.check import check_recipe
    from qrl.study.claims import take_claims
    from qrl.study.executors import check_study_folder, execute, plan, write_study
    from qrl.study.progress import LiveView, Progress

    n_workers = _workers(workers)
    check_study_folder(recipe, out)
    check_recipe(recipe, agents)
    tasks = plan(recipe, agents, out)
    folder = write_study(recipe, out)
    for name in take_claims(source, folder):
        fix = f"qrl claim hash {source / name}"
        print(f"warning: {name} is not hashed and left out; before the study runs: {fix}", file=sys.stderr)
    progress = Progress(tasks, recipe.budget.interactions, recipe.measure)
    with LiveView(progress, _console(stderr=True)) as view:
        stopped = execute(recipe, tasks, n_workers, view)
    return folder, [task.folder for task in tasks], _say_stopped(stopped) if stopped else 0


def _workers(given: int | None) -> int:
    """How many at a time."""
    from qrl.ledger.header import available_cpus

    workers = available_cpus() if given is None else given
    if workers < 1:
        raise InputError("--workers", workers, "is below 1", "use an integer >= 1")
    return workers


def _say_stopped(signum: int) -> int:
    print(f"stopped by {signal.Signals(signum).name}; the same command continues", file=sys.stderr)
    return 128 + signum


def _two_columns() -> Any:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def _space(space: Any) -> str:
    return f"Discrete({space.n})" if hasattr(space, "n") else f"Box{space.shape}"


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    # A pipe has no width of its own; without one rich would squeeze tables to 80 columns.
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 140, highlight=False)


def _say_failures(folders: list[Path]) -> int:
    """One line about runs that failed; a study in which every run failed is no result and exits with 3."""
    import json

    done = [json.loads((folder / "DONE.json").read_text()) for folder in folders]
    failed = [
        (folder, result)
        for folder, result in zip(folders, done, strict=True)
        if result["status"] != "finished"
    ]
    if not failed:
        return 0
    folder, result = failed[0]
    print(
        f"warning: {len(failed)} of {len(done)} runs {result['status']}, the first in {os.path.relpath(folder)}: "
        + " ".join(str(result["reason"]).split())
        + " (kept as failures; delete a run's folder to try it again)",
        file=sys.stderr,
    )
    return EXIT_DATA if len(failed) == len(done) else 0


def _report(paths: list[Path]) -> int:
    from qrl.study.comparison import compare
    from qrl.study.report import write_report
    from qrl.study.results import find_studies
    from qrl.study.table import print_table

    console = _console()
    studies = list(dict.fromkeys(study for path in paths for study in find_studies(path)))
    results = {study: compare(study) for study in studies}
    for result in results.values():
        print_table(result, console)
    for path in write_report(paths, results):
        console.print(f"report: {os.path.relpath(path)}", soft_wrap=True)
    return 0


COMMANDS: dict[str, Any] = {
    "run": Run,
    "tune": Tune,
    "explain": Explain,
    "report": Report,
    "pack": Pack,
    "unpack": Unpack,
    "evaluate": Evaluate,
    "ladder": Ladder,
    "submit": Submit,
    "jobs": Jobs,
    "plan": Plan,
    "claim": Claim,
    "watch": Watch,
    "envs": Envs,
    "circuits": Circuits,
    "doctor": Doctor,
}


def _on_sigterm(signum: int, frame: Any) -> None:
    raise SystemExit(128 + signum)


def main(arguments: list[str] | None = None) -> int:
    """Entry point: parse, run, and turn every expected error into one line and an exit code."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="qrl", description=__doc__, args=arguments, config=(tyro.conf.OmitSubcommandPrefixes,)
    )
    try:
        return command()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped by SIGINT; the same command continues", file=sys.stderr)
        return 130
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        if os.environ.get("QRL_TRACEBACK"):
            raise
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        if type(error).__name__ == "OverBudget":  # by name: only a command that may spend imports it
            return EXIT_BUDGET
        return EXIT_USAGE if isinstance(error, ValueError | TypeError) else EXIT_DATA


if __name__ == "__main__":
    sys.exit(main())
