"""Classical networks: shapes, counts, and the matched twin."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import baselines
from baselines import count_parameters, matched_mlp, mlp
from baselines.networks import match_widths


def layers(network):
    return [m for m in network if isinstance(m, torch.nn.Linear)]


def test_the_usual_network():
    network = mlp(4, 2)
    assert count_parameters(network) == 4 * 64 + 64 + 64 * 64 + 64 + 64 * 2 + 2
    assert network(torch.zeros(7, 4)).shape == (7, 2)
    assert [type(m).__name__ for m in network] == ["Linear", "Tanh", "Linear", "Tanh", "Linear"]
    relu = mlp(1, 3, (8,), "relu")
    assert [type(m).__name__ for m in relu] == ["Linear", "ReLU", "Linear"]
    assert count_parameters(mlp(3, 2, ())) == 8


def test_weights_come_from_torchs_generator():
    torch.manual_seed(5)
    first = mlp(3, 2).state_dict()
    torch.manual_seed(5)
    second = mlp(3, 2).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_what_trains_is_counted():
    network = mlp(3, 2, (4,))
    network[0].weight.requires_grad_(False)
    assert count_parameters(network) == 4 + 4 * 2 + 2


@given(st.integers(1, 20), st.integers(1, 10), st.integers(200, 20_000), st.integers(0, 20))
def test_a_twin_is_within_ten_per_cent(n_inputs, n_outputs, n_parameters, extra):
    match = match_widths(n_inputs, n_outputs, n_parameters, extra)
    assert abs(match.n_parameters - n_parameters) <= 0.1 * n_parameters
    assert match.difference == match.n_parameters - n_parameters
    assert len(match.hidden) in (1, 2)
    assert max(match.hidden) <= 2 * min(match.hidden)


@pytest.mark.parametrize(("n_parameters", "extra"), [(44, 4), (64, 4), (100, 0), (347, 6), (2000, 10)])
def test_the_network_has_the_count_that_was_matched(n_parameters, extra):
    network = matched_mlp(4, 2, n_parameters, extra)
    match = match_widths(4, 2, n_parameters, extra)
    assert count_parameters(network) + extra == match.n_parameters
    assert tuple(layer.out_features for layer in layers(network)[:-1]) == match.hidden
    assert network(torch.zeros(3, 4)).shape == (3, 2)


@pytest.mark.parametrize(("n_inputs", "n_outputs"), [(1, 1), (1, 2), (4, 2), (10, 10)])
def test_no_fair_network_is_closer(n_inputs, n_outputs):
    """Against every one-layer network and every pair of widths within a factor of two."""

    def count(hidden):
        widths = (n_inputs, *hidden, n_outputs)
        return sum((a + 1) * b for a, b in pairwise(widths))

    shapes = [(h,) for h in range(1, 700)]
    shapes += [(a, b) for a, b in product(range(1, 60), repeat=2) if max(a, b) <= 2 * min(a, b)]
    counts = [count(shape) for shape in shapes]
    for target in range(60, 1000, 17):
        closest = min(abs(c - target) for c in counts)
        match = match_widths(n_inputs, n_outputs, target)
        assert abs(match.difference) == closest
        ties = [s for s, c in zip(shapes, counts, strict=True) if abs(c - target) == closest]
        assert (len(match.hidden) == 2) == any(len(s) == 2 for s in ties)


def test_the_same_every_time():
    found = {match_widths(4, 2, 321, 4) for _ in range(5)}
    assert len(found) == 1


@pytest.mark.parametrize(
    ("arguments", "closest"), [((4, 2, 13), 11), ((10, 10, 12), 31), ((4, 2, 10, 40), 49), ((1, 2, 1), 6)]
)
def test_what_cannot_be_matched_names_the_closest_count(arguments, closest):
    with pytest.raises(ValueError, match=f"n_parameters: .* the closest has {closest}$") as caught:
        matched_mlp(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mlp(0, 2), "n_inputs: 0"),
        (lambda: mlp(2, True), "n_outputs: True"),
        (lambda: mlp(2, 2, (4, 0)), "hidden: 0"),
        (lambda: mlp(2, 2, activation="gelu"), "activation: 'gelu'"),
        (lambda: matched_mlp(2, 2, 50.0), "n_parameters: 50.0"),
        (lambda: matched_mlp(2, 2, 50, -1), "extra: -1"),
    ],
)
def test_bad_arguments_name_themselves(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_the_package_is_light_and_lists_its_names():
    code = (
        "import sys, baselines; assert not {'torch', 'numpy'} & set(sys.modules); "
        "assert set(baselines.__all__) <= set(dir(baselines)); assert baselines.__part_of__ == 'qrl'; "
        "assert all(getattr(baselines, name) for name in baselines.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = baselines.nothing
