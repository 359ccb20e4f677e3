"""A rendered site is searched for what exit code 0 hides; each fault is planted once."""

import pytest

from lib.study.book.site import faults

WHOLE = (
    '<html><head><link rel="stylesheet" href="a.css"><script src="a.js"></script>'
    '<link rel="canonical" href="https://example.org"></head><body><p>As Figure 1 shows.</p>'
    '<img src="a.png"><img src="data:image/png;base64,AA=="><a href="https://example.org">out</a>'
    '<a href="#there">here</a><a href="part/">part</a><script>var x = "?@fig-none";</script></body></html>'
)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "part").mkdir()
    for name in ("a.css", "a.js", "a.png", "part/index.html"):
        (tmp_path / name).write_text("body { color: red }" if name == "a.css" else "x")

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
        ('<img src="b.png">', "index.html: b.png is not there"),
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
