"""Agents, as data: one class an algorithm."""

from __future__ import annotations

from functools import cache, reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, TypeAdapter, ValidationError, field_validator, model_validator

from qrl.errors import InputError
from qrl.specs.base import (
    Finite,
    Name,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Rate,
    Spec,
    Unit,
    input_error,
    register_model,
)
from qrl.specs.networks import (
    ActionValueSpec,
    BoltzmannNetwork,
    Layers,
    LearningRates,
    MLPNetwork,
    NetworkSpec,
    QuantumNetwork,
)
from qrl.specs.shots import AdaptiveShots


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
    action_value: ClassVar[str | None] = None
    """The field whose network is Q(s, a), if any; all other networks read the observation alone."""

    @property
    def learns_values(self) -> bool:
        """Whether there is a critic beside the network."""
        return "critic" in type(self).model_fields

    def network_inputs(self, n_inputs: int) -> int:
        """What ``network`` reads of an observation of this size."""
        return n_inputs

    def network_outputs(self, n_actions: int) -> int:
        """Outputs of ``network``, if that reads the observation alone; by default one an action or component."""
        return n_actions

    @model_validator(mode="after")
    def _a_final_rate_needs_a_schedule(self) -> LearnerBase:
        if self.learning_rate_final is not None and self.schedule == "constant":
            why, fix = "is never reached at a constant rate", 'write schedule = "linear"'
            raise InputError("learning_rate_final", self.learning_rate_final, why, fix)
        return self


class DQNBase(LearnerBase):
    """What the deep Q-learners of discrete actions have; defaults for small control tasks."""

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


