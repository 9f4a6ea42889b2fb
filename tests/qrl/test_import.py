"""``import qrl`` is light and refuses foreign siblings."""

import subprocess
import sys

HEAVY = (
    "torch",
    "stable_baselines3",
    "pennylane",
    "qiskit",
    "matplotlib",
    "plotly",
    "pandas",
    "duckdb",
    "ray",
    "wandb",
)


def run_python(code, cwd):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def test_import_loads_nothing_heavy_and_registers_environments(tmp_path):
    code = f"""import sys, qrl, gymnasium
print([m for m in {HEAVY} if m in sys.modules], 'qrl/TargetSteering-v0' in gymnasium.registry)"""
    done = run_python(code, tmp_path)
    assert done.stdout.strip() == "[] True", done.stderr


def test_every_public_name_exists():
    import qrl

    for name in qrl.__all__:
        assert getattr(qrl, name) is not None
    assert set(qrl.__all__) <= set(dir(qrl))


def test_a_foreign_sibling_is_named(tmp_path):
    foreign = tmp_path / "circuits"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("answer = 42\n")
    done = run_python("import sys; sys.path.insert(0, ''); import qrl", tmp_path)
    assert done.returncode != 0
    assert str(foreign / "__init__.py") in done.stderr.splitlines()[-1]
