"""Observables: real sums of Pauli words, and their grouping for measurement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from circuits.gates import finite


@dataclass(frozen=True, slots=True)
class Observable:
    r"""A real sum of Pauli words, :math:`O = \sum_k c_k P_k`.

    A word has one character of IXYZ per qubit and character ``q`` acts on qubit ``q`` (a Qiskit label is
    ours reversed). Identities and repeated words are legal; repeated words add up.

    Args:
        terms: (word, coefficient) pairs, at least one, all words equally long.

    Raises:
        TypeError: a word is no string or a coefficient no number.
        ValueError: no terms, an unknown character, unequal lengths, or a coefficient that is not finite; the
            message names the term.
    """

    terms: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        terms = tuple((_word(word), finite(f"observable {word!r}", value)) for word, value in self.terms)
        if not terms:
            raise ValueError("observable: there are no terms; give at least one Pauli word")
        for word, _ in terms:
            if len(word) != len(terms[0][0]):
                raise ValueError(
                    f"observable {word!r}: has {len(word)} characters, another {len(terms[0][0])}; make "
                    "them equal"
                )
        object.__setattr__(self, "terms", terms)

    @property
    def n_qubits(self) -> int:
        """Number of qubits, which is the length of each word."""
        return len(self.terms[0][0])

    @property
    def words(self) -> dict[str, float]:
        """The distinct words with their summed coefficients, in order of first occurrence."""
        result: dict[str, float] = {}
        for word, value in self.terms:
            result[word] = result.get(word, 0.0) + value
        return result

    @property
    def is_diagonal(self) -> bool:
        """Whether all words consist of I and Z, so that computational-basis probabilities suffice."""
        return all(set(word) <= {"I", "Z"} for word, _ in self.terms)

    @property
    def label(self) -> str:
        """A readable form, such as ``"ZZII"`` or ``"0.5 ZZII + 1 IIZZ"``."""
        if len(self.terms) == 1 and self.terms[0][1] == 1.0:
            return self.terms[0][0]
        return " + ".join(f"{value:g} {word}" for word, value in self.terms)

    @classmethod
    def parse(cls, spec: str | Mapping[str, float] | Observable, n_qubits: int) -> Observable:
        """Return the observable that a label, a mapping of labels to coefficients, or an observable stands
        for.

        Args:
            spec: ``"ZZII"``, ``{"ZZII": 0.5, "IIZZ": 1.0}``, or an :class:`Observable`.
            n_qubits: the length that each word must have.

        Raises:
            TypeError: the specification is of another type.
            ValueError: a word has another length or an unknown character; the message names it.
        """
        if isinstance(spec, Observable):
            result = spec
        elif isinstance(spec, str):
            result = cls(((spec, 1.0),))
        elif isinstance(spec, Mapping):
            result = cls(tuple(spec.items()))
        else:
            raise TypeError(
                f"observable: {spec!r} is no label, mapping or Observable; use 'Z' or {{'Z': 0.5}}"
            )
        for word, _ in result.terms:
            if len(word) != n_qubits:
                raise ValueError(
                    f"observable {word!r}: has {len(word)} characters for {n_qubits} qubits; give {n_qubits}"
                )
        return result


@dataclass(frozen=True, slots=True)
class CommutingGroup:
    """Pauli words that one measurement setting serves.

    Attributes:
        basis: one character of IXYZ per qubit, the measured Pauli; I where no word of the group looks.
        words: the distinct words, each equal to the basis or I at every qubit.
    """

    basis: str
    words: tuple[str, ...]


def commuting_groups(observables: Iterable[Observable]) -> tuple[CommutingGroup, ...]:
    """Group the distinct words of observables by qubit-wise commutation, greedily in order of occurrence.

    Identities need no measurement and join no group, so observables that are all identity need none.

    Args:
        observables: observables of equal length.

    Source: qubit-wise commutation as in arXiv:1907.03358; the greedy order is our own construction.
    """
    groups: list[tuple[list[str], list[str]]] = []
    for word in dict.fromkeys(word for observable in observables for word in observable.words):
        if set(word) == {"I"}:
            continue
        for basis, words in groups:
            if all(a == "I" or b == "I" or a == b for a, b in zip(basis, word, strict=True)):
                basis[:] = [b if a == "I" else a for a, b in zip(basis, word, strict=True)]
                words.append(word)
                break
        else:
            groups.append((list(word), [word]))
    return tuple(CommutingGroup("".join(basis), tuple(words)) for basis, words in groups)


def parse_observables(specs: Sequence[Any], n_qubits: int) -> tuple[Observable, ...]:
    """Return all observables of a list of specifications; see ``Observable.parse``.

    Raises:
        TypeError: a bare label or mapping was given instead of a list.
        ValueError: the list is empty or an entry is invalid.
    """
    if isinstance(specs, str | Mapping | Observable):
        raise TypeError(f"observables: {specs!r} is a single observable; put it in a list")
    result = tuple(Observable.parse(spec, n_qubits) for spec in specs)
    if not result:
        raise ValueError(
            "observables: the list is empty; give at least one, such as 'Z' + 'I' * (n_qubits - 1)"
        )
    return result


def _word(word: Any) -> str:
    if not isinstance(word, str):
        raise TypeError(f"observable: {word!r} is not a string; use a Pauli word such as 'ZZII'")
    if not word:
        raise ValueError("observable: the word is empty; give one character of IXYZ for each qubit")
    for character in word:
        if character not in "IXYZ":
            raise ValueError(
                f"observable {word!r}: character {character!r} is none of IXYZ; correct the word"
            )
    return word
