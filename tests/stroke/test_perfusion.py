"""Preparation of a scan: against a naive version, against what is known of a small head, and refused where it must be; films
broken in time are refused, and sound ones of any interval, start and noise are not.
"""

import itertools
import re

import numpy as np
import pytest

from lib.files import sha256_of
from lib.inputs.volumes import Geometry, read_volume
from lib.stroke.params import Preparation
from lib.stroke.perfusion import (
    Prepared,
    bends,
    check_course,
    check_roughness,
    grid_around,
    network_input,
    prepare,
    read_prepared,
    remarks_on,
    resampled,
    tissue_mask,
    vessel_curve,
    write_prepared,
)
from lib.stroke.series import Series

IDENTITY = tuple(np.eye(3).ravel().tolist())
SHAPE = (10, 44, 40)  # z, y, x
GRID = Geometry((4.0, 3.6, 8.0), (-80.0, -70.0, 12.0), IDENTITY, SHAPE[::-1])
PLAIN = Preparation(ceiling_hu=None)


def settings(**changes) -> Preparation:
    return Preparation(**{"size": (48, 48), "slices": 16, "ceiling_hu": None, **changes})


NATIVE = settings()


def regions() -> tuple[np.ndarray, np.ndarray]:
    """A head's distance from its centre (1 at the scalp's surface), and how much each voxel enhances."""
    z, y, x = (np.arange(n) - (n - 1) / 2 for n in SHAPE)
    radius = np.sqrt((z[:, None, None] / 7) ** 2 + ((y[:, None] - 1.5) / 20) ** 2 + ((x + 2) / 17) ** 2)
    share = np.where(radius < 0.75, 8.0, 0.0)
    share[:, :, :16] *= 0.5
    share[4:6, 20:22, 12:14] = 200  # an artery
    share[radius >= 0.75] = 0
    return radius, share


def bolus(seconds, arrival: float = 8.0, a: float = 5.5, b: float = 1.5) -> np.ndarray:
    """Gamma-variate of peak 1."""
    late = np.maximum(np.asarray(seconds) - arrival, 0) / (a * b)
    return late**a * np.exp(a * (1 - late))


def scan(frames=44, interval=1.0, arrival=8.0, noise=2.0, seed=0) -> Series:
    radius, share = regions()
    still = np.select([radius < 0.75, radius < 0.9, radius < 1], [36.0, 900.0, 25.0], -1000.0)
    seconds = interval * np.arange(frames)
    curve = bolus(seconds, arrival)
    values = still + curve[:, None, None, None] * share
    values += np.random.default_rng(seed).normal(0, noise, values.shape) * (radius < 1)
    return Series(values.astype(np.float32), GRID, interval)


@pytest.fixture(scope="module")
def series() -> Series:
    return scan()


@pytest.fixture(scope="module")
def prepared(series):
    return prepare(series, NATIVE)


