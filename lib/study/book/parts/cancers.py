"""CrossFusion across cancer types: the same notebooks on every cohort that was run here, side by side."""

import re
from pathlib import PurePosixPath

import pandas as pd

from lib.study.book.parts.tables import difference, estimate, number, pipe_table, signed
from lib.study.book.records import Cohort, Records

STUDY, METRIC = "crossfusion", "c_index"
PAPER = "CrossFusion, ResNet50 features, Table 1"
WORDS = {
    "age": "age",
    "cox-clinical": "clinic",
    "mcat:AMIL": "AMIL (stored)",
    "mcat:MCAT": "MCAT (stored)",
}


def cross_cancer(records: Records, page: str) -> tuple[str, dict[str, bytes]]:
    """The real cancer types that were run here: c-index of every model, differences from age, Kaplan-Meier panels.

    The paper's numbers stand for every cancer type, run here or not.
    """
    cohorts = _cancers(records)
    made, pictures = [], {}
    if cohorts:
        made += [_models(records, page, cohorts), _against_age(cohorts)]
    else:
        made.append(
            "No cancer type was run on the machine that made this copy of the book. "
            "`make run STUDY=crossfusion COHORT=blca` runs one; its clinical part needs TCGA's tables, no slides.\n"
        )
    made.append(_paper(records, cohorts))
    panels = []
    for cohort in cohorts:
        path = cohort.folder / "figures" / "kaplan-meier.svg"
        if path.is_file():
            place = str(PurePosixPath(page).with_suffix("") / f"kaplan-meier-{cohort.name}.svg")
            pictures[place] = path.read_bytes()
            panels.append(_panel(records, page, cohort, place))
    if panels:
        made.append("## Who lives longer, cancer by cancer {#sec-cancers-kaplan-meier}\n")
        made.append(
            "Patients above and below the median risk of their fold. Where the two curves part, the model (or age "
            "alone) tells who will die earlier; where the bands overlap, it does not.\n"
        )
        made.append("\n".join(["::: {.column-page-right layout-ncol=2}\n", *panels, ":::\n"]))
    return "\n".join(made), pictures


def answer_age(records: Records, page: str, cancer: str) -> tuple[str, dict[str, bytes]]:
    """Does CrossFusion beat age in a cancer type, and how sure is that: an answer made from the numbers that are here.

    Raises
    ------
    ValueError
        If the paper has no number for this cancer type.
    """
    published = _published(records)
    if published is None:
        return "The paper's numbers are not in this copy.\n", {}
    if cancer not in published.index:
        raise ValueError(
            f"{page}: data/published/{STUDY}.csv has no '{PAPER}' for {cancer}; there are {', '.join(published.index)}."
        )
    row = published.loc[cancer]
    spread = f" (mean over five folds, their standard deviation {_deviation(row)})"
    said = (
        f"The paper prints a c-index of **{number(row['value'])}** for CrossFusion{spread}, with slides as the unit "
        "and the epoch that was best on the very fold that it reports."
    )
    cohort = next((c for c in _cancers(records) if c.name == cancer), None)
    if cohort is None:
        return (
            f"**Not shown in this copy.** {said} Age was not evaluated on this machine: "
            f"`make run STUDY=crossfusion COHORT={cancer}` does that, without slides.\n"
        ), {}
    table = cohort.main().set_index("model")
    if "age" not in table.index:
        return (
            f"**Not shown in this copy.** {said} The ages of `{cancer}`'s patients are not known here.\n",
            {},
        )
    age = table.loc["age"]
    inside = age["low"] <= row["value"] <= age["high"]
    verdict = (
        "**Not shown.**"
        if inside
        else ("**Perhaps, by a loose comparison.**" if row["value"] > age["high"] else "**No.**")
    )
    lies = "inside" if inside else ("above" if row["value"] > age["high"] else "below")
    trained = _trained(cohort)
    if trained:
        verdict = ""
        own = f" CrossFusion trained here, minus age on the same patients: {trained}."
    else:
        own = (
            " CrossFusion itself could not be trained here (its slides are some hundred GB), so there is no paired "
            "difference, and the paper gives no interval: the comparison stays a loose one."
        )
    rest = [
        f"{WORDS[model]} minus age is {signed(found)}"
        for model in WORDS
        if model.startswith("mcat:")
        and (found := difference(cohort.table("tables/differences.csv"), model, "age", cancer))
    ]
    others = (
        f" Of two models whose predictions MCAT's authors stored for these patients (AMIL sees slides, MCAT slides and genes): {'; '.join(rest)}."
        if rest
        else ""
    )
    clinic = ""
    if "cox-clinical" in table.index:
        clinic = f" Age with what else the clinic knows reaches {estimate(table.loc['cox-clinical'])}."
    link = records.link(page, f"`{cancer}`", records.chapter(STUDY, cancer, "figures"))
    return (
        f"{verdict} {said} Age alone reaches **{estimate(age)}** in {link}, on {int(age['n'])} patients with "
        f"{int(age['events'])} deaths and the same folds; the paper's number lies {lies} that interval.{clinic}{own}{others}\n"
    ).lstrip(), {}


def _trained(cohort: Cohort) -> str:
    table = cohort.table("tables/differences.csv")
    found = [
        f"`{model}` {signed(paired)}"
        for model in ("crossfusion", "crossfusion-released")
        if (paired := difference(table, model, "age", cohort.name))
    ]
    return ", ".join(found)


