"""Pages and the site made of them: the labels they define, Quarto or a preview by nbconvert, a check of the result."""

import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, takewhile
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from urllib.parse import unquote, urlsplit

import nbformat
import yaml
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter, TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbformat import NotebookNode
from PIL import Image, UnidentifiedImageError

from lib.files import written

PICTURES = ("image/svg+xml", "image/png", "image/jpeg")
WORDS = {"fig": "Figure", "tbl": "Table", "sec": "Section"}
LABEL = r"(?:fig|tbl|sec)-[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
CODE = re.compile(r"(^```.*?^```[ \t]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
# a caption may hold links
FIGURE = re.compile(r"!\[((?:[^\[\]]|\[[^\[\]]*\](?:\([^()]*\))?)*)\]\(([^)\s]+)\)\{#([\w-]+)([^}]*)\}")
# what a program prints while it works or fails; no reader wants it
NOISE = {
    "a traceback": re.compile(r"Traceback \(most recent call last\)"),
    "a progress bar": re.compile(r"\d+%\|[^|\n]*\||\d(?:it/s|s/it)\b"),
    "a warning": re.compile(r"^\S+\.py:\d+: \w*Warning\b|^\w*Warning: ", re.MULTILINE),
    "terminal colours": re.compile(r"\x1b\[|␛\["),
}
BLOCKS = ["p", "pre", "div", "li", "td", "th", "dd", "dt", "h1", "h2", "h3", "figcaption", "section"]
FETCHING = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "manifest", "apple-touch-icon"}
HOW_TO_GET_QUARTO = (
    "for the whole book install Quarto (conda-forge: quarto; installer: quarto.org; `pip install quarto-cli` "
    "where GitHub can be reached) and run `make book` again"
)


def read_contents(root: Path) -> dict:
    """The repository's ``_quarto.yml``."""
    return yaml.safe_load((Path(root) / "_quarto.yml").read_text(encoding="utf-8"))


def places(contents: dict) -> Iterator[tuple[str | None, str]]:
    """Every page in order, as (page of its part or None, place)."""
    for entry in [*contents["book"]["chapters"], *contents["book"].get("appendices", [])]:
        if isinstance(entry, dict) and "part" in entry:
            yield from ((entry["part"], place) for place in [entry["part"], *entry.get("chapters", [])])
        else:  # one with a name for the sidebar is href and text
            yield None, entry["href"] if isinstance(entry, dict) else entry


def options(source: str) -> list[str]:
    """The `#|` lines a cell begins with: Quarto reads them nowhere else."""
    return list(takewhile(lambda line: line.startswith("#|"), source.splitlines()))


def given(lines: list[str]) -> dict:
    """What the `#|` lines of a cell say."""
    return yaml.safe_load("\n".join(line[2:].removeprefix(" ") for line in lines)) or {}


def text_labels(text: str) -> list[str]:
    """The cross-reference labels that a page's Markdown defines, in order; what code shows is left aside."""
    return re.findall(rf"\{{[^{{}}\n]*?#({LABEL})", CODE.sub("", text))


def labels(page: NotebookNode) -> list[str]:
    """The cross-reference labels a page defines, in order."""
    found = []
    for cell in page.cells:
        if cell.cell_type == "markdown":
            found += text_labels(cell.source)
            continue
        found += re.findall(rf"^#\| label: ({LABEL})$", "\n".join(options(cell.source)), re.MULTILINE)
        for output in cell.outputs:
            found += text_labels(output.get("data", {}).get("text/markdown", ""))
    return found


def caption_words(caption: str) -> str:
    """A caption as plain words, for who cannot see the figure."""
    words = re.sub(r"\[@[^\]]*\]|\]\([^()]*\)|[*_`\[\]]", "", caption)
    return re.sub(rf"@({LABEL})", lambda match: f"the {WORDS[match[1][:3]].lower()}", words).strip()


def seen_from(page: str, place: str) -> str:
    """Address of a place of the book, relative to a page."""
    return Path(os.path.relpath(place, Path(page).parent)).as_posix()