def test_prepared_scan_equals_a_naive_version(series):
    """Loops over frames and voxels, from the published order of steps."""
    made = prepare(series, Preparation(baseline=3, ceiling_hu=None))
    still = np.mean([series.values[0], series.values[1], series.values[2]], axis=0)
    brain = tissue_mask(still, GRID, PLAIN)
    curve = [float(np.mean((frame - still)[brain])) for frame in series.values]
    peak = max(range(len(curve)), key=curve.__getitem__)
    first = min(max(peak - 16, 0), len(curve) - 32)
    window = np.stack([series.values[first + k] - still for k in range(32)])
    numbers = [value for frame in window for value in frame[brain].tolist()]
    mean = sum(numbers) / len(numbers)
    sd = (sum((value - mean) ** 2 for value in numbers) / len(numbers)) ** 0.5
    assert (made.peak_frame, made.first_frame, made.baseline_frames) == (peak, first, 3)
    assert made.values.shape == (32, 16, 48, 48)
    z, y, x = (
        slice((new - old) // 2, (new - old) // 2 + old) for new, old in zip((16, 48, 48), SHAPE, strict=True)
    )
    expected = np.where(brain, (window - mean) / sd, 0)
    np.testing.assert_allclose(made.values[:, z, y, x], expected, atol=2e-4)
    assert (made.mask[z, y, x] == brain).all()
    assert made.mask.sum() == brain.sum()
    assert (made.mean_hu, made.sd_hu) == (pytest.approx(mean, rel=1e-4), pytest.approx(sd, rel=1e-4))


def test_cropped_and_padded_voxels_keep_their_place(series, prepared):
    assert prepared.geometry.spacing_mm == GRID.spacing_mm
    still = series.values[: prepared.baseline_frames].mean(0)
    back = resampled(prepared.baseline, prepared.geometry, GRID, np.nan)
    seen = np.isfinite(back)
    assert seen.sum() == np.prod(SHAPE)  # 48 x 48 x 16 holds all of it
    assert (back == still)[seen].all()
    inside = resampled(np.ones(SHAPE, bool), GRID, prepared.geometry, False)
    assert (prepared.baseline[~inside] == -1024).all()
    assert (prepared.enhancement[:, ~inside] == 0).all()
    rows, columns = (np.flatnonzero(prepared.mask.any(axes)) for axes in ((0, 2), (0, 1)))
    assert abs(rows.mean() - 23.5) <= 1
    assert abs(columns.mean() - 23.5) <= 1
    small = prepare(series, settings(size=(32, 16), slices=16))
    assert small.values.shape == (32, 16, 32, 16)
    assert small.tissue_kept < 0.9
    kept = resampled(small.mask, small.geometry, GRID, False)
    assert small.tissue_kept == pytest.approx(kept.sum() / prepared.mask.sum())


@pytest.mark.parametrize("spacing", [(2.0, 1.8, 4.0), (3.1, 4.7, 2.9)])
def test_resampling_reproduces_a_field_that_is_linear_in_space(spacing):
    """Interpolation must find a linear field at every place; the grid is centred on the mask's box."""
    places = GRID.points(np.argwhere(np.ones(SHAPE[::-1]))).reshape(*SHAPE[::-1], 3).transpose(2, 1, 0, 3)
    lean = np.array([0.1, -0.05, 0.2])
    mask = np.zeros(SHAPE, bool)
    mask[2:8, 8:36, 6:34] = True
    grid = grid_around(mask, GRID, spacing, (64, 64, None))
    assert grid.spacing_mm == spacing
    low, high = (GRID.points(np.array([corner]))[0] for corner in ((6, 8, 2), (33, 35, 7)))
    middle = grid.points(np.array([[31.5, 31.5, 0]]))[0]
    assert middle[:2] == pytest.approx(((low + high) / 2)[:2])
    new = grid.points(np.argwhere(np.ones(grid.size))).reshape(*grid.size, 3).transpose(2, 1, 0, 3)
    inside = resampled(mask, GRID, grid, False)
    assert inside.sum() * grid.voxel_ml == pytest.approx(mask.sum() * GRID.voxel_ml, rel=0.12)
    found = resampled((places @ lean).astype(np.float32), GRID, grid, 0)
    np.testing.assert_allclose(found[inside], (new @ lean)[inside], atol=1e-3)


# when contrast comes


@pytest.mark.parametrize("interval", [1.0, 1.41])
@pytest.mark.parametrize("arrival", [0.0, 3.0, 10.8])
def test_baseline_ends_before_the_bolus(arrival, interval):
    made = prepare(scan(44, interval, arrival), NATIVE)
    assert made.baseline_frames == max(made.arrival_frame, 1)
    held = bolus(interval * np.arange(made.baseline_frames), arrival)
    assert held.mean() < 0.01
    # and no frame without contrast is given away but those of the margin
    assert made.arrival_frame >= min((arrival - 2) / interval, 1) - 1


@pytest.mark.parametrize(("arrival", "first"), [(0.0, 0), (40.0, 28)])
def test_window_of_an_early_or_late_bolus(arrival, first):
    made = prepare(scan(60, arrival=arrival), NATIVE)
    assert made.first_frame == first
    assert len(made.values) == 32


# the mask


def test_mask_means_the_same_mm_on_every_grid():
    """A ball in bone, at three spacings: its radius shrinks by what is taken off."""
    for spacing in (0.8, 1.0, 2.0):
        n = int(44 / spacing)
        x = (np.arange(n) - (n - 1) / 2) * spacing
        radius = np.sqrt(x[:, None, None] ** 2 + x[:, None] ** 2 + x**2)
        grid = Geometry((spacing,) * 3, (0, 0, 0), IDENTITY, (n, n, n))
        ball = np.where(radius < 18, 35.0, 900.0)
        mask = tissue_mask(ball, grid, Preparation(blur_mm=0, erosion_mm=4))
        across = 2 * (3 * mask.sum() * spacing**3 / (4 * np.pi)) ** (1 / 3)
        assert across == pytest.approx(2 * (18 - 4), abs=1.5 * spacing)


def test_mask_keeps_the_largest_part_and_what_touches_the_scan_s_edge():
    values = np.full(SHAPE, -1000.0)
    values[:, 5:15, 5:35] = 40
    values[:, 25:30, 5:10] = 40
    grid = GRID._replace(spacing_mm=(1.0, 1.0, 1.0))
    mask = tissue_mask(values, grid, Preparation(blur_mm=0))
    expected = np.zeros(SHAPE, bool)
    expected[:, 6:14, 6:34] = True  # a rim of 1 mm off in the slice, nothing off at the first and last slice
    assert (mask == expected).all()
    assert tissue_mask(values, grid, Preparation(blur_mm=0, erosion_mm=0))[:, 5:15, 5:35].all()
    assert tissue_mask(np.full(SHAPE, 40.0), grid, PLAIN).all()
    with pytest.raises(ValueError, match="after 9 mm were taken off"):
        tissue_mask(values, grid, Preparation(erosion_mm=9))
    with pytest.raises(ValueError, match="in Hounsfield units"):
        tissue_mask(values + 2000, grid, Preparation(blur_mm=0))


@pytest.mark.real
def test_mask_of_a_real_ct_holds_its_organs(mirrored):
    folder = mirrored("ct/totalsegmentator")
    ct = read_volume(folder / "example_ct_sm.nii.gz")
    labels = read_volume(folder / "example_seg.nii.gz").values
    mask = tissue_mask(ct.values, ct.geometry, PLAIN)
    for organ in (1, 5):  # spleen, liver
        assert mask[labels == organ].mean() > 0.9
    assert not mask[ct.values < -500].any()
    assert not mask[ct.values > 600].any()
    # a scan made of it: contrast in the organs alone
    organs = labels > 0
    curve = bolus(np.arange(40.0))[:, None, None, None].astype(np.float32)
    series = Series(ct.values + 30 * curve * organs, ct.geometry, 1.0)
    made = prepare(series, settings(spacing_mm=(4.0, 4.0, 6.0), size=(96, 96)))
    where = resampled(organs, ct.geometry, made.geometry, False)
    peak = made.enhancement[made.peak_frame]
    assert peak[where].mean() == pytest.approx(30, rel=0.15)
    assert made.peak_frame == np.argmax(curve)
    assert made.tissue_kept == pytest.approx(1, abs=0.02)


# what the network reads


def test_network_input_is_the_mean_of_blocks(prepared):
    made = network_input(prepared, (24, 16, 4), 8)
    assert made.shape == (8, 24, 16, 4)
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    for t, h, w, z in itertools.product((0, 3, 7), (0, 11, 12), (5, 9), (0, 2)):
        block = prepared.values[4 * t : 4 * t + 4, 4 * z : 4 * z + 4, 2 * h : 2 * h + 2, 3 * w : 3 * w + 3]
        assert made[t, h, w, z] == pytest.approx(block.mean(), abs=1e-5)
    whole = network_input(prepared, (48, 48, 16), 32)
    assert (whole == prepared.values.transpose(0, 2, 3, 1)).all()


# its file


@pytest.mark.parametrize("ceiling", [8.0, None])
def test_prepared_scan_is_read_as_it_was_written(series, ceiling, tmp_path):
    scan = prepare(series, settings(ceiling_hu=ceiling))
    for name in ("one", "two"):
        write_prepared(tmp_path / f"{name}.h5", scan)
    assert sha256_of(tmp_path / "one.h5") == sha256_of(tmp_path / "two.h5")
    again = read_prepared(tmp_path / "one.h5")
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
    assert again.values.dtype == again.enhancement.dtype == np.float32
    assert not again.enhancement[:, ~scan.mask].any()
    assert again.enhancement.max() > 50, "perfusion maps need the vessels as they are"
    if ceiling:
        assert again.values.max() == pytest.approx((8 - scan.mean_hu) / scan.sd_hu, abs=1e-5)


def test_file_bounds_what_half_floats_cannot_hold_and_is_refused_when_cut(prepared, tmp_path):
    loud, place = prepared.enhancement.copy(), tuple(np.argwhere(prepared.mask)[0])
    loud[(0, *place)], loud[(1, *place)] = 1e6, -1e6
    path = tmp_path / "one.h5"
    write_prepared(path, prepared._replace(enhancement=loud))
    again = read_prepared(path)
    assert [again.enhancement[(i, *place)] for i in (0, 1)] == pytest.approx([60_000, -60_000], rel=1e-3)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"one.h5 is not a prepared scan, or was cut short"):
        read_prepared(path)


