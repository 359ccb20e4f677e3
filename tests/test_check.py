"""`make check` on a made-up hospital of each study: what was planted is named, nobody sees a traceback, the exit code tells."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from lib.check import alike, gaps, remarked

SEVERAL = """
import contextlib, io, json, sys
from lib.check import main
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(json.loads(line))
    print(json.dumps([code, out.getvalue() + err.getvalue()]), flush=True)
"""


class Tree:
    """A copy of what runs, with no results and no raw files, and a process of its Python that looks cohorts over."""

    def __init__(self, folder: Path):
        own = {"PYTHONPATH": str(folder), "CROSSBOOK_RESULTS": str(folder / "results")}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", SEVERAL]
        self.process = subprocess.Popen(command, cwd=folder, env=os.environ | own, **pipes)
        self.folder = folder

    def check(self, *arguments: str) -> tuple[int, str]:
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        code, said = json.loads(self.process.stdout.readline())
        assert "Traceback" not in said, said[-3000:]
        return code, said

    def page(self, study: str) -> str:
        return (self.folder / "results" / study / "patients" / "check.html").read_text(encoding="utf-8")


@pytest.fixture
def tree(checkout, tmp_path) -> Iterator[Tree]:
    yield (tree := Tree(checkout(tmp_path / "tree")))
    tree.process.communicate()


slow = pytest.mark.slow
# study -> pictures at least, and what is said under each heading
PLANTED = {
    "crossfusion": (
        3,
        [r"S23-104 A2: .* names neither µm per pixel", r"S23-107 A2: no file S23-107 A2\.svs"],
        [],
        [r"age: 1 of 12 are without \(Pat\. 3\)"],
    ),
    "gcmlm": (
        3,
        [
            r"scans/GC-0003: \S+ has the size of its volume but another header",
            "GC-0009: no mask is named",
            r"GC-0007-1: slide slides/GC-0007-1\.tiff is not there",
            "GC-0005: no follow-up",
        ],
        [],
        [r"ct: 2 of 11 are without \(GC-0003, GC-0009\)", r"slide: 1 of 11 are without \(GC-0007\)"],
    ),
    "spacrd": (
        4,
        ["VB1: 99 of the 99 labelled spots in labels.csv are not in the section"],
        [r"VA1: 1 of the 100 labelled spots .* \(ACGTACGTACGTACGT-1\)", "A1: spots without counts: 2x2"],
        [],
    ),
    "stroke": (
        2,
        [
            "patient_5: .* frame 43 holds 0 throughout",
            "left out: patient_9: no film is named",
            "without an outcome, so left out: patient_10",
        ],
        ["patient_2: frames are 1 to 3 s apart"],
        ["no column of smoking"],
    ),
}


@pytest.mark.parametrize(
    "study", ["crossfusion", *(pytest.param(study, marks=slow) for study in ("gcmlm", "spacrd", "stroke"))]
)
def test_made_up_hospital(study, tree):
    code, said = tree.check(study, "--hospital")
    assert code == 0, said
    assert tree.check(study, "--hospital")[0] == 2, "files that are there are never written over"
    code, said = tree.check(study)
    pictures, *planted = PLANTED[study]
    parts = re.split(r"^\w.*:$", said, flags=re.MULTILINE)[2:5]
    for part, sentences in zip(parts, planted, strict=True):
        for sentence in sentences:
            assert re.search(rf"^  {sentence}", part, re.MULTILINE), f"{sentence} is not in\n{said}"
    assert len(parts[0].strip().splitlines()) == len(planted[0]), f"nothing else stops\n{said}"
    assert code == 1
    assert str(tree.folder) not in said
    page = tree.page(study)
    assert page.count("data:image/png;base64") >= pictures
    assert "cohort.csv" in page
    assert str(tree.folder) not in page


def test_a_refused_table_is_its_sentence_and_a_mended_cohort_is_ready(tree):
    assert tree.check("crossfusion")[1].count("data/raw/patients/crossfusion/patients.csv is not there") == 1
    assert tree.check("crossfusion", "--hospital")[0] == 0
    path = tree.folder / "data" / "raw" / "patients" / "crossfusion" / "patients.csv"
    table = pd.read_csv(path)
    table = table[~table["slide"].isin(["S23-104 A2", "S23-107 A2"])]
    renamed = table.assign(
        slide=table["slide"].replace({"S23-100 A1": "s23_100_a1", "S23-101 A1": "S23-999 A1"})
    )
    renamed.to_csv(path, index=False)
    code, said = tree.check("crossfusion")
    assert code == 1
    assert re.search("s23_100_a1: no file .*, but S23-100 A1.tif is$", said, re.MULTILINE)
    assert re.search(r"S23-999 A1: no file .* below \S+$", said, re.MULTILINE), (
        "no other patient's slide is offered"
    )
    assert "no row of the table names: S23-100 A1.tif, S23-101 A1.tif" in said
    table.to_csv(path, index=False)
    code, said = tree.check("crossfusion", "patients")
    assert code == 0, said
    assert "<p>Ready" in tree.page("crossfusion"), "not in the red of what stops"
    table = table.assign(age=table["age"].where(table["patient"] != "Pat. 2", 28125), event=2)
    table.to_csv(path, index=False, sep=";", decimal=",")
    code, said = tree.check("crossfusion")
    assert code == 1
    assert "0 to 120 years are expected" in said
    assert "Not ready: 2 to mend" in said, "all that is wrong with a table is said at once"
    assert "Not ready" in tree.page("crossfusion")
    code, said = tree.check("crossfusion", "patient")
    assert code == 2
    assert "patients" in said


def test_remarks_of_many_that_differ_in_numbers_alone_are_one():
    told = [(f"S{n}", f"tiles cover {80 + n}% of it") for n in range(6)] + [("S9", "S9: pen marks")]
    lines = alike(told)
    assert lines == ["6 as S0: tiles cover 80% of it (S0, S1, S2, S3, S4, S5)", "S9: pen marks"]
    assert alike(told[:3]) == [f"{who}: {words}" for who, words in told[:3]]


def test_rows_that_cannot_be_used_and_cells_that_are_empty():
    table = pd.DataFrame(
        {"slide": list("abcd"), "status": ["ok", "failed", "no tissue", "ok"], "note": ["", "why", "", "odd"]}
    )
    assert remarked(table) == [("b", "why", True), ("c", "no tissue", True), ("d", "odd", False)]
    assert remarked(table.drop(columns="note")) == []
    cohort = pd.DataFrame(
        {"patient": ["1", "2"], "age": ["", "3"], "has_ct": ["True", "False"], "cea": ["", ""]}
    )
    said = ["age: 1 of 2 are without (1)", "ct: 1 of 2 are without (2)", "cea: nobody has it"]
    assert sorted(gaps(cohort)) == sorted(said)
