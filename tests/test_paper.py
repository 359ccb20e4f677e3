"""The results chapters become one page, and one PDF where there is a Chromium."""

import re

import pytest
import yaml
from bs4 import BeautifulSoup

from lib import paper

PAGE = """<html><head><link rel="stylesheet" href="{up}site_libs/a.css"><script src="{up}a.js"></script></head><body><nav>menu</nav>
<main class="content" id="quarto-document-content"><h1>{title}</h1><p id="fig-a">A <a href="{link}">link</a>,
<a href="https://doi.org/1">out</a> and <a href="#fig-a">here</a>.</p><img src="{up}a.png" alt="A"><img src="data:image/png;base64,A" alt="B">
<script type="application/json">{{}}</script></main></body></html>"""


@pytest.fixture
def book(tmp_path):
    """A rendered book with a home, two chapters of results and one that is not printed."""
    listed = [
        "index.qmd",
        {"part": "p.qmd", "chapters": ["book/results/a.qmd", "book/results/b.qmd"]},
        "book/c.qmd",
    ]
    (tmp_path / "_quarto.yml").write_text(yaml.safe_dump({"book": {"chapters": listed}}))
    links = {
        "index": "book/results/a.html#fig-a",
        "book/results/a": "../c.html",
        "book/results/b": "a.html#fig-a",
        "book/c": "#",
    }
    for place, link in links.items():
        page = tmp_path / "_book" / f"{place}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(PAGE.format(up="../" * place.count("/"), title=f"Title of {place}", link=link))
    (tmp_path / "_book/a.png").write_bytes(b"")
    return tmp_path


def test_chapters_are_joined_in_order_and_lead_to_one_another(book):
    pages = paper.chapters_on_paper(yaml.safe_load((book / "_quarto.yml").read_text()))
    assert pages == ["index.html", "book/results/a.html", "book/results/b.html"]
    made = BeautifulSoup(paper.joined(book / "_book", pages), "html.parser")
    assert [title.text for title in made("h1")] == [f"Title of {page[:-5]}" for page in pages]
    assert (made("script"), made("nav")) == ([], [])
    assert made.find("link")["href"] == "site_libs/a.css"
    assert [picture["src"] for picture in made("img")] == ["a.png", "data:image/png;base64,A"] * 3
    links = [link.get("href") for link in made("a")]
    assert links[::3] == ["#1-fig-a", None, "#1-fig-a"], "to a page that is not printed there is no link"
    assert set(links[1::3]) == {"https://doi.org/1"}
    assert links[2::3] == ["#0-fig-a", "#1-fig-a", "#2-fig-a"]
    ids = [tag["id"] for tag in made.find_all(id=True)]
    assert len(set(ids)) == len(ids)
    assert {link[1:] for link in links if link and link.startswith("#")} <= set(ids)


def test_what_is_missing_is_named(book, monkeypatch, capsys):
    monkeypatch.setattr(paper, "find_browser", lambda: None)
    assert paper.main(["--root", str(book)]) == 1
    assert "no Chromium was found" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="make book"):
        paper.joined(book, ["index.html"])


@pytest.mark.skipif(paper.find_browser() is None, reason="no chromium on this machine")
def test_a_browser_prints_every_chapter(book, capsys):
    (book / "_book/site_libs").mkdir()
    (book / "_book/site_libs/a.css").write_text("main + main { break-before: page; }")
    assert paper.main(["--root", str(book)]) == 0, capsys.readouterr().err
    made = (book / "_book/crossbook.pdf").read_bytes()
    assert made.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", made)) == 3
    assert not (book / "_book/paper.html").exists()
