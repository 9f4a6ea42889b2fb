"""The record schema `qrl-energy/1`: what one line of `ledger.jsonl` may say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

SCHEMA = "qrl-energy/1"

TRAINING_PHASES = ("environment", "act", "learn", "quantum", "transpile", "queue", "qpu")
"""The phases whose sum is the cost of training; the others are reported apart."""

PHASES = (*TRAINING_PHASES, "evaluate", "tune", "io", "ledger", "idle")
"""Every phase a process can be in."""

UNATTRIBUTED = "unattributed"
"""Record phase of energy that a counter saw and other processes used; it has no time of its own."""

KINDS = ("measured", "modelled", "assumed")
BOUNDARIES = ("dynamic", "gross", "facility")
DOMAINS = ("cpu_pkg", "dram", "gpu", "soc", "host", "wall")
COMPUTE_DOMAINS = ("cpu_pkg", "dram", "gpu")
"""Domains about which every record speaks: an energy, or the reason why there is none."""


def _number(name: str, value: Any, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: {value!r} is not a number; use a finite number >= 0")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: {value!r} is not finite and >= 0; write what is unknown as unavailable")


def _count(name: str, value: Any, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: {value!r} is not an integer; use an integer >= 0")
    if value < 0:
        raise ValueError(f"{name}: {value} is below 0; use an integer >= 0")


def _text(name: str, value: Any, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}: {value!r} is not a text; name it")


def _choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: {value!r} is unknown; use one of {', '.join(choices)}")


def _keys(name: str, data: Any, known: Sequence[str]) -> None:
    if not isinstance(data, Mapping):
        raise TypeError(f"{name}: {data!r} is not an object; write one with {', '.join(known)}")
    if len(data) == len(known) and all(key in data for key in known):
        return
    for problem, keys in (("missing", set(known) - set(data)), ("unknown", set(data) - set(known))):
        if keys:
            raise ValueError(
                f"{name}.{min(keys)}: the key is {problem}; schema {SCHEMA} has {', '.join(known)}"
            )


def check_identity(run_id: Any, seed: Any, agent: Any) -> None:
    """Refuse a run identity that no record could carry: `ValueError` or `TypeError` naming the field."""
    _text("run_id", run_id)
    _count("seed", seed)
    _text("agent", agent)


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one domain, with where it comes from.

    `joules` and its standard uncertainty `u_joules` in J; `kind` measured, modelled or assumed; `source` says
    by what (entries of one source share their systematic error); `boundary` dynamic (idle power taken off),
    gross, or facility (building included); `idle_joules` is the idle power's part of a gross figure, None
    when it is unknown. Raises `ValueError` or `TypeError` naming the field.

    Source: own construction.
    """

    domain: str
    joules: float
    u_joules: float
    kind: str
    source: str
    boundary: str = "gross"
    idle_joules: float | None = None

    def __post_init__(self) -> None:
        _choice("energy.domain", self.domain, DOMAINS)
        _number("energy.J", self.joules)
        _number("energy.u_J", self.u_joules)
        _choice("energy.kind", self.kind, KINDS)
        _text("energy.source", self.source)
        _choice("energy.boundary", self.boundary, BOUNDARIES)
        _number("energy.idle_J", self.idle_joules, optional=True)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the schema."""
        return {key: getattr(self, field) for key, field in _ENERGY_KEYS.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Energy:
        """The inverse of `to_dict`; raises `ValueError` for a missing or unknown key."""
        _keys("energy", data, _ENERGY_NAMES)
        return cls(**{field: data[key] for key, field in _ENERGY_KEYS.items()})


_ENERGY_KEYS = {
    "domain": "domain",
    "J": "joules",
    "u_J": "u_joules",
    "kind": "kind",
    "source": "source",
    "boundary": "boundary",
    "idle_J": "idle_joules",
}
_ENERGY_NAMES = tuple(_ENERGY_KEYS)


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A figure that could not be had, and why: never written as 0.

    `domain` is an energy domain that no meter could *measure* (a modelled entry may stand in for it) or the
    name of a field, such as `return_eval`.
    """

    domain: str
    reason: str

    def __post_init__(self) -> None:
        _text("unavailable.domain", self.domain)
        _text("unavailable.reason", self.reason)


