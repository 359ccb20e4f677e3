"""CT perfusion as a film: every voxel at its place, every frame at its time; and the file of what the networks read."""

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from film_files import write_3d, write_4d

from lib.files import sha256_of
from lib.inputs.volumes import Geometry, same_grid
from lib.stroke.series import (
    Series,
    read_series,
    read_series_features,
    timed,
    write_series,
    write_series_features,
)

LPS = Geometry((1.0, 1.5, 4.0), (-10.0, 20.0, 5.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), (5, 4, 3))
AFFINE = np.array([[-0.9, 0, 0, -40], [0, -1.3, 0, 25], [0, 0, 4, 7], [0, 0, 0, 1.0]])


def save(path, values, affine=AFFINE, interval=1.0, units="sec", time_axis=4):
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", units)
    if values.ndim > 3:
        image.header["pixdim"][time_axis] = interval
    nibabel.save(image, path)
    return path


def frames(size=(5, 4, 3), n=6) -> np.ndarray:
    """A series as nibabel has it, (x, y, z, frames)."""
    return np.random.default_rng(0).normal(40, 20, (*size, n)).astype(np.float32)


@pytest.mark.parametrize("code", ["LPS", "RAS", "LAS", "PIR"])
def test_orientation_of_the_file_does_not_change_what_is_read(code, tmp_path):
    """The same patient stored two ways is the same series."""
    plain = nibabel.Nifti1Image(frames(), AFFINE)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(code)
    )
    turned = plain.as_reoriented(turn)
    one, other = (
        read_series(save(tmp_path / f"{number}.nii.gz", image.get_fdata(dtype=np.float32), image.affine))
        for number, image in enumerate((plain, turned))
    )
    np.testing.assert_array_equal(one.values, frames().T)
    np.testing.assert_array_equal(other.values, one.values)
    assert same_grid(one.geometry, other.geometry)
    assert (one.stored_as, other.stored_as, other.geometry.orientation) == ("LPS", code, "LPS")


def test_series_survives_writing(tmp_path):
    series = Series(frames().T.copy(), LPS, 1.41)
    for name in ("a", "b"):
        write_series(tmp_path / f"{name}.nii.gz", series)
    assert sha256_of(tmp_path / "a.nii.gz") == sha256_of(tmp_path / "b.nii.gz")
    read = read_series(tmp_path / "a.nii.gz")
    assert (read.values == series.values).all()
    assert same_grid(read.geometry, LPS)
    np.testing.assert_allclose(read.seconds, 1.41 * np.arange(6), rtol=1e-6)
    assert read.facts == {
        "size": [5, 4, 3],
        "spacing_mm": [1.0, 1.5, 4.0],
        "origin_mm": [-10.0, 20.0, 5.0],
        "direction": [1, 0, 0, 0, 1, 0, 0, 0, 1],
        "orientation": "LPS",
        "stored_as": "LPS",
        "tilt_deg": 0.0,
        "frames": 6,
        "interval_s": 1.41,
    }
    header = nibabel.load(tmp_path / "a.nii.gz").header
    assert header.get_xyzt_units() == ("mm", "sec")
    assert header["pixdim"][4] == np.float32(1.41)
    write_series(tmp_path / "a.nii", series, "int16")
    assert (read_series(tmp_path / "a.nii").values == np.rint(series.values)).all()
    with pytest.raises(ValueError, match="do not fit int16"):
        write_series(tmp_path / "a.nii", series._replace(values=series.values * 1e4), "int16")


@pytest.mark.parametrize(
    ("interval", "units", "seconds"),
    [(1.41, "sec", 1.41), (1410, "msec", 1.41), (2_000_000, "usec", 2.0), (1.5, "unknown", 1.5)],
)
def test_interval_is_read_from_the_header_in_its_unit(interval, units, seconds, tmp_path):
    series = read_series(save(tmp_path / "ctp.nii.gz", frames(), interval=interval, units=units))
    assert series.interval_s == pytest.approx(seconds, rel=1e-6)


@pytest.mark.parametrize(
    ("interval", "units"), [(0, "sec"), (-1, "sec"), (np.nan, "sec"), (1400, "sec"), (1.4, "msec")]
)
def test_interval_that_the_header_does_not_tell_must_be_given(interval, units, tmp_path):
    path = save(tmp_path / "ctp.nii.gz", frames(), interval=interval, units=units)
    with pytest.raises(ValueError, match=r"ctp\.nii\.gz: the time between frames is not known.*interval_s"):
        read_series(path)
    assert read_series(path, interval_s=1.4).interval_s == pytest.approx(1.4)


