"""The torch backend beyond random circuits: wide registers, dtypes, memory, counts, shots, and refusals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import circuits.backends.torch as module
from circuits import Angle, Circuit, Gate, Observable, Term, reuploading
from circuits.backends.torch import TorchBackend

WIDE_OPTIONS = [
    {},
    {"order": "variational-first", "final_layer": True, "rotations": ("RX", "RY", "RZ"), "squash": "tanh"},
    {"encoding": ("RY", "RZ"), "rotations": ("RZ", "RY"), "entangling_gate": "CX", "squash": "arctan"},
    {"entangling_gate": "CY", "entangler": "all"},
]


def observables(n_qubits: int, *specs: object) -> tuple[Observable, ...]:
    return tuple(Observable.parse(spec, n_qubits) for spec in specs)


def request(circuit: Circuit, samples: int, dtype: torch.dtype = torch.float64, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(circuit.n_parameters, generator=generator, dtype=torch.float64)
    x = torch.randn(samples, circuit.n_features, generator=generator, dtype=torch.float64)
    return circuit, theta.to(dtype), x.to(dtype)


@pytest.mark.parametrize("n_qubits", [7, 8, 9])
@pytest.mark.parametrize("options", WIDE_OPTIONS)
def test_wide_registers_agree_with_the_reference_and_between_paths(n_qubits, options):
    circuit, theta, x = request(reuploading(n_qubits, 2, **options), 2)
    measured = observables(n_qubits, "Z" * n_qubits, {"X" + "I" * (n_qubits - 1): 0.5, "Y" * n_qubits: -1.5})
    upstream = torch.tensor([[0.3, -1.0], [0.7, 0.2]], dtype=torch.float64)
    results = [
        TorchBackend(path).expectations(circuit, theta, x, measured, differentiate=True)
        for path in ("layered", "gatewise")
    ]
    state = circuit.statevector(theta.numpy(), x[0].numpy())
    parity = np.array([(-1) ** bin(index).count("1") for index in range(2**n_qubits)])
    assert results[0].values[0, 0].item() == pytest.approx(parity @ abs(state) ** 2, abs=1e-12)
    torch.testing.assert_close(results[0].values, results[1].values, rtol=0, atol=1e-12)
    first, second = (result.vjp(upstream) for result in results)
    torch.testing.assert_close(first.parameters, second.parameters, rtol=0, atol=1e-10)
    torch.testing.assert_close(first.features, second.features, rtol=0, atol=1e-10)


@pytest.mark.parametrize("words", [("ZZ", (0, 6)), ("XY", (1, 5)), ("ZXZ", (0, 3, 7))])
def test_wide_words_across_both_halves_of_the_register(words):
    word, qubits = words
    turn = Gate(f"R{word}", qubits, Angle(0.2, (Term(parameter=0, features=(0,)),)))
    spread = tuple(Gate("RY", (q,), Angle(0.4 + q)) for q in range(8))
    circuit, theta, x = request(Circuit(8, (*spread, turn, *spread), 1, (("weights", 1),)), 3)
    measured = observables(8, "ZZZZZZZZ", "IIIIXIII")
    results = [
        TorchBackend(path).expectations(circuit, theta, x, measured, differentiate=True)
        for path in ("layered", "gatewise")
    ]
    torch.testing.assert_close(results[0].values, results[1].values, rtol=0, atol=1e-12)
    products = [result.vjp(torch.ones(3, 2, dtype=torch.float64)) for result in results]
    torch.testing.assert_close(products[0].features, products[1].features, rtol=0, atol=1e-10)
    torch.testing.assert_close(products[0].parameters, products[1].parameters, rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_qubits", [1, 2, 4, 8])
def test_float32_is_complex64_and_close(n_qubits):
    measured = observables(n_qubits, "Z" + "I" * (n_qubits - 1))
    circuit, theta, x = request(reuploading(n_qubits, 3), 16)
    exact = TorchBackend().expectations(circuit, theta, x, measured, differentiate=True)
    single = TorchBackend().expectations(circuit, theta.float(), x.float(), measured, differentiate=True)
    assert single.values.dtype == single.standard_errors.dtype == torch.float32
    torch.testing.assert_close(single.values.double(), exact.values, rtol=0, atol=1e-5)
    ones = torch.ones_like(exact.values)
    for ours, wanted in zip(
        _gradients(single, ones.float()),
        _gradients(exact, ones),
        strict=True,
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), wanted, rtol=0, atol=2e-5)


def _gradients(result, upstream):
    product = result.vjp(upstream)
    return product.parameters, product.features


def test_each_sample_may_have_its_own_parameters():
    circuit, _, x = request(reuploading(3, 2, squash="tanh"), 4)
    theta = torch.randn(4, circuit.n_parameters, dtype=torch.float64)
    measured = observables(3, "ZZI", "IXY")
    result = TorchBackend().expectations(circuit, theta, x, measured, differentiate=True)
    upstream = torch.randn(4, 2, dtype=torch.float64)
    product = result.vjp(upstream)
    assert product.parameters.shape == theta.shape
    for row in range(4):
        one = TorchBackend().expectations(circuit, theta[row], x[row : row + 1], measured, differentiate=True)
        torch.testing.assert_close(one.values[0], result.values[row], rtol=0, atol=1e-12)
        alone = one.vjp(upstream[row : row + 1])
        torch.testing.assert_close(alone.parameters, product.parameters[row], rtol=0, atol=1e-10)
        torch.testing.assert_close(alone.features[0], product.features[row], rtol=0, atol=1e-10)


@pytest.mark.parametrize("path", ["layered", "gatewise"])
def test_empty_and_single_batches(path):
    circuit, theta, x = request(reuploading(2, 2), 1)
    measured = observables(2, "ZI", "IZ", "XX")
    for samples in (0, 1):
        result = TorchBackend(path).expectations(circuit, theta, x[:samples], measured, differentiate=True)
        assert result.values.shape == result.standard_errors.shape == (samples, 3)
        product = result.vjp(torch.ones(samples, 3, dtype=torch.float64))
        assert product.parameters.shape == theta.shape
        assert product.features.shape == (samples, 2)
        assert result.usage.executions == product.usage.executions == samples
        if samples == 0:
            assert not product.parameters.any()


def test_circuits_without_features_parameters_or_gates():
    backend, none = TorchBackend(), torch.zeros(0, dtype=torch.float64)
    empty = backend.expectations(
        Circuit(2, ()),
        none,
        torch.zeros(3, 0, dtype=torch.float64),
        observables(2, "ZZ", "XI"),
        differentiate=True,
    )
    assert empty.values.tolist() == [[1.0, 0.0]] * 3
    assert empty.vjp(torch.ones(3, 2, dtype=torch.float64)).parameters.shape == (0,)
    fixed = Circuit(1, (Gate("H", (0,)), Gate("RZ", (0,), Angle(0.3)), Gate("H", (0,))))
    values = backend.expectations(
        fixed, none, torch.zeros(2, 0, dtype=torch.float64), observables(1, "Z")
    ).values
    torch.testing.assert_close(values, torch.full((2, 1), math.cos(0.3), dtype=torch.float64))


@pytest.mark.parametrize("path", ["layered", "gatewise"])
@pytest.mark.parametrize("saved", [0, 2**29])
def test_batches_beyond_the_memory_limits_are_cut_into_chunks(path, saved, monkeypatch):
    circuit, theta, x = request(reuploading(3, 2), 7)
    measured = observables(3, "ZZI", {"IXI": 1.0, "IIZ": 0.5})
    upstream = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = TorchBackend(path).expectations(circuit, theta, x, measured, differentiate=True)
    wanted = whole.vjp(upstream)
    monkeypatch.setattr(module, "_WORKING_BYTES", 3 * 6 * 8 * 16)
    monkeypatch.setattr(module, "_SAVED_BYTES", saved)
    cut = TorchBackend(path).expectations(circuit, theta, x, measured, differentiate=True)
    torch.testing.assert_close(cut.values, whole.values, rtol=0, atol=1e-14)
    for _ in range(2):
        product = cut.vjp(upstream)
        torch.testing.assert_close(product.parameters, wanted.parameters, rtol=0, atol=1e-13)
        torch.testing.assert_close(product.features, wanted.features, rtol=0, atol=1e-13)
    monkeypatch.setattr(module, "_SAVED_BYTES", 0)
    auto = TorchBackend().expectations(circuit, theta, x, measured)
    torch.testing.assert_close(auto.values, whole.values, rtol=0, atol=1e-14)


def test_a_register_that_does_not_fit_is_refused_before_allocation():
    circuit = reuploading(45, 1)
    measured = observables(45, "Z" + "I" * 44)
    for dtype, amplitude in ((torch.float32, 8), (torch.float64, 16)):
        with pytest.raises(ValueError, match=f"n_qubits: 45 qubits need {6 * amplitude * 2**45} bytes"):
            TorchBackend().expectations(*request(circuit, 1, dtype), measured)


def test_matrices_follow_every_change_of_the_parameters():
    circuit, theta, x = request(reuploading(3, 2), 2)
    measured = observables(3, "ZII")
    backend = TorchBackend()

    def acted() -> torch.Tensor:
        return backend.expectations(circuit, theta, x, measured).values

    def learnt() -> torch.Tensor:
        return backend.expectations(circuit, theta, x, measured, differentiate=True).values

    before = acted()
    assert torch.equal(before, acted())
    theta.data.mul_(0.5)  # as a target update does: same tensor, same version counter
    assert not torch.equal(before, acted())
    torch.testing.assert_close(acted(), learnt(), rtol=0, atol=1e-14)
    for step in range(12):
        theta = theta + step % 5
        torch.testing.assert_close(acted(), learnt(), rtol=0, atol=1e-14)


def test_counts_by_hand():
    gates = (
        Gate("RX", (0,), Angle(0.0, (Term(parameter=0),))),
        Gate("RY", (1,), Angle(0.0, (Term(parameter=0, features=(0,)),))),
        Gate("RZ", (0,), Angle(0.7)),
        Gate("CX", (0, 1)),
        Gate("RZZ", (0, 1), Angle(0.0, (Term(features=(1,)), Term(parameter=1)))),
        Gate("RX", (1,), Angle(0.0, (Term(features=(1,)),))),
    )
    circuit, theta, x = request(Circuit(2, gates, 2, (("weights", 1), ("scales", 1))), 3)
    measured = observables(2, "ZI", "XI", "IZ", "II")  # two settings: ZZ and XI
    for path in ("layered", "gatewise"):
        result = TorchBackend(path).expectations(circuit, theta, x, measured, differentiate=True)
        usage = result.usage
        assert (usage.executions, usage.hardware_executions, usage.shots, usage.jobs) == (3, 6, 0, 0)
        assert usage.gradient_rule is None
        assert usage.seconds > 0
        for groups, features, angles in [
            (None, True, 4),
            (None, False, 3),
            (("weights",), False, 2),
            (("scales",), False, 1),
            ((), True, 3),
            (("weights",), True, 4),
        ]:
            product = result.vjp(torch.ones(3, 4, dtype=torch.float64), groups=groups, features=features)
            assert product.usage.executions == 3
            assert product.usage.hardware_executions == 3 * 2 * 2 * angles
            assert product.usage.gradient_rule == "parameter_shift"
            assert (product.parameters is None) == (groups == ())
            assert (product.features is None) == (not features)
            if groups == ("weights",):
                assert product.parameters[1] == 0
                assert product.parameters[0] != 0
    alone = TorchBackend().expectations(circuit, theta, x, observables(2, "II"), differentiate=True)
    assert alone.usage.hardware_executions == 0
    total = result.usage + product.usage
    assert (total.executions, total.gradient_rule) == (6, "parameter_shift")


def test_shots_are_unbiased_and_their_errors_honest():
    circuit, theta, x = request(reuploading(3, 2), 2)
    measured = observables(3, "ZII", {"ZZI": 0.5, "IIZ": -1.0, "XII": 2.0, "III": 0.3}, "IYI", "III")
    exact = TorchBackend().expectations(circuit, theta, x, measured).values
    runs = [
        TorchBackend().expectations(circuit, theta, x, measured, shots=200, seed=seed) for seed in range(400)
    ]
    values = torch.stack([run.values for run in runs])
    errors = torch.stack([run.standard_errors for run in runs])
    spread = values.std(0)
    assert ((values.mean(0) - exact).abs() <= 4.5 * spread / math.sqrt(400) + 1e-12).all()
    torch.testing.assert_close(errors.square().mean(0).sqrt(), spread, rtol=0.15, atol=1e-12)
    assert torch.equal(values[:, :, 3], torch.ones(400, 2, dtype=torch.float64))
    # Two settings: ZZZ for the words of Z, and XYI for XII and IYI.
    assert runs[0].usage.hardware_executions == 2 * 2
    assert runs[0].usage.shots == 2 * 2 * 200
    assert runs[0].vjp is None


def test_shots_are_reproducible():
    circuit, theta, x = request(reuploading(2, 1), 3)
    measured = observables(2, "ZI", "IX")

    def draw(seed: int | None) -> torch.Tensor:
        return TorchBackend().expectations(circuit, theta, x, measured, shots=10, seed=seed).values

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    torch.manual_seed(5)
    first = draw(None), draw(None)
    torch.manual_seed(5)
    second = draw(None), draw(None)
    assert torch.equal(torch.stack(first), torch.stack(second))
    assert not torch.equal(*first)
    one = TorchBackend().expectations(circuit, theta, x, measured, shots=1, seed=0)
    assert one.values.abs().eq(1).all()
    assert one.standard_errors.isnan().all()


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
            "features: torch.float16 is not supported by torch; use one of torch.float32, torch.float64",
        ),
        ({"observables": observables(3, "ZZZ")}, ValueError, "observable 'ZZZ': acts on 3 qubits"),
        ({"shots": 0}, ValueError, "shots: 0 is below 1"),
        ({"shots": True}, TypeError, "shots: True is not an integer"),
        ({"shots": 5, "seed": -1}, ValueError, "seed: -1 is below 0"),
    ],
)
def test_requests_that_do_not_fit_are_refused(change, error, message):
    arguments = {
        "circuit": reuploading(2, 1),
        "parameters": torch.zeros(6),
        "features": torch.zeros(4, 2),
        "observables": observables(2, "ZI"),
    }
    with pytest.raises(error, match=message):
        TorchBackend().expectations(**{**arguments, **change})


def test_an_upstream_of_the_wrong_shape_is_refused():
    circuit, theta, x = request(reuploading(2, 1), 3)
    result = TorchBackend().expectations(circuit, theta, x, observables(2, "ZI"), differentiate=True)
    with pytest.raises(ValueError, match=r"upstream: shape \(3, 2\) does not fit; use \(3, 1\)"):
        result.vjp(torch.ones(3, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="group: 'head' is unknown"):
        result.vjp(torch.ones(3, 1, dtype=torch.float64), groups=("head",))
    with pytest.raises(ValueError, match="path: 'fast' is unknown"):
        TorchBackend("fast")


def test_every_fixed_gate_on_every_ordered_pair(dense):
    pairs = list(itertools.permutations(range(3), 2))
    start = tuple(Gate("RXYZ"[:2] if q == 0 else "RY", (q,), Angle(0.3 + q)) for q in range(3))
    measured = observables(3, "XYZ", "ZZI", "IYX", "YIZ")
    none, x = torch.zeros(0, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.float64)
    for name, pair in itertools.product(("CX", "CY", "CZ", "SWAP"), pairs):
        circuit = Circuit(3, (*start, Gate(name, pair), *start))
        wanted = dense(circuit, none, x, measured)
        for path in ("layered", "gatewise"):
            values = TorchBackend(path).expectations(circuit, none, x, measured).values
            torch.testing.assert_close(values, wanted, rtol=0, atol=1e-13)
