"""Demo and null in one table."""

import pytest

from lib.study.book.parts.controls import demo_null


def test_every_model_stands_once_with_both_numbers(phantoms):
    made = demo_null(phantoms.records(), "book/demo-null.qmd")[0]
    line = next(line for line in made.splitlines() if "`crossfusion`" in line and "| a |" in line)
    assert line == "| a | `crossfusion`\u00a0\\* | 0.800 (0.700 to 0.900) | 0.500 (0.400 to 0.600) | yes |"
    assert "4 of 4 intervals of `null` cover 0.5." in made
    assert "all alike" in made, "Kaplan-Meier gives all patients one risk: no test of anything"
    assert "[*Evaluate*" not in made, "the book has no such chapter"


def test_an_interval_beside_chance_is_told(phantoms):
    rows = [("crossfusion", "a", "c_index", 0.62, 0.55, 0.7), ("late", "a", "c_index", 0.5, 0.4, 0.6)]
    phantoms.cohort("crossfusion", "null", rows)
    made = demo_null(phantoms.records(), "a.qmd", "crossfusion")[0]
    assert "1 of 2 intervals of `null` cover 0.5. An interval of 95 % misses" in made
    assert "**no**" in made
    assert "| a | `late` | – | 0.500 (0.400 to 0.600) | yes |" in made


def test_a_study_without_both_is_left_out(phantoms):
    phantoms.cohort("stroke", "demo", [("fusion", "a", "auc", 0.6, 0.5, 0.7)])
    assert "mRS90" not in demo_null(phantoms.records(), "a.qmd")[0]


def test_an_unknown_study_is_refused(phantoms):
    with pytest.raises(ValueError, match="has no study brain; there are spacrd, crossfusion"):
        demo_null(phantoms.records(), "a.qmd", "brain")
