"""Who is measured: a name, a precision, and a function that builds the call from a problem.

Each contender runs in a process of its own, so what it needs is imported when it is built. A built contender takes a
problem and a kind, converts the inputs once, and returns a call without arguments; that call is what is timed. It
does what a user would write, so autograd and Python overhead are inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
from problem import Floats, Kind, Problem

Call = Callable[[], Any]
Build = Callable[[Problem, Kind], Call]


@dataclass(frozen=True)
class Contender:
    """One column of the tables.

    Attributes:
        name: what it is called.
        family: key of ``FAMILIES``.
        double: whether it computes in complex128, else complex64.
        options: arguments of the family.
        needs: module without which it cannot run.
        compiled: whether its first call compiles for the shape of its inputs.
    """

    name: str
    family: str
    double: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: str = "torch"
    compiled: bool = False

    @property
    def installed(self) -> bool:
        """Whether what it needs is there."""
        return find_spec(self.needs) is not None

    def build(self) -> Build:
        """Import what is needed, and return the function that builds calls."""
        return FAMILIES[self.family](self.double, **self.options)


def own(engine: str) -> tuple[Contender, Contender]:
    """A backend of this library in both precisions, learning as the agents do, by ``QuantumLayer.pullback``."""
    return (
        Contender(f"{engine} f32", "layer", False, {"backend": engine}),
        Contender(f"{engine} f64", "layer", True, {"backend": engine}),
    )


def through_autograd(engine: str) -> Contender:
    """The same backend with ``backward()`` on a loss, as a layer inside somebody's module learns."""
    return Contender(f"{engine} f32 autograd", "layer", False, {"backend": engine, "autograd": True})


def fastest() -> str:
    """The name of our fastest backend: native where the compiled kernel is there, else torch."""
    from circuits.engine.library import load

    return "torch" if load() is None else "native"


BACKPROP = Contender("PennyLane backprop", "pennylane", True, {"device": "default.qubit", "rule": "backprop"})
ADJOINT = Contender("lightning adjoint", "pennylane", True, {"device": "lightning.qubit", "rule": "adjoint"})
COMPILED = (
    Contender("PennyLane+jax c128", "pennylane_jax", True, needs="jax", compiled=True),
    Contender("TC+jax c64", "tensorcircuit", False, {"scan": False}, "tensorcircuit", True),
    Contender("TC+jax scan c64", "tensorcircuit", False, {"scan": True}, "tensorcircuit", True),
    Contender("TC+jax scan c128", "tensorcircuit", True, {"scan": True}, "tensorcircuit", True),
)
EMPTY = Contender("empty autograd.Function", "empty", False)


def _layer(double: bool, backend: str, autograd: bool = False, **options: Any) -> Build:
    """``qrl.QuantumLayer`` on a backend of ours; options go to the native backend."""
    import torch

    import qrl

    def build(problem: Problem, kind: Kind) -> Call:
        layer = qrl.QuantumLayer(_circuit(problem), observables(problem), backend=_backend(backend, options))
        layer = layer.double() if double else layer
        x, w = (_tensor(values, double) for values in (problem.x, problem.w))
        with torch.no_grad():
            layer.scales.copy_(torch.from_numpy(problem.s.ravel()))
            layer.weights.copy_(torch.from_numpy(problem.t.ravel()))
        if kind == "act" or autograd:
            return _torch_call(layer, x, w, [layer.scales, layer.weights], kind)

        def learn() -> Any:
            layer.scales.grad = layer.weights.grad = None
            _, back = layer.pullback(x)
            back(w)
            return [layer.scales.grad, layer.weights.grad]

        return learn

    return build


