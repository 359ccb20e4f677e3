"""One large file over HTTPS: goes on where it broke off, and appears only when its MD5 agrees.

The list of sources, data/sources.yaml: where raw data come from and under which terms.

Raw files: fetched from a mirror or from where data/sources.yaml says, and never used unless their checksum agrees.

`python -m lib.data her2st` fetches what the cohort her2st needs into data/raw/.
"""

import argparse
import difflib
import fcntl
import gzip
import hashlib
import lzma
import os
import shutil
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Annotated
from urllib.parse import urljoin, urlsplit, urlunsplit

import pooch
import requests
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from requests.exceptions import RequestException

from lib.files import sha256_of, written
from lib.params import read_yaml

BLOCK = 1 << 14
"""Bytes written at a time; of a broken connection less than this is lost."""


LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""What goes there does not leave the machine."""


class WrongChecksum(ValueError):
    """The file arrived whole and is not the one that was asked for."""


def shown(url: str) -> str:
    """An address as it may be printed: without name and password, and without its query, where tokens travel."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "..." if parts.query else "", ""))


def refuse_unsafe(url: str, what: str) -> None:
    """Refuse an address that is neither https nor on this machine.

    Raises
    ------
    ValueError
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError(
            f"{what} is not fetched from {shown(url)}: only https is, so that nobody can change it on the way"
        )


def refuse_unsafe_redirect(answer: requests.Response, *_: object, **__: object) -> None:
    """Hook of requests: refuse to be sent on to an address that `refuse_unsafe` refuses, or from https to http."""
    if answer.is_redirect:
        target = urljoin(answer.url, answer.headers["location"])
        if urlsplit(answer.url).scheme == "https" and urlsplit(target).scheme != "https":
            raise ValueError(f"{shown(answer.url)} sends on to {shown(target)}: only https is fetched")
        refuse_unsafe(target, shown(answer.url))


def part_of(path: str | os.PathLike) -> Path:
    """Where what has arrived of a file waits for the rest."""
    path = Path(path)
    return path.with_name(f".{path.name}.partial")


def md5_of(path: str | os.PathLike) -> str:
    """MD5 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def download(
    url: str,
    path: str | os.PathLike,
    md5: str,
    size: int,
    headers: Mapping[str, str] | None = None,
    tries: int = 5,
    wait: float = 2.0,
    timeout: float = 60,
) -> None:
    """Download a file; what arrived before a break is kept, across runs too, and only the rest is asked for.

    Parameters
    ----------
    url : str
    path : path
        Final name; it appears when the bytes are whole, have the MD5 and are flushed to disk.
    md5 : str
        Hexadecimal.
    size : int
        Bytes.
    headers : mapping, optional
        More headers of the request.
    tries : int
        Breaks in a row, without coming one byte further than ever before, until it gives up.
    wait : float
        Seconds before the second try; doubled with each further one.
    timeout : float
        Seconds without a byte that count as a break.

    Raises
    ------
    WrongChecksum
        The MD5 differs; nothing is kept.
    FileNotFoundError
        The server does not know the file.
    PermissionError
        The server refuses it.
    ConnectionError
        The connection broke `tries` times; what arrived waits for the next run.
    BlockingIOError
        Another process is downloading this file.
    """
    refuse_unsafe(url, Path(path).name)
    path, part = Path(path), part_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "ab") as file:
            _lock(file, path.name)
            kept = file.seek(0, os.SEEK_END)
            _fill(url, file, path.name, size, headers or {}, tries, wait, timeout)
            found = md5_of(part)
            if found != md5 and kept:
                # the part may be of another day's file: begin once more before blaming the server
                _cut(file, 0)
                _fill(url, file, path.name, size, headers or {}, tries, wait, timeout)
                found = md5_of(part)
            if found != md5:
                _cut(file, 0)
                raise WrongChecksum(
                    f"{path.name} has md5 {found}, the manifest says {md5}: not kept; the manifest may be old, "
                    "make a new one"
                )
            os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        if part.is_file() and not part.stat().st_size:
            part.unlink()


