"""nnU-Net v2 driven by its own commands: scans written as a raw dataset, planned, trained, predicted.

Layout and keys: nnU-Net's documentation/dataset_format.md; Isensee et al., doi:10.1038/s41592-020-01008-z. nnU-Net's
reader takes voxels in the order in which a file stores them, so a cohort stored in several orientations would reach the
network turned and mirrored: every case is written along the patient's axes (LPS).

Each command runs in a process of its own and writes a log. What came out whole is noted in a file crossbook*.json
beside it, with what it was made of, and is not run again. nnU-Net is an optional extra; what is whole is used without it.

On a CPU: no compilation and no background workers, whose deaths are nnU-Net's most frequent complaint (MIC-DKFZ/nnUNet
issues 2162, 2747, 2769). An epoch of the stock trainer takes a CPU half an hour, of which it has 1,000.
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
NUMBER, TITLE = "501", "Dataset501_Gastric"
PLANS, CONFIGURATION = "nnUNetPlans", "3d_fullres"
LAST_LINES = 12  # of a log, in the message of a command that failed


class Case(NamedTuple):
    """A scan to be exported: its name, image, mask (None: a case to predict), the region's label, the scan's `series`."""

    name: str
    image: str | os.PathLike
    mask: str | os.PathLike | None = None
    label: int | str | None = 1
    series: str = ""


def fill_masks(stage: Stage, scans: pd.DataFrame, outside: Iterable[str]) -> pd.DataFrame:
    """The table of scans with masks for those without, by a network trained here on the inside scans that have one."""
    params, home = stage.params, stage.folder / "nnunet"
    sound = scans[(scans["problem"] == "") & ((scans["mask"] == "") | ~scans["patient"].isin(outside))]
    cases = [
        Case(row.patient, row.image, row.mask or None, row.label, row.series) for row in sound.itertuples()
    ]
    export_cases(home, cases, params.oblique)
    plan(home)
    how = (params.segmentation.fold, params.segmentation.trainer, params.device)
    train(home, *how)
    masks = predict(home, stage.folder / "masks", *how)
    print(f"segmented by nnU-Net, trained here on {(sound['mask'] != '').sum()} scans: {len(masks)} scans")
    scans, lacks = scans.copy(), scans["mask"] == ""
    scans.loc[lacks, "mask"] = scans.loc[lacks, "patient"].map(lambda name: str(masks.get(name, "")))
    scans.loc[lacks, "label"] = 1
    return scans


def export_cases(home: Path, cases: Sequence[Case], oblique: str = "keep") -> None:
    """Write cases anew as a raw dataset below `home`: with a mask to imagesTr and labelsTr, without one to imagesTs.

    Writing the same cases again gives the same bytes. All scans and masks that cannot be used are named at once.
    """
    raw, problems = _folder(home, "raw"), []
    shutil.rmtree(raw, ignore_errors=True)
    for case in cases:
        try:
            _export(raw, case, oblique)
        except (ValueError, FileNotFoundError) as error:
            problems.append(f"{case.name}: {error}")
    if problems:
        raise ValueError(f"{len(problems)} of {len(cases)} scans cannot be segmented: {'; '.join(problems)}")
    content = {
        "channel_names": {"0": "CT"},  # nnU-Net clips and scales CT by the intensities under the masks
        "labels": {"background": 0, "tumour": 1},
        "numTraining": sum(case.mask is not None for case in cases),
        "file_ending": ENDING,
    }
    write_json(content, raw / "dataset.json")


def _export(raw: Path, case: Case, oblique: str) -> None:
    """Write image and mask of a case on one grid."""
    # the mask of a case is stored as NAME_seg, and files ending so are not taken for cases
    if not re.fullmatch(r"[A-Za-z0-9](?!.*(\.nii|_seg$))[A-Za-z0-9._-]*", case.name, re.IGNORECASE):
        raise ValueError(
            "nnU-Net would misread this name: letters, digits, '.', '_' and '-', not '_seg' last"
        )
    volume = read_ct(case.image, oblique, case.series)
    if case.mask is not None:
        mask = read_label(case.mask, volume.geometry, case.label)
        write_volume(raw / "labelsTr" / f"{case.name}{ENDING}", Volume(mask, volume.geometry), "uint8")
    limit, values = np.iinfo(np.int16), volume.values
    whole = limit.min <= values.min() and values.max() <= limit.max and (values == np.rint(values)).all()
    folder = raw / ("imagesTs" if case.mask is None else "imagesTr")
    write_volume(folder / f"{case.name}_0000{ENDING}", volume, "int16" if whole else "float32")


def plan(home: Path) -> None:
    """nnUNetv2_plan_and_preprocess: measure, choose network and patch size."""
    folder, source = _folder(home, "preprocessed"), _planned_from(home)
    if _made_of(folder) == source and (folder / f"{PLANS}_{CONFIGURATION}").is_dir():
        return
    for old in ("crossbook.json", "splits_final.json"):  # nnU-Net would go on using splits of other cases
        (folder / old).unlink(missing_ok=True)
    command = ["nnUNetv2_plan_and_preprocess", "-d", NUMBER, "-c", CONFIGURATION]
    command += ["--verify_dataset_integrity", "--clean", "-np", "1", "-npfp", "1"]
    _run(command, home, "plan", {"nnUNet_n_proc_DA": "1"})  # planning sets as many threads
    _note(folder, source)


def train(home: Path, fold: int | str = 0, trainer: str = "nnUNetTrainer", device: str = "auto") -> Path:
    """nnUNetv2_train, one fold; the fold's folder. A training that was killed goes on from its last checkpoint.

    `fold`: 0 to 4 of nnU-Net's cross-validation, or "all" cases; `trainer`: any class that nnU-Net knows; `device`:
    "auto", "cpu" or "gpu".
    """
    source = _digest({"planned": _planned_from(home), "fold": str(fold), "trainer": trainer})
    folder = _network(home, fold, trainer)
    if _made_of(folder) == source and (folder / "checkpoint_final.pth").is_file():
        return folder
    checkpoints = sorted(folder.glob("checkpoint_*.pth"))
    if checkpoints and _made_of(folder, "crossbook_begun.json") != source:
        raise ValueError(
            f"{folder} holds a network that was trained on other data or plans, or outside Crossbook: remove it to "
            "train again, or give another fold or trainer"
        )
    command = ["nnUNetv2_train", NUMBER, CONFIGURATION, str(fold), "-tr", trainer, "-p", PLANS]
    command += ["-device", _device(device), *(["--c"] if checkpoints else [])]
    _require()
    _note(folder, source, "crossbook_begun.json")
    _run(command, home, f"train_{trainer}_{fold}", _quiet(device))
    _note(folder, source)
    return folder


def predict(
    home: Path, output: Path, fold: int | str = 0, trainer: str = "nnUNetTrainer", device: str = "auto"
) -> dict[str, Path]:
    """Segment the dataset's imagesTs: nnUNetv2_predict. Parameters as of `train`; case to its mask in `output`.

    `output` appears when all masks are whole; a prediction that was killed goes on where it stopped.
    """
    images, network = _folder(home, "raw") / "imagesTs", _network(home, fold, trainer)
    source = _digest({"images": _contents(images), "network": sha256_of(network / "checkpoint_final.pth")})
    names = [path.name.removesuffix(f"_0000{ENDING}") for path in images.glob(f"*_0000{ENDING}")]
    if _made_of(output) != source:
        if output.exists() and not _made_of(output):
            raise ValueError(
                f"{output} holds masks of another origin, which would be replaced: move them away"
            )
        part = output.with_name(f".part-{output.name}")
        if _made_of(part) != source:
            shutil.rmtree(part, ignore_errors=True)
        _require()
        _note(part, source)
        _remove_damaged(part.glob(f"*{ENDING}"))
        command = ["nnUNetv2_predict", "-i", str(images), "-o", str(part), "-d", NUMBER, "-c", CONFIGURATION]
        command += ["-f", str(fold), "-tr", trainer, "-p", PLANS, "-device", _device(device)]
        command += ["-npp", "0", "-nps", "0"] if _device(device) == "cpu" else []
        command += ["--continue_prediction", "--disable_progress_bar"]
        _run(command, home, f"predict_{trainer}_{fold}", _quiet(device))
        shutil.rmtree(output, ignore_errors=True)
        os.replace(part, output)
    masks = {name: output / f"{name}{ENDING}" for name in sorted(names)}
    return {name: path for name, path in masks.items() if path.is_file()}


def _folder(home: Path, stage: str) -> Path:
    """The dataset's folder of "raw", "preprocessed" or "results"."""
    return home / f"nnUNet_{stage}" / TITLE


