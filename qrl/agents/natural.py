"""Natural gradients: steps measured by how much the policy, or the circuit's state, changes.

The information matrix F is block-diagonal and averaged over the visited states. Of a circuit's parameters it is the
quantum Fisher information, four times the Fubini-Study metric, or the policy's classical Fisher information; of heads,
classical layers and the deviations of a Gaussian, on which the circuit's state does not depend or through its inputs
alone, the classical one; of a critic that of a normal distribution of unit variance around its value. The quantum
information bounds the classical one of any measurement from above and does not equal it.

Source: Kakade, Advances in Neural Information Processing Systems 14 (2001); Meyer et al., arXiv:2304.13571.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from circuits.quantum_metric import metric_usage, quantum_fisher
from qrl.agents.distributions import Gaussian
from qrl.layer import QuantumLayer
from qrl.ledger import current, phase
from qrl.networks import BornHead, Chain, Network

Block = tuple[list[nn.Parameter], Tensor]
"""Parameters and their part of F, ``(P, P)`` in float64."""


@torch.no_grad()
def make_natural(policy: Any, observations: Tensor, metric: str, damping: float) -> None:
    """Replace the gradients of a policy by ``(F + damping I)^-1`` times them.

    Args:
        policy: ``NetworkActorCriticPolicy`` whose parameters have their gradients.
        observations: the visited states.
        metric: of a circuit's parameters, ``quantum``, ``fisher``, or ``auto``: quantum for discrete actions. The
            gradient of a Gaussian policy grows as its deviations shrink, of which the circuit's state knows nothing.
        damping: added to the diagonal, above 0.
    """
    features, networks = policy.extract_features(observations), policy.mlp_extractor
    quantum = metric == "quantum" or (metric == "auto" and not isinstance(policy.actions, Gaussian))
    blocks = network_blocks(networks.actor, features, partial(policy_information, policy), quantum)
    if networks.critic is not None:
        blocks += network_blocks(networks.critic, features, _unit_variance, quantum)
    if isinstance(policy.actions, Gaussian):
        blocks.append(([policy.log_std], 2.0 * torch.eye(len(policy.log_std), dtype=torch.float64)))
    for parameters, matrix in blocks:
        _solve(parameters, matrix, damping)


def policy_information(policy: Any, outputs: Tensor) -> Tensor:
    """Fisher information of the action distribution in the network's outputs, ``(batch, n, n)``.

    Of logits ``diag(p) - p p^T``, of Gaussian means ``diag(1 / sigma^2)``.
    """
    if isinstance(policy.actions, Gaussian):
        return torch.diag((-2.0 * policy.log_std.double()).exp()).expand(len(outputs), -1, -1)
    p = outputs.double().softmax(-1)
    return torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)


def _unit_variance(values: Tensor) -> Tensor:
    return torch.ones(len(values), 1, 1, dtype=torch.float64)


def network_blocks(
    network: Network, features: Tensor, information: Callable[[Tensor], Tensor], quantum: bool
) -> list[Block]:
    """The blocks of a network: its circuit by the quantum information if wanted, all else by the classical one.

    Args:
        network: as ``qrl.networks.build_network`` gives it.
        features: ``(batch, n_inputs)``.
        information: from its outputs ``(batch, n)`` to the Fisher information in them, ``(batch, n, n)``.
        quantum: whether circuits are measured by their states.
    """
    stages, inputs = _stages(network), [features]
    for stage in stages:
        inputs.append(stage(inputs[-1]))
    measure = information(inputs[-1])
    blocks: list[Block] = []
    classical: list[tuple[list[nn.Parameter], Tensor]] = []
    slope = torch.eye(measure.shape[1]).expand(len(features), -1, -1)
    earliest = next(i for i, stage in enumerate(stages) if _trained(stage))
    for index in range(len(stages) - 1, earliest - 1, -1):
        stage, given = stages[index], inputs[index]
        trained, further = _trained(stage), index > earliest
        apart = quantum and isinstance(stage, QuantumLayer) and bool(trained)
        if apart:
            assert isinstance(stage, QuantumLayer)
            blocks.append((trained, _quantum(stage, given)))
        if apart and not further:
            break
        by_parameters, slope = _jacobian(stage, given, slope, further)
        if trained and not apart:
            classical.append((trained, by_parameters))
    if classical:
        # in double precision, so that F stays positive where it has no full rank
        jacobian = torch.cat([part for _, part in classical], 2).double()
        matrix = torch.einsum("nap,nab,nbq->pq", jacobian, measure, jacobian) / len(features)
        blocks.append(([p for parameters, _ in classical for p in parameters], matrix))
    return blocks


def _stages(network: Network) -> list[nn.Module]:
    body = list(network.body) if isinstance(network.body, Chain) else [network.body]
    return body if network.head is None else [*body, network.head]


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def _quantum(layer: QuantumLayer, features: Tensor) -> Tensor:
    """The quantum Fisher information of what is trained in a layer."""
    flat = torch.cat([p.detach() for p in layer.parameters()]).double().numpy()
    with phase("quantum"):
        matrix = torch.from_numpy(quantum_fisher(layer.circuit, flat, features.double().numpy()))
        ledger = current()
        if ledger is not None:
            ledger.count(metric_usage(layer.circuit, len(features)))
    kept = torch.cat([torch.full((p.numel(),), p.requires_grad) for p in layer.parameters()])
    return matrix[kept][:, kept]


def _jacobian(stage: nn.Module, given: Tensor, slope: Tensor, further: bool) -> tuple[Tensor, Tensor]:
    """``slope`` times a stage's Jacobian: ``(batch, K, P)`` by what is trained, and ``(batch, K, n_inputs)``.

    Args:
        stage: the module.
        given: its inputs, ``(batch, n_inputs)``.
        slope: ``(batch, K, n_values)``, the derivative of the network's outputs by the stage's values.
        further: whether the derivative by the inputs is needed.
    """
    none = slope.new_zeros(*slope.shape[:2], 0)
    if isinstance(stage, QuantumLayer):
        if not _trained(stage) and not further:
            return none, none
        by_parameters, by_inputs = stage.jacobian(given, slope, further)
        return by_parameters, none if by_inputs is None else by_inputs
    if isinstance(stage, BornHead):
        # its own derivative; a custom autograd function, which vmap cannot batch
        return none, stage.gradient(given.unsqueeze(1), slope)
    trained = {name: p.detach() for name, p in stage.named_parameters() if p.requires_grad}

    def values(changed: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(stage, changed, (sample.unsqueeze(0),)).squeeze(0)  # type: ignore[no-any-return]

    by_trained, by_input = vmap(jacrev(values, (0, 1)), (None, 0))(trained, given)
    parts = [slope @ part.flatten(2) for part in by_trained.values()]
    return torch.cat(parts, 2) if parts else none, slope @ by_input


def _solve(parameters: Sequence[nn.Parameter], matrix: Tensor, damping: float) -> None:
    """Replace the gradients in place."""
    gradient = torch.cat([_gradient(p).flatten() for p in parameters]).double()
    damped = matrix + damping * torch.eye(len(matrix), dtype=torch.float64)
    step = torch.cholesky_solve(gradient.unsqueeze(1), torch.linalg.cholesky(damped)).squeeze(1)
    for parameter, part in zip(parameters, step.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
