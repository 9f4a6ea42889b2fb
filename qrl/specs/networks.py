"""Networks and heads, as data."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from qrl.errors import InputError
from qrl.specs.base import (
    Finite,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Rate,
    Spec,
    Unit,
    register_model,
)

Activation = Literal["relu", "tanh"]


class Head(Spec):
    """Output layer of one scale (and shift) an action, after the network's body, in the group ``head``.

    ``affine``: ``y_a = w_a O_a + c_a``; ``scale``: ``y_a = w_a O_a``; ``unit``: ``y_a = w_a (1 + O_a) / 2``.
    Of policies over discrete actions alone: ``softmax``, whose logits are ``beta w_a O_a``; and ``born``, whose
    probabilities are those of the circuit's measured bit strings. A single body output is shared by all actions.
    """

    kind: Literal["affine", "scale", "unit", "softmax", "born"] = "affine"
    """Which of the five forms."""
    init: Finite | list[Finite] = 1.0
    """Start value of w, one number or one an action."""
    shift: Finite = 0.0
    """Start value of c (``affine`` only)."""
    trainable: bool = True
    """False: w and c stay at their start values."""
    beta: Positive = 1.0
    """Inverse temperature (``softmax`` only)."""
    beta_final: Positive | None = None
    """Inverse temperature at the end of the budget, reached linearly (``softmax`` only); the same by default."""
    decoding: Literal["parity", "local", "contiguous"] = "contiguous"
    """Which bit strings stand for an action (``born`` only): parities of blocks of qubits, the first bits, ranges."""
    floor: Annotated[float, Field(gt=0.0, lt=0.5)] | None = None
    """Least probability that a gradient is divided by (``born`` only); 1 / shots by default, 1e-6 if exact."""

    @model_validator(mode="after")
    def _options_belong_to_their_kind(self) -> Head:
        for name, kinds in _HEAD_OPTIONS.items():
            value = getattr(self, name)
            if self.kind not in kinds and value != type(self).model_fields[name].default:
                why = f"belongs to heads of kind {' or '.join(kinds)}, not {self.kind}"
                raise InputError(f"head.{name}", value, why, "leave it out")
        return self


_HEAD_OPTIONS = {
    "shift": ("affine",),
    "beta": ("softmax",),
    "beta_final": ("softmax",),
    "decoding": ("born",),
    "floor": ("born",),
    "init": ("affine", "scale", "unit", "softmax"),
    "trainable": ("affine", "scale", "unit", "softmax"),
}


class Layers(Spec):
    """Classical layers before or after a circuit, in the group ``layers``."""

    hidden: list[PositiveInt] = Field(default_factory=list)
    """Widths of the hidden layers; none is one linear map."""
    activation: Activation = "tanh"
    """Activation of the hidden layers."""
    size: PositiveInt | None = None
    """Outputs (``encoder`` only); as many as the circuit has features by default."""


class Normal(Spec):
    """Start values from a normal distribution around zero."""

    normal: NonNegative
    """Its standard deviation."""


Init = Finite | tuple[Finite, Finite] | Normal
"""Start values: one number for all, the interval of a uniform distribution, or a normal one."""


class Noise(Spec):
    """Noise of a simulated circuit, by numbers: the same after every gate (``circuits.backends.aer``)."""

    depolarizing: Unit | tuple[Unit, Unit] = 0.0
    """Probability of depolarisation after a gate, or [one qubit, two qubits]."""
    bit_flip: Unit = 0.0
    """Probability of a flip of each qubit of a gate."""
    amplitude_damping: Unit = 0.0
    """Probability that each qubit of a gate that is 1 falls to 0."""
    readout: Unit = 0.0
    """Probability that a qubit is read wrongly, either way."""
    coherent: NonNegative = 0.0
    """Standard deviation, in radians, of a normal error of every rotation's angle, new in each execution."""

    @field_validator("depolarizing", mode="wrap")
    @classmethod
    def _is_one_or_two(cls, value: Any, read: ValidatorFunctionWrapHandler) -> Any:
        try:
            return read(value)
        except ValidationError:
            fix = "write a number from 0 to 1, or [one qubit, two qubits]"
            raise InputError("depolarizing", value, "is no probability", fix) from None


