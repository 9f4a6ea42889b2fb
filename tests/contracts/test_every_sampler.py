"""Every registered sampler of Boltzmann machines: exact values within what it states, shapes, counts, draws, refusals.

One without a row fails here. The oracle is the exponential of a matrix that is made of Kronecker products. Statistical
bounds are 4.5 standard errors at fixed seeds: a fresh seed would fail one comparison with probability 7e-6, and the
file's 190 of them with 0.13 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import expm

import qrl
from circuits.backends.protocol import Usage
from circuits.boltzmann import SAMPLERS, Graph, Problem, Sampler, Thermal, build_graph, get_sampler

SQUARE = build_graph(
    "custom", n=4, edges=[(0, 2), (0, 3), (1, 2), (1, 3)], state_sees=[0, 1], action_sees=[2, 3]
)
ALONE = build_graph("uncoupled", n=4)
BETA = 2.0
# the golden machine, another state, and one in which two units see nothing
BIASES = np.array([[0.3, -0.2, -0.3, -0.8], [-0.5, 0.1, 0.7, 0.4], [0.0, 0.6, 0.0, 0.2]])
COUPLINGS = np.array([0.5, -0.7, 0.2, 0.9])
X, Z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])


def annealer(reads: int = 2000) -> Sampler:
    """The annealer's sampler on a mock processor that draws at four times the inverse temperature of its unit."""
    dimod = pytest.importorskip("dimod")
    pytest.importorskip("minorminer")
    mock = pytest.importorskip("dwave.system.testing").MockDWaveSampler

    class Annealer(mock):  # type: ignore[misc, valid-type]
        """The mock's graph and limits; its own reads are ground states, these are exact draws."""

        rng = np.random.default_rng(0)

        def sample(self, bqm: Any, num_reads: int = 1, **options: Any) -> Any:
            order = list(bqm.variables)
            states = np.array(list(product((-1, 1), repeat=len(order))), dtype=np.int8)
            energies = bqm.energies((states, order))
            weights = np.exp(-4.0 * (energies - energies.min()))
            rows = self.rng.choice(len(states), num_reads, p=weights / weights.sum())
            return dimod.SampleSet.from_samples_bqm((states[rows], order), bqm)

    child = Annealer(topology_type="chimera", topology_shape=[2, 2, 4], parameter_warnings=False)
    return get_sampler("dwave", child=child, reads=reads, effective_beta=4.0)


@dataclass(frozen=True)
class Row:
    """A sampler and what it promises.

    Attributes:
        make: builds it.
        quick: builds it with settings that are too coarse for its values, for everything else.
        graph: hidden units of a machine that it serves.
        bias: by field, of free energy and moments beyond the standard error.
        refused: a maker, a graph and a field that it must refuse, and what its message begins with.
        draws: whether answers depend on a seed; None where they are drawn and no seed decides.
        errors: whether it gives standard errors.
        rows_apart: whether a state's answer is the same with other states beside it.
    """

    make: Callable[[], Sampler]
    quick: Callable[[], Sampler]
    graph: Graph
    bias: dict[float, tuple[float, float]]
    refused: tuple[Callable[[], Sampler], Graph, float, str]
    draws: bool | None
    errors: bool
    rows_apart: bool = True

    @property
    def field(self) -> float:
        """The largest field."""
        return max(self.bias)


def named(name: str, **options: Any) -> Callable[[], Sampler]:
    return lambda: get_sampler(name, **options)


NONE = (1e-12, 1e-12)
SLICES = 32
# Trotter error of F, N / 3 (beta Gamma / r)^2, about twice what the golden machine has; that of moments is as small
TROTTER = (4 / 3 * (BETA * 0.5 / SLICES) ** 2,) * 2
# of these states with two layers; the sampler's own table has the first of them, 0.010 and 0.024
VARIATIONAL = {0.0: (0.04, 0.16), 0.5: (0.03, 0.08)}
GATE_REFUSES = (named("gate"), build_graph("layered", widths=[5, 4]), 0.0, "graph")

