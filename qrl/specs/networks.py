"""Networks and heads, as data."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from qrl.specs.base import Finite, NonNegative, Positive, PositiveInt, Rate, Spec, register_model


class Head(Spec):
    """Classical output layer of one scale (and shift) an action, after the network's body.

    ``affine``: ``y_a = w_a O_a + c_a``; ``scale``: ``y_a = w_a O_a``; ``unit``: ``y_a = w_a (1 + O_a) / 2``.
    A single body output is shared by all actions. Everything in it is trainable, in the group ``head``.
    """

    kind: Literal["affine", "scale", "unit"] = "affine"
    """Which of the three forms."""
    init: Finite | list[Finite] = 1.0
    """Start value of w, one number or one an action."""
    shift: Finite = 0.0
    """Start value of c (``affine`` only)."""


class QuantumNetwork(Spec):
    """A variational circuit whose expectation values are the network's outputs."""

    kind: Literal["quantum"] = "quantum"
    ansatz: str = "reuploading"
    """Name of a registered ansatz family (``qrl circuits`` lists them)."""
    n_qubits: Annotated[int, Field(strict=True)] = 4
    """Number of qubits."""
    n_layers: Annotated[int, Field(strict=True)] = 5
    """Number of layers."""
    n_features: PositiveInt | None = None
    """Observation components the circuit reads; the size of the observation by default."""
    ansatz_options: dict[str, Any] = Field(default_factory=dict)
    """Further keywords of the ansatz (``squash``, ``entangler``, ``rotations``, ...)."""
    observables: list[str | dict[str, Finite]] | None = None
    """Pauli words, one an output; one Z a qubit by default."""
    weights_init: tuple[Finite, Finite] = (-math.pi, math.pi)
    """Interval of the uniform distribution from which the weights start, in radians."""
    head: Head | None = None
    """Output layer; none gives the expectation values themselves."""
    backend: str = "auto"
    """What runs the circuit: ``auto``, ``torch``, ``pennylane[:device]``."""
    gradient: str = "auto"
    """How gradients are formed; ``auto`` is exact where the backend can."""
    shots: PositiveInt | None = None
    """Shots an expectation value; none is exact."""


class MLPNetwork(Spec):
    """A multilayer perceptron, the classical network of everyday use."""

    kind: Literal["mlp"] = "mlp"
    hidden: list[PositiveInt] = Field(default=[64, 64])
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh"] | None = None
    """Activation; by default what Stable-Baselines3 uses for the algorithm (ReLU for DQN, tanh else)."""
    head: Head | None = None
    """Output layer; none gives the last linear layer itself."""


class MatchedMLPNetwork(Spec):
    """The classical twin: an MLP with as many trainable parameters as another agent's network, within 10 %.

    It takes over that agent's head and head learning rate unless it names its own, so that the two differ in the
    circuit alone.
    """

    kind: Literal["matched_mlp"] = "matched_mlp"
    match: str | None = None
    """Name of the agent of the same study whose network is matched."""
    n_parameters: PositiveInt | None = None
    """Trainable parameters to reach, head included; found from ``match`` if absent."""
    activation: Literal["relu", "tanh"] | None = None
    """As in ``mlp``."""
    head: Head | None = None
    """As in ``mlp``; the matched agent's by default."""


class BoltzmannNetwork(Spec):
    """Action values of a clamped Boltzmann machine: its free energy, with either sign."""

    kind: Literal["boltzmann"] = "boltzmann"
    graph: dict[str, Any] = Field(default_factory=lambda: {"kind": "chimera", "rows": 1, "columns": 2})
    """Which hidden units are coupled: ``kind``, and the options of that kind."""
    field: NonNegative = 0.5
    """Transverse field Gamma; 0 is the classical machine."""
    beta: Positive = 2.0
    """Inverse temperature."""
    sign: Literal["mirrored", "negative"] = "mirrored"
    """``mirrored``: Q is concave and bounded above; ``negative``: convex and bounded below, for discrete actions."""
    offset: Finite | Literal["auto"] = "auto"
    """Constant added to Q; ``auto`` makes Q at most 0 (``mirrored``) or at least 0 (``negative``) for all weights."""
    level: Finite | None = None
    """Mean Q over a first batch of transitions, to which the offset is set before the first update."""
    trainable_offset: bool = False
    """Learn the offset too, in the group ``head``."""
    init_scale: NonNegative = 1.0
    """Weights and couplings start uniform in +- this."""
    bias: bool = False
    """A visible node that is always 1; without it Q(s, a) = Q(-s, -a)."""
    quadratic: bool = False
    """Add -(1/2) sum_j kappa_j (a_j - m_j)^2 with trained kappa > 0 and m."""
    sampler: str = "auto"
    """What finds the thermal moments; ``auto`` is exact where the machine allows it."""
    sampler_options: dict[str, Any] = Field(default_factory=dict)
    """Options of that sampler."""


