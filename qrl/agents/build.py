"""One function from an agent's specification to a Stable-Baselines3 object, and the seeds it runs on."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import LinearSchedule

from qrl.agents.a2c import A2C
from qrl.agents.actor_critic import DDPG, SAC, TD3, NetworkSACPolicy, NetworkTD3Policy
from qrl.agents.base import StatefulAgent
from qrl.agents.dqn import Replay
from qrl.agents.free_energy import FreeEnergyPolicy, FreeEnergyQ
from qrl.agents.naf import NAF, NAFPolicy
from qrl.agents.optim import GroupedAdam, LinearDecay
from qrl.agents.qr_dqn import QRDQN, NetworkQRDQNPolicy
from qrl.agents.random_agent import RandomAgent
from qrl.agents.recurrent_ppo import NetworkRecurrentPolicy, RecurrentPPO
from qrl.agents.reinforce import REINFORCE
from qrl.agents.replay import GaussianNoise, GroupedSGD
from qrl.agents.sb3 import DQN, PPO, NetworkActorCriticPolicy, NetworkDQNPolicy, n_policy_outputs
from qrl.agents.training_env import TrainingEnv, make_environment
from qrl.errors import InputError
from qrl.networks import check_observations, resolve_agent
from qrl.specs import (
    A2CSpec,
    AgentBase,
    ControllerSpec,
    DDPGSpec,
    DQNSpec,
    FreeEnergyQSpec,
    NAFSpec,
    PPOSpec,
    QRDQNSpec,
    RandomAgentSpec,
    RecurrentPPOSpec,
    ReinforceSpec,
    SACSpec,
    TD3Spec,
    agent_spec,
    register_spec,
)

# Keys of the SeedSequence children, one a component. Stored in every manifest; never renumbered.
SEED_KEYS = {
    "environment": 0,
    "torch": 1,
    "numpy": 2,
    "python": 3,
    "action_space": 4,
    "evaluation": 5,
    "confirmation": 6,
    "agent": 7,
    "shots": 8,
}


Builder = Callable[[Any, TrainingEnv, int], StatefulAgent]
"""From a resolved specification, its environments and the seed to the agent."""


class Algorithm(NamedTuple):
    """How an algorithm is built, and the kinds of action spaces in which it can act."""

    build: Builder
    actions: tuple[type[spaces.Space], ...]


def child_seed(seed: int, component: str) -> int:
    """The 32-bit seed of one component: the SeedSequence child of ``seed`` with the component's key."""
    return int(np.random.SeedSequence(seed, spawn_key=(SEED_KEYS[component],)).generate_state(1)[0])


