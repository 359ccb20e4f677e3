"""The benchmarks are run by hand: here it is only seen that what they take from `lib` and each other is there."""

import ast
import importlib
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_takes_is_there(script):
    taken = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("lib", "benchmarks")
        for alias in node.names
    ]
    for module, name in taken:
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")
