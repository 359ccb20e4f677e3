"""Slides from the Genomic Data Commons: a manifest in, whole-slide images with the right MD5 out.

    python -m lib.inputs.gdc manifest.txt --into data/raw/slides/blca --dry-run     sizes only
    python -m lib.inputs.gdc manifest.txt --into data/raw/slides/blca
    python -m lib.inputs.gdc --slides tcga_blca_survival.csv --into data/raw/slides/blca

With `gdc-client` on the PATH it does the transfer, else plain HTTPS, which goes on where it broke off.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from lib.data import download, md5_of, part_of
from lib.inputs.manifests import SERVER, ask_gdc, read_manifest, slides_of
from lib.inputs.tables import read_columns

CLIENT = "gdc-client"
GIB = 1 << 30


def completed(manifest: pd.DataFrame, server: str = SERVER) -> pd.DataFrame:
    """A manifest with every MD5 and size: those it lacks (a sample sheet has none) are asked of the GDC.

    Raises
    ------
    ConnectionError
        The GDC cannot be reached.
    ValueError
        The GDC does not know a file, or knows it under another name.
    """
    lacking = (manifest["md5"] == "") | manifest["size"].isna()
    if not lacking.any():
        return manifest
    told = ask_gdc(manifest.loc[lacking, "id"], "file_id", server).set_index("id")
    names = manifest.loc[lacking].set_index("id")["filename"]
    unknown = [name for id, name in names.items() if id not in told.index or told["filename"][id] != name]
    if unknown:
        raise ValueError(
            f"the GDC has no {unknown[0]} under the id of the manifest ({len(unknown)} such files): the manifest "
            "is old, make a new one"
        )
    rest = told.loc[names.index].reset_index()
    whole = pd.concat([manifest[~lacking], rest]).set_index("id").loc[manifest["id"]]
    return whole.reset_index()[list(manifest.columns)]


def plan(manifest: pd.DataFrame, folder: str | os.PathLike, verify: bool = False) -> pd.DataFrame:
    """What is there of a manifest's files and what is still to come.

    Parameters
    ----------
    manifest : DataFrame
        As `lib.inputs.manifests.read_manifest`, with md5 and size.
    folder : path
        Where the slides lie: `folder`/<file name>, or `folder`/<id>/<file name> as gdc-client puts them.
    verify : bool
        Compare the MD5 of files that are there, not only their size. A file got its name only after its MD5 was
        found right, so this asks whether the disk has harmed it since.

    Returns
    -------
    DataFrame
        The manifest with path, state ("there", "begun", "damaged", "absent") and missing (bytes to come).
    """
    rows = [_state(row, Path(folder), verify) for row in manifest.itertuples()]
    return manifest.assign(**pd.DataFrame(rows, columns=["path", "state", "missing"], index=manifest.index))


def _state(row, folder: Path, verify: bool) -> tuple[Path, str, int]:
    path = folder / row.filename
    for place in (path, folder / row.id / row.filename):
        if place.is_file() and place.stat().st_size == row.size and (not verify or md5_of(place) == row.md5):
            return place, "there", 0
    if path.is_file():
        return path, "damaged", row.size
    part = part_of(path)
    have = part.stat().st_size if part.is_file() else 0
    return path, "begun" if 0 < have <= row.size else "absent", row.size - (have if have <= row.size else 0)


def describe(planned: pd.DataFrame) -> str:
    """A plan as text: a line a file, then the total."""
    lines = [
        f"{row.size / GIB:9.3f} GiB  {row.state:8}{row.filename}" for row in planned.itertuples(index=False)
    ]
    there = int((planned["state"] == "there").sum())
    return "\n".join(
        [
            *lines,
            f"{planned['size'].sum() / GIB:9.3f} GiB in {len(planned)} slides; {there} of them are there; "
            f"{planned['missing'].sum() / GIB:.3f} GiB to come",
        ]
    )


def fetch_slides(
    manifest: pd.DataFrame,
    folder: str | os.PathLike,
    *,
    server: str = SERVER,
    client: str | None = "auto",
    at_once: int = 4,
    verify: bool = False,
    **patience: float,
) -> list[Path]:
    """Bring the files of a manifest into a folder, each under its final name only when its MD5 agrees.

    A file that fails does not stop the others.

    Parameters
    ----------
    manifest : DataFrame
        Rows of `lib.inputs.manifests.read_manifest`; what lacks MD5 or size is asked of the GDC.
    folder : path
    server : str
        Address of the GDC's API.
    client : "auto", path or None
        The program gdc-client: "auto" takes it from the PATH where it is (unless GDC_TOKEN is set, which only our own
        transfer reads), None never.
    at_once : int
        Transfers at a time.
    verify : bool
        See `plan`.
    **patience
        tries, wait, timeout of `lib.data.download`.

    Returns
    -------
    list of Path
        The slides, in the manifest's order.

    Raises
    ------
    OSError
        Not enough room on the disk (nothing is begun); the GDC cannot be asked.
    RuntimeError
        Some files failed; names the first and its reason, and how many.
    """
    folder, token = Path(folder), os.environ.get("GDC_TOKEN")
    planned = plan(completed(manifest, server), folder, verify)
    todo = planned[planned["state"] != "there"]
    if len(todo):
        folder.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(folder).free, int(todo["missing"].sum())
        if needed > free:
            raise OSError(
                f"{needed / GIB:.1f} GiB are to come and {folder} has room for {free / GIB:.1f} GiB: nothing was "
                "begun; name another folder, or fewer slides"
            )
        if client == "auto":
            client = None if token else shutil.which(CLIENT)
        if client:
            failed = _by_client(client, todo, folder, at_once)
        else:
            failed = _by_https(
                todo, folder, server, {"X-Auth-Token": token} if token else {}, at_once, patience
            )
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(todo)} slides failed, the first: {failed[0]}")
    return list(planned["path"])


def _by_https(
    todo: pd.DataFrame, folder: Path, server: str, headers: Mapping[str, str], at_once: int, patience: Mapping
) -> list[str]:
    """Download; returns what failed, in words."""

    def bring(row) -> str:
        try:
            url = f"{server}/data/{row.id}"
            download(url, folder / row.filename, row.md5, int(row.size), headers, **patience)
        except (OSError, ValueError) as error:
            print(f"FAILED {error}", file=sys.stderr)
            return str(error)
        print(f"{row.size / GIB:9.3f} GiB  {row.filename}", flush=True)
        return ""

    with ThreadPoolExecutor(at_once) as pool:
        return [reason for reason in pool.map(bring, todo.itertuples(index=False)) if reason]


def _by_client(client: str, todo: pd.DataFrame, folder: Path, at_once: int) -> list[str]:
    """Let gdc-client download, check what it brought and give it its place; returns what failed, in words."""
    waiting = folder / f".{CLIENT}"  # stays after a failure: gdc-client goes on from what it finds there
    waiting.mkdir(exist_ok=True)
    listed = waiting / "manifest.txt"
    todo.assign(state="released")[["id", "filename", "md5", "size", "state"]].to_csv(
        listed, sep="\t", index=False, lineterminator="\n"
    )
    command = [client, "download", "-m", str(listed), "-d", str(waiting), "-n", str(at_once)]
    done = subprocess.run(command, check=False)
    failed = []
    for row in todo.itertuples(index=False):
        brought = waiting / row.id / row.filename
        if not brought.is_file():
            failed.append(f"{row.filename}: {CLIENT} (exit code {done.returncode}) did not bring it")
        elif (found := md5_of(brought)) != row.md5:
            brought.unlink()
            failed.append(
                f"{row.filename}: {CLIENT} brought md5 {found}, the manifest says {row.md5}: not kept"
            )
        else:
            os.replace(brought, folder / row.filename)
            shutil.rmtree(brought.parent)
    for reason in failed:
        print(f"FAILED {reason}", file=sys.stderr)
    if not failed:
        shutil.rmtree(waiting)
    return failed


def _slide_names(path: Path) -> list[str]:
    """The slides a table names, in its column slide or slide_id."""
    if not path.is_file():
        raise FileNotFoundError(f"no table of slides at {path}")
    table = read_columns(path, dtype=str)
    column = next((name for name in ("slide", "slide_id") if name in table), None)
    if column is None:
        raise ValueError(f"{path} has neither a column slide nor slide_id")
    return [name.removesuffix(".svs") for name in table[column].dropna().unique()]


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.inputs.gdc", description=__doc__.splitlines()[0])
    parser.add_argument(
        "manifest", nargs="?", type=Path, help="GDC manifest or sample sheet; left out: the GDC is asked"
    )
    parser.add_argument("--into", type=Path, required=True, help="folder of the slides")
    parser.add_argument("--slides", type=Path, help="table with a column slide or slide_id: these only")
    parser.add_argument("--frozen", action="store_true", help="frozen sections too, without --slides")
    parser.add_argument("--dry-run", action="store_true", help="print sizes and the total, download nothing")
    parser.add_argument("--verify", action="store_true", help="check the MD5 of slides that are there")
    parser.add_argument("--at-once", type=int, default=4, help="transfers at a time (default: 4)")
    parser.add_argument("--server", default=SERVER, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        if not (given.manifest or given.slides):
            raise ValueError("name a manifest, or a table of slides with --slides")
        names = _slide_names(given.slides) if given.slides else None
        if given.manifest:
            manifest = read_manifest(given.manifest)
        else:
            manifest = ask_gdc([f"{name}.svs" for name in names], server=given.server)
        chosen, absent = slides_of(manifest, names, diagnostic=not given.frozen)
        if absent:
            print(
                f"{len(absent)} of {len(set(names))} slides are not in the manifest, the first is {absent[0]}",
                file=sys.stderr,
            )
        if chosen.empty:
            raise ValueError("the manifest has none of the slides asked for")
        if given.dry_run:
            print(describe(plan(completed(chosen, given.server), given.into, given.verify)))
        else:
            fetch_slides(chosen, given.into, server=given.server, at_once=given.at_once, verify=given.verify)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"gdc: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
