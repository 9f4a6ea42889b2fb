"""Spectrum, entanglement, expressibility, Fisher information: against exact values and other libraries' numbers."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Angle, Circuit, Gate, Term, controlled_rotation, get_backend, reuploading
from circuits.analysis import (
    effective_dimension,
    expressibility,
    fisher_information,
    gradients,
    meyer_wallach,
    sample_parameters,
    spectrum,
    states,
)
from circuits.observables import Observable


def turn(name, qubit, *, weight=None, features=(), coefficient=1.0, squash="none"):
    return Gate(name, (qubit,), Angle(0.0, (Term(coefficient, weight, features, squash),)))


def expectations(circuit, parameters, x, word):
    found = get_backend("torch").expectations(
        circuit, torch.as_tensor(parameters), torch.as_tensor(x), (Observable(((word, 1.0),)),)
    )
    return found.values.numpy()[:, 0]


def residual(circuit, frequencies, parameters, word, seed=0):
    """The largest error of the best Fourier series with these frequencies, away from the points of the fit."""
    x = np.random.default_rng(seed).uniform(-7, 7, (6 * len(frequencies) + 60, circuit.n_features))
    columns = np.concatenate([np.cos(x @ frequencies.T), np.sin(x @ frequencies.T)], axis=1)
    y = expectations(circuit, parameters, x, word)
    half = len(x) - 20
    coefficients = np.linalg.lstsq(columns[:half], y[:half], rcond=None)[0]
    return np.abs(columns @ coefficients - y).max()


def crx_layers():
    """A weight, then a controlled rotation by the feature, on each of two layers."""
    gates = []
    for layer in range(2):
        gates += [turn("RY", q, weight=2 * layer + q) for q in (0, 1)]
        gates += controlled_rotation("X", 0, 1, Angle(0.0, (Term(1.0, None, (0,)),)))
    return Circuit(2, tuple(gates), 1, (("weights", 4),))


def classifier():
    """One qubit, RZ by a sum over both features and a bias, as in universal quantum classifiers."""
    gates = []
    for layer in range(2):
        terms = (Term(1.0, 2 * layer, (0,)), Term(2.0, 2 * layer + 1, (1,)), Term(1.0, 4 + layer))
        gates += [Gate("RZ", (0,), Angle(0.3, terms)), turn("RY", 0, weight=6 + layer)]
    return Circuit(1, (Gate("H", (0,)), *gates), 2, (("scales", 4), ("weights", 4)))


CASES = {
    "one qubit": (reuploading(1, 3), "Z"),
    "two features": (reuploading(2, 2), "ZZ"),
    "one feature on each qubit": (reuploading(2, 2, 1), "XI"),
    "two encodings": (reuploading(2, 1, 1, encoding=("RX", "RY"), final_layer=True), "ZX"),
    "controlled rotations": (crx_layers(), "IZ"),
    "sums of features": (classifier(), "Z"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_expectation_value_is_a_fourier_series_on_its_spectrum(name):
    circuit, word = CASES[name]
    parameters = sample_parameters(circuit, 1, seed=3)[0]
    frequencies = spectrum(circuit)
    assert residual(circuit, frequencies, parameters, word) < 1e-10


@pytest.mark.parametrize("name", CASES)
def test_without_its_highest_frequency_it_is_none(name):
    """The test above fails for a spectrum that lacks a frequency."""
    circuit, word = CASES[name]
    parameters = sample_parameters(circuit, 1, seed=3)[0]
    assert residual(circuit, spectrum(circuit)[:-1], parameters, word) > 1e-4


def test_spectrum_with_the_scales_that_a_circuit_has():
    circuit = reuploading(1, 2)
    parameters = sample_parameters(circuit, 1, scales=[0.7, 1.9], seed=1)[0]
    frequencies = spectrum(circuit, parameters)
    np.testing.assert_allclose(frequencies[:, 0], [0.0, 0.7, 1.2, 1.9, 2.6])
    assert residual(circuit, frequencies, parameters, "Z") < 1e-10
    assert residual(circuit, spectrum(circuit), parameters, "Z") > 1e-3


def test_spectra_by_hand():
    assert spectrum(reuploading(4, 5)).shape == ((11**4 + 1) // 2, 4)
    np.testing.assert_array_equal(spectrum(reuploading(2, 3, 1))[:, 0], np.arange(7))
    np.testing.assert_array_equal(spectrum(crx_layers())[:, 0], [0.0, 0.5, 1.0, 1.5, 2.0])
    two = spectrum(classifier())
    np.testing.assert_array_equal(two, [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    plain = Circuit(1, (turn("RY", 0, weight=0),), 2, (("weights", 1),))
    np.testing.assert_array_equal(spectrum(plain), np.zeros((1, 2)))
    assert spectrum(Circuit(1, (Gate("H", (0,)),))).shape == (1, 0)


@settings(max_examples=30, deadline=None)
@given(layers=st.integers(1, 3), qubits=st.integers(1, 3), features=st.integers(1, 3), degree=st.floats(0, 6))
def test_max_degree_keeps_exactly_the_low_frequencies(layers, qubits, features, degree):
    circuit = reuploading(qubits, layers, features)
    everything = spectrum(circuit)
    low = np.abs(everything).sum(axis=1) <= degree
    np.testing.assert_array_equal(spectrum(circuit, max_degree=degree), everything[low])
    first = np.array([row[row != 0][0] for row in everything[1:]])
    assert (first > 0).all()
    assert len(np.unique(np.concatenate([everything, -everything[1:]]), axis=0)) == 2 * len(everything) - 1


@settings(max_examples=20, deadline=None)
@given(
    layers=st.integers(1, 3), qubits=st.integers(1, 3), features=st.integers(1, 3), count=st.integers(1, 40)
)
def test_shortest_is_the_beginning_of_the_spectrum(layers, qubits, features, count):
    circuit = reuploading(qubits, layers, features)
    np.testing.assert_array_equal(spectrum(circuit, shortest=count), spectrum(circuit)[:count])


def test_the_shortest_of_very_many_frequencies():
    """9^14 sums: never listed. Of length 0, 1 and 2 there are 1, 14 and 14 + 14 * 13 up to sign."""
    found = spectrum(reuploading(14, 4), shortest=300)
    lengths = np.abs(found).sum(axis=1)
    assert [int((lengths == k).sum()) for k in (0, 1, 2)] == [1, 14, 196]
    assert len(found) == 300


@pytest.mark.parametrize(
    ("circuit", "options", "field"),
    [
        (reuploading(1, 1, squash="arctan"), {}, "squash"),
        (Circuit(1, (turn("RZ", 0, features=(0, 1)),), 2), {}, "features"),
        (reuploading(1, 1), {"parameters": [1.0]}, "parameters"),
        (reuploading(1, 1), {"max_degree": -1.0}, "max_degree"),
        (reuploading(4, 3), {}, "spectrum"),
        (reuploading(1, 1), {"shortest": 0}, "shortest"),
        (reuploading(12, 3), {"max_degree": 3.0}, "spectrum"),
    ],
)
def test_what_has_no_spectrum_is_refused(circuit, options, field, monkeypatch):
    monkeypatch.setattr("circuits.analysis.MAX_FREQUENCIES", 500)
    with pytest.raises(ValueError, match=f"^{field}: ") as caught:
        spectrum(circuit, **options)
    assert "\n" not in str(caught.value)


def test_states_are_those_of_the_reference():
    circuit = reuploading(3, 2)
    parameters = sample_parameters(circuit, 5, scales=0.7, seed=2)
    x = np.random.default_rng(0).normal(size=(5, 3))
    found = states(circuit, parameters, x)
    expected = [circuit.statevector(p, row) for p, row in zip(parameters, x, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-13)
    np.testing.assert_allclose(states(circuit, parameters, x[0])[3], circuit.statevector(parameters[3], x[0]))


def ghz(n):
    vector = np.zeros(2**n, dtype=complex)
    vector[[0, -1]] = np.sqrt(0.5)
    return vector


def test_meyer_wallach_of_known_states():
    w = np.zeros(8, dtype=complex)
    w[[1, 2, 4]] = np.sqrt(1 / 3)
    half = np.kron(ghz(2), [0, 1, 0, 0])  # a Bell pair beside two qubits that it does not know
    np.testing.assert_allclose(meyer_wallach(np.stack([ghz(3), w])), [1.0, 8 / 9], atol=1e-14)
    np.testing.assert_allclose(meyer_wallach(np.stack([ghz(4), half])), [1.0, 0.5], atol=1e-14)
    product = states(reuploading(4, 3, entangler="none"), sample_parameters(reuploading(4, 3), 6), np.ones(4))
    np.testing.assert_allclose(meyer_wallach(product), 0.0, atol=1e-13)


def test_meyer_wallach_of_haar_random_states():
    """Their mean is (N - 2) / (N + 1)."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(20_000, 8, 2)) @ [1, 1j]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert meyer_wallach(vectors).mean() == pytest.approx(6 / 9, abs=3e-3)
    with pytest.raises(ValueError, match=r"^vectors: "):
        meyer_wallach(np.ones((2, 6)))


