"""How many µm a slide's pixel measures: from metadata, from the objective, or from a table of overrides."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.inputs.names import check_names
from lib.inputs.text_tables import read_columns

FINEST, COARSEST = 0.1, 2.4
"""µm per pixel that a scanner's level 0 may have (HEST issue 106: 0.0274 was meant to be 0.274)."""

SQUARE = 1.05  # most by which a pixel's two sides may differ
AGREE = 2.5
"""Most by which mpp and objective may differ: 20x objectives with 2x changers are honest, ten times is an error."""

REMEDY = "look up the scanner's µm per pixel and give it for this slide in the table of overrides"


def scale_of(properties: Mapping[str, str], name: str, override: float | None = None) -> tuple[float, str]:
    """µm per level-0 pixel, and where that was read.

    Parameters
    ----------
    properties : mapping
        OpenSlide's properties: openslide.mpp-x and -y, else openslide.objective-power, for which 10 µm / power is
        taken (20x is 0.5, 40x 0.25).
    name : str
        Of the slide, for the sentences.
    override : float, optional
        µm per pixel that the user vouches for: taken instead of all metadata.

    Returns
    -------
    float, "mpp" | "objective" | "override"

    Raises
    ------
    ValueError
        No scale; outside 0.1 to 2.4 µm; mpp and objective contradict each other; pixels that are not square.
    """
    if override is not None:
        if not FINEST <= override <= COARSEST:
            raise ValueError(
                f"{name}: the override of {override} µm per pixel lies outside {FINEST} to {COARSEST}; "
                "it is meant for level 0 of the slide"
            )
        return float(override), "override"
    x, y = (_number(properties, f"openslide.mpp-{axis}", name) for axis in "xy")
    power = _number(properties, "openslide.objective-power", name)
    if x is None and y is None:
        if power is None:
            raise ValueError(f"{name} names neither µm per pixel nor objective power: {REMEDY}")
        mpp, source = 10 / power, "objective"
    else:
        x, y = x or y, y or x
        if max(x, y) / min(x, y) > SQUARE:
            raise ValueError(
                f"{name}: its pixels are {x:g} x {y:g} µm, and only square ones are known: {REMEDY}"
            )
        mpp, source = (x + y) / 2, "mpp"
        # asked before the limits, because it says more
        if power is not None and not 1 / AGREE <= mpp * power / 10 <= AGREE:
            raise ValueError(
                f"{name} contradicts itself: {mpp:.4g} µm per pixel, but objective {power:g}x means about "
                f"{10 / power:.3g}: {REMEDY}"
            )
    if not FINEST <= mpp <= COARSEST:
        raise ValueError(
            f"{name}: {mpp:.4g} µm per pixel (from its {source}) lies outside {FINEST} to {COARSEST}, so it is no "
            f"scan of tissue or its metadata are wrong: {REMEDY}"
        )
    return mpp, source


def read_overrides(path: str | os.PathLike) -> dict[str, float]:
    """Read a table of overrides: a csv with the columns slide (file name or its stem) and um_per_px.

    Returns
    -------
    dict
        Slide -> µm per level-0 pixel.

    Raises
    ------
    FileNotFoundError
    ValueError
        A column lacks; a slide stands twice; a value is no number within 0.1 to 2.4.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no table of overrides at {path}")
    table = read_columns(path, dtype={"slide": str})
    if lacking := [name for name in ("slide", "um_per_px") if name not in table]:
        raise ValueError(
            f"{path} lacks the column {' and '.join(lacking)}: it has {', '.join(table.columns)}"
        )
    scale = pd.to_numeric(table.um_per_px, errors="coerce")
    for bad, what in (
        (table.slide.isna(), "has a row without slide"),
        (table.slide.duplicated(), "names a slide twice"),
        (
            ~scale.between(FINEST, COARSEST),
            f"has a um_per_px that is no number within {FINEST} to {COARSEST}",
        ),
    ):
        if bad.any():
            raise ValueError(f"{path} {what}: row {int(np.flatnonzero(bad)[0]) + 2}")
    check_names(table.slide, path, "slide", zeros=False)
    return dict(zip(table.slide, scale.astype(float), strict=True))


def _number(properties: Mapping[str, str], key: str, name: str) -> float | None:
    text = properties.get(key)
    if text in (None, ""):
        return None
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name}: {key} is {text!r}, which is no size: {REMEDY}")
    return value
