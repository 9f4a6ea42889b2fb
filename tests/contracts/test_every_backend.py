"""Every registered backend: Qiskit's values, one gradient, equal counts, seeded shots. One without a row fails here."""

import pytest
import torch
from emulator import Loopback

import qrl
from circuits import BACKENDS, get_backend, reuploading
from circuits.backends.ibm import make_options
from circuits.journal import Budget, Journal
from circuits.submission import Spending, Waits

ROWS = {
    "native": ["native"],
    "torch": ["torch"],
    "pennylane": ["pennylane", "pennylane:lightning.qubit"],
    "aer": ["aer"],
    "primitive": ["primitive", "primitive:aer"],
    "ibm": ["ibm:ibm_loopback"],
}
NAMES = [name for names in ROWS.values() for name in names]
OBSERVABLES = ["ZZI", {"XIY": 0.5, "IIZ": -1.0}, "III"]
BATCH = 4


MANY = 4096
"""Shots where a backend has no exact values."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """What a backend that costs money may spend, at a service on this host."""
    folder = tmp_path_factory.mktemp("cloud")
    with Loopback(folder / "service") as service, pytest.MonkeyPatch.context() as environment:
        for name, value in service.environment.items():
            environment.setenv(name, value)
        waits = Waits(grace=0.05, poll=0.01, retry=0.01, retry_most=2.0)
        yield Spending(Journal(folder / "journal.sqlite"), Budget(500.0), "contract", waits)


@pytest.fixture
def layer(request):
    """A layer on a backend: exact where that is possible."""

    def build(name, observables=OBSERVABLES, **options):
        backend = get_backend(name)
        if backend.capabilities.remote:
            backend.spending = request.getfixturevalue("cloud")
            backend.options = make_options({"resilience_level": 0, "dynamical_decoupling": False})
        if not backend.capabilities.exact:
            options = {"shots": MANY, **options}
        torch.manual_seed(3)
        return qrl.QuantumLayer(reuploading(3, 2), observables, backend=backend, **options).double()

    return build


def of_shots(name, spread):
    """How far values may be from exact ones: not at all, or 5 standard errors, by a spread of single shots."""
    return 0.0 if get_backend(name).capabilities.exact else 5.0 * spread / MANY**0.5


def features():
    return torch.linspace(-1, 1, 3 * BATCH, dtype=torch.float64).reshape(BATCH, 3)


def learnt(module):
    """Values, gradients and counts of one learning step."""
    with qrl.Ledger("backend", 0, "layer", meters=()) as ledger:
        x = features().requires_grad_()
        values = module(x)
        (values * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)).sum().backward()
        totals = ledger.totals()
    grads = [x.grad, *(p.grad for p in module.parameters())]
    return values.detach(), grads, totals


def test_every_backend_has_a_row():
    assert set(ROWS) == set(BACKENDS)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_qiskits(name, layer):
    from qiskit.quantum_info import SparsePauliOp, Statevector

    module = layer(name)
    with torch.no_grad():
        values = module(features())
    words = [SparsePauliOp("IZZ"), SparsePauliOp(["YIX", "ZII"], [0.5, -1.0]), SparsePauliOp("III")]
    for row, sample in enumerate(features()):
        state = Statevector(module.bound_circuit(sample))
        expected = [state.expectation_value(word).real for word in words]
        assert values[row].tolist() == pytest.approx(expected, abs=1e-12 + of_shots(name, 1.5))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_hardware_counts_are_the_same_everywhere(name, layer):
    values, grads, totals = learnt(layer("torch"))
    ours, our_grads, our_totals = learnt(layer(name))
    torch.testing.assert_close(ours, values, atol=1e-12 + of_shots(name, 1.5), rtol=0)
    # A sample's slope by an angle, of observables weighted 1 and 2, has a spread of at most 5 ** 0.5; of these, at most
    # 4 samples and 2 angles add up to a gradient.
    for a, b in zip(our_grads, grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10 + of_shots(name, 40**0.5), rtol=0)
    assert our_totals["hardware_executions"] == totals["hardware_executions"]
    assert our_totals["executions"] >= BATCH
    assert our_totals["jobs"] == get_backend(name).capabilities.remote


@pytest.mark.parametrize("name", [n for n in NAMES if get_backend(n).capabilities.shots])
def test_shots_are_seeded_and_unbiased(name, layer):
    exact = layer("torch")(features()).detach()
    module = layer(name, shots=2000)
    torch.manual_seed(11)
    with torch.no_grad():
        first = module(features())
        torch.manual_seed(11)
        again = module(features())
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    # single-shot standard deviations are at most 1, 1.5 and 0: 5 standard errors over 8 values, false alarm 5e-6
    bounds = torch.tensor([1.0, 1.5, 1e-9]) * 5 / 2000**0.5
    assert bool(((first - exact).abs() <= bounds).all())


@pytest.mark.parametrize("name", [n for n in NAMES if get_backend(n).capabilities.shots])
def test_words_are_read_from_the_same_shots_where_the_backend_says_so(name, layer):
    # Of m shots, m (1 + s a + t b + s t ab) / 4 read s and t: whole numbers, if all three means are of the same shots.
    shots = 200
    module = layer(name, ["ZXI", "IXZ", "ZIZ"], shots=shots)
    with torch.no_grad():
        a, b, ab = module(features()).T
    cells = torch.stack([(1 + s * a + t * b + s * t * ab) * shots / 4 for s in (1, -1) for t in (1, -1)])
    together = bool(((cells - cells.round()).abs() < 1e-9).all() and (cells > -1e-9).all())
    abilities = module.backend.capabilities
    # a remote estimator that happens to does not promise it
    assert together == abilities.joint_shots or (together and abilities.remote)
