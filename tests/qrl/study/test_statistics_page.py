"""The page on statistics says what works: its claim is valid, its scale is a recipe's, its commands exist."""

import re
import tomllib
from pathlib import Path

from qrl.cli import COMMANDS
from qrl.study.claims import Claim
from qrl.study.recipe import Threshold

PAGE = (Path(__file__).parents[3] / "docs" / "statistics.md").read_text("utf-8")


def test_what_the_page_writes_is_accepted():
    scale, claim = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
    assert Threshold.model_validate(scale["threshold"]).optimum == 500.0
    assert Claim.model_validate(claim).factor == 1.5
    cell = re.search(r"`(cell = \{.*?\})`", PAGE)
    assert cell is not None
    assert Claim.model_validate({**claim, **tomllib.loads(cell[1])}).cell is not None


def test_the_commands_of_the_page_exist():
    assert set(re.findall(r"qrl ([a-z]+) ", PAGE)) <= set(COMMANDS)
