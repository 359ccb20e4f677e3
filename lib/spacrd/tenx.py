"""Sections of 10x: Visium and Visium HD, as Space Ranger writes them, and Xenium, whose cells are binned to pseudo-spots."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import io, sparse

from lib.files import positive, read_json
from lib.inputs.tables import plain, read_columns
from lib.spacrd.pictures import of_frame, open_picture, picture_size, unpacked
from lib.spacrd.spots import (
    CLASSES,
    SPOT_UM,
    STRAYS,
    as_numbers,
    assemble,
    label_of,
    matched,
    read_labels,
    refuse_twice,
    the_one,
)

VISIUM_UM = (SPOT_UM, 100.0)  # diameter and pitch, on a hexagonal grid
STEP_UM = (50.0, 50.0 * 3**0.5)  # of a Visium array's columns and rows: every other column of a row is empty
POSITIONS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
PIXELS, ARRAY = ["pxl_col_in_fullres", "pxl_row_in_fullres"], ["array_col", "array_row"]
MOST_OFF = 0.03  # by which two scales of one section may differ; five real runs: .005
# of the hires picture's longer way that the positions span; a capture area fills most of it
LEAST_SHARE = 0.1
FULL_PICTURES = re.compile(r"(.*_)?image\.(tiff?|btf)", re.IGNORECASE)
BIN_UM = 100.0  # side and pitch of a Xenium pseudo-spot
PIXEL_UM = 0.2125  # of Xenium's morphology picture, where experiment.xenium does not say otherwise
CENTROID = ["x_centroid", "y_centroid"]
MOST_UNCOVERED = 0.75  # share of a Xenium run that its H&E picture need not cover


def run_of(folder: Path, *parts: str) -> Path:
    """The folder of the run that has one of `parts` (patterns), in it or its folder spatial: `folder`, or the only one below."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: correct the section table's column folder")
    found = {path.parent for part in parts for path in folder.rglob(part) if path.name[0] != "."}
    runs = sorted({path.parent if path.name == "spatial" else path for path in found})
    if len(runs) > 1 and folder not in runs:
        names = ", ".join(path.relative_to(folder).as_posix() for path in runs)
        raise ValueError(f"{folder} holds several runs, {names}: name one in the section table's folder")
    return runs[0] if len(runs) == 1 else folder


def part_of(folder: Path, *endings: str) -> Path | None:
    """The file of a run whose name ends so (GEO puts a prefix before it), packed as .gz or not; None without one."""
    found = {ending: [] for ending in endings}
    for path in sorted([*folder.glob("[!.]*"), *folder.glob("spatial/[!.]*")]):  # macOS leaves a ._ of each
        for ending in endings:
            if path.name.removesuffix(".gz").endswith(ending):
                found[ending].append(path)
    return next((the_one(paths, endings[0]) for paths in found.values() if paths), None)


def read_counts(path: Path) -> AnnData:
    """Counts (barcodes x genes) of an h5 file of any version, or of a folder of matrix, barcodes and features, packed or not.

    Features of the type "Gene Expression" only, where the file tells types: no antibodies, controls or codewords.
    var["gene_ids"] are the identifiers; a symbol that stands for several genes gets its identifier behind it.
    """
    import scanpy

    if path.is_dir():
        counts = _read_mtx(path)
    else:
        with unpacked(path) as file:
            counts = scanpy.read_10x_h5(file, gex_only=False)
    refuse_twice(counts.obs_names, path)
    if "feature_types" in counts.var:
        genes = (counts.var["feature_types"] == "Gene Expression").to_numpy()
        if not genes.any():
            raise ValueError(f"{path} has no feature of type 'Gene Expression'")
        counts = counts[:, genes].copy()
    return told_apart(counts)


def told_apart(counts: AnnData) -> AnnData:
    """The counts, in which a symbol of several genes got their identifier (var["gene_ids"]) behind it.

    So does one that was already told apart by its place in the file (scanpy's "TBCE-1" beside "TBCE"): files list such genes in
    other orders.
    """
    names = pd.Index(counts.var_names.astype(str))
    bare = names.str.replace(r"-\d$", "", regex=True)
    symbols = bare.where(bare.isin(names), names)
    twice = symbols.duplicated(keep=False)
    if twice.any() and "gene_ids" in counts.var:
        counts.var_names = np.where(twice, symbols + "_" + counts.var["gene_ids"].astype(str), names)
    return counts


