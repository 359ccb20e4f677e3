import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.crossfusion.bags import TileFeatures, drawn, patient_bag, read_bag
from lib.features.feature_files import write_features

SIDE = {20: 512, 10: 1024, 5: 2048}  # level-0 pixels of a slide scanned at 40x


def grid(columns, rows, scale):
    """Corners of all tiles of a slide of `columns` x `rows` 5x cells, and features that say where they lie."""
    times = scale // 5
    x, y = np.meshgrid(np.arange(columns * times), np.arange(rows * times))
    corners = np.stack([x.ravel(), y.ravel()], 1) * SIDE[scale]
    return corners, np.hstack([corners, np.full((len(corners), 1), scale)]).astype(np.float32)


def bag_of(columns=6, rows=5, keep=None):
    bag = {}
    for scale in (20, 10, 5):
        corners, features = grid(columns, rows, scale)
        kept = slice(None) if keep is None else keep(corners, scale)
        bag[scale] = TileFeatures(features[kept], (corners[kept] + SIDE[scale] / 2).astype(np.float32))
    return bag


def cells(tiles, side=SIDE[5]):
    return set(map(tuple, (tiles.coords // side).astype(int)))


def write_own(folder, slide="s", scales=(20, 10, 5), **changes):
    for scale, tiles in bag_of().items():
        if scale in scales:
            about = {"encoder": "colour", "revision": "v1", "um_per_px": 0.25, "crop_um": SIDE[scale] / 4}
            about["counts"] = {"n_white": 0, "n_failed": 0, "scale": scale}
            write_features(folder / f"x{scale}" / f"{slide}.h5", *tiles, **about | changes)


def write_clam(path, corners, features):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features, corners.astype(np.int32)


def write_trident(path, corners, features, scale, **changes):
    write_clam(path, corners, features)
    with h5py.File(path, "a") as file:
        file["features"].attrs["encoder"] = "resnet50"
        known = {"patch_size_level0": SIDE[scale], "target_magnification": scale, "level0_magnification": 40}
        file["coords"].attrs.update(known | changes)


def write_stamp(path, corners, features, scale):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["feats"], file["coords"] = features, corners * 0.25
        about = {"extractor": "uni2", "unit": "um", "tile_size_um": SIDE[scale] / 4, "tile_size_px": 256}
        file.attrs.update(about)


def assert_is(bag, expected, unit=1.0):
    assert list(bag) == list(expected)
    for scale, tiles in expected.items():
        np.testing.assert_array_equal(bag[scale].features, tiles.features)
        np.testing.assert_allclose(bag[scale].coords, tiles.coords * unit, atol=0.01)


def test_every_layout_gives_one_and_the_same_bag(tmp_path):
    write_own(tmp_path / "own")
    for scale in SIDE:
        made = grid(6, 5, scale)
        write_clam(tmp_path / "clam" / f"x{scale}" / "h5_files" / "s.h5", *made)
        place = f"{scale}x_256px_0px_overlap/features_resnet50"
        write_trident(tmp_path / "trident" / place / "s.h5", *made, scale)
        write_trident(tmp_path / "pattern" / f"at-{scale}" / "s.h5", *made, scale)
        write_stamp(tmp_path / "stamp" / f"x{scale}" / "s.h5", *made, scale)
    expected = bag_of()
    for folder in ("own", "clam", "trident", "pattern/at-{scale}"):
        assert_is(read_bag(tmp_path / folder, "s"), expected)
    assert_is(read_bag(tmp_path / "stamp", "s"), expected, unit=0.25)


def test_the_references_tensors(tmp_path):
    """`<backbone>/x{5,10,20}/pt_files/<slide>.pt`."""
    for scale in SIDE:
        path = tmp_path / f"resnet50/x{scale}/pt_files" / "TCGA-A1-A0SP-01Z-00-DX1.pt"
        path.parent.mkdir(parents=True)
        torch.save(torch.from_numpy(grid(3, 2, scale)[1]), path)
    bag = read_bag(tmp_path / "resnet50", "TCGA-A1-A0SP-01Z-00-DX1")
    assert [len(tiles.features) for tiles in bag.values()] == [96, 24, 6]
    assert all(tiles.coords is None for tiles in bag.values())
    np.testing.assert_array_equal(bag[10].features, grid(3, 2, 10)[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "uni"}, "different encoders: 20x colour v1, 10x colour v1, 5x uni v1"),
        ({"revision": "v2"}, "different encoders: .*5x colour v2"),
        ({"crop_um": 128.0}, "sides that do not go with them .*exchanged.*: 20x 512, 10x 1024, 5x 512"),
    ],
)
def test_scales_that_do_not_belong_together_are_refused(tmp_path, change, message):
    write_own(tmp_path)
    write_own(tmp_path, scales=(5,), **change)
    with pytest.raises(ValueError, match="slide s: .*" + message):
        read_bag(tmp_path, "s")


@pytest.mark.parametrize("order", [(5, 10, 20), (10, 20, 5), (20, 5, 10), (20, 20, 5), (20, 10, 10)])
@pytest.mark.parametrize("kind", ["clam", "tensor", "STAMP 1"])
def test_folders_exchanged_are_told_by_where_tiles_lie(tmp_path, order, kind):
    """No file says its size; of tensors alone, how many there are."""
    for scale, of in zip((20, 10, 5), order, strict=True):
        corners, features = grid(4, 3, of)
        path = tmp_path / f"x{scale}" / "s.h5"
        write_clam(path, corners, features)
        if kind == "STAMP 1":
            with h5py.File(path, "w") as file:
                file["feats"], file["coords"] = features, corners / SIDE[20] * 200
        if kind == "tensor":
            path.unlink()
            torch.save(torch.from_numpy(features), path.with_suffix(".pt"))
    if kind == "tensor" and len(set(order)) < 3:
        return  # as many tiles at two scales may be
    with pytest.raises(ValueError, match=r"slide s: its scales have .*exchanged"):
        read_bag(tmp_path, "s")


def test_a_scale_of_another_slide_is_told_by_where_its_tiles_lie(tmp_path):
    for scale in SIDE:
        corners, features = grid(6, 4, scale)
        write_clam(tmp_path / f"x{scale}" / "s.h5", corners + 90_000 * (scale == 5), features)
    with pytest.raises(ValueError, match="slide s: most tiles at 10x lie at none of 5x"):
        read_bag(tmp_path, "s")


def test_a_few_scattered_tiles_are_no_exchange(tmp_path):
    far = {20: [(0, 0), (1, 0), (40, 80)], 10: [(0, 0), (20, 40)], 5: [(0, 0), (10, 20)]}
    for scale, places in far.items():
        corners = np.array(places) * SIDE[scale]
        write_clam(tmp_path / f"x{scale}" / "s.h5", corners, np.ones((len(corners), 3), np.float32))
    assert [len(tiles.coords) for tiles in read_bag(tmp_path, "s").values()] == [3, 2, 2]


def test_widths_units_and_recorded_scales_must_agree(tmp_path):
    for scale in SIDE:
        write_trident(tmp_path / f"x{scale}" / "s.h5", *grid(2, 2, scale), scale)
    corners, features = grid(2, 2, 5)
    write_trident(tmp_path / "x5" / "s.h5", corners, features[:, 1:], 5)
    with pytest.raises(ValueError, match="different widths: 20x 3, 10x 3, 5x 2"):
        read_bag(tmp_path, "s")
    write_clam(tmp_path / "x10" / "s.h5", *grid(2, 2, 10))
    write_stamp(tmp_path / "x5" / "s.h5", corners, features, 5)
    with pytest.raises(ValueError, match="different units of coordinates: 10x px, 5x um"):
        read_bag(tmp_path, "s", (10, 5))
    write_trident(tmp_path / "x5" / "s.h5", corners, features, 5, target_magnification=10)
    with pytest.raises(ValueError, match=r"files of another scale: .*5x those of 10x"):
        read_bag(tmp_path, "s")


def test_a_lone_tile_of_clam_has_its_centre_told_by_the_other_scales(tmp_path):
    for scale, columns in ((20, 1), (10, 1), (5, 1)):
        write_clam(tmp_path / f"x{scale}" / "h5_files" / "s.h5", *grid(columns, 1, scale))
    assert read_bag(tmp_path, "s")[5].coords.tolist() == [[1024, 1024]]


def test_a_patients_slides_follow_each_other_and_do_not_touch():
    left, right = bag_of(3, 2), bag_of(2, 4)
    # scanned at 20x
    halved = {s: TileFeatures(tiles.features, tiles.coords / 2) for s, tiles in right.items()}
    bag = patient_bag([left, halved, left])
    for scale in SIDE:
        parts = [left[scale].features, right[scale].features, left[scale].features]
        np.testing.assert_array_equal(bag[scale].features, np.concatenate(parts))
        assert bag[scale].coords.dtype == np.float32
    # in sides of a 20x tile, whatever the scanner: 1 between neighbours at 20x, 4 at 5x
    np.testing.assert_allclose(bag[20].coords[:2], [[0.5, 0.5], [1.5, 0.5]], atol=1e-4)
    first, second = 6, 8
    np.testing.assert_allclose(bag[5].coords[first] % 4, [2, 2], atol=1e-3)
    assert bag[5].coords[first, 0] > bag[5].coords[:first, 0].max() + 4
    assert len(cells(bag[5], 4)) == first + second + first
    for scale in (20, 10):
        assert cells(bag[scale], 4) == cells(bag[5], 4)


def test_slides_of_one_tile_keep_it_together():
    one = np.ones((1, 3), np.float32)
    lone = {scale: TileFeatures(one, np.full((1, 2), 1e4 + scale, np.float32)) for scale in SIDE}
    bag = patient_bag([bag_of(2, 1), lone, lone])
    for tiles in bag.values():
        assert len(cells(tiles, 4)) == 4
    assert cells(bag[20], 4) == cells(bag[5], 4)
    bare = {scale: TileFeatures(tiles.features, None) for scale, tiles in lone.items()}
    assert all(tiles.coords is None for tiles in patient_bag([lone, bare]).values())


def test_what_is_drawn_is_the_same_tissue_at_every_scale():
    bag = bag_of(10, 8)
    found = drawn(bag, 320, seed=3)
    assert [len(tiles.features) for tiles in found.values()] == [320, 80, 20]
    assert cells(found[20]) == cells(found[10]) == cells(found[5])
    for tiles in found.values():
        half = SIDE[int(tiles.features[0, 2])] / 2
        np.testing.assert_array_equal(tiles.features[:, :2], tiles.coords - half)
    for scale, tiles in found.items():  # in the bag's order
        rows = {tuple(row): i for i, row in enumerate(bag[scale].features)}
        order = [rows[tuple(row)] for row in tiles.features]
        assert order == sorted(order)


def test_a_seed_is_a_draw_and_a_small_bag_stays_whole():
    bag = bag_of(10, 8)
    first, again, other = (drawn(bag, 320, seed)[20].features for seed in ([1, 0], [1, 0], [1, 1]))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert drawn(bag, 1280, 0) is bag


def test_every_cell_has_the_same_chance():
    bag = bag_of(6, 5)
    times = np.zeros(30)
    for seed in range(600):
        features = drawn(bag, 160, seed)[5].features
        times += np.isin(np.arange(30), features[:, 1] / 2048 * 6 + features[:, 0] / 2048)
    # 10 of 30 cells, 600 times: 200 of each, standard deviation 11.5
    assert np.abs(times - 200).max() < 4.5 * 11.5
    assert times.sum() == 6000


def test_the_draw_does_not_depend_on_the_unit_or_on_rounded_corners():
    bag = bag_of(12, 9)
    side = 506.93 / 512  # a scanner of 0.2525 µm per pixel: corners are rounded to whole pixels
    odd = {}
    for scale, tiles in bag.items():
        corners = np.rint((tiles.coords - SIDE[scale] / 2) * side)
        odd[scale] = TileFeatures(tiles.features, (corners + SIDE[scale] * side / 2).astype(np.float32))
    um = {scale: TileFeatures(tiles.features, tiles.coords * 0.2525) for scale, tiles in odd.items()}
    for other in (odd, um, patient_bag([odd])):
        for scale, tiles in drawn(other, 500, 4).items():
            np.testing.assert_array_equal(tiles.features, drawn(bag, 500, 4)[scale].features)


def test_at_least_one_cell_is_drawn_and_it_is_whole():
    found = drawn(bag_of(10, 8), 15, seed=2)
    assert [len(tiles.features) for tiles in found.values()] == [16, 4, 1]
    assert cells(found[20]) == cells(found[10]) == cells(found[5])


def test_a_cell_with_every_scale_is_drawn_where_there_is_one():
    def keep(corners, scale):
        return slice(None) if scale == 20 else (corners // 2048 == [7, 5]).all(1)

    found = drawn(bag_of(10, 8, keep), 64, 3)
    assert (7, 5) in cells(found[20])
    assert [len(tiles.features) for tiles in found.values()] == [64, 4, 1]


def test_without_coordinates_each_scale_gives_the_same_share():
    bag = {scale: TileFeatures(tiles.features, None) for scale, tiles in bag_of(10, 8).items()}
    found = drawn(bag, 320, 0)
    assert [len(tiles.features) for tiles in found.values()] == [320, 80, 20]
    assert all(len(np.unique(tiles.features, axis=0)) == len(tiles.features) for tiles in found.values())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 200), st.floats(0.02, 1))
def test_ragged_tissue(seed, cap, share):
    """Tiles kept here and there, at each scale others: never a scale without, never above the cap but for one cell."""
    rng = np.random.default_rng(seed)

    def keep(corners, scale):
        kept = rng.random(len(corners)) < share
        kept[rng.integers(len(kept))] = True
        return kept

    bag = bag_of(5, 4, keep)
    found = drawn(bag, cap, seed)
    assert 1 <= len(found[20].features) <= max(cap, 25)
    assert all(len(tiles.features) == len(tiles.coords) >= 1 for tiles in found.values())
    for scale, tiles in found.items():
        assert {tuple(row) for row in tiles.features} <= {tuple(row) for row in bag[scale].features}
