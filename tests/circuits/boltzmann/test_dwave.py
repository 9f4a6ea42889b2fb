"""The annealer: moments through a child of known temperature, embeddings, timing, jobs, secrets.

Statistical bounds are 4.5 standard errors at fixed seeds; a fresh seed would fail one comparison with probability
7e-6, and the file's 100 of them with less than 0.1 %.
"""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import re
import sys
import traceback

import numpy as np
import pytest

from circuits.boltzmann import Problem, Sampler, build_graph, get_sampler
from circuits.boltzmann.dwave import DWaveSampler, stacked_free_energy
from circuits.boltzmann.timing import Timing, qpu_time, readout_time
from circuits.journal import Budget, Journal, OverBudget
from circuits.submission import Spending

system = pytest.importorskip("dwave.system")
dimod = pytest.importorskip("dimod")
minorminer = pytest.importorskip("minorminer")
mocks = pytest.importorskip("dwave.cloud.testing.mocks")
StructuredSolver = pytest.importorskip("dwave.cloud.solver").StructuredSolver
MockDWaveSampler = pytest.importorskip("dwave.system.testing").MockDWaveSampler

EDGES = [(0, 2), (0, 3), (1, 2), (1, 3)]
TOKEN = "DEV-0123456789abcdef0123456789abcdef01234567"
FIELDS = {
    "qpu_programming_time": 15759.97,
    "qpu_sampling_time": 8586.0,
    "qpu_anneal_time_per_sample": 20.0,
    "qpu_readout_time_per_sample": 45.32,
    "qpu_access_overhead_time": 2259.03,
    "qpu_access_time": 24345.97,
}


def machine(field: float = 0.5, beta: float = 2.0, states: int = 1, scale: float = 1.0) -> Problem:
    """The golden machine, or more states of it."""
    biases = np.array([[0.3, -0.2, -0.3, -0.8], [-0.5, 0.1, 0.7, 0.4], [0.0, 0.6, -0.1, 0.2]])[:states]
    couplings = np.array([0.5, -0.7, 0.2, 0.9])
    return Problem(build_graph("custom", n=4, edges=EDGES), scale * biases, scale * couplings, field, beta)


def triangle(field: float = 0.0, beta: float = 1.0) -> Problem:
    """A machine that no bipartite processor holds without chains."""
    biases, couplings = np.array([[0.4, -0.3, 0.2]]), np.array([0.5, -0.4, 0.3])
    return Problem(build_graph("complete", n=3), biases, couplings, field, beta)


class Annealer(dimod.Sampler, dimod.Structured):
    """Draws exactly from exp(-beta E) of what it is sent, on a Chimera graph, and answers late."""

    def __init__(self, beta: float = 1.0, ranges: dict | None = None, seed: int = 0):
        graph = build_graph("chimera", rows=2, columns=2)
        self.nodelist, self.edgelist = list(range(32)), [(int(a), int(b)) for a, b in graph.edges]
        self.parameters = {"num_reads": [], "answer_mode": [], "auto_scale": [], "label": []}
        self.properties = {"h_range": [-4.0, 4.0], "j_range": [-1.0, 1.0], "extended_j_range": [-2.0, 1.0]}
        self.properties |= ranges or {}
        self.beta, self.rng = beta, np.random.default_rng(seed)
        self.models: list[dimod.BinaryQuadraticModel] = []
        self.options: list[dict] = []
        self.waited: list[int] = []

    nodelist = edgelist = parameters = properties = None

    @dimod.bqm_structured
    def sample(self, bqm, num_reads=1, **options):
        number = len(self.models)
        self.models.append(bqm.copy())
        self.options.append(options | {"num_reads": num_reads})

        def answer(_):
            self.waited.append(len(self.models))
            order = list(bqm.variables)
            states = np.array(list(itertools.product((-1, 1), repeat=len(order))), dtype=np.int8)
            weights = np.exp(-self.beta * bqm.energies((states, order)))
            rows = self.rng.choice(len(states), num_reads, p=weights / weights.sum())
            info = {"problem_id": f"job-{number}", "timing": dict(FIELDS)}
            return dimod.SampleSet.from_samples_bqm((states[rows], order), bqm, info=info)

        return dimod.SampleSet.from_future(number, answer)


