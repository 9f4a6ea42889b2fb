"""An agent that learns for long does not slow down."""

import time

import numpy as np
import pytest

import qrl

CIRCUIT = {"kind": "quantum", "n_qubits": 4, "n_layers": 3, "observables": ["ZZII", "IIZZ"], "head": {}}


@pytest.mark.slow
def test_the_last_of_10_000_updates_take_as_long_as_the_first():
    spec = {"algorithm": "dqn", "network": CIRCUIT, "learning_starts": 100, "batch_size": 16}
    agent = qrl.build_agent(spec, "CartPole-v1", seed=0)
    learn, seconds = agent.train, []

    def timed(*args, **kwargs):
        start = time.process_time()
        learn(*args, **kwargs)
        seconds.append(time.process_time() - start)

    agent.train = timed
    agent.learn(10_100, log_interval=None)
    assert len(seconds) == 10_000
    # medians, so that a pause of the machine in either tenth does not decide
    assert np.median(seconds[-1000:]) < 1.2 * np.median(seconds[:1000])
