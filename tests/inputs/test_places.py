"""Paths in tables: relative, found again, and known by size."""

import pytest

from lib.gcmlm.matched import found_at, size_of, written_as


def test_a_path_comes_back(tmp_path):
    raw, made = tmp_path / "raw", tmp_path / "made"
    for folder in (raw, made):
        (folder / "ct").mkdir(parents=True)
    (made / "ct" / "mask.nii.gz").write_bytes(b"1234")
    text = written_as(made / "ct" / "mask.nii.gz", [raw, made])
    assert text == "ct/mask.nii.gz"
    assert found_at(text, [raw, made]) == made / "ct" / "mask.nii.gz"


def test_the_first_folder_wins(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scan").write_bytes(b"x")
    assert found_at("scan", [tmp_path / "one", tmp_path / "two"]) == tmp_path / "one" / "scan"


def test_elsewhere_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lies below none of"):
        written_as("/elsewhere/scan.nii.gz", [tmp_path])
    with pytest.raises(FileNotFoundError, match="run the stage before again"):
        found_at("scan.nii.gz", [tmp_path])


def test_size_of_a_series_is_that_of_its_files(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(b"x" * (number + 1))
    assert size_of(tmp_path) == 6
    assert size_of(tmp_path / "2.dcm") == 3
    with pytest.raises(FileNotFoundError):
        size_of(tmp_path / "none.dcm")
