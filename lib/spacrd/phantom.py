"""Phantom sections of spatial transcriptomics with planted tumour domains, in the layouts of real raw files.

Nothing made here is ever called data. A spot is as cancer-like in its counts, and in its picture, as its domain makes
it, plus a noise of unit variance that counts and picture do not share. `GENES` and `PICTURE` are how much higher the
tumour domain lies. So each alone is imperfect (for a separation s the AUC of a single spot is at most Phi(s / sqrt(2))),
both are better.
"""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from lib.files import write_csv, write_json, written, written_hdf5
from lib.phantoms.slides import Stain, outline, smooth_field

GENES = 1.4  # separation of the domains, times the effect, in the tumour genes' activity
PICTURE = 1.05  # and in the nuclei's number, size and darkness
SMOOTH = 0.35  # share of the noise's variance that is smooth: neighbours do not average it out
FOLD = 0.4  # mean log fold change of a tumour gene for one standard deviation of activity
SHARE = (0.3, 0.6)  # range of the tumour domain's share of a section's spots
BATCH = 0.3  # standard deviation, over patients, of a gene's log level
DISPERSION = 0.3  # of the negative binomial counts
UNDETERMINED = 0.06  # share of spots, at the domains' edge, left without a label
CELLS = 8  # cells of the fields along a pitch
MARGIN = 1.5  # empty pitches around the tissue
DOMAIN, NULL_DOMAIN = 3.5, 1.2  # smoothing of the fields whose sign makes domains, in pitches
LABEL_FRAME = 2.32  # full-resolution pixels per pixel of HER2ST's label files, whose y runs upwards
HIRES = 0.5  # of Visium's full-resolution pixel
TUMOUR_GENES = (
    *("ERBB2", "GRB7", "PGAP3", "STARD3", "KRT8", "KRT18", "KRT19", "EPCAM", "MUC1", "CDH1"),
    *("CCND1", "FASN", "SCD", "TFF3", "AGR2", "XBP1", "GATA3", "TOP2A", "MKI67", "CCNB1"),
    *("BIRC5", "STMN1", "TUBA1B", "HMGB2", "CD24", "CLDN4", "ELF3", "SPINT2", "AZGP1", "S100A14"),
)


class Platform(NamedTuple):
    """How sections of one platform are made; the two differ in all of it."""

    pitch_um: float
    hexagonal: bool
    um_per_px: float  # of the full-resolution picture
    depth: float  # median counts a spot
    gene_bias: float  # standard deviation of a gene's log level against the other platform
    stain: Stain
    prefix: str  # of the patients' names


VISIUM_STAIN = Stain(haematoxylin=(0.72, 0.62, 0.22), eosin=(0.16, 0.92, 0.20), glass=(236, 240, 243))
PLATFORMS = {
    "st": Platform(200.0, False, um_per_px=2.5, depth=2500.0, gene_bias=0.0, stain=Stain(), prefix=""),
    "visium": Platform(100.0, True, 1.25, depth=6000.0, gene_bias=0.4, stain=VISIUM_STAIN, prefix="V"),
}


def write_cohort(
    folder: str | Path,
    *,
    seed: int,
    patients: int = 5,
    effect: float = 1.0,
    platform: str = "st",
    spots_side: int = 18,
    genes: int = 400,
    null: bool = False,
) -> pd.DataFrame:
    """Write a phantom cohort's raw files, one section a patient, and its section table `sections.csv`.

    Counts are negative binomial with library sizes that vary between spots; a gene's level varies between patients.
    The second platform has its own pitch, spot size, depth, stain and gene levels, lacks a few of the tumour genes and
    a quarter of the others, and has as many of its own.

    `platform` "st" is the layout of HER2ST, "visium" one Space Ranger folder a section. Same `seed`, same bytes. At most 26
    patients; at least 6 spots along a side and 60 genes. `effect` is the strength of what is planted, 0 or more; 1 gives a
    linear model of one modality an AUC of about 0.8 a spot. In a `null`, the negative control, labels are from a domain that
    neither counts nor picture know. The table is as `lib.spacrd.cohort.read_table` gives it.
    """
    folder, made_as = Path(folder), PLATFORMS[platform]
    write = {"st": write_st, "visium": write_visium}[platform]
    names, level, response = _genes(genes, platform)
    rows = []
    for number in range(patients):
        rng = np.random.default_rng([seed, number, sorted(PLATFORMS).index(platform)])
        patient = made_as.prefix + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number]
        section = _section(effect, made_as, spots_side, null, rng)
        counts = _counts(section["activity"], level, response, made_as.depth, rng)
        row = write(folder, patient, section, pd.DataFrame(counts, columns=names), made_as, rng)
        note = "phantom, labels unrelated to counts and picture" if null else f"phantom, effect {effect:g}"
        rows.append({**row, "patient": patient, "platform": platform, "label_grade": "planted", "note": note})
    table = pd.DataFrame(rows)[["section", "patient", "platform", "folder", "labels", "label_grade", "note"]]
    write_csv(table, folder / "sections.csv")
    return table


