"""From a network specification to a torch module: a body (circuit or classical) and an optional output layer."""

from qrl.networks.build import build_action_value, build_network
from qrl.networks.heads import AnyHead, BornHead, ScaleHead, SoftmaxHead, add_gradient, annealed
from qrl.networks.hybrid import build_circuit
from qrl.networks.matching import check_observations, default_critic, resolve_agent
from qrl.networks.network import Back, Chain, JoinedNetwork, Network, Perceptron
from qrl.networks.parameters import GROUPS, count_parameters, scale_learning_rates
from qrl.networks.variants import VARIANTS

__all__ = [
    "GROUPS",
    "VARIANTS",
    "AnyHead",
    "Back",
    "BornHead",
    "Chain",
    "JoinedNetwork",
    "Network",
    "Perceptron",
    "ScaleHead",
    "SoftmaxHead",
    "add_gradient",
    "annealed",
    "build_action_value",
    "build_circuit",
    "build_network",
    "check_observations",
    "count_parameters",
    "default_critic",
    "resolve_agent",
    "scale_learning_rates",
]
