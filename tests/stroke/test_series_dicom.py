"""CT perfusion as DICOM: slices find their frames by place and time, whatever scanners write into the other tags."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from film_files import ROOT, write_3d, write_4d, write_dicom, write_enhanced

from lib.inputs.volumes import Geometry, same_grid
from lib.stroke.maps import mismatch
from lib.stroke.params import Preparation
from lib.stroke.perfusion import prepare
from lib.stroke.series import read_series, seconds_of

GRID = Geometry((2.0, 2.0, 5.0), (-12.0, -14.0, 3.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), (12, 14, 3))
SECONDS = np.arange(10) * 1.5


def small() -> np.ndarray:
    """Ten frames of a little head, each its own: (t, z, y, x), whole HU."""
    values = np.random.default_rng(0).normal(40, 5, (10, *GRID.size[::-1]))
    values[:, :, :3] = -1000
    return np.rint(values + np.arange(10)[:, None, None, None])


def hypoperfused(film) -> float:
    return mismatch(prepare(film, Preparation())).lesions.hypoperfused_ml


@pytest.fixture(scope="module")
def film(brain_scan):
    """A film of a planted stroke, a frame a second, whole HU: 50 frames and its grid."""
    scan = brain_scan(noise=1.0, frames=50)
    return np.rint(scan.baseline + scan.enhancement), scan.geometry


def test_one_phantom_has_the_same_volumes_through_all_five_ways_in(film, tmp_path):
    values, geometry = film
    times = np.arange(50.0)
    ways = {
        "4D": write_4d(tmp_path / "plain" / "ctp.nii.gz", values, geometry),
        "4D with a sidecar": write_4d(
            tmp_path / "own" / "ctp.nii.gz",
            values,
            geometry,
            None,
            sidecar={"FrameTimesStart": times.tolist()},
        ),
        "folder of 3D": write_3d(tmp_path / "volumes", values, geometry, clock=times),
        "one series": write_dicom(tmp_path / "one", values, geometry, times),
        "a series a frame": write_dicom(tmp_path / "many", values, geometry, times, each_frame=True),
    }
    read = {way: read_series(path) for way, path in ways.items()}
    found = {way: hypoperfused(one) for way, one in read.items()}
    for way, one in read.items():
        assert same_grid(one.geometry, geometry), way
        assert (one.values == values).all(), way
        assert (one.interval_s, one.notes) == (1.0, ()), way
        assert found[way] == pytest.approx(found["4D"], abs=1), way
    assert found["4D"] > 50


def test_uneven_steps_are_honoured_and_slices_have_their_own_times(film, tmp_path):
    values, geometry = film
    sound = hypoperfused(read_series(write_4d(tmp_path / "sound.nii.gz", values, geometry)))
    kept = np.r_[0:25, 27:50:3]
    read = read_series(write_dicom(tmp_path / "uneven", values[kept], geometry, kept))
    assert read.notes == ("frames are 1 to 3 s apart: interpolated to every 1 s",)
    assert read.values.shape == (49, *values.shape[1:])
    assert hypoperfused(read) == pytest.approx(sound, rel=0.05)
    # a table that moves to and fro: the upper half a second later, every two seconds
    low, high = values[0:48:2], values[1:49:2]
    to_and_fro = np.concatenate([low[:, :4], high[:, 4:]], 1)
    times = np.arange(0.0, 48, 2)[:, None] + np.repeat([0.0, 1.0], 4)
    read = read_series(write_dicom(tmp_path / "shuttle", to_and_fro, geometry, times))
    assert read.notes == ("slices are taken up to 1 s apart: interpolated to every 2 s",)
    truth, mean = values[1:46:2, :4], values[0, :4] > 0
    course = [frames[:23, :4][:, mean].mean(1) for frames in (truth, read.values, to_and_fro)]
    assert np.abs(course[1] - course[0]).max() < 0.25 * np.abs(course[2] - course[0]).max()
    assert (read.values[:, 4:] == to_and_fro[:23, 4:]).all(), (
        "these slices were taken when the new frames are"
    )


def test_frames_missing_are_seen_from_the_clock(film, tmp_path):
    values, geometry = film
    kept = np.delete(np.arange(50), [14, 15, 16])
    read = read_series(write_dicom(tmp_path / "lost", values[kept], geometry, kept))
    assert "frames are missing between 13 and 17 s" in read.notes
    assert len(read.values) == 50
    assert np.abs(read.values[15] - values[15])[values[0] > 0].mean() < 3


def test_files_of_many_frames_are_read(tmp_path):
    """Enhanced CT: all slices and times in one file, or a file a volume."""
    one = write_enhanced(tmp_path / "one" / "film.dcm", small(), GRID, SECONDS)
    for t, volume in enumerate(small()):
        write_enhanced(tmp_path / "many" / f"{t * 7 % 10}.dcm", volume[None], GRID, SECONDS[t : t + 1], t + 1)
    for path in (one, one.parent, tmp_path / "many"):
        read = read_series(path)
        assert (read.values == small()).all()
        assert (read.interval_s, read.notes, same_grid(read.geometry, GRID)) == (1.5, (), True)


# which clock


def tags(**changes):
    """Change of every picture; a function is called with frame and slice, None takes the tag away."""

    def change(ds, t, k):
        for name, value in changes.items():
            value = value(t, k) if callable(value) else value
            if value is None:
                delattr(ds, name)
            else:
                setattr(ds, name, value)

    return change


NO_TIME = {"AcquisitionTime": None, "AcquisitionDate": None}
STUCK = {"AcquisitionTime": "120000.000"}
CLOCKS = {
    "GE: all instances of one acquisition": {"AcquisitionNumber": 1},
    "numbers counted anew in every frame": {"InstanceNumber": lambda t, k: k + 1, "AcquisitionNumber": 1},
    "numbers run against time": {
        "InstanceNumber": lambda t, k: 900 - t,
        "AcquisitionNumber": lambda t, k: 99 - t,
    },
    "Canon: AcquisitionDateTime": {
        **NO_TIME,
        "AcquisitionDateTime": lambda t, k: f"202601011200{1.5 * t:09.6f}+0100",
    },
    "Philips: TriggerTime in ms": {**STUCK, "TriggerTime": lambda t, k: 1500.0 * t},
}


@pytest.mark.parametrize("case", CLOCKS)
def test_frames_are_told_apart_by_the_clock_that_moves(case, tmp_path):
    read = read_series(write_dicom(tmp_path, small(), GRID, SECONDS, change=tags(**CLOCKS[case])))
    assert (read.values == small()).all()
    assert (read.interval_s, read.notes) == (1.5, ())


def test_a_scan_over_midnight_is_one_film(tmp_path):
    for number, change in enumerate((None, tags(AcquisitionDate=None), tags(AcquisitionDate="20260101"))):
        start = (2026, 1, 1, 23, 59, 55)
        read = read_series(
            write_dicom(tmp_path / str(number), small(), GRID, SECONDS, start=start, change=change)
        )
        assert (read.values == small()).all()
        assert read.interval_s == 1.5


def test_whole_seconds_are_the_rounded_times_of_an_even_clock(tmp_path):
    change = tags(AcquisitionTime=lambda t, k: f"1200{int(1.5 * t):02d}")
    read = read_series(write_dicom(tmp_path, small(), GRID, SECONDS, change=change))
    assert (read.values == small()).all()
    assert read.interval_s == pytest.approx(1.5, abs=0.06)
    assert read.notes == (f"times are whole seconds, as if rounded: {read.interval_s:.3g} s between frames",)


def test_times_of_the_picture_give_the_order_and_a_stated_interval_goes_before_them(tmp_path):
    times = tags(**NO_TIME, ContentTime=lambda t, k: f"1300{0.4 * t:09.6f}")
    folder = write_dicom(tmp_path, small()[::-1], GRID, SECONDS[::-1], change=times)
    read = read_series(folder)
    assert (read.values == small()[::-1]).all()
    assert read.interval_s == pytest.approx(0.4)
    assert read.notes == ("times are those of ContentTime, when pictures were made",)
    read = read_series(folder, interval_s=1.5)
    assert read.interval_s == 1.5
    assert read.notes == ("ContentTime says 0.4 s between frames and interval_s 1.5 s: the latter was taken",)


@pytest.mark.parametrize(
    "counter",
    [
        {"TemporalPositionIndex": lambda t, k: t + 1, "InstanceNumber": 1, "AcquisitionNumber": 1},
        {"TemporalPositionIdentifier": lambda t, k: t + 1, "InstanceNumber": lambda t, k: 99 - t},
        {"AcquisitionNumber": lambda t, k: t + 5},
        {"AcquisitionNumber": 1, "InstanceNumber": lambda t, k: 10 * k + t},
    ],
)
def test_without_a_clock_a_counter_gives_the_order_and_the_interval_is_asked_for(counter, tmp_path):
    folder = write_dicom(tmp_path, small(), GRID, SECONDS, change=tags(**STUCK, **counter))
    with pytest.raises(
        ValueError, match=r"time between frames is not known.*give interval_s, in seconds \(the column"
    ):
        read_series(folder)
    read = read_series(folder, interval_s=1.5)
    assert (read.values == small()).all()
    assert read.interval_s == 1.5
    assert read.notes[0].startswith("frames are in the order of ")


def test_an_interval_that_contradicts_the_clock_is_refused(tmp_path):
    folder = write_dicom(tmp_path, small(), GRID, SECONDS)
    with pytest.raises(ValueError, match=r"AcquisitionTime says 1\.5 s between frames and interval_s 2 s"):
        read_series(folder, interval_s=2.0)
    assert read_series(folder, interval_s=1.5).interval_s == 1.5


# which pictures


def test_a_film_is_found_in_an_export_and_copies_are_passed_over(tmp_path):
    write_dicom(tmp_path / "A", small(), GRID, SECONDS)
    write_dicom(tmp_path / "A copy", small()[:2], GRID, SECONDS[:2])
    other = {"SeriesInstanceUID": f"{ROOT}.9", "SeriesDescription": "Head without", "SeriesNumber": 2}
    other["change"] = tags(SOPInstanceUID=lambda t, k: f"{ROOT}.8.{k}")
    write_dicom(tmp_path / "B", small()[:1], GRID, [0], **other)
    report = {"Modality": "SR", "SeriesDescription": "Dose", "SeriesInstanceUID": f"{ROOT}.10"}
    report["change"] = tags(SOPInstanceUID=lambda t, k: f"{ROOT}.7.{k}")
    write_dicom(tmp_path / "C", small()[:1, :1], GRID, [0], **report)
    read = read_series(tmp_path)
    assert (read.values == small()).all()
    assert read.notes == ("not read: Dose, Head without", "6 copies of pictures passed over")


def test_of_two_films_one_is_chosen_by_number_or_description(tmp_path):
    write_dicom(tmp_path / "A", small(), GRID, SECONDS)
    other = {"SeriesInstanceUID": f"{ROOT}.9", "SeriesDescription": "CTP thin", "SeriesNumber": 8}
    change = tags(SOPInstanceUID=lambda t, k: f"{ROOT}.8.{t}.{k}")
    write_dicom(tmp_path / "B", small()[:, ::-1], GRID, SECONDS, change=change, **other)
    with pytest.raises(
        ValueError, match=r"2 films of CT perfusion.*7 'CTP' \(30 pictures\).*Choose one with `series`"
    ):
        read_series(tmp_path)
    assert (read_series(tmp_path, series="7").values == small()).all()
    assert (read_series(tmp_path, series="CTP thin").values == small()[:, ::-1]).all()
    with pytest.raises(ValueError, match=r"no films of CT perfusion.* fit 'CTA'"):
        read_series(tmp_path, series="CTA")


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (
            lambda t, k: (t, k) == (4, 1),
            r"the place at 8\.00 mm has 9 pictures and others 10 \(1 such places\)",
        ),
        (lambda t, k: k == 1, "slices are missing"),
    ],
)
def test_a_picture_or_a_place_that_is_missing_is_named(lost, said, tmp_path):
    six = np.concatenate([small(), small() + 1], 1)
    change = lambda ds, t, k: "left out" if lost(t, k) else None  # noqa: E731
    folder = write_dicom(tmp_path, six, GRID, SECONDS, change=change)
    with pytest.raises(ValueError, match=said):
        read_series(folder)


def test_what_is_no_film_is_refused(tmp_path):
    write_dicom(tmp_path / "one", small()[:1], GRID, [0])
    with pytest.raises(ValueError, match=r"no films of CT perfusion.*7 'CTP' \(3 pictures\)"):
        read_series(tmp_path / "one")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"no films.*it holds no CT"):
        read_series(tmp_path / "none")
    folder = write_dicom(tmp_path / "map", small(), GRID, SECONDS, RescaleType="MGML")
    with pytest.raises(ValueError, match="not in HU"):
        read_series(folder)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120001.5", 43_201.5),
        ("12:00:01.500000", 43_201.5),
        ("12:00:1.500000", 43_201.5),  # dcm2niix 1.0.20220720
        ("12000", None),
        ("000000", 0),
        ("20260102000000.25", None),
        ("", None),
        ("noon", None),
    ],
)
def test_times_of_dicom_and_of_sidecars(text, seconds):
    if text.startswith("2026"):
        assert seconds_of("20260102000000.25") - seconds_of("20260101235959.75") == 0.5
    else:
        assert seconds_of(text) == seconds
