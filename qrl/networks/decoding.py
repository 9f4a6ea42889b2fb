"""Which measured bit strings stand for which action, and the probability of each action as a sum of Pauli words."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from circuits import Observable
from qrl.errors import InputError

BARREN = 8
"""Qubits beyond which a policy of parities is warned of."""


def decode(n_qubits: int, n_actions: int, decoding: str) -> NDArray[np.intp]:
    """The action of each basis state, ``(2 ** n_qubits,)``; bit q of the index is qubit q.

    ``local``: the first qubits are the digits of the action, qubit 0 first. ``parity``: its digits are the parities of
    blocks of neighbouring qubits, as even as possible; for two actions that is the parity of all. ``contiguous``: the
    bit strings, read with qubit 0 first, are cut into ranges as even as possible; for powers of two it is ``local``.

    Raises:
        InputError: more actions than bit strings, or for ``local`` and ``parity`` a number that is no power of two.

    Source: Meyer et al., arXiv:2212.06663 (local and global decoding); Sequeira et al., arXiv:2406.09614 (contiguous
    and parity-like partitions); the blocks are our own.
    """
    if n_actions > 2**n_qubits:
        why, fix = (
            f"qubits cannot tell {n_actions} actions apart",
            f"use at least {(n_actions - 1).bit_length()}",
        )
        raise InputError("network.n_qubits", n_qubits, why, fix)
    states = np.arange(2**n_qubits)
    bits = (states[:, None] >> np.arange(n_qubits)) & 1
    if decoding == "contiguous":
        read = bits @ (1 << np.arange(n_qubits)[::-1])
        # the first state of action a is the smallest integer >= a 2^n / A
        return np.asarray(read * n_actions // 2**n_qubits, dtype=np.intp)
    digits = n_actions.bit_length() - 1
    if n_actions != 2**digits:
        why, fix = f"needs a power of two, not {n_actions} actions", 'use "contiguous"'
        raise InputError("head.decoding", decoding, why, fix)
    if decoding == "local":
        blocks = [bits[:, [q]] for q in range(digits)]
    else:
        blocks = [bits[:, part] for part in np.array_split(np.arange(n_qubits), digits)] if digits else []
    action = np.zeros(len(states), dtype=np.intp)
    for block in blocks:
        action = 2 * action + block.sum(1) % 2
    return action


def projectors(n_qubits: int, n_actions: int, decoding: str) -> list[Observable]:
    r"""The observables whose expectation values are the probabilities of the actions.

    The indicator f of an action's bit strings is :math:`\sum_S c_S Z_S` with
    :math:`c_S = 2^{-n} \sum_b f(b) (-1)^{S \cdot b}`, its Walsh-Hadamard transform.

    Raises:
        InputError: as ``decode``.
    """
    if decoding == "parity" and n_qubits > BARREN:
        warnings.warn(
            f"parities of {n_qubits} qubits: gradients vanish exponentially (arXiv:2406.09614); "
            'above 8 qubits use decoding = "contiguous" or "local"',
            UserWarning,
            stacklevel=3,
        )
    action = decode(n_qubits, n_actions, decoding)
    indicators = (action == np.arange(n_actions)[:, None]).astype(float)
    for q in range(n_qubits):
        pairs = indicators.reshape(n_actions, -1, 2, 2**q)
        indicators = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], 2)
    coefficients = indicators.reshape(n_actions, -1) / 2**n_qubits
    return [_observable(row, n_qubits) for row in coefficients]


def _observable(coefficients: NDArray[np.float64], n_qubits: int) -> Observable:
    words = {}
    for index in np.flatnonzero(coefficients):
        word = "".join("Z" if index >> q & 1 else "I" for q in range(n_qubits))
        words[word] = float(coefficients[index])
    return Observable(tuple(words.items()))
