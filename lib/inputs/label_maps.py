"""Label maps: masks that hold several regions, each a whole number."""

import os

import numpy as np
import SimpleITK as sitk

from lib.inputs.geometry import Geometry, brought_onto, image_of, same_grid
from lib.inputs.label_names import label_number
from lib.inputs.volumes import read_mask, read_volume


def read_label(
    path: str | os.PathLike, like: Geometry, label: int | str | None = 1, resample: bool = False
) -> np.ndarray:
    """Read one region of a label map that belongs to a volume.

    Parameters
    ----------
    path : path
        .nii, .nii.gz, .nrrd or .mha in any orientation.
    like : Geometry
        Of the volume.
    label : int or str, optional
        Number of the region, 1 or more, or its name (see `lib.inputs.label_names.label_number`); None: everything
        above 0.
    resample : bool
        Bring a map from another grid over by its place in the patient, nearest neighbour; else that is refused.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
        At least one voxel.

    Raises
    ------
    FileNotFoundError
    ValueError
        Another grid; values that are no whole numbers of 0 or more; an empty map, or one without the label; a name that
        is not known; nothing of the region falls inside the volume.
    """
    if label is None:
        mask = read_mask(path, like, resample)
        if not mask.any():
            raise ValueError(f"{path} is empty: no voxel is above 0")
        return mask
    named = f" ({label.strip()})" if isinstance(label, str) else ""
    label = label_number(path, label)
    named = "" if named == f" ({label})" else named
    if isinstance(label, bool) or label != int(label) or label < 1:
        raise ValueError(f"{path}: a label is a whole number of 1 or more, it is {label!r}")
    labels = read_volume(path, oblique="keep")
    there = np.unique(labels.values)
    if (there < 0).any() or (there != np.rint(there)).any():
        raise ValueError(
            f"{path} is no mask: its values reach from {there[0]:g} to {there[-1]:g}, "
            "whole numbers of 0 or more are expected"
        )
    mask, there = labels.values == label, [f"{each:.0f}" for each in there if each]
    if not there:
        raise ValueError(f"{path} is empty: no voxel is above 0")
    if not mask.any():
        raise ValueError(f"{path} has no label {label}{named}: its labels are {', '.join(there)}")
    if same_grid(labels.geometry, like):
        return mask
    if not resample:
        raise ValueError(
            f"{path} lies on another grid than its volume: the mask has {labels.geometry}; the volume has {like}. "
            "Give the mask of this volume, or resample=True to bring it over"
        )
    image = brought_onto(image_of(mask, labels.geometry), like, 0, sitk.sitkNearestNeighbor)
    brought = sitk.GetArrayFromImage(image) > 0
    if not brought.any():
        raise ValueError(
            f"{path}: no voxel of label {label}{named} falls inside the volume ({labels.geometry}; the volume has {like})"
        )
    return brought
