"""The marker `engine`: tests of the compiled engine. The emulated cloud service is a package for all of them."""

import contextlib
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `emulator`


def pytest_configure() -> None:
    """Let one process make the cache folder of dwave-cloud-client: two that import it at once collide."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        with contextlib.suppress(ImportError):
            import dwave.cloud  # noqa: F401


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs the compiled engine where there is none, or fail with QRL_REQUIRE_ENGINE=1."""
    if item.get_closest_marker("engine") is None:
        return
    from circuits.engine import library

    if (reason := library.reason()) is not None:
        if os.environ.get("QRL_REQUIRE_ENGINE") == "1":
            pytest.fail(f"no compiled engine: {reason}")
        pytest.skip(f"no compiled engine: {reason}")


@pytest.fixture
def registered():
    """Algorithms that a test registers are forgotten after it; those registered before, by name."""
    from qrl.agents.build import REGISTRY
    from qrl.specs import agents

    before = [(table, dict(table)) for table in (REGISTRY, agents.ALGORITHMS)]
    yield tuple(REGISTRY)
    for table, entries in before:
        table.clear()
        table.update(entries)
    agents._adapter.cache_clear()
