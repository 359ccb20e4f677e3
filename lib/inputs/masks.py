"""Label maps: masks that hold several regions, each a whole number, and the names of those numbers."""

import os
import re
import warnings
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import nibabel
import numpy as np

from lib.files import read_json
from lib.inputs.dicom_masks import region, regions
from lib.inputs.tables import nearest_name, plain
from lib.inputs.volumes import Geometry, is_nifti, opened, placed, read_labels

TOTALSEGMENTATOR = dict(spleen=1, kidney_right=2, kidney_left=3, liver=5, stomach=6, pancreas=7, aorta=52)
"""Of TotalSegmentator's 117 classes (task total, version 2) those compared with a map the tool made."""

PREFIX = "totalsegmentator:"


class LabelNames(NamedTuple):
    """Names of a map's regions with their numbers, and where they stand."""

    numbers: dict[str, int]
    source: str


def read_label(path: str | os.PathLike, like: Geometry, label: int | str | None = 1) -> np.ndarray:
    """Read one region of a label map that belongs to a volume, from whatever grid, by its place: bool (z, y, x), not empty.

    `path` is .nii, .nii.gz, .nrrd or .mha in any orientation; a DICOM segmentation or structure set, or a folder that holds
    one. `like` is the volume's. `label` is the number of the region, 1 or more, or its name (see `label_number`); None:
    everything above 0.

    Raises
    ------
    FileNotFoundError
    ValueError
        Values that are no whole numbers of 0 or more; an empty map, or one without the label; a name that is not known;
        the size of the volume with another header, or more than 2 % of the region lost (`lib.inputs.volumes.placed`).
    """
    found, number, what = regions(path), None, "the mask"
    labels = None if found else read_labels(path)
    if label is not None:
        number = label_number(path, label)
        if isinstance(number, bool) or number != int(number) or number < 1:
            raise ValueError(f"{path}: a label is a whole number of 1 or more, it is {number!r}")
        name = str(label).strip()
        what = f"label {number}" + (f" ({name})" if name != str(number) else "")
    if found:
        mask, grid = region(found, number, like)
        if number is not None and what == f"label {number}" and len(found.names) > 1 and mask.any():
            name = next(name for name, each in found.names if each == number)
            warnings.warn(f"{found.path}: region {number} of {len(found.names)} is {name!r}", stacklevel=2)
        there = ", ".join(f"{each} ({name})" for name, each in found.names)
    else:
        mask, grid = labels.values > 0 if number is None else labels.values == number, labels.geometry
        there = ", ".join(f"{each:.0f}" for each in np.unique(labels.values) if each)
    fault = ""
    if not mask.any():
        fault = f"has no {what}: its labels are {there}" if there else "is empty: no voxel is above 0"
    elif not (mask := placed(mask, grid, like, path, what)).any():
        fault = f"has {what}, which is lost between the voxels of the volume: {like}"
    if fault:
        raise ValueError(f"{path} {fault}")
    return mask


def label_number(path: str | os.PathLike, label: int | str) -> int:
    """The number of a region of the label map at `path`.

    `label` is a number ("5" too), which is given back; a name, looked for in what `label_names` finds, whatever its case,
    with underscores, hyphens or spaces; or "totalsegmentator:liver", one of `TOTALSEGMENTATOR`, for a map of that tool that
    was stored again without its names. A ValueError where the map's names are not known, or this is none of them.
    """
    if not isinstance(label, str):
        return label
    if re.fullmatch(r"-?\d+", label.strip()):
        return int(label)
    by_tool = plain(label).startswith(PREFIX)
    names = LabelNames(TOTALSEGMENTATOR, "the table verified here") if by_tool else label_names(path)
    numbers = {_key(name): number for name, number in names.numbers.items()}
    key = _key(plain(label).removeprefix(PREFIX))
    if key in numbers:
        return numbers[key]
    said = f"{names.source} has the names {', '.join([*names.numbers][:12])}{nearest_name(key, numbers)}"
    if not numbers:
        tool = f", or {PREFIX}{key} if TotalSegmentator made it" if key in TOTALSEGMENTATOR else ""
        said = f'give its number{tool}, or lay a {_bare(Path(path))}.json beside it such as {{"liver": 5}}'
    raise ValueError(f"{path} does not say which label is {label!r}: {said}")


def label_names(path: str | os.PathLike) -> LabelNames:
    """What a label map's regions are called, from the first of these that is there; no names where nothing is.

    The file's own table (a DICOM segmentation or structure set; NIfTI with the table of labels TotalSegmentator writes; 3D
    Slicer's .seg.nrrd); MASK.json beside it; labels.json in its folder; nnU-Net's dataset.json in its folder or the one
    above. A json maps names to numbers, or numbers to names, itself or under "labels". A ValueError where it has a name
    twice with different numbers, or a number that is not whole.
    """
    path = Path(path)
    pairs, source, folder = _own_table(path), f"{path.name} itself", path.parent
    beside = [folder / f"{name}.json" for name in (_bare(path), "labels", "dataset")]
    for table in (*beside, folder.parent / "dataset.json"):
        if not pairs and table.is_file():
            pairs, source = _json(table), str(table)
    numbers: dict[str, int] = {}
    seen: dict[str, str] = {}
    for name, number in pairs:
        whole = not isinstance(number, bool) and re.fullmatch(r"\d+", str(number).strip())
        if not whole or seen.setdefault(_key(name), str(number)) != str(number):
            raise ValueError(
                f"{source}: the label of {name!r} is {number!r}, where a whole number and only one is expected"
            )
        numbers[name] = int(number)
    return LabelNames({name: number for name, number in numbers.items() if number}, source)


def _key(name: str) -> str:
    return "_".join(re.split(r"[\s_\-]+", plain(name)))


def _bare(path: Path) -> str:
    return re.sub(r"(\.nii\.gz|\.seg\.nrrd|\.[^.]*)$", "", path.name)


def _own_table(path: Path) -> list[tuple[str, object]]:
    """What the map's own header says."""
    if found := regions(path):
        return found.names
    if not is_nifti(path):
        image = opened(path)
        names = [key for key in image.GetMetaDataKeys() if re.fullmatch(r"Segment\d+_Name", key)]
        numbers = [image.GetMetaData(key.replace("_Name", "_LabelValue")) for key in names]
        return list(zip(map(image.GetMetaData, names), numbers, strict=True))
    for extension in nibabel.load(path).header.extensions:
        content = extension.get_content()
        content = content if isinstance(content, bytes) else str(content).encode()
        if b"<LabelTable>" in content:
            root = ElementTree.fromstring(content.strip(b"\0 \n"))
            return [((each.text or "").strip(), each.get("Key")) for each in root.iter("Label")]
    return []


def _json(table: Path) -> list[tuple[str, object]]:
    content = read_json(table)
    labels = content.get("labels", {} if table.name == "dataset.json" else content)
    if labels and all(re.fullmatch(r"\d+", key.strip()) for key in labels):  # as nnU-Net 1 wrote them
        return [(str(name), number) for number, name in labels.items()]
    return list(labels.items())
