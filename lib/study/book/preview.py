"""The preview: the book's pages through nbconvert, for a machine without Quarto."""

import html
import os
import re
import shutil
from base64 import b64encode
from pathlib import Path

import nbformat
import yaml
from jinja2 import Environment
from nbconvert.filters import Highlight2HTML, ansi2html
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from lib.files import written
from lib.study.book.chapters import CODE, LABEL, labels, options
from lib.study.book.contents import places, read_contents

_WORDS = {"fig": "Figure", "tbl": "Table", "lst": "Listing", "eq": "Equation", "sec": "Section"}

# a caption may hold links
_FIGURE = re.compile(r"!\[((?:[^\[\]]|\[[^\[\]]*\](?:\([^()]*\))?)*)\]\(([^)\s]+)\)\{#([\w-]+)([^}]*)\}")


def render(folder: Path) -> Path:
    """Render a laid folder as plain HTML pages that fetch nothing; formulas stay TeX.

    Parameters
    ----------
    folder : Path
        Holds ``_quarto.yml``, every page it names and ``book/preview.html``, the pages' frame.

    Returns
    -------
    Path
        The site: ``index.html``, one page a chapter, pictures inside the pages.
    """
    contents = read_contents(folder)
    listed = list(places(contents))
    notebooks = {place: _notebook(folder / place) for _, place in listed}
    numbers = _chapter_numbers(contents, notebooks)
    marks = _numbered(notebooks, numbers)
    works = (
        _works((folder / contents["bibliography"]).read_text(encoding="utf-8"))
        if "bibliography" in contents
        else {}
    )
    bodies = {place: _Page(place, marks, works).body(notebook) for place, notebook in notebooks.items()}
    titles = {place: _title(body, place) for place, body in bodies.items()}
    frame = Environment(autoescape=False).from_string(
        (folder / "book" / "preview.html").read_text(encoding="utf-8")
    )
    site = folder / "_book"
    for place, body in bodies.items():
        nav = [
            (_href(other, place), titles[other], numbers.get(other, ""), part == other, other == place)
            for part, other in listed
        ]
        page = frame.render(
            book=contents["book"]["title"],
            title=titles[place],
            number=numbers.get(place, ""),
            nav=nav,
            body=body,
        )
        with written(site / _html(place)) as part:
            part.write_text(page, encoding="utf-8")
    for picture in sorted((folder / "book").rglob("*")):
        if picture.suffix in (".svg", ".png", ".jpg"):
            target = site / picture.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, target)
    return site


