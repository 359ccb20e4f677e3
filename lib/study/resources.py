"""What a stage asks of the machine it runs on: params/resources.yaml.

It stands beside the parameters, not among them: no result depends on it, so changing it makes nothing run again.
"""

import difflib
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import yaml
from pydantic import Field

from lib.params import ROOT, Checked, check

FILE = "params/resources.yaml"


class Resources(Checked):
    """What one stage asks for.

    Attributes
    ----------
    mem_mb : int
        Memory. A job that is tried again asks for twice, then three times as much.
    minutes : int
        Longest time a job may take.
    gpus : int
    threads : int
        Processors, and threads of the numerical libraries; their sums may round differently with another number.
    """

    mem_mb: int = Field(ge=100)
    minutes: int = Field(ge=1)
    gpus: int = Field(0, ge=0)
    threads: int = Field(1, ge=1)


def resources_of(
    study: str, cohort: str, stage: str, stages: tuple[str, ...], root: str | Path = ROOT
) -> Resources:
    """What a stage of a cohort asks for; of several entries that fit, the last one's word counts, key by key.

    Parameters
    ----------
    study, cohort, stage : str
        The stage as its notebook is named, "3-train".
    stages : tuple of str
        All stages there are.
    root : path
        Folder that holds params/resources.yaml.

    Raises
    ------
    FileNotFoundError, ValueError
        Names the entry, the key and the nearest valid one.
    """
    asked: dict[str, int] = {}
    for pattern, by_stage in _read(Path(root), stages).items():
        if fnmatchcase(f"{study}/{cohort}", pattern):
            asked |= by_stage.get(stage, {})
    if not asked:
        raise ValueError(
            f"{FILE}: nothing is said of {stage} of {study}/{cohort}: give it an entry under '*'"
        )
    return check(asked, Resources, f"{FILE}, {stage} of {study}/{cohort}")


@cache
def _read(root: Path, stages: tuple[str, ...]) -> dict[str, dict[str, dict]]:
    path = root / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{FILE} is missing: it says what each stage asks of a machine; restore it from git"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{FILE}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{FILE}: expected `study/cohort:` entries, found a {type(content).__name__}")
    cohorts = sorted(f"{file.parent.name}/{file.stem}" for file in root.glob("params/*/*.yaml"))
    for pattern, by_stage in content.items():
        if not any(fnmatchcase(cohort, str(pattern)) for cohort in cohorts):
            raise ValueError(f"{FILE}: {pattern!r} fits no cohort: {_nearest(str(pattern), cohorts)}")
        if not isinstance(by_stage, dict):
            raise ValueError(f"{FILE}, {pattern!r}: expected `stage: {{mem_mb: ...}}`, found {by_stage!r}")
        for stage, asked in by_stage.items():
            where = f"{FILE}, {stage} of {pattern!r}"
            if stage not in stages:
                raise ValueError(
                    f"{FILE}, {pattern!r}: unknown stage {stage!r}: {_nearest(str(stage), stages)}"
                )
            if not isinstance(asked, dict):
                raise ValueError(f"{where}: expected `{{mem_mb: ..., minutes: ...}}`, found {asked!r}")
            # what an entry leaves to those before it is checked with them
            check({"mem_mb": 100, "minutes": 1} | asked, Resources, where)
    return content


def _nearest(name: str, known) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
