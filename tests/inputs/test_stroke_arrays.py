"""The reference's own input: arrays of a patient in either layout, its csv; partitions are tested beside it."""

import pickle

import numpy as np
import pytest

from lib.inputs.clinical import POSTPROCEDURAL, Scaler, arrays
from lib.stroke.arrays import MAPPING, array_paths, read_array, read_clinical
from lib.stroke.cohort import read_partition

CSV = """PATIENT_ID,Age,Onset2CTP,CTP2Recanalization,NIHSS00,Sex,Hypertension,Smoking,Atrial_Fibrillation,mTICI,mRs90_binary
001,71,120,60.5,12,0,1,0,1,2,1
p 2,82,nan,,3,1,0,1,0,0,0
p3,64,300,90,18,1,1,,0,1,
"""


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


def test_time_comes_first(tmp_path):
    path = put(tmp_path / "p1" / "preprocessed.npz", img=image(), other=np.array([1]))
    found = read_array(path, shape=(4, 5, 3), frames=6)
    assert (found.shape, found.dtype) == ((6, 4, 5, 3), np.float32)
    for t, h, w, z in [(0, 0, 0, 0), (5, 3, 4, 2), (2, 1, 4, 0)]:
        assert found[t, h, w, z] == image()[h, w, z, t]
    assert found.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("dtype", ["float64", "float16", "int16", "uint8", ">f4"])
def test_any_number_becomes_float32(tmp_path, dtype):
    values = (image() % 200).astype(dtype)
    found = read_array(put(tmp_path / "p.npz", img=values))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.moveaxis(values, 3, 0).astype(np.float32))


def test_both_layouts_are_found(tmp_path):
    one = put(tmp_path / "001" / "preprocessed.npz", img=image())
    two = put(tmp_path / "p 2_preprocessed.npz", img=image())
    assert array_paths(tmp_path, ["p 2", "001"]) == {"p 2": two, "001": one}


def test_missing_files_of_listed_patients_are_named(tmp_path):
    put(tmp_path / "a_preprocessed.npz", img=image())
    with pytest.raises(FileNotFoundError, match=r"no preprocessed\.npz of 2 of 3 listed patients: b, c"):
        array_paths(tmp_path, ["a", "b", "c"])
    with pytest.raises(FileNotFoundError, match=r"of 9 of 9 listed patients: 0, 1, 2, 3, 4, \.\.\."):
        array_paths(tmp_path, range(9))
    with pytest.raises(FileNotFoundError, match="is no folder"):
        array_paths(tmp_path / "x", ["a"])
    put(tmp_path / "a" / "preprocessed.npz", img=image())
    with pytest.raises(ValueError, match=r"patient a has .* and .*: remove one"):
        array_paths(tmp_path, ["a"])


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"image": image()}, "has no array img; nearest: image"),
        ({"img": image()[..., 0]}, r"img is float32 \(4, 5, 3\); numbers \(height, width, slices, frames\)"),
        ({"img": image()[..., :0]}, "are expected"),
        ({"img": image().astype(complex)}, "img is complex128"),
        ({"img": image().astype(str)}, "img is <U"),
        ({"img": np.full((2, 2, 2, 2), None)}, "is no npz of plain numbers"),
        ({"img": np.where(image() == 7, np.nan, image())}, "1 values of img are no finite"),
        ({"img": image().astype(float) * 1e300}, "are no finite float32 numbers"),
    ],
)
def test_unusable_arrays_are_named(tmp_path, stored, message):
    with pytest.raises(ValueError, match=message) as raised:
        read_array(put(tmp_path / "p.npz", **stored))
    assert "p.npz" in str(raised.value)


def test_shape_and_frames_must_be_those_expected(tmp_path):
    path = put(tmp_path / "p.npz", img=image())
    with pytest.raises(
        ValueError, match=r"img is \(4, 5, 3\) voxels a frame, and \(512, 512, 16\) are expected"
    ):
        read_array(path, shape=(512, 512, 16))
    with pytest.raises(ValueError, match="img has 6 frames, and 32 are expected"):
        read_array(path, frames=32)


class Calls:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_pickle_within_an_npz_is_not_run(tmp_path):
    trace = tmp_path / "trace"
    hostile = np.array([Calls(exec, f"open({str(trace)!r}, 'w')")] * 16, dtype=object).reshape(2, 2, 2, 2)
    path = put(tmp_path / "p.npz", img=hostile)
    with pytest.raises(ValueError, match="is no npz of plain numbers"):
        read_array(path)
    pickled = tmp_path / "q.npz"
    pickled.write_bytes(pickle.dumps(hostile))
    with pytest.raises(ValueError, match="is no npz of plain numbers"):
        read_array(pickled)
    assert not trace.exists()
    np.load(path, allow_pickle=True)["img"]
    assert trace.exists(), "the pickle would not have done anything"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text"], ids=["empty", "cut", "text"])