class OnHardware(Annealer):
    """The same, with a solver that dwave-cloud-client takes for a processor."""

    def __init__(self, fields: dict | None = None, **data):
        super().__init__()
        self.solver = StructuredSolver(None, mocks.qpu_chimera_solver_data(2, id="Advantage_test", **data))


def spending(folder):
    return Spending(Journal(folder / "journal.sqlite"), Budget(1.0), "study")


def mock(**options) -> MockDWaveSampler:
    return MockDWaveSampler(
        topology_type="chimera", topology_shape=[2, 2, 4], parameter_warnings=False, **options
    )


def assert_thermal(found, exact, names=("z", "zz", "free_energy")):
    for name in names:
        distance = np.abs(getattr(found, name) - getattr(exact, name)) / getattr(found, f"{name}_error")
        assert distance.max() < 4.5, name


# What comes out


def test_reads_at_a_known_temperature_are_the_classical_machine():
    # The child samples at 4 in its own unit, so problems must go out at half their size.
    child = Annealer(beta=4.0)
    sampler = DWaveSampler(child=child, reads=4000, effective_beta=4.0)
    problem = machine(field=0.0, states=3)
    found = sampler.thermal(problem)
    assert_thermal(found, get_sampler("exact").thermal(problem))
    assert sampler.latest.scale == (0.5, 0.5, 0.5)
    assert found.free_energy_error.max() < 0.02
    assert "heuristic" in found.estimator
    assert "thermodynamic integration, 6 inner ensembles" in found.estimator


def test_chains_hold_a_machine_that_does_not_fit():
    child = Annealer(beta=10.0)
    sampler = DWaveSampler(child=child, reads=4000, effective_beta=10.0, chain_strength=12.0)
    problem = triangle()
    found = sampler.thermal(problem)
    assert sampler.latest.chain_length > 1
    assert sampler.latest.qubits > 3
    assert sampler.latest.chain_breaks[0] < 0.01
    assert_thermal(found, get_sampler("exact").thermal(problem))


def test_problems_that_leave_the_range_are_scaled_down_and_say_so():
    child = Annealer()
    sampler = DWaveSampler(child=child, reads=10, nodes=2)
    sampler.thermal(machine(scale=10.0, states=2))
    # Couplings reach 9 where 1 is allowed, biases 8 where 4 are; the wanted scale is 1.
    assert sampler.latest.scale == pytest.approx((1 / 9, 1 / 9))
    assert all(max(abs(v) for v in model.quadratic.values()) <= 1.0 + 1e-12 for model in child.models)
    # All ensembles of a free energy share the scale, so that only the couplings differ.
    biases = [sorted(model.linear.values()) for model in child.models]
    assert biases[0] == biases[2] == biases[4]
    assert biases[1] == biases[3] == biases[5]
    assert max(abs(v) for v in child.models[0].quadratic.values()) < 0.3


def test_a_bias_out_of_range_scales_its_own_state_alone():
    problem = machine(states=2)
    biases = problem.biases * np.array([[20.0], [1.0]])
    sampler = DWaveSampler(child=Annealer(), reads=10)
    sampler.thermal(Problem(problem.graph, biases, problem.couplings, 0.5, 2.0), free_energy=False)
    assert sampler.latest.scale == pytest.approx((4.0 / 16.0, 1.0))


def test_chains_are_kept_in_range_and_follow_the_scale():
    child = Annealer()
    sampler = DWaveSampler(child=child, reads=10, chain_strength=20.0)
    sampler.thermal(triangle(), free_energy=False)
    strength = 20.0 * np.sqrt(np.mean(np.array([0.5, 0.4, 0.3]) ** 2) * 2.0)
    assert sampler.latest.scale[0] == pytest.approx(2.0 / strength)
    assert sampler.latest.chain_strength[0] == pytest.approx(2.0)
    assert min(child.models[0].quadratic.values()) == pytest.approx(-2.0)


def test_mean_energy_is_that_of_the_reads():
    child = Annealer(beta=1.0)
    problem = machine(states=2)
    found = DWaveSampler(child=child, reads=500, estimator="mean_energy").thermal(problem)
    expected = -(problem.biases * found.z).sum(axis=1) - found.zz @ problem.couplings
    np.testing.assert_allclose(found.free_energy, expected)
    assert found.usage.executions == 2
    assert found.estimator.startswith("mean energy, heuristic")


