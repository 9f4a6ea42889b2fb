"""A clamped Boltzmann machine as an action-value function."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from circuits.backends.protocol import Usage
from circuits.boltzmann import Graph, Problem, Sampler, Thermal, get_sampler
from circuits.boltzmann.protocol import check_setting, free_energy_alone
from circuits.gates import choice, finite, integer
from qrl.ledger import current, phase

Floats = NDArray[np.float64]

_SIGNS = ("mirrored", "negative")
_QUICK_DENSE = 8


class BoltzmannMachine(nn.Module):
    r"""The free energy of a quantum Boltzmann machine, whose visible nodes are clamped, as Q(state, action).

    State and action are biases :math:`b_h = \sum_v w_{vh} v` of the hidden units of

    .. math:: H(b, J) = -\sum_h b_h \sigma^z_h - \sum_{hk} J_{hk} \sigma^z_h \sigma^z_k - \Gamma \sum_h \sigma^x_h,
       \qquad F(b, J) = -\tfrac{1}{\beta} \ln \operatorname{tr} e^{-\beta H(b, J)}.

    ``sign`` says what Q is; in both cases dQ/db_h is <sz_h> and dQ/dJ_hk is <sz_h sz_k> of the ensemble named:

    - "mirrored": Q = F(-b, -J) + offset, the ensemble of E = H(-b, -J); concave in state and action jointly;
    - "negative": Q = -F(b, J) + offset, the ensemble of H(b, J); convex, so that the best action in a box is a corner.

    Without a bias node Q is even, Q(s, a) = Q(-s, -a). Gradients are exact for any field: derivatives of a
    trace. A sampler that draws gives an unbiased estimate of them from the very samples of the forward pass.
    Inputs are used as they are, so encode them to about [-1, 1]; values are computed in float64 and returned
    in the dtype of the weights. What runs is counted in the current ledger, in the phase "quantum".

    Parameters of the module are ``weights``, one for each connection of a visible node (first state, then
    action, then the bias node) to the hidden units it sees, in ascending order and node by node;
    ``couplings`` in the order of ``graph.edges``; where asked for ``offset``, and ``curvatures`` (kappa is
    their softplus) and ``centres`` of the quadratic term.

    Args:
        graph: the hidden units, such as ``build_graph("chimera", rows=1, columns=2)``.
        n_state: number of state nodes.
        n_action: number of action nodes.
        field: the transverse field Gamma, at least 0; a setting, not learned.
        beta: the inverse temperature, above 0; a setting, not learned.
        sign: "mirrored" or "negative".
        offset: "auto" makes Q zero at weights zero, that is Q <= 0 for all weights where mirrored and Q >= 0 where
            negative (Peierls-Bogoliubov inequality); or a number.
        trainable_offset: whether the offset is a parameter and no buffer.
        init_scale: weights and couplings start uniformly in [-1, 1) times this, from torch's global generator.
        bias: whether a visible node that is always 1 is connected to every hidden unit; it breaks evenness.
        quadratic: whether -(1/2) sum_j kappa_j (a_j - m_j)^2 is added.
        sampler: a sampler or the name of one. "auto" is the closed form where nothing is coupled, else the exact
            sampler where it takes milliseconds a state (no field and a vertex cover of at most 16 units, or at most
            8 hidden units), else "sqa".
        sampler_options: options of a named sampler.

    Shapes:
        state ``(batch, n_state)`` and action ``(batch, n_action)`` to ``(batch, 1)``; an empty batch is fine.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range or a sampler cannot serve the graph; in ``forward`` a wrong shape or
            a value that is not finite; in the backward pass a request for second derivatives of a sampler that has
            none (the closed form has them).

    Source: Levit et al., arXiv:1706.00074; sign and offset are our own.

    Example:
        >>> import torch
        >>> from circuits.boltzmann import build_graph
        >>> machine = BoltzmannMachine(build_graph("chimera", rows=1, columns=2), n_state=1, n_action=1, field=0.0)
        >>> machine(torch.rand(8, 1), torch.rand(8, 1)).shape, machine.n_parameters
        (torch.Size([8, 1]), 52)
    """

    offset: Tensor

    def __init__(
        self,
        graph: Graph,
        n_state: int,
        n_action: int,
        *,
        field: float = 0.5,
        beta: float = 2.0,
        sign: Literal["mirrored", "negative"] = "mirrored",
        offset: float | Literal["auto"] = "auto",
        trainable_offset: bool = False,
        init_scale: float = 1.0,
        bias: bool = False,
        quadratic: bool = False,
        sampler: str | Sampler = "auto",
        sampler_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(graph, Graph):
            raise TypeError(f"graph: {graph!r} is not a Graph; use circuits.boltzmann.build_graph")
        self.graph = graph
        self.n_state = integer("n_state", n_state, 1)
        self.n_action = integer("n_action", n_action, 1)
        check_setting("field", field, zero=True)
        check_setting("beta", beta, zero=False)
        self.field, self.beta = float(field), float(beta)
        self.sign = choice("sign", sign, _SIGNS)
        self._sign = -1.0 if sign == "mirrored" else 1.0
        self.bias, self.quadratic = bool(bias), bool(quadratic)
        self.sampler = _chosen_sampler(sampler, sampler_options, graph, self.field)
        self.sampler.check(graph, self.field)

        sees = [graph.state_sees] * self.n_state + [graph.action_sees] * self.n_action
        if self.bias:
            sees.append(np.ones(graph.n_hidden, dtype=np.bool_))
        self._places = np.flatnonzero(np.stack(sees))  # of the weights in the matrix (n_visible, n_hidden)
        scale = _scale(init_scale)
        self.weights = nn.Parameter(torch.empty(self._places.size).uniform_(-1, 1).mul_(scale))
        self.couplings = nn.Parameter(torch.empty(graph.n_edges).uniform_(-1, 1).mul_(scale))
        if offset == "auto":
            offset = self._sign * free_energy_alone(graph.n_hidden, self.field, self.beta)
        # float64, so that the bound of Q holds to its last digit
        level = torch.tensor(finite("offset", offset), dtype=torch.float64)
        if trainable_offset:
            self.offset = nn.Parameter(level.to(self.weights.dtype))
        else:
            self.register_buffer("offset", level)
        if self.quadratic:
            self.curvatures = nn.Parameter(torch.zeros(self.n_action))
            self.centres = nn.Parameter(torch.zeros(self.n_action))

    @property
    def n_parameters(self) -> int:
        """Number of trainable scalars."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """Return Q, ``(batch, 1)``, of states ``(batch, n_state)`` and actions ``(batch, n_action)``.

        Raises:
            TypeError: an input is no tensor of real numbers.
            ValueError: an input has the wrong shape or is not finite.
        """
        visible = self._visible(state, action)
        if self.sampler.name == "closed_form":
            value = self._closed_form(visible)
        elif torch.is_grad_enabled():
            value = cast(Tensor, _SignedFreeEnergy.apply(self, visible, self.weights, self.couplings))
        else:
            value = torch.from_numpy(-self._sign * self._free_energy(self._thermal(visible)[0]))
            value = value.to(visible.device)
        value = value + self.offset
        if self.quadratic:
            deviation = visible[:, self.n_state : self.n_state + self.n_action] - self.centres
            value = value - 0.5 * deviation.square() @ functional.softplus(self.curvatures)
        return value.to(visible.dtype)[:, None]

    @torch.no_grad()
    def moments(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return <sz_h>, ``(batch, n_hidden)``, and <sz_h sz_k> of coupled units, ``(batch, n_edges)``.

        Of the ensemble that ``sign`` names, so they are the gradients of Q by biases and couplings. No free energy is
        estimated, which makes them cheaper than ``forward`` where a sampler draws.

        Raises:
            TypeError, ValueError: as ``forward``.
        """
        visible = self._visible(state, action)
        thermal, _ = self._thermal(visible, free_energy=False)
        return _like(thermal.z, visible), _like(thermal.zz, visible)

    @torch.no_grad()
    def action_gradient(self, state: Tensor, action: Tensor) -> Tensor:
        """Return dQ/da, ``(batch, n_action)``, from moments alone: sum_h w_jh <sz_h>, and the quadratic term's part.

        Raises:
            TypeError, ValueError: as ``forward``.
        """
        visible = self._visible(state, action)
        thermal, matrix = self._thermal(visible, free_energy=False)
        chosen = slice(self.n_state, self.n_state + self.n_action)
        gradient = _like(thermal.z @ matrix[chosen].T, visible)
        if self.quadratic:
            gradient -= functional.softplus(self.curvatures) * (visible[:, chosen] - self.centres)
        return gradient

    @torch.no_grad()
    def line_values(self, state: Tensor, levels: Tensor, nodes: int = 8) -> Tensor:
        """Return Q on a line of actions less Q at its first point, ``(batch, n_levels)``, from moments alone.

        Q(b) - Q(a) is the integral of dQ/da over the line from a to b, here by Gauss-Legendre quadrature with ``nodes``
        points between neighbouring levels, all in one request. It answers which action is best where a free energy
        would have to be sampled; the level of Q itself it does not know.

        Args:
            state: ``(batch, n_state)``.
            levels: ``(n_levels, n_action)``, the actions, in the order in which the line passes them.
            nodes: points between two levels.

        Raises:
            TypeError, ValueError: as ``forward``.
        """
        points, weights = (torch.from_numpy(x).to(levels) for x in np.polynomial.legendre.leggauss(nodes))
        step = levels[1:] - levels[:-1]
        middle = 0.5 * (levels[1:] + levels[:-1])
        actions = middle[:, None] + 0.5 * points[:, None] * step[:, None]  # (gaps, nodes, n_action)
        rows, gaps = len(state), len(step)
        states = state.repeat_interleave(gaps * nodes, dim=0)
        slopes = self.action_gradient(states, actions.reshape(gaps * nodes, -1).repeat(rows, 1))
        slopes = slopes.reshape(rows, gaps, nodes, -1)
        rises = 0.5 * torch.einsum("rgna,ga,n->rg", slopes, step.to(slopes), weights.to(slopes))
        return torch.cat([rises.new_zeros(rows, 1), rises.cumsum(1)], dim=1)

    @torch.no_grad()
    def free_energy(self, state: Tensor, action: Tensor) -> Tensor:
        """Return F of the ensemble that ``sign`` names, ``(batch,)``, without offset and quadratic term.

        Raises:
            TypeError, ValueError: as ``forward``.
        """
        visible = self._visible(state, action)
        return _like(self._free_energy(self._thermal(visible)[0]), visible)

    @torch.no_grad()
    def calibrate(self, state: Tensor, action: Tensor, level: float) -> None:
        """Set the offset such that the mean of Q over these states and actions is ``level``.

        Raises:
            TypeError, ValueError: as ``forward``; no state at all; a level that is not finite.
        """
        level = finite("level", level)
        values = self(state, action)
        if not len(values):
            raise ValueError("state: no state to calibrate with; give at least one")
        self.offset += level - values.mean().to(self.offset.dtype)

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        return (
            f"graph={self.graph.name!r}, n_hidden={self.graph.n_hidden}, n_edges={self.graph.n_edges}, "
            f"n_state={self.n_state}, n_action={self.n_action}, field={self.field}, beta={self.beta}, "
            f"sign={self.sign!r}, offset={self.offset.item():.6g}, bias={self.bias}, quadratic={self.quadratic}, "
            f"sampler={self.sampler.name!r}, n_parameters={self.n_parameters}"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> BoltzmannMachine:
        # A target machine shares the sampler, which may hold a connection or an embedding, and the graph.
        memo[id(self.sampler)], memo[id(self.graph)] = self.sampler, self.graph
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin

    def _visible(self, state: Tensor, action: Tensor) -> Tensor:
        """The visible nodes ``(batch, n_visible)`` in the dtype of the weights."""
        for name, value, width in (("state", state, self.n_state), ("action", action, self.n_action)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name}: {type(value).__name__} is not a tensor; use torch.as_tensor")
            if value.dtype.is_complex:
                raise TypeError(f"{name}: {value.dtype} is not real; use float32 or float64")
            if value.ndim != 2 or value.shape[1] != width:
                raise ValueError(f"{name}: shape {tuple(value.shape)} does not fit; use (batch, {width})")
        if len(state) != len(action):
            raise ValueError(f"action: {len(action)} rows against {len(state)} of the state; use as many")
        dtype = self.weights.dtype
        nodes = [state.to(dtype), action.to(dtype)]
        if self.bias:
            nodes.append(nodes[0].new_ones(len(state), 1))
        return torch.cat(nodes, 1)

    def _thermal(self, visible: Tensor, *, free_energy: bool = True) -> tuple[Thermal, Floats]:
        """The sampler's answer, one call for the whole batch, and the matrix of weights ``(n_visible, n_hidden)``."""
        matrix = np.zeros((visible.shape[1], self.graph.n_hidden))
        matrix.flat[self._places] = _array(self.weights)
        biases, couplings = _array(visible) @ matrix, _array(self.couplings)
        problem = Problem(self.graph, self._sign * biases, self._sign * couplings, self.field, self.beta)
        if not len(biases):
            return Thermal(biases, np.zeros((0, couplings.size)), np.zeros(0), Usage()), matrix
        with phase("quantum"):
            thermal = self.sampler.thermal(problem, free_energy=free_energy)
            _count(thermal.usage)
        return thermal, matrix

    def _free_energy(self, thermal: Thermal) -> Floats:
        if thermal.free_energy is None:
            raise ValueError(
                f"sampler: {self.sampler.name!r} returned no free energy; use one that estimates it"
            )
        return thermal.free_energy

    def _closed_form(self, visible: Tensor) -> Tensor:
        """The signed free energy of uncoupled units in torch's own operations, so that all derivatives exist."""
        start = time.perf_counter()
        with phase("quantum"):
            size = visible.shape[1] * self.graph.n_hidden
            places = torch.from_numpy(self._places).to(visible.device)
            matrix = visible.new_zeros(size).index_copy(0, places, self.weights).reshape(visible.shape[1], -1)
            biases = visible.double() @ matrix.double()
            if not math.isfinite(biases.detach().sum().item()):
                raise ValueError("biases: a bias or coupling is not finite; lower the learning rate")
            square = self.field * self.field
            energies = (biases.square() + square).sqrt() if square > 0 else biases
            # ln 2cosh(x) = softplus(2x) - x, smooth also at zero
            doubled = 2.0 * self.beta * energies
            log_2cosh = functional.softplus(doubled, threshold=40) - 0.5 * doubled
            value = log_2cosh.sum(1) * (self._sign / self.beta)
            if n := len(visible):
                _count(Usage(n, n, seconds=time.perf_counter() - start))
        return value


class _SignedFreeEnergy(torch.autograd.Function):
    """Q without its offset, in float64, with gradients from the moments of the same samples."""

    @staticmethod
    def forward(
        ctx: Any, machine: BoltzmannMachine, visible: Tensor, weights: Tensor, couplings: Tensor
    ) -> Tensor:
        thermal, matrix = machine._thermal(visible)
        ctx.machine, ctx.thermal, ctx.matrix = machine, thermal, matrix
        ctx.save_for_backward(visible)
        return torch.from_numpy(-machine._sign * machine._free_energy(thermal)).to(visible.device)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise ValueError(
                "create_graph: True, but this sampler has first derivatives only; leave it out, or use 'closed_form'"
            )
        (visible,) = ctx.saved_tensors
        thermal: Thermal = ctx.thermal
        g = _array(upstream)
        by_biases = g[:, None] * thermal.z
        _, by_visible, by_weights, by_couplings = ctx.needs_input_grad
        return (
            None,
            _like(by_biases @ ctx.matrix.T, visible) if by_visible else None,
            _like((_array(visible).T @ by_biases).ravel()[ctx.machine._places], visible)
            if by_weights
            else None,
            _like(g @ thermal.zz, visible) if by_couplings else None,
        )


def _chosen_sampler(
    sampler: str | Sampler, options: Mapping[str, Any] | None, graph: Graph, field: float
) -> Sampler:
    if not isinstance(sampler, str):
        if not isinstance(sampler, Sampler):
            raise TypeError(f"sampler: {sampler!r} is no sampler; use a name such as 'exact'")
        if options:
            raise ValueError("sampler_options: given beside a sampler that is made already; give them to it")
        return sampler
    if sampler != "auto":
        return get_sampler(sampler, **(options or {}))
    if options:
        raise ValueError("sampler_options: 'auto' takes none; name the sampler they belong to")
    if not graph.n_edges:
        return get_sampler("closed_form")
    if field > 0 and graph.n_hidden > _QUICK_DENSE:
        return get_sampler("sqa")
    exact = get_sampler("exact")
    try:
        exact.check(graph, field)
    except ValueError:
        return get_sampler("sqa")
    return exact


def _scale(value: float) -> float:
    if finite("init_scale", value) < 0:
        raise ValueError(f"init_scale: {value!r} is below 0; use a number of at least 0")
    return float(value)


def _array(values: Tensor) -> Floats:
    """Values in float64, without a copy where they are."""
    return values.detach().to(device="cpu", dtype=torch.float64).numpy()


def _like(values: Floats, other: Tensor) -> Tensor:
    return torch.from_numpy(values).to(device=other.device, dtype=other.dtype)


def _count(usage: Usage) -> None:
    ledger = current()
    if ledger is not None:
        ledger.count(usage)
