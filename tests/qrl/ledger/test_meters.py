"""Meters: RAPL counters and their wrap, the models, attribution, the sampler."""

from __future__ import annotations

import time

import pytest

from qrl.ledger.meters import (
    CpuTimeModel,
    MemoryModel,
    RaplMeter,
    Sampler,
    attribute,
    power_row,
    power_table,
    system_cpu_seconds,
)

RANGE_UJ = 262_143_328_850


def test_counter_sums_the_packages_and_leaves_psys_and_mmio_out(powercap):
    zones = {
        "rapl_0": ("package-0", 1_000_000),
        "rapl_0_0": ("core", 500_000),
        "rapl_0_1": ("dram", 7_000_000),
        "rapl_1": ("package-1", 2_000_000),
        "rapl_2": ("psys", 9_000_000),
        "rapl-mmio_0": ("package-0", 1_000_000),
    }
    root = powercap(**zones)
    cpu, dram = RaplMeter("cpu_pkg", root), RaplMeter("dram", root)
    assert cpu.available() == (True, "")
    assert cpu.read()[1] == 0.0
    powercap(**{folder: (name, uj + 3_000_000) for folder, (name, uj) in zones.items()})
    assert cpu.read()[1] == pytest.approx(6.0, rel=1e-12)
    assert dram.read()[1] == pytest.approx(3.0, rel=1e-12)


def test_counter_wrap(powercap):
    root = powercap(rapl_0=("package-0", RANGE_UJ - 1_500_000))
    meter = RaplMeter("cpu_pkg", root)
    powercap(rapl_0=("package-0", 500_000))
    assert meter.read()[1] == pytest.approx(2.0, rel=1e-9)
    powercap(rapl_0=("package-0", 400_000))
    assert meter.read()[1] == pytest.approx(2.0 + RANGE_UJ * 1e-6 - 0.1, rel=1e-9)


def test_a_machine_without_counters_says_why(tmp_path, powercap):
    available, reason = RaplMeter("cpu_pkg", tmp_path / "none").available()
    assert not available
    assert "no powercap tree" in reason
    root = powercap(rapl_0=("package-0", 1))
    assert RaplMeter("dram", root).available() == (False, f"no RAPL zone for dram under {root}")
    (root / "intel-rapl:0" / "energy_uj").unlink()
    available, reason = RaplMeter("cpu_pkg", root).available()
    assert not available
    assert "cannot be read" in reason


def test_a_protected_counter_says_why(powercap, monkeypatch):
    root = powercap(rapl_0=("package-0", 1))
    protected = root / "intel-rapl:0" / "energy_uj"
    read_text = type(root).read_text

    def guarded(self, *args, **kwargs):
        if self == protected:
            raise PermissionError(13, "Permission denied", str(self))
        return read_text(self, *args, **kwargs)

    monkeypatch.setattr(type(root), "read_text", guarded)
    available, reason = RaplMeter("cpu_pkg", root).available()
    assert not available
    assert f"{protected} is readable by root only" in reason


def test_a_counter_that_fails_later_becomes_unavailable(powercap):
    root = powercap(rapl_0=("package-0", 1))
    meter = RaplMeter("cpu_pkg", root)
    (root / "intel-rapl:0" / "energy_uj").write_text("garbage")
    meter.read()
    assert not meter.available()[0]


def test_unknown_domain():
    with pytest.raises(ValueError, match="domain: 'gpu'"):
        RaplMeter("gpu")


def test_cpu_model_is_its_formula():
    row = power_row("cpu", "vcpu-default")
    entry = CpuTimeModel(2).energy(10.0, 4.0)
    assert entry.joules == pytest.approx((row["p_max"] - row["p_idle"]) * 4.0 + row["p_idle"] * 2 * 10.0)
    assert entry.idle_joules == pytest.approx(row["p_idle"] * 2 * 10.0)
    assert (entry.kind, entry.boundary, entry.domain) == ("modelled", "gross", "cpu_pkg")
    assert entry.u_joules == pytest.approx(0.4 * entry.joules)
    assert entry.source == "cpu-time-model:vcpu-default"


def test_cpu_model_is_additive():
    model = CpuTimeModel(1)
    whole = model.energy(7.0, 5.0).joules
    assert model.energy(3.0, 1.0).joules + model.energy(4.0, 4.0).joules == pytest.approx(whole, rel=1e-12)


def test_models_read_as_meters():
    for model in (CpuTimeModel(1), MemoryModel(4.0)):
        first = model.read()[1]
        time.sleep(0.002)
        assert model.read()[1] > first >= 0.0
        assert model.available() == (True, "")


def test_memory_model():
    entry = MemoryModel(8.0).energy(10.0, 0.0)
    assert entry.joules == pytest.approx(0.3 * 8 * 10)
    assert entry.domain == "dram"


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True])
def test_bad_model_arguments(value):
    with pytest.raises(ValueError, match="n_cpus"):
        CpuTimeModel(value)
    with pytest.raises(ValueError, match="gigabytes"):
        MemoryModel(value)
    with pytest.raises(ValueError, match="cpu: 'none' is not in the power table"):
        CpuTimeModel(1, "none")


def test_every_row_of_the_power_table_has_its_provenance():
    ids = []
    for rows in power_table().values():
        for row in rows:
            ids.append(row["id"])
            assert {"unit", "u_rel", "source", "date", "licence"} <= set(row)
            assert 0 < row["u_rel"] < 1
            assert len(row["source"]) > 10
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("all_cpu", [None, 0.0, 2.0, 10.0])
def test_attribution_closes(all_cpu):
    shares = attribute(123.456, {"act": 1.0, "learn": 3.0, "idle": 0.0}, all_cpu)
    assert sum(shares.values()) == pytest.approx(123.456, rel=1e-12)
    assert shares["learn"] == pytest.approx(3 * shares["act"])
    assert shares["idle"] == 0.0
    assert shares["unattributed"] == pytest.approx(123.456 * 0.6 if all_cpu == 10.0 else 0.0)


def test_attribution_without_any_work_blames_nobody():
    assert attribute(5.0, {"idle": 0.0}, None) == {"idle": 0.0, "unattributed": 5.0}


def test_system_cpu_seconds(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 999 5 4 6 7 0 0\ncpu0 1 2 3\n")
    assert system_cpu_seconds(stat) == pytest.approx(1.6)
    assert system_cpu_seconds(tmp_path / "none") is None


def test_sampler_sees_a_counter_that_wraps_twice(powercap):
    root = powercap(rapl_0=("package-0", RANGE_UJ - 10))
    meter = RaplMeter("cpu_pkg", root)
    sampler = Sampler([meter], period_s=0.002)
    assert sampler.hz == 500.0
    sampler.start()
    for value in (1_000_000, RANGE_UJ - 10, 1_000_000):
        powercap(rapl_0=("package-0", value))
        deadline = time.monotonic() + 10.0
        while list(meter._last.values()) != [value] and time.monotonic() < deadline:
            time.sleep(0.001)
    sampler.stop()
    passed = (10 + 1_000_000) + (RANGE_UJ - 10 - 1_000_000) + (10 + 1_000_000)
    assert meter.available()[0]
    assert meter.read()[1] == pytest.approx(passed * 1e-6, rel=1e-9)


def test_no_sampler_thread_without_a_counter():
    sampler = Sampler([])
    sampler.start()
    assert sampler.hz is None
    sampler.stop()
