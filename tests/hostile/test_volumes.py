"""Hostile volumes: NIfTI, NRRD, MetaImage, DICOM and series, as 1-preprocess of GC-MLM-RCSA and mRS90 read them."""

import gzip
import os
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.gcmlm.ct import read_ct, read_region
from lib.gcmlm.phantom_ct import write_dicom
from lib.inputs.volumes import Geometry, Series, Volume, read_seconds, read_series, write_series, write_volume
from lib.stroke.perfusion import prepare

sys.path.insert(0, str(Path(__file__).parent))
from judge import Case, judge, shown

GRID = Geometry((0.8, 0.9, 2.0), (-10.0, 5.0, 30.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), (12, 10, 6))
HU = np.random.default_rng(0).integers(-150, 180, (6, 10, 12)).astype(np.float32)
DIM, TYPE, BITS, PIXDIM, OFFSET, SLOPE, INTER, UNITS, QFORM, SFORM, SROW, MAGIC = (
    *(40, 70, 72, 76, 108, 112, 116, 123, 252, 254, 280, 344),
)


def volume(room: Path, name: str = "ct.nii") -> Path:
    write_volume(room / name, Volume(HU, GRID), "int16")
    return room / name


def spoilt(at: int, kind: str, *values, name: str = "ct.nii", keep: int | None = None):
    """A volume whose header says something else at a place."""

    def make(room):
        path = volume(room, "ct.nii")
        content = bytearray(path.read_bytes())
        struct.pack_into(f"<{kind}", content, at, *values)
        path.unlink()
        packed = gzip.compress(bytes(content)) if name.endswith(".gz") else bytes(content)
        (room / name).write_bytes(packed[:keep])
        return room / name

    return make


def cut(name: str, length: float):
    def make(room):
        path = volume(room, name)
        content = path.read_bytes()
        path.write_bytes(content[: int(length if length >= 1 else len(content) * length)])
        return path

    return make


def flipped(seed: int, name: str = "ct.nii", below: int = 352):
    def make(room):
        path = volume(room, name)
        content, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
        for place in rng.integers(0, min(below, len(content)), 2):
            content[place] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        return path

    return make


def content(name: str, data: bytes):
    def make(room):
        (room / name).parent.mkdir(parents=True, exist_ok=True)
        (room / name).write_bytes(data)
        return room / name

    return make


def image(name: str, values: np.ndarray, vector: bool = False):
    def make(room):
        sitk.WriteImage(sitk.GetImageFromArray(values, isVector=vector), str(room / name))
        return room / name

    return make


def same(read: Volume) -> str:
    """The very volume; or one whose header says, without contradicting itself, that it is another."""
    if read.values.shape == HU.shape and np.array_equal(read.values, HU):
        if np.allclose(read.geometry.spacing_mm, GRID.spacing_mm, atol=1e-3) and np.allclose(
            read.geometry.origin_mm, GRID.origin_mm
        ):
            return "same"
        # an origin elsewhere is a legal header; a spacing is only where all that state it agree
        return (
            "legal: another place"
            if np.allclose(read.geometry.spacing_mm, GRID.spacing_mm, atol=1e-3)
            else ""
        )
    return ""


def huge_gz(header_dims, zeros: int):
    """A small file that unpacks to much."""

    def make(room):
        path = volume(room, "ct.nii")
        header = bytearray(path.read_bytes()[:352])
        path.unlink()
        struct.pack_into("<8h", header, DIM, *header_dims)
        member = gzip.compress(bytes(1 << 25), 1, mtime=0)
        (room / "ct.nii.gz").write_bytes(gzip.compress(bytes(header)) + member * (zeros >> 25))
        return room / "ct.nii.gz"

    return make


NRRD = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n{rest}endian: little\nencoding: {encoding}\n"
STRAIGHT = "space directions: (0.8,0,0) (0,0.9,0) (0,0,2)\nspace origin: (0,0,0)\n"


def nrrd(sizes="12 10 6", rest=STRAIGHT, encoding="raw", data: bytes | None = None, more=""):
    head = NRRD.format(sizes=sizes, rest=rest, encoding=encoding) + more + "\n"
    return content("ct.nrrd", head.encode() + (HU.astype("<i2").tobytes() if data is None else data))


