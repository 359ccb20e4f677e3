import json
from collections import Counter

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

from lib.spacrd.cohort import read_section as read_row
from lib.spacrd.spots import check_section
from lib.spacrd.xenium import read_section

GENES = ["ERBB2", "KRT8", "COL1A1", "PTPRC", "NegControlProbe_1", "UnassignedCodeword_2"]
KINDS = ["Gene Expression"] * 4 + ["Negative Control Probe", "Unassigned Codeword"]
CELLS = 300


@pytest.fixture
def folder(tmp_path):
    """A Xenium output of 300 cells over 0.6 x 0.5 mm, with labels a cell."""
    rng = np.random.default_rng(3)
    counts = sparse.csr_matrix(rng.poisson(0.7, (CELLS, len(GENES))))
    names = [f"cell{i:04d}-1" for i in range(CELLS)]
    with h5py.File(tmp_path / "cell_feature_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(names, dtype="S")
        group["data"], group["indices"], group["indptr"] = counts.data, counts.indices, counts.indptr
        group["shape"] = np.array(counts.shape[::-1])
        features = group.create_group("features")
        features["id"] = features["name"] = np.array(GENES, dtype="S")
        features["feature_type"] = np.array(KINDS, dtype="S")
        features["genome"] = np.array(["Unknown"] * len(GENES), dtype="S")
        features["_all_tag_keys"] = np.array([b"genome"])
    cells = pd.DataFrame(
        {"cell_id": names, "x_centroid": rng.uniform(0, 600, CELLS), "y_centroid": rng.uniform(0, 500, CELLS)}
    )
    cells.loc[CELLS] = ["empty-1", 300.0, 300.0]
    cells.to_csv(tmp_path / "cells.csv.gz", index=False)
    (tmp_path / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.25}))
    kinds = rng.choice(
        ["invasive cancer", "cancer in situ", "connective tissue", "immune infiltrate", ""], CELLS
    )
    pd.DataFrame({"cell_id": names, "label": kinds}).to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


def matrix_of(folder):
    with h5py.File(folder / "cell_feature_matrix.h5") as file:
        m = file["matrix"]
        return sparse.csc_matrix((m["data"], m["indices"], m["indptr"]), shape=m["shape"][:]).toarray().T


def read(folder, **kwargs):
    return read_section(folder, "X1", "X", **{"labels": folder / "labels.csv", **kwargs})


@pytest.mark.parametrize("bin_um", [100.0, 55.0])
def test_squares_against_a_loop_over_cells(folder, bin_um):
    section = read(folder, bin_um=bin_um)
    check_section(section)
    cells = pd.read_csv(folder / "cells.csv.gz").iloc[:CELLS]
    kinds = pd.read_csv(folder / "labels.csv", keep_default_na=False)["label"]
    counts = matrix_of(folder)[:, :4]
    total, members = {}, {}
    for i in range(CELLS):
        square = f"{int(cells['x_centroid'][i] // bin_um)}x{int(cells['y_centroid'][i] // bin_um)}"
        total[square] = total.get(square, 0) + counts[i]
        members.setdefault(square, []).append(kinds[i])
    assert set(section.obs_names) == set(total)
    assert section.var_names.tolist() == GENES[:4], "controls are left out"
    for i, square in enumerate(section.obs_names):
        np.testing.assert_array_equal(section.X[i].toarray()[0], total[square])
        named = [kind for kind in members[square] if kind]
        cancer = [kind for kind in named if "cancer" in kind]
        assert section.obs["cells"].iloc[i] == len(members[square])
        if not named:
            assert section.obs["tissue"].iloc[i] == ""
            assert np.isnan(section.obs["cancer_share"].iloc[i])
            continue
        share = len(cancer) / len(named)
        assert section.obs["cancer_share"].iloc[i] == pytest.approx(share)
        expected = np.nan if share == 0.5 else float(share > 0.5)
        np.testing.assert_equal(float(section.obs["label"].iloc[i]), expected)
        if share != 0.5:
            side = Counter(cancer if share > 0.5 else [kind for kind in named if kind not in cancer])
            assert side[section.obs["tissue"].iloc[i]] == max(side.values())
    assert section.X.sum() == counts.sum()
    assert {0.0, 1.0} < set(section.obs["label"])
    about = section.uns["section"]
    assert (about["pitch_um"], about["um_per_px"], about["picture"]) == (bin_um, 0.25, "")
    assert about["pitch_px"] == pytest.approx(bin_um / 0.25)
    assert about["dropped"] == "1 cells without counts"


