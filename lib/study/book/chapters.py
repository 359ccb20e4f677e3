"""One executed notebook, cleaned for its page in the book."""

import copy
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode

from lib.study.book.contents import results_folder

PICTURES = ("image/svg+xml", "image/png", "image/jpeg")
PRINTED = ("text/markdown", "text/latex", *PICTURES, "text/plain")
NOTICES = {
    "phantom": "**Phantom.** This page shows a phantom cohort, generated from a seed in the real file formats: its "
    "numbers are not comparable with the paper's.",
    "open": "**Open data.** This page shows real, public data, fetched or mirrored with checksums.",
    "gated": "**Gated data.** This page shows data or an encoder that one must apply for: without that access it "
    "cannot be made again.",
}
_FOLDED = '<details class="code-fold"><summary>Parameters of this run</summary>'
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
LABEL = rf"(?:[Ff]ig|[Tt]bl|[Ll]st|[Ee]q|[Ss]ec)-{_NAME}"
_REFERENCE = re.compile(rf"(?<![\w/])([@#])({LABEL})")
_OPTION = re.compile(rf"^(#\|\s*label:\s*[\"']?)({_NAME})", re.MULTILINE)
CODE = re.compile(r"(^```.*?^```[ \t]*$|^~~~.*?^~~~[ \t]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_NAMED = {
    "fig": "the figure",
    "tbl": "the table",
    "lst": "the listing",
    "eq": "the equation",
    "sec": "the section",
}
WIDE = 700.0  # points: drawn wider than the text, and read better in the margin as well
_WIDTH = re.compile(r'<svg[^>]*?\bwidth="([\d.]+)pt"')
# "0.743 (0.666 to 0.824)": a narrow column may break before the interval, not within it
_INTERVAL = re.compile(r"\(([-+−]?[\d.]+) to ([-+−]?[\d.]+)\)")
# a number that is missing leaves its cell empty
_MISSING = re.compile(r"(?<=\|)( *)nan( *)(?=\|)")
_REPR = re.compile(r"^<[\w.]+(\s+object)?(\s+at\s+0x[0-9a-f]+)?>$")


def cleaned(
    notebook: NotebookNode,
    name: str,
    study: str,
    cohort: str,
    kind: str,
    folders: Sequence[tuple[str, str]] = (),
    binder: str = "",
    drawings: Mapping[str, str] | None = None,
) -> NotebookNode:
    """A copy of an executed notebook as the book prints it.

    Gone are papermill's times, cell ids, progress bars and warnings (stderr), HTML and widgets that
    would fetch scripts from the net, and folders of this machine. The parameters cells are tagged
    ``remove-cell``. The title names the cohort, a notice below it the kind, and labels end in
    ``-<study>-<cohort>`` so that the pages of several cohorts can stand in one book. A figure without
    ``fig-alt`` has its caption for that. Equal results give equal bytes.

    Parameters
    ----------
    notebook : NotebookNode
        From `lib.study.book.executed.read_executed`; not changed.
    name : str
        What to call it in errors.
    study, cohort : str
        E.g. ``"spacrd"``, ``"demo"``.
    kind : {"phantom", "open", "gated"}
        The cohort's kind, from its parameter file.
    folders : sequence of (str, str)
        Folders of this machine and what to print in their place, see `machine_folders`.
    binder : str
        Where a reader can run this notebook, see `lib.study.book.launch`; "": nowhere.
    drawings : mapping, optional
        SVG by name: a cell labelled ``fig-<name>`` with one picture shows that, see `lib.study.book.drawings`.

    Raises
    ------
    ValueError
        If the kind is unknown, the title is missing or not the only one, an output has no form that
        can be printed without a network, an option stands where it has no effect, or a labelled
        figure or table cell shows none.
    """
    if kind not in NOTICES:
        raise ValueError(
            f"params/{study}/{cohort}.yaml: kind is {kind!r}, expected one of {', '.join(NOTICES)}."
        )
    page = copy.deepcopy(notebook)
    page.nbformat, page.nbformat_minor = 4, 5
    page.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "pygments_lexer": "ipython3", "file_extension": ".py"},
        }
    )
    injected = any("injected-parameters" in cell.metadata.get("tags", []) for cell in page.cells)
    suffix = f"-{study}-{cohort}"
    for number, cell in enumerate(page.cells, 1):
        where = f"{name}, cell {number}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        cell.source = _without(cell.source, folders)
        if cell.cell_type == "code":
            _hide_parameters(cell, injected)
            cell.outputs = _printed(cell.outputs, where, folders)
            _draw(cell, drawings or {})
            _label(cell, suffix, where)
        elif cell.cell_type == "markdown":
            cell.source = _renamed(cell.source, suffix)
    _entitle(page, name, cohort, kind, binder)
    _show_parameters(page)
    for number, cell in enumerate(page.cells, 1):
        cell.id = f"cell-{number}"
    return page


