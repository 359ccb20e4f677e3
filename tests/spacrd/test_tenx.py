"""Visium against its files and squidpy, Xenium against a loop over cells, and what neither may misread."""

import gzip
import json
import shutil
from collections import Counter

import h5py
import numpy as np
import pandas as pd
import pytest
import squidpy
from PIL import Image
from scipy import io, sparse

from lib.spacrd import tenx
from lib.spacrd.cohort import read_section as read_row
from lib.spacrd.tenx import read_counts, read_visium, read_xenium

MATRIX, POSITIONS = "filtered_feature_bc_matrix.h5", "spatial/tissue_positions.csv"
FACTORS, HIRES = "spatial/scalefactors_json.json", "spatial/tissue_hires_image.png"


def write_matrix(path, counts, barcodes, genes, kinds):
    """The layout of Cell Ranger 3."""
    counts = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, "S")
        group["data"], group["indices"], group["indptr"] = counts.data, counts.indices, counts.indptr
        group["shape"] = np.array(counts.shape[::-1])
        features = group.create_group("features")
        features["id"] = features["name"] = np.array(genes, "S")
        features["feature_type"], features["genome"] = np.array(kinds, "S"), np.array(["G"] * len(genes), "S")
    return path


def matrix_of(path):
    with h5py.File(path) as file:
        m = file["matrix"]
        return sparse.csc_matrix((m["data"], m["indices"], m["indptr"]), shape=m["shape"][:]).toarray().T


# counts

GENES = ["ERBB2", "KRT8", "KRT8", "CD3"]
KINDS = ["Gene Expression"] * 3 + ["Antibody Capture"]
COUNTS = np.array([[1, 0, 2, 7], [0, 3, 0, 7], [0, 0, 0, 7], [5, 0, 0, 0], [0, 9, 1, 0]])
BARCODES = [f"{letters}-1" for letters in ("AAA", "AAC", "AAG", "AAT", "ACA")]


def test_antibodies_are_no_genes_and_genes_named_twice_are_kept_apart(tmp_path):
    counts = read_counts(write_matrix(tmp_path / "m.h5", COUNTS, BARCODES, GENES, KINDS))
    np.testing.assert_array_equal(counts.X.toarray(), COUNTS[:, :3])
    assert counts.obs_names.tolist() == BARCODES
    assert counts.var_names.tolist() == ["ERBB2", "KRT8", "KRT8-1"]
    with pytest.raises(ValueError, match="AAA-1 twice"):
        read_counts(
            write_matrix(tmp_path / "m.h5", COUNTS, [BARCODES[0], *BARCODES[:1], *BARCODES[2:]], GENES, KINDS)
        )
    with pytest.raises(ValueError, match="no feature of type"):
        read_counts(write_matrix(tmp_path / "m.h5", COUNTS, BARCODES, GENES, KINDS[3:] * 4))


def test_the_old_layout_of_one_genome_is_read(tmp_path):
    with h5py.File(write_matrix(tmp_path / "m.h5", COUNTS, BARCODES, GENES, KINDS), "r+") as file:
        file.move("matrix", "GRCh38")
        group = file["GRCh38"]
        group["gene_names"] = group["genes"] = group["features/name"][()]
        del group["features"]
    np.testing.assert_array_equal(read_counts(tmp_path / "m.h5").X.toarray(), COUNTS)


# Visium


