"""What lies in data/raw for a cohort, as a reason to run again."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lib.params import load
from lib.study.raw_files import pointed_to, since, state

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path) -> Path:
    """A tree with raw files of one's own and of others."""
    raw = tmp_path / "data" / "raw"
    (raw / "hospital" / "slides").mkdir(parents=True)
    (raw / "others").mkdir()
    (raw / "hospital" / "outcomes.csv").write_text("case_id,censorship\np1,0\n")
    (raw / "hospital" / "slides" / "p1.svs").write_bytes(b"pixels")
    (raw / "others" / "p9.svs").write_bytes(b"pixels")
    return tmp_path


@pytest.fixture
def params(tmp_path):
    values = yaml.safe_load((ROOT / "params" / "crossfusion" / "luad.yaml").read_text(encoding="utf-8"))
    values |= {"cohort": "hospital", "outcomes": "hospital/outcomes.csv", "slides": "hospital/slides"}
    values |= {"official_folds": "", "clinical_table": "", "clinical": ["age"]}
    path = tmp_path / "crossfusion" / "hospital.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load(path)


def test_files_and_bytes_are_said(root, params):
    assert state(params, root).startswith("2 raw files, 30 bytes, ")
    assert state(params, root) == state(params, root)


def test_a_phantom_has_none(tmp_path):
    """Though a folder has the name of its preset."""
    (tmp_path / "data" / "raw" / "tcga").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "tcga" / "table.csv").touch()
    assert state(load(ROOT / "params" / "crossfusion" / "demo.yaml"), tmp_path) == ""


def test_a_preset_is_no_folder(root, params):
    (root / "data" / "raw" / "tcga").mkdir()
    assert params.preset == "tcga"
    assert [path.name for path in pointed_to(params, root)] == ["outcomes.csv", "slides"]


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: (raw / "hospital" / "slides" / "p2.svs").write_bytes(b"more"),
        lambda raw: (raw / "hospital" / "slides" / "p1.svs").write_bytes(b"pixels more"),
        lambda raw: (raw / "hospital" / "slides" / "p1.svs").rename(raw / "hospital" / "slides" / "p2.svs"),
        lambda raw: (raw / "hospital" / "slides" / "p1.svs").unlink(),
        lambda raw: (raw / "hospital" / "outcomes.csv").write_text("case_id,censorship\np1,1\n"),
        lambda raw: (raw / "hospital" / "slides" / "more").symlink_to(raw / "others"),
    ],
    ids=["added", "longer", "renamed", "gone", "corrected", "folder linked"],
)
def test_what_changes_it(root, params, change):
    before = state(params, root)
    change(root / "data" / "raw")
    assert state(params, root) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: (raw / "others" / "p8.svs").write_bytes(b"more"),
        lambda raw: (raw / "hospital" / "note.txt").write_text("not named by the parameters"),
        lambda raw: (raw / "hospital" / "slides" / ".part-7-p2.svs").write_bytes(b"half"),
        lambda raw: os.utime(raw / "hospital" / "outcomes.csv", (0, 0)),
        lambda raw: (raw / "hospital" / "slides" / "nowhere").symlink_to("nowhere"),
    ],
    ids=["others'", "beside", "a download under way", "touched", "link to nothing"],
)
def test_what_does_not(root, params, change):
    before = state(params, root)
    change(root / "data" / "raw")
    assert state(params, root) == before


def test_a_link_in_a_circle_ends(root, params):
    slides = root / "data" / "raw" / "hospital" / "slides"
    (slides / "again").symlink_to(slides)
    assert state(params, root).startswith("2 raw files, ")


def test_section_tables_stand_for_the_folder_of_their_name(tmp_path):
    for folder in ("cohorts/spacrd", "raw/her2st", "raw/weights"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    (tmp_path / "data" / "cohorts" / "spacrd" / "her2st.csv").write_text("section\n")
    (tmp_path / "data" / "raw" / "weights" / "mobilenetv2_100_dequant.pth").write_bytes(b"w")
    found = pointed_to(load(ROOT / "params" / "spacrd" / "her2st.yaml"), tmp_path)
    names = [path.relative_to(tmp_path / "data").as_posix() for path in found]
    assert names == ["cohorts/spacrd/her2st.csv", "raw/her2st", "raw/weights/mobilenetv2_100_dequant.pth"]


@pytest.mark.parametrize("text", ["..", "../raw", ".", "", "/", "a" * 5000])
def test_nothing_outside_of_it_is_looked_at(root, params, text):
    found = pointed_to(params.model_copy(update={"features": text}), root)
    assert [path.name for path in found] == ["outcomes.csv", "slides"]


def test_hundred_thousand_slides_take_seconds(root, params):
    """Ten thousand here, a tenth of what is promised."""
    for folder in range(10):
        place = root / "data" / "raw" / "hospital" / "slides" / str(folder)
        place.mkdir()
        for number in range(1000):
            (place / f"{number}.svs").touch()
    start = time.process_time()
    assert state(params, root).startswith("10002 raw files")
    assert time.process_time() - start < 2


def test_a_finished_run_is_asked_what_it_left(tmp_path):
    record = tmp_path / "raw.json"
    assert since(record, "now") == "now"
    record.write_text(json.dumps({"begun": "before", "ended": "now"}))
    assert since(record, "now") == "before"
    assert since(record, "later") == "later"
    record.write_text("{")
    assert since(record, "now") == "now"


def test_command_line_notes_both(tmp_path):
    record = tmp_path / "logs" / "raw.json"
    command = [
        sys.executable,
        "-m",
        "lib.study.raw_files",
        "params/spacrd/demo.yaml",
        str(record),
        "begun with",
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    assert json.loads(record.read_text()) == {"begun": "begun with", "ended": ""}