def test_a_brain_as_wide_or_dense_as_nobodys_is_remarked(prepared):
    """Voxels of 1 mm of a header that was lost, values without their slope."""
    assert remarks_on(prepared) == ""
    lost = prepared._replace(geometry=prepared.geometry._replace(spacing_mm=(1.0, 1.0, 1.0)))
    assert re.fullmatch(r"the brain is \d\d mm wide: are the sides of its voxels right\?", remarks_on(lost))
    assert "has 18 HU before the contrast" in remarks_on(prepared._replace(baseline=prepared.baseline / 2))


# what is refused


def test_a_baseline_as_long_as_the_film_would_take_the_bolus_off(series):
    with pytest.raises(ValueError, match=f"`baseline` is {len(series.values)} and the series has"):
        prepare(series, Preparation(baseline=len(series.values)))


def test_fewer_frames_than_the_window_are_refused():
    short = scan(31)
    with pytest.raises(ValueError, match="31 frames and the window takes 32"):
        prepare(short, NATIVE)
    assert len(prepare(short, settings(frames=16)).values) == 16
    assert len(prepare(scan(32), NATIVE).values) == 32


def test_frames_out_of_order_are_refused(series):
    order = np.random.default_rng(1).permutation(len(series.values))
    with pytest.raises(ValueError, match="frames are out of order, or no contrast arrived"):
        prepare(series._replace(values=series.values[order]), NATIVE)


