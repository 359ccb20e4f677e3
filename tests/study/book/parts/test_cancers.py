"""Cancer types side by side, and one question answered from what is here."""

import pytest

from lib.study.book.chapters import text_labels
from lib.study.book.parts.cancers import answer_age, cross_cancer


def test_numbers_differences_and_panels_of_what_was_run(cancer):
    made, pictures = cross_cancer(cancer.records(), "book/cross-cancer.qmd")
    assert (
        "| `blca` | 80 (30) | 0.580 (0.520 to 0.640) | 0.660 (0.610 to 0.710) | 0.620 (0.560 to 0.670) |"
        in made
    )
    assert "| `blca` | +0.080 (+0.030 to +0.140) | +0.040 (−0.020 to +0.090) |" in made
    assert "| `blca` | 0.630 | 0.027 | 0.580 (0.520 to 0.640) | inside age's interval |" in made
    assert "| `ucec` | 0.702 | 0.044 | not run here | – |" in made
    assert "Their chapters: `blca` [figures](../notebooks/crossfusion/blca/5-figures.ipynb)." in made
    assert list(pictures) == ["book/cross-cancer/kaplan-meier-blca.svg"]
    assert "](cross-cancer/kaplan-meier-blca.svg){#fig-kaplan-meier-blca fig-alt=" in made
    assert len(set(text_labels(made))) == len(text_labels(made)) == 5
    assert "demo" not in made, "a phantom is no cancer type"


@pytest.mark.parametrize(
    ("age", "begins", "lies"),
    [
        ((0.58, 0.52, 0.64), "**Not shown.**", "lies inside"),
        ((0.53, 0.50, 0.56), "**Perhaps, by a loose comparison.**", "lies above"),
        ((0.70, 0.65, 0.75), "**No.**", "lies below"),
    ],
)
def test_the_answer_follows_the_numbers(cancer, age, begins, lies):
    cancer.cohort("crossfusion", "blca", [("age", "blca", "c_index", *age)], kind="open")
    said = answer_age(cancer.records(), "index.qmd", "blca")[0]
    assert said.startswith(begins)
    assert f"the paper's number {lies} that interval" in said
    assert "0.630" in said
    assert "no paired difference" in said


def test_a_model_trained_here_answers_with_its_paired_difference(cancer):
    rows = [
        ("age", "blca", "c_index", 0.58, 0.52, 0.64),
        ("crossfusion", "blca", "c_index", 0.61, 0.55, 0.67),
    ]
    paired = (
        "model,minus,difference,low,high,n,how,setting\nage,crossfusion,-0.03,-0.09,0.02,80,paired,blca\n"
    )
    cancer.cohort("crossfusion", "blca", rows, kind="open", differences=paired)
    said = answer_age(cancer.records(), "index.qmd", "blca")[0]
    assert "minus age on the same patients: `crossfusion` +0.030 (−0.020 to +0.090)" in said
    assert "no paired difference" not in said


def test_without_the_cohort_the_answer_says_how_to_get_it(phantoms):
    said = answer_age(phantoms.records(), "index.qmd", "blca")[0]
    assert said.startswith("**Not shown in this copy.**")
    assert "make run STUDY=crossfusion COHORT=blca" in said
    with pytest.raises(ValueError, match="for brain; there are blca, ucec"):
        answer_age(phantoms.records(), "index.qmd", "brain")


def test_a_cohort_without_ages_says_so(cancer):
    cancer.cohort("crossfusion", "blca", [("cox-clinical", "blca", "c_index", 0.6, 0.5, 0.7)], kind="open")
    assert "ages of `blca`'s patients are not known" in answer_age(cancer.records(), "index.qmd", "blca")[0]
    made = cross_cancer(cancer.records(), "a.qmd")[0]
    assert "| `blca` | 0.630 | 0.027 | not known | – |" in made


def test_a_cohort_of_several_types_or_without_the_c_index_has_no_row(cancer):
    two = [("age", setting, "c_index", 0.6, 0.5, 0.7) for setting in ("kirc", "kirp")]
    cancer.cohort("crossfusion", "kidney", two, kind="open")
    cancer.cohort("crossfusion", "other", [("age", "other", "ibs", 0.2, 0.1, 0.3)], kind="open")
    made = cross_cancer(cancer.records(), "a.qmd")[0]
    assert "`blca`" in made
    assert "kidney" not in made
    assert "`other`" not in made
