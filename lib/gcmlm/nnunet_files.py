"""nnU-Net's raw dataset, read back: whether dataset.json and the files beside it are what `export_cases` leaves.

nnU-Net v2's folders: cases written as a raw dataset, and its predictions read back as masks.

Layout and keys: nnU-Net's documentation/dataset_format.md; Isensee et al., doi:10.1038/s41592-020-01008-z. nnU-Net's
reader takes voxels in the order in which a file stores them, so a cohort stored in several orientations would reach
the network turned and mirrored: every case is written along the patient's axes (LPS).
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.files import LONGEST, read_json, write_json
from lib.gcmlm.ct import read_ct
from lib.inputs.masks import read_label
from lib.inputs.volumes import Geometry, Volume, opened, read_mask, read_volume, values_of, write_volume

ENDING = ".nii.gz"
VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
KEYS = ("channel_names", "labels", "numTraining", "file_ending")
AGAIN = "export the cases again"


def read_dataset(raw: Path) -> dict:
    """Read dataset.json of a raw dataset and compare it with the files.

    Parameters
    ----------
    raw : path
        nnUNet_raw/DatasetXXX_Name.

    Returns
    -------
    dict
        The content of dataset.json.

    Raises
    ------
    FileNotFoundError
        No dataset.json, so that the dataset is not whole.
    ValueError
        dataset.json is damaged or tells other than one channel and one region; a case without image or mask, or with
        more than one image; a name that differs in capitals; a file that lies elsewhere.
    """
    path = Path(raw) / "dataset.json"
    if not path.is_file():
        raise FileNotFoundError(f"no whole raw dataset at {raw}: dataset.json is missing; {AGAIN}")
    about = read_json(path)
    if fault := _fault_of(about):
        raise ValueError(f"{path} {fault}: {AGAIN}")
    images, masks = cases_in(raw / "imagesTr"), _masks_in(raw / "labelsTr")
    for each in sorted(raw.glob("*Tr/*")):
        if not each.resolve().is_relative_to(raw.resolve()):
            raise ValueError(f"{each} is a link out of its dataset: {AGAIN}, which writes the file itself")
    for here, there, what in ((images, masks, "mask"), (masks, images, "image")):
        if lone := sorted(set(here) - set(there)):
            alike = [name for name in there if name.lower() == lone[0].lower()]
            but = f", but one called {alike[0]}" if alike else ""
            raise ValueError(f"{raw}: {len(lone)} cases have no {what}, the first is {lone[0]}{but}: {AGAIN}")
    if len(images) != about["numTraining"]:
        raise ValueError(
            f"{path} tells of {about['numTraining']} cases and imagesTr has {len(images)}: {AGAIN}"
        )
    return about


def cases_in(folder: Path) -> list[str]:
    """Names of the cases whose images lie in a folder, CASE_0000.nii.gz, sorted.

    Raises
    ------
    ValueError
        A volume that nnU-Net would pass over, a second image of a case, or a link to nothing.
    """
    last = f"_0000{ENDING}"
    names = []
    for path in _volumes_in(folder):
        if not path.name.endswith(last) or path.name == last:
            raise ValueError(
                f"{path} is no CASE{last}, so nnU-Net would pass over it or take it for another channel: rename or "
                "remove it"
            )
        names.append(path.name.removesuffix(last))
    return names


def _masks_in(folder: Path) -> list[str]:
    for path in (paths := _volumes_in(folder)):
        if not path.name.endswith(ENDING):
            raise ValueError(f"{path} is no CASE{ENDING}, so nnU-Net would pass over it: rename or remove it")
    return [path.name.removesuffix(ENDING) for path in paths]


def _volumes_in(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.glob("[!.]*") if path.name.lower().endswith(VOLUMES))
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path} is no file, or a link to none: remove it")
    return paths


def _fault_of(about: dict) -> str:
    """What is wrong with dataset.json, in words; empty if nothing."""
    if absent := [key for key in KEYS if key not in about]:
        return f"has no {', '.join(absent)}"
    channels, labels, number = about["channel_names"], about["labels"], about["numTraining"]
    if not isinstance(channels, dict) or [*channels] != ["0"] or not isinstance(channels["0"], str):
        return f"has the channel_names {str(channels)[:80]}, one channel {{'0': name}} is expected"
    whole = isinstance(labels, dict) and len(labels) == 2 and labels.get("background") == 0
    if not whole or sorted(map(repr, labels.values())) != ["0", "1"]:
        return f"has the labels {str(labels)[:80]}, background 0 and one region 1 are expected"
    if type(number) is not int or number < 1:
        return f"has numTraining {str(number)[:40]!r}, a whole number above 0 is expected"
    if about["file_ending"] != ENDING:
        return f"has the file_ending {str(about['file_ending'])[:40]!r}, {ENDING} is expected"
    return ""


FOLDS = 5
"""nnU-Net's own cross-validation: every fold needs a case to be held out."""

