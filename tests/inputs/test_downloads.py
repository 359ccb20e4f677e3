"""A file over HTTP from a server on this machine that breaks off, ignores ranges, or has another file."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from lib.data import BLOCK, WrongChecksum, download, part_of

SIZE = 300_000
CONTENT = np.random.default_rng(0).bytes(SIZE)
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """Serves `content`; breaks off after the byte counts of `cuts`, one an answer; `asked` lists the ranges."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            me, wanted = self.server, self.headers.get("Range")
            me.asked.append(wanted)
            me.encodings.add(self.headers.get("Accept-Encoding"))
            if me.status:
                self.send_error(me.status.pop(0))
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) - me.shift if wanted and me.ranges else 0
            if start >= len(me.content):
                self.send_error(416)
                return
            self.send_response(206 if wanted and me.ranges else 200)
            if wanted and me.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(me.content) - 1}/{len(me.content)}")
            self.send_header("Content-Length", str(len(me.content) - start))
            self.end_headers()
            body = me.content[start:]
            self.wfile.write(body[: me.cuts.pop(0)] if me.cuts else body)

        def log_message(self, *_):
            pass

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.content, server.asked, server.cuts, server.status, server.ranges = CONTENT, [], [], [], True
    server.encodings, server.shift = set(), 0
    server.url = f"http://127.0.0.1:{server.server_port}/data/x"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def get(server, path, md5=MD5, size=SIZE, **settings):
    download(server.url, path, md5, size, **{"wait": 0.01, "timeout": 5} | settings)


def test_a_file(server, tmp_path):
    get(server, tmp_path / "deep" / "a.svs")
    assert (tmp_path / "deep" / "a.svs").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.svs"]
    assert server.asked == [None]
    assert server.encodings == {"identity"}  # a compressed answer has other lengths than the file


def test_after_a_break_only_the_rest_is_asked_for(server, tmp_path):
    server.cuts = [5 * BLOCK, 3 * BLOCK + 100]
    get(server, tmp_path / "a.svs")
    assert (tmp_path / "a.svs").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={5 * BLOCK}-", f"bytes={8 * BLOCK}-"]


def test_another_run_goes_on_where_the_first_broke(server, tmp_path):
    server.cuts = [7 * BLOCK, 0, 0]
    with pytest.raises(
        ConnectionError, match=rf"broke 2 times .*; {7 * BLOCK} of {SIZE} bytes are kept, run .* again"
    ):
        get(server, tmp_path / "a.svs", tries=2)
    assert not (tmp_path / "a.svs").exists()
    assert part_of(tmp_path / "a.svs").stat().st_size == 7 * BLOCK
    server.asked.clear()
    get(server, tmp_path / "a.svs")
    assert server.asked == [f"bytes={7 * BLOCK}-"]
    assert (tmp_path / "a.svs").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges, server.cuts = False, [5 * BLOCK]
    get(server, tmp_path / "a.svs")
    assert server.asked == [None, f"bytes={5 * BLOCK}-"]
    assert (tmp_path / "a.svs").read_bytes() == CONTENT


def test_a_server_that_begins_before_what_was_asked(server, tmp_path):
    server.cuts, server.shift = [5 * BLOCK, 2 * BLOCK], 100
    get(server, tmp_path / "a.svs")
    assert (tmp_path / "a.svs").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={5 * BLOCK}-", f"bytes={7 * BLOCK - 100}-"]


def test_a_server_that_begins_behind_what_was_asked_is_not_spliced(server, tmp_path):
    server.cuts, server.shift = [5 * BLOCK], -100
    get(server, tmp_path / "a.svs")
    assert (tmp_path / "a.svs").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={5 * BLOCK}-", None]


def test_a_server_that_never_comes_further_is_given_up(server, tmp_path):
    server.ranges, server.cuts = False, [3 * BLOCK] * 99
    with pytest.raises(ConnectionError, match=r"broke 4 times"):
        get(server, tmp_path / "a.svs", tries=4, wait=0)
    assert len(server.asked) == 5
    server.ranges, server.shift = True, -BLOCK  # answers of another part each time
    with pytest.raises(ConnectionError, match=r"broke 4 times"):
        get(server, tmp_path / "a.svs", tries=4, wait=0)


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.status = [503, 500]
    get(server, tmp_path / "a.svs")
    assert len(server.asked) == 3
    server.status = [503] * 9
    with pytest.raises(ConnectionError, match=r"broke 3 times \(HTTP 503\)"):
        get(server, tmp_path / "b.svs", tries=3)


@pytest.mark.parametrize("length", [299_999, 300_000, 300_001, 10])
def test_a_wrong_file_is_refused_whatever_its_length(server, tmp_path, length):
    server.content = (b"\0" + CONTENT[1:] + b"\1")[:length]
    (tmp_path / "a.svs").write_bytes(b"what was there before")
    with pytest.raises(WrongChecksum, match=f"a.svs has md5 .*, the manifest says {MD5}: not kept"):
        get(server, tmp_path / "a.svs")
    assert (tmp_path / "a.svs").read_bytes() == b"what was there before"
    assert not part_of(tmp_path / "a.svs").exists()


@pytest.mark.parametrize("old", [b"\0" * 5000, b"\0" * 300_000, b"\0" * 400_000], ids=len)
def test_a_part_of_another_file_is_thrown_away(server, tmp_path, old):
    part_of(tmp_path / "a.svs").write_bytes(old)
    get(server, tmp_path / "a.svs")
    assert (tmp_path / "a.svs").read_bytes() == CONTENT


def test_refusals_are_told_apart_and_not_repeated(server, tmp_path):
    for status, kind, message in (
        (403, PermissionError, "controlled access.*GDC_TOKEN"),
        (404, FileNotFoundError, "ids change .*new manifest"),
    ):
        server.status, before = [status], len(server.asked)
        with pytest.raises(kind, match=message):
            get(server, tmp_path / "a.svs")
        assert len(server.asked) == before + 1


def test_two_processes_do_not_write_one_file(server, tmp_path):
    import fcntl

    with open(part_of(tmp_path / "a.svs"), "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match=r"a.svs is being downloaded by another process"):
            get(server, tmp_path / "a.svs")
    assert server.asked == []


def test_no_server_at_all(tmp_path):
    with pytest.raises(ConnectionError, match=r"broke 2 times \(ConnectionError\); 0 of 5 bytes"):
        download("http://127.0.0.1:9/x", tmp_path / "a.svs", MD5, 5, tries=2, wait=0.01, timeout=2)
