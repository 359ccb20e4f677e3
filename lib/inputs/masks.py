"""Label maps: masks that hold several regions, each a whole number, and the names of those numbers."""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import nibabel
import numpy as np

from lib.inputs.tables import nearest_name, plain, read_texts
from lib.inputs.volumes import DAMAGED, Geometry, is_nifti, opened, placed, read_labels

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
        Number of the region, 1 or more, or its name (see `label_number`); None: everything above 0.
    resample : bool
        Bring a map from another grid over by its place in the patient; see `lib.inputs.volumes.placed`.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
        At least one voxel.

    Raises
    ------
    FileNotFoundError
    ValueError
        Another grid; values that are no whole numbers of 0 or more; an empty map, or one without the label; a name that
        is not known; more than 2 % of the region outside the volume.
    """
    number, what = None, "the mask"
    if label is not None:
        number = label_number(path, label)
        if isinstance(number, bool) or number != int(number) or number < 1:
            raise ValueError(f"{path}: a label is a whole number of 1 or more, it is {number!r}")
        name = label.strip() if isinstance(label, str) else str(label)
        what = f"label {number}" + (f" ({name})" if name != str(number) else "")
    labels = read_labels(path)
    mask = labels.values > 0 if number is None else labels.values == number
    if not mask.any():
        there = ", ".join(f"{each:.0f}" for each in np.unique(labels.values) if each)
        raise ValueError(
            f"{path} has no {what}: its labels are {there}"
            if there
            else f"{path} is empty: no voxel is above 0"
        )
    mask = placed(mask, labels.geometry, like, path, resample, what)
    if not mask.any():
        raise ValueError(f"{path}: {what} is lost between the voxels of the volume, which has {like}")
    return mask


def label_number(path: str | os.PathLike, label: int | str) -> int:
    """The number of a region of the label map at `path`.

    `label` is a number ("5" too), which is given back; a name, looked for in what `label_names` finds, whatever its case,
    with underscores, hyphens or spaces; or "totalsegmentator:liver", one of `TOTALSEGMENTATOR`, for a map of that tool that
    was stored again without its names. A ValueError where the map's names are not known, or this one is not among them.
    """
    if not isinstance(label, str):
        return label
    wanted = label.strip()
    if re.fullmatch(r"-?\d+", wanted):
        return int(wanted)
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
            f"{path} does not say which label is {label!r}: give its number{tool}, or lay a {_bare(Path(path))}.json "
            'beside it such as {"liver": 5}'
        )
    numbers = {_key(name): number for name, number in known.numbers.items()}
    if _key(wanted) not in numbers:
        near = nearest_name(_key(wanted), numbers)
        there = ", ".join(list(known.numbers)[:12]) + (", ..." if len(known.numbers) > 12 else "")
        raise ValueError(
            f"{path} has no label named {label!r}{near if 'nearest' in near else ''}; the names in {known.source} are "
            f"{there or 'none'}"
        )
    return numbers[_key(wanted)]


def label_names(path: str | os.PathLike) -> LabelNames | None:
    """What a label map's regions are called, from the first of these that is there; None where nothing is.

    The file's own table (NIfTI with the table of labels TotalSegmentator writes; 3D Slicer's .seg.nrrd); MASK.json or
    MASK.csv beside it; labels.json or labels.csv in its folder; nnU-Net's dataset.json in its folder or the one above.
    A json maps names to numbers, or numbers to names, itself or under "labels"; a csv has a column label (or number,
    value, id, index) and a column name (or structure, region, organ). A ValueError where a table cannot be read, or has
    a name twice with different numbers.
    """
    path = Path(path)
    if pairs := _own_table(path):
        return _checked(pairs, f"{path.name} itself")
    folder = path.parent
    beside = [folder / f"{name}.{kind}" for name in (_bare(path), "labels") for kind in ("json", "csv")]
    for table in (*beside, folder / "dataset.json", folder.parent / "dataset.json"):
        if table.is_file():
            return _checked(_json(table) if table.suffix == ".json" else _csv(table), str(table))
    return None


def _key(name: str) -> str:
    return "_".join(re.split(r"[\s_\-]+", plain(name)))


def _bare(path: Path) -> str:
    return re.sub(r"(\.nii\.gz|\.seg\.nrrd|\.[^.]*)$", "", path.name)


def _checked(pairs: list[tuple[str, object]], source: str) -> LabelNames:
    """Pairs without the background, whole numbers, a name for one number only."""
    numbers: dict[str, int] = {}
    seen: dict[str, int] = {}
    for name, number in pairs:
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
    if not path.is_file():
        raise FileNotFoundError(f"no image at {path}")
    if not is_nifti(path):
        image = opened(path)
        names = [key for key in image.GetMetaDataKeys() if re.fullmatch(r"Segment\d+_Name", key)]
        return [
            (image.GetMetaData(key), image.GetMetaData(key.replace("_Name", "_LabelValue"))) for key in names
        ]
    try:
        extensions = nibabel.load(path).header.extensions
    except DAMAGED as error:
        raise ValueError(f"{path} cannot be read as an image ({error})") from error
    for extension in extensions:
        content = extension.get_content()
        content = content if isinstance(content, bytes) else str(content).encode()
        if b"<LabelTable>" in content:
            root = ElementTree.fromstring(content.strip(b"\0 \n"))
            return [((each.text or "").strip(), each.get("Key")) for each in root.iter("Label")]
    return []


def _json(table: Path) -> list[tuple[str, object]]:
    try:
        content = json.loads(table.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{table} is no json that can be read: {error}") from error
    labels = content.get("labels", content) if isinstance(content, dict) else None
    if not isinstance(labels, dict) or (table.name == "dataset.json" and "labels" not in content):
        raise ValueError(f'{table} does not map names to numbers, such as {{"labels": {{"liver": 5}}}}')
    if labels and all(re.fullmatch(r"\d+", key.strip()) for key in labels):  # as nnU-Net 1 wrote them
        return [(str(name), number) for number, name in labels.items()]
    return list(labels.items())


def _csv(table: Path) -> list[tuple[str, object]]:
    texts = read_texts(table)
    columns = {plain(column): column for column in texts}
    number, name = (
        next((columns[each] for each in some if each in columns), None) for some in (NUMBERS, NAMES)
    )
    if number is None or name is None:
        raise ValueError(f"{table} needs the columns label (a number) and name, it has {', '.join(texts)}")
    return list(zip(texts[name], texts[number], strict=True))
