"""Where a file lies: its path as tables hold it, relative to one of a few folders, and how large it is."""

import os
from collections.abc import Sequence
from pathlib import Path


def written_as(path: str | os.PathLike, folders: Sequence[Path]) -> str:
    """A path relative to the first of the folders that it lies below, so that no table names this machine's folders.

    Raises
    ------
    ValueError
        It lies below none of them.
    """
    for folder in folders:
        if Path(path).is_relative_to(folder):
            return Path(path).relative_to(folder).as_posix()
    raise ValueError(f"{path} lies below none of {', '.join(map(str, folders))}: no table can name it")


def found_at(text: str, folders: Sequence[Path]) -> Path:
    """The file or folder that `written_as` wrote down; the first of the folders that has it.

    Raises
    ------
    FileNotFoundError
    """
    for folder in folders:
        if (folder / text).exists():
            return folder / text
    raise FileNotFoundError(
        f"{text} is in none of {', '.join(map(str, folders))}: run the stage before again"
    )


def size_of(path: str | os.PathLike) -> int:
    """Bytes of a file, or of all files in a folder: a scan of hundreds of megabytes is known by it, not by a checksum.

    Raises
    ------
    FileNotFoundError
    """
    path = Path(path)
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size
