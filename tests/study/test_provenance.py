"""What counts as a change of the code, and what a result says it was made from."""

import hashlib
import importlib
import os
import re
import subprocess
import sys

import pytest

import lib
from lib import stage as provenance
from lib.files import file_digest
from lib.stage import code_digest, commit, versions

MODULE = '''"""What it does."""

import math

from lib.probe_room import constants
from lib.probe_shape import area


class Circle:
    """A circle."""

    def size(self, radius):
        """Its size."""
        return area(radius) * constants.SCALE


def double(number):
    """Twice the number."""
    return number * 2  # why
'''
SHAPE = '"""Shapes."""\n\nimport lib.probe_deep\n\n\ndef area(radius):\n    return lib.probe_deep.PI * radius**2\n'


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Modules lib.probe, which imports lib.probe_shape and lib.probe_room.constants; and lib.probe_deep behind."""
    folder = tmp_path / "lib"
    (folder / "probe_room").mkdir(parents=True)
    (folder / "probe.py").write_text(MODULE)
    (folder / "probe_shape.py").write_text(SHAPE)
    (folder / "probe_deep.py").write_text("PI = 3.14\n")
    (folder / "probe_room" / "__init__.py").write_text("")
    (folder / "probe_room" / "constants.py").write_text("SCALE = 1.0\n")
    monkeypatch.setattr(lib, "__path__", [*lib.__path__, str(folder)])
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.startswith("lib.probe")]:
        del sys.modules[name]
        vars(lib).pop(name.split(".")[1], None)


def digest() -> str:
    code_digest.cache_clear()
    return code_digest(importlib.import_module("lib.probe"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""What it does."""', '"""What it did."""'),
        ('"""What it does."""\n', ""),
        ('    """Twice the number."""\n', ""),
        ('    """A circle."""\n', '    """A round thing,\n\n    quite."""\n'),
        ("  # why", "  # why not"),
        ("return number * 2", "return (\n        number\n        * 2\n    )"),
    ],
)
def test_words_and_layout_do_not_count(old, new, tree):
    before = digest()
    assert old in MODULE
    (tree / "probe.py").write_text(MODULE.replace(old, new))
    assert digest() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("number * 2", "number * 3"),
        ("number * 2", "2 * number"),
        ("area(radius) *", "area(radius) /"),
        ("import math", "import math as m"),
        ("def double", "def twice"),
    ],
)
def test_a_changed_number_counts(old, new, tree):
    before = digest()
    assert old in MODULE
    (tree / "probe.py").write_text(MODULE.replace(old, new))
    assert digest() != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("probe_shape.py", SHAPE.replace("**2", "**3")),
        ("probe_deep.py", "PI = 3.15\n"),
        ("probe_room/constants.py", "SCALE = 2.0\n"),
    ],
    ids=["imported", "imported by an imported one", "imported from its room"],
)
def test_a_change_in_an_imported_module_of_lib_counts(name, text, tree):
    before = digest()
    (tree / name).write_text(text)
    assert digest() != before


def test_a_module_nobody_imports_does_not_count(tree):
    before = digest()
    (tree / "probe_other.py").write_text("A = 1\n")
    assert digest() == before


def test_digest_follows_the_real_imports():
    from lib.features import embedding
    from lib.spacrd import train as runs

    code_digest.cache_clear()
    found = code_digest(runs)
    assert re.fullmatch("[0-9a-f]{64}", found)
    assert found == code_digest(runs)
    assert found != code_digest(embedding)
    assert code_digest(runs, embedding) == code_digest(embedding, runs)


def test_digest_of_a_file_follows_its_content(tmp_path):
    path = tmp_path / "counts.tsv"
    for content in (b"a", b"b", b"longer", b"a"):
        path.write_bytes(content)
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        assert file_digest(path) == hashlib.sha256(content).hexdigest()
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "none")


def test_versions_are_those_imported():
    import numpy
    import torch

    found = versions()
    assert found["numpy"] == numpy.__version__
    assert found["torch"] == torch.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_commit_names_the_head_and_says_when_the_tree_differs(tmp_path, monkeypatch):
    def git(*arguments):
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", *names, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert commit() == "no git"
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "HEAD")
    assert commit() == head
    (tmp_path / "untracked").write_text("1")
    assert commit() == head, "results and raw data are not part of the tree"
    (tmp_path / "a").write_text("2")
    assert commit() == f"{head}+changes"


def test_commit_without_git_on_the_machine(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit() == "no git"
