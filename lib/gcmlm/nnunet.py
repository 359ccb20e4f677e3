"""nnU-Net v2 driven by its own commands: cases written as a raw dataset, planned, trained, predicted.

Layout and keys: nnU-Net's documentation/dataset_format.md; Isensee et al., doi:10.1038/s41592-020-01008-z. nnU-Net's
reader takes voxels in the order in which a file stores them, so a cohort stored in several orientations would reach the
network turned and mirrored: every case is written along the patient's axes (LPS).

Each command runs in a process of its own and writes a log. What came out whole is noted in a file crossbook*.json
beside it, with what it was made of, and is not run again. nnU-Net is an optional extra; what is whole is used without it.

On a CPU: no compilation and no background workers, whose deaths are nnU-Net's most frequent complaint (MIC-DKFZ/nnUNet
issues 2162, 2747, 2769). An epoch of the stock trainer takes a CPU half an hour, of which it has 1,000: `SMOKE` shows
that everything is connected and nothing else.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

import lib
from lib.files import sha256_of, write_json
from lib.gcmlm.ct import read_ct
from lib.inputs.masks import read_label
from lib.inputs.volumes import Volume, opened, write_volume
from lib.stage import Stage

ENDING = ".nii.gz"
FOLDS = 5  # of nnU-Net's own cross-validation: every fold needs a case to be held out
STAGES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
STOCK, SMOKE = "nnUNetTrainer", "nnUNetTrainerSmoke"
PLANS, CONFIGURATION = "nnUNetPlans", "3d_fullres"
PACKAGES = ("nnunetv2", "dynamic-network-architectures", "torch", "torchvision", "timm")
TRAINERS = Path(__file__).with_name("nnunet_trainers")
LAST_LINES = 12  # of a log, in the message of a command that failed


class Dataset(NamedTuple):
    """A dataset of nnU-Net, numbered 1 to 999, below a folder of ours that holds its three folders and logs/."""

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
    """A scan to be exported: its name, image, mask (None: a case to predict) and the region's label in the mask."""

    name: str
    image: str | os.PathLike
    mask: str | os.PathLike | None = None
    label: int | str | None = 1


def fill_masks(stage: Stage, scans: pd.DataFrame, outside: Iterable[str]) -> pd.DataFrame:
    """The table of scans with masks for those without, by a network trained here on the inside scans that have one."""
    asked = {"number": 501, "trainer": STOCK, "fold": 0, **stage.params.segmentation}
    dataset = Dataset(stage.folder / "nnunet", asked.pop("number"), "Gastric")
    sound = scans[(scans["problem"] == "") & ((scans["mask"] == "") | ~scans["patient"].isin(outside))]
    cases = [Case(row.patient, row.image, row.mask or None, row.label) for row in sound.itertuples()]
    export_cases(dataset, cases, stage.params.oblique)
    plan(dataset)
    train(dataset, device=stage.params.device, **asked)
    masks = predict(dataset, stage.folder / "masks", device=stage.params.device, **asked)
    print(f"segmented by nnU-Net, trained here on {(sound['mask'] != '').sum()} scans: {len(masks)} scans")
    scans, lacks = scans.copy(), scans["mask"] == ""
    scans.loc[lacks, "mask"] = scans.loc[lacks, "patient"].map(lambda name: str(masks.get(name, "")))
    scans.loc[lacks, "label"] = 1
    return scans


def export_cases(dataset: Dataset, cases: Sequence[Case], oblique: str = "keep") -> None:
    """Write cases as a raw dataset of nnU-Net v2: with a mask to imagesTr and labelsTr, without one to imagesTs.

    Writing the same cases again gives the same bytes. dataset.json is written last: while it is missing, the dataset is
    not whole.

    Raises
    ------
    ValueError
        Names that are unfit, double, or differ in capitals only; fewer than five masks; folders of another dataset of
        this number or with other cases; scans and masks that cannot be used, all of them named.
    """
    _check_names(dataset, cases)
    raw = dataset.stage("raw")
    _check_free(dataset, cases)
    (raw / "dataset.json").unlink(missing_ok=True)
    problems = []
    for case in cases:
        try:
            _export(raw, case, oblique)
        except (ValueError, FileNotFoundError) as error:
            problems.append(f"{case.name}: {error}")
    if problems:
        raise ValueError(
            f"{dataset.title} is not whole, {len(problems)} of {len(cases)} cases cannot be exported: "
            + "; ".join(problems)
        )
    content = {
        "channel_names": {"0": "CT"},  # nnU-Net clips and scales CT by the intensities under the masks
        "labels": {"background": 0, "tumour": 1},
        "numTraining": sum(case.mask is not None for case in cases),
        "file_ending": ENDING,
    }
    write_json(content, raw / "dataset.json")


