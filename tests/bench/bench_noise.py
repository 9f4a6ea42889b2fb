"""Time of a noisy expectation value: our cut to the qubits in use beside the whole device, side by side.

Both simulate the same transpiled circuit with the calibration of one 133-qubit device. Ours is exact, the whole device
draws 1024 shots, which is the most it can do. Run as ``python tests/bench/bench_noise.py``; ``QUICK=1`` takes seconds.
"""

from __future__ import annotations

import os
from statistics import median
from time import perf_counter

import numpy as np
from report import Goal, Section, goals_table, short, table

DEVICE = "fake_torino"
BINDINGS = 1936
"""16 samples, each with the 121 points of a parameter-shift gradient of 60 angles."""
BOUND = 25.0


def measure(quick: bool) -> Section:
    """Milliseconds a binding of either, in turns."""
    from qiskit import ClassicalRegister, transpile
    from qiskit_aer import AerSimulator

    from circuits import reuploading
    from circuits.backends.aer import AerBackend, fake_device
    from circuits.export import to_qiskit

    circuit, backend, device = reuploading(4, 5), AerBackend(DEVICE), fake_device(DEVICE)
    angles = np.random.default_rng(0).uniform(-3, 3, (200 if quick else BINDINGS, circuit.n_angles))
    isa = transpile(to_qiskit(circuit, flat=True), device, optimization_level=3, seed_transpiler=0)
    isa.add_register(ClassicalRegister(circuit.n_qubits))
    isa.measure(isa.layout.final_index_layout(), range(circuit.n_qubits))
    whole = AerSimulator.from_backend(device, max_parallel_threads=1)
    symbols = sorted(isa.parameters, key=lambda symbol: symbol.index)

    def ours(rows: np.ndarray) -> None:
        backend.probabilities(circuit, rows, "ZZZZ")

    def theirs(rows: np.ndarray) -> None:
        binds = {symbol: rows[:, symbol.index].tolist() for symbol in symbols}
        answer = whole.run(isa, parameter_binds=[binds], shots=1024).result()
        if not answer.success:
            raise RuntimeError(answer.status)

    few, turns = angles[: 10 if quick else 50], 1 if quick else 5
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    ours(angles[:2])
    theirs(angles[:1])  # what is done once is not timed
    for _ in range(turns):
        for name, run, rows in (("ours", ours, angles), ("theirs", theirs, few)):
            start = perf_counter()
            run(rows)
            times[name].append((perf_counter() - start) / len(rows))
    one, other = median(times["ours"]), median(times["theirs"])
    text = table(
        ["4 qubits, 5 layers, noise of a 133-qubit device", "ms a binding"],
        [
            [f"ours, exact, {len(angles)} bindings", short(1e3 * one)],
            ["whole device, 1024 shots", short(1e3 * other)],
        ],
    )
    found = {f"{len(angles)} bindings": other / one}
    goal = Goal("noisy expectation value, whole device over ours", ">=", BOUND, "x", found)
    return Section("Noise of a device", text, times, [goal])


def main() -> None:
    section = measure(bool(os.environ.get("QUICK")))
    print(section.text)
    print(goals_table([section]))


if __name__ == "__main__":
    main()