def test_stacked_reads_give_the_replica_free_energy_where_they_are_replicas():
    # All configurations of two slices, each drawn with its weight in the replica ensemble.
    problem, slices, beta, field = machine(), 2, 2.0, 0.5
    states = np.array(list(itertools.product((-1, 1), repeat=8)), dtype=np.int8).reshape(-1, slices, 4)
    first, second = problem.graph.edges.T
    energies = -(states @ problem.biases[0]) - (states[..., first] * states[..., second]) @ problem.couplings
    coupling = np.log(1.0 / np.tanh(field * beta / slices)) / (2.0 * beta)
    effective = energies.mean(axis=1) - coupling * (states * np.roll(states, 1, axis=1)).sum(axis=(1, 2))
    weights = np.exp(-beta * effective)
    rows = np.random.default_rng(0).choice(len(states), 200_000, p=weights / weights.sum())
    energy, error = stacked_free_energy(states[rows][None], energies[rows][None], field, beta)
    # The plug-in entropy of 256 configurations is low by about 256 / (2 n), which is 0.0006.
    assert error[0] < 0.003
    assert energy[0] == pytest.approx(-3.938666, abs=0.01)


def test_one_slice_is_the_classical_machine_up_to_the_field():
    child, problem = Annealer(beta=2.0), machine(field=0.5)
    found = DWaveSampler(child=child, reads=20_000, effective_beta=2.0, estimator="stacked").thermal(problem)
    # The value of the replica mapping at one slice, with its constant.
    assert found.free_energy[0] == pytest.approx(-4.161127, abs=0.01)
    assert found.estimator.startswith("1 stacked reads, plug-in entropy, heuristic")


def test_slices_multiply_the_reads_and_leave_the_moments_alone():
    child = Annealer()
    found = DWaveSampler(child=child, reads=20, slices=5, estimator="stacked").thermal(machine())
    assert child.options[0]["num_reads"] == 100
    assert found.usage.shots == 100
    assert found.z_error[0, 0] == pytest.approx(np.sqrt((1 - (found.z[0, 0] * 100 / 102) ** 2) / 102))


def test_an_entropy_from_counts_of_few_reads_is_warned_of_and_named():
    with pytest.warns(
        UserWarning, match="reads: an entropy from the counts of 9 configurations cannot exceed ln 9"
    ):
        few = DWaveSampler(child=Annealer(), reads=9, estimator="stacked")
    assert few.thermal(machine()).estimator.startswith("1 stacked reads, plug-in entropy")
    DWaveSampler(child=Annealer(), reads=10, estimator="stacked")
    DWaveSampler(child=Annealer(), reads=9)  # takes no entropy from counts


# Jobs, order, counts


def test_everything_is_submitted_before_the_first_answer_is_awaited():
    child = Annealer()
    found = DWaveSampler(child=child, reads=10, nodes=3).thermal(machine(states=3))
    assert child.waited == [12] * 12
    assert (found.usage.executions, found.usage.hardware_executions, found.usage.shots) == (12, 12, 120)
    assert found.usage.jobs == 12
    assert found.usage.job_ids == tuple(f"job-{number}" for number in range(12))


def test_answers_belong_to_their_states():
    problem = machine(field=0.0, states=3)
    strong = Problem(problem.graph, 4.0 * np.sign(problem.biases + 0.01), 0.0 * problem.couplings, 0.0, 2.0)
    found = DWaveSampler(child=Annealer(beta=5.0), reads=20).thermal(strong, free_energy=False)
    np.testing.assert_array_equal(found.z, np.sign(strong.biases))
    assert found.usage.executions == 3
    assert found.free_energy is None


def test_columns_of_an_answer_belong_to_their_units():
    answer = dimod.SampleSet.from_samples(
        ([[1, -1, -1], [1, 1, -1]], [2, 0, 1]),
        "SPIN",
        energy=[0.0, 0.0],
        num_occurrences=[2, 1],
        chain_break_fraction=[0.0, 0.3],
    )
    spins, broken = DWaveSampler(child=Annealer(), reads=3)._read(answer, 0, 1)
    np.testing.assert_array_equal(spins, [[-1, -1, 1], [-1, -1, 1], [1, -1, 1]])
    assert broken == pytest.approx(0.1)


def test_the_processor_neither_scales_nor_merges_reads():
    child = Annealer()
    DWaveSampler(child=child, reads=10, anneal_time=5.0).thermal(machine(), free_energy=False)
    # The child knows no annealing_time, so it is not sent.
    assert child.options == [
        {"num_reads": 10, "answer_mode": "raw", "auto_scale": False, "label": "hybrid-qrl"}
    ]


