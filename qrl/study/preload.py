"""Imported once by the server process from which every run is forked: heavy imports, no computation.

Importing starts no threads that compute; a run sets its own thread count. The environment variables must be set
before NumPy and torch are imported, which is why they are set here.
"""

import os

# One run is one process is one thread; two runs that each started a pool of threads would fight over the cores.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# What a run would otherwise import at its first step, two seconds each time: torch's optimisers pull in the compiler
# front end, the environments SciPy's solvers.
import safetensors.numpy
import scipy.optimize
import scipy.special
import stable_baselines3
import torch
import torch._dynamo

import circuits.backends.torch
import environments.awake_steering
import environments.target_steering
import qrl.agents.build
import qrl.layer
import qrl.study.run

__all__ = ["circuits", "environments", "qrl", "safetensors", "scipy", "stable_baselines3", "torch"]