STAGES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


class Dataset(NamedTuple):
    """A dataset of nnU-Net below a folder of ours.

    Attributes
    ----------
    folder : Path
        Holds nnUNet_raw/, nnUNet_preprocessed/, nnUNet_results/ and logs/.
    number : int
        1 to 999.
    name : str
    """

    folder: Path
    number: int
    name: str

    @property
    def title(self) -> str:
        """As nnU-Net spells it: Dataset501_Stomach."""
        return f"Dataset{self.number:03d}_{self.name}"

    def stage(self, stage: str) -> Path:
        """The dataset's folder in "raw", "preprocessed" or "results"."""
        return Path(self.folder) / f"nnUNet_{stage}" / self.title


class Case(NamedTuple):
    """A scan to be exported.

    Attributes
    ----------
    name : str
        Unique; becomes the name of the files.
    image : path
    mask : path, optional
        None: there is no mask, the case is one to predict.
    label : int or str, optional
        Region of the mask's label map, see `lib.inputs.masks.read_label`; None: everything above 0.
    """

    name: str
    image: str | os.PathLike
    mask: str | os.PathLike | None = None
    label: int | str | None = 1


def export_cases(
    dataset: Dataset,
    cases: Sequence[Case],
    *,
    region: str = "tumour",
    channel: str = "CT",
    least: int = FOLDS,
    read: Callable[[str | os.PathLike], Volume] | None = None,
) -> pd.DataFrame:
    """Write cases as a raw dataset of nnU-Net v2: with a mask to imagesTr and labelsTr, without one to imagesTs.

    Writing the same cases again gives the same bytes. dataset.json is written last: while it is missing, the dataset
    is not whole.

    Parameters
    ----------
    dataset : Dataset
    cases : sequence of Case
    region : str
        What label 1 is called in dataset.json.
    channel : str
        What the image is; nnU-Net clips and scales "CT" by the intensities under the masks, anything else by z-score.
    least : int
        Fewest cases with a mask: 5 for a fold of nnU-Net's cross-validation, 1 for fold "all".
    read : callable, optional
        Reads an image; None: `lib.gcmlm.ct.read_ct` for "CT" (files and folders of DICOM), else
        `lib.inputs.volumes.read_volume`, both keeping the tilt of tilted scans.

    Returns
    -------
    DataFrame
        One row a case: case, set ("train" | "test"), image, mask, label, size ("x x y x z" voxels), mask_voxels,
        mask_ml (of the exported mask; 0 and 0.0 where there is none).

    Raises
    ------
    ValueError
        Names that are unfit, double, or differ in capitals only; too few masks; folders of another dataset of this
        number or with other cases; scans and masks that cannot be used, all of them named.
    """
    _check_names(dataset, cases, least)
    if region == "background":
        raise ValueError(
            "region cannot be called background, which is nnU-Net's label 0: name what the masks show"
        )
    raw = dataset.stage("raw")
    _check_free(
        dataset,
        {_image_path(raw, case) for case in cases}
        | {raw / "labelsTr" / f"{case.name}{ENDING}" for case in cases if case.mask is not None},
    )
    (raw / "dataset.json").unlink(missing_ok=True)
    read = read or partial(read_ct if channel == "CT" else read_volume, oblique="keep")
    rows, problems = [], []
    for case in cases:
        try:
            rows.append(_export(raw, case, read))
        except (ValueError, FileNotFoundError) as error:
            problems.append(f"{case.name}: {error}")
    if problems:
        raise ValueError(
            f"{dataset.title} is not whole, {len(problems)} of {len(cases)} cases cannot be exported: "
            + "; ".join(problems)
        )
    content = {
        "channel_names": {"0": channel},
        "labels": {"background": 0, region: 1},
        "numTraining": sum(case.mask is not None for case in cases),
        "file_ending": ENDING,
    }
    write_json(content, raw / "dataset.json")
    return pd.DataFrame(rows)


