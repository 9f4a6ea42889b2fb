"""Observables: parsing, refusal, and grouping for measurement."""

from __future__ import annotations

import pytest

from circuits import Observable, commuting_groups
from circuits.observables import parse_observables


def test_labels_mappings_and_observables_parse():
    assert Observable.parse("ZZII", 4).terms == (("ZZII", 1.0),)
    both = Observable.parse({"ZZII": 0.5, "IIZZ": 1}, 4)
    assert both.words == {"ZZII": 0.5, "IIZZ": 1.0}
    assert Observable.parse(both, 4) is both
    assert both.label == "0.5 ZZII + 1 IIZZ"
    assert Observable.parse("XI", 2).label == "XI"


def test_identities_and_repeated_words_are_legal():
    observable = Observable((("ZI", 0.5), ("II", 2.0), ("ZI", 0.25)))
    assert observable.words == {"ZI": 0.75, "II": 2.0}
    assert observable.is_diagonal
    assert not Observable.parse("XZ", 2).is_diagonal


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("ZZZ", ValueError, "observable 'ZZZ': has 3 characters for 4 qubits; give 4"),
        ("ZZAI", ValueError, "observable 'ZZAI': character 'A' is none of IXYZ"),
        ("", ValueError, "observable: the word is empty"),
        ({}, ValueError, "observable: there are no terms"),
        ({"ZZII": float("nan")}, ValueError, "observable 'ZZII': nan is not finite"),
        ({"ZZII": "1"}, TypeError, "observable 'ZZII': '1' is not a real number"),
        ({"ZZII": 1, "ZZI": 1}, ValueError, "observable 'ZZI': has 3 characters"),
        ({0: 1}, TypeError, "observable: 0 is not a string"),
        (3, TypeError, "observable: 3 is no label"),
    ],
)
def test_bad_observables_are_refused_by_name(spec, error, message):
    with pytest.raises(error, match=message):
        Observable.parse(spec, 4)


def test_a_list_is_asked_for():
    assert len(parse_observables(["ZI", {"IZ": 2.0}], 2)) == 2
    with pytest.raises(TypeError, match="observables: 'ZI' is a single observable"):
        parse_observables("ZI", 2)
    with pytest.raises(ValueError, match="observables: the list is empty"):
        parse_observables([], 2)


def test_qubit_wise_commuting_words_share_a_setting():
    words = ["ZIII", "IZII", "ZZII", "XIII", "IIIX", "YIYI", "IIII"]
    groups = commuting_groups(Observable.parse(word, 4) for word in words)
    assert [group.basis for group in groups] == ["ZZIX", "XIII", "YIYI"]
    assert groups[0].words == ("ZIII", "IZII", "ZZII", "IIIX")
    assert commuting_groups([Observable.parse("II", 2)]) == ()
