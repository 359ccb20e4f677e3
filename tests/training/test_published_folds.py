"""Published folds against outcomes: shape, misfits, the real files of TCGA."""

import numpy as np
import pandas as pd
import pytest

from lib.inputs.tcga import by_patient, read_outcomes
from lib.statistics.concordance import harrell
from lib.training.folds import Fold, folds_of
from lib.training.published_folds import of_patients, read_folds, with_folds, with_outcomes

# train and val of each fold, as printed in the study's notes
SIZES = {
    "blca": [(298, 75)] * 3 + [(299, 74)] * 2,
    "brca": [(764, 192)] + [(765, 191)] * 4,
    "coadread": [(271, 68)] * 4 + [(272, 67)],
    "gbmlgg": [(455, 114)] * 4 + [(456, 113)],
    "luad": [(362, 91)] * 3 + [(363, 90)] * 2,
    "ucec": [(384, 96)] * 5,
}


def put(folder, *folds):
    folder.mkdir(exist_ok=True)
    for number, (train, val) in enumerate(folds):
        rows = max(len(train), len(val))
        columns = [[*part, *[""] * (rows - len(part))] for part in (train, val)]
        lines = [f"{row},{a},{b}" for row, (a, b) in enumerate(zip(*columns, strict=True))]
        (folder / f"splits_{number}.csv").write_text("\n".join([",train,val", *lines]) + "\n")
    return folder


def test_parts_keep_their_order_and_lose_the_padding(tmp_path):
    folder = put(tmp_path, (["c", "a"], ["b"]), (["b"], ["a", "c"]))
    assert read_folds(folder) == [Fold("0", ("c", "a"), ("b",)), Fold("1", ("b",), ("a", "c"))]


