import numpy as np
import pandas as pd
import pytest

from lib.spacrd.spots import as_numbers, read_unnamed


def test_a_first_row_is_a_row_whatever_it_holds(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffx,0,0\ny,1,2\n", encoding="utf-8")
    assert read_unnamed(tmp_path / "a.csv").to_numpy().tolist() == [["x", 0, 0], ["y", 1, 2]]
    (tmp_path / "a.csv").write_text("x,0\ny,1,2\n")
    with pytest.raises(ValueError, match=r"a\.csv cannot be read as a table"):
        read_unnamed(tmp_path / "a.csv")


def test_numbers_are_numbers_or_named():
    table = pd.DataFrame({"x": ["1", " 2.5 ", ""], "label": ["a", "b", "c"]}, index=["p", "q", "r"])
    np.testing.assert_array_equal(as_numbers(table, ["x"], "f", gaps=True)["x"], [1, 2.5, np.nan])
    assert table["x"].tolist() == ["1", " 2.5 ", ""], "what was given stays"
    with pytest.raises(ValueError, match=r"f has no x for 'r' \(of 3 rows, 1 are so\)"):
        as_numbers(table, ["x"], "f")
    for odd in ("one", "inf", "1e10", "-1e10", "1,5"):
        with pytest.raises(ValueError, match=rf"f has no x but '{odd}' for 'q'"):
            as_numbers(table.assign(x=["1", odd, "2"]), ["x"], "f")
    assert as_numbers(table.assign(x=["1", "1e10", "2"]), ["x"], "f", most=1e11)["x"].max() == 1e10