@dataclass(frozen=True, slots=True)
class Quantum:
    """Quantum work of a record.

    `sim_executions` is what ran, `hw_executions` what a QPU would have run (with `grad_rule`), both circuits;
    `shots` and `jobs` counts; `n_qubits`, `depth`, `n1q`, `n2q` describe the circuit; `circuit_s` its
    duration and `rep_delay_s` the pause between shots, seconds; `mitigation_x` the multiplier of executions
    by error mitigation; `qpu_s` and `queue_s` billed and waiting seconds from a job's metadata. None where
    unknown or not applicable.
    """

    sim_executions: int = 0
    hw_executions: int = 0
    shots: int = 0
    jobs: int = 0
    n_qubits: int | None = None
    depth: int | None = None
    n1q: int | None = None
    n2q: int | None = None
    circuit_s: float | None = None
    rep_delay_s: float | None = None
    grad_rule: str | None = None
    mitigation_x: float | None = None
    backend: str | None = None
    qpu_s: float | None = None
    queue_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("sim_executions", "hw_executions", "shots", "jobs"):
            _count(f"q.{name}", getattr(self, name))
        for name in ("n_qubits", "depth", "n1q", "n2q"):
            _count(f"q.{name}", getattr(self, name), optional=True)
        for name in ("circuit_s", "rep_delay_s", "mitigation_x", "qpu_s", "queue_s"):
            _number(f"q.{name}", getattr(self, name), optional=True)
        for name in ("grad_rule", "backend"):
            _text(f"q.{name}", getattr(self, name), optional=True)


@dataclass(frozen=True, slots=True)
class Record:
    """One phase of one window: the line of `ledger.jsonl`.

    `window` is `(i0, i1)` in environment interactions of training; `wall_s`, `cpu_s` exclusive seconds of the
    phase, `gpu_s` None without a GPU meter. Counts stand in one record only, so records add up: interactions
    and episodes of training with phase "environment", updates with "learn", those of an evaluation with
    "evaluate". `return_eval` is the evaluation that closed the window, repeated in each of its records. Every
    domain of `COMPUTE_DOMAINS` has an energy or stands in `unavailable`. Raises `ValueError` or `TypeError`
    naming the field.

    Source: own construction.
    """

    run_id: str
    seed: int
    agent: str
    phase: str
    window: tuple[int, int]
    interactions: int = 0
    episodes: int = 0
    updates: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    gpu_s: float | None = None
    q: Quantum = Quantum()
    energy: tuple[Energy, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()
    return_eval: float | None = None

    def __post_init__(self) -> None:
        check_identity(self.run_id, self.seed, self.agent)
        _choice("phase", self.phase, (*PHASES, UNATTRIBUTED))
        for bound in self.window:
            _count("window", bound)
        if len(self.window) != 2 or self.window[0] > self.window[1]:
            raise ValueError(
                f"window: {list(self.window)} is not [i0, i1] with i0 <= i1; give both bounds in order"
            )
        for name in ("interactions", "episodes", "updates"):
            _count(name, getattr(self, name))
        for name in ("wall_s", "cpu_s"):
            _number(name, getattr(self, name))
        _number("gpu_s", self.gpu_s, optional=True)
        if self.return_eval is not None and not math.isfinite(self.return_eval):
            raise ValueError(
                f"return_eval: {self.return_eval} is not finite; use None and list it as unavailable"
            )
        self._check_domains()

    def _check_domains(self) -> None:
        domains = [entry.domain for entry in self.energy]
        explained = {entry.domain for entry in self.unavailable}
        for domain in set(domains):
            if domains.count(domain) > 1:
                raise ValueError(
                    f"energy.domain: {domain!r} appears twice in a record; keep one entry a domain"
                )
        for domain in COMPUTE_DOMAINS:
            if domain not in domains and domain not in explained:
                raise ValueError(
                    f"energy.domain: {domain!r} is silent; give an energy or list it as unavailable"
                )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the schema."""
        data: dict[str, Any] = {"schema": SCHEMA}
        data |= {field.name: getattr(self, field.name) for field in fields(self)}
        data["window"] = list(self.window)
        data["q"] = {field.name: getattr(self.q, field.name) for field in fields(self.q)}
        data["energy"] = [entry.to_dict() for entry in self.energy]
        data["unavailable"] = [{"domain": u.domain, "reason": u.reason} for u in self.unavailable]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """The inverse of `to_dict`; raises `ValueError` for another schema, a missing or an unknown key."""
        _keys("record", data, ("schema", *_RECORD_KEYS))
        if data["schema"] != SCHEMA:
            raise ValueError(
                f"schema: {data['schema']!r} is not {SCHEMA!r}; read it with the version that wrote it"
            )
        _keys("q", data["q"], _QUANTUM_KEYS)
        for entry in data["unavailable"]:
            _keys("unavailable", entry, ("domain", "reason"))
        values = {name: data[name] for name in _RECORD_KEYS}
        values["window"] = tuple(data["window"])
        values["q"] = Quantum(**data["q"])
        values["energy"] = tuple(Energy.from_dict(entry) for entry in data["energy"])
        values["unavailable"] = tuple(Unavailable(**entry) for entry in data["unavailable"])
        return cls(**values)


_QUANTUM_KEYS = tuple(field.name for field in fields(Quantum))
_RECORD_KEYS = tuple(field.name for field in fields(Record))
