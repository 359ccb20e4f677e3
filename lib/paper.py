"""The results chapters as one PDF, which a Chromium prints from the rendered book: `make pdf`, `python -m lib.paper`."""

import argparse
import os
import posixpath
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag

from lib.files import written
from lib.site import places, read_contents

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
ON_PAPER = ("index.qmd", "book/results/")  # a page, and a folder of pages


def find_browser() -> str | None:
    """A Chromium on the PATH, by whatever name."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def chapters_on_paper(contents: dict) -> list[str]:
    """Addresses in the site of the pages to print, in the book's order."""
    kept = [place for _, place in places(contents) if place.startswith(ON_PAPER)]
    return [str(PurePosixPath(place).with_suffix(".html")) for place in kept]


def joined(site: Path, pages: Sequence[str]) -> str:
    """One page, for the site's own folder, of the text of several; links lead within it, and those to other pages become words.

    Pages that the site lacks are left out; FileNotFoundError where it lacks them all.
    """
    pages = [page for page in pages if (site / page).is_file()]
    if not pages:
        raise FileNotFoundError(f"{site.name} holds none of the pages to print: `make book` first.")
    read = {page: BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser") for page in pages}
    whole = read[pages[0]]
    for script in whole(["script", "nav"]):
        script.decompose()
    texts = [_on_paper(soup.find("main"), page, pages) for page, soup in read.items()]
    whole.body.clear()
    whole.body["class"] = "paper"
    whole.body.extend(texts)
    # the style sheets of the first page count from its folder
    for link in whole.head.find_all("link", href=True):
        link["href"] = _from_root(link["href"], pages[0])
    return str(whole)


def _on_paper(text: Tag, page: str, pages: Sequence[str]) -> Tag:
    """The text of a page, with its places named by the page and its addresses counted from the site's folder."""
    for script in text(["script", "style"]):
        script.decompose()
    for tag in text.find_all(id=True):
        tag["id"] = f"{pages.index(page)}-{tag['id']}"
    text["id"] = f"{pages.index(page)}-"
    for tag in text.find_all(src=True):
        tag["src"] = _from_root(tag["src"], page)
    for link in text.find_all("a", href=True):
        address = urlsplit(link["href"])
        there = _from_root(address.path, page) if address.path else page
        if address.scheme or address.netloc:
            continue
        if there in pages:
            link["href"] = f"#{pages.index(there)}-{address.fragment}"
        else:
            del link["href"]
    return text


def _from_root(address: str, page: str) -> str:
    there = posixpath.normpath(posixpath.join(posixpath.dirname(page), address))
    return address if urlsplit(address).scheme else there


def make_pdf(root: Path) -> Path:
    """Print the results chapters of ``_book/`` to ``_book/crossbook.pdf``.

    FileNotFoundError without a book or a browser, RuntimeError where the browser prints nothing.
    """
    site = Path(root).resolve() / "_book"
    text, browser = joined(site, chapters_on_paper(read_contents(root))), find_browser()
    if browser is None:
        raise FileNotFoundError(
            "no Chromium was found, which prints the PDF (Debian: apt install chromium); or open a page of _book/ in any browser "
            "and print it: the pages have a style for paper"
        )
    page, made = site / "paper.html", site / "crossbook.pdf"
    page.write_text(text, encoding="utf-8")
    try:
        with written(made) as part:
            options = ["--headless", "--disable-gpu", "--no-pdf-header-footer", f"--print-to-pdf={part}"]
            if getattr(os, "geteuid", os.getpid)() == 0:  # root has no sandbox
                options.append("--no-sandbox")
            command = [browser, *options, page.as_uri()]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if not Path(part).is_file():
                raise RuntimeError(f"{browser} printed nothing: {done.stderr.strip()[-300:]}")
    finally:
        page.unlink()
    return made


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.paper", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's folder")
    try:
        made = make_pdf(parser.parse_args(arguments).root)
    except (FileNotFoundError, RuntimeError) as error:
        print(f"pdf: {error}", file=sys.stderr)
        return 1
    print(f"pdf: _book/{made.name}, {made.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
