"""The ladder: rungs, agreement of actions with its interval, and the shots that 95 % of it need."""

import json
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from circuits import reuploading
from circuits.backends import get_backend
from circuits.backends.aer import AerBackend
from circuits.observables import parse_observables
from qrl.cli import main
from qrl.hardware.acting import Setting, load_trained
from qrl.hardware.agreement import GRID, Estimates, Readings, Visited, _crossing
from qrl.hardware.ladder import climb
from qrl.hardware.ladder_page import ladder_figures, ladder_page
from qrl.study.results import read_run


def of(study, agent):
    return load_trained(read_run(study / agent / "seed=0"))


def quiet(name):
    return nullcontext(None)


def test_the_rungs_of_a_simulated_device(study):
    setting = Setting("aer:fake_manila", 200, episodes=5, steps=12)
    ladder = climb(of(study, "softmax"), setting, quiet)
    assert [rung.name for rung in ladder.rungs] == ["noiseless", "shots", "noise model", "device"]
    assert [rung.line["shots"] for rung in ladder.rungs] == [None, 200, None, 200]
    assert ladder.rungs[0].agreement is None
    for rung in ladder.rungs[1:]:
        assert rung.agreement.low <= rung.agreement.value <= rung.agreement.high
    clean, noisy = ladder.curves
    assert clean.limit == 1.0
    # the best of two is found by one shot in about half of the states, and by very many always
    assert clean.agreement[0] < 0.9 < clean.agreement[-1]
    assert clean.low[3] < clean.agreement[3] < clean.high[3]
    assert "noise and readout" in noisy.method
    assert ladder.simulated
    assert json.loads(json.dumps(ladder.to_dict(), allow_nan=False))["states"] == ladder.states


def test_the_shots_rung_agrees_as_its_curve_says(study):
    """Two independent ways: the native simulator's shots, and readings drawn anew from Aer's distribution."""
    ladder = climb(of(study, "softmax"), Setting("aer:fake_manila", 64, episodes=20, steps=15), quiet)
    expected = ladder.curves[0].agreement[GRID.index(64)]
    found = ladder.rungs[1].agreement.value
    assert found == pytest.approx(expected, abs=5 * math.sqrt(0.25 / ladder.states))


def test_on_a_device_that_costs_money_nothing_is_paid_twice(study, paid, capsys):
    arguments = [
        "ladder",
        str(study / "softmax"),
        "--device",
        "paid",
        "--shots",
        "100",
        "--episodes",
        "4",
        "--steps",
        "5",
    ]
    assert main(arguments) == 5
    assert main([*arguments, "--budget-seconds", "11"]) == 5
    assert paid.PaidBackend.connections == 0
    assert main([*arguments, "--budget-seconds", "15"]) == 0
    assert paid.machine.bill() == 12.0  # five steps, and one request for the states
    assert main([*arguments, "--budget-seconds", "15"]) == 0
    assert paid.machine.bill() == 12.0
    out = capsys.readouterr().out
    assert "missing: noise model" in out
    data = json.loads((study / "softmax" / "seed=0" / "ladder.json").read_text())
    assert [curve["name"] for curve in data["curves"]] == ["noiseless", "device"]
    assert "standard errors" in data["curves"][1]["method"]


def test_the_page_stands_alone(study):
    ladder = climb(
        of(study, "born"), Setting("aer:fake_manila", acting="one-shot", episodes=4, steps=6), quiet
    )
    page = ladder_page(ladder)
    assert "://" not in page.split("<script", maxsplit=1)[0]
    for name, figure in ladder_figures(ladder).items():
        assert f'id="{name}"' in page
        json.dumps(figure, allow_nan=False)


BAD = {
    "a rule": ("frugal", "adaptive", "greedy"),
    "drawn": ("softmax", "sampled", "greedy"),
    "no shots": ("softmax", "greedy", "--shots"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_has_no_ladder(case, study):
    agent, acting, hint = BAD[case]
    with pytest.raises(ValueError, match=hint):
        climb(of(study, agent), Setting("aer:fake_manila", acting=acting, episodes=2, steps=2), quiet)


def test_agreement_resamples_whole_episodes():
    """Ten episodes of a hundred equal states each: the interval is that of ten looks, not of a thousand."""
    episodes = np.repeat(np.arange(10), 100)
    visited = Visited(np.zeros((1000, 1)), episodes, np.zeros(1000))
    same = np.repeat([1.0] * 7 + [0.0] * 3, 100)
    found = visited.agreement(same)
    assert found.value == 0.7
    assert found.high - found.low > 0.4
    alike = visited.agreement(np.ones(1000))
    assert (alike.value, alike.high) == (1.0, 1.0)
    assert alike.low == pytest.approx(0.025**0.1)


def test_where_a_curve_reaches_95_percent():
    assert _crossing(np.full(len(GRID), 0.96)) == 1
    assert _crossing(np.full(len(GRID), 0.94)) == math.inf
    risen = np.where(np.array(GRID) < 64, 0.9, 1.0)
    assert _crossing(risen) == math.ceil(32 * math.sqrt(2))
    dipped = risen.copy()
    dipped[-1] = 0.5  # what falls again by chance was reached all the same
    assert _crossing(dipped) == _crossing(risen)


@pytest.mark.parametrize("device", [None, "fake_manila"])
def test_readings_are_the_backend_s_own_shots(device):
    circuit = reuploading(n_qubits=2, n_layers=1)
    observables = parse_observables(["ZI", {"XX": 0.5, "II": 0.25}], 2)
    parameters, features = torch.rand(circuit.n_parameters), torch.rand(3, circuit.n_features)
    aer = AerBackend(device)
    drawn = Readings(aer)
    exact = aer.expectations(circuit, parameters, features, observables).values
    torch.testing.assert_close(drawn.expectations(circuit, parameters, features, observables).values, exact)
    many = drawn.expectations(circuit, parameters, features, observables, 10**6, seed=1).values
    torch.testing.assert_close(many, exact, atol=6e-3, rtol=0)
    few = [
        drawn.expectations(circuit, parameters, features, observables, 25, seed=s).values for s in range(400)
    ]
    errors = aer.expectations(circuit, parameters, features, observables, 10**6, seed=0).standard_errors * 200
    torch.testing.assert_close(torch.stack(few).std(0), errors, atol=0.0, rtol=0.2)


def test_estimates_have_the_spread_of_other_shots():
    values, errors = np.full((2000, 1), 0.3), np.full((2000, 1), 0.1)
    circuit, observables = reuploading(n_qubits=1, n_layers=1), parse_observables(["Z"], 1)
    features = torch.zeros(2000, 1)
    drawn = Estimates(values, errors, 100)
    found = drawn.expectations(circuit, torch.zeros(0), features, observables, 400, seed=0).values
    assert float(found.std()) == pytest.approx(0.05, rel=0.1)
    assert float(drawn.expectations(circuit, torch.zeros(0), features, observables).values.std()) == 0.0


def test_the_device_s_noise_is_in_its_curve(study):
    trained = of(study, "softmax")
    ladder = climb(trained, Setting("aer:fake_manila", 50, episodes=3, steps=4), quiet)
    trained.move(get_backend("auto"), None)
    assert ladder.curves[0].method != ladder.curves[1].method
