"""Hostile slides: what the stages of CrossFusion and GC-MLM-RCSA do with them, from the folder to the last tile."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lib.features.tiles import found_slides, tile_batches, tiled
from lib.inputs.slides import open_slide, read_overrides
from lib.phantoms.slides import write_pyramid, write_slide

sys.path.insert(0, str(Path(__file__).parent))
from judge import Case, judge, shown

SIDE = 768
SOUND: dict[str, object] = {}


def sound() -> Path:
    """A whole slide, made once."""
    return SOUND["path"]


@pytest.fixture(scope="module", autouse=True)
def _sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "S1.tif"
    write_slide(path, fine=0.0, coarse=0.0, cancer=0, seed=3, side_px=SIDE)
    SOUND.update(path=path, passed=passed(path))
    yield
    SOUND.clear()


def passed(path: Path) -> dict:
    """A slide tiled and all its tiles read, as 1-preprocess and 2-embed do."""
    with open_slide(path) as slide:
        grid = tiled(slide, "exact", "", 64, 0.1)
        digest = hashlib.sha256()
        for scale, indices, crops in tile_batches(slide, grid, 32):
            digest.update(bytes([scale]) + indices.tobytes() + crops.tobytes())
    failed = sum(map(len, grid.failed.values()))
    return {
        "status": grid.status,
        "note": grid.note,
        "tiles": sum(map(len, grid.tiles.values())),
        "failed": failed,
        "digest": digest.hexdigest(),
    }


def passed_of_folder(folder: Path) -> dict:
    """The only slide of a folder, as the stages find it."""
    ((_, path),) = found_slides(folder).items()
    return passed(path)


def named(result: dict) -> str:
    """Named in the table of slides: a status, a note, or tiles that failed."""
    if result["status"] != "ok" or result["failed"] or result["note"]:
        return f"named: {result['status']}, {result['failed']} tiles failed {result['note']}"
    return ""


def same(result: dict) -> str:
    return "same" if result["digest"] == SOUND["passed"]["digest"] else ""


def either(result: dict) -> str:
    return same(result) or named(result)


def cut(share: float):
    def make(room):
        whole = sound().read_bytes()
        (room / "S1.tif").write_bytes(whole[: int(len(whole) * share)])
        return room / "S1.tif"

    return make


def written(name: str, content: bytes):
    def make(room):
        (room / name).write_bytes(content)
        return room / name

    return make


def copied(name: str):
    def make(room):
        (room / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sound(), room / name)
        return room / name

    return make


def tissue(side: int = 512, dtype=np.uint8) -> np.ndarray:
    rgb = np.random.default_rng(1).integers(0, 60, (side, side, 3)) + np.array([190, 90, 160])
    return (rgb * (257 if dtype == np.uint16 else 1)).astype(dtype)


def pyramid(um_per_px: float | None, rgb=None):
    def make(room):
        write_pyramid(room / "S1.tif", [tissue() if rgb is None else rgb], um_per_px)
        return room / "S1.tif"

    return make


def tiff(values: np.ndarray, **settings):
    def make(room):
        about = {"tile": (256, 256), "resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(room / "S1.tif", values, **{**about, **settings})
        return room / "S1.tif"

    return make


def picture(name: str, kind: str):
    def make(room):
        Image.fromarray(tissue(64)).save(room / name, format=kind)
        return room / name

    return make


def flipped(seed: int):
    """Bytes of the first directory, where sizes and offsets stand, turned into others."""

    def make(room):
        content = bytearray(sound().read_bytes())
        rng = np.random.default_rng(seed)
        first = int.from_bytes(content[4:8], "little")
        for place in rng.integers(first, first + 200, 3):
            content[place % len(content)] ^= int(rng.integers(1, 256))
        (room / "S1.tif").write_bytes(content)
        return room / "S1.tif"

    return make


def linked(kind: str):
    def make(room):
        inside, outside = room / "slides", room / "elsewhere"
        inside.mkdir()
        outside.mkdir()
        target = outside / "S1.tif"
        if kind == "out":
            shutil.copyfile(sound(), target)
            os.symlink(target, inside / "S1.tif")
        elif kind == "dangling":
            os.symlink(target, inside / "S1.tif")
        elif kind == "loop":
            os.symlink(inside / "S1.tif", inside / "S1.tif")
        elif kind == "folder":
            (inside / "S1.tif").mkdir()
        elif kind == "twice":
            shutil.copyfile(sound(), inside / "S1.tif")
            shutil.copyfile(sound(), inside / "S1.svs")
        elif kind == "spelling":
            shutil.copyfile(sound(), inside / "s1.tif")
            shutil.copyfile(sound(), inside / "S1.tif")
        return inside

    return make


def odd_name(name: str | bytes):
    def make(room):
        folder = room / "slides"
        folder.mkdir()
        shutil.copyfile(sound(), os.path.join(os.fsencode(folder), os.fsencode(name)))
        return folder

    return make


def table(text: str | bytes):
    return written("scales.csv", text if isinstance(text, bytes) else text.encode())


CASES = [
    *(
        Case(f"slide cut at {share:.0%}", cut(share), passed, check=either)
        for share in [0.0001, 0.001, 0.003, 0.01, *np.linspace(0.05, 0.98, 14), 0.995, 0.9999]
    ),
    *(Case(f"slide, directory spoilt {seed}", flipped(seed), passed, check=either) for seed in range(12)),
    Case("slide of zero bytes", written("S1.svs", b""), passed),
    Case("slide of zeros", written("S1.svs", bytes(100_000)), passed),
    Case("text named .svs", written("S1.svs", b"patient,slide\n1,2\n" * 100), passed),
    Case("png named .svs", picture("S1.svs", "PNG"), passed),
    Case("jpeg named .tif", picture("S1.tif", "JPEG"), passed),
    Case("svs named .tif keeps its content", copied("S1.tif"), passed, check=same, must_read=True),
    Case("tif named .svs", copied("S1.svs"), passed, check=either),
    Case("tif named .ndpi", copied("S1.ndpi"), passed, check=either),
    Case("blank slide", pyramid(0.5, np.full((512, 512, 3), 255, np.uint8)), passed, check=named),
    Case("black slide", pyramid(0.5, np.zeros((512, 512, 3), np.uint8)), passed, check=named),
    Case("slide without scale", pyramid(None), passed),
    Case("slide of 10x too coarse a scale", pyramid(5.0), passed),
    Case("slide of 10x too fine a scale", pyramid(0.05), passed),
    Case("tiny slide", pyramid(0.5, tissue(48)), passed, check=named),
    Case("slide of 1 pixel", pyramid(0.5, tissue(1)), passed, check=named),
    Case("slide of 16 bits", tiff(tissue(512, np.uint16), photometric="rgb"), passed),
    Case("slide of floats", tiff(tissue().astype(np.float32), photometric="rgb"), passed, check=named),
    Case(
        "slide with alpha",
        tiff(
            np.dstack([tissue(), np.full((512, 512), 128, np.uint8)]),
            photometric="rgb",
            extrasamples=["unassalpha"],
        ),
        passed,
        check=named,
    ),
    Case(
        "slide of a palette",
        tiff(
            tissue()[..., 0],
            photometric="palette",
            colormap=np.arange(768, dtype=np.uint16).reshape(3, 256) * 80,
        ),
        passed,
        check=named,
    ),
    Case("grey slide", tiff(tissue()[..., 0], photometric="minisblack"), passed, check=named),
    Case(
        "path with spaces and unicode",
        copied("ein schräger Ördner/スライド 1 (Kopie).tif"),
        passed,
        check=same,
        must_read=True,
    ),
    Case("link to a slide outside", linked("out"), passed_of_folder, says="S1"),
    Case("link to nowhere", linked("dangling"), found_slides, says="S1"),
    Case("link to itself", linked("loop"), found_slides, says="S1"),
    Case("folder named like a slide", linked("folder"), found_slides, says="S1"),
    Case("folder given as a slide", lambda room: linked("folder")(room) / "S1.tif", passed),
    Case("slide twice", linked("twice"), found_slides, says="S1"),
    Case("slides that differ in case alone", linked("spelling"), found_slides, says="S1"),
    Case("slide's name with a newline", odd_name("S1\nrm.tif"), found_slides, says="S1"),
    Case("slide's name a formula", odd_name("=cmd|calc.tif"), found_slides, says="cmd"),
    Case("slide's name no UTF-8", odd_name(b"S1\xff.tif"), found_slides, says="S1"),
    Case("slide that is not there", lambda room: room / "S9.svs", passed),
    Case("folder of slides that is not there", lambda room: room / "no", found_slides),
    Case("overrides with a word", table("slide,um_per_px\nS1,half\n"), read_overrides),
    Case("overrides of 10x", table("slide,um_per_px\nS1,5\n"), read_overrides),
    Case("overrides with semicolons", table("slide;um_per_px\nS1;0,5\n"), read_overrides),
    Case("overrides empty", table(""), read_overrides),
    Case("overrides of NUL", table("slide,um_per_px\nS1\0,0.5\n"), read_overrides),
    Case("overrides no UTF-8", table("slide,um_per_px\nSchräg,0.5\n".encode("utf-16")), read_overrides),
    Case("overrides ragged", table("slide,um_per_px\nS1,0.5,7,8\nS2,0.5,7,8\n"), read_overrides),
    Case("overrides, a column twice", table("slide,um_per_px,um_per_px\nS1,0.5,0.25\n"), read_overrides),
    Case("overrides, two spellings", table("slide,um_per_px\nS1,0.5\ns1,0.25\n"), read_overrides),
]


@pytest.mark.parametrize("case", shown(CASES), ids=lambda case: case.name)
def test_slides(case, tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    judge(case, room)
