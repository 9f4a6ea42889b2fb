"""Estimators of Qiskit's interface as backends: one PUB a request, columns in order, layouts applied, seeds."""

import math

import numpy as np
import pytest
import torch

import qrl
from circuits import Angle, Circuit, Gate, Observable, Term, reuploading
from circuits.backends.primitive import PrimitiveBackend, known_primitive
from circuits.gradients import parameter_shift

DOUBLE = torch.float64


class Recorded:
    """Makes an exact estimator and keeps the PUBs that it is given."""

    def __init__(self):
        self.pubs, self.precisions = [], []

    def __call__(self, seed):
        from qiskit.primitives import StatevectorEstimator

        kept = self

        class Estimator(StatevectorEstimator):
            def run(self, pubs, *, precision=None):
                kept.pubs.append(list(pubs))
                kept.precisions.append(precision)
                return super().run(pubs, precision=precision)

        return Estimator(seed=seed)


def device(n_qubits=5):
    from qiskit.providers.fake_provider import GenericBackendV2

    return GenericBackendV2(n_qubits, coupling_map=[[q, q + 1] for q in range(n_qubits - 1)], seed=3)


def words(n_qubits, *labels):
    return [Observable.parse(label, n_qubits) for label in labels]


def test_a_gradient_is_one_pub_and_equals_the_engines():
    kept, circuit = Recorded(), reuploading(4, 3, squash="tanh")
    backend = PrimitiveBackend(kept, exact=True)
    torch.manual_seed(0)
    parameters = torch.rand(circuit.n_parameters, dtype=DOUBLE) * 6 - 3
    features, upstream = torch.rand(5, 4, dtype=DOUBLE), torch.rand(5, 2, dtype=DOUBLE)
    observables = words(4, "ZZII", {"IXIY": 0.5, "IIIZ": -1.0})
    ours = parameter_shift(backend, circuit, parameters, features, observables, upstream)
    from circuits import get_backend

    native = get_backend("torch").expectations(circuit, parameters, features, observables, differentiate=True)
    exact = native.vjp(upstream)
    torch.testing.assert_close(ours.parameters, exact.parameters, atol=1e-8, rtol=0)
    torch.testing.assert_close(ours.features, exact.features, atol=1e-8, rtol=0)
    ((pub,),) = kept.pubs
    assert pub[2].shape == (2 * circuit.n_angles * 5, circuit.n_angles)
    # block k of the first half has angle k moved by +pi/2, of the second by -pi/2
    rows = pub[2].reshape(2, circuit.n_angles, 5, -1)
    base = circuit.angles(parameters.numpy(), features.numpy())
    for sign, half in zip((1.0, -1.0), rows, strict=True):
        for k in range(circuit.n_angles):
            moved = base.copy()
            moved[:, k] += sign * math.pi / 2
            np.testing.assert_allclose(half[k], moved, atol=1e-15)


def test_columns_follow_the_angles_and_not_their_names():
    # twelve angles: by name "angles[10]" would come before "angles[2]"
    gates = tuple(Gate("RY", (0,), Angle(0.0, (Term(1.0, None, (k,)),))) for k in range(12))
    circuit = Circuit(1, gates, 12)
    features = torch.zeros((12, 12), dtype=DOUBLE)
    features[range(12), range(12)] = torch.arange(12, dtype=DOUBLE) / 10
    found = known_primitive(None).expectations(circuit, torch.zeros(0, dtype=DOUBLE), features, words(1, "Z"))
    torch.testing.assert_close(found.values[:, 0], torch.cos(torch.arange(12, dtype=DOUBLE) / 10))


def test_a_device_is_transpiled_for_once_and_its_layout_applied_to_observables():
    kept, circuit = Recorded(), reuploading(3, 2, entangler="ring")
    backend = PrimitiveBackend(kept, device(), exact=True)
    features = torch.rand(2, 3, dtype=DOUBLE)
    parameters = torch.rand(circuit.n_parameters, dtype=DOUBLE)
    observables = words(3, "ZII", "IXZ")
    found = backend.expectations(circuit, parameters, features, observables)
    expected = known_primitive("statevector").expectations(circuit, parameters, features, observables)
    torch.testing.assert_close(found.values, expected.values, atol=1e-10, rtol=0)
    backend.expectations(circuit, parameters, features, observables)
    assert kept.pubs[0][0][0] is kept.pubs[1][0][0]
    assert kept.pubs[0][0][0].num_qubits == 5
    assert backend.capabilities.max_qubits == 5


def test_any_device_of_qiskits_serves_through_its_estimator():
    backend, circuit = PrimitiveBackend.of_device(device(3)), reuploading(2, 1)
    assert backend.name.startswith("primitive:generic_backend")
    layer = qrl.QuantumLayer(circuit, ["ZI", "IZ"], backend=backend, shots=4096).double()
    exact = qrl.QuantumLayer(circuit, ["ZI", "IZ"]).double()
    exact.load_state_dict(layer.state_dict())
    features = torch.rand(3, 2, dtype=DOUBLE)
    assert (layer(features) - exact(features)).abs().max() < 0.15
    with pytest.raises(ValueError, match="has no exact values; give a number of shots"):
        qrl.QuantumLayer(circuit, ["ZI"], backend=backend)


def test_shots_become_the_precision_and_standard_errors_are_the_estimators():
    kept = Recorded()
    backend, circuit = PrimitiveBackend(kept, exact=True), reuploading(2, 1)
    parameters, features = torch.rand(circuit.n_parameters, dtype=DOUBLE), torch.rand(2, 2, dtype=DOUBLE)
    found = backend.expectations(circuit, parameters, features, words(2, "ZI", "II"), shots=400, seed=1)
    again = backend.expectations(circuit, parameters, features, words(2, "ZI", "II"), shots=400, seed=1)
    assert kept.precisions == [0.05, 0.05]
    torch.testing.assert_close(found.values, again.values, atol=0, rtol=0)
    torch.testing.assert_close(found.errors, torch.tensor([[0.05, 0.0]] * 2, dtype=DOUBLE))
    assert found.usage.shots == 2 * 400


def test_identities_are_never_sent():
    kept = Recorded()
    backend, circuit = PrimitiveBackend(kept, exact=True), reuploading(2, 1)
    parameters, features = torch.rand(circuit.n_parameters, dtype=DOUBLE), torch.rand(2, 2, dtype=DOUBLE)
    found = backend.expectations(circuit, parameters, features, words(2, {"II": 2.0}, {"II": 1.0, "ZI": 0.5}))
    assert found.values[:, 0].tolist() == [2.0, 2.0]
    assert len(kept.pubs[0][0][1]) == 1
    backend.expectations(circuit, parameters, features, words(2, "II"))
    assert len(kept.pubs) == 1


def test_a_given_estimator_takes_no_seed():
    from qiskit.primitives import StatevectorEstimator

    backend, circuit = PrimitiveBackend(StatevectorEstimator(), exact=True), reuploading(1, 1)
    with pytest.raises(ValueError, match="seed: 3, but primitive is one given estimator"):
        backend.expectations(
            circuit, torch.zeros(3, dtype=DOUBLE), torch.zeros((1, 1), dtype=DOUBLE), words(1, "Z"), seed=3
        )


def test_an_unknown_estimator_is_refused_by_name():
    with pytest.raises(ValueError, match="did you mean 'statevector'"):
        known_primitive("statvector")
