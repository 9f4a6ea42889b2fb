"""Random circuits of the whole description, and a dense torch reference that is apart from the backends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from circuits import Angle, Circuit, Gate, Observable, Term
from circuits.gates import FIXED_GATES

PAULIS = {
    "I": torch.eye(2, dtype=torch.complex128),
    "X": torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128),
    "Y": torch.tensor([[0, -1j], [1j, 0]], dtype=torch.complex128),
    "Z": torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128),
}
SQUASHES = {"none": lambda u: u, "tanh": torch.tanh, "arctan": torch.arctan}


@dataclass(frozen=True)
class Case:
    """A circuit with values: parameters ``(P,)``, features ``(N, F)``, upstream ``(N, n_observables)``."""

    circuit: Circuit
    observables: tuple[Observable, ...]
    parameters: torch.Tensor
    features: torch.Tensor
    upstream: torch.Tensor


@st.composite
def terms(draw: st.DrawFn, n_parameters: int, n_features: int) -> Term:
    index = draw(st.none() | st.integers(0, n_parameters - 1)) if n_parameters else None
    product = draw(st.lists(st.integers(0, n_features - 1), max_size=3)) if n_features else []
    coefficient = draw(st.sampled_from([1.0, 1.0, -0.5, 1.7]))
    return Term(coefficient, index, tuple(product), draw(st.sampled_from(["none", "none", "tanh", "arctan"])))


@st.composite
def gates(draw: st.DrawFn, n_qubits: int, n_parameters: int, n_features: int) -> Gate:
    order = draw(st.permutations(range(n_qubits)))
    fixed = [name for name, size in FIXED_GATES.items() if size <= n_qubits]
    if draw(st.integers(0, 2)) == 0:
        name = draw(st.sampled_from(fixed))
        return Gate(name, tuple(order[: FIXED_GATES[name]]))
    word = draw(st.text("XYZ", min_size=1, max_size=min(3, n_qubits)))
    summands = draw(st.lists(terms(n_parameters, n_features), max_size=3))
    angle = Angle(draw(st.sampled_from([0.0, 0.0, 0.3, -2.0])), tuple(summands))
    return Gate(f"R{word}", tuple(order[: len(word)]), angle)


@st.composite
def cases(draw: st.DrawFn, max_qubits: int = 6, samples: int = 2) -> Case:
    n_qubits = draw(st.integers(1, max_qubits))
    groups = draw(st.sampled_from([(), (("weights", 3),), (("weights", 4), ("scales", 2))]))
    n_parameters, n_features = sum(size for _, size in groups), draw(st.integers(0, 3))
    body = draw(st.lists(gates(n_qubits, n_parameters, n_features), max_size=14))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    state = None
    if draw(st.booleans()):
        amplitudes = generator.normal(size=(2, 2**n_qubits)).T @ np.array([1, 1j])
        state = tuple(amplitudes / np.linalg.norm(amplitudes))
    circuit = Circuit(n_qubits, tuple(body), n_features, groups, state)
    words = st.text("IXYZ", min_size=n_qubits, max_size=n_qubits)
    sums = st.lists(st.tuples(words, st.sampled_from([1.0, 0.5, -1.3])), min_size=1, max_size=3)
    observables = tuple(Observable(tuple(pairs)) for pairs in draw(st.lists(sums, min_size=1, max_size=3)))

    def values(*shape: int) -> torch.Tensor:
        return torch.as_tensor(generator.normal(size=shape))

    return Case(
        circuit,
        observables,
        values(n_parameters),
        values(samples, n_features),
        values(samples, len(observables)),
    )


def on_qubits(n_qubits: int, factors: dict[int, torch.Tensor]) -> torch.Tensor:
    """The matrix of one-qubit factors, qubit 0 least significant."""
    return reduce(torch.kron, (factors.get(q, PAULIS["I"]) for q in reversed(range(n_qubits))))


def fixed_matrix(n_qubits: int, gate: Gate) -> torch.Tensor:
    """A fixed gate from its definition in Paulis, up to no phase at all."""
    x, y, z, one = (PAULIS[name] for name in "XYZI")
    singles = {
        "H": (x + z) / 2**0.5,
        "X": x,
        "Y": y,
        "Z": z,
        "S": ((1 + 1j) * one + (1 - 1j) * z) / 2,
        "SDG": ((1 - 1j) * one + (1 + 1j) * z) / 2,
        "SX": ((1 + 1j) * one + (1 - 1j) * x) / 2,
        "SXDG": ((1 - 1j) * one + (1 + 1j) * x) / 2,
    }
    if gate.name in singles:
        return on_qubits(n_qubits, {gate.qubits[0]: singles[gate.name]})
    a, b = gate.qubits
    if gate.name == "SWAP":
        return sum(on_qubits(n_qubits, {a: p, b: p}) for p in PAULIS.values()) / 2
    idle, active = (one + z) / 2, (one - z) / 2
    return on_qubits(n_qubits, {a: idle}) + on_qubits(n_qubits, {a: active, b: PAULIS[gate.name[1]]})


def angle_value(angle: Angle, theta: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    total = torch.tensor(angle.constant, dtype=torch.float64)
    for term in angle.terms:
        inner = torch.ones((), dtype=torch.float64) if term.parameter is None else theta[term.parameter]
        for index in term.features:
            inner = inner * x[index]
        total = total + term.coefficient * SQUASHES[term.squash](inner)
    return total


def dense_expectations(
    circuit: Circuit, theta: torch.Tensor, features: torch.Tensor, observables: tuple[Observable, ...]
) -> torch.Tensor:
    """Expectation values by whole-register matrices, for torch to differentiate, ``(N, n_observables)``."""
    n = circuit.n_qubits
    rows = []
    for x in features:
        state = torch.zeros(2**n, dtype=torch.complex128)
        state[0] = 1
        if circuit.initial_state is not None:
            state = torch.tensor(circuit.initial_state, dtype=torch.complex128)
        for gate in circuit.gates:
            if gate.angle is None:
                state = fixed_matrix(n, gate) @ state
            else:
                letters = dict(zip(gate.qubits, (PAULIS[letter] for letter in gate.word), strict=True))
                half = angle_value(gate.angle, theta, x) / 2
                state = torch.cos(half) * state - 1j * torch.sin(half) * (on_qubits(n, letters) @ state)
        row = []
        for observable in observables:
            moved = sum(
                value * (on_qubits(n, {q: PAULIS[c] for q, c in enumerate(word)}) @ state)
                for word, value in observable.terms
            )
            row.append(torch.vdot(state, moved).real)
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.fixture(scope="session")
def case_strategy() -> Callable[..., st.SearchStrategy[Case]]:
    """The strategy of random cases, to be drawn from with ``st.data()``."""
    return cases


@pytest.fixture(scope="session")
def dense() -> Callable[..., torch.Tensor]:
    """The dense reference."""
    return dense_expectations
