"""Tutorials and the README are executed: every Python block of a page, in order, in one namespace."""

import re
from pathlib import Path
from unittest.mock import patch

import pytest

from qrl.agents.build import REGISTRY
from qrl.specs import ALGORITHMS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
    *sorted((ROOT / "docs").glob("extending*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert blocks
    namespace = {"__name__": "__main__"}
    with patch.dict(ALGORITHMS), patch.dict(REGISTRY):  # what a page registers does not outlive it
        for block in blocks:
            exec(compile(block, str(page), "exec"), namespace)  # noqa: S102
    assert capsys.readouterr().out
