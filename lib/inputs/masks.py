"""Names of the regions of a label map: what number the liver has in this file.

Label maps: masks that hold several regions, each a whole number.
"""

import json
import os
import re
import zlib
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import nibabel
import numpy as np
import SimpleITK as sitk

from lib.inputs.tables import nearest_name, plain, read_texts
from lib.inputs.volumes import Geometry, brought_onto, image_of, is_nifti, read_mask, read_volume, same_grid

TOTALSEGMENTATOR = {
    "spleen": 1,
    "kidney_right": 2,
    "kidney_left": 3,
    "liver": 5,
    "stomach": 6,
    "pancreas": 7,
    "aorta": 52,
}
"""Of TotalSegmentator's 117 classes (task total, version 2) those compared with a map the tool made."""

PREFIX = "totalsegmentator:"
NUMBERS = ("label", "number", "value", "id", "index")
NAMES = ("name", "structure", "region", "organ")


class LabelNames(NamedTuple):
    """Names of a map's regions with their numbers, and where they stand."""

    numbers: dict[str, int]
    source: str


def label_number(path: str | os.PathLike, label: int | str) -> int:
    """The number of a region of a label map.

    Parameters
    ----------
    path : path
        The map.
    label : int or str
        A number ("5" too), which is given back; a name, looked for in what `label_names` finds, whatever its case, with
        underscores, hyphens or spaces; or "totalsegmentator:liver", one of `TOTALSEGMENTATOR`, for a map of that tool
        that was stored again without its names.

    Raises
    ------
    FileNotFoundError
        No map at `path`.
    ValueError
        The map's names are not known, or this one is not among them.
    """
    if not isinstance(label, str):
        return label
    wanted = label.strip()
    if re.fullmatch(r"-?\d+", wanted):
        return int(wanted)
    if not Path(path).is_file():
        raise FileNotFoundError(f"no image at {path}")
    if plain(wanted).startswith(PREFIX):
        wanted, known = wanted[len(PREFIX) :], LabelNames(TOTALSEGMENTATOR, "the classes verified here")
    else:
        known = label_names(path)
    if known is None:
        tool = (
            f", or {PREFIX}{_key(wanted)} if TotalSegmentator made it"
            if _key(wanted) in TOTALSEGMENTATOR
            else ""
        )
        raise ValueError(
            f"{path} does not say which label is {label!r}: give its number{tool}, or lay a {_bare(path)}.json "
            'beside it such as {"liver": 5}'
        )
    folded = {_key(name): number for name, number in known.numbers.items()}
    if _key(wanted) not in folded:
        near = nearest_name(_key(wanted), folded)
        there = ", ".join(list(known.numbers)[:12]) + (", ..." if len(known.numbers) > 12 else "")
        raise ValueError(
            f"{path} has no label named {label!r}{near if 'nearest' in near else ''}; the names in {known.source} are "
            f"{there or 'none'}"
        )
    return folded[_key(wanted)]


def label_names(path: str | os.PathLike) -> LabelNames | None:
    """What a label map's regions are called, from the first of these that is there.

    The file's own table (NIfTI with the table of labels TotalSegmentator writes; 3D Slicer's .seg.nrrd); MASK.json or
    MASK.csv beside it; labels.json or labels.csv in its folder; nnU-Net's dataset.json in its folder or the one above.
    A json maps names to numbers, or numbers to names, itself or under "labels"; a csv has a column label (or number,
    value, id, index) and a column name (or structure, region, organ).

    Returns
    -------
    LabelNames or None
        None: nothing is there.

    Raises
    ------
    ValueError
        A table that cannot be read, or has a name twice with different numbers.
    """
    path = Path(path)
    if own := _own_table(path):
        return _checked(own, f"{path.name} itself")
    folder, bare = path.parent, _bare(path)
    beside = [folder / f"{name}.{kind}" for name in (bare, "labels") for kind in ("json", "csv")]
    for table in (*beside, folder / "dataset.json", folder.parent / "dataset.json"):
        if table.is_file():
            return _checked(_json(table) if table.suffix == ".json" else _csv(table), str(table))
    return None


def _key(name: str) -> str:
    return "_".join(re.split(r"[\s_\-]+", plain(name)))


def _bare(path: str | os.PathLike) -> str:
    name = Path(path).name
    return next(
        (name.removesuffix(end) for end in (".nii.gz", ".seg.nrrd") if name.endswith(end)), Path(name).stem
    )


def _checked(pairs: list[tuple[str, object]], source: str) -> LabelNames:
    """Pairs without the background, whole numbers, a name for one number only."""
    numbers: dict[str, int] = {}
    seen: dict[str, int] = {}
    for name, number in pairs:
        if isinstance(number, list):
            raise ValueError(f"{source}: {name!r} is made of several labels {number}; give the number of one")
        if isinstance(number, bool) or not re.fullmatch(r"\d+", str(number).strip()):
            raise ValueError(f"{source}: the label of {name!r} is {number!r}, a whole number is expected")
        if seen.setdefault(_key(name), int(number)) != int(number):
            raise ValueError(
                f"{source} has the name {name!r} for the labels {seen[_key(name)]} and {int(number)}"
            )
        if int(number):
            numbers[name] = int(number)
    return LabelNames(numbers, source)


def _own_table(path: Path) -> list[tuple[str, object]]:
    """What the map's own header says."""
    if is_nifti(path):
        try:
            extensions = nibabel.load(path).header.extensions
        except (OSError, EOFError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
            raise ValueError(f"{path} was cut short or is damaged ({error}): fetch it again") from error
        for extension in extensions:
            content = extension.get_content()
            content = content if isinstance(content, bytes) else str(content).encode()
            if b"<LabelTable>" in content:
                try:
                    root = ElementTree.fromstring(content.strip(b"\0 \n"))
                except ElementTree.ParseError as error:
                    raise ValueError(f"{path}: its table of labels cannot be read ({error})") from error
                return [((each.text or "").strip(), each.get("Key")) for each in root.iter("Label")]
        return []
    if path.suffix != ".nrrd":
        return []
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read as an image: fetch it again") from error
    segments = [
        key.removesuffix("_Name") for key in reader.GetMetaDataKeys() if re.fullmatch(r"Segment\d+_Name", key)
    ]
    return [
        (reader.GetMetaData(f"{each}_Name"), reader.GetMetaData(f"{each}_LabelValue")) for each in segments
    ]


def _json(table: Path) -> list[tuple[str, object]]:
    try:
        content = json.loads(table.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{table} is no json that can be read: {error}") from error
    labels = content.get("labels", content) if isinstance(content, dict) else None
    if not isinstance(labels, dict) or (table.name == "dataset.json" and "labels" not in content):
        raise ValueError(f'{table} does not map names to numbers, such as {{"labels": {{"liver": 5}}}}')
    if labels and all(
        re.fullmatch(r"\d+", key.strip()) for key in labels
    ):  # nnU-Net 1 wrote them this way round
        return [(str(name), number) for number, name in labels.items()]
    return list(labels.items())


def _csv(table: Path) -> list[tuple[str, object]]:
    texts = read_texts(table)
    named = {plain(column): column for column in texts}
    number, name = (next((named[each] for each in some if each in named), None) for some in (NUMBERS, NAMES))
    if number is None or name is None:
        raise ValueError(f"{table} needs the columns label (a number) and name, it has {', '.join(texts)}")
    return list(zip(texts[name], texts[number], strict=True))


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
        Number of the region, 1 or more, or its name (see `lib.inputs.masks.label_number`); None: everything
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
