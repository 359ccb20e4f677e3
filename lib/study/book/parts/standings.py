"""The home page's table: where each study stands."""

import pandas as pd

from lib.statistics.published import published_against_ours
from lib.study.book.contents import kind_of
from lib.study.book.parts.printed import WORDS as METRICS
from lib.study.book.parts.tables import interval, number, pipe_table
from lib.study.book.records import Cohort, Records, Study

COLUMNS = {
    "Study": "l",
    "Kind": "l",
    "What": "l",
    "Metric": "l",
    "Published": "l",
    "Ours": "r",
    "95 % interval": "r",
    "Verdict": "l",
}


def studies(records: Records, page: str) -> tuple[str, dict[str, bytes]]:
    """The studies at a glance, and the cohorts of each that were evaluated on this machine."""
    rows = []
    for study in records.studies.values():
        link = records.link(page, study.name, f"notebooks/{study.key}/index.qmd")
        cite = f" [@{study.cite}]" if study.cite else ""
        cohorts = ", ".join(_of(records, page, study, cohort.name) for cohort in records.of(study.key))
        rows.append([link + cite, study.question, study.input, study.fusion, cohorts or "not run here"])
    columns = ("Study", "Question", "Raw input", "How the modalities meet", "Evaluated in this copy")
    caption = "The studies, and the cohorts that were evaluated on the machine that made this copy."
    return pipe_table(dict.fromkeys(columns, "l"), rows, caption, "tbl-studies"), {}


def standings(records: Records, page: str) -> tuple[str, dict[str, bytes]]:
    """One table: each study's main published number against ours, and what its phantoms say, in rows of their own.

    A phantom's row has no published number: none is comparable.
    """
    rows = []
    for study in records.studies.values():
        if not list(records.of(study.key)):
            continue
        rows += [_compared(records, page, study, wanted) for wanted in study.comparisons]
        rows += [_phantom(records, page, cohort) for cohort in records.of(study.key) if cohort.name == "demo"]
        rows += [_phantom(records, page, cohort) for cohort in records.of(study.key) if cohort.name == "null"]
    if not rows:
        return "No study was evaluated on this machine: `make book` does that.\n", {}
    for at in range(len(rows) - 1, 0, -1):  # a study's name once, above its rows
        if rows[at][0] == rows[at - 1][0]:
            rows[at][0] = ""
    caption = (
        "Where each study stands. *Published* is the paper's number and how sure we are of it; *reproduced* "
        "means that it was verified and lies within our 95 % interval. Rows of a phantom tell of the study's own model; they have no "
        "published number, as none could be compared with them."
    )
    return pipe_table(COLUMNS, rows, caption, "tbl-standings", wide=True), {}


def _compared(records: Records, page: str, study: Study, wanted: dict[str, str]) -> list[str]:
    """A study's published number, ours where the cohort was run, and the verdict or the reason of none."""
    name = wanted["cohort"]
    row = _row(records, study, wanted)
    cohort = records.cohorts.get((study.key, name))
    metrics = cohort.metrics if cohort else pd.DataFrame(columns=["model", "cohort", "setting", "metric"])
    joined = published_against_ours(row, metrics).iloc[0]
    verdict = joined["verdict"]
    if verdict.startswith("not testable") and "without" in wanted:
        verdict = f"not testable here: {wanted['without']}"
    words = f"{wanted.get('as') or _of(records, page, study, name)}: {wanted.get('words') or wanted['item'].split(', Table')[0]}"
    return [
        records.link(page, study.name, f"notebooks/{study.key}/index.qmd"),
        wanted.get("kind") or (cohort.kind if cohort else kind_of(records.root, study.key, name)),
        words,
        METRICS.get(row["metric"].iloc[0], f"`{row['metric'].iloc[0]}`"),
        f"{number(joined['published'])} ({_first(joined['certainty'])})",
        number(joined["ours"]) or "–",
        interval(joined["low"], joined["high"]) or "–",
        _first(verdict),
    ]


def _first(text: str) -> str:
    """What stands before the first semicolon: the whole is in the study's own table."""
    return text.split(";")[0]


def _row(records: Records, study: Study, wanted: dict[str, str]) -> pd.DataFrame:
    published = records.published(study.key)
    if published is None:
        raise FileNotFoundError(
            f"data/published/{study.key}.csv is missing: book/studies.yaml names an item of it."
        )
    here = (published["cohort"] == wanted["cohort"]) | (published["ours_cohort"] == wanted["cohort"])
    row = published[here & (published["item"] == wanted["item"])]
    if len(row) != 1:
        raise ValueError(
            f"book/studies.yaml, {study.key}: the item '{wanted['item']}' of {wanted['cohort']} stands {len(row)} "
            f"times in data/published/{study.key}.csv, expected once."
        )
    return row


def _phantom(records: Records, page: str, cohort: Cohort) -> list[str]:
    """The main model on a phantom: whether what was planted is found, and chance scored where nothing was."""
    study, rows = cohort.study, cohort.main()
    rows = rows[rows["model"] == study.model]
    if rows.empty:
        raise ValueError(
            f"results/{study.key}/{cohort.name}/metrics.csv has no row of {study.model}, the model that "
            "book/studies.yaml names."
        )
    row = rows.iloc[0]
    words = f"{_of(records, page, study, cohort.name)}: {row['setting']}"
    found = (
        f"{'does not cover' if outside(row, study.chance) else 'covers'} chance, as it must"
        if cohort.name == "null"
        else f"planted effect {'found' if row['low'] > study.chance else 'not found'}"
    )
    found = found.replace("does not cover chance, as it must", "**does not cover chance**")
    link = records.link(page, study.name, f"notebooks/{study.key}/index.qmd")
    ours, where = number(row["estimate"]), interval(row["low"], row["high"])
    return [link, "phantom", words, study.words, "none: a phantom", ours or "–", where or "–", found]


def _of(records: Records, page: str, study: Study, cohort: str) -> str:
    target = records.chapter(study.key, cohort, "figures") or records.chapter(study.key, cohort, "evaluate")
    return records.link(page, f"`{cohort}`", target)


def outside(row: pd.Series, chance: float) -> bool:
    """Whether a row's interval leaves chance out."""
    return not row["low"] <= chance <= row["high"]