def test_interval_that_contradicts_the_header_is_refused(tmp_path):
    path = save(tmp_path / "ctp.nii.gz", frames(), interval=1.0)
    with pytest.raises(ValueError, match=r"header says 1 s between frames and interval_s says 1\.41 s"):
        read_series(path, interval_s=1.41)
    assert read_series(path, interval_s=1.004).interval_s == pytest.approx(1.004)


def test_five_axes_with_a_single_one(tmp_path):
    stored = frames()
    path = save(tmp_path / "ctp.nii", stored[:, :, :, None], interval=1.0)
    assert (read_series(path).values == stored.T).all()
    path = save(tmp_path / "ctp5.nii", stored[:, :, :, None], interval=2.0, time_axis=5)
    with pytest.raises(ValueError, match=r"says pixdim\[4\] = 1 and pixdim\[5\] = 2"):
        read_series(path)
    assert read_series(path, interval_s=2.0).interval_s == 2.0
    with pytest.raises(ValueError, match="5 x 4 x 3 x 2 x 3"):
        read_series(save(tmp_path / "ctp6.nii", stored.reshape(5, 4, 3, 2, 3)))


def test_what_is_no_film_of_a_head_is_refused(tmp_path):
    for shape in ((5, 4, 3), (5, 4, 3, 1)):
        path = save(tmp_path / "cta.nii.gz", np.zeros(shape, np.float32))
        with pytest.raises(ValueError, match=r"cta\.nii\.gz has 5 x 4 x 3.*series of volumes"):
            read_series(path)
    spoilt = frames()
    spoilt[1, 2, 1, 4] = np.nan  # which SimpleITK would read as 0
    with pytest.raises(ValueError, match="1 of 60 voxels are NaN"):
        read_series(save(tmp_path / "nan.nii.gz", spoilt))
    path = save(tmp_path / "cut.nii.gz", frames((16, 16, 4), 40))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"cut\.nii\.gz cannot be read as an image"):
        read_series(path)
    turn, (c, s) = np.eye(4), (np.cos(0.3), np.sin(0.3))
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    path = save(tmp_path / "tilted.nii.gz", frames(), turn @ np.diag([-1.0, -1, 2, 1]))
    with pytest.raises(ValueError, match=r"oblique, tilted by 17\.2 degrees"):
        read_series(path)
    assert read_series(path, oblique="keep").geometry.tilt_deg == pytest.approx(17.2, abs=0.05)
    assert read_series(path, oblique="resample").geometry.tilt_deg == pytest.approx(0, abs=1e-6)


# times that a header cannot say

GRID = Geometry((4.0, 4.0, 8.0), (-10.0, 20.0, 5.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), (5, 4, 3))


def whole(n=12) -> np.ndarray:
    values = np.rint(frames(n=n).T)
    values[:, :, 0] = -1000
    return values


@pytest.mark.parametrize(("interval", "given"), [(None, 2.0), (0, 2.0)])
def test_a_number_that_software_writes_by_itself_is_not_taken(interval, given, tmp_path):
    """pixdim[4] = 1 without a unit is nibabel's own."""
    path = write_4d(tmp_path / "ctp.nii.gz", whole(), GRID, interval)
    with pytest.raises(
        ValueError, match=r"time between frames is not known.*give interval_s, in seconds \(the column"
    ):
        read_series(path)
    assert read_series(path, given).interval_s == given


def test_times_of_the_sidecar_are_honoured(tmp_path):
    seconds = np.r_[0:6, 8.0:26:3]
    sidecar = {"FrameTimesStart": (seconds + 100).tolist(), "RepetitionTime": float(np.diff(seconds).mean())}
    for header in (None, float(np.diff(seconds).mean()), 1.0):
        read = read_series(write_4d(tmp_path / "ctp.nii.gz", whole(), GRID, header, sidecar=sidecar))
        assert read.interval_s == 1
        assert len(read.values) == 24
        assert read.notes == ("frames are 1 to 3 s apart: interpolated to every 1 s",)
        assert (read.values[0] == whole()[0]).all()
    path = write_4d(
        tmp_path / "even" / "ctp.nii", whole(), GRID, 1.0, sidecar={"VolumeTiming": list(range(0, 24, 2))}
    )
    read = read_series(path)  # as PET2BIDS's issue 142
    assert (read.interval_s, len(read.values)) == (2, 12)
    assert read.notes == (
        "its header says 1 s between frames and its sidecar has times 2 to 2 s apart: the latter were taken",
    )
    assert read_series(write_4d(path, whole(), GRID, None, sidecar={"RepetitionTime": 1.5})).interval_s == 1.5


