"""Build hook of the distribution: compile the circuit engine, in place for an editable installation.

Without a C++ compiler the distribution is pure Python; its record and `qrl doctor` say why.
"""

from __future__ import annotations

import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

ENGINE = "circuits/engine"


class EngineBuildHook(BuildHookInterface):
    """Compile before a wheel is packed; a wheel with the library is tagged for its platform, any Python 3."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put library and record into the wheel unless they stay in place."""
        engine = Path(self.root, ENGINE)
        builder = _load(engine / "build.py")
        if version == "editable":
            folder = engine
        else:
            # Outside the checkout: a wheel must not replace the library of an editable installation.
            self._temporary = tempfile.TemporaryDirectory(prefix="qrl-wheel-")
            folder = Path(self._temporary.name)
        try:
            record = builder.build(folder)
        except OSError as error:
            self.app.display_warning(f"the circuit engine is left out: {error}")
            return
        if record["reason"] is not None:
            self.app.display_warning(f"the circuit engine is left out: {record['reason']}")
        if version == "editable":
            return
        for path in folder.iterdir():
            build_data["force_include"][str(path)] = f"{ENGINE}/{path.name}"
        if record["reason"] is None:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled for the wheel."""
        if version != "editable":
            self._temporary.cleanup()


def _platform() -> str:
    """This platform's own tag: a library linked against this system's C++ runtime is no manylinux one."""
    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))


def _load(path: Path) -> ModuleType:
    """Load a file by its path: its package cannot be imported before the dependencies are installed."""
    spec = spec_from_file_location("engine_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
