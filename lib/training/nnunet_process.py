"""nnU-Net's commands as processes of their own: variables, device, log, what is said when one fails."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch

import lib
from lib.inputs.nnunet import STAGES, Dataset

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
            [sys.executable, "-m", "lib.training.nnunet_command", *command],
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
