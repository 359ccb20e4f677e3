"""Phantom patients: the outcome needs form and film, null is chance; their files are read as ISLES'24 is, byte for byte."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.files import sha256_of
from lib.stroke.cohort import MAPPING, find_patients, merged_tables, read_clinical
from lib.stroke.phantom import MARGINAL, UNKNOWN, draw, oracle_aucs, write_patient
from lib.stroke.series import Series, read_series

N = 6


def write(folder: Path, n: int, seed: int, effect: float = 1.0, **options) -> pd.DataFrame:
    rows = draw(n, seed, effect)
    return pd.DataFrame([write_patient(folder, row, seed, **options) for _, row in rows.iterrows()])


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("cohort")
    return folder, write(folder, N, seed=3)


@pytest.fixture(scope="module")
def found(written) -> pd.DataFrame:
    return find_patients(written[0])


@pytest.fixture(scope="module")
def scans(found) -> dict[str, Series]:
    return {patient: read_series(path) for patient, path in found["series"].items()}


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


# the outcome


@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_frequencies_of_mrs_do_not_depend_on_the_effect(effect):
    mrs = draw(20_000, seed=2, effect=effect)["mrs"]
    np.testing.assert_allclose(mrs.value_counts(normalize=True).sort_index(), MARGINAL, atol=0.012)


def test_both_modalities_are_better_than_either_and_null_is_chance():
    aucs = oracle_aucs()
    assert 0.70 < aucs["admission"] < 0.80
    assert 0.80 < aucs["imaging"] < 0.92
    assert aucs["admission"] + 0.005 < aucs["postprocedural"] < 0.80
    assert aucs["admission + imaging"] > aucs["imaging"] + 0.03
    assert aucs["postprocedural + imaging"] > aucs["admission + imaging"] + 0.01
    assert 0.92 < aucs["postprocedural + imaging"] < aucs["truth"] + 0.01
    np.testing.assert_allclose(list(oracle_aucs(effect=0.0).values()), 0.5, atol=0.02)


# files


def test_clinical_tables_say_what_was_drawn(written, found):
    table = read_clinical(found["tables"], MAPPING | {"smoking": "Diabetes"})
    drawn = written[1].set_index("patient").rename(columns={"male": "sex", "diabetes": "smoking"})
    for name in MAPPING:
        there = table[name].notna()
        np.testing.assert_array_equal(table[name][there], drawn[name][there])
    assert table["mrs"].notna().all()


def test_some_values_are_missing_in_every_way(tmp_path):
    write(tmp_path, 30, seed=1, shape=(4, 16, 16), frames=4)
    tables, tokens = find_patients(tmp_path)["tables"], set()
    raw, _ = merged_tables(tables)
    for column, share in UNKNOWN.items():
        unknown = raw[column].str.lower().isin(["", "nan", "null"])
        tokens |= set(raw[column][unknown])
        assert unknown.mean() < share + 0.12
    assert len(tokens) == 3
    missing = read_clinical(tables)["mtici"].isna()
    np.testing.assert_array_equal(missing, raw["TICI postinterventional"].isin(tokens))


def test_equal_seeds_give_equal_bytes_and_the_null_twin_equal_scans(written, tmp_path):
    row = draw(N, seed=3).iloc[4]
    write_patient(tmp_path / "alone", row, seed=3)
    assert all(sha256_of(written[0] / name) == sha for name, sha in hashes(tmp_path / "alone").items())
    small = {"n": 2, "shape": (8, 32, 32), "frames": 6}
    cases = {"one": (5, 1.0), "null": (5, 0.0), "other": (6, 1.0)}
    for name, (seed, effect) in cases.items():
        write(tmp_path / name, seed=seed, effect=effect, **small)
    one, null, other = (hashes(tmp_path / name) for name in cases)
    assert one.keys() == null.keys()
    scans = [name for name in one if name.endswith((".nii.gz", "baseline.csv"))]
    assert all(one[name] == null[name] for name in scans)
    assert not set(one.values()) & set(other.values())
