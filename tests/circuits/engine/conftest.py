"""The native backend in all its forms, and a small kernel that compiles within a second."""

import itertools
import os
import shutil
from pathlib import Path

import pytest

from circuits.engine import build, library

SMALL_KERNEL = Path(__file__).parent / "small_kernel"


@pytest.fixture(scope="session")
def compiler():
    """Skip where there is no compiler, unless QRL_REQUIRE_ENGINE=1."""
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        if os.environ.get("QRL_REQUIRE_ENGINE") == "1":
            pytest.fail("no C++ compiler here; install g++")
        pytest.skip("no C++ compiler here")


@pytest.fixture(scope="session")
def small_kernel():
    """Folder of the small kernel's sources."""
    return SMALL_KERNEL


@pytest.fixture
def folder(tmp_path):
    """A folder laid out like `circuits/engine`, with the small kernel, not compiled."""
    shutil.copytree(SMALL_KERNEL, tmp_path / "engine" / "kernel")
    return tmp_path / "engine"


@pytest.fixture(scope="session")
def _compiled(compiler, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    shutil.copytree(SMALL_KERNEL, folder / "kernel")
    build.build(folder, folder / "kernel")
    return folder


@pytest.fixture
def compiled(_compiled, tmp_path):
    """A folder like `folder`, compiled; each test has a copy of its own."""
    return Path(shutil.copytree(_compiled, tmp_path / "engine"))


@pytest.fixture(scope="session")
def natives():
    """The native backend with each engine on each instruction set that this processor runs, by name."""
    from circuits.backends.native import NativeBackend

    return {
        f"{engine}-{name}": NativeBackend(engine, name)
        for engine in ("lane", "amplitude")
        for name in library.load().supported
    }


@pytest.fixture(
    scope="session", params=list(itertools.product(("lane", "amplitude"), build._SETS)), ids="-".join
)
def native(request):
    """One of `natives` after the other; skipped where the processor lacks the instruction set."""
    natives = request.getfixturevalue("natives")
    name = "-".join(request.param)
    if name not in natives:
        pytest.skip(f"no {request.param[1]} here")
    return natives[name]


@pytest.fixture(scope="session")
def unsanitized():
    """Skip what measures memory under the sanitizers, which hold back what is freed."""
    if os.environ.get("QRL_ENGINE") == "sanitized":
        pytest.skip("the sanitizers hold back freed memory")
