import gzip
import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import squidpy
from PIL import Image
from scipy import io, sparse

from lib.spacrd.spots import check_section
from lib.spacrd.visium import read_counts, read_section

MATRIX, POSITIONS = "filtered_feature_bc_matrix.h5", "spatial/tissue_positions.csv"
FACTORS, HIRES = "spatial/scalefactors_json.json", "spatial/tissue_hires_image.png"


@pytest.fixture
def folder(visium):
    return visium / "VA1"


def read(folder, **kwargs):
    return read_section(folder, "VA1", "VA", **{"labels": folder / "labels.csv", **kwargs})


def test_against_the_files(folder):
    section = read(folder)
    check_section(section)
    with h5py.File(folder / MATRIX) as file:
        matrix = file["matrix"]
        counts = sparse.csc_matrix(
            (matrix["data"], matrix["indices"], matrix["indptr"]), shape=matrix["shape"][:]
        )
        barcodes = [name.decode() for name in matrix["barcodes"]]
        genes = [name.decode() for name in matrix["features/name"]]
    places = pd.read_csv(folder / POSITIONS).set_index("barcode")
    labels = pd.read_csv(folder / "labels.csv").set_index("barcode")["label"]
    assert section.obs_names.tolist() == barcodes
    assert section.var_names.tolist() == genes
    np.testing.assert_array_equal(section.X.toarray(), counts.toarray().T)
    for spot in barcodes:
        row = section.obs.loc[spot]
        assert row["tissue"] == labels[spot]
        assert (row["array_x"], row["array_y"]) == tuple(places.loc[spot, ["array_col", "array_row"]])
        xy = section.obsm["spatial"][section.obs_names.get_loc(spot)]
        assert tuple(xy) == tuple(places.loc[spot, ["pxl_col_in_fullres", "pxl_row_in_fullres"]])


def test_scale_of_the_hires_picture(folder):
    about = read(folder).uns["section"]
    factor = json.loads((folder / FACTORS).read_text(encoding="utf-8"))["tissue_hires_scalef"]
    assert about["picture"] == HIRES
    assert about["picture_scale"] == [factor, factor]
    assert about["um_per_px"] == pytest.approx(1.25, rel=0.02)
    assert (about["pitch_um"], about["spot_diameter_um"]) == (100, 55)


def test_a_full_resolution_picture_is_preferred(folder):
    full = np.asarray(Image.open(folder / HIRES)).repeat(2, axis=0).repeat(2, axis=1)
    Image.fromarray(full).save(folder / "image.tif")
    about = read(folder).uns["section"]
    assert (about["picture"], about["picture_scale"]) == ("image.tif", [1, 1])
    Image.fromarray(full).save(folder / "V1_image.tif")
    with pytest.raises(ValueError, match=r"which is the H&E picture"):
        read(folder)


def test_full_resolution_positions_on_the_hires_picture_are_refused(folder):
    """Defect 10 of the released code."""
    shutil.copy(folder / HIRES, folder / "image.png")
    Image.open(folder / HIRES).save(folder / "image.tif")
    with pytest.raises(ValueError, match=r"\d+ of \d+ spots lie outside .*image.tif"):
        read(folder)


def test_the_three_forms_of_a_matrix_and_the_two_of_positions_agree(folder):
    section = read(folder)
    (folder / MATRIX).rename(folder / f"V1_sample_{MATRIX}")
    prefixed = read(folder)
    (folder / f"V1_sample_{MATRIX}").unlink()
    sparse_folder = folder / "filtered_feature_bc_matrix"
    sparse_folder.mkdir()
    with gzip.open(sparse_folder / "matrix.mtx.gz", "wb") as file:
        io.mmwrite(file, sparse.coo_matrix(section.X.T.astype(int)))
    features = pd.DataFrame({"id": section.var_names, "name": section.var_names, "type": "Gene Expression"})
    features.to_csv(sparse_folder / "features.tsv.gz", sep="\t", header=False, index=False)
    pd.Series(section.obs_names).to_csv(sparse_folder / "barcodes.tsv.gz", header=False, index=False)
    positions = pd.read_csv(folder / POSITIONS)
    positions.to_csv(folder / "spatial" / "tissue_positions_list.csv", header=False, index=False)
    (folder / POSITIONS).unlink()
    for other in (prefixed, read(folder)):
        assert (other.X != section.X).nnz == 0
        pd.testing.assert_frame_equal(other.obs, section.obs)
        np.testing.assert_array_equal(other.obsm["spatial"], section.obsm["spatial"])


def change_positions(folder, change):
    table = pd.read_csv(folder / POSITIONS)
    table = change(table)
    table.to_csv(folder / POSITIONS, index=False)


def test_spots_off_the_tissue_are_left_out_and_counted(folder):
    whole = read(folder)
    change_positions(folder, lambda t: t.assign(in_tissue=[0, 0, *t["in_tissue"][2:]]))
    section = read(folder)
    assert section.n_obs == whole.n_obs - 2
    assert section.uns["section"]["dropped"] == "2 spots with counts off the tissue"