def test_folds_come_in_the_order_of_their_numbers(tmp_path):
    put(tmp_path, *((["x"], [f"p{number}"]) for number in range(11)))
    assert [fold.test[0] for fold in read_folds(tmp_path)] == [f"p{number}" for number in range(11)]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([(["a", "b"], ["b"])], "patient b is in training and in test"),
        (
            [(["TCGA-05-4249-01Z-00-DX1"], ["TCGA-05-4249-01Z-00-DX2"])],
            "patient TCGA-05-4249 is in training and in test",
        ),
        ([(["a"], ["b"]), (["c"], ["b"])], "b tested more than once"),
        ([(["a"], ["b", "b"])], "b tested more than once"),
    ],
)
def test_folds_that_cannot_be_right_are_refused(tmp_path, folds, message):
    with pytest.raises(ValueError, match=message):
        read_folds(put(tmp_path, *folds))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"splits_0\.csv"):
        read_folds(tmp_path)
    put(tmp_path, (["a"], ["b"]), (["b"], ["a"]), (["a"], ["c"]))
    (tmp_path / "splits_1.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"splits_1\.csv"):
        read_folds(tmp_path)


def test_everything_that_does_not_fit_is_said():
    folds = [Fold("0", ("a", "b", "x"), ("c",)), Fold("1", ("a", "c"), ("b", "y"))]
    kept, remarks = with_outcomes(folds, ["a", "b", "c", "d"])
    assert kept == [Fold("0", ("a", "b"), ("c",)), Fold("1", ("a", "c"), ("b",))]
    assert remarks == [
        "2 named by the folds have no outcome and are left out: x, y",
        "1 with an outcome are in no fold: d",
        "1 train and are never tested: a",
    ]
    _, remarks = with_outcomes([Fold("0", ("a",), ("c",)), Fold("1", ("a", "b"), ("d",))], "abcd")
    assert remarks[-2:] == ["2 are in neither part of fold 0: b, d", "1 are in neither part of fold 1: c"]
    folds = [Fold("0", ("a",), ("b",)), Fold("1", ("b",), ("a",))]
    assert with_outcomes(folds, ["b", "a"]) == (folds, [])


@pytest.mark.parametrize("known", [["a"], ["b"]])
def test_fold_without_any_outcome_is_refused(known):
    with pytest.raises(ValueError, match="fold 0 has no outcome for any id"):
        with_outcomes([Fold("0", ("a",), ("b",))], known)


AGE = {"gbmlgg": 0.770, "brca": 0.636, "blca": 0.614, "coadread": 0.605, "ucec": 0.571, "luad": 0.535}


@pytest.mark.parametrize("cancer", AGE)
def test_real_folds_test_every_patient_once_and_age_alone_has_its_c_index(cancer, mirror):
    """All patients of the tables but TCGA-DY-A1DF of coadread; ages are missing for 10 of LUAD and 2 of UCEC."""
    cases = by_patient(read_outcomes(mirror / "tcga/survival" / f"tcga_{cancer}_survival.csv"))
    cases = cases.set_index("patient")
    folds = read_folds(mirror / "tcga/crossfusion/data/splits" / f"tcga_{cancer}")
    assert [(len(fold.train), len(fold.test)) for fold in folds] == SIZES[cancer]
    kept, remarks = with_outcomes(folds, cases.index)
    assert kept == folds
    left = ["TCGA-DY-A1DF"] if cancer == "coadread" else []
    assert remarks == [f"1 with an outcome are in no fold: {name}" for name in left]
    assert sum(len(one.test) for one in folds) == len(cases) - len(left)
    parts = (cases.loc[[*fold.test]].dropna(subset="age") for fold in kept)
    values = [harrell(rows["time_months"], rows["event"], rows["age"]) for rows in parts]
    assert np.mean(values) == pytest.approx(AGE[cancer], abs=0.0005)


def test_folds_of_slides_become_folds_of_their_patients():
    slide = "TCGA-A6-2683-01Z-00-DX{}.0dfc5d0a"
    fold = Fold("0", ("TCGA-AA-3821", slide.format(1), slide.format(2)), ("TCGA-AA-3955-01Z-00-DX1.e0ee",))
    assert of_patients([fold]) == [Fold("0", ("TCGA-AA-3821", "TCGA-A6-2683"), ("TCGA-AA-3955",))]
    again = Fold("1", ("TCGA-AA-3821",), ("TCGA-AA-3955-01Z-00-DX2.ffff",))
    with pytest.raises(ValueError, match="TCGA-AA-3955 tested more than once"):
        of_patients([fold, again])


def test_who_is_never_tested_trains_where_the_folds_say_so():
    """Two folds of 13 patients: p12 trains in both and is held out in none; p13 trains in fold 1 alone; p0 is not in fold 1."""
    ids = [f"p{i}" for i in range(14)]
    folds = [Fold("0", tuple(ids[6:13]), tuple(ids[:6])), Fold("1", (*ids[1:6], *ids[12:]), tuple(ids[6:12]))]
    cohort = pd.DataFrame({"patient": [*ids, "p14"]}).set_index("patient", drop=False)
    kept, _ = with_outcomes(folds, cohort.index)
    table = with_folds(cohort, kept)
    assert list(table.index) == ids
    assert table["fold"].isna().sum() == 2
    assert dict(table["unused_in"][table["unused_in"] != ""]) == {"p0": "1", "p13": "0"}
    for one, fold in zip(folds_of(table), folds, strict=True):
        assert (one.name, set(one.train), set(one.test)) == (fold.name, set(fold.train), set(fold.test))
    whole = with_folds(
        cohort, [Fold("0", tuple(ids[:7]), tuple(ids[7:])), Fold("1", tuple(ids[7:]), tuple(ids[:7]))]
    )
    assert "unused_in" not in whole


def test_coad_by_patient(mirror):
    root = mirror / "tcga/crossfusion/data"
    cases = by_patient(read_outcomes(root / "tcga_coad_all_clean.csv"))
    folds, remarks = with_outcomes(of_patients(read_folds(root / "splits/tcga_coad")), cases["patient"])
    assert len(cases) == 416
    assert sum(len(fold.test) for fold in folds) == 412
    never = {"TCGA-3L-AA1B", "TCGA-4N-A93T", "TCGA-QG-A5Z2", "TCGA-T9-A92H"}
    (said,) = [remark for remark in remarks if "never tested" in remark]
    assert set(said.partition(": ")[2].split(", ")) == never
    for fold in folds_of(with_folds(cases.set_index("patient", drop=False), folds)):
        assert never <= set(fold.train)
        assert len(fold.train) + len(fold.test) == 416