@pytest.mark.parametrize(
    ("header", "given", "sidecar", "said"),
    [
        (
            2.5,
            None,
            {"FrameTimesStart": list(range(12))},
            r"its header says 2\.5 s between frames and its sidecar has",
        ),
        (None, 2.0, {"FrameTimesStart": list(range(12))}, "interval_s says 2 s between frames and"),
        (1.0, None, {"FrameTimesStart": list(range(12)), "RepetitionTime": 3}, "RepetitionTime says 3 s"),
        (
            1.0,
            None,
            {"FrameTimesStart": list(range(11))},
            "its sidecar has times of 11 frames, and the file has 12",
        ),
        (1.0, None, {"FrameTimesStart": [1000 * n for n in range(12)]}, "times in another unit"),
        (1.0, None, {"RepetitionTime": 2.0}, "header says 1 s between frames and RepetitionTime says 2 s"),
        (None, 1.0, {"RepetitionTime": 2.0}, "says 2 s between frames and interval_s says 1 s"),
    ],
)
def test_times_that_contradict_each_other_are_refused(header, given, sidecar, said, tmp_path):
    path = write_4d(tmp_path / "ctp.nii.gz", whole(), GRID, header, sidecar=sidecar)
    with pytest.raises(ValueError, match=said):
        read_series(path, given)


# a folder of volumes


@pytest.mark.parametrize("name", ["ctp_{}", "sub-01_ses-2_frame{}", "{:04d}"])
def test_volumes_are_frames_in_the_order_of_their_number(name, tmp_path):
    folder = write_3d(tmp_path / "ctp", whole(), GRID, name)
    with pytest.raises(ValueError, match=r"not known, its volumes do not say: give interval_s"):
        read_series(folder)
    read = read_series(folder, 1.5)
    assert (read.values == whole()).all()
    assert (read.interval_s, read.notes, same_grid(read.geometry, GRID)) == (1.5, (), True)


def test_volumes_whose_number_is_missing_are_seen(tmp_path):
    folder = write_3d(tmp_path / "ctp", whole(20), GRID)
    for number in (8, 9):
        (folder / f"ctp_{number}.nii.gz").unlink()
    read = read_series(folder, 1.0)
    assert "frames are missing between 7 and 10 s" in read.notes
    assert len(read.values) == 20


def test_times_of_volumes_are_those_of_their_sidecars(tmp_path):
    folder = write_3d(tmp_path / "ctp", whole()[::-1], GRID, clock=1.5 * np.arange(12)[::-1])
    read = read_series(folder)
    assert (read.values == whole()).all()
    assert read.interval_s == 1.5
    with pytest.raises(ValueError, match=r"AcquisitionTime says 1\.5 s between frames and interval_s 3 s"):
        read_series(folder, 3.0)
    for path in folder.glob("*.json"):  # all of one conversion
        path.write_text(json.dumps({"AcquisitionTime": "12:00:00"}))
    assert (read_series(folder, 2.0).values == whole()[::-1]).all()


def test_folders_that_are_no_film_are_refused(tmp_path):
    folder = write_3d(tmp_path / "ctp", whole(), GRID)
    other = write_3d(tmp_path / "other", whole(1), GRID._replace(origin_mm=(0.0, 0.0, 0.0)), name="99")
    (other / "99.nii.gz").rename(folder / "ctp_99.nii.gz")
    with pytest.raises(ValueError, match=r"ctp_99\.nii\.gz lies on another grid than ctp_0\.nii\.gz"):
        read_series(folder, 1.0)
    (folder / "ctp_99.nii.gz").rename(folder / "baseline.nii.gz")
    with pytest.raises(ValueError, match="one number a file that counts the frames is expected"):
        read_series(folder, 1.0)
    alone = write_4d(tmp_path / "alone" / "ctp.nii.gz", whole(), GRID).parent
    assert (read_series(alone).values == whole()).all()


# what the networks read


