"""Projective simulation with Grover search: the agent of the photonic learning experiment, as exact arithmetic.

The environment must be a unitary oracle: in a quantum epoch the agent sends a superposition of its actions, and the
environment marks the rewarded one by a phase. A beam line or a game console cannot be asked in this way, so the
speed-up holds for environments that are themselves quantum programs, and for no other environment of this library.
Counted are epochs, not seconds.

Source: V. Saggio et al., Nature 591, 229 (2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuits.gates import choice

SWITCH = (3.0 - math.sqrt(2.0)) / 4.0
"""Chance of reward above which a classical epoch finds it sooner than a Grover step and a test: 0.3964."""


def amplified(chance: float, steps: int = 1) -> float:
    """Chance of the rewarded action after Grover steps, sin^2((2 steps + 1) xi) with chance = sin^2 xi.

    Source: L. K. Grover, Phys. Rev. Lett. 79, 325 (1997); G. Brassard et al., quant-ph/0005055, section 2.
    """
    return math.sin((2 * steps + 1) * math.asin(math.sqrt(chance))) ** 2


@dataclass(frozen=True)
class GroverLearner:
    """A projective-simulation agent that draws one of many actions, of which one is rewarded.

    Each reward adds ``gain`` to the weight of the rewarded action, so after j rewards its chance is
    (1 + gain j) / (n_actions + gain j). A ``quantum`` epoch is one Grover step followed by a classical test of what
    was measured, and counts twice; a ``hybrid`` agent takes it while the chance is below `SWITCH`.

    Args:
        n_actions: actions at the start, all equally likely.
        gain: what a reward adds to the weight.
        strategy: "classical", "quantum" or "hybrid".

    Raises:
        ValueError: an unknown strategy, fewer than two actions or a gain that is not above 0.
    """

    n_actions: int = 100
    gain: float = 2.0
    strategy: str = "hybrid"

    def __post_init__(self) -> None:
        choice("strategy", self.strategy, ("classical", "quantum", "hybrid"))
        if self.n_actions < 2:
            raise ValueError(f"n_actions: {self.n_actions} leaves nothing to learn; use at least 2")
        if not self.gain > 0.0 or not math.isfinite(self.gain):
            raise ValueError(f"gain: {self.gain} teaches nothing; use a finite number above 0")

    def chance(self, rewards: int) -> float:
        """Chance of the rewarded action in one classical draw, after so many rewards."""
        return (1.0 + self.gain * rewards) / (self.n_actions + self.gain * rewards)

    def rate(self, rewards: int) -> float:
        """Expected rewards an epoch, after so many rewards: sin^2 xi, or sin^2(3 xi) / 2 with a Grover step."""
        chance = self.chance(rewards)
        return amplified(chance) / 2.0 if self._searches(chance) else chance

    def learning_time(self, target: float) -> float:
        """Expected epochs until the chance of the rewarded action is at least ``target``.

        Raises:
            ValueError: the target is not in (0, 1), or a purely quantum agent never gets there.
        """
        return sum(1.0 / self.rate(rewards) for rewards in range(self._rewards(target)))

    def simulate(self, target: float, agents: int, seed: int = 0) -> NDArray[np.int64]:
        """Epochs that agents needed in a simulation by drawing, ``(agents,)``.

        Raises:
            ValueError: as ``learning_time``.
        """
        rng = np.random.default_rng(seed)
        epochs = np.zeros(agents, dtype=np.int64)
        for rewards in range(self._rewards(target)):
            chance = self.chance(rewards)
            if self._searches(chance):
                epochs += 2 * rng.geometric(amplified(chance), agents)
            else:
                epochs += rng.geometric(chance, agents)
        return epochs

    def _searches(self, chance: float) -> bool:
        return self.strategy == "quantum" or (self.strategy == "hybrid" and chance < SWITCH)

    def _rewards(self, target: float) -> int:
        if not 0.0 < target < 1.0:
            raise ValueError(f"target: {target} is no chance that can be reached; use a number in (0, 1)")
        if self.strategy == "quantum" and target > 0.75:  # at 3/4 the Grover step misses for certain
            raise ValueError(
                f"target: {target} is beyond 0.75, where a Grover step always fails; use 'hybrid'"
            )
        # the last j with chance_j < target
        last = (target * self.n_actions - 1.0) / (self.gain * (1.0 - target))
        return max(0, math.ceil(last - 1e-12))
