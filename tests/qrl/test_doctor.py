"""What `qrl doctor` says of the circuit engine, with the compiled one and without."""

import ctypes

import pytest
import torch

from circuits.engine import build, library
from qrl.doctor import examine

LOADED = library.Library(ctypes.CDLL(None), ("baseline", "avx2", "avx512"), ("baseline", "avx2"), "avx2")


def engine_lines():
    findings = dict(examine())
    return [findings[what] for what in ("circuit engine", "instruction set", "precision")]


def test_the_compiled_engine_is_named_with_its_instruction_sets(monkeypatch):
    monkeypatch.setattr(library, "load", lambda: LOADED)
    monkeypatch.delenv("QRL_INSTRUCTION_SET", raising=False)
    engine, instruction_set, precision = engine_lines()
    assert engine.startswith("native")
    assert instruction_set == "avx2 (built: baseline, avx2, avx512; this processor runs: baseline, avx2)"
    assert precision == "float32 and float64"


def test_a_wrong_setting_is_a_finding(monkeypatch):
    monkeypatch.setattr(library, "load", lambda: LOADED)
    monkeypatch.setenv("QRL_INSTRUCTION_SET", "avx512")
    finding = dict(examine())["circuit engine"]
    assert finding.startswith("none: QRL_INSTRUCTION_SET: 'avx512' cannot run on this processor")


def test_without_it_torch_is_named_with_the_reason(monkeypatch):
    monkeypatch.setattr(library, "load", lambda: None)
    monkeypatch.setattr(library, "reason", lambda: "not built: no C++ compiler was found")
    engine, instruction_set, _ = engine_lines()
    assert engine.startswith("torch")
    assert engine.endswith("not built: no C++ compiler was found")
    assert instruction_set == torch.backends.cpu.get_cpu_capability()


@pytest.mark.engine
def test_the_compiler_of_the_installed_engine_is_named():
    assert build.read_record()["version"] in engine_lines()[0]
