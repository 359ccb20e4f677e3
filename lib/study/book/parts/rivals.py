"""What a model adds to something plain, on real patients: paired differences, never two numbers side by side alone."""

import pandas as pd

from lib.study.book.parts.tables import difference, estimate, pipe_table, signed
from lib.study.book.records import Cohort, Records, Study

COLUMNS = {"Study": "l", "Cohort": "l", "Model": "l", "Something plain": "l", "Difference": "l", "So": "l"}


def rivals(records: Records, page: str) -> tuple[str, dict[str, bytes]]:
    """The model against something plain, in each real cohort that was run here and that book/studies.yaml names."""
    rows = []
    for study in records.studies.values():
        for wanted in study.rivals:
            cohort = records.cohorts.get((study.key, wanted["cohort"]))
            if cohort is not None:
                rows.append(_row(records, page, study, cohort, wanted))
    if not rows:
        return (
            "No real patients were evaluated on the machine that made this copy of the book: "
            "`make run STUDY=spacrd COHORT=her2st` runs such a cohort.\n"
        ), {}
    caption = (
        "The model, and what needs no fusion, on the same real patients; the difference is paired, with its 95 % "
        "interval. Where that holds 0, neither is shown to be better."
    )
    return pipe_table(COLUMNS, rows, caption, "tbl-rivals", wide=True), {}


def _row(records: Records, page: str, study: Study, cohort: Cohort, wanted: dict[str, str]) -> list[str]:
    where = f"book/studies.yaml, rivals of {study.key}/{cohort.name}"
    if cohort.kind == "phantom":
        raise ValueError(f"{where}: that is a phantom; only real cohorts stand in this table.")
    setting = wanted["setting"]
    table = cohort.table("tables/differences.csv")
    if table is not None and "setting" not in table:
        table = table.rename(columns={"where": "setting"})
    found = difference(table, wanted["model"], wanted["minus"], setting)
    metrics = cohort.metrics
    here = metrics[(metrics["metric"] == study.metric) & (metrics["setting"] == setting)].set_index("model")
    link = records.link(page, f"`{cohort.name}`", records.chapter(study.key, cohort.name, "evaluate"))
    return [
        records.link(page, study.name, f"notebooks/{study.key}/index.qmd"),
        f"{link}{', ' + wanted['of'] if 'of' in wanted else ''}",
        _named(wanted["model_words"], here, wanted["model"]),
        _named(wanted["minus_words"], here, wanted["minus"]),
        signed(found) or "–",
        _verdict(found),
    ]


def _named(words: str, metrics: pd.DataFrame, model: str) -> str:
    return f"{words}: {estimate(metrics.loc[model])}" if model in metrics.index else words


def _verdict(found: tuple[float, float, float] | None) -> str:
    if found is None:
        return "not compared: one of the two was not run"
    _, low, high = found
    return "better" if low > 0 else "**worse**" if high < 0 else "not settled"