def test_features_are_read_as_written_with_equal_bytes(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)
    for name in ("a", "b"):
        write_series_features(tmp_path / f"{name}.h5", values)
    assert sha256_of(tmp_path / "a.h5") == sha256_of(tmp_path / "b.h5")
    again = read_series_features(tmp_path / "a.h5")
    assert (again.shape, again.dtype) == (values.shape, np.float32)
    # half floats have 11 bits: half a step is 1 in 2,048 of the value
    np.testing.assert_allclose(again, values, rtol=2**-11, atol=1e-6)
    (tmp_path / "a.h5").write_bytes((tmp_path / "b.h5").read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"a.h5 is not a series, or was cut short"):
        read_series_features(tmp_path / "a.h5")


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e5])
def test_features_that_half_floats_cannot_hold_are_refused(odd, tmp_path):
    values = np.zeros((3, 4, 5, 2), np.float32)
    values[0, 0, 0, 0] = odd
    with pytest.raises(ValueError, match=r"one.h5 not written: a series is \(frames, h, w, z\), finite"):
        write_series_features(tmp_path / "one.h5", values)
    assert list(tmp_path.iterdir()) == []


# whatever file it came from


def head(frames: int = 12) -> np.ndarray:
    """A still head with skull, noise of its own in every frame: (t, z, y, x) HU."""
    z, y, x = np.mgrid[:3, :20, :20]
    radius = np.hypot(y - 9.5, x - 9.5)
    still = np.select([radius < 7, radius < 9], [40.0, 900.0], -1000.0)
    return (still + np.random.default_rng(0).normal(0, 2, (frames, *z.shape))).astype(np.float32)


def test_an_even_film_is_left_as_it_is_and_little_jitter_too():
    values = head()
    for jitter in (0, 0.03):
        seconds = 1.5 * np.arange(12) + jitter * np.random.default_rng(1).uniform(-1, 1, 12)
        same, interval_s, notes = timed(values, 43_200 + seconds, "film")
        assert same is values
        assert interval_s == pytest.approx(1.5, abs=0.01)
        assert notes == ()


def test_uneven_times_are_interpolated_to_the_shortest_usual_step():
    values, seconds = head(14), np.r_[np.arange(8.0), np.arange(10.0, 28.0, 3)]
    curve = np.exp(-(((seconds - 6) / 4) ** 2))
    values += 50 * curve[:, None, None, None]
    even, interval_s, notes = timed(values, seconds, "film")
    assert interval_s == 1
    assert len(even) == 26
    assert notes == ("frames are 1 to 3 s apart: interpolated to every 1 s",)
    np.testing.assert_allclose(even[:8], values[:8], atol=1e-2)
    truth = 50 * np.exp(-(((np.arange(26.0) - 6) / 4) ** 2))
    inside = values[0] > 0
    found = even[:, inside].mean(1) - head()[:, inside].mean()
    np.testing.assert_allclose(found, truth, atol=2)


def test_frames_are_sorted_by_their_times():
    values, order = head(), np.random.default_rng(2).permutation(12)
    sorted_, _, notes = timed(values[order], np.arange(12.0)[order], "film")
    assert (sorted_ == values).all()
    assert notes == ("frames sorted by their times",)


def test_broken_frames_are_refused_by_number():
    for number, value in ((11, 0), (5, -1024)):
        values = head()
        values[number] = value
        with pytest.raises(
            ValueError, match=f"film: of frames 0 to 11, frame {number} holds {value} throughout"
        ):
            timed(values, np.arange(12.0), "film")
    values = head()
    values[7] = values[6]
    assert timed(values, np.arange(12.0), "film")[2] == ("copies of the frame before: 7",)


@pytest.mark.parametrize("seconds", [np.zeros(12), 1500.0 * np.arange(12), np.r_[0:6, 600:606]])
def test_times_that_no_film_has_are_refused(seconds):
    with pytest.raises(
        ValueError, match=r"0\.05 to 20 s are expected: times in another unit, or two films in one"
    ):
        timed(head(), seconds, "film")


def test_a_film_that_is_not_in_hu_is_refused():
    with pytest.raises(ValueError, match="film is not in HU"):
        timed(head() + 1024, np.arange(12.0), "film")
    with pytest.raises(ValueError, match=r"film is not in HU: its header says.*MGML"):
        timed(head(), np.arange(12.0), "film", units="MGML")


@pytest.mark.parametrize(("voxels", "axis"), [(1, 3), (2, 2)])
def test_a_head_that_moves_is_remarked(voxels, axis):
    values = head()
    values[8:] = np.roll(values[8:], voxels, axis)
    (note,) = timed(values, np.arange(12.0), "film")[2]
    assert note.startswith("the head moved: 4 frames from 8 to 11 differ from the first")
    brain = np.where(head() > 300, -1000, head())  # skull taken off
    assert timed(brain, np.arange(12.0), "film")[2] == ()
