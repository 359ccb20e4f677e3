"""What was run here: the small result files of every study and cohort, as the book's generated parts read them."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
import yaml

from lib.study.book.contents import kind_of, places, results_folder
from lib.study.book.launch import repository_of


@dataclass(frozen=True)
class Study:
    """An entry of ``book/studies.yaml``.

    Attributes
    ----------
    name, cite, question, input, fusion : str
        Its name, the paper's key in references.bib ("" where there is none), and the home page's words on it.
    metric, words, model : str
        Its main metric as in ``metrics.csv`` and in words, and its main model.
    chance : float
        What the metric is where nothing was learnt.
    comparisons : list of dict
        cohort and item of ``data/published/<study>.csv``; where needed, what is missing ``without`` our own number,
        what to call the cohort (``as``) and its ``kind``, if no parameter file says that, and the item in other ``words``.
    released : str
        The model with all habits of the released code, "" if there is none.
    habits : dict of str to str
        Models that differ from the main one in a habit of the released code, and that habit in words.
    cuts : dict of str to str
        A metric at a cut that saw the test labels, and the same at one that did not.
    twins : dict of str to str
        A cohort run as the released code does, and the same run soundly.
    rivals : list of dict
        cohort, setting, model and what it is set against (``minus``) among the models of a real cohort, both in words
        too (``model_words``, ``minus_words``); ``of`` says which patients, where that is not all of the cohort.
    """

    key: str
    name: str
    cite: str
    question: str
    input: str
    fusion: str
    metric: str
    words: str
    chance: float
    model: str
    comparisons: list[dict[str, str]]
    released: str
    habits: dict[str, str]
    cuts: dict[str, str] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)
    rivals: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Cohort:
    """A cohort with results: its kind, and the tables that are there."""

    study: Study
    name: str
    kind: str
    folder: Path

    def table(self, name: str) -> pd.DataFrame | None:
        """``metrics.csv``, ``tables/habits.csv``, ...; None where it is not there or holds no row."""
        path = self.folder / name
        if not path.is_file() or not path.read_text(encoding="utf-8").strip():
            return None
        table = pd.read_csv(path)
        return table if len(table) else None

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """``metrics.csv``."""
        return self.table("metrics.csv")

    @cached_property
    def manifests(self) -> dict[str, dict]:
        """The manifests by stage, in order."""
        paths = sorted((self.folder / "manifests").glob("*.json"))
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}

    def main(self, metric: str | None = None) -> pd.DataFrame:
        """The rows of a metric (the study's main one), in the file's order.

        Raises
        ------
        ValueError
            If there are none: a metric that cannot be computed has a row that says so.
        """
        metric = metric or self.study.metric
        rows = self.metrics[self.metrics["metric"] == metric]
        if rows.empty:
            raise ValueError(
                f"results/{self.study.key}/{self.name}/metrics.csv has no row of {metric}, the metric that "
                "book/studies.yaml names: run stage 4-evaluate again, or name another."
            )
        return rows


class Records:
    """The results of a repository, and which of its pages the book holds.

    Parameters
    ----------
    root : Path
        The repository.
    contents : dict
        The table of contents, pruned of what was not run.
    """

    def __init__(self, root: Path, contents: dict):
        self.root, self.results = Path(root), results_folder(root)
        self.pages = [place for _, place in places(contents)]
        self.repository = repository_of(contents)

    @cached_property
    def studies(self) -> dict[str, Study]:
        """``book/studies.yaml``; ValueError where an entry has an unknown key or lacks one."""
        path = self.root / "book" / "studies.yaml"
        given = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        studies = {}
        for key, entry in given.items():
            try:
                studies[key] = Study(key=key, **entry)
            except TypeError as error:
                raise ValueError(
                    f"book/studies.yaml, {key}: {error}.".replace("Study.__init__() ", "")
                ) from None
        return studies

    def asked(self, page: str, study: str = "") -> list[str]:
        """One study, or all of them where none is named; ValueError where there is no such study."""
        if study and study not in self.studies:
            raise ValueError(
                f"{page}: book/studies.yaml has no study {study}; there are {', '.join(self.studies)}."
            )
        return [study] if study else list(self.studies)

    @cached_property
    def cohorts(self) -> dict[tuple[str, str], Cohort]:
        """Every cohort with a ``metrics.csv``, by study and name: demo and null first, then by name."""
        return {pair: cohort for pair, cohort in self.run.items() if cohort.metrics is not None}

    @cached_property
    def run(self) -> dict[tuple[str, str], Cohort]:
        """Every cohort of which a stage was finished, in the order of `cohorts`."""
        found = {}
        for key, study in self.studies.items():
            folders = [path.parent for path in self.results.glob(f"{key}/*/manifests")]
            first = {"demo": 0, "null": 1}
            for folder in sorted(folders, key=lambda path: (first.get(path.name, 2), path.name)):
                if not (self.root / "params" / key / f"{folder.name}.yaml").is_file():
                    continue  # somebody's trial: no parameter file says what it is
                kind = kind_of(self.root, key, folder.name)
                found[key, folder.name] = Cohort(study, folder.name, kind, folder)
        return found

    def of(self, study: str) -> Iterator[Cohort]:
        """The cohorts of a study that have metrics."""
        return (cohort for (key, _), cohort in self.cohorts.items() if key == study)

    def published(self, study: str) -> pd.DataFrame | None:
        """``data/published/<study>.csv``; None where there is none."""
        path = self.root / "data" / "published" / f"{study}.csv"
        return pd.read_csv(path) if path.is_file() else None

    def chapter(self, study: str, cohort: str, stage: str) -> str | None:
        """The place of a chapter if the book holds it, e.g. stage ``"evaluate"``."""
        start = f"notebooks/{study}/{cohort}/"
        return next(
            (p for p in self.pages if p.startswith(start) and Path(p).stem.endswith(f"-{stage}")), None
        )

    def link(self, page: str, words: str, target: str | None) -> str:
        """Words, as a link from one page to another where the book holds that."""
        if target is None or target not in self.pages:
            return words
        return f"[{words}]({Path(os.path.relpath(target, Path(page).parent)).as_posix()})"