def on_the_page(drawing: str) -> str:
    """A drawing of matplotlib's without the white behind it, so that it stands on whatever colour the page has."""
    return re.sub(r'(<g id="patch_\d+">\s*<path d="[^"]*"\s*style="fill: )#ffffff("/>)', r"\1none\2", drawing)


def folder_pattern(folder: str) -> re.Pattern:
    """Finds a folder's path, not that of a sibling whose name only begins alike."""
    return re.compile(rf"(?<![\w.-]){re.escape(folder)}(/|(?![\w.-]))")


def find_quarto() -> tuple[str, str] | None:
    """The Quarto program beside this Python or on the PATH, and its version; None where none works."""
    where = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("quarto", path=where)
    try:
        version = program and subprocess.check_output([program, "--version"], text=True, timeout=60).strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return (program, version) if version else None


def quarto(program: str, folder: Path, log: Path) -> tuple[Path, list[str]]:
    """Render the book project in a folder: the site, and a sentence a complaint (Quarto exits with 0 in spite of them).

    Quarto renders one page after the other. So its folders, and pages in none, are rendered side by side, each processor in a
    copy of the project, and laid together: a page is the same. A reference (`@fig-x`) reaches the pages of its own folder.
    RuntimeError, with the end of what Quarto said, where it fails.
    """
    listed = [place for _, place in places(read_contents(folder))]
    last = [each for each in listed if "{#refs" in (folder / each).read_text("utf-8")]  # it needs all others
    parts = [PurePosixPath(place).parts for place in listed if place not in last]
    folders = Counter("/".join(part[: 2 if part[0] == "notebooks" else 1]) for part in parts)
    copies: SimpleQueue[Path] = SimpleQueue()
    workers = min(len(folders), os.cpu_count() or 1)
    made = [folder.with_name(f"{folder.name}-{number}") for number in range(workers)]
    for copy in made:
        shutil.rmtree(copy, ignore_errors=True)
        copies.put(shutil.copytree(folder, copy))

    def render(part: str) -> list[str]:
        copy = copies.get()
        try:
            return _rendered(program, copy / part, log.with_stem(f"{log.stem}-{PurePosixPath(part).name}"))
        finally:
            copies.put(copy)

    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(render, [part for part, _ in folders.most_common()]))
    entries = []
    # in place of a first page that it did not render Quarto writes a way to another: the true one is laid over those
    for copy in sorted(made, key=lambda copy: (copy / "_book" / "index.html").stat().st_size):
        entries += json.loads((copy / "_book" / "search.json").read_text(encoding="utf-8"))
        shutil.copytree(copy / "_book", folder / "_book", dirs_exist_ok=True)
        shutil.rmtree(copy)
    (folder / "_book" / "search.json").write_text(json.dumps(entries), encoding="utf-8")
    found += [_rendered(program, folder / page, log) for page in last]
    return folder / "_book", list(dict.fromkeys(chain.from_iterable(found)))


def _rendered(program: str, part: Path, log: Path) -> list[str]:
    """Render a page of a project, or all below a folder; the complaints."""
    log.unlink(missing_ok=True)
    # a profile of the user's would change the table of contents
    environment = {key: os.environ[key] for key in set(os.environ) - {"QUARTO_PROFILE", "QUARTO_LOG_LEVEL"}}
    command = [program, "render", str(part), "--log", str(log), "--log-format", "json-stream"]
    answer = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    if answer.returncode:
        raise RuntimeError(f"quarto exited with {answer.returncode}: {answer.stderr.strip()[-2000:]}")
    return complaints(log.read_text(encoding="utf-8"), answer.stderr)


def complaints(log: str, stderr: str) -> list[str]:
    """What Quarto (its log, one JSON object a line) and pandoc (stderr) warned of: references, citations, shortcodes."""
    found = []
    for entry in map(json.loads, filter(str.strip, log.splitlines())):
        text = " ".join(str(entry.get("msg", "")).split())
        if entry.get("levelName") in ("WARN", "WARNING", "ERROR", "CRITICAL") or "Shortcode" in text:
            found.append(f"quarto warns: {text}")
    lines = stderr.splitlines()
    found += [f"pandoc warns: {line.strip()}" for line in lines if re.search(r"\[WARNING\]|citeproc", line)]
    return list(dict.fromkeys(found))


