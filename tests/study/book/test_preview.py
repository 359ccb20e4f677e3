"""The preview shows the same pages, marked, and fetches nothing."""

import re

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.study.book import preview, site
from lib.study.book.chapters import cleaned

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR4nGNgYGD4//8/AAYBAv4CsjmuAAAAAElFTkSuQmCC"
PLACE = "notebooks/spacrd/demo/4-evaluate.ipynb"
BIB = "@article{a2021,\n  title = {{HER2} tumours},\n  author = {Ander, A. and Bo, B.},\n  year = {2021},\n  doi = {10.1/x}\n}\n"
FRONT = (
    "---\ntoc: false\n---\n# Book {.unnumbered}\n\nBy [@a2021] and @a2021. See [there](notebooks/spacrd/index.qmd) "
    "and `[@a2021]`.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n: A table of two. {.hover}\n\n"
    '::: {.callout-note title="Mind"}\n## Sub\nInside.\n:::\n\nAfter.\n'
)


def chapter():
    picture = new_output("display_data", data={"image/png": PNG, "text/plain": "<Figure>"})
    table = new_output("display_data", data={"text/markdown": "| model | auc |\n|---|---|\n| a<b | 0.5 |"})
    printed = new_output("stream", name="stdout", text="5 < 6 sections\n")
    cells = [
        new_markdown_cell(
            "# Evaluate\n\nAs @fig-roc and @tbl-auc show, with @eq-loss.\n\n$$a_1 * b_2 * c$$ {#eq-loss}"
        ),
        new_code_cell("seed = 7", execution_count=1, metadata={"tags": ["parameters"]}),
        new_code_cell(
            "# Parameters\nseed = 8", execution_count=1, metadata={"tags": ["injected-parameters"]}
        ),
        new_code_cell(
            "#| label: fig-roc\n#| fig-cap: 'The *curve*.'\nplot(seed)", execution_count=2, outputs=[picture]
        ),
        new_code_cell("#| label: tbl-auc\n#| tbl-cap: 'AUC.'\nshow()", execution_count=3, outputs=[table]),
        new_code_cell("#| echo: false\nprint(secret)", execution_count=4, outputs=[printed]),
    ]
    return cleaned(new_notebook(cells=cells), "x", "spacrd", "demo", "phantom")


