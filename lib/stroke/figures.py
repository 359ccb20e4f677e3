"""A CT perfusion scan to the eye: frames, curves, maps with units, lesions.

Pictures are in radiological convention: the patient's right is on the left, the front is up.

Attention of a summary token: over named variables, and over frames in time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from lib.figures import style
from lib.stroke.bolus import ArterialInput
from lib.stroke.maps import Lesions, Maps

ARTERY, VEIN, TISSUE = style.PALETTE[1], style.PALETTE[0], style.PALETTE[2]
CORE, HYPOPERFUSED = style.PALETTE[1], style.PALETTE[5]
OUTSIDE = "0.93"


class Scale(NamedTuple):
    """How a map is coloured."""

    title: str
    unit: str
    limits: tuple[float, float]
    colours: str


# flow as deconvolution gives it, which is low; MTT and Tmax run the other way, so that dark is poorly perfused in all
SCALES = {
    "cbf": Scale("CBF", "ml/100 g/min", (0, 50), "inferno"),
    "cbv": Scale("CBV", "ml/100 g", (0, 6), "inferno"),
    "mtt": Scale("MTT", "s", (0, 16), "inferno_r"),
    "tmax": Scale("Tmax", "s", (0, 12), "inferno_r"),
}


def draw_slice(
    ax: Axes,
    values: np.ndarray,
    spacing_mm: Sequence[float] = (1, 1, 1),
    *,
    limits: tuple[float, float] = (0, 80),
    colours: str = "gray",
    sides: bool = True,
):
    """Draw one slice (y, x) of a volume in LPS axes, NaN in light grey.

    Parameters
    ----------
    ax : Axes
    values : array (y, x)
    spacing_mm : (x, y, ...)
    limits : (float, float)
        Values at the two ends of the colours; (0, 80) is the brain window of CT, HU.
    colours : str
        A colour map's name.
    sides : bool
        Write R and L, the patient's sides.

    Returns
    -------
    AxesImage
    """
    shown = ax.imshow(
        np.ma.masked_invalid(values),
        cmap=mpl.colormaps[colours].with_extremes(bad=OUTSIDE),
        vmin=limits[0],
        vmax=limits[1],
        aspect=spacing_mm[1] / spacing_mm[0],
        interpolation="nearest",
    )
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if sides:
        colour = "white" if colours == "gray" else "0.25"
        for letter, x, toward in (("R", 0.02, "left"), ("L", 0.98, "right")):
            ax.text(x, 0.98, letter, transform=ax.transAxes, ha=toward, va="top", color=colour, weight="bold")
    return shown


def frame_montage(
    axes: Sequence[Axes],
    series: np.ndarray,
    seconds: np.ndarray,
    z: int,
    spacing_mm: Sequence[float] = (1, 1, 1),
    *,
    frames: Sequence[int] | None = None,
    limits: tuple[float, float] = (0, 80),
) -> Sequence[Axes]:
    """Draw one slice at several moments of the scan, one a panel.

    Parameters
    ----------
    axes : sequence of Axes
    series : array (frames, z, y, x)
        HU, or HU above baseline with other `limits`.
    seconds : array (frames,)
    z : int
        Slice.
    spacing_mm : (x, y, z)
    frames : sequence of int, optional
        One an Axes; spread evenly over the scan by default.
    limits : (float, float)
        HU of black and of white.

    Returns
    -------
    axes
    """
    axes = np.ravel(axes)
    if frames is None:
        frames = np.linspace(0, len(series) - 1, len(axes)).round().astype(int)
    if len(frames) != len(axes):
        raise ValueError(f"{len(frames)} frames for {len(axes)} panels: give one a panel")
    for ax, frame in zip(axes, frames, strict=True):
        shown = draw_slice(ax, series[frame, z], spacing_mm, limits=limits, sides=ax is axes[0])
        ax.set_title(f"{seconds[frame]:.0f} s", fontsize=9)
    _bar(axes, shown, "HU", shrink=0.7)
    return axes


def map_row(
    axes: Sequence[Axes],
    maps: Maps,
    z: int,
    spacing_mm: Sequence[float] = (1, 1, 1),
    limits: dict[str, tuple[float, float]] | None = None,
) -> Sequence[Axes]:
    """Draw CBF, CBV, MTT and Tmax of one slice, each with its unit; dark is poorly perfused in all four.

    Parameters
    ----------
    axes : sequence of 4 Axes
    maps : Maps
    z : int
    spacing_mm : (x, y, z)
    limits : dict, optional
        Map ("cbf", "cbv", "mtt", "tmax") to the values at the two ends of its colours, in place of those of `SCALES`.

    Returns
    -------
    axes
    """
    axes = np.ravel(axes)
    for ax, (name, scale) in zip(axes, SCALES.items(), strict=True):
        ends = (limits or {}).get(name, scale.limits)
        values = getattr(maps, name)[z]
        shown = draw_slice(ax, values, spacing_mm, limits=ends, colours=scale.colours)
        ax.set_title(scale.title)
        seen = values[np.isfinite(values)]
        beyond = {(True, True): "both", (True, False): "min", (False, True): "max"}
        _bar(
            ax,
            shown,
            scale.unit,
            extend=beyond.get(((seen < ends[0]).any(), (seen > ends[1]).any()), "neither"),
        )
    return axes


def curve_check(
    ax: Axes,
    found: ArterialInput,
    seconds: np.ndarray,
    *,
    tissue: np.ndarray | None = None,
    baseline: tuple[int, int] | None = None,
    window: tuple[int, int] | None = None,
) -> Axes:
    """Draw the arterial and venous curve, with the frames that served as baseline and those given to the network.

    Parameters
    ----------
    ax : Axes
    found : ArterialInput
        The arterial curve is drawn as used, and thinly as measured where the two differ.
    seconds : array (frames,)
    tissue : array (frames,), optional
        Mean curve of tissue, on an axis of its own at the right: it is some thirty times lower.
    baseline, window : (first, end), optional
        Frames, `end` not included.

    Returns
    -------
    Axes
    """
    half = (seconds[1] - seconds[0]) / 2
    for frames, colour, name in ((baseline, "0.6", "baseline"), (window, style.PALETTE[4], "window")):
        if frames is not None:
            first, end = frames
            shade = dict(color=colour, alpha=0.25 if colour == "0.6" else 0.12, lw=0, zorder=0)
            ax.axvspan(
                seconds[first] - half,
                seconds[end - 1] + half,
                label=f"{name} ({end - first} frames)",
                **shade,
            )
    number = f"{len(found.voxels)} voxel{'s' * (len(found.voxels) != 1)}"
    scaled = f", ×{found.factor:.2f}" if found.factor > 1 else ""
    ax.plot(seconds, found.curve, color=ARTERY, label=f"artery ({number}{scaled})")
    if scaled:
        ax.plot(seconds, found.measured, color=ARTERY, lw=0.9, ls=":", label="artery as measured")
    if found.venous is not None:
        ax.plot(seconds, found.venous, color=VEIN, ls="--", label=f"vein ({len(found.venous_voxels)} voxels)")
    ax.axhline(0, color="0.7", lw=0.7, zorder=0)
    ax.set(
        xlabel="time (s)", ylabel="enhancement of vessels (HU)", xlim=(seconds[0] - half, seconds[-1] + half)
    )
    if tissue is not None:
        second = ax.twinx()
        second.plot(seconds, tissue, color=TISSUE, ls="-.")
        # the key is the first axes' alone, so that it has one frame
        ax.plot([], [], color=TISSUE, ls="-.", label="tissue, mean (right axis)")
        second.set_ylabel("enhancement of tissue (HU)", color=TISSUE)
        second.spines["right"].set_visible(True)
        low, high = ax.get_ylim()
        top = 1.15 * float(np.max(tissue))
        second.set_ylim(top * low / high, top)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    if found.remarks:
        ax.set_title("\n".join(found.remarks), fontsize=8, loc="left")
    return ax


def lesion_overlay(
    ax: Axes,
    background: np.ndarray,
    lesions: Lesions,
    z: int,
    spacing_mm: Sequence[float] = (1, 1, 1),
    *,
    limits: tuple[float, float] = (0, 80),
    legend: bool = True,
) -> Axes:
    """Draw core and hypoperfused tissue over a slice, with their volumes in the whole brain.

    Parameters
    ----------
    ax : Axes
    background : array (z, y, x)
        HU before the contrast, say.
    lesions : Lesions
    z : int
    spacing_mm : (x, y, z)
    limits : (float, float)
        HU of black and of white.
    legend : bool

    Returns
    -------
    Axes
    """
    draw_slice(ax, background[z], spacing_mm, limits=limits)
    parts = (
        (
            lesions.hypoperfused & ~lesions.core,
            HYPOPERFUSED,
            f"hypoperfused, {lesions.hypoperfused_ml:.0f} ml with core",
        ),
        (lesions.core, CORE, f"core, {lesions.core_ml:.0f} ml"),
    )
    for where, colour, _ in parts:
        ax.imshow(
            np.ma.masked_equal(where[z], False),
            cmap=ListedColormap([colour]),
            alpha=0.7,
            aspect=spacing_mm[1] / spacing_mm[0],
            interpolation="nearest",
        )
    if legend:
        ax.legend(
            handles=[Patch(color=colour, alpha=0.7, label=name) for _, colour, name in parts[::-1]],
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            handlelength=1,
        )
    return ax


def _bar(ax: Axes | Sequence[Axes], shown, unit: str, **options) -> None:
    figure = np.ravel(ax)[0].figure
    bar = figure.colorbar(shown, ax=ax, **{"shrink": 0.8, "pad": 0.02, "aspect": 16, **options})
    bar.set_label(unit)
    bar.outline.set_visible(False)


def draw_attention(axes: Sequence[Axes], table: pd.DataFrame) -> Sequence[Axes]:
    """Mean attention over folds as bars and a line, each fold as a dot; dashed, equal attention to every token.

    Parameters
    ----------
    axes : sequence of two Axes
        Variables, frames.
    table : DataFrame
        fold, asks ("variable" or "frame"), name, attention (0 to 1), equal.

    Returns
    -------
    axes
    """
    over_variables, over_frames = axes
    rows = table[table["asks"] == "variable"]
    names = list(dict.fromkeys(rows["name"]))
    places = rows["name"].map(names.index)
    mean = rows.groupby("name", sort=False)["attention"].mean()
    over_variables.barh(range(len(names)), mean.loc[names], color=style.PALETTE[0], alpha=0.5)
    over_variables.plot(rows["attention"], places, "o", ms=3.5, color=style.PALETTE[0])
    over_variables.axvline(rows["equal"].mean(), color="0.4", lw=0.9, ls="--")
    over_variables.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    over_variables.invert_yaxis()
    over_variables.set(xlabel="attention of the film's summary")
    rows = table[table["asks"] == "frame"].assign(frame=lambda t: t["name"].astype(int))
    mean = rows.groupby("frame")["attention"].mean()
    over_frames.plot(mean.index, mean, "-", color=style.PALETTE[1])
    over_frames.plot(rows["frame"], rows["attention"], "o", ms=3.5, color=style.PALETTE[1])
    over_frames.axhline(rows["equal"].mean(), color="0.4", lw=0.9, ls="--")
    over_frames.set(
        xlabel="frame of the network's film, from first to last", ylabel="attention of the form's summary"
    )
    if len(mean) <= 16:
        over_frames.set_xticks(mean.index)
    for ax in axes:
        ax.set_xlim(left=0) if ax is over_variables else ax.set_ylim(bottom=0)
    return axes
