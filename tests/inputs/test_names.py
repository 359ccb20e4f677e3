import pytest

from lib.files import LONGEST, check_names, fault_of


@pytest.mark.parametrize("name", ["P1", "TCGA-A6-2683", "GA 1", "Ärztin 3", "1.5", "a_b", "x" * LONGEST])
def test_a_name(name):
    assert fault_of(name) == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "no name"),
        ("  ", "no name"),
        ("..", "no name"),
        ("../x", "slash"),
        ("a\\b", "slash"),
        ("a\nb", "printed"),
        ("a\0", "printed"),
        ("=1+1", "formula"),
        (" @SUM(1)", "formula"),
        ("-5", "formula"),
        ("x" * (LONGEST + 1), "longer"),
        ("ä" * 80, "longer"),
        ("a\udcff", "UTF-8"),
    ],
)
def test_no_name(name, said):
    assert said in fault_of(name)
    with pytest.raises(ValueError, match=r"t\.csv: slide .* rename it"):
        check_names(["fine", name], "t.csv", "slide")


@pytest.mark.parametrize(("one", "other"), [("P1", "p1"), ("P1", "P 1"), ("007", "7"), ("A-01", "a-1")])
def test_two_spellings_of_one_name(one, other):
    with pytest.raises(ValueError, match="differ only in case, spaces or leading zeros"):
        check_names([one, "x", other], "t.csv")


def test_what_differs_and_what_comes_twice():
    check_names(["P1", "P10", "P100", "10", "1", "0", "P1", "A1", "A-1"], "t.csv")
    check_names(["slide 01", "slide 1"], "t.csv", "slide", zeros=False)
    with pytest.raises(ValueError, match="differ only in case"):
        check_names(["s1", "S1"], "t.csv", "slide", zeros=False)
