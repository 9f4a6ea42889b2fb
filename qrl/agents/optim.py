"""Adam with a learning rate for each parameter group, under Stable-Baselines3's single schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

Moments = tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]
"""Of a group: the step counts as one tensor and one by one, first moments, second moments, their maxima."""


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
        self._moments: list[Moments] | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every group at its own rate."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self._step_fused():
            self._step_as_adam()
        self.updates += 1
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As ``torch.optim.Adam``'s."""
        if not set_to_none:
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def load_state_dict(self, state_dict: Any) -> None:
        """As ``torch.optim.Adam``'s."""
        super().load_state_dict(state_dict)
        self._moments = None

    def add_param_group(self, param_group: Any) -> None:
        """As ``torch.optim.Adam``'s."""
        super().add_param_group(param_group)
        self._moments = None

    def _step_as_adam(self) -> None:
        # Once a process has made a plain Adam, torch has wrapped its step by one that calls the hooks: a second time.
        step: Any = torch.optim.Adam.step
        step = step.__wrapped__ if getattr(step, "hooked", False) else step
        base = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] *= group["lr_scale"]
        try:
            step(self)
        finally:
            for group, rate in zip(self.param_groups, base, strict=True):
                group["lr"] = rate

    def _step_fused(self) -> bool:
        """The update of ``torch.optim.Adam(fused=True)``, without what it works out anew each time.

        False, with nothing done, where that is not the update to make: before a parameter's first step, where one
        has no gradient, elsewhere than on the CPU, and with options that go another way.
        """
        moments = self._moments = self._moments or self._collected()
        if moments is None:
            return False
        gradients = [[p.grad for p in group["params"]] for group in self.param_groups]
        if any(g is None for group in gradients for g in group):
            return False
        for group, grads, (counted, steps, averages, squares, maxima) in zip(
            self.param_groups, gradients, moments, strict=True
        ):
            beta1, beta2 = group["betas"]
            counted.add_(1.0)
            torch._fused_adam_(
                group["params"],
                grads,  # type: ignore[arg-type]
                averages,
                squares,
                maxima,
                steps,
                lr=group["lr"] * group["lr_scale"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=group["amsgrad"],
                maximize=group["maximize"],
            )
        return True

    def _collected(self) -> list[Moments] | None:
        """Group by group; none before the first step."""
        found = []
        for group in self.param_groups:
            members = [self.state.get(p) for p in group["params"]]
            other = any(group.get(key) for key in ("capturable", "differentiable", "decoupled_weight_decay"))
            on_cpu = all(p.device.type == "cpu" for p in group["params"])
            if other or not group["fused"] or not on_cpu or not all(members):
                return None
            # The parameters' step counts become elements of one tensor, which one addition advances.
            counted = torch.stack([member["step"] for member in members])  # type: ignore[index]
            for member, step in zip(members, counted, strict=True):
                member["step"] = step  # type: ignore[index]
            names = ("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
            lists = [[m[name] for m in members if name in m] for name in names]  # type: ignore[union-attr, operator]
            found.append((counted, *lists))
        return found  # type: ignore[return-value]


@torch.no_grad()
def clip_gradients(parameters: Sequence[torch.nn.Parameter], max_norm: float) -> None:
    """As ``torch.nn.utils.clip_grad_norm_``, without sorting the tensors by device and type each time.

    Args:
        parameters: on one device and of one type; those without a gradient are passed over.
        max_norm: bound on the joint Euclidean norm of the gradients.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp_(max=1.0))


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