def labels(page: NotebookNode) -> list[str]:
    """The cross-reference labels a cleaned page defines, in order."""
    found = []
    for cell in page.cells:
        if cell.cell_type == "code":
            head = "\n".join(options(cell.source))
            found += [match[2] for match in _OPTION.finditer(head) if re.fullmatch(LABEL, match[2])]
            texts = [output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
        else:
            texts = [cell.source]
        found += [label for text in texts for label in text_labels(text)]
    return found


def text_labels(text: str) -> list[str]:
    """The cross-reference labels that a page's Markdown defines, in order; what code shows is left aside."""
    return re.findall(rf"\{{[^{{}}\n]*?#({LABEL})", CODE.sub("", text))


def options(source: str) -> list[str]:
    """The `#|` lines a cell begins with: Quarto reads them nowhere else."""
    lines = source.splitlines()
    return lines[: next((at for at, line in enumerate(lines) if not line.startswith("#|")), len(lines))]


def machine_folders(root: Path) -> list[tuple[str, str]]:
    """Folders of this machine that no page may show, and what stands in their place.

    The repository's root becomes nothing (paths turn relative to it), a folder of results elsewhere
    ``results``, the mirror named by ``CROSSBOOK_MIRROR`` that name, the home folder ``~``. Longest first.
    """
    found = {str(Path.home()): "~", str(Path(os.path.realpath(Path.home()))): "~"}
    mirror = os.environ.get("CROSSBOOK_MIRROR")
    if mirror and Path(mirror).is_absolute():
        found[mirror.rstrip("/")] = "$CROSSBOOK_MIRROR"
    found[str(results_folder(root).resolve())] = "results"
    found |= {str(Path(root).absolute()): "", str(Path(root).resolve()): ""}
    return sorted(
        ((folder, name) for folder, name in found.items() if folder != "/"), key=lambda pair: -len(pair[0])
    )


def folder_pattern(folder: str) -> re.Pattern:
    """Finds a folder's path, not that of a sibling whose name only begins alike."""
    return re.compile(rf"(?<![\w.-]){re.escape(folder)}(/|(?![\w.-]))")


def _without(text: str, folders: Sequence[tuple[str, str]]) -> str:
    for folder, name in folders:
        text = folder_pattern(folder).sub(
            lambda match, name=name: f"{name}{match[1]}" if name else "" if match[1] else ".", text
        )
    return text


def _hide_parameters(cell: NotebookNode, injected: bool) -> None:
    tags = cell.metadata.get("tags", [])
    if "injected-parameters" in tags or ("parameters" in tags and injected):
        cell.metadata["tags"] = [*tags, "remove-cell"] if "remove-cell" not in tags else tags


def _show_parameters(page: NotebookNode) -> None:
    """What the run was given, folded below the title: papermill's own cell cannot be styled or captioned."""
    for cell in page.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            given = cell.source.removeprefix("# Parameters\n").strip()
            shown = f"{_FOLDED}\n\n```python\n{given}\n```\n\n</details>"
            page.cells.insert(1, nbformat.v4.new_markdown_cell(shown))
            return


def _renamed(text: str, suffix: str) -> str:
    return _REFERENCE.sub(lambda match: match[0] if match[0].endswith(suffix) else match[0] + suffix, text)


def _printed(
    outputs: Sequence[NotebookNode], where: str, folders: Sequence[tuple[str, str]]
) -> list[NotebookNode]:
    kept = []
    for output in outputs:
        if output.output_type == "stream":
            text = _without(output.text, folders)
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += text
            else:
                kept.append(nbformat.v4.new_output("stream", name="stdout", text=text))
            continue
        data = {mime: output.data[mime] for mime in PRINTED if mime in output.data}
        plain = str(data.get("text/plain", "")).strip()
        if not data or (set(data) == {"text/plain"} and len(output.data) > 1 and _REPR.match(plain)):
            raise ValueError(
                f"{where} shows only {', '.join(sorted(set(output.data) - {'text/plain'}))}, which needs scripts from "
                "the net: display Markdown or a picture."
            )
        for mime in set(data) - {"image/png", "image/jpeg"}:
            data[mime] = _without(data[mime], folders)
        if "text/markdown" in data:
            data["text/markdown"] = _INTERVAL.sub("(\\1\u00a0to\u00a0\\2)", data["text/markdown"])
            data["text/markdown"] = _MISSING.sub(r"\1   \2", data["text/markdown"])
        output.data, output.metadata = nbformat.from_dict(data), nbformat.from_dict({})
        kept.append(output)
    return kept


def _draw(cell: NotebookNode, drawings: Mapping[str, str]) -> None:
    label = _OPTION.search("\n".join(options(cell.source)))
    svg = drawings.get(label[2].removeprefix("fig-")) if label and label[2].startswith("fig-") else None
    shown = [output for output in cell.outputs if set(PICTURES) & set(output.get("data", {}))]
    if svg and len(shown) == 1:
        shown[0].data = nbformat.from_dict({"image/svg+xml": svg})


def _label(cell: NotebookNode, suffix: str, where: str) -> None:
    lines = options(cell.source)
    rest = cell.source.splitlines()[len(lines) :]
    if any(line.startswith("#|") for line in rest):
        raise ValueError(
            f"{where}: '#|' options must be the cell's very first lines; Quarto ignores them elsewhere."
        )
    head = _renamed("\n".join(lines), suffix)
    label = _OPTION.search(head)
    name = label[2] if label else str(cell.metadata.get("label", ""))
    mimes = {mime for output in cell.outputs for mime in output.get("data", {})}
    if name.startswith("fig-") and not mimes & {*PICTURES, "text/markdown"}:
        raise ValueError(f"{where}: {name} shows no picture: end the cell with the figure.")
    if name.startswith("fig-") and not mimes & set(PICTURES):  # lib.figures.style.note says why there is none
        cell.source = "\n".join(rest)
        cell.metadata.pop("label", None)
        return
    if name.startswith("tbl-") and "text/markdown" not in mimes:
        raise ValueError(f"{where}: {name} shows no table: display it as Markdown.")
    if re.fullmatch(LABEL, name) and not name.endswith(suffix):
        if label:
            head = head[: label.end()] + suffix + head[label.end() :]
        else:
            cell.metadata["label"] = name + suffix
    if lines:
        if name.startswith("fig-") and (caption := _caption_without_alt(lines)):
            head += f"\n#| fig-alt: {json.dumps(caption, ensure_ascii=False)}"
        if name.startswith("fig-") and "column" not in head and any(map(_wide, cell.outputs)):
            head += "\n#| fig-column: page-right"
        cell.source = "\n".join([head, *rest])
    for output in cell.outputs:
        if "text/markdown" in output.get("data", {}):
            output.data["text/markdown"] = _renamed(output.data["text/markdown"], suffix)


def _wide(output: NotebookNode) -> bool:
    width = _WIDTH.search(output.get("data", {}).get("image/svg+xml", ""))
    return width is not None and float(width[1]) > WIDE


def _caption_without_alt(lines: Sequence[str]) -> str:
    """The caption of a figure that has no words for who cannot see it."""
    given = yaml.safe_load("\n".join(line[2:].removeprefix(" ") for line in lines)) or {}
    caption = given.get("fig-cap", "")
    if "fig-alt" in given or not isinstance(caption, str):
        return ""
    caption = re.sub(r"\[@[^\]]*\]|[*_`]", "", caption)
    return re.sub(rf"@(?:{LABEL})", lambda match: _NAMED[match[0][1:4].lower().rstrip("-")], caption).strip()


def _entitle(page: NotebookNode, name: str, cohort: str, kind: str, binder: str) -> None:
    titles = [
        (number, at)
        for number, cell in enumerate(page.cells)
        if cell.cell_type == "markdown"
        for at in _titles(cell.source)
    ]
    if not titles or titles[0][0] != 0:
        raise ValueError(f"{name} has no title: its first cell must be Markdown that begins with '# Title'.")
    if len(titles) > 1:
        number, at = titles[1]
        line = page.cells[number].source.splitlines()[at]
        raise ValueError(f"{name}, cell {number + 1}: '{line}' is a second title; use '##' below the first.")
    lines = page.cells[0].source.splitlines()
    at = titles[0][1]
    title, attributes = re.fullmatch(r"#\s+(.*?)\s*(\{[^}]*\})?\s*", lines[at]).groups()
    lines[at] = f"# {title}: {cohort} ({kind})" + (f" {attributes}" if attributes else "")
    notice = f'\n::: {{.callout-note appearance="minimal" .kind .kind-{kind}}}\n{NOTICES[kind]}\n:::\n'
    if binder:
        notice += f"\n[Run this notebook in Binder]({binder}){{.launch}}, after those before it.\n"
    page.cells[0].source = "\n".join([*lines[: at + 1], notice, *lines[at + 1 :]])


def _titles(source: str) -> list[int]:
    """The lines of a Markdown cell that are first-level headings, fenced code left aside."""
    found, fence = [], None
    for at, line in enumerate(source.splitlines()):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and (fence is None or line.strip().startswith(fence)):
            fence = None if fence else mark[1]
        elif fence is None and re.match(r"#\s+\S", line):
            found.append(at)
    return found
