"""Writes environment.yml (conda) from pyproject.toml: `python scripts/derive_environment.py`, or `make lock`."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

HEAD = """\
# Derived from pyproject.toml by `make lock`: do not edit by hand.
#
#   conda env create -f environment.yml
#   conda activate {name}
#   make book ENV="$CONDA_PREFIX"
#
# make calls scripts/setup.sh, which adds what this file cannot say: {built_last}, which pip
# must build against the numpy of this environment, and Crossbook itself.
"""


def requirements(project: dict) -> list[Requirement]:
    """Every requirement of pyproject.toml: dependencies, extras, and what the packages built last need.

    Parameters
    ----------
    project : dict
        Content of pyproject.toml.

    Returns
    -------
    list of Requirement
        Without the packages built last and the extras kept apart. A name may occur twice.
    """
    built_last = project["tool"]["crossbook"]["built-last"]
    texts = list(project["project"]["dependencies"])
    for name, extra in project["project"]["optional-dependencies"].items():
        if name not in project["tool"]["crossbook"]["apart"]["extras"]:
            texts += extra
    for needs in built_last.values():
        texts += needs
    later = {canonicalize_name(name) for name in built_last}
    return [each for each in map(Requirement, texts) if canonicalize_name(each.name) not in later]


def environment_text(project: dict) -> str:
    """The text of environment.yml.

    Ranges are pyproject's, not the lock's pins: the conda channels carry other versions than PyPI.

    Parameters
    ----------
    project : dict
        Content of pyproject.toml; table `tool.crossbook.conda` says what conda has under another name,
        what it has alone, and what comes from pip.

    Returns
    -------
    str
    """
    conda = project["tool"]["crossbook"]["conda"]
    renamed = {canonicalize_name(name): other for name, other in conda["renamed"].items()}
    dropped = {canonicalize_name(name) for name in conda["dropped"]}
    by_pip = {canonicalize_name(name) for name in conda["pip"]}

    ranges: dict[str, set[str]] = {}
    for each in requirements(project):
        name = canonicalize_name(each.name)
        if name not in dropped:
            ranges.setdefault(name, set()).update(str(each.specifier).split(",") if each.specifier else ())
    lines = {name: renamed.get(name, name) + ",".join(sorted(found)) for name, found in ranges.items()}

    text = HEAD.format(name=conda["name"], built_last=", ".join(project["tool"]["crossbook"]["built-last"]))
    text += f"name: {conda['name']}\nchannels:\n"
    text += "".join(f"  - {channel}\n" for channel in conda["channels"])
    text += f"dependencies:\n  - python={conda['python']}\n"
    text += "".join(f"  - {package}\n" for package in conda["only"])
    text += "".join(f"  - {lines[name]}\n" for name in sorted(lines) if name not in by_pip)
    text += "  - pip:\n"
    text += "".join(f"      - {lines[name]}\n" for name in sorted(lines) if name in by_pip)
    return text


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (ROOT / "environment.yml").write_text(environment_text(project), encoding="utf-8")
    print("lock: wrote environment.yml")
