"""Adam with a learning rate for each parameter group, under Stable-Baselines3's single schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class GroupedAdam(torch.optim.Adam):
    """Adam that multiplies the scheduled learning rate by each parameter's ``lr_scale``.

    Stable-Baselines3 writes one rate into every parameter group before each update. Groups are therefore formed
    here, by the attribute ``lr_scale`` that the network put on its parameters (1 where there is none), and the
    scale is applied only during ``step``: the base rate stays the schedule's. ``updates`` counts the steps taken.
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float = 1e-3, **kwargs: Any) -> None:
        groups: dict[float, list[torch.nn.Parameter]] = {}
        for parameter in params:
            if parameter.requires_grad:
                groups.setdefault(float(getattr(parameter, "lr_scale", 1.0)), []).append(parameter)
        # One fused call a group instead of a Python loop: worth more than any other change at this size.
        kwargs.setdefault("fused", True)
        super().__init__(
            [{"params": members, "lr_scale": scale} for scale, members in groups.items()], lr=lr, **kwargs
        )
        self.updates = 0

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every group at its own rate."""
        base = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] *= group["lr_scale"]
        try:
            return super().step(closure)
        finally:
            for group, rate in zip(self.param_groups, base, strict=True):
                group["lr"] = rate
            self.updates += 1


class LinearDecay:
    """Learning-rate schedule ``rate * max(progress_remaining, 0)``.

    At the k-th of K equal iterations the rate is ``rate * (1 - k / K)``; a rollout that goes past the budget gets
    rate 0, never a negative one.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, progress_remaining: float) -> float:
        """The rate when this share of the budget is left."""
        return self.rate * max(progress_remaining, 0.0)
