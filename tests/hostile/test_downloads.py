"""Hostile servers and archives: what `make data` and the GDC's downloads do with them."""

import gzip
import hashlib
import io
import struct
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from lib.data import Sources, download, fetch, refuse_unsafe_redirect

sys.path.insert(0, str(Path(__file__).parent))
from judge import Case, judge, shown

CONTENT = b"patient,slide\nP1,S1\n" * 100
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
HTML = b"<!DOCTYPE html><html><body>log in</body></html>"
SERVER: dict[str, object] = {}


class Answer(BaseHTTPRequestHandler):
    """Answers by the path asked for."""

    def do_GET(self):
        what = self.path.strip("/")
        if what.startswith("to-"):
            self.send_response(302)
            there = {"to-http": "http://example.org/a", "to-ftp": "ftp://x.org/a", "to-itself": "/to-itself"}
            self.send_header("Location", there.get(what, "/whole"))
            self.end_headers()
            return
        if what in ("401", "404", "500"):
            self.send_error(int(what))
            return
        body = {"html": HTML, "short": CONTENT[:-5], "long": CONTENT + b"x", "empty": b""}.get(what, CONTENT)
        self.send_response(200)
        self.send_header("Content-Length", "10" * 6 if what == "broken" else str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module", autouse=True)
def _server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    SERVER["url"] = f"http://127.0.0.1:{server.server_port}/"
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch):
    for name in ("CROSSBOOK_MIRROR", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def listed(**file) -> Sources:
    about = {"title": "t", "citation": "c", "doi": None, "licence": "l", "homepage": "h"}
    one = {"path": "a.csv", "sha256": SHA256, "verified": True} | file
    return Sources.model_validate({"cohorts": {}, "sources": {"s": {**about, "files": [one]}}})


def slide(what: str, url: str = "", **settings):
    """A download of one large file."""

    def read(folder):
        given = {"md5": MD5, "size": len(CONTENT), "tries": 2, "wait": 0.01, "timeout": 2} | settings
        download(url or str(SERVER["url"]) + what, folder / "S1.svs", **given)
        return sorted(path.name for path in folder.iterdir())

    return read


def source(what: str, url: str = "", **file):
    """A fetch of one source."""

    def read(folder):
        plain = Sources.model_construct  # an address that the list itself refuses is tried too
        made = (
            listed(**file, url=url or str(SERVER["url"]) + what) if not url else _unchecked(plain, url, file)
        )
        fetch("s", folder, listed=made)
        return sorted(path.name for path in (folder / "s").iterdir())

    return read


def _unchecked(_, url, file) -> Sources:
    made = listed(**file)
    one = made.sources["s"].files[0]
    object.__setattr__(one, "url", url)
    return made


def room(folder: Path) -> Path:
    (folder / "results").mkdir()
    return folder / "results"


def archive(kind: str, members: list, unpack="out"):
    """A source whose file is an archive, lying in a mirror."""

    def make(folder):
        held = io.BytesIO()
        if kind == "zip":
            with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
                for name, data in members:
                    file.writestr(
                        zipfile.ZipInfo(name) if isinstance(name, str) else name, data, zipfile.ZIP_DEFLATED
                    )
        else:
            with tarfile.open(fileobj=held, mode="w:gz") as file:
                for member, data in members:
                    about = tarfile.TarInfo(member) if isinstance(member, str) else member
                    about.size = len(data)
                    file.addfile(about, io.BytesIO(data))
        return mirrored(folder, held.getvalue(), kind)

    return make


def raw(kind: str, data: bytes):
    return lambda folder: mirrored(folder, data, kind)


def mirrored(folder: Path, data: bytes, kind: str):
    name = "a.zip" if kind == "zip" else "a.tar.gz"
    (folder / "mirror" / "s").mkdir(parents=True)
    (folder / "mirror" / "s" / name).write_bytes(data)
    (folder / "results" / "raw").mkdir(parents=True)
    return folder, name, hashlib.sha256(data).hexdigest()


def unpacked(given):
    folder, name, digest = given
    made = listed(path=name, sha256=digest, unpack="out", url=None)
    fetch("s", folder / "results" / "raw", mirror=folder / "mirror", listed=made)
    inside = folder / "results" / "raw" / "s"
    return sorted(str(path.relative_to(inside)) for path in inside.rglob("*"))


def link(name: str, target: str, kind=tarfile.SYMTYPE) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type, about.linkname = kind, target
    return about


def device(name: str, kind=tarfile.CHRTYPE) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type = kind
    return about


def zip_link() -> zipfile.ZipInfo:
    about = zipfile.ZipInfo("inside/link")
    about.external_attr = 0o120777 << 16
    return about


def bomb(folder):
    """An archive that says it unpacks to 3 GB."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(123_456))
    return mirrored(
        folder, held.getvalue().replace(struct.pack("<I", 123_456), struct.pack("<I", 3 << 30)), "zip"
    )


def lone(names: list[str]) -> str:
    return "same" if names in (["S1.svs"], ["a.csv"]) else ""


CASES = [
    Case("slide over http", room, slide("", "http://example.org/a.svs"), says="S1.svs"),
    Case("slide over ftp", room, slide("", "ftp://example.org/a.svs"), says="S1.svs"),
    Case("slide from a file", room, slide("", "file:///etc/passwd"), says="S1.svs"),
    Case("slide from no address", room, slide("", "S1.svs"), says="S1.svs"),
    Case("slide, sent on to http", room, slide("to-http"), says="http://"),
    Case("slide, sent on to ftp", room, slide("to-ftp"), says="ftp://"),
    Case("slide, sent on in a circle", room, slide("to-itself"), says="S1.svs"),
    Case("slide, sent on here", room, slide("to-whole"), check=lone, must_read=True),
    Case("slide, another checksum", room, slide("whole", md5="0" * 32), says="S1.svs"),
    Case("slide, an error page", room, slide("html"), says="S1.svs"),
    Case("slide cut", room, slide("short"), says="S1.svs"),
    Case("slide longer than told", room, slide("long"), says="S1.svs"),
    Case("slide empty", room, slide("empty"), says="S1.svs"),
    Case("slide broken off", room, slide("broken", size=10**12), says="S1.svs"),
    *(Case(f"slide, answer {code}", room, slide(code), says="S1.svs") for code in ("401", "404", "500")),
    Case("slide, nobody there", room, slide("", "http://127.0.0.1:9/a.svs"), says="S1.svs"),
    Case("source over http", room, source("", "http://example.org/a.csv"), says="a.csv"),
    Case("source over ftp", room, source("", "ftp://example.org/a.csv"), says="a.csv"),
    Case("source from a file", room, source("", "file:///etc/passwd"), says="a.csv"),
    Case("source, sent on to http", room, source("to-http"), says="http://"),
    Case("source, sent on in a circle", room, source("to-itself"), says="a.csv"),
    Case("source, sent on here", room, source("to-whole"), check=lone, must_read=True),
    Case("source, another checksum", room, source("whole", sha256="0" * 64), says="a.csv"),
    Case("source, another size", room, source("whole", sha256=None, verified=False, bytes=7), says="a.csv"),
    Case("source, an error page", room, source("html"), says="a.csv"),
    Case("source cut", room, source("short"), says="a.csv"),
    Case("source broken off", room, source("broken"), says="a.csv"),
    *(Case(f"source, answer {code}", room, source(code), says="a.csv") for code in ("401", "404", "500")),
    Case("zip sound", archive("zip", [("a/b.csv", CONTENT)]), unpacked, check=lambda names: "same" if "out/b.csv" in names else "", must_read=True),
    Case("tar sound", archive("tar", [("a/b.csv", CONTENT)]), unpacked, check=lambda names: "same" if "out/b.csv" in names else "", must_read=True),
    *(
        Case(f"{kind} with {name!r}", archive(kind, [("a/b.csv", b"1"), (name, b"evil")]), unpacked, says=f"a.{kind}")
        for kind in ("zip", "tar")
        for name in ("../evil", "a/../../evil", "/evil", "../../../../evil")
    ),
    Case("zip with a backslash", archive("zip", [("..\\..\\evil", b"evil")]), unpacked, says="a.zip"),
    Case("zip with a drive", archive("zip", [("C:\\evil", b"evil")]), unpacked, says="a.zip"),
    Case("zip with a link", archive("zip", [(zip_link(), b"/etc/passwd")]), unpacked, says="a.zip", check=lambda names: "same" if not (Path("out") / "link").is_symlink() else ""),
    Case("zip of a bomb", bomb, unpacked, says="a.zip"),
    Case("zip cut", raw("zip", b"PK\x03\x04" + bytes(100)), unpacked, says="a.zip"),
    Case("zip of html", raw("zip", HTML), unpacked, says="a.zip"),
    Case("zip of zero bytes", raw("zip", b""), unpacked, says="a.zip"),
    Case("zip of nothing", archive("zip", []), unpacked, says="a.zip", check=lambda names: "same" if names == ["a.zip", "out"] else ""),
    Case("tar with a link out", archive("tar", [(link("a/link", "/etc"), b""), ("a/link/evil", b"evil")]), unpacked, says="a.tar"),
    Case("tar with a link up", archive("tar", [(link("a/link", "../../.."), b"")]), unpacked, says="a.tar"),
    Case("tar with a link inside", archive("tar", [("a/b", b"1"), (link("a/link", "b"), b"")]), unpacked, says="a.tar"),
    Case("tar with a hard link out", archive("tar", [(link("a/link", "../../mirror", tarfile.LNKTYPE), b"")]), unpacked, says="a.tar"),
    Case("tar with a device", archive("tar", [(device("a/null"), b"")]), unpacked, says="a.tar"),
    Case("tar with a pipe", archive("tar", [(device("a/pipe", tarfile.FIFOTYPE), b"")]), unpacked, says="a.tar"),
    Case("tar cut", lambda folder: mirrored(folder, _tar()[:-40], "tar"), unpacked, says="a.tar"),
    Case("tar spoilt", lambda folder: mirrored(folder, _tar()[:60] + b"xxxx" + _tar()[64:], "tar"), unpacked, says="a.tar"),
    Case("tar that is gz of text", raw("tar", gzip.compress(b"hello")), unpacked, says="a.tar"),
]  # fmt: skip


def _tar() -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as file:
        about = tarfile.TarInfo("a/b")
        about.size = 5000
        file.addfile(about, io.BytesIO(bytes(range(250)) * 20))
    return held.getvalue()


@pytest.mark.parametrize("case", shown(CASES), ids=lambda case: case.name)
def test_downloads(case, tmp_path):
    folder = tmp_path / "room"
    folder.mkdir()
    judge(case, folder)


@pytest.mark.parametrize("target", ["http://example.org/a", "ftp://example.org/a", "file:///etc/passwd"])
def test_https_is_never_left(target):
    answer = requests.Response()
    answer.status_code, answer.url = 302, "https://example.org/a"
    answer.headers["location"] = target
    with pytest.raises(ValueError, match="only https is fetched"):
        refuse_unsafe_redirect(answer)


def test_a_redirect_that_stays_with_https_passes():
    answer = requests.Response()
    answer.status_code, answer.url = 302, "https://example.org/a"
    answer.headers["location"] = "/b"
    assert refuse_unsafe_redirect(answer) is None


@pytest.mark.parametrize("spoil", ["wrong checksum", "wrong size"])
def test_a_download_that_is_refused_leaves_what_was_there(tmp_path, spoil):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.csv").write_bytes(b"old")
    about = {"sha256": "0" * 64} if spoil == "wrong checksum" else {"bytes": 3}
    with pytest.raises(ValueError, match=r"a\.csv"):
        fetch("s", tmp_path, listed=listed(url=str(SERVER["url"]) + "whole", **about))
    assert (tmp_path / "s" / "a.csv").read_bytes() == b"old"
