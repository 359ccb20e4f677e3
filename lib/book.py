"""The book: executed notebooks laid over the pages of the source tree, rendered and checked; `python -m lib.book`.

A chapter is a notebook that papermill executed, cleaned of all that tells of the run and the machine. Generated parts of
other pages come from the notebooks in ``book/``, executed here. Quarto renders; where it is missing, nbconvert does.
"""

import argparse
import copy
import hashlib
import io
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote

import matplotlib
import nbformat
import yaml
from nbformat import NotebookNode

from lib import names, pieces, results, site
from lib.files import sha256_of, written
from lib.site import CODE, LABEL, PICTURES, caption_words, labels, options, places, read_contents, text_labels

REQUIRED = ("demo", "null")
PRINTED = ("text/markdown", "text/latex", *PICTURES, "text/plain")
NOTICES = {
    "phantom": "**Phantom.** This page shows a phantom cohort, generated from a seed in the real file formats: its "
    "numbers are not comparable with the paper's.",
    "open": "**Open data.** This page shows real, public data, fetched or mirrored with checksums.",
    "gated": "**Gated data.** This page shows data or an encoder that one must apply for: without that access it "
    "cannot be made again.",
}
PYTHON = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3", "file_extension": ".py"},
}
MARK = r"<!-- *generated: *(\S.*?) *-->"  # where a page takes a part that a notebook of book/ made
LARGEST_DRAWING = 300_000  # bytes; a map of ten thousand spots is smaller and quicker to show as pixels
WIDE = 700.0  # points: drawn wider than the text, and read better in the margin as well


class Chapter(NamedTuple):
    """The place of an executed notebook in the book: ``notebooks/<study>/<cohort>/<stage>.ipynb``."""

    place: str
    study: str
    cohort: str
    stage: str

    @property
    def executed(self) -> str:
        """Where papermill leaves it, below ``results/``."""
        return f"{self.study}/{self.cohort}/notebooks/{self.stage}.ipynb"

    @property
    def name(self) -> str:
        """What it is called in errors."""
        return f"results/{self.executed}"


def chapters(contents: dict) -> list[Chapter]:
    """The executed notebooks among the pages, in order."""
    found = (PurePosixPath(place) for _, place in places(contents) if place.endswith(".ipynb"))
    return [Chapter(str(path), *path.with_suffix("").parts[1:]) for path in found]


def pruned(contents: dict, root: Path) -> tuple[dict, list[str]]:
    """The table of contents without the notebooks that were not run here, and what was left out, in sentences.

    FileNotFoundError where a chapter of a demo or null cohort is missing: `make book` runs those.
    """
    listed, done, notes = chapters(contents), results.results_folder(root), []
    missing = [chapter for chapter in listed if not (done / chapter.executed).is_file()]
    if needed := [chapter.name for chapter in missing if chapter.cohort in REQUIRED]:
        raise FileNotFoundError(f"{needed[0]} is missing: `make book` runs it first.")
    if missing:
        cohorts = Counter(study for study, _ in {chapter[1:3] for chapter in missing})
        each = ", ".join(f"{study} {count}" for study, count in sorted(cohorts.items()))
        how = f"make run STUDY={missing[0].study} COHORT={missing[0].cohort}"
        notes.append(f"left out: what was not run here, of so many cohorts: {each}; {how} runs the first")
    run = {path.parts[-4:-2] for path in done.glob("*/*/notebooks/*.ipynb")}
    for study, cohort in sorted(run - {chapter[1:3] for chapter in listed}):
        notes.append(f"not in the book: {study}/{cohort} was run here but _quarto.yml lists no chapter of it")
    gone = {chapter.place for chapter in missing}
    return {**contents, "book": _kept(contents["book"], gone)}, notes


def _kept(entry: object, gone: set[str]) -> object:
    """A part of the table of contents without some places."""
    if isinstance(entry, dict):
        return {key: _kept(value, gone) for key, value in entry.items()}
    if isinstance(entry, list):
        return [_kept(each, gone) for each in entry if not (isinstance(each, str) and each in gone)]
    return entry


def binder_of(contents: dict, chapter: Chapter) -> str:
    """Binder's address of a stage's notebook; "" where ``repo-url`` in ``_quarto.yml`` is none of GitHub.

    Colab is left out: it brings another Python, and a notebook alone, without ``lib/``.
    """
    address = str(contents["book"].get("repo-url"))
    named = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?", address)
    path = quote(f"notebooks/{chapter.study}/{chapter.stage}.ipynb", safe="")
    return f"https://mybinder.org/v2/gh/{named[1]}/{named[2]}/HEAD?labpath={path}" if named else ""


