"""What each habit of the released codes is worth: a table a study."""

import pandas as pd

from lib.study.book.parts.tables import difference, estimate, number, pipe_table, signed
from lib.study.book.records import Cohort, Records, Study


def deviations(records: Records, page: str, wanted: str = "") -> tuple[str, dict[str, bytes]]:
    """Each study's switches and their measured effect, wherever a cohort that was run here holds one.

    Raises
    ------
    ValueError
        If there is no such study.
    """
    made = []
    for key in records.asked(page, wanted):
        study = records.studies[key]
        tables = [table for table in (_switches(records, page, study), _cuts(study, records)) if table]
        if tables:
            made.append("\n".join([f"### {study.name}\n" if not wanted else "", *tables]))
    return "\n".join(made) or "No cohort was run here that shows a habit's effect.\n", {}


def _switches(records: Records, page: str, study: Study) -> str:
    rows = []
    for cohort in records.of(study.key):
        if cohort.name == "null":
            continue
        if study.metric not in set(cohort.metrics["metric"]):
            continue  # times alone, say
        table = cohort.main().set_index(["setting", "model"])
        for setting, model in table.index:
            if model not in study.habits or (setting, study.model) not in table.index:
                continue
            if cohort.name == "demo" and _shown_by_quirks(records, study, model):
                continue
            paired = difference(cohort.table("tables/differences.csv"), model, study.model, setting)
            effect = signed(paired) or "no paired interval"
            rows.append(
                [
                    study.habits[model],
                    f"`{model}`",
                    f"{_link(records, page, cohort)} ({cohort.kind}), {setting}",
                    effect,
                ]
            )
    for released, sound in study.twins.items():
        rows += _twins(records, page, study, released, sound)
    if not rows:
        return ""
    order = list(study.habits.values())
    rows.sort(key=lambda row: order.index(row[0]) if row[0] in order else len(order))
    for at in range(len(rows) - 1, 0, -1):
        if rows[at][:2] == rows[at - 1][:2]:
            rows[at][:2] = ["", ""]
    columns = {
        "What the released code does": "l",
        "Switch": "l",
        "Cohort": "l",
        f"Effect on {study.words}": "r",
    }
    caption = (
        f"{study.name}: the same model with one habit of the released code, minus the model without; paired 95 % "
        "intervals. An interval that holds 0 does not settle whether there is an effect. A phantom says how a habit "
        "acts, not how much it is worth on patients."
    )
    return pipe_table(columns, rows, caption, f"tbl-habits-{study.key}")


def _shown_by_quirks(records: Records, study: Study, model: str) -> bool:
    """Whether the cohort `quirks`, the demo once more, holds the model too."""
    quirks = records.cohorts.get((study.key, "quirks"))
    return quirks is not None and model in set(quirks.main()["model"])


def _twins(records: Records, page: str, study: Study, released: str, sound: str) -> list[list[str]]:
    pair = [records.cohorts.get((study.key, name)) for name in (released, sound)]
    if None in pair:
        return []
    theirs, ours = (cohort.main().set_index(["setting", "model"]) for cohort in pair)
    return [
        [
            f"`{model}` as released in everything",
            f"cohort `{released}`",
            f"{_link(records, page, pair[0])} ({pair[0].kind}), {setting}",
            f"{estimate(theirs.loc[setting, model])} against {estimate(ours.loc[setting, model])}",
        ]
        for setting, model in theirs.index
        if (setting, model) in ours.index and model.startswith(study.model)
    ]


def _cuts(study: Study, records: Records) -> str:
    """A threshold taken from the test labels beside one that was not, on the same scores."""
    rows = []
    for cohort in records.of(study.key):
        if cohort.name == "null":
            continue
        table = cohort.metrics.set_index(["setting", "model", "metric"])
        for oracle, fair in study.cuts.items():
            for setting, lines in cohort.metrics.groupby("setting", sort=False):
                model = _own(study, lines)
                keys = [(setting, model, metric) for metric in (oracle, fair)]
                if all(key in table.index for key in keys):
                    leak, sound = (table.loc[key] for key in keys)
                    rows.append(
                        [
                            f"`{cohort.name}` ({cohort.kind}), {setting}",
                            f"`{model}`",
                            estimate(leak),
                            estimate(sound),
                            number(leak["estimate"] - sound["estimate"], sign=True),
                        ]
                    )
    if not rows:
        return ""
    columns = {
        "Cohort": "l",
        "Model": "l",
        "Cut from the test labels": "r",
        "Cut without labels": "r",
        "The leak's worth": "r",
    }
    caption = (
        f"{study.name}, **leak**: F1 with the released cut, which is set to the true share of "
        "positives among the test labels, and with the paper's, a mixture of two Gaussians. The same scores; the difference "
        "has no interval here."
    )
    return pipe_table(columns, rows, caption, f"tbl-cuts-{study.key}")


def _own(study: Study, lines: pd.DataFrame) -> str:
    """The study's main model in a setting, or the form of it that the setting has (of counts alone, say)."""
    there = [model for model in lines["model"].unique() if model.startswith(study.model)]
    return min(there, key=lambda model: (model != study.model, model == study.released), default=study.model)


def _link(records: Records, page: str, cohort: Cohort) -> str:
    target = records.chapter(cohort.study.key, cohort.name, "figures")
    return records.link(page, f"`{cohort.name}`", target)
