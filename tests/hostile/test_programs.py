"""Files that could run a program, pickles and .pt, and damaged weights: refused, and nothing of them was run."""

import io
import json
import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lib.crossfusion.cohort import stored_predictions
from lib.features.encoders import tensors_in
from lib.features.feature_files import read_foreign
from lib.stroke.arrays import read_array
from lib.stroke.cohort import read_partition

sys.path.insert(0, str(Path(__file__).parent))
from judge import Case, judge, shown


class Payload:
    """Makes a file when it is unpickled; the judge sees any file that appears."""

    def __init__(self, room: Path, call=os.system):
        self.call, self.sign = call, room / "payload"

    def __reduce__(self):
        if self.call is os.system:
            return os.system, (f"touch {self.sign}",)
        return exec, (f"open({str(self.sign)!r}, 'w').close()",)


def weights(path: Path) -> dict:
    return tensors_in("resnet18", path)


def torch_file(name: str, content, **settings):
    def make(room):
        torch.save(content(room) if callable(content) else content, room / name, **settings)
        return room / name

    return make


def pickled(name: str, content, protocol=4):
    def make(room):
        (room / name).parent.mkdir(parents=True, exist_ok=True)
        (room / name).write_bytes(pickle.dumps(content(room), protocol=protocol))
        return room / name

    return make


def bytes_of(name: str, content: bytes):
    def make(room):
        (room / name).write_bytes(content)
        return room / name

    return make


def cut(share: float):
    def make(room):
        torch.save({"a": torch.ones(100, 10)}, room / "w.pt")
        data = (room / "w.pt").read_bytes()
        (room / "w.pt").write_bytes(data[: int(len(data) * share)])
        return room / "w.pt"

    return make


def tensors(change=lambda header, data: (header, data)):
    """A .safetensors file, its header changed."""

    def make(room):
        save_file({"a": torch.ones(4, 4)}, room / "w.safetensors")
        data = (room / "w.safetensors").read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header, rest = change(json.loads(data[8 : 8 + size]), data[8 + size :])
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        (room / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + rest)
        return room / "w.safetensors"

    return make


def about(**changed):
    return lambda header, data: ({"a": {**header["a"], **changed}}, data)