def preview(folder: Path) -> Path:
    """Render a laid folder with nbconvert, as plain HTML pages that fetch nothing; formulas stay TeX.

    The folder holds ``_quarto.yml``, every page it names and ``book/preview.html.j2``, nbconvert's template of a page;
    the site that is returned ``index.html``, one page a chapter, pictures inside the pages.
    """
    contents, made = read_contents(folder), folder / "_book"
    listed = list(places(contents))
    notebooks = {place: _notebook(folder / place) for _, place in listed}
    heads = {place: _title(notebook) for place, notebook in notebooks.items()}
    titles = {place: caption_words(title) for place, (title, _) in heads.items()}
    numbers = _numbers(contents, {place for place, (_, given) in heads.items() if ".unnumbered" in given})
    marks = _marks(notebooks)
    bibliography = contents.get("bibliography")
    works = _works((folder / bibliography).read_text(encoding="utf-8")) if bibliography else {}
    template = {"template_name": "basic", "template_file": "preview.html.j2"}
    exporter = HTMLExporter(extra_template_paths=[str(folder / "book")], **template)
    exporter.exclude_anchor_links = True
    exporter.register_filter("highlight_code", Highlight2HTML(pygments_lexer="ipython3"))
    for place, notebook in notebooks.items():
        nav = [
            (_href(one, place), titles[one], numbers.get(one, ""), part == one, one == place)
            for part, one in listed
        ]
        words = {"book": contents["book"]["title"], "title": titles[place], "nav": nav}
        # HTMLExporter itself would parse the page once more, for alternative texts that ours has
        shown = _plain_page(notebook, place, marks, works)
        page, _ = TemplateExporter.from_notebook_node(exporter, shown, words)
        number = f'<h1 data-number="{numbers[place]}"' if place in numbers else "<h1"
        with written(made / Path(place).with_suffix(".html")) as part:
            part.write_text(_anchored(page).replace("<h1", number, 1), encoding="utf-8")
    for picture in sorted(folder.rglob("*.*")):
        if picture.suffix in (".svg", ".png", ".jpg") and made not in picture.parents:
            target = made / picture.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, target)
    return made


def _notebook(path: Path) -> NotebookNode:
    if path.suffix == ".ipynb":
        return nbformat.read(path, as_version=4)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(path.read_text(encoding="utf-8"))])


def _title(notebook: NotebookNode) -> tuple[str, str]:
    """A page's title and the attributes behind it."""
    lines = (line for cell in notebook.cells for line in cell.source.splitlines() if line.startswith("# "))
    return re.fullmatch(r"#\s+(.*?)\s*(\{[^}]*\})?\s*", next(lines, "# ")).groups(default="")


def _numbers(contents: dict, unnumbered: set[str]) -> dict[str, str]:
    """A letter for each appendix that is not marked unnumbered; chapters have none, for it would hang on what was run."""
    last = [place for place in contents["book"].get("appendices", []) if place not in unnumbered]
    return {place: chr(64 + number) for number, place in enumerate(last, 1)}


def _marks(notebooks: dict[str, NotebookNode]) -> dict[str, tuple[str, str]]:
    """Each label's words ("Figure 3", counted by page, as Quarto is told to) and the page it stands on."""
    marks = {}
    for place, notebook in notebooks.items():
        counts: Counter[str] = Counter()
        for label in labels(notebook):
            word = WORDS[label[:3]]
            counts[word] += 1
            marks[label] = f"{word} {counts[word]}", place
    return marks


