"""A rendered site is searched for what exit code 0 hides; the preview is whole, marked and offline."""

import base64
import io
import json
import re
import sys

import matplotlib.pyplot as plt
import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from lib import site
from lib.book import Chapter, cleaned


def png(*colours):
    kept = io.BytesIO()
    picture = Image.new("RGB", (len(colours), 1))
    picture.putdata(colours)
    picture.save(kept, "PNG")
    return kept.getvalue()


GOOD, BLANK = png((0, 0, 0), (255, 255, 255)), png((255, 255, 255), (255, 255, 255))
INSIDE = "data:image/png;base64," + base64.b64encode(GOOD).decode()
SVG = '<svg xmlns="http://www.w3.org/2000/svg">{}</svg>'
WHOLE = (
    '<html><head><link rel="stylesheet" href="a.css"><script src="a.js"></script>'
    '<link rel="canonical" href="https://example.org"></head><body><p>As Figure 1 shows.</p>'
    f'<img src="a.png" alt="A"><img src="full.svg" alt="A"><img src="{INSIDE}" alt="B">'
    '<a href="https://example.org">out</a><a href="#there">here</a><a href="part/#within">part</a>'
    '<a href="#">top</a><p id="there"><strong>Is it so?</strong> <strong>90 %?</strong></p>'
    "<pre>class <code>a ::: b</code></pre><pre>/srv/me2/x and /usr/srv/men</pre>"
    '<link id="there" rel="canonical"><script id="there">var x = "?@fig-none";</script></body></html>'
)


@pytest.fixture
def rendered(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "a.css").write_text("body { color: red }")
    (tmp_path / "a.js").write_text("x")
    (tmp_path / "part/index.html").write_text("<p id='within'>x</p>")
    pictures = {"a.png": GOOD, "blank.png": BLANK, "none.png": b"", "torn.png": GOOD[:40]}
    pictures |= {"full.svg": SVG.format("<path d='M0 0'/>").encode(), "void.svg": SVG.format("").encode()}
    for name, content in pictures.items():
        (tmp_path / name).write_bytes(content)

    def made(added="", style=None):
        (tmp_path / "index.html").write_text(WHOLE.replace("</body>", f"{added}</body>"))
        if style:
            (tmp_path / "a.css").write_text(style)
        return tmp_path

    return made


def test_a_whole_site_has_no_faults(rendered, tmp_path):
    assert site.faults(tmp_path, []) == ["the site has no index.html"]
    assert site.faults(rendered(), [("/srv/me", "~")]) == []


@pytest.mark.parametrize(
    ("added", "fault"),
    [
        ("<strong>?@fig-roc</strong>", "the reference or citation ?@fig-roc is not resolved"),
        ("<b><strong>nobody2020?</strong></b>", "the reference or citation nobody2020? is not resolved"),
        ('<img src="b.png" alt="B">', "b.png is not there"),
        ('<a href="b.html#x">b</a>', "b.html#x is not there"),
        ('<i id="there">', "the id there is given more than once"),
        ('<a href="part/index.html#no">b</a>', "part/index.html#no leads to no place of that page"),
        ('<img src="a.png" alt=" ">', "the picture a.png has no words for who cannot see it (alt)"),
        ('<img src="none.png" alt="A">', "the picture none.png is empty"),
        ('<img src="torn.png" alt="A">', "the picture torn.png cannot be read"),
        ('<img src="blank.png" alt="A">', "the picture blank.png is of one colour: nothing was drawn"),
        ('<img src="void.svg" alt="A">', "the picture void.svg shows nothing"),
        ('<img src="data:image/png;base64," alt="A">', "the picture data:image/png;base64, is empty"),
        (
            "<p>Traceback (most recent call last)</p>",
            "shows a traceback: 'Traceback (most recent call last)'",
        ),
        ("<pre>a\n 40%|##   | 2/5 [00:01]</pre>", "shows a progress bar: '40%|##   | 2/5 [00:01]'"),
        ("<pre>\nlib/a.py:3: UserWarning: old\n</pre>", "shows a warning: 'lib/a.py:3: UserWarning: old'"),
        ("<p>::: {.callout}</p>", "shows Markdown that was not understood: '::: {.callout}'"),
        ('<script src="https://cdn.org/r.js"></script>', "fetches https://cdn.org/r.js from the net"),
        ('<script src="//cdn.org/r.js"></script>', "fetches //cdn.org/r.js from the net"),
        ('<link rel="stylesheet" href="http://a.org/a.css">', "fetches http://a.org/a.css from the net"),
        ("<style>@import 'https://a.org/f.css';</style>", "fetches https://a.org/f.css from the net"),
        ('<p style="background: url(https://a.org/b.png)">', "fetches https://a.org/b.png from the net"),
        ("<pre>/srv/me/book/a.csv</pre>", "shows the folder /srv/me of this machine"),
        ('<div data-notebook="a.ipynb"></div>', "names the notebook it was made from (data-notebook)"),
    ],
)
def test_each_fault_is_one_sentence(rendered, added, fault):
    assert site.faults(rendered(added), [("/srv/me", "~")]) == [f"index.html: {fault}"]


