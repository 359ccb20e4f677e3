"""nnU-Net v2 driven by its own commands: scans written as a raw dataset, planned, trained, predicted.

Layout and keys: nnU-Net's documentation/dataset_format.md; Isensee et al., doi:10.1038/s41592-020-01008-z. nnU-Net's
reader takes voxels in the order in which a file stores them, so a cohort stored in several orientations would reach the
network turned and mirrored: every case is written along the patient's axes (LPS).

Each command runs in a process of its own and writes a log. A dataset has a folder named by its content, so that other cases
meet no network of these; what is whole there is not made again. nnU-Net is an optional extra.

On a CPU: no compilation and no background workers, whose deaths are nnU-Net's most frequent complaint (MIC-DKFZ/nnUNet
issues 2162, 2747, 2769). An epoch of the stock trainer takes a CPU half an hour, of which it has 1,000.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.files import sha256_of, write_json
from lib.gcmlm.ct import read_ct
from lib.inputs.masks import read_label
from lib.inputs.volumes import Volume, opened, write_volume
from lib.params import ROOT
from lib.stage import Stage

ENDING = ".nii.gz"
NUMBER, TITLE = "501", "Dataset501_Gastric"
PLANS, CONFIGURATION = "nnUNetPlans", "3d_fullres"
LAST_LINES = 12  # of a log, in the message of a command that failed


def fill_masks(stage: Stage, scans: pd.DataFrame, outside: Iterable[str]) -> pd.DataFrame:
    """The table of scans with masks for those without, by a network trained here on the inside scans that have one."""
    params = stage.params
    sound = scans[(scans["problem"] == "") & ((scans["mask"] == "") | ~scans["patient"].isin(outside))]
    home = export_cases(stage.folder / "nnunet", list(sound.itertuples()), params.oblique)
    how = (params.segmentation.fold, params.segmentation.trainer, params.device)
    train(home, *how)
    masks = predict(home, *how)
    print(f"segmented by nnU-Net, trained here on {(sound['mask'] != '').sum()} scans: {len(masks)} scans")
    scans, lacks = scans.copy(), scans["mask"] == ""
    scans.loc[lacks, "mask"] = scans.loc[lacks, "patient"].map(lambda name: str(masks.get(name, "")))
    scans.loc[lacks, "label"] = 1
    return scans


def export_cases(folder: Path, cases: Sequence, oblique: str = "keep") -> Path:
    """Write cases as a raw dataset, with a mask to imagesTr and labelsTr, without one to imagesTs; its home below `folder`.

    `cases` are rows of the table of scans: patient, image, mask ("" for one to predict), label, series. The same cases have
    the same home. All scans and masks that cannot be used are named at once.
    """
    folder = folder.resolve()
    part, problems = folder / ".part", []
    raw = part / "nnUNet_raw" / TITLE
    shutil.rmtree(part, ignore_errors=True)
    for case in cases:
        try:
            _export(raw, case, oblique)
        except (ValueError, FileNotFoundError) as error:
            problems.append(f"{case.patient}: {error}")
    if problems:
        raise ValueError(f"{len(problems)} of {len(cases)} scans cannot be segmented: {'; '.join(problems)}")
    content = {
        "channel_names": {"0": "CT"},  # nnU-Net clips and scales CT by the intensities under the masks
        "labels": {"background": 0, "tumour": 1},
        "numTraining": sum(bool(case.mask) for case in cases),
        "file_ending": ENDING,
    }
    write_json(content, raw / "dataset.json")
    files = sorted(path for path in raw.rglob("*") if path.is_file())
    written = "".join(f"{path.relative_to(raw)} {sha256_of(path)}\n" for path in files)
    home = folder / hashlib.sha256(written.encode()).hexdigest()[:12]
    if home.exists():
        shutil.rmtree(part)
    else:
        os.replace(part, home)
    return home


def _export(raw: Path, case, oblique: str) -> None:
    """Write image and mask of a case on one grid."""
    # the mask of a case is stored as NAME_seg, and files ending so are not taken for cases
    if not re.fullmatch(r"[A-Za-z0-9](?!.*(\.nii|_seg$))[A-Za-z0-9._-]*", case.patient, re.IGNORECASE):
        raise ValueError(
            "nnU-Net would misread this name: letters, digits, '.', '_' and '-', not '_seg' last"
        )
    volume = read_ct(case.image, oblique, case.series)
    if case.mask:
        mask = read_label(case.mask, volume.geometry, case.label)
        write_volume(raw / "labelsTr" / f"{case.patient}{ENDING}", Volume(mask, volume.geometry), "uint8")
    limit, values = np.iinfo(np.int16), volume.values
    whole = limit.min <= values.min() and values.max() <= limit.max and (values == np.rint(values)).all()
    folder = raw / ("imagesTr" if case.mask else "imagesTs")
    write_volume(folder / f"{case.patient}_0000{ENDING}", volume, "int16" if whole else "float32")


def train(home: Path, fold: int | str = 0, trainer: str = "nnUNetTrainer", device: str = "auto") -> None:
    """Plan and train one fold; a training that was killed goes on from its last checkpoint.

    `fold`: 0 to 4 of nnU-Net's cross-validation, or "all" cases; `trainer`: any class that nnU-Net knows; `device`:
    "auto", "cpu" or "gpu".
    """
    network = f"{trainer}__{PLANS}__{CONFIGURATION}"
    begun = {path.stem for path in (home / "nnUNet_results" / TITLE / network / f"fold_{fold}").glob("*.pth")}
    if "checkpoint_final" in begun:
        return
    if not begun:
        command = ["nnUNetv2_plan_and_preprocess", "-d", NUMBER, "-c", CONFIGURATION]
        command += ["--verify_dataset_integrity", "--clean", "-np", "1", "-npfp", "1"]
        _run(command, home, "plan", {"nnUNet_n_proc_DA": "1"})  # planning sets as many threads
    command = ["nnUNetv2_train", NUMBER, CONFIGURATION, str(fold), "-tr", trainer, "-p", PLANS]
    command += ["-device", _device(device), *(["--c"] if begun else [])]
    _run(command, home, f"train_{trainer}_{fold}", _quiet(device))


def predict(
    home: Path, fold: int | str = 0, trainer: str = "nnUNetTrainer", device: str = "auto"
) -> dict[str, Path]:
    """Segment the dataset's imagesTs; parameters as of `train`. Case to its mask, whose folder appears when all are whole.

    A prediction that was killed goes on where it stopped.
    """
    images, output = home / "nnUNet_raw" / TITLE / "imagesTs", home / f"masks_{trainer}_{fold}"
    if not output.exists():
        part = home / f".part-{output.name}"
        part.mkdir(exist_ok=True)
        _remove_damaged(part.glob(f"*{ENDING}"))
        command = ["nnUNetv2_predict", "-i", str(images), "-o", str(part), "-d", NUMBER, "-c", CONFIGURATION]
        command += ["-f", str(fold), "-tr", trainer, "-p", PLANS, "-device", _device(device)]
        command += ["-npp", "0", "-nps", "0"] if _device(device) == "cpu" else []
        command += ["--continue_prediction", "--disable_progress_bar"]
        _run(command, home, f"predict_{trainer}_{fold}", _quiet(device))
        os.replace(part, output)
    return {path.name.removesuffix(ENDING): path for path in sorted(output.glob(f"*{ENDING}"))}


def _device(device: str) -> str:
    return "cuda" if device == "gpu" or (device == "auto" and torch.cuda.is_available()) else "cpu"


def _quiet(device: str) -> dict[str, str]:
    """A CPU run stays in one process; a GPU run is as nnU-Net, or its user's own variables, say."""
    few = {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1"}
    return few if _device(device) == "cpu" else {}


def _run(command: list[str], home: Path, stage: str, variables: Mapping[str, str]) -> None:
    """Run a command of nnU-Net to its end, with the log logs/STAGE.log."""
    if importlib.util.find_spec("nnunetv2") is None:
        raise ModuleNotFoundError(
            "nnU-Net is not installed (Crossbook's extra 'segmentation'): in Crossbook's folder run "
            "\".venv/bin/python -m pip install -c requirements.lock 'nnunetv2>=2.7,<3'\", or give masks"
        )
    ours = {f"nnUNet_{part}": str(home / f"nnUNet_{part}") for part in ("raw", "preprocessed", "results")}
    log = home / "logs" / f"{stage}.log"
    for folder in (log.parent, *ours.values()):
        Path(folder).mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lib.gcmlm.nnunet", *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | ours | variables,
            cwd=ROOT,  # where `lib` is found
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


# `python -m lib.gcmlm.nnunet NAME ...` runs a command of nnU-Net. Its console script would stop at "operator torchvision::nms
# does not exist" where torchvision cannot load; importing `lib` prevents that (`lib.torchvision_ops`), in nnU-Net's worker
# processes too, which import this module again.
if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    (script,) = entry_points(group="console_scripts", name=sys.argv[0])
    sys.exit(script.load()())
