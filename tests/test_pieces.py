"""A page takes a piece: its data are set in, its pictures laid beside it, and what is missing leaves a still picture."""

import json

import pytest

from lib import pieces, site

DIV = '::: {{.piece data-piece="{}" data-from="/results/{}.json" data-show="a"}}\n{}\n:::'
STILL = '![A *curve*, of [them](b.qmd).](/results/s/c/figures/a.svg){#fig-a fig-alt="A"}'


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A repository that draws two kinds of piece, and results of one."""
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)
    (tmp_path / "book/pieces").mkdir(parents=True)
    for kind in ("survival", "slide"):
        (tmp_path / f"book/pieces/{kind}.js").write_text("")
    (tmp_path / "results/s/c/figures").mkdir(parents=True)
    (tmp_path / "results/s/c/figures/a.svg").write_text("<svg/>")
    (tmp_path / "results/d.json").write_text(json.dumps({"words": "</script><b>", "time": [1, 2.5]}))
    return tmp_path


def test_a_page_holds_the_data_and_its_picture_lies_beside_it(book):
    text, files, notes = pieces.placed(
        f"Before.\n\n{DIV.format('survival', 'd', STILL)}\n\nAfter.", "x/y.qmd", book
    )
    assert (files, notes) == ({"x/y/results-s-c-figures-a.svg": b"<svg/>"}, [])
    assert '::: {.piece data-piece="survival" data-show="a"}' in text
    assert "[them](b.qmd).](y/results-s-c-figures-a.svg){#fig-a" in text
    inside = text.split('<script type="application/json">')[1].split("</script>")
    assert json.loads(inside[0]) == {"words": "</script><b>", "time": [1, 2.5]}, "its words end no script"
    assert len(inside) == 2
    assert text.endswith(":::\n\nAfter.")
    plain = site._plain(text, "x/y.qmd", {"fig-a": ("Figure 1", "x/y.qmd")}, {})
    assert "script" not in plain, "a preview has the picture alone"
    assert "y/results-s-c-figures-a.svg" in plain


def test_tables_are_set_in_as_columns_and_committed_ones_stand_in_for_missing_ones(book):
    for folder, name, rows in (
        ("data/results", "a", "model\n1,mcat:AMIL\n,x\n"),
        ("results", "b", "setting\n3,genes\n"),
    ):
        (book / folder / "s").mkdir(parents=True, exist_ok=True)
        (book / folder / f"s/{name}.csv").write_text(f"n,{rows}")
    div = DIV.replace("{}.json", "s/a.csv /results/s/b.csv").replace("/results//results", "/results")
    text, _, notes = pieces.placed(div.format("survival", "Words."), "y.qmd", book)
    inside = text.split('<script type="application/json">')[1].split("</script>")[0]
    tables = {"a": {"n": [1, None], "model": ["mcat:AMIL", "x"]}, "b": {"n": [3], "setting": ["genes"]}}
    assert json.loads(inside) == tables | {
        "names": {"mcat:AMIL": "AMIL (stored)", "x": "x", "genes": "counts alone"}
    }
    assert notes == []


def test_what_is_missing_leaves_a_still_picture_or_a_sentence_and_is_told(book):
    text, files, notes = pieces.placed(DIV.format("survival", "none", STILL), "y.qmd", book)
    assert text == STILL.replace("/results/s/c/figures/a.svg", "y/results-s-c-figures-a.svg")
    assert list(files) == ["y/results-s-c-figures-a.svg"]
    assert notes == ["y.qmd: the piece 'survival' is a still picture: results/none.json is missing"]
    text, _, notes = pieces.placed(
        DIV.format("survival", "d", STILL.replace("a.svg", "b.svg")), "y.qmd", book
    )
    assert "*Not in this copy: `results/s/c/figures/b.svg`.*" in text
    assert notes == ["y.qmd: no results/s/c/figures/b.svg"]


def test_a_slide_without_the_fetched_viewer_is_told_and_with_it_counts(book, monkeypatch):
    _, _, notes = pieces.placed(DIV.format("slide", "d", STILL), "y.qmd", book)
    assert notes == ["y.qmd: a slide is a still picture: make data COHORT=openseadragon"]
    for path in pieces.FETCHED.values():
        (book / path).parent.mkdir(parents=True, exist_ok=True)
        (book / path).write_text("x" * 400)
    assert set(pieces.library(book)) == set(pieces.FETCHED)
    assert pieces.placed(DIV.format("slide", "d", STILL), "y.qmd", book)[2] == []
    monkeypatch.setattr(pieces, "LARGEST", 700)
    assert pieces.placed(DIV.format("survival", "d", STILL), "y.qmd", book)[2] == [], "no viewer on that page"
    with pytest.raises(
        ValueError, match=r"y\.qmd: its pieces are larger than 700 bytes: .*openseadragon\.js 400"
    ):
        pieces.placed(DIV.format("slide", "d", STILL), "y.qmd", book)


def test_a_piece_that_nothing_draws_is_refused(book):
    with pytest.raises(ValueError, match=r"y\.qmd: no piece is called 'curve'; there are slide, survival"):
        pieces.placed(DIV.format("curve", "d", STILL), "y.qmd", book)
