"""Hybrid quantum-classical reinforcement learning: quantum networks in classical agents, fair twins, and a ledger.

The names below load what they need on first use, so that ``import qrl`` stays light. Importing it registers the
``qrl/`` environments.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"


def _check_siblings() -> None:
    """Refuse a foreign package under one of our generic names: it would break in stranger ways later."""
    for name in ("circuits", "environments", "baselines"):
        sibling = import_module(name)
        if getattr(sibling, "__part_of__", None) != "qrl":
            raise ImportError(
                f"import qrl found a foreign package {name!r} at {getattr(sibling, '__file__', None) or sibling}; "
                "install hybrid-qrl in a virtual environment of its own, or rename that folder"
            )


_check_siblings()

_HOME = {
    "BoltzmannMachine": "qrl.boltzmann",
    "QuantumLayer": "qrl.layer",
    "build_agent": "qrl.agents.build",
    "build_network": "qrl.networks",
    "ControllerAgent": "qrl.agents.controller",
    "DDPG": "qrl.agents.actor_critic",
    "A2C": "qrl.agents.a2c",
    "DQN": "qrl.agents.sb3",
    "FreeEnergyQ": "qrl.agents.free_energy",
    "NAF": "qrl.agents.naf",
    "PPO": "qrl.agents.sb3",
    "QRDQN": "qrl.agents.qr_dqn",
    "RecurrentPPO": "qrl.agents.recurrent_ppo",
    "register_algorithm": "qrl.agents.build",
    "REINFORCE": "qrl.agents.reinforce",
    "SAC": "qrl.agents.actor_critic",
    "TD3": "qrl.agents.actor_critic",
    "preset": "qrl.agents.presets",
    "build_action_value": "qrl.networks",
    "RandomAgent": "qrl.agents.random_agent",
    "TrainingEnv": "qrl.agents.training_env",
    "Ledger": "qrl.ledger",
    "Recipe": "qrl.study.recipe",
    "load_recipe": "qrl.study.recipe",
    "InputError": "qrl.errors",
}

__all__ = [
    "A2C",
    "DDPG",
    "DQN",
    "NAF",
    "PPO",
    "QRDQN",
    "REINFORCE",
    "SAC",
    "TD3",
    "BoltzmannMachine",
    "ControllerAgent",
    "FreeEnergyQ",
    "InputError",
    "Ledger",
    "QuantumLayer",
    "RandomAgent",
    "Recipe",
    "RecurrentPPO",
    "TrainingEnv",
    "build_action_value",
    "build_agent",
    "build_network",
    "load_recipe",
    "preset",
    "register_algorithm",
]

if TYPE_CHECKING:
    from qrl.agents.a2c import A2C
    from qrl.agents.actor_critic import DDPG, SAC, TD3
    from qrl.agents.build import build_agent, register_algorithm
    from qrl.agents.controller import ControllerAgent
    from qrl.agents.free_energy import FreeEnergyQ
    from qrl.agents.naf import NAF
    from qrl.agents.presets import preset
    from qrl.agents.qr_dqn import QRDQN
    from qrl.agents.random_agent import RandomAgent
    from qrl.agents.recurrent_ppo import RecurrentPPO
    from qrl.agents.reinforce import REINFORCE
    from qrl.agents.sb3 import DQN, PPO
    from qrl.agents.training_env import TrainingEnv
    from qrl.boltzmann import BoltzmannMachine
    from qrl.errors import InputError
    from qrl.layer import QuantumLayer
    from qrl.ledger import Ledger
    from qrl.networks import build_action_value, build_network
    from qrl.study.recipe import Recipe, load_recipe


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'qrl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
