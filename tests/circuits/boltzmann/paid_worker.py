"""One process that asks an annealer for reads and may be killed at a step: run with a JSON argument."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from circuits.boltzmann import Problem, build_graph
from circuits.boltzmann._dwave_service import DWaveService
from circuits.boltzmann.dwave import DWaveSampler
from circuits.journal import Budget, Journal
from circuits.submission import Spending, Waits

ask = json.loads(sys.argv[1])


def die_at(owner, name, when):
    """SIGKILL before or after a step."""
    step = getattr(owner, name)

    def deadly(*arguments, **options):
        if when == "after":
            step(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, deadly)


if ask["die"]:
    owner, name, when = ask["die"]
    die_at({"journal": Journal, "service": DWaveService}[owner], name, when)
waits = Waits(grace=0.01, poll=0.01, retry=0.01, retry_most=1.0)
journal = Journal(Path(ask["folder"]) / "journal.sqlite")
sampler = DWaveSampler(reads=10, spending=Spending(journal, Budget(10.0), "study", waits))
biases = np.array([[0.3, -0.2, -0.3, -0.8], [-0.5, 0.1, 0.7, 0.4]])
graph = build_graph("custom", n=4, edges=[(0, 2), (0, 3), (1, 2), (1, 3)])
problem = Problem(graph, biases, np.array([0.5, -0.7, 0.2, 0.9]), 0.5, 2.0)
print(json.dumps(sampler.thermal(problem, free_energy=False, seed=5).z.tolist()))
