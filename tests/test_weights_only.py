"""Files that could run a program are read without running it: weights and features as tensors alone."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from lib.features.feature_files import plain_tensors, read_foreign


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, sign):
        self.sign = sign

    def __reduce__(self):
        return os.system, (f"touch {self.sign}",)


def weights(path):
    return plain_tensors(path, "plain tensors for encoder resnet18")


@pytest.mark.parametrize("read", [weights, read_foreign], ids=["weights", "features"])
@pytest.mark.parametrize(
    "write",
    [
        lambda path, payload: torch.save(payload, path),
        lambda path, payload: torch.save({"a": torch.ones(2), "b": payload}, path),
        lambda path, payload: torch.save(payload, path, _use_new_zipfile_serialization=False),
        lambda path, payload: path.write_bytes(pickle.dumps(payload)),
    ],
    ids=["pt", "state dict", "old pt", "pickle"],
)
def test_a_payload_is_refused_and_not_run(tmp_path, write, read):
    write(tmp_path / "S1.pt", Payload(tmp_path / "sign"))
    with pytest.raises(ValueError, match=r"S1\.pt"):
        read(tmp_path / "S1.pt")
    assert not (tmp_path / "sign").exists()
    pickle.loads(pickle.dumps(Payload(tmp_path / "sign")))
    assert (tmp_path / "sign").exists(), "the payload works where it is run"


def test_weights_that_were_cut_short_are_named(tmp_path):
    save_file({"a": torch.ones(4, 4)}, tmp_path / "w.safetensors")
    assert weights(tmp_path / "w.safetensors")["a"].sum() == 16
    torch.save({"a": torch.ones(100, 10)}, tmp_path / "w.pt")
    for path in (tmp_path / "w.safetensors", tmp_path / "w.pt"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=path.name.replace(".", r"\.")):
            weights(path)
