"""Fetching: mirror first, then the address; nothing under its final name that was not whole and checked."""

import hashlib
import io
import json
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

from lib import data
from lib.data import Sources, ask_gdc, checksum_of, fetch, fetch_all, fetch_slides, main, read_sources, there
from lib.params import load

CONTENT = b"x\ty\n1\t2\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No mirror, no token, no proxy, no gdc-client of this machine; no waiting."""
    for name in ("CROSSBOOK_MIRROR", "GDC_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(data.time, "sleep", lambda seconds: None)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def server():
    """A server on this machine: `offered` maps paths to bytes, `cuts` the lengths at which answers break off."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted, me = self.headers.get("Range"), self.server
            me.asked.append((self.path, wanted))
            me.tokens.append(self.headers.get("X-Auth-Token"))
            content = me.offered.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: me.cuts.pop(0) if me.cuts else None])

        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            names = question["filters"]["content"]["value"]
            hits = [row for row in self.server.hits if row["file_name"] in names]
            answer = json.dumps({"data": {"hits": hits}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.offered, server.asked, server.tokens, server.cuts, server.hits = {}, [], [], [], []
    server.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def listed(*files: dict, base_url: str = "", cohorts: dict | None = None) -> Sources:
    about = {"doi": None, "base_url": base_url} | dict.fromkeys(
        ("title", "citation", "licence", "homepage"), "x"
    )
    return Sources.model_validate({"cohorts": cohorts or {}, "sources": {"a": about | {"files": files}}})


def a_file(**fields) -> dict:
    return {"path": "data/a.tsv", "sha256": SHA256, "verified": True} | fields


def put(folder: Path, path: str, content: bytes = CONTENT) -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_mirror_is_tried_before_the_address_which_serves_what_it_lacks(tmp_path, server, monkeypatch):
    put(tmp_path / "mirror", "a/data/a.tsv")
    server.offered |= {"/data/a.tsv": CONTENT, "/elsewhere.bin": b"other"}
    other = a_file(path="b.bin", url="elsewhere.bin", sha256=hashlib.sha256(b"other").hexdigest())
    monkeypatch.setenv("CROSSBOOK_MIRROR", str(tmp_path / "mirror"))
    found = fetch("a", tmp_path / "raw", listed=listed(a_file(), other, base_url=server.url))
    assert found == [tmp_path / "raw" / "a" / name for name in ("data/a.tsv", "b.bin")]
    assert [path.read_bytes() for path in found] == [CONTENT, b"other"]
    assert server.asked == [("/elsewhere.bin", None)]
    monkeypatch.setenv("CROSSBOOK_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"CROSSBOOK_MIRROR names .*nowhere"):
        fetch("a", tmp_path / "raw", listed=listed(a_file()))


@pytest.mark.parametrize("verified", [True, False])
def test_what_is_there_stays_and_what_is_damaged_is_replaced(tmp_path, server, capsys, verified):
    server.offered["/data/a.tsv"] = CONTENT
    known = listed(a_file(verified=verified), base_url=server.url)
    path = fetch("a", tmp_path, listed=known)[0]
    assert (f"unverified: a/data/a.tsv sha256 {SHA256}" in capsys.readouterr().err) != verified
    before = path.stat().st_mtime_ns
    fetch("a", tmp_path, listed=known)
    assert (len(server.asked), path.stat().st_mtime_ns) == (1, before)
    path.write_bytes(CONTENT[:3])
    fetch("a", tmp_path, listed=known)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("way", "kind", "old"),
    [("mirror", "sha256", b"other"), ("address", "md5", None), ("address", "sha256", b"other")],
)
def test_checksum_that_differs_keeps_the_old_file(tmp_path, server, kind, way, old):
    put(tmp_path / "mirror", "a/data/a.tsv" if way == "mirror" else "a/unrelated", b"tampered")
    server.offered["/data/a.tsv"] = b"tampered"
    if old:
        put(tmp_path / "raw", "a/data/a.tsv", old)
    file = {"path": "data/a.tsv", kind: hashlib.new(kind, CONTENT).hexdigest(), "verified": True}
    with pytest.raises(ValueError, match=r"hash of downloaded file \(a\.tsv\) does not match"):
        fetch("a", tmp_path / "raw", tmp_path / "mirror", listed=listed(file, base_url=server.url))
    target = tmp_path / "raw" / "a" / "data" / "a.tsv"
    assert (target.read_bytes() if target.exists() else None) == old
    assert names_in(tmp_path / "raw") == ["a.tsv"] * bool(old)


def test_size_and_name_in_git_are_enforced_too(tmp_path):
    """The name is what `git hash-object` prints for the five bytes "hello"."""
    put(tmp_path / "mirror", "a/data/a.tsv", b"hello")
    right = a_file(sha256=None, git_blob="b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0", bytes=5)
    put(tmp_path, "raw/a/data/a.tsv", b"damaged")
    assert fetch("a", tmp_path / "raw", tmp_path / "mirror", listed=listed(right))[0].read_bytes() == b"hello"
    for wrong in ({"bytes": 6}, {"git_blob": "0" * 40}):
        with pytest.raises(ValueError, match=r"a/data/a\.tsv has 5 bytes.* not as in data/sources\.yaml"):
            fetch("a", tmp_path / "other", tmp_path / "mirror", listed=listed(right | wrong))
    assert names_in(tmp_path / "other") == []


def test_download_goes_on_where_it_broke_off_in_one_run_and_in_the_next(tmp_path, server):
    content = bytes(range(256)) * 1000
    server.offered["/data/a.tsv"] = content
    known = listed(a_file(sha256=hashlib.sha256(content).hexdigest()), base_url=server.url)
    server.cuts = [70_000, 100_000, 0, 0, 0, 0, 0]
    with pytest.raises(FileNotFoundError, match=r"cannot get a\.tsv: 127.* failed \("):
        fetch("a", tmp_path, listed=known)
    assert names_in(tmp_path) == [".a.tsv.partial"], "nothing under the final name"
    kept = (tmp_path / "a/data/.a.tsv.partial").stat().st_size
    assert 0 < kept < len(content)
    assert fetch("a", tmp_path, listed=known)[0].read_bytes() == content
    assert server.asked[-1] == ("/data/a.tsv", f"bytes={kept}-")
    assert names_in(tmp_path) == ["a.tsv"]


def test_groups_are_optional_and_checked(tmp_path):
    put(tmp_path / "mirror", "a/data/a.tsv")
    put(tmp_path / "mirror", "a/picture.jpg")
    known = listed(a_file(), a_file(path="picture.jpg", group="pictures"))
    assert len(fetch("a", tmp_path, tmp_path / "mirror", listed=known)) == 1
    assert len(fetch("a", tmp_path, tmp_path / "mirror", groups=["pictures"], listed=known)) == 2
    with pytest.raises(ValueError, match="no group of a named picture; did you mean 'pictures'"):
        fetch("a", tmp_path, tmp_path / "mirror", groups=["picture"], listed=known)


def archive(kind: str, names: list[str]) -> bytes:
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as file:
            for name in names:
                file.writestr(name, CONTENT)
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as file:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(CONTENT)
                file.addfile(info, io.BytesIO(CONTENT))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("inside", ["spatial/", ""])
def test_archive_becomes_the_folder_it_is_said_to(tmp_path, kind, inside):
    put(tmp_path / "mirror", f"a/s.{kind}", archive(kind, [f"{inside}x.csv", f"{inside}y.csv"]))
    known = listed({"path": f"s.{kind}", "unpack": "section/spatial", "verified": False})
    fetch("a", tmp_path / "raw", tmp_path / "mirror", listed=known)
    folder = tmp_path / "raw/a/section/spatial"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"x.csv": CONTENT, "y.csv": CONTENT}
    assert [path.name for path in folder.parent.iterdir()] == ["spatial"]
    (tmp_path / f"raw/a/s.{kind}").unlink()
    fetch("a", tmp_path / "raw", tmp_path / "mirror", listed=known)
    assert not (tmp_path / f"raw/a/s.{kind}").exists(), "what was unpacked is enough"


def test_broken_archive_is_named_and_none_writes_outside_its_folder(tmp_path):
    wrong = {"s.zip": b"no archive", "t.tar.gz": archive("tar.gz", ["../../out.txt", "fine"])}
    for name, content in wrong.items():
        put(tmp_path / "mirror", f"a/{name}", content)
        known = listed({"path": name, "unpack": "s", "verified": False})
        refused = pytest.raises((OSError, tarfile.TarError), match=rf"{name} is not a zip|outside the dest")
        with refused:
            fetch("a", tmp_path / "raw", tmp_path / "mirror", listed=known)
    assert names_in(tmp_path / "raw") == ["s.zip", "t.tar.gz"]


@pytest.mark.parametrize(
    "fields",
    [{"path": "../out"}, {"path": "/etc/out"}, {"sha256": None}, {"sha": "0"}, {"verified": "perhaps"}],
)
def test_wrong_entry_of_the_list_is_refused(fields):
    with pytest.raises(ValidationError):
        listed(a_file(**fields))


def test_wants_may_be_missing_needs_may_not_and_first_alternatives_are_taken(tmp_path, monkeypatch, capsys):
    needs = {"c": {"needs": ["a | b"], "wants": ["w"]}, "seed": {}}
    known = listed(a_file(url=None), cohorts=needs)
    known.sources["b"] = listed(a_file(path="b.tsv", url=None)).sources["a"]
    known.sources["w"] = listed(a_file(path="w.tsv", url=None)).sources["a"]
    monkeypatch.setattr(data, "read_sources", lambda: known)
    monkeypatch.setenv("CROSSBOOK_MIRROR", str(tmp_path / "mirror"))
    put(tmp_path, "mirror/unrelated")
    assert main(["c", "--raw", str(tmp_path / "raw")]) == 1
    said = capsys.readouterr().err
    assert "a/data/a.tsv is published nowhere" in said
    assert "; and b/b.tsv is published nowhere" in said
    put(tmp_path, "mirror/b/b.tsv")
    fetch_all("c", tmp_path / "raw")
    assert names_in(tmp_path / "raw") == ["b.tsv"]
    assert "c: goes without the source w" in capsys.readouterr().err
    put(tmp_path, "mirror/a/data/a.tsv")
    fetch_all("c", tmp_path / "raw2")
    assert names_in(tmp_path / "raw2") == ["a.tsv"]
    fetch_all("seed", tmp_path / "raw")
    assert "needs no files" in capsys.readouterr().out


def test_no_mirror_and_no_network_is_one_sentence(tmp_path, root):
    """The real command, with an address nobody listens on for a proxy: exit code 1, one line, no traceback."""
    nobody = "http://127.0.0.1:9"
    environment = {**os.environ, "https_proxy": nobody, "HTTPS_PROXY": nobody, "no_proxy": ""}
    code = "import sys; from lib import data; data.time.sleep = lambda s: None; sys.exit(data.main())"
    command = [sys.executable, "-c", code, "her2st", "--raw", str(tmp_path / "raw")]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("data: cannot get ")
    assert names_in(tmp_path / "raw") == []
    assert main(["her2sd"]) == 1


def test_the_list_itself(root):
    known = read_sources()
    files = [path for path in root.glob("params/*/*.yaml") if "kind: open" in path.read_text("utf-8")]
    assert {path.stem for path in files} <= set(known.cohorts)
    for name, cohort in known.cohorts.items():
        needs = [one.strip() for need in cohort.needs for one in need.split("|")]
        assert {need.partition(":")[0] for need in [*needs, *cohort.wants]} <= set(known.sources), name
    for name, about in known.sources.items():
        paths = [file.path for file in about.files]
        assert len(paths) == len(set(paths)), name
        for file in about.files:
            assert about.url(file) is None or about.url(file).startswith(("https://", "pip:")), file.path
    her2st = [file for file in known.sources["her2st"].files if not file.group]
    assert (len(her2st), {file.verified for file in her2st}) == (63, {True})
    for cohort in ("vihbc", "idc", "xehbc"):  # files land where the section table looks
        table = pd.read_csv(root / "data" / "cohorts" / "spacrd" / f"{cohort}.csv", dtype=str)
        files = known.sources[cohort].files
        assert {Path(file.path).parts[0] for file in files} == set(table["folder"])
        matrix = "cell_feature_matrix.h5" if cohort == "xehbc" else "filtered_feature_bc_matrix.h5"
        assert matrix in {Path(file.unpack or file.path).name for file in files}
    table, files = pd.read_csv(root / "data/cohorts/spacrd/crc.csv", dtype=str), known.sources["crc"].files
    assert {*table["folder"], "Pathology_SpotAnnotations"} == {file.unpack for file in files}
    assert all(file.md5 for file in files)


@pytest.mark.real
@pytest.mark.parametrize("source", ["her2st", "weights", "ct/lro_headneck", "ct/totalsegmentator"])
def test_real_files_agree_with_the_list(mirror, source):
    for file in read_sources().sources[source].files:
        path = mirror / source / file.path
        if file.group == "pictures" and not path.exists():
            continue
        assert path.stat().st_size == file.bytes, file.path
        assert checksum_of(path, "sha256") == file.sha256, file.path


SLIDES = {f"TCGA-AA-000{i}-01Z-00-DX1.{i}.svs": bytes([i]) * (40_000 + 50_000 * i) for i in range(3)}


@pytest.fixture
def gdc(server, monkeypatch):
    for number, (name, body) in enumerate(SLIDES.items()):
        id = f"37d511f7-036f-4750-b40e-8ef00a8ecf{number:02d}"
        about = {"file_id": id, "file_name": name, "file_size": len(body)}
        server.hits.append(about | {"md5sum": hashlib.md5(body).hexdigest()})
        server.offered[f"/data/{id}"] = body
    monkeypatch.setattr(data, "GDC", server.url.rstrip("/"))
    return server


ROW = "{}\tBiospecimen\tSlide Image\tTCGA-BRCA\tTCGA-BH-A1FU\t{}\n"


@pytest.mark.parametrize("suffix", [".svs", ".ndpi", ""])
def test_slides_are_named_by_a_table_with_any_suffix_or_by_a_sample_sheet(tmp_path, gdc, capsys, suffix):
    """A sheet has a row a sample, so that slides stand twice, and other files beside them."""
    stem, *others = [name.removesuffix(".svs") for name in SLIDES]
    (tmp_path / "t.csv").write_text(f"case_id,slide_id\np,{stem}{suffix}\n")
    lines = [ROW.format(f"{stem}.svs", f"{stem[:15]}{end}") for end in "ZA"]
    lines += [ROW.format(f"{others[0]}.svs", "x"), ROW.format("clinical.xml", "y")]
    head = "File Name\tData Category\tData Type\tProject ID\tCase ID\tSample ID\n"
    (tmp_path / "sheet.tsv").write_text(head + "".join(lines))
    for table, count in (("t.csv", 1), ("sheet.tsv", 2)):
        assert main(["--slides", str(tmp_path / table), "--into", str(tmp_path / "into"), "--dry-run"]) == 0
        assert f"in {count} slides" in capsys.readouterr().out


def test_a_manifest_of_cptac_is_taken_whole_and_what_is_none_is_named(tmp_path, capsys):
    row = "{}\tC3L-00001-{}.svs\t" + "a" * 32 + "\t10\treleased\n"
    head = "id\tfilename\tmd5\tsize\tstate\n"
    (tmp_path / "m.txt").write_text(head + row.format("1", "21") + row.format("2", "26"))
    assert main(["--manifest", str(tmp_path / "m.txt"), "--into", str(tmp_path), "--dry-run"]) == 0
    assert "in 2 slides" in capsys.readouterr().out
    (tmp_path / "sheet.tsv").write_text("File ID\tFile Name\n1\tx.svs\n")
    assert main(["--manifest", str(tmp_path / "sheet.tsv"), "--into", str(tmp_path), "--dry-run"]) == 1
    assert "sheet.tsv is no manifest of the GDC" in capsys.readouterr().err


def test_slides_of_a_table_come_whole_once_and_are_checked(tmp_path, gdc, capsys):
    table, into = tmp_path / "slides.csv", tmp_path / "slides"
    table.write_text("\n".join(["slide", *SLIDES, "TCGA-none"]).replace(".svs", ""))
    command = ["--slides", str(table), "--into", str(into)]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "1 of 4 slides are not known by the GDC" in said
    assert "in 3 slides; 0 are there" in said
    assert not into.exists()
    gdc.cuts = [10_000]
    assert main(command) == 0
    assert {name: (into / name).read_bytes() for name in SLIDES} == SLIDES
    assert sorted(names_in(into)) == sorted([*SLIDES, "manifest.txt"])
    asked = len(gdc.asked)
    assert main(command) == 0
    assert len(gdc.asked) == asked, "what is there is not asked for again"
    first = next(iter(SLIDES))
    (into / first).write_bytes(b"\1" * len(SLIDES[first]))
    manifest = ask_gdc(SLIDES)
    assert there(manifest, into).all()
    assert there(manifest, into, verify=True).tolist() == [False, True, True]
    assert main([*command, "--verify"]) == 0
    assert (into / first).read_bytes() == SLIDES[first]


def test_slide_with_another_md5_is_not_kept_and_the_others_come_with_the_token(tmp_path, gdc, monkeypatch):
    gdc.offered[next(iter(gdc.offered))] = b"\7" * 40_000
    monkeypatch.setenv("GDC_TOKEN", "a-secret-token")
    failed = fetch_slides(ask_gdc(SLIDES), tmp_path)
    assert len(failed) == 1
    assert "does not match" in failed[0]
    assert set(gdc.tokens) == {"a-secret-token"}
    assert names_in(tmp_path) == sorted([*list(SLIDES)[1:], "manifest.txt"])


def test_gdc_client_does_the_transfer_where_there_is_one(tmp_path, gdc):
    """A client of a few lines: the manifest's files in folders named by their ids."""
    client = tmp_path / "bin" / "gdc-client"
    client.write_text(
        f"#!{sys.executable}\nimport sys, pathlib\n"
        "rows = [line.split('\\t') for line in open(sys.argv[3]).read().splitlines()[1:]]\n"
        "for i, (id, name, md5, size) in enumerate(rows):\n"
        "    folder = pathlib.Path(sys.argv[5], id); folder.mkdir()\n"
        "    (folder / name).write_bytes(bytes([i]) * int(size))\n"
    )
    client.chmod(0o755)
    assert fetch_slides(ask_gdc(SLIDES), tmp_path / "slides") == []
    assert {name: (tmp_path / "slides" / name).read_bytes() for name in SLIDES} == SLIDES
    assert gdc.asked == []


def test_state_of_raw_files_changes_with_them_and_not_with_what_the_stage_fetched(
    tmp_path, monkeypatch, root
):
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.setattr(data, "RAW", tmp_path / "data" / "raw")
    params = load(root / "params" / "crossfusion" / "luad.yaml")
    assert data.raw_state(params) == ""
    slides = tmp_path / "data" / "raw" / params.slides
    states = [data.raw_state(params)]
    for change in ("a.svs 1", "b.svs 1", "b.svs 12", "t.csv 1", "t.csv 2"):
        put(slides, change.split()[0], change.split()[1].encode())
        states.append(data.raw_state(params))
    assert len(set(states)) == len(states)
    put(slides, ".c.svs.partial")
    assert data.raw_state(params) == states[-1], "a download under way"
    assert data.raw_state(load(root / "params" / "crossfusion" / "demo.yaml")) == ""
    own = load(root / "params" / "spacrd" / "patients.yaml")
    states = [data.raw_state(own)]
    for name in ("sections.csv", "one/matrix.h5"):
        put(tmp_path / "data" / "raw" / "patients" / "spacrd", name)
        states.append(data.raw_state(own))
    assert len(set(states)) == 3, "the files beside a table in data/raw are that cohort's"
    record = put(tmp_path, "raw.json", json.dumps({"begun": "few", "ended": "many"}).encode())
    assert [data.since(record, now) for now in ("many", "more")] == ["few", "more"]
    assert data.since(tmp_path / "none.json", "many") == "many"
