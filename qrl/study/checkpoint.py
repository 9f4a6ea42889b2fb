"""Checkpoints: a folder of safetensors and JSON under a manifest of hashes, renamed into place, never unpickled.

``checkpoints/ckpt-<step>/`` holds ``tensors.safetensors``, ``state.json`` and, written last, ``manifest.json`` with the
size and SHA-256 of each. A folder whose manifest does not verify is set aside as ``.corrupt`` and the one before it
is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qrl.errors import InputError

SCHEMA = 1
MAX_STATE_BYTES = 256 * 2**20
MAX_TENSOR_BYTES = 8 * 2**30
KEEP = 2

_log = logging.getLogger(__name__)


class NoUsableCheckpointError(ValueError):
    """Checkpoints are there, but none of them verifies; nothing begins anew in silence."""


def pack(tree: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Split a nested dict/list of tensors, arrays and JSON values into JSON and named arrays.

    Raises:
        TypeError: a leaf that is none of these.
    """
    arrays: dict[str, np.ndarray] = {}

    def walk(node: Any, path: str) -> Any:
        if isinstance(node, torch.Tensor):
            arrays[path] = np.ascontiguousarray(node.detach().cpu().numpy()).reshape(tuple(node.shape))
            return {"__torch__": path}
        if isinstance(node, np.ndarray):
            arrays[path] = np.ascontiguousarray(node).reshape(node.shape)
            return {"__numpy__": path}
        if isinstance(node, np.generic):
            return node.item()
        if isinstance(node, dict):
            for key in node:
                if not isinstance(key, str) or key.startswith("__"):
                    raise TypeError(f"state.{path}: key {key!r} is no plain text; use text keys")
            return {key: walk(value, f"{path}/{key}" if path else key) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [walk(value, f"{path}/{index}") for index, value in enumerate(node)]
        if node is None or isinstance(node, bool | int | float | str):
            return node
        raise TypeError(
            f"state.{path}: a {type(node).__name__} cannot be stored; use arrays, tensors and JSON values"
        )

    return walk(tree, ""), arrays


def unpack(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Inverse of ``pack`` (tuples come back as lists)."""
    if isinstance(tree, dict):
        if "__torch__" in tree:
            return torch.from_numpy(arrays[tree["__torch__"]].copy())
        if "__numpy__" in tree:
            return arrays[tree["__numpy__"]].copy()
        return {key: unpack(value, arrays) for key, value in tree.items()}
    if isinstance(tree, list):
        return [unpack(value, arrays) for value in tree]
    return tree


def write_checkpoint(folder: Path, state: Any, info: dict[str, Any] | None = None) -> Path:
    """Write ``state`` as the folder of that name, complete or not at all.

    Everything goes to a temporary sibling, is synced, and is renamed into place; an existing folder of that name is
    replaced only then.
    """
    from safetensors.numpy import save

    tree, arrays = pack(state)
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        files = {
            "tensors.safetensors": save(arrays),
            "state.json": json.dumps(tree, allow_nan=True).encode(),
        }
        for name, content in files.items():
            _write(temporary / name, content)
        manifest = {
            "schema": SCHEMA,
            **(info or {}),
            "files": {
                name: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()
            },
        }
        _write(temporary / "manifest.json", json.dumps(manifest, indent=1).encode())
        sync_folder(temporary)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(temporary, folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def read_checkpoint(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Read and verify one checkpoint: its state and its manifest.

    Raises:
        InputError: a file is missing, too large, or differs from the manifest.
    """
    from safetensors.numpy import load

    folder = Path(folder)
    try:
        manifest = json.loads(_read(folder / "manifest.json", 2**20))
        files = manifest["files"]
        if manifest["schema"] != SCHEMA:
            raise InputError(
                "checkpoint",
                str(folder),
                f"has schema {manifest['schema']}",
                f"this version reads schema {SCHEMA}",
            )
        content = {}
        for name, limit in (("tensors.safetensors", MAX_TENSOR_BYTES), ("state.json", MAX_STATE_BYTES)):
            content[name] = _read(folder / name, limit)
            if hashlib.sha256(content[name]).hexdigest() != files[name]["sha256"]:
                raise InputError(
                    "checkpoint", str(folder / name), "differs from its manifest", "use an earlier checkpoint"
                )
        return unpack(json.loads(content["state.json"]), load(content["tensors.safetensors"])), manifest
    except (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            "checkpoint",
            str(folder),
            f"cannot be read ({type(error).__name__}: {error})",
            "use an earlier checkpoint",
        ) from None


def step_of(folder: Path) -> int | None:
    """The interaction count in a checkpoint folder's name, or none for any other name."""
    match = re.fullmatch(r"ckpt-(\d+)", folder.name)
    return int(match[1]) if match else None


def save_step(root: Path, step: int, state: Any, info: dict[str, Any] | None = None) -> Path:
    """Write ``root/ckpt-<step>`` and prune all but the newest two."""
    written = write_checkpoint(root / f"ckpt-{step}", state, {"step": step, **(info or {})})
    steps = sorted((s, p) for p in root.iterdir() if (s := step_of(p)) is not None)
    for _, old in steps[:-KEEP]:
        shutil.rmtree(old)
    return written


def load_latest(root: Path) -> tuple[int, Any, dict[str, Any]] | None:
    """The newest checkpoint under ``root`` that verifies: its step, state and manifest; none where there is none.

    One that does not verify is renamed to ``.corrupt`` with a warning, and the one before it is tried.

    Raises:
        NoUsableCheckpointError: there were checkpoints and none verifies.
    """
    if not root.is_dir():
        return None
    for leftover in root.glob("ckpt-*.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    steps = sorted(((s, p) for p in root.iterdir() if (s := step_of(p)) is not None), reverse=True)
    for step, folder in steps:
        try:
            state, manifest = read_checkpoint(folder)
            return step, state, manifest
        except InputError as error:
            aside = folder.with_name(f"{folder.name}.corrupt")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            _log.warning("%s; set aside as %s", error, aside.name)
    if steps:
        raise NoUsableCheckpointError(
            f"checkpoints: none of {len(steps)} in {root} verifies; delete the run folder to begin it anew"
        )
    return None


def write_atomic(path: Path, text: str) -> None:
    """Replace a small file as a whole: temporary sibling, sync, rename."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        _write(temporary, text.encode())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise InputError("checkpoint", str(path), f"is larger than {limit} bytes", "this is no file of ours")
    return content
