"""The PennyLane backend against the torch backend, which stands on other code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from circuits import Angle, Circuit, Gate, Observable, Term, controlled_rotation, get_backend, reuploading
from circuits.backends.pennylane import PennyLaneBackend

DEVICES = {"default.qubit": True, "lightning.qubit": True, "default.mixed": False, "reference.qubit": False}
"""The devices under test, and whether they differentiate."""


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_agrees_with_torch(device: str, case_strategy: Any, data: st.DataObject) -> None:
    case = data.draw(case_strategy(max_qubits=4, samples=data.draw(st.integers(1, 3))))
    circuit, observables, x, upstream = case.circuit, case.observables, case.features, case.upstream
    theta = case.parameters
    if data.draw(st.booleans()):
        theta = theta + torch.arange(len(x), dtype=torch.float64)[:, None]
    ours = get_backend("torch").expectations(circuit, theta, x, observables, differentiate=True)
    backend = get_backend(f"pennylane:{device}")
    plain = backend.expectations(circuit, theta, x, observables)
    theirs = backend.expectations(circuit, theta, x, observables, differentiate=True)
    assert backend.capabilities.differentiable == DEVICES[device] == (theirs.vjp is not None)
    assert plain.vjp is None
    for answer in (plain, theirs):
        assert answer.values.dtype == torch.float64
        assert (answer.values - ours.values).abs().max() < 1e-12
        assert not answer.standard_errors.any()
        assert (answer.usage.executions, answer.usage.hardware_executions) == (
            ours.usage.executions,
            ours.usage.hardware_executions,
        )
    if theirs.vjp is None or ours.vjp is None:
        return
    last = tuple(name for name, _ in circuit.groups[-1:])
    for choice in ({}, {"groups": last, "features": False}, {"groups": ()}):
        expected, product = ours.vjp(upstream, **choice), theirs.vjp(upstream, **choice)
        for one, other in ((product.parameters, expected.parameters), (product.features, expected.features)):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert torch.allclose(one, other, rtol=0.0, atol=1e-10)
        counts = [
            (p.usage.executions, p.usage.hardware_executions, p.usage.gradient_rule)
            for p in (product, expected)
        ]
        assert counts[0] == counts[1]


@pytest.mark.parametrize("device", [name for name, able in DEVICES.items() if able])
def test_gradients_of_controlled_rotations(device: str) -> None:
    angle = Angle(0.1, (Term(1.3, 0, (0,)),))
    parts = [controlled_rotation(axis, 0, 1, angle) for axis in "XYZ"]
    circuit = Circuit(2, (Gate("H", (0,)), Gate("H", (1,)), *sum(parts, ())), 1, (("w", 1),))
    observables = [Observable((("IY", 1.0), ("ZX", 0.5)))]
    backend = get_backend(f"pennylane:{device}")

    def value(theta: float, x: float) -> float:
        arguments = (torch.tensor([theta], dtype=torch.float64), torch.tensor([[x]], dtype=torch.float64))
        return float(backend.expectations(circuit, *arguments, observables).values)

    theta, x = torch.tensor([0.7], dtype=torch.float64), torch.tensor([[-0.4]], dtype=torch.float64)
    answer = backend.expectations(circuit, theta, x, observables, differentiate=True)
    assert answer.vjp is not None
    product = answer.vjp(torch.ones(1, 1).double())
    step = 1e-6
    by_theta = (value(0.7 + step, -0.4) - value(0.7 - step, -0.4)) / (2 * step)
    by_x = (value(0.7, -0.4 + step) - value(0.7, -0.4 - step)) / (2 * step)
    assert product.parameters is not None
    assert product.features is not None
    assert abs(float(product.parameters) - by_theta) < 1e-8
    assert abs(float(product.features) - by_x) < 1e-8


REQUEST = (
    reuploading(3, 2, squash="tanh"),
    torch.linspace(-2, 2, 18).double(),
    torch.tensor([[0.3, -0.2, 0.9], [1.0, 0.4, -0.7]], dtype=torch.float64),
    [Observable((("ZZI", 1.0), ("III", 0.5))), Observable((("XIX", 0.7), ("ZIZ", -0.4), ("YII", 1.1)))],
)


@pytest.mark.parametrize("device", DEVICES)
def test_shots(device: str) -> None:
    backend = get_backend(f"pennylane:{device}")
    exact = get_backend("torch").expectations(*REQUEST).values
    answer = backend.expectations(*REQUEST, shots=4000, seed=5)
    deviation = (answer.values - exact).abs() / answer.standard_errors
    assert deviation.max() < 4.5
    # The variance of a sum contains the covariance of words that share shots.
    sampled = get_backend("torch").expectations(*REQUEST, shots=4000, seed=5)
    assert (answer.standard_errors / sampled.standard_errors - 1).abs().max() < 0.1
    settings_, samples = 3, 2
    assert answer.usage.hardware_executions == settings_ * samples
    assert answer.usage.shots == 4000 * settings_ * samples
    assert answer.vjp is None
    again = backend.expectations(*REQUEST, shots=4000, seed=5)
    other = backend.expectations(*REQUEST, shots=4000, seed=6)
    assert torch.equal(answer.values, again.values)
    assert not torch.equal(answer.values, other.values)


def test_shots_without_a_seed_follow_torch() -> None:
    backend = get_backend("pennylane")
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(backend.expectations(*REQUEST, shots=50).values)
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    one = backend.expectations(*REQUEST, shots=1, seed=0)
    assert one.standard_errors.isnan().all()


def test_samples_of_a_batch_are_independent() -> None:
    circuit = Circuit(1, (Gate("RX", (0,), Angle(0.0, (Term(features=(0,)),))),), 1)
    x = torch.full((40, 1), np.pi / 2).double()
    answer = get_backend("pennylane").expectations(
        circuit, torch.zeros(0).double(), x, [Observable.parse("Z", 1)], shots=100, seed=0
    )
    assert len(set(answer.values[:, 0].tolist())) > 5
    assert 0.5 < float((answer.values / answer.standard_errors).std()) < 1.6


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit"])
def test_edges(device: str) -> None:
    backend = get_backend(f"pennylane:{device}")
    identity = [Observable((("II", 1.5), ("II", 0.5)))]
    circuit = reuploading(2, 1)
    theta, x = torch.zeros(6).double(), torch.zeros(3, 2).double()
    answer = backend.expectations(circuit, theta, x, identity, differentiate=True)
    assert answer.values.tolist() == [[2.0]] * 3
    assert answer.usage.hardware_executions == 0
    assert answer.vjp is not None
    assert not answer.vjp(torch.ones(3, 1).double()).parameters.any()
    sampled = backend.expectations(circuit, theta, x, identity, shots=7)
    assert (sampled.values.tolist(), sampled.usage.shots) == ([[2.0]] * 3, 0)
    empty = backend.expectations(circuit, theta, x[:0], [Observable.parse("ZI", 2)], differentiate=True)
    assert empty.values.shape == (0, 1)
    assert empty.vjp is not None
    assert empty.vjp(torch.ones(0, 1).double()).parameters.tolist() == [0.0] * 6
    fixed = Circuit(2, (Gate("X", (1,)),))
    bare = backend.expectations(
        fixed,
        torch.zeros(0).double(),
        torch.zeros(2, 0).double(),
        [Observable.parse("IZ", 2)],
        differentiate=True,
    )
    assert bare.values.tolist() == [[-1.0]] * 2
    assert bare.vjp is not None
    assert bare.vjp(torch.ones(2, 1).double()).features.shape == (2, 0)
    with pytest.raises(ValueError, match="upstream"):
        bare.vjp(torch.ones(1, 1).double())


def test_single_precision_requests_are_computed_in_double() -> None:
    circuit, theta, x, observables = REQUEST
    answer = get_backend("pennylane").expectations(
        circuit, theta.float(), x.float(), observables, differentiate=True
    )
    assert answer.values.dtype == torch.float32
    assert answer.vjp is not None
    product = answer.vjp(torch.ones(2, 2))
    assert product.parameters is not None
    assert product.parameters.dtype == torch.float32
    exact = get_backend("torch").expectations(
        circuit, theta.float().double(), x.float().double(), observables
    )
    assert (answer.values.double() - exact.values).abs().max() < 1e-7


def test_broadcasts_only_where_a_device_does(monkeypatch: pytest.MonkeyPatch) -> None:
    import pennylane as qml

    counts: list[int] = []
    execute = qml.execute

    def counting(tapes: Any, *arguments: Any, **options: Any) -> Any:
        counts.append(len(tapes))
        return execute(tapes, *arguments, **options)

    monkeypatch.setattr(qml, "execute", counting)
    for device in ("default.qubit", "lightning.qubit"):
        get_backend(f"pennylane:{device}").expectations(*REQUEST)
    assert counts == [1, 2]


def test_unknown_and_unfit_devices() -> None:
    with pytest.raises(ValueError, match=r"'default.qubits' cannot be used.*did you mean 'default.qubit'"):
        get_backend("pennylane:default.qubits")
    for device in ("default.gaussian", "default.qutrit"):
        with pytest.raises(ValueError, match=f"'{device}' cannot be used") as raised:
            PennyLaneBackend(device)
        assert "\n" not in str(raised.value)
    assert get_backend("pennylane").name == "pennylane:default.qubit"


def test_requests_that_do_not_fit() -> None:
    backend = get_backend("pennylane")
    circuit, theta, x, observables = REQUEST
    with pytest.raises(ValueError, match="features"):
        backend.expectations(circuit, theta, x[:, :2], observables)
    with pytest.raises(ValueError, match="shots"):
        backend.expectations(circuit, theta, x, observables, shots=0)
    with pytest.raises(ValueError, match="not finite"):
        backend.expectations(circuit, theta, x * np.nan, observables)