class SymmetricMLPNetwork(Spec):
    """Action values f(v) + f(-v) of a multilayer perceptron f: even, as the machine without bias is."""

    kind: Literal["symmetric_mlp"] = "symmetric_mlp"
    hidden: list[PositiveInt] = Field(default=[64, 64])
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh"] | None = None
    """Activation; ReLU by default."""


class ConcaveNetwork(Spec):
    """Action values concave in state and action, as the mirrored machine's are: an input-convex network, negated."""

    kind: Literal["concave"] = "concave"
    hidden: list[PositiveInt] = Field(default=[64, 64], min_length=1)
    """Widths of the hidden layers."""
    even: bool = False
    """Even too: the mean over v and -v."""


class LnCoshNetwork(Spec):
    """Action values of classical units without couplings: even and concave, with weights alone."""

    kind: Literal["lncosh"] = "lncosh"
    n_units: PositiveInt = 16
    """Number of units."""
    beta: Positive = 2.0
    """Inverse temperature."""
    init_scale: NonNegative = 1.0
    """Weights start uniform in +- this."""
    sign: Literal["mirrored", "negative"] = "mirrored"
    """As in ``boltzmann``."""
    bias: bool = False
    """A trained constant at each unit, which breaks the evenness."""
    offset: Finite | Literal["auto"] = "auto"
    """Constant added to Q; ``auto`` makes it zero where all inputs are."""
    trainable_offset: bool = False
    """Learn the offset too, in the group ``head``."""


class BilinearNetwork(Spec):
    """Action values s^T A a + c: the least that an even Q needs to steer."""

    kind: Literal["bilinear"] = "bilinear"
    quadratic: bool = False
    """Subtract trained squares of state and action, so that the best action lies inside its box."""


NetworkSpec = Annotated[QuantumNetwork | MLPNetwork | MatchedMLPNetwork, Field(discriminator="kind")]
"""Networks from an observation to several outputs."""
ActionValueSpec = Annotated[
    BoltzmannNetwork
    | QuantumNetwork
    | MLPNetwork
    | MatchedMLPNetwork
    | SymmetricMLPNetwork
    | ConcaveNetwork
    | LnCoshNetwork
    | BilinearNetwork,
    Field(discriminator="kind"),
]
"""Networks from state and action, joined where they are of the kinds above, to one value Q(s, a)."""


class LearningRates(Spec):
    """Learning rates by parameter group, each defaulting to the agent's ``learning_rate``."""

    weights: Rate | None = None
    """Angles of the circuit, weights and biases of a classical network, or visible weights of a Boltzmann machine."""
    scales: Rate | None = None
    """Trainable input scales of the circuit."""
    couplings: Rate | None = None
    """Couplings between the hidden units of a Boltzmann machine."""
    head: Rate | None = None
    """Output scales, shifts and offsets, and the quadratic term of a Boltzmann machine."""


NETWORKS: dict[str, type[Spec]] = {
    "quantum": QuantumNetwork,
    "mlp": MLPNetwork,
    "matched_mlp": MatchedMLPNetwork,
    "boltzmann": BoltzmannNetwork,
    "symmetric_mlp": SymmetricMLPNetwork,
    "concave": ConcaveNetwork,
    "lncosh": LnCoshNetwork,
    "bilinear": BilinearNetwork,
}

for _name, _model in NETWORKS.items():
    register_model(_name, _model, tag=True)
register_model("head", Head)
register_model("learning_rates", LearningRates)
