"""The ledger of a run: windows, files, counts, resume, contexts."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass

import numpy as np
import pytest

from qrl.ledger import Ledger, check_closure, current, phase, read_ledger, summarise
from qrl.ledger.meters import CpuTimeModel, RaplMeter


@dataclass
class Usage:
    executions: int = 3
    hardware_executions: int = 30
    shots: int = 100
    jobs: int = 1
    seconds: float = 0.1
    gradient_rule: str | None = "parameter_shift"


def by_phase(records):
    return {record.phase: record for record in records}


def work(n=20_000):
    return sum(range(n))


def train(ledger, steps, start=0):
    for _ in range(steps):
        with ledger.phase("act"), ledger.phase("quantum"):
            work()
            ledger.count(Usage())
        with ledger.phase("environment"):
            work(2_000)
            ledger.add(interactions=1)
        with ledger.phase("learn"):
            work(5_000)
            ledger.add(updates=1)
    return ledger.close_window(start + steps, return_eval=-83.0)


def assert_closes(ledger):
    totals = ledger.totals()
    check_closure([p["wall_s"] for p in totals["phases"].values()], totals["elapsed_s"]["wall"], "wall")
    check_closure([p["cpu_s"] for p in totals["phases"].values()], totals["elapsed_s"]["cpu"], "cpu")
    check_closure([totals["wall_s"]], totals["elapsed_s"]["wall"])
    own = [p["joules"] for name, p in totals["phases"].items() if name != "unattributed"]
    check_closure(own, totals["joules"], "joules")


def test_phases_sum_to_the_total_in_seconds_and_joules(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger("run", 3, "hybrid", path) as ledger:
        for window in range(4):
            train(ledger, 10, 10 * window)
        assert_closes(ledger)
    assert_closes(ledger)
    rows = read_ledger(path).records
    assert rows == ledger.records
    check_closure([r.wall_s for r in rows], ledger.totals()["elapsed_s"]["wall"])


def test_a_window_has_one_line_a_phase(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger("run", 3, "hybrid", path) as ledger:
        rows = by_phase(train(ledger, 5))
        lines = path.read_bytes().splitlines()
        assert len(lines) == 1 + len(rows)  # already on disk while the run goes on
    assert {"act", "quantum", "environment", "learn", "idle", "ledger", "io"} >= set(rows)
    quantum = rows["quantum"].q
    assert (quantum.sim_executions, quantum.hw_executions, quantum.shots, quantum.jobs) == (15, 150, 500, 5)
    assert quantum.grad_rule == "parameter_shift"
    assert rows["environment"].interactions == 5
    assert rows["learn"].updates == 5
    assert {r.window for r in rows.values()} == {(0, 5)}
    assert {r.return_eval for r in rows.values()} == {-83.0}


def test_the_header_says_who_wrote(tmp_path):
    path = tmp_path / "deep" / "ledger.jsonl"
    with Ledger("run", 3, "hybrid", path, n_cpus=2):
        pass
    first = json.loads(path.read_text().splitlines()[0])
    assert first["schema"] == "qrl-energy/1"
    header = first["header"]
    assert (header["run_id"], header["seed"], header["agent"], header["threads"]) == ("run", 3, "hybrid", 2)
    assert header["versions"]["python"]
    assert header["hardware"]["logical_cpus"] >= 1
    assert header["boundary_ns"] > 0
    assert header["idle_baseline"] is None
    assert {m["name"] for m in header["meters"]} == {"rapl-cpu_pkg", "rapl-dram", "cpu-time-model"}
    for meter in header["meters"]:
        assert meter["available"] or meter["reason"]


def test_without_counters_the_model_stands_in_and_says_so(tmp_path):
    absent = tmp_path / "none"
    meters = (RaplMeter("cpu_pkg", absent), RaplMeter("dram", absent), CpuTimeModel(1))
    with Ledger("run", 0, "a", meters=meters) as ledger:
        rows = train(ledger, 2)
    for row in rows:
        (entry,) = row.energy
        assert (entry.domain, entry.kind) == ("cpu_pkg", "modelled")
        assert {u.domain for u in row.unavailable} == {"cpu_pkg", "dram", "gpu"}
        assert row.gpu_s is None
    assert ledger.totals()["energy"]["kind"] == "modelled"
    assert ledger.totals()["energy"]["measured_share"] == 0.0


def test_without_any_meter_there_is_no_zero():
    with Ledger("run", 0, "a", meters=()) as ledger:
        rows = train(ledger, 2)
    assert all(not row.energy and len(row.unavailable) == 3 for row in rows)
    assert ledger.totals()["joules"] is None
    assert ledger.totals()["energy"]["kind"] == "unavailable"


def test_counters_are_split_over_phases_with_an_unattributed_rest(powercap, monkeypatch):
    from qrl.ledger import window

    seconds = iter(np.cumsum([0.0, 1e4]).tolist())
    monkeypatch.setattr(window, "system_cpu_seconds", lambda: next(seconds, 1e4))
    root = powercap(rapl_0=("package-0", 0))
    with Ledger("run", 0, "a", meters=(RaplMeter("cpu_pkg", root), CpuTimeModel(1))) as ledger:
        powercap(rapl_0=("package-0", 80_000_000))
        rows = train(ledger, 5)
        powercap(rapl_0=("package-0", 90_000_000))
    entries = [entry for row in rows for entry in row.energy]
    assert {(entry.kind, entry.domain) for entry in entries} == {("measured", "cpu_pkg")}
    check_closure([entry.joules for entry in entries], 80.0, "joules")
    other = by_phase(rows)["unattributed"]
    assert other.energy[0].joules > 79.0
    assert (other.wall_s, other.cpu_s) == (0.0, 0.0)
    assert ledger.totals()["energy"]["kind"] == "measured"
    assert ledger.totals()["energy"]["measured_share"] == 1.0


def test_a_counter_that_stands_still_is_not_zero_joules(powercap):
    root = powercap(rapl_0=("package-0", 5))
    with Ledger("run", 0, "a", meters=(RaplMeter("cpu_pkg", root), CpuTimeModel(1))) as ledger:
        rows = train(ledger, 2)
    assert all(row.energy[0].kind == "modelled" for row in rows)
    assert any("did not advance" in u.reason for u in rows[0].unavailable)


def test_evaluation_is_counted_apart():
    with Ledger("run", 0, "a") as ledger:
        with ledger.phase("evaluate"):
            with ledger.phase("environment"):
                ledger.add(interactions=500, episodes=5)
            with ledger.phase("quantum"):
                ledger.count(Usage())
        rows = by_phase(ledger.close_window(0))
    assert rows["evaluate"].interactions == 500
    assert rows["evaluate"].episodes == 5
    assert rows["evaluate"].q.sim_executions == 3
    assert "quantum" not in rows
    assert ledger.totals()["training"]["interactions"] == 0


def test_counts_find_their_phase_wherever_they_are_made():
    with Ledger("run", 0, "a") as ledger:
        ledger.count({"executions": 2, "hardware_executions": 4})
        with ledger.phase("qpu"):
            ledger.count({"jobs": 1, "shots": 10})
            ledger.add_job(qpu_s=2.5)
        with ledger.phase("queue"):
            ledger.add_job(queue_s=60.0)
        with ledger.phase("act"):
            ledger.add(interactions=np.int64(1), updates=np.int64(2))
        rows = by_phase(ledger.close_window(1))
    assert rows["quantum"].q.sim_executions == 2
    assert (rows["qpu"].q.jobs, rows["qpu"].q.shots, rows["qpu"].q.qpu_s) == (1, 10, 2.5)
    assert rows["queue"].q.queue_s == 60.0
    assert rows["environment"].interactions == 1
    assert rows["learn"].updates == 2
    assert rows["quantum"].q.qpu_s is None


def test_seconds_on_a_processor_come_with_the_request_and_a_stand_in_has_none():
    with Ledger("run", 0, "a") as ledger:
        with ledger.phase("act"):
            ledger.count({"jobs": 1, "qpu_seconds": 2.5, "queue_seconds": 60.0})
        with ledger.phase("evaluate"):
            ledger.count({"jobs": 1})
        rows = by_phase(ledger.close_window(0))
    assert (rows["quantum"].q.qpu_s, rows["quantum"].q.queue_s) == (2.5, 60.0)
    assert (rows["evaluate"].q.jobs, rows["evaluate"].q.qpu_s) == (1, None)


def test_bad_usage_is_refused():
    ledger = Ledger("run", 0, "a")
    with pytest.raises(ValueError, match="usage: 'execution' is not counted"):
        ledger.count({"execution": 2})
    with pytest.raises(TypeError, match="usage: 'int' object"):
        ledger.count(3)
    with pytest.raises(ValueError, match="describe: 'qubits'"):
        ledger.describe(qubits=3)


def test_interactions_that_nobody_added_are_the_window():
    with Ledger("run", 0, "a") as ledger:
        ledger.close_window(40)
        rows = by_phase(ledger.close_window(100))
    assert rows["environment"].interactions == 60
    assert ledger.totals()["interactions"] == 100


def test_the_circuit_is_described_where_it_ran():
    with Ledger("run", 0, "a") as ledger:
        ledger.describe(n_qubits=4, depth=31, n1q=60, n2q=20, backend="torch")
        rows = by_phase(train(ledger, 1))
    assert (rows["quantum"].q.n_qubits, rows["quantum"].q.backend) == (4, "torch")
    assert rows["learn"].q.n_qubits is None


def test_an_evaluation_that_diverged_is_unavailable(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger("run", 0, "a", path) as ledger:
        ledger.close_window(10, return_eval=float("nan"))
    assert "NaN" not in path.read_text()
    row = read_ledger(path).records[0]
    assert row.return_eval is None
    assert "return_eval" in {u.domain for u in row.unavailable}


def test_windows_go_forward():
    with Ledger("run", 0, "a") as ledger:
        ledger.close_window(10)
        with pytest.raises(ValueError, match="interactions: 9 is before"):
            ledger.close_window(9)
        with pytest.raises(TypeError, match=r"interactions: 10\.5"):
            ledger.close_window(10.5)
    with pytest.raises(ValueError, match="is closed"):
        ledger.close_window(11)
    with pytest.raises(ValueError, match="was opened before"), ledger:
        pass


@pytest.mark.parametrize(
    ("identity", "message"), [(("", 0, "a"), "run_id"), (("r", -1, "a"), "seed"), (("r", 0, None), "agent")]
)
def test_bad_identity(identity, message):
    with pytest.raises(ValueError, match=message):
        Ledger(*identity)


def test_current_is_the_innermost_open_ledger():
    assert current() is None
    with Ledger("outer", 0, "a") as outer:
        assert current() is outer
        with outer.phase("learn"), Ledger("inner", 1, "b") as inner:
            assert current() is inner
            with inner.phase("act"):
                work()
        assert current() is outer
        found = []
        thread = threading.Thread(target=lambda: found.append(current()))
        thread.start()
        thread.join()
        assert found == [None]
    assert current() is None
    assert "act" not in outer.totals()["phases"]
    assert inner.totals()["phases"]["act"]["wall_s"] > 0
    assert outer.totals()["phases"]["learn"]["wall_s"] > inner.totals()["phases"]["act"]["wall_s"]


def test_an_exception_still_writes_what_was_spent(tmp_path):
    path = tmp_path / "ledger.jsonl"

    def fail(ledger):
        with ledger, ledger.phase("learn"):
            ledger.add(interactions=7)
            work()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(Ledger("run", 0, "a", path))
    assert current() is None
    rows = by_phase(read_ledger(path).records)
    assert rows["learn"].cpu_s >= 0
    assert rows["environment"].interactions == 7
    assert rows["environment"].window == (0, 7)


@pytest.mark.parametrize("on_disk", [True, False])
def test_resume_keeps_what_was_spent(tmp_path, on_disk):
    path = tmp_path / "ledger.jsonl" if on_disk else None
    with Ledger("run", 0, "a", path) as first:
        train(first, 10)
        with first.phase("learn"):
            work()
            first.add(updates=5)
        first.add(interactions=3)
        spent = first.totals()
        state = json.loads(json.dumps(first.state()))
        if on_disk:  # the first process dies here: nothing is written at its end
            first._writer.close()
            first._writer = None
    with Ledger("run", 0, "a", path) as second:
        second.set_state(state)
        train(second, 7, 13)
        assert_closes(second)
    totals = second.totals()
    assert totals["interactions"] == 20
    assert totals["updates"] == 22
    assert totals["executions"] == 51
    assert totals["wall_s"] > spent["wall_s"]
    assert totals["joules"] > spent["joules"]
    assert_closes(second)
    if on_disk:
        file = read_ledger(path)
        assert len(file.headers) == 2
        assert file.records == second.records
        windows = list(dict.fromkeys(r.window for r in file.records))
        assert windows == [(0, 10), (10, 13), (13, 20), (20, 20)]


def test_resume_does_not_count_twice_what_was_written_after_the_checkpoint(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger("run", 0, "a", path) as first:
        train(first, 10)
        first.add(interactions=3)
        state = first.state()
        first.add(interactions=7)
        first.close_window(20)
    with Ledger("run", 0, "a", path) as second:
        second.set_state(state)
        train(second, 4, 13)
    assert second.totals()["interactions"] == 20 + 4  # spent work is real, superseded or not
    assert_closes(second)
    assert (13, 17) in {r.window for r in second.records}


def test_resume_refuses_another_run(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger("run", 0, "a", path) as ledger:
        ledger.close_window(1)
        state = ledger.state()
    with pytest.raises(ValueError, match="belongs to 'run'"), Ledger("other", 0, "a", path):
        pass
    assert current() is None
    with Ledger("other", 0, "a") as other, pytest.raises(ValueError, match="belongs to 'run'"):
        other.set_state(state)
    with pytest.raises(ValueError, match="schema: 'x'"):
        other.set_state({"schema": "x"})


def test_resume_says_when_records_are_lost(tmp_path):
    with Ledger("run", 0, "a", tmp_path / "ledger.jsonl") as ledger:
        ledger.close_window(1)
        state = ledger.state()
    with (
        Ledger("run", 0, "a", tmp_path / "new.jsonl") as second,
        pytest.warns(UserWarning, match="records fewer than its checkpoint"),
    ):
        second.set_state(state)


def test_a_torn_last_line_is_reported_and_repaired(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger("run", 0, "a", path) as ledger:
        train(ledger, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:100])
    file = read_ledger(path)
    assert file.torn
    assert file.records == ledger.records
    with Ledger("run", 0, "a", path):
        pass
    again = read_ledger(path)
    assert not again.torn
    assert again.records[: len(file.records)] == file.records


def test_a_bad_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger("run", 0, "a", path) as ledger:
        train(ledger, 1)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{}", *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match=r"ledger\.jsonl:2: record\."):
        read_ledger(path)


def test_totals_are_json():
    with Ledger("run", 0, "a") as ledger:
        train(ledger, 1)
    totals = json.loads(json.dumps(ledger.totals(), allow_nan=False))
    assert totals["energy"]["u_joules"] == pytest.approx(0.4 * totals["joules"])
    assert totals["phases"]["quantum"]["executions"] == 3
    assert summarise(ledger.records)["updates"] == 1


def test_the_ledger_imports_without_torch_or_a_quantum_library():
    code = "import sys, qrl.ledger; print({'torch', 'qiskit', 'pennylane', 'pandas'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "set()"


def test_a_phase_of_the_current_ledger_or_of_none():
    with phase("act"):
        assert current() is None
    with Ledger("run", 0, "a") as ledger:
        with phase("act"):
            work()
        with pytest.raises(ValueError, match="did you mean 'act'"):
            phase("actt")
    assert ledger.totals()["phases"]["act"]["wall_s"] > 0
