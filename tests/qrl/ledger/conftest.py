"""Fixtures of the ledger's tests: a powercap tree on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

RANGE_UJ = 262_143_328_850


@pytest.fixture
def powercap(tmp_path: Path) -> Callable[..., Path]:
    """Write zones `{folder: (name, energy_uj)}` of a powercap tree; call again to change the energies."""

    def write(**zones: tuple[str, int]) -> Path:
        root = tmp_path / "powercap"
        for folder, (name, energy_uj) in zones.items():
            zone = root / folder.replace("_", ":").replace("rapl", "intel-rapl")
            zone.mkdir(parents=True, exist_ok=True)
            (zone / "name").write_text(name + "\n")
            (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
            # replaced in one step, as a sysfs file changes: a sampler never sees half a number
            (zone / "next").write_text(f"{energy_uj}\n")
            (zone / "next").replace(zone / "energy_uj")
        return root

    return write
