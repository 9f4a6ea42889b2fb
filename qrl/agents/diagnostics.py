"""What goes on inside an agent while it learns: gradients by group, and the state of its circuits.

`Diagnostics` is a Stable-Baselines3 callback. It changes nothing: parameters, episodes and evaluations of a run are the
same bits with it and without it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from qrl.boltzmann import BoltzmannMachine
from qrl.layer import QuantumLayer
from qrl.ledger import phase

Plateau = Literal["none", "flat", "barren"]

DRAWS = 99
"""Random weights that a circuit is compared with; the false-alarm rate of "flat" is one in 1 + DRAWS."""
FLATNESS = 0.01
"""A circuit is flat only where its mean square gradient is below this share of the draws' median."""
SHOTS = 1000
"""A gradient is resolved where its mean square exceeds 1 / (2 SHOTS), the variance that so many shots a shift leave."""
MOST_BELOW = 61
"""Up to so many of 99 draws below that line are chance: more have probability 0.008 where half of all weights are."""
MAX_QUBITS = 12
"""For more qubits the circuit is not compared with random weights at all: that would take longer than learning."""
MAX_QUBITS_OF_STATES = 8
"""For more qubits expressibility and effective dimension, which take thousands of states, are left out."""

_STATES = 8
_STEEPNESS_STATES = 2
_EXPRESSIBILITY_STATES, _EXPRESSIBILITY_PAIRS = 2, 2000
_DIMENSION_DRAWS, _DIMENSION_STATES, _DIMENSION_DATA = 20, 4, 10_000
_STRIDE = 7
_PENDING = 64
_SEED = 7919