def read_executed(path: str | os.PathLike, name: str) -> NotebookNode:
    """A notebook that papermill executed, up to where the stage ended itself (``sys.exit(0)``: nothing more to do).

    ValueError, with `name` for the notebook, if it failed or holds a code cell that was never run: a renderer would
    print either.
    """
    notebook = nbformat.read(Path(path), as_version=4)
    fault = "failed" if notebook.metadata.get("papermill", {}).get("exception") else ""
    for number, cell in enumerate(notebook.cells, 1):
        errors = [output for output in cell.get("outputs", []) if output.output_type == "error"]
        if [(error.ename, error.evalue) for error in errors] == [("SystemExit", "0")]:
            cell.outputs = [output for output in cell.outputs if output not in errors]
            notebook.cells = notebook.cells[:number]
            break
        if errors:
            fault = f"cell {number} failed ({errors[0].evalue})"
        elif cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            fault = fault or f"cell {number} was never executed"
    if fault:
        raise ValueError(f"{name}: {fault}: mend the cause and run the stage again.")
    return notebook


def machine_folders(root: Path) -> list[tuple[str, str]]:
    """Folders of this machine that no page may show, and what stands in their place; longest first.

    The repository's root becomes nothing (paths turn relative to it), a folder of results elsewhere ``results``,
    the mirror named by ``CROSSBOOK_MIRROR`` that name, the home folder ``~``.
    """
    found = {str(Path.home()): "~", os.path.realpath(Path.home()): "~"}
    if (mirror := os.environ.get("CROSSBOOK_MIRROR", "")).startswith("/"):
        found[mirror.rstrip("/")] = "$CROSSBOOK_MIRROR"
    found[str(results.results_folder(root))] = "results"
    found |= {str(Path(root).absolute()): "", str(Path(root).resolve()): ""}
    return sorted(((path, name) for path, name in found.items() if path != "/"), key=lambda it: -len(it[0]))


def _without(text: str, folders: Sequence[tuple[str, str]]) -> str:
    for folder, name in folders:
        rest = (lambda match, name=name: name + match[1]) if name else lambda match: "" if match[1] else "."
        text = site.folder_pattern(folder).sub(rest, text)
    return text


