"""The home page's table: numbers beside each other only where they are comparable."""

import pytest

from lib.study.book.parts.standings import standings, studies


def rows(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines[2:]]


def test_a_phantom_never_stands_beside_a_papers_number(cancer):
    table = rows(standings(cancer.records(), "index.qmd")[0])
    assert {row[4] for row in table if row[1] == "phantom"} == {"none: a phantom"}
    assert {row[1] for row in table if row[4] != "none: a phantom"} == {"open"}


def test_the_verdict_comes_from_the_interval_or_says_why_not(cancer):
    first, second, demo, null = rows(standings(cancer.records(), "index.qmd")[0])
    assert first[3:] == ["c-index", "0.630 (verified)", "–", "–", "not testable here: needs slides"]
    assert second[3:] == ["c-index", "0.620 (verified)", "0.620", "0.560 to 0.670", "reproduced"]
    assert demo[5:] == ["0.800", "0.700 to 0.900", "planted effect found"]
    assert null[5:] == ["0.500", "0.400 to 0.600", "covers chance, as it must"]
    assert first[0].startswith("[CrossFusion](")
    assert second[0] == ""


def test_a_cohort_without_parameters_has_its_name_and_kind_from_the_studies_file(phantoms):
    item = "CrossFusion, ResNet50 features, Table 1"
    wanted = (
        f"{{cohort: ucec, as: six hospitals, kind: not public, item: '{item}', without: 'closed; for ever'}}"
    )
    text = (phantoms.root / "book/studies.yaml").read_text(encoding="utf-8")
    start = text.index("  comparisons:\n  - cohort: blca")
    end = text.index("  released: crossfusion-released")
    phantoms.write("book/studies.yaml", f"{text[:start]}  comparisons:\n  - {wanted}\n{text[end:]}")
    first = rows(standings(phantoms.records(), "index.qmd")[0])[0]
    assert first[1:3] == ["not public", "six hospitals: CrossFusion, ResNet50 features"]
    assert first[4] == "0.702 (verified)"
    assert first[-1] == "not testable here: closed"


def test_a_null_that_finds_something_is_told(phantoms):
    phantoms.cohort("crossfusion", "null", [("crossfusion", "a", "c_index", 0.7, 0.6, 0.8)])
    phantoms.cohort("crossfusion", "demo", [("crossfusion", "a", "c_index", 0.5, 0.4, 0.6)])
    *_, demo, null = rows(standings(phantoms.records(), "index.qmd")[0])
    assert demo[-1] == "planted effect not found"
    assert null[-1] == "**does not cover chance**"


def test_a_study_that_was_not_run_is_absent_from_one_table_and_named_in_the_other(cancer):
    records = cancer.records()
    assert "mRS90" not in standings(records, "index.qmd")[0]
    glance = rows(studies(records, "index.qmd")[0])
    assert [row[-1] for row in glance if row[0].startswith("mRS90")] == ["not run here"]
    assert any("[`blca`](notebooks/crossfusion/blca/5-figures.ipynb)" in row[-1] for row in glance)


def test_an_item_that_is_not_published_is_refused(cancer):
    text = (cancer.root / "book/studies.yaml").read_text(encoding="utf-8")
    cancer.write("book/studies.yaml", text.replace("MCAT, stored", "MCAT, lost"))
    with pytest.raises(
        ValueError, match=r"the item 'MCAT, lost' of blca stands 0 times in data/published/crossfusion"
    ):
        standings(cancer.records(), "index.qmd")