def detached(kind: str):
    """A header whose voxels lie in another file, out of the folder."""

    def make(room):
        (room / "secret").mkdir()
        (room / "secret" / "raw").write_bytes(HU.astype("<i2").tobytes())
        (room / "data").mkdir()
        if kind == "nrrd":
            head = (
                NRRD.format(sizes="12 10 6", rest=STRAIGHT, encoding="raw") + "data file: ../secret/raw\n\n"
            )
        else:
            head = (
                "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 12 10 6\nElementSpacing = 1 1 1\n"
                "ElementType = MET_SHORT\nElementDataFile = ../secret/raw\n"
            )
        (room / "data" / f"ct.{kind}").write_text(head)
        return room / "data" / f"ct.{kind}"

    return make


def series_at(values=None, step=1.0):
    values = (
        np.random.default_rng(1).normal(40, 5, (8, 4, 8, 8)).astype(np.float32) if values is None else values
    )
    grid = Geometry((2.0, 2.0, 4.0), (0.0,) * 3, GRID.direction, values.shape[:0:-1])
    return Series(values, grid, step * np.arange(len(values)))


def series(room: Path, name: str = "ctp.nii") -> Path:
    write_series(room / name, series_at())
    return room / name


def spoilt_series(at: int, kind: str, *values):
    def make(room):
        path = series(room)
        data = bytearray(path.read_bytes())
        struct.pack_into(f"<{kind}", data, at, *values)
        path.write_bytes(data)
        return path

    return make


def dicom(change=None):
    """A folder with a series, then changed."""

    def make(room):
        write_dicom(room / "series", HU.astype(np.int16), GRID, "P1")
        if change:
            change(room / "series")
        return room / "series"

    return make


def tag(number: bytes, vr: bytes, value: bytes, which: int = 2):
    """Overwrite a tag's value in one file, in place: the same length or shorter."""

    def change(folder):
        path = sorted(folder.iterdir())[which]
        data = bytearray(path.read_bytes())
        at = data.find(number)
        assert at > 0
        explicit = data[at + 4 : at + 6] == vr
        length = struct.unpack_from(*(("<H", data, at + 6) if explicit else ("<I", data, at + 4)))[0]
        data[at + 8 : at + 8 + length] = value.ljust(length, b" " if vr in (b"DS", b"CS") else b"\0")[:length]
        path.write_bytes(data)

    return change


def one_file(action):
    def change(folder):
        action(sorted(folder.iterdir())[2])

    return change


def mutated(seed: int):
    def action(path):
        data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
        for place in rng.integers(128, 930, 2):
            data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(data)

    return one_file(action)


def same_series(read: Volume) -> str:
    # what a flipped byte turned is the name, the date or a number nobody asks for
    sound = read.values.shape == HU.shape and np.array_equal(read.values, HU)
    return "same" if sound and np.allclose(read.geometry.spacing_mm, GRID.spacing_mm, atol=1e-4) else ""


def region(spoil):
    def make(room):
        path = volume(room)
        mask = np.zeros(HU.shape, np.float32)
        mask[2:4, 3:7, 3:8] = 1
        spoil(room, mask)
        return path

    return make


def masked(path: Path):
    return read_region(path, path.parent / "mask.nii")


def write_mask(change=lambda mask: mask, grid=GRID):
    def spoil(room, mask):
        write_volume(room / "mask.nii", Volume(change(mask), grid), "float32")

    return region(spoil)


def prepared(path: Path):
    return prepare(read_series(path))


def flat(value: float):
    def make(room):
        write_series(room / "ctp.nii", series_at(np.full((34, 4, 16, 16), value, np.float32)))
        return room / "ctp.nii"

    return make


