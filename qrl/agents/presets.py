"""Agents with settings that others published, by name."""

from __future__ import annotations

import copy
from typing import Any

from qrl.errors import InputError, nearest


def preset(name: str) -> dict[str, Any]:
    """Return the agent specification of a published setting, as the mapping that a recipe holds.

    The settings are those of the public code of Schenk et al., arXiv:2209.11044 (``qbm-rl-steering``), found there in
    the branch that each name says. What makes the agent is taken over: graph, temperature, final field, rates,
    discount, replay, target, exploration. Left out is what cannot be right, or belongs to the environment or to a
    sampler:

    - One Trotter slice (r = 1) leaves nothing of the transverse field, and a schedule that ends at Gamma = 0 leaves a
      classical machine. Both are ``field = 0`` here, sampled exactly where that is possible: the classical machine at
      that temperature, not annealed to a ground state whose energy then stands for a free energy.
    - A field that changes during an anneal defines no Q; the final one does. Where it is above 0, ``sqa`` holds it
      fixed, with the published slices and reads.
    - Entropies from a handful of reads (zero from one), base-10 logarithms, and free energies without the Trotter
      constant are replaced by the samplers' own estimators, and one read a state by 16.
    - Actions were chosen by the target machine, ended episodes bootstrapped, and 60 weights made where 52 are used:
      ours acts by the online machine, masks terminal states, and has one action node.
    - Step limits, encodings and the early stop after 20 solved episodes are the environment's and the study's.
    - With several learning rates, the schedule keeps their ratio: the critic of ``actor-critic-dwave`` ends at
      3.9e-5 in place of 5e-5.

    ``actor-critic`` has the code's default graph, as the stored runs name none, and 250 random steps: the number of two
    of the five runs, which had 150 to 400.

    Args:
        name: a key of ``PRESETS``.

    Raises:
        InputError: an unknown name.

    Example:
        >>> preset("qbm-rl-steering:q-learning")["gamma"]
        0.756
    """
    if name not in PRESETS:
        raise InputError("preset", name, "is not known", nearest(name, PRESETS))
    return copy.deepcopy(PRESETS[name])


def _chimera(rows: int, columns: int) -> dict[str, Any]:
    return {"kind": "chimera", "rows": rows, "columns": columns}


PRESETS: dict[str, dict[str, Any]] = {
    # branch q-learning-merge: tuned, with replay; r = 1, 16 reads, 180 steps, Gamma 41.41 -> 0
    "qbm-rl-steering:q-learning": {
        "algorithm": "free_energy_q",
        "network": {
            "kind": "boltzmann",
            "graph": _chimera(1, 2),
            "field": 0.0,
            "beta": 0.746,
            "init_scale": 5.0,
        },
        "learning_rate": 0.04778,
        "learning_rate_final": 0.000201,
        "schedule": "linear",
        "gamma": 0.756,
        "exploration_initial": 1.0,
        "exploration_final": 0.0,
        "exploration_fraction": 0.766,
        "batch_size": 32,
        "tau": 0.4008,
        "max_grad_norm": 10.0,
    },
    # branch master: without replay; r = 10, 10 reads, 140 steps, Gamma 25 -> 0.8
    "qbm-rl-steering:q-learning-without-replay": {
        "algorithm": "free_energy_q",
        "network": {
            "kind": "boltzmann",
            "graph": _chimera(1, 2),
            "field": 0.8,
            "beta": 2.0,
            "init_scale": 5.0,
            "sampler": "sqa",
            "sampler_options": {"slices": 10, "reads": 10, "sweeps": 140},
        },
        "learning_rate": 0.02,
        "learning_rate_final": 0.005,
        "schedule": "linear",
        "gamma": 0.85,
        "exploration_initial": 1.0,
        "exploration_final": 0.04,
        "exploration_fraction": 0.8,
        "replay": False,
        "tau": 1.0,
    },
    # branch cartpole: r = 1, one read, Gamma 1.2 -> 0; the stored evaluation shows no learning
    "qbm-rl-steering:cartpole": {
        "algorithm": "free_energy_q",
        "network": {
            "kind": "boltzmann",
            "graph": _chimera(2, 2),
            "field": 0.0,
            "beta": 7.0,
            "init_scale": 5.0,
        },
        "optimizer": "adam",
        "learning_rate": 0.016,
        "gamma": 0.95,
        "batch_size": 16,
        "tau": 1.0,
    },
    # branch qac-td3/awake, run of 2022-02-25: r = 1, one read, 100 steps, Gamma 20 -> 0
    "qbm-rl-steering:actor-critic": {
        "algorithm": "ddpg",
        "network": {"kind": "mlp", "hidden": [400, 300]},
        "critic": {
            "kind": "boltzmann",
            "graph": _chimera(2, 3),
            "field": 0.0,
            "beta": 2.0,
            "init_scale": 1.0,
            "sampler": "sqa",
            "sampler_options": {"reads": 16, "sweeps": 100},
        },
        "learning_rate": 1e-3,
        "learning_rate_final": 5e-5,
        "schedule": "linear",
        "gamma": 0.99,
        "tau": 0.01,
        "batch_size": 32,
        "learning_starts": 250,
        "noise": 0.2,
        "noise_final": 0.0,
        "train_freq": "episode",
        "gradient_steps": "as_many",
        "actor_first": True,
    },
    # branch dwave-leap, Advantage 6.1, May 2022: r = 2, two reads, Gamma 25 -> 0.5
    "qbm-rl-steering:actor-critic-dwave": {
        "algorithm": "ddpg",
        "network": {"kind": "mlp", "hidden": [400, 300]},
        "critic": {
            "kind": "boltzmann",
            "graph": _chimera(3, 3),
            "field": 0.5,
            "beta": 0.5,
            "init_scale": 1.0,
            "sampler": "sqa",
            "sampler_options": {"slices": 2, "reads": 16, "sweeps": 100},
        },
        "learning_rate": 3.2e-4,
        "learning_rate_final": 5e-5,
        "schedule": "linear",
        "critic_learning_rate": 2.5e-4,
        "gamma": 0.97,
        "tau": 1.3e-4,
        "actor_tau": 5e-4,
        "batch_size": 16,
        "learning_starts": 400,
        "noise": 0.3,
        "noise_final": 0.0,
        "exploration_initial": 0.5,
        "exploration_final": 0.0,
        "train_freq": "episode",
        "gradient_steps": "as_many",
        "actor_first": True,
    },
}
"""Published settings by name; each validates as it is and takes a ``name`` of the study beside it."""
