"""Whether an agent becomes slower the longer it learns. Long: `make slow`."""

import time

import numpy as np
import pytest

import qrl


def growth(update, updates):
    """Processor time of the last tenth of the updates over that of the first, by the medians of both."""
    seconds = np.empty(updates)
    for index in range(updates):
        begun = time.process_time_ns()
        update()
        seconds[index] = time.process_time_ns() - begun
    tenth = updates // 10
    return np.median(seconds[-tenth:]) / np.median(seconds[:tenth])


@pytest.mark.slow
def test_updates_take_no_longer_after_ten_thousand():
    circuit = {"kind": "quantum", "n_qubits": 4, "n_layers": 5, "observables": ["ZZII", "IIZZ"], "head": {}}
    agent = qrl.build_agent(
        {"algorithm": "dqn", "network": circuit, "learning_starts": 200}, "CartPole-v1", seed=0
    )
    agent.learn(200)
    assert growth(lambda: agent.train(1, 16), 10_000) < 1.2


@pytest.mark.slow
def test_an_update_that_keeps_what_it_did_is_seen():
    kept = []

    def update():
        kept.append(0.0)
        sum(kept)

    assert growth(update, 2_000) > 1.2
