"""One function from an agent's specification to a Stable-Baselines3 object, and the seeds it runs on."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import LinearSchedule

from qrl.agents.actor_critic import DDPG, SAC, TD3, NetworkSACPolicy, NetworkTD3Policy
from qrl.agents.base import StatefulAgent
from qrl.agents.dqn import Replay
from qrl.agents.free_energy import FreeEnergyPolicy, FreeEnergyQ
from qrl.agents.naf import NAF, NAFPolicy
from qrl.agents.optim import GroupedAdam, LinearDecay
from qrl.agents.random_agent import RandomAgent
from qrl.agents.reinforce import REINFORCE
from qrl.agents.replay import GaussianNoise, GroupedSGD
from qrl.agents.sb3 import DQN, PPO, NetworkActorCriticPolicy, NetworkDQNPolicy, n_policy_outputs
from qrl.agents.training_env import TrainingEnv, make_environment
from qrl.errors import InputError
from qrl.networks import check_observations, resolve_agent
from qrl.specs import AgentBase, agent_spec

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
    agent = _BUILDERS[resolved.algorithm](resolved, env, seed)
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
    action, supported = env.action_space, _ACTION_SPACES[spec.algorithm]
    if not isinstance(action, supported):
        able = [name for name, kinds in _ACTION_SPACES.items() if isinstance(action, kinds)]
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


_ACTION_SPACES: dict[str, tuple[type, ...]] = {
    "dqn": (spaces.Discrete,),
    "ppo": (spaces.Discrete, spaces.Box),
    "reinforce": (spaces.Discrete, spaces.Box),
    "free_energy_q": (spaces.Discrete,),
    "ddpg": (spaces.Box,),
    "td3": (spaces.Box,),
    "sac": (spaces.Box,),
    "naf": (spaces.Box,),
    "controller": (spaces.Discrete, spaces.Box),
    "random": (spaces.Discrete, spaces.Box),
}


def _common(spec: Any, eps: float) -> dict[str, Any]:
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


def _build_dqn(spec: Any, env: TrainingEnv, seed: int) -> DQN:
    agent = DQN(
        NetworkDQNPolicy,  # type: ignore[arg-type]
        env,
        buffer_size=spec.buffer_size,
        learning_starts=spec.learning_starts,
        batch_size=spec.batch_size,
        tau=spec.tau,
        train_freq=spec.train_freq,
        gradient_steps=spec.gradient_steps,
        target_update_interval=spec.target_update_interval,
        exploration_fraction=spec.exploration_fraction,
        exploration_initial_eps=spec.exploration_initial,
        exploration_final_eps=spec.exploration_final,
        max_grad_norm=spec.max_grad_norm,
        **_common(spec, eps=1e-8),
    )
    agent.exploration_decay, agent.squared_loss = spec.exploration_decay, spec.loss == "mse"
    return agent


def _build_ppo(spec: Any, env: TrainingEnv, seed: int) -> PPO:
    rollout = spec.n_steps * spec.n_envs
    if rollout % spec.batch_size:
        raise InputError(
            "batch_size",
            spec.batch_size,
            f"does not divide a rollout of n_steps x n_envs = {rollout}",
            "use a divisor of it",
        )
    return PPO(
        NetworkActorCriticPolicy,
        env,
        n_steps=spec.n_steps,
        batch_size=spec.batch_size,
        n_epochs=spec.n_epochs,
        gae_lambda=spec.gae_lambda,
        clip_range=spec.clip_range,
        ent_coef=spec.ent_coef,
        vf_coef=spec.vf_coef,
        max_grad_norm=spec.max_grad_norm,
        **_common(spec, eps=1e-5),
    )


def _build_reinforce(spec: Any, env: TrainingEnv, seed: int) -> REINFORCE:
    return REINFORCE(
        NetworkActorCriticPolicy,
        env,
        batch_episodes=spec.batch_episodes,
        standardise=spec.standardise,
        ent_coef=spec.ent_coef,
        **_common(spec, eps=1e-8),
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
        **_common(spec, eps=1e-8),
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


_BUILDERS: dict[str, Callable[[Any, TrainingEnv, int], StatefulAgent]] = {
    "dqn": _build_dqn,
    "ppo": _build_ppo,
    "reinforce": _build_reinforce,
    "free_energy_q": _build_free_energy_q,
    "ddpg": _build_deterministic,
    "td3": _build_deterministic,
    "sac": _build_sac,
    "naf": _build_naf,
    "controller": _build_controller,
    "random": _build_random,
}