@pytest.fixture
def visium(visium_tree, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(visium_tree, tmp_path / "visium") / "VA1"


def read(folder):
    labels = folder / "labels.csv"
    return read_visium(folder, "VA1", "VA", labels if labels.is_file() else None)


def test_visium_against_its_files(visium):
    section = read(visium)
    with h5py.File(visium / MATRIX) as file:
        barcodes, genes = ([n.decode() for n in file["matrix"][key]] for key in ("barcodes", "features/name"))
    places = pd.read_csv(visium / POSITIONS).set_index("barcode")
    labels = pd.read_csv(visium / "labels.csv").set_index("barcode")["label"]
    assert section.obs_names.tolist() == barcodes
    assert section.var_names.tolist() == genes
    np.testing.assert_array_equal(section.X.toarray(), matrix_of(visium / MATRIX))
    for spot, xy in zip(barcodes, section.obsm["spatial"], strict=True):
        row = section.obs.loc[spot]
        assert row["tissue"] == labels[spot]
        assert (row["array_x"], row["array_y"]) == tuple(places.loc[spot, ["array_col", "array_row"]])
        assert tuple(xy) == tuple(places.loc[spot, ["pxl_col_in_fullres", "pxl_row_in_fullres"]])
    about, factor = section.uns["section"], json.loads((visium / FACTORS).read_text())["tissue_hires_scalef"]
    assert (about["picture"], about["picture_scale"]) == (HIRES, [factor, factor])
    assert about["um_per_px"] == pytest.approx(1.25, rel=0.02)
    assert (about["pitch_um"], about["spot_diameter_um"]) == (100, 55)


def test_as_squidpy_reads_it(visium):
    """Counts, places and picture, by a reader that knows nothing of ours."""
    theirs, ours = squidpy.read.visium(visium), read(visium)
    ours = ours[theirs.obs_names]
    assert (ours.X != theirs.X).nnz == 0
    np.testing.assert_array_equal(ours.obsm["spatial"], theirs.obsm["spatial"])
    (about,) = theirs.uns["spatial"].values()
    kept = ours.uns["spatial"]["VA1"]
    assert set(kept["images"]) == set(about["images"])
    ratio = kept["scalefactors"]["tissue_hires_scalef"] / about["scalefactors"]["tissue_hires_scalef"]
    expected = [side * ratio for side in about["images"]["hires"].shape[:2]]
    assert kept["images"]["hires"].shape[:2] == pytest.approx(expected, abs=1)


def test_a_full_resolution_picture_is_preferred_unless_it_is_the_hires_one(visium):
    full = np.asarray(Image.open(visium / HIRES)).repeat(2, axis=0).repeat(2, axis=1)
    Image.fromarray(full).save(visium / "image.tif")
    about = read(visium).uns["section"]
    assert (about["picture"], about["picture_scale"]) == ("image.tif", [1, 1])
    Image.open(visium / HIRES).save(visium / "image.tif")  # defect 10 of the released code
    with pytest.raises(ValueError, match=r"\d+ of \d+ spots lie outside .*image.tif"):
        read(visium)
    Image.fromarray(full).save(visium / "V1_image.tif")
    with pytest.raises(ValueError, match=r"which is the H&E picture"):
        read(visium)


def test_the_three_forms_of_a_matrix_and_the_two_of_positions_agree(visium):
    section = read(visium)
    (visium / MATRIX).rename(visium / f"V1_sample_{MATRIX}")
    prefixed = read(visium)
    (visium / f"V1_sample_{MATRIX}").unlink()
    folder = visium / "filtered_feature_bc_matrix"
    folder.mkdir()
    with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
        io.mmwrite(file, sparse.coo_matrix(section.X.T.astype(int)))
    features = pd.DataFrame({"id": section.var_names, "name": section.var_names, "type": "Gene Expression"})
    features.to_csv(folder / "features.tsv.gz", sep="\t", header=False, index=False)
    pd.Series(section.obs_names).to_csv(folder / "barcodes.tsv.gz", header=False, index=False)
    positions = pd.read_csv(visium / POSITIONS)
    positions.to_csv(visium / "spatial" / "tissue_positions_list.csv", header=False, index=False)
    (visium / POSITIONS).unlink()
    for other in (prefixed, read(visium)):
        assert (other.X != section.X).nnz == 0
        pd.testing.assert_frame_equal(other.obs, section.obs)
        np.testing.assert_array_equal(other.obsm["spatial"], section.obsm["spatial"])


def change_positions(folder, change):
    change(pd.read_csv(folder / POSITIONS)).to_csv(folder / POSITIONS, index=False)


def test_spots_off_the_tissue_are_left_out_and_counted(visium):
    whole = read(visium)
    change_positions(visium, lambda t: t.assign(in_tissue=[0, 0, *t["in_tissue"][2:]]))
    section = read(visium)
    assert section.n_obs == whole.n_obs - 2
    assert section.uns["section"]["dropped"] == "2 spots with counts off the tissue"


def test_without_labels_or_picture(visium):
    (visium / HIRES).unlink()
    (visium / "labels.csv").unlink()
    section = read(visium)
    assert section.obs["label"].isna().all()
    assert set(section.obs["label_source"]) == {"none"}
    assert section.uns["section"]["picture"] == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.iloc[4:], r"4 of \d+ spots have no position"),
        (lambda t: t.assign(barcode=t["barcode"].str.lower()), "have no position"),
        (lambda t: t.drop(columns="array_row"), r"lacks the columns \['array_row'\]"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "twice"),
        (lambda t: t.assign(pxl_row_in_fullres=np.nan), "pxl_row_in_fullres of .*no number"),
        (lambda t: pd.concat([t, *(t.assign(barcode=x + t["barcode"]) for x in "xy")]), r"positions are of no spot"),
    ],
)  # fmt: skip
def test_bad_positions(visium, change, says):
    change_positions(visium, change)
    with pytest.raises(ValueError, match=says):
        read(visium)


