"""Write scores and what rliable 1.2.0 makes of them: `python reference.py` in an environment of its own.

rliable needs pandas below 3: `python -m venv rl; rl/bin/pip install "pandas<3" rliable==1.2.0`.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rliable import library, metrics

REPETITIONS = 20_000
LEVELS = [0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.2]
HERE = Path(__file__).parent


def scores(seed: int, shift: float) -> np.ndarray:
    """Normalised scores `(20 runs, 3 tasks)`: good runs, a failed tail, ties, and a task that nobody solves."""
    rng = np.random.default_rng(seed)
    easy = np.where(rng.random(20) < 0.8, rng.normal(0.95 + shift, 0.08, 20), rng.normal(0.1, 0.05, 20))
    tied = np.round(rng.normal(0.6 + shift, 0.15, 20), 1)
    hard = rng.beta(2.0, 6.0, 20) + shift
    return np.round(np.stack([easy, tied, hard], axis=1), 6)


def main() -> None:
    """Write `scores.json` and `rliable.json`."""
    data = {"first": scores(11, 0.06), "second": scores(12, 0.0)}
    (HERE / "scores.json").write_text(json.dumps({name: x.tolist() for name, x in data.items()}) + "\n")
    aggregates = {"iqm": metrics.aggregate_iqm, "optimality_gap": metrics.aggregate_optimality_gap}
    found = {}
    for name, function in aggregates.items():
        found[name] = intervals(data, function)
    x, y = data["first"], data["second"]
    for task in range(3):
        pair = {"pair": (x[:, task : task + 1], y[:, task : task + 1])}
        values, limits = library.get_interval_estimates(
            pair, metrics.probability_of_improvement, reps=REPETITIONS, random_state=np.random.RandomState(0)
        )
        found[f"probability_of_improvement_{task}"] = {"pair": entry(values["pair"], limits["pair"])}
    profiles, bands = library.create_performance_profile(data, LEVELS, reps=REPETITIONS)
    found["performance_profile"] = {
        name: {
            "value": profiles[name].tolist(),
            "low": bands[name][0].tolist(),
            "high": bands[name][1].tolist(),
        }
        for name in data
    }
    result = {"rliable": version("rliable"), "repetitions": REPETITIONS, "levels": LEVELS, **found}
    (HERE / "rliable.json").write_text(json.dumps(result, indent=1) + "\n")


def intervals(data: dict[str, np.ndarray], function: object) -> dict[str, dict[str, float]]:
    """A statistic of each algorithm with its 95 % interval."""
    values, limits = library.get_interval_estimates(
        data, function, reps=REPETITIONS, random_state=np.random.RandomState(0)
    )
    return {name: entry(values[name], limits[name]) for name in data}


def entry(value: object, limits: np.ndarray) -> dict[str, float]:
    """Value and interval as plain numbers."""
    low, high = np.asarray(limits, dtype=float).reshape(2, -1)[:, 0]
    return {"value": float(np.asarray(value).reshape(-1)[0]), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    main()
