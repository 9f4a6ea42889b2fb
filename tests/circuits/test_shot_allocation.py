"""Stop rules: how often they err, what they cost, and what they make of shots that are read together."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from circuits import Angle, Circuit, Gate, Term, get_backend
from circuits.backends.protocol import Capabilities, Expectations, Usage
from circuits.observables import parse_observables
from circuits.shot_allocation import RULES, Comparison, EmpiricalBernstein, Published

RUNS = 2000


def rotation(qubit):
    return Gate("RY", (qubit,), Angle(0.0, (Term(features=(qubit,)),)))


def independent(n):
    """Qubit q reads cos(feature q), by itself."""
    return Circuit(n, tuple(rotation(q) for q in range(n)), n)


def together(n):
    """All qubits read the same, on average cos(feature 0)."""
    return Circuit(n, (rotation(0), *(Gate("CX", (0, q)) for q in range(1, n))), n)


def decide(rule, circuit, means, weights, offsets=None, observables=None, runs=RUNS, seed=0):
    """The decision of ``runs`` equal samples whose features give these means of Z."""
    weights = np.asarray(weights, dtype=float)
    n = circuit.n_qubits
    labels = observables or ["I" * q + "Z" + "I" * (n - q - 1) for q in range(n)]
    comparison = Comparison(
        get_backend("auto"),
        circuit,
        torch.zeros(0, dtype=torch.float64),
        parse_observables(labels, n),
        weights,
        np.zeros(len(weights)) if offsets is None else np.asarray(offsets, dtype=float),
    )
    torch.manual_seed(seed)
    features = torch.arccos(torch.tensor(means, dtype=torch.float64)).repeat(runs, 1)
    return rule(comparison, features)


def most(runs, probability):
    """What a count of events of at most this probability exceeds once in a million times."""
    return binom.ppf(1 - 1e-6, runs, probability)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("alpha", [0.05, 0.4])
@pytest.mark.parametrize(
    ("means", "weights"),
    [
        ([0.51, 0.5], np.eye(2)),
        ([0.5, 0.51], 30 * np.eye(2)),
        ([0.99, 0.985], np.eye(2)),  # readings are nearly always 1: early variances are often 0
        ([-0.985, -0.99], np.eye(2)),
        ([0.02, 0.0, 0.0, -0.5], np.eye(4)),
    ],
)
def test_wrong_decisions_are_as_rare_as_alpha_says(alpha, means, weights):
    rule = EmpiricalBernstein(start=10, step=10, cap=3000, alpha=alpha)
    decision = decide(rule, independent(len(means)), means, weights)
    wrong = int((decision.decided & (decision.choice != int(np.argmax(means)))).sum())
    assert wrong <= most(RUNS, alpha)


def test_two_settings_err_as_rarely():
    # <X> and <Z> of one qubit, which no setting reads together
    rule = EmpiricalBernstein(start=10, step=10, cap=3000, alpha=0.4)
    circuit = Circuit(1, (rotation(0),), 1)
    decision = decide(rule, circuit, [math.cos(math.pi / 4 - 0.01)], np.eye(2), observables=["Z", "X"])
    assert int((decision.decided & (decision.choice == 1)).sum()) <= most(RUNS, 0.4)


def test_the_bound_is_no_idle_promise():
    # Nearly a tie: a rule that stops hardly ever would keep any level. Over 200 looks this one uses a good part of it.
    rule = EmpiricalBernstein(start=20, step=20, cap=4000, alpha=0.4)
    decision = decide(rule, independent(2), [0.001, 0.0], np.eye(2))
    wrong = (decision.decided & (decision.choice == 1)).mean()
    assert 0.1 < wrong < 0.4
    eager = decide(EmpiricalBernstein(alpha=0.4), independent(2), [0.2, 0.0], np.eye(2))
    careful = decide(EmpiricalBernstein(alpha=0.01), independent(2), [0.2, 0.0], np.eye(2))
    assert eager.shots.mean() < 0.6 * careful.shots.mean()


def test_the_published_rule_errs_far_more_often_than_its_bound_where_the_scale_is_large():
    # Its bound of 2 standard errors is passed by chance in 2.3 % of the cases. With y = 10 O the estimates differ by
    # N(10 x 0.05, 2 x 10^2 / m): nearly every first look of 100 shots ends it, and a third of them wrongly.
    decision = decide(Published(), independent(2), [0.55, 0.5], 10 * np.eye(2))
    wrong = int((decision.choice == 1).sum())
    expected = norm.cdf(-0.05 * math.sqrt(100 / 2))
    assert expected > 0.35
    assert abs(wrong - RUNS * expected) < 5 * math.sqrt(RUNS * expected * (1 - expected))
    assert decision.shots.mean() < 130
    ours = decide(EmpiricalBernstein(), independent(2), [0.55, 0.5], 10 * np.eye(2))
    assert int((ours.decided & (ours.choice == 1)).sum()) <= most(RUNS, 0.05)
    assert int((ours.choice == 1).sum()) < wrong / 2


def test_the_scale_changes_nothing_for_ours():
    small = decide(EmpiricalBernstein(), independent(2), [0.3, 0.2], np.eye(2))
    large = decide(EmpiricalBernstein(), independent(2), [0.3, 0.2], 1000 * np.eye(2), [5.0, 5.0])
    np.testing.assert_array_equal(small.shots, large.shots)
    np.testing.assert_array_equal(small.choice, large.choice)
    np.testing.assert_allclose(large.values, 1000 * small.values + 5, rtol=1e-12)


# ---------------------------------------------------------------- the formula, shot by shot


class Record:
    """A backend that reads out a record: ``readings[letter]`` is ``(N, shots, n_qubits)`` of +-1 in that basis."""

    name = "record"
    capabilities = Capabilities(False, False, True, (torch.float64,), None, joint_shots=True)

    def __init__(self, readings):
        self.readings = readings
        self.taken = {(letter, row): 0 for letter, rows in readings.items() for row in range(len(rows))}

    def expectations(self, circuit, parameters, features, observables, shots=None, seed=None, **_):
        (letter,) = set("".join(observable.label for observable in observables)) - {"I"}
        values = []
        for row in features[:, 0].long().tolist():
            start = self.taken[letter, row]
            read = self.readings[letter][row, start : start + shots]
            self.taken[letter, row] = start + shots
            masks = [[c != "I" for c in observable.label] for observable in observables]
            values.append([read[:, mask].prod(1).mean() for mask in masks])
        usage = Usage(len(values), len(values), shots * len(values))
        return Expectations(torch.tensor(values, dtype=torch.float64), None, usage)


def reference(settings, offsets, alpha, looks):
    """Choice and number of looks of one sample: the theorem's sums as they stand, one shot after the other.

    ``settings`` holds the contributions of each shot to each candidate ``(shots, n)`` and the coefficients of the words
    ``(n, n_words)``, for each setting.
    """
    n = len(offsets)
    threshold = math.log((n - 1) / alpha)
    for look in range(1, len(looks)):
        best = [
            a
            for a in range(n)
            if all(_above(settings, offsets, a, b, looks, look, threshold) for b in range(n) if b != a)
        ]
        if best:
            return best[0], look
    values = offsets + sum(y[: looks[-1]].mean(0) for y, _ in settings)
    return int(values.argmax()), len(looks) - 1


def _above(settings, offsets, a, b, looks, last, threshold):
    span = max(2 * np.abs(words[a] - words[b]).sum() for _, words in settings)
    if span == 0:
        return offsets[a] > offsets[b]
    xs = [(y[:, a] - y[:, b]) / span for y, _ in settings]
    process = 0.0
    for look in range(1, last + 1):
        before, total = looks[look - 1], looks[look]
        seen = [x[:before] for x in xs]
        spread = sum(((x - x.mean()) ** 2).sum() for x in seen) if before else 0.0
        variance = (0.25 + spread) / (before + 1)
        bet = min(0.5, math.sqrt(2 * threshold / (variance * total * math.log(1 + total))))
        guesses = [x.sum() / (before + 1) for x in seen]
        for t in range(before, total):
            process += bet * (offsets[a] - offsets[b]) / span
            for x, guess in zip(xs, guesses, strict=True):
                process += bet * x[t] + (x[t] - guess) ** 2 * (math.log(1 - bet) + bet)
    return process > threshold


@pytest.mark.parametrize(
    "labels", [["ZII", "IZI"], ["ZII", "ZZI", "IIZ"], ["ZZI", "XII"], ["ZII", "XII", "XXI", "ZII"]]
)
def test_every_decision_is_that_of_the_theorem(labels):
    generator = np.random.default_rng(len("".join(labels)))
    alpha, runs, looks = 0.3, 60, [0, 12, 32, 52, 72, 92, 110]
    chances = generator.uniform(0.1, 0.9, 3)
    readings = {x: 1 - 2 * (generator.random((runs, 110, 3)) < chances) for x in "XZ"}
    n = len(labels)
    weights, offsets = generator.normal(size=(n, n)), generator.normal(size=n) * 0.4
    comparison = Comparison(
        Record(readings),
        independent(3),
        torch.zeros(0, dtype=torch.float64),
        parse_observables(labels, 3),
        weights,
        offsets,
    )
    rows = torch.arange(runs, dtype=torch.float64)[:, None].repeat(1, 3)
    decision = EmpiricalBernstein(12, 20, 110, alpha)(comparison, rows)
    letters = [next(c for c in label if c != "I") for label in labels]
    used = sorted(set(letters))
    # words that are the same are one word
    distinct = {x: sorted({w for w in labels if x in w}) for x in used}
    coefficients = {
        x: np.array(
            [
                [weights[a, [i for i, w in enumerate(labels) if w == word]].sum() for word in distinct[x]]
                for a in range(n)
            ]
        )
        for x in used
    }
    found = []
    for row in range(runs):
        settings = []
        for x in used:
            shots = np.stack(
                [readings[x][row][:, [c != "I" for c in word]].prod(1) for word in distinct[x]], 1
            )
            settings.append((shots @ coefficients[x].T, coefficients[x]))
        found.append(reference(settings, offsets, alpha, looks))
    assert decision.choice.tolist() == [choice for choice, _ in found]
    assert decision.shots.tolist() == [len(used) * looks[look] for _, look in found]
    assert len({look for _, look in found}) > 1


# ---------------------------------------------------------------- covariance


def test_what_is_read_together_and_agrees_is_decided_with_fewer_shots():
    # y0 - y1 = Z0 - 0.5 Z1 has variance 1.25 (1 - z^2) of independent qubits, 0.25 (1 - z^2) of equal ones.
    weights, rule = np.diag([1.0, 0.5]), EmpiricalBernstein(start=20, step=20, cap=20_000)
    apart = decide(rule, independent(2), [0.2, 0.2], weights, runs=500)
    equal = decide(rule, together(2), [0.2, 0.2], weights, runs=500)
    assert apart.decided.all()
    assert equal.decided.all()
    assert apart.shots.mean() > 3 * equal.shots.mean()
    # the published rule cannot tell them apart
    a, b = (decide(Published(), circuit, [0.2, 0.2], weights) for circuit in (independent(2), together(2)))
    assert abs(a.shots.mean() - b.shots.mean()) < 5 * math.sqrt(2 * a.shots.var() / RUNS) + 1


def test_a_product_that_fits_an_earlier_setting_stays_with_its_own_shots():
    # XZ and XI share a setting; their product IZ could be read with ZZ, whose shots are others.
    rule = EmpiricalBernstein(start=50, step=50, cap=50)
    decision = decide(rule, independent(2), [0.3, 0.8], np.eye(3), observables=["ZZ", "XZ", "XI"])
    assert decision.usage.hardware_executions == 2 * RUNS
    expected = [0.3 * 0.8, math.sqrt(1 - 0.09) * 0.8, math.sqrt(1 - 0.09)]
    # single-shot standard deviations are at most 1
    np.testing.assert_allclose(decision.values.mean(0), expected, atol=5 / math.sqrt(50 * RUNS))


# ---------------------------------------------------------------- counts


def test_shots_and_executions_by_hand():
    # |0> and |1> read +1 and -1 always: one look. Equal qubits tie, which nothing decides: ten looks of 100.
    weights = np.eye(2)
    clear = decide(EmpiricalBernstein(), independent(2), [1.0, -1.0], weights, runs=3)
    assert clear.choice.tolist() == [0, 0, 0]
    assert clear.shots.tolist() == [100, 100, 100]
    assert _counts(clear) == (3, 3, 300)
    tie = decide(EmpiricalBernstein(), together(2), [0.0, 0.0], weights, runs=2)
    assert not tie.decided.any()
    assert _counts(tie) == (20, 20, 2000)
    short = decide(EmpiricalBernstein(start=30, step=50, cap=100), together(2), [0.0, 0.0], weights, runs=1)
    assert _counts(short) == (3, 3, 100)
    # two settings cost twice the shots
    both = decide(
        EmpiricalBernstein(), Circuit(1, (rotation(0),), 1), [1.0], weights, observables=["X", "Z"], runs=1
    )
    looks = both.shots[0] // 200
    assert both.choice[0] == 1
    assert _counts(both) == (2 * looks, 2 * looks, 200 * looks)


def test_published_counts_by_hand():
    clear = decide(Published(), independent(2), [1.0, -1.0], np.eye(2), runs=3)
    assert _counts(clear) == (3, 3, 300)
    never = decide(Published(), independent(2), [0.0, 0.0], 1e-6 * np.eye(2), runs=2)
    assert not never.decided.any()
    # exact values are computed once; a device would be asked at each of ten looks
    assert _counts(never) == (2, 20, 2000)


def test_each_row_stops_by_itself():
    features = torch.arccos(torch.tensor([[1.0, -1.0], [0.001, 0.0]], dtype=torch.float64))
    for rule in (EmpiricalBernstein(), Published()):
        comparison = Comparison(
            get_backend("torch"),
            independent(2),
            torch.zeros(0, dtype=torch.float64),
            parse_observables(["ZI", "IZ"], 2),
            np.eye(2),
            np.zeros(2),
        )
        torch.manual_seed(1)
        decision = rule(comparison, features)
        assert decision.decided.tolist() == [True, False]
        assert decision.shots.tolist() == [100, 1000]
        assert decision.usage.shots == 1100
        assert decision.usage.hardware_executions == 11


def test_no_rows_cost_nothing():
    for rule in (EmpiricalBernstein(), Published()):
        decision = decide(rule, independent(2), [0.0, 0.0], np.eye(2), runs=0)
        assert decision.choice.shape == (0,)
        assert _counts(decision) == (0, 0, 0)


def _counts(decision):
    usage = decision.usage
    assert isinstance(usage, Usage)
    assert usage.shots == decision.shots.sum()
    return usage.executions, usage.hardware_executions, usage.shots


# ---------------------------------------------------------------- estimates


@pytest.mark.parametrize("rule", [EmpiricalBernstein(cap=100), Published(cap=100)])
def test_estimates_are_unbiased(rule):
    weights, offsets = np.array([[2.0, 0.5], [-1.0, 1.5]]), [0.25, -4.0]
    observables = [{"ZI": 1.0, "II": 3.0}, {"ZZ": -0.5, "XI": 0.5}]
    z, y = 0.6, -0.2
    values = weights @ [z + 3.0, -0.5 * z * y + 0.5 * math.sqrt(1 - z**2)] + offsets
    decision = decide(rule, independent(2), [z, y], weights, offsets, observables)
    spread = decision.values.std(0) / math.sqrt(RUNS)
    assert (spread < 0.01).all()
    assert (np.abs(decision.values.mean(0) - values) < 5 * spread).all()


def test_more_shots_are_averaged_with_those_before():
    # at the cap, the estimate has the error of all shots: 1 / 1000 of the variance of one
    for rule, variance in ((EmpiricalBernstein(), 1 - 0.5**2), (Published(), 1.0)):
        decision = decide(rule, independent(2), [0.5, 0.5], 1e-3 * np.eye(2))
        capped = decision.values[~decision.decided, 0] * 1e3
        assert capped.var() == pytest.approx(variance / 1000, rel=0.2)


def test_what_no_shot_can_change_is_decided_at_once():
    # candidates of one shared observable differ by their offsets alone
    decision = decide(
        EmpiricalBernstein(), independent(1), [0.0], [[1.0], [1.0], [1.0]], [0.0, 1e-9, -1.0], runs=4
    )
    assert decision.decided.all()
    assert (decision.choice == 1).all()
    assert (decision.shots == 100).all()


def test_shots_of_a_gap_are_whole_steps():
    assert Published().shots_of_gap(np.array([0.0, 0.05, 0.1, 0.11, 1.0])).tolist() == [
        1000,
        800,
        200,
        200,
        100,
    ]


def test_a_seed_gives_the_same_decisions():
    for rule in (EmpiricalBernstein(), Published()):
        first, again, other = (
            decide(rule, independent(2), [0.1, 0.0], np.eye(2), seed=s, runs=50) for s in (3, 3, 4)
        )
        np.testing.assert_array_equal(first.values, again.values)
        assert (first.values != other.values).any()


# ---------------------------------------------------------------- refusals


def test_refusals():
    with pytest.raises(ValueError, match=r"alpha: 1\.0 is not in"):
        EmpiricalBernstein(alpha=1.0)
    for rule in RULES.values():
        with pytest.raises(ValueError, match="start: 200 is above cap = 100"):
            rule(start=200, cap=100)
        with pytest.raises(TypeError, match=r"step: 1\.5 is not an integer"):
            rule(step=1.5)
    with pytest.raises(ValueError, match=r"weights: shape \(1, 2\) does not fit"):
        decide(Published(), independent(2), [0.0, 0.0], np.eye(2)[:1])
    with pytest.raises(ValueError, match="offsets: shape"):
        decide(Published(), independent(2), [0.0, 0.0], np.eye(2), [0.0])
    comparison = Comparison(
        get_backend("primitive:aer"),
        independent(2),
        torch.zeros(0, dtype=torch.float64),
        parse_observables(["ZI", "IZ"], 2),
        np.eye(2),
        np.zeros(2),
    )
    with pytest.raises(ValueError, match="'primitive:aer' does not say what was read together"):
        EmpiricalBernstein()(comparison, torch.zeros(1, 2, dtype=torch.float64))
