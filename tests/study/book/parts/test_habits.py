"""What a habit is worth, with its sign the right way round."""

import pytest

from lib.study.book.parts.habits import deviations
from lib.study.book.parts.tables import difference, estimate, interval, number, pipe_table, signed

PAIRED = (
    "model,minus,difference,low,high,n,how,setting\n"
    "crossfusion,crossfusion+best_epoch,-0.03,-0.09,0.02,80,paired,a\n"
)
ROWS = [
    ("crossfusion", "a", "c_index", 0.7, 0.6, 0.8),
    ("crossfusion+best_epoch", "a", "c_index", 0.73, 0.6, 0.8),
]


def test_the_effect_is_that_of_having_the_habit(phantoms):
    phantoms.cohort("crossfusion", "quirks", ROWS, differences=PAIRED)
    made = deviations(phantoms.records(), "a.qmd")[0]
    assert (
        "| **leak**: the best epoch | `crossfusion+best_epoch` | `quirks` (phantom), a | +0.030 (−0.020 to +0.090) |"
        in made
    )


def test_the_demo_is_not_told_twice_and_null_tells_nothing(phantoms):
    for name in ("demo", "null", "quirks"):
        phantoms.cohort("crossfusion", name, ROWS, differences=PAIRED)
    assert deviations(phantoms.records(), "a.qmd", "crossfusion")[0].count("+0.030") == 1


def test_a_cohort_without_the_main_metric_is_passed_over(phantoms):
    phantoms.cohort("crossfusion", "times", [("crossfusion", "a", "ibs", 0.2, 0.1, 0.3)], kind="open")
    assert "`times`" not in deviations(phantoms.records(), "a.qmd")[0]


def test_without_pairs_no_interval_is_made_up(phantoms):
    phantoms.cohort("crossfusion", "quirks", ROWS)
    assert "no paired interval" in deviations(phantoms.records(), "a.qmd")[0]


def test_a_cut_from_the_test_labels_stands_beside_a_fair_one_and_twins_beside_each_other(phantoms):
    rows = [
        ("spacrd", "genes", "auc", 0.88, 0.81, 0.94),
        ("spacrd", "genes", "f1_oracle", 0.86, 0.8, 0.9),
        ("spacrd", "genes", "f1_gmm", 0.78, 0.7, 0.8),
    ]
    phantoms.cohort("spacrd", "her2st", rows, kind="open")
    made = deviations(phantoms.records(), "a.qmd", "spacrd")[0]
    assert (
        "| `her2st` (open), genes | `spacrd` | 0.860 (0.800 to 0.900) | 0.780 (0.700 to 0.800) | +0.080 |"
        in made
    )
    phantoms.cohort("spacrd", "her2st-released", rows, kind="open")
    made = deviations(phantoms.records(), "a.qmd", "spacrd")[0]
    assert "0.880 (0.810 to 0.940) against 0.880 (0.810 to 0.940)" in made


def test_numbers_and_tables_in_words():
    import pandas as pd

    assert number(-0.1234) == "−0.123"
    assert number(float("nan")) == ""
    assert interval(-0.1, 0.2, sign=True) == "−0.100 to +0.200"
    assert estimate(pd.Series({"estimate": float("nan"), "how": "no deaths"})) == "not computable: no deaths"
    assert signed(None) == ""
    table = pd.DataFrame({"model": ["a"], "minus": ["b"], "auc": [0.1], "low": [-0.1], "high": [0.3]})
    assert difference(table, "b", "a", "any") == (-0.1, -0.3, 0.1)
    assert difference(table, "a", "c", "any") is None
    assert "a\\|b" in pipe_table({"x": "l"}, [["a|b"]], "C.", "tbl-x")
    with pytest.raises(ValueError, match="tbl-x: a row has 2 cells, the table 1 columns"):
        pipe_table({"x": "l"}, [["a", "b"]], "C.", "tbl-x")


def test_a_setting_without_the_main_model_shows_the_form_it_has(phantoms):
    rows = [
        (model, "genes", metric, value, value - 0.1, value + 0.1)
        for model in ("spacrd-released", "spacrd-genes", "marker")
        for metric, value in (("f1_oracle", 0.8), ("f1_gmm", 0.7), ("auc", 0.9))
    ]
    phantoms.cohort("spacrd", "her2st", rows, kind="open")
    made = deviations(phantoms.records(), "a.qmd", "spacrd")[0]
    assert "| `her2st` (open), genes | `spacrd-genes` | 0.800" in made
