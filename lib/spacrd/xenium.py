"""Sections of 10x Xenium: cells binned to pseudo-spots."""

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from lib.files import positive, read_json
from lib.inputs.tables import read_columns
from lib.spacrd.spots import UNDETERMINED, as_numbers, assemble, label_of, read_labels, refuse_twice
from lib.spacrd.visium import read_counts

PIXEL_UM = 0.2125  # of the morphology picture, where experiment.xenium does not say otherwise
CENTROID = ["x_centroid", "y_centroid"]


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
        Has `cell_feature_matrix.h5` and `cells.parquet`, `cells.csv.gz` or `cells.csv` (x_centroid, y_centroid in µm).
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
        the folder; without a picture the positions are morphology pixels.

    Returns
    -------
    AnnData
        See `lib.spacrd.spots.assemble`; label_source is "transferred" (from cells to squares). obs["cells"]: cells in
        the square; obs["cancer_share"]: share of its labelled cells in a cancer class, or NaN.

    Raises
    ------
    FileNotFoundError, ValueError
        A file is missing, or matrix, cells, picture and alignment do not fit each other.
    """
    folder = Path(folder)
    if not bin_um > 0:
        raise ValueError(f"bin_um must be positive, got {bin_um}")
    counts, cells = read_counts(folder / "cell_feature_matrix.h5"), _read_cells(folder)
    lost = counts.obs_names.difference(cells.index, sort=False)
    if len(lost):
        raise ValueError(
            f"{len(lost)} of {counts.n_obs} cells with counts have no position ({', '.join(lost[:3])}): matrix and cells "
            "file must come from the same run"
        )
    um = cells.loc[counts.obs_names, CENTROID].to_numpy()
    squares, square = np.unique(np.floor(um / bin_um).astype(int), axis=0, return_inverse=True)
    square = square.ravel()
    member = sparse.csr_matrix((np.ones(len(square)), (square, np.arange(len(square)))), dtype=np.float32)

    picture, to_morphology = _picture_of(folder, he_image, he_alignment)
    experiment = folder / "experiment.xenium"
    about = read_json(experiment) if experiment.is_file() else {}
    pixel_um = positive(about, "pixel_size", experiment) if "pixel_size" in about else PIXEL_UM
    centre = np.column_stack([(squares + 0.5) * bin_um / pixel_um, np.ones(len(squares))])
    tissue, share = np.full(len(squares), "", dtype=object), np.full(len(squares), np.nan)
    if labels is not None:
        tissue, share = _majority(read_labels(labels, counts.obs_names), square, len(squares))
    idle = len(cells) - counts.n_obs
    total = AnnData(member @ sparse.csr_matrix(counts.X), var=counts.var[[]])
    total.obs_names = [f"{x}x{y}" for x, y in squares]
    section = assemble(
        total,
        (centre @ np.linalg.inv(to_morphology).T)[:, :2],
        squares,
        tissue,
        np.where(tissue == "", "none", "transferred"),
        name=name,
        patient=patient,
        platform="xenium",
        sizes_um=(bin_um, bin_um),
        folder=folder,
        picture=picture,
        um_per_px=pixel_um * np.sqrt(abs(np.linalg.det(to_morphology[:2, :2]))),
        dropped=[f"{idle} cells without counts"] if idle else [],
    )
    section.obs["cells"] = np.bincount(square, minlength=len(squares))
    section.obs["cancer_share"] = share
    return section


def _read_cells(folder: Path) -> pd.DataFrame:
    if (path := folder / "cells.parquet").is_file():
        cells = pd.read_parquet(path)
    else:
        path = folder / "cells.csv.gz" if (folder / "cells.csv.gz").is_file() else folder / "cells.csv"
        cells = read_columns(path, dtype={"cell_id": str}, low_memory=False)
    # older runs number their cells, parquet files may hold names as bytes
    names = cells["cell_id"].map(lambda cell: cell.decode() if isinstance(cell, bytes) else str(cell))
    cells = cells.set_index(pd.Index(names, name=None))
    refuse_twice(cells.index, path)
    return as_numbers(cells, CENTROID, path)


def _picture_of(folder: Path, he_image, he_alignment) -> tuple[str, np.ndarray]:
    pictures = [Path(he_image)] if he_image else sorted(folder.glob("*he_image*.tif"))
    matrices = [Path(he_alignment)] if he_alignment else sorted(folder.glob("*he_imagealignment.csv"))
    matrices = matrices or [path for path in [folder / "he_alignment.csv"] if path.is_file()]
    if len(pictures) > 1 or len(matrices) > 1:
        raise ValueError(f"{folder} holds several H&E pictures or alignments: name he_image, he_alignment")
    if not pictures:
        return "", np.eye(3)
    if not matrices:
        raise FileNotFoundError(
            f"{pictures[0].name} has no alignment: put 10x's *he_imagealignment.csv beside it, or move the picture away"
        )
    matrix = np.loadtxt(matrices[0], delimiter=",")
    if (
        matrix.shape != (3, 3)
        or not np.allclose(matrix[2], (0, 0, 1))
        or not abs(np.linalg.det(matrix)) > 1e-12
    ):
        raise ValueError(f"{matrices[0]} is not an affine 3 x 3 matrix with last row 0, 0, 1")
    return pictures[0].resolve().relative_to(folder.resolve()).as_posix(), matrix


def _majority(tissue: pd.Series, square: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Class and share of cancer cells of every square, over its labelled cells."""
    table = pd.DataFrame({"square": square, "tissue": tissue.to_numpy(), "cancer": label_of(tissue) == 1})
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
    winner = np.where(share == 0.5, "undetermined", frequent.reindex(won).to_numpy(dtype=object))
    return np.where(share.isna(), "", winner).astype(object), share.to_numpy()
