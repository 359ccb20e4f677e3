"""CLAM's preset files: how it finds tissue."""

import os
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

KNOWN = Path(__file__).with_name("clam_presets.csv")
CONTOUR_RULES = ("four_pt", "four_pt_hard", "center", "basic")


@dataclass(frozen=True)
class Preset:
    """The settings of a preset file that bear on coordinates; CLAM's own names.

    Attributes
    ----------
    seg_level : int
        Level to segment; -1: the coarsest up to 64 times.
    sthresh, mthresh, close, use_otsu
        Saturation above which is tissue (0 to 255), side of the median filter, side of the closing, Otsu instead.
    a_t, a_h, max_n_holes : int
        Least area of tissue and of holes in patches of 512 x 512 level-0 pixels; most holes a contour.
    use_padding : bool
        Tiles may hang over the slide's border.
    contour_fn : str
        One of `CONTOUR_RULES`.
    keep_ids, exclude_ids : tuple of int
        Contours by number, after filtering; empty: all, none.
    """

    seg_level: int
    sthresh: int
    mthresh: int
    close: int
    use_otsu: bool
    a_t: float
    a_h: float
    max_n_holes: int
    use_padding: bool
    contour_fn: str
    keep_ids: tuple[int, ...] = ()
    exclude_ids: tuple[int, ...] = ()


def read_preset(source: str | os.PathLike) -> Preset:
    """A preset by name (bwh_resection, bwh_biopsy, tcga), or from a csv file as CLAM's: a header and one row.

    Raises
    ------
    FileNotFoundError
        Neither a known name nor a file.
    ValueError
        A column lacks, more rows than one, or a value is not of its kind.
    """
    known = pd.read_csv(KNOWN, dtype=str).set_index("preset")
    if source in known.index:
        return _preset(known.loc[source], str(source))
    if not Path(source).is_file():
        raise FileNotFoundError(
            f"no preset {source}: known are {', '.join(known.index)}, or give a csv file like CLAM's"
        )
    table = pd.read_csv(source, dtype=str)
    if len(table) != 1:
        raise ValueError(f"{source} has {len(table)} rows: a preset file has one")
    return _preset(table.iloc[0], str(source))


def _preset(row: pd.Series, source: str) -> Preset:
    values = {}
    for field in fields(Preset):
        if field.name not in row:
            raise ValueError(f"{source} lacks the column {field.name}")
        text = str(row[field.name]).strip()
        try:
            values[field.name] = _READERS[field.type](text)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{source}: {field.name} is {text!r}, which is no {field.type}") from error
    if values["contour_fn"] not in CONTOUR_RULES:
        raise ValueError(
            f"{source}: contour_fn {values['contour_fn']!r} is none of {', '.join(CONTOUR_RULES)}"
        )
    if values["mthresh"] % 2 == 0:
        raise ValueError(
            f"{source}: mthresh {values['mthresh']} must be odd, it is the side of a median filter"
        )
    return Preset(**values)


_READERS = {
    int: int,
    float: float,
    str: str,
    bool: lambda text: {"true": True, "false": False, "1": True, "0": False}[text.lower()],
    tuple[int, ...]: lambda text: (
        () if text.lower() in ("none", "nan", "") else tuple(map(int, text.split(",")))
    ),
}
