"""Our torch backend beside PennyLane, in one run on one thread: forward, and forward with all gradients.

The circuit is layers of RX(scale * x), RY, RZ and a CZ ring, measured by Z on every qubit. Before any timing the
three are checked to agree in values and gradients. Rounds alternate between the peers, so that a busy neighbour
meets all of them; medians and the ratio of medians are printed. Run as `python tests/bench/bench_circuits.py`
(`QUICK=1` for a minute's version). It measures and never fails on a time. PennyLane computes in complex128: the ratios
are therefore taken against our float64 column; float32 is what agents use.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch

import qrl
from circuits import reuploading

QUICK = bool(os.environ.get("QUICK"))
SIZES = (
    [(4, 5, 1), (4, 5, 16), (4, 5, 64)]
    if QUICK
    else [(4, 5, 1), (4, 5, 16), (4, 5, 64), (4, 5, 256), (8, 5, 16), (8, 5, 64)]
)
F32, F64 = torch.float32, torch.float64
PEERS = {
    "torch f32": ("torch", F32),
    "torch f64": ("torch", F64),
    "default.qubit": ("pennylane:default.qubit", F64),
    "lightning": ("pennylane:lightning.qubit", F64),
}
ROUNDS = 5 if QUICK else 9


def layers(n_qubits: int, n_layers: int, precise: bool = False) -> dict[str, qrl.QuantumLayer]:
    """The same layer, parameters included, on each backend."""
    observables = ["I" * q + "Z" + "I" * (n_qubits - q - 1) for q in range(n_qubits)]
    found = {}
    for name, (backend, dtype) in PEERS.items():
        torch.manual_seed(0)
        layer = qrl.QuantumLayer(reuploading(n_qubits, n_layers), observables, backend=backend)
        found[name] = layer.double() if precise or dtype == F64 else layer
    return found


def learn(layer: qrl.QuantumLayer, features: torch.Tensor) -> list[torch.Tensor]:
    layer.zero_grad()
    layer(features).sum().backward()
    return [p.grad for p in layer.parameters() if p.grad is not None]


def act(layer: qrl.QuantumLayer, features: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return layer(features)


def check(n_qubits: int, n_layers: int, batch: int) -> None:
    """All peers give the same expectations and gradients, in double precision."""
    features = torch.rand(batch, n_qubits, dtype=torch.float64) * 2 - 1
    found = layers(n_qubits, n_layers, precise=True)
    values, grads = act(found["torch f64"], features), learn(found["torch f64"], features)
    for layer in found.values():
        torch.testing.assert_close(act(layer, features), values, atol=1e-12, rtol=0)
        for ours, theirs in zip(grads, learn(layer, features), strict=True):
            torch.testing.assert_close(theirs, ours, atol=1e-10 * batch, rtol=0)


def milliseconds(call: Callable[[], object]) -> float:
    """One timing, repeated inside until it takes five milliseconds."""
    repeats, elapsed = 1, 0.0
    while True:
        start = perf_counter()
        for _ in range(repeats):
            call()
        elapsed = perf_counter() - start
        if elapsed > 5e-3:
            return 1e3 * elapsed / repeats
        repeats *= 2


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"{'':>12} {'':>6}"
        + "".join(f"{name + ' ms':>18}" for name in PEERS)
        + f"{'over default':>14}{'over lightning':>16}"
    )
    for n_qubits, n_layers, batch in SIZES:
        check(n_qubits, n_layers, min(batch, 3))
        features = {dtype: torch.rand(batch, n_qubits, dtype=dtype) * 2 - 1 for dtype in (F32, F64)}
        found = layers(n_qubits, n_layers)
        for kind, run in (("act", act), ("learn", learn)):
            times: dict[str, list[float]] = {name: [] for name in PEERS}
            for _ in range(ROUNDS):
                for name, layer in found.items():
                    times[name].append(milliseconds(partial(run, layer, features[PEERS[name][1]])))
            medians = {name: statistics.median(values) for name, values in times.items()}
            ratios = [medians[peer] / medians["torch f64"] for peer in ("default.qubit", "lightning")]
            label = f"{n_qubits}/{n_layers}/{batch}"
            print(
                f"{label:>12} {kind:>6}"
                + "".join(f"{m:>18.3f}" for m in medians.values())
                + f"{ratios[0]:>13.0f}x{ratios[1]:>15.0f}x"
            )


if __name__ == "__main__":
    main()
