"""From the tiles of slides to one row of numbers a slide, and a patient.

The reference averages the tiles of a slide and leaves open what a patient with several slides gets: here the mean of
the slides' means, so that each slide counts alike, or the mean over all tiles.
"""

import os
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.features.feature_files import FeatureFile, bag_files, read_foreign
from lib.files import write_csv

RULES = ("slides", "tiles")
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
    """
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
        chosen = np.arange(len(file.features))
        if not duplicates and file.coords is not None:
            chosen = np.sort(np.unique(file.coords, axis=0, return_index=True)[1])
        means.append(file.features[chosen].mean(axis=0, dtype=np.float64))
        rows.append((patient, slide, len(chosen), len(file.features) - len(chosen)))
    if not rows:
        said = f"; {problems[0][1]}: {problems[0][2]}" if problems else ""
        raise ValueError(f"none of {len(slides)} slides has features{said}")
    counts = pd.DataFrame(rows, columns=["patient", "slide", "tiles", "duplicates"])
    features = pd.DataFrame(np.stack(means), columns=[f"{PREFIX}{i}" for i in range(known["dim"])])
    odd = pd.DataFrame(problems, columns=["patient", "slide", "problem"])
    return SlideTable(pd.concat([counts, features], axis=1), odd, known)


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
    """
    columns, groups = feature_columns(table), table["patient"]
    weights = {"slides": pd.Series(1.0, table.index), "tiles": table["tiles"].astype(float)}[rule]
    total = weights.groupby(groups, sort=False).sum()
    pooled = table[columns].mul(weights, axis=0).groupby(groups, sort=False).sum().div(total, axis=0)
    counts = table.assign(slides=1).groupby("patient", sort=False)[["slides", "tiles", "duplicates"]].sum()
    return pd.concat([counts, pooled], axis=1).reset_index()


def feature_columns(table: pd.DataFrame) -> list[str]:
    """Names of the features, feat_0, feat_1, ...: neither names of slides nor counts."""
    return [name for name in table if str(name).startswith(PREFIX)]


def write_reference_csv(path: str | os.PathLike, table: pd.DataFrame) -> None:
    """Write slides as the reference does: wsi, feat_0, ..., one row a slide, here sorted by name."""
    rows = table[["slide", *feature_columns(table)]].rename(columns={"slide": "wsi"})
    write_csv(rows.sort_values("wsi", ignore_index=True), path)


def _about(file: FeatureFile, scale: int) -> dict[str, object]:
    """What must be the same for all slides. Level-0 pixels may differ between scanners, the tissue of a tile may not."""
    known = file.attributes
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
