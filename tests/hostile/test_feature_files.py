"""Hostile HDF5: feature files of this project and of others, grids of tiles, prepared scans."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from lib.crossfusion.bags import read_bag
from lib.features.feature_files import read_attributes, read_features, read_foreign, write_features
from lib.features.tiles import TileGrid, Tiles, read_grid, write_grid
from lib.inputs.volumes import Geometry
from lib.stroke.arrays import read_array
from lib.stroke.perfusion import Prepared
from lib.stroke.series import read_prepared, read_series_features, write_prepared, write_series_features

sys.path.insert(0, str(Path(__file__).parent))
from judge import Case, judge, shown

ROWS = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
COORDS = np.stack([np.arange(40) % 8, np.arange(40) // 8], 1) * 256.0
SERIES = np.random.default_rng(1).normal(size=(4, 3, 3, 2)).astype(np.float16)


def own(room: Path, name="S1.h5") -> Path:
    write_features(
        room / name, ROWS, COORDS, encoder="colour", revision="1", um_per_px=0.5, crop_um=128.0,
        counts={"n_white": 0, "n_failed": 0}, names=[f"t{i}" for i in range(40)],
    )  # fmt: skip
    return room / name


def changed(change, name="S1.h5"):
    def make(room):
        path = own(room, name)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return make


def replaced(key: str, values, **settings):
    def change(file):
        if key in file:
            del file[key]
        file.create_dataset(key, data=values, **settings)

    return changed(change)


def made(fill, name="S1.h5"):
    """A file of another pipeline."""

    def make(room):
        with h5py.File(room / name, "w") as file:
            fill(file)
        return room / name

    return make


def cut(share: float):
    def make(room):
        path = own(room)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        return path

    return make


def flipped(seed: int):
    """Bytes outside the numbers themselves, where HDF5 keeps shapes, types and places."""

    def make(room):
        path = own(room)
        data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
        numbers = data.find(ROWS.tobytes()[:64])
        free = [i for i in range(len(data)) if not numbers <= i < numbers + ROWS.nbytes and data[i]]
        for place in rng.choice(free, 2, replace=False):
            data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        return path

    return make


def same(read) -> str:
    """Numbers and places as they were; a name or an encoder's letter can be flipped where HDF5 has no checksum."""
    if not np.array_equal(read.features, ROWS) or read.attributes["um_per_px"] != 0.5:
        return ""
    if not np.array_equal(read.coords, COORDS.astype(np.float32)):
        return "legal: another place of a tile, told by the manifest's sha256"
    return "same"


def external(file):
    """Numbers in another file, by HDF5's external storage."""
    del file["features"]
    secret = Path(file.filename).with_name("secret.bin")
    secret.write_bytes(ROWS.tobytes())
    file.create_dataset("features", ROWS.shape, "f4", external=[(str(secret), 0, ROWS.nbytes)])


def linked(file):
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as secret:
        secret["features"] = ROWS
    del file["features"]
    file["features"] = h5py.ExternalLink(str(other), "features")


def virtual(file):
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as secret:
        secret["features"] = ROWS
    del file["features"]
    layout = h5py.VirtualLayout(ROWS.shape, "f4")
    layout[:] = h5py.VirtualSource(str(other), "features", ROWS.shape)
    file.create_virtual_dataset("features", layout)


def looped(file):
    del file["features"]
    file["features"] = h5py.SoftLink("/features")


def group(file):
    del file["features"]
    file.create_group("features")


def claims(shape, **settings):
    def change(file):
        del file["features"]
        file.create_dataset("features", shape, "f4", **settings)

    return changed(change)


def attribute(key, value):
    return changed(lambda file: file.attrs.__setitem__(key, value))


def filled(key="features", values=ROWS, coords=COORDS, **attributes):
    def fill(file):
        file[key] = values
        if coords is not None:
            file["coords"] = coords
        file.attrs.update(attributes)

    return made(fill)


def text(name: str, data: bytes):
    def make(room):
        (room / name).write_bytes(data)
        return room / name

    return make


def grid(change=None):
    def make(room):
        count = np.arange(3)
        tiles = Tiles(
            np.stack([count, count], 1), np.stack([count, count], 1), 0 * count, np.ones(3, np.float32)
        )
        made = TileGrid(
            slide="S1", status="ok", mode="exact", tile_px=256, cell_px=1024.0, um_per_px=0.5, note="", size=(9, 9),
            tiles={20: tiles}, origins=np.zeros((1, 2), np.int64),
        )  # fmt: skip
        write_grid(room / "g.h5", made)
        if change:
            with h5py.File(room / "g.h5", "r+") as file:
                change(file)
        return room / "g.h5"

    return make


