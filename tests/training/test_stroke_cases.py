"""Patients as a model takes them: sides, gaps, scale."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from lib.inputs.clinical import ADMISSION, CATEGORICAL, POSTPROCEDURAL
from lib.inputs.volumes import Geometry
from lib.stroke.perfusion import Prepared, network_input
from lib.stroke.train import Case, Cases, cases, filled, unknown

SHAPE = (3, 4, 5, 6)  # frames, h, w, z: all different


@pytest.fixture
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    names = [f"P{i}" for i in range(8)]
    columns = {
        "age": [50.0, 60, 70, 80, 90, 100, np.nan, 55],
        "onset_to_ctp_min": random.uniform(30, 600, 8),
        "ctp_to_recanalisation_min": random.uniform(30, 300, 8),
        "nihss": random.integers(0, 30, 8).astype(float),
        **{name: random.integers(0, len(levels), 8).astype(float) for name, levels in CATEGORICAL.items()},
    }
    return pd.DataFrame(columns, index=pd.Index(names, name="patient"))


def case(name="P", values=None, label=1) -> Case:
    series = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32) if values is None else values
    return Case(
        name,
        lambda: series,
        np.zeros(3, np.float32),
        np.zeros(4, np.int64),
        np.zeros(7, bool),
        label,
    )


class Always:
    def random(self) -> float:
        return 0.0


def test_mirrored_exchanges_left_and_right_and_nothing_else():
    """A lesion on the patient's left, put through what makes the network's input, comes out on the right."""
    random = np.random.default_rng(1)
    values = random.normal(size=(2, 4, 6, 8)).astype(np.float32)  # window, z, y, x; x grows to the left
    geometry = Geometry((1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()), (8, 6, 4))
    assert geometry.orientation == "LPS"
    unused = dict.fromkeys(Prepared._fields)
    whole = network_input(Prepared(**unused | {"values": values}), (6, 8, 4), 2)
    other_way = network_input(Prepared(**unused | {"values": values[..., ::-1]}), (6, 8, 4), 2)
    series, *_ = Cases([case(values=whole)], mirrored=Always())[0]
    np.testing.assert_array_equal(series.numpy(), other_way)
    assert not np.array_equal(series.numpy(), whole)


def test_mirroring_is_drawn_anew_each_time_and_leaves_the_original():
    one = case()
    before = one.read().copy()
    dataset = Cases([one], mirrored=np.random.default_rng(0))
    seen = [torch.equal(dataset[0][0], torch.as_tensor(before)) for _ in range(200)]
    assert 60 < sum(seen) < 140
    np.testing.assert_array_equal(one.read(), before)
    assert all(torch.equal(Cases([one])[0][0], torch.as_tensor(before)) for _ in range(20))


def test_batch_is_what_the_network_takes():
    series, continuous, categorical, missing, label = next(iter(DataLoader(Cases([case(), case()]), 2)))
    assert (series.shape, series.dtype) == ((2, *SHAPE), torch.float32)
    assert (continuous.shape, continuous.dtype) == ((2, 3), torch.float32)
    assert (categorical.shape, categorical.dtype) == ((2, 4), torch.int64)
    assert (missing.shape, missing.dtype) == ((2, 7), torch.bool)
    assert label.tolist() == [1.0, 1.0]


def test_series_is_read_only_when_it_is_wanted():
    def never():
        raise AssertionError("read")

    one = case()._replace(read=never)
    assert Cases([one], series=False, mirrored=np.random.default_rng(0))[0][0].numel() == 0
    with pytest.raises(AssertionError, match="read"):
        Cases([one])[0]


def made(table, people, known, setting="postprocedural", label=None) -> list[Case]:
    label = pd.Series(np.arange(len(table)) % 2, table.index) if label is None else label
    return cases(people, known, table, label, setting, lambda name: lambda: name)


def test_cases_stand_in_the_order_asked_for_each_with_its_own(table):
    people = ["P4", "P1"]
    first, second = made(table, people, table.index)
    assert [first.patient, second.patient] == people
    assert [first.read(), second.read()] == people
    assert [first.label, second.label] == [0, 1]
    assert first.continuous[0] == pytest.approx((90 - 50) / 50)
    assert first.categorical.tolist() == table.loc["P4", list(CATEGORICAL)].astype(int).tolist()


@pytest.mark.parametrize(("setting", "names"), [("admission", ADMISSION), ("postprocedural", POSTPROCEDURAL)])
def test_a_setting_has_its_own_variables(table, setting, names):
    (one,) = made(table, ["P0"], table.index, setting)
    assert len(one.continuous) + len(one.categorical) == len(one.missing) == len(names)


def test_scale_is_that_of_the_known_patients(table):
    known = ["P0", "P1", "P2"]  # 50 to 70
    first, last = made(table, ["P1", "P5"], known)
    assert (first.continuous[0], last.continuous[0]) == (0.5, 1.0)
    again = made(table.assign(age=table["age"].where(table["age"] < 75, 75)), ["P1", "P5"], known)
    assert [c.continuous[0] for c in again] == [0.5, 1.0]
    whole = made(table, ["P1", "P5"], table.index)
    assert whole[0].continuous[0] == pytest.approx(0.2)


def test_missing_value_is_marked_and_zero(table):
    table.loc["P2", "smoking"] = np.nan
    first, second = made(table, ["P6", "P2"], table.index)
    assert first.missing.tolist() == [True] + 8 * [False]
    assert first.continuous[0] == 0
    assert np.flatnonzero(second.missing).tolist() == [POSTPROCEDURAL.index("smoking")]


def test_gaps_are_filled_from_the_training_patients_alone(table):
    table["smoking"] = [1.0, 1, 0, np.nan, 0, 0, 0, 0]
    train = ["P0", "P1", "P2"]
    whole = filled(table, train)
    assert not whole.isna().any().any()
    assert whole.loc["P6", "age"] == 60, "median of 50, 60, 70"
    assert whole.loc["P3", "smoking"] == 1, "the training patients' most frequent, not everybody's"
    known = table.notna()
    pd.testing.assert_frame_equal(whole.where(known), table)
    later = table.copy()
    later.loc[["P4", "P5", "P7"], ["age", "smoking"]] = [[120, 1]] * 3
    assert (
        filled(later, train)
        .loc[["P6", "P3"], ["age", "smoking"]]
        .equals(whole.loc[["P6", "P3"], ["age", "smoking"]])
    )


def test_variable_that_no_training_patient_has_cannot_be_filled(table):
    table["smoking"] = [np.nan] * 7 + [1.0]
    train = list(table.index[:7])
    assert unknown(table, train) == ["smoking"]
    assert unknown(table, table.index) == []
    with pytest.raises(ValueError, match="no training patient has smoking"):
        filled(table, train)
