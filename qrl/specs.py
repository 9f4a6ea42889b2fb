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


NetworkSpec = Annotated[QuantumNetwork | MLPNetwork | MatchedMLPNetwork, Field(discriminator="kind")]


class LearningRates(Spec):
    """Learning rates by parameter group, each defaulting to the agent's ``learning_rate``."""

    weights: Rate | None = None
    """Angles of the circuit, or weights and biases of a classical network."""
    scales: Rate | None = None
    """Trainable input scales of the circuit."""
    head: Rate | None = None
    """Output scales and shifts."""


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
    amsgrad: bool = False
    """AMSGrad variant of Adam."""
    gamma: Unit = 0.99
    """Discount factor."""


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


AgentSpec = Annotated[RandomAgentSpec | DQNSpec | PPOSpec | ReinforceSpec, Field(discriminator="algorithm")]
ALGORITHMS: dict[str, type[AgentBase]] = {
    "dqn": DQNSpec,
    "ppo": PPOSpec,
    "reinforce": ReinforceSpec,
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
    first, more = error.errors()[0], error.error_count() - 1
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


# pydantic puts the tag of a discriminated union into the path; a recipe's author never wrote it there.
_TAGS = {"quantum", "mlp", "matched_mlp", *ALGORITHMS}


def _outer(loc: tuple[int | str, ...], field: str) -> tuple[int | str, ...]:
    """Where the checked model stands: the path without the tag or field name that the cause names itself."""
    return loc[:-1] if loc and (loc[-1] in _TAGS or loc[-1] == field.split(".")[0]) else loc


def _path(loc: tuple[int | str, ...]) -> str:
    parts = [
        str(p) for i, p in enumerate(loc) if not (i and p in _TAGS and p != loc[-1]) and "-" not in str(p)
    ]
    if len(parts) > 1 and parts[0] in _TAGS:
        parts = parts[1:]
    return ".".join(parts) or "input"


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
    "quantum": QuantumNetwork,
    "mlp": MLPNetwork,
    "matched_mlp": MatchedMLPNetwork,
    "head": Head,
    "learning_rates": LearningRates,
}


def register_model(name: str, model: Any) -> None:
    """Make the keys of a further table known to the error messages."""
    _MODELS[name] = model
