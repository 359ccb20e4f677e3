import os
import time

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.features.feature_files import _finite, read_attributes, read_features, write_features
from lib.files import sha256_of

ABOUT = {
    "encoder": "colour",
    "revision": "v1",
    "um_per_px": 0.5,
    "crop_um": 112,
    "counts": {"n_white": 2, "n_failed": 0},
}


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


@pytest.fixture
def coords():
    return np.arange(14.0).reshape(7, 2)


NAMES = ["10x13", "µm", "Ångström", "x", "日本", "a b", "0"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_is_read(tmp_path, features, coords, dtype):
    path = tmp_path / "deep" / "A1.colour.h5"
    counts = {"n_white": 2, "n_failed": 1, "n_padded": 3}
    write_features(path, features, coords, **ABOUT | {"counts": counts}, names=NAMES, dtype=dtype)
    file = read_features(path)
    np.testing.assert_array_equal(file.features, features.astype(dtype))
    assert file.features.dtype == dtype
    np.testing.assert_array_equal(file.coords, coords)
    assert file.coords.dtype == np.float32
    assert list(file.names) == NAMES
    assert file.attributes == counts | {
        "layout": "crossbook",
        "encoder": "colour",
        "revision": "v1",
        "um_per_px": 0.5,
        "crop_um": 112.0,
        "coords_unit": "px",
        "n": 7,
        "dim": 5,
    }
    assert os.listdir(path.parent) == ["A1.colour.h5"]


def test_names_may_be_absent(tmp_path, features, coords):
    write_features(tmp_path / "a.h5", features, coords, **ABOUT)
    assert read_features(tmp_path / "a.h5").names is None


def test_the_file_is_plain_contiguous_hdf5(tmp_path, features, coords):
    write_features(tmp_path / "a.h5", features, coords, **ABOUT, names=NAMES)
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {"features", "coords", "names"}
        for dataset in file.values():
            assert dataset.chunks is None
            assert dataset.compression is None
        assert file["names"].asstr()[:].tolist() == NAMES  # UTF-8 for every other reader as well
        assert file.attrs["um_per_px"] == 0.5


def test_equal_content_gives_equal_bytes(tmp_path, features, coords):
    write_features(tmp_path / "a.h5", features, coords, **ABOUT, names=NAMES)
    time.sleep(1.1)  # HDF5 counts its time stamps in seconds
    backwards = dict(reversed((ABOUT | {"counts": {"n_failed": 0, "n_white": 2}}).items()))
    write_features(
        tmp_path / "b.h5", np.asfortranarray(features), coords.astype(int), **backwards, names=NAMES
    )
    assert sha256_of(tmp_path / "a.h5") == sha256_of(tmp_path / "b.h5")
    features[3, 3] = np.nextafter(features[3, 3], np.float32(9))
    write_features(tmp_path / "b.h5", features, coords, **ABOUT, names=NAMES)
    assert sha256_of(tmp_path / "a.h5") != sha256_of(tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.full((7, 5), np.nan)}, r"NaN or infinity in 7 rows of features, first in row 0"),
        (
            {"features": np.where(np.arange(35).reshape(7, 5) == 22, np.inf, 0)},
            r"in 1 rows .* first in row 4",
        ),
        (
            {"features": np.full((7, 5), 70000.0), "dtype": "float16"},
            r"70000 does not fit float16; store float32",
        ),
        ({"features": np.full((7, 5), 1e39)}, r"1e\+39 does not fit float32"),
        ({"features": np.zeros(7)}, r"features must be \(n, dim\)"),
        ({"features": np.zeros((0, 5)), "coords": np.zeros((0, 2))}, r"features must be .* above 0"),
        ({"coords": np.zeros((6, 2))}, r"7 features but coords of shape \(6, 2\)"),
        ({"coords": np.zeros((7, 3))}, r"expected \(7, 2\)"),
        ({"coords": np.full((7, 2), np.nan)}, r"NaN or infinity in coords"),
        ({"names": ["a"]}, r"7 features but 1 names"),
        ({"names": ["a"] * 7}, r"names are not unique"),
        ({"dtype": "float64"}, r"neither float32 nor float16"),
        ({"counts": {"n_white": 0}}, r"counts lack n_failed"),
        ({"encoder": ""}, r"encoder '', .* must be known"),
        ({"um_per_px": float("nan")}, r"um_per_px nan .* must be known"),
    ],
)
def test_what_must_not_be_written_is_refused_and_the_old_file_stays(
    tmp_path, features, coords, change, message
):
    path = tmp_path / "a.h5"
    write_features(path, features, coords, **ABOUT)
    before = sha256_of(path)
    with pytest.raises(ValueError, match=r"a.h5 not written: .*" + message):
        write_features(path, **{"features": features, "coords": coords, **ABOUT, **change})
    assert sha256_of(path) == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_a_missing_a_foreign_and_a_cut_file_are_told_apart(tmp_path, features, coords):
    with pytest.raises(FileNotFoundError, match=r"a.h5 is not there: embed again"):
        read_features(tmp_path / "a.h5")
    with h5py.File(tmp_path / "clam.h5", "w") as file:
        file["features"], file["coords"] = features, coords
    with pytest.raises(ValueError, match=r"clam.h5 is not a feature file of this project .*read_foreign"):
        read_features(tmp_path / "clam.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match=r"text.h5 is not a feature file, or was cut short"):
        read_features(tmp_path / "text.h5")


def test_every_cut_of_a_file_is_noticed(tmp_path, features, coords):
    write_features(tmp_path / "a.h5", features, coords, **ABOUT, names=NAMES)
    whole = (tmp_path / "a.h5").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.h5").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut.h5"):
            read_features(tmp_path / "cut.h5")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("features", np.full((7, 5), np.nan, np.float32), "NaN or infinity in 7 rows"),
        ("features", np.zeros((6, 5), np.float32), r"6 features but coords of shape \(7, 2\)"),
        ("features", np.zeros((7, 4), np.float32), r"promise 7 x 5, features are \(7, 4\)"),
        ("coords", np.full((7, 2), np.inf), "infinity in coords"),
        ("names", np.array([b"a"] * 5), "7 features but 5 names"),
    ],
)
def test_damage_is_named(tmp_path, features, coords, key, value, message):
    write_features(tmp_path / "a.h5", features, coords, **ABOUT, names=NAMES)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file[key]
        file[key] = value
    with pytest.raises(ValueError, match=rf"a.h5 is damaged: .*{message}.*embed again"):
        read_features(tmp_path / "a.h5")


