"""Write what is expected of a recipe from its finished study: `python record_expected.py STUDY_DIR RECIPE`."""

import json
import sys
from pathlib import Path

from qrl.study.comparison import compare
from qrl.study.recipe import load_recipe
from qrl.study.score import label
from qrl.study.statistics import Estimate


def expectations(study: Path, command: str) -> dict:
    """The recorded form of a study: by agent the interquartile mean of the final return, with its interval.

    Of another measure it is the average over training: shares of one are soon reached by everybody.
    """
    result = compare(study)
    recorded, what = ("final_return", "final return")
    if result.measure != "return":
        recorded, what = ("mean_return", f"{label(result.measure)} over training")
    seeds = sorted({outcome.seed for agent in result.agents for outcome in agent.outcomes})
    return {
        "command": command,
        "metric": f"{what}, interquartile mean over seeds with stratified-bootstrap 95 % interval",
        "seeds": f"{seeds[0]}:{seeds[-1] + 1}",
        "agents": {agent.name: _rounded(getattr(agent, recorded)) for agent in result.agents if agent.n},
    }


def _rounded(estimate: Estimate) -> dict:
    """To four digits; of a constant the bounds may be rounded to the other side of it."""
    value, low, high = (round(x, 4) for x in (estimate.value, estimate.low, estimate.high))
    return {"value": value, "low": min(low, value), "high": max(high, value)}


if __name__ == "__main__":
    study, recipe = Path(sys.argv[1]), Path(sys.argv[2])
    root = Path(__file__).resolve().parents[2]
    recorded = expectations(study, f"qrl run {recipe.resolve().relative_to(root)}")
    if len(recorded["agents"]) < len(load_recipe(recipe).agents):
        recorded["command"] += " --agents " + ",".join(recorded["agents"])
    name = "expected.json" if recipe.name == "recipe.toml" else f"{recipe.stem}.expected.json"
    recipe.with_name(name).write_text(json.dumps(recorded, indent=2) + "\n")
