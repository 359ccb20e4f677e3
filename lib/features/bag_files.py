"""Where the features of a slide lie, scale by scale, in the folders of this project and of others."""

import os
from collections.abc import Iterable
from pathlib import Path

from lib.inputs.names import fault_of

SCALES = (20, 10, 5)
WITHIN = ("{slide}.h5", "h5_files/{slide}.h5", "pt_files/{slide}.pt", "{slide}.pt")


def bag_files(folder: str | os.PathLike, slide: str, scales: Iterable[int] = SCALES) -> dict[int, Path]:
    """The feature file of each scale.

    Parameters
    ----------
    folder : path
        Holds, for scale 20, one of

        ============================================ =====================================================
        x20/<slide>.h5                               this project (`lib.features.slide_embedding`), STAMP
        x20/h5_files/<slide>.h5                      CLAM
        x20/pt_files/<slide>.pt                      CLAM's tensors, CrossFusion's reference
        20x_256px_0px_overlap/features_*/<slide>.h5  TRIDENT
        ============================================ =====================================================

        20x/ instead of x20/ will do. Where the folders of the scales are named otherwise, write {scale} for the
        number: "stamp-{scale}x". The files of a single scale may lie in the folder itself.
    slide : str
        Name without suffix.
    scales : iterable of int

    Raises
    ------
    FileNotFoundError
        Names the scales without a file.
    ValueError
        A scale has several.
    """
    if fault := fault_of(slide):
        raise ValueError(f"slide {slide[:60]!r} {fault}: no features can be named after it")
    files, absent, scales = {}, [], list(scales)
    for scale in scales:
        found = []
        for place in _places(str(folder), scale, alone=len(scales) == 1):
            inside = (place / name.format(slide=slide) for name in WITHIN)
            found += [path for path in inside if path.is_file()][:1]
        if len(found) > 1:
            raise ValueError(
                f"slide {slide} has two feature files at {scale}x, {found[0]} and {found[1]}: name the folder of one "
                "encoder, with {scale} for the number"
            )
        if found:
            files[scale] = found[0]
        else:
            absent.append(f"{scale}x")
    if absent:
        raise FileNotFoundError(
            f"slide {slide} has no features at {', '.join(absent)} in {folder} (x{scales[0]}/{slide}.h5, "
            f"x{scales[0]}/h5_files/{slide}.h5, x{scales[0]}/pt_files/{slide}.pt or TRIDENT's folders): embed it"
        )
    return files


def _places(folder: str, scale: int, alone: bool) -> list[Path]:
    if "{scale}" in folder:
        return [Path(folder.replace("{scale}", str(scale)))]
    places = [Path(folder, f"x{scale}"), Path(folder, f"{scale}x")]
    places += sorted(Path(folder).glob(f"{scale}x_*/features_*"))
    return [*places, Path(folder)] if alone else places
