"""A CT perfusion scan to the eye: frames, curves, maps with units, lesions; and what a trained fusion attends to.

Pictures are in radiological convention: the patient's right is on the left, the front is up.
"""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from lib.figures import live, style
from lib.stroke.maps import ArterialInput, Lesions, Maps
from lib.stroke.perfusion import Prepared

ARTERY, VEIN, TISSUE = style.PALETTE[1], style.PALETTE[0], style.PALETTE[2]
CORE, HYPOPERFUSED = style.PALETTE[1], style.PALETTE[5]
OUTSIDE = "0.93"
BRAIN_HU = (0.0, 80.0)  # the brain window of CT


# title, unit, limits, colours; flow as deconvolution gives it, which is low; dark is poorly perfused in all four
SCALES = {
    "cbf": ("CBF", "ml/100 g/min", (0, 50), "inferno"),
    "cbv": ("CBV", "ml/100 g", (0, 6), "inferno"),
    "mtt": ("MTT", "s", (0, 16), "inferno_r"),
    "tmax": ("Tmax", "s", (0, 12), "inferno_r"),
}


def draw_slice(
    ax: Axes,
    values: np.ndarray,
    spacing_mm: Sequence[float] = (1, 1, 1),
    limits: tuple[float, float] = BRAIN_HU,
    colours: str = "gray",
):
    """Draw one slice (y, x) of a volume in LPS axes, NaN in light grey, with the patient's sides R and L."""
    cmap = mpl.colormaps[colours].with_extremes(bad=OUTSIDE)
    shown = ax.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    ax.set_aspect(spacing_mm[1] / spacing_mm[0])
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
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
    limits: tuple[float, float] = BRAIN_HU,
    unit: str = "HU",
    moment: str = "{:.0f} s",
) -> None:
    """Draw slice `z` of a series (frames, z, y, x) at moments spread evenly over the scan, one a panel.

    `seconds` (frames,) are those of the frames; `limits` the values of black and of white.
    """
    axes = np.ravel(axes)
    frames = np.linspace(0, len(series) - 1, len(axes)).round().astype(int)
    for ax, frame in zip(axes, frames, strict=True):
        shown = draw_slice(ax, series[frame, z], spacing_mm, limits)
        ax.set_title(moment.format(seconds[frame]), fontsize=9)
    _bar(axes, shown, unit, shrink=0.7)


def map_row(axes: Sequence[Axes], maps: Maps, z: int, spacing_mm: Sequence[float] = (1, 1, 1)) -> None:
    """Draw CBF, CBV, MTT and Tmax of one slice on four axes, each with its unit; dark is poorly perfused in all four."""
    for ax, (name, (title, unit, limits, colours)) in zip(np.ravel(axes), SCALES.items(), strict=True):
        values = getattr(maps, name)[z]
        shown = draw_slice(ax, values, spacing_mm, limits, colours)
        ax.set_title(title)
        below, above = np.nanmin(values) < limits[0], np.nanmax(values) > limits[1]
        extend = "both" if below and above else "min" if below else "max" if above else "neither"
        _bar(ax, shown, unit, extend=extend)


def live_film(scan: Prepared, maps: Maps, z: int) -> dict:
    """One slice's film and maps for the book's piece "film" (`lib.figures.live.film`), in the colours of `map_row`."""
    shown = {
        title: (getattr(maps, name)[z], unit, limits, colours.endswith("_r"))
        for name, (title, unit, limits, colours) in SCALES.items()
    }
    return live.film(scan.enhancement[:, z], scan.seconds, scan.mask[z], shown)