ROWS = {
    "exact": {
        "exact": Row(
            named("exact"),
            named("exact"),
            SQUARE,
            {0.0: NONE, 0.5: NONE},
            (named("exact"), build_graph("complete", n=13), 0.5, "sampler"),
            draws=False,
            errors=False,
        )
    },
    "closed_form": {
        "closed_form": Row(
            named("closed_form"),
            named("closed_form"),
            ALONE,
            {0.0: NONE, 0.5: NONE},
            (named("closed_form"), SQUARE, 0.5, "sampler"),
            draws=False,
            errors=False,
        )
    },
    "sqa": {
        "sqa": Row(
            named("sqa", slices=SLICES, reads=128, sweeps=200),
            named("sqa", slices=4, reads=6, sweeps=20, burn_in=10, ais_steps=5),
            SQUARE,
            {0.0: NONE, 0.5: TROTTER},
            (named("sqa", schedule="linear", initial_field=0.2), SQUARE, 0.5, "initial_field"),
            draws=True,
            errors=True,
        )
    },
    "ocean": {
        "ocean": Row(
            named("ocean", reads=600, sweeps=100),
            named("ocean", reads=10, sweeps=10, nodes=1),
            SQUARE,
            {0.0: NONE, 0.5: NONE},
            (named("ocean", method="simulated_annealing"), SQUARE, 0.5, "field"),
            draws=True,
            errors=True,
        )
    },
    "dwave": {
        "dwave": Row(
            annealer,
            lambda: annealer(reads=20),
            SQUARE,
            {0.0: NONE},  # the field of an annealer is virtual: nothing is promised about it
            (
                lambda: get_sampler("dwave", child=object(), estimator="stacked", slices=2),
                SQUARE,
                0.0,
                "slices",
            ),
            draws=None,
            errors=True,
            rows_apart=False,
        )
    },
    "gate": {
        "gate": Row(
            named("gate"),
            named("gate", layers=1, iterations=6),
            SQUARE,
            VARIATIONAL,
            GATE_REFUSES,
            draws=False,
            errors=False,
        ),
        "gate-shots": Row(
            named("gate", shots=4000),
            named("gate", layers=1, iterations=6, shots=20),
            SQUARE,
            VARIATIONAL,
            GATE_REFUSES,
            draws=True,
            errors=True,
        ),
    },
}
CASES = {case: row for rows in ROWS.values() for case, row in rows.items()}
MACHINES = [(case, field) for case, row in CASES.items() for field in row.bias]
every_case = pytest.mark.parametrize("case", CASES)
every_machine = pytest.mark.parametrize(("case", "field"), MACHINES)


@pytest.fixture(autouse=True)
def _extras(request: pytest.FixtureRequest) -> None:
    case = request.node.callspec.params.get("case") if hasattr(request.node, "callspec") else None
    if case == "ocean":
        pytest.importorskip("dwave.samplers")
    if case == "dwave":
        pytest.importorskip("dwave.system")


def problem(row: Row, field: float, states: slice = slice(None)) -> Problem:
    return Problem(row.graph, BIASES[states], COUPLINGS[: row.graph.n_edges], field, BETA)


def on(factors: dict[int, np.ndarray]) -> np.ndarray:
    return reduce(np.kron, (factors.get(h, np.eye(2)) for h in range(4)))


