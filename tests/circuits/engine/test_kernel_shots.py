"""Shots of the kernel: joint distribution, standard errors, reproducibility.

Seeds are fixed, so each test always gives the same verdict. A random other seed would fail with a probability
below ``ALARM`` for each comparison, unless a test states its own.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard
from scipy.stats import chi2, norm

from circuits import Angle, Circuit, Gate, Observable, reuploading
from circuits.backends.torch import TorchBackend

pytestmark = pytest.mark.engine

ALARM = 1e-6
BASES = ["ZZZ", "XXX", "YYY", "XYZ", "ZXY", "YZX"]


def parse(n_qubits, *specs):
    return tuple(Observable.parse(spec, n_qubits) for spec in specs)


def below(basis):
    """All words that are measured in a basis, as observables; word k has the letters of the bits of k."""
    words = (
        "".join(letter if k >> q & 1 else "I" for q, letter in enumerate(basis))
        for k in range(2 ** len(basis))
    )
    return parse(len(basis), *words)


def ask(backend, circuit, observables, rows, shots=None, seed=0, dtype=torch.float64):
    """Ask for the same parameters and features in each row."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(circuit.n_parameters, generator=generator).to(dtype)
    x = torch.randn(1, circuit.n_features, generator=generator).to(dtype).repeat(rows, 1)
    return backend.expectations(circuit, theta, x, observables, shots, seed)


def frequencies(values):
    """The frequencies of all outcomes, ``(N, 2 ** n)``, from the values of all words below a basis."""
    size = values.shape[1]
    return values.double().numpy() @ hadamard(size) / size


def distribution(circuit, basis):
    """The exact probabilities of the outcomes, by way of the torch backend's expectation values."""
    return frequencies(ask(TorchBackend(), circuit, below(basis), 1).values)[0]


