"""One's own patients: a folder with one table, `patients.csv` or .xlsx, a row a patient, and the films it names.

    patient      name, as the hospital writes it
    film         path of the CT perfusion, counted from the folder: a 4D NIfTI, a folder of 3D NIfTI, a folder of DICOM
    series       number, description or SeriesInstanceUID, where a folder of DICOM holds several films
    interval_s   seconds between frames, where the film does not say
    hospital     where there are several: models are then read within each
    age, onset_to_ctp_min, ctp_to_recanalisation_min, nihss, sex, hypertension, smoking, atrial_fibrillation, mtici
                 the clinical variables of `lib.stroke.clinical`; a column that is not there is missing for everybody
    mrs          modified Rankin scale at 90 days, 0 to 6

`mapping` names the column of a clinical variable, or of `mrs`, that is called otherwise.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lib.inputs.tables import (
    Faults,
    check_once,
    files_named,
    is_missing,
    nearest_name,
    plain,
    read_texts,
    some,
    table_in,
    values,
)
from lib.stroke.clinical import POSTPROCEDURAL, mapped
from lib.stroke.film import LONGEST_S, SHORTEST_S

OWN = ("patient", "film", "series", "interval_s", "hospital")


def read_patients(
    folder: str | Path, mapping: Mapping[str, str | float], implausible: str = "refuse"
) -> tuple[pd.DataFrame, Path, list[str]]:
    """Read the table of one's own patients.

    `mapping` is variable to what the table calls it, see `lib.stroke.clinical.mapped`; one that is not named is looked for by
    its own name. `implausible` ("refuse" | "missing") says what becomes of a number that no patient has.

    Returns
    -------
    table : DataFrame
        By patient: film (path, beginning with the folder), series (""), interval_s (NaN where empty), problem (why the film
        cannot be read, ""), hospital (where the table has it), the nine variables and mrs (float64, NaN missing), note.
    path : Path
        Of the table.
    remarks : list of str
        Columns that are not read and variables without a column.

    Raises
    ------
    ValueError
        No column patient, film or mrs; a patient twice or without a name; a film of two patients, or outside the
        folder; an interval outside 0.05 to 20 s; what `mapped` refuses.
    """
    folder, wrong = Path(folder), Faults()
    path = table_in(folder, "patients")
    raw = read_texts(path)
    columns = {plain(name): name for name in raw}
    meant = {name: columns.get(name, "") for name in (*POSTPROCEDURAL, "mrs")} | dict(mapping)
    lost = [name for name in OWN[:2] if name not in columns] + ([] if meant["mrs"] else ["mrs"])
    if lost:
        raise ValueError("\n".join(f"{path} has no column {name}{nearest_name(name, raw)}" for name in lost))
    raw = raw.rename(columns={columns[name]: name for name in OWN if name in columns})
    raw = raw.assign(**{name: "" for name in OWN if name not in raw})
    check_once(raw["patient"], path, wrong)
    raw = raw[~raw["patient"].map(is_missing)]
    raw = raw.set_index("patient")
    films, problem = files_named(folder, raw["film"], path, "film", wrong)
    interval = values(raw["interval_s"], f"{path}: interval_s of patient", wrong)
    odd = interval[interval.notna() & ~interval.between(SHORTEST_S, LONGEST_S)]
    if len(odd):
        said = some(f"{patient} is {seconds:g}" for patient, seconds in odd.items())
        seconds = f"{SHORTEST_S:g} to {LONGEST_S:g}"
        wrong.append(f"{path}: interval_s of patient {said}: seconds are expected, {seconds}")
    with wrong.held(path):
        table = mapped(raw, meant, implausible=implausible)
    wrong.refuse()
    own = pd.DataFrame(
        {
            "film": films,
            "series": raw["series"].map(lambda text: "" if is_missing(text) else text),
            "interval_s": interval,
            "problem": problem,
        },
        index=raw.index,
    )
    if "hospital" in columns:
        own["hospital"] = raw["hospital"]
    used = {plain(part) for each in meant.values() for part in _parts(str(each))}
    idle = [name for name in raw if plain(name) not in {*used, *OWN}]
    without = [name for name in POSTPROCEDURAL if not str(meant[name])]
    remarks = [f"columns not read: {', '.join(idle)}"] if idle else []
    near = {name: nearest_name(name, idle) for name in without}
    remarks += [f"no column of {name}{near[name] * near[name].startswith('; nearest')}" for name in without]
    return own.join(table), path, remarks


def _parts(meant: str) -> list[str]:
    """Names of the columns of a mapping's sum or alternatives."""
    return [part for one in meant.split("|") for part in (one, *one.replace(" + ", " - ").split(" - "))]