def arcsine_divergence(n_bins=75):
    """A state on a great circle: its fidelities cos^2(phi / 2) follow the arcsine law, the Haar ones are even."""
    edges = np.linspace(0, 1, n_bins + 1)
    share = np.diff(2 / np.pi * np.arcsin(np.sqrt(edges)))
    return float((share * np.log(share * n_bins)).sum())


def test_expressibility_of_one_qubit():
    weights = (("weights", 3),)
    idle = Circuit(1, (Gate("H", (0,)),))
    circle = Circuit(1, (Gate("H", (0,)), turn("RZ", 0, weight=0)), 0, (("weights", 1),))
    euler = Circuit(1, tuple(turn(r, 0, weight=k) for k, r in enumerate(("RZ", "RX", "RZ"))), 0, weights)
    assert expressibility(idle)[0] == pytest.approx(np.log(75))
    bias = 74 / (2 * 20_000)
    assert expressibility(circle, n_pairs=20_000, seed=1)[0] == pytest.approx(
        arcsine_divergence() + bias, abs=8e-3
    )
    # theta uniform is not Haar, which needs cos theta uniform: small, and not zero
    assert 2 * bias < expressibility(euler, n_pairs=20_000, seed=1)[0] < 0.1
    assert expressibility(idle, n_bins=10)[0] == pytest.approx(np.log(10))