class DQNSpec(DQNBase):
    """Deep Q-learning (Stable-Baselines3)."""

    algorithm: Literal["dqn"] = "dqn"
    exploration_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Instead of the linear fall: epsilon is multiplied by this after each episode, down to its final value."""
    loss: Literal["huber", "mse"] = "huber"
    """Of the temporal differences: smooth L1 (Stable-Baselines3's), or their mean square."""
    double: bool = False
    """Double Q-learning: the online network chooses the action that the target network values."""
    max_grad_norm: Positive = 10.0
    """Bound on the joint gradient norm."""
    adaptive_shots: AdaptiveShots | None = None
    """Greedy actions from shots, as many as a stop rule takes; none acts as ``network.shots`` says."""


class QRDQNSpec(DQNBase):
    """Quantile-regression deep Q-learning (sb3-contrib): a distribution of returns an action, by its quantiles.

    A circuit's expectation values reach the quantiles through its ``decoder``; without one it gets a linear map.
    """

    algorithm: Literal["qr_dqn"] = "qr_dqn"
    n_quantiles: PositiveInt = 25
    """Quantiles an action."""
    max_grad_norm: Positive | None = None
    """Bound on the joint gradient norm."""

    @field_validator("network")
    @classmethod
    def _circuits_have_a_decoder(cls, network: Any) -> Any:
        if isinstance(network, QuantumNetwork) and network.decoder is None:
            return network.model_copy(update={"decoder": Layers()})
        return network

    def network_outputs(self, n_actions: int) -> int:
        """All quantiles of all actions."""
        return self.n_quantiles * n_actions


class OnPolicyBase(LearnerBase):
    """What the actor-critics have that learn from rollouts."""

    critic: NetworkSpec | None = None
    """Value network; by default one of the policy's kind with a single output."""
    n_envs: PositiveInt = 5
    """Environments stepped together."""
    n_steps: PositiveInt = 128
    """Steps an environment and rollout."""
    gae_lambda: Unit = 0.95
    """Decay of the advantage estimator."""
    ent_coef: Annotated[float, Field(ge=0.0)] = 0.01
    """Weight of the entropy bonus."""
    vf_coef: Annotated[float, Field(ge=0.0)] = 0.5
    """Weight of the value loss."""
    max_grad_norm: Rate = 0.5
    """Bound on the joint gradient norm."""


class A2CSpec(OnPolicyBase):
    """Advantage actor-critic (Stable-Baselines3, by Adam in place of RMSProp): one update a rollout."""

    algorithm: Literal["a2c"] = "a2c"
    n_steps: PositiveInt = 5
    """Steps an environment and rollout."""
    gae_lambda: Unit = 1.0
    """Decay of the advantage estimator; 1 gives the return less the value."""
    ent_coef: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the entropy bonus."""
    normalise_advantage: bool = False
    """Standardise the advantages of a rollout."""


class PPOSpec(OnPolicyBase):
    """Proximal policy optimisation (Stable-Baselines3)."""

    algorithm: Literal["ppo"] = "ppo"
    batch_size: PositiveInt = 160
    """Samples a minibatch."""
    n_epochs: PositiveInt = 4
    """Passes over a rollout."""
    clip_range: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """Clipping range of the probability ratio."""

    @model_validator(mode="after")
    def _minibatches_make_a_rollout(self) -> PPOSpec:
        rollout = self.n_steps * self.n_envs
        if rollout % self.batch_size:
            why = f"does not divide a rollout of n_steps x n_envs = {rollout}"
            raise InputError("batch_size", self.batch_size, why, "use a divisor of it")
        return self


class RecurrentPPOSpec(PPOSpec):
    """Proximal policy optimisation with memory (sb3-contrib): an LSTM before the policy, another before the critic."""

    algorithm: Literal["recurrent_ppo"] = "recurrent_ppo"  # type: ignore[assignment]
    lstm_size: PositiveInt = 16
    """Hidden values of each LSTM, in (-1, 1): what the networks read in place of the observation."""

    def network_inputs(self, n_inputs: int) -> int:
        """The hidden values of the LSTM."""
        return self.lstm_size


class NaturalGradient(Spec):
    """Steps ``(F + damping I)^-1 gradient`` by plain descent, F block-diagonal and averaged over the visited states.

    ``quantum``: of a circuit's parameters the quantum Fisher information, four times the Fubini-Study metric, through
    the Jacobian of the gate angles by shared weights and input scales. ``fisher``: the classical Fisher information of
    the policy. Heads, classical layers and the Gaussian's deviations have the classical one in either case, and a
    critic that of a normal distribution around its value.
    """

    metric: Literal["auto", "quantum", "fisher"] = "auto"
    """Of a circuit's parameters; ``auto`` is ``quantum`` for discrete actions, ``fisher`` for Gaussian ones."""
    damping: Positive = 0.01
    """Added to the diagonal of F."""


class ReinforceSpec(LearnerBase):
    """Monte-Carlo policy gradient with a softmax (or Gaussian) policy over batches of whole episodes."""

    algorithm: Literal["reinforce"] = "reinforce"
    critic: NetworkSpec | None = None
    """Value network of the baseline ``value``; by default one of the policy's kind with a single output."""
    gamma: Unit = 1.0
    """Discount factor."""
    n_envs: PositiveInt = 1
    """Environments in which the episodes of a batch run side by side."""
    batch_episodes: PositiveInt = 10
    """Whole episodes an update."""
    standardise: Literal["episode", "batch", "none"] = "episode"
    """Over what the returns, less their baseline, are standardised before they weigh the gradient."""
    baseline: Literal["none", "mean", "value"] = "none"
    """Subtracted from the returns: the batch's mean return at the same time step, or a value network's estimate."""
    natural: NaturalGradient | None = None
    """Natural gradient in place of Adam."""
    ent_coef: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the entropy bonus."""

    @property
    def learns_values(self) -> bool:
        """Whether there is a critic beside the network."""
        return self.baseline == "value"

    @model_validator(mode="after")
    def _options_have_their_use(self) -> ReinforceSpec:
        if self.critic is not None and self.baseline != "value":
            why, fix = f"is not used by the baseline {self.baseline!r}", 'write baseline = "value"'
            raise InputError("critic", self.critic.kind, why, fix)
        if self.natural is not None:
            if self.amsgrad:
                raise InputError("amsgrad", "true", "has no meaning for natural steps", "leave it out")
            network = self.network
            circuit = isinstance(network, QuantumNetwork) and network.circuit == "on" and not network.frozen
            if self.natural.metric == "quantum" and not circuit:
                why, fix = "needs a circuit that learns", 'write metric = "fisher"'
                raise InputError("natural.metric", "quantum", why, fix)
        return self


class FreeEnergyQSpec(LearnerBase):
    """TD(0) Q-learning with one network of state and action for discrete actions, a Boltzmann machine by default."""

    algorithm: Literal["free_energy_q"] = "free_energy_q"
    action_value: ClassVar[str | None] = "network"
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

    action_value: ClassVar[str | None] = "critic"

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
    network: NetworkSpec = MLPNetwork(hidden=[256, 256])
    """The actor: means of its actions before the tanh, and logarithms of their standard deviations."""
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

    def network_outputs(self, n_actions: int) -> int:
        """Mean and standard deviation of each action component."""
        return 2 * n_actions


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

    def network_outputs(self, n_actions: int) -> int:
        """The value, the best action, and the lower triangle of its curvature's factor."""
        return 1 + n_actions + n_actions * (n_actions + 1) // 2


class ControllerSpec(AgentBase):
    """A controller of accelerator practice, adaptive or not, in place of a reinforcement learner."""

    algorithm: Literal["controller"] = "controller"
    controller: Literal[
        "rls", "least_squares", "svd", "svd_one_mode", "gp_mpc", "bayesian_optimisation", "sign"
    ]
    """Which one."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its options."""


ALGORITHMS: dict[str, type[AgentBase]] = {}
"""Specifications by algorithm; ``register_spec`` adds to them."""


def register_spec(model: type[AgentBase]) -> None:
    """Make a specification known under the value of its field ``algorithm``.

    Raises:
        InputError: the name is taken.
    """
    name = model.model_fields["algorithm"].default
    if name in ALGORITHMS:
        raise InputError("algorithm", name, "is registered already", "use another name")
    ALGORITHMS[name] = model
    register_model(name, model, tag=True)
    _adapter.cache_clear()


@cache
def _adapter() -> TypeAdapter[Any]:
    union: Any = reduce(or_, ALGORITHMS.values())
    return TypeAdapter(Annotated[union, Field(discriminator="algorithm")])


def _validated(data: Any) -> Any:
    if isinstance(data, AgentBase):
        return data
    name = data.get("algorithm") if isinstance(data, dict) else None
    module = name.rpartition(":")[0] if isinstance(name, str) else ""
    if module and name not in ALGORITHMS:
        try:
            import_module(module)
        except ImportError as error:
            fix = "install it, or run where it is"
            raise InputError("algorithm", name, f"names a module that is missing ({error})", fix) from None
    return _adapter().validate_python(data)


AgentSpec = Annotated[Any, PlainValidator(_validated)]
"""Any registered algorithm's; of ``module:name`` the module is imported, so that it may register it."""


def agent_spec(data: AgentBase | dict[str, Any]) -> Any:
    """Validate a mapping as an agent specification.

    Raises:
        InputError: the first field that is unknown, missing, of the wrong type or out of range.
    """
    try:
        return _validated(data)
    except ValidationError as error:
        raise input_error(error) from None


for _model in (
    DQNSpec,
    QRDQNSpec,
    PPOSpec,
    A2CSpec,
    RecurrentPPOSpec,
    ReinforceSpec,
    FreeEnergyQSpec,
    DDPGSpec,
    TD3Spec,
    SACSpec,
    NAFSpec,
    ControllerSpec,
    RandomAgentSpec,
):
    register_spec(_model)
register_model("natural", NaturalGradient)
