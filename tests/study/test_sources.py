"""Fetching: mirror first, then the address; nothing under its final name that was not whole and checked."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from lib import data as sources
from lib.data import Sources, checksum_of, fetch, fetch_all, main, read_sources

CONTENT = b"x\ty\n1\t2\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch):
    monkeypatch.delenv("CROSSBOOK_MIRROR", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    """A server on this machine: `offered` maps paths to bytes, `asked` lists the requests, `cut` breaks off answers."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            content = self.server.offered.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if self.server.cut else content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.offered, server.asked, server.cut = {}, [], False
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def listed(*files: dict, base_url: str = "", cohorts: dict | None = None, by_hand: str = "") -> Sources:
    about = {
        "title": "t",
        "citation": "c",
        "doi": None,
        "licence": "l",
        "homepage": "h",
        "base_url": base_url,
    }
    made = {"a": about | {"files": files, "by_hand": by_hand}}
    return Sources.model_validate({"cohorts": cohorts or {}, "sources": made})


def a_file(**fields) -> dict:
    return {"path": "data/a.tsv", "sha256": SHA256, "verified": True} | fields


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".part")]


def put(folder: Path, path: str, content: bytes = CONTENT) -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def test_mirror_is_tried_before_the_address(tmp_path, server):
    put(tmp_path / "mirror", "a/data/a.tsv")
    server.offered["/data/a.tsv"] = CONTENT
    found = fetch(
        "a", tmp_path / "raw", mirror=tmp_path / "mirror", listed=listed(a_file(), base_url=server.url)
    )
    assert found == [tmp_path / "raw" / "a" / "data" / "a.tsv"]
    assert found[0].read_bytes() == CONTENT
    assert server.asked == []


def test_environment_names_the_mirror(tmp_path, monkeypatch):
    put(tmp_path / "mirror", "a/data/a.tsv")
    monkeypatch.setenv("CROSSBOOK_MIRROR", str(tmp_path / "mirror"))
    assert fetch("a", tmp_path / "raw", listed=listed(a_file()))[0].read_bytes() == CONTENT


def test_mirror_that_is_no_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSBOOK_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"CROSSBOOK_MIRROR names .*nowhere"):
        fetch("a", tmp_path / "raw", listed=listed(a_file()))


def test_address_serves_what_the_mirror_lacks(tmp_path, server):
    (tmp_path / "mirror").mkdir()
    server.offered["/data/a.tsv"] = CONTENT
    server.offered["/elsewhere.bin"] = b"other"
    other = {
        "path": "b.bin",
        "url": "elsewhere.bin",
        "sha256": hashlib.sha256(b"other").hexdigest(),
        "verified": True,
    }
    known = listed(a_file(), other, base_url=server.url)
    found = fetch("a", tmp_path / "raw", mirror=tmp_path / "mirror", listed=known)
    assert [path.read_bytes() for path in found] == [CONTENT, b"other"]
    assert sorted(server.asked) == ["/data/a.tsv", "/elsewhere.bin"]


def test_file_that_is_there_is_not_fetched_again(tmp_path, server, capsys):
    server.offered["/data/a.tsv"] = CONTENT
    known = listed(a_file(), base_url=server.url)
    first = fetch("a", tmp_path, listed=known)[0]
    before = first.stat().st_mtime_ns
    fetch("a", tmp_path, listed=known)
    assert (len(server.asked), first.stat().st_mtime_ns) == (1, before)
    assert "1 files (1 there already)" in capsys.readouterr().out


def test_damaged_file_is_replaced_and_said_so(tmp_path, server, capsys):
    server.offered["/data/a.tsv"] = CONTENT
    target = put(tmp_path, "a/data/a.tsv", CONTENT[:3])
    fetch("a", tmp_path, listed=listed(a_file(), base_url=server.url))
    assert target.read_bytes() == CONTENT
    assert "a/data/a.tsv: does not agree with its checksum, fetched anew" in capsys.readouterr().err