nan, inf = float("nan"), float("inf")
FILES = [
    *(
        Case(f"nii cut to {length}", cut("ct.nii", length), read_ct)
        for length in (0, 1, 100, 347, 348, 351, 353, 0.5, 0.999)
    ),
    *(
        Case(f"nii.gz cut to {length}", cut("ct.nii.gz", length), read_ct)
        for length in (0, 2, 10, 100, 0.5, 0.9, 0.999)
    ),
    *(Case(f"nii, header spoilt {seed}", flipped(seed), read_ct, check=same) for seed in range(40)),
    *(
        Case(f"nii.gz spoilt {seed}", flipped(seed, "ct.nii.gz", 10**6), read_ct, check=same)
        for seed in range(8)
    ),
    Case("spacing 0", spoilt(PIXDIM + 4, "3f", 0, 0, 0), read_ct, check=same),
    Case(
        "spacing 0 and no sform",
        lambda room: spoilt(PIXDIM + 4, "3f", 0, 0, 0)(room) and spoilt_in(room, SFORM, "h", 0),
        read_ct,
    ),
    Case("spacing NaN", spoilt(PIXDIM + 4, "3f", nan, nan, nan), read_ct, check=same),
    Case("spacing infinite", spoilt(PIXDIM + 4, "f", inf), read_ct, check=same),
    Case("spacing below 0", spoilt(PIXDIM + 4, "3f", -1, -1, -1), read_ct, check=same),
    Case("spacing of 1e9 mm", spoilt(PIXDIM + 4, "3f", 1e9, 1e9, 1e9), read_ct, check=same),
    Case("direction NaN", spoilt(SROW, "12f", *[nan] * 12), read_ct, check=same),
    Case("direction 0", spoilt(SROW, "12f", *[0] * 12), read_ct, check=same),
    Case("direction infinite", spoilt(SROW, "12f", *[inf] * 12), read_ct, check=same),
    Case(
        "direction not at right angles",
        spoilt(SROW, "12f", 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0),
        read_ct,
        check=same,
    ),
    Case("origin NaN", spoilt(SROW + 12, "f", nan), read_ct, check=same),
    Case("32767 x 32767 x 32767 voxels", spoilt(DIM, "4h", 3, 32767, 32767, 32767), read_ct),
    Case("32767 voxels each of seven axes", spoilt(DIM, "8h", 7, *[32767] * 7), read_ct),
    Case("the same as .nii.gz", spoilt(DIM, "4h", 3, 32767, 32767, 32767, name="ct.nii.gz"), read_ct),
    Case("sizes below 0", spoilt(DIM, "4h", 3, -12, -10, -6), read_ct),
    Case("size 0", spoilt(DIM, "4h", 3, 12, 0, 6), read_ct),
    Case("no axis", spoilt(DIM, "h", 0), read_ct),
    Case("99 axes", spoilt(DIM, "h", 99), read_ct),
    Case("-1 axes", spoilt(DIM, "h", -1), read_ct),
    Case("two axes", spoilt(DIM, "4h", 2, 12, 10, 1), read_ct),
    Case("one slice of a 2D image", image("ct.nii", HU[0]), read_ct),
    Case("type 999", spoilt(TYPE, "h", 999), read_ct),
    Case("type of one bit", spoilt(TYPE, "h", 1), read_ct),
    Case("type complex", spoilt(TYPE, "h", 32), read_ct),
    Case("type says 8 bit, size 16", spoilt(TYPE, "h", 2), read_ct),
    Case("RGB", image("ct.nii", np.zeros((4, 5, 6, 3), np.uint8), True), read_ct),
    Case("slope overflows", spoilt(SLOPE, "f", 3e38), read_ct),
    Case("slope infinite", spoilt(SLOPE, "f", inf), read_ct),
    Case("slope NaN", spoilt(SLOPE, "f", nan), read_ct, check=same),
    Case("slope 1e30", spoilt(SLOPE, "f", 1e30), read_ct),
    Case("intercept infinite", spoilt(INTER, "f", inf), read_ct),
    Case("intercept NaN", spoilt(INTER, "f", nan), read_ct),
    Case("values of 1e300", image("ct.nii", np.full((4, 5, 6), 1e300)), read_ct),
    Case("values NaN", image("ct.nii", np.full((4, 5, 6), nan)), read_ct),
    Case("voxels begin beyond the file", spoilt(OFFSET, "f", 1e7), read_ct),
    Case("voxels begin before the file", spoilt(OFFSET, "f", -400), read_ct),
    Case("voxels begin at NaN", spoilt(OFFSET, "f", nan), read_ct),
    Case("no magic", spoilt(MAGIC, "4s", b"\0\0\0\0"), read_ct),
    Case("voxels in another file", spoilt(MAGIC, "4s", b"ni1\0"), read_ct),
    Case(
        "unicode and spaces",
        lambda room: volume(room, "Mäge n 胃 (1).nii.gz"),
        read_ct,
        check=same,
        must_read=True,
    ),
    Case("small gz that claims 16 GB", huge_gz((3, 2000, 2000, 2000, 1, 1, 1, 1), 1 << 26), read_ct),
    Case("small gz of 8 GB", huge_gz((3, 1600, 1600, 1600, 1, 1, 1, 1), 1 << 31), read_ct),
    Case("small gz with 2 GB behind the voxels", huge_gz((3, 12, 10, 6, 1, 1, 1, 1), 1 << 31), read_ct),
    Case("gz that is plain", lambda room: volume(room).rename(room / "ct.nii.gz"), read_ct),
    Case(
        "plain that is gz", lambda room: volume(room, "x.nii.gz").rename(room / "ct.nii"), read_ct, check=same
    ),
    Case("text named .nii", content("ct.nii", b"patient,age\n" * 100), read_ct),
    Case("text named .mha", content("ct.mha", b"patient,age\n" * 100), read_ct),
    Case("zeros named .nrrd", content("ct.nrrd", bytes(1000)), read_ct),
    Case("empty .mha", content("ct.mha", b""), read_ct),
    Case("png as a volume", image("ct.png", np.zeros((9, 9), np.uint8)), read_ct),
    Case("csv as a volume", content("ct.csv", b"a,b\n1,2\n"), read_ct),
    Case("nothing there", lambda room: room / "ct.nii.gz", read_ct),
    Case(
        "link to nowhere", lambda room: os.symlink(room / "no", room / "ct.nii") or room / "ct.nii", read_ct
    ),
    Case("nrrd sound", nrrd(), read_ct, check=lambda read: "same" if np.array_equal(read.values, HU) else ""),
    Case("nrrd cut", nrrd(data=HU.astype("<i2").tobytes()[:700]), read_ct),
    Case("nrrd without voxels", nrrd(data=b""), read_ct),
    Case("nrrd of 10^15 voxels", nrrd("100000 100000 100000"), read_ct),
    Case("nrrd of 10^9 voxels", nrrd("1000 1000 1000"), read_ct),
    Case("nrrd, sizes below 0", nrrd("-12 10 6"), read_ct),
    Case("nrrd, direction NaN", nrrd(rest=STRAIGHT.replace("0.8", "nan")), read_ct),
    Case("nrrd, spacing 0", nrrd(rest=STRAIGHT.replace("0.8", "0")), read_ct),
    Case("nrrd, unknown encoding", nrrd(encoding="rot13"), read_ct),
    Case(
        "nrrd gzip cut", nrrd(encoding="gzip", data=gzip.compress(HU.astype("<i2").tobytes())[:300]), read_ct
    ),
    Case(
        "nrrd gzip bomb", nrrd("1000 1000 1000", encoding="gzip", data=gzip.compress(bytes(1 << 26))), read_ct
    ),
    Case("nrrd with its voxels elsewhere", detached("nrrd"), read_ct),
    Case("mha with its voxels elsewhere", detached("mha"), read_ct),
    Case(
        "mha of 10^15 voxels",
        content(
            "ct.mha",
            b"ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 100000 100000 100000\n"
            b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n" + bytes(100),
        ),
        read_ct,
    ),
    Case("mha cut", lambda room: halved(room, "ct.mha"), read_ct),
    Case("mask of other values", write_mask(lambda mask: mask * 0.5), masked, says="mask.nii"),
    Case("mask below 0", write_mask(lambda mask: -mask), masked, says="mask.nii"),
    Case("mask empty", write_mask(np.zeros_like), masked, says="mask.nii"),
    Case(
        "mask on another grid",
        write_mask(grid=GRID._replace(spacing_mm=(1.0, 1.0, 1.0))),
        masked,
        says="mask.nii",
    ),
    Case(
        "mask elsewhere", write_mask(grid=GRID._replace(origin_mm=(900.0, 0.0, 0.0))), masked, says="mask.nii"
    ),
    Case("mask missing", region(lambda room, mask: None), masked, says="mask.nii"),
    Case("blank scan", lambda room: image("ct.nii", np.zeros((4, 5, 6), np.int16))(room), read_ct),
]
SERIES = [
    Case("series of one frame", spoilt_series(DIM, "5h", 4, 8, 8, 4, 1), read_series),
    Case("series of 32767 frames", spoilt_series(DIM, "5h", 4, 8, 8, 4, 32767), read_series),
    Case("series of 3 axes", lambda room: volume(room), read_series),
    Case("series, interval NaN", spoilt_series(PIXDIM + 16, "f", nan), read_series),
    Case("series, interval below 0", spoilt_series(PIXDIM + 16, "f", -1.0), read_series),
    Case("series, interval of 1e30", spoilt_series(PIXDIM + 16, "f", 1e30), read_series),
    Case("series as nrrd", image("ctp.nrrd", np.zeros((4, 4, 5, 6), np.float32)), read_series),
    Case("series cut", lambda room: halved(room, "ctp.nii"), read_series),
    Case("series of one value", flat(40.0), prepared, says="contrast|tissue|brain|no bolus|mask|frames"),
    Case("series of air", flat(-1000.0), prepared, says="baseline|tissue|brain|mask"),
    *(
        Case(f"times: {name}", content(file, data), read_seconds)
        for name, file, data in [
            ("no JSON", "t.json", b"{"),
            ("deep JSON", "t.json", b"[" * 100_000),
            ("a word", "t.json", b'["one", 2]'),
            ("nested", "t.json", b"[[1, 2], [3]]"),
            ("a number", "t.json", b"7"),
            ("null", "t.json", b"null"),
            ("no UTF-8", "t.json", "[1]".encode("utf-16")),
            ("empty csv", "t.csv", b""),
            ("decimal commas", "t.csv", b'seconds\n"0,5"\n"1,5"\n'),
            ("csv of UTF-16", "t.csv", "seconds\n1\n".encode("utf-16")),
        ]
    ),
]
DICOM = [
    Case("series sound", dicom(), read_ct, check=same_series, must_read=True),
    *(Case(f"slice spoilt {seed}", dicom(mutated(seed)), read_ct, check=same_series) for seed in range(20)),
    Case("slice cut", dicom(one_file(lambda path: path.write_bytes(path.read_bytes()[:-60]))), read_ct),
    Case(
        "slice cut to its header",
        dicom(one_file(lambda path: path.write_bytes(path.read_bytes()[:600]))),
        read_ct,
    ),
    Case("slice of zero bytes", dicom(one_file(lambda path: path.write_bytes(b""))), read_ct),
    Case("slice missing", dicom(one_file(os.unlink)), read_ct),
    Case(
        "slice twice",
        dicom(one_file(lambda path: shutil.copyfile(path, path.with_name("copy.dcm")))),
        read_ct,
    ),
    Case("text named .dcm", dicom(lambda folder: (folder / "note.dcm").write_text("hello")), read_ct),
    Case(
        "text beside",
        dicom(lambda folder: (folder / "note.txt").write_text("hello")),
        read_ct,
        check=same_series,
    ),
    Case("position no number", dicom(tag(b"\x20\x00\x32\x00", b"DS", b"a\\b\\c")), read_ct),
    Case("position NaN", dicom(tag(b"\x20\x00\x32\x00", b"DS", b"nan\\nan\\nan")), read_ct),
    Case("position empty", dicom(tag(b"\x20\x00\x32\x00", b"DS", b"")), read_ct),
    Case("orientation 0", dicom(tag(b"\x20\x00\x37\x00", b"DS", b"0\\0\\0\\0\\0\\0")), read_ct),
    Case("spacing 0", dicom(tag(b"\x28\x00\x30\x00", b"DS", b"0\\0")), read_ct),
    Case("rows of 65535", dicom(tag(b"\x28\x00\x10\x00", b"US", b"\xff\xff")), read_ct),
    Case("rows of 0", dicom(tag(b"\x28\x00\x10\x00", b"US", b"\0\0")), read_ct),
    Case("slope 0", dicom(tag(b"\x28\x00\x53\x10", b"DS", b"0")), read_ct),
    Case("slope no number", dicom(tag(b"\x28\x00\x53\x10", b"DS", b"x")), read_ct),
    Case("modality MR", dicom(tag(b"\x08\x00\x60\x00", b"CS", b"MR")), read_ct),
    Case("no slice", dicom(lambda folder: [path.unlink() for path in folder.iterdir()]), read_ct),
    Case(
        "one slice", dicom(lambda folder: [path.unlink() for path in sorted(folder.iterdir())[1:]]), read_ct
    ),
    Case("series in a subfolder", lambda room: dicom()(room).rename(room / "series2").parent, read_ct),
    Case(
        "a file named with unicode",
        dicom(one_file(lambda path: path.rename(path.with_name("Schicht ä 层.dcm")))),
        read_ct,
        check=same_series,
        must_read=True,
    ),
    Case(
        "a link to nowhere among the slices",
        dicom(lambda folder: os.symlink("no", folder / "IM9.dcm")),
        read_ct,
    ),
]


def halved(room: Path, name: str) -> Path:
    path = series(room, name) if name.startswith("ctp") else image(name, HU.astype(np.int16))(room)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def spoilt_in(room: Path, at: int, kind: str, *values) -> Path:
    path = room / "ct.nii"
    data = bytearray(path.read_bytes())
    struct.pack_into(f"<{kind}", data, at, *values)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("case", shown([*FILES, *SERIES, *DICOM]), ids=lambda case: case.name)
def test_volumes(case, tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    judge(case, room)
