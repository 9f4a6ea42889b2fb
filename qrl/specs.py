"""What an agent is made of, as data: networks, heads and algorithms, validated once at the edge.

Every specification is a frozen pydantic model, so the recipe file, the Python keyword and the command line's
``--set`` name the same fields, and unknown keys, wrong types, NaN and infinities are refused in one place.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from qrl.errors import InputError, nearest

PositiveInt = Annotated[int, Field(ge=1, strict=True)]
NonNegativeInt = Annotated[int, Field(ge=0, strict=True)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0.0, le=10.0, allow_inf_nan=False)]
Unit = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,79}$")]


class Spec(BaseModel):
    """Base of all specifications: immutable, strict about unknown keys, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _a_bool_is_no_number(cls, data: Any) -> Any:
        # pydantic's lax mode would turn true into 1.0; a recipe that says `learning_rate = true` is a mistake.
        if isinstance(data, dict):
            for key, value in data.items():
                if (
                    isinstance(value, bool)
                    and key in cls.model_fields
                    and cls.model_fields[key].annotation is not bool
                ):
                    raise InputError(key, str(value).lower(), "is a boolean", "write a number or a text here")
        return data


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
    hidden: list[PositiveInt] = [64, 64]
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
    hidden: list[PositiveInt] = [64, 64]
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


class AgentBase(Spec):
    """What every agent has."""

    name: Name = "agent"
    """Name within the study, and of its folder."""


class RandomAgentSpec(AgentBase):
    """Uniformly random actions: the floor of every comparison."""

    algorithm: Literal["random"] = "random"


class LearnerBase(AgentBase):
    """What every learning agent has."""

    network: NetworkSpec = MLPNetwork()
    """The network: Q-function for DQN, policy for the others."""
    learning_rate: Rate = 1e-3
    """Base learning rate of Adam."""
    learning_rates: LearningRates = LearningRates()
    """Learning rates by group."""
    schedule: Literal["constant", "linear"] = "constant"
    """Linear: the rates fall to zero over the budget."""
    learning_rate_final: Rate | None = None
    """What a linear schedule ends at in place of zero; the groups' rates keep their ratio to the base rate."""
    amsgrad: bool = False
    """AMSGrad variant of Adam."""
    gamma: Unit = 0.99
    """Discount factor."""

    @model_validator(mode="after")
    def _a_final_rate_needs_a_schedule(self) -> LearnerBase:
        if self.learning_rate_final is not None and self.schedule == "constant":
            why, fix = "is never reached at a constant rate", 'write schedule = "linear"'
            raise InputError("learning_rate_final", self.learning_rate_final, why, fix)
        return self


class DQNSpec(LearnerBase):
    """Deep Q-learning (Stable-Baselines3); defaults for small control tasks."""

    algorithm: Literal["dqn"] = "dqn"
    buffer_size: PositiveInt = 10_000
    """Transitions kept for replay."""
    learning_starts: NonNegativeInt = 100
    """Interactions before the first update, taken at random."""
    batch_size: PositiveInt = 32
    """Transitions an update."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Polyak factor of the target network."""
    train_freq: PositiveInt = 1
    """Interactions between updates."""
    gradient_steps: PositiveInt = 1
    """Updates at each of them."""
    target_update_interval: PositiveInt = 100
    """Interactions between updates of the target network."""
    exploration_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    """Share of the budget over which epsilon falls."""
    exploration_initial: Unit = 1.0
    """Epsilon at the start."""
    exploration_final: Unit = 0.05
    """Epsilon at the end."""
    max_grad_norm: Rate = 10.0
    """Bound on the joint gradient norm."""


