"""Action distributions at the speed of their formulas: Stable-Baselines3's draws and numbers, bit for bit.

``torch.distributions`` builds and validates an object a call and leaves some ten nodes to differentiate through; at
the size of our networks that costs more than the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from stable_baselines3.common.distributions import CategoricalDistribution, sum_independent_dims
from torch import Tensor

from qrl.networks import BornHead

Pullback = Callable[[Tensor, Tensor], Tensor]


class Categorical:
    """One of ``n`` actions, from unnormalised log-probabilities ``(batch, n)``."""

    @staticmethod
    def sample(outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``(batch,)``, and a note from which ``log_prob`` tells how probable they were."""
        log_p, p = _normalised(outputs)
        # What torch.multinomial draws for one sample a row, less its checks of the probabilities.
        return (p / torch.empty_like(p).exponential_(1.0)).argmax(-1), log_p

    @staticmethod
    def note(outputs: Tensor) -> Tensor:
        """The note of ``sample``, for actions that were drawn elsewhere."""
        return _normalised(outputs)[0]

    @staticmethod
    def log_prob(notes: Tensor, actions: Tensor) -> Tensor:
        """Log-probabilities ``(..., batch)`` of sampled actions, from the stacked notes of their samples."""
        return notes.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    @staticmethod
    def mode(outputs: Tensor) -> Tensor:
        """The most probable actions, ``(batch,)``."""
        return _normalised(outputs)[1].argmax(-1)

    @staticmethod
    def pullback(outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Pullback]:
        """Log-probabilities of actions and entropies, each ``(batch,)``, and the way back to the outputs.

        The function that is returned takes the gradients by both and gives the one by the outputs.
        """
        log_p, p = _normalised(outputs)
        index = actions.unsqueeze(-1)
        # An action of probability zero adds nothing to the entropy; without the bound it adds 0 times infinity.
        bounded = log_p.clamp(min=torch.finfo(log_p.dtype).min)

        def back(by_log_prob: Tensor, by_entropy: Tensor) -> Tensor:
            by_terms = -by_entropy.unsqueeze(-1)
            gradient = torch._softmax_backward_data(by_terms * bounded, p, -1, p.dtype)
            gradient += by_terms * p
            gradient.scatter_add_(-1, index, by_log_prob.unsqueeze(-1))
            return gradient - gradient.sum(-1, keepdim=True) * log_p.exp()

        return log_p.gather(-1, index).squeeze(-1), -(bounded * p).sum(-1), back


class BornDistribution(CategoricalDistribution):
    """Stable-Baselines3's categorical distribution, whose head takes note of the bias of its estimates."""

    def __init__(self, action_dim: int, head: BornHead) -> None:
        super().__init__(action_dim)
        self.head = head

    def log_prob(self, actions: Tensor) -> Tensor:
        """As Stable-Baselines3's, ``(batch,)``."""
        found = super().log_prob(actions)
        self.head.observe(found)
        return found


class Gaussian:
    """Independent normal components with means ``(batch, n)`` and the logarithms ``(n,)`` of their deviations."""

    def __init__(self, log_std: Tensor) -> None:
        self.log_std = log_std

    def sample(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``(batch, n)``, and a note as ``Categorical.sample``'s: their log-densities ``(batch,)``."""
        scale = torch.ones_like(outputs) * self.log_std.exp()
        noise = torch.normal(torch.zeros_like(outputs), torch.ones_like(outputs))
        actions = outputs + noise * scale
        return actions, _log_density(outputs, scale, actions)

    def log_prob(self, notes: Tensor, actions: Tensor) -> Tensor:
        """As ``Categorical.log_prob``."""
        return notes

    def mode(self, outputs: Tensor) -> Tensor:
        """The most probable actions, ``(batch, n)``."""
        return outputs

    def pullback(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Pullback]:
        """As ``Categorical.pullback``; the gradient by the logarithms is added to ``log_std.grad``."""
        with torch.enable_grad():
            mean = outputs.detach().requires_grad_()
            scale = torch.ones_like(mean) * self.log_std.exp()
            log_prob = _log_density(mean, scale, actions)
            entropy = sum_independent_dims(0.5 + 0.5 * math.log(2 * math.pi) + torch.log(scale))

        def back(by_log_prob: Tensor, by_entropy: Tensor) -> Tensor:
            torch.autograd.backward((log_prob, entropy), (by_log_prob, by_entropy))
            assert mean.grad is not None
            return mean.grad

        return log_prob.detach(), entropy.detach(), back


def _log_density(mean: Tensor, scale: Tensor, value: Tensor) -> Tensor:
    # in the order of torch.distributions.Normal, in which autograd then sums what comes back to the scale
    variance, log_scale = scale**2, scale.log()
    each = -((value - mean) ** 2) / (2 * variance) - log_scale - math.log(math.sqrt(2 * math.pi))
    return sum_independent_dims(each)


def _normalised(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities and probabilities."""
    largest = outputs.amax(-1, keepdim=True)
    # torch.logsumexp, operation by operation; its own checks double the time.
    log_p = outputs - (outputs - largest).exp_().sum(-1, keepdim=True).log_().add_(largest)
    return log_p, torch.softmax(log_p, -1)