def cleaned(
    notebook: NotebookNode,
    chapter: Chapter,
    kind: str,
    folders: Sequence[tuple[str, str]] = (),
    binder: str = "",
    drawings: Mapping[str, str] | None = None,
) -> NotebookNode:
    """A copy of an executed notebook as the book prints it; equal results give equal bytes.

    Gone are papermill's times, cell ids, progress bars and warnings (stderr), HTML and widgets that would fetch
    scripts from the net, and folders of this machine. The parameters cells are tagged ``remove-cell`` and what was
    given is folded below the title. The title names the cohort, a notice below it the kind, and labels end in
    ``-<study>-<cohort>`` so that the pages of several cohorts can stand in one book.

    Parameters
    ----------
    notebook : NotebookNode
        From `read_executed`; not changed.
    kind : {"phantom", "open", "gated"}
        The cohort's kind, from its parameter file.
    folders, binder : sequence of (str, str), str
        From `machine_folders` and `binder_of`.
    drawings : mapping, optional
        From `drawn`: a cell labelled ``fig-<name>`` with one picture shows that of its name.

    Raises
    ------
    ValueError
        If the title is missing or not the only one, an output has no form that can be printed without a network, an
        option stands where it has no effect, or a labelled figure shows none.
    """
    page, suffix = copy.deepcopy(notebook), f"-{chapter.study}-{chapter.cohort}"
    page.nbformat, page.nbformat_minor, page.metadata = 4, 5, nbformat.from_dict(PYTHON)
    injected = [cell for cell in page.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    for number, cell in enumerate(page.cells, 1):
        where = f"{chapter.name}, cell {number}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        cell.source = _without(cell.source, folders)
        if cell.cell_type == "code":
            tags = cell.metadata.get("tags", [])
            if injected and {"parameters", "injected-parameters"} & set(tags):
                cell.metadata["tags"] = [*tags, "remove-cell"]
            cell.outputs = _printed(cell.outputs, where, folders)
            _label(cell, suffix, where, drawings or {})
        elif cell.cell_type == "markdown":
            cell.source = _renamed(cell.source, suffix)
    _entitle(page, chapter, kind, binder)
    if injected:  # papermill's own cell cannot be styled or captioned
        given = injected[0].source.removeprefix("# Parameters\n").strip()
        head = '<details class="code-fold"><summary>Parameters of this run</summary>'
        folded = nbformat.v4.new_markdown_cell(f"{head}\n\n```python\n{given}\n```\n\n</details>")
        page.cells.insert(1, folded)
    for number, cell in enumerate(page.cells, 1):
        cell.id = f"cell-{number}"
    return page


def _renamed(text: str, suffix: str) -> str:
    """References and labels with the page's suffix."""
    found = re.compile(rf"(?<![\w/])([@#])({LABEL})")
    return found.sub(lambda match: match[0] if match[0].endswith(suffix) else match[0] + suffix, text)


def _printed(outputs: Sequence[NotebookNode], where: str, folders: Sequence[tuple[str, str]]) -> list:
    """Outputs in forms that need no net: streams joined, without stderr."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name != "stdout":
                continue
            output.text = _without(output.text, folders)
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
                continue
        else:
            data = {mime: output.data[mime] for mime in PRINTED if mime in output.data}
            unseen = re.fullmatch(r"<[\w.]+( object)?( at 0x\w+)?>", str(data.get("text/plain", "")).strip())
            if not data or (list(data) == ["text/plain"] and len(output.data) > 1 and unseen):
                shown = ", ".join(sorted(set(output.data) - {"text/plain"}))
                raise ValueError(
                    f"{where} shows only {shown}, which needs scripts from the net: display Markdown."
                )
            for mime in set(data) - {"image/png", "image/jpeg"}:
                data[mime] = _without(data[mime], folders)
            if "text/markdown" in data:
                data["text/markdown"] = _set(data["text/markdown"])
            output.data, output.metadata = nbformat.from_dict(data), nbformat.from_dict({})
        kept.append(output)
    return kept


def _set(table: str) -> str:
    """A table in which no line ends within an interval, and a missing number leaves its cell empty."""
    table = re.sub(r"\(([-+−]?[\d.]+) to ([-+−]?[\d.]+)\)", "(\\1\u00a0to\u00a0\\2)", table)
    return re.sub(r"(?<=\|)( *)nan( *)(?=\|)", r"\1   \2", table)


def _label(cell: NotebookNode, suffix: str, where: str, drawings: Mapping[str, str]) -> None:
    """Give a cell's label and references the page's suffix, and a figure its drawing, words and room."""
    lines = options(cell.source)
    rest, given = cell.source.splitlines()[len(lines) :], site.given(lines)
    if any(line.startswith("#|") for line in rest):
        raise ValueError(
            f"{where}: '#|' options must be the cell's very first lines, or Quarto ignores them."
        )
    for output in cell.outputs:
        if "text/markdown" in output.get("data", {}):
            output.data["text/markdown"] = _renamed(output.data["text/markdown"], suffix)
    label = str(given.get("label", ""))
    if not label.startswith("fig-"):
        return
    pictures = [output for output in cell.outputs if set(PICTURES) & set(output.get("data", {}))]
    if not pictures and not any("text/markdown" in output.get("data", {}) for output in cell.outputs):
        raise ValueError(f"{where}: {label} shows no picture: end the cell with the figure.")
    if not pictures:  # words say why there is no figure
        cell.source = "\n".join(rest)
        return
    if len(pictures) == 1 and label[4:] in drawings:
        pictures[0].data = nbformat.from_dict({"image/svg+xml": drawings[label[4:]]})
    head = _renamed("\n".join(lines), suffix).replace(f"label: {label}", f"label: {label}{suffix}")
    if "fig-alt" not in given and "fig-cap" in given:
        head += f"\n#| fig-alt: {json.dumps(caption_words(str(given['fig-cap'])), ensure_ascii=False)}"
    if any(map(_wide, pictures)):
        head += "\n#| fig-column: page-right"
    cell.source = "\n".join([head, *rest])


def _wide(picture: NotebookNode) -> bool:
    width = re.search(r'<svg[^>]*?\bwidth="([\d.]+)pt"', picture.data.get("image/svg+xml", ""))
    return width is not None and float(width[1]) > WIDE


def _entitle(page: NotebookNode, chapter: Chapter, kind: str, binder: str) -> None:
    """Name study, stage, cohort and kind in the one title, in the first cell; no chapter has a number, for it would hang on what was run."""
    titles = [
        (number, line)
        for number, cell in enumerate(page.cells, 1)
        if cell.cell_type == "markdown"
        for line in re.findall(r"^#\s+\S.*", re.sub(r"^```.*?^```", "", cell.source, flags=re.M | re.S), re.M)
    ]
    if [number for number, _ in titles] != [1]:
        raise ValueError(
            f"{chapter.name}: one '# Title' must stand in its first cell, and none below; there are "
            + (", ".join(f"'{line}' in cell {number}" for number, line in titles) or "none")
        )
    title, attributes = re.fullmatch(r"#\s+(.*?)\s*(\{[^}]*\})?\s*", titles[0][1]).groups()
    notice = f'\n\n::: {{.callout-note appearance="minimal" .kind .kind-{kind}}}\n{NOTICES[kind]}\n:::\n'
    if binder:
        notice += f"\n[Run this notebook in Binder]({binder}){{.launch}}, after those before it.\n"
    if title.endswith("?"):  # too long for the table of contents
        title, notice = chapter.stage[2:].capitalize(), f"{notice}\n**{title}**\n"
    study, cohort = results.studies()[chapter.study]["name"], names.name(chapter.cohort, "cohorts")
    shown = f"{study}, {chapter.stage[0]} {title}: {cohort} ({kind})"
    named = f"# {shown} {{{(attributes or '{}')[1:-1]} .unnumbered}}".replace("{ ", "{") + notice
    page.cells[0].source = page.cells[0].source.replace(titles[0][1], named, 1)


def drawn(cohort: Path, stage: str) -> dict[str, str]:
    """A stage's figures by name, in lines: those its manifest names, unchanged since, below `LARGEST_DRAWING`."""
    found = {}
    for name, digest in results.manifests(cohort).get(stage, {}).get("outputs", {}).items():
        path = cohort / name
        drawing = path.parent.name == "figures" and path.suffix == ".svg" and path.is_file()
        if drawing and path.stat().st_size <= LARGEST_DRAWING and sha256_of(path) == digest:
            found[path.stem] = site.on_the_page(path.read_text(encoding="utf-8"))
    return found


def generated(root: Path) -> dict[str, str]:
    """The parts of pages that the notebooks in ``book/`` hand to `lib.results.glue`; the notebooks run side by side.

    A notebook that fails raises RuntimeError, with its name and words.
    """
    paths = sorted((root / "book").glob("*.ipynb"))
    with ProcessPoolExecutor() as processes:
        made = list(processes.map(_parts_of, paths, [results.results_folder(root)] * len(paths)))
    return {name: text for parts in made for name, text in parts.items()}


def _parts_of(path: Path, folder: Path) -> dict[str, str]:
    """What one notebook hands over; its cells run in this process, in the notebook's folder, on the results in `folder`."""
    os.environ["CROSSBOOK_RESULTS"] = str(folder)
    os.chdir(path.parent)
    matplotlib.use("agg")
    results.PARTS.clear()
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    try:
        with redirect_stdout(io.StringIO()):
            exec(compile("\n".join(cells), str(path), "exec"), {"__name__": "__main__"})
    except Exception as error:
        raise RuntimeError(f"book/{path.name}: {type(error).__name__}: {error}") from error
    return dict(results.PARTS)


def filled(
    text: str, page: str, parts: Mapping[str, str], pages: Sequence[str], root: Path
) -> tuple[str, dict[str, bytes]]:
    """A page in which each ``<!-- generated: NAME -->`` became the part of that name, and the pictures it needs by place.

    Links are written as seen from `page`, its place in the book; one to none of the book's `pages` becomes its words.
    ValueError where no part of those from `generated` has that name.
    """
    pictures: dict[str, bytes] = {}

    def picture(match: re.Match) -> str:
        place = str(PurePosixPath(page).with_suffix("") / match[2].replace("/", "-"))
        pictures[place] = (results.results_folder(root) / match[2]).read_bytes()
        return match[1] + site.seen_from(page, place)

    def link(match: re.Match) -> str:
        place, _, anchor = match[2].partition("#")
        target = site.seen_from(page, place) + (f"#{anchor}" if anchor else "")
        return f"[{match[1]}]({target})" if place in pages else match[1]

    def part(match: re.Match) -> str:
        if match[1] not in parts:
            raise ValueError(f"{page}: no part is called {match[1]}; there are {', '.join(sorted(parts))}.")
        whole = re.sub(MARK, part, parts[match[1]])  # a part may hold others
        made = _set(re.sub(r'(\(|narrow=")/results/([^)"\s]+)', picture, whole))
        return re.sub(r"\[([^\[\]]*)\]\(/([^)\s]+)\)", link, made).strip("\n") + "\n"

    pieces = CODE.split(text)
    for at in range(0, len(pieces), 2):
        pieces[at] = re.sub(MARK, part, pieces[at])
    return "".join(pieces), pictures


def laid_files(root: Path) -> tuple[dict[str, bytes], list[str]]:
    """What the book's folder holds, by path: pages with their parts and cleaned notebooks; and what was left out.

    FileNotFoundError or ValueError if a page or a demo is missing, a notebook is unfit to print, or two pages define
    one label. Equal results give equal bytes.
    """
    contents, notes = pruned(read_contents(root), root)
    files = {"_quarto.yml": yaml.safe_dump(contents, sort_keys=False, allow_unicode=True).encode()}
    parts, folders, pages = generated(root), machine_folders(root), [place for _, place in places(contents)]
    defined: dict[str, str] = {}

    def define(found: Sequence[str], page: str) -> None:
        for label in found:
            if (other := defined.setdefault(label, page)) != page:
                raise ValueError(f"label {label} is defined in {other} and in {page}: rename one.")

    looks = [path.relative_to(root).as_posix() for path in sorted((root / "book").rglob("*.*"))]
    named = [place for place in [*pages, contents.get("bibliography", "index.qmd")] if place[-6:] != ".ipynb"]
    for name in dict.fromkeys([*named, *(name for name in looks if not name.endswith((".qmd", ".ipynb")))]):
        files[name] = (root / name).read_bytes()
        if name.endswith(".qmd"):
            text, pictures = filled(files[name].decode(), name, parts, pages, root)
            text, shown, still = pieces.placed(text, name, root)
            define(text_labels(text), name)
            files |= {name: text.encode(), **pictures, **shown}
            for place in (each for each in [*pictures, *shown] if each.endswith(".svg")):
                files[place] = site.on_the_page(files[place].decode()).encode()
            notes += still
    files |= pieces.library(root)
    for chapter in chapters(contents):
        path = results.results_folder(root) / chapter.executed
        kind = results.kind_of(root, chapter.study, chapter.cohort)
        binder = binder_of(contents, chapter) if chapter.cohort == "demo" else ""
        drawings = drawn(path.parents[1], chapter.stage)
        page = cleaned(read_executed(path, chapter.name), chapter, kind, folders, binder, drawings)
        define(labels(page), chapter.name)
        files[chapter.place] = (nbformat.writes(page) + "\n").encode()
    return files, notes


def make_book(root: Path, only_preview: bool = False, require_quarto: bool = False) -> str:
    """Make ``_book/`` from the executed notebooks in ``results/``; what was done, in words for the terminal.

    Nothing is, where the book that is there was made of the same files. `only_preview` renders with nbconvert even where
    Quarto is installed, `require_quarto` raises where it is missing. FileNotFoundError, ValueError or RuntimeError if
    something is missing, unfit to print, or the rendered site is not whole; the old book stays.
    """
    root = Path(root).resolve()
    quarto = None if only_preview else site.find_quarto()
    if quarto is None and require_quarto:
        raise RuntimeError(f"no quarto program was found; {site.HOW_TO_GET_QUARTO}.")
    files, notes = laid_files(root)
    renderer = f"quarto {quarto[1]}" if quarto else f"preview {sha256_of(site.__file__)}"
    stamp = hashlib.sha256(repr([renderer, sorted(files.items())]).encode()).hexdigest()
    final, folder = root / "_book", root / "_build" / "book"
    if (final / ".stamp").is_file() and (final / ".stamp").read_text(encoding="utf-8") == stamp:
        return "book: nothing changed"
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        with written(folder / name) as part:
            part.write_bytes(content)
    log = folder.parent / "quarto.log"
    made, faults = site.quarto(quarto[0], folder, log) if quarto else (site.preview(folder), [])
    if faults := [*faults, *site.faults(made, machine_folders(root))]:
        raise RuntimeError("\n  ".join(["the rendered book is not whole:", *faults]))
    (made / ".stamp").write_text(stamp, encoding="utf-8")
    # a reader finds the old book or the new one, never half of either
    aside = made.with_name("_book-before")
    if final.exists():
        os.replace(final, aside)
    os.replace(made, final)
    shutil.rmtree(aside, ignore_errors=True)
    count = sum(name.endswith(".ipynb") for name in files)
    notes.append(f"_book/index.html, {count} chapters, {renderer if quarto else 'a preview without Quarto'}")
    return "\n".join(f"book: {note}" for note in [*notes, *([] if quarto else [site.HOW_TO_GET_QUARTO])])


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.book", description="Render the book from results/.")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's folder")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--preview", action="store_true", help="the preview, even with Quarto")
    choice.add_argument("--require-quarto", action="store_true", help="fail where Quarto is missing")
    asked = parser.parse_args(arguments)
    try:
        print(make_book(asked.root, asked.preview, asked.require_quarto))
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
