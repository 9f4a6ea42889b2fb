"""The closing sections of a study's page: failures, what is measured and what is not, provenance."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qrl.study.comparison import StudyResult
from qrl.study.costs import EnergyShare, energy_shares, unavailable_energy
from qrl.study.markup import table
from qrl.study.pairs import short
from qrl.study.table import Cell, Grid, failure_lines


def failures(result: StudyResult) -> str:
    """Runs that failed, are missing, or never reached the threshold."""
    lines = failure_lines(result)
    if result.threshold is not None:
        lines += [
            f"{agent.name}: {agent.n - agent.n_solved} of {agent.n} runs did not reach the threshold; their "
            "whole cost is counted"
            for agent in result.agents
            if agent.n_solved < agent.n
        ]
    rejected = _rejected(result)
    if rejected:
        lines.append(
            f"{rejected} crossings of the threshold were not confirmed on fresh episodes and do not count"
        )
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    body = f"<ul>{items}</ul>" if items else "<p>No run failed, and every run reached the threshold.</p>"
    return f'<h2>Failures</h2><div class="card">{body}</div>'


def energy(result: StudyResult) -> str:
    """What is measured, what is modelled and what is assumed, with uncertainty; and what is unavailable."""
    rows = [
        (
            Cell(share.kind),
            (
                Cell(share.source),
                Cell(share.domain),
                Cell(share.boundary),
                Cell(short(share.joules)),
                Cell(_uncertainty(share)),
            ),
        )
        for share in energy_shares(run.costs for run in result.runs)
    ]
    columns = ("source", "domain", "boundary", "joules", "uncertainty")
    grid = Grid("Energy of training, all runs", tuple(Cell(name) for name in columns), tuple(rows), "")
    gaps = "".join(
        f"<li>{html.escape(domain)}: not measured, {html.escape(reason)}</li>"
        for domain, reason in unavailable_energy(run.costs for run in result.runs)
    )
    listed = (
        table(grid, "energy") if rows else "<p>No energy was recorded: unavailable, which is not zero.</p>"
    )
    return (
        "<h2>What is measured and what is not</h2>"
        f'<div class="card">{listed}{f"<ul>{gaps}</ul>" if gaps else ""}</div>'
        "<p>Seconds are measured by the process clock. Circuits and sampler calls executed are counted exactly; "
        "what hardware would have run is computed from the gradient rule (parameter shift) and the number of commuting "
        "groups. The uncertainty of joules is the standard uncertainty of their source. It is the same for "
        "every agent on this machine, so it moves all joules together and drops out of a ratio of agents "
        "priced by the same source; intervals over seeds do not contain it.</p>"
    )


def provenance(result: StudyResult) -> str:
    """Versions, machine, seeds, hashes, command and recipe."""
    manifests = [run.manifest for run in result.runs]
    versions = sorted(
        {f"{k} {v}" for m in manifests for k, v in (m.get("versions") or {}).items() if v is not None},
        key=str.lower,
    )
    facts: list[tuple[str, Iterable[str]]] = [
        (
            "Command",
            [
                f"qrl run {result.runs[0].directory.relative_to(result.directory.parent)}/recipe.toml "
                f"--seeds {_ranges({run.seed for run in result.runs})}"
            ],
        ),
        ("Versions", [", ".join(versions)]),
        *(
            (title, _distinct(manifests, title.lower()))
            for title in ("Commit", "CPU", "Threads", "Resume", "Started")
        ),
        ("Seeds", [f"{agent.name}: {_ranges(o.seed for o in agent.outcomes)}" for agent in result.agents]),
        ("Circuit digest", _distinct(manifests, "circuit_digest")),
    ]
    commands = _distinct(manifests, "command")
    if commands:
        facts[0] = ("Command", commands)
    known = {
        "agent",
        "circuit_digest",
        "command",
        "commit",
        "cpu",
        "resume",
        "seeds",
        "started",
        "threads",
        "versions",
    }
    others = sorted({key for manifest in manifests for key in manifest} - known)
    facts += [(key.replace("_", " ").capitalize(), _distinct(manifests, key)) for key in others]
    listed = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{'<br>'.join(html.escape(v) for v in values)}</dd>"
        for name, values in facts
        if list(values)
    )
    recipe = (result.runs[0].directory / "recipe.toml").read_text("utf-8")
    return (
        f'<h2>Provenance</h2><div class="card"><dl>{listed}</dl></div>'
        '<details class="card"><summary>Resolved recipe</summary><pre '
        f'class="recipe">{html.escape(recipe)}</pre></details>'
        f'<details class="card"><summary>Hashes of every run</summary>{_hashes(result)}</details>'
        "<footer>Made from the run directories beside this page; nothing in it is loaded from "
        "elsewhere.</footer>"
    )


def _hashes(result: StudyResult) -> str:
    rows = []
    for run in result.runs:
        done = run.done or {}
        resumed = done.get("resumed_from")
        cells = (
            Cell(run.status),
            Cell(str(done.get("parameters_sha256") or "none")[:16]),
            Cell(str(done.get("metrics_sha256") or "none")[:16]),
            Cell("no" if resumed is None else f"from {resumed:,}"),
        )
        rows.append((Cell(f"{run.agent}, seed {run.seed}"), cells))
    columns = ("status", "parameters, SHA-256", "metrics, SHA-256", "resumed")
    return table(Grid("", tuple(Cell(name) for name in columns), tuple(rows), ""), "hashes", caption=False)


def _uncertainty(share: EnergyShare) -> str:
    return (
        f"± {100 * share.u_joules / share.joules:.0f} %" if share.joules > 0 else f"± {short(share.u_joules)}"
    )


def _rejected(result: StudyResult) -> int:
    looks = (e.get("confirmation") for run in result.runs for e in run.evaluations)
    return sum(isinstance(look, Mapping) and look.get("passed") is False for look in looks)


def _distinct(manifests: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """Distinct values of a manifest entry; of many, the first and the last in order."""
    values = dict.fromkeys(
        _text(manifest[key]) for manifest in manifests if manifest.get(key) not in (None, "", {}, [])
    )
    found = sorted(values) if len(values) > 4 else list(values)
    return [f"{found[0]} … {found[-1]} ({len(found)} values)"] if len(found) > 4 else found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _ranges(seeds: Iterable[int]) -> str:
    """Seeds as half-open ranges, as the command line writes them."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and runs[-1][1] == seed:
            runs[-1][1] = seed + 1
        else:
            runs.append([seed, seed + 1])
    return ", ".join(f"{a}:{b}" for a, b in runs) or "none"
