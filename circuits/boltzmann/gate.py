r"""A gate-model machine as sampler: a variational thermal state of product spectrum.

    rho = U(theta) [ tensor_h diag(p_h, 1 - p_h) ] U(theta)^dagger

The input is a computational basis state whose bits are drawn from the product of the p_h; the circuit U alternates
between mixer and cost, exp(-i theta X / 2) on each unit and exp(-i theta ZZ / 2), exp(-i theta Z / 2) on each coupling
and unit, every gate with an angle of its own (multi-angle QAOA). The entropy is that of the input, S = sum_h s(p_h),
in closed form, so that

    F_var = tr(rho H) - S / beta  >=  F

holds for any angles (the Gibbs variational principle), and what is minimised could be measured on hardware. The bias
of the free energy therefore has a known sign; that of the moments has not.
Without couplings one layer is exact. At a minimum dF_var/db = -<sz> and dF_var/dJ = -<sz sz> in the state found, so
that moments remain gradients of the free energy that is reported.

Source: product-spectrum ansatz of arXiv:1910.02071; multi-angle QAOA arXiv:2109.11455.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from circuits.backends.protocol import Backend, Usage
from circuits.boltzmann.graphs import Graph
from circuits.boltzmann.protocol import Problem, Thermal, draw_seed
from circuits.boltzmann.reads import Floats, averages
from circuits.circuit import Angle, Circuit, Gate, Term
from circuits.gates import integer
from circuits.observables import Observable

if TYPE_CHECKING:
    from torch import Tensor

_MOST_UNITS = 8  # each step of the optimisation runs all 2^n input states
_SPREAD = (
    0.1  # of the angles at the start, in radians: without it the angles of the couplings start on a saddle
)
_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the couplings, along which a state is followed
_SURE = 6.0  # ln sqrt(p / (1 - p)) at the start at most, beyond which an input bit could no longer be changed


class GateSampler:
    """Moments and free energy of a variational thermal state, prepared by an alternating-operator circuit.

    The angles and the input's probabilities are found for each state by L-BFGS on exact expectation values, from the
    mean-field state and along growing couplings. What that takes is counted: an execution is a circuit execution
    here, as the backend counts it, and its hardware executions are those of the parameter-shift rule. Shots concern
    what is measured in the state found; there each shot has an input of its own. A state of four units takes some
    tenths of a second, one of eight units many seconds.

    On the golden machine of four units (Gamma = 0.5, beta = 2; F = -3.803173) the bias is

    ======  =====  =======  ==========
    layers  of F   of <sz>  of <sz sz>
    ======  =====  =======  ==========
    1       0.021  0.054    0.055
    2       0.010  0.024    0.022
    3       0.008  0.022    0.016
    ======  =====  =======  ==========

    Without a field it does not fall: 0.03 of F and up to 0.15 of moments at one to three layers. It grows with the
    machine: 0.09 of F and up to 0.16 of moments for eight units and two layers.

    Args:
        layers: layers of cost and mixer, at least 1.
        backend: a backend of circuits, or its name; it must differentiate.
        shots: shots for each of the two measurement settings, at least 2; None means exact values of the state found.
        iterations: of each search at full couplings, at most; half as many on the way there.

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is too small, or the backend is unknown or does not differentiate.

    Source: own construction of the parts named above.
    """

    name = "gate"
    exact = False

    def __init__(
        self,
        layers: int = 2,
        backend: str | Backend = "auto",
        shots: int | None = None,
        iterations: int = 300,
    ) -> None:
        from circuits.backends import get_backend

        self.layers = integer("layers", layers, 1)
        self.shots = None if shots is None else integer("shots", shots, 2)
        self.iterations = integer("iterations", iterations, 0)
        self.backend = get_backend(backend) if isinstance(backend, str) else backend
        abilities = self.backend.capabilities
        if not (abilities.differentiable and abilities.exact and (shots is None or abilities.shots)):
            raise ValueError(
                f"backend: {self.backend.name} cannot do what is needed; use 'native' or 'torch'"
            )
        self._machines: dict[str, _Machine] = {}

    def check(self, graph: Graph, field: float) -> None:
        """Refuse machines whose input states are too many to be run in each step of the optimisation."""
        if graph.n_hidden > _MOST_UNITS:
            raise ValueError(
                f"graph: {graph.n_hidden} hidden units have {2**graph.n_hidden} input states; use at most {_MOST_UNITS}"
            )

    def thermal(self, problem: Problem, *, free_energy: bool = True, seed: int | None = None) -> Thermal:
        """Return moments and the variational free energy; see ``circuits.boltzmann.protocol.Sampler``.

        Errors are those of the shots, None without shots; the bias of the state is in none of them, see ``bias``.
        Moments alone cost the same search for a state.

        Raises:
            ValueError: too many hidden units, or an invalid seed.
        """
        self.check(problem.graph, problem.field)
        machine = self._machine(problem.graph)
        seed = 0 if self.shots is None else draw_seed(seed)
        count, units, edges = len(problem.biases), problem.graph.n_hidden, len(problem.graph.edges)
        values, errors = np.zeros((2, count, units + edges))
        energy, energy_error = np.zeros((2, count))
        usage = Usage()
        for row in range(count):
            search = _Search(machine, self.backend, problem, row)
            state = search.run(self.iterations)
            usage += search.usage
            if self.shots is None:
                values[row], energy[row] = state.moments[: units + edges], state.free_energy
                continue
            # Moments alone need no measurement of X.
            observables = machine.observables if free_energy else machine.observables[: units + edges]
            rng = np.random.default_rng((seed, row))
            bits = (rng.random((self.shots, units)) >= state.probabilities).astype(np.float64)
            answer = self.backend.expectations(
                machine.circuit,
                _tensor(state.angles),
                _tensor(bits),
                observables,
                1,
                int(rng.integers(2**63)),
            )
            usage += answer.usage
            outcomes = answer.values.numpy()
            values[row], errors[row] = averages(outcomes[:, : units + edges].T)
            if free_energy:
                mean, energy_error[row : row + 1] = averages((outcomes @ search.coefficients)[None])
                energy[row] = mean[0] - state.entropy / problem.beta
        z, zz = values[:, :units], values[:, units:]
        sampled = self.shots is not None
        return Thermal(
            z,
            zz,
            energy if free_energy else None,
            usage,
            errors[:, :units] if sampled else None,
            errors[:, units:] if sampled else None,
            energy_error if sampled and free_energy else None,
            f"variational free energy, {self.layers} layers, an upper bound",
        )

    def bias(self, problem: Problem) -> dict[str, float]:
        """Return the largest deviations from the exact sampler over the states: free_energy (at least 0), z, zz.

        Args:
            problem: a machine that ``ExactSampler`` can do.
        """
        from circuits.boltzmann.exact import ExactSampler

        found = GateSampler(self.layers, self.backend, None, self.iterations).thermal(problem)
        exact = ExactSampler().thermal(problem)
        assert found.free_energy is not None
        assert exact.free_energy is not None
        return {
            "free_energy": float((found.free_energy - exact.free_energy).max()),
            "z": float(np.abs(found.z - exact.z).max()),
            "zz": float(np.abs(found.zz - exact.zz).max(initial=0.0)),
        }

    def _machine(self, graph: Graph) -> _Machine:
        if graph.digest not in self._machines:
            self._machines[graph.digest] = _Machine.of_graph(graph, self.layers)
        return self._machines[graph.digest]


def thermal_circuit(graph: Graph, layers: int) -> Circuit:
    """Return the circuit that a basis state goes through.

    Features are the bits of the input, ``(n_hidden,)``, 0 for spin +1. The group ``mixers`` holds the angles of RX,
    ``(layers + 1, n_hidden)``, and ``phases`` in each layer those of RZZ, one for each coupling, then of RZ.

    Args:
        graph: the hidden units, one qubit each.
        layers: layers of mixer and cost; a last mixer follows.
    """
    units, edges = graph.n_hidden, [(int(a), int(b)) for a, b in graph.edges]
    mixers, width = (layers + 1) * units, len(edges) + units
    gates = [Gate("RX", (q,), Angle(0.0, (Term(math.pi, None, (q,)),))) for q in range(units)]

    def rotation(name: str, qubits: tuple[int, ...], parameter: int) -> Gate:
        return Gate(name, qubits, Angle(0.0, (Term(parameter=parameter),)))

    for layer in range(layers + 1):
        gates += [rotation("RX", (q,), layer * units + q) for q in range(units)]
        if layer < layers:
            start = mixers + layer * width
            gates += [rotation("RZZ", edge, start + number) for number, edge in enumerate(edges)]
            gates += [rotation("RZ", (q,), start + len(edges) + q) for q in range(units)]
    return Circuit(units, tuple(gates), units, (("mixers", mixers), ("phases", layers * width)))


@dataclass(frozen=True, slots=True, eq=False)
class _Machine:
    """What all states of a graph share: the circuit, Z, ZZ and X of it, and its input states."""

    circuit: Circuit
    observables: tuple[Observable, ...]
    bits: Floats  # (2^n, n)
    layers: int

    @classmethod
    def of_graph(cls, graph: Graph, layers: int) -> _Machine:
        n = graph.n_hidden
        supports: list[tuple[str, tuple[int, ...]]] = [("Z", (q,)) for q in range(n)]
        supports += [("Z", (int(a), int(b))) for a, b in graph.edges]
        supports += [("X", (q,)) for q in range(n)]
        words = ("".join(letter if q in qubits else "I" for q in range(n)) for letter, qubits in supports)
        bits = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.float64)
        return cls(
            thermal_circuit(graph, layers), tuple(Observable(((word, 1.0),)) for word in words), bits, layers
        )


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """A variational state: input probabilities of spin +1, angles, and what it is worth."""

    probabilities: Floats
    angles: Floats
    moments: Floats
    entropy: float
    free_energy: float


class _Search:
    """The minimisation of the free energy of one clamped state."""

    def __init__(self, machine: _Machine, backend: Backend, problem: Problem, row: int) -> None:
        self.machine, self.backend, self.problem, self.row = machine, backend, problem, row
        units = problem.graph.n_hidden
        self.coefficients = -np.concatenate(
            (problem.biases[row], problem.couplings, np.full(units, float(problem.field)))
        )
        self.usage = Usage()

    def run(self, iterations: int) -> _State:
        """Return the best state of two searches and the mean-field state itself.

        One search starts at the mean-field state. It may have broken a symmetry that the thermal state has, so the
        other one starts at the machine without couplings and follows them as they grow.
        """
        mean_field = self._product_state(1.0)
        near = self._minimise(self._disturbed(mean_field), iterations)
        followed = self._disturbed(self._product_state(0.0))
        for share in _SHARES:
            followed = self._minimise(followed, iterations if share == 1.0 else iterations // 2, share)
        states = (self._state(point) for point in (mean_field, near, followed))
        return min(states, key=lambda state: state.free_energy)

    def _minimise(self, point: Floats, iterations: int, share: float = 1.0) -> Floats:
        """Search from a point for the minimum of the machine with a share of its couplings."""
        from scipy.optimize import minimize

        if iterations == 0:
            return point
        options = {"maxiter": iterations, "maxcor": 20}
        coefficients = self.coefficients.copy()
        units, edges = self.problem.biases.shape[1], len(self.problem.couplings)
        coefficients[units : units + edges] *= share
        found = minimize(self._objective, point, (coefficients,), "L-BFGS-B", jac=True, options=options)
        return np.asarray(found.x)

    def _disturbed(self, point: Floats) -> Floats:
        units = self.problem.graph.n_hidden
        noise = np.random.default_rng(0).normal(0.0, _SPREAD, len(point) - units)
        return point + np.concatenate((np.zeros(units), noise))

    def _product_state(self, share: float) -> Floats:
        """The mean-field state with a share of the couplings: ln sqrt(p / (1 - p)) of each input bit, then angles."""
        problem, units = self.problem, self.problem.graph.n_hidden
        first, second = problem.graph.edges.T
        matrix = np.zeros((units, units))
        matrix[first, second] = matrix[second, first] = share * problem.couplings
        z = np.tanh(problem.beta * problem.biases[self.row])
        for _ in range(200):
            along = problem.biases[self.row] + matrix @ z
            strength = np.hypot(along, problem.field)
            cosine = np.divide(along, strength, out=np.zeros(units), where=strength > 0)
            z = 0.5 * (z + cosine * np.tanh(problem.beta * strength))
        angles = np.zeros(self.machine.circuit.n_parameters)
        # RX turns spin up towards -y, and a quarter turn about z takes that to +x, where the field points.
        angles[:units] = np.arctan2(problem.field, along)
        angles[-units:] = math.pi / 2
        return np.concatenate((np.minimum(problem.beta * strength, _SURE), angles))

    def _objective(self, point: Floats, coefficients: Floats) -> tuple[float, Floats]:
        """The free energy and its gradient, for coefficients of Z, ZZ and X in the energy."""
        units, bits = self.problem.graph.n_hidden, self.machine.bits
        logits, angles = point[:units], point[units:]
        weights, entropy = _input(logits, bits)
        answer = self.backend.expectations(
            self.machine.circuit, _tensor(angles), _tensor(bits), self.machine.observables, differentiate=True
        )
        energies = answer.values.numpy() @ coefficients
        assert answer.vjp is not None
        product = answer.vjp(_tensor(np.outer(weights, coefficients)), features=False)
        assert product.parameters is not None
        self.usage += answer.usage + product.usage
        up = 1.0 / (1.0 + np.exp(-2.0 * logits))
        by_logits = (
            2.0 * (weights * energies) @ (1.0 - bits - up)
            + 4.0 * logits * up * (1.0 - up) / self.problem.beta
        )
        value = float(weights @ energies) - entropy / self.problem.beta
        return value, np.concatenate((by_logits, product.parameters.numpy()))

    def _state(self, point: Floats) -> _State:
        units, bits = self.problem.graph.n_hidden, self.machine.bits
        logits, angles = point[:units], point[units:]
        weights, entropy = _input(logits, bits)
        answer = self.backend.expectations(
            self.machine.circuit, _tensor(angles), _tensor(bits), self.machine.observables
        )
        self.usage += answer.usage
        moments = weights @ answer.values.numpy()
        value = float(moments @ self.coefficients) - entropy / self.problem.beta
        return _State(1.0 / (1.0 + np.exp(-2.0 * logits)), angles, moments, entropy, value)


def _input(logits: Floats, bits: Floats) -> tuple[Floats, float]:
    """The weight of each input state, ``(2^n,)``, and the entropy, for p = 1 / (1 + exp(-2 logit))."""
    up, down = -np.logaddexp(0.0, -2.0 * logits), -np.logaddexp(0.0, 2.0 * logits)
    entropy = -float((np.exp(up) * up + np.exp(down) * down).sum())
    return np.exp(((1.0 - bits) * up + bits * down).sum(axis=1)), entropy


def _tensor(values: Floats) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values))
