"""Steps a second of whole training loops: a hybrid agent and its classical twin in turns, under one algorithm."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from race import Race
from report import Goal, Section, table
from worker import Worker

RECIPE = Path(__file__).parents[2] / "experiments" / "cartpole" / "recipe.toml"
STEPS = {"dqn": 600, "ppo": 1_920}
"""Steps of a turn; PPO's are whole rollouts."""


class Training:
    """Runs in a process of its own: both agents of an algorithm on CartPole, as the experiment has them.

    DQN takes over the networks and rates of the experiment's PPO agents.

    Args:
        algorithm: ``"ppo"`` or ``"dqn"``.
    """

    def __init__(self, algorithm: str) -> None:
        import torch

        import qrl
        from qrl.agents.training_env import make_environment
        from qrl.specs import agent_spec
        from qrl.study.recipe import load_recipe

        torch.set_num_threads(1)
        recipe = load_recipe(RECIPE)
        specs: dict[str, Any] = {spec.name: spec for spec in recipe.agents}
        if algorithm == "dqn":
            fields = {"name", "network", "learning_rate", "learning_rates"}
            specs = {
                name: {"algorithm": "dqn", **specs[name].model_dump(include=fields)}
                for name in ("hybrid", "twin")
            }
        peers = {name: agent_spec(specs[name]) for name in ("hybrid", "twin")}
        environment = recipe.environment
        self._agents: dict[str, Any] = {
            name: qrl.build_agent(
                spec,
                lambda: make_environment(environment.id, environment.options, environment.observation),
                seed=0,
                peers=peers,
            )
            for name, spec in peers.items()
        }

    def steps_per_second(self, name: str, steps: int) -> float:
        """Let an agent learn for some more steps, and return its speed."""
        agent = self._agents[name]
        before = agent.num_timesteps
        start = perf_counter()
        agent.learn(steps, reset_num_timesteps=False)
        return (agent.num_timesteps - before) / (perf_counter() - start)


def measure(race: Race, engine: str, quick: bool) -> Section:
    """Time both algorithms; the agents take turns, and so does who comes first."""
    ratios, speeds, lines = {}, {}, []
    for algorithm in STEPS:
        worker = Worker(Training, algorithm)
        steps, rounds = STEPS[algorithm], 4 if quick else 16
        found: dict[str, list[float]] = {"hybrid": [], "twin": []}
        for index in range(rounds + 1):
            for name in ("hybrid", "twin") if index % 2 else ("twin", "hybrid"):
                speed = worker.call("steps_per_second", name, steps)
                if index:  # the first turn fills the replay buffer and warms up
                    found[name].append(speed)
        worker.close()
        pairs = [a / b for a, b in zip(found["hybrid"], found["twin"], strict=True)]
        ratios[algorithm], speeds[algorithm] = statistics.median(pairs), found
        medians = [f"{statistics.median(found[name]):,.0f}" for name in ("hybrid", "twin")]
        lines.append([algorithm, *medians, f"{ratios[algorithm]:.2f}"])
        print(f"  {algorithm}: hybrid, twin steps/s and ratio {lines[-1][1:]}", file=sys.stderr, flush=True)
    goals = [
        Goal(f"steps a second of the hybrid over its twin, {name}", ">=", 0.95, "x", {"CartPole-v1": ratio})
        for name, ratio in ratios.items()
    ]
    text = (
        "Steps a second of whole training loops on CartPole-v1 with the agents of `experiments/cartpole` "
        "(4 qubits, 5 layers; DQN with the same networks), median of turns; the ratio is the median over pairs.\n\n"
    )
    head = ["algorithm", "hybrid", "matched MLP", "hybrid/twin"]
    data = {"steps_per_second": speeds, "ratio": ratios}
    return Section("Training loops", text + table(head, lines), data, goals)
