"""Files of prepared scans and of what the networks read."""

import h5py
import numpy as np
import pytest

from lib.files import sha256_of
from lib.inputs.volumes import Series
from lib.stroke.params import Preparation
from lib.stroke.perfusion import Prepared, network_input, prepare
from lib.stroke.series import read_prepared, read_series_features, write_prepared, write_series_features


@pytest.fixture(scope="module")
def film(brain_scan) -> Series:
    one = brain_scan()
    return Series((one.baseline + one.enhancement).astype(np.float32), one.geometry, one.seconds)


@pytest.fixture(scope="module")
def scan(film) -> Prepared:
    return prepare(film, Preparation())


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)


def written_and_read(scan, folder) -> Prepared:
    write_prepared(folder / "deep" / "one.h5", scan)
    return read_prepared(folder / "deep" / "one.h5")


@pytest.mark.parametrize("ceiling", [8.0, None])
def test_prepared_scan_is_read_as_it_was_written(film, ceiling, tmp_path):
    scan = prepare(film, Preparation(ceiling_hu=ceiling))
    again = written_and_read(scan, tmp_path)
    for name in Prepared._fields:
        if name not in ("enhancement", "baseline", "values", "geometry"):
            np.testing.assert_array_equal(getattr(again, name), getattr(scan, name))
    assert (again.mask.dtype, again.geometry, type(again.peak_frame)) == (bool, scan.geometry, int)
    # half floats have 11 bits: half a step is 1 in 2,048 of the value
    inside = (slice(None), scan.mask)
    np.testing.assert_allclose(again.enhancement[inside], scan.enhancement[inside], rtol=2**-11, atol=1e-6)
    np.testing.assert_allclose(again.baseline, scan.baseline, rtol=2**-11, atol=1e-6)
    most = np.abs(scan.enhancement[inside]).max()
    np.testing.assert_allclose(again.values, scan.values, atol=most * 2**-11 / scan.sd_hu)
    assert again.values.shape == (32, *scan.mask.shape)
    assert again.values.dtype == again.enhancement.dtype == np.float32
    assert not again.enhancement[:, ~scan.mask].any()
    assert again.enhancement.max() > 50, "perfusion maps need the vessels as they are"
    if ceiling:
        assert again.values.max() == pytest.approx((8 - scan.mean_hu) / scan.sd_hu, abs=1e-5)


def test_scan_prepared_without_a_mask_keeps_its_surroundings(film, tmp_path):
    """Else the parameter `masked` would change nothing."""
    scan = prepare(film, Preparation(masked=False))
    assert scan.values[:, ~scan.mask].any()
    again = written_and_read(scan, tmp_path)
    np.testing.assert_allclose(again.values, scan.values, atol=0.05 / scan.sd_hu)
    ours, theirs = (network_input(each, (16, 16, 16), 4) for each in (again, scan))
    np.testing.assert_allclose(ours, theirs, atol=0.02 / scan.sd_hu)


def test_enhancement_beyond_half_floats_is_bounded(scan, tmp_path):
    loud = scan.enhancement.copy()
    place = tuple(np.argwhere(scan.mask)[0])
    loud[(0, *place)], loud[(1, *place)] = 1e6, -1e6
    again = written_and_read(scan._replace(enhancement=loud), tmp_path)
    assert np.isfinite(again.enhancement).all()
    assert [again.enhancement[(i, *place)] for i in (0, 1)] == pytest.approx([60_000, -60_000], rel=1e-3)


def test_equal_content_gives_equal_bytes_and_is_read_as_written(scan, values, tmp_path):
    for name in ("a", "b"):
        write_prepared(tmp_path / f"{name}.scan.h5", scan)
        write_series_features(tmp_path / f"{name}.h5", values)
    assert sha256_of(tmp_path / "a.scan.h5") == sha256_of(tmp_path / "b.scan.h5")
    assert sha256_of(tmp_path / "a.h5") == sha256_of(tmp_path / "b.h5")
    again = read_series_features(tmp_path / "a.h5")
    assert (again.shape, again.dtype) == (values.shape, np.float32)
    np.testing.assert_allclose(again, values, rtol=2**-11, atol=1e-6)


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_file_cut_short_or_of_another_kind_is_refused(scan, values, share, tmp_path):
    path = tmp_path / "one.h5"
    kinds = ((write_prepared, read_prepared, scan), (write_series_features, read_series_features, values))
    for write, read, what in kinds:
        with pytest.raises(FileNotFoundError, match=r"one.h5"):
            read(tmp_path / "gone" / "one.h5")
        write(path, what)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=r"one.h5 is not a (prepared scan|series), or was cut short"):
            read(path)
        with h5py.File(path, "w") as file:
            file["features"] = values
        with pytest.raises(ValueError, match=r"one.h5 is not"):
            read(path)


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e5])
def test_series_that_half_floats_cannot_hold_is_refused(values, odd, tmp_path):
    values[0, 0, 0, 0] = odd
    for each in (values, np.zeros((4, 5, 2))):
        with pytest.raises(ValueError, match=r"one.h5 not written: a series is \(frames, h, w, z\), finite"):
            write_series_features(tmp_path / "one.h5", each)
    assert list(tmp_path.iterdir()) == []
