"""Sections without a platform's own layout: AnnData in every form people have it, and STimage-1K4M's csv."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image
from scipy import sparse

from lib.spacrd.cohort import files_of, read_section, read_table

SIDE, PITCH = 12, 200.0
COUNTS = np.random.default_rng(0).poisson(1.0, (SIDE * SIDE, 5)).astype(np.float32)
PLACES = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), -1).reshape(-1, 2) * PITCH + 300
GENES = ["ERBB2", "KRT8", "CD3E", "G1", "G2"]


def made(counts=COUNTS, diameter=110.0, var=None, **parts) -> AnnData:
    obs = pd.DataFrame({"in_tissue": 1}, index=[f"s{i}" for i in range(len(PLACES))])
    var = pd.DataFrame(index=GENES) if var is None else var
    uns = {"spatial": {"ST": {"images": {}, "scalefactors": {"spot_diameter_fullres": diameter}}}}
    return AnnData(counts, obs=obs, var=var, obsm={"spatial": PLACES}, uns=uns, **parts)


def row(**changed) -> dict:
    told = {"section": "S1", "patient": "S", "platform": "h5ad", "folder": "a.h5ad", "labels": ""}
    told["label_grade"] = "none"
    return {**told, "note": "", **changed}


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_every_form_of_counts(tmp_path, form):
    made(form(COUNTS)).write_h5ad(tmp_path / "a.h5ad")
    section = read_section(row(), tmp_path)
    np.testing.assert_array_equal(section.X.toarray(), COUNTS)
    np.testing.assert_array_equal(section.obsm["spatial"], PLACES)
    about = section.uns["section"]
    assert (about["um_per_px"], about["pitch_um"], about["spot_diameter_um"]) == (0.5, 100, 55)
    assert "0.500 µm per pixel" in about["dropped"]
    assert files_of(row(), tmp_path) == [tmp_path / "a.h5ad"]


def test_raw_counts_are_found_wherever_they_are_and_others_refused(tmp_path):
    logged = np.log1p(COUNTS / 3)
    made(logged, layers={"counts": COUNTS}).write_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(read_section(row(), tmp_path).X.toarray(), COUNTS)
    whole = made()
    whole.raw = whole.copy()
    whole = whole[:, :3].copy()
    whole.X = logged[:, :3]
    whole.write_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(read_section(row(), tmp_path).X.toarray(), COUNTS)
    made(logged).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match="give raw counts"):
        read_section(row(), tmp_path)
    (tmp_path / "a.h5ad").write_bytes((tmp_path / "a.h5ad").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"a.h5ad is not an AnnData file, or was cut short"):
        read_section(row(), tmp_path)


def test_the_scale_is_stated_or_told_by_the_array_or_asked_for(tmp_path):
    for diameter, um, pitch in ((110.0, 0.5, 100), (130.0, 0.5, 100), (100.0, 1.0, 200)):
        made(diameter=diameter).write_h5ad(tmp_path / "a.h5ad")
        about = read_section(row(), tmp_path).uns["section"]
        assert (about["um_per_px"], about["pitch_um"]) == (um, pitch), diameter
    made(diameter=200.0).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match=r"200.0 pixels apart.*column um_per_px"):
        read_section(row(), tmp_path)
    about = read_section(row(um_per_px="0.04"), tmp_path).uns["section"]
    assert (about["um_per_px"], about["pitch_um"], about["spot_diameter_um"]) == (0.04, 8, 8)
    with pytest.raises(ValueError, match="um_per_px '0,5'"):
        read_section(row(um_per_px="0,5"), tmp_path)
    rows, columns = (axis.ravel() for axis in np.mgrid[:SIDE, :SIDE])
    hexagons = made(diameter=999.0)
    hexagons.obs["array_row"], hexagons.obs["array_col"] = rows, 2 * columns + rows % 2
    hexagons.obsm["spatial"] = np.column_stack([hexagons.obs["array_col"] * 100.0, rows * 100 * 3**0.5])
    hexagons[::7].copy().write_h5ad(tmp_path / "a.h5ad")  # few kept: their neighbours are far
    assert read_section(row(), tmp_path).uns["section"]["um_per_px"] == pytest.approx(0.5)


def test_symbols_are_found_and_doubles_told_apart(tmp_path):
    ids = [f"ENSG{i:011d}" for i in range(5)]
    symbols = ["ERBB2", "TBCE", "TBCE", "G1", "G2"]
    made(var=pd.DataFrame({"gene_name": symbols}, index=ids)).write_h5ad(tmp_path / "a.h5ad")
    section = read_section(row(), tmp_path)
    assert section.var_names.tolist() == ["ERBB2", f"TBCE_{ids[1]}", f"TBCE_{ids[2]}", "G1", "G2"]
    assert section.var["gene_id"].tolist() == ids
    symbols[2] = "TBCE-1"  # as scanpy's var_names_make_unique leaves it
    made(var=pd.DataFrame({"gene_ids": ids}, index=symbols)).write_h5ad(tmp_path / "a.h5ad")
    assert read_section(row(), tmp_path).var_names.tolist() == section.var_names.tolist()


def test_rows_before_columns_are_refused(tmp_path):
    section = made()
    section.obs["pxl_col_in_fullres"], section.obs["pxl_row_in_fullres"] = PLACES.T
    section.write_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(read_section(row(), tmp_path).obsm["spatial"], PLACES)
    section.obsm["spatial"] = PLACES[:, ::-1]
    section.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match="rows before columns"):
        read_section(row(), tmp_path)


def test_labels_are_a_column_or_a_table(tmp_path):
    kinds = np.resize(["invasive cancer", "stroma", "Exclude"], len(PLACES))
    labelled = made()
    labelled.obs["pathologist"] = pd.Categorical(kinds)
    labelled.obs.loc["s0", "in_tissue"] = 0
    labelled.write_h5ad(tmp_path / "a.h5ad")
    told = row(labels="pathologist", label_grade="pathologist", undetermined="exclude")
    section = read_section(told, tmp_path)
    np.testing.assert_array_equal(section.obs["label"], np.resize([1, 0, np.nan], len(PLACES))[1:])
    assert section.uns["section"]["dropped"].startswith("1 spots off the tissue")
    pd.DataFrame({"spot": labelled.obs_names, "label": kinds}).to_csv(tmp_path / "l.csv", index=False)
    table = read_section({**told, "labels": "l.csv"}, tmp_path)
    np.testing.assert_array_equal(table.obs["label"], section.obs["label"])
    with pytest.raises(ValueError, match=r"obs\['pathologist'\] of .*classes 'exclude', and nobody said"):
        read_section({**told, "undetermined": ""}, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'grade' are no file.*which has in_tissue, pathologist"):
        read_section({**told, "labels": "grade"}, tmp_path)


def test_pictures_in_the_file_and_of_hest(tmp_path):
    """HEST-1k: st/NAME.h5ad with a small picture in it, wsis/NAME.tif at full resolution."""
    full = np.full((3000, 2800, 3), 240, np.uint8)
    full[200:2700, 200:2700] = (190, 120, 180)
    small = Image.fromarray(full).resize((280, 300))
    section = made()
    about = section.uns["spatial"]["ST"]
    about["images"]["downscaled_fullres"] = np.asarray(small)
    about["scalefactors"]["tissue_downscaled_fullres_scalef"] = 0.1
    (tmp_path / "hest/st").mkdir(parents=True)
    section.write_h5ad(tmp_path / "hest/st/T1.h5ad")
    told = row(folder="hest/st/T1.h5ad")
    kept = read_section(told, tmp_path).uns["section"]
    assert (kept["picture"], list(kept["picture_scale"])) == ("hest/st/T1.h5ad", [0.1, 0.1])
    (tmp_path / "hest/wsis").mkdir()
    Image.fromarray(full).save(tmp_path / "hest/wsis/T1.tif")
    kept = read_section(told, tmp_path).uns["section"]
    assert (kept["picture"], list(kept["picture_scale"])) == ("hest/wsis/T1.tif", [1, 1])
    assert tmp_path / "hest/wsis/T1.tif" in files_of(told, tmp_path)
    corner = (PLACES < 1000).all(axis=1)
    section.obs["in_tissue"] = np.where(corner, 1, 0)
    section.write_h5ad(tmp_path / "hest/st/T1.h5ad")
    with pytest.raises(ValueError, match="does not lie on the spots"):  # all of it is as dark
        read_section(told, tmp_path)
    Image.fromarray(full).resize((5600, 6000)).save(tmp_path / "hest/wsis/T1.tif")
    with pytest.raises(ValueError, match=r"T1.tif has 5600 x 6000 pixels, but .* T1.h5ad .* 2800 x 3000"):
        read_section(told, tmp_path)


@pytest.mark.parametrize(
    "turn", ["right", Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, "twice"]
)
def test_a_picture_beside_spots_on_tissue_alone_is_remarked_where_it_does_not_lie_on_them(tmp_path, turn):
    """Most h5ad have no spots off the tissue; places that they leave free within their box tell as much."""
    on = (np.quantile(PLACES, 0.4) > PLACES).any(axis=1)
    picture = np.full((3000, 2800, 3), 240, np.uint8)
    for x, y in PLACES[on].astype(int):
        picture[y - 100 : y + 100, x - 100 : x + 100] = (190, 120, 180)
    made()[on].copy().write_h5ad(tmp_path / "a.h5ad")
    picture = np.kron(picture, np.ones((2, 2, 1), np.uint8)) if turn == "twice" else picture
    picture = Image.fromarray(picture)
    (picture if isinstance(turn, str) else picture.transpose(turn)).save(tmp_path / "a.png")
    told = read_section(row(), tmp_path).uns["section"]["dropped"]
    assert ("a.png does not lie on the spots" in told) == (turn != "right")


def test_stimage(tmp_path):
    """coord/, gene_exp/ and image/ of several slides; r is a spot's radius."""
    home = tmp_path / "ST"
    for folder in ("coord", "gene_exp", "image"):
        (home / folder).mkdir(parents=True)
    for slide in ("Breast_ST_A1", "Breast_ST_B1"):
        names = [f"{slide}_{i}" for i in range(len(PLACES))]
        x = PLACES[:, 0] + (slide[-2] == "B")
        coord = pd.DataFrame({"yaxis": PLACES[:, 1], "xaxis": x, "r": 49.4}, index=names)
        coord.to_csv(home / f"coord/{slide}_coord.csv")
        counts = pd.DataFrame(COUNTS.astype(int), index=names, columns=GENES)
        counts.to_csv(home / f"gene_exp/{slide}_count.csv")
        Image.new("RGB", (2800, 2800), (190, 120, 180)).save(home / f"image/{slide}.png")
    pd.DataFrame({"spot": names, "label": "invasive"}).to_csv(tmp_path / "anno.csv", index=False)
    told = {"labels": "anno.csv", "label_grade": "pathologist"}
    told = row(section="Breast_ST_B1", platform="csv", folder="ST", **told)
    section = read_section({**told, "cancer": "invasive"}, tmp_path)
    np.testing.assert_array_equal(section.X.toarray(), COUNTS)
    np.testing.assert_array_equal(section.obsm["spatial"], PLACES + np.array([1, 0]))
    assert set(section.obs["label"]) == {1}
    about = section.uns["section"]
    assert (about["um_per_px"], about["pitch_um"]) == (1.0, 200)
    assert about["picture"] == "ST/image/Breast_ST_B1.png"
    with pytest.raises(ValueError, match=r"which is the table of section other"):
        read_section({**told, "section": "other"}, tmp_path)


def test_the_table_knows_these_platforms(tmp_path):
    text = "section,patient,platform,folder,labels,label_grade,note,um_per_px\nA,A,h5ad,a.h5ad,,none,,0.5\nB,B,csv,,,none,,\n"
    (tmp_path / "sections.csv").write_text(text)
    assert read_table(tmp_path / "sections.csv")["um_per_px"].tolist() == ["0.5", ""]
