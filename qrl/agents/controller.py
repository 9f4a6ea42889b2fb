"""Adaptive controllers of ``baselines`` as Stable-Baselines3 algorithms: the opponents that operators use."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from baselines.adaptive_control import (
    AdaptiveController,
    KnownResponse,
    LeastSquares,
    RecursiveLeastSquares,
    SignController,
)
from baselines.bayesian_optimisation import BayesianOptimisation
from baselines.gaussian_process import GPMPC
from baselines.orbit_correction import OrbitCorrector
from qrl.agents.build import child_seed
from qrl.agents.stepping import SteppingAgent
from qrl.agents.training_env import TrainingEnv, Transform
from qrl.errors import InputError, nearest
from qrl.ledger import phase


class ControllerAgent(SteppingAgent):
    """A controller that learns from every transition of one environment, while it acts.

    The controller sees observations in the environment's own units, whatever the study's transform, and acts in
    [-1, 1], which is mapped to the action space's limits. ``learn`` explores; ``predict`` is what the controller would
    do now, ``deterministic`` or not.
    """

    _last_episode_starts: Any

    def __init__(self, env: TrainingEnv, controller: AdaptiveController) -> None:
        super().__init__(env)
        self.controller = controller
        self._learns = type(controller).observe is not AdaptiveController.observe

    @property
    def updates(self) -> int:
        """Transitions learnt from."""
        return self._n_updates

    def trained_parameters(self) -> dict[str, torch.nn.Parameter]:
        """What the controller has learnt, by name."""
        return {
            name: torch.nn.Parameter(torch.from_numpy(np.array(values)), requires_grad=False)
            for name, values in self.controller.parameters().items()
        }

    def state(self) -> dict[str, Any]:
        """As ``StatefulAgent.state``, with the controller's."""
        return {**super().state(), "controller": self.controller.state()}

    def set_state(self, state: dict[str, Any], environment: bool = True) -> None:
        """As ``StatefulAgent.set_state``."""
        super().set_state(state, environment)
        self.controller.set_state(state["controller"])

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """As ``StatefulAgent.undisturbed``; episodes of ``predict`` begin anew inside."""
        self.controller.restart()
        with super().undisturbed():
            try:
                yield
            finally:
                self.controller.restart()

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Actions for observations of a batch, or a single one; the controller neither learns nor probes."""
        if episode_start is not None and np.all(episode_start):
            self.controller.restart()
        return self._to_environment(self.controller.action(self._readings(observation))), None

    def _step(self) -> tuple[np.ndarray, list[dict[str, Any]]]:
        before = self._readings(self._last_obs[0])
        with phase("act"):
            if self._last_episode_starts[0]:
                self.controller.begin(before)
            action = self.controller.explore(before)
            self._last_obs, _, dones, infos = self.env.step(self._to_environment(action)[None])
        self._last_episode_starts = dones
        self.num_timesteps += 1
        after = infos[0]["terminal_observation"] if dones[0] else self._last_obs[0]
        with phase("learn"):
            self.controller.observe(before, action, self._readings(after))
        self._n_updates += self._learns
        return dones, infos

    def _readings(self, observations: Any) -> np.ndarray:
        """Observations in the environment's units: the study's transform undone."""
        transform: Transform | None = self.env._transform
        seen = np.asarray(observations, dtype=np.float64)
        if transform is None:
            return seen
        if transform.kind == "arctan":
            # in single precision arctan of a large number may be above pi / 2
            limit = 0.5 * math.pi - 1e-7
            return np.tan(np.clip(seen, -limit, limit))
        low, high = transform.space.low.astype(np.float64), transform.space.high.astype(np.float64)
        return low + 0.5 * (seen + 1.0) * (high - low)

    def _to_environment(self, action: Any) -> np.ndarray:
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return np.asarray(action, dtype=np.int64)
        assert isinstance(space, spaces.Box)
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        scaled = low + 0.5 * (np.asarray(action).reshape(-1, *low.shape) + 1.0) * (high - low)
        return scaled.reshape(np.shape(action)[:-1] + low.shape).astype(space.dtype)


def build_controller(spec: Any, env: TrainingEnv, seed: int) -> ControllerAgent:
    """Build the agent around the controller ``spec.controller`` with the keywords ``spec.options``.

    Args:
        spec: has ``controller``, a key of ``CONTROLLERS``, and ``options``, a mapping.
        env: one environment; the ``svd`` controllers take the response matrix from its beam line.
        seed: of probes and random phases.

    Raises:
        InputError: an unknown controller or option, or a controller that cannot act in this environment.
        ValueError, TypeError: an option out of range; the message names it.
    """
    if spec.controller not in CONTROLLERS:
        raise InputError("controller", spec.controller, "is not known", nearest(spec.controller, CONTROLLERS))
    if env.num_envs != 1:
        raise InputError("env", f"{env.num_envs} environments", "are too many", "a controller learns in one")
    space = env.observation_space
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise _cannot_act(spec.controller, env, f"observations {space}", "use another environment")
    return ControllerAgent(env, CONTROLLERS[spec.controller](spec, env, child_seed(seed, "agent")))


Builder = Callable[[Any, TrainingEnv, int], AdaptiveController]


def _learner(kind: Callable[..., AdaptiveController], alternatives: bool) -> Builder:
    """A controller that identifies any system; ``alternatives``: it can choose among discrete actions too."""

    def build(spec: Any, env: TrainingEnv, seed: int) -> AdaptiveController:
        action = env.action_space
        discrete = isinstance(action, spaces.Discrete)
        if discrete and not alternatives:
            raise _cannot_act(spec.controller, env, f"actions {action}", "use rls")
        n_actions = int(action.n) if isinstance(action, spaces.Discrete) else spaces.flatdim(action)
        kinds = {"discrete": discrete} if alternatives else {}
        readings = spaces.flatdim(env.observation_space)
        return _make(kind, spec, n_readings=readings, n_actions=n_actions, seed=seed, **kinds)

    return build


def _known(**fixed: Any) -> Builder:
    """The operator's corrector, with the response matrix of the environment's beam line.

    The option ``response`` is ``true`` (that of the machine as it is before any drift) or ``model`` (that of the optics
    table, without the machine's model error).
    """

    def build(spec: Any, env: TrainingEnv, seed: int) -> AdaptiveController:
        from environments.awake_steering import KICK_STEP, AwakeSteeringLine
        from environments.target_steering import TargetSteeringLine

        which = spec.options.get("response", "true")
        if which not in ("true", "model"):
            raise InputError("options.response", which, "is not known", "use 'true' or 'model'")
        line: Any = getattr(env.envs[0].unwrapped, "line", None)
        if isinstance(line, AwakeSteeringLine):
            matrix = np.array(line.response_at(0) if which == "true" else line.optics.response)
            if line.options.missing_bpm is not None:
                matrix[line.options.missing_bpm] = 0.0
            known = {"action_scale": KICK_STEP, "observation_scale": 1.0 / line.options.state_scale}
        elif isinstance(line, TargetSteeringLine) and not line.binary:
            matrix = np.array([[line.m12_bpm]])
            known = {"increments": line.increments[: line.n_actions]}
        else:
            raise _cannot_act(spec.controller, env, "readings of unknown response", "use rls")

        def corrector(response: str = "true", **options: Any) -> KnownResponse:
            return KnownResponse(OrbitCorrector(matrix, **options))

        options = set(inspect.signature(OrbitCorrector).parameters) - {"response"}
        return _make(corrector, spec, options | {"response"}, **known, **fixed)

    return build


def _sign(spec: Any, env: TrainingEnv, seed: int) -> AdaptiveController:
    space = env.action_space
    if not isinstance(space, spaces.Discrete):
        raise _cannot_act(spec.controller, env, f"actions {space}", "use svd")
    controller: Any = _make(SignController, spec)
    for name in ("down", "up"):
        if getattr(controller, name) >= space.n:
            index = getattr(controller, name)
            raise InputError(f"options.{name}", index, "is no action here", f"use 0 to {space.n - 1}")
    return controller


CONTROLLERS: dict[str, Builder] = {
    "rls": _learner(RecursiveLeastSquares, alternatives=True),
    "least_squares": _learner(LeastSquares, alternatives=True),
    "svd": _known(),
    "svd_one_mode": _known(n_modes=1),
    "gp_mpc": _learner(GPMPC, alternatives=False),
    "bayesian_optimisation": _learner(BayesianOptimisation, alternatives=False),
    "sign": _sign,
}
"""What builds each controller, by name."""


def _make(
    kind: Callable[..., AdaptiveController], spec: Any, options: set[str] | None = None, /, **given: Any
) -> AdaptiveController:
    """``kind`` with what is given and the specification's options, which are keywords of it, or ``options``."""
    known = (set(inspect.signature(kind).parameters) if options is None else options) - set(given)
    for name in spec.options:
        if name not in known:
            why = f"is not an option of {spec.controller}"
            raise InputError("options", name, why, nearest(name, known) if known else "remove it")
    return kind(**given, **spec.options)


def _cannot_act(controller: str, env: TrainingEnv, why: str, fix: str) -> InputError:
    return InputError("controller", controller, f"cannot act in {env.id} with {why}", fix)
