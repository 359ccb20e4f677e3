"""The book: executed notebooks laid over the source tree's pages and rendered, `python -m lib.study.book`."""

import argparse
import hashlib
import os
import shutil
import sys
from pathlib import Path

import nbformat
import yaml

from lib.files import sha256_of, written
from lib.study.book import preview, quarto, site
from lib.study.book.chapters import cleaned, labels, machine_folders, text_labels
from lib.study.book.contents import (
    chapters,
    places,
    pruned,
    read_contents,
    results_folder,
    unlisted,
)
from lib.study.book.drawings import drawings
from lib.study.book.executed import read_executed
from lib.study.book.generated import filled
from lib.study.book.launch import binder_of, repository_of
from lib.study.book.records import Records


def laid_files(root: Path) -> tuple[dict[str, bytes], list[str]]:
    """What the book's folder holds: the source tree's pages, generated parts written out, and the cleaned notebooks.

    Parameters
    ----------
    root : Path
        The repository.

    Returns
    -------
    (dict of str to bytes, list of str)
        Files by their path in the folder, and one sentence for each cohort left out.
        Equal results give equal bytes.

    Raises
    ------
    FileNotFoundError, ValueError
        If a page or a demo is missing, a notebook is unfit to print, or two pages define one label.
    """
    root = Path(root)
    whole = read_contents(root)
    contents, notes = pruned(whole, root)
    files = {"_quarto.yml": yaml.safe_dump(contents, sort_keys=False, allow_unicode=True).encode()}
    records, folders = Records(root, contents), machine_folders(root)
    repository = repository_of(contents)
    defined: dict[str, str] = {}
    named = [place for _, place in places(contents) if not place.endswith(".ipynb")]
    named += [contents["bibliography"]] if "bibliography" in contents else []
    for path in [*(root / place for place in named), *sorted((root / "book").rglob("*"))]:
        name = path.relative_to(root).as_posix()
        if name in named and not path.is_file():
            raise FileNotFoundError(f"{name} is named by _quarto.yml but missing.")
        if not path.is_file() or name in files or (path.suffix == ".qmd" and name not in named):
            continue
        files[name] = path.read_bytes()
        if path.suffix == ".qmd":
            text, pictures = filled(path.read_text(encoding="utf-8"), name, records)
            _define(defined, text_labels(text), name)
            files |= {name: text.encode(), **pictures}
    for chapter in chapters(contents):
        notebook = read_executed(chapter.path(root), chapter.executed)
        binder = binder_of(repository, chapter.study, chapter.stage) if chapter.cohort == "demo" else ""
        page = cleaned(
            notebook,
            chapter.executed,
            chapter.study,
            chapter.cohort,
            chapter.kind(root),
            folders,
            binder,
            drawings(results_folder(root) / chapter.study / chapter.cohort, chapter.stage),
        )
        _define(defined, labels(page), chapter.executed)
        files[chapter.place] = (nbformat.writes(page) + "\n").encode()
    return files, notes + unlisted(whole, root)


def _define(defined: dict[str, str], found: list[str], page: str) -> None:
    for label in found:
        if label in defined:
            raise ValueError(f"label {label} is defined in {defined[label]} and in {page}: rename one.")
        defined[label] = page


def stamp_of(files: dict[str, bytes], renderer: str) -> str:
    """SHA-256 over names and contents of all laid files, and the renderer's name."""
    digest = hashlib.sha256(renderer.encode())
    for name in sorted(files):
        digest.update(f"\n{name}\n{len(files[name])}\n".encode() + files[name])
    return digest.hexdigest()


def lay(files: dict[str, bytes], folder: Path) -> None:
    """Make a folder anew that holds these files and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        with written(folder / name) as part:
            part.write_bytes(content)


def replace_folder(new: Path, old: Path) -> None:
    """Put a whole folder in another's place: a reader finds the one or the other, never half of either."""
    aside = new.with_name(f"{new.name}-before")
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        os.replace(old, aside)
    os.replace(new, old)
    shutil.rmtree(aside, ignore_errors=True)


def make_book(root: Path, only_preview: bool = False, require_quarto: bool = False) -> str:
    """Make ``_book/`` from the executed notebooks in ``results/``.

    Parameters
    ----------
    root : Path
        The repository.
    only_preview : bool
        Render with nbconvert even where Quarto is installed.
    require_quarto : bool
        Raise where Quarto is missing, rather than render the preview.

    Returns
    -------
    str
        What was done, for the terminal; that nothing was, where laid files and renderer are
        those of the book that is there.

    Raises
    ------
    FileNotFoundError, ValueError, RuntimeError
        If something is missing, unfit to print, or the rendered site is not whole; the old book stays.
    """
    root = Path(root).resolve()
    files, notes = laid_files(root)
    found = None if only_preview else quarto.find_quarto()
    if found is None and require_quarto:
        raise RuntimeError(f"no quarto program was found; {quarto.HOW_TO_GET}.")
    renderer = f"quarto {found[1]}" if found else f"preview {sha256_of(preview.__file__)}"
    stamp, final, folder = stamp_of(files, renderer), root / "_book", root / "_build" / "book"
    if (final / ".stamp").is_file() and (final / ".stamp").read_text(encoding="utf-8") == stamp:
        return "book: nothing changed"
    lay(files, folder)
    made, faults = (
        quarto.render(found[0], folder, folder.parent / "quarto.log")
        if found
        else (preview.render(folder), [])
    )
    faults += site.faults(made, machine_folders(root))
    if faults:
        raise RuntimeError("the rendered book is not whole:\n" + "\n".join(f"  {fault}" for fault in faults))
    (made / ".stamp").write_text(stamp)
    replace_folder(made, final)
    count = sum(name.endswith(".ipynb") for name in files)
    notes.append(f"_book/index.html, {count} chapters, {renderer if found else 'a preview without Quarto'}")
    if not found:
        notes.append(quarto.HOW_TO_GET)
    return "\n".join(f"book: {note}" for note in notes)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.study.book", description="Render the book from results/."
    )
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's folder")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--preview", action="store_true", help="the plain preview even where Quarto is installed"
    )
    choice.add_argument("--require-quarto", action="store_true", help="fail where Quarto is missing")
    options = parser.parse_args(arguments)
    try:
        print(make_book(options.root, options.preview, options.require_quarto))
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    return 0
