"""Every registered backend: Qiskit's values, one gradient, equal counts, seeded shots. One without a row fails here."""

import pytest
import torch
from emulator import Loopback

import qrl
from circuits import BACKENDS, get_backend, reuploading
from circuits.journal import Budget, Journal
from circuits.submission import Spending, Waits

ROWS = {
    "native": ["native"],
    "torch": ["torch"],
    "pennylane": ["pennylane", "pennylane:lightning.qubit"],
    "aer": ["aer"],
    "primitive": ["primitive", "primitive:aer"],
}
PAYING = {"ibm": "ibm:ibm_loopback"}
"""Kinds that cost money, by what stands for them here: they answer with shots alone."""
NAMES = [name for names in ROWS.values() for name in names]
OBSERVABLES = ["ZZI", {"XIY": 0.5, "IIZ": -1.0}, "III"]
BATCH = 4


def layer(name, **options):
    torch.manual_seed(3)
    return qrl.QuantumLayer(reuploading(3, 2), OBSERVABLES, backend=name, **options).double()


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
    assert set(ROWS) | set(PAYING) == set(BACKENDS)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_qiskits(name):
    from qiskit.quantum_info import SparsePauliOp, Statevector

    module = layer(name)
    values = module(features())
    words = [SparsePauliOp("IZZ"), SparsePauliOp(["YIX", "ZII"], [0.5, -1.0]), SparsePauliOp("III")]
    for row, sample in enumerate(features()):
        state = Statevector(module.bound_circuit(sample))
        expected = [state.expectation_value(word).real for word in words]
        assert values[row].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_hardware_counts_are_the_same_everywhere(name):
    values, grads, totals = learnt(layer("torch"))
    ours, our_grads, our_totals = learnt(layer(name))
    torch.testing.assert_close(ours, values, atol=1e-12, rtol=0)
    for a, b in zip(our_grads, grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)
    assert our_totals["hardware_executions"] == totals["hardware_executions"]
    assert our_totals["executions"] >= BATCH


@pytest.mark.parametrize("name", [n for n in NAMES if get_backend(n).capabilities.shots])
def test_shots_are_seeded_and_unbiased(name):
    exact = layer(name)(features()).detach()
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
def test_words_are_read_from_the_same_shots_where_the_backend_says_so(name):
    # Of m shots, m (1 + s a + t b + s t ab) / 4 read s and t: whole numbers, if all three means are of the same shots.
    torch.manual_seed(3)
    shots = 200
    module = qrl.QuantumLayer(reuploading(3, 2), ["ZXI", "IXZ", "ZIZ"], backend=name, shots=shots).double()
    with torch.no_grad():
        a, b, ab = module(features()).T
    cells = torch.stack([(1 + s * a + t * b + s * t * ab) * shots / 4 for s in (1, -1) for t in (1, -1)])
    together = bool(((cells - cells.round()).abs() < 1e-9).all() and (cells > -1e-9).all())
    assert together == module.backend.capabilities.joint_shots


@pytest.fixture
def spending(tmp_path, monkeypatch):
    """A journal, a budget, and the service on this host."""
    with Loopback(tmp_path / "service") as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        waits = Waits(grace=0.05, poll=0.01, retry=0.01, retry_most=2.0)
        yield Spending(Journal(tmp_path / "journal.sqlite"), Budget(500.0), "contract", waits)


def paying(kind, spending, **options):
    made = type(get_backend(PAYING[kind]))
    return made(PAYING[kind].partition(":")[2], spending=spending, options=options)


@pytest.mark.parametrize("kind", PAYING)
def test_a_paying_backend_has_unbiased_seeded_shots_and_the_same_counts(kind, spending):
    exact = layer("torch")(features()).detach()
    backend = paying(kind, spending, resilience_level=0)
    module = layer(backend, shots=2000)
    torch.manual_seed(11)
    values, _, totals = learnt(module)
    bounds = torch.tensor([1.0, 1.5, 1e-9]) * 5 / 2000**0.5
    assert bool(((values - exact).abs() <= bounds).all())
    assert totals["jobs"] == 1
    assert totals["hardware_executions"] == learnt(layer("torch"))[2]["hardware_executions"]
    module = layer(backend, shots=2000)
    torch.manual_seed(11)
    again, _, more = learnt(module)
    torch.testing.assert_close(again, values, atol=0, rtol=0)
    assert more["jobs"] == 0  # it was paid, and is read from the journal


@pytest.mark.parametrize("kind", PAYING)
def test_a_paying_backend_reads_words_from_the_same_shots(kind, spending):
    shots = 256
    backend = paying(kind, spending, primitive="sampler")
    torch.manual_seed(3)
    module = qrl.QuantumLayer(reuploading(3, 2), ["ZXI", "IXZ", "ZIZ"], backend=backend, shots=shots).double()
    with torch.no_grad():
        a, b, ab = module(features()).T
    cells = torch.stack([(1 + s * a + t * b + s * t * ab) * shots / 4 for s in (1, -1) for t in (1, -1)])
    assert backend.capabilities.joint_shots
    assert bool(((cells - cells.round()).abs() < 1e-9).all() and (cells > -1e-9).all())
