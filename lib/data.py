"""Raw files: where they come from (data/sources.yaml), how they are fetched and checked, and TCGA's slides by the GDC.

    python -m lib.data her2st                             what the cohort her2st needs, into data/raw/
    python -m lib.data --slides results/crossfusion/luad/slides.csv --into data/raw/tcga/slides/luad --dry-run

A file is taken from the folder CROSSBOOK_MIRROR where it is there, else from its address, and appears under its final
name only when whole and in agreement with its checksum. A download that broke off goes on where it stopped.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pandas as pd
import pooch
import requests
from pydantic import Field, model_validator

from lib.files import sha256_of, write_json
from lib.params import ROOT, Checked, load, nearest, read_yaml

RAW = ROOT / "data" / "raw"
GDC = "https://api.gdc.cancer.gov"
GIB = 1 << 30
GDC_FIELDS = {"file_id": "id", "file_name": "filename", "md5sum": "md5", "file_size": "size"}
pooch.get_logger().setLevel("ERROR")  # it announces every file


class File(Checked):
    """One file of a source; see data/README.md for the meaning of the fields."""

    path: str = Field(pattern=r"^[^/.][^/]*(/[^/.][^/]*)*$")
    url: str | None = ""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$")
    git_blob: str | None = Field(None, pattern="^[0-9a-f]{40}$")
    bytes: int | None = Field(None, ge=0)
    group: str = ""
    unpack: str | None = None
    verified: bool

    @model_validator(mode="after")
    def _has_what_it_claims(self) -> "File":
        if self.verified and not (self.sha256 or self.git_blob or self.md5):
            raise ValueError(f"{self.path} is called verified and has no checksum")
        return self


class Source(Checked):
    """A data set or a file of weights: where it comes from, and under which terms."""

    title: str
    citation: str
    doi: str | None
    licence: str
    homepage: str
    base_url: str = ""
    note: str = ""
    by_hand: str = ""
    files: tuple[File, ...]

    def url(self, file: File) -> str | None:
        """Address of a file, or None if it is published nowhere."""
        return None if file.url is None else urljoin(self.base_url, file.url or file.path)


class Cohort(Checked):
    """The sources a cohort cannot do without, and those it can."""

    needs: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()


class Sources(Checked):
    """Content of data/sources.yaml."""

    cohorts: dict[str, Cohort]
    sources: dict[str, Source]


def read_sources(path: str | os.PathLike = ROOT / "data" / "sources.yaml") -> Sources:
    return Sources.model_validate(read_yaml(Path(path)))


def checksum_of(path: str | os.PathLike, kind: str) -> str:
    """Checksum "sha256", "md5" or "git_blob" (the name git gives a content) of a file's bytes, in hexadecimal."""
    if kind != "git_blob":
        return pooch.file_hash(os.fspath(path), alg=kind)
    content = Path(path).read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def fetch(
    source: str,
    folder: str | os.PathLike = RAW,
    mirror: str | os.PathLike | None = None,
    groups: Collection[str] = (),
    listed: Sources | None = None,
) -> list[Path]:
    """Bring the files of a source of data/sources.yaml into `folder`/<source>/; what agrees with its checksum stays.

    A `mirror` with <source>/<path> below it (default: what CROSSBOOK_MIRROR names) is tried first. `groups` are of
    optional files wanted too. ValueError: an unknown name, or a checksum that differs (what was there before stays);
    FileNotFoundError: a file that cannot be had.
    """
    listed = listed or read_sources()
    about = listed.sources[_known(source, listed.sources, "source")]
    for group in groups:
        _known(group, {file.group for file in about.files if file.group}, f"group of {source}")
    if mirror is None and (name := os.environ.get("CROSSBOOK_MIRROR")):
        mirror = ROOT / Path(name).expanduser()  # a relative name counts from the repository
        if not mirror.is_dir():
            raise FileNotFoundError(f"CROSSBOOK_MIRROR names {name}, which is no folder; correct or unset it")
    paths = []
    for file in about.files:
        if not file.group or file.group in groups:
            paths.append(Path(folder, source, file.path))
            _bring(f"{source}/{file.path}", about.url(file), file, Path(folder, source), mirror)
    if paths:
        print(f"{source}: {len(paths)} files are there")
    if about.by_hand:
        print(f"{source}: not fetched here: {about.by_hand}")
    return paths