def _read_mtx(folder: Path) -> AnnData:
    names = (["matrix.mtx"], ["barcodes.tsv"], ["features.tsv", "genes.tsv"])
    paths = [part_of(folder, *endings) for endings in names]
    if None in paths:
        raise FileNotFoundError(f"{folder} has no h5 matrix, no matrix.mtx, barcodes.tsv and features.tsv")
    bare = {"sep": "\t", "header": None, "dtype": str, "keep_default_na": False}
    barcodes, features = (pd.read_csv(path, **bare) for path in paths[1:])
    matrix = sparse.csr_matrix(io.mmread(paths[0])).T.tocsr()
    var = features[[0, 2] if 2 in features else [0]].rename(columns={0: "gene_ids", 2: "feature_types"})
    var = var.set_axis(pd.Index(features[min(1, features.shape[1] - 1)], name=None))
    return AnnData(matrix, obs=pd.DataFrame(index=pd.Index(barcodes[0], name=None)), var=var)


def read_visium(folder: Path, labels: Path | None = None, classes: Mapping = CLASSES, **named) -> AnnData:
    """Read one Space Ranger output folder (see `lib.spacrd.spots.assemble`); files of two sections are refused.

    `folder` is the run, or has one run below it; of Visium HD the folder of one bin size (square_008um). It holds
    `filtered_feature_bc_matrix.h5` or the folder of this name, `tissue_positions.csv`, `.parquet` or
    `tissue_positions_list.csv`, `scalefactors_json.json` and `tissue_hires_image.png` (those in `spatial/`), each with
    any prefix, packed (.gz) or not. A full-resolution `image.tif` (or `*_image.tif`) beside them is preferred. `labels` is a
    table of barcode and label (`lib.spacrd.spots.read_labels`).

    `picture_scale` is 1 for the full-resolution picture and `tissue_hires_scalef` for the hires one. The size of a pixel is
    `microns_per_pixel`, or follows from all positions on their array (`spot_diameter_fullres` is that of a 65 µm spot, not of
    55 µm).

    Raises
    ------
    ValueError
        Also where more than `STRAYS` of the spots with counts are not those on tissue (the matrix is of another section), the
        positions do not lie on an array, or the picture not on the spots (`lib.spacrd.pictures.check_picture`).
    """
    run = run_of(folder, "*tissue_positions*")
    matrix = part_of(run, "filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix")
    counts, places = read_counts(matrix or run), _read_positions(run)
    factors = _factors(run)
    um_per_px, sizes_um = _scale(places, factors, run)
    on = places["in_tissue"] == 1
    off = (~on.reindex(counts.obs_names, fill_value=True)).to_numpy()
    idle = places.index[on].difference(counts.obs_names, sort=False)
    # bins of HD may hold nothing; a spot of Visium always holds something
    lost = max(off.mean(), 0 if sizes_um[0] == sizes_um[1] else len(idle) / max(1, on.sum()))
    said = [(off.sum(), "spots with counts off the tissue"), (len(idle), "spots on tissue without counts")]
    notes = [f"{number} {what}" for number, what in said if number]
    if lost > STRAYS:
        raise ValueError(
            f"{' and '.join(notes)}, of {counts.n_obs} and {on.sum()}: matrix and positions are of two sections (all slides "
            "share one list of barcodes). Give both of one run; counts that you filtered yourself go as an h5ad"
        )
    counts, bare = counts[~off], places.loc[~on, PIXELS].to_numpy()
    places, _ = matched(places[on], counts.obs_names, np.inf)
    xy = places[PIXELS].to_numpy()
    picture, scale, copy = _picture_of(folder, run, factors, xy)
    tissue = read_labels(labels, counts.obs_names, notes, classes)
    named |= {"sizes_um": sizes_um, "um_per_px": um_per_px, "picture": picture, "picture_scale": [scale] * 2}
    named |= {"folder": folder, "classes": classes, "dropped": notes}
    return assemble(counts, xy, tissue, **named, bare=bare, copy=copy)


def _read_positions(run: Path) -> pd.DataFrame:
    endings = ("tissue_positions.csv", "tissue_positions.parquet", "tissue_positions_list.csv")
    path = part_of(run, *endings)
    if path is None:
        raise FileNotFoundError(f"{run} has none of {', '.join(endings)}, in it or in its folder spatial")
    if path.suffix == ".parquet":
        places = pd.read_parquet(path)
    else:
        # before Space Ranger 2: without a header
        headed = "barcode" in map(plain, pd.read_csv(path, nrows=0, encoding="utf-8-sig"))
        places = read_columns(path) if headed else pd.read_csv(path, header=None, names=POSITIONS)
    places.columns = [plain(column) for column in places]
    places = places.set_index(places["barcode"].astype(str).rename(None))
    truth = {"true": 1, "false": 0}
    places["in_tissue"] = places["in_tissue"].map(lambda value: truth.get(str(value).lower(), value))
    return as_numbers(places, POSITIONS[1:], path)


def _factors(run: Path) -> dict:
    path = part_of(run, "scalefactors_json.json")
    if path is None:
        return {}
    with unpacked(path) as file:
        return read_json(file)