def test_without_labels_or_picture(folder):
    (folder / HIRES).unlink()
    section = read(folder, labels=None)
    assert section.obs["label"].isna().all()
    assert set(section.obs["label_source"]) == {"none"}
    assert section.uns["section"]["picture"] == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.iloc[4:], r"4 of \d+ barcodes with counts have no position"),
        (lambda t: t.assign(barcode=t["barcode"].str.lower()), "have no position"),
        (lambda t: t.drop(columns="array_row"), r"lacks the columns \['array_row'\]"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "twice"),
        (lambda t: t.assign(pxl_row_in_fullres=np.nan), "pxl_row_in_fullres of .*no number"),
        (lambda t: pd.concat([t, t.assign(barcode="x" + t["barcode"]), t.assign(barcode="y" + t["barcode"])]),
         r"spots on tissue no counts"),
    ],
)  # fmt: skip
def test_bad_positions(folder, change, says):
    change_positions(folder, change)
    with pytest.raises(ValueError, match=says):
        read(folder)


@pytest.mark.parametrize("path", [MATRIX, POSITIONS, FACTORS])
def test_missing_files(folder, path):
    (folder / path).unlink()
    with pytest.raises(FileNotFoundError):
        read(folder)


def test_two_matrices(folder):
    shutil.copy(folder / MATRIX, folder / f"other_{MATRIX}")
    with pytest.raises(ValueError, match="holds 2 matrices"):
        read(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [(lambda f: f.write_text(json.dumps({"tissue_hires_scalef": 1e-3})), "the spots span"),
     (lambda f: f.write_text(json.dumps({"tissue_hires_scalef": -0.5})), "tissue_hires_scalef")],
)  # fmt: skip
def test_a_scale_of_another_picture(folder, change, says):
    change(folder / FACTORS)
    with pytest.raises(ValueError, match=says):
        read(folder)


def test_as_squidpy_reads_it(folder):
    """Counts, places and picture, by a reader that knows nothing of ours."""
    theirs, ours = squidpy.read.visium(folder), read(folder)
    ours = ours[theirs.obs_names]
    assert (ours.X != theirs.X).nnz == 0
    np.testing.assert_array_equal(ours.obsm["spatial"], theirs.obsm["spatial"])
    (about,) = theirs.uns["spatial"].values()
    kept = ours.uns["spatial"]["VA1"]
    assert set(kept["images"]) == set(about["images"])
    factor, scale = about["scalefactors"]["tissue_hires_scalef"], kept["scalefactors"]["tissue_hires_scalef"]
    height, width = about["images"]["hires"].shape[:2]
    assert kept["images"]["hires"].shape[:2] == pytest.approx(
        (height / factor * scale, width / factor * scale), abs=1
    )


GENES = ["ERBB2", "KRT8", "KRT8", "CD3"]
KINDS = ["Gene Expression"] * 3 + ["Antibody Capture"]
COUNTS = np.array([[1, 0, 2, 7], [0, 3, 0, 7], [0, 0, 0, 7], [5, 0, 0, 0], [0, 9, 1, 0]])
BARCODES = [f"{letters}-1" for letters in ("AAA", "AAC", "AAG", "AAT", "ACA")]


@pytest.fixture
def matrix(tmp_path):
    """Five barcodes, three genes and an antibody, in the layout of Cell Ranger 3."""
    counts = sparse.csr_matrix(COUNTS)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(BARCODES, "S")
        group["data"], group["indices"], group["indptr"] = counts.data, counts.indices, counts.indptr
        group["shape"] = np.array(COUNTS.shape[::-1])
        features = group.create_group("features")
        features["id"] = features["name"] = np.array(GENES, "S")
        features["feature_type"], features["genome"] = np.array(KINDS, "S"), np.array(["G"] * 4, "S")
    return tmp_path / "m.h5"


def test_antibodies_are_no_genes_and_genes_named_twice_are_kept_apart(matrix):
    counts = read_counts(matrix)
    np.testing.assert_array_equal(counts.X.toarray(), COUNTS[:, :3])
    assert counts.obs_names.tolist() == BARCODES
    assert counts.var_names.tolist() == ["ERBB2", "KRT8", "KRT8-1"]


def test_the_old_layout_of_one_genome_is_read(matrix):
    with h5py.File(matrix, "r+") as file:
        file.move("matrix", "GRCh38")
        group = file["GRCh38"]
        group["gene_names"] = group["genes"] = group["features/name"][()]
        del group["features"]
    np.testing.assert_array_equal(read_counts(matrix).X.toarray(), COUNTS)


def test_a_barcode_twice(matrix):
    with h5py.File(matrix, "r+") as file:
        file["matrix/barcodes"][1] = file["matrix/barcodes"][0]
    with pytest.raises(ValueError, match="AAA-1 twice"):
        read_counts(matrix)


def test_scale_factors_without_the_hires_one(folder):
    (folder / FACTORS).write_text(json.dumps({"tissue_lowres_scalef": 0.1}))
    with pytest.raises(ValueError, match="tissue_hires_scalef"):
        read(folder)


def test_nan_counts(folder):
    with h5py.File(folder / MATRIX, "r+") as file:
        values = file["matrix/data"][:].astype(np.float32)
        values[7] = np.nan
        del file["matrix/data"]
        file["matrix/data"] = values
    with pytest.raises(ValueError, match="1 counts are NaN"):
        read(folder)
