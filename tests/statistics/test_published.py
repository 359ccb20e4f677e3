import numpy as np
import pandas as pd
import pytest

from lib.statistics.published import compared, published_against_ours, published_markdown


def printed(**changes):
    row = {
        "item": "ST only",
        "cohort": "",
        "setting": "",
        "metric": "auc",
        "value": 0.83,
        "fold_sd": np.nan,
        "folds": np.nan,
        "source": "Table 3",
    }
    row |= {"certainty": "secondary source", "testable": "yes", "why": ""}
    row |= {"ours_model": "spacrd-genes", "ours_cohort": "her2st", "ours_setting": "genes"}
    return pd.DataFrame([row | changes])


def measured(**changes):
    row = {"model": "spacrd-genes", "cohort": "her2st", "setting": "genes", "metric": "auc"}
    return pd.DataFrame([row | {"estimate": 0.8, "low": 0.75, "high": 0.85, "how": "x"} | changes])


def verdict(published, metrics):
    return published_against_ours(published, metrics)["verdict"].item()


def test_words_that_can_be_false():
    """Two one-sided tests within .05 either way; a wide interval says neither yes nor no."""
    sure = {"estimate": 0.8, "low": 0.77, "high": 0.83}
    said = "compatible (ours minus printed −0.040 to +0.020)"
    assert verdict(printed(value=0.81), measured(**sure)) == said
    assert verdict(printed(value=0.85), measured(**sure)).startswith("incompatible (")
    assert verdict(printed(value=0.82), measured(low=0.7, high=0.9)).startswith("uninformative (")
    # a printed spread of folds makes the printed value itself uncertain: .05 sqrt(1/5 + 1/4) = .034
    assert verdict(printed(value=0.85, fold_sd=0.05, folds=5), measured(**sure)).startswith("uninformative (")
    # a difference that is sure, but smaller than what would matter
    tiny = {"estimate": 0.8, "low": 0.795, "high": 0.805}
    assert verdict(printed(value=0.81), measured(**tiny)).startswith("compatible (")
    assert verdict(printed(), measured(low=np.nan, high=np.nan)) == "uninformative: ours has no interval"


def test_an_interval_that_reproduces_every_rival_says_nothing(root):
    """MCAT's LUAD interval held 14 of 14 values of the paper's table; none of them is now called alike or unlike."""
    table = pd.read_csv(root / "data" / "published" / "crossfusion.csv")
    luad = table.query("cohort == 'luad'").dropna(subset="fold_sd")
    rows = luad.loc[luad["source"].str.contains("Table 1"), ["value", "fold_sd", "folds"]].to_numpy()
    words = {compared(v, 0.616, 0.561, 0.670, sd, k).split(" ")[0] for v, sd, k in rows}
    assert len(rows) >= 14
    assert words == {"uninformative"}


def test_what_cannot_be_compared():
    assert verdict(printed(testable="no", why="gated"), measured()) == "not testable here: gated"
    said = verdict(printed(), measured(metric="ap"))
    assert said.startswith("not testable here: spacrd-genes was not run on ")
    assert said.endswith(" (auc)")
    assert verdict(printed(value=np.nan), measured()).startswith("not testable here: the published number")
    empty = measured(estimate=np.nan, low=np.nan, high=np.nan, how="not computable: one class")
    assert verdict(printed(), empty) == "not testable here: ours is not computable: one class"


def test_what_is_no_reproduction_is_not_called_one():
    same = "verified: recomputed from the stored predictions"
    said = [verdict(printed(certainty=same, value=value), measured()) for value in (0.8, 0.9)]
    assert said[0] == "agrees by construction: the same stored predictions"
    assert said[1].startswith("incompatible"), "then one of the two reckons wrongly"
    assert verdict(printed(certainty="unverified"), measured()).endswith("the published number is unverified")


def test_table_keeps_both_numbers_and_the_order():
    both = pd.concat([printed(), printed(item="full", testable="no", why="no pictures")])
    table = published_against_ours(both, measured())
    assert " ".join(table.columns[:8]) == "item where published certainty ours low high verdict"
    assert table["item"].tolist() == ["ST only", "full"]
    assert table.loc[0, ["published", "ours", "low", "high"]].tolist() == [0.83, 0.8, 0.75, 0.85]
    assert np.isnan(table.loc[1, "ours"])
    assert table.loc[0, "where"] == "Table 3"


def cells(markdown: str) -> list[list[str]]:
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_markdown_lines_up_and_says_sources_once():
    many = [printed(item="gain (%)", value=13.5, testable="no", why="x"), printed(item="p", value=0.00018)]
    many.insert(0, printed(why="five folds"))
    many = pd.concat(many).assign(certainty="read; not whole")
    said = published_markdown(published_against_ours(many, measured()))
    head, line, *rows = cells(said)
    assert head == ["Number", "Printed", "Ours", "So"]
    assert [mark.endswith(":") for mark in line] == [False, True, True, False]
    assert [row[1] for row in rows] == ["0.830", "13.5", "0.00018"]
    assert [row[2] for row in rows] == ["0.800 (0.750 to 0.850)", "", "0.800 (0.750 to 0.850)"]
    assert [row[3] for row in rows] == [
        "uninformative (ours minus printed −0.080 to +0.020); five folds",
        "not testable here: x",
        "incompatible (ours minus printed +0.750 to +0.850)",
    ]
    assert said.endswith("How sure: read; not whole. Sources: Table 3.")


def test_markdown_leaves_out_what_nobody_says_and_keeps_what_differs():
    two = [
        printed(testable="no", why="a"),
        printed(testable="no", why="b", source="Table 4", certainty="read"),
    ]
    said = published_markdown(published_against_ours(pd.concat(two), measured()))
    assert cells(said)[0] == ["Number", "Printed", "So", "How sure"]
    assert said.endswith("Sources: Table 3; Table 4.")
    assert "nan" not in said


def test_what_most_rows_say_stands_once():
    whys = ("no slides; the arm without drugs", "no slides", "six events")
    rows = [printed(testable="no", why=why, certainty=f"read; {n}") for n, why in enumerate(whys)]
    said = published_markdown(published_against_ours(pd.concat(rows), measured()))
    found = ["the arm without drugs", "0", "", "1", "not testable here: six events", "2"]
    assert [cell for row in cells(said)[2:] for cell in row[2:]] == found
    assert "\n\nNot testable here, unless its row says otherwise: no slides. How sure: read. Sources:" in said


def test_refusals():
    with pytest.raises(ValueError, match="testable"):
        published_against_ours(printed(testable="perhaps"), measured())
    with pytest.raises(ValueError, match="two rows"):
        published_against_ours(printed(), pd.concat([measured(), measured()]))


@pytest.fixture
def spacrd(root):
    return pd.read_csv(root / "data" / "published" / "spacrd.csv")


def test_spacrd_table_is_whole(spacrd):
    assert spacrd.columns.tolist() == printed().columns.tolist()
    assert spacrd["item"].is_unique
    assert set(spacrd["certainty"]) == {"secondary source", "recomputed from shipped scores", "unverified"}
    assert set(spacrd["testable"]) == {"yes", "no"}
    assert spacrd["why"].notna().all()
    ours = spacrd[["ours_model", "ours_cohort", "ours_setting"]]
    assert ours[spacrd["testable"] == "yes"].notna().all(axis=None)
    assert ours[spacrd["testable"] == "no"].isna().all(axis=None)
    # what no source gives stays empty, and is not called more than unverified
    assert (spacrd.loc[spacrd["value"].isna(), "certainty"] == "unverified").all()
