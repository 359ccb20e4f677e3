"""Tokens: fitted on the training patients of a fold and on nobody else."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm, rankdata

from lib.fusion.cohort import Patients
from lib.fusion.params import FusionParams
from lib.fusion.tokens import (
    dealt,
    inner_folds,
    normal_scores,
    read_tokens,
    standard,
    tokens,
    whole_rna,
    write_tokens,
)
from lib.training.folds import folds_of


@pytest.fixture
def patients() -> Patients:
    """Eighty patients in four folds; one gene in two groups, a column that one patient alone has, holes."""
    random = np.random.default_rng(0)
    names = pd.Index([f"P{number:02d}" for number in range(80)], name="patient")
    age = random.normal(60, 10, 80)
    time = random.exponential(20 * np.exp(-(age - 60) / 10))
    table = pd.DataFrame({"cancer": "x", "time": time, "event": random.integers(0, 2, 80)}, index=names)
    table["fold"] = [str(number % 4) for number in range(80)]
    genes = pd.DataFrame(random.normal(size=(80, 5)), names, list("ABCDE"))
    genes.iloc[0, 0] = 36893.0
    clinic = pd.DataFrame({"age": age, "stage": random.integers(1, 5, 80)}, names, dtype=float)
    clinic.iloc[3, 1] = np.nan
    rare = pd.DataFrame({"R": [1.0] + [0.0] * 79, "S": random.integers(0, 2, 80)}, names, dtype=float)
    rare.iloc[5] = np.nan
    blocks = {"clinic": clinic, "oncogenes": genes[["A", "B", "C"]], "cytokines": genes[["C", "D", "E"]]}
    return Patients(table, blocks | {"mutations": rare})


def test_held_out_patients_change_nothing_of_the_training_patients(patients):
    fold, params = folds_of(patients.table)[1], FusionParams()
    held = list(fold.test)
    odd = {name: block.copy() for name, block in patients.blocks.items()}
    for block in odd.values():
        block.loc[held] = block.loc[held] * 7 + 3
    table = patients.table.copy()
    table.loc[held, ["time", "event"]] = [1000.0, 1]
    one, other = tokens(patients, fold, params), tokens(Patients(table, odd), fold, params)
    mine = list(fold.train)
    for name in one.columns:
        assert torch.equal(one.of(mine).columns[name], other.of(mine).columns[name])
    assert torch.equal(one.of(mine).offset, other.of(mine).offset)
    assert not torch.equal(one.of(held).columns["oncogenes"], other.of(held).columns["oncogenes"])


def test_order_of_patients_and_units_change_nothing(patients):
    fold, params = folds_of(patients.table)[0], FusionParams(rna_scale="clipped")
    blocks = {name: block[::-1] * 3 - 2 for name, block in patients.blocks.items()}
    one, other = tokens(patients, fold, params), tokens(Patients(patients.table, blocks), fold, params)
    for name in one.columns:
        torch.testing.assert_close(one.columns[name], other.columns[name], atol=1e-5, rtol=0)


def test_ranks_are_van_der_waerdens_and_an_outlier_is_no_further_than_the_last():
    random = np.random.default_rng(1)
    raw, train = np.round(random.normal(size=(50, 3)), 1), np.arange(50) < 40
    raw[0, 0], raw[45, 0] = 36893.0, 1e9
    scores = normal_scores(raw, train)
    expected = norm.ppf(np.apply_along_axis(rankdata, 0, raw[train]) / 41)
    np.testing.assert_allclose(scores[train], expected)
    assert scores[0, 0] < scores[45, 0] == pytest.approx(norm.ppf(40.5 / 41))
    hole = raw.copy()
    hole[3, 1] = np.nan
    assert normal_scores(hole, train)[3, 1] == 0


def test_standard_scores_are_clipped_and_a_constant_column_is_nothing():
    raw, train = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [1e6, 9.0]]), np.array([True] * 3 + [False])
    scores = standard(raw, train, 4.0)
    np.testing.assert_allclose(scores[:3, 0], np.array([-1, 0, 1]) * np.sqrt(1.5))
    assert scores[3, 0] == 4.0
    assert not scores[:, 1].any()


def test_what_is_missing(patients):
    inputs = tokens(patients, folds_of(patients.table)[0], FusionParams())
    lacks = inputs.of(["P05"])
    assert lacks.present.tolist() == [[True, True, True, False]]
    assert not lacks.columns["mutations"].any()
    assert inputs.present.sum() == 80 * 4 - 1
    stages = patients.blocks["clinic"]["stage"].loc[[*folds_of(patients.table)[0].train]]
    middle = patients.blocks["clinic"]["stage"].eq(stages.median())
    filled, same = (inputs.of([one]).columns["clinic"][0, 1] for one in ("P03", middle.idxmax()))
    assert filled == same


def test_the_clinics_prediction_of_a_training_patient_does_not_know_his_outcome(patients):
    fold, params = folds_of(patients.table)[0], FusionParams()
    before = tokens(patients, fold, params)
    c_index = np.corrcoef(before.offset, patients.blocks["clinic"]["age"].loc[before.patients])[0, 1]
    assert c_index > 0.8  # age was planted
    inner = inner_folds(patients.table, fold, params.seed)[0]
    table = patients.table.copy()
    table.loc[[*inner.test], "time"] = table.loc[[*inner.test], "time"].to_numpy()[::-1]
    after = tokens(Patients(table, patients.blocks), fold, params)
    left = list(inner.test)
    drift = (before.of(left).offset - after.of(left).offset).abs().max()
    moved = (before.of(list(inner.train)).offset - after.of(list(inner.train)).offset).abs().max()
    assert drift < 0.5 * moved  # the penalty alone, which all inner folds chose together, may move it


def test_inner_folds_share_no_patient_and_no_person(patients):
    fold = folds_of(patients.table)[0]
    inner = inner_folds(patients.table, fold, 1)
    assert sorted(one for part in inner for one in part.test) == sorted(fold.train)
    spots = patients.table.assign(person=[f"H{number // 4}" for number in range(80)])
    for part in inner_folds(spots, fold, 1):
        assert not set(spots.loc[[*part.train], "person"]) & set(spots.loc[[*part.test], "person"])


def test_random_groups_have_the_sizes_of_the_real_ones_and_the_same_genes(patients):
    mixed = dealt(patients.blocks, 3)
    assert {name: block.shape for name, block in mixed.items()} == {
        name: block.shape for name, block in patients.blocks.items()
    }
    assert list(mixed["mutations"]) == ["R", "S"]
    assert set(mixed["oncogenes"]) | set(mixed["cytokines"]) <= set("ABCDE")
    assert any(list(dealt(patients.blocks, seed)["oncogenes"]) != ["A", "B", "C"] for seed in range(5))
    assert dealt(patients.blocks, 3)["oncogenes"].equals(mixed["oncogenes"])


def test_a_gene_of_two_groups_is_one_column_of_rna(patients):
    inputs = tokens(patients, folds_of(patients.table)[0], FusionParams())
    assert whole_rna(inputs).shape == (80, 5)
    assert whole_rna(inputs._replace(columns={"clinic": inputs.columns["clinic"]})) is None


def test_tokens_come_back_as_they_were_written(patients, tmp_path):
    inputs = tokens(patients, folds_of(patients.table)[0], FusionParams())
    write_tokens(tmp_path / "0.h5", inputs)
    again = read_tokens(tmp_path / "0.h5")
    assert (again.patients, list(again.columns), again.clinic) == (
        inputs.patients,
        list(inputs.columns),
        ("age", "stage"),
    )
    assert all(torch.equal(again.columns[name], inputs.columns[name]) for name in inputs.columns)
    assert all(torch.equal(a, b) for a, b in zip(again[2:6], inputs[2:6], strict=True))
    (tmp_path / "1.h5").write_bytes((tmp_path / "0.h5").read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"1\.h5 is not a fold's tokens.*run 2-embed again"):
        read_tokens(tmp_path / "1.h5")


def test_a_label_needs_no_time(patients):
    table = patients.table.assign(time=np.nan)
    inputs = tokens(Patients(table, patients.blocks), folds_of(table)[0], FusionParams(outcome="binary"))
    assert torch.isfinite(inputs.offset).all()
    assert not inputs.time.any()
