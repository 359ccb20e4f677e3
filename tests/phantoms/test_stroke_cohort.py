"""The written cohort: read as ISLES'24 is, the same bytes for a seed, the same scans in its null twin."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.files import sha256_of
from lib.inputs.volumes import Series, read_mask, read_series
from lib.stroke.cohort import MAPPING, find_patients, read_clinical
from lib.stroke.phantom import UNKNOWN, draw, read_truth, series_path, write_cohort, write_patient

N = 8


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("cohort")
    return folder, write_cohort(folder, N, seed=3)


@pytest.fixture(scope="module")
def found(written) -> pd.DataFrame:
    return find_patients(written[0])


@pytest.fixture(scope="module")
def scans(found) -> dict[str, Series]:
    return {row.patient: read_series(row.series) for row in found.itertuples()}


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def test_every_patient_is_found_with_its_files(written, found):
    assert list(found["patient"]) == list(written[1]["patient"])
    assert not found["problem"].any()
    assert not found["note"].any()
    assert (found[["series", "lesion", "baseline_table", "outcome_table"]] != "").all(axis=None)


def test_numbers_have_gaps(written):
    numbers = written[1]["patient"].str[-4:].astype(int)
    assert numbers.is_monotonic_increasing
    assert numbers.iloc[-1] > N


def test_clinical_tables_say_what_was_drawn(written, found):
    truth = written[1]
    table = read_clinical(found, MAPPING | {"smoking": "Diabetes"})
    drawn = truth.rename(columns={"male": "sex", "diabetes": "smoking"})
    for name in ("age", "nihss", "sex", "hypertension", "smoking", "atrial_fibrillation", "mtici", "mrs"):
        there = table[name].notna()
        np.testing.assert_array_equal(table[name][there], drawn[name][there])
    for name in ("onset_to_ctp_min", "ctp_to_recanalisation_min"):
        there = table[name].notna()
        np.testing.assert_array_equal(table[name][there], drawn[name][there])
    assert table["mrs"].notna().all()
    assert set(table["center"]) <= {"1", "2"}


def test_some_values_are_missing_in_every_way(tmp_path):
    write_cohort(tmp_path, 30, seed=1, shape=(4, 16, 16), frames=4)
    found = find_patients(tmp_path)
    raw = read_clinical(found)
    tokens = set()
    for column, share in UNKNOWN.items():
        unknown = raw[f"raw:{column}"].str.lower().isin(["", "nan", "null"])
        tokens |= set(raw[f"raw:{column}"][unknown])
        assert unknown.mean() < share + 0.12
    assert len(tokens) == 3
    assert raw["mtici"].isna().any()
    np.testing.assert_array_equal(raw["mtici"].isna(), raw["raw:TICI postinterventional"].isin(tokens))


def test_series_are_read_with_their_own_clock_and_orientation(written, scans):
    truth = written[1].set_index("patient")
    for patient, series in scans.items():
        assert series.values.shape == (48, 16, 64, 64)
        np.testing.assert_allclose(series.interval_s, truth.loc[patient, "interval_s"], rtol=1e-5)
        assert series.stored_as == truth.loc[patient, "orientation"]
    assert truth["orientation"].nunique() > 2
    assert truth["interval_s"].nunique() > 1


def test_lesion_lies_on_the_scan_s_grid_and_holds_core_and_lost_penumbra(written, found, scans):
    truth = written[1].set_index("patient")
    for row in found.itertuples():
        grid = scans[row.patient].geometry
        ml = read_mask(row.lesion, grid).sum() * grid.voxel_ml
        told = truth.loc[row.patient]
        np.testing.assert_allclose(ml, told["core_ml"] + told["lost_share"] * told["penumbra_ml"], atol=0.05)


def test_larger_lesions_enhance_less_on_their_side(written, scans):
    """What a model should see: less contrast passes through the lesion's half of the head."""
    truth = written[1].set_index("patient")
    missing = []
    for patient, series in scans.items():
        values = series.values
        baseline = values[:4].mean(axis=0)
        tissue = (baseline > 15) & (baseline < 60)
        peak = int((values - baseline)[:, tissue].mean(axis=1).argmax())
        rise = np.where(tissue, values[peak - 2 : peak + 3].mean(axis=0) - baseline, 0).clip(-20, 20)
        left, right = rise[..., 32:].sum(), rise[..., :32].sum()
        missing.append((right - left) * (1 if truth.loc[patient, "side"] == "left" else -1))
    total = truth["core_ml"] + truth["penumbra_ml"]
    assert np.corrcoef(missing, total)[0, 1] > 0.7


def test_truth_lies_beside_it(written):
    folder, truth = written
    pd.testing.assert_frame_equal(
        read_truth(folder, truth["patient"]), truth.set_index("patient"), check_dtype=False
    )


def test_a_patient_alone_is_the_patient_of_the_cohort(written, tmp_path):
    folder, _ = written
    row = draw(N, seed=3).iloc[5]
    write_patient(tmp_path, row, seed=3)
    assert all(sha256_of(folder / name) == sha for name, sha in hashes(tmp_path).items())
    assert series_path(tmp_path, row["patient"]).is_file()


def test_equal_seeds_give_equal_bytes_and_the_null_twin_equal_scans(tmp_path):
    small = {"n": 3, "seed": 5, "shape": (8, 32, 32), "frames": 6}
    for name, effect in (("one", 1.0), ("again", 1.0), ("null", 0.0)):
        write_cohort(tmp_path / name, effect=effect, **small)
    one, again, null = (hashes(tmp_path / name) for name in ("one", "again", "null"))
    assert one == again
    assert one.keys() == null.keys()
    scans = [name for name in one if name.endswith((".nii.gz", "baseline.csv"))]
    assert len(scans) == 9
    assert all(one[name] == null[name] for name in scans)


def test_another_seed_gives_other_files(tmp_path):
    write_cohort(tmp_path / "a", 2, seed=5, shape=(4, 16, 16), frames=4)
    write_cohort(tmp_path / "b", 2, seed=6, shape=(4, 16, 16), frames=4)
    a, b = hashes(tmp_path / "a"), hashes(tmp_path / "b")
    assert not set(a.values()) & set(b.values())