class PPOSpec(LearnerBase):
    """Proximal policy optimisation (Stable-Baselines3)."""

    algorithm: Literal["ppo"] = "ppo"
    critic: NetworkSpec | None = None
    """Value network; by default one of the policy's kind with a single output."""
    n_envs: PositiveInt = 5
    """Environments stepped together."""
    n_steps: PositiveInt = 128
    """Steps an environment and rollout."""
    batch_size: PositiveInt = 160
    """Samples a minibatch."""
    n_epochs: PositiveInt = 4
    """Passes over a rollout."""
    gae_lambda: Unit = 0.95
    """Decay of the advantage estimator."""
    clip_range: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """Clipping range of the probability ratio."""
    ent_coef: Annotated[float, Field(ge=0.0)] = 0.01
    """Weight of the entropy bonus."""
    vf_coef: Annotated[float, Field(ge=0.0)] = 0.5
    """Weight of the value loss."""
    max_grad_norm: Rate = 0.5
    """Bound on the joint gradient norm."""


class ReinforceSpec(LearnerBase):
    """Monte-Carlo policy gradient with a softmax (or Gaussian) policy over batches of whole episodes."""

    algorithm: Literal["reinforce"] = "reinforce"
    gamma: Unit = 1.0
    """Discount factor."""
    n_envs: PositiveInt = 1
    """Environments in which the episodes of a batch run side by side."""
    batch_episodes: PositiveInt = 10
    """Whole episodes an update."""
    standardise: Literal["episode", "batch", "none"] = "episode"
    """Over what the returns are standardised before they weigh the gradient."""
    ent_coef: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the entropy bonus."""


class FreeEnergyQSpec(LearnerBase):
    """TD(0) Q-learning with one network of state and action for discrete actions, a Boltzmann machine by default."""

    algorithm: Literal["free_energy_q"] = "free_energy_q"
    network: ActionValueSpec = BoltzmannNetwork()  # type: ignore[assignment]
    """The action values Q(s, a); the action is one number, evenly spaced in [-1, 1]."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """``sgd`` is the published rule: weights move by the rate times the batch's mean of delta dQ/dw."""
    replay: bool = True
    """False: learn from the last transition only."""
    buffer_size: PositiveInt = 10_000
    """Transitions kept for replay."""
    learning_starts: NonNegativeInt = 0
    """Interactions before the first update, taken at random."""
    batch_size: PositiveInt = 32
    """Transitions an update, drawn with replacement; fewer while fewer are there."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.4
    """Polyak factor of the target network after every update."""
    train_freq: PositiveInt = 1
    """Interactions between updates."""
    gradient_steps: PositiveInt = 1
    """Updates at each of them."""
    exploration_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.75
    """Share of the budget over which epsilon falls."""
    exploration_initial: Unit = 1.0
    """Epsilon at the start."""
    exploration_final: Unit = 0.0
    """Epsilon at the end."""
    max_grad_norm: Positive | None = None
    """Bound on the joint gradient norm."""


class ContinuousBase(LearnerBase):
    """What the off-policy learners of continuous actions have; defaults are Stable-Baselines3's but for the buffer."""

    buffer_size: PositiveInt = 100_000
    """Transitions kept for replay."""
    learning_starts: NonNegativeInt = 100
    """Interactions before the first update, taken at random."""
    batch_size: PositiveInt = 256
    """Transitions an update, drawn with replacement."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.005
    """Polyak factor of the target networks."""
    train_freq: PositiveInt | Literal["episode"] = 1
    """Interactions between updates, or ``episode``: updates wait for the end of an episode."""
    gradient_steps: PositiveInt | Literal["as_many"] = 1
    """Updates at each of them; ``as_many`` as interactions since the last."""


class ActorCriticBase(ContinuousBase):
    """What all actor-critics have."""

    network: NetworkSpec = MLPNetwork(hidden=[400, 300])
    """The actor, with tanh on its outputs; alone it acts."""
    critic: ActionValueSpec = MLPNetwork(hidden=[400, 300])
    """The action values Q(s, a); ``boltzmann`` gives the free-energy actor-critic."""
    critic_learning_rate: Rate | None = None
    """Base rate of the critic; the actor's by default. A schedule keeps their ratio."""