def _requests(double: bool, backend: str, per_sample: bool = False, **options: Any) -> Build:
    """The backend itself, without a layer; one parameter vector for all samples or one for each."""
    from circuits import Observable

    def build(problem: Problem, kind: Kind) -> Call:
        engine, circuit = _backend(backend, options), _circuit(problem)
        words = tuple(Observable.parse(word, problem.cell.qubits) for word in observables(problem))
        x, w = (_tensor(values, double) for values in (problem.x, problem.w))
        theta = _tensor(np.concatenate([problem.t.ravel(), problem.s.ravel()]), double)
        if per_sample:
            theta = theta.expand(len(x), -1).contiguous()

        def learn() -> tuple[Any, Any]:
            result = engine.expectations(circuit, theta, x, words, differentiate=True)
            assert result.vjp is not None
            by_theta = result.vjp(w, features=False).parameters
            assert by_theta is not None
            return by_theta[..., problem.t.size :], by_theta[..., : problem.t.size]

        return (lambda: (engine.expectations(circuit, theta, x, words).values,)) if kind == "act" else learn

    return build


def _empty(double: bool) -> Build:
    """An autograd function that takes and returns what the layer does, and computes nothing."""
    import torch

    class Empty(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, weights: Any, scales: Any) -> Any:
            ctx.save_for_backward(weights, scales)
            return torch.empty_like(x)

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> tuple[Any, ...]:
            weights, scales = ctx.saved_tensors
            return None, torch.empty_like(weights), torch.empty_like(scales)

    def build(problem: Problem, kind: Kind) -> Call:
        x, w = (_tensor(values, double) for values in (problem.x, problem.w))
        leaves = [_tensor(values.ravel(), double).requires_grad_() for values in (problem.s, problem.t)]
        return _torch_call(lambda x: Empty.apply(x, leaves[1], leaves[0]), x, w, leaves, kind)

    return build


def _pennylane(double: bool, device: str, rule: str) -> Build:
    """A QNode with the torch interface; samples are one broadcast."""
    import pennylane as qml
    import torch

    def build(problem: Problem, kind: Kind) -> Call:
        simulator = qml.device(device, wires=problem.cell.qubits)
        node = qml.qnode(simulator, interface="torch", diff_method=rule)(_pennylane_function(problem))
        x, s, t, w = (_tensor(v, double) for v in (problem.x, problem.s, problem.t, problem.w))
        if kind == "learn":
            s.requires_grad_()
            t.requires_grad_()
        if problem.cell.batch == 1:  # a circuit without a batch dimension is faster
            return _torch_call(lambda x: torch.stack(node(x[0], s, t))[None], x, w, [s, t], kind)
        return _torch_call(lambda x: torch.stack(node(x, s, t), dim=1), x, w, [s, t], kind)

    return build


def _pennylane_jax(double: bool) -> Build:
    """A QNode with the jax interface under ``jax.jit``."""
    jax = _jax(double)
    import pennylane as qml

    def build(problem: Problem, kind: Kind) -> Call:
        simulator = qml.device("default.qubit", wires=problem.cell.qubits)
        node = qml.qnode(simulator, interface="jax", diff_method="backprop")(_pennylane_function(problem))
        if problem.cell.batch == 1:
            return _jax_call(jax, lambda x, s, t: jax.numpy.stack(node(x[0], s, t))[None], problem, kind)
        return _jax_call(jax, lambda x, s, t: jax.numpy.stack(node(x, s, t), axis=1), problem, kind)

    return build


