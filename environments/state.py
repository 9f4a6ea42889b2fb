"""The full state of any Gymnasium environment, in and out: what makes a resumed run continue bit for bit.

`capture` walks the stack of wrappers from the outside in and returns one flat dictionary whose keys say where
a value belongs and whose values are NumPy arrays or JSON values; `restore` puts it back into an environment
built the same way. A layer takes part in one of two ways: it has the methods `state()` and `set_state()`
(ours do), or its class stands in `ADAPTERS`, which names the attributes that hold its state. Anything else
makes the environment inexact, and `is_exact` says so before a run relies on it.

Source: own construction.
"""

import copy
from collections import deque
from typing import Any, cast

import gymnasium as gym
import numpy as np

__all__ = [
    "ADAPTERS",
    "capture",
    "generator_from",
    "generator_state",
    "is_exact",
    "restore",
    "restore_space",
    "space_state",
]

AnyEnv = gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any]

_CONTROL = "gymnasium.envs.classic_control"
_TEXT = "gymnasium.envs.toy_text"
_WRAPPERS = "gymnasium.wrappers"

ADAPTERS: dict[str, tuple[str, ...]] = {
    f"{_CONTROL}.cartpole.CartPoleEnv": ("state", "steps_beyond_terminated"),
    f"{_CONTROL}.cartpole.CartPoleVectorEnv": (
        "state",
        "steps",
        "prev_done",
        "low",
        "high",
        "steps_beyond_terminated",
    ),
    f"{_CONTROL}.acrobot.AcrobotEnv": ("state",),
    f"{_CONTROL}.mountain_car.MountainCarEnv": ("state",),
    f"{_CONTROL}.continuous_mountain_car.Continuous_MountainCarEnv": ("state",),
    f"{_CONTROL}.pendulum.PendulumEnv": ("state", "last_u"),
    f"{_TEXT}.frozen_lake.FrozenLakeEnv": ("s", "lastaction"),
    f"{_TEXT}.cliffwalking.CliffWalkingEnv": ("s", "lastaction"),
    f"{_TEXT}.taxi.TaxiEnv": ("s", "lastaction", "fickle_step", "taxi_orientation"),
    f"{_TEXT}.blackjack.BlackjackEnv": (
        "dealer",
        "player",
        "dealer_top_card_suit",
        "dealer_top_card_value_str",
    ),
    f"{_WRAPPERS}.common.TimeLimit": ("_elapsed_steps",),
    f"{_WRAPPERS}.common.OrderEnforcing": ("_has_reset",),
    f"{_WRAPPERS}.common.PassiveEnvChecker": (
        "checked_reset",
        "checked_step",
        "checked_render",
        "close_called",
    ),
    f"{_WRAPPERS}.common.Autoreset": ("autoreset",),
    f"{_WRAPPERS}.common.RecordEpisodeStatistics": (
        "episode_count",
        "episode_returns",
        "episode_lengths",
        "time_queue",
        "return_queue",
        "length_queue",
    ),
    f"{_WRAPPERS}.transform_observation.FlattenObservation": (),
    f"{_WRAPPERS}.transform_observation.RescaleObservation": (),
    f"{_WRAPPERS}.transform_observation.DtypeObservation": (),
    f"{_WRAPPERS}.transform_observation.TransformObservation": (),
    f"{_WRAPPERS}.transform_action.ClipAction": (),
    f"{_WRAPPERS}.transform_action.RescaleAction": (),
    f"{_WRAPPERS}.transform_reward.ClipReward": (),
    f"{_WRAPPERS}.transform_reward.TransformReward": (),
    "gymnasium.vector.sync_vector_env.SyncVectorEnv": ("_terminations", "_truncations", "_autoreset_envs"),
    "stable_baselines3.common.monitor.Monitor": (
        "rewards",
        "needs_reset",
        "episode_returns",
        "episode_lengths",
        "episode_times",
        "total_steps",
        "current_reset_info",
    ),
}
"""Attributes that hold the state of a class without `state()`, by full class name. The attributes of a plain
environment come on top of its random generator and those of its spaces, which every layer saves. Names, so
that nothing is imported."""


def generator_state(generator: np.random.Generator | None) -> dict[str, Any] | None:
    """The state of a NumPy generator as a JSON value (None for None); `generator_from` makes it again.

    Raises: TypeError where the bit generator is another than PCG64, Gymnasium's own.
    """
    if generator is None:
        return None
    state: dict[str, Any] = dict(generator.bit_generator.state)
    if state["bit_generator"] != "PCG64":
        raise TypeError(
            f"np_random: {state['bit_generator']} is not PCG64; "
            f"use numpy.random.Generator(numpy.random.PCG64(seed))"
        )
    return state


def generator_from(state: dict[str, Any] | None) -> np.random.Generator | None:
    """A NumPy generator that continues from `state`, a value of `generator_state`."""
    if state is None:
        return None
    bits = np.random.PCG64()
    bits.state = cast(Any, state)
    return np.random.Generator(bits)


def space_state(space: gym.Space[Any]) -> list[dict[str, Any] | None]:
    """The generators of a space and of the spaces inside it, as a JSON list in a fixed order."""
    return [generator_state(part._np_random) for part in _parts(space)]


def restore_space(space: gym.Space[Any], state: list[dict[str, Any] | None]) -> None:
    """Give a space back the generators of `space_state`."""
    for part, saved in zip(_parts(space), state, strict=True):
        part._np_random = cast(Any, generator_from(saved))


def is_exact(env: AnyEnv) -> bool:
    """Whether `capture` and `restore` work on every layer of `env`, so that a resumed run equals an
    uninterrupted one."""
    return all(_is_known(layer) for _, layer in _layers(env))


