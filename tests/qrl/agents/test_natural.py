"""Natural gradients against per-sample autograd, exact enumeration of actions, and closed forms."""

import numpy as np
import pytest
import torch

import qrl
from circuits.quantum_metric import quantum_fisher
from qrl.agents.natural import make_natural, network_blocks, policy_information
from qrl.errors import InputError
from qrl.layer import QuantumLayer

CIRCUIT = {"kind": "quantum", "n_qubits": 2, "n_layers": 2, "head": {}}
NETWORKS = {
    "mlp": {"kind": "mlp", "hidden": [5, 4], "head": {"kind": "softmax", "beta": 2.0}},
    "circuit": CIRCUIT,
    "hybrid": {**CIRCUIT, "encoder": {"hidden": [3]}, "n_features": 2, "decoder": {}, "head": None},
    "frozen": {**CIRCUIT, "frozen": True, "encoder": {}, "n_features": 2},
    "born": {**CIRCUIT, "head": {"kind": "born"}},
}


def agent(network, env="CartPole-v1", **options):
    spec = {"algorithm": "reinforce", "network": network, "batch_episodes": 2, "learning_rate": 0.01}
    return qrl.build_agent({**spec, "natural": {}, **options}, env, seed=0)


def enumerated_fisher(policy, observations, trained):
    """E_s sum_a pi(a|s) grad log pi grad log pi^T, sample by sample through autograd."""
    total = 0.0
    for sample in observations:
        log_p = policy.mlp_extractor.actor(sample[None]).log_softmax(-1)[0]
        for value in log_p:
            parts = torch.autograd.grad(value, trained, retain_graph=True, allow_unused=True)
            parts = [torch.zeros_like(p) if g is None else g for g, p in zip(parts, trained, strict=True)]
            score = torch.cat([part.flatten() for part in parts]).double()
            total = total + value.detach().exp().double() * torch.outer(score, score)
    return total / len(observations)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_classical_matrix_is_the_covariance_of_the_score(network):
    policy = agent(network).policy
    observations = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) / 2
    with torch.no_grad():
        ((trained, matrix),) = network_blocks(
            policy.mlp_extractor.actor, observations, lambda z: policy_information(policy, z), False
        )
    assert sum(p.numel() for p in trained) == sum(
        p.numel() for p in policy.mlp_extractor.actor.parameters() if p.requires_grad
    )
    expected = enumerated_fisher(policy, observations, trained)
    torch.testing.assert_close(matrix.double(), expected, rtol=1e-3, atol=1e-5)
    assert float(expected.diagonal().max()) > 1e-3


@pytest.mark.parametrize("network", ["circuit", "hybrid", "born"])
def test_the_circuits_block_is_the_quantum_information_of_its_inputs(network):
    policy = agent(NETWORKS[network]).policy
    actor = policy.mlp_extractor.actor
    observations = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) / 2
    with torch.no_grad():
        blocks = network_blocks(actor, observations, lambda z: policy_information(policy, z), True)
        layer = next(module for module in actor.modules() if isinstance(module, QuantumLayer))
        given = actor.body[0](observations) if network == "hybrid" else observations
        quantum = {id(p) for p in layer.parameters()}
        (block,) = [b for b in blocks if {id(p) for p in b[0]} & quantum]
        assert {id(p) for p in block[0]} == quantum
        expected = quantum_fisher(layer.circuit, torch.cat(list(layer.parameters())).numpy(), given.numpy())
    np.testing.assert_allclose(block[1], expected, atol=1e-6)
    rest = [b for b in blocks if b is not block]
    assert len(rest) == (0 if network == "born" else 1)
    for trained, matrix in rest:
        expected = enumerated_fisher(policy, observations, trained)
        torch.testing.assert_close(matrix.double(), expected, rtol=1e-3, atol=1e-5)


def test_the_quantum_information_bounds_that_of_the_measurement():
    policy = agent(NETWORKS["born"]).policy
    observations = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) / 2
    with torch.no_grad():
        (_, quantum), (_, classical) = (
            network_blocks(
                policy.mlp_extractor.actor, observations, lambda z: policy_information(policy, z), q
            )[0]
            for q in (True, False)
        )
    assert float(torch.linalg.eigvalsh(quantum - classical.double()).min()) > -1e-5


def solved(policy, metric, damping):
    observations = torch.randn(
        9, policy.observation_space.shape[0], generator=torch.Generator().manual_seed(1)
    )
    generator = torch.Generator().manual_seed(2)
    for p in policy.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    before = {id(p): p.grad.clone() for p in policy.parameters()}
    make_natural(policy, observations, metric, damping)
    return observations, before


