"""What depends on other agents and on the spaces: critics, and networks matched to another agent's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from torch import nn

from qrl.errors import InputError, nearest
from qrl.networks.build import build_action_value, build_network
from qrl.networks.parameters import count_parameters
from qrl.networks.symmetry import of_circuit
from qrl.specs import (
    EquivariantMLPNetwork,
    FourierNetwork,
    Head,
    QuantumNetwork,
    RandomFourierNetwork,
    Symmetry,
    TabularNetwork,
    is_unmatched,
)


def default_critic(spec: Any) -> Any:
    """The value network of a policy network's kind: same body, one output, without what only a policy has.

    A circuit is read by Z of qubit 0, before a decoder as the policy's is. Logits become one scaled value, a Born
    policy's probabilities one with scale and shift, and either is trained, as values have to grow with the returns. A
    symmetry leaves the value as it is.
    """
    update: dict[str, Any] = {"head": _critic_head(spec.head)}
    if isinstance(spec, QuantumNetwork) and spec.decoder is None:
        update["observables"] = ["Z" + "I" * (spec.n_qubits - 1)]
    if isinstance(spec, EquivariantMLPNetwork) and spec.symmetry is not None:
        update["symmetry"] = [_invariant(element) for element in spec.symmetry]
    return spec.model_copy(update=update)


def _invariant(element: Symmetry) -> Symmetry:
    return element.model_copy(update={"outputs": None, "output_signs": None})


def _critic_head(head: Head | None) -> Head | None:
    if head is None:
        return None
    if head.kind == "born":
        return Head()
    update: dict[str, Any] = {"trainable": True}
    if isinstance(head.init, list):
        update["init"] = abs(head.init[0])
    if head.kind == "softmax":
        update |= {"kind": "scale", "beta": 1.0, "beta_final": None}
    return head.model_copy(update=update)


def resolve_agent(agent: Any, peers: Mapping[str, Any], n_inputs: int, n_outputs: int) -> Any:
    """Fill in what depends on other agents and on the spaces: the critic, and what matched networks take over.

    Args:
        agent: the specification.
        peers: the agents of the study by name.
        n_inputs: size of the observation.
        n_outputs: actions, or action components.
    """
    if not hasattr(agent, "network"):
        return agent
    update = {"network": _match(agent.network, "network", peers, n_inputs, n_outputs)}
    if agent.learns_values:
        critic = agent.critic if agent.critic is not None else default_critic(agent.network)
        update["critic"] = _match(critic, "critic", peers, n_inputs, n_outputs)
    match = getattr(agent.network, "match", None)
    if match is not None and agent.network.head is None:
        peer = peers[match]
        if agent.learning_rates.head is None and getattr(peer.network, "head", None) is not None:
            update["learning_rates"] = agent.learning_rates.model_copy(
                update={"head": peer.learning_rates.head}
            )
    return agent.model_copy(update=update)


def _match(spec: Any, field: str, peers: Mapping[str, Any], n_inputs: int, n_outputs: int) -> Any:
    """A network with what it takes from its counterpart: the number of trained values or the circuit, and the head."""
    if not is_unmatched(spec):
        return spec
    peer = peers.get(spec.match or "")
    if peer is None:
        raise InputError(
            "network.match", spec.match, "is not another agent of this study", nearest(str(spec.match), peers)
        )
    with torch.random.fork_rng(devices=[]):
        reference, module = counterpart(peer, field, n_inputs, n_outputs)
    head = spec.head if spec.head is not None else getattr(reference, "head", None)
    if head is not None and head.kind == "born":
        head = None
    if not isinstance(spec, FourierNetwork | RandomFourierNetwork):
        update: dict[str, Any] = {"n_parameters": count_parameters(module), "head": head}
        if isinstance(spec, EquivariantMLPNetwork) and spec.symmetry is None:
            update["symmetry"] = _symmetry(peer, field, n_outputs)
        return spec.model_copy(update=update)
    if not isinstance(reference, QuantumNetwork) or reference.circuit == "off":
        why, fix = (
            f"has a {reference.kind} network and no circuit's spectrum",
            "match an agent with a circuit",
        )
        raise InputError("network.match", spec.match, why, fix)
    return spec.model_copy(update={"matched": reference, "head": head})


def _symmetry(peer: Any, field: str, n_outputs: int) -> list[Symmetry]:
    """Of a peer's policy or Q-function; values of states are invariant, whatever its critic is."""
    if not isinstance(peer.network, QuantumNetwork):
        why, fix = f"has a {peer.network.kind} network, which states no symmetry", "give the symmetry"
        raise InputError("network.match", peer.name, why, fix)
    found = of_circuit(peer.network, peer.network_outputs(n_outputs))
    return found if field == "network" else [_invariant(element) for element in found]


def counterpart(peer: Any, field: str, n_inputs: int, n_outputs: int) -> tuple[Any, nn.Module]:
    """A peer's network, or its critic where one is wanted and its network is no Q(s, a) already."""
    if not hasattr(peer, "network"):
        raise InputError("network.match", peer.name, "has no network", "match an agent that learns with one")
    action_value, n_read = peer.action_value, peer.network_inputs(n_inputs)
    if field == "critic" and action_value != "network":
        reference = getattr(peer, "critic", None) or default_critic(peer.network)
        if action_value == "critic":
            return reference, build_action_value(reference, n_inputs, n_outputs)
        return reference, build_network(reference, n_read, 1)
    reference = peer.network
    if action_value == "network":
        # discrete actions are one number there
        return reference, build_action_value(reference, n_inputs, 1)
    return reference, build_network(reference, n_read, peer.network_outputs(n_outputs), policy=True)


def check_observations(agent: Any, space: spaces.Space) -> None:
    """Refuse tabular networks for observations that are not discrete.

    Raises:
        InputError: there is no table of this observation space.
    """
    for field in ("network", "critic"):
        if isinstance(getattr(agent, field, None), TabularNetwork) and not isinstance(space, spaces.Discrete):
            why, fix = f"has no table for observations {type(space).__name__}", "use another kind"
            raise InputError(f"{field}.kind", "tabular", why, fix)