def test_deep_circuits_approach_haar_and_shallow_ones_do_not():
    pairs = 4000
    deep = expressibility(reuploading(3, 10), np.zeros((2, 3)), n_pairs=pairs, seed=5)
    shallow = expressibility(reuploading(3, 1, entangler="none"), np.zeros(3), n_pairs=pairs, seed=5)
    assert deep.shape == (2,)
    assert (deep < 3 * 75 / (2 * pairs)).all()
    assert shallow[0] > 10 * deep.max()
    again = expressibility(reuploading(3, 10), np.zeros((2, 3)), n_pairs=pairs, seed=5)
    np.testing.assert_array_equal(deep, again)


def test_expressibility_reads_features_and_scales():
    """Where the scales are 0 the features change nothing; where they are not, they are part of the state."""
    circuit = Circuit(
        1,
        (turn("RY", 0, weight=0, features=(0,)), turn("RZ", 0, weight=1)),
        1,
        (("scales", 1), ("weights", 1)),
    )
    at_pole, at_equator = expressibility(circuit, [[0.0], [np.pi / 2]], n_pairs=2000)
    assert at_pole == pytest.approx(np.log(75))
    assert at_equator < 0.4
    assert expressibility(circuit, [[np.pi / 2]], scales=0.0, n_pairs=500)[0] == pytest.approx(np.log(75))
    with pytest.raises(ValueError, match=r"^scales: "):
        expressibility(circuit, [[0.0]], scales=[1.0, 2.0])


def test_large_registers_do_not_underflow():
    """Twelve idle qubits: the Haar mass of the last bin is 75^-4095, far below the smallest float."""
    idle = Circuit(12, tuple(Gate("H", (q,)) for q in range(12)))
    assert expressibility(idle, n_pairs=5)[0] == pytest.approx(4095 * np.log(75))


