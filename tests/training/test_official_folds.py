"""Published folds: what they must hold, what does not fit the outcomes, and the real files."""

import pytest

from lib.crossfusion.cohort import Coverage, of_patients, read_folds, with_outcomes
from lib.inputs.tcga import by_patient, patient_of, read_outcomes
from lib.training.folds import Fold

# train and val of each fold, as printed in the study's notes
SIZES = {
    "blca": [(298, 75)] * 3 + [(299, 74)] * 2,
    "brca": [(764, 192)] + [(765, 191)] * 4,
    "coad": [(338, 84), (338, 83), (338, 85), (338, 83), (344, 77)],
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
        ([(["a", "b"], ["b"])], "splits_0.csv: patient b is in training and in test"),
        (
            [(["TCGA-05-4249-01Z-00-DX1"], ["TCGA-05-4249-01Z-00-DX2"])],
            "patient TCGA-05-4249 is in training and in test",
        ),
        ([(["a", "a"], ["b"])], "column train has a twice"),
        ([(["a"], [])], "column val is empty"),
        ([(["a"], ["b"]), (["c"], ["b"])], "b tested in more than one fold"),
    ],
)
def test_folds_that_cannot_be_right_are_refused(tmp_path, folds, message):
    with pytest.raises(ValueError, match=message):
        read_folds(put(tmp_path, *folds))