def test_style_sheets_and_the_search_index_are_searched_too(rendered):
    folder = rendered(style='@import url("https://fonts.org/lato"); a { background: url(x.png) }')
    (folder / "search.json").write_text('[{"text": "in /srv/me"}]')
    assert site.faults(folder, [("/srv/me", "~")]) == [
        "a.css: fetches https://fonts.org/lato from the net",
        "search.json: shows the folder /srv/me of this machine",
    ]


def test_a_drawing_loses_the_white_behind_it_and_nothing_else(tmp_path):
    figure, axes = plt.subplots(1, 2, figsize=(3, 2))
    axes[0].bar([0, 1], [1, 2], color=["white", "tab:blue"], edgecolor="black")
    figure.savefig(tmp_path / "a.svg")
    plt.close(figure)
    before = (tmp_path / "a.svg").read_text()
    after = site.on_the_page(before)
    assert before.count("fill: #ffffff") - after.count("fill: #ffffff") == 3, (
        "of the figure and its axes, not of a bar"
    )
    assert after.replace("fill: none", "").count("<path") == before.count("<path")
    assert "fill: #1f77b4" in after


PLACE = "notebooks/spacrd/demo/4-evaluate.ipynb"
BIB = (
    "@article{a2021,\n  title = {{HER2} tumours},\n  author = {Ander, A. and Bo, B.},\n  year = {2021},\n"
    "  doi = {10.1/x}\n}\n"
)
PAGES = {
    "index.qmd": "---\ntoc: false\n---\n# Book {.unnumbered}\n\nBy [@a2021] and @a2021. See [there](book/c.qmd#what-it-is-worth), "
    "@tbl-c and `[@a2021]`.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n: A table of two. {.hover}\n\n"
    "After.\n",
    "notebooks/spacrd/index.qmd": '# Part\n\n![[A](../../index.qmd) *way*.](../../book/a.svg){#fig-way fig-alt="A way." narrow="../../index/a.svg"}\n',
    "book/references.qmd": "# References {.unnumbered}\n\n::: {#refs}\n:::\n",
    "book/c.qmd": "# Beyond {#sec-be-yond}\n\n## What it is worth?\n\n## Twice\n\n## Twice\n\n::: {.printed}\n\n| a |\n|---|\n| 1 |\n\n"
    ": *Two*. {#tbl-c}\n\n:::\n",
    "a.bib": BIB,
    "book/a.svg": SVG.format("<path d='M0 0'/>"),
}


def chapter():
    picture = new_output("display_data", data={"image/png": INSIDE[22:], "text/plain": "<Figure>"})
    table = new_output(
        "display_data",
        data={"text/markdown": "| model | auc |\n|---|---|\n| a<b | 0.5 |\n\n: AUC. {#tbl-auc}"},
    )
    printed = new_output("stream", name="stdout", text="5 < 6 sections\n")
    plain = new_output("execute_result", data={"text/plain": "   a\n0  1"}, execution_count=5)
    sources = {
        "seed = 7": [],
        "# Parameters\nseed = 8": [],
        "#| label: fig-roc\n#| fig-cap: 'The *curve*.'\nplot(seed)": [picture],
        "show()": [table, printed, plain],
    }
    cells = [new_code_cell(source, outputs=outputs, execution_count=1) for source, outputs in sources.items()]
    cells[0].metadata["tags"], cells[1].metadata["tags"] = ["parameters"], ["injected-parameters"]
    title = "# Evaluate\n\nAs @fig-roc and @tbl-auc show.\n\n$$a_1 * b_2 * c$$"
    notebook = new_notebook(cells=[new_markdown_cell(title), *cells])
    return cleaned(notebook, Chapter(PLACE, "spacrd", "demo", "4-evaluate"), "phantom")


