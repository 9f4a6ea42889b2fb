"""Heads of policies: bit strings and their probabilities, the floor, the bias, the inverse temperature."""

import numpy as np
import pytest
import torch
from qiskit.quantum_info import Statevector

import qrl
from qrl.errors import InputError
from qrl.networks import BornHead, SoftmaxHead, annealed, build_network
from qrl.networks.decoding import decode, projectors
from qrl.specs import Head, QuantumNetwork


def born(decoding="contiguous", n_qubits=4, shots=None, backend="auto", **head):
    head = Head(kind="born", decoding=decoding, **head)
    return QuantumNetwork(n_qubits=n_qubits, n_layers=2, head=head, shots=shots, backend=backend)


# by hand: bit q of the index is qubit q
DECODED = {
    ("parity", 2, 2): [0, 1, 1, 0],
    ("parity", 3, 2): [0, 1, 1, 0, 1, 0, 0, 1],
    # blocks {0, 1} and {2}, the first parity is the leading digit
    ("parity", 3, 4): [0, 2, 2, 0, 1, 3, 3, 1],
    ("local", 2, 2): [0, 1, 0, 1],
    ("local", 2, 4): [0, 2, 1, 3],
    ("contiguous", 2, 4): [0, 2, 1, 3],
    # bit strings 000 001 010 | 011 100 101 | 110 111, read with qubit 0 first
    ("contiguous", 3, 3): [0, 1, 0, 2, 0, 1, 1, 2],
    ("local", 3, 1): [0] * 8,
    ("parity", 1, 1): [0, 0],
}


@pytest.mark.parametrize("case", DECODED, ids=lambda case: "-".join(map(str, case)))
def test_actions_of_bit_strings(case):
    decoding, n_qubits, n_actions = case
    assert decode(n_qubits, n_actions, decoding).tolist() == DECODED[case]


@pytest.mark.parametrize("decoding", ["parity", "local", "contiguous"])
def test_partitions_are_even_and_complete(decoding):
    for n_qubits in range(1, 7):
        for n_actions in range(1, 2**n_qubits + 1):
            if decoding != "contiguous" and n_actions & (n_actions - 1):
                continue
            counts = np.bincount(decode(n_qubits, n_actions, decoding), minlength=n_actions)
            assert counts.sum() == 2**n_qubits
            assert counts.max() - counts.min() <= (
                decoding == "contiguous" and n_actions & (n_actions - 1) != 0
            )
            if decoding == "contiguous" and not n_actions & (n_actions - 1):
                np.testing.assert_array_equal(
                    decode(n_qubits, n_actions, "local"), decode(n_qubits, n_actions, decoding)
                )


def test_published_words():
    # Meyer et al.: pi(0) = (1 + <Z Z Z Z>) / 2
    zero, one = projectors(4, 2, "parity")
    assert zero.words == {"IIII": 0.5, "ZZZZ": 0.5}
    assert one.words == {"IIII": 0.5, "ZZZZ": -0.5}
    assert projectors(3, 2, "local")[0].words == {"III": 0.5, "ZII": 0.5}
    assert set(projectors(4, 4, "parity")[3].words) == {"IIII", "ZZII", "IIZZ", "ZZZZ"}


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize(
    ("decoding", "n_actions"),
    [
        ("parity", 2),
        ("parity", 4),
        ("parity", 16),
        ("local", 2),
        ("local", 8),
        ("contiguous", 3),
        ("contiguous", 11),
    ],
)
def test_probabilities_are_those_of_the_state(decoding, n_actions, backend):
    torch.manual_seed(n_actions)
    network = build_network(born(decoding, backend=backend), 4, n_actions, policy=True).double()
    features = torch.randn(3, 4, dtype=torch.float64)
    probabilities = torch.softmax(network(features), 1).detach().numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-12)
    action = decode(4, n_actions, decoding)
    for row, sample in zip(probabilities, features, strict=True):
        states = Statevector(network.body.bound_circuit(sample)).probabilities()
        np.testing.assert_allclose(row, np.bincount(action, states, n_actions), atol=1e-12)


def test_the_gradient_is_that_of_the_logarithm():
    torch.manual_seed(5)
    network = build_network(born("parity"), 4, 4, policy=True).double()
    features, actions = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    torch.log_softmax(network(features), 1).gather(1, actions[:, None]).sum().backward()
    found = network.body.weights.grad.clone()
    network.zero_grad()
    # by the formula grad P / P, sample by sample
    p = network.body(features).gather(1, actions[:, None])
    p.backward(1.0 / p.detach())
    torch.testing.assert_close(found, network.body.weights.grad, rtol=0, atol=1e-12)


def test_the_floor_bounds_what_is_divided_by():
    head = BornHead(floor=0.1)
    p = torch.tensor([[0.02, 0.98]], requires_grad=True)
    head(p).sum().backward()
    torch.testing.assert_close(p.grad, torch.tensor([[10.0, 1 / 0.98]]))
    torch.testing.assert_close(head.gradient(p.detach(), torch.ones(1, 2)), p.grad)
    torch.testing.assert_close(head(p).exp(), torch.tensor([[0.1, 0.98]]))
    assert (BornHead(shots=200).floor, BornHead(shots=1).floor, BornHead().floor) == (0.005, 0.5, 1e-6)
    # an exact zero, or a rounded one just below, is no infinity
    assert BornHead()(torch.tensor([[-6e-8, 1.0]])).isfinite().all()


