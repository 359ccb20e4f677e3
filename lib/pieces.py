"""Pieces of a page that answer to the hand: survival curves, cuts, slides and films, drawn by ``book/pieces/*.js``.

A page takes one as a Div around its still picture, which stands where there is no script, no data or no library::

    ::: {.piece data-piece="threshold" data-from="/results/spacrd/her2st/tables/cuts.csv"}
    ![Labels and scores.](/results/spacrd/her2st/figures/maps.png){#fig-cut}
    :::

The data are set into the page, because a browser lets no page that is opened from a disk read another file.
"""

import json
import re
from pathlib import Path, PurePosixPath

from lib import names, results
from lib.site import seen_from

LARGEST = 1_500_000  # bytes that a page's pieces may bring along: data, pictures, library
LIBRARY = "data/raw/openseadragon/package"  # from `make data COHORT=openseadragon`; never committed
FETCHED = {
    "book/pieces/openseadragon.js": f"{LIBRARY}/build/openseadragon/openseadragon.min.js",
    "book/pieces/openseadragon-licence.txt": f"{LIBRARY}/LICENSE.txt",
}
NEEDING = "slide"  # the kind of piece that the library is for
PIECE = re.compile(r"^(:{3,}) *\{\.piece\b([^}]*)\} *\n(.*?)\n\1 *$", re.MULTILINE | re.DOTALL)


def placed(text: str, page: str, root: Path) -> tuple[str, dict[str, bytes], list[str]]:
    """A page whose pieces hold their data; the pictures they show, by place; a sentence for each that stays still.

    ``data-from`` names one file or several: JSON as it is, a table as its columns under its name. Places that begin with
    ``/results/`` lie in the folder of results or, where they are not there, among those committed in ``data/results/``; others
    that begin with ``/`` in the repository. A picture that is not there becomes a sentence. ValueError where a piece names no
    kind that ``book/pieces/`` draws, or a page's pieces together are larger than `LARGEST`.
    """
    files: dict[str, bytes] = {}
    notes: list[str] = []
    sizes: dict[str, int] = {}
    kinds = {path.stem for path in (Path(root) / "book/pieces").glob("*.js")}

    def picture(match: re.Match) -> str:
        words, source, attributes = match.groups()
        if not (path := _path(source, root)).is_file():
            notes.append(f"{page}: no {source[1:]}")
            return f"*Not in this copy: `{source[1:]}`.*"
        place = str(PurePosixPath(page).with_suffix("") / source[1:].replace("/", "-"))
        files[place] = path.read_bytes()
        sizes[source] = len(files[place])
        return f"{words}({seen_from(page, place)}){attributes}"

    def piece(match: re.Match) -> str:
        fence, attributes, still = match.groups()
        keys = ("data-piece", "data-from")
        kind, source = ((re.search(rf'{key}="([^"]*)"', attributes) or [""] * 2)[1] for key in keys)
        if kind not in kinds:
            raise ValueError(f"{page}: no piece is called '{kind}'; there are {', '.join(sorted(kinds))}.")
        still = re.sub(r"(!?\[(?:[^\[\]]|\[[^\[\]]*\])*\])\((/[^)\s]+)\)(\{[^}\n]*\})?", picture, still)
        paths = {name: _path(name, root) for name in source.split()}
        if gone := [name[1:] for name, path in paths.items() if not path.is_file()]:
            notes.append(f"{page}: the piece '{kind}' is a still picture: {', '.join(gone)} is missing")
            return still
        data = json.dumps(_read(list(paths.values())), separators=(",", ":"))
        data = data.replace("</", "<\\/")  # words of the data end no script
        sizes[source] = len(data)
        inside = f'```{{=html}}\n<script type="application/json">{data}</script>\n```'
        kept = re.sub(r'\s*data-from="[^"]*"', "", attributes)
        return f"{fence} {{.piece{kept}}}\n{still}\n\n{inside}\n{fence}"

    made = PIECE.sub(piece, text)
    if f'data-piece="{NEEDING}"' in made:
        sizes |= {name: len(content) for name, content in library(root).items()}
        if not library(root):
            notes.append(f"{page}: a slide is a still picture: make data COHORT=openseadragon")
    if sum(sizes.values()) > LARGEST:
        told = ", ".join(f"{name} {size:,}" for name, size in sorted(sizes.items()))
        raise ValueError(f"{page}: its pieces are larger than {LARGEST:,} bytes: {told}.")
    return made, files, notes


def _path(source: str, root: Path) -> Path:
    """A file of the results made here, else of those that are committed; or of the repository."""
    made = results.results_folder(root) / source.removeprefix("/results/")
    if not source.startswith("/results/"):
        return Path(root) / source.lstrip("/")
    return made if made.is_file() else Path(root) / results.KEPT / source.removeprefix("/results/")


def _read(paths: list[Path]) -> dict:
    """JSON, or the columns of tables by name; what is missing is None. ``names``: what their models and settings are called."""
    data: dict = {}
    for path in paths:
        if path.suffix == ".csv":
            table = results.read(path)
            data[path.stem] = table.astype(object).where(table.notna(), None).to_dict("list")
            called = table.filter(["model", "setting"]).stack().unique()
            data.setdefault("names", {}).update({each: names.label(each) for each in called})
        else:
            data |= json.loads(path.read_text(encoding="utf-8"))
    return data


def library(root: Path) -> dict[str, bytes]:
    """OpenSeadragon and its licence by their places in the book; empty where they were not fetched."""
    paths = {place: Path(root) / path for place, path in FETCHED.items()}
    found = all(path.is_file() for path in paths.values())
    return {place: path.read_bytes() for place, path in paths.items()} if found else {}
