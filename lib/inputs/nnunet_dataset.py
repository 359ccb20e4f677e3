"""nnU-Net's raw dataset, read back: whether dataset.json and the files beside it are what `export_cases` leaves."""

from pathlib import Path

from lib.inputs.json_files import read_json

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
