"""One run of a stage at a time; shards side by side; a lock is gone when its process is."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from lib import stage as lock_module
from lib.stage import Lock

HOLDER = """
import sys, time
from pathlib import Path
from lib.stage import Lock
Lock(Path(sys.argv[1]), "2-embed", int(sys.argv[2]), int(sys.argv[3]), patience_s=0.2).take()
if sys.argv[4:] == ["fork"]:
    import os
    if not os.fork():
        time.sleep(60)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def cohort(tmp_path):
    return tmp_path / "spacrd" / "demo"


@pytest.fixture
def holder(cohort, root):
    """Start another process that holds a lock."""
    started = []

    def start(shard=0, shards=1, *options):
        command = [sys.executable, "-c", HOLDER, str(cohort), str(shard), str(shards), *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=root, start_new_session=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        process.stdout.close()


def attempt(cohort, shard=0, shards=1, stage="2-embed") -> str:
    """ "" where the lock could be had, else what was said."""
    mine = Lock(cohort, stage, shard, shards, patience_s=0.1)
    try:
        mine.take()
    except BlockingIOError as error:
        assert not mine.held
        return str(error)
    assert mine.held
    mine.release()
    assert not mine.held
    return ""


def test_second_run_is_refused_in_one_sentence_that_names_the_first(cohort, holder):
    first = holder()
    assert attempt(cohort) == (
        f"spacrd/demo 2-embed: another run of it is at work (process {first.pid}); wait for its end or stop it "
        "(a notebook left open counts until its kernel is shut down)"
    )
    assert attempt(cohort, stage="3-train") == ""
    assert attempt(cohort.parent / "null") == ""


def test_lock_is_gone_when_its_process_was_killed_although_the_file_is_there(cohort, holder):
    first = holder()
    os.kill(first.pid, signal.SIGKILL)
    first.wait(30)
    assert (cohort / "locks" / "2-embed.lock").read_text()
    assert attempt(cohort) == ""


def test_forked_child_does_not_keep_the_lock_of_a_killed_parent(cohort, holder):
    first = holder(0, 1, "fork")
    time.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(30)
    assert attempt(cohort) == ""


def test_shards_of_one_cut_run_side_by_side_each_of_them_once(cohort, holder):
    holder(0, 2)
    assert attempt(cohort, 1, 2) == ""
    assert "2-embed shard 0 of 2: another run of it is at work (process" in attempt(cohort, 0, 2)


def test_whole_run_and_shards_exclude_each_other(cohort, holder):
    first = holder(0, 2)
    assert "another run of it is at work (shards of it, see locks/)" in attempt(cohort)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(30)
    whole = holder()
    assert f"(process {whole.pid})" in attempt(cohort, 1, 2)


def test_other_cut_is_refused_while_shards_run(cohort, holder):
    holder(0, 2)
    assert attempt(cohort, 2, 3) == (
        "spacrd/demo 2-embed: it is being run in 2 shards, not in 3; wait until they have ended"
    )


def test_many_shards_that_start_at_once_all_get_their_lock(cohort, root):
    code = HOLDER.replace("0.2", "5").replace("time.sleep(60)", "sys.stdin.read()")
    command = [sys.executable, "-c", code, str(cohort)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": root}
    started = [subprocess.Popen([*command, str(shard), "4"], **pipes) for shard in range(4)]
    try:
        assert [process.stdout.readline() for process in started] == ["held\n"] * 4
    finally:
        for process in started:
            process.communicate()


def test_notebook_run_again_in_its_kernel_takes_its_own_lock_anew(cohort):
    first, second = Lock(cohort, "2-embed"), Lock(cohort, "2-embed")
    first.take()
    second.take()
    assert second.held
    second.release()
    assert not first.held


def test_file_system_without_locks_is_said_and_the_run_goes_on(cohort, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    mine = Lock(cohort, "2-embed")
    mine.take()
    assert not mine.held
    assert "knows no locks, so a second run at the same time goes unnoticed" in capsys.readouterr().err
    assert not [path for path in lock_module._held if path.is_relative_to(cohort)]


def test_where_nothing_can_be_written_the_stage_says_so(tmp_path):
    (tmp_path / "spacrd").write_text("a file in the way")
    with pytest.raises(
        PermissionError,
        match=r"^spacrd/demo 2-embed: nothing can be written to the results folder \(Not a directory\); make it writable, "
        "or name another in CROSSBOOK_RESULTS$",
    ):
        Lock(tmp_path / "spacrd" / "demo", "2-embed").take()
