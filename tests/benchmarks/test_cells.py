from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
import shapely

from benchmarks._cells import (
    CLASSES,
    NUCLEI,
    SIDE,
    cell_bag,
    cell_tiles,
    edge_distances,
    read_cells,
    tissue_shares,
)
from lib.crossfusion.bags import finest_side

TIMES = {20: 1, 10: 2, 5: 4}


@pytest.fixture
def cells():
    """Nuclei in clumps, so that many places are empty; some on the lines between tiles."""
    random = np.random.default_rng(3)
    middles = random.uniform(300, 4000, (9, 2))
    xy = np.abs(middles[random.integers(0, 9, 400)] + random.normal(0, 250, (400, 2)))
    xy[:20] = np.round(xy[:20] / SIDE) * SIDE
    kinds = random.choice(CLASSES[:5], 400, p=[0.4, 0.3, 0.2, 0.05, 0.05])
    area = random.uniform(50, 900, 400)
    return pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], "area": area, "kind": pd.Categorical(kinds, CLASSES)})


def by_place(cells, side):
    """Rows of the nuclei of each place, one nucleus after the other."""
    found = defaultdict(list)
    for number, (x, y) in enumerate(zip(cells["x"], cells["y"], strict=True)):
        found[int(y // side), int(x // side)].append(number)
    return found


@pytest.mark.parametrize("side", [SIDE, 448])
def test_tiles_are_what_a_loop_over_nuclei_counts(cells, side):
    for scale, table in cell_tiles(cells, side).items():
        naive = by_place(cells, side * TIMES[scale])
        assert list(zip(table["row"], table["column"], strict=True)) == sorted(naive)
        for tile in table.to_dict("records"):
            inside = cells.loc[naive[tile["row"], tile["column"]]]
            assert tile["cells"] == len(inside)
            for kind in CLASSES:
                own = inside.loc[inside["kind"] == kind, "area"]
                everywhere = cells.loc[cells["kind"] == kind, "area"]
                usual = everywhere.mean() if len(everywhere) else cells["area"].mean()
                assert tile[kind] == len(own)
                assert tile[f"area_{kind}"] == pytest.approx(own.mean() if len(own) else usual)


def test_the_bag_is_one_that_the_study_reads(cells):
    tiles = cell_tiles(cells)
    bag = cell_bag(tiles)
    assert finest_side({scale: part.coords for scale, part in bag.items()}) == SIDE
    for scale, (features, coords) in bag.items():
        table = tiles[scale]
        assert features.shape == (len(table), 18)
        assert np.isfinite(features).all()
        np.testing.assert_array_equal(coords // (SIDE * TIMES[scale]), table[["column", "row"]].to_numpy())
        np.testing.assert_allclose(np.expm1(features[:, :6]).sum(1), table["cells"], rtol=1e-5)
        np.testing.assert_allclose(features[:, 6:12].sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(np.exp(features[:, 12]), table["area_neoplastic"], rtol=1e-5)


def test_the_share_of_tumour_is_the_share_of_the_tile():
    tiles = cell_tiles(
        pd.DataFrame({"x": [100, 300, 600, 1100], "y": [100, 100, 100, 100], "area": 9.0}).assign(
            kind=pd.Categorical(["neoplastic"] * 4, CLASSES)
        )
    )
    ring = shapely.box(0, 0, 384, 256) - shapely.box(0, 0, 128, 128)  # a hole over a quarter of a tile
    shapes = {
        "tumor": [ring, shapely.box(4000, 4000, 4100, 4100)],
        "stroma": [shapely.box(512, 0, 2000, 300)],
    }
    rows = [(name, shapely.to_wkb(shape)) for name, some in shapes.items() for shape in some]
    tissue = pd.DataFrame(rows, columns=["class_name", "geometry"])
    shares = tissue_shares(tissue, tiles)
    assert shares[20].tolist() == [0.75, 0.5, 0, 0]
    assert shares[10].tolist() == [0.625, 0, 0]
    assert shares[5] == pytest.approx([1.25 / 3, 0])
    assert tissue_shares(tissue, tiles, "stroma")[20].tolist() == [0, 0, 1, 1]
    assert tissue_shares(tissue, tiles, "necrosis")[20].tolist() == [0, 0, 0, 0]


def test_the_distance_to_the_edge_is_that_of_a_search_over_all_empty_places():
    rows, columns = (axis.ravel() for axis in np.mgrid[:6, :7])
    full = ~((rows == 2) & (columns == 3))  # one hole within
    xy = np.stack([columns, rows], 1)[full] * 4 * SIDE
    fine = (xy[:, None] + np.stack(np.mgrid[:4, :4], -1).reshape(-1, 2) * SIDE + 9).reshape(-1, 2)
    frame = pd.DataFrame(fine, columns=["x", "y"]).assign(area=9.0)
    tiles = cell_tiles(frame.assign(kind=pd.Categorical(["dead"] * len(frame), CLASSES)))
    places = [(r, c) for r in range(-1, 7) for c in range(-1, 8)]
    empty = np.array([p for p in places if not (0 <= p[0] < 6 and 0 <= p[1] < 7) or p == (2, 3)])
    distances = edge_distances(tiles)
    for scale, table in tiles.items():
        times = 4 // TIMES[scale]
        places = empty[:, None] * times + np.stack(np.mgrid[:times, :times], -1).reshape(-1, 2)
        away = table[["row", "column"]].to_numpy()[:, None] - places.reshape(-1, 2)
        np.testing.assert_allclose(distances[scale], np.sqrt((away**2).sum(2)).min(1) / times)


def test_polygons_and_their_centroids_are_the_same_nuclei(tmp_path):
    squares = [shapely.box(10, 20, 30, 40), shapely.box(300, 20, 310, 30)]
    centroids = {"x": [20.0, 305.0], "y": [30.0, 25.0], "area_px": [400, 100]}
    found = []
    for name, content in zip(NUCLEI, (centroids, {"geometry": shapely.to_wkb(squares)}), strict=True):
        (tmp_path / name).mkdir()
        table = pd.DataFrame(content).assign(class_name=["neoplastic", "connective"])
        table.to_parquet(tmp_path / name / name)
        found.append(read_cells(tmp_path / name))
    pd.testing.assert_frame_equal(*found)
    assert found[0].loc[1].tolist() == [305, 25, 100, "connective"]