@pytest.mark.parametrize("old", [None, b"old and different"], ids=["nothing there", "another file there"])
@pytest.mark.parametrize("way", ["mirror", "address"])
def test_checksum_that_differs_keeps_the_old_file(tmp_path, server, way, old):
    put(tmp_path / "mirror", "a/data/a.tsv" if way == "mirror" else "a/unrelated", b"tampered")
    server.offered["/data/a.tsv"] = b"tampered"
    target = tmp_path / "raw" / "a" / "data" / "a.tsv"
    if old:
        put(tmp_path / "raw", "a/data/a.tsv", old)
    with pytest.raises(
        ValueError, match=f"a/data/a.tsv from .* has sha256 .*, data/sources.yaml says {SHA256}"
    ):
        fetch("a", tmp_path / "raw", mirror=tmp_path / "mirror", listed=listed(a_file(), base_url=server.url))
    assert (target.read_bytes() if target.exists() else None) == old
    assert leftovers(tmp_path) == []
    assert len(server.asked) == (way == "address")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("sha256", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
        ("md5", "5d41402abc4b2a76b9719d911017c592"),
        ("git_blob", "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"),
    ],
)
def test_checksums_of_hello(tmp_path, kind, value):
    """Published values for the five bytes "hello"; the last is what `git hash-object` prints."""
    put(tmp_path, "hello", b"hello")
    assert checksum_of(tmp_path / "hello", kind) == value


@pytest.mark.parametrize("kind", ["md5", "git_blob"])
def test_other_kinds_of_checksum_are_enforced_too(tmp_path, kind):
    put(tmp_path / "mirror", "a/data/a.tsv", b"hello")
    right = checksum_of(tmp_path / "mirror/a/data/a.tsv", kind)
    wrong = ("0" if right[0] != "0" else "1") + right[1:]
    file = {"path": "data/a.tsv", "verified": True}
    fetch("a", tmp_path / "one", mirror=tmp_path / "mirror", listed=listed(file | {kind: right}))
    with pytest.raises(ValueError, match=f"has {kind} {right}"):
        fetch("a", tmp_path / "two", mirror=tmp_path / "mirror", listed=listed(file | {kind: wrong}))


def test_second_hand_checksum_says_that_it_may_be_the_wrong_one(tmp_path):
    put(tmp_path / "mirror", "a/data/a.tsv", b"tampered")
    with pytest.raises(ValueError, match="it may be the one that is wrong"):
        fetch("a", tmp_path / "raw", mirror=tmp_path / "mirror", listed=listed(a_file(verified=False)))


def test_unverified_file_is_fetched_with_its_sha256_printed(tmp_path, server, capsys):
    server.offered["/data/a.tsv"] = CONTENT
    known = listed({"path": "data/a.tsv", "verified": False}, base_url=server.url)
    fetch("a", tmp_path, listed=known)
    assert f"unverified: a/data/a.tsv sha256 {SHA256}" in capsys.readouterr().err
    fetch("a", tmp_path, listed=known)
    assert len(server.asked) == 1


@pytest.mark.parametrize("checksum", [{"sha256": SHA256}, {"sha256": None}], ids=["with checksum", "without"])
def test_answer_that_breaks_off_leaves_nothing(tmp_path, server, checksum):
    server.offered["/data/a.tsv"], server.cut = CONTENT, True
    with pytest.raises(FileNotFoundError, match=r"cannot get a/data/a\.tsv"):
        fetch("a", tmp_path, listed=listed(a_file(verified=False, **checksum), base_url=server.url))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_stopped_in_the_middle_goes_on_with_what_is_missing(tmp_path, server):
    server.offered["/data/a.tsv"] = CONTENT
    known = listed(a_file(), {"path": "b", "sha256": SHA256, "verified": True}, base_url=server.url)
    with pytest.raises(FileNotFoundError, match="HTTP 404"):
        fetch("a", tmp_path, listed=known)
    server.offered["/b"] = CONTENT
    fetch("a", tmp_path, listed=known)
    assert server.asked == ["/data/a.tsv", "/b", "/b"]


def test_published_nowhere_and_no_mirror(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"comes from a mirror only, and CROSSBOOK_MIRROR is not set"):
        fetch("a", tmp_path, listed=listed(a_file(url=None)))


