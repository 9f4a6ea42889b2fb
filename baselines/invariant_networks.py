"""Classical action-value networks with the invariances of a clamped Boltzmann machine, each without the machine.

A machine without a bias node is even in its inputs, `Q(s, a) = Q(-s, -a)`, and curved one way, for any field and any
couplings. What it learns faster than an ordinary network may come from these two properties alone; the networks here
have one or both of them, so that they tell which. Every one maps states `(batch, n_state)` and actions
`(batch, n_action)` to values `(batch, 1)` and starts from torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from baselines.arguments import choice, integer, number
from baselines.networks import mlp

SIGNS = ("mirrored", "negative")


class SymmetricMLP(nn.Module):
    """`Q(v) = f(v) + f(-v)`, f a multilayer perceptron of v = (s, a): even, and nothing else.

    `forward(state, action) -> (batch, 1)`. Arguments: `n_inputs`, components of state and action together; `hidden`
    and `activation` of f as in `mlp`. Raises `ValueError` or `TypeError` naming the argument.

    Source: own construction (projection onto the functions that the group {1, -1} leaves alone).
    """

    def __init__(self, n_inputs: int, hidden: Sequence[int] = (64, 64), activation: str = "relu") -> None:
        super().__init__()
        self.network = mlp(n_inputs, 1, hidden, activation)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """Values `(batch, 1)`."""
        v = torch.cat([state, action], dim=-1)
        there, mirrored = self.network(torch.cat([v, -v])).chunk(2)
        return there + mirrored


class ConcaveNetwork(nn.Module):
    """`Q(v) = -g(v)`, g an input-convex network of v = (s, a): concave in state and action, and even where asked.

    With the smooth, convex and rising activation softplus and weights U from unit to unit that are never negative,

        z_1 = softplus(W_0 v + c_0),   z_(i+1) = softplus(U_i z_i + W_i v + c_i),   g = u z_k + w v + c

    is convex in v: sums with positive weights and rising convex functions of convex functions are. U and u are the
    softplus of what is trained; they start uniform with mean one over the number of units they add, so that depth
    does not change the size of g. With `even` it is `Q(v) = -(g(v) + g(-v)) / 2`, which is concave as well.

    `forward(state, action) -> (batch, 1)`. Arguments: `n_inputs`, components of state and action together; `hidden`
    widths, at least one; `even`. Raises `ValueError` or `TypeError` naming the argument.

    Source: B. Amos, L. Xu and J. Z. Kolter, "Input convex neural networks", arXiv:1609.07152, Eq. (2); softplus in
    place of its rectifier, and of its projection of U.
    """

    def __init__(self, n_inputs: int, hidden: Sequence[int] = (64, 64), *, even: bool = False) -> None:
        super().__init__()
        self.even = bool(even)
        widths = [*(integer("hidden", width, 1) for width in hidden), 1]
        if len(widths) == 1:
            raise ValueError("hidden: no width is given; use at least one, such as (64, 64)")
        n_inputs = integer("n_inputs", n_inputs, 1)
        self.from_input = nn.ModuleList(nn.Linear(n_inputs, width) for width in widths)
        self.between = nn.ParameterList(_positive(after, before) for before, after in pairwise(widths))

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """Values `(batch, 1)`."""
        v = torch.cat([state, action], dim=-1)
        if not self.even:
            return -self._convex(v)
        there, mirrored = self._convex(torch.cat([v, -v])).chunk(2)
        return -0.5 * (there + mirrored)

    def _convex(self, v: Tensor) -> Tensor:
        g = self.from_input[0](v)
        for direct, between in zip(list(self.from_input)[1:], self.between, strict=True):
            g = linear(softplus(g), softplus(between)) + direct(v)
        return g


class LnCosh(nn.Module):
    """`Q(v) = -(1/beta) sum_h ln 2cosh(beta b_h) + offset`, b = W v: even and concave, with weights only.

    It is the free energy of units that are coupled to nothing and in no field, so every unit is a sum of two
    exponentials. Here each unit sees every input: 16 units of 2 inputs are 32 weights.

    `forward(state, action) -> (batch, 1)`. Arguments: `n_inputs`, components of state and action together; `n_units`;
    `beta`, inverse temperature, above 0; `init_scale`, weights start uniform in +-init_scale; `sign`, "mirrored" as
    above, or "negative" for `+(1/beta) sum_h ln 2cosh(beta b_h) + offset`, which is convex; `bias` adds a trained
    constant to each b_h, which breaks the evenness; `offset`, by default what makes Q zero at v = 0 without bias;
    `train_offset` trains it too. Raises `ValueError` or `TypeError` naming the argument.

    Source: free energy of a restricted Boltzmann machine with spins +-1, as in A. Levit et al., arXiv:1706.00074,
    at zero field without couplings between hidden units.

    Example:
        >>> network = LnCosh(2, n_units=16)
        >>> sum(p.numel() for p in network.parameters())
        32
    """

    offset: Tensor

    def __init__(
        self,
        n_inputs: int,
        n_units: int = 16,
        beta: float = 2.0,
        init_scale: float = 1.0,
        *,
        sign: str = "mirrored",
        bias: bool = False,
        offset: float | None = None,
        train_offset: bool = False,
    ) -> None:
        super().__init__()
        n_inputs, n_units = integer("n_inputs", n_inputs, 1), integer("n_units", n_units, 1)
        scale = number("init_scale", init_scale, 0.0)
        self.beta = number("beta", beta, 0.0, low_open=True)
        self.sign = choice("sign", sign, SIGNS)
        self.weights = nn.Parameter(torch.empty(n_units, n_inputs).uniform_(-scale, scale))
        self.bias = nn.Parameter(torch.empty(n_units).uniform_(-scale, scale)) if bias else None
        self._direction = -1.0 if sign == "mirrored" else 1.0
        if offset is None:
            offset = -self._direction * n_units * math.log(2.0) / self.beta
        start = torch.tensor(number("offset", offset))
        if train_offset:
            self.offset = nn.Parameter(start)
        else:
            self.register_buffer("offset", start)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """Values `(batch, 1)`."""
        x = self.beta * linear(torch.cat([state, action], dim=-1), self.weights, self.bias)
        # ln 2cosh x = ln(e^x + e^-x) without overflow
        total = torch.logaddexp(x, -x).sum(dim=-1, keepdim=True)
        return self._direction / self.beta * total + self.offset


class Bilinear(nn.Module):
    """`Q(s, a) = s^T A a + offset`: the product of state and action, the least that an even Q needs to steer.

    With `quadratic` also `- |S s|^2 / 2 - |K a|^2 / 2` (S, K square): then Q has its maximum over a where the
    controller is linear, `a = (K^T K)^-1 A^T s`; without it the best action of a box is always a corner.

    `forward(state, action) -> (batch, 1)`. A, S and K start uniform in +- one over the root of the inputs they sum;
    the trained offset starts at 0. Raises `ValueError` or `TypeError` naming the argument.

    Source: own construction; the quadratic form is the action value of a linear system with a quadratic cost,
    S. Bradtke, Advances in Neural Information Processing Systems 5 (1992), "Reinforcement learning applied to linear
    quadratic regulation".
    """

    def __init__(self, n_state: int, n_action: int, *, quadratic: bool = False) -> None:
        super().__init__()
        n_state, n_action = integer("n_state", n_state, 1), integer("n_action", n_action, 1)
        self.weights = _uniform(n_state, n_action)
        self.state_factor = _uniform(n_state, n_state) if quadratic else None
        self.action_factor = _uniform(n_action, n_action) if quadratic else None
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """Values `(batch, 1)`."""
        value = (state @ self.weights * action).sum(dim=-1, keepdim=True) + self.offset
        for factor, x in ((self.state_factor, state), (self.action_factor, action)):
            if factor is not None:
                value = value - 0.5 * linear(x, factor).square().sum(dim=-1, keepdim=True)
        return value


def _positive(rows: int, columns: int) -> nn.Parameter:
    """What softplus turns into weights uniform in (0, 2/columns)."""
    # away from 0, whose inverse is minus infinity
    weights = torch.empty(rows, columns).uniform_(0.02, 2.0) / columns
    return nn.Parameter(weights.expm1().log())


def _uniform(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns).uniform_(-1.0, 1.0) / math.sqrt(rows))
