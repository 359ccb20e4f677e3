"""Phantom patients, their scans and slides: what is planted is there, and only there; equal seeds give equal bytes."""

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import label

from lib.features.encoders import load_encoder
from lib.features.radiomics import extract
from lib.features.tiles import embed_slide, tiled
from lib.files import sha256_of
from lib.gcmlm.ct import read_ct
from lib.gcmlm.phantom import (
    FACTORS,
    LABELS,
    ORIENTATIONS,
    SIGNALS,
    UM_PER_PX,
    Paths,
    abdomen,
    draw,
    paths_of,
    write_ct,
    write_dicom,
    write_patient,
    write_tables,
)
from lib.inputs.dicom import read_dicom
from lib.inputs.masks import read_label
from lib.inputs.slides import open_slide
from lib.inputs.volumes import Geometry, Volume, same_grid
from lib.params import Tiling

SLIDES = 20


def hashes(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def drawn() -> pd.DataFrame:
    return draw(600, 300, seed=2)


def test_tables_name_the_files_that_are_written(tmp_path):
    table = draw(20, 2, seed=5)
    write_tables(tmp_path, table)
    chosen = table.iloc[[5, 9, 20]]  # two slides; a DICOM series; hospital B
    assert (chosen["has_ct"] == 1).all()
    assert list(chosen["as_dicom"]) == [0, 1, 0]
    scans, slides = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("scans", "slides"))
    assert list(scans.columns) == ["patient", "image", "mask", "label"]
    clinical = list(pd.read_csv(tmp_path / "clinical.csv"))  # and no signal
    assert clinical == ["patient", "hospital", *FACTORS, "time_months", "event"]
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


def test_equal_seeds_give_equal_bytes_and_the_null_twin_the_same_pictures(tmp_path):
    chosen = [5, 9, 12]
    for name, effect, seed in (("one", 1.0, 5), ("again", 1.0, 5), ("null", 0.0, 5), ("other", 1.0, 6)):
        table = draw(12, 1, seed, effect)
        write_tables(tmp_path / name, table)
        for row in table.iloc[chosen].itertuples(index=False):
            write_patient(tmp_path / name, row, seed)
    one, again, null, other = (hashes(tmp_path / name) for name in ("one", "again", "null", "other"))
    assert one == again
    assert one.keys() == null.keys()
    assert {name for name in one if one[name] != null[name]} == {"clinical.csv"}
    assert not {one[name] for name in one if name.startswith(("ct", "masks", "slides/"))} & set(
        other.values()
    )


