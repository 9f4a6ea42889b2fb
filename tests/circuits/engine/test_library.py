"""Loading the compiled engine: what is used, what is refused, and what each refusal says."""

import ctypes
import json
import re
from pathlib import Path

import pytest

from circuits.engine import build, library


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """Each test loads anew, with the default settings, and leaves nothing to the next."""
    for name in ("QRL_ENGINE", "QRL_INSTRUCTION_SET"):
        monkeypatch.delenv(name, raising=False)
    library._outcome.cache_clear()
    yield
    library._outcome.cache_clear()


C_TYPES = {
    "void": None,
    "int": ctypes.c_int,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "double": ctypes.c_double,
    "const char*": ctypes.c_char_p,
}


def declared(text):
    """The ctypes type of a C type; any other pointer is an address."""
    return C_TYPES.get(text, ctypes.c_void_p if text.endswith("*") else text)


def test_the_table_of_functions_is_the_header():
    header = Path(build.FOLDER, "kernel", "interface.h").read_text()
    functions = {}
    for result, name, arguments in re.findall(r"^QRL_API (.+?) ?(qrl_\w+)\(([^)]*)\);", header, re.MULTILINE):
        types = [argument.split()[:-1] for argument in arguments.split(",")]  # the last word is the name
        functions[name] = (
            declared(result),
            tuple(declared(" ".join(words)) for words in types if words),
        )
    assert functions.pop("qrl_abi_version") == (ctypes.c_int, ())
    assert functions == dict(library._INTERFACE)
    assert f"#define QRL_ABI {library.ABI_VERSION}\n" in header


@pytest.fixture
def engine(compiled, monkeypatch):
    """The small kernel, compiled and in the place of the installed one."""
    monkeypatch.setattr(build, "FOLDER", compiled)
    return compiled


@pytest.mark.engine
def test_the_installed_library_runs_here():
    loaded = library.load()
    assert library.reason() is None
    assert library.load() is loaded
    assert loaded.instruction_sets[0] == "baseline"
    assert {"baseline", loaded.best} <= set(loaded.supported) <= set(loaded.instruction_sets)


def test_off_means_off_and_says_so(monkeypatch):
    monkeypatch.setenv("QRL_ENGINE", "off")
    assert library.load() is None
    assert library.reason() == "switched off by QRL_ENGINE=off"


def test_an_unknown_switch_is_refused(monkeypatch):
    monkeypatch.setenv("QRL_ENGINE", "of")
    with pytest.raises(ValueError, match=r"QRL_ENGINE: 'of' is unknown; use one of on, off, sanitized"):
        library.load()


def test_a_compiled_engine_is_loaded(engine):
    """The small kernel says that the processor runs the first two sets, and is best at baseline."""
    loaded = library.load()
    assert loaded.best == "baseline"
    assert loaded.supported == loaded.instruction_sets[:2]
    assert loaded.lib.qrl_saved_bytes(None, 0, 2**40, 0) == 2**40


def test_the_named_instruction_set_comes_before_the_environments(monkeypatch):
    loaded = library.Library(ctypes.CDLL(None), ("baseline", "avx2", "avx512"), ("baseline", "avx2"), "avx2")
    assert loaded.choose() == 1
    monkeypatch.setenv("QRL_INSTRUCTION_SET", "baseline")
    assert loaded.choose() == 0
    assert loaded.choose("avx2") == 1


def test_an_instruction_set_that_cannot_run_is_refused(monkeypatch):
    loaded = library.Library(ctypes.CDLL(None), ("baseline", "avx512"), ("baseline",), "baseline")
    with pytest.raises(
        ValueError, match=r"instruction_set: 'avx512' cannot run on this .*use one of baseline"
    ):
        loaded.choose("avx512")
    monkeypatch.setenv("QRL_INSTRUCTION_SET", "neon")
    with pytest.raises(ValueError, match=r"QRL_INSTRUCTION_SET: 'neon' was not built; use one of baseline"):
        loaded.choose()


def test_changed_sources_make_it_stale(engine):
    (engine / "kernel" / "new.hpp").write_text("#pragma once\n")
    assert library.reason().startswith(
        "stale: the sources are not those that were compiled; run `make engine`"
    )


def test_another_interface_makes_it_stale(engine, monkeypatch):
    monkeypatch.setattr(library, "ABI_VERSION", 99)
    assert library.reason().startswith("stale: version 2 of the C interface where 99 is needed")


def test_a_missing_function_is_a_load_error(engine, monkeypatch):
    monkeypatch.setattr(library, "_INTERFACE", {"qrl_none_such": (None, ())})
    assert library.reason().startswith("load error: ")
    assert "qrl_none_such" in library.reason()


def test_a_broken_file_is_a_load_error(engine):
    build.library_path(engine).write_bytes(b"no library")
    assert library.reason().startswith("load error: ")


def test_a_missing_file_is_a_load_error(engine):
    build.library_path(engine).unlink()
    assert library.reason().startswith("load error: ")


def test_without_a_record_nothing_was_built(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    assert library.reason() == "not built: the installation did not try; run `make engine` or reinstall"
    (tmp_path / "_build.json").write_text("{ truncated")
    library._outcome.cache_clear()
    assert library.reason().startswith("not built: the installation did not try")


def test_the_reason_of_a_failed_build_is_passed_on(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    (tmp_path / "_build.json").write_text(json.dumps({"reason": "no C++ compiler was found"}))
    assert library.load() is None
    assert library.reason() == "not built: no C++ compiler was found"
    assert library.FALLBACK % library.reason() == (
        "backend: 'auto' is 'torch' in this process, the compiled engine is not available: "
        "not built: no C++ compiler was found"
    )
