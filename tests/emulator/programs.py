"""The programs that the loopback service runs, on Aer: ``executor``, and the older ``estimator`` and ``sampler``."""

import datetime
import json
import math
import time
import warnings
from functools import cache

import numpy as np


class Processor:
    """A small machine, five qubits, as recorded of one that existed.

    Args:
        name: under which it is offered.
        noise: whether its recorded noise is simulated.
        seed: of all sampling together with a job's number, None for a new one each time.
    """

    def __init__(self, name="ibm_loopback", noise=False, seed=0):
        from qiskit_ibm_runtime.fake_provider import FakeManilaV2

        self.name, self.noise, self.seed = name, noise, seed
        self.fake = FakeManilaV2()

    @cache  # noqa: B019 (one processor lives as long as its service)
    def simulator(self):
        """Aer as this machine."""
        from qiskit_aer import AerSimulator

        if self.noise:
            return AerSimulator.from_backend(self.fake, method="density_matrix")
        return AerSimulator(method="statevector")

    @cache  # noqa: B019
    def document(self, which):
        """The recorded ``configuration`` or ``properties``."""
        file = {"configuration": self.fake.conf_filename, "properties": self.fake.props_filename}[which]
        with open(f"{self.fake.dirname}/{file}", encoding="utf-8") as stream:
            found = json.load(stream)
        found["backend_name"] = self.name
        if which == "configuration":
            found["simulator"] = False
        return found

    def read(self, request):
        """A submission's program and its number of executions: circuits after broadcasting, times shots.

        Raises:
            ValueError: it cannot be read.
        """
        name = request["program_id"]
        if name == "executor":
            program = _executor_program(request["params"])
            return program, sum(math.prod(item.shape) for item in program.items) * program.shots
        if name in ("estimator", "sampler"):
            from qiskit_ibm_runtime.json import RuntimeDecoder

            params = json.loads(json.dumps(request["params"]), cls=RuntimeDecoder)
            pubs = _coerced(name, params)
            return (name, pubs), sum(_executions(name, pub) for pub in pubs)
        raise ValueError(f"program_id: {name} is unknown")

    def run(self, program, number):
        """The reply to a program as text."""
        seed = None if self.seed is None else self.seed * 1_000_003 + number
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return (
                self._primitive(*program, seed)
                if isinstance(program, tuple)
                else self._executor(program, seed)
            )

    def _executor(self, program, seed):
        from ibm_quantum_schemas.common import CompressedTensorModel
        from ibm_quantum_schemas.executor import version_2_0
        from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import run_quantum_program
        from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions
        from qiskit_ibm_runtime.quantum_program.converters.converters_2_0 import passthrough_data_to_2_0

        begun = time.time()
        found = run_quantum_program(self.simulator(), program, SimulatorOptions(seed_simulator=seed))
        span = {
            "start": datetime.datetime.fromtimestamp(begun, datetime.UTC),
            "stop": datetime.datetime.now(datetime.UTC),
            "parts": [_whole(number, item) for number, item in enumerate(program.items)],
        }
        reply = version_2_0.QuantumProgramResultModel(
            data=[
                {
                    "results": {
                        name: CompressedTensorModel.from_numpy(np.asarray(value))
                        for name, value in dict(item).items()
                    },
                    "metadata": {},
                }
                for item in found
            ],
            metadata={"chunk_timing": [span]},
            passthrough_data=passthrough_data_to_2_0(program.passthrough_data),
            semantic_role=program._semantic_role,
        )
        return reply.model_dump_json()

    def _primitive(self, name, pubs, seed):
        from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2
        from qiskit_ibm_runtime.json import RuntimeEncoder

        kind = BackendEstimatorV2 if name == "estimator" else BackendSamplerV2
        result = kind(backend=self.simulator(), options={"seed_simulator": seed}).run(pubs).result()
        return json.dumps(result, cls=RuntimeEncoder)


def _whole(number, item):
    size = math.prod(item.shape)
    order = list(range(len(item.shape)))
    return {"idx_item": number, "size": size, "permutation": order, "element_range": (0, size, 1)}


def _executor_program(params):
    from qiskit_ibm_runtime.quantum_program.params_converters import QUANTUM_PROGRAM_PARAMS_CONVERTERS
    from samplomatic.quantum_program import SamplexItem

    version = params.get("schema_version")
    if version != "v2.0":
        raise ValueError(f"schema_version: {version} is not read here; the client sends v2.0")
    converter = QUANTUM_PROGRAM_PARAMS_CONVERTERS[version]
    program, _ = converter.decoder(converter.model.model_validate(params))
    for item in program.items:
        if isinstance(item, SamplexItem):
            item.samplex.finalize()
    return program


def _coerced(name, params):
    from qiskit.primitives.containers.estimator_pub import EstimatorPub
    from qiskit.primitives.containers.sampler_pub import SamplerPub

    options = params.get("options", {})
    if name == "sampler":
        shots = params.get("shots") or options.get("default_shots") or 4096
        return [SamplerPub.coerce(tuple(pub), shots) for pub in params["pubs"]]
    shots = options.get("default_shots")
    asked = params.get("precision") or options.get("default_precision")
    precision = asked or (1 / math.sqrt(shots) if shots else 0.015625)
    return [EstimatorPub.coerce(tuple(pub), precision) for pub in params["pubs"]]


def _executions(name, pub):
    size = max(1, math.prod(pub.shape))
    return size * (pub.shots if name == "sampler" else math.ceil(1 / pub.precision**2))