def _plain_page(notebook: NotebookNode, place: str, marks: Mapping, works: Mapping) -> NotebookNode:
    """A page that nbconvert understands: Quarto's options, and its Markdown beyond the common one, put plainly."""
    cells = [cell for cell in notebook.cells if "remove-cell" not in cell.metadata.get("tags", [])]
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = _plain(cell.source, place, marks, works)
            continue
        head = options(cell.source)
        asked = given(head)
        cell.source = "\n".join(cell.source.splitlines()[len(head) :])
        caption, (mark, _) = asked.get("fig-cap", ""), marks.get(asked.get("label"), ("", ""))
        shown = {
            "alt": str(asked.get("fig-alt") or caption or "Picture made by the code above"),
            "id": asked.get("label", ""),
            "caption": _plain(f"**{mark}.** {caption}" if mark else caption, place, marks, works),
        }
        cell.metadata = nbformat.from_dict(shown)
        for data in (output.get("data", {}) for output in cell.outputs):
            if "text/markdown" in data:
                data["text/markdown"] = _plain(data["text/markdown"], place, marks, works)
    return nbformat.v4.new_notebook(metadata=notebook.metadata, cells=cells)


def _plain(text: str, place: str, marks: Mapping, works: Mapping) -> str:
    """Quarto's Markdown as common Markdown: Divs, captions, cross-references, citations."""

    def caption(match: re.Match) -> str:
        label = re.search(rf"#({LABEL})", match[2] or "")
        number = f'<span id="{label[1]}"></span>**{marks[label[1]][0]}.** ' if label else ""
        return f"{number}*{match[1]}*"

    def figure(match: re.Match) -> str:
        words, address, label, rest = match.groups()
        alt, narrow = (re.search(rf'{key}="([^"]*)"', rest) for key in ("fig-alt", "narrow"))
        picture = f"![{alt[1] if alt else caption_words(words)}]({address})"
        if narrow:
            picture = f'<picture><source media="(max-width: 600px)" srcset="{narrow[1]}">{picture}</picture>'
        return f'<span id="{label}"></span>{picture}\n\n**{marks[label][0]}.** {words}'

    def reference(match: re.Match) -> str:
        if match[1] not in marks:
            return f"?{match[0]}"
        words, there = marks[match[1]]
        return f"[{words}]({_href(there, place)}#{match[1]})"

    def citation(match: re.Match) -> str:
        return _short(works[match[1]]) if match[1] in works else f"?{match[0]}"

    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"^```\{=html\}\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)  # data of a piece
    text = text.replace("::: {#refs}", "\n".join(f"- {_entry(works[key])}" for key in sorted(works)))
    text = re.sub(r"^::: \{\.callout[^\n]*\n(.*?)\n:::$", r"> \1", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^:::.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=\n\n): (\S.*?)\s*(\{[^}]*\})?\s*(?=\n\n|\Z)", caption, text, flags=re.DOTALL)
    pieces = CODE.split(FIGURE.sub(figure, text))
    for at in range(0, len(pieces), 2):
        piece = re.sub(rf"(?<=[\])$\w ])\{{#({LABEL})[^{{}}\n]*\}}", r'<span id="\1"></span>', pieces[at])
        piece = re.sub(r"(?<=[\])$\w ])\{[#.][^{}\n]*\}|(?<=\))\{[\w-]+=[^{}]*\}", "", piece)
        piece = re.sub(rf"(?<![\w/\[])@({LABEL})", reference, piece)
        piece = re.sub(r"\[([^\]\[]*@[^\]\[]*)\]", r"(\1)", piece)
        piece = re.sub(r"(?<![\w/.?])@([\w:-]+)", citation, piece)
        pieces[at] = re.sub(r"(\]\([^)\s]*)\.(?:qmd|ipynb)(?=[)#])", r"\1.html", piece)
    return "".join(pieces)


def _anchored(page: str) -> str:
    """Ids of headings as Quarto gives them, so that a link to a heading works in both."""
    seen: Counter[str] = Counter()

    def heading(match: re.Match) -> str:
        words = html.unescape(re.sub(r"<[^>]+>", "", match[2])).strip().lower()
        name = re.sub(r"^[^a-z]+", "", re.sub(r"\s+", "-", re.sub(r"[^\w\s.-]", "", words))) or "section"
        seen[name] += 1
        name += f"-{seen[name] - 1}" if seen[name] > 1 else ""
        return f'<h{match[1]} id="{name}">{match[2]}</h{match[1]}>'

    return re.sub(r"<h([1-6])[^>]*>(.*?)</h\1>", heading, page, flags=re.DOTALL)


