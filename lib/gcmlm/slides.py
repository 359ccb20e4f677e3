"""From the tiles of slides to one row of numbers a slide, and a patient.

The reference averages the tiles of a slide and leaves open what a patient with several slides gets: here the mean of
the slides' means, so that each slide counts alike, or the mean over all tiles.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.features.feature_files import FeatureFile, bag_files, read_foreign
from lib.files import write_csv

RULES = ("slides", "tiles")
COUNTS = ("slides", "tiles", "duplicates")
PREFIX = "feat_"


class SlideTable(NamedTuple):
    """Pooled slides.

    Attributes
    ----------
    table : DataFrame
        One row a slide that could be read: patient, slide, tiles (averaged), duplicates (left out), feat_0, ...
    problems : DataFrame
        patient, slide, problem: the slides that could not.
    about : dict
        encoder, revision ("" where no file records it), tile_um (side of a tile, µm, None where not recorded), scale,
        dim; the same for all slides.
    """

    table: pd.DataFrame
    problems: pd.DataFrame
    about: dict[str, object]


def slide_table(
    slides: pd.DataFrame, folder: str | os.PathLike, scale: int = 20, duplicates: bool = False
) -> SlideTable:
    """Mean over the tiles of each slide. One file is in memory at a time.

    Parameters
    ----------
    slides : DataFrame
        patient, slide; further columns are not read.
    folder : path
        Of the features, as `lib.features.feature_files.bag_files` takes it: the encoder's folder.
    scale : int
        Magnification whose tiles are averaged.
    duplicates : bool
        Keep tiles of the same coordinates, as the reference does, whose contours may overlap. Else the first of them
        is taken, and `duplicates` counts the others; in a file without coordinates none can be found.

    Raises
    ------
    ValueError
        No slide, a slide twice, no slide that can be read; files of different encoders, revisions, widths or tile
        sizes, with two slides of them.
    """
    if slides.empty:
        raise ValueError("no slide is given, so there are no features of slides")
    if (twice := slides["slide"].duplicated()).any():
        raise ValueError(f"slide {slides['slide'][twice].iloc[0]} stands twice; one row a slide is expected")
    rows, means, problems, known, first = [], [], [], {}, ""
    for patient, slide in slides[["patient", "slide"]].itertuples(index=False):
        try:
            file = read_foreign(bag_files(folder, slide, [scale])[scale])
        except (OSError, ValueError) as error:
            problems.append((patient, slide, str(error)))
            continue
        about = _about(file, scale)
        if not known:
            known, first = about, slide
        if odd := [name for name in known if not _equal(known[name], about[name])]:
            raise ValueError(
                f"slides {first} and {slide} do not go together: {odd[0]} is {known[odd[0]]!r} of the one and "
                f"{about[odd[0]]!r} of the other; embed all slides alike"
            )
        kept = np.arange(len(file.features))
        if not duplicates and file.coords is not None:
            kept = np.sort(np.unique(file.coords, axis=0, return_index=True)[1])
        means.append(file.features[kept].mean(axis=0, dtype=np.float64))
        rows.append((patient, slide, len(kept), len(file.features) - len(kept)))
    if not rows:
        raise ValueError(f"none of {len(problems)} slides has features; {problems[0][1]}: {problems[0][2]}")
    counts = pd.DataFrame(rows, columns=["patient", "slide", "tiles", "duplicates"])
    features = pd.DataFrame(np.stack(means), columns=[f"{PREFIX}{i}" for i in range(known["dim"])])
    return SlideTable(
        pd.concat([counts, features], axis=1),
        pd.DataFrame(problems, columns=["patient", "slide", "problem"]),
        known,
    )


def patient_table(table: pd.DataFrame, rule: str = "slides") -> pd.DataFrame:
    """One row a patient from one row a slide.

    Parameters
    ----------
    table : DataFrame
        `SlideTable.table`, in any order.
    rule : "slides" | "tiles"
        Mean of the slides' means, or each slide weighted by its number of tiles: the mean over all tiles.

    Returns
    -------
    DataFrame
        patient, slides, tiles, duplicates (of all slides of the patient), feat_0, ...; patients in the order of their
        first slide. `feature_columns` are the features alone.

    Raises
    ------
    ValueError
        Another rule, a slide twice or without tiles, or a number that is missing or infinite.
    """
    if rule not in RULES:
        raise ValueError(
            f"rule {rule!r} is neither slides (mean of slide means) nor tiles (mean over all tiles)"
        )
    columns = feature_columns(table)
    if (twice := table["slide"].duplicated()).any():
        raise ValueError(f"slide {table['slide'][twice].iloc[0]} stands twice; one row a slide is expected")
    if (odd := ~np.isfinite(table[columns].to_numpy(float)).all(axis=1)).any():
        raise ValueError(f"slide {table['slide'][odd].iloc[0]} has a feature that is NaN or infinite")
    if (odd := ~(table["tiles"] > 0)).any():
        raise ValueError(f"slide {table['slide'][odd].iloc[0]} has {table['tiles'][odd].iloc[0]} tiles")
    weights = table["tiles"].astype(float) if rule == "tiles" else pd.Series(1.0, table.index)
    groups = table["patient"]
    total = weights.groupby(groups, sort=False).sum()
    pooled = table[columns].mul(weights, axis=0).groupby(groups, sort=False).sum().div(total, axis=0)
    counts = table.assign(slides=1).groupby("patient", sort=False)[list(COUNTS)].sum()
    return pd.concat([counts, pooled], axis=1).reset_index()


def feature_columns(table: pd.DataFrame) -> list[str]:
    """Names of the features, feat_0, feat_1, ...: neither names of slides nor counts.

    Raises
    ------
    ValueError
        There are none, or numbers are left out or disordered.
    """
    columns = [name for name in table if str(name).startswith(PREFIX)]
    if not columns or columns != [f"{PREFIX}{i}" for i in range(len(columns))]:
        raise ValueError(
            f"columns {PREFIX}0, {PREFIX}1, ... are expected, {len(columns)} like them are there"
        )
    return columns


def write_reference_csv(path: str | os.PathLike, table: pd.DataFrame) -> None:
    """Write slides as the reference does: wsi, feat_0, ..., one row a slide, here sorted by name."""
    rows = table[["slide", *feature_columns(table)]].rename(columns={"slide": "wsi"})
    write_csv(rows.sort_values("wsi", ignore_index=True), path)


def read_reference_csv(path: str | os.PathLike) -> pd.DataFrame:
    """Read a table of slides as the reference writes it.

    Returns
    -------
    DataFrame
        slide (without .h5), feat_0, ...; float64.

    Raises
    ------
    FileNotFoundError
    ValueError
        No column wsi, no or disordered features, a slide twice, or a cell that is no finite number.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not there")
    table = pd.read_csv(path, dtype={"wsi": str})
    if "wsi" not in table:
        raise ValueError(f"{path} has no column wsi, which names the slide")
    columns = feature_columns(table)
    slide = table["wsi"].str.removesuffix(".h5")
    if slide.isna().any() or slide.duplicated().any():
        odd = slide[slide.isna() | slide.duplicated()].iloc[0]
        raise ValueError(f"{path}: slide {odd} stands twice or has no name; one row a slide is expected")
    values = table[columns].apply(pd.to_numeric, errors="coerce").astype(float)
    if (odd := ~np.isfinite(values.to_numpy())).any():
        row, column = np.argwhere(odd)[0]
        raise ValueError(
            f"{path}: {columns[column]} of slide {slide[row]} is {table[columns].iloc[row, column]}, a number is needed"
        )
    return pd.concat([slide.rename("slide"), values], axis=1)


def _about(file: FeatureFile, scale: int) -> dict[str, object]:
    """What must be the same for all slides. Level-0 pixels may differ between scanners, the tissue of a tile may not."""
    known: Mapping = file.attributes
    side = known.get("crop_um") or known.get("tile_size_um")
    return {
        "encoder": str(known.get("encoder") or ""),
        "revision": str(known.get("revision") or ""),
        "tile_um": float(side) if side else None,
        "scale": float(known.get("scale") or known.get("target_magnification") or scale),
        "dim": int(file.features.shape[1]),
    }


def _equal(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 0.001 * abs(one)
    return one == other