class QuantumNetwork(Spec):
    """A variational circuit whose expectation values are the network's outputs, alone or between classical layers.

    The observation goes through ``embedding`` or ``encoder``, the circuit, ``decoder`` and ``head``, each optional but
    the circuit.
    """

    kind: Literal["quantum"] = "quantum"
    ansatz: str = "reuploading"
    """Name of a registered ansatz family (``qrl circuits`` lists them)."""
    n_qubits: Annotated[int, Field(strict=True)] = 4
    """Number of qubits."""
    n_layers: Annotated[int, Field(strict=True)] = 5
    """Number of layers."""
    n_features: PositiveInt | None = None
    """Numbers the circuit reads; by default what comes before it gives, or with an encoder what the ansatz wants."""
    ansatz_options: dict[str, Any] = Field(default_factory=dict)
    """Further keywords of the ansatz (``squash``, ``entangler``, ``rotations``, ...)."""
    observables: list[str | dict[str, Finite]] | None = None
    """Pauli words, one an output; one Z a qubit by default. With a decoder as many as wanted, by default all Z."""
    weights_init: Init = (-math.pi, math.pi)
    """Start of the weights, in radians."""
    scales_init: Init = 1.0
    """Start of the input scales."""
    embedding: Literal["basis", "amplitude"] | None = None
    """Fixed map from the observation to the circuit's features."""
    encoder: Layers | None = None
    """Layers from the observation to the circuit's features."""
    decoder: Layers | None = None
    """Layers from the expectation values to the outputs."""
    frozen: bool = False
    """The circuit stays at its random start; what surrounds it learns."""
    circuit: Literal["on", "off"] = "on"
    """Off: without the circuit. Its neighbours meet, and where it has none a linear map stands in its place."""
    head: Head | None = None
    """Output layer; none gives the expectation values themselves, or what the decoder makes of them."""
    backend: str = "auto"
    """What runs the circuit: ``auto``, ``native``, ``torch``, ``pennylane[:device]``, ``aer[:fake device]``,
    ``primitive[:aer]``."""
    noise: Noise | None = None
    """Noise of the backend ``aer``; none is ideal. A fake device brings its own: ``aer:fake_torino``."""
    gradient: str = "auto"
    """How gradients are formed; ``auto`` is exact where the backend can."""
    gradient_options: dict[str, Any] = Field(default_factory=dict)
    """Of ``parameter_shift``: ``subset``, the number of angles drawn; of ``spsa``: ``directions`` and ``step``."""
    shots: PositiveInt | None = None
    """Shots an expectation value; none is exact."""

    @field_validator("weights_init", "scales_init", mode="wrap")
    @classmethod
    def _is_a_start(cls, value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        fix = "write a number, [low, high] with low < high, or { normal = deviation }"
        try:
            start = read(value)
        except ValidationError:
            raise InputError(str(info.field_name), value, "is no start value", fix) from None
        if isinstance(start, tuple) and start[0] >= start[1]:
            raise InputError(str(info.field_name), value, "is no interval", fix)
        return start

    @model_validator(mode="after")
    def _fits_together(self) -> QuantumNetwork:
        if self.noise is not None and self.backend != "aer":
            own = self.backend.startswith("aer:")
            why = "has noise of its own" if own else "has no noise by numbers"
            fix = "leave noise out" if own else 'write backend = "aer", or leave noise out'
            raise InputError("backend", self.backend, why, fix)
        if self.embedding is not None and self.encoder is not None:
            why, fix = "and an encoder both stand before the circuit", "keep one of them"
            raise InputError("embedding", self.embedding, why, fix)
        if self.decoder is not None and self.decoder.size is not None:
            why, fix = "is the number of outputs, which the task decides", "leave it out"
            raise InputError("decoder.size", self.decoder.size, why, fix)
        if self.head is not None and self.head.kind == "born":
            for field, value in (("decoder", self.decoder), ("observables", self.observables)):
                if value is not None:
                    raise InputError(field, value, "has no place before a born head", "leave it out")
            if self.circuit == "off":
                raise InputError(
                    "circuit", "off", "leaves a born head nothing to measure", "leave the head out"
                )
        learns = (
            self.encoder or self.decoder or (self.head and self.head.trainable and self.head.kind != "born")
        )
        if self.frozen and not learns:
            why, fix = "leaves nothing to train", "add a head, an encoder or a decoder"
            raise InputError("frozen", "true", why, fix)
        return self


class MLPNetwork(Spec):
    """A multilayer perceptron, the classical network of everyday use."""

    kind: Literal["mlp"] = "mlp"
    hidden: list[PositiveInt] = Field(default=[64, 64])
    """Widths of the hidden layers."""
    activation: Activation | None = None
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
    activation: Activation | None = None
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
    activation: Activation | None = None
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


class FourierNetwork(Spec):
    """A truncated Fourier series: what a circuit without squash can express, with free coefficients.

    Outputs are ``sum_k a_k cos(k x) + b_k sin(k x)`` with trained a and b. The frequencies are all integer ones up to
    ``degree``, or those of another agent's circuit, between whose classical layers the series then stands.
    """

    kind: Literal["fourier"] = "fourier"
    degree: PositiveInt | None = None
    """Largest ``|k|_1``. With ``match`` by default that of the circuit, or the largest with at most 10,000 k."""
    match: str | None = None
    """Name of the agent of the same study whose circuit's spectrum is used."""
    matched: QuantumNetwork | None = None
    """That agent's network; found from ``match`` if absent."""
    head: Head | None = None
    """As in ``mlp``; the matched agent's by default."""


class RandomFourierNetwork(Spec):
    """Cosines and sines of random, fixed frequencies under a trained linear map.

    With ``match`` the frequencies are drawn from the spectrum of another agent's circuit, as many as make the number of
    trained values that of the circuit; else they are normal with standard deviation ``scale``.
    Source: Rahimi and Recht, Advances in Neural Information Processing Systems 20 (2007).
    """

    kind: Literal["random_fourier"] = "random_fourier"
    n_features: PositiveInt | None = None
    """Number of frequencies; needed without ``match``."""
    scale: Positive = 1.0
    """Standard deviation of a frequency's components, in units of one over the observation's; without ``match``."""
    degree: PositiveInt | None = None
    """Largest ``|k|_1`` with ``match``; as in ``fourier``."""
    match: str | None = None
    """As in ``fourier``."""
    matched: QuantumNetwork | None = None
    """As in ``fourier``."""
    head: Head | None = None
    """As in ``mlp``; the matched agent's by default."""


class TabularNetwork(Spec):
    """One trained number a state and output, for discrete observations."""

    kind: Literal["tabular"] = "tabular"
    head: Head | None = None
    """As in ``mlp``."""


class Symmetry(Spec):
    """What a task does not notice: observations permuted and with signs, and the actions with them.

    Component i becomes ``signs[i]`` times component ``permutation[i]``.
    """

    permutation: list[NonNegativeInt] | None = None
    """Of the observation's components; unchanged by default."""
    signs: list[Literal[-1, 1]] | None = None
    """Of the observation's components; all +1 by default."""
    outputs: list[NonNegativeInt] | None = None
    """Permutation of the actions or action components; unchanged by default."""
    output_signs: list[Literal[-1, 1]] | None = None
    """Signs of the action components; all +1 by default."""


class EquivariantMLPNetwork(Spec):
    """A multilayer perceptron averaged over a symmetry of the task, which it then has exactly."""

    kind: Literal["equivariant_mlp"] = "equivariant_mlp"
    symmetry: list[Symmetry] | None = Field(default=None, min_length=1)
    """Generators of the group; those that the circuit of ``match`` was built with by default."""
    hidden: list[PositiveInt] | None = None
    """Widths of the hidden layers; two of 64 by default, or two of one width that ``match`` asks for."""
    match: str | None = None
    """Name of the agent of the same study whose number of trained values is reached."""
    n_parameters: PositiveInt | None = None
    """Trainable parameters to reach, head included; found from ``match`` if absent."""
    activation: Activation | None = None
    """As in ``mlp``."""
    head: Head | None = None
    """As in ``mlp``; the matched agent's by default."""


NetworkSpec = Annotated[
    QuantumNetwork
    | MLPNetwork
    | MatchedMLPNetwork
    | FourierNetwork
    | RandomFourierNetwork
    | TabularNetwork
    | EquivariantMLPNetwork,
    Field(discriminator="kind"),
]
"""Networks from an observation to several outputs."""
ActionValueSpec = Annotated[
    BoltzmannNetwork
    | QuantumNetwork
    | MLPNetwork
    | MatchedMLPNetwork
    | FourierNetwork
    | RandomFourierNetwork
    | SymmetricMLPNetwork
    | ConcaveNetwork
    | LnCoshNetwork
    | BilinearNetwork,
    Field(discriminator="kind"),
]
"""Networks from state and action, joined where they are of the kinds above, to one value Q(s, a)."""


def is_unmatched(network: Any) -> bool:
    """Whether a network still lacks what it takes from another agent of its study: a size or a circuit."""
    if isinstance(network, MatchedMLPNetwork):
        return network.n_parameters is None
    taken = getattr(network, "matched", None) or getattr(network, "n_parameters", None)
    return getattr(network, "match", None) is not None and taken is None


class LearningRates(Spec):
    """Learning rates by parameter group, each defaulting to the agent's ``learning_rate``."""

    weights: Rate | None = None
    """Angles of the circuit, weights and biases of a classical network, or visible weights of a Boltzmann machine."""
    scales: Rate | None = None
    """Trainable input scales of the circuit."""
    couplings: Rate | None = None
    """Couplings between the hidden units of a Boltzmann machine."""
    layers: Rate | None = None
    """Classical layers before and after a circuit."""
    head: Rate | None = None
    """Output scales, shifts and offsets, and the quadratic term of a Boltzmann machine."""


NETWORKS: dict[str, type[Spec]] = {
    "quantum": QuantumNetwork,
    "mlp": MLPNetwork,
    "matched_mlp": MatchedMLPNetwork,
    "fourier": FourierNetwork,
    "random_fourier": RandomFourierNetwork,
    "tabular": TabularNetwork,
    "equivariant_mlp": EquivariantMLPNetwork,
    "boltzmann": BoltzmannNetwork,
    "symmetric_mlp": SymmetricMLPNetwork,
    "concave": ConcaveNetwork,
    "lncosh": LnCoshNetwork,
    "bilinear": BilinearNetwork,
}

for _name, _model in NETWORKS.items():
    register_model(_name, _model, tag=True)
register_model("head", Head)
register_model("noise", Noise)
register_model("encoder", Layers)
register_model("decoder", Layers)
register_model("learning_rates", LearningRates)
