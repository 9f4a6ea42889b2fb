"""The gradient rules above the protocol: exact for every gate, counted, one request an update, with shots."""

from __future__ import annotations

import itertools

import pytest
import torch

import qrl
from circuits import Angle, Circuit, Gate, Observable, Term, controlled_rotation, reuploading
from circuits.backends.torch import TorchBackend
from circuits.gradients import GRADIENTS, parameter_shift, spsa, with_gradient

WORDS = ["".join(letters) for size in (1, 2, 3) for letters in itertools.product("XYZ", repeat=size)]


class Counting:
    """Passes requests on to the torch backend and counts them."""

    def __init__(self) -> None:
        self._backend = TorchBackend()
        self.name, self.capabilities = self._backend.name, self._backend.capabilities
        self.requests = 0

    def expectations(self, *arguments, **options):
        self.requests += 1
        return self._backend.expectations(*arguments, **options)


def around(*gates: Gate) -> Circuit:
    """A three-qubit circuit that leaves no direction special before and after the gates."""
    before = tuple(Gate(name, (q,), Angle(0.4 + 0.3 * q)) for q in range(3) for name in ("RX", "RY"))
    pairs = (Gate("CX", (0, 1)), Gate("CZ", (1, 2)), Gate("RYX", (2, 0), Angle(0.9)))
    return Circuit(3, (*before, *pairs, *gates, *before, *pairs), 1, (("weights", 1), ("scales", 1)))


ANGLE = Angle(0.2, (Term(1.3, 0), Term(0.7, 1, (0,), "tanh")))
GATES = {f"R{word}": (Gate(f"R{word}", (2, 0, 1)[: len(word)], ANGLE),) for word in WORDS}
GATES |= {f"CR{axis}": controlled_rotation(axis, 2, 0, ANGLE) for axis in "XYZ"}


@pytest.mark.parametrize("name", GATES)
def test_the_shift_rule_equals_backpropagation_for_every_gate(name):
    circuit = around(*GATES[name])
    observables = [Observable.parse(word, 3) for word in ("ZII", "XYZ", "IZX")]
    theta = torch.tensor([0.8, -0.6], dtype=torch.float64)
    x = torch.tensor([[0.5], [-1.1]], dtype=torch.float64)
    upstream = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.9, -1.4]], dtype=torch.float64)
    result = TorchBackend().expectations(circuit, theta, x, observables, differentiate=True)
    wanted = result.vjp(upstream)
    product = parameter_shift(TorchBackend(), circuit, theta, x, observables, upstream)
    assert wanted.parameters.abs().max() > 1e-3
    torch.testing.assert_close(product.parameters, wanted.parameters, rtol=0, atol=1e-10)
    torch.testing.assert_close(product.features, wanted.features, rtol=0, atol=1e-10)
    assert product.usage.hardware_executions == wanted.usage.hardware_executions
    assert product.usage.executions == 2 * len(GATES[name]) * 2


def request(samples: int = 3):
    circuit = reuploading(2, 2, squash="arctan")
    generator = torch.Generator().manual_seed(3)
    theta = torch.randn(circuit.n_parameters, generator=generator, dtype=torch.float64)
    x = torch.randn(samples, 2, generator=generator, dtype=torch.float64)
    upstream = torch.randn(samples, 2, generator=generator, dtype=torch.float64)
    return circuit, theta, x, [Observable.parse("ZI", 2), Observable.parse("XZ", 2)], upstream


@pytest.mark.parametrize("rule", GRADIENTS)
def test_an_update_is_one_request(rule):
    backend = Counting()
    product = GRADIENTS[rule](backend, *request(), shots=20, seed=1)
    assert backend.requests == 1
    executions = 3 * 2 * (12 if rule == "parameter_shift" else 1)
    assert product.usage.executions == executions
    assert product.usage.hardware_executions == 2 * executions
    assert product.usage.shots == 2 * 20 * executions
    assert product.usage.gradient_rule == rule
    assert product.parameters.shape == (12,)
    assert product.features.shape == (3, 2)


