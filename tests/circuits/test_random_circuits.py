"""Random circuits of the whole description against Qiskit, PennyLane, and autograd on dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qiskit.quantum_info import Statevector

from circuits import Circuit, get_backend
from circuits.backends.torch import TorchBackend
from circuits.export import observable_to_qiskit, to_qiskit

RANDOM = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
FEW = settings(RANDOM, max_examples=60)


@RANDOM
@given(data=st.data())
def test_states_and_expectations_agree_with_qiskit(data, case_strategy):
    case = data.draw(case_strategy())
    result = TorchBackend().expectations(case.circuit, case.parameters, case.features, case.observables)
    operators = [observable_to_qiskit(observable) for observable in case.observables]
    for x, values in zip(case.features, result.values, strict=True):
        theirs = Statevector(to_qiskit(case.circuit, case.parameters.numpy(), x.numpy()))
        ours = case.circuit.statevector(case.parameters.numpy(), x.numpy())
        assert abs(np.vdot(theirs.data, ours)) == pytest.approx(1.0, abs=1e-12)
        wanted = [theirs.expectation_value(operator).real for operator in operators]
        np.testing.assert_allclose(values.numpy(), wanted, rtol=0, atol=1e-12)


@RANDOM
@given(data=st.data())
def test_gradients_agree_with_autograd_of_dense_matrices(data, case_strategy, dense):
    case = data.draw(case_strategy())
    theta = case.parameters.clone().requires_grad_()
    x = case.features.clone().requires_grad_()
    wanted = dense(case.circuit, theta, x, case.observables)
    by_theta, by_x = torch.autograd.grad(
        (wanted * case.upstream).sum() + 0 * (theta.sum() + x.sum()), (theta, x)
    )
    for path in ("layered", "gatewise"):
        result = TorchBackend(path).expectations(
            case.circuit, case.parameters, case.features, case.observables, differentiate=True
        )
        torch.testing.assert_close(result.values, wanted.detach(), rtol=0, atol=1e-12)
        product = result.vjp(case.upstream)
        torch.testing.assert_close(product.parameters, by_theta, rtol=0, atol=1e-10)
        torch.testing.assert_close(product.features, by_x, rtol=0, atol=1e-10)


@RANDOM
@given(data=st.data())
def test_expectations_and_gradients_agree_with_pennylane(data, case_strategy):
    case = data.draw(case_strategy(samples=1))
    request = (case.circuit, case.parameters, case.features, case.observables)
    ours = TorchBackend().expectations(*request, differentiate=True)
    theirs = get_backend("pennylane").expectations(*request, differentiate=True)
    torch.testing.assert_close(ours.values, theirs.values, rtol=0, atol=1e-12)
    mine, other = ours.vjp(case.upstream), theirs.vjp(case.upstream)
    torch.testing.assert_close(mine.parameters, other.parameters, rtol=0, atol=1e-10)
    torch.testing.assert_close(mine.features, other.features, rtol=0, atol=1e-10)
    assert (mine.usage.executions, mine.usage.hardware_executions) == (
        other.usage.executions,
        other.usage.hardware_executions,
    )


@FEW
@given(data=st.data())
def test_angles_and_jacobian_agree_with_the_flat_circuit_and_differences(data, case_strategy):
    case = data.draw(case_strategy(samples=3))
    circuit, theta, x = case.circuit, case.parameters.numpy(), case.features.numpy()
    angles = circuit.angles(theta, x)
    jacobian = circuit.jacobian(theta, x)
    assert angles.shape == (3, circuit.n_angles)
    flat = TorchBackend().expectations(
        circuit.flat(), torch.zeros(0, dtype=torch.float64), torch.as_tensor(angles), case.observables
    )
    ours = TorchBackend().expectations(circuit, case.parameters, case.features, case.observables)
    torch.testing.assert_close(flat.values, ours.values, rtol=0, atol=1e-12)
    step = 1e-6
    for index in range(circuit.n_parameters):
        shift = step * np.eye(circuit.n_parameters)[index]
        slope = (circuit.angles(theta + shift, x) - circuit.angles(theta - shift, x)) / (2 * step)
        np.testing.assert_allclose(jacobian.dense_parameters()[:, :, index], slope, atol=1e-7)
    for index in range(circuit.n_features):
        shift = step * np.eye(circuit.n_features)[index]
        slope = (circuit.angles(theta, x + shift) - circuit.angles(theta, x - shift)) / (2 * step)
        np.testing.assert_allclose(jacobian.dense_features()[:, :, index], slope, atol=1e-7)


@FEW
@given(data=st.data())
def test_digest_survives_the_file_form(data, case_strategy):
    circuit = data.draw(case_strategy()).circuit
    again = Circuit.from_dict(circuit.to_dict())
    assert again == circuit
    assert again.digest == circuit.digest
    assert hash(again) == hash(circuit)
