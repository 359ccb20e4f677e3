"""Visium against its files and squidpy, Xenium against a loop over cells, and what neither may misread."""

import gzip
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import squidpy
from PIL import Image
from scipy import io, sparse

from lib.spacrd import tenx
from lib.spacrd.tenx import read_counts, read_visium, read_xenium

sys.path.insert(0, str(Path(__file__).parent))
from space_ranger import RUN_PITCH, visium_run, write_matrix

MATRIX, POSITIONS = "filtered_feature_bc_matrix.h5", "spatial/tissue_positions.csv"
FACTORS, HIRES = "spatial/scalefactors_json.json", "spatial/tissue_hires_image.png"


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
    ids = ["E0", "E1", "E2", "E3"]
    counts = read_counts(write_matrix(tmp_path / "m.h5", COUNTS, BARCODES, GENES, KINDS, ids))
    np.testing.assert_array_equal(counts.X.toarray(), COUNTS[:, :3])
    assert counts.obs_names.tolist() == BARCODES
    assert counts.var_names.tolist() == ["ERBB2", "KRT8_E1", "KRT8_E2"]
    assert counts.var["gene_ids"].tolist() == ["E0", "E1", "E2"]
    twice = write_matrix(tmp_path / "m.h5", COUNTS, [BARCODES[0], *BARCODES[:1], *BARCODES[2:]], GENES, KINDS)
    with pytest.raises(ValueError, match="AAA-1 twice"):
        read_counts(twice)
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
    return read_visium(
        folder, labels if labels.is_file() else None, name="VA1", patient="VA", platform="visium"
    )


def test_visium_is_as_squidpy_reads_it_and_as_its_files_say(visium):
    """Counts, places and picture, by a reader that knows nothing of ours; array and labels by name."""
    theirs, ours = squidpy.read.visium(visium), read(visium)
    ours = ours[theirs.obs_names]
    assert (ours.X != theirs.X).nnz == 0
    np.testing.assert_array_equal(ours.obsm["spatial"], theirs.obsm["spatial"])
    (about,) = theirs.uns["spatial"].values()
    kept = ours.uns["spatial"]["VA1"]
    assert set(kept["images"]) == set(about["images"])
    factor = about["scalefactors"]["tissue_hires_scalef"]
    ratio = kept["scalefactors"]["tissue_hires_scalef"] / factor
    expected = [side * ratio for side in about["images"]["hires"].shape[:2]]
    assert kept["images"]["hires"].shape[:2] == pytest.approx(expected, abs=1)
    labels = pd.read_csv(visium / "labels.csv", index_col="barcode").loc[ours.obs_names, "label"]
    assert ours.obs["tissue"].tolist() == labels.tolist()
    about = ours.uns["section"]
    assert (about["picture"], list(about["picture_scale"])) == (HIRES, [factor, factor])
    assert about["um_per_px"] == pytest.approx(1.25, rel=0.02)
    assert (about["pitch_um"], about["spot_diameter_um"]) == (100, 55)


def test_a_full_resolution_picture_is_preferred_unless_it_is_the_hires_one(visium):
    full = np.asarray(Image.open(visium / HIRES)).repeat(2, axis=0).repeat(2, axis=1)
    Image.fromarray(full).save(visium / "image.tif")
    about = read(visium).uns["section"]
    assert (about["picture"], about["picture_scale"]) == ("image.tif", [1, 1])
    Image.open(visium / HIRES).save(visium / "image.tif")  # defect 10 of the released code
    with pytest.raises(ValueError, match=r"image.tif has 400 x 400 pixels, but .* of a picture of 800 x 800"):
        read(visium)
    Image.fromarray(full).save(visium / "image.tif")
    Image.fromarray(full).save(visium / "V1_image.tif")
    with pytest.raises(ValueError, match=r"which is the H&E picture"):
        read(visium)


def change_positions(folder, change):
    change(pd.read_csv(folder / POSITIONS)).to_csv(folder / POSITIONS, index=False)