def plan(dataset: Dataset) -> Path:
    """nnUNetv2_plan_and_preprocess: measure, choose network and patch size; the folder in nnUNet_preprocessed."""
    folder, stamp = dataset.stage("preprocessed"), dataset.stage("preprocessed") / "crossbook.json"
    source = _planned_from(dataset)
    if _made_of(stamp) == source and (folder / f"{PLANS}_{CONFIGURATION}").is_dir():
        return folder
    stamp.unlink(missing_ok=True)
    (folder / "splits_final.json").unlink(missing_ok=True)  # of other cases; nnU-Net would go on using it
    command = ["nnUNetv2_plan_and_preprocess", "-d", str(dataset.number), "-c", CONFIGURATION]
    command += ["--verify_dataset_integrity", "--clean", "-np", "1", "-npfp", "1"]
    seconds = _run(command, dataset, "plan", {"nnUNet_n_proc_DA": "1"})  # planning sets as many threads
    _note(stamp, source, seconds)
    return folder


def train(dataset: Dataset, fold: int | str = 0, trainer: str = STOCK, device: str = "auto") -> Path:
    """nnUNetv2_train, one fold; the fold's folder. A training that was killed goes on from its last checkpoint.

    `fold`: 0 to 4 of nnU-Net's cross-validation, or "all" cases; `trainer`: `STOCK`, `SMOKE`, or any other class that
    nnU-Net knows; `device`: "auto", "cpu" or "gpu".
    """
    planned = _planned_from(dataset)
    if _made_of(dataset.stage("preprocessed") / "crossbook.json") != planned:
        raise ValueError(f"{dataset.title} is not planned, or its cases changed: plan it first")
    source = _digest({"planned": planned, "fold": str(fold), "trainer": trainer})
    folder = _model(dataset, trainer) / f"fold_{fold}"
    stamp, begun = folder / "crossbook.json", folder / "crossbook_begun.json"
    if _made_of(stamp) == source and (folder / "checkpoint_final.pth").is_file():
        return folder
    checkpoints = sorted(folder.glob("checkpoint_*.pth"))
    if checkpoints and _made_of(begun) != source:
        raise ValueError(
            f"{folder} holds a network that was trained on other data or plans, or outside Crossbook: remove it to "
            "train again, or give another fold or trainer"
        )
    where = _device(device)
    command = ["nnUNetv2_train", str(dataset.number), CONFIGURATION, str(fold), "-tr", trainer]
    command += ["-p", PLANS, "-device", where, *(["--c"] if checkpoints else [])]
    _require()
    _note(begun, source, 0)
    seconds = _run(command, dataset, f"train_{trainer}_{fold}", _quiet(where))
    _note(stamp, source, seconds)
    return folder


def predict(
    dataset: Dataset,
    output: str | os.PathLike,
    fold: int | str = 0,
    trainer: str = STOCK,
    device: str = "auto",
) -> dict[str, Path]:
    """Segment the dataset's imagesTs: nnUNetv2_predict. Parameters as of `train`; case to its mask in `output`.

    Masks appear in `output` when all are whole; a prediction that was killed goes on where it stopped. A network from
    elsewhere may lie in nnUNet_results: its checkpoint is a pickle, which runs what it likes when nnU-Net opens it.
    """
    images, output = dataset.stage("raw") / "imagesTs", Path(output)
    if not (cases := cases_in(images)):
        raise FileNotFoundError(f"no images CASE_0000{ENDING} in {images}")
    network = _model(dataset, trainer) / f"fold_{fold}" / "checkpoint_final.pth"
    if not network.is_file():
        raise FileNotFoundError(f"no trained network at {network}: train fold {fold} with {trainer} first")
    masks = {case: output / f"{case}{ENDING}" for case in cases}
    source = _digest({"images": _contents([images]), "network": sha256_of(network)})
    stamp = output / "crossbook.json"
    if _made_of(stamp) == source and all(path.is_file() for path in masks.values()):
        return masks
    if not stamp.exists() and (there := [path for path in masks.values() if path.exists()]):
        raise ValueError(f"{there[0]} is a mask of another origin and would be replaced: give another folder")
    part = output.with_name(f".part-{output.name}")
    if _made_of(part / "crossbook.json") != source:
        shutil.rmtree(part, ignore_errors=True)
    where = _device(device)
    _require()
    _note(part / "crossbook.json", source, 0)
    _remove_damaged(part.glob(f"*{ENDING}"))
    command = ["nnUNetv2_predict", "-i", str(images), "-o", str(part), "-d", str(dataset.number)]
    command += ["-c", CONFIGURATION, "-f", str(fold), "-tr", trainer, "-p", PLANS, "-device", where]
    command += ["-npp", "0", "-nps", "0"] if where == "cpu" else []
    command += ["--continue_prediction", "--disable_progress_bar"]
    seconds = _run(command, dataset, f"predict_{trainer}_{fold}", _quiet(where))
    if missing := [case for case in cases if not (part / f"{case}{ENDING}").is_file()]:
        raise RuntimeError(
            f"nnU-Net left out {len(missing)} of {len(cases)} cases ({', '.join(missing[:5])}): "
            f"see {dataset.folder / 'logs'}"
        )
    _note(stamp, "", 0)  # ours, and not whole
    for path in masks.values():
        os.replace(part / path.name, path)
    _note(stamp, source, seconds)
    shutil.rmtree(part)
    return masks