def capture(env: AnyEnv) -> dict[str, Any]:
    """The full state of `env`: a flat dictionary of NumPy arrays and JSON values.

    Keys are `<depth>.<class>/<field>`, depth 0 outermost; a SyncVectorEnv adds `<depth>[<copy>].` for its
    copies.

    Raises: TypeError, naming the layer, where `is_exact` is false.
    """
    captured: dict[str, Any] = {}
    for place, layer in _layers(env):
        if not _is_known(layer):
            raise TypeError(
                f"environment: {type(layer).__qualname__} has neither state()/set_state() nor an adapter; "
                f"give the class both methods, or resume statistically"
            )
        for field, value in _layer_state(layer).items():
            captured[f"{place}{type(layer).__name__}/{field}"] = value
    return captured


def restore(env: AnyEnv, state: dict[str, Any]) -> None:
    """Put a state of `capture` into `env`, which must be built the same way (same wrappers, same options).

    Raises: TypeError where a layer of `env` has no way to take a state, ValueError where `state` belongs to
    other layers.
    """
    used: set[str] = set()
    for place, layer in _layers(env):
        if not _is_known(layer):
            raise TypeError(
                f"environment: {type(layer).__qualname__} has neither state()/set_state() nor an adapter; "
                f"give the class both methods, or resume statistically"
            )
        prefix = f"{place}{type(layer).__name__}/"
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        missing = _fields(layer) - own.keys()
        if missing:
            raise ValueError(
                f"state: no value for {prefix}{min(missing)}; "
                f"restore into an environment built like the one captured"
            )
        _restore_layer(layer, own)
        used |= {prefix + field for field in own}
    if used != state.keys():
        raise ValueError(
            f"state: {min(state.keys() - used)} has no layer here; "
            f"restore into an environment built like the one captured"
        )


def _layers(env: AnyEnv, prefix: str = "") -> list[tuple[str, Any]]:
    """Every layer with its place, from the outside in; the copies of a SyncVectorEnv follow it."""
    found: list[tuple[str, Any]] = []
    layer: Any = env
    depth = 0
    while True:
        found.append((f"{prefix}{depth}.", layer))
        if not isinstance(layer, gym.Wrapper | gym.vector.VectorWrapper):
            break
        layer, depth = layer.env, depth + 1
    if isinstance(layer, gym.vector.SyncVectorEnv):
        for row, inner in enumerate(layer.envs):
            found += _layers(inner, f"{prefix}{depth}[{row}].")
    return found


def _has_protocol(layer: Any) -> bool:
    # looked up on the class: `state` is a plain attribute of many environments
    return callable(getattr(type(layer), "state", None)) and callable(getattr(type(layer), "set_state", None))


def _adapter(layer: Any) -> tuple[str, ...] | None:
    return ADAPTERS.get(f"{type(layer).__module__}.{type(layer).__qualname__}")


def _is_known(layer: Any) -> bool:
    return _has_protocol(layer) or _adapter(layer) is not None


def _is_base(layer: Any) -> bool:
    return not isinstance(layer, gym.Wrapper | gym.vector.VectorWrapper)


def _own_spaces(layer: Any) -> dict[str, gym.Space[Any]]:
    """The spaces that belong to this layer: all of a base environment's, of a wrapper those it replaced."""
    names = ("action_space", "observation_space", "single_action_space", "single_observation_space")
    if _is_base(layer):
        return {name: space for name in names if (space := getattr(layer, name, None)) is not None}
    return {name: space for name in names if (space := getattr(layer, f"_{name}", None)) is not None}


def _fields(layer: Any) -> set[str]:
    if _has_protocol(layer):
        return set(layer.state())
    fields = set(_adapter(layer) or ()) | set(_own_spaces(layer))
    return fields | {"_np_random", "_np_random_seed"} if _is_base(layer) else fields


def _layer_state(layer: Any) -> dict[str, Any]:
    if _has_protocol(layer):
        return dict(layer.state())
    state = {name: _plain(getattr(layer, name, None)) for name in _adapter(layer) or ()}
    state |= {name: space_state(space) for name, space in _own_spaces(layer).items()}
    if _is_base(layer):
        state["_np_random"] = generator_state(layer._np_random)
        state["_np_random_seed"] = layer._np_random_seed
    return state


def _restore_layer(layer: Any, state: dict[str, Any]) -> None:
    if _has_protocol(layer):
        layer.set_state(state)
        return
    for name in _adapter(layer) or ():
        setattr(layer, name, _like(getattr(layer, name, None), state[name]))
    for name, space in _own_spaces(layer).items():
        restore_space(space, state[name])
    if _is_base(layer):
        layer._np_random = generator_from(state["_np_random"])
        layer._np_random_seed = state["_np_random_seed"]
    if isinstance(layer, gym.wrappers.PassiveEnvChecker) and layer.checked_reset:
        # its once-only checks compare a call with the one before, which a restored stack has not seen
        layer.checked_step = layer.checked_data_reuse = True


def _plain(value: Any) -> Any:
    """A value as an array or JSON: NumPy scalars become Python's, sequences lists (arrays where they hold
    floats)."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple) and value and all(isinstance(item, float | np.floating) for item in value):
        return np.array(value)
    if isinstance(value, list | tuple | deque):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _like(old: Any, value: Any) -> Any:
    """A saved value in the container that the attribute held before."""
    if isinstance(old, deque):
        return deque(value, maxlen=old.maxlen)
    return copy.deepcopy(value)  # the environment may change it in place


def _parts(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    found = [space]
    for inner in getattr(space, "spaces", {}).values() if isinstance(space, gym.spaces.Dict) else ():
        found += _parts(inner)
    for inner in space.spaces if isinstance(space, gym.spaces.Tuple) else ():
        found += _parts(inner)
    return found
