"""A section on its tissue: drawn over its picture, and as squidpy's graph of neighbouring spots."""

import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from lib.figures import live
from lib.figures.pictures import picture_with_spots
from lib.statistics.intervals import block_side


def draw(ax: Axes, section: AnnData, title: str = "", **drawn) -> Axes:
    """Draw a section's spots to scale over its picture, or on white.

    `drawn`: labels=, or values= (n,), and what else `lib.figures.pictures.picture_with_spots` takes.
    """
    about = section.uns["section"]
    kept = section.uns["spatial"][about["name"]]
    scale = kept["scalefactors"]["tissue_hires_scalef"]
    picture_with_spots(
        ax,
        kept["images"].get("hires"),
        section.obsm["spatial"],
        spot_px=kept["scalefactors"]["spot_diameter_fullres"],
        picture_scale=(scale, scale),
        um_per_px=about["um_per_px"],
        **drawn,
    )
    ax.set_title(title)
    return ax


def live_slide(section: AnnData, scores: pd.Series) -> dict:
    """Layers over a section's hires picture for the book's piece "slide": labels, ranks of scores (by spot), ERBB2 where counted."""
    kept = section.uns["spatial"][section.uns["section"]["name"]]
    scale, side = (kept["scalefactors"][name] for name in ("tissue_hires_scalef", "spot_diameter_fullres"))
    x, y = section.obsm["spatial"].T
    ranks = scores.reindex(section.obs_names).rank(pct=True)
    values = {"labels": section.obs["label"].astype(float), "rank of score": ranks}
    if "ERBB2" in section.var_names:
        values["ERBB2, log of counts"] = np.log1p(np.asarray(section[:, "ERBB2"].X.sum(axis=1)).ravel())
    layers = [dict(name=name, x=x, y=y, side=side, value=value, round=True) for name, value in values.items()]
    layers[0]["classes"] = ["other", "cancer"]
    height, width = kept["images"]["hires"].shape[:2]
    return live.slide((width / scale, height / scale), layers)


def labelled(section: AnnData, most: int | None = None) -> AnnData:
    """The spots with a label, as squidpy wants them: obs["class"], and a graph of the six nearest neighbours.

    Of more than `most`, those of a smaller window in the middle of the section: thinned out, neighbours would not touch.
    """
    import squidpy

    logging.getLogger("spatialdata._logging").setLevel(logging.WARNING)  # it tells of every graph
    known = section[section.obs["label"].notna()]
    if most and known.n_obs > most:
        xy = known.obsm["spatial"]
        known = known[np.abs(xy - np.median(xy, axis=0)).max(axis=1).argsort(kind="stable")[:most]]
    known = known.copy()
    known.obs["class"] = pd.Categorical(np.where(known.obs["label"] == 1, "cancer", "other"))
    known.obs["counts"] = np.log10(np.asarray(known.X.sum(axis=1)).ravel() + 1)
    if known.n_obs > 6:
        squidpy.gr.spatial_neighbors_knn(known, n_neighs=6)
    return known


def morans_i(known: AnnData, columns: list[str]) -> pd.Series:
    """Moran's I of columns of `obs` over the graph of `labelled`: 1 smooth, 0 random in space; NaN if constant."""
    import squidpy

    varied = [column for column in columns if known.obs[column].nunique() > 1 and known.n_obs > 6]
    if not varied:
        return pd.Series(np.nan, index=columns)
    known.obs[varied] = known.obs[varied].astype(float)
    found = squidpy.gr.spatial_autocorr(known, mode="moran", attr="obs", genes=varied, copy=True)
    return found["I"].reindex(columns)


def places(sections: Mapping[str, AnnData], pitches: float | None) -> dict[str, tuple[pd.DataFrame, float]]:
    """Positions by spot, and the side of a spatial block in pixels (`pitches` long, or `block_side`), of each section.

    For `lib.statistics.metrics_table.scored_sections`.
    """
    found = {}
    for name, section in sections.items():
        xy, pitch = section.obsm["spatial"], section.uns["section"]["pitch_px"]
        side = pitches * pitch if pitches else block_side(xy, section.obs["label"], pitch)
        found[name] = pd.DataFrame(xy, index=section.obs_names), side
    return found
