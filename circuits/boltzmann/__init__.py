"""Boltzmann machines with clamped visible nodes: graphs of hidden units, and samplers of their thermal moments."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from circuits.boltzmann.graphs import GRAPHS, Graph, build_graph, check_options
from circuits.boltzmann.protocol import Problem, Sampler, SamplerFactory, Thermal
from circuits.gates import choice

__all__ = [
    "GRAPHS",
    "SAMPLERS",
    "Graph",
    "Problem",
    "Sampler",
    "Thermal",
    "build_graph",
    "get_sampler",
]


def _sampler(module: str, name: str, **options: Any) -> Sampler:
    # A sampler's module loads when the sampler is first asked for: some need a compiled kernel or an extra.
    maker = getattr(import_module(f"circuits.boltzmann.{module}"), name)
    check_options(f"sampler {module!r}", maker, options)
    sampler: Sampler = maker(**options)
    return sampler


SAMPLERS: dict[str, SamplerFactory] = {
    "exact": partial(_sampler, "exact", "ExactSampler"),
    "closed_form": partial(_sampler, "closed_form", "ClosedFormSampler"),
    "sqa": partial(_sampler, "sqa", "SQASampler"),
    "ocean": partial(_sampler, "ocean", "OceanSampler"),
    "dwave": partial(_sampler, "dwave", "DWaveSampler"),
    "gate": partial(_sampler, "gate", "GateSampler"),
}
"""Samplers by name, and their factories, which take the sampler's options."""


def get_sampler(name: str, **options: Any) -> Sampler:
    """Return a new sampler by name.

    Args:
        name: a key of ``SAMPLERS``.
        options: of the sampler; see its class.

    Raises:
        TypeError: the name is no string, or an option is unknown or missing.
        ValueError: the name is unknown (the message names the nearest match), or as the sampler.
    """
    if not isinstance(name, str):
        raise TypeError(f"sampler: {name!r} is not a string; use a name such as 'exact'")
    return SAMPLERS[choice("sampler", name, tuple(SAMPLERS))](**options)
