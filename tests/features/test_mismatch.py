"""A scan read as a clinic reads it."""

import numpy as np
import pytest

from lib.inputs.volumes import read_series
from lib.stroke.maps import mismatch
from lib.stroke.perfusion import Settings, prepare
from lib.stroke.phantom import draw, series_path, write_patient


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    row = draw(6, seed=3).iloc[0].copy()
    row["core_ml"], row["penumbra_ml"] = 40.0, 70.0
    made = write_patient(folder, row, seed=3)
    series = read_series(series_path(folder, row["patient"]))
    return prepare(series, Settings(spacing_mm=None, size=None, slices=None)), made


def test_volumes_and_side_of_a_planted_stroke(scan):
    prepared, made = scan
    told = mismatch(prepared).told()
    assert told["hypoperfused_ml"] == pytest.approx(made["core_ml"] + made["penumbra_ml"], rel=0.25)
    assert 0 < told["core_ml"] < made["core_ml"] * 1.1
    assert told["mismatch_ml"] == pytest.approx(told["hypoperfused_ml"] - told["core_ml"])
    assert told["normal_side"] == {"left": "right", "right": "left"}[made["side"]]
    assert told["artery_voxels"] == 10
    assert told["remarks"] == ""


def test_thresholds_are_handed_on(scan):
    prepared, _ = scan
    strict, loose = mismatch(prepared, tmax_s=10.0), mismatch(prepared, core_rcbf=0.38, tmax_s=4.0)
    assert (
        strict.lesions.hypoperfused_ml
        < mismatch(prepared).lesions.hypoperfused_ml
        < loose.lesions.hypoperfused_ml
    )
    assert not np.allclose(
        mismatch(prepared, lambda_=0.3).maps.cbf[prepared.mask], strict.maps.cbf[prepared.mask]
    )