@pytest.fixture(scope="module")
def pages(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("laid")
    part = {"part": "notebooks/spacrd/index.qmd", "chapters": [PLACE]}
    book = {
        "title": "T",
        "chapters": ["index.qmd", part, "book/references.qmd"],
        "appendices": ["book/c.qmd"],
    }
    template = (root / "book/preview.html.j2").read_text(encoding="utf-8")
    texts = PAGES | {"_quarto.yml": yaml.safe_dump({"bibliography": "a.bib", "book": book})}
    texts["index.qmd"] += "\n![A picture beside the first page.](index/a.svg)\n"
    for name, text in (
        texts | {"book/preview.html.j2": template, "index/a.svg": "<svg><path/></svg>"}
    ).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / PLACE).parent.mkdir()
    nbformat.write(chapter(), folder / PLACE)
    made = site.preview(folder)
    assert site.faults(made, []) == [], "whole, and fetches nothing"
    return {path.relative_to(made).as_posix(): path.read_text() for path in made.rglob("*.html")}


def test_every_page_says_that_it_is_a_preview_and_lists_the_chapters(pages):
    assert set(pages) == {"index.html", "book/references.html", "book/c.html"} | {
        "notebooks/spacrd/index.html",
        "notebooks/spacrd/demo/4-evaluate.html",
    }
    for name, text in pages.items():
        assert "Preview, made without Quarto" in text, name
        assert len(re.findall(r"<li class=", text)) == 5, name
        assert "Evaluate: Demo (phantom)" in text, name
        assert "<script" not in text, name


def test_notebook_pages_keep_numbers_captions_and_notice(pages):
    text = pages["notebooks/spacrd/demo/4-evaluate.html"]
    body = text[text.index("<main>") :]
    assert "data-number" not in body, "a number would hang on what was run"
    assert "This page shows a phantom cohort" in body
    assert ":::" not in body
    assert "#|" not in body
    assert INSIDE in body
    assert 'alt="The curve."' in body
    assert '<a href="4-evaluate.html#fig-roc-spacrd-demo">Figure 1</a>' in body
    assert "a_1 * b_2 * c" in body, "formulas are not read as emphasis"
    figure = re.search(r'<figure id="fig-roc-spacrd-demo">(.*?)</figure>', body, re.DOTALL)[1]
    assert figure.index("<img") < figure.index("<strong>Figure 1.</strong> The <em>curve</em>.")
    assert '<span id="tbl-auc-spacrd-demo"></span><strong>Table 1.</strong> <em>AUC.</em>' in body


def test_code_is_folded_and_parameters_are_shown_once(pages):
    body = pages["notebooks/spacrd/demo/4-evaluate.html"]
    assert "5 &lt; 6 sections" in body
    assert ">   a\n0  1<" in body
    assert body.count("<summary>Code</summary>") == 2
    given = body[body.index("Parameters of this run") :]
    assert re.search(r"seed.*?8", given[:600], re.DOTALL)
    assert not re.search(r"seed(<[^>]*>|\s|=)*7", body)


def test_markdown_beyond_the_common_is_put_plainly(pages):
    front = pages["index.html"]
    assert "toc: false" not in front
    assert ">Book</h1>" in front
    assert "By (Ander et al. 2021) and Ander et al. 2021." in front
    assert "<code>[@a2021]</code>" in front, "code is left alone"
    assert '<a href="book/c.html#what-it-is-worth">' in front
    assert '<a href="book/c.html#tbl-c">Table 1</a>' in front
    assert "<em>A table of two.</em>" in front
    part = pages["notebooks/spacrd/index.html"]
    assert '<span id="fig-way"></span><picture>' in part
    assert 'srcset="../../index/a.svg"><img src="../../book/a.svg" alt="A way."' in part
    assert "HER2 tumours" in pages["book/references.html"]
    assert "https://doi.org/10.1/x" in pages["book/references.html"]
    appendix = pages["book/c.html"]
    assert '<h1 data-number="A"' in appendix
    assert '<h2 id="what-it-is-worth">' in appendix
    assert [f'id="twice{end}"' in appendix for end in ("", "-1")] == [True, True]