def test_gradients_are_solved_block_by_block():
    policy = agent(CIRCUIT, baseline="value").policy
    observations, before = solved(policy, "auto", 0.1)
    checked = 0
    with torch.no_grad():
        networks = policy.mlp_extractor
        blocks = network_blocks(networks.actor, observations, lambda z: policy_information(policy, z), True)
        blocks += network_blocks(
            networks.critic, observations, lambda v: torch.ones(len(v), 1, 1).double(), True
        )
        for trained, matrix in blocks:
            gradient = torch.cat([before[id(p)].flatten() for p in trained]).double()
            step = torch.cat([p.grad.flatten() for p in trained]).double()
            damped = matrix.double() + 0.1 * torch.eye(len(matrix))
            torch.testing.assert_close(damped @ step, gradient, rtol=1e-4, atol=1e-4)
            checked += len(trained)
    assert checked == len(list(policy.parameters()))


def test_gaussian_means_and_deviations():
    policy = agent({"kind": "mlp", "hidden": []}, "Pendulum-v1").policy
    with torch.no_grad():
        policy.log_std.fill_(-0.5)
    observations, before = solved(policy, "fisher", 1e-3)
    # a linear mean w x + b of one action: F = E[(x, 1)(x, 1)^T] / sigma^2; of log sigma it is 2
    inputs = torch.cat([observations, torch.ones(9, 1)], 1).double()
    matrix = inputs.T @ inputs / 9 * np.exp(1.0) + 1e-3 * torch.eye(4)
    weight, bias = policy.mlp_extractor.actor.body[0].weight, policy.mlp_extractor.actor.body[0].bias
    gradient = torch.cat([before[id(weight)].flatten(), before[id(bias)]]).double()
    step = torch.cat([weight.grad.flatten(), bias.grad]).double()
    torch.testing.assert_close(step, torch.linalg.solve(matrix, gradient), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(policy.log_std.grad, before[id(policy.log_std)] / (2 + 1e-3))


def test_natural_steps_do_not_depend_on_the_scale_of_a_parameter():
    # logits w O against logits (10 v) O with v = w / 10: the same policy, whose natural steps move it alike
    agents = [
        agent(
            {**CIRCUIT, "head": {"kind": "softmax", "init": 1.0 / scale, "beta": scale}},
            natural={"damping": 1e-7},
        )
        for scale in (1.0, 10.0)
    ]
    observations = torch.randn(7, 4, generator=torch.Generator().manual_seed(3))
    actions = torch.arange(7) % 2
    changes = []
    for one in agents:
        policy = one.policy
        loss = -policy.get_distribution(observations).log_prob(actions).mean()
        loss.backward()
        make_natural(policy, observations, "quantum", 1e-7)
        head = policy.mlp_extractor.actor.head
        changes.append(head.scale.grad * head.beta)
    torch.testing.assert_close(*changes, rtol=1e-2, atol=1e-3)


def test_the_ledger_counts_the_metric():
    one = agent(CIRCUIT)
    layer = one.policy.mlp_extractor.actor.body
    for p in one.policy.parameters():
        p.grad = torch.zeros_like(p)
    with qrl.Ledger("count", 0, "hybrid", meters=()) as ledger:
        make_natural(one.policy, torch.zeros(5, 4), "quantum", 0.1)
        totals = ledger.totals()
    angles = layer.circuit.n_angles
    assert totals["executions"] == 5 + 5 * (
        angles + 1
    )  # values, for the head's block, and the metric's states
    assert totals["hardware_executions"] == 5 + 5 * (angles + 2 * angles * (angles - 1))


def test_what_cannot_be_natural():
    with pytest.raises(InputError, match=r"natural\.metric: quantum needs a circuit"):
        agent({"kind": "mlp"}, natural={"metric": "quantum"})
    with pytest.raises(InputError, match="amsgrad"):
        agent(CIRCUIT, amsgrad=True)


@pytest.mark.parametrize("network", [CIRCUIT, {"kind": "mlp", "hidden": [6]}], ids=["circuit", "mlp"])
def test_a_natural_step_is_plain_descent_along_the_solved_gradient(network):
    one = agent(network, learning_rates={"head": 0.05})
    before = {name: p.detach().clone() for name, p in one.trained_parameters().items()}
    one.learn(1)
    for name, p in one.trained_parameters().items():
        rate = 0.05 if "head" in name else 0.01
        torch.testing.assert_close(p.detach(), before[name] - rate * p.grad, rtol=1e-5, atol=1e-6)
