"""Shots by need, as data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from qrl.errors import InputError
from qrl.specs.base import PositiveInt, Spec, register_model


class AdaptiveShots(Spec):
    """Greedy actions are read from a circuit with shots, as many as it takes to see which action is best.

    Exploring actions take none. What is learnt from is as ``network.shots`` says, unless ``updates`` says otherwise.
    """

    rule: Literal["empirical_bernstein", "published"] = "empirical_bernstein"
    """When to stop (``circuits.shot_allocation``). ``published``: exact values with Gaussian noise, stopping at a gap
    of 2 / sqrt(m), as in arXiv:2212.09431, with the errors that its docstring lists."""
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """Bound on the probability that a decision is wrong (``empirical_bernstein`` only)."""
    start: PositiveInt = 100
    """Shots a measurement setting before the first look."""
    step: PositiveInt = 100
    """Shots before each further look."""
    cap: PositiveInt = 1000
    """Shots a measurement setting at most; then the largest estimate wins."""
    evaluation: bool = False
    """Evaluate with these shots too; otherwise as ``network.shots`` says."""
    updates: Literal["network", "gap"] = "network"
    """What is learnt from. ``gap`` (``published`` only): exact values with the noise of 2 / gap^2 shots, in whole steps
    up to the cap."""

    @model_validator(mode="after")
    def _fits_together(self) -> AdaptiveShots:
        if self.start > self.cap:
            raise InputError("start", self.start, f"is above cap = {self.cap}", "use at most the cap")
        if self.updates == "gap" and self.rule != "published":
            why, fix = f"is no way of {self.rule}", 'use "network" with network.shots'
            raise InputError("updates", self.updates, why, fix)
        return self


register_model("adaptive_shots", AdaptiveShots)