@pytest.mark.parametrize("rule", GRADIENTS)
def test_what_is_not_differentiated_is_neither_run_nor_returned(rule):
    circuit, theta, x, observables, upstream = request()
    product = GRADIENTS[rule](
        TorchBackend(), circuit, theta, x, observables, upstream, groups=("scales",), want_features=False
    )
    assert product.features is None
    assert not product.parameters[circuit.group("weights")].any()
    assert product.parameters[circuit.group("scales")].all()
    if rule == "parameter_shift":
        assert product.usage.executions == 3 * 2 * 4
    nothing = GRADIENTS[rule](
        TorchBackend(), circuit, theta, x[:0], observables, upstream[:0], groups=(), want_features=True
    )
    assert nothing.parameters is None
    assert nothing.features.shape == (0, 2)


def test_each_sample_may_have_its_own_parameters():
    circuit, _, x, observables, upstream = request()
    theta = torch.randn(3, 12, dtype=torch.float64)
    wanted = TorchBackend().expectations(circuit, theta, x, observables, differentiate=True).vjp(upstream)
    product = parameter_shift(TorchBackend(), circuit, theta, x, observables, upstream)
    torch.testing.assert_close(product.parameters, wanted.parameters, rtol=0, atol=1e-10)
    torch.testing.assert_close(product.features, wanted.features, rtol=0, atol=1e-10)


def test_the_shift_rule_with_shots_is_unbiased():
    circuit, theta, x, observables, upstream = request()
    wanted = parameter_shift(TorchBackend(), circuit, theta, x, observables, upstream).parameters
    runs = torch.stack(
        [
            parameter_shift(
                TorchBackend(), circuit, theta, x, observables, upstream, shots=50, seed=seed
            ).parameters
            for seed in range(200)
        ]
    )
    assert ((runs.mean(0) - wanted).abs() <= 4.5 * runs.std(0) / 200**0.5).all()
    again = parameter_shift(TorchBackend(), circuit, theta, x, observables, upstream, shots=50, seed=0)
    assert torch.equal(again.parameters, runs[0])


