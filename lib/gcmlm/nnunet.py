"""Notes beside what nnU-Net made: what of, in how many seconds, by which versions. A whole stage is not run again.

nnU-Net's commands as processes of their own: variables, device, log, what is said when one fails.

nnU-Net v2 driven by its own commands: plan and preprocess, train, predict.

Each runs in a process of its own and writes a log. What came out whole is noted in a file crossbook*.json beside it,
with what it was made of, and is not run again. nnU-Net is an optional extra; what is whole is used without it.

On a CPU: no compilation and no background workers, whose deaths are nnU-Net's most frequent complaint (MIC-DKFZ/nnUNet
issues 2162, 2747, 2769). An epoch of the stock trainer takes a CPU half an hour, of which it has 1,000: `SMOKE` shows
that everything is connected and nothing else.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

import lib
from lib.files import sha256_of, write_json
from lib.gcmlm.nnunet_files import ENDING, STAGES, Dataset, case_names, read_dataset
from lib.inputs.volumes import opened

PACKAGES = ("nnunetv2", "dynamic-network-architectures", "torch", "torchvision", "timm")


def made_of(stamp: Path) -> str:
    """What a stage was made of, "" where there is none."""
    try:
        return json.loads(stamp.read_text(encoding="utf-8"))["made_of"]
    except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def note(stamp: Path, source: str, seconds: float) -> None:
    """Write down that a stage is whole, or begun."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    write_json({"made_of": source, "seconds": round(seconds, 1), "versions": versions}, stamp)


def contents(folders: Iterable[Path]) -> dict[str, str]:
    """Every image by name with the last 8 bytes of its .gz: check sum and length of what it holds, without reading it."""
    found = {}
    for folder in folders:
        for path in sorted(folder.glob(f"[!.]*{ENDING}")):
            with open(path, "rb") as file:
                file.seek(-min(8, path.stat().st_size), os.SEEK_END)
                found[f"{folder.name}/{path.name}"] = file.read().hex()
    return found


