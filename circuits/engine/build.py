"""Compile the C++ kernel into one shared library beside this file, and write down how in a JSON record.

``python circuits/engine/build.py`` or ``make engine`` does it by hand. The build hook of the distribution loads this
file by its path before any dependency is installed, so it needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
"""Where the library and its record are looked for; the sources are in `kernel` below it."""

_COMPILERS = ("g++", "clang++", "c++")
_TIME_LIMIT = 600.0  # seconds for one call of the compiler, so that a stuck one cannot hang an installation

# CXXFLAGS is not read: -march=native in it would break the choice of the instruction set at run time, and -ffast-math
# the search for NaN; linked with the latter, a library even rounds denormal numbers to zero in its whole process.
_FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
)
_SANITIZE = (
    *("-O1", "-g", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
)

# From the most common to the most special, and linked in this order: of a function that several objects hold, such as
# a template of the standard library, the linker keeps the first copy, which every processor can then execute.
_SETS = {
    "baseline": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": (
        *("-mavx2", "-mfma", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"),
        "-mprefer-vector-width=512",
    ),
}


class _BuildError(Exception):
    """Why there is no library, in one line."""


def library_path(folder: Path = FOLDER, *, sanitize: bool = False) -> Path:
    """Path of the shared library in a folder; with a dot in its name, so that nobody takes it for a Python module."""
    suffix = "dylib" if sys.platform == "darwin" else "so"
    return folder / f"_kernel.{'sanitized' if sanitize else 'native'}.{suffix}"


def record_path(folder: Path = FOLDER, *, sanitize: bool = False) -> Path:
    """Path of the record of the last build in a folder."""
    return folder / f"_build{'.sanitized' if sanitize else ''}.json"


def read_record(folder: Path = FOLDER, *, sanitize: bool = False) -> dict[str, Any] | None:
    """Record of the last build in a folder (see `build`), or None where there is none to be read."""
    try:
        record = json.loads(record_path(folder, sanitize=sanitize).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def sources_sha256(kernel: Path = FOLDER / "kernel") -> str:
    """Hash of everything a build is made of: the kernel's sources and this file with its flags."""
    digest = hashlib.sha256()
    for path in [Path(__file__), *sorted(kernel.glob("*"))]:
        if path.suffix in (".py", ".h", ".hpp", ".cpp"):
            text = path.read_bytes()
            digest.update(f"{path.name} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def build(
    folder: Path = FOLDER, kernel: Path = FOLDER / "kernel", *, sanitize: bool = False
) -> dict[str, Any]:
    """Compile, unless the library is there already and would come out the same; write and return the record.

    The record says which `compiler` was used, its `version` and `target`, the instruction `sets`, the `flags`, the
    `sources_sha256`, and under `reason` why there is no library, or None. A build that fails removes an older
    library: what is there belongs to the record.

    Args:
        folder: where library and record go.
        kernel: folder of the sources.
        sanitize: compile a second library, with the address and undefined-behaviour sanitizers.

    Raises:
        OSError: the folder cannot be written.
    """
    library = library_path(folder, sanitize=sanitize)
    record: dict[str, Any] = {
        "compiler": None,
        "version": None,
        "target": None,
        "sets": [],
        "flags": [*_FLAGS, *(_SANITIZE if sanitize else ())],
        "reason": None,
        "sources_sha256": sources_sha256(kernel),
    }
    try:
        command = _find_compiler()
        record["compiler"] = shlex.join(command)
        record["version"] = _run([*command, "--version"]).splitlines()[0]
        record["target"] = _run([*command, "-dumpmachine"]).strip()
        record["sets"] = _sets_of(command, record["target"])
        if not (library.exists() and read_record(folder, sanitize=sanitize) == record):
            _compile(command, record["flags"], record["sets"], kernel, library)
    except _BuildError as error:
        record["reason"] = str(error)
        library.unlink(missing_ok=True)
    # Written even when nothing was compiled: its time says when the sources were last looked at.
    path = record_path(folder, sanitize=sanitize)
    written = path.with_name(f"{path.name}.{os.getpid()}")
    written.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(written, path)
    return record


