"""Files as this project writes them, and as CLAM, TRIDENT and STAMP do (layouts read in their sources)."""

import os
import time

import h5py
import numpy as np
import pytest
import torch

from lib.features.feature_files import bag_files, read_attributes, read_features, read_foreign, write_features
from lib.files import sha256_of

ABOUT = {"encoder": "colour", "revision": "v1", "um_per_px": 0.5, "crop_um": 112}
COUNTS = {"n_white": 2, "n_failed": 0}
NAMES = ["10x13", "µm", "Ångström", "x", "日本", "a b", "0"]


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


@pytest.fixture
def coords():
    return np.arange(14.0).reshape(7, 2)


def write(path, features, coords, **changed):
    write_features(path, **{"features": features, "coords": coords, "counts": COUNTS, **ABOUT, **changed})


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_is_read(tmp_path, features, coords, dtype):
    path, counts = tmp_path / "deep" / "A1.colour.h5", COUNTS | {"n_padded": 3}
    write(path, features, coords, counts=counts, names=NAMES, dtype=dtype)
    file = read_features(path)
    np.testing.assert_array_equal(file.features, features.astype(dtype))
    np.testing.assert_array_equal(file.coords, coords)
    assert (file.features.dtype, file.coords.dtype, list(file.names)) == (dtype, np.float32, NAMES)
    about = {"layout": "crossbook", "coords_unit": "px", "n": 7, "dim": 5}
    assert file.attributes == read_attributes(path) == counts | ABOUT | about
    assert os.listdir(path.parent) == ["A1.colour.h5"]
    with h5py.File(path) as plain:  # contiguous, and UTF-8 for every other reader as well
        assert all(dataset.chunks is None for dataset in plain.values())
        assert plain["names"].asstr()[:].tolist() == NAMES


def test_equal_content_gives_equal_bytes(tmp_path, features, coords):
    write(tmp_path / "a.h5", features, coords)
    assert read_features(tmp_path / "a.h5").names is None
    time.sleep(1.1)  # HDF5 counts its time stamps in seconds
    backwards = {"counts": dict(reversed(COUNTS.items()))}
    write(tmp_path / "b.h5", np.asfortranarray(features), coords.astype(int), **backwards)
    assert sha256_of(tmp_path / "a.h5") == sha256_of(tmp_path / "b.h5")
    features[3, 3] = np.nextafter(features[3, 3], np.float32(9))
    write(tmp_path / "b.h5", features, coords)
    assert sha256_of(tmp_path / "a.h5") != sha256_of(tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.where(np.arange(35).reshape(7, 5) == 22, np.inf, 0)}, "in 1 rows .* first in row 4"),
        ({"features": np.full((7, 5), 7e4), "dtype": "float16"}, "70000 does not fit float16; store float32"),
        ({"features": np.full((7, 5), 1e39)}, r"1e\+39 does not fit float32"),
        ({"features": np.zeros(7)}, r"features must be real numbers \(n, dim\)"),
        ({"coords": np.zeros((6, 2))}, r"7 features but coords of shape \(6, 2\)"),
        ({"coords": np.full((7, 2), np.nan)}, "NaN or infinity in coords"),
        ({"names": ["a"]}, "7 features but 1 names"),
        ({"names": ["a"] * 7}, "names are not unique"),
        ({"um_per_px": float("nan")}, "um_per_px nan .* must be known"),
    ],
)
def test_what_must_not_be_written_is_refused_and_the_old_stays(tmp_path, features, coords, change, message):
    write(tmp_path / "a.h5", features, coords)
    before = sha256_of(tmp_path / "a.h5")
    with pytest.raises(ValueError, match=r"a.h5 not written: .*" + message):
        write(tmp_path / "a.h5", **{"features": features, "coords": coords, **change})
    assert sha256_of(tmp_path / "a.h5") == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_a_missing_a_foreign_and_a_cut_file_are_told_apart(tmp_path, features, coords):
    with pytest.raises(FileNotFoundError, match=r"a.h5 is not there: embed again"):
        read_features(tmp_path / "a.h5")
    with h5py.File(tmp_path / "clam.h5", "w") as file:
        file["features"], file["coords"] = features, coords
    with pytest.raises(ValueError, match=r"clam.h5 is not a feature file.* read_foreign"):
        read_features(tmp_path / "clam.h5")
    write(tmp_path / "a.h5", features, coords, names=NAMES)
    content = (tmp_path / "a.h5").read_bytes()
    for length in range(0, len(content), 197):
        (tmp_path / "cut.h5").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut.h5"):
            read_features(tmp_path / "cut.h5")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("features", np.full((7, 5), np.nan, np.float32), "NaN or infinity in 7 rows"),
        ("features", np.zeros((7, 5), np.int32), "features must be real numbers .* int32"),
        ("coords", np.full((7, 2), np.inf), "infinity in coords"),
        ("names", np.array([b"a"] * 5), "7 features but 5 names"),
        ("names", np.array([b"a"] * 7), "names are not unique"),
    ],
)
def test_damage_is_named(tmp_path, features, coords, key, value, message):
    write(tmp_path / "a.h5", features, coords, names=NAMES)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file[key]
        file[key] = value
    with pytest.raises(ValueError, match=rf"a.h5 is not a feature file.*{message}.*embed again"):
        read_features(tmp_path / "a.h5")


