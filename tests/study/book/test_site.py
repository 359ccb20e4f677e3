"""A rendered site is searched for what exit code 0 hides; each fault is planted once."""

import base64
import io

import pytest
from PIL import Image

from lib.study.book.site import faults


def png(*colours):
    kept = io.BytesIO()
    picture = Image.new("RGB", (len(colours), 1))
    picture.putdata(colours)
    picture.save(kept, "PNG")
    return kept.getvalue()


GOOD, BLANK = png((0, 0, 0), (255, 255, 255)), png((255, 255, 255), (255, 255, 255))
INSIDE = "data:image/png;base64," + base64.b64encode(GOOD).decode()
WHOLE = (
    '<html><head><link rel="stylesheet" href="a.css"><script src="a.js"></script>'
    '<link rel="canonical" href="https://example.org"></head><body><p>As Figure 1 shows.</p>'
    f'<img src="a.png" alt="A"><img src="{INSIDE}" alt="B"><a href="https://example.org">out</a>'
    '<a href="#there">here</a><a href="part/#within">part</a><a href="#">top</a><p id="there">'
    "<strong>Is it so?</strong> <strong>90 %?</strong></p><pre>class <code>a ::: b</code></pre>"
    '<link id="there" rel="canonical"><script id="there">var x = "?@fig-none";</script></body></html>'
)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "a.css").write_text("body { color: red }")
    (tmp_path / "a.js").write_text("x")
    (tmp_path / "part/index.html").write_text("<p id='within'>x</p>")
    svg = '<svg xmlns="http://www.w3.org/2000/svg">{}</svg>'
    pictures = {"a.png": GOOD, "blank.png": BLANK, "none.png": b"", "torn.png": GOOD[:40]}
    pictures |= {"full.svg": svg.format("<path d='M0 0'/>").encode(), "void.svg": svg.format("").encode()}
    for name, content in pictures.items():
        (tmp_path / name).write_bytes(content)

    def made(added="", style=None):
        (tmp_path / "index.html").write_text(WHOLE.replace("</body>", f"{added}</body>"))
        if style:
            (tmp_path / "a.css").write_text(style)
        return tmp_path

    return made


def test_a_whole_site_has_no_faults(site):
    assert faults(site(), [("/srv/me", "~")]) == []


@pytest.mark.parametrize(
    ("added", "fault"),
    [
        ("<strong>?@fig-roc</strong>", "index.html: the reference ?@fig-roc is not resolved"),
        ("?@nobody2020", "index.html: the reference ?@nobody2020 is not resolved"),
        ("?tbl-auc", "index.html: the reference ?tbl-auc is not resolved"),
        ('<img src="b.png" alt="B">', "index.html: b.png is not there"),
        (
            '<span class="citation"><strong>nobody2020?</strong></span>',
            "index.html: the citation or reference nobody2020? is not resolved",
        ),
        ("<strong>?nobody</strong>", "index.html: the citation or reference ?nobody is not resolved"),
        ('<i id="there">', "index.html: the id there is given 2 times"),
        ('<a href="#nowhere">b</a>', "index.html: #nowhere leads to no place of that page"),
        (
            '<a href="part/index.html#no">b</a>',
            "index.html: part/index.html#no leads to no place of that page",
        ),
        ('<img src="a.png">', "index.html: the picture a.png has no words for who cannot see it (alt)"),
        (
            '<img src="a.png" alt=" ">',
            "index.html: the picture a.png has no words for who cannot see it (alt)",
        ),
        ('<img src="a.png" alt="A" width="0">', "index.html: the picture a.png is shown with no size"),
        ('<img src="none.png" alt="A">', "index.html: the picture none.png is empty"),
        ('<img src="torn.png" alt="A">', "index.html: the picture torn.png cannot be read"),
        (
            '<img src="blank.png" alt="A">',
            "index.html: the picture blank.png is of one colour: nothing was drawn",
        ),
        ('<img src="void.svg" alt="A">', "index.html: the picture void.svg shows nothing"),
        (
            '<img src="data:image/png;base64," alt="A">',
            "index.html: the picture data:image/png;base64, is empty",
        ),
        (
            "<pre>Traceback (most recent call last):\n  x</pre>",
            "index.html: shows a traceback: 'Traceback (most recent call last):'",
        ),
        (
            "<pre>a\n 40%|####      | 2/5 [00:01]</pre>",
            "index.html: shows a progress bar: '40%|####      | 2/5 [00:01]'",
        ),
        (
            "<pre>\nlib/a.py:3: UserWarning: old\n</pre>",
            "index.html: shows a warning: 'lib/a.py:3: UserWarning: old'",
        ),
        ("<pre>\x1b[31mred</pre>", "index.html: shows terminal colours: '\x1b[31mred'"),
        ("<p>::: {.callout}</p>", "index.html: shows Markdown that was not understood: '::: {.callout}'"),
        (
            "<p>{{&lt; embed a.ipynb &gt;}}</p>",
            "index.html: shows Markdown that was not understood: '{{< embed a.ipynb >}}'",
        ),
        ('<a href="b.html#x">b</a>', "index.html: b.html#x is not there"),
        (
            '<script src="https://cdn.org/r.js"></script>',
            "index.html: fetches https://cdn.org/r.js from the net",
        ),
        ('<script src="//cdn.org/r.js"></script>', "index.html: fetches //cdn.org/r.js from the net"),
        (
            '<link rel="stylesheet" href="http://a.org/a.css">',
            "index.html: fetches http://a.org/a.css from the net",
        ),
        ('<iframe src="https://a.org/"></iframe>', "index.html: fetches https://a.org/ from the net"),
        (
            "<style>@import 'https://a.org/f.css';</style>",
            "index.html: fetches https://a.org/f.css from the net",
        ),
        (
            '<p style="background: url(https://a.org/b.png)">',
            "index.html: fetches https://a.org/b.png from the net",
        ),
        ("<pre>/srv/me/book/a.csv</pre>", "index.html: shows the folder /srv/me of this machine"),
        (
            '<div data-notebook="a.ipynb"></div>',
            "index.html: names the notebook it was made from (data-notebook)",
        ),
    ],
)
def test_each_fault_is_one_sentence(site, added, fault):
    assert faults(site(added), [("/srv/me", "~")]) == [fault]


def test_a_drawing_is_no_fault(site):
    assert faults(site('<img src="full.svg" alt="A">'), []) == []


def test_style_sheets_and_the_search_index_are_searched_too(site):
    folder = site(style='@import url("https://fonts.org/lato"); a { background: url(x.png) }')
    (folder / "search.json").write_text('[{"text": "in /srv/me"}]')
    assert faults(folder, [("/srv/me", "~")]) == [
        "a.css: fetches https://fonts.org/lato from the net",
        "search.json: shows the folder /srv/me of this machine",
    ]


def test_a_sibling_folder_is_no_leak(site):
    assert faults(site("<pre>/srv/me2/x and /usr/srv/men</pre>"), [("/srv/me", "~")]) == []


def test_a_site_needs_a_front_page(tmp_path):
    assert faults(tmp_path, []) == ["the site has no index.html"]
