"""The reference's own input: arrays of a patient in either layout, its csv, its partition as YAML or pickle."""

import pickle

import numpy as np
import pytest

from lib.stroke.clinical import POSTPROCEDURAL, REFERENCE, read_reference_table
from lib.stroke.raw import array_paths, read_array, read_partition

CSV = """PATIENT_ID,Age,Onset2CTP,CTP2Recanalization,NIHSS00,Sex,Hypertension,Smoking,Atrial_Fibrillation,mTICI,mRs90_binary
001,71,120,60.5,12,0,1,0,1,2,1
p 2,82,nan,,3,1,0,1,0,0,0
p3,64,300,90,18,1,1,,0,1,
"""
PARTS = {"train": ["p1", "p2", "p3"], "val": ["p4"], "test": ["p5", "p6"]}
NAMES = ["p1", "p2", "p3", "p4", "p5", "p6"]
ROWS = dict(zip(NAMES, ["train", "train", "train", "val", "test", "test"], strict=True))


def image(h=4, w=5, z=3, t=6):
    return np.arange(h * w * z * t, dtype=np.float32).reshape(h, w, z, t)


def put(path, **stored):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **stored)
    return path


def written(tmp_path, text=CSV):
    path = tmp_path / "manifest.csv"
    path.write_text(text)
    return path


# arrays


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", ">f4"])
def test_time_comes_first_and_numbers_become_float32(tmp_path, dtype):
    path = put(tmp_path / "p1" / "preprocessed.npz", img=image().astype(dtype), other=np.array([1]))
    found = read_array(path, shape=(4, 5, 3), frames=6)
    assert (found.shape, found.dtype) == ((6, 4, 5, 3), np.float32)
    for t, h, w, z in [(0, 0, 0, 0), (5, 3, 4, 2), (2, 1, 4, 0)]:
        assert found[t, h, w, z] == image()[h, w, z, t]
    assert found.flags["C_CONTIGUOUS"]


def test_both_layouts_are_found_and_missing_or_doubled_files_named(tmp_path):
    one = put(tmp_path / "001" / "preprocessed.npz", img=image())
    two = put(tmp_path / "p 2_preprocessed.npz", img=image())
    assert array_paths(tmp_path, ["p 2", "001"]) == {"p 2": two, "001": one}
    with pytest.raises(FileNotFoundError, match=r"no preprocessed\.npz of 2 of 3 listed patients: b, c"):
        array_paths(tmp_path, ["001", "b", "c"])
    put(tmp_path / "001_preprocessed.npz", img=image())
    with pytest.raises(ValueError, match=r"are of one patient: remove one"):
        array_paths(tmp_path, ["001"])