def predicted_mask(path: str | os.PathLike, like: Geometry) -> np.ndarray:
    """Read a mask that nnU-Net predicted for an exported case.

    Parameters
    ----------
    path : path
    like : Geometry
        Of the case's volume as `export_cases` read it.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
        Empty where nnU-Net found nothing.

    Raises
    ------
    FileNotFoundError
    ValueError
        Damaged, no mask, other labels than 0 and 1, or another grid than the volume's.
    """
    found = np.unique(values_of(opened(path), path))
    if not np.isin(found, (0, 1)).all():
        raise ValueError(
            f"{path} holds the labels {found[:5].tolist()}, 0 and 1 are expected: another network predicted it"
        )
    return read_mask(path, like)


def case_names(folder: str | os.PathLike) -> list[str]:
    """Names of the cases whose images lie in a folder, sorted; errors as of `lib.gcmlm.nnunet_files.cases_in`."""
    return cases_in(Path(folder))


def _image_path(raw: Path, case: Case) -> Path:
    return raw / ("imagesTs" if case.mask is None else "imagesTr") / f"{case.name}_0000{ENDING}"


def _export(raw: Path, case: Case, read: Callable[[str | os.PathLike], Volume]) -> dict[str, object]:
    """Write image and mask of a case on one grid."""
    volume = read(case.image)
    grid, mask = volume.geometry, None
    if case.mask is not None:
        mask = read_label(case.mask, grid, case.label, resample=True)
        write_volume(raw / "labelsTr" / f"{case.name}{ENDING}", Volume(mask, grid), "uint8")
    write_volume(_image_path(raw, case), volume, _smallest_type(volume.values))
    voxels = 0 if mask is None else int(mask.sum())
    return {
        "case": case.name,
        "set": "test" if mask is None else "train",
        "image": str(case.image),
        "mask": "" if mask is None else str(case.mask),
        "label": "" if mask is None or case.label is None else str(case.label),
        "size": " x ".join(map(str, grid.size)),
        "mask_voxels": voxels,
        "mask_ml": voxels * grid.voxel_ml,
    }


def _smallest_type(values: np.ndarray) -> str:
    """int16 where nothing is lost by it."""
    limit = np.iinfo(np.int16)
    fits = limit.min <= values.min() and values.max() <= limit.max and (values == np.rint(values)).all()
    return "int16" if fits else "float32"


def _check_names(dataset: Dataset, cases: Iterable[Case], least: int) -> None:
    if not 1 <= dataset.number <= 999 or not re.fullmatch(r"[A-Za-z0-9_]+", dataset.name):
        raise ValueError(
            f"nnU-Net takes datasets numbered 1 to 999 with a name of letters, digits and _, "
            f"not {dataset.number} and {dataset.name!r}"
        )
    cases, seen = list(cases), {}
    for case in cases:
        if not isinstance(case.name, str):
            raise ValueError(f"the name of a case is {case.name!r}, a text is expected: rename the case")
        # the mask of a case is stored as NAME_seg, and files ending so are not taken for cases
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", case.name) or case.name.lower().endswith("_seg"):
            raise ValueError(
                f"nnU-Net would misread the case name {case.name!r}: letters, digits, '.', '_' and '-' are expected, "
                "a letter or digit first and not '_seg' last; rename the case"
            )
        if len(case.name) > LONGEST:
            raise ValueError(
                f"the case name {case.name[:60]!r}... has more than {LONGEST} letters: rename it"
            )
        if ".nii" in case.name.lower():
            raise ValueError(f"the case name {case.name!r} is a file's name: give it without its ending")
        if (key := case.name.lower()) in seen:
            raise ValueError(
                f"two cases are called {seen[key]!r} and {case.name!r}: names must differ, and not in capitals only"
            )
        seen[key] = case.name
    masks = sum(case.mask is not None for case in cases)
    if masks < least:
        raise ValueError(
            f"{dataset.title} has {masks} cases with a mask, at least {least} are needed"
            + (f" for nnU-Net's {FOLDS} folds" if least == FOLDS else "")
        )


def _check_free(dataset: Dataset, wanted: set[Path]) -> None:
    """Refuse what nnU-Net would mix with this dataset: another name of its number, cases of another export."""
    for stage in STAGES:
        for other in (Path(dataset.folder) / stage).glob(f"Dataset{dataset.number:03d}*"):
            if other.name != dataset.title:
                raise ValueError(
                    f"{other} has the number of {dataset.title}: choose another number, or remove it"
                )
    raw = dataset.stage("raw")
    there = {
        path for part in ("imagesTr", "imagesTs", "labelsTr") for path in raw.glob(f"{part}/[!.]*{ENDING}")
    }
    if stray := sorted(path.name for path in there - wanted):
        raise ValueError(
            f"{raw} holds {', '.join(stray[:5])}{' ...' if stray[5:] else ''} of another export: remove that folder, "
            "or choose another number"
        )
