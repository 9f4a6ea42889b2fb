r"""Free energies by thermodynamic integration along the couplings.

A free energy is no moment, so that no average over one ensemble gives it. For any transverse field the ensembles
whose couplings are scaled by a factor between 0 and 1 join the machine to the uncoupled one, whose F is closed:

    F = F_0 - int_0^1 < sum_hk J_hk sz_h sz_k >_l dl,      F_0 = -(1/beta) sum_h ln 2cosh(beta sqrt(b_h^2 + Gamma^2))

where the average at l is taken with the couplings l J, and b, Gamma and beta stay as they are. The Gauss-Lobatto
rule looks at both ends. There the integrand costs nothing more: at 0 it is closed, at 1 it consists of the moments
that are wanted anyway. So n inner points cost n further ensembles, and the rule is exact for polynomials up to
degree 2 n + 1. The estimate is linear in the averages, hence without bias but for the rule's own error.

Source: dF/dl is the average of dH/dl, the derivative of a trace; F of one spin as in arXiv:1706.00074.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.polynomial import Legendre
from numpy.typing import NDArray

from circuits.boltzmann.protocol import Problem

Floats = NDArray[np.float64]


def lobatto(inner: int) -> tuple[Floats, Floats]:
    """Return the points and weights of the Gauss-Lobatto rule on [0, 1], each ``(inner + 2,)``, both ends included.

    Args:
        inner: number of points between the ends, at least 0.
    """
    order = inner + 1
    legendre = Legendre.basis(order)
    points = np.concatenate(([-1.0], np.sort(legendre.deriv().roots().real), [1.0]))
    weights = 2.0 / (order * (order + 1) * legendre(points) ** 2)
    return (points + 1.0) / 2.0, weights / 2.0


def inner_problems(problem: Problem, inner: int) -> list[Problem]:
    """Return the problem with its couplings scaled by each inner point of the rule, in ascending order."""
    points, _ = lobatto(inner)
    return [replace(problem, couplings=point * problem.couplings) for point in points[1:-1]]


def uncoupled(problem: Problem) -> tuple[Floats, Floats]:
    """Return F, ``(N,)``, and <sz>, ``(N, n_hidden)``, of the machine without its couplings, in closed form."""
    strength = np.hypot(problem.biases, problem.field)
    log_2cosh = np.logaddexp(problem.beta * strength, -problem.beta * strength)
    # At strength 0 the limit is that of tanh(beta W) / W.
    alone = strength == 0.0
    slope = np.where(alone, problem.beta, np.tanh(problem.beta * strength) / np.where(alone, 1.0, strength))
    return -log_2cosh.sum(axis=1) / problem.beta, problem.biases * slope


def integrate(problem: Problem, works: Floats, errors: Floats | None = None) -> tuple[Floats, Floats | None]:
    """Return the free energy and its standard error, each ``(N,)``.

    Args:
        problem: the machine.
        works: averages of sum_hk J_hk sz_h sz_k, with the full couplings J, in the ensembles of ``inner_problems``
            and, last, of the problem itself, ``(inner + 1, N)``.
        errors: their standard errors, independent of each other; None where the averages are exact.

    The error of the rule is not in the standard error; it falls exponentially with the number of points.
    """
    _, weights = lobatto(len(works) - 1)
    start, z = uncoupled(problem)
    first, second = problem.graph.edges.T
    free = (z[:, first] * z[:, second]) @ problem.couplings
    energy = start - weights[0] * free - weights[1:] @ works
    return energy, None if errors is None else np.sqrt(weights[1:] ** 2 @ errors**2)
