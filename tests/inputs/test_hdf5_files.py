import h5py
import numpy as np
import pytest

from lib import files as hdf5_files
from lib.files import opened


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/b"] = np.arange(5)
    return tmp_path / "a.h5"


def read(path):
    with opened(path, "a thing", "make it again") as file:
        return file["a/b"][()]


def test_a_sound_file_is_read(path):
    np.testing.assert_array_equal(read(path), np.arange(5))


def test_what_a_reader_says_of_the_file_is_kept_and_what_h5py_says_is_a_sentence(path):
    with pytest.raises(ValueError, match=r"^a\.h5 has no spots$"), opened(path, "a thing", "again"):
        raise ValueError("a.h5 has no spots")
    for fault in (KeyError("no object"), TypeError("no such type"), ValueError("no name")):
        with (
            pytest.raises(ValueError, match=r"a\.h5 is not a thing, or is damaged \(no .*\): again$"),
            opened(path, "a thing", "again"),
        ):
            raise fault
    with pytest.raises(FileNotFoundError, match=r"none\.h5 is not there: make it again"):
        read(path.with_name("none.h5"))


def test_numbers_that_are_all_alike_are_refused_where_they_are_many(path, monkeypatch):
    monkeypatch.setattr(hdf5_files, "SMALL", 1 << 20)
    for number, shrunk in (((1 << 17), False), ((1 << 17) + 1, True)):
        with h5py.File(path, "w") as file:
            file.create_dataset("a/b", data=np.zeros(number), chunks=(1 << 16,), compression="gzip")
        if shrunk:
            with pytest.raises(
                ValueError, match=r"b claims \d+ values, and the file has [\d,]+ bytes of them"
            ):
                read(path)
        else:
            assert len(read(path)) == number
