"""The book's table of contents: `_quarto.yml`, and which of its chapters were run here."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

REQUIRED = ("demo", "null")


@dataclass(frozen=True)
class Chapter:
    """The place of an executed notebook in the book: ``notebooks/<study>/<cohort>/<stage>.ipynb``."""

    place: str
    study: str
    cohort: str
    stage: str

    @classmethod
    def at(cls, place: str) -> "Chapter":
        """Take a place apart; ValueError where it is not of that form."""
        parts = PurePosixPath(place).with_suffix("").parts
        if len(parts) != 4 or parts[0] != "notebooks":
            raise ValueError(f"_quarto.yml: chapter {place} is not notebooks/<study>/<cohort>/<stage>.ipynb.")
        return cls(place, *parts[1:])

    @property
    def executed(self) -> str:
        """What papermill leaves of it, as people name it."""
        return f"results/{self.study}/{self.cohort}/notebooks/{self.stage}.ipynb"

    def path(self, root: Path) -> Path:
        """Where papermill leaves it."""
        return results_folder(root) / self.study / self.cohort / "notebooks" / f"{self.stage}.ipynb"

    def kind(self, root: Path) -> str:
        """The cohort's kind (phantom, open, gated), from its parameter file."""
        return kind_of(root, self.study, self.cohort)


def kind_of(root: Path, study: str, cohort: str) -> str:
    """A cohort's kind (phantom, open, gated), from its parameter file; FileNotFoundError without one."""
    path = root / "params" / study / f"{cohort}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{path.relative_to(root)} is missing: it says the kind of {cohort}.")
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("kind")


def results_folder(root: Path) -> Path:
    """``results/`` of a repository, or the folder that the environment variable CROSSBOOK_RESULTS names."""
    return Path(os.environ.get("CROSSBOOK_RESULTS") or Path(root) / "results")


def read_contents(root: Path) -> dict:
    """The repository's ``_quarto.yml`` as a dictionary; FileNotFoundError or ValueError where it is no book."""
    path = Path(root) / "_quarto.yml"
    if not path.is_file():
        raise FileNotFoundError(f"no _quarto.yml in {root}: run from the repository's root or give --root.")
    try:
        contents = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(contents, dict) or not contents.get("book", {}).get("chapters"):
        raise ValueError(f"{path} lists no chapters under book.")
    return contents


def places(contents: dict) -> Iterator[tuple[str | None, str]]:
    """Every page in order, as (page of its part or None, place)."""
    for entry in [*contents["book"]["chapters"], *contents["book"].get("appendices", [])]:
        if isinstance(entry, str):
            yield None, entry
            continue
        if "part" not in entry:
            raise ValueError(f"_quarto.yml: {entry} is neither a page nor a part with chapters.")
        yield entry["part"], entry["part"]
        for place in entry.get("chapters", []):
            yield entry["part"], place


def chapters(contents: dict) -> list[Chapter]:
    """The executed notebooks among the pages, in order."""
    return [Chapter.at(place) for _, place in places(contents) if place.endswith(".ipynb")]


def pruned(contents: dict, root: Path) -> tuple[dict, list[str]]:
    """The table of contents without the notebooks that were not run here.

    Parameters
    ----------
    contents : dict
        From `read_contents`; not changed.
    root : Path
        The repository.

    Returns
    -------
    (dict, list of str)
        The contents, and one sentence for each cohort left out, wholly or in part.

    Raises
    ------
    FileNotFoundError
        If a chapter of a demo or null cohort is missing: `make book` runs those.
    """
    missing = [chapter for chapter in chapters(contents) if not chapter.path(root).is_file()]
    for chapter in missing:
        if chapter.cohort in REQUIRED:
            raise FileNotFoundError(
                f"{chapter.executed} is missing: `make book` runs the stage before it renders."
            )
    notes = []
    for study, cohort in dict.fromkeys((chapter.study, chapter.cohort) for chapter in missing):
        listed = [c for c in chapters(contents) if (c.study, c.cohort) == (study, cohort)]
        stages = [c.stage for c in listed if c in missing]
        which = "" if len(stages) == len(listed) else f" {', '.join(stages)}"
        notes.append(
            f"left out: {study}/{cohort}{which} was not run here; make run STUDY={study} COHORT={cohort}"
        )
    gone = {chapter.place for chapter in missing}
    book = dict(contents["book"])
    for section in ("chapters", "appendices"):
        if section in book:
            book[section] = [
                _without(entry, gone)
                for entry in book[section]
                if isinstance(entry, dict) or entry not in gone
            ]
    return {**contents, "book": book}, notes


def _without(entry: str | dict, gone: set[str]) -> str | dict:
    if isinstance(entry, str):
        return entry
    return {**entry, "chapters": [place for place in entry.get("chapters", []) if place not in gone]}


def unlisted(contents: dict, root: Path) -> list[str]:
    """One sentence for each cohort that was run here and has no chapter in the book."""
    listed = {(chapter.study, chapter.cohort) for chapter in chapters(contents)}
    run = {path.parts[-4:-2] for path in results_folder(root).glob("*/*/notebooks/*.ipynb")}
    return [
        f"not in the book: {study}/{cohort} was run here but _quarto.yml lists no chapter of it"
        for study, cohort in sorted(run - listed)
    ]
