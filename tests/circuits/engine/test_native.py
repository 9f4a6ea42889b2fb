"""The native backend: each engine, instruction set and precision against Qiskit, the torch backend and closed forms."""

from __future__ import annotations

import copy
import gc
import itertools
import math
import multiprocessing
import pickle
import subprocess
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qiskit.quantum_info import Statevector

import qrl
from circuits import Angle, Circuit, Gate, Observable, Term, reuploading
from circuits.backends import native as module
from circuits.backends.native import NativeBackend
from circuits.backends.torch import TorchBackend
from circuits.engine import build
from circuits.export import observable_to_qiskit, to_qiskit

pytestmark = pytest.mark.engine

RANDOM = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
FEW = settings(RANDOM, max_examples=40)
BATCHES = (1, 3, 16, 17, 40)
DTYPES = (torch.float32, torch.float64)
FINITE_MESSAGE = "^features: a value is not finite; use finite numbers$"


@dataclass(frozen=True)
class Problem:
    """A request in float64 whose parameters and features are exact in float32 as well."""

    circuit: Circuit
    observables: tuple[Observable, ...]
    parameters: torch.Tensor
    features: torch.Tensor
    upstream: torch.Tensor

    @property
    def norm(self) -> float:
        """A bound of what any observable can give: the largest sum of coefficients."""
        return max(sum(abs(c) for _, c in observable.terms) for observable in self.observables)

    def ask(self, backend, dtype=torch.float64, differentiate=True):
        """The answer of a backend in a precision."""
        parameters, features = self.parameters.to(dtype), self.features.to(dtype)
        return backend.expectations(
            self.circuit, parameters, features, self.observables, differentiate=differentiate
        )