def test_spsa_averages_to_the_gradient():
    circuit, theta, x, observables, upstream = request()
    wanted = parameter_shift(TorchBackend(), circuit, theta, x, observables, upstream)
    product = spsa(
        TorchBackend(), circuit, theta, x, observables, upstream, seed=0, directions=4000, step=0.01
    )
    torch.testing.assert_close(product.parameters, wanted.parameters, rtol=0, atol=0.15)
    torch.testing.assert_close(product.features, wanted.features, rtol=0, atol=0.15)
    assert product.usage.executions == 2 * 4000 * 3
    same = [
        spsa(TorchBackend(), circuit, theta, x, observables, upstream, seed=7).parameters for _ in range(2)
    ]
    assert torch.equal(*same)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"directions": 0}, ValueError, "directions: 0 is below 1"),
        ({"step": 0.0}, ValueError, "step: 0.0 is not positive"),
        ({"step": float("nan")}, ValueError, "step: nan is not finite"),
        ({"upstream": torch.ones(3, 1)}, ValueError, r"upstream: shape \(3, 1\) does not fit; use \(3, 2\)"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    circuit, theta, x, observables, upstream = request()
    arguments = {"upstream": upstream, **options}
    with pytest.raises(error, match=message):
        spsa(TorchBackend(), circuit, theta, x, observables, **arguments)


class Remote(Counting):
    """The same as if each request were a job."""

    def __init__(self) -> None:
        super().__init__()
        from dataclasses import replace

        self.capabilities = replace(self._backend.capabilities, differentiable=False, remote=True)


def asked(circuit, samples=3, n_observables=2):
    torch.manual_seed(2)
    parameters = torch.rand(circuit.n_parameters, dtype=torch.float64) * 4 - 2
    features = torch.rand(samples, circuit.n_features, dtype=torch.float64)
    observables = [Observable.parse(word, circuit.n_qubits) for word in ("ZI", "XY")[:n_observables]]
    return parameters, features, observables, torch.rand(samples, n_observables, dtype=torch.float64)


def test_a_random_subset_of_angles_is_unbiased_and_cheaper():
    circuit, backend = reuploading(2, 1), TorchBackend()
    parameters, features, observables, upstream = asked(circuit)
    whole = parameter_shift(backend, circuit, parameters, features, observables, upstream)
    draws = [
        parameter_shift(backend, circuit, parameters, features, observables, upstream, seed=seed, subset=2)
        for seed in range(3000)
    ]
    found = torch.stack([draw.parameters for draw in draws])
    error = found.std(0) / len(draws) ** 0.5
    assert ((found.mean(0) - whole.parameters).abs() <= 5 * error + 1e-12).all()
    assert draws[0].usage.executions == 2 * 2 * 3
    assert whole.usage.executions == 2 * circuit.n_angles * 3
    everything = parameter_shift(backend, circuit, parameters, features, observables, upstream, subset=99)
    torch.testing.assert_close(everything.parameters, whole.parameters)


@pytest.mark.parametrize(("rule", "options"), [("parameter_shift", {}), ("spsa", {"directions": 3})])
def test_value_and_gradient_go_in_one_request(rule, options):
    circuit, backend = reuploading(2, 2), Remote()
    parameters, features, observables, upstream = asked(circuit)
    found = with_gradient(
        rule, backend, circuit, parameters, features, observables, seed=4, groups=("weights",), **options
    )
    product = found.vjp(upstream, groups=("weights",))
    assert backend.requests == 1
    exact = TorchBackend().expectations(circuit, parameters, features, observables)
    torch.testing.assert_close(found.values, exact.values, atol=1e-12, rtol=0)
    apart = GRADIENTS[rule](
        backend, circuit, parameters, features, observables, upstream, seed=4, groups=("weights",), **options
    )
    torch.testing.assert_close(product.parameters, apart.parameters, atol=1e-12, rtol=0)
    torch.testing.assert_close(product.features, apart.features, atol=1e-12, rtol=0)
    assert found.usage.executions == exact.usage.executions + apart.usage.executions
    assert found.usage.gradient_rule == rule
    assert product.usage.executions == 0
    with pytest.raises(ValueError, match="the request was made for"):
        found.vjp(upstream)


def test_a_layer_on_a_remote_backend_makes_one_job_an_update():
    backend = Remote()
    layer = qrl.QuantumLayer(reuploading(2, 2), ["ZI", "XY"], backend=backend).double()
    near = qrl.QuantumLayer(reuploading(2, 2), ["ZI", "XY"], backend="torch").double()
    near.load_state_dict(layer.state_dict())
    features = torch.rand(4, 2, dtype=torch.float64)
    layer.scales.requires_grad_(False)
    near.scales.requires_grad_(False)
    for module in (layer, near):
        values, back = module.pullback(features)
        back(torch.ones_like(values))
        x = features.clone().requires_grad_()
        module(x).sum().backward()
    assert backend.requests == 2
    torch.testing.assert_close(layer.weights.grad, near.weights.grad, atol=1e-10, rtol=0)
    assert layer.scales.grad is None
    with torch.no_grad():
        layer(features)
    assert backend.requests == 3


def test_options_of_a_rule_reach_it_and_unknown_ones_are_refused():
    layer = qrl.QuantumLayer(
        reuploading(2, 1),
        ["ZI"],
        backend=Remote(),
        gradient="parameter_shift",
        gradient_options={"subset": 1},
    )
    with qrl.Ledger("options", 0, "layer", meters=()) as ledger:
        layer(torch.rand(3, 2)).sum().backward()
        assert ledger.totals()["executions"] == 3 + 2 * 3
    with pytest.raises(ValueError, match="did you mean 'subset'"):
        qrl.QuantumLayer(
            reuploading(2, 1), ["ZI"], gradient="parameter_shift", gradient_options={"subsets": 1}
        )
    with pytest.raises(ValueError, match="backprop takes none"):
        qrl.QuantumLayer(reuploading(2, 1), ["ZI"], gradient_options={"subset": 1})
