"""A CT scan to the eye: a region in three planes, in mm, so that thick slices look as thick as they are.

Pictures are in radiological convention: axial and coronal with the patient's right on the left, sagittal with the front
on the left.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from lib.figures import style
from lib.inputs.ct import windowed
from lib.inputs.volumes import Volume

REGION = style.PALETTE[4]
FINER = 8  # a contour follows the voxels' edges: each voxel is drawn as so many points each way

# axis of the array that is looked along, its letter; letters at the left, right, top and bottom
PLANES = {
    "axial": (0, "z", "RLAP"),
    "coronal": (1, "y", "RLSI"),
    "sagittal": (2, "x", "APSI"),
}


def three_planes(
    axes: Sequence[Axes],
    volume: Volume,
    mask: np.ndarray | None = None,
    *,
    level: float = 40,
    width: float = 400,
    margin_mm: float | None = None,
) -> Sequence[Axes]:
    """Draw axial, coronal and sagittal slices through a region, each where its cross-section is largest.

    Parameters
    ----------
    axes : sequence of 3 Axes
    volume : Volume
        HU, LPS axes.
    mask : array of bool (z, y, x), optional
        Drawn as a contour. None: slices through the middle of the volume.
    level, width : float
        HU of the middle of the grey scale, and from black to white.
    margin_mm : float, optional
        Show so much round the region; else the whole volume.

    Returns
    -------
    axes

    Raises
    ------
    ValueError
        Not three Axes; a mask of another shape or empty; axes that are not LPS.
    """
    axes, (values, grid) = np.ravel(axes), volume[:2]
    if len(axes) != 3:
        raise ValueError(f"three planes are drawn on three axes, {len(axes)} were given")
    if grid.orientation != "LPS":
        raise ValueError(f"planes are drawn of a volume whose axes lie LPS, it has {grid.orientation}")
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != values.shape:
            raise ValueError(f"the mask has {mask.shape} voxels (z, y, x), its volume {values.shape}")
        if not mask.any():
            raise ValueError("the mask is empty: there is no region to draw")
    spacing = np.asarray(grid.spacing_mm[::-1])
    at = [_largest(mask, axis) if mask is not None else n // 2 for axis, n in enumerate(values.shape)]
    for ax, (name, (along, letter, sides)) in zip(axes, PLANES.items(), strict=True):
        down, across = (axis for axis in range(3) if axis != along)
        up = down == 0  # z grows upward, y downward: both as the patient stands before the reader
        ends = [0, values.shape[across] * spacing[across], 0, values.shape[down] * spacing[down]]
        picture = windowed(values.take(at[along], along), level, width)
        ax.imshow(
            picture,
            cmap="gray",
            vmin=0,
            vmax=1,
            extent=ends if up else [*ends[:2], *ends[:1:-1]],
            origin="lower" if up else "upper",
            aspect="equal",
            interpolation="nearest",
        )
        if mask is not None:
            _contour(ax, mask.take(at[along], along), spacing[across], spacing[down])
            if margin_mm is not None:
                _zoom(ax, mask, across, down, spacing, margin_mm)
        _letters(ax, sides)
        ax.set_title(f"{name}, {letter} {at[along] + 1} of {values.shape[along]}")
        ax.set(xlabel="mm", ylabel="mm")
    axes[1].set_xlabel(f"mm\nwindow {level - width / 2:g} to {level + width / 2:g} HU")
    return axes


def _largest(mask: np.ndarray, axis: int) -> int:
    """The slice with most of a region; of several the middle one."""
    counts = mask.sum(tuple(other for other in range(3) if other != axis))
    most = np.flatnonzero(counts == counts.max())
    return int(most[(len(most) - 1) // 2])


def _contour(ax: Axes, inside: np.ndarray, across_mm: float, down_mm: float) -> None:
    """The edge of a region in one slice."""
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    box = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    fine = np.pad(box.repeat(FINER, 0).repeat(FINER, 1), 1).astype(float)
    y = (rows[0] + (np.arange(fine.shape[0]) - 0.5) / FINER) * down_mm
    x = (columns[0] + (np.arange(fine.shape[1]) - 0.5) / FINER) * across_mm
    ax.contour(x, y, fine, levels=[0.5], colors=[REGION], linewidths=1.2)


def _zoom(ax: Axes, mask: np.ndarray, across: int, down: int, spacing: np.ndarray, margin_mm: float) -> None:
    """Limit an Axes to a region's box with a margin."""
    limits = []
    for axis in (across, down):
        there = np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis)))
        first, last = there[0] * spacing[axis] - margin_mm, (there[-1] + 1) * spacing[axis] + margin_mm
        limits.append((max(first, 0), min(last, mask.shape[axis] * spacing[axis])))
    ax.set_xlim(limits[0])
    ax.set_ylim(limits[1] if down == 0 else limits[1][::-1])


def _letters(ax: Axes, sides: str) -> None:
    """The patient's sides at the edges of a picture."""
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"))
    places += ((0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom"))
    edge = [withStroke(linewidth=2, foreground="black")]  # legible on bone
    for letter, (x, y, ha, va) in zip(sides, places, strict=True):
        text = ax.text(x, y, letter, transform=ax.transAxes, ha=ha, va=va, color="white", weight="bold")
        text.set_path_effects(edge)
