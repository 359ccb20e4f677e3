"""A changed parameter: every notebook that reads it is run again, and of its units only those that depend on it."""

import json
import re

import pytest
from small import Tree

pytestmark = pytest.mark.slow

TARGET = "results/spacrd/small/notebooks/2-embed.ipynb"
ARGUMENTS = ("--profile", "profiles/local", "--cores", "1")


def units(tree: Tree, stage: str) -> dict[str, int]:
    """How many units a stage has, made and kept in its last run."""
    return json.loads((tree.results / "runs" / f"{stage}.json").read_text(encoding="utf-8"))["units"]


def test_only_units_that_depend_on_what_changed_are_made_again(small_tree, tmp_path):
    tree = small_tree(tmp_path / "tree")
    code, said = tree.run(*ARGUMENTS, "--", TARGET)
    assert code == 0, said[-6000:]
    assert units(tree, "1-preprocess") == units(tree, "2-embed") == {"all": 3, "made": 3, "kept": 0}
    before = tree.hashes()
    parameters = tree.folder / "params" / "spacrd" / "small.yaml"
    text = parameters.read_text(encoding="utf-8")
    parameters.write_text(text.replace("crop_um: 150.0", "crop_um: 140.0"), encoding="utf-8")

    code, said = tree.run(*ARGUMENTS, "--dry-run", "--", TARGET)
    assert code == 0, said[-6000:]
    assert re.findall(r"^\s+output: \S+/([\w-]+)\.ipynb$", said, re.MULTILINE) == ["1-preprocess", "2-embed"]
    assert "reason: Updated input files: params/spacrd/small.yaml" in said

    code, said = tree.run(*ARGUMENTS, "--", TARGET)
    assert code == 0, said[-6000:]
    assert units(tree, "1-preprocess") == {"all": 3, "made": 0, "kept": 3}, "sections know nothing of crops"
    assert units(tree, "2-embed") == {"all": 3, "made": 3, "kept": 0}
    after = tree.hashes()
    changed = {name.split("/")[0] for name in before if after[name] != before[name]}
    assert "features" in changed
    assert not {"sections", "raw", "cohort.csv"} & changed
