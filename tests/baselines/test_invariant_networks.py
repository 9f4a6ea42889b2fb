"""Networks with a machine's invariances: even, concave, both, for any weights; counts; closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines import Bilinear, ConcaveNetwork, LnCosh, SymmetricMLP, count_parameters, mlp

N_STATE, N_ACTION = 3, 2
EVEN = {
    "concave-even": lambda: ConcaveNetwork(5, (8, 8), even=True),
    "symmetric-relu": lambda: SymmetricMLP(5, (8, 8), "relu"),
    "symmetric-tanh": lambda: SymmetricMLP(5, (6,), "tanh"),
    "lncosh": lambda: LnCosh(5, 16, init_scale=3.0),
    "lncosh-negative": lambda: LnCosh(5, 16, sign="negative"),
    "bilinear": lambda: Bilinear(3, 2),
    "bilinear-quadratic": lambda: Bilinear(3, 2, quadratic=True),
}
CONCAVE = {
    "concave": lambda: ConcaveNetwork(5, (8, 8)),
    "concave-one-layer": lambda: ConcaveNetwork(5, (12,)),
    "concave-three-layers": lambda: ConcaveNetwork(5, (4, 6, 4)),
    "concave-even": lambda: ConcaveNetwork(5, (8, 8), even=True),
    "lncosh": lambda: LnCosh(5, 16, init_scale=3.0),
    "lncosh-bias": lambda: LnCosh(5, 16, bias=True),
}


def built(make, seed, scale=1.0):
    """With weights far from where they start, so that nothing holds by initialisation."""
    torch.manual_seed(seed)
    network = make().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return network


def inputs(seed, n=32, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    v = scale * torch.randn(n, N_STATE + N_ACTION, generator=generator, dtype=torch.float64)
    return v[:, :N_STATE], v[:, N_STATE:]


seeds = st.integers(0, 2**31 - 1)
scales = st.floats(0.01, 10.0)


@pytest.mark.parametrize("name", EVEN)
@settings(max_examples=20, deadline=None)
@given(seed=seeds, scale=scales)
def test_even(name, seed, scale):
    network = built(EVEN[name], seed)
    state, action = inputs(seed + 1, scale=scale)
    torch.testing.assert_close(network(state, action), network(-state, -action), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CONCAVE)
@settings(max_examples=20, deadline=None)
@given(seed=seeds, scale=scales, weight=st.floats(0.0, 1.0))
def test_concave_in_state_and_action_together(name, seed, scale, weight):
    network = built(CONCAVE[name], seed)
    (s0, a0), (s1, a1) = inputs(seed + 1, scale=scale), inputs(seed + 2, scale=scale)
    between = network(weight * s0 + (1 - weight) * s1, weight * a0 + (1 - weight) * a1)
    chord = weight * network(s0, a0) + (1 - weight) * network(s1, a1)
    assert (between - chord >= -1e-9 * (1 + chord.abs())).all()


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_the_negative_sign_is_convex(seed):
    network = built(lambda: LnCosh(5, 8, sign="negative"), seed)
    (s0, a0), (s1, a1) = inputs(seed + 1), inputs(seed + 2)
    middle = network((s0 + s1) / 2, (a0 + a1) / 2)
    assert (middle <= (network(s0, a0) + network(s1, a1)) / 2 + 1e-9).all()


def test_what_lacks_a_property_really_lacks_it():
    """The opponents differ in their invariances: each test above fails for a network that has them not."""
    state, action = inputs(0, 200, 2.0)

    def odd_part(network):
        return (network(state, action) - network(-state, -action)).abs().max()

    assert odd_part(built(CONCAVE["concave"], 1)) > 1e-2
    assert odd_part(built(CONCAVE["lncosh-bias"], 1)) > 1e-2
    symmetric = built(EVEN["symmetric-tanh"], 1)
    middle = symmetric((state[:100] + state[100:]) / 2, (action[:100] + action[100:]) / 2)
    chord = (symmetric(state[:100], action[:100]) + symmetric(state[100:], action[100:])) / 2
    assert (middle - chord).min() < -1e-2
    assert (middle - chord).max() > 1e-2


def test_symmetric_mlp_is_the_sum_of_a_network_and_its_mirror():
    torch.manual_seed(3)
    network = SymmetricMLP(5, (7, 4), "tanh")
    torch.manual_seed(3)
    plain = mlp(5, 1, (7, 4), "tanh")
    state, action = (x.float() for x in inputs(4))
    v = torch.cat([state, action], dim=1)
    torch.testing.assert_close(network(state, action), plain(v) + plain(-v))
    assert count_parameters(network) == count_parameters(plain)


def test_concave_network_by_hand():
    """One hidden layer is `-(u . softplus(W v + c) + w . v + c')` with u the softplus of what is trained."""
    network = built(lambda: ConcaveNetwork(5, (3,)), 0, 0.5)
    state, action = inputs(1, 4)
    v = np.concatenate([state, action], axis=1)
    w0, c0, w1, c1 = (p.detach().numpy() for layer in network.from_input for p in (layer.weight, layer.bias))
    u = np.logaddexp(0.0, network.between[0].detach().numpy())
    g = np.logaddexp(0.0, v @ w0.T + c0) @ u.T + v @ w1.T + c1
    np.testing.assert_allclose(network(state, action).detach().numpy(), -g, rtol=1e-12)


def test_between_weights_start_positive_with_mean_one_over_width():
    torch.manual_seed(0)
    network = ConcaveNetwork(4, (64, 64))
    weights = torch.nn.functional.softplus(network.between[0].detach())
    assert (weights > 0).all()
    assert float(weights.mean()) == pytest.approx(1 / 64, rel=0.05)


@pytest.mark.parametrize(("sign", "direction"), [("mirrored", -1.0), ("negative", 1.0)])
def test_lncosh_is_the_free_energy_of_single_spins(sign, direction):
    """Against the sum over all configurations of the units: `-(1/beta) ln sum_z exp(beta sum_h b_h z_h)`."""
    torch.manual_seed(0)
    beta = 1.7
    network = LnCosh(5, 4, beta, 1.5, sign=sign, bias=True, offset=0.3).double()
    state, action = inputs(2, 6)
    v = np.concatenate([state, action], axis=1)
    b = v @ network.weights.detach().numpy().T + network.bias.detach().numpy()
    spins = np.array(list(itertools.product([-1.0, 1.0], repeat=4)))
    total = np.log(np.exp(beta * b @ spins.T).sum(axis=1)) / beta
    found = network(state, action).detach().numpy()[:, 0]
    np.testing.assert_allclose(found, direction * total + 0.3, atol=1e-6)


def test_lncosh_does_not_overflow_and_is_zero_at_the_origin():
    network = LnCosh(2, 16, init_scale=5.0)
    zero = torch.zeros(1, 1)
    for one in (network, LnCosh(2, 16, sign="negative")):
        torch.testing.assert_close(one(zero, zero), zero, atol=1e-5, rtol=0)
    large = torch.full((1, 1), 1e4)
    assert torch.isfinite(network(large, large)).all()


def test_counts():
    assert count_parameters(LnCosh(2, 16)) == 32
    assert count_parameters(LnCosh(2, 16, bias=True, train_offset=True)) == 49
    assert count_parameters(Bilinear(10, 10)) == 101
    assert count_parameters(Bilinear(3, 2, quadratic=True)) == 6 + 9 + 4 + 1
    assert count_parameters(SymmetricMLP(2, (8, 8))) == 3 * 8 + 9 * 8 + 9
    # two layers from the input, hidden to hidden, hidden to output, input to output
    assert count_parameters(ConcaveNetwork(2, (8, 8))) == 2 * (3 * 8) + 64 + 8 + 3


def test_bilinear_by_hand_and_its_linear_controller():
    network = built(lambda: Bilinear(3, 2), 0)
    state, action = inputs(1)
    expected = torch.einsum("bi,ij,bj->b", state, network.weights, action) + network.offset
    torch.testing.assert_close(network(state, action)[:, 0], expected)
    quadratic = built(lambda: Bilinear(3, 2, quadratic=True), 0)
    k = quadratic.action_factor.detach()
    best = torch.linalg.solve(k.T @ k, quadratic.weights.detach().T @ state.T).T
    best.requires_grad_(True)
    quadratic(state, best).sum().backward()
    torch.testing.assert_close(best.grad, torch.zeros_like(best), atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", {**EVEN, **CONCAVE})
def test_shapes_gradients_and_seeds(name):
    make = {**EVEN, **CONCAVE}[name]
    torch.manual_seed(7)
    network = make()
    torch.manual_seed(7)
    again = make()
    state, action = (x.float() for x in inputs(0, 6))
    action.requires_grad_(True)
    value = network(state, action)
    assert value.shape == (6, 1)
    assert torch.equal(value, again(state, action))
    value.sum().backward()
    assert action.grad.shape == action.shape
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize(
    ("make", "error", "field"),
    [
        (lambda: SymmetricMLP(0), ValueError, "n_inputs"),
        (lambda: SymmetricMLP(2, activation="gelu"), ValueError, "activation"),
        (lambda: ConcaveNetwork(2, ()), ValueError, "hidden"),
        (lambda: ConcaveNetwork(2, (0,)), ValueError, "hidden"),
        (lambda: ConcaveNetwork(2.0), TypeError, "n_inputs"),
        (lambda: LnCosh(2, 0), ValueError, "n_units"),
        (lambda: LnCosh(2, beta=0.0), ValueError, "beta"),
        (lambda: LnCosh(2, init_scale=float("nan")), ValueError, "init_scale"),
        (lambda: LnCosh(2, sign="plus"), ValueError, "sign"),
        (lambda: LnCosh(2, offset="auto"), TypeError, "offset"),
        (lambda: Bilinear(2, True), TypeError, "n_action"),
    ],
)
def test_a_wrong_argument_is_named(make, error, field):
    with pytest.raises(error, match=f"^{field}: .*; use") as caught:
        make()
    assert "\n" not in str(caught.value)