def test_slides_show_the_signal_in_both_hospitals(drawn, tmp_path):
    encoder, means = load_encoder("colour"), {}
    for hospital in "AB":
        some = drawn[(drawn["hospital"] == hospital) & (drawn["slides"] == 1)].head(SLIDES // 2)
        for row in some.assign(has_ct=0).itertuples(index=False):
            (path,) = write_patient(tmp_path, row, 2).slides
            with open_slide(path) as slide:
                grid = tiled(slide, Tiling(tile_px=256, least_tissue=0.5))
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


# what is drawn of patients

N = 4000


@pytest.fixture(scope="module")
def cohort() -> pd.DataFrame:
    return draw(N, N, seed=1)


@pytest.fixture(scope="module")
def null() -> pd.DataFrame:
    return draw(N, N, seed=1, effect=0)


def rates(table) -> np.ndarray:
    """Positive, synchronous, lost before 24 months."""
    event, time = table["event"] == 1, table["time_months"]
    return np.array([table["label"].mean(), (event & (time <= 6)).mean(), (~event & (time < 24)).mean()])


def test_null_has_the_same_patients_and_frequencies_and_knows_nothing(cohort, null):
    same = ["patient", "hospital", *FACTORS, *SIGNALS.values(), "score"]
    pd.testing.assert_frame_equal(cohort[same], null[same])
    for hospital in "AB":
        drawn, twin = (rates(table[table["hospital"] == hospital]) for table in (cohort, null))
        np.testing.assert_allclose(drawn, twin, atol=0.035)
    known = null[null["label"].notna()]
    for name in [*SIGNALS.values(), "score"]:
        assert abs(np.corrcoef(known[name], known["label"])[0, 1]) < 0.05  # 1 / sqrt(7500) is 0.012


def test_internal_patients_do_not_hang_on_external_ones():
    pd.testing.assert_frame_equal(draw(20, 0, 3), draw(20, 9, 3).iloc[:20])


# scans

PATIENTS = 12


def test_mask_and_image_agree_whatever_way_the_mask_is_stored(tmp_path):
    for orientation in ORIENTATIONS:
        image, mask = tmp_path / "image.nii.gz", tmp_path / f"{orientation}.nii.gz"
        made = abdomen(0.5, 4)
        write_ct(Paths(image, mask, ()), made, orientation)
        volume = read_ct(image)
        np.testing.assert_array_equal(volume.values, made.values)
        for number in LABELS.values():
            # read_label refuses another grid
            np.testing.assert_array_equal(read_label(mask, volume.geometry, number), made.labels == number)
    # an overlay by index would be wrong: the file's voxels do lie otherwise
    assert len({path.read_bytes() for path in tmp_path.glob("???.nii.gz")}) == len(ORIENTATIONS)


def test_organs_have_their_hounsfield_units_and_the_tumour_its_size():
    for seed in range(8):
        made = abdomen(0, seed, "AB"[seed % 2])
        offset = 5 * (seed % 2)
        liver = made.values[made.labels == LABELS["liver"]]
        assert abs(np.median(liver) - offset - 105) < 10
        assert made.values.min() < -900
        tumour = made.labels == LABELS["tumour"]
        assert label(tumour)[1] == 1
        assert 4 < tumour.sum() * made.geometry.voxel_ml < 18
        assert 60 < made.values[tumour].mean() - offset < 105
        extent_mm = [
            np.ptp(axis) * step
            for axis, step in zip(np.nonzero(tumour), made.geometry.spacing_mm[::-1], strict=True)
        ]
        assert all(15 < extent < 36 for extent in extent_mm)
        # in the wall: it touches the stomach
        near = np.pad(tumour, 1)
        near = near[2:, 1:-1, 1:-1] | near[1:-1, 2:, 1:-1] | near[1:-1, 1:-1, 2:]
        assert (near & (made.labels == LABELS["stomach"])).any()


@pytest.mark.parametrize("hospital", ["A", "B"])
def test_texture_shows_the_signal(hospital):
    signals = np.random.default_rng(3).normal(size=PATIENTS)
    rows = []
    for seed, signal in enumerate(signals):
        made = abdomen(signal, [8, seed], hospital)
        volume = Volume(made.values.astype(np.float32), made.geometry)
        rows.append(extract(volume, made.labels == LABELS["tumour"]))
    for name in (
        "firstorder_Entropy",
        "firstorder_MeanAbsoluteDeviation",
        "glcm_JointEntropy",
        "glcm_SumEntropy",
    ):
        found = [row[f"original_{name}"] for row in rows]
        assert np.corrcoef(found, signals)[0, 1] > 0.85, name
    means = [row["original_firstorder_Mean"] for row in rows]
    assert abs(np.corrcoef(means, signals)[0, 1]) < 0.7  # 12 patients: noise alone reaches 0.58 in one of 20


GRID = Geometry((1.5, 2.0, 5.0), (-20.5, 3.25, 100.0), tuple(np.eye(3).ravel()), (12, 8, 4))
VALUES = np.random.default_rng(0).integers(-1024, 2000, GRID.size[::-1]).astype(np.int16)


def test_a_series_is_read_back_voxel_by_voxel(tmp_path):
    write_dicom(tmp_path / "s", VALUES, GRID, "GC-0020")
    volume = read_dicom(tmp_path / "s")
    np.testing.assert_array_equal(volume.values, VALUES)
    assert same_grid(volume.geometry, GRID)