def series(change=None):
    def make(room):
        write_series_features(room / "s.h5", SERIES)
        if change:
            with h5py.File(room / "s.h5", "r+") as file:
                change(file)
        return room / "s.h5"

    return make


def scan(change=None):
    def make(room):
        values = np.ones((4, 3, 3, 2), np.float32)
        mask, space = (
            np.ones((3, 3, 2), bool),
            Geometry((1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()), (2, 3, 3)),
        )
        numbers = {"peak_frame": 2, "first_frame": 0, "baseline_frames": 1, "arrival_frame": 1}
        numbers |= {"mean_hu": 1.0, "sd_hu": 1.0, "tissue_kept": 1.0}
        prepared = Prepared(values, mask, space, np.arange(4.0), mask * np.float32(1), values, **numbers)
        numbers = {
            key: np.float64(value) if isinstance(value, float) else np.int64(value)
            for key, value in numbers.items()
        }
        write_prepared(room / "p.h5", prepared._replace(**numbers))
        if change:
            with h5py.File(room / "p.h5", "r+") as file:
                change(file)
        return room / "p.h5"

    return make


def put(key, values):
    def change(file):
        del file[key]
        file[key] = values

    return change


def npz(**arrays):
    def make(room):
        np.savez_compressed(room / "p.npz", **arrays)
        return room / "p.npz"

    return make


def bag(spoil=None):
    def make(room):
        for scale in (20, 10):
            (room / f"x{scale}").mkdir()
            own(room / f"x{scale}")
        spoil(room)
        return room

    return make


