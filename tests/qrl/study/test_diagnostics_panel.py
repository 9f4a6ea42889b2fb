"""Panels of the diagnostics: means over seeds, alarms counted, valid figures in both themes, nothing unescaped."""

from __future__ import annotations

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from qrl.study import figures
from qrl.study.comparison import compare
from qrl.study.diagnostics_panel import PANELS, alarm_grid, diagnostics_figures, diagnostics_section, recorded


def write(folder, seed):
    """Three looks; the gradient's norm is 10^-(look) (seed + 1), and the second look is flat in odd seeds."""
    lines = [
        {
            "interactions": 100 * look,
            "gradients": {
                "q_net/weights": {
                    "updates": look,
                    "norm": (seed + 1) * 10.0**-look if look else None,
                    "variance": 0.0,
                }
            },
            "circuits": {
                "q_net": {
                    "meyer_wallach": 0.25 * look,
                    "steepness": 0.1,
                    "plateau": "flat" if look == 1 and seed % 2 else "none",
                    "scale_drift": 0.0,
                }
            },
        }
        for look in range(3)
    ]
    # killed after the last look and continued from the second
    lines.insert(3, {"resume_from": 100})
    lines.append(lines[2])
    (folder / "diagnostics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def study(simulated, tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    simulated.write_study(root, name="inside")
    for run in sorted((root / "inside" / "hybrid").iterdir()):
        write(run, int(run.name.split("=")[1]))
    return compare(root / "inside")


def test_a_study_without_diagnostics_has_no_panels(simulated, tmp_path):
    simulated.write_study(tmp_path, name="plain")
    result = compare(tmp_path / "plain")
    assert recorded(result) == {}
    assert diagnostics_figures(result) == {}
    assert diagnostics_section(result) == ""


def test_lines_are_interquartile_means_over_the_seeds(study):
    runs = recorded(study)["hybrid"]
    assert all([r["interactions"] for r in run] == [0, 100, 200] for run in runs)
    figure = diagnostics_figures(study)["diagnostics-gradients-norm"]
    (trace,) = figure["data"]
    assert trace["name"] == "hybrid: q_net/weights"
    assert trace["x"] == [100.0, 200.0]
    middle = figures_iqm([seed + 1 for seed in range(len(runs))])
    np.testing.assert_allclose(trace["y"], [0.1 * middle, 0.01 * middle])
    assert figure["layout"]["yaxis"]["type"] == "log"


def figures_iqm(values):
    """By the definition: sort, cut a quarter of the weight at either end, mean of the rest."""
    weights = np.repeat(np.sort(np.asarray(values, dtype=float)), 4)
    cut = len(values)
    return weights[cut:-cut].mean()


def test_panels_without_numbers_are_left_out(study):
    drawn = set(diagnostics_figures(study))
    assert "diagnostics-circuits-meyer_wallach" in drawn
    assert "diagnostics-circuits-scale_drift" in drawn  # zeros on a linear axis
    assert "diagnostics-gradients-variance" not in drawn  # zeros on a logarithmic axis
    assert "diagnostics-circuits-effective_dimension" not in drawn
    page = diagnostics_section(study)
    for panel in PANELS:
        name = f"diagnostics-{panel.kind}-{panel.key}"
        assert (f'id="{name}"' in page) == (name in drawn)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_are_plotlys_in_both_themes(study, theme):
    for figure in diagnostics_figures(study).values():
        resolved = figures.resolve(figure, figures.palettes()[theme])
        assert "@" not in json.dumps(resolved)
        go.Figure(resolved)


def test_alarms_are_counted_by_record_and_by_run(study):
    runs = recorded(study)["hybrid"]
    odd = len(runs) // 2
    ((label, (flat, barren)),) = alarm_grid(recorded(study)).rows
    assert (label.main, label.sub) == ("hybrid", "q_net")
    assert (flat.main, flat.sub) == (f"{odd} of {3 * len(runs)}", f"in {odd} runs")
    assert barren.main == f"0 of {3 * len(runs)}"
    page = diagnostics_section(study)
    assert "Plateau alarms" in page
    assert "by chance in at most one record of 100" in page


def test_what_comes_from_files_is_escaped(simulated, tmp_path):
    simulated.write_study(tmp_path, name="inside")
    for run in (tmp_path / "inside" / "hybrid").iterdir():
        circuit = {"meyer_wallach": 0.5, "plateau": "none"}
        line = {"interactions": 0, "gradients": {}, "circuits": {"<script>": circuit}}
        (run / "diagnostics.jsonl").write_text(json.dumps(line) + "\n")
    result = compare(tmp_path / "inside")
    assert "<script>" not in diagnostics_section(result)
    assert "<script>" not in json.dumps(diagnostics_figures(result))
