"""A rendered site, searched for what a renderer's exit code does not tell."""

import re
from base64 import b64decode
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lib.study.book.chapters import folder_pattern
from lib.study.book.pictures import fault_of

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
# what a program prints while it works or fails; no reader wants it
_NOISE = {
    "a traceback": re.compile(r"Traceback \(most recent call last\)"),
    "a progress bar": re.compile(r"\d+%\|[^|\n]*\||\d(?:it/s|s/it)\b"),
    "a warning": re.compile(r"^\S+\.py:\d+: \w*Warning\b|^\w*Warning: ", re.MULTILINE),
    "terminal colours": re.compile(r"\x1b\[|␛\["),
}
# Markdown that was not understood
_RAW = re.compile(r"^\s*:::+.*$|\{\{<.*|\{#[\w-]+[^}]*\}", re.MULTILINE)
_BLOCKS = {"p", "pre", "div", "li", "td", "th", "dd", "dt", "h1", "h2", "h3", "figcaption", "section"}
_NO_BODY = {"link", "meta", "script", "style", "title"}


class _Page(HTMLParser):
    """Collects what a page loads by itself, what it links to, its ids and pictures, and the text it shows."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.styles: list[str] = []
        self.words: list[str] = []
        self.prose: list[str] = []
        self.ids: list[str] = []
        self.pictures: list[dict[str, str]] = []
        self.missing: list[str] = []
        self._inside: list[str] = []
        self._code = 0
        self._bold: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = {key: value or "" for key, value in attributes}
        if tag in ("style", "script"):
            self._inside.append(tag)
        self._code += tag in ("pre", "code")
        if tag in _BLOCKS:
            self.words.append("\n")
            self.prose.append("\n")
        if tag == "strong":
            self._bold = []
        if "id" in found and tag not in _NO_BODY:
            self.ids.append(found["id"])
        if tag == "img":
            self.pictures.append(found)
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

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()
        self._code -= tag in ("pre", "code")
        if tag == "strong" and self._bold is not None:
            # pandoc prints a key it does not know as "key?", Quarto a label as "?key", both in bold
            bold = "".join(self._bold).strip()
            if re.fullmatch(r"\?[A-Za-z][\w:.-]*|[A-Za-z][\w:.-]*\d{2,}[\w-]*\?", bold):
                self.missing.append(bold)
            self._bold = None

    def handle_data(self, data):
        if self._inside:
            if self._inside[-1] == "style":
                self.styles.append(data)
            return
        self.words.append(data)
        if self._bold is not None:
            self._bold.append(data)
        if not self._code:
            self.prose.append(data)


def faults(site: Path, folders: Sequence[tuple[str, str]]) -> list[str]:
    """One sentence for each thing wrong with a rendered site.

    Searched for: references and citations left open; pictures, pages and places of pages that are not
    there; pictures that are empty or have no words for who cannot see them; ids given twice; tracebacks,
    progress bars and warnings; Markdown that was not understood; anything fetched from the net when a page
    is opened; folders of the machine that made it.

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
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))}
    pages = {path: _Page(text) for path, text in texts.items()}
    ids = {path.resolve(): set(page.ids) for path, page in pages.items()}
    for path, page in pages.items():
        name, text = path.relative_to(site).as_posix(), texts[path]
        said = [
            f"the reference {reference} is not resolved" for reference in _OPEN.findall("".join(page.words))
        ]
        said += [
            f"the citation or reference {key} is not resolved"
            for key in page.missing
            if not _OPEN.search(key)
        ]
        said += [f"the id {label} is given {n} times" for label, n in Counter(page.ids).items() if n > 1]
        said += [f"fetches {address} from the net" for address in map(_external, page.loads) if address]
        said += [f"fetches {address} from the net" for style in page.styles for address in _css(style)]
        said += [f"{target} is not there" for target in page.loads + page.links if _lost(target, path, site)]
        said += [
            f"{target} leads to no place of that page"
            for target in page.links
            if _astray(target, path, site, ids)
        ]
        said += [fault for picture in page.pictures if (fault := _picture(picture, path, site))]
        said += _noise("".join(page.words), "".join(page.prose))
        said += [
            f"shows the folder {folder} of this machine" for folder, _ in folders if _shows(text, folder)
        ]
        if "data-notebook=" in text:
            said.append("names the notebook it was made from (data-notebook)")
        found += [f"{name}: {fault}" for fault in said]
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


def _file(target: str, page: Path, site: Path) -> Path | None:
    """The file of the site that an address means; None for addresses elsewhere, pictures inside pages, mail."""
    address = urlsplit(target)
    if address.scheme or address.netloc:
        return None
    path = unquote(address.path)
    there = page if not path else (site / path.lstrip("/")) if path.startswith("/") else (page.parent / path)
    return there / "index.html" if there.is_dir() else there


def _lost(target: str, page: Path, site: Path) -> bool:
    there = _file(target, page, site)
    return there is not None and not there.is_file()


def _astray(target: str, page: Path, site: Path, ids: dict[Path, set[str]]) -> bool:
    """Whether a link names a place that its page does not have."""
    there, place = _file(target, page, site), unquote(urlsplit(target).fragment)
    if there is None or not place or there.resolve() not in ids:
        return False
    return place not in ids[there.resolve()]


def _picture(picture: dict[str, str], page: Path, site: Path) -> str | None:
    """What is wrong with a picture."""
    source = picture.get("src", "")
    name = source if len(source) < 80 else f"{source[:40]}..."
    if not picture.get("alt", "").strip() and picture.get("aria-hidden") != "true":
        return f"the picture {name} has no words for who cannot see it (alt)"
    if "0" in (picture.get("width"), picture.get("height")):
        return f"the picture {name} is shown with no size"
    if source.startswith("data:"):
        head, _, content = source.partition(",")
        fault = fault_of(b64decode(content) if head.endswith(";base64") else unquote(content).encode())
    else:
        there = _file(source, page, site)
        fault = fault_of(there.read_bytes()) if there is not None and there.is_file() else None
    return f"the picture {name} {fault}" if fault else None


def _noise(words: str, prose: str) -> list[str]:
    found = [
        f"shows {what}: '{_line(words, match)}'"
        for what, find in _NOISE.items()
        if (match := find.search(words))
    ]
    if match := _RAW.search(prose):
        found.append(f"shows Markdown that was not understood: '{match[0].strip()[:60]}'")
    return found


def _line(text: str, match: re.Match) -> str:
    start = text.rfind("\n", 0, match.start()) + 1
    return text[start:].split("\n", 1)[0].strip()[:60]


def _shows(text: str, folder: str) -> bool:
    return folder_pattern(folder).search(text) is not None