def _lock(file, name: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(f"{name} is being downloaded by another process") from error


def _fill(url, file, name, size, headers, tries, wait, timeout) -> None:
    """Append to `file` until it has `size` bytes, or the server says that there are no more."""
    broken, furthest = 0, file.tell()
    while file.tell() < size:
        try:
            if not _append(url, file, name, headers, timeout):
                return
            reason = "it ended early"
        except requests.RequestException as error:
            reason = type(error).__name__
            if error.response is not None:
                reason = f"HTTP {error.response.status_code}"
        file.flush()
        broken = 0 if file.tell() > furthest else broken + 1
        furthest = max(furthest, file.tell())
        if broken >= tries:
            raise ConnectionError(
                f"{name}: the connection to {shown(url)} broke {broken} times ({reason}); {file.tell()} of {size} bytes "
                "are kept, run the same command again to go on"
            )
        if file.tell() < size:
            time.sleep(wait * 2 ** max(0, broken - 1))


def _append(url, file, name, headers, timeout) -> bool:
    """Ask for what is missing and write it as it comes; False if the server has nothing behind it."""
    have = file.tell()
    # a compressed answer would have other lengths than the file
    asked = {"Accept-Encoding": "identity", **headers, **({"Range": f"bytes={have}-"} if have else {})}
    hooks = {"response": refuse_unsafe_redirect}
    with requests.get(url, headers=asked, stream=True, timeout=timeout, hooks=hooks) as answer:
        if answer.status_code == 416:
            return False
        if answer.status_code in (401, 403):
            raise PermissionError(
                f"the server refuses {name} (HTTP {answer.status_code}): it is under controlled access, which "
                "diagnostic slides are not; put your GDC token into the environment as GDC_TOKEN"
            )
        if answer.status_code in (404, 410):
            raise FileNotFoundError(
                f"the server has no {name} at {shown(url)} (HTTP {answer.status_code}): ids change with GDC's releases, "
                "make a new manifest, or leave it out and give --slides"
            )
        answer.raise_for_status()
        begins = 0  # the server sends all of it
        if answer.status_code == 206:
            told = answer.headers.get("Content-Range", "").partition("-")[0].removeprefix("bytes ").strip()
            begins = int(told) if told.isdigit() else -1
        if not 0 <= begins <= have:
            _cut(file, 0)  # no answer to what was asked: next time without a range
            return True
        _cut(file, begins)
        for block in answer.iter_content(BLOCK):
            file.write(block)
    return True


def _cut(file, length: int) -> None:
    file.truncate(length)
    file.seek(length)


LIST = Path(__file__).resolve().parents[1] / "data" / "sources.yaml"


def _inside(path: str) -> str:
    parts = path.replace("\\", "/").split("/")
    if PureWindowsPath(path).drive or parts[0] in ("", "~") or {"..", "."} & set(parts) or "\0" in path:
        raise ValueError("must stay below the source's folder")
    return path


Inside = Annotated[str, AfterValidator(_inside)]
Strict = ConfigDict(extra="forbid", frozen=True)


class File(BaseModel):
    """One file of a source; see data/README.md for the meaning of the fields."""

    model_config = Strict

    path: Inside
    url: str | None = ""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$")
    git_blob: str | None = Field(None, pattern="^[0-9a-f]{40}$")
    bytes: int | None = Field(None, ge=0)
    group: str = ""
    unpack: Inside | None = None
    verified: bool

    @model_validator(mode="after")
    def _has_what_it_claims(self) -> "File":
        if self.verified and self.checksum is None:
            raise ValueError(f"{self.path} is called verified and has no checksum")
        return self

    @model_validator(mode="after")
    def _is_fetched_safely(self) -> "File":
        if self.url and "://" in self.url:
            refuse_unsafe(self.url, self.path)
        return self

    @property
    def checksum(self) -> tuple[str, str] | None:
        """Kind ("sha256", "md5" or "git_blob") and value of the strongest checksum there is."""
        kinds = ((kind, getattr(self, kind)) for kind in ("sha256", "git_blob", "md5"))
        return next(((kind, value) for kind, value in kinds if value), None)


class Source(BaseModel):
    """A data set or a file of weights: where it comes from, and under which terms."""

    model_config = Strict

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


class Cohort(BaseModel):
    """The sources a cohort cannot do without, and those it can."""

    model_config = Strict

    needs: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()


class Sources(BaseModel):
    """Content of data/sources.yaml."""

    model_config = Strict

    cohorts: dict[str, Cohort]
    sources: dict[str, Source]


def read_sources(path: str | os.PathLike = LIST) -> Sources:
    """Read and check the list of sources.

    Raises
    ------
    ValueError
        Names the entry and what is wrong with it.
    """
    try:
        return Sources.model_validate(read_yaml(Path(path)))
    except ValidationError as error:
        first, *others = error.errors()
        where = ".".join(map(str, first["loc"])) or "the whole"
        more = f" ({len(others)} more faults)" if others else ""
        raise ValueError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}{more}") from error


ROOT = Path(__file__).resolve().parents[1]
RAW = ROOT / "data" / "raw"

# pooch announces every file and advises to pin its hash: data/sources.yaml and this module see to both
pooch.get_logger().setLevel("ERROR")


def mirror_folder() -> Path | None:
    """The folder CROSSBOOK_MIRROR names, or None if it is not set. A relative name counts from the repository.

    Raises
    ------
    FileNotFoundError
        If it names no folder.
    """
    name = os.environ.get("CROSSBOOK_MIRROR")
    if not name:
        return None
    folder = ROOT / Path(name).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"CROSSBOOK_MIRROR names {name}, but {folder} is no folder; correct or unset it"
        )
    return folder


