"""A stage's figures as it drew them, in lines: sharp at any size, where its notebook shows pixels."""

import json
from pathlib import Path

from lib.files import sha256_of

MOST_BYTES = 300_000  # a map of ten thousand spots is smaller and quicker to show as pixels


def drawings(cohort: Path, stage: str) -> dict[str, str]:
    """The SVG figures that a stage's manifest names, by name.

    Left out are files above `MOST_BYTES`, and those that are not, or no longer, what the stage wrote.

    Parameters
    ----------
    cohort : Path
        ``results/<study>/<cohort>``.
    stage : str
        E.g. ``"4-evaluate"``.
    """
    manifest = cohort / "manifests" / f"{stage}.json"
    if not manifest.is_file():
        return {}
    outputs = json.loads(manifest.read_text(encoding="utf-8")).get("outputs", {})
    found = {}
    for name, digest in sorted(outputs.items()):
        path = cohort / name
        if path.parent.name != "figures" or path.suffix != ".svg" or not path.is_file():
            continue
        if path.stat().st_size <= MOST_BYTES and sha256_of(path) == digest:
            found[path.stem] = path.read_text(encoding="utf-8")
    return found
