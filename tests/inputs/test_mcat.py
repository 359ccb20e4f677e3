"""Stored predictions: the 50 c-indices their authors stored, and pickles that want more than to be read."""

import io
import pickle
import re

import numpy as np
import pandas as pd
import pytest

from lib.crossfusion.cohort import read_arrays, stored_predictions

COHORT = "tcga_blca_AMILsm_nll_surv_a0.0_5foldcv_gc32_sig_s1"
SIZES = {"blca": (373, 169), "brca": (956, 130), "gbmlgg": (569, 187), "luad": (453, 158), "ucec": (480, 75)}


def one(risk=-2.0, time=24.0, censorship=0.0):
    return {
        "slide_id": np.array("S1"),
        "risk": risk,
        "disc_label": 3,
        "survival": time,
        "censorship": censorship,
    }


def put(folder, content, fold=0, cohort=COHORT):
    path = folder / cohort / f"split_latest_val_{fold}_results.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=3))
    return path


class Calls:
    """A pickle of it calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_numbers_and_texts_are_read(protocol):
    content = {
        "p": {
            "a": np.arange(6.0).reshape(2, 3),
            "b": np.array(["x", "yy"]),
            "c": np.float32(2.5),
            "d": [1, None, True],
        }
    }
    found = read_arrays(pickle.dumps(content, protocol=protocol))["p"]
    np.testing.assert_array_equal(found["a"], content["p"]["a"])
    assert found["b"].tolist() == ["x", "yy"]
    assert (found["c"], found["d"]) == (2.5, [1, None, True])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("where", ["top", "in a patient", "in an array of objects"])
def test_hostile_pickle_is_refused_and_not_run(tmp_path, protocol, where):
    trace = tmp_path / "trace"
    hostile = Calls(exec, f"open({str(trace)!r}, 'w')")
    content = {
        "top": hostile,
        "in a patient": {"TCGA-2F-A9KO": one(risk=hostile)},
        "in an array of objects": {"TCGA-2F-A9KO": one() | {"slide_id": np.array([hostile], dtype=object)}},
    }[where]
    stored = pickle.dumps(content, protocol=protocol)
    put(tmp_path, stored)
    with pytest.raises(ValueError, match=r"refused to unpickle: it (asks for|holds an array of)"):
        stored_predictions(tmp_path)
    assert not trace.exists()
    pickle.loads(stored)
    assert trace.exists(), "the pickle would not have done anything"


@pytest.mark.parametrize(
    "content",
    [
        Calls(eval, "1"),
        Calls(getattr, np.ndarray, "tofile"),
        Calls(np.load, "x.npy"),
        Calls(np.fromfile, "x"),
        np.sum,
        pd.DataFrame({"a": [1]}),
        np.zeros(2, dtype=[("a", float)]),
        np.array([None]),
        {1, 2},
    ],
    ids=lambda content: type(content).__name__,
)
def test_only_plain_arrays_are_admitted(content):
    with pytest.raises(ValueError, match="refused to unpickle"):
        read_arrays(pickle.dumps(content, protocol=3))


def test_name_that_only_resembles_an_admitted_one_is_refused():
    """Protocol 4 may ask for `ndarray.tofile` of numpy: the name as a whole is not on the list."""
    stored = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    with pytest.raises(ValueError, match=r"asks for numpy\.ndarray\.tofile"):
        read_arrays(stored)
    with pytest.raises(ValueError, match=r"asks for shutil\.ndarray"):
        read_arrays(b"\x80\x03cshutil\nndarray\n.")
    persistent = io.BytesIO()
    named = pickle.Pickler(persistent, protocol=2)
    named.persistent_id = lambda value: "x" if value == 7 else None
    named.dump([7])
    with pytest.raises(ValueError, match="refused to unpickle"):
        read_arrays(persistent.getvalue())


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", pickle.dumps({"a": 1})[:-3]], ids=["empty", "text", "cut"]
)
def test_broken_pickle_is_named(tmp_path, content):
    path = put(tmp_path, content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: refused to unpickle"):
        stored_predictions(tmp_path)


def test_rows_are_patients_and_censorship_is_turned_round(tmp_path):
    put(tmp_path, {"TCGA-2F-A9KO": one(censorship=0.0), "TCGA-2F-A9KP": one(-1.5, 3.0, 1.0)})
    put(tmp_path, {"TCGA-2F-A9KR": one()}, fold=1)
    put(tmp_path, {"TCGA-2F-A9KO": one()}, cohort=COHORT.replace("AMILsm", "MCATsm"))
    found = stored_predictions(tmp_path)
    assert list(found) == ["model", "cancer", "fold", "patient", "risk", "time", "event"]
    assert found["model"].tolist() == ["AMIL", "AMIL", "AMIL", "MCAT"]
    assert found["fold"].tolist() == [0, 0, 1, 0]
    assert found["event"].tolist() == [1, 0, 1, 1]
    assert found.loc[1, ["cancer", "patient", "risk", "time"]].tolist() == ["blca", "TCGA-2F-A9KP", -1.5, 3.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no patients by name"),
        ([1, 2], "holds no patients by name"),
        ({"TCGA-2F-A9KO": 3.0}, "patient TCGA-2F-A9KO has no finite risk"),
        ({"TCGA-2F-A9KO": one(risk=float("nan"))}, "patient TCGA-2F-A9KO has no finite risk"),
        ({"TCGA-2F-A9KO": one(risk="-2")}, "patient TCGA-2F-A9KO has no finite risk"),
        ({"TCGA-2F-A9KO": one(censorship=2)}, "survival 24 and censorship 2"),
        ({"TCGA-2F-A9KO": one(time=-1)}, "survival -1 and censorship 0"),
    ],
)
def test_unusable_patients_are_named(tmp_path, content, message):
    put(tmp_path, content)
    with pytest.raises(ValueError, match=message):
        stored_predictions(tmp_path)


def test_patient_in_two_folds_is_refused(tmp_path):
    for fold in (0, 1):
        put(tmp_path, {"TCGA-2F-A9KO": one()}, fold)
    with pytest.raises(ValueError, match="patient TCGA-2F-A9KO of blca has two risks of AMIL"):
        stored_predictions(tmp_path)


def test_strange_names_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no split_latest_val_\*_results\.pkl"):
        stored_predictions(tmp_path)
    put(tmp_path, {"TCGA-2F-A9KO": one()}, cohort="leeds_blca")
    with pytest.raises(ValueError, match="not named as MCAT names its results"):
        stored_predictions(tmp_path)


def test_fifty_stored_c_indices(mirror):
    concordance = pytest.importorskip("lib.statistics.concordance")
    folder = mirror / "mcat"
    found = stored_predictions(folder)
    sizes = found.groupby(["model", "cancer"])["event"].agg(["size", "sum"])
    assert {key: tuple(row) for key, row in zip(sizes.index, sizes.to_numpy(), strict=True)} == {
        (model, cancer): size for model in ("AMIL", "MCAT") for cancer, size in SIZES.items()
    }
    compared = 0
    for summary in folder.rglob("summary_latest.csv"):
        model, cancer = (
            ("AMIL" if "AMILsm" in summary.parent.name else "MCAT"),
            summary.parent.name.split("_")[1],
        )
        mine = found[(found["model"] == model) & (found["cancer"] == cancer)]
        for fold, stored in pd.read_csv(summary)[["folds", "val_cindex"]].itertuples(index=False):
            rows = mine[mine["fold"] == fold]
            value = concordance.harrell(rows["time"], rows["event"], rows["risk"])
            assert value == pytest.approx(stored, abs=1e-6), (model, cancer, fold)
            compared += 1
    assert compared == 50
