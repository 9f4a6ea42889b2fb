"""Actor-critics: Stable-Baselines3's numbers with classical critics, and the free-energy critic's own way to learn."""

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise

import qrl
from qrl.agents.build import build_agent, seed_everything
from qrl.agents.optim import GroupedAdam
from qrl.agents.replay import GaussianNoise
from qrl.agents.training_env import TrainingEnv, make_environment
from qrl.specs import agent_spec

SMALL = {"kind": "mlp", "hidden": [8, 6]}
MACHINE = {"kind": "boltzmann", "graph": {"kind": "chimera", "rows": 1, "columns": 1}, "field": 0.0}
SAMPLED = {**MACHINE, "graph": {"kind": "layered", "widths": [3, 3]}, "field": 0.7, "sampler": "exact"}
COMMON = {"network": SMALL, "learning_starts": 30, "batch_size": 16, "learning_rate": 0.003, "tau": 0.05}


def environment(env_id="Pendulum-v1", steps=40):
    env = TrainingEnv(lambda: make_environment(env_id, {"max_episode_steps": steps}, None), [1])
    return env


def learnt(agent, steps):
    seed_everything(3)
    agent.action_space.seed(0)
    agent.set_logger(Logger(None, []))
    return agent.learn(steps, log_interval=None)


def actor_and_critics(agent):
    policy = agent.policy
    networks = [policy.actor, policy.critic, policy.critic_target]
    networks += [policy.actor_target] if hasattr(policy, "actor_target") else []
    return [p for network in networks for p in network.parameters()]


STOCK = {"ddpg": stable_baselines3.DDPG, "td3": stable_baselines3.TD3, "sac": stable_baselines3.SAC}


@pytest.mark.parametrize("train_freq", [1, "episode"])
@pytest.mark.parametrize("algorithm", STOCK)
def test_classical_critics_learn_as_in_stable_baselines3(algorithm, train_freq):
    often = {"train_freq": train_freq, "gradient_steps": "as_many" if train_freq == "episode" else 1}
    ours = build_agent({"algorithm": algorithm, "critic": SMALL, **COMMON, **often}, environment(), seed=0)
    noise = {} if algorithm == "sac" else {"action_noise": NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))}
    theirs = STOCK[algorithm](
        "MlpPolicy",
        environment(),
        learning_starts=30,
        batch_size=16,
        learning_rate=0.003,
        tau=0.05,
        buffer_size=1000,
        train_freq=(1, "episode") if train_freq == "episode" else 1,
        gradient_steps=-1 if train_freq == "episode" else 1,
        policy_kwargs={"net_arch": [8, 6], "optimizer_class": GroupedAdam},
        device="cpu",
        **noise,
    )
    with torch.no_grad():
        for a, b in zip(actor_and_critics(ours), actor_and_critics(theirs), strict=True):
            assert a.shape == b.shape
            b.copy_(a)
    learnt(ours, 120)
    learnt(theirs, 120)
    assert ours.policy.critic.optimizer.updates == theirs.policy.critic.optimizer.updates > 60
    for a, b in zip(actor_and_critics(ours), actor_and_critics(theirs), strict=True):
        assert torch.equal(a, b)
    if algorithm == "sac":
        assert torch.equal(ours.log_ent_coef, theirs.log_ent_coef)
        assert float(ours.log_ent_coef.detach()) != 0.0