def test_one_shot_draws_one_action_from_the_distribution():
    torch.manual_seed(7)
    network = build_network(born("contiguous", shots=400), 4, 3, policy=True)
    features = torch.randn(1, 4)
    exact = build_network(born("contiguous"), 4, 3, policy=True)
    exact.load_state_dict(network.state_dict())
    p = exact.body(features)[0].detach()
    n = 20_000
    with qrl.Ledger("born", 0, "hybrid", meters=()) as ledger:
        drawn = network.single_shot(features.expand(n, 4))
        totals = ledger.totals()
    assert (drawn.sum(1) == 1.0).all()
    assert ((drawn == 0.0) | (drawn == 1.0)).all()
    assert ((drawn.mean(0) - p).abs() < 4.5 * (p * (1 - p) / n).sqrt()).all()
    assert (totals["executions"], totals["hardware_executions"], totals["shots"]) == (n, n, n)


def test_estimates_and_gradients_are_of_independent_shots_and_unbiased():
    torch.manual_seed(11)
    shots, n = 20, 4000
    network = build_network(born("parity", n_qubits=2, shots=shots), 2, 2, policy=True)
    exact = build_network(born("parity", n_qubits=2), 2, 2, policy=True)
    exact.load_state_dict(network.state_dict())
    features = torch.tensor([[0.4, -0.3]])
    exact.body(features)[0, 0].backward()
    wanted = exact.body.weights.grad
    estimates, gradients = torch.empty(n), torch.empty(n, len(wanted))
    for index in range(n):
        network.zero_grad()
        with torch.no_grad():
            values, back = network.body.pullback(features)
            back(torch.tensor([[1.0, 0.0]]))
        estimates[index], gradients[index] = values[0, 0], network.body.weights.grad
    p = exact.body(features)[0, 0].item()
    assert abs(float(estimates.mean()) - p) < 4.5 * float(estimates.std()) / n**0.5
    deviation = gradients.std(0) / n**0.5
    assert ((gradients.mean(0) - wanted).abs() < 4.5 * deviation + 1e-7).all()
    # one estimate says nothing about the other
    moving = gradients.std(0) > 0
    correlation = torch.corrcoef(torch.cat([estimates[:, None], gradients[:, moving]], 1).t())[0, 1:]
    assert (correlation.abs() < 4.5 / n**0.5).all()


def test_the_logged_bias_is_that_of_the_reciprocal():
    # E[1 / P_hat] P - 1 over the binomial distribution, without the counts of zero that the floor takes over
    p, shots = 0.4, 1000
    head = BornHead(shots)
    head.observe(torch.tensor([p]).log())
    counts = np.arange(1, shots + 1)
    log_choose = np.cumsum(np.log((shots - counts + 1) / counts))
    weights = np.exp(log_choose + counts * np.log(p) + (shots - counts) * np.log1p(-p))
    exact = float((weights * p * shots / counts).sum() - 1)
    assert head.bias == pytest.approx(exact, rel=0.01)
    quiet = BornHead()
    quiet.observe(torch.tensor([p]).log())
    assert quiet.bias == 0.0


def test_parities_of_many_qubits_are_warned_of():
    with pytest.warns(UserWarning, match="gradients vanish exponentially"):
        projectors(9, 2, "parity")
    projectors(9, 2, "contiguous")
    projectors(8, 2, "parity")


@pytest.mark.parametrize(
    ("decoding", "n_qubits", "n_actions", "message"),
    [
        ("parity", 3, 3, r"head\.decoding: parity needs a power of two, not 3 actions"),
        ("local", 3, 6, r"head\.decoding: local needs a power of two"),
        ("contiguous", 2, 5, r"n_qubits: 2 qubits cannot tell 5 actions apart; use at least 3"),
    ],
)
def test_what_cannot_be_decoded(decoding, n_qubits, n_actions, message):
    with pytest.raises(InputError, match=message):
        decode(n_qubits, n_actions, decoding)


def test_softmax_is_beta_times_the_scaled_values():
    head = SoftmaxHead(Head(kind="softmax", init=[1.0, -2.0], beta=3.0), 2)
    values = torch.tensor([[0.5], [-0.1]], requires_grad=True)
    torch.testing.assert_close(head(values), torch.tensor([[1.5, -3.0], [-0.3, 0.6]]))
    head(values).backward(torch.ones(2, 2))
    by_scale = head.scale.grad.clone()
    head.scale.grad = None
    torch.testing.assert_close(head.gradient(values.detach(), torch.ones(2, 2)), values.grad)
    torch.testing.assert_close(head.scale.grad, by_scale)


def test_the_inverse_temperature_goes_linearly():
    head = SoftmaxHead(Head(kind="softmax", beta=1.0, beta_final=3.0), 2)
    found = []
    for progress in (0.0, 0.25, 1.0, 1.5):
        head.anneal(progress)
        found.append(float(head.beta))
    assert found == [1.0, 1.5, 3.0, 3.0]
    assert annealed(head) == (head,)
    assert annealed(SoftmaxHead(Head(kind="softmax", beta=2.0), 2)) == ()
    assert set(dict(head.named_parameters())) == {"scale"}
    assert "beta" in head.state_dict()