class DeterministicActorBase(ActorCriticBase):
    """What actor-critics have that explore by noise."""

    noise: NonNegative = 0.1
    """Standard deviation of Gaussian noise on actions, in units of half their box."""
    noise_final: NonNegative | None = None
    """Standard deviation at the end of the budget, reached linearly; the same by default."""
    exploration_initial: Unit = 0.0
    """Probability of a uniformly random action at the start."""
    exploration_final: Unit = 0.0
    """Probability of a uniformly random action at the end of the budget."""
    actor_first: bool = False
    """Take the actor's gradient before the critic's step instead of after it."""
    actor_tau: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Polyak factor of the target actor; ``tau`` by default."""


class DDPGSpec(DeterministicActorBase):
    """Deep deterministic policy gradient (Stable-Baselines3)."""

    algorithm: Literal["ddpg"] = "ddpg"


class TD3Spec(DeterministicActorBase):
    """Twin delayed DDPG (Stable-Baselines3)."""

    algorithm: Literal["td3"] = "td3"
    policy_delay: PositiveInt = 2
    """Critic updates an actor update."""
    target_policy_noise: NonNegative = 0.2
    """Standard deviation of the noise on the target actor's actions."""
    target_noise_clip: NonNegative = 0.5
    """Bound of that noise."""


class SACSpec(ActorCriticBase):
    """Soft actor-critic (Stable-Baselines3)."""

    algorithm: Literal["sac"] = "sac"
    network: MLPNetwork | MatchedMLPNetwork = Field(  # type: ignore[assignment]
        MLPNetwork(hidden=[256, 256]), discriminator="kind"
    )
    """The actor: the hidden layers under mean and standard deviation of its actions."""
    critic: ActionValueSpec = MLPNetwork(hidden=[256, 256])
    """The action values Q(s, a), two networks of this kind."""
    learning_rate: Rate = 3e-4
    """Base learning rate of Adam, of the entropy coefficient too."""
    ent_coef: Positive | Literal["auto"] = "auto"
    """Weight of the entropy; ``auto`` learns it."""
    target_entropy: Finite | Literal["auto"] = "auto"
    """Entropy that ``auto`` aims at; by default minus the number of action components."""
    target_update_interval: PositiveInt = 1
    """Updates between updates of the target network."""


class NAFSpec(ContinuousBase):
    """Normalised advantage functions: Q-learning with an action value quadratic in the action."""

    algorithm: Literal["naf"] = "naf"
    network: NetworkSpec = MLPNetwork(hidden=[100, 100], activation="tanh")
    """From the state to value, best action and curvature."""
    batch_size: PositiveInt = 32
    """Transitions an update, drawn with replacement; fewer while fewer are there."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.001
    """Polyak factor of the target network after every update."""
    noise: NonNegative = 0.3
    """Standard deviation of Gaussian noise on actions, in units of half their box."""
    noise_final: NonNegative | None = None
    """Standard deviation at the end of the budget, reached linearly; the same by default."""
    max_grad_norm: Positive | None = None
    """Bound on the joint gradient norm."""


class ControllerSpec(AgentBase):
    """A controller of accelerator practice, adaptive or not, in place of a reinforcement learner."""

    algorithm: Literal["controller"] = "controller"
    controller: Literal[
        "rls", "least_squares", "svd", "svd_one_mode", "gp_mpc", "bayesian_optimisation", "sign"
    ]
    """Which one."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its options."""


AgentSpec = Annotated[
    RandomAgentSpec
    | DQNSpec
    | PPOSpec
    | ReinforceSpec
    | FreeEnergyQSpec
    | DDPGSpec
    | TD3Spec
    | SACSpec
    | NAFSpec
    | ControllerSpec,
    Field(discriminator="algorithm"),
]
ALGORITHMS: dict[str, type[AgentBase]] = {
    "dqn": DQNSpec,
    "ppo": PPOSpec,
    "reinforce": ReinforceSpec,
    "free_energy_q": FreeEnergyQSpec,
    "ddpg": DDPGSpec,
    "td3": TD3Spec,
    "sac": SACSpec,
    "naf": NAFSpec,
    "controller": ControllerSpec,
    "random": RandomAgentSpec,
}

_AGENT: TypeAdapter[Any] = TypeAdapter(AgentSpec)


