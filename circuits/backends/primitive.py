"""The ``primitive`` backend: anything with Qiskit's Estimator interface (version 2).

``primitive`` is Qiskit's own exact estimator and ``primitive:aer`` that of Aer; :class:`PrimitiveBackend` takes any
other, such as one of a cloud provider, and :meth:`PrimitiveBackend.of_device` any Qiskit ``BackendV2``. A request is
one PUB: a circuit that is transpiled once and keeps its angles as parameters, all observables, and all rows of angles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuits.backends._device import SEED
from circuits.backends.protocol import Capabilities, Expectations, Usage, check_request, forward_usage
from circuits.circuit import Circuit
from circuits.gates import choice
from circuits.observables import Observable

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.primitives import BaseEstimatorV2
    from qiskit.providers import BackendV2

Floats = NDArray[np.float64]


class PubBackend:
    """What backends share whose requests are PUBs: a transpiled circuit, observables on its layout, rows of angles.

    A subclass answers in ``_ask`` and says in ``_machine`` for what circuits are transpiled.
    """

    name: str
    capabilities: Capabilities

    def __init__(self) -> None:
        self._token = object()  # what circuits keep for this backend; an id would be used again

    def _machine(self) -> BackendV2 | None:
        """The device that circuits are transpiled for, None to leave them as they are."""
        raise NotImplementedError

    def _ask(
        self,
        circuit: Circuit,
        observables: Sequence[Observable],
        angles: Floats,
        shots: int | None,
        seed: int | None,
    ) -> tuple[Floats, Floats, Usage]:
        """Values and errors ``(N, n_observables)`` of observables without identities, and what else it cost."""
        raise NotImplementedError

    def expectations(
        self,
        circuit: Circuit,
        parameters: Tensor,
        features: Tensor,
        observables: Sequence[Observable],
        shots: int | None = None,
        seed: int | None = None,
        *,
        differentiate: bool = False,
    ) -> Expectations:
        """Return expectation values; see ``circuits.backends.protocol.Backend.expectations``.

        Raises:
            ValueError: as stated there; also a seed for an estimator that takes none.
        """
        started = time.perf_counter()
        observables = tuple(observables)
        check_request(self, circuit, parameters, features, observables, shots)
        angles = circuit.angles(
            parameters.detach().cpu().double().numpy(), features.detach().cpu().double().numpy()
        )
        angles = np.broadcast_to(angles, (len(features), circuit.n_angles))
        values, errors = np.zeros((2, len(features), len(observables)))
        values += [observable.words.get("I" * circuit.n_qubits, 0.0) for observable in observables]
        # estimators would charge identities, and draw noise for them
        asked = [i for i, observable in enumerate(observables) if _to_measure(observable)]
        more = Usage()
        if len(features) and asked:
            measured = [Observable(_to_measure(observables[i])) for i in asked]
            found, spread, more = self._ask(circuit, measured, angles, shots, seed)
            values[:, asked] += found
            errors[:, asked] = spread
        usage = forward_usage(circuit, observables, len(features), shots, 0.0) + more
        usage.seconds = time.perf_counter() - started
        return Expectations(
            self._tensor(values, features), None if shots is None else self._tensor(errors, features), usage
        )

    def pub(self, circuit: Circuit, observables: Sequence[Observable], angles: Floats) -> tuple[Any, ...]:
        """What one request sends: circuit, observables ``(n_observables, 1)``, and angles ``(N, n_angles)``.

        The columns of the angles are in the order of the circuit's parameters.
        """
        from circuits.export import observable_to_qiskit

        whole = self.transpiled(circuit)
        words = [observable_to_qiskit(observable) for observable in observables]
        if whole.layout is not None:
            words = [word.apply_layout(whole.layout) for word in words]
        columns = [symbol.index for symbol in whole.parameters]
        if not columns:
            # without parameters there is no shape to run along
            return whole, [[word] for word in words]
        return whole, [[word] for word in words], angles[:, columns]

    def transpiled(self, circuit: Circuit, basis: str | None = None) -> QuantumCircuit:
        """The circuit on the device, transpiled once and kept with its parameters.

        Args:
            circuit: the circuit.
            basis: one of IXYZ a qubit, to measure all qubits in; None leaves the circuit without measurement.
        """

        def build(circuit: Circuit) -> QuantumCircuit:
            from qiskit import transpile

            from circuits.export import to_qiskit

            plain = to_qiskit(circuit, flat=True)
            if basis is not None:
                for qubit, letter in enumerate(basis):
                    if letter == "Y":
                        plain.sdg(qubit)
                    if letter in "XY":
                        plain.h(qubit)
                plain.measure_all()
            machine = self._machine()
            if machine is None:
                return plain
            return transpile(plain, machine, optimization_level=3, seed_transpiler=SEED)

        return circuit.memo(("pub", self._token, basis), build)

    def _tensor(self, values: Floats, like: Tensor) -> Tensor:
        return torch.as_tensor(values, dtype=like.dtype, device=like.device)


class PrimitiveBackend(PubBackend):
    """Evaluates circuits through an estimator.

    Args:
        estimator: the estimator, or a function that makes one from the seed of a request.
        device: for what circuits are transpiled, once and at level 3; None leaves them as they are.
        exact: whether the estimator answers exactly where no precision is asked for.
        name: by which results are labelled.

    Shots stand for the precision that the estimator is asked for, ``1 / sqrt(shots)`` for a Pauli word. Standard errors
    are the estimator's own. A seed needs an estimator that is made for it.

    Source: own construction on Qiskit's ``BaseEstimatorV2``.
    """

    def __init__(
        self,
        estimator: BaseEstimatorV2 | Callable[[int], BaseEstimatorV2],
        device: BackendV2 | None = None,
        *,
        exact: bool = False,
        name: str = "primitive",
    ) -> None:
        from qiskit.primitives import BaseEstimatorV2

        super().__init__()
        self._fixed = estimator if isinstance(estimator, BaseEstimatorV2) else None
        self._make = None if isinstance(estimator, BaseEstimatorV2) else estimator
        self._device = device
        self.name = name
        limit = None if device is None else device.num_qubits
        self.capabilities = Capabilities(False, exact, True, (torch.float32, torch.float64), limit)

    @classmethod
    def of_device(cls, device: BackendV2, **options: Any) -> Self:
        """A backend on any device of Qiskit's, through ``BackendEstimatorV2``.

        Args:
            device: the device; transpiled for, and run.
            options: of ``BackendEstimatorV2``.
        """
        from qiskit.primitives import BackendEstimatorV2

        def make(seed: int) -> BaseEstimatorV2:
            return BackendEstimatorV2(backend=device, options={"seed_simulator": seed, **options})

        return cls(make, device, name=f"primitive:{device.name}")

    def _machine(self) -> BackendV2 | None:
        return self._device

    def _ask(
        self,
        circuit: Circuit,
        observables: Sequence[Observable],
        angles: Floats,
        shots: int | None,
        seed: int | None,
    ) -> tuple[Floats, Floats, Usage]:
        if seed is not None and self._make is None:
            raise ValueError(f"seed: {seed}, but {self.name} is one given estimator; seed that one")
        pub = self.pub(circuit, observables, angles)
        precision = None if shots is None else 1.0 / math.sqrt(shots)
        found = self._estimator(seed).run([pub], precision=precision).result()[0].data
        return *estimated(found, len(observables), precision), Usage()

    def _estimator(self, seed: int | None) -> BaseEstimatorV2:
        if self._fixed is not None:
            return self._fixed
        assert self._make is not None
        return self._make(int(torch.randint(2**31 - 1, ()).item()) if seed is None else seed)


def estimated(found: Any, n_observables: int, precision: float | None) -> tuple[Floats, Floats]:
    """Values and standard errors ``(N, n_observables)`` of an estimator's data."""
    values = np.asarray(found.evs).reshape(n_observables, -1).T
    errors = np.asarray(found.stds).reshape(n_observables, -1).T
    # one that draws with the precision asked for may report no error of its own
    return values, np.where(errors > 0.0, errors, precision or 0.0)


def _to_measure(observable: Observable) -> tuple[tuple[str, float], ...]:
    return tuple((word, value) for word, value in observable.words.items() if value and set(word) != {"I"})


def _statevector(seed: int) -> BaseEstimatorV2:
    from qiskit.primitives import StatevectorEstimator

    return StatevectorEstimator(seed=seed)


def _aer(seed: int) -> BaseEstimatorV2:
    from qiskit_aer.primitives import EstimatorV2

    return EstimatorV2(
        options={"backend_options": {"method": "statevector"}, "run_options": {"seed_simulator": seed}}
    )


_KNOWN = {"statevector": _statevector, "aer": _aer}


def known_primitive(target: str | None) -> PrimitiveBackend:
    """The backend of an estimator that can be named: ``statevector`` (the default) or ``aer``.

    Raises:
        ValueError: another name.
    """
    name = "statevector" if target is None else target
    choice("backend", name, tuple(_KNOWN))
    return PrimitiveBackend(
        _KNOWN[name], exact=True, name="primitive" if target is None else f"primitive:{target}"
    )
