"""A slide of which only the nuclei are known: nested tiles of cells, without a picture, and what lies there in truth.

The slide is histolytics' (PyPI, BSD-3): one ovarian high-grade serous carcinoma, 592,349 nuclei in six classes and its tissue
as polygons. Both are outputs of networks, not a pathologist's; µm per pixel is nowhere stated.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from scipy.ndimage import distance_transform_edt

from lib.crossfusion.bags import Bag, TileFeatures
from lib.features.feature_files import SCALES

CLASSES = ("neoplastic", "connective", "inflammatory", "macrophage_cell", "macrophage_nucleus", "dead")
SIDE = 256  # level-0 pixels of a 20x tile; it takes the pixels to be those of 20x, about 0.5 µm by the size of nuclei
NUCLEI = ("hgsc_nuclei_centroids_derived.parquet", "hgsc_nuclei_wsi.parquet")
TISSUE = "hgsc_tissue_wsi.parquet"
PLACES = ("wsi/hgsc", "histolytics/histolytics/histolytics/data")  # below data/raw; the second is the wheel's


def find_slide(raw: Path) -> Path:
    """The folder below data/raw that holds the slide's two tables; FileNotFoundError tells how to get them."""
    for folder in (Path(raw, place) for place in PLACES):
        if (folder / TISSUE).is_file() and any((folder / name).is_file() for name in NUCLEI):
            return folder
    raise FileNotFoundError(
        f"{raw} holds neither {' nor '.join(PLACES)} with {TISSUE}: run `make data COHORT=hgsc`"
    )


def read_cells(folder: Path) -> pd.DataFrame:
    """Nuclei: x, y (centroid, level-0 pixels), area (square pixels), kind (of `CLASSES`).

    From a table of x, y, area_px, class_name, or of polygons as WKB in `geometry`. A ValueError names classes that are not
    known and nuclei without a place.
    """
    path = next(path for path in (Path(folder, name) for name in NUCLEI) if path.is_file())
    table = pd.read_parquet(path)
    if "geometry" in table:
        nuclei = shapely.from_wkb(table["geometry"].to_numpy())
        x, y = shapely.get_coordinates(shapely.centroid(nuclei)).T
        table = table.assign(x=x, y=y, area_px=shapely.area(nuclei))
    cells = pd.DataFrame({"x": table["x"], "y": table["y"], "area": table["area_px"]}).astype(float)
    if other := sorted(set(table["class_name"].astype(str)) - set(CLASSES)):
        raise ValueError(
            f"{path}: class_name has {', '.join(other)}; known are {', '.join(CLASSES)}: name them so"
        )
    lost = ~np.isfinite(cells).all(axis=1) | (cells[["x", "y"]] < 0).any(axis=1)
    if lost.any():
        raise ValueError(
            f"{path}: {lost.sum()} nuclei have no place or size, the first in row {lost.argmax()}"
        )
    return cells.assign(kind=pd.Categorical(table["class_name"].astype(str), CLASSES))


def cell_tiles(cells: pd.DataFrame, side: float = SIDE) -> dict[int, pd.DataFrame]:
    """What lies in each tile at 20x, 10x and 5x; tiles without a nucleus are none.

    `side` is that of a 20x tile in level-0 pixels; a 10x tile covers 2 by 2 of them, a 5x tile 4 by 4.

    Returns
    -------
    dict of DataFrame
        By scale, one row a tile, row after row of the slide: row, column (from 0), cells, the number of each of `CLASSES`, and
        `area_<class>`, mean area in square pixels, that of the slide's nuclei where the tile has none of the class.
    """
    kind, area = cells["kind"].cat.codes.to_numpy(), cells["area"].to_numpy()
    usual = cells.groupby("kind", observed=False)["area"].mean().fillna(area.mean()).to_numpy()
    tiles = {}
    for scale in SCALES:
        at = np.floor(cells[["y", "x"]].to_numpy() / (side * SCALES[0] / scale)).astype(int)
        found, tile = np.unique(at, axis=0, return_inverse=True)
        shape, code = (len(found), len(CLASSES)), tile.ravel() * len(CLASSES) + kind
        counts = np.bincount(code, minlength=np.prod(shape)).reshape(shape)
        areas = np.bincount(code, area, minlength=np.prod(shape)).reshape(shape)
        table = pd.DataFrame(found, columns=["row", "column"]).assign(cells=counts.sum(1))
        table[list(CLASSES)] = counts
        table[[f"area_{name}" for name in CLASSES]] = np.where(counts, areas / np.maximum(counts, 1), usual)
        tiles[scale] = table
    return tiles


def cell_bag(tiles: Mapping[int, pd.DataFrame], side: float = SIDE) -> Bag:
    """A bag of cells, with no feature of a picture: log(1 + number), share and log area of each class, 18 numbers a tile."""
    bag, areas = {}, [f"area_{name}" for name in CLASSES]
    for scale, table in tiles.items():
        counts = table[list(CLASSES)].to_numpy()
        parts = [np.log1p(counts), counts / counts.sum(1, keepdims=True), np.log(table[areas].to_numpy())]
        centres = (table[["column", "row"]].to_numpy() + 0.5) * side * SCALES[0] / scale
        bag[scale] = TileFeatures(np.hstack(parts).astype(np.float32), centres.astype(np.float32))
    return bag


def tissue_shares(
    tissue: pd.DataFrame, tiles: Mapping[int, pd.DataFrame], kind: str = "tumor", side: float = SIDE
) -> dict[int, np.ndarray]:
    """Share of each tile (0 to 1, by scale) that lies in polygons of a class, at 16 points of a 20x tile, 4 by 4.

    That of a coarser tile is the mean over its 20x tiles. `tissue` has class_name and geometry (WKB).
    """
    fine = tiles[SCALES[0]]
    along = (np.arange(4) + 0.5) / 4
    inside = np.stack(np.meshgrid(along, along), -1).reshape(-1, 2)
    points = (fine[["column", "row"]].to_numpy()[:, None] + inside) * side  # (tiles, 16, 2)
    polygons = shapely.from_wkb(tissue.loc[tissue["class_name"] == kind, "geometry"].to_numpy())
    tree = shapely.STRtree(shapely.points(points.reshape(-1, 2)))
    within = np.zeros(points.shape[0] * points.shape[1])
    within[tree.query(polygons, predicate="contains")[1]] = 1
    share = fine[["row", "column"]].assign(share=within.reshape(points.shape[:2]).mean(1))
    shares = {}
    for scale, table in tiles.items():
        times = SCALES[0] // scale
        of = share.groupby([share["row"] // times, share["column"] // times])["share"].mean()
        shares[scale] = of.loc[pd.MultiIndex.from_frame(table[["row", "column"]])].to_numpy()
    return shares


def edge_distances(tiles: Mapping[int, pd.DataFrame]) -> dict[int, np.ndarray]:
    """Distance of each tile to the nearest 5x place without a nucleus, by scale, in sides of a 5x tile."""
    coarse = min(tiles)
    rows, columns = tiles[coarse][["row", "column"]].to_numpy().T
    mask = np.zeros((rows.max() + 3, columns.max() + 3))  # the slide ends where the cells end
    mask[rows + 1, columns + 1] = 1
    found = {}
    for scale, table in tiles.items():
        times = scale // coarse
        distance = distance_transform_edt(np.kron(mask, np.ones((times, times)))) / times
        found[scale] = distance[table["row"] + times, table["column"] + times]
    return found
