"""Files of prepared scans and of what the networks read."""

import h5py
import numpy as np
import pytest

from lib.files import sha256_of
from lib.inputs.volumes import Series
from lib.stroke.perfusion import Prepared, Settings, network_input, prepare
from lib.stroke.series import read_prepared, read_series_features, write_prepared, write_series_features

PLAIN = Settings(spacing_mm=None, size=None, slices=None, frames=32)


@pytest.fixture(scope="module")
def series(brain_scan) -> Series:
    one = brain_scan()
    return Series((one.baseline + one.enhancement).astype(np.float32), one.geometry, one.seconds)


@pytest.fixture(scope="module")
def scan(series) -> Prepared:
    return prepare(series, PLAIN._replace(ceiling_hu=8.0))


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)


def written_and_read(scan, folder) -> Prepared:
    write_prepared(folder / "deep" / "one.h5", scan)
    return read_prepared(folder / "deep" / "one.h5")


@pytest.mark.parametrize("ceiling", [8.0, None])
def test_prepared_scan_is_read_as_it_was_written(series, ceiling, tmp_path):
    scan = prepare(series, PLAIN._replace(ceiling_hu=ceiling))
    again = written_and_read(scan, tmp_path)
    np.testing.assert_array_equal(again.mask, scan.mask)
    assert again.mask.dtype == bool
    assert again.geometry == scan.geometry
    np.testing.assert_array_equal(again.seconds, scan.seconds)
    for name in ("peak_frame", "first_frame", "baseline_frames", "arrival_frame"):
        assert getattr(again, name) == getattr(scan, name)
        assert isinstance(getattr(again, name), int)
    for name in ("mean_hu", "sd_hu", "tissue_kept"):
        assert getattr(again, name) == getattr(scan, name)
    # half floats have 11 bits: half a step is 1 in 2,048 of the value
    inside = (slice(None), scan.mask)
    np.testing.assert_allclose(again.enhancement[inside], scan.enhancement[inside], rtol=2**-11, atol=1e-6)
    np.testing.assert_allclose(again.baseline, scan.baseline, rtol=2**-11, atol=1e-6)
    most = np.abs(scan.enhancement[inside]).max()
    np.testing.assert_allclose(again.values, scan.values, atol=most * 2**-11 / scan.sd_hu)
    assert again.values.shape == (32, *scan.mask.shape)
    assert again.values.dtype == again.enhancement.dtype == np.float32


def test_ceiling_survives_though_the_file_holds_what_is_above_it(scan, tmp_path):
    again = written_and_read(scan, tmp_path)
    assert scan.enhancement[:, scan.mask].max() > 50
    assert again.enhancement[:, scan.mask].max() > 50, "perfusion maps need the vessels as they are"
    assert again.values.max() == pytest.approx((8 - scan.mean_hu) / scan.sd_hu, abs=1e-5)
    top = scan.values == scan.values.max()
    assert top.sum() > 100
    np.testing.assert_allclose(again.values[top], scan.values.max(), atol=0.01 / scan.sd_hu)


def test_outside_the_mask_nothing_is_kept(scan, tmp_path):
    assert np.abs(scan.enhancement[:, ~scan.mask]).max() > 1, "there is something to drop"
    again = written_and_read(scan, tmp_path)
    assert not again.values[:, ~scan.mask].any()
    assert not again.enhancement[:, ~scan.mask].any()


def test_scan_prepared_without_a_mask_keeps_its_surroundings(series, tmp_path):
    """Else the parameter `masked` would change nothing."""
    scan = prepare(series, PLAIN._replace(ceiling_hu=8.0, masked=False))
    assert scan.values[:, ~scan.mask].any()
    again = written_and_read(scan, tmp_path)
    np.testing.assert_allclose(again.values, scan.values, atol=0.05 / scan.sd_hu)
    np.testing.assert_allclose(again.enhancement, scan.enhancement, rtol=2**-11, atol=1e-6)
    np.testing.assert_allclose(
        network_input(again, (16, 16, 16), 4), network_input(scan, (16, 16, 16), 4), atol=0.02 / scan.sd_hu
    )


def test_enhancement_beyond_half_floats_is_bounded(scan, tmp_path):
    loud = scan.enhancement.copy()
    place = tuple(np.argwhere(scan.mask)[0])
    loud[(0, *place)], loud[(1, *place)] = 1e6, -1e6
    again = written_and_read(scan._replace(enhancement=loud), tmp_path)
    assert np.isfinite(again.enhancement).all()
    assert again.enhancement[(0, *place)] == pytest.approx(60_000, rel=1e-3)
    assert again.enhancement[(1, *place)] == pytest.approx(-60_000, rel=1e-3)


def test_series_is_read_as_it_was_written(values, tmp_path):
    write_series_features(tmp_path / "one.h5", values)
    again = read_series_features(tmp_path / "one.h5")
    assert again.shape == values.shape
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, values, rtol=2**-11, atol=1e-6)
    assert not np.array_equal(again, values)


def test_equal_content_gives_equal_bytes(scan, values, tmp_path):
    for name in ("a", "b"):
        write_prepared(tmp_path / f"{name}.scan.h5", scan)
        write_series_features(tmp_path / f"{name}.h5", values)
    assert sha256_of(tmp_path / "a.scan.h5") == sha256_of(tmp_path / "b.scan.h5")
    assert sha256_of(tmp_path / "a.h5") == sha256_of(tmp_path / "b.h5")
    write_series_features(tmp_path / "b.h5", values + 1)
    assert sha256_of(tmp_path / "a.h5") != sha256_of(tmp_path / "b.h5")


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_file_cut_short_is_refused(scan, values, share, tmp_path):
    path = tmp_path / "one.h5"
    for write, read, what in (
        (write_prepared, read_prepared, scan),
        (write_series_features, read_series_features, values),
    ):
        write(path, what)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=r"one.h5 is not a (prepared scan|series), or was cut short"):
            read(path)


def test_other_files_are_refused(values, tmp_path):
    path = tmp_path / "one.h5"
    for read in (read_prepared, read_series_features):
        with pytest.raises(FileNotFoundError, match=r"one.h5"):
            read(path)
    write_series_features(path, values)
    with pytest.raises(ValueError, match="is no prepared scan"):
        read_prepared(path)
    with h5py.File(path, "w") as file:
        file["features"] = values
    with pytest.raises(ValueError, match=r"holds no series \(it holds features"):
        read_series_features(path)


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e5])
def test_series_that_half_floats_cannot_hold_is_refused(values, odd, tmp_path):
    values[0, 0, 0, 0] = odd
    with pytest.raises(ValueError, match=r"one.h5 not written: a series is \(frames, h, w, z\), finite"):
        write_series_features(tmp_path / "one.h5", values)
    assert list(tmp_path.iterdir()) == []


def test_series_of_three_axes_is_refused(values, tmp_path):
    with pytest.raises(ValueError, match="this has the shape"):
        write_series_features(tmp_path / "one.h5", values[0])
