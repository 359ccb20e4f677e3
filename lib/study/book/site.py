"""A rendered site, searched for what a renderer's exit code does not tell."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lib.study.book.chapters import folder_pattern

_OPEN = re.compile(r"\?@[\w-]+|\?(?:fig|tbl|lst|eq|sec)-[\w-]+", re.IGNORECASE)
_FETCHING_LINKS = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "modulepreload",
    "manifest",
    "apple-touch-icon",
}
_FROM_CSS = re.compile(
    r"@import\s+(?:url\()?['\"]?((?:https?:)?//[^'\")\s;]+)|url\(['\"]?((?:https?:)?//[^'\")\s]+)"
)


class _Page(HTMLParser):
    """Collects what a page loads by itself, what it links to, the ids it has and the text it shows."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.styles: list[str] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = {key: value or "" for key, value in attributes}
        if tag in ("style", "script"):
            self._inside.append(tag)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and _FETCHING_LINKS & set(found.get("rel", "").split()):
            self.loads.append(found.get("href", ""))
        elif tag != "a":
            self.loads += [
                found[key] for key in ("src", "data", "poster") if found.get(key) and tag != "meta"
            ]
            self.loads += [part.split()[0] for part in found.get("srcset", "").split(",") if part.split()]
        if "style" in found:
            self.styles.append(found["style"])

    def handle_endtag(self, tag):
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data):
        if self._inside:
            if self._inside[-1] == "style":
                self.styles.append(data)
        else:
            self.words.append(data)


def faults(site: Path, folders: Sequence[tuple[str, str]]) -> list[str]:
    """One sentence for each thing wrong with a rendered site.

    Searched for: references and citations left open, pictures and pages that are not there, anything
    fetched from the net when a page is opened, folders of the machine that made it.

    Parameters
    ----------
    site : Path
        The folder with ``index.html``.
    folders : sequence of (str, str)
        Folders that must not appear, from `lib.study.book.chapters.machine_folders`.

    Returns
    -------
    list of str
        Empty for a whole site.
    """
    found = []
    if not (site / "index.html").is_file():
        return ["the site has no index.html"]
    for path in sorted(site.rglob("*.html")):
        name, text = path.relative_to(site).as_posix(), path.read_text(encoding="utf-8")
        page = _Page(text)
        open_references = _OPEN.findall(" ".join(page.words))
        found += [f"{name}: the reference {reference} is not resolved" for reference in open_references]
        found += [
            f"{name}: fetches {address} from the net" for address in map(_external, page.loads) if address
        ]
        found += [
            f"{name}: fetches {address} from the net" for style in page.styles for address in _css(style)
        ]
        found += [
            f"{name}: {target} is not there"
            for target in page.loads + page.links
            if _lost(target, path, site)
        ]
        found += [
            f"{name}: shows the folder {folder} of this machine"
            for folder, _ in folders
            if _shows(text, folder)
        ]
        if "data-notebook=" in text:
            found.append(f"{name}: names the notebook it was made from (data-notebook)")
    for path in sorted(site.rglob("*.css")):
        name = path.relative_to(site).as_posix()
        found += [
            f"{name}: fetches {address} from the net" for address in _css(path.read_text(encoding="utf-8"))
        ]
    for path in sorted(site.glob("*.json")):
        text = path.read_text(encoding="utf-8")
        found += [
            f"{path.name}: shows the folder {folder} of this machine"
            for folder, _ in folders
            if _shows(text, folder)
        ]
    return list(dict.fromkeys(found))


def _external(target: str) -> str | None:
    return target if re.match(r"(https?:)?//", target) else None


def _css(text: str) -> list[str]:
    return [one or other for one, other in _FROM_CSS.findall(text)]


def _lost(target: str, page: Path, site: Path) -> bool:
    address = urlsplit(target)
    if address.scheme or address.netloc or not address.path:
        return False
    path = unquote(address.path)
    there = (site / path.lstrip("/")) if path.startswith("/") else (page.parent / path)
    return not (there.is_file() or (there / "index.html").is_file())


def _shows(text: str, folder: str) -> bool:
    return folder_pattern(folder).search(text) is not None