class Calls:
    """A pickle of it calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"image": image()}, "with an array img"),
        ({"img": image()[..., 0]}, r"img is float32 \(4, 5, 3\); numbers \(4, 5, 3, 6\) \(height"),
        ({"img": image().astype(complex)}, "img is complex128"),
        (
            {"img": np.full((2, 2, 2, 2), Calls(exec, "raise SystemExit"))},
            "with an array img of plain numbers",
        ),
        ({"img": np.moveaxis(image(), 3, 0)}, r"img is float32 \(6, 4, 5, 3\); numbers \(4, 5, 3, 6\)"),
    ],
)
def test_unusable_arrays_are_named(tmp_path, stored, message):
    with pytest.raises(ValueError, match=message) as raised:
        read_array(put(tmp_path / "p.npz", **stored), (4, 5, 3), 6)
    assert "p.npz" in str(raised.value)


def test_broken_npz_is_named(tmp_path):
    whole = put(tmp_path / "whole.npz", img=image()).read_bytes()
    for content in (b"", b"text", whole[:-30]):
        (tmp_path / "p.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"p\.npz is no npz"):
            read_array(tmp_path / "p.npz", (4, 5, 3), 6)


# the csv


def test_csv_by_hand(tmp_path):
    found, nan = read_reference_table(written(tmp_path)), np.nan
    assert found.index.tolist() == ["001", "p 2", "p3"]
    expected = [
        [71, 120, 60.5, 12, 0, 1, 0, 1, 2, 1],
        [82, nan, nan, 3, 1, 0, 1, 0, 0, 0],
        [64, 300, 90, 18, 1, 1, nan, 0, 1, nan],
    ]
    np.testing.assert_array_equal(found[[*POSTPROCEDURAL, "label"]], expected)
    found = read_reference_table(
        written(tmp_path, CSV.replace("Smoking", "Diabetes")), REFERENCE | {"smoking": "diabetes"}
    )
    assert found["smoking"].tolist()[:2] == [0, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mRs90_binary", "mRS90", "has no column mRs90_binary; nearest: mRS90"),
        ("NIHSS00", "NIHSS", "nihss: no table has a column 'NIHSS00'; nearest: NIHSS"),
        ("p3,", "001,", "patient 001 stands twice"),
        ("p3,", "nan,", "row 4 names no patient"),
        (",1,2,1\n", ",1,3,1\n", "mTICI of patient 001: '3' is no category it has"),
        (",1,2,1\n", ",1,2,2\n", "mRs90_binary of patient 001: '2' is no category"),
        ("001,71", "001,710", "age of patient 001 is 710, 0 to 120 years are expected"),
        (",12,0,", ",12,F,", "Sex of patient 001: 'F' is no category it has"),
    ],
)
def test_unusable_csv_is_named(tmp_path, old, new, message):
    assert old in CSV
    with pytest.raises(ValueError, match=message) as raised:
        read_reference_table(written(tmp_path, CSV.replace(old, new)))
    assert "manifest.csv" in str(raised.value)


# the partition

YAML = "train: [p1, p2, p3]\nval:\n- p4\ntest: [p5, p6]\n"


def rows(path, patients=NAMES):
    return read_partition(path, patients)


def pickled(folder, content, protocol=4):
    path = folder / "partition.pickle"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return path


def test_partition_in_yaml(tmp_path):
    other = YAML.replace("train", "Training").replace("val", "validation").replace("test", "TESTING")
    for name, text in (("p.yaml", YAML), ("p.yml", other)):
        (tmp_path / name).write_text(text)
        assert rows(tmp_path / name) == ROWS
    # names stay as they are written, and who is in no part has none
    (tmp_path / "p.yaml").write_text("train: [0012, 0x1F, yes, 1e3, null]\ntest: [13]\n")
    known = ["0012", "0x1F", "yes", "1e3", "null", "13", "14"]
    assert list(rows(tmp_path / "p.yaml", known)) == known[:-1]


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, np.array])
def test_pickle_of_whatever_holds_names(tmp_path, protocol, kind):
    assert rows(pickled(tmp_path, {part: kind(names) for part, names in PARTS.items()}, protocol)) == ROWS
    parts = {"training": np.array([3, 101], ">i8"), "testing": {np.int64(12)}}
    found = rows(pickled(tmp_path, parts, protocol), ["3", "12", "101"])
    assert found == {"3": "train", "101": "train", "12": "test"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.yaml", "train: [p1, p2]\ntest: [p2]\n", "patient p2 is in train and in test"),
        ("p.yaml", "train: [p1]\nval: [p2]\ntest: [p2]\n", "p2 is in val and in test.*leave val out"),
        ("p.yaml", "train: [p1, p1]\ntest: [p2]\n", "patient p1 is in train and in train"),
        ("p.yaml", "train: [12]\ntest: ['12']\n", "patient 12 is in train and in test"),
        ("p.yaml", "train: [p1]\ntests: [p2]\n", "'tests' is no part; nearest: test"),
        ("p.yaml", "train: [p1]\n", "has no patients to test"),
        ("p.yaml", "train: p1\ntest: [p2]\n", "with a list each are expected"),
        ("p.yaml", "train: ['']\ntest: [p2]\n", "patient  of train is not among"),
        (
            "p.yaml",
            YAML.replace("p6", "p7"),
            "patient p7 of test is not among the 7 patients known; nearest: p6",
        ),
        ("p.pickle", "no pickle", "refused to unpickle"),
    ],
)
def test_what_is_no_partition_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        rows(tmp_path / name, [*NAMES, "12"])
