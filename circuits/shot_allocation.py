r"""How many shots tell which of several combinations of expectation values is the largest.

The candidates are :math:`y_a = \sum_j W_{aj} \langle O_j\rangle + b_a`. Shots are added until a stop rule is satisfied
or a cap is reached, for each sample of a batch by itself; earlier shots are kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuits.backends.protocol import Backend, Usage, count_settings
from circuits.circuit import Circuit
from circuits.gates import integer
from circuits.observables import CommutingGroup, Observable, commuting_groups

Floats = NDArray[np.float64]
Look = tuple[NDArray[np.int64], Floats, NDArray[np.bool_]]
"""Choices ``(rows,)``, estimates ``(rows, n_candidates)``, and which rows are decided ``(rows,)``."""

_LARGEST_BET = 0.5
"""Of the range's inverse; Waudby-Smith and Ramdas use 1/2 or 3/4."""
_PRIOR_SPREAD = 0.25
"""Variance before any shot: the largest of a variable in an interval of length 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    r"""What is compared: :math:`y = W \langle O\rangle + b` of a circuit that a backend runs.

    Attributes:
        backend: what runs the circuit.
        circuit: the circuit.
        parameters: ``(n_parameters,)``, of the dtype of the features.
        observables: O.
        weights: W, ``(n_candidates, n_observables)``, at least two candidates.
        offsets: b, ``(n_candidates,)``.

    Raises:
        ValueError: weights or offsets have another shape.
    """

    backend: Backend
    circuit: Circuit
    parameters: Tensor
    observables: tuple[Observable, ...]
    weights: Floats
    offsets: Floats

    def __post_init__(self) -> None:
        shape = self.weights.shape
        if len(shape) != 2 or shape[0] < 2 or shape[1] != len(self.observables):
            raise ValueError(f"weights: shape {shape} does not fit; use (>= 2, {len(self.observables)})")
        if self.offsets.shape != shape[:1]:
            raise ValueError(f"offsets: shape {self.offsets.shape} does not fit; use {shape[:1]}")


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The answer to a comparison, one entry a sample.

    Attributes:
        choice: ``(N,)``, the candidate found to be the largest.
        values: ``(N, n_candidates)``, the estimates.
        shots: ``(N,)``, shots taken, all measurement settings together.
        decided: ``(N,)``, whether the rule was satisfied; where not, the cap ended the measurement.
        usage: what it cost.
    """

    choice: NDArray[np.int64]
    values: Floats
    shots: NDArray[np.int64]
    decided: NDArray[np.bool_]
    usage: Usage