def state_of(n_qubits):
    """A circuit whose outcomes are all possible and correlated."""
    return reuploading(n_qubits, 2, entangling_gate="CX", rotations=("RX", "RY", "RZ"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("basis", BASES)
def test_joint_counts_of_many_shots_have_the_exact_distribution(native, basis, dtype):
    """As chi-square of all rows together, and of each row, which also shows that rows are independent."""
    rows, shots = 100, 2000
    circuit, exact = state_of(3), distribution(state_of(3), basis)
    result = ask(native, circuit, below(basis), rows, shots, dtype=dtype)
    counts = frequencies(result.values) * shots
    np.testing.assert_allclose(counts, counts.round(), atol=1e-3)  # of shots, all in one joint draw
    total, expected = counts.sum(0), exact * rows * shots
    assert expected.min() > 3 * rows
    assert ((total - expected) ** 2 / expected).sum() < chi2.isf(ALARM, 7)
    each = ((counts - exact * shots) ** 2 / (exact * shots)).sum()
    assert chi2.isf(1 - ALARM / 2, 7 * rows) < each < chi2.isf(ALARM / 2, 7 * rows)


@pytest.mark.parametrize("shots", [1, 5, 63, 64])
def test_joint_counts_of_few_shots_have_the_exact_distribution(native, shots):
    """With fewer shots than outcomes the kernel adds them up one by one, with as many it counts outcomes."""
    rows, basis = 20000 // shots, "XZYZXY"
    exact = distribution(state_of(6), basis)
    counts = frequencies(ask(native, state_of(6), below(basis), rows, shots).values) * shots
    np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
    total, expected = counts.sum(0), exact * rows * shots
    often = expected > 5
    assert often.sum() > 40
    rest = (total[~often].sum() - expected[~often].sum()) ** 2 / max(expected[~often].sum(), 1e-9)
    statistic = ((total - expected) ** 2 / expected)[often].sum() + rest
    assert statistic < chi2.isf(ALARM, often.sum())


def test_settings_of_one_request_are_drawn_apart(native):
    """The errors of words in different settings are uncorrelated over the rows."""
    rows, shots = 4000, 50
    circuit, measured = state_of(2), parse(2, "ZI", "XI", "YI", "IZ")
    exact = ask(TorchBackend(), circuit, measured, 1).values
    off = (ask(native, circuit, measured, rows, shots).values - exact).numpy()
    correlation = np.corrcoef(off.T)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(correlation[a, b]) < norm.isf(ALARM / 2) / math.sqrt(rows)


@pytest.mark.parametrize("shots", [16, 400])
def test_standard_errors_are_the_spread(native, shots):
    """Mean square of the errors, spread of the means, and the share of means within 1.96 errors.

    A variance from 4000 rows is off by 2.2 percent, and 11 percent are five times as much.
    """
    rows = 4000
    circuit = state_of(5)  # 32 outcomes, more and less than the shots
    measured = parse(
        5,
        "ZIIII",
        "IXYII",
        {"ZZIII": 0.5, "IZZII": -1.0, "XIIIX": 2.0, "IIIII": 0.3},
        {"YIIII": 1.5, "IYIII": 0.5},
    )
    exact = ask(TorchBackend(), circuit, measured, 1).values
    result = ask(native, circuit, measured, rows, shots)
    off = result.values - exact
    spread = off.square().mean(0).sqrt()
    assert (off.mean(0).abs() < norm.isf(ALARM / 2) * spread / math.sqrt(rows)).all()
    torch.testing.assert_close(result.errors.square().mean(0), spread.square(), rtol=0.11, atol=0)
    if shots == 400:
        inside = (off.abs() < 1.96 * result.errors).double().mean(0)
        assert ((inside - 0.95).abs() < 0.01 + norm.isf(ALARM / 2) * math.sqrt(0.05 * 0.95 / rows)).all()


@pytest.mark.parametrize("shots", [3, 100])
def test_a_sum_of_commuting_words_has_its_covariance(native, shots):
    """In a Bell state ZI + IZ is 2 or -2, ZI - IZ is 0, and ZZ is 1: none of that is seen word by word."""
    bell = Circuit(2, (Gate("H", (0,)), Gate("CX", (0, 1))))
    measured = parse(2, {"ZI": 1.0, "IZ": 1.0}, {"ZI": 1.0, "IZ": -1.0}, "ZZ", {"XX": 1.0, "II": 2.0}, "YY")
    result = ask(native, bell, measured, 500, shots)
    share = result.values[:, 0] / 2
    torch.testing.assert_close(
        result.errors[:, 0], 2 * ((1 - share**2) / (shots - 1)).sqrt(), rtol=1e-12, atol=1e-9
    )
    # Outcomes that the state excludes are never drawn, though their amplitudes are rounding errors.
    wanted = torch.tensor([0.0, 1.0, 3.0, -1.0], dtype=torch.float64).repeat(500, 1)
    torch.testing.assert_close(result.values[:, 1:], wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(result.errors[:, 1:], torch.zeros_like(wanted), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("gates", "basis"), [((), "Z"), (("H",), "X"), (("H", "S"), "Y")])
@pytest.mark.parametrize("qubit", range(5))
def test_eigenstates_have_one_outcome(native, gates, basis, qubit):
    """Of both signs, and on every qubit, whether a lane or not."""
    word = "".join(basis if q == qubit else "I" for q in range(5))
    for sign, flip in ((1.0, ()), (-1.0, (Gate("X", (qubit,)),))):
        circuit = Circuit(5, (*flip, *(Gate(name, (qubit,)) for name in gates)))
        for shots in (7, 70):
            result = ask(native, circuit, parse(5, word), 3, shots)
            assert result.values.tolist() == [[sign]] * 3
            assert result.errors.tolist() == [[0.0]] * 3


def test_identities_need_no_shot(native):
    measured = parse(2, "II", {"II": 0.25, "ZI": 0.0})
    result = ask(native, state_of(2), measured, 3, 10)
    assert result.values.tolist() == [[1.0, 0.25]] * 3
    assert result.errors.tolist() == [[0.0, 0.0]] * 3
    only = ask(native, state_of(2), parse(2, "II"), 3, 10)
    assert (only.usage.hardware_executions, only.usage.shots) == (0, 0)


def test_one_shot_has_no_standard_error(native):
    measured = parse(3, "ZII", "XXI", "III")
    ours, theirs = (ask(backend, state_of(3), measured, 20, 1) for backend in (native, TorchBackend()))
    assert ours.values.abs().eq(1).all()
    assert torch.equal(ours.errors.isnan(), theirs.errors.isnan())
    assert ours.errors[:, :2].isnan().all()


def test_counts_are_those_of_torch(native):
    measured = parse(3, "ZII", "IXI", {"ZZZ": 1.0, "YYY": 0.5})
    ours, theirs = (ask(backend, state_of(3), measured, 4, 30).usage for backend in (native, TorchBackend()))
    assert (ours.executions, ours.hardware_executions, ours.shots, ours.jobs) == (4, 12, 360, 0)
    assert (ours.executions, ours.hardware_executions, ours.shots) == (
        theirs.executions,
        theirs.hardware_executions,
        theirs.shots,
    )


@pytest.mark.parametrize("shots", [5, 50])
def test_a_seed_decides_everything(natives, shots):
    """For every engine and instruction set alike, and for a row whatever batch it stands in front of."""
    circuit, measured = state_of(4), parse(4, "ZIII", "IXXI", {"ZZZZ": 1.0, "YIIY": 0.5})
    first = None
    for backend in natives.values():
        whole = ask(backend, circuit, measured, 40, shots, seed=9)
        again = ask(backend, circuit, measured, 40, shots, seed=9)
        assert torch.equal(whole.values, again.values)
        assert torch.equal(whole.errors, again.errors)
        part = ask(backend, circuit, measured, 17, shots, seed=9)
        assert torch.equal(part.values, whole.values[:17])
        assert not torch.equal(ask(backend, circuit, measured, 40, shots, seed=10).values, whole.values)
        first = whole.values if first is None else first
        torch.testing.assert_close(whole.values, first, rtol=0, atol=1e-12)
    assert len(first.unique(dim=0)) > 20  # rows differ from each other


def test_neighbouring_seeds_are_independent(native):
    """The same row of 2000 seeds in a row: chi-square, as if it were one batch."""
    shots, circuit, basis = 8, state_of(3), "ZZZ"
    exact = distribution(circuit, basis)
    values = torch.cat([ask(native, circuit, below(basis), 1, shots, seed=s).values for s in range(2000)])
    total, expected = (frequencies(values) * shots).sum(0), exact * 2000 * shots
    assert ((total - expected) ** 2 / expected).sum() < chi2.isf(ALARM, 7)


def test_seeds_of_any_size_pass(native):
    circuit, measured = state_of(2), parse(2, "ZI")
    drawn = [ask(native, circuit, measured, 30, 9, seed=s).values for s in (0, 2**63, 2**64 - 1)]
    for a, b in itertools.combinations(drawn, 2):
        assert not torch.equal(a, b)


def test_without_a_seed_torchs_generator_decides(native):
    circuit, measured = state_of(2), parse(2, "ZI", "IX")

    def draw():
        return ask(native, circuit, measured, 30, 10, seed=None).values

    torch.manual_seed(5)
    first = draw(), draw()
    torch.manual_seed(5)
    second = draw(), draw()
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(*first)


@pytest.mark.parametrize("shots", [3, 30])
def test_parameters_that_are_not_finite_give_nan(native, shots):
    """A diverged network shows NaN, with its own parameters only in the sample's row."""
    circuit, measured = state_of(2), parse(2, "ZI", "XX")
    theta = torch.zeros(5, circuit.n_parameters)
    theta[3, 1] = math.nan
    result = native.expectations(circuit, theta, torch.zeros(5, 2), measured, shots, 0)
    for rows in (result.values, result.errors):
        assert rows.isnan().all(dim=1).tolist() == [False, False, False, True, False]


def test_a_rotated_qubit_has_its_probability(native):
    """<Z> of RX(a) is cos(a), from 20 angles of 100,000 shots each."""
    for index in range(20):
        angle = 0.15 * index + 0.05
        circuit = Circuit(1, (Gate("RX", (0,), Angle(angle)),))
        result = ask(native, circuit, parse(1, "Z"), 1, 100_000, seed=index)
        bound = norm.isf(ALARM / 2) * abs(math.sin(angle)) / math.sqrt(100_000)
        assert abs(result.values.item() - math.cos(angle)) < bound