def fetch_all(name: str, folder: str | os.PathLike = RAW, groups: Collection[str] = ()) -> None:
    """Fetch all that a cohort of data/sources.yaml needs, or one source. See `fetch` for what is raised.

    A need `source:group` asks for optional files too; of a need `one | other` the first that can be had is taken.
    """
    listed = read_sources()
    if name not in listed.cohorts:
        _known(name, [*listed.cohorts, *listed.sources], "cohort or source")
        fetch(name, folder, groups=groups, listed=listed)
        return
    cohort = listed.cohorts[name]
    if not cohort.needs + cohort.wants:
        print(f"{name}: needs no files, its data are made from a seed")
    for need in cohort.needs:
        reasons = []
        for source, _, group in (one.strip().partition(":") for one in need.split("|")):
            try:
                fetch(source, folder, groups=[*groups, group] if group else groups, listed=listed)
                break
            except FileNotFoundError as error:
                reasons.append(str(error))
        else:
            raise FileNotFoundError("; and ".join(reasons))
    for source in cohort.wants:
        try:
            fetch(source, folder, listed=listed)
        except FileNotFoundError as error:
            print(f"{name}: goes without the source {source}: {error}", file=sys.stderr)


def _known(name: str, names: Iterable[str], what: str) -> str:
    if name not in (names := sorted(set(names))):
        raise ValueError(f"data/sources.yaml has no {what} named {name}; {nearest(name, names)}")
    return name


def _bring(name: str, url: str | None, file: File, folder: Path, mirror: str | os.PathLike | None) -> None:
    """Bring one file, and unpack it where it is an archive to unpack."""
    target, unpacked = folder / file.path, folder / file.unpack if file.unpack else None
    copy = Path(mirror, name) if mirror else None
    if unpacked and unpacked.exists() and not target.exists():
        return  # the archive was removed after it had been unpacked

    def obtain(url: str, output: str, _: object) -> None:
        if copy and copy.is_file():
            shutil.copyfile(copy, output)
        elif url and url.startswith("pip:"):
            _wheel(url.removeprefix("pip:"), output)
        elif url:
            resumed(target)(url, output, _)
        else:
            hint = "it has no such file" if mirror else "set it to a folder that holds it"
            raise FileNotFoundError(f"{name} is published nowhere, only in a CROSSBOOK_MIRROR: {hint}")
        size, blob = os.path.getsize(output), file.git_blob and checksum_of(output, "git_blob")
        if file.bytes not in (None, size) or file.git_blob != blob:
            raise ValueError(
                f"{name} has {size} bytes, git_blob {blob}: not as in data/sources.yaml, not kept"
            )
        if not file.verified:
            print(f"unverified: {name} sha256 {sha256_of(output)}", file=sys.stderr)

    if file.git_blob and target.exists() and checksum_of(target, "git_blob") != file.git_blob:
        target.unlink()  # pooch knows no such checksum
    known = f"sha256:{file.sha256}" if file.sha256 else f"md5:{file.md5}" if file.md5 else None
    pooch.retrieve(url or "", known, fname=target.name, path=target.parent, downloader=obtain)
    if unpacked and not unpacked.exists():
        _unpack(target, unpacked)


