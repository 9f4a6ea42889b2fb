"""Processes that measure: one for each contender, pinned to one core, one active at a time, stopped at a limit.

A contender of its own process cannot disturb another one's threads, caches or memory, and may be ended when it takes
more than its time or memory. Only one works at a time, so they share the core and its noise.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import multiprocessing
import os
import time
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from contenders import Call, Contender
from problem import Cell, Floats, Kind, Problem

SECONDS = 60.0
"""Longest a contender may take for one call, and apart from that to compile it."""
GIGABYTES = 8.0
"""Most memory that a contender's process may hold."""

_START_SECONDS = 120.0
_POLL_SECONDS = 0.05


class Limit(Exception):
    """A contender could not do what it was asked; the message says why in a few words."""


class Timer:
    """Runs in a contender's process: builds calls and times them."""

    def __init__(self, contender: Contender) -> None:
        self._build = contender.build()
        self._call: Call = lambda: None
        self._repeats = 1

    def first(self, cell: Cell, kind: Kind) -> float:
        """Build a call and run it once; return the seconds, compilation included."""
        self._call = self._build(Problem(cell), kind)
        start = perf_counter()
        self._call()
        return perf_counter() - start

    def second(self, block_s: float) -> float:
        """Run it again, find how many repeats fill a block, and return the seconds of one."""
        self._repeats = 1
        while (once := self.block(warm=False)) * self._repeats < block_s / 2:
            self._repeats *= 2
        self._repeats = max(1, math.ceil(block_s / once))
        return once

    def answers(self) -> list[Floats]:
        """What the call returns."""
        return [np.asarray(values, dtype=np.float64) for values in self._call()]

    def block(self, warm: bool = True) -> float:
        """Run a block of repeats; return the seconds of one call."""
        call, repeats = self._call, self._repeats
        if warm and repeats > 1:  # the others have used the caches since the last block
            call()
        start = perf_counter()
        for _ in range(repeats):
            call()
        return (perf_counter() - start) / repeats

    def extra_memory(self, cell: Cell) -> float:
        """Return the MB by which the resident set peaks above its start in a first learn step of a size.

        A step at a tiny size comes before it, so that libraries are loaded. Free memory is given back, so that none
        of it is used again unseen; the system's high-water mark is reset by writing 5 to ``clear_refs``.
        """
        self._build(Problem(Cell(4, 1, 1)), "learn")()
        call = self._build(Problem(cell), "learn")
        gc.collect()
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_mb("VmRSS")
        call()
        return _status_mb("VmHWM") - before


def _status_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise Limit(f"no {field} on this system")


class Worker:
    """The caller's end of a process that holds one object and calls its methods.

    Args:
        make: class of the object, importable by name.
        arguments: its arguments.

    Raises:
        Limit: where the object cannot be made.
    """

    def __init__(self, make: type, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, make, arguments, quiet_core()), daemon=True
        )
        self._process.start()
        theirs.close()
        self._memory = psutil.Process(self._process.pid)
        self._answer(_START_SECONDS)

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        return self._process.is_alive()

    def call(self, method: str, *arguments: Any, seconds: float = SECONDS) -> Any:
        """Return what the method returns.

        Raises:
            Limit: it raised, or took too long or too much memory; in the latter two cases the process is ended.
        """
        try:
            self._pipe.send((method, arguments))
        except OSError:
            self.close()
            raise Limit("process died") from None
        return self._answer(seconds)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()

    def _answer(self, seconds: float) -> Any:
        end = time.monotonic() + seconds
        while not self._pipe.poll(_POLL_SECONDS):
            if time.monotonic() > end:
                self.close()
                raise Limit(f"> {seconds:.0f} s")
            if _resident(self._memory) > GIGABYTES * 1e9:
                self.close()
                raise Limit(f"> {GIGABYTES:.0f} GB")
        try:
            failure, answer = self._pipe.recv()
        except (EOFError, OSError):
            self.close()
            raise Limit("process died") from None
        if failure is not None:
            raise Limit(failure)
        return answer


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:  # it has just ended; the pipe will say so
        return 0


def _serve(pipe: Connection, make: type, arguments: tuple[Any, ...], core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    # What libraries print is not the program's output.
    os.dup2(2, 1)
    target: Any = None

    def answer(method: str, given: tuple[Any, ...]) -> Any:
        nonlocal target
        if method == "__init__":
            target = make(*given)
            return None
        return getattr(target, method)(*given)

    request: tuple[str, tuple[Any, ...]] = ("__init__", arguments)
    with contextlib.suppress(EOFError):
        while True:
            try:
                pipe.send((None, answer(*request)))
            except Exception as error:
                pipe.send((f"{type(error).__name__}: {error}".splitlines()[0][:200], None))
            request = pipe.recv()


@cache
def quiet_core() -> int | None:
    """The core that was used least when first asked, None where processes cannot be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    load = psutil.cpu_percent(0.5, percpu=True)
    return min(os.sched_getaffinity(0), key=lambda core: (load[core], -core))