def test_units_without_couplings_find_a_place():
    graph = build_graph("uncoupled", n=3)
    problem = Problem(graph, np.array([[1.0, -1.0, 0.0]]), np.zeros(0), 0.5, 1.0)
    found = DWaveSampler(child=Annealer(beta=8.0), reads=100).thermal(problem)
    assert found.usage.executions == 1
    assert found.zz.shape == (1, 0)
    np.testing.assert_allclose(found.z[0, :2], [1.0, -1.0])
    assert found.free_energy == pytest.approx(get_sampler("closed_form").thermal(problem).free_energy)


# Embeddings


@pytest.fixture
def searches(monkeypatch):
    """A list that grows with each search for an embedding."""
    found, search = [], minorminer.find_embedding

    def counted(*arguments, **options):
        found.append(options)
        return search(*arguments, **options)

    monkeypatch.setattr(minorminer, "find_embedding", counted)
    return found


def test_the_embedding_is_found_once_for_many_calls(searches):
    sampler = DWaveSampler(child=mock(), reads=5)
    for _ in range(20):
        sampler.thermal(machine(), free_energy=False)
    assert searches == [{"random_seed": 0}]
    copy.deepcopy(sampler).thermal(machine(), free_energy=False)
    assert len(searches) == 1
    sampler.thermal(triangle(), free_energy=False)
    assert len(searches) == 2


def test_a_file_keeps_embeddings_for_the_same_processor(searches, tmp_path):
    cache = tmp_path / "folder" / "embeddings.json"
    for _ in range(3):
        DWaveSampler(child=mock(), reads=5, cache=cache).thermal(triangle(), free_energy=False)
    assert len(searches) == 1
    DWaveSampler(child=mock(broken_nodes=[0]), reads=5, cache=cache).thermal(triangle(), free_energy=False)
    assert len(searches) == 2
    assert len(json.loads(cache.read_text())) == 2
    assert [path.name for path in cache.parent.iterdir()] == ["embeddings.json"]


def test_a_stored_embedding_that_does_not_hold_is_searched_again(searches, tmp_path):
    cache = tmp_path / "embeddings.json"
    DWaveSampler(child=mock(), reads=5, cache=cache).thermal(triangle(), free_energy=False)
    (key,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: {"0": [0], "1": [1], "2": [2]}}))
    DWaveSampler(child=mock(), reads=5, cache=cache).thermal(triangle(), free_energy=False)
    assert len(searches) == 2
    assert json.loads(cache.read_text())[key] != {"0": [0], "1": [1], "2": [2]}


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": [1]}'])
def test_a_file_of_another_kind_is_refused(tmp_path, text):
    cache = tmp_path / "embeddings.json"
    cache.write_text(text)
    with pytest.raises(ValueError, match=r"cache: .*embeddings.json holds no embeddings; delete it"):
        DWaveSampler(child=mock(), reads=5, cache=cache).thermal(machine(), free_energy=False)


def test_a_machine_that_does_not_fit_is_refused():
    graph = build_graph("complete", n=40)
    problem = Problem(graph, np.zeros((1, 40)), np.ones(len(graph.edges)), 0.5, 1.0)
    small = MockDWaveSampler(topology_type="chimera", topology_shape=[1, 1, 4], parameter_warnings=False)
    with pytest.raises(ValueError, match=r"graph: no embedding of complete.* 40 units was found on 8 qubits"):
        DWaveSampler(child=small).thermal(problem)


# Timing


def test_a_stand_in_reports_no_seconds():
    sampler = DWaveSampler(child=mock(), reads=5)
    assert sampler.timing == Timing("synthetic")
    found = sampler.thermal(machine(states=2), free_energy=False)
    timing = sampler.timing
    assert (timing.kind, timing.calls, timing.reads) == ("synthetic", 2, 10)
    seconds = ("programming", "sampling", "anneal", "readout", "overhead", "access")
    assert [getattr(timing, name) for name in seconds] == [None] * 6
    assert len(set(found.usage.job_ids)) == found.usage.jobs == 2


def test_a_child_that_only_calls_itself_a_processor_is_none():
    child = Annealer(ranges={"category": "qpu", "chip_id": "Advantage_system4.1"})
    sampler = DWaveSampler(child=child, reads=5)
    sampler.thermal(machine(), free_energy=False)
    assert sampler.timing.kind == "synthetic"
    assert sampler.timing.access is None