def test_numbers_that_a_killed_writer_only_announced_are_no_zeros(tmp_path, features, coords):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_dataset("features", (9, 6), "f4", chunks=(4, 6))
        file["coords"] = np.zeros((9, 2))
    with pytest.raises(ValueError, match=r"s.h5 .*features claims \(9, 6\) numbers and holds none"):
        read_foreign(tmp_path / "s.h5")


# files of others


def write_clam(path, features, coords):
    """Grows batch by batch along the first axis."""
    with h5py.File(path, "w") as file:
        for key, values in (("features", features), ("coords", coords.astype(np.int32))):
            shape = values.shape[1:]
            file.create_dataset(key, data=values, chunks=(32, *shape), maxshape=(None, *shape))


def write_trident(path, features, coords):
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features, coords
        file["features"].attrs.update({"encoder": "uni_v1", "name": "slide", "savetodir": "out"})
        about = {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "overlap": 0}
        file["coords"].attrs.update(about | {"level0_width": "None"})


def write_stamp(path, features, coords_um):
    with h5py.File(path, "w") as file:
        file["coords"], file["feats"] = coords_um, features.astype(np.float16)
        about = {"stamp_version": "2.3.0", "extractor": "uni2", "unit": "um"}
        file.attrs.update(about | {"tile_size_um": 256.0, "tile_size_px": 224})


def write_tensor(path, features, coords):
    torch.save(torch.from_numpy(features), path)


def write_own(path, features, coords):
    write(path, features.reshape(7, 5), coords.reshape(7, 2))


@pytest.mark.parametrize("batched", [False, True], ids=["", "with a batch axis"])
@pytest.mark.parametrize(
    ("writer", "name", "about"),
    [
        (write_clam, "s.h5", {"layout": "clam", "encoder": "", "coords_unit": "px"}),
        (write_trident, "s.h5", {"layout": "trident", "encoder": "uni_v1", "level0_width": None}),
        (write_stamp, "s.h5", {"layout": "stamp", "encoder": "uni2", "tile_size_um": 256.0}),
        (write_tensor, "s.pt", {"layout": "tensor", "encoder": "", "coords_unit": ""}),
        (write_own, "s.h5", {"layout": "crossbook", "encoder": "colour", "um_per_px": 0.5}),
    ],
)
def test_layouts_are_told_apart_by_what_is_in_them(tmp_path, features, coords, writer, name, about, batched):
    writer(tmp_path / name, *((features[None], coords[None]) if batched else (features, coords)))
    file = read_foreign(tmp_path / name)
    stored = features.astype(np.float16) if writer is write_stamp else features
    np.testing.assert_array_equal(file.features, stored)
    if writer is write_tensor:
        assert file.coords is None
    else:
        np.testing.assert_array_equal(file.coords, coords.astype(int))
    assert about.items() | {"n": 7, "dim": 5}.items() <= file.attributes.items()
    assert file.names is None


def test_half_precision_of_torch_is_widened(tmp_path, features):
    torch.save(torch.from_numpy(features).bfloat16(), tmp_path / "s.pt")
    np.testing.assert_allclose(read_foreign(tmp_path / "s.pt").features, features, rtol=0.01)


