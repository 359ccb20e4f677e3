"""HDF5 files of others, opened so that whatever is broken in them is said in one sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

MOST_SHRUNK = 200
"""Counts, names and positions shrink by less; what claims more holds one value all over, or nothing."""

SMALL = 64 << 20
"""Bytes unpacked, of which nobody asks what they were packed into."""

DEEPEST = 8
BROKEN = (OSError, LookupError, RuntimeError, TypeError, AttributeError, MemoryError, OverflowError)
"""What h5py, and a library that reads with it, raises where a file is damaged."""


@contextmanager
def opened(path: str | os.PathLike, what: str, do: str) -> Iterator[h5py.File]:
    """Open an HDF5 file to read; what is found broken in it, now or later, is said in one sentence.

    Parameters
    ----------
    path : path
    what : str
        What the file should be: "a section", "a 10x matrix file".
    do : str
        What to do where it is not.

    Raises
    ------
    FileNotFoundError
    ValueError
        Not HDF5, cut short, damaged; with links, or numbers that lie in another file; or it claims to hold far more
        than it has bytes for.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: {do}")
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} is not {what}, or was cut short ({_said(error)}): {do}") from error
    with file:
        try:
            _refuse_strange(file, 1)
            yield file
        except ValueError as error:
            if type(error) is ValueError and path.name in str(error):
                raise
            raise ValueError(f"{path} is not {what}, or is damaged ({_said(error)}): {do}") from error
        except BROKEN as error:
            raise ValueError(f"{path} is not {what}, or is damaged ({_said(error)}): {do}") from error


def _said(error: Exception) -> str:
    # h5py's KeyError quotes itself; addresses of memory mean nothing to anybody
    return " ".join(str(error).split()).strip("'\"")[:160] or type(error).__name__


def _refuse_strange(group: h5py.Group, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"it is more than {DEEPEST} folders deep")
    for name in group:
        if not isinstance(name, str):
            raise ValueError(f"an entry is named {name!r}, which is no UTF-8")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link, the values themselves are expected")
        item = group[name]
        if isinstance(item, h5py.Group):
            _refuse_strange(item, depth + 1)
        elif isinstance(item, h5py.Dataset):
            _refuse_claims(item, name)


def _refuse_claims(dataset: h5py.Dataset, name: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"the values of {name} lie in another file")
    if dataset.shape is None:
        return
    needed, there = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if needed > max(SMALL, there * (1 if dataset.chunks is None else MOST_SHRUNK)):
        shape = " x ".join(map(str, dataset.shape))
        raise ValueError(f"{name} claims {shape} values, and the file has {there:,} bytes of them")
