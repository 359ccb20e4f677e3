"""What the papers printed: every number once, ours beside it where it is of the same cohort, no phantom."""

import pytest

from lib.study.book.parts.printed import margin, printed

HEAD = "item,cohort,setting,metric,value,source,certainty,testable,why,ours_model,ours_cohort,ours_setting\n"
SPACRD = (
    "AUC of one set,HBC,genes,auc,0.83,T3,second hand,yes,,spacrd,her2st,genes\n"
    "gain in percent,HBC,all,auc_gain_percent,13.5,T3,second hand,no,other models,,,\n"
    "never found,HBC,all,f1,,T3,unverified,no,nowhere,,,\n"
)
STROKE = (
    "fusion,hamburg,all,accuracy,0.77,abstract,read,no,not public,,,\n"
    "scan,hamburg,all,accuracy,0.61,abstract,read,no,not public,,,\n"
)


def rows(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines]


def test_ours_stands_beside_only_where_it_is_of_the_same_real_cohort(bare):
    bare.write("data/published/spacrd.csv", HEAD + SPACRD)
    bare.cohort("spacrd", "her2st", [("spacrd", "genes", "auc", 0.85, 0.8, 0.9)], kind="open")
    bare.cohort("spacrd", "demo", [("spacrd", "both", "auc", 0.99, 0.98, 1.0)])
    said, _ = printed(bare.records(), "book/appendix/published.qmd", "spacrd")
    _, _, first, second = rows(said)
    assert first == ["AUC of one set", "HBC", "AUROC", "0.830", "0.850 (0.800 to 0.900)", "second hand"]
    assert second[2:5] == ["`auc_gain_percent`", "13.5", "–"]
    assert "0.990" not in said
    assert said.endswith("given by no source that could be read: never found.\n")


def test_a_phantom_s_number_never_appears_even_if_the_table_asks_for_it(bare):
    bare.write("data/published/spacrd.csv", HEAD + SPACRD.replace("her2st", "demo"))
    bare.cohort("spacrd", "demo", [("spacrd", "genes", "auc", 0.99, 0.98, 1.0)])
    said, _ = printed(bare.records(), "x.qmd", "spacrd")
    assert "0.990" not in said


def test_the_same_rows_of_several_cohorts_stand_side_by_side(bare):
    head, _, *lines = rows(printed(bare.records(), "x.qmd", "crossfusion")[0])
    assert head == ["What", "Metric", "`blca`", "`ucec`"]
    assert ["CrossFusion, ResNet50 features, Table 1", "c-index", "0.630", "0.702"] in lines
    assert ["MCAT, stored", "c-index", "0.620", "–"] in lines


def test_margin_says_how_few_patients_part_the_models(bare):
    bare.write("data/published/stroke.csv", HEAD + STROKE)
    _, _, first, second = rows(margin(bare.records(), "x.qmd", "stroke", "70")[0])
    assert first[2:] == ["54", "0", "–"]
    assert second[2:] == ["43", "11", "0.001"]


def test_what_is_missing_is_named(bare):
    for made, _ in (
        printed(bare.records(), "x.qmd", "stroke"),
        margin(bare.records(), "x.qmd", "stroke", "70"),
    ):
        assert made == "The paper's numbers are not in this copy.\n"
    with pytest.raises(ValueError, match="strike"):
        printed(bare.records(), "x.qmd", "strike")