def test_a_scan_without_contrast_is_refused(series):
    noise = np.random.default_rng(0).normal(0, 2, series.values.shape).astype(np.float32)
    still = np.repeat(series.values[:1], 44, 0)
    with pytest.raises(ValueError, match="no contrast arrived"):
        prepare(series._replace(values=still + noise), NATIVE)
    with pytest.raises(ValueError, match="no contrast arrived"):
        prepare(series._replace(values=still), NATIVE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": (100, 96)}, r"size\.0\s+Input should be a multiple of 16"),
        ({"slices": 8}, r"slices\s+Input should be a multiple of 16"),
        ({"tissue_hu": (2000, 3000)}, "no voxel of the baseline lies within 2000 to 3000 HU"),
    ],
)
def test_settings_that_cannot_be(change, said, series):
    with pytest.raises(ValueError, match=said):
        prepare(series, settings(**change))


def test_grid_around_rounds_up_to_multiples():
    mask = np.zeros(SHAPE, bool)
    mask[4, 30, 20] = True
    grid = grid_around(mask, GRID, None, (None, 16, None))
    assert grid.size == (48, 16, 16)
    # all of x and z, padded on both sides; y centred on the one voxel
    shift = np.subtract(grid.origin_mm, GRID.origin_mm) / GRID.spacing_mm
    assert shift == pytest.approx((-4, 30 - 7, -3)) or shift == pytest.approx((-4, 30 - 8, -3))
    finer = grid_around(mask, GRID, (2.0, 3.6, 8.0), (None, 16, None))
    assert finer.size == (80, 16, 16)


# films broken in time

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
    assert bends(curve, vessel_curve(values, mask), how.get("interval_s", 1.0)) == ""


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
    said = bends(curve + off, vessel_curve(values, mask), 1.0)
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
        assert "bends at frame " in bends(curve[order], vessels[order], 1.0)
