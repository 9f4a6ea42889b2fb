"""What a sampler is asked: checked problems, settings, samplers by name."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from circuits.boltzmann import SAMPLERS, Problem, Sampler, build_graph, get_sampler
from circuits.boltzmann.protocol import draw_seed, free_energy_alone, log_2cosh

GRAPH = build_graph("complete", n=3)


def problem(**changes) -> Problem:
    content = {"biases": np.zeros((2, 3)), "couplings": np.zeros(3), "field": 0.5, "beta": 2.0}
    return Problem(GRAPH, **{**content, **changes})


def test_a_problem_is_in_float64():
    asked = problem(biases=[[1, 2, 3]], couplings=np.ones(3, dtype=np.float32), field=np.float64(1), beta=1)
    assert asked.biases.dtype == asked.couplings.dtype == np.float64
    assert asked.biases.shape == (1, 3)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"biases": np.zeros(3)},
            ValueError,
            r"biases: shape \(3,\) does not fit 3 hidden units; use \(N, 3\)",
        ),
        ({"biases": np.zeros((1, 4))}, ValueError, "biases: shape"),
        (
            {"couplings": np.zeros(2)},
            ValueError,
            r"couplings: shape \(2,\) does not fit the graph; use \(3,\)",
        ),
        ({"biases": np.full((1, 3), np.nan)}, ValueError, "biases: a bias or coupling is not finite"),
        ({"couplings": np.full(3, np.inf)}, ValueError, "biases: a bias or coupling is not finite"),
        ({"field": -0.1}, ValueError, "field: -0.1 is out of range; use a finite number at least 0"),
        ({"field": math.inf}, ValueError, "field: inf is out of range"),
        ({"field": "0.5"}, TypeError, "field: '0.5' is not a number"),
        ({"beta": 0}, ValueError, "beta: 0 is out of range; use a finite number above 0"),
        ({"beta": True}, TypeError, "beta: True is not a number"),
    ],
)
def test_a_wrong_problem_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        problem(**changes)


@pytest.mark.parametrize("x", [0.0, 1e-9, -0.3, 2.0, -30.0])
def test_the_logarithm_of_2cosh(x):
    assert float(log_2cosh(x)) == pytest.approx(math.log(2 * math.cosh(x)), rel=1e-15)
    assert log_2cosh(np.array([x, 2e5]))[1] == 2e5


@pytest.mark.parametrize(
    ("n", "field", "beta", "value"), [(16, 0.5, 2.0, -9.02), (48, 20.0, 2.0, -960.0), (16, 0.0, 2.0, -5.545)]
)
def test_the_free_energy_without_weights(n, field, beta, value):
    assert free_energy_alone(n, field, beta) == pytest.approx(value, abs=6e-3)


def test_seeds_are_drawn_from_torchs_generator_or_taken():
    assert draw_seed(7) == 7
    torch.manual_seed(1)
    first = draw_seed(None), draw_seed(None)
    torch.manual_seed(1)
    assert first == (draw_seed(None), draw_seed(None))
    assert first[0] != first[1]
    for wrong in (-1, True, 1.0, 2**63):
        with pytest.raises(ValueError, match=r"seed: .* is no seed"):
            draw_seed(wrong)


def test_samplers_by_name():
    assert set(SAMPLERS) == {"exact", "closed_form", "sqa", "ocean", "dwave", "gate"}
    for name in ("exact", "closed_form"):
        sampler = get_sampler(name)
        assert isinstance(sampler, Sampler)
        assert (sampler.name, sampler.exact) == (name, True)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("exakt", {}, ValueError, "sampler: 'exakt' is unknown.*did you mean 'exact'"),
        (3, {}, TypeError, "sampler: 3 is not a string"),
        ("exact", {"reads": 5}, TypeError, "sampler 'exact': option 'reads' is unknown; use none"),
    ],
)
def test_unknown_samplers_and_options_are_refused(name, options, error, message):
    with pytest.raises(error, match=message):
        get_sampler(name, **options)


def test_the_package_is_light():
    code = "import sys, circuits.boltzmann as b; b.get_sampler('exact'); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "scipy", "qiskit", "pennylane", "dimod", "networkx"} & set(done.stdout.split())