def _scale(places: pd.DataFrame, factors: dict, run: Path) -> tuple[float | None, tuple[float, float]]:
    """µm per full-resolution pixel (None where too few positions tell), and a spot's diameter and pitch in µm."""
    bins = re.match(r"s_(\d+)um_", places.index[0])
    bin_um = factors.get("bin_size_um") or (float(bins[1]) if bins else None)
    sizes, steps = ((bin_um, bin_um), (bin_um, bin_um)) if bin_um else (VISIUM_UM, STEP_UM)
    fitted = array_scale(places[ARRAY].to_numpy(), places[PIXELS].to_numpy(), steps, run)
    key = "microns_per_pixel"
    stated = positive(factors, key, run / "spatial") if key in factors else None
    if stated and fitted and abs(stated / fitted - 1) > MOST_OFF:
        said = f"scalefactors_json.json says {stated:.4g} µm per pixel, the positions {fitted:.4g}"
        raise ValueError(f"{run}: {said}: they are of two runs")
    return stated or fitted, tuple(map(float, sizes))


def array_scale(array: np.ndarray, xy: np.ndarray, steps_um: tuple[float, float], where) -> float | None:
    """µm per pixel, from where places on an array (column, row) lie in pixels; None where too few are told apart.

    `steps_um` are µm from column to column and row to row. All places count, not only those on tissue, and not their nearest
    neighbours, which may be far where few spots were kept. ValueError where they lie on no such array.
    """
    design = np.column_stack([array, np.ones(len(array))])
    fit, _, rank, _ = np.linalg.lstsq(design, xy, rcond=None)
    if rank < 3:
        return None
    column, row = np.linalg.norm(fit[:2], axis=1)
    um, off = (steps_um[0] / column, steps_um[1] / row), np.linalg.norm(design @ fit - xy, axis=1).max()
    if abs(um[0] / um[1] - 1) > MOST_OFF or off > max(3.0, 0.05 * column):
        raise ValueError(
            f"{where}: the positions do not lie on their array (up to {off:.1f} pixels beside it, {um[0]:.4g} µm per pixel along "
            f"the columns, {um[1]:.4g} along the rows): array_row, array_col and pixels must be those of one run, as it wrote them"
        )
    return float(np.sqrt(um[0] * um[1]))


def _picture_of(folder: Path, run: Path, factors: dict, xy: np.ndarray) -> tuple:
    """The picture's name below `folder` ("" for none), its scale, and a small copy; one of another frame than this is refused."""
    hires = part_of(run, "tissue_hires_image.png")
    near = (path for place in {folder, run} for path in place.iterdir())
    full = sorted(path for path in near if FULL_PICTURES.fullmatch(path.name))
    known = hires is not None and (factors or not full)
    if known:
        scale = positive(factors, "tissue_hires_scalef", run / "spatial/scalefactors_json.json")
        size = picture_size(hires)
        full = of_frame(full, size, scale, hires.name)
    if full:
        copy = open_picture(hires) if known else None
        return the_one(full, "H&E picture").relative_to(folder).as_posix(), 1.0, copy
    if hires is None:
        return "", 1.0, None
    share = (np.ptp(xy, axis=0) * scale / size).max()
    if share < LEAST_SHARE:
        said = f"tissue_hires_scalef {scale:g} or the positions are of another picture"
        raise ValueError(f"the spots span {share:.2%} of {hires}: {said}")
    return hires.relative_to(folder).as_posix(), scale, None