def bomb(room):
    """A .pt whose record unpacks to more than a gigabyte."""
    torch.save({"a": torch.zeros(10)}, room / "small.pt")
    with (
        zipfile.ZipFile(room / "small.pt") as old,
        zipfile.ZipFile(room / "w.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, bytes(3 << 24) if name.endswith("data/0") else old.read(name))
    return room / "w.pt"


CODE = b"cos\nsystem\n(S'touch payload'\ntR."
FOLD = "tcga_blca_amil_nll_surv/split_latest_val_0_results.pkl"

CASES = [
    Case("pt with a payload", torch_file("w.pt", Payload), weights),
    Case("pt with a payload in a state dict", torch_file("w.pt", lambda room: {"a": torch.ones(2), "b": Payload(room)}), weights),
    Case("pt of the old kind with a payload", torch_file("w.pt", Payload, _use_new_zipfile_serialization=False), weights),
    Case("pt with exec", torch_file("w.pt", lambda room: Payload(room, exec)), weights),
    Case("pth with a payload", torch_file("w.pth", Payload), weights),
    Case("bin with a payload", torch_file("w.bin", Payload), weights),
    Case("a pickle named .pt", pickled("w.pt", Payload), weights),
    Case("a pickle named .safetensors", pickled("w.safetensors", Payload), weights),
    Case("a whole model in a pt", torch_file("w.pt", lambda room: torch.nn.Linear(2, 2)), weights),
    Case("a list in a pt", torch_file("w.pt", [torch.ones(2)]), weights),
    Case("a tensor in a pt", torch_file("w.pt", torch.ones(2)), weights),
    Case("words in a state dict", torch_file("w.pt", {"a": "b"}), weights),
    *(Case(f"pt cut at {share}", cut(share), weights) for share in (0.0, 0.01, 0.3, 0.7, 0.99)),
    Case("text named .pt", bytes_of("w.pt", b"hello"), weights),
    Case("html named .pt", bytes_of("w.pt", b"<!DOCTYPE html><html>log in</html>"), weights),
    Case("a zip named .pt", lambda room: zipped(room, "w.pt"), weights),
    Case("weights that are not there", lambda room: room / "w.pt", weights),
    Case("a folder of weights", lambda room: (room / "w.pt").mkdir() or room / "w.pt", weights),
    Case("a pt of a bomb", bomb, weights),
    Case("safetensors sound", tensors(), weights, check=lambda read: "same" if read["a"].sum() == 16 else "", must_read=True),
    Case("safetensors cut", tensors(lambda header, data: (header, data[:9])), weights),
    Case("safetensors, no JSON", tensors(lambda header, data: (b"hello", data)), weights),
    Case("safetensors, places beyond the file", tensors(about(data_offsets=[0, 10**12])), weights),
    Case("safetensors, places below 0", tensors(about(data_offsets=[-5, 59])), weights),
    Case("safetensors, another shape", tensors(about(shape=[4, 5])), weights),
    Case("safetensors of 10^18", tensors(about(shape=[10**9, 10**9])), weights),
    Case("safetensors, an unknown type", tensors(about(dtype="F7")), weights),
    Case("safetensors, a header of 10^18 bytes", bytes_of("w.safetensors", struct.pack("<Q", 10**18) + b"{}"), weights),
    Case("safetensors of zero bytes", bytes_of("w.safetensors", b""), weights),
    Case("safetensors nested deep", tensors(lambda header, data: (b"[" * 100_000, data)), weights),
    Case("features: pt with a payload", torch_file("S1.pt", Payload), read_foreign),
    Case("features: pt of a state dict", torch_file("S1.pt", {"a": torch.ones(2, 2)}), read_foreign),
    Case("features: pt of one vector", torch_file("S1.pt", torch.ones(8)), read_foreign),
    Case("features: pt of a number", torch_file("S1.pt", torch.tensor(1.0)), read_foreign),
    Case("features: pt of NaN", torch_file("S1.pt", torch.full((4, 4), float("nan"))), read_foreign),
    Case("features: pt of whole numbers", torch_file("S1.pt", torch.ones(4, 4, dtype=torch.int64)), read_foreign),
    Case("features: pt of truth values", torch_file("S1.pt", torch.ones(4, 4) > 0), read_foreign),
    Case("features: pt of complex numbers", torch_file("S1.pt", torch.ones(4, 4) * 1j), read_foreign),
    Case("features: a sparse pt", torch_file("S1.pt", torch.eye(4).to_sparse()), read_foreign),
    Case("features: an expanded pt", torch_file("S1.pt", torch.ones(1).expand(10**6, 10**6)), read_foreign),
    Case("features: pt on another device", torch_file("S1.pt", torch.ones(4, 4, device="meta")), read_foreign),
    Case("partition with a payload", pickled("p.pickle", Payload), read_partition),
    Case("partition with exec", pickled("p.pkl", lambda room: {"train": [Payload(room, exec)], "test": ["a"]}), read_partition),
    Case("partition of protocol 0", bytes_of("p.pickle", CODE), read_partition),
    Case("partition of objects", pickled("p.pickle", lambda room: {"train": Path("a"), "test": ["b"]}), read_partition),
    Case("partition of real numbers", pickled("p.pickle", lambda room: {"train": np.ones(3), "test": ["b"]}), read_partition),
    Case("partition cut", bytes_of("p.pickle", pickle.dumps({"train": ["a"], "test": ["b"]})[:-6]), read_partition),
    Case("partition of zero bytes", bytes_of("p.pickle", b""), read_partition),
    Case("partition that holds itself", bytes_of("p.pickle", b"}q\x00X\x05\x00\x00\x00trainh\x00s."), read_partition),
    Case("partition of a huge text", bytes_of("p.pickle", b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x."), read_partition),
    Case("partition nested deep", bytes_of("p.pickle", b"(" * 100_000 + b"l" * 100_000 + b"."), read_partition),
    Case("mcat with a payload", lambda room: pickled(FOLD, Payload)(room) and room, stored_predictions, says="split_latest_val_0"),
    Case("mcat of objects", lambda room: pickled(FOLD, lambda _: {"P1": np.array([{}], dtype=object)})(room) and room, stored_predictions, says="split_latest_val_0"),
    Case("mcat of records", lambda room: pickled(FOLD, lambda _: {"P1": np.zeros(2, [("a", "O")])})(room) and room, stored_predictions, says="split_latest_val_0"),
    Case("mcat without risk", lambda room: pickled(FOLD, lambda _: {"P1": {"survival": 1.0}})(room) and room, stored_predictions, says="P1"),
    Case("mcat of NaN", lambda room: pickled(FOLD, lambda _: {"P1": {"risk": np.nan, "survival": 1.0, "censorship": 0}})(room) and room, stored_predictions, says="P1"),
    Case("npz with a payload", lambda room: npz(room), read_array),
]  # fmt: skip


def zipped(room: Path, name: str) -> Path:
    with zipfile.ZipFile(room / name, "w") as file:
        file.writestr("a.txt", "hello")
    return room / name


def npz(room: Path) -> Path:
    held = io.BytesIO()
    np.save(held, np.array([Payload(room)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(room / "p.npz", "w") as file:
        file.writestr("img.npy", held.getvalue())
    return room / "p.npz"


@pytest.mark.parametrize("case", shown(CASES), ids=lambda case: case.name)
def test_programs(case, tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    judge(case, room)


def test_the_payload_works_where_it_is_run(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path)))
    assert (tmp_path / "payload").exists()
