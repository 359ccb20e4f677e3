"""A line becomes a part; what is not a line of that form, or has an unknown name, is refused."""

import pytest

from lib.study.book.chapters import text_labels
from lib.study.book.generated import filled
from lib.study.book.parts import PARTS


def test_a_line_becomes_a_part_and_the_rest_stays(phantoms):
    text = "Before.\n\n<!-- generated: demo-null crossfusion -->\n\nAfter.\n"
    made, pictures = filled(text, "book/demo-null.qmd", phantoms.records())
    assert made.startswith("Before.\n\n")
    assert made.endswith("\n\nAfter.\n")
    assert "generated" not in made
    assert text_labels(made) == ["tbl-demo-null-crossfusion"]
    assert pictures == {}


def test_an_unknown_name_is_refused(bare):
    with pytest.raises(
        ValueError, match=r"index\.qmd: no generated part is called standing; there are .*standings"
    ):
        filled("<!-- generated: standing -->\n", "index.qmd", bare.records())


@pytest.mark.parametrize("given", ["standings crossfusion", "answer-age", "answer-age blca ucec"])
def test_too_many_or_too_few_words_are_refused(bare, given):
    with pytest.raises(
        ValueError, match=r"index\.qmd: the generated part [\w-]+ takes \d( to \d)? words, given are \d"
    ):
        filled(f"<!-- generated: {given} -->\n", "index.qmd", bare.records())


@pytest.mark.parametrize(
    "line",
    ["See <!-- generated: standings -->", "<!-- generated standings -->", "  <!--generated: standings-->"],
)
def test_a_part_that_does_not_stand_alone_is_refused(bare, line):
    with pytest.raises(ValueError, match="alone on its line"):
        filled(f"{line}\n", "index.qmd", bare.records())


def test_a_line_shown_as_code_stays(bare):
    text = "Write `<!-- generated: x -->`:\n\n```\n<!-- generated: standings -->\n```\n"
    assert filled(text, "index.qmd", bare.records()) == (text, {})


GIVEN = {"answer-age": " blca", "margin": " stroke 70", "printed": " crossfusion"}


@pytest.mark.parametrize("name", sorted(PARTS))
def test_every_part_says_something_where_nothing_was_run(bare, name):
    made, pictures = filled(
        f"<!-- generated: {name}{GIVEN.get(name, '')} -->\n", "index.qmd", bare.records([])
    )
    assert len(made) > 20
    assert pictures == {}


@pytest.mark.parametrize("name", sorted(PARTS))
def test_equal_results_give_equal_parts(cancer, name):
    line = f"<!-- generated: {name}{GIVEN.get(name, '')} -->\n"
    assert filled(line, "book/a.qmd", cancer.records()) == filled(line, "book/a.qmd", cancer.records())
