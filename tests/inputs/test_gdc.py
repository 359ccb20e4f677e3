"""From a manifest to slides: a small GDC on this machine, and a gdc-client of a few lines."""

import hashlib
import json
import shutil
import stat
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

from lib.data import BLOCK, part_of
from lib.inputs.gdc import completed, describe, fetch_slides, main, plan
from lib.inputs.manifests import read_manifest

SLIDES = {f"TCGA-AA-000{i}-01Z-00-DX1.{i}.svs": bytes([i]) * (40_000 + 50_000 * i) for i in range(4)} | {
    "TCGA-AA-0000-01A-01-TS1.9.svs": b"frozen" * 100
}
IDS = {name: f"37d511f7-036f-4750-b40e-8ef00a8ecf{i:02d}" for i, name in enumerate(SLIDES)}
DX = [name for name in SLIDES if "-DX1" in name]


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No gdc-client, no token, no proxy of this machine."""
    for name in ("GDC_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def server():
    """The two addresses of the GDC that are used; `asked` lists requests, `cuts` breaks off the answers for a file."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            me, id, wanted = self.server, self.path.removeprefix("/data/"), self.headers.get("Range")
            me.asked.append((id, wanted))
            me.tokens.append(self.headers.get("X-Auth-Token"))
            body = next((me.offered[name] for name in me.offered if IDS[name] == id), None)
            if body is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start:][: me.cuts[id].pop(0) if me.cuts.get(id) else None])

        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.asked.append((self.path, question["filters"]["content"]["field"]))
            about = question["filters"]["content"]
            hits = [
                {"file_id": IDS[name], "file_name": name, "md5sum": md5(body), "file_size": len(body)}
                for name, body in self.server.offered.items()
                if {"file_name": name, "file_id": IDS[name]}[about["field"]] in about["value"]
            ]
            answer = json.dumps({"data": {"hits": hits}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.offered, server.asked, server.tokens, server.cuts = dict(SLIDES), [], [], {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def md5(body):
    return hashlib.md5(body).hexdigest()


@pytest.fixture
def listed(tmp_path):
    """A manifest of all slides and of a file that is none."""
    rows = [(IDS[name], name, md5(body), len(body), "released") for name, body in SLIDES.items()]
    rows.append(("5cc151cb-2e7c-41dd-a7d0-620f07c69b4a", "clinical.txt", "0" * 32, 10**15, "released"))
    path = tmp_path / "manifest.txt"
    pd.DataFrame(rows, columns=["id", "filename", "md5", "size", "state"]).to_csv(path, sep="\t", index=False)
    return path


@pytest.fixture
def manifest(listed):
    return read_manifest(listed).query("filename in @DX")


@pytest.fixture
def into(tmp_path):
    return tmp_path / "slides"


def fetch(manifest, into, server, **settings):
    return fetch_slides(manifest, into, server=server.url, **{"wait": 0.01, "timeout": 5} | settings)


def whole(into):
    return {path.name: path.read_bytes() for path in into.iterdir()} == {name: SLIDES[name] for name in DX}


def test_slides_come_whole_and_once(manifest, into, server):
    assert fetch(manifest, into, server) == [into / name for name in DX]
    assert whole(into)
    assert sorted(server.asked) == [(IDS[name], None) for name in DX]
    fetch(manifest, into, server)
    assert len(server.asked) == 4


def test_broken_connections_are_taken_up(manifest, into, server):
    server.cuts = {IDS[DX[1]]: [2 * BLOCK, BLOCK], IDS[DX[3]]: [BLOCK]}
    fetch(manifest, into, server, at_once=1)
    assert whole(into)
    ranges = [wanted for id, wanted in server.asked if id == IDS[DX[1]]]
    assert ranges == [None, f"bytes={2 * BLOCK}-", f"bytes={3 * BLOCK}-"]


def test_one_bad_slide_does_not_stop_the_others(manifest, into, server, capsys):
    server.offered[DX[2]] = SLIDES[DX[2]][:-1] + b"\xff"
    del server.offered[DX[0]]
    with pytest.raises(RuntimeError, match=rf"2 of 4 slides failed, the first: .* no {DX[0]}"):
        fetch(manifest, into, server)
    assert sorted(path.name for path in into.iterdir()) == [DX[1], DX[3]]
    said = capsys.readouterr().err
    assert f"FAILED {DX[2]}" in said
    assert "the manifest says" in said
    server.offered = dict(SLIDES)
    server.asked.clear()
    fetch(manifest, into, server)
    assert {id for id, _ in server.asked} == {IDS[DX[0]], IDS[DX[2]]}
    assert whole(into)


def test_a_dry_run_prints_sizes_and_total_and_downloads_nothing(listed, into, server, capsys):
    assert main([str(listed), "--into", str(into), "--dry-run", "--server", server.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[:-1]] == DX
    total = sum(len(SLIDES[name]) for name in DX) / 2**30
    assert f"{total:.3f} GiB in 4 slides; 0 of them are there; {total:.3f} GiB to come" in lines[-1]
    assert not into.exists()
    assert server.asked == []


def test_a_plan_tells_what_is_there_begun_damaged_and_absent(manifest, into):
    (into / IDS[DX[1]]).mkdir(parents=True)
    (into / DX[0]).write_bytes(SLIDES[DX[0]])
    (into / IDS[DX[1]] / DX[1]).write_bytes(SLIDES[DX[1]])  # as gdc-client leaves it
    (into / DX[2]).write_bytes(SLIDES[DX[2]][:-1])
    part_of(into / DX[3]).write_bytes(SLIDES[DX[3]][:1000])
    planned = plan(manifest, into)
    assert planned["state"].tolist() == ["there", "there", "damaged", "begun"]
    assert planned["path"].tolist()[1] == into / IDS[DX[1]] / DX[1]
    size = [len(SLIDES[name]) for name in DX]
    assert planned["missing"].tolist() == [0, 0, size[2], size[3] - 1000]
    assert "2 of them are there" in describe(planned)
    (into / DX[0]).write_bytes(SLIDES[DX[0]][:-1] + b"\xff")  # harm that the size does not show
    assert plan(manifest, into)["state"][0] == "there"
    assert plan(manifest, into, verify=True)["state"].tolist()[:2] == ["damaged", "there"]


def test_a_sample_sheet_is_completed_by_the_gdc(manifest, into, server):
    sheet = manifest.assign(size=pd.Series([1, pd.NA, 3, 4], dtype="Int64", index=manifest.index))
    sheet.loc[sheet.index[3], "md5"] = ""
    known = completed(sheet, server.url)
    assert known["filename"].tolist() == DX
    assert known["size"].tolist() == [1, len(SLIDES[DX[1]]), 3, len(SLIDES[DX[3]])]
    assert known["md5"].tolist() == [md5(SLIDES[name]) for name in DX]
    assert server.asked == [("/files", "file_id")]
    assert completed(manifest, "http://127.0.0.1:9") is manifest
    del server.offered[DX[1]]
    with pytest.raises(ValueError, match=rf"the GDC has no {DX[1]} .*1 such files.*old"):
        completed(sheet, server.url)


def test_a_file_that_the_gdc_calls_otherwise_is_not_taken(manifest, server):
    sheet = manifest.assign(md5="", filename=["renamed.svs", *DX[1:]])
    with pytest.raises(
        ValueError, match=r"the GDC has no renamed.svs under the id of the manifest \(1 such files\)"
    ):
        completed(sheet, server.url)


def test_slides_of_a_table_without_a_manifest(into, server, tmp_path, capsys):
    table = tmp_path / "tcga_survival.csv"
    pd.DataFrame({"slide_id": [*DX[1:3], "TCGA-ZZ-0000-01Z-00-DX1.x.svs"]}).to_csv(table, index=False)
    assert main(["--slides", str(table), "--into", str(into), "--server", server.url]) == 0
    assert sorted(path.name for path in into.iterdir()) == DX[1:3]
    assert "1 of 3 slides are not in the manifest, the first is TCGA-ZZ-0000" in capsys.readouterr().err


def test_a_table_picks_from_a_manifest_frozen_sections_too(listed, into, server, tmp_path):
    table = tmp_path / "cohort.csv"
    names = [name.removesuffix(".svs") for name in (DX[0], "TCGA-AA-0000-01A-01-TS1.9.svs")]
    pd.DataFrame({"slide": names}).to_csv(table, index=False)
    command = [str(listed), "--slides", str(table), "--into", str(into), "--server", server.url]
    assert main(command) == 0
    assert sorted(path.stem for path in into.iterdir()) == sorted(names)


def test_a_full_disk_is_noticed_before_anything_is_begun(manifest, into, server, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(OSError, match="nothing was begun"):
        fetch(manifest, into, server)
    assert server.asked == []


def test_a_token_goes_to_the_server_and_only_from_the_environment(manifest, into, server, monkeypatch):
    monkeypatch.setenv("GDC_TOKEN", "secret")
    fetch(manifest, into, server)
    assert set(server.tokens) == {"secret"}


CLIENT = """#!{python}
import pathlib, sys
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == "download" and set(given) == {{"-m", "-d", "-n"}}
folder = pathlib.Path(given["-d"])
lines = pathlib.Path(given["-m"]).read_text(encoding="utf-8").splitlines()
assert lines[0].split("\\t") == ["id", "filename", "md5", "size", "state"]
(folder / ".." / ".." / "called").open("a").write("x")
for line in lines[1:]:
    id, name, md5, size, state = line.split("\\t")
    (folder / id / "logs").mkdir(parents=True, exist_ok=True)
    content = bytes([int(name[11])]) * int(size)
    {spoil}
    (folder / id / name).write_bytes(content)
"""


def install(tmp_path, spoil=""):
    path = tmp_path / "bin" / "gdc-client"
    path.write_text(CLIENT.format(python=sys.executable, spoil=spoil or "pass"))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_gdc_client_is_used_where_it_is(manifest, into, server, tmp_path):
    install(tmp_path)
    part_of(into / "x").parent.mkdir()
    fetch(manifest, into, server)
    assert whole(into)
    assert server.asked == []
    assert (tmp_path / "called").read_text(encoding="utf-8") == "x"
    fetch(manifest, into, server)
    assert (tmp_path / "called").read_text(encoding="utf-8") == "x"


def test_gdc_client_is_not_believed(manifest, into, server, tmp_path, capfd):
    install(tmp_path, 'content = b"wrong" if name[11] == "1" else content; name[11] != "2" or sys.exit(3)')
    with pytest.raises(RuntimeError, match=r"3 of 4 slides failed, the first: .*brought md5 "):
        fetch(manifest, into, server)
    assert sorted(path.name for path in into.iterdir()) == [".gdc-client", DX[0]]
    assert "gdc-client (exit code 3) did not bring it" in capfd.readouterr().err
    install(tmp_path)
    fetch(manifest, into, server)
    assert whole(into)


def test_gdc_client_is_left_alone_where_told_so_or_a_token_is_set(
    manifest, into, server, tmp_path, monkeypatch
):
    install(tmp_path)
    fetch(manifest.iloc[:1], into, server, client=None)
    monkeypatch.setenv("GDC_TOKEN", "secret")
    fetch(manifest, into, server)
    assert whole(into)
    assert not (tmp_path / "called").exists()


def test_the_command_line_says_what_is_wrong_in_one_line(listed, into, server, tmp_path, capsys):
    pd.DataFrame({"case_id": ["x"]}).to_csv(tmp_path / "table.csv", index=False)
    for arguments, message in (
        ([], "name a manifest, or a table of slides"),
        ([str(tmp_path / "gone.txt")], "no manifest at"),
        ([str(listed), "--slides", str(tmp_path / "gone.csv")], "no table of slides at"),
        ([str(listed), "--slides", str(tmp_path / "table.csv")], "neither a column slide nor slide_id"),
    ):
        assert main([*arguments, "--into", str(into)]) == 1
        said = capsys.readouterr().err
        assert said.startswith("gdc: ")
        assert message in said
        assert said.count("\n") == 1
    assert not into.exists()
