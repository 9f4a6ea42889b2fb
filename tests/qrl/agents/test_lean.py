"""The lean loops against Stable-Baselines3's own: same draws, same parameters, same logs, to the last bit."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy, BaseModel
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork

import qrl
from qrl.agents.a2c import LeanA2C
from qrl.agents.base import Diverged
from qrl.agents.build import seed_everything
from qrl.agents.distributions import Categorical, Gaussian
from qrl.agents.dqn import LeanDQN, Replay
from qrl.agents.on_policy import Rollout
from qrl.agents.optim import GroupedAdam, LinearDecay
from qrl.agents.ppo import LeanPPO
from qrl.agents.sb3 import NetworkActorCriticPolicy, NetworkDQNPolicy, NetworkQ
from qrl.agents.training_env import TrainingEnv, make_environment
from qrl.networks import Network
from qrl.specs import agent_spec


class SlowAdam(GroupedAdam):
    """The same groups, stepped by torch's own code."""

    def _step_fused(self):
        return False


class StockPolicy(NetworkActorCriticPolicy):
    """Our networks under Stable-Baselines3's own methods."""

    extract_features = ActorCriticPolicy.extract_features
    forward = ActorCriticPolicy.forward
    _predict = ActorCriticPolicy._predict
    obs_to_tensor = BaseModel.obs_to_tensor
    set_training_mode = ActorCriticPolicy.set_training_mode


class StockQ(NetworkQ):
    extract_features = QNetwork.extract_features


class StockDQNPolicy(NetworkDQNPolicy):
    """Our Q-networks under Stable-Baselines3's own methods."""

    obs_to_tensor = BaseModel.obs_to_tensor
    set_training_mode = DQNPolicy.set_training_mode

    def make_q_net(self):
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        del arguments["net_arch"]
        return StockQ(**arguments, agent=self.agent)


MLP = {"kind": "mlp", "hidden": [8, 6], "head": {}}
CIRCUIT = {
    "kind": "quantum", "n_qubits": 2, "n_layers": 1, "n_features": 4, "observables": ["ZI", "IZ"], "head": {},
}  # fmt: skip


class Logs(BaseCallback):
    """What the logger held at each step, and which local variables a callback saw."""

    def __init__(self):
        super().__init__()
        self.seen, self.names = [], set()

    def _on_step(self):
        self.names |= set(self.locals)
        self.seen.append({k: v for k, v in self.logger.name_to_value.items() if not k.startswith("time/")})
        return True


def trained(algorithm, policy, adam, network, env_id, steps, n_envs, **settings):
    seed_everything(3)
    spec = {"network": network, "learning_rate": 0.003, "learning_rates": {"head": 0.03}}
    critic = {**network, "observables": ["ZI"]} if "observables" in network else network
    name = "dqn" if issubclass(algorithm, stable_baselines3.DQN) else "ppo"
    spec = agent_spec({**spec, "algorithm": name, **({"critic": critic} if name == "ppo" else {})})
    env = TrainingEnv(
        lambda: make_environment(env_id, {"max_episode_steps": 40}, None), list(range(1, n_envs + 1))
    )
    env.action_space.seed(0)
    kwargs = {"agent": spec, "optimizer_class": adam}
    agent = algorithm(policy, env, device="cpu", policy_kwargs=kwargs, **settings)
    if policy in (StockPolicy, StockDQNPolicy):
        for module in agent.policy.modules():
            if isinstance(module, Network):
                module._perceptron = None
    agent.set_logger(Logger(None, []))
    logs = Logs()
    agent.learn(steps, callback=logs, log_interval=None)
    return agent, logs


def assert_same(ours, theirs):
    (ours, our_logs), (theirs, their_logs) = ours, theirs
    assert ours._lean
    assert ours.policy.optimizer.updates == theirs.policy.optimizer.updates > 20
    parameters = zip(ours.policy.named_parameters(), theirs.policy.named_parameters(), strict=True)
    for (name, a), (_, b) in parameters:
        assert torch.equal(a, b), name
    assert our_logs.seen == their_logs.seen
    # the names of Stable-Baselines3's loop that mean something to a callback
    later = {"values", "log_probs", "idx", "done", "terminal_obs", "terminal_value"}
    assert their_logs.names - our_logs.names <= later


