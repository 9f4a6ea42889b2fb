"""Tasks so small that one thing alone can be wrong with an agent that fails; run through runpy.

After Andy Jones's probe environments: value, backpropagation, discounting, policy, batching; and Stable-Baselines3's
identity environments. Observations are one number; actions are two, or one component in [-1, 1].
"""

from typing import ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.envs import IdentityEnv, IdentityEnvBox

GAMMA = 0.5
TWO, ONE = spaces.Discrete(2), spaces.Box(-1.0, 1.0, (1,), np.float32)


class Probe(gym.Env):
    """Episodes of one step; ``signs``: the observation is -1 or 1 by chance, else 0."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    signs = False

    def __init__(self, box):
        self.action_space = ONE if box else TWO
        self.box = box

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seen = float(self.np_random.choice([-1.0, 1.0])) if self.signs else 0.0
        return np.array([self.seen], np.float32), {}

    def step(self, action):
        return np.array([self.seen], np.float32), self.reward(action), True, False, {}

    def choice(self, action):
        """A discrete action as -1 or 1."""
        return 2.0 * int(action) - 1.0


class Value(Probe):
    """Reward 1, whatever is done."""

    values: ClassVar = {(0.0,): (1.0,)}

    def reward(self, action):
        return 1.0


class Backpropagation(Probe):
    """The observation is the reward."""

    signs = True
    values: ClassVar = {(-1.0,): (-1.0,), (1.0,): (1.0,)}

    def reward(self, action):
        return self.seen


class Discounting(Probe):
    """Two steps; the second one's reward is 1."""

    values: ClassVar = {(0.0, 1.0): (GAMMA, 1.0)}

    def step(self, action):
        first, self.seen = self.seen == 0.0, 1.0
        return np.array([1.0], np.float32), 0.0 if first else 1.0, not first, False, {}


class Policy(Probe):
    """One action is right: the second, or 0.5."""

    actions: ClassVar = {0.0: 0.5}

    def reward(self, action):
        return 1.0 - (float(action[0]) - 0.5) ** 2 if self.box else self.choice(action)


class Batching(Probe):
    """What is right depends on the observation: its sign, or half of it."""

    signs = True
    actions: ClassVar = {-1.0: -0.5, 1.0: 0.5}

    def reward(self, action):
        if self.box:
            return 1.0 - (float(action[0]) - 0.5 * self.seen) ** 2
        return self.choice(action) * self.seen


class Identity:
    """Stable-Baselines3's: the action is to be the observation; as its own tests, with 0.5 to spare in a box."""

    tolerance = 0.5

    def __new__(cls, box):
        return IdentityEnvBox(eps=0.5) if box else IdentityEnv(dim=2)

    @staticmethod
    def expected(box):
        return {x: x for x in np.linspace(-1, 1, 9)} if box else {0: 0, 1: 1}


PROBES = {
    probe.__name__.lower(): probe
    for probe in (Value, Backpropagation, Discounting, Policy, Batching, Identity)
}


def values_right(values, probe):
    """Whether an agent's values, asked for along episodes, are within 0.15 of the true ones."""
    return all(
        np.abs(values(np.array(seen, np.float32)[:, None]) - np.array(true)).max() < 0.15
        for seen, true in probe.values.items()
    )


def actions_right(predict, probe, box):
    """Whether greedy actions are right: the right one of two, or within 0.25 in a box."""
    if probe is Identity:
        expected = Identity.expected(box)
        seen = np.array(list(expected), np.float32)[:, None] if box else np.array(list(expected))
        target, tolerance = np.array(list(expected.values())), Identity.tolerance
    else:
        seen = np.array(list(probe.actions), np.float32)[:, None]
        target, tolerance = np.array(list(probe.actions.values())), 0.25
        target = target if box else (target > 0).astype(int)
    found = predict(seen)
    return bool(np.abs(found[:, 0] - target).max() < tolerance) if box else bool((found == target).all())