def _wheel(pinned: str, output: str) -> None:
    """A wheel, from wherever pip gets its packages on this machine, without what it asks for."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*command, "-d", folder, pinned], capture_output=True, text=True)
        if done.returncode:
            raise FileNotFoundError(f"cannot get {pinned}: pip said {' '.join(done.stderr.split())[-300:]}")
        shutil.copyfile(next(Path(folder).iterdir()), output)


def resumed(
    target: Path, headers: Mapping[str, str] | None = None, tries: int = 5, wait: float = 2.0
) -> Callable:
    """A downloader for pooch: what arrived before a break, of this run or an earlier one, is not asked for again.

    What has arrived of `target` waits in .<name>.partial beside it. `tries` breaks in a row without one more byte, with
    `wait` seconds between them, and it gives up.
    """
    part, tokens = target.with_name(f".{target.name}.partial"), dict(headers or {})
    how = {"stream": True, "timeout": 30, "allow_redirects": not tokens}  # tokens are for this server

    def download(url: str, output: str, _: object) -> None:
        broken = 0
        while True:
            have = part.stat().st_size if part.exists() else 0
            asked = tokens | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
            try:
                with requests.get(url, headers=asked, **how) as answer:
                    if answer.status_code != 416:  # else there is nothing behind what is there
                        answer.raise_for_status()
                        with open(part, "ab" if answer.status_code == 206 else "wb") as file:
                            for block in answer.iter_content(1 << 16):
                                file.write(block)
                os.replace(part, output)
                return
            except requests.RequestException as error:
                code = error.response.status_code if error.response is not None else 0
                broken = 0 if part.exists() and part.stat().st_size > have else broken + 1
                if broken >= tries or 400 <= code < 500:
                    reason = f"HTTP {code}" if code else type(error).__name__
                    place = urlsplit(url).hostname  # the rest may hold a token
                    raise FileNotFoundError(f"cannot get {target.name}: {place} failed ({reason})") from None
                time.sleep(wait)

    return download


def _unpack(archive: Path, target: Path) -> None:
    """Unpack an archive to a folder that appears when whole. A single folder at the archive's top becomes it."""
    part = target.with_name(f".part-{os.getpid()}-{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        kind = {"format": "zip"} if archive.suffix in (".zip", ".whl") else {"filter": "data"}
        shutil.unpack_archive(archive, part, **kind)
        inside = [entry for entry in part.iterdir() if entry.name != "__MACOSX"]
        os.replace(inside[0] if len(inside) == 1 and inside[0].is_dir() else part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def ask_gdc(names: Collection[str]) -> pd.DataFrame:
    """The manifest of some files by their names: id, filename, md5, size (bytes); the GDC may know fewer."""
    names, rows = sorted(set(names)), []
    for start in range(0, len(names), 400):
        some = {"op": "in", "content": {"field": "file_name", "value": names[start : start + 400]}}
        asked = {"filters": some, "fields": ",".join(GDC_FIELDS), "format": "JSON", "size": 2000}
        answer = requests.post(f"{GDC}/files", json=asked, timeout=60)
        answer.raise_for_status()
        rows += answer.json()["data"]["hits"]
    return pd.DataFrame(rows, columns=list(GDC_FIELDS)).rename(columns=GDC_FIELDS).drop_duplicates()


def fetch_slides(manifest: pd.DataFrame, folder: str | os.PathLike, verify: bool = False) -> list[str]:
    """Bring the slides of a manifest into a folder, each under its name only when its MD5 agrees.

    `gdc-client` does the transfer where it is on the PATH and GDC_TOKEN is not set, else HTTPS; both go on from what
    they find. What is there stays, see `there`. Returns what failed, a sentence each.
    """
    folder, failed = Path(folder), []
    todo = manifest[~there(manifest, folder, verify)]
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < todo["size"].sum():
        raise OSError(f"{todo['size'].sum() / GIB:.1f} GiB are to come and {free / GIB:.1f} GiB are free")
    token, client = os.environ.get("GDC_TOKEN"), shutil.which("gdc-client")
    todo.to_csv(folder / "manifest.txt", sep="\t", index=False)
    if client and not token and len(todo):
        subprocess.run([client, "download", "-m", folder / "manifest.txt", "-d", folder], check=False)
    for row in todo.itertuples():
        brought = folder / row.id / row.filename  # where gdc-client puts it
        bring = resumed(folder / row.filename, {"X-Auth-Token": token} if token else None)
        if brought.is_file():
            bring = lambda _, output, __, brought=brought: os.replace(brought, output)  # noqa: E731
        try:
            url = f"{GDC}/data/{row.id}"
            pooch.retrieve(url, f"md5:{row.md5}", fname=row.filename, path=folder, downloader=bring)
            shutil.rmtree(brought.parent, ignore_errors=True)
        except (OSError, ValueError) as error:
            failed.append(f"{row.filename}: {error}")
    return failed


def there(manifest: pd.DataFrame, folder: str | os.PathLike, verify: bool = False) -> pd.Series:
    """Which files of a manifest lie in a folder with the right size; `verify`: and the right MD5."""

    def good(row: pd.Series) -> bool:
        path = Path(folder, row["filename"])
        right = path.is_file() and path.stat().st_size == row["size"]
        return right and not (verify and checksum_of(path, "md5") != row["md5"])

    return pd.Series([good(row) for _, row in manifest.iterrows()], manifest.index, dtype=bool)


def raw_state(params: Checked) -> str:
    """Raw files that the parameters name, as one line that changes when one comes, goes or changes; "" for none.

    A parameter counts from data/raw, or from the repository where it begins with data/ (then the folder of data/raw
    with the name of that table, too; of a table in data/raw, its folder). Names and sizes count, and the content of tables
    below 1 MB.
    """
    if getattr(params, "phantom", None):
        return ""
    files: dict[str, str] = {}
    tables = {".csv", ".tsv", ".txt", ".xlsx", ".yaml", ".json"}
    texts = params.model_dump_json(exclude={"cohort", "kind", "models", "modalities"})
    for text in re.findall(r'"([^"\\]*)"', texts):
        near = [ROOT / text, RAW / Path(text).stem] if text.startswith("data/") else []
        near += [(ROOT / text).parent] if text.startswith("data/raw/") and text.endswith(".csv") else []
        for place in [RAW / text, *near] if 0 < len(text) < 200 and not Path(text).is_absolute() else []:
            inside = sorted(place.rglob("*")) if place.is_dir() and place != RAW else [place]
            for path in (each for each in inside if each.is_file() and each.name[0] != "."):
                size = path.stat().st_size
                small = size < 1_000_000 and path.suffix in tables
                files[os.path.relpath(path, ROOT)] = sha256_of(path) if small else str(size)
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]
    return f"{len(files)} raw files, {digest}" if files else ""


def since(record: str | os.PathLike, now: str) -> str:
    """The state a finished first stage was begun with, where only what it fetched itself was added; else `now`."""
    try:
        past = json.loads(Path(record).read_text(encoding="utf-8"))
        return past["begun"] if past["ended"] == now else now
    except (OSError, ValueError, KeyError):
        return now


def main(arguments: list[str] | None = None) -> int:
    """Command line of `make data`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.data", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="cohort or source of data/sources.yaml")
    parser.add_argument("--groups", nargs="*", default=[], help="groups of optional files wanted too")
    parser.add_argument("--raw", type=Path, default=RAW, help="folder of raw files (default: data/raw)")
    parser.add_argument("--slides", type=Path, help="table with a column slide or slide_id, of GDC slides")
    parser.add_argument("--manifest", type=Path, help="manifest of the GDC's portal; else the GDC is asked")
    parser.add_argument("--into", type=Path, help="folder of the slides")
    parser.add_argument("--dry-run", action="store_true", help="print sizes of the slides, download nothing")
    parser.add_argument("--verify", action="store_true", help="check the MD5 of slides that are there")
    parser.add_argument("--ended", nargs=3, help=argparse.SUPPRESS)  # of the Snakefile: YAML, record, state
    given = parser.parse_args(arguments)
    failed: list[str] = []
    try:
        if given.ended:
            yaml, record, begun = given.ended
            write_json({"begun": begun, "ended": raw_state(load(yaml))}, record)
        elif given.slides or given.manifest:
            failed = _slides(given)
        else:
            fetch_all(given.name or parser.error("name a cohort, or --slides"), given.raw, given.groups)
    except (ValueError, OSError, tarfile.TarError) as error:
        failed = [str(error)]
    for reason in failed:
        print(f"data: {reason}", file=sys.stderr)
    return bool(failed)


def _slides(given: argparse.Namespace) -> list[str]:
    """List the slides of a table or manifest with their sizes, and bring them; what failed."""
    names = None
    if given.slides:
        tabs = given.slides.suffix in (".tsv", ".txt")
        table = pd.read_csv(given.slides, sep="\t" if tabs else ",", dtype=str).fillna("")
        column = next((each for each in ("slide", "slide_id", "File Name") if each in table), None)
        if column is None:
            raise ValueError(
                f"{given.slides} has no column slide, slide_id or (a sample sheet of the GDC) File Name"
            )
        named = table[column][table[column] != ""].unique()
        # a sample sheet lists other files as well; a name without suffix is a slide's
        named = [name for name in named if column != "File Name" or name.lower().endswith(".svs")]
        names = sorted({re.sub(r"\.(svs|tiff?|ndpi|mrxs)$", "", name) + ".svs" for name in named})
    manifest = pd.read_csv(given.manifest, sep="\t") if given.manifest else ask_gdc(names)
    if absent := set(GDC_FIELDS.values()) - set(manifest):
        raise ValueError(
            f"{given.manifest} is no manifest of the GDC, it has no {', '.join(sorted(absent))}: give a sample sheet as --slides"
        )
    manifest = manifest[manifest["filename"].str.lower().str.endswith(".svs")]
    manifest = manifest[list(GDC_FIELDS.values())].drop_duplicates("filename")
    if names is not None:
        manifest = manifest[manifest["filename"].isin(names)]
        if unknown := sorted(set(names) - set(manifest["filename"])):
            gdc = "by the GDC, which has the slides of TCGA and CPTAC alone"
            where, some = f"in {given.manifest}" if given.manifest else gdc, ", ".join(unknown[:3])
            print(f"{len(unknown)} of {len(names)} slides are not known {where}: {some}, ...")
    have = there(manifest, given.into, given.verify)
    for row, has in zip(manifest.itertuples(), have, strict=True):
        print(f"{row.size / GIB:9.3f} GiB  {'there ' if has else 'absent'}  {row.filename}")
    total, missing = manifest["size"].sum() / GIB, manifest.loc[~have, "size"].sum() / GIB
    print(f"{total:9.3f} GiB in {len(manifest)} slides; {have.sum()} are there; {missing:.3f} GiB to come")
    return [] if given.dry_run else fetch_slides(manifest, given.into, given.verify)


if __name__ == "__main__":
    sys.exit(main())