class _Page:
    """Turns one page's cells into HTML: what Quarto's Markdown has beyond the common one is put plainly."""

    def __init__(self, place: str, marks: dict[str, tuple[str, str]], works: dict[str, dict[str, str]]):
        self.place, self.marks, self.works = place, marks, works
        self.highlight = Highlight2HTML(pygments_lexer="ipython3")

    def body(self, notebook: NotebookNode) -> str:
        made = "\n".join(
            self.markdown(cell.source) if cell.cell_type == "markdown" else self.code(cell)
            for cell in notebook.cells
            if cell.cell_type != "raw" and "remove-cell" not in cell.metadata.get("tags", [])
        )
        return _anchored(made)

    def code(self, cell: NotebookNode) -> str:
        head = options(cell.source)
        given = yaml.safe_load("\n".join(line[2:].removeprefix(" ") for line in head)) or {}
        given = {
            **{key: value for key, value in cell.metadata.items() if key in ("label", "include")},
            **given,
        }
        if given.get("include") is False:
            return ""
        source = "\n".join(cell.source.splitlines()[len(head) :])
        shown = source.strip() and given.get("echo") is not False
        parts = [f"<details><summary>Code</summary>{self.highlight(source)}</details>"] if shown else []
        alt = str(given.get("fig-alt") or given.get("fig-cap") or "Picture made by the code above")
        outputs = (
            ""
            if given.get("output") is False
            else "\n".join(self.output(output, alt) for output in cell.outputs)
        )
        mark = self.marks.get(given.get("label"), ("", ""))[0]
        caption = " ".join(
            str(text)
            for text in (mark and f"**{mark}.**", given.get("fig-cap") or given.get("tbl-cap"))
            if text
        )
        caption = f"<figcaption>{self.markdown(caption)}</figcaption>" if caption else ""
        if caption:
            inside = f"{caption}{outputs}" if mark.startswith("Table") else f"{outputs}{caption}"
            outputs = f'<figure id="{given.get("label", "")}">{inside}</figure>'
        return "\n".join([*parts, outputs])

    def output(self, output: NotebookNode, alt: str) -> str:
        if output.output_type == "stream":
            return f"<pre class='printed'>{ansi2html(output.text)}</pre>"
        data = output.data
        if "text/markdown" in data:
            return self.markdown(data["text/markdown"])
        if "image/svg+xml" in data:
            return _picture("image/svg+xml", b64encode(data["image/svg+xml"].encode()).decode(), alt)
        for mime in ("image/png", "image/jpeg"):
            if mime in data:
                return _picture(mime, data[mime].replace("\n", ""), alt)
        return f"<pre class='printed'>{ansi2html(data.get('text/plain', data.get('text/latex', '')))}</pre>"

    def markdown(self, text: str) -> str:
        text = re.sub(r"\A---\n.*?\n---\n", "", _divs(text), flags=re.DOTALL)
        text = re.sub(
            r"(?<=\n\n): (\S.*?)\s*(\{[^}]*\})?\s*(?=\n\n|\Z)", self._caption, text, flags=re.DOTALL
        )
        text = _FIGURE.sub(self._figure, text)
        pieces = CODE.split(text)
        pieces[::2] = [self._plain(piece) for piece in pieces[::2]]
        renderer = IPythonRenderer(escape=False, exclude_anchor_links=True)
        return MarkdownWithMath(renderer=renderer).render("".join(pieces))

    def _caption(self, match: re.Match) -> str:
        label = re.search(rf"#({LABEL})", match[2] or "")
        if label is None or label[1] not in self.marks:
            return f"*{match[1]}*"
        return f'<span id="{label[1]}"></span>**{self.marks[label[1]][0]}.** *{match[1]}*'

    def _figure(self, match: re.Match) -> str:
        caption, address, label, rest = match.groups()
        words = self.marks.get(label, ("Figure", ""))[0]
        alt = re.search(r'fig-alt="([^"]*)"', rest)
        plain = re.sub(r"\]\([^()]*\)|[*_`\[\]]", "", caption)
        caption = self.markdown(caption).strip().removeprefix("<p>").removesuffix("</p>")
        return (
            f'<figure id="{label}"><img alt="{html.escape(alt[1] if alt else plain)}" src="{address}">'
            f"<figcaption><strong>{words}.</strong> {caption}</figcaption></figure>"
        )

    def _plain(self, text: str) -> str:
        text = text.replace(
            "<!--refs-->", "\n".join(f"- {_entry(work)}" for _, work in sorted(self.works.items()))
        )
        text = re.sub(rf"(?<=[\])$\w ])\{{#({LABEL})[^{{}}\n]*\}}", r'<span id="\1"></span>', text)
        text = re.sub(r"(?<=[\])$\w ])\{[#.][^{}\n]*\}|(?<=\))\{[\w-]+=[^{}]*\}", "", text)
        text = re.sub(rf"(?<![\w/\[])@({LABEL})", self._reference, text)
        text = re.sub(r"\[([^\]\[]*@[^\]\[]*)\]", r"(\1)", text)
        text = re.sub(r"(?<![\w/.?])@([\w:-]+)", self._citation, text)
        return re.sub(r"(\]\([^)\s]*)\.(?:qmd|ipynb)(?=[)#])", r"\1.html", text)

    def _reference(self, match: re.Match) -> str:
        if match[1] not in self.marks:
            return f"?{match[0]}"
        word, place = self.marks[match[1]]
        return f"[{word}]({_href(place, self.place)}#{match[1]})"

    def _citation(self, match: re.Match) -> str:
        return _short(self.works[match[1]]) if match[1] in self.works else f"?{match[0]}"


def _notebook(path: Path) -> NotebookNode:
    if path.suffix == ".ipynb":
        return nbformat.read(path, as_version=4)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(path.read_text(encoding="utf-8"))])


