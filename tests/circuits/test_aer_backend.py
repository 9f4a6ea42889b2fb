"""Qiskit Aer as a backend: noise of a device cut to the used qubits, given channels, readout errors, shots."""

import itertools
import math

import pytest
import torch

import qrl
from circuits import Angle, Circuit, Gate, Observable, Term, reuploading
from circuits.backends.aer import AerBackend, fake_device
from circuits.gradients import parameter_shift

DOUBLE = torch.float64


def one_qubit(gate):
    return Circuit(1, (Gate(gate, (0,), Angle(0.0, (Term(1.0, None, (0,)),))),), 1)


def small_device(n_qubits=4, seed=3):
    from qiskit.providers.fake_provider import GenericBackendV2

    return GenericBackendV2(n_qubits, coupling_map=[[q, q + 1] for q in range(n_qubits - 1)], seed=seed)


def expectations(backend, circuit, features, observables, **options):
    torch.manual_seed(0)
    parameters = torch.rand(circuit.n_parameters, dtype=DOUBLE) * 6 - 3
    words = [Observable.parse(o, circuit.n_qubits) for o in observables]
    return parameters, backend.expectations(circuit, parameters, features, words, **options)


def whole_device(device, circuit, parameters, features, word):
    """The same circuit on the device as it is: Aer's own noise model, its own measurement, many shots."""
    from qiskit import ClassicalRegister, QuantumCircuit, transpile
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel

    from circuits.export import to_qiskit

    bound = to_qiskit(circuit, parameters.numpy(), features.numpy())
    isa = transpile(bound, device, optimization_level=3, seed_transpiler=0)
    where = isa.layout.final_index_layout()
    measured = QuantumCircuit(*isa.qregs, ClassicalRegister(circuit.n_qubits))
    measured.compose(isa, inplace=True)
    change = QuantumCircuit(device.num_qubits)
    for qubit, letter in enumerate(word):
        if letter == "Y":
            change.sdg(where[qubit])
        if letter in "XY":
            change.h(where[qubit])
    if change.size():
        measured.compose(transpile(change, basis_gates=device.operation_names), inplace=True)
    measured.measure(where, range(circuit.n_qubits))
    noise = NoiseModel.from_backend(device)
    simulator = AerSimulator(method="density_matrix", noise_model=noise)
    shots = 200_000
    counts = simulator.run(measured, shots=shots, seed_simulator=5).result().get_counts()
    total = 0.0
    for bits, count in counts.items():
        read = bits[::-1]
        total += count * (-1) ** sum(read[q] == "1" for q, letter in enumerate(word) if letter != "I")
    return total / shots, 1 / math.sqrt(shots)


@pytest.mark.parametrize("word", ["ZZI", "IXY", "ZIZ"])
def test_noise_is_that_of_the_whole_device(word):
    device, circuit = small_device(), reuploading(3, 2)
    features = torch.tensor([[0.3, -0.7, 0.5], [-1.0, 0.2, 0.9]], dtype=DOUBLE)
    parameters, found = expectations(AerBackend(device), circuit, features, [word])
    for row, sample in enumerate(features):
        expected, error = whole_device(device, circuit, parameters, sample, word)
        assert found.values[row, 0].item() == pytest.approx(expected, abs=5 * error)


def test_a_fake_device_is_cut_to_the_qubits_in_use_and_transpiled_once():
    backend, circuit = AerBackend("fake_torino"), reuploading(4, 5)
    fitted = backend.fitted(circuit)
    assert backend.name == "aer:fake_torino"
    assert fake_device("fake_torino").num_qubits == 133
    assert 4 <= fitted.circuit.num_qubits <= 8
    assert backend.fitted(circuit) is fitted
    assert len(set(fitted.layout)) == 4
    features = torch.zeros((2, 4), dtype=DOUBLE)
    parameters, noisy = expectations(backend, circuit, features, ["ZIII", "IZII"])
    _, ideal = expectations(AerBackend(), circuit, features, ["ZIII", "IZII"])
    assert 1e-3 < (noisy.values - ideal.values).abs().max() < 0.2
    word, error = whole_device(fake_device("fake_torino"), circuit, parameters, features[0], "ZIII")
    assert noisy.values[0, 0].item() == pytest.approx(word, abs=5 * error)


