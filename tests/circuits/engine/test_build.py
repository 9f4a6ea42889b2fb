"""The build of the compiled engine: what is compiled, when again, how it fails, and what a wheel holds."""

import json
import os
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from circuits.engine import build, library

ROOT = Path(__file__).parents[3]


@pytest.fixture
def no_compiler(monkeypatch, tmp_path_factory):
    """A path on which no compiler is found."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("empty")))


def build_in(folder, **options):
    return build.build(folder, folder / "kernel", **options)


@pytest.mark.usefixtures("compiler")
def test_a_build_leaves_a_library_and_its_record_alone(folder):
    record = build_in(folder)
    assert record["reason"] is None
    assert record["sets"][0] == "baseline"
    assert record["sources_sha256"] == build.sources_sha256(folder / "kernel")
    assert json.loads((folder / "_build.json").read_text()) == record
    assert {path.name for path in folder.iterdir()} == {
        "kernel",
        "_build.json",
        build.library_path(folder).name,
    }
    assert library._open(folder).instruction_sets == tuple(record["sets"])
    assert [module.name for module in pkgutil.iter_modules([folder])] == [], "nothing to import"


@pytest.mark.usefixtures("compiler")
def test_it_compiles_again_only_when_something_changed(folder):
    build_in(folder)
    path = build.library_path(folder)
    first = path.stat().st_ino
    os.utime(folder / "_build.json", (0, 0))
    build_in(folder)
    assert path.stat().st_ino == first
    assert (folder / "_build.json").stat().st_mtime > 0, "make compares this time with the sources'"
    with (folder / "kernel" / "isa.cpp").open("a") as source:
        source.write("// changed\n")
    build_in(folder)
    assert path.stat().st_ino != first


@pytest.mark.usefixtures("compiler")
def test_code_that_several_instruction_sets_share_is_the_baseline_copy(folder):
    record = build_in(folder)
    lib = library._open(folder).lib
    levels = [lib.qrl_fma_peak(number, 0, 0.0) for number in range(len(record["sets"]))]
    assert levels == [0.0] * len(levels)


@pytest.mark.usefixtures("compiler")
def test_an_instruction_set_the_compiler_does_not_know_is_left_out(folder, monkeypatch):
    monkeypatch.setattr(build, "_SETS", {"baseline": (), "avx2": ("-mnone-such",)})
    assert build_in(folder)["sets"] == ["baseline"]


@pytest.mark.usefixtures("compiler")
def test_a_compile_error_is_one_line_and_removes_the_old_library(folder):
    build_in(folder)
    (folder / "kernel" / "isa.cpp").write_text("int x = ;\n")
    record = build_in(folder)
    assert "isa.cpp:1:" in record["reason"]
    assert "error: " in record["reason"]
    assert len(record["reason"].splitlines()) == 1
    assert not build.library_path(folder).exists()
    assert library._open(folder) == f"not built: {record['reason']}"


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_the_record_says_what_to_install(folder):
    record = build_in(folder)
    assert record["reason"] == "no C++ compiler was found at installation; install g++ and reinstall"
    assert build.read_record(folder) == record


@pytest.mark.usefixtures("compiler")
def test_cxx_may_hold_arguments_and_no_other_compiler_takes_its_place(folder, monkeypatch):
    monkeypatch.setenv("CXX", "none-such -O2")
    assert "CXX=none-such -O2 is no program" in build_in(folder)["reason"]
    monkeypatch.setenv("CXX", "c++ -DEXTRA=1")
    record = build_in(folder)
    assert (record["reason"], record["compiler"]) == (None, "c++ -DEXTRA=1")


@pytest.mark.usefixtures("compiler")
def test_the_sanitized_library_lies_beside_the_other(folder):
    plain = build_in(folder)
    sanitized = build_in(folder, sanitize=True)
    if sanitized["reason"] is not None:
        pytest.skip(f"no sanitizers here: {sanitized['reason']}")
    assert "-fsanitize=address,undefined" in sanitized["flags"]
    assert build.read_record(folder) == plain
    assert build.library_path(folder, sanitize=True).exists()


@pytest.fixture
def distribution(small_kernel, tmp_path):
    """The distribution with its build files as they are and the small kernel in place of the real one."""
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path)
    for package in ("qrl", "circuits", "environments", "baselines", "circuits/engine"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    shutil.copy(ROOT / "circuits" / "engine" / "build.py", tmp_path / "circuits" / "engine")
    shutil.copytree(small_kernel, tmp_path / "circuits" / "engine" / "kernel")
    # What an editable installation left there is not what a wheel packs.
    (tmp_path / "circuits" / "engine" / "_build.json").write_text("old")
    return tmp_path


def built(distribution, *targets):
    """Build the targets and return the wheel's name and its files."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", *targets],
        check=False,
        cwd=distribution,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (distribution / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    return path.name, files


@pytest.mark.usefixtures("compiler")
def test_a_wheel_holds_library_and_sources_and_names_its_platform(distribution):
    name, files = built(distribution)
    record = json.loads(files["circuits/engine/_build.json"])
    assert record["reason"] is None
    assert f"circuits/engine/{build.library_path().name}" in files
    assert {"circuits/engine/kernel/isa.cpp", "circuits/engine/kernel/dispatch.cpp"} <= set(files)
    assert "-py3-none-" in name
    assert "-any" not in name
    metadata = next(text.decode() for file, text in files.items() if file.endswith(".dist-info/WHEEL"))
    assert "Root-Is-Purelib: false" in metadata
    assert (distribution / "circuits" / "engine" / "_build.json").read_text() == "old"
    (sdist,) = (distribution / "dist").glob("*.tar.gz")
    listed = subprocess.run(["tar", "tzf", sdist], capture_output=True, text=True, check=True).stdout
    assert "/hatch_build.py\n" in listed
    assert "/circuits/engine/kernel/isa.cpp\n" in listed
    assert "_build.json" not in listed
    assert "_kernel" not in listed


def test_a_wheel_without_a_compiler_is_pure_python_and_says_why(distribution, monkeypatch):
    monkeypatch.setenv("CXX", "none-such")
    name, files = built(distribution, "-t", "wheel")
    assert name.endswith("-py3-none-any.whl")
    assert "CXX=none-such" in json.loads(files["circuits/engine/_build.json"])["reason"]
    assert not [file for file in files if "_kernel" in file]
