"""From a network specification to a torch module: a body (circuit or classical) and an optional output layer."""

from qrl.networks.build import build_action_value, build_circuit, build_network
from qrl.networks.heads import AnyHead, BornHead, ScaleHead, SoftmaxHead, add_gradient
from qrl.networks.matching import default_critic, network_outputs, resolve_agent
from qrl.networks.network import Chain, JoinedNetwork, Network, Perceptron
from qrl.networks.parameters import GROUPS, count_parameters, scale_learning_rates
from qrl.networks.variants import VARIANTS

__all__ = [
    "GROUPS",
    "VARIANTS",
    "AnyHead",
    "BornHead",
    "Chain",
    "JoinedNetwork",
    "Network",
    "Perceptron",
    "ScaleHead",
    "SoftmaxHead",
    "add_gradient",
    "build_action_value",
    "build_circuit",
    "build_network",
    "count_parameters",
    "default_critic",
    "network_outputs",
    "resolve_agent",
    "scale_learning_rates",
]
