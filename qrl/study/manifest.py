"""What a run folder says of the run itself: code, machine, seeds, circuit, and whether it can be continued exactly."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from qrl.agents.base import StatefulAgent
from qrl.agents.build import SEED_KEYS, child_seed, child_seeds
from qrl.agents.training_env import TrainingEnv
from qrl.boltzmann import BoltzmannMachine
from qrl.layer import QuantumLayer
from qrl.ledger import Ledger
from qrl.ledger.header import hardware, versions
from qrl.networks import count_parameters
from qrl.study.checkpoint import write_atomic
from qrl.study.claims import recorded_hashes
from qrl.study.recipe import Recipe


def parameter_counts(agent: StatefulAgent) -> dict[str, int]:
    """Trainable values of an agent: ``total``, and of policy and critic apart where it has both."""
    counts = {"total": sum(p.numel() for p in agent.trained_parameters().values())}
    extractor = getattr(getattr(agent, "policy", None), "mlp_extractor", None)
    if extractor is not None:
        counts["policy"] = count_parameters(extractor.actor)
        if extractor.critic is not None:
            counts["critic"] = count_parameters(extractor.critic)
    policy: Any = getattr(agent, "policy", None)
    if hasattr(policy, "actor") and hasattr(policy, "critic"):
        counts["policy"], counts["critic"] = count_parameters(policy.actor), count_parameters(policy.critic)
    return counts


def quantum_layer(agent: StatefulAgent) -> QuantumLayer | None:
    """The layer of an agent's Q-function or policy, none for a classical one."""
    policy = getattr(agent, "policy", None)
    layers = () if policy is None else (m for m in policy.modules() if isinstance(m, QuantumLayer))
    return next(iter(layers), None)


def boltzmann_machine(agent: StatefulAgent) -> BoltzmannMachine | None:
    """The machine of an agent's Q-function or critic, none where there is none."""
    policy = getattr(agent, "policy", None)
    machines = () if policy is None else (m for m in policy.modules() if isinstance(m, BoltzmannMachine))
    return next(iter(machines), None)


def simulator(agent: StatefulAgent) -> str | None:
    """What runs the agent's circuit; with the instruction set where there are several, as sums differ by it."""
    layer = quantum_layer(agent)
    if layer is None:
        return None
    return " ".join((layer.backend.name, getattr(layer.backend, "instruction_set", ""))).strip()


def describe_circuit(agent: StatefulAgent, ledger: Ledger) -> None:
    """Tell the ledger which circuit the agent's executions are of, and what runs it."""
    layer = quantum_layer(agent)
    if layer is not None:
        circuit, n2q = layer.circuit, layer.circuit.two_qubit_count
        ledger.describe(
            n_qubits=circuit.n_qubits,
            depth=circuit.depth,
            n1q=len(circuit.gates) - n2q,
            n2q=n2q,
            backend=layer.backend.name,
        )
    elif (machine := boltzmann_machine(agent)) is not None:
        ledger.describe(n_qubits=machine.graph.n_hidden, backend=f"boltzmann:{machine.sampler.name}")


def write_manifest(folder: Path, recipe: Recipe, agent: StatefulAgent, env: TrainingEnv, seed: int) -> None:
    """Write ``manifest.json`` at a run's start; at its continuation, say where the bits may differ."""
    path = folder / "manifest.json"
    if path.exists():
        begun = json.loads(path.read_text())
        now = {"threads": torch.get_num_threads(), "simulator": simulator(agent)}
        for name, value in now.items():
            if begun.get(name, value) != value:
                was = f"{folder} was begun with {name} {begun[name]}, now {value}"
                print(f"warning: {was}; its continuation is not bit-exact", file=sys.stderr)
        return
    layer, machine = quantum_layer(agent), hardware()
    reason = f"{env.id} has no state()/set_state() and no adapter: a continued run begins a fresh episode"
    manifest: dict[str, Any] = {
        "versions": versions(),
        "commit": _commit(),
        "cpu": machine["cpu"],
        "hardware": machine,
        "threads": torch.get_num_threads(),
        "simulator": simulator(agent),
        "platform": platform.platform(),
        "circuit_digest": None if layer is None else layer.circuit.digest,
        "recipe_digest": recipe.digest,
        "claims": recorded_hashes(folder.parent.parent),
        "agent": agent.spec.model_dump(mode="json"),
        "seeds": {
            "seed": seed,
            **{name: child_seed(seed, name) for name in SEED_KEYS},
            "environments": child_seeds(seed, "environment", env.num_envs),
        },
        "resume": "exact" if env.exact else "statistical",
        "resume_reason": None if env.exact else reason,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_atomic(path, json.dumps(manifest, indent=1) + "\n")


def _commit() -> str | None:
    """The commit of the code that runs, with ``+changes`` where the tree differs from it; none outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "-uno")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()
