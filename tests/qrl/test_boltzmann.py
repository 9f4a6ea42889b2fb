"""BoltzmannMachine: golden values, gradients, symmetry and curvature, offset, dtypes, counts, refusals."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.backends.protocol import Usage
from circuits.boltzmann import Thermal, build_graph, get_sampler
from qrl.boltzmann import BoltzmannMachine
from qrl.ledger import Ledger

GOLDEN = build_graph(
    "custom", n=4, edges=[[0, 2], [0, 3], [1, 2], [1, 3]], state_sees=[0, 1], action_sees=[2, 3]
)
CELLS = build_graph("chimera", rows=1, columns=2)
TRIANGLE = build_graph("custom", n=3, edges=[[0, 1], [1, 2], [0, 2]], state_sees=[0, 1], action_sees=[1, 2])
KINDS = {
    "field": (TRIANGLE, {"field": 0.7}),
    "no field": (TRIANGLE, {"field": 0.0}),
    "closed form": (build_graph("uncoupled", n=3), {"field": 0.4}),
    "closed form, no field": (build_graph("uncoupled", n=3), {"field": 0.0}),
}


class Recorder:
    """A sampler that keeps what it was asked, and answers as the exact one."""

    name, exact = "recorder", False

    def __init__(self) -> None:
        self.asked: list[tuple[int, bool]] = []

    def check(self, graph, field) -> None:
        pass

    def thermal(self, problem, *, free_energy=True, seed=None) -> Thermal:
        self.asked.append((len(problem.biases), free_energy))
        return get_sampler("exact").thermal(problem, free_energy=free_energy)


def golden(**options) -> BoltzmannMachine:
    machine = BoltzmannMachine(GOLDEN, 1, 1, field=0.5, beta=2.0, **options).double()
    with torch.no_grad():
        machine.couplings.copy_(torch.tensor([0.5, -0.7, 0.2, 0.9], dtype=torch.float64))
        machine.weights.copy_(torch.tensor([0.6, -0.4, 0.3, 0.8], dtype=torch.float64))
    return machine


def make(
    kind: str = "field", n_state: int = 2, n_action: int = 2, seed: int = 0, **options
) -> BoltzmannMachine:
    torch.manual_seed(seed)
    graph, settings_ = KINDS[kind]
    return BoltzmannMachine(graph, n_state, n_action, **{"beta": 1.5, **settings_, **options}).double()


def inputs(batch: int, *widths: int, seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.rand(batch, w, generator=generator, dtype=torch.float64) - 1 for w in widths]


S, A = torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[-1.0]], dtype=torch.float64)


def test_golden_value_and_input_gradients():
    machine = golden(sign="negative", offset=0.0)
    s, a = S.clone().requires_grad_(), A.clone().requires_grad_()
    q = machine(s, a)
    q.sum().backward()
    assert q.item() == pytest.approx(3.803173220665, abs=5e-13)
    assert s.grad.item() == pytest.approx(0.796050997, abs=5e-10)
    assert a.grad.item() == pytest.approx(-0.779968710, abs=5e-10)
    assert machine.action_gradient(S, A).item() == pytest.approx(-0.779968710, abs=5e-10)
    z, zz = machine.moments(S, A)
    assert machine.couplings.grad.tolist() == zz[0].tolist()
    np.testing.assert_allclose(z[0], [0.755290883, -0.857191168, -0.095705300, -0.939071400], atol=5.01e-10)
    np.testing.assert_allclose(zz[0], [0.07477902, -0.75835683, 0.10817940, 0.85603420], atol=5.01e-9)
    expected = [0.5 * z[0, 0], 0.5 * z[0, 1], -z[0, 2], -z[0, 3]]
    np.testing.assert_allclose(machine.weights.grad, expected, rtol=1e-14)


def test_golden_value_of_the_mirrored_machine():
    machine = golden(offset=0.0)
    assert machine(S, A).item() == pytest.approx(-3.270443581, abs=5e-10)
    assert machine.free_energy(S, A).item() == pytest.approx(-3.270443581, abs=5e-10)
    assert golden().offset.item() == pytest.approx(4 / 2 * math.log(2 * math.cosh(2 * 0.5)), rel=1e-14)


@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sign", ["mirrored", "negative"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_finite_differences(kind, sign, bias, quadratic):
    machine = make(kind, sign=sign, bias=bias, quadratic=quadratic, trainable_offset=True)
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.add_(0.1)
    names = [name for name, _ in machine.named_parameters()]

    def q(state: torch.Tensor, action: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(machine, dict(zip(names, values, strict=True)), (state, action))

    given_ = [value.requires_grad_() for value in inputs(3, 2, 2)]
    assert torch.autograd.gradcheck(q, (*given_, *machine.parameters()))
    state, action = given_
    (by_action,) = torch.autograd.grad(machine(state, action).sum(), action)
    torch.testing.assert_close(machine.action_gradient(state, action), by_action, rtol=1e-12, atol=1e-13)
    assert not machine.action_gradient(state, action).requires_grad


@pytest.mark.parametrize("kind", ["closed form", "closed form, no field"])
def test_the_closed_form_has_second_derivatives_and_the_exact_samplers_numbers(kind):
    machine = make(kind, quadratic=True)
    state, action = (value.requires_grad_() for value in inputs(4, 2, 2))
    assert torch.autograd.gradgradcheck(machine, (state, action))
    twin = make(kind, quadratic=True, sampler="exact")
    results = []
    for each in (machine, twin):
        q = each(state, action)
        results.append((q, *torch.autograd.grad(q.sin().sum(), [state, action, *each.parameters()][:3])))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    with pytest.raises(ValueError, match="create_graph: True, but this sampler has first derivatives only"):
        torch.autograd.grad(twin(state, action).sum(), action, create_graph=True)


def test_the_closed_form_is_differentiable_where_nothing_acts():
    machine = make("closed form, no field")
    state, action = (torch.zeros(1, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    machine(state, action).sum().backward()
    assert action.grad.eq(0).all()
    steep = make("closed form, no field", init_scale=1e4)
    value = steep(*inputs(5, 2, 2))
    value.sum().backward()
    assert value.isfinite().all()
    assert steep.weights.grad.isfinite().all()


def test_weights_come_node_by_node_and_in_the_order_of_units():
    machine = make(n_state=1, n_action=1, bias=True)
    assert machine.weights.shape == (2 + 2 + 3,)
    with torch.no_grad():
        machine.weights.copy_(torch.arange(1.0, 8.0))
    state, action = inputs(1, 1, 1)
    machine(state, action).sum().backward()
    z, s, a = machine.moments(state, action)[0][0], state.item(), action.item()
    expected = [s * z[0], s * z[1], a * z[1], a * z[2], z[0], z[1], z[2]]
    np.testing.assert_allclose(machine.weights.grad, expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("rows", "columns", "n_state", "n_action", "total"),
    [(1, 2, 1, 1, 52), (1, 2, 8, 1, 108), (2, 2, 4, 1, 160), (2, 3, 10, 10, 604), (3, 3, 10, 10, 912)],
)
def test_the_number_of_parameters_is_the_published_one(rows, columns, n_state, n_action, total):
    graph = build_graph("chimera", rows=rows, columns=columns)
    machine = BoltzmannMachine(graph, n_state, n_action, sampler=Recorder())
    assert machine.n_parameters == total
    machine.weights.requires_grad_(False)
    assert machine.n_parameters == graph.n_edges


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(KINDS)), st.integers(0, 2**31), st.sampled_from(["mirrored", "negative"]))
def test_q_is_even_without_a_bias_node_and_only_then(kind, seed, sign):
    state, action = inputs(5, 2, 2, seed=seed)
    machine = make(kind, seed=seed, sign=sign)
    torch.testing.assert_close(machine(state, action), machine(-state, -action), rtol=0, atol=1e-12)
    broken = make(kind, seed=seed, sign=sign, bias=True)
    assert (broken(state, action) - broken(-state, -action)).abs().max() > 1e-6


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(KINDS)),
    st.integers(0, 2**31),
    st.booleans(),
    st.floats(0.3, 3.0),
    st.floats(0.1, 4.0),
)
def test_q_is_concave_where_mirrored_and_convex_where_negative(kind, seed, bias, beta, scale):
    left, right = inputs(6, 2, 2, seed=seed), inputs(6, 2, 2, seed=seed + 1)
    middle = [(a + b) / 2 for a, b in zip(left, right, strict=True)]
    for sign, direction in (("mirrored", 1), ("negative", -1)):
        q = make(kind, seed=seed, sign=sign, bias=bias, beta=beta, init_scale=scale)
        bulge = q(*middle) - (q(*left) + q(*right)) / 2
        assert (direction * bulge).min() >= -1e-11


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(KINDS)), st.integers(0, 2**31), st.floats(0.1, 3.0), st.floats(0.0, 5.0))
def test_the_automatic_offset_bounds_q_by_zero(kind, seed, beta, scale):
    state, action = inputs(5, 2, 2, seed=seed)
    options = {"seed": seed, "beta": beta, "init_scale": scale, "bias": True}
    assert make(kind, **options)(state, action).max() <= 1e-12
    assert make(kind, sign="negative", **options)(state, action).min() >= -1e-12
    options["init_scale"] = 0.0
    assert make(kind, **options)(state, action).abs().max() <= 1e-12


def test_a_common_factor_is_a_redundant_freedom():
    machine = golden(offset=0.0)
    scaled = BoltzmannMachine(GOLDEN, 1, 1, field=0.5 * 3, beta=2.0 / 3, offset=0.0).double()
    with torch.no_grad():
        for one, other in zip(scaled.parameters(), machine.parameters(), strict=True):
            one.copy_(3 * other)
    torch.testing.assert_close(scaled(S, A), 3 * machine(S, A), rtol=1e-13, atol=0)


def test_the_quadratic_term():
    plain, machine = make(), make(quadratic=True)
    state, action = inputs(4, 2, 2)
    with torch.no_grad():
        machine.curvatures.copy_(torch.tensor([0.3, -1.0]))
        machine.centres.copy_(torch.tensor([0.2, -0.5]))
    kappa = np.log1p(np.exp([0.3, -1.0]))
    extra = -0.5 * ((action.numpy() - [0.2, -0.5]) ** 2 * kappa).sum(1)
    np.testing.assert_allclose(
        (machine(state, action) - plain(state, action))[:, 0].detach(), extra, atol=1e-13
    )


def test_calibration_sets_the_mean_over_the_given_states():
    state, action = inputs(20, 2, 2)
    for options in ({}, {"trainable_offset": True}, {"sign": "negative"}):
        machine = make(init_scale=5.0, **options)
        before = machine(state, action)
        machine.calibrate(state, action, -12.5)
        assert machine(state, action).mean().item() == pytest.approx(-12.5, abs=1e-12)
        shift = machine(state, action) - before
        torch.testing.assert_close(shift, shift[:1].expand_as(shift))
    with pytest.raises(ValueError, match="level: nan is not finite"):
        machine.calibrate(state, action, math.nan)
    with pytest.raises(ValueError, match="state: no state"):
        machine.calibrate(state[:0], action[:0], 0.0)


def test_the_offset_is_a_number_a_buffer_or_a_parameter():
    assert make(offset=-3).offset.item() == -3
    assert "offset" in dict(make().named_buffers())
    assert "offset" in dict(make(trainable_offset=True).named_parameters())
    machine = make(trainable_offset=True)
    machine(*inputs(3, 2, 2)).sum().backward()
    assert machine.offset.grad.item() == 3
    other = make(seed=5, offset=1.0)
    other.load_state_dict(make().state_dict())
    torch.testing.assert_close(other(*inputs(3, 2, 2)), make()(*inputs(3, 2, 2)), rtol=0, atol=0)


def test_initial_weights_are_uniform_in_the_scale_and_seeded():
    torch.manual_seed(0)
    graph = build_graph("layered", widths=[60, 60])
    machine = BoltzmannMachine(graph, 10, 10, init_scale=5.0, sampler=Recorder())
    for parameter in machine.parameters():
        assert -5 <= parameter.min() < -4.5
        assert 4.5 < parameter.max() <= 5
    assert torch.equal(make(seed=4).weights, make(seed=4).weights)
    assert not torch.equal(make(seed=4).weights, make(seed=5).weights)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_follows_float64(kind):
    machine = make(kind, quadratic=True)
    state, action = inputs(6, 2, 2)
    single = copy.deepcopy(machine).float()
    low = [state.float(), action.float().requires_grad_()]
    q = single(*low)
    assert q.dtype == torch.float32
    torch.testing.assert_close(q.double(), machine(state, action), rtol=1e-5, atol=1e-5)
    q.sum().backward()
    assert single.weights.grad.dtype == low[1].grad.dtype == torch.float32
    torch.testing.assert_close(
        low[1].grad.double(), machine.action_gradient(state, action), rtol=1e-5, atol=1e-5
    )
    assert single.action_gradient(state, action).dtype == torch.float32
    assert machine(state.float(), action.float()).dtype == torch.float64
    assert single.free_energy(state, action).shape == (6,)


@pytest.mark.parametrize("kind", KINDS)
def test_acting_builds_no_graph_and_an_empty_batch_is_fine(kind):
    machine = make(kind)
    state, action = inputs(4, 2, 2)
    with torch.no_grad():
        q = machine(state, action)
    assert q.grad_fn is None
    torch.testing.assert_close(q, machine(state, action).detach(), rtol=0, atol=1e-14)
    with Ledger("run", 0, "agent") as ledger:
        assert machine(state[:0], action[:0]).shape == (0, 1)
        machine(state[:0], action[:0]).sum().backward()
        assert machine.action_gradient(state[:0], action[:0]).shape == (0, 2)
        assert [z.shape[0] for z in machine.moments(state[:0], action[:0])] == [0, 0]
        assert ledger.totals()["executions"] == 0
    assert machine.weights.grad.eq(0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_spin_system_is_counted_in_the_quantum_phase(kind):
    machine = make(kind)
    state, action = inputs(7, 2, 2)
    with Ledger("run", 0, "agent") as ledger:
        with ledger.phase("learn"):
            machine(state, action).sum().backward()  # the way back costs nothing: the moments are there
            machine.action_gradient(state[:2], action[:2])
            machine.moments(state[:1], action[:1])
        records = ledger.close_window(1)
    counts = {r.phase: (r.q.sim_executions, r.q.hw_executions) for r in records if r.q.sim_executions}
    assert counts == {"quantum": (10, 10)}


def test_one_call_a_batch_and_no_free_energy_where_moments_do():
    sampler = Recorder()
    machine = make(sampler=sampler)
    state, action = inputs(9, 2, 2)
    machine(state, action).sum().backward()
    machine.action_gradient(state, action)
    machine.moments(state, action)
    machine.free_energy(state, action)
    assert sampler.asked == [(9, True), (9, False), (9, False), (9, True)]
    target = copy.deepcopy(machine)
    assert target.sampler is sampler
    assert target.graph is machine.graph
    with torch.no_grad():
        target.weights.zero_()
    assert machine.weights.ne(0).all()


@pytest.mark.parametrize("sign", ["mirrored", "negative"])
@pytest.mark.parametrize("quadratic", [False, True])
def test_values_on_a_line_are_differences_of_q(sign, quadratic):
    """The integral of the moments between actions is what free energies differ by."""
    machine = make("field", sign=sign, quadratic=quadratic, sampler="exact")
    (state,) = inputs(5, 2)
    levels = torch.tensor([[-1.0, 0.5], [-0.2, 0.5], [0.3, -0.4], [1.0, 1.0]], dtype=torch.float64)
    values = machine.line_values(state, levels, nodes=16)
    with torch.no_grad():
        exact = torch.cat([machine(state, level.expand(5, 2)) for level in levels], dim=1)
    torch.testing.assert_close(values, exact - exact[:, :1], rtol=0.0, atol=1e-8)
    coarse = machine.line_values(state, levels, nodes=1)
    assert (coarse - values).abs().max() > 1e-3


def test_values_on_a_line_ask_a_sampler_that_draws_for_no_free_energy():
    options = {"sampler": "sqa", "sampler_options": {"sweeps": 400}}
    machine = make("field", n_action=1, **options)
    (state,) = inputs(6, 2)
    levels = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    with Ledger("run", 0, "agent") as ledger:
        values = machine.line_values(state, levels)
        # six states, one gap, eight nodes, and no intermediate ensemble
        assert ledger.totals()["executions"] == 6 * 8
    twin = make("field", n_action=1, sampler="exact")
    with torch.no_grad():
        wanted = twin(state, levels[1].expand(6, 1)) - twin(state, levels[0].expand(6, 1))
    torch.testing.assert_close(values[:, 1:], wanted, rtol=0.0, atol=0.1)


def test_a_sampler_without_free_energies_is_refused():
    class Moments(Recorder):
        def thermal(self, problem, *, free_energy=True, seed=None) -> Thermal:
            thermal = super().thermal(problem, free_energy=False)
            return Thermal(thermal.z, thermal.zz, None, Usage())

    with pytest.raises(ValueError, match="sampler: 'recorder' returned no free energy"):
        make(sampler=Moments())(*inputs(1, 2, 2))


@pytest.mark.parametrize(
    ("graph", "field", "name"),
    [
        (build_graph("uncoupled", n=30), 0.5, "closed_form"),
        (CELLS, 0.0, "exact"),
        (build_graph("complete", n=8), 0.5, "exact"),
    ],
)
def test_the_automatic_sampler(graph, field, name):
    machine = BoltzmannMachine(graph, 1, 1, field=field)
    assert machine.sampler.name == name
    assert f"sampler='{name}'" in repr(machine)


@pytest.mark.parametrize(("graph", "field"), [(CELLS, 0.5), (build_graph("chimera", rows=2, columns=3), 0.0)])
def test_the_automatic_sampler_of_large_machines_is_the_path_integral(graph, field):
    assert BoltzmannMachine(graph, 1, 1, field=field).sampler.name == "sqa"


def test_it_learns_a_regulation_task():
    # Q*(s, a) = -(s + a)^2 is even and concave, as the machine is.
    torch.manual_seed(0)
    machine = BoltzmannMachine(CELLS, 1, 1, field=0.0, beta=2.0, trainable_offset=True)
    optimiser = torch.optim.Adam(machine.parameters(), lr=0.1)
    state, action = (2 * torch.rand(64, 1) - 1 for _ in range(2))
    wanted = -((state + action) ** 2)
    for _ in range(100):
        loss = (machine(state, action) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1 * wanted.var()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"graph": "chimera"}, TypeError, "graph: 'chimera' is not a Graph"),
        ({"n_state": 0}, ValueError, "n_state: 0 is below 1"),
        ({"n_action": 1.0}, TypeError, "n_action: 1.0 is not an integer"),
        ({"field": -1.0}, ValueError, "field: -1.0 is out of range"),
        ({"beta": 0.0}, ValueError, "beta: 0.0 is out of range"),
        ({"sign": "positive"}, ValueError, "sign: 'positive' is unknown, use one of mirrored, negative"),
        ({"offset": "none"}, TypeError, "offset: 'none' is not a real number"),
        ({"offset": math.inf}, ValueError, "offset: inf is not finite"),
        ({"init_scale": -1.0}, ValueError, "init_scale: -1.0 is below 0"),
        ({"sampler": "exakt"}, ValueError, "sampler: 'exakt' is unknown.*'exact'"),
        ({"sampler": 3}, TypeError, "sampler: 3 is no sampler"),
        ({"sampler": "closed_form"}, ValueError, "'closed_form' knows no couplings"),
        ({"sampler": "exact", "field": 0.5, "graph": CELLS}, ValueError, "34.4 GB for 16 hidden units"),
        ({"sampler_options": {"reads": 3}}, ValueError, "sampler_options: 'auto' takes none"),
        ({"sampler": "exact", "sampler_options": {"reads": 3}}, TypeError, "option 'reads' is unknown"),
        (
            {"sampler": Recorder(), "sampler_options": {"reads": 3}},
            ValueError,
            "sampler_options: given beside",
        ),
    ],
)
def test_wrong_settings_are_refused_in_one_line(options, error, message):
    with pytest.raises(error, match=message) as caught:
        BoltzmannMachine(**{"graph": TRIANGLE, "n_state": 1, "n_action": 1, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["field", "closed form"])
@pytest.mark.parametrize(
    ("state", "action", "error", "message"),
    [
        ([[0.0, 0.0]], torch.zeros(1, 2), TypeError, "state: list is not a tensor"),
        (torch.zeros(1, 2), torch.zeros(1, 2).cfloat(), TypeError, "action: torch.complex64 is not real"),
        (
            torch.zeros(2),
            torch.zeros(1, 2),
            ValueError,
            r"state: shape \(2,\) does not fit; use \(batch, 2\)",
        ),
        (torch.zeros(1, 2), torch.zeros(1, 3), ValueError, r"action: shape \(1, 3\) does not fit"),
        (torch.zeros(2, 2), torch.zeros(1, 2), ValueError, "action: 1 rows against 2"),
        (torch.full((1, 2), math.nan), torch.zeros(1, 2), ValueError, "not finite"),
    ],
)
def test_wrong_inputs_are_refused(kind, state, action, error, message):
    machine = make(kind)
    for call in (machine, machine.moments, machine.action_gradient, machine.free_energy):
        with pytest.raises(error, match=message):
            call(state, action)