def problem(circuit, observables, samples, *, per_sample=False, seed=0, upstream=None):
    """A problem with random parameters in [-pi, pi] and features in [-1.5, 1.5]."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(bound, *shape):
        return ((torch.rand(*shape, generator=generator) * 2 - 1) * bound).double()

    parameters = uniform(math.pi, *([samples] if per_sample else []), circuit.n_parameters)
    features = uniform(1.5, samples, circuit.n_features)
    if upstream is None:
        upstream = uniform(1, samples, len(observables))
    return Problem(circuit, tuple(observables), parameters, features, upstream)


@st.composite
def problems(draw, cases, batches=BATCHES):
    """Random circuits of the whole description, words of four qubits among them, in a random kind of batch."""
    case = draw(cases(max_qubits=8))
    circuit = case.circuit
    if circuit.n_qubits >= 4 and draw(st.booleans()):
        letters = draw(st.text("XYZ", min_size=4, max_size=4))
        qubits = tuple(draw(st.permutations(range(circuit.n_qubits)))[:4])
        angles = [gate.angle for gate in circuit.gates if gate.is_rotation]
        word = Gate(f"R{letters}", qubits, draw(st.sampled_from([Angle(0.4), *angles])))
        place = draw(st.integers(0, len(circuit.gates)))
        circuit = replace(circuit, gates=(*circuit.gates[:place], word, *circuit.gates[place:]))
    samples, per_sample = draw(st.sampled_from(batches)), draw(st.booleans())
    seed = draw(st.integers(0, 2**32 - 1))
    return problem(circuit, case.observables, samples, per_sample=per_sample, seed=seed)


def parse(n_qubits, *specs):
    """Observables on some qubits."""
    return tuple(Observable.parse(spec, n_qubits) for spec in specs)


def close(actual, wanted, bound, note=""):
    """Assert that no value is further away than the bound."""
    torch.testing.assert_close(
        actual.double(), wanted, rtol=0, atol=bound, msg=lambda text: f"{note}: {text}"
    )


def turned(angle, *, word="X", n_qubits=1, n_features=0, groups=()):
    """A circuit of one rotation."""
    return Circuit(n_qubits, (Gate(f"R{word}", tuple(range(len(word))), angle),), n_features, groups)


# ---- every circuit of the description ------------------------------------------------------------------


@FEW
@given(data=st.data())
def test_values_are_qiskits(data, case_strategy, natives):
    case = data.draw(problems(case_strategy, batches=(3,)))
    theta = np.broadcast_to(case.parameters.numpy(), (3, case.circuit.n_parameters))
    operators = [observable_to_qiskit(observable) for observable in case.observables]
    wanted = []
    for parameters, features in zip(theta, case.features.numpy(), strict=True):
        state = Statevector(to_qiskit(case.circuit, parameters, features))
        wanted.append([state.expectation_value(operator).real for operator in operators])
    wanted = torch.tensor(wanted, dtype=torch.float64)
    for backend in natives.values():
        close(case.ask(backend, differentiate=False).values, wanted, 1e-12 * max(1, case.norm))


@st.composite
def layered(draw):
    """Layers with something on most qubits, which random gates seldom make, at angles where matrices lose parts."""
    n_qubits = draw(st.integers(4, 10))
    kinds = st.sampled_from(["weight", "weight", "scaled", "feature", "constant", "tanh"])
    gates, n_parameters = [], 0
    for _ in range(draw(st.integers(1, 3))):
        axes = draw(st.text("XYZ", min_size=1, max_size=3))
        for qubit in range(n_qubits):
            if draw(st.integers(0, 9)) == 0:
                continue
            if draw(st.integers(0, 4)) == 0:
                gates.append(Gate(draw(st.sampled_from(["H", "S", "SX", "X"])), (qubit,)))
            for axis in axes:
                kind = draw(kinds)
                angle = {
                    "weight": Angle(0.0, (Term(1.0, n_parameters),)),
                    "scaled": Angle(0.1, (Term(1.0, n_parameters, (qubit % 2,)),)),
                    "feature": Angle(0.0, (Term(0.7, None, (0,)), Term(1.0, None, (1,)))),
                    "constant": Angle(0.5),
                    "tanh": Angle(0.0, (Term(1.0, n_parameters, (0, 1), "tanh"),)),
                }[kind]
                n_parameters += kind in ("weight", "scaled", "tanh")
                gates.append(Gate(f"R{axis}", (qubit,), angle))
        name = draw(st.sampled_from(["CZ", "CX", "CY", "RZZ", "none"]))
        for qubit in range(n_qubits if name != "none" else 0):
            pair = (qubit, (qubit + 1) % n_qubits)
            gates.append(Gate(name, pair, Angle(0.3)) if name == "RZZ" else Gate(name, pair))
    groups = (("weights", n_parameters),) if n_parameters else ()
    words = draw(st.lists(st.text("IIZZXY", min_size=n_qubits, max_size=n_qubits), min_size=1, max_size=3))
    diagonal = draw(st.booleans())
    words = [word.replace("X", "Z").replace("Y", "I") if diagonal else word for word in words]
    case = problem(
        Circuit(n_qubits, tuple(gates), 2, groups),
        parse(n_qubits, *words),
        draw(st.sampled_from([1, 3, 17])),
        per_sample=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    special = draw(
        st.sampled_from([(), (0.0,), (0.0, math.pi, -math.pi / 2, math.pi / 2, 2 * math.pi, 1e-20, 1e-7)])
    )
    if special:
        pick = torch.randint(
            len(special), case.parameters.shape, generator=torch.Generator().manual_seed(n_parameters)
        )
        case = replace(case, parameters=torch.tensor(special).double()[pick])
        if draw(st.booleans()):
            case = replace(case, features=torch.zeros_like(case.features))
    return case


def agree_with_torch(case, backends, keep):
    """Check values, gradients and counts in both precisions.

    In float32 within 2e-6 of the norm of the observables, and 2e-5 of the largest gradient. Where all gradients
    are small, the scale is what they are sums of: upstream times norm. Beyond 32 gates the bounds grow with the
    root of their number, as rounding errors do that are independent.
    """
    many = max(1.0, len(case.circuit.gates) / 32) ** 0.5
    wanted = case.ask(TorchBackend())
    product = wanted.vjp(case.upstream)
    gradients = torch.cat((product.parameters.flatten(), product.features.flatten(), torch.zeros(1)))
    scale = max(float(gradients.abs().max()), float(case.upstream.abs().max()) * case.norm)
    with patch.multiple(module, _SAVED_BYTES=2**40 if keep else 0, _SAVED_WORK=0):
        for (name, backend), dtype in itertools.product(backends.items(), DTYPES):
            result = case.ask(backend, dtype)
            ours = result.vjp(case.upstream.to(dtype))
            double = dtype == torch.float64
            note = f"{name} {dtype}"
            assert result.values.dtype == ours.parameters.dtype == ours.features.dtype == dtype, note
            bound = 1e-12 * max(1, case.norm) if double else 2e-6 * many * case.norm
            close(result.values, wanted.values, bound, note)
            bound = 1e-10 if double else 2e-5 * many * scale
            close(ours.parameters, product.parameters, bound, note)
            close(ours.features, product.features, bound, note)
            for mine, theirs in ((result.usage, wanted.usage), (ours.usage, product.usage)):
                assert replace(mine, seconds=0) == replace(theirs, seconds=0), note


@RANDOM
@given(data=st.data(), keep=st.booleans())
def test_values_gradients_and_counts_are_those_of_torch(data, keep, case_strategy, natives):
    agree_with_torch(data.draw(problems(case_strategy)), natives, keep)


@settings(RANDOM, max_examples=80)
@given(case=layered(), keep=st.booleans())
def test_dense_layers_are_those_of_torch(case, keep, natives):
    agree_with_torch(case, natives, keep)


WIDE_OPTIONS = [
    {},
    {"order": "variational-first", "final_layer": True, "rotations": ("RX", "RY", "RZ"), "squash": "tanh"},
    {"encoding": ("RY", "RZ"), "rotations": ("RZ", "RY"), "entangling_gate": "CX", "squash": "arctan"},
    {"entangling_gate": "CY", "entangler": "all"},
]


@pytest.mark.parametrize("n_qubits", range(1, 12))
@pytest.mark.parametrize("options", WIDE_OPTIONS)
def test_ansatz_circuits_of_every_width(n_qubits, options, natives):
    """Wide registers need every number of qubits in a pass, and "auto" changes the engine on the way."""
    measured = parse(
        n_qubits,
        "Z" * n_qubits,
        "Z" + "I" * (n_qubits - 1),
        {"I" * (n_qubits - 1) + "X": 0.5, "Y" * n_qubits: -1.5},
    )
    case = problem(reuploading(n_qubits, 2, **options), measured, 5, per_sample=n_qubits % 2 == 0)
    wanted = case.ask(TorchBackend())
    product = wanted.vjp(case.upstream)
    scale = float(max(product.parameters.abs().max(), product.features.abs().max(), case.norm))
    for backend in (NativeBackend(), *natives.values()):
        result = case.ask(backend)
        ours = result.vjp(case.upstream)
        close(result.values, wanted.values, 1e-12 * case.norm)
        close(ours.parameters, product.parameters, 1e-10)
        close(ours.features, product.features, 1e-10)
        single = case.ask(backend, torch.float32)
        close(single.values, wanted.values, 2e-6 * case.norm)
        close(single.vjp(case.upstream.float()).parameters, product.parameters, 2e-5 * scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_fixed_gate_on_every_pair_of_qubits(native, dtype, dense):
    start = tuple(Gate("RXYZ"[:2] if q == 0 else "RY", (q,), Angle(0.3 + q)) for q in range(5))
    measured = parse(5, "XYZIX", "ZZIYI", "IYXZZ", "YIZXY", "IIZIZ")
    none, x = torch.zeros(0, dtype=dtype), torch.zeros(1, 0, dtype=dtype)
    for name, pair in itertools.product(("CX", "CY", "CZ", "SWAP"), itertools.permutations(range(5), 2)):
        circuit = Circuit(5, (*start, Gate(name, pair), *start))
        values = native.expectations(circuit, none, x, measured).values
        wanted = dense(circuit, none.double(), x.double(), measured)
        close(values, wanted, 1e-13 if dtype == torch.float64 else 1e-6)


# ---- edges ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_sample", [False, True])
def test_an_empty_batch(native, per_sample):
    circuit = reuploading(2, 2)
    case = problem(circuit, parse(2, "ZI", "XX"), 0, per_sample=per_sample)
    result = case.ask(native)
    assert result.values.shape == result.standard_errors.shape == (0, 2)
    product = result.vjp(torch.ones(0, 2, dtype=torch.float64))
    assert product.parameters.shape == case.parameters.shape
    assert product.features.shape == (0, 2)
    assert not product.parameters.any()
    assert (result.usage.executions, product.usage.executions) == (0, 0)
    drawn = native.expectations(circuit, case.parameters, case.features, case.observables, 10, 1)
    assert drawn.values.shape == drawn.errors.shape == (0, 2)


def test_circuits_without_gates_parameters_or_features(native):
    none = torch.zeros(0, dtype=torch.float64)
    empty = torch.zeros(3, 0, dtype=torch.float64)
    for n_qubits in (1, 2, 5):
        word = "Z" * n_qubits
        measured = parse(n_qubits, word, "X" + "I" * (n_qubits - 1), {"I" * n_qubits: 0.25, word: 2.0})
        result = native.expectations(Circuit(n_qubits, ()), none, empty, measured, differentiate=True)
        assert result.values.tolist() == [[1.0, 0.0, 2.25]] * 3
        product = result.vjp(torch.ones(3, 3, dtype=torch.float64))
        assert (product.parameters.shape, product.features.shape) == ((0,), (3, 0))
    gates = (Gate("H", (0,)), Gate("RZ", (0,), Angle(0.3)), Gate("H", (0,)))
    values = native.expectations(Circuit(1, gates), none, empty, parse(1, "Z")).values
    close(values, torch.full((3, 1), math.cos(0.3), dtype=torch.float64), 1e-15)


def test_inputs_that_no_gate_uses_have_no_gradient(native):
    circuit = Circuit(2, (Gate("H", (0,)), Gate("CZ", (0, 1))), 3, (("weights", 2),))
    case = problem(circuit, parse(2, "ZI", "XI"), 17)
    product = case.ask(native).vjp(case.upstream)
    assert not product.parameters.any()
    assert not product.features.any()


def test_an_initial_state_without_gates(native):
    amplitudes = np.array([0.6, 0, 0.8j, 0])
    circuit = Circuit(2, (), initial_state=tuple(amplitudes))
    none = torch.zeros(0, dtype=torch.float64)
    values = native.expectations(
        circuit, none, torch.zeros(2, 0, dtype=torch.float64), parse(2, "IZ", "IY", "XI")
    ).values
    close(values, torch.tensor([[0.36 - 0.64, 2 * 0.6 * 0.8, 0]] * 2, dtype=torch.float64), 1e-15)


def test_powers_of_a_feature(native):
    """<Z> of a rotation by t x^3 is cos(t x^3), and its slope in x is right at x = 0 as well."""
    circuit = turned(Angle(0.0, (Term(1.0, 0, (0, 0, 0)),)), n_features=1, groups=(("weights", 1),))
    x = torch.tensor([[0.0], [0.7], [-1.3]], dtype=torch.float64)
    theta = torch.tensor([1.9], dtype=torch.float64)
    result = native.expectations(circuit, theta, x, parse(1, "Z"), differentiate=True)
    close(result.values, torch.cos(1.9 * x**3), 1e-15)
    product = result.vjp(torch.ones(3, 1, dtype=torch.float64))
    slope = -torch.sin(1.9 * x**3)
    close(product.features, slope * 3 * 1.9 * x**2, 1e-14)
    close(product.parameters, (slope * x**3).sum(0), 1e-14)


def angles_of_all_sizes():
    """Angles from 1e-8 to 1e9, densely where the kernel's own sine hands over to the library's."""
    generator = np.random.default_rng(0)
    spread = 10 ** generator.uniform(-8, 9, 2000)
    near = [limit + step for limit in (8192.0, 16384.0, 1e5, 2e5) for step in np.linspace(-2, 2, 81)]
    multiples = np.pi / 4 * generator.integers(0, 10**6, 500)
    exact = [0.0, 1e4, 1e6, 1e8, 2.0**31, 2.0**32, 2.0**52]
    sizes = np.concatenate((spread, near, multiples, exact))
    return torch.tensor(sizes * generator.choice([-1, 1], len(sizes)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_angles_of_all_sizes_are_those_of_libm(native, dtype):
    angles = angles_of_all_sizes().to(dtype)
    exact = angles.double().numpy()
    wanted = torch.tensor(np.stack((np.cos(exact), -np.sin(exact)), axis=1))
    bound = 1e-15 if dtype == torch.float64 else 5e-7
    measured = parse(1, "Z", "Y")
    by_feature = turned(Angle(0.0, (Term(1.0, None, (0,)),)), n_features=1)
    values = native.expectations(by_feature, torch.zeros(0, dtype=dtype), angles[:, None], measured).values
    close(values, wanted, bound)
    by_parameter = turned(Angle(0.0, (Term(1.0, 0),)), groups=(("weights", 1),))
    empty = torch.zeros(1, 0, dtype=dtype)
    for index in range(0, len(angles), 7):
        values = native.expectations(by_parameter, angles[index : index + 1], empty, measured).values
        close(values, wanted[index : index + 1], bound)


def test_large_angles_in_a_circuit_are_qiskits(native):
    case = problem(reuploading(3, 2), parse(3, "ZZI", "XIY"), 4)
    for factor in (1e4, 1e6, 1e8):
        theta, x = case.parameters * factor, case.features * factor
        values = native.expectations(case.circuit, theta, x, case.observables).values
        for row, features in zip(values, x.numpy(), strict=True):
            state = Statevector(to_qiskit(case.circuit, theta.numpy(), features))
            wanted = [state.expectation_value(observable_to_qiskit(o)).real for o in case.observables]
            close(row, torch.tensor(wanted, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_features_that_are_not_finite_are_refused(native, dtype, bad):
    case = problem(reuploading(2, 1), parse(2, "ZI"), 17)
    for row, column, shots in itertools.product((0, 15, 16), (0, 1), (None, 5)):
        x = case.features.to(dtype).clone()
        x[row, column] = bad
        with pytest.raises(ValueError, match=FINITE_MESSAGE):
            native.expectations(case.circuit, case.parameters.to(dtype), x, case.observables, shots, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_finite_features_pass(native, dtype):
    x = torch.tensor([[1e30, -1e30], [1e38, 1e38]], dtype=dtype)
    circuit = Circuit(2, (Gate("RX", (0,), Angle(0.0, (Term(1.0, None, (0,), "tanh"),))),), 2)
    values = native.expectations(circuit, torch.zeros(0, dtype=dtype), x, parse(2, "ZI")).values
    close(values, torch.full((2, 1), math.cos(1.0), dtype=torch.float64), 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_that_are_not_finite_give_nan(native, dtype):
    """A diverged network shows NaN and is not refused; with its own parameters, a sample keeps it for itself."""
    case = problem(reuploading(2, 2), parse(2, "ZI", "XX"), 17)
    theta = case.parameters.to(dtype, copy=True)
    theta[3] = math.nan
    x, upstream = case.features.to(dtype), case.upstream.to(dtype)
    result = native.expectations(case.circuit, theta, x, case.observables, differentiate=True)
    assert result.values.isnan().all()
    assert result.vjp(upstream).parameters.isnan().any()
    theta = case.parameters.to(dtype).repeat(17, 1)
    theta[5, 3] = math.nan
    result = native.expectations(case.circuit, theta, x, case.observables, differentiate=True)
    product = result.vjp(upstream)
    for rows in (result.values, product.parameters, product.features):
        assert rows.isnan().any(dim=1).nonzero().tolist() == [[5]]


def test_observables_of_identities_repeated_words_and_sums(native):
    case = problem(
        reuploading(3, 1),
        parse(
            3,
            "III",
            {"III": -0.3, "ZII": 2.0},
            Observable((("ZII", 1.0), ("XYZ", 0.5), ("ZII", 0.25))),
            Observable((("ZII", 1.0), ("ZII", -1.0))),
            {"ZZZ": 0.0},
            "ZII",
            "ZII",
            "XYZ",
        ),
        3,
    )
    result = case.ask(native)
    one, z, word = result.values[:, 0], result.values[:, 5], result.values[:, 7]
    close(one, torch.ones(3, dtype=torch.float64), 1e-14)
    close(result.values[:, 1], -0.3 * one + 2 * z, 1e-14)
    close(result.values[:, 2], 1.25 * z + 0.5 * word, 1e-14)
    assert not result.values[:, 3:5].any()
    assert torch.equal(result.values[:, 6], z)
    close(
        result.vjp(torch.eye(8, dtype=torch.float64)[[0, 3, 4]]).features, torch.zeros(3, 3).double(), 1e-14
    )


@pytest.mark.parametrize("per_sample", [False, True])
def test_tensors_may_have_any_layout(native, per_sample):
    case = problem(reuploading(3, 2), parse(3, "ZII", "IXY"), 17, per_sample=per_sample)
    wanted = case.ask(native)
    gradient = wanted.vjp(case.upstream)

    def scattered(tensor):
        wide = torch.full((*tensor.shape, 2), math.nan, dtype=tensor.dtype)
        wide[..., 0] = tensor
        return wide[..., 0] if tensor.ndim == 1 else wide[..., 0].T.contiguous().T

    moved = replace(case, parameters=scattered(case.parameters), features=scattered(case.features))
    assert not moved.features.is_contiguous()
    assert not moved.parameters.is_contiguous()
    result = moved.ask(native)
    product = result.vjp(scattered(case.upstream))
    assert torch.equal(result.values, wanted.values)
    assert torch.equal(product.parameters, gradient.parameters)
    assert torch.equal(product.features, gradient.features)


def test_an_upstream_of_another_precision(native):
    case = problem(reuploading(2, 2), parse(2, "ZI"), 5)
    result = case.ask(native, torch.float32)
    product, wanted = result.vjp(case.upstream.float().double()), result.vjp(case.upstream.float())
    assert product.parameters.dtype == product.features.dtype == torch.float32
    assert torch.equal(product.parameters, wanted.parameters)
    assert torch.equal(product.features, wanted.features)


@pytest.mark.parametrize("per_sample", [False, True])
def test_groups_that_are_not_asked_for_are_zero(native, per_sample):
    case = problem(reuploading(3, 2), parse(3, "ZII", "XYI"), 4, per_sample=per_sample)
    result = case.ask(native)
    whole = result.vjp(case.upstream)
    weights, scales = (case.circuit.group(name) for name in ("weights", "scales"))
    part = result.vjp(case.upstream, groups=("weights",), features=False)
    assert torch.equal(part.parameters[..., weights], whole.parameters[..., weights])
    assert not part.parameters[..., scales].any()
    assert part.features is None
    only = result.vjp(case.upstream, groups=())
    assert only.parameters is None
    assert torch.equal(only.features, whole.features)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("gate", ["CZ", "CX"])
def test_kept_states_give_what_recomputed_ones_do(native, dtype, per_sample, gate, monkeypatch):
    """Bit for bit, with too much to keep, with too little to gain and between, and as often as one likes."""
    products = {}
    for limits in ((2**40, 0), (0, 0), (2**40, 2**40)):
        monkeypatch.setattr(module, "_SAVED_BYTES", limits[0])
        monkeypatch.setattr(module, "_SAVED_WORK", limits[1])
        circuit = reuploading(3, 3, entangling_gate=gate)  # a new one, as programs remember the limits
        case = problem(circuit, parse(3, "ZII", "IXY"), 19, per_sample=per_sample)
        result = case.ask(native, dtype)
        for turn in range(2):
            product = result.vjp(case.upstream.to(dtype))
            products[limits, turn] = result.values, product.parameters, product.features
    first, *others = products.values()
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            assert torch.equal(mine, theirs)


def test_kept_states_stay_within_their_limit(native, monkeypatch):
    case = problem(reuploading(4, 2), parse(4, "ZIII"), 40)
    with patch.object(torch, "empty", wraps=torch.empty) as empty:
        monkeypatch.setattr(module, "_SAVED_WORK", 0)
        case.ask(native)
        (kept,) = (call.args[0] for call in empty.call_args_list if call.kwargs["dtype"] == torch.uint8)
    assert kept >= 40 * 16 * 16
    for most, least in ((kept - 1, 0), (2**40, 2**40)):
        monkeypatch.setattr(module, "_SAVED_BYTES", most)
        monkeypatch.setattr(module, "_SAVED_WORK", least)
        with patch.object(torch, "empty", wraps=torch.empty) as empty:
            problem(reuploading(4, 2), parse(4, "ZIII"), 40).ask(native)
            assert all(call.kwargs["dtype"] != torch.uint8 for call in empty.call_args_list)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("samples", [1, 3, 16, 17, 40])
def test_a_row_does_not_depend_on_its_batch(native, dtype, samples):
    """Neither on its neighbours nor on the rows that fill a vector up."""
    circuit = reuploading(3, 2, squash="tanh", entangling_gate="CX")
    case = problem(circuit, parse(3, "ZII", {"IXY": 0.5, "ZIZ": -1.0}), samples, per_sample=True)
    result = case.ask(native, dtype)
    product = result.vjp(case.upstream.to(dtype))
    for row in range(samples):
        alone = replace(case, parameters=case.parameters[[row]], features=case.features[[row]])
        one = alone.ask(native, dtype)
        single = one.vjp(case.upstream[[row]].to(dtype))
        assert torch.equal(one.values[0], result.values[row])
        assert torch.equal(single.parameters[0], product.parameters[row])
        assert torch.equal(single.features[0], product.features[row])


# ---- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"features": torch.zeros(2, 3)}, ValueError, r"features: shape \(2, 3\) does not fit; use \(N, 2\)"),
        ({"features": torch.zeros(2)}, ValueError, r"features: shape \(2,\) does not fit"),
        (
            {"parameters": torch.zeros(5)},
            ValueError,
            r"parameters: shape \(5,\) does not fit; use \(6,\) or \(4, 6\)",
        ),
        ({"parameters": torch.zeros(3, 6)}, ValueError, r"parameters: shape \(3, 6\) does not fit"),
        (
            {"parameters": torch.zeros(6, dtype=torch.float64)},
            TypeError,
            "against parameters in torch.float64",
        ),
        (
            {"parameters": torch.zeros(6).half(), "features": torch.zeros(4, 2).half()},
            TypeError,
            "features: torch.float16 is not supported by native; use one of torch.float32, torch.float64",
        ),
        ({"observables": parse(3, "ZZZ")}, ValueError, "observable 'ZZZ': acts on 3 qubits"),
        ({"shots": 0}, ValueError, "shots: 0 is below 1"),
        ({"shots": True}, TypeError, "shots: True is not an integer"),
        ({"shots": 5, "seed": -1}, ValueError, "seed: -1 is below 0"),
    ],
)
def test_requests_that_do_not_fit_are_refused(native, change, error, message, again):
    """Also right after one that fits, which the backend remembers."""
    arguments = {
        "circuit": reuploading(2, 1),
        "parameters": torch.zeros(6),
        "features": torch.zeros(4, 2),
        "observables": parse(2, "ZI"),
    }
    if again:
        native.expectations(**arguments)
    with pytest.raises(error, match=message):
        native.expectations(**{**arguments, **change})


def test_an_upstream_or_a_group_that_does_not_fit_is_refused(native):
    case = problem(reuploading(2, 1), parse(2, "ZI"), 3)
    result = case.ask(native)
    with pytest.raises(ValueError, match=r"upstream: shape \(3, 2\) does not fit; use \(3, 1\)"):
        result.vjp(torch.ones(3, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="group: 'head' is unknown"):
        result.vjp(case.upstream, groups=("head",))


def test_an_engine_or_an_instruction_set_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="engine: 'fast' is unknown"):
        NativeBackend("fast")
    with pytest.raises(ValueError, match="instruction_set: 'mmx' was not built; use one of baseline"):
        NativeBackend("auto", "mmx")


@pytest.mark.parametrize(("dtype", "amplitude"), [(torch.float32, 8), (torch.float64, 16)])
def test_a_register_that_does_not_fit_is_refused_before_allocation(dtype, amplitude, monkeypatch):
    def unreachable(*_):
        pytest.fail("the circuit was compiled")

    monkeypatch.setattr(module, "encode", unreachable)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2**30}))
    for n_qubits in (30, 40):
        case = problem(reuploading(n_qubits, 1), parse(n_qubits, "Z" + "I" * (n_qubits - 1)), 1)
        needed = f"^n_qubits: {n_qubits} qubits need {4 * amplitude * 2**n_qubits} bytes .* 1073741824 are free; .*$"
        with pytest.raises(ValueError, match=needed):
            case.ask(NativeBackend(), dtype)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2**60}))
    with pytest.raises(ValueError, match=r"^n_qubits: 40 is too many for native; use at most 30$"):
        case.ask(NativeBackend(), dtype)


@pytest.mark.parametrize("moved", ["features", "parameters"])
def test_tensors_on_another_device_go_to_torch(moved):
    case = problem(reuploading(2, 1), parse(2, "ZI"), 3)
    away = replace(case, **{moved: getattr(case, moved).to("meta")})
    with patch.object(module, "TorchBackend") as torch_backend:
        answer = NativeBackend().expectations(
            away.circuit, away.parameters, away.features, away.observables, 7, 5, differentiate=True
        )
    asked = torch_backend.return_value.expectations
    assert answer is asked.return_value
    asked.assert_called_once_with(
        away.circuit, away.parameters, away.features, away.observables, 7, 5, differentiate=True
    )


# ---- threads, processes, copies ------------------------------------------------------------------------


@pytest.fixture
def two_threads(monkeypatch):
    """Every request may use several threads; a function sets their number."""
    before = torch.get_num_threads()
    monkeypatch.setattr(module, "_THREADED_WORK", 0)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def everything(case, backend, dtype=torch.float64):
    """Values and gradients of a request, and means and errors of shots."""
    result = case.ask(backend, dtype)
    product = result.vjp(case.upstream.to(dtype))
    parameters, features = case.parameters.to(dtype), case.features.to(dtype)
    drawn = backend.expectations(case.circuit, parameters, features, case.observables, 20, 3)
    return result.values, product.parameters, product.features, drawn.values, drawn.errors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_sample", [False, True])
def test_results_do_not_depend_on_the_number_of_threads(native, dtype, per_sample, two_threads):
    measured = parse(3, "ZII", {"IXY": 0.5, "ZIZ": -1.0})
    case = problem(reuploading(3, 1, entangling_gate="CX"), measured, 1200, per_sample=per_sample)
    results = []
    for threads in (1, 2, 5):
        two_threads(threads)
        results.append(everything(case, native, dtype))
    for others in results[1:]:
        for mine, theirs in zip(results[0], others, strict=True):
            assert torch.equal(mine, theirs)


def test_a_feature_that_is_not_finite_is_refused_by_any_thread(native, two_threads):
    case = problem(reuploading(2, 1), parse(2, "ZI"), 1200)
    two_threads(2)
    for row in (0, 1199):
        x = case.features.clone()
        x[row, 0] = math.nan
        with pytest.raises(ValueError, match=FINITE_MESSAGE):
            native.expectations(case.circuit, case.parameters, x, case.observables)


@pytest.mark.parametrize("threads", [1, 2])
def test_any_thread_may_call_the_same_program(native, threads, two_threads):
    """All of them start with a circuit that is not compiled yet, and meet again each time."""
    two_threads(threads)
    circuit, measured = reuploading(3, 2, squash="tanh"), parse(3, "ZII", "IXY")
    requests = [problem(circuit, measured, 40, seed=seed) for seed in range(4)]
    barrier = threading.Barrier(4, timeout=60)

    def work(case):
        results = []
        for _ in range(10):
            barrier.wait()
            results.append(everything(case, native))
        return results

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(work, requests))
    for case, results in zip(requests, answers, strict=True):
        wanted = everything(case, native)
        for result in results:
            assert all(torch.equal(a, b) for a, b in zip(result, wanted, strict=True))


def _send(connection, case, backend):
    connection.send([tensor.tolist() for tensor in everything(case, backend)])


# Python warns of a fork beside other threads, such as torch's; the kernel leaves none behind.
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_process_computes_the_same(native, two_threads):
    two_threads(2)
    case = problem(reuploading(3, 2), parse(3, "ZII", "IXY"), 1200)
    wanted = [tensor.tolist() for tensor in everything(case, native)]
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    child = fork.Process(target=_send, args=(theirs, case, native), daemon=True)
    child.start()
    theirs.close()
    try:
        assert ours.poll(60), "the child does not answer"
        assert ours.recv() == wanted
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()


def test_copies_of_a_layer_compute_the_same(native):
    layer = qrl.QuantumLayer(reuploading(3, 2), ["ZII", {"IXY": 0.5}], backend=native)
    x = torch.rand(4, 3)

    def learn(module):
        module.zero_grad()
        values = module(x)
        values.sum().backward()
        return values.detach(), [parameter.grad for parameter in module.parameters()]

    values, gradients = learn(layer)  # compiled, so that there is something not to be copied
    for other in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
        assert (other.backend.name, other.backend.instruction_set) == ("native", native.instruction_set)
        theirs, others = learn(other)
        assert torch.equal(theirs, values)
        assert all(torch.equal(a, b) for a, b in zip(others, gradients, strict=True))
    with torch.no_grad():
        other.weights.add_(1.0)
    assert torch.equal(learn(layer)[0], values)


# ---- memory --------------------------------------------------------------------------------------------


def test_programs_die_with_their_circuit(natives):
    for backend in natives.values():
        circuit = reuploading(2, 1)
        problem(circuit, parse(2, "ZI"), 1).ask(backend)
        program = weakref.ref(backend._latest)
        problem(reuploading(1, 1), parse(1, "Z"), 1).ask(backend)  # which it remembers instead
        del circuit
        gc.collect()
        assert program() is None


@pytest.mark.usefixtures("unsanitized")
def test_memory_of_programs_is_given_back():
    """Each of them has tables of 5 * 2 ** 14 bytes, so 300 that stay would be 25 MB."""
    backend, process = NativeBackend(), psutil.Process()

    def compiled(count):
        for _ in range(count):
            case = problem(
                reuploading(14, 1, entangling_gate="CX", entangler="linear"), parse(14, "Z" * 14), 1
            )
            case.ask(backend)
        gc.collect()
        return process.memory_info().rss

    before = compiled(50)
    assert compiled(300) - before < 8 * 2**20


# ---- the build -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("name", list(build._SETS)[1:])
def test_no_symbol_of_an_instruction_set_is_weak(name, tmp_path):
    """The linker keeps one copy of a weak function; from such an object, not every processor could run it.

    Without optimisation nothing is inlined, so no weak function hides behind it.
    """
    command = build._find_compiler()
    record = build.read_record()
    if name not in record["sets"]:
        pytest.skip(f"{name} is not built here")
    flags = [flag for flag in build._FLAGS if flag != "-O3"]
    unit = tmp_path / "isa.o"
    arguments = [
        *command,
        *flags,
        "-O0",
        "-w",
        *build._SETS[name],
        f"-DQRL_ISA={name}",
        "-c",
        "isa.cpp",
        "-o",
        str(unit),
    ]
    subprocess.run(arguments, check=True, cwd=build.FOLDER / "kernel", timeout=300)
    try:
        listed = subprocess.run(
            ["nm", "-P", unit], check=True, capture_output=True, text=True, timeout=60
        ).stdout
    except FileNotFoundError:
        pytest.skip("no nm here")
    symbols = {line.split()[0]: line.split()[1] for line in listed.splitlines()}
    assert any("qrl_engine_" in symbol for symbol in symbols)
    assert [symbol for symbol, kind in symbols.items() if kind in "WVu"] == []