def checksum_of(path: str | os.PathLike, kind: str) -> str:
    """Checksum of a file's bytes, in hexadecimal.

    Parameters
    ----------
    path : path
    kind : {"sha256", "md5", "git_blob"}
        git_blob is the name git gives the content: sha1 of "blob", its length, a zero byte, and the content.
    """
    if kind == "sha256":
        return sha256_of(path)
    digest = hashlib.md5() if kind == "md5" else hashlib.sha1(b"blob %d\0" % os.path.getsize(path))
    with open(path, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(
    source: str,
    folder: str | os.PathLike = RAW,
    mirror: str | os.PathLike | None = None,
    groups: Collection[str] = (),
    listed: Sources | None = None,
) -> list[Path]:
    """Bring the files of a source into `folder`/<source>/, each under its final name only when whole and checked.

    A file that is there and agrees with its checksum is left alone. Otherwise the mirror is tried, then the address.

    Parameters
    ----------
    source : str
        Name in data/sources.yaml.
    folder : path
        Folder of raw files; data/raw.
    mirror : path, optional
        Folder with <source>/<path> below it; default: what CROSSBOOK_MIRROR names.
    groups : collection of str
        Groups of optional files wanted too.
    listed : Sources, optional
        Default: data/sources.yaml.

    Returns
    -------
    list of Path
        The files that are now there.

    Raises
    ------
    ValueError
        If the source or group is unknown, or a checksum differs (what was there before stays).
    FileNotFoundError
        If a file is in no mirror and its address cannot be reached, or it has none.
    """
    listed = listed or read_sources()
    about = listed.sources[_known(source, listed.sources, "source")]
    for group in groups:
        _known(group, {file.group for file in about.files if file.group}, f"group of {source}")
    if mirror is None:
        mirror = mirror_folder()

    wanted = [file for file in about.files if not file.group or file.group in groups]
    origins: dict[str, int] = {}
    for file in wanted:
        origin = _bring(source, about, file, Path(folder), Path(mirror) if mirror else None)
        origins[origin] = origins.get(origin, 0) + 1
    if wanted:
        counted = ", ".join(f"{count} {origin}" for origin, count in origins.items())
        print(f"{source}: {len(wanted)} files ({counted})")
    if about.by_hand:
        print(f"{source}: not fetched here: {about.by_hand}")
    return [Path(folder, source, file.path) for file in wanted]


def fetch_all(name: str, folder: str | os.PathLike = RAW, groups: Collection[str] = ()) -> None:
    """Fetch all that a cohort of data/sources.yaml needs, or one source. See `fetch` for what is raised.

    A need `source:group` asks for a group of optional files too. A need `one | other` asks for the first that can be had.
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
        _fetch_first(need, folder, groups, listed)
    for source in cohort.wants:
        try:
            fetch(source, folder, listed=listed)
        except FileNotFoundError as error:
            print(f"{name}: goes without the source {source}: {error}", file=sys.stderr)


def _fetch_first(need: str, folder: str | os.PathLike, groups: Collection[str], listed: Sources) -> None:
    """Fetch the first of the alternatives of a need that can be had."""
    reasons = []
    for alternative in need.split("|"):
        source, _, group = alternative.strip().partition(":")
        try:
            fetch(source, folder, groups=[*groups, group] if group else groups, listed=listed)
            return
        except FileNotFoundError as error:
            reasons.append(str(error))
    raise FileNotFoundError("; and ".join(reasons))


def _known(name: str, names: Iterable[str], what: str) -> str:
    if name in (names := sorted(set(names))):
        return name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names) or 'none'}"
    raise ValueError(f"data/sources.yaml has no {what} named {name}; {hint}")


def _bring(source: str, about: Source, file: File, folder: Path, mirror: Path | None) -> str:
    """Bring one file; returns in words where it came from."""
    target = folder / source / file.path
    opened = folder / source / file.unpack if file.unpack else None
    if opened and opened.exists() and not target.exists():
        return "unpacked before"
    if target.exists() and (
        file.checksum is None or checksum_of(target, file.checksum[0]) == file.checksum[1]
    ):
        origin = "there already"
    else:
        if target.exists():
            print(f"{source}/{file.path}: does not agree with its checksum, fetched anew", file=sys.stderr)
        with written(target) as part:
            origin = _obtain(source, about, file, part, mirror)
        if not file.verified:
            print(f"unverified: {source}/{file.path} sha256 {sha256_of(target)}", file=sys.stderr)
    if opened and not opened.exists():
        _unpack(target, opened)
    return origin


def _obtain(source: str, about: Source, file: File, part: Path, mirror: Path | None) -> str:
    """Write the file's content to `part` and check it."""
    url = about.url(file)
    copy = mirror / source / file.path if mirror else None
    if copy and copy.is_file():
        shutil.copyfile(copy, part)
        origin, place = "from the mirror", str(copy)
    elif url is None:
        why = f"the mirror has no {source}/{file.path}" if mirror else "CROSSBOOK_MIRROR is not set"
        raise FileNotFoundError(
            f"{source}/{file.path} is published nowhere and comes from a mirror only, and {why}: "
            f"set CROSSBOOK_MIRROR to a folder that holds it"
        )
    else:
        _download(source, file, url, part, mirror)
        origin, place = "downloaded", shown(url)
    if file.bytes is not None and (size := os.path.getsize(part)) != file.bytes:
        raise ValueError(
            f"{source}/{file.path} from {place} has {size} bytes, data/sources.yaml says {file.bytes}: nothing was "
            f"changed; check the mirror or the address, then try again"
        )
    if file.checksum:
        kind, expected = file.checksum
        if (found := checksum_of(part, kind)) != expected:
            doubt = (
                "" if file.verified else " (a checksum we took from others: it may be the one that is wrong)"
            )
            raise ValueError(
                f"{source}/{file.path} from {place} has {kind} {found}, data/sources.yaml says {expected}{doubt}: "
                f"nothing was changed; check the mirror or the address, then try again"
            )
    return origin


def _download(source: str, file: File, url: str, part: Path, mirror: Path | None) -> None:
    refuse_unsafe(url, f"{source}/{file.path}")
    try:
        pooch.retrieve(
            url,
            known_hash=None,
            path=part.parent,
            fname=part.name,
            downloader=pooch.HTTPDownloader(timeout=30, hooks={"response": refuse_unsafe_redirect}),
        )
    except (RequestException, OSError, ValueError) as error:
        why = f"the mirror {mirror} has no such file" if mirror else "CROSSBOOK_MIRROR is not set"
        ours = isinstance(error, ValueError) and not isinstance(error, RequestException)
        reason = str(error).splitlines()[0] if ours else _reason(error)
        raise FileNotFoundError(
            f"cannot get {source}/{file.path}: {why}, and {shown(url)} failed ({reason})"
        ) from None  # what requests says holds the whole address


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"HTTP {response.status_code}" if response is not None else type(error).__name__


def _unpack(archive: Path, target: Path) -> None:
    """Unpack an archive to a folder that appears when whole. A single folder at the archive's top becomes it."""
    part = target.with_name(f".part-{os.getpid()}-{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as content:
                sizes, links = 0, None
                for entry in content:
                    sizes += entry.size
                    links = links or (entry.name if entry.issym() or entry.islnk() else None)
                    _refuse_bomb(sizes, archive)
                    if entry.name.startswith("/"):
                        raise tarfile.TarError(f"{entry.name!r} lies outside of it")
                if links:
                    raise tarfile.TarError(f"{links!r} is a link")
                content.extractall(part, filter="data")
                while content.fileobj.read(1 << 20):  # to the end, where gzip's checksum is
                    pass
        else:
            with zipfile.ZipFile(archive) as content:
                if odd := [
                    name
                    for name in (entry.orig_filename.replace("\\", "/") for entry in content.infolist())
                    if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/") or "\0" in name
                ]:
                    raise zipfile.BadZipFile(f"{odd[0]!r} lies outside of it")
                _refuse_bomb(sum(entry.file_size for entry in content.infolist()), archive)
                content.extractall(part)
        entries = [entry for entry in part.iterdir() if entry.name != "__MACOSX"]
        top = entries[0] if len(entries) == 1 and entries[0].is_dir() else part
        os.replace(top, target)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        gzip.BadGzipFile,
        RuntimeError,
    ) as error:
        raise ValueError(f"{archive} cannot be unpacked ({error}): remove it and fetch it again") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_bomb(size: int, archive: Path) -> None:
    """Refuse an archive that unpacks to more than there is room for, or than any archive of data does."""
    packed = archive.stat().st_size
    if size > 200 * packed + (1 << 30) or size > shutil.disk_usage(archive.parent).free:
        raise zipfile.BadZipFile(f"{packed:,} bytes would become {size:,} or more")


def main(arguments: list[str] | None = None) -> int:
    """Command line of `make data`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.data", description=__doc__)
    parser.add_argument("name", help="cohort or source of data/sources.yaml")
    parser.add_argument("--groups", nargs="*", default=[], help="groups of optional files wanted too")
    parser.add_argument("--raw", type=Path, default=RAW, help="folder of raw files (default: data/raw)")
    given = parser.parse_args(arguments)
    try:
        fetch_all(given.name, given.raw, given.groups)
    except (ValueError, OSError) as error:
        print(f"data: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
