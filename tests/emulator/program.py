"""What a job runs: the executor program, decoded and answered with the client's own models, on Aer."""

import datetime
import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache

import numpy as np


def recorded():
    """The recorded machine behind the emulated one."""
    from qiskit_ibm_runtime.fake_provider import FakeManilaV2

    return FakeManilaV2()


def simulator(noise):
    """Aer, with or without the noise of the recorded machine."""
    from qiskit_aer import AerSimulator

    if noise:
        return AerSimulator.from_backend(recorded())
    return AerSimulator(method="statevector", coupling_map=None)


@lru_cache(maxsize=1)
def _client():
    from ibm_quantum_schemas.common import CompressedTensorModel
    from ibm_quantum_schemas.executor.version_2_0 import models
    from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import run_quantum_program
    from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions
    from qiskit_ibm_runtime.quantum_program.converters.converters_2_0 import passthrough_data_to_2_0
    from qiskit_ibm_runtime.quantum_program.params_converters import QUANTUM_PROGRAM_PARAMS_CONVERTERS

    return (
        CompressedTensorModel,
        models,
        run_quantum_program,
        SimulatorOptions,
        passthrough_data_to_2_0,
        QUANTUM_PROGRAM_PARAMS_CONVERTERS,
    )


_WORKER = threading.Lock()


def run_apart(params, noise, seed):
    """As ``run``, in a process of its own, which all services of this one share.

    Circuits crash the interpreter now and then where many short-lived threads, such as those of a server, touch them.
    """
    with _WORKER:
        try:
            return _worker().submit(_run_here, params, noise, seed).result()
        except BrokenProcessPool:
            _worker.cache_clear()
            return _worker().submit(_run_here, params, noise, seed).result()


@lru_cache(maxsize=1)
def _worker():
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _run_here(params, noise, seed):
    return run(params, _kept_simulator(noise), seed)


@lru_cache(maxsize=2)
def _kept_simulator(noise):
    return simulator(noise)


def run(params, backend, seed):
    """The result of a job as text, and its circuit executions.

    Args:
        params: of the request, as JSON values.
        backend: an Aer simulator.
        seed: of its shots.
    """
    tensor, models, run_program, options, passthrough, converters = _client()
    converter = converters[params["schema_version"]]
    program, _ = converter.decoder(converter.model.model_validate(params))
    executions = 0
    for item in program.items:
        samplex = getattr(item, "samplex", None)
        if samplex is not None and hasattr(samplex, "finalize"):
            samplex.finalize()
        executions += int(np.prod(_shape(item), dtype=int)) * program.shots
    started = datetime.datetime.now(datetime.UTC)
    found = run_program(backend, program, options(seed_simulator=seed))
    stopped = datetime.datetime.now(datetime.UTC)
    items = [
        models.QuantumProgramResultItemModel(
            results={name: tensor.from_numpy(np.asarray(value)) for name, value in item.items()},
            metadata=models.ItemMetadataModel(),
        )
        for item in found
    ]
    span = models.ChunkSpan(start=started, stop=stopped, parts=[])
    result = models.QuantumProgramResultModel(
        data=items,
        metadata=models.MetadataModel(chunk_timing=[span]),
        passthrough_data=passthrough(program.passthrough_data),
        semantic_role=program._semantic_role,
    )
    return result.model_dump_json(), executions


def _shape(item):
    """How many circuits an item stands for, as a shape."""
    arguments = getattr(item, "circuit_arguments", None)
    if arguments is not None:
        return np.asarray(arguments).shape[:-1]
    return tuple(item.shape)