def _tensorcircuit(double: bool, scan: bool) -> Build:
    """TensorCircuit under ``jax.jit`` and ``vmap``: layers unrolled, or one layer compiled and scanned over."""
    jax = _jax(double)
    import tensorcircuit as tc

    tc.set_backend("jax")
    tc.set_dtype("complex128" if double else "complex64")

    def build(problem: Problem, kind: Kind) -> Call:
        n = problem.cell.qubits

        def layer(circuit: Any, x: Any, s: Any, t: Any) -> None:
            for q in range(n):
                circuit.rx(q, theta=s[q] * x[q])
                circuit.ry(q, theta=t[q, 0])
                circuit.rz(q, theta=t[q, 1])
            for q in range(n):
                circuit.cz(q, (q + 1) % n)

        def unrolled(x: Any, s: Any, t: Any) -> Any:
            circuit = tc.Circuit(n)
            for index in range(problem.cell.layers):
                layer(circuit, x, s[index], t[index])
            return jax.numpy.stack([circuit.expectation_ps(z=[q]).real for q in range(n)])

        def scanned(x: Any, s: Any, t: Any) -> Any:
            def body(state: Any, weights: tuple[Any, Any]) -> tuple[Any, None]:
                circuit = tc.Circuit(n, inputs=state)
                layer(circuit, x, *weights)
                return circuit.state(), None

            start = jax.numpy.zeros(2**n, dtype=tc.dtypestr).at[0].set(1.0)
            state, _ = jax.lax.scan(body, start, (s, t))
            # Sums of probabilities: a third faster at 8 qubits than one contraction for each expectation.
            table = (jax.numpy.abs(state) ** 2).reshape((2,) * n)
            ends = [table.sum(axis=tuple(a for a in range(n) if a != q)) for q in range(n)]
            return jax.numpy.stack([end[0] - end[1] for end in ends])

        return _jax_call(jax, jax.vmap(scanned if scan else unrolled, (0, None, None)), problem, kind)

    return build


FAMILIES: dict[str, Callable[..., Build]] = {
    "layer": _layer,
    "requests": _requests,
    "empty": _empty,
    "pennylane": _pennylane,
    "pennylane_jax": _pennylane_jax,
    "tensorcircuit": _tensorcircuit,
}


def _torch_call(function: Callable[[Any], Any], x: Any, w: Any, leaves: list[Any], kind: Kind) -> Call:
    import torch

    def act() -> Any:
        with torch.no_grad():
            return (function(x),)

    def learn() -> Any:
        for leaf in leaves:
            leaf.grad = None
        (w * function(x)).sum().backward()
        return [leaf.grad for leaf in leaves]

    return act if kind == "act" else learn


def _jax_call(jax: Any, function: Callable[..., Any], problem: Problem, kind: Kind) -> Call:
    x, s, t, w = (jax.numpy.asarray(values) for values in (problem.x, problem.s, problem.t, problem.w))
    if kind == "act":
        act = jax.jit(lambda x, s, t: (function(x, s, t),))
        return lambda: jax.block_until_ready(act(x, s, t))
    learn = jax.jit(jax.grad(lambda s, t, x, w: (w * function(x, s, t)).sum(), argnums=(0, 1)))
    return lambda: jax.block_until_ready(learn(s, t, x, w))


def _jax(double: bool) -> Any:
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", double)
    return jax


def _tensor(values: Floats, double: bool) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float64 if double else torch.float32)


def _circuit(problem: Problem) -> Any:
    from circuits import reuploading

    return reuploading(problem.cell.qubits, problem.cell.layers)


def observables(problem: Problem) -> list[str]:
    """Z on every qubit, as labels."""
    n = problem.cell.qubits
    return ["I" * q + "Z" + "I" * (n - q - 1) for q in range(n)]


def _backend(name: str, options: Mapping[str, Any]) -> Any:
    if name == "native":
        from circuits.backends.native import NativeBackend

        return NativeBackend(**options)
    from circuits import get_backend

    return get_backend(name)


def _pennylane_function(problem: Problem) -> Callable[..., Any]:
    import pennylane as qml

    n = problem.cell.qubits

    def circuit(x: Any, s: Any, t: Any) -> list[Any]:
        for layer in range(problem.cell.layers):
            for q in range(n):
                qml.RX(s[layer, q] * x[..., q], wires=q)
                qml.RY(t[layer, q, 0], wires=q)
                qml.RZ(t[layer, q, 1], wires=q)
            for q in range(n):
                qml.CZ(wires=(q, (q + 1) % n))
        return [qml.expval(qml.PauliZ(q)) for q in range(n)]

    return circuit
