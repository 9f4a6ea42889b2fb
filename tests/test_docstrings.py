"""Examples in docstrings run, and every public name has a docstring."""

import ast
import doctest
import importlib
import pkgutil

import pytest

PACKAGES = ("qrl", "circuits", "environments", "baselines")
MODULES = [
    module.name
    for package in PACKAGES
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
]


@pytest.mark.parametrize("name", [*PACKAGES, *MODULES])
def test_examples_run_and_public_names_are_documented(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
    with open(module.__file__, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    assert ast.get_docstring(tree), f"{name} has no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name}.{node.name} has no docstring"
