"""Backends by name."""

from __future__ import annotations

import pytest

from circuits import BACKENDS, get_backend
from circuits.backends import Backend
from circuits.backends.torch import TorchBackend
from circuits.engine import library


def test_backends_are_found_by_name():
    assert isinstance(get_backend("torch"), TorchBackend)
    assert get_backend("auto").name == ("torch" if library.load() is None else "native")
    assert set(BACKENDS) >= {"native", "torch", "pennylane"}
    for name in ("torch", "pennylane:lightning.qubit"):
        backend = get_backend(name)
        assert isinstance(backend, Backend)
        assert backend.name == name


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("trch", ValueError, "backend: 'trch' is unknown, use one of .*; did you mean 'torch'"),
        ("torch:cuda", ValueError, "backend: 'torch' has no target 'cuda'"),
        (None, TypeError, "backend: None is not a string"),
    ],
)
def test_unknown_names_are_refused(name, error, message):
    with pytest.raises(error, match=message):
        get_backend(name)
