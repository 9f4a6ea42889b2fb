"""The record schema: round trip, refusals, and no silent zero."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from qrl.ledger import SCHEMA, Energy, Quantum, Record, Unavailable

CPU = Energy("cpu_pkg", 1.5, 0.6, "modelled", "cpu-time-model:vcpu-default", "gross", 0.5)
MISSING = (Unavailable("dram", "no counter"), Unavailable("gpu", "no meter"))
RECORD = Record(
    run_id="study/hybrid/seed=3",
    seed=3,
    agent="hybrid",
    phase="quantum",
    window=(100, 250),
    updates=2,
    wall_s=0.25,
    cpu_s=0.5,
    q=Quantum(
        sim_executions=4,
        hw_executions=484,
        shots=1000,
        jobs=1,
        n_qubits=4,
        depth=31,
        grad_rule="parameter_shift",
    ),
    energy=(CPU,),
    unavailable=MISSING,
    return_eval=-83.25,
)


def test_a_record_survives_json():
    text = json.dumps(RECORD.to_dict(), allow_nan=False)
    assert Record.from_dict(json.loads(text)) == RECORD


def test_the_keys_of_the_schema():
    data = RECORD.to_dict()
    assert set(data) == {
        *("schema", "run_id", "seed", "agent", "phase", "window", "interactions", "episodes", "updates"),
        *("wall_s", "cpu_s", "gpu_s", "q", "energy", "unavailable", "return_eval"),
    }
    assert data["schema"] == SCHEMA == "qrl-energy/1"
    assert {"sim_executions", "hw_executions", "shots", "jobs", "n_qubits", "depth", "n1q", "n2q"} < set(
        data["q"]
    )
    assert {"circuit_s", "rep_delay_s", "grad_rule", "mitigation_x", "backend"} < set(data["q"])
    assert set(data["energy"][0]) == {"domain", "J", "u_J", "kind", "source", "boundary", "idle_J"}
    assert data["window"] == [100, 250]


@pytest.mark.parametrize("domain", ["cpu_pkg", "dram", "gpu"])
def test_a_domain_without_figure_or_reason_is_refused(domain):
    entries = [u for u in (*MISSING, Unavailable("cpu_pkg", "no meter")) if u.domain != domain]
    with pytest.raises(ValueError, match=f"energy.domain: '{domain}' is silent"):
        replace(RECORD, energy=(), unavailable=tuple(entries))


def test_a_domain_counts_once():
    with pytest.raises(ValueError, match="'cpu_pkg' appears twice"):
        replace(RECORD, energy=(CPU, CPU))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase": "thinking"}, "phase: 'thinking'"),
        ({"window": (5, 4)}, "window:"),
        ({"wall_s": float("nan")}, "wall_s:"),
        ({"cpu_s": -1.0}, "cpu_s:"),
        ({"interactions": -1}, "interactions:"),
        ({"interactions": True}, "interactions: True"),
        ({"seed": 0.5}, "seed: 0.5"),
        ({"agent": ""}, "agent:"),
        ({"return_eval": float("inf")}, "return_eval:"),
        ({"gpu_s": float("inf")}, "gpu_s:"),
    ],
)
def test_bad_records_name_the_field(changes, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        replace(RECORD, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joules": float("nan")}, "energy.J"),
        ({"joules": None}, "energy.J"),
        ({"u_joules": -1.0}, "energy.u_J"),
        ({"kind": "proxy"}, "energy.kind: 'proxy'"),
        ({"source": " "}, "energy.source"),
        ({"boundary": None}, "energy.boundary"),
        ({"domain": "disk"}, "energy.domain: 'disk'"),
    ],
)
def test_bad_energies_name_the_field(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        replace(CPU, **changes)


@pytest.mark.parametrize("where", ["record", "q", "energy", "unavailable"])
@pytest.mark.parametrize("problem", ["missing", "unknown"])
def test_reading_refuses_missing_and_unknown_keys(where, problem):
    data = RECORD.to_dict()
    part = {
        "record": data,
        "q": data["q"],
        "energy": data["energy"][0],
        "unavailable": data["unavailable"][0],
    }[where]
    if problem == "missing":
        part.pop(next(reversed(part)))
    else:
        part["extra"] = 1
    with pytest.raises(ValueError, match=f"{where}.*{problem}"):
        Record.from_dict(data)


def test_another_schema_is_refused():
    with pytest.raises(ValueError, match="schema: 'qrl-energy/2'"):
        Record.from_dict(RECORD.to_dict() | {"schema": "qrl-energy/2"})