def test_a_solver_that_is_software_is_no_hardware():
    sampler = DWaveSampler(child=OnHardware(category="software"), reads=5)
    assert sampler.timing.kind == "synthetic"


def test_hardware_is_known_through_composites():
    child = dimod.TrackingComposite(OnHardware(category="qpu"))
    child.nodelist, child.edgelist = child.child.nodelist, child.child.edgelist
    sampler = DWaveSampler(child=child, reads=50)
    assert sampler.timing == Timing("hardware")
    with pytest.raises(OverBudget, match="costs money and has none"):
        sampler.thermal(machine(states=2), free_energy=False)


def test_a_missing_field_makes_its_sum_unknown_and_no_other():
    whole = Timing.of_answer(FIELDS, 10, hardware=True)
    part = Timing.of_answer({"qpu_access_time": 1e6}, 10, hardware=True)
    total = whole + part + whole
    assert total.programming is None
    assert total.access == pytest.approx(1.0 + 2 * 24345.97e-6)
    assert (total.kind, (whole + Timing("synthetic")).kind) == ("hardware", "synthetic")


def test_predicted_time_is_the_published_formula():
    modelled = qpu_time(3, 100, anneal=20e-6, programming=15e-3, delay=21e-6, readout=40e-6)
    assert modelled.low == pytest.approx(3 * (15e-3 + 10e-3 + 100 * 81e-6))
    assert modelled.high == pytest.approx(3 * (15e-3 + 20e-3 + 100 * 81e-6))
    assert modelled.seconds == pytest.approx(3 * (15e-3 + 15e-3 + 100 * 81e-6))
    assert modelled.kind == "modelled"
    assert qpu_time(0, 1).seconds == 0.0


@pytest.mark.parametrize("qubits", [1, 4, 16, 48, 500, 5000])
def test_predicted_time_is_the_vendors_estimate_plus_overhead(qubits):
    solver = StructuredSolver(None, mocks.qpu_chimera_solver_data(2))
    solver.properties["problem_timing_data"] = mocks.qpu_problem_timing_data("advantage")
    vendor = solver.estimate_qpu_access_time(num_qubits=qubits, num_reads=100) * 1e-6
    assert qpu_time(1, 100, qubits=qubits, overhead=(0.0, 0.0)).seconds == pytest.approx(vendor, rel=1e-6)
    assert readout_time(qubits) > 30e-6


# Errors and secrets


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reads": 1}, ValueError, "reads: 1 is below 2"),
        ({"slices": 0}, ValueError, "slices: 0 is below 1"),
        ({"estimator": "mean"}, ValueError, "estimator: 'mean' is unknown.*'mean_energy'"),
        ({"effective_beta": 0.0}, ValueError, "effective_beta: 0.0 is out of range"),
        ({"chain_strength": -1.0}, ValueError, "chain_strength: -1.0 is out of range"),
        ({"anneal_time": "20"}, TypeError, "anneal_time: '20' is not a number"),
        ({"solver": 4}, TypeError, "solver: 4 is not a string"),
        ({"solver": "x", "child": object()}, ValueError, "child: given beside a solver"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        DWaveSampler(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calls": -1}, "calls: -1 is below 0"),
        ({"reads": 0}, "reads: 0 is below 1"),
        ({"delay": -1.0}, "delay: -1.0 is out of range"),
        ({"overhead": (2.0, 1.0)}, r"overhead: \(2.0, 1.0\) has its larger end first"),
        ({"qubits": 0}, "qubits: 0 is below 1"),
    ],
)
def test_bad_predictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        qpu_time(**({"calls": 1, "reads": 1} | options))


def test_slices_need_a_field():
    sampler = DWaveSampler(child=Annealer(), slices=2, estimator="stacked")
    with pytest.raises(ValueError, match="slices: 2, but without a field"):
        sampler.check(machine().graph, 0.0)
    sampler.check(machine().graph, 0.5)


def test_more_reads_than_the_solver_allows_are_refused():
    child = Annealer(ranges={"num_reads_range": [1, 1000]})
    with pytest.raises(ValueError, match="reads: 2000 are more than the solver's 1000"):
        DWaveSampler(child=child, reads=400, slices=5).thermal(machine())


