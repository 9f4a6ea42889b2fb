"""Run directories from a small seeded simulation of learning, in the format that real runs write."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RANDOM_RETURN, BEST_RETURN = -380.0, -85.0


@dataclass
class Agent:
    """How a simulated agent learns: logistic in interactions, with a cost a step by phase (seconds)."""

    name: str
    network: dict[str, Any] | None
    learning_point: float = 1_800.0
    spread: float = 0.25
    ceiling: float = BEST_RETURN
    seconds: dict[str, float] = field(
        default_factory=lambda: {"environment": 2e-5, "act": 1e-4, "learn": 5e-4}
    )
    executions: int = 0
    hardware_executions: int = 0
    failing_seeds: tuple[int, ...] = ()
    unfinished_seeds: tuple[int, ...] = ()
    n_parameters: int | None = None


QUANTUM = {
    "kind": "quantum",
    "ansatz": "reuploading",
    "n_qubits": 4,
    "n_layers": 5,
    "n_features": 1,
    "observables": ["ZZII", "IIZZ"],
    "head": {"kind": "affine", "init": 100.0, "shift": -100.0},
}


def standard_agents() -> list[Agent]:
    """Hybrid, twin, plain MLP and random agent: the hybrid learns in fewer steps that cost more."""
    quantum = {"environment": 2e-5, "act": 2e-4, "learn": 7e-4, "quantum": 6e-3}
    return [
        Agent("hybrid", dict(QUANTUM), 1_300.0, seconds=quantum, executions=65, hardware_executions=12_000),
        Agent("twin", {"kind": "matched_mlp", "match": "hybrid"}, 2_300.0, 0.3),
        Agent("mlp", {"kind": "mlp", "hidden": [64, 64]}, 1_500.0),
        Agent("random", None, math.inf, seconds={"environment": 2e-5, "act": 1e-5}),
    ]


def write_study(
    root: Path,
    *,
    name: str = "beam-steering",
    agents: list[Agent] | None = None,
    seeds: range = range(10),
    budget: int = 5_000,
    evaluations: int = 10,
    threshold: float | None = -100.0,
    from_start: bool = False,
) -> Path:
    """Write `root/name/<agent>/seed=<n>/` for every agent and seed and return the study folder."""
    chosen = standard_agents() if agents is None else agents
    recipe = _recipe(name, chosen, seeds, budget, evaluations, threshold)
    for agent in chosen:
        for seed in seeds:
            directory = root / name / agent.name / f"seed={seed}"
            directory.mkdir(parents=True)
            (directory / "recipe.toml").write_text(recipe, encoding="utf-8")
            _write_run(directory, name, agent, seed, budget, evaluations, threshold, from_start)
    return root / name


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Write records as JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _write_run(
    directory: Path,
    study: str,
    agent: Agent,
    seed: int,
    budget: int,
    evaluations: int,
    threshold: float | None,
    from_start: bool,
) -> None:
    rng = np.random.default_rng([seed, *agent.name.encode()])
    point = agent.learning_point * math.exp(agent.spread * rng.standard_normal())
    dear = math.exp(0.08 * rng.standard_normal())
    looks = [0] * from_start + [math.ceil(budget * k / evaluations) for k in range(1, evaluations + 1)]
    if seed in agent.failing_seeds or seed in agent.unfinished_seeds:
        looks = looks[: evaluations // 3]
    evaluation_records, ledger, episodes = [], [_header()], []
    start, passed = 0, False
    for k, look in enumerate(looks):
        level = _level(agent, point, look)
        returns = level + 12.0 * rng.standard_normal(20)
        mean = float(returns.mean())
        confirmation = None
        if threshold is not None and not passed and mean >= threshold:
            fresh = level + 12.0 * rng.standard_normal(100)
            passed = bool(fresh.mean() >= threshold)
            confirmation = {"return_mean": float(fresh.mean()), "returns": fresh.tolist(), "passed": passed}
        evaluation_records.append(
            {
                "interactions": look,
                "episodes": look // 15,
                "updates": look - 100 if agent.network else 0,
                "return_mean": mean,
                "return_std": float(returns.std()),
                "returns": returns.tolist(),
                "lengths": [15] * len(returns),
                "confirmation": confirmation,
            }
        )
        ledger += _window(study, agent, seed, (start, look), dear, mean)
        start = look
        for step in range(start - look // (k + 1), look, 150):
            episodes.append(
                {
                    "episode": len(episodes),
                    "interactions": step,
                    "environment": 0,
                    "return": _level(agent, point, step) + 30.0 * float(rng.standard_normal()),
                    "length": 15,
                }
            )
    write_lines(directory / "evaluations.jsonl", evaluation_records)
    write_lines(directory / "episodes.jsonl", episodes)
    write_lines(directory / "ledger.jsonl", ledger)
    manifest = {
        "versions": {
            "python": "3.11.2",
            "torch": "2.13.0",
            "stable-baselines3": "2.9.2",
            "hybrid-qrl": "0.1.0",
        },
        "commit": "4f1c2d9",
        "cpu": "AMD EPYC",
        "threads": 1,
        "circuit_digest": "9b0c" * 16 if agent.executions else None,
        "seeds": {"seed": seed, "environment": [seed, 1], "torch": [seed, 2]},
        "resume": "exact",
        "started": "2026-11-24T20:30:00Z",
    }
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    if seed not in agent.unfinished_seeds:
        failed = seed in agent.failing_seeds
        done = {
            "status": "diverged" if failed else "finished",
            "reason": "loss became NaN at interaction 1,512" if failed else None,
            "final_evaluation": evaluation_records[-1],
            "totals": {"interactions": looks[-1], "episodes": looks[-1] // 15},
            "resumed_from": None,
            "parameters_sha256": f"{seed:064x}",
            "metrics_sha256": f"{seed:064x}",
            "n_parameters": {"total": _n_parameters(agent)},
        }
        (directory / "DONE.json").write_text(json.dumps(done), encoding="utf-8")


def _n_parameters(agent: Agent) -> int:
    if agent.n_parameters is not None:
        return agent.n_parameters
    if not agent.network:
        return 0
    return 64 if agent.network["kind"] != "mlp" else 4_482


def _level(agent: Agent, point: float, interactions: int) -> float:
    if point == 0 or math.isinf(point):  # able from the start, or never
        progress = float(point == 0)
    else:
        progress = 1.0 / (1.0 + math.exp(-(interactions - point) / (0.16 * point)))
    return RANDOM_RETURN + (agent.ceiling - RANDOM_RETURN) * progress


def _window(
    study: str, agent: Agent, seed: int, window: tuple[int, int], dear: float, mean: float
) -> list[dict[str, Any]]:
    steps = window[1] - window[0]
    seconds = {phase: steps * cost * dear for phase, cost in agent.seconds.items()}
    seconds |= {"evaluate": 0.05 + 40.0 * agent.seconds.get("act", 0.0), "io": 0.004, "ledger": 0.001}
    records = []
    for phase, wall in seconds.items():
        quantum = phase == "quantum"
        records.append(
            {
                "schema": "qrl-energy/1",
                "run_id": f"{study}/{agent.name}/{seed}",
                "seed": seed,
                "agent": agent.name,
                "phase": phase,
                "window": list(window),
                "interactions": steps if phase == "environment" else 0,
                "episodes": steps // 15 if phase == "environment" else 0,
                "updates": steps if phase == "learn" else 0,
                "wall_s": wall,
                "cpu_s": 0.99 * wall,
                "gpu_s": None,
                "q": {
                    "sim_executions": steps * agent.executions if quantum else 0,
                    "hw_executions": steps * agent.hardware_executions if quantum else 0,
                    "shots": 0,
                    "jobs": 0,
                    "n_qubits": 4 if quantum else None,
                    "depth": 20 if quantum else None,
                    "n1q": 60 if quantum else None,
                    "n2q": 20 if quantum else None,
                    "circuit_s": None,
                    "rep_delay_s": None,
                    "grad_rule": "parameter_shift" if quantum else None,
                    "mitigation_x": None,
                    "backend": "torch" if quantum else None,
                    "qpu_s": None,
                    "queue_s": None,
                },
                "energy": [
                    _energy("cpu_pkg", 5.5 * wall, "cpu-time-model"),
                    _energy("dram", 0.3 * wall, "ram-model"),
                ],
                "unavailable": [
                    {"domain": "cpu_pkg", "reason": "no RAPL counter: /sys/class/powercap is not there"},
                    {"domain": "gpu", "reason": "no GPU meter"},
                ],
                "return_eval": mean,
            }
        )
    return records


def _energy(domain: str, joules: float, source: str) -> dict[str, Any]:
    return {
        "domain": domain,
        "J": joules,
        "u_J": 0.4 * joules,
        "kind": "modelled",
        "source": source,
        "boundary": "gross",
        "idle_J": None,
    }


def _header() -> dict[str, Any]:
    return {"schema": "qrl-energy/1", "header": {"meters": ["cpu-time-model"], "idle": None}}


def _recipe(
    name: str, agents: list[Agent], seeds: range, budget: int, evaluations: int, threshold: float | None
) -> str:
    lines = ["[study]", f"name = {json.dumps(name)}", f'seeds = "{seeds.start}:{seeds.stop}"']
    lines += ["", "[environment]", 'id = "qrl/TargetSteering-v0"', "options = {}"]
    lines += ["", "[budget]", f"interactions = {budget}", f"evaluations = {evaluations}"]
    if threshold is not None:
        lines += ["", "[threshold]", f"return = {threshold}", "confirmation_episodes = 100"]
    for agent in agents:
        lines += ["", "[[agents]]", f"name = {json.dumps(agent.name)}"]
        lines += [f"algorithm = {json.dumps('dqn' if agent.network else 'random')}"]
        if agent.network:
            lines.append(f"network = {_inline(agent.network)}")
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