def curve_check(
    ax: Axes,
    artery: ArterialInput,
    seconds: np.ndarray,
    tissue: np.ndarray,
    baseline: tuple[int, int],
    window: tuple[int, int],
) -> None:
    """Draw the arterial and venous curve, with the frames that served as baseline and those given to the network.

    The artery is drawn as used, and thinly as measured where the two differ; the mean curve of `tissue` (frames,) has
    an axis of its own at the right: it is some thirty times lower. Frames are (first, end), `end` not included.
    """
    half = (seconds[1] - seconds[0]) / 2
    shades = ((baseline, "0.6", 0.25, "baseline"), (window, style.PALETTE[4], 0.12, "window"))
    for (first, end), colour, alpha, name in shades:
        left, right = seconds[first] - half, seconds[end - 1] + half
        name = f"{name} ({end - first} frames)"
        ax.axvspan(left, right, label=name, color=colour, alpha=alpha, lw=0, zorder=0)
    number = f"{len(artery.voxels)} voxel{'s' * (len(artery.voxels) != 1)}"
    scaled = f", ×{artery.factor:.2f}" if artery.factor > 1 else ""
    ax.plot(seconds, artery.curve, color=ARTERY, label=f"artery ({number}{scaled})")
    if scaled:
        ax.plot(seconds, artery.measured, color=ARTERY, lw=0.9, ls=":", label="artery as measured")
    if artery.venous is not None:
        name = f"vein ({len(artery.venous_voxels)} voxels)"
        ax.plot(seconds, artery.venous, color=VEIN, ls="--", label=name)
    ax.axhline(0, color="0.7", lw=0.7, zorder=0)
    ax.set(xlabel="time (s)", ylabel="enhancement of vessels (HU)")
    ax.set_xlim(seconds[0] - half, seconds[-1] + half)
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


def lesion_overlay(
    ax: Axes, background: np.ndarray, lesions: Lesions, z: int, spacing_mm: Sequence[float] = (1, 1, 1)
) -> None:
    """Draw core and hypoperfused tissue over a slice of HU (z, y, x), with their volumes in the whole brain."""
    draw_slice(ax, background[z], spacing_mm)
    core = (lesions.core, CORE, f"core, {lesions.core_ml:.0f} ml")
    words = f"hypoperfused, {lesions.hypoperfused_ml:.0f} ml with core"
    parts = (core, (lesions.hypoperfused & ~lesions.core, HYPOPERFUSED, words))
    for where, colour, _ in parts:
        hidden = np.ma.masked_equal(where[z], False)
        ax.imshow(hidden, cmap=ListedColormap([colour]), alpha=0.7, interpolation="nearest")
        ax.set_aspect(spacing_mm[1] / spacing_mm[0])
    handles = [Patch(color=colour, alpha=0.7, label=name) for _, colour, name in parts]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), handlelength=1)


def _bar(ax: Axes | Sequence[Axes], shown, unit: str, **options) -> None:
    figure = np.ravel(ax)[0].figure
    bar = figure.colorbar(shown, ax=ax, **{"shrink": 0.8, "pad": 0.02, "aspect": 16, **options})
    bar.set_label(unit)
    bar.outline.set_visible(False)


def draw_attention(axes: Sequence[Axes], table: pd.DataFrame) -> None:
    """Mean attention as bars, each fold as a dot; dashed, equal attention to every token.

    `table` has fold, asks ("variable" or "frame"), name, attention (0 to 1), equal; variables go onto the first of the
    two axes, frames onto the second.
    """
    for ax, asks, colour in zip(axes, ("variable", "frame"), style.PALETTE, strict=False):
        rows = table[table["asks"] == asks].assign(name=lambda t: t["name"].str.replace("_", " "))
        x, y = ("attention", "name") if asks == "variable" else ("name", "attention")
        sns.barplot(rows, x=x, y=y, color=colour, alpha=0.5, errorbar=None, ax=ax)
        if rows["fold"].nunique() > 1:
            sns.stripplot(rows, x=x, y=y, color=colour, size=4, jitter=False, ax=ax)
        line = ax.axvline if asks == "variable" else ax.axhline
        line(rows["equal"].mean(), color="0.4", lw=0.9, ls="--")
    axes[0].set(xlabel="attention of the film's summary", ylabel="")
    axes[1].set(xlabel="frame of the network's film", ylabel="attention of the form's summary")
