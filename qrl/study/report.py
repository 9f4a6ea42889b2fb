"""The report: one self-contained HTML page a study, which opens offline and asks the network for nothing."""

from __future__ import annotations

import contextlib
import html
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from qrl.study import evidence, figures, sections
from qrl.study.comparison import StudyResult, compare
from qrl.study.diagnostics_panel import diagnostics_figures, diagnostics_section
from qrl.study.explanation import explanation_section
from qrl.study.results import find_studies
from qrl.study.sample_complexity import EPSILONS

# The policy forbids every request; what the page needs stands in it. Plotly sets inline styles.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def write_report(
    paths: str | Path | Sequence[str | Path], compared: Mapping[Path, StudyResult] | None = None
) -> list[Path]:
    """Write `report.html` into every study that the given paths name or contain.

    `paths` are runs, agents, studies or roots of studies; `compared` holds results that are there already, by folder.
    A root with several studies gets a page `report.html` of its own that lists them. Returns the pages written, index
    pages last. Files are renamed into place whole.

    Raises ValueError where no run is found or a run directory is damaged.
    """
    roots = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not roots:
        raise ValueError("paths: no path is given; name a run, an agent, a study or a root of studies")
    found = {root.resolve(): find_studies(root) for root in roots}
    results = {
        folder: (compared or {}).get(folder) or compare(folder)
        for folder in dict.fromkeys(f for group in found.values() for f in group)
    }
    pages = []
    for folder, result in results.items():
        pages.append(folder / "report.html")
        write_atomically(pages[-1], report_page(result))
    for root, folders in found.items():
        if len(folders) > 1:
            pages.append(root / "report.html")
            write_atomically(pages[-1], index_page(root, [results[folder] for folder in folders]))
    return pages


def report_page(result: StudyResult) -> str:
    """The page of one study as HTML; everything that comes from files is escaped."""
    body = "\n".join(
        (
            sections.heading(result),
            sections.verdict(result),
            explanation_section(result),
            sections.claims(result),
            sections.agents(result),
            sections.attribution(result),
            sections.pairs(result),
            sections.complexity(result),
            sections.curves(result),
            sections.spread(result),
            sections.costs(result),
            sections.circuits(result),
            diagnostics_section(result),
            evidence.failures(result),
            evidence.energy(result),
            evidence.provenance(result),
        )
    )
    return page(f"{result.name}: {' against '.join(result.sides)}", body, study_figures(result))


def page(title: str, body: str, drawn: Mapping[str, figures.Figure]) -> str:
    """A page that needs nothing else: its body as HTML, and figures by the id of the element that holds them."""
    from plotly.offline import get_plotlyjs

    scripts = (
        f'<script type="application/json" id="figures">{_json(drawn)}</script>'
        f'<script type="application/json" id="palettes">{_json(figures.palettes())}</script>'
        f"<script>{_script_safe(get_plotlyjs())}</script>"
        f"<script>{_resource('report.js')}</script>"
    )
    return _document(title, body, scripts)


def study_figures(result: StudyResult) -> dict[str, figures.Figure]:
    """The figures of a study by the id of the element that holds them."""
    drawn = {f"curve-{axis}": figures.learning_curves(result, axis) for axis in sections.curve_axes(result)}
    if result.threshold is not None:
        drawn |= {f"unsolved-{axis}": figures.unsolved(result, axis) for axis in sections.curve_axes(result)}
    if figures.crowded(result) and drawn:
        drawn["curve-panels"] = figures.learning_panels(result)
    if any(agent.reached is not None for agent in result.agents):
        drawn |= {f"near-{k}": figures.near_optimum(result, k) for k in range(len(EPSILONS))}
    if result.scale is not None:
        drawn["profile"] = figures.profiles(result)
    if sections.has_contributions(result):
        drawn["contributions"] = figures.contributions(result)
    if sections.has_ratios(result):
        drawn["ratios"] = figures.ratios(result)
    if any(agent.phases for agent in result.agents):
        drawn["phases"] = figures.time_by_phase(result, share=False)
        drawn["phase-shares"] = figures.time_by_phase(result, share=True)
    return drawn | diagnostics_figures(result)


def index_page(root: Path, results: Sequence[StudyResult]) -> str:
    """A page that lists the studies under a root, each with its verdict and a link to its own page."""
    items = []
    for result in results:
        link = "/".join(
            html.escape(part) for part in (result.directory / "report.html").relative_to(root).parts
        )
        items.append(
            f'<section class="card"><h3><a href="{link}">{html.escape(result.name)}</a></h3>'
            f"<p>{html.escape(result.headline)}</p></section>"
        )
    heading = f"<header><h1>{len(results)} studies</h1><p>{html.escape(root.name)}</p></header>"
    return _document("Studies", heading + "".join(items), "")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _document(title: str, body: str, scripts: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title><style>{_colours()}{_resource('report.css')}</style></head>\n"
        f"<body><main>\n{body}\n</main>{scripts}</body></html>\n"
    )


def _colours() -> str:
    """The figures' colours as CSS variables, for the legends: light, dark, and light again on paper."""
    rules = {}
    for theme, palette in figures.palettes().items():
        names = {f"--a{k}": palette[f"@{k}"] for k in range(8)}
        names |= {f"--p-{phase}": palette[f"@{colour}"] for phase, colour in figures.PHASE_COLOURS.items()}
        rules[theme] = ":root{" + "".join(f"{name}:{colour};" for name, colour in names.items()) + "}"
    light, dark = rules["light"], rules["dark"]
    return f"{light}@media (prefers-color-scheme:dark){{{dark}}}@media print{{{light}}}"


def _json(value: object) -> str:
    """JSON that cannot end the script element in which it stands."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _script_safe(source: str) -> str:
    return source.replace("</script", "<\\/script")


def _resource(name: str) -> str:
    return resources.files("qrl.study").joinpath(name).read_text("utf-8")
