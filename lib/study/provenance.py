"""What a result was made from: inputs, code, versions, commit."""

import ast
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

from lib.study.imports import imported
from lib.study.params import ROOT

PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "scanpy",
    "anndata",
    "torch",
    "lightning",
    "timm",
    "h5py",
)


@cache
def code_digest(*modules: ModuleType) -> str:
    """A digest of what modules of `lib` do, with every module of `lib` they import.

    Comments, docstrings and layout do not count: only a change that can change a result changes the digest.
    """
    import hashlib

    waiting, trees = {module.__name__: Path(module.__file__) for module in modules}, {}
    while waiting:
        name, path = waiting.popitem()
        if name in trees:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        files = {inner: ROOT.joinpath(*inner.split(".")).with_suffix(".py") for inner in imported(tree)}
        waiting |= {inner: file for inner, file in files.items() if file.is_file()}
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                and ast.get_docstring(node) is not None
            ):
                node.body = node.body[1:]
        trees[name] = ast.dump(tree)
    return hashlib.sha256(repr(sorted(trees.items())).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose numbers a result depends on."""
    import platform

    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def commit() -> str:
    """The git commit, with "+changes" where the tree differs from it; "no git" outside a checkout."""
    run = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], **run
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no git"
    return head + ("+changes" if changed else "")
