"""Fourier models: a circuit is one of them, exactly; counts, starts, draws and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines import RandomFourier, TruncatedFourier, count_parameters
from circuits import reuploading
from circuits.analysis import sample_parameters, spectrum
from qrl.layer import QuantumLayer


def columns(series, x):
    """The functions whose coefficients a series trains, `(batch, parameters)`."""
    phase = x @ series.frequencies.T
    waves = torch.cat([phase.cos(), phase.sin()], dim=1) / len(series.frequencies) ** 0.5
    return torch.cat([torch.ones(len(x), 1, dtype=x.dtype), waves], dim=1)


def fitted(series, x, y):
    """The series with the coefficients of least squares."""
    solution = torch.linalg.lstsq(columns(series, x), y, driver="gelsd").solution
    k = len(series.frequencies)
    with torch.no_grad():
        series.constant.copy_(solution[0])
        series.cosines.copy_(solution[1 : k + 1])
        series.sines.copy_(solution[k + 1 :])
    return series


@pytest.mark.parametrize(("qubits", "layers", "features"), [(1, 4, 1), (2, 2, 2), (3, 1, 3), (2, 3, 1)])
def test_a_circuit_is_a_truncated_fourier_series(qubits, layers, features):
    """Two observables of one circuit with fixed scales, reproduced to 1e-10 at inputs that the fit has not seen."""
    circuit = reuploading(qubits, layers, features)
    layer = QuantumLayer(circuit, ["Z" * qubits, "X" + "I" * (qubits - 1)]).double()
    series = TruncatedFourier(spectrum(circuit), 2).double()
    generator = torch.Generator().manual_seed(0)
    x = 6 * torch.rand(6 * count_parameters(series), features, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        y = layer(x)
        half = len(x) // 2
        fitted(series, x[:half], y[:half])
        torch.testing.assert_close(series(x), y, atol=1e-10, rtol=0)
        assert (series.cosines.abs().max() > 1e-3) or (series.sines.abs().max() > 1e-3)


def test_fixed_scales_that_are_not_one_are_in_the_frequencies():
    circuit = reuploading(1, 2)
    parameters = sample_parameters(circuit, 1, scales=[0.625, 1.75], seed=5)[0]
    layer = QuantumLayer(circuit, ["Z"]).double()
    with torch.no_grad():
        layer.weights.copy_(torch.from_numpy(parameters[circuit.group("weights")]))
        layer.scales.copy_(torch.from_numpy(parameters[circuit.group("scales")]))
        x = torch.linspace(-9, 9, 200, dtype=torch.float64)[:, None]
        y = layer(x)
    wrong = fitted(TruncatedFourier(spectrum(circuit), 1).double(), x, y)
    right = fitted(TruncatedFourier(spectrum(circuit, parameters), 1).double(), x, y)
    assert (right(x) - y).abs().max() < 1e-10
    assert (wrong(x) - y).abs().max() > 1e-2


def test_a_series_by_hand():
    series = TruncatedFourier([[0.0, 0.0], [1.0, -2.0], [0.0, 3.0]], 1).double()
    with torch.no_grad():
        for parameter, value in ((series.constant, 0.5), (series.cosines, 2.0), (series.sines, -3.0)):
            parameter.fill_(value)
    x = torch.tensor([[0.3, 0.7], [-1.0, 2.0]], dtype=torch.float64)
    phases = torch.stack([x[:, 0] - 2 * x[:, 1], 3 * x[:, 1]])
    expected = 0.5 + (2 * torch.cos(phases) - 3 * torch.sin(phases)).sum(0) / 2**0.5
    torch.testing.assert_close(series(x)[:, 0], expected)


def test_counts_and_starts():
    torch.manual_seed(0)
    series = TruncatedFourier(spectrum(reuploading(2, 2)), 3)
    assert count_parameters(series) == 3 * (1 + 2 * 12)
    assert count_parameters(TruncatedFourier([[0.0, 0.0]], 2)) == 2
    features = RandomFourier(2, 3, 10)
    assert count_parameters(features) == 3 * (1 + 2 * 10)
    x = 20 * torch.rand(500, 2)
    for module in (series, features):
        value = module(x)
        assert value.shape == (500, 3)
        assert 0.03 < float(value.detach().std()) < 0.3


def test_random_frequencies_come_from_the_spectrum():
    found = spectrum(reuploading(2, 2))
    generator = torch.Generator().manual_seed(1)
    some = RandomFourier(2, 1, 7, found, generator=generator).frequencies.numpy()
    assert len(np.unique(some, axis=0)) == 7
    waves = {tuple(row) for row in found[1:]}
    assert {tuple(row) for row in some} <= waves
    everything = RandomFourier(2, 1, len(found) - 1, found).frequencies.numpy()
    assert {tuple(row) for row in everything} == waves
    twice = RandomFourier(2, 1, 2 * (len(found) - 1), found).frequencies.numpy()
    assert np.unique(twice, axis=0, return_counts=True)[1].tolist() == [2] * (len(found) - 1)


def test_normal_frequencies_have_the_given_scale_and_are_not_trained():
    features = RandomFourier(3, 1, 4000, scale=2.5, generator=torch.Generator().manual_seed(0))
    assert float(features.frequencies.std()) == pytest.approx(2.5, rel=0.02)
    assert "frequencies" not in dict(features.named_parameters())
    again = RandomFourier(3, 1, 4000, scale=2.5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(features.frequencies, again.frequencies)


def test_random_features_approximate_the_gaussian_kernel():
    """`mean_k cos(w_k (x - y))` tends to `exp(-scale^2 |x - y|^2 / 2)`: Rahimi and Recht, the theorem behind them."""
    w = RandomFourier(2, 1, 20_000, scale=0.8, generator=torch.Generator().manual_seed(3)).frequencies
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randn(2, 20, 2, generator=generator)
    found = torch.cos((x - y) @ w.T).mean(1)
    torch.testing.assert_close(found, torch.exp(-0.32 * ((x - y) ** 2).sum(1)), atol=0.025, rtol=0)


@pytest.mark.parametrize(
    ("make", "error", "field"),
    [
        (lambda: TruncatedFourier([1.0, 2.0], 1), ValueError, "frequencies"),
        (lambda: TruncatedFourier([[1.0], [-1.0]], 1), ValueError, "frequencies"),
        (lambda: TruncatedFourier([[1.0], [1.0]], 1), ValueError, "frequencies"),
        (lambda: TruncatedFourier([[float("nan")]], 1), ValueError, "frequencies"),
        (lambda: TruncatedFourier([[1.0]], 0), ValueError, "n_outputs"),
        (lambda: RandomFourier(2, 1, 3, [[1.0]]), ValueError, "frequencies"),
        (lambda: RandomFourier(1, 1, 3, [[0.0]]), ValueError, "frequencies"),
        (lambda: RandomFourier(1, 1, 0), ValueError, "n_features"),
        (lambda: RandomFourier(1, 1, 2, scale=0.0), ValueError, "scale"),
        (lambda: RandomFourier(1.0, 1, 2), TypeError, "n_inputs"),
    ],
)
def test_a_wrong_argument_is_named(make, error, field):
    with pytest.raises(error, match=f"^{field}: .*;") as caught:
        make()
    assert "\n" not in str(caught.value)
