"""One trained number a state and output: the opponent on tasks whose observations are states by number."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.arguments import integer


class Tabular(nn.Module):
    """A table `(n_states, n_outputs)` that is read by one-hot observations, `(batch, n_states) -> (batch, n_outputs)`.

    It starts at 0, so that nothing is drawn. It generalises nowhere: what it needs tells how hard the task is without
    any prior. Raises `ValueError` or `TypeError` naming the argument.

    Source: own construction; with temporal differences it is C. Watkins and P. Dayan, "Q-learning", Machine Learning
    8, 279 (1992).

    Example:
        >>> table = Tabular(16, 4)
        >>> table(torch.eye(16)[[0, 5]]).shape
        torch.Size([2, 4])
    """

    def __init__(self, n_states: int, n_outputs: int) -> None:
        super().__init__()
        self.table = nn.Parameter(
            torch.zeros(integer("n_states", n_states, 1), integer("n_outputs", n_outputs, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """The rows of the table that one-hot `x` selects."""
        return x @ self.table
