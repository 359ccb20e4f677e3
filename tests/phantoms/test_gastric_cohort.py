import numpy as np
import pandas as pd
import pytest

from lib.features.embedding import embed_slide
from lib.features.encoders import load_encoder
from lib.features.tiles import tiled
from lib.files import sha256_of
from lib.gcmlm.ct import read_ct
from lib.gcmlm.phantom import FACTORS, SIGNALS, TRUTH, UM_PER_PX, draw, paths_of, write_patient, write_tables
from lib.inputs.masks import read_label
from lib.inputs.slides import open_slide

SLIDES = 20


def hashes(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def drawn() -> pd.DataFrame:
    return draw(600, 300, seed=2)


def test_few_lack_a_modality_and_none_both(drawn):
    without_ct, without_slide = drawn["has_ct"] == 0, drawn["slides"] == 0
    for share in (without_ct.mean(), without_slide.mean()):
        assert 0.02 < share < 0.065
    assert not (without_ct & without_slide).any()
    assert abs((drawn["slides"] == 2).mean() - 1 / 6) < 0.02
    assert abs(drawn["as_dicom"].mean() - 1 / 20) < 0.01
    assert 0.3 < (drawn["mask_orientation"] != "LPS").mean() < 0.5


def test_tables_name_the_files_that_are_written(tmp_path):
    table = draw(20, 2, seed=5)
    write_tables(tmp_path, table)
    chosen = table.iloc[[5, 9, 20]]  # two slides; a DICOM series; hospital B
    assert (chosen["has_ct"] == 1).all()
    assert list(chosen["as_dicom"]) == [0, 1, 0]
    scans, slides = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("scans", "slides"))
    assert list(scans.columns) == ["patient", "image", "mask", "label"]
    for row in chosen.itertuples(index=False):
        paths = write_patient(tmp_path, row, 5)
        assert paths == paths_of(tmp_path, row)
        scan = scans[scans["patient"] == row.patient].iloc[0]
        volume = read_ct(tmp_path / scan["image"])
        assert read_label(tmp_path / scan["mask"], volume.geometry, int(scan["label"])).sum() > 100
        own = slides[slides["patient"] == row.patient]
        assert [tmp_path / path for path in own["path"]] == list(paths.slides)
        for slide in own.itertuples():
            with open_slide(tmp_path / slide.path) as opened:
                assert opened.um_per_px == pytest.approx(slide.um_per_px)
            assert slide.um_per_px == UM_PER_PX[row.hospital]
    assert slides["slide"].is_unique
    assert (slides["patient"] == chosen["patient"].iloc[0]).sum() == 2


def test_the_outcome_is_in_the_clinical_table_and_the_signals_are_not(tmp_path):
    table = draw(30, 10)
    write_tables(tmp_path, table)
    clinical = pd.read_csv(tmp_path / "clinical.csv")
    assert list(clinical.columns) == ["patient", "hospital", *FACTORS, "time_months", "event"]
    assert list(clinical["patient"]) == list(table["patient"])
    for column in ("lauren", "histology", "cea"):
        np.testing.assert_array_equal(clinical[column].isna(), table[column].isin(["", np.nan]))
    truth = pd.read_csv(tmp_path / "truth.csv")
    assert set(SIGNALS.values()) < set(TRUTH)
    np.testing.assert_allclose(truth["ct_signal"], table["ct_signal"])


def test_equal_seeds_give_equal_bytes_and_the_null_twin_the_same_pictures(tmp_path):
    chosen = [5, 9, 12]
    for name, effect, seed in (("one", 1.0, 5), ("again", 1.0, 5), ("null", 0.0, 5), ("other", 1.0, 6)):
        table = draw(12, 1, seed, effect)
        write_tables(tmp_path / name, table)
        for row in table.iloc[chosen].itertuples(index=False):
            write_patient(tmp_path / name, row, seed)
    one, again, null, other = (hashes(tmp_path / name) for name in ("one", "again", "null", "other"))
    assert one == again
    told = {"clinical.csv", "truth.csv"}
    assert one.keys() == null.keys()
    assert {name for name in one if one[name] != null[name]} == told
    assert not {one[name] for name in one if name.startswith(("ct", "masks", "slides/"))} & set(
        other.values()
    )


def test_a_patient_without_ct_or_slide_has_no_file_of_it(drawn, tmp_path):
    without_ct = drawn[drawn["has_ct"] == 0].iloc[0]
    without_slide = drawn[drawn["slides"] == 0].iloc[0]
    for row in (without_ct, without_slide):
        write_patient(tmp_path, row, 2)
    assert not (tmp_path / "ct" / f"{without_ct.patient}.nii.gz").exists()
    assert paths_of("", without_ct).image is None
    assert [path.stem.rsplit("-", 1)[0] for path in (tmp_path / "slides").iterdir()] == [without_ct.patient]
    write_tables(tmp_path, drawn)
    assert without_ct.patient not in set(pd.read_csv(tmp_path / "scans.csv")["patient"])
    assert without_slide.patient not in set(pd.read_csv(tmp_path / "slides.csv")["patient"])


def test_slides_show_the_signal_in_both_hospitals(drawn, tmp_path):
    encoder, means = load_encoder("colour"), {}
    for hospital in "AB":
        some = drawn[(drawn["hospital"] == hospital) & (drawn["slides"] == 1)].head(SLIDES // 2)
        for row in some.assign(has_ct=0).itertuples(index=False):
            (path,) = write_patient(tmp_path, row, 2).slides
            with open_slide(path) as slide:
                grid = tiled(slide, "exact", "tcga", 256, 0.5)
                tiles = embed_slide(slide, grid, encoder)[20].features
            assert len(tiles) >= 8
            means.setdefault(hospital, []).append([row.slide_signal, *tiles.mean(0)])
    best = {}
    for hospital, rows in means.items():
        between = np.corrcoef(np.transpose(rows))[0, 1:]
        best[hospital] = int(np.nanargmax(np.abs(between)))
        assert abs(between[best[hospital]]) > 0.85
    # what tells it in A tells it in B, the same way round
    signs = [np.corrcoef(np.transpose(rows))[0, 1 + best["A"]] for rows in means.values()]
    assert signs[0] * signs[1] > 0.4
