"""Demo and null side by side: what the pipeline says when there is nothing to find."""

import pandas as pd

from lib.study.book.parts.standings import outside
from lib.study.book.parts.tables import estimate, pipe_table
from lib.study.book.records import Cohort, Records


def demo_null(records: Records, page: str, wanted: str = "") -> tuple[str, dict[str, bytes]]:
    """Main metric of every model in demo and null, with intervals; of one study, or of all in turn.

    Raises
    ------
    ValueError
        If there is no such study.
    """
    made = []
    for key in records.asked(page, wanted):
        demo, null = (records.cohorts.get((key, name)) for name in ("demo", "null"))
        if demo is not None and null is not None:
            made.append(_study(records, page, demo, null, heading=not wanted))
    return "\n".join(made) or "No demo and null were evaluated on this machine: `make book` does that.\n", {}


def _study(records: Records, page: str, demo: Cohort, null: Cohort, heading: bool) -> str:
    study, found = demo.study, _sides(demo, null)
    settings = found["setting"].nunique() > 1
    rows = [
        [
            *([row["setting"]] if settings else []),
            f"`{row['model']}`" + ("\u00a0\\*" if row["model"] == study.model else ""),
            row["demo"],
            row["null"],
            row["covers"],
        ]
        for _, row in found.iterrows()
    ]
    tested = found[found["covers"].isin(["yes", "**no**"])]
    covering = int((tested["covers"] == "yes").sum())
    words = f"{covering} of {len(tested)} intervals of `null` cover {study.chance:g}."
    if covering < len(tested):
        words += (
            " An interval of 95 % misses the truth one time in twenty, so that among many models one may "
            "miss it by chance; look at how far."
        )
    evaluate = (records.chapter(study.key, cohort.name, "evaluate") for cohort in (demo, null))
    links = " and ".join(
        records.link(page, f"*Evaluate* of `{name}`", target)
        for name, target in zip(("demo", "null"), evaluate, strict=True)
    )
    columns = {"Setting": "l"} if settings else {}
    columns |= {"Model": "l", "`demo`": "r", "`null`": "r", f"`null` covers {study.chance:g}": "c"}
    caption = (
        f"{study.name}: {study.words} with its 95 % interval where an effect was planted and where there is none. "
        "The study's model is marked \\*; a dash: not trained on `null`; *all alike*: every patient has the same score."
    )
    table = pipe_table(columns, rows, caption, f"tbl-demo-null-{study.key}")
    title = f"## {study.name}\n\n" if heading else ""
    return f"{title}{words} More in {links}.\n\n{table}"


def _sides(demo: Cohort, null: Cohort) -> pd.DataFrame:
    study, keys = demo.study, ["setting", "model"]
    ours, theirs = demo.main().set_index(keys), null.main().set_index(keys)
    order = list(dict.fromkeys([*ours.index, *theirs.index]))
    rows = []
    for key in order:
        covers = ""
        if key in theirs.index and pd.notna(theirs.loc[key, "estimate"]):
            row = theirs.loc[key]
            covers = "**no**" if outside(row, study.chance) else "yes"
            if row["low"] == row["high"]:  # Kaplan-Meier, or a signature that found nothing to look at
                covers = "all alike"
        rows.append(
            {
                "setting": key[0],
                "model": key[1],
                "demo": _cell(ours, key),
                "null": _cell(theirs, key),
                "covers": covers,
            }
        )
    return pd.DataFrame(rows)


def _cell(table: pd.DataFrame, key: tuple[str, str]) -> str:
    if key not in table.index:
        return "–"
    row = table.loc[key]
    if pd.isna(row["estimate"]):
        return "not computable"
    return estimate(row)