def _network(home: Path, fold: int | str, trainer: str) -> Path:
    return _folder(home, "results") / f"{trainer}__{PLANS}__{CONFIGURATION}" / f"fold_{fold}"


def _planned_from(home: Path) -> str:
    """What the plans are made of: the whole raw dataset, every image with its mask."""
    raw = _folder(home, "raw")
    about = json.loads((raw / "dataset.json").read_text(encoding="utf-8"))
    return _digest({"dataset": about, "data": [_contents(raw / "imagesTr"), _contents(raw / "labelsTr")]})


def _contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.glob(f"*{ENDING}"))}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _made_of(folder: Path, name: str = "crossbook.json") -> str:
    """What a folder was made of, "" where nothing says so."""
    path = folder / name
    return json.loads(path.read_text(encoding="utf-8"))["made_of"] if path.is_file() else ""


def _note(folder: Path, source: str, name: str = "crossbook.json") -> None:
    """Write down that a folder is whole, or begun: what of, by which version."""
    write_json({"made_of": source, "nnunetv2": importlib.metadata.version("nnunetv2")}, folder / name)


def _device(device: str) -> str:
    return "cuda" if device == "gpu" or (device == "auto" and torch.cuda.is_available()) else "cpu"


def _quiet(device: str) -> dict[str, str]:
    """A CPU run stays in one process; a GPU run is as nnU-Net, or its user's own variables, say."""
    few = {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1"}
    return few if _device(device) == "cpu" else {}


def _require() -> None:
    if importlib.util.find_spec("nnunetv2") is None:
        raise ModuleNotFoundError(
            "nnU-Net is not installed (Crossbook's extra 'segmentation'): in Crossbook's folder run "
            "\".venv/bin/python -m pip install -c requirements.lock 'nnunetv2>=2.7,<3'\", or give masks"
        )


def _run(command: list[str], home: Path, stage: str, variables: Mapping[str, str]) -> None:
    """Run a command of nnU-Net to its end, with the log logs/STAGE.log."""
    _require()
    ours = {
        f"nnUNet_{each}": str(home.resolve() / f"nnUNet_{each}")
        for each in ("raw", "preprocessed", "results")
    }
    log = home.resolve() / "logs" / f"{stage}.log"
    for folder in (log.parent, *ours.values()):
        Path(folder).mkdir(parents=True, exist_ok=True)
    path = [str(Path(lib.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lib.gcmlm.nnunet_command", *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | ours | {"PYTHONPATH": os.pathsep.join(path)} | variables,
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


def _remove_damaged(paths: Iterable[Path]) -> None:
    """Remove masks that a killed prediction was writing."""
    for path in paths:
        try:
            opened(path)
        except ValueError:
            path.unlink()
