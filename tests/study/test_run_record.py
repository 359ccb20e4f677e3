"""What a run took is written beside the results, and tells of no machine, no path and no hour."""

import getpass
import json
import os
import platform
import subprocess
import sys
import time

from lib import stage as run_record
from lib.stage import RunRecord

KEYS = {
    *(
        "stage",
        "shard",
        "shards",
        "seconds",
        "processor_seconds",
        "peak_mb",
        "units",
        "failed",
        "finished",
        "host",
    )
}


def test_record_holds_what_was_agreed_on(tmp_path):
    record = RunRecord()
    record.count(5, 3, 1)
    path = record.write(tmp_path, "2-embed", 1, 4, {"E1": "ValueError: no"}, False)
    assert path == tmp_path / "runs" / "2-embed.1of4.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    assert set(found) == KEYS
    assert (found["stage"], found["shard"], found["shards"], found["finished"]) == ("2-embed", 1, 4, False)
    assert found["units"] == {"all": 5, "made": 3, "kept": 1}
    assert found["failed"] == {"E1": "ValueError: no"}
    assert set(found["host"]) == {"cores", "memory_gb", "gpu"}
    assert 1 <= found["host"]["cores"] <= os.cpu_count()
    assert 0.1 < found["host"]["memory_gb"] < 100_000
    assert record.write(tmp_path, "2-embed", 0, 1, {}, True) == tmp_path / "runs" / "2-embed.json"


def test_record_names_no_machine_no_user_and_no_folder(tmp_path):
    text = RunRecord().write(tmp_path, "2-embed", 0, 1, {}, True).read_text(encoding="utf-8")
    for told in (platform.node(), str(tmp_path), getpass.getuser() + "@", time.strftime("%Y-%m")):
        assert told not in text


def test_passes_of_one_stage_add_up(tmp_path):
    record = RunRecord()
    record.count(5, 3, 1)
    record.count(2, 0, 2)
    assert record.units == {"all": 7, "made": 3, "kept": 3}


def test_time_is_that_of_the_run_whatever_the_clock_says(tmp_path, monkeypatch):
    record = RunRecord()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1e6)
    time.sleep(0.15)
    found = json.loads(record.write(tmp_path, "a", 0, 1, {}, True).read_text())
    assert 0.15 <= found["seconds"] < 5
    assert found["processor_seconds"] < 0.1, "it slept"


def test_processor_time_counts_work_here_and_in_processes_it_started(tmp_path):
    before = run_record.processor_seconds()
    subprocess.run([sys.executable, "-c", "while __import__('time').process_time() < 0.3: pass"], check=True)
    assert run_record.processor_seconds() - before >= 0.3


def test_peak_is_of_the_largest_moment_not_of_the_last(root):
    code = """
import os
from lib.stage import peak_mb
if not os.fork():  # Linux counts what a process was started from into its peak; a fork begins anew
    before = peak_mb()
    b"1" * 80_000_000
    after = peak_mb()
    print(after - before, peak_mb() - after, flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    rise, later = map(float, done.stdout.split())
    assert 60 < rise < 100
    assert later < 1


def test_memory_of_a_container_counts_where_it_is_less(tmp_path, monkeypatch):
    monkeypatch.setattr(run_record, "CGROUP_LIMITS", ())
    machine = run_record.memory_gb()
    for limit, expected in (("1000000000", 1.0), ("max", machine), ("9223372036854771712", machine)):
        (tmp_path / "memory.max").write_text(limit + "\n")
        monkeypatch.setattr(run_record, "CGROUP_LIMITS", (str(tmp_path / "memory.max"),))
        assert run_record.memory_gb() == expected
