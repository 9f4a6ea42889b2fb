"""Pricing: labels, uncertainty, ratios, repricing, closure."""

from __future__ import annotations

import math

import pytest

from qrl.ledger import (
    Energy,
    Ledger,
    Profile,
    Record,
    Unavailable,
    check_closure,
    price,
    ratio,
    reprice,
    select,
    summarise,
    total,
)

GPU = Unavailable("gpu", "no meter")
DRAM = Unavailable("dram", "no meter")


def energy(
    joules: float, kind: str = "modelled", source: str = "model", u_rel: float = 0.4, **more
) -> Energy:
    return Energy("cpu_pkg", joules, u_rel * joules, kind, source, **more)


def record(phase: str, window: tuple[int, int], *entries: Energy, **more) -> Record:
    missing = (GPU, DRAM) if entries else (GPU, DRAM, Unavailable("cpu_pkg", "no meter"))
    return Record("run", 0, "agent", phase, window, energy=entries, unavailable=missing, **more)


def test_one_source_adds_its_uncertainty_linearly():
    found = total([energy(10.0), energy(30.0)])
    assert (found.joules, found.kind, found.measured_share) == (40.0, "modelled", 0.0)
    assert found.u_joules == pytest.approx(16.0)


def test_two_sources_add_theirs_in_quadrature():
    found = total([energy(10.0), energy(30.0, "measured", "rapl", 0.1)])
    assert found.kind == "mixed"
    assert found.u_joules == pytest.approx(math.hypot(4.0, 3.0))
    assert found.measured_share == pytest.approx(0.75)
    assert found.by_source == {"model": 10.0, "rapl": 30.0}


def test_a_wrong_label_is_refused():
    both = [energy(10.0), energy(30.0, "measured", "rapl", 0.1)]
    for label in ("measured", "modelled", "assumed"):
        with pytest.raises(ValueError, match=f"labelled '{label}' has"):
            total(both, label)
    assert total(both, "mixed").joules == 40.0
    with pytest.raises(ValueError, match="kind: 'real'"):
        total(both, "real")


def test_different_boundaries_are_never_added():
    with pytest.raises(ValueError, match="boundary: dynamic and gross"):
        total([energy(1.0), energy(1.0, boundary="dynamic")])


def test_nothing_is_unavailable_and_not_zero():
    found = total([])
    assert found.joules is None
    assert found.u_joules is None
    assert found.kind == "unavailable"
    assert found.measured_share is None
    assert summarise([record("act", (0, 1), wall_s=1.0)])["joules"] is None


def test_a_shared_source_cancels_in_a_ratio():
    value, uncertainty = ratio(total([energy(30.0)]), total([energy(10.0)]))
    assert value == pytest.approx(3.0)
    assert uncertainty == pytest.approx(0.0, abs=1e-12)


def test_separate_sources_do_not_cancel():
    value, uncertainty = ratio(total([energy(30.0, source="qpu", u_rel=0.3)]), total([energy(10.0)]))
    assert uncertainty == pytest.approx(value * math.hypot(0.3, 0.4))


def test_a_ratio_needs_two_energies():
    with pytest.raises(ValueError, match="ratio"):
        ratio(total([]), total([energy(1.0)]))
    with pytest.raises(ValueError, match="boundaries"):
        ratio(total([energy(1.0, boundary="dynamic")]), total([energy(1.0)]))


def test_select_is_the_cost_up_to_an_evaluation():
    rows = [
        record("act", (0, 100), energy(1.0), wall_s=1.0, interactions=0),
        record("environment", (0, 100), energy(2.0), interactions=100),
        record("evaluate", (0, 100), energy(50.0), interactions=900),
        record("act", (100, 200), energy(4.0)),
        record("act", (50, 150), energy(8.0)),
    ]
    assert summarise(select(rows, until=100))["joules"] == 3.0
    assert summarise(select(rows, until=150))["joules"] == 11.0
    assert summarise(select(rows))["joules"] == 15.0
    assert summarise(select(rows))["interactions"] == 100
    assert summarise(select(rows, phases=("evaluate",)))["interactions"] == 900


def test_repricing_is_deterministic_and_linear():
    rows = [
        record("act", (0, 1), energy(9.9), wall_s=2.0, cpu_s=1.0),
        record("idle", (0, 1), energy(1.0), wall_s=3.0),
    ]
    once = reprice(rows, Profile(n_cpus=2))
    assert once == reprice(rows, Profile(n_cpus=2))
    assert [r.energy[0].joules for r in once] == pytest.approx([3.9 + 0.85 * 2 * 2, 0.85 * 2 * 3])
    assert reprice(rows) == rows
    assert price(rows) == [rows[0].energy[0], rows[1].energy[0]]


def test_repricing_keeps_what_was_measured():
    measured = energy(5.0, "measured", "rapl:cpu_pkg, split by CPU seconds", 0.1)
    (found,) = reprice(
        [record("act", (0, 1), measured, wall_s=2.0, cpu_s=1.0)], Profile(n_cpus=4, memory_gb=2.0)
    )
    assert found.energy[0] == measured
    assert [e.domain for e in found.energy] == ["cpu_pkg", "dram"]
    assert found.energy[1].joules == pytest.approx(0.3 * 2 * 2)


def test_repricing_leaves_the_energy_of_other_processes_alone():
    measured = energy(5.0, "measured", "rapl", 0.1)
    (found,) = reprice([record("unattributed", (0, 1), measured)], Profile(n_cpus=4))
    assert found.energy == (measured,)
    modelled = record("unattributed", (0, 1), energy(5.0))
    (found,) = reprice([modelled], Profile(n_cpus=4))
    assert found.energy == ()
    assert "cpu_pkg" in {u.domain for u in found.unavailable}


def test_profile_of_a_header_reproduces_the_logged_energies(tmp_path):
    from qrl.ledger import read_ledger

    path = tmp_path / "ledger.jsonl"
    with Ledger("r", 0, "a", path, n_cpus=1.5) as ledger:
        with ledger.phase("act"):
            sum(range(10_000))
        ledger.close_window(1)
    file = read_ledger(path)
    modelled = [e.joules for e in price(file.records)]
    assert [e.joules for e in price(file.records, Profile.of(file.headers[0]))] == pytest.approx(
        modelled, rel=1e-12
    )
    assert Profile.of(file.headers[0], n_cpus=8).n_cpus == 8


def test_closure():
    assert check_closure([0.1] * 10, 1.0) <= 1e-9
    with pytest.raises(ValueError, match="wall: the parts sum to"):
        check_closure([1.0, 2.0], 3.0 + 1e-8, "wall")
    assert check_closure([], 0.0) == 0.0