def test_groups_are_optional_and_checked(tmp_path):
    put(tmp_path / "mirror", "a/data/a.tsv")
    put(tmp_path / "mirror", "a/picture.jpg")
    known = listed(a_file(), a_file(path="picture.jpg", group="pictures"))
    assert len(fetch("a", tmp_path, mirror=tmp_path / "mirror", listed=known)) == 1
    assert len(fetch("a", tmp_path, mirror=tmp_path / "mirror", groups=["pictures"], listed=known)) == 2
    with pytest.raises(ValueError, match="no group of a named picture; did you mean pictures"):
        fetch("a", tmp_path, mirror=tmp_path / "mirror", groups=["picture"], listed=known)


def a_tar(names: list[str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(CONTENT)
            archive.addfile(info, io.BytesIO(CONTENT))
    return stream.getvalue()


def a_zip(names: list[str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, CONTENT)
    return stream.getvalue()


@pytest.mark.parametrize("pack", [a_tar, a_zip])
@pytest.mark.parametrize(
    "names", [["spatial/x.csv", "spatial/y.csv"], ["x.csv", "y.csv"]], ids=["folder", "flat"]
)
def test_archive_becomes_the_folder_it_is_said_to(tmp_path, pack, names):
    put(tmp_path / "mirror", "a/s.archive", pack(names))
    known = listed({"path": "s.archive", "unpack": "section/spatial", "verified": False})
    fetch("a", tmp_path / "raw", mirror=tmp_path / "mirror", listed=known)
    folder = tmp_path / "raw/a/section/spatial"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"x.csv": CONTENT, "y.csv": CONTENT}
    assert leftovers(tmp_path) == []

    (tmp_path / "raw/a/s.archive").unlink()
    (folder / "x.csv").write_bytes(b"edited")
    fetch("a", tmp_path / "raw", mirror=tmp_path / "mirror", listed=known)
    assert (folder / "x.csv").read_bytes() == b"edited"


@pytest.mark.parametrize("pack", [a_tar, a_zip])
def test_archive_cannot_write_outside_its_folder(tmp_path, pack):
    put(tmp_path / "mirror", "a/s.archive", pack(["../../../escaped.txt", "fine.txt"]))
    known = listed({"path": "s.archive", "unpack": "s", "verified": False})
    with pytest.raises(ValueError, match="cannot be unpacked"):
        fetch("a", tmp_path / "raw", mirror=tmp_path / "mirror", listed=known)
    assert list(tmp_path.rglob("escaped.txt")) == []
    assert leftovers(tmp_path) == []


def test_broken_archive_is_named(tmp_path):
    put(tmp_path / "mirror", "a/s.zip", b"no archive")
    with pytest.raises(ValueError, match=r"s\.zip cannot be unpacked"):
        fetch(
            "a",
            tmp_path,
            mirror=tmp_path / "mirror",
            listed=listed({"path": "s.zip", "unpack": "s", "verified": False}),
        )
    assert not (tmp_path / "a" / "s").exists()


@pytest.mark.parametrize("path", ["../out", "/etc/out"])
def test_path_outside_the_source_is_refused(path):
    with pytest.raises(ValidationError, match="must stay below"):
        listed(a_file(path=path))


def test_verified_without_a_checksum_is_refused():
    with pytest.raises(ValidationError, match="called verified and has no checksum"):
        listed({"path": "a", "verified": True})


def test_what_a_cohort_wants_may_be_missing_and_what_it_needs_may_not(tmp_path, monkeypatch, capsys):
    put(tmp_path / "mirror", "a/data/a.tsv")
    known = listed(a_file(), cohorts={"c": {"needs": ["a"], "wants": ["b"]}, "seed": {}})
    known.sources["b"] = listed(a_file(path="missing", url=None)).sources["a"]
    monkeypatch.setattr(sources, "read_sources", lambda: known)
    monkeypatch.setenv("CROSSBOOK_MIRROR", str(tmp_path / "mirror"))
    fetch_all("c", tmp_path / "raw")
    assert "c: goes without the source b: b/missing is published nowhere" in capsys.readouterr().err
    fetch_all("seed", tmp_path / "raw")
    assert "needs no files" in capsys.readouterr().out
    assert main(["b", "--raw", str(tmp_path / "raw")]) == 1


def test_second_of_two_alternatives_is_fetched_only_where_the_first_cannot_be_had(
    tmp_path, monkeypatch, capsys
):
    known = listed(a_file(url=None), cohorts={"c": {"needs": ["a | b"]}})
    known.sources["b"] = listed(a_file(path="b.tsv", url=None)).sources["a"]
    monkeypatch.setattr(sources, "read_sources", lambda: known)
    monkeypatch.setenv("CROSSBOOK_MIRROR", str(tmp_path))
    assert main(["c", "--raw", str(tmp_path / "raw")]) == 1
    assert "a/data/a.tsv is published nowhere" in (said := capsys.readouterr().err)
    assert "; and b/b.tsv is published nowhere" in said
    put(tmp_path, "b/b.tsv")
    fetch_all("c", tmp_path / "raw")
    assert [path.name for path in (tmp_path / "raw").rglob("*.tsv")] == ["b.tsv"]
    put(tmp_path, "a/data/a.tsv")
    fetch_all("c", tmp_path / "raw2")
    assert [path.name for path in (tmp_path / "raw2").rglob("*.tsv")] == ["a.tsv"]


def test_unknown_name_gets_the_nearest_one(capsys):
    assert main(["her2sd"]) == 1
    assert (
        capsys.readouterr().err
        == "data: data/sources.yaml has no cohort or source named her2sd; did you mean her2st?\n"
    )


def test_no_mirror_and_no_network_is_one_sentence(tmp_path, root):
    """The real command, with an address nobody listens on for a proxy: exit code 1, one line, no traceback."""
    nobody = "http://127.0.0.1:9"
    environment = {**os.environ, "https_proxy": nobody, "HTTPS_PROXY": nobody, "no_proxy": ""}
    environment.pop("CROSSBOOK_MIRROR", None)
    command = [sys.executable, "-m", "lib.data", "her2st", "--raw", str(tmp_path)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "CROSSBOOK_MIRROR is not set, and https://raw.githubusercontent.com/" in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_list_itself():
    known = read_sources()
    for name, cohort in known.cohorts.items():
        needs = [one.strip() for need in cohort.needs for one in need.split("|")]
        needed = {need.partition(":")[0] for need in [*needs, *cohort.wants]}
        assert needed <= set(known.sources), name
    for name, about in known.sources.items():
        paths = [file.path for file in about.files]
        assert len(paths) == len(set(paths)), name
        for file in about.files:
            assert about.url(file) is None or about.url(file).startswith("https://"), file.path
    her2st = [file for file in known.sources["her2st"].files if not file.group]
    assert (len(her2st), {file.verified for file in her2st}) == (63, {True})
    assert len([file for file in known.sources["her2st"].files if file.group == "pictures"]) == 8


@pytest.mark.parametrize("cohort", ["vihbc", "idc", "xehbc"])
def test_files_land_where_the_section_table_looks(root, cohort):
    table = pd.read_csv(
        root / "data" / "cohorts" / "spacrd" / f"{cohort}.csv", dtype=str, keep_default_na=False
    )
    about = read_sources().sources[cohort]
    assert {Path(file.path).parts[0] for file in about.files} == set(table["folder"])
    places = {Path(file.unpack or file.path).name for file in about.files}
    assert places >= (
        {"cell_feature_matrix.h5"} if cohort == "xehbc" else {"filtered_feature_bc_matrix.h5", "spatial"}
    )


@pytest.mark.real
@pytest.mark.parametrize("source", ["her2st", "weights", "ct/lro_headneck", "ct/totalsegmentator"])
def test_real_files_agree_with_the_list(mirror, source):
    for file in read_sources().sources[source].files:
        path = mirror / source / file.path
        if file.group == "pictures" and not path.exists():
            continue
        assert path.stat().st_size == file.bytes, file.path
        assert checksum_of(path, "sha256") == file.sha256, file.path