def test_gradients_are_finite_differences_of_each_sample():
    circuit = reuploading(2, 2, 2)
    parameters = sample_parameters(circuit, 3, scales=0.8, seed=6)
    x = np.random.default_rng(2).normal(size=(3, 2))
    found = gradients(circuit, ["ZI", "XY"], parameters, x)
    assert found.shape == (3, 2, 12)
    step = 1e-5 * np.eye(12)
    for column, word in enumerate(("ZI", "XY")):
        for row in range(3):
            here = np.repeat(x[row][None], 12, axis=0)
            up, down = (expectations(circuit, parameters[row] + s * step, here, word) for s in (1, -1))
            np.testing.assert_allclose(found[row, column], (up - down) / 2e-5, atol=1e-9)
    np.testing.assert_allclose(gradients(circuit, ["ZI"], parameters, x[1])[1, 0], found[1, 0])


def test_fisher_information_of_one_rotation():
    """RY(theta): p = cos^2(theta / 2), whose information is 1 for every theta."""
    circuit = Circuit(1, (turn("RY", 0, weight=0),), 0, (("weights", 1),))
    np.testing.assert_allclose(fisher_information(circuit, [[0.4], [1.9]]), np.ones((2, 1, 1)), atol=1e-10)


def test_fisher_information_is_pennylanes():
    circuit = reuploading(2, 2, 2)
    parameters = sample_parameters(circuit, 1, scales=0.6, seed=4)[0]
    rows = np.random.default_rng(1).normal(size=(3, 2))
    device = qml.device("default.qubit", wires=2)

    @qml.qnode(device)
    def node(theta, x):
        for layer in range(2):
            for q in range(2):
                qml.RX(theta[8 + 2 * layer + q] * x[q], wires=q)
            for q in range(2):
                qml.RY(theta[4 * layer + 2 * q], wires=q)
                qml.RZ(theta[4 * layer + 2 * q + 1], wires=q)
            qml.CZ(wires=[0, 1])
        return qml.probs(wires=[0, 1])

    expected = 0
    for x in rows:
        theta = qml.numpy.array(parameters, requires_grad=True)
        p, slope = node(theta, x), qml.jacobian(node, argnums=0)(theta, x)
        expected = expected + np.einsum("yi,yj,y->ij", slope, slope, 1 / p) / len(rows)
    np.testing.assert_allclose(fisher_information(circuit, parameters, rows)[0], expected, atol=1e-9)


def test_effective_dimension_by_hand():
    n = 1000
    kappa = n / (2 * np.pi * np.log(n))
    # a constant identity: det = (1 + kappa)^P exactly
    flat = np.broadcast_to(np.eye(3), (7, 3, 3))
    assert effective_dimension(flat, n) == pytest.approx(3 * np.log(1 + kappa) / np.log(kappa))
    # one direction of P matters: the trace is normalised to P, so det = 1 + P kappa
    one = np.zeros((4, 3, 3))
    one[:, 0, 0] = 5.0
    assert effective_dimension(one, n) == pytest.approx(np.log(1 + 3 * kappa) / np.log(kappa))
    # two different samples: the mean of the roots, not the root of the mean
    two = np.array([[[0.5]], [[1.5]]])
    roots = np.sqrt(1 + kappa * np.array([0.5, 1.5]))
    assert effective_dimension(two, n) == pytest.approx(2 * np.log(roots.mean()) / np.log(kappa))
    assert effective_dimension(flat, 10**9) == pytest.approx(3, abs=1e-3)


def test_a_redundant_parameter_adds_no_dimension():
    """RZ before a measurement in the computational basis: a parameter without any effect on it."""
    two = Circuit(1, (turn("RY", 0, weight=0), turn("RZ", 0, weight=1)), 0, (("weights", 2),))
    found = effective_dimension(fisher_information(two, sample_parameters(two, 10)), 10**6)
    assert found < 1.2


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: effective_dimension(np.eye(2), 1000), "fisher"),
        (lambda: effective_dimension(np.zeros((1, 2, 2)), 1000), "fisher"),
        (lambda: effective_dimension(np.ones((1, 1, 1)), 5), "n_data"),
        (lambda: effective_dimension(np.ones((1, 1, 1)), 1000, gamma=2.0), "n_data"),
        (lambda: sample_parameters(reuploading(1, 1), 0), "n_samples"),
    ],
)
def test_wrong_arguments_are_named(call, field):
    with pytest.raises(ValueError, match=f"^{field}: "):
        call()
