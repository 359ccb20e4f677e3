"""Films broken in time are refused, and sound ones of any interval, start and noise are not."""

import numpy as np
import pytest

from lib.stroke.course import check_course, check_roughness, jumps
from lib.stroke.film import Series
from lib.stroke.params import Preparation
from lib.stroke.perfusion import prepare, vessel_curve

ROUGHEST = Preparation().roughest


@pytest.fixture(scope="module")
def films(brain_scan):
    """Function: a film's HU (frames, z, y, x), its mask as of tissue, and the brain's mean curve."""

    def made(frames=50, interval_s=1.0, noise=1.0, begin=0, **how):
        scan = brain_scan(noise=noise, frames=frames + begin, interval_s=interval_s, **how)
        values = (scan.baseline + scan.enhancement)[begin:]
        mask = scan.mask & (values[:3].mean(0) < 100)  # as tissue_mask: full vessels are none
        return values, mask, (values - values[0])[:, mask].mean(1)

    return made


SOUND = [
    *({"interval_s": s, "frames": round(60 / s)} for s in (0.5, 1.41, 2.0, 3.0)),
    *({"noise": noise} for noise in (0.0, 6.0)),
    *({"arrival": start} for start in (0.0, 3.0, 20.0)),
    *({"frames": 24}, {"begin": 6}, {"lesion": False}),
]


@pytest.mark.parametrize("how", SOUND, ids=str)
def test_sound_films_pass(how, films):
    values, mask, curve = films(**how)
    check_course(values, mask)
    check_roughness(curve, how.get("interval_s", 1.0), ROUGHEST)
    assert jumps(curve, vessel_curve(values, mask), how.get("interval_s", 1.0)) == ""


@pytest.mark.parametrize(
    "how", [{}, {"frames": 60}, {"interval_s": 2.0, "frames": 30}, {"noise": 4.0}], ids=str
)
def test_films_turned_round_are_refused(how, films):
    values, mask, _ = films(**how)
    with pytest.raises(ValueError, match="its peak comes before its arrival, frames run backwards"):
        check_course(values[::-1], mask)


@pytest.mark.parametrize("begin", [13, 15, 17, 20])
def test_films_that_start_after_the_bolus_are_refused(begin, films):
    values, mask, _ = films(begin=begin, frames=40)
    with pytest.raises(
        ValueError, match=r"contrast is there before the film begins, in \d+% of its vessels: it starts"
    ):
        check_course(values, mask)


def as_text(n):
    return np.array(sorted(range(n), key=str))


@pytest.mark.parametrize(
    ("how", "spoil"),
    [
        ({}, lambda c: c[as_text(len(c))]),
        ({"arrival": 4.0}, lambda c: c[as_text(len(c))]),
        ({"interval_s": 2.0, "frames": 30}, lambda c: c[as_text(len(c))]),
        ({}, lambda c: np.r_[c[0] + 12, c[1:]]),
        ({}, lambda c: np.r_[c[:20], c[20] + 12, c[21:]]),
        ({}, lambda c: c[np.random.default_rng(0).permutation(len(c))]),
        ({}, lambda c: np.zeros_like(c)),
    ],
)
def test_a_mean_curve_that_jumps_is_refused(how, spoil, films):
    curve = films(**how)[2]
    with pytest.raises(
        ValueError, match=r"mean enhancement jumps \((0\.[2-9]\d|[12]\.\d\d|nan), at most 0\.2; "
    ):
        check_roughness(spoil(curve), how.get("interval_s", 1.0), ROUGHEST)


@pytest.mark.parametrize(("extra", "frame"), [(2, 0), (-2, 0), (4, 0), (2, 30), (2, -1)])
def test_a_frame_that_is_brighter_than_the_others_is_remarked(films, extra, frame):
    """2 HU in one frame of fifty, far below what roughness sees, take the core of a film away."""
    values, mask, curve = films(arrival=8.0)
    off = extra * (np.arange(len(curve)) == frame % len(curve))
    check_roughness(curve + off, 1.0, ROUGHEST)
    said = jumps(curve + off, vessel_curve(values, mask), 1.0)
    assert f"bends at frame {np.clip(frame % len(curve), 1, len(curve) - 2)} " in said
    assert "a frame brighter or darker" in said


def test_a_film_whose_first_frame_is_12_hu_too_high_is_refused(brain_scan):
    scan = brain_scan(noise=1.0, frames=40, interval_s=1.0)
    values = scan.baseline + scan.enhancement
    prepare(Series(values, scan.geometry, 1.0), Preparation())
    values[0] += 12
    with pytest.raises(ValueError, match="mean enhancement jumps"):
        prepare(Series(values, scan.geometry, 1.0), Preparation())


def test_frames_lost_or_exchanged_are_remarked(films):
    values, mask, curve = films(arrival=8.0)
    vessels, frames = vessel_curve(values, mask), np.arange(len(curve))
    rise = int(np.argmax(np.diff(curve)))
    lost, changed = np.delete(frames, range(rise - 1, rise + 2)), frames.copy()
    changed[[rise - 2, rise + 2]] = changed[[rise + 2, rise - 2]]
    for order in (lost, changed):
        assert "bends at frame " in jumps(curve[order], vessels[order], 1.0)