def _find_compiler() -> list[str]:
    """The compiler's command: $CXX, which may hold arguments, or else the first one on the path."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen:
        if shutil.which(chosen[0]) is None:
            raise _BuildError(f"CXX={os.environ['CXX']} is no program; unset it or name a C++ compiler")
        return chosen
    for name in _COMPILERS:
        if shutil.which(name):
            return [name]
    raise _BuildError("no C++ compiler was found at installation; install g++ and reinstall")


def _sets_of(command: Sequence[str], target: str) -> list[str]:
    """The instruction sets that the target has and the compiler knows."""
    if not target.startswith(("x86_64", "amd64")):
        return ["baseline"]
    return [name for name, flags in _SETS.items() if _takes(command, flags)]


def _takes(command: Sequence[str], flags: Sequence[str]) -> bool:
    try:
        _run([*command, *flags, "-Werror", "-fsyntax-only", "-x", "c++", os.devnull])
    except _BuildError:
        return False
    return True


def _compile(
    command: Sequence[str], flags: Sequence[str], sets: Sequence[str], kernel: Path, library: Path
) -> None:
    """Compile one object an instruction set beside the dispatcher, all at once, and link them."""
    with tempfile.TemporaryDirectory(prefix="qrl-engine-") as temporary:
        units = {"dispatch": ["dispatch.cpp", *(f"-DQRL_HAVE_{name.upper()}" for name in sets[1:])]}
        units |= {name: ["isa.cpp", f"-DQRL_ISA={name}", *_SETS[name]] for name in sets}
        objects = [str(Path(temporary, f"{unit}.o")) for unit in units]
        calls = [
            # Names relative to the sources: error messages and library hold no path of this machine.
            (f"{unit}: ", [*command, *flags, *arguments, "-c", "-o", out])
            for (unit, arguments), out in zip(units.items(), objects, strict=True)
        ]
        with ThreadPoolExecutor(min(len(calls), os.cpu_count() or 1)) as pool:
            for done in [pool.submit(_run, call, kernel, unit) for unit, call in calls]:
                done.result()
        # Linked beside its place and then moved: a process that has the old library open keeps it.
        linked = library.with_name(f"{library.name}.{os.getpid()}")
        try:
            _run([*command, *flags, "-shared", "-o", str(linked), *objects], kernel, "linking: ")
            os.replace(linked, library)
        finally:
            linked.unlink(missing_ok=True)


def _run(command: Sequence[str], folder: Path | None = None, unit: str = "") -> str:
    """Run the compiler and return its output; warnings go on to stderr.

    Raises:
        _BuildError: it cannot be run, took too long, or failed; with the first error it reported.
    """
    program = Path(command[0]).name
    # Messages in English, since the first error is looked for by that word.
    environment = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            timeout=_TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise _BuildError(f"{unit}{program} did not end within {_TIME_LIMIT:.0f} s") from None
    except OSError as error:
        raise _BuildError(f"{unit}{program} cannot be run: {error}") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        first = next((line for line in lines if "error" in line), "\n".join(lines[-1:]))
        raise _BuildError(f"{unit}{program} failed: {first or f'exit code {done.returncode}'}")
    if unit:
        print(done.stderr, end="", file=sys.stderr)
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Build by hand and say what came of it; the exit code is 1 where there is no library."""
    parser = argparse.ArgumentParser(description="Compile the circuit engine in place.")
    parser.add_argument("--sanitize", action="store_true", help="build the library with sanitizers instead")
    sanitize = parser.parse_args(arguments).sanitize
    begin = time.monotonic()
    record = build(sanitize=sanitize)
    if record["reason"] is not None:
        print(f"no compiled engine: {record['reason']}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - begin
    print(f"compiled engine: {', '.join(record['sets'])} by {record['version']} ({seconds:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
