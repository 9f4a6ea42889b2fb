"""Anchors of expressivity, reached by optimising real circuits: the CHSH game and the bandit of one frequency.

They say what a way of reading a circuit out can express. Classical tables and networks stand beside them, and none of
this is an advantage.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from baselines import Tabular
from circuits import Angle, Circuit, Gate, Term, reuploading
from circuits.analysis import spectrum
from environments.chsh_game import CLASSICAL_CEILING, QUANTUM_CEILING, QUESTIONS, signalling, win_probability
from environments.frequency_bandit import BORN_CEILING, OPTIMUM, contexts, value
from qrl.layer import QuantumLayer

BELL = {"phi+": (), "phi-": ("Z",), "psi+": ("X",), "psi-": ("X", "Z")}
"""What is done to qubit 0 of (|00> + |11>) / sqrt(2) to get each Bell state."""


def players(*preparation, shared=False):
    """Two qubits, prepared together; then each is turned by an angle that depends on its own question alone."""
    turns = [
        Gate(
            "RY", (q,), Angle(0.0, (Term(1.0, 0 if shared else q), Term(1.0, n + (0 if shared else q), (q,))))
        )
        for n in [1 if shared else 2]
        for q in (0, 1)
    ]
    size = 1 if shared else 2
    return Circuit(2, (*preparation, *turns), 2, (("weights", size), ("scales", size)))


def bell(name):
    return (Gate("H", (0,)), Gate("CX", (0, 1)), *(Gate(letter, (0,)) for letter in BELL[name]))


def partly_entangled(alpha):
    """cos(alpha) |00> + sin(alpha) |11>."""
    return Gate("RY", (0,), Angle(2 * alpha)), Gate("CX", (0, 1))


def joint(layer):
    """p(a, b | x, y), (2, 2, 2, 2), from <Z1>, <Z2> and <Z1 Z2>."""
    values = layer(torch.from_numpy(QUESTIONS).double())
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    first, second, both = (v[:, None, None] for v in values.T)
    p = (1 + first * sign[:, None] + second * sign + both * sign[:, None] * sign) / 4
    return p.reshape(2, 2, 2, 2)


def won(layer):
    """Share of wins, differentiable: 1/2 + (1/8) sum_xy (-1)^(xy) <Z1 Z2>."""
    p = joint(layer)
    agree = p[:, :, 0, 0] + p[:, :, 1, 1]
    return (agree[0].sum() + agree[1, 0] + 1 - agree[1, 1]) / 4


def trained(circuit, starts=4, steps=120):
    """The best of a few starts of Adam on the exact share of wins."""
    best = None
    for seed in range(starts):
        torch.manual_seed(seed)
        layer = QuantumLayer(circuit, ["ZI", "IZ", "ZZ"]).double()
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.15)
        for _ in range(steps):
            optimizer.zero_grad()
            (-won(layer)).backward()
            optimizer.step()
        found = joint(layer).detach().numpy()
        if best is None or win_probability(found) > win_probability(best):
            best = found
    return best


def test_entangled_players_reach_tsirelsons_bound_without_a_word():
    found = trained(players(*bell("phi+")))
    assert win_probability(found) == pytest.approx(QUANTUM_CEILING, abs=1e-4)
    assert signalling(found) < 1e-12


def test_players_without_entanglement_are_classical():
    found = trained(players())
    assert win_probability(found) == pytest.approx(CLASSICAL_CEILING, abs=1e-3)
    assert win_probability(found) <= CLASSICAL_CEILING + 1e-12


@pytest.mark.parametrize("alpha", [0.2, 0.5])
def test_between_the_two_the_score_grows_with_entanglement(alpha):
    """The most that cos(alpha)|00> + sin(alpha)|11> allows: 1/2 + sqrt(1 + sin^2(2 alpha)) / 4.

    N. Gisin, Physics Letters A 154, 201 (1991).
    """
    exact = 0.5 + np.sqrt(1 + np.sin(2 * alpha) ** 2) / 4
    assert win_probability(trained(players(*partly_entangled(alpha)))) == pytest.approx(exact, abs=1e-4)


def test_some_bell_states_hurt():
    """At the angles that are best for phi+ another Bell state does worse than no entanglement at all."""
    torch.manual_seed(0)
    scores = {}
    angles = {"weights": [0.0, np.pi / 4], "scales": [np.pi / 2, -np.pi / 2]}
    for name in BELL:
        layer = QuantumLayer(players(*bell(name)), ["ZI", "IZ", "ZZ"]).double()
        with torch.no_grad():
            for group, numbers in angles.items():
                getattr(layer, group).copy_(torch.tensor(numbers))
            scores[name] = float(won(layer))
    expected = {"phi+": QUANTUM_CEILING, "phi-": 0.5, "psi+": 0.5, "psi-": 1 - QUANTUM_CEILING}
    assert scores == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "ceiling"),
    [(n, CLASSICAL_CEILING) for n in ("phi+", "psi-")] + [(n, QUANTUM_CEILING) for n in ("phi-", "psi+")],
)
def test_players_who_share_their_parameters_need_the_right_bell_state(name, ceiling):
    """<Z1 Z2> is cos(f_x - f_y) up to sign for phi+ and psi-, cos(f_x + f_y) for phi- and psi+; with one f for both
    players the first cannot beat 3/4."""
    found = win_probability(trained(players(*bell(name), shared=True)))
    assert found == pytest.approx(ceiling, abs=2e-3)
    assert found <= ceiling + 1e-12


# ------------------------------------------------------------------------------- the bandit's frequency

K = 3
S = torch.from_numpy(contexts(512))


def climbed(score, parameters, lr=0.1, steps=250):
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        (-score()).backward()
        optimizer.step()
    return float(score().detach())


def born(n_layers, seed=0, scales=False):
    """A one-qubit circuit whose action is its measured bit, and the share of action 1 as a function of contexts."""
    torch.manual_seed(seed)
    layer = QuantumLayer(reuploading(1, n_layers), ["Z"]).double()
    layer.scales.requires_grad_(scales)
    return layer, lambda s: (1 + layer(torch.as_tensor(s))[:, 0]) / 2


def expected_reward(share):
    return ((2 * share(S) - 1) * torch.cos(K * S[:, 0])).mean()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_layers", [1, 2])
def test_below_the_frequency_a_born_policy_is_worth_exactly_nothing(n_layers, seed):
    layer, share = born(n_layers, seed)
    assert spectrum(layer.circuit).max() == n_layers < K
    assert abs(value(lambda s: share(s).detach().numpy(), K)) < 1e-14
    expected_reward(share).backward()
    assert layer.weights.grad.abs().max() < 1e-14


@pytest.mark.parametrize("n_layers", [3, 4])
def test_at_the_frequency_a_born_policy_reaches_one_half_and_no_more(n_layers):
    best = 0.0
    for seed in range(3):
        layer, share = born(n_layers, seed)
        climbed(lambda share=share: expected_reward(share), [layer.weights])
        best = max(best, value(lambda s, share=share: share(s).detach().numpy(), K))
    assert best == pytest.approx(BORN_CEILING, abs=5e-3)
    assert best <= BORN_CEILING + 1e-12


def test_a_trained_scale_passes_both_ceilings_by_leaving_the_integers():
    """One layer with scale r: E[cos(r s) cos(3 s)] has its largest value, 0.50206, at r = 3.05 and not at 3."""
    r = np.linspace(2.9, 3.2, 30_001)
    best = (0.5 * (np.sinc(K - r) + np.sinc(K + r))).max()
    assert best == pytest.approx(0.50206, abs=1e-5)
    layer, share = born(1, scales=True)
    with torch.no_grad():
        layer.scales.fill_(2.5)
        layer.weights.fill_(0.3)
    climbed(lambda: expected_reward(share), layer.parameters(), lr=0.03)
    found = value(lambda s: share(s).detach().numpy(), K)
    assert BORN_CEILING + 1e-3 < found == pytest.approx(best, abs=1e-4)


def test_softmax_leaks_past_the_spectrum_up_to_a_square_wave():
    """2p - 1 = tanh(b <Z>) with one layer: never a polynomial, worth up to 2 / (3 pi) as b grows."""
    layer, _ = born(1)
    sharpness = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    share = lambda s: torch.sigmoid(2 * sharpness * layer(torch.as_tensor(s))[:, 0])  # noqa: E731
    with torch.no_grad():
        layer.weights.copy_(torch.tensor([2.0, 0.0]))
    found = climbed(lambda: expected_reward(share), [layer.weights, sharpness], lr=0.2)
    assert 0.11 < found < 2 / (3 * np.pi)
    assert spectrum(layer.circuit).max() == 1


def test_a_table_learns_the_optimum_from_the_environment():
    """Sixty bins, so that no bin holds a change of sign: mean rewards by least squares, then the better action."""
    table = Tabular(60, 2)
    bandit = gym.make_vec("qrl/FrequencyBandit-v0", num_envs=6000)
    s, _ = bandit.reset(seed=0)
    actions = np.arange(6000) % 2
    _, rewards, _, _, _ = bandit.step(actions)

    def seen(s):
        bins = np.clip(((s[:, 0] + np.pi) / (2 * np.pi) * 60).astype(int), 0, 59)
        return torch.eye(60)[bins]

    taken, target = torch.from_numpy(actions)[:, None], torch.from_numpy(rewards).float()
    optimizer = torch.optim.SGD(table.parameters(), lr=0.02)
    for _ in range(60):
        loss = 0.5 * ((table(seen(s)).gather(1, taken)[:, 0] - target) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    greedy = value(lambda s: table(seen(s)).argmax(1).numpy(), K, 6000)
    assert greedy == pytest.approx(OPTIMUM, abs=1e-4)