def _chapter_numbers(contents: dict, notebooks: dict[str, NotebookNode]) -> dict[str, str]:
    """A number for each chapter, a letter for each appendix, none for parts and what is marked unnumbered."""
    parts = {part for part, place in places(contents) if part == place}
    appendices = {"book": {"chapters": contents["book"].get("appendices", [])}}
    letters = {place for _, place in places(appendices)}
    numbers: dict[str, str] = {}
    counts = {"chapters": 0, "appendices": 0}
    for place, notebook in notebooks.items():
        title = next(
            (line for cell in notebook.cells for line in cell.source.splitlines() if line[:2] == "# "), ""
        )
        if (
            place in parts
            or place == "index.qmd"
            or re.search(r"\{[^}]*(\.unnumbered|-)\s*[^}]*\}\s*$", title)
        ):
            continue
        section = "appendices" if place in letters else "chapters"
        counts[section] += 1
        numbers[place] = chr(64 + counts[section]) if section == "appendices" else str(counts[section])
    return numbers


def _anchored(body: str) -> str:
    """Ids of headings as Quarto gives them, so that a link to a heading works in both."""
    seen: dict[str, int] = {}

    def heading(match: re.Match) -> str:
        words = html.unescape(re.sub(r"<[^>]+>", "", match[2])).strip().lower()
        name = re.sub(r"^[^a-z]+", "", re.sub(r"\s+", "-", re.sub(r"[^\w\s.-]", "", words))) or "section"
        seen[name] = seen.get(name, -1) + 1
        name += f"-{seen[name]}" if seen[name] else ""
        return f'<h{match[1]} id="{name}">{match[2]}</h{match[1]}>'

    return re.sub(r"<h([1-6])[^>]*>(.*?)</h\1>", heading, body, flags=re.DOTALL)


def _numbered(notebooks: dict[str, NotebookNode], numbers: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Each label's words ("Figure 3.1") and the page it stands on."""
    marks = {}
    for place, notebook in notebooks.items():
        counts = dict.fromkeys(_WORDS, 0)
        for label in labels(notebook):
            prefix = label.split("-")[0].lower()
            counts[prefix] += 1
            number = f"{numbers[place]}." if place in numbers else ""
            marks[label] = f"{_WORDS[prefix]} {number}{counts[prefix]}", place
    return marks


def _divs(text: str) -> str:
    """Callouts become quotes, other fenced Divs vanish."""
    lines: list[str] = []
    inside: list[bool] = []
    for line in text.splitlines():
        if re.match(r":{3,}\s*[{\w]", line):
            title = re.search(r'title="([^"]*)"', line)
            inside.append("callout" in line)
            lines += ["", "<!--refs-->" if "#refs" in line else f"> **{title[1]}**" if title else ""]
        elif re.match(r":{3,}\s*$", line) and inside:
            inside.pop()
            lines.append("")
        elif any(inside):
            lines.append("> " + re.sub(r"^#+\s+(.*)", r"**\1**", line))
        else:
            lines.append(line)
    return "\n".join(lines)


def _works(bibliography: str) -> dict[str, dict[str, str]]:
    """Entries of a BibTeX file by key; one field a line."""
    works = {}
    for entry in re.split(r"^@\w+\{", bibliography, flags=re.MULTILINE)[1:]:
        key = entry.split(",", 1)[0].strip()
        fields = re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?\s*$", entry, re.MULTILINE)
        works[key] = {name.lower(): re.sub(r"[{}]", "", value).replace("--", "–") for name, value in fields}
    return works


def _short(work: dict[str, str]) -> str:
    authors = work.get("author", "").split(" and ")
    return f"{authors[0].split(',')[0]}{' et al.' if len(authors) > 1 else ''} {work.get('year', '')}"


def _entry(work: dict[str, str]) -> str:
    address = f"https://doi.org/{work['doi']}" if "doi" in work else work.get("url", "")
    where = work.get("journal") or work.get("booktitle", "")
    return f"{_short(work)}. {work.get('title', '')}. *{where}*. <{address}>"


def _title(body: str, place: str) -> str:
    found = re.search(r"<h1[^>]*>(.*?)</h1>", body, re.DOTALL)
    return re.sub(r"<[^>]+>", "", found[1]).strip() if found else html.escape(place)


def _picture(mime: str, content: str, alt: str) -> str:
    return f'<img alt="{html.escape(alt)}" src="data:{mime};base64,{content}">'


def _html(place: str) -> str:
    return str(Path(place).with_suffix(".html"))


def _href(place: str, seen_from: str) -> str:
    return Path(os.path.relpath(_html(place), Path(seen_from).parent)).as_posix()
