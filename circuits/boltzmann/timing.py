"""Seconds on an annealer: as its answers say, or as its vendor's formula predicts.

Both are of one kind only and carry its name. Answers of a stand-in for a processor have timing fields too; they are
synthetic, and no second is taken from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from circuits.boltzmann.protocol import check_setting
from circuits.gates import integer

_MICROSECOND = 1e-6


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds on the processor, summed over calls.

    A sum is None where it is not known: an answer of hardware left the field out, or there was no hardware.

    Attributes:
        kind: "hardware", or "synthetic" where a stand-in answered.
        calls, reads: problems submitted, and reads taken.
        programming, sampling, overhead, access: as the fields qpu_programming_time, qpu_sampling_time,
            qpu_access_overhead_time and qpu_access_time of the answers; access is what is billed.
        anneal, readout: reads times qpu_anneal_time_per_sample and qpu_readout_time_per_sample.
    """

    kind: Literal["hardware", "synthetic"]
    calls: int = 0
    reads: int = 0
    programming: float | None = 0.0
    sampling: float | None = 0.0
    anneal: float | None = 0.0
    readout: float | None = 0.0
    overhead: float | None = 0.0
    access: float | None = 0.0

    @classmethod
    def of_answer(cls, fields: dict[str, Any], reads: int, hardware: bool) -> Timing:
        """Return the timing of one call from the answer's ``info["timing"]``, whose unit is the microsecond."""
        if not hardware:
            return cls("synthetic", 1, reads, None, None, None, None, None, None)

        def seconds(name: str, times: int = 1) -> float | None:
            value = fields.get(name)
            return None if value is None else float(value) * times * _MICROSECOND

        return cls(
            "hardware",
            1,
            reads,
            seconds("qpu_programming_time"),
            seconds("qpu_sampling_time"),
            seconds("qpu_anneal_time_per_sample", reads),
            seconds("qpu_readout_time_per_sample", reads),
            seconds("qpu_access_overhead_time"),
            seconds("qpu_access_time"),
        )

    def __add__(self, other: Timing) -> Timing:
        def add(a: float | None, b: float | None) -> float | None:
            return None if a is None or b is None else a + b

        return Timing(
            self.kind if self.kind == other.kind else "synthetic",
            self.calls + other.calls,
            self.reads + other.reads,
            add(self.programming, other.programming),
            add(self.sampling, other.sampling),
            add(self.anneal, other.anneal),
            add(self.readout, other.readout),
            add(self.overhead, other.overhead),
            add(self.access, other.access),
        )


@dataclass(frozen=True, slots=True)
class ModelledTime:
    """Predicted seconds on a processor.

    Attributes:
        seconds: the prediction.
        low, high: with the smallest and the largest documented overhead.
        kind: always "modelled": nothing was measured.
    """

    seconds: float
    low: float
    high: float
    kind: Literal["modelled"] = "modelled"


def qpu_time(
    calls: int,
    reads: int,
    *,
    qubits: int = 16,
    anneal: float = 20e-6,
    programming: float = 15072.88e-6,
    delay: float = 20.54e-6,
    readout: float | None = None,
    overhead: tuple[float, float] = (10e-3, 20e-3),
) -> ModelledTime:
    """Return what calls would take on a processor: programming + overhead + reads (anneal + readout + delay), each.

    Network, queue and embedding come on top. All times in seconds.

    Args:
        calls: problems submitted; one for each execution of a sampler.
        reads: reads of a call.
        qubits: qubits of the embedded problem, on which the readout time depends.
        anneal: one anneal.
        programming: programming and the wait after it, once a call.
        delay: wait after a read.
        readout: one readout; None takes it from the number of qubits.
        overhead: least and largest initialisation of a call; the prediction takes their middle.

    Raises:
        TypeError: a count is no integer.
        ValueError: a count or a time is out of range.

    Source: formula and 10 to 20 ms of overhead, D-Wave's documentation of QPU access time
        (docs.dwavesys.com, "Breakdown of QPU Access Time"); the other defaults are the ``problem_timing_data``
        printed there for an Advantage (typical programming 14072.88 us, thermalisation 1000 us, anneal 20 us, delay
        20.54 us, readout as ``readout_time``).
    """
    integer("calls", calls, 0)
    integer("reads", reads, 1)
    readout = readout_time(qubits) if readout is None else readout
    names = ("anneal", "programming", "delay", "readout", "overhead", "overhead")
    for name, value in zip(names, (anneal, programming, delay, readout, *overhead), strict=True):
        check_setting(name, value, zero=True)
    if overhead[1] < overhead[0]:
        raise ValueError(f"overhead: {overhead} has its larger end first; use (least, largest)")
    sampling = reads * (anneal + readout + delay)
    least, most = (calls * (programming + start + sampling) for start in overhead)
    return ModelledTime((least + most) / 2, least, most)


def readout_time(qubits: int) -> float:
    """Return the seconds of one readout, linear in logarithms between the points that the vendor publishes.

    Source: ``readout_time_model`` "pwl_log_log" of D-Wave's documented Advantage.
    """
    integer("qubits", qubits, 1)
    sizes = (
        0.0,
        0.7699665876947938,
        1.7242758696010096,
        2.711975459489206,
        3.1639057672764026,
        3.750276915153992,
    )
    times = (
        1.539131714800995,
        1.8726623164229292,
        2.125631787097315,
        2.332672340068556,
        2.371606651233025,
        2.3716219271760215,
    )
    return float(10.0 ** np.interp(math.log10(qubits), sizes, times)) * _MICROSECOND
