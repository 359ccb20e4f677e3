"""One large file over HTTPS: goes on where it broke off, and appears only when its MD5 agrees."""

import fcntl
import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

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