@pytest.mark.parametrize("shape", [(0,), (0, 6)])
def test_an_empty_slide_is_not_a_bag(tmp_path, shape):
    write_trident(tmp_path / "s.h5", np.zeros(shape, np.float32), np.zeros((0, 2), np.int64))
    with pytest.raises(ValueError, match=r"s.h5 .*holds no tiles .*no tissue"):
        read_foreign(tmp_path / "s.h5")
    torch.save(torch.zeros(shape), tmp_path / "s.pt")
    with pytest.raises(ValueError, match=r"s.pt .*holds no tiles"):
        read_foreign(tmp_path / "s.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"features": np.zeros(6, np.float32)}, r"one row a tile, they are float32 \(6,\)"),
        ({"coords": np.zeros((4, 2))}, "it holds coords: features, or feats of STAMP"),
        ({"embeddings": np.ones((4, 2))}, "it holds embeddings: features, or feats of STAMP"),
        ({"features": np.repeat([[1.0], [0.0]], [7, 2], 0)}, "features of 2 of its 9 tiles are all 0"),
        ({"feats": np.zeros((4, 2)), "features": np.ones((4, 2))}, "it holds feats, features"),
        ({"features": np.ones((5, 3)), "coords": np.zeros((9, 2))}, "5 features but coords of shape"),
        ({"feats": np.full((5, 3), np.nan)}, "NaN or infinity in 5 rows of features, first in row 0"),
        ({"features": np.ones((5, 3), int)}, "features must be real numbers .* int64"),
        ({"features": np.ones((1, 768), np.float32)}, "one vector for a whole slide"),
        ({"feats": np.ones((1, 1, 768), np.float16)}, "one vector for a whole slide"),
        ({"features": np.ones((9, 3)), "coords": np.full((9, 2), 512)}, "its 9 tiles lie at 1 places"),
        ({"features": np.ones((9, 3)), "coords": np.arange(18).reshape(9, 2) // 6}, "lie at 3 places"),
    ],
)
def test_what_is_no_bag_of_tiles_is_refused(tmp_path, content, message):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for key, values in content.items():
            file[key] = values
    with pytest.raises(ValueError, match=rf"s.h5.*{message}"):
        read_foreign(tmp_path / "s.h5")


@pytest.mark.parametrize("kind", ["slide", "patient"])
def test_embeddings_of_a_slide_or_patient_are_no_bag(tmp_path, kind):
    write_clam(tmp_path / "s.h5", np.ones((2, 768), np.float32), np.array([[0, 0], [5, 5]]))
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file.attrs["feat_type"] = kind
    with pytest.raises(ValueError, match=f"s.h5 .*one vector for a whole {kind}"):
        read_foreign(tmp_path / "s.h5")
    torch.save(torch.ones(1, 768), tmp_path / "s.pt")
    with pytest.raises(ValueError, match="one vector for a whole slide"):
        read_foreign(tmp_path / "s.pt")


STEPS = np.stack(np.meshgrid(np.arange(10), np.arange(8)), -1).reshape(-1, 2)


@pytest.mark.parametrize(
    ("attributes", "step", "unit", "side", "factor"),
    [
        ({}, 224, "um", 256.0, 256 / 224),  # STAMP 1: 224 units are 256 µm
        ({"tile_size": 224}, 112, "um", 256.0, 256 / 224),  # overlapping
        ({}, 300, "", None, 1),  # nobody knows
        ({"unit": "um", "tile_size": 128.0}, 128, "um", 128.0, 1),  # STAMP 2.0
        ({"unit": "um", "tile_size_um": 256.0, "tile_size_px": 224}, 256, "um", 256.0, 1),  # 2.1 and later
    ],
)
def test_units_of_stamp_are_as_stamp_reads_them(tmp_path, attributes, step, unit, side, factor):
    """`get_coords` of stamp/modeling/data.py, KatherLab/STAMP."""
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["feats"], file["coords"] = np.ones((80, 4), np.float16), STEPS * step
        file.attrs.update(attributes | {"extractor": "ctranspath"})
    read = read_foreign(tmp_path / "s.h5")
    assert (read.attributes["coords_unit"], read.attributes.get("tile_size_um")) == (unit, side)
    np.testing.assert_allclose(read.coords, STEPS * step * factor, rtol=1e-6)


def test_what_is_no_tensor_is_refused(tmp_path, features):
    torch.save({"features": torch.from_numpy(features)}, tmp_path / "dict.pt")
    with pytest.raises(ValueError, match=r"dict.pt holds a dict, and not one tensor"):
        read_foreign(tmp_path / "dict.pt")
    for name in ("gone.pt", "gone.h5"):
        with pytest.raises(FileNotFoundError, match=name):
            read_foreign(tmp_path / name)


# where the files of a slide lie


@pytest.fixture
def put(tmp_path):
    def put(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return put


@pytest.mark.parametrize(
    "name",
    [
        *("x{}/s.h5", "{}x/s.h5", "x{}/h5_files/s.h5", "x{}/pt_files/s.pt", "{}x/s.pt"),
        "{}x_256px_0px_overlap/features_uni_v1/s.h5",
    ],
)
def test_places(put, name):
    names = [name.format(scale) for scale in (20, 10, 5)]
    folder = put(*names, name.format(20).replace("s.", "s2."))
    assert [str(path.relative_to(folder)) for path in bag_files(folder, "s").values()] == names


def test_a_pattern_names_the_scale_wherever_it_stands(put):
    folder = put("stamp-20x/s.h5", "stamp-5x/s.h5")
    assert set(bag_files(folder / "stamp-{scale}x", "s", (20, 5))) == {20, 5}


def test_features_of_two_encoders_are_not_mixed(put):
    folder = put("20x_256px/features_uni/s.h5", "20x_256px/features_conch/s.h5")
    with pytest.raises(ValueError, match="slide s has two feature files at 20x"):
        bag_files(folder, "s", (20,))


def test_a_slides_name_is_taken_letter_by_letter(put):
    folder = put("x20/s[1].h5", "x20/s1.h5")
    assert bag_files(folder, "s[1]", (20,))[20].name == "s[1].h5"
    with pytest.raises(FileNotFoundError, match="slide t has no features at 20x, 5x"):
        bag_files(folder, "t", (20, 5))


def test_a_single_scale_may_lie_in_the_folder_itself_several_may_not(put):
    folder = put("s.h5")
    assert bag_files(folder, "s", [20])[20] == folder / "s.h5"
    with pytest.raises(FileNotFoundError, match="at 20x, 10x"):
        bag_files(folder, "s", iter([20, 10]))