def test_depolarisation_shrinks_the_value_after_every_gate():
    circuit = one_qubit("RX")
    x = torch.tensor([[0.4], [2.0]], dtype=DOUBLE)
    _, found = expectations(AerBackend(noise={"depolarizing": 0.1}), circuit, x, ["Z"])
    torch.testing.assert_close(found.values, 0.9 * torch.cos(x), atol=1e-12, rtol=0)


def test_bit_flip_amplitude_damping_and_readout_in_closed_form():
    circuit, x = one_qubit("RX"), torch.tensor([[0.4], [2.0]], dtype=DOUBLE)
    z = torch.cos(x)
    for noise, expected in (
        ({"bit_flip": 0.2}, 0.6 * z),
        ({"amplitude_damping": 0.3}, 0.3 + 0.7 * z),
        ({"readout": 0.05}, 0.9 * z),
    ):
        _, found = expectations(AerBackend(noise=noise), circuit, x, ["Z"])
        torch.testing.assert_close(found.values, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("gate", ["RX", "RY", "RZ", "RXX", "RYY", "RZZ", "RZX", "RXZ", "RXY", "RXYZ"])
def test_coherent_noise_is_the_mean_over_errors_of_the_angle(gate):
    """A value is a + b cos + c sin of the angle; the mean over a normal error leaves exp(-sigma^2 / 2) of b and c."""
    sigma, word = 0.4, gate[1:]
    n = len(word)
    # from no eigenstate of the word, prepared without angles and so without errors of them
    start = [Gate("H", (n - 1,))] if word[-1] == "Z" else []
    turn = Gate(gate, tuple(range(n)), Angle(0.0, (Term(1.0, None, (0,)),)))
    circuit = Circuit(n, (*start, turn), 1)
    observables = ["".join(letters) for letters in itertools.product("IXYZ", repeat=n)][1:]
    x = torch.tensor([[0.7], [0.7 + math.pi / 2], [0.7 + math.pi], [0.7 - math.pi / 2]], dtype=DOUBLE)
    _, ideal = expectations(AerBackend(), circuit, x, observables)
    _, found = expectations(AerBackend(noise={"coherent": sigma}), circuit, x[:1], observables)
    mean = ideal.values.mean(0)
    assert (ideal.values[0] - mean).abs().max() > 0.3
    expected = mean + math.exp(-(sigma**2) / 2) * (ideal.values[0] - mean)
    torch.testing.assert_close(found.values[0], expected, atol=1e-12, rtol=0)


def test_coherent_noise_is_what_circuits_with_wrong_angles_give_on_average():
    circuit, sigma, count = reuploading(2, 2), 0.3, 4000
    features = torch.tensor([[0.3, -0.8]], dtype=DOUBLE)
    parameters, found = expectations(AerBackend(noise={"coherent": sigma}), circuit, features, ["ZZ", "XI"])
    angles = torch.from_numpy(circuit.angles(parameters.numpy(), features.numpy()))
    wrong = angles + sigma * torch.randn((count, circuit.n_angles), dtype=DOUBLE)
    words = [Observable.parse(word, 2) for word in ("ZZ", "XI")]
    flat = circuit.flat()
    drawn = qrl.QuantumLayer(flat, ["ZZ", "XI"]).backend.expectations(
        flat, wrong.new_zeros((count, 0)), wrong, words
    )
    error = drawn.values.std(0) / math.sqrt(count)
    assert ((drawn.values.mean(0) - found.values[0]).abs() < 5 * error).all()


def test_gates_of_two_qubits_have_their_own_probability():
    circuit = Circuit(2, (Gate("CX", (0, 1)),), 0)
    _, found = expectations(
        AerBackend(noise={"depolarizing": [0.0, 0.2]}),
        circuit,
        torch.zeros((1, 0), dtype=DOUBLE),
        ["ZZ", "ZI"],
    )
    torch.testing.assert_close(found.values, torch.full((1, 2), 0.8, dtype=DOUBLE), atol=1e-12, rtol=0)


def test_shots_are_drawn_from_the_noisy_readings():
    device, circuit = small_device(), reuploading(3, 1)
    features, words = torch.rand(6, 3, dtype=DOUBLE), ["ZZI", {"XIY": 0.5, "IIZ": -1.0}, "III"]
    backend = AerBackend(device)
    _, exact = expectations(backend, circuit, features, words)
    _, drawn = expectations(backend, circuit, features, words, shots=4000, seed=7)
    _, again = expectations(backend, circuit, features, words, shots=4000, seed=7)
    torch.testing.assert_close(drawn.values, again.values, atol=0, rtol=0)
    pulls = (drawn.values - exact.values)[:, :2] / drawn.errors[:, :2]
    assert pulls.abs().max() < 5
    assert drawn.values[:, 2].tolist() == [1.0] * 6
    assert drawn.errors[:, 2].tolist() == [0.0] * 6
    assert exact.errors is None
    assert exact.usage.shots == 0
    assert drawn.usage.executions == 6
    assert drawn.usage.hardware_executions == 6 * 2  # ZZI and IIZ are read together
    assert drawn.usage.shots == 6 * 2 * 4000
    _, single = expectations(backend, circuit, features, words, shots=1, seed=7)
    assert single.errors[:, :2].isnan().all()


def test_the_shift_rule_holds_under_noise():
    circuit, backend = reuploading(2, 1), AerBackend(small_device(2))
    features = torch.tensor([[0.3, -0.8]], dtype=DOUBLE)
    torch.manual_seed(1)
    parameters = torch.rand(circuit.n_parameters, dtype=DOUBLE)
    words = [Observable.parse("ZZ", 2)]
    ones = torch.ones((1, 1), dtype=DOUBLE)
    found = parameter_shift(backend, circuit, parameters, features, words, ones)
    step = 1e-4
    for index in range(circuit.n_parameters):
        moved = [parameters.clone() for _ in range(2)]
        moved[0][index] += step
        moved[1][index] -= step
        up, down = (backend.expectations(circuit, m, features, words).values for m in moved)
        assert found.parameters[index].item() == pytest.approx((up - down).item() / (2 * step), abs=1e-7)


def test_ideal_values_hold_for_initial_states_and_circuits_without_angles():
    amplitudes = (0.6, 0.0, 0.0, 0.8)
    bell = Circuit(2, (), 0, (), amplitudes)
    _, found = expectations(AerBackend(), bell, torch.zeros((3, 0), dtype=DOUBLE), ["ZZ", "XX", "ZI"])
    expected = torch.tensor([[1.0, 0.96, -0.28]] * 3, dtype=DOUBLE)
    torch.testing.assert_close(found.values, expected, atol=1e-12, rtol=0)
    _, none = expectations(AerBackend(), bell, torch.zeros((0, 0), dtype=DOUBLE), ["ZZ"])
    assert none.values.shape == (0, 1)


def test_a_layer_learns_on_the_noise_of_a_device():
    layer = qrl.QuantumLayer(reuploading(2, 1), ["ZI"], backend=AerBackend(small_device(2)))
    assert layer.gradient == "parameter_shift"
    layer(torch.rand(3, 2)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    assert layer(torch.rand(3, 2)).dtype is torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "fake_torinno"}, "did you mean 'fake_torino'"),
        ({"noise": {"depolarising": 0.1}}, "did you mean 'depolarizing'"),
        ({"noise": {"bit_flip": 1.5}}, "noise.bit_flip: 1.5 is no probability"),
        ({"noise": {"readout": True}}, "noise.readout: True is no probability"),
        ({"noise": {"depolarizing": [0.1, 2.0]}}, "noise.depolarizing: 2.0 is no probability"),
        ({"noise": {"depolarizing": [0.1]}}, r"noise.depolarizing: \[0.1\] is no pair"),
        ({"noise": {"coherent": -0.1}}, "noise.coherent: -0.1 is no standard deviation"),
        ({"device": "fake_torino", "noise": {}}, "is given beside a device"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as refused:
        AerBackend(**arguments)
    assert "\n" not in str(refused.value)


def test_a_register_larger_than_the_device_is_refused():
    backend = AerBackend(small_device(2))
    with pytest.raises(ValueError, match="n_qubits: 3 is too many for"):
        expectations(backend, reuploading(3, 1), torch.zeros((1, 3), dtype=DOUBLE), ["ZZZ"])


def test_a_backend_never_takes_over_what_another_left_with_a_circuit():
    circuit, x = one_qubit("RX"), torch.tensor([[0.4]], dtype=DOUBLE)
    for flip in (0.0, 0.1, 0.2, 0.3):  # each is gone before the next is made, and its place in memory free
        _, found = expectations(AerBackend(noise={"bit_flip": flip}), circuit, x, ["Z"])
        torch.testing.assert_close(found.values, (1 - 2 * flip) * torch.cos(x), atol=1e-12, rtol=0)