PPO_SETTINGS = {
    "as in the recipes": {"learning_rate": LinearDecay(0.003), "ent_coef": 0.01, "max_grad_norm": 0.5},
    "value clipping": {"clip_range_vf": 0.1, "normalize_advantage": False, "max_grad_norm": 100.0},
    "early stopping": {"target_kl": 0.01, "learning_rate": 0.01, "n_epochs": 8},
    "schedules": {"clip_range": lambda progress: 0.05 + 0.2 * progress, "vf_coef": 0.3, "ent_coef": 0.1},
}


@pytest.mark.parametrize("settings", PPO_SETTINGS.values(), ids=PPO_SETTINGS)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_ppo_learns_the_same(env_id, settings):
    common = (MLP, env_id, 1000, 2)
    settings = {"n_steps": 50, "batch_size": 50, "n_epochs": 3, **settings}
    assert_same(
        trained(LeanPPO, NetworkActorCriticPolicy, GroupedAdam, *common, **settings),
        trained(stable_baselines3.PPO, StockPolicy, SlowAdam, *common, **settings),
    )


A2C_SETTINGS = {
    "defaults": {"ent_coef": 0.0, "max_grad_norm": 0.5},
    "all terms": {
        "learning_rate": LinearDecay(0.003), "ent_coef": 0.02, "vf_coef": 0.3, "gae_lambda": 0.9,
        "normalize_advantage": True, "max_grad_norm": 100.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("settings", A2C_SETTINGS.values(), ids=A2C_SETTINGS)
@pytest.mark.parametrize(
    ("env_id", "network"), [("CartPole-v1", "mlp"), ("Pendulum-v1", "mlp"), ("CartPole-v1", "circuit")]
)
def test_a2c_learns_the_same(env_id, network, settings):
    common = (MLP if network == "mlp" else CIRCUIT, env_id, 400, 2)
    settings = {"n_steps": 5, **settings}
    assert_same(
        trained(LeanA2C, NetworkActorCriticPolicy, GroupedAdam, *common, **settings),
        trained(stable_baselines3.A2C, StockPolicy, SlowAdam, *common, **settings),
    )


DQN_SETTINGS = {
    "every step": {"learning_starts": 30, "target_update_interval": 20, "train_freq": 1},
    "several steps": {
        "train_freq": 4, "gradient_steps": 2, "buffer_size": 90, "tau": 0.5, "target_update_interval": 8,
        "learning_starts": 20, "max_grad_norm": 0.1, "learning_rate": LinearDecay(0.01),
    },
}  # fmt: skip


@pytest.mark.parametrize("settings", DQN_SETTINGS.values(), ids=DQN_SETTINGS)
@pytest.mark.parametrize(("env_id", "n_envs"), [("CartPole-v1", 1), ("CartPole-v1", 3), ("FrozenLake-v1", 1)])
def test_dqn_learns_the_same(env_id, n_envs, settings):
    common = (MLP, env_id, 300 * n_envs, n_envs)
    assert_same(
        trained(LeanDQN, NetworkDQNPolicy, GroupedAdam, *common, **settings),
        trained(stable_baselines3.DQN, StockDQNPolicy, SlowAdam, *common, **settings),
    )


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_a_circuit_learns_the_same(algorithm):
    common = (CIRCUIT, "CartPole-v1", 160, 1)
    if algorithm == "ppo":
        settings = {"n_steps": 40, "batch_size": 20, "n_epochs": 3}
        ours = trained(LeanPPO, NetworkActorCriticPolicy, GroupedAdam, *common, **settings)
        theirs = trained(stable_baselines3.PPO, StockPolicy, SlowAdam, *common, **settings)
    else:
        settings = {"learning_starts": 20, "batch_size": 8, "train_freq": 1}
        ours = trained(LeanDQN, NetworkDQNPolicy, GroupedAdam, *common, **settings)
        theirs = trained(stable_baselines3.DQN, StockDQNPolicy, SlowAdam, *common, **settings)
    assert_same(ours, theirs)


def test_a_policy_of_stable_baselines3_keeps_its_own_loops():
    for lean, stock, settings in (
        (LeanPPO, stable_baselines3.PPO, {"n_steps": 32, "batch_size": 16, "n_epochs": 1}),
        (LeanDQN, stable_baselines3.DQN, {"learning_starts": 10, "train_freq": 1}),
    ):
        ours, theirs = (
            cls("MlpPolicy", "CartPole-v1", seed=0, device="cpu", **settings).learn(64)
            for cls in (lean, stock)
        )
        assert not ours._lean
        for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_policy_that_diverged_says_so_at_once():
    spec = {"algorithm": "ppo", "network": MLP, "n_envs": 1, "n_steps": 16, "batch_size": 16}
    agent = qrl.build_agent(spec, "CartPole-v1", seed=0)
    with torch.no_grad():
        next(agent.policy.mlp_extractor.actor.parameters()).fill_(torch.nan)
    with pytest.raises(Diverged, match="not finite after"):
        agent.learn(16)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_predict_is_stable_baselines3s(env_id, deterministic):
    settings = {"n_steps": 50, "batch_size": 50}
    ours, _ = trained(LeanPPO, NetworkActorCriticPolicy, GroupedAdam, MLP, env_id, 100, 2, **settings)
    theirs, _ = trained(stable_baselines3.PPO, StockPolicy, SlowAdam, MLP, env_id, 100, 2, **settings)
    single = ours.observation_space.sample()
    for observation in (np.stack([ours.observation_space.sample() for _ in range(30)]), single):
        torch.manual_seed(5)
        expected, _ = theirs.predict(observation, deterministic=deterministic)
        torch.manual_seed(5)
        found, _ = ours.predict(observation, deterministic=deterministic)
        np.testing.assert_array_equal(found, expected)
        assert found.shape == expected.shape


def test_minibatches_of_unequal_size_learn_the_same():
    common = (MLP, "CartPole-v1", 500, 2)
    settings = {"n_steps": 50, "batch_size": 30, "n_epochs": 2, "normalize_advantage": True}
    with pytest.warns(UserWarning, match="truncated mini-batch"):
        ours = trained(LeanPPO, NetworkActorCriticPolicy, GroupedAdam, *common, **settings)
    with pytest.warns(UserWarning, match="truncated mini-batch"):
        theirs = trained(stable_baselines3.PPO, StockPolicy, SlowAdam, *common, **settings)
    assert_same(ours, theirs)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_categorical_is_torchs(n):
    torch.manual_seed(n)
    logits, actions = torch.randn(40, n) * 4, torch.randint(0, n, (40,))
    by_log_prob, by_entropy = torch.randn(40), torch.randn(40)
    leaf = logits.clone().requires_grad_()
    theirs = torch.distributions.Categorical(logits=leaf)
    log_prob, entropy = theirs.log_prob(actions), theirs.entropy()
    torch.autograd.backward((log_prob, entropy), (by_log_prob, by_entropy))
    ours = Categorical.pullback(logits, actions)
    assert torch.equal(ours[0], log_prob)
    assert torch.equal(ours[1], entropy)
    assert torch.equal(ours[2](by_log_prob, by_entropy), leaf.grad)
    torch.manual_seed(0)
    drawn = theirs.sample()
    torch.manual_seed(0)
    chosen, note = Categorical.sample(logits)
    assert torch.equal(chosen, drawn)
    assert torch.equal(Categorical.log_prob(note, chosen), theirs.log_prob(drawn))
    assert torch.equal(Categorical.mode(logits), theirs.probs.argmax(1))


def test_an_impossible_action_adds_nothing_to_the_entropy():
    _, entropy, back = Categorical.pullback(torch.tensor([[0.0, 0.0, -torch.inf]]), torch.tensor([0]))
    torch.testing.assert_close(entropy, torch.log(torch.tensor([2.0])))
    assert torch.isfinite(back(torch.zeros(1), torch.ones(1))).all()


def test_gaussian_is_torchs():
    torch.manual_seed(1)
    mean, actions = torch.randn(30, 2), torch.randn(30, 2)
    log_stds = [torch.nn.Parameter(torch.tensor([0.3, -1.0])) for _ in range(2)]
    leaf = mean.clone().requires_grad_()
    theirs = torch.distributions.Normal(leaf, log_stds[0].exp().expand(30, 2))
    expected = theirs.log_prob(actions).sum(1), theirs.entropy().sum(1)
    upstream = torch.randn(30), torch.randn(30)
    torch.autograd.backward(expected, upstream)
    log_prob, entropy, back = Gaussian(log_stds[1]).pullback(mean, actions)
    torch.testing.assert_close((log_prob, entropy), expected)
    torch.testing.assert_close(back(*upstream), leaf.grad)
    torch.testing.assert_close(log_stds[1].grad, log_stds[0].grad)


def test_the_rollout_buffer_is_stable_baselines3s():
    rng = np.random.default_rng(0)
    spaces_ = spaces.Box(-1.0, 1.0, (3,), np.float32), spaces.Discrete(2)
    ours, theirs = (
        cls(12, *spaces_, device="cpu", gae_lambda=0.9, n_envs=4) for cls in (Rollout, RolloutBuffer)
    )
    for _ in range(12):
        step = (
            rng.normal(size=(4, 3)).astype(np.float32), rng.integers(0, 2, 4), rng.normal(size=4).astype(np.float32),
            rng.random(4) < 0.2,
        )  # fmt: skip
        values, log_prob = torch.randn(4, 1), torch.randn(4)
        ours.values[ours.pos], ours.log_probs[ours.pos] = values[:, 0], log_prob
        ours.store(*step)
        theirs.add(*step, values, log_prob)
    last, dones = torch.randn(4, 1), rng.random(4) < 0.5
    for buffer in (ours, theirs):
        buffer.compute_returns_and_advantage(last, dones)
    batches = []
    for buffer in (ours, theirs):
        np.random.seed(3)
        batches.append([*buffer.get(16), *buffer.get(20), *buffer.get()])
    assert len(batches[0]) == len(batches[1]) == 3 + 3 + 1
    for a, b in zip(*batches, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x.dtype == y.dtype
            assert torch.equal(x, y)


def test_the_replay_buffer_is_stable_baselines3s():
    rng = np.random.default_rng(0)
    box, discrete = spaces.Box(-1.0, 1.0, (3,), np.float32), spaces.Discrete(5)
    ours, theirs = (cls(20, box, discrete, device="cpu", n_envs=2) for cls in (Replay, ReplayBuffer))
    for _ in range(37):
        observations, following = rng.normal(size=(2, 2, 3)).astype(np.float32)
        dones = rng.random(2) < 0.4
        infos = [{"TimeLimit.truncated": bool(done and rng.random() < 0.5)} for done in dones]
        after = following.copy()
        for index in np.flatnonzero(dones):
            infos[index]["terminal_observation"] = after[index] = rng.normal(size=3).astype(np.float32)
        rest = rng.integers(0, 5, 2), rng.normal(size=2).astype(np.float32), dones, infos
        ours.store(observations, following, *rest)
        theirs.add(observations, after, *rest)
        np.random.seed(1)
        found = ours.sample(16)
        np.random.seed(1)
        for a, b in zip(found, theirs.sample(16), strict=True):
            assert (a is b is None) or torch.equal(a, b)


def test_actions_keep_the_shape_of_their_space():
    class Grid(gym.Env):
        observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
        action_space = spaces.Box(-1.0, 1.0, (2, 2), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(3, np.float32), {}

        def step(self, action):
            assert action in self.action_space
            return np.zeros(3, np.float32), float(action.sum()), False, False, {}

    spec = {"algorithm": "ppo", "network": MLP, "n_envs": 2, "n_steps": 16, "batch_size": 16}
    agent = qrl.build_agent(spec, Grid, seed=0)
    assert agent.learn(64)._lean
    assert agent.predict(np.zeros(3, np.float32))[0].shape == (2, 2)
