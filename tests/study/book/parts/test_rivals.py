"""The home page's second table: a model against something plain on the same real patients."""

import pytest
import yaml

from lib.study.book.parts.rivals import rivals

DIFFERENCES = (
    "model,minus,difference,low,high,n,how,setting\n"
    "age,mcat:MCAT,-0.05,-0.09,-0.01,80,paired,blca\n"
    "age,mcat:AMIL,0.03,-0.02,0.08,80,paired,blca\n"
)
METRICS = [
    ("age", "blca", "c_index", 0.60, 0.55, 0.65),
    ("mcat:MCAT", "blca", "c_index", 0.65, 0.60, 0.70),
    ("mcat:AMIL", "blca", "c_index", 0.57, 0.52, 0.62),
]


def wanted(model="mcat:MCAT", **changes):
    given = {"cohort": "blca", "setting": "blca", "model": model, "minus": "age"}
    return given | {"model_words": "the model", "minus_words": "age"} | changes


def with_rivals(repository, *rows):
    path = repository.root / "book" / "studies.yaml"
    studies = yaml.safe_load(path.read_text(encoding="utf-8"))
    studies["crossfusion"]["rivals"] = list(rows)
    repository.write("book/studies.yaml", yaml.safe_dump(studies, sort_keys=False))
    return repository.records()


def rows(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize(
    ("model", "shown", "said"),
    [
        ("mcat:MCAT", "+0.050 (+0.010 to +0.090)", "better"),
        ("mcat:AMIL", "−0.030 (−0.080 to +0.020)", "not settled"),
    ],
)
def test_the_difference_is_paired_and_says_what_it_settles(bare, model, shown, said):
    bare.cohort("crossfusion", "blca", METRICS, kind="open", differences=DIFFERENCES)
    (row,) = rows(rivals(with_rivals(bare, wanted(model, of="those with slides")), "index.qmd")[0])
    assert row[1].endswith(", those with slides")
    assert row[3] == "age: 0.600 (0.550 to 0.650)"
    assert row[4:] == [shown, said]


def test_a_model_that_loses_is_called_worse(bare):
    bare.cohort("crossfusion", "blca", METRICS, kind="open", differences=DIFFERENCES)
    (row,) = rows(rivals(with_rivals(bare, wanted("age", minus="mcat:MCAT")), "index.qmd")[0])
    assert row[4:] == ["−0.050 (−0.090 to −0.010)", "**worse**"]


def test_a_column_where_is_the_setting_too(bare):
    text = DIFFERENCES.replace("how,setting", "how,where")
    bare.cohort("crossfusion", "blca", METRICS, kind="open", differences=text)
    assert rows(rivals(with_rivals(bare, wanted()), "index.qmd")[0])[0][-1] == "better"


def test_what_was_not_run_is_left_out(bare):
    said, pictures = rivals(with_rivals(bare, wanted()), "index.qmd")
    assert said.startswith("No real patients were evaluated")
    assert pictures == {}


@pytest.mark.parametrize("changes", [{"setting": "elsewhere"}, {"minus": "stage"}])
def test_what_was_not_run_in_a_cohort_is_said_and_stops_no_book(bare, changes):
    bare.cohort("crossfusion", "blca", METRICS, kind="open", differences=DIFFERENCES)
    (row,) = rows(rivals(with_rivals(bare, wanted(**changes)), "index.qmd")[0])
    assert row[4:] == ["–", "not compared: one of the two was not run"]


def test_a_phantom_has_no_place_here(bare):
    bare.cohort("crossfusion", "demo", METRICS, differences=DIFFERENCES)
    with pytest.raises(ValueError, match="rivals of crossfusion/demo: that is a phantom"):
        rivals(with_rivals(bare, wanted(cohort="demo")), "index.qmd")
