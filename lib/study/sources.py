"""Raw files: fetched from a mirror or from where data/sources.yaml says, and never used unless their checksum agrees.

`python -m lib.study.sources her2st` fetches what the cohort her2st needs into data/raw/.
"""

import argparse
import difflib
import gzip
import hashlib
import lzma
import os
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path

import pooch
from requests.exceptions import RequestException

from lib.files import sha256_of, written
from lib.inputs.downloads import refuse_unsafe, refuse_unsafe_redirect, shown
from lib.study.source_list import File, Source, Sources, read_sources

ROOT = Path(__file__).resolve().parents[2]
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
    parser = argparse.ArgumentParser(prog="python -m lib.study.sources", description=__doc__)
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
