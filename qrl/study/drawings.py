"""The circuits of a study's hybrid agents as inline drawings."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qrl.study.comparison import StudyResult

if TYPE_CHECKING:
    from circuits import Circuit


@dataclass(frozen=True, slots=True)
class Drawing:
    """One circuit: `markup` is an SVG element, or preformatted text where it cannot be drawn as a picture."""

    agent: str
    caption: str
    markup: str


def draw_circuits(result: StudyResult) -> list[Drawing]:
    """Draw the circuit of each hybrid agent from the network in its recipe.

    A circuit that this version cannot build any more (an ansatz that is gone) is named with the reason
    instead.
    """
    drawings = []
    for agent in result.agents:
        network = agent.spec.get("network") or {}
        if network.get("kind") != "quantum":
            continue
        try:
            circuit = circuit_of(network)
        except (ValueError, TypeError) as error:
            drawings.append(
                Drawing(
                    agent.name, "cannot be drawn by this version", f"<pre>{html.escape(str(error))}</pre>"
                )
            )
            continue
        drawings.append(Drawing(agent.name, _caption(circuit, network), _markup(circuit)))
    return drawings


def circuit_of(network: Mapping[str, Any]) -> Circuit:
    """The circuit that a recipe's quantum network describes. Raises ValueError for an unknown ansatz."""
    from circuits import ANSATZ

    name = str(network.get("ansatz", "reuploading"))
    if name not in ANSATZ:
        raise ValueError(f"network.ansatz: {name!r} is not registered; known: {', '.join(sorted(ANSATZ))}")
    options = dict(network.get("ansatz_options") or {})
    if network.get("n_features") is not None:
        options["n_features"] = network["n_features"]
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return ANSATZ[name](n_qubits=network["n_qubits"], n_layers=network["n_layers"], **options)


def _caption(circuit: Circuit, network: Mapping[str, Any]) -> str:
    observables = network.get("observables")
    measured = f", measured: {', '.join(map(str, observables))}" if observables else ""
    return (
        f"{circuit.n_qubits} qubits, {len(circuit.gates)} gates, {circuit.two_qubit_count} of them on two "
        "or more qubits, "
        f"depth {circuit.depth}, {circuit.n_parameters} parameters{measured}; digest {circuit.digest[:16]}"
    )


def _markup(circuit: Circuit) -> str:
    """SVG with the labels drawn as paths, so that it looks alike everywhere and holds no text to escape."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": circuit.digest}):
        figure = circuit.draw("mpl")
        buffer = io.StringIO()
        figure.savefig(
            buffer,
            format="svg",
            bbox_inches="tight",
            metadata={"Date": None, "Creator": None, "Type": None, "Format": None},
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # several drawings share a page, and ids must not meet
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>c{circuit.digest[:8]}-", svg)