def test_spots_off_the_tissue_are_left_out_and_counted(visium, monkeypatch):
    whole = read(visium)
    monkeypatch.setattr(tenx, "STRAYS", 0.05)
    (visium / "labels.csv").unlink()
    change_positions(visium, lambda t: t.assign(in_tissue=[0, 0, *t["in_tissue"][2:]]))
    section = read(visium)
    assert section.n_obs == whole.n_obs - 2
    assert section.uns["section"]["dropped"] == "2 spots with counts off the tissue"
    monkeypatch.setattr(tenx, "STRAYS", 0.01)
    with pytest.raises(ValueError, match=r"2 spots with counts off the tissue.* of two sections"):
        read(visium)


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
        (lambda t: t.assign(barcode=t["barcode"].str.lower()), "of two sections"),
        (lambda t: t.drop(columns="array_row"), r"lacks the columns \['array_row'\]"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "twice"),
        (lambda t: t.assign(pxl_row_in_fullres=np.nan), "pxl_row_in_fullres of .*no number"),
        (lambda t: pd.concat([t, *(t.assign(barcode=x + t["barcode"]) for x in "xy")]), "spots on tissue without counts.* of two sections"),
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


def test_of_two_matrices_none_is_chosen(visium):
    shutil.copy(visium / MATRIX, visium / f"other_{MATRIX}")
    with pytest.raises(ValueError, match="which is the filtered_feature_bc_matrix"):
        read(visium)


# runs as people have them: the whole array, of which the tissue covers a part


@pytest.fixture
def made(tmp_path):
    return tmp_path / "run", visium_run(tmp_path / "run")


def again(folder, **kwargs):
    return read_visium(folder, name="S1", patient="S", platform="visium", **kwargs)


def same(one, other):
    assert (one.X != other.X).nnz == 0
    pd.testing.assert_frame_equal(one.obs, other.obs)
    np.testing.assert_array_equal(one.obsm["spatial"], other.obsm["spatial"])
    images = [next(iter(section.uns["spatial"].values()))["images"]["hires"] for section in (one, other)]
    np.testing.assert_array_equal(*images)


def test_parts_of_another_slide_are_refused(made, tmp_path):
    """All slides share one list of barcodes: most of another slide's spots are there as well."""
    folder, (first, _) = made[0], (made[1], visium_run(tmp_path / "other", seed=5))
    other = pd.read_csv(tmp_path / "other" / POSITIONS)
    on = other["barcode"][other["in_tissue"] == 1]
    assert 0.6 < on.isin(first["on"]).mean() < 0.95
    labels = pd.DataFrame({"barcode": on, "label": "stroma"})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(ValueError, match=r"labelled spots in labels.csv are not in the section"):
        again(folder, labels=tmp_path / "labels.csv")
    few = first["on"].tolist() + on[~on.isin(first["on"])].tolist()[:2]
    pd.DataFrame({"barcode": few, "label": "stroma"}).to_csv(tmp_path / "labels.csv", index=False)
    said = again(folder, labels=tmp_path / "labels.csv").uns["section"]["dropped"]
    assert said.startswith("2 of the ")
    shutil.rmtree(folder / "spatial")
    shutil.copytree(tmp_path / "other" / "spatial", folder / "spatial")
    with pytest.raises(ValueError, match=r"off the tissue and \d+ spots on tissue without counts"):
        again(folder)


