"""Files are whole or not there; names stand for one patient each; JSON and HDF5 of others."""

import os
import signal
import subprocess
import sys
import threading

import h5py
import pandas as pd
import pytest

from lib import files
from lib.files import (
    check_names,
    file_digest,
    leaves_folder,
    opened,
    positive,
    problem_of,
    read_json,
    sha256_of,
    write_csv,
    write_json,
    written,
)

HALF_WRITTEN = """
import sys, time
from lib.files import written
with written(sys.argv[1]) as part:
    with open(part, "w") as file:
        file.write("half of the new")
        file.flush()
        print("half", flush=True)
        time.sleep(60)
"""


def fail_halfway(path):
    with written(path) as part:
        part.write_text("half of the new")
        raise RuntimeError("no more")


def test_block_that_raises_leaves_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="no more"):
        fail_halfway(path)
    assert path.read_text(encoding="utf-8") == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["table.csv"]


def test_final_name_appears_only_after_the_block(tmp_path):
    path = tmp_path / "a" / "b" / "picture.svg"
    with written(path) as part:
        part.write_text("new")
        assert not path.exists()
        assert (part.parent, part.suffix) == (path.parent, ".svg"), "renaming stays within one file system"
        assert part.name.startswith(".part-")
    assert path.read_text(encoding="utf-8") == "new"
    assert [each.name for each in path.parent.iterdir()] == ["picture.svg"]


def test_kill_in_the_middle_leaves_the_old_file_whole(tmp_path, root):
    path = tmp_path / "scores.csv"
    path.write_text("old\n" * 1000)
    before = sha256_of(path)
    process = subprocess.Popen(
        [sys.executable, "-c", HALF_WRITTEN, str(path)], stdout=subprocess.PIPE, text=True, cwd=root
    )
    try:
        assert process.stdout.readline() == "half\n"
        part = next(tmp_path.glob(f".part-*-{process.pid}-{path.name}"))
        assert part.read_text(encoding="utf-8") == "half of the new", (
            "the kill must come in the middle of writing"
        )
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    finally:
        process.kill()
        process.stdout.close()
    assert sha256_of(path) == before
    with written(path) as part:
        part.write_text("new")
    assert path.read_text(encoding="utf-8") == "new"


def test_reader_sees_only_whole_files_while_they_are_replaced(tmp_path):
    path, contents = tmp_path / "numbers.json", [[number] * 20_000 for number in (0, 1)]
    write_json(contents[0], path)
    whole, seen = {path.read_bytes()}, set()
    write_json(contents[1], path)
    whole.add(path.read_bytes())

    def replace():
        for number in range(20):
            write_json(contents[number % 2], path)

    writer = threading.Thread(target=replace)
    writer.start()
    while writer.is_alive():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= whole


def test_equal_content_gives_equal_bytes(tmp_path):
    table = pd.DataFrame({"section": ["A1", "Bä"], "score": [0.1 + 0.2, float("nan")]}, index=[7, 9])
    write_csv(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == "section,score\nA1,0.30000000000000004\nBä,\n".encode()
    write_json({"b": 1, "a": {"µm": [1.5, None], "x": True}}, tmp_path / "first.json")
    write_json({"a": {"x": True, "µm": [1.5, None]}, "b": 1}, tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    assert "µm" in (tmp_path / "first.json").read_text(encoding="utf-8")


def test_digest_is_of_the_content_although_size_and_time_are_those_of_before(tmp_path):
    path = tmp_path / "A1.h5"
    for content in (b"first", b"other", b"third"):
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))
        assert file_digest(path) == sha256_of(path)
    with written(path) as part:
        part.write_bytes(b"fifth")
        os.utime(part, ns=(0, 0))
    assert file_digest(path) == sha256_of(path)


@pytest.mark.parametrize("name", ["", "  ", "..", "../x", "a\\b", "a\nb", "=1+1", "-5", "ä" * 80, "a\udcff"])
def test_no_name(name):
    with pytest.raises(ValueError, match=r"t\.csv: slide .* rename it"):
        check_names(["fine", name], "t.csv", "slide")


@pytest.mark.parametrize(("one", "other"), [("P1", "p1"), ("P1", "P 1"), ("007", "7"), ("A-01", "a-1")])
def test_two_spellings_of_one_patient_are_refused(one, other):
    with pytest.raises(ValueError, match="differ only in case, spaces or leading zeros"):
        check_names([one, "x", other], "t.csv")


def test_names_that_differ_and_a_name_that_comes_twice():
    check_names(
        ["P1", "P10", "10", "1", "0", "P1", "A1", "A-1", "GA 1", "Ärztin 3", "x" * files.LONGEST], "t.csv"
    )
    check_names(["slide 01", "slide 1"], "t.csv", "slide", zeros=False)
    with pytest.raises(ValueError, match="differ only in case"):
        check_names(["s1", "S1"], "t.csv", "slide", zeros=False)


def test_json_of_others(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1, "é": [1.5, null]}', encoding="utf-8-sig")
    assert read_json(path) == {"a": 1, "é": [1.5, None]}
    for text in ("", "[1]"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"a\.json"):
            read_json(path)
    assert positive({"a": 2}, "a", "x.json") == 2.0
    for value in (0, -1, "2", None, True, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"x\.json has a .* above 0 is expected"):
            positive({"a": value}, "a", "x.json")


def test_hdf5_that_is_broken_is_named_and_what_a_reader_says_stays(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a/b"] = [0, 1, 2]
    with opened(path, "a thing", "again") as file:
        assert file["a/b"][()].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"^a\.h5 has no spots$"), opened(path, "a thing", "again"):
        raise ValueError("a.h5 has no spots")
    with (
        pytest.raises(ValueError, match=r"a\.h5 is not a thing.*: again$"),
        opened(path, "a thing", "again") as file,
    ):
        file["c"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"a\.h5 is not a thing"), opened(path, "a thing", "again"):
        pass


def test_what_is_wrong_with_a_file_that_a_table_names(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "S23-101 A1.tif").write_text("x")
    (tmp_path / "a" / "empty.nii").write_text("")
    assert problem_of(tmp_path, "a/S23-101 A1.tif", "slide") == ""
    assert problem_of(tmp_path, "a", "image") == ""
    assert problem_of(tmp_path, "", "film") == "no film is named"
    assert problem_of(tmp_path, "a/empty.nii", "image") == "image a/empty.nii is empty"
    for near in ("a/s23_101_a1.tif", "a/S23-101 A1.svs"):
        assert problem_of(tmp_path, near, "slide") == f"slide {near} is not there, but S23-101 A1.tif is"
    for far in ("a/S23-102 A1.tif", "b/S23-101 A1.tif"):  # another patient's is never named
        assert problem_of(tmp_path, far, "slide") == f"slide {far} is not there"
    assert [leaves_folder(one) for one in ("a/b.nii", "../b", "/b", "C:/b", "a/../../b")] == [
        False,
        *[True] * 4,
    ]
