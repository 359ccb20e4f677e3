"""A paper's printed numbers beside ours."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import norm

from lib.names import with_interval

MARGIN = 0.05  # of an AUC, a c-index, or another number from 0 to 1: what would matter to a reader
_KEYS = {"ours_model": "model", "ours_cohort": "cohort", "ours_setting": "setting", "metric": "metric"}
_ENDS = ["estimate", "low", "high"]


def published_against_ours(published: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """Join data/published/<study>.csv with metrics.csv (of one or several cohorts), one verdict a row.

    `published` has item, cohort, setting, metric, value (empty = the number was not found), fold_sd and folds (the printed
    standard deviation over how many folds, empty where none is printed: the value then counts as exact), source, certainty,
    testable ("yes" / "no"), why (why not, or what to keep in mind), ours_model, ours_cohort, ours_setting (empty where not
    testable).

    Returns
    -------
    DataFrame
        item, where, published, certainty, ours, low, high, verdict, note; the order of `published`. verdict, by `compared`:
        "compatible", "incompatible" or "uninformative", with the difference's interval; where nobody has verified the
        published value, the same of a number that may be none; where it was recomputed from the predictions that ours are
        made of too, that it agrees by construction; or "not testable here: " and the reason.
    """
    if odd := sorted(set(published["testable"]) - {"yes", "no"}):
        raise ValueError(f'`testable` must be "yes" or "no", found {odd}')
    keys = list(_KEYS.values())
    if (twice := metrics.duplicated(keys)).any():
        raise ValueError(f"metrics hold two rows for {metrics.loc[twice, keys].iloc[0].tolist()}")
    ours, rows = metrics.set_index(keys), []
    for row in published.fillna({"why": ""}).to_dict("records"):
        verdict, note, estimates = _verdict(row, ours)
        about = (row["item"], row["source"], row["value"], row["certainty"])
        rows.append((*about, *estimates, verdict, note))
    columns = ["item", "where", "published", "certainty", "ours", "low", "high", "verdict", "note"]
    return pd.DataFrame(rows, columns=columns)


def _verdict(row: Mapping, ours: pd.DataFrame) -> tuple[str, str, tuple[float, float, float]]:
    """Verdict, note, and our estimate with its ends."""
    nothing = (np.nan, np.nan, np.nan)
    if row["testable"] == "no":
        return f"not testable here: {row['why'] or 'the number was not found'}", "", nothing
    if pd.isna(row["value"]):
        reason = f"the published number was not found; {row['why']}".rstrip("; ")
        return f"not testable here: {reason}", "", nothing
    model, cohort, setting, metric = key = tuple(row[column] for column in _KEYS)
    if key not in ours.index:
        of = cohort if setting == cohort else f"{cohort}, {setting}"
        return f"not testable here: {model} was not run on {of} ({metric})", row["why"], nothing
    if pd.isna(ours.loc[key, "estimate"]):
        return f"not testable here: ours is {ours.loc[key, 'how']}", row["why"], nothing
    estimate, low, high = ours.loc[key, _ENDS]
    if "recomputed" in row["certainty"]:
        same = abs(row["value"] - estimate) < 0.0015
        verdict = "agrees by construction: the same stored" if same else "incompatible: the same"
        return f"{verdict} predictions", row["why"], (estimate, low, high)
    spread = row.get("fold_sd", np.nan), row.get("folds", np.nan)
    verdict = compared(row["value"], estimate, low, high, *spread)
    if "unverified" in row["certainty"]:
        verdict += "; but the published number is unverified"
    return verdict, row["why"], (estimate, low, high)


def compared(
    published: float, ours: float, low: float, high: float, fold_sd: float = np.nan, folds: float = np.nan
) -> str:
    """Do a printed value and ours (with its 95 % interval) agree? A test that either answer can fail.

    *compatible*: the 90 % interval of the difference lies within `MARGIN` either way, so by two one-sided tests at 5 % the
    two are equal for practical purposes. *incompatible*: else, and its 95 % interval leaves 0 out. *uninformative*:
    neither, the data settle nothing. The interval is MOVER's: ours, and a printed value with the standard error of its
    folds, fold_sd sqrt(1 / folds + 1 / (folds - 1)), which counts shared training patients.

    References
    ----------
    Schuirmann, J Pharmacokinet Biopharm 15 (1987), 657, doi:10.1007/BF01068419. Zou and Donner, Statistics in Medicine 27
    (2008), 1693, doi:10.1002/sim.3095. Nadeau and Bengio (2003), doi:10.1023/A:1024068626366.
    """
    if not np.isfinite([ours, low, high]).all():
        return "uninformative: ours has no interval"
    error = 0.0 if np.isnan(fold_sd) else fold_sd * np.sqrt(1 / folds + 1 / (folds - 1))
    apart, wide = ours - published, norm.isf(0.025)
    below, above = (np.hypot(reach, wide * error) for reach in (ours - low, high - ours))
    narrow = norm.isf(0.05) / wide
    if max(abs(apart - narrow * below), abs(apart + narrow * above)) < MARGIN:
        word = "compatible"
    else:
        word = "incompatible" if apart - below > 0 or apart + above < 0 else "uninformative"
    return f"{word} (ours minus printed {apart - below:+.3f} to {apart + above:+.3f})".replace("-", "−")


def published_markdown(verdicts: pd.DataFrame) -> str:
    """The verdicts (of `published_against_ours`, not empty) as a Markdown table for a page.

    Decimals stand below each other. What most rows say of how sure a number is, or of why none can be tested, stands below,
    as the sources do; what to keep in mind of a comparison stands behind its verdict.
    """
    tested, below = verdicts["ours"].notna(), []
    notes = [f"; {note}" if note else "" for note in verdicts["note"].fillna("").where(tested, "")]
    shown = pd.DataFrame({"Number": verdicts["item"], "Printed": verdicts["published"].map(as_printed)})
    if tested.any():
        shown["Ours"] = [with_interval(row.ours, row.low, row.high) for row in verdicts.itertuples()]
    shown = shown.assign(**{"So": verdicts["verdict"] + notes, "How sure": verdicts["certainty"]})
    for head in ["How sure"] if tested.any() else ["So", "How sure"]:
        parts = shown[head].str.partition("; " if shown[head].nunique() > 1 else "\n")
        often = parts[0].mode()[0]
        if 2 * (mine := parts[0] == often).sum() > len(parts):
            shown[head] = parts[2].where(mine, shown[head])
            unless = "" if mine.all() else ", unless its row says otherwise"
            words = often.removeprefix("not testable here: ").replace("verified: ", "verified, ")
            below.append(f"{'Not testable here' if head == 'So' else head}{unless}: {words}.")
    below.append(f"Sources: {'; '.join(dict.fromkeys(verdicts['where']))}.")
    shown = shown.loc[:, shown.ne("").any()]
    align = ["right" if name in ("Printed", "Ours") else "left" for name in shown]
    return f"{shown.to_markdown(index=False, colalign=align, disable_numparse=True)}\n\n{' '.join(below)}"


def as_printed(value: float) -> str:
    """A published number: three decimals where that says something; percentages and small p values in three digits."""
    if pd.isna(value):
        return ""
    return f"{value:.3f}" if 0.001 <= abs(value) <= 1 else f"{value:.3g}"


def against_yardsticks(
    yardsticks: pd.DataFrame, cohort: str, metrics: pd.DataFrame, sections: pd.DataFrame, main: dict[str, str]
) -> pd.DataFrame:
    """Plain methods measured before, the same methods now (the nearest baseline here; scaling and projection may differ),
    the study's model on the same spots with its interval, and which of it and the yardstick is higher.

    `yardsticks` is data/published/<study>_yardsticks.csv: item, cohort, setting, section ("" = the mean over patients),
    model, metric, value, source. `metrics` and `sections` are metrics.csv and tables/sections.csv (AUC of each section);
    `main` names the study's model in each setting.
    """
    columns = [
        "yardstick",
        "test",
        "metric",
        "measured before",
        "nearest baseline now",
        "model",
        *_ENDS,
        "higher",
    ]
    rows = []
    for row in yardsticks[yardsticks["cohort"] == cohort].to_dict("records"):
        table = metrics[metrics["metric"] == row["metric"]]
        if row["section"]:
            table = sections[sections["section"] == row["section"]]
        table = table[table["setting"] == row["setting"]].set_index("model")
        if (ours := main.get(row["setting"])) not in table.index:
            continue
        test, near = row["section"] or f"mean, {row['setting']}", table["estimate"].get(row["model"], np.nan)
        higher = ours if table.loc[ours, "estimate"] > row["value"] else "yardstick"
        about = row["item"], test, row["metric"], row["value"], near, ours, *table.loc[ours, _ENDS], higher
        rows.append(dict(zip(columns, about, strict=True)))
    return pd.DataFrame(rows)
