"""QuantumLayer: shapes, dtypes, gradients, refusals, counts, and checks by other means."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from qiskit.quantum_info import SparsePauliOp, Statevector

from circuits import Angle, Circuit, Gate, Term, reuploading
from circuits.backends.torch import TorchBackend
from qrl.layer import QuantumLayer
from qrl.ledger import Ledger

OBSERVABLES = ["ZZII", {"IIZZ": 1.0, "XIII": -0.5}]


def small(**options) -> QuantumLayer:
    torch.manual_seed(0)
    return QuantumLayer(reuploading(2, 2, squash="tanh"), ["ZI", {"XY": 0.3, "IZ": 1.0}], **options).double()


def test_shapes_and_initial_values():
    layer = QuantumLayer(reuploading(4, 5), OBSERVABLES)
    assert layer(torch.rand(8, 4)).shape == (8, 2)
    assert [(name, p.shape) for name, p in layer.named_parameters()] == [
        ("weights", (40,)),
        ("scales", (20,)),
    ]
    assert layer.scales.eq(1).all()
    assert layer.weights.abs().max() <= math.pi
    assert layer.weights.min() < -1 < 1 < layer.weights.max()
    torch.manual_seed(3)
    first = QuantumLayer(reuploading(4, 5), OBSERVABLES)
    torch.manual_seed(3)
    assert torch.equal(first.weights, QuantumLayer(reuploading(4, 5), OBSERVABLES).weights)
    named = QuantumLayer(reuploading(4, 5), OBSERVABLES, backend="torch")
    assert "n_qubits=4, n_features=4, observables=[ZZII, 1 IIZZ + -0.5 XIII], backend='torch'" in repr(named)


def test_double_selects_float64_throughout():
    layer = QuantumLayer(reuploading(2, 1), ["ZI"])
    assert layer(torch.rand(3, 2, dtype=torch.float64)).dtype == torch.float32
    layer.double()
    assert layer(torch.rand(3, 2)).dtype == torch.float64
    x = torch.rand(3, 2, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.dtype == torch.float32
    assert layer.weights.grad.dtype == torch.float64


@pytest.mark.parametrize(
    "options", [{}, {"backend": TorchBackend("gatewise")}, {"gradient": "parameter_shift"}]
)
def test_gradcheck_passes(options):
    layer = small(**options)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def run(x, weights, scales):
        return torch.func.functional_call(layer, {"weights": weights, "scales": scales}, (x,))

    assert torch.autograd.gradcheck(run, (x, layer.weights, layer.scales))


@pytest.mark.parametrize("n_qubits", [1, 2, 5])
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_gradients_equal_the_shift_rule(n_qubits, batch):
    circuit = reuploading(n_qubits, 2, order="variational-first", final_layer=True)
    layer = QuantumLayer(circuit, ["Z" * n_qubits, "Y" + "I" * (n_qubits - 1)]).double()
    other = QuantumLayer(circuit, layer.observables, gradient="parameter_shift").double()
    other.load_state_dict(layer.state_dict())
    x = torch.randn(batch, n_qubits, dtype=torch.float64)
    results = []
    for module in (layer, other):
        features = x.clone().requires_grad_()
        module(features).sin().sum().backward()
        results.append((module.weights.grad, module.scales.grad, features.grad))
    for ours, shifted in zip(*results, strict=True):
        torch.testing.assert_close(ours, shifted, rtol=0, atol=1e-10)


def test_any_memory_layout_is_fine():
    layer, x = small(), torch.randn(4, 2, dtype=torch.float64)
    weight = torch.randn(2, 4, dtype=torch.float64)
    (layer(x) * weight.t().contiguous()).sum().backward()
    wanted = layer.weights.grad.clone()
    for upstream in (weight.t(), torch.stack((weight, weight))[:, :, :].transpose(1, 2)[1]):
        layer.weights.grad = None
        layer(x).backward(upstream)
        torch.testing.assert_close(layer.weights.grad, wanted)
    layer.weights.grad = None
    layer(x).sum().backward()  # an upstream of stride zero
    assert layer.weights.grad.abs().sum() > 0
    torch.testing.assert_close(layer(x.t().contiguous().t()), layer(x))
    assert layer(x).is_contiguous()


def test_acting_builds_no_graph_and_gives_the_same_numbers():
    layer, x = small(), torch.randn(5, 2, dtype=torch.float64)
    learnt = layer(x)
    with torch.no_grad():
        acted = layer(x)
    assert learnt.grad_fn is not None
    assert acted.grad_fn is None
    torch.testing.assert_close(acted, learnt.detach(), rtol=0, atol=1e-14)
    layer.requires_grad_(False)
    assert layer(x).grad_fn is None


def test_targets_that_are_written_through_data_are_seen():
    layer = small()
    target, x = copy.deepcopy(layer), torch.randn(5, 2, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(target(x), layer(x))
        for parameter in target.parameters():
            parameter.data.mul_(0.5)
        assert not torch.equal(target(x), layer(x))
        target.load_state_dict(layer.state_dict())
        assert torch.equal(target(x), layer(x))


def test_frozen_groups_get_no_gradient_and_cost_nothing():
    layer, x = small(), torch.randn(3, 2, dtype=torch.float64)
    layer.scales.requires_grad_(False)
    with Ledger("run", 0, "hybrid") as ledger:
        layer(x).sum().backward()
        totals = ledger.totals()
    assert layer.scales.grad is None
    assert layer.weights.grad is not None
    # Words ZI, IZ and XY need two settings; eight weight angles are differentiated.
    assert totals["hardware_executions"] == 3 * 2 * (1 + 2 * 8)


@pytest.mark.parametrize("gradient", ["backprop", "parameter_shift", "spsa"])
def test_counts_go_to_the_current_ledger(gradient):
    layer, x = small(gradient=gradient), torch.randn(3, 2, dtype=torch.float64)
    with Ledger("run", 0, "hybrid") as ledger:
        with torch.no_grad():
            layer(x)
        acted = ledger.totals()
        layer(x).sum().backward()
        totals = ledger.totals()
    assert (acted["executions"], acted["hardware_executions"]) == (3, 3 * 2)
    executions = {"backprop": 3, "parameter_shift": 2 * 12 * 3, "spsa": 2 * 3}[gradient]
    hardware = {"backprop": 2 * 12 * 3, "parameter_shift": 2 * 12 * 3, "spsa": 2 * 3}[gradient]
    assert totals["executions"] == 3 + 3 + executions
    assert totals["hardware_executions"] == 2 * (3 + 3 + hardware)
    assert totals["shots"] == 0


def test_shots_learn_by_the_shift_rule_and_follow_the_global_seed():
    layer, x = small(shots=100), torch.randn(3, 2, dtype=torch.float64)
    assert layer.gradient == "parameter_shift"
    runs = []
    for _ in range(2):
        torch.manual_seed(11)
        layer.zero_grad()
        values = layer(x)
        values.sum().backward()
        runs.append((values.detach(), layer.weights.grad.clone()))
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    with Ledger("run", 0, "hybrid") as ledger:
        layer(x).sum().backward()
        totals = ledger.totals()
    assert totals["shots"] == 100 * 3 * 2 * (1 + 2 * 12)
    assert (layer(x) - small()(x)).abs().max() < 0.8


def test_a_number_can_be_checked_with_qiskit():
    layer, x = small(), torch.tensor([0.4, -1.2])
    state = Statevector(layer.bound_circuit(x))
    wanted = [
        state.expectation_value(SparsePauliOp("IZ")).real,
        state.expectation_value(SparsePauliOp.from_list([("YX", 0.3), ("ZI", 1.0)])).real,
    ]
    torch.testing.assert_close(
        layer(x[None])[0].detach(), torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-7
    )
    bound = layer.bound_circuit(x)
    assert not bound.parameters
    assert not bound.clbits
    with pytest.raises(ValueError, match=r"features: \(1, 2\) is no single sample; use \(2,\)"):
        layer.bound_circuit(x[None])
    with pytest.raises(TypeError, match="features: list is not a tensor"):
        layer.bound_circuit([0.4, -1.2])


def test_circuits_without_parameters_or_features():
    gates = (Gate("RX", (0,), Angle(0.0, (Term(features=(0,)),))),)
    layer = QuantumLayer(Circuit(1, gates, 1), ["Z"])
    x = torch.tensor([[0.3], [1.1]], requires_grad=True)
    values = layer(x)
    torch.testing.assert_close(values, torch.cos(x))
    values.sum().backward()
    torch.testing.assert_close(x.grad, -torch.sin(x.detach()))
    constant = QuantumLayer(
        Circuit(1, (Gate("RX", (0,), Angle(0.0, (Term(parameter=0),))),), 0, (("tilt", 1),)), ["Z"]
    )
    result = constant(torch.zeros(3, 0))
    assert result.shape == (3, 1)
    result.sum().backward()
    torch.testing.assert_close(constant.tilt.grad, -3 * torch.sin(constant.tilt.detach()))


def test_weights_survive_a_file():
    layer, again = small(), QuantumLayer(small().circuit, small().observables).double()
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    x = torch.randn(3, 2, dtype=torch.float64)
    assert torch.equal(layer(x), again(x))


def test_second_derivatives_are_refused():
    layer, x = small(), torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="create_graph: True, but QuantumLayer has first derivatives only"):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (torch.full((2, 2), float("nan")), ValueError, "features: a value is not finite"),
        (torch.tensor([[float("inf"), -float("inf")]]), ValueError, "features: a value is not finite"),
        (torch.zeros(2), ValueError, r"features: shape \(2,\) does not fit; use \(N, 2\)"),
        (torch.zeros(2, 3), ValueError, r"features: shape \(2, 3\) does not fit"),
        (torch.zeros(2, 2, dtype=torch.complex64), TypeError, "features: torch.complex64 is not real"),
        ([[0.0, 0.0]], TypeError, "features: list is not a tensor"),
    ],
)
def test_features_are_refused_where_they_enter(features, error, message):
    with pytest.raises(error, match=message):
        small()(features)


def test_finite_features_whose_sum_overflows_pass():
    layer = QuantumLayer(reuploading(2, 1), ["ZI"])
    with torch.no_grad():
        layer.scales.zero_()
        assert torch.isfinite(layer(torch.full((1, 2), 3e38))).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"circuit": "reuploading"}, TypeError, "circuit: 'reuploading' is not a Circuit"),
        ({"observables": ["Z"]}, ValueError, "observable 'Z': has 1 characters for 2 qubits; give 2"),
        ({"observables": "ZI"}, TypeError, "observables: 'ZI' is a single observable; put it in a list"),
        ({"observables": []}, ValueError, "observables: the list is empty"),
        ({"backend": "numpy"}, ValueError, "backend: 'numpy' is unknown"),
        ({"gradient": "adjoint"}, ValueError, "gradient: 'adjoint' is unknown"),
        (
            {"gradient": "backprop", "shots": 10},
            ValueError,
            "gradient: 'backprop', but shots have no backward",
        ),
        ({"shots": 0}, ValueError, "shots: 0 is below 1"),
        ({"shots": 1.5}, TypeError, "shots: 1.5 is not an integer"),
        (
            {"circuit": Circuit(2, (), 0, (("training", 2),))},
            ValueError,
            "groups: 'training' is taken by the module",
        ),
    ],
)
def test_bad_settings_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        QuantumLayer(**{"circuit": reuploading(2, 1), "observables": ["ZI"], **options})


@pytest.mark.parametrize(
    "options", [{}, {"backend": "torch"}, {"shots": 100}, {"gradient": "parameter_shift"}], ids=str
)
def test_pullback_is_backward_without_a_graph(options):
    layer = QuantumLayer(reuploading(3, 2), ["ZZI", "IIZ"], **options).double()
    features, upstream = torch.rand(5, 3).double(), torch.randn(5, 2).double()
    torch.manual_seed(7)  # of the shots
    values = layer(features)
    values.backward(upstream)
    expected = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    torch.manual_seed(7)
    again, back = layer.pullback(features)
    assert torch.equal(again, values)
    assert not again.requires_grad
    back(upstream)
    for parameter, gradient in zip(layer.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-12, rtol=0)


def test_pullback_adds_to_what_is_there_and_leaves_frozen_parameters_alone():
    layer = QuantumLayer(reuploading(3, 2), ["ZZI"])
    features = torch.rand(5, 3)
    for _ in range(2):
        layer.pullback(features)[1](torch.ones(5, 1))
    twice = layer.scales.grad.clone()
    layer.zero_grad()
    layer.weights.requires_grad_(False)
    layer.pullback(features)[1](torch.ones(5, 1))
    torch.testing.assert_close(2 * layer.scales.grad, twice)
    assert layer.weights.grad is None
