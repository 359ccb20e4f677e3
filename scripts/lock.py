"""Writes requirements.lock from pyproject.toml, with pip as resolver: `python scripts/lock.py`, or `make lock`.

Pins of the present lock are kept wherever they still satisfy pyproject.toml, so a new dependency adds lines and
changes none; `--upgrade` forgets them all, `--upgrade NAME ...` these.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from derive_environment import ROOT, requirements
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

HEAD = """\
# Exact pins for pip, derived from pyproject.toml by `make lock`: do not edit by hand.
# torch carries no local version and the CUDA packages are not listed: pip takes the build that fits the machine.
"""
# what a CUDA build of torch brings along, itself and in exact versions
CUDA = ("nvidia-", "cuda-", "triton")


def pins(text: str) -> dict[str, Version]:
    """Name (normalised) and version of every pin in a lock's text."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    parted = [line.split("==") for line in lines if line]
    return {canonicalize_name(name): Version(version) for name, version in parted}


def lock_text(found: dict[str, str], built_last: dict[str, str]) -> str:
    """The text of requirements.lock.

    Parameters
    ----------
    found : dict
        Package to version as the resolver reports it; local versions (`+cpu`) are cut off and CUDA packages left out.
    built_last : dict
        Package to version of those pip cannot resolve, see `tool.crossbook.built-last`.

    Returns
    -------
    str
    """
    every = {canonicalize_name(name): version for name, version in (found | built_last).items()}
    kept = {name: version.partition("+")[0] for name, version in every.items() if not name.startswith(CUDA)}
    return HEAD + "".join(f"{name}=={kept[name]}\n" for name in sorted(kept))


def resolve(wanted: list[Requirement], kept: dict[str, Version]) -> dict[str, str]:
    """Ask pip for one set of versions that satisfies all requirements, without installing anything."""
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in kept.items()))
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-qq", "--dry-run"]
        command += ["--ignore-installed", "--report", str(report), "-c", str(constraints), *map(str, wanted)]
        if subprocess.run(command).returncode:
            sys.exit(
                "lock: pip found no set of versions, see above; 'make lock UPGRADE=all' forgets the present pins"
            )
        content = json.loads(report.read_text(encoding="utf-8"))
    return {each["metadata"]["name"]: each["metadata"]["version"] for each in content["install"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--upgrade", nargs="*", metavar="NAME", help="forget these pins (all, if none is named)"
    )
    arguments = parser.parse_args()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lock = ROOT / "requirements.lock"
    wanted = requirements(project)

    present = pins(lock.read_text(encoding="utf-8")) if lock.exists() else {}
    forgotten = {canonicalize_name(name) for name in arguments.upgrade or ()}
    if arguments.upgrade == [] or "all" in forgotten:
        forgotten = set(present)
    outgrown = {
        canonicalize_name(each.name)
        for each in wanted
        if (pin := present.get(canonicalize_name(each.name))) is not None and pin not in each.specifier
    }
    kept = {name: pin for name, pin in present.items() if name not in forgotten | outgrown}

    extras = [text for extra in project["project"]["optional-dependencies"].values() for text in extra]
    exact = {each.name: each for each in map(Requirement, [*project["project"]["dependencies"], *extras])}
    built_last = {
        name: str(exact[name].specifier).removeprefix("==")
        for name in project["tool"]["crossbook"]["built-last"]
    }

    text = lock_text(resolve(wanted, kept), built_last)
    if lock.exists() and text == lock.read_text(encoding="utf-8"):
        print("lock: requirements.lock stays as it is")
        return
    lock.write_text(text, encoding="utf-8")
    print(f"lock: wrote requirements.lock, {text.count('==')} packages")


if __name__ == "__main__":
    main()