@pytest.mark.parametrize("algorithm", ["ddpg", "td3"])
def test_the_way_for_machines_agrees_with_stable_baselines3s_for_networks(algorithm):
    spec = {"algorithm": algorithm, "critic": SMALL, **COMMON}
    theirs = build_agent(spec, environment(), seed=0)
    ours = build_agent({**spec, "actor_tau": 0.05}, environment(), seed=0)  # an option that SB3 has not
    learnt(theirs, 60)
    learnt(ours, 60)
    assert ours.updates == theirs.updates == 30
    for a, b in zip(actor_and_critics(ours), actor_and_critics(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_actor_tau_moves_the_target_actor_alone():
    spec = {"algorithm": "ddpg", "critic": SMALL, **COMMON, "learning_rate": 0.01}
    agent = build_agent({**spec, "actor_tau": 1.0}, environment(), seed=0)
    learnt(agent, 40)
    policy = agent.policy
    for online, target in zip(policy.actor.parameters(), policy.actor_target.parameters(), strict=True):
        assert torch.equal(online, target)
    pairs = zip(policy.critic.parameters(), policy.critic_target.parameters(), strict=True)
    assert not all(torch.equal(online, target) for online, target in pairs)


def filled(critic, algorithm="ddpg", **changes):
    """An agent on the AWAKE line before its first update, and a batch of which no transition ended an episode."""
    spec = {"algorithm": algorithm, "critic": critic, **COMMON, "learning_starts": 40, **changes}
    agent = build_agent(spec, "qrl/AwakeSteering-v0", seed=2)
    learnt(agent, 40)
    buffer = agent.replay_buffer
    buffer.dones[:] = 0
    batch = buffer.sample(16)
    buffer.sample = lambda size, env=None: batch
    return agent, batch


def watch(agent):
    """What each machine is asked from now on: rows, and whether free energies are wanted."""
    asked = []
    for net in (*agent.critic.q_networks, *agent.critic_target.q_networks):
        real = net.sampler.thermal

        def counted(problem, *, free_energy=True, seed=None, real=real):
            asked.append((len(problem.biases), free_energy))
            return real(problem, free_energy=free_energy, seed=seed)

        net.sampler.thermal = counted
    return asked


def test_an_update_asks_for_three_batches_in_two_or_three_requests():
    agent, _ = filled(SAMPLED)
    asked = watch(agent)
    agent.train(1, 16)
    assert asked == [(16, True), (16, True), (16, False)]  # target, critic, actor by moments alone
    agent, _ = filled(SAMPLED, actor_first=True)
    asked = watch(agent)
    agent.train(1, 16)
    assert asked == [(16, True), (32, True)]
    agent, _ = filled(SAMPLED, actor_first=True)
    agent.critic.q_networks[0].sampler.exact = False  # as of a sampler that draws
    asked = watch(agent)
    agent.train(1, 16)
    assert asked == [(16, True), (16, False), (16, True)]
    agent, batch = filled(SAMPLED)
    batch.dones[:5] = 1
    asked = watch(agent)
    agent.train(1, 16)
    assert asked[0] == (11, True)  # ended episodes cost nothing


def test_the_ledger_counts_what_an_update_asks():
    agent, _ = filled(MACHINE)
    with qrl.Ledger("count", 0, "hybrid", meters=()) as ledger:
        agent.train(2, 16)
        assert ledger.totals()["executions"] == 2 * 3 * 16


@pytest.mark.parametrize("actor_first", [True, False])
@pytest.mark.parametrize("critic", [MACHINE, SAMPLED], ids=["classical", "field"])
def test_a_free_energy_update_is_autograds(critic, actor_first):
    agent, batch = filled(critic, actor_first=actor_first)
    policy, states = agent.policy, batch.observations
    machine, follower = policy.critic.q_networks[0], policy.critic_target.q_networks[0]
    with torch.no_grad():
        follower.weights += 0.1
        target = batch.rewards + 0.99 * follower(
            batch.next_observations, policy.actor_target(batch.next_observations)
        )
    loss = (machine(states, batch.actions) - target).square().mean()
    by_critic = torch.autograd.grad(loss, [machine.weights, machine.couplings])

    def by_actor():
        return torch.autograd.grad(
            -machine(states, policy.actor(states)).mean(), list(policy.actor.parameters())
        )

    before = by_actor()
    agent.train(1, 16)
    for p, expected in zip((machine.weights, machine.couplings), by_critic, strict=True):
        torch.testing.assert_close(p.grad, expected, rtol=1e-4, atol=1e-6)
    for p, expected in zip(policy.actor.parameters(), before, strict=True):
        same = torch.allclose(p.grad, expected, rtol=1e-4, atol=1e-7)
        assert same == actor_first  # else it was taken by the critic after its step


def test_a_sampler_that_draws_and_one_that_does_not_agree_on_an_update():
    (one, _), (other, _) = (filled(SAMPLED, actor_first=True) for _ in range(2))
    other.critic.q_networks[0].sampler.exact = False
    for agent in (one, other):
        agent.train(3, 16)
    for a, b in zip(actor_and_critics(one), actor_and_critics(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["td3", "sac"])
def test_machines_are_critics_of_td3_and_sac_too(algorithm):
    agent, _ = filled(MACHINE, algorithm)
    before = [p.detach().clone() for p in agent.policy.critic.parameters()]
    agent.train(4, 16)
    assert all(not torch.equal(a, b) for a, b in zip(before, agent.policy.critic.parameters(), strict=True))
    assert not agent.diverged()


def test_the_level_sets_machine_and_target():
    agent, batch = filled({**MACHINE, "level": -40.0}, learning_rate=1e-9)
    agent.train(1, 16)
    for critic in (agent.critic, agent.critic_target):
        with torch.no_grad():
            assert float(critic(batch.observations, batch.actions)[0].mean()) == pytest.approx(
                -40.0, abs=1e-3
            )


def test_acting_and_deploying_cost_no_sampler_call():
    agent = build_agent({"algorithm": "ddpg", "critic": MACHINE, **COMMON}, "qrl/AwakeSteering-v0", seed=0)
    with qrl.Ledger("deploy", 0, "hybrid", meters=()) as ledger:
        agent.learn(30)
        observations = np.random.default_rng(0).uniform(-1, 1, (200, 10)).astype(np.float32)
        agent.predict(observations, deterministic=True)
        assert ledger.totals()["executions"] == 0
        agent.learn(10, reset_num_timesteps=False)
        assert ledger.totals()["executions"] > 0


def test_noise_falls_over_the_budget():
    noise = GaussianNoise(2000, 0.4, 0.1)
    np.random.seed(0)
    for left, deviation in ((1.0, 0.4), (0.5, 0.25), (0.0, 0.1)):
        noise.progress_remaining = left
        assert noise().std() == pytest.approx(deviation, rel=0.06)
    np.random.seed(0)
    constant = GaussianNoise(3, 0.2)()
    np.random.seed(0)
    np.testing.assert_array_equal(constant, NormalActionNoise(np.zeros(3), 0.2 * np.ones(3))())
    spec = {"algorithm": "ddpg", "critic": SMALL, **COMMON, "noise": 0.3, "noise_final": 0.0}
    agent = learnt(build_agent(spec, environment(), seed=0), 50)
    assert agent.action_noise.deviation(agent.action_noise.progress_remaining) == pytest.approx(0.3 / 50)


def test_random_actions_now_and_then():
    spec = {"algorithm": "ddpg", "critic": SMALL, **COMMON, "learning_starts": 0, "noise": 0.0}
    spec |= {"exploration_initial": 1.0, "exploration_final": 0.0, "learning_rate": 1e-9}
    agent = learnt(build_agent(spec, environment(), seed=0), 200)
    buffer = agent.replay_buffer
    greedy = agent.predict(buffer.observations[:200, 0])[0] / agent.action_space.high
    random = np.abs(greedy - buffer.actions[:200, 0]).ravel() > 1e-4
    assert random[:60].sum() > 40
    assert random[-60:].sum() < 20


def test_updates_wait_for_the_end_of_an_episode():
    spec = {
        "algorithm": "ddpg",
        "critic": SMALL,
        **COMMON,
        "train_freq": "episode",
        "gradient_steps": "as_many",
    }
    agent = build_agent(spec, environment(steps=20), seed=0)
    seen = []
    agent.set_logger(Logger(None, []))
    agent.learn(80, callback=lambda now, _: seen.append(agent.updates) or True, log_interval=None)
    # 30 random steps end within the second episode, after which its 20 steps are replayed
    assert seen == [0] * 40 + [20] * 20 + [40] * 20
    assert agent.updates == 60


def test_learning_rates_of_actor_and_critic():
    spec = {
        "algorithm": "td3",
        "critic": MACHINE,
        **COMMON,
        "learning_rate": 0.01,
        "critic_learning_rate": 0.002,
    }
    agent = build_agent({**spec, "learning_rates": {"couplings": 0.03}}, "qrl/AwakeSteering-v0")
    rates = {name: p.lr_scale for name, p in agent.trained_parameters().items()}
    assert {scale for name, scale in rates.items() if name.startswith("actor")} == {1.0}
    machine = {name.split(".")[-1]: scale for name, scale in rates.items() if name.startswith("critic")}
    assert machine == pytest.approx({"weights": 0.2, "couplings": 3.0})
    assert not any("_target" in name for name in rates)


def test_a_twin_critic_is_matched_to_the_machine():
    machine = agent_spec({"name": "machine", "algorithm": "ddpg", "critic": MACHINE})
    twin = {"name": "twin", "algorithm": "td3", "critic": {"kind": "matched_mlp", "match": "machine"}}
    agent = qrl.build_agent(twin, "qrl/AwakeSteering-v0", peers={"machine": machine})
    n_machine = 16 + 10 * 4 + 10 * 4
    assert agent.spec.critic.n_parameters == n_machine
    ours = sum(p.numel() for p in agent.critic.q_networks[0].parameters())
    assert abs(ours - n_machine) <= 0.1 * n_machine
