"""What every agent of ours adds to a Stable-Baselines3 object: full state, safe files, phases of the ledger."""

from __future__ import annotations

import hashlib
import random
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from qrl.agents.training_env import TrainingEnv
from qrl.errors import InputError
from qrl.ledger import phase


class Diverged(RuntimeError):
    """A trained parameter, or what a network makes of it, became NaN or infinite."""


class StatefulAgent:
    """Mixin, before a Stable-Baselines3 algorithm: ``state``/``set_state``, ``save``/``load``, ledger phases.

    State is taken where a rollout begins (``callback.on_rollout_start``): there an agent's future depends on nothing
    but its parameters, optimiser, counters, buffers, environments and generators, which are all in it.
    """

    spec: Any
    observation_space: Any
    action_space: Any
    _stats_window_size: int
    _counters: ClassVar[tuple[str, ...]] = (
        "num_timesteps",
        "_total_timesteps",
        "_num_timesteps_at_start",
        "_episode_num",
        "_n_updates",
        "_current_progress_remaining",
    )

    # ------------------------------------------------------------------ accounting

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> Any:
        """As Stable-Baselines3's, in the ledger's phase ``act``."""
        self.anneal()
        with phase("act"):
            return super().collect_rollouts(*args, **kwargs)  # type: ignore[misc]

    def train(self, *args: Any, **kwargs: Any) -> None:
        """As Stable-Baselines3's, in the ledger's phase ``learn``."""
        with phase("learn"):
            super().train(*args, **kwargs)  # type: ignore[misc]
        self.log_diagnostics()

    def anneal(self) -> None:
        """Set what a policy's head changes over the budget; called before a rollout, so that learning sees the same."""
        for head in getattr(getattr(self, "policy", None), "annealed", ()):
            head.anneal(self.num_timesteps / self._total_timesteps)  # type: ignore[attr-defined]

    def log_diagnostics(self) -> None:
        """Log what a policy has to say about its update."""
        tell = getattr(getattr(self, "policy", None), "diagnostics", dict)
        for name, value in tell().items():
            self.logger.record(name, value)  # type: ignore[attr-defined]

    @property
    def updates(self) -> int:
        """Optimiser steps taken."""
        optimizer = getattr(getattr(self, "policy", None), "optimizer", None)
        return 0 if optimizer is None else int(optimizer.updates)

    # ------------------------------------------------------------------ parameters

    def trained_parameters(self) -> dict[str, torch.nn.Parameter]:
        """What learning changes, by name; target networks are copies and not listed."""
        policy = getattr(self, "policy", None)
        if policy is None:
            return {}
        return {
            name: parameter
            for name, parameter in policy.named_parameters()
            if parameter.requires_grad and "_target." not in name
        }

    @property
    def parameters_sha256(self) -> str:
        """SHA-256 over name, dtype, shape and little-endian bytes of each trained tensor in name order."""
        digest = hashlib.sha256()
        for name, parameter in sorted(self.trained_parameters().items()):
            array = parameter.detach().cpu().contiguous().numpy()
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def diverged(self) -> bool:
        """Whether any trained value is NaN or infinite."""
        return not all(bool(torch.isfinite(p).all()) for p in self.trained_parameters().values())

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Whatever is drawn inside, the generators continue afterwards as if nothing had been."""
        before = _random_state()
        try:
            yield
        finally:
            _set_random_state(before)

    # ------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """The full state as torch tensors, NumPy arrays and JSON values."""
        policy = getattr(self, "policy", None)
        state: dict[str, Any] = {
            "counters": {name: getattr(self, name) for name in self._counters},
            "episodes": [[float(e["r"]), int(e["l"])] for e in (self.ep_info_buffer or [])],  # type: ignore[attr-defined]
            "last_obs": self._last_obs,  # type: ignore[attr-defined]
            "last_episode_starts": self._last_episode_starts,  # type: ignore[attr-defined]
            "random": _random_state(),
            "action_space": self.action_space.np_random.bit_generator.state,  # type: ignore[attr-defined]
        }
        if policy is not None:
            state["policy"] = dict(policy.state_dict())
            state["optimizer"] = _optimizer_state(policy.optimizer)
        env = getattr(self, "env", None)
        if isinstance(env, TrainingEnv):
            state["environment"] = env.state()
        return state

    def set_state(self, state: dict[str, Any], environment: bool = True) -> None:
        """Continue from what ``state`` returned.

        Args:
            state: from ``state``, of an agent of the same specification.
            environment: false keeps the environments as they are; the next ``learn`` then resets them.

        Raises:
            InputError: tensors of other names or shapes.
        """
        policy = getattr(self, "policy", None)
        if policy is not None:
            _check_tensors(state["policy"], policy.state_dict())
            policy.load_state_dict(state["policy"])
            _set_optimizer_state(policy.optimizer, state["optimizer"])
        for name, value in state["counters"].items():
            setattr(self, name, value)
        self.ep_info_buffer = deque(
            ({"r": r, "l": n} for r, n in state["episodes"]), maxlen=self._stats_window_size
        )  # type: ignore[attr-defined]
        self.ep_success_buffer: deque[Any] = deque(maxlen=self._stats_window_size)  # type: ignore[attr-defined]
        self.action_space.np_random.bit_generator.state = state["action_space"]  # type: ignore[attr-defined]
        env = getattr(self, "env", None)
        if environment and "environment" in state and isinstance(env, TrainingEnv):
            env.set_state(state["environment"])
            self._last_obs = state["last_obs"] if env.exact else env.buf_obs[None].copy()
            self._last_episode_starts = state["last_episode_starts"] if env.exact else env.lengths == 0
        else:
            self._last_obs = None
        _set_random_state(state["random"])

    # ------------------------------------------------------------------ files

    def save(self, path: str | Path, exclude: Any = None, include: Any = None) -> None:
        """Write a checkpoint folder (safetensors and JSON, hashed, atomic).

        ``exclude`` and ``include`` are accepted for Stable-Baselines3's signature and have no effect: a checkpoint is
        always complete.
        """
        from qrl.study.checkpoint import write_checkpoint

        env = self.env  # type: ignore[attr-defined]
        info = {"agent": self.spec.model_dump(mode="json"), "environment": getattr(env, "id", None)}
        write_checkpoint(Path(path), self.state(), info)

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: Any = None,
        device: Any = "auto",
        custom_objects: Any = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Rebuild an agent from a checkpoint folder written by ``save``.

        Args:
            path: the folder.
            env: environment (or its id) to continue in; by default the id stored with the agent.
            force_reset: true starts with a fresh episode, false in the middle of the stored one.
            device, custom_objects, print_system_info, kwargs: Stable-Baselines3's signature; unused.

        Raises:
            InputError: the folder does not verify, or belongs to another algorithm or other spaces.
        """
        from qrl.agents.build import build_agent
        from qrl.study.checkpoint import read_checkpoint

        state, manifest = read_checkpoint(Path(path))
        if "agent" not in manifest:
            raise InputError(
                "path",
                str(path),
                "is a run's checkpoint and holds no agent specification",
                "load one written by save",
            )
        agent = build_agent(manifest["agent"], env if env is not None else manifest["environment"])
        if cls not in (StatefulAgent, type(agent)) and not issubclass(type(agent), cls):
            raise InputError(
                "path",
                str(path),
                f"holds a {type(agent).__name__} agent",
                f"use qrl.{type(agent).__name__}.load",
            )
        agent.set_state(state, environment=not force_reset)
        return agent  # type: ignore[return-value]

    def export_sb3(self, path: str | Path) -> None:
        """Write Stable-Baselines3's own zip file (it contains pickled objects; whoever loads it runs its code)."""
        warnings.warn(
            "the exported zip contains pickled objects: load it only where you trust its origin",
            UserWarning,
            stacklevel=2,
        )
        super().save(path)  # type: ignore[misc]

    def import_sb3(self, path: str | Path) -> None:
        """Take parameters and optimiser from a zip file of ``export_sb3`` (this unpickles: trusted files only)."""
        warnings.warn(
            "reading a Stable-Baselines3 zip unpickles objects: use trusted files only",
            UserWarning,
            stacklevel=2,
        )
        self.set_parameters(str(path), exact_match=True)  # type: ignore[attr-defined]


def _random_state() -> dict[str, Any]:
    """The global generators that Stable-Baselines3 and torch draw from."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, keys, position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])


def _optimizer_state(optimizer: Any) -> dict[str, Any]:
    data = optimizer.state_dict()
    return {
        "updates": optimizer.updates,
        "rates": [group["lr"] for group in data["param_groups"]],
        "state": {str(index): dict(values) for index, values in data["state"].items()},
    }


def _set_optimizer_state(optimizer: Any, state: dict[str, Any]) -> None:
    data = optimizer.state_dict()
    for group, rate in zip(data["param_groups"], state["rates"], strict=True):
        group["lr"] = rate
    data["state"] = {int(index): values for index, values in state["state"].items()}
    optimizer.load_state_dict(data)
    optimizer.updates = state["updates"]


def _check_tensors(given: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        if name not in given:
            raise InputError(
                f"checkpoint.{name}",
                "nothing",
                "is stored for this tensor",
                "use an agent of the stored specification",
            )
        if given[name].shape != tensor.shape:
            raise InputError(
                f"checkpoint.{name}",
                tuple(given[name].shape),
                f"is not the shape {tuple(tensor.shape)}",
                "use an agent of the stored specification",
            )