def _cancers(records: Records) -> list[Cohort]:
    """Real cohorts of one cancer type each."""
    real = [cohort for cohort in records.of(STUDY) if cohort.kind != "phantom"]
    counts = [cohort.metrics.loc[cohort.metrics["metric"] == METRIC, "setting"].nunique() for cohort in real]
    return [cohort for cohort, count in zip(real, counts, strict=True) if count == 1]


def _published(records: Records) -> pd.DataFrame | None:
    published = records.published(STUDY)
    return None if published is None else published[published["item"] == PAPER].set_index("cohort")


def _order(cohorts: list[Cohort]) -> list[str]:
    found = [model for cohort in cohorts for model in cohort.main()["model"] if model != "kaplan-meier"]
    return [m for m in WORDS if m in found] + [m for m in dict.fromkeys(found) if m not in WORDS]


def _models(records: Records, page: str, cohorts: list[Cohort]) -> str:
    models, rows, chapters = _order(cohorts), [], []
    for cohort in cohorts:
        table = cohort.main().set_index("model")
        first = table.iloc[0]
        cells = [estimate(table.loc[model]) if model in table.index else "–" for model in models]
        rows.append([f"`{cohort.name}`", f"{int(first['n'])} ({int(first['events'])})", *cells])
        links = [
            records.link(page, stage, target)
            for stage in ("figures", "evaluate", "preprocess")
            if (target := records.chapter(STUDY, cohort.name, stage))
        ]
        if links:
            chapters.append(f"`{cohort.name}` {', '.join(links)}")
    columns = {"Cancer": "l", "Patients (deaths)": "r"} | {WORDS.get(m, f"`{m}`"): "r" for m in models}
    caption = (
        "Harrell's c-index, mean over five folds, with the 95 % interval over patients; of age, over those whose age is "
        "known. `coad` is the paper's own table of colon cancer, `coadread` MCAT's of colon and rectum, with fewer "
        "patients. *Clinic* is a Cox regression on "
        "age, sex, stage or grade where they are known; *stored* are predictions of others for the same patients."
    )
    shown = pipe_table(columns, rows, caption, "tbl-cancers", wide=True)
    return f"{shown}\nTheir chapters: {'; '.join(chapters)}.\n" if chapters else shown


def _against_age(cohorts: list[Cohort]) -> str:
    models = [model for model in _order(cohorts) if model != "age"]
    rows = []
    for cohort in cohorts:
        table = cohort.table("tables/differences.csv")
        found = [signed(difference(table, model, "age", cohort.name)) or "–" for model in models]
        rows.append([f"`{cohort.name}`", *found])
    columns = {"Cancer": "l"} | {f"{WORDS.get(m, f'`{m}`')} − age": "r" for m in models}
    caption = (
        "Does it beat age? Difference of the c-index from that of age on the patients whose age is known, with its paired 95 % "
        "interval: above 0 it does; an interval that holds 0 leaves it open."
    )
    return pipe_table(columns, rows, caption, "tbl-cancers-age")


def _paper(records: Records, cohorts: list[Cohort]) -> str:
    published = _published(records)
    if published is None:
        return ""
    run, rows = {cohort.name: cohort for cohort in cohorts}, []
    for cancer, row in published.iterrows():
        age, place = "not run here", "–"
        if cancer in run and "age" not in set(run[cancer].main()["model"]):
            age = "not known"
        elif cancer in run:
            own = run[cancer].main().set_index("model").loc["age"]
            age = estimate(own)
            place = (
                "inside age's interval"
                if own["low"] <= row["value"] <= own["high"]
                else ("above" if row["value"] > own["high"] else "below")
            )
        rows.append([f"`{cancer}`", number(row["value"]), _deviation(row), age, place])
    columns = {
        "Cancer": "l",
        "CrossFusion, the paper": "r",
        "SD of its folds": "r",
        "Age, ours": "r",
        "The paper's number": "l",
    }
    caption = (
        "The paper's CrossFusion (ResNet50 features, Table 1) beside age as computed here. Two recipes, not one: the "
        "paper counts slides and reports the epoch that was best on the fold it reports. How sure we are of the paper's "
        f"numbers: {'; '.join(dict.fromkeys(published['certainty']))}."
    )
    return pipe_table(columns, rows, caption, "tbl-cancers-paper")


def _deviation(row: pd.Series) -> str:
    found = re.search(r"standard deviation ([\d.]+)", str(row["why"]))
    return f"{float(found[1]):.3f}" if found else "–"


def _panel(records: Records, page: str, cohort: Cohort, place: str) -> str:
    rows = cohort.main().set_index("model")
    target = records.chapter(STUDY, cohort.name, "evaluate")
    link = records.link(page, f"`{cohort.name}`", target)
    picture = PurePosixPath(place).relative_to(PurePosixPath(page).parent)
    models = ", ".join(WORDS.get(model, model) for model in rows.index if model != "kaplan-meier")
    alt = (
        f"Kaplan-Meier curves of patients of high and low risk in {cohort.name}, one panel a model: {models}; "
        "with numbers at risk and log-rank p."
    )
    return (
        f"![{link}: {models}. [Enlarge]({picture})]({picture}){{#fig-kaplan-meier-{cohort.name} "
        f'fig-alt="{alt}"}}\n'
    )