def digest(content: object) -> str:
    """Anything JSON can write, in 64 letters."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


LAST_LINES = 12
TRAINERS = Path(__file__).with_name("nnunet_trainers")


def require() -> None:
    """Raise where nnU-Net is not installed.

    Raises
    ------
    ModuleNotFoundError
    """
    if importlib.util.find_spec("nnunetv2") is None:
        raise ModuleNotFoundError(
            "nnU-Net is not installed (Crossbook's extra 'segmentation'): in Crossbook's folder run "
            "\".venv/bin/python -m pip install -c requirements.lock 'nnunetv2>=2.7,<3'\", or give masks"
        )


def run(command: list[str], dataset: Dataset, stage: str, variables: Mapping[str, str]) -> float:
    """Run a command of nnU-Net to its end.

    Parameters
    ----------
    command : list of str
        Name and arguments, as in a shell.
    dataset : Dataset
    stage : str
        Names the log: logs/DatasetXXX_Name_STAGE.log.
    variables : mapping
        Of its environment, beside those of `environment`.

    Returns
    -------
    float
        Seconds it took.

    Raises
    ------
    ModuleNotFoundError
        nnU-Net is not installed.
    RuntimeError
        It failed: with the last lines of its log, and where the whole log is.
    """
    require()
    log = Path(dataset.folder) / "logs" / f"{dataset.title}_{stage}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    for name in STAGES:
        (Path(dataset.folder) / name).mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lib.gcmlm.nnunet_command", *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(dataset, variables),
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


def environment(dataset: Dataset, variables: Mapping[str, str]) -> dict[str, str]:
    """Variables of the process a command runs in: nnU-Net's three folders, our trainers, and where `lib` is."""
    home = [str(Path(lib.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    folders = {stage: str(Path(dataset.folder).resolve() / stage) for stage in STAGES}
    ours = {"nnUNet_extTrainer": str(TRAINERS), "PYTHONPATH": os.pathsep.join(home)}
    return {**os.environ, **folders, **ours, **variables}


def chosen_device(device: str) -> str:
    """ "cpu" or "cuda" for "auto", "cpu" or "cuda".

    Raises
    ------
    ValueError
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, it is {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda and torch sees no GPU here: set it to auto or cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def compiling(device: str) -> dict[str, str]:
    """Not on a CPU; on a GPU as nnU-Net or its user's own nnUNet_compile says."""
    return {"nnUNet_compile": "f"} if device == "cpu" else {}


STOCK, SMOKE = "nnUNetTrainer", "nnUNetTrainerSmoke"
PLANS = "nnUNetPlans"


def plan(dataset: Dataset, configuration: str = "3d_fullres", *, workers: int = 0) -> Path:
    """Measure a raw dataset, choose network and patch size, preprocess: nnUNetv2_plan_and_preprocess.

    Parameters
    ----------
    dataset : Dataset
        Whole, see `lib.gcmlm.nnunet_files.export_cases`.
    configuration : str
    workers : int
        Background processes; 0: as few as nnU-Net can do with.

    Returns
    -------
    Path
        The dataset's folder in nnUNet_preprocessed.

    Raises
    ------
    FileNotFoundError
        No whole raw dataset.
    ValueError
        A raw dataset that is damaged, see `lib.gcmlm.nnunet_files.read_dataset`.
    ModuleNotFoundError
        nnU-Net is not installed.
    RuntimeError
        The command failed.
    """
    folder, stamp = dataset.stage("preprocessed"), _plan_stamp(dataset, configuration)
    source = _planned_from(dataset, configuration)
    if made_of(stamp) == source and (folder / f"{PLANS}_{configuration}").is_dir():
        return folder
    stamp.unlink(missing_ok=True)
    # of other cases; nnU-Net would go on using it
    (folder / "splits_final.json").unlink(missing_ok=True)
    few = str(max(1, workers))
    options = ["--verify_dataset_integrity", "--clean", "-np", few, "-npfp", few]
    command = ["nnUNetv2_plan_and_preprocess", "-d", str(dataset.number), "-c", configuration, *options]
    # not 0 workers: planning sets as many threads
    seconds = run(command, dataset, f"plan_{configuration}", {"nnUNet_n_proc_DA": few})
    for wanted in (folder / f"{PLANS}.json", folder / f"{PLANS}_{configuration}"):
        if not wanted.exists():
            raise RuntimeError(
                f"nnU-Net planned {dataset.title} without leaving {wanted}: see {dataset.folder / 'logs'}"
            )
    note(stamp, source, seconds)
    return folder


def train(
    dataset: Dataset,
    configuration: str = "3d_fullres",
    fold: int | str = 0,
    trainer: str = STOCK,
    device: str = "auto",
    *,
    workers: int = 0,
) -> Path:
    """Train one fold and validate it: nnUNetv2_train. A training that was killed goes on from its last checkpoint.

    Parameters
    ----------
    dataset : Dataset
        Planned.
    configuration : str
    fold : int or "all"
        0 to 4 of nnU-Net's cross-validation, or all cases.
    trainer : str
        `STOCK`, `SMOKE`, or any other class that nnU-Net knows.
    device : "auto" | "cpu" | "cuda"
        "auto" is the GPU where there is one.
    workers : int
        Background processes for augmentation and validation.

    Returns
    -------
    Path
        The fold's folder in nnUNet_results, with checkpoint_final.pth.

    Raises
    ------
    ValueError
        Not planned; no such fold or device; a network of other data or plans lies there.
    ModuleNotFoundError
        nnU-Net is not installed.
    RuntimeError
        The command failed.
    """
    _check_fold(fold)
    source = _trained_from(dataset, configuration, fold, trainer)
    folder = model_folder(dataset, configuration, trainer) / f"fold_{fold}"
    stamp, begun = folder / "crossbook.json", folder / "crossbook_begun.json"
    final = folder / "checkpoint_final.pth"
    if made_of(stamp) == source and final.is_file():
        return folder
    checkpoints = sorted(folder.glob("checkpoint_*.pth"))
    if checkpoints and made_of(begun) != source:
        raise ValueError(
            f"{folder} holds a network that was trained on other data or plans, or outside Crossbook: remove it to "
            "train again, or give another fold or trainer"
        )
    where = chosen_device(device)
    command = ["nnUNetv2_train", str(dataset.number), configuration, str(fold), "-tr", trainer]
    command += ["-p", PLANS, "-device", where, *(["--c"] if checkpoints else [])]
    variables = {"nnUNet_n_proc_DA": str(workers), "nnUNet_def_n_proc": str(max(1, workers))}
    require()
    note(begun, source, 0)
    seconds = run(command, dataset, f"train_{configuration}_{trainer}_{fold}", variables | compiling(where))
    if not final.is_file():
        raise RuntimeError(
            f"nnU-Net trained {dataset.title} without leaving {final}: see {dataset.folder / 'logs'}"
        )
    note(stamp, source, seconds)
    return folder


def predict(
    dataset: Dataset,
    output: str | os.PathLike,
    images: str | os.PathLike | None = None,
    configuration: str = "3d_fullres",
    fold: int | str = 0,
    trainer: str = STOCK,
    device: str = "auto",
    *,
    workers: int = 0,
) -> dict[str, Path]:
    """Segment every case of a folder: nnUNetv2_predict.

    Masks appear in `output` when all are whole; a prediction that was killed goes on where it stopped. A network from
    elsewhere may lie in nnUNet_results: its checkpoint is a pickle, which runs what it likes when nnU-Net opens it.

    Parameters
    ----------
    dataset : Dataset
    output : path
        Folder for the masks, CASE.nii.gz.
    images : path, optional
        Folder of CASE_0000.nii.gz; None: the dataset's imagesTs.
    configuration, fold, trainer, device
        As for `train`.
    workers : int
        Background processes for reading and for writing.

    Returns
    -------
    dict
        Case to the path of its mask, sorted by case; read it with `lib.gcmlm.nnunet_files.predicted_mask`.

    Raises
    ------
    FileNotFoundError
        No images, or no trained network.
    ValueError
        No such fold or device; masks of another origin lie in `output`.
    ModuleNotFoundError
        nnU-Net is not installed.
    RuntimeError
        The command failed, or left cases out.
    """
    _check_fold(fold)
    images, output = Path(images or dataset.stage("raw") / "imagesTs"), Path(output)
    cases = case_names(images)
    if not cases:
        raise FileNotFoundError(f"no images CASE_0000{ENDING} in {images}")
    model = model_folder(dataset, configuration, trainer)
    network = model / f"fold_{fold}" / "checkpoint_final.pth"
    if not network.is_file():
        raise FileNotFoundError(f"no trained network at {network}: train fold {fold} with {trainer} first")
    masks = {case: output / f"{case}{ENDING}" for case in cases}
    source = digest({"images": contents([images]), "network": sha256_of(network)})
    stamp = output / "crossbook.json"
    if made_of(stamp) == source and all(path.is_file() for path in masks.values()):
        return masks
    if not stamp.exists() and (there := [path for path in masks.values() if path.exists()]):
        raise ValueError(f"{there[0]} is a mask of another origin and would be replaced: give another folder")
    part = output.with_name(f".part-{output.name}")
    if made_of(part / "crossbook.json") != source:
        shutil.rmtree(part, ignore_errors=True)
    where = chosen_device(device)
    require()
    note(part / "crossbook.json", source, 0)
    _remove_damaged(part.glob(f"*{ENDING}"))
    few = str(workers)
    command = ["nnUNetv2_predict", "-i", str(images), "-o", str(part), "-d", str(dataset.number)]
    command += ["-c", configuration, "-f", str(fold), "-tr", trainer, "-p", PLANS, "-device", where]
    command += ["-npp", few, "-nps", few, "--continue_prediction", "--disable_progress_bar"]
    seconds = run(command, dataset, f"predict_{configuration}_{trainer}_{fold}", compiling(where))
    if missing := [case for case in cases if not (part / f"{case}{ENDING}").is_file()]:
        raise RuntimeError(
            f"nnU-Net left out {len(missing)} of {len(cases)} cases ({', '.join(missing[:5])}): "
            f"see {dataset.folder / 'logs'}"
        )
    note(stamp, "", 0)  # ours, and not whole
    for path in masks.values():
        os.replace(part / path.name, path)
    note(stamp, source, seconds)
    shutil.rmtree(part)
    return masks


def model_folder(dataset: Dataset, configuration: str = "3d_fullres", trainer: str = STOCK) -> Path:
    """Where nnU-Net keeps the folds of a trained network."""
    return dataset.stage("results") / f"{trainer}__{PLANS}__{configuration}"


def _check_fold(fold: int | str) -> None:
    if str(fold) not in ("0", "1", "2", "3", "4", "all"):
        raise ValueError(f"fold is 0 to 4 of nnU-Net's cross-validation, or 'all', not {fold!r}")


def _plan_stamp(dataset: Dataset, configuration: str) -> Path:
    return dataset.stage("preprocessed") / f"crossbook_{configuration}.json"


def _planned_from(dataset: Dataset, configuration: str) -> str:
    raw = dataset.stage("raw")
    about = read_dataset(raw)
    data = contents([raw / "imagesTr", raw / "labelsTr"])
    return digest({"configuration": configuration, "dataset": about, "data": data})


def _trained_from(dataset: Dataset, configuration: str, fold: int | str, trainer: str) -> str:
    planned = _planned_from(dataset, configuration)
    if made_of(_plan_stamp(dataset, configuration)) != planned:
        raise ValueError(
            f"{dataset.title} is not planned for {configuration}, or its cases changed: plan it first"
        )
    return digest({"planned": planned, "fold": str(fold), "trainer": trainer})


def _remove_damaged(paths: Iterable[Path]) -> None:
    """Remove masks that a killed prediction was writing."""
    for path in paths:
        try:
            opened(path)
        except ValueError:
            path.unlink()