class Diagnostics(BaseCallback):
    """Records gradients and circuits at chosen interaction counts, to a file and to the agent's logger.

    A record covers the updates since the one before and has, by group (``<network>/<weights, scales, couplings, head or
    classical>``), the mean norm of the gradient that reached the optimiser (clipped, if the algorithm clips) and the
    variance of its components over the updates. Of each circuit it has, on the last states visited:

    ``meyer_wallach``: mean entanglement of its states; ``expressibility``: Kullback-Leibler divergence in nats of the
    fidelities at random weights and the present scales from the Haar ones; ``steepness``: mean square gradient of its
    observables by its weights, and ``steepness_random``, the median of that over 99 draws of random weights;
    ``plateau``; ``scale_drift`` and ``scale_drift_max``: mean and largest change of a scale since the start; and where
    asked for ``effective_dimension``, of the measured bit string in the weights, over their number.

    ``plateau`` is ``flat`` where the present weights are less steep than all 99 draws and 100 times less steep than
    their median: if they were no other than random ones, this would be so in at most 1 of 100 records. It is ``barren``
    where 62 or more draws have a gradient that 1000 shots a circuit do not resolve: if half of all weights or fewer
    were so, at most in 0.8 of 100. It is about the circuit: vanishing gradients of the loss also mark success.

    Args:
        looks: interaction counts at which to record, at the first rollout that begins there or later, 0 included; the
            end of training is always recorded.
        path: JSON-lines file to append to; none writes to the logger alone.
        effective_dimension: whether to estimate it too.

    Source: Meyer-Wallach, expressibility and effective dimension as in ``circuits.analysis``; barren plateaus,
    J. R. McClean et al., arXiv:1803.11173; the two tests are own constructions.
    """

    def __init__(
        self, looks: Iterable[int] = (), path: str | Path | None = None, effective_dimension: bool = False
    ) -> None:
        super().__init__()
        self.looks = sorted(looks)
        self.path = None if path is None else Path(path)
        self.effective_dimension = effective_dimension
        self._last_look = -1
        self._steps = 0
        self._seen: deque[np.ndarray] = deque(maxlen=_STATES)
        self._start: dict[str, np.ndarray] = {}
        self._gradients: dict[str, Moments] = {}
        self._handles: list[Any] = []

    # ------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """What a continued run needs, as arrays and JSON values."""
        return {
            "last_look": self._last_look,
            "steps": self._steps,
            "seen": [row.copy() for row in self._seen],
            "start": dict(self._start),
            "gradients": {name: moments.state() for name, moments in self._gradients.items()},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        self._last_look, self._steps = state["last_look"], state["steps"]
        self._seen = deque(state["seen"], maxlen=_STATES)
        self._start = dict(state["start"])
        self._gradients = {name: Moments(**moments) for name, moments in state["gradients"].items()}

    # ------------------------------------------------------------------ called by Stable-Baselines3

    def _on_training_start(self) -> None:
        policy = getattr(self.model, "policy", None)
        self._layers = {} if policy is None else circuits_of(policy)
        for name, layer in self._layers.items():
            if hasattr(layer, "scales"):
                self._start.setdefault(name, _array(layer.scales))
        groups = {} if policy is None else parameter_groups(policy)
        for optimizer in optimizers_of(policy):
            members = {id(p) for group in optimizer.param_groups for p in group["params"]}
            mine = {name: [p for p in ps if id(p) in members] for name, ps in groups.items()}
            self._watch(optimizer, {name: ps for name, ps in mine.items() if ps})
        if self.path is not None and self.path.exists():
            self._continue(self.path)

    def _watch(self, optimizer: torch.optim.Optimizer, groups: dict[str, list[nn.Parameter]]) -> None:
        for name, parameters in groups.items():
            self._gradients.setdefault(name, Moments(sum(p.numel() for p in parameters)))

        def before_step(*_: Any) -> None:
            for name, parameters in groups.items():
                self._gradients[name].add([p.grad for p in parameters])

        self._handles.append(optimizer.register_step_pre_hook(before_step))

    def _continue(self, path: Path) -> None:
        from qrl.study.results import read_lines, surviving

        self._append({"resume_from": self.model.num_timesteps})
        kept = surviving(read_lines(path))
        self._last_look = max((record["interactions"] for record in kept), default=-1)

    def _on_rollout_start(self) -> None:
        step = self.num_timesteps = self.model.num_timesteps
        if any(self._last_look < look <= step for look in self.looks):
            self.record()

    def _on_step(self) -> bool:
        self._steps += 1
        if self._steps % _STRIDE == 0:
            self._seen.append(np.array(self.model._last_obs[0]))  # type: ignore[attr-defined]
        return True

    def _on_training_end(self) -> None:
        self.num_timesteps = self.model.num_timesteps
        if self._last_look < self.num_timesteps:
            self.record()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    # ------------------------------------------------------------------ records

    def record(self) -> dict[str, Any]:
        """Record now and begin a new window; the record is returned."""
        with phase("evaluate"), self.model.undisturbed():  # type: ignore[attr-defined]
            told: dict[str, Any] = {
                "interactions": self.num_timesteps,
                "gradients": {name: moments.told() for name, moments in self._gradients.items()},
                "circuits": {
                    name: self._circuit(name, layer) for name, layer in self._circuits_seen().items()
                },
            }
        for moments in self._gradients.values():
            moments.clear()
        self._last_look = self.num_timesteps
        if self.path is not None:
            self._append(told)
        for kind in ("gradients", "circuits"):
            for name, numbers in told[kind].items():
                for key, value in numbers.items():
                    if isinstance(value, int | float):
                        self.logger.record(f"diagnostics/{name}/{key}", value)
        for name, numbers in told["circuits"].items():
            if "plateau" in numbers:
                self.logger.record(f"diagnostics/{name}/plateau", float(numbers["plateau"] != "none"))
        self.logger.dump(self.num_timesteps)
        return told

    def _append(self, record: dict[str, Any]) -> None:
        from qrl.study.run import Lines

        assert self.path is not None
        lines = Lines(self.path)
        try:
            lines.append(record)
        finally:
            lines.close()

    def _circuits_seen(self) -> dict[str, tuple[QuantumLayer, np.ndarray]]:
        """Each circuit with the features that it gets in the states visited last, ``(n, n_features)``."""
        rows = list(self._seen) or list(np.asarray(self.model._last_obs))[:_STATES]  # type: ignore[attr-defined]
        if not self._layers or not rows:
            return {}
        caught: dict[str, np.ndarray] = {}

        def catch(name: str, _: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            caught.setdefault(name, _array(inputs[0]))

        handles = [
            layer.register_forward_pre_hook(partial(catch, name)) for name, layer in self._layers.items()
        ]
        try:
            with torch.no_grad():
                _walk(self.model.policy, np.stack(rows))
        finally:
            for handle in handles:
                handle.remove()
        return {name: (self._layers[name], features) for name, features in caught.items()}

    def _circuit(self, name: str, seen: tuple[QuantumLayer, np.ndarray]) -> dict[str, Any]:
        from circuits import analysis

        layer, features = seen
        circuit = layer.circuit
        parameters = np.concatenate([_array(p) for p in layer._groups()] or [np.zeros(0)])
        told: dict[str, Any] = {
            "meyer_wallach": _finite(
                analysis.meyer_wallach(analysis.states(circuit, parameters, features)).mean()
            )
        }
        scales: Any = 1.0
        if name in self._start:
            scales = _array(layer.scales)
            drift = np.abs(scales - self._start[name])
            told |= {"scale_drift": _finite(drift.mean()), "scale_drift_max": _finite(drift.max())}
        if circuit.n_qubits <= MAX_QUBITS:
            told |= steepness(layer, parameters, features[:_STEEPNESS_STATES], scales)
        if circuit.n_qubits <= MAX_QUBITS_OF_STATES:
            found = analysis.expressibility(
                circuit,
                features[:_EXPRESSIBILITY_STATES],
                scales=scales,
                n_pairs=_EXPRESSIBILITY_PAIRS,
                seed=_SEED,
            )
            told["expressibility"] = _finite(found.mean())
            if self.effective_dimension:
                told["effective_dimension"] = _effective_dimension(layer, features, scales)
        return told


class Moments:
    """Sums over updates of one group's gradient: what its mean norm and the variance of its components need."""

    def __init__(
        self,
        size: int,
        count: int = 0,
        norms: float = 0.0,
        total: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        self.size, self.count, self.norms = size, count, norms
        self.total = np.zeros(size) if total is None else total
        self.squares = np.zeros(size) if squares is None else squares
        self._pending: list[list[torch.Tensor | None]] = []

    def add(self, gradients: list[torch.Tensor | None]) -> None:
        """Take one update's gradients. They are kept as they are, which costs nothing, and summed up in batches."""
        self._pending.append(gradients)
        if len(self._pending) >= _PENDING:
            self._sum()

    def _sum(self) -> None:
        whole = [g for g in self._pending if all(part is not None for part in g)]
        self._pending.clear()
        if not whole:
            return
        rows = torch.stack([torch.cat([part.reshape(-1) for part in g if part is not None]) for g in whole])
        array = rows.double().cpu().numpy()
        self.count += len(array)
        self.norms = float(_added(np.array(self.norms), np.sqrt((array**2).sum(axis=1))))
        self.total = _added(self.total, array)
        self.squares = _added(self.squares, array**2)

    def told(self) -> dict[str, float | int | None]:
        """Number of updates, mean norm, and variance over the updates, averaged over the components."""
        self._sum()
        if not self.count:
            return {"updates": 0, "norm": None, "variance": None}
        variance = self.squares / self.count - (self.total / self.count) ** 2
        return {
            "updates": self.count,
            "norm": _finite(self.norms / self.count),
            "variance": _finite(np.maximum(variance, 0.0).mean()),
        }

    def clear(self) -> None:
        """Begin anew."""
        self.count, self.norms = 0, 0.0
        self.total, self.squares = np.zeros(self.size), np.zeros(self.size)

    def state(self) -> dict[str, Any]:
        """The arguments that make it again."""
        self._sum()
        return {
            "size": self.size,
            "count": self.count,
            "norms": self.norms,
            "total": self.total,
            "squares": self.squares,
        }


def _added(before: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A sum that is continued row by row: the same bits wherever a run was stopped in between."""
    return np.add.accumulate(np.concatenate([before[None], rows]), axis=0)[-1]  # type: ignore[no-any-return]


def steepness(
    layer: QuantumLayer, parameters: np.ndarray, features: np.ndarray, scales: Any
) -> dict[str, Any]:
    """Mean square gradient of a layer's observables by its weights, now and at random weights, and the alarm.

    Args:
        layer: the layer.
        parameters: ``(n_parameters,)``, the present ones.
        features: ``(n, n_features)``, over which it is averaged.
        scales: of the random draws.
    """
    from circuits import analysis

    circuit = layer.circuit
    rows = _weights(circuit)
    if not circuit.n_parameters or rows.stop == rows.start:
        return {}
    drawn = analysis.sample_parameters(circuit, DRAWS, scales, _SEED)
    both = np.concatenate([parameters[None], drawn])
    found = analysis.gradients(
        circuit, layer.observables, np.repeat(both, len(features), axis=0), np.tile(features, (len(both), 1))
    )
    squares = (found[:, :, rows] ** 2).mean(axis=(1, 2)).reshape(len(both), -1).mean(axis=1)
    now, random = float(squares[0]), squares[1:]
    return {
        "steepness": _finite(now),
        "steepness_random": _finite(np.median(random)),
        "plateau": plateau(now, random),
    }


def plateau(now: float, random: Sequence[float] | np.ndarray) -> Plateau:
    """The alarm from the mean square gradient of the present weights and those of 99 random ones.

    Raises:
        ValueError: there are not 99 draws, for which the false-alarm rates hold.
    """
    draws = np.asarray(random)
    if draws.shape != (DRAWS,):
        raise ValueError(f"random: shape {draws.shape} does not fit; give {DRAWS} draws")
    if int((draws < 1.0 / (2.0 * SHOTS)).sum()) > MOST_BELOW:
        return "barren"
    return "flat" if now < draws.min() and now < FLATNESS * np.median(draws) else "none"


def _effective_dimension(layer: QuantumLayer, features: np.ndarray, scales: Any) -> float | None:
    from circuits import analysis

    rows = _weights(layer.circuit)
    drawn = analysis.sample_parameters(layer.circuit, _DIMENSION_DRAWS, scales, _SEED)
    fisher = analysis.fisher_information(layer.circuit, drawn, features[:_DIMENSION_STATES])[:, rows, rows]
    if fisher.size == 0 or not fisher.any():
        return None
    return _finite(analysis.effective_dimension(fisher, _DIMENSION_DATA) / fisher.shape[1])


def _weights(circuit: Any) -> slice:
    """Where the parameters that are not scales lie; they stand together in every family."""
    named = [circuit.group(name) for name, _ in circuit.groups if name != "scales"]
    return slice(named[0].start, named[-1].stop) if named else slice(0, 0)


def circuits_of(policy: nn.Module) -> dict[str, QuantumLayer]:
    """The circuits that a policy trains, by the name of their network; target networks are copies and left out."""
    found: dict[str, QuantumLayer] = {}
    for path, module in policy.named_modules():
        if isinstance(module, QuantumLayer) and "_target" not in path:
            found[_distinct(_network(path), found)] = module
    return found


def parameter_groups(policy: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Trained parameters by ``<network>/<group>``; what belongs to no circuit, machine or head is ``classical``."""
    found: dict[str, list[nn.Parameter]] = {}
    for path, module in policy.named_modules():
        if "_target" in path:
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                group = _group(path, name, module)
                found.setdefault(f"{_network(path)}/{group}", []).append(parameter)
    return found


def optimizers_of(policy: nn.Module | None) -> list[torch.optim.Optimizer]:
    """The optimisers of a policy and of the networks in it, each once."""
    modules = [] if policy is None else list(policy.modules())
    found = [getattr(module, "optimizer", None) for module in modules]
    return list({id(o): o for o in found if isinstance(o, torch.optim.Optimizer)}.values())


def _group(path: str, name: str, module: nn.Module) -> str:
    if isinstance(module, QuantumLayer):
        return "scales" if name == "scales" else "weights"
    if isinstance(module, BoltzmannMachine) and name in ("weights", "couplings"):
        return name
    return "head" if "head" in path.split(".") else "classical"


def _network(path: str) -> str:
    """The part of a policy that a module belongs to: actor, critic, or what its outermost module is called."""
    parts = path.split(".")
    return next((part for part in parts if part in ("actor", "critic")), parts[0] or "policy")


def _distinct(name: str, taken: Iterable[str]) -> str:
    names = set(taken)
    return next(n for n in (name, *(f"{name}_{k}" for k in range(2, len(names) + 3))) if n not in names)


def _walk(policy: Any, observations: np.ndarray) -> None:
    """Have a policy look at observations with all of its networks, for the sake of their hooks."""
    seen, _ = policy.obs_to_tensor(observations)
    actions = policy._predict(seen, deterministic=True)
    if hasattr(policy, "predict_values"):
        policy.predict_values(seen)
    critic = getattr(policy, "critic", None)
    if isinstance(critic, nn.Module):
        critic(seen, actions)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy().copy()


def _finite(value: Any) -> float | None:
    """A number that JSON can hold, None for NaN and infinities."""
    number = float(value)
    return number if math.isfinite(number) else None
