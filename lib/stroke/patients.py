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
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from lib.files import check_names
from lib.inputs.tables import is_missing, nearest_name, number, plain, read_texts
from lib.stroke.clinical import POSTPROCEDURAL, mapped
from lib.stroke.film import LONGEST_S, SHORTEST_S

OWN = ("patient", "film", "series", "interval_s", "hospital")


def read_patients(
    folder: str | Path, mapping: Mapping[str, str | float], implausible: str = "refuse"
) -> tuple[pd.DataFrame, Path, list[str]]:
    """Read the table of one's own patients.

    Parameters
    ----------
    folder : path
    mapping : dict
        Variable to what the table calls it, see `lib.stroke.clinical.mapped`; one that is not named is looked for by its
        own name.
    implausible : "refuse" | "missing"
        What becomes of a number that no patient has.

    Returns
    -------
    table : DataFrame
        Indexed by patient: film (path, beginning with the folder), series (""), interval_s (NaN where empty), problem
        (why the film cannot be read, ""), hospital (where the table has such a column), the nine variables and mrs (float64,
        NaN missing), note.
    path : Path
        Of the table.
    remarks : list of str
        Columns that are not read and variables without a column.

    Raises
    ------
    FileNotFoundError
    ValueError
        No column patient, film or mrs; a patient twice or without a name; a film of two patients, or outside the
        folder; an interval outside 0.05 to 20 s; what `mapped` refuses.
    """
    folder = Path(folder)
    paths = [path for end in ("csv", "xlsx", "tsv") if (path := folder / f"patients.{end}").is_file()]
    if len(paths) > 1:
        raise ValueError(f"{folder} has both {paths[0].name} and {paths[1].name}: remove one")
    path = paths[0] if paths else folder / "patients.csv"
    raw = read_texts(path)
    columns = {plain(name): name for name in raw}
    meant = {name: columns.get(name, "") for name in (*POSTPROCEDURAL, "mrs")} | dict(mapping)
    lost = [name for name in OWN[:2] if name not in columns] + ([] if meant["mrs"] else ["mrs"])
    if lost:
        raise ValueError(f"{path} has no column {lost[0]}{nearest_name(lost[0], raw)}")
    raw = raw.rename(columns={columns[name]: name for name in OWN if name in columns})
    raw = raw.assign(**{name: "" for name in OWN if name not in raw})
    empty = raw["patient"].map(is_missing) | raw["patient"].duplicated()
    if empty.any():
        raise ValueError(f"{path}: patient {raw.loc[empty, 'patient'].iloc[0]!r} is empty or stands twice")
    check_names(raw["patient"], path)
    raw = raw.set_index("patient")
    films = raw["film"].map(lambda text: "" if is_missing(text) else text.replace("\\", "/"))
    for patient, text in films.items():
        place = PurePosixPath(text)
        if place.is_absolute() or PureWindowsPath(text).drive or ".." in place.parts:
            raise ValueError(f"{path}: the film of patient {patient} is {text}: it must lie in {folder}")
    if (twice := films.duplicated(keep=False) & (films != "")).any():
        who = " and ".join(films.index[films == films[twice].iloc[0]][:2])
        raise ValueError(f"{path}: {who} have the same film {films[twice].iloc[0]}: remove one")
    try:
        table = mapped(raw, meant, implausible=implausible)
        interval = raw["interval_s"].map(number)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if (odd := interval.notna() & ~interval.between(SHORTEST_S, LONGEST_S)).any():
        said = f"interval_s of patient {interval.index[odd][0]} is {interval[odd].iloc[0]:g}"
        raise ValueError(f"{path}: {said}: seconds are expected, {SHORTEST_S:g} to {LONGEST_S:g}")
    problem = [_problem(folder, text) for text in films]
    own = pd.DataFrame(
        {
            "film": [str(folder / text) for text in films],
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
    remarks += [f"no column of {name}{nearest_name(name, idle)}" for name in without]
    return own.join(table), path, remarks


def _parts(meant: str) -> list[str]:
    """Names of the columns of a mapping's sum or alternatives."""
    return [part for one in meant.split("|") for part in (one, *one.replace(" + ", " - ").split(" - "))]


def _problem(folder: Path, text: str) -> str:
    if not text:
        return "no film is named"
    return "" if (folder / text).exists() else f"film {text} is not there"