def child_seeds(seed: int, component: str, n: int) -> list[int]:
    """``n`` different 32-bit seeds of one component."""
    return [int(s) for s in np.random.SeedSequence(seed, spawn_key=(SEED_KEYS[component],)).generate_state(n)]


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, each from its own child of ``seed``."""
    random.seed(child_seed(seed, "python"))
    np.random.seed(child_seed(seed, "numpy"))
    torch.manual_seed(child_seed(seed, "torch"))


def build_agent(
    spec: AgentBase | dict[str, Any],
    env: str | gym.Env | Callable[[], gym.Env] | TrainingEnv,
    seed: int = 0,
    peers: Mapping[str, Any] | None = None,
) -> StatefulAgent:
    """Build the agent of a specification in an environment.

    Args:
        spec: an agent specification, or the mapping a recipe holds.
        env: Gymnasium id, a function that makes an environment, an environment, or vectorised environments of ours.
        seed: of everything random: parameters, exploration, environments.
        peers: the other agents of the study by name, for a ``matched_mlp``.

    Returns:
        A Stable-Baselines3 algorithm: ``learn``, ``predict``, callbacks and loggers as usual.

    Raises:
        InputError: an invalid specification, or an algorithm that cannot act in this environment.

    Example:
        >>> import qrl
        >>> spec = {"algorithm": "ppo", "network": {"kind": "quantum", "n_qubits": 4, "n_layers": 2, "head": {}}}
        >>> agent = qrl.build_agent(spec, "CartPole-v1", seed=1)
        >>> agent.learn(640).num_timesteps
        640
    """
    resolved = agent_spec(spec)
    env = _vectorise(env, getattr(resolved, "n_envs", 1), seed)
    _check_spaces(resolved, env)
    seed_everything(seed)
    env.action_space.seed(child_seed(seed, "action_space"))
    n_inputs = spaces.flatdim(env.observation_space)
    resolved = resolve_agent(resolved, peers or {}, n_inputs, n_policy_outputs(env.action_space))
    check_observations(resolved, env.observation_space)
    agent = REGISTRY[resolved.algorithm].build(resolved, env, seed)
    agent.spec = resolved
    return agent


def _vectorise(env: Any, n_envs: int, seed: int) -> TrainingEnv:
    if isinstance(env, TrainingEnv):
        return env
    seeds = child_seeds(seed, "environment", n_envs)
    if isinstance(env, str):
        return TrainingEnv(lambda: make_environment(env), seeds)
    if isinstance(env, gym.Env):
        if n_envs > 1:
            if env.spec is None:
                raise InputError(
                    "env",
                    str(env),
                    f"is one environment for n_envs = {n_envs}",
                    "pass a function that makes one, or n_envs = 1",
                )
            return TrainingEnv(lambda: gym.make(env.spec), seeds)  # type: ignore[arg-type]
        return TrainingEnv(lambda: env, seeds)
    if callable(env):
        return TrainingEnv(env, seeds)
    raise InputError(
        "env",
        repr(env),
        "is no environment",
        "pass a Gymnasium id, an environment or a function that makes one",
    )


def _check_spaces(spec: Any, env: TrainingEnv) -> None:
    action, supported = env.action_space, REGISTRY[spec.algorithm].actions
    if not isinstance(action, supported):
        able = [name for name, entry in REGISTRY.items() if isinstance(action, entry.actions)]
        raise InputError(
            "algorithm",
            spec.algorithm,
            f"cannot act in {env.id} with actions {type(action).__name__}",
            f"use {' or '.join(able) or 'another environment'}",
        )
    if isinstance(action, spaces.Discrete) and action.start != 0:
        raise InputError(
            "environment.id", env.id, f"numbers its actions from {action.start}", "shift them to start at 0"
        )


def learner_settings(spec: Any, eps: float) -> dict[str, Any]:
    """What every Stable-Baselines3 algorithm takes of a specification: rates, discount, network, optimiser.

    Args:
        spec: of a learning agent.
        eps: Adam's, as in Stable-Baselines3's algorithm.
    """
    rate: float | LinearDecay | LinearSchedule = spec.learning_rate
    if spec.learning_rate_final is not None:
        rate = LinearSchedule(spec.learning_rate, spec.learning_rate_final, 1.0)
    elif spec.schedule == "linear":
        rate = LinearDecay(spec.learning_rate)
    return {
        "learning_rate": rate,
        "gamma": spec.gamma,
        "device": "cpu",
        "policy_kwargs": {
            "agent": spec,
            "optimizer_class": GroupedAdam,
            "optimizer_kwargs": {"eps": eps, "amsgrad": spec.amsgrad},
        },
    }


def q_learning_settings(spec: Any) -> dict[str, Any]:
    """What DQN and QR-DQN take of a specification."""
    return {
        "buffer_size": spec.buffer_size,
        "learning_starts": spec.learning_starts,
        "batch_size": spec.batch_size,
        "tau": spec.tau,
        "train_freq": spec.train_freq,
        "gradient_steps": spec.gradient_steps,
        "target_update_interval": spec.target_update_interval,
        "exploration_fraction": spec.exploration_fraction,
        "exploration_initial_eps": spec.exploration_initial,
        "exploration_final_eps": spec.exploration_final,
        "max_grad_norm": spec.max_grad_norm,
        **learner_settings(spec, eps=1e-8),
    }


def _build_dqn(spec: Any, env: TrainingEnv, seed: int) -> DQN:
    agent = DQN(NetworkDQNPolicy, env, **q_learning_settings(spec))  # type: ignore[arg-type]
    agent.exploration_decay, agent.squared_loss = spec.exploration_decay, spec.loss == "mse"
    agent.double = spec.double
    return agent


def _build_qr_dqn(spec: Any, env: TrainingEnv, seed: int) -> QRDQN:
    return QRDQN(NetworkQRDQNPolicy, env, replay_buffer_class=Replay, **q_learning_settings(spec))


def _on_policy(spec: Any) -> dict[str, Any]:
    """What the actor-critics that learn from rollouts take of a specification."""
    return {
        "n_steps": spec.n_steps,
        "gae_lambda": spec.gae_lambda,
        "ent_coef": spec.ent_coef,
        "vf_coef": spec.vf_coef,
        "max_grad_norm": spec.max_grad_norm,
        **learner_settings(spec, eps=1e-5),
    }


def _build_ppo(spec: Any, env: TrainingEnv, seed: int) -> PPO | RecurrentPPO:
    settings = {
        "batch_size": spec.batch_size,
        "n_epochs": spec.n_epochs,
        "clip_range": spec.clip_range,
        **_on_policy(spec),
    }
    if isinstance(spec, RecurrentPPOSpec):
        return RecurrentPPO(NetworkRecurrentPolicy, env, **settings)
    return PPO(NetworkActorCriticPolicy, env, **settings)


def _build_a2c(spec: Any, env: TrainingEnv, seed: int) -> A2C:
    return A2C(
        NetworkActorCriticPolicy, env, normalize_advantage=spec.normalise_advantage, **_on_policy(spec)
    )


def _build_reinforce(spec: Any, env: TrainingEnv, seed: int) -> REINFORCE:
    settings = learner_settings(spec, eps=1e-8)
    if spec.natural is not None:
        # the step is the natural gradient itself, which Adam would rescale
        settings["policy_kwargs"] |= {"optimizer_class": GroupedSGD, "optimizer_kwargs": {}}
    return REINFORCE(
        NetworkActorCriticPolicy,
        env,
        batch_episodes=spec.batch_episodes,
        standardise=spec.standardise,
        baseline=spec.baseline,
        natural=spec.natural,
        ent_coef=spec.ent_coef,
        **settings,
    )


def _replay(spec: Any) -> dict[str, Any]:
    """What off-policy algorithms take of a specification."""
    by_episode = spec.train_freq == "episode"
    return {
        "buffer_size": spec.buffer_size,
        "learning_starts": spec.learning_starts,
        "batch_size": spec.batch_size,
        "tau": spec.tau,
        "train_freq": (1, "episode") if by_episode else spec.train_freq,
        "gradient_steps": -1 if spec.gradient_steps == "as_many" else spec.gradient_steps,
        **learner_settings(spec, eps=1e-8),
    }


def _noise(spec: Any, env: TrainingEnv) -> GaussianNoise:
    return GaussianNoise(n_policy_outputs(env.action_space), spec.noise, spec.noise_final)


def _build_free_energy_q(spec: Any, env: TrainingEnv, seed: int) -> FreeEnergyQ:
    settings = _replay(spec)
    if spec.optimizer == "sgd":
        settings["policy_kwargs"] |= {"optimizer_class": GroupedSGD, "optimizer_kwargs": {}}
    if not spec.replay:
        settings["buffer_size"] = 1
    return FreeEnergyQ(
        FreeEnergyPolicy,
        env,
        exploration=LinearSchedule(
            spec.exploration_initial, spec.exploration_final, spec.exploration_fraction
        ),
        max_grad_norm=spec.max_grad_norm,
        **settings,
    )


def _build_naf(spec: Any, env: TrainingEnv, seed: int) -> NAF:
    return NAF(
        NAFPolicy, env, max_grad_norm=spec.max_grad_norm, action_noise=_noise(spec, env), **_replay(spec)
    )


def _build_deterministic(spec: Any, env: TrainingEnv, seed: int) -> DDPG | TD3:
    settings = {**_replay(spec), "replay_buffer_class": Replay, "action_noise": _noise(spec, env)}
    agent: DDPG | TD3
    if spec.algorithm == "ddpg":
        agent = DDPG(NetworkTD3Policy, env, **settings)
    else:
        agent = TD3(
            NetworkTD3Policy,
            env,
            policy_delay=spec.policy_delay,
            target_policy_noise=spec.target_policy_noise,
            target_noise_clip=spec.target_noise_clip,
            **settings,
        )
    if spec.exploration_initial or spec.exploration_final:
        agent.exploration = LinearSchedule(spec.exploration_initial, spec.exploration_final, 1.0)
    return agent


def _build_sac(spec: Any, env: TrainingEnv, seed: int) -> SAC:
    return SAC(
        NetworkSACPolicy,
        env,
        replay_buffer_class=Replay,
        ent_coef=spec.ent_coef,
        target_entropy=spec.target_entropy,
        target_update_interval=spec.target_update_interval,
        **_replay(spec),
    )


def _build_controller(spec: Any, env: TrainingEnv, seed: int) -> StatefulAgent:
    # imported here, as it imports this module
    from qrl.agents.controller import build_controller

    return build_controller(spec, env, seed)


def _build_random(spec: Any, env: TrainingEnv, seed: int) -> RandomAgent:
    return RandomAgent(env, child_seed(seed, "agent"))


def register_algorithm(
    spec: type[AgentBase], build: Builder, actions: tuple[type[spaces.Space], ...]
) -> None:
    """Add an algorithm, after which recipes, studies and ``build_agent`` know it under ``spec.algorithm``.

    Args:
        spec: its specification; of a name ``module:name`` other processes import the module by themselves.
        build: from the resolved specification, the environments and the seed to the agent.
        actions: kinds of action spaces in which it can act.

    Raises:
        InputError: the name is taken.
    """
    register_spec(spec)
    REGISTRY[spec.model_fields["algorithm"].default] = Algorithm(build, actions)


_DISCRETE, _BOX = (spaces.Discrete,), (spaces.Box,)
REGISTRY: dict[str, Algorithm] = {
    spec.model_fields["algorithm"].default: Algorithm(build, actions)
    for spec, build, actions in (
        (DQNSpec, _build_dqn, _DISCRETE),
        (QRDQNSpec, _build_qr_dqn, _DISCRETE),
        (PPOSpec, _build_ppo, _DISCRETE + _BOX),
        (A2CSpec, _build_a2c, _DISCRETE + _BOX),
        (RecurrentPPOSpec, _build_ppo, _DISCRETE + _BOX),
        (ReinforceSpec, _build_reinforce, _DISCRETE + _BOX),
        (FreeEnergyQSpec, _build_free_energy_q, _DISCRETE),
        (DDPGSpec, _build_deterministic, _BOX),
        (TD3Spec, _build_deterministic, _BOX),
        (SACSpec, _build_sac, _BOX),
        (NAFSpec, _build_naf, _BOX),
        (ControllerSpec, _build_controller, _DISCRETE + _BOX),
        (RandomAgentSpec, _build_random, _DISCRETE + _BOX),
    )
}
"""How each algorithm is built and where it can act; ``register_algorithm`` adds to them."""