def agent_spec(data: AgentBase | dict[str, Any]) -> Any:
    """Validate a mapping as an agent specification.

    Raises:
        InputError: the first field that is unknown, missing, of the wrong type or out of range.
    """
    if isinstance(data, AgentBase):
        return data
    try:
        return _AGENT.validate_python(data)
    except ValidationError as error:
        raise input_error(error) from None


def input_error(error: ValidationError) -> InputError:
    """Turn pydantic's report into our one-line error (the first problem, and how many more there are)."""
    problems = error.errors()
    first, more = problems[0], len({_path(problem["loc"]) for problem in problems}) - 1
    if isinstance(first["input"], str):
        # "a number or one of these words" was given another word: the words are what helps
        beside = (p for p in problems if p["loc"][:-1] == first["loc"][:-1] and p["type"] == "literal_error")
        first = next(beside, first)
    path = _path(first["loc"])
    rest = f" ({more} more problem{'s' if more > 1 else ''} in this input)" if more else ""
    kind = first["type"]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return InputError(
            _path((*_outer(first["loc"], cause.field), cause.field)), cause.value, cause.why, cause.fix + rest
        )
    if kind == "extra_forbidden":
        return InputError(path, first["loc"][-1], "is not a known key", _known_keys(first) + rest)
    if kind == "missing":
        return InputError(path, "nothing", "is given here", "this key is needed" + rest)
    if kind in ("union_tag_invalid", "literal_error"):
        expected = first["ctx"].get("expected_tags") or first["ctx"].get("expected", "")
        known = [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]
        tag = first["ctx"].get("tag", first["input"])
        discriminator = str(first["ctx"].get("discriminator", "")).strip("'")
        field = f"{path}.{discriminator}".strip(".") if discriminator else path
        return InputError(field, tag, "is not known", nearest(str(tag), known) + rest)
    if kind == "union_tag_not_found":
        field = f"{path}.{str(first['ctx']['discriminator']).strip(chr(39))}".strip(".")
        return InputError(field, "nothing", "is given here", "this key is needed" + rest)
    why = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    why = why[0].lower() + why[1:]
    return InputError(path, first["input"], f"cannot be used: {why}", "change this value" + rest)


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

# pydantic puts the tag of a discriminated union into the path; a recipe's author never wrote it there.
_TAGS = {*NETWORKS, *ALGORITHMS}


def _outer(loc: tuple[int | str, ...], field: str) -> tuple[int | str, ...]:
    """Where the checked model stands: the path without the tag or field name that the cause names itself."""
    return loc[:-1] if loc and (loc[-1] in _TAGS or loc[-1] == field.split(".")[0]) else loc


def _path(loc: tuple[int | str, ...]) -> str:
    last = len(loc) - 1
    parts = [
        str(p)
        for i, p in enumerate(loc)
        if not (0 < i < last and p in _TAGS)
        and "-" not in str(p)
        and not (i == last > 0 and _names_an_alternative(str(p)))
    ]
    if len(parts) > 1 and parts[0] in _TAGS:
        parts = parts[1:]
    return ".".join(parts) or "input"


def _names_an_alternative(part: str) -> bool:
    """Whether the end of a path is pydantic's name for one alternative of a field."""
    return part.startswith("literal[") or part in ("float", "int")


def _known_keys(problem: Any) -> str:
    """Suggest the nearest key of the model in which the unknown one stands."""
    tags = [p for p in problem["loc"][:-1] if isinstance(p, str)]
    for name in reversed(tags):
        model = _MODELS.get(name)
        if model is not None:
            return nearest(str(problem["loc"][-1]), model.model_fields)
    return (
        nearest(str(problem["loc"][-1]), _MODELS["recipe"].model_fields)
        if "recipe" in _MODELS
        else "remove it"
    )


_MODELS: dict[str, Any] = {
    **ALGORITHMS,
    **NETWORKS,
    "head": Head,
    "learning_rates": LearningRates,
}


def register_model(name: str, model: Any) -> None:
    """Make the keys of a further table known to the error messages."""
    _MODELS[name] = model
