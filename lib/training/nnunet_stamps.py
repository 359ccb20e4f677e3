"""Notes beside what nnU-Net made: what of, in how many seconds, by which versions. A whole stage is not run again."""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable
from pathlib import Path

from lib.files import write_json
from lib.inputs.nnunet import ENDING

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