def cases_in(folder: Path) -> list[str]:
    """Names of the cases whose images lie in a folder, CASE_0000.nii.gz, sorted; others, nnU-Net would misread."""
    last, names = f"_0000{ENDING}", []
    for path in sorted(folder.glob("[!.]*")):
        if not re.search(r"\.(nii|nii\.gz|nrrd|mha|mhd)$", path.name, re.IGNORECASE):
            continue
        if not path.name.endswith(last):
            raise ValueError(f"{path} is no CASE{last}, so nnU-Net would misread it: rename or remove it")
        names.append(path.name.removesuffix(last))
    return names


def _export(raw: Path, case: Case, oblique: str) -> None:
    """Write image and mask of a case on one grid."""
    volume = read_ct(case.image, oblique)
    if case.mask is not None:
        mask = read_label(case.mask, volume.geometry, case.label, resample=True)
        write_volume(raw / "labelsTr" / f"{case.name}{ENDING}", Volume(mask, volume.geometry), "uint8")
    limit, values = np.iinfo(np.int16), volume.values
    whole = limit.min <= values.min() and values.max() <= limit.max and (values == np.rint(values)).all()
    write_volume(_image_path(raw, case), volume, "int16" if whole else "float32")


def _image_path(raw: Path, case: Case) -> Path:
    return raw / ("imagesTs" if case.mask is None else "imagesTr") / f"{case.name}_0000{ENDING}"


def _check_names(dataset: Dataset, cases: Iterable[Case]) -> None:
    if not 1 <= dataset.number <= 999 or not re.fullmatch(r"[A-Za-z0-9_]+", dataset.name):
        raise ValueError(
            f"nnU-Net takes datasets numbered 1 to 999 with a name of letters, digits and _, "
            f"not {dataset.number} and {dataset.name!r}"
        )
    seen: dict[str, str] = {}
    for case in cases:
        # the mask of a case is stored as NAME_seg, and files ending so are not taken for cases
        if not re.fullmatch(r"[A-Za-z0-9](?!.*(\.nii|_seg$))[A-Za-z0-9._-]*", case.name, re.IGNORECASE):
            raise ValueError(
                f"nnU-Net would misread the case name {case.name!r}: letters, digits, '.', '_' and '-' are expected, "
                "a letter or digit first, no '.nii', and not '_seg' last; rename the case"
            )
        if (other := seen.get(case.name.lower())) is not None:
            raise ValueError(
                f"two cases are called {other!r} and {case.name!r}: names must differ, not in capitals only"
            )
        seen[case.name.lower()] = case.name
    if (masks := sum(case.mask is not None for case in cases)) < FOLDS:
        raise ValueError(
            f"{dataset.title} has {masks} cases with a mask, nnU-Net's {FOLDS} folds need {FOLDS}"
        )


def _check_free(dataset: Dataset, cases: Iterable[Case]) -> None:
    """Refuse what nnU-Net would mix with this dataset: another name of its number, cases of another export."""
    for stage in STAGES:
        for other in (Path(dataset.folder) / stage).glob(f"Dataset{dataset.number:03d}*"):
            if other.name != dataset.title:
                raise ValueError(f"{other} has the number of {dataset.title}: choose another, or remove it")
    raw = dataset.stage("raw")
    wanted = {_image_path(raw, case) for case in cases}
    wanted |= {raw / "labelsTr" / f"{case.name}{ENDING}" for case in cases if case.mask is not None}
    if stray := sorted(path.name for path in set(raw.glob(f"*T[rs]/[!.]*{ENDING}")) - wanted):
        raise ValueError(
            f"{raw} holds {', '.join(stray[:5])}{' ...' if stray[5:] else ''} of another export: remove that folder, "
            "or choose another number"
        )


