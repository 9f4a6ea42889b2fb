"""Networks with a finite symmetry: exactly equivariant for random groups of signed permutations, and not by chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines import EquivariantMLP, count_parameters, mlp


def matrix(permutation, signs):
    """The signed permutation as a matrix: row i has its sign at column permutation[i]."""
    result = np.zeros((len(signs), len(signs)), dtype=int)
    result[np.arange(len(signs)), permutation] = signs
    return result


def generated(generators):
    """All products of pairs of matrices (inputs, outputs), by multiplication until nothing new comes."""
    found = [tuple(np.eye(len(m), dtype=int) for m in generators[0])]
    for element in found:
        for step in generators:
            product = tuple(a @ b for a, b in zip(step, element, strict=True))
            if not any(all(map(np.array_equal, product, known)) for known in found):
                found.append(product)
    return found


def signed(matrices):
    stack = np.array(matrices)
    permutations = np.abs(stack).argmax(axis=2)
    return permutations, np.take_along_axis(stack, permutations[:, :, None], axis=2)[:, :, 0]


def network(group, hidden=(6, 5), activation="tanh"):
    inputs, outputs = zip(*group, strict=True)
    return EquivariantMLP(hidden, activation, *signed(inputs), *signed(outputs)).double()


@st.composite
def groups(draw):
    """Groups that one or two random elements generate, on inputs and outputs together."""
    n, m = draw(st.integers(1, 3)), draw(st.integers(1, 2))

    def element(size):
        return matrix(
            draw(st.permutations(range(size))),
            draw(st.lists(st.sampled_from([-1, 1]), min_size=size, max_size=size)),
        )

    return generated([(element(n), element(m)) for _ in range(draw(st.integers(1, 2)))])


@settings(max_examples=40, deadline=None)
@given(group=groups(), seed=st.integers(0, 2**31 - 1))
def test_equivariant_under_every_element(group, seed):
    torch.manual_seed(seed)
    f = network(group)
    x = torch.randn(3, len(group[0][0]), dtype=torch.float64)
    value = f(x)
    for s, t in group:
        moved = f(x @ torch.from_numpy(s.T.astype(float)))
        torch.testing.assert_close(moved, value @ torch.from_numpy(t.T.astype(float)), atol=1e-12, rtol=1e-12)


MIRROR = generated([(-np.eye(4, dtype=int), matrix([1, 0], [1, 1]))])
ROTATIONS = generated([(matrix([1, 2, 0], [1, 1, 1]), np.eye(1, dtype=int))])


def test_it_is_the_average_by_hand():
    torch.manual_seed(1)
    f = network(MIRROR, (7,))
    torch.manual_seed(1)
    plain = mlp(4, 2, (7,), "tanh").double()
    x = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(f(x), (plain(x) + plain(-x).flip(1)) / 2)
    assert count_parameters(f) == count_parameters(plain)


def test_it_has_no_symmetry_beside_its_own():
    torch.manual_seed(2)
    x = torch.randn(50, 3, dtype=torch.float64)
    f = network(ROTATIONS)
    torch.testing.assert_close(f(x), f(x[:, [1, 2, 0]]))
    assert (f(x) - f(x[:, [1, 0, 2]])).abs().max() > 1e-3
    assert (f(x) - f(-x)).abs().max() > 1e-3


def test_it_learns_a_function_of_its_kind_from_one_side():
    """|x1 - x2| is invariant under exchange: taught where x1 > x2 alone, right where x1 < x2."""
    torch.manual_seed(3)
    swap = generated([(matrix([1, 0], [1, 1]), np.eye(1, dtype=int))])
    f = network(swap, (16,))
    x = torch.rand(256, 2, dtype=torch.float64).sort(1, descending=True).values
    optimizer = torch.optim.Adam(f.parameters(), lr=0.02)
    for _ in range(300):
        loss = ((f(x)[:, 0] - (x[:, 0] - x[:, 1])) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        elsewhere = ((f(x.flip(1))[:, 0] - (x[:, 0] - x[:, 1])) ** 2).mean()
    assert float(elsewhere) == pytest.approx(float(loss.detach()), abs=1e-4)
    assert loss < 2e-3


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (([[0, 0]], [[1, 1]], [[0]], [[1]]), "input_permutations"),
        (([[0, 1]], [[1, 2]], [[0]], [[1]]), "input_signs"),
        (([[0, 1]], [[1, 1]], [[0], [0]], [[1], [1]]), "output_permutations"),
        (([[0, 1]] * 2, [[1, 1]] * 2, [[0]] * 2, [[1]] * 2), "input_permutations"),
        # a rotation by a third without its square, and a mirror whose outputs do not return after two
        (([[0, 1, 2], [1, 2, 0]], [[1] * 3] * 2, [[0]] * 2, [[1]] * 2), "input_permutations"),
        (([[0], [0]], [[1], [-1]], [[0, 1, 2], [1, 2, 0]], [[1] * 3] * 2), "input_permutations"),
        (([[0.0, 1.0]], [[1, 1]], [[0]], [[1]]), "input_permutations"),
    ],
)
def test_what_is_no_group_is_refused(arguments, field):
    with pytest.raises(ValueError, match=f"^{field}: .*;"):
        EquivariantMLP((4,), "tanh", *arguments)