@pytest.mark.parametrize("key", ["n", "encoder", "revision", "um_per_px", "n_white", "n_failed"])
def test_a_lost_attribute_is_named(tmp_path, features, coords, key):
    write_features(tmp_path / "a.h5", features, coords, **ABOUT)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file.attrs[key]
    with pytest.raises(ValueError, match=rf"a.h5 is damaged: .*({key}|promise None)"):
        read_features(tmp_path / "a.h5")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["float16", "float32"]).flatmap(
        lambda dtype: arrays(dtype, st.integers(1, 300), elements=st.floats(width=int(dtype[-2:])))
    )
)
def test_the_fast_look_for_nan_equals_numpys(values):
    assert _finite(values) == np.isfinite(values).all()
    assert _finite(values[::2]) == np.isfinite(values[::2]).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_fast_look_sees_the_last_value_of_a_large_array(dtype):
    values = np.full((300, 1024), np.finfo(dtype).max, dtype)
    values[::2] *= -1
    assert _finite(values)
    for bad in (np.nan, -np.nan, np.inf, -np.inf):
        for place in (0, 65535, 65536, values.size - 1):
            spoilt = values.copy()
            spoilt.flat[place] = bad
            assert not _finite(spoilt)


def test_attributes_are_read_without_the_features(tmp_path):
    write_features(tmp_path / "a.h5", np.ones((3, 2)), np.zeros((3, 2)), **ABOUT)
    assert read_attributes(tmp_path / "a.h5") == read_features(tmp_path / "a.h5").attributes
