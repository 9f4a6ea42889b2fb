"""Seconds on a superconducting processor, predicted before anything is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass

from circuits.gates import integer

JOB_SECONDS = 2.0
"""Of a job before its first circuit and after its last."""
REPETITION_DELAY = 250e-6
"""Seconds that a processor rests before each shot; most of a shot of a shallow circuit."""
CIRCUIT_SECONDS = 10e-6
"""Of a shallow circuit of some four qubits, measurement included, where its own duration is not known."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one request would take, modelled.

    Attributes:
        executions: circuits times shots.
        shots: of each circuit.
        seconds: on the processor.
        depth: of the transpiled circuit, None where there is no device to transpile for.
        two_qubit_gates: of it.
        source: what the figures rest on.
    """

    executions: int
    shots: int
    seconds: float
    depth: int | None
    two_qubit_gates: int | None
    source: str

    @property
    def cap(self) -> int:
        """Whole seconds after which the machine shall stop such a job: half as long again, and two."""
        return math.ceil(1.5 * self.seconds) + 2


def job_seconds(executions: int, circuit_seconds: float = CIRCUIT_SECONDS) -> float:
    """Seconds on the processor of one job.

    Args:
        executions: circuits times shots.
        circuit_seconds: of one of them.

    Raises:
        TypeError, ValueError: executions are no integer, or below 0.

    Source: IBM's documented estimate of usage, two seconds a job and the repetition delay plus the circuit's duration
        an execution.
    """
    return JOB_SECONDS + integer("executions", executions, 0) * (REPETITION_DELAY + circuit_seconds)
