"""A paper's printed numbers beside ours."""

import numpy as np
import pandas as pd

_KEYS = {"ours_model": "model", "ours_cohort": "cohort", "ours_setting": "setting", "metric": "metric"}
_NEEDED = ["item", "metric", "value", "source", "certainty", "testable", "why", *list(_KEYS)[:3]]
_SHOWN = ["item", "where", "published", "certainty", "ours", "low", "high", "verdict", "note"]


def published_against_ours(published: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """Join data/published/<study>.csv with metrics.csv, one verdict a row.

    Parameters
    ----------
    published : DataFrame
        item, cohort, setting, metric, value (empty = the number was not found), source, certainty,
        testable ("yes" / "no"), why (why not, or what to keep in mind), ours_model, ours_cohort,
        ours_setting (empty where not testable).
    metrics : DataFrame
        metrics.csv of one or several cohorts.

    Returns
    -------
    DataFrame
        item, where, published, certainty, ours, low, high, verdict, note; the order of `published`.
        verdict is "reproduced" (the published value lies within our interval) or "not reproduced"; where nobody has
        verified the published value, that it lies inside or outside our interval; where it was recomputed from the
        predictions that ours are made of too, that it agrees by construction; or "not testable here: " and the reason.

    Raises
    ------
    ValueError
        Missing columns, a `testable` that is neither yes nor no, or two rows of metrics for one item.
    """
    if missing := [column for column in _NEEDED if column not in published]:
        raise ValueError(f"the table of published numbers lacks the columns {missing}")
    if odd := sorted(set(published["testable"]) - {"yes", "no"}):
        raise ValueError(f'`testable` must be "yes" or "no", found {odd}')
    keys = list(_KEYS.values())
    if metrics.duplicated(keys).any():
        twice = metrics.loc[metrics.duplicated(keys), keys].iloc[0].tolist()
        raise ValueError(
            f"metrics hold two rows for {twice}; give each model, cohort, setting and metric once"
        )
    ours = metrics.set_index(keys)
    rows = [_against(row, ours) for _, row in published.fillna({"why": ""}).iterrows()]
    return pd.DataFrame(rows, columns=_SHOWN)


def published_markdown(verdicts: pd.DataFrame) -> str:
    """The verdicts as a Markdown table for a page.

    Decimals stand below each other, our interval beside our estimate. How sure a number is stands in its row where that
    differs, else below, as the sources do; what to keep in mind of a comparison stands behind its verdict.

    Parameters
    ----------
    verdicts : DataFrame
        From `published_against_ours`, not empty.
    """
    tested = verdicts["ours"].notna()
    ours = [
        f"{row.ours:.3f} ({row.low:.3f} to {row.high:.3f})" if pd.notna(row.ours) else ""
        for row in verdicts.itertuples()
    ]
    notes = verdicts["note"].fillna("").where(tested, "")
    shown = {
        "item": verdicts["item"],
        "published": [as_printed(value) for value in verdicts["published"]],
        "ours": ours,
        "verdict": [
            f"{verdict}; {note}" if note else verdict
            for verdict, note in zip(verdicts["verdict"], notes, strict=True)
        ],
        "certainty": verdicts["certainty"],
    }
    if not tested.any():
        del shown["ours"]
    below = f"Sources: {'; '.join(dict.fromkeys(verdicts['where']))}."
    if verdicts["certainty"].nunique() == 1:
        below = f"How sure: {shown.pop('certainty').iloc[0]}. {below}"
    align = ["right" if name in ("published", "ours") else "left" for name in shown]
    table = pd.DataFrame(shown).to_markdown(index=False, colalign=align, disable_numparse=True)
    return f"{table}\n\n{below}"


def as_printed(value: float) -> str:
    """A published number: three decimals where that says something; percentages and small p values in three digits."""
    if pd.isna(value):
        return ""
    return f"{value:.3f}" if 0.001 <= abs(value) <= 1 else f"{value:.3g}"


def _against(row: pd.Series, ours: pd.DataFrame) -> dict[str, object]:
    found = {"ours": np.nan, "low": np.nan, "high": np.nan}
    note = ""
    if row["testable"] == "no":
        verdict = f"not testable here: {row['why'] or 'the number was not found'}"
    elif pd.isna(row["value"]):
        verdict = f"not testable here: the published number was not found; {row['why']}".rstrip("; ")
    else:
        verdict, found = _verdict(row, ours)
        note = row["why"]
    return {
        "item": row["item"],
        "where": row["source"],
        "published": row["value"],
        "certainty": row["certainty"],
        **found,
        "verdict": verdict,
        "note": note,
    }


def _verdict(row: pd.Series, ours: pd.DataFrame) -> tuple[str, dict[str, float]]:
    nothing = {"ours": np.nan, "low": np.nan, "high": np.nan}
    key = tuple(row[column] for column in _KEYS)
    if key not in ours.index:
        model, cohort, setting, metric = key
        of = cohort if setting == cohort else f"{cohort}, {setting}"
        return f"not testable here: {model} was not run on {of} ({metric})", nothing
    mine = ours.loc[key]
    if pd.isna(mine["estimate"]):
        return f"not testable here: ours is {mine['how']}", nothing
    inside = mine["low"] <= row["value"] <= mine["high"]
    verdict = "reproduced" if inside else "not reproduced"
    if "recomputed" in row["certainty"] and inside:
        verdict = "agrees by construction: the same stored predictions"
    elif "unverified" in row["certainty"]:
        verdict = f"{'inside' if inside else 'outside'} our interval, but the published number is unverified"
    found = {"ours": mine["estimate"], "low": mine["low"], "high": mine["high"]}
    return verdict, found


def against_yardsticks(
    yardsticks: pd.DataFrame, cohort: str, metrics: pd.DataFrame, sections: pd.DataFrame, main: dict[str, str]
) -> pd.DataFrame:
    """Plain methods measured before, the same methods now, and the study's model on the same spots.

    Parameters
    ----------
    yardsticks : DataFrame
        data/published/<study>_yardsticks.csv: item, cohort, setting, section ("" = the mean over patients), model,
        metric, value, source.
    cohort : str
    metrics, sections : DataFrame
        metrics.csv, and tables/sections.csv (AUC of each section).
    main : dict
        Setting -> the study's model in it.

    Returns
    -------
    DataFrame
        item, setting, metric, yardstick, now (the nearest baseline here; scaling and projection may differ), model, its value with low and high, and which
        of the study's model and the yardstick is higher.
    """
    rows = []
    for _, row in yardsticks[yardsticks["cohort"] == cohort].iterrows():
        table = metrics[metrics["metric"] == row["metric"]]
        if row["section"]:
            table = sections[sections["section"] == row["section"]]
        table = table[table["setting"] == row["setting"]].set_index("model")
        ours = main.get(row["setting"])
        if ours not in table.index:
            continue
        mine = table.loc[ours]
        rows.append(
            {
                "yardstick": row["item"],
                "test": row["section"] or f"mean, {row['setting']}",
                "metric": row["metric"],
                "measured before": row["value"],
                "nearest baseline now": table["estimate"].get(row["model"], np.nan),
                "model": ours,
                "estimate": mine["estimate"],
                "low": mine["low"],
                "high": mine["high"],
                "higher": ours if mine["estimate"] > row["value"] else "yardstick",
            }
        )
    return pd.DataFrame(rows)
