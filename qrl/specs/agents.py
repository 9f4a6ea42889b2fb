"""Agents, as data: one class an algorithm."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

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
    LearningRates,
    MLPNetwork,
    NetworkSpec,
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
    exploration_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Instead of the linear fall: epsilon is multiplied by this after each episode, down to its final value."""
    loss: Literal["huber", "mse"] = "huber"
    """Of the temporal differences: smooth L1 (Stable-Baselines3's), or their mean square."""
    max_grad_norm: Positive = 10.0
    """Bound on the joint gradient norm."""
    adaptive_shots: AdaptiveShots | None = None
    """Greedy actions from shots, as many as a stop rule takes; none acts as ``network.shots`` says."""


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


for _name, _model in ALGORITHMS.items():
    register_model(_name, _model, tag=True)