def _section(effect: float, made_as: Platform, side: int, null: bool, rng: np.random.Generator) -> dict:
    """Spots, their domain, what counts and picture are to show, and the painted picture."""
    shape = (round((side - 1 + 2 * MARGIN) * CELLS),) * 2
    tissue = outline(shape, (MARGIN - 1) * CELLS, rng)
    array_xy, place = _grid(side, made_as.hexagonal)
    centre = (place + MARGIN) * CELLS - 0.5  # cells, counted from the middle of the first one
    inside = at(tissue.astype(float), centre) > 0.5
    array_xy, centre = array_xy[inside], centre[inside]

    domain, edge = _domain(shape, centre, DOMAIN, rng)
    # labels of a null come from small domains: two fields of few blobs overlap by chance far more than many do
    shown, shown_edge = _domain(shape, centre, NULL_DOMAIN, rng) if null else (domain, edge)
    noise = [
        np.sqrt(SMOOTH) * smooth_field(shape, 2.0 * CELLS, rng)
        + np.sqrt(1 - SMOOTH) * smooth_field(shape, 0.3 * CELLS, rng)
        for _ in range(2)
    ]
    tumour = 1 / (1 + np.exp(-domain / 0.08))
    activity = at(effect * GENES * tumour + noise[0], centre)
    looks = effect * PICTURE * tumour + noise[1]
    cell_px = round(made_as.pitch_um / made_as.um_per_px / CELLS)
    # a patient's slide is stained a little more or less than the next
    stain, strength = made_as.stain, rng.uniform(0.85, 1.15, 2)
    dyes = zip((stain.haematoxylin, stain.eosin), strength, strict=True)
    colours = [tuple(float(v * s) for v in dye) for dye, s in dyes]
    picture = paint(looks, tissue, cell_px, made_as.um_per_px, Stain(*colours, stain.glass), rng)

    kinds = np.where(at(shown, centre) > 0, "invasive cancer", "connective tissue").astype(object)
    kinds[shown_edge] = "undetermined"
    section = {"array_xy": array_xy, "xy": (centre + 0.5) * cell_px, "tissue": kinds}
    return {**section, "activity": activity, "picture": picture}


