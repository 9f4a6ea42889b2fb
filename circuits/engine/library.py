"""Load the compiled kernel, once a process, or say in one line why it is not there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ctypes import CDLL, c_char_p, c_double, c_int, c_int64, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from circuits.engine import build

ABI_VERSION = 2
"""Version of the C interface that this code speaks; a library with another one is not used."""

FALLBACK = "backend: 'auto' is 'torch' in this process, the compiled engine is not available: %s"
"""What a log says, with `reason()`, where the compiled engine was wanted and torch takes its place."""

# Result, then arguments, as kernel/interface.h declares and describes them. Arrays are passed as addresses.
_RUN = (c_void_p, c_int, c_int, c_int64, c_void_p, c_int64, c_void_p)
_INTERFACE: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
    "qrl_isa_count": (c_int, ()),
    "qrl_isa_name": (c_char_p, (c_int,)),
    "qrl_isa_supported": (c_int, (c_int,)),
    "qrl_isa_best": (c_int, ()),
    "qrl_program_new": (c_void_p, (c_int, c_int, c_void_p, c_int64, c_void_p, c_int64)),
    "qrl_program_free": (None, (c_void_p,)),
    "qrl_lanes": (c_int, (c_void_p,)),
    "qrl_saved_bytes": (c_int64, (c_void_p, c_int, c_int64, c_int)),
    "qrl_forward": (c_int, (*_RUN, c_void_p, c_void_p)),
    "qrl_backward": (c_int, (*_RUN, c_void_p, c_void_p, c_void_p, c_void_p)),
    "qrl_sample": (c_int, (*_RUN, c_int64, c_uint64, c_void_p, c_void_p)),
    "qrl_anneal": (
        c_int,
        (
            *(c_int, c_int, c_int, c_int64, c_int64, c_int, c_int64, *3 * (c_void_p,), c_double, c_int),
            *(c_int64, c_void_p, c_void_p, c_int64, c_int64, c_uint64, *3 * (c_void_p,)),
        ),
    ),
    "qrl_fma_peak": (c_double, (c_int, c_int, c_double)),
}


@dataclass(frozen=True)
class Library:
    """The loaded library. Its functions release the global interpreter lock while they run.

    Attributes:
        lib: the C functions, with the types of arguments and results set.
        instruction_sets: names of those that were built; the C interface counts them in this order.
        supported: those of them that this processor can run.
        best: the one of them that is fastest here.
    """

    lib: CDLL
    instruction_sets: tuple[str, ...]
    supported: tuple[str, ...]
    best: str

    def choose(self, name: str | None = None) -> int:
        """Number of an instruction set in the C interface: the named one, or QRL_INSTRUCTION_SET, or the best.

        Raises:
            ValueError: it was not built, or this processor cannot run it.
        """
        field = "instruction_set"
        if name is None:
            field, name = "QRL_INSTRUCTION_SET", os.environ.get("QRL_INSTRUCTION_SET") or self.best
        if name not in self.supported:
            why = "cannot run on this processor" if name in self.instruction_sets else "was not built"
            raise ValueError(f"{field}: {name!r} {why}; use one of {', '.join(self.supported)}")
        return self.instruction_sets.index(name)


def load() -> Library | None:
    """Return the compiled kernel, or None where `reason` says why it cannot be used.

    Raises:
        ValueError: QRL_ENGINE is neither on, off nor sanitized.
    """
    outcome = _outcome()
    return outcome if isinstance(outcome, Library) else None


def reason() -> str | None:
    """Return in one line why `load` returns None, and the way out; None where it returns a library.

    Raises:
        ValueError: QRL_ENGINE is neither on, off nor sanitized.
    """
    outcome = _outcome()
    return None if isinstance(outcome, Library) else outcome


@cache
def _outcome() -> Library | str:
    engine = os.environ.get("QRL_ENGINE") or "on"
    if engine not in ("on", "off", "sanitized"):
        raise ValueError(f"QRL_ENGINE: {engine!r} is unknown; use one of on, off, sanitized")
    if engine == "off":
        return "switched off by QRL_ENGINE=off"
    return _open(build.FOLDER, sanitize=engine == "sanitized")


def _open(folder: Path, *, sanitize: bool = False) -> Library | str:
    """The library of a folder, or why it cannot be used."""
    record = build.read_record(folder, sanitize=sanitize)
    again = "run `make sanitize`" if sanitize else "run `make engine` or reinstall"
    if record is None:
        return f"not built: the installation did not try; {again}"
    if record.get("reason") is not None:
        return f"not built: {record['reason']}"
    if record.get("sources_sha256") != build.sources_sha256(folder / "kernel"):
        return f"stale: the sources are not those that were compiled; {again}"
    try:
        lib = CDLL(str(build.library_path(folder, sanitize=sanitize)))
        lib.qrl_abi_version.restype, lib.qrl_abi_version.argtypes = c_int, ()
        if (version := lib.qrl_abi_version()) != ABI_VERSION:
            return f"stale: version {version} of the C interface where {ABI_VERSION} is needed; {again}"
        for name, (result, arguments) in _INTERFACE.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return f"load error: {error}; {again}"
    names = tuple(lib.qrl_isa_name(i).decode() for i in range(lib.qrl_isa_count()))
    supported = tuple(name for i, name in enumerate(names) if lib.qrl_isa_supported(i))
    return Library(lib, names, supported, names[lib.qrl_isa_best()])
