"""Programs: what circuits compile to, by an interpreter of its own, and what the kernel makes of malformed ones."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from circuits import Angle, Circuit, Gate, Observable, Term, reuploading
from circuits.engine import library
from circuits.engine.program import encode

RANDOM = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
HEADER = 10
LAYER, SIGNS, TABLE, PAULI = range(4)
MATRICES = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
SQUASHES = (lambda u: u, np.tanh, np.arctan)


class Reader:
    """Reads a program as the kernel does, one number after the other."""

    def __init__(self, program):
        self.ints, self.reals = iter(program.ints.tolist()), iter(program.reals.tolist())

    def some(self, count):
        return [next(self.ints) for _ in range(count)]

    def reads(self, count):
        return [next(self.reals) for _ in range(count)]

    def ended(self):
        return next(self.ints, None) is None and next(self.reals, None) is None


def apply(state, matrix, qubit):
    """A one-qubit matrix on a state of ``2 ** n`` amplitudes."""
    parts = state.reshape(-1, 2, 2**qubit)
    return np.einsum("ab,ibj->iaj", matrix, parts).reshape(-1)


def pauli(state, x, z):
    """The Pauli word with masks x and z on a state."""
    for qubit in range(len(state).bit_length() - 1):
        letter = {(1, 0): 0, (1, 1): 1, (0, 1): 2}.get((x >> qubit & 1, z >> qubit & 1))
        if letter is not None:
            state = apply(state, MATRICES[letter], qubit)
    return state


def fixed(state, code, a, b):
    """CZ, CX, CY or SWAP of qubits a and b, by the definition on basis states."""
    index = np.arange(len(state))
    on, other = index >> a & 1 == 1, index >> b & 1
    if code == 0:
        return state * np.where(on & (other == 1), -1, 1)
    if code == 3:
        return state[index ^ ((index >> a ^ index >> b) & 1) * (1 << a | 1 << b)]
    moved = state[np.where(on, index ^ 1 << b, index)]
    return moved * np.where(on, 1j * (2 * other - 1), 1) if code == 2 else moved


@dataclass
class Run:
    """What a program did: its operations as (kind, numbers), the final state, the values of the observables."""

    operations: list
    state: np.ndarray
    values: np.ndarray


def interpret(program, theta, x):
    """Run a program for one sample, slowly and without a thought for speed."""
    reader = Reader(program)
    n, _, _, n_angles, n_ops, n_words, n_entries, n_observables, n_groups, has_state = reader.some(HEADER)
    angles = []
    for _ in range(n_angles):
        (angle,), (terms,) = reader.reads(1), reader.some(1)
        for _ in range(terms):
            parameter, squash, count = reader.some(3)
            inner = np.prod(x[reader.some(count)]) * (1 if parameter < 0 else theta[parameter])
            angle += reader.reads(1)[0] * SQUASHES[squash](inner)
        angles.append(angle)
    operations, steps = [], []
    for _ in range(n_ops):
        kind, first = reader.some(2)
        if kind == LAYER:
            slots = []
            for _ in range(first):
                qubit, count = reader.some(2)
                slots.append((qubit, [tuple(reader.some(2)) for _ in range(count)], reader.reads(4)))
            operations.append((kind, [(qubit, rotations) for qubit, rotations, _ in slots]))
            steps.append(slots)
        elif kind == PAULI:
            steps.append((first, *reader.some(2)))
            operations.append((kind, steps[-1]))
        else:
            steps.append([tuple(reader.some(3)) for _ in range(first)])
            operations.append((kind, steps[-1]))
    words = [tuple(reader.some(2)) for _ in range(n_words)]
    entries = [(*reader.some(2), *reader.reads(1)) for _ in range(n_entries)]
    groups = []
    for _ in range(n_groups):
        basis, (count,) = reader.some(n), reader.some(1)
        groups.append((basis, reader.some(count)))
    state = np.zeros(2**n, dtype=complex)
    state[0] = 1
    if has_state:
        state = np.array(reader.reads(2 * 2**n)).view(complex)
    assert reader.ended()
    for (kind, _), step in zip(operations, steps, strict=True):
        if kind == LAYER:
            for qubit, rotations, (w, *axis) in step:
                for angle, letter in rotations:
                    half = angles[angle] / 2
                    state = apply(
                        state, np.cos(half) * np.eye(2) - 1j * np.sin(half) * MATRICES[letter], qubit
                    )
                state = apply(state, w * np.eye(2) - 1j * np.tensordot(axis, MATRICES, 1), qubit)
        elif kind == PAULI:
            half = angles[step[0]] / 2
            state = np.cos(half) * state - 1j * np.sin(half) * pauli(state, *step[1:])
        else:
            for code, a, b in step:
                state = fixed(state, code, a, b)
    values = np.zeros(n_observables)
    for observable, word, coefficient in entries:
        values[observable] += coefficient * np.vdot(state, pauli(state, *words[word])).real
    check_groups(groups, words, entries)
    return Run(operations, state, values)


def check_groups(groups, words, entries):
    """Each word but the identity is measured once, in a basis that has its letters."""
    measured = [words[entries[entry][1]] for _, members in groups for entry in members]
    assert sorted(measured) == sorted(words[word] for _, word, _ in entries if words[word] != (0, 0))
    for basis, members in groups:
        for x, z in (words[entries[entry][1]] for entry in members):
            for qubit, letter in enumerate(basis):
                bits = (x >> qubit & 1, z >> qubit & 1)
                assert bits in ((0, 0), ((0, 1), (1, 0), (1, 1))[letter])


def operations(circuit, *specs):
    """The operations of a circuit for some observables, all angles zero."""
    observables = tuple(Observable.parse(spec, circuit.n_qubits) for spec in specs)
    program = encode(circuit, observables)
    return interpret(program, np.zeros(circuit.n_parameters), np.zeros(circuit.n_features)).operations


def rotation(word, *qubits):
    return Gate(f"R{word}", qubits, Angle(0.3))


@RANDOM
@given(data=st.data())
def test_a_program_is_its_circuit(data, case_strategy, dense):
    case = data.draw(case_strategy(samples=1))
    program = encode(case.circuit, case.observables)
    run = interpret(program, case.parameters.numpy(), case.features[0].numpy())
    wanted = dense(case.circuit, case.parameters, case.features, case.observables)
    np.testing.assert_allclose(run.values, wanted[0].numpy(), rtol=0, atol=1e-12)
    assert program.tables == any(kind == TABLE for kind, _ in run.operations)
    if not all(observable.is_diagonal for observable in case.observables):
        exact = case.circuit.statevector(case.parameters.numpy(), case.features[0].numpy())
        assert abs(np.vdot(exact, run.state)) == pytest.approx(1.0, abs=1e-12)


def test_gates_of_a_qubit_are_one_slot():
    gates = (Gate("H", (0,)), rotation("Z", 0), Gate("S", (0,)), rotation("X", 0), Gate("H", (1,)))
    ((kind, slots),) = operations(Circuit(2, gates), "ZZ")
    assert kind == LAYER
    # H Z H is X, and X seen through S and H is Y up to its sign.
    assert slots == [(0, [(0, 0), (1, 1)]), (1, [])]


def test_fixed_gates_on_pairs_are_one_table():
    pairs = (Gate("CZ", (0, 1)), Gate("CX", (1, 2)), Gate("SWAP", (0, 2)), Gate("CY", (2, 1)))
    (table,) = operations(Circuit(3, pairs), "ZZZ")
    assert table == (TABLE, [(0, 0, 1), (1, 1, 2), (3, 0, 2), (2, 2, 1)])


def test_gates_go_to_the_earliest_layer():
    """A rotation behind the entangler of other qubits does not open a layer of its own."""
    gates = (rotation("X", 0), Gate("CZ", (0, 1)), rotation("Y", 2), rotation("Z", 1))
    first, signs, second = operations(Circuit(3, gates), "XXX")
    assert first == (LAYER, [(0, [(0, 0)]), (2, [(1, 1)])])
    assert signs == (SIGNS, [(0, 0, 1)])
    assert second == (LAYER, [(1, [(2, 2)])])


def test_a_reuploading_layer_is_two_operations():
    kinds = [kind for kind, _ in operations(reuploading(4, 5), "XIII")]
    assert kinds == [LAYER, SIGNS] * 5


def test_signs_at_the_end_count_where_a_word_is_not_diagonal():
    circuit = reuploading(3, 2)
    assert len(operations(circuit, "ZZI", "IIZ")) == 3
    assert len(operations(circuit, "ZZI", "IIX")) == 4
    flips = Circuit(2, (Gate("X", (0,)), Gate("CX", (0, 1))))
    assert [kind for kind, _ in operations(flips, "IZ")] == [LAYER, TABLE]


@pytest.mark.parametrize(("n_qubits", "pairs"), [(1, 0), (2, 1), (3, 3), (4, 4)])
def test_a_ring_has_as_many_gates_as_it_has_pairs(n_qubits, pairs):
    found = [step for kind, step in operations(reuploading(n_qubits, 1), "X" * n_qubits) if kind == SIGNS]
    assert [len(gates) for gates in found] == ([pairs] if pairs else [])


def test_an_empty_circuit_is_an_empty_program():
    assert operations(Circuit(2, ()), "ZZ") == []


def test_long_words_stay_by_themselves_between_their_neighbours():
    gates = (Gate("CZ", (0, 1)), rotation("XYZX", 3, 0, 2, 1), Gate("CZ", (0, 1)), Gate("CZ", (1, 2)))
    found = operations(Circuit(4, gates), "XXXX")
    assert found == [(SIGNS, [(0, 0, 1)]), (PAULI, (0, 0b1011, 0b0101)), (SIGNS, [(0, 0, 1), (0, 1, 2)])]


def test_words_of_several_observables_are_there_once():
    sums = (Observable((("ZI", 1.0), ("XI", 0.5), ("ZI", 0.25))), Observable((("ZI", -1.0),)))
    program = encode(Circuit(2, ()), sums)
    _, _, _, _, _, words, entries, observables, groups, _ = program.ints[:HEADER].tolist()
    assert (words, entries, observables, groups) == (2, 3, 2, 2)
    assert program.reals.tolist() == [1.25, 0.5, -1.0]


# ---- the kernel's side of the boundary -----------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded():
    return library.load()


def address(array):
    return array.ctypes.data


def run_through_c(loaded, isa, is_double, ints, reals, samples=3):
    """Create a program and, where that works and its sizes are small, run all of it; whether it was created.

    Arrays have exactly the size that the interface asks for, so that the sanitizers see each step too far.
    """
    ints, reals = np.array(ints, dtype=np.int64), np.array(reals, dtype=np.float64)
    lib = loaded.lib
    program = lib.qrl_program_new(isa, is_double, address(ints), len(ints), address(reals), len(reals))
    if not program:
        return False
    handle = ctypes.c_void_p(program)
    try:
        _, n_parameters, n_features, _, _, _, _, n_observables = ints[:8].tolist()
        if max(n_parameters, n_features, n_observables) > 1000:
            return True
        dtype = np.float64 if is_double else np.float32
        generator = np.random.default_rng(0)
        x = generator.normal(size=(samples, n_features)).astype(dtype)
        upstream = generator.normal(size=(samples, n_observables)).astype(dtype)
        for engine, per_sample in ((0, False), (1, False), (0, True), (1, True)):
            shape = (samples, n_parameters) if per_sample else (n_parameters,)
            stride = n_parameters if per_sample else 0
            theta = generator.normal(size=shape).astype(dtype)
            inputs = (handle, engine, 1, samples, address(theta), stride, address(x))
            values, errors = np.empty((2, *upstream.shape), dtype)
            room = lib.qrl_saved_bytes(handle, engine, samples, per_sample)
            assert room >= 0
            kept = np.empty(room + 64, np.uint8)
            saved = address(kept) + -address(kept) % 64
            by_theta, by_x = np.empty_like(theta), np.empty_like(x)
            assert lib.qrl_forward(*inputs, address(values), None) == 0
            again = np.empty_like(values)
            assert lib.qrl_forward(*inputs, address(again), saved) == 0
            np.testing.assert_array_equal(again, values)
            gradients = (address(by_theta), address(by_x))
            assert lib.qrl_backward(*inputs, None, address(upstream), *gradients) == 0
            assert lib.qrl_backward(*inputs, saved, address(upstream), *gradients) == 0
            assert lib.qrl_backward(*inputs, saved, address(upstream), None, None) == 0
            for shots in (2, 600):
                assert lib.qrl_sample(*inputs, shots, 1, address(values), address(errors)) == 0
        return True
    finally:
        lib.qrl_program_free(handle)


# A register of up to nine qubits, or one that is refused: what lies between is well-formed and only slow.
NUMBERS = st.integers(-3, 9) | st.sampled_from(
    [31, 64, 1000, 2**28 + 1, 2**31, 2**32 + 1, 2**62, -(2**63), 2**63 - 1]
)


@pytest.mark.engine
@RANDOM
@given(data=st.data(), is_double=st.booleans())
def test_a_program_with_one_wrong_number_is_refused_or_runs(data, is_double, case_strategy, loaded):
    case = data.draw(case_strategy())
    program = encode(case.circuit, case.observables)
    isa = data.draw(st.sampled_from([loaded.choose(name) for name in loaded.supported]))
    assert run_through_c(loaded, isa, is_double, program.ints, program.reals)
    place = data.draw(st.integers(0, len(program.ints) - 1) | st.integers(0, HEADER - 1))
    ints = program.ints.copy()
    ints[place] = data.draw(NUMBERS)
    run_through_c(loaded, isa, is_double, ints, program.reals)


@pytest.mark.engine
@RANDOM
@given(data=st.data(), is_double=st.booleans())
def test_a_program_of_another_length_is_refused(data, is_double, case_strategy, loaded):
    case = data.draw(case_strategy())
    program = encode(case.circuit, case.observables)
    isa = loaded.choose()
    ints, reals = program.ints, program.reals
    cut = data.draw(st.integers(0, len(ints) - 1))
    assert not run_through_c(loaded, isa, is_double, ints[:cut], reals)
    assert not run_through_c(loaded, isa, is_double, [*ints, 0], reals)
    assert not run_through_c(loaded, isa, is_double, ints, [*reals, 0.0])
    if len(reals):
        cut = data.draw(st.integers(0, len(reals) - 1))
        assert not run_through_c(loaded, isa, is_double, ints, reals[:cut])


@pytest.mark.engine
@RANDOM
@given(data=st.data())
def test_numbers_without_a_program_are_refused(data, loaded):
    """Noise behind a header that is well-formed."""
    header = [data.draw(st.integers(1, 4)), *data.draw(st.lists(st.integers(0, 3), min_size=9, max_size=9))]
    noise = data.draw(st.lists(st.integers(-1, 4), max_size=60))
    reals = data.draw(st.lists(st.floats(-2, 2), max_size=40))
    run_through_c(loaded, loaded.choose(), True, header + noise, reals)


# All numbers of a program with an operation of each kind, and the range that the kernel allows each of them.
MANY = 2**28
COUNT, ONLY, QUBIT, MASK = (0, MANY), (0, 0), (0, 1), (0, 3)
EVERY_KIND = [
    # qubits, parameters, features, angles, operations, words, entries, observables, groups, initial state
    *((2, 1, 30), *((n, *COUNT) for n in (1, 1, 3, 5, 1, 1, 1, 1)), (0, 0, 1)),
    # angles: number of terms; for each the parameter, squash, number of features, features
    *((1, *COUNT), (0, -1, 0), (0, 0, 2), (1, *COUNT), (0, *ONLY), (0, *COUNT), (0, *COUNT)),
    # a layer: slots; qubit, rotations; angle, axis
    *((LAYER, 0, 3), (1, 1, 2), (0, *QUBIT), (1, *COUNT), (0, 0, 2), (0, 0, 2)),
    # signs: gates; CZ, qubits
    *((SIGNS, 0, 3), (1, 1, MANY), (0, *ONLY), (0, *QUBIT), (1, *QUBIT)),
    *((LAYER, 0, 3), (1, 1, 2), (0, *QUBIT), (1, *COUNT), (1, 0, 2), (1, 0, 2)),
    # a table: gates; CX, qubits
    *((TABLE, 0, 3), (1, 1, MANY), (1, 0, 3), (0, *QUBIT), (1, *QUBIT)),
    # a rotation about a word: angle, masks
    *((PAULI, 0, 3), (2, 0, 2), (3, *MASK), (2, *MASK)),
    # the word ZZ; the entry: observable, word; the group: basis, number of entries, entry
    *((0, *MASK), (3, *MASK), (0, *ONLY), (0, *ONLY), (0, 0, 2), (0, 0, 2), (1, 1, MANY), (0, *ONLY)),
]


def program_of_every_kind():
    gates = (
        Gate("RX", (0,), Angle(0.1, (Term(1.0, 0, (0,)),))),
        Gate("CZ", (0, 1)),
        rotation("Y", 0),
        Gate("CX", (0, 1)),
        rotation("XY", 0, 1),
    )
    return encode(Circuit(2, gates, 1, (("weights", 1),)), (Observable((("ZZ", 0.5),)),))


@pytest.mark.engine
def test_each_number_out_of_its_range_is_refused(loaded):
    program = program_of_every_kind()
    assert program.ints.tolist() == [number for number, _, _ in EVERY_KIND]
    assert run_through_c(loaded, loaded.choose(), True, program.ints, program.reals)
    for place, (_, low, high) in enumerate(EVERY_KIND):
        for number in (low - 1, high + 1, number_beyond(low), number_beyond(high)):
            ints = program.ints.copy()
            ints[place] = number
            assert not run_through_c(loaded, loaded.choose(), True, ints, program.reals), (place, number)


def number_beyond(limit):
    """A number that is the limit again where it is cut to 32 bits."""
    return limit + 2**32


@pytest.mark.engine
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308])
def test_real_numbers_of_any_size_run(value, loaded):
    program = program_of_every_kind()
    for place in range(len(program.reals)):
        reals = program.reals.copy()
        reals[place] = value
        for is_double in (False, True):
            assert run_through_c(loaded, loaded.choose(), is_double, program.ints, reals)


@pytest.mark.engine
def test_an_instruction_set_out_of_range_is_refused(loaded):
    program = encode(reuploading(2, 1), (Observable((("ZI", 1.0),)),))
    for isa in (-1, len(loaded.instruction_sets), 2**30):
        assert not run_through_c(loaded, isa, True, program.ints, program.reals)