def test_positions_are_the_middle_of_the_square(folder):
    section = read(folder)
    expected = (section.obs[["array_x", "array_y"]].to_numpy() + 0.5) * 100 / 0.25
    np.testing.assert_allclose(section.obsm["spatial"], expected)


def test_an_aligned_picture(folder):
    """The matrix takes pixels of the H&E picture to pixels of the morphology picture: here half size, turned by 90°."""
    matrix = np.array([[0, -2.0, 2400], [2.0, 0, 0], [0, 0, 1]])
    np.savetxt(folder / "S_he_imagealignment.csv", matrix, delimiter=",")
    Image.new("RGB", (1010, 1210), "pink").save(folder / "S_he_image.tif")
    section = read(folder)
    about = section.uns["section"]
    assert about["picture"] == "S_he_image.tif"
    assert about["um_per_px"] == pytest.approx(0.5)
    assert about["pitch_px"] == pytest.approx(200)
    one = np.column_stack([section.obsm["spatial"], np.ones(section.n_obs)])
    np.testing.assert_allclose((one @ matrix.T)[:, :2], read_plain(folder).obsm["spatial"], atol=1e-6)


def read_plain(folder):
    for path in folder.glob("*_he_image*"):
        path.unlink()
    return read(folder)


@pytest.mark.parametrize("text", ["1,0,0\n0,1,0\n", "1,0,0\n0,0,0\n0,0,1\n", "a,b,c\nd,e,f\ng,h,i\n"])
def test_bad_alignment(folder, text):
    Image.new("RGB", (3000, 3000)).save(folder / "S_he_image.tif")
    with pytest.raises(FileNotFoundError, match=r"S_he_image.tif has no alignment"):
        read(folder)
    (folder / "he_alignment.csv").write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011  ours or numpy's own
        read(folder)


def test_cells_as_parquet_with_bytes_and_numbers(folder):
    section = read(folder)
    cells = pd.read_csv(folder / "cells.csv.gz")
    (folder / "cells.csv.gz").unlink()
    cells.assign(cell_id=cells["cell_id"].str.encode("utf-8")).to_parquet(folder / "cells.parquet")
    again = read(folder)
    assert (again.X != section.X).nnz == 0
    pd.testing.assert_frame_equal(again.obs, section.obs)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop(columns="x_centroid"), r"lacks the columns \['x_centroid'\]"),
        (lambda t: t.iloc[9:], "9 of 300 cells with counts have no position"),
        (lambda t: t.assign(y_centroid=np.nan), "y_centroid of .*no number"),
    ],
)
def test_bad_cells(folder, change, says):
    change(pd.read_csv(folder / "cells.csv.gz")).to_csv(folder / "cells.csv.gz", index=False)
    with pytest.raises(ValueError, match=says):
        read(folder)


@pytest.mark.parametrize("name", ["cell_feature_matrix.h5", "cells.csv.gz"])
def test_missing_files(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError):
        read(folder)


def test_a_bin_must_have_a_size(folder):
    with pytest.raises(ValueError, match="bin_um must be positive"):
        read(folder, bin_um=0)


def test_through_the_section_table(folder):
    row = {"section": "X1", "patient": "X", "platform": "xenium", "folder": "", "labels": "labels.csv"}
    section = read_row({**row, "label_grade": "weak", "note": ""}, folder)
    assert set(section.obs["label_source"]) <= {"transferred", "none"}
    assert "cancer_share" in section.obs