def test_quarto_is_found_beside_python_or_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    assert site.find_quarto() is None
    for folder, answer, found in (
        ("bin", "exit 1", None),
        ("bin", "echo 1.0", "1.0"),
        ("venv", "echo 2.0", "2.0"),
    ):
        program = tmp_path / folder / "quarto"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{answer}\n")
        program.chmod(0o755)
        assert site.find_quarto() == (found and (str(program), found))


QUARTO = """#!{python}
import json, sys
from pathlib import Path
part, log = Path(sys.argv[2]), Path(sys.argv[4])
root = next(folder for folder in part.parents if (folder / "_quarto.yml").is_file())
pages = [part] if part.is_file() else sorted(part.rglob("*.qmd"))
made, index = root / "_book", root / "_book" / "search.json"
entries = json.loads(index.read_text()) if index.is_file() else []
for page in pages:
    place = page.relative_to(root).with_suffix(".html")
    (made / place).parent.mkdir(parents=True, exist_ok=True)
    there = len(list(made.rglob("*.html")))
    (made / place).write_text(f"{{page.read_text()}} after {{there}}")
    entries.append({{"objectID": str(place)}})
index.write_text(json.dumps(entries))
if not (made / "index.html").is_file():
    (made / "index.html").write_text("->")
log.write_text(json.dumps({{"msg": f"looked at {{len(pages)}} in {{part.name}}", "levelName": "WARN"}}))
"""


def test_quarto_renders_folders_side_by_side_and_what_needs_all_of_them_last(tmp_path):
    program, folder = tmp_path / "quarto", tmp_path / "book"
    program.write_text(QUARTO.format(python=sys.executable))
    program.chmod(0o755)
    pages = ["index.qmd", "book/a.qmd", "book/results/b.qmd", "book/refs.qmd"]
    pages += [f"notebooks/{study}/demo/{number}.qmd" for study in ("one", "two") for number in (1, 2, 3)]
    for page in pages:
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / page).write_text("::: {#refs}" if page == "book/refs.qmd" else page)
    (folder / "_quarto.yml").write_text(yaml.safe_dump({"book": {"chapters": pages}}))
    made, found = site.quarto(str(program), folder, tmp_path / "quarto.log")
    entries = {entry["objectID"] for entry in json.loads((made / "search.json").read_text())}
    assert entries == {page.replace(".qmd", ".html") for page in pages}
    assert {str(path.relative_to(made)) for path in made.rglob("*.html")} == entries
    assert (made / "index.html").read_text().startswith("index.qmd")  # no way to another page
    assert (made / "book/refs.html").read_text() == f"::: {{#refs}} after {len(pages)}"
    assert sorted(found) == [
        f"quarto warns: looked at {n} in {name}"
        for n, name in ((1, "index.qmd"), (1, "refs.qmd"), (3, "book"), (3, "one"), (3, "two"))
    ]
    assert [path.name for path in tmp_path.glob("book*")] == ["book"]


def test_warnings_are_found_in_log_and_stderr():
    log = [
        {"msg": "[1/2] index.qmd", "levelName": "INFO"},
        {"msg": "Unable to resolve crossref @fig-x\n", "levelName": "WARN"},
        {"msg": "Shortcode 'embed' not found", "levelName": "INFO"},
    ]
    stderr = "Output created\n[WARNING] Citeproc: citation nobody not found\n"
    assert site.complaints("\n\n".join(map(json.dumps, log)), stderr) == [
        "quarto warns: Unable to resolve crossref @fig-x",
        "quarto warns: Shortcode 'embed' not found",
        "pandoc warns: [WARNING] Citeproc: citation nobody not found",
    ]
