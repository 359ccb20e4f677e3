"""A disk that is full or cannot be written to: one sentence, nothing half, and a later run that ends the same."""

import json
import re
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch

from lib import files
from lib import params as params_module
from lib.features.feature_files import write_features
from lib.files import DiskFull, sha256_of, write_csv, write_json, written
from lib.params import Checked
from lib.stage import begin
from lib.training.runs import write_weights

SIZE = 1 << 18
SENTENCE = (
    r"^[\w.-]+/{} is not written, there is no room for it: it needs (more than )?0\.[1-9] MB, [\d,.]+ MB are free"
    r"( and a file may have 0\.1 MB \(ulimit -f\))?; make room and run again, what is whole is kept$"
)


def features(path):
    numbers = np.random.default_rng(0).normal(size=(300, 256)).astype(np.float32)
    names = [f"{row}x1" for row in range(300)]
    told = {"encoder": "colour", "revision": "1", "um_per_px": 0.5, "crop_um": 100.0}
    write_features(
        path, numbers, np.zeros((300, 2)), names=names, **told, counts={"n_white": 0, "n_failed": 0}
    )


def weights(path):
    torch.manual_seed(0)
    write_weights({"x": torch.randn(100_000)}, path)


def picture(path):
    import tifffile

    with written(path) as part, tifffile.TiffWriter(part) as file:
        file.write(np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8))


FILES = {
    "features.h5": features,
    "weights.safetensors": weights,
    "metrics.csv": lambda path: write_csv(pd.DataFrame({"x": np.random.default_rng(0).random(20_000)}), path),
    "manifest.json": lambda path: write_json(list(range(100_000)), path),
    "slide.tiff": picture,
}


@pytest.mark.parametrize("name", FILES)
def test_full_disk_is_said_in_one_sentence_and_leaves_nothing(name, small_disk, tmp_path):
    disk = small_disk(SIZE)
    (disk / "features").mkdir()
    with pytest.raises(DiskFull, match=SENTENCE.format(name)):
        FILES[name](disk / "features" / name)
    assert list((disk / "features").iterdir()) == []
    (disk / "features" / name).write_text("an older one")
    with pytest.raises(DiskFull, match=SENTENCE.format(name)):
        FILES[name](disk / "features" / name)
    assert [path.read_text() for path in (disk / "features").iterdir()] == ["an older one"]
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    FILES[name](disk / "features" / name)
    FILES[name](tmp_path / name)
    assert sha256_of(disk / "features" / name) == sha256_of(tmp_path / name)


@contextmanager
def largest_file(size: int):
    """Let no file grow beyond a size: what a full disk is to a process, for tests of people who are not root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", [name for name in FILES if name != "slide.tiff"])
def test_limit_on_files_is_said_in_one_sentence_and_leaves_nothing(name, tmp_path):
    with largest_file(100_000), pytest.raises(DiskFull) as stopped:
        FILES[name](tmp_path / "features" / name)
    assert re.match(SENTENCE.format(name), str(stopped.value)), stopped.value
    assert list((tmp_path / "features").iterdir()) == []


WRITE_AT_EVERY_SIZE = """
import os, sys
from pathlib import Path
import numpy as np
from lib.files import DiskFull
from lib.features.feature_files import write_features
disk, codes = Path(sys.argv[1]), []
for free in range(0, 90, 4):
    (disk / "ballast").write_bytes(b"0" * (os.statvfs(disk).f_bfree - free) * 4096)
    if not os.fork():
        code = 1
        try:
            write_features(disk / "features.h5", np.ones((300, 256)), np.zeros((300, 2)), names=list(map(str, range(300))),
                encoder="a", revision="1", um_per_px=0.5, crop_um=100.0, counts={"n_white": 0, "n_failed": 0})
            code = 0
        except DiskFull:
            code = 3
        finally:
            os._exit(code)
    codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
    for path in disk.iterdir():
        path.unlink()
print(*codes)
"""


def test_feature_file_on_a_nearly_full_disk_is_whole_or_refused_whatever_is_free(small_disk, root):
    """HDF5 ends the process where the space runs out while it closes a file."""
    disk = small_disk(SIZE * 4)
    command = [sys.executable, "-c", WRITE_AT_EVERY_SIZE, str(disk)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    codes = [int(code) for code in done.stdout.split()]
    assert set(codes) == {0, 3}, f"{codes}\n{done.stderr[-2000:]}"
    assert codes == sorted(codes, reverse=True)


def test_what_is_needed_is_known_before_the_work_where_the_size_is(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3_000_000))
    with (
        pytest.raises(DiskFull, match=r"it needs 5\.0 MB, 3\.0 MB are free"),
        written(tmp_path / "weights.safetensors", size=5_000_000),
    ):
        pytest.fail("the work was begun")
    with written(tmp_path / "weights.safetensors", size=2_000_000) as part:
        part.write_text("fits")


def test_other_faults_keep_their_own_words(tmp_path):
    for fault in (ValueError("no cancer"), PermissionError(13, "Permission denied"), KeyError("28")):
        with pytest.raises(type(fault)) as stopped, written(tmp_path / "a.csv"):
            raise fault
        assert stopped.value is fault


class Params(Checked):
    cohort: str = "demo"
    shard: int = 0
    shards: int = 1
    max_failed: int = 0


UNITS = [f"A{number}" for number in range(6)]


def run_stage(monkeypatch, results, made: list[str], **params):
    """Six units of 60 kB, and a table."""
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(results))
    monkeypatch.setattr(params_module, "schema_of", lambda study: Params)
    stage = begin("toy", "2-embed", {"In": [""], **params})

    def make(name):
        made.append(name)
        with files.written_hdf5(stage.folder / "features" / f"{name}.h5") as file:
            numbers = np.random.default_rng(UNITS.index(name)).random(7_500)
            file.create_dataset("x", data=numbers, track_times=False)

    try:
        stage.each(UNITS, make, outputs="features/{}.h5")
        stage.write(pd.DataFrame({"unit": UNITS}), "table.csv")
        stage.finish()
    finally:
        stage.release()


def test_stage_stops_at_once_where_the_disk_is_full_and_goes_on_when_there_is_room(
    small_disk, tmp_path, monkeypatch
):
    run_stage(monkeypatch, tmp_path / "whole", made := [])
    assert made == UNITS
    disk = small_disk(SIZE)
    with pytest.raises(DiskFull, match=r"^features/A3\.h5 is not written, there is no room for it"):
        run_stage(monkeypatch, disk, made := [], max_failed=9)
    assert made == UNITS[:4], "no unit after the first without room is begun, whatever may fail"
    assert [path.name for path in sorted(disk.rglob("*.h5"))] == ["A0.h5", "A1.h5", "A2.h5"]
    assert not list(disk.rglob(".part-*"))
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    run_stage(monkeypatch, disk, made := [], max_failed=9)
    assert made == UNITS[3:]
    for path in (tmp_path / "whole").rglob("*.h5"):
        assert sha256_of(path) == sha256_of(disk / path.relative_to(tmp_path / "whole"))
    record = json.loads((disk / "toy" / "demo" / "runs" / "2-embed.json").read_text())
    assert record["units"] == {"all": 6, "made": 3, "kept": 3}