def _works(bibliography: str) -> dict[str, dict[str, str]]:
    """Entries of a BibTeX file by key; one field a line."""
    works = {}
    for entry in re.split(r"^@\w+\{", bibliography, flags=re.MULTILINE)[1:]:
        fields = re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?\s*$", entry, re.MULTILINE)
        fields = {name.lower(): re.sub(r"[{}]", "", value).replace("--", "–") for name, value in fields}
        works[entry.split(",", 1)[0].strip()] = fields
    return works


def _short(work: dict[str, str]) -> str:
    authors = work.get("author", "").split(" and ")
    return f"{authors[0].split(',')[0]}{' et al.' if len(authors) > 1 else ''} {work.get('year', '')}"


def _entry(work: dict[str, str]) -> str:
    address = f"https://doi.org/{work['doi']}" if "doi" in work else work.get("url", "")
    where = work.get("journal") or work.get("booktitle", "")
    return f"{_short(work)}. {work.get('title', '')}. *{where}*. <{address}>"


def _href(place: str, page: str) -> str:
    return seen_from(page, str(Path(place).with_suffix(".html")))


def faults(site: Path, folders: Sequence[tuple[str, str]]) -> list[str]:
    """One sentence for each thing wrong with a rendered site, which a renderer's exit code does not tell.

    Searched for: references and citations left open; pictures, pages and places of pages that are not there;
    pictures that are empty or have no words for who cannot see them; ids given twice; tracebacks, progress bars and
    warnings; Markdown that was not understood; anything fetched from the net when a page is opened; folders of the
    machine that made it (`folders`, from `lib.book.machine_folders`).
    """
    if not (site / "index.html").is_file():
        return ["the site has no index.html"]
    files = sorted([*site.rglob("*.html"), *site.rglob("*.css"), *site.glob("*.json")])
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    pages = {path: BeautifulSoup(texts[path], "html.parser") for path in files if path.suffix == ".html"}
    ids = {path.resolve(): _ids(page) for path, page in pages.items()}
    found = []
    for path, text in texts.items():
        shown = (name for name, _ in folders if folder_pattern(name).search(text))
        said = [f"shows the folder {name} of this machine" for name in shown]
        if path.suffix == ".css":
            said += [f"fetches {address} from the net" for address in _fetched(text)]
        elif page := pages.get(path):
            twice = [label for label, count in ids[path.resolve()].items() if count > 1]
            said += [f"the id {label} is given more than once" for label in twice]
            said += _addresses(page, path, site, ids)
            said += filter(None, (_picture(picture, path, site) for picture in page.find_all("img")))
            said += _words(page)  # last of those that read the page: it takes code out
            said += ["names the notebook it was made from (data-notebook)"] * ("data-notebook=" in text)
        found += [f"{path.relative_to(site).as_posix()}: {fault}" for fault in said]
    return list(dict.fromkeys(found))


def _ids(page: BeautifulSoup) -> Counter[str]:
    invisible = {"link", "meta", "script", "style", "title"}
    return Counter(tag["id"] for tag in page.find_all(id=True) if tag.name not in invisible)


def _fetched(style: str) -> list[str]:
    return re.findall(r"(?:@import\s+(?:url\()?|url\()['\"]?((?:https?:)?//[^'\")\s;]+)", style)


