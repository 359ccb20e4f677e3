"""Manifests of the Genomic Data Commons (GDC): which files there are, how large, and their MD5."""

import os
import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import requests

from lib.inputs.tables import read_columns

SERVER = "https://api.gdc.cancer.gov"
COLUMNS = ["id", "filename", "md5", "size"]
SYNONYMS = {"File ID": "id", "File Name": "filename"}
DIAGNOSTIC = re.compile(r"-DX[0-9A-Z]+\.", re.IGNORECASE)
AT_ONCE = 400


def read_manifest(path: str | os.PathLike) -> pd.DataFrame:
    """Read a GDC manifest or sample sheet, tab or comma separated whatever its name ends in.

    Parameters
    ----------
    path : path
        Columns id, filename and, where known, md5 and size (a sample sheet, with File ID and File Name, has neither).

    Returns
    -------
    DataFrame
        id (UUID), filename, md5 ("" if unknown), size (bytes, Int64, missing if unknown), one row a file.

    Raises
    ------
    FileNotFoundError
    ValueError
        No such columns, an id that is no UUID, a file name with a folder in it, an MD5 or a size that is none, two
        different files of one name.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no manifest at {path}: make one on https://portal.gdc.cancer.gov, or leave it out and give --slides"
        )
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        comma = "\t" not in file.readline(1 << 16)
    table = read_columns(path, "," if comma else "\t", dtype=str)
    table = table.rename(columns=SYNONYMS)
    if missing := {"id", "filename"} - set(table):
        raise ValueError(
            f"{path} has no column {' and no column '.join(sorted(missing))}, so it is no GDC manifest"
        )
    return checked(table, str(path))


def ask_gdc(
    slides: Collection[str], field: str = "file_name", server: str = SERVER, timeout: float = 60
) -> pd.DataFrame:
    """Ask the GDC for the manifest of some files.

    Parameters
    ----------
    slides : collection of str
        File names (with .svs), or ids where `field` is "file_id".
    field : "file_name" or "file_id"
    server : str
        Address of the GDC's API.
    timeout : float
        Seconds to wait for an answer.

    Returns
    -------
    DataFrame
        As `read_manifest`; files the GDC does not know are not in it.

    Raises
    ------
    ConnectionError
        The GDC cannot be reached or does not answer as expected.
    """
    slides, found = sorted(set(slides)), []
    for start in range(0, len(slides), AT_ONCE):
        some = slides[start : start + AT_ONCE]
        question = {
            "filters": {"op": "in", "content": {"field": field, "value": some}},
            "fields": "file_id,file_name,md5sum,file_size",
            "format": "JSON",
            "size": 4 * AT_ONCE,  # a name may stand for several files, an id not
        }
        try:
            answer = requests.post(f"{server}/files", json=question, timeout=timeout)
            answer.raise_for_status()
            found += answer.json()["data"]["hits"]
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise ConnectionError(
                f"the GDC at {server} did not give the manifest of {len(slides)} files "
                f"({type(error).__name__}): check the network, or download a manifest elsewhere and name it"
            ) from error
    names = {"file_id": "id", "file_name": "filename", "md5sum": "md5", "file_size": "size"}
    return checked(pd.DataFrame(found, columns=list(names)).rename(columns=names), f"the answer of {server}")


def checked(table: pd.DataFrame, origin: str) -> pd.DataFrame:
    """The columns of a manifest, checked; rows that say the same twice become one."""
    table = table.reindex(columns=COLUMNS)
    size = pd.to_numeric(table["size"], errors="coerce")
    table = table.assign(md5=table["md5"].fillna("").str.lower())
    for fault, bad in {
        "id {id} is no UUID": ~table["id"]
        .fillna("")
        .str.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
        "the file name {filename!r} is none": ~table["filename"].fillna("").str.fullmatch(r"[^/\\\x00]+")
        | table["filename"].isin([".", ".."]),
        "{filename} has md5 {md5}": ~table["md5"].str.fullmatch("([0-9a-f]{32})?"),
        "{filename} has size {size}": (table["size"].notna() & ~((size >= 0) & (size < 2**50)))
        | (size % 1 > 0),
    }.items():
        if bad.any():
            row = table[bad].iloc[0]
            raise ValueError(f"{origin}: {fault.format(**row)} ({int(bad.sum())} such rows)")
    table = table.assign(size=size.astype("Int64")).drop_duplicates().reset_index(drop=True)
    for name in ("id", "filename"):
        if (twice := table[name].duplicated()).any():
            raise ValueError(
                f"{origin}: two different files have the {name} {table.loc[twice, name].iloc[0]} "
                f"({int(twice.sum())} such rows); keep one of them"
            )
    return table


def slides_of(
    manifest: pd.DataFrame, names: Collection[str] | None = None, diagnostic: bool = True
) -> tuple[pd.DataFrame, list[str]]:
    """The slides of a manifest.

    Parameters
    ----------
    manifest : DataFrame
        As `read_manifest`; a whole project's lists much that is no slide.
    names : collection of str, optional
        Only these slides, with or without .svs.
    diagnostic : bool
        Without `names`: only diagnostic slides (-DX in the name, formalin-fixed), not frozen sections (-TS, -BS, -MS).

    Returns
    -------
    chosen : DataFrame
        In the manifest's order.
    absent : list of str
        Those of `names` that the manifest lacks, without .svs.
    """
    stems = manifest["filename"].str.removesuffix(".svs")
    is_slide = manifest["filename"].str.endswith(".svs")
    if names is None:
        wanted = manifest["filename"].str.contains(DIAGNOSTIC) | (not diagnostic)
        return manifest[is_slide & wanted].reset_index(drop=True), []
    asked = {name.removesuffix(".svs") for name in names}
    chosen = manifest[is_slide & stems.isin(asked)].reset_index(drop=True)
    return chosen, sorted(asked - set(stems[is_slide]))
