"""Files written here the way the three pipelines write them (shared field notes; layouts read in their sources)."""

import h5py
import numpy as np
import pytest
import torch

from lib.features.feature_files import read_foreign, write_features


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)


@pytest.fixture
def coords():
    return np.arange(18).reshape(9, 2) * 512


def write_clam(path, features, coords):
    """Grows batch by batch along the first axis."""
    with h5py.File(path, "w") as file:
        for key, values in (("features", features), ("coords", coords.astype(np.int32))):
            chunks, most = (32, *values.shape[1:]), (None, *values.shape[1:])
            file.create_dataset(key, data=values, chunks=chunks, maxshape=most)


def write_trident(path, features, coords, encoder="uni_v1"):
    with h5py.File(path, "w") as file:
        for key, values in (("features", features), ("coords", coords)):
            if 0 in values.shape:
                file.create_dataset(key, data=values)
            else:
                file.create_dataset(
                    key, data=values, chunks=(1, *values.shape[1:]), maxshape=(None, *values.shape[1:])
                )
        file["features"].attrs.update({"encoder": encoder, "name": "slide", "savetodir": "out"})
        file["coords"].attrs.update(
            {
                "patch_size": 256,
                "patch_size_level0": 512,
                "level0_magnification": 40,
                "overlap": 0,
                "level0_width": "None",
            }
        )


def write_stamp(path, features, coords_um):
    with h5py.File(path, "w") as file:
        file["coords"], file["feats"] = coords_um, features.astype(np.float16)
        file.attrs.update(
            {
                "stamp_version": "2.3.0",
                "extractor": "uni2",
                "unit": "um",
                "tile_size_um": 256.0,
                "tile_size_px": 224,
            }
        )


def test_clam(tmp_path, features, coords):
    write_clam(tmp_path / "s.h5", features, coords)
    file = read_foreign(tmp_path / "s.h5")
    np.testing.assert_array_equal(file.features, features)
    np.testing.assert_array_equal(file.coords, coords)
    assert file.attributes == {"layout": "clam", "encoder": "", "coords_unit": "px", "n": 9, "dim": 6}
    assert file.names is None


def test_clam_tensor(tmp_path, features):
    torch.save(torch.from_numpy(features), tmp_path / "s.pt")
    file = read_foreign(tmp_path / "s.pt")
    np.testing.assert_array_equal(file.features, features)
    assert file.coords is None
    assert file.attributes == {"layout": "tensor", "encoder": "", "coords_unit": "", "n": 9, "dim": 6}


@pytest.mark.parametrize("batched", [False, True])
def test_trident(tmp_path, features, coords, batched):
    write_trident(tmp_path / "s.h5", *((features[None], coords[None]) if batched else (features, coords)))
    file = read_foreign(tmp_path / "s.h5")
    np.testing.assert_array_equal(file.features, features)
    np.testing.assert_array_equal(file.coords, coords)
    known = {"layout": "trident", "encoder": "uni_v1", "coords_unit": "px", "n": 9, "dim": 6}
    assert known.items() <= file.attributes.items()
    assert file.attributes["patch_size_level0"] == 512
    assert file.attributes["level0_width"] is None  # stored as the text "None"


def test_a_tensor_with_a_batch_axis(tmp_path, features):
    torch.save(torch.from_numpy(features)[None], tmp_path / "s.pt")
    np.testing.assert_array_equal(read_foreign(tmp_path / "s.pt").features, features)


def test_stamp(tmp_path, features, coords):
    write_stamp(tmp_path / "s.h5", features, coords * 0.25)
    file = read_foreign(tmp_path / "s.h5")
    np.testing.assert_array_equal(file.features, features.astype(np.float16))
    np.testing.assert_allclose(file.coords, coords * 0.25)
    known = {
        "layout": "stamp",
        "encoder": "uni2",
        "coords_unit": "um",
        "tile_size_um": 256.0,
        "n": 9,
        "dim": 6,
    }
    assert known.items() <= file.attributes.items()


def test_our_own_file_passes_through(tmp_path, features, coords):
    about = {"encoder": "colour", "revision": "v1", "um_per_px": 0.5, "crop_um": 112}
    write_features(tmp_path / "s.h5", features, coords, **about, counts={"n_white": 0, "n_failed": 0})
    file = read_foreign(tmp_path / "s.h5")
    np.testing.assert_array_equal(file.features, features)
    assert file.attributes["layout"] == "crossbook"


@pytest.mark.parametrize("shape", [(0,), (0, 6)])
def test_an_empty_slide_is_not_a_bag(tmp_path, shape):
    write_trident(tmp_path / "s.h5", np.zeros(shape, np.float32), np.zeros((0, 2), np.int64))
    with pytest.raises(ValueError, match=r"s.h5 holds no tiles .*no tissue"):
        read_foreign(tmp_path / "s.h5")
    torch.save(torch.zeros(shape), tmp_path / "s.pt")
    with pytest.raises(ValueError, match=r"s.pt holds no tiles"):
        read_foreign(tmp_path / "s.pt")


def test_one_vector_for_the_slide_is_not_a_bag(tmp_path, features, coords):
    write_trident(tmp_path / "s.h5", features[0], coords)
    with pytest.raises(ValueError, match=r"s.h5 holds one vector of 6 for the whole slide"):
        read_foreign(tmp_path / "s.h5")


def test_patches_without_features(tmp_path, coords):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["coords"] = coords
    with pytest.raises(ValueError, match=r"s.h5 holds tile coordinates only"):
        read_foreign(tmp_path / "s.h5")
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["masks"] = coords
    with pytest.raises(ValueError, match=r"t.h5 holds no features \(masks\)"):
        read_foreign(tmp_path / "t.h5")


def test_lengths_that_differ_and_nan_are_damage(tmp_path, features, coords):
    write_clam(tmp_path / "s.h5", features[:5], coords)
    with pytest.raises(ValueError, match=r"s.h5 is damaged: 5 features but coords of shape \(9, 2\)"):
        read_foreign(tmp_path / "s.h5")
    features[4, 1] = np.nan
    write_stamp(tmp_path / "s.h5", features, coords)
    with pytest.raises(
        ValueError, match=r"s.h5 is damaged: NaN or infinity in 1 rows of features, first in row 4"
    ):
        read_foreign(tmp_path / "s.h5")
    torch.save(torch.from_numpy(features), tmp_path / "s.pt")
    with pytest.raises(ValueError, match=r"s.pt is damaged: NaN"):
        read_foreign(tmp_path / "s.pt")


class Harm:
    def __reduce__(self):
        return (open, ("harm-was-done", "w"))


def test_what_is_no_tensor_is_refused_and_runs_nothing(tmp_path, monkeypatch, features):
    monkeypatch.chdir(tmp_path)
    torch.save(Harm(), tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil.pt is not a whole file of one plain tensor"):
        read_foreign(tmp_path / "evil.pt")
    assert not (tmp_path / "harm-was-done").exists()
    torch.save({"features": torch.from_numpy(features)}, tmp_path / "dict.pt")
    with pytest.raises(ValueError, match=r"dict.pt holds a dict, expected one tensor"):
        read_foreign(tmp_path / "dict.pt")
    for name in ("gone.pt", "gone.h5"):
        with pytest.raises(FileNotFoundError, match=name):
            read_foreign(tmp_path / name)