def read_xenium(folder: Path, labels: Path | None = None, classes: Mapping = CLASSES, **named) -> AnnData:
    """Read one Xenium output folder and sum its cells over a square grid (see `lib.spacrd.spots.assemble`).

    The paper's recipe for pseudo-spots is not published; this one sums the counts of all cells whose centroid lies in
    a square of 100 µm. Control probes and codewords are left out (feature type "Gene Expression" only), and so are
    squares without a cell, and squares that the picture does not cover.

    `folder` is the run, or has one run below it. It holds `cell_feature_matrix.h5` or the folder `cell_feature_matrix`, and
    `cells.parquet`, `cells.csv.gz` or `cells.csv` (x_centroid, y_centroid in µm); for a picture, `*he_image*.tif` and
    `*he_imagealignment.csv` (or `he_alignment.csv`, or Xenium Explorer's `*alignment_files/matrix.csv`), the 3 x 3 matrix
    (csv without header) which takes its pixels to pixels of the morphology picture. Without a picture the positions
    are morphology pixels.

    `labels` is a table of cell_id and label. A pseudo-spot with more than half of its labelled cells in a cancer class takes
    the most frequent of these classes, with less than half the most frequent of the others, with exactly half
    "undetermined"; label_source is "transferred".
    """
    run = run_of(folder, "*cells.parquet", "*cells.csv", "*cells.csv.gz")
    counts = read_counts(part_of(run, "cell_feature_matrix.h5") or run / "cell_feature_matrix")
    cells, notes = _read_cells(run), []
    cells, idle = matched(cells, counts.obs_names)
    if len(idle):
        notes.append(f"{len(idle)} cells without counts")
    at = np.floor(cells[CENTROID].to_numpy() / BIN_UM).astype(int)
    squares, square = np.unique(at, axis=0, return_inverse=True)
    square = square.ravel()
    member = sparse.csr_matrix((np.ones(len(square)), (square, np.arange(len(square)))), dtype=np.float32)
    total = AnnData(member @ sparse.csr_matrix(counts.X), var=counts.var)
    total.obs_names = [f"{x}x{y}" for x, y in squares]

    picture, to_morphology = _aligned_picture_of(folder, run)
    experiment = run / "experiment.xenium"
    about = read_json(experiment) if experiment.is_file() else {}
    pixel_um = positive(about, "pixel_size", experiment) if "pixel_size" in about else PIXEL_UM
    centre = np.column_stack([(squares + 0.5) * BIN_UM / pixel_um, np.ones(len(squares))])
    xy = (centre @ np.linalg.inv(to_morphology).T)[:, :2]
    um_per_px = pixel_um * np.sqrt(abs(np.linalg.det(to_morphology[:2, :2])))
    of_cells = read_labels(labels, counts.obs_names, notes, classes)
    tissue = _majority(of_cells, classes, square, len(squares))
    named |= {"sizes_um": (BIN_UM, BIN_UM), "um_per_px": um_per_px, "picture": picture, "dropped": notes}
    named |= {"folder": folder, "classes": classes, "most_outside": MOST_UNCOVERED}
    return assemble(total, xy, tissue, "transferred", **named)


def _read_cells(folder: Path) -> pd.DataFrame:
    path = part_of(folder, "cells.parquet", "cells.csv") or folder / "cells.csv"
    text = {"dtype": {"cell_id": str}, "low_memory": False}
    cells = pd.read_parquet(path) if path.suffix == ".parquet" else read_columns(path, **text)
    cells.columns = [plain(column) for column in cells]
    # older runs number their cells, parquet files may hold names as bytes
    names = cells["cell_id"].map(lambda cell: cell.decode() if isinstance(cell, bytes) else str(cell))
    return as_numbers(cells.set_index(pd.Index(names, name=None)), CENTROID, path)


def _aligned_picture_of(folder: Path, run: Path) -> tuple[str, np.ndarray]:
    """The H&E picture's name below `folder` ("" for none), and the matrix from its pixels to the morphology picture's."""
    patterns = ("*he_image*.tif", "*he_imagealignment.csv", "*he_alignment.csv", "*alignment*/matrix.csv")
    pictures, *found = ({path for at in (folder, run) for path in at.glob(pattern)} for pattern in patterns)
    picture = the_one(pictures, "H&E picture")
    if picture is None:
        return "", np.eye(3)
    alignment = the_one(set().union(*found), "alignment of the H&E picture")
    if alignment is None:
        raise FileNotFoundError(
            f"{picture.name} has no alignment: put 10x's *he_imagealignment.csv beside it (or the matrix.csv that Xenium Explorer "
            "writes, in its folder *alignment_files), or move the picture away"
        )
    matrix = np.loadtxt(alignment, delimiter=",")
    affine = matrix.shape == (3, 3) and np.allclose(matrix[2], (0, 0, 1))
    if not affine or not abs(np.linalg.det(matrix)) > 1e-12:
        raise ValueError(f"{alignment} is not an affine 3 x 3 matrix with last row 0, 0, 1")
    return picture.relative_to(folder).as_posix(), matrix


def _majority(tissue: pd.Series, classes: Mapping, square: np.ndarray, number: int) -> np.ndarray:
    """Class of every square, over its labelled cells."""
    label = label_of(tissue, classes)
    table = pd.DataFrame({"square": square, "tissue": tissue.to_numpy(), "cancer": label == 1})
    table = table[~np.isnan(label)]
    share = table.groupby("square")["cancer"].mean().reindex(range(number))
    # the most frequent class on each side; of equally frequent ones the first by name
    frequent = table.groupby(["square", "cancer"])["tissue"].agg(lambda kinds: kinds.mode()[0])
    won = pd.MultiIndex.from_arrays([range(number), (share > 0.5).to_numpy()])
    winner = np.where(share == 0.5, "undetermined", frequent.reindex(won).to_numpy(dtype=object))
    return np.where(share.isna(), "", winner).astype(object)