@pytest.mark.parametrize(
    ("factors", "says"),
    [
        ({"tissue_hires_scalef": 1e-3}, "the spots span"),
        ({"tissue_hires_scalef": -0.5}, "tissue_hires_scalef"),
        ({"tissue_lowres_scalef": 0.1}, "tissue_hires_scalef"),
    ],
)
def test_a_scale_of_another_picture(visium, factors, says):
    (visium / FACTORS).write_text(json.dumps(factors))
    with pytest.raises(ValueError, match=says):
        read(visium)


def test_two_matrices_and_counts_that_are_none(visium):
    with h5py.File(visium / MATRIX, "r+") as file:
        values = file["matrix/data"][:].astype(np.float32)
        values[7] = np.nan
        del file["matrix/data"]
        file["matrix/data"] = values
    with pytest.raises(ValueError, match="1 counts are NaN"):
        read(visium)
    shutil.copy(visium / MATRIX, visium / f"other_{MATRIX}")
    with pytest.raises(ValueError, match="which is the matrix"):
        read(visium)


# Xenium

PANEL = ["ERBB2", "KRT8", "COL1A1", "PTPRC", "NegControlProbe_1", "UnassignedCodeword_2"]
TYPES = ["Gene Expression"] * 4 + ["Negative Control Probe", "Unassigned Codeword"]
CELLS = 300


@pytest.fixture
def xenium(tmp_path):
    """A Xenium output of 300 cells over 0.6 x 0.5 mm, with labels a cell."""
    rng = np.random.default_rng(3)
    names = [f"cell{i:04d}-1" for i in range(CELLS)]
    counts = rng.poisson(0.7, (CELLS, len(PANEL)))
    write_matrix(tmp_path / "cell_feature_matrix.h5", counts, names, PANEL, TYPES)
    x, y = rng.uniform(0, 600, CELLS), rng.uniform(0, 500, CELLS)
    cells = pd.DataFrame({"cell_id": names, "x_centroid": x, "y_centroid": y})
    cells.loc[CELLS] = ["empty-1", 300.0, 300.0]
    cells.to_csv(tmp_path / "cells.csv.gz", index=False)
    (tmp_path / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.25}))
    kinds = ["invasive cancer", "cancer in situ", "connective tissue", "immune infiltrate", ""]
    labels = pd.DataFrame({"cell_id": names, "label": rng.choice(kinds, CELLS)})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


def binned(folder):
    return read_xenium(folder, "X1", "X", folder / "labels.csv")


