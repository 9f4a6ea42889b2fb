"""Minor embeddings of graphs into processors, each searched for once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from circuits.boltzmann.graphs import Graph

Embedding = dict[int, tuple[int, ...]]


class Embeddings:
    """What qubits stand for each hidden unit, by graph and processor.

    Args:
        seed: of the search.
        file: JSON file that keeps what was found; None keeps it in memory alone.
    """

    def __init__(self, seed: int = 0, file: Path | None = None) -> None:
        self.seed, self.file = seed, file
        self._known: dict[str, Embedding] = {}

    def find(self, graph: Graph, processor: Any) -> Embedding:
        """Return the chain of qubits of each unit, from memory, the file, or a search by minorminer.

        Args:
            graph: the hidden units.
            processor: a structured dimod sampler.

        Raises:
            ValueError: the search finds none, or the file holds something else.
        """
        key = f"{graph.digest}:{_digest(processor)}"
        if key not in self._known:
            stored = _read(self.file).get(key)
            if stored is None or not _holds(stored, graph, processor):
                stored = self._search(graph, processor)
                if self.file is not None:
                    _write(self.file, _read(self.file) | {key: stored})
            self._known[key] = stored
        return self._known[key]

    def _search(self, graph: Graph, processor: Any) -> Embedding:
        import minorminer

        # A unit without couplings needs a place too, for which the search takes an edge to itself.
        source = [*_edges(graph), *((unit, unit) for unit in range(graph.n_hidden))]
        found = minorminer.find_embedding(source, processor.edgelist, random_seed=self.seed)
        if len(found) < graph.n_hidden:
            raise ValueError(
                f"graph: no embedding of {graph.name} with {graph.n_hidden} units was found on"
                f" {len(processor.nodelist)} qubits; use a smaller machine or another solver"
            )
        return {int(unit): tuple(int(qubit) for qubit in chain) for unit, chain in sorted(found.items())}


def _edges(graph: Graph) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in graph.edges]


def _holds(embedding: Embedding, graph: Graph, processor: Any) -> bool:
    import networkx
    from minorminer.utils.diagnostic import is_valid_embedding

    source, target = networkx.Graph(_edges(graph)), networkx.Graph(processor.edgelist)
    source.add_nodes_from(range(graph.n_hidden))
    return bool(is_valid_embedding(embedding, source, target))


def _digest(processor: Any) -> str:
    text = json.dumps([sorted(processor.nodelist), sorted(sorted(edge) for edge in processor.edgelist)])
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: Path | None) -> dict[str, Embedding]:
    if file is None or not file.exists():
        return {}
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return {
            key: {int(unit): tuple(chain) for unit, chain in chains.items()} for key, chains in stored.items()
        }
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"cache: {file} holds no embeddings; delete it or name another file") from None


def _write(file: Path, embeddings: dict[str, Embedding]) -> None:
    """Replace the file as a whole, so that a reader never sees a part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(embeddings, stream)
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