class StopRule(Protocol):
    """Takes shots until the largest candidate is clear."""

    def check(self, backend: Backend) -> None:
        """Refuse a backend that cannot serve the rule.

        Raises:
            ValueError: it cannot.
        """
        ...

    def __call__(self, comparison: Comparison, features: Tensor) -> Decision:
        """Decide for features ``(N, n_features)``; shots are drawn from torch's global generator.

        Raises:
            TypeError, ValueError: what the backend refuses, or the rule of the backend.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Looks:
    """Shots a measurement setting: at first, at each further look, and at most.

    Raises:
        TypeError, ValueError: a number is no integer or below 1, or ``start`` is above ``cap``.
    """

    start: int = 100
    step: int = 100
    cap: int = 1000

    def __post_init__(self) -> None:
        for name in ("start", "step", "cap"):
            integer(name, getattr(self, name), 1)
        if self.start > self.cap:
            raise ValueError(f"start: {self.start} is above cap = {self.cap}; use at most the cap")

    def _until_decided(
        self, samples: int, candidates: int, look: Callable[[NDArray[np.int64], int, int], Look]
    ) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], NDArray[np.bool_]]:
        """Look again and again at the undecided rows: ``look(rows, shots to add, shots then taken)``.

        Returns:
            Choices, estimates, shots a setting, and which rows were decided.
        """
        choice, shots = np.zeros((2, samples), dtype=np.int64)
        values, decided = np.zeros((samples, candidates)), np.zeros(samples, dtype=bool)
        rows, total = np.arange(samples), 0
        while len(rows) and total < self.cap:
            more = min(self.step if total else self.start, self.cap - total)
            total += more
            choice[rows], values[rows], decided[rows] = look(rows, more, total)
            shots[rows] = total
            rows = rows[~decided[rows]]
        return choice, values, shots, decided


@dataclass(frozen=True, slots=True)
class EmpiricalBernstein(_Looks):
    r"""Stops when the leader is above every other candidate with confidence ``1 - alpha``, whenever that is.

    For each pair a, b the difference :math:`x = y_a - y_b` of the shots is followed by

    .. math:: \sum_t \lambda_t x_t - \sum_t \psi(\lambda_t) (x_t - \hat\mu_t)^2, \quad
              \psi(\lambda) = -\log(1 - \lambda) - \lambda,

    in units of the range of x. Its exponential is a supermartingale if :math:`y_a \le y_b`, so that it exceeds
    ``(n_candidates - 1) / alpha`` at any look with at most probability ``alpha / (n_candidates - 1)`` (Ville). Bets
    :math:`\lambda_t` and means :math:`\hat\mu_t` come from earlier looks; the bets are the plug-in ones of the source.
    The number of looks costs nothing. Ties are not decided, and no choice is wrong there.

    The squares hold the covariance of words that are read from the same shots. Different settings are independent, and
    their terms add.

    A decision made is wrong with at most probability ``alpha``; where the cap ends the measurement, the choice is the
    largest estimate, without such a promise.

    Attributes:
        alpha: bound on the probability of a wrong decision, in (0, 1).

    Raises:
        TypeError, ValueError: of the numbers of shots, as stated there; ``alpha`` outside (0, 1); when called, a
            backend that does not read commuting words from the same shots.

    Source: Waudby-Smith and Ramdas, JRSS B 86 (2024), arXiv:2010.09686, theorem 2 and eq. (15); one-sided, and with a
    union over the other candidates.
    """

    alpha: float = 0.05
    name: ClassVar[str] = "empirical_bernstein"

    def __post_init__(self) -> None:
        # zero-argument super() does not find the class that slots make anew
        _Looks.__post_init__(self)
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha: {self.alpha!r} is not in (0, 1); use a small probability such as 0.05")

    def check(self, backend: Backend) -> None:
        """As ``StopRule``."""
        if not backend.capabilities.joint_shots:
            why = f"does not say what was read together, which {self.name!r} needs"
            raise ValueError(f"backend: {backend.name!r} {why}; use 'auto'")

    def __call__(self, comparison: Comparison, features: Tensor) -> Decision:
        """As ``StopRule``."""
        self.check(comparison.backend)
        evidence = _Evidence(comparison, features, self.alpha)
        choice, values, shots, decided = self._until_decided(len(features), len(comparison.offsets), evidence)
        return Decision(choice, values, shots * len(evidence.settings), decided, evidence.usage)


@dataclass(frozen=True, slots=True)
class Published(_Looks):
    r"""Stops when the two largest estimates differ by :math:`2 / \sqrt m` after m shots, as it was published.

    Each expectation value is the exact one with noise :math:`N(0, 1/m)`. This is kept for comparison, with its faults:
    the bound is that of an expectation value while the difference has the units of the weights; both noises are
    independent where the observables share shots; each look is another chance to err, and is not paid for; the noise
    does not know that expectation values end at 1. The noise of added shots is averaged with that before.

    A backend without exact values, such as a machine, is asked for the shots themselves; the bound stays what it is.

    Raises:
        TypeError, ValueError: of the numbers of shots, as stated there; when called, a backend without either.

    Source: Skolik et al., arXiv:2212.09431, and its public code.
    """

    name: ClassVar[str] = "published"

    def check(self, backend: Backend) -> None:
        """As ``StopRule``."""
        if not (backend.capabilities.exact or backend.capabilities.shots):
            why = f"has neither exact values nor shots, which {self.name!r} needs"
            raise ValueError(f"backend: {backend.name!r} {why}; use 'auto'")

    def __call__(self, comparison: Comparison, features: Tensor) -> Decision:
        """As ``StopRule``."""
        started = time.perf_counter()
        backend, circuit, observables = comparison.backend, comparison.circuit, comparison.observables
        self.check(backend)
        settings = count_settings(circuit, observables)
        usage, sums = Usage(), np.zeros((len(features), len(observables)))

        def ask(rows: NDArray[np.int64] | slice, shots: int | None) -> Floats:
            nonlocal usage
            result = backend.expectations(circuit, comparison.parameters, features[rows], observables, shots)
            usage = usage + result.usage
            return np.asarray(result.values.detach().double().cpu().numpy())

        exact = ask(slice(None), None) if backend.capabilities.exact else None
        usage.hardware_executions = usage.shots = (
            0  # of exact values; what hardware would run is counted by look
        )

        def look(rows: NDArray[np.int64], more: int, total: int) -> Look:
            if exact is None:
                found = ask(rows, more)
            else:
                noise = torch.randn(len(rows), exact.shape[1], dtype=torch.float64).numpy()
                found = exact[rows] + noise / math.sqrt(more)
                usage.hardware_executions += len(rows) * settings
                usage.shots += len(rows) * settings * more
            sums[rows] += more * found
            values = sums[rows] / total @ comparison.weights.T + comparison.offsets
            return values.argmax(1), values, top_gap(values) >= 2.0 / math.sqrt(total)

        choice, values, shots, decided = self._until_decided(len(features), len(comparison.offsets), look)
        usage.seconds = time.perf_counter() - started
        return Decision(choice, values, shots * settings, decided, usage)

    def shots_of_gap(self, gap: Floats) -> NDArray[np.int64]:
        r"""Shots for a value that is learnt from: :math:`2 / gap^2`, in whole steps and at most the cap.

        Args:
            gap: ``(N,)``, difference of the two largest candidates.
        """
        with np.errstate(divide="ignore"):
            steps = np.ceil(2.0 / np.square(gap) / self.step)
        return np.minimum(np.maximum(steps, 1.0) * self.step, self.cap).astype(np.int64)


RULES: dict[str, type[EmpiricalBernstein] | type[Published]] = {
    rule.name: rule for rule in (EmpiricalBernstein, Published)
}
"""Stop rules by name."""


def top_gap(values: Floats) -> Floats:
    """Return the differences ``(N,)`` of the two largest of ``(N, n >= 2)``."""
    ordered = np.sort(values, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


@dataclass(frozen=True, slots=True, eq=False)
class _Setting:
    """Words that are measured together, and what is asked for: they and their products, the joint second moments.

    Attributes:
        asked: the words, then the products that are no words.
        weights: ``(n_observables, n_words)``, the coefficient of each word in each observable.
        products: ``(n_words, n_words)``, the column of each product in ``asked``; one past the end is the identity.
    """

    asked: tuple[Observable, ...]
    weights: Floats
    products: NDArray[np.int64]

    @classmethod
    def of(cls, group: CommutingGroup, observables: tuple[Observable, ...]) -> _Setting:
        words, asked = group.words, {word: column for column, word in enumerate(group.words)}
        products = [[_product(a, b) for b in words] for a in words]
        identity = "I" * len(group.basis)
        for word in (word for row in products for word in row if word != identity):
            asked.setdefault(word, len(asked))
        columns = {**asked, identity: len(asked)}
        return cls(
            tuple(Observable(((word, 1.0),)) for word in asked),
            np.array([[observable.words.get(word, 0.0) for word in words] for observable in observables]),
            np.array([[columns[word] for word in row] for row in products]),
        )


def _product(a: str, b: str) -> str:
    """The product of words that commute at each qubit."""
    return "".join(x if y == "I" else y if x == "I" else "I" for x, y in zip(a, b, strict=True))


def _settings(observables: tuple[Observable, ...]) -> tuple[_Setting, ...]:
    return tuple(_Setting.of(group, observables) for group in commuting_groups(observables))


class _Evidence:
    """What the shots so far say of each pair of candidates: the looks of ``EmpiricalBernstein``.

    Arrays over pairs are ``(rows, n_candidates, n_candidates)``, those over settings have these before the pairs.
    """

    def __init__(self, comparison: Comparison, features: Tensor, alpha: float) -> None:
        self.usage = Usage()
        self.settings = comparison.circuit.memo(
            ("shot settings", comparison.observables), lambda _: _settings(comparison.observables)
        )
        self._comparison, self._features = comparison, features
        identity = "I" * comparison.circuit.n_qubits
        constants = np.array([o.words.get(identity, 0.0) for o in comparison.observables])
        self._offsets = comparison.offsets + comparison.weights @ constants
        candidates = len(self._offsets)
        self._threshold = math.log((candidates - 1) / alpha)
        self._words = [comparison.weights @ setting.weights for setting in self.settings]
        # A word is +1 or -1, so a difference of two candidates runs over twice the sum of its coefficients.
        differences = [words[:, None] - words[None] for words in self._words]
        spans = [2.0 * np.abs(difference).sum(2) for difference in differences]
        span = np.max([np.zeros((candidates, candidates)), *spans], axis=0)
        known = span == 0.0
        span[known] = 1.0
        shift = self._offsets[:, None] - self._offsets[None]
        self._certain = known & (shift >= 0.0)
        self._shift = shift / span
        scaled = [(difference / span[:, :, None]).reshape(candidates**2, -1) for difference in differences]
        self._first = [matrix.T for matrix in scaled]
        self._second = [(m[:, :, None] * m[:, None]).reshape(candidates**2, -1).T for m in scaled]
        shape = (len(features), candidates, candidates)
        self._drift, self._price, self._squares = np.zeros((3, *shape))
        self._sums = np.zeros((len(features), len(self.settings), *shape[1:]))
        self._read = [np.zeros((len(features), words.shape[1])) for words in self._words]

    def __call__(self, rows: NDArray[np.int64], more: int, total: int) -> Look:
        """Add shots to some rows, and look."""
        bet, means = self._bet(rows, total - more, total)
        price = -np.log1p(-bet) - bet
        self._drift[rows] += bet * more * self._shift
        values = np.tile(self._offsets, (len(rows), 1))
        for index, setting in enumerate(self.settings):
            first, second = self._measure(setting, rows, more)
            mean = means[:, index]
            sums = more * (first @ self._first[index]).reshape(mean.shape)
            squares = more * (second @ self._second[index]).reshape(mean.shape)
            self._drift[rows] += bet * sums
            self._price[rows] += price * (squares - 2.0 * mean * sums + more * mean**2)
            self._sums[rows, index] += sums
            self._squares[rows] += squares
            self._read[index][rows] += more * first
            values += self._read[index][rows] / total @ self._words[index].T
        beats = (self._drift[rows] - self._price[rows] > self._threshold) | self._certain
        best = beats.all(2)
        decided = best.any(1)
        return np.where(decided, best.argmax(1), values.argmax(1)), values, decided

    def _bet(self, rows: NDArray[np.int64], before: int, total: int) -> tuple[Floats, Floats]:
        """How much is bet on each pair, and the mean that is expected in each setting, from earlier shots alone."""
        sums = self._sums[rows]
        spread = self._squares[rows] - np.square(sums).sum(1) / max(before, 1)
        variance = (_PRIOR_SPREAD + np.maximum(spread, 0.0)) / (before + 1)
        bet = np.sqrt(2.0 * self._threshold / (variance * total * math.log1p(total)))
        return np.minimum(bet, _LARGEST_BET), sums / (before + 1)

    def _measure(self, setting: _Setting, rows: NDArray[np.int64], shots: int) -> tuple[Floats, Floats]:
        """The means of the words ``(rows, n_words)`` and of their products ``(rows, n_words ** 2)``."""
        comparison = self._comparison
        result = comparison.backend.expectations(
            comparison.circuit,
            comparison.parameters,
            self._features[torch.from_numpy(rows)],
            setting.asked,
            shots,
        )
        self.usage += result.usage
        means = result.values.detach().double().cpu().numpy()
        with_identity = np.column_stack((means, np.ones(len(means))))
        return means[:, : setting.weights.shape[1]], with_identity[:, setting.products.ravel()]