@pytest.fixture(scope="module")
def pages(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("laid")
    for name in ("book", "notebooks/spacrd/demo"):
        (folder / name).mkdir(parents=True)
    part = {"part": "notebooks/spacrd/index.qmd", "chapters": [PLACE]}
    contents = {
        "bibliography": "a.bib",
        "book": {"title": "T", "chapters": ["index.qmd", part, "book/references.qmd"]},
    }
    (folder / "_quarto.yml").write_text(yaml.safe_dump(contents))
    (folder / "a.bib").write_text(BIB)
    (folder / "index.qmd").write_text(FRONT)
    (folder / "notebooks/spacrd/index.qmd").write_text("# Part\n\n![A *way*.](../../book/a.svg){#fig-way}\n")
    (folder / "book/references.qmd").write_text("# References\n\n::: {#refs}\n:::\n")
    (folder / "book/a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>")
    (folder / "book/preview.html").write_text((root / "book/preview.html").read_text(encoding="utf-8"))
    nbformat.write(chapter(), folder / PLACE)
    made = preview.render(folder)
    return made, {
        path.relative_to(made).as_posix(): path.read_text(encoding="utf-8") for path in made.rglob("*.html")
    }


def test_it_is_whole_and_fetches_nothing(pages):
    made, texts = pages
    assert site.faults(made, []) == []
    assert set(texts) == {
        "index.html",
        "notebooks/spacrd/index.html",
        "notebooks/spacrd/demo/4-evaluate.html",
        "book/references.html",
    }
    assert not any("<script" in text for text in texts.values())


def test_every_page_says_that_it_is_a_preview_and_lists_the_chapters(pages):
    for name, text in pages[1].items():
        assert "Preview, made without Quarto" in text, name
        assert len(re.findall(r"<li class=", text)) == 4, name
        assert "Evaluate: demo (phantom)" in text, name


def test_notebook_pages_keep_numbers_captions_and_notice(pages):
    text = pages[1]["notebooks/spacrd/demo/4-evaluate.html"]
    body = text[text.index("<main>") :]
    assert '<h1 data-number="1"' in body
    assert "This page shows a phantom cohort" in body
    assert ":::" not in body
    assert f"data:image/png;base64,{PNG}" in body
    assert '<a href="4-evaluate.html#fig-roc-spacrd-demo">Figure 1.1</a>' in body
    assert '<a href="4-evaluate.html#eq-loss-spacrd-demo">Equation 1.1</a>' in body
    assert '<span id="eq-loss-spacrd-demo">' in body
    assert "a_1 * b_2 * c" in body, "formulas are not read as emphasis"
    figure = re.search(r'<figure id="fig-roc-spacrd-demo">(.*?)</figure>', body, re.DOTALL)[1]
    assert figure.index("<img") < figure.index("<strong>Figure 1.1.</strong> The <em>curve</em>.")
    table = re.search(r'<figure id="tbl-auc-spacrd-demo">(.*?)</figure>', body, re.DOTALL)[1]
    assert table.index("<strong>Table 1.1.</strong> AUC.") < table.index("<table")
    assert "#|" not in body


def test_code_is_folded_hidden_or_gone_as_the_cell_says(pages):
    body = pages[1]["notebooks/spacrd/demo/4-evaluate.html"]
    assert "secret" not in body
    assert "5 &lt; 6 sections" in body
    assert body.count("<summary>Code</summary>") == 2
    given = body[body.index("Parameters of this run") :]
    assert re.search(r"seed.*?8", given[:600], re.DOTALL)
    assert not re.search(r"seed(<[^>]*>|\s|=)*7", body)


def test_markdown_beyond_the_common_is_put_plainly(pages):
    front = pages[1]["index.html"]
    assert "toc: false" not in front
    assert ">Book</h1>" in front
    assert "By (Ander et al. 2021) and Ander et al. 2021." in front
    assert "<code>[@a2021]</code>" in front, "code is left alone"
    assert 'href="notebooks/spacrd/index.html"' in front
    assert "<em>A table of two.</em>" in front
    quote = re.search(r"<blockquote>(.*?)</blockquote>", front, re.DOTALL)[1]
    assert "<strong>Mind</strong>" in quote
    assert "Inside." in quote
    assert "After." not in quote
    part = pages[1]["notebooks/spacrd/index.html"]
    assert '<figure id="fig-way"><img alt="A way." src="../../book/a.svg">' in part
    assert "HER2 tumours" in pages[1]["book/references.html"]
    assert "https://doi.org/10.1/x" in pages[1]["book/references.html"]


def test_chapters_have_numbers_appendices_letters_and_the_rest_none(tmp_path, root):
    words = {
        "index.qmd": "# Home\n\nSee [there](c.qmd#what-it-is-worth) and [this](#fig-a), @tbl-c.\n\n"
        '![[A](c.qmd) *line*.](book/a.svg){#fig-a fig-alt="A line."}\n',
        "a.qmd": "# Plain {.unnumbered}\n\n# Not {#sec-x}\n",
        "b.qmd": "# Counted\n\n::: {.printed}\n\n| a |\n|---|\n| 1 |\n\n: One. {#tbl-b}\n\n:::\n",
        "c.qmd": "# Beyond\n\n## What it is worth?\n\n## Twice\n\n## Twice\n\n| a |\n|---|\n| 1 |\n\n: *Two*. {#tbl-c}\n",
    }
    for name, text in words.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "book").mkdir()
    (tmp_path / "book/a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>")
    (tmp_path / "book/preview.html").write_text((root / "book/preview.html").read_text(encoding="utf-8"))
    book = {"title": "T", "chapters": ["index.qmd", "a.qmd", "b.qmd"], "appendices": ["c.qmd"]}
    (tmp_path / "_quarto.yml").write_text(yaml.safe_dump({"book": book}))
    made = preview.render(tmp_path)
    assert site.faults(made, []) == []
    page = {name: (made / name).with_suffix(".html").read_text(encoding="utf-8") for name in words}
    assert 'data-number="1"' in page["b.qmd"]
    assert 'data-number="A"' in page["c.qmd"]
    assert "data-number=" not in page["a.qmd"][page["a.qmd"].index("<main>") :]
    assert '<span id="tbl-b"></span><strong>Table 1.1.</strong> <em>One.</em>' in page["b.qmd"]
    assert '<span id="tbl-c"></span><strong>Table A.1.</strong>' in page["c.qmd"]
    assert '<h2 id="what-it-is-worth">' in page["c.qmd"]
    assert [f'id="twice{end}"' in page["c.qmd"] for end in ("", "-1")] == [True, True]
    front = page["index.qmd"]
    assert '<a href="c.html#tbl-c">Table A.1</a>' in front
    assert '<img alt="A line." src="book/a.svg">' in front
    assert '<a href="c.html">A</a> <em>line</em>.' in front
