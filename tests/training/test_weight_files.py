"""Weights on disk: what comes back, equal bytes, and what a kill in the middle of a write leaves."""

import signal
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lib.files import sha256_of
from lib.training.loop import write_weights

# the system ends a process that writes beyond its limit in the very call; Python would otherwise not notice the signal
CUT = """
import resource, signal, sys
import torch
from lib.training.loop import write_weights
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
import lib.files, math
lib.files._largest_file = lambda: math.inf  # the limit is there to kill, not to be seen coming
write_weights({"x": torch.zeros(100_000)}, sys.argv[1])
"""


def tensors(seed=0):
    torch.manual_seed(seed)
    return {"b": torch.randn(3, 4).T, "a": torch.arange(5), "c": torch.randn(2).half()}


def test_what_is_written_comes_back_and_equal_tensors_give_equal_bytes(tmp_path):
    for name in ("one", "two"):
        write_weights(tensors(), tmp_path / name, {"key": "k"})
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two")
    read = load_file(tmp_path / "one")
    assert set(read) == {"a", "b", "c"}
    assert all(torch.equal(read[name], value) for name, value in tensors().items())
    assert all(read[name].dtype == value.dtype for name, value in tensors().items())
    with safe_open(tmp_path / "one", "pt") as file:
        assert file.metadata() == {"key": "k"}
    write_weights(tensors(1), tmp_path / "two")
    assert sha256_of(tmp_path / "one") != sha256_of(tmp_path / "two")


def test_shared_memory_is_refused_and_the_old_file_stays(tmp_path):
    write_weights(tensors(), tmp_path / "x")
    before, one = sha256_of(tmp_path / "x"), torch.randn(4)
    with pytest.raises(RuntimeError, match="share memory"):
        write_weights({"one": one, "two": one}, tmp_path / "x")
    assert sha256_of(tmp_path / "x") == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_writer_killed_within_its_write_leaves_nothing_but_its_part_file(tmp_path, root):
    """safetensors' own `save_file` leaves a second, hidden file, which nobody would ever remove."""
    killed = subprocess.run([sys.executable, "-c", CUT, str(tmp_path / "x.safetensors")], cwd=root)
    assert killed.returncode == -signal.SIGXFSZ
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".part-")