CASES = [
    *(
        Case(f"cut at {share:.0%}", cut(share), read_features)
        for share in (0, 0.001, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999)
    ),
    *(Case(f"spoilt {seed}", flipped(seed), read_features, check=same) for seed in range(40)),
    *(
        Case(
            f"attributes of spoilt {seed}",
            flipped(seed),
            read_attributes,
            check=lambda read: "named" if read else "",
        )
        for seed in range(40, 50)
    ),
    Case("zero bytes", text("S1.h5", b""), read_features),
    Case("text", text("S1.h5", b"a,b\n1,2\n"), read_features),
    Case("a folder", lambda room: (room / "S1.h5").mkdir() or room / "S1.h5", read_features),
    Case("not there", lambda room: room / "S1.h5", read_features),
    Case("one axis", replaced("features", ROWS[0]), read_features),
    Case("four axes", replaced("features", ROWS.reshape(1, 5, 8, 8)), read_features),
    Case("no axis", replaced("features", 3.0), read_features),
    Case("no row", replaced("features", ROWS[:0]), read_features),
    Case("fewer rows", replaced("features", ROWS[:7]), read_features),
    Case("NaN", replaced("features", ROWS * np.nan), read_features),
    Case("infinity", replaced("features", ROWS / 0), read_features),
    Case("float64 of 1e300", replaced("features", ROWS * np.float64(1e300)), read_features),
    Case("objects", replaced("features", ["a"] * 40, dtype=h5py.string_dtype()), read_features),
    Case("texts of a fixed length", replaced("features", np.full((40, 8), b"a")), read_features),
    Case("complex numbers", replaced("features", ROWS * 1j), read_features),
    Case("a record", replaced("features", np.zeros((40, 8), [("a", "f4"), ("b", "i4")])), read_features),
    Case(
        "references",
        replaced("features", np.full((40, 8), h5py.Reference(), dtype=h5py.ref_dtype), dtype=h5py.ref_dtype),
        read_features,
    ),
    Case("truth values", replaced("features", ROWS > 0), read_features),
    Case("a group for numbers", changed(group), read_features),
    Case(
        "an empty dataset",
        changed(
            lambda file: (
                file.__delitem__("features") or file.create_dataset("features", data=h5py.Empty("f4"))
            )
        ),
        read_features,
    ),
    Case("no features", changed(lambda file: file.__delitem__("features")), read_features),
    Case("no coords", changed(lambda file: file.__delitem__("coords")), read_features),
    Case("coords of three columns", replaced("coords", np.zeros((40, 3))), read_features),
    Case("coords of texts", replaced("coords", np.full((40, 2), b"a")), read_features),
    Case("names twice", replaced("names", np.full(40, b"t1")), read_features),
    Case("names that are numbers", replaced("names", np.arange(40.0)), read_features),
    Case("names that are no UTF-8", replaced("names", np.full(40, b"\xff\xfe")), read_features),
    Case("names too few", replaced("names", np.array([b"a"])), read_features),
    Case("another count", attribute("n", 41), read_features),
    Case("a count in words", attribute("n", "many"), read_features),
    Case("no encoder", changed(lambda file: file.attrs.__delitem__("encoder")), read_features),
    Case("um_per_px NaN", attribute("um_per_px", np.nan), read_features),
    Case("um_per_px in words", attribute("um_per_px", "half"), read_features),
    Case("um_per_px below 0", attribute("um_per_px", -1.0), read_features),
    Case("an attribute of 60 KB", attribute("note", "x" * 60_000), read_features, check=same),
    Case("another layout", attribute("layout", "x"), read_features),
    Case("numbers in another file", changed(external), read_features),
    Case("a link to another file", changed(linked), read_features),
    Case("a dataset made of another file", changed(virtual), read_features),
    Case("a link to itself", changed(looped), read_features),
    Case("10^12 rows and no data", claims((10**12, 8), chunks=(1024, 8)), read_features),
    Case("10^9 rows and no data", claims((10**9, 8), chunks=(1024, 8)), read_features),
    Case(
        "10^8 numbers that compress to nothing",
        claims((10**8, 16), chunks=(10**5, 16), compression="gzip"),
        read_features,
    ),
    Case(
        "a filter nobody has",
        claims((40, 8), chunks=(40, 8), compression=32001, allow_unknown_filter=True),
        read_features,
    ),
    Case("bag: numbers in another file", changed(linked), lambda path: read_bag(path.parent, "S1", [20])),
    Case(
        "bag: a slide's name that leaves",
        bag(lambda room: None),
        lambda room: read_bag(room / "x20", "../x10/S1", [20]),
        says="x10",
    ),
    Case(
        "bag: a scale lacks",
        bag(lambda room: (room / "x10" / "S1.h5").unlink()),
        lambda room: read_bag(room, "S1", [20, 10]),
        says="S1",
    ),
    Case(
        "bag: folders exchanged",
        bag(lambda room: None),
        lambda room: read_bag(room, "S1", [20, 10]),
        says="S1",
    ),
    Case("foreign: no tiles", filled(values=np.zeros((0,)), coords=None), read_foreign),
    Case("foreign: a number", filled(values=1.0, coords=None), read_foreign),
    Case("foreign: a vector", filled(values=ROWS[0], coords=None), read_foreign),
    Case("foreign: texts", filled(values=np.full((4, 4), b"a"), coords=None), read_foreign),
    Case("foreign: records", filled(values=np.zeros((4, 4), [("a", "f4")]), coords=None), read_foreign),
    Case("foreign: coords of texts", filled(coords=np.full((40, 2), b"a")), read_foreign),
    Case(
        "foreign: coords a group",
        made(lambda file: file.create_group("coords") and file.__setitem__("features", ROWS)),
        read_foreign,
    ),
    Case("foreign: coords NaN", filled(coords=COORDS * np.nan), read_foreign),
    Case(
        "foreign: a magnification in words",
        filled(target_magnification="twenty"),
        lambda path: read_bag(path.parent, "S1", [20]),
        says="S1",
    ),
    Case(
        "foreign: a tile side in words",
        filled(patch_size_level0="big"),
        lambda path: read_bag(path.parent, "S1", [20]),
        says="S1",
    ),
    Case(
        "foreign: a tile side NaN",
        filled(patch_size_level0=np.nan),
        lambda path: read_bag(path.parent, "S1", [20]),
        says="S1",
    ),
    Case(
        "foreign: two tables of features",
        made(lambda file: file.__setitem__("feats", ROWS) or file.__setitem__("features", ROWS)),
        read_foreign,
    ),
    Case("foreign: a link to another file", changed(linked), read_foreign),
    Case(
        "foreign: names of no UTF-8",
        made(lambda file: file.create_dataset(b"\xff\xfe", data=1)),
        read_foreign,
    ),
    Case("grid: sound", grid(), read_grid, check=lambda read: "same", must_read=True),
    Case("grid: no scale", grid(lambda file: file.__delitem__("x20")), read_grid),
    Case("grid: a scale in words", grid(lambda file: file.move("x20", "xx")), read_grid),
    Case("grid: no coords", grid(lambda file: file.__delitem__("x20/coords")), read_grid),
    Case("grid: fewer coords", grid(put("x20/coords", np.zeros((1, 2), np.int64))), read_grid),
    Case("grid: coords of texts", grid(put("x20/coords", np.full((3, 2), b"a"))), read_grid),
    Case("grid: a place of 10^18", grid(put("x20/coords", np.full((3, 2), 10**18))), read_grid),
    Case("grid: an origin that is not there", grid(put("x20/origins", np.full(3, 9))), read_grid),
    Case("grid: no origins", grid(lambda file: file.__delitem__("origins")), read_grid),
    Case("grid: size a word", grid(lambda file: file.attrs.__setitem__("size", "big")), read_grid),
    Case("grid: um_per_px NaN", grid(lambda file: file.attrs.__setitem__("um_per_px", np.nan)), read_grid),
    Case("grid: status unknown", grid(lambda file: file.attrs.__setitem__("status", "fine")), read_grid),
    Case(
        "grid: 10^12 tiles",
        grid(
            lambda file: (
                file.__delitem__("x20/coords")
                or file.create_dataset("x20/coords", (10**12, 2), "i8", chunks=(999, 2))
            )
        ),
        read_grid,
    ),
    Case("series: three axes", series(put("series", SERIES[0])), read_series_features),
    Case("series: NaN", series(put("series", SERIES * np.float16(np.nan))), read_series_features),
    Case("series: texts", series(put("series", np.full((2, 2, 2, 2), b"a"))), read_series_features),
    Case(
        "series: a group",
        series(lambda file: file.__delitem__("series") or file.create_group("series")),
        read_series_features,
    ),
    Case(
        "series: 10^13 numbers",
        series(
            lambda file: (
                file.__delitem__("series")
                or file.create_dataset("series", (10**4, 10**3, 10**3, 10**3), "f2", chunks=(1, 9, 9, 9))
            )
        ),
        read_series_features,
    ),
    Case("scan: sound", scan(), read_prepared, check=lambda read: "same", must_read=True),
    Case("scan: no mask", scan(lambda file: file.__delitem__("mask")), read_prepared),
    Case("scan: no number", scan(lambda file: file.attrs.__delitem__("mean_hu")), read_prepared),
    Case(
        "scan: a number in words", scan(lambda file: file.attrs.__setitem__("mean_hu", "high")), read_prepared
    ),
    Case(
        "scan: a spread of 0",
        scan(lambda file: file.attrs.__setitem__("sd_hu", np.float64(0))),
        read_prepared,
    ),
    Case("scan: a mask too short", scan(put("mask", np.zeros(1, np.uint8))), read_prepared),
    Case(
        "scan: enhancement of another mask",
        scan(put("enhancement", np.zeros((4, 5), np.float16))),
        read_prepared,
    ),
    Case("scan: NaN", scan(put("enhancement", np.full((4, 18), np.nan, np.float16))), read_prepared),
    Case(
        "scan: a window beyond the frames",
        scan(lambda file: file.attrs.__setitem__("window", 99)),
        read_prepared,
    ),
    Case(
        "scan: a window of 10^12", scan(lambda file: file.attrs.__setitem__("window", 10**12)), read_prepared
    ),
    Case(
        "scan: a direction of two numbers",
        scan(lambda file: file.attrs.__setitem__("direction", [1.0, 0.0])),
        read_prepared,
    ),
    Case("npz: objects", npz(img=np.array([{"a": 1}], dtype=object)), read_array),
    Case("npz: no img", npz(a=ROWS), read_array),
    Case("npz: NaN", npz(img=np.full((2, 2, 2, 2), np.nan)), read_array),
    Case("npz: texts", npz(img=np.full((2, 2, 2, 2), "a")), read_array),
    Case("npz: text", text("p.npz", b"hello"), read_array),
    Case("npz: empty", text("p.npz", b""), read_array),
    Case("npz: a bomb", npz(img=np.broadcast_to(np.float16(0), (512, 512, 40, 16))), read_array),
]


@pytest.mark.parametrize("case", shown(CASES), ids=lambda case: case.name)
def test_feature_files(case, tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    judge(case, room)
