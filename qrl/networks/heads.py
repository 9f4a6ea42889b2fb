"""Output layers between body and agent: trained scales, and what makes a policy of expectation values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from qrl.errors import InputError
from qrl.specs import Head

EXACT_FLOOR = 1e-6
"""Least probability that a gradient is divided by where probabilities are exact."""


def add_gradient(parameter: nn.Parameter, gradient: torch.Tensor) -> None:
    """Add to a parameter's ``grad``, if it is trained."""
    if parameter.requires_grad:
        before = parameter.grad
        parameter.grad = gradient if before is None else before + gradient


class ScaleHead(nn.Module):
    """One scale, and for ``affine`` one shift, an output; trained unless the specification says otherwise.

    ``affine``: ``y_a = w_a O_a + c_a``; ``scale``: ``y_a = w_a O_a``; ``unit``: ``y_a = w_a (1 + O_a) / 2``
    (Skolik et al., arXiv:2103.15084, eq. 6). Takes ``(batch, n_outputs)`` or, shared by all outputs, ``(batch, 1)``
    and gives ``(batch, n_outputs)``.

    Raises:
        InputError: ``init`` has another length than the number of outputs.
    """

    def __init__(self, spec: Head, n_outputs: int) -> None:
        super().__init__()
        init = spec.init if isinstance(spec.init, list) else [spec.init] * n_outputs
        if len(init) != n_outputs:
            raise InputError(
                "head.init",
                init,
                f"has {len(init)} numbers",
                f"give one number, or one for each of {n_outputs} outputs",
            )
        self.kind = spec.kind
        self.scale = nn.Parameter(torch.tensor(init, dtype=torch.float32))
        self.shift = (
            nn.Parameter(torch.full((n_outputs,), float(spec.shift))) if spec.kind == "affine" else None
        )
        self.requires_grad_(spec.trainable)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``(batch, n_outputs or 1) -> (batch, n_outputs)``."""
        if self.kind == "unit":
            values = (1.0 + values) / 2.0
        if self.shift is not None:
            return torch.addcmul(self.shift, self.scale, values)
        return self.scale * values

    def gradient(self, values: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
        """Add the gradient by scale and shift to their ``grad``, and return that by the values.

        Args:
            values: what ``forward`` was given.
            upstream: ``(batch, n_outputs)``, the gradient by what ``forward`` returned.
        """
        seen = (1.0 + values) / 2.0 if self.kind == "unit" else values
        if self.shift is not None:
            add_gradient(self.shift, upstream.sum(0))
        add_gradient(self.scale, (upstream * seen).sum(0))
        by_values = upstream * self.scale
        if values.shape != upstream.shape:
            by_values = by_values.sum(1, keepdim=True)
        return by_values / 2.0 if self.kind == "unit" else by_values


class SoftmaxHead(ScaleHead):
    """Logits ``beta w_a O_a``, whose inverse temperature ``beta`` may change linearly over the budget.

    ``beta`` is a buffer, so that it is saved and restored with the parameters.

    Source: Jerbi et al., arXiv:2103.05577, definition 2.
    """

    beta: torch.Tensor

    def __init__(self, spec: Head, n_outputs: int) -> None:
        super().__init__(spec, n_outputs)
        self.start = spec.beta
        self.final = spec.beta if spec.beta_final is None else spec.beta_final
        self.register_buffer("beta", torch.tensor(spec.beta))

    def anneal(self, progress: float) -> None:
        """Set ``beta`` to its value when this share of the budget is spent; at its end it stays what it is."""
        self.beta.fill_(self.start + (self.final - self.start) * min(max(progress, 0.0), 1.0))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``(batch, n_outputs or 1) -> (batch, n_outputs)``."""
        return self.beta * super().forward(values)

    def gradient(self, values: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
        """As ``ScaleHead.gradient``."""
        return super().gradient(values, self.beta * upstream)


class BornHead(nn.Module):
    r"""Logits :math:`\log P_a` of a policy whose probabilities are those of measured bit strings.

    A softmax gives the probabilities back, and the gradient of a logit is :math:`\nabla P_a / \max(P_a, floor)`: of
    exact probabilities that of :math:`\log \pi`; of estimates from ``shots`` its plug-in estimate, for which the layer
    takes :math:`P_a` and its gradient from independent shots. The normalisation of the softmax adds nothing to the
    gradient, as the gradients of all :math:`P_a`, read from the same shots, add up to zero.

    ``(batch, n_actions) -> (batch, n_actions)``.

    Args:
        shots: of the estimates; None for exact probabilities.
        floor: least probability that is divided by; 1 / ``shots`` (what one count is worth) or 1e-6 by default.

    Source: Jerbi et al., arXiv:2103.05577, definition 1 and lemma 1; the floor is our own.
    """

    def __init__(self, shots: int | None = None, floor: float | None = None) -> None:
        super().__init__()
        self.shots = shots
        self.floor = floor if floor is not None else EXACT_FLOOR if shots is None else min(1.0 / shots, 0.5)
        self.bias = 0.0

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``(batch, n_actions) -> (batch, n_actions)``: probabilities to their logarithms."""
        return cast(torch.Tensor, _FlooredLogarithm.apply(values, self.floor))

    def gradient(self, values: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
        """The gradient by the probabilities; arguments as ``ScaleHead.gradient``."""
        return upstream / values.clamp(min=self.floor)

    def observe(self, log_prob: torch.Tensor) -> None:
        r"""Keep in ``bias`` by how much estimated gradients of these actions are too long, relatively; 0 if exact.

        The mean of :math:`E[1/\hat P] P - 1 = (1 - P) / (m P)`, to first order in :math:`1 / m` for m shots.

        Args:
            log_prob: ``(batch,)``, log-probabilities of the actions that were taken.

        Source: own construction (second-order expansion of the reciprocal of a binomial proportion).
        """
        if self.shots is not None:
            p = log_prob.detach().exp().clamp(min=self.floor)
            self.bias = float(((1.0 - p) / (self.shots * p)).mean())


class _FlooredLogarithm(torch.autograd.Function):
    """``log(max(P, floor))`` with the derivative ``1 / max(P, floor)`` everywhere."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, floor: float) -> torch.Tensor:
        bounded = values.clamp(min=floor)
        ctx.save_for_backward(bounded)
        return bounded.log()

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        (bounded,) = ctx.saved_tensors
        return upstream / bounded, None


AnyHead = ScaleHead | BornHead


def annealed(network: nn.Module) -> tuple[SoftmaxHead, ...]:
    """The heads of a network whose inverse temperature changes over the budget."""
    heads = (module for module in network.modules() if isinstance(module, SoftmaxHead))
    return tuple(head for head in heads if head.final != head.start)


_HEADS: dict[str, Callable[[Head, int], ScaleHead]] = {"softmax": SoftmaxHead}
POLICY_HEADS = ("softmax", "born")
"""Kinds that only a policy over discrete actions has a use for."""


def build_head(spec: Head | None, n_outputs: int, shots: int | None = None) -> AnyHead | None:
    """The module of a head's specification, none of none.

    Raises:
        InputError: as ``ScaleHead``.
    """
    if spec is None:
        return None
    if spec.kind == "born":
        return BornHead(shots, spec.floor)
    return _HEADS.get(spec.kind, ScaleHead)(spec, n_outputs)