@pytest.mark.parametrize("bin_um", [100.0, 55.0])
def test_squares_against_a_loop_over_cells(xenium, bin_um, monkeypatch):
    monkeypatch.setattr(tenx, "BIN_UM", bin_um)
    section = binned(xenium)
    cells = pd.read_csv(xenium / "cells.csv.gz").iloc[:CELLS]
    kinds = pd.read_csv(xenium / "labels.csv", keep_default_na=False)["label"]
    counts = matrix_of(xenium / "cell_feature_matrix.h5")[:, :4]
    total, members = {}, {}
    for i in range(CELLS):
        square = f"{int(cells['x_centroid'][i] // bin_um)}x{int(cells['y_centroid'][i] // bin_um)}"
        total[square] = total.get(square, 0) + counts[i]
        members.setdefault(square, []).append(kinds[i])
    assert set(section.obs_names) == set(total)
    assert section.var_names.tolist() == PANEL[:4], "controls are left out"
    for i, (square, row) in enumerate(section.obs.iterrows()):
        np.testing.assert_array_equal(section.X[i].toarray()[0], total[square])
        named = [kind for kind in members[square] if kind]
        cancer = [kind for kind in named if "cancer" in kind]
        assert row["cells"] == len(members[square])
        if not named:
            assert row["tissue"] == ""
            assert np.isnan(row["cancer_share"])
            continue
        share = len(cancer) / len(named)
        assert row["cancer_share"] == pytest.approx(share)
        np.testing.assert_equal(float(row["label"]), np.nan if share == 0.5 else float(share > 0.5))
        if share != 0.5:
            side = Counter(cancer if share > 0.5 else [kind for kind in named if kind not in cancer])
            assert side[row["tissue"]] == max(side.values())
    assert {0.0, 1.0} < set(section.obs["label"])
    expected = (section.obs[["array_x", "array_y"]].to_numpy() + 0.5) * bin_um / 0.25
    np.testing.assert_allclose(section.obsm["spatial"], expected)
    about = section.uns["section"]
    assert (about["pitch_um"], about["um_per_px"], about["picture"]) == (bin_um, 0.25, "")
    assert about["pitch_px"] == pytest.approx(bin_um / 0.25)
    assert about["dropped"] == "1 cells without counts"


def test_an_aligned_picture(xenium):
    """The matrix takes pixels of the H&E picture to pixels of the morphology picture: here half size, turned by 90°."""
    plain = binned(xenium).obsm["spatial"]
    Image.new("RGB", (1010, 1210), "pink").save(xenium / "S_he_image.tif")
    with pytest.raises(FileNotFoundError, match=r"S_he_image.tif has no alignment"):
        binned(xenium)
    matrix = np.array([[0, -2.0, 2400], [2.0, 0, 0], [0, 0, 1]])
    np.savetxt(xenium / "S_he_imagealignment.csv", matrix, delimiter=",")
    section = binned(xenium)
    about = section.uns["section"]
    assert about["picture"] == "S_he_image.tif"
    assert about["um_per_px"] == pytest.approx(0.5)
    assert about["pitch_px"] == pytest.approx(200)
    one = np.column_stack([section.obsm["spatial"], np.ones(section.n_obs)])
    np.testing.assert_allclose((one @ matrix.T)[:, :2], plain, atol=1e-6)
    for text in ("1,0,0\n0,1,0\n", "1,0,0\n0,0,0\n0,0,1\n", "a,b,c\nd,e,f\ng,h,i\n"):
        (xenium / "S_he_imagealignment.csv").write_text(text)
        with pytest.raises(ValueError):  # noqa: PT011  ours or numpy's own
            binned(xenium)


def test_cells_as_parquet_with_bytes(xenium):
    section = binned(xenium)
    cells = pd.read_csv(xenium / "cells.csv.gz")
    (xenium / "cells.csv.gz").unlink()
    cells.assign(cell_id=cells["cell_id"].str.encode("utf-8")).to_parquet(xenium / "cells.parquet")
    again = binned(xenium)
    assert (again.X != section.X).nnz == 0
    pd.testing.assert_frame_equal(again.obs, section.obs)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop(columns="x_centroid"), r"lacks the columns \['x_centroid'\]"),
        (lambda t: t.iloc[9:], "9 of 300 spots have no position"),
        (lambda t: t.assign(y_centroid=np.nan), "y_centroid of .*no number"),
    ],
)
def test_bad_cells(xenium, change, says):
    change(pd.read_csv(xenium / "cells.csv.gz")).to_csv(xenium / "cells.csv.gz", index=False)
    with pytest.raises(ValueError, match=says):
        binned(xenium)


def test_through_the_section_table(xenium):
    row = {"section": "X1", "patient": "X", "platform": "xenium", "folder": "", "labels": "labels.csv"}
    section = read_row({**row, "label_grade": "weak", "note": ""}, xenium)
    assert set(section.obs["label_source"]) <= {"transferred", "none"}
    assert "cancer_share" in section.obs
