"""Sections of 10x Xenium: cells binned to pseudo-spots."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from anndata import AnnData
from scipy import sparse

from lib.files import positive, read_json
from lib.inputs.tables import read_columns
from lib.spacrd.pictures import check_frame
from lib.spacrd.spots import UNDETERMINED, as_numbers, assemble, label_of, read_labels
from lib.spacrd.visium import read_file

PIXEL_UM = 0.2125  # of the morphology picture, where experiment.xenium does not say otherwise
CELL_COLUMNS = ("cell_id", "x_centroid", "y_centroid")
MOST_CELLS = 50_000_000  # a slide has a million
MOST_UM = 1e6  # a slide is 75 mm long
LEAST_BIN_UM = 1.0  # a cell is 10 µm wide


def read_section(
    folder: str | Path,
    name: str,
    patient: str,
    bin_um: float = 100.0,
    labels: str | Path | None = None,
    he_image: str | Path | None = None,
    he_alignment: str | Path | None = None,
) -> AnnData:
    """Read one Xenium output folder and sum its cells over a square grid.

    The paper's recipe for pseudo-spots is not published; this one sums the counts of all cells whose centroid lies in
    a square of `bin_um`. Control probes and codewords are left out (feature type "Gene Expression" only), and so are
    squares without a cell.

    Parameters
    ----------
    folder : path
        Has `cell_feature_matrix.h5` and `cells.csv.gz`, `cells.csv` or `cells.parquet` (x_centroid, y_centroid in µm).
    name, patient : str
        Of the section.
    bin_um : float
        Side of a pseudo-spot in µm, > 0; also its pitch.
    labels : path, optional
        A table of cell_id and label (class names or 0/1). A pseudo-spot with more than half of its labelled cells in
        a cancer class takes the most frequent of these classes, with less than half the most frequent of the others,
        with exactly half "undetermined".
    he_image, he_alignment : path, optional
        H&E picture and the 3 x 3 matrix (csv without header) that 10x gives with it, which takes its pixels to pixels
        of the morphology picture. Default: `*he_image*.tif` and `*he_imagealignment.csv` (or `he_alignment.csv`) in
        the folder; without both the section has no picture and its positions are morphology pixels.

    Returns
    -------
    AnnData
        As `lib.spacrd.spots.check_section` wants it, with label_source "transferred" (from cells to squares), and
        obs["cells"]: cells in the square; obs["cancer_share"]: share of its labelled cells in a cancer class, or NaN.

    Raises
    ------
    FileNotFoundError, ValueError
        Names the section, the file and what was expected.
    """
    folder = Path(folder)
    if not LEAST_BIN_UM <= bin_um <= MOST_UM:
        raise ValueError(f"section {name}: bin_um must be positive, at least {LEAST_BIN_UM:g}, got {bin_um}")
    counts = _read_matrix(folder, name)
    cells = _read_cells(folder, name)
    lost = counts.obs_names.difference(cells.index, sort=False)
    if len(lost):
        raise ValueError(
            f"section {name}: {len(lost)} of {counts.n_obs} cells with counts have no position ({', '.join(lost[:3])}): "
            "matrix and cells file must come from the same run"
        )
    idle = len(cells) - counts.n_obs
    um = cells.loc[counts.obs_names, ["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64)
    squares, square = np.unique(np.floor(um / bin_um).astype(int), axis=0, return_inverse=True)
    square = square.ravel()
    member = sparse.csr_matrix((np.ones(len(square)), (square, np.arange(len(square)))), dtype=np.float32)

    picture, to_morphology = _picture_of(folder, name, he_image, he_alignment)
    pixel_um = _pixel_um(folder, name)
    centre = np.column_stack([(squares + 0.5) * bin_um / pixel_um, np.ones(len(squares))])
    xy = (centre @ np.linalg.inv(to_morphology).T)[:, :2]
    check_frame(folder / picture if picture else None, xy, (1.0, 1.0), name)

    tissue, share = np.full(len(squares), "", dtype=object), np.full(len(squares), np.nan)
    if labels is not None:
        tissue, share = _majority(read_labels(labels, counts.obs_names, name), square, len(squares))
    section = assemble(
        member @ sparse.csr_matrix(counts.X),
        spots=[f"{x}x{y}" for x, y in squares],
        genes=counts.var_names,
        xy=xy,
        array_xy=squares,
        tissue=tissue,
        label_source=np.where(tissue == "", "none", "transferred"),
        name=name,
        patient=patient,
        platform="xenium",
        spot_diameter_um=bin_um,
        pitch_um=bin_um,
        picture=picture,
        um_per_px=pixel_um * np.sqrt(abs(np.linalg.det(to_morphology[:2, :2]))),
        dropped=f"{idle} cells without counts" if idle else "",
    )
    section.obs["cells"] = np.bincount(square, minlength=len(squares))
    section.obs["cancer_share"] = share
    return section


def _read_matrix(folder: Path, name: str) -> AnnData:
    path = folder / "cell_feature_matrix.h5"
    if not path.is_file():
        raise FileNotFoundError(f"section {name}: no {path}")
    return read_file(path, name)


def _read_cells(folder: Path, name: str) -> pd.DataFrame:
    for file in ("cells.parquet", "cells.csv.gz", "cells.csv"):
        if (path := folder / file).is_file():
            break
    else:
        raise FileNotFoundError(f"section {name}: no cells.parquet, cells.csv.gz or cells.csv in {folder}")
    if path.suffix == ".parquet":
        cells = _read_parquet(path, name)
    else:
        cells = read_columns(path, dtype={"cell_id": str}, low_memory=False)
    if missing := [column for column in CELL_COLUMNS if column not in cells]:
        raise ValueError(
            f"section {name}: {path} lacks the columns {missing}, expected {', '.join(CELL_COLUMNS)}"
        )
    # older runs number their cells, parquet files may hold names as bytes
    names = cells["cell_id"].map(
        lambda cell: cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)
    )
    cells = cells.set_index(pd.Index(names, name=None))
    if not cells.index.is_unique:
        raise ValueError(f"section {name}: {path} gives {cells.index[cells.index.duplicated()][0]} twice")
    return as_numbers(cells, CELL_COLUMNS[1:], f"section {name}: {path}", most=MOST_UM)


def _read_parquet(path: Path, name: str) -> pd.DataFrame:
    try:
        with pq.ParquetFile(path) as file:
            if (rows := file.metadata.num_rows) > MOST_CELLS:
                raise ValueError(f"{rows} cells, more than {MOST_CELLS}")
            here = [column for column in CELL_COLUMNS if column in file.schema_arrow.names]
            return file.read(columns=here).to_pandas(ignore_metadata=True)
    except (ValueError, TypeError, LookupError, OSError, MemoryError, pa.ArrowException) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"section {name}: {path} is no parquet file that can be read ({said}): copy it from Xenium's output again"
        ) from error


def _pixel_um(folder: Path, name: str) -> float:
    path = folder / "experiment.xenium"
    if not path.is_file():
        return PIXEL_UM
    try:
        about = read_json(path)
        return positive(about, "pixel_size", path) if "pixel_size" in about else PIXEL_UM
    except ValueError as error:
        raise ValueError(f"section {name}: {error}") from None


def _picture_of(folder: Path, name: str, he_image, he_alignment) -> tuple[str, np.ndarray]:
    pictures = [Path(he_image)] if he_image else sorted(folder.glob("*he_image*.tif"))
    matrices = [Path(he_alignment)] if he_alignment else sorted(folder.glob("*he_imagealignment.csv"))
    if not matrices and (folder / "he_alignment.csv").is_file():
        matrices = [folder / "he_alignment.csv"]
    if len(pictures) > 1 or len(matrices) > 1:
        raise ValueError(
            f"section {name}: {folder} holds several H&E pictures or alignments: name he_image, he_alignment"
        )
    if not pictures:
        return "", np.eye(3)
    if not matrices:
        raise FileNotFoundError(
            f"section {name}: {pictures[0].name} has no alignment: put 10x's *he_imagealignment.csv beside it, "
            "or move the picture away to go on without"
        )
    try:
        matrix = np.loadtxt(matrices[0], delimiter=",")
    except ValueError as error:
        raise ValueError(f"section {name}: {matrices[0]} is not a csv of numbers: {error}") from None
    if (
        matrix.shape != (3, 3)
        or not np.isfinite(matrix).all()
        or not np.allclose(matrix[2], (0, 0, 1))
        or abs(np.linalg.det(matrix)) < 1e-12
    ):
        raise ValueError(f"section {name}: {matrices[0]} is not an affine 3 x 3 matrix with last row 0, 0, 1")
    picture = pictures[0] if pictures[0].is_absolute() else folder / pictures[0].name
    if not picture.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"section {name}: {picture} must lie in {folder}")
    return picture.resolve().relative_to(folder.resolve()).as_posix(), matrix


def _majority(tissue: pd.Series, square: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Class and share of cancer cells of every square, over its labelled cells."""
    label = label_of(tissue)
    table = pd.DataFrame({"square": square, "tissue": tissue.to_numpy(), "cancer": label == 1})
    table = table[~table["tissue"].isin(UNDETERMINED)]
    share = table.groupby("square")["cancer"].mean().reindex(range(number))
    # the most frequent class on each side; of equally frequent ones the first by name
    frequent = (
        table.groupby(["square", "cancer", "tissue"]).size().rename("times").reset_index()
        .sort_values(["times", "tissue"], ascending=[False, True])
        .drop_duplicates(["square", "cancer"])
        .set_index(["square", "cancer"])["tissue"]
    )  # fmt: skip
    won = pd.MultiIndex.from_arrays([range(number), (share > 0.5).to_numpy()])
    winner = frequent.reindex(won).to_numpy(dtype=object)
    winner = np.where(share.isna(), "", np.where(share == 0.5, "undetermined", winner))
    return winner.astype(object), share.to_numpy()