def test_fewer_reads_than_asked_for_are_noticed():
    class Short(Annealer):
        @dimod.bqm_structured
        def sample(self, bqm, num_reads=1, **options):
            return super().sample(bqm, num_reads=num_reads - 1, **options)

    with pytest.raises(ValueError, match="solver: 9 reads came back of 10"):
        DWaveSampler(child=Short(), reads=10).thermal(machine())


class Failing(Annealer):
    """Accepts problems and fails when they are awaited, with a secret in the message."""

    def sample(self, bqm, **options):
        def answer(_):
            raise RuntimeError(f"request with X-Auth-Token {TOKEN} failed\nsecond line")

        return dimod.SampleSet.from_future(0, answer)


class Refusing(Annealer):
    """Fails at submission."""

    def sample(self, bqm, **options):
        raise RuntimeError(f"no access for {TOKEN}")


def unopenable(**options):
    raise RuntimeError(f"token {TOKEN} is not valid\nmore")


@pytest.mark.parametrize("case", ["open", "submit", "answer"])
@pytest.mark.parametrize("known", [True, False])
def test_a_token_is_in_no_message(monkeypatch, tmp_path, case, known):
    if known:
        monkeypatch.setenv("DWAVE_API_TOKEN", TOKEN)
    else:
        monkeypatch.delenv("DWAVE_API_TOKEN", raising=False)
    monkeypatch.setattr(system, "DWaveSampler", unopenable)
    child = {"open": None, "submit": Refusing(), "answer": Failing()}[case]
    sampler = DWaveSampler(child=child, reads=10, spending=spending(tmp_path))
    with pytest.raises(ValueError, match=r"^solver: ") as caught:
        sampler.thermal(machine())
    shown = "".join(traceback.format_exception(caught.value, limit=0)) + repr(sampler) + str(vars(sampler))
    assert TOKEN not in shown
    assert TOKEN[4:] not in shown
    assert len(str(caught.value).splitlines()) == 1
    assert "RuntimeError" in str(caught.value)


def test_short_tokens_of_another_form_are_removed_too(monkeypatch):
    monkeypatch.setenv("DWAVE_API_TOKEN", "secret-word")

    class Naming(Annealer):
        def sample(self, bqm, **options):
            raise RuntimeError("bad token secret-word")

    with pytest.raises(ValueError, match=re.escape("RuntimeError: bad token <hidden>; check the solver")):
        DWaveSampler(child=Naming(), reads=10).thermal(machine())


def test_without_a_token_one_line_says_what_to_do(monkeypatch, tmp_path):
    for name in ("DWAVE_API_TOKEN", "DWAVE_PROFILE", "DWAVE_API_ENDPOINT", "DWAVE_API_REGION"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "dwave.conf"
    config.write_text("[defaults]\nendpoint = http://127.0.0.1:9/sapi\n")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(config))
    with pytest.raises(ValueError, match=r"solver: None cannot be opened, .*token.*; check DWAVE_API_TOKEN"):
        DWaveSampler(spending=spending(tmp_path)).thermal(machine())


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.delattr(sys.modules["dwave"], "system")
    monkeypatch.setitem(sys.modules, "dwave.system", None)
    with pytest.raises(ValueError, match=r"pip install 'hybrid-qrl\[dwave\]'"):
        DWaveSampler()


def test_it_is_a_sampler_by_name_and_copies_share_it():
    sampler = get_sampler("dwave", child=Annealer(), reads=7)
    assert isinstance(sampler, Sampler)
    assert (sampler.name, sampler.exact) == ("dwave", False)
    assert copy.deepcopy(sampler) is copy.copy(sampler) is sampler
    assert repr(sampler) == "DWaveSampler(Annealer, reads=7, slices=1, estimator='integration')"
    assert repr(DWaveSampler("Advantage_x")) == (
        "DWaveSampler('Advantage_x', reads=100, slices=1, estimator='integration')"
    )


def test_a_connection_does_not_travel(monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(system, "DWaveSampler", lambda **options: opened.append(options) or mock())
    sampler = DWaveSampler("Advantage_x", reads=5, spending=spending(tmp_path))
    sampler.thermal(machine(), free_energy=False)
    other = pickle.loads(pickle.dumps(sampler))
    assert opened == [{"solver": "Advantage_x"}]
    other.thermal(machine(), free_energy=False)
    assert len(opened) == 2
    assert other.timing.kind == "synthetic"
