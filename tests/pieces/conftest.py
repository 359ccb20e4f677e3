"""A browser for the tests of this room, and small pages for it to open."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from browser import PROGRAM, Browser

STYLE = "body { margin: 0; width: 95vw } .is-live img { display: none } .view { height: 300px; width: 300px } .hit { height: 50px }"
PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><link rel="icon" href="data:,"><style>{}</style></head>
<body><main>{}</main>{}</body></html>"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless chromium; the test is skipped where there is none."""
    if PROGRAM is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    started = Browser()
    yield started
    started.close()


@pytest.fixture
def made(tmp_path, root, browser) -> Callable:
    """Open a page that holds some HTML and the scripts of a kind of piece, from a disk, as a reader may."""

    def opened(inside: str, *kinds: str, width: int = 1400):
        shutil.copytree(root / "book/pieces", tmp_path / "pieces", dirs_exist_ok=True)
        scripts = "".join(f'<script src="pieces/{name}.js"></script>' for name in ("piece", *kinds))
        (tmp_path / "page.html").write_text(PAGE.format(STYLE, inside, scripts), encoding="utf-8")
        return browser.page.open(tmp_path / "page.html", width)

    return opened


@pytest.fixture
def piece(made, tmp_path) -> Callable:
    """Open a page with one piece of a kind, its data and a still picture; `first` are scripts before it."""
    from PIL import Image

    def opened(kind: str, data: dict, *first: str, attributes: str = ""):
        Image.linear_gradient("L").convert("RGB").resize((400, 200)).save(tmp_path / "still.png")
        inside = f'<script type="application/json">{json.dumps(data)}</script>'
        still = (
            '<figure><img class="figure-img" src="still.png" alt="still"><figcaption>A</figcaption></figure>'
        )
        div = f'<div class="piece" data-piece="{kind}" {attributes}>{still}{inside}</div>'
        return made(div, *first, kind)

    return opened


@pytest.fixture(autouse=True)
def nothing_leaves_the_page_and_nothing_complains(request) -> Iterator[None]:
    """After every test with a browser: all that was asked for lies on this disk, and the console is silent."""
    yield
    if "browser" in request.fixturenames:
        page = request.getfixturevalue("browser").page
        outside = [address for address in page.requests if not address.startswith(("file:", "data:"))]
        assert (outside, page.errors) == ([], [])
