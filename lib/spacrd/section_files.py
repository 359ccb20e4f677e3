"""Sections on disk: h5ad files that anndata reads, the same bytes whenever they are written."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import anndata
import numpy as np
from anndata import AnnData

from lib.files import opened, written_hdf5
from lib.spacrd.spots import check_section

AGAIN = "delete it and run 1-preprocess again"
PARTS = ("obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns")


def write_section(section: AnnData, path: str | os.PathLike) -> None:
    """Write a section as an h5ad file, atomically: equal sections give equal bytes.

    Unlike `AnnData.write_h5ad`, the file is put together in memory, see `lib.files.written_hdf5`.

    Parameters
    ----------
    section : AnnData
        As `lib.spacrd.spots.check_section` wants it; its columns of text become categories, as with `write_h5ad`.
    path : path

    Raises
    ------
    ValueError
        No section, or with something h5ad cannot hold.
    DiskFull
    """
    check_section(section)
    if section.raw is not None or section.isbacked:
        raise ValueError(f"{path} not written: a section has one matrix of counts, in memory")
    section.strings_to_categoricals()
    with written_hdf5(path) as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        try:
            anndata.io.write_elem(file, "X", section.X)
            for name in PARTS:
                part = getattr(section, name)
                anndata.io.write_elem(file, name, part if name in ("obs", "var") else _in_order(part))
        except Exception as error:  # what anndata raises for a thing it cannot store is of no other kind
            said = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} not written: h5ad cannot hold what is in it ({said})") from error


def _in_order(parts: Mapping) -> dict:
    """By name, as they come back from a file: a section that was read is written to the same bytes again."""
    return {
        key: _in_order(part) if isinstance(part, Mapping) else part for key, part in sorted(parts.items())
    }


def read_section(path: str | os.PathLike) -> AnnData:
    """Read and check a section written by `write_section`, or by `AnnData.write_h5ad`.

    Returns
    -------
    AnnData
        As `lib.spacrd.spots.check_section` wants it.

    Raises
    ------
    FileNotFoundError, ValueError
        Names the file: not there, cut short, damaged, or no section.
    """
    path = Path(path)
    with opened(path, "a section", AGAIN) as file:
        _refuse_broken(file, path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Observation names are not unique")
        warnings.filterwarnings("ignore", message="Variable names are not unique")
        try:
            section = anndata.read_h5ad(path)
        except (
            Exception
        ) as error:  # anndata, pandas and scipy raise nearly anything for a part that is not its own
            said = " ".join(str(error).split())[:160] or type(error).__name__
            raise ValueError(f"{path} is not a section, or is damaged ({said}): {AGAIN}") from error
    try:
        check_section(section)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {AGAIN}") from error
    except (TypeError, AttributeError, KeyError) as error:
        said = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} is damaged: its parts are not of a section ({said}); {AGAIN}") from error
    return section


def _refuse_broken(file, path: Path) -> None:
    """Refuse a matrix whose places lie outside of it: nothing later would look, and some would write there."""
    if not {"X", "obs", "var", "obsm", "uns"} <= set(file) or "indptr" not in file["X"]:
        raise ValueError(f"{path} is not a section (it holds {', '.join(file) or 'nothing'}): {AGAIN}")
    matrix = file["X"]
    starts, places, shape = matrix["indptr"][:], matrix["indices"][:], matrix.attrs["shape"]
    kinds = {starts.dtype.kind, places.dtype.kind, np.asarray(shape).dtype.kind}
    whole = kinds <= {"i", "u"} and len(shape) == 2 and starts.ndim == places.ndim == matrix["data"].ndim == 1
    if not (
        whole
        and len(starts) == shape[0] + 1
        and starts[0] == 0
        and (np.diff(starts.astype(np.int64)) >= 0).all()
        and starts[-1] == len(places) == len(matrix["data"])
        and (not len(places) or (places.min() >= 0 and places.max() < shape[1]))
    ):
        raise ValueError(f"{path} is damaged: the counts lie outside of its {shape} matrix; {AGAIN}")
