"""What the papers printed, number by number, beside ours where there is one: phantoms have no place here."""

import pandas as pd

from lib.statistics.comparison import margin as margin_of
from lib.statistics.published import as_printed, published_against_ours
from lib.study.book.parts.tables import interval, number, pipe_table
from lib.study.book.records import Records, Study

MISSING = "The paper's numbers are not in this copy.\n"
WORDS = {
    "auc": "AUROC",
    "ap": "average precision",
    "f1": "F1",
    "c_index": "c-index",
    "accuracy": "accuracy",
    "logrank_p_pooled_median": "log-rank p",
}


def printed(records: Records, page: str, key: str) -> tuple[str, dict[str, bytes]]:
    """Every number of a study's paper that any source gave, with how sure it is, and ours on the same cohort.

    Where a paper has the same rows for several cohorts, these stand side by side, as they do there.

    Raises
    ------
    ValueError
        If there is no such study.
    """
    (key,) = records.asked(page, key)
    study, published = records.studies[key], records.published(key)
    if published is None:
        return MISSING, {}
    found = published[published["value"].notna()]
    if found["item"].duplicated().any():
        made = _wide(study, found)
    else:
        made = _long(study, found, _ours(records, study, found))
    if lost := published.loc[published["value"].isna(), "item"].tolist():
        made += f"\nLooked for, and given by no source that could be read: {'; '.join(lost)}.\n"
    return made, {}


def margin(records: Records, page: str, key: str, patients: str) -> tuple[str, dict[str, bytes]]:
    """What a paper's accuracies of so many patients can show, when nothing else of it is known."""
    (key,) = records.asked(page, key)
    published = records.published(key)
    if published is None:
        return MISSING, {}
    table = margin_of(published.set_index("item")["value"].to_dict(), int(patients))
    rows = [
        [
            row.model,
            f"{number(row.accuracy)} ({interval(row.low, row.high)})",
            row.right,
            row.fewer,
            number(row.least_p) or "–",
        ]
        for row in table.itertuples()
    ]
    columns = {"Model": "l", "Accuracy": "r", "Right": "r", "Behind": "r", "Least p": "r"}
    caption = (
        f"The paper's accuracies of {patients} patients, with Wilson's 95 % interval; how many patients that is, how many a "
        "model is behind the first, and the smallest p that McNemar's test could give for that."
    )
    return pipe_table(columns, rows, caption, f"tbl-margin-{key}"), {}


def _ours(records: Records, study: Study, found: pd.DataFrame) -> pd.DataFrame:
    real = [cohort.metrics for cohort in records.of(study.key) if cohort.kind != "phantom"]
    metrics = pd.concat(real) if real else pd.DataFrame(columns=["model", "cohort", "setting", "metric"])
    return published_against_ours(found, metrics).set_index(found.index)


def _long(study: Study, found: pd.DataFrame, ours: pd.DataFrame) -> str:
    rows = [
        [
            row["item"],
            row["cohort"],
            WORDS.get(row["metric"], f"`{row['metric']}`"),
            as_printed(row["value"]),
            f"{number(mine['ours'])} ({interval(mine['low'], mine['high'])})"
            if pd.notna(mine["ours"])
            else "–",
            row["certainty"],
        ]
        for (_, row), (_, mine) in zip(found.iterrows(), ours.iterrows(), strict=True)
    ]
    columns = {"What": "l", "Whose": "l", "Metric": "l", "Printed": "r", "Ours": "r", "How sure": "l"}
    caption = f"{study.name}: what the paper printed, and ours on the same cohort where it was run here."
    return pipe_table(columns, rows, caption, f"tbl-printed-{study.key}", wide=True)


def _wide(study: Study, found: pd.DataFrame) -> str:
    cohorts = list(dict.fromkeys(found["cohort"]))
    rows = []
    for (item, metric), lines in found.groupby(["item", "metric"], sort=False):
        here = lines.set_index("cohort")["value"]
        cells = [as_printed(here[name]) if name in here else "–" for name in cohorts]
        rows.append([item, WORDS.get(metric, f"`{metric}`"), *cells])
    columns = {"What": "l", "Metric": "l"} | {f"`{name}`": "r" for name in cohorts}
    sure = "; ".join(
        f"{certainty} ({len(lines)} numbers)" for certainty, lines in found.groupby("certainty", sort=False)
    )
    caption = f"{study.name}: what the paper printed, by cohort. How sure we are: {sure}."
    return pipe_table(columns, rows, caption, f"tbl-printed-{study.key}", wide=True)
