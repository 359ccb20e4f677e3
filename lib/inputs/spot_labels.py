"""Labels of spots: tissue classes, what of them is cancer, and tables that name them."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from lib.inputs.text_tables import read_columns

CANCER = ("invasive cancer", "cancer in situ")
UNDETERMINED = ("undetermined", "")
CANCER_WORDS = (
    r"cancer|carcinoma|tumou?r|malignan|invasive|dcis|lcis|\b(?:idc|ilc)\b|metasta|neoplas|in.?situ"
)
UNCLEAR = (
    "true",
    "false",
    "yes",
    "no",
    "positive",
    "negative",
    "na",
    "n/a",
    "nan",
    "null",
    "unknown",
    "?",
    "-",
)


def label_of(tissue: pd.Series) -> np.ndarray:
    """Cancer label of tissue classes.

    Returns
    -------
    float32 array (n,)
        1 for "invasive cancer" and "cancer in situ", NaN for "undetermined" and "" (no class), 0 for any other class.
    """
    tissue = pd.Series(tissue).fillna("").astype(str)
    return np.where(tissue.isin(UNDETERMINED), np.nan, tissue.isin(CANCER)).astype(np.float32)


def tissue_of(values: pd.Series, where: str = "the label column") -> pd.Series:
    """Tissue classes from a column that holds either class names or 0/1.

    0 becomes "not cancer", 1 becomes "invasive cancer" (the label of both is what counts), an empty cell "".

    Parameters
    ----------
    values : Series
    where : str
        Section and file, for messages.

    Raises
    ------
    ValueError
        Numbers other than 0 and 1, numbers among names, or a name that leaves open whether it is cancer: it would
        count as other.
    """
    numbers = pd.to_numeric(values, errors="coerce")
    filled = values.notna() & (values.astype(str).str.strip() != "")
    if filled.any() and numbers[filled].notna().all():
        if not numbers[filled].isin((0, 1)).all():
            odd = sorted(set(numbers[filled]) - {0, 1})[:3]
            raise ValueError(
                f"{where}: a label column of numbers holds 0 (other) and 1 (cancer) only, found {odd}"
            )
        return numbers.map({0: "not cancer", 1: "invasive cancer"}).fillna("")
    kinds = values.where(filled, "").astype(str).str.split().str.join(" ").str.lower()
    others = kinds[~kinds.isin((*CANCER, "not cancer", ""))]
    if odd := sorted(others[others.str.contains(CANCER_WORDS)].unique()):
        raise ValueError(
            f"{where} has the classes {odd[:4]}, which sound like cancer but would count as other: "
            f"write {' or '.join(CANCER)}, or 0 and 1"
        )
    unclear = others.isin(UNCLEAR) | numbers.loc[others.index].notna()
    if unclear.any():
        odd = sorted(others[unclear].unique())
        raise ValueError(
            f"{where} has the classes {odd[:4]}, which do not say whether they are cancer and would count as other: "
            f"write {' or '.join(CANCER)} or another tissue, or 0 and 1 throughout, and leave the cell empty where "
            "nobody knows"
        )
    return kinds


def source_of(tissue: pd.Series) -> pd.Series:
    """Label source of spots a pathologist was asked about: "pathologist" where a class was given, else "none"."""
    return pd.Series(np.where(tissue == "", "none", "pathologist"), index=tissue.index)


def read_labels(path: str | Path, spots: pd.Index, name: str) -> pd.Series:
    """Tissue classes from a label table.

    Parameters
    ----------
    path : path
        csv (or tsv, by its suffix) with a column "spot", "barcode" or "cell_id" and a column "label" of class names
        or 0/1.
    spots : Index of str (n,)
        The section's spots. Those the table leaves out get "".
    name : str
        The section, for messages.

    Returns
    -------
    Series of str (n,)
        In the order of `spots`.

    Raises
    ------
    FileNotFoundError, ValueError
        If a column is missing, a spot stands twice, most rows name spots the section does not have, or a class sounds
        like cancer without being one of `CANCER`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"section {name}: no label file {path}; write one with the columns barcode, label"
        )
    table = read_columns(path, sep="\t" if ".tsv" in path.suffixes else ",", dtype=str, keep_default_na=False)
    key = next((column for column in ("spot", "barcode", "cell_id") if column in table), None)
    if key is None or "label" not in table:
        raise ValueError(
            f"section {name}: {path} has the columns {list(table.columns)[:8]}, expected barcode (or spot) and label"
        )
    table = table.fillna("").set_index(table[key].str.strip().rename(None))
    kinds = tissue_of(table["label"].replace("", np.nan), f"section {name}: {path}")
    if not table.index.is_unique:
        raise ValueError(f"section {name}: {path} labels {table.index[table.index.duplicated()][0]} twice")
    # a table may cover more than the section keeps (spots off tissue, cells without counts), but not other spots
    strange = table.index.difference(spots, sort=False)
    if len(strange) > 0.5 * len(table):
        raise ValueError(
            f"section {name}: only {len(table) - len(strange)} of the {len(table)} spots in {path} are in the section "
            f"(the table has {strange[0]!r}, the section {spots[0]!r}): use the section's own spot names"
        )
    if len(strange):
        warnings.warn(
            f"section {name}: {len(strange)} of the {len(table)} spots in {path} are not in the section "
            f"({', '.join(strange[:3])}): their labels are left out",
            stacklevel=2,
        )
    return kinds.reindex(spots).fillna("")