def _addresses(page: BeautifulSoup, path: Path, site: Path, ids: dict[Path, Counter[str]]) -> list[str]:
    """What the page loads by itself must lie in the site; what it links to must be there, with the place it names."""
    loads = [tag["href"] for tag in page.find_all("link", href=True) if FETCHING & set(tag.get("rel", []))]
    for tag in page.find_all(lambda tag: tag.name not in ("a", "meta", "link")):
        loads += [tag[key] for key in ("src", "data", "poster") if tag.get(key)]
        loads += [part.split()[0] for part in tag.get("srcset", "").split(",") if part.split()]
    styles = [tag.get_text() for tag in page.find_all("style")]
    styles += [tag["style"] for tag in page.find_all(style=True)]
    outside = [address for address in loads if re.match(r"(https?:)?//", address)]
    outside += [address for style in styles for address in _fetched(style)]
    said = [f"fetches {address} from the net" for address in outside]
    for target in loads + [tag["href"] for tag in page.find_all("a", href=True)]:
        there, anchor = _file(target, path, site), unquote(urlsplit(target).fragment)
        if there is not None and not there.is_file():
            said.append(f"{target} is not there")
        elif there is not None and anchor and anchor not in ids.get(there.resolve(), {anchor}):
            said.append(f"{target} leads to no place of that page")
    return said


def _file(target: str, page: Path, site: Path) -> Path | None:
    """The file of the site that an address means; None for addresses elsewhere, pictures inside pages, mail."""
    address = urlsplit(target)
    if address.scheme or address.netloc:
        return None
    path = unquote(address.path)
    there = page if not path else (site / path.lstrip("/")) if path.startswith("/") else (page.parent / path)
    return there / "index.html" if there.is_dir() else there


def _picture(picture: Mapping[str, str], page: Path, site: Path) -> str | None:
    """What is wrong with a picture."""
    source = picture.get("src", "")
    name = source if len(source) < 80 else f"{source[:40]}..."
    if not picture.get("alt", "").strip() and picture.get("aria-hidden") != "true":
        return f"the picture {name} has no words for who cannot see it (alt)"
    if source.startswith("data:"):
        head, _, content = source.partition(",")
        fault = picture_fault(b64decode(content) if head.endswith(";base64") else unquote(content).encode())
    else:
        there = _file(source, page, site)
        fault = picture_fault(there.read_bytes()) if there is not None and there.is_file() else None
    return f"the picture {name} {fault}" if fault else None


def picture_fault(content: bytes) -> str | None:
    """What is wrong with a PNG, JPEG or SVG, as the end of a sentence; None for one in which there is something to see."""
    if b"<svg" in content[:4096]:
        drawn = rb"<(?:\w+:)?(?:path|rect|circle|ellipse|line|polyline|polygon|text|image|use)\b"
        return None if re.search(drawn, content) else "shows nothing"
    try:
        with Image.open(io.BytesIO(content)) as picture:
            extrema = picture.convert("RGB").getextrema()
    except (UnidentifiedImageError, OSError):
        return "cannot be read" if content.strip() else "is empty"
    return "is of one colour: nothing was drawn" if all(low == high for low, high in extrema) else None


def _words(page: BeautifulSoup) -> list[str]:
    """References left open, noise of programs, and Markdown that was not understood, in what the page shows."""
    for tag in page.find_all(["script", "style"]):
        tag.decompose()
    for tag in page.find_all(BLOCKS):
        tag.insert_before("\n")
    text = page.get_text()
    open_ones = re.findall(r"\?@[\w-]+|\?(?:fig|tbl|sec)-[\w-]+", text)
    # pandoc prints a key it does not know as "key?", Quarto a label as "?key", both in bold
    bold = (tag.get_text().strip() for tag in page.find_all("strong"))
    keys = [word for word in bold if re.fullmatch(r"\?[A-Za-z][\w:.-]*|[A-Za-z][\w:.-]*\d{2,}[\w-]*\?", word)]
    said = [f"the reference or citation {key} is not resolved" for key in dict.fromkeys(open_ones + keys)]
    for what, noise in NOISE.items():
        if match := noise.search(text):
            line = text[text.rfind("\n", 0, match.start()) + 1 :].split("\n", 1)[0]
            said.append(f"shows {what}: '{line.strip()[:60]}'")
    for tag in page.find_all(["pre", "code"]):
        tag.decompose()
    if match := re.search(r"^\s*:::+.*$|\{\{<.*|\{#[\w-]+[^}]*\}", page.get_text(), re.MULTILINE):
        said.append(f"shows Markdown that was not understood: '{match[0].strip()[:60]}'")
    return said