def oracle(question: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F ``(N,)``, <z> and <zz> from rho = exp(-beta H) / Z itself."""
    z, x = [on({h: Z}) for h in range(4)], [on({h: X}) for h in range(4)]
    zz = [on({i: Z, j: Z}) for i, j in question.graph.edges.tolist()]
    energies, singles, pairs = [], [], []
    for biases in question.biases:
        matrix = -question.field * sum(x)
        for value, term in zip((*biases, *question.couplings), (*z, *zz), strict=True):
            matrix = matrix - value * term
        rho = expm(-question.beta * matrix)
        energies.append(-np.log(np.trace(rho)) / question.beta)
        singles.append([np.trace(rho @ term) / np.trace(rho) for term in z])
        pairs.append([np.trace(rho @ term) / np.trace(rho) for term in zz])
    return np.array(energies), np.array(singles), np.array(pairs).reshape(len(energies), -1)


def arrays(thermal: Thermal) -> list[np.ndarray]:
    """All numbers that were found."""
    names = ("z", "zz", "free_energy", "z_error", "zz_error", "free_energy_error")
    return [value for name in names if (value := getattr(thermal, name)) is not None]


def equal(one: Thermal, other: Thermal) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True))


def counts(usage: Usage) -> tuple[int, int, int]:
    return usage.executions, usage.hardware_executions, usage.shots


def machine(row: Row, field: float, sampler: Sampler | str) -> qrl.BoltzmannMachine:
    torch.manual_seed(2)
    return qrl.BoltzmannMachine(
        row.graph, 1, 1, field=field, beta=BETA, init_scale=0.5, sampler=sampler
    ).double()


def inputs(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    state = torch.linspace(-0.9, 0.7, n, dtype=torch.float64)[:, None]
    return state, 1.0 - 1.5 * state.abs()


def test_every_sampler_has_a_row():
    assert set(ROWS) == set(SAMPLERS)


@every_case
def test_it_is_a_sampler_of_its_name(case):
    sampler = CASES[case].make()
    assert isinstance(sampler, Sampler)
    assert case in ROWS[sampler.name]
    assert sampler.exact == (CASES[case].draws is False and set(CASES[case].bias.values()) == {NONE})


@every_machine
def test_moments_and_free_energy_are_those_of_the_matrix_exponential(case, field):
    row = CASES[case]
    question = problem(row, field)
    found, (free_energy, z, zz) = row.make().thermal(question, seed=1), oracle(question)
    of_energy, of_moments = row.bias[field]
    expected = {"free_energy": (free_energy, of_energy), "z": (z, of_moments), "zz": (zz, of_moments)}
    for name, (value, bias) in expected.items():
        error = getattr(found, f"{name}_error")
        allowed = bias + (0.0 if error is None else 4.5 * error)
        assert np.all(np.abs(getattr(found, name) - value) <= allowed), name
    if "upper bound" in found.estimator:
        slack = 1e-9 if found.free_energy_error is None else 4.5 * found.free_energy_error
        assert np.all(found.free_energy >= free_energy - slack)
    if row.errors:  # or the comparison would say nothing
        assert max(found.z_error.max(), found.zz_error.max(initial=0.0), found.free_energy_error.max()) < 0.06


@every_machine
def test_answers_have_the_stated_shapes_and_types(case, field):
    row = CASES[case]
    question = problem(row, field)
    found = row.quick().thermal(question, seed=1)
    shapes = {"z": (3, 4), "zz": (3, row.graph.n_edges), "free_energy": (3,)}
    for name, shape in shapes.items():
        value, error = getattr(found, name), getattr(found, f"{name}_error")
        assert (value.shape, value.dtype) == (shape, np.float64), name
        assert (error is not None) == row.errors, name
        if error is not None:
            assert (error.shape, error.dtype) == (shape, np.float64), name
            assert np.all(error >= 0), name
    assert np.abs(found.z).max() <= 1 + 1e-12
    assert np.abs(found.zz).max(initial=0.0) <= 1 + 1e-12
    assert found.estimator
    alone = row.quick().thermal(question, free_energy=False, seed=1)
    assert (alone.free_energy, alone.free_energy_error) == (None, None)
    assert (alone.z.shape, alone.zz.shape) == (shapes["z"], shapes["zz"])


@every_case
def test_counts_are_positive_add_up_and_grow_with_the_free_energy(case):
    row = CASES[case]
    sampler, field = row.quick(), row.field
    whole, first, rest = (
        sampler.thermal(problem(row, field, states), seed=1).usage
        for states in (slice(0, 3), slice(0, 1), slice(1, 3))
    )
    assert min(counts(whole)[:2]) > 0
    assert whole.seconds > 0
    assert (whole.shots > 0) == (row.draws is not False)
    # what a search takes depends on where it starts, never on its neighbours
    assert counts(first + rest) == counts(whole)
    alone = sampler.thermal(problem(row, field), free_energy=False, seed=1).usage
    assert all(a <= b for a, b in zip(counts(alone), counts(whole), strict=True))


@pytest.mark.parametrize("case", [case for case, row in CASES.items() if row.draws is not None])
def test_a_seed_decides_everything_that_is_drawn(case):
    row = CASES[case]
    sampler, question = row.quick(), problem(row, row.field, slice(0, 2))
    first = sampler.thermal(question, seed=5)
    assert equal(first, sampler.thermal(question, seed=5))
    assert equal(first, row.quick().thermal(question, seed=5))
    assert equal(first, sampler.thermal(question, seed=6)) == (not row.draws)
    torch.manual_seed(8)
    unseeded = sampler.thermal(question)
    following = sampler.thermal(question)
    torch.manual_seed(8)
    assert equal(unseeded, sampler.thermal(question))
    assert equal(unseeded, following) == (not row.draws)


@pytest.mark.parametrize("case", [case for case, row in CASES.items() if row.rows_apart])
def test_a_state_does_not_see_the_states_after_it(case):
    row = CASES[case]
    sampler, field = row.quick(), row.field
    question = problem(row, field)
    few, many = (sampler.thermal(q, seed=3) for q in (problem(row, field, slice(0, 1)), question))
    other = replace(question, biases=np.concatenate((BIASES[:1], -BIASES[1:])))
    changed = sampler.thermal(other, seed=3)
    for answers in zip(arrays(few), arrays(many), arrays(changed), strict=True):
        for answer in answers[1:]:
            np.testing.assert_allclose(answer[:1], answers[0], rtol=0, atol=1e-13)


@every_case
def test_what_it_cannot_serve_is_refused_in_one_line(case):
    make, graph, field, name = CASES[case].refused
    sampler = make()
    calls = (
        lambda: sampler.check(graph, field),
        lambda: sampler.thermal(
            Problem(graph, np.zeros((1, graph.n_hidden)), np.zeros(graph.n_edges), field, BETA)
        ),
        lambda: qrl.BoltzmannMachine(graph, 1, 1, field=field, sampler=sampler),
    )
    for call in calls:
        with pytest.raises(ValueError, match=rf"^{name}: .+; .+$") as refusal:
            call()
        assert "\n" not in str(refusal.value)
    row = CASES[case]
    for served in row.bias:
        row.quick().check(row.graph, served)


@every_case
def test_an_empty_batch_costs_nothing_and_has_gradients(case):
    row = CASES[case]
    module = machine(row, row.field, row.quick())
    state, action = (x[:0].requires_grad_() for x in inputs(1))
    with qrl.Ledger("sampler", 0, "empty", meters=()) as ledger:
        value = module(state, action)
        value.sum().backward()
        singles, pairs = module.moments(state, action)
        slope = module.action_gradient(state, action)
        with torch.no_grad():
            assert module(state, action).shape == (0, 1)
        totals = ledger.totals()
    assert (value.shape, slope.shape) == ((0, 1), (0, 1))
    assert (singles.shape, pairs.shape) == ((0, 4), (0, row.graph.n_edges))
    assert state.grad.shape == (0, 1)
    assert not module.weights.grad.any()
    assert totals.get("executions", 0) == 0


@every_machine
def test_a_module_learns_and_its_ledger_counts(case, field):
    row = CASES[case]
    module, twin = machine(row, field, row.make()), machine(row, field, "exact")
    state, action = inputs(2)
    target = torch.tensor([[-2.0], [-0.5]], dtype=torch.float64)

    def loss(q: torch.nn.Module) -> torch.Tensor:
        return (q(state, action) - target).square().mean()

    twin.load_state_dict(module.state_dict())
    before = loss(twin)
    slopes = torch.autograd.grad(before, [twin.weights, twin.couplings])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    with qrl.Ledger("sampler", 0, "step", meters=()) as ledger:
        loss(module).backward()
        totals = ledger.totals()
    assert totals["executions"] > 0
    found = torch.cat(
        [module.weights.grad, torch.zeros(0) if row.graph.n_edges == 0 else module.couplings.grad]
    )
    likeness = torch.nn.functional.cosine_similarity(found, torch.cat(slopes), dim=0).item()
    assert likeness > (1 - 1e-12 if module.sampler.exact else 0.9)
    optimizer.step()
    twin.load_state_dict(module.state_dict())
    assert loss(twin) < before.detach() - 0.01