def test_broken_npz_is_named(tmp_path, content):
    path = tmp_path / "p.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"p\.npz is no npz"):
        read_array(path)
    path.write_bytes(put(tmp_path / "whole.npz", img=image()).read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"p\.npz is no npz"):
        read_array(path)
    np.save(tmp_path / "plain.npy", image())
    with pytest.raises(ValueError, match=r"plain\.npy is no npz"):
        read_array(tmp_path / "plain.npy")
    with pytest.raises(FileNotFoundError, match=r"gone\.npz is not there"):
        read_array(tmp_path / "gone.npz")


def test_csv_by_hand(tmp_path):
    found = read_clinical(written(tmp_path))
    nan = np.nan
    assert found["patient"].tolist() == ["001", "p 2", "p3"]
    np.testing.assert_array_equal(
        found[[*POSTPROCEDURAL, "outcome"]],
        [
            [71, 120, 60.5, 12, 0, 1, 0, 1, 2, 1],
            [82, nan, nan, 3, 1, 0, 1, 0, 0, 0],
            [64, 300, 90, 18, 1, 1, nan, 0, 1, nan],
        ],
    )
    assert found["raw:Onset2CTP"].tolist() == ["120", "nan", "300"]
    assert "raw:PATIENT_ID" not in found
    ready = arrays(found, Scaler.fit(found), POSTPROCEDURAL)
    assert np.argwhere(ready.missing).tolist() == [[1, 1], [1, 2], [2, 6]]


def test_polarity_is_declared(tmp_path):
    one, other = (read_clinical(written(tmp_path), unfavourable=code)["outcome"] for code in (1, 0))
    np.testing.assert_array_equal(one, 1 - other)
    with pytest.raises(ValueError, match="unfavourable is 2: choose 0 or 1"):
        read_clinical(written(tmp_path), unfavourable=2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("PATIENT_ID", "PATIENTID", "has no column PATIENT_ID; nearest: PATIENTID"),
        ("mRs90_binary", "mRS90", "has no column mRs90_binary; nearest: mRS90"),
        ("NIHSS00", "NIHSS", "nihss: no table has a column 'NIHSS00'; nearest: NIHSS"),
        ("p3,", "001,", "patient 001 stands twice"),
        ("p3,", "nan,", "1 of 3 rows have no PATIENT_ID"),
        (",1,2,1\n", ",1,3,1\n", "mTICI of patient 001: '3' is no category it has"),
        (",1,2,1\n", ",1,2,2\n", "mRs90_binary of patient 001 is 2, not 0 or 1"),
        ("001,71", "001,seventy", "Age of patient 001: 'seventy' is no number"),
        ("001,71", "001,710", "patient 001: age is 710, not between 0 and 120"),
        (",12,0,", ",12,F,", "Sex of patient 001: 'F' is no category it has"),
    ],
)
def test_unusable_csv_is_named(tmp_path, old, new, message):
    assert old in CSV
    with pytest.raises(ValueError, match=message) as raised:
        read_clinical(written(tmp_path, CSV.replace(old, new)))
    assert "manifest.csv" in str(raised.value)


def test_text_of_categories_and_other_columns_by_declaration(tmp_path):
    text = CSV.replace(",12,0,", ",12,F,").replace("Smoking", "Diabetes")
    found = read_clinical(
        written(tmp_path, text),
        mapping=MAPPING | {"smoking": "diabetes"},
        levels={"sex": {"F": 0, "1": 1}},
    )
    assert found["sex"].tolist() == [0, 1, 1]
    assert found["smoking"].tolist()[:2] == [0, 1]


def test_whole_input_fits_together(tmp_path):
    clinical = read_clinical(written(tmp_path))
    for patient in clinical["patient"]:
        put(tmp_path / patient / "preprocessed.npz", img=image())
    (tmp_path / "d.pickle").write_bytes(
        pickle.dumps({"training": {"001"}, "testing": np.array(["p 2", "p3"], dtype=object)})
    )
    parts = read_partition(tmp_path / "d.pickle", clinical["patient"])
    merged = clinical.merge(parts, on="patient", validate="1:1")
    assert merged["part"].tolist() == ["train", "test", "test"]
    paths = array_paths(tmp_path, merged["patient"])
    assert {read_array(path).shape for path in paths.values()} == {(6, 4, 5, 3)}