def _grid(side: int, hexagonal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Array positions (n, 2) and places (n, 2) in pitches, x first."""
    if not hexagonal:
        y, x = (grid.ravel() for grid in np.mgrid[:side, :side])
        return np.column_stack([x, y]), np.column_stack([x, y]).astype(float)
    rows = int((side - 1) / (np.sqrt(3) / 2)) + 1
    y, x = (grid.ravel() for grid in np.mgrid[:rows, : side - 1])
    column = 2 * x + y % 2  # Visium counts half pitches along a row, odd ones in odd rows
    return np.column_stack([column, y]), np.column_stack([column / 2, y * np.sqrt(3) / 2])


def _domain(shape, centre, smoothing: float, rng) -> tuple[np.ndarray, np.ndarray]:
    """A field that is positive in the tumour domain, and the spots too near its edge to be labelled."""
    field = smooth_field(shape, smoothing * CELLS, rng)
    values = at(field, centre)
    field = (field - np.quantile(values, 1 - rng.uniform(*SHARE))) / values.std()
    distance = np.abs(at(field, centre))
    near = distance < np.quantile(distance, 2 * UNDETERMINED)
    return field, near & (rng.random(len(centre)) < 0.5)


def _genes(number: int, platform: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, log level and log fold change of a platform's genes: the same genes behave alike in every phantom."""
    rng, tumour = np.random.default_rng(20260306), len(TUMOUR_GENES)
    names = np.array([*TUMOUR_GENES, *(f"GENE{i:04d}" for i in range(2 * number))])
    level, bias = rng.normal(0, 1.1, len(names)), rng.normal(0, 1, len(names))
    response = np.zeros(len(names))
    response[:tumour] = FOLD * rng.uniform(0.4, 1.6, tumour)
    level[:tumour] = rng.normal(0.5, 0.7, tumour)
    level[0], response[0] = 2.0, 1.6 * FOLD  # ERBB2: strong enough to be a baseline by itself
    known, first = np.arange(tumour), tumour
    if platform == "visium":  # its probes miss every sixth tumour gene and the first quarter of the others
        known, first = known[known % 6 != 5], tumour + (number - tumour) // 4
    chosen = np.r_[known, first : first + number - len(known)]
    level = level + PLATFORMS[platform].gene_bias * bias
    return names[chosen].tolist(), level[chosen], response[chosen]


def _counts(activity, level, response, depth: float, rng) -> np.ndarray:
    """Negative binomial counts (spots, genes)."""
    patient = rng.normal(0, BATCH, len(level))
    rate = np.exp(level + patient + np.outer(activity - activity.mean(), response))
    library = depth * np.exp(rng.normal(0, 0.45, len(activity)) + rng.normal(0, 0.25))
    mean = library[:, None] * rate / np.exp(level + patient).sum()
    return rng.poisson(rng.gamma(1 / DISPERSION, mean * DISPERSION)).astype(np.int32)


def write_st(folder: Path, patient: str, section: dict, counts: pd.DataFrame, made_as, rng) -> dict:
    """Write a section in the layout of HER2ST, with what misleads in it; return its row of the section table.

    Spots stand in lexicographic order; one spot of the spot file has no counts; label files have float x and y, pixels
    of another frame with y upside down, and a row without x and y.
    """
    name, data = f"{patient}1", folder / "data"
    grid = section["array_xy"] + 4
    counts = counts.set_index(pd.Index([f"{x}x{y}" for x, y in grid])).sort_index()
    _write_table(counts, data / f"ST-cnts/{name}.tsv.gz", index=True)

    places = pd.DataFrame(grid, columns=["x", "y"])
    places[["new_x", "new_y"]] = (grid + rng.normal(0, 0.03, grid.shape)).round(3)
    places[["pixel_x", "pixel_y"]] = section["xy"].round(2)
    places["selected"] = 1
    labels = places[["new_x", "new_y"]].set_axis(["x", "y"], axis=1)
    labels["pixel_x"] = (section["xy"][:, 0] / LABEL_FRAME).round(3)
    labels["pixel_y"] = ((section["picture"].shape[0] - section["xy"][:, 1]) / LABEL_FRAME).round(3)
    labels["label"] = section["tissue"]
    stray = pd.DataFrame([{"pixel_x": 1.0, "pixel_y": 1.0, "label": "connective tissue"}])
    labels = pd.concat([labels, stray], ignore_index=True)
    labels.insert(0, "Row.names", [f"{x:.0f}x{y:.0f}" for x, y in labels[["pixel_x", "pixel_y"]].to_numpy()])

    corner = 0.2 * made_as.pitch_um / made_as.um_per_px
    idle = pd.DataFrame([[2, 2, 2.0, 2.0, corner, corner, 1]], columns=places.columns)
    shuffled = pd.concat([places, idle], ignore_index=True).iloc[rng.permutation(len(places) + 1)]
    _write_table(shuffled, data / f"ST-spotfiles/{name}_selection.tsv")
    _write_table(labels, data / f"ST-pat/lbl/{name}_labeled_coordinates.tsv")
    _write_picture(Image.fromarray(section["picture"]), data / f"ST-imgs/{patient}/{name}/{name}_HE.jpg")
    return {"section": name, "folder": "", "labels": ""}


def write_visium(folder: Path, patient: str, section: dict, counts: pd.DataFrame, made_as, rng) -> dict:
    """Write a section as a Space Ranger 2 folder with labels.csv beside it; return its row of the section table."""
    name = f"{patient}1"
    here = folder / name
    letters = np.array(list("ACGT"))[rng.integers(0, 4, (len(counts), 16))]
    barcodes = np.array(["".join(row) + "-1" for row in letters])
    _write_10x(counts, barcodes, here / "filtered_feature_bc_matrix.h5")

    positions = pd.DataFrame({"barcode": barcodes, "in_tissue": 1})
    positions[["array_row", "array_col"]] = section["array_xy"][:, ::-1]
    positions[["pxl_row_in_fullres", "pxl_col_in_fullres"]] = section["xy"][:, ::-1].round().astype(int)
    write_csv(positions, here / "spatial/tissue_positions.csv")
    write_csv(positions[["barcode"]].assign(label=section["tissue"]), here / "labels.csv")

    full = Image.fromarray(section["picture"])
    hires = full.resize((round(full.width * HIRES), round(full.height * HIRES)), Image.Resampling.LANCZOS)
    lowres = full.resize((full.width // 10, full.height // 10), Image.Resampling.LANCZOS)
    _write_picture(hires, here / "spatial/tissue_hires_image.png")
    _write_picture(lowres, here / "spatial/tissue_lowres_image.png")
    factors = {
        "spot_diameter_fullres": 65.0 / made_as.um_per_px,  # Space Ranger's theoretical spot, on every slide
        "fiducial_diameter_fullres": 105.0 / made_as.um_per_px,
        "tissue_hires_scalef": hires.width / full.width,
        "tissue_lowres_scalef": lowres.width / full.width,
    }
    write_json(factors, here / "spatial/scalefactors_json.json")
    return {"section": name, "folder": name, "labels": f"{name}/labels.csv"}


def _write_table(table: pd.DataFrame, path: Path, index: bool = False) -> None:
    text = table.to_csv(sep="\t", index=index, lineterminator="\n").encode()
    with written(path) as part:
        # mtime 0 and no name in the header: equal tables give equal bytes
        part.write_bytes(gzip.compress(text, compresslevel=6, mtime=0) if path.suffix == ".gz" else text)


def _write_picture(picture: Image.Image, path: Path) -> None:
    with written(path) as part:
        picture.save(part, **({"quality": 90} if path.suffix == ".jpg" else {}))


def _write_10x(counts: pd.DataFrame, barcodes: np.ndarray, path: Path) -> None:
    """The matrix file of Cell Ranger 3 and later: compressed columns, one a barcode."""
    matrix, genes = sparse.csr_matrix(counts.to_numpy()), len(counts.columns)
    with written_hdf5(path) as file:
        file.attrs["filetype"] = "matrix"
        file.attrs["library_ids"] = np.array([path.parent.name.encode()])
        group = file.create_group("matrix")
        group["barcodes"] = barcodes.astype("S18")
        group["data"], group["indices"] = matrix.data.astype(np.int32), matrix.indices.astype(np.int64)
        group["indptr"] = matrix.indptr.astype(np.int64)
        group["shape"] = np.array(matrix.shape[::-1], dtype=np.int32)
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(genes)], dtype="S15")
        features["name"] = counts.columns.to_numpy().astype("S32")
        for key, value in (("feature_type", "Gene Expression"), ("genome", "phantom")):
            features[key] = np.full(genes, value.encode())
        features["_all_tag_keys"] = np.array([b"genome"])


def at(field: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Values of a field (rows, columns) at `xy` (n, 2), in cells: linear between them, the border's beyond it."""
    return map_coordinates(field, np.asarray(xy, dtype=float).T[::-1], order=1, mode="nearest")


def paint(cancer: np.ndarray, tissue: np.ndarray, cell_px: int, um_per_px: float, stain, rng) -> np.ndarray:
    """Paint a picture in which more, larger and darker nuclei mean more cancer-like: uint8 RGB.

    `cancer` (rows, columns) says how cancer-like it is to look, in about -2 (loose stroma) to 4 (dense tumour), a value a
    cell of `cell_px` pixels; `tissue`, bool, is False on empty glass.
    """
    shape = (cancer.shape[0] * cell_px, cancer.shape[1] * cell_px)
    looks = np.clip(cancer, -2.5, 4.5)
    soft = _enlarged(gaussian_filter(tissue.astype(np.float32), 0.6), cell_px)
    inside = np.clip((soft - 0.35) * 4, 0, 1)
    fibres = _fibres(shape, rng)
    loose = _enlarged(looks, cell_px)
    eosin = inside * np.clip(0.26 + 0.06 * fibres - 0.035 * loose, 0.06, None)
    haematoxylin = inside * np.clip(0.055 + 0.02 * loose, 0.02, None)
    xy = _scattered(looks, tissue, cell_px, um_per_px, rng)
    looks_there = at(looks, xy / cell_px - 0.5)
    radius = (2.9 * np.exp(0.11 * looks_there + 0.16 * rng.standard_normal(len(xy)))) / um_per_px
    dark = 0.62 * np.exp(0.10 * looks_there + 0.22 * rng.standard_normal(len(xy)))
    haematoxylin += inside * np.minimum(_nuclei(shape, xy, radius, dark, rng), 1.6)
    grain = 1.5 * rng.standard_normal(shape, dtype=np.float32)
    rgb = np.empty((*shape, 3), dtype=np.uint8)
    for i, glass in enumerate(stain.glass):
        density = haematoxylin * np.float32(stain.haematoxylin[i]) + eosin * np.float32(stain.eosin[i])
        rgb[..., i] = np.clip(np.rint(glass * np.exp(-np.float32(np.log(10)) * density) + grain), 0, 255)
    return rgb


def _enlarged(field: np.ndarray, times: int) -> np.ndarray:
    return zoom(field.astype(np.float32), times, order=1, grid_mode=True, mode="nearest")


def _fibres(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Wavy stroma: stripes at two directions, mixed by a smooth field; about -2 to 2."""
    small = (shape[0] // 2 + 1, shape[1] // 2 + 1)
    across = gaussian_filter(rng.standard_normal(small, dtype=np.float32), (0.8, 6), truncate=3)
    along = gaussian_filter(rng.standard_normal(small, dtype=np.float32), (6, 0.8), truncate=3)
    coarse = _enlarged(smooth_field((small[0] // 8 + 1, small[1] // 8 + 1), 3, rng), 8)
    mix = 1 / (1 + np.exp(-3 * coarse[: small[0], : small[1]]))
    stripes = mix * across / across.std() + (1 - mix) * along / along.std()
    return _enlarged(stripes, 2)[: shape[0], : shape[1]]


def _scattered(looks, tissue, cell_px, um_per_px, rng) -> np.ndarray:
    """Nuclei positions (n, 2) in pixels, x first: Poisson with 2,200 a mm² at 0, growing with the looks."""
    per_cell = 2200e-6 * (cell_px * um_per_px) ** 2 * np.exp(0.24 * looks) * tissue
    number = rng.poisson(per_cell)
    rows, columns = np.nonzero(number)
    times = number[rows, columns]
    corner = np.column_stack([np.repeat(columns, times), np.repeat(rows, times)])
    return (corner + rng.random(corner.shape)) * cell_px


def _nuclei(shape, xy, radius, dark, rng) -> np.ndarray:
    """Optical density of ellipses with soft edges, summed."""
    stretch = rng.uniform(1.0, 1.7, (len(xy), 1)).astype(np.float32)
    turn = rng.uniform(0, np.pi, (len(xy), 1)).astype(np.float32)
    reach = int(np.ceil(radius.max(initial=0) * np.sqrt(1.7) + 1))
    span = np.arange(-reach, reach + 1)
    dx, dy = (grid.ravel()[None] for grid in np.meshgrid(span, span))
    centre = np.floor(xy).astype(int)
    off_x = (dx - (xy[:, :1] - centre[:, :1]) + 0.5).astype(np.float32)
    off_y = (dy - (xy[:, 1:] - centre[:, 1:]) + 0.5).astype(np.float32)
    long = (off_x * np.cos(turn) + off_y * np.sin(turn)) / np.sqrt(stretch)
    short = (off_y * np.cos(turn) - off_x * np.sin(turn)) * np.sqrt(stretch)
    edge = radius[:, None].astype(np.float32) - np.sqrt(long**2 + short**2)
    value = dark[:, None].astype(np.float32) * np.clip(edge + 0.5, 0, 1)
    row, column = centre[:, 1:] + dy, centre[:, :1] + dx
    kept = (value > 0) & (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    place = row[kept] * shape[1] + column[kept]
    density = np.bincount(place, weights=value[kept], minlength=shape[0] * shape[1])
    return density.reshape(shape).astype(np.float32)


def write_hospital(folder: Path) -> None:
    """Write a made-up hospital's files: six sections of six patients, three in the layout of HER2ST, three of Space Ranger.

    Of the latter one is given the labels of another, and one has a spot without counts in its table of labels.
    """
    small = {"seed": 11, "patients": 3, "spots_side": 10, "effect": 1.5, "genes": 200}
    old, new = (write_cohort(folder, platform=platform, **small) for platform in ("st", "visium"))
    table = pd.concat([old, new], ignore_index=True).assign(label_grade="pathologist", note="")
    table.loc[4, "labels"] = table.loc[5, "labels"]
    with open(folder / table.loc[3, "labels"], "a", encoding="utf-8") as labels:
        labels.write("ACGTACGTACGTACGT-1,connective tissue\n")
    write_csv(table, folder / "sections.csv")