def _planned_from(dataset: Dataset) -> str:
    """What the plans are made of: the whole raw dataset, every image with its mask."""
    raw = dataset.stage("raw")
    if not (raw / "dataset.json").is_file():
        raise FileNotFoundError(f"no whole raw dataset at {raw}: export the cases again")
    about = json.loads((raw / "dataset.json").read_text(encoding="utf-8"))
    masks = sorted(path.name.removesuffix(ENDING) for path in (raw / "labelsTr").glob(f"[!.]*{ENDING}"))
    if not cases_in(raw / "imagesTr") == masks or len(masks) != about["numTraining"]:
        raise ValueError(
            f"images, masks and dataset.json in {raw} are of different cases: export the cases again"
        )
    return _digest({"dataset": about, "data": _contents([raw / "imagesTr", raw / "labelsTr"])})


def _contents(folders: Iterable[Path]) -> dict[str, str]:
    """Every image by name with the last 8 bytes of its .gz: check sum and length of what it holds, without reading it."""
    ends = {}
    for folder in folders:
        for path in sorted(folder.glob(f"[!.]*{ENDING}")):
            with open(path, "rb") as file:
                file.seek(-8, os.SEEK_END)
                ends[f"{folder.name}/{path.name}"] = file.read().hex()
    return ends


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _made_of(stamp: Path) -> str:
    """What a stage was made of, "" where there is none."""
    return json.loads(stamp.read_text(encoding="utf-8"))["made_of"] if stamp.is_file() else ""


def _note(stamp: Path, source: str, seconds: float) -> None:
    """Write down that a stage is whole, or begun: what of, in how many seconds, by which versions."""
    there = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    versions = {name: there.get(name, "") for name in PACKAGES}
    write_json({"made_of": source, "seconds": round(seconds, 1), "versions": versions}, stamp)


def _model(dataset: Dataset, trainer: str) -> Path:
    """Where nnU-Net keeps the folds of a trained network."""
    return dataset.stage("results") / f"{trainer}__{PLANS}__{CONFIGURATION}"


def _device(device: str) -> str:
    if device == "gpu" and not torch.cuda.is_available():
        raise ValueError("device is gpu and torch sees none here: set it to auto or cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _quiet(device: str) -> dict[str, str]:
    """A CPU run stays in one process; a GPU run is as nnU-Net, or its user's own variables, say."""
    few = {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1"}
    return few if device == "cpu" else {}


def _require() -> None:
    if importlib.util.find_spec("nnunetv2") is None:
        raise ModuleNotFoundError(
            "nnU-Net is not installed (Crossbook's extra 'segmentation'): in Crossbook's folder run "
            "\".venv/bin/python -m pip install -c requirements.lock 'nnunetv2>=2.7,<3'\", or give masks"
        )


def _run(command: list[str], dataset: Dataset, stage: str, variables: Mapping[str, str]) -> float:
    """Run a command of nnU-Net to its end, with the log logs/DatasetXXX_Name_STAGE.log; the seconds it took."""
    _require()
    folder = Path(dataset.folder).resolve()
    for name in ("logs", *STAGES):
        (folder / name).mkdir(parents=True, exist_ok=True)
    log, begun = folder / "logs" / f"{dataset.title}_{stage}.log", time.monotonic()
    home = [str(Path(lib.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    ours = {"nnUNet_extTrainer": str(TRAINERS), "PYTHONPATH": os.pathsep.join(home)}
    ours |= {name: str(folder / name) for name in STAGES}
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lib.gcmlm.nnunet_command", *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | ours | variables,
            start_new_session=True,
        )
        try:
            code = process.wait()
        except BaseException:  # a stopped notebook must not leave workers behind
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    if code:
        lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip(" ^~")]
        raise RuntimeError(
            f"{command[0]} failed with exit code {code}; the whole log is {log}; it ends:\n"
            + "\n".join(lines[-LAST_LINES:])
        )
    return time.monotonic() - begun


def _remove_damaged(paths: Iterable[Path]) -> None:
    """Remove masks that a killed prediction was writing."""
    for path in paths:
        try:
            opened(path)
        except ValueError:
            path.unlink()
