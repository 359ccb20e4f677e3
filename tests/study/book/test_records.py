"""What was run here, as the generated parts see it."""

import pytest


def test_cohorts_stand_demo_and_null_first(cancer):
    records = cancer.records()
    assert [name for _, name in records.cohorts] == ["demo", "null", "blca"]
    assert [cohort.kind for cohort in records.of("crossfusion")] == ["phantom", "phantom", "open"]
    assert list(records.of("stroke")) == []


def test_a_folder_without_parameters_or_metrics_is_no_cohort(phantoms):
    phantoms.write("results/crossfusion/trial/manifests/1-preprocess.json", "{}")
    phantoms.write("results/stroke/demo/manifests/1-preprocess.json", "{}")
    phantoms.write("params/stroke/demo.yaml", "kind: phantom\n")
    records = phantoms.records()
    assert list(records.cohorts) == [("crossfusion", "demo"), ("crossfusion", "null")]
    assert ("stroke", "demo") in records.run
    assert ("crossfusion", "trial") not in records.run


def test_links_go_to_pages_of_the_book_only(cancer):
    records = cancer.records()
    there = records.chapter("crossfusion", "blca", "figures")
    assert records.link("book/a.qmd", "it", there) == "[it](../notebooks/crossfusion/blca/5-figures.ipynb)"
    assert records.chapter("crossfusion", "null", "figures") is None
    assert records.link("index.qmd", "it", None) == "it"
    assert records.link("index.qmd", "it", "notebooks/stroke/index.qmd") == "it"


def test_a_metric_without_rows_is_refused(phantoms):
    phantoms.cohort("spacrd", "demo", [("spacrd", "both", "ap", 0.9, 0.8, 1.0)])
    with pytest.raises(ValueError, match=r"results/spacrd/demo/metrics\.csv has no row of auc"):
        phantoms.records().cohorts["spacrd", "demo"].main()


def test_an_empty_table_is_none(phantoms):
    cohort = phantoms.records().cohorts["crossfusion", "demo"]
    phantoms.write("results/crossfusion/demo/tables/habits.csv", "\n")
    assert cohort.table("tables/habits.csv") is None
    assert cohort.table("tables/nowhere.csv") is None


def test_an_unknown_key_of_a_study_is_refused(bare):
    bare.write("book/studies.yaml", "spacrd: {name: SpaCRD, metrics: auc}\n")
    with pytest.raises(ValueError, match=r"book/studies\.yaml, spacrd: .*metrics"):
        _ = bare.records().studies


def test_the_books_own_studies_name_what_is_there(root):
    from lib.study.book.contents import read_contents
    from lib.study.book.parts.standings import _row
    from lib.study.book.records import Records

    records = Records(root, read_contents(root))
    assert list(records.studies)[:2] == ["spacrd", "crossfusion"]
    keys = (root / "references.bib").read_text(encoding="utf-8")
    for study in records.studies.values():
        assert not study.cite or f"{{{study.cite}," in keys
        for wanted in study.comparisons:
            assert len(_row(records, study, wanted)) == 1
