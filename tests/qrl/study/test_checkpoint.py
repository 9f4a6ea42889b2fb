"""Checkpoints: complete or absent, verified on reading, never unpickled."""

import json

import numpy as np
import pytest
import torch

from qrl.errors import InputError
from qrl.study.checkpoint import (
    NoUsableCheckpointError,
    load_latest,
    pack,
    read_checkpoint,
    save_step,
    unpack,
    write_checkpoint,
)

STATE = {
    "tensor": torch.arange(6, dtype=torch.float64).reshape(2, 3).t(),
    "scalar": torch.tensor(1.5),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "array": np.arange(4, dtype=np.uint32),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "generator": np.random.PCG64(3).state,
    "list": [1, 2.5, "text", None, {"deep": np.float32(0.25)}],
}


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
        )
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_state_comes_back_bit_for_bit(tmp_path):
    write_checkpoint(tmp_path / "here", STATE, {"step": 7})
    state, manifest = read_checkpoint(tmp_path / "here")
    assert same(STATE, state)
    assert manifest["step"] == 7


def test_pack_refuses_what_it_cannot_store():
    with pytest.raises(TypeError, match=r"state\.a/0: a object"):
        pack({"a": [object()]})
    with pytest.raises(TypeError, match="plain text"):
        pack({1: 2})
    tree, arrays = pack(STATE)
    json.dumps(tree)
    assert same(STATE, unpack(tree, arrays))


def test_newest_two_are_kept(tmp_path):
    for step in (5, 10, 20):
        save_step(tmp_path, step, {"step": step})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ckpt-10", "ckpt-20"]
    assert load_latest(tmp_path)[:2] == (20, {"step": 20})


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog, name, damage):
    save_step(tmp_path, 1, STATE)
    save_step(tmp_path, 2, STATE)
    file = tmp_path / "ckpt-2" / name
    content = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(
            content if damage == "flip" else content[: len(content) // 2] if damage == "cut" else b""
        )
    step, state, _ = load_latest(tmp_path)
    assert step == 1
    assert same(STATE, state)
    assert "ckpt-2.corrupt" in caplog.text
    assert (tmp_path / "ckpt-2.corrupt").is_dir()


def test_nothing_begins_anew_in_silence(tmp_path):
    save_step(tmp_path, 1, STATE)
    (tmp_path / "ckpt-1" / "manifest.json").write_text("{}")
    with pytest.raises(NoUsableCheckpointError):
        load_latest(tmp_path)
    assert load_latest(tmp_path / "never") is None


def test_leftovers_of_a_kill_are_ignored_and_removed(tmp_path):
    save_step(tmp_path, 1, STATE)
    leftover = tmp_path / "ckpt-2.tmp-99-abcd"
    leftover.mkdir()
    (leftover / "state.json").write_text("{")
    assert load_latest(tmp_path)[0] == 1
    assert not leftover.exists()


def test_a_future_schema_is_refused_by_name(tmp_path):
    write_checkpoint(tmp_path / "c", STATE)
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    (tmp_path / "c" / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(InputError, match="schema 99"):
        read_checkpoint(tmp_path / "c")


def test_a_failed_write_leaves_the_old_one(tmp_path, monkeypatch):
    save_step(tmp_path, 1, STATE)
    with pytest.raises(TypeError):
        save_step(tmp_path, 2, {"bad": object()})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_step(tmp_path, 3, STATE)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["ckpt-1"]