def test_missing_files_and_columns_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has the folds none"):
        read_folds(tmp_path)
    put(tmp_path, (["a"], ["b"]), (["b"], ["a"]), (["a"], ["c"]))
    (tmp_path / "splits_1.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"has the folds \[0, 2\]: .* without a gap"):
        read_folds(tmp_path)
    (tmp_path / "splits_1.csv").write_text(",train,test\n0,a,b\n")
    with pytest.raises(ValueError, match="has no column val"):
        read_folds(tmp_path)


def test_everything_that_does_not_fit_is_said():
    folds = [Fold("0", ("a", "b", "x"), ("c",)), Fold("1", ("a", "c"), ("b", "y"))]
    kept, coverage = with_outcomes(folds, ["a", "b", "c", "d"])
    assert kept == [Fold("0", ("a", "b"), ("c",)), Fold("1", ("a", "c"), ("b",))]
    assert coverage == Coverage(("x", "y"), ("d",), ("a",), {})
    assert coverage.lines() == [
        "2 named by the folds have no outcome and are left out: x, y",
        "1 with an outcome are in no fold: d",
        "1 train and are never tested: a",
    ]
    _, coverage = with_outcomes([Fold("0", ("a",), ("c",)), Fold("1", ("a", "b"), ("d",))], "abcd")
    assert coverage.absent == {"0": ("b", "d"), "1": ("c",)}
    assert "2 are in neither part of fold 0: b, d" in coverage.lines()


def test_what_fits_leaves_nothing_to_say():
    folds = [Fold("0", ("a",), ("b",)), Fold("1", ("b",), ("a",))]
    kept, coverage = with_outcomes(folds, ["b", "a"])
    assert (kept, coverage.lines()) == (folds, [])


def test_fold_without_any_outcome_is_refused():
    with pytest.raises(ValueError, match=r"fold 0 has no outcome for any id it tests .*belong together"):
        with_outcomes([Fold("0", ("a",), ("b",))], ["a"])
    with pytest.raises(ValueError, match="fold 0 has no outcome for any id it trains on"):
        with_outcomes([Fold("0", ("a",), ("b",))], ["b"])


@pytest.mark.parametrize("cancer", SIZES)
def test_sizes_of_the_real_folds(cancer, mirror):
    folds = read_folds(mirror / "tcga/crossfusion/data/splits" / f"tcga_{cancer}")
    assert [(len(fold.train), len(fold.test)) for fold in folds] == SIZES[cancer]


@pytest.mark.parametrize("cancer", [name for name in SIZES if name != "coad"])
def test_real_folds_test_every_patient_once(cancer, mirror):
    """All patients of the survival tables but one: TCGA-DY-A1DF of coadread is in no fold."""
    cases = by_patient(read_outcomes(mirror / "tcga/survival" / f"tcga_{cancer}_survival.csv"))
    folds = read_folds(mirror / "tcga/crossfusion/data/splits" / f"tcga_{cancer}")
    kept, coverage = with_outcomes(folds, cases["patient"])
    assert kept == folds
    left = ("TCGA-DY-A1DF",) if cancer == "coadread" else ()
    assert coverage == Coverage((), left, (), {})
    assert len([one for fold in folds for one in fold.test]) == len(cases) - len(left)


def test_nine_patients_of_luad_are_reported_with_crossfusions_own_table(mirror):
    cases = by_patient(read_outcomes(mirror / "tcga/crossfusion/data/tcga_luad_all_clean.csv.zip"))
    folds = read_folds(mirror / "tcga/crossfusion/data/splits/tcga_luad")
    kept, coverage = with_outcomes(folds, cases["patient"])
    assert len(coverage.without_outcome) == 9
    assert coverage.lines()[0].startswith("9 named by the folds have no outcome and are left out: TCGA-")
    assert sum(len(fold.test) for fold in kept) == 444


def test_coads_multi_slide_patients_are_never_tested(mirror):
    slides = read_outcomes(mirror / "tcga/crossfusion/data/tcga_coad_all_clean.csv")
    folds = read_folds(mirror / "tcga/crossfusion/data/splits/tcga_coad")
    kept, coverage = with_outcomes(folds, slides["slide"])
    assert kept == folds
    assert coverage.without_outcome == coverage.without_fold == ()
    assert len(coverage.never_tested) == 12
    patients = {patient_of(slide)[5:] for slide in coverage.never_tested}
    assert patients == {"3L-AA1B", "4N-A93T", "A6-A5ZU", "NH-A6GC", "QG-A5Z1", "QG-A5Z2", "T9-A92H"}
    assert {name: len(ids) for name, ids in coverage.absent.items()} == {
        "0": 2,
        "1": 3,
        "2": 1,
        "3": 3,
        "4": 3,
    }


GOLDEN = {"gbmlgg": 0.770, "brca": 0.636, "blca": 0.614, "coadread": 0.605, "ucec": 0.571, "luad": 0.535}


@pytest.mark.parametrize("cancer", GOLDEN)
def test_age_alone_on_the_official_folds(cancer, mirror):
    """Mean c-index of the five tested parts; patients without an age are left out (LUAD 10, UCEC 2)."""
    concordance = pytest.importorskip("lib.statistics.concordance")
    cases = by_patient(read_outcomes(mirror / "tcga/survival" / f"tcga_{cancer}_survival.csv"))
    folds = read_folds(mirror / "tcga/crossfusion/data/splits" / f"tcga_{cancer}")
    known = cases[cases["age"].notna()].set_index("patient")
    kept, coverage = with_outcomes(folds, known.index)
    assert len(coverage.without_outcome) == {"luad": 10, "ucec": 2}.get(cancer, 0)
    values = [
        concordance.harrell(rows["time_months"], rows["event"], rows["age"])
        for rows in (known.loc[list(fold.test)] for fold in kept)
    ]
    assert sum(values) / 5 == pytest.approx(GOLDEN[cancer], abs=0.0005)


def test_folds_of_slides_become_folds_of_their_patients():
    slide = "TCGA-A6-2683-01Z-00-DX{}.0dfc5d0a"
    fold = Fold("0", ("TCGA-AA-3821", slide.format(1), slide.format(2)), ("TCGA-AA-3955-01Z-00-DX1.e0ee",))
    assert of_patients([fold]) == [Fold("0", ("TCGA-AA-3821", "TCGA-A6-2683"), ("TCGA-AA-3955",))]
    again = Fold("1", ("TCGA-AA-3821",), ("TCGA-AA-3955-01Z-00-DX2.ffff",))
    with pytest.raises(ValueError, match="TCGA-AA-3955 have slides that are tested in more than one fold"):
        of_patients([fold, again])


def test_coad_by_patient(mirror):
    root = mirror / "tcga/crossfusion/data"
    cases = by_patient(read_outcomes(root / "tcga_coad_all_clean.csv"))
    folds, coverage = with_outcomes(of_patients(read_folds(root / "splits/tcga_coad")), cases["patient"])
    assert len(cases) == 416
    assert sum(len(fold.test) for fold in folds) == 412
    assert sorted(coverage.never_tested) == ["TCGA-3L-AA1B", "TCGA-4N-A93T", "TCGA-QG-A5Z2", "TCGA-T9-A92H"]