TURNS = {
    "twice": lambda p: p.resize((p.width * 2, p.height * 2)),
    "a quarter more": lambda p: p.resize((p.width * 5 // 4, p.height * 5 // 4)),
    "turned by 90": lambda p: p.transpose(Image.Transpose.ROTATE_90),
    "turned by 180": lambda p: p.transpose(Image.Transpose.ROTATE_180),
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
}


@pytest.mark.parametrize("hires", [True, False])
@pytest.mark.parametrize("turn", TURNS)
def test_a_picture_that_does_not_lie_on_the_spots_is_refused(made, turn, hires):
    folder, about = made
    about["picture"].save(folder / "image.tif")
    if not hires:
        (folder / HIRES).unlink()
    assert again(folder).uns["section"]["picture"] == "image.tif"
    TURNS[turn](about["picture"]).save(folder / "image.tif")
    said = r"of another scale, turned|does not lie on the spots|lie outside|a small copy came"
    with pytest.raises(ValueError, match=said):
        again(folder)


def test_a_picture_as_light_and_dark_in_the_right_places_is_refused_where_a_small_copy_tells(made):
    """The tissue is round: turned about its own middle, its darkness says nothing."""
    folder, about = made
    rgb = np.asarray(about["picture"]).copy()
    row, column = np.nonzero(rgb[..., 1] < 200)
    part = rgb[row.min() : row.max(), column.min() : column.max()]
    part[: len(part) // 2][part[: len(part) // 2, :, 1] < 200] = (90, 40, 130)
    picture = Image.fromarray(rgb)
    picture.resize((picture.width // 2, picture.height // 2)).save(folder / HIRES)
    picture.save(folder / "image.tif")
    assert again(folder).uns["section"]["picture"] == "image.tif"
    part[:] = part[::-1]
    Image.fromarray(rgb).save(folder / "image.tif")
    with pytest.raises(ValueError, match="not the picture of which a small copy came"):
        again(folder)


def test_of_two_pictures_the_one_of_the_frame_is_read(made):
    """10x ships the CytAssist's own picture beside the microscope's."""
    folder, about = made
    about["picture"].resize((3000, 3000)).save(folder / "CytAssist_FFPE_Breast_image.tif")
    with pytest.raises(ValueError, match=r"CytAssist_FFPE_Breast_image.tif has 3000 x 3000 "):
        again(folder)
    about["picture"].save(folder / "CytAssist_FFPE_Breast_tissue_image.tif")
    assert again(folder).uns["section"]["picture"] == "CytAssist_FFPE_Breast_tissue_image.tif"


def test_axes_exchanged_and_fluorescence_are_refused(made, tmp_path):
    folder = made[0]
    names = {"pxl_row_in_fullres": "pxl_col_in_fullres", "pxl_col_in_fullres": "pxl_row_in_fullres"}
    change_positions(folder, lambda t: t.rename(columns=names))
    with pytest.raises(ValueError, match=r"does not lie on the spots.*exchanged"):
        again(folder)
    visium_run(tmp_path / "dark", glass=0, stain=(10, 20, 120))
    with pytest.raises(ValueError, match="dark ground"):
        again(tmp_path / "dark")


def test_the_scale_is_that_of_the_array_however_few_spots_were_kept(made):
    """From the nearest neighbours of 12 spots it would be several times too small."""
    folder, about = made
    kept = np.random.default_rng(0).permutation(about["on"])[:12]
    change_positions(folder, lambda t: t[t["barcode"].isin(kept)])
    names = ["ERBB2", "KRT8"]
    write_matrix(folder / MATRIX, np.random.default_rng(0).poisson(3, (12, 2)), kept, names)
    assert again(folder).uns["section"]["um_per_px"] == pytest.approx(100 / RUN_PITCH, rel=0.005)
    change_positions(folder, lambda t: t.assign(array_col=t["array_col"].iloc[::-1].to_numpy()))
    with pytest.raises(ValueError, match="do not lie on their array"):
        again(folder)


@pytest.mark.parametrize("um", [8, 16])
@pytest.mark.parametrize("form", ["parquet", "csv", "without microns_per_pixel"])
def test_visium_hd(tmp_path, um, form):
    folder, side, mpp = tmp_path / f"outs/binned_outputs/square_{um:03d}um", 30, 0.25
    (folder / "spatial").mkdir(parents=True)
    rows, columns = (axis.ravel() for axis in np.mgrid[:side, :side])
    names = [f"s_{um:03d}um_{row:05d}_{column:05d}-1" for row, column in zip(rows, columns, strict=True)]
    positions = pd.DataFrame({"barcode": names, "in_tissue": (columns > 5).astype(int)})
    positions["array_row"], positions["array_col"] = rows, columns
    positions["pxl_row_in_fullres"] = (rows + 0.5) * um / mpp
    positions["pxl_col_in_fullres"] = (columns + 0.5) * um / mpp
    if form == "csv":
        positions.to_csv(folder / "spatial/tissue_positions_list.csv", index=False)
    else:
        positions.to_parquet(folder / "spatial/tissue_positions.parquet", index=False)
    full = np.full((int(side * um / mpp),) * 2 + (3,), 240, np.uint8)
    full[:, int(6 * um / mpp) :] = (190, 120, 180)
    Image.fromarray(full).resize((full.shape[1] // 4,) * 2).save(folder / "spatial/tissue_hires_image.png")
    factors = {"bin_size_um": um, "microns_per_pixel": mpp, "tissue_hires_scalef": 0.25}
    if form == "without microns_per_pixel":
        factors = {"tissue_hires_scalef": 0.25}
    (folder / "spatial/scalefactors_json.json").write_text(json.dumps(factors))
    filled = positions["in_tissue"].to_numpy() == 1
    filled[-9:] = False  # bins of HD may hold nothing
    counts = np.random.default_rng(0).poisson(1, (filled.sum(), 5))
    write_matrix(folder / MATRIX, counts, np.array(names)[filled], [f"G{i}" for i in range(5)])
    section = again(tmp_path)  # the only run below it
    about = section.uns["section"]
    assert (about["pitch_um"], about["spot_diameter_um"]) == (um, um)
    assert about["um_per_px"] == pytest.approx(mpp)
    assert about["picture"].endswith(HIRES)
    assert about["dropped"] == "9 spots on tissue without counts"
    shutil.copytree(folder, folder.with_name("square_002um"))
    with pytest.raises(ValueError, match=r"several runs, outs/binned_outputs/square_002um, "):
        again(tmp_path)
    if form == "parquet":
        other = json.dumps(factors | {"microns_per_pixel": 0.5})
        (folder / "spatial/scalefactors_json.json").write_text(other)
        with pytest.raises(ValueError, match=r"says 0.5 µm per pixel, the positions 0.25"):
            again(folder)


def packed(path):
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()


def test_layouts_as_they_are_handed_round_are_one_section(made):
    folder, about = made
    whole, positions = again(folder), folder / POSITIONS
    table = pd.read_csv(positions)
    table.to_csv(positions, index=True)  # saved once more by pandas
    same(again(folder), whole)
    words = table.assign(in_tissue=table["in_tissue"].astype(bool)).rename(columns={"barcode": "Barcode"})
    words.to_csv(positions, index=False)
    (folder / "spatial/._tissue_positions.csv").write_bytes(b"of a Mac")
    same(again(folder), whole)
    (folder / "spatial/._tissue_positions.csv").unlink()
    positions.unlink()  # before Space Ranger 2: another name, and no header
    table.to_csv(folder / "spatial/tissue_positions_list.csv", header=False, index=False)
    same(again(folder), whole)
    for path in sorted((folder / "spatial").iterdir()):
        packed(path)
    same(again(folder), whole)
    packed(folder / MATRIX)
    same(again(folder), whole)
    for path in sorted((folder / "spatial").iterdir()):  # as GEO has it: one folder, a prefix, packed
        path.rename(folder / f"GSM1_S1_{path.name}")
    same(again(folder), whole)
    (folder / f"{MATRIX}.gz").unlink()
    matrix = folder / MATRIX.removesuffix(".h5")
    matrix.mkdir()  # as STARsolo writes it
    io.mmwrite(str(matrix / "matrix.mtx"), sparse.coo_matrix(whole.X.T.astype(int)))
    (matrix / "barcodes.tsv").write_text("\n".join(about["on"]) + "\n")
    lines = [f"{name}\t{name}\tGene Expression\n" for name in whole.var_names]
    (matrix / "features.tsv").write_text("".join(lines))
    same(again(folder), whole)


def test_a_symbol_of_two_genes_is_told_apart_by_its_identifier(tmp_path):
    """In both runs E1 is counted ten times as often as E2; they list them in opposite orders."""
    means = {}
    for seed, ids in ((1, ["E0", "E1", "E2"]), (5, ["E0", "E2", "E1"])):
        visium_run(tmp_path / str(seed), seed=seed, names=["ERBB2", "TBCE", "TBCE"], ids=ids)
        with h5py.File(tmp_path / str(seed) / MATRIX, "r+") as file:
            data = file["matrix/data"][:]
            data[file["matrix/indices"][:] == ids.index("E1")] *= 10
            file["matrix/data"][:] = data
        section = again(tmp_path / str(seed))
        assert section.var.loc["TBCE_E1", "gene_id"] == "E1"
        both = [section.var_names.get_loc(name) for name in ("TBCE_E1", "TBCE_E2")]
        means[seed] = section.X.mean(axis=0).A1[both]
    np.testing.assert_allclose(means[1], means[5], rtol=0.1)
    assert means[1][0] > 8 * means[1][1]


def test_counts_that_were_normalised_and_rounded_are_remarked(made):
    folder = made[0]
    assert again(folder).uns["section"]["dropped"] == ""
    with h5py.File(folder / MATRIX, "r+") as file:
        data, starts = file["matrix/data"][:], file["matrix/indptr"][:]
        totals = np.repeat(np.add.reduceat(data, starts[:-1]), np.diff(starts))
        file["matrix/data"][:] = np.rint(data / totals * 1e4).astype(data.dtype)
    assert "every spot has about 10000 counts" in again(folder).uns["section"]["dropped"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x: np.rint(np.log1p(x)), "logged, or yes and no"),
        (lambda x: x > 0, "logged, or yes and no"),
        (lambda x: np.rint(x / x.sum(axis=1, keepdims=True) * 1e4)[:, :1000], "no gene has a count of 1"),
        (lambda x: x, ""),
    ],
)
def test_whole_numbers_that_no_counting_gives_are_remarked(tmp_path, spoil, said):
    """Logged and rounded; yes and no; normalised, rounded, then with fewer genes; raw."""
    rng, genes = np.random.default_rng(0), [f"G{i}" for i in range(1100)]
    truth, mean = visium_run(tmp_path / "run"), np.r_[np.full(40, 2.0), np.full(1060, 0.05)]
    counts = spoil(rng.poisson(mean, (len(truth["on"]), len(genes)))).astype(int)
    h5, names = tmp_path / "run/filtered_feature_bc_matrix.h5", genes[: counts.shape[1]]
    write_matrix(h5, counts, truth["on"], names)
    told = again(tmp_path / "run").uns["section"]["dropped"]
    assert (said in told, bool(told)) == (True, bool(said))


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
    return read_xenium(folder, folder / "labels.csv", name="X1", patient="X", platform="xenium")


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
        if not named:
            assert row["tissue"] == ""
            continue
        share = len(cancer) / len(named)
        np.testing.assert_equal(float(row["label"]), np.nan if share == 0.5 else float(share > 0.5))
        if share != 0.5:
            side = Counter(cancer if share > 0.5 else [kind for kind in named if kind not in cancer])
            assert side[row["tissue"]] == max(side.values())
    assert {0.0, 1.0} < set(section.obs["label"])
    expected = (np.array([square.split("x") for square in section.obs_names], float) + 0.5) * bin_um / 0.25
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


def test_squares_that_the_picture_does_not_cover_are_left_out_and_counted(xenium):
    whole = binned(xenium)
    Image.new("RGB", (1300, 2100), "pink").save(xenium / "S_he_image.tif")  # of 2,400 pixels
    np.savetxt(xenium / "S_he_imagealignment.csv", np.eye(3), delimiter=",")
    covered = (whole.obsm["spatial"] <= [1300, 2100]).all(axis=1)
    section = binned(xenium)
    assert section.obs_names.tolist() == whole.obs_names[covered].tolist()
    pd.testing.assert_frame_equal(section.obs, whole.obs[covered])
    assert f"{(~covered).sum()} spots beyond the picture's border" in section.uns["section"]["dropped"]
    Image.new("RGB", (300, 300), "pink").save(xenium / "S_he_image.tif")
    with pytest.raises(ValueError, match="lie outside"):
        binned(xenium)


def test_xenium_as_10x_ships_it_today(xenium):
    """A folder of matrix, barcodes and features; the matrix that Xenium Explorer exports; all in a folder outs."""
    whole = binned(xenium)
    (xenium / "cell_feature_matrix").mkdir()
    counts = matrix_of(xenium / "cell_feature_matrix.h5")
    with gzip.open(xenium / "cell_feature_matrix/matrix.mtx.gz", "wb") as file:
        io.mmwrite(file, sparse.coo_matrix(counts.T))
    names = [f"cell{i:04d}-1" for i in range(CELLS)]
    lines = [f"E{i}\t{name}\t{kind}\n" for i, (name, kind) in enumerate(zip(PANEL, TYPES, strict=True))]
    for name, text in (("barcodes", "\n".join(names)), ("features", "".join(lines))):
        (xenium / f"cell_feature_matrix/{name}.tsv.gz").write_bytes(gzip.compress(text.encode()))
    (xenium / "cell_feature_matrix.h5").unlink()
    section = binned(xenium)
    assert (section.X != whole.X).nnz == 0
    assert section.var["gene_id"].tolist() == ["E0", "E1", "E2", "E3"]
    (xenium / "S_he_image_alignment_files").mkdir()
    np.savetxt(xenium / "S_he_image_alignment_files/matrix.csv", np.diag([2.0, 2, 1]), delimiter=",")
    Image.new("RGB", (1300, 1300), "pink").save(xenium / "S_he_image.ome.tif", format="TIFF")
    inside = xenium / "outs"
    inside.mkdir()
    for path in [path for path in xenium.iterdir() if path.name not in ("outs", "labels.csv")]:
        path.rename(inside / path.name)
    about = binned(xenium).uns["section"]
    assert (about["picture"], about["um_per_px"]) == ("outs/S_he_image.ome.tif", pytest.approx(0.5))
