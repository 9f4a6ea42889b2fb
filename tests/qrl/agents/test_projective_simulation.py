"""The photonic learning experiment: published sums, the switch, the Grover step as a circuit, and drawn agents."""

import math

import numpy as np
import pytest

from qrl.agents.projective_simulation import SWITCH, GroverLearner, amplified


def test_learning_times_are_those_of_the_experiment():
    classical = GroverLearner(strategy="classical").learning_time(0.37)
    quantum = GroverLearner(strategy="quantum").learning_time(0.37)
    assert classical == pytest.approx(292.88, abs=0.005)
    assert quantum == pytest.approx(96.29, abs=0.005)


def test_twenty_nine_rewards_reach_the_target():
    learner = GroverLearner()
    assert learner.chance(28) < 0.37 <= learner.chance(29) == pytest.approx(0.3734, abs=5e-5)


def test_below_the_switch_a_grover_step_pays_and_above_it_does_not():
    assert pytest.approx(0.3964, abs=5e-5) == SWITCH
    for chance in np.linspace(0.01, 0.74, 200):
        assert (amplified(chance) / 2.0 > chance) == (chance < SWITCH)
    times = {s: GroverLearner(strategy=s).learning_time(0.7) for s in ("classical", "quantum", "hybrid")}
    assert times["hybrid"] < min(times["classical"], times["quantum"])


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
@pytest.mark.parametrize("qubits", [2, 4, 6])
def test_the_amplified_chance_is_that_of_a_circuit(qubits, steps):
    from qiskit import QuantumCircuit
    from qiskit.quantum_info import Operator, Statevector

    n = 2**qubits
    marked = n - 2
    oracle = np.eye(n)
    oracle[marked, marked] = -1.0
    about_mean = 2.0 * np.full((n, n), 1.0 / n) - np.eye(n)
    circuit = QuantumCircuit(qubits)
    circuit.h(range(qubits))
    for _ in range(steps):
        circuit.append(Operator(oracle), range(qubits))
        circuit.append(Operator(about_mean), range(qubits))
    assert abs(Statevector(circuit).data[marked]) ** 2 == pytest.approx(amplified(1.0 / n, steps), abs=1e-12)


@pytest.mark.parametrize("strategy", ["classical", "quantum", "hybrid"])
def test_drawn_agents_need_what_is_expected(strategy):
    learner = GroverLearner(strategy=strategy)
    epochs = learner.simulate(0.37, 10_000, seed=1)
    error = epochs.std() / math.sqrt(len(epochs))
    assert abs(epochs.mean() - learner.learning_time(0.37)) < 4.5 * error  # false alarm 7e-6


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: GroverLearner(strategy="magic"), "strategy"),
        (lambda: GroverLearner(n_actions=1), "n_actions"),
        (lambda: GroverLearner(gain=0.0), "gain"),
        (lambda: GroverLearner().learning_time(1.0), "target"),
        (lambda: GroverLearner(strategy="quantum").learning_time(0.8), "target"),
    ],
)
def test_what_cannot_be_is_refused(make, field):
    with pytest.raises(ValueError, match=f"^{field}: "):
        make()
